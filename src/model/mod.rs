//! The shared nouns: what every room means by a path, a target, a job, an outcome.
//!
//! Nothing here does I/O. Strings that mean something are newtypes, choices are enums.

mod budget;
mod candidate;
mod capture;
mod concurrency;
mod content_type;
mod cron;
mod digests;
mod doubt;
mod fields;
mod file_ids;
mod glob;
mod hex;
mod known;
mod metadata;
mod narration;
mod outcome;
mod pieces;
mod remote_name;
mod retry_after;
mod schedule;
mod schema;
mod secret;
mod text;
mod transport;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::budget::{Bandwidth, FailureBudget, Rate, size};
pub use self::candidate::{
    Candidate, CandidateId, Candidates, Entry, RootCandidates, RootId, Stretch,
};
pub use self::capture::{Capture, CaptureError};
pub use self::concurrency::{CONCURRENCY_MAX, Concurrency};
pub use self::content_type::{ContentType, ContentTypeError};
pub use self::cron::CronTime;
pub use self::digests::{Digests, DigestsRead, ToRead};
pub use self::doubt::{Doubt, InDoubt, TAG_KEY, Tag};
pub use self::fields::Fields;
pub use self::file_ids::FileIds;
pub use self::glob::{Glob, GlobError, GlobIndex, Globs, Reached};
pub use self::hex::{Hex, write_hex};
pub use self::known::{Known, KnownFile, KnownState, Owner, StoredVersion};
pub use self::metadata::{HIDDEN, Metadata, Secrecy, ShownMetadata};
pub use self::narration::{Drawing, LogForm, Narration, ProgressMode, Verbosity};
pub use self::outcome::{Difference, End, Gravity, JobEnd, Outcome};
pub use self::pieces::{Piece, Pieces, loose};
pub use self::remote_name::{RemoteName, StoredName};
pub use self::retry_after::RetryAfter;
pub use self::schedule::{Schedule, TimeRange};
pub use self::schema::schema_of;
pub use self::secret::{ApiKey, Environment, Variable, looks_secret};
pub use self::text::{
    Bytes as HumanBytes, canonical_id, closest, count, is_shown, number, shown, shown_bounded,
};
pub use self::transport::HttpVersion;

/// Declares a newtype over text with the usual conversions; the meaning is in its doc line.
macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(transparent)]
        #[schemars(inline)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a text that is already known to be one.
            #[must_use]
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&shown(&self.0))
            }
        }
    };
}

text_newtype! {
    /// The name of one entry of a manifest's `uploads:` list.
    RuleName
}
text_newtype! {
    /// A Roe dataset's id, as the API gives it.
    DatasetId
}
text_newtype! {
    /// A Roe organization's id, as the API gives it.
    OrganizationId
}
text_newtype! {
    /// The id that Roe returned for a stored file.
    FileId
}

impl FileId {
    /// The UUID that it is, where it is written in the usual form (RFC 9562 section 4, in small
    /// letters): then, and only then, the number stands for the text.
    #[must_use]
    pub fn as_uuid(&self) -> Option<u128> {
        let text = self.as_str();
        let id = Uuid::try_parse(text).ok()?;
        let mut usual = Uuid::encode_buffer();
        (id.hyphenated().encode_lower(&mut usual) == text).then(|| id.as_u128())
    }
}
text_newtype! {
    /// Scheme, host and port of the API, or the word `sandbox` for the embedded one, whose
    /// port differs from run to run.
    Origin
}
text_newtype! {
    /// A file's path below its rule's root: UTF-8, `/` between components, no leading slash.
    RelativePath
}
text_newtype! {
    /// What the ledger knows a file by: its path below the folder that holds the state folder,
    /// or its absolute path where it lies elsewhere. Of a file that several rules send to one
    /// target each further copy has `//` and the rule's name behind that.
    SourcePath
}
text_newtype! {
    /// The id of one `apply`: a UUID version 7, so ids sort by start (RFC 9562).
    RunId
}
text_newtype! {
    /// The id of one POST: a UUID version 7 made here, sent as `X-Request-ID`.
    AttemptId
}

/// What stands between a file's path and the rule whose copy is meant: no path holds it.
const COPY: &str = "//";

impl AsRef<str> for SourcePath {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl SourcePath {
    /// What a further copy of the file is known by, sent to the same target by another rule.
    #[must_use]
    pub fn copy_of(&self, rule: &RuleName) -> Self {
        let mut path = self.file().to_owned();
        Self::write_copy(&mut path, rule);
        Self::new(path)
    }

    /// The file's own path, whichever copy of it is meant.
    #[must_use]
    pub fn file(&self) -> &str {
        Self::file_of(&self.0)
    }

    /// The same of a source path that is not kept.
    #[must_use]
    pub fn file_of(path: &str) -> &str {
        path.split_once(COPY).map_or(path, |(file, _)| file)
    }

    /// Makes a file's own path in a text that of the copy that a rule sends.
    pub fn write_copy(path: &mut String, rule: &RuleName) {
        path.push_str(COPY);
        path.push_str(rule.as_str());
    }
}

impl RelativePath {
    /// Takes a path that somebody wrote.
    ///
    /// # Errors
    ///
    /// Says what it is instead of a path below a root, in the one way to write it: empty, absolute,
    /// a folder, with `.`, `..` or empty components, or with a NUL byte.
    pub fn parse(text: &str) -> Result<Self, String> {
        let said = shown_bounded(text);
        let bad = |why: &str| Err(format!("`{said}` {why}"));
        if text.is_empty() {
            return Err("the path is empty".to_owned());
        }
        if text.starts_with('/') {
            return bad("is an absolute path");
        }
        if text.ends_with('/') {
            return bad("is a folder, not a file");
        }
        if text.contains('\0') {
            return bad("has a NUL byte");
        }
        let mut components = text.split('/');
        if components.any(|component| matches!(component, "" | "." | "..")) {
            return bad("has an empty component, `.` or `..`");
        }
        Ok(Self::new(text))
    }
}

/// Where a file is to be stored. Without a dataset the service uses its default dataset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Target {
    /// The API's scheme, host and port.
    pub origin: Origin,
    /// The organization, where one is given.
    pub organization_id: Option<OrganizationId>,
    /// The dataset, where one is given.
    pub dataset_id: Option<DatasetId>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.dataset_id {
            Some(dataset) => write!(f, "dataset {dataset}")?,
            None => f.write_str("the default dataset")?,
        }
        if let Some(organization) = &self.organization_id {
            write!(f, " of organization {organization}")?;
        }
        write!(f, " at {}", self.origin)
    }
}

/// What the file system says of a file: cheap to compare, and enough to notice a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Modification time in nanoseconds since the Unix epoch.
    pub mtime_ns: i64,
    /// Inode number: differs when a file was replaced by another of the same size and time.
    pub inode: u64,
}

impl Stat {
    /// The modification time, clamped to what a timestamp can hold.
    #[must_use]
    pub fn modified(&self) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(self.mtime_ns)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// The BLAKE3 digest of a file's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Reads the 64 hexadecimal digits that [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        hex::read_hex(hex).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Hex::of(self).as_str())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What a directory entry turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A symbolic link to anything but a folder: links are not followed.
    Symlink,
    /// A symbolic link to a folder.
    LinkedFolder,
    /// A symbolic link to something that is not below the root, where links within it are followed.
    LinkOut,
    /// A symbolic link to a folder that is not below the root, likewise.
    LinkedFolderOut,
    /// A symbolic link to nothing, likewise.
    BrokenLink,
    /// A symbolic link to itself, or to a folder that holds it, likewise.
    LinkLoop,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A block or character device.
    Device,
}

impl EntryKind {
    /// Whether it is a folder that was not entered: a rule may want files that lie in it.
    #[must_use]
    pub fn may_hold_files(self) -> bool {
        matches!(
            self,
            Self::LinkedFolder | Self::LinkedFolderOut | Self::LinkLoop
        )
    }
}

impl fmt::Display for EntryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Symlink => "a symbolic link, not followed",
            Self::LinkedFolder => "a symbolic link to a folder, not followed",
            Self::LinkOut => "a symbolic link that leads out of the root",
            Self::LinkedFolderOut => "a symbolic link to a folder out of the root",
            Self::BrokenLink => "a symbolic link to nothing",
            Self::LinkLoop => "a symbolic link into itself",
            Self::Fifo => "a named pipe, not a file",
            Self::Socket => "a socket, not a file",
            Self::Device => "a device, not a file",
        })
    }
}

/// Which symbolic links below a root are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Links {
    /// None.
    #[default]
    Never,
    /// Those that lead to a file or folder below the same root.
    WithinRoot,
}

/// How much of one attempt the server can have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    /// No byte of the body was handed to a connection.
    NotSent,
    /// Some of the body was handed over; its end was withheld.
    Incomplete,
    /// The whole body was handed over: the server can have stored the file.
    Complete,
}

/// The formats a report can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportFormat {
    /// Comma-separated values (RFC 4180): column names, then one row a file.
    Csv,
    /// One JSON object: `header` and `files`.
    Json,
    /// The header on a line, then a line a file.
    JsonLines,
    /// A page for people, with all that it needs in it.
    Html,
}

impl ReportFormat {
    /// What a path has to end with, as a hint says it.
    pub const EXTENSIONS: &str = "end the path with .csv, .json, .jsonl or .html";

    /// The format that a path's extension chooses, whatever its case.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let (_, extension) = path.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            "jsonl" => Some(Self::JsonLines),
            "html" => Some(Self::Html),
            _ => None,
        }
    }
}

/// Tells the time. The only source of it below the command layer, so tests choose it.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Now.
    fn now(&self) -> Timestamp;

    /// The time of the day, where schedules are followed: by UTC unless a clock knows a place.
    fn time_of_day(&self) -> Time {
        TimeZone::UTC.to_datetime(self.now()).time()
    }
}

/// Why a run ended before its end, in the order in which DESIGN's exit codes rank them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// The ledger could not be written: without it nothing may be sent.
    Ledger(String),
    /// The service refused the credentials (401, 402 or 403).
    Credentials(String),
    /// The service cannot be used as configured: unreachable, TLS refused, redirected.
    Unavailable(String),
    /// A signal asked the run to end.
    Interrupted(Signal),
    /// The dataset or path is unknown to the service (404).
    UnknownTarget(String),
    /// More files failed than the run may have.
    FailureBudget(String),
    /// The time that the run may take is over.
    Deadline(Duration),
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ledger(why)
            | Self::Credentials(why)
            | Self::Unavailable(why)
            | Self::UnknownTarget(why)
            | Self::FailureBudget(why) => f.write_str(why),
            Self::Deadline(limit) => write!(
                f,
                "the run's deadline of {:#} is reached",
                SignedDuration::try_from(*limit).unwrap_or(SignedDuration::MAX)
            ),
            Self::Interrupted(signal) => write!(f, "interrupted by {signal}"),
        }
    }
}

/// The signals that end a run in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// What systemd and Kubernetes send.
    Terminate,
    /// The terminal went away.
    Hangup,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(pairs: &[(&str, &str)]) -> Metadata {
        Metadata::open(
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        )
    }

    #[test]
    fn metadata_digest_ignores_order_but_not_where_one_text_ends() {
        assert_eq!(
            metadata(&[("a", "1"), ("b", "2")]).digest(),
            metadata(&[("b", "2"), ("a", "1")]).digest()
        );
        assert_ne!(
            metadata(&[("a", "1b")]).digest(),
            metadata(&[("a1", "b")]).digest()
        );
    }

    #[test]
    fn metadata_is_sent_in_the_manifests_order() {
        assert_eq!(
            metadata(&[("z", "1.10"), ("a", "007")]).sent_json(),
            r#"{"z":"1.10","a":"007"}"#
        );
    }

    #[test]
    fn a_copy_is_known_by_the_file_and_the_rule() {
        let path = SourcePath::new("/srv/in/a.pdf");
        let copy = path.copy_of(&RuleName::new("web//x"));
        assert_eq!(copy.as_str(), "/srv/in/a.pdf//web//x");
        assert_eq!((copy.file(), path.file()), (path.as_str(), path.as_str()));
    }

    #[test]
    fn a_path_below_a_root_is_written_in_one_way() {
        assert!(RelativePath::parse("2024/a b.pdf").is_ok());
        for bad in ["", "/a", "a/", "./a", "a/../b", "a//b", "a\0b", ".."] {
            assert!(RelativePath::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_digest_reads_back_what_it_writes() {
        let digest = Digest(*blake3::hash(b"roe").as_bytes());
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse("not hex"), None);
    }
}
