//! From a manifest's path to a plan: what `plan` and `apply` share.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::datasets;
use super::service::{self, Place};
use crate::cli::PlanSettings;
use crate::client::Endpoint;
use crate::diagnostic::{Diagnostic, Severity, Source};
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, LedgerError, RunLock, StateFolder};
use crate::manifest::{self, BYTES_MAX, Manifest, OnEmpty, Rule};
use crate::model::{
    ApiKey, Digests, Doubt, InDoubt, Known, Links, Origin, RunId, SourcePath, Target, count, shown,
};
use crate::plan::{
    Decision, Inputs, Plan, PlannedFile, UploadReason, absent, plan, undecided, unmatched,
};
use crate::source::{Roots, Survey, Want, gone, survey};
use crate::template::Values;

/// How often a lock that is waited for is tried.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// A manifest that was read and whose roots were walked.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub manifest: Manifest,
    pub state: StateFolder,
    pub origin: Origin,
    /// Where to send to, unless to the sandbox.
    pub endpoint: Option<Endpoint>,
    pub run: RunId,
    pub started: Timestamp,
    settings: &'a PlanSettings,
    survey: Survey,
    /// The key, where it was needed to make this: standard input gives it only once.
    key: Option<ApiKey>,
}

impl<'a> Draft<'a> {
    /// Reads the manifest, walks its roots and shows every problem found. None where one of them
    /// is an error.
    pub(super) fn load(
        settings: &'a PlanSettings,
        started: Timestamp,
    ) -> Result<Option<Self>, Failure> {
        let path = &settings.manifest;
        let source = read_manifest(path)?;
        let state = state_folder(path, settings.state.as_deref())?;
        let endpoint = service::endpoint(&settings.service)?;
        let reading = manifest::read(&source, path, &settings.environment);
        let wants: Vec<Want> = reading
            .manifest
            .rules
            .iter()
            .map(|rule| Want {
                root: rule.root.clone(),
                include: rule.include.clone(),
                exclude: rule.exclude.clone(),
                max_depth: None,
                links: Links::Never,
                listed: None,
            })
            .collect();
        let survey = survey(&wants, state.home(), &[state.path().to_owned()]);
        let mut manifest = reading.manifest;
        let mut diagnostics = reading.diagnostics;
        for (rule, why) in &survey.unusable_roots {
            let rule = &manifest.rules[*rule];
            diagnostics.push(
                Diagnostic::error(why.clone(), rule.root_span.clone())
                    .label(format!(
                        "looked for `{}`",
                        shown(&rule.root.to_string_lossy())
                    ))
                    .help("`root` is relative to the manifest's folder"),
            );
        }
        for (rule, pattern) in unmatched(&manifest, &survey.candidates) {
            diagnostics.extend(unmatched_pattern(&manifest.rules[rule], pattern));
        }
        let run = RunId::new(uuid::Uuid::now_v7().to_string());
        diagnostics.extend(uploaded_reports(&manifest, path, (&run, started)));
        let shown = source.render(&diagnostics);
        if !shown.is_empty() {
            super::narrate(&shown);
        }
        if diagnostics.iter().any(|d| d.severity == Severity::Error) {
            return Ok(None);
        }
        let mut key = None;
        if datasets::first_named(&manifest).is_some() {
            key = service::key(endpoint.as_ref(), &settings.access.key)?;
            let place = Place {
                endpoint: endpoint.as_ref(),
                state: &state,
                faults: None,
            };
            let unknown = datasets::look_up(
                &mut manifest,
                place,
                key.clone(),
                &settings.access,
                settings.organization.as_ref(),
            )?;
            if !unknown.is_empty() {
                super::narrate(&source.render(&unknown));
                return Ok(None);
            }
        }
        Ok(Some(Self {
            manifest,
            state,
            origin: service::origin(endpoint.as_ref()),
            endpoint,
            run,
            started,
            settings,
            survey,
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
        let chosen = self.settings.in_doubt.or(self.manifest.run.in_doubt);
        chosen.unwrap_or_default()
    }

    /// Makes the plan, with what the ledger knows.
    pub(super) fn plan(
        &self,
        doubts: &[Doubt],
        known: impl FnOnce(&[Arc<Target>], &str) -> Result<Known, LedgerError>,
    ) -> Result<Plan, Failure> {
        let mut inputs = Inputs {
            manifest: &self.manifest,
            candidates: &self.survey.candidates,
            known: &Known::default(),
            gone: &HashSet::new(),
            digests: &Digests::new(),
            in_doubt: self.in_doubt(),
            doubts,
            origin: &self.origin,
            organization: self.settings.organization.as_ref(),
            run: (&self.run, self.started),
        };
        let known = known(&inputs.targets(), &self.manifest.name)
            .map_err(|error| ledger_failure(&error))?;
        inputs.known = &known;
        let gone = gone(&absent(&inputs), self.state.home());
        inputs.gone = &gone;
        let digests = self.survey.roots.digests(undecided(&inputs));
        inputs.digests = &digests;
        Ok(plan(&inputs))
    }
}

/// New files that this manifest stored already, at other targets: another organization, dataset or
/// host in the manifest or the environment makes everything new, and that may not be meant.
pub(super) fn warn_of_other_targets(plan: &Plan, ledger: &dyn Ledger) -> Result<(), Failure> {
    let is_new = |file: &&PlannedFile| file.decision == Decision::Upload(UploadReason::New);
    let new: HashSet<&SourcePath> = plan.files.iter().filter(is_new).map(|f| &f.path).collect();
    if new.is_empty() {
        return Ok(());
    }
    let targets: Vec<Arc<Target>> = plan.rules.iter().map(|r| Arc::clone(&r.target)).collect();
    let elsewhere = ledger
        .elsewhere(&targets, &plan.manifest, &new)
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

/// Says that somebody uses the ledger now.
pub(super) fn in_use(holder: &str) -> String {
    format!("in use now ({holder}): files on their way show as in doubt")
}

/// Reports that a rule would take for files to upload, in this run or the next.
fn uploaded_reports(manifest: &Manifest, path: &Path, run: (&RunId, Timestamp)) -> Vec<Diagnostic> {
    let values = Values {
        manifest: &manifest.name,
        run: Some(run),
        rule: None,
        file: None,
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for report in &manifest.reports {
        let Ok(rendered) = report.path.render(&values) else {
            continue;
        };
        let joined = folder.join(rendered);
        let report_path: PathBuf = joined.components().filter(is_named).collect();
        let taker = manifest.rules.iter().find(|rule| {
            let root: PathBuf = rule.root.components().filter(is_named).collect();
            let below = report_path.strip_prefix(&root);
            let below = below.ok().and_then(Path::to_str);
            below.is_some_and(|below| rule.include.matches(below) && !rule.exclude.matches(below))
        });
        if let Some(rule) = taker {
            found.push(
                Diagnostic::error(
                    format!("rule `{}` would upload this report", rule.name),
                    report.span.clone(),
                )
                .help("write reports elsewhere, or exclude their folder from the rule"),
            );
        }
    }
    found
}

fn is_named(component: &Component<'_>) -> bool {
    *component != Component::CurDir
}

fn unmatched_pattern(rule: &Rule, pattern: usize) -> Option<Diagnostic> {
    let span = rule.include_spans[pattern].clone();
    let message = format!("no file matches this pattern of rule `{}`", rule.name);
    let diagnostic = match rule.on_empty {
        OnEmpty::Ignore => return None,
        OnEmpty::Warn => Diagnostic::warning(message, span),
        OnEmpty::Error => Diagnostic::error(message, span).help(
            "patterns are matched below `root`, case matters, `*` stops at `/`; where there may \
             be no files, write `on_empty: ignore`",
        ),
    };
    Some(diagnostic.label(format!(
        "nothing in `{}`",
        shown(&rule.root.to_string_lossy())
    )))
}

/// The state folder of a manifest: the one named, or `.roe-batch` beside it.
pub(super) fn state_folder(manifest: &Path, named: Option<&Path>) -> Result<StateFolder, Failure> {
    let beside = match manifest.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.join(".roe-batch"),
        _ => ".roe-batch".into(),
    };
    StateFolder::at(named.unwrap_or(&beside)).map_err(|error| ledger_failure(&error))
}

pub(super) fn read_manifest(path: &Path) -> Result<Source, Failure> {
    let name = shown(&path.to_string_lossy()).into_owned();
    let fail = |why: String| Failure::new(Exit::Invalid, format!("cannot read {name}: {why}"));
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            fail(error.to_string()).hint(
                "name a manifest; examples/quickstart/manifest.yaml of the source tree is one",
            )
        })?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(fail("it is larger than 64 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .split(|b| *b == b'\n')
            .count();
        fail(format!("line {line} is not UTF-8"))
    })?;
    Ok(Source {
        text: text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned(),
        name,
    })
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
/// waits as long as told to.
pub(super) fn lock(
    state: &StateFolder,
    purpose: &str,
    wait: Option<Duration>,
) -> Result<RunLock, Failure> {
    state.create().map_err(|error| ledger_failure(&error))?;
    let holder = format!("process {}, {purpose}", std::process::id());
    let until = wait.map(|wait| Instant::now() + wait);
    let mut told = false;
    loop {
        match state.lock(&holder) {
            Err(LedgerError::Locked { holder })
                if until.is_some_and(|until| Instant::now() < until) =>
            {
                if !told {
                    super::narrate(&format!("waiting for another run to end ({holder})"));
                    told = true;
                }
                std::thread::sleep(LOCK_POLL);
            }
            result => return result.map_err(|error| ledger_failure(&error)),
        }
    }
}
