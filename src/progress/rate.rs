//! How fast something goes, smoothed; the time is handed in.

use std::time::Duration;

/// What happened so long ago counts a third of what happens now.
const MEMORY: Duration = Duration::from_secs(15);

/// Looks closer together than this are one: what came between two of them is chance.
const LEAST: Duration = Duration::from_millis(50);

/// Before it has been watched for so long, nothing is said of it.
const WATCHED: Duration = Duration::from_millis(900);

/// An amount by the second, as an average in which the past fades.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Rate {
    seen: Option<(Duration, u64)>,
    average: f64,
    /// How much of the average is there: less than one while the past is shorter than the memory.
    weight: f64,
    watched: Duration,
}

impl Rate {
    /// Notes how far it has come. Going back, as when a file is sent again, is no progress and
    /// takes none away.
    pub(super) fn look(&mut self, now: Duration, position: u64) {
        let Some((before, from)) = self.seen else {
            self.seen = Some((now, position));
            return;
        };
        let passed = now.saturating_sub(before);
        if passed < LEAST {
            return;
        }
        self.seen = Some((now, position));
        self.watched += passed;
        let speed = amount(position.saturating_sub(from)) / passed.as_secs_f64();
        let share = 1.0 - (-passed.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.average += share * (speed - self.average);
        self.weight += share * (1.0 - self.weight);
    }

    /// Notes where it stands after a time that says nothing of its speed, such as a pause.
    pub(super) fn skip(&mut self, now: Duration, position: u64) {
        self.seen = Some((now, position));
    }

    /// So much a second; none while too little is known.
    pub(super) fn a_second(&self) -> Option<f64> {
        (self.watched >= WATCHED && self.weight > 0.0).then(|| self.average / self.weight)
    }

    /// How long so much takes; none while too little is known, or where nothing moves.
    pub(super) fn time_for(&self, left: u64) -> Option<Duration> {
        let speed = self.a_second().filter(|speed| *speed > 0.0)?;
        Duration::try_from_secs_f64(amount(left) / speed).ok()
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a speed and a time to come need no more than f64 holds"
)]
fn amount(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steady(rate: &mut Rate, from: u64, seconds: u64, speed: u64) {
        for second in from..=from + seconds {
            rate.look(Duration::from_secs(second), (second - from) * speed);
        }
    }

    fn rounded(rate: Rate) -> Option<f64> {
        rate.a_second().map(f64::round)
    }

    #[test]
    fn a_steady_speed_is_found_at_once_and_stays() {
        let mut rate = Rate::default();
        assert_eq!(rate.a_second(), None);
        steady(&mut rate, 0, 1, 100);
        assert_eq!(rounded(rate), Some(100.0));
        steady(&mut rate, 1, 100, 100);
        assert_eq!(rounded(rate), Some(100.0));
        assert_eq!(
            rate.time_for(1000).map(|t| t.as_secs_f64().round()),
            Some(10.0)
        );
    }

    #[test]
    fn a_change_is_followed_but_not_at_once() {
        let mut rate = Rate::default();
        let mut position = 0;
        for second in 0..60 {
            position += 100;
            rate.look(Duration::from_secs(second), position);
        }
        position += 1000;
        rate.look(Duration::from_mins(1), position);
        let after_one = rate.a_second().expect("known");
        assert!((120.0..300.0).contains(&after_one), "{after_one}");
        for second in 61..160 {
            position += 1000;
            rate.look(Duration::from_secs(second), position);
        }
        assert_eq!(rounded(rate), Some(999.0));
    }

    #[test]
    fn what_stands_still_has_no_end_in_sight() {
        let mut rate = Rate::default();
        steady(&mut rate, 0, 10, 0);
        assert_eq!(rate.a_second(), Some(0.0));
        assert_eq!(rate.time_for(10), None);
    }

    #[test]
    fn going_back_is_not_less_than_nothing() {
        let mut rate = Rate::default();
        rate.look(Duration::from_secs(0), 1000);
        rate.look(Duration::from_secs(1), 200);
        assert_eq!(rate.a_second(), Some(0.0));
        rate.look(Duration::from_secs(2), 400);
        assert!(rate.a_second().expect("known") > 90.0);
    }

    #[test]
    fn a_pause_leaves_the_speed_as_it_was() {
        let mut rate = Rate::default();
        steady(&mut rate, 0, 10, 100);
        let before = rate.a_second();
        rate.skip(Duration::from_secs(500), 1000);
        assert_eq!(rate.a_second(), before);
        rate.look(Duration::from_secs(501), 1100);
        assert_eq!(rounded(rate), Some(100.0));
    }

    #[test]
    fn looks_that_lie_too_close_together_say_nothing() {
        let mut rate = Rate::default();
        steady(&mut rate, 0, 10, 100);
        let before = rate;
        rate.look(Duration::from_millis(10_001), 5000);
        assert_eq!(rate, before);
    }
}
