//! What values of the command line are understood as.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::SignedDuration;

use crate::model::{Bandwidth, DatasetId, InDoubt, Rate, ReportFormat, Schedule, looks_secret};

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
