//! Tells people what happens, on stderr: a bar on a terminal, and a line for what went wrong.

use std::cell::RefCell;
use std::fmt;
use std::io::{IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::event::{Event, Stats};
use crate::model::{HumanBytes, Outcome, count};

/// Shows events as they come.
pub struct Progress {
    stats: RefCell<Stats>,
    bar: Option<ProgressBar>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Progress({:?})", self.stats.borrow())
    }
}

impl Progress {
    /// With a bar where stderr is a terminal that can show one.
    #[must_use]
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} files {msg} {eta}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        Self {
            stats: RefCell::default(),
            bar,
        }
    }

    /// Takes an event in.
    pub fn event(&self, event: &Event) {
        self.stats.borrow_mut().add(event);
        if let Some(line) = line(event) {
            self.say(&line);
        }
        let stats = *self.stats.borrow();
        if let Some(bar) = &self.bar {
            bar.set_length(stats.files as u64);
            bar.set_position(stats.ended as u64);
            bar.set_message(format!(
                "{} of {}",
                HumanBytes(stats.ended_bytes),
                HumanBytes(stats.bytes)
            ));
        }
    }

    /// Writes a line above the bar.
    pub fn say(&self, line: &str) {
        let write = || {
            // A stderr that is closed has nobody to be told.
            let _ = writeln!(anstream::stderr(), "{line}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes the bar off the screen.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// The line for an event that people want to read; the expected passes in silence.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Began { .. } => return None,
        Event::Retrying {
            rule,
            path,
            attempt,
            why,
            wait,
        } => format!(
            "retry: {rule}: {path}: attempt {attempt}: {why}; again in {:.1} s",
            wait.as_secs_f64()
        ),
        Event::Settling { files, wait } => format!(
            "{} in doubt and not listed: looking again in {:.0} s (Ctrl-C leaves that to the next \
             run)",
            count(*files, "file"),
            wait.as_secs_f64().ceil()
        ),
        Event::Settled { rule, path, end } => {
            let why = end.reason.as_deref().unwrap_or("sent again");
            let label = end.outcome.label();
            match end.outcome {
                Outcome::InDoubt => format!("{label}: {rule}: {path}: {why}"),
                _ => format!("settled: {rule}: {path}: {label}: {why}"),
            }
        }
        Event::Found { path, id, how } => {
            format!("settled: {path}, which is not in the plan: stored as {id}: {how}")
        }
        Event::Paused { why, wait } => {
            format!(
                "paused: {why}; all uploads wait {:.1} s",
                wait.as_secs_f64()
            )
        }
        Event::Ended {
            rule, path, end, ..
        } => match (end.outcome, &end.reason) {
            (Outcome::Stored, Some(why)) => format!("note: {rule}: {path}: {why}"),
            (Outcome::Stored | Outcome::NotAttempted, _) => return None,
            (outcome, why) => {
                let why = why.as_deref().unwrap_or("no reason known");
                format!("{}: {rule}: {path}: {why}", outcome.label())
            }
        },
        Event::TargetRefused(cause) => format!("refused: {cause}; its files are not tried"),
        Event::Stopping(cause) => format!("stopping: {cause}"),
    })
}
