//! What the ledger knows of files.

use std::collections::BTreeMap;
use std::ops::Bound;

use jiff::Timestamp;

use super::{AttemptId, Digest, FileId, SourcePath, Stat, Target};

/// What the ledger last heard of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFile {
    /// How its last attempt ended.
    pub state: KnownState,
    /// The version that the service has for sure. A later attempt that failed does not change it:
    /// a file that goes back to this version is not sent again.
    pub stored: Option<StoredVersion>,
    /// Whose runs sent it.
    pub owner: Owner,
}

/// Which stream of runs last sent a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The one that asks.
    ThisStream,
    /// Another one that shares the ledger.
    AnotherStream,
}

/// A version of a file that the service has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVersion {
    /// The file as it was when sent.
    pub stat: Stat,
    /// The digest of the bytes sent, where all were read.
    pub digest: Option<Digest>,
    /// The digest of the metadata sent.
    pub metadata: Digest,
    /// The id the service gave it, where it gave one.
    pub file_id: Option<FileId>,
    /// The name it was sent under.
    pub remote_name: String,
    /// When the bytes were read: a file whose time of change is not well before this may have
    /// changed since without showing it.
    pub read_at: Timestamp,
}

/// How a file's last attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KnownState {
    /// Stored, with or without a readable id: never sent again while unchanged.
    Stored,
    /// Not stored: a later run tries again.
    NotStored,
    /// The service may have it: the attempt in question, and what happened, where that is known.
    InDoubt(AttemptId, Option<String>),
}

/// What the ledger knows of the targets of a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known(BTreeMap<Target, BTreeMap<SourcePath, KnownFile>>);

impl Known {
    /// Adds what is known of one file.
    pub fn insert(&mut self, target: &Target, path: SourcePath, file: KnownFile) {
        self.0.entry(target.clone()).or_default().insert(path, file);
    }

    /// Everything known, by target and path.
    pub fn iter(&self) -> impl Iterator<Item = (&Target, &SourcePath, &KnownFile)> {
        self.0
            .iter()
            .flat_map(|(target, files)| files.iter().map(move |(path, file)| (target, path, file)))
    }

    /// What is known of one file.
    #[must_use]
    pub fn get(&self, target: &Target, path: &SourcePath) -> Option<&KnownFile> {
        self.0.get(target)?.get(path)
    }

    /// What is known of a target's files from a path on, in the order of the paths' bytes.
    pub fn from(
        &self,
        target: &Target,
        from: Bound<&SourcePath>,
    ) -> impl Iterator<Item = (&SourcePath, &KnownFile)> {
        let files = self.0.get(target).into_iter();
        files.flat_map(move |files| files.range::<SourcePath, _>((from, Bound::Unbounded)))
    }
}
