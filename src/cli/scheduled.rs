//! The command line of `schedule`.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ValueHint;
use clap::{Args, Subcommand};

use super::args::PlaceArgs;
use super::manual;
use super::settings::Unit;
use super::values::{calendar, duration, variable};
use crate::model::CronTime;

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
