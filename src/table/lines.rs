//! Lines of a table as they are on the disk, bounded, with their place.

use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};

use super::join::Raw;
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
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A reader of rows: of one line, or of several where a quoted cell has line ends.
pub(super) struct Lines<R> {
    reader: BufReader<R>,
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

impl<R: Read> Lines<R> {
    pub fn new(reader: R, limits: Limits) -> Self {
        Self {
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
                [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..] => {
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

impl<R: Read + Seek> Lines<R> {
    /// Goes back to where a row begins.
    pub fn go_to(&mut self, offset: u64, line: u64) -> Result<(), End> {
        self.reader.seek(SeekFrom::Start(offset))?;
        self.position = offset;
        self.number = line.saturating_sub(1);
        Ok(())
    }
}
