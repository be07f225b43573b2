//! `init` looks at a folder and writes a manifest that plans at once: every file that it saw, once.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use common::{Ran, Workspace};
use serde_json::Value;

/// What was planned: paths, with each file's metadata.
type Planned = BTreeMap<String, Value>;

fn tree(files: &[&str]) -> Workspace {
    let workspace = Workspace::new();
    for file in files {
        workspace.write(file, *file);
    }
    workspace
}

fn init(workspace: &Workspace, args: &[&str]) -> Ran {
    let args: Vec<&str> = ["init"].iter().chain(args).copied().collect();
    workspace.run(&args)
}

/// Writes the manifest, and plans with it: nothing may be said against it, and no file may be
/// planned twice.
fn planned(workspace: &Workspace) -> Planned {
    let ran = init(workspace, &[]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(ran.stdout, "");
    plan(workspace, "roe-batch.yaml")
}

fn plan(workspace: &Workspace, manifest: &str) -> Planned {
    let ran = workspace.run(&["plan", manifest, "--sandbox", "--format", "json"]);
    let text = || fs::read_to_string(workspace.at(manifest)).expect("a manifest");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", text());
    let checked = workspace.run(&["check", manifest, "--strict"]);
    assert_eq!(checked.code, 0, "{}\n{}", checked.all(), text());
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let mut planned = Planned::new();
    for row in plan["files"].as_array().expect("rows") {
        assert_eq!(row["action"], "upload", "{row:#}\n{}", text());
        let path = row["path"].as_str().expect("a path").to_owned();
        let before = planned.insert(path, row["metadata"].clone());
        assert!(before.is_none(), "{row:#} is planned twice\n{}", text());
    }
    planned
}

fn paths(planned: &Planned) -> Vec<&str> {
    planned.keys().map(String::as_str).collect()
}

fn manifest(workspace: &Workspace) -> String {
    fs::read_to_string(workspace.at("roe-batch.yaml")).expect("a manifest")
}

fn assert_all_planned(files: &[&str]) -> (Workspace, Planned) {
    let workspace = tree(files);
    let planned = planned(&workspace);
    let expected: BTreeSet<&str> = files.iter().copied().collect();
    let found: BTreeSet<&str> = planned.keys().map(String::as_str).collect();
    assert_eq!(found, expected, "{}", manifest(&workspace));
    (workspace, planned)
}

#[test]
fn folders_and_kinds_become_rules_and_years_become_metadata() {
    let (workspace, planned) = assert_all_planned(&[
        "invoices/2024/acme/1.pdf",
        "invoices/2025/acme/2.PDF",
        "media/a.png",
        "media/talk.mp3",
        "notes/deep/er/a.md",
        "notes/b.txt",
        "readme.txt",
    ]);
    assert_eq!(planned["invoices/2025/acme/2.PDF"]["year"], "2025");
    assert_eq!(planned["notes/b.txt"], serde_json::json!({}));
    let text = manifest(&workspace);
    for line in [
        r#"include: ["invoices/**/*.{PDF,pdf}"]"#,
        r"capture: '^invoices/(?<year>\d{4})/'",
        r#"include: ["media/**/*.mp3"]"#,
        r#"include: ["media/**/*.png"]"#,
        r#"include: ["notes/**/*.{md,txt}"]"#,
        r#"include: ["*.txt"]"#,
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn years_at_the_top_are_one_rule_that_takes_the_next_year_too() {
    let (workspace, planned) =
        assert_all_planned(&["2024/03/31/a.pdf", "2025/12/01/b.pdf", "2025/01/31/c.pdf"]);
    let date = serde_json::json!({"year": "2024", "month": "03", "day": "31"});
    assert_eq!(planned["2024/03/31/a.pdf"], date);
    workspace.write("2026/01/01/d.pdf", "new");
    assert!(plan(&workspace, "roe-batch.yaml").contains_key("2026/01/01/d.pdf"));
}

#[test]
fn many_folders_are_one_rule_that_names_them() {
    let files: Vec<String> = (0..40)
        .map(|n| format!("vendor {n:02}/2024/{n}.pdf"))
        .collect();
    let mut files: Vec<&str> = files.iter().map(String::as_str).collect();
    files.push("list.txt");
    let (workspace, planned) = assert_all_planned(&files);
    let metadata = &planned["vendor 07/2024/7.pdf"];
    assert_eq!(
        metadata,
        &serde_json::json!({"folder": "vendor 07", "year": "2024"})
    );
    assert_eq!(manifest(&workspace).matches("- name:").count(), 2);
}

#[test]
fn unknown_kinds_and_names_without_extension_are_taken_too() {
    assert_all_planned(&[
        "Makefile",
        "a.xyz",
        "b.pdf",
        "in/LICENSE",
        "in/a.pdf",
        "in/b.f00",
    ]);
    assert_all_planned(&["in/a.pdf", "in/b.png", "in/c.txt", "in/d.mp4", "in/e.zip"]);
}

#[test]
fn hostile_names_are_quoted_and_stay_what_they_are() {
    let (workspace, planned) = assert_all_planned(&[
        "'single' \"double\": #/a.pdf",
        "- dash/a.pdf",
        "${{ file.name }}/a.pdf",
        "*?[a-z]{b,c}!\\/a.pdf",
        "true/a.pdf",
        "007/a.pdf",
        "R\u{202e}fdp/a\nb.pdf",
        "é 漢 🎉/${{ x }}.pdf",
        "&anchor/a.pdf",
        " /a.pdf",
    ]);
    let text = manifest(&workspace);
    assert!(!text.contains('\u{202e}'), "{text}");
    assert!(planned.contains_key("R\u{202e}fdp/a\nb.pdf"));
    // Each folder is its own rule's, and nothing else is.
    workspace.write("xyb/a.pdf", "not seen by init");
    assert!(!plan(&workspace, "roe-batch.yaml").contains_key("xyb/a.pdf"));
}

#[test]
fn a_folder_with_a_control_character_is_told_and_left_out() {
    let workspace = tree(&["a\u{1b}[2J\nb/x.pdf", "ok/x.pdf"]);
    assert_eq!(paths(&planned(&workspace)), ["ok/x.pdf"]);
    let text = manifest(&workspace);
    assert!(
        text.contains("# Note: no rule takes what lies in \"a\\u{1b}[2J\\nb\""),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn nothing_becomes_a_template_that_plans() {
    let workspace = Workspace::new();
    let ran = init(&workspace, &[]);
    assert!(ran.stderr.contains("it is a template"), "{}", ran.stderr);
    assert!(plan(&workspace, "roe-batch.yaml").is_empty());
    workspace.write("in/first.pdf", "x");
    assert_eq!(paths(&plan(&workspace, "roe-batch.yaml")), ["in/first.pdf"]);
}

#[test]
fn what_nobody_wants_to_upload_is_left_out_and_what_only_sounds_so_is_not() {
    let workspace = tree(&[
        ".git/config",
        ".roe-batch/reports/x.csv",
        "code/Cargo.toml",
        "code/target/debug/a.txt",
        "code/web/node_modules/x/index.txt",
        "images/target/a.png",
        "images/Thumbs.db",
        "images/b.png.part",
        "images/~$c.docx",
        "reports/latest.csv",
        "reports/latest.json",
    ]);
    let planned = planned(&workspace);
    assert_eq!(paths(&planned), ["code/Cargo.toml", "images/target/a.png"]);
    let text = manifest(&workspace);
    for line in [
        "- \"code/target/**\"",
        "- \"**/node_modules/**\"",
        "# Note: left out as made by programs: code/target/, code/web/node_modules/, \
         images/Thumbs.db and 1 more.",
        "# Note: left out as still being written: images/b.png.part.",
        "# Note: left out as reports of earlier runs: reports/latest.csv, reports/latest.json.",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let (_, planned) = assert_all_planned(&["reports/2024/q1.pdf", "reports/2024/q1.csv"]);
    assert_eq!(planned["reports/2024/q1.pdf"]["year"], "2024");
}

#[test]
fn the_state_folder_is_left_out_wherever_it_is() {
    let mut workspace = tree(&["in/a.txt", "state/reports/x.csv"]);
    let state = workspace.at("state").display().to_string();
    workspace.env("ROE_BATCH_STATE", &state);
    assert_eq!(paths(&planned(&workspace)).len(), 1);
    let text = manifest(&workspace);
    assert_eq!(text.matches("- name:").count(), 1, "{text}");
    assert!(!text.contains("state"), "{text}");
}

#[test]
fn a_table_at_the_top_is_joined_to_the_files_it_names() {
    let workspace = tree(&["in/1.pdf", "in/2.pdf", "other/x.png"]);
    workspace.write(
        "customers.csv",
        "file,customer,note\n1.pdf,Acme,a\n2.pdf,Globex,b\n",
    );
    let planned = planned(&workspace);
    let customer = serde_json::json!({"customer": "Globex", "note": "b"});
    assert_eq!(planned["in/2.pdf"], customer, "{}", manifest(&workspace));
    assert_eq!(paths(&planned), ["in/1.pdf", "in/2.pdf", "other/x.png"]);
}

#[test]
fn a_table_may_know_more_and_less_than_there_is() {
    let workspace = tree(&["in/1.pdf", "in/2.pdf", "in/3.pdf"]);
    workspace.write(
        "list: a.csv",
        "date;path\nx;in/1.pdf\ny;in/2.pdf\nz;in/9.pdf\n",
    );
    let ran = init(&workspace, &[]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let text = manifest(&workspace);
    for line in [
        "path: \"list: a.csv\"",
        "match: ${{ file.path }}",
        "delimiter: \";\"",
        "files_without_row: warn",
        "rows_without_file: ignore",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let plan = workspace.run(&["plan", "roe-batch.yaml", "--sandbox"]);
    assert_eq!(plan.code, 0, "{}", plan.all());
    assert!(plan.stdout.contains("3 files planned"), "{}", plan.all());
}

#[test]
fn a_table_that_names_no_files_is_a_file() {
    let workspace = tree(&["in/1.pdf"]);
    workspace.write("prices.csv", "item,price\napple,1\n");
    workspace.write("twice.csv", "file,page\n1.pdf,1\n1.pdf,2\n");
    workspace.write("broken.tsv", b"\xff\tfile\n1.pdf\t2\n");
    let planned = planned(&workspace);
    assert_eq!(
        paths(&planned),
        ["broken.tsv", "in/1.pdf", "prices.csv", "twice.csv"]
    );
}

#[test]
fn files_beside_others_of_the_same_name_are_sidecars_where_they_can_be() {
    let workspace = tree(&["a/1.png", "a/2.png", "b/1.jpg", "b/2.jpg", "c/1.jpg"]);
    workspace.write("a/1.png.meta.yaml", "camera: X100\niso: 0400\n");
    workspace.write("b/1.json", "{\"who\": \"Ada\"}");
    workspace.write("c/1.json", "{\"boxes\": [1, 2]}");
    let planned = planned(&workspace);
    let camera = serde_json::json!({"camera": "X100", "iso": "0400"});
    assert_eq!(planned["a/1.png"], camera, "{}", manifest(&workspace));
    assert_eq!(planned["b/1.jpg"], serde_json::json!({"who": "Ada"}));
    assert_eq!(
        paths(&planned),
        [
            "a/1.png", "a/2.png", "b/1.jpg", "b/2.jpg", "c/1.jpg", "c/1.json"
        ]
    );
}

#[test]
fn what_a_roeignore_file_hides_is_not_there() {
    let workspace = tree(&[
        "in/a.pdf",
        "in/old/b.docx",
        "tmp/c.png",
        "web/node_modules/d.txt",
        "web/e.html",
    ]);
    workspace.write(".roeignore", "tmp/\nnode_modules/\n");
    workspace.write("in/.roeignore", "*.docx\n");
    let planned = planned(&workspace);
    assert_eq!(paths(&planned), ["in/a.pdf", "web/e.html"]);
    let text = manifest(&workspace);
    assert_eq!(text.matches("- name:").count(), 2, "{text}");
    assert!(!text.contains("node_modules"), "{text}");
}

#[test]
fn links_and_names_that_are_no_text_are_told() {
    let workspace = tree(&["in/a.pdf"]);
    symlink("a.pdf", workspace.at("in/link.pdf")).expect("a link");
    let odd = workspace.at("in").join(OsStr::from_bytes(b"caf\xe9.pdf"));
    fs::write(odd, "x").expect("a file");
    assert_eq!(init(&workspace, &[]).code, 0);
    let text = manifest(&workspace);
    assert!(
        text.contains("# Note: 2 things here cannot be uploaded"),
        "{text}"
    );
    let plan = workspace.run(&["plan", "roe-batch.yaml", "--sandbox"]);
    assert_eq!(plan.code, 0, "{}", plan.all());
    assert!(plan.stdout.contains("1 to upload"), "{}", plan.all());
}

#[test]
fn a_manifest_that_is_there_is_never_overwritten() {
    let workspace = tree(&["a.txt", "roe-batch.yaml"]);
    let ran = init(&workspace, &[]);
    assert_eq!(ran.code, 64, "{}", ran.all());
    assert!(ran.stderr.contains("--out"), "{}", ran.stderr);
    assert_eq!(manifest(&workspace), "roe-batch.yaml");
    symlink("nowhere", workspace.at("link.yaml")).expect("a link");
    assert_eq!(init(&workspace, &["--out", "link.yaml"]).code, 64);
    assert!(!workspace.at("nowhere").exists());
}

#[test]
fn the_manifest_may_lie_elsewhere_or_go_to_standard_output() {
    let folder = "in ${{ x }}: \"box\"";
    let workspace = tree(&[&format!("{folder}/a.pdf"), "conf/x"]);
    let ran = init(&workspace, &[folder, "--out", "-"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    workspace.write("printed.yaml", &ran.stdout);
    assert_eq!(
        paths(&plan(&workspace, "printed.yaml")),
        [format!("{folder}/a.pdf")]
    );
    for out in ["conf/m.yaml", "m.yaml", "in ${{ x }}: \"box\"/m.yaml"] {
        let ran = init(&workspace, &[folder, "--out", out]);
        assert_eq!(ran.code, 0, "{}", ran.all());
        assert_eq!(plan(&workspace, out).len(), 1);
    }
}

#[test]
fn a_manifest_among_the_files_does_not_take_itself() {
    let workspace = tree(&["a.yaml", "b.xyz"]);
    assert_eq!(paths(&planned(&workspace)), ["a.yaml", "b.xyz"]);
}

#[test]
fn the_next_commands_can_be_copied() {
    let workspace = tree(&["my files/a.pdf"]);
    let ran = init(&workspace, &["my files"]);
    assert_eq!(
        ran.all(),
        "exit 0\n--- stdout\n--- stderr\n\
         wrote my files/roe-batch.yaml: 1 rule for 1 file (14 B)\n\
         next:\n  \
         roe-batch plan 'my files/roe-batch.yaml' --sandbox\n  \
         roe-batch apply 'my files/roe-batch.yaml' --sandbox\n"
    );
}

#[test]
fn what_is_no_folder_is_refused() {
    let workspace = tree(&["a.txt"]);
    for args in [
        ["nope", "--out=x"],
        ["a.txt", "--out=x"],
        [".", "--out=no/where.yaml"],
    ] {
        let ran = init(&workspace, &args);
        assert_eq!(ran.code, 64, "{}", ran.all());
        assert!(ran.stderr.contains("cannot look into"), "{}", ran.stderr);
    }
}

#[test]
fn a_look_is_bounded_and_says_so() {
    let workspace = Workspace::new();
    workspace.write("near/a.pdf", "x");
    fs::create_dir(workspace.at("many")).expect("a folder");
    for number in 0..20_000 {
        fs::write(workspace.at(format!("many/{number}.txt")), "").expect("a file");
    }
    assert_eq!(init(&workspace, &[]).code, 0);
    let text = manifest(&workspace);
    assert!(
        text.contains("# Note: 20,000 files and folders were looked at"),
        "{text}"
    );
    assert_eq!(plan(&workspace, "roe-batch.yaml").len(), 20_000);
}
