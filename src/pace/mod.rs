//! When to try again, and when to begin at all: pure. What waits, waits elsewhere; time and chance
//! are handed in. Times are since the run's start, by a clock that never goes back.
//!
//! [`Pace`] puts the parts together: a [`Breaker`] for when the service is gone, a shared pause for
//! when it asks for one, a [`Window`] for how many uploads are on their way, and [`Bucket`]s for how
//! many begin and how many bytes leave: as configured, and as [`Learned`] from refusals.

mod breaker;
mod bucket;
mod budget;
mod learned;
mod number;
mod window;

#[cfg(test)]
mod simulation;

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;

pub use self::breaker::{Breaker, BreakerSettings, Gate, Health};
pub use self::bucket::Bucket;
pub use self::budget::exceeded;
pub use self::learned::{Learned, Limited, Told};
pub use self::window::Window;
use crate::model::{Bandwidth, Concurrency, Rate, RetryAfter, Schedule};

/// Longest wait that a service's `Retry-After` can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// How long a `Retry-After` asks to wait from now: five minutes at the most.
#[must_use]
pub fn retry_after_wait(after: RetryAfter, now: Timestamp) -> Duration {
    let wait = match after {
        RetryAfter::Delay(delay) => delay,
        RetryAfter::At(time) => Duration::try_from(time.duration_since(now)).unwrap_or_default(),
    };
    wait.min(RETRY_AFTER_MAX)
}

/// Exponential backoff with full jitter: any wait from nothing to a ceiling that doubles, so that
/// many workers do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first ceiling.
    pub first: Duration,
    /// The highest ceiling.
    pub most: Duration,
}

impl Backoff {
    /// The wait after the `attempt`-th attempt (from 1). `chance` is uniform in 0..1.
    #[must_use]
    pub fn wait(&self, attempt: u32, chance: f64) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt.saturating_sub(1));
        let ceiling = self.first.saturating_mul(doubled).min(self.most);
        ceiling.mul_f64(chance.clamp(0.0, 1.0))
    }
}

/// The largest upload whose time to the answer says something of the service and not of the line.
pub const TIMED_BYTES_MAX: u64 = 64 * 1024;

/// For how long bytes of a bandwidth may go at once after a rest.
const BANDWIDTH_BURST: u64 = 10;
/// And so many at least: what is handed to a connection at once.
const BANDWIDTH_BURST_LEAST: u64 = 64 * 1024;

/// In how many pieces the bytes of a second leave, and how small those may be.
const PIECES_PER_SECOND: u64 = 8;
const PIECE_LEAST: u64 = 1024;

/// Longest time for which a time of the day is relied on: clocks are set, and summer time begins.
const TIME_CHECK: Duration = Duration::from_mins(5);

/// How an upload ended, as far as pacing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The service answered sensibly: it stored the file, or refused it for the file's sake.
    Good {
        /// The time to the answer, where the upload was a small one.
        took: Option<Duration>,
    },
    /// The service has too many requests (425, 429, or 503 with a `Retry-After`).
    Refused {
        /// How long it asks everyone to wait from now on.
        retry_after: Option<Duration>,
    },
    /// The service is broken or cannot be reached: 5xx, a lost connection, a stall.
    Failing,
    /// Nothing of it is the service's: the file could not be read, or was not sent.
    Neutral,
}

impl Signal {
    /// A sensible answer to an upload of so many bytes, `took` after it began.
    #[must_use]
    pub fn good(bytes: u64, took: Duration) -> Self {
        Self::Good {
            took: (bytes <= TIMED_BYTES_MAX).then_some(took),
        }
    }
}

/// How a run is to be paced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaceSettings {
    /// Uploads on their way at once.
    pub concurrency: Concurrency,
    /// Uploads that may begin in a time.
    pub rate: Schedule<Option<Rate>>,
    /// Bytes that may leave in a time.
    pub bandwidth: Schedule<Option<Bandwidth>>,
    /// When the service counts as gone.
    pub breaker: BreakerSettings,
}

impl PaceSettings {
    /// Whether anything follows the time of the day.
    #[must_use]
    pub fn follow_the_day(&self) -> bool {
        self.rate.follows_the_day() || self.bandwidth.follows_the_day()
    }
}

/// What somebody who wants to begin an upload is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Begin now: its place is taken. It has to come back through [`Pace::ended`].
    Now,
    /// Ask again at this time of the run. Nothing is reserved: what happens until then counts.
    At(Duration),
    /// Ask again when an upload or the probe has ended.
    AfterAnEnd,
    /// Find out with a cheap request whether the service is back, say so with
    /// [`Pace::probe_result`], and ask again. Nobody else is asked to at the same time.
    Probe,
    /// The service failed everyone for too long: stop.
    GiveUp,
}

/// What keeps everybody from beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Nothing that is known.
    No,
    /// A pause, or the breaker, until this time of the run.
    Until(Duration),
    /// A probe or a trial that is under way.
    UntilAnEnd,
}

/// Paces a run.
///
/// Who wants to begin an upload asks [`Pace::may_begin`] until it says [`Begin::Now`]. One at a time
/// should do so, in order, so that nobody is overtaken: the next when the one before has begun.
#[derive(Debug, Clone)]
pub struct Pace {
    window: Window,
    breaker: Breaker,
    learned: Learned,
    requests: Bucket,
    bytes: Bucket,
    rate: Schedule<Option<Rate>>,
    bandwidth: Schedule<Option<Bandwidth>>,
    paused_until: Duration,
    /// Whether the next to begin has been waiting for the learned rate.
    limited: Limited,
    /// When the time of the day is to be told again.
    time_check: Option<Duration>,
    /// Bytes that are handed over at once, where a bandwidth is kept.
    piece: Option<u64>,
}

impl Pace {
    /// The pace of a run that starts at a time of the day.
    #[must_use]
    pub fn new(settings: PaceSettings, time: Time) -> Self {
        let rate = settings.rate.at(time);
        let bandwidth = settings.bandwidth.at(time);
        // The burst does not follow a schedule's changes: what the fastest needs, the slowest may.
        let fastest = settings.bandwidth.values().flatten().max();
        let burst = fastest.map_or(0, |most| most.bytes_per_second() / BANDWIDTH_BURST);
        let mut pace = Self {
            window: match settings.concurrency {
                Concurrency::Fixed(size) => Window::fixed(places(size)),
                Concurrency::Adaptive(max) => Window::adaptive(places(max)),
            },
            breaker: Breaker::new(settings.breaker),
            learned: Learned::new(),
            requests: Bucket::new(rate, 1).with_slack(learned::SLACK),
            bytes: Bucket::new(
                bandwidth.map(Bandwidth::rate),
                burst.max(BANDWIDTH_BURST_LEAST),
            ),
            rate: settings.rate,
            bandwidth: settings.bandwidth,
            paused_until: Duration::ZERO,
            limited: Limited::No,
            time_check: None,
            piece: None,
        };
        pace.time_is(Duration::ZERO, time);
        pace
    }

    /// Tells the time of the day, which rate and bandwidth may follow. Says when to tell it again;
    /// never where nothing follows it.
    pub fn time_is(&mut self, now: Duration, time: Time) -> Option<Duration> {
        self.requests.set_rate(now, self.rate.at(time));
        let bandwidth = self.bandwidth.at(time);
        self.bytes.set_rate(now, bandwidth.map(Bandwidth::rate));
        self.piece =
            bandwidth.map(|most| (most.bytes_per_second() / PIECES_PER_SECOND).max(PIECE_LEAST));
        let changes = [
            self.rate.next_change(time),
            self.bandwidth.next_change(time),
        ];
        let change = changes.into_iter().flatten().min();
        self.time_check = change.map(|wait| now.saturating_add(wait.min(TIME_CHECK)));
        self.time_check
    }

    /// Whether an upload may begin while `in_flight` others are on their way.
    pub fn may_begin(&mut self, now: Duration, in_flight: usize) -> Begin {
        match self.breaker.gate(now) {
            Gate::Open | Gate::OneTrial => {}
            Gate::WaitUntil(until) => return Begin::At(until),
            Gate::Busy => return Begin::AfterAnEnd,
            Gate::GiveUp => return Begin::GiveUp,
            Gate::Probe => {
                self.breaker.probe_begun();
                return Begin::Probe;
            }
        }
        if in_flight >= self.window.limit() || self.learned.is_trying() {
            return Begin::AfterAnEnd;
        }
        let learned = self.learned.ready(now);
        let ready = learned
            .max(self.requests.ready(now, 1))
            .max(self.paused_until);
        if ready > now {
            if learned == ready {
                self.limited = Limited::Yes;
            }
            let check = self.time_check.filter(|check| *check > now);
            return Begin::At(check.map_or(ready, |check| ready.min(check)));
        }
        self.requests.reserve(now, 1);
        let limited = std::mem::replace(&mut self.limited, Limited::No);
        self.learned.began(now, limited);
        let in_flight = in_flight.saturating_add(1);
        self.window.began(now, in_flight);
        self.breaker.began(now, in_flight);
        Begin::Now
    }

    /// An upload ended that began at `began`, the time of its [`Begin::Now`]. `chance` is uniform in
    /// 0..1.
    pub fn ended(&mut self, now: Duration, began: Duration, signal: Signal, chance: f64) {
        self.window.ended(now, began, signal);
        match signal {
            Signal::Good { .. } => {
                self.learned.accepted(now, began);
                self.breaker.ended(now, began, Health::Good, chance);
            }
            Signal::Refused { retry_after } => {
                let told = retry_after.map_or(Told::No, |_| Told::Yes);
                let hold = self.learned.refused(now, began, told);
                self.pause(now, retry_after.unwrap_or_default().max(hold));
                self.breaker.ended(now, began, Health::Good, chance);
            }
            Signal::Failing => {
                self.learned.ended_otherwise(began);
                self.breaker.ended(now, began, Health::Failing, chance);
            }
            Signal::Neutral => {
                self.learned.ended_otherwise(began);
                self.breaker.withdrawn(began);
            }
        }
    }

    /// What keeps everybody from beginning, beside the window and the rates.
    #[must_use]
    pub fn held(&self, now: Duration) -> Held {
        match self.breaker.gate(now) {
            Gate::WaitUntil(until) => Held::Until(until.max(self.paused_until)),
            Gate::Busy => Held::UntilAnEnd,
            Gate::Open | Gate::OneTrial | Gate::Probe | Gate::GiveUp => {
                if self.paused_until > now {
                    Held::Until(self.paused_until)
                } else {
                    Held::No
                }
            }
        }
    }

    /// How the probe ended that [`Begin::Probe`] asked for. `chance` is uniform in 0..1.
    pub fn probe_result(&mut self, now: Duration, health: Health, chance: f64) {
        self.breaker.probe_result(now, health, chance);
    }

    /// Lets nobody begin for a while. A longer pause that is on stays.
    pub fn pause(&mut self, now: Duration, wait: Duration) {
        self.paused_until = self.paused_until.max(now.saturating_add(wait));
    }

    /// How much to reserve at once, where a bandwidth is kept: small pieces, so that uploads take
    /// turns, nobody falls silent for long, and another bandwidth soon holds.
    #[must_use]
    pub fn piece(&self) -> Option<u64> {
        self.piece
    }

    /// Reserves bytes that are to leave: says when they may. The order of reservations is kept.
    pub fn reserve_bytes(&mut self, now: Duration, bytes: u64) -> Duration {
        self.bytes.reserve(now, bytes)
    }

    /// How many uploads may be on their way now.
    #[must_use]
    pub fn window(&self) -> usize {
        self.window.limit()
    }
}

fn places(number: NonZeroU32) -> NonZeroUsize {
    NonZeroUsize::try_from(number).unwrap_or(NonZeroUsize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TimeRange;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_millis(500),
        most: Duration::from_secs(30),
    };

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn pace(concurrency: u32, rate: Schedule<Option<Rate>>) -> Pace {
        let settings = PaceSettings {
            concurrency: Concurrency::Fixed(NonZeroU32::new(concurrency).expect("some")),
            rate,
            bandwidth: Schedule::always(Bandwidth::parse("1MB/s").expect("a bandwidth")),
            breaker: BreakerSettings::default(),
        };
        Pace::new(settings, Time::midnight())
    }

    #[test]
    fn bytes_leave_in_pieces_of_an_eighth_of_a_second_where_a_bandwidth_is_kept() {
        let mut paced = pace(2, Schedule::always(None));
        assert_eq!(paced.piece(), Some(125_000));
        paced.bandwidth = Schedule::always(Bandwidth::parse("1KB/s").expect("a bandwidth"));
        paced.time_is(s(1), Time::midnight());
        assert_eq!(paced.piece(), Some(PIECE_LEAST));
        paced.bandwidth = Schedule::always(None);
        paced.time_is(s(2), Time::midnight());
        assert_eq!(paced.piece(), None);
    }

    #[test]
    fn uploads_begin_up_to_the_window_and_not_in_a_pause() {
        let mut pace = pace(2, Schedule::always(None));
        assert_eq!(pace.may_begin(s(1), 0), Begin::Now);
        assert_eq!(pace.may_begin(s(1), 1), Begin::Now);
        assert_eq!(pace.may_begin(s(1), 2), Begin::AfterAnEnd);
        pace.pause(s(1), s(9));
        pace.pause(s(2), s(1));
        assert_eq!(pace.may_begin(s(3), 1), Begin::At(s(10)));
        assert_eq!(pace.may_begin(s(10), 1), Begin::Now);
    }

    #[test]
    fn a_refusal_pauses_everyone_for_as_long_as_it_asks() {
        let mut pace = pace(8, Schedule::always(None));
        assert_eq!(pace.may_begin(s(1), 0), Begin::Now);
        let retry_after = Some(s(30));
        pace.ended(s(2), s(1), Signal::Refused { retry_after }, 0.5);
        assert_eq!(pace.may_begin(s(2), 0), Begin::At(s(32)));
        assert!(pace.learned.ceiling().is_some());
    }

    #[test]
    fn asking_reserves_nothing_until_the_answer_is_now() {
        let rate = Rate::parse("1/s").expect("a rate");
        let mut pace = pace(8, Schedule::always(rate));
        assert_eq!(pace.may_begin(s(0), 0), Begin::Now);
        for _ in 0..100 {
            let slack = Duration::from_millis(990);
            assert_eq!(pace.may_begin(s(0), 1), Begin::At(slack));
        }
        assert_eq!(pace.may_begin(s(1), 1), Begin::Now);
    }

    #[test]
    fn one_is_asked_to_probe_and_one_to_try_when_the_service_fails_everyone() {
        let mut pace = pace(8, Schedule::always(None));
        for _ in 0..4 {
            assert_eq!(pace.may_begin(s(1), 0), Begin::Now);
            pace.ended(s(2), s(1), Signal::Failing, 1.0);
        }
        assert_eq!(pace.may_begin(s(2), 0), Begin::At(s(3)));
        assert_eq!(pace.may_begin(s(3), 0), Begin::Probe);
        assert_eq!(pace.may_begin(s(3), 0), Begin::AfterAnEnd);
        pace.probe_result(s(4), Health::Good, 1.0);
        assert_eq!(pace.may_begin(s(4), 0), Begin::Now);
        assert_eq!(pace.may_begin(s(4), 1), Begin::AfterAnEnd);
        pace.ended(s(5), s(4), Signal::Neutral, 1.0);
        assert_eq!(pace.may_begin(s(5), 0), Begin::Now);
        pace.ended(s(6), s(5), Signal::Good { took: None }, 1.0);
        assert_eq!(pace.may_begin(s(6), 0), Begin::Now);
        assert_eq!(pace.may_begin(s(6), 1), Begin::Now);
    }

    #[test]
    fn a_rate_follows_the_time_of_the_day() {
        let slow = Rate::parse("1/h").expect("a rate");
        let range = TimeRange::parse("00:00-06:00").expect("a range");
        let rate = Schedule::new(None, vec![(range, slow)]).expect("no overlap");
        let mut pace = pace(8, rate);
        assert_eq!(pace.may_begin(s(0), 0), Begin::Now);
        // An hour is long enough for clocks to be set.
        assert_eq!(pace.may_begin(s(1), 1), Begin::At(s(300)));
        let next = pace.time_is(s(300), Time::constant(5, 58, 0, 0));
        assert_eq!(next, Some(s(300 + 120)));
        assert_eq!(pace.may_begin(s(301), 1), Begin::At(s(420)));
        pace.time_is(s(420), Time::constant(6, 0, 0, 0));
        assert_eq!(pace.may_begin(s(420), 1), Begin::Now);
    }

    #[test]
    fn bytes_leave_at_the_bandwidth_after_a_tenth_of_a_second_of_them() {
        let mut pace = pace(8, Schedule::always(None));
        assert_eq!(pace.reserve_bytes(s(1), 100_000), s(1));
        assert_eq!(pace.reserve_bytes(s(1), 500_000).as_millis(), 1500);
        assert_eq!(pace.reserve_bytes(s(1), 500_000).as_millis(), 2000);
    }

    #[test]
    fn only_small_uploads_tell_the_time_to_the_answer() {
        let took = |bytes| match Signal::good(bytes, s(1)) {
            Signal::Good { took } => took,
            _ => None,
        };
        assert_eq!(took(TIMED_BYTES_MAX), Some(s(1)));
        assert_eq!(took(TIMED_BYTES_MAX + 1), None);
    }

    #[test]
    fn the_ceiling_doubles_up_to_its_limit_and_chance_takes_its_share() {
        let ceilings: Vec<u128> = (1..=9).map(|n| BACKOFF.wait(n, 1.0).as_millis()).collect();
        assert_eq!(
            ceilings,
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
        );
        assert_eq!(BACKOFF.wait(3, 0.25), Duration::from_millis(500));
        assert_eq!(BACKOFF.wait(3, 0.0), Duration::ZERO);
        assert_eq!(BACKOFF.wait(u32::MAX, 1.0), Duration::from_secs(30));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_five_minutes() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().expect("a time");
        for (text, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("86400", Some(300)),
            ("99999999999999999999999", Some(300)),
            ("Mon, 23 Nov 2026 12:00:30 GMT", Some(30)),
            ("Mon, 23 Nov 2026 11:00:00 GMT", Some(0)),
            ("Tue, 24 Nov 2026 12:00:30 GMT", Some(300)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
            ("", None),
        ] {
            let wait = RetryAfter::parse(text).map(|after| retry_after_wait(after, now).as_secs());
            assert_eq!(wait, seconds, "{text}");
        }
    }
}
