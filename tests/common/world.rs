//! A manifest and its files, a server that misbehaves, and the program between them.

#![allow(
    dead_code,
    reason = "each test file uses its own part of these helpers"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal as Posix, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::bad_server::{Act, BadServer, SAFETY_NET, Upload};

/// Found nowhere but in one header.
pub const KEY: &str = "sk-Do-Not-Write-Me-Down-0123456789";

/// Sent whole, in one write behind the gate.
pub const SMALL: u64 = 5 * 1024;

/// Streamed, and small enough to be sent whole whatever the server does.
pub const LARGE: u64 = 300 * 1024;

/// Streamed, and more than the sockets between two processes take in (on Linux up to 32 MiB on the
/// receiving side and 4 MiB on the sending one): its end is not sent while the server does not
/// read.
pub const HUGE: u64 = 64 * 1024 * 1024;

/// From this size on files are holes.
const HOLLOW: u64 = 8 * 1024 * 1024;

pub const MANIFEST: &str = "\
version: 1
name: faults
uploads:
  - {name: all, root: inbox, include: \"**\"}
";

/// A folder with a manifest and files, and the service it is applied to.
pub struct World {
    pub folder: TempDir,
    pub server: Option<BadServer>,
    pub base_url: String,
}

impl World {
    pub fn new(script: impl Fn(&Upload) -> Act + Send + Sync + 'static) -> Self {
        Self::with(BadServer::start(0, 0, script))
    }

    pub fn with(server: BadServer) -> Self {
        let mut world = Self::without_server(server.port());
        world.server = Some(server);
        world
    }

    pub fn without_server(port: u16) -> Self {
        let world = Self {
            folder: TempDir::new().expect("a folder"),
            server: None,
            base_url: format!("http://127.0.0.1:{port}"),
        };
        for folder in ["home", "work/inbox"] {
            fs::create_dir_all(world.folder.path().join(folder)).expect("a folder");
        }
        world.manifest(MANIFEST)
    }

    pub fn manifest(self, text: &str) -> Self {
        fs::write(self.work().join("manifest.yaml"), text).expect("a manifest");
        self
    }

    /// A file of this size; the bytes of a large one are a hole, which is quick to make.
    pub fn file(self, name: &str, size: u64) -> Self {
        let path = self.inbox(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        if size >= HOLLOW {
            let file = File::create(path).expect("a file");
            file.set_len(size).expect("its size");
        } else {
            let bytes: Vec<u8> = (0_u8..=250)
                .cycle()
                .take(usize::try_from(size).expect("a size"))
                .collect();
            fs::write(path, bytes).expect("a file");
        }
        self
    }

    pub fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub fn inbox(&self, name: &str) -> PathBuf {
        self.work().join("inbox").join(name)
    }

    pub fn server(&self) -> &BadServer {
        self.server.as_ref().expect("a server")
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        let path = std::env::var_os("PATH").expect("PATH");
        let mut child = Command::new(env!("CARGO_BIN_EXE_roe-batch"))
            .args(["apply", "manifest.yaml"])
            .args(arguments)
            .current_dir(self.work())
            .env_clear()
            .env("ROE_BATCH_CONFIG", "")
            .env("PATH", path)
            .env("HOME", self.folder.path().join("home"))
            .env("ROE_API_KEY", KEY)
            .env("ROE_BASE_URL", &self.base_url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut stdout = child.stdout.take().expect("its stdout");
        let stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        let (sender, lines) = mpsc::channel();
        Running {
            child,
            stdout: Some(thread::spawn(move || {
                let mut text = String::new();
                stdout.read_to_string(&mut text).expect("text");
                text
            })),
            lines,
            stderr: String::new(),
            reader: Some(thread::spawn(move || {
                for line in stderr.lines() {
                    // A test that has failed no longer listens.
                    let _ = sender.send(line.expect("text"));
                }
            })),
        }
    }

    /// Runs the program to its end and reads its report.
    pub fn apply(&self, arguments: &[&str]) -> Ran {
        self.end(self.start(arguments))
    }

    /// Waits for a run's end and reads its report.
    pub fn end(&self, running: Running) -> Ran {
        let (code, stdout, stderr) = running.end();
        for text in [&stdout, &stderr] {
            assert!(!text.contains(KEY), "the key was shown:\n{text}");
        }
        assert_key_is_in_no_file(self.folder.path());
        let path = self.work().join(".roe-batch/reports/manifest.json");
        let text =
            fs::read(path).unwrap_or_else(|error| panic!("{error}: no report\n{stdout}{stderr}"));
        let report: Value = serde_json::from_slice(&text).expect("a report in JSON");
        let rows = report["files"].as_array().expect("rows");
        let header = &report["header"];
        assert_eq!(header["planned"], rows.len(), "{report:#}");
        assert_eq!(header["exit_code"], code, "{report:#}");
        for (word, count) in header["outcomes"].as_object().expect("counts") {
            let found = rows.iter().filter(|row| row["outcome"] == *word).count();
            assert_eq!(*count, found, "{word} in {report:#}");
        }
        Ran {
            code,
            stdout,
            stderr,
            report,
        }
    }

    /// Ends the server and says what reached it. Nothing but uploads may have gone anywhere else
    /// than to documented paths, and no redirect may have been followed.
    pub fn finish(mut self) -> Vec<Upload> {
        let server = self.server.take().expect("a server");
        let others = server.others();
        let uploads = server.finish();
        assert!(
            others.iter().all(|line| line.starts_with("GET /v1/")),
            "{others:?}"
        );
        for upload in &uploads {
            let authorization = upload.headers.get("authorization");
            assert_eq!(
                authorization.map(String::as_str),
                Some(format!("Bearer {KEY}").as_str())
            );
            assert!(!upload.headers.contains_key("transfer-encoding"));
        }
        uploads
    }
}

/// Looks at the bytes of every file, so also at databases and write-ahead logs.
pub fn assert_key_is_in_no_file(folder: &Path) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, found) = (entry.path(), entry.metadata().expect("its metadata"));
        if found.is_dir() {
            assert_key_is_in_no_file(&path);
        } else if found.len() < HUGE / 2 {
            let bytes = fs::read(&path).expect("its bytes");
            let key = KEY.as_bytes();
            assert!(
                !bytes.windows(key.len()).any(|window| window == key),
                "the key is in {}",
                path.display()
            );
        }
    }
}

/// The program while it runs. It does not outlive its test.
pub struct Running {
    pub child: Child,
    pub stdout: Option<JoinHandle<String>>,
    pub lines: Receiver<String>,
    pub stderr: String,
    pub reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Waits until the program has said this on stderr.
    pub fn until_it_says(&mut self, words: &str) {
        loop {
            let line = self.lines.recv_timeout(SAFETY_NET);
            let Ok(line) = line else {
                panic!("it did not say \"{words}\": {}", self.stderr);
            };
            self.stderr.push_str(&line);
            self.stderr.push('\n');
            if line.contains(words) {
                return;
            }
        }
    }

    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Posix::TERM).expect("a signal is sent");
    }

    /// Exit code, stdout and stderr.
    pub fn end(mut self) -> (i32, String, String) {
        loop {
            match self.lines.recv_timeout(SAFETY_NET) {
                Ok(line) => {
                    self.stderr.push_str(&line);
                    self.stderr.push('\n');
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs: {}", self.stderr),
            }
        }
        let status = self.child.wait().expect("its end");
        let stdout = self.stdout.take().expect("a reader").join().expect("text");
        self.reader.take().expect("a reader").join().expect("text");
        let code = status
            .code()
            .unwrap_or_else(|| panic!("{status}: {}", self.stderr));
        (code, stdout, std::mem::take(&mut self.stderr))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors say that it has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A run that ended.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub report: Value,
}

impl Ran {
    pub fn row(&self, path: &str) -> &Value {
        let rows = self.report["files"].as_array().expect("rows");
        let path = format!("inbox/{path}");
        rows.iter()
            .find(|row| row["path"] == path.as_str())
            .unwrap_or_else(|| panic!("no row for {path} in {:#}", self.report))
    }

    pub fn outcome(&self, path: &str) -> &str {
        self.row(path)["outcome"].as_str().expect("an outcome")
    }

    /// Paths and outcomes, in the report's order.
    pub fn outcomes(&self) -> Vec<(&str, &str)> {
        let rows = self.report["files"].as_array().expect("rows");
        rows.iter()
            .map(|row| {
                let path = row["path"].as_str().expect("a path");
                let outcome = row["outcome"].as_str().expect("an outcome");
                (path.trim_start_matches("inbox/"), outcome)
            })
            .collect()
    }
}
