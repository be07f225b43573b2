//! Rows of JSON objects, one on each line.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io::{Read, Seek};
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Excerpt};
use crate::json::{self, Fault, Member, Value};
use crate::model::{Fields, shown_bounded};

use super::COLUMNS_MAX;
use super::join::Joiner;
use super::lines::{End, Lines, Raw};
use super::separated::column_help;

/// Reads every line.
pub(super) fn read<R: Read + Seek>(
    lines: &mut Lines<'_, R>,
    joiner: &mut Joiner<'_>,
) -> Result<(), End> {
    let mut names = Names::default();
    let mut first: Option<Excerpt> = None;
    let mut is_keyed = false;
    while lines.begin()? {
        if lines.text.trim_ascii().is_empty() {
            continue;
        }
        joiner.count()?;
        let raw = lines.raw();
        let Some(text) = joiner.readable(raw) else {
            continue;
        };
        let text = text.trim_end_matches(['\n', '\r']);
        let members = match json::object(text) {
            Ok(members) => members,
            Err(fault) => {
                let is_line = matches!(fault, Fault::Syntax(..));
                broken(joiner, raw, text, fault);
                // A list, or an object on several lines: no other line is a row either.
                if joiner.joined.rows_read == 1 && !is_line {
                    return Ok(());
                }
                continue;
            }
        };
        let row = names.of(&members, &mut joiner.joined.columns)?;
        if !is_flat(joiner, raw, &members) {
            continue;
        }
        let Some(key) = members.iter().find(|m| m.name == joiner.spec.key) else {
            let whole = text.len() - text.trim_ascii_start().len()..text.trim_ascii_end().len();
            first.get_or_insert_with(|| raw.place(whole.clone()));
            joiner.keyless(raw, whole, "is not here");
            continue;
        };
        is_keyed = true;
        joiner.take(
            raw,
            key.text().unwrap_or_default(),
            key.span.clone(),
            || Fields::new(names.shape(row), members.iter().map(Member::text)),
        );
    }
    if let Some(first) = first.filter(|_| !is_keyed) {
        joiner.forget_keyless();
        let key = joiner.spec.key;
        let columns = joiner.joined.columns.clone();
        joiner.error(|| {
            let (_, help) = column_help(key, &columns);
            let key = shown_bounded(key);
            Diagnostic::error(format!("no row of the table has `{key}`"), first).help(help)
        });
    }
    let key = joiner.spec.key;
    joiner.show_firsts(lines, |lines| first_key(lines, key));
    Ok(())
}

/// The key of the next line, and where it stands.
fn first_key<R: Read>(lines: &mut Lines<'_, R>, key: &str) -> Option<(String, Range<usize>)> {
    lines.begin().ok().filter(|more| *more)?;
    let text = std::str::from_utf8(&lines.text).ok()?;
    let members = json::object(text).ok()?;
    let member = members.into_iter().find(|member| member.name == key)?;
    Some((member.text()?.to_owned(), member.span))
}

/// Reports a line that is no object.
fn broken(joiner: &mut Joiner<'_>, raw: Raw<'_>, text: &str, fault: Fault) {
    let end = text.trim_ascii_end().len();
    let begin = text.len() - text.trim_ascii_start().len();
    let one = "write each row on one line, as in {\"file\": \"a.pdf\"}";
    joiner.error(|| match fault {
        Fault::NoObject(found) => {
            let message = format!("a row must be an object, found {found}");
            let help = match found {
                "a list" => format!("{one}, without a list around them"),
                _ => one.to_owned(),
            };
            Diagnostic::error(message, raw.place(begin..end)).help(help)
        }
        Fault::Unfinished => {
            let message = "the object is not finished when its line ends";
            Diagnostic::error(message, raw.place(end..end)).help(one)
        }
        Fault::Syntax(why, at) => {
            Diagnostic::error(format!("this row is not JSON: {why}"), raw.place(at..at))
        }
    });
}

/// Reports repeated names, lists and objects.
fn is_flat(joiner: &mut Joiner<'_>, raw: Raw<'_>, members: &[Member]) -> bool {
    let mut first: HashMap<&str, &Member> = HashMap::new();
    let mut is_flat = true;
    for member in members {
        let name = || shown_bounded(&member.name);
        if let Some(before) = first.insert(&member.name, member) {
            is_flat = false;
            joiner.error(|| {
                let message = format!("`{}` is twice in one row", name());
                Diagnostic::error(message, raw.place(member.name_span.clone()))
                    .label("again here")
                    .other(raw.place(before.name_span.clone()), "first here")
                    .help("keep one of them")
            });
        }
        let found = match member.value {
            Value::List => "a list",
            Value::Object => "an object",
            Value::Null | Value::Scalar(_) => continue,
        };
        is_flat = false;
        joiner.error(|| {
            let message = format!("`{}` must be a text, found {found}", name());
            Diagnostic::error(message, raw.place(member.span.clone()))
                .help("the API stores texts only; write a text, JSON in quotes if need be")
        });
    }
    is_flat
}

/// The names so far, each kept once.
#[derive(Default)]
struct Names {
    known: HashSet<Arc<str>>,
    shapes: HashSet<Arc<[Arc<str>]>>,
}

impl Names {
    /// The names of a row. New ones are columns.
    fn of(
        &mut self,
        members: &[Member],
        columns: &mut Vec<Arc<str>>,
    ) -> Result<Vec<Arc<str>>, End> {
        let one = |member: &Member| {
            if let Some(known) = self.known.get(member.name.as_str()) {
                return Ok(known.clone());
            }
            if columns.len() == COLUMNS_MAX {
                return Err(End::TooManyNames);
            }
            let name: Arc<str> = member.name.as_str().into();
            self.known.insert(name.clone());
            columns.push(name.clone());
            Ok(name)
        };
        members.iter().map(one).collect()
    }

    /// A row's names, shared by the rows that have the same ones.
    fn shape(&mut self, names: Vec<Arc<str>>) -> Arc<[Arc<str>]> {
        if let Some(known) = self.shapes.get(names.as_slice()) {
            return known.clone();
        }
        let shape: Arc<[Arc<str>]> = names.into();
        self.shapes.insert(shape.clone());
        shape
    }
}
