//! Finds candidates and opens them. The only room that knows that files lie on a disk.
//!
//! One walk for each root, by a few threads over all of them; what it finds is in the order of the
//! source paths' bytes, so the same tree gives the same plan.

mod hide;
#[cfg(target_os = "linux")]
mod hints;
#[cfg(not(target_os = "linux"))]
#[path = "no_hints.rs"]
mod hints;
mod link;
mod list;
mod named;
mod open;
mod readers;
mod stream;
mod walk;

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use crate::model::{
    CandidateId, Candidates, Digest, Digests, DigestsRead, EntryKind, Globs, Links, RelativePath,
    RootId, SourcePath, Stat, ToRead, loose,
};
use crate::spill::Spill;

/// Threads that read files for their digests.
const READERS_MAX: usize = 4;

pub use self::hide::{Ignored, ignored};
pub use self::hints::{Covered, Hints, Scope};
pub use self::list::{Listing, list};
pub use self::named::{find, stat_of};
pub use self::open::{Changed, OpenFile, ReadError};
pub use self::readers::{Read, Readers, Wanted};
pub use self::stream::{Buffers, Piece, stream};

use self::link::is_absent;
use self::open::{Root, read_small};
use self::walk::{Place, look};

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
    /// The files to look at, where the root is not walked: all of them, whatever the patterns say;
    /// `.roeignore` files do not matter. Whoever names them has made sure that they are relative
    /// and have no component `..`.
    pub listed: Option<Vec<RelativePath>>,
}

/// The roots of a plan, to open its candidates by.
#[derive(Debug, Clone, Default)]
pub struct Roots(Arc<[Root]>);

impl Roots {
    /// Opens a candidate for reading. Follows the links that it was found through and no others,
    /// and never waits for a named pipe that took the file's place.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says, or that there is no regular file any more, or a link.
    pub fn open(&self, root: RootId, relative: &RelativePath) -> io::Result<OpenFile> {
        let root = self.0.get(root.0).ok_or(io::ErrorKind::NotFound)?;
        OpenFile::below(root, relative.as_str())
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
        let root = self.0.get(root.0).ok_or("there is no such root")?;
        read_small(root, Path::new(relative.as_str()), max)
    }

    /// Reads candidates to their ends for their digests, a few at a time.
    ///
    /// # Panics
    ///
    /// Reading one did.
    #[must_use]
    pub fn digests(&self, candidates: &Candidates, to_read: &ToRead) -> Digests {
        let next = Mutex::new(to_read.iter());
        let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
        let read = || {
            let mut read = DigestsRead::new(&candidates.spill);
            while let Some(id) = take() {
                read.push(id, self.digest(candidates, id));
            }
            read
        };
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let others = threads
            .min(READERS_MAX)
            .min(to_read.len())
            .saturating_sub(1);
        thread::scope(|scope| {
            let others: Vec<_> = (0..others).map(|_| scope.spawn(read)).collect();
            let mut all = vec![read()];
            for other in others {
                match other.join() {
                    Ok(read) => all.push(read),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            Digests::of(all)
        })
    }

    fn digest(&self, candidates: &Candidates, id: CandidateId) -> Result<Digest, Arc<str>> {
        let relative = candidates.roots[id.root.0].relative(id.index);
        let digest = self
            .open(id.root, &relative)
            .map_err(ReadError::from)
            .and_then(OpenFile::digest);
        digest.map_err(|error| error.to_string().into())
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

/// Opens a file by its source path. Follows links: whether one was followed to the file is not
/// known, so compare what is read with what was sent.
///
/// # Errors
///
/// Whatever the operating system says, or that there is no regular file.
pub fn open_source(home: &Path, path: &SourcePath) -> io::Result<OpenFile> {
    OpenFile::at(home.join(path.file()))
}

/// Of each of these source paths, whether there is nothing any more. What cannot be looked at is not
/// called gone.
pub fn gone<P: AsRef<str>>(
    paths: impl IntoIterator<Item = P>,
    home: &Path,
) -> impl Iterator<Item = bool> {
    paths.into_iter().map(move |path| {
        let found = fs::symlink_metadata(home.join(SourcePath::file_of(path.as_ref())));
        found.is_err_and(|error| is_absent(&error))
    })
}

/// Walks every root once, whatever number of rules share it; twice, where they differ in which
/// links they follow. `home` is the folder that source paths are relative to; `skip` are folders
/// that are never entered. What does not fit into memory is spilled.
#[must_use]
pub fn survey(wants: &[Want], home: &Path, skip: &[PathBuf], spill: &Arc<Spill>) -> Survey {
    let mut survey = Survey::default();
    let mut real_roots: HashMap<&Path, Result<PathBuf, String>> = HashMap::new();
    let mut walked: HashMap<(PathBuf, Links), RootId> = HashMap::new();
    let mut roots: Vec<Root> = Vec::new();
    let mut wanted: Vec<Vec<usize>> = Vec::new();
    for (index, want) in wants.iter().enumerate() {
        let real = real_roots
            .entry(&want.root)
            .or_insert_with(|| usable_root(&want.root));
        let path = match real {
            Ok(path) => path.clone(),
            Err(why) => {
                survey.unusable_roots.push((index, why.clone()));
                survey.candidates.rule_roots.push(None);
                continue;
            }
        };
        let new = RootId(roots.len());
        let id = match want.listed {
            Some(_) => new,
            None => *walked.entry((path.clone(), want.links)).or_insert(new),
        };
        if id == new {
            let links = want.links;
            roots.push(Root::new(path, links));
            wanted.push(Vec::new());
        }
        wanted[id.0].push(index);
        survey.candidates.rule_roots.push(Some(id));
    }
    let places = roots.iter().zip(&wanted);
    let places: Vec<Place<'_>> = places
        .map(|(root, indices)| Place {
            root,
            wants: indices.iter().map(|index| &wants[*index]).collect(),
        })
        .collect();
    let (mut pieces, finds) = look(&places, skip, spill);
    for (at, (finds, indices)) in finds.into_iter().zip(&wanted).enumerate() {
        for piece in loose(finds.found) {
            pieces.add(at, piece);
        }
        for index in indices {
            let missing = finds.missing.iter();
            survey
                .missing
                .extend(missing.map(|position| (*index, *position)));
        }
    }
    let paths = places.iter().map(|place| &place.root.path);
    let paths = paths.map(|path| (prefix(path, home), home_below(path, home)));
    survey.candidates.roots = pieces.into_roots(paths.collect());
    survey.candidates.spill = Arc::clone(spill);
    drop(places);
    survey.missing.sort_unstable();
    survey.roots = Roots(roots.into());
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

fn kind_of(kind: FileType) -> EntryKind {
    match kind {
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        _ => EntryKind::Device,
    }
}

/// What lies in an open folder, a link as such.
fn stat_at(folder: &OwnedFd, name: &CStr) -> Result<(FileType, Stat), Errno> {
    /// The types of these fields differ from system to system.
    fn number(field: impl TryInto<i64>) -> i64 {
        field.try_into().unwrap_or(i64::MAX)
    }
    let found = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let stat = Stat {
        size: number(found.st_size).cast_unsigned(),
        mtime_ns: number(found.st_mtime)
            .saturating_mul(1_000_000_000)
            .saturating_add(number(found.st_mtime_nsec)),
        inode: found.st_ino,
    };
    Ok((FileType::from_raw_mode(found.st_mode), stat))
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
