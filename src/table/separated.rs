//! Rows of cells with delimiters between them.

use std::borrow::Cow;
use std::io::{Read, Seek};
use std::ops::Range;
use std::sync::Arc;

use crate::model::Fields;

use super::Format;
use super::join::Joiner;
use super::lines::{End, Lines};

/// Reads the header and every row.
pub(super) fn read<R: Read + Seek>(
    lines: &mut Lines<R>,
    joiner: &mut Joiner<'_>,
) -> Result<(), End> {
    let mut lexer = Lexer::new(match joiner.spec {
        spec if spec.delimiter.is_some() => spec.delimiter.unwrap_or_default(),
        spec if spec.format == Format::Tsv => b'\t',
        _ => b',',
    });
    if !lexer.row(lines)? {
        return Ok(());
    }
    let Some(text) = joiner.readable(lines.raw()) else {
        return Ok(());
    };
    let names: Vec<Arc<str>> = lexer
        .cells
        .iter()
        .map(|cell| cell.value(text).into())
        .collect();
    joiner.joined.columns.clone_from(&names);
    let Some(key_at) = names.iter().position(|name| **name == *joiner.spec.key) else {
        return Ok(());
    };
    let names: Arc<[Arc<str>]> = names.into();
    while lexer.row(lines)? {
        joiner.count()?;
        let raw = lines.raw();
        let Some(text) = joiner.readable(raw) else {
            continue;
        };
        let cells = &lexer.cells;
        let Some(key) = cells.get(key_at) else {
            continue;
        };
        joiner.take(raw, &key.value(text), key.span.clone(), || {
            let values: Vec<Cow<'_, str>> = cells.iter().map(|cell| cell.value(text)).collect();
            Fields::new(names.clone(), values.iter().map(|value| Some(&**value)))
        });
    }
    joiner.show_firsts(lines, |lines| {
        lexer.row(lines).ok().filter(|more| *more)?;
        let text = std::str::from_utf8(&lines.text).ok()?;
        let cell = lexer.cells.get(key_at)?;
        Some((cell.value(text).into_owned(), cell.span.clone()))
    });
    Ok(())
}

/// One cell of a row: its bytes, quotes included.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cell {
    span: Range<usize>,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// The bytes are the value.
    Plain,
    /// The value is between quotes.
    Quoted,
    /// And some of its own quotes are doubled.
    Doubled,
}

impl Cell {
    fn value<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let written = text.get(self.span.clone()).unwrap_or_default();
        if self.form == Form::Plain {
            return Cow::Borrowed(written);
        }
        let inner = written.strip_prefix('"').unwrap_or(written);
        let inner = inner.strip_suffix('"').unwrap_or(inner);
        if self.form == Form::Quoted {
            return Cow::Borrowed(inner);
        }
        Cow::Owned(inner.replace("\"\"", "\""))
    }
}

/// What is wrong with a row's quotes or line ends, by the bytes where it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// The quote here is not closed.
    Unclosed(usize),
    /// The quotes of a cell begin and end here, and then the cell goes on.
    AfterQuotes(usize, usize),
    /// A carriage return without a line feed.
    CarriageReturn(usize),
}

/// Where in a cell a byte is.
enum State {
    /// At its first byte.
    Start,
    Plain,
    Quoted,
    /// After the quote that ends it, unless another one follows.
    Closed,
}

/// Splits rows into cells.
struct Lexer {
    delimiter: u8,
    cells: Vec<Cell>,
    trouble: Option<Trouble>,
}

impl Lexer {
    fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            cells: Vec::new(),
            trouble: None,
        }
    }

    /// Reads a row, passing over empty lines. False at the table's end.
    fn row<R: Read>(&mut self, lines: &mut Lines<R>) -> Result<bool, End> {
        loop {
            if !lines.begin()? {
                return Ok(false);
            }
            if !matches!(lines.text.as_slice(), b"" | b"\n" | b"\r\n" | b"\r") {
                break;
            }
        }
        self.cells.clear();
        self.trouble = None;
        let mut state = State::Start;
        let mut form = Form::Plain;
        let mut start = 0;
        let mut at = 0;
        loop {
            let text = lines.text.as_slice();
            let end = text.strip_suffix(b"\n").unwrap_or(text);
            let end = end.strip_suffix(b"\r").unwrap_or(end).len();
            while at < end {
                let byte = text[at];
                state = match (state, byte) {
                    (State::Quoted, b'"') => State::Closed,
                    (State::Quoted, _) => State::Quoted,
                    (State::Closed, b'"') => {
                        form = Form::Doubled;
                        State::Quoted
                    }
                    (State::Start, b'"') => {
                        form = Form::Quoted;
                        State::Quoted
                    }
                    (_, byte) if byte == self.delimiter => {
                        self.cells.push(Cell {
                            span: start..at,
                            form,
                        });
                        start = at + 1;
                        form = Form::Plain;
                        State::Start
                    }
                    (before, byte) => {
                        if matches!(before, State::Closed) {
                            self.trouble.get_or_insert(Trouble::AfterQuotes(start, at));
                        }
                        if byte == b'\r' {
                            self.trouble.get_or_insert(Trouble::CarriageReturn(at));
                        }
                        State::Plain
                    }
                };
                at += 1;
            }
            if !matches!(state, State::Quoted) {
                self.cells.push(Cell {
                    span: start..end,
                    form,
                });
                return Ok(true);
            }
            at = end;
            match lines.more() {
                Ok(true) => {}
                Ok(false) => {
                    self.trouble.get_or_insert(Trouble::Unclosed(start));
                    self.cells.push(Cell {
                        span: start..end,
                        form,
                    });
                    return Ok(true);
                }
                Err(end) => return Err(end),
            }
        }
    }
}
