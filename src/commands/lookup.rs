//! What looking for files in doubt needs of ledger and disk.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::execute::Past;
use crate::ledger::{Ledger, SqliteLedger, StateFolder};
use crate::model::{Doubt, FileId, FileIds, SourcePath, Target};
use crate::source::open_source;
use crate::spill::Spill;
use crate::verify::{Algorithm, Hashes, LocalFiles, Sample, tells};

/// How far two looks that do not show a file must lie apart, unless told otherwise.
pub(super) const SETTLE: std::time::Duration = std::time::Duration::from_mins(2);

/// Files that are enough to learn from.
const SAMPLES: usize = 3;

/// Files by the paths that the ledger knows them by.
#[derive(Debug)]
pub(super) struct Home(PathBuf);

impl Home {
    pub(super) fn of(state: &StateFolder) -> Self {
        Self(state.home().to_owned())
    }
}

impl LocalFiles for Home {
    fn hashes(&self, path: &SourcePath, algorithms: &[Algorithm]) -> Option<Hashes> {
        let file = open_source(&self.0, path).ok()?;
        Hashes::read(file, algorithms).ok()
    }
}

/// Files stored so long before the oldest doubt began are too old to be mistaken for one in doubt.
const LONG_BEFORE: SignedDuration = SignedDuration::from_hours(24);

/// What the ledger says of earlier runs, read when it is asked for, by a connection of its own.
#[derive(Debug)]
pub(super) struct History<'a> {
    ledger: PathBuf,
    /// Where ids go that do not fit into memory.
    spill: &'a Arc<Spill>,
    /// Since when.
    since: Timestamp,
    targets: RefCell<HashMap<Target, Known>>,
}

#[derive(Debug)]
struct Known {
    ids: FileIds,
    unnamed: Vec<Doubt>,
    samples: Vec<Sample>,
}

impl<'a> History<'a> {
    /// As far back as these doubts, and those of a run that begins now, need it.
    pub(super) fn of(
        state: &StateFolder,
        spill: &'a Arc<Spill>,
        doubts: &[Doubt],
        now: Timestamp,
    ) -> Self {
        let began = doubts.iter().map(|doubt| doubt.began);
        let since = began.fold(now, Timestamp::min);
        Self {
            ledger: state.ledger(),
            spill,
            since: since.saturating_sub(LONG_BEFORE).unwrap_or(Timestamp::MIN),
            targets: RefCell::default(),
        }
    }
}

impl Past for History<'_> {
    fn prepare(&self, target: &Target) -> Result<(), String> {
        if self.targets.borrow().contains_key(target) {
            return Ok(());
        }
        let read = || -> Result<Known, String> {
            let ledger = SqliteLedger::open_read_only(&self.ledger)
                .map_err(|error| error.to_string())?
                .ok_or("there is no ledger")?;
            let mut samples = ledger
                .stored_samples(target)
                .map_err(|error| error.to_string())?;
            // Stable: the smallest of either kind come first.
            samples.sort_by_key(|sample| !tells(&sample.remote_name));
            samples.truncate(SAMPLES);
            let sample = |sample: crate::ledger::StoredSample| Sample {
                id: sample.file_id,
                remote_name: sample.remote_name,
                path: sample.path,
                digest: sample.digest,
                metadata: sample.metadata,
                planted: sample.planted,
            };
            let mut ids = FileIds::new(self.spill);
            ledger
                .each_id(target, self.since, &mut |id| ids.insert(id))
                .map_err(|error| error.to_string())?;
            Ok(Known {
                ids,
                unnamed: ledger
                    .unnamed(target, self.since)
                    .map_err(|error| error.to_string())?,
                samples: samples.into_iter().map(sample).collect(),
            })
        };
        let known = read()?;
        self.targets.borrow_mut().insert(target.clone(), known);
        Ok(())
    }

    fn has(&self, target: &Target, id: &FileId) -> bool {
        let targets = self.targets.borrow();
        targets
            .get(target)
            .is_some_and(|known| known.ids.contains(id))
    }

    fn unnamed(&self, target: &Target) -> Vec<Doubt> {
        let targets = self.targets.borrow();
        targets
            .get(target)
            .map_or_else(Vec::new, |known| known.unnamed.clone())
    }

    fn samples(&self, target: &Target) -> Vec<Sample> {
        let targets = self.targets.borrow();
        targets
            .get(target)
            .map_or_else(Vec::new, |known| known.samples.clone())
    }
}
