//! The forms of reports: rows to text.
//!
//! Written by hand where a row is concerned: a report has as many as there are files.

use std::borrow::Cow;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::html::{self, Chunks};
use super::{Header, Row};
use crate::model::{DatasetId, Hex, OrganizationId, ReportFormat, ShownMetadata, schema_of};

/// A run's report in JSON. In JSON Lines the first line is the definition `header`, every other
/// one a `row`. Later versions may have more fields: skip those you do not know.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "roe-batch report")]
struct Document<'a> {
    /// What is said of the run as a whole.
    header: &'a Header,
    /// One row for each planned file, in the plan's order.
    files: &'a [Row<'a>],
}

/// The JSON Schema (draft-07) of a report in JSON.
#[must_use]
pub fn schema() -> Value {
    schema_of::<Document<'_>>()
}

/// The columns of a CSV report.
pub(super) const COLUMNS: [&str; 19] = [
    "rule",
    "path",
    "dataset_id",
    "organization_id",
    "outcome",
    "file_id",
    "reason",
    "remote_name",
    "size",
    "content_type",
    "blake3",
    "metadata",
    "attempts",
    "http_status",
    "request_id",
    "started",
    "finished",
    "returned_name",
    "returned_dataset",
];

/// What a cell holds.
enum Cell<'a> {
    /// A text from outside. In a CSV one that a spreadsheet would run as a formula gets an
    /// apostrophe in front, as OWASP's "CSV injection" page advises; in JSON it is as it is.
    Text(Option<&'a str>),
    /// A text of our own making.
    Word(Option<&'a str>),
    /// A word, digits or a time, in which nothing needs quotes.
    Plain(Option<&'a [u8]>),
    Number(Option<u64>),
    Metadata(Option<ShownMetadata<'a>>),
}

/// The cells of a row, in the order of [`COLUMNS`].
pub(super) struct Cells<'a>([Cell<'a>; COLUMNS.len()]);

/// Makes cells of rows, the same for every form.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    started: Clock,
    finished: Clock,
    digest: Option<Hex>,
}

impl Cutter {
    pub(super) fn cells<'a>(&'a mut self, row: &'a Row<'_>) -> Cells<'a> {
        let started = row.started.map(|time| self.started.text(time));
        let finished = row.finished.map(|time| self.finished.text(time));
        self.digest = row.blake3.as_ref().map(Hex::of);
        Cells([
            Cell::Text(Some(row.rule)),
            Cell::Text(Some(row.path)),
            Cell::Text(row.dataset_id.map(DatasetId::as_str)),
            Cell::Text(row.organization_id.map(OrganizationId::as_str)),
            Cell::Plain(Some(row.outcome.word().as_bytes())),
            Cell::Text(row.file_id),
            Cell::Text(row.reason),
            Cell::Text(row.remote_name),
            Cell::Number(row.size),
            Cell::Text(row.content_type),
            Cell::Plain(self.digest.as_ref().map(Hex::as_bytes)),
            Cell::Metadata(row.metadata),
            Cell::Number(row.attempts.map(u64::from)),
            Cell::Number(row.http_status.map(u64::from)),
            Cell::Word(row.request_id),
            Cell::Plain(started.map(str::as_bytes)),
            Cell::Plain(finished.map(str::as_bytes)),
            Cell::Text(row.returned_name),
            Cell::Text(row.returned_dataset),
        ])
    }
}

/// Writes times to the millisecond. Those of a run lie in few seconds: the last one's text is kept.
#[derive(Debug, Default)]
struct Clock {
    second: i64,
    text: String,
}

impl Clock {
    /// Digits of the fraction, and `Z`.
    const TAIL: usize = "000Z".len();

    fn text(&mut self, time: Timestamp) -> &str {
        let second = time.as_second();
        if time < Timestamp::UNIX_EPOCH || self.text.is_empty() || self.second != second {
            self.text = format!("{time:.3}");
            self.second = second;
            return &self.text;
        }
        let milliseconds = time.subsec_nanosecond().unsigned_abs() / 1_000_000;
        self.text.truncate(self.text.len() - Self::TAIL);
        for unit in [100, 10, 1] {
            let digit = char::from_digit(milliseconds / unit % 10, 10);
            self.text.push(digit.unwrap_or('0'));
        }
        self.text.push('Z');
        &self.text
    }
}

/// One report's form, and how far it has come.
#[derive(Debug)]
pub(super) struct Form {
    format: ReportFormat,
    /// What stands before each of a row's values.
    keys: Vec<String>,
    /// Before a row that is not the first, and behind each.
    between: &'static str,
    behind: &'static str,
    is_empty: bool,
    chunks: Chunks,
}

impl Form {
    pub(super) fn new(format: ReportFormat) -> Self {
        let key = |(place, column): (usize, &&str)| match (format, place) {
            (ReportFormat::Csv, 0) | (ReportFormat::Html, _) => String::new(),
            (ReportFormat::Csv, _) => ",".to_owned(),
            (ReportFormat::Json, 0) => format!("\n    {{\n      \"{column}\": "),
            (ReportFormat::Json, _) => format!(",\n      \"{column}\": "),
            (ReportFormat::JsonLines, 0) => format!("{{\"{column}\":"),
            (ReportFormat::JsonLines, _) => format!(",\"{column}\":"),
        };
        let (between, behind) = match format {
            ReportFormat::Csv => ("", "\n"),
            ReportFormat::Json => (",", "\n    }"),
            ReportFormat::JsonLines => ("", "}\n"),
            ReportFormat::Html => ("", ""),
        };
        Self {
            format,
            keys: COLUMNS.iter().enumerate().map(key).collect(),
            between,
            behind,
            is_empty: true,
            chunks: Chunks::default(),
        }
    }

    /// What stands before the rows, if that says nothing of them.
    pub(super) fn columns(&self) -> Option<String> {
        (self.format == ReportFormat::Csv).then(|| COLUMNS.join(",") + "\n")
    }

    /// What stands before the rows and is known when they all are.
    pub(super) fn header(&self, header: &Header) -> serde_json::Result<String> {
        match self.format {
            ReportFormat::Csv => Ok(String::new()),
            ReportFormat::Json => {
                let files = &[];
                let mut text = serde_json::to_string_pretty(&Document { header, files })?;
                text.truncate(text.len() - "]\n}".len());
                Ok(text)
            }
            ReportFormat::JsonLines => Ok(serde_json::to_string(header)? + "\n"),
            ReportFormat::Html => html::head(header),
        }
    }

    /// What stands behind the rows.
    pub(super) fn end(&self) -> Cow<'static, str> {
        match (self.format, self.is_empty) {
            (ReportFormat::Json, true) => "]\n}\n".into(),
            (ReportFormat::Json, false) => "\n  ]\n}\n".into(),
            (ReportFormat::Html, is_empty) => html::end(is_empty).into(),
            (ReportFormat::Csv | ReportFormat::JsonLines, _) => "".into(),
        }
    }

    pub(super) fn row(&mut self, to: &mut Vec<u8>, cells: &Cells<'_>) {
        if !std::mem::take(&mut self.is_empty) {
            to.extend_from_slice(self.between.as_bytes());
        }
        match self.format {
            ReportFormat::Csv => csv_row(to, cells),
            ReportFormat::Json => self.json_row(to, cells, Some(&OBJECT)),
            ReportFormat::JsonLines => self.json_row(to, cells, None),
            ReportFormat::Html => {
                let cells = cells.0.iter();
                self.chunks.row(
                    to,
                    cells.map(|cell| |to: &mut Vec<u8>| json_cell(to, cell, None)),
                );
            }
        }
        to.extend_from_slice(self.behind.as_bytes());
    }

    fn json_row(&self, to: &mut Vec<u8>, cells: &Cells<'_>, layout: Option<&ObjectLayout>) {
        for (key, cell) in self.keys.iter().zip(&cells.0) {
            to.extend_from_slice(key.as_bytes());
            json_cell(to, cell, layout);
        }
    }
}

fn csv_row(to: &mut Vec<u8>, cells: &Cells<'_>) {
    let mut is_first = true;
    for cell in &cells.0 {
        if !std::mem::take(&mut is_first) {
            to.push(b',');
        }
        csv_cell(to, cell);
    }
}

fn csv_cell(to: &mut Vec<u8>, cell: &Cell<'_>) {
    match cell {
        Cell::Text(Some(text)) => {
            let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
            csv_text(to, if runs { "'" } else { "" }, text.as_bytes());
        }
        Cell::Word(Some(word)) => csv_text(to, "", word.as_bytes()),
        Cell::Plain(Some(text)) => to.extend_from_slice(text),
        Cell::Number(Some(number)) => json_value(to, number),
        Cell::Metadata(Some(metadata)) => csv_text(to, "", metadata.as_json().as_bytes()),
        Cell::Text(None)
        | Cell::Word(None)
        | Cell::Plain(None)
        | Cell::Number(None)
        | Cell::Metadata(None) => {}
    }
}

fn csv_text(to: &mut Vec<u8>, before: &str, text: &[u8]) {
    let is_quoted = has(text, is_special_in_csv);
    if !is_quoted {
        to.extend_from_slice(before.as_bytes());
        to.extend_from_slice(text);
        return;
    }
    to.reserve(2 * text.len());
    to.push(b'"');
    to.extend_from_slice(before.as_bytes());
    for byte in text {
        if *byte == b'"' {
            to.push(b'"');
        }
        to.push(*byte);
    }
    to.push(b'"');
}

fn json_cell(to: &mut Vec<u8>, cell: &Cell<'_>, layout: Option<&ObjectLayout>) {
    match cell {
        Cell::Text(Some(text)) | Cell::Word(Some(text)) => json_text(to, text),
        Cell::Plain(Some(text)) => {
            to.push(b'"');
            to.extend_from_slice(text);
            to.push(b'"');
        }
        Cell::Number(Some(number)) => json_value(to, number),
        Cell::Metadata(Some(metadata)) => json_object(to, metadata.as_json(), layout),
        Cell::Text(None)
        | Cell::Word(None)
        | Cell::Plain(None)
        | Cell::Number(None)
        | Cell::Metadata(None) => to.extend_from_slice(b"null"),
    }
}

/// What stands in an object that is not all in one line: before its keys, between key and value, and
/// behind the last value.
struct ObjectLayout {
    before: &'static str,
    between: &'static str,
    behind: &'static str,
}

const OBJECT: ObjectLayout = ObjectLayout {
    before: "\n        ",
    between: ": ",
    behind: "\n      ",
};

/// Writes an object of texts that is all in one line, without white space between its parts.
fn json_object(to: &mut Vec<u8>, object: &str, layout: Option<&ObjectLayout>) {
    let Some(layout) = layout.filter(|_| object != "{}") else {
        to.extend_from_slice(object.as_bytes());
        return;
    };
    to.reserve(2 * object.len());
    let mut is_text = false;
    let mut bytes = object.bytes();
    while let Some(byte) = bytes.next() {
        match (byte, is_text) {
            (b'{' | b',', false) => {
                to.push(byte);
                to.extend_from_slice(layout.before.as_bytes());
            }
            (b':', false) => to.extend_from_slice(layout.between.as_bytes()),
            (b'}', false) => {
                to.extend_from_slice(layout.behind.as_bytes());
                to.push(byte);
            }
            (b'\\', true) => {
                to.push(byte);
                to.extend(bytes.next());
            }
            (byte, _) => {
                is_text ^= byte == b'"';
                to.push(byte);
            }
        }
    }
}

fn json_text(to: &mut Vec<u8>, text: &str) {
    if has(text.as_bytes(), is_special_in_json) {
        return json_value(to, &text);
    }
    to.push(b'"');
    to.extend_from_slice(text.as_bytes());
    to.push(b'"');
}

fn json_value(to: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(to, value).expect("texts and numbers into memory");
}

/// Whether a byte makes quotes necessary in a CSV.
fn is_special_in_csv(byte: u8) -> bool {
    matches!(byte, b',' | b'"' | b'\n' | b'\r')
}

/// Whether a text in JSON cannot have a byte as it is.
fn is_special_in_json(byte: u8) -> bool {
    matches!(byte, 0..=0x1f | b'"' | b'\\')
}

/// Whether there is such a byte. All are looked at, many in one step, which takes less time than to
/// stop.
fn has(text: &[u8], is_special: impl Fn(u8) -> bool) -> bool {
    let mut found = false;
    for byte in text {
        found |= is_special(*byte);
    }
    found
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ledger::RunRow;
    use crate::model::{AttemptId, Digest, End, FileId, JobEnd, Metadata, Origin, Outcome, Target};
    use crate::report::{About, Counts, Printout, row_of_ledger};

    fn text() -> impl Strategy<Value = String> {
        prop_oneof![
            "[=+@a-z,\"'\\\\\r\n\t -]{0,6}",
            any::<String>(),
            Just("plain name.txt".to_owned())
        ]
    }

    fn optional() -> impl Strategy<Value = Option<String>> {
        prop::option::of(text())
    }

    fn time() -> impl Strategy<Value = Option<Timestamp>> {
        let near = (0_i64..3, 0_i32..1_000_000_000);
        let far = (-100_000_000_000_i64..200_000_000_000, 0_i32..1_000_000_000);
        let time = |(second, fraction)| Timestamp::new(second, fraction).ok();
        prop_oneof![near.prop_map(time), far.prop_map(time), Just(None)]
    }

    prop_compose! {
        fn end()(
            outcome in prop::sample::select(Outcome::ALL.to_vec()),
            texts in prop::array::uniform5(optional()),
            digest in any::<Option<[u8; 32]>>(),
            numbers in (any::<u32>(), any::<Option<u16>>()),
            times in (time(), time()),
        ) -> JobEnd {
            let [reason, file_id, request_id, returned_name, returned_dataset] = texts;
            JobEnd {
                file_id: file_id.map(FileId::new),
                digest: digest.map(Digest),
                attempts: numbers.0,
                http_status: numbers.1,
                request_id: request_id.map(AttemptId::new),
                started: times.0,
                finished: times.1,
                returned_name,
                returned_dataset,
                ..JobEnd::without_attempt(outcome, reason)
            }
        }
    }

    prop_compose! {
        fn run_row()(
            end in end(),
            texts in prop::array::uniform5(optional()),
            path in text(),
            size in prop::option::of(0_u64..1 << 50),
            metadata in prop::option::of(prop::collection::btree_map(text(), text(), 0..3)),
        ) -> Kept {
            let [rule, dataset, organization, remote_name, content_type] = texts;
            Kept {
                rule: rule.unwrap_or_default(),
                target: Arc::new(Target {
                    origin: Origin::new("sandbox"),
                    organization_id: organization.map(OrganizationId::new),
                    dataset_id: dataset.map(DatasetId::new),
                }),
                path,
                remote_name,
                size,
                content_type,
                metadata: metadata.map(Metadata::open),
                end,
            }
        }
    }

    /// What a row of a ledger refers to.
    #[derive(Debug)]
    struct Kept {
        rule: String,
        target: Arc<Target>,
        path: String,
        remote_name: Option<String>,
        size: Option<u64>,
        content_type: Option<String>,
        metadata: Option<Metadata>,
        end: JobEnd,
    }

    impl Kept {
        fn row(&self) -> Row<'_> {
            row_of_ledger(&RunRow {
                rule: &self.rule,
                target: &self.target,
                path: &self.path,
                remote_name: self.remote_name.as_deref(),
                size: self.size,
                content_type: self.content_type.as_deref(),
                metadata: self.metadata.as_ref().map(Metadata::as_shown),
                end: End::from(&self.end),
            })
        }
    }

    /// As a program would write it that has all rows and time enough.
    fn naive(format: ReportFormat, header: &Header, rows: &[Row<'_>]) -> Vec<u8> {
        let mut to = Vec::new();
        match format {
            ReportFormat::Csv => {
                let mut writer = csv::Writer::from_writer(&mut to);
                writer.write_record(COLUMNS).expect("written");
                for row in rows {
                    let record = naive_record(row);
                    writer.write_record(record).expect("written");
                }
                writer.flush().expect("written");
                drop(writer);
            }
            ReportFormat::Json => {
                let document = Document {
                    header,
                    files: rows,
                };
                serde_json::to_writer_pretty(&mut to, &document).expect("written");
                to.push(b'\n');
            }
            ReportFormat::JsonLines => {
                serde_json::to_writer(&mut to, header).expect("written");
                to.push(b'\n');
                for row in rows {
                    serde_json::to_writer(&mut to, row).expect("written");
                    to.push(b'\n');
                }
            }
            ReportFormat::Html => unreachable!("a page is read back"),
        }
        to
    }

    fn naive_record(row: &Row<'_>) -> Vec<String> {
        let value = serde_json::to_value(row).expect("a row");
        let own = ["outcome", "blake3", "request_id", "started", "finished"];
        let cell = |column: &&str| match &value[*column] {
            Value::Null => String::new(),
            Value::String(text) if own.contains(column) => text.clone(),
            Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => {
                format!("'{text}")
            }
            Value::String(text) => text.clone(),
            Value::Object(object) => serde_json::to_string(object).expect("an object"),
            number => number.to_string(),
        };
        COLUMNS.iter().map(cell).collect()
    }

    proptest! {
        #[test]
        fn what_is_written_row_by_row_is_what_a_naive_program_writes(
            found in prop::collection::vec(run_row(), 0..5), manifest in text()
        ) {
            let rows: Vec<Row<'_>> = found.iter().map(Kept::row).collect();
            let mut counts = Counts::default();
            for row in &rows {
                counts.add(row);
            }
            let header = Header::new(About { manifest, ..About::default() }, &counts);
            for format in [ReportFormat::Csv, ReportFormat::Json, ReportFormat::JsonLines] {
                let mut printout = Printout::begin(Vec::new(), format);
                for row in &rows {
                    printout.row(row).expect("printed");
                }
                let printed = printout.finish(&header).expect("printed");
                let printed = String::from_utf8(printed).expect("UTF-8");
                let naive = String::from_utf8(naive(format, &header, &rows)).expect("UTF-8");
                prop_assert_eq!(printed, naive);
            }
        }

        #[test]
        fn the_rows_of_a_page_are_those_of_json(
            found in prop::collection::vec(run_row(), 0..5), manifest in text()
        ) {
            let rows: Vec<Row<'_>> = found.iter().map(Kept::row).collect();
            let header = Header::new(
                About { manifest, ..About::default() },
                &Counts::default(),
            );
            let mut printout = Printout::begin(Vec::new(), ReportFormat::Html);
            // A row that is the same as the one above is told in other words.
            for row in rows.iter().chain(&rows) {
                printout.row(row).expect("printed");
            }
            let page = printout.finish(&header).expect("printed");
            let (told, read) = html::read_back(&String::from_utf8(page).expect("UTF-8"));
            prop_assert_eq!(&told["header"], &serde_json::to_value(&header).expect("a header"));
            let rows = rows.iter().chain(&rows);
            let rows: Vec<Value> = rows.map(|row| serde_json::to_value(row).expect("a row")).collect();
            prop_assert_eq!(read, rows);
        }
    }
}
