//! Memory for the bodies of small files, used again: what was just sent is still in the processor's
//! cache.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Free buffers that are kept, and the largest of them in bytes: 8 MiB in all.
const KEPT_MAX: usize = 64;
const KEPT_SIZE_MAX: usize = 128 * 1024;

/// Buffers for bodies. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Bodies(Arc<Mutex<Vec<Vec<u8>>>>);

impl Bodies {
    /// An empty buffer.
    pub(super) fn take(&self) -> Vec<u8> {
        self.free().pop().unwrap_or_default()
    }

    /// Bytes whose buffer comes back here once nobody needs them any more.
    pub(super) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent {
            bytes,
            home: self.clone(),
        })
    }

    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lent {
    bytes: Vec<u8>,
    home: Bodies,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut bytes = mem::take(&mut self.bytes);
        let mut free = self.home.free();
        if free.len() < KEPT_MAX && bytes.capacity() <= KEPT_SIZE_MAX {
            bytes.clear();
            free.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_has_its_bytes_and_holds_nothing_of_them() {
        let bodies = Bodies::default();
        let mut first = bodies.take();
        first.extend_from_slice(b"secret");
        let place = first.as_ptr();
        let sent = bodies.lend(first);
        let part = sent.slice(2..4);
        drop(sent);
        let other = bodies.take();
        assert_ne!(other.as_ptr(), place, "a part of it is still needed");
        assert_eq!(&*part, b"cr");
        drop(part);
        let again = bodies.take();
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let bodies = Bodies::default();
        drop(bodies.lend(Vec::with_capacity(KEPT_SIZE_MAX + 1)));
        assert_eq!(bodies.free().len(), 0);
        let many: Vec<Bytes> = (0..KEPT_MAX + 9).map(|_| bodies.lend(vec![0])).collect();
        drop(many);
        assert_eq!(bodies.free().len(), KEPT_MAX);
    }
}
