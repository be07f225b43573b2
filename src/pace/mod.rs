//! When to try again: pure. What waits, waits elsewhere; time and chance are handed in.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::RetryAfter;

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

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff {
        first: Duration::from_millis(500),
        most: Duration::from_secs(30),
    };

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
