//! One manifest's turn: plan, upload, report.

use std::cell::RefCell;
use std::collections::HashSet;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;

use super::account::{Account, Ended};
use super::draft::{Draft, Telling, ledger_failure, lock, warn_of_other_targets};
use super::how::how;
use super::lookup::{History, Home, SETTLE};
use super::reports::{RowsOf, gather, report_failure, report_paths};
use super::run::{Deadline, Ears, Signals, SystemChance, SystemClock, answer_questions, runtime};
use super::service::{self, Place, Service};
use super::{Audience, narrate, say};
use crate::cli::ApplySettings;
use crate::client::Client;
use crate::diagnostic::Source;
use crate::error::{Exit, Failure};
use crate::event::Event;
use crate::execute::{self, Chance, Doubts, Ends, Parts, RowEnd, StopLight, execute};
use crate::ledger::{
    AdoptedFrom, Adoption, Entry, Ledger, LedgerError, Refreshed, RunEnd, RunKind, RunStart,
    SqliteLedger, Writer,
};
use crate::model::{
    ApiKey, AttemptId, Clock, Doubt, InDoubt, JobEnd, Outcome, ReportFormat, RunId, Verbosity,
};
use crate::plan::{Action, Decision, Plan, PlannedFile, SkipReason};
use crate::progress::{Progress, Recent};
use crate::report::{self, About, Header, Pauses};
use crate::sandbox::Faults;
use crate::source::Readers;
use crate::verify::LocalFiles;

/// What a plan found out is written down so much at a time.
const NEWS: usize = 4096;

/// Who has runs carried out: `apply` every one of them, `watch` those that have something to do.
pub(super) trait Caller {
    /// What is told of a manifest's problems.
    fn telling(&self) -> Telling<'_>;

    /// What signals a run listens to; none where the plan is not to be carried out.
    fn admit(&mut self, draft: &Draft<'_>, plan: &Plan<'_>, doubts: &[Doubt]) -> Option<Ears>;

    /// Told how a run ended.
    fn ended(&mut self, plan: &Plan<'_>, ends: &Ends);
}

/// What came of one manifest's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The manifest is invalid, as was told.
    Invalid,
    /// Another run has the ledger, as was told.
    Locked,
    /// The plan was not to be carried out.
    Idle,
    /// A run ended so.
    Ran(Exit),
}

/// Plans, and where the caller admits it, uploads and reports. The account is begun once the manifest
/// is known to be sound.
pub(super) fn turn(
    settings: &ApplySettings,
    faults: &Faults,
    manifest: (&Path, &Source),
    caller: &mut dyn Caller,
    account: &mut Option<Account>,
) -> Result<Turn, Failure> {
    let started = SystemClock.now();
    let Some(draft) = Draft::load(&settings.plan, manifest, started, caller.telling())? else {
        return Ok(Turn::Invalid);
    };
    let told = account.insert(Account::of(&draft));
    let key = draft.key()?;
    let purpose = format!("run {}", draft.run);
    let Some(_lock) = lock(&draft.state, &purpose, settings.if_locked)? else {
        return Ok(Turn::Locked);
    };
    let mut ledger =
        SqliteLedger::open(&draft.state.ledger()).map_err(|error| ledger_failure(&error))?;
    let earlier = ledger.doubts().map_err(|error| ledger_failure(&error))?;
    if settings.watchers.are_any() || !told.hooks.is_empty() {
        told.remember(&ledger, &earlier);
    }
    let plan = draft.plan(&earlier, Some(&ledger))?;
    let Some(ears) = caller.admit(&draft, &plan, &earlier) else {
        write_news(&mut ledger, &draft, &plan).map_err(|error| ledger_failure(&error))?;
        return Ok(Turn::Idle);
    };
    warn_of_other_targets(&plan, &ledger)?;
    let reports = report_paths(settings, &draft)?;
    for (path, _) in &reports {
        report::probe(path).map_err(|error| report_failure(path, &error))?;
    }

    // Listening before the run is written down: a signal from then on leaves its report.
    let listening = |service| {
        let runtime = runtime()?;
        let signals = ears.open(&runtime)?;
        Ok::<_, Failure>((service, runtime, signals))
    };
    let place = Place {
        faults: Some(faults),
        ..draft.place()
    };
    let (how, notice) = how(settings, &draft.manifest.run, draft.endpoint.as_ref());
    let service = service_for(
        settings,
        place,
        &draft,
        &plan,
        &earlier,
        key,
        how.pace.concurrency.max(),
    )?;
    if service.is_some()
        && let Some(notice) = notice
    {
        narrate(&notice);
    }
    let service = service.map(listening).transpose()?;
    begin(&mut ledger, &draft, &plan).map_err(|error| ledger_failure(&error))?;
    draft.intact()?;
    let stop = StopLight::default();
    let (ledger, ends, heard) = if let Some((service, runtime, signals)) = service {
        let uploading = Uploading {
            settings,
            how: &how,
            draft: &draft,
            plan: &plan,
            client: &service.client,
            earlier: &earlier,
            stop: &stop,
        };
        upload(&uploading, Box::new(ledger), runtime, signals)?
    } else {
        let ledger: Box<dyn Ledger> = Box::new(ledger);
        (Some(ledger), Ends::default(), Heard::default())
    };
    told.is_urgent = stop.is_urgent();

    caller.ended(&plan, &ends);
    let audience = Audience::of(settings.narration, heard.recent);
    let (draft, plan) = (&draft, &plan);
    let told = (told, &audience);
    conclude(
        (draft, plan),
        (&ends, heard.pauses),
        ledger,
        &stop,
        &reports,
        told,
    )
    .map(Turn::Ran)
}

/// The service, where anything is to be asked of it.
fn service_for(
    settings: &ApplySettings,
    place: Place<'_>,
    draft: &Draft<'_>,
    plan: &Plan<'_>,
    doubts: &[Doubt],
    key: Option<ApiKey>,
    concurrency: NonZeroU32,
) -> Result<Option<Service>, Failure> {
    let looks = draft.in_doubt() == InDoubt::Verify;
    let asks = (0..plan.len()).any(|row| plan.asks_service(row))
        || looks && doubts.iter().any(|doubt| plan.left_behind(doubt));
    if !asks {
        return Ok(None);
    }
    let connections = usize::try_from(concurrency.get()).unwrap_or(1);
    let rules = draft.manifest.rules.iter();
    let datasets = rules.filter_map(|rule| {
        let name = rule.dataset.as_ref().map(|dataset| dataset.text.as_str());
        let id = rule.dataset_id.as_ref()?;
        Some((id, name.unwrap_or(&draft.manifest.name)))
    });
    let access = &settings.plan.access;
    service::connect(place, datasets, key, access, connections).map(Some)
}

/// Writes down the run's end, its reports and its summary.
fn conclude(
    (draft, plan): (&Draft<'_>, &Plan<'_>),
    (ends, pauses): (&Ends, Pauses),
    mut ledger: Option<Box<dyn Ledger>>,
    stop: &StopLight,
    reports: &[(PathBuf, ReportFormat)],
    (account, audience): (&mut Account, &Audience),
) -> Result<Exit, Failure> {
    let causes = stop.causes();
    let gather = |rows: RowsOf<'_>, doubts: HashSet<AttemptId>| {
        gather(rows, ends, &causes, doubts, reports, &audience.recent)
    };
    let gather_of = |ledger: &dyn Ledger| {
        let rows = RowsOf::Ledger(ledger, &draft.run);
        gather(rows, doubts(ledger, plan))
    };
    let from_ledger = match &ledger {
        // A ledger that cannot be written to, as on a full disk, may still be read, if reading it
        // needs no disk either.
        Some(ledger) => gather_of(&**ledger).or_else(|error| {
            match SqliteLedger::open_read_only_on_full_disk(&draft.state.ledger()) {
                Ok(Some(ledger)) => gather_of(&ledger),
                Ok(None) | Err(_) => Err(error),
            }
        }),
        None => Err(LedgerError::Closed),
    };
    let unread = from_ledger.as_ref().err().map(ledger_failure);
    let gathered = from_ledger
        .or_else(|_| gather(RowsOf::Plan(plan), HashSet::new()))
        .map_err(|error| ledger_failure(&error))?;
    let counts = &gathered.counts;
    let unplanned = !gathered.unplanned.is_empty();
    let mut exit = Exit::of_run(&causes, counts.astray(), |outcome| {
        counts.files(outcome) > 0 || outcome == Outcome::InDoubt && unplanned
    });
    let finished = SystemClock.now();
    let stopped: Vec<String> = causes.iter().map(ToString::to_string).collect();
    let end = RunEnd {
        run: draft.run.clone(),
        at: finished,
        exit_code: exit.code(),
        stopped: stopped.clone(),
        outcomes: counts.by_outcome(),
    };
    let ended = match &mut ledger {
        Some(ledger) => ledger.end_run(&end),
        None => Err(LedgerError::Closed),
    };
    let unwritten = ended.err().as_ref().map(ledger_failure);
    for failure in unwritten.or(unread).into_iter().chain(draft.intact().err()) {
        narrate(&failure.to_string());
        exit = Exit::LocalIo;
    }
    let about = About {
        manifest: plan.manifest.clone(),
        run_id: Some(draft.run.clone()),
        started: Some(draft.started),
        finished: Some(finished),
        vanished: plan.vanished,
        stopped,
        exit_code: Some(exit.code()),
        pauses: Some(pauses),
    };
    let header = Header::new(about, counts);
    let in_doubt = counts.files(Outcome::InDoubt) + gathered.unplanned.len();
    let retries = gathered.retries;
    let concluded = gathered.finish(&header, &causes, noted(plan));
    for failure in &concluded.failures {
        narrate(&failure.to_string());
        exit = Exit::LocalIo;
    }
    account.end(Ended {
        header,
        in_doubt,
        retries,
        reports: concluded.reports,
    });
    if exit != Exit::Done || audience.verbosity != Verbosity::Quiet {
        say(&concluded.summary)?;
    }
    Ok(exit)
}

/// What is in doubt at the plan's targets, and of its manifest at the same service's others.
fn doubts(ledger: &dyn Ledger, plan: &Plan<'_>) -> HashSet<AttemptId> {
    let doubts = ledger.doubts();
    let is_near = |doubt: &Doubt| {
        let mut targets = plan.rules.iter().map(|rule| &*rule.target);
        targets.any(|target| {
            let is_here = target.origin == doubt.target.origin;
            *target == doubt.target || is_here && doubt.stream == plan.manifest
        })
    };
    let doubts = doubts.unwrap_or_default().into_iter().filter(is_near);
    doubts.map(|doubt| doubt.attempt).collect()
}

/// Files that are left as they are stored although something of them changed.
fn noted(plan: &Plan<'_>) -> usize {
    (0..plan.len()).filter(|row| plan.is_drifted(*row)).count()
}

/// Writes down the run, its plan, and what the plan found out beside it.
fn begin(ledger: &mut SqliteLedger, draft: &Draft<'_>, plan: &Plan<'_>) -> Result<(), LedgerError> {
    let start = RunStart {
        run: draft.run.clone(),
        stream: plan.manifest.clone(),
        kind: RunKind::Apply,
        at: draft.started,
        vanished: plan.vanished,
    };
    ledger.begin_run(&start, &mut report::planned_rows(plan))?;
    write_news(ledger, draft, plan)
}

fn write_news(
    ledger: &mut SqliteLedger,
    draft: &Draft<'_>,
    plan: &Plan<'_>,
) -> Result<(), LedgerError> {
    // Each is true by itself: they need not be written in one step, which may be all files.
    let mut group = Vec::new();
    for row in (0..plan.len()).filter(|row| plan.is_news(*row)) {
        group.extend(news(draft, plan, &plan.file(row)));
        if group.len() == NEWS {
            ledger.write(&group)?;
            group.clear();
        }
    }
    if group.is_empty() {
        return Ok(());
    }
    ledger.write(&group)
}

/// What a planned row tells the ledger before anything is sent.
fn news(draft: &Draft<'_>, plan: &Plan<'_>, file: &PlannedFile) -> Option<Entry> {
    let target = Arc::clone(&plan.rules[file.rule].target);
    let stat = file.stat?;
    match &file.decision {
        Decision::Skip(skip) => match (&skip.why, skip.digest, &file.sending) {
            (SkipReason::Touched, _, _) => Some(Entry::Refreshed(Refreshed {
                target,
                path: file.path.clone(),
                stat,
                read_at: draft.started,
            })),
            (SkipReason::Moved(from), Some(digest), Some(sending)) => {
                Some(Entry::Adopted(Adoption {
                    run: draft.run.clone(),
                    attempt: SystemChance.attempt_id(),
                    target,
                    rule: plan.rules[file.rule].name.clone(),
                    path: file.path.clone(),
                    stat,
                    read_at: draft.started,
                    digest,
                    metadata: sending.metadata.digest(),
                    remote_name: sending.remote_name.as_str().to_owned(),
                    file_id: skip.file_id.clone(),
                    from: AdoptedFrom::Moved(from.clone()),
                }))
            }
            _ => None,
        },
        _ => None,
    }
}

/// What was heard of uploads while they went on.
#[derive(Default)]
struct Heard {
    recent: Recent,
    pauses: Pauses,
}

/// The ledger, unless its thread died, how the uploads ended, and what was heard of them.
type Uploaded = (Option<Box<dyn Ledger>>, Ends, Heard);

/// What an upload needs beside the ledger.
struct Uploading<'a> {
    settings: &'a ApplySettings,
    how: &'a execute::Settings,
    draft: &'a Draft<'a>,
    plan: &'a Plan<'a>,
    client: &'a Client,
    /// What earlier runs left in doubt.
    earlier: &'a [Doubt],
    stop: &'a StopLight,
}

fn upload(
    what: &Uploading<'_>,
    ledger: Box<dyn Ledger>,
    runtime: Runtime,
    signals: Signals,
) -> Result<Uploaded, Failure> {
    let Uploading {
        settings,
        how,
        draft,
        plan,
        client,
        earlier,
        stop,
    } = *what;
    let internal = |why: String| Failure::new(Exit::Internal, why);
    let readers = Readers::start(draft.roots()).map_err(|error| internal(error.to_string()))?;
    let writer = Writer::start(ledger).map_err(|error| internal(error.to_string()))?;
    let progress = Progress::new(settings.narration, || SystemClock.now());
    answer_questions(&runtime, progress.asker());
    let settle = settings.settle.with(draft.manifest.run.settle);
    let files: Arc<dyn LocalFiles> = Arc::new(Home::of(&draft.state));
    let deadline = settings
        .deadline
        .with(draft.manifest.run.deadline)
        .map(|limit| {
            let used = SystemClock.now().duration_since(draft.started);
            Deadline {
                limit,
                left: limit.saturating_sub(Duration::try_from(used).unwrap_or_default()),
            }
        });
    let spill = &draft.candidates().spill;
    let past = History::of(&draft.state, spill, earlier, draft.started);
    let pauses = RefCell::new(Pauses::default());
    let ends = runtime.block_on(async {
        let events = |event: &Event| {
            if let Event::Paused { why, wait } = event {
                pauses.borrow_mut().add(SystemClock.now(), *wait, why);
            }
            progress.event(event);
        };
        let run = execute(Parts {
            plan,
            roots: draft.roots(),
            readers: &readers,
            client,
            ledger: writer.handle(),
            run: &draft.run,
            clock: &SystemClock,
            chance: &SystemChance,
            stop,
            events: &events,
            doubts: Doubts {
                policy: draft.in_doubt(),
                earlier,
                settle: settle.unwrap_or(SETTLE),
                files: &files,
                past: &past,
            },
            settings: how.clone(),
        });
        tokio::select! {
            ends = run => ends,
            never = Deadline::steer(deadline, stop, settings.grace, |line| progress.ending(line)) => {
                match never {}
            }
            never = signals.steer(stop, settings.grace, |line| progress.ending(line)) => match never {},
        }
    });
    let recent = progress.finish();
    // A file being read when the run was aborted is nobody's concern any more.
    runtime.shutdown_background();
    let ledger = writer.finish().ok();
    let mut ends = ends;
    if let Some(ledger) = &ledger {
        learn_ends(&**ledger, plan, &draft.run, &mut ends);
    }
    let heard = Heard {
        recent,
        pauses: pauses.into_inner(),
    };
    Ok((ledger, ends, heard))
}

/// An abort can drop a job whose end was on its way to the ledger: what arrived there counts.
fn learn_ends(ledger: &dyn Ledger, plan: &Plan<'_>, run: &RunId, ends: &mut Ends) {
    let is_open = |ends: &Ends, row: usize| match ends.get(row) {
        RowEnd::Told(end) => end.outcome == Outcome::InDoubt,
        RowEnd::Written(_) => false,
        RowEnd::AsPlanned => plan.action(row) == Action::Hold,
    };
    if !(0..plan.len()).any(|row| is_open(ends, row)) {
        return;
    }
    // The ledger's rows of a run are its plan's, in the same order. What it cannot say is left as
    // it is.
    let mut rows = 0..plan.len();
    let _ = ledger.each_row(run, &mut |row| {
        let Some(index) = rows.next() else {
            return ControlFlow::Break(());
        };
        // Of what is in doubt there too, what was seen here says more.
        if is_open(ends, index) && row.end.outcome != Outcome::InDoubt {
            ends.tell(index, JobEnd::from(row.end));
        }
        ControlFlow::Continue(())
    });
}
