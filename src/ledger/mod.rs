//! The durable record of attempts and outcomes, across runs: the only writer of state.
//!
//! A ledger speaks in groups. One thread owns it and commits what all workers asked for in the
//! meantime at once ([`Writer`]), so durability costs a shared write, not one a file.

mod folder;
mod sqlite;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{
    AttemptId, Digest, FileId, Known, Outcome, RuleName, RunId, SourcePath, Stat, Target,
};

pub use self::folder::{RunLock, StateFolder};
pub use self::sqlite::SqliteLedger;
pub use self::writer::{Handle, Writer};

/// Where durable state is kept. Every method that writes returns only when the write is durable.
pub trait Ledger: Send + fmt::Debug {
    /// Writes down that a run begins.
    ///
    /// # Errors
    ///
    /// The storage refused; nothing was written.
    fn begin_run(&mut self, run: &RunStart) -> Result<(), LedgerError>;

    /// Writes down that a run ended.
    ///
    /// # Errors
    ///
    /// The storage refused; nothing was written.
    fn end_run(&mut self, run: &RunEnd) -> Result<(), LedgerError>;

    /// Appends transitions, all or none.
    ///
    /// # Errors
    ///
    /// The storage refused, or a transition does not follow from its file's state.
    fn record(&mut self, group: &[Transition]) -> Result<(), LedgerError>;

    /// Writes down that stored files still have their content under another time or inode.
    ///
    /// # Errors
    ///
    /// The storage refused; nothing was written.
    fn refresh(&mut self, group: &[Refreshed]) -> Result<(), LedgerError>;

    /// All files in doubt, by target and path.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn doubts(&self) -> Result<Vec<Doubt>, LedgerError>;

    /// Settles doubts, all or none.
    ///
    /// # Errors
    ///
    /// The storage refused, or a file is no longer in the doubt it was.
    fn settle(&mut self, group: &[Settlement]) -> Result<(), LedgerError>;

    /// What is known of these targets' files.
    ///
    /// # Errors
    ///
    /// The storage cannot be read, or holds what no version of this tool wrote.
    fn known(&self, targets: &[Arc<Target>]) -> Result<Known, LedgerError>;
}

/// The start of a run.
#[derive(Debug, Clone)]
pub struct RunStart {
    /// The run.
    pub run: RunId,
    /// The manifest's name.
    pub stream: String,
    /// When.
    pub at: Timestamp,
    /// Rows in its plan.
    pub planned: usize,
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
}

/// The states of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// The end of the body may be released from now on.
    Committing,
    /// The service stored the file.
    Stored,
    /// The service refused the file.
    Rejected,
    /// It is certainly not stored.
    Failed,
    /// The service may have stored it.
    InDoubt,
}

impl State {
    const ALL: [Self; 5] = [
        Self::Committing,
        Self::Stored,
        Self::Rejected,
        Self::Failed,
        Self::InDoubt,
    ];

    /// The word in the ledger; stable.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Committing => "committing",
            Self::Stored => "stored",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::InDoubt => "in_doubt",
        }
    }

    /// What a file whose attempt is left in this state has come to.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Stored => Outcome::Stored,
            Self::Rejected => Outcome::Rejected,
            Self::Failed => Outcome::Failed,
            Self::Committing | Self::InDoubt => Outcome::InDoubt,
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// Whether an attempt may enter this state when its file's latest attempt is in `before`.
    ///
    /// A file that may be stored is never tried again, and only an attempt that passed the gate
    /// can end as stored or in doubt.
    #[must_use]
    pub fn may_follow(self, before: Option<(State, Relation)>) -> bool {
        match (before, self) {
            (Some((Self::Committing, Relation::SameAttempt)), to) => to != Self::Committing,
            // Only once the doubt is settled.
            (Some((Self::InDoubt, Relation::SameAttempt)), to) => {
                matches!(to, Self::Stored | Self::Failed)
            }
            (
                Some(
                    (_, Relation::SameAttempt)
                    | (Self::Committing | Self::InDoubt, Relation::OtherAttempt),
                ),
                _,
            ) => false,
            (None | Some((_, Relation::OtherAttempt)), to) => {
                matches!(to, Self::Committing | Self::Rejected | Self::Failed)
            }
        }
    }
}

/// Whether two transitions belong to one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// They do.
    SameAttempt,
    /// They do not.
    OtherAttempt,
}

/// One step of one attempt, with all that is known of it by then.
#[derive(Debug, Clone)]
pub struct Transition {
    /// The attempt.
    pub attempt: AttemptId,
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
    /// When its bytes began to be read.
    pub read_at: Timestamp,
    /// The file as planned.
    pub stat: Stat,
    /// The digest of the bytes sent, where all were read.
    pub digest: Option<Digest>,
    /// The digest of the metadata sent.
    pub metadata: Digest,
    /// The name it was sent under.
    pub remote_name: String,
    /// The id the service gave it.
    pub file_id: Option<FileId>,
    /// The status the service answered.
    pub http_status: Option<u16>,
    /// Why it is not stored, or not known to be.
    pub reason: Option<String>,
}

/// A file that the service may have stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The attempt in question; its `X-Request-ID`.
    pub attempt: AttemptId,
    /// Where it was sent.
    pub target: Target,
    /// The file.
    pub path: SourcePath,
    /// The name it was sent under.
    pub remote_name: String,
    /// Its bytes.
    pub size: u64,
    /// Since when.
    pub since: Timestamp,
    /// What happened, where anything was answered or broke; a run that died left nothing.
    pub reason: Option<String>,
}

/// The end of a doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    /// The attempt in question.
    pub attempt: AttemptId,
    /// What is now known.
    pub finding: Finding,
    /// When it was said.
    pub at: Timestamp,
    /// Who or what says so.
    pub reason: String,
}

/// What is known of a file that was in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The service has it under this id.
    Stored(FileId),
    /// The service does not have it.
    NotStored,
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

/// Why the ledger cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LedgerError {
    /// The database refused.
    #[error("the ledger {path} cannot be used: {cause}")]
    Storage {
        /// The ledger's file.
        path: PathBuf,
        /// What the database says.
        cause: String,
    },
    /// A newer roe-batch wrote it.
    #[error(
        "the ledger {path} was written by a newer roe-batch (schema {found}; this one knows \
         {known})"
    )]
    Newer {
        /// The ledger's file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
        /// The newest schema version known here.
        known: i64,
    },
    /// A step that does not follow from the file's state.
    #[error("the ledger refuses to note {path} as {to}: its latest attempt is {from}")]
    Illegal {
        /// The file.
        path: SourcePath,
        /// Its state.
        from: String,
        /// The refused state.
        to: &'static str,
    },
    /// A doubt that is to be settled is none, or no longer.
    #[error("attempt {attempt} is not in doubt")]
    NotInDoubt {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Another run holds the lock.
    #[error("another run is using this ledger ({holder})")]
    Locked {
        /// What the lock file says of it.
        holder: String,
    },
    /// The state folder cannot be made or read.
    #[error("the state folder {path} cannot be used: {cause}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system says.
        cause: String,
    },
    /// The thread that owns the ledger is gone.
    #[error("the ledger is closed")]
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passed_the_gate_can_be_stored_or_in_doubt() {
        use Relation::{OtherAttempt, SameAttempt};
        use State::{Committing, Failed, InDoubt, Rejected, Stored};
        for (before, allowed) in [
            (None, vec![Committing, Rejected, Failed]),
            (
                Some((Committing, SameAttempt)),
                vec![Stored, Rejected, Failed, InDoubt],
            ),
            (Some((Committing, OtherAttempt)), vec![]),
            (Some((Stored, SameAttempt)), vec![]),
            (
                Some((Stored, OtherAttempt)),
                vec![Committing, Rejected, Failed],
            ),
            (
                Some((Rejected, OtherAttempt)),
                vec![Committing, Rejected, Failed],
            ),
            (Some((Failed, SameAttempt)), vec![]),
            (
                Some((Failed, OtherAttempt)),
                vec![Committing, Rejected, Failed],
            ),
            (Some((InDoubt, SameAttempt)), vec![Stored, Failed]),
            (Some((InDoubt, OtherAttempt)), vec![]),
        ] {
            let found: Vec<State> = State::ALL
                .into_iter()
                .filter(|state| state.may_follow(before))
                .collect();
            assert_eq!(found, allowed, "after {before:?}");
        }
    }
}
