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

impl Member {
    /// The value's text; none for null, lists and objects.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }
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
        _ => match text.trim_ascii() {
            "null" => return Err(Fault::NoObject("null")),
            "true" | "false" => return Err(Fault::NoObject("a truth value")),
            _ => {}
        },
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
    let mut at = start + before + error.column().saturating_sub(1);
    let full = error.to_string();
    let theirs = full.split(" at line ").next().unwrap_or(&full);
    if theirs.starts_with("control character") {
        // It is named by the byte before it.
        let rest = text.bytes().skip(at);
        at += rest.take_while(|byte| !byte.is_ascii_control()).count();
    }
    Fault::Syntax(explain(theirs).to_owned(), text.floor_char_boundary(at))
}

/// The parser's words in a writer's, where they are not plain.
fn explain(theirs: &str) -> &str {
    match theirs {
        "key must be a string" => "a name must be in double quotes",
        "expected value" | "expected ident" => "a value was expected; a text needs double quotes",
        "invalid escape" => "`\\` begins no escape here",
        "unexpected end of hex escape" | "lone leading surrogate in hex escape" => {
            "this escape is half a character, without its other half"
        }
        "trailing comma" => "a comma with nothing after it",
        "trailing characters" => "the object has ended before this",
        _ if theirs.starts_with("control character") => "a control character must be escaped",
        _ => theirs,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_in_order_with_their_places() {
        let text = " {\"a\\u0062\": 1.10 ,\n\"a\\u0062\":\t[{}, \"]\"], \"\": null}\n";
        let members = object(text).expect("an object");
        let shown: Vec<_> = members
            .iter()
            .map(|m| {
                (
                    m.name.as_str(),
                    &text[m.name_span.clone()],
                    &text[m.span.clone()],
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("ab", "\"a\\u0062\"", "1.10"),
                ("ab", "\"a\\u0062\"", "[{}, \"]\"]"),
                ("", "\"\"", "null"),
            ]
        );
        let texts: Vec<_> = members.iter().map(Member::text).collect();
        assert_eq!(texts, [Some("1.10"), None, None]);
    }

    #[test]
    fn faults_point_at_the_byte_that_cannot_be() {
        for (text, at) in [
            ("{\"a\": 1,}", 8),
            ("{\"\u{e9}\": x}", 7),
            ("{\n\"a\": 1\n\"b\": 2}", 9),
            ("{\"a\": 1} \u{e9}", 9),
            ("{\"a\": \"\t\"}", 7),
            ("{\n \"a\": \"x\\ud800y\"}", 16),
            ("nope", 1),
        ] {
            match object(text) {
                Err(Fault::Syntax(_, found)) => assert_eq!(found, at, "{text:?}"),
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_object_is_called_by_its_name() {
        for (text, found) in [
            ("[]", "a list"),
            (" \"x\"", "a text"),
            ("-1", "a number"),
            ("true\n", "a truth value"),
            ("null", "null"),
        ] {
            assert_eq!(object(text), Err(Fault::NoObject(found)));
        }
        for text in ["", "{", "{\"a\"", "{\"a\": \"x", "{\"a\": [1"] {
            assert_eq!(object(text), Err(Fault::Unfinished), "{text}");
        }
    }
}
