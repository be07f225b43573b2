//! The filter `date`.

use std::fmt;

use jiff::civil::Date;
use jiff::fmt::StdFmtWrite;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::filters::push;

/// A date or an RFC 3339 time, as the format says, in UTC; none where the text is neither.
pub(super) fn date(text: &str, format: &str) -> Option<Result<String, String>> {
    // Not what is wrong with it: a format that is no constant may come from a variable that nobody
    // is to see.
    let written = formatted(&time(text)?, format);
    Some(written.map_err(|(what, _)| what))
}

/// What is wrong with a format, whatever the time.
pub(super) fn check(format: &str) -> Result<(), String> {
    if !format.contains('%') {
        return Err("a format without `%` is one text for every date: write `%Y-%m-%d`".to_owned());
    }
    let time = Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    let written = formatted(&time, format);
    written
        .map(drop)
        .map_err(|(what, detail)| format!("{what}{detail}"))
}

fn time(text: &str) -> Option<Zoned> {
    let text = text.trim();
    // What is longer is no RFC 3339 time, and need not be read.
    if text.len() > 64 {
        return None;
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.to_zoned(TimeZone::UTC));
    }
    // A time without its offset would be a guess.
    if text.len() != "2025-03-01".len() {
        return None;
    }
    let date: Date = text.parse().ok()?;
    date.to_zoned(TimeZone::UTC).ok()
}

/// The time as the format says, or what is wrong, and in which way.
fn formatted(time: &Zoned, format: &str) -> Result<String, (String, String)> {
    let mut made = Bounded::default();
    let written = BrokenDownTime::from(time).format(format, StdFmtWrite(&mut made));
    match (made.refused, written) {
        (Some(why), _) => Err((why, String::new())),
        (None, Ok(())) => Ok(made.text),
        (None, Err(error)) => Err(("it is no format of a date".to_owned(), format!(": {error}"))),
    }
}

/// A text that refuses to grow beyond its limit.
#[derive(Default)]
struct Bounded {
    text: String,
    refused: Option<String>,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        push(&mut self.text, more).map_err(|why| {
            self.refused = Some(why);
            fmt::Error
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::filters::TEXT_MAX;
    use super::*;

    #[test]
    fn dates_and_times_are_read_and_nothing_is_guessed() {
        for (text, expected) in [
            ("2025-03-01", "2025-03-01 00:00"),
            ("2025-03-01T23:30:00-02:00", "2025-03-02 01:30"),
            ("2025-03-01T12:00:00Z", "2025-03-01 12:00"),
            (" 2025-03-01T12:00:00.5Z\n", "2025-03-01 12:00"),
        ] {
            let made = date(text, "%Y-%m-%d %H:%M").expect(text);
            assert_eq!(made.as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "2025",
            "01.03.2025",
            "2025-02-30",
            "2025-03-01T12:00:00",
            "20250301",
            &"2025-03-01T12:00:00Z".repeat(10_000),
        ] {
            assert!(date(text, "%Y").is_none(), "{text}");
        }
    }

    #[test]
    fn a_format_that_is_none_is_told_and_a_huge_one_refused() {
        let error = check("%Y-%é").expect_err("no format");
        assert!(error.starts_with("it is no format of a date: "), "{error}");
        let error = check(&"%Y".repeat(TEXT_MAX / 2)).expect_err("too long");
        assert_eq!(error, "it makes a text longer than 1 MiB");
    }
}
