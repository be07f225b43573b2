//! Rows that get in each other's way: one file twice, one name twice.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::marks::{Kind, Row};
use super::rows::small;
use super::sketch::Sketch;
use crate::model::RemoteName;
use crate::spill::{Block, Blocks, Spill, take};

/// Parts of all hashes of names, by their first bytes. Of each, [`PART_OPEN`] stay in memory: 8 MiB in all.
const PARTS: usize = 1 << u8::BITS;

/// Hashes of one part from which on they may leave memory.
const PART_OPEN: usize = 4096;

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
            let row = Row {
                detail: small(plan.rule(other)),
                ..Row::of(Kind::Conflict)
            };
            plan.rows.set(index, row);
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
    let mut hashes = Hashes::new(Arc::clone(&sketch.inputs.basis.candidates.spill));
    uploads()
        .filter_map(&mut hash)
        .for_each(|hash| hashes.add(hash));
    let twice = hashes.twice();
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

/// Hashes apart by their first bits: those of one part are put in order by themselves, and what they
/// are of may have left memory by then.
struct Hashes {
    open: Vec<Vec<u64>>,
    sealed: Blocks<Part>,
    /// The blocks of each part.
    blocks: Vec<Vec<u32>>,
}

/// Hashes that begin alike.
struct Part(Vec<u64>);

impl Block for Part {
    fn size(&self) -> usize {
        size_of_val(&*self.0)
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.0.iter().flat_map(|hash| hash.to_le_bytes()));
    }

    fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let mut hashes = Vec::with_capacity(bytes.len() / size_of::<u64>());
        while !bytes.is_empty() {
            hashes.push(u64::from_le_bytes(take(&mut bytes)?));
        }
        Some(Self(hashes))
    }
}

impl Hashes {
    fn new(spill: Arc<Spill>) -> Self {
        Self {
            open: vec![Vec::new(); PARTS],
            sealed: Blocks::new(spill),
            blocks: vec![Vec::new(); PARTS],
        }
    }

    fn add(&mut self, hash: u64) {
        let part = usize::from(hash.to_be_bytes()[0]);
        self.open[part].push(hash);
        if self.open[part].len() == PART_OPEN {
            let full = Part(std::mem::take(&mut self.open[part]));
            self.blocks[part].push(small(self.sealed.len()));
            let sealed = self.sealed.spill().seal(full);
            self.sealed.push(sealed);
        }
    }

    /// Those that were added more than once, in order.
    fn twice(self) -> Vec<u64> {
        let mut twice = Vec::new();
        for (mut part, blocks) in self.open.into_iter().zip(self.blocks) {
            for block in blocks {
                // That one cannot be read back is remembered by the spill.
                let block = self.sealed.get(block as usize);
                part.extend(block.iter().flat_map(|block| &block.0));
            }
            part.sort_unstable();
            let alike = part.windows(2).filter(|two| two[0] == two[1]);
            twice.extend(alike.map(|two| two[0]));
        }
        twice.dedup();
        twice
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_that_left_memory_are_found_too() {
        let rows = (PARTS * PART_OPEN) as u64 * 3 / 2;
        let hash = |row: u64| row.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for spill in [Spill::default(), Spill::new(0, tempfile::tempfile)] {
            let spill = Arc::new(spill);
            let mut hashes = Hashes::new(Arc::clone(&spill));
            (0..rows).for_each(|row| hashes.add(hash(row)));
            let again = [rows - 1, 0, 4711, 4711];
            for row in again {
                hashes.add(hash(row));
            }
            let mut expected = [hash(0), hash(4711), hash(rows - 1)];
            expected.sort_unstable();
            assert_eq!(hashes.twice(), expected);
            assert_eq!(spill.unread(), None);
        }
    }
}
