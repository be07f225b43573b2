//! What one entry of `uploads:` says, as it was understood.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{
    Capture, ContentType, DatasetId, Globs, OrganizationId, RelativePath, RuleName,
};
use crate::template::{Condition, Template};

/// Bytes of the manifest's text.
pub type Span = Range<usize>;

/// One entry of `uploads:`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name, unique in the manifest.
    pub name: RuleName,
    /// Where its name stands, or where it begins.
    pub span: Span,
    /// The folder it looks in, joined to the manifest's folder.
    pub root: PathBuf,
    /// Where the root stands in the manifest.
    pub root_span: Span,
    /// What it takes; none where `files_from` alone says so.
    pub include: Globs,
    /// Where each include pattern stands.
    pub include_spans: Vec<Span>,
    /// What it leaves out.
    pub exclude: Globs,
    /// Where each exclude pattern stands.
    pub exclude_spans: Vec<Span>,
    /// Which of the files that the patterns match it takes.
    pub select: Select,
    /// The dataset, or the service's default one; where it is named, once the name was looked up.
    pub dataset_id: Option<DatasetId>,
    /// The dataset's name, where it is given instead of an id.
    pub dataset: Option<DatasetName>,
    /// The organization, where the manifest names one.
    pub organization_id: Option<OrganizationId>,
    /// The metadata templates in order: the defaults', then the rule's own.
    pub metadata: Vec<MetadataEntry>,
    /// What is looked for in paths.
    pub capture: Option<CaptureRule>,
    /// The table that its files have rows in.
    pub table: Option<TableRule>,
    /// The files beside its files.
    pub sidecar: Option<SidecarRule>,
    /// The template of the remote name, where one is given.
    pub file_name: Option<Placed<Template>>,
    /// The content type, where it is not found by extension.
    pub content_type: Option<Placed<ContentType>>,
    /// What an include pattern that matches nothing is.
    pub on_empty: Reaction,
    /// When a stored file counts as changed.
    pub compare: Compare,
    /// What to do then.
    pub on_change: OnChange,
    /// What to do where only the metadata differs.
    pub on_metadata_change: OnMetadataChange,
}

/// Something and where it stands in the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The thing.
    pub value: T,
    /// Where it stands.
    pub span: Span,
    /// The byte of the manifest at which its text begins as written, where what is written there
    /// is the text itself: ranges within the text can be pointed at.
    pub verbatim: Option<usize>,
}

impl<T> Placed<T> {
    /// The place of a part of the text: exact where the text stands in the manifest as it is.
    #[must_use]
    pub fn part(&self, range: &Range<usize>) -> Span {
        match self.verbatim {
            Some(start) => start + range.start..start + range.end,
            None => self.span.clone(),
        }
    }
}

/// Which files a rule takes of those that its patterns match.
#[derive(Debug, Clone, Default)]
pub struct Select {
    /// What must be true of a file.
    pub when: Option<Placed<Condition>>,
    /// How long it must not have changed.
    pub min_age: Option<Duration>,
    /// The fewest bytes.
    pub min_size: Option<u64>,
    /// The most bytes.
    pub max_size: Option<u64>,
    /// The most components of its path.
    pub max_depth: Option<usize>,
    /// The files that are meant, and no others.
    pub files_from: Option<FilesFrom>,
    /// What to do with symbolic links.
    pub follow_symlinks: FollowSymlinks,
}

/// A list of the files that are meant.
#[derive(Debug, Clone)]
pub enum FilesFrom {
    /// In a text file: its path, joined to the manifest's folder, and where it is named.
    File(PathBuf, Span),
    /// In the manifest: each path, and where it stands.
    Here(Vec<(RelativePath, Span)>),
}

/// What to do with symbolic links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FollowSymlinks {
    /// They are no files.
    #[default]
    Never,
    /// They stand for what they lead to, where that lies below the root.
    WithinRoot,
}

/// One metadata name of a rule, with what gives it its value.
#[derive(Debug, Clone)]
pub struct MetadataEntry {
    /// The name.
    pub key: String,
    /// The value's template, and where it stands.
    pub template: Placed<Template>,
    /// Who says so.
    pub layer: Layer,
}

/// Who gives a metadata name its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// The manifest's `defaults`.
    Defaults,
    /// The rule.
    Rule,
}

/// The `capture` of a rule.
#[derive(Debug, Clone)]
pub struct CaptureRule {
    /// The expression.
    pub capture: Capture,
    /// Where it stands.
    pub span: Span,
    /// Which of its groups become metadata.
    pub metadata: CaptureMetadata,
}

/// Which groups of a capture become metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CaptureMetadata {
    /// None: templates name them.
    #[default]
    None,
    /// All; a file that does not match is not sent.
    All,
}

/// The `table` of a rule.
#[derive(Debug, Clone)]
pub struct TableRule {
    /// The table, joined to the manifest's folder, and where it is named.
    pub path: Placed<PathBuf>,
    /// The column that says which file a row belongs to.
    pub key: Placed<String>,
    /// What that column holds for a file.
    pub matching: Placed<Template>,
    /// What becomes metadata.
    pub columns: Columns,
    /// What stands between two cells, where it is not what the extension says.
    pub delimiter: Option<u8>,
    /// What a file without a row is.
    pub files_without_row: Reaction,
    /// What a row without a file is.
    pub rows_without_file: Reaction,
}

/// Which columns of a table become metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Columns {
    /// All but the key, under their own names.
    All,
    /// These: metadata name and column.
    These(Vec<(String, Placed<String>)>),
}

/// The `sidecar` of a rule.
#[derive(Debug, Clone)]
pub struct SidecarRule {
    /// Its path below the root.
    pub path: Placed<Template>,
    /// What a file without one is.
    pub on_missing: Reaction,
}

/// A dataset by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetName {
    /// The name, without white space around it.
    pub text: String,
    /// Where it stands in the manifest.
    pub span: Span,
}

/// When a stored file counts as changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compare {
    /// When its content differs; read where size, time and inode do not say so.
    #[default]
    Content,
    /// When its size or its time differ.
    SizeMtime,
}

/// What to do with a file whose content changed since it was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnChange {
    /// Store it beside the earlier version.
    #[default]
    Upload,
    /// Leave the earlier version the only one.
    Skip,
    /// Call it a failure.
    Fail,
}

/// What to do with a file of which only the metadata differs from what was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnMetadataChange {
    /// Leave the stored version the only one.
    #[default]
    Skip,
    /// Store it beside the earlier version.
    Upload,
}

/// What something missing is: a pattern's files, a file's row, a row's file, a sidecar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reaction {
    /// An error.
    #[default]
    Error,
    /// A warning.
    Warn,
    /// No matter.
    Ignore,
}
