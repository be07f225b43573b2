//! Where the operating system has no inotify: nothing is told of changes.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use crate::model::Links;

/// What is to be told of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Whole trees, and whether links below them are followed.
    pub trees: Vec<(PathBuf, Links)>,
    /// Single files.
    pub files: Vec<PathBuf>,
    /// Folders that are never entered.
    pub skip: Vec<PathBuf>,
}

/// How far a scope is covered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Covered {
    /// Folders that changes are told of.
    pub folders: usize,
    /// That the system allows no more of them.
    pub is_short: bool,
    /// Trees on file systems where not all changes are told.
    pub remote: Vec<PathBuf>,
}

/// There are none.
#[derive(Debug)]
pub struct Hints(Infallible);

impl Hints {
    /// There are none.
    ///
    /// # Errors
    ///
    /// That there are none.
    pub fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Never.
    #[must_use]
    pub fn cover_all_of(&self, _scope: &Scope) -> bool {
        match self.0 {}
    }

    /// Never.
    pub fn cover(&mut self, _scope: Scope) -> Covered {
        match self.0 {}
    }

    /// Never.
    pub fn take(&mut self) -> bool {
        match self.0 {}
    }
}

impl AsFd for Hints {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }
}
