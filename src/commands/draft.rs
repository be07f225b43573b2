//! From a manifest's path to a plan: what `plan` and `apply` share.

use std::cell::{LazyCell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::datasets;
use super::look::{Care, Looked, crowded, look, read_manifest};
use super::service::{self, Place};
use crate::cli::{IfLocked, LookSettings, PlanSettings, Then, Wait};
use crate::client::Endpoint;
use crate::diagnostic::Source;
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, LedgerError, RunLock, StateFolder};
use crate::manifest::{self, Given, Manifest};
use crate::model::{
    ApiKey, Candidates, Doubt, InDoubt, KnownFile, Origin, RunId, SourcePath, Target, closest,
    count, shown,
};
use crate::plan::{Basis, Before, Gone, Inputs, Plan, Reason, Selection, Sketch};
use crate::source::{Roots, Survey, gone};
use crate::spill::Spill;

/// How often a lock that is waited for is tried.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// A manifest without errors, looked at closely enough to plan.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub path: PathBuf,
    pub manifest: Manifest,
    pub state: StateFolder,
    pub origin: Origin,
    /// Where to send to, unless to the sandbox.
    pub endpoint: Option<Endpoint>,
    pub run: RunId,
    pub started: Timestamp,
    settings: &'a PlanSettings,
    survey: Survey,
    selection: Selection,
    /// The key, where it was needed to make this: standard input gives it only once.
    key: Option<ApiKey>,
}

/// What is told of a manifest's problems.
#[derive(Debug, Clone, Copy)]
pub(super) enum Telling<'a> {
    /// All of them.
    Everything,
    /// All of them where one is an error, else nothing: the manifest is loaded again.
    Errors,
    /// All of them, where they are others than those that were told last, which are kept here.
    Changes(&'a RefCell<String>),
}

impl Telling<'_> {
    fn tell(self, problems: String, is_invalid: bool) {
        let is_told = match self {
            Self::Everything => true,
            Self::Errors => is_invalid,
            Self::Changes(told) => *told.borrow() != problems,
        };
        if is_told && !problems.is_empty() {
            super::narrate(&problems);
        }
        if let Self::Changes(told) = self {
            told.replace(problems);
        }
    }
}

/// The manifests that were asked for, read. Standard input can be only one of them.
pub(super) fn sources(settings: &LookSettings) -> Result<Vec<(PathBuf, Source)>, Failure> {
    let mut sources: Vec<(PathBuf, Source)> = Vec::new();
    for path in &settings.manifests {
        if sources.iter().any(|(other, _)| other == path) {
            let name = shown(&path.to_string_lossy()).into_owned();
            return Err(Failure::new(Exit::Usage, format!("{name} is named twice")));
        }
        sources.push((path.clone(), read_manifest(path)?));
    }
    if !settings.set.is_empty() {
        require_vars(settings, &sources)?;
    }
    Ok(sources)
}

/// That each name of `--set` is a var of one of the manifests, as far as they can be understood.
fn require_vars(settings: &LookSettings, sources: &[(PathBuf, Source)]) -> Result<(), Failure> {
    let given = Given::environment(&settings.environment);
    let mut vars: Vec<String> = Vec::new();
    for (path, source) in sources {
        let reading = manifest::read(source, path, given);
        if reading.manifest.rules.is_empty() {
            return Ok(());
        }
        vars.extend(reading.vars);
    }
    let Some(unknown) = settings.set.keys().find(|name| !vars.contains(name)) else {
        return Ok(());
    };
    let names = vars.iter().map(String::as_str);
    let hint = match closest(unknown, names.clone()) {
        Some(near) => format!("did you mean `--set {near}=…`?"),
        None if vars.is_empty() => "declare it: `vars: {NAME: VALUE}`".to_owned(),
        None => format!("the vars are {}", names.collect::<Vec<_>>().join(", ")),
    };
    let message = format!("the manifest has no var `{}`", shown(unknown));
    Err(Failure::new(Exit::Usage, message).hint(hint))
}

/// The draft of the one manifest there is.
pub(super) fn draft_of<'a>(
    settings: &'a PlanSettings,
    sources: &[(PathBuf, Source)],
    started: Timestamp,
) -> Result<Option<Draft<'a>>, Failure> {
    match sources.first() {
        Some((path, source)) => Draft::load(settings, (path, source), started, Telling::Everything),
        None => Ok(None),
    }
}

impl<'a> Draft<'a> {
    /// Looks at the manifest and shows the problems found. None where one of them is an error.
    pub(super) fn load(
        settings: &'a PlanSettings,
        (path, source): (&Path, &Source),
        started: Timestamp,
        telling: Telling<'_>,
    ) -> Result<Option<Self>, Failure> {
        let endpoint = service::endpoint(&settings.service)?;
        let origin = service::origin(endpoint.as_ref());
        let run = RunId::new(uuid::Uuid::now_v7().to_string());
        let at = (&origin, &run, started);
        let mut looked = look(&settings.look, path, source.clone(), at, Care::Run)?;
        telling.tell(source.render(&looked.diagnostics), looked.is_invalid());
        if looked.is_invalid() {
            return Ok(None);
        }
        let mut key = None;
        if datasets::first_named(&looked.manifest).is_some() {
            key = service::key(endpoint.as_ref(), &settings.access.key)?;
            let place = Place {
                endpoint: endpoint.as_ref(),
                state: &looked.state,
                faults: None,
            };
            let unknown = datasets::look_up(
                &mut looked.manifest,
                place,
                key.clone(),
                &settings.access,
                settings.look.organization.as_ref(),
            )?;
            if !unknown.is_empty() {
                telling.tell(source.render(&unknown), true);
                return Ok(None);
            }
        }
        let Looked {
            manifest,
            state,
            survey,
            selection,
            ..
        } = looked;
        Ok(Some(Self {
            path: path.to_owned(),
            manifest,
            state,
            origin,
            endpoint,
            run,
            started,
            settings,
            survey,
            selection,
            key,
        }))
    }

    /// The service that the plan is for.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            endpoint: self.endpoint.as_ref(),
            state: &self.state,
            faults: None,
        }
    }

    /// The key for the service; none for the embedded one.
    pub(super) fn key(&self) -> Result<Option<ApiKey>, Failure> {
        match &self.key {
            Some(key) => Ok(Some(key.clone())),
            None => service::key(self.endpoint.as_ref(), &self.settings.access.key),
        }
    }

    /// To open the plan's files by.
    pub(super) fn roots(&self) -> &Roots {
        &self.survey.roots
    }

    /// What to do with files in doubt.
    pub(super) fn in_doubt(&self) -> InDoubt {
        let chosen = self.settings.in_doubt.with(self.manifest.run.in_doubt);
        chosen.unwrap_or_default()
    }

    /// Makes the plan, with what the ledger knows.
    pub(super) fn plan<'p>(
        &'p self,
        doubts: &'p [Doubt],
        ledger: Option<&dyn Ledger>,
    ) -> Result<Plan<'p>, Failure> {
        let basis = Basis {
            manifest: &self.manifest,
            candidates: &self.survey.candidates,
            origin: &self.origin,
            organization: self.settings.look.organization.as_ref(),
            run: (&self.run, self.started),
        };
        let inputs = Inputs {
            basis,
            selection: &self.selection,
            in_doubt: self.in_doubt(),
            doubts,
        };
        let before = Stream {
            ledger,
            name: &self.manifest.name,
        };
        let spill = &self.survey.candidates.spill;
        let was_crowded = spill.unwritten().is_some();
        let failure = |error| ledger_failure(&error);
        let sketch = Sketch::new(&inputs, &before).map_err(failure)?;
        let gone = Gone::new(gone(sketch.absent(), self.state.home()));
        let to_read = sketch.undecided(&gone);
        let digests = self.survey.roots.digests(&self.survey.candidates, &to_read);
        let plan = sketch.finish(&gone, &digests, &before).map_err(failure)?;
        self.intact()?;
        if let Some(why) = spill.unwritten().filter(|_| !was_crowded) {
            super::narrate(&crowded(why));
        }
        Ok(plan)
    }

    /// Whether all that was found could be read whenever it was asked for.
    pub(super) fn intact(&self) -> Result<(), Failure> {
        intact(&self.survey.candidates.spill)
    }

    /// When the first of the files that are too young now is old enough.
    pub(super) fn of_age(&self) -> Option<Timestamp> {
        self.selection.of_age
    }

    /// What was found below the roots.
    pub(super) fn candidates(&self) -> &Candidates {
        &self.survey.candidates
    }
}

/// What a ledger, if there is one, knows for a stream of runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream<'a> {
    pub ledger: Option<&'a dyn Ledger>,
    pub name: &'a str,
}

impl Before for Stream<'_> {
    type Error = LedgerError;

    fn known_from(
        &self,
        target: &Target,
        from: Bound<&SourcePath>,
        limit: usize,
    ) -> Result<Vec<(SourcePath, KnownFile)>, LedgerError> {
        match self.ledger {
            Some(ledger) => ledger.known_from(target, self.name, from, limit),
            None => Ok(Vec::new()),
        }
    }
}

/// New files that this manifest stored already, at other targets: another organization, dataset or
/// host in the manifest or the environment makes everything new, and that may not be meant.
pub(super) fn warn_of_other_targets(plan: &Plan<'_>, ledger: &dyn Ledger) -> Result<(), Failure> {
    // Eight bytes a file, and none where there is no other target: two paths of one hash are too
    // rare to be told from a number that is only a hint.
    let keys = RandomState::new();
    let new = LazyCell::new(|| {
        let mut text = String::new();
        let new = (0..plan.len()).filter(|row| plan.reason(*row) == Reason::New);
        let hashes = new.map(|row| keys.hash_one(plan.write_path(row, &mut text)));
        let mut hashes: Vec<u64> = hashes.collect();
        hashes.sort_unstable();
        hashes
    });
    let mut is_new = |path: &str| new.binary_search(&keys.hash_one(path)).is_ok();
    let targets: Vec<Arc<Target>> = plan.rules.iter().map(|r| Arc::clone(&r.target)).collect();
    let elsewhere = ledger
        .elsewhere(&targets, &plan.manifest, &mut is_new)
        .map_err(|error| ledger_failure(&error))?;
    for (target, files) in elsewhere {
        super::narrate(&format!(
            "warning: {} of the new ones {} stored at {target}; {} stored at the target of this \
             plan too",
            count(files, "file"),
            if files == 1 { "is" } else { "are" },
            if files == 1 {
                "it will be"
            } else {
                "they will be"
            },
        ));
    }
    Ok(())
}

/// Whether nothing was lost that left memory: what was made of the rest is not what it says.
pub(super) fn intact(spill: &Spill) -> Result<(), Failure> {
    let Some(why) = spill.unread() else {
        return Ok(());
    };
    let what = format!("what was found of the files cannot be read back from disk: {why}");
    Err(Failure::new(Exit::LocalIo, what)
        .hint("look at the disk that has the state folder, and start again"))
}

/// Says that somebody uses the ledger now.
pub(super) fn in_use(holder: &str) -> String {
    format!("in use now ({holder}): files on their way show as in doubt")
}

/// A ledger's failure as a user sees it.
pub(super) fn ledger_failure(error: &LedgerError) -> Failure {
    match error {
        LedgerError::Locked { .. } => Failure::new(Exit::Later, error.to_string())
            .hint("wait for it to end (`--wait 10m`), then start again"),
        LedgerError::IdTaken { .. } => Failure::new(Exit::Usage, error.to_string())
            .hint("no two files have one id; `report MANIFEST --all` shows which file has which"),
        LedgerError::Newer { .. } => Failure::new(Exit::LocalIo, error.to_string())
            .hint("use the newer roe-batch; nothing was changed"),
        LedgerError::Folder { .. } => Failure::new(Exit::LocalIo, error.to_string())
            .hint("choose a folder that can be written to with --state"),
        LedgerError::Older { .. } => Failure::new(Exit::LocalIo, error.to_string())
            .hint("`apply` or `resolve` bring it up to date; nothing was changed"),
        LedgerError::Damaged { copy, .. } => {
            let kept = match copy {
                Some(copy) => format!("a copy is kept as {}; ", shown(&copy.to_string_lossy())),
                None => String::new(),
            };
            Failure::new(Exit::LocalIo, error.to_string()).hint(format!(
                "{kept}put a backup in its place, or move it away and `import` the last report"
            ))
        }
        LedgerError::Storage { .. } => Failure::new(Exit::LocalIo, error.to_string())
            .hint("look at the disk's free space, and at who owns the folder"),
        _ => Failure::new(Exit::LocalIo, error.to_string()),
    }
}

/// Takes the lock of a state folder, which is made if need be. Where another process has it,
/// waits as long as told to. None where the command is to do nothing then.
pub(super) fn lock(
    state: &StateFolder,
    purpose: &str,
    if_locked: IfLocked,
) -> Result<Option<RunLock>, Failure> {
    state.create().map_err(|error| ledger_failure(&error))?;
    let holder = format!("process {}, {purpose}", std::process::id());
    let until = match if_locked.wait {
        Wait::For(time) => Some(Instant::now() + time),
        Wait::Forever => None,
    };
    let mut told = false;
    loop {
        let error = match state.lock(&holder) {
            Ok(lock) => return Ok(Some(lock)),
            Err(error) => error,
        };
        let LedgerError::Locked { holder } = &error else {
            return Err(ledger_failure(&error));
        };
        if until.is_none_or(|until| Instant::now() < until) {
            if !told {
                super::narrate(&format!("waiting for another run to end ({holder})"));
                told = true;
            }
            std::thread::sleep(LOCK_POLL);
            continue;
        }
        return match if_locked.then {
            Then::Skip => {
                super::narrate(&format!("skipped: another run is under way ({holder})"));
                Ok(None)
            }
            Then::Fail => Err(ledger_failure(&error)),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;
    use crate::model::{Entry, Piece, Pieces, Stat};

    #[test]
    fn what_cannot_be_read_back_fails_the_command() {
        let unreadable = || OpenOptions::new().write(true).open("/dev/null");
        let spill = Arc::new(Spill::new(0, unreadable));
        let (size, mtime_ns, inode) = (1, 2, 3);
        let mut piece = Piece::of("in/");
        piece.push(
            "a.txt",
            Entry::File(Stat {
                size,
                mtime_ns,
                inode,
            }),
        );
        let mut found = Pieces::new(Arc::clone(&spill));
        found.add(0, piece);
        let roots = found.into_roots(vec![(String::new(), None)]);
        assert_eq!(intact(&spill).map_err(|failure| failure.exit), Ok(()));
        assert_eq!(roots[0].stat(0), None);
        let failed = intact(&spill).map_err(|failure| failure.exit);
        assert_eq!(failed, Err(Exit::LocalIo));
    }
}
