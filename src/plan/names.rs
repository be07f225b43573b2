//! Rows that get in each other's way: one file twice, one name twice.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use super::rows::{Kind, Row, small};
use super::sketch::Sketch;
use crate::model::RemoteName;

/// The same file sent twice to one target: each of its rows is a conflict. What is stored or in
/// doubt already stays so.
pub(super) fn mark_conflicts(sketch: &mut Sketch<'_>) {
    let plan = &mut sketch.plan;
    for rows in &sketch.overlaps {
        let rows = rows.iter().map(|row| *row as usize);
        let uploads: Vec<usize> = rows.filter(|row| plan.is_upload(*row)).collect();
        if uploads.len() < 2 {
            continue;
        }
        for (position, &index) in uploads.iter().enumerate() {
            let other = uploads[usize::from(position == 0)];
            plan.rows[index] = Row {
                detail: small(plan.rule(other)),
                ..Row::of(Kind::Conflict)
            };
        }
    }
}

/// Notes of each file how many others of its target get its name. Hashes find them, and only what
/// has the same one is compared.
pub(super) fn note_shared_names(sketch: &mut Sketch<'_>) {
    let keys = RandomState::new();
    let mut text = String::new();
    let mut hash = |index: usize| {
        with_stored_name(sketch, index, &mut text, |name| {
            let target = sketch.target_of[sketch.plan.rule(index)];
            keys.hash_one((target, name))
        })
    };
    let uploads = || (0..sketch.plan.len()).filter(|index| sketch.plan.is_upload(*index));
    let mut hashes: Vec<u64> = uploads().filter_map(&mut hash).collect();
    hashes.sort_unstable();
    let mut twice: Vec<u64> = hashes
        .windows(2)
        .filter(|two| two[0] == two[1])
        .map(|two| two[0])
        .collect();
    twice.dedup();
    drop(hashes);
    if twice.is_empty() {
        return;
    }
    let mut sharers: Vec<(u64, u32)> = uploads()
        .filter_map(|index| Some((hash(index)?, small(index))))
        .filter(|(hash, _)| twice.binary_search(hash).is_ok())
        .collect();
    sharers.sort_unstable();
    let mut shared = Vec::with_capacity(sharers.len());
    let mut text = String::new();
    for alike in sharers.chunk_by(|a, b| a.0 == b.0) {
        let mut by_name: HashMap<(u32, String), Vec<u32>> = HashMap::new();
        for (_, row) in alike {
            let index = *row as usize;
            let target = sketch.target_of[sketch.plan.rule(index)];
            if let Some(name) = with_stored_name(sketch, index, &mut text, str::to_owned) {
                by_name.entry((target, name)).or_default().push(*row);
            }
        }
        for rows in by_name.into_values().filter(|rows| rows.len() > 1) {
            let others = small(rows.len() - 1);
            shared.extend(rows.into_iter().map(|row| (row, others)));
        }
    }
    shared.sort_unstable();
    sketch.plan.shared_names = shared;
}

fn with_stored_name<T>(
    sketch: &Sketch<'_>,
    index: usize,
    text: &mut String,
    then: impl FnOnce(&str) -> T,
) -> Option<T> {
    let wanted = sketch.plan.wanted(index, text)?;
    if RemoteName::is_plain(&wanted) {
        return Some(then(&wanted));
    }
    let name = RemoteName::new(&wanted).ok()?;
    Some(then(name.stored().as_str()))
}
