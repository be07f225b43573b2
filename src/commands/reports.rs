//! Where reports go, and what a run's summary says.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::draft::Draft;
use crate::cli::ApplySettings;
use crate::error::{Exit, Failure};
use crate::execute::{Ends, RowEnd, Written};
use crate::ledger::{Ledger, LedgerError, RunRow};
use crate::manifest::{self, ReportPath};
use crate::model::{
    AttemptId, Difference, End, Gravity, HumanBytes, JobEnd, Outcome, ReportFormat, RunId,
    StopCause, count, shown,
};
use crate::plan::Plan;
use crate::progress::Recent;
use crate::report::{self, Counts, Header, Reports, Row, row_of_ledger, row_of_plan};
use crate::template::Values;

/// Files that are named on the screen for each way of not being stored.
const NAMED: usize = 10;

/// Where reports go: the manifest's places, or the default ones, and those of the command line.
pub(super) fn report_paths(
    settings: &ApplySettings,
    draft: &Draft<'_>,
) -> Result<Vec<(PathBuf, ReportFormat)>, Failure> {
    let folder = draft.path.parent().unwrap_or(Path::new(""));
    let mut paths = Vec::new();
    for report in &draft.manifest.reports {
        let run = (&draft.run, draft.started);
        let path = report_path(report, &draft.manifest.name, run, folder)?;
        paths.push((path, report.format));
    }
    if paths.is_empty() {
        // By the manifest's file name: several manifests may share a state folder.
        for (extension, format) in [("csv", ReportFormat::Csv), ("json", ReportFormat::Json)] {
            let is_stdin = draft.path.as_os_str() == manifest::STDIN;
            let stem = draft.path.file_stem().filter(|_| !is_stdin);
            let mut name = stem.unwrap_or("stdin".as_ref()).to_owned();
            name.push(format!(".{extension}"));
            paths.push((draft.state.reports().join(name), format));
        }
    }
    for path in &settings.reports {
        let name = path.to_string_lossy();
        let format = ReportFormat::of_path(&name).ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!(
                    "the extension of the report {} chooses no format",
                    shown(&name)
                ),
            )
            .hint(ReportFormat::EXTENSIONS)
        })?;
        paths.push((path.clone(), format));
    }
    Ok(paths)
}

/// Where one of the manifest's reports of a run goes.
pub(super) fn report_path(
    report: &ReportPath,
    manifest: &str,
    run: (&RunId, Timestamp),
    folder: &Path,
) -> Result<PathBuf, Failure> {
    let values = Values {
        manifest,
        run: Some(run),
        ..Values::default()
    };
    let path = report.path.render(&values);
    path.map(|path| folder.join(path))
        .map_err(|why| Failure::new(Exit::Invalid, format!("a report's path: {why}")))
}

/// A report that could not be written, as a user sees it.
pub(super) fn report_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::LocalIo,
        format!("the report {} cannot be written: {error}", near(path)),
    )
}

/// Where the rows of a run's report are read from.
#[derive(Debug, Clone, Copy)]
pub(super) enum RowsOf<'a> {
    /// What the ledger has of it.
    Ledger(&'a dyn Ledger, &'a RunId),
    /// Its plan alone, where the ledger cannot be read.
    Plan(&'a Plan<'a>),
}

/// How a row ended of which the ledger has the rest, where that cannot be read.
fn without_ledger(written: Written) -> JobEnd {
    let outcome = written.outcome();
    let what = if outcome == Outcome::Stored {
        "its id"
    } else {
        "the reason"
    };
    let why = format!("{what} is in the ledger, which cannot be read");
    JobEnd {
        difference: written.difference(),
        ..JobEnd::without_attempt(outcome, Some(why))
    }
}

/// What became of a run, row by row: its reports, which lack only their headers, and what its
/// summary says.
#[derive(Debug)]
pub(super) struct Gathered<'a> {
    pub counts: Counts,
    pub reports: Reports,
    /// Attempts in doubt that no row tells of.
    pub unplanned: HashSet<AttemptId>,
    /// Attempts after the first of a file.
    pub retries: u64,
    told: Told,
    recent: &'a Recent,
}

/// The rows that a summary names.
#[derive(Debug, Default)]
struct Told {
    /// Rows with a file's id, by outcome.
    ids: BTreeMap<Outcome, usize>,
    /// The first of those that need a look.
    named: BTreeMap<Outcome, Vec<String>>,
    /// The first of those that are stored, but not as sent.
    astray: Vec<String>,
    /// How many the reader still has before the eyes.
    in_sight: BTreeMap<Outcome, usize>,
}

/// Goes through the rows of a run once, and begins to write its reports. `unplanned` is what is in
/// doubt at its targets; `ends` is how rows ended, for all that is known beside where they are read
/// from. What was told a moment ago is not named again.
///
/// # Errors
///
/// The ledger cannot be read; nothing is written then.
pub(super) fn gather<'a>(
    rows: RowsOf<'_>,
    ends: &Ends,
    causes: &[StopCause],
    unplanned: HashSet<AttemptId>,
    places: &[(PathBuf, ReportFormat)],
    recent: &'a Recent,
) -> Result<Gathered<'a>, LedgerError> {
    let mut gathered = Gathered {
        recent,
        counts: Counts::default(),
        reports: Reports::begin(places),
        unplanned,
        retries: 0,
        told: Told::default(),
    };
    let causes: Vec<String> = causes.iter().map(ToString::to_string).collect();
    let unattempted = match causes.as_slice() {
        [] => JobEnd::BEFORE_ITS_TURN.to_owned(),
        causes => causes.join("; "),
    };
    match rows {
        RowsOf::Ledger(ledger, run) => {
            let mut index = 0;
            ledger.each_row(run, &mut |row| {
                let end = match ends.get(index) {
                    RowEnd::Told(end) => End::from(end),
                    // That the run ends is not written down yet.
                    _ if row.end.reason == Some(JobEnd::BEFORE_ITS_TURN) => End {
                        reason: Some(&unattempted),
                        ..row.end
                    },
                    // The ledger has in words what follows from it.
                    RowEnd::Written(written) => End {
                        difference: written.difference(),
                        ..row.end
                    },
                    RowEnd::AsPlanned => row.end,
                };
                let row = RunRow { end, ..row };
                gathered.add(&row_of_ledger(&row));
                index += 1;
                ControlFlow::Continue(())
            })?;
        }
        RowsOf::Plan(plan) => {
            for (index, file) in plan.files().enumerate() {
                match ends.get(index) {
                    RowEnd::Told(end) => gathered.add(&row_of_plan(&plan.rules, &file, end)),
                    RowEnd::Written(written) => {
                        let end = without_ledger(written);
                        gathered.add(&Row {
                            attempts: None,
                            ..row_of_plan(&plan.rules, &file, &end)
                        });
                    }
                    RowEnd::AsPlanned => {
                        let mut end = report::unattempted(&file);
                        if end.outcome == Outcome::NotAttempted {
                            end.reason = Some(unattempted.clone());
                        }
                        gathered.add(&row_of_plan(&plan.rules, &file, &end));
                    }
                }
            }
        }
    }
    Ok(gathered)
}

impl Gathered<'_> {
    fn add(&mut self, row: &Row<'_>) {
        self.counts.add(row);
        self.reports.row(row);
        self.told.add(row, self.recent);
        let attempts = row.attempts.unwrap_or(0);
        self.retries += u64::from(attempts.saturating_sub(1));
        if !self.unplanned.is_empty()
            && let Some(attempt) = row.request_id
        {
            self.unplanned.remove(&AttemptId::new(attempt));
        }
    }

    /// Puts the reports in their places, and says what the run came to.
    pub(super) fn finish(self, header: &Header, causes: &[StopCause], drifted: usize) -> Concluded {
        let summary = summary(
            header,
            &self.told,
            &self.counts,
            causes,
            Beside {
                unplanned_doubts: self.unplanned.len(),
                drifted,
            },
        );
        let mut concluded = Concluded {
            summary,
            reports: Vec::new(),
            failures: Vec::new(),
        };
        for (path, result) in self.reports.finish(header) {
            match result {
                Ok(()) => {
                    let _ = writeln!(concluded.summary, "report: {}", near(&path));
                    concluded.reports.push(path);
                }
                Err(error) => concluded.failures.push(report_failure(&path, &error)),
            }
        }
        concluded
    }
}

/// What is said of a run that is over.
#[derive(Debug)]
pub(super) struct Concluded {
    pub summary: String,
    /// The reports that were written.
    pub reports: Vec<PathBuf>,
    /// The reports that could not be written.
    pub failures: Vec<Failure>,
}

impl Told {
    fn add(&mut self, row: &Row<'_>, recent: &Recent) {
        if row.file_id.is_some() {
            *self.ids.entry(row.outcome).or_default() += 1;
        }
        let why = || shown(row.reason.unwrap_or_default());
        let needs_a_look = matches!(
            row.outcome,
            Outcome::Rejected | Outcome::Failed | Outcome::InDoubt
        );
        let gravity = row.difference.map(Difference::gravity);
        let is_astray = gravity == Some(Gravity::FailsRun);
        if (needs_a_look || is_astray) && recent.has(row.rule, row.path, row.outcome) {
            *self.in_sight.entry(row.outcome).or_default() += 1;
            return;
        }
        if needs_a_look {
            let named = self.named.entry(row.outcome).or_default();
            if named.len() < NAMED {
                let label = row.outcome.label();
                named.push(format!("{label}: {}: {}", named_row(row), why()));
            }
        }
        if is_astray && self.astray.len() < NAMED {
            self.astray.push(format!("{}: {}", named_row(row), why()));
        }
    }
}

/// What a summary says beside a run's outcomes.
#[derive(Debug, Clone, Copy)]
struct Beside {
    /// Files in doubt that are no longer in the plan.
    unplanned_doubts: usize,
    /// Skipped files of which something changed.
    drifted: usize,
}

/// What the run came to, for people.
fn summary(
    header: &Header,
    told: &Told,
    counts: &Counts,
    causes: &[StopCause],
    beside: Beside,
) -> String {
    let mut text = String::new();
    let name = shown(&header.manifest);
    let _ = writeln!(text, "{name}: {} planned", count(header.planned, "file"));
    let ids = |outcome| count(told.ids.get(&outcome).copied().unwrap_or(0), "file ID");
    for outcome in Outcome::ALL {
        let files = counts.files(outcome);
        if files == 0 {
            continue;
        }
        let _ = write!(text, "  {:<14}{files:>8}", outcome.label());
        let _ = match outcome {
            Outcome::Stored => writeln!(
                text,
                "   {}, {}",
                HumanBytes(counts.bytes(outcome)),
                ids(outcome)
            ),
            Outcome::Skipped => writeln!(text, "   stored before, {}", ids(outcome)),
            _ => writeln!(text),
        };
    }
    if beside.drifted > 0 {
        let _ = writeln!(
            text,
            "{} skipped though content or metadata differ from what was stored; `plan` shows which",
            count(beside.drifted, "file")
        );
    }
    if header.vanished > 0 {
        let _ = writeln!(
            text,
            "{} stored before {} gone from the source; nothing was done about that",
            count(header.vanished, "file"),
            if header.vanished == 1 { "is" } else { "are" }
        );
    }
    if header.planned > 0 && counts.files(Outcome::Skipped) == header.planned {
        text.push_str("nothing to upload\n");
    }
    for cause in causes {
        let _ = writeln!(text, "ended early: {cause}");
    }
    let in_sight = |outcome| told.in_sight.get(&outcome).copied().unwrap_or(0);
    for outcome in [Outcome::Rejected, Outcome::Failed, Outcome::InDoubt] {
        let named = told.named.get(&outcome).map_or(&[][..], Vec::as_slice);
        for line in named {
            let _ = writeln!(text, "{line}");
        }
        let more = counts.files(outcome) - named.len() - in_sight(outcome);
        if more > 0 {
            let _ = writeln!(text, "{}: … and {more} more in the report", outcome.label());
        }
    }
    for line in &told.astray {
        let _ = writeln!(text, "{line}");
    }
    let more = counts.astray() - told.astray.len() - in_sight(Outcome::Stored);
    if more > 0 {
        let _ = writeln!(
            text,
            "stored, but not as sent: … and {more} more in the report"
        );
    }
    if beside.unplanned_doubts > 0 {
        let _ = writeln!(
            text,
            "{} of earlier runs in doubt, and not in this plan",
            count(beside.unplanned_doubts, "file")
        );
    }
    if counts.files(Outcome::InDoubt) + beside.unplanned_doubts > 0 {
        text.push_str("`roe-batch resolve MANIFEST` lists what is in doubt, and settles it\n");
    }
    text
}

/// A path as a reader would write it: relative where it lies below the working folder.
pub(super) fn near(path: &Path) -> String {
    let here = std::path::absolute(".").unwrap_or_default();
    let path = path.strip_prefix(here).unwrap_or(path);
    shown(&path.to_string_lossy()).into_owned()
}

fn named_row(row: &Row<'_>) -> String {
    format!("{}: {}", shown(row.rule), shown(row.path))
}
