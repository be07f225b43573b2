//! YAML text to a tree in which every key and value knows its place, scalars kept as written.

mod line;
mod mistake;

use std::fmt;
use std::ops::Range;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_yaml::{DuplicateKeyPolicy, Location, MergeKeyPolicy, NonFiniteFloatPolicy, Spanned};

use crate::diagnostic::Diagnostic;

/// Deepest nesting; a manifest needs five levels.
const DEPTH_MAX: usize = 16;

/// Most aliases, and most merges: two for each of 100,000 rules.
const ALIASES_MAX: usize = 200_000;

/// What a document is called where it is wrong, and how much may be in it, aliases followed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Document {
    pub name: &'static str,
    pub nodes_max: usize,
    pub scalar_bytes_max: usize,
}

/// 100,000 rules of ten keys, and room.
pub(crate) const MANIFEST: Document = Document {
    name: "manifest",
    nodes_max: 4_000_000,
    scalar_bytes_max: 64 * 1024 * 1024,
};

/// Some names and texts, and room.
pub(crate) const SIDECAR: Document = Document {
    name: "sidecar",
    nodes_max: 10_000,
    scalar_bytes_max: 4 * 1024 * 1024,
};

/// Some settings, and room.
pub(crate) const CONFIG: Document = Document {
    name: "config file",
    nodes_max: 10_000,
    scalar_bytes_max: 4 * 1024 * 1024,
};

/// Bytes of the text.
pub(crate) type Span = Range<usize>;

/// A value and where it stands. For an alias or a merged key that is where it was written.
#[derive(Debug)]
pub(crate) struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    Null,
    /// A scalar's text: for numbers and truth values exactly as written.
    Scalar(String, Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// What YAML takes a scalar for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scalar {
    Text,
    Number,
    Bool,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub key: String,
    pub key_span: Span,
    pub value: Node,
}

impl Node {
    /// What a reader would call this value in "expected …, found …".
    pub(crate) fn describe(&self) -> &'static str {
        match &self.value {
            Value::Null if self.span.is_empty() => "nothing",
            Value::Null => "null",
            Value::Scalar(_, Scalar::Text) => "a text",
            Value::Scalar(_, Scalar::Number) => "a number",
            Value::Scalar(_, Scalar::Bool) => "a truth value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// Parses one YAML document.
pub(crate) fn parse(text: &str, document: &Document) -> Result<Node, Box<Diagnostic>> {
    let options = serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_nodes: document.nodes_max,
            max_events: 2 * document.nodes_max,
            max_total_scalar_bytes: document.scalar_bytes_max,
            max_depth: DEPTH_MAX,
            max_aliases: ALIASES_MAX,
            max_merge_keys: ALIASES_MAX,
            // One text for very many rules is what an alias is for; what they come to is bounded.
            enforce_alias_anchor_ratio: false,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: document.nodes_max,
        },
        // The reader of the tree reports every repeated key, with both places.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        merge_keys: MergeKeyPolicy::Merge,
        strict_booleans: true,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    match serde_yaml::from_str_with_options::<At<Raw>>(text, options) {
        Ok(root) => Ok(node(root, text)),
        Err(error) => {
            let location = error.location().unwrap_or(Location::UNKNOWN);
            let full = error.to_string();
            // The place is shown by the snippet; the parser repeats it in its text.
            let place = format!(" at line {}, column {}", location.line(), location.column());
            let message = full.replace(&place, "");
            let span = place_of(location, text);
            Err(Box::new(mistake::explain(&message, span, text, document)))
        }
    }
}

/// The byte range of a location. Syntax errors carry line and column only.
fn place_of(location: Location, text: &str) -> Span {
    let span = location.span();
    if let (Some(start), Some(length)) = (span.byte_offset(), span.byte_len()) {
        let start = index(start).min(text.len());
        let end = (start + index(length)).min(text.len());
        if text.is_char_boundary(start) && text.is_char_boundary(end) {
            return start..end;
        }
    }
    let line = text
        .split_inclusive('\n')
        .scan(0, |start, line| {
            let this = (*start, line);
            *start += line.len();
            Some(this)
        })
        .nth(index(location.line()).saturating_sub(1));
    let Some((start, line)) = line else {
        return text.len()..text.len();
    };
    let column = index(location.column()).saturating_sub(1);
    let start = start
        + line
            .char_indices()
            .nth(column)
            .map_or(line.trim_end().len(), |(at, _)| at);
    start..start
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A number or truth value as written; without the quotes that it has behind a tag, as in
/// `!!int "7"`.
fn written(text: &str, span: &Span) -> String {
    let text = &text[span.clone()];
    text.trim_matches(['"', '\'']).to_owned()
}

fn node(raw: At<Raw>, text: &str) -> Node {
    let span = raw.span(text);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Text(scalar) => Value::Scalar(scalar, Scalar::Text),
        Raw::Number => Value::Scalar(written(text, &span), Scalar::Number),
        Raw::Bool => Value::Scalar(written(text, &span), Scalar::Bool),
        Raw::List(items) => Value::List(items.into_iter().map(|i| node(i, text)).collect()),
        Raw::Map(entries) => Value::Map(
            entries
                .into_iter()
                .map(|(key, value)| Entry {
                    key_span: key.span(text),
                    key: key.value,
                    value: node(value, text),
                })
                .collect(),
        ),
    };
    Node { span, value }
}

/// A value and its bytes of the text: the parser's own word for a place is many times as large.
struct At<T> {
    start: u32,
    length: u32,
    value: T,
}

impl<T> At<T> {
    fn span(&self, text: &str) -> Span {
        let start = text.floor_char_boundary(index(self.start.into()));
        let end = start.saturating_add(index(self.length.into()));
        start..text.floor_char_boundary(end)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<T>::deserialize(deserializer)?;
        let span = spanned.defined.span();
        let small = |bytes: Option<u64>| u32::try_from(bytes.unwrap_or(0)).unwrap_or(u32::MAX);
        Ok(Self {
            start: small(span.byte_offset()),
            length: small(span.byte_len()),
            value: spanned.value,
        })
    }
}

enum Raw {
    Null,
    Text(String),
    Number,
    Bool,
    List(Vec<At<Raw>>),
    Map(Vec<(At<String>, At<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.to_owned()))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Raw, E> {
        Ok(Raw::Text(text))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Raw, E> {
        Ok(Raw::Bool)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_i128<E>(self, _: i128) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Raw, E> {
        Ok(Raw::Number)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Vec<Entry> {
        match parse(text, &MANIFEST).expect(text).value {
            Value::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    fn scalar(entry: &Entry) -> (&str, Scalar) {
        match &entry.value.value {
            Value::Scalar(text, kind) => (text, *kind),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn scalars_stay_exactly_as_written() {
        for (written, text, kind) in [
            ("1.10", "1.10", Scalar::Number),
            ("007", "007", Scalar::Number),
            ("0x1F", "0x1F", Scalar::Number),
            (".inf", ".inf", Scalar::Number),
            (
                "123456789012345678901234567890",
                "123456789012345678901234567890",
                Scalar::Number,
            ),
            ("no", "no", Scalar::Text),
            ("true", "true", Scalar::Bool),
            ("2024-01-01", "2024-01-01", Scalar::Text),
            ("'it''s'", "it's", Scalar::Text),
            ("\"16\"", "16", Scalar::Text),
            ("${{ file.name }}", "${{ file.name }}", Scalar::Text),
            ("!!str 1.50", "1.50", Scalar::Text),
        ] {
            let entries = map(&format!("é: x\r\nkey: {written}\r\n"));
            assert_eq!(scalar(&entries[1]), (text, kind), "{written}");
        }
    }

    #[test]
    fn one_text_may_stand_in_very_many_rules() {
        let mut text = "x: &x {a: 1, b: 2}\nlist:\n".to_owned();
        for _ in 0..20_000 {
            text.push_str("- {<<: *x, c: 3}\n- *x\n");
        }
        let entries = map(&text);
        assert!(matches!(&entries[1].value.value, Value::List(items) if items.len() == 40_000));
    }

    #[test]
    fn a_tagged_scalar_is_not_its_quotes() {
        let entries = map("a: !!int \"0x1F\"\nb: !!bool 'true'\nc: !!str 7\n");
        assert_eq!(scalar(&entries[0]), ("0x1F", Scalar::Number));
        assert_eq!(scalar(&entries[1]), ("true", Scalar::Bool));
        assert_eq!(scalar(&entries[2]), ("7", Scalar::Text));
    }

    #[test]
    fn aliases_and_merges_keep_the_place_where_the_value_was_written() {
        let text = "a: &x\n  k: 1.10\nb:\n  <<: *x\n  m: 2\n";
        let entries = map(text);
        let Value::Map(merged) = &entries[1].value.value else {
            panic!("a mapping")
        };
        let k = merged.iter().find(|e| e.key == "k").expect("merged key");
        assert_eq!(scalar(k), ("1.10", Scalar::Number));
        assert_eq!(&text[k.value.span.clone()], "1.10");
    }

    #[test]
    fn repeated_keys_are_all_there_to_be_reported() {
        assert_eq!(map("a: 1\na: 2\n").len(), 2);
    }

    #[test]
    fn syntax_errors_point_at_their_line() {
        let text = "version: 1\nname: [a, b\nuploads: x\n";
        let error = parse(text, &MANIFEST).expect_err("unclosed list");
        let span = error.span().expect("a place");
        assert_eq!(&text[span.clone()], "[");
        assert!(!error.message.contains("column"), "{}", error.message);
    }

    #[test]
    fn bombs_and_bottomless_nesting_are_refused() {
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for i in 1..12 {
            let refs = vec![format!("*a{}", i - 1); 9].join(",");
            bomb.extend([format!("a{i}: &a{i} [{refs}]\n")]);
        }
        let deep = format!("a: {}{}", "[".repeat(80), "]".repeat(80));
        for text in [bomb, "[".repeat(100_000), deep] {
            assert!(parse(&text, &MANIFEST).is_err());
            assert!(parse(&text, &SIDECAR).is_err());
        }
    }

    #[test]
    fn a_long_text_named_often_is_refused_where_little_is_expected() {
        let mut text = format!("a: &a {}\n", "x".repeat(100_000));
        for i in 0..50 {
            text.extend([format!("a{i}: *a\n")]);
        }
        assert!(parse(&text, &MANIFEST).is_ok());
        assert!(parse(&text, &SIDECAR).is_err());
    }
}
