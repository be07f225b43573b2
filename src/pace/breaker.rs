//! A circuit breaker: while the service fails everyone, nobody begins anything; a cheap request and
//! then one upload find out whether it is back (Nygard, "Release It!", chapter 5).

use std::time::Duration;

use super::Backoff;

/// What an answer, or none, says of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It answered sensibly. Refusing a file (4xx) or a rate (429) is sensible too.
    Good,
    /// It is broken or cannot be reached: 5xx, a lost connection, a stall.
    Failing,
}

/// What somebody who wants to begin an upload is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Begin.
    Open,
    /// Ask again at this time of the run.
    WaitUntil(Duration),
    /// Find out with a cheap request whether the service is back ([`Breaker::probe_begun`],
    /// [`Breaker::probe_result`]).
    Probe,
    /// Begin: the only one who may ([`Breaker::began`]).
    OneTrial,
    /// Ask again when the probe or trial that is under way has ended.
    Busy,
    /// Nobody needs to try any more.
    GiveUp,
}

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row, whosever they are, until it opens; or half of what is under way, where
    /// that is more: what fails, often fails faster than the rest succeeds.
    pub threshold: u32,
    /// How long it stays open the first time, and at most. Between half of it and all of it is
    /// waited.
    pub pauses: Backoff,
    /// For how long the service has to fail everyone to be given up.
    pub give_up: Duration,
}

impl Default for BreakerSettings {
    /// Four failures in a row: one less than the attempts that a file has unless told otherwise, so
    /// that a file sent all alone does not spend them all on an outage.
    fn default() -> Self {
        Self {
            threshold: 4,
            pauses: Backoff {
                first: Duration::from_secs(1),
                most: Duration::from_mins(1),
            },
            give_up: Duration::from_mins(15),
        }
    }
}

/// Watches over the health of the service.
#[derive(Debug, Clone)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Failures in a row while closed.
    failures: u32,
    /// The first of the failures since the last upload that went well.
    failing_since: Option<Duration>,
    /// How often in a row it opened.
    openings: u32,
    /// Uploads that were under way when the last began.
    under_way: usize,
    /// When it last opened: what began before says nothing new when it fails.
    opened_at: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    Probing,
    HalfOpen,
    Trial { began: Duration },
    GaveUp,
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Self {
        Self {
            settings,
            state: State::Closed,
            failures: 0,
            failing_since: None,
            openings: 0,
            under_way: 0,
            opened_at: None,
        }
    }

    /// Whether somebody may begin now.
    #[must_use]
    pub fn gate(&self, now: Duration) -> Gate {
        match self.state {
            State::Closed => Gate::Open,
            State::Open { until } if until > now => Gate::WaitUntil(until),
            State::Open { .. } => Gate::Probe,
            State::HalfOpen => Gate::OneTrial,
            State::Probing | State::Trial { .. } => Gate::Busy,
            State::GaveUp => Gate::GiveUp,
        }
    }

    /// An upload began; `in_flight` are under way with it.
    pub fn began(&mut self, now: Duration, in_flight: usize) {
        self.under_way = in_flight;
        if self.state == State::HalfOpen {
            self.state = State::Trial { began: now };
        }
    }

    /// Somebody took it on to probe.
    pub fn probe_begun(&mut self) {
        if matches!(self.state, State::Open { .. }) {
            self.state = State::Probing;
        }
    }

    /// How the probe ended. `chance` is uniform in 0..1.
    pub fn probe_result(&mut self, now: Duration, health: Health, chance: f64) {
        if !matches!(self.state, State::Open { .. } | State::Probing) {
            return;
        }
        match health {
            Health::Good => self.state = State::HalfOpen,
            Health::Failing => self.open(now, chance),
        }
    }

    /// An upload ended that began at `began`. `chance` is uniform in 0..1.
    pub fn ended(&mut self, now: Duration, began: Duration, health: Health, chance: f64) {
        match health {
            Health::Good => self.went_well(began),
            Health::Failing => self.failed(now, began, chance),
        }
    }

    /// An upload ended that says nothing of the service: it was not sent.
    pub fn withdrawn(&mut self, began: Duration) {
        if self.is_trial(began) {
            self.state = State::HalfOpen;
        }
    }

    fn went_well(&mut self, began: Duration) {
        self.failing_since = None;
        self.failures = 0;
        match self.state {
            State::Trial { .. } if self.is_trial(began) => {
                self.state = State::Closed;
                self.openings = 0;
            }
            // One that had begun before: as good as a probe.
            State::Open { .. } => self.state = State::HalfOpen,
            _ => {}
        }
    }

    fn failed(&mut self, now: Duration, began: Duration, chance: f64) {
        if self.opened_at.is_some_and(|opened| began < opened) {
            return;
        }
        match self.state {
            State::Closed => {
                self.failing_since.get_or_insert(now);
                self.failures = self.failures.saturating_add(1);
                let crowd = u32::try_from(self.under_way / 2).unwrap_or(u32::MAX);
                if self.failures >= self.settings.threshold.max(crowd) {
                    self.open(now, chance);
                }
            }
            State::Trial { .. } if self.is_trial(began) => self.open(now, chance),
            _ => {}
        }
    }

    /// Nobody but the trial begins from when it may, so what began since is the trial.
    fn is_trial(&self, began: Duration) -> bool {
        matches!(self.state, State::Trial { began: trial } if began >= trial)
    }

    fn open(&mut self, now: Duration, chance: f64) {
        let since = *self.failing_since.get_or_insert(now);
        let end = since.saturating_add(self.settings.give_up);
        self.failures = 0;
        self.opened_at = Some(now);
        self.openings = self.openings.saturating_add(1);
        let pause = self.settings.pauses.wait(self.openings, 0.5 + chance / 2.0);
        let until = now.saturating_add(pause);
        self.state = if self.openings == 1 {
            // Slow failures alone may have taken that long.
            State::Open { until }
        } else if now >= end {
            State::GaveUp
        } else {
            // A last probe is made before it is given up.
            State::Open {
                until: until.min(end),
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn breaker() -> Breaker {
        Breaker::new(BreakerSettings {
            threshold: 3,
            ..BreakerSettings::default()
        })
    }

    /// One that opened at 10 s.
    fn opened() -> Breaker {
        let mut breaker = breaker();
        for _ in 0..3 {
            assert_eq!(breaker.gate(s(10)), Gate::Open);
            breaker.ended(s(10), s(9), Health::Failing, 1.0);
        }
        breaker
    }

    #[test]
    fn slow_failures_alone_never_give_the_service_up() {
        let mut breaker = breaker();
        for minute in [0, 10, 20] {
            breaker.ended(s(60 * minute + 1), s(60 * minute), Health::Failing, 1.0);
        }
        assert_eq!(breaker.gate(s(1201)), Gate::WaitUntil(s(1202)));
        assert_eq!(breaker.gate(s(1202)), Gate::Probe);
        breaker.probe_begun();
        breaker.probe_result(s(1203), Health::Failing, 1.0);
        assert_eq!(breaker.gate(s(1203)), Gate::GiveUp);
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_not_after_others() {
        let mut breaker = breaker();
        for _ in 0..10 {
            breaker.ended(s(1), s(0), Health::Failing, 1.0);
            breaker.ended(s(1), s(0), Health::Failing, 1.0);
            breaker.ended(s(1), s(0), Health::Good, 1.0);
        }
        assert_eq!(breaker.gate(s(1)), Gate::Open);
        assert_eq!(opened().gate(s(10)), Gate::WaitUntil(s(11)));
    }

    #[test]
    fn of_many_half_have_to_fail_before_any_succeeds() {
        let mut breaker = breaker();
        breaker.began(s(9), 64);
        for _ in 0..31 {
            breaker.ended(s(10), s(9), Health::Failing, 1.0);
        }
        assert_eq!(breaker.gate(s(10)), Gate::Open);
        breaker.ended(s(10), s(9), Health::Failing, 1.0);
        assert_eq!(breaker.gate(s(10)), Gate::WaitUntil(s(11)));
    }

    #[test]
    fn a_probe_a_trial_and_it_is_closed() {
        let mut breaker = opened();
        assert_eq!(breaker.gate(s(11)), Gate::Probe);
        breaker.probe_begun();
        assert_eq!(breaker.gate(s(11)), Gate::Busy);
        breaker.probe_result(s(12), Health::Good, 1.0);
        assert_eq!(breaker.gate(s(12)), Gate::OneTrial);
        breaker.began(s(12), 1);
        assert_eq!(breaker.gate(s(12)), Gate::Busy);
        breaker.ended(s(13), s(12), Health::Good, 1.0);
        assert_eq!(breaker.gate(s(13)), Gate::Open);
    }

    #[test]
    fn pauses_double_up_to_a_minute_with_half_of_them_left_to_chance() {
        let mut breaker = opened();
        let mut pauses = Vec::new();
        let mut now = s(10);
        while let Gate::WaitUntil(until) = breaker.gate(now) {
            pauses.push(until.saturating_sub(now).as_secs());
            now = until;
            breaker.probe_result(now, Health::Failing, 1.0);
            if pauses.len() == 9 {
                break;
            }
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let mut breaker = opened();
        breaker.probe_result(s(11), Health::Failing, 0.0);
        assert_eq!(breaker.gate(s(11)), Gate::WaitUntil(s(12)));
    }

    #[test]
    fn a_failed_trial_opens_again_for_longer() {
        let mut breaker = opened();
        breaker.probe_result(s(11), Health::Good, 1.0);
        breaker.began(s(11), 1);
        breaker.ended(s(12), s(11), Health::Failing, 1.0);
        assert_eq!(breaker.gate(s(12)), Gate::WaitUntil(s(14)));
    }

    #[test]
    fn what_began_before_it_opened_fails_without_a_word() {
        let mut breaker = opened();
        for _ in 0..50 {
            breaker.ended(s(11), s(9), Health::Failing, 1.0);
        }
        assert_eq!(breaker.gate(s(11)), Gate::Probe);
        breaker.probe_result(s(11), Health::Good, 1.0);
        breaker.began(s(11), 1);
        breaker.ended(s(12), s(9), Health::Failing, 1.0);
        assert_eq!(breaker.gate(s(12)), Gate::Busy);
        breaker.ended(s(12), s(11), Health::Good, 1.0);
        for _ in 0..50 {
            breaker.ended(s(13), s(9), Health::Failing, 1.0);
        }
        assert_eq!(breaker.gate(s(13)), Gate::Open);
    }

    #[test]
    fn a_late_success_saves_the_probe() {
        let mut breaker = opened();
        breaker.ended(s(10), s(1), Health::Good, 1.0);
        assert_eq!(breaker.gate(s(10)), Gate::OneTrial);
    }

    #[test]
    fn a_trial_that_was_not_sent_is_taken_by_the_next() {
        let mut breaker = opened();
        breaker.probe_result(s(11), Health::Good, 1.0);
        breaker.began(s(11), 1);
        breaker.withdrawn(s(9));
        assert_eq!(breaker.gate(s(11)), Gate::Busy);
        breaker.withdrawn(s(11));
        assert_eq!(breaker.gate(s(11)), Gate::OneTrial);
    }

    #[test]
    fn it_gives_up_after_a_last_probe_when_everyone_failed_for_long_enough() {
        let mut breaker = opened();
        let mut now = s(10);
        while let Gate::WaitUntil(until) = breaker.gate(now) {
            now = until;
            assert_eq!(breaker.gate(now), Gate::Probe);
            breaker.probe_result(now, Health::Failing, 1.0);
        }
        assert_eq!(breaker.gate(now), Gate::GiveUp);
        assert_eq!(now, s(10 + 900));
        breaker.ended(now, now, Health::Good, 1.0);
        assert_eq!(breaker.gate(now), Gate::GiveUp);
    }
}
