//! (Manifest, candidates, known) → plan: pure, and the same for `plan` and `apply`.
//!
//! Every candidate that a rule takes gets a row and a decision with its reason. Files whose
//! content decides are asked for first ([`undecided`]); their digests are then handed in.

mod decision;
mod moved;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::manifest::{Compare, Manifest, OnMetadataChange, Rule};
use crate::model::{
    Candidates, ContentType, Digest, Digests, Doubt, Entry, InDoubt, Known, KnownFile, KnownState,
    Metadata, OrganizationId, Origin, RelativePath, RemoteName, RootId, RunId, SourcePath, Stat,
    StoredVersion, Target,
};
use crate::template::Values;

pub use crate::manifest::OnChange;

pub use self::moved::absent;

use self::moved::{adopt_moved, hold_moved, hold_retargeted, moved_doubts, orphans};

pub use self::decision::{
    Decision, Held, Note, Plan, PlannedFile, PlannedRule, Sending, Skip, SkipReason, StoredBefore,
    Tally, Upload, UploadReason,
};

/// Largest `metadata` part in bytes. Django refuses form text over 2.5 MiB
/// (`DATA_UPLOAD_MAX_MEMORY_SIZE`); the other parts need some of it.
const METADATA_MAX: usize = 2_500_000;

/// The API gives sizes as signed 32-bit integers.
const SIZE_NOTED: u64 = 1 << 31;

/// A file changed less than this before it was read may have changed again without another
/// time: FAT keeps times to two seconds.
const TIME_GRANULARITY: SignedDuration = SignedDuration::from_secs(2);

/// Everything a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What the user wants.
    pub manifest: &'a Manifest,
    /// What there is.
    pub candidates: &'a Candidates,
    /// What was done before.
    pub known: &'a Known,
    /// Which of the paths that [`absent`] named are gone.
    pub gone: &'a HashSet<SourcePath>,
    /// Digests of the files that [`undecided`] named.
    pub digests: &'a Digests,
    /// What to do with files in doubt.
    pub in_doubt: InDoubt,
    /// The files in doubt.
    pub doubts: &'a [Doubt],
    /// Where the API is.
    pub origin: &'a Origin,
    /// The organization of rules that name none.
    pub organization: Option<&'a OrganizationId>,
    /// The run's id and start, for templates.
    pub run: (&'a RunId, Timestamp),
}

impl Inputs<'_> {
    /// Where the manifest's rules send to, each target once.
    #[must_use]
    pub fn targets(&self) -> Vec<Arc<Target>> {
        let rules = self.manifest.rules.iter();
        let targets: BTreeSet<Target> = rules.map(|rule| target(self, rule)).collect();
        targets.into_iter().map(Arc::new).collect()
    }
}

/// The files for which [`plan`] needs a digest: stored before, of the same size, but of another
/// time or inode, or changed so shortly before they were read that the time proves nothing; and
/// new ones that may have been moved.
#[must_use]
pub fn undecided(inputs: &Inputs<'_>) -> Vec<(RootId, RelativePath)> {
    let orphans = orphans(inputs);
    let doubts = moved_doubts(inputs);
    let mut wanted = Vec::new();
    for_each_candidate(inputs, |_, rule, root, relative, path, entry| {
        let target = target(inputs, rule);
        let Entry::File(stat) = entry else { return };
        let is_wanted = match inputs.known.get(&target, path) {
            None => {
                let key = (&target, stat.size);
                orphans.contains_key(&key) || doubts.contains_key(&key)
            }
            Some(known) => {
                let stored = known.stored.as_ref();
                !matches!(known.state, KnownState::InDoubt(..))
                    && stored.is_some_and(|stored| {
                        compare(rule, stat, stored) == Comparison::ContentDecides
                    })
            }
        };
        if is_wanted {
            wanted.push((root, relative.clone()));
        }
    });
    wanted.sort();
    wanted.dedup();
    wanted
}

/// Makes the plan.
#[must_use]
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let rules: Vec<PlannedRule> = inputs
        .manifest
        .rules
        .iter()
        .map(|rule| PlannedRule {
            name: rule.name.clone(),
            target: Arc::new(target(inputs, rule)),
            on_change: rule.on_change,
        })
        .collect();
    let mut files = Vec::new();
    for_each_candidate(inputs, |index, rule, root, relative, path, entry| {
        files.push(row(
            inputs,
            index,
            rule,
            &rules[index].target,
            root,
            relative,
            path,
            entry,
        ));
    });
    mark_conflicts(&rules, &mut files);
    hold_retargeted(inputs, &rules, &mut files);
    hold_moved(inputs, &rules, &mut files);
    let vanished = adopt_moved(inputs, &rules, &mut files);
    note_shared_names(&rules, &mut files);
    Plan {
        manifest: inputs.manifest.name.clone(),
        rules,
        files,
        vanished,
    }
}

/// The include patterns that match nothing, as (rule, pattern); none of a rule whose root cannot
/// be read.
#[must_use]
pub fn unmatched(manifest: &Manifest, candidates: &Candidates) -> Vec<(usize, usize)> {
    let mut unmatched = Vec::new();
    for (index, (rule, root)) in manifest
        .rules
        .iter()
        .zip(&candidates.rule_roots)
        .enumerate()
    {
        let Some(root) = root.and_then(|root| candidates.roots.get(root.0)) else {
            continue;
        };
        let mut hits = vec![false; rule.include.patterns().len()];
        for candidate in &root.found {
            let relative = candidate.relative.as_str();
            if !rule.exclude.matches(relative) {
                for pattern in rule.include.matching(relative) {
                    hits[pattern] = true;
                }
            }
        }
        let missed = hits.iter().enumerate().filter(|(_, hit)| !**hit);
        unmatched.extend(missed.map(|(pattern, _)| (index, pattern)));
    }
    unmatched
}

/// Visits what each rule takes, in the order of the plan. A folder that could not be read is
/// visited for each rule that shares its root.
fn for_each_candidate(
    inputs: &Inputs<'_>,
    mut visit: impl FnMut(usize, &Rule, RootId, &RelativePath, &SourcePath, &Entry),
) {
    let roots = &inputs.candidates.rule_roots;
    for (index, (rule, root)) in inputs.manifest.rules.iter().zip(roots).enumerate() {
        let Some(root) = *root else { continue };
        let Some(candidates) = inputs.candidates.roots.get(root.0) else {
            continue;
        };
        for candidate in &candidates.found {
            let relative = candidate.relative.as_str();
            let may_hold =
                |folder: &str| rule.include.may_match_below(folder) && !rule.exclude.covers(folder);
            let is_taken = rule.include.matches(relative) && !rule.exclude.matches(relative);
            let taken = match (relative.strip_suffix('/'), &candidate.entry) {
                (Some("."), _) => true,
                (Some(folder), _) => may_hold(folder),
                (None, Entry::Other(kind)) if kind.may_hold_files() => {
                    is_taken || may_hold(relative)
                }
                (None, _) => is_taken,
            };
            if taken {
                let path = candidates.source_path(&candidate.relative);
                visit(
                    index,
                    rule,
                    root,
                    &candidate.relative,
                    &path,
                    &candidate.entry,
                );
            }
        }
    }
}

fn target(inputs: &Inputs<'_>, rule: &Rule) -> Target {
    Target {
        origin: inputs.origin.clone(),
        organization_id: rule
            .organization_id
            .clone()
            .or_else(|| inputs.organization.cloned()),
        dataset_id: rule.dataset_id.clone(),
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one visited candidate"
)]
fn row(
    inputs: &Inputs<'_>,
    index: usize,
    rule: &Rule,
    target: &Target,
    root: RootId,
    relative: &RelativePath,
    path: &SourcePath,
    entry: &Entry,
) -> PlannedFile {
    let mut file = PlannedFile {
        rule: index,
        root,
        relative: relative.clone(),
        path: path.clone(),
        stat: None,
        sending: None,
        decision: Decision::Upload(UploadReason::New),
        notes: Vec::new(),
    };
    let stat = match entry {
        Entry::File(stat) => *stat,
        Entry::Other(kind) => {
            file.decision = Decision::Unusable(format!("{kind}; exclude it, or put a file there"));
            return file;
        }
        Entry::Unusable(why) => {
            file.decision = Decision::Unusable(why.clone());
            return file;
        }
    };
    file.stat = Some(stat);
    let (sending, wanted) = match render(inputs, rule, relative, stat) {
        Ok(sending) => sending,
        Err(why) => {
            file.decision = Decision::Unusable(why);
            return file;
        }
    };
    let known = inputs.known.get(target, path);
    let metadata = sending.metadata.digest();
    file.decision = decide(inputs, rule, (root, relative), stat, metadata, known);
    file.notes = notes(&file, &sending, &wanted, stat, known);
    file.sending = Some(sending);
    file
}

/// What would be sent, and the name as the manifest wants it.
fn render(
    inputs: &Inputs<'_>,
    rule: &Rule,
    relative: &RelativePath,
    stat: Stat,
) -> Result<(Sending, String), String> {
    let values = Values {
        manifest: &inputs.manifest.name,
        run: Some(inputs.run),
        rule: Some(&rule.name),
        file: Some((relative, stat)),
    };
    let wanted = match &rule.file_name {
        Some(template) => template
            .render(&values)
            .map_err(|why| format!("`file_name`: {why}"))?,
        None => file_name(relative).to_owned(),
    };
    let mut metadata = Metadata::default();
    for (key, template) in &rule.metadata {
        let value = template
            .render(&values)
            .map_err(|why| format!("metadata `{}`: {why}", crate::model::shown(key)))?;
        metadata.0.push((key.clone(), value));
    }
    let length = metadata.to_json().len();
    if length > METADATA_MAX {
        return Err(format!(
            "its metadata is {length} bytes long; the service takes {METADATA_MAX} at the most"
        ));
    }
    let sending = Sending {
        content_type: rule
            .content_type
            .clone()
            .unwrap_or_else(|| ContentType::of_name(file_name(relative))),
        remote_name: RemoteName::new(&wanted)?,
        metadata,
    };
    Ok((sending, wanted))
}

fn file_name(relative: &RelativePath) -> &str {
    let path = relative.as_str();
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Same,
    Different,
    ContentDecides,
}

/// How a file compares with the version that is stored.
fn compare(rule: &Rule, stat: &Stat, stored: &StoredVersion) -> Comparison {
    if stat.size != stored.stat.size {
        return Comparison::Different;
    }
    if rule.compare == Compare::SizeMtime {
        return if stat.mtime_ns == stored.stat.mtime_ns {
            Comparison::Same
        } else {
            Comparison::Different
        };
    }
    let settled = stored.read_at.duration_since(stat.modified()) > TIME_GRANULARITY;
    if *stat == stored.stat && settled {
        Comparison::Same
    } else {
        Comparison::ContentDecides
    }
}

fn decide(
    inputs: &Inputs<'_>,
    rule: &Rule,
    (root, relative): (RootId, &RelativePath),
    stat: Stat,
    metadata: Digest,
    known: Option<&KnownFile>,
) -> Decision {
    let Some(known) = known else {
        return Decision::Upload(UploadReason::New);
    };
    let retry = match &known.state {
        KnownState::InDoubt(attempt, _) if inputs.in_doubt == InDoubt::Resend => {
            return Decision::Upload(UploadReason::Resend(attempt.clone()));
        }
        KnownState::InDoubt(attempt, why) => {
            return Decision::Hold(Held {
                attempt: attempt.clone(),
                why: why.clone(),
                policy: inputs.in_doubt,
                stored: match known.stored {
                    Some(_) => StoredBefore::Yes,
                    None => StoredBefore::No,
                },
            });
        }
        KnownState::Stored => None,
        KnownState::NotStored => Some(UploadReason::Retry),
    };
    let Some(stored) = &known.stored else {
        return Decision::Upload(UploadReason::Retry);
    };
    let skip = |why| {
        Decision::Skip(Skip {
            file_id: stored.file_id.clone(),
            digest: stored.digest,
            why,
        })
    };
    let same = |why| {
        if rule.on_metadata_change == OnMetadataChange::Upload && stored.metadata != metadata {
            Decision::Upload(retry.clone().unwrap_or(UploadReason::MetadataChanged))
        } else {
            skip(why)
        }
    };
    let changed = || match rule.on_change {
        OnChange::Upload => Decision::Upload(retry.clone().unwrap_or(UploadReason::Changed)),
        OnChange::Skip => skip(SkipReason::ChangeIgnored),
        OnChange::Fail => Decision::ChangeRefused,
    };
    match compare(rule, &stat, stored) {
        Comparison::Same => same(SkipReason::Unchanged),
        Comparison::Different => changed(),
        Comparison::ContentDecides => match inputs.digests.get(&(root, relative.clone())) {
            Some(Ok(digest)) if stored.digest == Some(*digest) => same(SkipReason::Touched),
            Some(Ok(_)) => changed(),
            Some(Err(why)) => Decision::Unusable(why.clone()),
            None => Decision::Unusable("its content was not read".to_owned()),
        },
    }
}

fn notes(
    file: &PlannedFile,
    sending: &Sending,
    wanted: &str,
    stat: Stat,
    known: Option<&KnownFile>,
) -> Vec<Note> {
    let mut notes = Vec::new();
    let stored = sending.remote_name.stored();
    if file.is_upload() {
        if stored.as_str() != wanted {
            notes.push(Note::StoredAs(stored.as_str().to_owned()));
        }
        if stat.size >= SIZE_NOTED {
            notes.push(Note::Large);
        }
        if stat.size == 0 {
            notes.push(Note::Empty);
        }
    }
    if let (Decision::Skip(_), Some(stored)) = (
        &file.decision,
        known.and_then(|known| known.stored.as_ref()),
    ) && stored.metadata != sending.metadata.digest()
    {
        notes.push(Note::MetadataDiffers);
    }
    notes
}

/// The same file sent twice to one target: each of its rows is a conflict. What is stored or in
/// doubt already stays so.
fn mark_conflicts(rules: &[PlannedRule], files: &mut [PlannedFile]) {
    let mut takers: HashMap<(&Target, SourcePath), Vec<usize>> = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        if file.is_upload() {
            let key = (&*rules[file.rule].target, file.path.clone());
            takers.entry(key).or_default().push(index);
        }
    }
    for indices in takers.into_values().filter(|indices| indices.len() > 1) {
        for (position, &index) in indices.iter().enumerate() {
            let other = indices[usize::from(position == 0)];
            let other = rules[files[other].rule].name.clone();
            files[index].decision = Decision::Conflict(other);
        }
    }
}

fn note_shared_names(rules: &[PlannedRule], files: &mut [PlannedFile]) {
    let mut sharers: HashMap<(&Target, String), Vec<usize>> = HashMap::new();
    for (index, file) in files.iter().enumerate() {
        if let (Some(sending), true) = (&file.sending, file.is_upload()) {
            let stored = sending.remote_name.stored().as_str().to_owned();
            let key = (&*rules[file.rule].target, stored);
            sharers.entry(key).or_default().push(index);
        }
    }
    for indices in sharers.into_values().filter(|indices| indices.len() > 1) {
        for &index in &indices {
            files[index].notes.push(Note::NameShared(indices.len() - 1));
        }
    }
}

#[cfg(test)]
mod tests;
