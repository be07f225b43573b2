//! Files that somebody names by hand.

use std::fs;
use std::path::{Path, PathBuf};

use super::stat;
use crate::model::Stat;

/// The real path of what a path leads to, if anything is there: of the last component the name,
/// even where it is a link.
#[must_use]
pub fn find(path: &Path) -> Option<PathBuf> {
    fs::symlink_metadata(path).ok()?;
    let name = path.file_name()?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = fs::canonicalize(folder.unwrap_or(Path::new("."))).ok()?;
    Some(folder.join(name))
}

/// Size and times of a regular file.
#[must_use]
pub fn stat_of(path: &Path) -> Option<Stat> {
    let found = fs::symlink_metadata(path).ok()?;
    found.is_file().then(|| stat(&found))
}
