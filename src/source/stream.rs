//! Reads a large file in chunks, a little ahead of whoever sends them.
//!
//! What is in memory is read by whoever asks for it: a chunk that another thread has read and hashed
//! has to be handed over and fetched from another processor's cache, which cost a tenth of all CPU
//! (`benches/compare --rows 9,10`). From the first chunk that is not in memory, a thread reads the
//! rest, so that nobody else waits for a disk. Chunks lie in buffers that are used again, since fresh
//! ones of this size cost a page fault for every page.

use std::fmt;
use std::io;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Changed, OpenFile, ReadError, Roots};
use crate::model::{Digest, RelativePath, RootId, Stat};

/// Bytes read at a time. Against 64 and 256 KiB it took the least CPU for files of 256 KiB (1.14
/// against 1.36 and 1.19 times curl's); for those of 512 MiB all are alike.
const CHUNK: usize = 128 * 1024;

/// Chunks that a thread has read and that wait to be sent.
const AHEAD: usize = 1;

/// Free buffers that are kept: 4 MiB.
const KEPT_MAX: usize = 32;

/// A piece of a file that is read in chunks.
#[derive(Debug)]
pub enum Piece {
    /// The next bytes, never empty.
    Chunk(Bytes),
    /// All was read, it is what was planned, and this is its digest.
    End(Digest),
}

/// Buffers for chunks, to be used again. Clones share them.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Vec<Vec<u8>>>>);

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Buffers")
    }
}

impl Buffers {
    fn take(&self) -> Buffer {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Buffer {
            bytes: free.unwrap_or_else(|| vec![0; CHUNK]),
            length: 0,
            home: self.clone(),
        }
    }
}

/// A buffer that goes back when it is dropped.
struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    home: Buffers,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut free = self.home.0.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < KEPT_MAX {
            free.push(std::mem::take(&mut self.bytes));
        }
    }
}

/// A file that is being read in chunks.
pub struct Chunks {
    stage: Stage,
    buffers: Buffers,
}

/// Who reads.
enum Stage {
    /// A thread opens the file, which may make it wait.
    Opening(JoinHandle<Result<Box<Reading>, ReadError>>),
    /// Whoever asks for the next chunk, as long as it is in memory.
    Here(Box<Reading>),
    /// A thread, a little ahead.
    There(mpsc::Receiver<Result<Piece, ReadError>>),
}

impl fmt::Debug for Chunks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Chunks")
    }
}

/// Begins to read a file.
#[must_use]
pub fn stream(
    roots: &Roots,
    (root, relative): (RootId, RelativePath),
    stat: Stat,
    buffers: &Buffers,
) -> Chunks {
    let roots = roots.clone();
    let opening = tokio::task::spawn_blocking(move || {
        Ok(Box::new(Reading {
            file: roots.open(root, &relative)?,
            hasher: blake3::Hasher::new(),
            left: stat.size,
            stat,
        }))
    });
    Chunks {
        stage: Stage::Opening(opening),
        buffers: buffers.clone(),
    }
}

impl Chunks {
    /// The next chunk, or the end. Nothing is to be asked for after that.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not what was planned.
    pub async fn next(&mut self) -> Result<Piece, ReadError> {
        loop {
            match &mut self.stage {
                Stage::Opening(opening) => {
                    let opened = opening.await.unwrap_or_else(|_| Err(no_reader()));
                    self.stage = Stage::Here(opened?);
                }
                Stage::Here(reading) => {
                    if let Some(piece) = reading.next_in_memory(&self.buffers)? {
                        return Ok(piece);
                    }
                    self.go_there();
                }
                Stage::There(pieces) => {
                    let piece = pieces.recv().await;
                    return piece.unwrap_or_else(|| Err(no_reader()));
                }
            }
        }
    }

    /// Has a thread read the rest. It stops where nobody takes it any more.
    fn go_there(&mut self) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let stage = mem::replace(&mut self.stage, Stage::There(receiver));
        let Stage::Here(mut reading) = stage else {
            self.stage = stage;
            return;
        };
        let buffers = self.buffers.clone();
        tokio::task::spawn_blocking(move || {
            loop {
                let piece = reading.next(&buffers);
                let is_last = !matches!(piece, Ok(Piece::Chunk(_)));
                if sender.blocking_send(piece).is_err() || is_last {
                    return;
                }
            }
        });
    }
}

/// A file that is read, and as far as it was.
struct Reading {
    file: OpenFile,
    hasher: blake3::Hasher,
    left: u64,
    stat: Stat,
}

impl Reading {
    fn next(&mut self, buffers: &Buffers) -> Result<Piece, ReadError> {
        if self.left == 0 {
            return self.end();
        }
        let mut buffer = buffers.take();
        let most = self.most();
        buffer.length = self.file.fill(&mut buffer.bytes[..most])?;
        self.chunk(buffer)
    }

    /// None where the file's next bytes are not in memory, or nobody can tell.
    fn next_in_memory(&mut self, buffers: &Buffers) -> Result<Option<Piece>, ReadError> {
        if self.left == 0 {
            return self.end().map(Some);
        }
        let mut buffer = buffers.take();
        let most = self.most();
        match self.file.read_in_memory(&mut buffer.bytes[..most])? {
            Some(length) => buffer.length = length,
            None => return Ok(None),
        }
        self.chunk(buffer).map(Some)
    }

    fn most(&self) -> usize {
        usize::try_from(self.left).map_or(CHUNK, |left| left.min(CHUNK))
    }

    fn chunk(&mut self, buffer: Buffer) -> Result<Piece, ReadError> {
        if buffer.length == 0 {
            return Err(Changed::Size.into());
        }
        self.hasher.update(buffer.as_ref());
        self.left -= buffer.length as u64;
        Ok(Piece::Chunk(Bytes::from_owner(buffer)))
    }

    fn end(&self) -> Result<Piece, ReadError> {
        self.file.check(&self.stat)?;
        Ok(Piece::End(Digest(*self.hasher.finalize().as_bytes())))
    }
}

fn no_reader() -> ReadError {
    io::Error::other("the thread that read it is gone").into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::source::tests::everything_in;

    async fn all(mut chunks: Chunks) -> (Vec<u8>, Digest) {
        let mut bytes = Vec::new();
        loop {
            match chunks.next().await.expect("a piece") {
                Piece::Chunk(chunk) => bytes.extend_from_slice(&chunk),
                Piece::End(digest) => return (bytes, digest),
            }
        }
    }

    /// Whether a file's next bytes are in memory is the system's affair: it may change its mind at
    /// every chunk.
    #[tokio::test]
    async fn the_bytes_are_the_same_whoever_reads_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let written: Vec<u8> = (0..=250).cycle().take(5 * CHUNK + 7).collect();
        fs::write(folder.path().join("file"), &written).expect("written");
        let survey = everything_in(folder.path());
        let found = &survey.candidates.roots[0];
        let digest = Digest(*blake3::hash(&written).as_bytes());
        for here in 0..=6 {
            let buffers = Buffers::default();
            let file = (RootId(0), found.relative(0));
            let stat = found.stat(0).expect("a file");
            let mut chunks = stream(&survey.roots, file, stat, &buffers);
            let mut begun = Vec::new();
            for _ in 0..here {
                if let Piece::Chunk(chunk) = chunks.next().await.expect("a piece") {
                    begun.extend_from_slice(&chunk);
                }
            }
            chunks.go_there();
            let (rest, found) = all(chunks).await;
            begun.extend(rest);
            assert_eq!(begun, written, "after {here} chunks");
            assert_eq!(found, digest);
        }
    }
}
