//! What the service said: read leniently, bounded, and never trusted with more than text.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use crate::model::{FileId, shown_bounded};

/// Longest id that is taken for one.
const ID_MAX: usize = 256;

/// Most characters that are kept of a name from outside.
const NAME_MAX: usize = 1024;

/// How one attempt ended, before anything is made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The service answered.
    Answered(Answer),
    /// No answer came.
    Broken(Break),
}

/// An answer's parts that matter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header, as it came.
    pub retry_after: Option<String>,
    /// The `Location` header, as it came.
    pub location: Option<String>,
    /// The body, whole unless `cut`.
    pub body: Vec<u8>,
    /// Whether the body was not read to its end, and why.
    pub cut: Option<String>,
}

/// Why no answer came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Break {
    /// No connection: name lookup, refusal, time-out while connecting.
    Connect(String),
    /// The server's certificate or TLS is not acceptable.
    Tls(String),
    /// The service said that it did not begin to process the request.
    Refused(String),
    /// Nothing moved for too long.
    Stall(String),
    /// The connection ended, or what came over it made no sense.
    Lost(String),
    /// What came was not the protocol that was asked for.
    Foreign(String),
}

impl Break {
    /// What happened, in words.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Connect(text)
            | Self::Tls(text)
            | Self::Refused(text)
            | Self::Stall(text)
            | Self::Lost(text)
            | Self::Foreign(text) => text,
        }
    }
}

/// What a 2xx answer tells of the stored file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// The id, where it can be read.
    pub file_id: Option<FileId>,
    /// The name it was stored under.
    pub name: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The dataset's id.
    pub dataset_id: Option<String>,
    /// The dataset's name.
    pub dataset_name: Option<String>,
}

/// Where the API says what went wrong.
const ERROR_KEYS: [&str; 5] = ["error", "detail", "message", "errors", "non_field_errors"];

/// What matters of an answer's body.
#[derive(Default)]
struct Fields<'a> {
    id: Said<'a>,
    name: Said<'a>,
    size: Said<'a>,
    dataset: Said<'a>,
    /// Whether it says who stored the file, or when.
    tells_of_storing: bool,
    /// Whether it says what went wrong, in any of the fields of [`ERROR_KEYS`].
    tells_of_an_error: bool,
}

/// The names of [`Fields`]; those of `Error` are [`ERROR_KEYS`].
#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Key {
    Id,
    Name,
    Size,
    Dataset,
    #[serde(alias = "created_at")]
    Creator,
    #[serde(
        alias = "detail",
        alias = "message",
        alias = "errors",
        alias = "non_field_errors"
    )]
    Error,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Fields::default();
                // A value that comes twice counts as it came last.
                while let Some(key) = map.next_key()? {
                    match key {
                        Key::Id => fields.id = map.next_value_seed(Depth::Value)?,
                        Key::Name => fields.name = map.next_value_seed(Depth::Value)?,
                        Key::Size => fields.size = map.next_value_seed(Depth::Value)?,
                        Key::Dataset => fields.dataset = map.next_value_seed(Depth::Object)?,
                        Key::Creator => fields.tells_of_storing |= is_there(&mut map)?,
                        Key::Error => fields.tells_of_an_error |= is_there(&mut map)?,
                        Key::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Whether the next value says anything: null does not.
fn is_there<'de, A: MapAccess<'de>>(map: &mut A) -> Result<bool, A::Error> {
    Ok(map.next_value::<Option<IgnoredAny>>()?.is_some())
}

impl<'a> Fields<'a> {
    /// The fields of an object whose values cannot all be read, such as a text that was cut within a
    /// character's escape or a number without bounds: each by itself.
    fn apart(object: &'a [u8]) -> Option<Self> {
        let values: HashMap<String, &RawValue> = serde_json::from_slice(object).ok()?;
        let said = |key, depth: Depth| {
            let value = values.get(key);
            value.map_or(Said::Nothing, |value| depth.read(value))
        };
        let tell = |keys: &[&str]| {
            let mut values = keys.iter().filter_map(|key| values.get(*key));
            values.any(|value| value.get() != "null")
        };
        Some(Self {
            id: said("id", Depth::Value),
            name: said("name", Depth::Value),
            size: said("size", Depth::Value),
            dataset: said("dataset", Depth::Object),
            tells_of_storing: tell(&["creator", "created_at"]),
            tells_of_an_error: tell(&ERROR_KEYS),
        })
    }

    /// Whether it says anything that the API says of a stored file beside its id.
    fn tell_of_a_file(&self) -> bool {
        let fields = [&self.name, &self.size, &self.dataset];
        self.tells_of_storing || fields.iter().any(|said| !matches!(said, Said::Nothing))
    }
}

/// What a field says, as far as it may matter.
#[derive(Default)]
enum Said<'a> {
    /// It is missing, or null.
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Number(Number),
    Object(Dataset),
    /// Something else.
    Other,
}

impl Said<'_> {
    /// An object that cannot be read as a whole.
    fn of_object(text: &str) -> Self {
        let Ok(values) = serde_json::from_str::<HashMap<String, &RawValue>>(text) else {
            return Self::Other;
        };
        let said = |key| values.get(key).map(|value| Depth::Value.read(value));
        Self::Object(Dataset {
            id: said("id").and_then(Said::into_id),
            name: said("name").and_then(Said::into_text),
        })
    }

    /// As [`id`] has it.
    fn into_id(self) -> Option<String> {
        let id = match self {
            Self::Text(text) => text.into_owned(),
            Self::Number(number) => number.to_string(),
            _ => return None,
        };
        is_id(&id).then_some(id)
    }

    /// As [`text`] has it.
    fn into_text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(bounded(&text)),
            _ => None,
        }
    }
}

/// How far a value is read.
#[derive(Clone, Copy)]
enum Depth {
    /// Text or number.
    Value,
    /// An object too.
    Object,
}

impl Depth {
    /// Reads a value as far as it can be read.
    fn read(self, value: &RawValue) -> Said<'_> {
        let text = value.get();
        let read = self.deserialize(&mut serde_json::Deserializer::from_str(text));
        read.unwrap_or_else(|_| match self {
            Self::Value => Said::Other,
            Self::Object => Said::of_object(text),
        })
    }
}

impl<'de> DeserializeSeed<'de> for Depth {
    type Value = Said<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Said<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Depth {
    type Value = Said<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Said<'de>, E> {
        Ok(Said::Nothing)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Said<'de>, E> {
        Ok(Said::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<Said<'de>, E> {
        Ok(Said::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Said<'de>, E> {
        Ok(Said::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Said<'de>, E> {
        Ok(Number::from_f64(number).map_or(Said::Other, Said::Number))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Said<'de>, E> {
        Ok(Said::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Said<'de>, E> {
        Ok(Said::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Said<'de>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Said::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Said<'de>, A::Error> {
        let mut dataset = Dataset::default();
        while let Some(key) = map.next_key()? {
            match (self, key) {
                (Self::Object, Key::Id) => dataset.id = map.next_value_seed(Self::Value)?.into_id(),
                (Self::Object, Key::Name) => {
                    dataset.name = map.next_value_seed(Self::Value)?.into_text();
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(match self {
            Self::Value => Said::Other,
            Self::Object => Said::Object(dataset),
        })
    }
}

/// What an answer says of the dataset: it may be an object, or its id alone.
#[derive(Default)]
struct Dataset {
    id: Option<String>,
    name: Option<String>,
}

impl Receipt {
    /// Reads an answer's body. Missing, null, unknown and oddly typed fields are no error; ids may
    /// be text or numbers. None where the body is no JSON object that tells of a stored file: with
    /// an id, or with anything else of a receipt and no word of an error.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let fields = serde_json::from_slice(body).ok();
        let fields = fields.or_else(|| Fields::apart(body))?;
        let is_receipt = fields.tell_of_a_file() && !fields.tells_of_an_error;
        let file_id = fields.id.into_id().map(FileId::new);
        if !is_receipt && file_id.is_none() {
            return None;
        }
        let dataset = match fields.dataset {
            Said::Object(dataset) => dataset,
            said => Dataset {
                id: said.into_id(),
                name: None,
            },
        };
        Some(Self {
            file_id,
            name: fields.name.into_text(),
            size: match fields.size {
                Said::Number(size) => size.as_u64(),
                _ => None,
            },
            dataset_id: dataset.id,
            dataset_name: dataset.name,
        })
    }
}

/// An id, as text or number.
pub(super) fn id(value: &Value) -> Option<String> {
    let id = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    is_id(&id).then_some(id)
}

fn is_id(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= ID_MAX
}

/// A text, cut where it is too long.
pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().map(bounded)
}

fn bounded(text: &str) -> String {
    let end = text.char_indices().nth(NAME_MAX);
    text[..end.map_or(text.len(), |(at, _)| at)].to_owned()
}

impl Answer {
    /// What the body says for people: the message of an error in any of the shapes the service
    /// uses, the title of an HTML page, or the first line of anything else; safe to show.
    #[must_use]
    pub fn message(&self) -> Option<String> {
        let text = match serde_json::from_slice::<Value>(&self.body) {
            Ok(value) => json_message(&value, 0)?,
            Err(_) => text_message(&String::from_utf8_lossy(&self.body))?,
        };
        let text = text.trim();
        (!text.is_empty()).then(|| shown_bounded(text))
    }
}

fn json_message(value: &Value, depth: usize) -> Option<String> {
    if depth > 4 {
        return None;
    }
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        Value::Null => None,
        Value::Array(items) => {
            let texts: Vec<String> = items
                .iter()
                .take(5)
                .filter_map(|item| json_message(item, depth + 1))
                .collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
        Value::Object(fields) => {
            for key in ERROR_KEYS {
                if let Some(found) = fields.get(key).and_then(|v| json_message(v, depth + 1)) {
                    return Some(found);
                }
            }
            let texts: Vec<String> = fields
                .iter()
                .take(5)
                .filter_map(|(key, value)| {
                    Some(format!("{key}: {}", json_message(value, depth + 1)?))
                })
                .collect();
            (!texts.is_empty()).then(|| texts.join("; "))
        }
    }
}

fn text_message(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    if let Some(start) = lower.find("<title>").map(|at| at + 7)
        && let Some(end) = lower[start..].find("</title>")
    {
        return Some(text[start..start + end].to_owned());
    }
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    if line.starts_with('<') {
        return Some("an HTML page".to_owned());
    }
    Some(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(body: &str) -> Option<String> {
        Answer {
            body: body.as_bytes().to_vec(),
            ..Answer::default()
        }
        .message()
    }

    #[test]
    fn every_error_shape_is_understood() {
        for (body, expected) in [
            (r#"{"error": "no"}"#, Some("no")),
            (r#"{"detail": "Not found."}"#, Some("Not found.")),
            (r#"{"message": {"text": "deep"}}"#, Some("text: deep")),
            (
                r#"{"file": ["empty", "bad"], "name": "x"}"#,
                Some("file: empty; bad; name: x"),
            ),
            (r#"["one", "two"]"#, Some("one; two")),
            (r#""just text""#, Some("just text")),
            (
                "<html><head><TITLE>502 Bad Gateway</TITLE>",
                Some("502 Bad Gateway"),
            ),
            ("<!doctype html><p>x", Some("an HTML page")),
            ("\n  plain words\nmore", Some("plain words")),
            ("{}", None),
            ("null", None),
            ("", None),
            ("\u{1b}[31mred", Some("\\u{1b}[31mred")),
        ] {
            assert_eq!(message(body).as_deref(), expected, "{body}");
        }
    }

    #[test]
    fn a_receipt_is_read_leniently_but_never_invented() {
        let parse = |body: &str| Receipt::parse(body.as_bytes()).expect(body);
        let full = parse(
            r#"{"id": "f-1", "name": "a.txt", "size": 3, "x": [1],
                "dataset": {"id": "d", "name": "n", "creator": null}}"#,
        );
        assert_eq!(full.file_id, Some(FileId::new("f-1")));
        assert_eq!(full.dataset_name.as_deref(), Some("n"));
        assert_eq!(full.size, Some(3));
        let odd = parse(r#"{"id": 7, "name": null, "size": null, "dataset": "d"}"#);
        assert_eq!(odd.file_id, Some(FileId::new("7")));
        assert_eq!(odd.dataset_id.as_deref(), Some("d"));
        let nested = parse(
            r#"{"id": "f", "dataset": {"name": "o", "id": 9, "x": 1, "x": 2, "name": "\u006e"}}"#,
        );
        assert_eq!(nested.dataset_id.as_deref(), Some("9"));
        assert_eq!(nested.dataset_name.as_deref(), Some("n"), "the last counts");
        let nothing = parse(r#"{"id": "f", "dataset": [1], "size": -3, "name": 4}"#);
        let id_alone = Receipt {
            file_id: Some(FileId::new("f")),
            ..Receipt::default()
        };
        assert_eq!(nothing, id_alone);
        let odd = parse(
            r#"{"id": {"id": "x"}, "name": true, "size": 1.0, "dataset": {"id": {"id": 1}, "name": [1]}}"#,
        );
        assert_eq!(odd, Receipt::default(), "nothing of it is text or number");
        let taken_back = parse(r#"{"id": "f", "name": "a", "name": null, "created_at": "now"}"#);
        assert_eq!(taken_back, id_alone, "the last counts");
        let escaped = parse(r#"{"id": "f\u002d1", "name": "\"a\"", "dataset": -1}"#);
        assert_eq!(escaped.file_id, Some(FileId::new("f-1")));
        assert_eq!(escaped.name.as_deref(), Some("\"a\""));
        assert_eq!(escaped.dataset_id.as_deref(), Some("-1"));
        for unreadable in [r#""name": "a\ud83d.txt""#, r#""size": 1e400"#] {
            let stored = parse(&format!(
                r#"{{"id": "f", "id": "f-1", "x": 1e999, {unreadable}, "dataset": {{"id": "d", {unreadable}}}}}"#
            ));
            assert_eq!(stored.file_id, Some(FileId::new("f-1")), "{unreadable}");
            assert_eq!(stored.dataset_id.as_deref(), Some("d"), "{unreadable}");
            assert_eq!((stored.name, stored.size), (None, None), "{unreadable}");
        }
        // However deep it goes, and whatever is wrong at the bottom.
        for key in ["id", "dataset", "x"] {
            let deep = format!("{{\"{key}\":").repeat(100_000);
            let body = format!("{deep}1e400{}", "}".repeat(100_000));
            assert_eq!(
                Receipt::parse(body.as_bytes()).map(|r| r.file_id),
                (key == "dataset").then_some(None)
            );
        }
        for id in ["null", "\"  \"", "{}"] {
            let without = parse(&format!(r#"{{"id": {id}, "name": "a"}}"#));
            assert_eq!(without.file_id, None, "{id}");
        }
        let twice = parse(r#"{"id": "f-1", "name": "a", "id": "f-2"}"#);
        assert_eq!(twice.file_id, Some(FileId::new("f-2")));
        let insistent = parse(r#"{"id": "f", "message": "stored"}"#);
        assert_eq!(insistent.file_id, Some(FileId::new("f")));
        for foreign in [
            "",
            "[]",
            r#"["a", "b", 3, {}, 5, 6, null, null, null, null, null]"#,
            "\"id\"",
            "<p>",
            "{",
            "{}",
            r#"{"id": null}"#,
            r#"{"error": "no space"}"#,
            r#"{"id": null, "name": null, "size": null}"#,
            r#"{"id": "", "name": "a", "detail": "not stored"}"#,
        ] {
            assert_eq!(Receipt::parse(foreign.as_bytes()), None, "{foreign}");
        }
        let long = parse(&format!(r#"{{"id": "x", "name": "{}"}}"#, "n".repeat(9999)));
        assert_eq!(long.name.map(|name| name.len()), Some(NAME_MAX));
    }
}
