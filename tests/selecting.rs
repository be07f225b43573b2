//! Which files a rule takes: sizes, times, depth, lists, links, hidden names, ignore files, overlap.

mod common;

use std::fs::File;
use std::os::unix::fs::symlink;
use std::time::{Duration, SystemTime};

use common::{Ran, Workspace};
use serde_json::Value;

fn plan(workspace: &Workspace) -> Ran {
    workspace.run(&["plan", "manifest.yaml", "--sandbox", "--format", "json"])
}

/// The rows of a plan, as `rule path`.
fn rows(workspace: &Workspace) -> Vec<String> {
    let ran = plan(workspace);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let rows = plan["files"].as_array().expect("rows").iter();
    rows.map(|row| format!("{} {}", text(&row["rule"]), text(&row["path"])))
        .collect()
}

fn rule(more: &str) -> String {
    format!("version: 1\nuploads:\n  - {{name: r, root: in, on_empty: ignore, {more}}}\n")
}

#[test]
fn sizes_bound_what_is_taken() {
    let files = [
        ("in/0", ""),
        ("in/1", "1"),
        ("in/3", "333"),
        ("in/9", "999999999"),
    ];
    let of = |more: &str| {
        rows(&Workspace::with(
            &rule(&format!("include: '*', {more}")),
            &files,
        ))
    };
    assert_eq!(of("min_size: 1, max_size: 3B"), ["r in/1", "r in/3"]);
    assert_eq!(of("min_size: 4"), ["r in/9"]);
    assert_eq!(of("when: '${{ file.size == 0 }}'"), ["r in/0"]);
}

#[test]
fn a_file_that_was_just_changed_is_left_to_a_later_run() {
    let files = [("in/old", "1"), ("in/new", "2")];
    let workspace = Workspace::with(&rule("include: '*', min_age: 2m"), &files);
    let long_ago = SystemTime::now() - Duration::from_mins(3);
    let old = File::options()
        .write(true)
        .open(workspace.at("in/old"))
        .expect("a file");
    old.set_modified(long_ago).expect("a time");
    assert_eq!(rows(&workspace), ["r in/old"]);
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    let expected = "1 file left out: changed less than `min_age` ago, left to a later run";
    assert!(ran.stdout.contains(expected), "{}", ran.all());
}

#[test]
fn depth_counts_the_components_of_a_path() {
    let files = [("in/1", "1"), ("in/a/2", "2"), ("in/a/b/3", "3")];
    let of = |depth: u32| {
        rows(&Workspace::with(
            &rule(&format!("include: '**', max_depth: {depth}")),
            &files,
        ))
    };
    assert_eq!(of(1), ["r in/1"]);
    assert_eq!(of(2), ["r in/1", "r in/a/2"]);
}

#[test]
fn hidden_names_are_taken_where_the_rule_says_so() {
    let files = [("in/.a/b", "1"), ("in/.c", "2"), ("in/d", "3")];
    assert_eq!(
        rows(&Workspace::with(&rule("include: '**'"), &files)),
        ["r in/d"]
    );
    assert_eq!(
        rows(&Workspace::with(
            &rule("include: '**', hidden: true"),
            &files
        )),
        ["r in/.a/b", "r in/.c", "r in/d"]
    );
}

#[test]
fn a_list_says_which_files_are_meant_and_missing_ones_are_errors() {
    let files = [
        ("in/a", "1"),
        ("in/b c", "2"),
        ("in/.d", "3"),
        ("in/e", "4"),
        ("list.txt", "\u{feff}a\r\nb c\n\n.d\n"),
    ];
    let listed = ["r in/.d", "r in/a", "r in/b c"];
    assert_eq!(
        rows(&Workspace::with(&rule("files_from: list.txt"), &files)),
        listed
    );
    let here = rule("files_from: [a, b c, .d]");
    assert_eq!(rows(&Workspace::with(&here, &files)), listed);
    let narrowed = rule("files_from: list.txt, include: '*', exclude: 'b*'");
    assert_eq!(rows(&Workspace::with(&narrowed, &files)), ["r in/a"]);
    let workspace = Workspace::with(&rule("files_from: list.txt"), &files);
    workspace.write("list.txt", "a\n../x\nnot there\na\n");
    let ran = plan(&workspace);
    assert_eq!(ran.code, 65, "{}", ran.all());
    for part in [
        "error: there is no file `not there`",
        "error: `../x` has an empty component, `.` or `..`\n --> list.txt:2:1",
        "error: the path is listed twice\n --> list.txt:4:1",
    ] {
        assert!(ran.stderr.contains(part), "{part}\n{}", ran.stderr);
    }
}

#[test]
fn links_are_followed_only_where_the_rule_says_so_and_only_within_the_root() {
    let of = |more: &str| {
        let workspace = Workspace::with(
            &rule(&format!("include: '**', {more}")),
            &[("in/a/real", "1"), ("outside/x", "2")],
        );
        symlink("a/real", workspace.at("in/link")).expect("a link");
        symlink("a", workspace.at("in/folder")).expect("a link");
        symlink("../outside", workspace.at("in/out")).expect("a link");
        let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
        (workspace, ran)
    };
    let (_, ran) = of("follow_symlinks: never");
    assert!(ran.stdout.contains("+ 1 new"), "{}", ran.all());
    assert!(ran.stdout.contains("! 3 unusable"), "{}", ran.all());
    let (workspace, ran) = of("follow_symlinks: within_root");
    assert!(ran.stdout.contains("+ 3 new"), "{}", ran.all());
    assert!(ran.stdout.contains("! 1 unusable"), "{}", ran.all());
    let ran = workspace.apply();
    assert!(
        ran.stdout.contains("stored               3"),
        "{}",
        ran.all()
    );
}

#[test]
fn an_ignore_file_hides_what_it_names_from_every_rule() {
    let files = [
        ("in/.roeignore", "*.tmp\n/cache/\n"),
        ("in/a.tmp", "1"),
        ("in/a.txt", "1"),
        ("in/cache/b.txt", "2"),
        ("in/sub/cache/b.txt", "2"),
        ("in/sub/.roeignore", "b.*\n!keep.tmp\n"),
        ("in/sub/keep.tmp", "3"),
    ];
    let workspace = Workspace::with(&rule("include: '**', hidden: true"), &files);
    assert_eq!(rows(&workspace), ["r in/a.txt", "r in/sub/keep.tmp"]);
    let ran = workspace.run(&["explain", "manifest.yaml", "in/a.tmp", "--sandbox"]);
    assert!(
        ran.stdout.contains(".roeignore hides it, line 1: `*.tmp`"),
        "{}",
        ran.all()
    );
}

#[test]
fn overlap_is_an_error_or_left_to_the_first_or_meant() {
    let of = |overlap: &str| {
        let manifest = format!(
            "version: 1\noverlap: {overlap}\ndefaults: {{root: in}}\nuploads:\n  \
             - {{name: one, include: 'a*'}}\n  \
             - {{name: two, include: '*', file_name: 'copy-${{{{ file.name }}}}'}}\n"
        );
        Workspace::with(&manifest, &[("in/a", "1"), ("in/b", "2")])
    };
    let workspace = of("error");
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert!(ran.stdout.contains("in conflict"), "{}", ran.all());
    assert_eq!(rows(&of("first")), ["one in/a", "two in/b"]);
    let workspace = of("all");
    assert_eq!(rows(&workspace), ["one in/a", "two in/a//two", "two in/b"]);
    let ran = workspace.apply();
    assert!(
        ran.stdout.contains("stored               3"),
        "{}",
        ran.all()
    );
    let ran = workspace.apply();
    assert!(
        ran.stdout.contains("skipped              3"),
        "{}",
        ran.all()
    );
    let stored = roe_batch::sandbox::records(&workspace.at(".roe-batch/sandbox"));
    let mut names: Vec<String> = stored
        .expect("records")
        .into_iter()
        .map(|r| r.name)
        .collect();
    names.sort();
    assert_eq!(names, ["a", "copy-a", "copy-b"]);
    workspace.write("in/a", "changed");
    let ran = workspace.apply();
    assert!(
        ran.stdout.contains("stored               2"),
        "{}",
        ran.all()
    );
}

#[test]
fn which_copy_a_file_is_does_not_change_with_its_age() {
    let workspace = Workspace::with(
        "version: 1
overlap: all
defaults: {root: in, include: '*', on_empty: ignore}
uploads:
  - {name: final, min_age: 1h, metadata: {kind: final}}
  - {name: raw, metadata: {kind: raw}}
",
        &[("in/x", "1")],
    );
    assert_eq!(workspace.apply().code, 0);
    let file = File::options().write(true).open(workspace.at("in/x"));
    let long_ago = SystemTime::now() - Duration::from_hours(2);
    file.expect("a file")
        .set_modified(long_ago)
        .expect("a time");
    let ran = workspace.apply();
    assert!(
        ran.stdout.contains("stored               1"),
        "{}",
        ran.all()
    );
    let stored = roe_batch::sandbox::records(&workspace.at(".roe-batch/sandbox"));
    let mut kinds: Vec<String> = stored
        .expect("records")
        .into_iter()
        .map(|record| serde_json::json!(record.metadata)["kind"].to_string())
        .collect();
    kinds.sort();
    assert_eq!(kinds, [r#""final""#, r#""raw""#]);
}

#[test]
fn what_is_listed_and_left_out_by_a_pattern_is_counted_and_must_be_there() {
    let more = "include: '*.pdf', files_from: [a.txt, b.pdf]";
    let workspace = Workspace::with(&rule(more), &[("in/a.txt", "1"), ("in/b.pdf", "2")]);
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    let expected = "1 file left out: no `include` pattern matches";
    assert!(ran.stdout.contains(expected), "{}", ran.all());
    let workspace = Workspace::with(&rule(more), &[("in/b.pdf", "2")]);
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert!(
        ran.stderr.contains("there is no file `a.txt`"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_time_far_in_the_future_says_nothing_of_an_age() {
    let workspace = Workspace::with(&rule("include: '*', min_age: 1m"), &[("in/x", "1")]);
    let file = File::options().write(true).open(workspace.at("in/x"));
    let far = SystemTime::now() + Duration::from_hours(24 * 365);
    file.expect("a file").set_modified(far).expect("a time");
    assert_eq!(rows(&workspace), ["r in/x"]);
}

#[test]
fn a_list_that_is_a_pipe_or_has_no_lines_is_refused() {
    let workspace = Workspace::with(&rule("files_from: list"), &[("in/x", "1")]);
    let made = std::process::Command::new("mkfifo")
        .arg(workspace.at("list"))
        .status();
    assert!(made.expect("mkfifo runs").success());
    let ran = plan(&workspace);
    assert!(
        ran.stderr
            .contains("the list cannot be read: it is no file"),
        "{}",
        ran.all()
    );
    std::fs::remove_file(workspace.at("list")).expect("removed");
    workspace.write("list", "x".repeat(100_000));
    let ran = plan(&workspace);
    assert!(
        ran.stderr.contains("the path is longer than 64 KiB"),
        "{}",
        ran.all()
    );
}
