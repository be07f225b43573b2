//! The walk: a few threads share one queue of folders, of however many roots.

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::hide::{self, Hides};
use super::link::{Led, Way, follow, look as look_at};
use super::open::Root;
use super::{Want, kind_of, stat};
use crate::model::{Candidate, Entry, GlobIndex, RelativePath};

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

/// What was found at one place, in no order.
#[derive(Debug, Default)]
pub(super) struct Finds {
    pub found: Vec<Candidate>,
    /// Places in the list of what is not there.
    pub missing: Vec<usize>,
}

/// Looks at every place, and tells what is at each.
pub(super) fn look(places: &[Place<'_>], skip: &[PathBuf]) -> Vec<Finds> {
    let pool = Pool {
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
    for report in reports {
        for (place, candidate) in report.found {
            finds[place].found.push(candidate);
        }
        for (place, position) in report.missing {
            finds[place].missing.push(position);
        }
    }
    finds
}

struct Pool<'a> {
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
    Entries(Arc<Folder<'a>>, Vec<Named>),
    Listed(usize, Range<usize>),
}

type Named = (OsString, io::Result<fs::FileType>);

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
    /// Its path below the root, shown with replacement characters where it is not UTF-8.
    relative: String,
    is_utf8: bool,
    depth: usize,
    real: PathBuf,
    way: Arc<Way>,
    hides: Option<Arc<Hides>>,
}

#[derive(Default)]
struct Report<'a> {
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
        let mut report = Report::default();
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
            Task::Entries(folder, entries) => self.entries(&folder, entries, report),
            Task::Listed(at, positions) => self.listed(at, positions, report),
        }
    }

    fn list(mut folder: Folder<'a>, report: &mut Report<'a>) {
        let entries = fs::read_dir(&folder.real).and_then(|entries| {
            let named = entries.map(|entry| {
                let entry = entry?;
                Ok((entry.file_name(), entry.file_type()))
            });
            named.collect::<io::Result<Vec<Named>>>()
        });
        // A folder that cannot be listed hides files that a rule may want: it is a candidate of
        // its own.
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => {
                let why = format!("cannot read the folder: {error}");
                return report.add(folder.tree.place, folder.unusable(why));
            }
        };
        if entries.iter().any(|(name, _)| name == hide::NAME) {
            let root = folder.tree.root;
            let below = folder.real.strip_prefix(&root.path).unwrap_or(&folder.real);
            match Hides::read(root, below, &folder.relative, folder.hides.take()) {
                Ok(hides) => folder.hides = hides,
                // What it would hide may be secret.
                Err(why) => return report.add(folder.tree.place, folder.unusable(why)),
            }
        }
        let folder = Arc::new(folder);
        while entries.len() > CHUNK {
            let chunk = entries.split_off(entries.len() - CHUNK);
            report.tasks.push(Task::Entries(Arc::clone(&folder), chunk));
        }
        report.tasks.push(Task::Entries(folder, entries));
    }

    fn entries(&self, folder: &Arc<Folder<'a>>, entries: Vec<Named>, report: &mut Report<'a>) {
        for (name, kind) in entries {
            if name == hide::NAME {
                continue;
            }
            match self.entry(folder, &name, kind) {
                None => {}
                Some(Found::Candidate(candidate)) => report.add(folder.tree.place, candidate),
                Some(Found::Folder(below)) => report.tasks.push(Task::Folder(below)),
            }
        }
    }

    /// What an entry of a folder is, if it is wanted and nothing hides it.
    fn entry(
        &self,
        folder: &Arc<Folder<'a>>,
        name: &OsStr,
        kind: io::Result<fs::FileType>,
    ) -> Option<Found<'a>> {
        let (tree, depth) = (&folder.tree, folder.depth + 1);
        let path = folder.path_of(name);
        let is_utf8 = folder.is_utf8 && name.to_str().is_some();
        let takes = tree.takes(&path, depth);
        let may_hold = |kind: &fs::FileType| kind.is_dir() || kind.is_symlink();
        // A link may lead to files that a rule wants: it must not pass in silence.
        let holds = kind.as_ref().map_or(true, may_hold) && tree.may_take_below(&path, depth);
        if !takes && !holds {
            return None;
        }
        let is_hidden = |is_folder| {
            let hides = folder.hides.as_ref();
            hides.is_some_and(|hides| hides.hide(&path, is_folder))
        };
        let mut way = Arc::clone(&folder.way);
        let real = folder.real.join(name);
        let led = match kind {
            Ok(kind) if kind.is_symlink() => {
                let led = match follow(&real, &tree.root.path, tree.root.links, self.skip) {
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
            Ok(kind) if is_hidden(kind.is_dir()) => return None,
            Ok(kind) if kind.is_dir() && self.skip.contains(&real) => return None,
            Ok(kind) if kind.is_dir() => Led::Folder(real),
            Ok(kind) if kind.is_file() => file(&real),
            Ok(kind) => Led::Other(kind_of(kind)),
            Err(error) => unseen(&error),
        };
        let entry = match led {
            Led::Folder(real) if holds => {
                return Some(Found::Folder(Folder {
                    tree: Arc::clone(tree),
                    relative: path,
                    is_utf8,
                    depth,
                    real,
                    way,
                    hides: folder.hides.clone(),
                }));
            }
            Led::Folder(_) | Led::Skipped | Led::Nothing => return None,
            Led::File(_) if !takes => return None,
            Led::Other(kind) if !takes && !kind.may_hold_files() => return None,
            _ if !is_utf8 => Entry::Unusable("the name is not UTF-8; rename the file".to_owned()),
            Led::Unknown(why) if !takes => {
                return Some(Found::Candidate(unusable_folder(&path, why)));
            }
            Led::File(stat) => Entry::File(stat),
            Led::Other(kind) => Entry::Other(kind),
            Led::Unknown(why) => Entry::Unusable(why),
        };
        Some(Found::Candidate(Candidate {
            relative: RelativePath::new(path),
            entry,
        }))
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
                Led::Folder(_) => Entry::Unusable("it is a folder, not a file".to_owned()),
                Led::Skipped => {
                    Entry::Unusable("it lies in a folder that is never entered".to_owned())
                }
                Led::Unknown(why) => Entry::Unusable(why),
                Led::Nothing => {
                    report.missing.push((at, position));
                    continue;
                }
            };
            let relative = relative.clone();
            report.add(at, Candidate { relative, entry });
        }
    }
}

enum Found<'a> {
    Candidate(Candidate),
    Folder(Folder<'a>),
}

impl Report<'_> {
    fn add(&mut self, place: usize, candidate: Candidate) {
        self.found.push((place, candidate));
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

    fn takes(&self, path: &str, depth: usize) -> bool {
        let mut leaves_out = self.remembered(|want| want.exclude.matches(path));
        self.index
            .any_taking(path, |at| self.wants[at].reaches(depth) && !leaves_out(at))
    }

    fn may_take_below(&self, folder: &str, depth: usize) -> bool {
        let mut leaves_out = self.remembered(|want| want.exclude.covers(folder));
        self.index.any_taking_below(folder, |at| {
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

    fn path_of(&self, name: &OsStr) -> String {
        let name = name.to_string_lossy();
        if self.relative.is_empty() {
            name.into_owned()
        } else {
            format!("{}/{name}", self.relative)
        }
    }

    /// As a candidate of its own.
    fn unusable(&self, why: String) -> Candidate {
        let path = if self.relative.is_empty() {
            "."
        } else {
            &self.relative
        };
        unusable_folder(path, why)
    }
}

fn unusable_folder(path: &str, why: String) -> Candidate {
    Candidate {
        relative: RelativePath::new(format!("{path}/")),
        entry: Entry::Unusable(why),
    }
}

fn file(real: &Path) -> Led {
    match fs::symlink_metadata(real) {
        Ok(found) if found.is_file() => Led::File(stat(&found)),
        Ok(_) => Led::Unknown("it changed while the plan was made".to_owned()),
        Err(error) => unseen(&error),
    }
}

fn unseen(error: &io::Error) -> Led {
    Led::Unknown(match error.kind() {
        io::ErrorKind::NotFound => "it vanished while the plan was made".to_owned(),
        _ => format!("cannot look at it: {error}"),
    })
}
