//! What values of the command line are understood as.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::SignedDuration;

use crate::model::{
    Bandwidth, DatasetId, InDoubt, LogForm, ProgressMode, Rate, ReportFormat, Schedule, TimeRange,
    looks_secret,
};

/// A length of time: a number of seconds, or what people write, such as `90s`, `2m` or `1h 30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok();
    let parsed = match seconds.map(Duration::try_from_secs_f64) {
        Some(seconds) => seconds.ok(),
        None => text
            .parse::<SignedDuration>()
            .ok()
            .and_then(|duration| Duration::try_from(duration).ok()),
    };
    let range = Duration::from_millis(100)..=Duration::from_hours(24);
    parsed
        .filter(|duration| range.contains(duration))
        .ok_or_else(|| "give seconds, or a time such as 90s, 2m or 1h, up to a day".to_owned())
}

/// A whole number of milliseconds.
pub(super) fn milliseconds(text: &str) -> Result<Duration, String> {
    match text.parse::<u64>() {
        Ok(number @ 1..=3_600_000) => Ok(Duration::from_millis(number)),
        _ => Err("give milliseconds, a whole number from 1 to 3600000".to_owned()),
    }
}

/// On or off, as variables have it.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err("give 1 or 0".to_owned()),
    }
}

/// One value for the whole day, or `RANGE=VALUE` for parts of it, with a comma between.
pub(super) fn scheduled<T: Copy>(
    text: &str,
    parse: fn(&str) -> Result<Option<T>, String>,
) -> Result<Schedule<Option<T>>, String> {
    if !text.contains('=') {
        return parse(text).map(Schedule::always);
    }
    let (mut otherwise, mut ranges) = (None, Vec::new());
    for part in text.split(',') {
        let (range, value) = part.split_once('=').ok_or("write RANGE=VALUE")?;
        let value = parse(value)?;
        if range.trim() == "default" {
            otherwise = value;
        } else {
            ranges.push((TimeRange::parse(range)?, value));
        }
    }
    Schedule::new(otherwise, ranges)
}

pub(super) fn set(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    if name.is_empty() {
        return Err("the name is empty".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// A variable that is no secret: what is printed is no place for one.
pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.chars().all(is_word) || name.is_empty() || name.starts_with(|c: char| c.is_numeric()) {
        return Err("a name has letters, digits and `_` only, and begins with no digit".to_owned());
    }
    if looks_secret(name) {
        return Err("the name is a secret's, and what is printed is no place for one".to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// As far as it can be known here.
pub(super) fn calendar(text: &str) -> Result<String, String> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || " *:.,/~_+-".contains(c);
    if text.trim().is_empty() || !text.chars().all(is_known) {
        return Err("give what `systemd-analyze calendar` reads, as daily or Mon 04:00".to_owned());
    }
    Ok(text.trim().to_owned())
}

/// One of these words: clap names them in help, errors and completions.
pub(super) fn one_of<T, const N: usize>(
    words: [(&'static str, T); N],
) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let named = PossibleValuesParser::new(words.map(|(word, _)| word));
    named.try_map(move |text| {
        let found = words
            .iter()
            .find(|(word, _)| word.eq_ignore_ascii_case(&text));
        found.map(|(_, value)| *value).ok_or("no such word")
    })
}

pub(super) fn report_format() -> impl TypedValueParser<Value = ReportFormat> {
    one_of([
        ("csv", ReportFormat::Csv),
        ("json", ReportFormat::Json),
        ("jsonl", ReportFormat::JsonLines),
        ("html", ReportFormat::Html),
    ])
}

/// A name that `node_exporter` reads, and that nothing else has which must not be written over.
pub(super) fn metrics_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.extension().is_none_or(|extension| extension != "prom") {
        return Err("end the file's name with .prom: node_exporter reads no others".to_owned());
    }
    Ok(path)
}

/// The words for how progress is shown.
const PROGRESS: [(&str, ProgressMode); 5] = [
    ("auto", ProgressMode::Auto),
    ("bar", ProgressMode::Bar),
    ("line", ProgressMode::Line),
    ("json", ProgressMode::Json),
    ("none", ProgressMode::None),
];

pub(super) fn progress() -> impl TypedValueParser<Value = ProgressMode> {
    one_of(PROGRESS)
}

/// As [`progress`], of the environment.
pub(super) fn progress_word(text: &str) -> Result<ProgressMode, String> {
    let found = PROGRESS
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text));
    let words = PROGRESS.map(|(word, _)| word).join(", ");
    found
        .map(|(_, mode)| *mode)
        .ok_or_else(|| format!("it is none of {words}"))
}

pub(super) fn log_form() -> impl TypedValueParser<Value = LogForm> {
    one_of([("text", LogForm::Text), ("json", LogForm::Json)])
}

pub(super) fn in_doubt() -> impl TypedValueParser<Value = InDoubt> {
    one_of([
        ("verify", InDoubt::Verify),
        ("hold", InDoubt::Hold),
        ("resend", InDoubt::Resend),
    ])
}

pub(super) fn rate(text: &str) -> Result<Schedule<Option<Rate>>, String> {
    Rate::parse(text).map(Schedule::always)
}

pub(super) fn bandwidth(text: &str) -> Result<Schedule<Option<Bandwidth>>, String> {
    Bandwidth::parse(text).map(Schedule::always)
}

pub(super) fn dataset(text: &str) -> Result<(DatasetId, String), String> {
    let (id, name) = text.split_once('=').unwrap_or((text, text));
    uuid::Uuid::parse_str(id).map_err(|_| "a dataset's id is a UUID".to_owned())?;
    Ok((DatasetId::new(id), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_may_hold_for_a_part_of_the_day() {
        let by_day = scheduled("08:00-18:00=5/s, default=10/s", Rate::parse).expect("a schedule");
        let at = |hour| by_day.at(jiff::civil::time(hour, 0, 0, 0));
        let rate = |text| Rate::parse(text).expect("a rate");
        assert_eq!((at(9), at(20)), (rate("5/s"), rate("10/s")));
        let elsewhere = scheduled("08:00-18:00=5/s", Rate::parse).expect("a schedule");
        assert_eq!(elsewhere.at(jiff::civil::time(20, 0, 0, 0)), None);
        for text in [
            "",
            "5",
            "08:00-18:00=5",
            "8=5/s",
            "08:00-18:00=5/s, 1/s",
            "a=1/s,a=2/s",
        ] {
            assert!(scheduled(text, Rate::parse).is_err(), "{text}");
        }
    }
}
