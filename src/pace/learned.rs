//! The rate of a service that does not say what it allows and answers 429 to what is too much.
//!
//! A refusal says that the service's own bucket is empty. What it accepted between two refusals,
//! over the time between them, is therefore what it allows, however deep its bucket is. The rate
//! then follows the curve of CUBIC (RFC 9438 section 4.2), with a rate in the place of its window:
//! it starts a little below what was allowed, comes near it, stays there, and only then probes above
//! it, ever faster. Requests are spaced evenly all the while.
//!
//! Times are those at which requests began, so that nothing depends on how long answers take; what
//! is answered late corrects what was measured.

use std::collections::VecDeque;
use std::time::Duration;

use super::bucket::Bucket;
use super::number::{real, real_size, seconds, whole};
use crate::model::Rate;

/// How far below the plateau the rate starts after a refusal.
const STEP_DOWN: f64 = 0.05;
/// The time from there to the plateau, which is also the plateau's length: at first, and at most,
/// when one refusal after another confirms the plateau.
const RISE_FIRST: Duration = Duration::from_secs(15);
const RISE_MOST: Duration = Duration::from_mins(1);
/// Plateaus that differ by less confirm each other.
const CONFIRMED: f64 = 0.1;
/// Before the second refusal nothing lies between two: the first guess, which may be far too low
/// where the service saves little, grows by so much each second.
const GUESS_GROWTH: f64 = 1.5;
/// After so many accepted requests, or so many guesses, a refusal is measured and not guessed from.
const CREDIBLE: u64 = 10;
const GUESSES: u32 = 3;
/// A refusal never takes the plateau below so much of the last rate: time that the service had
/// everyone wait says less than time in which it answered.
const DROP_MOST: f64 = 0.5;
/// What is accepted in less time is measured as if it were as much: a burst is no rate.
const MEASURED_LEAST: Duration = Duration::from_secs(1);
/// "Lately": counts where it was less than all the time since the last refusal, because the service
/// may have changed its mind in between.
const LATELY: Duration = Duration::from_secs(3);
/// Answers that take longer than this less [`LATELY`] do not count for it.
const KEPT: Duration = Duration::from_secs(15);
/// A rate that is so many times the plateau limits nothing any more, and after such a time without
/// a refusal the service may have become another one.
const FORGOTTEN_ABOVE: f64 = 4.0;
const FORGOTTEN_AFTER: Duration = Duration::from_mins(10);
/// Waits for a service that refuses without saying how long: doubled until it accepts something.
const HOLD_FIRST: Duration = Duration::from_millis(250);
const HOLD_MOST: Duration = Duration::from_secs(30);
/// Who sleeps wakes up a little late.
pub(super) const SLACK: Duration = Duration::from_millis(10);
/// Requests per second that are tried where nothing at all was accepted.
const RATE_LEAST: f64 = 0.2;

/// What is known of the rate that a service allows.
#[derive(Debug, Clone)]
pub struct Learned {
    bucket: Bucket,
    plateau: Option<Plateau>,
    /// When the first request began, or the last that was refused to some effect.
    since: Option<Duration>,
    /// Requests that began after that and were accepted.
    accepted: u64,
    /// When each of the last accepted requests began.
    lately: VecDeque<Duration>,
    trial: Trial,
    /// Holds since something was accepted.
    in_a_row: u32,
    /// Guesses since nothing was known.
    guesses: u32,
}

/// After refusals that do not say how long to wait, or not the truth, one request finds out whether
/// the service accepts some again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    None,
    Due,
    Under { began: Duration },
}

/// What the last refusal taught.
#[derive(Debug, Clone, Copy)]
struct Plateau {
    /// Requests per second.
    rate: f64,
    /// The rates between which it is, because of what was known before; none for the first guess.
    bounds: Option<(f64, f64)>,
    measured: Measured,
    /// When the refusal was heard of: who began before says nothing new.
    refused_at: Duration,
    rise: Duration,
    /// Time since then in which the rate was what limited: without that, it has proved nothing.
    grown: Duration,
    last_began: Duration,
}

/// Between two refusals, or before the first.
#[derive(Debug, Clone, Copy)]
struct Measured {
    from: Duration,
    until: Duration,
    accepted: u64,
}

impl Plateau {
    /// Requests per second.
    fn ceiling(self) -> f64 {
        if self.bounds.is_none() {
            return self.rate * GUESS_GROWTH.powf(self.grown.as_secs_f64());
        }
        let rise = self.rise.as_secs_f64();
        let x = (self.grown.as_secs_f64() - rise) / rise;
        self.rate * (1.0 + STEP_DOWN * x.powi(3))
    }

    /// What is left of the rate at least when the next is refused.
    fn drop_most(self) -> f64 {
        match self.bounds {
            // What a growing guess was a second before was accepted, while most of the time in
            // which that is measured had far less to accept.
            None => 1.0 / GUESS_GROWTH,
            Some(_) => DROP_MOST,
        }
    }

    /// A guess is not forgotten for growing: it has to.
    fn is_over(self, now: Duration) -> bool {
        let is_high = self.bounds.is_some() && self.ceiling() > self.rate * FORGOTTEN_ABOVE;
        is_high || now.saturating_sub(self.refused_at) > FORGOTTEN_AFTER
    }

    fn measure(&mut self, lately: &VecDeque<Duration>) {
        let Measured {
            from,
            until,
            accepted,
        } = self.measured;
        let time = until.saturating_sub(from).max(MEASURED_LEAST);
        let mut rate = real(accepted) / time.as_secs_f64();
        // Not where the pause after the last refusal would count as lately.
        if time >= LATELY * 2 {
            let start = until.saturating_sub(LATELY);
            let count = lately
                .iter()
                .filter(|at| (start..=until).contains::<Duration>(at))
                .count();
            rate = rate.min(real_size(count) / LATELY.as_secs_f64());
        }
        self.rate = self
            .bounds
            .map_or(rate, |(least, most)| rate.clamp(least, most))
            .max(RATE_LEAST);
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
            trial: Trial::None,
            in_a_row: 0,
            guesses: 0,
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

    /// Whether everyone has to wait for how one request ends that is under way.
    #[must_use]
    pub fn is_trying(&self) -> bool {
        matches!(self.trial, Trial::Under { .. })
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
            if plateau.is_over(now) {
                self.plateau = None;
                self.guesses = 0;
            }
        }
        if self.trial == Trial::Due {
            self.trial = Trial::Under { began: now };
        }
        self.follow(now);
        self.bucket.reserve(now, 1);
    }

    /// A request that began at `started` was accepted, whatever else became of it.
    pub fn accepted(&mut self, now: Duration, started: Duration) {
        if self.is_trial(started) {
            self.trial = Trial::None;
        }
        if self.trial == Trial::None {
            self.in_a_row = 0;
        }
        self.lately.push_back(started);
        while let Some(first) = self.lately.front()
            && now.saturating_sub(*first) > KEPT
        {
            self.lately.pop_front();
        }
        match &mut self.plateau {
            Some(plateau) if started <= plateau.measured.until => {
                if started >= plateau.measured.from {
                    plateau.measured.accepted = plateau.measured.accepted.saturating_add(1);
                    plateau.measure(&self.lately);
                    self.follow(now);
                }
            }
            _ => self.accepted = self.accepted.saturating_add(1),
        }
    }

    /// A request that began at `started` was refused because there were too many. Says how long
    /// nobody should begin another at least.
    pub fn refused(&mut self, now: Duration, started: Duration, told: Told) -> Duration {
        let last = self.plateau;
        if last.is_some_and(|last| started < last.refused_at) {
            return Duration::ZERO;
        }
        if self.is_trial(started) {
            // It has ended; where another is needed, the hold asks for it.
            self.trial = Trial::None;
        }
        if let Some(plateau) = &mut self.plateau
            && self.accepted == 0
        {
            // Nothing new: the service still has everyone wait.
            plateau.refused_at = now;
            return self.hold();
        }
        let mut plateau = Plateau {
            rate: RATE_LEAST,
            bounds: last
                .filter(|last| last.bounds.is_some() || !self.is_still_a_guess())
                .map(|last| {
                    let ceiling = last.ceiling();
                    (ceiling * last.drop_most(), ceiling)
                }),
            measured: Measured {
                from: self.since.unwrap_or(started),
                until: started,
                accepted: self.accepted,
            },
            refused_at: now,
            rise: RISE_FIRST,
            grown: Duration::ZERO,
            last_began: now,
        };
        plateau.measure(&self.lately);
        if plateau.bounds.is_none() {
            self.guesses = self.guesses.saturating_add(1);
            let before = last.map_or(0.0, |last| last.ceiling() / GUESS_GROWTH);
            plateau.rate = plateau.rate.max(before);
        }
        if let Some(last) = last
            && last.bounds.is_some()
            && (plateau.rate / last.rate - 1.0).abs() < CONFIRMED
        {
            plateau.rise = last.rise.mul_f64(1.5).min(RISE_MOST);
        }
        self.plateau = Some(plateau);
        self.since = Some(started);
        self.accepted = 0;
        self.follow(now);
        if told == Told::No {
            return self.hold();
        }
        Duration::ZERO
    }

    /// Whether the refusal of a guess says too little to be believed: after few requests it may be an
    /// accident, unless it happens again and again.
    fn is_still_a_guess(&self) -> bool {
        self.accepted < CREDIBLE && self.guesses < GUESSES
    }

    fn hold(&mut self) -> Duration {
        self.trial = Trial::Due;
        let doubled = 2_u32.saturating_pow(self.in_a_row);
        self.in_a_row = self.in_a_row.saturating_add(1);
        HOLD_FIRST.saturating_mul(doubled).min(HOLD_MOST)
    }

    /// A request ended that began at `started` and tells nothing of what is allowed.
    pub fn ended_otherwise(&mut self, started: Duration) {
        if self.is_trial(started) {
            self.trial = Trial::Due;
        }
    }

    fn is_trial(&self, started: Duration) -> bool {
        matches!(self.trial, Trial::Under { began } if started >= began)
    }

    fn follow(&mut self, now: Duration) {
        self.bucket.set_rate(now, self.ceiling().and_then(rate));
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

/// Whether the service says how long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It does.
    Yes,
    /// It leaves it to us.
    No,
}

/// Requests per second as a rate: to a thousandth of a request.
fn rate(per_second: f64) -> Option<Rate> {
    Rate::new(whole(per_second * 1000.0).max(1), Duration::from_secs(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Sends as fast as is learned, to a service that saves nothing and takes `allowed` a second.
    /// Says what rates the refusals came at.
    fn drive(learned: &mut Learned, from: u64, until: u64, allowed: u64) -> Vec<f64> {
        let gap = ms(1000 / allowed);
        let (mut now, mut free_at) = (ms(from), Duration::ZERO);
        let mut refused = Vec::new();
        while now < ms(until) {
            let ready = learned.ready(now);
            let limited = if ready > now {
                Limited::Yes
            } else {
                Limited::No
            };
            now = ready.max(now + ms(1));
            learned.began(now, limited);
            // A little early is early enough for one that comes a little late.
            if now + ms(20) < free_at {
                refused.push(learned.ceiling().unwrap_or(f64::INFINITY));
                now += learned.refused(now, now, Told::No);
            } else {
                free_at = free_at.max(now) + gap;
                learned.accepted(now, now);
            }
        }
        refused
    }

    /// A probe above it may be under way.
    /// The way to a trial that nobody waits for any more: while it is under way, one that began
    /// before it is accepted, and then it is refused by somebody who says how long to wait.
    #[test]
    fn a_trial_that_is_refused_in_whatever_way_is_over() {
        for told in [Told::Yes, Told::No] {
            let mut learned = Learned::new();
            learned.began(ms(0), Limited::No);
            learned.began(ms(10), Limited::No);
            learned.refused(ms(5), ms(0), Told::No);
            learned.began(ms(400), Limited::No);
            assert!(learned.is_trying());
            learned.accepted(ms(410), ms(10));
            learned.refused(ms(420), ms(400), told);
            assert!(!learned.is_trying(), "{told:?}");
        }
    }

    /// A server that restarts, say: what it refused tells nothing of what it allows.
    #[test]
    fn a_few_refusals_by_accident_are_soon_forgotten() {
        let mut learned = Learned::new();
        for at in [0, 100] {
            learned.began(ms(at), Limited::No);
            learned.refused(ms(at + 5), ms(at), Told::Yes);
        }
        drive(&mut learned, 2000, 22_000, 500);
        let ceiling = learned.ceiling().unwrap_or(f64::INFINITY);
        assert!(ceiling > 200.0, "{ceiling}");
    }

    fn near(rate: Option<f64>, expected: f64) -> bool {
        rate.is_some_and(|rate| (rate / expected - 1.0).abs() < 0.3)
    }

    #[test]
    fn nothing_is_limited_before_a_refusal() {
        let mut learned = Learned::new();
        for at in 0..1000 {
            assert_eq!(learned.ready(ms(at)), ms(at));
            learned.began(ms(at), Limited::No);
            learned.accepted(ms(at), ms(at));
        }
        assert_eq!(learned.ceiling(), None);
    }

    #[test]
    fn refusals_teach_the_rate_that_is_allowed() {
        let mut learned = Learned::new();
        drive(&mut learned, 0, 30_000, 20);
        assert!(near(learned.ceiling(), 20.0), "{:?}", learned.ceiling());
        drive(&mut learned, 30_000, 60_000, 10);
        assert!(near(learned.ceiling(), 10.0), "{:?}", learned.ceiling());
    }

    #[test]
    fn once_it_is_known_probing_is_rare_and_gentle() {
        let mut learned = Learned::new();
        drive(&mut learned, 0, 60_000, 20);
        let refused = drive(&mut learned, 60_000, 360_000, 20);
        assert!((1..=15).contains(&refused.len()), "{refused:?}");
        assert!(refused.iter().all(|rate| *rate < 20.0 * 1.3), "{refused:?}");
    }

    #[test]
    fn a_late_answer_corrects_what_was_measured() {
        let mut learned = Learned::new();
        for _ in 0..64 {
            learned.began(ms(0), Limited::No);
        }
        learned.refused(ms(50), ms(0), Told::Yes);
        let before = learned.ceiling();
        for _ in 0..20 {
            learned.accepted(ms(100), ms(0));
        }
        assert_eq!(before, Some(RATE_LEAST));
        assert_eq!(learned.ceiling(), Some(20.0));
    }

    #[test]
    fn who_began_before_the_refusal_was_heard_of_says_nothing_new() {
        let mut learned = Learned::new();
        drive(&mut learned, 0, 10_000, 20);
        learned.refused(ms(10_010), ms(10_000), Told::Yes);
        let known = learned.ceiling();
        for _ in 0..30 {
            assert_eq!(learned.refused(ms(10_020), ms(10_005), Told::Yes), ms(0));
        }
        assert_eq!(learned.ceiling(), known);
    }

    #[test]
    fn while_nothing_is_accepted_one_request_tries_and_holds_double() {
        let mut learned = Learned::new();
        learned.began(ms(0), Limited::No);
        learned.accepted(ms(100), ms(0));
        let mut now = ms(200);
        learned.began(now, Limited::No);
        let mut holds = Vec::new();
        for _ in 0..9 {
            let hold = learned.refused(now, now, Told::No);
            holds.push(hold.as_millis());
            now += hold + ms(1);
            assert!(!learned.is_trying());
            learned.began(now, Limited::Yes);
            assert!(learned.is_trying());
        }
        assert_eq!(
            holds,
            [250, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]
        );
        learned.ended_otherwise(now);
        assert!(!learned.is_trying());
        learned.began(now + ms(1), Limited::Yes);
        learned.accepted(now + ms(2), now + ms(1));
        assert!(!learned.is_trying());
        assert_eq!(learned.refused(now + ms(9), now + ms(9), Told::No), ms(250));
    }

    #[test]
    fn a_rate_without_a_refusal_for_ten_minutes_is_forgotten() {
        let mut learned = Learned::new();
        drive(&mut learned, 0, 10_000, 20);
        assert!(learned.ceiling().is_some());
        let later = ms(10_000) + FORGOTTEN_AFTER + ms(1);
        learned.began(later, Limited::No);
        assert_eq!(learned.ceiling(), None);
        assert_eq!(learned.ready(later), later);
    }
}
