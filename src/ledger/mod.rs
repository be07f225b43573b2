//! The durable record of attempts and outcomes, across runs: the only writer of state.
//!
//! A ledger speaks in groups. One thread owns it and commits what all workers asked for in the
//! meantime at once ([`Writer`]), so durability costs a shared write, not one a file.

mod entry;
mod folder;
mod sqlite;
mod state;
mod writer;

use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;

use crate::model::{AttemptId, Doubt, FileId, Known, KnownFile, RunId, SourcePath, Target};

pub use self::entry::{
    AdoptedFrom, Adoption, Entry, Finding, Forgotten, Look, PlannedRow, Refreshed, RunEnd, RunKind,
    RunRecord, RunRow, RunStart, Settlement, Settler, StoredSample, Transition,
};
pub use self::folder::{RunLock, StateFolder};
pub use self::sqlite::{Examined, SqliteLedger};
pub use self::state::{Relation, State};
pub use self::writer::{Handle, Writer};

/// Files whose state is asked for at a time.
const PAGE: usize = 1000;

/// Where durable state is kept. Every method that writes returns only when the write is durable.
pub trait Ledger: Send + fmt::Debug {
    /// Writes down that a run begins, and what it planned, in the plan's order.
    ///
    /// # Errors
    ///
    /// The storage refused; nothing was written.
    fn begin_run(
        &mut self,
        run: &RunStart,
        plan: &mut dyn Iterator<Item = PlannedRow<'_>>,
    ) -> Result<(), LedgerError>;

    /// Writes down that a run ended.
    ///
    /// # Errors
    ///
    /// The storage refused; nothing was written.
    fn end_run(&mut self, run: &RunEnd) -> Result<(), LedgerError>;

    /// Writes entries, all or none.
    ///
    /// # Errors
    ///
    /// The storage refused, or an entry does not follow from its file's state.
    fn write(&mut self, group: &[Entry]) -> Result<(), LedgerError>;

    /// All files in doubt, by target and path.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn doubts(&self) -> Result<Vec<Doubt>, LedgerError>;

    /// Hands over every id under which the runs that were under way then, and those since, had a target
    /// store a file.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn each_id(
        &self,
        target: &Target,
        since: Timestamp,
        take: &mut dyn FnMut(&FileId),
    ) -> Result<(), LedgerError>;

    /// Every attempt of the runs that were under way then, and those since, that a target stored
    /// under an id which nobody knows: a listed file may be that attempt's.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn unnamed(&self, target: &Target, since: Timestamp) -> Result<Vec<Doubt>, LedgerError>;

    /// A few files that a target has for sure: small ones, with names that tell them apart.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn stored_samples(&self, target: &Target) -> Result<Vec<StoredSample>, LedgerError>;

    /// What is known of a target's files from a path on, as a stream of runs sees it: in the order
    /// of the paths' bytes, so many at the most, and fewer only where there are no more.
    ///
    /// # Errors
    ///
    /// The storage cannot be read, or holds what no version of this tool wrote.
    fn known_from(
        &self,
        target: &Target,
        stream: &str,
        from: Bound<&SourcePath>,
        limit: usize,
    ) -> Result<Vec<(SourcePath, KnownFile)>, LedgerError>;

    /// All that is known of these targets' files, as a stream of runs sees it.
    ///
    /// # Errors
    ///
    /// As [`Ledger::known_from`].
    fn known(&self, targets: &[Arc<Target>], stream: &str) -> Result<Known, LedgerError> {
        let mut known = Known::default();
        for target in targets {
            let mut last: Option<SourcePath> = None;
            loop {
                let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let page = self.known_from(target, stream, from, PAGE)?;
                let is_last = page.len() < PAGE;
                last = page.last().map(|(path, _)| path.clone());
                for (path, file) in page {
                    known.insert(target, path, file);
                }
                if is_last {
                    break;
                }
            }
        }
        Ok(known)
    }

    /// How many of the paths that are meant a stream of runs has stored at each other target than
    /// these.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn elsewhere(
        &self,
        targets: &[Arc<Target>],
        stream: &str,
        is_meant: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<(Target, usize)>, LedgerError>;

    /// The runs of a stream, the latest first.
    ///
    /// # Errors
    ///
    /// The storage cannot be read.
    fn runs(&self, stream: &str) -> Result<Vec<RunRecord>, LedgerError>;

    /// Hands over what a run planned and what became of it, in plan order, row by row: the rows of
    /// its report. A doubt that was settled since shows as it was settled.
    ///
    /// # Errors
    ///
    /// The storage cannot be read, or holds what no version of this tool wrote.
    fn each_row(&self, run: &RunId, take: Take<'_>) -> Result<(), LedgerError>;

    /// Hands over the latest of every file, by target and path.
    ///
    /// # Errors
    ///
    /// As [`Ledger::each_row`].
    fn each_file(&self, take: Take<'_>) -> Result<(), LedgerError>;
}

/// What takes rows as they are read, and says when it has enough.
pub type Take<'a> = &'a mut dyn FnMut(RunRow<'_>) -> ControlFlow<()>;

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
    /// The file is no database, or no longer one that can be read.
    #[error("the ledger {path} is damaged: {cause}")]
    Damaged {
        /// The ledger's file.
        path: PathBuf,
        /// What the database says.
        cause: String,
        /// Where a copy of it as it was found is kept.
        copy: Option<PathBuf>,
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
    /// An older roe-batch wrote it, and only a run may change it.
    #[error("the ledger {path} was written by an older roe-batch (schema {found})")]
    Older {
        /// The ledger's file.
        path: PathBuf,
        /// Its schema version.
        found: i64,
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
    /// The ledger holds a history that cannot have happened.
    #[error("the ledger's history of {path} makes no sense: {what}")]
    Impossible {
        /// The file.
        path: SourcePath,
        /// What cannot be.
        what: String,
    },
    /// A doubt that is to be settled is none, or no longer.
    #[error("attempt {attempt} is not in doubt")]
    NotInDoubt {
        /// The attempt.
        attempt: AttemptId,
    },
    /// Another file of the target is stored under the id.
    #[error("{path} is stored under the id {id} already")]
    IdTaken {
        /// The id.
        id: String,
        /// The file that has it.
        path: SourcePath,
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
    /// A step of a run after which another one began.
    #[error("run {run} is over: another one began since")]
    Superseded {
        /// The run.
        run: RunId,
    },
    /// The thread that owns the ledger is gone.
    #[error("the ledger is closed")]
    Closed,
}

impl LedgerError {
    /// Whether one entry was refused for what it says, with nothing wrong with the ledger.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::NotInDoubt { .. } | Self::IdTaken { .. })
    }
}
