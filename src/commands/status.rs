//! `status`: where a manifest's files stand, from the ledger alone.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{self, BufWriter, Write as _};
use std::ops::ControlFlow;

use jiff::Timestamp;
use serde::ser::{Error, SerializeSeq};
use serde::{Serialize, Serializer};

use super::draft::{in_use, ledger_failure};
use super::stream::Stream;
use super::{said, say};
use crate::cli::{StatusFormat, StatusSettings};
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, RunRecord, RunRow, SqliteLedger};
use crate::model::{AttemptId, Doubt, JobEnd, Outcome, RuleName, RunId, SourcePath, count, shown};

/// The version of the printed form.
const FORMAT: u32 = 1;

/// Runs that are listed.
const RUNS: usize = 10;

/// Files that are named for each outcome that needs a look.
const NAMED: usize = 20;

/// Shows where files stand.
pub(super) fn status(settings: &StatusSettings) -> Result<Exit, Failure> {
    let stream = Stream::of(&settings.stream)?;
    let ledger = stream.read()?;
    let runs = stream.applied(&ledger)?;
    let last = match runs.first() {
        Some(run) => LastRun::of(&ledger, &run.run)?,
        None => LastRun::default(),
    };
    let doubts = ledger.doubts().map_err(|error| ledger_failure(&error))?;
    let holder = stream.state.holder();
    let holder = holder.map_err(|error| ledger_failure(&error))?;
    // Most runs leave none: they are read once.
    let last_run = runs.first().filter(|_| last.not_stored > 0);
    let not_stored = last_run.map(|run| NotStored {
        ledger: &ledger,
        run: &run.run,
    });
    let status = Status::new(
        (&stream.name, &runs),
        &last,
        not_stored,
        &doubts,
        holder.as_deref(),
    );
    match settings.format {
        StatusFormat::Text => say(&status.text(&last))?,
        StatusFormat::Json => status.print()?,
    }
    Ok(Exit::Done)
}

/// What the last run's rows came to.
#[derive(Default)]
struct LastRun {
    /// By rule in the plan's order.
    rules: Vec<(RuleName, Outcomes)>,
    not_stored: usize,
    /// The first of those, for people.
    named: Vec<String>,
}

impl LastRun {
    fn of(ledger: &SqliteLedger, run: &RunId) -> Result<Self, Failure> {
        let mut last = Self::default();
        let each = ledger.each_row(run, &mut |row| {
            last.add(&row);
            ControlFlow::Continue(())
        });
        each.map_err(|error| ledger_failure(&error))?;
        Ok(last)
    }

    fn add(&mut self, row: &RunRow<'_>) {
        let mut rules = self.rules.iter();
        let at = rules.rposition(|(rule, _)| rule.as_str() == row.rule);
        let at = at.unwrap_or_else(|| {
            self.rules.push((RuleName::new(row.rule), no_outcomes()));
            self.rules.len() - 1
        });
        *self.rules[at].1.entry(row.end.outcome.word()).or_default() += 1;
        if is_not_stored(row) {
            self.not_stored += 1;
            if self.named.len() < NAMED {
                self.named.push(format!(
                    "{}: {}: {}: {}",
                    row.end.outcome.label(),
                    shown(row.rule),
                    shown(row.path),
                    shown(row.end.reason.unwrap_or_default()),
                ));
            }
        }
    }
}

fn is_not_stored(row: &RunRow<'_>) -> bool {
    matches!(
        row.end.outcome,
        Outcome::Rejected | Outcome::Failed | Outcome::NotAttempted
    )
}

/// The files of the last run that are not stored: read while they are written, since they may be
/// all.
struct NotStored<'a> {
    ledger: &'a SqliteLedger,
    run: &'a RunId,
}

impl Serialize for NotStored<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        let mut result = Ok(());
        let each = self.ledger.each_row(self.run, &mut |row| {
            if !is_not_stored(&row) {
                return ControlFlow::Continue(());
            }
            result = list.serialize_element(&FileStatus {
                rule: row.rule,
                path: row.path,
                outcome: row.end.outcome,
                reason: row.end.reason,
                file_id: row.end.file_id,
            });
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        result?;
        each.map_err(S::Error::custom)?;
        list.end()
    }
}

#[derive(Serialize)]
struct Status<'a> {
    format: u32,
    manifest: &'a str,
    /// Of the last run's plan, by rule in the plan's order.
    rules: Vec<RuleStatus<'a>>,
    total: Outcomes,
    /// Of the whole ledger, other manifests' too.
    in_doubt: Vec<DoubtStatus<'a>>,
    #[serde(serialize_with = "none_as_empty")]
    not_stored: Option<NotStored<'a>>,
    vanished: usize,
    /// Who uses the ledger now.
    in_use_by: Option<&'a str>,
    runs: Vec<RunStatus<'a>>,
}

type Outcomes = BTreeMap<&'static str, usize>;

#[derive(Serialize)]
struct RuleStatus<'a> {
    rule: &'a RuleName,
    outcomes: &'a Outcomes,
}

#[derive(Serialize)]
struct DoubtStatus<'a> {
    path: &'a SourcePath,
    request_id: &'a AttemptId,
    since: Timestamp,
    reason: Option<&'a str>,
    last_look: Option<&'a str>,
}

#[derive(Serialize)]
struct FileStatus<'a> {
    rule: &'a str,
    path: &'a str,
    outcome: Outcome,
    reason: Option<&'a str>,
    file_id: Option<&'a str>,
}

#[derive(Serialize)]
struct RunStatus<'a> {
    run_id: &'a RunId,
    started: Timestamp,
    ended: Option<Timestamp>,
    exit_code: Option<u8>,
    planned: usize,
    outcomes: Option<Outcomes>,
    stopped: &'a [String],
}

fn no_outcomes() -> Outcomes {
    Outcome::ALL
        .iter()
        .map(|outcome| (outcome.word(), 0))
        .collect()
}

#[expect(clippy::ref_option, reason = "serde hands the field over by reference")]
fn none_as_empty<S: Serializer>(
    list: &Option<NotStored<'_>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match list {
        Some(list) => list.serialize(serializer),
        None => serializer.serialize_seq(Some(0))?.end(),
    }
}

impl<'a> Status<'a> {
    fn new(
        (manifest, runs): (&'a str, &'a [RunRecord]),
        last: &'a LastRun,
        not_stored: Option<NotStored<'a>>,
        doubts: &'a [Doubt],
        holder: Option<&'a str>,
    ) -> Self {
        let mut total = no_outcomes();
        for (word, files) in last.rules.iter().flat_map(|(_, outcomes)| outcomes) {
            *total.entry(word).or_default() += files;
        }
        let rules = last.rules.iter();
        Self {
            format: FORMAT,
            manifest,
            rules: rules
                .map(|(rule, outcomes)| RuleStatus { rule, outcomes })
                .collect(),
            total,
            in_doubt: doubts
                .iter()
                .map(|doubt| DoubtStatus {
                    path: &doubt.path,
                    request_id: &doubt.attempt,
                    since: doubt.since,
                    reason: doubt.reason.as_deref().or(Some(JobEnd::CUT_BEFORE_ANSWER)),
                    last_look: doubt.last_look.as_deref(),
                })
                .collect(),
            not_stored,
            vanished: runs.first().map_or(0, |run| run.vanished),
            in_use_by: holder,
            runs: runs.iter().take(RUNS).map(run_status).collect(),
        }
    }

    fn print(&self) -> Result<(), Failure> {
        let mut stdout = BufWriter::new(io::stdout().lock());
        match serde_json::to_writer_pretty(&mut stdout, self) {
            Err(error) if !error.is_io() => Err(Failure::new(Exit::LocalIo, error.to_string())),
            written => said(
                written
                    .map_err(io::Error::from)
                    .and_then(|()| stdout.write_all(b"\n"))
                    .and_then(|()| stdout.flush()),
            ),
        }
    }

    fn text(&self, rows: &LastRun) -> String {
        let mut text = String::new();
        let Some(last) = self.runs.first() else {
            return format!("{}: no runs yet\n", shown(self.manifest));
        };
        let _ = writeln!(
            text,
            "{}: {} in the plan of the last run",
            shown(self.manifest),
            count(last.planned, "file")
        );
        if let Some(holder) = self.in_use_by {
            let _ = writeln!(text, "{}", in_use(holder));
        }
        let width = self
            .rules
            .iter()
            .map(|rule| rule.rule.to_string().chars().count())
            .max()
            .unwrap_or(0)
            .max(5);
        let mut line = |name: &str, cells: &[String]| {
            let _ = write!(text, "  {name:<width$}");
            for (outcome, cell) in Outcome::ALL.iter().zip(cells) {
                let _ = write!(text, "  {cell:>0$}", outcome.label().len());
            }
            text.push('\n');
        };
        line("", &Outcome::ALL.map(|outcome| outcome.label().to_owned()));
        let cells =
            |outcomes: &Outcomes| Outcome::ALL.map(|outcome| outcomes[outcome.word()].to_string());
        for rule in &self.rules {
            line(&rule.rule.to_string(), &cells(rule.outcomes));
        }
        if self.rules.len() > 1 {
            line("total", &cells(&self.total));
        }
        // What is said of files while they are on their way is over before it is read.
        if !self.is_under_way(last) {
            self.files_text(&mut text, rows);
        }
        text.push_str("runs, the latest first\n");
        for run in &self.runs {
            let _ = write!(text, "  {:.0}  {}  ", run.started, run.run_id);
            let _ = match (run.exit_code, &run.outcomes) {
                (Some(code), Some(outcomes)) => {
                    let parts: Vec<String> = Outcome::ALL
                        .iter()
                        .filter(|outcome| outcomes[outcome.word()] > 0)
                        .map(|outcome| format!("{} {}", outcomes[outcome.word()], outcome.label()))
                        .collect();
                    writeln!(text, "exit {code}  {}", parts.join(", "))
                }
                _ if self.is_under_way(run) => writeln!(text, "under way; {} planned", run.planned),
                _ => writeln!(text, "did not end; {} planned", run.planned),
            };
        }
        text
    }

    fn is_under_way(&self, run: &RunStatus<'_>) -> bool {
        let holder = self.in_use_by.unwrap_or_default();
        holder.ends_with(&format!("run {}", run.run_id))
    }

    fn files_text(&self, text: &mut String, last: &LastRun) {
        if self.vanished > 0 {
            let _ = writeln!(
                text,
                "gone from the source: {} stored before",
                count(self.vanished, "file")
            );
        }
        for doubt in self.in_doubt.iter().take(NAMED) {
            let why = shown(doubt.reason.unwrap_or_default());
            let _ = write!(text, "in doubt: {}: {why}", doubt.path);
            if let Some(look) = doubt.last_look {
                let _ = write!(text, "; looked up: {}", shown(look));
            }
            text.push('\n');
        }
        more(text, "in doubt", self.in_doubt.len());
        for line in &last.named {
            let _ = writeln!(text, "{line}");
        }
        more(text, "not stored", last.not_stored);
    }
}

fn more(text: &mut String, what: &str, files: usize) {
    if files > NAMED {
        let _ = writeln!(text, "{what}: … and {} more (--format json)", files - NAMED);
    }
}

fn run_status(run: &RunRecord) -> RunStatus<'_> {
    let outcomes = run.outcomes.as_ref();
    RunStatus {
        run_id: &run.run,
        started: run.started,
        ended: run.ended,
        exit_code: run.exit_code,
        planned: run.planned,
        outcomes: outcomes.map(|outcomes| {
            let pairs = outcomes.iter();
            pairs
                .map(|(outcome, files)| (outcome.word(), *files))
                .collect()
        }),
        stopped: &run.stopped,
    }
}
