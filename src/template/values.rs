//! What the names of an expression stand for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use minijinja::value::{Object, Value};

use super::Name;
use crate::model::{Fields, RelativePath, RuleName, RunId, Stat};

/// The values that templates of one run, rule or file are rendered with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    /// The manifest's name.
    pub manifest: &'a str,
    /// The run's id and start, where a run is known.
    pub run: Option<(&'a RunId, Timestamp)>,
    /// The rule, where one is being planned.
    pub rule: Option<&'a RuleName>,
    /// The file, where one is being planned.
    pub file: Option<(&'a RelativePath, Stat)>,
    /// The groups of the rule's `capture`, where the path matches it.
    pub capture: Option<&'a Fields>,
    /// The file's row of the rule's table, where it has one.
    pub row: Option<&'a Fields>,
    /// The entries of the file's sidecar, where it has one.
    pub sidecar: Option<&'a Fields>,
}

impl Values<'_> {
    pub(super) fn sample() -> Values<'static> {
        static PATH: LazyLock<RelativePath> =
            LazyLock::new(|| RelativePath::new("folder/file.txt"));
        static RULE: LazyLock<RuleName> = LazyLock::new(|| RuleName::new("rule"));
        static RUN: LazyLock<RunId> = LazyLock::new(|| RunId::new("run"));
        let stat = Stat {
            size: 1,
            mtime_ns: 0,
            inode: 0,
        };
        Values {
            manifest: "manifest",
            run: Some((&RUN, Timestamp::UNIX_EPOCH)),
            rule: Some(&RULE),
            file: Some((&PATH, stat)),
            ..Values::default()
        }
    }

    /// The value of a name as text; empty where the scope has none, which the check made sure
    /// cannot be asked for.
    pub(super) fn text(&self, name: Name) -> Cow<'_, str> {
        let path = self.file.map_or("", |(path, _)| path.as_str());
        let (parent, file_name) = path.rsplit_once('/').unwrap_or(("", path));
        let (stem, extension) = match file_name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => (stem, extension),
            _ => (file_name, ""),
        };
        let time = |time: Timestamp| Cow::Owned(format!("{time:.0}"));
        match name {
            Name::FilePath => path.into(),
            Name::FileName => file_name.into(),
            Name::FileStem => stem.into(),
            Name::FileExtension => extension.into(),
            Name::FileParent => parent.into(),
            Name::FileSize => self
                .file
                .map_or(Cow::Borrowed(""), |(_, stat)| stat.size.to_string().into()),
            Name::FileModified => self
                .file
                .map_or(Cow::Borrowed(""), |(_, stat)| time(stat.modified())),
            Name::RuleName => self.rule.map_or("", RuleName::as_str).into(),
            Name::RunId => self.run.map_or("", |(id, _)| id.as_str()).into(),
            Name::RunStarted => self
                .run
                .map_or(Cow::Borrowed(""), |(_, started)| time(started)),
            Name::ManifestName => self.manifest.into(),
        }
    }

    pub(super) fn context(
        &self,
        env: &Arc<BTreeMap<String, String>>,
        vars: &Arc<BTreeMap<String, String>>,
    ) -> Value {
        let mut groups: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
        for (name, text, _) in Name::ALL {
            let value = match (name, self.file) {
                (Name::FileSize, Some((_, stat))) => Value::from(stat.size),
                _ => Value::from(self.text(name).into_owned()),
            };
            if let Some((group, key)) = text.split_once('.') {
                groups
                    .entry(group)
                    .or_default()
                    .insert(key.to_owned(), value);
            }
        }
        let env = env.iter().map(|(k, v)| (k.clone(), Value::from(v.clone())));
        groups.insert("env", env.collect());
        let vars = vars
            .iter()
            .map(|(k, v)| (k.clone(), Value::from(v.clone())));
        groups.insert("vars", vars.collect());
        for (name, fields) in [
            ("capture", self.capture),
            ("row", self.row),
            ("sidecar", self.sidecar),
        ] {
            let fields = fields.into_iter().flat_map(Fields::iter);
            let fields = fields.map(|(k, v)| (k.to_owned(), Value::from(v)));
            groups.insert(name, fields.collect());
        }
        Value::from_object(Context(groups))
    }
}

#[derive(Debug)]
struct Context(BTreeMap<&'static str, BTreeMap<String, Value>>);

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0
            .get(key.as_str()?)
            .map(|group| Value::from(group.clone()))
    }
}
