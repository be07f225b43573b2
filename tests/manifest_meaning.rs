//! What a manifest says is what the server stores.

mod common;

use std::fs;

use common::{DATASET, KEY, Workspace, sandbox};
use roe_batch::sandbox::records;
use serde_json::json;

#[test]
fn names_types_metadata_target_and_reports_are_as_the_manifest_says() {
    let mut workspace = Workspace::with(
        &format!(
            "version: 1
name: meaning
defaults:
  dataset_id: {DATASET}
  metadata: &base {{source: scan, keep: 1.10}}
uploads:
  - name: typed
    root: in
    include: '*.dat'
    organization_id: ${{{{ env.TEAM }}}}
    content_type: application/x-scan
    file_name: ${{{{ rule.name }}}}-${{{{ file.stem | upper }}}}.${{{{ file.extension }}}}
    metadata: {{source: typed, zero: 007, no: no, empty: '', size: '${{{{ file.size + 1 }}}}'}}
  - name: default-dataset
    root: in
    include: '*.txt'
    metadata: *base
report:
  - runs/${{{{ manifest.name }}}}.jsonl
  - path: runs/latest.csv
"
        ),
        &[("in/a.dat", "12345"), ("in/b.txt", "b")],
    );
    let (data, server) = sandbox();
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", &format!("http://{}", server.address()));
    workspace.env("TEAM", "team-7");
    workspace.env("ROE_ORGANIZATION_ID", "org-default");
    let ran = workspace.run(&["apply", "manifest.yaml", "--report", "more/here.json"]);
    assert_eq!(ran.code, 0, "{}", ran.all());

    let mut stored = records(data.path()).expect("records");
    stored.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(stored.len(), 2);
    assert_eq!(stored[0].name, "b.txt");
    assert_eq!(stored[0].content_type, "text/plain");
    assert_eq!(stored[0].organization_id.as_deref(), Some("org-default"));
    assert_eq!(
        json!(stored[0].metadata),
        json!({"source": "scan", "keep": "1.10"})
    );
    assert_eq!(stored[1].name, "typed-A.dat");
    assert_eq!(stored[1].content_type, "application/x-scan");
    assert_eq!(stored[1].dataset_id, DATASET);
    assert_eq!(stored[1].organization_id.as_deref(), Some("team-7"));
    assert_eq!(
        json!(stored[1].metadata),
        json!({"source": "typed", "keep": "1.10", "zero": "007", "no": "no", "empty": "", "size": "6"})
    );

    let lines = fs::read_to_string(workspace.at("runs/meaning.jsonl")).expect("a report");
    assert_eq!(lines.lines().count(), 3);
    assert!(workspace.at("runs/latest.csv").exists());
    assert_eq!(workspace.json("more/here.json")["header"]["planned"], 2);
    assert!(
        !workspace.at(".roe-batch/reports").exists(),
        "only where it was asked for"
    );
}

#[test]
fn a_report_that_a_rule_would_upload_is_an_error() {
    let manifest = "version: 1\nuploads:\n- {name: all, root: ., include: '**/*.csv'}\n\
                    report: reports/${{ run.id }}.csv\n";
    let workspace = Workspace::with(manifest, &[("a.csv", "a")]);
    let ran = workspace.apply();
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(
        ran.stderr.contains("rule `all` would upload this report"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("manifest.yaml:4:9"), "{}", ran.stderr);
    workspace.write(
        "manifest.yaml",
        manifest.replace("'**/*.csv'", "'**/*.csv', exclude: 'reports/**'"),
    );
    assert_eq!(workspace.apply().code, 0);
    let again = workspace.apply();
    assert!(
        again.stdout.contains("nothing to upload"),
        "{}",
        again.all()
    );
}

#[test]
fn the_state_may_lie_elsewhere_and_a_tree_may_move_with_its_state() {
    let manifest = "version: 1\nuploads:\n- {name: all, root: in, include: '*'}\n";
    let workspace = Workspace::with(manifest, &[("job/in/a.txt", "a"), ("other/x", "")]);
    workspace.write("job/manifest.yaml", manifest);
    let apply = |args: &[&str]| workspace.run(&[&["apply"], args, &["--sandbox"]].concat());
    assert_eq!(apply(&["job/manifest.yaml"]).code, 0);
    fs::rename(workspace.at("job"), workspace.at("moved")).expect("moved");
    let moved = apply(&["moved/manifest.yaml"]);
    assert!(
        moved.stdout.contains("nothing to upload"),
        "{}",
        moved.all()
    );

    let elsewhere = apply(&["moved/manifest.yaml", "--state", "other/state"]);
    assert!(elsewhere.stdout.contains("stored "), "{}", elsewhere.all());
    let again = apply(&["moved/manifest.yaml", "--state", "other/state"]);
    assert!(
        again.stdout.contains("nothing to upload"),
        "{}",
        again.all()
    );
}

#[test]
fn one_file_under_two_roots_is_one_file_and_sent_by_neither_rule() {
    let manifest = "version: 1
uploads:
- {name: near, root: in, include: '*.txt'}
- {name: far, root: .., include: '**/*.txt'}
";
    let workspace = Workspace::with("", &[("job/in/b.txt", "b"), ("a.txt", "a")]);
    workspace.write("job/manifest.yaml", manifest);
    let ran = workspace.run(&["apply", "job/manifest.yaml", "--sandbox"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    let report = workspace.json("job/.roe-batch/reports/manifest.json");
    let rows = report["files"].as_array().expect("rows");
    let outside = workspace.path().canonicalize().expect("a path");
    let outside = outside.join("a.txt");
    let found: Vec<_> = rows
        .iter()
        .map(|row| [&row["rule"], &row["path"], &row["outcome"]].map(|v| v.as_str().expect("text")))
        .collect();
    let expected = [
        ["near", "in/b.txt", "failed"],
        ["far", outside.to_str().expect("UTF-8"), "stored"],
        ["far", "in/b.txt", "failed"],
    ];
    assert_eq!(found, expected);
    let again = workspace.run(&["report", "job/manifest.yaml", "--format", "json"]);
    let again: serde_json::Value = serde_json::from_str(&again.stdout).expect("JSON");
    assert_eq!(again, report);
}
