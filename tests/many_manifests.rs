//! Several manifests in one command, one from standard input, and what of them is refused.

mod common;

use std::io::Write;
use std::process::Stdio;

use common::Workspace;
use snapbox::str;

const RULE: &str = "uploads:\n  - {name: all, root: in, include: '*'}\n";

fn two() -> Workspace {
    let workspace = Workspace::new();
    workspace.write("a.yaml", format!("version: 1\nname: first\n{RULE}"));
    workspace.write("b/b.yaml", format!("version: 1\nname: second\n{RULE}"));
    workspace.write("in/x.txt", "x");
    workspace.write("b/in/y.txt", "y");
    workspace
}

#[test]
fn each_manifest_is_a_stream_of_its_own() {
    let workspace = two();
    let ran = workspace.run(&["apply", "a.yaml", "b/b.yaml", "--sandbox"]);
    snapbox::assert_data_eq!(
        ran.all(),
        str![[r"
exit 0
--- stdout
first: 1 file planned
  stored               1   1 B, 1 file ID
report: .roe-batch/reports/a.csv
report: .roe-batch/reports/a.json
second: 1 file planned
  stored               1   1 B, 1 file ID
report: b/.roe-batch/reports/b.csv
report: b/.roe-batch/reports/b.json
--- stderr

"]]
    );
    let ran = workspace.run(&["plan", "a.yaml", "b/b.yaml", "--sandbox"]);
    assert!(
        ran.stdout.contains("first: 1 file planned, 0 to upload"),
        "{}",
        ran.all()
    );
    assert!(
        ran.stdout.contains("second: 1 file planned, 0 to upload"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_warning_is_told_once() {
    let workspace = two();
    let warned =
        format!("version: 1\nname: first\n{RULE}").replace("'*'", "['*', 'z*'], on_empty: warn");
    workspace.write("a.yaml", warned);
    let ran = workspace.run(&["apply", "a.yaml", "b/b.yaml", "--sandbox"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(
        ran.stderr.matches("warning: no file matches").count(),
        1,
        "{}",
        ran.all()
    );
}

#[test]
fn a_mistake_in_the_last_manifest_is_found_before_the_first_upload() {
    let workspace = two();
    workspace.write(
        "b/b.yaml",
        "version: 1\nuploads:\n  - {name: all, root: gone, include: '*'}\n",
    );
    let ran = workspace.run(&["apply", "a.yaml", "b/b.yaml", "--sandbox"]);
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(
        ran.stderr.contains("the folder does not exist"),
        "{}",
        ran.stderr
    );
    assert!(!workspace.at(".roe-batch/ledger.sqlite").exists());
}

#[test]
fn the_worst_end_of_several_is_the_exit_code() {
    let workspace = two();
    std::os::unix::fs::symlink("x.txt", workspace.at("in/link")).expect("a link");
    let ran = workspace.run(&["apply", "a.yaml", "b/b.yaml", "--sandbox"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(
        ran.stdout
            .contains("second: 1 file planned\n  stored               1"),
        "{}",
        ran.all()
    );
}

#[test]
fn what_cannot_be_told_apart_is_refused() {
    let workspace = two();
    workspace.write("c.yaml", format!("version: 1\nname: first\n{RULE}"));
    for (args, message) in [
        (
            &["a.yaml", "c.yaml"][..],
            "a.yaml and c.yaml have one name and one ledger",
        ),
        (&["a.yaml", "a.yaml"], "a.yaml is named twice"),
        (
            &["a.yaml", "b/b.yaml", "--report", "r.csv"],
            "--report names one file",
        ),
        (
            &["a.yaml", "--set", "x=1", "--set", "x=2"],
            "--set gives `x` two values",
        ),
        (&["a.yaml", "--set", "x=1"], "the manifest has no var `x`"),
        (&["a.yaml", "--set", "x"], "write NAME=VALUE"),
    ] {
        let ran = workspace.run(&[&["apply"], args, &["--sandbox"]].concat());
        assert_eq!(ran.code, 64, "{}", ran.all());
        assert!(ran.stderr.contains(message), "{}", ran.all());
    }
    let ran = workspace.run(&["apply", "a.yaml", "b/b.yaml", "--api-key-file", "-"]);
    assert_eq!(ran.code, 64, "{}", ran.all());
    assert!(
        ran.stderr.contains("standard input gives the API key once"),
        "{}",
        ran.all()
    );
}

fn piped(workspace: &Workspace, args: &[&str], manifest: &str) -> (i32, String) {
    let mut child = workspace
        .command(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(manifest.as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("an end");
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("an exit code");
    (code, String::from_utf8(text).expect("UTF-8"))
}

#[test]
fn a_manifest_from_standard_input_works_from_here() {
    let workspace = two();
    let manifest = format!("version: 1\nname: piped\n{RULE}");
    let (code, text) = piped(&workspace, &["apply", "-", "--sandbox"], &manifest);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("piped: 1 file planned"), "{text}");
    assert!(
        text.contains("report: .roe-batch/reports/stdin.csv"),
        "{text}"
    );
    let (code, text) = piped(
        &workspace,
        &["check", "-"],
        &manifest.replace("include", "inlcude"),
    );
    assert_eq!(code, 65, "{text}");
    assert!(text.contains("--> <stdin>:4:"), "{text}");
}

#[test]
fn a_manifest_from_standard_input_needs_a_name() {
    let workspace = two();
    let (code, text) = piped(
        &workspace,
        &["plan", "-", "--sandbox"],
        &format!("version: 1\n{RULE}"),
    );
    assert_eq!(code, 65, "{text}");
    assert!(
        text.contains("a manifest from standard input needs a `name`"),
        "{text}"
    );
}
