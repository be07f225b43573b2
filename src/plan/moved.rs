//! Files whose source is gone, and where they may have gone to.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::decision::{Decision, Held, StoredBefore};
use super::marks::{Kind, Row};
use super::orphans::Unsorted;
use super::rows::Plan;
use super::sketch::{Before, Gone, Sketch};
use crate::model::{Digest, Digests, Doubt, InDoubt, KnownFile, SourcePath, StoredVersion, Target};

/// Files to be sent that are in doubt at another target of the same service, to which no row of the
/// plan sends them any more: with a dataset or an organization named otherwise they may be stored
/// there, which may be here.
pub(super) fn hold_retargeted(sketch: &mut Sketch<'_>) {
    let inputs = sketch.inputs;
    if inputs.in_doubt == InDoubt::Resend {
        return;
    }
    // By file, whichever copy of it: which one a rule sends may be told otherwise now.
    let mut left: HashMap<&str, Vec<&Doubt>> = HashMap::new();
    for doubt in inputs.doubts {
        if doubt.stream == inputs.basis.manifest.name && doubt.target.origin == *inputs.basis.origin
        {
            left.entry(doubt.path.file()).or_default().push(doubt);
        }
    }
    if left.is_empty() {
        return;
    }
    let plan = &mut sketch.plan;
    let mut text = String::new();
    let mut meant = Vec::new();
    for index in 0..plan.len() {
        let file = SourcePath::file_of(plan.write_path(index, &mut text));
        if let Some(doubts) = left.get_mut(file) {
            let target = &plan.rules[plan.rule(index)].target;
            doubts.retain(|doubt| doubt.target != **target);
            meant.push(index);
        }
    }
    for index in meant {
        let file = SourcePath::file_of(plan.write_path(index, &mut text));
        let doubt = left.get(file).and_then(|doubts| doubts.first());
        if let (Kind::New | Kind::Retry, Some(doubt)) = (plan.rows.kind(index), doubt) {
            let held = Held {
                attempt: doubt.attempt.clone(),
                why: Some(format!("at {}", doubt.target)),
                // What is found there is no proof of what is here.
                policy: InDoubt::Hold,
                stored: StoredBefore::No,
            };
            plan.decide(index, Decision::Hold(held));
        }
    }
}

/// New files with the content of one that is in doubt and gone from its path: they wait for the end
/// of that doubt.
pub(super) fn hold_moved(sketch: &mut Sketch<'_>, gone: &Gone, digests: &Digests) {
    if sketch.inputs.in_doubt == InDoubt::Resend {
        return;
    }
    // Files in doubt whose source is gone, by what a file moved from there looks like: sent as a
    // new one, it might be stored twice.
    let mut doubts: HashMap<(Arc<Target>, u64), Vec<&Doubt>> = HashMap::new();
    for doubt in sketch.gone_doubts(gone) {
        let key = (Arc::new(doubt.target.clone()), doubt.stat.size);
        doubts.entry(key).or_default().push(doubt);
    }
    if doubts.is_empty() {
        return;
    }
    for index in 0..sketch.plan.len() {
        let Some(digest) = read_of(&sketch.plan, digests, index) else {
            continue;
        };
        let target = Arc::clone(&sketch.plan.rules[sketch.plan.rule(index)].target);
        let Some(list) = doubts.get_mut(&(target, sketch.plan.size(index))) else {
            continue;
        };
        let same = |doubt: &&Doubt| doubt.digest == Some(digest);
        if let Some(at) = list.iter().position(same) {
            let doubt = list.remove(at);
            let held = Held {
                attempt: doubt.attempt.clone(),
                why: doubt.reason.clone(),
                policy: sketch.inputs.in_doubt,
                stored: StoredBefore::No,
            };
            sketch.plan.decide(index, Decision::Hold(held));
        }
    }
}

/// What was read of a row's file, if that is a new one.
fn read_of(plan: &Plan<'_>, digests: &Digests, index: usize) -> Option<Digest> {
    let is_new = plan.rows.kind(index) == Kind::New;
    is_new.then(|| digests.get(plan.candidate(index)))??.ok()
}

/// What a stored file and the one that it was moved to have in common.
fn kind(target: u32, content: &Digest, metadata: &Digest, remote_name: &str) -> u128 {
    let mut kind = blake3::Hasher::new();
    kind.update(&target.to_le_bytes());
    kind.update(&content.0);
    kind.update(&metadata.0);
    kind.update(remote_name.as_bytes());
    let mut first = [0; 16];
    kind.finalize_xof().fill(&mut first);
    u128::from_le_bytes(first)
}

/// New files that are stored already, under a path that is gone, with the same content, name and
/// metadata: moved, not new. Each stored file is adopted once. Gives the number of stored files
/// whose source is gone and was not found again.
pub(super) fn adopt_moved<B: Before>(
    sketch: &mut Sketch<'_>,
    gone: &Gone,
    digests: &Digests,
    before: &B,
) -> Result<usize, B::Error> {
    let mut left = gone.count(sketch.plan.left.len());
    if left == 0 || digests.is_empty() {
        return Ok(left);
    }
    let plan = &sketch.plan;
    let is_read = |index: &usize| read_of(plan, digests, *index).is_some();
    let looks: HashSet<(u32, u64)> = (0..plan.len())
        .filter(is_read)
        .map(|index| (sketch.target_of[plan.rule(index)], plan.size(index)))
        .collect();
    let mut unsorted = Unsorted::new(&sketch.inputs.basis.candidates.spill);
    for at in (0..plan.left.len()).filter(|at| gone.has(*at)) {
        let Some((target, size)) = plan.left.look(at) else {
            continue;
        };
        if looks.contains(&(target, size))
            && let Some(stored) = stored_of(before, sketch, (target, at))?
            && let Some(digest) = stored.digest
        {
            unsorted.push(
                kind(target, &digest, &stored.metadata, &stored.remote_name),
                at,
            );
        }
    }
    let mut orphans = unsorted.sorted();
    for index in 0..sketch.plan.len() {
        let plan = &sketch.plan;
        let Some(digest) = read_of(plan, digests, index) else {
            continue;
        };
        let Some(sending) = plan.sending(index) else {
            continue;
        };
        let target = sketch.target_of[plan.rule(index)];
        let name = sending.remote_name.as_str();
        let kind = kind(target, &digest, &sending.metadata.digest(), name);
        let Some(at) = orphans.adopt(kind) else {
            continue;
        };
        if let Some(stored) = stored_of(before, sketch, (target, at))? {
            left -= 1;
            let plan = &mut sketch.plan;
            let row = Row {
                detail: plan.versions.keep(&stored, Some(at)),
                ..Row::of(Kind::Moved)
            };
            plan.rows.set(index, row);
        }
    }
    Ok(left)
}

/// What is stored of a file that is left, by its target and its place.
fn stored_of<B: Before>(
    before: &B,
    sketch: &Sketch<'_>,
    (target, at): (u32, usize),
) -> Result<Option<StoredVersion>, B::Error> {
    let Some(path) = sketch.plan.left.path(at) else {
        return Ok(None);
    };
    let target = &sketch.targets[target as usize];
    let found = before.known_from(target, Bound::Included(&path), 1)?;
    let is_it = |(known, _): &(SourcePath, KnownFile)| *known == path;
    Ok(found
        .into_iter()
        .find(is_it)
        .and_then(|(_, file)| file.stored))
}
