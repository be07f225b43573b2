//! Reads a large file in chunks, a little ahead of whoever sends them.
//!
//! One thread a file, for as long as it takes: handing each chunk to a thread and back costs more
//! than reading it. Chunks lie in buffers that are used again, since fresh ones of this size cost
//! a page fault for every page.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{Changed, ReadError, Roots};
use crate::model::{Digest, RelativePath, RootId, Stat};

/// Bytes read at a time. Larger chunks leave the processor's cache before they are sent.
const CHUNK: usize = 256 * 1024;

/// Chunks that are read and wait to be sent.
const AHEAD: usize = 1;

/// Free buffers that are kept.
const KEPT_MAX: usize = 16;

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

/// Reads a file on a thread of its own: chunks as they are taken, then its end; or an error, and
/// nothing more. It stops where nobody takes them any more.
#[must_use]
pub fn stream(
    roots: &Roots,
    (root, relative): (RootId, RelativePath),
    stat: Stat,
    buffers: &Buffers,
) -> mpsc::Receiver<Result<Piece, ReadError>> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let (roots, buffers) = (roots.clone(), buffers.clone());
    tokio::task::spawn_blocking(move || {
        let chunk = |bytes| sender.blocking_send(Ok(Piece::Chunk(bytes))).is_ok();
        let end = match read(&roots, (root, &relative), &stat, &buffers, chunk) {
            Ok(Some(digest)) => Ok(Piece::End(digest)),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        // Nobody takes it where the attempt has ended.
        let _ = sender.blocking_send(end);
    });
    receiver
}

/// The digest, or none where a chunk was not taken.
fn read(
    roots: &Roots,
    (root, relative): (RootId, &RelativePath),
    stat: &Stat,
    buffers: &Buffers,
    chunk: impl Fn(Bytes) -> bool,
) -> Result<Option<Digest>, ReadError> {
    let mut file = roots.open(root, relative)?;
    let mut hasher = blake3::Hasher::new();
    let mut left = stat.size;
    while left > 0 {
        let mut buffer = buffers.take();
        let most = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        buffer.length = file.fill(&mut buffer.bytes[..most])?;
        if buffer.length == 0 {
            return Err(Changed::Size.into());
        }
        hasher.update(buffer.as_ref());
        left -= buffer.length as u64;
        if !chunk(Bytes::from_owner(buffer)) {
            return Ok(None);
        }
    }
    file.check(stat)?;
    Ok(Some(Digest(*hasher.finalize().as_bytes())))
}
