//! Every exit code of the table, each brought about for real.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bad_server::{Act, BadServer, Signal, http};
use common::service::{Service, apply_after, assert_each_stored_once, rows, settle_by_records};
use common::{DATASET, KEY, Ran, Workspace};
use roe_batch::ledger::SqliteLedger;
use rustix::process::{Pid, Signal as Posix, kill_process};

/// All that a run may ever end with; 2 is for `plan` alone.
const DOCUMENTED: [i32; 13] = [0, 1, 64, 65, 69, 70, 74, 75, 76, 77, 129, 130, 143];

fn manifest() -> String {
    format!(
        "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}}}\n"
    )
}

/// A workspace with one file to upload.
fn workspace() -> Workspace {
    Workspace::with(&manifest(), &[("in/a.txt", "a")])
}

fn at_port(workspace: &mut Workspace, port: u16) {
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", &format!("http://127.0.0.1:{port}"));
}

/// The run exits so, and its report says so and adds up.
fn assert_run(workspace: &Workspace, ran: &Ran, code: i32, outcome: &str) {
    assert_eq!(ran.code, code, "{}", ran.all());
    let report = workspace.report();
    assert_eq!(report["header"]["exit_code"], code, "{}", ran.all());
    let rows = rows(&report);
    let found = rows.iter().any(|row| row["outcome"] == outcome);
    assert!(found, "{outcome} in {report:#}");
}

/// Applies to a service that treats each upload so.
fn applied(act: fn() -> Act) -> (Workspace, Ran) {
    let server = BadServer::start(0, 0, move |_| act());
    let mut workspace = workspace();
    at_port(&mut workspace, server.port());
    let ran = workspace.run(&["apply", "manifest.yaml", "--max-attempts", "1"]);
    assert_eq!(server.finish().len(), 1, "{}", ran.all());
    (workspace, ran)
}

#[test]
fn code_0_is_for_files_that_are_stored_or_were_already() {
    let workspace = workspace();
    for outcome in ["stored", "skipped"] {
        assert_run(&workspace, &workspace.apply(), 0, outcome);
    }
}

#[test]
fn code_1_is_for_files_that_failed_or_were_rejected() {
    let (workspace, ran) = applied(|| Act::answer(http(422, &[], "{}")));
    assert_run(&workspace, &ran, 1, "rejected");
    let workspace = Workspace::with(&manifest(), &[("in/a.txt", "a")]);
    symlink("a.txt", workspace.at("in/link")).expect("a link");
    assert_run(&workspace, &workspace.apply(), 1, "failed");
}

#[test]
fn code_64_is_for_a_wrong_command_line() {
    let workspace = workspace();
    workspace.apply();
    for args in [
        &["aply", "manifest.yaml"][..],
        &["apply"],
        &["apply", "manifest.yaml", "--concurrency", "0"],
        &["apply", "manifest.yaml", "--base-url", "http://example.com"],
        &[
            "apply",
            "manifest.yaml",
            "--sandbox",
            "--report",
            "report.doc",
        ],
        &["resolve", "manifest.yaml", "in/a.txt", "--not-stored"],
    ] {
        let ran = workspace.run(args);
        assert_eq!(ran.code, 64, "{args:?}: {}", ran.all());
    }
}

#[test]
fn code_65_is_for_a_manifest_that_is_invalid_or_missing() {
    let workspace = workspace();
    for text in ["", "version: 1\nuploads: [\n", "version: 2\nuploads: []\n"] {
        workspace.write("manifest.yaml", text);
        let ran = workspace.apply();
        assert_eq!(ran.code, 65, "{text}: {}", ran.all());
    }
    let ran = workspace.run(&["apply", "missing.yaml", "--sandbox"]);
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(!workspace.at(".roe-batch").exists(), "nothing was touched");
}

#[test]
fn code_69_is_for_a_service_that_is_not_there_or_is_another() {
    let mut workspace = workspace();
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|nobody| nobody.local_addr())
        .expect("a free port")
        .port();
    at_port(&mut workspace, port);
    let ran = workspace.run(&["apply", "manifest.yaml", "--max-attempts", "1"]);
    assert_run(&workspace, &ran, 69, "not_attempted");
    let (workspace, ran) = applied(|| Act::answer(http(302, &[("Location", "/login")], "")));
    assert_run(&workspace, &ran, 69, "failed");
}

/// Where the operating system refuses what every run needs, at whatever step, the program says so,
/// and what it did until then is known.
#[test]
#[expect(clippy::print_stderr, reason = "for people who ask with --nocapture")]
fn code_70_is_for_a_run_that_gets_no_runtime_and_too_few_descriptors_do_no_other_harm() {
    let mut service = Service::start();
    let mut codes: BTreeMap<i32, Vec<u32>> = BTreeMap::new();
    for limit in 4..=40 {
        let mut workspace = workspace();
        workspace.write("in/large.bin", vec![b'x'; 100_000]);
        service.serve(&mut workspace);
        let before = service.settled().len();
        let ran = apply_after(&workspace, &format!("ulimit -n {limit}"));
        let shown = format!("{limit} descriptors: {}", ran.all());
        assert!(DOCUMENTED.contains(&ran.code), "{shown}");
        assert!(!ran.stderr.contains("panicked"), "{shown}");
        if ran.code != 0 {
            assert!(
                ran.stderr.contains("error:") || ran.stdout.contains("planned"),
                "{shown}"
            );
        }
        codes.entry(ran.code).or_default().push(limit);

        settle_by_records(&workspace, &mut service);
        let last = workspace.run(&["apply", "manifest.yaml"]);
        assert_eq!(last.code, 0, "{shown}\nthen {}", last.all());
        assert_each_stored_once(&workspace, &service.settled()[before..], 2);
    }
    eprintln!("codes by descriptors: {codes:?}");
    assert!(codes.contains_key(&70), "{codes:?}");
    assert!(codes.contains_key(&0), "{codes:?}");
}

#[test]
fn code_74_is_for_a_ledger_report_or_output_that_cannot_be_written() {
    let workspace = workspace();
    workspace.write("file", "in the way");
    std::fs::create_dir(workspace.at("folder.json")).expect("a folder in the way");
    for (option, place) in [
        ("--state", "file"),
        ("--report", "folder.json"),
        ("--report", "file/a.csv"),
    ] {
        let ran = workspace.run(&["apply", "manifest.yaml", "--sandbox", option, place]);
        assert_eq!(ran.code, 74, "{option} {place}: {}", ran.all());
        assert!(ran.stderr.contains(place), "{}", ran.all());
    }
    // Nothing was sent until now.
    assert_run(&workspace, &workspace.apply(), 0, "stored");

    let Ok(full) = File::options().write(true).open("/dev/full") else {
        return;
    };
    let output = workspace
        .command(&["apply", "manifest.yaml", "--sandbox"])
        .stdout(full)
        .output();
    let ran = common::service::ran(&output.expect("the binary runs"));
    assert_eq!(ran.code, 74, "{}", ran.all());
}

#[test]
fn code_75_is_for_a_run_that_finds_another_under_way() {
    let (begun, go_on) = (Signal::new(), Signal::new());
    let server = {
        let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
        BadServer::start(0, 0, move |upload| {
            begun.set();
            go_on.wait();
            Act::store(upload)
        })
    };
    let mut workspace = workspace();
    at_port(&mut workspace, server.port());
    let apply = ["apply", "manifest.yaml"];
    let mut first = workspace
        .command(&apply)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    begun.wait();
    for args in [&apply[..], &["resolve", "manifest.yaml"]] {
        let ran = workspace.run(args);
        assert_eq!(ran.code, 75, "{args:?}: {}", ran.all());
    }
    go_on.set();
    assert!(first.wait().expect("its end").success());
    assert_eq!(server.finish().len(), 1);
    assert_eq!(rows(&workspace.report())[0]["outcome"], "stored");
}

#[test]
fn code_76_is_for_files_in_doubt() {
    let (workspace, ran) = applied(Act::swallow);
    assert_run(&workspace, &ran, 76, "in_doubt");
    let ran = workspace.run(&["resolve", "manifest.yaml"]);
    assert_eq!(ran.code, 76, "{}", ran.all());
    let ran = workspace.run(&["resolve", "manifest.yaml", "in/a.txt", "--stored", "id"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
}

#[test]
fn code_77_is_for_a_key_that_is_missing_or_refused() {
    let ran = workspace().run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 77, "{}", ran.all());
    let (workspace, ran) = applied(|| Act::answer(http(401, &[], "{}")));
    assert_run(&workspace, &ran, 77, "failed");
}

/// The signal comes while the service is provably busy with an upload, which may still end.
#[test]
fn codes_129_130_and_143_are_for_the_signals_that_end_a_run() {
    for (signal, name, code) in [
        (Posix::HUP, "SIGHUP", 129),
        (Posix::INT, "SIGINT", 130),
        (Posix::TERM, "SIGTERM", 143),
    ] {
        let (begun, told) = (Signal::new(), Signal::new());
        let server = {
            let (begun, told) = (Arc::clone(&begun), Arc::clone(&told));
            BadServer::start(0, 0, move |upload| {
                begun.set();
                told.wait();
                Act::store(upload)
            })
        };
        let mut workspace = workspace();
        workspace.write("in/b.txt", "b");
        at_port(&mut workspace, server.port());
        let mut child = workspace
            .command(&[
                "apply",
                "manifest.yaml",
                "--concurrency",
                "1",
                "--grace",
                "60",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        begun.wait();
        kill_process(Pid::from_child(&child), signal).expect("a signal is sent");
        let mut stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("text");
        assert!(line.starts_with(name), "{line}");
        told.set();
        stderr.read_to_string(&mut line).expect("text");
        let status = child.wait().expect("its end");
        assert_eq!(status.code(), Some(code), "{status}: {line}");

        assert_eq!(server.finish().len(), 1, "{line}");
        let report = workspace.report();
        assert_eq!(report["header"]["exit_code"], code);
        let outcomes: Vec<_> = rows(&report).iter().map(|row| &row["outcome"]).collect();
        assert_eq!(outcomes, ["stored", "not_attempted"], "{name}: {line}");
    }
}

/// Whether a process has a handler for a signal (`SigCgt` in proc(5)).
fn catches(pid: u32, signal: Posix) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let mask = u64::from_str_radix(line.expect("a mask").trim(), 16).expect("hexadecimal");
    mask >> (signal.as_raw() - 1) & 1 == 1
}

#[test]
fn a_signal_that_comes_while_the_plan_is_written_down_leaves_a_report_too() {
    let server = BadServer::start(0, 0, Act::store);
    let mut workspace = workspace();
    at_port(&mut workspace, server.port());
    fs::create_dir(workspace.at(".roe-batch")).expect("a folder");
    let path = workspace.at(".roe-batch/ledger.sqlite");
    drop(SqliteLedger::open(&path).expect("a ledger"));

    // As anybody may hold it who has the ledger open.
    let other = rusqlite::Connection::open(&path).expect("a ledger");
    other.execute_batch("BEGIN IMMEDIATE").expect("a lock");
    let mut child = workspace
        .command(&["apply", "manifest.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    while !catches(child.id(), Posix::TERM) {
        assert!(child.try_wait().expect("a child").is_none(), "it ended");
        thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Posix::TERM).expect("a signal is sent");
    other.execute_batch("ROLLBACK").expect("no lock");
    let status = child.wait().expect("its end");
    assert_eq!(status.code(), Some(143), "{status}");
    let report = workspace.report();
    assert_eq!(report["header"]["exit_code"], 143);
    assert_eq!(rows(&report)[0]["outcome"], "not_attempted");
    assert_eq!(server.finish().len(), 0);
}
