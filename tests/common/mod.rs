//! What every test of the binary needs: a folder of its own, a clean environment, the outcome as
//! one text.

#![allow(
    dead_code,
    reason = "each test file uses its own part of these helpers"
)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use roe_batch::sandbox::{EmptyFiles, Faults, Sandbox, SandboxConfig, SandboxDataset};
use serde_json::Value;

/// The dataset of the examples.
pub const DATASET: &str = "3f2b7a52-0000-4000-8000-000000000001";

/// The key that tests use; no output may ever hold it.
pub const KEY: &str = "s3cret-test-key";

/// A folder with a manifest and files, and the binary to run in it.
pub struct Workspace {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

/// What a run left: exit code and both streams.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn new(output: &Output) -> Self {
        Self {
            code: output.status.code().expect("an exit code"),
            stdout: String::from_utf8(output.stdout.clone()).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr.clone()).expect("UTF-8"),
        }
    }

    /// All of it as one text, for snapshots.
    pub fn all(&self) -> String {
        format!(
            "exit {}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

impl Workspace {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a folder"),
            environment: Vec::new(),
        }
    }

    /// A workspace with this manifest, and files each with some content.
    pub fn with(manifest: &str, files: &[(&str, &str)]) -> Self {
        let workspace = Self::new();
        workspace.write("manifest.yaml", manifest);
        for (name, content) in files {
            workspace.write(name, content);
        }
        workspace
    }

    /// A copy of one of the examples.
    pub fn example(name: &str) -> Self {
        let workspace = Self::new();
        let source = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("examples")
            .join(name);
        copy(&source, workspace.path());
        workspace
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, content).expect("a file");
    }

    pub fn env(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roe-batch"));
        command
            .args(args)
            .current_dir(self.path())
            .env_clear()
            .env("ROE_BATCH_CONFIG", "")
            .envs(self.environment.iter().map(|(k, v)| (k, v)));
        command
    }

    /// A line for the shell, in the folder, both streams as one.
    pub fn shell(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("{{ {line}\n}} 2>&1")])
            .current_dir(self.path())
            .env_clear()
            .env("ROE_BATCH_CONFIG", "")
            .envs(self.environment.iter().map(|(k, v)| (k, v)));
        command
    }

    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Ran {
        Ran::new(&self.command(args).output().expect("the binary runs"))
    }

    pub fn apply(&self) -> Ran {
        self.run(&["apply", "manifest.yaml", "--sandbox"])
    }

    pub fn json(&self, name: &str) -> Value {
        let text = fs::read(self.at(name)).expect("a report");
        serde_json::from_slice(&text).expect("JSON")
    }

    /// The default JSON report.
    pub fn report(&self) -> Value {
        self.json(".roe-batch/reports/manifest.json")
    }
}

/// A sandbox server of its own for a test, in a folder of its own.
pub fn sandbox() -> (tempfile::TempDir, Sandbox) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Sandbox::start(SandboxConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data: folder.path().to_owned(),
        api_key: KEY.to_owned(),
        datasets: vec![SandboxDataset {
            id: DATASET.to_owned(),
            name: "tests".to_owned(),
        }],
        empty_files: EmptyFiles::Accept,
        faults: Faults::default(),
    })
    .expect("the sandbox starts");
    (folder, server)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("listed") {
        let entry = entry.expect("an entry");
        let (name, kind) = (entry.file_name(), entry.file_type().expect("a kind"));
        let hidden = name.to_string_lossy().starts_with('.') || name == "reports";
        if kind.is_dir() && !hidden {
            copy(&entry.path(), &to.join(name));
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(name)).expect("copied");
        }
    }
}

pub mod service;
