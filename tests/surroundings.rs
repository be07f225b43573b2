//! Where a run finds itself: under cron, in a container, in a pipe that ends early, with nothing to
//! write to. What becomes of the files is the same everywhere.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use common::{Ran, Workspace};
use serde_json::Value;

const FILES: usize = 300;

const MANIFEST: &str = "
version: 1
uploads:
  - name: all
    root: in
    include: '**'
";

fn workspace() -> Workspace {
    let workspace = Workspace::with(MANIFEST, &[]);
    for file in 0..FILES {
        workspace.write(&format!("in/{file:03}.txt"), format!("file {file}"));
    }
    workspace
}

/// That a first run stored every file, and that its report says so.
fn assert_all_stored(workspace: &Workspace) {
    let report = workspace.report();
    assert_eq!(report["header"]["planned"], FILES);
    let files = report["files"].as_array().expect("rows");
    assert_eq!(files.len(), FILES);
    let is_stored =
        |file: &Value| file["outcome"] == "stored" && file["file_id"].as_str().is_some();
    assert!(files.iter().all(is_stored), "{report}");
    let again = workspace.apply();
    assert_eq!(again.code, 0, "{}", again.all());
    assert!(
        again.stdout.contains("nothing to upload"),
        "{}",
        again.all()
    );
}

/// A line for the shell in which `$RUN` is the program.
fn shell(workspace: &Workspace, line: &str) -> std::process::Output {
    let output = Command::new("sh")
        .args(["-c", line])
        .current_dir(workspace.path())
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("RUN", env!("CARGO_BIN_EXE_roe-batch"))
        .output();
    output.expect("a shell")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn a_plan_into_a_pipe_that_is_closed_after_a_line_ends_well() {
    let workspace = workspace();
    for format in ["text", "json", "jsonl"] {
        let mut command = workspace.command(&["plan", "manifest.yaml", "--sandbox"]);
        let mut child = command
            .args(["--format", format])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::with_capacity(1, stdout)
            .read_line(&mut line)
            .expect("a line");
        let output = child.wait_with_output().expect("ended");
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
        assert!(!line.is_empty());
    }
}

#[test]
fn an_upload_whose_output_nobody_reads_uploads_everything() {
    for line in [
        "$RUN apply manifest.yaml --sandbox | head -n 0; exit 0",
        "$RUN apply manifest.yaml --sandbox 2>&1 | true; exit 0",
        "$RUN apply manifest.yaml --sandbox >&-",
        "$RUN apply manifest.yaml --sandbox >&- 2>&- <&-",
    ] {
        let workspace = workspace();
        let output = shell(&workspace, line);
        let said = text(&output.stderr);
        assert_eq!(
            (output.status.code(), said.as_str()),
            (Some(0), ""),
            "{line}"
        );
        assert_all_stored(&workspace);
    }
}

#[test]
fn a_disk_that_is_full_of_output_is_told_by_the_exit_code_and_costs_no_file() {
    let workspace = workspace();
    let output = shell(&workspace, "$RUN apply manifest.yaml --sandbox > /dev/full");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert!(
        said.contains("cannot write to standard output: No space left on device"),
        "{said}"
    );
    assert_all_stored(&workspace);
}

#[test]
fn output_in_a_file_has_no_control_characters() {
    let workspace = workspace();
    let output = shell(
        &workspace,
        "TERM=xterm-256color $RUN apply manifest.yaml --sandbox > out.txt 2> err.txt",
    );
    assert_eq!(output.status.code(), Some(0));
    for name in ["out.txt", "err.txt"] {
        let text = fs::read_to_string(workspace.at(name)).expect("a file");
        let is_plain = |c: char| c == '\n' || !c.is_control();
        assert!(text.chars().all(is_plain), "{text:?}");
    }
    assert_all_stored(&workspace);
}

#[test]
fn a_run_needs_no_home_no_environment_and_no_folder_of_its_own() {
    // In /proc nobody can make a file, whoever he is.
    for (folder, environment) in [
        (
            "/",
            &[
                ("HOME", "/nonexistent"),
                ("PATH", "/usr/bin:/bin"),
                ("SHELL", "/bin/sh"),
            ][..],
        ),
        ("/proc", &[]),
    ] {
        let workspace = workspace();
        let output = Command::new(env!("CARGO_BIN_EXE_roe-batch"))
            .arg("apply")
            .arg(workspace.at("manifest.yaml"))
            .arg("--sandbox")
            .current_dir(folder)
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("run");
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""));
        assert_all_stored(&workspace);
    }
}

#[test]
fn a_folder_that_is_gone_is_no_reason_not_to_upload() {
    let workspace = workspace();
    let output = shell(
        &workspace,
        "at=$PWD; mkdir gone; cd gone; rmdir ../gone; $RUN apply \"$at/manifest.yaml\" --sandbox",
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_all_stored(&workspace);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_told_before_anything_is_sent() {
    let workspace = workspace();
    let manifest = workspace.at("manifest.yaml");
    let args = [
        "apply",
        manifest.to_str().expect("UTF-8"),
        "--sandbox",
        "--state",
        "/proc/state",
    ];
    let ran: Ran = workspace.run(&args);
    assert_eq!(ran.code, 74, "{}", ran.all());
    assert!(ran.stderr.starts_with("error: "), "{}", ran.all());
}

/// The image itself takes a build of the release, which is tried by hand.
#[test]
fn the_image_is_made_with_the_stated_compiler_and_run_by_whom_the_cron_job_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |name: &str| fs::read_to_string(root.join(name)).expect("a file");
    let dockerfile = read("Dockerfile");
    let compiler = format!("FROM rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(dockerfile.contains(&compiler), "{dockerfile}");
    let job = Workspace::with(MANIFEST, &[]).run(&[
        "schedule",
        "kubernetes",
        "manifest.yaml",
        "--image",
        "roe-batch",
    ]);
    let user = dockerfile.split("\nUSER ").nth(1).expect("a user");
    let user = user.split(':').next().expect("a number");
    assert!(
        job.stdout.contains(&format!("runAsUser: {user}\n")),
        "{}",
        job.stdout
    );
    assert!(read(".dockerignore").lines().any(|line| line == "target"));
}
