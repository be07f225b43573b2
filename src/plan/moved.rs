//! Files whose source is gone, and where they may have gone to.

use std::collections::{HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use super::decision::{Decision, Held, Skip, SkipReason, StoredBefore};
use super::marks::Kind;
use super::rows::small;
use super::sketch::{Before, Gone, Sketch};
use crate::model::{Digest, Digests, Doubt, InDoubt, KnownFile, SourcePath, Target};

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
    for (index, digest) in new_and_read(sketch, digests) {
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

/// The new files that were read, in the order of the plan.
fn new_and_read(sketch: &Sketch<'_>, digests: &Digests) -> Vec<(usize, Digest)> {
    if digests.is_empty() {
        return Vec::new();
    }
    let plan = &sketch.plan;
    let new = (0..plan.len()).filter(|index| plan.rows.kind(*index) == Kind::New);
    let read = new.filter_map(|index| match digests.get(plan.candidate(index)) {
        Some(Ok(digest)) => Some((index, *digest)),
        _ => None,
    });
    read.collect()
}

/// Stored files whose source is gone, by what a file that was moved from there has in common with
/// them, and which of them were adopted. They may be all files: of each there is a digest, and what
/// more there is to know is asked for again.
struct Orphans {
    /// Each with its place among what is left. Those of a kind follow each other in that order.
    by_kind: Vec<(u128, u32)>,
    /// At the first of each kind, how many were adopted.
    adopted: Vec<u32>,
}

impl Orphans {
    fn new(mut by_kind: Vec<(u128, u32)>) -> Self {
        by_kind.sort_unstable();
        Self {
            adopted: vec![0; by_kind.len()],
            by_kind,
        }
    }

    /// The place of the next one of a kind.
    fn adopt(&mut self, kind: u128) -> Option<usize> {
        let first = self.by_kind.partition_point(|(other, _)| *other < kind);
        let next = first + *self.adopted.get(first)? as usize;
        let (other, at) = self.by_kind.get(next)?;
        if *other != kind {
            return None;
        }
        self.adopted[first] += 1;
        Some(*at as usize)
    }
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
    let orphans: Vec<usize> = (0..sketch.left.len()).filter(|at| gone.has(*at)).collect();
    let mut left = orphans.len();
    let new = new_and_read(sketch, digests);
    let plan = &sketch.plan;
    let looks: HashSet<(u32, u64)> = new
        .iter()
        .map(|(index, _)| (sketch.target_of[plan.rule(*index)], plan.size(*index)))
        .collect();
    let mut by_kind = Vec::new();
    for at in orphans {
        let (target, size) = sketch.left.look(at);
        if !looks.contains(&(target, size)) {
            continue;
        }
        let path = SourcePath::new(sketch.left.path(at));
        let found = known_of(before, &sketch.targets[target as usize], &path)?;
        if let Some(stored) = found.and_then(|found| found.stored)
            && let Some(digest) = stored.digest
        {
            let kind = kind(target, &digest, &stored.metadata, &stored.remote_name);
            by_kind.push((kind, small(at)));
        }
    }
    let mut orphans = Orphans::new(by_kind);
    for (index, digest) in new {
        let plan = &mut sketch.plan;
        let Some(sending) = plan.sending(index) else {
            continue;
        };
        let target = sketch.target_of[plan.rule(index)];
        let name = sending.remote_name.as_str();
        let kind = kind(target, &digest, &sending.metadata.digest(), name);
        let Some(at) = orphans.adopt(kind) else {
            continue;
        };
        let path = SourcePath::new(sketch.left.path(at));
        let found = known_of(before, &sketch.targets[target as usize], &path)?;
        if let Some(stored) = found.and_then(|found| found.stored) {
            left -= 1;
            let skip = Skip {
                file_id: stored.file_id,
                digest: stored.digest,
                why: SkipReason::Moved(path),
            };
            plan.decide(index, Decision::Skip(skip));
        }
    }
    Ok(left)
}

fn known_of<B: Before>(
    before: &B,
    target: &Target,
    path: &SourcePath,
) -> Result<Option<KnownFile>, B::Error> {
    let found = before.known_from(target, Bound::Included(path), 1)?;
    let is_it = |(known, _): &(SourcePath, KnownFile)| known == path;
    Ok(found.into_iter().find(is_it).map(|(_, file)| file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_a_kind_are_adopted_once_each_in_their_order() {
        let mut orphans = Orphans::new(vec![(7, 4), (3, 0), (7, 1), (9, 2), (7, 3)]);
        let adopted = [7, 3, 7, 8, 3, 7, 7, 9, 10].map(|kind| orphans.adopt(kind));
        let expected = [
            Some(1),
            Some(0),
            Some(3),
            None,
            None,
            Some(4),
            None,
            Some(2),
            None,
        ];
        assert_eq!(adopted, expected);
        assert_eq!(Orphans::new(Vec::new()).adopt(1), None);
    }
}
