//! From the spanned tree to the manifest: checks every key and value, collects every problem.

mod beside;
mod hooks;
mod meant;
mod rule;
mod run;
mod select;
mod template;
mod vars;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use jiff::SignedDuration;

use self::meant::Meant;
use crate::diagnostic::{Diagnostic, Place, Source, excerpt};
use crate::manifest::keys::{self, Key, Kind};
use crate::manifest::{
    Given, Manifest, Overlap, Reading, ReportPath, RunEntry, RunSettings, STDIN,
};
use crate::model::{Capture, Glob, ReportFormat, looks_secret, shown_bounded};
use crate::template::{Scope, Template};
use crate::yaml::{self, Entry, Node, Scalar, Span, Value};

/// Most keys that would hold a secret that are told: for the line of each all of the text is read.
const SECRET_KEYS_MAX: usize = 20;

/// Most problems of one manifest that are told.
const DIAGNOSTICS_MAX: usize = 10_000;

/// Longest length of time that a manifest may name.
const DURATION_MAX: Duration = Duration::from_hours(24);

pub(super) fn read(source: &Source, path: &Path, given: Given<'_>) -> Reading {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy());
    let mut reader = Reader {
        text: &source.text,
        file: &source.name,
        folder: path.parent().unwrap_or(Path::new("")),
        given,
        name: stem.as_deref().unwrap_or("manifest").to_owned(),
        diagnostics: Vec::new(),
        seen: HashSet::new(),
        reported: 0,
        vars: BTreeMap::new(),
        used_vars: HashSet::new(),
        doubtful: Vec::new(),
        captures: BTreeMap::new(),
        names_capture: false,
        secret_keys: 0,
        run: Vec::new(),
        misplaced: HashSet::new(),
        beside: Beside::default(),
        cache: Cache::default(),
    };
    let mut unused = Vec::new();
    let manifest = match yaml::parse(&source.text, &yaml::MANIFEST) {
        Ok(root) => {
            let manifest = reader.manifest(&root);
            unused = reader.unused_vars(&root);
            unused.append(&mut reader.doubtful);
            unused.extend(reader.unused_captures());
            manifest
        }
        Err(diagnostic) => {
            reader.diagnostics.push(*diagnostic);
            None
        }
    };
    Reading {
        manifest: manifest.unwrap_or_else(|| Manifest {
            name: reader.name.clone(),
            rules: Vec::new(),
            overlap: Overlap::default(),
            run: RunSettings::default(),
            reports: Vec::new(),
            hooks: Vec::new(),
        }),
        diagnostics: reader.diagnostics,
        unused,
        vars: reader.vars.into_keys().collect(),
        run: reader.run,
    }
}

struct Reader<'a> {
    text: &'a str,
    file: &'a str,
    folder: &'a Path,
    given: Given<'a>,
    name: String,
    diagnostics: Vec<Diagnostic>,
    seen: HashSet<(Option<Place>, String)>,
    /// How often something was wrong, told before or not.
    reported: usize,
    vars: BTreeMap<String, String>,
    used_vars: HashSet<String>,
    /// What is probably not meant, and can be.
    doubtful: Vec<Diagnostic>,
    /// The captures by their place, each with a group's name and whether anything uses it.
    captures: BTreeMap<usize, (Span, String, bool)>,
    /// Whether a template of the rule that is being read names its capture.
    names_capture: bool,
    /// What `run` says, as it is written.
    run: Vec<RunEntry>,
    /// How many keys would hold a secret.
    secret_keys: usize,
    /// Keys that stand where they do not belong: not to be called missing as well.
    misplaced: HashSet<&'static str>,
    /// What the templates of the rule that is being read may name.
    beside: Beside,
    cache: Cache,
}

/// What lies beside the files of a rule, for the templates that name it.
#[derive(Debug, Clone, Default)]
struct Beside {
    /// The place of the rule's capture in the cache.
    capture: Option<usize>,
    row: bool,
    sidecar: bool,
}

/// What stands in `defaults`, behind an alias, or in a hundred thousand rules alike, is understood
/// once.
#[derive(Default)]
struct Cache {
    globs: HashMap<String, Glob>,
    /// Each capture, unless it cannot be used, with its groups' names.
    captures: Vec<(Option<Capture>, Vec<String>)>,
    capture_places: HashMap<String, usize>,
    templates: HashMap<TemplateKey, Template>,
}

/// Text, scope, capture, table, sidecar.
type TemplateKey = (String, Scope, Option<usize>, bool, bool);

/// A mapping whose keys are known and not repeated.
struct Fields<'n> {
    entries: HashMap<&'static str, &'n Entry>,
    /// Keys that an unknown key was probably meant to be: not to be called missing as well.
    misspelt: HashSet<&'static str>,
}

impl<'n> Fields<'n> {
    fn get(&self, key: &str) -> Option<&'n Entry> {
        self.entries.get(key).copied()
    }

    /// Its keys in the order of the text.
    fn keys(&self) -> Vec<&'static str> {
        let mut keys: Vec<(usize, &'static str)> = self
            .entries
            .iter()
            .map(|(key, entry)| (entry.key_span.start, *key))
            .collect();
        keys.sort_unstable();
        keys.into_iter().map(|(_, key)| key).collect()
    }

    fn mentions(&self, key: &str) -> bool {
        self.entries.contains_key(key) || self.misspelt.contains(key)
    }
}

impl Reader<'_> {
    /// What stands in `defaults`, or behind an alias, is read once for each rule, and told once.
    fn report(&mut self, diagnostic: Diagnostic) {
        self.reported += 1;
        let key = (diagnostic.place.clone(), diagnostic.message.clone());
        if !self.is_full() && self.seen.insert(key) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Whether enough is wrong that the rest does not matter.
    fn is_full(&self) -> bool {
        self.diagnostics.len() >= DIAGNOSTICS_MAX
    }

    /// What is probably not meant, and can be.
    fn doubt(&mut self, diagnostic: Diagnostic) {
        let key = (diagnostic.place.clone(), diagnostic.message.clone());
        if self.doubtful.len() < DIAGNOSTICS_MAX && self.seen.insert(key) {
            self.doubtful.push(diagnostic);
        }
    }

    fn expected(&mut self, what: &str, node: &Node, at: &Span) {
        let span = match meant::swallowed(node, at, self.text) {
            Some(span) => span,
            None if node.span.is_empty() => at.clone(),
            None => node.span.clone(),
        };
        self.report(
            Diagnostic::error(format!("expected {what}, found {}", node.describe()), span)
                .help(meant::instead(what, node, at, self.text)),
        );
    }

    fn manifest(&mut self, root: &Node) -> Option<Manifest> {
        let Value::Map(entries) = &root.value else {
            let diagnostic = match root.value {
                Value::Null => Diagnostic::error("the manifest is empty", 0..0),
                _ => Diagnostic::error(
                    format!("a manifest is a mapping, found {}", root.describe()),
                    root.span.clone(),
                ),
            };
            self.report(diagnostic.help(match root.value {
                Value::List(_) => "put the list below `uploads:`, and `version: 1` before it",
                _ => "begin with `version: 1` and `uploads:`; `roe-batch init` writes one",
            }));
            return None;
        };
        let top = self.fields(entries, keys::MANIFEST, &root.span, "the manifest");
        if let Some(entry) = top.get("version") {
            match &entry.value.value {
                Value::Scalar(text, Scalar::Number) if text == "1" => {}
                Value::Scalar(text, Scalar::Text) if text == "1" => self.report(
                    Diagnostic::error("the version is a number", entry.value.span.clone())
                        .help("write `version: 1`, without quotes"),
                ),
                _ => self.report(
                    Diagnostic::error("the manifest's version must be 1", entry.value.span.clone())
                        .help("this roe-batch reads `version: 1`"),
                ),
            }
        }
        if let Some(name) = top.get("name").and_then(|entry| self.named(entry, "name")) {
            self.name = name;
        } else if self.name == STDIN && !top.mentions("name") {
            self.report(
                Diagnostic::error("a manifest from standard input needs a `name`", 0..0)
                    .help("add, for example, `name: invoices`: it names the stream of runs"),
            );
        }
        if let Some(entry) = top.get("vars") {
            self.vars(entry);
        }
        let overlap = top.get("overlap").and_then(|entry| {
            let choices = [Overlap::Error, Overlap::First, Overlap::All];
            self.word(entry, keys::MANIFEST, &choices)
        });
        let defaults = top.get("defaults").and_then(|entry| {
            if let Value::Map(entries) = &entry.value.value {
                return Some(self.fields(entries, keys::DEFAULTS, &entry.key_span, "`defaults`"));
            }
            self.expected("a mapping of rule keys", &entry.value, &entry.key_span);
            None
        });
        let rules = top
            .get("uploads")
            .map(|entry| self.rules(entry, defaults.as_ref()))
            .unwrap_or_default();
        let run = top
            .get("run")
            .map(|entry| self.run(entry))
            .unwrap_or_default();
        let reports = top
            .get("report")
            .map(|e| self.reports(e))
            .unwrap_or_default();
        let hooks = top
            .get("on_finish")
            .map(|entry| self.hooks(entry))
            .unwrap_or_default();
        Some(Manifest {
            name: self.name.clone(),
            rules,
            overlap: overlap.unwrap_or_default(),
            run,
            reports,
            hooks,
        })
    }

    /// Sorts a mapping's entries by key; unknown, repeated and missing keys are errors.
    fn fields<'n>(
        &mut self,
        entries: &'n [Entry],
        known: &'static [Key],
        at: &Span,
        what: &str,
    ) -> Fields<'n> {
        let mut fields = Fields {
            entries: HashMap::new(),
            misspelt: HashSet::new(),
        };
        for entry in entries {
            // The document's own names for what is written once and used by alias.
            if std::ptr::eq(known, keys::MANIFEST) && entry.key.starts_with("x-") {
                continue;
            }
            let Some(key) = known.iter().find(|key| key.name == entry.key) else {
                fields.misspelt.extend(self.unknown_key(entry, known, what));
                continue;
            };
            if let Some(first) = fields.entries.get(key.name) {
                let first = first.key_span.clone();
                self.repeated_key(entry, first);
            } else {
                fields.entries.insert(key.name, entry);
            }
        }
        for key in known.iter().filter(|key| key.required) {
            if !fields.mentions(key.name) && !self.misplaced.contains(key.name) {
                self.report(
                    Diagnostic::error(format!("{what} has no `{}`", key.name), at.clone())
                        .help(missing_help(key)),
                );
            }
        }
        fields
    }

    /// Reports an unknown key; gives the one that was probably meant.
    fn unknown_key(
        &mut self,
        entry: &Entry,
        known: &'static [Key],
        what: &str,
    ) -> Option<&'static str> {
        if self.is_full() {
            return None;
        }
        let meant = meant::key(&entry.key, known);
        let is_secret = meant.is_none() && looks_secret(&entry.key);
        if is_secret {
            self.secret_keys += 1;
            if self.secret_keys > SECRET_KEYS_MAX {
                return None;
            }
        }
        let place = if is_secret {
            // What follows is not shown.
            let start = self.text[..entry.key_span.start]
                .rfind('\n')
                .map_or(0, |at| at + 1);
            let line = self.text[..start].matches('\n').count() + 1;
            let span = entry.key_span.start - start..entry.key_span.end - start;
            excerpt(self.file, line, &self.text[start..entry.key_span.end], span).into()
        } else {
            Place::Manifest(entry.key_span.clone())
        };
        let (help, meant) = match meant {
            Some(Meant::Here(near)) => (format!("did you mean `{near}`?"), Some(near)),
            Some(Meant::Elsewhere(key, place)) => {
                self.misplaced.insert(key);
                (format!("`{key}` belongs {place}"), None)
            }
            None if is_secret => (meant::SECRET.to_owned(), None),
            None if meant::HOSTS.contains(&&*entry.key) => (meant::HOST.to_owned(), None),
            None => {
                let names: Vec<&str> = known.iter().map(|key| key.name).collect();
                (format!("the keys of {what} are {}", names.join(", ")), None)
            }
        };
        self.report(
            Diagnostic::error(
                format!("{what} has no key `{}`", shown_bounded(&entry.key)),
                place,
            )
            .label("unknown key")
            .help(help),
        );
        meant
    }

    fn repeated_key(&mut self, entry: &Entry, first: Span) {
        self.report(
            Diagnostic::error(
                format!("`{}` is given twice", shown_bounded(&entry.key)),
                entry.key_span.clone(),
            )
            .label("given again here")
            .other(first, "first given here")
            .help("keep one; values are never merged or overridden in silence"),
        );
    }

    /// A scalar that is not null, as text.
    fn text<'n>(&mut self, entry: &'n Entry) -> Option<&'n str> {
        if let Value::Scalar(text, _) = &entry.value.value {
            return Some(text);
        }
        self.expected("a text", &entry.value, &entry.key_span);
        None
    }

    /// A text that is a name: not empty, on one line, of a length that fits a report.
    fn named(&mut self, entry: &Entry, what: &str) -> Option<String> {
        let text = self.text(entry)?;
        let problem = if text.trim().is_empty() {
            format!("the {what} is empty")
        } else if text.chars().count() > 200 {
            format!("the {what} is longer than 200 characters")
        } else if text.chars().any(char::is_control) {
            format!("the {what} has a control character")
        } else {
            return Some(text.to_owned());
        };
        self.report(
            Diagnostic::error(problem, entry.value.span.clone())
                .help("a name is a line of up to 200 characters, as in `name: invoices`"),
        );
        None
    }

    /// One of a key's words, by the choices in the order of the key's words.
    fn word<T: Copy>(&mut self, entry: &Entry, known: &[Key], choices: &[T]) -> Option<T> {
        let text = self.text(entry)?;
        let key = known.iter().find(|key| key.name == entry.key)?;
        let Kind::Word(words) = key.kind else {
            return None;
        };
        let chosen = words.iter().position(|word| *word == text);
        if let Some(chosen) = chosen.and_then(|at| choices.get(at)) {
            return Some(*chosen);
        }
        let message = format!("`{}` is no choice for `{}`", shown_bounded(text), key.name);
        let (last, others) = words.split_last()?;
        self.report(
            Diagnostic::error(message, entry.value.span.clone())
                .help(format!("choose {} or {last}", others.join(", "))),
        );
        None
    }

    /// A length of time above zero, in the units that people write.
    fn duration(&mut self, entry: &Entry, example: &str) -> Option<Duration> {
        let text = self.text(entry)?;
        let (key, said) = (&entry.key, shown_bounded(text));
        let parsed = text.parse::<SignedDuration>().ok();
        let (problem, help) = match parsed.map(Duration::try_from) {
            Some(Ok(duration)) if duration > DURATION_MAX => (
                format!("`{key}` is longer than a day"),
                "a day is the most: `24h`".to_owned(),
            ),
            Some(Ok(duration)) if !duration.is_zero() => return Some(duration),
            None if text.bytes().all(|b| b.is_ascii_digit()) => (
                format!("`{key}` has no unit"),
                format!("write `{said}s` for seconds, `{said}m` for minutes, `{said}h` for hours"),
            ),
            None => (
                format!("`{said}` is no length of time"),
                format!("for example `{key}: {example}`; a day is the most"),
            ),
            Some(_) => (
                format!("`{key}` must be more than nothing"),
                format!("for example `{key}: {example}`, or leave it out"),
            ),
        };
        self.report(Diagnostic::error(problem, entry.value.span.clone()).help(help));
        None
    }

    fn optional_duration(&mut self, fields: &Fields<'_>, name: &str) -> Option<Duration> {
        let key = keys::RUN.iter().find(|key| key.name == name)?;
        self.duration(fields.get(name)?, key.example)
    }

    fn flag(&mut self, entry: &Entry) -> Option<bool> {
        match &entry.value.value {
            Value::Scalar(text, _) if text == "true" => Some(true),
            Value::Scalar(text, _) if text == "false" => Some(false),
            _ => {
                self.expected("true or false", &entry.value, &entry.key_span);
                None
            }
        }
    }

    fn reports(&mut self, entry: &Entry) -> Vec<ReportPath> {
        let one = std::slice::from_ref(&entry.value);
        let items = match &entry.value.value {
            Value::Scalar(..) => one,
            Value::List(items) => items,
            _ => {
                self.expected("a path or a list of paths", &entry.value, &entry.key_span);
                return Vec::new();
            }
        };
        let mut reports = Vec::new();
        let mut texts: HashMap<&str, &Span> = HashMap::new();
        for item in items {
            let path = match &item.value {
                Value::Scalar(..) => Some(item),
                Value::Map(entries) => {
                    let at = entries.first().map_or(&item.span, |first| &first.key_span);
                    let fields = self.fields(entries, keys::REPORT, at, "the report");
                    fields.get("path").map(|entry| &entry.value)
                }
                _ => {
                    self.expected("a path or `{path: …}`", item, &entry.key_span);
                    None
                }
            };
            let Some(node) = path else { continue };
            let Value::Scalar(text, _) = &node.value else {
                self.expected("a path", node, &entry.key_span);
                continue;
            };
            let format = ReportFormat::of_path(text);
            if format.is_none() {
                self.report(
                    Diagnostic::error(
                        "the report's extension chooses no format",
                        node.span.clone(),
                    )
                    .help(ReportFormat::EXTENSIONS),
                );
            }
            let template = self.template(node, text, Scope::Run);
            if let Some(first) = texts.insert(text, &node.span) {
                self.report(
                    Diagnostic::error("two reports have this path", node.span.clone())
                        .other(first.clone(), "the first of them")
                        .help("the second would be written over the first: give it its own"),
                );
            }
            if let (Some(path), Some(format)) = (template, format) {
                reports.push(ReportPath {
                    path,
                    format,
                    span: node.span.clone(),
                });
            }
        }
        reports
    }
}

fn missing_help(key: &Key) -> String {
    match key.kind {
        Kind::List(_) => format!("add `{}:` with a list of rules", key.name),
        _ => format!("add, for example, `{}: {}`", key.name, key.example),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Severity;
    use crate::manifest::Reaction;
    use crate::model::Environment;
    use crate::model::{DatasetId, OrganizationId};

    fn environment() -> Environment {
        Environment::new([("ORG".to_owned(), "org-1".to_owned())])
    }

    fn reading(text: &str) -> Reading {
        let source = Source {
            name: "m.yaml".to_owned(),
            text: text.to_owned(),
        };
        read(
            &source,
            Path::new("folder/m.yaml"),
            Given::environment(&environment()),
        )
    }

    fn problems(text: &str) -> Vec<(usize, String)> {
        let mut found: Vec<(usize, String)> = reading(text)
            .diagnostics
            .into_iter()
            .map(|d| {
                assert_eq!(d.severity, Severity::Error);
                let start = d.span().expect("a place").start;
                (text[..start].matches('\n').count() + 1, d.message)
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn a_full_manifest_is_understood() {
        let reading = reading(
            "version: 1\nname: invoices\ndefaults:\n  dataset_id: d-1\n  metadata: {a: 1.10, b: x}\n\
             uploads:\n- name: pdfs\n  root: inbox\n  include: ['**/*.pdf']\n  exclude: draft-*\n  \
             organization_id: ${{ env.ORG }}\n  metadata: {b: no, c: '${{ file.stem }}'}\n  \
             content_type: application/pdf\n  on_empty: warn\nrun: {concurrency: 16}\n\
             report: [out.csv, {path: 'r/${{ run.id }}.json'}]\n",
        );
        assert_eq!(reading.diagnostics, []);
        let rule = &reading.manifest.rules[0];
        assert_eq!(rule.root, Path::new("folder/inbox"));
        assert_eq!(rule.dataset_id, Some(DatasetId::new("d-1")));
        assert_eq!(rule.organization_id, Some(OrganizationId::new("org-1")));
        assert_eq!(rule.on_empty, Reaction::Warn);
        let keys: Vec<String> = rule
            .metadata
            .iter()
            .map(|entry| format!("{}={:?}", entry.key, entry.template.value))
            .collect();
        assert_eq!(keys, ["a=[\"1.10\"]", "b=[\"no\"]", "c=[\"FileStem\"]"]);
        assert_eq!(reading.manifest.reports.len(), 2);
        assert_eq!(reading.manifest.name, "invoices");
    }

    #[test]
    fn every_problem_is_found_in_one_pass_with_its_line() {
        let text = "version: 2\nnmae: x\nuploads:\n- name: a\n  name: b\n  root: [x]\n  \
                    include: ['/abs', 'ok', 'b**']\n  metadata:\n    k:\n    l: [1]\n    \
                    m: ${{ file.nam }}\n  concurrency: 3\n- include: x\nrun:\n  concurrency: '8'\n\
                    report: out.txt\n";
        let found = problems(text);
        let lines: Vec<usize> = found.iter().map(|(line, _)| *line).collect();
        assert_eq!(
            lines,
            [1, 2, 5, 6, 7, 7, 9, 10, 11, 12, 13, 13, 15, 16],
            "{found:#?}"
        );
    }

    #[test]
    fn a_template_error_points_into_the_scalar() {
        let text = "version: 1\nuploads:\n- {name: a, root: ., include: x, file_name: \"é ${{ file.nam }}\"}\n";
        let reading = reading(text);
        let span = reading.diagnostics[0].span().cloned().expect("a place");
        assert_eq!(&text[span], "file.nam");
    }

    #[test]
    fn nothing_and_a_list_are_no_manifests() {
        for text in ["", "# only a comment\n", "- a\n", "text"] {
            assert_eq!(problems(text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn the_name_is_the_files_unless_given() {
        assert_eq!(reading("version: 1\n").manifest.name, "m");
    }

    #[test]
    fn rules_with_the_same_name_are_refused() {
        let found = problems(
            "version: 1\nuploads:\n- {name: a, root: ., include: x}\n- {name: a, root: ., include: y}\n",
        );
        assert_eq!(found, [(4, "two rules are named `a`".to_owned())]);
    }
}
