//! What is written to a ledger, and what is read from it.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;

use super::State;
use crate::model::{
    AttemptId, Digest, End, FileId, JobEnd, Metadata, Outcome, RuleName, RunId, ShownMetadata,
    SourcePath, Stat, Tag, Target,
};

/// The start of a run.
#[derive(Debug, Clone)]
pub struct RunStart {
    /// The run.
    pub run: RunId,
    /// The manifest's name.
    pub stream: String,
    /// What it does.
    pub kind: RunKind,
    /// When.
    pub at: Timestamp,
    /// Files stored by earlier runs whose source is gone.
    pub vanished: usize,
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// It uploads.
    Apply,
    /// It adopts what was uploaded by other means.
    Import,
}

impl RunKind {
    /// The word in the ledger; stable.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Import => "import",
        }
    }

    pub(super) fn of_word(word: &str) -> Option<Self> {
        [Self::Apply, Self::Import]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// One row of a plan, as the ledger keeps it for the run's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRow<'a> {
    /// The rule.
    pub rule: &'a RuleName,
    /// Where the file goes.
    pub target: &'a Arc<Target>,
    /// The file.
    pub path: SourcePath,
    /// The decision's word.
    pub decision: &'static str,
    /// How the row ends if nothing is attempted.
    pub unattempted: JobEnd,
    /// The name it was, or would be, sent under.
    pub remote_name: Option<Cow<'a, str>>,
    /// Bytes.
    pub size: Option<u64>,
    /// The media type.
    pub content_type: Option<Cow<'a, str>>,
    /// What goes with it. The ledger keeps it as it may be shown; what was sent it knows by its
    /// digest, in the attempt.
    pub metadata: Option<Metadata>,
}

/// The end of a run.
#[derive(Debug, Clone)]
pub struct RunEnd {
    /// The run.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
    /// The exit code.
    pub exit_code: u8,
    /// Why it ended early, if it did.
    pub stopped: Vec<String>,
    /// Rows by outcome.
    pub outcomes: Vec<(Outcome, usize)>,
}

/// One thing to write down.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A step of an attempt.
    Step(Transition),
    /// A stored file found unchanged by its content.
    Refreshed(Refreshed),
    /// The end of a doubt.
    Settled(Settlement),
    /// A look at the service's listing that settled nothing.
    Looked(Look),
    /// A file that the service has by other means than an attempt of its own.
    Adopted(Adoption),
    /// A file that is no longer to be known.
    Forgotten(Forgotten),
}

/// One step of one attempt, with all that is known of it by then.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The attempt.
    pub attempt: AttemptId,
    /// Its number among the file's attempts of this run, from 1.
    pub number: u32,
    /// Its run.
    pub run: RunId,
    /// Where the file goes.
    pub target: Arc<Target>,
    /// The rule that took it.
    pub rule: RuleName,
    /// The file.
    pub path: SourcePath,
    /// The state it enters.
    pub state: State,
    /// When.
    pub at: Timestamp,
    /// When the file's first attempt of this run began.
    pub started_at: Timestamp,
    /// When its bytes began to be read.
    pub read_at: Timestamp,
    /// The file as planned.
    pub stat: Stat,
    /// The digest of the bytes sent, where all were read.
    pub digest: Option<Digest>,
    /// The digest of the metadata sent, without a planted key.
    pub metadata: Digest,
    /// Whether the attempt's id was planted in the metadata.
    pub tag: Tag,
    /// The name it was sent under.
    pub remote_name: String,
    /// The id the service gave it.
    pub file_id: Option<FileId>,
    /// The status the service answered.
    pub http_status: Option<u16>,
    /// The name the service says it stored it under.
    pub returned_name: Option<String>,
    /// The dataset's name as the service gave it.
    pub returned_dataset: Option<String>,
    /// Why it is not stored, or not known to be.
    pub reason: Option<String>,
}

/// A stored file that was found unchanged by its content.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// Where it is stored.
    pub target: Arc<Target>,
    /// The file.
    pub path: SourcePath,
    /// Its new time and inode.
    pub stat: Stat,
    /// When its content was read.
    pub read_at: Timestamp,
}

/// A look at the service's listing that settled nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The attempt in question.
    pub attempt: AttemptId,
    /// Since when the listing does not show the file, if it does not.
    pub absent_since: Option<Timestamp>,
    /// What was seen.
    pub seen: String,
}

/// The end of a doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The attempt in question.
    pub attempt: AttemptId,
    /// The run that found it out, if one did.
    pub run: Option<RunId>,
    /// What is now known.
    pub finding: Finding,
    /// When it was said.
    pub at: Timestamp,
    /// Who or what says so.
    pub by: Settler,
    /// In words.
    pub reason: String,
}

/// What is known of a file that was in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The service has it under this id.
    Stored(FileId),
    /// The service does not have it.
    NotStored,
    /// Nothing; it is to be sent again at the risk of storing it twice.
    Abandoned,
}

/// Who or what settled a doubt, or had a file adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settler {
    /// Somebody who looked.
    Hand,
    /// The service's listing.
    Listing,
    /// The policy `resend`.
    Policy,
}

impl Settler {
    /// The word in the ledger; stable.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Hand => "hand",
            Self::Listing => "listing",
            Self::Policy => "policy",
        }
    }
}

/// A file that the service has by other means than an attempt of its own.
#[derive(Debug, Clone)]
pub struct Adoption {
    /// The run that adopts it.
    pub run: RunId,
    /// An id for it, in place of an attempt's.
    pub attempt: AttemptId,
    /// Where it is stored.
    pub target: Arc<Target>,
    /// The rule that takes it.
    pub rule: RuleName,
    /// The file.
    pub path: SourcePath,
    /// The file as it was when its bytes were read.
    pub stat: Stat,
    /// When that was.
    pub read_at: Timestamp,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The digest of the metadata stored with it.
    pub metadata: Digest,
    /// The name it is stored under.
    pub remote_name: String,
    /// The id the service gave it, where that is known.
    pub file_id: Option<FileId>,
    /// How it came there.
    pub from: AdoptedFrom,
}

/// How an adopted file came to the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptedFrom {
    /// Under an earlier path of this ledger, which is given up.
    Moved(SourcePath),
    /// By another program.
    Import,
}

/// A file that is no longer to be known.
#[derive(Debug, Clone)]
pub struct Forgotten {
    /// Where it went.
    pub target: Arc<Target>,
    /// The file.
    pub path: SourcePath,
    /// When that was said.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
}

/// A run as the ledger remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// The manifest's name.
    pub stream: String,
    /// What it did.
    pub kind: RunKind,
    /// When it began.
    pub started: Timestamp,
    /// When it ended; none where it died, or is still under way.
    pub ended: Option<Timestamp>,
    /// What it exited with.
    pub exit_code: Option<u8>,
    /// Rows of its plan.
    pub planned: usize,
    /// Files stored by earlier runs whose source was gone.
    pub vanished: usize,
    /// Why it ended early, if it did.
    pub stopped: Vec<String>,
    /// Rows by outcome; none where it died.
    pub outcomes: Option<Vec<(Outcome, usize)>>,
}

/// One row of a run's report, as the ledger has it: what it refers to is there while it is handed
/// over. There may be millions, and few are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunRow<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// Where the file goes.
    pub target: &'a Arc<Target>,
    /// The file's [`SourcePath`].
    pub path: &'a str,
    /// The name it was, or would be, sent under.
    pub remote_name: Option<&'a str>,
    /// Bytes.
    pub size: Option<u64>,
    /// The media type.
    pub content_type: Option<&'a str>,
    /// What goes with it, as it may be shown.
    pub metadata: Option<ShownMetadata<'a>>,
    /// What became of it.
    pub end: End<'a>,
}

/// A file that a target has for sure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSample {
    /// The id the service gave it.
    pub file_id: FileId,
    /// The name it was sent under.
    pub remote_name: String,
    /// Where it lies here, or lay.
    pub path: SourcePath,
    /// The digest of the bytes sent.
    pub digest: Digest,
    /// The digest of the metadata sent, without a planted key; none where another program sent it.
    pub metadata: Option<Digest>,
    /// The attempt whose id was planted in its metadata, where one was.
    pub planted: Option<AttemptId>,
}
