//! YAML to a fault plan. Strict: what is not understood is an error that names its line.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_yaml::Spanned;

use super::kinds::{FAULT_KINDS, FaultKind};
use super::{Chance, Faults, On, ReplyBody, RetryWord, Rule};

/// What every fault may have, where it makes sense.
const COMMON: [&str; 5] = ["fault", "probability", "count", "file", "on"];

const DURATION_MAX: Duration = Duration::from_hours(24);

/// What is wrong with a fault plan, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct FaultsError {
    /// The line, from 1.
    pub line: u64,
    /// What is wrong in it.
    pub message: String,
}

/// As [`FaultsError`], on its way.
pub(super) type Wrong = FaultsError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    seed: u64,
    faults: Vec<Spanned<Entry>>,
}

/// Keys and values of one fault, each a text with its place.
struct Entry(Vec<(Spanned<String>, Spanned<String>)>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Entry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a fault, as in `- fault: reset_mid_body`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Entry(pairs))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

pub(super) fn parse(text: &str) -> Result<Faults, FaultsError> {
    let document: Document =
        serde_yaml::from_str_with_options(text, serde_yaml::options! { with_snippet: false })
            .map_err(|error| {
                let line = error.location().map_or(1, |location| location.line());
                let full = error.to_string();
                let message = full.split(" at line ").next().unwrap_or(&full);
                let message = message.split_once(": ").map_or(message, |(head, tail)| {
                    // The parser may say the place first.
                    if head.starts_with("line ") {
                        tail
                    } else {
                        message
                    }
                });
                FaultsError {
                    line,
                    message: message.to_owned(),
                }
            })?;
    let mut rules = Vec::new();
    for entry in document.faults {
        rules.push(rule(&entry)?);
    }
    Ok(Faults {
        seed: document.seed,
        rules,
    })
}

fn rule(entry: &Spanned<Entry>) -> Result<Rule, Wrong> {
    let pairs = &entry.value.0;
    let mut given = Parameters {
        pairs,
        line: entry.defined.line(),
        fault: "this entry",
    };
    let Some(name) = given.text("fault") else {
        return Err(given.missing("fault"));
    };
    let Some(kind) = FAULT_KINDS.iter().find(|kind| kind.name == name) else {
        return Err(given.wrong("fault", &unknown(name)));
    };
    given.fault = kind.name;
    for (key, _) in pairs {
        let key_name = key.value.as_str();
        if !COMMON.contains(&key_name) && !kind.parameters.contains(&key_name) {
            return Err(FaultsError {
                line: key.defined.line(),
                message: no_parameter(kind, key_name),
            });
        }
    }
    Ok(Rule {
        chance: chance(&given, kind)?,
        file: file(&given, kind)?,
        on: on(&given, kind)?,
        fault: (kind.make)(&mut given)?,
        kind,
    })
}

fn unknown(name: &str) -> String {
    let near = |kind: &&FaultKind| {
        let words = kind.name.split('_');
        let shared = words.filter(|word| name.contains(word)).count();
        std::cmp::Reverse(shared)
    };
    let mut names: Vec<&FaultKind> = FAULT_KINDS.iter().collect();
    names.sort_by_key(near);
    let names: Vec<&str> = names.into_iter().map(|kind| kind.name).collect();
    format!("there is no fault `{name}`; there are {}", names.join(", "))
}

fn no_parameter(kind: &FaultKind, key: &str) -> String {
    if kind.parameters.is_empty() {
        return format!(
            "`{}` has no parameter `{key}`, and no other of its own",
            kind.name
        );
    }
    let own: Vec<String> = kind.parameters.iter().map(|p| format!("`{p}`")).collect();
    format!(
        "`{}` has no parameter `{key}`; its own are {}",
        kind.name,
        own.join(", ")
    )
}

fn chance(given: &Parameters<'_>, kind: &FaultKind) -> Result<Chance, Wrong> {
    let (probability, count) = (given.text("probability"), given.text("count"));
    for key in ["probability", "count"] {
        if !kind.has_a_chance() && given.text(key).is_some() {
            let message = format!(
                "`{}` happens by its own rule, so it has no `{key}`",
                kind.name
            );
            return Err(given.wrong(key, &message));
        }
    }
    match (probability, count) {
        (Some(_), Some(_)) => Err(given.wrong("count", "give `probability` or `count`, not both")),
        (Some(text), None) => match text.parse::<f64>() {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Chance::Share(share)),
            _ => Err(given.wrong("probability", "`probability` is a number from 0 to 1")),
        },
        (None, Some(_)) => match given.number("count")? {
            Some(count) if count > 0 => Ok(Chance::First(count)),
            _ => Err(given.wrong("count", "`count` is a whole number from 1")),
        },
        (None, None) => Ok(Chance::Always),
    }
}

fn file(given: &Parameters<'_>, kind: &FaultKind) -> Result<Option<GlobMatcher>, Wrong> {
    let Some(pattern) = given.text("file") else {
        return Ok(None);
    };
    if !kind.knows_the_file() {
        let message = format!("`{}` happens before the file's name is known", kind.name);
        return Err(given.wrong("file", &message));
    }
    let glob = GlobBuilder::new(pattern).build();
    glob.map(|glob| Some(glob.compile_matcher()))
        .map_err(|error| given.wrong("file", &error.kind().to_string()))
}

fn on(given: &Parameters<'_>, kind: &FaultKind) -> Result<On, Wrong> {
    let words = [("uploads", On::Uploads), ("any", On::AnyRequest)];
    match given.word("on", &words)? {
        None | Some(On::Uploads) => Ok(On::Uploads),
        Some(On::AnyRequest) if !kind.hits_any_request() => {
            let message = format!("`{}` cannot be said of any request", kind.name);
            Err(given.wrong("on", &message))
        }
        Some(On::AnyRequest) if given.text("file").is_some() => Err(given.wrong(
            "on",
            "`file` chooses uploads, so `on: any` has no meaning beside it",
        )),
        Some(On::AnyRequest) => Ok(On::AnyRequest),
    }
}

/// What a fault was given, to be read as what it should be.
pub(super) struct Parameters<'a> {
    pairs: &'a [(Spanned<String>, Spanned<String>)],
    line: u64,
    fault: &'static str,
}

impl Parameters<'_> {
    fn text(&self, key: &str) -> Option<&str> {
        let mut pairs = self.pairs.iter().filter(|(name, _)| name.value == key);
        pairs.next().map(|(_, value)| value.value.as_str())
    }

    /// An error in the line of a key.
    pub(super) fn wrong(&self, key: &str, message: &str) -> Wrong {
        let mut pairs = self.pairs.iter().filter(|(name, _)| name.value == key);
        FaultsError {
            line: pairs
                .next()
                .map_or(self.line, |(name, _)| name.defined.line()),
            message: message.to_owned(),
        }
    }

    pub(super) fn missing(&self, key: &str) -> Wrong {
        FaultsError {
            line: self.line,
            message: format!("{} needs `{key}`", self.fault),
        }
    }

    pub(super) fn number(&self, key: &str) -> Result<Option<u64>, Wrong> {
        let parsed = self.text(key).map(|text| {
            let wrong = || self.wrong(key, &format!("`{key}` is a whole number"));
            text.parse::<u64>().map_err(|_| wrong())
        });
        parsed.transpose()
    }

    pub(super) fn duration(&self, key: &str) -> Result<Option<Duration>, Wrong> {
        let parsed = self.text(key).map(|text| {
            let duration = text.parse::<jiff::SignedDuration>().ok();
            duration
                .and_then(|duration| Duration::try_from(duration).ok())
                .filter(|duration| *duration <= DURATION_MAX)
                .ok_or_else(|| {
                    self.wrong(
                        key,
                        &format!("`{key}` is a time such as 300ms or 2s, up to a day"),
                    )
                })
        });
        parsed.transpose()
    }

    pub(super) fn status(&self, range: RangeInclusive<u16>) -> Result<Option<u16>, Wrong> {
        let parsed = self.text("status").map(|text| {
            let status = text
                .parse::<u16>()
                .ok()
                .filter(|status| range.contains(status));
            status.ok_or_else(|| {
                let (from, to) = (range.start(), range.end());
                self.wrong(
                    "status",
                    &format!("`status` is a number from {from} to {to} here"),
                )
            })
        });
        parsed.transpose()
    }

    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, Wrong> {
        let parsed = self.text(key).map(|text| {
            let found = words.iter().find(|(word, _)| *word == text);
            found.map(|(_, meaning)| *meaning).ok_or_else(|| {
                let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                self.wrong(key, &format!("`{key}` is {}", known.join(" or ")))
            })
        });
        parsed.transpose()
    }

    /// A text that can stand in a header.
    pub(super) fn header(&self, key: &str) -> Result<Option<String>, Wrong> {
        match self.text(key) {
            Some(text) if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => Err(self
                .wrong(
                    key,
                    &format!("`{key}` has characters that no header can have"),
                )),
            text => Ok(text.map(str::to_owned)),
        }
    }

    /// So many a second.
    pub(super) fn rate(&self, key: &str) -> Result<f64, Wrong> {
        let text = self.text(key).ok_or_else(|| self.missing(key))?;
        let parts = text.split_once('/').and_then(|(number, unit)| {
            let seconds = match unit.trim() {
                "s" => 1.0,
                "m" => 60.0,
                _ => return None,
            };
            let number = number.trim().parse::<u32>().ok()?;
            (number > 0).then(|| f64::from(number) / seconds)
        });
        parts.ok_or_else(|| self.wrong(key, &format!("`{key}` is such as 20/s or 90/m")))
    }

    pub(super) fn retry(&self) -> Result<RetryWord, Wrong> {
        let seconds = |key: &str| match self.duration(key)? {
            Some(span) if span.subsec_nanos() != 0 => {
                Err(self.wrong(key, &format!("`{key}` is in whole seconds")))
            }
            span => Ok(span.map(|span| span.as_secs())),
        };
        match (seconds("retry_after")?, seconds("retry_at")?) {
            (Some(_), Some(_)) => {
                Err(self.wrong("retry_at", "give `retry_after` or `retry_at`, not both"))
            }
            (Some(seconds), None) => Ok(RetryWord::Seconds(seconds)),
            (None, Some(seconds)) => Ok(RetryWord::Date(seconds)),
            (None, None) => Ok(RetryWord::Nothing),
        }
    }

    pub(super) fn body(&self) -> Result<ReplyBody, Wrong> {
        let words = [
            ("json", ReplyBody::Json),
            ("html", ReplyBody::Html),
            ("empty", ReplyBody::Empty),
        ];
        Ok(self.word("body", &words)?.unwrap_or(ReplyBody::Json))
    }
}
