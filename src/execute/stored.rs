//! What a run stored: to learn from, and not to take for something else.

use std::sync::Arc;

use super::attempt::is_read_whole;
use crate::model::{FileId, FileIds, Target};
use crate::plan::Plan;
use crate::verify::Sample;

/// Samples of what this run stored that are kept for each target.
const SAMPLES: usize = 2;

/// What a run stored, by target: they are few, and most are the one that was met last.
#[derive(Debug, Default)]
pub(super) struct Stored(Vec<(Arc<Target>, StoredThere)>);

/// What a run stored in one target.
#[derive(Debug)]
pub(super) struct StoredThere {
    /// Every id that is known.
    pub ids: FileIds,
    /// A few files that tell much.
    pub samples: Vec<Sample>,
    /// Files that could have been samples by their size, met while `samples` were too few.
    met: usize,
}

/// So many files are looked at one by one for whether they are good samples: that takes a while, and
/// where names tell little all of a batch's do.
const LOOKED_AT_FIRST: usize = 256;

/// After those, one of so many.
const LOOKED_AT_LATER: usize = 64;

impl StoredThere {
    fn new(ids: FileIds) -> Self {
        Self {
            ids,
            samples: Vec::new(),
            met: 0,
        }
    }

    /// Whether the next file that was stored, of so many bytes, is to be looked at.
    pub(super) fn wants_a_sample(&mut self, size: u64) -> bool {
        // To tell by the size takes no look, so it uses none up.
        let can_be_one = size > 0 && is_read_whole(size);
        if !can_be_one || self.samples.len() >= SAMPLES {
            return false;
        }
        self.met += 1;
        self.met <= LOOKED_AT_FIRST || self.met.is_multiple_of(LOOKED_AT_LATER)
    }
}

impl Stored {
    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is stored in a target of a plan, to add to it.
    pub(super) fn at(&mut self, target: &Arc<Target>, plan: &Plan<'_>) -> &mut StoredThere {
        let found = self.0.iter().position(|(met, _)| Arc::ptr_eq(met, target));
        let found = found.or_else(|| self.0.iter().position(|(met, _)| met == target));
        let place = found.unwrap_or_else(|| {
            let there = StoredThere::new(plan.file_ids());
            self.0.push((Arc::clone(target), there));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }

    fn get(&self, target: &Target) -> Option<&StoredThere> {
        let mut there = self.0.iter();
        let found = there.find(|(met, _)| **met == *target);
        found.map(|(_, there)| there)
    }

    /// The samples of a target.
    pub(super) fn samples(&self, target: &Target) -> &[Sample] {
        self.get(target).map_or(&[], |there| &there.samples)
    }

    /// Whether a file of a target was stored by this run.
    pub(super) fn has(&self, target: &Target, id: &FileId) -> bool {
        self.get(target).is_some_and(|there| there.ids.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_names_tell_little_few_files_are_looked_at() {
        let mut there = StoredThere::new(FileIds::new(&Arc::default()));
        let looked_at = (0..10_000).filter(|_| there.wants_a_sample(1)).count();
        assert_eq!(looked_at, 256 + (10_000 - 256) / 64);
    }

    #[test]
    fn among_many_files_that_are_no_samples_by_their_size_the_first_that_can_be_is_looked_at() {
        let mut there = StoredThere::new(FileIds::new(&Arc::default()));
        for _ in 0..10_000 {
            assert!(!there.wants_a_sample(0));
            assert!(!there.wants_a_sample(64 * 1024 + 1));
        }
        assert!(there.wants_a_sample(64 * 1024));
        assert!(there.wants_a_sample(1));
    }
}
