//! A row's bytes to its cells (RFC 4180): quotes, delimiters and line ends.

use std::borrow::Cow;
use std::io::Read;
use std::ops::Range;

use super::lines::{End, Lines};

/// One cell of a row: its bytes, quotes included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub span: Range<usize>,
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
    /// What the cell says.
    pub fn value<'t>(&self, text: &'t str) -> Cow<'t, str> {
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

/// Why a row cannot be understood, by the bytes where it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The quote here is not closed when the table ends.
    Unclosed(usize),
    /// The quoted cell that begins here makes the row too large.
    TooLong(usize),
    /// The quotes of a cell begin here, and the cell goes on there, after they end.
    AfterQuotes(usize, usize),
    /// A carriage return without a line feed.
    CarriageReturn(usize),
    /// A zero byte.
    Zero(usize),
}

/// Where in a cell a byte is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At its first byte.
    Start,
    Plain,
    Quoted,
    /// After the quote that ends it, unless another one follows.
    Closed,
}

/// Splits rows into cells. What is wrong with a row is told by the first trouble it has.
pub(super) struct Lexer {
    pub delimiter: u8,
    pub cells: Vec<Cell>,
    pub trouble: Option<Trouble>,
}

impl Lexer {
    pub fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            cells: Vec::new(),
            trouble: None,
        }
    }

    /// Reads a row, passing over empty lines. False at the table's end.
    pub fn row<R: Read>(&mut self, lines: &mut Lines<'_, R>) -> Result<bool, End> {
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
        let mut cell = Cell {
            span: 0..0,
            form: Form::Plain,
        };
        let mut state = State::Start;
        loop {
            let end = self.line(&lines.text, &mut cell, &mut state);
            if state != State::Quoted {
                self.push(&mut cell, end);
                return Ok(true);
            }
            match lines.more() {
                Ok(true) => continue,
                Ok(false) => self.trouble = Some(Trouble::Unclosed(cell.span.start)),
                Err(End::RowTooLong) => self.trouble = Some(Trouble::TooLong(cell.span.start)),
                Err(end) => return Err(end),
            }
            self.push(&mut cell, lines.text.len());
            return Ok(true);
        }
    }

    /// Splits the row's last line, from where the cell that it goes on with ends as yet. Gives the
    /// line's end.
    fn line(&mut self, text: &[u8], cell: &mut Cell, state: &mut State) -> usize {
        let content = text.strip_suffix(b"\n").unwrap_or(text);
        let content = content.strip_suffix(b"\r").unwrap_or(content);
        for (at, byte) in content.iter().enumerate().skip(cell.span.end) {
            *state = match (*state, *byte) {
                (State::Quoted, b'"') => State::Closed,
                (State::Quoted, 0) => {
                    self.trouble.get_or_insert(Trouble::Zero(at));
                    State::Quoted
                }
                (State::Quoted, _) => State::Quoted,
                (State::Closed, b'"') => {
                    cell.form = Form::Doubled;
                    State::Quoted
                }
                (State::Start, b'"') => {
                    cell.form = Form::Quoted;
                    State::Quoted
                }
                (_, byte) if byte == self.delimiter => {
                    self.push(cell, at);
                    State::Start
                }
                (before, byte) => {
                    let trouble = match byte {
                        0 => Some(Trouble::Zero(at)),
                        b'\r' => Some(Trouble::CarriageReturn(at)),
                        _ if before == State::Closed => {
                            Some(Trouble::AfterQuotes(cell.span.start, at))
                        }
                        _ => None,
                    };
                    self.trouble = self.trouble.or(trouble);
                    State::Plain
                }
            };
        }
        cell.span.end = text.len();
        content.len()
    }

    /// Ends a cell; the next one begins after the delimiter.
    fn push(&mut self, cell: &mut Cell, end: usize) {
        cell.span.end = end;
        self.cells.push(cell.clone());
        cell.span = end + 1..end + 1;
        cell.form = Form::Plain;
    }
}
