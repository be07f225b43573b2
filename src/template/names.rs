//! The names that an expression may use, and which of them have a value where.

use std::ops::Range;
use std::sync::Arc;

use super::{Known, Scope};
use crate::model::{Variable, closest, shown_bounded};

/// Most names that a mistyped one is compared with.
const COMPARED_MAX: usize = 1_000;

/// Most names that a help lists.
const LISTED_MAX: usize = 20;

/// A name that an expression may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `file.path`
    FilePath,
    /// `file.name`
    FileName,
    /// `file.stem`
    FileStem,
    /// `file.extension`
    FileExtension,
    /// `file.parent`
    FileParent,
    /// `file.size`
    FileSize,
    /// `file.modified`
    FileModified,
    /// `rule.name`
    RuleName,
    /// `run.id`
    RunId,
    /// `run.started`
    RunStarted,
    /// `manifest.name`
    ManifestName,
}

impl Name {
    /// Every name with its meaning, in the order of the documentation.
    pub const ALL: [(Self, &'static str, &'static str); 11] = [
        (Self::FilePath, "file.path", "path below `root`, with `/`"),
        (Self::FileName, "file.name", "last component of the path"),
        (
            Self::FileStem,
            "file.stem",
            "name without its last extension",
        ),
        (
            Self::FileExtension,
            "file.extension",
            "last extension, without the dot",
        ),
        (
            Self::FileParent,
            "file.parent",
            "folder below `root`, empty at the top",
        ),
        (Self::FileSize, "file.size", "bytes, as a number"),
        (
            Self::FileModified,
            "file.modified",
            "time of the last change, RFC 3339 in UTC",
        ),
        (Self::RuleName, "rule.name", "the rule's name"),
        (Self::RunId, "run.id", "the run's id"),
        (
            Self::RunStarted,
            "run.started",
            "start of the run, RFC 3339 in UTC",
        ),
        (Self::ManifestName, "manifest.name", "the manifest's name"),
    ];

    pub(super) fn of(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, name, _)| *name == text)
            .map(|(name, _, _)| *name)
    }

    fn group(self) -> Group {
        match self {
            Self::RuleName => Group::Rule,
            Self::RunId | Self::RunStarted => Group::Run,
            Self::ManifestName => Group::Manifest,
            _ => Group::File,
        }
    }
}

/// What stands before the dot of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    File,
    Rule,
    Run,
    Manifest,
    Env,
    Vars,
    Capture,
    Row,
    Sidecar,
}

impl Group {
    const ALL: [Self; 9] = [
        Self::File,
        Self::Rule,
        Self::Run,
        Self::Manifest,
        Self::Env,
        Self::Vars,
        Self::Capture,
        Self::Row,
        Self::Sidecar,
    ];

    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.word() == word)
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Rule => "rule",
            Self::Run => "run",
            Self::Manifest => "manifest",
            Self::Env => "env",
            Self::Vars => "vars",
            Self::Capture => "capture",
            Self::Row => "row",
            Self::Sidecar => "sidecar",
        }
    }

    /// Whether its names may have other values for each file.
    pub fn varies(self) -> bool {
        matches!(self, Self::File | Self::Capture | Self::Row | Self::Sidecar)
    }

    fn is_in(self, scope: Scope) -> bool {
        match self {
            Self::Env => true,
            Self::Manifest | Self::Vars => scope != Scope::Vars,
            Self::Rule => matches!(scope, Scope::File | Scope::Rule),
            Self::Run => matches!(scope, Scope::File | Scope::Run),
            Self::File | Self::Capture | Self::Row | Self::Sidecar => scope == Scope::File,
        }
    }

    /// The key of a rule that gives these names values, and what to write there.
    fn key(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Capture => Some((
                "capture",
                "add `capture:` with a pattern that has a group `(?<NAME>…)`",
            )),
            Self::Row => Some(("table", "add `table:` to join a row to each file")),
            Self::Sidecar => Some((
                "sidecar",
                "add `sidecar:` with the path of the file that lies beside each",
            )),
            _ => None,
        }
    }
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// One of the names that are always there.
    Name(Name),
    /// A text that is known when the manifest is read.
    Given(Arc<str>),
    /// One value of a capture, a row or a sidecar.
    Field(Group, Arc<str>),
    /// A whole group: `row[file.stem]`.
    Whole(Group),
}

/// A name where it stands in an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub group: Group,
    /// What stands after the dot; nothing of a whole group.
    pub key: Arc<str>,
    /// What `env(NAME, TEXT)` yields where the variable is not set; none of a plain name.
    pub default: Option<Arc<str>>,
    pub target: Target,
    /// Bytes of the expression.
    pub range: Range<usize>,
}

impl Reference {
    /// The name as it may be written.
    pub fn written(&self) -> String {
        let group = self.group.word();
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if self.key.chars().all(is_word) {
            format!("{group}.{}", self.key)
        } else {
            format!("{group}[{:?}]", self.key)
        }
    }

    /// Whether it names a whole group.
    pub fn is_whole(&self) -> bool {
        matches!(self.target, Target::Whole(_)) || self.key.is_empty() && self.default.is_none()
    }
}

/// What is wrong with a name, and what to do about it.
pub(super) type Wrong = (String, Option<String>);

/// What a name stands for in this scope: `group.key`, or the group itself without a key.
pub(super) fn resolve(
    group: Group,
    key: Option<&str>,
    scope: Scope,
    known: &Known<'_>,
) -> Result<Target, Wrong> {
    let full = full_name(group, key);
    if !group.is_in(scope) {
        return Err((
            format!("`{full}` has no value here"),
            Some(format!("here you can use {}", names_in(scope, known))),
        ));
    }
    let is_missing = match group {
        Group::Capture => known.capture.is_none(),
        Group::Row => !known.row,
        Group::Sidecar => !known.sidecar,
        _ => false,
    };
    if let Some((rule_key, help)) = group.key().filter(|_| is_missing) {
        let help = match key {
            Some(key) => help.replace("NAME", &shown_bounded(key)),
            None => help.to_owned(),
        };
        let message = format!("`{full}` has no value: the rule has no `{rule_key}`");
        return Err((message, Some(help)));
    }
    let Some(key) = key else {
        return match group {
            Group::Vars | Group::Capture | Group::Row | Group::Sidecar => Ok(Target::Whole(group)),
            _ => Err((
                format!("`{full}` is no value by itself"),
                Some(format!("here you can use {}", names_in(scope, known))),
            )),
        };
    };
    match group {
        Group::Env => variable(key, None, known).map(Target::Given),
        Group::Vars => match known.vars.get(key) {
            Some(value) => Ok(Target::Given(value.as_str().into())),
            None => Err(not_known(
                &full,
                group,
                known.vars.keys().map(String::as_str),
            )),
        },
        Group::Capture => {
            let groups = known.capture.unwrap_or_default();
            if groups.iter().any(|name| name == key) {
                return Ok(Target::Field(group, key.into()));
            }
            Err(not_known(&full, group, groups.iter().map(String::as_str)))
        }
        Group::Row | Group::Sidecar => Ok(Target::Field(group, key.into())),
        Group::File | Group::Rule | Group::Run | Group::Manifest => match Name::of(&full) {
            Some(name) => Ok(Target::Name(name)),
            None => Err(unknown(&full, scope, known)),
        },
    }
}

/// A name that has no meaning in any scope.
pub(super) fn unknown(full: &str, scope: Scope, known: &Known<'_>) -> Wrong {
    let (root, rest) = full.split_at(full.find('.').unwrap_or(full.len()));
    let names = Name::ALL.iter().map(|(_, name, _)| *name);
    let near = closest(full, names).map(str::to_owned).or_else(|| {
        let group = closest(root, Group::ALL.iter().map(|group| group.word()))?;
        (group != root).then(|| format!("{group}{rest}"))
    });
    let help = match near {
        Some(near) => format!("did you mean `{}`?", shown_bounded(&near)),
        None => format!("here you can use {}", names_in(scope, known)),
    };
    (
        format!("`{}` is not known", shown_bounded(full)),
        Some(help),
    )
}

/// A name that its group does not have.
fn not_known<'a>(full: &str, group: Group, names: impl Iterator<Item = &'a str> + Clone) -> Wrong {
    let key = full.split_once('.').map_or(full, |(_, key)| key);
    let is_empty = names.clone().next().is_none();
    let help = match near(key, names.clone()) {
        Some(near) => format!("did you mean `{}.{}`?", group.word(), shown_bounded(near)),
        None if is_empty && group == Group::Vars => format!("add `{key}` to `vars:`"),
        None if is_empty => "the pattern has no named groups: `(?<NAME>…)`".to_owned(),
        None if group == Group::Vars => format!("the `vars` are {}", listed(names)),
        None => format!("the groups of `capture` are {}", listed(names)),
    };
    (format!("`{full}` is not known"), Some(help))
}

/// The nearest of the first names: a manifest may have as many as it likes, and as many mistakes.
pub(super) fn near<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    closest(word, names.take(COMPARED_MAX))
}

/// The value of an environment variable, or what to use where it is not set.
pub(super) fn variable(
    name: &str,
    default: Option<&str>,
    known: &Known<'_>,
) -> Result<Arc<str>, Wrong> {
    match (known.environment.get(name), default) {
        (Some(Variable::Open(value)), _) => Ok(value.as_str().into()),
        (Some(Variable::ApiKey), _) => Err((
            "the API key cannot be used in a manifest".to_owned(),
            Some("it is a secret, and rendered values are sent, planned and reported".to_owned()),
        )),
        (None, Some(default)) => Ok(default.into()),
        (None, None) => {
            let shown = shown_bounded(name);
            let help = match near(name, known.environment.names()) {
                Some(near) => format!("did you mean `env.{}`?", shown_bounded(near)),
                None => format!(
                    "set it before the run, as in `export {shown}=…`, or give a text for when it \
                     is not set: `env(\"{shown}\", \"…\")`"
                ),
            };
            let message = format!("the environment variable {shown} is not set");
            Err((message, Some(help)))
        }
    }
}

fn full_name(group: Group, key: Option<&str>) -> String {
    match key {
        Some(key) => format!("{}.{}", group.word(), shown_bounded(key)),
        None => group.word().to_owned(),
    }
}

/// The first of some names, for a help.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut names = names.into_iter();
    let first: Vec<String> = names.by_ref().take(LISTED_MAX).map(shown_bounded).collect();
    let more = if names.next().is_some() { ", …" } else { "" };
    format!("{}{more}", first.join(", "))
}

fn names_in(scope: Scope, known: &Known<'_>) -> String {
    let always = Name::ALL
        .iter()
        .filter(|(name, _, _)| name.group().is_in(scope))
        .map(|(_, text, _)| *text);
    let is_file = scope == Scope::File;
    let sometimes = [
        ("capture.NAME", is_file && known.capture.is_some()),
        ("row.NAME", is_file && known.row),
        ("sidecar.NAME", is_file && known.sidecar),
        ("vars.NAME", scope != Scope::Vars && !known.vars.is_empty()),
        ("env.NAME", true),
    ];
    let sometimes = sometimes
        .iter()
        .filter(|(_, has)| *has)
        .map(|(name, _)| *name);
    let names: Vec<&str> = always.chain(sometimes).collect();
    names.join(", ")
}
