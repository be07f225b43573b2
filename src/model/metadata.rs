//! What is stored with a file, and what of it may be shown.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::ser::Error;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::Digest;

/// What stands for a value that is not shown.
pub const HIDDEN: &str = "(hidden)";

/// Whether a value may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// It may.
    Open,
    /// It is sent, and shown nowhere: it holds what looks like a secret.
    Hidden,
}

/// A file's metadata in the manifest's order. The API takes strings only.
///
/// Whatever serializes or prints it has [`HIDDEN`] in place of hidden values; only
/// [`Metadata::sent_json`] and [`Metadata::digest`] are of the values themselves. A clone is the same
/// metadata: many files share one, and what is made of it is made once.
#[derive(Clone, Default)]
pub struct Metadata(Arc<Shared>);

#[derive(Default)]
struct Shared {
    fields: Vec<(String, String, Secrecy)>,
    digest: OnceLock<Digest>,
    sent: OnceLock<Box<str>>,
    shown: OnceLock<Box<str>>,
}

impl Metadata {
    /// Metadata that may be shown.
    #[must_use]
    pub fn open(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let open = |(key, value)| (key, value, Secrecy::Open);
        pairs.into_iter().map(open).collect()
    }

    /// Adds a value.
    pub fn push(&mut self, key: String, value: String, secrecy: Secrecy) {
        let mut fields = self.0.fields.clone();
        fields.push((key, value, secrecy));
        *self = fields.into_iter().collect();
    }

    /// The same, and one more that may be shown.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> Self {
        let mut more = self.clone();
        more.push(key.to_owned(), value.to_owned(), Secrecy::Open);
        more
    }

    /// Whether there is none: then no `metadata` part is sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.fields.is_empty()
    }

    /// The JSON object that is sent as the `metadata` part, hidden values too: for the service
    /// and nobody else.
    #[must_use]
    pub fn sent_json(&self) -> &str {
        let json = || serde_json::to_string(&Sent(self)).unwrap_or_default();
        self.0.sent.get_or_init(|| json().into())
    }

    /// The same object as it may be shown.
    #[must_use]
    pub fn shown_json(&self) -> &str {
        let json = || serde_json::to_string(self).unwrap_or_default();
        self.0.shown.get_or_init(|| json().into())
    }

    /// The same, to be shown.
    #[must_use]
    pub fn as_shown(&self) -> ShownMetadata<'_> {
        ShownMetadata(self.shown_json())
    }

    /// The size of the `metadata` part in bytes.
    #[must_use]
    pub fn sent_bytes(&self) -> usize {
        if self.is_empty() {
            0
        } else {
            self.sent_json().len()
        }
    }

    /// Reads what [`Metadata::shown_json`] wrote.
    #[must_use]
    pub fn from_json(text: &str) -> Option<Self> {
        Self::from_fields(serde_json::from_str(text).ok()?)
    }

    /// Takes an object's fields; none where one is no text.
    #[must_use]
    pub fn from_fields(fields: Map<String, Value>) -> Option<Self> {
        let fields = fields.into_iter().map(|(key, value)| match value {
            Value::String(value) => Some((key, value, Secrecy::Open)),
            _ => None,
        });
        fields.collect()
    }

    /// A digest that ignores the order of keys: what "the metadata changed" means. It is of what
    /// is sent, whether or not that may be shown.
    #[must_use]
    pub fn digest(&self) -> Digest {
        *self.0.digest.get_or_init(|| self.made_digest())
    }

    fn made_digest(&self) -> Digest {
        let mut sorted: Vec<_> = self.sent().collect();
        sorted.sort_unstable();
        let mut hasher = blake3::Hasher::new();
        for (key, value) in sorted {
            for text in [key, value] {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        Digest(*hasher.finalize().as_bytes())
    }

    fn sent(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .fields
            .iter()
            .map(|(key, value, _)| (&**key, &**value))
    }

    /// Keys and values as they may be shown.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        let fields = self.0.fields.iter();
        fields.map(|(key, value, secrecy)| match secrecy {
            Secrecy::Open => (&**key, &**value),
            Secrecy::Hidden => (&**key, HIDDEN),
        })
    }
}

impl FromIterator<(String, String, Secrecy)> for Metadata {
    fn from_iter<T: IntoIterator<Item = (String, String, Secrecy)>>(fields: T) -> Self {
        Self(Arc::new(Shared {
            fields: fields.into_iter().collect(),
            ..Shared::default()
        }))
    }
}

/// Metadata as it may be shown, where only its text is there: a JSON object of texts, written as
/// [`Metadata::shown_json`] writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownMetadata<'a>(&'a str);

impl<'a> ShownMetadata<'a> {
    /// Takes valid JSON; none where it is something else, or has white space between its parts.
    #[must_use]
    pub fn of_json(json: &'a str) -> Option<Self> {
        let inner = json.strip_prefix('{')?.strip_suffix('}')?;
        let mut is_text = false;
        let mut bytes = inner.bytes();
        while let Some(byte) = bytes.next() {
            match (byte, is_text) {
                (b'"', _) => is_text = !is_text,
                (b'\\', true) => {
                    bytes.next();
                }
                (_, true) | (b':' | b',', false) => {}
                (_, false) => return None,
            }
        }
        Some(Self(json))
    }

    /// The object.
    #[must_use]
    pub fn as_json(self) -> &'a str {
        self.0
    }
}

impl Serialize for ShownMetadata<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let read: Map<String, Value> = serde_json::from_str(self.0).map_err(S::Error::custom)?;
        read.serialize(serializer)
    }
}

impl JsonSchema for ShownMetadata<'_> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Metadata::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Metadata::json_schema(generator)
    }
}

impl PartialEq for Metadata {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.fields == other.0.fields
    }
}

impl Eq for Metadata {}

/// As the service gets it.
struct Sent<'a>(&'a Metadata);

impl Serialize for Sent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.sent())
    }
}

impl Serialize for Metadata {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown())
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl JsonSchema for Metadata {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "metadata".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        BTreeMap::<String, String>::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_secret() -> Metadata {
        let mut metadata = Metadata::open([("year".to_owned(), "2025".to_owned())]);
        let (key, value) = ("token".to_owned(), "hunter2".to_owned());
        metadata.push(key, value, Secrecy::Hidden);
        metadata
    }

    #[test]
    fn a_hidden_value_is_sent_and_shown_nowhere() {
        let metadata = with_secret();
        let sent = r#"{"year":"2025","token":"hunter2"}"#;
        assert_eq!(metadata.sent_json(), sent);
        assert_eq!(metadata.sent_bytes(), sent.len());
        let shown = r#"{"year":"2025","token":"(hidden)"}"#;
        assert_eq!(metadata.shown_json(), shown);
        assert_eq!(serde_json::to_string(&metadata).expect("JSON"), shown);
        let debug = format!("{metadata:?} {:#?}", metadata.with("a", "b"));
        assert!(
            debug.contains(HIDDEN) && !debug.contains("hunter2"),
            "{debug}"
        );
    }

    #[test]
    fn hiding_a_value_changes_nothing_of_what_the_metadata_is() {
        let pairs = [("token", "hunter2"), ("year", "2025")];
        let open = Metadata::open(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())));
        assert_eq!(with_secret().digest(), open.digest());
        let read = Metadata::from_json(with_secret().shown_json()).expect("an object");
        assert_ne!(with_secret().digest(), read.digest());
    }

    #[test]
    fn what_is_shown_is_an_object_of_texts_without_white_space() {
        let odd = [("a b", "\"}, {\\"), ("", "{1: [2]}"), ("é", " \n")];
        let odd = Metadata::open(odd.map(|(k, v)| (k.to_owned(), v.to_owned())));
        for metadata in [Metadata::default(), with_secret(), odd] {
            let shown = metadata.shown_json();
            assert_eq!(ShownMetadata::of_json(shown), Some(metadata.as_shown()));
            let written = serde_json::to_string(&metadata.as_shown()).expect("JSON");
            assert_eq!(written, shown);
        }
        for other in [
            r#"{"a": "b"}"#,
            r#"{"a":1}"#,
            r#"{"a":{"b":"c"}}"#,
            r#"{"a":["b"]}"#,
            r#"{"a":null}"#,
            r#"["a"]"#,
            "{ }",
            "1",
            r#""{}""#,
        ] {
            assert_eq!(ShownMetadata::of_json(other), None, "{other}");
        }
    }

    #[test]
    fn without_metadata_nothing_is_sent() {
        assert_eq!(Metadata::default().sent_bytes(), 0);
    }
}
