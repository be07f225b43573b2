//! The command line as clap reads it: every command, flag and value, with its help.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ValueHint;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::manual;
use super::scheduled::ScheduleSub;
use super::settings::{CheckFormat, Events, PlanFormat, SchemaOf, StatusFormat};
use super::values::{
    bandwidth, dataset, duration, in_doubt, log_form, metrics_file, progress, rate, report_format,
    set,
};
use crate::model::{
    Bandwidth, Concurrency, DatasetId, FailureBudget, InDoubt, LogForm, ProgressMode, Rate,
    ReportFormat, Schedule,
};

#[derive(Parser)]
#[command(
    name = "roe-batch",
    version,
    about = "Upload folders of files to Roe AI datasets from a YAML manifest",
    after_help = manual::SHORT,
    after_long_help = manual::PROGRAM,
    max_term_width = 80
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Sub,
}

#[derive(Subcommand)]
pub(super) enum Sub {
    /// Upload what the manifest says and is not stored yet
    ///
    /// Plans, uploads what is new or changed, and writes a report with one row for each planned
    /// file. Files stored before are skipped. The API key comes from `ROE_API_KEY`
    /// or `--api-key-file`, never from the command line.
    #[command(after_long_help = manual::APPLY)]
    Apply(Box<ApplyArgs>),
    /// Upload whatever comes into the manifest's folders, as soon as it has settled
    ///
    /// Runs `apply` again and again until a signal ends it: when files come or change, when they are
    /// old enough for `min_age`, and every so often in any case, since not every change is told.
    /// Runs that find nothing to do leave nothing behind. The manifest and the key file are read
    /// anew each time.
    #[command(after_long_help = manual::WATCH)]
    Watch(Box<WatchArgs>),
    /// Show what `apply` would do; only a dataset's name needs network and key
    #[command(after_long_help = manual::PLAN)]
    Plan(PlanArgs),
    /// Find every mistake in manifests and in their tables, sidecars and lists; no network, no
    /// ledger
    ///
    /// Reads all that `plan` reads, renders all metadata, and also tells what is dead: patterns
    /// that match nothing, rules that get no file, vars and columns that nothing uses. Exits with
    /// 65 where there are errors.
    #[command(after_long_help = manual::CHECK)]
    Check(CheckArgs),
    /// Explain what becomes of one file and why: rules, patterns, metadata and where it comes from
    #[command(after_long_help = manual::EXPLAIN)]
    Explain(ExplainArgs),
    /// List files in doubt, or settle them by what you found in the dataset
    #[command(after_long_help = manual::RESOLVE)]
    Resolve(ResolveArgs),
    /// Show where a manifest's files stand: totals, failures, doubt, the last runs
    #[command(after_long_help = manual::STATUS)]
    Status(StatusArgs),
    /// Print any run's report again, or the map of all files to their IDs, from the ledger
    #[command(after_long_help = manual::REPORT)]
    Report(ReportArgs),
    /// Adopt files that another program uploaded, from a CSV of `path,file_id`
    ///
    /// The files are read, and count as stored as they are now. A report of roe-batch is such a
    /// CSV: after the loss of a ledger, it brings the IDs back.
    #[command(after_long_help = manual::IMPORT)]
    Import(ImportArgs),
    /// Take files out of the ledger: if a later run finds them, they are new, and sent again
    #[command(after_long_help = manual::FORGET)]
    Forget(ForgetArgs),
    /// Look at a folder and write a first manifest for it
    ///
    /// What it proposes is commented, and is meant to be looked at and changed. Nothing that is
    /// there is overwritten.
    #[command(after_long_help = manual::INIT)]
    Init(InitArgs),
    /// Run the embedded Roe-compatible server, to try and rehearse against
    #[command(after_long_help = manual::SANDBOX)]
    Sandbox(SandboxArgs),
    /// Print what makes cron, systemd or Kubernetes run `apply`; nothing is installed
    ///
    /// Scheduled runs skip their turn while another run is under way, and read the API key from a
    /// file or a Secret: it is never printed.
    #[command(subcommand, after_long_help = manual::SCHEDULE)]
    Schedule(ScheduleSub),
    /// Show each setting that holds on this machine, and where it comes from
    ///
    /// A flag counts before the environment, then a manifest, then the user's config file, then the
    /// system's. What is printed without a manifest is such a file.
    #[command(after_long_help = manual::CONFIG)]
    Config(ConfigArgs),
    /// Find out what would keep a run from its work, and what to do about it
    ///
    /// Looks at config files, manifest, key, service, clock, ledger, folders, disk space and limits.
    /// Nothing is changed. Exits with 0 where nothing is a problem, else with what a run would.
    #[command(after_long_help = manual::DOCTOR)]
    Doctor(DoctorArgs),
    /// Print the JSON Schema of the manifest, for editors, or of what the program prints
    #[command(after_long_help = manual::SCHEMA)]
    Schema(SchemaArgs),
    /// Print a shell's completions: for bash, zsh, fish, PowerShell or elvish
    ///
    /// With its script, a shell completes commands, options, and values where they are known. The
    /// examples say where each shell looks for it.
    #[command(after_long_help = manual::COMPLETIONS)]
    Completions(CompletionsArgs),
    /// Print the manual, or write it as man pages, one for each command
    ///
    /// Pages of an earlier version are replaced. Where something else has the name of a page,
    /// nothing is written.
    #[command(after_long_help = manual::MAN)]
    Man(ManArgs),
}

#[derive(Args)]
pub(super) struct PlanArgs {
    /// The manifests (YAML), `-` for standard input
    #[arg(required = true, value_name = "MANIFEST", value_hint = ValueHint::FilePath)]
    pub(super) manifests: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// How to print the plan
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: PlanFormat,
    /// Exit with 2 where something is to be uploaded, for scripts
    #[arg(long)]
    pub(super) detailed_exitcode: bool,
}

#[derive(Args)]
pub(super) struct CheckArgs {
    /// The manifests (YAML), `-` for standard input
    #[arg(required = true, value_name = "MANIFEST", value_hint = ValueHint::FilePath)]
    pub(super) manifests: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) look: LookArgs,
    /// Take warnings for errors
    #[arg(long)]
    pub(super) strict: bool,
    /// How to print what is found
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: CheckFormat,
}

#[derive(Args)]
pub(super) struct ExplainArgs {
    /// The manifest (YAML), `-` for standard input
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) manifest: PathBuf,
    /// The file, by its path from here, below the manifest, or below a rule's root
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) file: PathBuf,
    #[command(flatten)]
    pub(super) look: LookArgs,
    #[command(flatten)]
    pub(super) place: PlaceArgs,
    /// How to print the explanation
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: CheckFormat,
}

#[derive(Args)]
pub(super) struct LookArgs {
    /// Replace the value of one of the manifest's `vars`
    #[arg(long, value_name = "NAME=VALUE", value_parser = set)]
    pub(super) set: Vec<(String, String)>,
    /// The folder of ledger, lock and default reports [env: `ROE_BATCH_STATE`] [default: .roe-batch
    /// beside the manifest]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) state: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct CommonArgs {
    #[command(flatten)]
    pub(super) look: LookArgs,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    /// What to do with files that the service may have stored [default: the manifest's, else
    /// verify]
    #[arg(long, value_name = "POLICY", value_parser = in_doubt())]
    pub(super) in_doubt: Option<InDoubt>,
}

#[derive(Args)]
pub(super) struct PlaceArgs {
    /// Use the embedded sandbox instead of a service: no account, no network
    #[arg(long, conflicts_with = "base_url")]
    pub(super) sandbox: bool,
    /// The API's address: https, or http on this machine [env: `ROE_BASE_URL`] [default: `https://api.roe-ai.com`]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(super) base_url: Option<String>,
}

#[derive(Args)]
pub(super) struct AccessArgs {
    /// Read the API key from this file, which others must not be able to read, or `-` for stdin
    /// [env: `ROE_BATCH_API_KEY_FILE`]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) api_key_file: Option<PathBuf>,
    /// Give an attempt up when nothing moved for so long [env: `ROE_TIMEOUT`] [default: 2m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
    /// Reach the service through this proxy: http, https, socks5 or socks5h [env: `ROE_PROXY`]
    /// [default: as `HTTPS_PROXY` and `NO_PROXY` say]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(super) proxy: Option<OsString>,
    /// Trust the certificate authorities in this PEM file too [env: `ROE_BATCH_CA_FILE`]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) ca_file: Option<PathBuf>,
    /// Speak HTTP/2 where the service does [env: `ROE_BATCH_HTTP2=1`] [default: HTTP/1.1]
    #[arg(long)]
    pub(super) http2: bool,
}

#[derive(Clone, Copy, Args)]
pub(super) struct LockArgs {
    /// If another run uses the ledger: wait for its end, skip (do nothing, exit code 0) or fail
    /// (exit code 75) [default: fail]
    #[arg(long, value_enum, value_name = "ACTION", hide_possible_values = true)]
    pub(super) if_locked: Option<LockAction>,
    /// If another run uses the ledger, wait so long for its end, and then skip or fail
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) wait: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LockAction {
    Wait,
    Skip,
    Fail,
}

#[derive(Args)]
pub(super) struct NarrationArgs {
    /// How to show progress: bars on a terminal, a line every 30 seconds, a JSON object every second,
    /// or none; SIGUSR1 prints it at once [env: `ROE_BATCH_PROGRESS`] [default: auto: bars on a
    /// terminal, else lines]
    #[arg(long, value_name = "MODE", value_parser = progress(), ignore_case = true)]
    pub(super) progress: Option<ProgressMode>,
    /// The form of what is told while it runs: text or JSON Lines [default: text, but json with
    /// --progress json]
    #[arg(long, value_name = "FORM", value_parser = log_form(), ignore_case = true)]
    pub(super) log_format: Option<LogForm>,
    /// Also tell of each file that is stored, with its ID
    #[arg(long, short, conflicts_with = "quiet")]
    pub(super) verbose: bool,
    /// Tell of nothing but problems: where all is well, nothing is printed
    #[arg(long, short)]
    pub(super) quiet: bool,
}

#[derive(Args)]
pub(super) struct ServiceArgs {
    #[command(flatten)]
    pub(super) place: PlaceArgs,
    #[command(flatten)]
    pub(super) access: AccessArgs,
}

#[derive(Args)]
pub(super) struct ApplyArgs {
    /// The manifests (YAML), one after the other; `-` for standard input
    #[arg(required = true, value_name = "MANIFEST", value_hint = ValueHint::FilePath)]
    pub(super) manifests: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Print the plan and upload nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// How to print the plan of a dry run
    #[arg(long, value_enum, default_value = "text", requires = "dry_run")]
    pub(super) format: PlanFormat,
    #[command(flatten)]
    pub(super) upload: UploadArgs,
}

/// How a run is carried out.
#[derive(Args)]
pub(super) struct UploadArgs {
    /// With --sandbox, rehearse a bad day: a fault plan (YAML) says what goes wrong
    #[arg(long, value_name = "FILE", requires = "sandbox", value_hint = ValueHint::FilePath)]
    pub(super) faults: Option<PathBuf>,
    /// Files on their way at once; `auto` finds out how many the service likes, up to 64, `auto:N`
    /// up to N [env: `ROE_BATCH_CONCURRENCY`] [default: the manifest's, else 8]
    #[arg(long, value_name = "N", value_parser = Concurrency::parse)]
    pub(super) concurrency: Option<Concurrency>,
    /// Begin at most so many requests, as 50/s, 600/m or unlimited [default: the manifest's, else
    /// unlimited]
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(super) rate: Option<Schedule<Option<Rate>>>,
    /// Send at most so many bytes, as 20MiB/s or unlimited [default: the manifest's, else unlimited]
    #[arg(long, value_name = "BYTES/S", value_parser = bandwidth)]
    pub(super) bandwidth: Option<Schedule<Option<Bandwidth>>>,
    /// Stop once more files failed than this, as 20 or 5% [default: the manifest's, else never]
    #[arg(long, value_name = "BUDGET", value_parser = FailureBudget::parse)]
    pub(super) failure_budget: Option<FailureBudget>,
    /// Attempts for one file [env: `ROE_MAX_RETRIES`, and one] [default: the manifest's, else 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) max_attempts: Option<u32>,
    /// Begin no attempt of a file so long after its first one, and give up a service that fails
    /// everything for so long [default: the manifest's, else 15m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) retry_for: Option<Duration>,
    /// Begin nothing new so long after the start, then wait up to --grace for uploads under way
    /// [default: the manifest's, else none]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) deadline: Option<Duration>,
    /// After a first Ctrl-C or SIGTERM, or at the deadline, wait so long for uploads under way
    /// [default: 20s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) grace: Option<Duration>,
    #[command(flatten)]
    pub(super) lock: LockArgs,
    /// How long a file in doubt must be absent from the listing to be sent again [default: the
    /// manifest's, else 2m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) settle: Option<Duration>,
    /// Write a report here too; .csv, .json, .jsonl or .html chooses the format
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(super) report: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) watchers: WatcherArgs,
    #[command(flatten)]
    pub(super) narration: NarrationArgs,
}

#[derive(Args)]
pub(super) struct WatcherArgs {
    /// Write measurements of the run here, for Prometheus' `node_exporter`; the name ends in .prom
    /// [env: `ROE_BATCH_METRICS_FILE`]
    #[arg(long, value_name = "FILE", value_parser = metrics_file, value_hint = ValueHint::FilePath)]
    pub(super) metrics_file: Option<PathBuf>,
    /// Push measurements of the run to this OpenTelemetry collector, by OTLP over HTTP, as in
    /// `http://localhost:4318` [env: `ROE_BATCH_OTLP`]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub(super) otlp: Option<String>,
    /// Run the hooks of the manifests, which are told when a run is over
    /// [env: `ROE_BATCH_ALLOW_HOOKS=1`]
    #[arg(long)]
    pub(super) allow_hooks: bool,
}

#[derive(Args)]
pub(super) struct WatchArgs {
    /// The manifest (YAML)
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) manifest: PathBuf,
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// Begin a run once nothing below the roots changed for so long; a file that changed less than
    /// so long ago is left to a later run
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = duration)]
    pub(super) quiet_for: Duration,
    /// Begin a run so long after the first change, where changes go on
    #[arg(long, value_name = "DURATION", default_value = "1m", value_parser = duration)]
    pub(super) at_latest: Duration,
    /// Look at everything so long after the last look, whatever the system tells of changes
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub(super) rescan: Duration,
    /// Have the system tell of changes (inotify) where it can, or never: then only --rescan finds
    /// files
    #[arg(long, value_enum, value_name = "WHEN", default_value = "auto")]
    pub(super) events: Events,
    #[command(flatten)]
    pub(super) upload: UploadArgs,
}

#[derive(Args)]
pub(super) struct ResolveArgs {
    /// The manifest whose ledger is meant
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) manifest: PathBuf,
    /// Files to settle, by the path or the request id that the list shows
    #[arg(value_name = "FILE")]
    pub(super) files: Vec<String>,
    /// The service has the file, under this id
    #[arg(
        long,
        value_name = "ID",
        conflicts_with = "not_stored",
        requires = "files"
    )]
    pub(super) stored: Option<String>,
    /// The service does not have these files: the next run sends them again
    #[arg(long, requires = "files")]
    pub(super) not_stored: bool,
    /// Look for the files, or for all that are in doubt, in the dataset's listing
    #[arg(long, conflicts_with_all = ["stored", "not_stored"])]
    pub(super) verify: bool,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    /// How long a file must be absent from the listing to count as not stored [default: 2m]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "verify")]
    pub(super) settle: Option<Duration>,
    /// The state folder [env: `ROE_BATCH_STATE`] [default: .roe-batch beside the manifest]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) state: Option<PathBuf>,
    #[command(flatten)]
    pub(super) lock: LockArgs,
}

#[derive(Args)]
pub(super) struct StreamArgs {
    /// The manifest whose runs are meant
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) manifest: PathBuf,
    /// The state folder [env: `ROE_BATCH_STATE`] [default: .roe-batch beside the manifest]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) state: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: StatusFormat,
}

#[derive(Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    /// The run, by its id or the beginning of it, or `latest`
    #[arg(
        long,
        value_name = "ID",
        default_value = "latest",
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
        conflicts_with = "all"
    )]
    pub(super) run: String,
    /// The latest of every file that any run sent, instead of one run
    #[arg(long)]
    pub(super) all: bool,
    /// How to print or write it [default: by the extension of --out, else csv]
    #[arg(long, value_parser = report_format(), ignore_case = true)]
    pub(super) format: Option<ReportFormat>,
    /// Write it here instead of printing it
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub(super) out: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct ImportArgs {
    /// The manifest (YAML)
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) manifest: PathBuf,
    #[command(flatten)]
    pub(super) common: CommonArgs,
    /// The CSV; its first line names the columns, `path` and `file_id` among them
    #[arg(value_name = "CSV", value_hint = ValueHint::FilePath)]
    pub(super) table: PathBuf,
    /// Leave rows out whose path no rule takes, instead of refusing the table
    #[arg(long)]
    pub(super) ignore_missing: bool,
    #[command(flatten)]
    pub(super) lock: LockArgs,
}

#[derive(Args)]
pub(super) struct ForgetArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    /// Files, by the path that `report --all` shows; a folder's with a slash at the end
    #[arg(
        value_name = "FILE",
        required_unless_present = "vanished",
        conflicts_with = "vanished"
    )]
    pub(super) files: Vec<String>,
    /// All files whose source is gone
    #[arg(long)]
    pub(super) vanished: bool,
    #[command(flatten)]
    pub(super) lock: LockArgs,
}

#[derive(Args)]
pub(super) struct InitArgs {
    /// The folder
    #[arg(value_name = "DIR", default_value = ".", value_hint = ValueHint::DirPath)]
    pub(super) folder: PathBuf,
    /// Write the manifest here, or to standard output with `-` [default: roe-batch.yaml in the
    /// folder]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) out: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct SandboxArgs {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    pub(super) listen: std::net::SocketAddr,
    /// Where uploaded files are kept
    #[arg(long, value_name = "DIR", default_value = "roe-sandbox", value_hint = ValueHint::DirPath)]
    pub(super) data: PathBuf,
    /// A dataset that exists, beside the default one: its UUID, and a name if you like
    #[arg(long, value_name = "ID[=NAME]", value_parser = dataset)]
    pub(super) dataset: Vec<(DatasetId, String)>,
    /// Refuse empty files, as Django REST Framework does unless told otherwise
    #[arg(long)]
    pub(super) refuse_empty_files: bool,
    /// A fault plan (YAML): what goes wrong, when and how often
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) faults: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct ConfigArgs {
    /// Take in what this manifest's `run` says
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) manifest: Option<PathBuf>,
    /// Say of each setting where it comes from
    #[arg(long)]
    pub(super) show_origin: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: StatusFormat,
}

#[derive(Args)]
pub(super) struct DoctorArgs {
    /// The manifest (YAML), to look at what its runs need too
    #[arg(value_hint = ValueHint::FilePath)]
    pub(super) manifest: Option<PathBuf>,
    #[command(flatten)]
    pub(super) look: LookArgs,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
    /// Send nothing anywhere: leave the service and its clock out
    #[arg(long)]
    pub(super) offline: bool,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    pub(super) format: StatusFormat,
}

#[derive(Args)]
pub(super) struct SchemaArgs {
    /// Of which document
    #[arg(value_enum, value_name = "DOCUMENT", default_value = "manifest")]
    pub(super) document: SchemaOf,
}

#[derive(Args)]
pub(super) struct CompletionsArgs {
    /// For which shell
    #[arg(value_name = "SHELL")]
    pub(super) shell: Shell,
}

#[derive(Args)]
pub(super) struct ManArgs {
    /// Write all pages into this folder, instead of printing the first
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) out: Option<PathBuf>,
}
