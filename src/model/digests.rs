//! Which candidates are read for their digests, and what reading them came to.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::{CandidateId, Digest, RootId};
use crate::spill::{Block, Blocks, Spill, take};

/// Digests of one block: so few that the blocks that are kept of each reader's take little memory.
const BLOCK: usize = if cfg!(test) { 2 } else { 256 };

/// Candidates that are to be read, each once: a bit for each that there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ToRead {
    /// Of each root, by their index.
    roots: Vec<Vec<u64>>,
    len: usize,
}

impl ToRead {
    /// Adds one, if it is not there.
    pub fn insert(&mut self, id: CandidateId) {
        if self.roots.len() <= id.root.0 {
            self.roots.resize_with(id.root.0 + 1, Vec::new);
        }
        let words = &mut self.roots[id.root.0];
        let (word, bit) = (id.index / 64, 1 << (id.index % 64));
        if words.len() <= word {
            words.resize(word + 1, 0);
        }
        self.len += usize::from(words[word] & bit == 0);
        words[word] |= bit;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = CandidateId> {
        let words = self.roots.iter().enumerate().flat_map(|(root, words)| {
            let words = words.iter().enumerate();
            words.map(move |(at, word)| (RootId(root), at * 64, *word))
        });
        words.flat_map(|(root, first, word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros() as usize)?;
                left &= left - 1;
                Some(CandidateId {
                    root,
                    index: first + bit,
                })
            })
        })
    }
}

impl FromIterator<CandidateId> for ToRead {
    fn from_iter<T: IntoIterator<Item = CandidateId>>(ids: T) -> Self {
        let mut to_read = Self::default();
        ids.into_iter().for_each(|id| to_read.insert(id));
        to_read
    }
}

/// Digests of files whose content decides, or why a file could not be read. Those that do not fit
/// into memory are spilled.
#[derive(Debug, Default)]
pub struct Digests(Vec<DigestsRead>);

/// What one reader read, in the order of the candidates.
#[derive(Debug)]
pub struct DigestsRead {
    open: Packed,
    sealed: Blocks<Packed>,
    /// The first of each block that was sealed.
    firsts: Vec<CandidateId>,
    failed: BTreeMap<CandidateId, Arc<str>>,
}

#[derive(Debug, Default)]
struct Packed(Vec<(CandidateId, Digest)>);

impl Block for Packed {
    fn size(&self) -> usize {
        size_of_val(&*self.0)
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        for (id, digest) in &self.0 {
            bytes.extend((id.root.0 as u64).to_le_bytes());
            bytes.extend((id.index as u64).to_le_bytes());
            bytes.extend(digest.0);
        }
    }

    fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let number = |bytes: &mut &[u8]| usize::try_from(u64::from_le_bytes(take(bytes)?)).ok();
        let mut digests = Vec::with_capacity(BLOCK);
        while !bytes.is_empty() {
            let id = CandidateId {
                root: RootId(number(&mut bytes)?),
                index: number(&mut bytes)?,
            };
            digests.push((id, Digest(take(&mut bytes)?)));
        }
        Some(Self(digests))
    }
}

impl Packed {
    fn get(&self, id: CandidateId) -> Option<Digest> {
        let at = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.0[at].1)
    }
}

impl DigestsRead {
    /// Nothing yet; what does not fit into memory goes where the spill says.
    #[must_use]
    pub fn new(spill: &Arc<Spill>) -> Self {
        Self {
            open: Packed::default(),
            sealed: Blocks::new(Arc::clone(spill)),
            firsts: Vec::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Adds what reading a file came to; each is behind the ones before.
    pub fn push(&mut self, id: CandidateId, read: Result<Digest, Arc<str>>) {
        debug_assert!(self.open.0.last().is_none_or(|(last, _)| *last < id));
        let digest = match read {
            Ok(digest) => digest,
            Err(why) => {
                self.failed.insert(id, why);
                return;
            }
        };
        self.open.0.push((id, digest));
        if self.open.0.len() == BLOCK {
            let full = mem::take(&mut self.open);
            self.firsts.push(full.0[0].0);
            let sealed = self.sealed.spill().seal(full);
            self.sealed.push(sealed);
        }
    }

    fn get(&self, id: CandidateId) -> Option<Result<Digest, Arc<str>>> {
        if let Some(why) = self.failed.get(&id) {
            return Some(Err(Arc::clone(why)));
        }
        if self.open.0.first().is_some_and(|(first, _)| *first <= id) {
            return self.open.get(id).map(Ok);
        }
        let behind = self.firsts.partition_point(|first| *first <= id);
        match self.sealed.get(behind.checked_sub(1)?) {
            Some(block) => block.get(id).map(Ok),
            None => Some(Err("its digest cannot be read back".into())),
        }
    }
}

impl Digests {
    /// What several readers read.
    #[must_use]
    pub fn of(read: Vec<DigestsRead>) -> Self {
        Self(read)
    }

    /// What reading a file came to, if it was read.
    #[must_use]
    pub fn get(&self, id: CandidateId) -> Option<Result<Digest, Arc<str>>> {
        self.0.iter().find_map(|read| read.get(id))
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let is_empty = |read: &DigestsRead| {
            read.open.0.is_empty() && read.sealed.is_empty() && read.failed.is_empty()
        };
        self.0.iter().all(is_empty)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs::OpenOptions;

    use proptest::prelude::*;

    use super::*;

    fn id() -> impl Strategy<Value = CandidateId> {
        (0_usize..3, 0_usize..200).prop_map(|(root, index)| CandidateId {
            root: RootId(root),
            index,
        })
    }

    proptest! {
        #[test]
        fn each_that_is_to_be_read_is_there_once_in_order(
            ids in prop::collection::vec(id(), 0..60),
        ) {
            let to_read: ToRead = ids.iter().copied().collect();
            let expected: BTreeSet<_> = ids.into_iter().collect();
            prop_assert_eq!(to_read.len(), expected.len());
            prop_assert_eq!(to_read.is_empty(), expected.is_empty());
            prop_assert!(to_read.iter().eq(expected));
        }

        #[test]
        fn what_was_read_by_several_is_found(
            files in prop::collection::btree_map(id(), (0_usize..3, prop::option::of(any::<u8>())), 0..60),
            asked in prop::collection::vec(id(), 0..20),
            room in prop::sample::select(vec![0_usize, 500, usize::MAX]),
        ) {
            let spill = Arc::new(Spill::new(room, tempfile::tempfile));
            let mut readers = [(); 3].map(|()| DigestsRead::new(&spill));
            for (id, (reader, read)) in &files {
                let read = read.map(|byte| Digest([byte; 32])).ok_or_else(|| "gone".into());
                readers[*reader].push(*id, read);
            }
            let digests = Digests::of(readers.into());
            prop_assert_eq!(digests.is_empty(), files.is_empty());
            for id in asked.iter().chain(files.keys()) {
                let expected = files.get(id).map(|(_, read)| {
                    read.map(|byte| Digest([byte; 32])).ok_or_else(|| "gone".into())
                });
                prop_assert_eq!(digests.get(*id), expected);
            }
        }
    }

    #[test]
    fn a_digest_that_cannot_be_read_back_is_no_digest() {
        let unreadable = || OpenOptions::new().write(true).open("/dev/null");
        let spill = Arc::new(Spill::new(0, unreadable));
        let mut read = DigestsRead::new(&spill);
        let ids: Vec<_> = (0..BLOCK)
            .map(|index| CandidateId {
                root: RootId(0),
                index,
            })
            .collect();
        for id in &ids {
            read.push(*id, Ok(Digest([7; 32])));
        }
        assert!(matches!(Digests::of(vec![read]).get(ids[0]), Some(Err(_))));
        assert!(spill.unread().is_some());
    }
}
