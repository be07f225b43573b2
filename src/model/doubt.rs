//! Files that the service may have stored.

use jiff::Timestamp;

use super::{AttemptId, Digest, SourcePath, Stat, Target};

/// The metadata key under which an attempt's id is planted, where the manifest asks for it.
pub const TAG_KEY: &str = "roe_batch_key";

/// Whether an attempt's metadata carries the attempt's id under [`TAG_KEY`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tag {
    /// It does.
    Planted,
    /// It does not.
    #[default]
    None,
}

/// What to do with files in doubt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InDoubt {
    /// Look for them in the dataset's listing.
    #[default]
    Verify,
    /// Leave them until somebody settles them by hand.
    Hold,
    /// Send them again, at the risk of storing them twice.
    Resend,
}

/// A file that the service may have stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The attempt in question: its `X-Request-ID`, and the planted key where there is one.
    pub attempt: AttemptId,
    /// The name of the manifest whose run sent it.
    pub stream: String,
    /// Where it was sent.
    pub target: Target,
    /// The file.
    pub path: SourcePath,
    /// The name it was sent under.
    pub remote_name: String,
    /// The file as it was sent.
    pub stat: Stat,
    /// The digest of the bytes sent.
    pub digest: Option<Digest>,
    /// The digest of the metadata sent, without a planted key.
    pub metadata: Digest,
    /// Whether the attempt's id was planted in the metadata.
    pub tag: Tag,
    /// When its bytes began to be read, by this machine's clock.
    pub began: Timestamp,
    /// Since when it is in doubt: the gate's opening, or what broke after it.
    pub since: Timestamp,
    /// The first look at the listing that did not show it, where there was one.
    pub absent_since: Option<Timestamp>,
    /// What happened, where anything was answered or broke; a run that died left nothing.
    pub reason: Option<String>,
    /// What the last look at the listing said, where it settled nothing.
    pub last_look: Option<String>,
}
