//! What lies beside a rule's files: captures from their paths, tables, sidecars.

use std::collections::HashMap;
use std::path::{Component, PathBuf};

use super::Reader;
use crate::diagnostic::Diagnostic;
use crate::manifest::{
    CaptureMetadata, CaptureRule, Columns, Placed, Reaction, SidecarRule, TableRule, keys,
};
use crate::model::{Capture, RuleName, closest, shown, shown_bounded};
use crate::yaml::{Entry, Node, Value};

/// What a table's `match` is unless told otherwise.
const MATCH: &str = "${{ file.path }}";

/// Extensions of tables.
const TABLES: [&str; 5] = ["csv", "tsv", "tab", "jsonl", "ndjson"];

/// Most different captures of one manifest: each may take a megabyte when it is compiled.
const CAPTURES_MAX: usize = 500;

impl Reader<'_> {
    pub(super) fn capture(
        &mut self,
        capture: Option<&Entry>,
        all: Option<&Entry>,
    ) -> Option<CaptureRule> {
        let takes_all = all.and_then(|entry| self.flag(entry)) == Some(true);
        if let (Some(entry), None, true) = (all, capture, takes_all) {
            self.report(
                Diagnostic::error(
                    "`capture_metadata` has no `capture` to take from",
                    entry.key_span.clone(),
                )
                .help("add `capture:` with a regular expression, as '(?<year>\\d{4})/'"),
            );
        }
        let entry = capture?;
        let text = self.text(entry)?;
        let known = self.cache.capture_places.get(text).copied();
        if known.is_none() && self.cache.captures.len() >= CAPTURES_MAX {
            self.report(
                Diagnostic::error(
                    "a manifest may have 500 different captures",
                    entry.value.span.clone(),
                )
                .help("write one that fits several rules in `defaults`"),
            );
            return None;
        }
        let at = match known {
            Some(at) => at,
            None => match Capture::parse(text) {
                Ok(capture) => {
                    let names = capture.names().iter().map(ToString::to_string).collect();
                    let at = self.cache.captures.len();
                    self.cache.captures.push((Some(capture), names));
                    self.cache.capture_places.insert(text.to_owned(), at);
                    at
                }
                Err(error) => {
                    let span = self.inside(&entry.value, text, &error.range);
                    let mut diagnostic = Diagnostic::error(error.message, span);
                    diagnostic.help = error.help;
                    self.report(diagnostic);
                    self.beside.capture = Some(self.broken_capture(text));
                    return None;
                }
            },
        };
        self.beside.capture = Some(at);
        Some(CaptureRule {
            capture: self.cache.captures[at].0.clone()?,
            span: entry.value.span.clone(),
            metadata: if takes_all {
                CaptureMetadata::All
            } else {
                CaptureMetadata::None
            },
        })
    }

    /// Notes whether anything of a rule uses its capture, once all of it is read.
    pub(super) fn note_capture(&mut self, rule: &CaptureRule) {
        let names = rule.capture.names();
        let first = names.first().map(ToString::to_string).unwrap_or_default();
        let new = (rule.span.clone(), first, false);
        let known = self.captures.entry(rule.span.start).or_insert(new);
        known.2 |= self.names_capture || rule.metadata == CaptureMetadata::All;
    }

    /// The captures that nothing uses.
    pub(super) fn unused_captures(&self) -> impl Iterator<Item = Diagnostic> {
        let unused = self.captures.values().filter(|(_, _, is_used)| !is_used);
        unused.map(|(span, name, _)| {
            Diagnostic::warning("nothing uses what this captures", span.clone()).help(format!(
                "name it, as `${{{{ capture.{name} }}}}`, or write `capture_metadata: true`"
            ))
        })
    }

    /// What a capture that cannot be used names all the same, so that templates are not called
    /// wrong for it.
    fn broken_capture(&mut self, text: &str) -> usize {
        let groups = text.split("(?").skip(1).filter_map(|group| {
            let name = group.strip_prefix('P').unwrap_or(group).strip_prefix('<')?;
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
            Some(name[..end.unwrap_or(name.len())].to_owned())
        });
        self.cache.captures.push((None, groups.collect()));
        self.cache.captures.len() - 1
    }

    pub(super) fn table(&mut self, entry: &Entry, rule: &RuleName) -> Option<TableRule> {
        // What is wrong with the table does not make each `row.…` wrong as well.
        self.beside.row = true;
        let Value::Map(entries) = &entry.value.value else {
            self.expected(
                "a mapping with `path` and `key`",
                &entry.value,
                &entry.key_span,
            );
            return None;
        };
        let fields = self.fields(entries, keys::TABLE, &entry.key_span, "`table`");
        let path = fields.get("path").and_then(|entry| {
            let path = self.constant(entry, rule)?;
            let delimited = fields.mentions("delimiter");
            self.table_path(entry, &path, delimited)
        });
        let key = fields.get("key").and_then(|entry| {
            let text = self.text(entry)?.to_owned();
            Some(self.place(&entry.value, &text, text.clone()))
        });
        // Its own row cannot say which row that is.
        self.beside.row = false;
        let why = "`match` finds the row";
        let matching = if let Some(entry) = fields.get("match") {
            self.text(entry)
                .filter(|text| !self.asks_for_itself(&entry.value, text, "row", why))
                .and_then(|text| self.shown_template(&entry.value, text))
        } else {
            let at = fields.get("key").unwrap_or(entry);
            self.placed_default(&at.value, MATCH)
        };
        self.beside.row = true;
        let columns = fields.get("columns").map(|entry| self.columns(entry));
        let delimiter = fields.get("delimiter").map(|entry| self.delimiter(entry));
        let files_without_row = fields
            .get("files_without_row")
            .and_then(|entry| self.reaction(entry, keys::TABLE));
        let rows_without_file = fields
            .get("rows_without_file")
            .and_then(|entry| self.reaction(entry, keys::TABLE));
        Some(TableRule {
            path: path?,
            key: key?,
            matching: matching?,
            columns: columns.unwrap_or(Some(Columns::All))?,
            delimiter: delimiter.map_or(Some(None), |read| read.map(Some))?,
            files_without_row: files_without_row.unwrap_or(Reaction::Error),
            rows_without_file: rows_without_file.unwrap_or(Reaction::Warn),
        })
    }

    fn table_path(
        &mut self,
        entry: &Entry,
        path: &str,
        delimited: bool,
    ) -> Option<Placed<PathBuf>> {
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        let known = TABLES.iter().any(|own| extension.eq_ignore_ascii_case(own));
        if !known && !delimited {
            let help = if matches!(extension, "xlsx" | "xls" | "ods") {
                "save the sheet as CSV (UTF-8)"
            } else {
                "a table's name ends in .csv, .tsv, .tab, .jsonl or .ndjson; with `delimiter` any \
                 name is a CSV's"
            };
            self.report(
                Diagnostic::error(
                    "the table's extension says no format",
                    entry.value.span.clone(),
                )
                .help(help),
            );
            return None;
        }
        // One table is one, whatever way it is spelt.
        let joined = self.folder.join(path);
        let named = joined
            .components()
            .filter(|part| *part != Component::CurDir);
        let path_of = named.collect();
        Some(self.place(&entry.value, path, path_of))
    }

    fn delimiter(&mut self, entry: &Entry) -> Option<u8> {
        let text = self.text(entry)?;
        let delimiter = crate::table::delimiter(text);
        if delimiter.is_none() {
            self.report(
                Diagnostic::error(
                    "`delimiter` must be one character that can stand between cells",
                    entry.value.span.clone(),
                )
                .help("for example `delimiter: \";\"`, or `delimiter: \"\\t\"` for a tab"),
            );
        }
        delimiter
    }

    fn columns(&mut self, entry: &Entry) -> Option<Columns> {
        let before = self.reported;
        let mut columns: Vec<(String, Placed<String>)> = Vec::new();
        match &entry.value.value {
            Value::List(items) => {
                for item in items {
                    let Value::Scalar(text, _) = &item.value else {
                        self.expected("a column's name", item, &entry.key_span);
                        continue;
                    };
                    let placed = self.place(item, text, text.clone());
                    columns.push((text.clone(), placed));
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    if let Some(text) = self.text(entry).map(ToOwned::to_owned) {
                        let placed = self.place(&entry.value, &text, text.clone());
                        columns.push((entry.key.clone(), placed));
                    }
                }
            }
            _ => self.expected(
                "a list of columns, or a mapping from metadata names to columns",
                &entry.value,
                &entry.key_span,
            ),
        }
        let mut first: HashMap<&str, &Placed<String>> = HashMap::new();
        let mut twice = Vec::new();
        for (name, column) in &columns {
            if let Some(first) = first.insert(name, column) {
                twice.push(
                    Diagnostic::error(
                        format!("`{}` is taken from two columns", shown(name)),
                        column.span.clone(),
                    )
                    .other(first.span.clone(), "taken here first")
                    .help("take one of them out, or give it another name"),
                );
            }
        }
        for diagnostic in twice {
            self.report(diagnostic);
        }
        (self.reported == before).then_some(Columns::These(columns))
    }

    pub(super) fn sidecar(&mut self, entry: &Entry) -> Option<SidecarRule> {
        self.beside.sidecar = true;
        let (path, on_missing) = match &entry.value.value {
            Value::Scalar(text, _) => (self.sidecar_path(&entry.value, text), None),
            Value::Map(entries) => {
                let fields = self.fields(entries, keys::SIDECAR, &entry.key_span, "`sidecar`");
                let path = fields.get("path").and_then(|entry| {
                    let text = self.text(entry)?;
                    self.sidecar_path(&entry.value, text)
                });
                let on_missing = fields
                    .get("on_missing")
                    .and_then(|entry| self.reaction(entry, keys::SIDECAR));
                (path, on_missing)
            }
            _ => {
                self.expected(
                    "a path, or `{path: …, on_missing: …}`",
                    &entry.value,
                    &entry.key_span,
                );
                (None, None)
            }
        };
        Some(SidecarRule {
            path: path?,
            on_missing: on_missing.unwrap_or(Reaction::Ignore),
        })
    }

    fn sidecar_path(
        &mut self,
        node: &Node,
        text: &str,
    ) -> Option<Placed<crate::template::Template>> {
        // Its own entries cannot say where it is.
        let why = "`sidecar` says where it is";
        if self.asks_for_itself(node, text, "sidecar", why) {
            return None;
        }
        self.beside.sidecar = false;
        let template = self.shown_template(node, text);
        self.beside.sidecar = true;
        if !text.contains("${{") {
            let help = match closest(text, ["file.path", "file.name"]) {
                Some(near) => format!("did you mean `${{{{ {near} }}}}`?"),
                None => "name it after the file, as in `${{ file.path }}.meta.yaml`".to_owned(),
            };
            self.report(
                Diagnostic::error(
                    format!(
                        "`{}` is the same sidecar for every file",
                        shown_bounded(text)
                    ),
                    node.span.clone(),
                )
                .help(help),
            );
            return None;
        }
        template
    }

    /// Reports a template that names what it is to lead to.
    fn asks_for_itself(&mut self, node: &Node, text: &str, group: &str, why: &str) -> bool {
        let named = text.match_indices("${{").find_map(|(at, open)| {
            let inner = text[at + open.len()..].trim_start();
            let start = text.len() - inner.len();
            let rest = inner.strip_prefix(group)?;
            let is_named = rest.starts_with(['.', '[']);
            is_named.then(|| start..start + group.len())
        });
        let Some(part) = named else { return false };
        let span = self.inside(node, text, &part);
        self.report(
            Diagnostic::error(format!("`{group}` has no value here: {why}"), span)
                .help("name what is known of the file before, as `${{ file.name }}`"),
        );
        true
    }

    /// A key's default, at the place of what it is a default of.
    fn placed_default(
        &mut self,
        node: &Node,
        text: &str,
    ) -> Option<Placed<crate::template::Template>> {
        let value = self.template(node, text, crate::template::Scope::File)?;
        Some(Placed {
            value,
            span: node.span.clone(),
            verbatim: None,
        })
    }
}
