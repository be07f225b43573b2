//! What a run stored: to learn from, and not to take for something else.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::{FileId, Target};
use crate::verify::Sample;

/// Samples of what this run stored that are kept for each target.
const SAMPLES: usize = 2;

/// What a run stored, by target: they are few, and most are the one that was met last.
#[derive(Debug, Default)]
pub(super) struct Stored(Vec<(Arc<Target>, StoredThere)>);

/// What a run stored in one target.
#[derive(Debug, Default)]
pub(super) struct StoredThere {
    /// Every id that is known.
    pub ids: FileIds,
    /// A few files that tell much.
    pub samples: Vec<Sample>,
    /// Files that were met while `samples` were too few.
    met: usize,
}

/// So many files are looked at one by one for whether they are good samples: that takes a while, and
/// where names tell little all of a batch's do.
const LOOKED_AT_FIRST: usize = 256;

/// After those, one of so many.
const LOOKED_AT_LATER: usize = 64;

impl StoredThere {
    /// Whether the next file that was stored is to be looked at.
    pub(super) fn wants_a_sample(&mut self) -> bool {
        if self.samples.len() >= SAMPLES {
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

    /// What is stored in a target, to add to it.
    pub(super) fn at(&mut self, target: &Arc<Target>) -> &mut StoredThere {
        let found = self.0.iter().position(|(met, _)| Arc::ptr_eq(met, target));
        let found = found.or_else(|| self.0.iter().position(|(met, _)| met == target));
        let place = found.unwrap_or_else(|| {
            self.0.push((Arc::clone(target), StoredThere::default()));
            self.0.len() - 1
        });
        &mut self.0[place].1
    }

    /// The samples of a target.
    pub(super) fn samples(&self, target: &Target) -> &[Sample] {
        let mut there = self.0.iter();
        let there = there.find(|(met, _)| **met == *target);
        there.map_or(&[], |(_, there)| &there.samples)
    }

    /// Whether a file of a target was stored by this run.
    pub(super) fn has(&mut self, target: &Target, id: &FileId) -> bool {
        let mut there = self.0.iter_mut();
        let there = there.find(|(met, _)| **met == *target);
        there.is_some_and(|(_, there)| there.ids.contains(id))
    }
}

/// Many ids. Those that are UUIDs take 16 bytes, and are put in order when somebody asks, which is
/// seldom.
#[derive(Debug, Default)]
pub(super) struct FileIds {
    uuids: Vec<u128>,
    in_order: usize,
    others: HashSet<FileId>,
}

impl FileIds {
    /// Adds one.
    pub(super) fn insert(&mut self, id: &FileId) {
        match id.as_uuid() {
            Some(uuid) => self.uuids.push(uuid),
            None => {
                self.others.insert(id.clone());
            }
        }
    }

    fn contains(&mut self, id: &FileId) -> bool {
        let Some(uuid) = id.as_uuid() else {
            return self.others.contains(id);
        };
        if self.in_order < self.uuids.len() {
            self.uuids.sort_unstable();
            self.in_order = self.uuids.len();
        }
        self.uuids.binary_search(&uuid).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_names_tell_little_few_files_are_looked_at() {
        let mut there = StoredThere::default();
        let looked_at = (0..10_000).filter(|_| there.wants_a_sample()).count();
        assert_eq!(looked_at, 256 + (10_000 - 256) / 64);
    }

    #[test]
    fn an_id_is_known_in_the_very_form_that_it_came_in() {
        let mut ids = FileIds::default();
        let id = |number: u32| FileId::new(format!("{number:08x}-0000-4000-8000-000000000000"));
        for number in [7, 3, 5] {
            ids.insert(&id(number));
            assert!(ids.contains(&id(number)));
            assert!(!ids.contains(&id(number + 1)));
        }
        let loud = FileId::new("ABCDEF01-0000-4000-8000-000000000000");
        ids.insert(&loud);
        ids.insert(&FileId::new("17"));
        assert!(ids.contains(&loud) && ids.contains(&FileId::new("17")) && ids.contains(&id(3)));
        assert!(!ids.contains(&FileId::new("abcdef01-0000-4000-8000-000000000000")));
        assert!(!ids.contains(&FileId::new("18")));
    }
}
