//! What a plan says: rows, decisions, notes, counts.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use crate::manifest::OnChange;
use crate::model::{
    AttemptId, ContentType, Digest, FileId, InDoubt, Metadata, RelativePath, RemoteName, RootId,
    RuleName, SourcePath, Stat, Target, count, shown,
};

/// A rule as planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRule {
    /// Its name.
    pub name: RuleName,
    /// Where its files go.
    pub target: Arc<Target>,
    /// What to do with a file whose content changed since it was stored.
    pub on_change: OnChange,
}

impl PlannedRule {
    /// Whether a changed file is sent.
    #[must_use]
    pub fn sends_changes(&self) -> bool {
        self.on_change == OnChange::Upload
    }
}

/// One row of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Index of its rule in [`Plan::rules`](super::Plan::rules).
    pub rule: usize,
    /// Its root, to open it by.
    pub root: RootId,
    /// Its path below the root.
    pub relative: RelativePath,
    /// What the ledger knows it by.
    pub path: SourcePath,
    /// Its size and times; none where there is no regular file.
    pub stat: Option<Stat>,
    /// What would be sent with it; none where it cannot be sent.
    pub sending: Option<Sending>,
    /// What to do, and why.
    pub decision: Decision,
    /// What is worth knowing beside that.
    pub notes: Vec<Note>,
}

/// What goes to the service beside the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sending {
    /// The name to store it under.
    pub remote_name: RemoteName,
    /// The media type.
    pub content_type: ContentType,
    /// The metadata.
    pub metadata: Metadata,
}

/// What to do with a planned file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Send it.
    Upload(UploadReason),
    /// Nothing to do.
    Skip(Skip),
    /// Not to be sent until it is settled whether the service has it.
    Hold(Held),
    /// Two rules want it for one target: the other rule's name. Neither sends it, since nobody
    /// can say which metadata is meant.
    Conflict(RuleName),
    /// It was stored with other content, and the rule calls that a failure.
    ChangeRefused,
    /// It cannot be sent: why.
    Unusable(String),
}

/// Why a file is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadReason {
    /// The ledger does not know it.
    New,
    /// It was stored, and has other content now.
    Changed,
    /// It was stored, and has other metadata now.
    MetadataChanged,
    /// An earlier attempt certainly did not store it.
    Retry,
    /// This earlier attempt may have stored it, and the policy is to send it all the same.
    Resend(AttemptId),
}

/// A file that is stored and not sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The id the service gave it.
    pub file_id: Option<FileId>,
    /// The digest of the stored bytes.
    pub digest: Option<Digest>,
    /// Why it is not sent.
    pub why: SkipReason,
}

/// Why a stored file is not sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// It is as it was.
    Unchanged,
    /// Only its time or inode differ: the content was read and is the same.
    Touched,
    /// It is stored as it was at this path, which is gone.
    Moved(SourcePath),
    /// Its content changed, and the rule says to leave that.
    ChangeIgnored,
}

/// A file that waits until a doubt is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The attempt in question.
    pub attempt: AttemptId,
    /// What happened then, where that is known.
    pub why: Option<String>,
    /// How it is to be settled.
    pub policy: InDoubt,
    /// Whether an earlier version is stored for sure.
    pub stored: StoredBefore,
}

/// Whether an earlier version of a file is stored for sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoredBefore {
    /// One is.
    Yes,
    /// None is, for all that is known.
    No,
}

/// What is done with a file, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "action")]
pub enum Action {
    /// It is sent.
    Upload,
    /// Nothing: it is stored.
    Skip,
    /// It waits until it is settled whether the service has it.
    Hold,
    /// It is not sent: two rules want it for one target.
    Conflict,
    /// It is not sent: it changed since it was stored, and the rule calls that a failure.
    Refuse,
    /// It cannot be sent.
    Unusable,
}

impl Action {
    /// The word in plans and in the ledger; stable.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Skip => "skip",
            Self::Hold => "hold",
            Self::Conflict => "conflict",
            Self::Refuse => "refuse",
            Self::Unusable => "unusable",
        }
    }
}

/// Why that is done with a file, as a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "reason")]
pub enum Reason {
    /// The ledger does not know it.
    New,
    /// It was stored, and has other content now.
    Changed,
    /// It was stored, and has other metadata now.
    MetadataChanged,
    /// An earlier attempt certainly did not store it.
    Retry,
    /// An earlier attempt may have stored it, and the policy is to send it all the same.
    Resend,
    /// It is stored as it is.
    Unchanged,
    /// It is stored as it was at another path, which is gone.
    Moved,
    /// Its content changed since it was stored, and the rule says to leave that.
    ChangeIgnored,
    /// An earlier attempt may have stored it.
    InDoubt,
    /// Another rule sends the same file to the same target.
    SameFile,
    /// It is no regular file, cannot be read, or nothing could be made of its name or metadata.
    Unusable,
}

impl Reason {
    /// The word in plans; stable.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Changed => "changed",
            Self::MetadataChanged => "metadata_changed",
            Self::Retry => "retry",
            Self::Resend => "resend",
            Self::Unchanged => "unchanged",
            Self::Moved => "moved",
            Self::ChangeIgnored => "change_ignored",
            Self::InDoubt => "in_doubt",
            Self::SameFile => "same_file",
            Self::Unusable => "unusable",
        }
    }
}

/// Something worth knowing of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The service will store it under another name than the one wanted.
    StoredAs(String),
    /// Other files of this plan get the same name in the same target: how many.
    NameShared(usize),
    /// Its metadata is not what was stored with it; it is not sent for that.
    MetadataDiffers,
    /// It is 2 GiB or more: the API's size field cannot say so.
    Large,
    /// It has no bytes: some services refuse such files.
    Empty,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload(UploadReason::New) => f.write_str("new"),
            Self::Upload(UploadReason::Changed) => f.write_str("its content changed"),
            Self::Upload(UploadReason::Retry) => f.write_str("an earlier attempt did not store it"),
            Self::Upload(UploadReason::MetadataChanged) => f.write_str("its metadata changed"),
            Self::Upload(UploadReason::Resend(_)) => f.write_str(
                "an earlier attempt may have stored it; sent again, as `in_doubt: resend` says",
            ),
            Self::Skip(skip) => match &skip.why {
                SkipReason::Unchanged | SkipReason::Touched => f.write_str("stored and unchanged"),
                SkipReason::Moved(from) => write!(f, "stored before as {from}, which is gone"),
                SkipReason::ChangeIgnored => f.write_str(
                    "its content changed since it was stored; left, as `on_change: skip` says",
                ),
            },
            Self::Hold(held) => write!(
                f,
                "an earlier attempt may have stored it ({}); {}",
                held.why
                    .as_deref()
                    .unwrap_or("its run ended before the answer"),
                match held.policy {
                    InDoubt::Verify => "to be looked up in the dataset",
                    InDoubt::Hold | InDoubt::Resend => "held until `resolve` settles it",
                }
            ),
            Self::ChangeRefused => f.write_str(
                "its content changed since it was stored; refused, as `on_change: fail` says",
            ),
            Self::Conflict(other) => write!(
                f,
                "rule {other} sends the same file to the same target; exclude it from one of them"
            ),
            Self::Unusable(why) => f.write_str(why),
        }
    }
}

impl Decision {
    /// What is done.
    #[must_use]
    pub fn action(&self) -> Action {
        match self {
            Self::Upload(_) => Action::Upload,
            Self::Skip(_) => Action::Skip,
            Self::Hold(_) => Action::Hold,
            Self::Conflict(_) => Action::Conflict,
            Self::ChangeRefused => Action::Refuse,
            Self::Unusable(_) => Action::Unusable,
        }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Upload(UploadReason::New) => Reason::New,
            Self::Upload(UploadReason::Changed) | Self::ChangeRefused => Reason::Changed,
            Self::Upload(UploadReason::MetadataChanged) => Reason::MetadataChanged,
            Self::Upload(UploadReason::Retry) => Reason::Retry,
            Self::Upload(UploadReason::Resend(_)) => Reason::Resend,
            Self::Skip(skip) => match skip.why {
                SkipReason::Unchanged | SkipReason::Touched => Reason::Unchanged,
                SkipReason::Moved(_) => Reason::Moved,
                SkipReason::ChangeIgnored => Reason::ChangeIgnored,
            },
            Self::Hold(_) => Reason::InDoubt,
            Self::Conflict(_) => Reason::SameFile,
            Self::Unusable(_) => Reason::Unusable,
        }
    }

    /// The sign that marks it in a plan for people.
    #[must_use]
    pub fn sign(&self) -> char {
        match self {
            Self::Upload(UploadReason::New) => '+',
            Self::Upload(UploadReason::Changed | UploadReason::MetadataChanged) => '~',
            Self::Upload(UploadReason::Retry | UploadReason::Resend(_)) => '>',
            Self::Skip(_) => '=',
            Self::Hold(_) => '?',
            Self::Conflict(_) | Self::ChangeRefused | Self::Unusable(_) => '!',
        }
    }
}

impl Note {
    /// What notes of this kind say of several files.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::StoredAs(_) => "stored under another name",
            Self::NameShared(_) => "sharing a name in the dataset",
            Self::MetadataDiffers => "with other metadata than was stored",
            Self::Large => "of 2 GiB or more",
            Self::Empty => "empty",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StoredAs(name) => write!(f, "the service will store it as \"{}\"", shown(name)),
            Self::NameShared(others) => write!(
                f,
                "{} of this plan with the same name there",
                count(*others, "other file")
            ),
            Self::MetadataDiffers => {
                f.write_str("its metadata differs from what was stored; it is not sent for that")
            }
            Self::Large => f.write_str("2 GiB or more: the API cannot state its size"),
            Self::Empty => f.write_str("it is empty; a service may refuse it"),
        }
    }
}

/// Files and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Files.
    pub files: usize,
    /// Their bytes together.
    pub bytes: u64,
}

impl Tally {
    pub(super) fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// What an upload needs of its row.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// The row.
    pub file: &'a PlannedFile,
    /// The file as planned.
    pub stat: Stat,
    /// What goes with it.
    pub sending: &'a Sending,
}

impl PlannedFile {
    /// The row as an upload, if it is one.
    #[must_use]
    pub fn as_upload(&self) -> Option<Upload<'_>> {
        self.sendable().filter(|_| self.is_upload())
    }

    /// The row as an upload, also where it is held back; none where there is nothing to send.
    #[must_use]
    pub fn sendable(&self) -> Option<Upload<'_>> {
        match (self.stat, &self.sending) {
            (Some(stat), Some(sending)) => Some(Upload {
                file: self,
                stat,
                sending,
            }),
            _ => None,
        }
    }

    /// Whether it is to be sent.
    #[must_use]
    pub fn is_upload(&self) -> bool {
        matches!(self.decision, Decision::Upload(_))
    }

    /// Whether a run asks the service about it: to store it, or whether it is stored.
    #[must_use]
    pub fn asks_service(&self) -> bool {
        match &self.decision {
            Decision::Upload(_) => true,
            Decision::Hold(held) => held.policy == InDoubt::Verify,
            _ => false,
        }
    }
}
