//! One JSON object to its members, each with its place, scalars kept as written.

use std::fmt;
use std::ops::Range;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// A name and its value, with the bytes of the text they are written in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub name: String,
    pub name_span: Range<usize>,
    pub value: Value,
    pub span: Range<usize>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    /// A string's text, or a number or truth value exactly as written.
    Scalar(String),
    List,
    Object,
}

/// Why a text is no JSON object.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is something else, called by its name.
    NoObject(&'static str),
    /// It is not JSON: why, and the byte where that shows.
    Syntax(String, usize),
    /// It ends before the object does.
    Unfinished,
}

/// Reads one object, with nothing but white space around it. Its members come in their order,
/// repeated names too; what is inside of lists and objects is only checked to be JSON.
pub(crate) fn object(text: &str) -> Result<Vec<Member>, Fault> {
    match text.trim_ascii_start().as_bytes() {
        [b'[', ..] => return Err(Fault::NoObject("a list")),
        [b'"', ..] => return Err(Fault::NoObject("a text")),
        [b'-' | b'0'..=b'9', ..] => return Err(Fault::NoObject("a number")),
        _ => {}
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let raw = deserializer
        .deserialize_map(Members)
        .and_then(|raw| deserializer.end().map(|()| raw))
        .map_err(|error| fault(&error, text, 0))?;
    raw.into_iter()
        .map(|(name, value)| member(name, value, text))
        .collect()
}

fn member(name: &RawValue, value: &RawValue, text: &str) -> Result<Member, Fault> {
    let (name_span, span) = (place(name, text), place(value, text));
    let written = value.get();
    Ok(Member {
        name: string(name.get(), text, name_span.start)?,
        value: match written.as_bytes().first() {
            Some(b'"') => Value::Scalar(string(written, text, span.start)?),
            Some(b'[') => Value::List,
            Some(b'{') => Value::Object,
            Some(b'n') => Value::Null,
            _ => Value::Scalar(written.to_owned()),
        },
        name_span,
        span,
    })
}

/// A JSON string without quotes and escapes.
fn string(written: &str, text: &str, start: usize) -> Result<String, Fault> {
    serde_json::from_str(written).map_err(|error| fault(&error, text, start))
}

/// Where a part of the text lies in it.
fn place(part: &RawValue, text: &str) -> Range<usize> {
    let start = part
        .get()
        .as_ptr()
        .addr()
        .saturating_sub(text.as_ptr().addr());
    start..start + part.get().len()
}

/// The parser's words, with the place as a byte of the text. `start` is where what it was given
/// lies in the text.
fn fault(error: &serde_json::Error, text: &str, start: usize) -> Fault {
    if error.is_eof() {
        return Fault::Unfinished;
    }
    let lines = text[start..].split_inclusive('\n');
    let before: usize = lines
        .take(error.line().saturating_sub(1))
        .map(str::len)
        .sum();
    let at = start + before + error.column().saturating_sub(1);
    let full = error.to_string();
    let message = full.split(" at line ").next().unwrap_or(&full);
    Fault::Syntax(message.to_owned(), text.floor_char_boundary(at))
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}
