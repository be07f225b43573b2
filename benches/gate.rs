//! What durability costs: the same run with the ledger in `SQLite` and with one in memory, against
//! a server in this process that keeps nothing.
//!
//! Timed is what a run does from its first look into the ledger to its last word in it: reading
//! what is known, planning, `begin_run`, sending, `end_run`. The walk of the tree, the client's
//! set-up and the closing of the ledger are the same work or shown apart.
//!
//! `cargo bench --bench gate`; `ROE_BATCH_BENCH_QUICK=1` makes it short and worth nothing as a
//! figure. The ledger lies below `target/`, which has to be on a disk.

#![expect(clippy::print_stdout, reason = "this is what a bench is for")]

#[path = "../tests/common/engine.rs"]
mod engine;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engine::{Engine, MemoryLedger};
use roe_batch::ledger::{Ledger, SqliteLedger};
use roe_batch::model::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const FILE_BYTES: usize = 4096;

const ROUNDS: usize = 7;
const ROUNDS_QUICK: usize = 2;

/// One comparison.
struct Case {
    name: &'static str,
    /// What the server waits before each answer.
    latency: Duration,
    files: usize,
    concurrency: u32,
    /// The ratio that is hoped for.
    goal: f64,
}

const CASES: [Case; 2] = [
    Case {
        name: "no latency",
        latency: Duration::ZERO,
        files: 5000,
        concurrency: 32,
        goal: 1.60,
    },
    Case {
        name: "50 ms latency",
        latency: Duration::from_millis(50),
        files: 2000,
        concurrency: 64,
        goal: 1.04,
    },
];

/// Times in milliseconds, sorted.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn add(&mut self, milliseconds: f64) {
        self.0.push(milliseconds);
        self.0.sort_by(f64::total_cmp);
    }

    fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            self.0[middle]
        } else {
            f64::midpoint(self.0[middle - 1], self.0[middle])
        }
    }

    fn least(&self) -> f64 {
        self.0[0]
    }

    fn row(&self, kind: &str) -> String {
        let (least, most) = (self.least(), self.0[self.0.len() - 1]);
        let median = self.median();
        format!("{kind:<26} {median:>9.1} {least:>9.1} {most:>9.1}")
    }
}

fn main() {
    let is_quick = std::env::var_os("ROE_BATCH_BENCH_QUICK").is_some();
    let rounds = if is_quick { ROUNDS_QUICK } else { ROUNDS };
    for case in CASES {
        let files = if is_quick {
            case.files / 10
        } else {
            case.files
        };
        run(&case, files, rounds);
    }
}

fn run(case: &Case, files: usize, rounds: usize) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let tree = folder.path().join("in");
    make_tree(&tree, files);
    let base = format!("http://{}", sink(case.latency).expect("a server"));
    let engine = || {
        let manifest = "version: 1\nname: gate\nuploads: [{name: all, root: in, include: '**'}]\n";
        Engine::new(
            manifest,
            folder.path(),
            &base,
            "bench-key",
            case.concurrency,
        )
    };
    let (mut sqlite, mut memory) = <(Kind, Kind)>::default();
    let mut closing = Times::default();
    for round in 0..rounds {
        let state = folder.path().join(format!("state-{round}"));
        fs::create_dir(&state).expect("a folder");
        // What goes first may find things otherwise than what follows.
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let engine = engine();
            warm(&tree);
            if which == 0 {
                let open = SqliteLedger::open(&state.join("ledger.sqlite")).expect("a ledger");
                let ledger = sqlite.time(&engine, Box::new(open), files);
                let begun = Instant::now();
                drop(ledger);
                closing.add(milliseconds(begun.elapsed()));
            } else {
                memory.time(&engine, Box::<MemoryLedger>::default(), files);
            }
        }
        fs::remove_dir_all(&state).expect("removed");
    }
    println!(
        "\n{}: {files} files of {FILE_BYTES} bytes, concurrency {}, {rounds} rounds",
        case.name, case.concurrency
    );
    println!("{:<26} {:>9} {:>9} {:>9}", "ms", "median", "min", "max");
    println!("{}", memory.wall.row("in memory"));
    println!("{}", sqlite.wall.row("durable"));
    println!("{}", closing.row("  closing it, not counted"));
    println!("{}", memory.cpu.row("CPU, in memory, with sink"));
    println!("{}", sqlite.cpu.row("CPU, durable, with sink"));
    let ratio = sqlite.wall.median() / memory.wall.median();
    let verdict = if ratio <= case.goal { "met" } else { "missed" };
    println!(
        "durable / in memory: {ratio:.3} (goal {:.2}: {verdict}); of the least: {:.3}",
        case.goal,
        sqlite.wall.least() / memory.wall.least()
    );
}

/// The times of one kind of ledger in a case.
#[derive(Default)]
struct Kind {
    wall: Times,
    /// Of the whole process, the server too.
    cpu: Times,
}

impl Kind {
    /// One run of everything, which must store everything.
    fn time(&mut self, engine: &Engine, ledger: Box<dyn Ledger>, files: usize) -> Box<dyn Ledger> {
        let (begun, spent) = (Instant::now(), cpu_milliseconds());
        let ran = engine.run(ledger, &|_| {});
        self.wall.add(milliseconds(begun.elapsed()));
        self.cpu.add(cpu_milliseconds() - spent);
        assert_eq!(ran.files(Outcome::Stored), files, "{:?}", ran.stopped);
        ran.ledger
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What this process has had of the processors, to ten milliseconds.
fn cpu_milliseconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").expect("Linux");
    // The name before may hold spaces; user and system time are fields 14 and 15.
    let (_, fields) = text.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|t| t.parse::<f64>().expect("ticks")).sum::<f64>() * 10.0
}

fn make_tree(tree: &Path, files: usize) {
    let mut content = vec![b'x'; FILE_BYTES];
    for index in 0..files {
        let folder = tree.join(format!("{:03}", index / 100));
        fs::create_dir_all(&folder).expect("a folder");
        // No two files are alike.
        content[..8].copy_from_slice(&(index as u64).to_le_bytes());
        fs::write(folder.join(format!("{index:06}.bin")), &content).expect("a file");
    }
}

/// Reads every file: the page cache may have been dropped since the last case.
fn warm(tree: &Path) {
    let mut folders: Vec<PathBuf> = vec![tree.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                fs::read(path).expect("read");
            }
        }
    }
}

/// Starts a server on a thread of its own that reads whole requests and keeps nothing of them; it
/// lives as long as the process.
fn sink(latency: Duration) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    thread::Builder::new()
        .name("sink".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                loop {
                    let (stream, _) = listener.accept().await.expect("a connection");
                    tokio::spawn(async move {
                        // A client that hangs up ends its connection, and nothing else.
                        let _ = serve(stream, latency).await;
                    });
                }
            });
        })?;
    Ok(address)
}

static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// Answers one connection's requests, one after another.
async fn serve(mut stream: TcpStream, latency: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let mut left = (head + content_length(&buffer[..head])?).saturating_sub(buffer.len());
        while left > 0 {
            buffer.clear();
            let read = stream.read_buf(&mut buffer).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left = left.saturating_sub(read);
        }
        buffer.clear();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let body = format!(r#"{{"id":"00000000-0000-7000-8000-{id:012x}","dataset":null}}"#);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await?;
    }
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    let text = String::from_utf8_lossy(head);
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(Ok(0), |(_, value)| value.trim().parse())
        .map_err(|_| io::ErrorKind::InvalidData.into())
}
