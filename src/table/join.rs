//! What a row means whatever its format: wanted, unused, repeated or without a key.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{Read, Seek};
use std::mem;
use std::ops::Range;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Excerpt, Place, Severity};
use crate::model::{Fields, HumanBytes, count, shown_bounded};

use super::lines::{End, Limits, Lines, Raw};
use super::{
    COLUMNS_MAX, ERRORS_MAX, FIRST_MAX, Format, Joined, KEY_BYTES_MAX, KEYS_MAX, Row, Spec, json,
    separated,
};

pub(super) fn join<R: Read + Seek>(
    reader: R,
    spec: &Spec<'_>,
    wanted: &[&str],
    limits: &Limits,
) -> Joined {
    let mut lines = Lines::new(reader, spec.file, *limits);
    let mut joiner = Joiner::new(spec, wanted, limits);
    let read = match spec.format {
        Format::JsonLines => json::read(&mut lines, &mut joiner),
        Format::Csv | Format::Tsv => separated::read(&mut lines, &mut joiner),
    };
    if let Err(end) = read {
        joiner.ended(&end, lines.raw().place(0..0));
    }
    joiner.finish()
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
    pub limits: &'a Limits,
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
    keyless_rest: Option<Place>,
    /// The first row that is no UTF-8, and how many there are.
    unreadable: Option<(Excerpt, usize)>,
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
            keyless_rest: None,
            unreadable: None,
            joined: Joined::default(),
        }
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
                let place = raw.place(at..at + error.error_len().unwrap_or(1));
                self.unreadable = Some((place, 1));
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
            self.keyless(raw, span, "is empty");
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
        let unused = &mut self.joined.unused;
        unused.rows += 1;
        if unused.first.len() < FIRST_MAX {
            unused.first.push(raw.place(span));
        }
        if unused.keys.len() < KEYS_MAX && key.len() <= KEY_BYTES_MAX {
            unused.keys.push(key.into());
        }
    }

    /// Warns of a row that can belong to no file. `why` says what its key is instead.
    pub fn keyless(&mut self, raw: Raw<'_>, span: Range<usize>, why: &str) {
        self.keyless += 1;
        if self.keyless <= FIRST_MAX {
            let key = shown_bounded(self.spec.key);
            let warning = Diagnostic::warning("this row has no key", raw.place(span))
                .label(format!("`{key}` {why}"))
                .help("no file can get it; fill in the key, or take the row out");
            self.joined.diagnostics.push(warning);
        } else if self.keyless_rest.is_none() {
            self.keyless_rest = Some(raw.place(span).into());
        }
    }

    /// Takes back the warnings of rows without a key, where an error says it for all of them.
    pub fn forget_keyless(&mut self) {
        self.keyless = 0;
        let diagnostics = &mut self.joined.diagnostics;
        diagnostics.retain(|diagnostic| diagnostic.severity != Severity::Warning);
    }

    fn repeated(&mut self, raw: Raw<'_>, key: &str, span: Range<usize>, first: Seen) {
        let before = self.joined.diagnostics.len();
        self.error(|| {
            let shown = shown_bounded(key);
            let line = first.line;
            Diagnostic::error(
                format!("two rows have the key `{shown}`, the first on line {line}"),
                raw.place(span),
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
        lines: &mut Lines<'_, R>,
        mut key: impl FnMut(&mut Lines<'_, R>) -> Option<(String, Range<usize>)>,
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
                let other = (lines.raw().place(span).into(), "first here".to_owned());
                self.joined.diagnostics[repeat.diagnostic].other = Some(other);
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
            End::TooManyNames => (
                format!("the table has more than {}", count(COLUMNS_MAX, "column")),
                Some("every name on any line is a column; are some of the names values?"),
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
        if let Some((first, number)) = self.unreadable {
            let others = match number {
                1 => String::new(),
                2 => ", nor is another one".to_owned(),
                _ => format!(", nor are {}", count(number - 1, "other row")),
            };
            let message = format!("this row is not UTF-8 text{others}");
            let error = Diagnostic::error(message, first)
                .label("not UTF-8")
                .help("save the table as UTF-8; Excel calls that `CSV UTF-8`");
            self.joined.diagnostics.push(error);
        }
        if self.errors > ERRORS_MAX {
            let more = count(self.errors - ERRORS_MAX, "more error");
            let rest = counted(Severity::Error, &more, self.rest.take());
            self.joined.diagnostics.push(rest);
        }
        if self.keyless > FIRST_MAX {
            let more = count(self.keyless - FIRST_MAX, "more row");
            let more = format!("{more} without a key");
            let rest = counted(Severity::Warning, &more, self.keyless_rest.take());
            self.joined.diagnostics.push(rest);
        }
        let rows = &self.rows;
        let of = |slot: &Option<usize>| slot.and_then(|slot| rows[slot].clone());
        self.joined.rows = self.order.iter().map(of).collect();
        self.joined
    }
}

/// Stands for what is not told in full.
fn counted(severity: Severity, more: &str, next: Option<Place>) -> Diagnostic {
    Diagnostic {
        severity,
        message: format!("… and {more}"),
        place: next,
        label: Some("the next one".to_owned()),
        other: None,
        help: None,
    }
}
