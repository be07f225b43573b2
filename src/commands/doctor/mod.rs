//! `doctor`: looks at everything that a run needs and says what is wrong and what to do. Nothing is
//! changed.

mod disk;
mod ledger;
mod service;

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::check::check_one;
use super::how::wanted_files;
use super::look::{read_manifest, state_folder};
use super::{run, say};
use crate::cli::{DoctorSettings, StatusFormat};
use crate::diagnostic::{Source, Tally};
use crate::error::{Exit, Failure};
use crate::ledger::StateFolder;
use crate::manifest::{self, Given, Manifest};
use crate::model::{count, shown};

/// The version of the form in which programs read what was found.
const FORMAT: u32 = 1;

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    /// It is as it should be.
    Fine,
    /// It was not looked at.
    Skipped,
    /// A run gets along with it, and somebody should look.
    Warning,
    /// A run fails, and with what.
    Problem(Exit),
}

impl Level {
    fn word(&self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Problem(_) => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug)]
struct Finding {
    what: &'static str,
    level: Level,
    found: String,
    help: Option<String>,
}

impl Finding {
    fn new(what: &'static str, level: Level, found: impl Into<String>) -> Self {
        Self {
            what,
            level,
            found: found.into(),
            help: None,
        }
    }

    fn fine(what: &'static str, found: impl Into<String>) -> Self {
        Self::new(what, Level::Fine, found)
    }

    fn skipped(what: &'static str, found: impl Into<String>) -> Self {
        Self::new(what, Level::Skipped, found)
    }

    fn warning(what: &'static str, found: impl Into<String>) -> Self {
        Self::new(what, Level::Warning, found)
    }

    fn problem(what: &'static str, exit: Exit, found: impl Into<String>) -> Self {
        Self::new(what, Level::Problem(exit), found)
    }

    /// What keeps a command from its work.
    fn failure(what: &'static str, failure: Failure) -> Self {
        Self {
            help: failure.hint,
            ..Self::problem(what, failure.exit, failure.message)
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The manifest that runs are meant of.
struct Meant {
    path: PathBuf,
    source: Source,
    manifest: Manifest,
}

/// Looks and tells.
pub(super) fn doctor(settings: &DoctorSettings) -> Result<Exit, Failure> {
    let mut findings = vec![config(settings)];
    let meant = match settings.check.look.manifests.first() {
        Some(path) => match meant(settings, path) {
            Ok(meant) => Some(meant),
            Err(failure) => {
                findings.push(Finding::failure("manifest", failure));
                None
            }
        },
        None => None,
    };
    if let Some(meant) = &meant {
        findings.push(checked(settings, meant));
    }
    service::look(settings, meant.as_ref(), &mut findings);
    match state(settings) {
        Some(Ok(state)) => {
            ledger::look(&state, &mut findings);
            disk::look(&state, meant.as_ref(), &mut findings);
        }
        Some(Err(failure)) => findings.push(Finding::failure("state folder", failure)),
        None => {
            let why = "name a manifest or --state to have its ledger looked at";
            findings.push(Finding::skipped("ledger", why));
        }
    }
    findings.push(open_files(settings, meant.as_ref()));
    findings.extend(disk::watches());
    let exit = findings.iter().fold(Exit::Done, |exit, finding| {
        if let Level::Problem(other) = finding.level {
            exit.worst(other)
        } else {
            exit
        }
    });
    say(&match settings.format {
        StatusFormat::Text => text(&findings),
        StatusFormat::Json => json(&findings, exit)?,
    })?;
    Ok(exit)
}

fn config(settings: &DoctorSettings) -> Finding {
    match &settings.config {
        Ok(files) => {
            let names: Vec<String> = files.iter().map(|file| path(file)).collect();
            Finding::fine(
                "config",
                if names.is_empty() {
                    "no config file".to_owned()
                } else {
                    names.join(", ")
                },
            )
        }
        Err(problems) => {
            let told: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
            let finding = Finding::problem("config", Exit::Invalid, told.join("; "));
            let help = problems.iter().find_map(|problem| problem.help.clone());
            finding.help(help.unwrap_or_else(|| {
                "`roe-batch config` shows where; without it this looks as if there were none"
                    .to_owned()
            }))
        }
    }
}

fn meant(settings: &DoctorSettings, path: &Path) -> Result<Meant, Failure> {
    let source = read_manifest(path)?;
    let given = Given {
        environment: &settings.check.look.environment,
        set: &settings.check.look.set,
    };
    Ok(Meant {
        path: path.to_owned(),
        manifest: manifest::read(&source, path, given).manifest,
        source,
    })
}

/// What `check` says of the manifest.
fn checked(settings: &DoctorSettings, meant: &Meant) -> Finding {
    let name = &meant.source.name;
    let checked = check_one(&settings.check, &meant.path, meant.source.clone());
    let (_, diagnostics, files) = match checked {
        Ok(checked) => checked,
        Err(failure) => return Finding::failure("manifest", failure),
    };
    let tally = Tally::of(&diagnostics);
    let found = format!("{name}: {tally}, {} to plan", count(files, "file"));
    let finding = if tally.errors > 0 {
        Finding::problem("manifest", Exit::Invalid, found)
    } else if tally.warnings > 0 {
        Finding::warning("manifest", found)
    } else {
        return Finding::fine("manifest", found);
    };
    finding.help(format!("`roe-batch check {name}` shows them"))
}

/// The state folder, where one is known.
fn state(settings: &DoctorSettings) -> Option<Result<StateFolder, Failure>> {
    let look = &settings.check.look;
    match (look.manifests.first(), &look.state) {
        (Some(manifest), state) => Some(state_folder(manifest, state.as_deref())),
        (None, Some(state)) => Some(state_folder(Path::new(""), Some(state))),
        (None, None) => None,
    }
}

/// Whether as many files as are wanted at once can be open.
fn open_files(settings: &DoctorSettings, meant: Option<&Meant>) -> Finding {
    let manifest = meant.and_then(|meant| meant.manifest.run.concurrency);
    let concurrency = settings.concurrency.with(manifest);
    let (wanted, for_each) = wanted_files(concurrency);
    match run::within_file_limit(wanted, for_each) {
        (_, None) => Finding::fine(
            "open files",
            format!("enough for {} at once", count_of(wanted.get(), "upload")),
        ),
        (most, Some(_)) => Finding::warning(
            "open files",
            format!("enough for {most} of {wanted} uploads at once"),
        )
        .help("allow more with `ulimit -n`, or in the unit with LimitNOFILE="),
    }
}

fn count_of(number: u32, noun: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), noun)
}

/// A path, safe to show.
fn path(path: &Path) -> String {
    shown(&path.to_string_lossy()).into_owned()
}

fn text(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.len()).max();
    let width = width.unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let (level, what) = (finding.level.word(), finding.what);
        let _ = writeln!(text, "{level:7}  {what:width$}  {}", finding.found);
        if let Some(help) = &finding.help {
            let _ = writeln!(text, "{:7}  {:width$}  help: {help}", "", "");
        }
    }
    let of = |is: fn(&Level) -> bool| findings.iter().filter(|f| is(&f.level)).count();
    let problems = of(|level| matches!(level, Level::Problem(_)));
    let warnings = of(|level| *level == Level::Warning);
    let _ = writeln!(
        text,
        "{}, {}; nothing was changed",
        count(problems, "problem"),
        count(warnings, "warning")
    );
    text
}

fn json(findings: &[Finding], exit: Exit) -> Result<String, Failure> {
    let findings: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.what,
                "level": finding.level.word(),
                "found": finding.found,
                "help": finding.help,
            })
        })
        .collect();
    let document = json!({"format": FORMAT, "exit_code": exit.code(), "checks": findings});
    serde_json::to_string_pretty(&document)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(Exit::Internal, error.to_string()))
}
