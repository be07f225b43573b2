//! The command line, the environment and the config files, read once, to settings. Nothing else
//! reads any of them.

mod args;
mod manual;
mod origin;
mod scheduled;
mod settings;
mod table;
mod uploads;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use secrecy::{ExposeSecret, SecretString};

use self::args::{
    AccessArgs, Cli, CommonArgs, ConfigArgs, DoctorArgs, InitArgs, LookArgs, PlaceArgs,
    ResolveArgs, ServiceArgs, StreamArgs, Sub,
};
use self::origin::Sources;
use self::scheduled::schedule;
use self::uploads::{apply, if_locked, watch};
use crate::config::{self, Config, Places, Problems};
use crate::model::{Environment, FileId, HttpVersion};

pub use self::origin::{Layered, Origin, Said, Told};
pub use self::scheduled::{Host, ScheduleSettings, Scheduler, Unit};
pub use self::settings::*;
pub use self::table::Otherwise;

/// Where the API is unless told otherwise.
pub const BASE_URL: &str = "https://api.roe-ai.com";

/// What a new manifest is called, unless told otherwise.
const MANIFEST: &str = "roe-batch.yaml";

/// How long nothing may move, unless told otherwise.
const STALL: Duration = Duration::from_mins(2);

/// How long a first signal waits for what is under way, unless told otherwise.
const GRACE: Duration = Duration::from_secs(20);

/// The command line as clap knows it, for what is made of it: completions and the manual.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

/// The JSON Schema (draft-07) of a config file, for editors.
#[must_use]
pub fn config_schema() -> serde_json::Value {
    config::schema(&origin::keys())
}

/// Why there is no command to run.
#[derive(Debug)]
pub enum Refusal {
    /// What clap wants to print: a usage error, help or the version.
    Arguments(clap::Error),
    /// What is wrong with the config files.
    Config(Problems),
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Self {
        Self::Arguments(error)
    }
}

impl From<Problems> for Refusal {
    fn from(problems: Problems) -> Self {
        Self::Config(problems)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments(error) => error.fmt(f),
            Self::Config(problems) => problems.fmt(f),
        }
    }
}

/// Reads arguments, environment and config files.
///
/// # Errors
///
/// What is to be printed instead of running anything.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Refusal> {
    parse_with(args, || Config::load(&places(), &origin::keys()))
}

/// As [`parse`], with the config that is loaded where a command needs one.
///
/// # Errors
///
/// As [`parse`].
pub fn parse_with(
    args: impl IntoIterator<Item = OsString>,
    load: impl FnOnce() -> Result<Config, Problems>,
) -> Result<Command, Refusal> {
    let command = Cli::try_parse_from(args)?.command;
    let loaded = if has_settings(&command) {
        load()
    } else {
        Ok(Config::default())
    };
    let (config, problems) = match loaded {
        Ok(config) => (config, None),
        // What is wrong with them is a part of what it tells.
        Err(problems) if matches!(command, Sub::Doctor(_)) => (Config::default(), Some(problems)),
        Err(problems) => return Err(problems.into()),
    };
    let sources = Sources::new(|name| std::env::var_os(name), &config);
    let sources = &sources;
    Ok(match command {
        Sub::Apply(args) => Command::Apply(Box::new(apply(*args, sources)?)),
        Sub::Watch(args) => Command::Watch(Box::new(watch(*args, sources)?)),
        Sub::Plan(args) => Command::Plan(PlanSettings {
            exit: if args.detailed_exitcode {
                PlanExit::Detailed
            } else {
                PlanExit::Plain
            },
            ..plan(args.manifests, args.common, args.format, sources)?
        }),
        Sub::Check(args) => Command::Check(CheckSettings {
            look: look(args.manifests, args.look, sources)?,
            warnings: if args.strict {
                Warnings::Fail
            } else {
                Warnings::Pass
            },
            format: args.format,
        }),
        Sub::Explain(args) => Command::Explain(ExplainSettings {
            look: look(vec![args.manifest], args.look, sources)?,
            service: service(args.place, sources)?,
            file: args.file,
            format: args.format,
        }),
        Sub::Resolve(args) => Command::Resolve(resolve(args, sources)?),
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
            plan: plan(vec![args.manifest], args.common, PlanFormat::Text, sources)?,
            table: args.table,
            ignore_missing: args.ignore_missing,
            if_locked: if_locked(args.lock, sources)?,
        }),
        Sub::Forget(args) => Command::Forget(ForgetSettings {
            stream: stream(args.stream),
            which: if args.vanished {
                Forgettable::Vanished
            } else {
                Forgettable::Named(args.files)
            },
            if_locked: if_locked(args.lock, sources)?,
        }),
        Sub::Init(args) => Command::Init(init(args)),
        Sub::Sandbox(args) => Command::Sandbox(SandboxSettings {
            listen: args.listen,
            data: args.data,
            datasets: args.dataset,
            refuse_empty_files: args.refuse_empty_files,
            faults: args.faults,
        }),
        Sub::Schedule(with) => Command::Schedule(schedule(with, sources)?),
        Sub::Config(args) => Command::Config(shown_config(args, files(&config), sources)?),
        Sub::Doctor(args) => {
            let config = problems.map_or_else(|| Ok(files(&config)), Err);
            Command::Doctor(Box::new(doctor(args, config, sources)?))
        }
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

/// The config files that were read.
fn files(config: &Config) -> Vec<PathBuf> {
    config.files.iter().map(|file| file.path.clone()).collect()
}

fn shown_config(
    args: ConfigArgs,
    files: Vec<PathBuf>,
    sources: &Sources<'_>,
) -> Result<ConfigSettings, clap::Error> {
    Ok(ConfigSettings {
        manifest: args.manifest,
        environment: environment(),
        files,
        told: sources.all()?,
        key: sources.variable("ROE_API_KEY").is_some(),
        origins: if args.show_origin {
            Origins::Shown
        } else {
            Origins::Hidden
        },
        format: args.format,
    })
}

fn doctor(
    args: DoctorArgs,
    config: Result<Vec<PathBuf>, Problems>,
    sources: &Sources<'_>,
) -> Result<DoctorSettings, clap::Error> {
    Ok(DoctorSettings {
        check: CheckSettings {
            look: look(args.manifest.into_iter().collect(), args.look, sources)?,
            warnings: Warnings::Pass,
            format: CheckFormat::Text,
        },
        service: service(args.service.place, sources)?,
        access: access(args.service.access, sources)?,
        concurrency: sources.layered(&table::CONCURRENCY, None)?,
        config,
        network: if args.offline {
            Network::LeftOut
        } else {
            Network::Asked
        },
        format: args.format,
    })
}

/// Whether a command has settings that a config file may say.
fn has_settings(command: &Sub) -> bool {
    !matches!(
        command,
        Sub::Status(_)
            | Sub::Report(_)
            | Sub::Init(_)
            | Sub::Sandbox(_)
            | Sub::Schema(_)
            | Sub::Completions(_)
            | Sub::Man(_)
    )
}

/// Where config files are.
fn places() -> Places {
    Places {
        only: std::env::var_os("ROE_BATCH_CONFIG"),
        config_home: std::env::var_os("XDG_CONFIG_HOME"),
        home: std::env::var_os("HOME"),
        config_dirs: std::env::var_os("XDG_CONFIG_DIRS"),
    }
}

fn service(args: PlaceArgs, sources: &Sources<'_>) -> Result<Service, clap::Error> {
    if args.sandbox {
        return Ok(Service::Sandbox);
    }
    let base = sources.get(&table::BASE, args.base_url)?;
    Ok(Service::At(base.unwrap_or_else(|| BASE_URL.to_owned())))
}

/// The file that has the key, unless it is told to be none.
fn key_file(flag: Option<PathBuf>, sources: &Sources<'_>) -> Result<Option<PathBuf>, clap::Error> {
    let file = sources.get(&table::API_KEY_FILE, flag)?;
    Ok(file.filter(|path| !path.as_os_str().is_empty()))
}

/// Where the key is, how long nothing may move, and what lies in between.
fn access(args: AccessArgs, sources: &Sources<'_>) -> Result<Access, clap::Error> {
    let key = match key_file(args.api_key_file, sources)? {
        Some(path) if path.as_os_str() == "-" => KeySource::Stdin,
        Some(path) => KeySource::File(path),
        None => match variable("ROE_API_KEY") {
            Some(key) => KeySource::Variable(SecretString::from(key)),
            None => KeySource::Missing,
        },
    };
    // What is no text is no address either, and is refused as one.
    let proxy = args.proxy.map(|proxy| proxy.to_string_lossy().into_owned());
    let proxy = sources.get(&table::PROXY, proxy.map(SecretString::from))?;
    let ca_file = sources.get(&table::CA_FILE, args.ca_file)?;
    let wants_two = sources.get(&table::HTTP2, args.http2.then_some(true))?;
    Ok(Access {
        key,
        stall: sources.get(&table::TIMEOUT, args.timeout)?.unwrap_or(STALL),
        transport: Transport {
            proxy: proxy.filter(|proxy| !proxy.expose_secret().is_empty()),
            ca_file: ca_file.filter(|path| !path.as_os_str().is_empty()),
            version: if wants_two == Some(true) {
                HttpVersion::Two
            } else {
                HttpVersion::One
            },
        },
    })
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

fn look(
    manifests: Vec<PathBuf>,
    args: LookArgs,
    sources: &Sources<'_>,
) -> Result<LookSettings, clap::Error> {
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
        organization: sources.get(&table::ORGANIZATION, None)?,
        environment: environment(),
        min_age: None,
    })
}

fn plan(
    manifests: Vec<PathBuf>,
    args: CommonArgs,
    format: PlanFormat,
    sources: &Sources<'_>,
) -> Result<PlanSettings, clap::Error> {
    Ok(PlanSettings {
        look: look(manifests, args.look, sources)?,
        service: service(args.service.place, sources)?,
        access: access(args.service.access, sources)?,
        in_doubt: sources.layered(&table::IN_DOUBT, args.in_doubt)?,
        format,
        exit: PlanExit::Plain,
    })
}

fn resolve(args: ResolveArgs, sources: &Sources<'_>) -> Result<ResolveSettings, clap::Error> {
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
            service: service(place, sources)?,
            access: access(way_in, sources)?,
            settle: sources.layered(&table::SETTLE, args.settle)?,
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
        if_locked: if_locked(args.lock, sources)?,
    })
}

/// As [`variable`], for paths, which need not be UTF-8.
fn path_variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(PathBuf::from)
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
    fn what_is_shown_as_the_default_is_the_default() {
        assert_eq!(table::TIMEOUT.default, Otherwise::Value("2m"));
        assert_eq!(STALL, Duration::from_mins(2));
        assert_eq!(table::GRACE.default, Otherwise::Value("20s"));
        assert_eq!(GRACE, Duration::from_secs(20));
        for setting in table::SETTINGS {
            assert_eq!(setting.check(setting.example().as_ref()), Ok(()));
            if let Otherwise::Value(text) = setting.otherwise() {
                assert_eq!(setting.check(text.as_ref()), Ok(()), "{}", setting.name());
            }
        }
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
