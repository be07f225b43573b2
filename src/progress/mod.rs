//! Tells people, and programs, on stderr what happens and how far a run has come.
//!
//! Everything that is said is made from what is known at a moment, and purely; only the teller
//! writes it, on a thread of its own, so that a run does not wait for whoever reads it.

mod log;
mod rate;
mod recent;
mod render;
mod screen;
mod tally;
mod teller;

use std::cell::RefCell;
use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;

use jiff::Timestamp;

use self::teller::{Shared, Teller};
use crate::event::Event;
use crate::model::{Drawing, LogForm, Narration, ProgressMode, Verbosity};

pub use self::log::{Level, message};
pub use self::recent::Recent;

/// Shows events as they come.
pub struct Progress {
    narration: Narration,
    now: fn() -> Timestamp,
    teller: Teller,
    recent: RefCell<Recent>,
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Progress({:?})", self.narration)
    }
}

/// How it is shown how far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    Bars,
    Lines,
    Json,
    Nothing,
}

impl Show {
    fn of(narration: Narration, is_terminal: bool) -> Self {
        let is_plain = narration.drawing == Drawing::Unwanted || narration.log == LogForm::Json;
        match narration.progress {
            ProgressMode::Auto if narration.verbosity == Verbosity::Quiet => Self::Nothing,
            ProgressMode::Auto if is_terminal && !is_plain => Self::Bars,
            ProgressMode::Bar if is_terminal => Self::Bars,
            ProgressMode::Auto | ProgressMode::Bar | ProgressMode::Line => Self::Lines,
            ProgressMode::Json => Self::Json,
            ProgressMode::None => Self::Nothing,
        }
    }
}

impl Progress {
    /// Begins to tell of a run that is about to begin.
    #[must_use]
    pub fn new(narration: Narration, now: fn() -> Timestamp) -> Self {
        let show = Show::of(narration, std::io::stderr().is_terminal());
        let form = match show {
            Show::Json => LogForm::Json,
            _ => narration.log,
        };
        Self {
            narration,
            now,
            teller: Teller::start(show, form, now),
            recent: RefCell::default(),
        }
    }

    /// Takes an event in.
    pub fn event(&self, event: &Event) {
        self.teller.shared().add(event);
        if log::level(event).is_some_and(|level| level.is_told(self.narration.verbosity))
            && let Some(line) = log::line(event, self.narration.log, self.now)
        {
            self.recent.borrow_mut().add(event);
            self.teller.say(line);
        }
    }

    /// Says something that is no event.
    pub fn say(&self, level: Level, text: &str) {
        if level.is_told(self.narration.verbosity) {
            self.teller
                .say(message(level, text, self.narration.log, self.now));
        }
    }

    /// Says that the run ends early, and why.
    pub fn ending(&self, text: &str) {
        self.teller.shared().stopping();
        self.say(Level::Error, text);
    }

    /// Asks, whenever it is called and from wherever, how far the run has come; the answer is told
    /// as everything else.
    pub fn asker(&self) -> impl Fn() + Send + 'static {
        let shared: Arc<Shared> = Arc::clone(self.teller.shared());
        move || shared.ask()
    }

    /// Says what is left to say, and takes the bars off the screen. What was told last is what the
    /// reader still has before the eyes.
    pub fn finish(self) -> Recent {
        let Self { teller, recent, .. } = self;
        teller.finish();
        recent.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_for_terminals_that_can_and_readers_who_want_them() {
        let narration = |progress| Narration {
            verbosity: Verbosity::Normal,
            log: LogForm::Text,
            progress,
            drawing: Drawing::Allowed,
        };
        let auto = narration(ProgressMode::Auto);
        assert_eq!(Show::of(auto, true), Show::Bars);
        assert_eq!(Show::of(auto, false), Show::Lines);
        let unwanted = Narration {
            drawing: Drawing::Unwanted,
            ..auto
        };
        assert_eq!(Show::of(unwanted, true), Show::Lines);
        let json = Narration {
            log: LogForm::Json,
            ..auto
        };
        assert_eq!(Show::of(json, true), Show::Lines);
        let quiet = Narration {
            verbosity: Verbosity::Quiet,
            ..auto
        };
        assert_eq!(Show::of(quiet, true), Show::Nothing);
        for (mode, terminal, file) in [
            (ProgressMode::Bar, Show::Bars, Show::Lines),
            (ProgressMode::Line, Show::Lines, Show::Lines),
            (ProgressMode::Json, Show::Json, Show::Json),
            (ProgressMode::None, Show::Nothing, Show::Nothing),
        ] {
            let asked = Narration {
                verbosity: Verbosity::Quiet,
                ..narration(mode)
            };
            assert_eq!(Show::of(asked, true), terminal);
            assert_eq!(Show::of(asked, false), file);
        }
    }
}
