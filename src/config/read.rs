//! A config file's text: keys and values, each checked, every problem in one pass.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::Path;

use super::{Entry, Key, Problem, Takes};
use crate::diagnostic::{Diagnostic, Source};
use crate::model::{closest, looks_secret, shown, shown_bounded};
use crate::yaml::{self, Node, Scalar, Value};

/// Keys of manifests that are no machine's matter, and what to do with them.
const ELSEWHERE: [(&str, &str); 6] = [
    (
        "state",
        "a ledger belongs to its manifests: name its folder by --state or ROE_BATCH_STATE",
    ),
    ("run", "write what is in it without `run:`"),
    ("tag", "it belongs in a manifest's `run`"),
    ("report", "it belongs in a manifest"),
    ("uploads", "it belongs in a manifest"),
    ("defaults", "it belongs in a manifest"),
];

pub(super) fn read(
    path: &Path,
    text: &str,
    keys: &[&'static dyn Key],
) -> Result<Vec<Entry>, Problem> {
    let mut reader = Reader {
        folder: path.parent().unwrap_or(Path::new("")),
        text,
        keys,
        diagnostics: Vec::new(),
    };
    let (entries, masked) = match yaml::parse(text, &yaml::CONFIG) {
        Ok(root) => {
            let entries = reader.entries(&root);
            (entries, masked(text, &root, keys))
        }
        Err(diagnostic) => {
            // What is to be mended is told in words of the text.
            let masked = masked_lines(text);
            let told = yaml::parse(&masked, &yaml::CONFIG).err();
            let span = diagnostic.span().cloned().unwrap_or(0..0);
            let told = told.map_or_else(
                || Diagnostic::error("this is no YAML", span),
                |diagnostic| *diagnostic,
            );
            reader.diagnostics.push(told);
            (Vec::new(), masked)
        }
    };
    if reader.diagnostics.is_empty() {
        return Ok(entries);
    }
    let name = shown(&path.to_string_lossy()).into_owned();
    let source = Source { name, text: masked };
    Err(Problem {
        message: format!("the config file {} is invalid", source.name),
        help: None,
        rendered: Some(source.render(&reader.diagnostics)),
    })
}

struct Reader<'a> {
    folder: &'a Path,
    text: &'a str,
    keys: &'a [&'static dyn Key],
    diagnostics: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn entries(&mut self, root: &Node) -> Vec<Entry> {
        let entries = match &root.value {
            Value::Null => return Vec::new(),
            Value::Map(entries) => entries,
            _ => {
                let message = format!("a config file is a mapping, found {}", root.describe());
                let error = Diagnostic::error(message, root.span.clone());
                self.diagnostics
                    .push(error.help("write each setting on a line, as in `concurrency: 16`"));
                return Vec::new();
            }
        };
        let mut first: HashMap<&str, &yaml::Entry> = HashMap::new();
        let mut read = Vec::new();
        for entry in entries {
            if let Some(before) = first.get(entry.key.as_str()) {
                let message = format!("`{}` is given twice", shown_bounded(&entry.key));
                self.diagnostics.push(
                    Diagnostic::error(message, entry.key_span.clone())
                        .label("given again here")
                        .other(before.key_span.clone(), "first given here")
                        .help("keep one of them"),
                );
                continue;
            }
            first.insert(&entry.key, entry);
            let known = self.keys.iter().find(|key| key.name() == entry.key);
            let Some(key) = known.copied() else {
                self.unknown(entry);
                continue;
            };
            if let Some(text) = self.value(key, entry) {
                let before = &self.text[..entry.key_span.start];
                read.push(Entry {
                    key: key.name(),
                    text,
                    line: before.matches('\n').count() + 1,
                });
            }
        }
        read
    }

    fn unknown(&mut self, entry: &yaml::Entry) {
        let written = entry.key.as_str();
        let names = self.keys.iter().map(|key| key.name());
        let elsewhere = ELSEWHERE.iter().find(|(key, _)| *key == written);
        let help = if let Some((_, help)) = elsewhere {
            (*help).to_owned()
        } else if let Some(near) = closest(written, names.clone()) {
            format!("did you mean `{near}`?")
        } else if is_secret(written) {
            "a config file holds no secrets: the API key comes from ROE_API_KEY, or from the file \
             that `api_key_file` names"
                .to_owned()
        } else {
            format!("the keys are {}", names.collect::<Vec<_>>().join(", "))
        };
        let message = format!("a config file has no key `{}`", shown_bounded(written));
        let error = Diagnostic::error(message, entry.key_span.clone());
        self.diagnostics.push(error.label("unknown key").help(help));
    }

    fn value(&mut self, key: &'static dyn Key, entry: &yaml::Entry) -> Option<OsString> {
        let text = self.text_of(key, entry)?;
        let is_path = key.takes() == Takes::Path;
        let is_http = text.starts_with("https://") || text.starts_with("http://");
        let why = if key.takes() == Takes::Address && (!is_http || text.contains('@')) {
            format!("write it as `{}`, without credentials", key.example())
        } else if is_path && (text == "-" || text.is_empty()) {
            "name a file, by its path from the root or from this file's folder".to_owned()
        } else if is_path && text.starts_with("~/") {
            "`~` is not expanded: write the path from the root, or from this file's folder"
                .to_owned()
        } else {
            let text = if is_path {
                self.folder.join(text).into_os_string()
            } else {
                text.into()
            };
            match key.check(&text) {
                Ok(()) => return Some(text),
                Err(why) => why,
            }
        };
        let message = match (&entry.value.value, key.takes()) {
            (Value::Scalar(said, _), takes) if !matches!(takes, Takes::Address | Takes::Secret) => {
                format!("`{}` cannot be `{}`", key.name(), shown_bounded(said))
            }
            _ => format!("the value of `{}` cannot be used", key.name()),
        };
        let error = Diagnostic::error(message, entry.value.span.clone());
        self.diagnostics.push(error.help(why));
        None
    }

    /// The value as a flag's would be written.
    fn text_of(&mut self, key: &'static dyn Key, entry: &yaml::Entry) -> Option<String> {
        let takes = key.takes();
        match &entry.value.value {
            Value::Scalar(text, kind) => {
                let is_taken = match takes {
                    Takes::Flag => *kind == Scalar::Bool,
                    Takes::Number => *kind == Scalar::Number,
                    _ => *kind != Scalar::Bool,
                };
                if is_taken {
                    return Some(text.clone());
                }
            }
            Value::Map(ranges) if takes == Takes::Scheduled => {
                let pair = |range: &yaml::Entry| match &range.value.value {
                    Value::Scalar(text, _) => Some(format!("{}={text}", range.key)),
                    _ => None,
                };
                let pairs: Option<Vec<String>> = ranges.iter().map(pair).collect();
                if let Some(pairs) = pairs {
                    return Some(pairs.join(", "));
                }
            }
            _ => {}
        }
        let expected = match takes {
            Takes::Flag => "true or false",
            Takes::Number => "a whole number",
            Takes::Scheduled => "a text, or a mapping of ranges of the day to texts",
            _ => "a text",
        };
        let at = if entry.value.span.is_empty() {
            &entry.key_span
        } else {
            &entry.value.span
        };
        let message = format!("expected {expected}, found {}", entry.value.describe());
        let help = format!("for example `{}: {}`", key.name(), key.example());
        self.diagnostics
            .push(Diagnostic::error(message, at.clone()).help(help));
        None
    }
}

fn is_secret(key: &str) -> bool {
    looks_secret(key) || looks_secret(&key.replace('-', "_"))
}

/// The text with nothing in it that may be a secret: what stands behind keys that are not known, and
/// what a proxy's address may hold. Every other byte keeps its place.
fn masked(text: &str, root: &Node, keys: &[&'static dyn Key]) -> String {
    let Value::Map(entries) = &root.value else {
        return masked_lines(text);
    };
    let mut bytes = text.as_bytes().to_vec();
    for entry in entries {
        let known = keys.iter().find(|key| key.name() == entry.key);
        let may_be_shown = match known {
            Some(key) => match key.takes() {
                Takes::Secret => false,
                Takes::Address => !matches!(&entry.value.value, Value::Scalar(text, _)
                    if text.contains('@')),
                _ => true,
            },
            None => ELSEWHERE.iter().any(|(key, _)| *key == entry.key),
        };
        if !may_be_shown {
            // Where a list or a mapping ends is not known: at the next key at the latest.
            let start = entry.value.span.start;
            let keys = entries.iter().map(|entry| entry.key_span.start);
            let next = keys.filter(|key| *key > start).min();
            mask(&mut bytes[start..next.unwrap_or(text.len())]);
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// The same of a text that is no YAML: line by line, as far as lines tell.
fn masked_lines(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let end = start + line.trim_end().len();
        let key = line.split([':', '=']).next().unwrap_or_default();
        let word = key.trim().trim_matches(['"', '\'', '{', ' ', '-']);
        if is_secret(word) || word == "proxy" || word.contains("key") {
            mask(&mut bytes[(start + key.len()).min(end)..end]);
        }
        start += line.len();
    }
    String::from_utf8(bytes).unwrap_or_default()
}

/// Line ends stay, so that lines keep their numbers.
fn mask(bytes: &mut [u8]) {
    for byte in bytes {
        if !matches!(byte, b'\n' | b'\r') {
            *byte = b'*';
        }
    }
}
