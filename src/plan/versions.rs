//! What is known of the stored versions of files that are not sent again.

use std::sync::Arc;

use super::decision::{Decision, Skip, SkipReason};
use super::rows::small;
use crate::model::{Digest, FileId, StoredVersion};
use crate::spill::{Block, Blocks, Spill, take};

/// Versions of one block: so many that reading one back costs little for each of them.
const BLOCK: usize = if cfg!(test) { 2 } else { 1024 };

const NOWHERE: [u8; 4] = u32::MAX.to_le_bytes();

/// Versions in the order in which they were kept, packed. All but the last may have left memory.
#[derive(Debug, Default)]
pub(super) struct Versions {
    sealed: Blocks<Packed>,
    open: Packed,
    /// Ids that are no UUIDs as they are written by most.
    odd_ids: Vec<FileId>,
}

#[derive(Debug, Default)]
struct Packed(Vec<Version>);

#[derive(Debug, Clone, Copy)]
struct Version {
    digest: [u8; 32],
    /// A UUID, or the place of an odd id in its first bytes.
    id: [u8; 16],
    /// Where the file lay that it is of, among what is left; [`NOWHERE`] if it was not moved. Bytes,
    /// as they take no room to be aligned.
    from: [u8; 4],
    has_digest: bool,
    id_is: IdIs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum IdIs {
    Missing,
    Uuid,
    Odd,
}

impl Block for Packed {
    fn size(&self) -> usize {
        self.0.len() * size_of::<Version>()
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        for version in &self.0 {
            bytes.extend(version.digest);
            bytes.extend(version.id);
            bytes.push(u8::from(version.has_digest));
            bytes.push(match version.id_is {
                IdIs::Missing => 0,
                IdIs::Uuid => 1,
                IdIs::Odd => 2,
            });
            bytes.extend(version.from);
        }
    }

    fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let mut versions = Vec::with_capacity(bytes.len() / size_of::<Version>());
        while !bytes.is_empty() {
            versions.push(Version {
                digest: take(&mut bytes)?,
                id: take(&mut bytes)?,
                has_digest: take(&mut bytes)? == [1],
                id_is: match take(&mut bytes)? {
                    [0] => IdIs::Missing,
                    [1] => IdIs::Uuid,
                    _ => IdIs::Odd,
                },
                from: take(&mut bytes)?,
            });
        }
        Some(Self(versions))
    }
}

impl Versions {
    pub fn new(spill: Arc<Spill>) -> Self {
        Self {
            sealed: Blocks::new(spill),
            ..Self::default()
        }
    }

    /// Keeps one of a file that lies where it lay, or lay elsewhere among what is left.
    pub fn keep(&mut self, stored: &StoredVersion, from: Option<usize>) -> u32 {
        let (mut id, mut id_is) = ([0; 16], IdIs::Missing);
        if let Some(file_id) = &stored.file_id {
            if let Some(uuid) = file_id.as_uuid() {
                (id, id_is) = (uuid.to_be_bytes(), IdIs::Uuid);
            } else {
                id[..4].copy_from_slice(&small(self.odd_ids.len()).to_le_bytes());
                id_is = IdIs::Odd;
                self.odd_ids.push(file_id.clone());
            }
        }
        let at = small(self.sealed.len() * BLOCK + self.open.0.len());
        self.open.0.push(Version {
            digest: stored.digest.map_or([0; 32], |digest| digest.0),
            has_digest: stored.digest.is_some(),
            id,
            from: from.map_or(NOWHERE, |from| small(from).to_le_bytes()),
            id_is,
        });
        if self.open.0.len() == BLOCK {
            let full = std::mem::take(&mut self.open);
            let sealed = self.sealed.spill().seal(full);
            self.sealed.push(sealed);
        }
        at
    }

    /// One of them; none where it cannot be read back.
    fn get(&self, at: u32) -> Option<Version> {
        let (block, at) = (at as usize / BLOCK, at as usize % BLOCK);
        if block == self.sealed.len() {
            return self.open.0.get(at).copied();
        }
        self.sealed.get(block)?.0.get(at).copied()
    }

    pub fn digest(&self, at: u32) -> Option<Digest> {
        let version = self.get(at)?;
        version.has_digest.then_some(Digest(version.digest))
    }

    /// Where its file lay, among what is left.
    pub fn from(&self, at: u32) -> Option<usize> {
        let from = self.get(at)?.from;
        (from != NOWHERE).then(|| u32::from_le_bytes(from) as usize)
    }

    pub fn skip(&self, at: u32, why: SkipReason) -> Decision {
        let Some(version) = self.get(at) else {
            return Decision::Unusable("what is stored of it cannot be read back".to_owned());
        };
        let file_id = match version.id_is {
            IdIs::Missing => None,
            IdIs::Uuid => {
                let mut text = uuid::Uuid::encode_buffer();
                let uuid = uuid::Uuid::from_bytes(version.id);
                Some(FileId::new(&*uuid.hyphenated().encode_lower(&mut text)))
            }
            IdIs::Odd => {
                let [a, b, c, d, ..] = version.id;
                Some(self.odd_ids[u32::from_le_bytes([a, b, c, d]) as usize].clone())
            }
        };
        Decision::Skip(Skip {
            file_id,
            digest: version.has_digest.then_some(Digest(version.digest)),
            why,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use jiff::Timestamp;

    use super::*;
    use crate::model::Stat;

    fn kept(versions: &mut Versions, id: Option<&str>, digest: Option<Digest>) -> u32 {
        let from = digest.map(|digest| usize::from(digest.0[0]));
        let no_file = Stat {
            size: 0,
            mtime_ns: 0,
            inode: 0,
        };
        let stored = StoredVersion {
            stat: no_file,
            digest,
            metadata: Digest([0; 32]),
            file_id: id.map(FileId::new),
            remote_name: String::new(),
            read_at: Timestamp::UNIX_EPOCH,
        };
        versions.keep(&stored, from)
    }

    #[test]
    fn what_is_kept_of_a_stored_version_reads_back_as_it_was_written() {
        for spill in [Spill::default(), Spill::new(0, tempfile::tempfile)] {
            let mut versions = Versions::new(Arc::new(spill));
            let ids = [
                Some("01a2109c-f5d9-73c2-8d01-7c238acbdd97"),
                Some("01A2109C-F5D9-73C2-8D01-7C238ACBDD97"),
                Some("01a2109cf5d973c28d017c238acbdd97"),
                None,
                Some("id-1"),
                Some(""),
            ];
            let digests = [None, Some(Digest([7; 32])), Some(Digest([8; 32]))];
            let mut all = Vec::new();
            for (id, digest) in ids.iter().flat_map(|id| digests.map(|digest| (id, digest))) {
                let at = kept(&mut versions, *id, digest);
                let expected = Decision::Skip(Skip {
                    file_id: id.map(FileId::new),
                    digest,
                    why: SkipReason::Touched,
                });
                all.push((at, digest, expected));
            }
            kept(&mut versions, None, None);
            for (at, digest, expected) in all {
                assert_eq!(versions.skip(at, SkipReason::Touched), expected);
                assert_eq!(versions.digest(at), digest);
                let from = digest.map(|digest| usize::from(digest.0[0]));
                assert_eq!(versions.from(at), from);
            }
        }
    }

    #[test]
    fn a_version_that_cannot_be_read_back_says_so() {
        let unreadable = || OpenOptions::new().write(true).open("/dev/null");
        let spill = Arc::new(Spill::new(0, unreadable));
        let mut versions = Versions::new(Arc::clone(&spill));
        let all = [0; BLOCK].map(|_| kept(&mut versions, None, Some(Digest([7; 32]))));
        let decision = versions.skip(all[0], SkipReason::Touched);
        assert!(matches!(decision, Decision::Unusable(_)));
        assert_eq!(versions.digest(all[0]), None);
        assert!(spill.unread().is_some());
    }
}
