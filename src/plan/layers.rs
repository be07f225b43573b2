//! A file's metadata: layer upon layer, with who said what.

use std::io;

use serde::Serializer;

use super::select::{Extra, Problem};
use crate::manifest::{CaptureMetadata, Columns, Layer, Rule, Span};
use crate::model::{Fields, Metadata, Secrecy, TAG_KEY, shown};
use crate::template::Values;

/// One metadata name with its value, and who gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layered {
    /// The name.
    pub key: String,
    /// The value.
    pub value: String,
    /// Whether the value is to be hidden where it is shown.
    pub secrecy: Secrecy,
    /// Who gave it.
    pub origin: Origin,
}

/// Who gave a metadata name its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The manifest's `defaults`, there.
    Defaults(Span),
    /// The rule, there.
    Rule(Span),
    /// The rule's `capture`, there.
    Capture(Span),
    /// The rule's table: the row's line, and the column.
    Table {
        /// The line, from one.
        line: u64,
        /// The column.
        column: String,
    },
    /// The file's sidecar: the line.
    Sidecar {
        /// The line, from one.
        line: usize,
    },
}

/// All layers of a file's metadata, in the order of their first mention; of a name that several
/// give, the last counts.
pub(super) fn layered(
    rule: &Rule,
    extra: &Extra,
    values: &Values<'_>,
    capture: Option<&Fields>,
) -> Result<Vec<Layered>, Problem> {
    let mut layers = Layers(Vec::with_capacity(rule.metadata.len()));
    for entry in &rule.metadata {
        let template = &entry.template;
        let value = template.value.render(values).map_err(|error| {
            let what = format!("metadata `{}`", shown(&entry.key));
            Problem::rendering(&what, template, error)
        })?;
        let span = template.span.clone();
        layers.push(Layered {
            key: entry.key.clone(),
            value,
            secrecy: match template.value.uses().secret {
                Some(_) => Secrecy::Hidden,
                None => Secrecy::Open,
            },
            origin: match entry.layer {
                Layer::Defaults => Origin::Defaults(span),
                Layer::Rule => Origin::Rule(span),
            },
        });
    }
    if let Some(rule) = &rule.capture
        && rule.metadata == CaptureMetadata::All
    {
        let Some(fields) = capture else {
            return Err(Problem {
                span: Some(rule.span.clone()),
                help: Some(
                    "narrow `include` to paths that match, or make what may be missing optional"
                        .to_owned(),
                ),
                ..Problem::new("`capture` does not match its path")
            });
        };
        for (key, value) in fields.iter() {
            layers.open(key, value, Origin::Capture(rule.span.clone()));
        }
    }
    if let (Some(table), Some(row)) = (&rule.table, &extra.row) {
        let of = |column: &str| Origin::Table {
            line: row.line,
            column: column.to_owned(),
        };
        match &table.columns {
            Columns::All => {
                for (column, value) in row.fields.iter() {
                    if column != table.key.value {
                        layers.open(column, value, of(column));
                    }
                }
            }
            Columns::These(columns) => {
                for (key, column) in columns {
                    if let Some(value) = row.fields.get(&column.value) {
                        layers.open(key, value, of(&column.value));
                    }
                }
            }
        }
    }
    if let Some(beside) = &extra.sidecar {
        let (_, sidecar) = &**beside;
        for ((key, value), line) in sidecar.fields.iter().zip(&sidecar.lines) {
            layers.open(key, value, Origin::Sidecar { line: *line });
        }
    }
    let taken = layers.0.iter().find(|layered| layered.key == TAG_KEY);
    if let Some(taken) = taken {
        let message = format!(
            "the metadata name `{TAG_KEY}` is taken, and the {} gives it",
            taken.origin.word()
        );
        return Err(Problem {
            span: match &taken.origin {
                Origin::Defaults(span) | Origin::Rule(span) | Origin::Capture(span) => {
                    Some(span.clone())
                }
                Origin::Table { .. } => rule.table.as_ref().map(|table| table.path.span.clone()),
                Origin::Sidecar { .. } => rule.sidecar.as_ref().map(|of| of.path.span.clone()),
            },
            help: Some("`run: {tag: true}` fills it in; choose another name".to_owned()),
            ..Problem::new(message)
        });
    }
    Ok(layers.0)
}

/// What is sent of it.
pub(super) fn metadata(layered: Vec<Layered>) -> Metadata {
    layered
        .into_iter()
        .map(|layered| (layered.key, layered.value, layered.secrecy))
        .collect()
}

/// Whether the JSON object that is sent may have more bytes than so many: each byte of a text is six
/// of them at the most, and between texts there are six.
pub(super) fn may_exceed(layered: &[Layered], bytes: usize) -> bool {
    let texts = layered
        .iter()
        .map(|one| one.key.len() + one.value.len() + 1);
    texts.sum::<usize>().saturating_mul(6) > bytes.saturating_sub(2)
}

/// Bytes of the JSON object that is sent.
pub(super) fn length(layered: &[Layered]) -> usize {
    let pairs = layered.iter().map(|layered| (&layered.key, &layered.value));
    let mut counter = Counter(0);
    let written = serde_json::Serializer::new(&mut counter).collect_map(pairs);
    written.map_or(usize::MAX, |()| counter.0)
}

/// Counts what is written to it.
struct Counter(usize);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Layers(Vec<Layered>);

impl Layers {
    fn open(&mut self, key: &str, value: &str, origin: Origin) {
        self.push(Layered {
            key: key.to_owned(),
            value: value.to_owned(),
            secrecy: Secrecy::Open,
            origin,
        });
    }

    fn push(&mut self, new: Layered) {
        match self.0.iter_mut().find(|old| old.key == new.key) {
            Some(old) => *old = new,
            None => self.0.push(new),
        }
    }
}

impl Origin {
    /// The stable word for the layer.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Defaults(_) => "defaults",
            Self::Rule(_) => "rule",
            Self::Capture(_) => "capture",
            Self::Table { .. } => "table",
            Self::Sidecar { .. } => "sidecar",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_metadata_is_longer_than_it_may_be() {
        for (key, value) in [("", ""), ("k", "\u{1}\u{1}"), ("\"", "\\\n"), ("é", "abc")] {
            let mut layers = Layers(Vec::new());
            for number in 0..3 {
                layers.open(&format!("{key}{number}"), value, Origin::Rule(0..0));
                let length = length(&layers.0);
                assert!(may_exceed(&layers.0, length - 1), "{key:?} {value:?}");
            }
        }
        assert!(!may_exceed(&[], 2));
    }
}
