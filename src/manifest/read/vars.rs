//! The `vars:` mapping: constants for the whole manifest.

use std::collections::HashMap;

use super::Reader;
use crate::diagnostic::Diagnostic;
use crate::model::shown_bounded;
use crate::template::{Scope, Values};
use crate::yaml::{Entry, Node, Value};

/// Longest value of a var, in bytes: each template that names it has a copy.
const VAR_MAX: usize = 10_000;

impl Reader<'_> {
    /// The constants: their own values, or those that replace them.
    pub(super) fn vars(&mut self, entry: &Entry) {
        let Value::Map(entries) = &entry.value.value else {
            self.expected("a mapping of names to texts", &entry.value, &entry.key_span);
            // Which names were meant is plain: each use of them is not wrong as well.
            if let Value::List(items) = &entry.value.value {
                for item in items {
                    if let Value::Map(entries) = &item.value {
                        let names = entries.iter().map(|entry| entry.key.clone());
                        self.vars.extend(names.map(|name| (name, String::new())));
                    }
                }
            }
            return;
        };
        let mut seen: HashMap<&str, &Entry> = HashMap::new();
        for entry in entries {
            if let Some(first) = seen.insert(&entry.key, entry) {
                self.repeated_key(entry, first.key_span.clone());
                continue;
            }
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let begins_well = !entry.key.starts_with(|c: char| c.is_ascii_digit());
            if entry.key.is_empty() || !begins_well || !entry.key.chars().all(is_word) {
                let message = format!("`{}` is no name for a var", shown_bounded(&entry.key));
                self.report(
                    Diagnostic::error(message, entry.key_span.clone())
                        .help("use letters, digits and `_`, and begin with a letter"),
                );
                continue;
            }
            let own = self.text(entry).and_then(|text| {
                let template = self.template(&entry.value, text, Scope::Vars)?;
                let values = Values {
                    manifest: &self.name,
                    ..Values::default()
                };
                match template.render(&values) {
                    Ok(text) => Some(text),
                    Err(error) => {
                        let span = self.inside(&entry.value, text, &error.range);
                        self.report(Diagnostic::error(error.to_string(), span));
                        None
                    }
                }
            });
            let set = self.given.set.get(&entry.key).cloned();
            if set
                .as_ref()
                .or(own.as_ref())
                .is_some_and(|text| text.len() > VAR_MAX)
            {
                self.report(Diagnostic::error(
                    "the value of a var may be 10,000 bytes long",
                    entry.value.span.clone(),
                ));
                continue;
            }
            // A var without a value is still a name that is known.
            let value = set.or(own).unwrap_or_default();
            self.vars.insert(entry.key.clone(), value);
        }
    }

    /// The constants that no template names.
    pub(super) fn unused_vars(&self, root: &Node) -> Vec<Diagnostic> {
        let Value::Map(top) = &root.value else {
            return Vec::new();
        };
        let vars = top.iter().find(|entry| entry.key == "vars");
        let Some(Value::Map(entries)) = vars.map(|entry| &entry.value.value) else {
            return Vec::new();
        };
        let is_unused = |entry: &&Entry| {
            self.vars.contains_key(&entry.key) && !self.used_vars.contains(&entry.key)
        };
        let unused = entries.iter().filter(is_unused);
        let warning = |entry: &Entry| {
            let name = &entry.key;
            Diagnostic::warning(
                format!("nothing uses `vars.{name}`"),
                entry.key_span.clone(),
            )
            .help(format!(
                "write `${{{{ vars.{name} }}}}` where it is meant, or take it out"
            ))
        };
        unused.map(warning).collect()
    }
}
