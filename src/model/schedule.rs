//! What holds at which time of the day.

use std::fmt;
use std::time::Duration;

use jiff::civil::Time;

use super::shown_bounded;

const DAY_MINUTES: u16 = 24 * 60;
const DAY: Duration = Duration::from_hours(24);

/// A part of every day, to the minute: from its start up to its end, which is no part of it. Where
/// the end is not after the start, it goes on over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeRange {
    /// Minutes since midnight, less than a day.
    start: u16,
    /// Minutes since midnight, up to a whole day.
    end: u16,
}

impl TimeRange {
    /// Reads `08:00-18:00`, or `22:00-06:00` over midnight; the end can be `24:00`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let said = shown_bounded(text);
        let Some((start, end)) = text.split_once('-') else {
            return Err(format!(
                "`{said}` is no range of the day: write it as `08:00-18:00`"
            ));
        };
        let minutes = |text: &str| {
            minutes(text.trim()).ok_or_else(|| {
                format!(
                    "`{}` in `{said}` is no time of the day: write it as `08:00`",
                    shown_bounded(text.trim())
                )
            })
        };
        let range = Self {
            start: minutes(start)?,
            end: minutes(end)?,
        };
        if range.start == DAY_MINUTES {
            return Err(format!(
                "`{said}` starts where the day ends: write `00:00` for its start"
            ));
        }
        if range.start == range.end {
            return Err(format!(
                "`{said}` ends where it starts: the whole day is `00:00-24:00`"
            ));
        }
        Ok(range)
    }

    /// Whether a time is in it.
    #[must_use]
    pub fn contains(self, time: Time) -> bool {
        self.has_minute(minute_of(time))
    }

    fn has_minute(self, minute: u16) -> bool {
        if self.start < self.end {
            (self.start..self.end).contains(&minute)
        } else {
            minute >= self.start || minute < self.end
        }
    }

    /// Two ranges have a time in common exactly where one of them starts in the other.
    fn overlaps(self, other: Self) -> bool {
        self.has_minute(other.start) || other.has_minute(self.start)
    }
}

impl fmt::Display for TimeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [start, end] = [self.start, self.end].map(|minutes| (minutes / 60, minutes % 60));
        write!(f, "{:02}:{:02}-{:02}:{:02}", start.0, start.1, end.0, end.1)
    }
}

/// Minutes since midnight of `08:00`, up to `24:00`.
fn minutes(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two_digits = |part: &str| {
        let is_two = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        is_two.then(|| part.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY_MINUTES).then_some(all)
}

fn minute_of(time: Time) -> u16 {
    let part = |value: i8| u16::try_from(value).unwrap_or(0);
    part(time.hour()) * 60 + part(time.minute())
}

/// Since midnight.
fn time_of_day(time: Time) -> Duration {
    let part = |value: i8| u64::try_from(value).unwrap_or(0);
    Duration::from_mins(part(time.hour()) * 60 + part(time.minute()))
        + Duration::from_secs(part(time.second()))
        + Duration::from_nanos(u64::try_from(time.subsec_nanosecond()).unwrap_or(0))
}

/// A value for each time of the day: one at all times, or others in ranges that do not overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule<T> {
    otherwise: T,
    ranges: Vec<(TimeRange, T)>,
}

impl<T: Copy> Schedule<T> {
    /// The same value at all times.
    #[must_use]
    pub fn always(value: T) -> Self {
        Self {
            otherwise: value,
            ranges: Vec::new(),
        }
    }

    /// Values in ranges of the day, and one otherwise.
    ///
    /// # Errors
    ///
    /// Names two ranges that overlap, where some do.
    pub fn new(otherwise: T, ranges: Vec<(TimeRange, T)>) -> Result<Self, String> {
        for (index, (range, _)) in ranges.iter().enumerate() {
            for (other, _) in &ranges[..index] {
                if range.overlaps(*other) {
                    return Err(format!(
                        "`{other}` and `{range}` overlap: what is to hold where both do?"
                    ));
                }
            }
        }
        Ok(Self { otherwise, ranges })
    }

    /// What holds at a time.
    #[must_use]
    pub fn at(&self, time: Time) -> T {
        let range = self.ranges.iter().find(|(range, _)| range.contains(time));
        range.map_or(self.otherwise, |(_, value)| *value)
    }

    /// All values that hold at some time.
    pub fn values(&self) -> impl Iterator<Item = T> {
        let ranges = self.ranges.iter().map(|(_, value)| *value);
        std::iter::once(self.otherwise).chain(ranges)
    }

    /// Whether the value is not the same at all times.
    #[must_use]
    pub fn follows_the_day(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// How long from a time on the value is sure to stay the same, as long as no clock is set and
    /// summer time neither begins nor ends; none where it is the same at all times.
    #[must_use]
    pub fn next_change(&self, time: Time) -> Option<Duration> {
        let now = time_of_day(time);
        let ends = self.ranges.iter().flat_map(|(r, _)| [r.start, r.end]);
        ends.map(|minute| {
            let edge = Duration::from_mins(u64::from(minute % DAY_MINUTES));
            let edge = if edge > now { edge } else { edge + DAY };
            edge.saturating_sub(now)
        })
        .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::time;
    use proptest::prelude::*;
    use snapbox::IntoData;

    fn range(text: &str) -> TimeRange {
        TimeRange::parse(text).expect(text)
    }

    #[test]
    fn a_range_has_its_start_and_not_its_end_and_may_go_over_midnight() {
        let day = range("08:00-18:00");
        assert!(day.contains(time(8, 0, 0, 0)) && day.contains(time(17, 59, 59, 999_999_999)));
        assert!(!day.contains(time(7, 59, 59, 0)) && !day.contains(time(18, 0, 0, 0)));
        let night = range("22:00-06:00");
        assert!(night.contains(time(23, 0, 0, 0)) && night.contains(time(0, 0, 0, 0)));
        assert!(!night.contains(time(6, 0, 0, 0)) && !night.contains(time(21, 59, 0, 0)));
        for whole in ["22:00-24:00", "22:00-00:00"] {
            assert!(range(whole).contains(time(23, 59, 59, 0)), "{whole}");
            assert!(!range(whole).contains(time(0, 0, 0, 0)), "{whole}");
        }
    }

    #[test]
    fn a_range_that_is_none_says_what_to_write() {
        let texts = [
            "8-18",
            "08:00",
            "8:00-18:00",
            "08:60-18:00",
            "08:00-24:01",
            "24:00-08:00",
            "09:00-09:00",
            "+8:00-18:00",
            "",
        ];
        let errors: Vec<String> = texts
            .into_iter()
            .map(|text| TimeRange::parse(text).expect_err(text))
            .collect();
        snapbox::assert_data_eq!(
            errors.join("\n"),
            snapbox::str![[r"
`8` in `8-18` is no time of the day: write it as `08:00`
`08:00` is no range of the day: write it as `08:00-18:00`
`8:00` in `8:00-18:00` is no time of the day: write it as `08:00`
`08:60` in `08:60-18:00` is no time of the day: write it as `08:00`
`24:01` in `08:00-24:01` is no time of the day: write it as `08:00`
`24:00-08:00` starts where the day ends: write `00:00` for its start
`09:00-09:00` ends where it starts: the whole day is `00:00-24:00`
`+8:00` in `+8:00-18:00` is no time of the day: write it as `08:00`
`` is no range of the day: write it as `08:00-18:00`
"]]
            .raw()
        );
    }

    #[test]
    fn ranges_may_touch_and_not_overlap() {
        let of = |texts: &[&str]| {
            let ranges = texts.iter().map(|text| (range(text), 1)).collect();
            Schedule::new(0, ranges).map(|_| ())
        };
        assert_eq!(of(&["08:00-18:00", "18:00-08:00"]), Ok(()));
        assert_eq!(
            of(&["08:00-18:00", "22:00-08:01"]),
            Err("`08:00-18:00` and `22:00-08:01` overlap: what is to hold where both do?".into())
        );
        for inside in ["23:00-01:00", "02:00-03:00", "00:00-24:00", "23:30-23:40"] {
            assert!(of(&["22:00-06:00", inside]).is_err(), "{inside}");
        }
    }

    #[test]
    fn a_schedule_knows_what_holds_and_how_long() {
        let ranges = vec![(range("08:00-18:00"), 10), (range("22:00-06:00"), 99)];
        let schedule = Schedule::new(50, ranges).expect("no overlap");
        for (hour, value, minutes) in [(3, 99, 180), (7, 50, 60), (8, 10, 600), (18, 50, 240)] {
            let now = time(hour, 0, 0, 0);
            assert_eq!(schedule.at(now), value, "{hour}");
            let change = Duration::from_mins(minutes);
            assert_eq!(schedule.next_change(now), Some(change), "{hour}");
        }
        assert_eq!(Schedule::always(7).next_change(time(1, 0, 0, 0)), None);
    }

    proptest! {
        #[test]
        fn a_value_stays_until_its_next_change(
            edges in proptest::collection::btree_set(0_u16..1440, 2..6),
            second in 0_i32..86_400,
        ) {
            let edges: Vec<u16> = edges.into_iter().collect();
            let pairs = edges.windows(2).enumerate();
            let ranges = pairs.map(|(i, w)| (TimeRange { start: w[0], end: w[1] }, i)).collect();
            let schedule = Schedule::new(usize::MAX, ranges).expect("they only touch");
            let now = time(0, 0, 0, 0).wrapping_add(jiff::Span::new().seconds(second));
            let change = schedule.next_change(now).expect("there are ranges");
            let after = |wait: Duration| now.wrapping_add(wait);
            let just_before = change.checked_sub(Duration::from_nanos(1)).expect("some time");
            prop_assert_eq!(schedule.at(now), schedule.at(after(just_before)));
            prop_assert_ne!(schedule.at(now), schedule.at(after(change)));
        }

        #[test]
        fn what_is_shown_reads_back(start in 0_u16..1440, end in 0_u16..=1440) {
            prop_assume!(start != end);
            let range = TimeRange { start, end };
            prop_assert_eq!(TimeRange::parse(&range.to_string()), Ok(range));
        }
    }
}
