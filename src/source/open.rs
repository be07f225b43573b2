//! One open file: read whole or in chunks, and checked against the plan before it counts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use bytes::Bytes;
use rustix::fs::OFlags;

use super::stat;
use crate::model::{Digest, Stat};

/// Bytes read at a time where a file is not read whole.
const CHUNK: usize = 256 * 1024;

/// A candidate that is open for reading. All its methods block.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    path: PathBuf,
}

/// How a file differs from what the plan saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Changed {
    /// Another size.
    #[error("the file's size changed since the plan was made")]
    Size,
    /// The same size but another time of change.
    #[error("the file was written to since the plan was made")]
    Time,
    /// Another file has its name now, or none.
    #[error("the file was replaced or removed since the plan was made")]
    Replaced,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    /// It is not what was planned.
    #[error(transparent)]
    Changed(#[from] Changed),
}

impl Read for OpenFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into)
    }
}

impl OpenFile {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(&path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no longer a regular file"));
        }
        Ok(Self { file, path })
    }

    /// Compares the open file, and what its name leads to now, with what was planned.
    ///
    /// # Errors
    ///
    /// The first difference found.
    pub fn check(&self, planned: &Stat) -> Result<(), ReadError> {
        let now = stat(&self.file.metadata()?);
        if now.size != planned.size {
            return Err(Changed::Size.into());
        }
        if now.mtime_ns != planned.mtime_ns {
            return Err(Changed::Time.into());
        }
        let named = fs::symlink_metadata(&self.path).map(|found| stat(&found).inode);
        if now.inode != planned.inode || named.ok() != Some(planned.inode) {
            return Err(Changed::Replaced.into());
        }
        Ok(())
    }

    /// Appends the whole file to a buffer; `size` bytes, no more and no fewer.
    ///
    /// # Errors
    ///
    /// [`Changed::Size`] where the file is shorter or longer.
    pub fn read_whole(&mut self, size: u64, buffer: &mut Vec<u8>) -> Result<Digest, ReadError> {
        let start = buffer.len();
        (&self.file).take(size + 1).read_to_end(buffer)?;
        if (buffer.len() - start) as u64 != size {
            return Err(Changed::Size.into());
        }
        Ok(Digest(*blake3::hash(&buffer[start..]).as_bytes()))
    }

    /// The next chunk of up to 256 KiB; empty at the end. Adds it to the hash.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn read_chunk(&mut self, hasher: &mut blake3::Hasher) -> io::Result<Bytes> {
        let mut chunk = Vec::with_capacity(CHUNK);
        (&self.file).take(CHUNK as u64).read_to_end(&mut chunk)?;
        hasher.update(&chunk);
        Ok(chunk.into())
    }

    /// Reads the file to its end.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn digest(self) -> Result<Digest, ReadError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&self.file)?;
        Ok(Digest(*hasher.finalize().as_bytes()))
    }
}
