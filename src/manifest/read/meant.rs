//! What was most likely meant by what is written in a wrong way or at a wrong place.

use crate::manifest::keys::{self, Key};
use crate::model::{closest, shown_bounded};
use crate::yaml::{Node, Scalar, Span, Value};

/// What other tools call what has a name of its own here.
const SYNONYMS: [(&str, &str); 37] = [
    ("args", "vars"),
    ("column", "key"),
    ("content-type", "content_type"),
    ("dir", "root"),
    ("directory", "root"),
    ("env", "vars"),
    ("extract", "capture"),
    ("file", "path"),
    ("filename", "file_name"),
    ("files", "include"),
    ("filter", "when"),
    ("folder", "root"),
    ("glob", "include"),
    ("globs", "include"),
    ("id", "key"),
    ("if", "when"),
    ("ignore", "exclude"),
    ("jobs", "uploads"),
    ("labels", "metadata"),
    ("match", "include"),
    ("meta", "metadata"),
    ("mime_type", "content_type"),
    ("on", "key"),
    ("parallel", "concurrency"),
    ("path", "root"),
    ("pattern", "include"),
    ("patterns", "include"),
    ("regex", "capture"),
    ("rename", "file_name"),
    ("retries", "max_attempts"),
    ("rules", "uploads"),
    ("skip", "exclude"),
    ("source", "root"),
    ("src", "root"),
    ("tags", "metadata"),
    ("timeout", "deadline"),
    ("workers", "concurrency"),
];

/// What to do about a key that would hold a secret.
pub(super) const SECRET: &str = "a manifest holds no secrets: the API key comes from \
                                 `ROE_API_KEY` or `--api-key-file`";

/// What to do about a key that would choose the host.
pub(super) const HOST: &str = "a manifest does not choose the host: it is `ROE_BASE_URL` or \
                               `--base-url`";

/// Such keys.
pub(super) const HOSTS: [&str; 5] = ["api", "base_url", "endpoint", "host", "url"];

/// Longest text in braces that is taken for an expression, in bytes.
const NAME_MAX: usize = 200;

/// The mappings of a manifest, and how one says that a key is there.
const PLACES: [(&[Key], &str); 6] = [
    (keys::RULE, "in a rule"),
    (keys::MANIFEST, "at the top of the manifest"),
    (keys::RUN, "in `run`"),
    (keys::TABLE, "in `table`"),
    (keys::SIDECAR, "in `sidecar`"),
    (keys::CONCURRENCY, "in `concurrency`"),
];

/// A key that was meant by one that is not known where it stands.
pub(super) enum Meant {
    /// This one, here.
    Here(&'static str),
    /// This one, which belongs elsewhere.
    Elsewhere(&'static str, &'static str),
}

/// What an unknown key of a mapping with these keys was meant to be.
pub(super) fn key(written: &str, known: &'static [Key]) -> Option<Meant> {
    let called = |name: &str| {
        known
            .iter()
            .find(|key| key.name == name)
            .map(|key| key.name)
    };
    if let Some(near) = closest(written, known.iter().map(|key| key.name)) {
        return Some(Meant::Here(near));
    }
    let synonym = SYNONYMS.iter().find(|(theirs, _)| *theirs == written);
    if let Some(ours) = synonym.and_then(|(_, ours)| called(ours)) {
        return Some(Meant::Here(ours));
    }
    let word = synonym.map_or(written, |(_, ours)| *ours);
    let elsewhere = PLACES.iter().find_map(|(keys, place)| {
        let key = keys.iter().find(|key| key.name == word)?;
        Some(Meant::Elsewhere(key.name, place))
    });
    elsewhere.or(match known {
        [only] => Some(Meant::Here(only.name)),
        _ => None,
    })
}

/// What to write where something else was expected.
pub(super) fn instead(what: &str, node: &Node, key: &Span, text: &str) -> String {
    match &node.value {
        Value::Null => match swallowed(node, key, text) {
            Some(_) => nothing(node, key, text),
            None => "write a value, or leave the key out".to_owned(),
        },
        Value::Scalar(word, _) if what == "true or false" => match word.as_str() {
            "yes" | "on" | "1" | "True" | "TRUE" => "write `true`".to_owned(),
            "no" | "off" | "0" | "False" | "FALSE" => "write `false`".to_owned(),
            _ => "write `true` or `false`, without quotes".to_owned(),
        },
        Value::Scalar(word, Scalar::Text) if is_glued(word) => {
            let (key, value) = word.split_once(':').unwrap_or((word, ""));
            let fixed = format!("{key}: {value}");
            format!(
                "a space follows the colon of a key: write `{}`",
                shown_bounded(&fixed)
            )
        }
        Value::Map(_) if text[node.span.start..].starts_with('{') => {
            "a text that begins with `{` needs quotes".to_owned()
        }
        Value::List(items) if matches!(items.as_slice(), [only] if matches!(only.value, Value::Map(_))) => {
            "write it without the `-` or the brackets".to_owned()
        }
        Value::List(_) => {
            "write one alone; where several are meant, write several rules".to_owned()
        }
        _ => {
            let tables = [keys::RULE, keys::MANIFEST, keys::RUN];
            let known = tables.into_iter().flatten();
            let name = text[key.clone()].trim_matches(['"', '\'']);
            match known.into_iter().find(|key| key.name == name) {
                Some(key) => format!("for example `{}: {}`", key.name, key.example),
                None => format!("write {what} here"),
            }
        }
    }
}

/// What to do where there is no value.
pub(super) fn nothing(node: &Node, key: &Span, text: &str) -> String {
    let Some(span) = swallowed(node, key, text) else {
        return "write \"\" for an empty text, or leave the key out".to_owned();
    };
    let written = &text[span];
    let (mark, begins) = match written.chars().next() {
        Some('#') => ('#', "comment"),
        Some('&') => ('&', "mark for aliases"),
        _ => ('!', "tag"),
    };
    format!(
        "to YAML `{mark}` begins a {begins}: a text that begins with it needs quotes, as in \"{}\"",
        shown_bounded(written)
    )
}

/// What stands in place of a value that YAML takes for none.
pub(super) fn swallowed(node: &Node, key: &Span, text: &str) -> Option<Span> {
    if !matches!(node.value, Value::Null) || !node.span.is_empty() {
        return None;
    }
    // The value's place is after its tag or mark.
    let before = text.get(..node.span.start)?;
    let word = before.rfind([' ', '[', ',', '\n']).map_or(0, |at| at + 1);
    if before[word..].starts_with(['!', '&']) {
        return Some(word..node.span.start);
    }
    let line = text[key.end..].lines().next().unwrap_or_default();
    let rest = line.trim_start_matches(':').trim_start();
    let start = key.end + line.len() - rest.len();
    rest.starts_with('#')
        .then(|| start..start + rest.trim_end().len())
}

/// What would be an expression in a shell, in Jinja or in a format string: where it is, and how it
/// is written here.
pub(super) fn expression(text: &str) -> Option<(Span, String)> {
    let mut at = 0;
    while let Some(open) = text[at..].find(['{', '$']).map(|found| at + found) {
        let rest = &text[open..];
        if rest.starts_with("${{") {
            at = open + rest.find("}}")? + 2;
            continue;
        }
        at = open + 1;
        let (begin, close) = match rest {
            _ if rest.starts_with("${") => (2, "}"),
            _ if rest.starts_with("{{") => (2, "}}"),
            _ if rest.starts_with('{') => (1, "}"),
            _ => continue,
        };
        let near = &rest[begin..rest.floor_char_boundary(NAME_MAX)];
        let Some(end) = near.find(close).map(|end| begin + end) else {
            continue;
        };
        let inner = rest[begin..end].trim();
        let name = inner.split(['|', ' ']).next().unwrap_or_default();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let is_variable = !name.is_empty() && name.chars().all(is_word);
        let groups = [
            "file.",
            "rule.",
            "run.",
            "manifest.",
            "env.",
            "vars.",
            "capture.",
            "row.",
            "sidecar.",
        ];
        let is_known = groups.iter().any(|group| name.starts_with(group));
        let meant = match begin {
            _ if is_known => format!("${{{{ {inner} }}}}"),
            2 if rest.starts_with('$') && is_variable => format!("${{{{ env.{name} }}}}"),
            _ => continue,
        };
        return Some((open..open + end + close.len(), meant));
    }
    None
}

/// Whether a text is a key and its value without the space between.
fn is_glued(text: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let key = text.split_once(':');
    key.is_some_and(|(key, value)| {
        !key.is_empty() && key.chars().all(is_word) && !value.starts_with("//")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_of_other_tools_are_known_and_texts_are_left_alone() {
        for (text, part, meant) in [
            ("a-${CLIENT}.pdf", "${CLIENT}", "${{ env.CLIENT }}"),
            ("${file.stem}", "${file.stem}", "${{ file.stem }}"),
            (
                "é {{ file.stem|upper }}",
                "{{ file.stem|upper }}",
                "${{ file.stem|upper }}",
            ),
            ("{file.stem}.pdf", "{file.stem}", "${{ file.stem }}"),
            ("${{ a }}{vars.b}", "{vars.b}", "${{ vars.b }}"),
        ] {
            let (range, found) = expression(text).expect(text);
            assert_eq!((&text[range], found.as_str()), (part, meant), "{text}");
        }
        for text in [
            "",
            "{",
            "$",
            "${",
            "{}",
            "{{}}",
            "{a}",
            "{{ a }}",
            "{\"file\": 1}",
            "$5",
            "${{ x }}",
            "${{ '{file.name}' }}",
            "{{é",
            "${ }",
            "{file",
        ] {
            assert_eq!(expression(text), None, "{text}");
        }
    }
}
