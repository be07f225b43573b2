//! One row for each planned file, in plan order, as CSV, JSON, JSON Lines or HTML.
//!
//! Rows are written as they come, to all reports of a run at once. A report grows beside its
//! destination, is synced and renamed: a reader sees the old one or the new one, never half of one.

mod form;
mod html;
pub mod metrics;
mod row;
mod summary;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::model::{Difference, Gravity, Outcome, RunId};

pub use self::form::schema;
pub use self::row::{Row, planned_rows, row_of_ledger, row_of_plan, unattempted};
pub use self::summary::{Summary, Told, schema as summary_schema};
pub use self::write::{Printout, Reports, probe};

/// The version of the report's form; grows when a field changes its meaning.
const FORMAT: u32 = 1;

/// What a report says of the run as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "header")]
pub struct Header {
    /// The version of this form.
    #[schemars(extend("const" = FORMAT))]
    pub format: u32,
    /// The manifest's name.
    pub manifest: String,
    /// The run; null where the rows are the latest of every file, whatever run sent it.
    pub run_id: Option<RunId>,
    /// When it began; null where the rows are no run's.
    pub started: Option<Timestamp>,
    /// When it ended; null where it died.
    pub finished: Option<Timestamp>,
    /// Rows: the sum of all outcomes.
    pub planned: usize,
    /// Rows by outcome, all of them, also those of none.
    #[schemars(schema_with = "by_outcome")]
    pub outcomes: BTreeMap<&'static str, usize>,
    /// Their bytes by outcome.
    #[schemars(schema_with = "by_outcome")]
    pub bytes: BTreeMap<&'static str, u64>,
    /// Bytes stored by this run.
    pub bytes_stored: u64,
    /// Files stored by earlier runs whose source is gone: no rows of this report.
    pub vanished: usize,
    /// Why the run ended early, if it did.
    pub stopped: Vec<String>,
    /// What the process exits with; null where it died.
    pub exit_code: Option<u8>,
    /// When all uploads waited, the first thousand times; none where only the ledger is there, which
    /// does not know. For people: a program's report can be had again from the ledger just as it was.
    #[serde(skip)]
    pub pauses: Option<Vec<Pause>>,
}

/// A time in which all uploads of a run waited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// When it began.
    pub began: Timestamp,
    /// When it was to end.
    pub until: Timestamp,
    /// Why.
    pub why: String,
}

/// Gathers the pauses of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pauses(Vec<Pause>);

impl Pauses {
    const MOST: usize = 1000;

    /// Adds one. What goes on for the same reason is one pause.
    pub fn add(&mut self, began: Timestamp, wait: Duration, why: &str) {
        let until = began.saturating_add(wait).unwrap_or(Timestamp::MAX);
        if let Some(last) = self.0.last_mut()
            && last.why == why
            && began <= last.until
        {
            last.until = last.until.max(until);
        } else if self.0.len() < Self::MOST {
            self.0.push(Pause {
                began,
                until,
                why: why.to_owned(),
            });
        }
    }
}

fn by_outcome(_: &mut SchemaGenerator) -> Schema {
    let words = Outcome::ALL.map(Outcome::word);
    let number = json!({"type": "integer", "minimum": 0});
    let properties: Map<String, Value> = words
        .iter()
        .map(|word| ((*word).to_owned(), number.clone()))
        .collect();
    json_schema!({"type": "object", "properties": properties, "required": words})
}

/// Counts rows by outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    outcomes: BTreeMap<Outcome, (usize, u64)>,
    astray: usize,
}

impl Counts {
    /// Counts one more row.
    pub fn add(&mut self, row: &Row<'_>) {
        let entry = self.outcomes.entry(row.outcome).or_default();
        entry.0 += 1;
        entry.1 += row.size.unwrap_or(0);
        let gravity = row.difference.map(Difference::gravity);
        self.astray += usize::from(gravity == Some(Gravity::FailsRun));
    }

    /// Files by outcome.
    #[must_use]
    pub fn by_outcome(&self) -> Vec<(Outcome, usize)> {
        let counts = Outcome::ALL.map(|outcome| (outcome, self.files(outcome)));
        counts.to_vec()
    }

    /// Stored files of which the service tells what fails a run ([`Gravity::FailsRun`]).
    #[must_use]
    pub fn astray(&self) -> usize {
        self.astray
    }

    /// Files with this outcome.
    #[must_use]
    pub fn files(&self, outcome: Outcome) -> usize {
        self.outcomes.get(&outcome).map_or(0, |(files, _)| *files)
    }

    /// Their bytes.
    #[must_use]
    pub fn bytes(&self, outcome: Outcome) -> u64 {
        self.outcomes.get(&outcome).map_or(0, |(_, bytes)| *bytes)
    }
}

/// What is known of a report's run beside its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The manifest's name.
    pub manifest: String,
    /// The run, if the rows are one's.
    pub run_id: Option<RunId>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended, if it did.
    pub finished: Option<Timestamp>,
    /// Files stored earlier whose source is gone.
    pub vanished: usize,
    /// Why it ended early, if it did.
    pub stopped: Vec<String>,
    /// What it exited with, if it did.
    pub exit_code: Option<u8>,
    /// When all uploads waited, if that is known.
    pub pauses: Option<Pauses>,
}

impl Header {
    /// The header of a report with so many rows of each outcome.
    #[must_use]
    pub fn new(about: About, counts: &Counts) -> Self {
        let outcomes: BTreeMap<_, _> = Outcome::ALL
            .into_iter()
            .map(|outcome| (outcome.word(), counts.files(outcome)))
            .collect();
        Self {
            format: FORMAT,
            manifest: about.manifest,
            run_id: about.run_id,
            started: about.started,
            finished: about.finished,
            planned: outcomes.values().sum(),
            outcomes,
            bytes: Outcome::ALL
                .into_iter()
                .map(|outcome| (outcome.word(), counts.bytes(outcome)))
                .collect(),
            bytes_stored: counts.bytes(Outcome::Stored),
            vanished: about.vanished,
            stopped: about.stopped,
            exit_code: about.exit_code,
            pauses: about.pauses.map(|Pauses(pauses)| pauses),
        }
    }
}
