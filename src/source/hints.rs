//! Folders of which the operating system tells that something changed in them.
//!
//! By inotify, through rustix, which is here already: a crate of its own for it would keep a path for
//! each folder twice, and give up where the system's limit is reached. What is told is a hint:
//! nothing may rely on it, and nothing is lost where it is not.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::statfs;
use rustix::io::Errno;

use crate::model::Links;

/// What counts as a change. That something is gone is none: there is nothing to upload then.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::EXCL_UNLINK);

/// Bytes of events that are read at once.
const EVENTS: usize = 16 * 1024;

/// File systems on which others may change files without this machine's knowledge: NFS, SMB (three
/// of them), 9P, Ceph, AFS and whatever FUSE leads to.
const REMOTE: [u32; 8] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x0102_1997,
    0x00c3_6400,
    0x5346_414f,
    0x6573_5546,
];

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

/// Folders whose changes the operating system tells.
#[derive(Debug)]
pub struct Hints {
    inotify: OwnedFd,
    folders: HashMap<i32, Folder>,
    scope: Scope,
    is_short: bool,
    /// That something may be covered no more.
    is_torn: bool,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The names that matter; none for all.
    names: Option<Vec<OsString>>,
    /// Whether links in it are followed.
    links: Links,
}

impl Hints {
    /// Of nothing yet.
    ///
    /// # Errors
    ///
    /// The system has no more of them for this user, or none at all.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            inotify: inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?,
            folders: HashMap::new(),
            scope: Scope::default(),
            is_short: false,
            is_torn: false,
        })
    }

    /// Whether all of this scope is covered, as far as is known.
    #[must_use]
    pub fn cover_all_of(&self, scope: &Scope) -> bool {
        !self.is_torn && !self.is_short && self.scope == *scope
    }

    /// Has changes in this scope told from now on, and no others. Folders that are not there are
    /// passed over.
    pub fn cover(&mut self, scope: Scope) -> Covered {
        let mut now = HashMap::new();
        std::mem::swap(&mut now, &mut self.folders);
        self.is_short = false;
        self.is_torn = false;
        self.scope = scope;
        let mut remote = Vec::new();
        for at in 0..self.scope.trees.len() {
            let (root, links) = self.scope.trees[at].clone();
            if is_remote(&root) {
                remote.push(root.clone());
            }
            self.cover_tree(root, links);
        }
        for at in 0..self.scope.files.len() {
            let path = self.scope.files[at].clone();
            if let (Some(folder), Some(name)) = (path.parent(), path.file_name()) {
                self.cover_file(folder, name);
            }
        }
        for wd in now.into_keys() {
            if !self.folders.contains_key(&wd) {
                // It may have ended by itself.
                let _ = inotify::remove_watch(&self.inotify, wd);
            }
        }
        Covered {
            folders: self.folders.len(),
            is_short: self.is_short,
            remote,
        }
    }

    fn cover_file(&mut self, folder: &Path, name: &OsStr) {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let Some(wd) = self.add(folder, CHANGES) else {
            return;
        };
        let watched = self.folders.entry(wd).or_insert_with(|| Folder {
            path: folder.to_owned(),
            names: Some(Vec::new()),
            links: Links::Never,
        });
        if let Some(names) = &mut watched.names {
            names.push(name.to_owned());
        }
    }

    /// Covers a folder and all below. Each is watched before it is listed, so that what comes into
    /// being meanwhile is told or listed.
    fn cover_tree(&mut self, top: PathBuf, links: Links) {
        let mut seen = HashSet::new();
        let mut open = vec![(top, CHANGES)];
        while let Some((path, flags)) = open.pop() {
            if self.is_short {
                return;
            }
            if self.scope.skip.contains(&path) {
                continue;
            }
            let Some(wd) = self.add(&path, flags) else {
                continue;
            };
            // A link may lead back to where it was come from.
            if !seen.insert(wd) {
                continue;
            }
            let below = match links {
                Links::Never => CHANGES | WatchFlags::DONT_FOLLOW,
                Links::WithinRoot => CHANGES,
            };
            if let Ok(entries) = fs::read_dir(&path) {
                for entry in entries.flatten() {
                    let is_way = entry.file_type().is_ok_and(|kind| {
                        kind.is_dir() || kind.is_symlink() && links == Links::WithinRoot
                    });
                    if is_way {
                        open.push((entry.path(), below));
                    }
                }
            }
            let names = None;
            self.folders.insert(wd, Folder { path, names, links });
        }
    }

    fn add(&mut self, path: &Path, flags: WatchFlags) -> Option<i32> {
        match inotify::add_watch(&self.inotify, path, flags) {
            Ok(wd) => Some(wd),
            Err(Errno::NOSPC | Errno::NOMEM) => {
                self.is_short = true;
                None
            }
            Err(_) => None,
        }
    }

    /// Takes in all that was told so far. True where something changed, or may have. Folders that
    /// came into being are covered at once.
    pub fn take(&mut self) -> bool {
        let mut changed = false;
        let mut buffer = [MaybeUninit::uninit(); EVENTS];
        let mut new = Vec::new();
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.is_torn = true;
                    changed = true;
                    break;
                }
            };
            let what = event.events();
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                self.is_torn = true;
                changed = true;
                continue;
            }
            if what.contains(ReadFlags::IGNORED) {
                self.folders.remove(&event.wd());
                continue;
            }
            let Some(folder) = self.folders.get(&event.wd()) else {
                continue;
            };
            let Some(name) = event.file_name() else {
                // Of a folder below another one that one tells, too.
                let is_top = folder.names.is_some()
                    || self.scope.trees.iter().any(|(top, _)| *top == folder.path);
                if what
                    .intersects(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT)
                    && is_top
                {
                    self.is_torn = true;
                    changed = true;
                }
                continue;
            };
            let name = OsStr::from_bytes(name.to_bytes());
            if let Some(names) = &folder.names {
                changed |= names.iter().any(|known| known == name);
                continue;
            }
            let path = folder.path.join(name);
            if self.scope.skip.contains(&path) {
                continue;
            }
            if !what.contains(ReadFlags::ISDIR) {
                changed |= !what.contains(ReadFlags::MOVED_FROM);
                continue;
            }
            if what.contains(ReadFlags::MOVED_FROM) {
                // Where it is now, it is covered by another path, or not at all.
                self.folders.retain(|wd, folder| {
                    let stays = !folder.path.starts_with(&path);
                    if !stays {
                        let _ = inotify::remove_watch(&self.inotify, *wd);
                    }
                    stays
                });
            } else if what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                new.push((path, folder.links));
                changed = true;
            }
        }
        for (path, links) in new {
            self.cover_tree(path, links);
        }
        changed
    }
}

fn is_remote(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| {
        // Wider on some machines than on others, and signed on some.
        let [a, b, c, d, ..] = found.f_type.to_le_bytes();
        REMOTE.contains(&u32::from_le_bytes([a, b, c, d]))
    })
}

impl AsFd for Hints {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    struct World {
        folder: tempfile::TempDir,
        hints: Hints,
    }

    impl World {
        /// With a tree `in`, its folder `in/skipped` left out, and a file `one/file`.
        fn new(links: Links) -> (Self, Covered) {
            let folder = tempfile::tempdir().expect("a folder");
            let at = |name: &str| folder.path().join(name);
            for name in ["in/a/b", "in/skipped/c", "one", "out/d"] {
                fs::create_dir_all(at(name)).expect("folders");
            }
            symlink(at("in"), at("in/a/back")).expect("a link");
            symlink(at("out"), at("in/a/out")).expect("a link");
            let mut hints = Hints::new().expect("inotify");
            let scope = Scope {
                trees: vec![(at("in"), links)],
                files: vec![at("one/file")],
                skip: vec![at("in/skipped")],
            };
            let covered = hints.cover(scope.clone());
            assert!(hints.cover_all_of(&scope));
            (Self { folder, hints }, covered)
        }

        fn at(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn is_told(&mut self, name: &str) -> bool {
            assert!(!self.hints.take(), "before {name}");
            fs::write(self.at(name), "x").expect("written");
            self.hints.take()
        }
    }

    #[test]
    fn changes_in_trees_and_of_files_are_told_and_others_are_not() {
        let (mut world, covered) = World::new(Links::Never);
        assert_eq!((covered.folders, covered.is_short), (4, false));
        for name in ["in/x", "in/a/x", "in/a/b/x", "in/a/b/x", "one/file"] {
            assert!(world.is_told(name), "{name}");
        }
        for name in ["in/skipped/x", "in/skipped/c/x", "one/other", "out/x"] {
            assert!(!world.is_told(name), "{name}");
        }
        fs::read(world.at("in/x")).expect("read");
        fs::remove_file(world.at("in/x")).expect("removed");
        assert!(!world.hints.take(), "what is gone is not to be uploaded");
    }

    #[test]
    fn what_the_system_could_not_tell_counts_as_a_change_and_is_made_up_for() {
        let (mut world, _) = World::new(Links::Never);
        let most = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events");
        let most: usize = most.expect("a number").trim().parse().expect("a number");
        // Events that follow each other and are the same are one.
        let files = ["in/x", "in/a/x"].map(|name| File::create(world.at(name)).expect("a file"));
        for at in 0..=most {
            (&files[at % 2]).write_all(b"x").expect("written");
        }
        let scope = world.hints.scope.clone();
        assert!(world.hints.cover_all_of(&scope));
        assert!(world.hints.take());
        assert!(!world.hints.cover_all_of(&scope), "folders may be missing");
        world.hints.cover(scope.clone());
        assert!(world.hints.cover_all_of(&scope));
        assert!(world.is_told("in/a/b/x"));
    }

    #[test]
    fn links_are_followed_where_the_rule_does_and_not_in_circles() {
        let (mut world, covered) = World::new(Links::WithinRoot);
        assert_eq!(covered.folders, 6);
        assert!(world.is_told("out/d/x"));
    }

    #[test]
    fn folders_that_come_later_are_covered_and_those_that_go_are_not() {
        let (mut world, _) = World::new(Links::Never);
        fs::create_dir_all(world.at("in/new/deep")).expect("folders");
        assert!(world.hints.take());
        // What covering it found is told once more where the system was quicker.
        world.hints.take();
        assert!(world.is_told("in/new/deep/x"));
        fs::rename(world.at("in/new"), world.at("in/a/newer")).expect("moved");
        assert!(world.hints.take());
        assert!(world.is_told("in/a/newer/deep/y"));
        fs::rename(world.at("in/a"), world.at("out/a")).expect("moved");
        world.hints.take();
        assert!(!world.is_told("out/a/newer/deep/z"));
        assert!(!world.is_told("out/a/z"));
        let scope = world.hints.scope.clone();
        assert!(world.hints.cover_all_of(&scope));
        fs::rename(world.at("in"), world.at("out/in")).expect("moved");
        assert!(world.hints.take());
        assert!(!world.hints.cover_all_of(&scope), "the root is another one");
    }
}
