//! A budget of requests or bytes: a token bucket, kept as the generic cell rate algorithm (GCRA,
//! ITU-T I.371 annex A) keeps it: as one point in time, in whole numbers, so that nothing drifts.

use std::time::Duration;

use crate::model::Rate;

/// Units that may go at a rate, and a burst of them after a time in which none did.
///
/// Over any time, at most `rate × time + burst` units go, with the slack added to the time.
#[derive(Debug, Clone)]
pub struct Bucket {
    limit: Option<Limit>,
    burst: u64,
    slack_ns: u128,
    /// When the reserved units may go that may go last.
    last_ns: u128,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    units: u128,
    period_ns: u128,
    /// When the bucket is full again, in nanoseconds times `units`: a unit moves it by
    /// `period_ns`, which is why no fraction is ever lost.
    full: u128,
}

impl Limit {
    fn new(rate: Rate) -> Self {
        Self {
            units: u128::from(rate.units()),
            period_ns: rate.period().as_nanos(),
            full: 0,
        }
    }
}

impl Bucket {
    /// A full bucket. A burst of nothing is one of one unit: without it nothing could go.
    #[must_use]
    pub fn new(rate: Option<Rate>, burst: u64) -> Self {
        Self {
            limit: rate.map(Limit::new),
            burst: burst.max(1),
            slack_ns: 0,
            last_ns: 0,
        }
    }

    /// Lets units go so much earlier than the rate has it, so that who sleeps until then and wakes
    /// up a little late has lost nothing.
    #[must_use]
    pub fn with_slack(self, slack: Duration) -> Self {
        Self {
            slack_ns: slack.as_nanos(),
            ..self
        }
    }

    /// When so many units may go that are asked for now. More units than the burst go as soon as
    /// the bucket would have had them all, had it been large enough.
    #[must_use]
    pub fn ready(&self, now: Duration, units: u64) -> Duration {
        from_ns(self.place(now, units).0)
    }

    /// Reserves units: says when they may go. What is reserved later goes later.
    pub fn reserve(&mut self, now: Duration, units: u64) -> Duration {
        let (go, full) = self.place(now, units);
        if let Some(limit) = &mut self.limit {
            limit.full = full;
        }
        self.last_ns = go;
        from_ns(go)
    }

    /// Changes the rate. What is reserved goes when it was said to.
    pub fn set_rate(&mut self, now: Duration, rate: Option<Rate>) {
        let now_ns = now.as_nanos();
        let mut limit = rate.map(Limit::new);
        if let Some(new) = &mut limit {
            let is_ahead = self.last_ns > now_ns;
            new.full = if is_ahead {
                // Nothing is left at the moment when the last of it goes.
                let last = self.last_ns.saturating_mul(new.units);
                last.saturating_add(self.depth(*new))
            } else {
                // As many units are missing as before.
                let missing = self.limit.map_or(0, |old| {
                    let debt = old.full.saturating_sub(now_ns.saturating_mul(old.units));
                    debt.saturating_mul(new.period_ns).div_ceil(old.period_ns)
                });
                now_ns.saturating_mul(new.units).saturating_add(missing)
            };
        }
        self.limit = limit;
    }

    /// When units may go, and when the bucket is full after that.
    fn place(&self, now: Duration, units: u64) -> (u128, u128) {
        let earliest = now.as_nanos().max(self.last_ns);
        let Some(limit) = self.limit else {
            return (earliest, 0);
        };
        let start = limit.full.max(now.as_nanos().saturating_mul(limit.units));
        let full = start.saturating_add(u128::from(units).saturating_mul(limit.period_ns));
        let go = full.saturating_sub(self.depth(limit)).div_ceil(limit.units);
        (go.max(earliest), full)
    }

    /// How far ahead of now the bucket may be from full, in nanoseconds times units.
    fn depth(&self, limit: Limit) -> u128 {
        let burst = u128::from(self.burst).saturating_mul(limit.period_ns);
        burst.saturating_add(self.slack_ns.saturating_mul(limit.units))
    }
}

fn from_ns(ns: u128) -> Duration {
    Duration::from_nanos_u128(ns.min(u128::from(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn per_second(units: u64) -> Option<Rate> {
        Rate::new(units, Duration::from_secs(1))
    }

    #[test]
    fn units_go_at_the_rate_after_the_burst() {
        let mut bucket = Bucket::new(per_second(10), 3);
        let times: Vec<u128> = (0..6)
            .map(|_| bucket.reserve(ms(0), 1).as_millis())
            .collect();
        assert_eq!(times, [0, 0, 0, 100, 200, 300]);
        assert_eq!(bucket.ready(ms(0), 2), ms(500));
        assert_eq!(bucket.reserve(ms(350), 1), ms(400));
    }

    #[test]
    fn a_long_rest_saves_no_more_than_the_burst() {
        let mut bucket = Bucket::new(per_second(10), 2);
        let hour = Duration::from_hours(1);
        let times = [(); 4].map(|()| bucket.reserve(hour, 1).saturating_sub(hour));
        assert_eq!(times, [ms(0), ms(0), ms(100), ms(200)]);
    }

    #[test]
    fn a_rate_that_no_nanosecond_divides_does_not_drift() {
        let mut bucket = Bucket::new(per_second(7), 1);
        let last = (0..=7_000_000).map(|_| bucket.reserve(ms(0), 1)).last();
        assert_eq!(last, Some(Duration::from_secs(1_000_000)));
    }

    #[test]
    fn more_than_the_burst_waits_for_the_rest_of_it() {
        let mut bucket = Bucket::new(per_second(100), 10);
        assert_eq!(bucket.reserve(ms(0), 60), ms(500));
        assert_eq!(bucket.reserve(ms(0), 10), ms(600));
    }

    #[test]
    fn a_new_rate_holds_from_the_last_reserved_unit_on() {
        let mut bucket = Bucket::new(per_second(10), 1);
        let times = [(); 3].map(|()| bucket.reserve(ms(0), 1));
        assert_eq!(times, [ms(0), ms(100), ms(200)]);
        bucket.set_rate(ms(50), per_second(2));
        assert_eq!(bucket.reserve(ms(50), 1), ms(700));
        bucket.set_rate(ms(60), per_second(1000));
        assert_eq!(bucket.reserve(ms(60), 1), ms(701));
        bucket.set_rate(ms(60), None);
        assert_eq!(bucket.reserve(ms(60), 1_000_000), ms(701));
        assert_eq!(bucket.reserve(ms(800), 1), ms(800));
        bucket.set_rate(ms(900), per_second(1));
        assert_eq!(bucket.reserve(ms(900), 1), ms(900));
        assert_eq!(bucket.reserve(ms(900), 1), ms(1900));
    }

    #[test]
    fn changing_the_rate_gives_nothing_away() {
        let mut bucket = Bucket::new(per_second(10), 5);
        for _ in 0..5 {
            assert_eq!(bucket.reserve(ms(0), 1), ms(0));
        }
        for step in 0..10 {
            bucket.set_rate(ms(step), per_second(10 + step));
        }
        assert!(bucket.ready(ms(10), 1) > ms(50));
    }

    #[test]
    fn slack_makes_up_for_waking_late() {
        let mut bucket = Bucket::new(per_second(100), 1).with_slack(ms(5));
        let mut now = ms(0);
        for _ in 0..1000 {
            now = bucket.reserve(now, 1) + ms(4);
        }
        assert!(now < Duration::from_secs(10), "{now:?}");
    }

    #[test]
    fn absurd_numbers_do_not_overflow() {
        let mut bucket = Bucket::new(Rate::new(u64::MAX, Duration::MAX), u64::MAX);
        bucket.reserve(Duration::MAX, u64::MAX);
        bucket.set_rate(Duration::MAX, Rate::new(1, Duration::MAX));
        bucket.reserve(Duration::ZERO, u64::MAX);
    }

    /// Tokens that trickle in one by one, in whole steps of time: what GCRA is short for.
    struct Naive {
        tokens: u128,
        at_ns: u128,
    }

    /// Everything in parts of a token of a nanosecond: `period` of them make one token.
    fn naive(bucket: &mut Naive, now: u128, units: u64, rate: Rate, burst: u64) -> u128 {
        let (per_ns, token) = (u128::from(rate.units()), rate.period().as_nanos());
        let gained = now.saturating_sub(bucket.at_ns) * per_ns;
        bucket.tokens = (bucket.tokens + gained).min(u128::from(burst) * token);
        bucket.at_ns = bucket.at_ns.max(now);
        let short = (u128::from(units) * token).saturating_sub(bucket.tokens);
        let wait = short.div_ceil(per_ns);
        bucket.tokens = bucket.tokens + wait * per_ns - u128::from(units) * token;
        bucket.at_ns += wait;
        bucket.at_ns
    }

    proptest! {
        #[test]
        fn units_go_when_a_naive_bucket_has_them(
            rate in 1_u64..2_000,
            period in 1_u64..100_000,
            burst in 1_u64..50,
            asks in proptest::collection::vec((0_u64..3_000_000, 1_u64..60), 1..80),
        ) {
            let rate = Rate::new(rate, Duration::from_micros(period)).expect("a rate");
            let mut bucket = Bucket::new(Some(rate), burst);
            let mut model = Naive {
                tokens: u128::from(burst) * rate.period().as_nanos(),
                at_ns: 0,
            };
            let mut now = 0;
            for (step, units) in asks {
                now += step;
                let go = bucket.reserve(Duration::from_nanos(now), units);
                let expected = naive(&mut model, u128::from(now), units, rate, burst);
                let early = expected.saturating_sub(go.as_nanos());
                let late = go.as_nanos().saturating_sub(expected);
                // The model rounds each wait up to a nanosecond and keeps what that brings.
                prop_assert!(late == 0 && early <= 1, "{go:?} instead of {expected} ns");
            }
        }

        #[test]
        fn no_time_sees_more_than_its_share_and_a_burst(
            rate in 1_u64..2_000,
            burst in 1_u64..50,
            slack_us in 0_u64..20_000,
            asks in proptest::collection::vec((0_u64..30_000_000, 1_u64..50), 1..60),
        ) {
            let limit = Rate::new(rate, Duration::from_secs(1));
            let slack = Duration::from_micros(slack_us);
            let mut bucket = Bucket::new(limit, burst).with_slack(slack);
            let mut now = 0;
            let mut gone = Vec::new();
            for (step, units) in asks {
                now += step;
                let units = units.min(burst);
                let go = bucket.reserve(Duration::from_nanos(now), units);
                prop_assert!(go >= Duration::from_nanos(now));
                gone.push((go, units));
            }
            for (index, (start, _)) in gone.iter().enumerate() {
                let mut sum = 0;
                for (end, units) in &gone[index..] {
                    sum += u128::from(*units);
                    let time = (end.saturating_sub(*start) + slack).as_nanos() + 1;
                    let share = time * u128::from(rate) + u128::from(burst) * 1_000_000_000;
                    prop_assert!(sum * 1_000_000_000 <= share, "{sum} in {time} ns");
                }
            }
        }

        #[test]
        fn nobody_waits_longer_than_the_rate_has_it(
            rate in 1_u64..2_000,
            burst in 1_u64..50,
            asks in proptest::collection::vec(1_u64..60, 1..60),
        ) {
            let mut bucket = Bucket::new(per_second(rate), burst);
            let total: u64 = asks.iter().sum();
            let last = asks.iter().map(|units| bucket.reserve(ms(0), *units)).last();
            let most = (u128::from(total) * 1_000_000_000).div_ceil(u128::from(rate));
            prop_assert!(last.expect("some").as_nanos() <= most);
        }
    }
}
