//! What a source found, and what the ledger knows: the two things that planning compares.

use std::collections::HashMap;

use jiff::Timestamp;

use super::{AttemptId, Digest, EntryKind, FileId, RelativePath, SourcePath, Stat, Target};

/// Something found below a root that a rule may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where it lies below the root. A name that is not UTF-8 is shown with replacement
    /// characters and can be no file to upload.
    pub relative: RelativePath,
    /// What it is.
    pub entry: Entry,
}

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File(Stat),
    /// Something else with a name that matches.
    Other(EntryKind),
    /// A file or folder that cannot be used: why.
    Unusable(String),
}

impl Entry {
    /// Orders what has one path: a name that is not UTF-8 is shown as another one may be.
    fn rank(&self) -> u8 {
        match self {
            Self::File(_) => 0,
            Self::Other(_) => 1,
            Self::Unusable(_) => 2,
        }
    }
}

/// What was found below one root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootCandidates {
    /// What precedes relative paths in a [`SourcePath`]: empty, or ending in `/`.
    pub prefix: String,
    /// Where the root holds the folder that source paths are relative to: the way from one to the
    /// other, ending in `/`. Below it a file has the path that any other root would give it.
    pub home_below: Option<String>,
    /// In the order of their source paths' bytes.
    pub found: Vec<Candidate>,
}

impl RootCandidates {
    /// Puts the candidates in order.
    pub fn sort(&mut self) {
        let mut found = std::mem::take(&mut self.found);
        if self.home_below.is_none() {
            // What precedes them is the same for all.
            found.sort_by(|a, b| {
                let by_path = a.relative.cmp(&b.relative);
                by_path.then_with(|| a.entry.rank().cmp(&b.entry.rank()))
            });
        } else {
            found.sort_by_cached_key(|candidate| {
                (
                    self.source_path(&candidate.relative),
                    candidate.entry.rank(),
                )
            });
        }
        self.found = found;
    }

    /// What the ledger knows a candidate of this root by.
    #[must_use]
    pub fn source_path(&self, relative: &RelativePath) -> SourcePath {
        let relative = relative.as_str();
        let at_home = self.home_below.as_ref();
        match at_home.and_then(|way| relative.strip_prefix(way.as_str())) {
            // The folder itself, where it cannot be listed.
            Some("") => SourcePath::new("./"),
            Some(below) => SourcePath::new(below),
            None => SourcePath::new(format!("{}{relative}", self.prefix)),
        }
    }
}

/// An index into [`Candidates::roots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootId(pub usize);

/// Everything found for a manifest: one list a root, however many rules share it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The roots, each walked once.
    pub roots: Vec<RootCandidates>,
    /// For each rule of the manifest, its root; none where the root cannot be read.
    pub rule_roots: Vec<Option<RootId>>,
}

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
pub struct Known(HashMap<Target, HashMap<SourcePath, KnownFile>>);

impl Known {
    /// Adds what is known of one file.
    pub fn insert(&mut self, target: &Target, path: SourcePath, file: KnownFile) {
        self.0.entry(target.clone()).or_default().insert(path, file);
    }

    /// Everything known, in no order.
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
}

/// Digests of files whose content decides, or why a file could not be read.
pub type Digests = HashMap<(RootId, RelativePath), Result<Digest, String>>;
