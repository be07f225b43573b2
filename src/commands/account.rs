//! What is known of one manifest's run, gathered while it goes on, for those who are told of it when
//! it is over: metrics and hooks.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::draft::Draft;
use super::look::state_folder;
use super::run::SystemClock;
use super::service;
use crate::cli::{ApplySettings, LookSettings};
use crate::diagnostic::Source;
use crate::ledger::{Ledger, RunKind, SqliteLedger, StateFolder};
use crate::manifest::{self, Given, Hook};
use crate::model::{Clock, Doubt, RunId};
use crate::report::{Header, Summary, Told};

/// One manifest's run.
#[derive(Debug)]
pub(super) struct Account {
    pub manifest: String,
    pub hooks: Vec<Hook>,
    /// The manifest's folder, in which its commands run.
    pub folder: PathBuf,
    pub run: RunId,
    pub started: Timestamp,
    service: String,
    state: StateFolder,
    past: Option<Past>,
    ended: Option<Ended>,
    /// Whether nothing more is to be begun.
    pub is_urgent: bool,
}

/// What the ledger knows of earlier runs.
#[derive(Debug, Clone, Copy)]
struct Past {
    last_success: Option<Timestamp>,
    last_exit: LastExit,
    in_doubt: usize,
}

/// How the run before ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastExit {
    /// With this exit code; the first run's is preceded by a good end.
    Code(u8),
    /// It died, or nobody knows.
    Unknown,
}

/// How a run ended that came to its reports.
#[derive(Debug)]
pub(super) struct Ended {
    pub header: Header,
    pub in_doubt: usize,
    pub retries: u64,
    pub reports: Vec<PathBuf>,
}

impl Account {
    /// Of a run whose manifest is understood.
    pub(super) fn of(draft: &Draft<'_>) -> Self {
        Self {
            manifest: draft.manifest.name.clone(),
            hooks: draft.manifest.hooks.clone(),
            folder: folder_of(&draft.path),
            run: draft.run.clone(),
            started: draft.started,
            service: draft.origin.to_string(),
            state: draft.state.clone(),
            past: None,
            ended: None,
            is_urgent: false,
        }
    }

    /// Of a run that was given up before its manifest was looked at closely, as far as it can be
    /// understood.
    pub(super) fn of_source(
        settings: &ApplySettings,
        (path, source): (&Path, &Source),
        started: Timestamp,
    ) -> Option<Self> {
        let LookSettings {
            state,
            environment,
            set,
            ..
        } = &settings.plan.look;
        let state = state_folder(path, state.as_deref()).ok()?;
        let endpoint = service::endpoint(&settings.plan.service).ok()?;
        let manifest = manifest::read(source, path, Given { environment, set }).manifest;
        Some(Self {
            manifest: manifest.name,
            hooks: manifest.hooks,
            folder: folder_of(path),
            run: RunId::new(uuid::Uuid::now_v7().to_string()),
            started,
            service: service::origin(endpoint.as_ref()).to_string(),
            state,
            past: None,
            ended: None,
            is_urgent: false,
        })
    }

    /// Takes in what the ledger knows before the run is written down. What it cannot say is left
    /// open: it says so itself where it matters.
    pub(super) fn remember(&mut self, ledger: &dyn Ledger, doubts: &[Doubt]) {
        let Ok(runs) = ledger.runs(&self.manifest) else {
            return;
        };
        let mut runs = runs.iter().filter(|run| run.kind == RunKind::Apply);
        let last_exit = match runs.clone().next() {
            None => LastExit::Code(0),
            Some(run) => run.exit_code.map_or(LastExit::Unknown, LastExit::Code),
        };
        self.past = Some(Past {
            last_success: runs
                .find(|run| run.exit_code == Some(0))
                .and_then(|run| run.ended),
            last_exit,
            in_doubt: doubts
                .iter()
                .filter(|doubt| doubt.stream == self.manifest)
                .count(),
        });
    }

    /// As [`Self::remember`], where the run came to its end without the ledger.
    pub(super) fn look_back(&mut self) {
        if self.past.is_some() {
            return;
        }
        if let Ok(Some(ledger)) = SqliteLedger::open_read_only(&self.state.ledger())
            && let Ok(doubts) = ledger.doubts()
        {
            self.remember(&ledger, &doubts);
        }
    }

    pub(super) fn end(&mut self, ended: Ended) {
        self.ended = Some(ended);
    }

    /// Whether it came to its reports.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    pub(super) fn last_exit(&self) -> LastExit {
        self.past.map_or(LastExit::Unknown, |past| past.last_exit)
    }

    /// What is told of it.
    pub(super) fn summary(&self, exit_code: u8, failure: Option<&str>) -> Summary {
        let ended = self.ended.as_ref();
        Summary::new(Told {
            manifest: &self.manifest,
            service: &self.service,
            run: &self.run,
            started: self.started,
            finished: ended
                .and_then(|ended| ended.header.finished)
                .unwrap_or_else(|| SystemClock.now()),
            exit_code,
            header: ended.map(|ended| &ended.header),
            in_doubt: match ended {
                Some(ended) => Some(ended.in_doubt),
                None => self.past.map(|past| past.in_doubt),
            },
            retries: ended.map(|ended| ended.retries),
            failure,
            reports: ended
                .into_iter()
                .flat_map(|ended| &ended.reports)
                .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()))
                .map(|path| path.to_string_lossy().into_owned())
                .collect(),
            last_success: self.past.and_then(|past| past.last_success),
        })
    }
}

/// The folder that a manifest's paths are relative to.
fn folder_of(manifest: &Path) -> PathBuf {
    let folder = manifest.parent().unwrap_or(Path::new(""));
    std::path::absolute(Path::new(".").join(folder)).unwrap_or_else(|_| folder.to_owned())
}
