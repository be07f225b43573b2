//! The rate of a service that does not say what it allows and answers 429 to what is too much.
//!
//! A refusal says that the service's own bucket is empty. What it accepted between two refusals,
//! over the time between them, is therefore what it allows, however deep its bucket is. The rate
//! then follows the curve of CUBIC (RFC 9438 section 4.2), with a rate in the place of its window:
//! it starts a little below what was allowed, comes near it, stays there, and only then probes above
//! it, ever faster. Requests are spaced evenly all the while.

use std::collections::VecDeque;
use std::time::Duration;

use super::bucket::Bucket;
use super::number::{real, seconds, whole};
use crate::model::Rate;

/// How far below the plateau the rate starts after a refusal.
const STEP_DOWN: f64 = 0.05;
/// The time from there to the plateau, which is also the plateau's length: at first, and at most,
/// when one refusal after another confirms the plateau.
const RISE_FIRST: Duration = Duration::from_secs(15);
const RISE_MOST: Duration = Duration::from_mins(1);
/// Plateaus that differ by less confirm each other.
const CONFIRMED: f64 = 0.1;
/// A refusal never takes the plateau below so much of the last rate: time that the service had
/// everyone wait says less than time in which it answered.
const DROP_MOST: f64 = 0.5;
/// "Lately": what is measured before there was a refusal to measure from.
const LATELY: Duration = Duration::from_secs(3);
/// A rate that is so many times the plateau limits nothing any more, and after such a time without
/// a refusal the service may have become another one.
const FORGOTTEN_ABOVE: f64 = 4.0;
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
/// Waits for a service that refuses without saying how long: doubled until it accepts something.
const HOLD_FIRST: Duration = Duration::from_millis(250);
const HOLD_MOST: Duration = Duration::from_secs(30);
/// Who sleeps wakes up a little late.
pub(super) const SLACK: Duration = Duration::from_millis(10);

/// Below this nothing would ever be learned again: a request in ten minutes.
const RATE_LEAST: f64 = 1.0 / 600.0;

/// What is known of the rate that a service allows.
#[derive(Debug, Clone)]
pub struct Learned {
    bucket: Bucket,
    plateau: Option<Plateau>,
    /// Since when `accepted` counts: the last refusal, or the first request.
    since: Option<Duration>,
    accepted: u64,
    /// When each of the last accepted requests was, as far back as [`LATELY`].
    lately: VecDeque<Duration>,
    /// Refusals since something was accepted.
    in_a_row: u32,
}

#[derive(Debug, Clone, Copy)]
struct Plateau {
    /// Requests per second that were allowed when the service last refused.
    rate: f64,
    refused_at: Duration,
    rise: Duration,
    /// Time since then in which the rate was what limited: without that, it has proved nothing.
    grown: Duration,
    last_began: Duration,
}

impl Plateau {
    /// Requests per second.
    fn ceiling(self) -> f64 {
        let rise = self.rise.as_secs_f64();
        let x = (self.grown.as_secs_f64() - rise) / rise;
        self.rate * (1.0 + STEP_DOWN * x.powi(3))
    }
}

impl Default for Learned {
    fn default() -> Self {
        Self::new()
    }
}

impl Learned {
    /// Nothing is known, and nothing limited.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bucket: Bucket::new(None, 1).with_slack(SLACK),
            plateau: None,
            since: None,
            accepted: 0,
            lately: VecDeque::new(),
            in_a_row: 0,
        }
    }

    /// Requests per second that are thought to be allowed now.
    #[must_use]
    pub fn ceiling(&self) -> Option<f64> {
        self.plateau.map(Plateau::ceiling)
    }

    /// When a request may begin that is asked for now.
    #[must_use]
    pub fn ready(&self, now: Duration) -> Duration {
        self.bucket.ready(now, 1)
    }

    /// A request begins; `limited` tells whether [`Learned::ready`] made it wait.
    pub fn began(&mut self, now: Duration, limited: Limited) {
        self.since.get_or_insert(now);
        if let Some(plateau) = &mut self.plateau {
            if limited == Limited::Yes {
                let interval = seconds(2.0 / plateau.ceiling());
                let passed = now.saturating_sub(plateau.last_began);
                plateau.grown = plateau.grown.saturating_add(passed.min(interval));
            }
            plateau.last_began = now;
            let is_old = now.saturating_sub(plateau.refused_at) > FORGOTTEN_AFTER;
            if is_old || plateau.ceiling() > plateau.rate * FORGOTTEN_ABOVE {
                self.plateau = None;
            }
        }
        self.bucket.set_rate(now, self.ceiling().and_then(rate));
        self.bucket.reserve(now, 1);
    }

    /// A request was accepted, whatever else became of it.
    pub fn accepted(&mut self, now: Duration) {
        self.accepted = self.accepted.saturating_add(1);
        self.in_a_row = 0;
        self.lately.push_back(now);
        while let Some(first) = self.lately.front()
            && now.saturating_sub(*first) > LATELY
        {
            self.lately.pop_front();
        }
    }

    /// A request that began at `started` was refused because there were too many. Says how long
    /// nobody should begin another, where the service does not.
    pub fn refused(&mut self, now: Duration, started: Duration) -> Duration {
        if self
            .plateau
            .is_some_and(|plateau| started < plateau.refused_at)
        {
            return Duration::ZERO;
        }
        let measured = self.measured(now);
        let before = self.plateau;
        let rate = match before {
            Some(before) => {
                let ceiling = before.ceiling();
                measured.clamp(ceiling * DROP_MOST, ceiling)
            }
            None => measured.max(RATE_LEAST),
        };
        let rise = match before {
            Some(before) if (rate / before.rate - 1.0).abs() < CONFIRMED => {
                before.rise.mul_f64(1.5).min(RISE_MOST)
            }
            _ => RISE_FIRST,
        };
        self.plateau = Some(Plateau {
            rate: rate.max(RATE_LEAST),
            refused_at: now,
            rise,
            grown: Duration::ZERO,
            last_began: now,
        });
        self.bucket
            .set_rate(now, self.ceiling().and_then(self::rate));
        self.since = Some(now);
        self.accepted = 0;
        let doubled = 2_u32.saturating_pow(self.in_a_row);
        self.in_a_row = self.in_a_row.saturating_add(1);
        HOLD_FIRST.saturating_mul(doubled).min(HOLD_MOST)
    }

    /// Requests per second that were accepted since the last refusal, or lately where that was less.
    fn measured(&self, now: Duration) -> f64 {
        let since = self.since.unwrap_or(now);
        let elapsed = now.saturating_sub(since).as_secs_f64().max(0.001);
        let mean = real(self.accepted) / elapsed;
        if elapsed < LATELY.as_secs_f64() {
            return mean;
        }
        let lately = self
            .lately
            .iter()
            .filter(|at| now.saturating_sub(**at) <= LATELY)
            .count();
        let lately = super::number::real_size(lately) / LATELY.as_secs_f64();
        mean.min(lately)
    }
}

/// Whether the learned rate is what a request waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limited {
    /// It is.
    Yes,
    /// Something else is, or nothing.
    No,
}

/// Requests per second as a rate: to a thousandth of a request.
fn rate(per_second: f64) -> Option<Rate> {
    Rate::new(whole(per_second * 1000.0).max(1), Duration::from_secs(1000))
}
