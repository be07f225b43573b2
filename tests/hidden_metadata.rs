//! A metadata value that is a secret reaches the service, and nothing that anybody reads.

mod common;
#[path = "common/engine.rs"]
mod engine;

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use common::{DATASET, KEY, Workspace, sandbox};
use engine::Engine;
use roe_batch::client::Endpoint;
use roe_batch::ledger::SqliteLedger;
use roe_batch::model::{
    DatasetId, Environment, HIDDEN, Metadata, Outcome, ReportFormat, Secrecy, Target,
};
use roe_batch::report::{About, Counts, Header, Printout, row_of_ledger};
use roe_batch::sandbox::records;
use serde_json::json;

const SECRET: &str = "hunter2-0123456789";

fn metadata() -> Metadata {
    let mut metadata = Metadata::open([("year".to_owned(), "2025".to_owned())]);
    metadata.push("token".to_owned(), SECRET.to_owned(), Secrecy::Hidden);
    metadata
}

/// Looks at the bytes of every file, so also at the database and its log.
fn assert_not_in_the_files_of(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            assert_not_in_the_files_of(&path);
            continue;
        }
        let bytes = fs::read(&path).expect("its bytes");
        let secret = SECRET.as_bytes();
        let found = bytes.windows(secret.len()).any(|bytes| bytes == secret);
        assert!(!found, "the secret is in {}", path.display());
    }
}

#[test]
fn a_hidden_value_is_stored_with_the_file_and_is_in_neither_ledger_nor_report() {
    let workspace = Workspace::with("", &[("in/a.txt", "a"), ("in/b.txt", "b")]);
    fs::create_dir(workspace.at("state")).expect("a folder");
    let manifest = format!(
        "version: 1
uploads:
- name: all
  root: in
  include: '*'
  dataset_id: {DATASET}
  metadata: {{year: 2025, token: '${{{{ env.SCANNER_TOKEN }}}}'}}
"
    );
    let environment = Environment::new([("SCANNER_TOKEN".to_owned(), SECRET.to_owned())]);
    let (data, server) = sandbox();
    let url = format!("http://{}", server.address());
    let engine = Engine::within(&environment, &manifest, workspace.path(), &url, KEY, 2);
    let ledger = SqliteLedger::open(&workspace.at("state/ledger.sqlite")).expect("a ledger");
    let ran = engine.run(Box::new(ledger), &|_| {});
    assert_eq!(ran.files(Outcome::Stored), 2);
    for file in records(data.path()).expect("records") {
        assert_eq!(
            json!(file.metadata),
            json!({"year": "2025", "token": SECRET})
        );
    }
    // What was sent is still known, so that a doubt can be settled and a change be seen.
    let target = Target {
        origin: Endpoint::parse(&url).expect("an address").origin(),
        organization_id: None,
        dataset_id: Some(DatasetId::new(DATASET)),
    };
    let samples = ran.ledger.stored_samples(&target).expect("read");
    assert_eq!(samples[0].metadata, Some(metadata().digest()));

    let run = &ran.ledger.runs("manifest").expect("read")[0];
    let header = Header::new(About::default(), &Counts::default());
    for format in [
        ReportFormat::Csv,
        ReportFormat::Json,
        ReportFormat::JsonLines,
        ReportFormat::Html,
    ] {
        let mut printout = Printout::begin(Vec::new(), format);
        let each = ran.ledger.each_row(&run.run, &mut |row| {
            printout.row(&row_of_ledger(&row)).expect("printed");
            ControlFlow::Continue(())
        });
        each.expect("read");
        let report = printout.finish(&header).expect("a report");
        let report = String::from_utf8(report).expect("UTF-8");
        assert!(
            !report.contains(SECRET) && report.contains(HIDDEN),
            "{report}"
        );
    }
    assert_not_in_the_files_of(&workspace.at("state"));
}

#[test]
fn a_variable_that_looks_like_a_secret_is_sent_and_shown_by_no_command() {
    let manifest = format!(
        "version: 1
uploads:
- name: all
  root: in
  include: '*'
  dataset_id: {DATASET}
  metadata: {{year: 2025, token: '${{{{ env.SCANNER_TOKEN }}}}'}}
"
    );
    let mut workspace = Workspace::with(&manifest, &[("in/a.txt", "a")]);
    let (data, server) = sandbox();
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", &format!("http://{}", server.address()));
    workspace.env("SCANNER_TOKEN", SECRET);
    for command in [
        "check manifest.yaml",
        "explain manifest.yaml in/a.txt",
        "explain manifest.yaml in/a.txt --format json",
        "plan manifest.yaml",
        "plan manifest.yaml --format json",
        "plan manifest.yaml --format jsonl",
        "apply manifest.yaml --report report.jsonl",
        "report manifest.yaml",
        "report manifest.yaml --format json",
        "report manifest.yaml --format html",
        "report manifest.yaml --out page.html",
        "status manifest.yaml --format json",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let ran = workspace.run(&words);
        assert_eq!(ran.code, 0, "{}", ran.all());
        assert!(!ran.all().contains(SECRET), "{command}: {}", ran.all());
        let is_listed = command.contains("json") && !command.contains("status");
        assert!(!is_listed || command.contains("apply") || ran.stdout.contains(HIDDEN));
    }
    let stored = records(data.path()).expect("records");
    assert_eq!(stored[0].metadata["token"], SECRET);
    assert_not_in_the_files_of(workspace.path());
}
