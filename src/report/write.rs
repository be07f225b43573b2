//! Rows to files.

use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, SpooledTempFile, TempPath};

use super::form::{Cells, Cutter, Form};
use super::{Header, Row};
use crate::model::ReportFormat;

/// Bytes of a report that are written together.
const WRITTEN_TOGETHER: usize = 256 * 1024;

/// The reports of one run, written while its rows come in. What is said of the run as a whole stands
/// before the rows and is known behind them: until then the rows are put by in a file of their own.
#[derive(Debug, Default)]
pub struct Reports {
    cutter: Cutter,
    reports: Vec<(PathBuf, io::Result<Report>)>,
}

/// One of them.
#[derive(Debug)]
struct Report {
    sheet: Sheet<File>,
    temporary: TempPath,
}

impl Reports {
    /// Begins to write reports, each to a temporary file beside its destination. Missing folders
    /// are made.
    #[must_use]
    pub fn begin(places: &[(PathBuf, ReportFormat)]) -> Self {
        let reports = places
            .iter()
            .map(|(path, format)| (path.clone(), Report::begin(path, *format)));
        Self {
            cutter: Cutter::default(),
            reports: reports.collect(),
        }
    }

    /// Adds a row to each. One that cannot be written does not keep the others from it.
    pub fn row(&mut self, row: &Row<'_>) {
        let cells = self.cutter.cells(row);
        for (_, report) in &mut self.reports {
            if let Ok(begun) = report
                && let Err(error) = begun.sheet.row(&cells)
            {
                *report = Err(error);
            }
        }
    }

    /// Puts each in its place, in one step: synced, then renamed. Of one that failed the
    /// destination is as it was.
    #[must_use]
    pub fn finish(self, header: &Header) -> Vec<(PathBuf, io::Result<()>)> {
        let finish = |(path, report): (PathBuf, io::Result<Report>)| {
            let result = report.and_then(|report| report.finish(&path, header));
            (path, result)
        };
        self.reports.into_iter().map(finish).collect()
    }
}

impl Report {
    fn begin(path: &Path, format: ReportFormat) -> io::Result<Self> {
        let (file, temporary) = temporary(path)?.into_parts();
        let rows = tempfile::spooled_tempfile_in(WRITTEN_TOGETHER, folder_of(path));
        Ok(Self {
            sheet: Sheet::new(file, format, rows),
            temporary,
        })
    }

    fn finish(self, path: &Path, header: &Header) -> io::Result<()> {
        let file = self.sheet.finish(header)?;
        file.sync_all()?;
        self.temporary.persist(path).map_err(|error| error.error)?;
        // The new name is durable once its folder is.
        File::open(folder_of(path))?.sync_all()
    }
}

/// A report that is printed once its rows have all come in: while somebody who reads it takes their
/// time, the ledger that the rows come from would be kept from tidying up behind its writers.
pub struct Printout<W: Write> {
    cutter: Cutter,
    sheet: Sheet<W>,
}

impl<W: Write> fmt::Debug for Printout<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Printout")
    }
}

impl<W: Write> Printout<W> {
    /// Begins to print.
    #[must_use]
    pub fn begin(to: W, format: ReportFormat) -> Self {
        let rows = SpooledTempFile::new(WRITTEN_TOGETHER);
        Self {
            cutter: Cutter::default(),
            sheet: Sheet::apart(to, format, rows),
        }
    }

    /// Adds a row.
    ///
    /// # Errors
    ///
    /// What the operating system says of the file that rows are kept in.
    pub fn row(&mut self, row: &Row<'_>) -> io::Result<()> {
        self.sheet.row(&self.cutter.cells(row))
    }

    /// Prints it.
    ///
    /// # Errors
    ///
    /// What the writer says.
    pub fn finish(self, header: &Header) -> io::Result<W> {
        self.sheet.finish(header)
    }
}

/// A report's text on its way.
#[derive(Debug)]
struct Sheet<W> {
    to: W,
    form: Form,
    /// The rows, where they are to be written only once they are all there.
    rows: Option<SpooledTempFile>,
    buffer: Vec<u8>,
}

impl<W: Write> Sheet<W> {
    /// One that is written while its rows come in, unless something stands before them that is known
    /// behind them.
    fn new(to: W, format: ReportFormat, rows: SpooledTempFile) -> Self {
        let mut sheet = Self::apart(to, format, rows);
        if sheet.form.columns().is_some() {
            sheet.rows = None;
        }
        sheet
    }

    /// One that is written when its rows are all there.
    fn apart(to: W, format: ReportFormat, rows: SpooledTempFile) -> Self {
        let form = Form::new(format);
        Self {
            to,
            rows: Some(rows),
            buffer: form.columns().unwrap_or_default().into_bytes(),
            form,
        }
    }

    fn row(&mut self, cells: &Cells<'_>) -> io::Result<()> {
        self.form.row(&mut self.buffer, cells);
        if self.buffer.len() < WRITTEN_TOGETHER {
            return Ok(());
        }
        self.empty()
    }

    fn empty(&mut self) -> io::Result<()> {
        match &mut self.rows {
            Some(rows) => rows.write_all(&self.buffer)?,
            None => self.to.write_all(&self.buffer)?,
        }
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, header: &Header) -> io::Result<W> {
        if let Some(mut rows) = self.rows.take() {
            self.to.write_all(self.form.header(header)?.as_bytes())?;
            rows.rewind()?;
            io::copy(&mut rows, &mut self.to)?;
        }
        self.empty()?;
        self.to.write_all(self.form.end().as_bytes())?;
        self.to.flush()?;
        Ok(self.to)
    }
}

/// Finds out whether a report could be written here, before anything is sent.
///
/// # Errors
///
/// What [`Reports::finish`] would say.
pub fn probe(path: &Path) -> io::Result<()> {
    temporary(path).map(drop)
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    if path.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    fs::create_dir_all(folder_of(path))?;
    tempfile::Builder::new()
        .prefix(".roe-batch-report-")
        // As any program would make it: what the umask leaves.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder_of(path))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::model::{
        AttemptId, ContentType, Digest, FileId, InDoubt, JobEnd, Metadata, Origin, Outcome,
        RelativePath, RemoteName, RootId, RuleName, RunId, Secrecy, SourcePath, Stat, Target,
    };
    use crate::plan::{
        Decision, Held, OnChange, PlannedFile, PlannedRule, Sending, StoredBefore, UploadReason,
    };
    use crate::report::form::COLUMNS;
    use crate::report::{About, Counts, row_of_plan, unattempted};

    fn file(name: &str, decision: Decision) -> PlannedFile {
        PlannedFile {
            rule: 0,
            root: RootId(0),
            relative: RelativePath::new(name),
            path: SourcePath::new(name),
            stat: Some(Stat {
                size: 5,
                mtime_ns: 0,
                inode: 0,
            }),
            sending: RemoteName::new(name).ok().map(|remote_name| Sending {
                remote_name,
                content_type: ContentType::of_name(name),
                metadata: Metadata::open([("k".to_owned(), "1.10".to_owned())]),
            }),
            decision,
            notes: Vec::new(),
        }
    }

    fn rules() -> Vec<PlannedRule> {
        vec![PlannedRule {
            name: RuleName::new("r"),
            target: Arc::new(Target {
                origin: Origin::new("sandbox"),
                organization_id: None,
                dataset_id: None,
            }),
            on_change: OnChange::Upload,
        }]
    }

    fn files() -> Vec<PlannedFile> {
        let new = Decision::Upload(UploadReason::New);
        vec![
            file("=cmd|' /C calc'!A0,\"x\"\n.txt", new.clone()),
            file("b.txt", new),
            file(
                "c.txt",
                Decision::Hold(Held {
                    attempt: AttemptId::new("attempt"),
                    why: None,
                    policy: InDoubt::Hold,
                    stored: StoredBefore::No,
                }),
            ),
            file("d.txt", Decision::Conflict(RuleName::new("other"))),
        ]
    }

    /// How the first ended, and the others were to end.
    fn ends(files: &[PlannedFile]) -> Vec<JobEnd> {
        let stored = JobEnd {
            file_id: Some(FileId::new("@id")),
            digest: Some(Digest([1; 32])),
            attempts: 2,
            http_status: Some(200),
            finished: Some(Timestamp::UNIX_EPOCH),
            ..JobEnd::without_attempt(Outcome::Stored, None)
        };
        let others = files.iter().skip(1).map(unattempted);
        std::iter::once(stored).chain(others).collect()
    }

    fn rows<'a>(
        rules: &'a [PlannedRule],
        files: &'a [PlannedFile],
        ends: &'a [JobEnd],
    ) -> Vec<Row<'a>> {
        let pairs = files.iter().zip(ends);
        pairs
            .map(|(file, end)| row_of_plan(rules, file, end))
            .collect()
    }

    fn counts(rows: &[Row<'_>]) -> Counts {
        let mut counts = Counts::default();
        for row in rows {
            counts.add(row);
        }
        counts
    }

    fn written_at(path: &Path, format: ReportFormat, rows: &[Row<'_>]) -> io::Result<()> {
        let mut reports = Reports::begin(&[(path.to_owned(), format)]);
        for row in rows {
            reports.row(row);
        }
        let mut results = reports.finish(&header(&counts(rows)));
        let (place, result) = results.remove(0);
        assert_eq!(place, path);
        result
    }

    fn header(counts: &Counts) -> Header {
        let about = About {
            manifest: "m".to_owned(),
            run_id: Some(RunId::new("run-1")),
            started: Some(Timestamp::UNIX_EPOCH),
            finished: Some(Timestamp::UNIX_EPOCH),
            exit_code: Some(1),
            ..About::default()
        };
        Header::new(about, counts)
    }

    fn written(format: ReportFormat) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/er/report");
        let (rules, files) = (rules(), files());
        let ends = ends(&files);
        written_at(&path, format, &rows(&rules, &files, &ends)).expect("written");
        let left: Vec<_> = fs::read_dir(path.parent().expect("a parent"))
            .expect("listed")
            .collect();
        assert_eq!(left.len(), 1, "no temporary file is left");
        fs::read_to_string(path).expect("read")
    }

    #[test]
    fn every_planned_file_has_a_row_in_plan_order_and_the_counts_add_up() {
        let (rules, files) = (rules(), files());
        let ends = ends(&files);
        let rows = rows(&rules, &files, &ends);
        let found: Vec<Outcome> = rows.iter().map(|row| row.outcome).collect();
        assert_eq!(
            found,
            [
                Outcome::Stored,
                Outcome::NotAttempted,
                Outcome::InDoubt,
                Outcome::Failed
            ]
        );
        let header = header(&counts(&rows));
        assert_eq!(header.planned, 4);
        assert_eq!(header.outcomes["stored"], 1);
        assert_eq!(header.outcomes["rejected"], 0);
        assert_eq!(header.bytes_stored, 5);
    }

    #[test]
    fn a_csv_reads_back_and_runs_nothing_in_a_spreadsheet() {
        let text = written(ReportFormat::Csv);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        assert_eq!(reader.headers().expect("columns"), &COLUMNS[..]);
        let records: Vec<csv::StringRecord> = reader.records().map(|r| r.expect("a row")).collect();
        assert_eq!(records.len(), 4);
        assert_eq!(&records[0][1], "'=cmd|' /C calc'!A0,\"x\"\n.txt");
        assert_eq!(&records[0][5], "'@id");
        assert_eq!(&records[0][11], "{\"k\":\"1.10\"}");
        assert_eq!(&records[0][16], "1970-01-01T00:00:00.000Z");
        assert_eq!(&records[1][4], "not_attempted");
    }

    #[test]
    fn a_hidden_value_is_in_no_form_of_a_report() {
        let (rules, mut files) = (rules(), files());
        let sending = files[1].sending.as_mut().expect("sent");
        let (key, value) = ("token".to_owned(), "hunter2".to_owned());
        sending.metadata.push(key, value, Secrecy::Hidden);
        let ends = ends(&files);
        let rows = rows(&rules, &files, &ends);
        let header = header(&counts(&rows));
        for format in [
            ReportFormat::Csv,
            ReportFormat::Json,
            ReportFormat::JsonLines,
            ReportFormat::Html,
        ] {
            let mut printout = Printout::begin(Vec::new(), format);
            for row in &rows {
                printout.row(row).expect("printed");
            }
            let report = printout.finish(&header).expect("printed");
            let report = String::from_utf8(report).expect("UTF-8");
            assert!(
                !report.contains("hunter2") && report.contains("(hidden)"),
                "{report}"
            );
        }
    }

    #[test]
    fn json_has_the_header_and_exact_texts() {
        let value: serde_json::Value =
            serde_json::from_str(&written(ReportFormat::Json)).expect("JSON");
        assert_eq!(value["header"]["planned"], 4);
        assert_eq!(value["files"][0]["path"], "=cmd|' /C calc'!A0,\"x\"\n.txt");
        assert_eq!(value["files"][0]["file_id"], "@id");
        assert_eq!(value["files"][0]["metadata"]["k"], "1.10");
        let keys: Vec<&String> = value["files"][0]
            .as_object()
            .expect("a row")
            .keys()
            .collect();
        assert_eq!(keys, COLUMNS);
    }

    #[test]
    fn json_lines_have_the_header_first() {
        let text = written(ReportFormat::JsonLines);
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[0]["run_id"], "run-1");
        assert_eq!(lines[4]["outcome"], "failed");
    }

    #[test]
    fn nothing_is_printed_before_all_rows_are_there() {
        let (rules, files) = (rules(), files());
        let ends = ends(&files);
        let rows = rows(&rules, &files, &ends);
        for format in [
            ReportFormat::Csv,
            ReportFormat::Json,
            ReportFormat::JsonLines,
            ReportFormat::Html,
        ] {
            let mut printout = Printout::begin(Vec::new(), format);
            // More than is ever written together.
            for row in rows.iter().cycle().take(WRITTEN_TOGETHER / 50) {
                printout.row(row).expect("kept");
            }
            assert!(printout.sheet.to.is_empty(), "{format:?}");
        }
        let mut printout = Printout::begin(Vec::new(), ReportFormat::Csv);
        for row in &rows {
            printout.row(row).expect("kept");
        }
        let text = printout.finish(&header(&counts(&rows))).expect("printed");
        assert_eq!(
            String::from_utf8(text).expect("text"),
            written(ReportFormat::Csv)
        );
    }

    #[test]
    fn a_report_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.csv");
        fs::create_dir(&path).expect("a folder in the way");
        let (rules, files) = (rules(), files());
        let ends = ends(&files);
        let error = written_at(&path, ReportFormat::Csv, &rows(&rules, &files, &ends));
        assert_eq!(error.expect_err("a folder").to_string(), "it is a folder");
        assert!(path.is_dir());
    }

    #[test]
    fn one_report_that_cannot_be_written_keeps_no_other_from_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("b.json")).expect("a folder in the way");
        let places = [
            (at("a.csv"), ReportFormat::Csv),
            (at("b.json"), ReportFormat::Json),
            (at("c.jsonl"), ReportFormat::JsonLines),
            (at("d.html"), ReportFormat::Html),
        ];
        let (rules, files) = (rules(), files());
        let ends = ends(&files);
        let rows = rows(&rules, &files, &ends);
        let mut reports = Reports::begin(&places);
        for row in &rows {
            reports.row(row);
        }
        let results = reports.finish(&header(&counts(&rows)));
        let is_written: Vec<bool> = results.iter().map(|(_, result)| result.is_ok()).collect();
        assert_eq!(is_written, [true, false, true, true]);
        for ((path, format), is_written) in places.iter().zip(is_written) {
            if is_written {
                let text = fs::read_to_string(path).expect("read");
                assert_eq!(text, written(*format));
            }
        }
    }
}
