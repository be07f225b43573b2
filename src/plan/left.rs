//! What earlier runs stored and no rule takes now.

use std::mem;
use std::sync::Arc;

use super::rows::small;
use crate::model::SourcePath;
use crate::spill::{Block, Blocks, Spill, take};

/// Files of one block: so few that reading one back for a single file costs little.
const BLOCK: usize = if cfg!(test) { 2 } else { 128 };

/// Files stored by this manifest's earlier runs that no rule takes now: their sources may be gone.
/// All but the last may have left memory.
#[derive(Debug)]
pub(super) struct Left {
    sealed: Blocks<Packed>,
    open: Packed,
}

#[derive(Debug, Default)]
struct Packed {
    /// All paths, one behind the other.
    paths: String,
    files: Vec<File>,
}

#[derive(Debug, Clone, Copy)]
struct File {
    size: u64,
    /// Where its path ends; it begins where the one before ends.
    end: u32,
    target: u32,
}

impl Block for Packed {
    fn size(&self) -> usize {
        self.paths.len() + size_of_val(&*self.files)
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        bytes.extend(small(self.files.len()).to_le_bytes());
        for file in &self.files {
            bytes.extend(file.size.to_le_bytes());
            bytes.extend(file.end.to_le_bytes());
            bytes.extend(file.target.to_le_bytes());
        }
        bytes.extend(self.paths.as_bytes());
    }

    fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let files = u32::from_le_bytes(take(&mut bytes)?);
        let file = |_| {
            Some(File {
                size: u64::from_le_bytes(take(&mut bytes)?),
                end: u32::from_le_bytes(take(&mut bytes)?),
                target: u32::from_le_bytes(take(&mut bytes)?),
            })
        };
        let files = (0..files).map(file).collect::<Option<_>>()?;
        let paths = str::from_utf8(bytes).ok()?.to_owned();
        Some(Self { paths, files })
    }
}

impl Packed {
    fn path(&self, at: usize) -> Option<&str> {
        let start = match at.checked_sub(1) {
            Some(before) => self.files.get(before)?.end,
            None => 0,
        };
        let end = self.files.get(at)?.end;
        self.paths.get(start as usize..end as usize)
    }
}

impl Left {
    pub fn new(spill: &Arc<Spill>) -> Self {
        Self {
            sealed: Blocks::new(Arc::clone(spill)),
            open: Packed::default(),
        }
    }

    pub fn push(&mut self, target: usize, path: &str, size: u64) {
        self.open.paths.push_str(path);
        self.open.files.push(File {
            size,
            end: small(self.open.paths.len()),
            target: small(target),
        });
        if self.open.files.len() == BLOCK {
            let sealed = self.sealed.spill().seal(mem::take(&mut self.open));
            self.sealed.push(sealed);
        }
    }

    pub fn len(&self) -> usize {
        self.sealed.len() * BLOCK + self.open.files.len()
    }

    fn of<T>(&self, at: usize, look: impl FnOnce(&Packed, usize) -> Option<T>) -> Option<T> {
        let (block, at) = (at / BLOCK, at % BLOCK);
        if block == self.sealed.len() {
            return look(&self.open, at);
        }
        look(&*self.sealed.get(block)?, at)
    }

    /// None where it cannot be read back.
    pub fn path(&self, at: usize) -> Option<SourcePath> {
        self.of(at, |block, at| block.path(at).map(SourcePath::new))
    }

    /// What a file moved from there looks like: its target and its size. None where it cannot be
    /// read back.
    pub fn look(&self, at: usize) -> Option<(u32, u64)> {
        self.of(at, |block, at| {
            let file = block.files.get(at)?;
            Some((file.target, file.size))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_left_reads_back_as_it_was_pushed(
            files in prop::collection::vec((0_usize..3, "[aä/]{0,3}", any::<u64>()), 0..9),
            room in prop::sample::select(vec![0_usize, 60, usize::MAX]),
        ) {
            let mut left = Left::new(&Arc::new(Spill::new(room, tempfile::tempfile)));
            for (target, path, size) in &files {
                left.push(*target, path, *size);
            }
            prop_assert_eq!(left.len(), files.len());
            for (at, (target, path, size)) in files.iter().enumerate() {
                prop_assert_eq!(left.path(at), Some(SourcePath::new(path.as_str())));
                prop_assert_eq!(left.look(at), Some((small(*target), *size)));
            }
            prop_assert_eq!(left.path(files.len()), None);
        }
    }

    #[test]
    fn what_cannot_be_read_back_is_not_there() {
        let unreadable = || OpenOptions::new().write(true).open("/dev/null");
        let spill = Arc::new(Spill::new(0, unreadable));
        let mut left = Left::new(&spill);
        for _ in 0..BLOCK {
            left.push(0, "a", 1);
        }
        assert_eq!((left.path(0), left.look(0)), (None, None));
        assert!(spill.unread().is_some());
    }
}
