//! How much a run may ask of the service and of the line, and how much may go wrong, as people
//! write it.

use std::fmt;
use std::num::NonZeroU64;
use std::time::Duration;

use super::shown_bounded;

/// The word for no limit.
const UNLIMITED: &str = "unlimited";

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);

/// The units of a bandwidth, the ones that are shown first: name, and bytes.
const BYTE_UNITS: [(&str, u64); 8] = [
    ("GiB/s", 1 << 30),
    ("GB/s", 1_000_000_000),
    ("MiB/s", 1 << 20),
    ("MB/s", 1_000_000),
    ("KiB/s", 1 << 10),
    ("KB/s", 1_000),
    ("kB/s", 1_000),
    ("B/s", 1),
];

/// Units (requests, or bytes) in a period, exactly: never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    units: NonZeroU64,
    period: Duration,
}

impl Rate {
    /// So many units a period; none where either is nothing.
    #[must_use]
    pub fn new(units: u64, period: Duration) -> Option<Self> {
        let units = NonZeroU64::new(units)?;
        (!period.is_zero()).then_some(Self { units, period })
    }

    /// Units in a [`Rate::period`].
    #[must_use]
    pub fn units(self) -> u64 {
        self.units.get()
    }

    /// The period.
    #[must_use]
    pub fn period(self) -> Duration {
        self.period
    }

    /// Reads a rate of requests: `50/s`, `600/m`, `10000/h`; none for `unlimited`.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        if text == UNLIMITED {
            return Ok(None);
        }
        let said = shown_bounded(text);
        let Some((number, period)) = text.split_once('/') else {
            return Err(format!(
                "`{said}` does not say per what: write requests per second, minute or hour, as \
                 `50/s`, `600/m` or `10000/h`, or `{UNLIMITED}`"
            ));
        };
        let period = match period.trim() {
            "s" => SECOND,
            "m" => MINUTE,
            "h" => HOUR,
            other => {
                return Err(format!(
                    "`{said}` is per `{}`: write `/s`, `/m` or `/h`",
                    shown_bounded(other)
                ));
            }
        };
        let number = number.trim();
        if is_fraction(number) {
            return Err(format!(
                "`{said}` is no whole number of requests: choose a longer period, as `30/m` for \
                 one every two seconds"
            ));
        }
        let units = whole(number)
            .ok_or_else(|| format!("`{said}` does not begin with a number of requests"))?;
        let rate = Self::new(units, period)
            .ok_or_else(|| format!("`{said}` would never send anything"))?;
        Ok(Some(rate))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.units;
        match self.period {
            SECOND => write!(f, "{units}/s"),
            MINUTE => write!(f, "{units}/m"),
            HOUR => write!(f, "{units}/h"),
            other => write!(f, "{units} every {} s", other.as_secs_f64()),
        }
    }
}

/// Bytes in a second: never none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bandwidth(NonZeroU64);

impl Bandwidth {
    /// So many bytes a second; none where that is nothing.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Option<Self> {
        NonZeroU64::new(bytes_per_second).map(Self)
    }

    /// Bytes in a second.
    #[must_use]
    pub fn bytes_per_second(self) -> u64 {
        self.0.get()
    }

    /// The same as a rate of bytes.
    #[must_use]
    pub fn rate(self) -> Rate {
        Rate {
            units: self.0,
            period: SECOND,
        }
    }

    /// Reads a bandwidth: `20MiB/s`, `1.5 MB/s`, `500KB/s`; none for `unlimited`. `KB` is 1,000
    /// bytes and `KiB` 1,024. What a fraction leaves of a byte is dropped.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        if text == UNLIMITED {
            return Ok(None);
        }
        let said = shown_bounded(text);
        let end = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(end);
        let unit = unit.trim();
        if number.is_empty() {
            return Err(format!(
                "`{said}` does not begin with a number: write bytes per second, as `20MiB/s` or \
                 `500KB/s`, or `{UNLIMITED}`"
            ));
        }
        let known = BYTE_UNITS.iter().find(|(name, _)| *name == unit);
        let Some(&(_, bytes)) = known else {
            return Err(format!("`{said}`: {}", wrong_unit(unit)));
        };
        let value = scaled(number, bytes)
            .ok_or_else(|| format!("`{said}` does not begin with a number that can be used"))?;
        let bandwidth =
            Self::new(value).ok_or_else(|| format!("`{said}` is less than one byte per second"))?;
        Ok(Some(bandwidth))
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.get();
        let whole = BYTE_UNITS
            .iter()
            .find(|(_, unit)| bytes.is_multiple_of(*unit));
        match whole {
            Some((name, unit)) => write!(f, "{}{name}", bytes / unit),
            None => write!(f, "{bytes}B/s"),
        }
    }
}

/// A number of bytes, as `500`, `10KiB` or `1.5GB`: the units of [`Bandwidth`], at no time.
///
/// # Errors
///
/// Says what is wrong with the text.
pub fn size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let said = shown_bounded(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim();
    let known = BYTE_UNITS
        .iter()
        .find(|(name, _)| name.strip_suffix("/s") == Some(unit));
    let bytes = match (unit, known) {
        ("", _) => 1,
        (_, Some((_, bytes))) => *bytes,
        _ => {
            return Err(format!(
                "`{said}` is no size: write bytes as a number, or with `KB`, `KiB`, `MB`, `MiB`, \
                 `GB` or `GiB`"
            ));
        }
    };
    scaled(number, bytes).ok_or_else(|| format!("`{said}` does not begin with a number of bytes"))
}

fn wrong_unit(unit: &str) -> String {
    let known = "write `B/s`, `KB/s`, `KiB/s`, `MB/s`, `MiB/s`, `GB/s` or `GiB/s`";
    if unit.is_empty() {
        return format!("bytes, but of what unit and per what: {known}");
    }
    let Some(bytes) = unit.strip_suffix("/s") else {
        return format!("a bandwidth is per second: {known}");
    };
    let is_short_for_bits = bytes.ends_with('b') && !bytes.ends_with("ib");
    if is_short_for_bits || bytes.ends_with("bit") || bytes.ends_with("bits") {
        return format!("bits are an eighth of bytes, so `100Mbit/s` is `12.5MB/s`: {known}");
    }
    format!("`{}` is no unit: {known}", shown_bounded(unit))
}

/// How many of the planned uploads may fail before the run stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureBudget {
    /// So many.
    Count(u64),
    /// So large a part of what is planned, in hundredths of a percent.
    Share(u32),
}

impl FailureBudget {
    /// Hundredths of a percent in all.
    pub const WHOLE: u32 = 10_000;

    /// Reads a budget: `20` files, or `5%` or `0.25%` of them.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let said = shown_bounded(text);
        let Some(number) = text.strip_suffix('%') else {
            return whole(text).map(Self::Count).ok_or_else(|| {
                format!("`{said}` is no number of files: write `20`, or a part of them as `5%`")
            });
        };
        let number = number.trim_end();
        let decimals = number.split_once('.').map_or(0, |(_, part)| part.len());
        if decimals > 2 {
            return Err(format!(
                "`{said}` is finer than a hundredth of a percent: write it as `0.25%`"
            ));
        }
        let hundredths =
            scaled(number, 100).ok_or_else(|| format!("`{said}` is no percentage, as `5%`"))?;
        u32::try_from(hundredths)
            .ok()
            .filter(|share| *share <= Self::WHOLE)
            .map(Self::Share)
            .ok_or_else(|| format!("`{said}` is more than all of the files"))
    }
}

impl fmt::Display for FailureBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Share(share) => {
                let (percent, hundredths) = (share / 100, share % 100);
                match hundredths {
                    0 => write!(f, "{percent}%"),
                    _ => write!(f, "{percent}.{hundredths:02}%"),
                }
            }
        }
    }
}

/// A number in digits alone: no sign.
fn whole(text: &str) -> Option<u64> {
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    is_digits.then(|| text.parse().ok()).flatten()
}

fn is_fraction(text: &str) -> bool {
    text.split_once('.')
        .is_some_and(|(left, right)| whole(left).is_some() && whole(right).is_some())
}

/// A number with or without decimals, times `unit`, rounded down.
fn scaled(text: &str, unit: u64) -> Option<u64> {
    let (integer, decimals) = match text.split_once('.') {
        Some((integer, decimals)) => (whole(integer)?, decimals),
        None => (whole(text)?, "0"),
    };
    // More decimals than these are no byte any more.
    let decimals = decimals.get(..decimals.len().min(18))?;
    let fraction = u128::from(whole(decimals)?) * u128::from(unit);
    let fraction = fraction / 10_u128.pow(u32::try_from(decimals.len()).ok()?);
    integer
        .checked_mul(unit)?
        .checked_add(u64::try_from(fraction).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use snapbox::IntoData;

    #[test]
    fn a_rate_is_requests_in_a_second_a_minute_or_an_hour() {
        for (text, units, seconds) in [
            ("50/s", 50, 1),
            (" 600/m ", 600, 60),
            ("10000 / h", 10_000, 3600),
        ] {
            let rate = Rate::new(units, Duration::from_secs(seconds));
            assert_eq!(Rate::parse(text), Ok(rate), "{text}");
        }
        assert_eq!(Rate::parse("unlimited"), Ok(None));
    }

    #[test]
    fn a_rate_that_cannot_be_kept_says_what_to_write() {
        let errors: Vec<String> = ["50", "50/day", "0.5/s", "-1/s", "/s", "0/s", "1e3/s"]
            .into_iter()
            .map(|text| Rate::parse(text).expect_err(text))
            .collect();
        snapbox::assert_data_eq!(
            errors.join("\n"),
            snapbox::str![[r"
`50` does not say per what: write requests per second, minute or hour, as `50/s`, `600/m` or `10000/h`, or `unlimited`
`50/day` is per `day`: write `/s`, `/m` or `/h`
`0.5/s` is no whole number of requests: choose a longer period, as `30/m` for one every two seconds
`-1/s` does not begin with a number of requests
`/s` does not begin with a number of requests
`0/s` would never send anything
`1e3/s` does not begin with a number of requests
"]]
            .raw()
        );
    }

    #[test]
    fn a_bandwidth_is_bytes_in_a_second() {
        for (text, bytes) in [
            ("20MiB/s", 20 << 20),
            ("500KB/s", 500_000),
            ("500 kB/s", 500_000),
            ("1GiB/s", 1 << 30),
            ("1.5MB/s", 1_500_000),
            ("0.1MiB/s", 104_857),
            ("7B/s", 7),
        ] {
            assert_eq!(Bandwidth::parse(text), Ok(Bandwidth::new(bytes)), "{text}");
        }
        assert_eq!(Bandwidth::parse("unlimited"), Ok(None));
    }

    #[test]
    fn a_size_is_bytes_or_a_number_of_units() {
        for (text, bytes) in [
            ("0", 0),
            ("500", 500),
            ("10KiB", 10_240),
            ("1.5 GB", 1_500_000_000),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in ["", "big", "10kib", "10MiB/s", "-1", "99999999999GiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bandwidth_in_bits_or_of_no_time_says_what_to_write() {
        let errors: Vec<String> = [
            "20",
            "20MiB",
            "100Mbit/s",
            "8Mb/s",
            "20mib/s",
            "fast",
            "1.2.3B/s",
            "0B/s",
            "0.5B/s",
            "99999999999999GiB/s",
            "5./s",
        ]
        .into_iter()
        .map(|text| Bandwidth::parse(text).expect_err(text))
        .collect();
        snapbox::assert_data_eq!(
            errors.join("\n"),
            snapbox::str![[r"
`20`: bytes, but of what unit and per what: write `B/s`, `KB/s`, `KiB/s`, `MB/s`, `MiB/s`, `GB/s` or `GiB/s`
`20MiB`: a bandwidth is per second: write `B/s`, `KB/s`, `KiB/s`, `MB/s`, `MiB/s`, `GB/s` or `GiB/s`
`100Mbit/s`: bits are an eighth of bytes, so `100Mbit/s` is `12.5MB/s`: write `B/s`, `KB/s`, `KiB/s`, `MB/s`, `MiB/s`, `GB/s` or `GiB/s`
`8Mb/s`: bits are an eighth of bytes, so `100Mbit/s` is `12.5MB/s`: write `B/s`, `KB/s`, `KiB/s`, `MB/s`, `MiB/s`, `GB/s` or `GiB/s`
`20mib/s`: `mib/s` is no unit: write `B/s`, `KB/s`, `KiB/s`, `MB/s`, `MiB/s`, `GB/s` or `GiB/s`
`fast` does not begin with a number: write bytes per second, as `20MiB/s` or `500KB/s`, or `unlimited`
`1.2.3B/s` does not begin with a number that can be used
`0B/s` is less than one byte per second
`0.5B/s` is less than one byte per second
`99999999999999GiB/s` does not begin with a number that can be used
`5./s`: `/s` is no unit: write `B/s`, `KB/s`, `KiB/s`, `MB/s`, `MiB/s`, `GB/s` or `GiB/s`
"]]
            .raw()
        );
    }

    #[test]
    fn a_failure_budget_is_a_number_of_files_or_a_part_of_them() {
        for (text, budget) in [
            ("20", FailureBudget::Count(20)),
            ("0", FailureBudget::Count(0)),
            ("5%", FailureBudget::Share(500)),
            ("0.25 %", FailureBudget::Share(25)),
            ("100%", FailureBudget::Share(10_000)),
        ] {
            assert_eq!(FailureBudget::parse(text), Ok(budget), "{text}");
        }
        let errors: Vec<String> = ["", "some", "-1", "5.5", "101%", "0.125%", "%"]
            .into_iter()
            .map(|text| FailureBudget::parse(text).expect_err(text))
            .collect();
        snapbox::assert_data_eq!(
            errors.join("\n"),
            snapbox::str![[r"
`` is no number of files: write `20`, or a part of them as `5%`
`some` is no number of files: write `20`, or a part of them as `5%`
`-1` is no number of files: write `20`, or a part of them as `5%`
`5.5` is no number of files: write `20`, or a part of them as `5%`
`101%` is more than all of the files
`0.125%` is finer than a hundredth of a percent: write it as `0.25%`
`%` is no percentage, as `5%`
"]]
            .raw()
        );
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(number in 1_u64.., share in 0_u32..=10_000) {
            let rate = Rate::new(number, MINUTE);
            prop_assert_eq!(Rate::parse(&rate.expect("one").to_string()), Ok(rate));
            let bandwidth = Bandwidth::new(number);
            let shown = bandwidth.expect("one").to_string();
            prop_assert_eq!(Bandwidth::parse(&shown), Ok(bandwidth));
            for budget in [FailureBudget::Share(share), FailureBudget::Count(number)] {
                prop_assert_eq!(FailureBudget::parse(&budget.to_string()), Ok(budget));
            }
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in ".{0,12}") {
            let _ = (Rate::parse(&text), Bandwidth::parse(&text), FailureBudget::parse(&text));
        }
    }
}
