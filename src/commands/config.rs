//! `config`: what holds on this machine, and who says so.

use std::ffi::OsStr;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::look::read_manifest;
use super::spell::yaml;
use super::{narrate, say};
use crate::cli::{ConfigSettings, Origin, Origins, Otherwise, Said, StatusFormat, Told};
use crate::diagnostic::Severity;
use crate::error::{Exit, Failure};
use crate::manifest::{self, Given, RunEntry};
use crate::model::shown;

/// The version of the form in which programs read settings.
const FORMAT: u32 = 1;

/// In place of what is not shown.
const HIDDEN: &str = "***";

/// A setting as it is shown.
struct Row {
    name: &'static str,
    value: Held,
    origin: Origin,
}

/// What holds.
enum Held {
    Value(String),
    /// Nothing that could be written; what is the case then.
    Nothing(&'static str),
}

/// Prints them.
pub(super) fn config(settings: &ConfigSettings) -> Result<Exit, Failure> {
    let manifest = settings.manifest.as_deref();
    let run = match manifest {
        Some(path) => match run_of(settings, path)? {
            Some(run) => run,
            None => return Ok(Exit::Invalid),
        },
        None => Vec::new(),
    };
    let mut rows = vec![key(settings.key)];
    rows.extend(settings.told.iter().map(|told| row(told, &run)));
    let text = match settings.format {
        StatusFormat::Text => text(&rows, settings.origins, manifest),
        StatusFormat::Json => json(&rows, settings, manifest)?,
    };
    say(&text)?;
    Ok(Exit::Done)
}

/// What a manifest's `run` says, each with its line; none where the manifest is invalid.
fn run_of(
    settings: &ConfigSettings,
    path: &Path,
) -> Result<Option<Vec<(RunEntry, usize)>>, Failure> {
    let source = read_manifest(path)?;
    let given = Given::environment(&settings.environment);
    let mut reading = manifest::read(&source, path, given);
    reading
        .diagnostics
        .retain(|diagnostic| diagnostic.severity == Severity::Error);
    if !reading.diagnostics.is_empty() {
        narrate(&source.render(&reading.diagnostics));
        return Ok(None);
    }
    let starts = source.line_starts();
    let line = |entry: &RunEntry| starts.partition_point(|start| *start <= entry.span.start);
    let run = reading.run.into_iter();
    Ok(Some(
        run.map(|entry| (entry.clone(), line(&entry))).collect(),
    ))
}

/// The key itself is shown to nobody.
fn key(is_set: bool) -> Row {
    Row {
        name: "api_key",
        value: Held::Nothing(if is_set { "not shown" } else { "none" }),
        origin: if is_set {
            Origin::Environment("ROE_API_KEY")
        } else {
            Origin::Default
        },
    }
}

fn row(told: &Told, run: &[(RunEntry, usize)]) -> Row {
    let mut written = run.iter().filter(|_| told.in_manifest);
    let manifest = written.find(|(entry, _)| entry.key == told.name);
    let manifest = manifest.map(|(entry, line)| Said {
        text: entry.text.as_str().into(),
        origin: Origin::Manifest(*line),
    });
    match told.said.clone().with(manifest) {
        Some(said) => Row {
            name: told.name,
            value: Held::Value(value(told, &said.text)),
            origin: said.origin,
        },
        None => Row {
            name: told.name,
            value: match told.default {
                Otherwise::Value(text) => Held::Value(text.to_owned()),
                Otherwise::Nothing(why) => Held::Nothing(why),
            },
            origin: Origin::Default,
        },
    }
}

/// A value as far as it may be shown.
fn value(told: &Told, text: &OsStr) -> String {
    let text = text.to_string_lossy();
    match (
        told.is_secret || text.contains("://"),
        text.rsplit_once('@'),
    ) {
        (true, Some((credentials, host))) => {
            let scheme = credentials.split_once("://");
            let scheme = scheme.map_or(String::new(), |(scheme, _)| format!("{scheme}://"));
            format!("{scheme}{HIDDEN}@{host}")
        }
        _ => text.into_owned(),
    }
}

/// As a config file would have it; what is no value of its own is a comment.
fn text(rows: &[Row], origins: Origins, manifest: Option<&Path>) -> String {
    let lines: Vec<String> = rows.iter().map(line).collect();
    let width = lines.iter().map(|line| line.chars().count()).max();
    let width = width.unwrap_or(0).min(40);
    let mut text = String::new();
    for (line, row) in lines.iter().zip(rows) {
        text.push_str(line);
        if origins == Origins::Shown {
            let space = width.saturating_sub(line.chars().count());
            text.extend(std::iter::repeat_n(' ', space));
            text.push_str("  # ");
            text.push_str(&place(&row.origin, manifest));
        }
        text.push('\n');
    }
    text
}

fn line(row: &Row) -> String {
    match &row.value {
        Held::Value(value) => {
            let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
            let is_flag = matches!(value.as_str(), "true" | "false");
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "./:%-_".contains(c);
            let is_plain = value.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
                && value.chars().all(is_plain)
                && (value.contains("://") || !value.contains(':'));
            if is_number || is_flag || is_plain && value.chars().any(|c| !c.is_ascii_digit()) {
                format!("{}: {value}", row.name)
            } else {
                format!("{}: {}", row.name, yaml(value))
            }
        }
        Held::Nothing(why) => format!("# {}: {why}", row.name),
    }
}

fn place(origin: &Origin, manifest: Option<&Path>) -> String {
    let file = |path: &Path, line: usize| format!("{}:{line}", shown(&path.to_string_lossy()));
    match origin {
        Origin::Environment(name) => format!("environment {name}"),
        Origin::Manifest(line) => {
            format!(
                "manifest {}",
                file(manifest.unwrap_or(Path::new("")), *line)
            )
        }
        Origin::File(path, line) => format!("file {}", file(path, *line)),
        Origin::Default => "default".to_owned(),
    }
}

fn json(
    rows: &[Row],
    settings: &ConfigSettings,
    manifest: Option<&Path>,
) -> Result<String, Failure> {
    let name = |path: &Path| Value::from(path.to_string_lossy().into_owned());
    let origin = |origin: &Origin| match origin {
        Origin::Environment(variable) => json!({"kind": "environment", "variable": variable}),
        Origin::Manifest(line) => {
            json!({"kind": "manifest", "file": manifest.map(name), "line": line})
        }
        Origin::File(path, line) => json!({"kind": "file", "file": name(path), "line": line}),
        Origin::Default => json!({"kind": "default"}),
    };
    let all: Map<String, Value> = rows
        .iter()
        .map(|row| {
            let value = match &row.value {
                Held::Value(value) => Some(value),
                Held::Nothing(_) => None,
            };
            let said = json!({"value": value, "origin": origin(&row.origin)});
            (row.name.to_owned(), said)
        })
        .collect();
    let files: Vec<Value> = settings.files.iter().map(|file| name(file)).collect();
    let document = json!({"format": FORMAT, "files": files, "settings": all});
    serde_json::to_string_pretty(&document)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(Exit::Internal, error.to_string()))
}
