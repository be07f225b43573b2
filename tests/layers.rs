//! Metadata from paths, tables and sidecars: what the manifest says is what the server stores.

mod common;

use std::collections::BTreeMap;

use common::Workspace;
use serde_json::{Value, json};

/// What `plan` would send: metadata by path.
fn planned(workspace: &Workspace) -> BTreeMap<String, Value> {
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox", "--format", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let rows = plan["files"].as_array().expect("rows").iter();
    rows.map(|row| {
        let path = row["path"].as_str().expect("a path").to_owned();
        (path, row["metadata"].clone())
    })
    .collect()
}

#[test]
fn each_layer_overrides_the_ones_before_it() {
    let workspace = Workspace::with(
        "version: 1
defaults: {metadata: {who: defaults, a: defaults}}
uploads:
  - name: all
    root: in
    include: '**/*.txt'
    metadata: {who: rule, b: rule}
    capture: '(?<who>[a-z]+)/(?<c>[0-9]+)'
    capture_metadata: true
    table: {path: t.csv, key: file, match: '${{ file.path }}'}
    sidecar: ${{ file.path }}.yaml
",
        &[
            ("in/acme/1.txt", "1"),
            ("in/acme/2.txt", "2"),
            ("in/acme/3.txt", "3"),
            ("in/acme/1.txt.yaml", "who: sidecar\ne: 1.10\n"),
            (
                "t.csv",
                "file,who,d\nacme/1.txt,table,007\nacme/2.txt,table,\nacme/3.txt,,x\n",
            ),
        ],
    );
    let planned = planned(&workspace);
    assert_eq!(
        planned["in/acme/1.txt"],
        json!({"who": "sidecar", "a": "defaults", "b": "rule", "c": "1", "d": "007", "e": "1.10"})
    );
    assert_eq!(
        planned["in/acme/2.txt"],
        json!({"who": "table", "a": "defaults", "b": "rule", "c": "2", "d": ""})
    );
    // An empty cell is a value too: the table says that it is empty.
    assert_eq!(planned["in/acme/3.txt"]["who"], json!(""));
}

#[test]
fn columns_choose_and_rename_and_rows_are_there_for_templates() {
    let rule = |columns: &str| {
        format!(
            "version: 1
uploads:
  - name: all
    root: in
    include: '*'
    table: {{path: t.tsv, key: File Name, match: '${{{{ file.name }}}}', columns: {columns}}}
    file_name: ${{{{ row['File Name'] | upper }}}}
    metadata: {{client: '${{{{ row.client | lower }}}}'}}
"
        )
    };
    let files = [
        ("in/a", "a"),
        ("t.tsv", "File Name\tclient\tyear\na\tACME\t2024\n"),
    ];
    for (columns, expected) in [
        ("[]", json!({"client": "acme"})),
        ("[year]", json!({"client": "acme", "year": "2024"})),
        (
            "{client: client, jahr: year}",
            json!({"client": "ACME", "jahr": "2024"}),
        ),
    ] {
        let workspace = Workspace::with(&rule(columns), &files);
        assert_eq!(planned(&workspace)["in/a"], expected, "{columns}");
    }
}

#[test]
fn rows_and_files_without_each_other_are_what_the_rule_says() {
    let manifest = |more: &str| {
        format!(
            "version: 1
uploads:
  - name: all
    root: in
    include: '*'
    table: {{path: t.csv, key: file, match: '${{{{ file.name }}}}'{more}}}
"
        )
    };
    let files = [
        ("in/a", "a"),
        ("in/b", "b"),
        ("t.csv", "file,x\na,1\nc,3\n"),
    ];
    let of = |more: &str| {
        let workspace = Workspace::with(&manifest(more), &files);
        workspace.run(&["plan", "manifest.yaml", "--sandbox"])
    };
    let ran = of("");
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(
        ran.stderr.contains("error: `b` has no row in the table"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("warning: no file asks for this row"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("t.csv:3:1"), "{}", ran.stderr);
    let ran = of(", files_without_row: warn, rows_without_file: error");
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(
        ran.stderr.contains("warning: `b` has no row"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("error: no file asks for this row"),
        "{}",
        ran.stderr
    );
    let ran = of(", files_without_row: ignore, rows_without_file: ignore");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
}

#[test]
fn rules_that_share_a_table_share_its_rows() {
    let workspace = Workspace::with(
        "version: 1
defaults: {root: in, table: {path: t.csv, key: file, match: '${{ file.name }}'}}
uploads:
  - {name: one, include: '*.a'}
  - {name: two, include: '*.b'}
",
        &[
            ("in/x.a", "a"),
            ("in/x.b", "b"),
            ("t.csv", "file,n\nx.a,1\nx.b,2\n"),
        ],
    );
    let ran = workspace.run(&["check", "manifest.yaml", "--strict"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
    assert_eq!(planned(&workspace)["in/x.b"], json!({"n": "2"}));
}

#[test]
fn the_row_of_a_file_that_is_left_for_later_is_not_without_a_file() {
    let workspace = Workspace::with(
        "version: 1
uploads:
  - name: all
    root: in
    include: '*'
    min_age: 1h
    table: {path: t.csv, key: file, match: '${{ file.name }}'}
",
        &[("in/a", "a"), ("t.csv", "file,n\na,1\n")],
    );
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
}

#[test]
fn json_lines_are_a_table_with_numbers_as_written() {
    let workspace = Workspace::with(
        "version: 1
uploads:
  - name: all
    root: in
    include: '*'
    table: {path: t.jsonl, key: file, match: '${{ file.name }}'}
",
        &[
            ("in/a", "a"),
            (
                "t.jsonl",
                "{\"file\": \"a\", \"n\": 1.10, \"ok\": true, \"none\": null}\n",
            ),
        ],
    );
    assert_eq!(
        planned(&workspace)["in/a"],
        json!({"n": "1.10", "ok": "true"})
    );
}

#[test]
fn a_broken_sidecar_keeps_its_own_file_back_and_no_other() {
    let workspace = Workspace::with(
        "version: 1
uploads:
  - {name: all, root: in, include: '*.txt', sidecar: '${{ file.path }}.json'}
",
        &[
            ("in/a.txt", "a"),
            ("in/b.txt", "b"),
            ("in/a.txt.json", "{\"x\": [1]}"),
            ("in/b.txt.json", "{\"x\": \"1\"}"),
        ],
    );
    let ran = workspace.apply();
    assert_eq!(ran.code, 1, "{}", ran.all());
    let report = workspace.report();
    let outcomes: Vec<&str> = report["files"]
        .as_array()
        .expect("rows")
        .iter()
        .map(|row| row["outcome"].as_str().expect("an outcome"))
        .collect();
    assert_eq!(outcomes, ["failed", "stored"]);
    let reason = report["files"][0]["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("its sidecar a.txt.json cannot be used"),
        "{reason}"
    );
    let checked = workspace.run(&["check", "manifest.yaml"]);
    assert_eq!(checked.code, 65);
    assert!(
        checked.stderr.contains("a.txt.json:1:7"),
        "{}",
        checked.stderr
    );
}

#[test]
fn a_missing_sidecar_is_no_matter_unless_the_rule_says_so() {
    let of = |sidecar: &str| {
        let manifest = format!(
            "version: 1\nuploads:\n  - {{name: all, root: in, include: '*.txt', sidecar: {sidecar}}}\n"
        );
        let files = [("in/a.txt", "a"), ("in/b.txt", "b"), ("in/b.yml", "k: v")];
        let workspace = Workspace::with(&manifest, &files);
        workspace.run(&["plan", "manifest.yaml", "--sandbox"])
    };
    let ran = of("'${{ file.stem }}.yml'");
    assert!(ran.stdout.contains("+ 2 new"), "{}", ran.all());
    let ran = of("{path: '${{ file.stem }}.yml', on_missing: error}");
    assert!(ran.stdout.contains("+ 1 new"), "{}", ran.all());
    assert!(
        ran.stdout.contains("its sidecar a.yml is missing"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_condition_may_ask_the_table_which_files_are_meant() {
    let workspace = Workspace::with(
        "version: 1
uploads:
  - name: all
    root: in
    include: '*'
    table: {path: t.csv, key: file, match: '${{ file.name }}', columns: []}
    when: ${{ row.status == 'approved' }}
",
        &[
            ("in/a", "a"),
            ("in/b", "b"),
            ("t.csv", "file,status\na,approved\nb,draft\n"),
        ],
    );
    let planned = planned(&workspace);
    assert_eq!(planned.keys().collect::<Vec<_>>(), ["in/a"]);
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert!(
        ran.stdout.contains("1 file left out: `when` is false"),
        "{}",
        ran.all()
    );
}

#[test]
fn metadata_too_large_for_the_service_is_refused_with_its_size() {
    let big = "x".repeat(900_000);
    let workspace = Workspace::with(
        &format!(
            "version: 1
uploads:
  - name: all
    root: in
    include: '*.txt'
    metadata: {{a: {big}}}
    table: {{path: t.csv, key: file}}
    sidecar: ${{{{ file.path }}}}.json
"
        ),
        &[
            ("in/a.txt", "a"),
            ("in/b.txt", "b"),
            ("t.csv", &format!("file,b\na.txt,{big}\nb.txt,small\n")),
            ("in/a.txt.json", &format!("{{\"c\": \"{big}y\"}}")),
        ],
    );
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert!(ran.stdout.contains("+ 1 new"), "{}", ran.stdout);
    let expected = "its metadata is 2700023 bytes long; the service takes 2500000 at the most";
    assert!(ran.stdout.contains(expected), "{}", ran.stdout);
    let ran = workspace.run(&["check", "manifest.yaml"]);
    assert!(
        ran.stderr
            .contains("`c`, from sidecar, alone has 900,001 bytes"),
        "{}",
        ran.stderr
    );
}

#[test]
fn constants_are_replaced_from_the_command_line() {
    let mut workspace = Workspace::with(
        "version: 1
vars: {client: acme, team: '${{ env.TEAM }}'}
x-base: &base {source: scan}
uploads:
  - name: all
    root: in
    include: '*'
    metadata:
      <<: *base
      client: ${{ vars.client }}
      team: ${{ vars.team }}
",
        &[("in/a", "a")],
    );
    workspace.env("TEAM", "ops");
    let expected = json!({"source": "scan", "client": "acme", "team": "ops"});
    assert_eq!(planned(&workspace)["in/a"], expected);
    let args = ["plan", "manifest.yaml", "--sandbox", "--format", "jsonl"];
    let ran = workspace.run(&[&args[..], &["--set", "client=a=b", "--set", "team="]].concat());
    assert!(
        ran.stdout.contains(r#""client":"a=b","team":"""#),
        "{}",
        ran.all()
    );
    let ran = workspace.run(&[&args[..], &["--set", "clinet=x"]].concat());
    assert_eq!(ran.code, 64, "{}", ran.all());
    assert!(
        ran.stderr.contains("did you mean `--set client=…`?"),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_a_variable_with_a_secrets_name_holds_is_sent_and_not_shown() {
    let mut workspace = Workspace::with(
        "version: 1
uploads:
  - name: all
    root: in
    include: '*'
    metadata: {grant: 'token ${{ env.GRANT_TOKEN }}'}
",
        &[("in/a", "a")],
    );
    workspace.env("GRANT_TOKEN", "hush-hush");
    for args in [
        &["plan", "manifest.yaml", "--sandbox", "--format", "json"][..],
        &[
            "explain",
            "manifest.yaml",
            "in/a",
            "--sandbox",
            "--format",
            "json",
        ],
        &["explain", "manifest.yaml", "in/a", "--sandbox"],
        &["check", "manifest.yaml", "--format", "json"],
        &["apply", "manifest.yaml", "--sandbox"],
    ] {
        let ran = workspace.run(args);
        assert_eq!(ran.code, 0, "{}", ran.all());
        assert!(!ran.all().contains("hush-hush"), "{}", ran.all());
    }
    assert!(!workspace.report().to_string().contains("hush-hush"));
    let stored = roe_batch::sandbox::records(&workspace.at(".roe-batch/sandbox"));
    let stored = stored.expect("records");
    assert_eq!(
        json!(stored[0].metadata),
        json!({"grant": "token hush-hush"})
    );
}

#[test]
fn what_the_environment_holds_is_in_no_message() {
    let mut workspace = Workspace::with(
        "version: 1
uploads:
  - name: all
    root: in
    include: '*'
    metadata:
      a: ${{ file.name | regex_replace('(y|a)', env.GRANT_TOKEN) }}
",
        &[("in/a", "a")],
    );
    workspace.env("GRANT_TOKEN", "hush$HUSHX");
    for args in [
        &["check", "manifest.yaml"][..],
        &["plan", "manifest.yaml", "--sandbox"],
        &["explain", "manifest.yaml", "in/a", "--sandbox"],
    ] {
        let ran = workspace.run(args);
        assert!(!ran.all().contains("HUSHX"), "{}", ran.all());
    }
    let when = "version: 1\nuploads:\n  - {name: all, root: in, include: '*', when: \"${{ env.GRANT_TOKEN != 'x' }}\"}\n";
    workspace.write("manifest.yaml", when);
    let ran = workspace.run(&["check", "manifest.yaml"]);
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(
        ran.stderr.contains("GRANT_TOKEN looks like a secret"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_table_is_one_however_it_is_spelt_and_keyed() {
    let workspace = Workspace::with(
        "version: 1
defaults: {root: in}
uploads:
  - {name: one, include: 'a', table: {path: t.csv, key: file}}
  - {name: two, include: 'b', table: {path: ./t.csv, key: file}}
  - {name: three, include: 'c', table: {path: t.csv, key: other}}
",
        &[
            ("in/a", "1"),
            ("in/b", "2"),
            ("in/c", "3"),
            ("t.csv", "file,other\na,x\nb,y\nz,c\n"),
        ],
    );
    let ran = workspace.run(&["check", "manifest.yaml", "--strict"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
}
