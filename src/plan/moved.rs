//! Files whose source is gone, and where they may have gone to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use super::decision::{
    Decision, Held, PlannedFile, PlannedRule, Skip, SkipReason, StoredBefore, UploadReason,
};
use super::{Inputs, by_rule, for_each_taken};
use crate::model::{
    Doubt, InDoubt, KnownFile, KnownState, Owner, SourcePath, StoredVersion, Target,
};

/// Files stored by this manifest's earlier runs, or in doubt, that no rule takes now, in order:
/// their sources may be gone.
#[must_use]
pub fn absent(inputs: &Inputs<'_>) -> Vec<SourcePath> {
    let targets = by_rule(&inputs.basis);
    let mut taken: HashMap<&Target, HashSet<SourcePath>> = HashMap::new();
    for_each_taken(inputs, |file, _, _, path, _| {
        let paths = taken.entry(&*targets[file.rule]).or_default();
        paths.insert(path.clone());
    });
    let is_taken = |target: &Target, path: &SourcePath| {
        taken.get(target).is_some_and(|paths| paths.contains(path))
    };
    let stored = inputs
        .known
        .iter()
        .filter(|(target, path, file)| is_ours_and_stored(file) && !is_taken(target, path));
    let doubtful = inputs.doubts.iter().map(|doubt| &doubt.path);
    let mut paths: BTreeSet<SourcePath> = stored.map(|(_, path, _)| path.clone()).collect();
    paths.extend(doubtful.cloned());
    paths.into_iter().collect()
}

/// Whatever became of later attempts: what is stored is stored.
fn is_ours_and_stored(file: &KnownFile) -> bool {
    let is_settled = !matches!(file.state, KnownState::InDoubt(..));
    file.owner == Owner::ThisStream && is_settled && file.stored.is_some()
}

/// The stored files whose source is gone, by what a file moved from there looks like.
pub(super) type Orphans<'a> = BTreeMap<(&'a Target, u64), Vec<(&'a SourcePath, &'a StoredVersion)>>;

pub(super) fn orphans<'a>(inputs: &Inputs<'a>) -> Orphans<'a> {
    let mut orphans = Orphans::new();
    if inputs.gone.is_empty() {
        return orphans;
    }
    for (target, path, file) in inputs.known.iter() {
        if let Some(stored) = &file.stored
            && is_ours_and_stored(file)
            && inputs.gone.contains(path)
        {
            let key = (target, stored.stat.size);
            orphans.entry(key).or_default().push((path, stored));
        }
    }
    for list in orphans.values_mut() {
        list.sort_by_key(|(path, _)| *path);
    }
    orphans
}

/// Files in doubt whose source is gone, by what a file moved from there looks like: sent as a new
/// one, it might be stored twice.
pub(super) fn moved_doubts<'a>(inputs: &Inputs<'a>) -> HashMap<(&'a Target, u64), Vec<&'a Doubt>> {
    let mut moved: HashMap<_, Vec<&Doubt>> = HashMap::new();
    for doubt in inputs.doubts {
        if inputs.gone.contains(&doubt.path) {
            let key = (&doubt.target, doubt.stat.size);
            moved.entry(key).or_default().push(doubt);
        }
    }
    moved
}

/// Files to be sent that are in doubt at another target of the same service, to which no row of the
/// plan sends them any more: with a dataset or an organization named otherwise they may be stored
/// there, which may be here.
pub(super) fn hold_retargeted(
    inputs: &Inputs<'_>,
    rules: &[PlannedRule],
    files: &mut [PlannedFile],
) {
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
    for file in files.iter() {
        if let Some(doubts) = left.get_mut(file.path.file()) {
            doubts.retain(|doubt| doubt.target != *rules[file.rule].target);
        }
    }
    for file in files {
        let (Decision::Upload(UploadReason::New | UploadReason::Retry), Some(doubt)) = (
            &file.decision,
            left.get(file.path.file()).and_then(|doubts| doubts.first()),
        ) else {
            continue;
        };
        file.decision = Decision::Hold(Held {
            attempt: doubt.attempt.clone(),
            why: Some(format!("at {}", doubt.target)),
            // What is found there is no proof of what is here.
            policy: InDoubt::Hold,
            stored: StoredBefore::No,
        });
        file.notes.clear();
    }
}

/// New files with the content of one that is in doubt and gone from its path: they wait for the end
/// of that doubt.
pub(super) fn hold_moved(inputs: &Inputs<'_>, rules: &[PlannedRule], files: &mut [PlannedFile]) {
    let mut doubts = moved_doubts(inputs);
    if doubts.is_empty() || inputs.in_doubt == InDoubt::Resend {
        return;
    }
    for file in files {
        let (Decision::Upload(UploadReason::New), Some(stat)) = (&file.decision, file.stat) else {
            continue;
        };
        let Some(Ok(digest)) = inputs.digests.get(&(file.root, file.relative.clone())) else {
            continue;
        };
        let target: &Target = &rules[file.rule].target;
        let Some(list) = doubts.get_mut(&(target, stat.size)) else {
            continue;
        };
        let same = |doubt: &&Doubt| doubt.digest == Some(*digest);
        if let Some(at) = list.iter().position(same) {
            let doubt = list.remove(at);
            file.decision = Decision::Hold(Held {
                attempt: doubt.attempt.clone(),
                why: doubt.reason.clone(),
                policy: inputs.in_doubt,
                stored: StoredBefore::No,
            });
            file.notes.clear();
        }
    }
}

/// New files that are stored already, under a path that is gone, with the same content, name and
/// metadata: moved, not new. Each stored file is adopted once. Gives the number of stored files
/// whose source is gone and was not found again.
pub(super) fn adopt_moved(
    inputs: &Inputs<'_>,
    rules: &[PlannedRule],
    files: &mut [PlannedFile],
) -> usize {
    let orphans = orphans(inputs);
    let mut left: usize = orphans.values().map(Vec::len).sum();
    let mut by_kind: HashMap<_, VecDeque<_>> = HashMap::new();
    for ((target, _), list) in &orphans {
        for (path, stored) in list {
            if let Some(digest) = stored.digest {
                let kind = (
                    *target,
                    digest,
                    stored.metadata,
                    stored.remote_name.as_str(),
                );
                by_kind.entry(kind).or_default().push_back((*path, *stored));
            }
        }
    }
    for file in files {
        let (Decision::Upload(UploadReason::New), Some(sending)) = (&file.decision, &file.sending)
        else {
            continue;
        };
        let Some(Ok(digest)) = inputs.digests.get(&(file.root, file.relative.clone())) else {
            continue;
        };
        let target: &Target = &rules[file.rule].target;
        let name = sending.remote_name.as_str();
        let kind = (target, *digest, sending.metadata.digest(), name);
        let same = by_kind.get_mut(&kind).and_then(VecDeque::pop_front);
        if let Some((from, stored)) = same {
            left -= 1;
            file.decision = Decision::Skip(Skip {
                file_id: stored.file_id.clone(),
                digest: stored.digest,
                why: SkipReason::Moved(from.clone()),
            });
            file.notes.clear();
        }
    }
    left
}
