//! `report`: any run's report, or the map of all files, from the ledger.

use super::draft::{in_use, ledger_failure};
use super::reports::report_failure;
use super::say_bytes;
use super::stream::Stream;
use crate::cli::{ReportSettings, Which};
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, RunRecord};
use crate::model::{ReportFormat, shown};
use crate::report::{self, About, Counts, Header, rows_of_ledger};

/// Rebuilds a report.
pub(super) fn report(settings: &ReportSettings) -> Result<Exit, Failure> {
    let stream = Stream::of(&settings.stream)?;
    let ledger = stream.read()?;
    let (about, found) = match &settings.which {
        Which::All => {
            let about = About {
                manifest: stream.name.clone(),
                ..About::default()
            };
            (about, ledger.files())
        }
        Which::Latest | Which::Run(_) => {
            let run = chosen(&stream.applied(&ledger)?, &settings.which)?;
            (about(&run), ledger.rows(&run.run))
        }
    };
    let found = found.map_err(|error| ledger_failure(&error))?;
    if let Some(holder) = stream.state.holder().map_err(|e| ledger_failure(&e))? {
        super::narrate(&in_use(&holder));
    }
    let rows = rows_of_ledger(&found);
    let header = Header::new(about, &Counts::of(&rows));
    if let Some(path) = &settings.out {
        let Some(format) = settings.format.or_else(|| format_of(path)) else {
            return Err(
                Failure::new(Exit::Usage, "the extension of the report chooses no format")
                    .hint("end the path with .csv, .json or .jsonl, or say --format"),
            );
        };
        report::write(path, format, &header, &rows)
            .map_err(|error| report_failure(path, &error))?;
    } else {
        let format = settings.format.unwrap_or(ReportFormat::Csv);
        let mut text = Vec::new();
        report::render(&mut text, format, &header, &rows)
            .map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
        say_bytes(&text)?;
    }
    Ok(Exit::Done)
}

fn format_of(path: &std::path::Path) -> Option<ReportFormat> {
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
    }
}
