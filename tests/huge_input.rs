//! Manifests, tables, sidecars and lists that are made to exhaust whoever reads them: each is
//! refused with a clear error, in a process that may have no more than a gigabyte and a half.

mod common;

use std::fmt::Write;
use std::fs::File;
use std::process::Command;

use common::Workspace;

/// Address space that a check may use, in KiB.
const MEMORY: u32 = 1_500_000;

/// What `check` says of a manifest, and its exit code.
fn check(workspace: &Workspace) -> (i32, String) {
    let output = Command::new("sh")
        .args([
            "-c",
            &format!("ulimit -v {MEMORY} && exec \"$0\" check manifest.yaml"),
        ])
        .arg(env!("CARGO_BIN_EXE_roe-batch"))
        .current_dir(workspace.path())
        .env_clear()
        .env("ROE_BATCH_CONFIG", "")
        .output()
        .expect("a shell");
    let text = [output.stdout, output.stderr].concat();
    let code = output.status.code().expect("an exit code, not a signal");
    (code, String::from_utf8(text).expect("UTF-8"))
}

fn refused(manifest: &str, files: &[(&str, &str)], says: &str) {
    let workspace = Workspace::with(manifest, &[("in/a", "a")]);
    for (name, content) in files {
        workspace.write(name, content);
    }
    is_refused(&workspace, says);
}

fn is_refused(workspace: &Workspace, says: &str) {
    let (code, text) = check(workspace);
    let head: String = text.chars().take(2000).collect();
    assert_eq!(code, 65, "{head}");
    assert!(text.contains(says), "{says}\n{head}");
    assert!(
        text.len() < 100_000,
        "{} bytes of output\n{head}",
        text.len()
    );
}

fn rule(more: &str) -> String {
    format!("version: 1\nuploads:\n  - {{name: r, root: in, include: '*', {more}}}\n")
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut bomb = "version: 1\nx-a0: &a0 [z, z, z, z, z, z, z, z, z]\n".to_owned();
    for level in 1..12 {
        let refs = vec![format!("*a{}", level - 1); 9].join(", ");
        let _ = writeln!(bomb, "x-a{level}: &a{level} [{refs}]");
    }
    refused(&bomb, &[], "aliases repeat too much of this document");
}

#[test]
fn ten_thousand_levels_are_refused() {
    refused(&"[".repeat(10_000), &[], "nested more than 16 levels deep");
    let mut block = String::new();
    for level in 0..10_000 {
        let _ = writeln!(block, "{}a:", " ".repeat(level % 900));
    }
    let (code, _) = check(&Workspace::with(&block, &[]));
    assert_eq!(code, 65);
    let deep = format!(
        "metadata: {{a: '${{{{ {}1{} }}}}'}}",
        "(".repeat(3000),
        ")".repeat(3000)
    );
    refused(&rule(&deep), &[], "the expression is nested too deeply");
}

#[test]
fn texts_of_a_hundred_megabytes_are_refused() {
    let big = "x".repeat(60 * 1024 * 1024);
    refused(
        &rule(&format!("metadata: {{a: {big}}}")),
        &[],
        "longer than 1 MiB",
    );
    let workspace = Workspace::with("", &[("in/a", "a")]);
    let file = File::create(workspace.at("manifest.yaml")).expect("a file");
    file.set_len(100 * 1024 * 1024).expect("a sparse file");
    is_refused(&workspace, "it is larger than 64 MiB");
}

#[test]
fn expressions_without_end_are_refused() {
    let many = "${{ file.name }}".repeat(60_000);
    refused(
        &rule(&format!("metadata: {{a: '{many}'}}")),
        &[],
        "more than 1000 expressions",
    );
    let chain = "| replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')".repeat(12);
    let chain = format!("metadata: {{a: \"${{{{ file.name {chain} }}}}\"}}");
    refused(
        &rule(&chain),
        &[],
        "it makes too much text, or takes too many steps",
    );
    for capture in ["(?<x>(.{1000}){1000})", "(?<x>\\w{5000})"] {
        refused(
            &rule(&format!("capture: '{capture}'")),
            &[],
            "too large to compile",
        );
    }
    let slow = rule("capture: '(?<x>(a|a|a*)*)*b$', capture_metadata: false");
    let (code, text) = check(&Workspace::with(
        &slow,
        &[(&format!("in/{}", "a".repeat(250)), "")],
    ));
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_table_is_read_within_bounds() {
    let table = rule("table: {path: t.csv, key: file}");
    let unclosed = format!("file,x\na,\"{}\n", "y\n".repeat(3_000_000));
    refused(
        &table,
        &[("t.csv", &unclosed)],
        "a row is larger than 1.0 MiB",
    );
    let workspace = Workspace::with(&table, &[("in/a", "a"), ("t.csv", "file,x\na,1\n")]);
    let file = File::options()
        .write(true)
        .open(workspace.at("t.csv"))
        .expect("a file");
    file.set_len(2 * 1024 * 1024 * 1024).expect("a sparse file");
    is_refused(&workspace, "t.csv");
    let mut wide = "file".to_owned();
    for column in 0..100_000 {
        let _ = write!(wide, ",c{column}");
    }
    refused(&table, &[("t.csv", &format!("{wide}\n"))], "1,000");
}

#[test]
fn a_sidecar_and_a_list_are_read_within_bounds() {
    let big = format!("a: {}\n", "x".repeat(10 * 1024 * 1024));
    let sidecar = "sidecar: '${{ file.name }}.meta', exclude: '*.meta'";
    refused(&rule(sidecar), &[("in/a.meta", &big)], "cannot be used");
    let list = rule("files_from: list");
    refused(
        &list,
        &[("list", &"x".repeat(10 * 1024 * 1024))],
        "longer than 64 KiB",
    );
    refused(
        &list,
        &[("list", &"x\n/\n".repeat(1_000_000))],
        "more lines",
    );
}

#[test]
fn very_many_rules_and_rows_are_no_problem() {
    let mut manifest = "version: 1\ndefaults: {root: in, metadata: {a: \"${{ file.stem }}\"}}\n\
                        uploads:\n"
        .to_owned();
    for rule in 0..20_000 {
        let _ = writeln!(
            manifest,
            "- {{name: r{rule}, include: 'f{rule}', on_empty: ignore}}"
        );
    }
    let workspace = Workspace::with(&manifest, &[("in/f7", "7"), ("in/f8", "8")]);
    let (code, text) = check(&workspace);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("2 files to plan"), "{text}");
    let mut table = "file,n\n".to_owned();
    for row in 0..300_000 {
        let _ = writeln!(table, "f{row},{row}");
    }
    let manifest = rule("table: {path: t.csv, key: file, rows_without_file: ignore}");
    let workspace = Workspace::with(&manifest, &[("in/f7", "7"), ("t.csv", &table)]);
    let (code, text) = check(&workspace);
    assert_eq!(code, 0, "{text}");
}
