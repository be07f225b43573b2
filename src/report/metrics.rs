//! Summaries as measurements: a text file for Prometheus' `node_exporter`, and the body of a push by
//! OpenTelemetry's protocol.

use std::fmt::Write as _;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Summary;
use super::write::folder_of;
use crate::model::Outcome;

/// A measurement's value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    Whole(u64),
    /// A length of time or a point in it, in milliseconds; told in seconds.
    Milliseconds(i64),
}

/// What is measured of each run, under one name.
struct Family {
    name: &'static str,
    /// In the unified code of units, which OpenTelemetry uses.
    unit: &'static str,
    help: &'static str,
    of: fn(&Summary) -> Samples,
}

/// Values, each with another label and its value beside the manifest's name, where there is one.
type Samples = Vec<(Option<(&'static str, &'static str)>, Number)>;

const FAMILIES: [Family; 11] = [
    Family {
        name: "roe_batch_last_run_start_timestamp_seconds",
        unit: "s",
        help: "When the last run began, in seconds since 1970.",
        of: |run| one(Some(time(run.started))),
    },
    Family {
        name: "roe_batch_last_run_end_timestamp_seconds",
        unit: "s",
        help: "When the last run ended, in seconds since 1970.",
        of: |run| one(Some(time(run.finished))),
    },
    Family {
        name: "roe_batch_last_success_timestamp_seconds",
        unit: "s",
        help: "When a run last ended with exit code 0, in seconds since 1970.",
        of: |run| one(run.last_success.map(time)),
    },
    Family {
        name: "roe_batch_last_run_duration_seconds",
        unit: "s",
        help: "How long the last run took.",
        of: |run| {
            let taken = run.finished.as_millisecond() - run.started.as_millisecond();
            one(Some(Number::Milliseconds(taken.max(0))))
        },
    },
    Family {
        name: "roe_batch_last_run_exit_code",
        unit: "1",
        help: "What the last run ended with; 0 where all planned files are stored.",
        of: |run| one(Some(Number::Whole(run.exit_code.into()))),
    },
    Family {
        name: "roe_batch_last_run_files",
        unit: "{file}",
        help: "Files that the last run planned, by outcome.",
        of: |run| {
            let files = |outcome: Outcome| {
                let label = Some(("outcome", outcome.word()));
                Some((label, whole(run.files(outcome)?)))
            };
            Outcome::ALL.into_iter().filter_map(files).collect()
        },
    },
    Family {
        name: "roe_batch_last_run_stored_bytes",
        unit: "By",
        help: "Bytes that the last run stored.",
        of: |run| one(run.bytes_stored.map(Number::Whole)),
    },
    Family {
        name: "roe_batch_last_run_retries",
        unit: "{attempt}",
        help: "Attempts of the last run after the first of a file.",
        of: |run| one(run.retries.map(Number::Whole)),
    },
    Family {
        name: "roe_batch_in_doubt_files",
        unit: "{file}",
        help: "Files in doubt, also those of earlier runs that are not in the plan.",
        of: |run| one(run.in_doubt.map(whole)),
    },
    Family {
        name: "roe_batch_backlog_files",
        unit: "{file}",
        help: "Planned files that are not stored: rejected, failed or not attempted.",
        of: |run| {
            let waiting = [Outcome::Rejected, Outcome::Failed, Outcome::NotAttempted];
            let files: Option<Vec<usize>> = waiting
                .map(|outcome| run.files(outcome))
                .into_iter()
                .collect();
            one(files.map(|files| whole(files.iter().sum())))
        },
    },
    Family {
        name: "roe_batch_vanished_files",
        unit: "{file}",
        help: "Files stored by earlier runs whose source is gone.",
        of: |run| one(run.vanished.map(whole)),
    },
];

fn one(value: Option<Number>) -> Samples {
    value.map(|value| (None, value)).into_iter().collect()
}

fn whole(number: usize) -> Number {
    Number::Whole(number as u64)
}

fn time(time: Timestamp) -> Number {
    Number::Milliseconds(time.as_millisecond())
}

/// Runs in Prometheus' text format (0.0.4), each under its manifest's name, which no two may share.
#[must_use]
pub fn exposition(runs: &[Summary]) -> String {
    let mut text = String::new();
    let begin = |text: &mut String, name: &str, help: &str| {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
    };
    begin(
        &mut text,
        "roe_batch_build_info",
        "The version of roe-batch that wrote this.",
    );
    let version = env!("CARGO_PKG_VERSION");
    let _ = writeln!(text, "roe_batch_build_info{{version=\"{version}\"}} 1");
    for family in &FAMILIES {
        let mut is_begun = false;
        for run in runs {
            for (label, value) in (family.of)(run) {
                if !std::mem::replace(&mut is_begun, true) {
                    begin(&mut text, family.name, family.help);
                }
                let manifest = escaped(&run.manifest);
                let _ = write!(text, "{}{{manifest=\"{manifest}\"", family.name);
                if let Some((name, value)) = label {
                    let _ = write!(text, ",{name}=\"{value}\"");
                }
                let _ = match value {
                    Number::Whole(number) => writeln!(text, "}} {number}"),
                    Number::Milliseconds(number) => {
                        let (seconds, rest) = (number / 1000, (number % 1000).unsigned_abs());
                        let sign = if number < 0 && seconds == 0 { "-" } else { "" };
                        writeln!(text, "}} {sign}{seconds}.{rest:03}")
                    }
                };
            }
        }
    }
    text
}

/// A label's value, as the text format has it.
fn escaped(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    escaped.replace('\n', "\\n")
}

/// Puts a text in its place in one step: written beside it under a name that `node_exporter` does
/// not read, synced, renamed; readable by everybody, whatever the umask, since another user reads it.
///
/// # Errors
///
/// What the operating system says; the old file is as it was then.
pub fn write_exposition(path: &Path, text: &str) -> io::Result<()> {
    let folder = folder_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(".roe-batch-metrics-")
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file()
        .set_permissions(Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(folder)?.sync_all()
}

/// Runs as the body of a push by OTLP over HTTP, in JSON.
#[must_use]
pub fn otlp(runs: &[Summary]) -> Value {
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let version = env!("CARGO_PKG_VERSION");
    let metrics = FAMILIES.iter().filter_map(|family| {
        let points: Vec<Value> = runs
            .iter()
            .flat_map(|run| {
                (family.of)(run).into_iter().map(|(label, value)| {
                    let label = label.map(|(name, value)| text(name, value));
                    let manifest = text("manifest", &run.manifest);
                    let attributes: Vec<Value> = std::iter::once(manifest).chain(label).collect();
                    // Numbers of 64 bits are texts there.
                    let nanos = run.finished.as_nanosecond().to_string();
                    let mut point = json!({"attributes": attributes, "timeUnixNano": nanos});
                    match value {
                        Number::Whole(number) => point["asInt"] = json!(number.to_string()),
                        Number::Milliseconds(number) => {
                            #[expect(
                                clippy::cast_precision_loss,
                                reason = "53 bits of milliseconds"
                            )]
                            let seconds = number as f64 / 1000.0;
                            point["asDouble"] = json!(seconds);
                        }
                    }
                    point
                })
            })
            .collect();
        (!points.is_empty()).then(|| {
            json!({
                "name": family.name,
                "description": family.help,
                "unit": family.unit,
                "gauge": {"dataPoints": points},
            })
        })
    });
    json!({"resourceMetrics": [{
        "resource": {"attributes": [
            text("service.name", "roe-batch"),
            text("service.version", version),
        ]},
        "scopeMetrics": [{
            "scope": {"name": "roe-batch", "version": version},
            "metrics": metrics.collect::<Vec<_>>(),
        }],
    }]})
}
