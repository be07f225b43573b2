//! `doctor`: each thing that can be wrong is told, with its exit code, and nothing is changed.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use common::{DATASET, KEY, Ran, Workspace, sandbox};
use roe_batch::ledger::StateFolder;
use rusqlite::Connection;
use serde_json::Value;

fn manifest() -> String {
    format!(
        "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}}}\n\
         report: out/report.csv\n"
    )
}

/// A workspace with one file to upload, and a key of this service.
fn workspace(address: &str) -> Workspace {
    let mut workspace = Workspace::with(&manifest(), &[("in/a.txt", "a")]);
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", &format!("http://{address}"));
    workspace
}

/// What it says of each thing that it looks at, and how it ends.
fn doctor(workspace: &Workspace, args: &[&str]) -> (i32, Vec<(String, String, String)>) {
    let args = [&["doctor", "--format", "json"][..], args].concat();
    let ran = workspace.run(&args);
    assert_eq!(ran.stderr, "", "{}", ran.all());
    assert!(!ran.all().contains(KEY), "{}", ran.all());
    let document: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(document["exit_code"], ran.code);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = document["checks"].as_array().expect("checks");
    let told = checks.iter().map(|check| {
        // Who is told of something is told what to do.
        let is_bad = matches!(check["level"].as_str(), Some("problem"));
        assert!(!is_bad || check["help"].is_string(), "{check}");
        let told = format!("{}; {}", text(&check["found"]), text(&check["help"]));
        (text(&check["check"]), text(&check["level"]), told)
    });
    (ran.code, told.collect())
}

/// That it ends so, and says this of a thing at this level, and that nothing else is a problem.
fn assert_told(
    (code, told): &(i32, Vec<(String, String, String)>),
    expected: i32,
    (what, level, words): (&str, &str, &str),
) {
    assert_eq!(*code, expected, "{told:#?}");
    let found = told
        .iter()
        .any(|(name, how, found)| name == what && how == level && found.contains(words));
    assert!(found, "{what} {level} {words} in {told:#?}");
    let mut others = told.iter().filter(|(name, ..)| name != what);
    assert!(others.all(|(_, level, _)| level != "problem"), "{told:#?}");
}

/// Every file below a folder, with size and time of change.
fn listing(folder: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut open = vec![folder.to_owned()];
    let mut found = BTreeMap::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let entry = entry.expect("an entry");
            let about = entry.metadata().expect("its metadata");
            if about.is_dir() {
                open.push(entry.path());
            }
            let size = if about.is_dir() { 0 } else { about.len() };
            // A file without a name changes the time of the folder that it is in.
            let (time, nanos) = if about.is_dir() {
                (0, 0)
            } else {
                (about.mtime(), about.mtime_nsec())
            };
            found.insert(entry.path(), (size, time, nanos));
        }
    }
    found
}

#[test]
fn where_all_is_well_it_says_so_and_changes_nothing() {
    let (_data, server) = sandbox();
    let workspace = workspace(&server.address().to_string());
    for has_run in [false, true] {
        if has_run {
            let ran = workspace.run(&["apply", "manifest.yaml"]);
            assert_eq!(ran.code, 0, "{}", ran.all());
        }
        let before = listing(workspace.path());
        let (code, told) = doctor(&workspace, &["manifest.yaml"]);
        assert_eq!(code, 0, "{told:#?}");
        for (what, level, found) in &told {
            let depends_on_the_machine = ["disk space", "file system", "watches"];
            let is_fine = level == "ok" || depends_on_the_machine.contains(&what.as_str());
            assert!(is_fine, "{what} {found}");
        }
        let names: Vec<&str> = told.iter().map(|(name, ..)| name.as_str()).collect();
        for name in [
            "config",
            "manifest",
            "key",
            "service",
            "clock",
            "dataset",
            "ledger",
            "state folder",
            "reports",
            "disk space",
            "open files",
        ] {
            assert!(names.contains(&name), "{name} in {names:?}");
        }
        assert_eq!(listing(workspace.path()), before);
    }
    let ran = workspace.run(&["doctor", "manifest.yaml"]);
    assert!(
        ran.stdout.ends_with("; nothing was changed\n"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.starts_with("ok "), "{}", ran.stdout);
}

#[test]
fn the_sandbox_and_no_network_need_no_key() {
    let mut workspace = Workspace::with(&manifest(), &[("in/a.txt", "a")]);
    let before = listing(workspace.path());
    let told = doctor(&workspace, &["manifest.yaml", "--sandbox"]);
    assert_told(&told, 0, ("service", "ok", "the sandbox takes the key"));
    assert_told(&told, 0, ("dataset", "ok", DATASET));
    workspace.env("ROE_API_KEY", KEY);
    let told = doctor(&workspace, &["manifest.yaml", "--offline"]);
    assert_told(&told, 0, ("service", "skipped", "--offline"));
    let told = doctor(&workspace, &["--offline"]);
    assert_told(&told, 0, ("ledger", "skipped", "name a manifest"));
    assert_eq!(listing(workspace.path()), before);
}

#[test]
fn a_key_that_is_missing_open_or_refused_is_told() {
    let (_data, server) = sandbox();
    let mut workspace = workspace(&server.address().to_string());
    workspace.write("roe.key", KEY);
    let mode = |mode| {
        let path = workspace.at("roe.key");
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    };
    let args = ["manifest.yaml", "--api-key-file", "roe.key"];
    mode(0o644);
    assert_told(
        &doctor(&workspace, &args),
        77,
        ("key", "problem", "chmod 600"),
    );
    mode(0o640);
    assert_told(
        &doctor(&workspace, &args),
        0,
        ("key", "warning", "chmod 600"),
    );
    mode(0o600);
    assert_told(&doctor(&workspace, &args), 0, ("key", "ok", "roe.key"));
    workspace.env("ROE_API_KEY", "wrong-key");
    let told = doctor(&workspace, &["manifest.yaml"]);
    assert_told(&told, 77, ("service", "problem", "does not take the key"));
    workspace.env("ROE_API_KEY", "");
    let told = doctor(&workspace, &["manifest.yaml"]);
    assert_told(&told, 77, ("key", "problem", "there is no API key"));
}

/// A service that gives one answer to all.
fn answering(head: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).expect("a request");
            let length = body.len();
            let answer =
                format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
            stream.write_all(answer.as_bytes()).expect("answered");
        }
    });
    address
}

#[test]
fn a_service_that_is_none_or_not_there_is_told() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|nobody| nobody.local_addr());
    let free = free.expect("a free port").to_string();
    for (address, level, code, words) in [
        (free, "problem", 69, "cannot be reached"),
        (
            answering("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", "<html>"),
            "problem",
            69,
            "not as Roe's API",
        ),
        (
            answering("HTTP/1.1 302 Found\r\nLocation: /login\r\n", ""),
            "problem",
            69,
            "not as Roe's API",
        ),
        (
            answering("HTTP/1.1 500 Oops\r\n", "{}"),
            "problem",
            69,
            "fails",
        ),
        (
            answering("HTTP/1.1 404 Not Found\r\n", "{}"),
            "warning",
            0,
            "does not say",
        ),
        (
            answering("HTTP/1.1 429 Too Many\r\n", "{}"),
            "warning",
            0,
            "patience",
        ),
    ] {
        let told = doctor(&workspace(&address), &["manifest.yaml"]);
        assert_told(&told, code, ("service", level, words));
    }
    let workspace = workspace("example.com");
    let told = doctor(&workspace, &["manifest.yaml"]);
    assert_told(&told, 64, ("service", "problem", "unencrypted"));
    let args = ["--proxy", "gopher://x", "--base-url", "https://127.0.0.1:9"];
    let told = doctor(&workspace, &args);
    assert_told(&told, 64, ("service", "problem", "proxy"));
}

#[test]
fn a_clock_that_is_wrong_is_told() {
    for (date, words) in [
        (
            "Mon, 06 Jan 2020 10:00:00 GMT",
            "min ahead of the service's",
        ),
        ("Sun, 06 Jan 2182 10:00:00 GMT", "min behind the service's"),
    ] {
        let head = format!("HTTP/1.1 200 OK\r\nDate: {date}\r\n");
        let address = answering(Box::leak(head.into_boxed_str()), "{}");
        let told = doctor(&workspace(&address), &[]);
        assert_told(&told, 69, ("clock", "problem", words));
    }
}

#[test]
fn a_dataset_that_is_not_there_is_told() {
    let (_data, server) = sandbox();
    let workspace = workspace(&server.address().to_string());
    let other = manifest().replace(DATASET, "3f2b7a52-0000-4000-8000-00000000dead");
    workspace.write("manifest.yaml", other);
    let told = doctor(&workspace, &["manifest.yaml"]);
    assert_told(&told, 1, ("dataset", "problem", "none of the service's"));
}

#[test]
fn a_ledger_that_is_damaged_newer_or_in_use_is_told_and_left_alone() {
    let workspace = Workspace::with(&manifest(), &[("in/a.txt", "a")]);
    assert_eq!(workspace.apply().code, 0);
    let args = ["manifest.yaml", "--sandbox"];
    let state = StateFolder::at(&workspace.at(".roe-batch")).expect("a folder");
    let lock = state.lock("process 42, run x").expect("the lock");
    let told = doctor(&workspace, &args);
    assert_told(&told, 0, ("lock", "warning", "process 42"));
    drop(lock);
    assert_told(&doctor(&workspace, &args), 0, ("lock", "ok", "nobody"));
    let ledger = workspace.at(".roe-batch/ledger.sqlite");
    let whole = fs::read(&ledger).expect("a ledger");
    let damaged = {
        let mut bytes = whole.clone();
        let end = bytes.len();
        bytes[4096..end.min(20_000)].fill(0xff);
        bytes
    };
    for (bytes, words) in [
        (damaged, "cannot be used"),
        (
            b"no database, whatever its name says".to_vec(),
            "cannot be used",
        ),
        (Vec::new(), "it is empty"),
    ] {
        fs::write(&ledger, bytes).expect("damaged");
        let before = listing(workspace.path());
        let told = doctor(&workspace, &args);
        assert_told(&told, 74, ("ledger", "problem", words));
        assert_eq!(listing(workspace.path()), before, "no copy is made either");
    }
    fs::write(&ledger, whole).expect("mended");
    let newer = |version: u32| {
        let connection = Connection::open(&ledger).expect("opens");
        let set = connection.pragma_update(None, "user_version", version);
        set.expect("a version");
    };
    newer(99);
    let told = doctor(&workspace, &args);
    assert_told(&told, 74, ("ledger", "problem", "newer"));
    newer(1);
    let told = doctor(&workspace, &args);
    assert_told(&told, 0, ("ledger", "ok", "the next run makes it"));
}

#[test]
fn files_in_doubt_are_told() {
    let workspace = Workspace::with(&manifest(), &[("in/a.txt", "a")]);
    workspace.write("manifest.yaml", manifest() + "run: {in_doubt: hold}\n");
    workspace.write(
        "faults.yaml",
        "faults: [{fault: status, status: 504, stored: true}]\n",
    );
    let apply = [
        "apply",
        "manifest.yaml",
        "--sandbox",
        "--faults",
        "faults.yaml",
    ];
    assert_eq!(workspace.run(&apply).code, 76);
    let told = doctor(&workspace, &["manifest.yaml", "--sandbox"]);
    assert_told(&told, 0, ("doubt", "warning", "1 file in doubt"));
    let journal = workspace.at(".roe-batch/ledger.sqlite-wal");
    assert!(!journal.exists(), "nothing is made beside it");
}

#[test]
fn folders_that_cannot_be_written_to_are_told() {
    let workspace = Workspace::with(&manifest(), &[("in/a.txt", "a")]);
    let limited = |limit: &str| {
        let binary = env!("CARGO_BIN_EXE_roe-batch");
        let line = format!(
            "trap '' XFSZ; ulimit {limit}; {binary} doctor manifest.yaml --offline --sandbox"
        );
        Ran::new(&workspace.shell(&line).output().expect("a shell"))
    };
    // No file may have a byte: as on a full disk.
    let ran = limited("-f 0");
    assert_eq!(ran.code, 74, "{}", ran.all());
    for what in ["state folder", "reports"] {
        let line = ran.stdout.lines().find(|line| line.contains(what));
        let line = line.unwrap_or_else(|| panic!("{what}: {}", ran.all()));
        assert!(
            line.starts_with("problem") && line.contains("cannot be written to"),
            "{line}"
        );
    }
    let told = doctor(
        &workspace,
        &["manifest.yaml", "--sandbox", "--state", "in/a.txt/x"],
    );
    assert_told(
        &told,
        74,
        ("state folder", "problem", "cannot be written to"),
    );
    // And too few files open for what is wanted at once.
    workspace.write("manifest.yaml", manifest() + "run: {concurrency: 64}\n");
    let ran = limited("-n 100");
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(
        ran.stdout.contains("of 64 uploads at once"),
        "{}",
        ran.all()
    );
    assert!(ran.stdout.contains("1 warning"), "{}", ran.all());
}

#[test]
fn a_config_file_or_a_manifest_that_is_wrong_is_told_and_the_rest_is_looked_at() {
    let mut workspace = Workspace::with(&manifest(), &[("in/a.txt", "a")]);
    workspace.write("config.yaml", "timeout: soon\n");
    workspace.env("ROE_BATCH_CONFIG", "config.yaml");
    let told = doctor(&workspace, &["manifest.yaml", "--sandbox"]);
    assert_told(&told, 65, ("config", "problem", "config.yaml is invalid"));
    assert_told(
        &told,
        65,
        ("config", "problem", "`roe-batch config` shows where"),
    );
    assert!(
        told.1.iter().any(|(what, ..)| what == "service"),
        "{told:?}"
    );
    workspace.env("ROE_BATCH_CONFIG", "");
    workspace.write("manifest.yaml", manifest().replace("root", "rot"));
    let told = doctor(&workspace, &["manifest.yaml", "--sandbox"]);
    assert_told(&told, 65, ("manifest", "problem", "1 error"));
    let told = doctor(&workspace, &["\u{1b}[2J.yaml", "--sandbox"]);
    assert_told(&told, 65, ("manifest", "problem", "cannot read \\u{1b}"));
}
