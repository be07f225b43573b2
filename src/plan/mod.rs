//! (Manifest, candidates, known) → plan: pure, and the same for `plan` and `apply`.
//!
//! Every candidate that a rule takes gets a row and a decision with its reason. Files whose
//! content decides are asked for first ([`undecided`]); their digests are then handed in.

pub mod beside;
mod columns;
mod decision;
mod idle;
mod layers;
mod moved;
pub mod select;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::manifest::{Compare, Manifest, OnMetadataChange, Rule};
use crate::model::{
    Candidate, Candidates, ContentType, Digest, Digests, Doubt, Entry, Fields, InDoubt, Known,
    KnownFile, KnownState, OrganizationId, Origin, RelativePath, RemoteName, RootId, RunId,
    SourcePath, Stat, StoredVersion, Target, count, shown_bounded,
};

pub use crate::manifest::OnChange;

pub use self::columns::unused as unused_columns;
pub use self::idle::{idle_excludes, unmatched};
pub use self::layers::{Layered, Origin as LayerOrigin};
pub use self::moved::absent;
pub use self::select::{Problem, Refusal, Selection, Taken};

use self::moved::{adopt_moved, hold_moved, hold_retargeted, moved_doubts, orphans};
use self::select::Copy;

pub use self::decision::{
    Action, Decision, Held, Note, Plan, PlannedFile, PlannedRule, Reason, Sending, Skip,
    SkipReason, StoredBefore, Tally, Upload, UploadReason,
};

/// Largest `metadata` part in bytes. Django refuses form text over 2.5 MiB
/// (`DATA_UPLOAD_MAX_MEMORY_SIZE`); the other parts need some of it.
const METADATA_MAX: usize = 2_500_000;

/// The API gives sizes as signed 32-bit integers.
const SIZE_NOTED: u64 = 1 << 31;

/// A file changed less than this before it was read may have changed again without another
/// time: FAT keeps times to two seconds.
const TIME_GRANULARITY: SignedDuration = SignedDuration::from_secs(2);

/// What a plan is made from before the ledger is asked.
#[derive(Debug, Clone, Copy)]
pub struct Basis<'a> {
    /// What the user wants.
    pub manifest: &'a Manifest,
    /// What there is.
    pub candidates: &'a Candidates,
    /// Where the API is.
    pub origin: &'a Origin,
    /// The organization of rules that name none.
    pub organization: Option<&'a OrganizationId>,
    /// The run's id and start, for templates and for the age of files.
    pub run: (&'a RunId, Timestamp),
}

/// Everything a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What is wanted, and what there is.
    pub basis: Basis<'a>,
    /// What each rule takes of it.
    pub selection: &'a Selection,
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
}

impl<'a> Basis<'a> {
    /// Where the manifest's rules send to, each target once.
    #[must_use]
    pub fn targets(&self) -> Vec<Arc<Target>> {
        let rules = self.manifest.rules.iter();
        let targets: BTreeSet<Target> = rules.map(|rule| target(self, rule)).collect();
        targets.into_iter().map(Arc::new).collect()
    }

    /// Where a rule's files go.
    #[must_use]
    pub fn target_of(&self, rule: &Rule) -> Target {
        target(self, rule)
    }

    /// What was found of a file that is taken.
    ///
    /// # Panics
    ///
    /// Where the file was taken from other candidates.
    #[must_use]
    pub fn candidate(&self, taken: &Taken) -> &'a Candidate {
        &self.candidates.roots[taken.root.0].found[taken.candidate]
    }

    /// What the ledger knows a file by that is taken.
    #[must_use]
    pub fn source_path(&self, taken: &Taken) -> SourcePath {
        let root = &self.candidates.roots[taken.root.0];
        let path = root.source_path(&self.candidate(taken).relative);
        match taken.copy {
            Copy::First => path,
            Copy::Further => path.copy_of(&self.manifest.rules[taken.rule].name),
        }
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
    let targets = by_rule(&inputs.basis);
    for_each_taken(inputs, |taken, rule, relative, path, entry| {
        let target = &*targets[taken.rule];
        let Entry::File(stat) = entry else { return };
        let is_wanted = match inputs.known.get(target, path) {
            None => {
                let key = (target, stat.size);
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
            wanted.push((taken.root, relative.clone()));
        }
    });
    wanted.sort();
    wanted.dedup();
    wanted
}

/// Where each rule's files go.
fn by_rule(basis: &Basis<'_>) -> Vec<Arc<Target>> {
    let rules = basis.manifest.rules.iter();
    let mut known: HashMap<Target, Arc<Target>> = HashMap::new();
    let shared = rules.map(|rule| {
        let target = target(basis, rule);
        let shared = known
            .entry(target.clone())
            .or_insert_with(|| Arc::new(target));
        Arc::clone(shared)
    });
    shared.collect()
}

/// Makes the plan.
#[must_use]
pub fn plan(inputs: &Inputs<'_>) -> Plan {
    let targets = by_rule(&inputs.basis);
    let rules: Vec<PlannedRule> = inputs
        .basis
        .manifest
        .rules
        .iter()
        .zip(&targets)
        .map(|(rule, target)| PlannedRule {
            name: rule.name.clone(),
            target: Arc::clone(target),
            on_change: rule.on_change,
        })
        .collect();
    let mut files = Vec::with_capacity(inputs.selection.taken.len());
    let mut problems = Vec::new();
    for_each_taken(inputs, |taken, rule, _, path, entry| {
        let known = inputs.known.get(&targets[taken.rule], path);
        let (file, problem) = row(inputs, rule, taken, path, entry, known);
        problems.extend(problem.map(|problem| (files.len(), problem)));
        files.push(file);
    });
    mark_conflicts(&rules, &mut files);
    hold_retargeted(inputs, &rules, &mut files);
    hold_moved(inputs, &rules, &mut files);
    let vanished = adopt_moved(inputs, &rules, &mut files);
    note_shared_names(&rules, &mut files);
    Plan {
        manifest: inputs.basis.manifest.name.clone(),
        rules,
        files,
        problems,
        left_out: inputs.selection.left_out.clone(),
        vanished,
    }
}

/// Visits what each rule takes, in the order of the plan.
fn for_each_taken(
    inputs: &Inputs<'_>,
    mut visit: impl FnMut(&Taken, &Rule, &RelativePath, &SourcePath, &Entry),
) {
    for taken in &inputs.selection.taken {
        let rule = &inputs.basis.manifest.rules[taken.rule];
        let candidate = inputs.basis.candidate(taken);
        let path = inputs.basis.source_path(taken);
        visit(taken, rule, &candidate.relative, &path, &candidate.entry);
    }
}

fn target(basis: &Basis<'_>, rule: &Rule) -> Target {
    Target {
        origin: basis.origin.clone(),
        organization_id: rule
            .organization_id
            .clone()
            .or_else(|| basis.organization.cloned()),
        dataset_id: rule.dataset_id.clone(),
    }
}

fn row(
    inputs: &Inputs<'_>,
    rule: &Rule,
    taken: &Taken,
    path: &SourcePath,
    entry: &Entry,
    known: Option<&KnownFile>,
) -> (PlannedFile, Option<Problem>) {
    let relative = &inputs.basis.candidate(taken).relative;
    let mut file = PlannedFile {
        rule: taken.rule,
        root: taken.root,
        relative: relative.clone(),
        path: path.clone(),
        stat: None,
        sending: None,
        decision: Decision::Upload(UploadReason::New),
        notes: Vec::new(),
    };
    let refuse = |mut file: PlannedFile, problem: Problem| {
        file.decision = Decision::Unusable(problem.message.clone());
        (file, Some(problem))
    };
    let stat = match entry {
        Entry::File(stat) => *stat,
        Entry::Other(kind) => {
            let why = format!("{kind}; exclude it, or put a file there");
            return refuse(file, Problem::new(why));
        }
        Entry::Unusable(why) => return refuse(file, Problem::new(why.clone())),
    };
    file.stat = Some(stat);
    if let Some(problem) = &taken.problem {
        return refuse(file, (**problem).clone());
    }
    let rendered = match rendered(&inputs.basis, rule, taken, relative, stat) {
        Ok(rendered) => rendered,
        Err(problem) => return refuse(file, problem),
    };
    let sending = Sending {
        remote_name: rendered.remote_name,
        content_type: rendered.content_type,
        metadata: layers::metadata(rendered.metadata),
    };
    let metadata = sending.metadata.digest();
    file.decision = decide(inputs, rule, (taken.root, relative), stat, metadata, known);
    file.notes = notes(&file, &sending, &rendered.wanted, stat, known);
    file.sending = Some(sending);
    (file, None)
}

/// What would be sent with a file, and who said so.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// The name as the manifest wants it.
    pub wanted: String,
    /// The name as it is sent.
    pub remote_name: RemoteName,
    /// The media type.
    pub content_type: ContentType,
    /// The metadata.
    pub metadata: Vec<Layered>,
}

impl Rendered {
    /// Bytes of the `metadata` part, which is left out where it would be empty.
    #[must_use]
    pub fn metadata_bytes(&self) -> usize {
        if self.metadata.is_empty() {
            return 0;
        }
        layers::length(&self.metadata)
    }
}

/// Renders what would be sent with a file.
///
/// # Errors
///
/// Why it cannot be sent.
pub fn rendered(
    basis: &Basis<'_>,
    rule: &Rule,
    taken: &Taken,
    relative: &RelativePath,
    stat: Stat,
) -> Result<Rendered, Problem> {
    let capture: Option<Fields> = select::captured(rule, relative);
    let values = select::values(basis, rule, taken, (relative, stat), capture.as_ref());
    let wanted = match &rule.file_name {
        Some(template) => template
            .value
            .render(&values)
            .map_err(|error| Problem::rendering("`file_name`", template, error))?,
        None => file_name(relative).to_owned(),
    };
    let remote_name = RemoteName::new(&wanted).map_err(|why| Problem {
        span: rule.file_name.as_ref().map(|name| name.span.clone()),
        ..Problem::new(why)
    })?;
    let metadata = layers::layered(rule, taken, &values, capture.as_ref())?;
    let length = layers::length(&metadata);
    if length > METADATA_MAX {
        let largest = metadata.iter().max_by_key(|layered| layered.value.len());
        return Err(Problem {
            help: largest.map(|layered| {
                format!(
                    "`{}`, from {}, alone has {}",
                    shown_bounded(&layered.key),
                    layered.origin.word(),
                    count(layered.value.len(), "byte")
                )
            }),
            ..Problem::new(format!(
                "its metadata is {length} bytes long; the service takes {METADATA_MAX} at the most"
            ))
        });
    }
    Ok(Rendered {
        wanted,
        remote_name,
        content_type: match &rule.content_type {
            Some(content_type) => content_type.value.clone(),
            None => ContentType::of_name(file_name(relative)),
        },
        metadata,
    })
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
