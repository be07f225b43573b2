//! Every fault × ten seeds × every policy for doubt: the real program against a sandbox that has the fault,
//! over real sockets, and then once more on a good day. Each run is judged by what the sandbox recorded.

mod common;
#[path = "common/fault_table.rs"]
mod fault_table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use serde_json::Value;
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use common::{DATASET, KEY, Ran, Workspace, service};
use fault_table::{FAULTS, Often, Row, Verdict};
use roe_batch::sandbox::{
    EmptyFiles, FAULT_KINDS, Faults, Injected, Sandbox, SandboxConfig, SandboxDataset, StoredFile,
    injected, records,
};

const SEEDS: u64 = 10;
const POLICIES: [&str; 3] = ["hold", "verify", "resend"];
const THREADS: usize = 12;
const ATTEMPTS: usize = 4;

/// Up to this size a file is sent whole.
const SMALL_MAX: u64 = 64 * 1024;

/// Small and large, with the sizes at the border between them.
const FILES: [(&str, u64); 7] = [
    ("s0.txt", 0),
    ("s1.txt", 1),
    ("s2.txt", 5 * 1024),
    ("s3.txt", SMALL_MAX),
    ("l1.bin", SMALL_MAX + 1),
    ("l2.bin", 200 * 1024),
    ("l3.bin", 3 * 1024 * 1024),
];

/// Comes on the second day: something whose storing is certain, to learn from.
const LATE: (&str, u64) = ("late.txt", 700);

/// A certificate store of one, for no run needs any: reading the machine's takes a quarter of a run.
const CERTIFICATE: &str = "root.pem";

/// The planned files' contents, made once.
struct Source(tempfile::TempDir);

impl Source {
    fn make() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, size) in FILES.into_iter().chain([LATE]) {
            let mut random = fastrand::Rng::with_seed(size);
            let bytes: Vec<u8> = (0..size).map(|_| random.u8(..)).collect();
            fs::write(folder.path().join(name), bytes).expect("a file");
        }
        let root = STANDARD.encode(&TLS_SERVER_ROOT_CERTS[0]);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{root}\n-----END CERTIFICATE-----\n");
        fs::write(folder.path().join(CERTIFICATE), pem).expect("a file");
        Self(folder)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// One cell of the matrix.
#[derive(Clone, Copy)]
struct Cell {
    number: usize,
    row: &'static Row,
    seed: u64,
    policy: &'static str,
}

impl Cell {
    fn all() -> Vec<Self> {
        let mut cells = Vec::new();
        for seed in 0..SEEDS {
            for row in FAULTS {
                for policy in POLICIES {
                    let number = cells.len();
                    cells.push(Self {
                        number,
                        row,
                        seed,
                        policy,
                    });
                }
            }
        }
        cells
    }

    fn plan(&self) -> String {
        let often = match self.row.often {
            Often::Own => "",
            Often::Twice => ", count: 2",
            Often::BySeed if self.seed.is_multiple_of(2) => ", probability: 0.5",
            Often::BySeed => ", count: 3",
        };
        format!(
            "seed: {}\nfaults:\n- {{{}{often}}}\n",
            self.seed, self.row.entry
        )
    }

    /// An address of its own, so that nobody takes the port between its two days.
    fn listen(&self) -> SocketAddr {
        if cfg!(target_os = "linux") {
            let [high, low] = u16::try_from(self.number).expect("few cells").to_be_bytes();
            SocketAddr::from(([127, 101, high, low.max(1)], 0))
        } else {
            SocketAddr::from(([127, 0, 0, 1], 0))
        }
    }
}

fn start(listen: SocketAddr, data: &Path, faults: &Faults) -> Sandbox {
    let patience = Instant::now() + service::SAFETY_NET;
    loop {
        let sandbox = Sandbox::start(SandboxConfig {
            listen,
            data: data.to_owned(),
            api_key: KEY.to_owned(),
            datasets: vec![SandboxDataset {
                id: DATASET.to_owned(),
                name: "tests".to_owned(),
            }],
            empty_files: EmptyFiles::Accept,
            faults: faults.clone(),
        });
        match sandbox {
            Ok(sandbox) => return sandbox,
            Err(error) if Instant::now() > patience => panic!("{listen}: {error}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// One attempt as the ledger has it.
#[derive(Debug)]
struct Attempt {
    id: String,
    path: String,
    run: i64,
    size: i64,
    /// How it ended, if it did: the word, and the HTTP status beside it.
    verdict: Option<Verdict>,
    /// What a doubt about it was settled to, if it was.
    settled: Option<String>,
    reason: String,
}

impl Attempt {
    fn is_small(&self) -> bool {
        u64::try_from(self.size).is_ok_and(|size| size <= SMALL_MAX)
    }

    /// What it is now.
    fn state(&self) -> &str {
        match (&self.settled, self.verdict) {
            (Some(word), _) => word,
            (None, Some(Verdict::Stored)) => "stored",
            (None, Some(Verdict::Failed)) => "failed",
            (None, Some(Verdict::Rejected)) => "rejected",
            (None, Some(Verdict::InDoubt)) => "in_doubt",
            (None, None) => "not_attempted",
        }
    }
}

fn attempts(ledger: &Connection) -> Vec<Attempt> {
    let mut statement = ledger
        .prepare(
            "SELECT attempt_id, path, run_number, size, state, settled_by, reason FROM transitions \
             ORDER BY transition_id",
        )
        .expect("a query");
    let mut rows = statement.query([]).expect("rows");
    let mut found: Vec<Attempt> = Vec::new();
    while let Some(row) = rows.next().expect("a row") {
        let id: String = row.get(0).expect("an id");
        let state: String = row.get(4).expect("a state");
        let settled_by: Option<String> = row.get(5).expect("a word or none");
        let at = found.iter().position(|attempt| attempt.id == id);
        let at = at.unwrap_or_else(|| {
            found.push(Attempt {
                id,
                path: row.get(1).expect("a path"),
                run: row.get(2).expect("a run"),
                size: row.get(3).expect("a size"),
                verdict: None,
                settled: None,
                reason: String::new(),
            });
            found.len() - 1
        });
        let attempt = &mut found[at];
        if let Some(reason) = row.get::<_, Option<String>>(6).expect("a text or none") {
            attempt.reason = reason;
        }
        if settled_by.is_some() {
            attempt.settled = Some(state);
            continue;
        }
        let verdict = match state.as_str() {
            "opened" | "committing" | "withdrawn" => continue,
            "stored" => Verdict::Stored,
            "failed" => Verdict::Failed,
            "rejected" => Verdict::Rejected,
            "in_doubt" => Verdict::InDoubt,
            other => panic!("an attempt that is {other}"),
        };
        assert_eq!(attempt.verdict, None, "two ends: {attempt:?}");
        attempt.verdict = Some(verdict);
    }
    found
}

/// Everything that one day left.
struct Day<'a> {
    cell: Cell,
    source: &'a Source,
    /// Of all days so far.
    attempts: Vec<Attempt>,
    injected: Vec<Injected>,
    records: Vec<StoredFile>,
    report: Value,
    code: i32,
    is_good: bool,
}

impl Day<'_> {
    fn hit(&self, attempt: &Attempt) -> bool {
        let id = Some(attempt.id.as_str());
        self.injected
            .iter()
            .any(|fault| fault.request_id.as_deref() == id)
    }

    /// Whether the service answered that it has a file that it has not.
    fn is_lie(&self, attempt: &Attempt) -> bool {
        self.cell.row.entry.contains("early_success") && self.hit(attempt)
    }

    fn of(&self, path: &str) -> Vec<&Attempt> {
        self.attempts
            .iter()
            .filter(|attempt| attempt.path == path)
            .collect()
    }

    fn copies(&self, path: &str) -> Vec<&StoredFile> {
        let name = path.rsplit('/').next().expect("a name");
        self.records
            .iter()
            .filter(|file| file.name == name)
            .collect()
    }

    fn last_run(&self) -> i64 {
        self.attempts
            .iter()
            .map(|attempt| attempt.run)
            .max()
            .unwrap_or(0)
    }

    /// Each attempt's verdict is one that its fault allows, and true to what is stored.
    fn judge_attempts(&self) {
        for attempt in &self.attempts {
            let row = self.cell.row;
            let is_today = !self.is_good || attempt.run > 1;
            let allowed = match (self.hit(attempt), attempt.is_small()) {
                (false, _) if self.is_good && is_today => &[Verdict::Stored],
                (false, _) => row.others,
                (true, true) => row.small,
                (true, false) => row.large,
            };
            if let Some(verdict) = attempt.verdict {
                let hit = self.hit(attempt);
                assert!(
                    allowed.contains(&verdict),
                    "hit: {hit}, expected {allowed:?}: {attempt:?}"
                );
            }
            let id = Some(attempt.id.as_str());
            let stored = self
                .records
                .iter()
                .filter(|f| f.request_id.as_deref() == id)
                .count();
            assert!(stored <= 1, "one request stored twice: {attempt:?}");
            match attempt.state() {
                "stored" if self.is_lie(attempt) => assert_eq!(stored, 0),
                "stored" => assert_eq!(stored, 1, "it is not there: {attempt:?}"),
                "failed" | "rejected" | "not_attempted" => {
                    assert_eq!(stored, 0, "it is there: {attempt:?}");
                }
                "in_doubt" | "abandoned" => {}
                other => panic!("{other}: {attempt:?}"),
            }
        }
        let known: BTreeMap<&str, &str> = self
            .attempts
            .iter()
            .map(|attempt| (attempt.id.as_str(), attempt.path.as_str()))
            .collect();
        for file in &self.records {
            let path = known.get(file.request_id.as_deref().expect("a request"));
            let path = path.unwrap_or_else(|| panic!("unknown to the ledger: {file:?}"));
            assert!(path.ends_with(&file.name), "{path}: {file:?}");
            let name = file.name.as_str();
            let wanted = fs::read(self.source.at(name)).expect("a file");
            assert!(
                fs::read(&file.path).expect("its bytes") == wanted,
                "other bytes: {file:?}"
            );
            assert_eq!(file.size, wanted.len() as u64);
            assert_eq!(file.metadata["called"], name, "{file:?}");
            assert_eq!(file.dataset_id, DATASET);
        }
    }

    /// Each row of the report says what its attempts say, and the ledger too.
    fn judge_rows(&self, ledger: &Connection) {
        let rows = service::rows(&self.report);
        let expected = FILES.len() + usize::from(self.is_good);
        assert_eq!(rows.len(), expected);
        let last_run = self.last_run();
        let is_refused = self.cell.row.stop.is_some() && self.code == 1;
        for row in rows {
            let path = row["path"].as_str().expect("a path");
            let outcome = row["outcome"].as_str().expect("an outcome");
            let all = self.of(path);
            let today: Vec<_> = all
                .iter()
                .filter(|attempt| attempt.run == last_run)
                .collect();
            let state = all
                .last()
                .map_or("not_attempted", |attempt| attempt.state());
            match outcome {
                "skipped" => assert_eq!(state, "stored", "{row:#}"),
                "not_attempted" => {
                    let may_end = self.cell.row.stop.is_some() || self.code == 69;
                    assert!(
                        may_end && today.iter().all(|a| a.verdict.is_none()),
                        "{row:#}"
                    );
                }
                other => assert_eq!(state, other, "{row:#}\n{all:#?}"),
            }
            if outcome == "failed" && !self.is_good {
                let spent = today.len() >= ATTEMPTS || today.iter().any(|a| a.settled.is_some());
                let ended = matches!(self.code, 69 | 77) || is_refused;
                assert!(spent || ended, "given up early: {row:#}\n{all:#?}");
            }
            if matches!(outcome, "stored" | "skipped") {
                self.judge_stored(row, all.last().expect("an attempt"));
            }
            let copies = self.copies(path);
            if self.cell.policy == "resend" {
                let doubtful = all.iter().filter(|a| a.verdict == Some(Verdict::InDoubt));
                assert!(copies.len() <= doubtful.count() + 1, "{all:#?}");
                let sure = |attempt: &&&Attempt| attempt.verdict == Some(Verdict::Stored);
                assert!(
                    all.iter().filter(sure).count() <= 1,
                    "sent after it was stored: {all:#?}"
                );
            } else {
                assert!(copies.len() <= 1, "stored twice: {all:#?}");
            }
            let known = ledger.query_row(
                "SELECT state, file_id FROM files WHERE path = ?1",
                [path],
                |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?)),
            );
            match known {
                Ok((word, id)) => {
                    assert_eq!(word, state, "{row:#}");
                    if state == "stored" {
                        assert_eq!(id.as_deref(), row["file_id"].as_str(), "{row:#}");
                    }
                }
                Err(_) => assert!(all.is_empty(), "not in the ledger: {row:#}"),
            }
        }
    }

    fn judge_stored(&self, row: &Value, attempt: &Attempt) {
        let entry = self.cell.row.entry;
        let hit = self.hit(attempt) && attempt.verdict == Some(Verdict::Stored);
        let id = row["file_id"].as_str();
        if hit && (entry.contains("missing_id") || entry.contains("null_id")) {
            assert_eq!(id, None, "{row:#}");
            return;
        }
        let id = id.unwrap_or_else(|| panic!("no id: {row:#}"));
        if hit && entry.contains("number_id") {
            assert!(id.bytes().all(|byte| byte.is_ascii_digit()), "{row:#}");
            return;
        }
        if self.is_lie(attempt) {
            return;
        }
        let copy = self.records.iter().find(|file| file.id == id);
        let copy = copy.unwrap_or_else(|| panic!("no such file: {row:#}"));
        assert!(row["path"].as_str().expect("a path").ends_with(&copy.name));
        if hit
            && ["renamed", "resized", "wrong_target"]
                .iter()
                .any(|word| entry.contains(word))
        {
            assert!(attempt.reason.starts_with("stored, but"), "{attempt:?}");
        }
    }

    fn judge_exit(&self) {
        let rows = service::rows(&self.report);
        let outcomes: BTreeSet<&str> = rows
            .iter()
            .map(|row| row["outcome"].as_str().expect("an outcome"))
            .collect();
        let is_done = |word: &&str| matches!(*word, "stored" | "skipped");
        let row = self.cell.row;
        let is_hit = self.attempts.iter().any(|attempt| self.hit(attempt));
        // Stored, but elsewhere or not what was sent: that is in the reason, and fails the run.
        let is_astray = ["mismatch", "wrong_target"].iter().any(|word| {
            rows.iter().any(|row| {
                let reason = row["reason"].as_str().unwrap_or_default();
                reason.starts_with("stored, but ") && reason.contains(&format!("{word}: "))
            })
        });
        let lies = ["fault: resized", "fault: wrong_target"].contains(&row.entry);
        assert_eq!(is_astray, lies && is_hit && !self.is_good);
        let by_outcomes = if outcomes.contains("in_doubt") {
            76
        } else {
            i32::from(is_astray || !outcomes.iter().all(is_done))
        };
        let expected = match row.stop {
            Some(stop) if !self.is_good && is_hit => stop,
            _ => by_outcomes,
        };
        let unreached = row.entry.contains("refuse") && by_outcomes != 0 && self.code == 69;
        assert!(
            self.code == expected || (unreached && !self.is_good),
            "exit {}, expected {expected}: {outcomes:?}",
            self.code
        );
        assert_eq!(self.report["header"]["exit_code"], self.code);
    }
}

/// What both days of a cell share.
struct World<'a> {
    cell: Cell,
    source: &'a Source,
    workspace: Workspace,
    data: tempfile::TempDir,
}

impl<'a> World<'a> {
    fn new(cell: Cell, source: &'a Source) -> Self {
        let manifest = format!(
            "version: 1\nname: matrix\nuploads:\n- name: all\n  root: inbox\n  include: ['*']\n  \
             dataset_id: {DATASET}\n  metadata: {{called: \"${{{{ file.name }}}}\"}}\n"
        );
        let workspace = Workspace::with(&manifest, &[]);
        fs::create_dir(workspace.at("inbox")).expect("a folder");
        let world = Self {
            cell,
            source,
            workspace,
            data: tempfile::tempdir().expect("a folder"),
        };
        for (name, _) in FILES {
            world.plant(name);
        }
        world
    }

    fn plant(&self, name: &str) {
        let to = self.workspace.at(format!("inbox/{name}"));
        fs::hard_link(self.source.at(name), to).expect("a link");
    }

    fn serve(&mut self, address: SocketAddr) {
        self.workspace.env("ROE_API_KEY", KEY);
        self.workspace
            .env("ROE_BASE_URL", &format!("http://{address}"));
        let certificate = self.source.at(CERTIFICATE);
        let certificate = certificate.to_str().expect("UTF-8");
        self.workspace.env("SSL_CERT_FILE", certificate);
        self.workspace.env("ROE_RETRY_INITIAL_MS", "5");
        self.workspace.env("ROE_RETRY_MAX_MS", "50");
    }

    fn apply(&self) -> Ran {
        let attempts = ATTEMPTS.to_string();
        let ran = self.workspace.run(&[
            "apply",
            "manifest.yaml",
            "--in-doubt",
            self.cell.policy,
            "--timeout",
            "1",
            "--settle",
            "100ms",
            "--concurrency",
            "4",
            "--max-attempts",
            &attempts,
        ]);
        assert!(!ran.all().contains(KEY), "the key was shown");
        ran
    }

    fn ledger(&self) -> Connection {
        Connection::open(self.workspace.at(".roe-batch/ledger.sqlite")).expect("a ledger")
    }

    /// A run against a sandbox with these faults, judged; nothing is under way any more when it is.
    fn day(&self, sandbox: Sandbox, is_good: bool) -> Day<'a> {
        let ran = self.apply();
        sandbox.stop();
        let ledger = self.ledger();
        let day = Day {
            cell: self.cell,
            source: self.source,
            attempts: attempts(&ledger),
            injected: injected(self.data.path()).expect("a list"),
            records: records(self.data.path()).expect("records"),
            report: self.workspace.report(),
            code: ran.code,
            is_good,
        };
        let judged = std::panic::catch_unwind(AssertUnwindSafe(|| {
            day.judge_attempts();
            day.judge_rows(&ledger);
            day.judge_exit();
        }));
        if let Err(why) = judged {
            let day = if is_good {
                "the good day"
            } else {
                "the bad day"
            };
            panic!("{day}: {}\n{}", said(&*why), ran.all());
        }
        day
    }

    /// The report that is made from the ledger is the one that the run wrote.
    fn compare_reports(&self) {
        let printed = self
            .workspace
            .run(&["report", "manifest.yaml", "--format", "json"]);
        assert_eq!(printed.code, 0, "{}", printed.all());
        let printed: Value = serde_json::from_str(&printed.stdout).expect("JSON");
        let written = self.workspace.report();
        assert_eq!(printed["files"], written["files"]);
        assert_eq!(printed["header"]["outcomes"], written["header"]["outcomes"]);
    }

    /// Does what a person would do about doubt: looks at the service, and says what is there.
    fn resolve(&self, day: &Day<'_>) {
        for attempt in day.attempts.iter().filter(|a| a.state() == "in_doubt") {
            let id = Some(attempt.id.as_str());
            let copy = day
                .records
                .iter()
                .find(|file| file.request_id.as_deref() == id);
            let mut arguments = vec!["resolve", "manifest.yaml", &attempt.path];
            match copy {
                Some(file) => arguments.extend(["--stored", &file.id]),
                None => arguments.push("--not-stored"),
            }
            let ran = self.workspace.run(&arguments);
            assert_eq!(ran.code, 0, "{}", ran.all());
        }
    }
}

/// The outcome of each path in a report.
fn outcomes(report: &Value) -> BTreeMap<String, String> {
    let word = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    let rows = service::rows(report).iter();
    rows.map(|row| (word(row, "path"), word(row, "outcome")))
        .collect()
}

/// After a good day: each planned file is there once, or known to be in doubt.
fn assert_all_is_well(day: &Day<'_>, before: Option<&Value>) {
    for (path, outcome) in outcomes(&day.report) {
        let all = day.of(&path);
        let still_doubtful = before
            .map(outcomes)
            .is_some_and(|before| before.get(&path).is_some_and(|word| word == "in_doubt"));
        if day.cell.policy == "hold" && still_doubtful {
            assert_eq!(outcome, "in_doubt", "{path}: {all:#?}");
            continue;
        }
        assert!(
            ["stored", "skipped"].contains(&outcome.as_str()),
            "{path} is {outcome}: {all:#?}"
        );
        let lies = all.iter().filter(|attempt| day.is_lie(attempt)).count();
        let copies = day.copies(&path).len();
        match day.cell.policy {
            "resend" => assert!(copies + lies >= 1, "{path} is lost: {all:#?}"),
            _ if lies > 0 => assert!(copies <= 1, "{all:#?}"),
            _ => assert_eq!(copies, 1, "{path}: {all:#?}"),
        }
    }
}

/// Judges a cell, and says how often its fault happened.
fn judge(cell: Cell, source: &Source) -> usize {
    let mut world = World::new(cell, source);
    let faults = Faults::parse(&cell.plan()).expect("a plan");
    let data = world.data.path().to_owned();
    let sandbox = start(cell.listen(), &data, &faults);
    let address = sandbox.address();
    world.serve(address);
    let bad = world.day(sandbox, false);
    if cell.seed == 0 {
        world.compare_reports();
    }
    world.plant(LATE.0);
    let good = world.day(start(address, &data, &Faults::default()), true);
    assert_all_is_well(&good, Some(&bad.report));
    if cell.policy == "hold" && cell.seed == 0 {
        world.resolve(&good);
        let settled = world.day(start(address, &data, &Faults::default()), true);
        assert_all_is_well(&settled, None);
        assert_eq!(settled.code, 0);
    }
    bad.injected.len()
}

fn said(why: &(dyn std::any::Any + Send)) -> String {
    let text = why.downcast_ref::<String>().cloned();
    text.or_else(|| why.downcast_ref::<&str>().map(ToString::to_string))
        .unwrap_or_default()
}

#[test]
fn under_every_fault_the_report_is_what_the_service_has_and_a_good_day_makes_it_whole() {
    let cells = Cell::all();
    let only = std::env::var("FAULT_MATRIX").ok();
    let source = Source::make();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let happened = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                // Long ones and short ones lie side by side in the table, so they are taken in leaps.
                let leap =
                    |turn: usize| (turn < cells.len()).then(|| cells[turn * 37 % cells.len()]);
                while let Some(cell) = leap(next.fetch_add(1, Ordering::Relaxed)) {
                    let name = format!("{}, seed {}, {}", cell.row.entry, cell.seed, cell.policy);
                    if only
                        .as_ref()
                        .is_some_and(|only| !name.contains(only.as_str()))
                    {
                        continue;
                    }
                    let judged =
                        std::panic::catch_unwind(AssertUnwindSafe(|| judge(cell, &source)));
                    match judged {
                        Ok(times) => {
                            let mut happened = happened.lock().expect("a map");
                            *happened.entry(cell.row.entry).or_insert(0) += times;
                        }
                        Err(why) => {
                            let text = format!("{name}\n{}\n{}", cell.plan(), said(&*why));
                            wrong.lock().expect("a list").push(text);
                        }
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("a list");
    assert!(
        wrong.is_empty(),
        "{} of {} cells are wrong:\n\n{}",
        wrong.len(),
        cells.len(),
        wrong.join("\n\n")
    );
    let never = happened.into_inner().expect("a map").into_iter();
    let never: Vec<_> = never.filter(|(_, times)| *times == 0).collect();
    assert!(never.is_empty(), "these never happened: {never:?}");
}

#[test]
fn the_matrix_has_every_fault_and_is_as_large_as_promised() {
    let tried: BTreeSet<&str> = FAULTS
        .iter()
        .filter_map(|row| row.entry.strip_prefix("fault: ")?.split(',').next())
        .collect();
    let all: BTreeSet<&str> = FAULT_KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(tried, all);
    let distinct: BTreeSet<&str> = FAULTS.iter().map(|row| row.entry).collect();
    assert!(distinct.len() >= 40 && distinct.len() == FAULTS.len());
    assert_eq!(Cell::all().len(), distinct.len() * 30);
}
