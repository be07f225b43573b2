//! `apply`: plan, upload, report.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::draft::{Draft, ledger_failure};
use super::run::{SystemChance, SystemClock, runtime, signals};
use super::sandbox::SANDBOX_KEY;
use super::{narrate, say};
use crate::cli::{ApplySettings, KeySource, Mode};
use crate::client::{self, Client, Endpoint};
use crate::error::{Exit, Failure};
use crate::event::Event;
use crate::execute::{self, Parts, StopLight, execute};
use crate::ledger::{Ledger, LedgerError, Refreshed, RunEnd, RunStart, SqliteLedger, Writer};
use crate::manifest::Manifest;
use crate::model::{
    ApiKey, Clock, HumanBytes, JobEnd, KnownState, Outcome, ReportFormat, RuleName, SourcePath,
    StopCause, count, shown,
};
use crate::pace::Backoff;
use crate::plan::{Decision, News, Plan, PlannedFile};
use crate::progress::Progress;
use crate::report::{self, Counts, Header, Row};
use crate::sandbox::{EmptyFiles, Sandbox, SandboxConfig, SandboxDataset};
use crate::template::Values;

/// Files on their way at once, unless told otherwise.
const CONCURRENCY: NonZeroU32 = NonZeroU32::new(8).expect("eight is not zero");

/// Attempts for one file, unless told otherwise.
const MAX_ATTEMPTS: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");

const BACKOFF: Backoff = Backoff {
    first: Duration::from_millis(500),
    most: Duration::from_secs(30),
};

/// Longest key file that is read, in bytes.
const KEY_FILE_MAX: u64 = 16 * 1024;

/// Files that are named on the screen for each way of not being stored.
const NAMED: usize = 10;

/// Plans, uploads, reports.
pub(super) fn apply(settings: &ApplySettings) -> Result<Exit, Failure> {
    if settings.mode == Mode::DryRun {
        return super::plan::plan(&settings.plan);
    }
    let clock = SystemClock;
    let Some(draft) = Draft::load(&settings.plan, clock.now())? else {
        return Ok(Exit::Invalid);
    };
    let key = match &draft.endpoint {
        Some(_) => Some(api_key(&settings.key)?),
        None => None,
    };
    draft
        .state
        .create()
        .map_err(|error| ledger_failure(&error))?;
    let holder = format!("process {}, run {}", std::process::id(), draft.run);
    let _lock = draft
        .state
        .lock(&holder)
        .map_err(|error| ledger_failure(&error))?;
    let mut ledger =
        SqliteLedger::open(&draft.state.ledger()).map_err(|error| ledger_failure(&error))?;
    let plan = draft.plan(|targets| ledger.known(targets))?;
    let reports = report_paths(settings, &draft)?;
    for (path, _) in &reports {
        report::probe(path).map_err(|error| report_failure(path, &error))?;
    }

    let uploads = plan.tally(PlannedFile::is_upload);
    let sandbox = match &draft.endpoint {
        None if uploads.files > 0 => Some(start_sandbox(&draft, &plan)?),
        _ => None,
    };
    begin(&mut ledger, &draft, &plan).map_err(|error| ledger_failure(&error))?;
    let stop = StopLight::default();
    let (mut ledger, ends) = if uploads.files == 0 {
        (Some(Box::new(ledger) as Box<dyn Ledger>), Vec::new())
    } else {
        let client = client(settings, &draft, key, sandbox.as_ref())?;
        upload(settings, &draft, &plan, &client, Box::new(ledger), &stop)?
    };
    drop(sandbox);

    let rows = report::rows(&plan, ends);
    let counts = Counts::of(&rows);
    let causes = stop.causes();
    let mut exit = Exit::of_run(&causes, |outcome| counts.files(outcome) > 0);
    let finished = clock.now();
    let end = RunEnd {
        run: draft.run.clone(),
        at: finished,
        exit_code: exit.code(),
    };
    let ended = match &mut ledger {
        Some(ledger) => ledger.end_run(&end),
        None => Err(LedgerError::Closed),
    };
    if let Err(error) = ended {
        narrate(&ledger_failure(&error).to_string());
        exit = Exit::LocalIo;
    }
    let header = Header::new(
        &plan.manifest,
        (&draft.run, draft.started, finished),
        &counts,
        causes.iter().map(ToString::to_string).collect(),
        exit.code(),
    );
    let mut written = Vec::new();
    for (path, format) in &reports {
        match report::write(path, *format, &header, &rows) {
            Ok(()) => written.push(path.as_path()),
            Err(error) => {
                narrate(&report_failure(path, &error).to_string());
                exit = Exit::LocalIo;
            }
        }
    }
    say(&summary(&header, &rows, &counts, &causes, &written))?;
    Ok(exit)
}

fn begin(ledger: &mut SqliteLedger, draft: &Draft<'_>, plan: &Plan) -> Result<(), LedgerError> {
    let refreshed: Vec<Refreshed> = plan
        .files
        .iter()
        .filter_map(|file| match (&file.decision, file.stat) {
            (Decision::Skip(unchanged), Some(stat)) if unchanged.news == News::Stat => {
                Some(Refreshed {
                    target: Arc::clone(&plan.rules[file.rule].target),
                    path: file.path.clone(),
                    stat,
                    read_at: draft.started,
                })
            }
            _ => None,
        })
        .collect();
    ledger.begin_run(&RunStart {
        run: draft.run.clone(),
        stream: plan.manifest.clone(),
        at: draft.started,
        planned: plan.files.len(),
    })?;
    ledger.refresh(&refreshed)
}

fn client(
    settings: &ApplySettings,
    draft: &Draft<'_>,
    key: Option<ApiKey>,
    sandbox: Option<&Sandbox>,
) -> Result<Client, Failure> {
    let internal = |why: &str| Failure::new(Exit::Internal, why.to_owned());
    let (endpoint, key) = match (&draft.endpoint, key, sandbox) {
        (Some(endpoint), Some(key), _) => (endpoint.clone(), key),
        (_, _, Some(sandbox)) => (
            Endpoint::parse(&format!("http://{}", sandbox.address())).map_err(|e| internal(&e))?,
            ApiKey::new(SANDBOX_KEY).map_err(internal)?,
        ),
        _ => return Err(internal("neither a service nor the sandbox to send to")),
    };
    Client::new(&client::Settings {
        endpoint,
        key,
        stall: settings.stall,
        connections: usize::try_from(concurrency(settings, &draft.manifest).get()).unwrap_or(1),
    })
    .map_err(|why| Failure::new(Exit::Unavailable, format!("cannot set up TLS: {why}")))
}

fn concurrency(settings: &ApplySettings, manifest: &Manifest) -> NonZeroU32 {
    settings
        .concurrency
        .or(manifest.run.concurrency)
        .unwrap_or(CONCURRENCY)
}

/// The ledger, unless its thread died, and how the uploads ended.
type Uploaded = (Option<Box<dyn Ledger>>, Vec<Option<JobEnd>>);

fn upload(
    settings: &ApplySettings,
    draft: &Draft<'_>,
    plan: &Plan,
    client: &Client,
    ledger: Box<dyn Ledger>,
    stop: &StopLight,
) -> Result<Uploaded, Failure> {
    let internal = |why: String| Failure::new(Exit::Internal, why);
    let writer = Writer::start(ledger).map_err(|error| internal(error.to_string()))?;
    let progress = Progress::new();
    let max_attempts = settings.max_attempts.or(draft.manifest.run.max_attempts);
    let runtime = runtime()?;
    let ends = runtime.block_on(async {
        let signals = signals()?;
        let events = |event: &Event| progress.event(event);
        let run = execute(Parts {
            plan,
            roots: draft.roots(),
            client,
            ledger: writer.handle(),
            run: &draft.run,
            clock: &SystemClock,
            chance: &SystemChance,
            stop,
            events: &events,
            settings: execute::Settings {
                concurrency: concurrency(settings, &draft.manifest),
                max_attempts: max_attempts.unwrap_or(MAX_ATTEMPTS),
                backoff: BACKOFF,
            },
        });
        tokio::select! {
            ends = run => Ok::<_, Failure>(ends),
            never = signals.steer(stop, settings.grace, |line| progress.say(line)) => match never {},
        }
    })?;
    progress.finish();
    // A file being read when the run was aborted is nobody's concern any more.
    runtime.shutdown_background();
    let ledger = writer.finish().ok();
    let mut ends = ends;
    if let Some(ledger) = &ledger {
        learn_ends(&**ledger, plan, &mut ends);
    }
    Ok((ledger, ends))
}

/// An abort can drop a job whose end was on its way to the ledger: what arrived there counts.
fn learn_ends(ledger: &dyn Ledger, plan: &Plan, ends: &mut [Option<JobEnd>]) {
    let in_doubt =
        |end: &Option<JobEnd>| matches!(end, Some(end) if end.outcome == Outcome::InDoubt);
    if !ends.iter().any(in_doubt) {
        return;
    }
    let targets: Vec<_> = plan
        .rules
        .iter()
        .map(|rule| Arc::clone(&rule.target))
        .collect();
    let Ok(known) = ledger.known(&targets) else {
        return;
    };
    for (file, end) in plan.files.iter().zip(ends).filter(|(_, end)| in_doubt(end)) {
        let known = known.get(&plan.rules[file.rule].target, &file.path);
        if let (Some(end), Some(known)) = (end, known) {
            match (&known.state, &known.stored) {
                (KnownState::Stored, Some(stored)) => {
                    end.outcome = Outcome::Stored;
                    end.file_id.clone_from(&stored.file_id);
                    end.reason = None;
                }
                (KnownState::NotStored, _) => end.outcome = Outcome::Failed,
                _ => {}
            }
        }
    }
}

fn start_sandbox(draft: &Draft<'_>, plan: &Plan) -> Result<Sandbox, Failure> {
    let datasets = plan
        .rules
        .iter()
        .filter_map(|rule| rule.target.dataset_id.as_ref());
    let datasets = datasets
        .map(|id| SandboxDataset {
            id: id.as_str().to_owned(),
            name: plan.manifest.clone(),
        })
        .collect();
    Sandbox::start(SandboxConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data: draft.state.sandbox(),
        api_key: SANDBOX_KEY.to_owned(),
        datasets,
        empty_files: EmptyFiles::Accept,
    })
    .map_err(|error| {
        Failure::new(Exit::LocalIo, format!("the sandbox cannot start: {error}"))
            .hint("dataset ids are UUIDs")
    })
}

fn api_key(source: &KeySource) -> Result<ApiKey, Failure> {
    let refuse = |what: &str, why: &str| {
        Failure::new(
            Exit::Credentials,
            format!("the API key {what} cannot be used: {why}"),
        )
    };
    match source {
        KeySource::Missing => Err(Failure::new(Exit::Credentials, "there is no API key").hint(
            "set ROE_API_KEY, name a file with --api-key-file, or try things out with --sandbox",
        )),
        KeySource::Variable(text) => {
            ApiKey::new(text.expose_secret()).map_err(|why| refuse("in ROE_API_KEY", why))
        }
        KeySource::Stdin => {
            let text = read_key(io::stdin()).map_err(|e| refuse("on stdin", &e.to_string()))?;
            ApiKey::new(&text).map_err(|why| refuse("on stdin", why))
        }
        KeySource::File(path) => {
            let name = format!("in {}", shown(&path.to_string_lossy()));
            let file = File::open(path).map_err(|e| refuse(&name, &e.to_string()))?;
            let found = file.metadata().map_err(|e| refuse(&name, &e.to_string()))?;
            if found.permissions().mode() & 0o004 != 0 {
                return Err(refuse(&name, "everybody can read the file")
                    .hint(format!("chmod 600 {}", shown(&path.to_string_lossy()))));
            }
            let text = read_key(file).map_err(|e| refuse(&name, &e.to_string()))?;
            ApiKey::new(&text).map_err(|why| refuse(&name, why))
        }
    }
}

fn read_key(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(KEY_FILE_MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// Where reports go: the manifest's places, or the default ones, and those of the command line.
fn report_paths(
    settings: &ApplySettings,
    draft: &Draft<'_>,
) -> Result<Vec<(PathBuf, ReportFormat)>, Failure> {
    let values = Values {
        manifest: &draft.manifest.name,
        run: Some((&draft.run, draft.started)),
        rule: None,
        file: None,
    };
    let folder = settings.plan.manifest.parent().unwrap_or(Path::new(""));
    let mut paths = Vec::new();
    for report in &draft.manifest.reports {
        let path = report
            .path
            .render(&values)
            .map_err(|why| Failure::new(Exit::Invalid, format!("a report's path: {why}")))?;
        paths.push((folder.join(path), report.format));
    }
    if paths.is_empty() {
        // By the manifest's file name: several manifests may share a state folder.
        for (extension, format) in [("csv", ReportFormat::Csv), ("json", ReportFormat::Json)] {
            let mut name = settings
                .plan
                .manifest
                .file_stem()
                .unwrap_or_default()
                .to_owned();
            name.push(format!(".{extension}"));
            paths.push((draft.state.reports().join(name), format));
        }
    }
    for path in &settings.reports {
        let name = path.to_string_lossy();
        let format = ReportFormat::of_path(&name).ok_or_else(|| {
            Failure::new(
                Exit::Usage,
                format!(
                    "the extension of the report {} chooses no format",
                    shown(&name)
                ),
            )
            .hint("end the path with .csv, .json or .jsonl")
        })?;
        paths.push((path.clone(), format));
    }
    Ok(paths)
}

fn report_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        Exit::LocalIo,
        format!("the report {} cannot be written: {error}", near(path)),
    )
}

/// What the run came to, for people.
fn summary(
    header: &Header,
    rows: &[Row<'_>],
    counts: &Counts,
    causes: &[StopCause],
    reports: &[&Path],
) -> String {
    let mut text = String::new();
    let name = shown(&header.manifest);
    let _ = writeln!(text, "{name}: {} planned", count(header.planned, "file"));
    let ids = |outcome| {
        let with_id = |row: &&Row<'_>| row.outcome == outcome && row.file_id.is_some();
        count(rows.iter().filter(with_id).count(), "file ID")
    };
    for outcome in Outcome::ALL {
        let files = counts.files(outcome);
        if files == 0 {
            continue;
        }
        let _ = write!(text, "  {:<14}{files:>8}", outcome.label());
        let _ = match outcome {
            Outcome::Stored => writeln!(
                text,
                "   {}, {}",
                HumanBytes(counts.bytes(outcome)),
                ids(outcome)
            ),
            Outcome::Skipped => writeln!(text, "   stored before, {}", ids(outcome)),
            _ => writeln!(text),
        };
    }
    if header.planned > 0 && counts.files(Outcome::Skipped) == header.planned {
        text.push_str("nothing to upload\n");
    }
    for cause in causes {
        let _ = writeln!(text, "ended early: {cause}");
    }
    for outcome in [Outcome::Rejected, Outcome::Failed, Outcome::InDoubt] {
        let of_kind: Vec<&Row<'_>> = rows.iter().filter(|row| row.outcome == outcome).collect();
        for row in of_kind.iter().take(NAMED) {
            let why = row.reason.as_deref().unwrap_or_default();
            let _ = writeln!(
                text,
                "{}: {}: {why}",
                outcome.label(),
                named(row.rule, row.path)
            );
        }
        if of_kind.len() > NAMED {
            let more = of_kind.len() - NAMED;
            let _ = writeln!(text, "{}: … and {more} more in the report", outcome.label());
        }
    }
    if counts.files(Outcome::InDoubt) > 0 {
        text.push_str("`roe-batch resolve MANIFEST` lists what is in doubt, and settles it\n");
    }
    for path in reports {
        let _ = writeln!(text, "report: {}", near(path));
    }
    text
}

/// A path as a reader would write it: relative where it lies below the working folder.
fn near(path: &Path) -> String {
    let here = std::path::absolute(".").unwrap_or_default();
    let path = path.strip_prefix(here).unwrap_or(path);
    shown(&path.to_string_lossy()).into_owned()
}

fn named(rule: &RuleName, path: &SourcePath) -> String {
    format!("{rule}: {path}")
}
