//! The kill sweep can fail: with the commit gate taken out, kills make files be stored twice, and
//! with the gate back in the same harness they do not.
//!
//! The gate is taken out by a ledger that says "durable" before it is ([`Ungated`]). The process
//! that is killed is this binary again, running `one_run_to_be_killed` alone. `ROE_BATCH_SEED`
//! chooses the instants.

mod common;
#[path = "common/engine.rs"]
mod engine;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::ops::Bound;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{DATASET, KEY, Workspace, sandbox};
use engine::Engine;
use jiff::Timestamp;
use roe_batch::event::Event;
use roe_batch::ledger::{
    Entry, Ledger, LedgerError, PlannedRow, RunEnd, RunRecord, RunStart, SqliteLedger, State,
    StoredSample, Take, Transition,
};
use roe_batch::model::{AttemptId, Doubt, FileId, KnownFile, Outcome, RunId, SourcePath, Target};
use roe_batch::sandbox::records;

const CONCURRENCY: u32 = 8;

/// Files that a sweep begins with; as many again whenever a run ends before its kill.
const FILES: usize = 400;

/// Kills without a duplicate after which the control itself has failed.
const KILLS_MAX: usize = 200;

/// Kills that the gate has to stand at the least.
const KILLS_MIN: usize = 20;

/// What the child prints when it begins to send.
const BEGAN: &str = "the uploads begin";

/// Where the child learns what to do.
const GATE_VARIABLE: &str = "ROE_BATCH_CONTROL_GATE";
const FOLDER_VARIABLE: &str = "ROE_BATCH_CONTROL_FOLDER";
const URL_VARIABLE: &str = "ROE_BATCH_CONTROL_URL";

/// Whether the end of a body waits for the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Shut,
    Absent,
}

impl Gate {
    fn word(self) -> &'static str {
        match self {
            Self::Shut => "shut",
            Self::Absent => "absent",
        }
    }
}

/// A ledger without the gate: it says at once that an attempt may be released, and writes that
/// down only together with the attempt's end.
#[derive(Debug)]
struct Ungated {
    inner: SqliteLedger,
    held: HashMap<AttemptId, Vec<Transition>>,
}

impl Ledger for Ungated {
    fn write(&mut self, group: &[Entry]) -> Result<(), LedgerError> {
        let mut written = Vec::new();
        for entry in group {
            match entry {
                Entry::Step(step) if matches!(step.state, State::Opened | State::Committing) => {
                    let held = self.held.entry(step.attempt.clone()).or_default();
                    held.push(step.clone());
                }
                Entry::Step(step) => {
                    let held = self.held.remove(&step.attempt).unwrap_or_default();
                    written.extend(held.into_iter().map(Entry::Step));
                    written.push(entry.clone());
                }
                _ => written.push(entry.clone()),
            }
        }
        if written.is_empty() {
            return Ok(());
        }
        self.inner.write(&written)
    }

    fn begin_run(
        &mut self,
        run: &RunStart,
        plan: &mut dyn Iterator<Item = PlannedRow<'_>>,
    ) -> Result<(), LedgerError> {
        self.inner.begin_run(run, plan)
    }

    fn end_run(&mut self, run: &RunEnd) -> Result<(), LedgerError> {
        self.inner.end_run(run)
    }

    fn doubts(&self) -> Result<Vec<Doubt>, LedgerError> {
        self.inner.doubts()
    }

    fn each_id(
        &self,
        target: &Target,
        since: Timestamp,
        take: &mut dyn FnMut(&FileId),
    ) -> Result<(), LedgerError> {
        self.inner.each_id(target, since, take)
    }

    fn unnamed(&self, target: &Target, since: Timestamp) -> Result<Vec<Doubt>, LedgerError> {
        self.inner.unnamed(target, since)
    }

    fn stored_samples(&self, target: &Target) -> Result<Vec<StoredSample>, LedgerError> {
        self.inner.stored_samples(target)
    }

    fn known_from(
        &self,
        target: &Target,
        stream: &str,
        from: Bound<&SourcePath>,
        limit: usize,
    ) -> Result<Vec<(SourcePath, KnownFile)>, LedgerError> {
        self.inner.known_from(target, stream, from, limit)
    }

    fn elsewhere(
        &self,
        targets: &[Arc<Target>],
        stream: &str,
        is_meant: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<(Target, usize)>, LedgerError> {
        self.inner.elsewhere(targets, stream, is_meant)
    }

    fn runs(&self, stream: &str) -> Result<Vec<RunRecord>, LedgerError> {
        self.inner.runs(stream)
    }

    fn each_row(&self, run: &RunId, take: Take<'_>) -> Result<(), LedgerError> {
        self.inner.each_row(run, take)
    }

    fn each_file(&self, take: Take<'_>) -> Result<(), LedgerError> {
        self.inner.each_file(take)
    }
}

/// The process that is killed; nothing where nobody says what to run.
#[test]
#[ignore = "runs as a child process of the other test"]
fn one_run_to_be_killed() {
    let Ok(gate) = std::env::var(GATE_VARIABLE) else {
        return;
    };
    let text = |name| std::env::var(name).expect("a variable");
    let folder = text(FOLDER_VARIABLE);
    let folder = Path::new(&folder);
    let inner = SqliteLedger::open(&folder.join("ledger.sqlite")).expect("a ledger");
    let ledger: Box<dyn Ledger> = if gate == Gate::Absent.word() {
        let held = HashMap::new();
        Box::new(Ungated { inner, held })
    } else {
        Box::new(inner)
    };
    let manifest = format!(
        "version: 1\nname: control\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: \
         {DATASET}, metadata: {{path: '${{{{ file.path }}}}'}}}}\n"
    );
    let engine = Engine::new(&manifest, folder, &text(URL_VARIABLE), KEY, CONCURRENCY);
    let ran = engine.run(ledger, &|event| {
        if let Event::Began { .. } = event {
            // Past the capture of tests: the parent waits for it.
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{BEGAN}").expect("the parent listens");
        }
    });
    assert_eq!(ran.stopped, []);
    for outcome in [Outcome::Failed, Outcome::Rejected, Outcome::NotAttempted] {
        assert_eq!(ran.files(outcome), 0, "{outcome:?}");
    }
}

/// A folder, a server, and runs between them that are killed.
struct Sweep {
    gate: Gate,
    workspace: Workspace,
    data: tempfile::TempDir,
    server: roe_batch::sandbox::Sandbox,
    files: usize,
}

impl Sweep {
    fn new(gate: Gate) -> Self {
        let (data, server) = sandbox();
        let mut sweep = Self {
            gate,
            workspace: Workspace::new(),
            data,
            server,
            files: 0,
        };
        sweep.add_files();
        sweep
    }

    fn add_files(&mut self) {
        for index in self.files..self.files + FILES {
            self.workspace.write(&path(index), b"many, and small");
        }
        self.files += FILES;
    }

    fn run(&self) -> Child {
        Command::new(std::env::current_exe().expect("this binary"))
            .args([
                "--exact",
                "one_run_to_be_killed",
                "--ignored",
                "--nocapture",
            ])
            .env(GATE_VARIABLE, self.gate.word())
            .env(FOLDER_VARIABLE, self.workspace.path())
            .env(URL_VARIABLE, format!("http://{}", self.server.address()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("this binary runs")
    }

    /// Kills a run at a random instant of its sending. False where it had ended before.
    fn kill_one(&mut self, chance: &mut fastrand::Rng) -> bool {
        let mut child = self.run();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let began = |line: std::io::Result<String>| line.expect("text").contains(BEGAN);
        assert!(output.lines().any(began), "the child never began to send");
        // Not to wait for anything: this is the random instant.
        std::thread::sleep(Duration::from_micros(chance.u64(0..60_000)));
        let ended = child.try_wait().expect("a child").is_some();
        child.kill().expect("killed, or ended before");
        child.wait().expect("reaped");
        if ended {
            self.add_files();
        }
        !ended
    }

    /// How often the server has each file, by path.
    fn stored(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for file in records(self.data.path()).expect("records") {
            let path = file.metadata["path"].as_str().expect("a path").to_owned();
            *found.entry(path).or_default() += 1;
        }
        found
    }

    fn stored_twice(&self) -> Vec<String> {
        let stored = self.stored().into_iter();
        let twice = stored.filter(|(_, copies)| *copies > 1);
        twice.map(|(path, _)| path).collect()
    }

    fn in_doubt(&self) -> BTreeSet<String> {
        let ledger = SqliteLedger::open(&self.workspace.at("ledger.sqlite")).expect("a ledger");
        let doubts = ledger.doubts().expect("read").into_iter();
        doubts.map(|doubt| doubt.path.as_str().to_owned()).collect()
    }
}

fn path(index: usize) -> String {
    format!("in/{index:05}.txt")
}

#[test]
fn kills_store_files_twice_without_the_gate_and_never_with_it() {
    let seed = std::env::var("ROE_BATCH_SEED").map_or(7, |text| text.parse().expect("a number"));
    let mut chance = fastrand::Rng::with_seed(seed);

    let mut sweep = Sweep::new(Gate::Absent);
    let mut kills = 0;
    while sweep.stored_twice().is_empty() {
        assert!(
            kills < KILLS_MAX,
            "seed {seed}: {kills} kills without the gate stored nothing twice: this harness, and \
             the kill sweep with it, would not notice its loss"
        );
        kills += usize::from(sweep.kill_one(&mut chance));
    }

    let mut sweep = Sweep::new(Gate::Shut);
    let mut left = kills.max(KILLS_MIN);
    while left > 0 {
        left -= usize::from(sweep.kill_one(&mut chance));
    }
    let output = sweep.run().wait_with_output().expect("a run to its end");
    assert!(output.status.success(), "{output:?}");
    let in_doubt = sweep.in_doubt();
    assert_eq!(sweep.stored_twice(), [""; 0], "seed {seed}");
    let stored = sweep.stored();
    for index in 0..sweep.files {
        let path = path(index);
        let name = path.strip_prefix("in/").expect("below in");
        let is_accounted_for = stored.contains_key(name) || in_doubt.contains(&path);
        assert!(is_accounted_for, "seed {seed}: {path} is lost");
    }
}
