//! The names that an expression may use.

use super::Scope;

/// A name that an expression may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `file.path`
    FilePath,
    /// `file.name`
    FileName,
    /// `file.stem`
    FileStem,
    /// `file.extension`
    FileExtension,
    /// `file.parent`
    FileParent,
    /// `file.size`
    FileSize,
    /// `file.modified`
    FileModified,
    /// `rule.name`
    RuleName,
    /// `run.id`
    RunId,
    /// `run.started`
    RunStarted,
    /// `manifest.name`
    ManifestName,
}

impl Name {
    /// Every name with its meaning, in the order of the documentation.
    pub const ALL: [(Self, &'static str, &'static str); 11] = [
        (Self::FilePath, "file.path", "path below `root`, with `/`"),
        (Self::FileName, "file.name", "last component of the path"),
        (
            Self::FileStem,
            "file.stem",
            "name without its last extension",
        ),
        (
            Self::FileExtension,
            "file.extension",
            "last extension, without the dot",
        ),
        (
            Self::FileParent,
            "file.parent",
            "folder below `root`, empty at the top",
        ),
        (Self::FileSize, "file.size", "bytes, as a number"),
        (
            Self::FileModified,
            "file.modified",
            "time of the last change, RFC 3339 in UTC",
        ),
        (Self::RuleName, "rule.name", "the rule's name"),
        (Self::RunId, "run.id", "the run's id"),
        (
            Self::RunStarted,
            "run.started",
            "start of the run, RFC 3339 in UTC",
        ),
        (Self::ManifestName, "manifest.name", "the manifest's name"),
    ];

    pub(super) fn of(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, name, _)| *name == text)
            .map(|(name, _, _)| *name)
    }

    pub(super) fn is_in(self, scope: Scope) -> bool {
        match self {
            Self::ManifestName => scope != Scope::Vars,
            Self::RuleName => matches!(scope, Scope::File | Scope::Rule),
            Self::RunId | Self::RunStarted => matches!(scope, Scope::File | Scope::Run),
            _ => scope == Scope::File,
        }
    }
}
