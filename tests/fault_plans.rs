//! Fault plans from the command line: what is refused, and what a rehearsal leaves.

mod common;

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

use common::{KEY, Workspace};

const MANIFEST: &str = "version: 1\nuploads: [{name: all, root: inbox, include: '*'}]\n";

#[test]
fn a_plan_that_is_not_understood_is_refused_before_anything_is_touched() {
    let workspace = Workspace::with(MANIFEST, &[("inbox/a.txt", "a")]);
    workspace.write(
        "plan.yaml",
        "faults:\n- fault: reset_mid_body\n  chance: 1\n",
    );
    for arguments in [
        &["sandbox", "--faults", "plan.yaml"][..],
        &[
            "apply",
            "manifest.yaml",
            "--sandbox",
            "--faults",
            "plan.yaml",
        ],
    ] {
        let ran = workspace.run(arguments);
        assert_eq!(ran.code, 65, "{}", ran.all());
        let expected = "error: plan.yaml, line 3: `reset_mid_body` has no parameter `chance`";
        assert!(ran.stderr.starts_with(expected), "{}", ran.all());
    }
    assert!(!workspace.at(".roe-batch").exists());
    assert!(!workspace.at("roe-sandbox").exists());
    let missing = workspace.run(&["sandbox", "--faults", "nowhere.yaml"]);
    assert_eq!(missing.code, 65, "{}", missing.all());
}

#[test]
fn faults_are_for_the_sandbox_only() {
    let workspace = Workspace::with(MANIFEST, &[("inbox/a.txt", "a")]);
    let ran = workspace.run(&["apply", "manifest.yaml", "--faults", "plan.yaml"]);
    assert_eq!(ran.code, 64, "{}", ran.all());
}

#[test]
fn a_rehearsal_with_apply_meets_its_faults_and_the_next_one_without_them_is_good() {
    let workspace = Workspace::with(MANIFEST, &[("inbox/a.txt", "a"), ("inbox/b.pdf", "b")]);
    let plan = "faults:\n- {fault: status, status: 422, file: '**.pdf'}\n";
    workspace.write("plan.yaml", plan);
    let bad = workspace.run(&[
        "apply",
        "manifest.yaml",
        "--sandbox",
        "--faults",
        "plan.yaml",
    ]);
    assert_eq!(bad.code, 1, "{}", bad.all());
    assert!(
        bad.stdout.contains("Injected by the sandbox's fault plan"),
        "{}",
        bad.all()
    );
    assert_eq!(workspace.apply().code, 0);
}

#[test]
fn the_sandbox_counts_its_faults_when_it_stops() {
    let mut workspace = Workspace::with(MANIFEST, &[("inbox/a.txt", "a"), ("inbox/b.txt", "b")]);
    let plan = "faults:\n- {fault: status, status: 422, count: 1}\n- {fault: refuse, after: 99}\n";
    workspace.write("plan.yaml", plan);
    let mut server = workspace
        .command(&[
            "sandbox",
            "--listen",
            "127.0.0.1:0",
            "--faults",
            "plan.yaml",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the sandbox starts");
    let mut lines = BufReader::new(server.stdout.take().expect("its stdout")).lines();
    let exports = lines.find_map(|line| {
        let line = line.expect("text");
        line.trim().strip_prefix("export ").map(str::to_owned)
    });
    for pair in exports.expect("what to export").split(' ') {
        let (name, value) = pair.split_once('=').expect("a variable");
        assert_ne!(value, KEY);
        workspace.env(name, value);
    }
    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    kill_process(Pid::from_child(&server), Signal::TERM).expect("a signal is sent");
    let mut narration = String::new();
    let mut stderr = server.stderr.take().expect("its stderr");
    stderr.read_to_string(&mut narration).expect("text");
    server.wait().expect("it ends");
    assert!(
        narration.ends_with("1 files stored\n  1 × status\n  0 × refuse\n"),
        "{narration}"
    );
}
