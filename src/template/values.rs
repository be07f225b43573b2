//! What the names of an expression stand for.

use std::borrow::Cow;

use jiff::Timestamp;

use super::Name;
use super::names::{Group, Target, listed, near};
use crate::model::{Fields, RuleName, RunId, Stat, shown_bounded};

/// The values that templates of one run, rule or file are rendered with. What a scope does not
/// have stays empty: `..Values::default()`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Values<'a> {
    /// The manifest's name.
    pub manifest: &'a str,
    /// The run's id and start, where a run is known.
    pub run: Option<(&'a RunId, Timestamp)>,
    /// The rule, where one is being planned.
    pub rule: Option<&'a RuleName>,
    /// The file's path below the root and its size and times, where one is being planned.
    pub file: Option<(&'a str, Stat)>,
    /// The groups of the rule's `capture`, where the path matches it.
    pub capture: Option<&'a Fields>,
    /// The file's row of the rule's table, where it has one.
    pub row: Option<&'a Fields>,
    /// The entries of the file's sidecar, where it has one.
    pub sidecar: Option<&'a Fields>,
}

/// Why a name has no value for a file, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub message: String,
    pub help: String,
}

/// What to do about any value that is missing.
pub(super) const DEFAULT_HELP: &str = "say what to use in its place with `| default(\"…\")`";

impl Values<'_> {
    /// The text of a name; none of a whole group.
    pub(super) fn find<'s>(&'s self, target: &'s Target) -> Result<Cow<'s, str>, Missing> {
        match target {
            Target::Name(name) => Ok(self.text(*name)),
            Target::Given(text) => Ok(Cow::Borrowed(text)),
            Target::Field(group, key) => match self.fields(*group).and_then(|f| f.get(key)) {
                Some(text) => Ok(Cow::Borrowed(text)),
                None => Err(self.missing(*group, key)),
            },
            Target::Whole(group) => Err(self.missing(*group, "")),
        }
    }

    /// The fields of a group that may differ from file to file, where the file has them.
    pub(super) fn fields(&self, group: Group) -> Option<&Fields> {
        match group {
            Group::Capture => self.capture,
            Group::Row => self.row,
            Group::Sidecar => self.sidecar,
            _ => None,
        }
    }

    fn missing(&self, group: Group, key: &str) -> Missing {
        let key = shown_bounded(key);
        let Some(fields) = self.fields(group) else {
            let message = match group {
                Group::Capture => "the path does not match `capture`",
                Group::Row => "the file has no row in the table",
                Group::Sidecar => "the file has no sidecar",
                _ => "it has no value",
            };
            return Missing {
                message: message.to_owned(),
                help: DEFAULT_HELP.to_owned(),
            };
        };
        let names = fields.names();
        let is_known = names.iter().any(|name| **name == *key);
        let message = match group {
            Group::Capture => format!("the group `{key}` took no part in the match"),
            Group::Row if is_known => format!("the file's row has no value for `{key}`"),
            Group::Row => format!("the table has no column `{key}`"),
            _ => format!("the file's sidecar has no entry `{key}`"),
        };
        let mut help = DEFAULT_HELP.to_owned();
        if !is_known && group != Group::Capture {
            let names = names.iter().map(|name| &**name);
            help = match near(&key, names.clone()) {
                Some(near) => format!("did you mean `{}`? Or {help}", shown_bounded(near)),
                None if fields.names().is_empty() => help,
                None => format!("it has {}; or {help}", listed(names)),
            };
        }
        Missing { message, help }
    }

    /// The value of a name as text; empty where the scope has none, which the check made sure
    /// cannot be asked for.
    pub(super) fn text(&self, name: Name) -> Cow<'_, str> {
        let path = || self.file.map_or("", |(path, _)| path);
        let file_name = || split_last(path(), b'/').map_or_else(path, |(_, name)| name);
        let split_name = || {
            let name = file_name();
            match split_last(name, b'.') {
                Some((stem, extension)) if !stem.is_empty() => (stem, extension),
                _ => (name, ""),
            }
        };
        let time = |time: Timestamp| Cow::Owned(format!("{time:.0}"));
        match name {
            Name::FilePath => path().into(),
            Name::FileName => file_name().into(),
            Name::FileStem => split_name().0.into(),
            Name::FileExtension => split_name().1.into(),
            Name::FileParent => split_last(path(), b'/')
                .map_or("", |(parent, _)| parent)
                .into(),
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
}

/// What stands before and behind the last of an ASCII character.
fn split_last(text: &str, c: u8) -> Option<(&str, &str)> {
    let at = text.bytes().rposition(|b| b == c)?;
    Some((&text[..at], &text[at + 1..]))
}
