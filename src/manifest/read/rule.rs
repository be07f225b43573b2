//! One entry of `uploads:`, from its mapping and the defaults' to a rule.

use std::collections::HashMap;
use std::path::PathBuf;

use super::select::Hidden;
use super::{Fields, Reader, meant, missing_help};
use crate::diagnostic::Diagnostic;
use crate::manifest::{
    Compare, DatasetName, Layer, MetadataEntry, OnChange, OnMetadataChange, Placed, Reaction, Rule,
    keys,
};
use crate::model::{
    ContentType, DatasetId, Glob, Globs, OrganizationId, RuleName, TAG_KEY, canonical_id, shown,
    shown_bounded,
};
use crate::template::{Scope, Template, Values};
use crate::yaml::{Entry, Node, Span, Value};

/// Longest name of a dataset, in characters.
const DATASET_NAME_MAX: usize = 1000;

impl Reader<'_> {
    pub(super) fn rules(&mut self, entry: &Entry, defaults: Option<&Fields<'_>>) -> Vec<Rule> {
        let Value::List(items) = &entry.value.value else {
            self.no_list_of_rules(entry);
            return Vec::new();
        };
        if items.is_empty() {
            self.report(
                Diagnostic::error("`uploads` has no rules", entry.key_span.clone())
                    .help("a rule needs `name`, `root` and `include`"),
            );
        }
        let mut names: HashMap<String, Span> = HashMap::new();
        let mut rules = Vec::new();
        // What of the defaults every rule so far replaces.
        let mut idle: Vec<&str> = defaults.map_or(Vec::new(), Fields::keys);
        for item in items {
            let Value::Map(entries) = &item.value else {
                let found = item.describe();
                self.report(
                    Diagnostic::error(format!("expected a rule, found {found}"), item.span.clone())
                        .help(
                            "a rule is a mapping, as `- {name: all, root: inbox, include: \"**\"}`",
                        ),
                );
                continue;
            };
            let at = entries.first().map_or(&item.span, |first| &first.key_span);
            let fields = self.fields(entries, keys::RULE, at, "the rule");
            let name = fields.get("name").and_then(|entry| {
                let name = self.named(entry, "rule's name")?;
                if let Some(first) = names.get(&name) {
                    let first = first.clone();
                    self.report(
                        Diagnostic::error(
                            format!("two rules are named `{}`", shown(&name)),
                            entry.value.span.clone(),
                        )
                        .other(first, "first used here")
                        .help("reports tell rules apart by name; give each its own"),
                    );
                }
                names.insert(name.clone(), entry.value.span.clone());
                Some(name)
            });
            if !idle.is_empty() {
                let own = |key: &str| fields.mentions(key) && key != "metadata";
                let targets = ["dataset", "dataset_id"];
                idle.retain(|key| {
                    own(key) || targets.contains(key) && targets.into_iter().any(own)
                });
            }
            if let Some(rule) = self.rule(name.as_deref(), &fields, defaults, at) {
                rules.push(rule);
            }
        }
        if let (Some(defaults), false) = (defaults, items.is_empty()) {
            for entry in idle.iter().filter_map(|key| defaults.get(key)) {
                let message = format!("no rule uses this: each has a `{}` of its own", entry.key);
                let warning = Diagnostic::warning(message, entry.key_span.clone());
                self.doubt(warning.help("take it out, or leave it out where it is meant"));
            }
        }
        rules
    }

    /// Reports rules that are written in some other way.
    fn no_list_of_rules(&mut self, entry: &Entry) {
        let Value::Map(entries) = &entry.value.value else {
            self.expected("a list of rules", &entry.value, &entry.key_span);
            return;
        };
        let is_rule_key = |entry: &Entry| keys::RULE.iter().any(|key| key.name == entry.key);
        let first = entries.first().filter(|first| !is_rule_key(first));
        let help = match first {
            Some(first) => format!(
                "rules have their names inside: write `- name: {}` instead of this key",
                shown_bounded(&first.key)
            ),
            None => "put `- ` before the first key of each rule".to_owned(),
        };
        let at = entries.first().map_or(&entry.key_span, |e| &e.key_span);
        let what = "expected a list of rules, found a mapping";
        self.report(Diagnostic::error(what, at.clone()).help(help));
    }

    fn rule(
        &mut self,
        name: Option<&str>,
        own: &Fields<'_>,
        defaults: Option<&Fields<'_>>,
        at: &Span,
    ) -> Option<Rule> {
        let field = |key: &str| own.get(key).or_else(|| defaults.and_then(|d| d.get(key)));
        let mentions = |key| own.mentions(key) || defaults.is_some_and(|d| d.mentions(key));
        for key in ["root", "include"] {
            let is_needed = key == "root" || !mentions("files_from");
            if is_needed
                && !mentions(key)
                && !self.misplaced.contains(key)
                && let Some(key) = keys::RULE.iter().find(|known| known.name == key)
            {
                self.report(
                    Diagnostic::error(
                        format!("the rule has no `{}`, nor do the defaults", key.name),
                        at.clone(),
                    )
                    .help(missing_help(key)),
                );
            }
        }
        let rule_name = RuleName::new(name.unwrap_or_default());
        let root = field("root").and_then(|entry| self.root(entry, &rule_name));
        let include = field("include").and_then(|entry| self.patterns(entry));
        let exclude = field("exclude").and_then(|entry| self.patterns(entry));
        self.beside = super::Beside::default();
        self.names_capture = false;
        let capture = self.capture(field("capture"), field("capture_metadata"));
        let table = field("table").and_then(|entry| self.table(entry, &rule_name));
        let sidecar = field("sidecar").and_then(|entry| self.sidecar(entry));
        let (select, hidden) = self.select(&field);
        let (dataset_id, dataset) = self.dataset(own, defaults, &rule_name);
        let organization_id = field("organization_id")
            .and_then(|entry| self.id(entry, &rule_name))
            .map(OrganizationId::new);
        let metadata = self.metadata(
            own.get("metadata"),
            defaults.and_then(|d| d.get("metadata")),
        );
        let file_name = field("file_name").and_then(|entry| {
            let text = self.text(entry)?;
            self.shown_template(&entry.value, text)
        });
        let content_type = field("content_type").and_then(|entry| self.content_type(entry));
        let on_empty = field("on_empty").and_then(|entry| self.reaction(entry, keys::RULE));
        let compare = field("compare").and_then(|entry| {
            self.word(entry, keys::RULE, &[Compare::Content, Compare::SizeMtime])
        });
        let on_change = field("on_change").and_then(|entry| {
            let choices = [OnChange::Upload, OnChange::Skip, OnChange::Fail];
            self.word(entry, keys::RULE, &choices)
        });
        let on_metadata_change = field("on_metadata_change").and_then(|entry| {
            let choices = [OnMetadataChange::Skip, OnMetadataChange::Upload];
            self.word(entry, keys::RULE, &choices)
        });
        if let Some(capture) = &capture {
            self.note_capture(capture);
        }
        // Without patterns the root can still be looked at.
        let (include, include_spans) = include.unwrap_or_default();
        let (exclude, exclude_spans) = exclude.unwrap_or_default();
        let (root, root_span) = root?;
        Some(Rule {
            name: rule_name,
            span: own.get("name").map_or(at, |name| &name.value.span).clone(),
            root,
            root_span,
            include: match hidden {
                Hidden::Named => Globs::include(include),
                Hidden::Matched => Globs::include_hidden(include),
            },
            include_spans,
            exclude: Globs::exclude(exclude),
            exclude_spans,
            select,
            dataset_id,
            dataset,
            organization_id,
            metadata,
            capture,
            table,
            sidecar,
            file_name,
            content_type,
            on_empty: on_empty.unwrap_or_default(),
            compare: compare.unwrap_or_default(),
            on_change: on_change.unwrap_or_default(),
            on_metadata_change: on_metadata_change.unwrap_or_default(),
        })
    }

    /// The dataset by id or by name. What the rule itself says replaces either of the defaults'.
    fn dataset(
        &mut self,
        own: &Fields<'_>,
        defaults: Option<&Fields<'_>>,
        rule: &RuleName,
    ) -> (Option<DatasetId>, Option<DatasetName>) {
        let mut said = (None, None);
        for layer in defaults.into_iter().chain([own]) {
            let here = (layer.get("dataset_id"), layer.get("dataset"));
            if let (Some(id), Some(name)) = here {
                self.report(
                    Diagnostic::error(
                        "`dataset` and `dataset_id` both say where the files go",
                        name.key_span.clone(),
                    )
                    .label("a name here")
                    .other(id.key_span.clone(), "an id here")
                    .help("keep one; an id needs no listing, and outlives a new name"),
                );
            }
            if here.0.or(here.1).is_some() {
                said = here;
            }
        }
        let id = said.0.and_then(|entry| self.id(entry, rule));
        let name = said.1.and_then(|entry| self.dataset_name(entry, rule));
        (id.map(DatasetId::new), name)
    }

    fn dataset_name(&mut self, entry: &Entry, rule: &RuleName) -> Option<DatasetName> {
        let text = self.constant(entry, rule)?;
        let text = text.trim();
        let span = entry.value.span.clone();
        let problem = if text.chars().any(char::is_control) {
            "`dataset` has a control character"
        } else if text.chars().count() > DATASET_NAME_MAX {
            "`dataset` is longer than 1,000 characters"
        } else {
            return Some(DatasetName {
                text: text.to_owned(),
                span,
            });
        };
        self.report(Diagnostic::error(problem, span));
        None
    }

    fn root(&mut self, entry: &Entry, rule: &RuleName) -> Option<(PathBuf, Span)> {
        let root = self.constant(entry, rule)?;
        let span = entry.value.span.clone();
        if let Some((scheme, _)) = root.split_once("://") {
            self.report(
                Diagnostic::error(
                    format!(
                        "`root` is not a folder but an address ({}://)",
                        shown(scheme)
                    ),
                    span,
                )
                .help("this version reads local folders only"),
            );
            return None;
        }
        Some((self.folder.join(root), span))
    }

    /// A template whose value is shown, so that no secret may be in it.
    pub(super) fn shown_template(&mut self, node: &Node, text: &str) -> Option<Placed<Template>> {
        let template = self.placed(node, text, Scope::File)?;
        if let Some(variable) = template.value.uses().secret.clone() {
            self.secret(node, &variable);
            return None;
        }
        Some(template)
    }

    /// What something missing is.
    pub(super) fn reaction(&mut self, entry: &Entry, known: &[keys::Key]) -> Option<Reaction> {
        let choices = [Reaction::Error, Reaction::Warn, Reaction::Ignore];
        self.word(entry, known, &choices)
    }

    /// A text that is rendered once for a rule and must not come out empty.
    pub(super) fn constant(&mut self, entry: &Entry, rule: &RuleName) -> Option<String> {
        let text = self.text(entry)?;
        let template = self.template(&entry.value, text, Scope::Rule)?;
        let values = Values {
            manifest: &self.name,
            rule: Some(rule),
            ..Values::default()
        };
        let problem = match template.render(&values) {
            Ok(text) if text.trim().is_empty() => format!("`{}` is empty", entry.key),
            Ok(text) => return Some(text),
            Err(error) => error.to_string(),
        };
        let mut known = keys::RULE.iter().chain(keys::TABLE);
        let help = match known.find(|key| key.name == entry.key) {
            Some(key) if key.default.is_empty() => {
                format!(
                    "it must name something, as in `{}: {}`",
                    key.name, key.example
                )
            }
            _ => format!("leave `{}` out to use its default", entry.key),
        };
        self.report(Diagnostic::error(problem, entry.value.span.clone()).help(help));
        None
    }

    /// An id of the service's, in the one form that ids are compared in.
    fn id(&mut self, entry: &Entry, rule: &RuleName) -> Option<String> {
        let id = canonical_id(&self.constant(entry, rule)?);
        if id.is_none() {
            self.report(
                Diagnostic::error(
                    format!("`{}` has a control character", entry.key),
                    entry.value.span.clone(),
                )
                .help("copy it from the service as it is, as 3f2b7a52-0000-4000-8000-000000000001"),
            );
        }
        if let Some(id) = id.as_deref().filter(|id| is_like_a_uuid(id)) {
            let digits = id.chars().filter(char::is_ascii_hexdigit).count();
            self.report(
                Diagnostic::warning(
                    format!("this looks like a UUID of {digits} digits; one has 32"),
                    entry.value.span.clone(),
                )
                .help("copy it anew; the service's ids are written as 8-4-4-4-12 digits"),
            );
        }
        id
    }

    fn patterns(&mut self, entry: &Entry) -> Option<(Vec<Glob>, Vec<Span>)> {
        let one = std::slice::from_ref(&entry.value);
        let items = match &entry.value.value {
            Value::Scalar(..) => one,
            Value::List(items) if !items.is_empty() => items,
            Value::List(_) => {
                self.report(
                    Diagnostic::error(
                        format!("`{}` has no patterns", entry.key),
                        entry.key_span.clone(),
                    )
                    .help("`\"**\"` takes every file"),
                );
                return None;
            }
            _ => {
                self.expected(
                    "a pattern or a list of patterns",
                    &entry.value,
                    &entry.key_span,
                );
                return None;
            }
        };
        let before = self.reported;
        let (mut globs, mut spans) = (Vec::new(), Vec::new());
        for item in items {
            let Value::Scalar(text, _) = &item.value else {
                self.expected("a pattern", item, &entry.key_span);
                continue;
            };
            if let Some(at) = text.find("${{") {
                let end = text[at..].find("}}").map_or(text.len(), |end| at + end + 2);
                let span = self.inside(item, text, &(at..end));
                self.report(
                    Diagnostic::error("a pattern holds no expressions", span)
                        .help("write it out, or take more files and choose among them by `when:`"),
                );
                continue;
            }
            if let Some(glob) = self.cache.globs.get(text) {
                globs.push(glob.clone());
                spans.push(item.span.clone());
                continue;
            }
            match Glob::parse(text) {
                Ok(glob) => {
                    self.cache.globs.insert(text.clone(), glob.clone());
                    globs.push(glob);
                    spans.push(item.span.clone());
                }
                Err(error) => {
                    let span = self.inside(item, text, &error.range);
                    let mut diagnostic = Diagnostic::error(error.message, span);
                    diagnostic.help = error.help;
                    self.report(diagnostic);
                }
            }
        }
        let is_sound = self.reported == before;
        let mut seen: HashMap<&str, &Span> = HashMap::new();
        for (glob, span) in globs.iter().zip(&spans) {
            if let Some(first) = seen.insert(glob.as_str(), span) {
                self.doubt(
                    Diagnostic::warning("this pattern is there twice", span.clone())
                        .other(first.clone(), "first here")
                        .help("take one of them out"),
                );
            }
        }
        is_sound.then_some((globs, spans))
    }

    /// The rule's own metadata after the defaults it does not override.
    fn metadata(&mut self, own: Option<&Entry>, defaults: Option<&Entry>) -> Vec<MetadataEntry> {
        let mut metadata: Vec<MetadataEntry> = Vec::new();
        let layers = [(Layer::Defaults, defaults), (Layer::Rule, own)];
        for (layer, mapping) in layers {
            let Some(mapping) = mapping else { continue };
            let Value::Map(entries) = &mapping.value.value else {
                self.expected(
                    "a mapping of names to values",
                    &mapping.value,
                    &mapping.key_span,
                );
                continue;
            };
            let mut seen: HashMap<&str, &Entry> = HashMap::new();
            for entry in entries {
                if let Some(first) = seen.insert(&entry.key, entry) {
                    self.repeated_key(entry, first.key_span.clone());
                    continue;
                }
                let Some(template) = self.metadata_value(entry) else {
                    continue;
                };
                let new = MetadataEntry {
                    key: entry.key.clone(),
                    template,
                    layer,
                };
                match metadata.iter_mut().find(|old| old.key == entry.key) {
                    Some(old) => *old = new,
                    None => metadata.push(new),
                }
            }
        }
        metadata
    }

    fn metadata_value(&mut self, entry: &Entry) -> Option<Placed<Template>> {
        if entry.key.is_empty() {
            self.report(
                Diagnostic::error("a metadata name is empty", entry.key_span.clone())
                    .help("write the name before the `:`, or take the entry out"),
            );
            return None;
        }
        if entry.key == TAG_KEY {
            self.report(
                Diagnostic::error(
                    format!("the metadata name `{TAG_KEY}` is taken"),
                    entry.key_span.clone(),
                )
                .help("`run: {tag: true}` fills it in; choose another name"),
            );
            return None;
        }
        let help = match &entry.value.value {
            Value::Scalar(text, _) => return self.placed(&entry.value, text, Scope::File),
            Value::Null => meant::nothing(&entry.value, &entry.key_span, self.text),
            _ => "the API stores texts only; write a text, JSON in quotes if need be".to_owned(),
        };
        let span = match meant::swallowed(&entry.value, &entry.key_span, self.text) {
            Some(span) => span,
            None if matches!(entry.value.value, Value::Null) => entry.key_span.clone(),
            None => entry.value.span.clone(),
        };
        self.report(
            Diagnostic::error(
                format!(
                    "the metadata value of `{}` must be a text, found {}",
                    shown_bounded(&entry.key),
                    entry.value.describe()
                ),
                span,
            )
            .help(help),
        );
        None
    }

    fn content_type(&mut self, entry: &Entry) -> Option<Placed<ContentType>> {
        let text = self.text(entry)?;
        if text == "auto" {
            return None;
        }
        match ContentType::parse(text) {
            Ok(content_type) => Some(self.place(&entry.value, text, content_type)),
            Err(error) => {
                self.report(
                    Diagnostic::error(error.to_string(), entry.value.span.clone())
                        .help("write a media type such as `application/pdf`, or `auto`"),
                );
                None
            }
        }
    }
}

/// Whether a text was most likely meant to be a UUID, and is none.
fn is_like_a_uuid(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_hexdigit() || c == '-';
    (30..=40).contains(&text.len())
        && text.matches('-').count() >= 3
        && text.chars().all(is_part)
        && uuid::Uuid::parse_str(text).is_err()
}
