//! Where reports go, and what a run's summary says.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use super::draft::Draft;
use crate::cli::ApplySettings;
use crate::error::{Exit, Failure};
use crate::manifest;
use crate::model::{
    Difference, Gravity, HumanBytes, Outcome, ReportFormat, RuleName, SourcePath, StopCause, count,
    shown,
};
use crate::report::{Counts, Header, Row};
use crate::template::Values;

/// Files that are named on the screen for each way of not being stored.
const NAMED: usize = 10;

/// Where reports go: the manifest's places, or the default ones, and those of the command line.
pub(super) fn report_paths(
    settings: &ApplySettings,
    draft: &Draft<'_>,
) -> Result<Vec<(PathBuf, ReportFormat)>, Failure> {
    let values = Values {
        manifest: &draft.manifest.name,
        run: Some((&draft.run, draft.started)),
        ..Values::default()
    };
    let folder = draft.path.parent().unwrap_or(Path::new(""));
    let mut paths = Vec::new();
    for report in &draft.manifest.reports {
        let path = report
            .path
            .render(&values)
            .map_err(|why| Failure::new(Exit::Invalid, format!("a report's path: {why}")))?;
        paths.push((folder.join(path), report.format));
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
            .hint("end the path with .csv, .json or .jsonl")
        })?;
        paths.push((path.clone(), format));
    }
    Ok(paths)
}

/// A report that could not be written, as a user sees it.
pub(super) fn report_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::LocalIo,
        format!("the report {} cannot be written: {error}", near(path)),
    )
}

/// What a summary says beside a run's outcomes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside {
    /// Files in doubt that are no longer in the plan.
    pub unplanned_doubts: usize,
    /// Skipped files of which something changed.
    pub drifted: usize,
}

/// What the run came to, for people.
pub(super) fn summary(
    header: &Header,
    rows: &[Row<'_>],
    counts: &Counts,
    causes: &[StopCause],
    beside: Beside,
    reports: &[&Path],
) -> String {
    let mut text = String::new();
    let name = shown(&header.manifest);
    let _ = writeln!(text, "{name}: {} planned", count(header.planned, "file"));
    let ids = |outcome| {
        let with_id = |row: &&Row<'_>| row.outcome == outcome && row.file_id.is_some();
        count(rows.iter().filter(with_id).count(), "file ID")
    };
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
    for outcome in [Outcome::Rejected, Outcome::Failed, Outcome::InDoubt] {
        let of_kind: Vec<&Row<'_>> = rows.iter().filter(|row| row.outcome == outcome).collect();
        for row in of_kind.iter().take(NAMED) {
            let why = shown(row.reason.as_deref().unwrap_or_default());
            let _ = writeln!(
                text,
                "{}: {}: {why}",
                outcome.label(),
                named(row.rule, row.path)
            );
        }
        if of_kind.len() > NAMED {
            let more = of_kind.len() - NAMED;
            let _ = writeln!(text, "{}: … and {more} more in the report", outcome.label());
        }
    }
    let astray =
        |row: &&Row<'_>| row.difference.map(Difference::gravity) == Some(Gravity::FailsRun);
    for row in rows.iter().filter(astray).take(NAMED) {
        let why = shown(row.reason.as_deref().unwrap_or_default());
        let _ = writeln!(text, "{}: {why}", named(row.rule, row.path));
    }
    if counts.astray() > NAMED {
        let more = counts.astray() - NAMED;
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
    for path in reports {
        let _ = writeln!(text, "report: {}", near(path));
    }
    text
}

/// A path as a reader would write it: relative where it lies below the working folder.
pub(super) fn near(path: &Path) -> String {
    let here = std::path::absolute(".").unwrap_or_default();
    let path = path.strip_prefix(here).unwrap_or(path);
    shown(&path.to_string_lossy()).into_owned()
}

fn named(rule: &RuleName, path: &SourcePath) -> String {
    format!("{rule}: {path}")
}
