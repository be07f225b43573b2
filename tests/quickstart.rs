//! The main job, end to end, as the README shows it.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::Workspace;
use roe_batch::sandbox::records;
use serde_json::Value;

fn rows(report: &Value) -> Vec<&Value> {
    report["files"].as_array().expect("rows").iter().collect()
}

fn outcomes(report: &Value) -> BTreeMap<String, u64> {
    let outcomes = report["header"]["outcomes"].as_object().expect("outcomes");
    outcomes
        .iter()
        .filter_map(|(word, n)| Some((word.clone(), n.as_u64().filter(|n| *n > 0)?)))
        .collect()
}

#[test]
fn every_file_arrives_byte_for_byte_and_the_reports_say_so() {
    let workspace = Workspace::example("quickstart");
    let ran = workspace.apply();
    assert_eq!(ran.code, 0, "{}", ran.all());
    let report = workspace.json("reports/latest.json");
    let stored = records(&workspace.at(".roe-batch/sandbox")).expect("records");
    let by_id: BTreeMap<&str, _> = stored.iter().map(|file| (file.id.as_str(), file)).collect();
    assert_eq!(stored.len(), rows(&report).len());
    assert_eq!(by_id.len(), stored.len());
    for row in rows(&report) {
        let path = row["path"].as_str().expect("a path");
        let file = by_id[row["file_id"].as_str().expect("an id")];
        let sent = fs::read(workspace.at(path)).expect("the source");
        let kept = fs::read(&file.path).expect("the stored bytes");
        assert_eq!(sent, kept, "{path}");
        assert_eq!(row["size"].as_u64(), Some(file.size), "{path}");
        assert_eq!(
            row["blake3"],
            blake3::hash(&kept).to_hex().as_str(),
            "{path}"
        );
        assert_eq!(row["remote_name"], file.name.as_str(), "{path}");
        assert_eq!(row["content_type"], file.content_type.as_str(), "{path}");
        assert_eq!(
            row["metadata"],
            Value::Object(file.metadata.clone()),
            "{path}"
        );
        assert_eq!(
            row["request_id"].as_str(),
            file.request_id.as_deref(),
            "{path}"
        );
        assert_eq!(row["outcome"], "stored");
    }
    let invoice = rows(&report)[0];
    assert_eq!(invoice["metadata"]["format_version"], "1.10");
    let header = &report["header"];
    assert_eq!(header["planned"].as_u64(), Some(26));
    assert_eq!(outcomes(&report).values().sum::<u64>(), 26);

    let csv = fs::read_to_string(workspace.at("reports/latest.csv")).expect("a CSV report");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let ids: Vec<String> = reader
        .records()
        .map(|record| record.expect("a row")[5].to_owned())
        .collect();
    let expected: Vec<&str> = rows(&report)
        .iter()
        .map(|row| row["file_id"].as_str().expect("an id"))
        .collect();
    assert_eq!(ids, expected);
}

#[test]
fn a_second_run_uploads_nothing_and_a_changed_file_uploads_alone() {
    let workspace = Workspace::example("quickstart");
    assert_eq!(workspace.apply().code, 0);
    let first = workspace.json("reports/latest.json");

    let again = workspace.apply();
    assert_eq!(again.code, 0);
    assert!(
        again.stdout.contains("nothing to upload"),
        "{}",
        again.stdout
    );
    let second = workspace.json("reports/latest.json");
    assert_eq!(outcomes(&second), [("skipped".to_owned(), 26)].into());
    let ids = |report: &Value| -> Vec<Value> {
        rows(report)
            .iter()
            .map(|row| row["file_id"].clone())
            .collect()
    };
    assert_eq!(ids(&first), ids(&second), "the ids are still in the report");

    workspace.write("inbox/data/settings.yaml", "colour: red\n");
    let touched = fs::read(workspace.at("inbox/data/page.html")).expect("a file");
    workspace.write("inbox/data/page.html", touched);
    assert_eq!(workspace.apply().code, 0);
    let third = workspace.json("reports/latest.json");
    assert_eq!(
        outcomes(&third),
        [("skipped".to_owned(), 25), ("stored".to_owned(), 1)].into()
    );
    let stored = records(&workspace.at(".roe-batch/sandbox")).expect("records");
    assert_eq!(stored.len(), 27);
    assert_eq!(stored[26].name, "settings.yaml");
}

#[test]
fn a_dry_run_is_the_plan_and_leaves_nothing_behind() {
    let workspace = Workspace::example("quickstart");
    let plan = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    let dry = workspace.run(&["apply", "manifest.yaml", "--sandbox", "--dry-run"]);
    assert_eq!(plan.code, 0);
    assert_eq!(plan.all(), dry.all());
    assert!(!workspace.at(".roe-batch").exists());
    for format in ["json", "jsonl"] {
        let args = ["plan", "manifest.yaml", "--sandbox", "--format", format];
        let (one, two) = (workspace.run(&args), workspace.run(&args));
        assert_eq!(
            one.stdout, two.stdout,
            "the same inputs give the same bytes"
        );
        assert!(one.stdout.contains("invoice-1001.pdf"));
    }
}

#[test]
fn what_the_plan_predicts_is_what_the_server_stores() {
    let workspace = Workspace::example("quickstart");
    let plan = workspace.run(&["plan", "manifest.yaml", "--sandbox", "--format", "json"]);
    let plan: Value = serde_json::from_str(&plan.stdout).expect("JSON");
    assert_eq!(workspace.apply().code, 0);
    let stored = records(&workspace.at(".roe-batch/sandbox")).expect("records");
    let mut predicted: Vec<(String, u64)> = rows(&plan)
        .iter()
        .map(|row| {
            let name = row["stored_name"].as_str().expect("a name").to_owned();
            (name, row["size"].as_u64().expect("a size"))
        })
        .collect();
    let mut found: Vec<(String, u64)> = stored.into_iter().map(|f| (f.name, f.size)).collect();
    predicted.sort();
    found.sort();
    assert_eq!(predicted, found);
}
