//! Rows that get in each other's way: one file twice, one name twice.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::marks::{Kind, Row};
use super::rows::small;
use super::sketch::Sketch;
use crate::model::RemoteName;
use crate::spill::{Block, Blocks, Spill, take};

/// Parts of all hashes of names, by their first bytes. Of each, [`PART_OPEN`] stay in memory: 8 MiB in all.
const PARTS: usize = 1 << u8::BITS;

/// Hashes of one part from which on they may leave memory.
const PART_OPEN: usize = 4096;

/// The same file sent twice to one target: each of its rows is a conflict. What is stored or in
/// doubt already stays so.
pub(super) fn mark_conflicts(sketch: &mut Sketch<'_>) {
    let plan = &mut sketch.plan;
    for rows in &sketch.overlaps {
        let rows = rows.iter().map(|row| *row as usize);
        let uploads: Vec<usize> = rows.filter(|row| plan.is_upload(*row)).collect();
        if uploads.len() < 2 {
            continue;
        }
        for (position, &index) in uploads.iter().enumerate() {
            let other = uploads[usize::from(position == 0)];
            let row = Row {
                detail: small(plan.rule(other)),
                ..Row::of(Kind::Conflict)
            };
            plan.rows.set(index, row);
        }
    }
}

/// Names in a dataset that several rows of a plan get, by their hashes. Two names of one hash are too
/// rare to be told from what is only a note.
#[derive(Debug, Default)]
pub(super) struct SharedNames {
    keys: RandomState,
    /// The hash of each rule's target, in the rules' order.
    targets: Vec<u64>,
    /// In order, each with how many rows get it.
    rows: Vec<(u64, u32)>,
}

impl SharedNames {
    /// How many other rows of a rule's target get the name that is wanted.
    pub fn others(&self, rule: usize, wanted: &str) -> u32 {
        if self.rows.is_empty() {
            return 0;
        }
        let target = self.targets[rule];
        let found = with_stored_name(wanted, |name| self.keys.hash_one((target, name)));
        let at = found.map(|hash| self.rows.binary_search_by_key(&hash, |(hash, _)| *hash));
        at.and_then(Result::ok).map_or(0, |at| self.rows[at].1 - 1)
    }
}

/// Finds out which names are shared.
pub(super) fn note_shared_names(sketch: &mut Sketch<'_>) {
    let plan = &sketch.plan;
    let keys = RandomState::new();
    // A target's texts are hashed once, and not for each of its rows.
    let targets = plan.rules.iter().map(|rule| keys.hash_one(&*rule.target));
    let targets: Vec<u64> = targets.collect();
    let mut text = String::new();
    let mut hashes = Hashes::new(Arc::clone(&sketch.inputs.basis.candidates.spill));
    for index in (0..plan.len()).filter(|index| plan.is_upload(*index)) {
        let target = targets[plan.rule(index)];
        let hash = plan
            .wanted(index, &mut text)
            .and_then(|wanted| with_stored_name(&wanted, |name| keys.hash_one((target, name))));
        if let Some(hash) = hash {
            hashes.add(hash);
        }
    }
    let rows = hashes.repeated();
    sketch.plan.shared_names = SharedNames {
        keys,
        targets,
        rows,
    };
}

/// Hashes apart by their first bits: those of one part are put in order by themselves, and what they
/// are of may have left memory by then.
struct Hashes {
    open: Vec<Vec<u64>>,
    sealed: Blocks<Part>,
    /// The blocks of each part.
    blocks: Vec<Vec<u32>>,
}

/// Hashes that begin alike.
struct Part(Vec<u64>);

impl Block for Part {
    fn size(&self) -> usize {
        size_of_val(&*self.0)
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.0.iter().flat_map(|hash| hash.to_le_bytes()));
    }

    fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let mut hashes = Vec::with_capacity(bytes.len() / size_of::<u64>());
        while !bytes.is_empty() {
            hashes.push(u64::from_le_bytes(take(&mut bytes)?));
        }
        Some(Self(hashes))
    }
}

impl Hashes {
    fn new(spill: Arc<Spill>) -> Self {
        Self {
            open: vec![Vec::new(); PARTS],
            sealed: Blocks::new(spill),
            blocks: vec![Vec::new(); PARTS],
        }
    }

    fn add(&mut self, hash: u64) {
        let part = usize::from(hash.to_be_bytes()[0]);
        self.open[part].push(hash);
        if self.open[part].len() == PART_OPEN {
            let full = Part(std::mem::take(&mut self.open[part]));
            self.blocks[part].push(small(self.sealed.len()));
            let sealed = self.sealed.spill().seal(full);
            self.sealed.push(sealed);
        }
    }

    /// Those that were added more than once, in order, and how often.
    fn repeated(self) -> Vec<(u64, u32)> {
        let mut repeated = Vec::new();
        for (mut part, blocks) in self.open.into_iter().zip(self.blocks) {
            for block in blocks {
                // That one cannot be read back is remembered by the spill.
                let block = self.sealed.get(block as usize);
                part.extend(block.iter().flat_map(|block| &block.0));
            }
            part.sort_unstable();
            let alike = part.chunk_by(|one, other| one == other);
            let several = alike.filter(|alike| alike.len() > 1);
            repeated.extend(several.map(|alike| (alike[0], small(alike.len()))));
        }
        repeated
    }
}

/// What becomes of the name that is wanted; none where it is no name.
fn with_stored_name<T>(wanted: &str, then: impl FnOnce(&str) -> T) -> Option<T> {
    if RemoteName::is_plain(wanted) {
        return Some(then(wanted));
    }
    let name = RemoteName::new(wanted).ok()?;
    Some(then(name.stored().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_that_left_memory_are_found_too() {
        let rows = (PARTS * PART_OPEN) as u64 * 3 / 2;
        let hash = |row: u64| row.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for spill in [Spill::default(), Spill::new(0, tempfile::tempfile)] {
            let spill = Arc::new(spill);
            let mut hashes = Hashes::new(Arc::clone(&spill));
            (0..rows).for_each(|row| hashes.add(hash(row)));
            let again = [rows - 1, 0, 4711, 4711];
            for row in again {
                hashes.add(hash(row));
            }
            let mut expected = [(hash(0), 2), (hash(4711), 3), (hash(rows - 1), 2)];
            expected.sort_unstable();
            assert_eq!(hashes.repeated(), expected);
            assert_eq!(spill.unread(), None);
        }
    }
}
