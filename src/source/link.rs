//! Where symbolic links lead to, and which of them a walk may follow.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::{kind_of, stat};
use crate::model::{EntryKind, Links, Stat};

/// Most links on the way to one folder: folders full of links to each other have very many ways
/// through them.
const LINKS_MAX: usize = 8;

/// What a path turned out to be.
#[derive(Debug)]
pub(super) enum Led {
    /// A regular file.
    File(Stat),
    /// A folder, by its real path.
    Folder(PathBuf),
    /// Something else, or a link that is not followed.
    Other(EntryKind),
    /// Something in a folder that is never entered.
    Skipped,
    /// Nothing.
    Nothing,
    /// What cannot be told: why.
    Unknown(String),
}

impl Led {
    /// Whether it is a folder, or leads to one that is not entered.
    pub(super) fn is_folder(&self) -> bool {
        match self {
            Self::Folder(_) => true,
            Self::Other(kind) => kind.may_hold_files(),
            _ => false,
        }
    }
}

/// Where a link below a root leads to.
pub(super) fn follow(link: &Path, root: &Path, links: Links, skip: &[PathBuf]) -> Led {
    match links {
        Links::Never => Led::Other(unfollowed(link)),
        Links::WithinRoot => match fs::canonicalize(link) {
            Ok(real) => arrive(real, root, skip),
            Err(error) => lost(&error),
        },
    }
}

/// What lies at a path below a root, where any part of the path may be a link.
pub(super) fn look(path: &Path, root: &Path, links: Links, skip: &[PathBuf]) -> Led {
    let is_link = || fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    match (fs::canonicalize(path), links) {
        (Err(error), _) if !is_link() && is_absent(&error) => Led::Nothing,
        (Err(error), Links::WithinRoot) => lost(&error),
        (Err(_), Links::Never) if is_link() => Led::Other(EntryKind::Symlink),
        (Err(error), Links::Never) => Led::Unknown(format!("cannot look at it: {error}")),
        (Ok(real), Links::Never) if real != path => {
            if is_link() {
                Led::Other(unfollowed(path))
            } else {
                Led::Unknown("it lies behind a symbolic link, which is not followed".to_owned())
            }
        }
        (Ok(real), _) => arrive(real, root, skip),
    }
}

/// Whether this error means that there is nothing.
pub(super) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn unfollowed(link: &Path) -> EntryKind {
    match fs::metadata(link) {
        Ok(found) if found.is_dir() => EntryKind::LinkedFolder,
        _ => EntryKind::Symlink,
    }
}

fn lost(error: &io::Error) -> Led {
    if is_absent(error) {
        Led::Other(EntryKind::BrokenLink)
    } else if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) {
        Led::Other(EntryKind::LinkLoop)
    } else {
        Led::Unknown(format!("cannot follow the symbolic link: {error}"))
    }
}

fn arrive(real: PathBuf, root: &Path, skip: &[PathBuf]) -> Led {
    let found = fs::symlink_metadata(&real);
    if !real.starts_with(root) {
        return Led::Other(match found {
            Ok(found) if found.is_dir() => EntryKind::LinkedFolderOut,
            _ => EntryKind::LinkOut,
        });
    }
    if skip.iter().any(|folder| real.starts_with(folder)) {
        return Led::Skipped;
    }
    match found {
        Ok(found) if found.is_dir() => Led::Folder(real),
        Ok(found) if found.is_file() => Led::File(stat(&found)),
        Ok(found) => Led::Other(kind_of(FileType::from_raw_mode(found.mode()))),
        Err(error) => Led::Unknown(format!("cannot look at it: {error}")),
    }
}

/// The real folders between a root and a folder that is reached through links: up to each link,
/// one way down.
#[derive(Debug)]
pub(super) struct Way {
    /// The real path that the last link led to, or the root's.
    start: PathBuf,
    /// The way to that link, and the real folder that it lies in.
    before: Option<(Arc<Way>, PathBuf)>,
    links: usize,
}

impl Way {
    pub(super) fn from(root: &Path) -> Self {
        Self {
            start: root.to_owned(),
            before: None,
            links: 0,
        }
    }

    /// The way on through a link in the real folder `here` to the real folder `to`; what it is
    /// instead, where that cannot be followed.
    pub(super) fn through(self: &Arc<Self>, here: &Path, to: &Path) -> Result<Self, Led> {
        if self.passes(here, to) {
            return Err(Led::Other(EntryKind::LinkLoop));
        }
        if self.links >= LINKS_MAX {
            return Err(Led::Unknown(format!(
                "it lies behind more than {LINKS_MAX} symbolic links"
            )));
        }
        Ok(Self {
            start: to.to_owned(),
            before: Some((Arc::clone(self), here.to_owned())),
            links: self.links + 1,
        })
    }

    /// Whether the way to `here` goes through a folder.
    fn passes(&self, here: &Path, folder: &Path) -> bool {
        here.starts_with(folder) && folder.starts_with(&self.start)
            || self
                .before
                .as_ref()
                .is_some_and(|(way, left)| way.passes(left, folder))
    }
}
