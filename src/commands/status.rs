//! `status`: where a manifest's files stand, from the ledger alone.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use serde::Serialize;

use super::draft::{in_use, ledger_failure};
use super::say;
use super::stream::Stream;
use crate::cli::{StatusFormat, StatusSettings};
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, RunRecord, RunRow};
use crate::model::{
    AttemptId, Doubt, FileId, JobEnd, Outcome, RuleName, RunId, SourcePath, count, shown,
};

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
    let rows = match runs.first() {
        Some(run) => ledger
            .rows(&run.run)
            .map_err(|error| ledger_failure(&error))?,
        None => Vec::new(),
    };
    let doubts = ledger.doubts().map_err(|error| ledger_failure(&error))?;
    let holder = stream.state.holder();
    let holder = holder.map_err(|error| ledger_failure(&error))?;
    let status = Status::new(&stream.name, &runs, &rows, &doubts, holder.as_deref());
    say(&match settings.format {
        StatusFormat::Text => status.text(),
        StatusFormat::Json => {
            let text = serde_json::to_string_pretty(&status)
                .map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
            text + "\n"
        }
    })?;
    Ok(Exit::Done)
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
    not_stored: Vec<FileStatus<'a>>,
    vanished: usize,
    /// Who uses the ledger now.
    in_use_by: Option<&'a str>,
    runs: Vec<RunStatus<'a>>,
}

type Outcomes = BTreeMap<&'static str, usize>;

#[derive(Serialize)]
struct RuleStatus<'a> {
    rule: &'a RuleName,
    outcomes: Outcomes,
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
    rule: &'a RuleName,
    path: &'a SourcePath,
    outcome: Outcome,
    reason: Option<&'a str>,
    file_id: Option<&'a FileId>,
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

impl<'a> Status<'a> {
    fn new(
        manifest: &'a str,
        runs: &'a [RunRecord],
        rows: &'a [RunRow],
        doubts: &'a [Doubt],
        holder: Option<&'a str>,
    ) -> Self {
        let mut rules: Vec<RuleStatus<'a>> = Vec::new();
        let mut total = no_outcomes();
        for row in rows {
            let known = rules.iter().position(|rule| *rule.rule == row.rule);
            let at = known.unwrap_or_else(|| {
                rules.push(RuleStatus {
                    rule: &row.rule,
                    outcomes: no_outcomes(),
                });
                rules.len() - 1
            });
            let word = row.end.outcome.word();
            *rules[at].outcomes.entry(word).or_default() += 1;
            *total.entry(word).or_default() += 1;
        }
        let not_stored = rows
            .iter()
            .filter(|row| {
                matches!(
                    row.end.outcome,
                    Outcome::Rejected | Outcome::Failed | Outcome::NotAttempted
                )
            })
            .map(|row| FileStatus {
                rule: &row.rule,
                path: &row.path,
                outcome: row.end.outcome,
                reason: row.end.reason.as_deref(),
                file_id: row.end.file_id.as_ref(),
            })
            .collect();
        Self {
            format: FORMAT,
            manifest,
            rules,
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

    fn text(&self) -> String {
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
            line(&rule.rule.to_string(), &cells(&rule.outcomes));
        }
        if self.rules.len() > 1 {
            line("total", &cells(&self.total));
        }
        // What is said of files while they are on their way is over before it is read.
        if !self.is_under_way(last) {
            self.files_text(&mut text);
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

    fn files_text(&self, text: &mut String) {
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
        for file in self.not_stored.iter().take(NAMED) {
            let _ = writeln!(
                text,
                "{}: {}: {}: {}",
                file.outcome.label(),
                file.rule,
                file.path,
                file.reason.map_or("".into(), shown)
            );
        }
        more(text, "not stored", self.not_stored.len());
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
