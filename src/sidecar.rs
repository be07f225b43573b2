//! A small mapping of names to texts that lies beside a file, in YAML or JSON.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Excerpt, Place, excerpt_of};
use crate::json::{self, Fault};
use crate::model::{Fields, HumanBytes, count, shown_bounded};
use crate::yaml;

/// Largest sidecar, in bytes.
pub const BYTES_MAX: u64 = 1024 * 1024;

/// Most names in one sidecar.
pub const NAMES_MAX: usize = 1_000;

/// Most errors of one sidecar that are told in full; the rest are counted.
const ERRORS_MAX: usize = 20;

/// A sidecar's names and values, exactly as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// The values by name.
    pub fields: Fields,
    /// The line of each name, from one, in the order of the fields' names.
    pub lines: Vec<usize>,
}

/// Reads a sidecar's bytes. `file` is its path as the user knows it, made safe where it is shown;
/// what ends in `.json` is JSON, anything else YAML. An empty file is a sidecar without names.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(bytes: &[u8], file: &str) -> Result<Sidecar, Vec<Diagnostic>> {
    let reader = Reader {
        file,
        text: text(bytes, file).map_err(|error| vec![*error])?,
    };
    let is_json = file.to_ascii_lowercase().ends_with(".json");
    let items = if is_json {
        reader.json()
    } else {
        reader.yaml()
    };
    let items = items.map_err(|error| vec![*error])?;
    let wrong = reader.check(&items);
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let starts: Vec<usize> = reader.text.match_indices('\n').map(|(at, _)| at).collect();
    let line = |item: &Item| starts.partition_point(|at| *at < item.name_span.start) + 1;
    let lines = items.iter().map(line).collect();
    let names: Vec<Arc<str>> = items.iter().map(|item| item.name.as_str().into()).collect();
    let values = items.iter().map(|item| item.value.as_deref().ok());
    Ok(Sidecar {
        fields: Fields::new(names.into(), values),
        lines,
    })
}

/// The bytes as text, without a byte order mark.
fn text<'b>(bytes: &'b [u8], file: &str) -> Result<&'b str, Box<Diagnostic>> {
    let at = |bytes: &[u8], span: Range<usize>| excerpt_of(file, 1, bytes, span);
    let (error, help) = if bytes.len() as u64 > BYTES_MAX {
        let message = format!("the sidecar is larger than {}", HumanBytes(BYTES_MAX));
        let help = "it holds some names and texts; is this the file that it describes?";
        (Diagnostic::error(message, at(bytes, 0..0)), help)
    } else if let [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] = bytes {
        let message = "the sidecar is UTF-16";
        (
            Diagnostic::error(message, at(bytes, 0..2)),
            "save it as UTF-8",
        )
    } else {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let error = match std::str::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let start = error.valid_up_to();
        let place = at(bytes, start..start + error.error_len().unwrap_or(1));
        let error = Diagnostic::error("the sidecar is not UTF-8 text", place);
        (error.label("not UTF-8"), "save it as UTF-8")
    };
    Err(Box::new(error.help(help)))
}

/// A name and what it is given.
struct Item {
    name: String,
    name_span: Range<usize>,
    /// A text, or what stands there instead.
    value: Result<String, &'static str>,
    span: Range<usize>,
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn place(&self, span: Range<usize>) -> Excerpt {
        excerpt_of(self.file, 1, self.text.as_bytes(), span)
    }

    fn yaml(&self) -> Result<Vec<Item>, Box<Diagnostic>> {
        let root = yaml::parse(self.text, &yaml::SIDECAR).map_err(|mut error| {
            if let Some(Place::Manifest(span)) = error.place {
                error.place = Some(self.place(span).into());
            }
            error
        })?;
        match root.value {
            yaml::Value::Null => Ok(Vec::new()),
            yaml::Value::Map(entries) => Ok(entries.into_iter().map(Item::of_yaml).collect()),
            _ => {
                let found = root.describe();
                let message = format!("a sidecar is a mapping of names to texts, found {found}");
                let error = Diagnostic::error(message, self.place(root.span));
                let help = "write each on a line of its own, as in `customer: ACME`";
                Err(Box::new(error.help(help)))
            }
        }
    }

    fn json(&self) -> Result<Vec<Item>, Box<Diagnostic>> {
        if self.text.trim_ascii().is_empty() {
            return Ok(Vec::new());
        }
        let error = match json::object(self.text) {
            Ok(members) => return Ok(members.into_iter().map(Item::of_json).collect()),
            Err(error) => error,
        };
        let end = self.text.trim_ascii_end().len();
        let begin = self.text.len() - self.text.trim_ascii_start().len();
        Err(Box::new(match error {
            Fault::NoObject(found) => {
                let message = format!("a sidecar is an object of names and texts, found {found}");
                Diagnostic::error(message, self.place(begin..end))
                    .help("as in {\"customer\": \"ACME\"}")
            }
            Fault::Unfinished => {
                Diagnostic::error("the sidecar's JSON is not finished", self.place(end..end))
                    .label("it ends here")
                    .help("is a quote or a bracket missing?")
            }
            Fault::Syntax(why, at) => {
                let message = format!("the sidecar is not JSON: {why}");
                let error = Diagnostic::error(message, self.place(at..at));
                let error = error.label("it cannot be read here");
                if self.text[begin..].starts_with('{') {
                    error
                } else {
                    error.help("the file's name says JSON; what ends in .yaml is read as YAML")
                }
            }
        }))
    }

    fn check(&self, items: &[Item]) -> Vec<Diagnostic> {
        let mut first: HashMap<&str, &Item> = HashMap::new();
        let mut wrong = Vec::new();
        if let Some(surplus) = items.get(NAMES_MAX) {
            let message = format!("the sidecar has more than {}", count(NAMES_MAX, "name"));
            return vec![
                Diagnostic::error(message, self.place(surplus.name_span.clone()))
                    .label("the first one too many"),
            ];
        }
        for item in items {
            let name = shown_bounded(&item.name);
            let at_name = || self.place(item.name_span.clone());
            if item.name.is_empty() {
                wrong.push(
                    Diagnostic::error("a name is empty", at_name())
                        .help("write one, or take the line out"),
                );
            }
            if let Some(before) = first.get(item.name.as_str()) {
                wrong.push(
                    Diagnostic::error(format!("`{name}` is given twice"), at_name())
                        .label("given again here")
                        .other(self.place(before.name_span.clone()), "first given here")
                        .help("keep one of them"),
                );
            }
            first.entry(&item.name).or_insert(item);
            if let Err(found) = item.value {
                let is_nothing = item.span.is_empty();
                let span = if is_nothing {
                    &item.name_span
                } else {
                    &item.span
                };
                let help = if matches!(found, "nothing" | "null") {
                    "write \"\" for an empty text, or leave the name out"
                } else {
                    "the API stores texts only; write a text, JSON in quotes if need be"
                };
                wrong.push(
                    Diagnostic::error(
                        format!("the value of `{name}` must be a text, found {found}"),
                        self.place(span.clone()),
                    )
                    .help(help),
                );
            }
        }
        if wrong.len() > ERRORS_MAX {
            let more = wrong.split_off(ERRORS_MAX);
            let place = more.first().and_then(|next| next.place.clone());
            if let Some(place) = place {
                let message = format!("… and {}", count(more.len(), "more error"));
                wrong.push(Diagnostic::error(message, place).label("the next one"));
            }
        }
        wrong
    }
}

impl Item {
    fn of_yaml(entry: yaml::Entry) -> Self {
        let found = entry.value.describe();
        Self {
            name: entry.key,
            name_span: entry.key_span,
            span: entry.value.span,
            value: match entry.value.value {
                yaml::Value::Scalar(text, _) => Ok(text),
                _ => Err(found),
            },
        }
    }

    fn of_json(member: json::Member) -> Self {
        Self {
            name: member.name,
            name_span: member.name_span,
            span: member.span,
            value: match member.value {
                json::Value::Scalar(text) => Ok(text),
                json::Value::Null => Err("null"),
                json::Value::List => Err("a list"),
                json::Value::Object => Err("an object"),
            },
        }
    }
}
