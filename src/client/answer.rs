//! What the service said: read leniently, bounded, and never trusted with more than text.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

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

/// What matters of an answer's body. Values stay unread until one is asked for; null is as good as
/// missing.
#[derive(Deserialize, Default)]
struct Fields<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    #[serde(borrow)]
    size: Option<&'a RawValue>,
    #[serde(borrow)]
    dataset: Option<&'a RawValue>,
    creator: Option<IgnoredAny>,
    created_at: Option<IgnoredAny>,
    error: Option<IgnoredAny>,
    detail: Option<IgnoredAny>,
    message: Option<IgnoredAny>,
    errors: Option<IgnoredAny>,
    non_field_errors: Option<IgnoredAny>,
}

impl Fields<'_> {
    /// Whether it says anything that the API says of a stored file beside its id.
    fn tell_of_a_file(&self) -> bool {
        let ignored = [&self.creator, &self.created_at];
        [self.name, self.size, self.dataset]
            .iter()
            .any(Option::is_some)
            || ignored.iter().any(|field| field.is_some())
    }

    /// Whether it says what went wrong, in any of the fields of [`ERROR_KEYS`].
    fn tell_of_an_error(&self) -> bool {
        [
            &self.error,
            &self.detail,
            &self.message,
            &self.errors,
            &self.non_field_errors,
        ]
        .iter()
        .any(|field| field.is_some())
    }
}

impl Receipt {
    /// Reads an answer's body. Missing, null, unknown and oddly typed fields are no error; ids may
    /// be text or numbers. None where the body is no JSON object that tells of a stored file: with
    /// an id, or with anything else of a receipt and no word of an error.
    #[must_use]
    pub fn parse(body: &[u8]) -> Option<Self> {
        // A list would be read as the fields in their order.
        if !body.trim_ascii_start().starts_with(b"{") {
            return None;
        }
        let Ok(fields) = serde_json::from_slice::<Fields<'_>>(body) else {
            // A field that comes twice counts as it came last.
            let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
            let once = serde_json::to_vec(&fields).ok()?;
            return Self::of(&serde_json::from_slice(&once).ok()?);
        };
        Self::of(&fields)
    }

    fn of(fields: &Fields<'_>) -> Option<Self> {
        let file_id = fields.id.and_then(raw_id).map(FileId::new);
        let is_receipt = fields.tell_of_a_file() && !fields.tell_of_an_error();
        if !is_receipt && file_id.is_none() {
            return None;
        }
        let dataset = fields.dataset.map(Dataset::of).unwrap_or_default();
        Some(Self {
            file_id,
            name: fields.name.and_then(raw_text),
            size: fields.size.and_then(|size| size.get().parse().ok()),
            dataset_id: dataset.id,
            dataset_name: dataset.name,
        })
    }
}

/// What an answer says of the dataset: it may be an object, or its id alone.
#[derive(Default)]
struct Dataset {
    id: Option<String>,
    name: Option<String>,
}

impl Dataset {
    fn of(dataset: &RawValue) -> Self {
        #[derive(Deserialize)]
        struct Object<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
            #[serde(borrow)]
            name: Option<&'a RawValue>,
        }
        let text = dataset.get();
        if !text.starts_with('{') {
            return Self {
                id: raw_id(dataset),
                name: None,
            };
        }
        if let Ok(object) = serde_json::from_str::<Object<'_>>(text) {
            return Self {
                id: object.id.and_then(raw_id),
                name: object.name.and_then(raw_text),
            };
        }
        // A field that comes twice counts as it came last.
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        Self {
            id: value.get("id").and_then(id),
            name: value.get("name").and_then(self::text),
        }
    }
}

/// A value's text, read without building the value.
fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let text: Text<'_> = serde_json::from_str(value.get()).ok()?;
    Some(text.0)
}

/// As [`id`], of a value that was not read yet.
fn raw_id(value: &RawValue) -> Option<String> {
    let id = if value.get().starts_with('"') {
        string(value)?
    } else {
        Cow::Owned(
            serde_json::from_str::<Number>(value.get())
                .ok()?
                .to_string(),
        )
    };
    is_id(&id).then(|| id.into_owned())
}

/// As [`text`], of a value that was not read yet.
fn raw_text(value: &RawValue) -> Option<String> {
    string(value).map(|text| bounded(&text))
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
