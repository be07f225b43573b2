//! Every setting that a machine may have a default for, once: what it is called in a config file and
//! in the environment, how it is read, and what holds where nobody says anything.

use std::ffi::OsStr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use secrecy::SecretString;

use super::BASE_URL;
use super::args::LockAction;
use super::values::{duration, metrics_file, milliseconds, progress_word, scheduled, switch};
use crate::config::{Key, Takes};
use crate::model::{
    Bandwidth, Concurrency, FailureBudget, InDoubt, OrganizationId, ProgressMode, Rate, Schedule,
    canonical_id,
};

/// How a setting's text is read.
#[derive(Clone, Copy)]
pub(super) enum Read<T> {
    Text(fn(&str) -> Result<T, String>),
    /// What need not be UTF-8.
    Os(fn(&OsStr) -> T),
}

/// A variable that has a setting.
#[derive(Clone, Copy)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    /// What it says, as a flag would say it.
    pub(super) told: fn(&str) -> Result<String, String>,
}

/// Whether a manifest's `run` may say it too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum InManifest {
    Yes,
    No,
}

/// What holds where nobody says anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// This value.
    Value(&'static str),
    /// None that could be written, which is described so.
    Nothing(&'static str),
}

/// One setting.
pub(super) struct Setting<T> {
    pub(super) name: &'static str,
    pub(super) takes: Takes,
    pub(super) read: Read<T>,
    pub(super) variable: Option<Variable>,
    pub(super) manifest: InManifest,
    pub(super) default: Otherwise,
    pub(super) example: &'static str,
    pub(super) doc: &'static str,
}

impl<T> Setting<T> {
    pub(super) fn parse(&self, text: &OsStr) -> Result<T, String> {
        match self.read {
            Read::Os(read) => Ok(read(text)),
            Read::Text(read) => read(text.to_str().ok_or("it is not UTF-8")?),
        }
    }
}

/// A setting, whatever its type.
pub(super) trait Known: Key {
    fn variable(&self) -> Option<Variable>;
    fn manifest(&self) -> InManifest;
    fn otherwise(&self) -> Otherwise;
}

impl<T: 'static> Key for Setting<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn takes(&self) -> Takes {
        self.takes
    }

    fn doc(&self) -> &'static str {
        self.doc
    }

    fn example(&self) -> &'static str {
        self.example
    }

    fn default(&self) -> &'static str {
        match self.default {
            Otherwise::Value(text) | Otherwise::Nothing(text) => text,
        }
    }

    fn check(&self, text: &OsStr) -> Result<(), String> {
        self.parse(text).map(drop)
    }
}

impl<T: 'static> Known for Setting<T> {
    fn variable(&self) -> Option<Variable> {
        self.variable
    }

    fn manifest(&self) -> InManifest {
        self.manifest
    }

    fn otherwise(&self) -> Otherwise {
        self.default
    }
}

const fn variable(name: &'static str) -> Variable {
    let told = as_it_is;
    Variable { name, told }
}

#[expect(clippy::unnecessary_wraps, reason = "others may refuse a text")]
fn as_it_is(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub(super) static BASE: Setting<String> = Setting {
    name: "base_url",
    takes: Takes::Address,
    read: Read::Text(as_it_is),
    variable: Some(variable("ROE_BASE_URL")),
    manifest: InManifest::No,
    default: Otherwise::Value(BASE_URL),
    example: "https://api.roe-ai.com",
    doc: "Where the API is: https, or http on this machine.",
};

pub(super) static ORGANIZATION: Setting<OrganizationId> = Setting {
    name: "organization_id",
    takes: Takes::Text,
    read: Read::Text(organization),
    variable: Some(variable("ROE_ORGANIZATION_ID")),
    manifest: InManifest::No,
    default: Otherwise::Nothing("the key's own"),
    example: "9e107d9d-0000-4000-8000-000000000001",
    doc: "The organization of rules that name none.",
};

pub(super) static API_KEY_FILE: Setting<PathBuf> = Setting {
    name: "api_key_file",
    takes: Takes::Path,
    read: Read::Os(path),
    variable: Some(variable("ROE_BATCH_API_KEY_FILE")),
    manifest: InManifest::No,
    default: Otherwise::Nothing("none"),
    example: "roe.key",
    doc: "The file that has the API key, which others must not be able to read; relative to the \
          config file.",
};

pub(super) static TIMEOUT: Setting<Duration> = Setting {
    name: "timeout",
    takes: Takes::Text,
    read: Read::Text(duration),
    variable: Some(variable("ROE_TIMEOUT")),
    manifest: InManifest::No,
    default: Otherwise::Value("2m"),
    example: "90s",
    doc: "How long nothing may move until an attempt is given up.",
};

pub(super) static PROXY: Setting<SecretString> = Setting {
    name: "proxy",
    takes: Takes::Secret,
    read: Read::Os(secret),
    variable: Some(variable("ROE_PROXY")),
    manifest: InManifest::No,
    default: Otherwise::Nothing("as HTTPS_PROXY and NO_PROXY say"),
    example: "http://proxy.example.com:3128",
    doc: "The proxy to reach the service through: http, https, socks5 or socks5h.",
};

pub(super) static CA_FILE: Setting<PathBuf> = Setting {
    name: "ca_file",
    takes: Takes::Path,
    read: Read::Os(path),
    variable: Some(variable("ROE_BATCH_CA_FILE")),
    manifest: InManifest::No,
    default: Otherwise::Nothing("none"),
    example: "ca.pem",
    doc: "A PEM file of certificate authorities to trust beside the platform's; relative to the \
          config file.",
};

pub(super) static HTTP2: Setting<bool> = Setting {
    name: "http2",
    takes: Takes::Flag,
    read: Read::Text(switch),
    variable: Some(Variable {
        name: "ROE_BATCH_HTTP2",
        told: |text| switch(text).map(|is_on| is_on.to_string()),
    }),
    manifest: InManifest::No,
    default: Otherwise::Value("false"),
    example: "true",
    doc: "Whether to speak HTTP/2 where the service does.",
};

pub(super) static CONCURRENCY: Setting<Concurrency> = Setting {
    name: "concurrency",
    takes: Takes::Text,
    read: Read::Text(Concurrency::parse),
    variable: Some(variable("ROE_BATCH_CONCURRENCY")),
    manifest: InManifest::Yes,
    default: Otherwise::Value("8"),
    example: "16",
    doc: "Files on their way at once: a number, `auto`, or `auto:MAX`.",
};

pub(super) static RATE: Setting<Schedule<Option<Rate>>> = Setting {
    name: "rate",
    takes: Takes::Scheduled,
    read: Read::Text(|text| scheduled(text, Rate::parse)),
    variable: None,
    manifest: InManifest::Yes,
    default: Otherwise::Value("unlimited"),
    example: "50/s",
    doc: "How many requests are begun in a second, minute or hour; by time of day if you like.",
};

pub(super) static BANDWIDTH: Setting<Schedule<Option<Bandwidth>>> = Setting {
    name: "bandwidth",
    takes: Takes::Scheduled,
    read: Read::Text(|text| scheduled(text, Bandwidth::parse)),
    variable: None,
    manifest: InManifest::Yes,
    default: Otherwise::Value("unlimited"),
    example: "20MiB/s",
    doc: "How many bytes are sent in a second; by time of day if you like.",
};

pub(super) static FAILURE_BUDGET: Setting<FailureBudget> = Setting {
    name: "failure_budget",
    takes: Takes::Text,
    read: Read::Text(FailureBudget::parse),
    variable: None,
    manifest: InManifest::Yes,
    default: Otherwise::Nothing("none"),
    example: "5%",
    doc: "How many files may fail before a run stops, as a number or a percentage.",
};

pub(super) static MAX_ATTEMPTS: Setting<NonZeroU32> = Setting {
    name: "max_attempts",
    takes: Takes::Number,
    read: Read::Text(attempts),
    variable: Some(Variable {
        name: "ROE_MAX_RETRIES",
        // The SDKs' name counts what comes after the first attempt.
        told: |text| match text.parse::<u32>() {
            Ok(retries @ 0..=99) => Ok((retries + 1).to_string()),
            _ => Err("give a whole number from 0 to 99".to_owned()),
        },
    }),
    manifest: InManifest::Yes,
    default: Otherwise::Value("5"),
    example: "3",
    doc: "Attempts for one file in a run.",
};

pub(super) static RETRY_INITIAL_MS: Setting<Duration> = Setting {
    name: "retry_initial_ms",
    takes: Takes::Number,
    read: Read::Text(milliseconds),
    variable: Some(variable("ROE_RETRY_INITIAL_MS")),
    manifest: InManifest::No,
    default: Otherwise::Value("500"),
    example: "250",
    doc: "The longest wait after a first attempt, in milliseconds.",
};

pub(super) static RETRY_MAX_MS: Setting<Duration> = Setting {
    name: "retry_max_ms",
    takes: Takes::Number,
    read: Read::Text(milliseconds),
    variable: Some(variable("ROE_RETRY_MAX_MS")),
    manifest: InManifest::No,
    default: Otherwise::Value("30000"),
    example: "60000",
    doc: "The longest wait after any attempt, in milliseconds.",
};

pub(super) static RETRY_FOR: Setting<Duration> = Setting {
    name: "retry_for",
    takes: Takes::Text,
    read: Read::Text(duration),
    variable: None,
    manifest: InManifest::Yes,
    default: Otherwise::Value("15m"),
    example: "1h",
    doc: "How long after a file's first attempt another one may begin, and how long a service that \
          fails everything is waited for.",
};

pub(super) static DEADLINE: Setting<Duration> = Setting {
    name: "deadline",
    takes: Takes::Text,
    read: Read::Text(duration),
    variable: None,
    manifest: InManifest::Yes,
    default: Otherwise::Nothing("none"),
    example: "6h",
    doc: "How long a run may take: then nothing new is begun.",
};

pub(super) static GRACE: Setting<Duration> = Setting {
    name: "grace",
    takes: Takes::Text,
    read: Read::Text(duration),
    variable: None,
    manifest: InManifest::No,
    default: Otherwise::Value("20s"),
    example: "1m",
    doc: "How long uploads under way are waited for after a first signal or the deadline.",
};

pub(super) static IN_DOUBT: Setting<InDoubt> = Setting {
    name: "in_doubt",
    takes: Takes::Word(&["verify", "hold", "resend"]),
    read: Read::Text(in_doubt),
    variable: None,
    manifest: InManifest::Yes,
    default: Otherwise::Value("verify"),
    example: "hold",
    doc: "What to do with files that the service may have stored.",
};

pub(super) static SETTLE: Setting<Duration> = Setting {
    name: "settle",
    takes: Takes::Text,
    read: Read::Text(duration),
    variable: None,
    manifest: InManifest::Yes,
    default: Otherwise::Value("2m"),
    example: "10m",
    doc: "How long a file in doubt must be absent from the listing to be sent again.",
};

pub(super) static IF_LOCKED: Setting<LockAction> = Setting {
    name: "if_locked",
    takes: Takes::Word(&["wait", "skip", "fail"]),
    read: Read::Text(if_locked),
    variable: None,
    manifest: InManifest::No,
    default: Otherwise::Value("fail"),
    example: "skip",
    doc: "What to do if another run uses the ledger.",
};

pub(super) static WAIT: Setting<Duration> = Setting {
    name: "wait",
    takes: Takes::Text,
    read: Read::Text(duration),
    variable: None,
    manifest: InManifest::No,
    default: Otherwise::Nothing("none"),
    example: "10m",
    doc: "How long another run's end is waited for before `if_locked` says what to do.",
};

pub(super) static OTLP: Setting<SecretString> = Setting {
    name: "otlp",
    takes: Takes::Secret,
    read: Read::Os(secret),
    variable: Some(variable("ROE_BATCH_OTLP")),
    manifest: InManifest::No,
    default: Otherwise::Nothing("none"),
    example: "http://localhost:4318",
    doc: "The OpenTelemetry collector that measurements of runs are pushed to, by OTLP over HTTP.",
};

pub(super) static ALLOW_HOOKS: Setting<bool> = Setting {
    name: "allow_hooks",
    takes: Takes::Flag,
    read: Read::Text(switch),
    variable: Some(Variable {
        name: "ROE_BATCH_ALLOW_HOOKS",
        told: |text| switch(text).map(|is_on| is_on.to_string()),
    }),
    manifest: InManifest::No,
    default: Otherwise::Value("false"),
    example: "true",
    doc: "Whether hooks of manifests are run.",
};

pub(super) static PROGRESS: Setting<ProgressMode> = Setting {
    name: "progress",
    takes: Takes::Word(&["auto", "bar", "line", "json", "none"]),
    read: Read::Text(progress_word),
    variable: Some(variable("ROE_BATCH_PROGRESS")),
    manifest: InManifest::No,
    default: Otherwise::Value("auto"),
    example: "line",
    doc: "How a run shows how far it is.",
};

/// In no config file: of several manifests' measurements only the last ones would be left.
pub(super) static METRICS_FILE: Setting<PathBuf> = Setting {
    name: "metrics_file",
    takes: Takes::Path,
    read: Read::Text(metrics_file),
    variable: Some(variable("ROE_BATCH_METRICS_FILE")),
    manifest: InManifest::No,
    default: Otherwise::Nothing("none"),
    example: "invoices.prom",
    doc: "Where measurements of a run are written.",
};

/// All that a config file may set, in the order in which they are shown.
pub(super) static SETTINGS: [&dyn Known; 24] = [
    &BASE,
    &ORGANIZATION,
    &API_KEY_FILE,
    &TIMEOUT,
    &PROXY,
    &CA_FILE,
    &HTTP2,
    &CONCURRENCY,
    &RATE,
    &BANDWIDTH,
    &FAILURE_BUDGET,
    &MAX_ATTEMPTS,
    &RETRY_INITIAL_MS,
    &RETRY_MAX_MS,
    &RETRY_FOR,
    &DEADLINE,
    &GRACE,
    &IN_DOUBT,
    &SETTLE,
    &IF_LOCKED,
    &WAIT,
    &PROGRESS,
    &OTLP,
    &ALLOW_HOOKS,
];

fn organization(text: &str) -> Result<OrganizationId, String> {
    let id = canonical_id(text).ok_or("give the organization's id")?;
    Ok(OrganizationId::new(id))
}

fn path(text: &OsStr) -> PathBuf {
    text.into()
}

/// What is no text is no address either, and is refused as one.
fn secret(text: &OsStr) -> SecretString {
    SecretString::from(text.to_string_lossy().into_owned())
}

fn attempts(text: &str) -> Result<NonZeroU32, String> {
    let number = text.parse::<NonZeroU32>().ok();
    let number = number.filter(|number| number.get() <= 100);
    number.ok_or_else(|| "give a whole number from 1 to 100".to_owned())
}

fn in_doubt(text: &str) -> Result<InDoubt, String> {
    match text {
        "verify" => Ok(InDoubt::Verify),
        "hold" => Ok(InDoubt::Hold),
        "resend" => Ok(InDoubt::Resend),
        _ => Err("choose verify, hold or resend".to_owned()),
    }
}

fn if_locked(text: &str) -> Result<LockAction, String> {
    LockAction::from_str(text, false).map_err(|_| "choose wait, skip or fail".to_owned())
}
