//! A small mapping of names to texts that lies beside a file, in YAML or JSON.

use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Place, excerpt_of};
use crate::json;
use crate::model::Fields;
use crate::yaml;

/// Largest sidecar, in bytes.
pub const BYTES_MAX: u64 = 1024 * 1024;

/// A sidecar's names and values, exactly as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sidecar {
    /// The values by name.
    pub fields: Fields,
    /// The line of each name, from one.
    pub lines: Vec<usize>,
}

/// Reads a sidecar's bytes. `file` is its path as the user knows it; what ends in `.json` is JSON,
/// anything else YAML. An empty file is a sidecar without names.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(bytes: &[u8], file: &str) -> Result<Sidecar, Vec<Diagnostic>> {
    let text = String::from_utf8_lossy(bytes);
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut values = Vec::new();
    let mut lines = Vec::new();
    let line = |at: usize| text[..at].matches('\n').count() + 1;
    if file.to_ascii_lowercase().ends_with(".json") {
        for member in json::object(&text).unwrap_or_default() {
            if let json::Value::Scalar(value) = member.value {
                lines.push(line(member.name_span.start));
                names.push(member.name.into());
                values.push(value);
            }
        }
    } else {
        let root = yaml::parse(&text).map_err(|mut wrong| {
            if let Some(Place::Manifest(span)) = wrong.place.clone() {
                wrong.place = Some(excerpt_of(file, 1, text.as_bytes(), span).into());
            }
            vec![*wrong]
        })?;
        if let yaml::Value::Map(entries) = root.value {
            for entry in entries {
                if let yaml::Value::Scalar(value, _) = entry.value.value {
                    lines.push(line(entry.key_span.start));
                    names.push(entry.key.into());
                    values.push(value);
                }
            }
        }
    }
    let values = values.iter().map(|value| Some(value.as_str()));
    Ok(Sidecar {
        fields: Fields::new(names.into(), values),
        lines,
    })
}
