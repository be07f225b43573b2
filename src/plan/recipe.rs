//! What is sent with the files of one rule: what no file changes is made once.

use std::borrow::Cow;
use std::cell::RefCell;

use super::select::{Extra, Problem, captured, values};
use super::{Basis, Rendered, Sending, file_name, layers};
use crate::manifest::{CaptureMetadata, Rule};
use crate::model::{ContentType, Fields, Metadata, RemoteName, Stat, count, shown_bounded};
use crate::template::Values;

/// Largest `metadata` part in bytes. Django refuses form text over 2.5 MiB
/// (`DATA_UPLOAD_MAX_MEMORY_SIZE`); the other parts need some of it.
const METADATA_MAX: usize = 2_500_000;

/// How the files of one rule are rendered.
#[derive(Debug, Clone)]
pub(super) struct Recipe<'a> {
    pub rule: &'a Rule,
    /// The metadata that all its files have, where no file changes it.
    metadata: Option<Metadata>,
    types: RefCell<Types>,
}

/// Content types that were looked up, by the extension that they stand for: a tree has few, and to
/// look one up again costs more than the rest of a row.
#[derive(Debug, Clone, Default)]
struct Types(Vec<(Box<str>, ContentType)>);

/// Most that are kept.
const TYPES_MAX: usize = 16;

impl Types {
    fn of_name(&mut self, name: &str) -> ContentType {
        let Some((_, extension)) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty())
        else {
            return ContentType::of_name(name);
        };
        if let Some((_, known)) = self.0.iter().find(|(of, _)| **of == *extension) {
            return known.clone();
        }
        let found = ContentType::of_name(name);
        if self.0.len() < TYPES_MAX {
            self.0.push((extension.into(), found.clone()));
        }
        found
    }
}

/// What is made of a file, as far as that can fail.
#[derive(Debug)]
pub(super) struct Made<'p> {
    /// The name as the manifest wants it.
    pub wanted: Cow<'p, str>,
    pub metadata: Metadata,
}

impl<'a> Recipe<'a> {
    pub fn of(basis: &Basis<'a>, rule: &'a Rule) -> Self {
        let takes_all = |capture| capture == CaptureMetadata::All;
        let is_shared = rule.table.is_none()
            && rule.sidecar.is_none()
            && !rule
                .capture
                .as_ref()
                .is_some_and(|of| takes_all(of.metadata))
            && !rule.metadata.iter().any(|one| one.template.value.varies());
        let values = Values {
            manifest: &basis.manifest.name,
            run: Some(basis.run),
            rule: Some(&rule.name),
            ..Values::default()
        };
        // Where it cannot be made, each file says so.
        let made = || layered(rule, &Extra::default(), &values, None).ok();
        Self {
            rule,
            metadata: is_shared.then(made).flatten().map(layers::metadata),
            types: RefCell::default(),
        }
    }

    /// Makes what can fail of what is sent with a file.
    pub fn make<'p>(
        &self,
        basis: &Basis<'_>,
        extra: &Extra,
        (path, stat): (&'p str, Stat),
    ) -> Result<Made<'p>, Problem> {
        if let (None, Some(metadata)) = (&self.rule.file_name, &self.metadata) {
            let wanted = file_name(path);
            check_name(self.rule, wanted)?;
            return Ok(Made {
                wanted: wanted.into(),
                metadata: metadata.clone(),
            });
        }
        let capture = captured(self.rule, path);
        let values = values(basis, self.rule, extra, (path, stat), capture.as_ref());
        let wanted = wanted_name(self.rule, path, &values)?;
        check_name(self.rule, &wanted)?;
        let metadata = match &self.metadata {
            Some(metadata) => metadata.clone(),
            None => layers::metadata(layered(self.rule, extra, &values, capture.as_ref())?),
        };
        Ok(Made { wanted, metadata })
    }

    /// The name of a file as the manifest wants it, where it can be made.
    pub fn wanted<'p>(
        &self,
        basis: &Basis<'_>,
        extra: &Extra,
        (path, stat): (&'p str, Stat),
    ) -> Option<Cow<'p, str>> {
        if self.rule.file_name.is_none() {
            return Some(file_name(path).into());
        }
        let capture = captured(self.rule, path);
        let values = values(basis, self.rule, extra, (path, stat), capture.as_ref());
        wanted_name(self.rule, path, &values).ok()
    }

    /// What is sent with a file of which all this was made.
    pub fn sending(&self, path: &str, made: Made<'_>) -> Option<Sending> {
        Some(Sending {
            remote_name: RemoteName::new(&made.wanted).ok()?,
            content_type: match &self.rule.content_type {
                Some(content_type) => content_type.value.clone(),
                None => self.types.borrow_mut().of_name(file_name(path)),
            },
            metadata: made.metadata,
        })
    }
}

/// Renders what would be sent with a file, with who said so.
pub(super) fn rendered(
    basis: &Basis<'_>,
    rule: &Rule,
    extra: &Extra,
    (path, stat): (&str, Stat),
) -> Result<Rendered, Problem> {
    let capture = captured(rule, path);
    let values = values(basis, rule, extra, (path, stat), capture.as_ref());
    let wanted = wanted_name(rule, path, &values)?.into_owned();
    let remote_name = RemoteName::new(&wanted).map_err(|why| unfit(rule, why))?;
    Ok(Rendered {
        wanted,
        remote_name,
        content_type: content_type(rule, path),
        metadata: layered(rule, extra, &values, capture.as_ref())?,
    })
}

fn wanted_name<'p>(
    rule: &Rule,
    path: &'p str,
    values: &Values<'_>,
) -> Result<Cow<'p, str>, Problem> {
    match &rule.file_name {
        Some(template) => match template.value.render(values) {
            Ok(wanted) => Ok(wanted.into()),
            Err(error) => Err(Problem::rendering("`file_name`", template, error)),
        },
        None => Ok(file_name(path).into()),
    }
}

fn check_name(rule: &Rule, wanted: &str) -> Result<(), Problem> {
    RemoteName::check(wanted).map_err(|why| unfit(rule, why))
}

fn unfit(rule: &Rule, why: String) -> Problem {
    Problem {
        span: rule.file_name.as_ref().map(|name| name.span.clone()),
        ..Problem::new(why)
    }
}

fn content_type(rule: &Rule, path: &str) -> ContentType {
    match &rule.content_type {
        Some(content_type) => content_type.value.clone(),
        None => ContentType::of_name(file_name(path)),
    }
}

fn layered(
    rule: &Rule,
    extra: &Extra,
    values: &Values<'_>,
    capture: Option<&Fields>,
) -> Result<Vec<layers::Layered>, Problem> {
    let metadata = layers::layered(rule, extra, values, capture)?;
    if !layers::may_exceed(&metadata, METADATA_MAX) {
        return Ok(metadata);
    }
    let length = layers::length(&metadata);
    if length <= METADATA_MAX {
        return Ok(metadata);
    }
    let largest = metadata.iter().max_by_key(|layered| layered.value.len());
    Err(Problem {
        help: largest.map(|layered| {
            format!(
                "`{}`, from {}, alone has {}",
                shown_bounded(&layered.key),
                layered.origin.word(),
                count(layered.value.len(), "byte")
            )
        }),
        ..Problem::new(format!(
            "its metadata is {length} bytes long; the service takes {METADATA_MAX} at the most"
        ))
    })
}
