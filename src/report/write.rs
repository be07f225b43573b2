//! Rows to bytes, bytes to a file.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use tempfile::NamedTempFile;

use super::{Header, Row};
use crate::model::{FileId, Metadata, ReportFormat, schema_of};

/// Writes a report in one step: to a temporary file beside its destination, synced, renamed.
/// Missing folders are made.
///
/// # Errors
///
/// Whatever the operating system says; the destination is then as it was.
pub fn write(
    path: &Path,
    format: ReportFormat,
    header: &Header,
    rows: &[Row<'_>],
) -> io::Result<()> {
    let mut temporary = temporary(path)?;
    {
        let mut buffer = BufWriter::new(temporary.as_file_mut());
        render(&mut buffer, format, header, rows)?;
        buffer.flush()?;
    }
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    // The new name is durable once its folder is.
    File::open(folder_of(path))?.sync_all()
}

/// Writes a report's text.
///
/// # Errors
///
/// What the writer says.
pub fn render(
    to: &mut impl Write,
    format: ReportFormat,
    header: &Header,
    rows: &[Row<'_>],
) -> io::Result<()> {
    match format {
        ReportFormat::Csv => csv(to, rows),
        ReportFormat::Json => json(to, header, rows),
        ReportFormat::JsonLines => json_lines(to, header, rows),
    }
}

/// Finds out whether a report could be written here, before anything is sent.
///
/// # Errors
///
/// What [`write()`] would say.
pub fn probe(path: &Path) -> io::Result<()> {
    temporary(path).map(drop)
}

fn folder_of(path: &Path) -> &Path {
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

fn json(to: &mut impl Write, header: &Header, rows: &[Row<'_>]) -> io::Result<()> {
    serde_json::to_writer_pretty(
        &mut *to,
        &Document {
            header,
            files: rows,
        },
    )?;
    to.write_all(b"\n")
}

fn json_lines(to: &mut impl Write, header: &Header, rows: &[Row<'_>]) -> io::Result<()> {
    serde_json::to_writer(&mut *to, header)?;
    to.write_all(b"\n")?;
    for row in rows {
        serde_json::to_writer(&mut *to, row)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// The columns of a CSV report.
const COLUMNS: [&str; 19] = [
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

fn csv(to: &mut impl Write, rows: &[Row<'_>]) -> io::Result<()> {
    let mut writer = csv::Writer::from_writer(to);
    writer.write_record(COLUMNS)?;
    for row in rows {
        let number = |number: Option<u64>| number.map(|n| n.to_string()).unwrap_or_default();
        let cells: [String; COLUMNS.len()] = [
            text(row.rule.as_str()),
            text(row.path.as_str()),
            text(row.dataset_id.map_or("", |id| id.as_str())),
            text(row.organization_id.map_or("", |id| id.as_str())),
            row.outcome.word().to_owned(),
            text(row.file_id.as_ref().map_or("", FileId::as_str)),
            text(row.reason.as_deref().unwrap_or_default()),
            text(row.remote_name.unwrap_or_default()),
            number(row.size),
            text(row.content_type.unwrap_or_default()),
            row.blake3
                .map(|digest| digest.to_string())
                .unwrap_or_default(),
            row.metadata
                .map(Metadata::to_shown_json)
                .unwrap_or_default(),
            row.attempts.to_string(),
            number(row.http_status.map(u64::from)),
            row.request_id
                .as_ref()
                .map_or("", |id| id.as_str())
                .to_owned(),
            row.started
                .map(|time| format!("{time:.3}"))
                .unwrap_or_default(),
            row.finished
                .map(|time| format!("{time:.3}"))
                .unwrap_or_default(),
            text(row.returned_name.as_deref().unwrap_or_default()),
            text(row.returned_dataset.as_deref().unwrap_or_default()),
        ];
        writer.write_record(&cells)?;
    }
    writer.flush()
}

/// A text cell. One that a spreadsheet would run as a formula gets an apostrophe in front, as
/// OWASP's "CSV injection" page advises; the JSON reports have it as it is.
fn text(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{cell}")
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::model::{
        AttemptId, ContentType, Digest, InDoubt, JobEnd, Metadata, Origin, Outcome, RelativePath,
        RemoteName, RootId, RuleName, RunId, Secrecy, SourcePath, Stat, Target,
    };
    use crate::plan::{
        Decision, Held, OnChange, Plan, PlannedFile, PlannedRule, Sending, StoredBefore,
        UploadReason,
    };
    use crate::report::{About, Counts, rows};

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

    fn plan() -> Plan {
        let new = Decision::Upload(UploadReason::New);
        Plan {
            manifest: "m".to_owned(),
            rules: vec![PlannedRule {
                name: RuleName::new("r"),
                target: Arc::new(Target {
                    origin: Origin::new("sandbox"),
                    organization_id: None,
                    dataset_id: None,
                }),
                on_change: OnChange::Upload,
            }],
            problems: Vec::new(),
            left_out: Vec::new(),
            vanished: 0,
            files: vec![
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
            ],
        }
    }

    fn ends() -> Vec<Option<JobEnd>> {
        let stored = JobEnd {
            file_id: Some(FileId::new("@id")),
            digest: Some(Digest([1; 32])),
            attempts: 2,
            http_status: Some(200),
            finished: Some(Timestamp::UNIX_EPOCH),
            ..JobEnd::without_attempt(Outcome::Stored, None)
        };
        vec![Some(stored), None, None, None]
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
        let plan = plan();
        let rows = rows(&plan, ends());
        write(&path, format, &header(&Counts::of(&rows)), &rows).expect("written");
        let left: Vec<_> = fs::read_dir(path.parent().expect("a parent"))
            .expect("listed")
            .collect();
        assert_eq!(left.len(), 1, "no temporary file is left");
        fs::read_to_string(path).expect("read")
    }

    #[test]
    fn every_planned_file_has_a_row_in_plan_order_and_the_counts_add_up() {
        let plan = plan();
        let rows = rows(&plan, ends());
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
        let header = header(&Counts::of(&rows));
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
        let mut plan = plan();
        let sending = plan.files[1].sending.as_mut().expect("sent");
        let (key, value) = ("token".to_owned(), "hunter2".to_owned());
        sending.metadata.push(key, value, Secrecy::Hidden);
        let rows = rows(&plan, ends());
        let header = header(&Counts::of(&rows));
        for format in [
            ReportFormat::Csv,
            ReportFormat::Json,
            ReportFormat::JsonLines,
        ] {
            let mut report = Vec::new();
            render(&mut report, format, &header, &rows).expect("written");
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
    fn a_report_that_cannot_be_written_leaves_the_old_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.csv");
        fs::create_dir(&path).expect("a folder in the way");
        let plan = plan();
        let rows = rows(&plan, ends());
        let error = write(&path, ReportFormat::Csv, &header(&Counts::of(&rows)), &rows);
        assert_eq!(error.expect_err("a folder").to_string(), "it is a folder");
        assert!(path.is_dir());
    }
}
