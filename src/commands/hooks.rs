//! Telling others that a run is over: a manifest's hooks, and the machine's monitoring. Nothing that
//! comes of it changes what became of files.

use std::cell::RefCell;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::{Pid, Signal as Posix, kill_process_group};
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::account::{Account, LastExit};
use super::narrate;
use super::run::{Signals, runtime, signals};
use super::service;
use crate::cli::{ApplySettings, Hooks, Otlp};
use crate::client::{Plain, Receiver, headers};
use crate::diagnostic::{Diagnostic, Source, excerpt};
use crate::error::{Exit, Failure};
use crate::manifest::{Hook, HookOn, Manifest};
use crate::model::{Environment, Outcome, RunId, shown, shown_bounded};
use crate::report::Summary;
use crate::report::metrics::{exposition, otlp, write_exposition};
use crate::template::Values;

/// How long a collector may take.
const PUSH_MAX: Duration = Duration::from_secs(5);

/// How long what a command began and left behind may go on writing to its streams.
const LINGER: Duration = Duration::from_secs(1);

/// Most bytes of a command's output that are shown.
const OUTPUT_MAX: usize = 8 * 1024;

/// Most lines of it.
const LINES_MAX: usize = 50;

/// Writes the measurements of some runs to their file, if there is to be one.
pub(super) fn write_metrics(settings: &ApplySettings, runs: &[Summary]) -> Result<(), Failure> {
    let Some(path) = &settings.watchers.metrics_file else {
        return Ok(());
    };
    if runs.is_empty() {
        return Ok(());
    }
    write_exposition(path, &exposition(runs)).map_err(|error| {
        let name = shown(&path.to_string_lossy()).into_owned();
        Failure::new(
            Exit::LocalIo,
            format!("the metrics file {name} cannot be written: {error}"),
        )
    })
}

/// Pushes them to a collector, if there is one.
pub(super) fn push_metrics(settings: &ApplySettings, runs: &[Summary]) {
    let Some(collector) = settings.watchers.otlp.as_ref().filter(|_| !runs.is_empty()) else {
        return;
    };
    let pushed = with_signals(async |mut signals| {
        tokio::select! {
            pushed = timeout(PUSH_MAX, push(collector, settings, runs)) => {
                pushed.unwrap_or_else(|_| Err(format!("no answer within {} s", PUSH_MAX.as_secs())))
            }
            signal = signals.next() => Err(signal.to_string()),
        }
    });
    if let Err(why) = pushed.unwrap_or_else(|failure| Err(failure.message)) {
        narrate(&format!("notice: measurements were not pushed: {why}"));
    }
}

async fn push(collector: &Otlp, settings: &ApplySettings, runs: &[Summary]) -> Result<(), String> {
    let plain = match &collector.headers {
        // They may be secrets.
        Some(_) => Plain::OnThisMachine,
        None => Plain::Anywhere,
    };
    let receiver = Receiver::parse(collector.endpoint.expose_secret(), plain)?;
    let headers = collector.headers.as_ref().map(|text| {
        headers(text.expose_secret())
            .map_err(|why| format!("ROE_BATCH_OTLP_HEADERS cannot be used: {why}"))
    });
    let transport = transport(settings)?;
    let body = otlp(runs).to_string();
    let metrics = receiver.below("/v1/metrics");
    let headers = headers.transpose()?.unwrap_or_default();
    let posted = metrics.post(body, headers, &transport).await;
    posted.map_err(|why| format!("{receiver}: {why}"))
}

/// Runs the hooks that are to hear of a run, one after the other.
pub(super) fn tell(settings: &ApplySettings, account: &Account, summary: &Summary) {
    let due: Vec<&Hook> = account
        .hooks
        .iter()
        .filter(|hook| is_due(hook.on, account, summary))
        .collect();
    if due.is_empty() {
        return;
    }
    let values = Values {
        manifest: &account.manifest,
        run: Some((&account.run, account.started)),
        ..Values::default()
    };
    let left_out = |what: &str, why: &str| {
        for tell in due.iter().flat_map(|hook| each(hook, &values)) {
            let name = tell.map_or_else(|why| why, |tell| tell.name());
            narrate(&format!("notice: {what}: {name}: {why}"));
        }
    };
    if settings.watchers.hooks == Hooks::Refused {
        left_out("hook not run", "hooks of a manifest need --allow-hooks");
        return;
    }
    if account.is_urgent {
        left_out("hook not run", "the run was dropped");
        return;
    }
    let told = with_signals(async |mut signals| {
        let all = async {
            for hook in &due {
                for tell in each(hook, &values) {
                    let result = match tell {
                        Ok(tell) => told(&tell, hook.timeout, settings, account, summary).await,
                        Err(why) => Err(why),
                    };
                    if let Err(why) = result {
                        narrate(&format!("notice: hook failed: {why}"));
                    }
                }
            }
        };
        tokio::select! {
            () = all => None,
            signal = signals.next() => Some(signal),
        }
    });
    match told {
        Ok(None) => {}
        Ok(Some(signal)) => narrate(&format!("{signal}: hooks that are not done are dropped")),
        Err(failure) => left_out("hook not run", &failure.message),
    }
}

/// Addresses that nothing can be posted to. They are not shown: what is behind the host may be a
/// secret.
pub(super) fn mistakes(
    manifest: &Manifest,
    source: &Source,
    run: (&RunId, Timestamp),
) -> Vec<Diagnostic> {
    let values = Values {
        manifest: &manifest.name,
        run: Some(run),
        ..Values::default()
    };
    let mistake = |hook: &Hook| {
        let url = hook.url.as_ref()?;
        let why = match url.value.render(&values) {
            Ok(text) => Receiver::parse(&text, Plain::OnThisMachine).err()?,
            Err(_) => "it cannot be put together",
        };
        let before = source.text.get(..url.span.start)?;
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        let before = before[start..].trim_end();
        let key = before.rfind("url").map_or(0..0, |at| at..at + "url".len());
        let place = excerpt(&source.name, line, before, key);
        Some(
            Diagnostic::error(format!("the hook's `url` cannot be used: {why}"), place)
                .help("write `https://…`, or keep all of it in a variable: `${{ env.HOOK_URL }}`"),
        )
    };
    manifest.hooks.iter().filter_map(mistake).collect()
}

/// Whether a hook is to hear of a run.
fn is_due(on: HookOn, account: &Account, summary: &Summary) -> bool {
    match on {
        HookOn::Always => true,
        HookOn::Stored => summary
            .files(Outcome::Stored)
            .is_some_and(|files| files > 0),
        HookOn::Failure => summary.exit_code != 0,
        // A run that did not come to its end is in no ledger: what was before it is not known.
        HookOn::Change => {
            !account.has_ended() || account.last_exit() != LastExit::Code(summary.exit_code)
        }
    }
}

/// One thing that a hook does.
enum Tell {
    Post(Receiver),
    /// The program and its arguments.
    Run(Vec<String>),
}

impl Tell {
    /// As it may be shown.
    fn name(&self) -> String {
        match self {
            Self::Post(receiver) => receiver.to_string(),
            Self::Run(words) => {
                let program = words.first().map(String::as_str).unwrap_or_default();
                format!("`{}`", shown_bounded(program))
            }
        }
    }
}

/// What a hook does, or why it cannot.
fn each(hook: &Hook, values: &Values<'_>) -> Vec<Result<Tell, String>> {
    let post = hook.url.as_ref().map(|url| {
        let unusable = |why: &str| format!("a `url` cannot be used: {why}");
        // What is wrong with the text may have the text in it.
        let url = url.value.render(values);
        let url = url.map_err(|_| unusable("it cannot be put together"))?;
        let receiver = Receiver::parse(&url, Plain::OnThisMachine);
        receiver.map(Tell::Post).map_err(unusable)
    });
    let run = (!hook.command.is_empty()).then(|| {
        let words = hook.command.iter().map(|word| word.render(values));
        let words: Result<Vec<String>, _> = words.collect();
        words
            .map(Tell::Run)
            .map_err(|why| format!("a `command` cannot be used: {why}"))
    });
    post.into_iter().chain(run).collect()
}

async fn told(
    tell: &Tell,
    limit: Duration,
    settings: &ApplySettings,
    account: &Account,
    summary: &Summary,
) -> Result<(), String> {
    let name = tell.name();
    let body = serde_json::to_string(summary).map_err(|error| error.to_string())?;
    let late = || format!("{name}: not done within {} s", limit.as_secs_f64());
    match tell {
        Tell::Post(receiver) => {
            let transport = transport(settings)?;
            let posted = receiver.post(body, headers("")?, &transport);
            let posted = timeout(limit, posted).await.map_err(|_| late())?;
            posted.map_err(|why| format!("{name}: {why}"))
        }
        Tell::Run(words) => {
            let output = RefCell::new(Output::default());
            let environment = &settings.plan.look.environment;
            let running = run(words, &account.folder, environment, body + "\n", &output);
            let ended = timeout(limit, running).await;
            output.into_inner().show(&name);
            let status = ended
                .map_err(|_| format!("{}; it was killed", late()))?
                .map_err(|why| format!("{name}: {why}"))?;
            if status.success() {
                return Ok(());
            }
            Err(format!("{name}: {status}"))
        }
    }
}

fn transport(settings: &ApplySettings) -> Result<crate::client::Transport, String> {
    service::transport(&settings.plan.access.transport).map_err(|failure| failure.message)
}

/// What a command wrote, both streams as they came.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Output {
    fn add(&mut self, bytes: &[u8]) {
        let room = OUTPUT_MAX - self.bytes.len();
        self.is_cut |= bytes.len() > room;
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn show(&self, name: &str) {
        let text = String::from_utf8_lossy(&self.bytes);
        let mut lines = text.lines();
        for line in lines.by_ref().take(LINES_MAX) {
            narrate(&format!("{name}: {}", shown_bounded(line)));
        }
        if self.is_cut || lines.next().is_some() {
            narrate(&format!("{name}: … and more"));
        }
    }
}

/// The processes of a command; those that are left are killed with it.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Posix::KILL);
        }
    }
}

/// Runs a command to its end. Dropped before, it kills all of its processes.
async fn run(
    words: &[String],
    folder: &Path,
    environment: &Environment,
    input: String,
    output: &RefCell<Output>,
) -> Result<ExitStatus, String> {
    let (program, arguments) = words.split_first().ok_or("there is no program")?;
    let mut command = if program.contains('/') {
        Command::new(folder.join(program))
    } else {
        Command::new(program)
    };
    let mut child = command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .envs(environment.harmless())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("it cannot be run: {error}"))?;
    let mut group = Group::of(&child);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let talk = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // One that does not read is none the worse for it.
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        tokio::join!(feed, listen(stdout, output), listen(stderr, output));
    };
    tokio::pin!(talk);
    let mut is_silent = false;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            () = &mut talk, if !is_silent => is_silent = true,
        }
    };
    // Its number may be another's once nobody of its group is left to hold a stream open.
    if is_silent || timeout(LINGER, talk).await.is_ok() {
        group.0 = None;
    }
    status.map_err(|error| error.to_string())
}

async fn listen(stream: Option<impl AsyncRead + Unpin>, output: &RefCell<Output>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
        output.borrow_mut().add(&buffer[..read]);
    }
}

/// Does something that a signal may end.
fn with_signals<T>(work: impl AsyncFnOnce(Signals) -> T) -> Result<T, Failure> {
    let runtime = runtime()?;
    let signals = signals(&runtime)?;
    let done = runtime.block_on(work(signals));
    runtime.shutdown_background();
    Ok(done)
}
