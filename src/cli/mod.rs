//! The command line and the environment, read once, to settings. Nothing else reads either.

mod args;
mod manual;
mod scheduled;
mod settings;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use secrecy::SecretString;

use self::args::{
    AccessArgs, ApplyArgs, Cli, CommonArgs, InitArgs, LockAction, LockArgs, LookArgs,
    NarrationArgs, PlaceArgs, ResolveArgs, ServiceArgs, StreamArgs, Sub,
};
use self::scheduled::{HostArgs, RunsArgs, ScheduleSub};
use self::values::{duration, progress_word};
use crate::model::{
    Concurrency, Drawing, Environment, FileId, HttpVersion, LogForm, Narration, OrganizationId,
    ProgressMode, Variable, Verbosity, canonical_id,
};

pub use self::settings::{
    Access, ApplySettings, CheckFormat, CheckSettings, Command, ExplainSettings, ForgetSettings,
    Forgettable, Host, IfLocked, ImportSettings, InitSettings, KeySource, LookSettings, Mode,
    PlanExit, PlanFormat, PlanSettings, ReportSettings, Resolve, ResolveSettings, RetryWaits,
    SandboxSettings, ScheduleSettings, Scheduler, SchemaOf, Service, StatusFormat, StatusSettings,
    StreamSettings, Then, Transport, Unit, Verify, Wait, Warnings, Which, WriteTo,
};

/// Where the API is unless told otherwise.
pub const BASE_URL: &str = "https://api.roe-ai.com";

/// What a new manifest is called, unless told otherwise.
const MANIFEST: &str = "roe-batch.yaml";

/// How long nothing may move, unless told otherwise.
const STALL: Duration = Duration::from_mins(2);

/// The command line as clap knows it, for what is made of it: completions and the manual.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Reads arguments and environment.
///
/// # Errors
///
/// What clap wants to print: a usage error, help or the version.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    Ok(match Cli::try_parse_from(args)?.command {
        Sub::Apply(args) => Command::Apply(Box::new(apply(args)?)),
        Sub::Plan(args) => Command::Plan(PlanSettings {
            exit: if args.detailed_exitcode {
                PlanExit::Detailed
            } else {
                PlanExit::Plain
            },
            ..plan(args.manifests, args.common, args.format)?
        }),
        Sub::Check(args) => Command::Check(CheckSettings {
            look: look(args.manifests, args.look)?,
            warnings: if args.strict {
                Warnings::Fail
            } else {
                Warnings::Pass
            },
            format: args.format,
        }),
        Sub::Explain(args) => Command::Explain(ExplainSettings {
            look: look(vec![args.manifest], args.look)?,
            service: service(args.place),
            file: args.file,
            format: args.format,
        }),
        Sub::Resolve(args) => Command::Resolve(resolve(args)?),
        Sub::Status(args) => Command::Status(StatusSettings {
            stream: stream(args.stream),
            format: args.format,
        }),
        Sub::Report(args) => Command::Report(ReportSettings {
            stream: stream(args.stream),
            which: match args.run.as_str() {
                _ if args.all => Which::All,
                "latest" => Which::Latest,
                _ => Which::Run(args.run),
            },
            format: args.format,
            out: args.out,
        }),
        Sub::Import(args) => Command::Import(ImportSettings {
            plan: plan(vec![args.manifest], args.common, PlanFormat::Text)?,
            table: args.table,
            ignore_missing: args.ignore_missing,
            if_locked: if_locked(args.lock)?,
        }),
        Sub::Forget(args) => Command::Forget(ForgetSettings {
            stream: stream(args.stream),
            which: if args.vanished {
                Forgettable::Vanished
            } else {
                Forgettable::Named(args.files)
            },
            if_locked: if_locked(args.lock)?,
        }),
        Sub::Init(args) => Command::Init(init(args)),
        Sub::Sandbox(args) => Command::Sandbox(SandboxSettings {
            listen: args.listen,
            data: args.data,
            datasets: args.dataset,
            refuse_empty_files: args.refuse_empty_files,
            faults: args.faults,
        }),
        Sub::Schedule(with) => Command::Schedule(schedule(with)?),
        Sub::Schema(args) => Command::Schema(args.document),
        Sub::Completions(args) => Command::Completions(args.shell),
        Sub::Man(args) => Command::Man(match args.out {
            Some(path) if path.as_os_str() != "-" => WriteTo::File(path),
            _ => WriteTo::Stdout,
        }),
    })
}

/// A variable that is set to something; an empty one counts as unset.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn service(args: PlaceArgs) -> Service {
    if args.sandbox {
        return Service::Sandbox;
    }
    let base = args.base_url.or_else(|| variable("ROE_BASE_URL"));
    Service::At(base.unwrap_or_else(|| BASE_URL.to_owned()))
}

/// Where the key is, how long nothing may move, and what lies in between.
fn access(args: AccessArgs) -> Result<Access, clap::Error> {
    let file = args
        .api_key_file
        .or_else(|| path_variable("ROE_BATCH_API_KEY_FILE"))
        .filter(|path| !path.as_os_str().is_empty());
    let key = match file {
        Some(path) if path.as_os_str() == "-" => KeySource::Stdin,
        Some(path) => KeySource::File(path),
        None => match variable("ROE_API_KEY") {
            Some(key) => KeySource::Variable(SecretString::from(key)),
            None => KeySource::Missing,
        },
    };
    let stall = match args.timeout {
        Some(timeout) => timeout,
        None => parsed_variable("ROE_TIMEOUT", duration)?.unwrap_or(STALL),
    };
    let proxy = args.proxy.or_else(|| std::env::var_os("ROE_PROXY"));
    // What is no text is no address either, and is refused as one.
    let proxy = proxy
        .filter(|proxy| !proxy.is_empty())
        .map(|proxy| SecretString::from(proxy.to_string_lossy().into_owned()));
    let wants_two = args.http2 || parsed_variable("ROE_BATCH_HTTP2", switch)?.unwrap_or(false);
    Ok(Access {
        key,
        stall,
        transport: Transport {
            proxy,
            ca_file: args
                .ca_file
                .or_else(|| path_variable("ROE_BATCH_CA_FILE"))
                .filter(|path| !path.as_os_str().is_empty()),
            version: if wants_two {
                HttpVersion::Two
            } else {
                HttpVersion::One
            },
        },
    })
}

fn if_locked(args: LockArgs) -> Result<IfLocked, clap::Error> {
    let bounded = Wait::For(args.wait.unwrap_or_default());
    let (wait, then) = match (args.if_locked, args.wait) {
        (Some(LockAction::Fail), Some(_)) => {
            let kind = clap::error::ErrorKind::ArgumentConflict;
            let message =
                "--if-locked fail does not wait, and --wait does: leave one of them out\n";
            return Err(clap::Error::raw(kind, message));
        }
        (Some(LockAction::Wait), None) => (Wait::Forever, Then::Fail),
        (Some(LockAction::Skip), _) => (bounded, Then::Skip),
        (Some(LockAction::Wait | LockAction::Fail) | None, _) => (bounded, Then::Fail),
    };
    Ok(IfLocked { wait, then })
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err("give 1 or 0".to_owned()),
    }
}

fn stream(args: StreamArgs) -> StreamSettings {
    StreamSettings {
        manifest: args.manifest,
        state: args.state.or_else(|| path_variable("ROE_BATCH_STATE")),
        environment: environment(),
    }
}

fn init(args: InitArgs) -> InitSettings {
    InitSettings {
        out: match args.out {
            Some(path) if path.as_os_str() == "-" => WriteTo::Stdout,
            Some(path) => WriteTo::File(path),
            None if args.folder.as_os_str() == "." => WriteTo::File(MANIFEST.into()),
            None => WriteTo::File(args.folder.join(MANIFEST)),
        },
        folder: args.folder,
        state: path_variable("ROE_BATCH_STATE"),
    }
}

fn environment() -> Environment {
    Environment::new(
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    )
}

fn look(manifests: Vec<PathBuf>, args: LookArgs) -> Result<LookSettings, clap::Error> {
    let mut set = BTreeMap::new();
    for (name, value) in args.set {
        if set.insert(name.clone(), value).is_some() {
            let kind = clap::error::ErrorKind::ValueValidation;
            let message = format!("--set gives `{name}` two values\n");
            return Err(clap::Error::raw(kind, message));
        }
    }
    Ok(LookSettings {
        manifests,
        set,
        state: args.state.or_else(|| path_variable("ROE_BATCH_STATE")),
        organization: variable("ROE_ORGANIZATION_ID")
            .and_then(|id| canonical_id(&id))
            .map(OrganizationId::new),
        environment: environment(),
    })
}

fn plan(
    manifests: Vec<PathBuf>,
    args: CommonArgs,
    format: PlanFormat,
) -> Result<PlanSettings, clap::Error> {
    Ok(PlanSettings {
        look: look(manifests, args.look)?,
        service: service(args.service.place),
        access: access(args.service.access)?,
        in_doubt: args.in_doubt,
        format,
        exit: PlanExit::Plain,
    })
}

fn resolve(args: ResolveArgs) -> Result<ResolveSettings, clap::Error> {
    let usage = |text: &str| clap::Error::raw(clap::error::ErrorKind::ValueValidation, text);
    let ServiceArgs {
        place,
        access: way_in,
    } = args.service;
    let names_a_service = place.sandbox
        || place.base_url.is_some()
        || way_in.api_key_file.is_some()
        || way_in.timeout.is_some()
        || way_in.proxy.is_some()
        || way_in.ca_file.is_some()
        || way_in.http2;
    let task = match args.stored {
        _ if args.verify => Resolve::Verify(Verify {
            service: service(place),
            access: access(way_in)?,
            settle: args.settle,
        }),
        _ if names_a_service => {
            return Err(usage("only --verify asks a service\n"));
        }
        Some(id) if id.trim().is_empty() => return Err(usage("the file's id is empty\n")),
        Some(_) if args.files.len() != 1 => {
            return Err(usage("--stored ID is said of one file\n"));
        }
        Some(id) => Resolve::Stored(FileId::new(id.trim())),
        None if args.not_stored => Resolve::NotStored,
        None if args.files.is_empty() => Resolve::List,
        None => {
            return Err(usage(
                "say --stored ID or --not-stored of the files, or --verify them\n",
            ));
        }
    };
    Ok(ResolveSettings {
        manifest: args.manifest,
        state: args.state.or_else(|| path_variable("ROE_BATCH_STATE")),
        files: args.files,
        task,
        if_locked: if_locked(args.lock)?,
    })
}

fn schedule(with: ScheduleSub) -> Result<ScheduleSettings, clap::Error> {
    let (runs, scheduler) = match with {
        ScheduleSub::Cron(args) => (
            args.runs,
            Scheduler::Cron {
                host: host(args.host)?,
                time: args.cron,
                log: args.log,
            },
        ),
        ScheduleSub::Systemd(args) => (
            args.runs,
            Scheduler::Systemd {
                host: host(args.host)?,
                calendar: args.on_calendar,
                unit: args.only,
            },
        ),
        ScheduleSub::Kubernetes(args) => (
            args.runs,
            Scheduler::Kubernetes {
                time: args.cron,
                image: args.image,
                files: args.files,
            },
        ),
    };
    let RunsArgs {
        manifest,
        place,
        env,
        grace,
    } = runs;
    let fail = |message: String| clap::Error::raw(clap::error::ErrorKind::ValueValidation, message);
    let mut environment = BTreeMap::new();
    for (name, value) in env {
        if environment.contains_key(&name) {
            return Err(fail(format!("--env gives `{name}` two values\n")));
        }
        environment.insert(name, value);
    }
    if let Some(organization) = variable("ROE_ORGANIZATION_ID") {
        environment
            .entry("ROE_ORGANIZATION_ID".to_owned())
            .or_insert(organization);
    }
    // The key of this moment is not printed under any name.
    let key = variable("ROE_API_KEY").map(|key| ("ROE_API_KEY".to_owned(), key));
    let known = Environment::new(environment.clone().into_iter().chain(key));
    for name in environment.keys() {
        if matches!(known.get(name), Some(Variable::ApiKey)) {
            return Err(fail(format!(
                "{name} holds the API key, which is never printed\n"
            )));
        }
    }
    Ok(ScheduleSettings {
        manifest,
        service: service(place),
        left_behind: left_behind(&environment),
        environment,
        grace,
        scheduler,
    })
}

/// What a scheduled run would read if it were set for it too, beside what has a place of its own.
fn left_behind(given: &BTreeMap<String, String>) -> Vec<String> {
    let placed = [
        "ROE_API_KEY",
        "ROE_BASE_URL",
        "ROE_BATCH_STATE",
        "ROE_BATCH_API_KEY_FILE",
    ];
    let proxies = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"];
    let mut names: Vec<String> = std::env::vars_os()
        .filter(|(_, value)| !value.is_empty())
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("ROE_") || proxies.contains(&name.as_str()))
        .filter(|name| !placed.contains(&name.as_str()) && !given.contains_key(name))
        .collect();
    names.sort();
    names
}

fn host(args: HostArgs) -> Result<Host, clap::Error> {
    let program = std::env::current_exe().map_err(|error| {
        let message = format!("where this program is cannot be found out: {error}\n");
        clap::Error::raw(clap::error::ErrorKind::Io, message)
    })?;
    Ok(Host {
        program,
        state: args.state.or_else(|| path_variable("ROE_BATCH_STATE")),
        key_file: args
            .api_key_file
            .or_else(|| path_variable("ROE_BATCH_API_KEY_FILE"))
            .filter(|path| !path.as_os_str().is_empty()),
    })
}

fn apply(args: ApplyArgs) -> Result<ApplySettings, clap::Error> {
    Ok(ApplySettings {
        plan: plan(args.manifests, args.common, args.format)?,
        mode: if args.dry_run {
            Mode::DryRun
        } else {
            Mode::Upload
        },
        faults: args.faults,
        concurrency: match args.concurrency {
            Some(number) => Some(number),
            None => parsed_variable("ROE_BATCH_CONCURRENCY", Concurrency::parse)?,
        },
        rate: args.rate,
        bandwidth: args.bandwidth,
        failure_budget: args.failure_budget,
        max_attempts: match args.max_attempts {
            Some(attempts) => NonZeroU32::new(attempts),
            // The SDKs' name counts what comes after the first attempt.
            None => parsed_variable("ROE_MAX_RETRIES", |text| match text.parse::<u32>() {
                Ok(retries @ 0..=99) => Ok(retries + 1),
                _ => Err("give a whole number from 0 to 99".to_owned()),
            })?
            .and_then(NonZeroU32::new),
        },
        retry_waits: RetryWaits {
            first: parsed_variable("ROE_RETRY_INITIAL_MS", milliseconds)?,
            most: parsed_variable("ROE_RETRY_MAX_MS", milliseconds)?,
        },
        retry_for: args.retry_for,
        deadline: args.deadline,
        grace: args.grace,
        if_locked: if_locked(args.lock)?,
        settle: args.settle,
        reports: args.report,
        narration: narration(&args.narration)?,
    })
}

fn narration(args: &NarrationArgs) -> Result<Narration, clap::Error> {
    let progress = match args.progress {
        Some(mode) => Some(mode),
        None => parsed_variable("ROE_BATCH_PROGRESS", progress_word)?,
    };
    let progress = progress.unwrap_or(ProgressMode::Auto);
    let terminal = variable("TERM");
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
        drawing: if can_draw && variable("NO_COLOR").is_none() {
            Drawing::Allowed
        } else {
            Drawing::Unwanted
        },
    })
}

fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(number @ 1..=3_600_000) => Ok(Duration::from_millis(number)),
        _ => Err("give milliseconds, a whole number from 1 to 3600000".to_owned()),
    }
}

/// As [`variable`], for paths, which need not be UTF-8.
fn path_variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
}

/// Reads a variable as its flag would be read; the error names the variable.
fn parsed_variable<T>(
    name: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Option<T>, clap::Error> {
    let Some(text) = variable(name) else {
        return Ok(None);
    };
    parse(&text).map(Some).map_err(|why| {
        let kind = clap::error::ErrorKind::ValueValidation;
        clap::Error::raw(kind, format!("{name} cannot be used: {why}\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    /// All of them, those below others too.
    fn commands() -> Vec<clap::Command> {
        let mut open = vec![Cli::command()];
        let mut commands = Vec::new();
        while let Some(command) = open.pop() {
            open.extend(command.get_subcommands().cloned());
            commands.push(command);
        }
        commands
    }

    #[test]
    fn every_option_is_explained() {
        for command in commands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{}", argument.get_id());
            }
        }
    }

    #[test]
    fn no_option_takes_a_key() {
        for command in commands() {
            for argument in command.get_arguments() {
                assert_ne!(argument.get_id(), "api_key");
            }
        }
    }
}
