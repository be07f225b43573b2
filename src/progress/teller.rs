//! The thread that writes to stderr: lines as they come, and how far the run is whenever that is due.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::termios::tcgetwinsize;

use super::tally::{Phase, Tally, View};
use super::{Show, log, render, screen::Screen};
use crate::event::Event;
use crate::model::{LogForm, count};

/// How often bars are drawn: more often is flicker.
const FRAME: Duration = Duration::from_millis(100);

/// How often a line is said.
const LINE: Duration = Duration::from_secs(30);

/// How often programs are told.
const OBJECT: Duration = Duration::from_secs(1);

/// Bytes of lines that wait to be written: beyond that the run waits for the writer.
const WAITING_MAX: usize = 1024 * 1024;

/// A reader that takes nothing for so long is not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is written at once: a reader that takes so much in [`PATIENCE`] is alive.
const PIECE: usize = 4096;

/// A terminal that does not say how large it is.
const SIZE: (usize, usize) = (80, 24);

/// Says when it is time to tell how far a run has come.
#[derive(Debug)]
struct Cadence {
    every: Option<Duration>,
    next: Duration,
}

impl Cadence {
    fn of(show: Show) -> Self {
        let (every, next) = match show {
            Show::Bars => (Some(FRAME), FRAME),
            Show::Lines => (Some(LINE), LINE),
            Show::Json => (Some(OBJECT), Duration::ZERO),
            Show::Nothing => (None, Duration::ZERO),
        };
        Self { every, next }
    }

    /// How long until it is time; none for never.
    fn wait(&self, now: Duration) -> Option<Duration> {
        self.every.map(|_| self.next.saturating_sub(now))
    }

    /// Whether it is time. What was missed is not made up for.
    fn is_due(&mut self, now: Duration) -> bool {
        let Some(every) = self.every.filter(|_| self.next <= now) else {
            return false;
        };
        self.next = now + every;
        true
    }
}

/// What the run and the writer have in common.
pub(super) struct Shared {
    began: Instant,
    inner: Mutex<Inner>,
    /// There is something to do for the writer.
    news: Condvar,
    /// The writer has come further.
    room: Condvar,
}

struct Inner {
    tally: Tally,
    /// Lines to be written.
    lines: String,
    /// Lines that nobody took in time.
    lost: usize,
    /// Somebody wants to know how far the run is.
    is_asked: bool,
    end: End,
    /// When the writer last came further, or began to have something to do.
    moved: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Wanted,
    Come,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nobody panics amid a change.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, event: &Event) {
        let mut inner = self.lock();
        inner.tally.add(event, self.began.elapsed());
    }

    pub(super) fn stopping(&self) {
        self.lock().tally.stopping();
    }

    pub(super) fn ask(&self) {
        self.lock().is_asked = true;
        self.news.notify_one();
    }

    /// Hands a line over to the writer. Waits for room, but not for a reader that takes nothing.
    fn say(&self, line: &str) {
        let mut inner = self.lock();
        while inner.lines.len() + line.len() >= WAITING_MAX {
            let left = PATIENCE.saturating_sub(inner.moved.elapsed());
            if left.is_zero() {
                inner.lost += 1;
                return;
            }
            self.news.notify_one();
            let waited = self.room.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if inner.lines.is_empty() {
            inner.moved = Instant::now();
        }
        inner.lines.push_str(line);
        inner.lines.push('\n');
        self.news.notify_one();
    }
}

/// Tells, on a thread of its own.
pub(super) struct Teller {
    shared: Arc<Shared>,
    /// None where no thread could be had: then each line is written at once.
    thread: Option<JoinHandle<()>>,
}

impl Teller {
    pub(super) fn start(show: Show, form: LogForm, now: fn() -> Timestamp) -> Self {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            inner: Mutex::new(Inner {
                tally: Tally::default(),
                lines: String::new(),
                lost: 0,
                is_asked: false,
                end: End::NotYet,
                moved: Instant::now(),
            }),
            news: Condvar::new(),
            room: Condvar::new(),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            show,
            form,
            now,
            cadence: Cadence::of(show),
            screen: Screen::default(),
        };
        let thread = thread::Builder::new().name("teller".to_owned());
        Self {
            thread: thread.spawn(|| writer.run()).ok(),
            shared,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn say(&self, line: String) {
        if self.thread.is_some() {
            self.shared.say(&line);
        } else {
            // A stderr that is closed has nobody to be told.
            let _ = io::stderr().write_all((line + "\n").as_bytes());
        }
    }

    /// Returns once everything is written, or nobody takes it.
    pub(super) fn finish(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        let mut inner = self.shared.lock();
        inner.end = End::Wanted;
        inner.moved = Instant::now();
        self.shared.news.notify_one();
        while inner.end != End::Come {
            let left = PATIENCE.saturating_sub(inner.moved.elapsed());
            if left.is_zero() {
                // It ends with the program.
                return;
            }
            let waited = self.shared.room.wait_timeout(inner, left);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(inner);
        let _ = thread.join();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.end();
    }
}

struct Writer {
    shared: Arc<Shared>,
    show: Show,
    /// The form in which it is said how far the run is.
    form: LogForm,
    now: fn() -> Timestamp,
    cadence: Cadence,
    screen: Screen,
}

/// What there is to write.
struct Work {
    lines: String,
    /// How far the run is, where that is to be shown.
    view: Option<View>,
    /// Whether it is said in a line.
    is_told: bool,
    end: End,
}

impl Writer {
    fn run(mut self) {
        loop {
            let work = self.next();
            let end = work.end;
            let text = self.compose(work);
            self.write(&text);
            if end == End::Wanted {
                self.shared.lock().end = End::Come;
                self.shared.room.notify_all();
                return;
            }
        }
    }

    /// Waits for something to do.
    fn next(&mut self) -> Work {
        let mut inner = self.shared.lock();
        loop {
            let now = self.shared.began.elapsed();
            let is_due = self.cadence.is_due(now);
            // Lines between two frames wait for the next: each of them is a frame of its own.
            let may_wait = self.show == Show::Bars && inner.lines.len() < WAITING_MAX / 2;
            let has_lines = !inner.lines.is_empty() && !may_wait;
            if is_due || has_lines || inner.is_asked || inner.end == End::Wanted {
                let asked = mem::take(&mut inner.is_asked);
                let mut lines = mem::take(&mut inner.lines);
                let lost = mem::take(&mut inner.lost);
                if lost > 0 {
                    let text = format!("{} left out: nobody read them", count(lost, "line"));
                    lines.push_str(&log::message(
                        log::Level::Warning,
                        &text,
                        self.form,
                        self.now,
                    ));
                    lines.push('\n');
                }
                let end = inner.end;
                let is_told = asked
                    || match self.show {
                        Show::Lines => is_due,
                        Show::Json => is_due || end == End::Wanted,
                        Show::Bars | Show::Nothing => false,
                    };
                let is_wanted = is_told || self.show == Show::Bars;
                let view = is_wanted.then(|| inner.tally.view(now));
                inner.moved = Instant::now();
                self.shared.room.notify_all();
                return Work {
                    lines,
                    view,
                    is_told,
                    end,
                };
            }
            inner = if let Some(wait) = self.cadence.wait(now) {
                let waited = self.shared.news.wait_timeout(inner, wait);
                waited.unwrap_or_else(PoisonError::into_inner).0
            } else {
                let waited = self.shared.news.wait(inner);
                waited.unwrap_or_else(PoisonError::into_inner)
            };
        }
    }

    fn compose(&mut self, work: Work) -> String {
        let Work {
            lines: mut text,
            view,
            is_told,
            end,
        } = work;
        let Some(view) = view else {
            return text;
        };
        if is_told {
            text.push_str(&match self.form {
                LogForm::Text => render::status(&view),
                LogForm::Json => log::progress(&view, (self.now)()),
            });
            text.push('\n');
        }
        if self.show != Show::Bars {
            return text;
        }
        let (columns, rows) = size();
        let bottom = match (end, view.phase) {
            (End::Wanted, _) | (_, Phase::Planning) => Vec::new(),
            _ => render::bars(&view, columns, rows),
        };
        self.screen.frame(&text, bottom, columns)
    }

    fn write(&self, text: &str) {
        for piece in text.as_bytes().chunks(PIECE) {
            // A stderr that is closed has nobody to be told.
            let _ = io::stderr().write_all(piece);
            self.shared.lock().moved = Instant::now();
            self.shared.room.notify_all();
        }
    }
}

/// Columns and rows of the terminal, as it is now.
fn size() -> (usize, usize) {
    match tcgetwinsize(io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
            (usize::from(size.ws_col), usize::from(size.ws_row))
        }
        _ => SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(show: Show, until: Duration) -> Vec<Duration> {
        let mut cadence = Cadence::of(show);
        let mut now = Duration::ZERO;
        let mut times = Vec::new();
        while now <= until {
            if cadence.is_due(now) {
                times.push(now);
            }
            now += Duration::from_millis(10);
        }
        times
    }

    #[test]
    fn a_short_run_has_no_line_and_a_long_one_has_one_every_half_minute() {
        let seconds = Duration::from_secs;
        assert!(times(Show::Lines, seconds(29)).is_empty());
        assert_eq!(
            times(Show::Lines, seconds(95)),
            [seconds(30), seconds(60), seconds(90)]
        );
        assert_eq!(
            times(Show::Json, seconds(2)),
            [seconds(0), seconds(1), seconds(2)]
        );
        assert!(times(Show::Nothing, seconds(100)).is_empty());
    }

    #[test]
    fn bars_are_drawn_at_most_ten_times_a_second() {
        assert_eq!(times(Show::Bars, Duration::from_secs(1)).len(), 10);
    }

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let mut cadence = Cadence::of(Show::Lines);
        assert!(cadence.is_due(Duration::from_secs(500)));
        assert!(!cadence.is_due(Duration::from_secs(501)));
        assert_eq!(
            cadence.wait(Duration::from_secs(510)),
            Some(Duration::from_secs(20))
        );
    }
}
