//! The command line and the environment, read once, to settings. Nothing else reads either.

mod settings;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use jiff::SignedDuration;
use secrecy::SecretString;

use crate::model::{
    DatasetId, Environment, FileId, InDoubt, OrganizationId, ReportFormat, canonical_id,
};

pub use self::settings::{
    ApplySettings, Command, ForgetSettings, Forgettable, ImportSettings, KeySource, Mode, PlanExit,
    PlanFormat, PlanSettings, ReportSettings, Resolve, ResolveSettings, SandboxSettings, Service,
    StatusFormat, StatusSettings, StreamSettings, Verify, Which,
};

/// Where the API is unless told otherwise.
const BASE_URL: &str = "https://api.roe-ai.com";

/// How long nothing may move, unless told otherwise.
const STALL: Duration = Duration::from_mins(2);

const EXIT_CODES: &str = "\
Exit codes: 0 all stored, 1 some files failed, 2 work is pending (plan only), 64 usage, 65 invalid manifest, 69 service
unavailable, 70 internal error, 74 local files cannot be written, 75 another run has the lock,
76 files in doubt, 77 credentials refused, 129/130/143 ended by a signal";

#[derive(Parser)]
#[command(
    name = "roe-batch",
    version,
    about = "Upload folders of files to Roe AI datasets from a YAML manifest",
    after_help = EXIT_CODES,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Subcommand)]
enum Sub {
    /// Upload what the manifest says and is not stored yet
    ///
    /// Plans, uploads what is new or changed, and writes a report with one row for each planned
    /// file. Files stored before are skipped. The API key comes from `ROE_API_KEY`
    /// or `--api-key-file`, never from the command line.
    #[command(after_help = EXIT_CODES)]
    Apply(ApplyArgs),
    /// Show what `apply` would do, without network or key
    Plan(PlanArgs),
    /// List files in doubt, or settle them by what you found in the dataset
    Resolve(ResolveArgs),
    /// Show where a manifest's files stand: totals, failures, doubt, the last runs
    Status(StatusArgs),
    /// Print any run's report again, or the map of all files to their IDs, from the ledger
    Report(ReportArgs),
    /// Adopt files that another program uploaded, from a CSV of `path,file_id`
    ///
    /// The files are read, and count as stored as they are now. A report of roe-batch is such a
    /// CSV: after the loss of a ledger, it brings the IDs back.
    Import(ImportArgs),
    /// Take files out of the ledger: if a later run finds them, they are new, and sent again
    Forget(ForgetArgs),
    /// Run the embedded Roe-compatible server, to try and rehearse against
    Sandbox(SandboxArgs),
    /// Print the manifest's JSON Schema, for editors
    Schema,
}

#[derive(Args)]
struct PlanArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How to print the plan
    #[arg(long, value_enum, default_value = "text")]
    format: PlanFormat,
    /// Exit with 2 where something is to be uploaded, for scripts
    #[arg(long)]
    detailed_exitcode: bool,
}

#[derive(Args)]
struct CommonArgs {
    /// The manifest (YAML)
    manifest: PathBuf,
    #[command(flatten)]
    place: PlaceArgs,
    /// The folder of ledger, lock and default reports [env: `ROE_BATCH_STATE`] [default: .roe-batch
    /// beside the manifest]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// What to do with files that the service may have stored [default: the manifest's, else
    /// verify]
    #[arg(long, value_name = "POLICY", value_parser = in_doubt)]
    in_doubt: Option<InDoubt>,
}

#[derive(Args)]
struct PlaceArgs {
    /// Use the embedded sandbox instead of a service: no account, no network
    #[arg(long, conflicts_with = "base_url")]
    sandbox: bool,
    /// The API's address: https, or http on this machine [env: `ROE_BASE_URL`] [default: `https://api.roe-ai.com`]
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
}

#[derive(Args)]
struct AccessArgs {
    /// Read the API key from this file, which others must not be able to read, or `-` for stdin
    /// [env: `ROE_BATCH_API_KEY_FILE`]
    #[arg(long, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Give an attempt up when nothing moved for so long [env: `ROE_TIMEOUT`] [default: 2m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<Duration>,
}

#[derive(Args)]
struct ServiceArgs {
    #[command(flatten)]
    place: PlaceArgs,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Args)]
struct ApplyArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Print the plan and upload nothing
    #[arg(long)]
    dry_run: bool,
    /// How to print the plan of a dry run
    #[arg(long, value_enum, default_value = "text", requires = "dry_run")]
    format: PlanFormat,
    #[command(flatten)]
    access: AccessArgs,
    /// Files on their way at once [env: `ROE_BATCH_CONCURRENCY`] [default: the manifest's, else 8]
    #[arg(long, value_name = "N", value_parser = concurrency)]
    concurrency: Option<NonZeroU32>,
    /// Attempts for one file [env: `ROE_MAX_RETRIES`, and one] [default: the manifest's, else 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    max_attempts: Option<u32>,
    /// After a first Ctrl-C or SIGTERM, wait so long for uploads under way
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    grace: Duration,
    /// If another run uses the ledger, wait so long for its end [default: give up at once]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
    /// How long a file in doubt must be absent from the listing to be sent again [default: the
    /// manifest's, else 2m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    settle: Option<Duration>,
    /// Write a report here too; .csv, .json or .jsonl chooses the format
    #[arg(long, value_name = "PATH")]
    report: Vec<PathBuf>,
}

#[derive(Args)]
struct ResolveArgs {
    /// The manifest whose ledger is meant
    manifest: PathBuf,
    /// Files to settle, by the path or the request id that the list shows
    #[arg(value_name = "FILE")]
    files: Vec<String>,
    /// The service has the file, under this id
    #[arg(
        long,
        value_name = "ID",
        conflicts_with = "not_stored",
        requires = "files"
    )]
    stored: Option<String>,
    /// The service does not have these files: the next run sends them again
    #[arg(long, requires = "files")]
    not_stored: bool,
    /// Look for the files, or for all that are in doubt, in the dataset's listing
    #[arg(long, conflicts_with_all = ["stored", "not_stored"])]
    verify: bool,
    #[command(flatten)]
    service: ServiceArgs,
    /// How long a file must be absent from the listing to count as not stored [default: 2m]
    #[arg(long, value_name = "DURATION", value_parser = duration, requires = "verify")]
    settle: Option<Duration>,
    /// The state folder [env: `ROE_BATCH_STATE`] [default: .roe-batch beside the manifest]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// If a run uses the ledger, wait so long for its end [default: give up at once]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
}

#[derive(Args)]
struct StreamArgs {
    /// The manifest whose runs are meant
    manifest: PathBuf,
    /// The state folder [env: `ROE_BATCH_STATE`] [default: .roe-batch beside the manifest]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

#[derive(Args)]
struct StatusArgs {
    #[command(flatten)]
    stream: StreamArgs,
    /// How to print it
    #[arg(long, value_enum, default_value = "text")]
    format: StatusFormat,
}

#[derive(Args)]
struct ReportArgs {
    #[command(flatten)]
    stream: StreamArgs,
    /// The run, by its id or the beginning of it, or `latest`
    #[arg(
        long,
        value_name = "ID",
        default_value = "latest",
        value_parser = clap::builder::NonEmptyStringValueParser::new(),
        conflicts_with = "all"
    )]
    run: String,
    /// The latest of every file that any run sent, instead of one run
    #[arg(long)]
    all: bool,
    /// csv, json or jsonl [default: by the extension of --out, else csv]
    #[arg(long, value_parser = report_format)]
    format: Option<ReportFormat>,
    /// Write it here instead of printing it
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
}

#[derive(Args)]
struct ImportArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// The CSV; its first line names the columns, `path` and `file_id` among them
    #[arg(value_name = "CSV")]
    table: PathBuf,
    /// Leave rows out whose path no rule takes, instead of refusing the table
    #[arg(long)]
    ignore_missing: bool,
    /// If a run uses the ledger, wait so long for its end [default: give up at once]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
}

#[derive(Args)]
struct ForgetArgs {
    #[command(flatten)]
    stream: StreamArgs,
    /// Files, by the path that `report --all` shows; a folder's with a slash at the end
    #[arg(
        value_name = "FILE",
        required_unless_present = "vanished",
        conflicts_with = "vanished"
    )]
    files: Vec<String>,
    /// All files whose source is gone
    #[arg(long)]
    vanished: bool,
    /// If a run uses the ledger, wait so long for its end [default: give up at once]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    wait: Option<Duration>,
}

#[derive(Args)]
struct SandboxArgs {
    /// Address and port to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8787")]
    listen: std::net::SocketAddr,
    /// Where uploaded files are kept
    #[arg(long, value_name = "DIR", default_value = "roe-sandbox")]
    data: PathBuf,
    /// A dataset that exists, beside the default one: its UUID, and a name if you like
    #[arg(long, value_name = "ID[=NAME]", value_parser = dataset)]
    dataset: Vec<(DatasetId, String)>,
    /// Refuse empty files, as Django REST Framework does unless told otherwise
    #[arg(long)]
    refuse_empty_files: bool,
}

/// A length of time: a number of seconds, or what people write, such as `90s`, `2m` or `1h 30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let parsed = match seconds.map(Duration::try_from_secs_f64) {
        Some(seconds) => seconds.ok(),
        None => text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok()),
    };
    let range = Duration::from_millis(100)..=Duration::from_hours(24);
    parsed
        .filter(|duration| range.contains(duration))
        .ok_or_else(|| "give seconds, or a time such as 90s, 2m or 1h, up to a day".to_owned())
}

fn report_format(text: &str) -> Result<ReportFormat, String> {
    ReportFormat::of_path(&format!(".{text}")).ok_or_else(|| "choose csv, json or jsonl".to_owned())
}

fn in_doubt(text: &str) -> Result<InDoubt, String> {
    match text {
        "verify" => Ok(InDoubt::Verify),
        "hold" => Ok(InDoubt::Hold),
        "resend" => Ok(InDoubt::Resend),
        _ => Err("choose verify, hold or resend".to_owned()),
    }
}

fn concurrency(text: &str) -> Result<NonZeroU32, String> {
    match text.parse::<NonZeroU32>() {
        Ok(number) if number.get() <= 1024 => Ok(number),
        _ => Err("give a whole number from 1 to 1024".to_owned()),
    }
}

fn dataset(text: &str) -> Result<(DatasetId, String), String> {
    let (id, name) = text.split_once('=').unwrap_or((text, text));
    uuid::Uuid::parse_str(id).map_err(|_| "a dataset's id is a UUID".to_owned())?;
    Ok((DatasetId::new(id), name.to_owned()))
}

/// Reads arguments and environment.
///
/// # Errors
///
/// What clap wants to print: a usage error, help or the version.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    Ok(match Cli::try_parse_from(args)?.command {
        Sub::Apply(args) => Command::Apply(apply(args)?),
        Sub::Plan(args) => Command::Plan(PlanSettings {
            exit: if args.detailed_exitcode {
                PlanExit::Detailed
            } else {
                PlanExit::Plain
            },
            ..plan(args.common, args.format)
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
            plan: plan(args.common, PlanFormat::Text),
            table: args.table,
            ignore_missing: args.ignore_missing,
            wait: args.wait,
        }),
        Sub::Forget(args) => Command::Forget(ForgetSettings {
            stream: stream(args.stream),
            which: if args.vanished {
                Forgettable::Vanished
            } else {
                Forgettable::Named(args.files)
            },
            wait: args.wait,
        }),
        Sub::Sandbox(args) => Command::Sandbox(SandboxSettings {
            listen: args.listen,
            data: args.data,
            datasets: args.dataset,
            refuse_empty_files: args.refuse_empty_files,
        }),
        Sub::Schema => Command::Schema,
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

/// Where the key is, and how long nothing may move.
fn access(args: AccessArgs) -> Result<(KeySource, Duration), clap::Error> {
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
    Ok((key, stall))
}

fn stream(args: StreamArgs) -> StreamSettings {
    StreamSettings {
        manifest: args.manifest,
        state: args.state.or_else(|| path_variable("ROE_BATCH_STATE")),
        environment: environment(),
    }
}

fn environment() -> Environment {
    Environment::new(
        std::env::vars_os()
            .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))),
    )
}

fn plan(args: CommonArgs, format: PlanFormat) -> PlanSettings {
    PlanSettings {
        manifest: args.manifest,
        state: args.state.or_else(|| path_variable("ROE_BATCH_STATE")),
        service: service(args.place),
        organization: variable("ROE_ORGANIZATION_ID")
            .and_then(|id| canonical_id(&id))
            .map(OrganizationId::new),
        environment: environment(),
        in_doubt: args.in_doubt,
        format,
        exit: PlanExit::Plain,
    }
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
        || way_in.timeout.is_some();
    let task = match args.stored {
        _ if args.verify => {
            let (key, stall) = access(way_in)?;
            Resolve::Verify(Verify {
                service: service(place),
                key,
                stall,
                settle: args.settle,
            })
        }
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
        wait: args.wait,
    })
}

fn apply(args: ApplyArgs) -> Result<ApplySettings, clap::Error> {
    let (key, stall) = access(args.access)?;
    Ok(ApplySettings {
        plan: plan(args.common, args.format),
        mode: if args.dry_run {
            Mode::DryRun
        } else {
            Mode::Upload
        },
        key,
        concurrency: match args.concurrency {
            Some(number) => Some(number),
            None => parsed_variable("ROE_BATCH_CONCURRENCY", concurrency)?,
        },
        max_attempts: match args.max_attempts {
            Some(attempts) => NonZeroU32::new(attempts),
            // The SDKs' name counts what comes after the first attempt.
            None => parsed_variable("ROE_MAX_RETRIES", |text| match text.parse::<u32>() {
                Ok(retries @ 0..=99) => Ok(retries + 1),
                _ => Err("give a whole number from 0 to 99".to_owned()),
            })?
            .and_then(NonZeroU32::new),
        },
        stall,
        grace: args.grace,
        wait: args.wait,
        settle: args.settle,
        reports: args.report,
    })
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
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_option_is_explained() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{}", argument.get_id());
            }
        }
    }

    #[test]
    fn no_option_takes_a_key() {
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                assert_ne!(argument.get_id(), "api_key");
            }
        }
    }
}
