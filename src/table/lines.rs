//! Lines of a table as they are on the disk, bounded, with their place.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;

use crate::diagnostic::{Excerpt, excerpt_of};

use super::{BYTES_MAX, ROW_BYTES_MAX, ROWS_MAX};

/// What a table may have. Tests choose less.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub row_bytes: u64,
    pub rows: u64,
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            row_bytes: ROW_BYTES_MAX,
            rows: ROWS_MAX,
            bytes: BYTES_MAX,
        }
    }
}

/// Why the reading ends before the table does.
#[derive(Debug)]
pub(super) enum End {
    Io(io::Error),
    /// UTF-16, by its byte order mark or its zero bytes.
    Utf16,
    RowTooLong,
    TableTooLarge,
    TooManyRows,
    TooManyNames,
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The row that is being read: its bytes, and where it begins.
#[derive(Clone, Copy)]
pub(super) struct Raw<'r> {
    pub file: &'r str,
    pub text: &'r [u8],
    pub line: u64,
    pub offset: u64,
}

impl Raw<'_> {
    /// A part of it.
    pub fn place(&self, span: Range<usize>) -> Excerpt {
        excerpt_of(self.file, self.line, self.text, span)
    }
}

/// A reader of rows: of one line, or of several where a quoted cell has line ends.
pub(super) struct Lines<'f, R> {
    reader: BufReader<R>,
    file: &'f str,
    limits: Limits,
    /// The row, with its line ends.
    pub text: Vec<u8>,
    /// The row's first line, from one.
    pub line: u64,
    /// The row's first byte.
    pub offset: u64,
    number: u64,
    position: u64,
}

impl<'f, R: Read> Lines<'f, R> {
    pub fn new(reader: R, file: &'f str, limits: Limits) -> Self {
        Self {
            file,
            reader: BufReader::with_capacity(64 * 1024, reader),
            limits,
            text: Vec::new(),
            line: 0,
            offset: 0,
            number: 0,
            position: 0,
        }
    }

    /// Begins a row with the next line. False at the table's end.
    pub fn begin(&mut self) -> Result<bool, End> {
        self.text.clear();
        self.line = self.number + 1;
        self.offset = self.position;
        if !self.more()? {
            return Ok(false);
        }
        if self.offset == 0 {
            match self.text.as_slice() {
                [0xEF, 0xBB, 0xBF, ..] => {
                    self.text.drain(..3);
                    self.offset = 3;
                }
                // With a byte order mark, or an ASCII letter first.
                [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => return Err(End::Utf16),
                [0, ascii, ..] | [ascii, 0, ..] if ascii.is_ascii_graphic() => {
                    return Err(End::Utf16);
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// The row as it is.
    pub fn raw(&self) -> Raw<'_> {
        Raw {
            file: self.file,
            text: &self.text,
            line: self.line,
            offset: self.offset,
        }
    }

    /// Adds the next line to the row. False at the table's end.
    pub fn more(&mut self) -> Result<bool, End> {
        let length = self.text.len() as u64;
        let room = (self.limits.row_bytes + 1).saturating_sub(length);
        let mut reader = Read::by_ref(&mut self.reader).take(room);
        let read = reader.read_until(b'\n', &mut self.text)? as u64;
        self.position += read;
        self.number += u64::from(read > 0);
        if length + read > self.limits.row_bytes {
            return Err(End::RowTooLong);
        }
        if self.position > self.limits.bytes {
            return Err(End::TableTooLarge);
        }
        Ok(read > 0)
    }
}

impl<R: Read + Seek> Lines<'_, R> {
    /// Goes back to where a row begins.
    pub fn go_to(&mut self, offset: u64, line: u64) -> Result<(), End> {
        self.reader.seek(SeekFrom::Start(offset))?;
        self.position = offset;
        self.number = line.saturating_sub(1);
        Ok(())
    }
}
