//! What a row means whatever its format: wanted, unused, repeated or without a key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{Read, Seek};
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Excerpt, Place, excerpt_of};
use crate::model::{Fields, HumanBytes, count, shown_bounded};

use super::lines::{End, Limits, Lines};
use super::{ERRORS_MAX, FIRST_MAX, Format, Joined, KEYS_MAX, Row, Spec, json, separated};

pub(super) fn join<R: Read + Seek>(
    reader: R,
    spec: &Spec<'_>,
    wanted: &[&str],
    limits: &Limits,
) -> Joined {
    let mut lines = Lines::new(reader, *limits);
    let mut joiner = Joiner::new(spec, wanted, limits);
    let read = match spec.format {
        Format::JsonLines => json::read(&mut lines, &mut joiner),
        Format::Csv | Format::Tsv => separated::read(&mut lines, &mut joiner),
    };
    if let Err(end) = read {
        let at = excerpt_of(spec.file, lines.line, &lines.text, 0..0);
        joiner.ended(&end, at);
    }
    joiner.finish()
}

/// The row that is being read: its bytes, and where it begins.
#[derive(Clone, Copy)]
pub(super) struct Raw<'r> {
    pub text: &'r [u8],
    pub line: u64,
    pub offset: u64,
}

/// Where a key was first seen. A table has at most 4 GiB, so that four bytes are enough.
#[derive(Clone, Copy)]
struct Seen {
    line: u32,
    offset: u32,
}

/// A repeated key, by its diagnostic, and its first row.
struct Repeat {
    diagnostic: usize,
    key: String,
    first: Seen,
}

/// Takes the rows one by one.
pub(super) struct Joiner<'a> {
    pub spec: &'a Spec<'a>,
    limits: &'a Limits,
    /// For each wanted key, in their order, its place in `rows`.
    order: Vec<Option<usize>>,
    slots: HashMap<&'a str, usize>,
    rows: Vec<Option<Arc<Row>>>,
    /// The keys so far, by the first half of their digest: a million of them are 24 MB.
    seen: HashMap<[u8; 16], Seen>,
    repeats: Vec<Repeat>,
    errors: usize,
    /// The first error that is only counted.
    rest: Option<Place>,
    keyless: usize,
    /// The diagnostic of the first row that is no UTF-8, and how many there are.
    unreadable: Option<(usize, usize)>,
    pub joined: Joined,
}

impl<'a> Joiner<'a> {
    fn new(spec: &'a Spec<'a>, wanted: &[&'a str], limits: &'a Limits) -> Self {
        let mut slots = HashMap::new();
        let order = wanted.iter().map(|key| {
            let next = slots.len();
            (!key.is_empty()).then(|| *slots.entry(*key).or_insert(next))
        });
        let order = order.collect();
        Self {
            spec,
            limits,
            order,
            rows: vec![None; slots.len()],
            slots,
            seen: HashMap::new(),
            repeats: Vec::new(),
            errors: 0,
            rest: None,
            keyless: 0,
            unreadable: None,
            joined: Joined::default(),
        }
    }

    /// A part of a row.
    pub fn place(&self, raw: Raw<'_>, span: Range<usize>) -> Excerpt {
        excerpt_of(self.spec.file, raw.line, raw.text, span)
    }

    /// Counts one more row.
    pub fn count(&mut self) -> Result<(), End> {
        if self.joined.rows_read == self.limits.rows {
            return Err(End::TooManyRows);
        }
        self.joined.rows_read += 1;
        Ok(())
    }

    /// Reports an error, unless there are many.
    pub fn error(&mut self, diagnostic: impl FnOnce() -> Diagnostic) {
        self.errors += 1;
        if self.errors <= ERRORS_MAX {
            self.joined.diagnostics.push(diagnostic());
        } else if self.rest.is_none() {
            self.rest = diagnostic().place;
        }
    }

    /// The text of a row; otherwise it is reported.
    pub fn readable<'r>(&mut self, raw: Raw<'r>) -> Option<&'r str> {
        match std::str::from_utf8(raw.text) {
            Ok(text) => Some(text),
            Err(error) => {
                if let Some((_, number)) = &mut self.unreadable {
                    *number += 1;
                    return None;
                }
                let at = error.valid_up_to();
                let place = self.place(raw, at..at + error.error_len().unwrap_or(1));
                self.unreadable = Some((self.joined.diagnostics.len(), 1));
                self.joined.diagnostics.push(
                    Diagnostic::error("", place)
                        .label("not UTF-8")
                        .help("save the table as UTF-8; Excel calls that `CSV UTF-8`"),
                );
                None
            }
        }
    }

    /// Takes a row by its key, which stands at a part of it.
    pub fn take(
        &mut self,
        raw: Raw<'_>,
        key: &str,
        span: Range<usize>,
        fields: impl FnOnce() -> Fields,
    ) {
        if key.is_empty() {
            self.keyless(raw, span, "no key here");
            return;
        }
        let digest = blake3::hash(key.as_bytes());
        let digest = digest.as_bytes().first_chunk().copied().unwrap_or_default();
        let this = Seen {
            line: u32::try_from(raw.line).unwrap_or(u32::MAX),
            offset: u32::try_from(raw.offset).unwrap_or(u32::MAX),
        };
        match self.seen.entry(digest) {
            Entry::Occupied(first) => {
                let first = *first.get();
                self.repeated(raw, key, span, first);
                return;
            }
            Entry::Vacant(new) => {
                new.insert(this);
            }
        }
        if let Some(slot) = self.slots.get(key) {
            self.rows[*slot] = Some(Arc::new(Row {
                fields: fields(),
                line: raw.line,
            }));
            return;
        }
        let first = (self.joined.unused.first.len() < FIRST_MAX).then(|| self.place(raw, span));
        let unused = &mut self.joined.unused;
        unused.rows += 1;
        unused.first.extend(first);
        if unused.keys.len() < KEYS_MAX {
            unused.keys.push(key.into());
        }
    }

    /// Warns of a row that can belong to no file.
    pub fn keyless(&mut self, raw: Raw<'_>, span: Range<usize>, label: &str) {
        self.keyless += 1;
        if self.keyless <= FIRST_MAX {
            let key = shown_bounded(self.spec.key);
            let warning = Diagnostic::warning("this row has no key", self.place(raw, span))
                .label(label)
                .help(format!("no file gets it: its `{key}` is empty"));
            self.joined.diagnostics.push(warning);
        }
    }

    fn repeated(&mut self, raw: Raw<'_>, key: &str, span: Range<usize>, first: Seen) {
        let place = self.place(raw, span);
        let before = self.joined.diagnostics.len();
        self.error(|| {
            let shown = shown_bounded(key);
            let line = first.line;
            Diagnostic::error(
                format!("two rows have the key `{shown}`, the first on line {line}"),
                place,
            )
            .label("here again")
            .help("keep one of them: a file gets one row")
        });
        if self.joined.diagnostics.len() > before {
            self.repeats.push(Repeat {
                diagnostic: before,
                key: key.to_owned(),
                first,
            });
        }
    }

    /// Goes back to the first rows of repeated keys. `key` reads the row that the lines are at:
    /// its key, and where that stands.
    pub fn show_firsts<R: Read + Seek>(
        &mut self,
        lines: &mut Lines<R>,
        mut key: impl FnMut(&mut Lines<R>) -> Option<(String, Range<usize>)>,
    ) {
        for repeat in mem::take(&mut self.repeats) {
            let first = repeat.first;
            if lines.go_to(first.offset.into(), first.line.into()).is_err() {
                return;
            }
            // A table that changed in the meantime has something else there.
            if let Some((found, span)) = key(lines)
                && found == repeat.key
            {
                let place = self.place(lines.raw(), span);
                let other = &mut self.joined.diagnostics[repeat.diagnostic].other;
                *other = Some((place.into(), "first here".to_owned()));
            }
        }
    }

    fn ended(&mut self, end: &End, at: Excerpt) {
        let limits = self.limits;
        let (message, help) = match end {
            End::Io(error) => (format!("the table cannot be read: {error}"), None),
            End::Utf16 => (
                "the table is UTF-16".to_owned(),
                Some("save it as UTF-8; Excel calls that `CSV UTF-8`"),
            ),
            End::RowTooLong => (
                format!("a row is larger than {}", HumanBytes(limits.row_bytes)),
                Some("is it a table? Each row ends with a line feed"),
            ),
            End::TableTooLarge => (
                format!("the table is larger than {}", HumanBytes(limits.bytes)),
                Some("split it, and the rule with it"),
            ),
            End::TooManyRows => {
                let most = count(usize::try_from(limits.rows).unwrap_or(usize::MAX), "row");
                (
                    format!("the table has more than {most}"),
                    Some("split it, and the rule with it"),
                )
            }
        };
        let mut diagnostic = Diagnostic::error(message, at);
        diagnostic.help = help.map(ToOwned::to_owned);
        self.joined.diagnostics.push(diagnostic);
    }

    fn finish(mut self) -> Joined {
        if let Some((index, number)) = self.unreadable {
            self.joined.diagnostics[index].message = match number {
                1 => "this row is not UTF-8 text".to_owned(),
                _ => format!(
                    "this row is not UTF-8 text, and {} are not",
                    count(number - 1, "more row")
                ),
            };
        }
        if self.errors > ERRORS_MAX {
            let more = count(self.errors - ERRORS_MAX, "more error");
            let mut diagnostic = Diagnostic::error(format!("… and {more}"), 0..0);
            diagnostic.place = self.rest;
            diagnostic.label = Some("the next one".to_owned());
            self.joined.diagnostics.push(diagnostic);
        }
        let rows = &self.rows;
        let of = |slot: &Option<usize>| slot.and_then(|slot| rows[slot].clone());
        self.joined.rows = self.order.iter().map(of).collect();
        self.joined
    }
}
