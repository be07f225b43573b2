//! The settings of the commands that upload.

use std::num::NonZeroU32;

use secrecy::SecretString;

use super::args::{
    ApplyArgs, LockAction, LockArgs, NarrationArgs, UploadArgs, WatchArgs, WatcherArgs,
};
use super::origin::Sources;
use super::settings::{
    ApplySettings, Hooks, IfLocked, KeySource, Mode, Otlp, PlanFormat, PlanSettings, RetryWaits,
    Then, Wait, WatchSettings, Watchers,
};
use super::{GRACE, plan, table};
use crate::model::{Drawing, LogForm, Narration, ProgressMode, Verbosity};

pub(super) fn apply(args: ApplyArgs, sources: &Sources<'_>) -> Result<ApplySettings, clap::Error> {
    let mode = if args.dry_run {
        Mode::DryRun
    } else {
        Mode::Upload
    };
    let plan = plan(args.manifests, args.common, args.format, sources)?;
    upload(plan, mode, args.upload, sources)
}

pub(super) fn watch(args: WatchArgs, sources: &Sources<'_>) -> Result<WatchSettings, clap::Error> {
    let fail = |message: &str| {
        let kind = clap::error::ErrorKind::ValueValidation;
        clap::Error::raw(kind, message)
    };
    if args.manifest.as_os_str() == "-" {
        return Err(fail(
            "the manifest is read at each run, and standard input gives it once: name a file\n",
        ));
    }
    let LockArgs { if_locked, wait } = args.upload.lock;
    if matches!(if_locked, Some(LockAction::Fail)) {
        return Err(fail(
            "a watch does not end because another run is under way: --if-locked wait or skip\n",
        ));
    }
    let mut plan = plan(vec![args.manifest], args.common, PlanFormat::Text, sources)?;
    if matches!(plan.access.key, KeySource::Stdin) {
        return Err(fail(
            "the API key is read at each run, and standard input gives it once: name a file with \
             --api-key-file, or set ROE_API_KEY\n",
        ));
    }
    plan.look.min_age = Some(args.quiet_for);
    Ok(WatchSettings {
        apply: ApplySettings {
            if_locked: IfLocked {
                wait: match (if_locked, wait) {
                    (Some(LockAction::Skip), wait) => Wait::For(wait.unwrap_or_default()),
                    (_, Some(wait)) => Wait::For(wait),
                    (_, None) => Wait::Forever,
                },
                then: Then::Skip,
            },
            ..upload(plan, Mode::Upload, args.upload, sources)?
        },
        quiet_for: args.quiet_for,
        at_latest: args.at_latest,
        rescan: args.rescan,
        events: args.events,
    })
}

fn upload(
    plan: PlanSettings,
    mode: Mode,
    args: UploadArgs,
    sources: &Sources<'_>,
) -> Result<ApplySettings, clap::Error> {
    Ok(ApplySettings {
        plan,
        mode,
        faults: args.faults,
        concurrency: sources.layered(&table::CONCURRENCY, args.concurrency)?,
        rate: sources.layered(&table::RATE, args.rate)?,
        bandwidth: sources.layered(&table::BANDWIDTH, args.bandwidth)?,
        failure_budget: sources.layered(&table::FAILURE_BUDGET, args.failure_budget)?,
        max_attempts: sources.layered(
            &table::MAX_ATTEMPTS,
            args.max_attempts.and_then(NonZeroU32::new),
        )?,
        retry_waits: RetryWaits {
            first: sources.get(&table::RETRY_INITIAL_MS, None)?,
            most: sources.get(&table::RETRY_MAX_MS, None)?,
        },
        retry_for: sources.layered(&table::RETRY_FOR, args.retry_for)?,
        deadline: sources.layered(&table::DEADLINE, args.deadline)?,
        grace: sources.get(&table::GRACE, args.grace)?.unwrap_or(GRACE),
        if_locked: if_locked(args.lock, sources)?,
        settle: sources.layered(&table::SETTLE, args.settle)?,
        reports: args.report,
        watchers: watchers(args.watchers, sources)?,
        narration: narration(&args.narration, sources)?,
    })
}

pub(super) fn if_locked(args: LockArgs, sources: &Sources<'_>) -> Result<IfLocked, clap::Error> {
    if let (Some(LockAction::Fail), Some(_)) = (args.if_locked, args.wait) {
        let kind = clap::error::ErrorKind::ArgumentConflict;
        let message = "--if-locked fail does not wait, and --wait does: leave one of them out\n";
        return Err(clap::Error::raw(kind, message));
    }
    // Who says on the command line what to do does not wait as long as a config file says.
    let wait = match args.if_locked {
        Some(_) => args.wait,
        None => sources.get(&table::WAIT, args.wait)?,
    };
    let action = sources.get(&table::IF_LOCKED, args.if_locked)?;
    let bounded = Wait::For(wait.unwrap_or_default());
    let (wait, then) = match (action, wait) {
        (Some(LockAction::Wait), None) => (Wait::Forever, Then::Fail),
        (Some(LockAction::Skip), _) => (bounded, Then::Skip),
        (Some(LockAction::Wait | LockAction::Fail) | None, _) => (bounded, Then::Fail),
    };
    Ok(IfLocked { wait, then })
}

fn watchers(args: WatcherArgs, sources: &Sources<'_>) -> Result<Watchers, clap::Error> {
    let allowed = sources.get(&table::ALLOW_HOOKS, args.allow_hooks.then_some(true))?;
    // Not OpenTelemetry's own variables: what is set for all programs of a machine does not make this
    // one speak to others.
    let endpoint = sources.get(&table::OTLP, args.otlp.map(SecretString::from))?;
    Ok(Watchers {
        metrics_file: sources.get(&table::METRICS_FILE, args.metrics_file)?,
        otlp: endpoint.map(|endpoint| Otlp {
            endpoint,
            headers: sources
                .variable("ROE_BATCH_OTLP_HEADERS")
                .map(|text| SecretString::from(text.to_string_lossy().into_owned())),
        }),
        hooks: if allowed == Some(true) {
            Hooks::Allowed
        } else {
            Hooks::Refused
        },
    })
}

fn narration(args: &NarrationArgs, sources: &Sources<'_>) -> Result<Narration, clap::Error> {
    let progress = sources.get(&table::PROGRESS, args.progress)?;
    let progress = progress.unwrap_or(ProgressMode::Auto);
    let terminal = sources.variable("TERM");
    let can_draw = terminal.is_some_and(|name| name != "dumb");
    Ok(Narration {
        verbosity: match (args.quiet, args.verbose) {
            (true, _) => Verbosity::Quiet,
            (false, true) => Verbosity::Verbose,
            (false, false) => Verbosity::Normal,
        },
        log: args.log_format.unwrap_or(match progress {
            ProgressMode::Json => LogForm::Json,
            _ => LogForm::Text,
        }),
        progress,
        drawing: if can_draw && sources.variable("NO_COLOR").is_none() {
            Drawing::Allowed
        } else {
            Drawing::Unwanted
        },
    })
}
