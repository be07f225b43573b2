//! (Manifest, candidates, known) → plan: pure, and the same for `plan` and `apply`.
//!
//! Every candidate that a rule takes gets a row and a decision with its reason. What was done before
//! is joined in the order of paths ([`Sketch::new`]). Then whoever may look at the disk says what is
//! gone ([`Sketch::absent`]) and reads the files whose content decides ([`Sketch::undecided`]); what
//! came of it is handed in ([`Sketch::finish`]).

pub mod beside;
mod columns;
mod decision;
mod details;
mod idle;
mod layers;
mod left;
mod marks;
mod moved;
mod names;
mod orphans;
mod recipe;
mod rows;
pub mod select;
mod sketch;
mod taken;
mod versions;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::manifest::{Compare, Manifest, Rule};
use crate::model::{
    CandidateId, Candidates, ContentType, Digests, Doubt, Entry, InDoubt, Known, OrganizationId,
    Origin, RemoteName, RootId, RunId, SourcePath, Stat, StoredVersion, Target,
};

pub use crate::manifest::OnChange;

pub use self::columns::unused as unused_columns;
pub use self::idle::{idle_excludes, unmatched};
pub use self::layers::{Layered, Origin as LayerOrigin};
pub use self::rows::Plan;
pub use self::select::{Problem, Refusal, Selection};
pub use self::sketch::{Before, Gone, Sketch};
pub use self::taken::{AllTaken, Copies, Taken};

use self::select::Extra;

pub use self::decision::{
    Action, Decision, Held, Note, PlannedFile, PlannedRule, Reason, Sending, Skip, SkipReason,
    StoredBefore, Tally, Upload, UploadReason,
};

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

/// Everything a plan is made from, beside what was done before and what is read of files.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// What is wanted, and what there is.
    pub basis: Basis<'a>,
    /// What each rule takes of it.
    pub selection: &'a Selection,
    /// What to do with files in doubt.
    pub in_doubt: InDoubt,
    /// The files in doubt.
    pub doubts: &'a [Doubt],
}

impl Basis<'_> {
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

    /// Where a file was found that is taken.
    ///
    /// # Panics
    ///
    /// Where the file was taken from other candidates.
    #[must_use]
    pub fn root_of(&self, taken: &Taken) -> RootId {
        self.candidates.rule_roots[taken.rule()].expect("what has no root takes nothing")
    }

    /// Which candidate a file is that is taken.
    #[must_use]
    pub fn candidate_id(&self, taken: &Taken) -> CandidateId {
        CandidateId {
            root: self.root_of(taken),
            index: taken.candidate(),
        }
    }

    /// What was found of a file that is taken: its path below the root, and what it is.
    #[must_use]
    pub fn found(&self, taken: &Taken) -> (String, Entry) {
        let root = &self.candidates.roots[self.root_of(taken).0];
        let mut path = String::new();
        root.write_relative(taken.candidate(), &mut path);
        (path, root.entry(taken.candidate()))
    }

    /// What the ledger knows a file by that is taken.
    #[must_use]
    pub fn source_path(&self, taken: &Taken) -> SourcePath {
        let mut path = String::new();
        SourcePath::new(self.write_source_path(taken, &mut path))
    }

    /// The same, written into a text that may be used again.
    pub fn write_source_path<'t>(&self, taken: &Taken, path: &'t mut String) -> &'t str {
        let root = &self.candidates.roots[self.root_of(taken).0];
        root.write_source_path(taken.candidate(), path);
        if taken.copy() == Copies::Further {
            SourcePath::write_copy(path, &self.manifest.rules[taken.rule()].name);
        }
        path
    }
}

/// Makes the plan where nothing was done before.
#[must_use]
pub fn first_plan<'a>(inputs: &Inputs<'a>) -> Plan<'a> {
    let known = Known::default();
    let Ok(sketch) = Sketch::new(inputs, &known);
    let Ok(plan) = sketch.finish(&Gone::default(), &Digests::default(), &known);
    plan
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
    extra: &Extra,
    file: (&str, Stat),
) -> Result<Rendered, Problem> {
    recipe::rendered(basis, rule, extra, file)
}

fn file_name(path: &str) -> &str {
    let behind = path.bytes().rposition(|b| b == b'/').map_or(0, |at| at + 1);
    &path[behind..]
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

#[cfg(test)]
mod tests;
