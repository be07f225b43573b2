//! `report`: any run's report, or the map of all files, from the ledger.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use super::draft::{in_use, ledger_failure};
use super::reports::report_failure;
use super::said;
use super::stream::Stream;
use crate::cli::{ReportSettings, Which};
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, RunRecord, RunRow, SqliteLedger};
use crate::model::{ReportFormat, RunId, shown};
use crate::report::{About, Counts, Header, Printout, Reports, Row, row_of_ledger};

/// Rebuilds a report.
pub(super) fn report(settings: &ReportSettings) -> Result<Exit, Failure> {
    let stream = Stream::of(&settings.stream)?;
    let ledger = stream.read()?;
    let (about, run) = match &settings.which {
        Which::All => {
            let about = About {
                manifest: stream.name.clone(),
                ..About::default()
            };
            (about, None)
        }
        Which::Latest | Which::Run(_) => {
            let run = chosen(&stream.applied(&ledger)?, &settings.which)?;
            (about(&run), Some(run.run))
        }
    };
    if let Some(holder) = stream.state.holder().map_err(|e| ledger_failure(&e))? {
        super::narrate(&in_use(&holder));
    }
    let found = Found {
        ledger: &ledger,
        run,
        about,
    };
    if let Some(path) = &settings.out {
        let Some(format) = settings.format.or_else(|| format_of(path)) else {
            return Err(
                Failure::new(Exit::Usage, "the extension of the report chooses no format")
                    .hint(format!("{}, or say --format", ReportFormat::EXTENSIONS)),
            );
        };
        found.write(path, format)?;
    } else {
        found.print(settings.format.unwrap_or(ReportFormat::Csv))?;
    }
    Ok(Exit::Done)
}

/// What the report is of.
struct Found<'a> {
    ledger: &'a SqliteLedger,
    /// None for all files.
    run: Option<RunId>,
    about: About,
}

impl Found<'_> {
    fn write(self, path: &Path, format: ReportFormat) -> Result<(), Failure> {
        let mut reports = Reports::begin(&[(path.to_owned(), format)]);
        let header = self.rows(|row| {
            reports.row(row);
            ControlFlow::Continue(())
        })?;
        for (path, result) in reports.finish(&header) {
            result.map_err(|error| report_failure(&path, &error))?;
        }
        Ok(())
    }

    fn print(self, format: ReportFormat) -> Result<(), Failure> {
        let mut printout = Printout::begin(io::stdout().lock(), format);
        let mut result = Ok(());
        let header = self.rows(|row| {
            result = printout.row(row);
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        said(result.and_then(|()| printout.finish(&header).map(drop)))
    }

    /// Hands over the rows, and counts them.
    fn rows(self, mut take: impl FnMut(&Row<'_>) -> ControlFlow<()>) -> Result<Header, Failure> {
        let mut counts = Counts::default();
        let mut each = |row: RunRow<'_>| {
            let row = row_of_ledger(&row);
            counts.add(&row);
            take(&row)
        };
        match &self.run {
            Some(run) => self.ledger.each_row(run, &mut each),
            None => self.ledger.each_file(&mut each),
        }
        .map_err(|error| ledger_failure(&error))?;
        Ok(Header::new(self.about, &counts))
    }
}

fn format_of(path: &Path) -> Option<ReportFormat> {
    ReportFormat::of_path(&path.to_string_lossy())
}

fn chosen(runs: &[RunRecord], which: &Which) -> Result<RunRecord, Failure> {
    let found: Vec<&RunRecord> = match which {
        Which::Run(id) => runs
            .iter()
            .filter(|run| run.run.as_str().starts_with(id.as_str()))
            .collect(),
        _ => runs.iter().take(1).collect(),
    };
    match (found.as_slice(), which) {
        ([one], _) => Ok((*one).clone()),
        ([], Which::Run(id)) => Err(Failure::new(
            Exit::Usage,
            format!("there is no run \"{}\" of this manifest", shown(id)),
        )
        .hint("`roe-batch status MANIFEST` lists the runs")),
        ([], _) => Err(Failure::new(Exit::Usage, "this manifest has no runs yet")),
        (_, _) => Err(
            Failure::new(Exit::Usage, "several runs have ids that begin like this")
                .hint("give more of the id"),
        ),
    }
}

pub(super) fn about(run: &RunRecord) -> About {
    About {
        manifest: run.stream.clone(),
        run_id: Some(run.run.clone()),
        started: Some(run.started),
        finished: run.ended,
        vanished: run.vanished,
        stopped: run.stopped.clone(),
        exit_code: run.exit_code,
        pauses: None,
    }
}
