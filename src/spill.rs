//! Blocks of packed data of which as many as may be stay in memory, and the others lie in a
//! temporary file without a name.
//!
//! What cannot be written stays in memory. What cannot be read back is remembered: whoever asked for
//! it gets nothing, and must not go on as if that were all there is ([`Spill::unread`]).

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Blocks of one kind that are kept once they were read back. Most are read in order, by several
/// readers at a time, each at its own place.
const CACHED: usize = 64;

type Make = Box<dyn Fn() -> io::Result<File> + Send + Sync>;

/// A file for what does not fit into memory, made when it is needed; and how much fits.
pub struct Spill {
    /// Bytes that may still be kept in memory.
    room: AtomicUsize,
    make: Make,
    file: OnceLock<File>,
    /// Where the file ends.
    end: AtomicU64,
    unwritten: OnceLock<String>,
    unread: OnceLock<String>,
}

impl fmt::Debug for Spill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spill({} bytes)", self.spilled())
    }
}

impl Default for Spill {
    /// Nothing is spilled.
    fn default() -> Self {
        Self::new(usize::MAX, || Err(io::ErrorKind::Unsupported.into()))
    }
}

impl Spill {
    /// So many bytes stay in memory; a file for others is made as told.
    pub fn new(room: usize, make: impl Fn() -> io::Result<File> + Send + Sync + 'static) -> Self {
        Self {
            room: AtomicUsize::new(room),
            make: Box::new(make),
            file: OnceLock::new(),
            end: AtomicU64::new(0),
            unwritten: OnceLock::new(),
            unread: OnceLock::new(),
        }
    }

    /// Why what should have left memory did not, if that happened.
    #[must_use]
    pub fn unwritten(&self) -> Option<&str> {
        self.unwritten.get().map(String::as_str)
    }

    /// Why what was written cannot be read back, if that happened: nothing that was made of it can
    /// be relied on.
    #[must_use]
    pub fn unread(&self) -> Option<&str> {
        self.unread.get().map(String::as_str)
    }

    /// Bytes that were written.
    #[must_use]
    pub fn spilled(&self) -> u64 {
        self.end.load(Ordering::Relaxed)
    }

    /// Puts a block where there is room for it.
    pub fn seal<B: Block>(&self, block: B) -> Sealed<B> {
        let size = block.size();
        let less = |room: usize| room.checked_sub(size);
        let fits = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if fits.is_ok() || self.unwritten().is_some() {
            return Sealed::Kept(block);
        }
        let mut bytes = Vec::with_capacity(size);
        block.pack(&mut bytes);
        match self.write(&bytes) {
            Ok(at) => Sealed::Spilled(at, bytes.len()),
            Err(error) => {
                let _ = self.unwritten.set(error.to_string());
                Sealed::Kept(block)
            }
        }
    }

    fn write(&self, bytes: &[u8]) -> io::Result<u64> {
        let file = if let Some(file) = self.file.get() {
            file
        } else {
            let made = (self.make)()?;
            self.file.get_or_init(|| made)
        };
        let at = self.end.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        file.write_all_at(bytes, at)?;
        Ok(at)
    }

    fn read<B: Block>(&self, at: u64, length: usize) -> Option<B> {
        let read = || {
            let file = self.file.get().ok_or(io::ErrorKind::NotFound)?;
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at)?;
            B::unpack(&bytes).ok_or(io::Error::from(io::ErrorKind::InvalidData))
        };
        match read() {
            Ok(block) => Some(block),
            Err(error) => {
                let _ = self.unread.set(error.to_string());
                None
            }
        }
    }
}

/// What can be written and read back.
pub trait Block: Sized {
    /// About the bytes that it takes in memory.
    fn size(&self) -> usize;
    /// Writes it behind what is there.
    fn pack(&self, bytes: &mut Vec<u8>);
    /// Reads it; none where that was never written.
    fn unpack(bytes: &[u8]) -> Option<Self>;
}

/// A block that is not added to any more.
#[derive(Debug)]
pub enum Sealed<B> {
    /// It is in memory.
    Kept(B),
    /// It lies in the file from there on, and is so long.
    Spilled(u64, usize),
}

/// Blocks of one kind, by number.
#[derive(Debug)]
pub struct Blocks<B> {
    spill: Arc<Spill>,
    sealed: Vec<Sealed<B>>,
    /// The one that was asked for last is the first.
    cache: Mutex<Vec<(usize, Arc<B>)>>,
}

impl<B> Default for Blocks<B> {
    fn default() -> Self {
        Self::new(Arc::default())
    }
}

impl<B> Blocks<B> {
    /// None yet.
    #[must_use]
    pub fn new(spill: Arc<Spill>) -> Self {
        Self {
            spill,
            sealed: Vec::new(),
            cache: Mutex::default(),
        }
    }

    /// What they are sealed by.
    #[must_use]
    pub fn spill(&self) -> &Arc<Spill> {
        &self.spill
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sealed.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty()
    }

    /// Adds one that was sealed by the same.
    pub fn push(&mut self, sealed: Sealed<B>) {
        self.sealed.push(sealed);
    }

    /// Adds those of others, behind its own.
    pub fn append(&mut self, mut others: Self) {
        self.sealed.append(&mut others.sealed);
    }
}

impl<B: Block> Blocks<B> {
    /// A block; none where it cannot be read back, or there is none.
    #[must_use]
    #[inline]
    pub fn get(&self, at: usize) -> Option<Held<'_, B>> {
        match self.sealed.get(at)? {
            Sealed::Kept(block) => Some(Held::Kept(block)),
            Sealed::Spilled(start, length) => self.read(at, *start, *length).map(Held::Read),
        }
    }

    #[inline(never)]
    fn read(&self, at: usize, start: u64, length: usize) -> Option<Arc<B>> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = cache.iter().position(|(cached, _)| *cached == at) {
            cache[..=place].rotate_right(1);
        } else {
            let block = self.spill.read(start, length)?;
            cache.truncate(CACHED - 1);
            cache.insert(0, (at, Arc::new(block)));
        }
        Some(Arc::clone(&cache[0].1))
    }
}

/// A block for as long as it is looked at.
#[derive(Debug, Clone)]
pub enum Held<'a, B> {
    /// It is in memory anyhow.
    Kept(&'a B),
    /// It was read back.
    Read(Arc<B>),
}

impl<B> Deref for Held<'_, B> {
    type Target = B;

    #[inline]
    fn deref(&self) -> &B {
        match self {
            Self::Kept(block) => block,
            Self::Read(block) => block,
        }
    }
}

/// Takes so many bytes from the front.
pub fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    impl Block for Vec<u8> {
        fn size(&self) -> usize {
            self.len()
        }

        fn pack(&self, bytes: &mut Vec<u8>) {
            bytes.extend_from_slice(self);
        }

        fn unpack(bytes: &[u8]) -> Option<Self> {
            Some(bytes.to_vec())
        }
    }

    fn blocks(spill: Spill, count: u8) -> Blocks<Vec<u8>> {
        let spill = Arc::new(spill);
        let mut blocks = Blocks::new(Arc::clone(&spill));
        for at in 0..count {
            blocks.push(spill.seal(vec![at; 3]));
        }
        blocks
    }

    fn agrees(blocks: &Blocks<Vec<u8>>, at: usize) -> bool {
        let expected = u8::try_from(at).map(|at| vec![at; 3]);
        blocks.get(at).map(|block| block.to_vec()) == expected.ok()
    }

    #[test]
    fn what_does_not_fit_is_written_and_reads_back_in_whatever_order() {
        for room in [0, 7, usize::MAX] {
            let blocks = blocks(Spill::new(room, tempfile::tempfile), 200);
            let kept = (room / 3).min(200);
            assert_eq!(blocks.spill().spilled(), 3 * (200 - kept as u64));
            let there = (0..200).chain((0..200).rev()).chain([7, 199, 7, 100, 7]);
            for at in there {
                assert!(agrees(&blocks, at), "{room} {at}");
            }
            assert!(blocks.get(200).is_none());
            assert!(blocks.cache.lock().expect("whole").len() <= CACHED);
            let spill = blocks.spill();
            assert_eq!((spill.unwritten(), spill.unread()), (None, None));
        }
    }

    #[test]
    fn what_cannot_be_written_stays_in_memory() {
        let read_only = || OpenOptions::new().read(true).open("/dev/null");
        let no_file = || Err(io::Error::other("no such folder"));
        for spill in [Spill::new(4, read_only), Spill::new(4, no_file)] {
            let blocks = blocks(spill, 9);
            assert!((0..9).all(|at| agrees(&blocks, at)));
            let spill = blocks.spill();
            assert!(spill.unwritten().is_some() && spill.unread().is_none());
        }
    }

    #[test]
    fn what_cannot_be_read_back_is_remembered() {
        let unreadable = || OpenOptions::new().write(true).open("/dev/null");
        let blocks = blocks(Spill::new(4, unreadable), 9);
        assert!(agrees(&blocks, 0));
        assert_eq!(blocks.spill().unread(), None);
        assert!(blocks.get(8).is_none());
        assert!(blocks.spill().unread().is_some());
    }
}
