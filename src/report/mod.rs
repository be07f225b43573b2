//! One row for each planned file, in plan order, as CSV, JSON or JSON Lines.
//!
//! Written beside its destination, synced and renamed: a reader sees the old report or the new
//! one, never half of one.

mod row;
mod write;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::model::{Outcome, RunId};

pub use self::row::{Row, rows};
pub use self::write::{probe, write};

/// The version of the report's form; grows when a field changes its meaning.
const FORMAT: u32 = 1;

/// What a report says of the run as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Header {
    /// The version of this form.
    pub format: u32,
    /// The manifest's name.
    pub manifest: String,
    /// The run.
    pub run_id: RunId,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// Rows: the sum of all outcomes.
    pub planned: usize,
    /// Rows by outcome, all of them, also those of none.
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Bytes stored by this run.
    pub bytes_stored: u64,
    /// Why the run ended early, if it did.
    pub stopped: Vec<String>,
    /// What the process exits with.
    pub exit_code: u8,
}

/// Counts rows by outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<Outcome, (usize, u64)>);

impl Counts {
    /// Counts files and bytes.
    #[must_use]
    pub fn of(rows: &[Row<'_>]) -> Self {
        let mut counts = Self::default();
        for row in rows {
            let entry = counts.0.entry(row.outcome).or_default();
            entry.0 += 1;
            entry.1 += row.size.unwrap_or(0);
        }
        counts
    }

    /// Files with this outcome.
    #[must_use]
    pub fn files(&self, outcome: Outcome) -> usize {
        self.0.get(&outcome).map_or(0, |(files, _)| *files)
    }

    /// Their bytes.
    #[must_use]
    pub fn bytes(&self, outcome: Outcome) -> u64 {
        self.0.get(&outcome).map_or(0, |(_, bytes)| *bytes)
    }
}

impl Header {
    /// The header of a run's report.
    #[must_use]
    pub fn new(
        manifest: &str,
        run: (&RunId, Timestamp, Timestamp),
        counts: &Counts,
        stopped: Vec<String>,
        exit_code: u8,
    ) -> Self {
        let (run_id, started, finished) = run;
        let outcomes: BTreeMap<_, _> = Outcome::ALL
            .into_iter()
            .map(|outcome| (outcome.word(), counts.files(outcome)))
            .collect();
        Self {
            format: FORMAT,
            manifest: manifest.to_owned(),
            run_id: run_id.clone(),
            started,
            finished,
            planned: outcomes.values().sum(),
            outcomes,
            bytes_stored: counts.bytes(Outcome::Stored),
            stopped,
            exit_code,
        }
    }
}
