//! Stored files whose source is gone, in the order of what a file that was moved from there has in
//! common with them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::mem;
use std::sync::Arc;

use super::details::Details;
use super::rows::small;
use crate::spill::{Block, Blocks, Spill, take};

/// Those that are put in order together.
const GROUP: usize = if cfg!(test) { 8 } else { 256 * 1024 };

/// Those of one block: so few that reading one back for a single file costs little.
const BLOCK: usize = if cfg!(test) { 3 } else { 128 };

/// A kind, and a place among what is left.
type Orphan = (u128, u32);

/// They may be all files of a stream: what does not fit into memory is spilled.
#[derive(Debug)]
pub(super) struct Unsorted {
    open: Vec<Orphan>,
    blocks: Blocks<Packed>,
    /// Where each group's blocks begin. Those of a group are in order.
    groups: Vec<usize>,
}

/// All in the order of their kinds, those of a kind in that of their places; and which of them were
/// adopted.
#[derive(Debug)]
pub(super) struct Orphans {
    blocks: Blocks<Packed>,
    /// The kind of each block's first.
    firsts: Vec<u128>,
    /// At the first of each kind, how many were adopted.
    adopted: Details,
}

#[derive(Debug, Default)]
struct Packed(Vec<Orphan>);

impl Block for Packed {
    fn size(&self) -> usize {
        size_of_val(&*self.0)
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        for (kind, at) in &self.0 {
            bytes.extend(kind.to_le_bytes());
            bytes.extend(at.to_le_bytes());
        }
    }

    fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let mut orphans = Vec::with_capacity(BLOCK);
        while !bytes.is_empty() {
            let kind = u128::from_le_bytes(take(&mut bytes)?);
            orphans.push((kind, u32::from_le_bytes(take(&mut bytes)?)));
        }
        Some(Self(orphans))
    }
}

impl Unsorted {
    pub fn new(spill: &Arc<Spill>) -> Self {
        Self {
            open: Vec::new(),
            blocks: Blocks::new(Arc::clone(spill)),
            groups: Vec::new(),
        }
    }

    pub fn push(&mut self, kind: u128, at: usize) {
        self.open.push((kind, small(at)));
        if self.open.len() == GROUP {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let mut group = mem::take(&mut self.open);
        group.sort_unstable();
        self.groups.push(self.blocks.len());
        for orphans in group.chunks(BLOCK) {
            let sealed = self.blocks.spill().seal(Packed(orphans.to_vec()));
            self.blocks.push(sealed);
        }
    }

    /// Puts all of them in order. What cannot be read back is left out.
    pub fn sorted(mut self) -> Orphans {
        self.seal();
        let mut orphans = Orphans {
            blocks: Blocks::new(Arc::clone(self.blocks.spill())),
            firsts: Vec::new(),
            adopted: Details::default(),
        };
        let ends = self.groups.iter().skip(1).copied();
        let ends = ends.chain([self.blocks.len()]);
        let groups = self.groups.iter().zip(ends);
        let mut groups: Vec<_> = groups
            .map(|(start, end)| {
                let blocks = (*start..end).map_while(|block| self.blocks.get(block));
                blocks.flat_map(|block| block.0.clone())
            })
            .collect();
        let mut next: BinaryHeap<Reverse<(Orphan, usize)>> = BinaryHeap::new();
        let begun = groups.iter_mut().enumerate();
        next.extend(begun.filter_map(|(group, rest)| Some(Reverse((rest.next()?, group)))));
        let mut open = Packed::default();
        while let Some(Reverse((orphan, group))) = next.pop() {
            next.extend(groups[group].next().map(|orphan| Reverse((orphan, group))));
            open.0.push(orphan);
            if open.0.len() == BLOCK || next.is_empty() {
                orphans.seal(mem::take(&mut open));
            }
        }
        orphans
    }
}

impl Orphans {
    fn seal(&mut self, block: Packed) {
        self.firsts.push(block.0[0].0);
        let sealed = self.blocks.spill().seal(block);
        self.blocks.push(sealed);
    }

    fn get(&self, at: usize) -> Option<Orphan> {
        self.blocks.get(at / BLOCK)?.0.get(at % BLOCK).copied()
    }

    /// The place of the next one of a kind.
    pub fn adopt(&mut self, kind: u128) -> Option<usize> {
        let behind = self.firsts.partition_point(|first| *first < kind);
        let first = match behind.checked_sub(1) {
            Some(block) => {
                let orphans = self.blocks.get(block)?;
                block * BLOCK + orphans.0.partition_point(|(other, _)| *other < kind)
            }
            None => 0,
        };
        let adopted = self.adopted.get(first);
        let (other, at) = self.get(first + adopted as usize)?;
        if other != kind {
            return None;
        }
        self.adopted.set(first, adopted + 1);
        Some(at as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn those_of_a_kind_are_adopted_once_each_in_their_order(
            kinds in prop::collection::vec(0_u128..6, 0..60),
            wanted in prop::collection::vec(0_u128..8, 0..60),
            room in prop::sample::select(vec![0_usize, 300, usize::MAX]),
        ) {
            let mut unsorted = Unsorted::new(&Arc::new(Spill::new(room, tempfile::tempfile)));
            let mut expected: BTreeMap<u128, VecDeque<usize>> = BTreeMap::new();
            for (at, kind) in kinds.into_iter().enumerate() {
                unsorted.push(kind, at);
                expected.entry(kind).or_default().push_back(at);
            }
            let mut orphans = unsorted.sorted();
            for kind in wanted {
                let next = expected.get_mut(&kind).and_then(VecDeque::pop_front);
                prop_assert_eq!(orphans.adopt(kind), next);
            }
        }
    }
}
