//! From YAML text to a validated [`Manifest`], with every problem found in one pass.
//!
//! The text becomes a tree of spanned nodes ([`crate::yaml`]), the tree becomes a manifest (`read`),
//! whose keys are declared once (`keys`). What is wrong is a [`Diagnostic`].

pub mod keys;
mod read;

use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Source};
use crate::model::{
    Bandwidth, Concurrency, ContentType, DatasetId, Environment, FailureBudget, Globs, InDoubt,
    OrganizationId, Rate, ReportFormat, RuleName, Schedule, Tag,
};
use crate::template::Template;

pub use self::keys::schema;

/// Largest manifest that is read, in bytes.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A manifest that says what to upload. What could not be understood is left out of it and
/// stands in the diagnostics, so that the rest can still be checked in the same pass.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The stream of runs it belongs to.
    pub name: String,
    /// The rules in order.
    pub rules: Vec<Rule>,
    /// How to carry it out.
    pub run: RunSettings,
    /// Where reports go; empty means the default places.
    pub reports: Vec<ReportPath>,
}

/// One entry of `uploads:`.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name, unique in the manifest.
    pub name: RuleName,
    /// The folder it looks in, joined to the manifest's folder.
    pub root: PathBuf,
    /// Where the root stands in the manifest.
    pub root_span: Range<usize>,
    /// What it takes.
    pub include: Globs,
    /// Where each include pattern stands.
    pub include_spans: Vec<Range<usize>>,
    /// What it leaves out.
    pub exclude: Globs,
    /// The dataset, or the service's default one; where it is named, once the name was looked up.
    pub dataset_id: Option<DatasetId>,
    /// The dataset's name, where it is given instead of an id.
    pub dataset: Option<DatasetName>,
    /// The organization, where the manifest names one.
    pub organization_id: Option<OrganizationId>,
    /// The metadata templates in order.
    pub metadata: Vec<(String, Template)>,
    /// The template of the remote name, where one is given.
    pub file_name: Option<Template>,
    /// The content type, where it is not found by extension.
    pub content_type: Option<ContentType>,
    /// What an include pattern that matches nothing is.
    pub on_empty: OnEmpty,
    /// When a stored file counts as changed.
    pub compare: Compare,
    /// What to do then.
    pub on_change: OnChange,
    /// What to do where only the metadata differs.
    pub on_metadata_change: OnMetadataChange,
}

/// A dataset by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetName {
    /// The name, without white space around it.
    pub text: String,
    /// Where it stands in the manifest.
    pub span: Range<usize>,
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

/// What an include pattern that matches no file is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnEmpty {
    /// An error: nothing is uploaded.
    #[default]
    Error,
    /// A warning.
    Warn,
    /// No matter.
    Ignore,
}

/// The `run:` mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSettings {
    /// Files on their way at once.
    pub concurrency: Option<Concurrency>,
    /// Requests a second, by time of day; none for no limit.
    pub rate: Option<Schedule<Option<Rate>>>,
    /// Bytes a second, by time of day; none for no limit.
    pub bandwidth: Option<Schedule<Option<Bandwidth>>>,
    /// How many files may fail before a run stops.
    pub failure_budget: Option<FailureBudget>,
    /// Attempts for one file.
    pub max_attempts: Option<NonZeroU32>,
    /// How long after a file's first attempt another one may begin.
    pub retry_for: Option<Duration>,
    /// How long a run may take.
    pub deadline: Option<Duration>,
    /// What to do with files in doubt.
    pub in_doubt: Option<InDoubt>,
    /// How long a file in doubt must be absent from the listing to count as not stored.
    pub settle: Option<Duration>,
    /// Whether a key is planted in the metadata.
    pub tag: Tag,
}

/// One report to write.
#[derive(Debug, Clone)]
pub struct ReportPath {
    /// The path's template; relative paths are relative to the manifest's folder.
    pub path: Template,
    /// The format that the extension chose.
    pub format: ReportFormat,
    /// Where the path stands in the manifest.
    pub span: Range<usize>,
}

/// A manifest as far as it could be understood, and what is wrong with it.
#[derive(Debug)]
pub struct Reading {
    /// What could be understood.
    pub manifest: Manifest,
    /// What is wrong, warnings too.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads a manifest's text. `path` gives relative roots their folder and the manifest its default
/// name; nothing is opened.
#[must_use]
pub fn read(source: &Source, path: &Path, environment: &Environment) -> Reading {
    read::read(source, path, environment)
}
