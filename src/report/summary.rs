//! What a run came to, in one object: what hooks are told, and metrics are made from.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{Header, by_outcome};
use crate::model::{HumanBytes, Outcome, RunId, count, schema_of, shown};

/// The version of the summary's form; grows when a field changes its meaning.
const FORMAT: u32 = 1;

/// Most reports, and most causes of an early end, that a summary names.
const NAMED_MAX: usize = 100;

/// Longest of them that is told whole, in characters.
const TEXT_MAX: usize = 2000;

/// One run, told when it is over. Later versions may have more fields: skip those you do not know.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(title = "roe-batch summary")]
pub struct Summary {
    /// The version of this form.
    #[schemars(extend("const" = FORMAT))]
    pub format: u32,
    /// The run in a line for people, under the name that chat services show.
    pub text: String,
    /// The version of roe-batch.
    pub version: &'static str,
    /// The manifest's name.
    pub manifest: String,
    /// Where the files go: the API's address, or `sandbox`.
    pub service: String,
    /// The run.
    pub run_id: RunId,
    /// When it began.
    #[serde(serialize_with = "milliseconds")]
    pub started: Timestamp,
    /// When it ended.
    #[serde(serialize_with = "milliseconds")]
    pub finished: Timestamp,
    /// What the process exits with, as far as this run is concerned.
    pub exit_code: u8,
    /// Planned files: the sum of all outcomes; null where the run ended before it had a plan, or
    /// what became of it is not known.
    pub planned: Option<usize>,
    /// Planned files by outcome, all of them, also those of none.
    #[schemars(schema_with = "outcomes_or_null")]
    pub outcomes: Option<BTreeMap<&'static str, usize>>,
    /// Bytes stored by this run.
    pub bytes_stored: Option<u64>,
    /// Files in doubt, also those of earlier runs that are not in the plan.
    pub in_doubt: Option<usize>,
    /// Files stored by earlier runs whose source is gone.
    pub vanished: Option<usize>,
    /// Attempts after the first of a file.
    pub retries: Option<u64>,
    /// Why the run ended early, or before it began, if it did.
    pub stopped: Vec<String>,
    /// The paths of its reports, of those that could be written.
    pub reports: Vec<String>,
    /// When a run of this manifest last ended with exit code 0; null where none did.
    #[serde(serialize_with = "optional_milliseconds")]
    pub last_success: Option<Timestamp>,
}

/// What a summary is made from.
#[derive(Debug, Clone)]
pub struct Told<'a> {
    /// The manifest's name.
    pub manifest: &'a str,
    /// Where the files go.
    pub service: &'a str,
    /// The run.
    pub run: &'a RunId,
    /// When it began.
    pub started: Timestamp,
    /// When it ended.
    pub finished: Timestamp,
    /// What it ended with.
    pub exit_code: u8,
    /// The head of its reports, if it came to that.
    pub header: Option<&'a Header>,
    /// Files in doubt, as far as they are known.
    pub in_doubt: Option<usize>,
    /// Attempts after the first of a file.
    pub retries: Option<u64>,
    /// Why it did not come to a report.
    pub failure: Option<&'a str>,
    /// Its reports.
    pub reports: Vec<String>,
    /// When a run before it last ended well.
    pub last_success: Option<Timestamp>,
}

impl Summary {
    /// Puts together what is told of a run.
    #[must_use]
    pub fn new(told: Told<'_>) -> Self {
        let header = told.header;
        let stopped = header.into_iter().flat_map(|header| &header.stopped);
        let stopped = stopped.map(String::as_str).chain(told.failure);
        let cut = |text: &str| text.chars().take(TEXT_MAX).collect::<String>();
        let mut reports = told.reports;
        reports.truncate(NAMED_MAX);
        Self {
            format: FORMAT,
            text: line(told.manifest, told.exit_code, header, told.failure),
            version: env!("CARGO_PKG_VERSION"),
            manifest: told.manifest.to_owned(),
            service: told.service.to_owned(),
            run_id: told.run.clone(),
            started: told.started,
            finished: told.finished,
            exit_code: told.exit_code,
            planned: header.map(|header| header.planned),
            outcomes: header.map(|header| header.outcomes.clone()),
            bytes_stored: header.map(|header| header.bytes_stored),
            in_doubt: told.in_doubt,
            vanished: header.map(|header| header.vanished),
            retries: told.retries,
            stopped: stopped.take(NAMED_MAX).map(cut).collect(),
            reports,
            last_success: if told.exit_code == 0 {
                Some(told.finished)
            } else {
                told.last_success
            },
        }
    }

    /// Files with this outcome, if there is a plan.
    #[must_use]
    pub fn files(&self, outcome: Outcome) -> Option<usize> {
        let outcomes = self.outcomes.as_ref()?;
        outcomes.get(outcome.word()).copied()
    }
}

/// The JSON Schema (draft-07) of a summary.
#[must_use]
pub fn schema() -> Value {
    schema_of::<Summary>()
}

/// A run in a line.
fn line(manifest: &str, exit_code: u8, header: Option<&Header>, failure: Option<&str>) -> String {
    let mut text = format!("roe-batch: {}: ", shown(manifest));
    match header {
        Some(header) => {
            let _ = write!(text, "{} planned", count(header.planned, "file"));
            for outcome in Outcome::ALL {
                let files = header.outcomes.get(outcome.word()).copied().unwrap_or(0);
                if files > 0 {
                    let _ = write!(text, ", {files} {}", outcome.label());
                }
            }
            if header.bytes_stored > 0 {
                let _ = write!(text, " ({} stored)", HumanBytes(header.bytes_stored));
            }
        }
        None => text.push_str("no run"),
    }
    let stopped = header.and_then(|header| header.stopped.first());
    if let Some(why) = failure.or(stopped.map(String::as_str)) {
        let why: String = why.chars().take(TEXT_MAX).collect();
        let _ = write!(text, "; {}", shown(&why));
    }
    let _ = write!(text, "; exit code {exit_code}");
    text
}

fn outcomes_or_null(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let mut schema = by_outcome(generator);
    schema.insert("type".to_owned(), serde_json::json!(["object", "null"]));
    schema
}

fn milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

#[expect(clippy::ref_option, reason = "as serde calls it")]
fn optional_milliseconds<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => milliseconds(time, serializer),
        None => serializer.serialize_none(),
    }
}
