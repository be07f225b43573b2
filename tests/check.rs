//! `check` and `explain`: what they find and say.

mod common;

use common::Workspace;
use serde_json::{Value, json};
use snapbox::str;

fn workspace() -> Workspace {
    Workspace::with(
        "version: 1
name: invoices
vars: {client: acme}
defaults:
  metadata: {client: '${{ vars.client }}', scanner: 007}
uploads:
  - name: invoices
    root: inbox
    include: ['**/*.pdf']
    exclude: ['**/draft-*']
    capture: '(?<year>\\d{4})/'
    capture_metadata: true
    table: {path: t.csv, key: file, match: '${{ file.name }}', columns: {amount: total}}
    file_name: ${{ capture.year }}-${{ file.name }}
  - name: rest
    root: inbox
    include: ['**']
    exclude: ['**/*.pdf']
",
        &[
            ("inbox/2024/a.pdf", "a"),
            ("inbox/2024/draft-b.pdf", "b"),
            ("inbox/notes.txt", "n"),
            ("t.csv", "file,total,internal\na.pdf,1.10,x\n"),
        ],
    )
}

#[test]
fn a_sound_manifest_has_no_problems() {
    let workspace = workspace();
    workspace.write("t.csv", "file,total\na.pdf,1.10\n");
    let ran = workspace.run(&["check", "manifest.yaml", "--strict"]);
    snapbox::assert_data_eq!(
        ran.all(),
        str![[r"
exit 0
--- stdout
manifest.yaml: no problems, 2 files to plan
--- stderr

"]]
    );
}

#[test]
fn strict_takes_warnings_for_errors_and_leaves_notes() {
    let workspace = workspace();
    assert_eq!(
        workspace.run(&["check", "manifest.yaml", "--strict"]).code,
        0
    );
    workspace.write("t.csv", "file,total,internal\na.pdf,1.10,x\nb.pdf,2,y\n");
    assert_eq!(workspace.run(&["check", "manifest.yaml"]).code, 0);
    let ran = workspace.run(&["check", "manifest.yaml", "--strict"]);
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(
        ran.stderr.contains("error: no file asks for this row"),
        "{}",
        ran.stderr
    );
}

#[test]
fn programs_get_the_same_problems_as_people() {
    let workspace = workspace();
    workspace.write("t.csv", "file,total\na.pdf,1.10\na.pdf,2\n");
    let ran = workspace.run(&["check", "manifest.yaml", "--format", "json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (65, ""), "{}", ran.all());
    let document: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let manifest = &document["manifests"][0];
    assert_eq!(document["format"], json!(1));
    assert_eq!(manifest["manifest"], json!("manifest.yaml"));
    assert_eq!(manifest["errors"], json!(1));
    let problem = &manifest["diagnostics"][0];
    assert_eq!(problem["severity"], json!("error"));
    assert_eq!(
        (
            &problem["file"],
            &problem["line"],
            &problem["column"],
            &problem["end_column"]
        ),
        (&json!("t.csv"), &json!(3), &json!(1), &json!(6))
    );
}

#[test]
fn check_needs_neither_network_nor_ledger_and_leaves_nothing_behind() {
    let mut workspace = workspace();
    workspace.env("ROE_BASE_URL", "http://127.0.0.1:1");
    let ran = workspace.run(&["check", "manifest.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(!workspace.at(".roe-batch").exists());
}

#[test]
fn each_key_is_explained_by_where_it_comes_from() {
    let ran = workspace().run(&["explain", "manifest.yaml", "inbox/2024/a.pdf", "--sandbox"]);
    let text = ran.all();
    let at = text.find(", changed").expect("a time");
    let end = text[at..].find('\n').expect("a line") + at;
    let text = format!("{}, changed […]{}", &text[..at], &text[end..]);
    snapbox::assert_data_eq!(
        text,
        str![[r"
exit 0
--- stdout
inbox/2024/a.pdf  1 B, changed […]

rule invoices, line 7: takes it
  an `include` pattern matches: `**/*.pdf`, line 9
  target        the default dataset at sandbox
  remote name   2024-a.pdf
  content type  application/pdf, by the extension `.pdf`
  metadata      4 names, 63 B
    client   acme    (defaults manifest.yaml:5)
    scanner  007    (defaults manifest.yaml:5)
    year     2024    (capture manifest.yaml:11)
    amount   1.10    (table t.csv:2, column total)
  decision      upload: new
  ledger        unknown

rule rest, line 15: does not take it
  an `exclude` pattern matches: `**/*.pdf`, line 18
--- stderr

"]]
    );
}

#[test]
fn what_leaves_a_file_out_is_named_with_its_line() {
    let workspace = workspace();
    for (file, part) in [
        (
            "inbox/2024/draft-b.pdf",
            "an `exclude` pattern matches: `**/draft-*`, line 10",
        ),
        ("notes.txt", "no `include` pattern matches"),
        (
            "manifest.yaml",
            "it does not lie in the rule's root `inbox`",
        ),
    ] {
        let ran = workspace.run(&["explain", "manifest.yaml", file, "--sandbox"]);
        assert_eq!(ran.code, 0, "{}", ran.all());
        assert!(ran.stdout.contains(part), "{part}\n{}", ran.all());
    }
    let ran = workspace.run(&["explain", "manifest.yaml", "nowhere.pdf", "--sandbox"]);
    assert_eq!(ran.code, 64, "{}", ran.all());
    assert!(
        ran.stderr.contains("there is no file nowhere.pdf"),
        "{}",
        ran.all()
    );
}

#[test]
fn an_explanation_knows_what_the_ledger_knows() {
    let workspace = workspace();
    let explain = |workspace: &Workspace| {
        let args = [
            "explain",
            "manifest.yaml",
            "inbox/2024/a.pdf",
            "--sandbox",
            "--format",
            "json",
        ];
        let ran = workspace.run(&args);
        assert_eq!(ran.code, 0, "{}", ran.all());
        let document: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        document["rules"][0].clone()
    };
    let before = explain(&workspace);
    assert_eq!(before["ledger"]["state"], json!("unknown"));
    assert_eq!(before["decision"]["reason"], json!("new"));
    let metadata = before["sending"]["metadata"].as_array().expect("metadata");
    let of = |name: &str| {
        let found = metadata.iter().find(|entry| entry["name"] == name);
        found.expect("a name").clone()
    };
    assert_eq!(
        of("amount"),
        json!({"name": "amount", "value": "1.10", "origin": "table", "file": "t.csv", "line": 2,
            "column": "total"})
    );
    assert_eq!(of("year")["origin"], json!("capture"));
    assert_eq!(of("client")["line"], json!(5));
    assert_eq!(workspace.apply().code, 0);
    let after = explain(&workspace);
    assert_eq!(after["ledger"]["state"], json!("stored"));
    assert_eq!(after["decision"]["action"], json!("skip"));
    assert!(after["ledger"]["file_id"].is_string());
}
