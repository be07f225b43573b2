//! Gunicorn with the API of `api.py`, and what it saw.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::common::service::SAFETY_NET;
use crate::common::{KEY, Workspace};
use crate::python::{SCRIPTS, interpreter, isolated};

/// How long the server may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// How gunicorn serves connections.
#[derive(Debug, Clone, Copy)]
pub enum Workers {
    /// Its default: one request, then the connection is closed.
    Sync,
    /// Threads, which keep connections open.
    Threads,
}

/// A running server; it ends when dropped, and when this process dies.
pub struct Django {
    gunicorn: Child,
    data: tempfile::TempDir,
    base: String,
    python: &'static Path,
}

/// What Django REST Framework made of an upload.
#[derive(Debug, Deserialize)]
pub struct Upload {
    pub id: String,
    pub name: String,
    #[serde(flatten)]
    pub payload: Payload,
    pub content_length: Option<String>,
    pub transfer_encoding: Option<String>,
    pub request_id: String,
    pub user_agent: String,
    pub peer_port: String,
}

/// The part of it that must be the same whoever sends it.
#[derive(Debug, PartialEq, Deserialize)]
pub struct Payload {
    pub size: u64,
    pub sha256: String,
    pub content_type: String,
    pub charset: Option<String>,
    pub metadata: Option<Value>,
    pub dataset_id: Option<String>,
    pub organization_id: Option<String>,
}

/// A request that was answered.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub status: u16,
}

impl Django {
    /// None where the test has to be skipped.
    pub fn start(workers: Workers) -> Option<Self> {
        let python = interpreter()?;
        let data = tempfile::tempdir().expect("a folder");
        fs::create_dir(data.path().join("tmp")).expect("a folder");
        let log = File::create(data.path().join("log")).expect("a log");
        let class = match workers {
            Workers::Sync => "sync",
            Workers::Threads => "gthread",
        };
        let gunicorn = isolated(python)
            .args(["-m", "gunicorn", "--config", "gunicorn.conf.py"])
            .arg("django.core.wsgi:get_wsgi_application()")
            .current_dir(SCRIPTS)
            .env_remove("GUNICORN_CMD_ARGS")
            .env("DJANGO_SETTINGS_MODULE", "settings")
            .env("API_KEY", KEY)
            .env("DATA", data.path())
            .env("WORKER_CLASS", class)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("gunicorn starts");
        let mut server = Self {
            gunicorn,
            data,
            base: String::new(),
            python,
        };
        let port = server.at("port");
        server.wait("gunicorn listens", |_| port.exists());
        let port = fs::read_to_string(port).expect("a port");
        server.base = format!("http://127.0.0.1:{port}");
        Some(server)
    }

    /// Lets the workspace's commands send to this one.
    pub fn serve(&self, workspace: &mut Workspace, key: &str) {
        workspace.env("ROE_API_KEY", key);
        workspace.env("ROE_BASE_URL", &self.base);
    }

    /// Sends files as python-requests does, and returns status and answer of each.
    pub fn send_with_requests(&self, folder: &Path, jobs: &Value) -> Vec<(u16, Value)> {
        let mut script = isolated(self.python)
            .arg(Path::new(SCRIPTS).join("send_with_requests.py"))
            .current_dir(folder)
            .env("API_KEY", KEY)
            .env("BASE_URL", &self.base)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let mut stdin = script.stdin.take().expect("a pipe");
        stdin
            .write_all(jobs.to_string().as_bytes())
            .expect("written");
        drop(stdin);
        let output = script.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", self.log());
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    pub fn uploads(&self) -> Vec<Upload> {
        self.lines("uploads.jsonl")
    }

    pub fn requests(&self) -> Vec<Request> {
        self.lines("requests.jsonl")
    }

    /// Those of them that sent something.
    pub fn posts(&self) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.method == "POST");
        requests
    }

    /// Bytes of unfinished large uploads that were taken in so far.
    pub fn receiving(&self) -> u64 {
        let folder = fs::read_dir(self.at("tmp")).expect("its temporary files");
        folder
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum()
    }

    /// Waits for something to come true.
    pub fn wait(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let patience = Instant::now() + SAFETY_NET;
        while !is_so(self) {
            let is_running = matches!(self.gunicorn.try_wait(), Ok(None));
            assert!(
                is_running && Instant::now() < patience,
                "{what}: not so\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn log(&self) -> String {
        let log = fs::read(self.at("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    fn lines<T: DeserializeOwned>(&self, name: &str) -> Vec<T> {
        let text = fs::read_to_string(self.at(name)).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }
}

impl Drop for Django {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.gunicorn), Signal::QUIT);
        let patience = Instant::now() + GRACE;
        while matches!(self.gunicorn.try_wait(), Ok(None)) {
            if Instant::now() > patience {
                let _ = self.gunicorn.kill();
                let _ = self.gunicorn.wait();
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
