//! Many file ids: added to often, and asked seldom.

use std::mem;
use std::sync::Arc;

use super::FileId;
use crate::spill::{Block, Blocks, Spill, take};

/// Ids that are put in order together: so many that few such groups have to be asked.
const GROUP: usize = if cfg!(test) { 8 } else { 256 * 1024 };

/// Ids of one block: so few that reading one back takes no time.
const BLOCK: usize = if cfg!(test) { 3 } else { 1024 };

/// A set of ids. Each takes 16 bytes, and those that do not fit into memory are spilled.
#[derive(Debug)]
pub struct FileIds {
    /// In no order.
    open: Vec<u128>,
    blocks: Blocks<Keys>,
    /// The least of each block. A group's blocks follow each other in order.
    least: Vec<u128>,
    /// Where each group's blocks begin.
    groups: Vec<usize>,
}

/// Keys in order.
#[derive(Debug)]
struct Keys(Vec<u128>);

impl Block for Keys {
    fn size(&self) -> usize {
        size_of_val(&*self.0)
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.0.iter().flat_map(|key| key.to_le_bytes()));
    }

    fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let mut keys = Vec::with_capacity(bytes.len() / size_of::<u128>());
        while !bytes.is_empty() {
            keys.push(u128::from_le_bytes(take(&mut bytes)?));
        }
        Some(Self(keys))
    }
}

impl FileIds {
    /// None yet; what does not fit into memory goes where the spill says.
    #[must_use]
    pub fn new(spill: &Arc<Spill>) -> Self {
        Self {
            open: Vec::new(),
            blocks: Blocks::new(Arc::clone(spill)),
            least: Vec::new(),
            groups: Vec::new(),
        }
    }

    /// Adds one.
    pub fn insert(&mut self, id: &FileId) {
        self.open.push(key(id));
        if self.open.len() == GROUP {
            self.seal();
        }
    }

    fn seal(&mut self) {
        let mut group = mem::take(&mut self.open);
        group.sort_unstable();
        self.groups.push(self.blocks.len());
        for keys in group.chunks(BLOCK) {
            self.least.push(keys[0]);
            let sealed = self.blocks.spill().seal(Keys(keys.to_vec()));
            self.blocks.push(sealed);
        }
    }

    /// Whether one is there, in the very form that it was added in. Where that cannot be read back, it
    /// is: what is known is taken for no other file.
    #[must_use]
    pub fn contains(&self, id: &FileId) -> bool {
        let key = key(id);
        let ends = self.groups.iter().skip(1).copied();
        let ends = ends.chain([self.least.len()]);
        let mut groups = self.groups.iter().zip(ends);
        self.open.contains(&key)
            || groups.any(|(start, end)| {
                let behind = self.least[*start..end].partition_point(|least| *least <= key);
                behind > 0
                    && match self.blocks.get(start + behind - 1) {
                        Some(keys) => keys.0.binary_search(&key).is_ok(),
                        None => true,
                    }
            })
    }
}

/// What stands for an id: the UUID that it is, else a digest.
fn key(id: &FileId) -> u128 {
    id.as_uuid().unwrap_or_else(|| {
        let digest = blake3::hash(id.as_str().as_bytes());
        let (first, _) = digest.as_bytes().split_first_chunk().expect("32 bytes");
        u128::from_le_bytes(*first)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs::OpenOptions;

    use proptest::prelude::*;

    use super::*;

    fn id() -> impl Strategy<Value = FileId> {
        let uuid =
            (0_u32..60).prop_map(|number| format!("{number:08x}-0000-4000-8000-000000000000"));
        let loud =
            (0_u32..60).prop_map(|number| format!("{number:08X}-0000-4000-8000-000000000000"));
        let other = (0_u32..60).prop_map(|number| number.to_string());
        prop_oneof![uuid, loud, other].prop_map(FileId::new)
    }

    proptest! {
        #[test]
        fn an_id_is_known_in_the_very_form_that_it_came_in(
            added in prop::collection::vec(id(), 0..60),
            asked in prop::collection::vec(id(), 0..60),
            room in prop::sample::select(vec![0_usize, 100, usize::MAX]),
        ) {
            let spill = Arc::new(Spill::new(room, tempfile::tempfile));
            let mut ids = FileIds::new(&spill);
            let mut expected = HashSet::new();
            for id in added {
                ids.insert(&id);
                expected.insert(id);
                prop_assert!(ids.open.len() < GROUP);
            }
            for id in asked.iter().chain(&expected) {
                prop_assert_eq!(ids.contains(id), expected.contains(id));
            }
            let is_full = expected.len() >= GROUP;
            prop_assert!(room > 0 || !is_full || spill.spilled() > 0);
        }
    }

    #[test]
    fn what_cannot_be_read_back_counts_as_known() {
        let unreadable = || OpenOptions::new().write(true).open("/dev/null");
        let spill = Arc::new(Spill::new(0, unreadable));
        let mut ids = FileIds::new(&spill);
        for _ in 0..GROUP {
            ids.insert(&FileId::new("00000001-0000-4000-8000-000000000000"));
        }
        assert!(ids.contains(&FileId::new("00000002-0000-4000-8000-000000000000")));
        assert!(spill.unread().is_some());
    }
}
