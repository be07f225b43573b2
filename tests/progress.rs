//! What a run tells while it goes on: to a file, a program, a terminal, and when it is asked.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use common::{Ran, Workspace};

const MANIFEST: &str =
    "version: 1\nname: told\nuploads: [{name: all, root: inbox, include: '**'}]\n";

/// One file is stored, one refused, and one is sent twice.
const MIXED: &str = "faults:\n- {fault: status, status: 422, file: '**.bad'}\n\
                     - {fault: status, status: 429, retry_after: 0s, count: 1, file: '**.again'}\n";

fn workspace(faults: &str) -> Workspace {
    let mut workspace = Workspace::with(
        MANIFEST,
        &[
            ("inbox/a.txt", "a"),
            ("inbox/b.bad", "b"),
            ("inbox/c.again", "c"),
        ],
    );
    workspace.write("faults.yaml", faults);
    workspace.env("ROE_RETRY_INITIAL_MS", "1");
    workspace
}

fn apply(workspace: &Workspace, more: &[&str]) -> Ran {
    workspace.run(&arguments(more))
}

fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![
        "apply",
        "manifest.yaml",
        "--sandbox",
        "--faults",
        "faults.yaml",
    ];
    arguments.extend(more);
    arguments
}

fn objects(text: &str) -> Vec<Value> {
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("{why}: {line:?}")))
        .collect()
}

/// A run that is under way, and does not outlive its test.
struct Running {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
}

impl Running {
    fn start(workspace: &Workspace, more: &[&str]) -> Self {
        let mut command = workspace.command(&arguments(more));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        Self { child, stderr }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal is sent");
    }

    /// Reads until a line has these words.
    fn line_with(&mut self, words: &str) -> String {
        let mut all = String::new();
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).expect("text");
            assert!(read > 0, "it ended without \"{words}\":\n{all}");
            if line.contains(words) {
                return line;
            }
            all.push_str(&line);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_short_run_that_is_not_on_a_terminal_says_nothing_of_its_progress() {
    for mode in ["auto", "line", "bar", "none"] {
        let ran = apply(&workspace("faults: []\n"), &["--progress", mode]);
        assert_eq!(
            (ran.code, ran.stderr.as_str()),
            (0, ""),
            "{mode}: {}",
            ran.all()
        );
    }
}

#[test]
fn each_line_about_a_file_says_which_attempt_it_was() {
    let ran = apply(&workspace(MIXED), &["--verbose"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    for (begins, attempt) in [
        ("stored: all: inbox/a.txt: ", 1),
        ("rejected: all: inbox/b.bad: HTTP 422", 1),
        ("retry: all: inbox/c.again: HTTP 429", 1),
        ("stored: all: inbox/c.again: ", 2),
    ] {
        let line = ran.stderr.lines().find(|line| line.starts_with(begins));
        let line = line.unwrap_or_else(|| panic!("{begins}\n{}", ran.all()));
        let behind = format!(" (attempt {attempt}, request ");
        assert!(line.contains(&behind), "{line}");
    }
    let ran = apply(&workspace(MIXED), &[]);
    assert!(!ran.stderr.contains("stored: "), "{}", ran.all());
}

#[test]
fn quiet_is_silent_where_all_is_well_and_tells_of_problems() {
    let well = apply(&workspace("faults: []\n"), &["--quiet"]);
    assert_eq!(well.all(), "exit 0\n--- stdout\n--- stderr\n");
    let ill = apply(&workspace(MIXED), &["--quiet"]);
    assert_eq!(ill.code, 1, "{}", ill.all());
    assert_eq!(ill.stderr.lines().count(), 1, "{}", ill.all());
    assert!(ill.stderr.starts_with("rejected: "), "{}", ill.all());
    assert!(ill.stdout.contains("rejected"), "{}", ill.all());
}

#[test]
fn what_both_streams_would_tell_in_one_place_is_told_once() {
    let apart = apply(&workspace(MIXED), &[]);
    for stream in [&apart.stdout, &apart.stderr] {
        assert!(
            stream.contains("rejected: all: inbox/b.bad"),
            "{}",
            apart.all()
        );
    }
    let workspace = workspace(MIXED);
    let program = env!("CARGO_BIN_EXE_roe-batch");
    let line = format!("'{program}' {}", arguments(&[]).join(" "));
    let output = workspace.shell(&line).output().expect("it runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let told = text.matches("rejected: all: inbox/b.bad").count();
    assert_eq!(told, 1, "{text}");
    assert!(!text.contains("more in the report"), "{text}");
}

#[test]
fn a_log_for_programs_is_json_whatever_files_are_called() {
    let hostile = "in\u{1b}[2J\"\\\n\u{9b}\u{202e}漢.bad";
    let workspace = workspace(MIXED);
    workspace.write(&format!("inbox/{hostile}"), "x");
    let ran = apply(&workspace, &["--log-format", "json", "-v"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(
        !ran.stderr.contains(['\u{1b}', '\u{9b}', '\u{202e}']),
        "{:?}",
        ran.stderr
    );
    let objects = objects(&ran.stderr);
    let path = format!("inbox/{hostile}");
    let found = objects
        .iter()
        .find(|object| object["path"] == path.as_str());
    let found = found.unwrap_or_else(|| panic!("{objects:#?}"));
    assert_eq!(found["event"], "ended");
    assert_eq!(found["outcome"], "rejected");
    for object in &objects {
        assert_eq!(object["kind"], "log");
        for name in ["timestamp", "level", "event"] {
            assert!(object[name].is_string(), "{name} in {object}");
        }
        if object.get("path").is_some() {
            for name in ["rule", "attempt", "request_id"] {
                assert!(!object[name].is_null(), "{name} in {object}");
            }
        }
    }
}

#[test]
fn what_is_said_before_the_run_is_json_too() {
    let workspace = workspace("faults: []\n");
    workspace.write(
        "manifest.yaml",
        "version: 1\nuploads: [{name: a, rot: inbox}]\n",
    );
    let ran = apply(&workspace, &["--log-format", "json"]);
    assert_eq!(ran.code, 65, "{}", ran.all());
    let objects = objects(&ran.stderr);
    assert_eq!(objects[0]["level"], "error", "{objects:#?}");
    let message = objects[0]["message"].as_str().expect("a message");
    assert!(message.contains("`rot`"), "{message}");
}

#[test]
fn progress_for_programs_begins_and_ends_with_an_object() {
    let mut workspace = workspace(MIXED);
    workspace.env("ROE_BATCH_PROGRESS", "json");
    let ran = apply(&workspace, &[]);
    let objects = objects(&ran.stderr);
    let progress: Vec<&Value> = objects.iter().filter(|o| o["kind"] == "progress").collect();
    assert!(progress.len() >= 2, "{objects:#?}");
    let last = progress[progress.len() - 1];
    assert_eq!(
        (&last["files"], &last["files_ended"]),
        (&3.into(), &3.into())
    );
    assert_eq!((&last["failed"], &last["retries"]), (&1.into(), &1.into()));
    assert!(
        objects.iter().any(|o| o["event"] == "retrying"),
        "{objects:#?}"
    );
}

#[test]
fn a_later_run_counts_only_what_is_left() {
    let workspace = workspace(MIXED);
    apply(&workspace, &[]);
    let ran = apply(&workspace, &["--progress", "json"]);
    let objects = objects(&ran.stderr);
    let last = objects
        .iter()
        .rfind(|o| o["kind"] == "progress")
        .expect("one");
    assert_eq!(
        (&last["files"], &last["bytes"]),
        (&1.into(), &1.into()),
        "{last}"
    );
}

#[test]
fn a_mode_that_is_none_is_refused() {
    let mut workspace = workspace("faults: []\n");
    workspace.env("ROE_BATCH_PROGRESS", "loud");
    let ran = apply(&workspace, &[]);
    assert_eq!(ran.code, 64, "{}", ran.all());
    assert!(
        ran.stderr.contains("ROE_BATCH_PROGRESS cannot be used"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_run_that_is_asked_says_how_far_it_is_in_any_mode_and_goes_on() {
    for (more, words) in [
        (
            &["--progress", "none", "--concurrency", "1", "-v"][..],
            "progress: ",
        ),
        (
            &["--progress", "line", "--concurrency", "1", "-v"],
            "progress: ",
        ),
        (
            &[
                "--progress",
                "none",
                "--log-format",
                "json",
                "--concurrency",
                "1",
                "-v",
            ],
            "\"kind\":\"progress\"",
        ),
    ] {
        let workspace =
            workspace("faults:\n- {fault: stall_after_body, for: 5m, file: '**.bad'}\n");
        let mut running = Running::start(&workspace, more);
        running.line_with("stored");
        for _ in 0..2 {
            running.signal(Signal::USR1);
            let line = running.line_with(words);
            assert!(
                line.contains("1 of 3 files") || line.contains("\"files_ended\":1"),
                "{line}"
            );
        }
    }
}

#[test]
fn being_asked_at_any_time_ends_nothing() {
    let workspace = workspace("faults: []\n");
    for _ in 0..8 {
        let mut running = Running::start(&workspace, &["--progress", "json"]);
        // The handler is there before anything is read; from the first object on it is certain.
        running.line_with("{");
        running.signal(Signal::USR1);
        let mut rest = String::new();
        running.stderr.read_to_string(&mut rest).expect("text");
        let status = running.child.wait().expect("its end");
        assert_eq!(status.code(), Some(0), "{status} {rest}");
        std::fs::remove_dir_all(workspace.at(".roe-batch")).expect("a fresh start");
    }
}

#[test]
fn being_asked_while_it_waits_for_its_manifest_ends_nothing() {
    let workspace = workspace("faults: []\n");
    let mut command = workspace.command(&["apply", "-", "--sandbox", "--progress", "json"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let pid = child.id();
    // It catches the signal before it reads the manifest.
    let caught = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = u64::from_str_radix(line.expect("a mask").trim(), 16).expect("a number");
        mask & (1 << (Signal::USR1.as_raw() - 1)) != 0
    };
    while !caught() {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::USR1).expect("a signal is sent");
    let mut stdin = child.stdin.take().expect("its stdin");
    stdin.write_all(MANIFEST.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("its end");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_reader_that_does_not_read_holds_nothing_up() {
    let mut workspace = workspace("faults:\n- {fault: status, status: 422}\n");
    workspace.env("ROE_BATCH_PROGRESS", "line");
    for number in 0..1500 {
        workspace.write(&format!("inbox/{number}.txt"), "x");
    }
    let mut command = workspace.command(&arguments(&[]));
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    // It stays open, and is not read before the end.
    let mut stderr = child.stderr.take().expect("its stderr");
    let mut stdout = String::new();
    let mut out = child.stdout.take().expect("its stdout");
    out.read_to_string(&mut stdout).expect("text");
    assert_eq!(child.wait().expect("its end").code(), Some(1), "{stdout}");
    let mut told = String::new();
    stderr.read_to_string(&mut told).expect("text");
    assert!(told.lines().count() < 1503, "the pipe was not full");
}

#[test]
fn a_closed_stderr_holds_nothing_up() {
    let workspace = workspace(MIXED);
    let program = env!("CARGO_BIN_EXE_roe-batch");
    let more = ["--progress", "json", "-v"];
    let mut command = Command::new("sh");
    let line = format!("exec '{program}' {} 2>&-", arguments(&more).join(" "));
    command
        .args(["-c", &line])
        .current_dir(workspace.path())
        .env_clear();
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

/// Everything that was written to a pseudo-terminal of 80 columns; none where there is none to be had.
fn on_terminal(workspace: &Workspace, environment: &str, more: &[&str]) -> Option<String> {
    let program = env!("CARGO_BIN_EXE_roe-batch");
    let command = format!(
        "stty cols 80 rows 24; {environment} exec '{program}' {}",
        arguments(more).join(" ")
    );
    let output = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .current_dir(workspace.path())
        .env_remove("NO_COLOR")
        .env_remove("ROE_BATCH_PROGRESS")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()
}

/// Lines as they stand on the terminal, without what moves the cursor.
fn rows(text: &str) -> Vec<String> {
    let plain = anstream::adapter::strip_str(text).to_string();
    plain.split(['\n', '\r']).map(str::to_owned).collect()
}

#[test]
fn bars_fit_their_terminal_and_leave_nothing_behind() {
    let name = "long/".repeat(20) + "large.bin";
    let workspace = workspace("faults: []\n");
    workspace.write(&format!("inbox/{name}"), vec![7; 20 * 1024 * 1024]);
    let more = ["--bandwidth", "20MiB/s"];
    let Some(text) = on_terminal(&workspace, "TERM=xterm", &more) else {
        return;
    };
    let bars: Vec<String> = rows(&text)
        .into_iter()
        .filter(|row| row.contains('%'))
        .collect();
    assert!(bars.iter().any(|row| row.starts_with('[')), "{text}");
    assert!(bars.iter().any(|row| row.contains("large.bin")), "{text}");
    for row in &bars {
        assert!(row.chars().count() < 80, "{row}");
    }
    let end = text.rfind("\u{1b}[J").expect("bars are taken off");
    assert!(!text[end..].contains('%'), "{text}");
    assert!(text[end..].contains("told: 4 files planned"), "{text}");
}

#[test]
fn there_are_no_bars_where_they_cannot_be_or_are_not_wanted() {
    for environment in ["TERM=dumb", "TERM=", "TERM=xterm NO_COLOR=1"] {
        let workspace = workspace("faults: []\n");
        workspace.write("inbox/large.bin", vec![7; 8 * 1024 * 1024]);
        let more = ["--bandwidth", "20MiB/s"];
        let Some(text) = on_terminal(&workspace, environment, &more) else {
            return;
        };
        assert!(
            !text.contains('\u{1b}') && !text.contains('%'),
            "{environment}: {text:?}"
        );
        assert!(text.contains("4 files planned"), "{environment}: {text}");
    }
}
