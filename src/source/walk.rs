//! The walk: a few threads share one queue of folders, of however many roots.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, OsStr};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::hide::{self, Hides};
use super::link::{Led, Way, follow, look as look_at};
use super::open::Root;
use super::{Want, kind_of, stat_at};
use crate::model::{Candidate, Entry, GlobIndex, Piece, Pieces, Reached, RelativePath};
use crate::spill::Spill;

/// Threads that walk.
const THREADS_MAX: usize = 4;

/// Entries of one folder that one thread looks at before others may help.
const CHUNK: usize = 256;

/// A root, and all that is wanted of it: by rules that share its walk, or by one with a list.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub root: &'a Root,
    pub wants: Vec<&'a Want>,
}

impl<'a> Place<'a> {
    fn listed(&self) -> Option<&'a [RelativePath]> {
        self.wants.first()?.listed.as_deref()
    }
}

/// What was found at one place beside what a walk finds, in no order.
#[derive(Debug, Default)]
pub(super) struct Finds {
    /// What a list names.
    pub found: Vec<Candidate>,
    /// Places in the list of what is not there.
    pub missing: Vec<usize>,
}

/// Looks at every place, and tells what walks found and what else is at each.
pub(super) fn look(
    places: &[Place<'_>],
    skip: &[PathBuf],
    spill: &Arc<Spill>,
) -> (Pieces, Vec<Finds>) {
    let pool = Pool {
        spill,
        places,
        skip,
        queue: Mutex::new(Queue {
            open: Vec::new(),
            unbegun: 0..places.len(),
            busy: 0,
        }),
        more: Condvar::new(),
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let reports = thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(THREADS_MAX))
            .map(|_| scope.spawn(|| pool.work()))
            .collect();
        let mut reports = vec![pool.work()];
        for other in others {
            match other.join() {
                Ok(report) => reports.push(report),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        reports
    });
    let mut finds: Vec<Finds> = Vec::new();
    finds.resize_with(places.len(), Finds::default);
    let mut pieces = Pieces::new(Arc::clone(spill));
    for report in reports {
        pieces.append(report.pieces);
        for (place, candidate) in report.found {
            finds[place].found.push(candidate);
        }
        for (place, position) in report.missing {
            finds[place].missing.push(position);
        }
    }
    (pieces, finds)
}

struct Pool<'a> {
    spill: &'a Arc<Spill>,
    places: &'a [Place<'a>],
    skip: &'a [PathBuf],
    queue: Mutex<Queue<'a>>,
    /// There is more in the queue, or nothing will be.
    more: Condvar,
}

struct Queue<'a> {
    /// The newest is taken first, so that few are open at a time.
    open: Vec<Task<'a>>,
    unbegun: Range<usize>,
    /// Threads that may find more.
    busy: usize,
}

enum Task<'a> {
    Place(usize),
    Folder(Folder<'a>),
    Entries(Arc<Open<'a>>, Range<usize>),
    Listed(usize, Range<usize>),
}

/// What is wanted of a root that is walked.
struct Tree<'a> {
    place: usize,
    root: &'a Root,
    /// Each different one once.
    wants: Vec<&'a Want>,
    index: GlobIndex<'a>,
    /// For each of them the number of its exclude; equal ones have one.
    excludes: Vec<usize>,
}

/// A folder to list.
struct Folder<'a> {
    tree: Arc<Tree<'a>>,
    /// Its path below the root, shown with replacement characters where it is not UTF-8: empty, or
    /// ending in `/`.
    relative: String,
    is_utf8: bool,
    depth: usize,
    real: PathBuf,
    way: Arc<Way>,
    hides: Option<Arc<Hides>>,
}

/// A folder that was listed.
struct Open<'a> {
    folder: Folder<'a>,
    /// To look at what is in it without going the whole way there.
    handle: OwnedFd,
    reached: Reached,
    names: Names,
}

/// What a folder holds, in the order of the names as they are shown.
#[derive(Default)]
struct Names {
    /// All names, each with a NUL behind it.
    bytes: Vec<u8>,
    entries: Vec<Named>,
}

#[derive(Clone, Copy)]
struct Named {
    start: u32,
    /// Without the NUL.
    length: u16,
    is_utf8: bool,
    kind: FileType,
}

impl Names {
    /// Lists an open folder.
    fn of(handle: &OwnedFd) -> io::Result<Self> {
        let mut names = Self::default();
        for entry in Dir::new(handle.try_clone()?)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if matches!(name, b".\0" | b"..\0") {
                continue;
            }
            let Ok(start) = u32::try_from(names.bytes.len()) else {
                return Err(io::Error::other("its names are longer than 4 GiB together"));
            };
            let Ok(length) = u16::try_from(name.len() - 1) else {
                return Err(io::Error::other("it has a name that is longer than 64 KiB"));
            };
            names.bytes.extend_from_slice(name);
            names.entries.push(Named {
                start,
                length,
                is_utf8: str::from_utf8(name).is_ok(),
                kind: entry.file_type(),
            });
        }
        let mut entries = std::mem::take(&mut names.entries);
        entries.sort_unstable_by(|one, other| {
            let (a, b) = (names.bytes_of(*one), names.bytes_of(*other));
            if one.is_utf8 && other.is_utf8 {
                return a.cmp(b);
            }
            // One that is not UTF-8 is shown as another one may be, and comes behind that.
            let shown = String::from_utf8_lossy;
            let rest = || (!one.is_utf8, a).cmp(&(!other.is_utf8, b));
            shown(a).cmp(&shown(b)).then_with(rest)
        });
        names.entries = entries;
        Ok(names)
    }

    fn c_str(&self, named: Named) -> &CStr {
        let start = named.start as usize;
        let bytes = &self.bytes[start..=start + usize::from(named.length)];
        CStr::from_bytes_with_nul(bytes).unwrap_or_default()
    }

    fn bytes_of(&self, named: Named) -> &[u8] {
        let start = named.start as usize;
        &self.bytes[start..start + usize::from(named.length)]
    }
}

struct Report<'a> {
    pieces: Pieces,
    found: Vec<(usize, Candidate)>,
    missing: Vec<(usize, usize)>,
    /// What there is more to do.
    tasks: Vec<Task<'a>>,
}

/// One thread that may find more; it counts as one no more when it is dropped, even by a panic.
struct Busy<'p, 'a>(&'p Pool<'a>);

impl Drop for Busy<'_, '_> {
    fn drop(&mut self) {
        self.0.lock().busy -= 1;
        self.0.more.notify_all();
    }
}

impl<'a> Pool<'a> {
    fn lock(&self) -> MutexGuard<'_, Queue<'a>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next task; none when all is done.
    fn next(&self) -> Option<(Task<'a>, Busy<'_, 'a>)> {
        let mut queue = self.lock();
        loop {
            let task = queue.open.pop();
            if let Some(task) = task.or_else(|| queue.unbegun.next().map(Task::Place)) {
                queue.busy += 1;
                return Some((task, Busy(self)));
            }
            if queue.busy == 0 {
                return None;
            }
            let woken = self.more.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self) -> Report<'a> {
        let mut report = Report {
            pieces: Pieces::new(Arc::clone(self.spill)),
            found: Vec::new(),
            missing: Vec::new(),
            tasks: Vec::new(),
        };
        while let Some((task, busy)) = self.next() {
            self.run(task, &mut report);
            self.lock().open.append(&mut report.tasks);
            drop(busy);
        }
        report
    }

    fn run(&self, task: Task<'a>, report: &mut Report<'a>) {
        match task {
            Task::Place(at) => match self.places[at].listed() {
                Some(listed) => {
                    let starts = (0..listed.len()).step_by(CHUNK);
                    let chunks = starts.map(|start| start..listed.len().min(start + CHUNK));
                    report
                        .tasks
                        .extend(chunks.map(|chunk| Task::Listed(at, chunk)));
                }
                None => Self::list(Folder::top(Tree::new(at, &self.places[at])), report),
            },
            Task::Folder(folder) => Self::list(folder, report),
            Task::Entries(open, entries) => self.entries(&open, entries, report),
            Task::Listed(at, positions) => self.listed(at, positions, report),
        }
    }

    fn list(mut folder: Folder<'a>, report: &mut Report<'a>) {
        let listed = open_folder(&folder.real).and_then(|handle| {
            let names = Names::of(&handle)?;
            Ok((handle, names))
        });
        // A folder that cannot be listed hides files that a rule may want: it is a candidate of
        // its own.
        let (handle, names) = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let why = format!("cannot read the folder: {error}");
                return report.unusable(&folder.tree, &folder.relative, why);
            }
        };
        let mut entries = names.entries.iter();
        if entries.any(|entry| names.bytes_of(*entry) == hide::NAME.as_bytes()) {
            let root = folder.tree.root;
            let below = folder.real.strip_prefix(&root.path).unwrap_or(&folder.real);
            let shown = folder.relative.trim_end_matches('/');
            match Hides::read(root, below, shown, folder.hides.take()) {
                Ok(hides) => folder.hides = hides,
                // What it would hide may be secret.
                Err(why) => return report.unusable(&folder.tree, &folder.relative, why),
            }
        }
        let open = Arc::new(Open {
            reached: folder.tree.index.reach(&folder.relative),
            folder,
            handle,
            names,
        });
        let all = open.names.entries.len();
        let starts = (0..all).step_by(CHUNK).rev();
        let chunks = starts.map(|start| start..all.min(start + CHUNK));
        let tasks = chunks.map(|chunk| Task::Entries(Arc::clone(&open), chunk));
        report.tasks.extend(tasks);
    }

    fn entries(&self, open: &Open<'a>, entries: Range<usize>, report: &mut Report<'a>) {
        let folder = &open.folder;
        let mut piece = Piece::of(folder.relative.as_str());
        let mut path = String::new();
        for named in &open.names.entries[entries] {
            let bytes = open.names.bytes_of(*named);
            if bytes == hide::NAME.as_bytes() {
                continue;
            }
            let name = String::from_utf8_lossy(bytes);
            path.clear();
            path.push_str(&folder.relative);
            path.push_str(&name);
            match self.entry(open, *named, &name, &path) {
                None => {}
                Some(Found::Candidate(entry)) => piece.push(&name, entry),
                Some(Found::UnusableFolder(why)) => {
                    report.unusable(&folder.tree, &format!("{path}/"), why);
                }
                Some(Found::Folder(below)) => report.tasks.push(Task::Folder(*below)),
            }
        }
        report.pieces.add(folder.tree.place, piece);
    }

    /// What an entry of a folder is, if it is wanted and nothing hides it.
    fn entry(&self, open: &Open<'a>, named: Named, name: &str, path: &str) -> Option<Found<'a>> {
        let folder = &open.folder;
        let (tree, depth) = (&folder.tree, folder.depth + 1);
        let bytes = open.names.bytes_of(named);
        let is_utf8 = folder.is_utf8 && named.is_utf8;
        let takes = tree.takes(&open.reached, name, path, depth);
        let kind = match named.kind {
            FileType::Unknown if takes || tree.may_take_below(&open.reached, name, path, depth) => {
                stat_at(&open.handle, open.names.c_str(named)).map(|(kind, _)| kind)
            }
            kind => Ok(kind),
        };
        let may_hold = |kind: &FileType| matches!(kind, FileType::Directory | FileType::Symlink);
        // A link may lead to files that a rule wants: it must not pass in silence.
        let holds = kind.as_ref().map_or(true, may_hold)
            && tree.may_take_below(&open.reached, name, path, depth);
        if !takes && !holds {
            return None;
        }
        let is_hidden = |is_folder| {
            let hides = folder.hides.as_ref();
            hides.is_some_and(|hides| hides.hide(path, is_folder))
        };
        let mut way = Arc::clone(&folder.way);
        let real = || folder.real.join(OsStr::from_bytes(bytes));
        let led = match kind {
            Ok(FileType::Symlink) => {
                let led = match follow(&real(), &tree.root.path, tree.root.links, self.skip) {
                    Led::Folder(to) => match way.through(&folder.real, &to) {
                        Ok(longer) => {
                            way = Arc::new(longer);
                            Led::Folder(to)
                        }
                        Err(instead) => instead,
                    },
                    led => led,
                };
                if is_hidden(led.is_folder()) {
                    return None;
                }
                led
            }
            Ok(kind) if is_hidden(kind == FileType::Directory) => return None,
            Ok(FileType::Directory) => match real() {
                real if self.skip.contains(&real) => return None,
                real => Led::Folder(real),
            },
            Ok(FileType::RegularFile) => file(&open.handle, open.names.c_str(named)),
            Ok(kind) => Led::Other(kind_of(kind)),
            Err(error) => unseen(error),
        };
        let entry = match led {
            Led::Folder(real) if holds => {
                return Some(Found::Folder(Box::new(Folder {
                    tree: Arc::clone(tree),
                    relative: format!("{path}/"),
                    is_utf8,
                    depth,
                    real,
                    way,
                    hides: folder.hides.clone(),
                })));
            }
            Led::Folder(_) | Led::Skipped | Led::Nothing => return None,
            Led::File(_) if !takes => return None,
            Led::Other(kind) if !takes && !kind.may_hold_files() => return None,
            _ if !is_utf8 => Entry::unusable("the name is not UTF-8; rename the file"),
            Led::Unknown(why) if !takes => return Some(Found::UnusableFolder(why)),
            Led::File(stat) => Entry::File(stat),
            Led::Other(kind) => Entry::Other(kind),
            Led::Unknown(why) => Entry::unusable(why),
        };
        Some(Found::Candidate(entry))
    }

    fn listed(&self, at: usize, positions: Range<usize>, report: &mut Report<'a>) {
        let place = &self.places[at];
        let Some(listed) = place.listed() else {
            return;
        };
        let root = place.root;
        for position in positions {
            let relative = &listed[position];
            let path = relative.as_str();
            let entry = match look_at(&root.path.join(path), &root.path, root.links, self.skip) {
                Led::File(stat) => Entry::File(stat),
                Led::Other(kind) => Entry::Other(kind),
                Led::Folder(_) => Entry::unusable("it is a folder, not a file"),
                Led::Skipped => Entry::unusable("it lies in a folder that is never entered"),
                Led::Unknown(why) => Entry::unusable(why),
                Led::Nothing => {
                    report.missing.push((at, position));
                    continue;
                }
            };
            let relative = relative.clone();
            report.found.push((at, Candidate { relative, entry }));
        }
    }
}

enum Found<'a> {
    Candidate(Entry),
    /// What may be a folder with files that are wanted: why it cannot be told.
    UnusableFolder(String),
    Folder(Box<Folder<'a>>),
}

impl Report<'_> {
    /// A folder that hides files, as a candidate of its own.
    fn unusable(&mut self, tree: &Tree<'_>, relative: &str, why: String) {
        let mut piece = Piece::of(if relative.is_empty() { "./" } else { relative });
        piece.push("", Entry::unusable(why));
        self.pieces.add(tree.place, piece);
    }
}

impl Want {
    /// Whether it looks at files of this depth.
    fn reaches(&self, depth: usize) -> bool {
        self.max_depth.is_none_or(|max| depth <= max)
    }
}

impl<'a> Tree<'a> {
    fn new(at: usize, place: &Place<'a>) -> Arc<Self> {
        let mut seen = HashSet::new();
        let wants = place.wants.iter().copied();
        let wants: Vec<&Want> = wants
            .filter(|want| seen.insert((want.include.key(), want.exclude.key(), want.max_depth)))
            .collect();
        let mut excludes = HashMap::new();
        Arc::new(Self {
            place: at,
            root: place.root,
            index: GlobIndex::new(wants.iter().map(|want| &want.include)),
            excludes: wants
                .iter()
                .map(|want| {
                    let new = excludes.len();
                    *excludes.entry(want.exclude.key()).or_insert(new)
                })
                .collect(),
            wants,
        })
    }

    fn takes(&self, reached: &Reached, name: &str, path: &str, depth: usize) -> bool {
        let mut leaves_out = self.remembered(|want| want.exclude.matches(path));
        self.index.any_taking_in(reached, name, |at| {
            self.wants[at].reaches(depth) && !leaves_out(at)
        })
    }

    fn may_take_below(&self, reached: &Reached, name: &str, folder: &str, depth: usize) -> bool {
        let mut leaves_out = self.remembered(|want| want.exclude.covers(folder));
        self.index.any_taking_below_in(reached, name, |at| {
            self.wants[at].reaches(depth + 1) && !leaves_out(at)
        })
    }

    /// Asks no want for what its exclude says where the one asked before has the same: most rules
    /// of a manifest do.
    fn remembered(&self, ask: impl Fn(&Want) -> bool) -> impl FnMut(usize) -> bool {
        let mut last = None;
        move |at| match last {
            Some((exclude, answer)) if exclude == self.excludes[at] => answer,
            _ => {
                let answer = ask(self.wants[at]);
                last = Some((self.excludes[at], answer));
                answer
            }
        }
    }
}

impl<'a> Folder<'a> {
    fn top(tree: Arc<Tree<'a>>) -> Self {
        let root = &tree.root.path;
        Self {
            relative: String::new(),
            is_utf8: true,
            depth: 0,
            real: root.clone(),
            way: Arc::new(Way::from(root)),
            hides: None,
            tree,
        }
    }
}

fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn file(folder: &OwnedFd, name: &CStr) -> Led {
    match stat_at(folder, name) {
        Ok((FileType::RegularFile, stat)) => Led::File(stat),
        Ok(_) => Led::Unknown("it changed while the plan was made".to_owned()),
        Err(error) => unseen(error),
    }
}

fn unseen(error: Errno) -> Led {
    Led::Unknown(match error {
        Errno::NOENT => "it vanished while the plan was made".to_owned(),
        _ => format!("cannot look at it: {}", io::Error::from(error)),
    })
}
