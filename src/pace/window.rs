//! How many uploads are on their way at once: a fixed number, or one that follows what the service
//! can take.
//!
//! The adaptive window grows by additive increase and shrinks by multiplicative decrease, which is
//! what makes many clients of one service share it fairly (Chiu and Jain, "Analysis of the Increase
//! and Decrease Algorithms for Congestion Avoidance", 1989), after a slow start (RFC 5681 section
//! 3.1), with one decrease per round trip (section 3.2 of RFC 6582) and without growth while the
//! window is not what limits (RFC 7661). That answers take longer than they could is a sign of a
//! queue, as in TCP Vegas (Brakmo and Peterson, 1995).

use std::num::NonZeroUsize;
use std::time::Duration;

use super::Signal;
use super::number::{real_size, whole_size};

/// The adaptive window's first size, and what slow answers alone never take it below.
const START: f64 = 4.0;

/// What is left of the window after service trouble.
const AFTER_TROUBLE: f64 = 0.5;
/// What is left of the window after a refused request: a rate is learned besides.
const AFTER_REFUSAL: f64 = 0.7;
/// What is left of the window after slow answers.
const AFTER_SLOWNESS: f64 = 0.9;

/// Answers that take so many times as long as they could, and [`LATENCY_SLACK`] more, are waiting in
/// a queue: the window does not grow any more.
const QUEUED: f64 = 1.5;
/// As [`QUEUED`]; the window shrinks.
const CONGESTED: f64 = 1.7;
/// Below this, what is measured is the network's and the machine's own noise: seconds.
const LATENCY_SLACK: f64 = 0.025;

/// Uploads on their way at once.
#[derive(Debug, Clone)]
pub struct Window(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Fixed(usize),
    Adaptive(Adaptive),
}

#[derive(Debug, Clone)]
struct Adaptive {
    max: f64,
    size: f64,
    growth: Growth,
    /// When it last shrank: what began before then had no chance to be better for it.
    eased_at: Option<Duration>,
    /// When it was last full.
    full_at: Option<Duration>,
    latency: Latency,
}

/// How it grows.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Growth {
    /// By one for each good answer, up to this size.
    Fast(f64),
    /// By one for each window of good answers.
    Slow,
}

impl Window {
    /// Always the same.
    #[must_use]
    pub fn fixed(size: NonZeroUsize) -> Self {
        Self(Kind::Fixed(size.get()))
    }

    /// Adapts, and is never larger than `max`.
    #[must_use]
    pub fn adaptive(max: NonZeroUsize) -> Self {
        let max = real_size(max.get());
        Self(Kind::Adaptive(Adaptive {
            max,
            size: START.min(max),
            growth: Growth::Fast(max),
            eased_at: None,
            full_at: None,
            latency: Latency::default(),
        }))
    }

    /// How many uploads may be on their way now: one at least.
    #[must_use]
    pub fn limit(&self) -> usize {
        match &self.0 {
            Kind::Fixed(size) => *size,
            Kind::Adaptive(window) => whole_size(window.size).max(1),
        }
    }

    /// An upload began; `in_flight` are under way with it.
    pub fn began(&mut self, now: Duration, in_flight: usize) {
        let is_full = in_flight >= self.limit();
        if let Kind::Adaptive(window) = &mut self.0
            && is_full
        {
            window.full_at = Some(now);
        }
    }

    /// An upload ended that began at `started`.
    pub fn ended(&mut self, now: Duration, started: Duration, signal: Signal) {
        let Kind::Adaptive(window) = &mut self.0 else {
            return;
        };
        match signal {
            Signal::Good { took } => {
                let is_late = window.eased_at.is_some_and(|eased| started < eased);
                if let Some(took) = took
                    && !is_late
                {
                    window.latency.observe(now, took, window.size);
                }
                window.went_well(now, started);
            }
            Signal::Refused { .. } => {
                // The way back up to where it was is known to be safe but for its end.
                let known = window.size * 0.9;
                if window.ease(now, started, AFTER_REFUSAL, 1.0) {
                    window.growth = Growth::Fast(known);
                }
            }
            Signal::Failing => {
                if window.ease(now, started, AFTER_TROUBLE, 1.0) {
                    window.growth = Growth::Slow;
                }
            }
            Signal::Neutral => {}
        }
    }
}

impl Adaptive {
    fn went_well(&mut self, now: Duration, started: Duration) {
        match self.latency.queue() {
            Queue::None if self.full_at.is_some_and(|full| full >= started) => self.grow(),
            Queue::None => {}
            Queue::Some => self.growth = Growth::Slow,
            Queue::Long => {
                self.growth = Growth::Slow;
                self.ease(now, started, AFTER_SLOWNESS, START);
            }
        }
    }

    fn grow(&mut self) {
        let step = match self.growth {
            Growth::Fast(up_to) if self.size < up_to => 1.0,
            _ => {
                self.growth = Growth::Slow;
                1.0 / self.size
            }
        };
        self.size = (self.size + step).min(self.max);
    }

    /// Shrinks, where the answer is one to the present size.
    fn ease(&mut self, now: Duration, started: Duration, left: f64, floor: f64) -> bool {
        if self.eased_at.is_some_and(|eased| started < eased) {
            return false;
        }
        self.eased_at = Some(now);
        self.size = (self.size * left).max(floor.min(self.size));
        self.latency.samples = 0.0;
        true
    }
}

/// What the time to the answer tells of a queue in front of the service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Queue {
    #[default]
    None,
    Some,
    Long,
}

/// The time to the answer: lately, and at its best. All in seconds.
#[derive(Debug, Clone, Default)]
struct Latency {
    samples: f64,
    /// A moving average of the answers to what began since the window last shrank.
    recent: f64,
    /// The lowest average of this span of time, and of the one before: what was best is forgotten
    /// after two spans, because the way to the service may have changed.
    best: [Option<f64>; 2],
    span_began: Duration,
    /// What was last told when there were answers enough.
    told: Queue,
}

impl Latency {
    const SPAN: Duration = Duration::from_mins(5);
    /// How many answers have to be averaged to tell a queue from chance.
    const SETTLED: f64 = 24.0;
    /// Over so many the average is taken at least, or over two round trips' where that is more.
    const AVERAGED: f64 = 32.0;

    fn observe(&mut self, now: Duration, took: Duration, window: f64) {
        let took = took.as_secs_f64();
        self.samples = (self.samples + 1.0).min(Self::AVERAGED.max(2.0 * window));
        self.recent += (took - self.recent) / self.samples;
        if now.saturating_sub(self.span_began) > Self::SPAN {
            self.best = [None, self.best[0]];
            self.span_began = now;
        }
        if self.samples >= Self::SETTLED {
            let best = self.best[0].get_or_insert(self.recent);
            *best = best.min(self.recent);
        }
    }

    fn queue(&mut self) -> Queue {
        if self.samples < Self::SETTLED {
            // Too early to tell whether it went away.
            return match self.told {
                Queue::None => Queue::None,
                Queue::Some | Queue::Long => Queue::Some,
            };
        }
        self.told = self.compare();
        self.told
    }

    fn compare(&self) -> Queue {
        let Some(best) = self.best.into_iter().flatten().reduce(f64::min) else {
            return Queue::None;
        };
        if self.recent > best * CONGESTED + LATENCY_SLACK {
            Queue::Long
        } else if self.recent > best * QUEUED + LATENCY_SLACK {
            Queue::Some
        } else {
            Queue::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Signal = Signal::Good { took: None };
    const REFUSED: Signal = Signal::Refused { retry_after: None };

    fn adaptive(max: usize) -> Window {
        Window::adaptive(NonZeroUsize::new(max).expect("some"))
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn took(time: Duration) -> Signal {
        Signal::Good { took: Some(time) }
    }

    /// Fills the window and has all of it answered the same.
    fn round(window: &mut Window, now: Duration, signal: Signal) {
        let size = window.limit();
        for in_flight in 1..=size {
            window.began(now, in_flight);
        }
        for _ in 0..size {
            window.ended(now + ms(50), now, signal);
        }
    }

    fn sizes<const N: usize>(window: &mut Window, from: u64, signal: Signal) -> [usize; N] {
        let mut at = from;
        [(); N].map(|()| {
            round(window, ms(at), signal);
            at += 100;
            window.limit()
        })
    }

    #[test]
    fn a_fixed_window_stays() {
        let mut window = Window::fixed(NonZeroUsize::new(16).expect("some"));
        assert_eq!(sizes(&mut window, 0, Signal::Failing), [16, 16]);
        assert_eq!(sizes(&mut window, 500, GOOD), [16, 16]);
    }

    #[test]
    fn an_adaptive_window_doubles_every_round_up_to_its_maximum() {
        assert_eq!(sizes(&mut adaptive(64), 0, GOOD), [8, 16, 32, 64, 64]);
        assert_eq!(adaptive(2).limit(), 2);
        assert_eq!(sizes(&mut adaptive(1), 0, GOOD), [1, 1]);
    }

    #[test]
    fn after_trouble_it_is_half_and_grows_by_one_a_round() {
        let mut window = adaptive(64);
        assert_eq!(sizes(&mut window, 0, GOOD), [8, 16, 32]);
        assert_eq!(sizes(&mut window, 400, Signal::Failing), [16]);
        let grown: [usize; 4] = sizes(&mut window, 600, GOOD);
        assert!(grown[3] >= 18 && grown[3] <= 20, "{grown:?}");
    }

    #[test]
    fn one_round_trip_shrinks_it_once() {
        let mut window = adaptive(64);
        assert_eq!(sizes(&mut window, 0, GOOD), [8, 16, 32]);
        round(&mut window, ms(400), REFUSED);
        assert_eq!(window.limit(), 22);
        for _ in 0..10 {
            window.ended(ms(500), ms(449), Signal::Failing);
        }
        assert_eq!(window.limit(), 22);
    }

    #[test]
    fn it_is_never_less_than_one() {
        let mut window = adaptive(64);
        for second in 0..20 {
            round(&mut window, ms(second * 1000), Signal::Failing);
        }
        assert_eq!(window.limit(), 1);
        round(&mut window, ms(30_000), GOOD);
        assert_eq!(window.limit(), 2);
    }

    #[test]
    fn a_window_that_is_not_full_does_not_grow() {
        let mut window = adaptive(64);
        for step in 0..100 {
            window.began(ms(step * 100), 3);
            window.ended(ms(step * 100 + 50), ms(step * 100), GOOD);
        }
        assert_eq!(window.limit(), 4);
    }

    #[test]
    fn slow_answers_hold_it_and_very_slow_ones_shrink_it_to_its_start() {
        let mut window = adaptive(64);
        assert_eq!(sizes(&mut window, 0, took(ms(100))), [8, 16, 32]);
        let slower: [usize; 10] = sizes(&mut window, 400, took(ms(185)));
        assert_eq!(slower[4], slower[9], "{slower:?}");
        let shrunk: [usize; 200] = sizes(&mut window, 2000, took(ms(300)));
        assert_eq!(shrunk[199], 4, "{shrunk:?}");
    }

    #[test]
    fn noise_of_some_milliseconds_is_no_queue() {
        let mut window = adaptive(64);
        assert_eq!(sizes(&mut window, 0, took(ms(2))), [8, 16, 32]);
        assert_eq!(sizes(&mut window, 400, took(ms(20))), [64]);
    }

    #[test]
    fn what_was_best_is_forgotten_after_ten_minutes() {
        let mut window = adaptive(64);
        assert_eq!(sizes(&mut window, 0, took(ms(10))), [8, 16, 32]);
        let slower: [usize; 200] = sizes(&mut window, 400, took(ms(500)));
        assert_eq!(slower[199], 4);
        for second in 60..720 {
            round(&mut window, ms(second * 1000), took(ms(500)));
        }
        assert!(window.limit() > 30, "{}", window.limit());
    }
}
