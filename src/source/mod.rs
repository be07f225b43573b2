//! Finds candidates and opens them. The only room that knows that files lie on a disk.
//!
//! One walk for each root; what it finds is in the order of the source paths' bytes, so the same
//! tree gives the same plan.

mod list;
mod named;
mod open;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use ignore::{WalkBuilder, WalkState};

use crate::model::{
    Candidate, Candidates, Digests, Entry, EntryKind, Globs, Links, RelativePath, RootCandidates,
    RootId, SourcePath, Stat,
};

pub use self::list::{Listing, list};
pub use self::named::{find, stat_of};
pub use self::open::{Changed, OpenFile, ReadError};

/// Threads that walk one tree.
const WALK_THREADS_MAX: usize = 4;

/// What one rule wants from its root.
#[derive(Debug, Clone)]
pub struct Want {
    /// The folder to look in.
    pub root: PathBuf,
    /// What it takes.
    pub include: Globs,
    /// What it leaves out.
    pub exclude: Globs,
    /// How deep it looks: a file directly below the root lies one deep.
    pub max_depth: Option<usize>,
    /// Which links it follows.
    pub links: Links,
    /// The files to look at, where the root is not walked. No `include` takes all of them;
    /// `.roeignore` files do not matter. Whoever names them has made sure that they are relative
    /// and have no component `..`.
    pub listed: Option<Vec<RelativePath>>,
}

/// The roots of a plan, to open its candidates by.
#[derive(Clone, Default)]
pub struct Roots(Vec<PathBuf>);

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl Roots {
    /// Opens a candidate for reading. Never follows a link in its last component, and never waits
    /// for a named pipe that took the file's place.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says, or that there is no regular file any more.
    pub fn open(&self, root: RootId, relative: &RelativePath) -> io::Result<OpenFile> {
        let root = self.0.get(root.0).ok_or(io::ErrorKind::NotFound)?;
        OpenFile::open(root.join(relative.as_str()))
    }

    /// Reads a small file below a root, such as lies beside a candidate; none where there is
    /// nothing. Follows the links that the root's candidates were found through.
    ///
    /// # Errors
    ///
    /// In words: it is larger than `max` bytes, no regular file, behind a link that is not
    /// followed, out of the root, or cannot be read.
    pub fn read_small(
        &self,
        root: RootId,
        relative: &RelativePath,
        max: u64,
    ) -> Result<Option<Vec<u8>>, String> {
        let _ = (self.0.get(root.0), relative, max);
        Err("it cannot be read yet".to_owned())
    }

    /// Reads candidates to their ends for their digests.
    #[must_use]
    pub fn digests(&self, wanted: impl IntoIterator<Item = (RootId, RelativePath)>) -> Digests {
        wanted
            .into_iter()
            .map(|(root, relative)| {
                let digest = self
                    .open(root, &relative)
                    .map_err(ReadError::from)
                    .and_then(OpenFile::digest)
                    .map_err(|error| error.to_string());
                ((root, relative), digest)
            })
            .collect()
    }
}

/// What a survey of all rules found.
#[derive(Debug, Default)]
pub struct Survey {
    /// The candidates of every root that could be read.
    pub candidates: Candidates,
    /// The roots, to open candidates by.
    pub roots: Roots,
    /// For each rule whose root cannot be used: its index and why.
    pub unusable_roots: Vec<(usize, String)>,
    /// Listed files that are not there: the index of the rule, and the file's place in its list.
    pub missing: Vec<(usize, usize)>,
}

/// The line of a `.roeignore` file that hides a file or a folder that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The `.roeignore` file's path below the root.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// The pattern on that line.
    pub pattern: String,
}

/// What hides this path below a root from a walk, if anything does.
#[must_use]
pub fn ignored(root: &Path, relative: &str) -> Option<Ignored> {
    let _ = (root, relative);
    None
}

/// Opens a file by its source path, as [`Roots::open`] does.
///
/// # Errors
///
/// Whatever the operating system says, or that there is no regular file.
pub fn open_source(home: &Path, path: &SourcePath) -> io::Result<OpenFile> {
    OpenFile::open(home.join(path.file()))
}

/// Which of these source paths have nothing any more where they were. What cannot be looked at is
/// not called gone.
#[must_use]
pub fn gone(paths: &[SourcePath], home: &Path) -> HashSet<SourcePath> {
    let is_gone = |path: &&SourcePath| {
        fs::symlink_metadata(home.join(path.file())).is_err_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            )
        })
    };
    paths.iter().filter(is_gone).cloned().collect()
}

/// Walks every root once, whatever number of rules share it. `home` is the folder that source
/// paths are relative to; `skip` are folders that are never entered.
#[must_use]
pub fn survey(wants: &[Want], home: &Path, skip: &[PathBuf]) -> Survey {
    let mut survey = Survey::default();
    let mut by_root: HashMap<PathBuf, (RootId, Vec<Want>)> = HashMap::new();
    for (index, want) in wants.iter().enumerate() {
        let root = match usable_root(&want.root) {
            Ok(root) => root,
            Err(why) => {
                survey.unusable_roots.push((index, why));
                survey.candidates.rule_roots.push(None);
                continue;
            }
        };
        let next = RootId(by_root.len());
        let (id, shared) = by_root.entry(root).or_insert((next, Vec::new()));
        shared.push(want.clone());
        survey.candidates.rule_roots.push(Some(*id));
    }
    let mut ordered: Vec<_> = by_root.into_iter().collect();
    ordered.sort_by_key(|(_, (id, _))| *id);
    for (root, (_, wants)) in ordered {
        let mut candidates = RootCandidates {
            prefix: prefix(&root, home),
            home_below: home_below(&root, home),
            found: walk(&root, &wants, skip),
        };
        candidates.sort();
        survey.candidates.roots.push(candidates);
        survey.roots.0.push(root);
    }
    survey
}

/// The real path of a root, so that two names of one folder are one root.
fn usable_root(root: &Path) -> Result<PathBuf, String> {
    let real = fs::canonicalize(root).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => "the folder does not exist".to_owned(),
        _ => format!("the folder cannot be used: {error}"),
    })?;
    if real.to_str().is_none() {
        return Err("the folder's path is not UTF-8".to_owned());
    }
    match fs::metadata(&real) {
        Ok(found) if found.is_dir() => Ok(real),
        Ok(_) => Err("this is not a folder".to_owned()),
        Err(error) => Err(format!("the folder cannot be used: {error}")),
    }
}

fn prefix(root: &Path, home: &Path) -> String {
    let shown = root.strip_prefix(home).unwrap_or(root);
    match shown.to_string_lossy() {
        text if text.is_empty() => String::new(),
        text if text.ends_with('/') => text.into_owned(),
        text => format!("{text}/"),
    }
}

fn home_below(root: &Path, home: &Path) -> Option<String> {
    let way = home.strip_prefix(root).ok()?;
    let way = way.to_str().filter(|way| !way.is_empty())?;
    Some(format!("{way}/"))
}

fn walk(root: &Path, wants: &[Want], skip: &[PathBuf]) -> Vec<Candidate> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let folders = wants.to_vec();
    let (base, skip) = (root.to_owned(), skip.to_owned());
    let walker = WalkBuilder::new(root)
        .standard_filters(false)
        .follow_links(false)
        .threads(threads.min(WALK_THREADS_MAX))
        .filter_entry(move |entry| {
            !entry.file_type().is_some_and(|kind| kind.is_dir())
                || entry.depth() == 0
                || (!skip.iter().any(|folder| folder == entry.path())
                    && wants_folder(&folders, &relative(&base, entry.path())))
        })
        .build_parallel();
    let (sender, receiver) = mpsc::channel();
    walker.run(|| {
        let sender = sender.clone();
        Box::new(move |entry| {
            let found = match entry {
                Ok(entry) => candidate(root, wants, &entry),
                Err(error) => unreadable(root, wants, &error),
            };
            if let Some(found) = found
                && sender.send(found).is_err()
            {
                return WalkState::Quit;
            }
            WalkState::Continue
        })
    });
    drop(sender);
    receiver.into_iter().collect()
}

fn wants_folder(wants: &[Want], folder: &str) -> bool {
    wants
        .iter()
        .any(|want| want.include.may_match_below(folder) && !want.exclude.covers(folder))
}

fn wants_file(wants: &[Want], path: &str) -> bool {
    wants
        .iter()
        .any(|want| want.include.matches(path) && !want.exclude.matches(path))
}

fn relative(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.to_string_lossy().into_owned()
}

fn candidate(root: &Path, wants: &[Want], entry: &ignore::DirEntry) -> Option<Candidate> {
    let kind = entry.file_type()?;
    let path = relative(root, entry.path());
    if kind.is_dir() || entry.depth() == 0 {
        return None;
    }
    let is_linked_folder =
        kind.is_symlink() && fs::metadata(entry.path()).is_ok_and(|found| found.is_dir());
    // A link may lead to files that a rule wants: it must not pass in silence.
    let is_wanted = wants_file(wants, &path) || is_linked_folder && wants_folder(wants, &path);
    if !is_wanted {
        return None;
    }
    let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
    let found = if std::str::from_utf8(below.as_os_str().as_bytes()).is_err() {
        Entry::Unusable("the name is not UTF-8; rename the file".to_owned())
    } else if kind.is_file() {
        match fs::symlink_metadata(entry.path()) {
            Ok(found) if found.is_file() => Entry::File(stat(&found)),
            Ok(_) => Entry::Unusable("it changed while the plan was made".to_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Entry::Unusable("it vanished while the plan was made".to_owned())
            }
            Err(error) => Entry::Unusable(format!("cannot look at it: {error}")),
        }
    } else {
        Entry::Other(if is_linked_folder {
            EntryKind::LinkedFolder
        } else if kind.is_symlink() {
            EntryKind::Symlink
        } else if kind.is_fifo() {
            EntryKind::Fifo
        } else if kind.is_socket() {
            EntryKind::Socket
        } else {
            EntryKind::Device
        })
    };
    Some(Candidate {
        relative: RelativePath::new(path),
        entry: found,
    })
}

/// A folder that cannot be listed hides files that a rule may want: it is a candidate of its own.
fn unreadable(root: &Path, wants: &[Want], error: &ignore::Error) -> Option<Candidate> {
    let (mut path, mut cause) = (None, error);
    loop {
        match cause {
            ignore::Error::WithPath { path: at, err } => {
                path = Some(at);
                cause = err;
            }
            ignore::Error::WithDepth { err, .. } => cause = err,
            _ => break,
        }
    }
    let folder = relative(root, path?);
    if !folder.is_empty() && !wants_folder(wants, &folder) && !wants_file(wants, &folder) {
        return None;
    }
    let why = match cause.io_error() {
        Some(error) => error.to_string(),
        None => cause.to_string(),
    };
    let shown = if folder.is_empty() { "." } else { &folder };
    Some(Candidate {
        relative: RelativePath::new(format!("{shown}/")),
        entry: Entry::Unusable(format!("cannot read the folder: {why}")),
    })
}

fn stat(metadata: &fs::Metadata) -> Stat {
    Stat {
        size: metadata.len(),
        mtime_ns: metadata
            .mtime()
            .saturating_mul(1_000_000_000)
            .saturating_add(metadata.mtime_nsec()),
        inode: metadata.ino(),
    }
}

#[cfg(test)]
mod tests;
