//! Turns on the wire: who may begin an attempt, and when. What is decided is decided by the pace;
//! here it is waited for.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SemaphorePermit;

use super::Run;
use super::attempt::is_read_whole;
use crate::client::Preflight;
use crate::event::Event;
use crate::model::{AttemptId, StopCause, Target};
use crate::pace::{Begin, Health, Held, Signal};
use crate::plan::{Decision, Upload, UploadReason};

/// Streamed files on their way at once. Each has about a mebibyte in memory and its file open,
/// and so many keep any line busy.
pub(super) const STREAMS_MAX: usize = 64;

/// By how much a pause has to grow to be told again: many answers ask for the same one.
const WORTH_SAYING: Duration = Duration::from_secs(1);

/// What an attempt waits for first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order<'a> {
    /// The ledger: it is ready to leave when its turn on the wire comes. If the turn does not come,
    /// it is withdrawn, and the file's row is as it was planned.
    LedgerFirst,
    /// Its turn on the wire.
    WireFirst,
    /// Its turn on the wire, and then the end of this attempt's doubt: until then it is in doubt.
    GivingUp(&'a AttemptId),
}

impl<'a> Order<'a> {
    /// A streamed file is written down while it is sent, and one that is to be sent a second time
    /// has a history that a withdrawal would hide.
    pub(super) fn of(upload: Upload<'a>) -> Self {
        match &upload.file.decision {
            Decision::Upload(UploadReason::Resend(earlier)) => Self::GivingUp(earlier),
            Decision::Upload(_) if is_read_whole(upload.stat.size) => Self::LedgerFirst,
            _ => Self::WireFirst,
        }
    }
}

/// A place among the files in hand: on the wire, or ready for it.
pub(super) struct Hand<'a>(&'a Run<'a>);

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        let Self(run) = self;
        run.in_hand.set(run.in_hand.get() - 1);
        run.news.notify_waiters();
    }
}

/// A turn on the wire.
pub(super) struct Turn<'a> {
    run: &'a Run<'a>,
    /// When it began, since the run did.
    began: Duration,
    told: Cell<Told>,
    _stream: Option<SemaphorePermit<'a>>,
}

/// Whether the pace knows how a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    NotYet,
    Yes,
}

impl Turn<'_> {
    /// How long ago it began.
    pub(super) fn took(&self) -> Duration {
        self.run.elapsed().saturating_sub(self.began)
    }

    /// Tells the pace how it ended, and everybody if that holds them up.
    pub(super) fn tell(&self, signal: Signal, why: &str) {
        self.told.set(Told::Yes);
        let run = self.run;
        let now = run.elapsed();
        let chance = run.parts.chance.fraction();
        let held = {
            let mut pace = run.pace.borrow_mut();
            let before = pace.held(now);
            pace.ended(now, self.began, signal, chance);
            match (before, pace.held(now)) {
                (Held::Until(earlier), Held::Until(until)) if until < earlier + WORTH_SAYING => {
                    None
                }
                (_, Held::Until(until)) => Some(until.saturating_sub(now)),
                _ => None,
            }
        };
        if signal == Signal::Failing {
            why.clone_into(&mut run.failing.borrow_mut());
        }
        if let Some(wait) = held {
            (run.parts.events)(&Event::Paused {
                why: why.to_owned(),
                wait,
            });
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.told.get() == Told::NotYet {
            self.tell(Signal::Neutral, "");
        }
        self.run.on_wire.set(self.run.on_wire.get() - 1);
        self.run.news.notify_waiters();
    }
}

impl<'r> Run<'r> {
    /// Attempts that may be under way at once, at the most: on the wire, and ready for it.
    pub(super) fn in_hand_max(&self) -> usize {
        with_ready(self.on_wire_max())
    }

    /// Jobs of the plan that may be under way at once, at the most: in hand, or answered and being
    /// written down.
    pub(super) fn under_way_max(&self) -> usize {
        self.on_wire_max().saturating_mul(2)
    }

    fn on_wire_max(&self) -> usize {
        let concurrency = self.parts.settings.pace.concurrency.max();
        usize::try_from(concurrency.get()).unwrap_or(usize::MAX)
    }

    /// Since the run began.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Waits for a place among the files in hand, so that what is ready for the wire keeps to what
    /// may be on it; none where something keeps the attempt from beginning.
    pub(super) async fn hand(&'r self, target: &Arc<Target>) -> Option<Hand<'r>> {
        let _first = tokio::select! {
            first = self.hands.lock() => first,
            () = self.parts.stop.draining() => return None,
        };
        loop {
            if self.is_hindered(target).await {
                return None;
            }
            let window = self.pace.borrow().window();
            if self.in_hand.get() < with_ready(window) {
                self.in_hand.set(self.in_hand.get() + 1);
                return Some(Hand(self));
            }
            self.news_or_drain().await;
        }
    }

    /// Waits for a turn on the wire; none where something keeps the attempt from beginning.
    pub(super) async fn turn(&'r self, upload: Upload<'_>) -> Option<Turn<'r>> {
        let target = &self.parts.plan.rules[upload.file.rule].target;
        let stream = if is_read_whole(upload.stat.size) {
            None
        } else {
            tokio::select! {
                stream = self.streams.acquire() => Some(stream.ok()?),
                () = self.parts.stop.draining() => return None,
            }
        };
        let _first = tokio::select! {
            first = self.door.lock() => first,
            () = self.parts.stop.draining() => return None,
        };
        loop {
            if self.is_over(target) {
                return None;
            }
            let now = self.elapsed();
            let begin = {
                let mut pace = self.pace.borrow_mut();
                pace.may_begin(now, self.on_wire.get())
            };
            match begin {
                Begin::Now => {
                    self.on_wire.set(self.on_wire.get() + 1);
                    return Some(Turn {
                        run: self,
                        began: now,
                        told: Cell::new(Told::NotYet),
                        _stream: stream,
                    });
                }
                // What has ended, or the time of the day, may let it begin earlier.
                Begin::At(time) => tokio::select! {
                    () = self.until(time) => {}
                    () = self.news.notified() => {}
                },
                Begin::AfterAnEnd => self.news_or_drain().await,
                // Seldom, and large: as a part of it, every job would be moved about with room for it.
                Begin::Probe => Box::pin(self.probe()).await,
                Begin::GiveUp => {
                    let why = self.failing.borrow().clone();
                    self.stop(StopCause::Unavailable(format!(
                        "the service has failed everything for too long ({why})"
                    )));
                }
            }
        }
    }

    /// Waits out a pause; then says whether something keeps an attempt from beginning.
    pub(super) async fn is_hindered(&self, target: &Arc<Target>) -> bool {
        loop {
            if self.is_over(target) {
                return true;
            }
            let held = self.pace.borrow().held(self.elapsed());
            match held {
                Held::No => return false,
                Held::Until(time) => self.until(time).await,
                Held::UntilAnEnd => self.news_or_drain().await,
            }
        }
    }

    /// Whether nothing more is to begin for this target.
    fn is_over(&self, target: &Arc<Target>) -> bool {
        self.parts.stop.cause().is_some() || self.refused.borrow().contains(target)
    }

    /// Reserves bytes that are to leave: how long until they may.
    pub(super) fn reserve_bytes(&self, bytes: usize) -> Duration {
        let now = self.elapsed();
        let mut pace = self.pace.borrow_mut();
        pace.reserve_bytes(now, bytes as u64).saturating_sub(now)
    }

    /// How many bytes are to be reserved at once, at the most.
    pub(super) fn piece(&self) -> usize {
        let piece = self.pace.borrow().piece();
        piece.map_or(usize::MAX, |piece| {
            usize::try_from(piece).unwrap_or(usize::MAX)
        })
    }

    /// Finds out by a cheap request whether a service that failed everyone is back.
    async fn probe(&self) {
        let (health, why) = match self.ask().await {
            Some(
                Preflight::Failing(why) | Preflight::Unreached(why) | Preflight::Misconfigured(why),
            ) => (Health::Failing, why),
            // It answers, whatever it says, or it never answered such a question: what uploads
            // make of it is for one of them to find out.
            Some(_) | None => (Health::Good, String::new()),
        };
        let now = self.elapsed();
        let chance = self.parts.chance.fraction();
        let held = {
            let mut pace = self.pace.borrow_mut();
            pace.probe_result(now, health, chance);
            pace.held(now)
        };
        if health == Health::Failing {
            why.clone_into(&mut self.failing.borrow_mut());
            if let Held::Until(until) = held {
                let wait = until.saturating_sub(now);
                (self.parts.events)(&Event::Paused { why, wait });
            }
        }
        self.news.notify_waiters();
    }

    async fn until(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep_until(self.began + time) => {}
            () = self.parts.stop.draining() => {}
        }
    }

    async fn news_or_drain(&self) {
        tokio::select! {
            () = self.news.notified() => {}
            () = self.parts.stop.draining() => {}
        }
    }

    /// Follows the time of day where rate or bandwidth do; never ends.
    pub(super) async fn follow_the_day(&self) {
        if !self.parts.settings.pace.follow_the_day() {
            return std::future::pending().await;
        }
        loop {
            let time = self.parts.clock.time_of_day();
            let next = {
                let mut pace = self.pace.borrow_mut();
                pace.time_is(self.elapsed(), time)
            };
            self.news.notify_waiters();
            match next {
                Some(next) => tokio::time::sleep_until(self.began + next).await,
                None => std::future::pending().await,
            }
        }
    }
}

/// The fewest on the wire beside which others are ready: fewer go in the plan's order.
const READY_FROM: usize = 4;

/// How many may be in hand where so many may be on the wire: as many again, but for one, are read,
/// written down and ready to leave, so that the wire does not wait for the ledger. It was chosen over a
/// quarter as many by medians whose ranges overlap (`benches/PROFILE.md`). Whichever is ready first
/// leaves first.
///
/// So many can a crash leave in doubt, whoever sends them. What was answered makes room once its end
/// is asked of the ledger, which makes durable in the order in which it is asked: before the gate of
/// what takes the place is open, that end is there.
fn with_ready(window: usize) -> usize {
    if window < READY_FROM {
        return window;
    }
    window.saturating_add(window - 1)
}
