//! The ledger of a manifest's stream of runs, for the commands that read it back.

use super::draft::ledger_failure;
use super::look::{read_manifest, state_folder};
use crate::cli::StreamSettings;
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, LedgerError, RunKind, RunRecord, SqliteLedger, StateFolder};
use crate::manifest::{self, Given};
use crate::model::shown;

/// A manifest's name, and the state folder that its runs use.
#[derive(Debug)]
pub(super) struct Stream {
    pub name: String,
    pub state: StateFolder,
}

impl Stream {
    /// Reads no more of the manifest than its name: what else may be wrong with it does not
    /// matter here.
    pub(super) fn of(settings: &StreamSettings) -> Result<Self, Failure> {
        let source = read_manifest(&settings.manifest)?;
        let reading = manifest::read(
            &source,
            &settings.manifest,
            Given::environment(&settings.environment),
        );
        // Where nothing of it can be read, neither can its name.
        if reading.manifest.rules.is_empty() && !reading.diagnostics.is_empty() {
            let problems = source.render(&reading.diagnostics);
            return Err(Failure::new(
                Exit::Invalid,
                format!("the manifest cannot be read\n{problems}"),
            ));
        }
        Ok(Self {
            name: reading.manifest.name,
            state: state_folder(&settings.manifest, settings.state.as_deref())?,
        })
    }

    /// The ledger, to read from.
    pub(super) fn read(&self) -> Result<SqliteLedger, Failure> {
        SqliteLedger::open_read_only(&self.state.ledger())
            .map_err(|error| ledger_failure(&error))?
            .ok_or_else(|| no_ledger(&self.state))
    }

    /// The runs that uploaded, the latest first.
    pub(super) fn applied(&self, ledger: &SqliteLedger) -> Result<Vec<RunRecord>, Failure> {
        let mut runs = ledger
            .runs(&self.name)
            .map_err(|error| ledger_failure(&error))?;
        runs.retain(|run| run.kind == RunKind::Apply);
        Ok(runs)
    }
}

/// That there is a ledger, before its folder is locked.
pub(super) fn require_ledger(state: &StateFolder) -> Result<(), Failure> {
    match SqliteLedger::open_read_only(&state.ledger()) {
        Ok(None) => Err(no_ledger(state)),
        // An older one is brought up to date when it is opened to write.
        Ok(Some(_)) | Err(LedgerError::Older { .. }) => Ok(()),
        Err(error) => Err(ledger_failure(&error)),
    }
}

fn no_ledger(state: &StateFolder) -> Failure {
    let folder = state.path().to_string_lossy();
    Failure::new(
        Exit::LocalIo,
        format!("there is no ledger in {}", shown(&folder)),
    )
    .hint("name the manifest of an earlier run, or its --state")
}
