//! One look at the folders, and the run that may follow from it.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::sync::mpsc::unbounded_channel;

use super::{Desk, Doubts, Left, Phase, Stage, friendly};
use crate::cli::{LookSettings, WatchSettings};
use crate::commands::apply::accounted;
use crate::commands::draft::{Draft, Telling, sources};
use crate::commands::hooks::{push_metrics, tell, write_metrics};
use crate::commands::look::state_folder;
use crate::commands::narrate;
use crate::commands::run::{Ears, SystemClock};
use crate::commands::turn::{Caller, Turn};
use crate::diagnostic::Source;
use crate::error::Failure;
use crate::execute::{Ends, RowEnd};
use crate::manifest::{self, FilesFrom, FollowSymlinks, Given};
use crate::model::{AttemptId, Clock, Doubt, InDoubt, Links, Outcome, count, shown};
use crate::plan::{Action, Plan, Reason};
use crate::sandbox::Faults;
use crate::source::Scope;
use crate::watch::Look;

/// One look.
pub(super) struct Work {
    pub settings: Arc<WatchSettings>,
    pub faults: Arc<Faults>,
    pub stage: Stage,
    pub look: Look,
    /// Whether nothing was looked at before.
    pub is_first: bool,
}

/// What a look came to.
pub(super) struct Seen {
    pub desk: Desk,
    pub turn: Result<Turn, Failure>,
    /// How long it took until it was known what there is to do.
    pub took: Duration,
    /// When the first file is old enough that is too young now.
    pub of_age: Option<Timestamp>,
}

impl Work {
    /// Looks, and has a run carried out where there is something to do.
    pub(super) fn look(self, mut desk: Desk) -> Seen {
        let began = Instant::now();
        let look = &self.settings.apply.plan.look;
        let source = match sources(look) {
            Ok(sources) => sources.into_iter().next(),
            Err(failure) => {
                return Seen {
                    desk,
                    turn: Err(failure),
                    took: began.elapsed(),
                    of_age: None,
                };
            }
        };
        let Some((path, source)) = source else {
            return Seen {
                desk,
                turn: Ok(Turn::Idle),
                took: began.elapsed(),
                of_age: None,
            };
        };
        // Before anything is looked at: what changes from now on is told.
        self.cover(&mut desk, &path, &source);
        let mut eye = Eye {
            work: &self,
            desk: &mut desk,
            began,
            took: None,
            of_age: None,
            behind: Vec::new(),
        };
        let settings = &self.settings.apply;
        let (turn, told) = accounted(settings, &self.faults, (&path, &source), &mut eye);
        let took = eye.took.unwrap_or_else(|| began.elapsed());
        let of_age = eye.of_age;
        if let Some((account, summary)) = told {
            let runs = std::slice::from_ref(&summary);
            // The next run writes it again, and the watch does not end for it.
            if let Err(failure) = write_metrics(settings, runs) {
                narrate(&failure.to_string());
            }
            tell(settings, &account, &summary);
            push_metrics(settings, runs);
        }
        Seen {
            desk,
            turn,
            took,
            of_age,
        }
    }

    fn cover(&self, desk: &mut Desk, path: &Path, source: &Source) {
        let scope = scope(&self.settings.apply.plan.look, path, source);
        let Some(hints) = &mut desk.hints else {
            return self.introduce(None);
        };
        if hints.cover_all_of(&scope) {
            return;
        }
        let covered = hints.cover(scope);
        if covered.is_short && !desk.covered.is_short {
            narrate(&format!(
                "notice: the system tells of changes in {} only, and the rescan finds the rest: \
                 see fs.inotify.max_user_watches",
                count(covered.folders, "folder")
            ));
        }
        for root in &covered.remote {
            if !desk.covered.remote.contains(root) {
                narrate(&format!(
                    "notice: {} is on a network or FUSE file system: what others change there is \
                     not told, and only the rescan finds it",
                    shown(&root.to_string_lossy())
                ));
            }
        }
        self.introduce(Some(covered.folders));
        desk.covered = covered;
    }

    fn introduce(&self, folders: Option<usize>) {
        if !self.is_first {
            return;
        }
        let rescan = friendly(self.settings.rescan);
        let told = match folders {
            Some(folders) => format!("changes in {} are told, and ", count(folders, "folder")),
            None => String::new(),
        };
        narrate(&format!(
            "watching: {told}everything is looked at every {rescan}"
        ));
    }
}

/// What a manifest makes it worth to be told of.
fn scope(settings: &LookSettings, path: &Path, source: &Source) -> Scope {
    let given = Given {
        environment: &settings.environment,
        set: &settings.set,
    };
    let manifest = manifest::read(source, path, given).manifest;
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut scope = Scope {
        files: vec![path.to_owned()],
        ..Scope::default()
    };
    if let Ok(state) = state_folder(path, settings.state.as_deref()) {
        scope.skip.push(state.path().to_owned());
    }
    let mut add = |file: &PathBuf| {
        if !scope.files.contains(file) {
            scope.files.push(file.clone());
        }
    };
    for rule in &manifest.rules {
        if let Some(table) = &rule.table {
            add(&table.path.value);
        }
        if let Some(FilesFrom::File(list, _)) = &rule.select.files_from {
            add(list);
        }
    }
    for rule in &manifest.rules {
        let links = match rule.select.follow_symlinks {
            FollowSymlinks::Never => Links::Never,
            FollowSymlinks::WithinRoot => Links::WithinRoot,
        };
        let tree = (real(&rule.root), links);
        if !scope.trees.contains(&tree) {
            scope.trees.push(tree);
        }
    }
    scope
}

/// Decides whether a plan is carried out.
struct Eye<'a> {
    work: &'a Work,
    desk: &'a mut Desk,
    began: Instant,
    took: Option<Duration>,
    of_age: Option<Timestamp>,
    /// Attempts in doubt whose files are in the plan no more.
    behind: Vec<AttemptId>,
}

impl Caller for Eye<'_> {
    fn telling(&self) -> Telling<'_> {
        Telling::Changes(&self.desk.told)
    }

    fn admit(&mut self, draft: &Draft<'_>, plan: &Plan<'_>, doubts: &[Doubt]) -> Option<Ears> {
        self.took = Some(self.began.elapsed());
        self.of_age = draft.of_age();
        if draft.in_doubt() == InDoubt::Verify {
            let behind = doubts.iter().filter(|doubt| plan.left_behind(doubt));
            self.behind = behind.map(|doubt| doubt.attempt.clone()).collect();
        }
        let is_held = |row| plan.action(row) == Action::Hold;
        self.desk.doubts = if (0..plan.len()).any(is_held) {
            Doubts::Held
        } else {
            Doubts::None
        };
        let (to_do, sends) = to_do(plan, &self.behind);
        let is_known = to_do == self.desk.left;
        if to_do == Left::default() || is_known && (!sends || self.work.look == Look::New) {
            self.desk.left = to_do;
            return None;
        }
        let mut phase = self
            .work
            .stage
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, Phase::Over) {
            return None;
        }
        let (to, from) = unbounded_channel();
        *phase = Phase::Running(to);
        let time = TimeZone::system().to_datetime(SystemClock.now());
        let time = time.strftime("%H:%M:%S");
        narrate(&format!("{time}: {} to do", count(to_do.files, "file")));
        Some(Ears::Told(from))
    }

    fn ended(&mut self, plan: &Plan<'_>, ends: &Ends) {
        // What was settled of these, the next plan does not have any more.
        self.desk.left = undone(plan, ends).and(&self.behind);
    }
}

impl Left {
    fn add(&mut self, plan: &Plan<'_>, row: usize, path: &mut String) {
        let mut hasher = DefaultHasher::new();
        let stat = plan.stat(row).map(|stat| (stat.size, stat.mtime_ns));
        (
            self.digest,
            plan.rule(row),
            plan.write_path(row, path),
            stat,
        )
            .hash(&mut hasher);
        self.digest = hasher.finish();
        self.files += 1;
    }

    fn and(mut self, behind: &[AttemptId]) -> Self {
        for attempt in behind {
            let mut hasher = DefaultHasher::new();
            (self.digest, attempt.as_str()).hash(&mut hasher);
            self.digest = hasher.finish();
            self.files += 1;
        }
        self
    }
}

/// What a plan has to do, and whether the service is asked about any of it.
fn to_do(plan: &Plan<'_>, behind: &[AttemptId]) -> (Left, bool) {
    let mut left = Left::default();
    let mut path = String::new();
    let mut asks = !behind.is_empty();
    for row in 0..plan.len() {
        let is_done = plan.action(row) == Action::Skip && plan.reason(row) != Reason::Moved;
        let is_asked = plan.asks_service(row);
        asks |= is_asked;
        if is_asked || !is_done && plan.action(row) != Action::Hold {
            left.add(plan, row, &mut path);
        }
    }
    (left.and(behind), asks)
}

/// What of a plan a run left undone.
fn undone(plan: &Plan<'_>, ends: &Ends) -> Left {
    let mut left = Left::default();
    let mut path = String::new();
    for row in 0..plan.len() {
        let is_left = match ends.get(row) {
            RowEnd::AsPlanned => plan.action(row) != Action::Skip,
            RowEnd::Written(written) => written.outcome() != Outcome::Stored,
            RowEnd::Told(end) => !matches!(end.outcome, Outcome::Stored | Outcome::Skipped),
        };
        if is_left {
            left.add(plan, row, &mut path);
        }
    }
    left
}
