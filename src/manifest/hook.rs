//! Who is told of the end of a run.

use std::time::Duration;

use super::{Placed, Span};
use crate::template::Template;

/// Somebody to tell of the end of a run.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Where the summary is posted to. It may hold a secret, and is not to be shown.
    pub url: Option<Placed<Template>>,
    /// The program that gets it on standard input, and its arguments; empty for none.
    pub command: Vec<Template>,
    /// How long each of them may take.
    pub timeout: Duration,
    /// Of which runs.
    pub on: HookOn,
    /// Where it stands in the manifest.
    pub span: Span,
}

/// Of which runs a hook is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HookOn {
    /// Of each.
    #[default]
    Always,
    /// Of those that stored a file.
    Stored,
    /// Of those with another exit code than 0.
    Failure,
    /// Of those with another exit code than the run before.
    Change,
}
