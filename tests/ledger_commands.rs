//! What the ledger gives back: status, reports, imports, and what it is told to forget.

#![expect(
    clippy::needless_raw_string_hashes,
    reason = "the snapshot tool writes them so"
)]

mod common;
#[path = "common/proxy.rs"]
mod proxy;

use std::fs;
use std::path::PathBuf;

use common::{DATASET, KEY, Workspace, sandbox};
use proxy::{Fate, Listing, Proxy};
use roe_batch::ledger::SqliteLedger;
use roe_batch::sandbox::records;
use snapbox::{assert_data_eq, str};

fn manifest(keys: &str) -> String {
    format!(
        "version: 1\nname: tests\nuploads:\n- {{name: all, root: in, include: '**', on_empty: ignore, \
         dataset_id: {DATASET}, {keys}}}\n"
    )
}

fn three_files() -> Workspace {
    let files = [("in/a.txt", "aaa"), ("in/b.txt", "bb"), ("in/c.txt", "c")];
    Workspace::with(&manifest(""), &files)
}

/// Everything that differs from run to run, taken out.
fn redacted(text: &str) -> String {
    let is_id = |word: &str| word.len() == 36 && word.matches('-').count() == 4;
    let is_time = |word: &str| word.len() == 20 && word.ends_with('Z');
    let mut lines = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line
            .split(' ')
            .map(|word| match word {
                word if is_id(word) => "[ID]",
                word if is_time(word) => "[TIME]",
                word => word,
            })
            .collect();
        lines.push(words.join(" "));
    }
    lines.join("\n") + "\n"
}

fn stored_count(workspace: &Workspace) -> usize {
    records(&workspace.at(".roe-batch/sandbox"))
        .expect("records")
        .len()
}

#[test]
fn any_runs_report_can_be_had_again_byte_for_byte() {
    let workspace = three_files();
    let mut written = Vec::new();
    for change in [None, None, Some("in/d.txt"), Some("in/a.txt")] {
        if let Some(name) = change {
            workspace.write(name, "another content");
        }
        assert_eq!(workspace.apply().code, 0);
        let report = workspace.report();
        let id = report["header"]["run_id"]
            .as_str()
            .expect("an id")
            .to_owned();
        let json = fs::read_to_string(workspace.at(".roe-batch/reports/manifest.json"));
        let csv = fs::read_to_string(workspace.at(".roe-batch/reports/manifest.csv"));
        written.push((id, json.expect("read"), csv.expect("read")));
    }
    for (id, json, csv) in &written {
        let again = |format: &str| {
            let ran = workspace.run(&["report", "manifest.yaml", "--run", id, "--format", format]);
            assert_eq!(ran.code, 0, "{}", ran.all());
            ran.stdout
        };
        assert_eq!(again("json"), *json);
        assert_eq!(again("csv"), *csv);
    }
    let latest = workspace.run(&["report", "manifest.yaml"]);
    assert_eq!(latest.stdout, written[3].2);
    let ran = workspace.run(&["report", "manifest.yaml", "--out", "deep/er.json"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let out = fs::read_to_string(workspace.at("deep/er.json")).expect("written");
    assert_eq!(out, written[3].1);
}

#[test]
fn all_files_have_a_row_in_the_map_of_everything() {
    let workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    fs::remove_file(workspace.at("in/b.txt")).expect("removed");
    workspace.write("in/d.txt", "d");
    assert_eq!(workspace.apply().code, 0);
    let ran = workspace.run(&["report", "manifest.yaml", "--all"]);
    let mut reader = csv::Reader::from_reader(ran.stdout.as_bytes());
    let rows: Vec<(String, bool)> = reader
        .records()
        .map(|row| row.expect("a row"))
        .map(|row| (row[1].to_owned(), !row[5].is_empty()))
        .collect();
    let expected = ["in/a.txt", "in/b.txt", "in/c.txt", "in/d.txt"];
    assert_eq!(rows, expected.map(|path| (path.to_owned(), true)));
}

#[test]
fn status_says_where_files_stand() {
    let mut workspace = three_files();
    let (_data, server) = sandbox();
    let fates: &[(&str, &[Fate])] = &[("filename=\"b.txt\"", &[Fate::StoredUnanswered])];
    let proxy = Proxy::start(server.address(), Listing::Absent, fates);
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", &proxy.url());
    let ran = workspace.run(&["status", "manifest.yaml"]);
    assert!(ran.stderr.contains("there is no ledger"), "{}", ran.all());
    assert_eq!(ran.code, 74);
    let big = "x".repeat(300);
    workspace.write(&format!("in/{}.txt", &big[..200]), "long");
    let ran = workspace.run(&["apply", "manifest.yaml", "--in-doubt", "hold"]);
    assert_eq!(ran.code, 76, "{}", ran.all());
    fs::remove_file(workspace.at(format!("in/{}.txt", &big[..200]))).expect("removed");
    let ran = workspace.run(&["apply", "manifest.yaml", "--in-doubt", "hold"]);
    assert_eq!(ran.code, 76, "{}", ran.all());
    let ran = workspace.run(&["status", "manifest.yaml"]);
    assert_data_eq!(
        redacted(&ran.all()),
        str![[r#"
exit 0
--- stdout
tests: 3 files in the plan of the last run
         stored  skipped  rejected  failed  in doubt  not attempted
  all         0        2         0       0         1              0
gone from the source: 1 file stored before
in doubt: in/b.txt: the connection was lost: connection closed before message completed
runs, the latest first
  [TIME]  [ID]  exit 76  2 skipped, 1 in doubt
  [TIME]  [ID]  exit 76  3 stored, 1 in doubt
--- stderr

"#]]
    );
    let ran = workspace.run(&["status", "manifest.yaml", "--format", "json"]);
    let status: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(status["total"]["in_doubt"], 1);
    assert_eq!(status["total"]["skipped"], 2);
    assert_eq!(status["rules"][0]["rule"], "all");
    assert_eq!(status["in_doubt"][0]["path"], "in/b.txt");
    assert_eq!(status["vanished"], 1);
    assert_eq!(status["runs"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_ledgers_commands_say_what_they_need() {
    let workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    for (args, code, says) in [
        (
            &["report", "manifest.yaml", "--run", "nonsense"][..],
            64,
            "there is no run \"nonsense\"",
        ),
        (
            &["report", "manifest.yaml", "--out", "report.xlsx"],
            64,
            "chooses no format",
        ),
        (
            &["report", "manifest.yaml", "--run", "x", "--all"],
            64,
            "cannot be used with",
        ),
        (&["forget", "manifest.yaml"], 64, "required"),
        (
            &["forget", "manifest.yaml", "in/z.txt"],
            64,
            "knows no file \"in/z.txt\"",
        ),
        (&["status", "nowhere.yaml"], 65, "cannot read nowhere.yaml"),
        (
            &["import", "manifest.yaml", "nowhere.csv", "--sandbox"],
            65,
            "cannot import nowhere.csv",
        ),
    ] {
        let ran = workspace.run(args);
        assert_eq!(ran.code, code, "{}", ran.all());
        assert!(ran.stderr.contains(says), "{}", ran.all());
    }
}

#[test]
fn what_another_program_uploaded_is_adopted_and_not_sent_again() {
    let workspace = three_files();
    let home = fs::canonicalize(workspace.path()).expect("a path");
    let absolute = home.join("in/b.txt");
    workspace.write(
        "map.csv",
        format!(
            "\u{feff}file_id,when,path\nid-a,x,./in/a.txt\nid-b,x,{}\n,x,in/c.txt\n",
            absolute.display()
        ),
    );
    let ran = workspace.run(&["import", "manifest.yaml", "map.csv", "--sandbox"]);
    assert_eq!(
        ran.all(),
        "exit 0\n--- stdout\nimported 2 files, 1 without an ID\n--- stderr\n"
    );
    let ran = workspace.run(&["import", "manifest.yaml", "map.csv", "--sandbox"]);
    assert_eq!(
        ran.stdout,
        "imported 0 files, 2 known already, 1 without an ID\n"
    );
    let ran = workspace.apply();
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(stored_count(&workspace), 1, "only c was sent");
    let report = workspace.report();
    let rows = report["files"].as_array().expect("rows");
    assert_eq!(rows[0]["file_id"], "id-a");
    assert_eq!(rows[1]["file_id"], "id-b");
    workspace.write("in/a.txt", "a new version");
    assert_eq!(workspace.apply().code, 0);
    assert_eq!(stored_count(&workspace), 2, "what changed since is sent");
}

#[test]
fn a_table_with_a_mistake_is_not_imported_at_all() {
    let workspace = three_files();
    workspace.write(
        "map.csv",
        "path,file_id\nin/a.txt,id-a\nin/gone.txt,id-g\nin/a.txt,id-x\nb.txt,id-a\nin/c.txt,id-c\n",
    );
    let ran = workspace.run(&["import", "manifest.yaml", "map.csv", "--sandbox"]);
    assert_data_eq!(
        ran.all(),
        str![[r#"
exit 65
--- stdout
--- stderr
line 3: "in/gone.txt": no rule of the manifest takes a file of this path
line 4: "in/a.txt": line 2 has this file too
line 5: "b.txt": in/a.txt has this file_id already
error: 3 rows of the table cannot be imported; nothing was

"#]]
    );
    let left = [
        "import",
        "manifest.yaml",
        "map.csv",
        "--sandbox",
        "--ignore-missing",
    ];
    assert_eq!(workspace.run(&left).code, 65);
    workspace.write("map.csv", "path,file_id\nin/gone.txt,id-g\nin/c.txt,id-c\n");
    let ran = workspace.run(&left);
    assert_eq!(
        ran.stdout,
        "imported 1 file, 1 not in the plan and left out\n"
    );
    workspace.write("map.csv", "path,file_id\nin/c.txt,another\n");
    let ran = workspace.run(&left);
    assert!(
        ran.stderr.contains("not under this file_id"),
        "{}",
        ran.all()
    );
    workspace.write("map.csv", "name,id\nx,y\n");
    let ran = workspace.run(&left);
    assert!(ran.stderr.contains("no column `path`"), "{}", ran.all());
}

#[test]
fn a_lost_ledger_comes_back_from_the_last_report() {
    let workspace = three_files();
    workspace.write("in/=odd.txt", "a name that a spreadsheet would run");
    assert_eq!(workspace.apply().code, 0);
    let report = workspace.at(".roe-batch/reports/manifest.csv");
    fs::copy(report, workspace.at("last.csv")).expect("copied");
    fs::remove_file(workspace.at(".roe-batch/ledger.sqlite")).expect("removed");
    let ran = workspace.run(&["import", "manifest.yaml", "last.csv", "--sandbox"]);
    assert_eq!(ran.stdout, "imported 4 files\n", "{}", ran.all());
    let ran = workspace.apply();
    assert!(ran.stdout.contains("nothing to upload"), "{}", ran.all());
    assert_eq!(stored_count(&workspace), 4);
}

#[test]
fn a_forgotten_file_is_sent_again_and_a_vanished_one_is_counted_until_then() {
    let workspace = three_files();
    workspace.write("in/sub/d.txt", "d");
    workspace.write("in/sub/e.txt", "e");
    assert_eq!(workspace.apply().code, 0);
    let ran = workspace.run(&["forget", "manifest.yaml", "in/a.txt", "in/sub/"]);
    assert!(ran.stdout.starts_with("forgot 3 files;"), "{}", ran.all());
    assert_eq!(workspace.apply().code, 0);
    assert_eq!(stored_count(&workspace), 8);
    fs::remove_file(workspace.at("in/b.txt")).expect("removed");
    let ran = workspace.apply();
    assert!(
        ran.stdout.contains("1 file stored before is gone"),
        "{}",
        ran.all()
    );
    assert_eq!(workspace.report()["header"]["vanished"], 1);
    let ran = workspace.run(&["forget", "manifest.yaml", "--vanished"]);
    assert!(ran.stdout.starts_with("forgot 1 file;"), "{}", ran.all());
    let ran = workspace.apply();
    assert!(!ran.stdout.contains("gone"), "{}", ran.all());
    assert_eq!(stored_count(&workspace), 8);
}

#[test]
fn a_moved_file_keeps_its_id_and_is_not_sent_again() {
    let workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    let before = workspace.report();
    fs::create_dir(workspace.at("in/moved")).expect("a folder");
    fs::rename(workspace.at("in/a.txt"), workspace.at("in/moved/a.txt")).expect("moved");
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert!(
        ran.stdout.contains("1 stored before at another path"),
        "{}",
        ran.all()
    );
    for _ in 0..2 {
        assert_eq!(workspace.apply().code, 0);
        let after = workspace.report();
        let rows = after["files"].as_array().expect("rows");
        assert_eq!(rows[2]["path"], "in/moved/a.txt");
        assert_eq!(rows[2]["file_id"], before["files"][0]["file_id"]);
        assert_eq!(rows[2]["outcome"], "skipped");
        assert_eq!(after["header"]["vanished"], 0);
    }
    assert_eq!(stored_count(&workspace), 3);
}

#[test]
fn a_changed_file_is_treated_as_its_rule_says() {
    for (keys, code, stored) in [
        ("on_change: upload", 0, 4),
        ("on_change: skip", 0, 3),
        ("on_change: fail", 1, 3),
    ] {
        let workspace = three_files();
        workspace.write("manifest.yaml", manifest(keys));
        assert_eq!(workspace.apply().code, 0);
        workspace.write("in/a.txt", "a new version");
        let ran = workspace.apply();
        assert_eq!(ran.code, code, "{keys}: {}", ran.all());
        assert_eq!(stored_count(&workspace), stored, "{keys}");
    }
}

#[test]
fn changed_metadata_is_a_notice_or_an_upload() {
    let workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    workspace.write("manifest.yaml", manifest("metadata: {k: v}"));
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert!(
        ran.stdout.contains("3 with other metadata than was stored"),
        "{}",
        ran.all()
    );
    assert_eq!(workspace.apply().code, 0);
    assert_eq!(stored_count(&workspace), 3);
    let keys = "metadata: {k: v}, on_metadata_change: upload";
    workspace.write("manifest.yaml", manifest(keys));
    for _ in 0..2 {
        assert_eq!(workspace.apply().code, 0);
        assert_eq!(stored_count(&workspace), 6);
    }
}

#[test]
fn a_plan_can_tell_scripts_whether_work_is_pending() {
    let workspace = three_files();
    let plan = ["plan", "manifest.yaml", "--sandbox", "--detailed-exitcode"];
    assert_eq!(workspace.run(&plan).code, 2);
    assert_eq!(workspace.run(&plan[..3]).code, 0);
    assert_eq!(workspace.apply().code, 0);
    assert_eq!(workspace.run(&plan).code, 0);
}

#[test]
fn a_damaged_ledger_is_refused_and_a_copy_of_it_kept() {
    let workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    let ledger = workspace.at(".roe-batch/ledger.sqlite");
    let mut bytes = fs::read(&ledger).expect("read");
    bytes[4096..].fill(0x5A);
    fs::write(&ledger, &bytes).expect("damaged");
    let copies = || -> Vec<PathBuf> {
        let entries = fs::read_dir(workspace.at(".roe-batch")).expect("listed");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths
            .filter(|path| path.to_string_lossy().contains(".damaged-"))
            .filter(|path| !path.to_string_lossy().ends_with("-wal"))
            .collect()
    };
    for _ in 0..2 {
        let ran = workspace.apply();
        assert_eq!(ran.code, 74, "{}", ran.all());
        assert!(ran.stderr.contains("is damaged"), "{}", ran.all());
        assert!(ran.stderr.contains("a copy is kept as"), "{}", ran.all());
        assert_eq!(copies().len(), 1);
        assert_eq!(fs::read(&copies()[0]).expect("read"), bytes);
    }
    assert_eq!(stored_count(&workspace), 3);
}

#[test]
fn an_older_ledger_is_planned_with_after_the_next_run() {
    let workspace = three_files();
    fs::create_dir(workspace.at(".roe-batch")).expect("a folder");
    let path = workspace.at(".roe-batch/ledger.sqlite");
    let old = include_str!("../src/ledger/sqlite/version_1.sql");
    rusqlite::Connection::open(&path)
        .and_then(|connection| connection.execute_batch(old))
        .expect("an old ledger");
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert_eq!(ran.code, 74, "{}", ran.all());
    assert!(ran.stderr.contains("older roe-batch"), "{}", ran.all());
    let ran = workspace.apply();
    assert_eq!(ran.code, 0, "{}", ran.all());
    let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(
        SqliteLedger::open_read_only(&path)
            .expect("opens")
            .is_some()
    );
}

#[test]
fn a_run_waits_for_another_as_long_as_it_is_told() {
    let workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    let lock = fs::File::open(workspace.at(".roe-batch/lock")).expect("a lock");
    lock.lock().expect("locked");
    let args = ["apply", "manifest.yaml", "--sandbox", "--wait", "0.2"];
    let ran = workspace.run(&args);
    assert_eq!(ran.code, 75, "{}", ran.all());
    assert!(
        ran.stderr.contains("waiting for another run"),
        "{}",
        ran.all()
    );
    let mut child = workspace
        .command(&["apply", "manifest.yaml", "--sandbox", "--wait", "1m"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut line = String::new();
    let stderr = child.stderr.take().expect("piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).expect("a line");
    assert!(line.contains("waiting for another run"), "{line}");
    drop(lock);
    assert_eq!(child.wait().expect("ended").code(), Some(0));
}

#[test]
fn a_report_is_imported_only_where_its_content_and_dataset_are_what_is_there() {
    let workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    let report = workspace.at(".roe-batch/reports/manifest.csv");
    let report = fs::read_to_string(report).expect("a report");
    fs::remove_file(workspace.at(".roe-batch/ledger.sqlite")).expect("removed");
    let import = ["import", "manifest.yaml", "map.csv", "--sandbox"];
    workspace.write("map.csv", &report);
    workspace.write("in/a.txt", "edited since");
    let ran = workspace.run(&import);
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(
        ran.stderr.contains("is not what was stored"),
        "{}",
        ran.all()
    );
    let other = "3f2b7a52-0000-4000-8000-00000000000f";
    for (table, says) in [
        (report.replace(DATASET, other), "where no rule sends it"),
        ("path,file_id\n\"in/a.txt,id\n".to_owned(), "cannot import"),
        ("path,file_id\nin/a.txt\n".to_owned(), "cannot import"),
        ("path,file_id,path\na,b,c\n".to_owned(), "two columns"),
        (
            "path,file_id,outcome\nin/a.txt,,in_doubt\n".to_owned(),
            "says in_doubt and has no file_id",
        ),
    ] {
        workspace.write("map.csv", table);
        let ran = workspace.run(&import);
        assert_eq!(ran.code, 65, "{}", ran.all());
        assert!(ran.stderr.contains(says), "{}", ran.all());
    }
    let lines: Vec<&str> = report.lines().filter(|l| !l.contains("in/a.txt")).collect();
    workspace.write("map.csv", lines.join("\n"));
    let ran = workspace.run(&import);
    assert_eq!(ran.stdout, "imported 2 files\n", "{}", ran.all());
    assert_eq!(workspace.apply().code, 0);
    assert_eq!(stored_count(&workspace), 4, "what was edited is sent");
}

#[test]
fn a_folder_that_is_not_mounted_makes_nothing_forgotten() {
    let workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    fs::rename(workspace.at("in"), workspace.at("away")).expect("moved");
    let ran = workspace.run(&["forget", "manifest.yaml", "--vanished"]);
    assert_eq!(ran.code, 64, "{}", ran.all());
    assert!(ran.stderr.contains("is its folder there?"), "{}", ran.all());
    fs::rename(workspace.at("away"), workspace.at("in")).expect("back");
    let ran = workspace.apply();
    assert!(ran.stdout.contains("nothing to upload"), "{}", ran.all());
}

#[test]
fn an_empty_ledger_is_not_taken_for_a_new_one() {
    let workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    workspace.write(".roe-batch/ledger.sqlite", "");
    for args in [
        &["apply", "manifest.yaml", "--sandbox"][..],
        &["plan", "manifest.yaml", "--sandbox"],
        &["status", "manifest.yaml"],
        &["resolve", "manifest.yaml"],
    ] {
        let ran = workspace.run(args);
        assert_eq!(ran.code, 74, "{}", ran.all());
        assert!(ran.stderr.contains("it is empty"), "{}", ran.all());
    }
    assert_eq!(stored_count(&workspace), 3);
}

#[test]
fn a_manifest_that_cannot_be_read_has_no_status() {
    let workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    workspace.write("manifest.yaml", "uploads: [");
    let ran = workspace.run(&["status", "manifest.yaml"]);
    assert_eq!(ran.code, 65, "{}", ran.all());
}

#[test]
fn files_that_are_new_only_because_the_target_is_another_are_warned_of() {
    let mut workspace = three_files();
    assert_eq!(workspace.apply().code, 0);
    workspace.write("in/d.txt", "d");
    let quiet = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert_eq!(quiet.stderr, "");
    workspace.env("ROE_ORGANIZATION_ID", "team-7");
    let expected = format!(
        "warning: 3 files of the new ones are stored at dataset {DATASET} at sandbox; they will be \
         stored at the target of this plan too\n"
    );
    let plan = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert_eq!(plan.stderr, expected);
    let ran = workspace.apply();
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(ran.stderr.starts_with(&expected), "{}", ran.all());
    let again = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
    assert_eq!(again.stderr, "", "nothing is new any more");
}
