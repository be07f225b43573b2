//! How jobs end.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{AttemptId, Digest, FileId};

/// What became of a planned file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "outcome")]
pub enum Outcome {
    /// The service stored it and said so.
    Stored,
    /// Nothing to do: it was stored before and has not changed.
    Skipped,
    /// The service refused this file; sending it again unchanged would not help.
    Rejected,
    /// It is certainly not stored by this run; a later run tries again.
    Failed,
    /// The service may have stored it and we cannot know.
    InDoubt,
    /// The run ended before its turn.
    NotAttempted,
}

impl Outcome {
    /// Every outcome, in the order in which summaries list them.
    pub const ALL: [Self; 6] = [
        Self::Stored,
        Self::Skipped,
        Self::Rejected,
        Self::Failed,
        Self::InDoubt,
        Self::NotAttempted,
    ];

    /// The word that reports use; stable.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Skipped => "skipped",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::InDoubt => "in_doubt",
            Self::NotAttempted => "not_attempted",
        }
    }

    /// The word for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::InDoubt => "in doubt",
            Self::NotAttempted => "not attempted",
            other => other.word(),
        }
    }
}

/// Where the service's account of a stored file differs from what was sent; the later, the worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// It has another name than was to be expected.
    Renamed,
    /// It has another size: what is stored is not what was sent.
    Mismatch,
    /// It is in another dataset.
    WrongTarget,
}

impl Difference {
    /// The word that reasons begin with; stable.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Renamed => "renamed",
            Self::Mismatch => "mismatch",
            Self::WrongTarget => "wrong_target",
        }
    }

    /// What follows from it for the run.
    #[must_use]
    pub fn gravity(self) -> Gravity {
        match self {
            Self::Renamed => Gravity::Shown,
            Self::Mismatch | Self::WrongTarget => Gravity::FailsRun,
        }
    }
}

/// What follows from a [`Difference`]; the file stays stored, under its id, in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// It is shown.
    Shown,
    /// It is shown, and the run counts as failed.
    FailsRun,
}

/// How one job ended, with everything a report says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobEnd {
    /// What became of it.
    pub outcome: Outcome,
    /// Why it is not stored, or what is odd about it.
    pub reason: Option<String>,
    /// The worst that is odd about how it is stored.
    pub difference: Option<Difference>,
    /// The id the service gave it.
    pub file_id: Option<FileId>,
    /// The digest of its bytes, where they were read.
    pub digest: Option<Digest>,
    /// Attempts made.
    pub attempts: u32,
    /// The last status the service answered.
    pub http_status: Option<u16>,
    /// The last attempt's id.
    pub request_id: Option<AttemptId>,
    /// When its first attempt began.
    pub started: Option<Timestamp>,
    /// When its last attempt ended.
    pub finished: Option<Timestamp>,
    /// The name the service says it stored it under.
    pub returned_name: Option<String>,
    /// The dataset's name as the service gave it.
    pub returned_dataset: Option<String>,
}

/// How a job ended, as [`JobEnd`], without holding any text of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End<'a> {
    /// What became of it.
    pub outcome: Outcome,
    /// Why it is not stored, or what is odd about it.
    pub reason: Option<&'a str>,
    /// The worst that is odd about how it is stored.
    pub difference: Option<Difference>,
    /// The id the service gave it.
    pub file_id: Option<&'a str>,
    /// The digest of its bytes, where they were read.
    pub digest: Option<Digest>,
    /// Attempts made.
    pub attempts: u32,
    /// The last status the service answered.
    pub http_status: Option<u16>,
    /// The last attempt's id.
    pub request_id: Option<&'a str>,
    /// When its first attempt began.
    pub started: Option<Timestamp>,
    /// When its last attempt ended.
    pub finished: Option<Timestamp>,
    /// The name the service says it stored it under.
    pub returned_name: Option<&'a str>,
    /// The dataset's name as the service gave it.
    pub returned_dataset: Option<&'a str>,
}

impl End<'_> {
    /// A job that ended before any attempt.
    #[must_use]
    pub fn without_attempt(outcome: Outcome) -> Self {
        Self {
            outcome,
            reason: None,
            difference: None,
            file_id: None,
            digest: None,
            attempts: 0,
            http_status: None,
            request_id: None,
            started: None,
            finished: None,
            returned_name: None,
            returned_dataset: None,
        }
    }
}

impl<'a> From<&'a JobEnd> for End<'a> {
    fn from(end: &'a JobEnd) -> Self {
        Self {
            outcome: end.outcome,
            reason: end.reason.as_deref(),
            difference: end.difference,
            file_id: end.file_id.as_ref().map(FileId::as_str),
            digest: end.digest,
            attempts: end.attempts,
            http_status: end.http_status,
            request_id: end.request_id.as_ref().map(AttemptId::as_str),
            started: end.started,
            finished: end.finished,
            returned_name: end.returned_name.as_deref(),
            returned_dataset: end.returned_dataset.as_deref(),
        }
    }
}

impl From<End<'_>> for JobEnd {
    fn from(end: End<'_>) -> Self {
        Self {
            outcome: end.outcome,
            reason: end.reason.map(str::to_owned),
            difference: end.difference,
            file_id: end.file_id.map(FileId::new),
            digest: end.digest,
            attempts: end.attempts,
            http_status: end.http_status,
            request_id: end.request_id.map(AttemptId::new),
            started: end.started,
            finished: end.finished,
            returned_name: end.returned_name.map(str::to_owned),
            returned_dataset: end.returned_dataset.map(str::to_owned),
        }
    }
}

impl JobEnd {
    /// Why a file is not stored whose attempt was cut off before the gate.
    pub const CUT_BEFORE_SENT: &str = "the run ended before the file was sent whole";

    /// Why a file is in doubt whose attempt was cut off behind the gate.
    pub const CUT_BEFORE_ANSWER: &str = "the run ended before the service answered";

    /// Why a file was not attempted, where nothing more is known.
    pub const BEFORE_ITS_TURN: &str = "the run ended before its turn";

    /// Whether it is known what the service has of it: nothing new, or a file by its id.
    #[must_use]
    pub fn is_named(&self) -> bool {
        match self.outcome {
            Outcome::InDoubt => false,
            Outcome::Stored => self.file_id.is_some(),
            _ => true,
        }
    }

    /// Adds what a look at the service's listing said of a file in doubt.
    pub fn add_look(&mut self, seen: Option<&str>) {
        if let Some(seen) = seen {
            let reason = self.reason.take().unwrap_or_default();
            self.reason = Some(format!("{reason}; looked up: {seen}"));
        }
    }

    /// A job that ended before any attempt.
    #[must_use]
    pub fn without_attempt(outcome: Outcome, reason: Option<String>) -> Self {
        Self {
            reason,
            ..End::without_attempt(outcome).into()
        }
    }
}
