//! Rows of a CSV, TSV or JSON Lines table, joined to files by a key column.
//!
//! A table is read once, as a stream. What is kept of it are the rows that a file asks for, and
//! a digest of every key, to find those that are there twice.

mod cells;
mod join;
mod json;
mod lines;
mod nearest;
mod separated;
#[cfg(test)]
mod tests;

use std::io::{Read, Seek};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Excerpt};
use crate::model::Fields;

pub use self::nearest::nearest;

/// Largest row, in bytes. A quote that is never closed would make one of the whole table.
pub const ROW_BYTES_MAX: u64 = 1024 * 1024;

/// Most columns.
pub const COLUMNS_MAX: usize = 1_000;

/// Most rows.
pub const ROWS_MAX: u64 = 20_000_000;

/// Largest table, in bytes.
pub const BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Most errors of one table that are told in full; the rest are counted.
pub const ERRORS_MAX: usize = 20;

/// Most rows without a key, and most unused ones, that are told in full.
pub const FIRST_MAX: usize = 5;

/// Most keys of unused rows that are kept, for [`nearest`], and the longest of them, in bytes.
pub const KEYS_MAX: usize = 1_000;
const KEY_BYTES_MAX: usize = 1024;

/// The formats a table can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values (RFC 4180), the first row naming the columns.
    Csv,
    /// The same, separated by tabs.
    Tsv,
    /// A JSON object on each line.
    JsonLines,
}

impl Format {
    /// The format that a path's extension chooses, whatever its case.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        let (_, extension) = path.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Some(Self::Csv),
            "tsv" | "tab" => Some(Self::Tsv),
            "jsonl" | "ndjson" => Some(Self::JsonLines),
            _ => None,
        }
    }
}

/// The delimiter that a text names: one ASCII character that can separate cells, or `\t`.
#[must_use]
pub fn delimiter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        b"\\t" | b"\t" => Some(b'\t'),
        [b'"' | b'\\'] => None,
        [byte] if byte.is_ascii_punctuation() || *byte == b' ' => Some(*byte),
        _ => None,
    }
}

/// Which table it is and how it is read.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'a> {
    /// The path as the user gave it. It is made safe where it is shown.
    pub file: &'a str,
    /// How it is written.
    pub format: Format,
    /// What separates cells, where it is not the format's own; see [`delimiter`]. JSON Lines have
    /// none.
    pub delimiter: Option<u8>,
    /// The column that is compared with the wanted keys.
    pub key: &'a str,
}

/// One row of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// All its cells, the key's too, exactly as written. In JSON Lines those that it has; `null`
    /// is no value.
    pub fields: Fields,
    /// The line it begins on, from one.
    pub line: u64,
}

/// The rows that were asked for, and what is wrong with the table.
#[derive(Debug, Clone, Default)]
pub struct Joined {
    /// The columns in order. Of JSON Lines the names on any line, as they appear.
    pub columns: Vec<Arc<str>>,
    /// For each wanted key, in their order, its row. An empty key has none.
    pub rows: Vec<Option<Arc<Row>>>,
    /// How many rows there are, the broken ones too. Less than all after an error that ends the
    /// reading.
    pub rows_read: u64,
    /// The rows that no wanted key asks for.
    pub unused: Unused,
    /// What is wrong. With an error among them a row may be missing only because it is broken.
    pub diagnostics: Vec<Diagnostic>,
}

/// Rows that no wanted key asks for. Those whose key is empty are warned of instead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unused {
    /// How many.
    pub rows: u64,
    /// The key's cell of the first few.
    pub first: Vec<Excerpt>,
    /// The keys of the first thousand, without very long ones.
    pub keys: Vec<Box<str>>,
}

/// Reads a table once, from its beginning, and keeps the rows that a key asks for. Several files
/// may have one key. Where a key is there twice, the reader goes back to show the first place.
#[must_use]
pub fn join<R: Read + Seek>(reader: R, spec: &Spec<'_>, wanted: &[&str]) -> Joined {
    join::join(reader, spec, wanted, &lines::Limits::default())
}
