//! The command line of `schedule`, and its settings.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ValueHint;
use clap::{Args, Subcommand, ValueEnum};

use super::args::PlaceArgs;
use super::origin::Sources;
use super::settings::Service;
use super::values::{calendar, duration, variable};
use super::{key_file, manual, path_variable, service, table};
use crate::model::{CronTime, Environment, Variable};

#[derive(Subcommand)]
pub(super) enum ScheduleSub {
    /// A line for a crontab
    #[command(after_long_help = manual::SCHEDULE_CRON)]
    Cron(CronArgs),
    /// A service and its timer
    #[command(after_long_help = manual::SCHEDULE_SYSTEMD)]
    Systemd(SystemdArgs),
    /// A `CronJob`, and a claim of a volume for its ledger
    #[command(after_long_help = manual::SCHEDULE_KUBERNETES)]
    Kubernetes(KubernetesArgs),
}

#[derive(Args)]
pub(super) struct CronArgs {
    #[command(flatten)]
    pub(super) runs: RunsArgs,
    #[command(flatten)]
    pub(super) host: HostArgs,
    /// When: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "TIME", default_value = "15 2 * * *", value_parser = CronTime::parse)]
    pub(super) cron: CronTime,
    /// Append what a run prints to this file [default: cron mails it]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) log: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct SystemdArgs {
    #[command(flatten)]
    pub(super) runs: RunsArgs,
    #[command(flatten)]
    pub(super) host: HostArgs,
    /// When, as `systemd-analyze calendar` reads it
    #[arg(
        long,
        value_name = "TIME",
        default_value = "*-*-* 02:15:00",
        value_parser = calendar
    )]
    pub(super) on_calendar: String,
    /// Print this unit alone, to write it to its file [default: both]
    #[arg(long, value_enum, value_name = "UNIT")]
    pub(super) only: Option<Unit>,
}

#[derive(Args)]
pub(super) struct KubernetesArgs {
    #[command(flatten)]
    pub(super) runs: RunsArgs,
    /// The image that has `roe-batch` on its path
    #[arg(
        long,
        value_name = "IMAGE",
        value_parser = clap::builder::NonEmptyStringValueParser::new()
    )]
    pub(super) image: String,
    /// When: minute, hour, day of the month, month, day of the week
    #[arg(long, value_name = "TIME", default_value = "15 2 * * *", value_parser = CronTime::parse)]
    pub(super) cron: CronTime,
    /// The claim of the volume that has the files, as they lie beside the manifest [default: the
    /// name of the `CronJob` with `-files`]
    #[arg(long, value_name = "CLAIM")]
    pub(super) files: Option<String>,
}

/// What is the same wherever runs are scheduled.
#[derive(Args)]
pub(super) struct RunsArgs {
    /// The manifest (YAML)
    pub(super) manifest: PathBuf,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
    /// Give the runs this variable: they have no others but `ROE_ORGANIZATION_ID`, where it is set
    /// now
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub(super) env: Vec<(String, String)>,
    /// How long a run that is stopped waits for uploads under way
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub(super) grace: Duration,
}

#[derive(Args)]
pub(super) struct HostArgs {
    /// The state folder [env: `ROE_BATCH_STATE`] [default: .roe-batch beside the manifest]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) state: Option<PathBuf>,
    /// The file that has the API key, which others must not be able to read [env:
    /// `ROE_BATCH_API_KEY_FILE`]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) api_key_file: Option<PathBuf>,
}

pub(super) fn schedule(
    with: ScheduleSub,
    sources: &Sources<'_>,
) -> Result<ScheduleSettings, clap::Error> {
    let (runs, scheduler) = match with {
        ScheduleSub::Cron(args) => (
            args.runs,
            Scheduler::Cron {
                host: host(args.host, sources)?,
                time: args.cron,
                log: args.log,
            },
        ),
        ScheduleSub::Systemd(args) => (
            args.runs,
            Scheduler::Systemd {
                host: host(args.host, sources)?,
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
    if let Some(organization) = sources.get(&table::ORGANIZATION, None)? {
        environment
            .entry("ROE_ORGANIZATION_ID".to_owned())
            .or_insert(organization.as_str().to_owned());
    }
    // The key of this moment is not printed under any name.
    let key = super::variable("ROE_API_KEY").map(|key| ("ROE_API_KEY".to_owned(), key));
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
        service: service(place, sources)?,
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

fn host(args: HostArgs, sources: &Sources<'_>) -> Result<Host, clap::Error> {
    let program = std::env::current_exe().map_err(|error| {
        let message = format!("where this program is cannot be found out: {error}\n");
        clap::Error::raw(clap::error::ErrorKind::Io, message)
    })?;
    Ok(Host {
        program,
        state: args.state.or_else(|| path_variable("ROE_BATCH_STATE")),
        key_file: key_file(args.api_key_file, sources)?,
    })
}

/// What `schedule` needs.
#[derive(Debug)]
pub struct ScheduleSettings {
    /// The manifest.
    pub manifest: PathBuf,
    /// Which service the scheduled runs use.
    pub service: Service,
    /// All variables that they have.
    pub environment: BTreeMap<String, String>,
    /// Variables that mean something to this program, are set now, and will not be.
    pub left_behind: Vec<String>,
    /// How long a first signal waits for what is under way.
    pub grace: Duration,
    /// Who starts them.
    pub scheduler: Scheduler,
}

/// Who starts scheduled runs.
#[derive(Debug)]
pub enum Scheduler {
    /// cron.
    Cron {
        /// Where things are.
        host: Host,
        /// When.
        time: CronTime,
        /// What is printed is appended here, if not mailed.
        log: Option<PathBuf>,
    },
    /// systemd.
    Systemd {
        /// Where things are.
        host: Host,
        /// When, as systemd writes it.
        calendar: String,
        /// The unit that is printed; none for both.
        unit: Option<Unit>,
    },
    /// Kubernetes.
    Kubernetes {
        /// When.
        time: CronTime,
        /// The image that has this program.
        image: String,
        /// The claim of the volume that has the files, if not one named after the manifest.
        files: Option<String>,
    },
}

/// A unit of systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// What is run.
    Service,
    /// When.
    Timer,
}

/// Where a run on this machine has its things.
#[derive(Debug)]
pub struct Host {
    /// This program.
    pub program: PathBuf,
    /// The state folder, if not beside the manifest.
    pub state: Option<PathBuf>,
    /// The file with the API key.
    pub key_file: Option<PathBuf>,
}
