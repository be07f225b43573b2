//! Judging a run by what the service holds, the ledger knows and the report says.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::ops::AddAssign;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use roe_batch::ledger::{Ledger, SqliteLedger};
use roe_batch::model::Doubt;
use roe_batch::sandbox::{
    EmptyFiles, Faults, Sandbox, SandboxConfig, SandboxDataset, SandboxStats, StoredFile, records,
};
use serde_json::Value;

use super::{DATASET, KEY, Ran, Workspace};

/// No test waits so long: it ends one that would otherwise hang.
pub const SAFETY_NET: Duration = Duration::from_mins(1);

/// A sandbox that can say for certain what it holds, also when clients died on it.
pub struct Service {
    data: tempfile::TempDir,
    address: SocketAddr,
    server: Option<Sandbox>,
    cut_off: u64,
}

impl Service {
    pub fn start() -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Sandbox::start(config(free, data.path())).expect("the sandbox starts");
        Self {
            data,
            address: server.address(),
            server: Some(server),
            cut_off: 0,
        }
    }

    /// Lets the workspace's commands send to this one.
    pub fn serve(&self, workspace: &mut Workspace) {
        workspace.env("ROE_API_KEY", KEY);
        workspace.env("ROE_BASE_URL", &self.url());
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn stats(&self) -> SandboxStats {
        self.server.as_ref().expect("it runs").stats()
    }

    /// Uploads whose client was seen to go before their end; the last ones may not be seen yet.
    pub fn cut_off(&self) -> u64 {
        self.cut_off + self.stats().cut_off
    }

    /// Bytes of unfinished uploads that the server has taken in so far.
    pub fn receiving(&self) -> u64 {
        let folder = fs::read_dir(self.data.path().join("tmp")).expect("its temporary files");
        folder
            .filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()))
            .sum()
    }

    /// Everything stored. What a dead client sent may still lie in a socket, so the server is
    /// stopped first, which reads or drops it, and then started at its old address.
    pub fn settled(&mut self) -> Vec<StoredFile> {
        self.cut_off = self.cut_off();
        drop(self.server.take());
        let stored = records(self.data.path()).expect("records");
        let patience = Instant::now() + SAFETY_NET;
        let server = loop {
            match Sandbox::start(config(self.address, self.data.path())) {
                Ok(server) => break server,
                // Any program's outgoing connection may have the port for a moment.
                Err(error) if Instant::now() > patience => panic!("{}: {error}", self.address),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        self.server = Some(server);
        stored
    }
}

fn config(listen: SocketAddr, data: &Path) -> SandboxConfig {
    SandboxConfig {
        listen,
        data: data.to_owned(),
        api_key: KEY.to_owned(),
        datasets: vec![SandboxDataset {
            id: DATASET.to_owned(),
            name: "tests".to_owned(),
        }],
        empty_files: EmptyFiles::Accept,
        faults: Faults::default(),
    }
}

/// What a ledger has in doubt. Right after a kill there may be no ledger yet; one that is there
/// must open.
pub fn doubts(workspace: &Workspace) -> Vec<Doubt> {
    let path = workspace.at(".roe-batch/ledger.sqlite");
    if !path.exists() {
        return Vec::new();
    }
    let ledger = SqliteLedger::open(&path).expect("the ledger opens");
    ledger.doubts().expect("read")
}

/// `apply` in a shell that has done something before, such as set limits.
pub fn apply_after(workspace: &Workspace, script: &str) -> Ran {
    let binary = workspace.command::<&str>(&[]);
    let mut shell = Command::new("/bin/sh");
    shell
        .args([
            "-c",
            &format!("{script} && exec \"$0\" apply manifest.yaml --in-doubt hold"),
        ])
        .arg(binary.get_program())
        .current_dir(workspace.path())
        .env_clear();
    for (name, value) in binary.get_envs() {
        shell.env(name, value.expect("a value"));
    }
    ran(&shell.output().expect("a shell"))
}

/// What a process left that the test started itself.
pub fn ran(output: &Output) -> Ran {
    Ran::new(output)
}

/// How doubts were settled.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    pub stored: usize,
    pub not_stored: usize,
}

impl Settled {
    pub fn all(self) -> usize {
        self.stored + self.not_stored
    }
}

impl AddAssign for Settled {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.not_stored += other.not_stored;
    }
}

/// Does what a person would do: looks for each file in doubt at the service, by its request, and
/// tells `resolve` what is there.
pub fn settle_by_records(workspace: &Workspace, service: &mut Service) -> Settled {
    let doubts = doubts(workspace);
    let mut settled = Settled::default();
    if doubts.is_empty() {
        return settled;
    }
    let stored = service.settled();
    for doubt in &doubts {
        let request = doubt.attempt.as_str();
        let mut copies = stored
            .iter()
            .filter(|file| file.request_id.as_deref() == Some(request));
        let mut args = vec!["resolve", "manifest.yaml", doubt.path.as_str()];
        if let Some(file) = copies.next() {
            settled.stored += 1;
            args.extend(["--stored", &file.id]);
        } else {
            settled.not_stored += 1;
            args.push("--not-stored");
        }
        assert!(copies.next().is_none(), "{request} is stored twice");
        let ran = workspace.run(&args);
        assert_eq!(ran.code, 0, "{}", ran.all());
    }
    settled
}

/// The rows of a report whose header adds up to them, each once.
pub fn rows(report: &Value) -> &[Value] {
    let rows = report["files"].as_array().expect("rows");
    let header = &report["header"];
    assert_eq!(header["planned"], rows.len(), "{header:#}");
    for (word, count) in header["outcomes"].as_object().expect("counts") {
        let found = rows.iter().filter(|row| row["outcome"] == *word).count();
        assert_eq!(*count, found, "{word} in {header:#}");
    }
    let paths: BTreeSet<&str> = rows
        .iter()
        .map(|row| row["path"].as_str().expect("a path"))
        .collect();
    assert_eq!(paths.len(), rows.len(), "one row for each file");
    rows
}

/// After a run that ended with 0: the service holds each planned file once, byte for byte, and
/// the report has its id. Nothing else is there.
pub fn assert_each_stored_once(workspace: &Workspace, stored: &[StoredFile], files: usize) {
    let report = workspace.report();
    let rows = rows(&report);
    assert_eq!(rows.len(), files);
    assert_eq!(stored.len(), files, "files at the service");
    for row in rows {
        let path = row["path"].as_str().expect("a path");
        let outcome = row["outcome"].as_str().expect("an outcome");
        assert!(["stored", "skipped"].contains(&outcome), "{row:#}");
        let copy = stored
            .iter()
            .find(|file| row["file_id"] == file.id.as_str())
            .unwrap_or_else(|| panic!("{path} is lost"));
        let (here, there) = [workspace.at(path), copy.path.clone()]
            .map(|path| fs::read(path).expect("its bytes"))
            .into();
        assert!(here == there, "{path} was stored with other bytes");
    }
}
