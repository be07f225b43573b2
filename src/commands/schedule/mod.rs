//! `schedule`: what makes cron, systemd or Kubernetes run `apply`. It is printed, never installed.

mod cron;
mod kubernetes;
mod systemd;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::getuid;

use super::look::{read_manifest, state_folder};
use super::reports::report_path;
use super::service::{self, open_to_all};
use super::spell::yaml;
use super::{narrate, say};
use crate::cli::{BASE_URL, Host, ScheduleSettings, Scheduler, Service};
use crate::diagnostic::Severity;
use crate::error::{Exit, Failure};
use crate::manifest::{self, FilesFrom, Given, Manifest};
use crate::model::{Environment, RunId, Signal, shown};

/// Longest name of what is scheduled: Kubernetes adds to it and wants no more than 63 characters.
const NAME_MAX: usize = 52;

/// How long a run may take to write down its end, after it has waited for uploads under way.
const TO_END: Duration = Duration::from_secs(40);

/// What every ending of `apply` is for who started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sequel {
    /// All is well.
    Good,
    /// In good order, and the next run at its time goes on.
    NextTime,
    /// Somebody stopped it.
    Stopped,
    /// Soon another run may get further.
    Again,
    /// No other run gets further before somebody has looked.
    Mend,
}

impl Sequel {
    fn of(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::Good,
            // Another run is no reason: a scheduled one skips its turn then.
            Exit::Later => Self::NextTime,
            Exit::Interrupted(_) => Self::Stopped,
            Exit::Unavailable => Self::Again,
            Exit::SomeFailed
            | Exit::Pending
            | Exit::Usage
            | Exit::Invalid
            | Exit::Internal
            | Exit::LocalIo
            | Exit::InDoubt
            | Exit::Credentials => Self::Mend,
        }
    }
}

/// How `apply` can end.
const ENDS: [Exit; 13] = [
    Exit::Done,
    Exit::SomeFailed,
    Exit::Usage,
    Exit::Invalid,
    Exit::Unavailable,
    Exit::Internal,
    Exit::LocalIo,
    Exit::Later,
    Exit::InDoubt,
    Exit::Credentials,
    Exit::Interrupted(Signal::Hangup),
    Exit::Interrupted(Signal::Interrupt),
    Exit::Interrupted(Signal::Terminate),
];

/// The exit codes with one of these sequels, from the least.
fn codes(sequels: &[Sequel], between: &str) -> String {
    let ends = ENDS
        .iter()
        .filter(|exit| sequels.contains(&Sequel::of(**exit)));
    let codes: Vec<String> = ends.map(|exit| exit.code().to_string()).collect();
    codes.join(between)
}

/// What is scheduled: texts without control characters, ready to be quoted.
#[derive(Debug)]
struct Job {
    /// Of units and resources: small letters, digits and hyphens.
    name: String,
    /// What `apply` is told about the service.
    service: Vec<String>,
    /// Whether it needs a key.
    needs_key: bool,
    environment: BTreeMap<String, String>,
    grace: Duration,
    /// Absolute.
    manifest: String,
    /// Folders of files, tables and lists.
    reads: BTreeSet<PathBuf>,
    /// Folders of reports.
    writes: BTreeSet<PathBuf>,
}

impl Job {
    /// The arguments, given where the manifest and the state folder are and where the key is.
    fn arguments(&self, manifest: &str, state: &str, key_file: Option<&str>) -> Vec<String> {
        let mut arguments = vec!["apply", manifest, "--state", state];
        if let Some(key_file) = key_file {
            arguments.extend(["--api-key-file", key_file]);
        }
        arguments.extend(self.service.iter().map(String::as_str));
        let grace = match self.grace.subsec_nanos() {
            0 => format!("{}s", self.grace.as_secs()),
            _ => self.grace.as_secs_f64().to_string(),
        };
        arguments.extend(["--grace", &grace, "--if-locked", "skip"]);
        arguments.into_iter().map(ToOwned::to_owned).collect()
    }

    /// Seconds from a first signal to the last.
    fn to_end(&self) -> u64 {
        let whole = self.grace + TO_END;
        whole.as_secs() + u64::from(whole.subsec_nanos() > 0)
    }
}

/// Where a job on this machine has its things: absolute.
#[derive(Debug)]
struct Place {
    program: String,
    state: String,
    key_file: Option<String>,
    /// The number of who runs it.
    user: u32,
}

/// Prints it.
pub(super) fn schedule(settings: &ScheduleSettings) -> Result<Exit, Failure> {
    if settings.manifest.as_os_str() == manifest::STDIN {
        let message = "standard input cannot be read again later";
        return Err(Failure::new(Exit::Usage, message).hint("name the manifest's file"));
    }
    let source = read_manifest(&settings.manifest)?;
    let path = absolute(&settings.manifest)?;
    let environment = Environment::new(settings.environment.clone());
    let mut reading = manifest::read(&source, &path, Given::environment(&environment));
    let is_error = |severity| severity == Severity::Error;
    reading.diagnostics.retain(|d| is_error(d.severity));
    if !reading.diagnostics.is_empty() {
        narrate(&source.render(&reading.diagnostics));
        narrate("scheduled runs have no environment variables but those that --env names");
        return Ok(Exit::Invalid);
    }
    let job = job(settings, &path, &reading.manifest)?;
    let text = match &settings.scheduler {
        Scheduler::Cron { host, time, log } => {
            require_folder(log.as_deref())?;
            let log = log.as_deref().map(|log| text("the log", &absolute(log)?));
            cron::text(
                &job,
                &place(&job, &path, host)?,
                time,
                log.transpose()?.as_deref(),
            )?
        }
        Scheduler::Systemd {
            host,
            calendar,
            unit,
        } => systemd::text(&job, &place(&job, &path, host)?, calendar, *unit)?,
        Scheduler::Kubernetes { time, image, files } => {
            kubernetes::text(&job, time, image, files.as_deref())?
        }
    };
    say(&text)?;
    if !settings.left_behind.is_empty() {
        narrate(&format!(
            "set here, and not for the scheduled runs unless --env gives it: {}",
            settings.left_behind.join(", ")
        ));
    }
    Ok(Exit::Done)
}

fn job(settings: &ScheduleSettings, path: &Path, manifest: &Manifest) -> Result<Job, Failure> {
    // What is wrong with it is told now rather than at night.
    let endpoint = service::endpoint(&settings.service)?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut reads = BTreeSet::new();
    for rule in &manifest.rules {
        reads.insert(plain(&rule.root));
        if let Some(table) = &rule.table {
            reads.insert(plain(&table.path.value));
        }
        if let Some(FilesFrom::File(list, _)) = &rule.select.files_from {
            reads.insert(plain(list));
        }
    }
    for (name, value) in &settings.environment {
        ordinary(&format!("the variable {name}"), value)?;
    }
    let mut service = Vec::new();
    match &settings.service {
        Service::Sandbox => service.push("--sandbox".to_owned()),
        Service::At(base) if base == BASE_URL => {}
        Service::At(base) => service.extend(["--base-url".to_owned(), base.clone()]),
    }
    Ok(Job {
        name: name(&manifest.name),
        service,
        needs_key: endpoint.is_some(),
        environment: settings.environment.clone(),
        grace: settings.grace,
        manifest: text("the manifest's path", path)?,
        reads,
        writes: report_folders(manifest, folder)?,
    })
}

/// Where the things of a job on this machine are. A key file that could not be used is told now.
fn place(job: &Job, manifest: &Path, host: &Host) -> Result<Place, Failure> {
    let state = state_folder(manifest, host.state.as_deref())?;
    let key_file = match (&host.key_file, job.needs_key) {
        (_, false) => None,
        (Some(path), true) if path.as_os_str() == "-" => {
            let message = "nobody gives a scheduled run the API key on standard input";
            return Err(Failure::new(Exit::Usage, message).hint("name a file"));
        }
        (Some(path), true) => Some(absolute(path)?),
        (None, true) => {
            let message = "a scheduled run reads the API key from a file, and none is named";
            let hint = "name one with --api-key-file, which nobody but its owner can read";
            return Err(Failure::new(Exit::Usage, message).hint(hint));
        }
    };
    if let Some(path) = &key_file {
        let name = shown(&path.to_string_lossy()).into_owned();
        match fs::metadata(path) {
            Ok(found) if open_to_all(found.permissions().mode()) => {
                let message = format!("everybody can read the API key in {name}");
                return Err(
                    Failure::new(Exit::Credentials, message).hint(format!("chmod 600 {name}"))
                );
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                narrate(&format!("the API key's file {name} is not there yet"));
            }
            // Who prints this need not be who may read the key.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(Place {
        program: text("this program's path", &host.program)?,
        state: text("the state folder's path", state.path())?,
        key_file: key_file
            .map(|path| text("the path of the API key's file", &path))
            .transpose()?,
        user: getuid().as_raw(),
    })
}

/// The folders that every run's reports go below, beside the default ones.
fn report_folders(manifest: &Manifest, folder: &Path) -> Result<BTreeSet<PathBuf>, Failure> {
    // Two runs that have nothing in common, so neither has what depends on the run.
    let runs = [
        ("00000000-0000-7000-8000-000000000000", 0),
        ("ffffffff-ffff-7fff-bfff-ffffffffffff", 2_363_175_347),
    ];
    let mut folders = BTreeSet::new();
    for report in &manifest.reports {
        let mut common: Option<PathBuf> = None;
        for (run, started) in runs {
            let started = Timestamp::from_second(started)
                .map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
            let path = plain(&report_path(
                report,
                &manifest.name,
                (&RunId::new(run), started),
                folder,
            )?);
            let parent = path.parent().unwrap_or(Path::new("/"));
            common = Some(match common {
                None => parent.to_owned(),
                Some(other) => {
                    let pairs = other.components().zip(parent.components());
                    pairs
                        .take_while(|(a, b)| a == b)
                        .map(|(component, _)| component)
                        .collect()
                }
            });
        }
        folders.extend(common);
    }
    Ok(folders)
}

/// A path without `.` and `..`, as it reads.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
    }
    plain
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        let name = path.to_string_lossy();
        let message = format!("where {} is cannot be found out: {error}", shown(&name));
        Failure::new(Exit::LocalIo, message)
    })
}

/// A path as the text that it is.
fn text(what: &str, path: &Path) -> Result<String, Failure> {
    let Some(text) = path.to_str() else {
        let name = path.to_string_lossy();
        return Err(refused(what, &name, "is not UTF-8"));
    };
    ordinary(what, text)?;
    Ok(text.to_owned())
}

/// That nothing in a text ends a line, or does anything else that no quoting helps against.
fn ordinary(what: &str, text: &str) -> Result<(), Failure> {
    let is_special = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    if text.contains(is_special) {
        let why = "has a line break or another control character in it";
        return Err(refused(what, text, why));
    }
    Ok(())
}

fn refused(what: &str, text: &str, why: &str) -> Failure {
    let message = format!("{what}, \"{}\", {why}: it cannot be scheduled", shown(text));
    Failure::new(Exit::Usage, message).hint("choose another name for it")
}

/// That a log can be begun: the shell runs nothing whose output has no place.
fn require_folder(log: Option<&Path>) -> Result<(), Failure> {
    let Some(log) = log else {
        return Ok(());
    };
    let log = absolute(log)?;
    if log.parent().is_some_and(Path::is_dir) {
        return Ok(());
    }
    let log = log.to_string_lossy();
    let message = format!("the folder of the log {} does not exist", shown(&log));
    Err(Failure::new(Exit::Usage, message).hint("make it, or name another place"))
}

/// What is scheduled is called after the manifest.
fn name(manifest: &str) -> String {
    let mut name = "roe-batch".to_owned();
    let is_word = |c: char| !c.is_ascii_alphanumeric();
    for word in manifest.split(is_word).filter(|word| !word.is_empty()) {
        name.push('-');
        name.push_str(&word.to_ascii_lowercase());
    }
    name.truncate(NAME_MAX);
    name.trim_end_matches('-').to_owned()
}

/// A word for the shell, which is read back as it is.
fn shell(word: &str) -> String {
    if is_simple(word) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Whether a word means itself to a shell and to systemd.
fn is_simple(word: &str) -> bool {
    let is_simple = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@,".contains(&b);
    !word.is_empty() && word.bytes().all(is_simple)
}

#[cfg(test)]
mod tests;
