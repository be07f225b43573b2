//! (Manifest, candidates, known) → plan: pure, and the same for `plan` and `apply`.
//!
//! Every candidate that a rule takes gets a row and a decision with its reason. Files whose
//! content decides are asked for first ([`undecided`]); their digests are then handed in.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::manifest::{Manifest, Rule};
use crate::model::{
    AttemptId, Candidates, ContentType, Digest, Digests, Entry, EntryKind, FileId, Known,
    KnownFile, KnownState, Metadata, OrganizationId, Origin, RelativePath, RemoteName, RootId,
    RuleName, RunId, SourcePath, Stat, StoredVersion, Target,
};
use crate::template::Values;

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
    /// Digests of the files that [`undecided`] named.
    pub digests: &'a Digests,
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

/// All planned files with, for each, what to do and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The manifest's name.
    pub manifest: String,
    /// The rules in order.
    pub rules: Vec<PlannedRule>,
    /// The rows: by rule, then by path.
    pub files: Vec<PlannedFile>,
}

/// A rule as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRule {
    /// Its name.
    pub name: RuleName,
    /// Where its files go.
    pub target: Arc<Target>,
}

/// One row of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Index of its rule in [`Plan::rules`].
    pub rule: usize,
    /// Its root, to open it by.
    pub root: RootId,
    /// Its path below the root.
    pub relative: RelativePath,
    /// What the ledger knows it by.
    pub path: SourcePath,
    /// Its size and times; none where there is no regular file.
    pub stat: Option<Stat>,
    /// What would be sent with it; none where it cannot be sent.
    pub sending: Option<Sending>,
    /// What to do, and why.
    pub decision: Decision,
    /// What is worth knowing beside that.
    pub notes: Vec<Note>,
}

/// What goes to the service beside the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// The name to store it under.
    pub remote_name: RemoteName,
    /// The media type.
    pub content_type: ContentType,
    /// The metadata.
    pub metadata: Metadata,
}

/// What to do with a planned file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Send it.
    Upload(UploadReason),
    /// Nothing to do.
    Skip(Unchanged),
    /// Not to be sent until it is settled whether the service has it: the attempt in question, and
    /// what happened then.
    HoldInDoubt(AttemptId, Option<String>),
    /// Two rules want it for one target: the other rule's name. Neither sends it, since nobody
    /// can say which metadata is meant.
    Conflict(RuleName),
    /// It cannot be sent: why.
    Unusable(String),
}

/// Why a file is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadReason {
    /// The ledger does not know it.
    New,
    /// It was stored, and has other content now.
    Changed,
    /// An earlier attempt certainly did not store it.
    Retry,
}

/// A file that is stored as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchanged {
    /// The id the service gave it.
    pub file_id: Option<FileId>,
    /// The digest of the stored bytes.
    pub digest: Option<Digest>,
    /// What of it is news to the ledger.
    pub news: News,
}

/// What the ledger does not know of an unchanged file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing.
    None,
    /// Its time or inode: the content was read and is the same.
    Stat,
}

/// Something worth knowing of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The service will store it under another name than the one wanted.
    StoredAs(String),
    /// Other files of this plan get the same name in the same target: how many.
    NameShared(usize),
    /// Its metadata is not what was stored with it; it is not sent for that.
    MetadataDiffers,
    /// It is 2 GiB or more: the API's size field cannot say so.
    Large,
    /// It has no bytes: some services refuse such files.
    Empty,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload(UploadReason::New) => f.write_str("new"),
            Self::Upload(UploadReason::Changed) => f.write_str("its content changed"),
            Self::Upload(UploadReason::Retry) => f.write_str("an earlier attempt did not store it"),
            Self::Skip(_) => f.write_str("stored and unchanged"),
            Self::HoldInDoubt(_, why) => write!(
                f,
                "an earlier attempt may have stored it ({}); held until `resolve` settles it",
                why.as_deref().unwrap_or("its run ended before the answer")
            ),
            Self::Conflict(other) => write!(
                f,
                "rule {other} sends the same file to the same target; exclude it from one of them"
            ),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl Decision {
    /// The stable word for what is done: `upload`, `skip`, `hold`, `conflict`, `unusable`.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::Upload(_) => "upload",
            Self::Skip(_) => "skip",
            Self::HoldInDoubt(..) => "hold",
            Self::Conflict(_) => "conflict",
            Self::Unusable(_) => "unusable",
        }
    }

    /// The stable word for why.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Upload(UploadReason::New) => "new",
            Self::Upload(UploadReason::Changed) => "changed",
            Self::Upload(UploadReason::Retry) => "retry",
            Self::Skip(_) => "unchanged",
            Self::HoldInDoubt(..) => "in_doubt",
            Self::Conflict(_) => "same_file",
            Self::Unusable(_) => "unusable",
        }
    }

    /// The sign that marks it in a plan for people.
    #[must_use]
    pub fn sign(&self) -> char {
        match self {
            Self::Upload(UploadReason::New) => '+',
            Self::Upload(UploadReason::Changed) => '~',
            Self::Upload(UploadReason::Retry) => '>',
            Self::Skip(_) => '=',
            Self::HoldInDoubt(..) => '?',
            Self::Conflict(_) | Self::Unusable(_) => '!',
        }
    }
}

impl Note {
    /// What notes of this kind say of several files.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::StoredAs(_) => "stored under another name",
            Self::NameShared(_) => "sharing a name in the dataset",
            Self::MetadataDiffers => "with other metadata than was stored",
            Self::Large => "of 2 GiB or more",
            Self::Empty => "empty",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StoredAs(name) => write!(
                f,
                "the service will store it as \"{}\"",
                crate::model::shown(name)
            ),
            Self::NameShared(others) => write!(
                f,
                "{} of this plan with the same name there",
                crate::model::count(*others, "other file")
            ),
            Self::MetadataDiffers => {
                f.write_str("its metadata differs from what was stored; it is not sent for that")
            }
            Self::Large => f.write_str("2 GiB or more: the API cannot state its size"),
            Self::Empty => f.write_str("it is empty; a service may refuse it"),
        }
    }
}

/// Files and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files.
    pub files: usize,
    /// Their bytes together.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, file: &PlannedFile) {
        self.files += 1;
        self.bytes += file.stat.map_or(0, |stat| stat.size);
    }
}

/// What an upload needs of its row.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// The row.
    pub file: &'a PlannedFile,
    /// The file as planned.
    pub stat: Stat,
    /// What goes with it.
    pub sending: &'a Sending,
}

impl PlannedFile {
    /// The row as an upload, if it is one.
    #[must_use]
    pub fn as_upload(&self) -> Option<Upload<'_>> {
        match (&self.decision, self.stat, &self.sending) {
            (Decision::Upload(_), Some(stat), Some(sending)) => Some(Upload {
                file: self,
                stat,
                sending,
            }),
            _ => None,
        }
    }

    /// Whether it is to be sent.
    #[must_use]
    pub fn is_upload(&self) -> bool {
        matches!(self.decision, Decision::Upload(_))
    }
}

impl Plan {
    /// Counts of all rows that a condition takes.
    #[must_use]
    pub fn tally(&self, wanted: impl Fn(&PlannedFile) -> bool) -> Tally {
        let mut tally = Tally::default();
        for file in self.files.iter().filter(|file| wanted(file)) {
            tally.add(file);
        }
        tally
    }

    /// Counts by (action, reason), in a fixed order.
    #[must_use]
    pub fn tallies(&self) -> BTreeMap<(&'static str, &'static str), Tally> {
        let mut tallies: BTreeMap<_, Tally> = BTreeMap::new();
        for file in &self.files {
            let key = (file.decision.action(), file.decision.reason());
            tallies.entry(key).or_default().add(file);
        }
        tallies
    }
}

/// The files for which [`plan`] needs a digest: stored before, of the same size, but of another
/// time or inode, or changed so shortly before they were read that the time proves nothing.
#[must_use]
pub fn undecided(inputs: &Inputs<'_>) -> Vec<(RootId, RelativePath)> {
    let mut wanted = Vec::new();
    for_each_candidate(inputs, |_, rule, root, relative, path, entry| {
        let target = target(inputs, rule);
        if let Entry::File(stat) = entry
            && let Some(known) = inputs.known.get(&target, path)
            && !matches!(known.state, KnownState::InDoubt(..))
            && let Some(stored) = &known.stored
            && compare(stat, stored) == Comparison::ContentDecides
        {
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
    note_shared_names(&rules, &mut files);
    Plan {
        manifest: inputs.manifest.name.clone(),
        rules,
        files,
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
                (None, Entry::Other(EntryKind::LinkedFolder)) => is_taken || may_hold(relative),
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
    file.decision = decide(inputs, root, relative, stat, known);
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
fn compare(stat: &Stat, stored: &StoredVersion) -> Comparison {
    if stat.size != stored.stat.size {
        return Comparison::Different;
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
    root: RootId,
    relative: &RelativePath,
    stat: Stat,
    known: Option<&KnownFile>,
) -> Decision {
    let Some(known) = known else {
        return Decision::Upload(UploadReason::New);
    };
    let send = match &known.state {
        KnownState::InDoubt(attempt, why) => {
            return Decision::HoldInDoubt(attempt.clone(), why.clone());
        }
        KnownState::Stored => Decision::Upload(UploadReason::Changed),
        KnownState::NotStored => Decision::Upload(UploadReason::Retry),
    };
    let Some(stored) = &known.stored else {
        return send;
    };
    let unchanged = |news| {
        Decision::Skip(Unchanged {
            file_id: stored.file_id.clone(),
            digest: stored.digest,
            news,
        })
    };
    match compare(&stat, stored) {
        Comparison::Same => unchanged(News::None),
        Comparison::Different => send,
        Comparison::ContentDecides => match inputs.digests.get(&(root, relative.clone())) {
            Some(Ok(digest)) if stored.digest == Some(*digest) => unchanged(News::Stat),
            Some(Ok(_)) => send,
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
