//! One file a subcommand, composed from the other rooms. Here and in `progress` text is printed.

mod account;
mod apply;
mod check;
mod completions;
mod config;
mod datasets;
mod doctor;
mod draft;
mod explain;
mod forget;
mod hooks;
mod how;
mod import;
mod init;
mod look;
mod lookup;
mod man;
mod near;
mod plan;
mod report;
mod reports;
mod resolve;
mod run;
mod sandbox;
mod schedule;
mod service;
mod spell;
mod status;
mod stream;
mod turn;
mod watch;

use std::ffi::OsString;
use std::io::{self, BufWriter, Write};
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;

use rustix::fs::fstat;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::cli::{self, Command, Refusal, SchemaOf};
use crate::error::{Exit, Failure};
use crate::model::{Clock, LogForm, Narration, Verbosity};
use crate::progress::{Level, Recent, message};

/// Runs the program: arguments to exit code.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    // The key is in this process's memory and must not end in a file.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    let command = match cli::parse(args) {
        Ok(command) => command,
        Err(Refusal::Config(problems)) => {
            narrate(&problems.to_string());
            return Exit::Invalid.code();
        }
        Err(Refusal::Arguments(error)) => {
            let _ = error.print();
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            return exit.code();
        }
    };
    guarded(|| run(command)).code()
}

/// A panic is an internal error: what it says is on stderr already.
fn guarded(work: impl FnOnce() -> Exit) -> Exit {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or(Exit::Internal)
}

fn run(command: Command) -> Exit {
    let result = match command {
        Command::Apply(settings) => apply::apply(&settings),
        Command::Watch(settings) => watch::watch(*settings),
        Command::Plan(settings) => plan::plan(&settings),
        Command::Check(settings) => check::check(&settings),
        Command::Explain(settings) => explain::explain(&settings),
        Command::Resolve(settings) => resolve::resolve(&settings),
        Command::Status(settings) => status::status(&settings),
        Command::Report(settings) => report::report(&settings),
        Command::Import(settings) => import::import(&settings),
        Command::Forget(settings) => forget::forget(&settings),
        Command::Init(settings) => init::init(&settings),
        Command::Sandbox(settings) => sandbox::sandbox(&settings),
        Command::Schedule(settings) => schedule::schedule(&settings),
        Command::Config(settings) => config::config(&settings),
        Command::Doctor(settings) => doctor::doctor(&settings),
        Command::Schema(document) => schema(document),
        Command::Completions(shell) => completions::completions(shell),
        Command::Man(to) => man::man(&to),
    };
    result.unwrap_or_else(|failure| {
        narrate(&failure.to_string());
        failure.exit
    })
}

fn schema(document: SchemaOf) -> Result<Exit, Failure> {
    let schema = match document {
        SchemaOf::Manifest => crate::manifest::schema(),
        SchemaOf::Plan => plan::schema(),
        SchemaOf::Report => crate::report::schema(),
        SchemaOf::Diagnostics => crate::diagnostic::schema(),
        SchemaOf::Config => cli::config_schema(),
        SchemaOf::Summary => crate::report::summary_schema(),
    };
    let text = serde_json::to_string_pretty(&schema)
        .map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
    say(&format!("{text}\n"))?;
    Ok(Exit::Done)
}

/// Writes data to stdout. A reader that has gone away is no error: the work goes on.
fn say(text: &str) -> Result<(), Failure> {
    say_bytes(text.as_bytes())
}

/// As [`say`].
fn say_bytes(bytes: &[u8]) -> Result<(), Failure> {
    say_with(|out| out.write_all(bytes))
}

/// As [`say`], of what is too long to be made as a whole.
fn say_with(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Result<(), Failure> {
    let mut stdout = BufWriter::new(io::stdout().lock());
    said(write(&mut stdout).and_then(|()| stdout.flush()))
}

/// What became of writing to stdout.
fn said(result: io::Result<()>) -> Result<(), Failure> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(
            Exit::LocalIo,
            format!("cannot write to standard output: {error}"),
        )),
    }
}

/// How this process narrates: said once, before it does.
static NARRATION: OnceLock<Narration> = OnceLock::new();

/// From now on, narrates so.
fn speak(narration: Narration) {
    // A second command in one process speaks as the first.
    let _ = NARRATION.set(narration);
}

/// Writes narration to stderr; nobody is told where nobody listens.
fn narrate(text: &str) {
    let text = text.trim_end();
    let narration = NARRATION.get();
    let level = level_of(text);
    if narration.is_some_and(|narration| !level.is_told(narration.verbosity)) {
        return;
    }
    let form = narration.map_or(LogForm::Text, |narration| narration.log);
    let line = message(level, text, form, || run::SystemClock.now());
    let _ = writeln!(anstream::stderr(), "{line}");
}

/// How much narration matters: its lines begin with the word, where they are more than a notice.
fn level_of(text: &str) -> Level {
    let text = anstream::adapter::strip_str(text).to_string();
    let has = |word: &str| text.lines().any(|line| line.starts_with(word));
    if has("error") {
        Level::Error
    } else if has("warning") {
        Level::Warning
    } else {
        Level::Info
    }
}

/// Who reads what a run says at its end.
#[derive(Debug)]
struct Audience {
    verbosity: Verbosity,
    /// What whoever reads standard output has just read.
    recent: Recent,
}

impl Audience {
    fn of(narration: Narration, recent: Recent) -> Self {
        let reads_both = narration.log == LogForm::Text && is_one_stream();
        Self {
            verbosity: narration.verbosity,
            recent: if reads_both {
                recent
            } else {
                Recent::default()
            },
        }
    }
}

/// Whether both streams go to the same place: what one of them told, the other need not.
fn is_one_stream() -> bool {
    match (fstat(io::stdout()), fstat(io::stderr())) {
        (Ok(out), Ok(err)) => (out.st_dev, out.st_ino) == (err.st_dev, err.st_ino),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narration_matters_as_much_as_the_worst_of_its_lines() {
        for (text, level) in [
            ("notice: concurrency 10 instead of 20", Level::Info),
            ("waiting for another run to end", Level::Info),
            ("warning: 3 files", Level::Warning),
            ("note: so\n\n\u{1b}[1merror\u{1b}[0m: no", Level::Error),
        ] {
            assert_eq!(level_of(text), level, "{text}");
        }
    }

    #[test]
    fn a_panic_is_an_internal_error() {
        assert_eq!(guarded(|| panic!("this is meant to happen")).code(), 70);
        assert_eq!(guarded(|| Exit::Done).code(), 0);
    }
}
