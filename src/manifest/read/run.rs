//! The `run:` mapping: how uploads are carried out.

use std::num::NonZeroU32;

use super::{Fields, Reader};
use crate::diagnostic::Diagnostic;
use crate::manifest::keys::{self, Kind};
use crate::manifest::{RunEntry, RunSettings};
use crate::model::{
    Bandwidth, Concurrency, FailureBudget, InDoubt, Rate, Schedule, Tag, TimeRange,
};
use crate::yaml::{Entry, Node, Scalar, Value};

impl Reader<'_> {
    pub(super) fn run(&mut self, entry: &Entry) -> RunSettings {
        let Value::Map(entries) = &entry.value.value else {
            self.expected("a mapping", &entry.value, &entry.key_span);
            return RunSettings::default();
        };
        let fields = self.fields(entries, keys::RUN, &entry.key_span, "`run`");
        for key in fields.keys() {
            if let Some(entry) = fields.get(key) {
                self.run.push(RunEntry {
                    key,
                    text: flat(&entry.value),
                    span: entry.key_span.clone(),
                });
            }
        }
        let concurrency = fields
            .get("concurrency")
            .and_then(|entry| self.concurrency(entry));
        if let Some(value) = concurrency {
            let mut written = self.run.iter_mut();
            if let Some(written) = written.find(|written| written.key == "concurrency") {
                written.text = value.to_string();
            }
        }
        RunSettings {
            concurrency,
            rate: self.schedule(&fields, "rate", Rate::parse),
            bandwidth: self.schedule(&fields, "bandwidth", Bandwidth::parse),
            failure_budget: fields.get("failure_budget").and_then(|entry| {
                let text = self.text(entry)?;
                self.parsed(entry, FailureBudget::parse(text))
            }),
            max_attempts: fields
                .get("max_attempts")
                .and_then(|entry| self.count(entry, keys::RUN)),
            retry_for: self.optional_duration(&fields, "retry_for"),
            deadline: self.optional_duration(&fields, "deadline"),
            in_doubt: fields.get("in_doubt").and_then(|entry| {
                let choices = [InDoubt::Verify, InDoubt::Hold, InDoubt::Resend];
                self.word(entry, keys::RUN, &choices)
            }),
            settle: self.optional_duration(&fields, "settle"),
            tag: match fields.get("tag").and_then(|entry| self.flag(entry)) {
                Some(true) => Tag::Planted,
                _ => Tag::None,
            },
        }
    }

    /// A whole number from one to the key's maximum.
    pub(super) fn count(&mut self, entry: &Entry, known: &[keys::Key]) -> Option<NonZeroU32> {
        let key = known.iter().find(|key| key.name == entry.key)?;
        let (Kind::Count(max) | Kind::Concurrency(max)) = key.kind else {
            return None;
        };
        let parsed = match &entry.value.value {
            Value::Scalar(text, Scalar::Number) => text.parse::<NonZeroU32>().ok(),
            _ => None,
        };
        let valid = parsed.filter(|number| number.get() <= max);
        let is_quoted = matches!(&entry.value.value, Value::Scalar(text, Scalar::Text)
            if text.parse::<NonZeroU32>().is_ok_and(|number| number.get() <= max));
        if valid.is_none() {
            let name = key.name;
            self.report(
                Diagnostic::error(
                    format!("`{name}` must be a whole number from 1 to {max}"),
                    entry.value.span.clone(),
                )
                .help(match key.kind {
                    _ if is_quoted => "take the quotes away".to_owned(),
                    Kind::Concurrency(_) => format!(
                        "for example `{name}: {}`, or `{name}: {{max: 64, adaptive: true}}`",
                        key.example
                    ),
                    _ => format!("for example `{name}: {}`", key.example),
                }),
            );
        }
        valid
    }

    /// A number, or `{max: …, adaptive: true}`.
    fn concurrency(&mut self, entry: &Entry) -> Option<Concurrency> {
        let Value::Map(entries) = &entry.value.value else {
            return self.count(entry, keys::RUN).map(Concurrency::Fixed);
        };
        let at = &entry.key_span;
        let fields = self.fields(entries, keys::CONCURRENCY, at, "`concurrency`");
        let max = self.count(fields.get("max")?, keys::CONCURRENCY)?;
        match fields.get("adaptive").map(|entry| self.flag(entry)) {
            None | Some(Some(false)) => Some(Concurrency::Fixed(max)),
            Some(Some(true)) => Some(Concurrency::Adaptive(max)),
            Some(None) => None,
        }
    }

    /// One value for the whole day, or a mapping of ranges of the day, and `default`, to values.
    fn schedule<T: Copy>(
        &mut self,
        fields: &Fields<'_>,
        name: &str,
        parse: fn(&str) -> Result<Option<T>, String>,
    ) -> Option<Schedule<Option<T>>> {
        let entry = fields.get(name)?;
        let Value::Map(entries) = &entry.value.value else {
            let text = self.text(entry)?;
            return self.parsed(entry, parse(text)).map(Schedule::always);
        };
        let (mut otherwise, mut ranges) = (None, Vec::new());
        for entry in entries {
            let value = self
                .text(entry)
                .and_then(|text| self.parsed(entry, parse(text)));
            if entry.key == "default" {
                otherwise = value?;
                continue;
            }
            match TimeRange::parse(&entry.key) {
                Ok(range) => ranges.push((range, value?)),
                Err(why) => {
                    let (message, how) = told(&why);
                    let how = how.map_or(String::new(), |how| format!("{how}; "));
                    let help = format!("{how}`default` is what holds outside of all ranges");
                    self.report(Diagnostic::error(message, entry.key_span.clone()).help(help));
                }
            }
        }
        match Schedule::new(otherwise, ranges) {
            Ok(schedule) => Some(schedule),
            Err(why) => {
                let is_meant = |entry: &&Entry| why.contains(&format!("`{}`", entry.key));
                let mut meant = entries.iter().filter(is_meant);
                let first = meant.next().map_or(&entry.key_span, |e| &e.key_span);
                let last = meant.next_back().map_or(first, |e| &e.key_span).clone();
                let other = first.clone();
                self.report(
                    Diagnostic::error(why, last)
                        .other(other, "the other range")
                        .help("let one end where the next begins"),
                );
                None
            }
        }
    }

    /// What a text was parsed to, or a report of why it was not.
    pub(super) fn parsed<T>(&mut self, entry: &Entry, parsed: Result<T, String>) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(why) => {
                let (message, how) = told(&why);
                let mut known = keys::RUN.iter().chain(keys::RULE);
                let key = known.find(|key| key.name == entry.key);
                let example = key.map(|key| format!("for example `{}: {}`", key.name, key.example));
                let mut diagnostic = Diagnostic::error(message, entry.value.span.clone());
                diagnostic.help = how.map(ToOwned::to_owned).or(example);
                self.report(diagnostic);
                None
            }
        }
    }
}

/// A value as a flag's would be written: of a mapping, each `KEY=VALUE`.
fn flat(node: &Node) -> String {
    match &node.value {
        Value::Scalar(text, _) => text.clone(),
        Value::Map(entries) => {
            let pair = |entry: &Entry| format!("{}={}", entry.key, flat(&entry.value));
            entries.iter().map(pair).collect::<Vec<_>>().join(", ")
        }
        Value::Null | Value::List(_) => String::new(),
    }
}

/// What is wrong with a text, and what to write instead where that is told too.
fn told(why: &str) -> (&str, Option<&str>) {
    let how = why.find(": write ").or_else(|| why.find(": choose "));
    how.map_or((why, None), |at| (&why[..at], Some(&why[at + 2..])))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use jiff::civil::time;

    use super::*;
    use crate::diagnostic::Source;
    use crate::manifest::{Given, Reading, read};
    use crate::model::Environment;

    fn reading(run: &str) -> Reading {
        let source = Source {
            name: "m.yaml".to_owned(),
            text: format!(
                "version: 1\nuploads: [{{name: a, root: ., include: '*'}}]\nrun: {run}\n"
            ),
        };
        read(
            &source,
            Path::new("m.yaml"),
            Given::environment(&Environment::default()),
        )
    }

    #[test]
    fn what_bounds_a_run_is_read_as_people_write_it() {
        let reading = reading(
            "{concurrency: {max: 64, adaptive: true}, rate: 600/m, failure_budget: 5%, \
             bandwidth: {\"22:00-06:00\": unlimited, default: 2MiB/s}, deadline: 2h}",
        );
        assert_eq!(reading.diagnostics, []);
        let run = reading.manifest.run;
        let max = NonZeroU32::new(64).expect("not zero");
        assert_eq!(run.concurrency, Some(Concurrency::Adaptive(max)));
        let rate = Rate::parse("600/m").expect("a rate");
        assert_eq!(run.rate, Some(Schedule::always(rate)));
        assert_eq!(run.failure_budget, FailureBudget::parse("5%").ok());
        let bandwidth = run.bandwidth.expect("one");
        let by_day = Bandwidth::parse("2MiB/s").expect("a bandwidth");
        assert_eq!(bandwidth.at(time(12, 0, 0, 0)), by_day);
        assert_eq!(bandwidth.at(time(23, 0, 0, 0)), None);
        let fixed = self::reading("{concurrency: {max: 4}}").manifest.run;
        let max = NonZeroU32::new(4).expect("not zero");
        assert_eq!(fixed.concurrency, Some(Concurrency::Fixed(max)));
    }

    #[test]
    fn what_cannot_bound_a_run_says_what_to_write() {
        for (run, message) in [
            (
                "{concurrency: 0}",
                "`concurrency` must be a whole number from 1 to 1024",
            ),
            (
                "{concurrency: {max: 2000}}",
                "`max` must be a whole number from 1 to 1024",
            ),
            (
                "{concurrency: {adaptive: true}}",
                "`concurrency` has no `max`",
            ),
            (
                "{concurrency: {max: 4, adaptive: maybe}}",
                "expected true or false, found a text",
            ),
            ("{rate: 50}", "`50` does not say per what"),
            ("{rate: 0/s}", "`0/s` would never send anything"),
            (
                "{bandwidth: 100Mbit/s}",
                "`100Mbit/s`: bits are an eighth of bytes, so `100Mbit/s` is `12.5MB/s`",
            ),
            (
                "{bandwidth: {office: 1MB/s}}",
                "`office` is no range of the day",
            ),
            (
                "{bandwidth: {\"08:00-12:00\": 1MB/s, \"11:00-13:00\": 2MB/s}}",
                "`08:00-12:00` and `11:00-13:00` overlap: what is to hold where both do?",
            ),
            ("{rate: [1/s]}", "expected a text, found a list"),
            (
                "{failure_budget: 101%}",
                "`101%` is more than all of the files",
            ),
            ("{deadline: soon}", "`soon` is no length of time"),
            ("{retry_for: 25h}", "`retry_for` is longer than a day"),
        ] {
            let found: Vec<String> = reading(run)
                .diagnostics
                .into_iter()
                .map(|diagnostic| diagnostic.message)
                .collect();
            assert_eq!(found, [message], "{run}");
        }
    }
}
