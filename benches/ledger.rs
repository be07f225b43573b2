//! A ledger that has seen very many files: how large it is, and what a run pays for it before its
//! first upload.
//!
//! Each phase is a process of its own, so that its peak of memory is its own. `read` and `written`
//! are what it moved through system calls (`/proc/self/io`), whether or not a disk was involved.
//!
//! `cargo bench --bench ledger`. `ROE_BATCH_BENCH_FILES=1000000` chooses the number of files, which
//! is what goals are given for; `ROE_BATCH_BENCH_TREE=1` makes that many real files too and
//! measures the binary on them.

#![expect(clippy::print_stdout, reason = "this is what a bench is for")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use roe_batch::ledger::{
    Entry, Ledger, PlannedRow, RunEnd, RunKind, RunStart, SqliteLedger, State, Transition,
};
use roe_batch::model::{
    AttemptId, Digest, FileId, JobEnd, Metadata, Origin, Outcome, RuleName, RunId, SourcePath,
    Stat, Tag, Target,
};

const FILES: usize = 200_000;

const FILES_A_FOLDER: usize = 1000;

/// Entries written together.
const GROUP: usize = 1000;

const STREAM: &str = "ledger";
/// Where nobody listens: nothing is sent.
const BASE_URL: &str = "http://127.0.0.1:9";

const MANIFEST: &str = "version: 1\nname: ledger\nuploads:\n- {name: all, root: in, include: '**', \
                        metadata: {vendor: acme, year: '2026'}}\n";

const PHASE_VARIABLE: &str = "ROE_BATCH_BENCH_PHASE";
const FOLDER_VARIABLE: &str = "ROE_BATCH_BENCH_FOLDER";
const FILES_VARIABLE: &str = "ROE_BATCH_BENCH_FILES";
const TREE_VARIABLE: &str = "ROE_BATCH_BENCH_TREE";

/// What one process measures.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Fill,
    Open,
    Known,
    AllChanged,
    Unchanged,
    OneMore,
}

impl Phase {
    const ALL: [Self; 6] = [
        Self::Fill,
        Self::Open,
        Self::Known,
        Self::AllChanged,
        Self::Unchanged,
        Self::OneMore,
    ];

    fn word(self) -> &'static str {
        match self {
            Self::Fill => "fill",
            Self::Open => "open",
            Self::Known => "known",
            Self::AllChanged => "all-changed",
            Self::Unchanged => "unchanged",
            Self::OneMore => "one-more",
        }
    }
}

fn main() {
    let files = std::env::var(FILES_VARIABLE)
        .map_or(FILES, |text| text.parse().expect("a number of files"));
    if let Ok(word) = std::env::var(PHASE_VARIABLE) {
        let found = Phase::ALL.into_iter().find(|phase| phase.word() == word);
        let folder = std::env::var_os(FOLDER_VARIABLE).expect("a folder");
        let bench = Bench {
            home: folder.into(),
            files,
        };
        return bench.measure(found.expect("a phase"));
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let bench = Bench {
        home: folder.path().to_owned(),
        files,
    };
    fs::create_dir(bench.home.join(".roe-batch")).expect("a folder");
    let has_tree = std::env::var_os(TREE_VARIABLE).is_some();
    if has_tree {
        bench.make_tree();
    }
    println!("{files} files");
    println!("{}", heading());
    for phase in Phase::ALL {
        bench.warm();
        let child = Command::new(std::env::current_exe().expect("this bench"))
            .env(PHASE_VARIABLE, phase.word())
            .env(FOLDER_VARIABLE, &bench.home)
            .env(FILES_VARIABLE, files.to_string())
            .status();
        assert!(child.expect("this bench runs").success());
        println!("    {}", bench.on_disk());
    }
    if has_tree {
        bench.binary();
    }
}

fn heading() -> String {
    format!(
        "{:<44} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9}",
        "", "seconds", "CPU s", "MB read", "MB writ.", "MB before", "MB peak"
    )
}

/// Where everything lies, and how much of it there is.
struct Bench {
    home: PathBuf,
    files: usize,
}

impl Bench {
    fn ledger(&self) -> PathBuf {
        self.home.join(".roe-batch/ledger.sqlite")
    }

    fn open(&self) -> SqliteLedger {
        SqliteLedger::open(&self.ledger()).expect("a ledger")
    }

    fn measure(&self, phase: Phase) {
        let target = Arc::new(Target {
            origin: Origin::new(BASE_URL),
            organization_id: None,
            dataset_id: None,
        });
        let begin = |ledger: &mut SqliteLedger, what: &str, rows: &[PlannedRow<'_>], number| {
            let run = RunStart {
                run: run_id(number),
                stream: STREAM.to_owned(),
                kind: RunKind::Apply,
                at: Timestamp::now(),
                vanished: 0,
            };
            let mut plan = rows.iter().cloned();
            gauge(what, || ledger.begin_run(&run, &mut plan)).expect("begun");
        };
        match phase {
            Phase::Fill => {
                let files = self.all(self.files);
                let mut ledger = self.open();
                let rows = rows(&files, &target, Decided::New);
                begin(&mut ledger, "begin_run of a first plan", &rows, 0);
                gauge("write: gate and end of each file", || {
                    fill(&mut ledger, &files, &target);
                });
                let end = RunEnd {
                    run: run_id(0),
                    at: Timestamp::now(),
                    exit_code: 0,
                    stopped: Vec::new(),
                    outcomes: vec![(Outcome::Stored, self.files)],
                };
                ledger.end_run(&end).expect("ended");
                gauge("closing it", || drop(ledger));
            }
            Phase::Open => drop(gauge("open", || self.open())),
            Phase::Known => {
                let ledger = self.open();
                let known = gauge("known", || ledger.known(&[target], STREAM));
                assert_eq!(known.expect("read").iter().count(), self.files);
            }
            Phase::AllChanged => {
                let files = self.all(self.files);
                let rows = rows(&files, &target, Decided::Stored);
                let what = "begin_run: every row has another decision";
                begin(&mut self.open(), what, &rows, 1);
            }
            Phase::Unchanged => {
                let files = self.all(self.files);
                let rows = rows(&files, &target, Decided::Stored);
                begin(&mut self.open(), "begin_run: the same plan", &rows, 2);
            }
            Phase::OneMore => {
                let files = self.all(self.files + 1);
                let rows = rows(&files, &target, Decided::Stored);
                begin(&mut self.open(), "begin_run: one row more", &rows, 3);
            }
        }
    }

    /// The files of a plan, as they lie in the tree where there is one.
    fn all(&self, count: usize) -> Vec<File> {
        let file = |index| {
            let path = path(index);
            let stat = match fs::symlink_metadata(self.home.join(&path)) {
                Ok(found) => stat(&found),
                Err(_) => Stat {
                    size: 40_000,
                    mtime_ns: 1_700_000_000_000_000_000,
                    inode: index as u64,
                },
            };
            File {
                index,
                path: SourcePath::new(path),
                stat,
            }
        };
        (0..count).map(file).collect()
    }

    fn make_tree(&self) {
        fs::write(self.home.join("manifest.yaml"), MANIFEST).expect("a manifest");
        for index in 0..self.files {
            let path = self.home.join(path(index));
            if index % FILES_A_FOLDER == 0 {
                fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            }
            fs::write(path, b"x").expect("a file");
        }
    }

    /// Reads the ledger's file: the page cache may have been dropped since the last phase.
    fn warm(&self) {
        // There is none before the first.
        if let Ok(mut ledger) = fs::File::open(self.ledger()) {
            std::io::copy(&mut ledger, &mut std::io::sink()).expect("read");
        }
    }

    /// The ledger's size, and its rows.
    fn on_disk(&self) -> String {
        let size = fs::metadata(self.ledger()).expect("a ledger").len();
        let connection = rusqlite::Connection::open(self.ledger()).expect("a database");
        let count = |table| -> i64 {
            let query = format!("SELECT count(*) FROM {table}");
            let row = connection.query_row(&query, [], |row| row.get(0));
            row.expect("a count")
        };
        format!(
            "on disk: {} MB; {} transitions, {} chunks of plans",
            megabytes(size),
            count("transitions"),
            count("plan_chunks")
        )
    }

    /// The binary on the real tree.
    fn binary(&self) {
        println!("\n{:<44} {:>8} {:>9}", "roe-batch", "seconds", "MB peak");
        for (what, args) in [
            (
                "plan, all new",
                &["plan", "manifest.yaml", "--state", "empty"][..],
            ),
            ("plan, all unchanged", &["plan", "manifest.yaml"]),
            ("apply, all unchanged", &["apply", "manifest.yaml"]),
            ("apply again", &["apply", "manifest.yaml"]),
        ] {
            self.warm();
            let begun = Instant::now();
            let mut child = Command::new(env!("CARGO_BIN_EXE_roe-batch"))
                .args(args)
                .current_dir(&self.home)
                .env_clear()
                .env("ROE_BASE_URL", BASE_URL)
                .env("ROE_API_KEY", "bench-key")
                .stdout(Stdio::null())
                .spawn()
                .expect("the binary runs");
            let status = format!("/proc/{}/status", child.id());
            let mut peak = 0;
            let ended = loop {
                peak = peak.max(status_field(Path::new(&status), "VmHWM:").unwrap_or(0));
                if let Some(ended) = child.try_wait().expect("a child") {
                    break ended;
                }
                thread::sleep(Duration::from_millis(2));
            };
            assert!(ended.success(), "{what}: {ended}");
            let seconds = begun.elapsed().as_secs_f64();
            println!("{what:<44} {seconds:>8.2} {:>9}", megabytes(peak));
        }
        println!("    {}", self.on_disk());
    }
}

/// A file of the plan.
struct File {
    index: usize,
    path: SourcePath,
    stat: Stat,
}

impl File {
    fn name(&self) -> &str {
        let path = self.path.as_str();
        path.rsplit_once('/').map_or(path, |(_, name)| name)
    }

    fn id(&self) -> FileId {
        FileId::new(format!("01931f3c-0000-7000-8000-{:012x}", self.index))
    }

    fn attempt(&self) -> AttemptId {
        AttemptId::new(format!("01931f3c-1111-7000-8000-{:012x}", self.index))
    }

    fn digest(&self) -> Digest {
        Digest(*blake3::hash(&self.index.to_le_bytes()).as_bytes())
    }
}

/// In the order of a plan.
fn path(index: usize) -> String {
    let folder = index / FILES_A_FOLDER;
    format!("in/{folder:04}/invoice-{index:08}.pdf")
}

fn run_id(number: usize) -> RunId {
    RunId::new(format!("01931f3c-2222-7000-8000-{number:012x}"))
}

fn stat(found: &fs::Metadata) -> Stat {
    use std::os::unix::fs::MetadataExt;
    Stat {
        size: found.len(),
        mtime_ns: found.mtime() * 1_000_000_000 + found.mtime_nsec(),
        inode: found.ino(),
    }
}

fn metadata() -> Metadata {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Metadata::open([pair("vendor", "acme"), pair("year", "2026")])
}

fn fill(ledger: &mut SqliteLedger, files: &[File], target: &Arc<Target>) {
    let run = run_id(0);
    let rule = RuleName::new("all");
    let metadata = metadata().digest();
    let at = Timestamp::now();
    // Well after the files were written, or their times would prove nothing.
    let read_at = at + SignedDuration::from_mins(1);
    let step = |file: &File, state: State| {
        Entry::Step(Transition {
            attempt: file.attempt(),
            number: 1,
            run: run.clone(),
            target: Arc::clone(target),
            rule: rule.clone(),
            path: file.path.clone(),
            state,
            at,
            started_at: at,
            read_at,
            stat: file.stat,
            digest: Some(file.digest()),
            metadata,
            tag: Tag::None,
            remote_name: file.name().to_owned(),
            file_id: (state == State::Stored).then(|| file.id()),
            http_status: (state == State::Stored).then_some(200),
            returned_name: (state == State::Stored).then(|| file.name().to_owned()),
            returned_dataset: (state == State::Stored).then(|| "Invoices".to_owned()),
            reason: None,
        })
    };
    // As in a run of small files, the steps of one file come in groups of their own.
    let states = [State::Committing, State::Stored];
    let chunks: Vec<&[File]> = files.chunks(GROUP / states.len()).collect();
    let mut group = Vec::with_capacity(GROUP);
    for turn in 0..chunks.len() + states.len() - 1 {
        group.clear();
        for (behind, state) in states.into_iter().enumerate() {
            let chunk = turn.checked_sub(behind).and_then(|at| chunks.get(at));
            let chunk = chunk.into_iter().flat_map(|chunk| chunk.iter());
            group.extend(chunk.map(|file| step(file, state)));
        }
        ledger.write(&group).expect("written");
    }
}

/// What a plan says of every file.
#[derive(Clone, Copy)]
enum Decided {
    New,
    Stored,
}

/// A plan's rows. Their texts are leaked: a plan would hold them.
fn rows<'a>(files: &'a [File], target: &'a Arc<Target>, decided: Decided) -> Vec<PlannedRow<'a>> {
    let rule: &'a RuleName = Box::leak(Box::new(RuleName::new("all")));
    let metadata: &'a Metadata = Box::leak(Box::new(metadata()));
    let row = |file: &'a File| {
        let (decision, unattempted) = match decided {
            Decided::New => {
                let why = Some("new".to_owned());
                let end = JobEnd::without_attempt(Outcome::NotAttempted, why);
                ("upload", end)
            }
            Decided::Stored => {
                let why = Some("stored and unchanged".to_owned());
                let end = JobEnd {
                    file_id: Some(file.id()),
                    digest: Some(file.digest()),
                    ..JobEnd::without_attempt(Outcome::Skipped, why)
                };
                ("skip", end)
            }
        };
        PlannedRow {
            rule,
            target,
            path: file.path.clone(),
            decision,
            unattempted,
            remote_name: Some(file.name().into()),
            size: Some(file.stat.size),
            content_type: Some("application/pdf".into()),
            metadata: Some(metadata.clone()),
        }
    };
    files.iter().map(row).collect()
}

/// Does some work and prints what it took.
fn gauge<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let this = Path::new("/proc/self/status");
    let moved = |name| status_field(Path::new("/proc/self/io"), name).unwrap_or(0);
    let (read, written) = (moved("rchar:"), moved("wchar:"));
    let before = status_field(this, "VmRSS:").unwrap_or(0);
    let (begun, spent) = (Instant::now(), cpu_seconds());
    let result = work();
    let seconds = begun.elapsed().as_secs_f64();
    let spent = cpu_seconds() - spent;
    println!(
        "{what:<44} {seconds:>8.2} {spent:>8.2} {:>9} {:>9} {:>9} {:>9}",
        megabytes(moved("rchar:") - read),
        megabytes(moved("wchar:") - written),
        megabytes(before),
        megabytes(status_field(this, "VmHWM:").unwrap_or(0)),
    );
    result
}

/// What this process has had of the processors, to a hundredth of a second.
fn cpu_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").expect("Linux");
    // The name before may hold spaces; user and system time are fields 14 and 15.
    let (_, fields) = text.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|t| t.parse::<f64>().expect("ticks")).sum::<f64>() / 100.0
}

/// A number of bytes from one of `/proc`'s files.
fn status_field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let mut words = text
        .lines()
        .find(|line| line.starts_with(name))?
        .split_whitespace();
    let number: u64 = words.nth(1)?.parse().ok()?;
    let unit = if words.next() == Some("kB") { 1024 } else { 1 };
    Some(number * unit)
}

fn megabytes(bytes: u64) -> String {
    let whole = bytes / 100_000;
    format!("{}.{}", whole / 10, whole % 10)
}
