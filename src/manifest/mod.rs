//! From YAML text to a validated [`Manifest`], with every problem found in one pass.
//!
//! The text becomes a tree of spanned nodes (`yaml`), the tree becomes a manifest (`read`),
//! whose keys are declared once (`keys`). What is wrong is a [`Diagnostic`].

mod hook;
pub mod keys;
mod read;
mod rule;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Source};
use crate::model::{
    Bandwidth, Concurrency, Environment, FailureBudget, InDoubt, Rate, ReportFormat, Schedule, Tag,
};
use crate::template::Template;

pub use self::hook::{Hook, HookOn};
pub use self::keys::schema;
pub use self::rule::{
    CaptureMetadata, CaptureRule, Columns, Compare, DatasetName, FilesFrom, FollowSymlinks, Layer,
    MetadataEntry, OnChange, OnMetadataChange, Placed, Reaction, Rule, Select, SidecarRule, Span,
    TableRule,
};

/// Largest manifest that is read, in bytes.
pub const BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The path that stands for standard input. A manifest from there has no name of its own.
pub const STDIN: &str = "-";

/// A manifest that says what to upload. What could not be understood is left out of it and
/// stands in the diagnostics, so that the rest can still be checked in the same pass.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// The stream of runs it belongs to.
    pub name: String,
    /// The rules in order.
    pub rules: Vec<Rule>,
    /// What to do with a file that several of them send to one target.
    pub overlap: Overlap,
    /// How to carry it out.
    pub run: RunSettings,
    /// Where reports go; empty means the default places.
    pub reports: Vec<ReportPath>,
    /// Who is told of each run's end.
    pub hooks: Vec<Hook>,
}

/// What to do with a file that several rules send to one target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Overlap {
    /// None of them sends it.
    #[default]
    Error,
    /// The first of them sends it.
    First,
    /// Each of them sends it.
    All,
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
    /// What does no harm and no good: for those who check a manifest, not for those who run it.
    pub unused: Vec<Diagnostic>,
    /// The names of its `vars`.
    pub vars: Vec<String>,
    /// What its `run` says, as it is written.
    pub run: Vec<RunEntry>,
}

/// One key of `run`, and what is written there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEntry {
    /// The key.
    pub key: &'static str,
    /// The value, as a flag's would be written.
    pub text: String,
    /// Where the key stands.
    pub span: Range<usize>,
}

/// What a manifest is told by those who run it.
#[derive(Debug, Clone, Copy)]
pub struct Given<'a> {
    /// For `${{ env.NAME }}`.
    pub environment: &'a Environment,
    /// Values of `vars` that replace the manifest's own. Names that it does not have are left
    /// alone: they may be another manifest's.
    pub set: &'a BTreeMap<String, String>,
}

impl<'a> Given<'a> {
    /// The environment, and the `vars` as the manifest has them.
    #[must_use]
    pub fn environment(environment: &'a Environment) -> Self {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        Self {
            environment,
            set: &NONE,
        }
    }
}

/// Reads a manifest's text. `path` gives relative roots their folder and the manifest its default
/// name; nothing is opened.
#[must_use]
pub fn read(source: &Source, path: &Path, given: Given<'_>) -> Reading {
    read::read(source, path, given)
}
