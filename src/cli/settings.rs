//! What the command line and the environment say, as settings.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use clap_complete::Shell;
use secrecy::SecretString;

use super::origin::{Layered, Told};
use super::scheduled::ScheduleSettings;
use crate::config::Problems;
use crate::model::{
    Bandwidth, Concurrency, DatasetId, Environment, FailureBudget, FileId, HttpVersion, InDoubt,
    Narration, OrganizationId, Rate, ReportFormat, Schedule,
};

/// What was asked for.
#[derive(Debug)]
pub enum Command {
    /// `apply`.
    Apply(Box<ApplySettings>),
    /// `watch`.
    Watch(Box<WatchSettings>),
    /// `plan`.
    Plan(PlanSettings),
    /// `check`.
    Check(CheckSettings),
    /// `explain`.
    Explain(ExplainSettings),
    /// `resolve`.
    Resolve(ResolveSettings),
    /// `status`.
    Status(StatusSettings),
    /// `report`.
    Report(ReportSettings),
    /// `import`.
    Import(ImportSettings),
    /// `forget`.
    Forget(ForgetSettings),
    /// `init`.
    Init(InitSettings),
    /// `sandbox`.
    Sandbox(SandboxSettings),
    /// `schedule`.
    Schedule(ScheduleSettings),
    /// `config`.
    Config(ConfigSettings),
    /// `doctor`.
    Doctor(Box<DoctorSettings>),
    /// `schema`.
    Schema(SchemaOf),
    /// `completions`.
    Completions(Shell),
    /// `man`; a path is the folder of its pages.
    Man(WriteTo),
}

/// What a manifest is understood with.
#[derive(Debug)]
pub struct LookSettings {
    /// The manifests' paths; `-` is standard input.
    pub manifests: Vec<PathBuf>,
    /// Values of `vars` that replace the manifests' own.
    pub set: BTreeMap<String, String>,
    /// The state folder, if not beside the manifest.
    pub state: Option<PathBuf>,
    /// The organization of rules that name none.
    pub organization: Option<OrganizationId>,
    /// For `${{ env.NAME }}`.
    pub environment: Environment,
    /// Files that changed less than so long ago are left to a later run, whatever the manifests say.
    pub min_age: Option<Duration>,
}

/// What `check` needs.
#[derive(Debug)]
pub struct CheckSettings {
    /// What to look at.
    pub look: LookSettings,
    /// Whether warnings are let pass.
    pub warnings: Warnings,
    /// How it is printed.
    pub format: CheckFormat,
}

/// Whether warnings are let pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Warnings {
    /// They are.
    Pass,
    /// They are errors.
    Fail,
}

/// How the findings of `check` and `explain` are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// What `explain` needs.
#[derive(Debug)]
pub struct ExplainSettings {
    /// The manifest.
    pub look: LookSettings,
    /// Which service the ledger is asked about.
    pub service: Service,
    /// The file.
    pub file: PathBuf,
    /// How it is printed.
    pub format: CheckFormat,
}

/// What a plan is made from.
#[derive(Debug)]
pub struct PlanSettings {
    /// What to look at.
    pub look: LookSettings,
    /// Which service.
    pub service: Service,
    /// How it is reached.
    pub access: Access,
    /// What to do with files in doubt, if not what the manifest says.
    pub in_doubt: Layered<InDoubt>,
    /// How a plan is printed.
    pub format: PlanFormat,
    /// What the exit code of a plan tells.
    pub exit: PlanExit,
}

/// What the exit code of a plan tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanExit {
    /// Whether it could be made.
    Plain,
    /// Also whether there is something to upload.
    Detailed,
}

/// Which service is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    /// The one at this base URL.
    At(String),
    /// The embedded one.
    Sandbox,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// A JSON object a line: the header, then the files.
    Jsonl,
}

/// Which document's JSON Schema is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// The manifest, for editors.
    Manifest,
    /// What `plan --format json` prints.
    Plan,
    /// A report in JSON.
    Report,
    /// What `check --format json` prints.
    Diagnostics,
    /// A config file, for editors.
    Config,
    /// What is told of a run that is over.
    Summary,
}

/// What `doctor` needs.
#[derive(Debug)]
pub struct DoctorSettings {
    /// The manifest, if one is meant, and how it is checked.
    pub check: CheckSettings,
    /// Which service.
    pub service: Service,
    /// How it is reached.
    pub access: Access,
    /// Files on their way at once.
    pub concurrency: Layered<Concurrency>,
    /// The config files that were read, or what is wrong with them.
    pub config: Result<Vec<PathBuf>, Problems>,
    /// Whether the service is asked.
    pub network: Network,
    /// How it is printed.
    pub format: StatusFormat,
}

/// Whether a service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// It is.
    Asked,
    /// Nothing is sent anywhere.
    LeftOut,
}

/// What `config` needs.
#[derive(Debug)]
pub struct ConfigSettings {
    /// A manifest whose `run` counts too.
    pub manifest: Option<PathBuf>,
    /// For `${{ env.NAME }}`.
    pub environment: Environment,
    /// The config files that were read, the strongest first.
    pub files: Vec<PathBuf>,
    /// Each setting and what is said of it.
    pub told: Vec<Told>,
    /// Whether the environment has an API key.
    pub key: bool,
    /// Whether it is said where settings come from.
    pub origins: Origins,
    /// How it is printed.
    pub format: StatusFormat,
}

/// Whether it is said where settings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origins {
    /// It is.
    Shown,
    /// It is not.
    Hidden,
}

/// What `apply` needs beside its plan.
#[derive(Debug)]
pub struct ApplySettings {
    /// What to plan.
    pub plan: PlanSettings,
    /// Whether to stop after planning.
    pub mode: Mode,
    /// What goes wrong in the embedded service.
    pub faults: Option<PathBuf>,
    /// Files on their way at once.
    pub concurrency: Layered<Concurrency>,
    /// Requests a second; none within for no limit.
    pub rate: Layered<Schedule<Option<Rate>>>,
    /// Bytes a second; none within for no limit.
    pub bandwidth: Layered<Schedule<Option<Bandwidth>>>,
    /// How many files may fail before the run stops.
    pub failure_budget: Layered<FailureBudget>,
    /// Attempts for one file.
    pub max_attempts: Layered<NonZeroU32>,
    /// The waits between attempts.
    pub retry_waits: RetryWaits,
    /// How long after a file's first attempt another one may begin.
    pub retry_for: Layered<Duration>,
    /// How long the run may take.
    pub deadline: Layered<Duration>,
    /// How long a first signal waits for what is under way.
    pub grace: Duration,
    /// What to do where another run uses the ledger.
    pub if_locked: IfLocked,
    /// How long a file in doubt must be absent to count as not stored, if not what the manifest
    /// says.
    pub settle: Layered<Duration>,
    /// Reports beside the manifest's.
    pub reports: Vec<PathBuf>,
    /// Who watches from outside.
    pub watchers: Watchers,
    /// What is told while it runs.
    pub narration: Narration,
}

/// Who hears of runs beside the person who began them.
#[derive(Debug, Clone, Default)]
pub struct Watchers {
    /// The file that measurements are written to.
    pub metrics_file: Option<PathBuf>,
    /// The collector that they are pushed to.
    pub otlp: Option<Otlp>,
    /// Whether the manifests' hooks are run.
    pub hooks: Hooks,
}

impl Watchers {
    /// Whether runs are measured.
    #[must_use]
    pub fn are_any(&self) -> bool {
        self.metrics_file.is_some() || self.otlp.is_some()
    }
}

/// A collector of OpenTelemetry's.
#[derive(Debug, Clone)]
pub struct Otlp {
    /// Its address, without a path of its own `…:4318`.
    pub endpoint: SecretString,
    /// Headers that it wants, as `name=value,…`.
    pub headers: Option<SecretString>,
}

/// Whether hooks of a manifest are run, which its author chose and not who applies it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hooks {
    /// They are named, and left out.
    #[default]
    Refused,
    /// They are run.
    Allowed,
}

/// What `watch` needs.
#[derive(Debug)]
pub struct WatchSettings {
    /// How each of its runs is carried out.
    pub apply: ApplySettings,
    /// How long nothing may change before a run begins.
    pub quiet_for: Duration,
    /// How long after the first change a run begins where changes go on.
    pub at_latest: Duration,
    /// How often everything is looked at, whatever is told.
    pub rescan: Duration,
    /// Whether the operating system is asked to tell of changes.
    pub events: Events,
}

/// Whether the operating system is asked to tell of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Events {
    /// Where it can.
    Auto,
    /// No: only the rescan finds files.
    Never,
}

/// What the environment says of the waits between attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryWaits {
    /// The longest wait after a first attempt.
    pub first: Option<Duration>,
    /// The longest wait after any.
    pub most: Option<Duration>,
}

/// What a command does where another one uses the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IfLocked {
    /// How long it waits for the other one to end.
    pub wait: Wait,
    /// What it does then.
    pub then: Then,
}

/// How long something is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// So long; no time to give up at once.
    For(Duration),
    /// Until it comes.
    Forever,
}

/// What is done where waiting was in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Nothing, which is no failure.
    Skip,
    /// The command fails.
    Fail,
}

/// Whether `apply` uploads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Carry the plan out.
    Upload,
    /// Print it.
    DryRun,
}

/// How the service is reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where the key is.
    pub key: KeySource,
    /// How long nothing may move.
    pub stall: Duration,
    /// What lies in between.
    pub transport: Transport,
}

/// What lies between this program and the service, as it was written.
#[derive(Debug, Clone)]
pub struct Transport {
    /// The proxy's address, which may have a password in it.
    pub proxy: Option<SecretString>,
    /// A PEM file of more certificate authorities.
    pub ca_file: Option<PathBuf>,
    /// The HTTP version.
    pub version: HttpVersion,
}

/// Where the API key is.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// In the environment.
    Variable(SecretString),
    /// In a file.
    File(PathBuf),
    /// On standard input.
    Stdin,
    /// Nowhere.
    Missing,
}

/// What `resolve` needs.
#[derive(Debug)]
pub struct ResolveSettings {
    /// The manifest, for its folder.
    pub manifest: PathBuf,
    /// The state folder, if not beside the manifest.
    pub state: Option<PathBuf>,
    /// The files that are meant, by path or request id.
    pub files: Vec<String>,
    /// What is to be done.
    pub task: Resolve,
    /// What to do where a run uses the ledger.
    pub if_locked: IfLocked,
}

/// What `resolve` is to do.
#[derive(Debug)]
pub enum Resolve {
    /// List what is in doubt.
    List,
    /// Note that the service has the file under this id.
    Stored(FileId),
    /// Note that the service does not have the files.
    NotStored,
    /// Look the files up in the service's listing.
    Verify(Verify),
}

/// What looking files up needs.
#[derive(Debug)]
pub struct Verify {
    /// Which service.
    pub service: Service,
    /// How it is reached.
    pub access: Access,
    /// How long a file must be absent to count as not stored.
    pub settle: Layered<Duration>,
}

/// Which manifest's runs are meant.
#[derive(Debug)]
pub struct StreamSettings {
    /// The manifest.
    pub manifest: PathBuf,
    /// The state folder, if not beside the manifest.
    pub state: Option<PathBuf>,
    /// For `${{ env.NAME }}`.
    pub environment: Environment,
}

/// What `status` needs.
#[derive(Debug)]
pub struct StatusSettings {
    /// Whose runs.
    pub stream: StreamSettings,
    /// How it is printed.
    pub format: StatusFormat,
}

/// How a status is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// What `report` needs.
#[derive(Debug)]
pub struct ReportSettings {
    /// Whose runs.
    pub stream: StreamSettings,
    /// Which of them.
    pub which: Which,
    /// The form, if not what the path's extension says.
    pub format: Option<ReportFormat>,
    /// Where to; none for standard output.
    pub out: Option<PathBuf>,
}

/// What a report is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The run that began last.
    Latest,
    /// The run whose id begins like this.
    Run(String),
    /// Every file that any run sent.
    All,
}

/// What `import` needs.
#[derive(Debug)]
pub struct ImportSettings {
    /// What is planned, and for which service.
    pub plan: PlanSettings,
    /// The table of paths and ids.
    pub table: PathBuf,
    /// Whether rows without a file are left out rather than refused.
    pub ignore_missing: bool,
    /// What to do where a run uses the ledger.
    pub if_locked: IfLocked,
}

/// What `forget` needs.
#[derive(Debug)]
pub struct ForgetSettings {
    /// Whose files.
    pub stream: StreamSettings,
    /// Which.
    pub which: Forgettable,
    /// What to do where a run uses the ledger.
    pub if_locked: IfLocked,
}

/// Which files are to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgettable {
    /// These, by path; a folder's by its path with a slash.
    Named(Vec<String>),
    /// Those whose source is gone.
    Vanished,
}

/// What `init` needs.
#[derive(Debug)]
pub struct InitSettings {
    /// The folder that is looked at.
    pub folder: PathBuf,
    /// Where the manifest goes.
    pub out: WriteTo,
    /// The state folder, if one is named.
    pub state: Option<PathBuf>,
}

/// Where a text goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteTo {
    /// To a new file.
    File(PathBuf),
    /// To standard output.
    Stdout,
}

/// What `sandbox` needs.
#[derive(Debug)]
pub struct SandboxSettings {
    /// Where to listen.
    pub listen: std::net::SocketAddr,
    /// Where files are kept.
    pub data: PathBuf,
    /// Datasets that exist: id and name.
    pub datasets: Vec<(DatasetId, String)>,
    /// Whether empty files are refused, as Django REST Framework does unless told otherwise.
    pub refuse_empty_files: bool,
    /// A fault plan.
    pub faults: Option<PathBuf>,
}
