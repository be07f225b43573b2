//! `apply`: each manifest's turn, and whoever is to hear of it.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::account::Account;
use super::draft::{Draft, Telling, sources};
use super::hooks::{push_metrics, tell, write_metrics};
use super::narrate;
use super::run::{Ears, SystemClock, survive_questions};
use super::sandbox::read_faults;
use super::turn::{Caller, Turn, turn};
use crate::cli::{ApplySettings, KeySource, Mode};
use crate::diagnostic::Source;
use crate::error::{Exit, Failure};
use crate::execute::Ends;
use crate::model::{Clock, Doubt, shown};
use crate::plan::Plan;
use crate::report::Summary;
use crate::sandbox::Faults;

/// Plans, uploads, reports: each manifest for itself, in their order.
pub(super) fn apply(settings: &ApplySettings) -> Result<Exit, Failure> {
    if settings.mode == Mode::DryRun {
        return super::plan::plan(&settings.plan);
    }
    super::speak(settings.narration);
    survive_questions();
    let faults = read_faults(settings.faults.as_deref())?;
    let sources = sources(&settings.plan.look)?;
    if sources.len() == 1 {
        return Ok(apply_all(settings, &faults, &sources));
    }
    if !settings.reports.is_empty() {
        return Err(Failure::new(
            Exit::Usage,
            "--report names one file, which each manifest's run would write anew",
        )
        .hint("name reports in the manifests, with `report:`"));
    }
    if matches!(settings.plan.access.key, KeySource::Stdin) {
        return Err(Failure::new(
            Exit::Usage,
            "standard input gives the API key once, and each manifest's run needs it",
        )
        .hint("name a file with --api-key-file, or set ROE_API_KEY"));
    }
    // A mistake in the last one is found before the first upload.
    let mut streams: HashMap<(PathBuf, String), &Path> = HashMap::new();
    let mut names = HashSet::new();
    let mut is_valid = true;
    for (path, source) in &sources {
        let Some(draft) = Draft::load(
            &settings.plan,
            (path, source),
            SystemClock.now(),
            Telling::Errors,
        )?
        else {
            is_valid = false;
            continue;
        };
        let stream = (draft.state.path().to_owned(), draft.manifest.name.clone());
        if let Some(other) = streams.insert(stream, path) {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "{} and {} have one name and one ledger",
                    shown(&other.to_string_lossy()),
                    shown(&path.to_string_lossy())
                ),
            )
            .hint("give each manifest a `name` of its own"));
        }
        if settings.watchers.are_any() && !names.insert(draft.manifest.name.clone()) {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "several manifests have one name, \"{}\", and would be measured as one",
                    shown(&draft.manifest.name)
                ),
            )
            .hint("give each manifest a `name` of its own"));
        }
    }
    if !is_valid {
        return Ok(Exit::Invalid);
    }
    Ok(apply_all(settings, &faults, &sources))
}

/// Applies each, and tells whoever is to hear of it.
fn apply_all(settings: &ApplySettings, faults: &Faults, sources: &[(PathBuf, Source)]) -> Exit {
    let mut exit = Exit::Done;
    let mut runs = Vec::new();
    for (done, (path, source)) in sources.iter().enumerate() {
        let (ended, told) = apply_and_account(settings, faults, (path, source));
        exit = exit.worst(ended);
        let mut left = &sources[done + 1..];
        if matches!(ended, Exit::Interrupted(_) | Exit::Credentials) {
            for (path, source) in left {
                narrate(&format!("{}: not begun", shown(&path.to_string_lossy())));
                // Measured all the same: what is no longer there sets off no alarm.
                runs.extend(not_begun(settings, (path, source), ended));
            }
            left = &[];
        }
        runs.extend(told.iter().map(|(_, summary)| summary.clone()));
        // All of them are in one file, which no hook keeps waiting.
        if left.is_empty()
            && let Err(failure) = write_metrics(settings, &runs)
        {
            narrate(&failure.to_string());
            exit = exit.worst(failure.exit);
        }
        if let Some((account, summary)) = &told {
            tell(settings, account, summary);
        }
        if left.is_empty() {
            break;
        }
    }
    push_metrics(settings, &runs);
    exit
}

/// Each plan is carried out.
struct Always;

impl Caller for Always {
    fn telling(&self) -> Telling<'_> {
        Telling::Everything
    }

    fn admit(&mut self, _: &Draft<'_>, _: &Plan<'_>, _: &[Doubt]) -> Option<Ears> {
        Some(Ears::Own)
    }

    fn ended(&mut self, _: &Plan<'_>, _: &Ends) {}
}

/// What is measured of a manifest whose turn did not come.
fn not_begun(settings: &ApplySettings, manifest: (&Path, &Source), ended: Exit) -> Option<Summary> {
    let mut account = Account::of_source(settings, manifest, SystemClock.now())?;
    account.look_back();
    Some(account.summary(ended.code(), Some("not begun")))
}

/// One manifest's run, and what is told of it, where there was one.
fn apply_and_account(
    settings: &ApplySettings,
    faults: &Faults,
    manifest: (&Path, &Source),
) -> (Exit, Option<(Account, Summary)>) {
    let (turn, told) = accounted(settings, faults, manifest, &mut Always);
    let exit = match turn {
        Ok(Turn::Invalid) => Exit::Invalid,
        Ok(Turn::Locked | Turn::Idle) => Exit::Done,
        Ok(Turn::Ran(exit)) => exit,
        Err(failure) => {
            narrate(&failure.to_string());
            failure.exit
        }
    };
    (exit, told)
}

/// One manifest's turn, and what is told of it, where something was done or went wrong.
pub(super) fn accounted(
    settings: &ApplySettings,
    faults: &Faults,
    manifest: (&Path, &Source),
    caller: &mut dyn Caller,
) -> (Result<Turn, Failure>, Option<(Account, Summary)>) {
    let started = SystemClock.now();
    let mut account = None;
    let turn = turn(settings, faults, manifest, caller, &mut account);
    let (exit, mut failure) = match &turn {
        // Another run is under way, and tells of itself.
        Ok(Turn::Locked | Turn::Idle) => return (turn, None),
        Ok(Turn::Invalid) => (Exit::Invalid, None),
        Ok(Turn::Ran(exit)) => (*exit, None),
        Err(failure) => (failure.exit, Some(failure.message.as_str())),
    };
    let account = account.or_else(|| Account::of_source(settings, manifest, started));
    let Some(mut account) = account else {
        return (turn, None);
    };
    if exit == Exit::Invalid {
        // What a manifest means that is wrong is not known for sure.
        account.hooks.clear();
        failure = failure.or(Some("the manifest is invalid"));
    }
    if !settings.watchers.are_any() && account.hooks.is_empty() {
        return (turn, None);
    }
    account.look_back();
    let summary = account.summary(exit.code(), failure);
    (turn, Some((account, summary)))
}
