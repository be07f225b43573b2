//! Rows of JSON objects, one on each line.
use std::collections::HashSet;
use std::io::{Read, Seek};
use std::sync::Arc;

use crate::json::{self, Value};
use crate::model::Fields;

use super::join::Joiner;
use super::lines::{End, Lines};

/// Reads every line.
pub(super) fn read<R: Read + Seek>(
    lines: &mut Lines<R>,
    joiner: &mut Joiner<'_>,
) -> Result<(), End> {
    let mut names = Names::default();
    while lines.begin()? {
        if lines.text.trim_ascii().is_empty() {
            continue;
        }
        joiner.count()?;
        let raw = lines.raw();
        let Some(text) = joiner.readable(raw) else {
            continue;
        };
        let Ok(members) = json::object(text) else {
            continue;
        };
        let row: Vec<Arc<str>> = members
            .iter()
            .map(|m| names.column(&m.name, &mut joiner.joined.columns))
            .collect();
        let value = |value: &Value| match value {
            Value::Scalar(s) => Some(s.clone()),
            _ => None,
        };
        if let Some(key) = members.iter().find(|m| m.name == joiner.spec.key) {
            let text = value(&key.value).unwrap_or_default();
            joiner.take(raw, &text, key.span.clone(), || {
                let values: Vec<_> = members.iter().map(|m| value(&m.value)).collect();
                Fields::new(names.shape(row), values.iter().map(Option::as_deref))
            });
        }
    }
    Ok(())
}

/// The names so far, each kept once.
#[derive(Default)]
struct Names {
    known: HashSet<Arc<str>>,
    shapes: HashSet<Arc<[Arc<str>]>>,
}

impl Names {
    fn column(&mut self, name: &str, columns: &mut Vec<Arc<str>>) -> Arc<str> {
        if let Some(known) = self.known.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.known.insert(name.clone());
        columns.push(name.clone());
        name
    }

    /// The names of a row, which most rows share.
    fn shape(&mut self, names: Vec<Arc<str>>) -> Arc<[Arc<str>]> {
        if let Some(known) = self.shapes.get(names.as_slice()) {
            return known.clone();
        }
        let shape: Arc<[Arc<str>]> = names.into();
        self.shapes.insert(shape.clone());
        shape
    }
}
