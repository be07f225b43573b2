//! The filters: what they are called, what they do, and how much they may make.

use std::fmt::Write;

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind, filters};
use sha2::{Digest, Sha256};

use super::dates;
use super::patterns;
use crate::model::shown_bounded;

/// Longest text that a filter makes, in bytes.
pub(super) const TEXT_MAX: usize = 1024 * 1024;

/// Most parts that `split` makes.
const PARTS_MAX: usize = 10_000;

/// A filter, as it is documented and as it is run.
#[derive(Debug, Clone, Copy)]
pub struct Filter {
    /// Its name.
    pub name: &'static str,
    /// Its name with what stands in its brackets.
    pub signature: &'static str,
    /// What it does, in one line.
    pub meaning: &'static str,
    /// An expression that uses it.
    pub example: &'static str,
    /// What the example renders to.
    pub yields: &'static str,
    /// The fewest and most arguments it takes.
    pub(super) arguments: (usize, usize),
    pub(super) gives: Gives,
    /// Looks at the arguments, as far as they are known when the manifest is read.
    pub(super) check: fn(&[Option<&str>]) -> Checked,
    run: fn(&Value, &[Value]) -> Result<Value, Error>,
}

/// Whether arguments will do, or else which of them will not, and why.
pub(super) type Checked = Result<(), (usize, String)>;

/// What a filter makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    Text,
    Number,
    List,
    /// One of what it is given, of whatever kind.
    Any,
    /// The kind that it is given.
    Same,
}

/// Every filter, in the order of the documentation.
pub static FILTERS: [Filter; 15] = [
    Filter {
        name: "lower",
        signature: "lower",
        meaning: "in lower case",
        example: "\"Invoice.PDF\" | lower",
        yields: "invoice.pdf",
        run: |value, _| text_of(value, "lower").and_then(|text| made(text.to_lowercase())),
        ..PLAIN
    },
    Filter {
        name: "upper",
        signature: "upper",
        meaning: "in upper case",
        example: "\"eu-west\" | upper",
        yields: "EU-WEST",
        run: |value, _| text_of(value, "upper").and_then(|text| made(text.to_uppercase())),
        ..PLAIN
    },
    Filter {
        name: "title",
        signature: "title",
        meaning: "each word with a capital",
        example: "\"annual report\" | title",
        yields: "Annual Report",
        run: |value, _| text_of(value, "title").and_then(|text| made(filters::title(text.into()))),
        ..PLAIN
    },
    Filter {
        name: "trim",
        signature: "trim",
        meaning: "without white space at either end",
        example: "\"  acme \" | trim",
        yields: "acme",
        run: |value, _| text_of(value, "trim").and_then(|text| made(text.trim().to_owned())),
        ..PLAIN
    },
    Filter {
        name: "replace",
        signature: "replace(old, new)",
        meaning: "with one text in place of another, wherever it stands",
        example: "\"a_b_c\" | replace(\"_\", \" \")",
        yields: "a b c",
        arguments: (2, 2),
        check: |arguments| match arguments {
            [Some(""), ..] => Err((0, NOTHING_TO_FIND.to_owned())),
            _ => Ok(()),
        },
        run: replace,
        ..PLAIN
    },
    Filter {
        name: "default",
        signature: "default(text)",
        meaning: "that text where there is no value; an empty text is one",
        example: "(\"a-b\" | split(\"-\"))[2] | default(\"none\")",
        yields: "none",
        arguments: (1, 1),
        gives: Gives::Same,
        run: |value, arguments| {
            let is_missing = value.is_undefined() || value.is_none();
            Ok(if is_missing { &arguments[0] } else { value }.clone())
        },
        ..PLAIN
    },
    Filter {
        name: "split",
        signature: "split(separator)",
        meaning: "the list of its parts",
        example: "(\"2024/acme/7.pdf\" | split(\"/\"))[1]",
        yields: "acme",
        arguments: (1, 1),
        gives: Gives::List,
        check: |arguments| match arguments {
            [Some("")] => Err((0, "`split` needs a separator".to_owned())),
            _ => Ok(()),
        },
        run: split,
    },
    Filter {
        name: "first",
        signature: "first",
        meaning: "the first item of a list, the first character of a text",
        example: "\"acme/2024\" | split(\"/\") | first",
        yields: "acme",
        gives: Gives::Any,
        run: |value, _| end_of(value, End::First),
        ..PLAIN
    },
    Filter {
        name: "last",
        signature: "last",
        meaning: "the last item of a list, the last character of a text",
        example: "\"acme/2024\" | split(\"/\") | last",
        yields: "2024",
        gives: Gives::Any,
        run: |value, _| end_of(value, End::Last),
        ..PLAIN
    },
    Filter {
        name: "join",
        signature: "join(separator)",
        meaning: "the items of a list as one text",
        example: "[\"a\", \"b\"] | join(\", \")",
        yields: "a, b",
        arguments: (1, 1),
        run: join,
        ..PLAIN
    },
    Filter {
        name: "length",
        signature: "length",
        meaning: "how many characters or items",
        example: "\"acme\" | length",
        yields: "4",
        gives: Gives::Number,
        run: length,
        ..PLAIN
    },
    Filter {
        name: "slug",
        signature: "slug",
        meaning: "in lower case, with `-` for whatever is no letter or digit",
        example: "\"Annual Report (2024)\" | slug",
        yields: "annual-report-2024",
        run: |value, _| text_of(value, "slug").and_then(|text| made(slug(&text))),
        ..PLAIN
    },
    Filter {
        name: "date",
        signature: "date(format)",
        meaning: "a date or time as `strftime` writes it, in UTC",
        example: "\"2025-03-01T23:30:00-02:00\" | date(\"%d.%m.%Y\")",
        yields: "02.03.2025",
        arguments: (1, 1),
        check: |arguments| match arguments {
            [Some(format)] => dates::check(format).map_err(|why| (0, why)),
            _ => Ok(()),
        },
        run: |value, arguments| {
            let text = text_of(value, "date")?;
            let format = text_of(&arguments[0], "date")?;
            match dates::date(&text, &format) {
                Some(date) => date.map_err(failed).and_then(made),
                None => Err(failed(NO_DATE).with_source(Found(shown_bounded(&text)))),
            }
        },
        ..PLAIN
    },
    Filter {
        name: "regex_replace",
        signature: "regex_replace(pattern, replacement)",
        meaning: "with each match of a regular expression replaced; `$1` and `${name}` are its groups",
        example: "\"IMG_0042\" | regex_replace(\"^[A-Z]+_0*(\\\\d+)$\", \"no. $1\")",
        yields: "no. 42",
        arguments: (2, 2),
        check: |arguments| match arguments {
            [Some(pattern), replacement] => patterns::check(pattern, *replacement),
            _ => Ok(()),
        },
        run: |value, arguments| {
            let text = text_of(value, "regex_replace")?;
            let pattern = text_of(&arguments[0], "regex_replace")?;
            let replacement = text_of(&arguments[1], "regex_replace")?;
            let replaced = patterns::replace(&text, &pattern, &replacement);
            replaced.map_err(failed).and_then(made)
        },
        ..PLAIN
    },
    Filter {
        name: "hash",
        signature: "hash(algorithm)",
        meaning: "the SHA-256 of the text in hexadecimal, or with `hash(\"blake3\")` its BLAKE3",
        example: "\"acme\" | hash",
        yields: "822b33ad87c148a0a20a5ba7cd5ebcaa68d36a18e7aad165554903f52ca82757",
        arguments: (0, 1),
        check: |arguments| match arguments {
            [Some(name)] => algorithm(name).map(drop).map_err(|why| (0, why)),
            _ => Ok(()),
        },
        run: hash,
        ..PLAIN
    },
];

/// A filter that takes no arguments and makes a text.
const PLAIN: Filter = Filter {
    name: "",
    signature: "",
    meaning: "",
    example: "",
    yields: "",
    arguments: (0, 0),
    gives: Gives::Text,
    check: |_| Ok(()),
    run: |value, _| Ok(value.clone()),
};

const NO_DATE: &str = "`date` takes `2025-03-01` or `2025-03-01T12:00:00Z`";

const NOTHING_TO_FIND: &str = "`replace` needs a text to look for";

impl Filter {
    pub(super) fn of(name: &str) -> Option<&'static Self> {
        FILTERS.iter().find(|filter| filter.name == name)
    }

    /// Runs the filter on what stands before it.
    pub(super) fn apply(&self, values: &[Value]) -> Result<Value, Error> {
        let Some((value, arguments)) = values.split_first() else {
            return Err(Error::from(ErrorKind::MissingArgument));
        };
        let (fewest, most) = self.arguments;
        if arguments.len() < fewest {
            return Err(Error::from(ErrorKind::MissingArgument));
        }
        if arguments.len() > most {
            return Err(Error::from(ErrorKind::TooManyArguments));
        }
        // What has no value is told by the name that has none; `default` is there for that.
        if self.gives != Gives::Same && values.iter().any(Value::is_undefined) {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        (self.run)(value, arguments)
    }
}

/// The value that a filter could not take. It may be a secret, and so is no part of the message.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Found(String);

/// An error of the text at hand: another file's may do.
fn failed(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, why.into())
}

/// An error of the expression: no file can do.
fn misused(why: String) -> Error {
    Error::new(ErrorKind::NonPrimitive, why)
}

/// A kind of value in words of ours.
pub(super) fn kind_word(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::String => "a text",
        ValueKind::Number => "a number",
        ValueKind::Bool => "true or false",
        ValueKind::Seq | ValueKind::Iterable => "a list",
        ValueKind::Map => "a group of values",
        ValueKind::Undefined | ValueKind::None => "no value",
        _ => "no text",
    }
}

/// A text, a number or a truth value as a text.
pub(super) fn plain_text(value: &Value) -> Option<String> {
    match value.kind() {
        ValueKind::String | ValueKind::Number => Some(value.to_string()),
        ValueKind::Bool => Some(if value.is_true() { "true" } else { "false" }.to_owned()),
        _ => None,
    }
}

fn text_of(value: &Value, filter: &str) -> Result<String, Error> {
    plain_text(value).ok_or_else(|| {
        misused(format!(
            "`{filter}` takes a text, not {}",
            kind_word(value.kind())
        ))
    })
}

fn too_long() -> Error {
    failed("it makes a text longer than 1 MiB")
}

fn made(text: String) -> Result<Value, Error> {
    if text.len() > TEXT_MAX {
        return Err(too_long());
    }
    Ok(Value::from(text))
}

/// Adds to a text that must stay short enough.
pub(super) fn push(text: &mut String, more: &str) -> Result<(), String> {
    if text.len() + more.len() > TEXT_MAX {
        return Err("it makes a text longer than 1 MiB".to_owned());
    }
    text.push_str(more);
    Ok(())
}

fn replace(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let text = text_of(value, "replace")?;
    let old = text_of(&arguments[0], "replace")?;
    let new = text_of(&arguments[1], "replace")?;
    if old.is_empty() {
        return Err(failed(NOTHING_TO_FIND));
    }
    let mut made = String::new();
    let mut rest = 0;
    for (at, _) in text.match_indices(&old) {
        push(&mut made, &text[rest..at]).map_err(failed)?;
        push(&mut made, &new).map_err(failed)?;
        rest = at + old.len();
    }
    push(&mut made, &text[rest..]).map_err(failed)?;
    Ok(Value::from(made))
}

fn split(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let text = text_of(value, "split")?;
    let separator = text_of(&arguments[0], "split")?;
    if separator.is_empty() {
        return Err(failed("`split` needs a separator"));
    }
    let mut parts = text.split(separator.as_str());
    let found: Vec<Value> = parts.by_ref().take(PARTS_MAX).map(Value::from).collect();
    if parts.next().is_some() {
        return Err(failed("it has more than 10,000 parts"));
    }
    Ok(Value::from(found))
}

#[derive(Clone, Copy)]
enum End {
    First,
    Last,
}

fn end_of(value: &Value, end: End) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        let found = match end {
            End::First => text.chars().next(),
            End::Last => text.chars().next_back(),
        };
        return Ok(found.map_or(Value::UNDEFINED, Value::from));
    }
    let filter = match end {
        End::First => "first",
        End::Last => "last",
    };
    let mut items = items_of(value, filter)?;
    let found = match end {
        End::First => items.next(),
        End::Last => items.last(),
    };
    Ok(found.unwrap_or(Value::UNDEFINED))
}

fn items_of(value: &Value, filter: &str) -> Result<impl Iterator<Item = Value>, Error> {
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(misused(format!(
            "`{filter}` takes a list, not {}",
            kind_word(value.kind())
        )));
    }
    value.try_iter()
}

fn join(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let separator = text_of(&arguments[0], "join")?;
    let mut joined = String::new();
    for (number, item) in items_of(value, "join")?.enumerate() {
        if item.is_undefined() {
            return Err(Error::from(ErrorKind::UndefinedError));
        }
        if number > 0 {
            push(&mut joined, &separator).map_err(failed)?;
        }
        push(&mut joined, &text_of(&item, "join")?).map_err(failed)?;
    }
    Ok(Value::from(joined))
}

fn length(value: &Value, _: &[Value]) -> Result<Value, Error> {
    if let Some(text) = value.as_str() {
        return Ok(Value::from(text.chars().count()));
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable | ValueKind::Map => value.len().map(Value::from),
        _ => None,
    }
    .ok_or_else(|| {
        misused(format!(
            "`length` takes a text or a list, not {}",
            kind_word(value.kind())
        ))
    })
}

/// Lower case, with one `-` for each run of what is no letter or digit, and none at the ends.
fn slug(text: &str) -> String {
    let mut slug = String::with_capacity(text.len());
    for c in text.to_lowercase().chars() {
        if c.is_alphanumeric() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.truncate(slug.trim_end_matches('-').len());
    slug
}

/// How a text is hashed, to hexadecimal digits.
type Hasher = fn(&[u8]) -> String;

fn algorithm(name: &str) -> Result<Hasher, String> {
    match name {
        "sha256" => Ok(|bytes| {
            let mut digits = String::new();
            for byte in Sha256::digest(bytes) {
                let _ = write!(digits, "{byte:02x}");
            }
            digits
        }),
        "blake3" => Ok(|bytes| blake3::hash(bytes).to_hex().to_string()),
        _ => Err("`hash` knows \"sha256\" and \"blake3\"".to_owned()),
    }
}

fn hash(value: &Value, arguments: &[Value]) -> Result<Value, Error> {
    let text = text_of(value, "hash")?;
    let name = match arguments.first() {
        Some(name) => text_of(name, "hash")?,
        None => "sha256".to_owned(),
    };
    let hasher = algorithm(&name).map_err(failed)?;
    Ok(Value::from(hasher(text.as_bytes())))
}
