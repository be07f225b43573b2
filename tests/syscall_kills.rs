//! The process is killed at every write, sync, rename and send of a run, one after the other, and
//! the next run finds all in order.
//!
//! strace has two ways to do it. A SIGKILL is injected on entry, so that the call does not take
//! place; but it can only count the calls of one thread and one name. A SIGSTOP, injected likewise,
//! lets the call take place and then stops the whole process: so calls are counted across all
//! threads, and the process is killed right behind the n-th. Both are used.
//!
//! `ROE_BATCH_KILLS=1000` and above tries every call instead of a sample; `ROE_BATCH_SEED` chooses
//! the sample.

mod common;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::service::{
    SAFETY_NET, Service, Settled, assert_each_stored_once, doubts, rows, settle_by_records,
};
use common::{DATASET, Workspace};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process, waitpid};

const CONCURRENCY: usize = 2;

const FILES: usize = 6;

/// Calls by what they are for. What a machine does not have is passed over.
const CLASSES: [(&str, &str); 4] = [
    ("syncs", "fsync,fdatasync"),
    ("writes", "pwrite64,write"),
    (
        "names",
        "?rename,?renameat,?renameat2,?unlink,unlinkat,ftruncate,?mkdir,mkdirat",
    ),
    ("sends", "sendto,sendmsg,writev"),
];

/// Which side of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The call is not made any more.
    Before,
    /// The call is the last one that is made.
    After,
}

/// A command line run by strace, which injects this signal into these calls. The process started
/// is the one traced, so it can be waited for.
fn traced(command: &Command, calls: &str, signal: &str) -> Command {
    let mut strace = Command::new("strace");
    strace
        .args(["-D", "-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={calls}"))
        .arg("-e")
        .arg(format!("inject={calls}:signal={signal}"))
        .arg(command.get_program())
        .args(command.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        strace.current_dir(folder);
    }
    strace.env_clear();
    for (name, value) in command.get_envs() {
        strace.env(name, value.expect("a value"));
    }
    if let Some(path) = std::env::var_os("PATH") {
        strace.env("PATH", path);
    }
    strace
}

/// Why calls cannot be traced here, if so.
fn hindrance() -> Option<String> {
    let mut strace = traced(&Command::new("true"), CLASSES[2].1, "KILL:when=1000");
    match strace.stderr(Stdio::piped()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// How a run under strace came to its end.
#[derive(Debug)]
struct Ended {
    status: ExitStatus,
    /// Calls of the class until then, where they were counted.
    calls: usize,
}

impl Ended {
    fn by_itself(&self) -> bool {
        self.status.signal().is_none()
    }
}

/// Runs `apply` until it is killed at the `number`-th call of this class, or ends by itself.
#[expect(clippy::zombie_processes, reason = "`stop_by_stop` waits for it")]
fn killed(workspace: &Workspace, calls: &str, side: Side, number: usize) -> Ended {
    let apply = workspace.command(&["apply", "manifest.yaml", "--in-doubt", "hold"]);
    match side {
        Side::Before => {
            let mut strace = traced(&apply, calls, &format!("KILL:when={number}"));
            let status = strace.status().expect("strace runs");
            Ended { status, calls: 0 }
        }
        Side::After => {
            let child = traced(&apply, calls, "STOP").spawn().expect("strace runs");
            stop_by_stop(Pid::from_child(&child), number)
        }
    }
}

/// Lets a process go on after each stop, but not after this one.
fn stop_by_stop(process: Pid, number: usize) -> Ended {
    let patience = Instant::now() + SAFETY_NET;
    let mut calls = 0;
    loop {
        let news = waitpid(Some(process), WaitOptions::UNTRACED | WaitOptions::NOHANG);
        let Some((_, found)) = news.expect("a child") else {
            if Instant::now() > patience {
                kill_process(process, Signal::KILL).expect("it is not waited for yet");
                panic!("it hangs behind call {calls}");
            }
            thread::sleep(Duration::from_micros(50));
            continue;
        };
        if !WaitStatus::stopped(found) {
            return Ended {
                status: ExitStatus::from_raw(found.as_raw()),
                calls,
            };
        }
        calls += 1;
        let signal = if calls == number {
            Signal::KILL
        } else {
            Signal::CONT
        };
        kill_process(process, signal).expect("it is not waited for yet");
    }
}

fn workspace(service: &Service) -> Workspace {
    let mut workspace = Workspace::with(
        &format!(
            "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}}}\n\
             run: {{concurrency: {CONCURRENCY}}}\n"
        ),
        &[],
    );
    for index in 0..FILES {
        // The first two are streamed, with the gate at their end; the others are sent at once.
        let size = if index < 2 { 200_000 } else { 100 };
        workspace.write(&format!("in/{index}.bin"), vec![b'0'; size + index]);
    }
    service.serve(&mut workspace);
    workspace
}

/// What a series of kills came to.
#[derive(Debug, Default)]
struct Tally {
    kills: usize,
    settled: Settled,
}

/// Kills a run, and sees to it that the next ones find all in order. True where it was killed.
fn survives(calls: &str, side: Side, number: usize, tally: &mut Tally) -> bool {
    let mut service = Service::start();
    let workspace = workspace(&service);
    let ended = killed(&workspace, calls, side, number);
    let point = format!("{side:?} call {number} of {calls}: {ended:?}");
    if ended.by_itself() {
        assert_eq!(ended.status.code(), Some(0), "{point}");
        assert_each_stored_once(&workspace, &service.settled(), FILES);
        return false;
    }
    assert_eq!(ended.status.signal(), Some(9), "{point}");
    tally.kills += 1;
    let left = doubts(&workspace).len();
    assert!(left <= 2 * CONCURRENCY, "{left} in doubt, {point}");

    let resumed = workspace.run(&["apply", "manifest.yaml", "--in-doubt", "hold"]);
    let expected = if left == 0 { 0 } else { 76 };
    assert_eq!(resumed.code, expected, "{point}: {}", resumed.all());
    assert_eq!(rows(&workspace.report()).len(), FILES, "{point}");
    let settled = settle_by_records(&workspace, &mut service);
    assert_eq!(settled.all(), left, "{point}");
    if left > 0 {
        let last = workspace.run(&["apply", "manifest.yaml", "--in-doubt", "hold"]);
        assert_eq!(last.code, 0, "{point}: {}", last.all());
    }
    assert_each_stored_once(&workspace, &service.settled(), FILES);
    tally.settled += settled;
    true
}

/// Kills at one call after the other, in such strides, until a run ends by itself.
fn series(calls: &str, side: Side, first: usize, stride: usize) -> Tally {
    let mut tally = Tally::default();
    for number in (first..).step_by(stride) {
        if !survives(calls, side, number, &mut tally) {
            break;
        }
    }
    tally
}

#[test]
#[expect(clippy::print_stderr, reason = "says what is passed over")]
fn a_run_that_is_killed_at_any_call_is_resumed_and_each_file_is_stored_once() {
    if let Some(why) = hindrance() {
        eprintln!("passed over: strace cannot inject signals here: {why}");
        return;
    }
    let variable = |name, default| -> u64 {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let every = variable("ROE_BATCH_KILLS", 0) >= 1000;
    let seed = variable("ROE_BATCH_SEED", 3);
    let mut chance = fastrand::Rng::with_seed(seed);
    let begun = Instant::now();
    let tallies: Vec<Tally> = thread::scope(|scope| {
        let mut all = Vec::new();
        for (class, calls) in CLASSES {
            // Counts the calls of a run that is never killed.
            let service = Service::start();
            let whole = killed(&workspace(&service), calls, Side::After, 0);
            assert!(whole.by_itself(), "{whole:?}");
            assert!(whole.calls >= FILES, "{class}: {whole:?}");
            for (side, points) in [(Side::Before, 20), (Side::After, 8)] {
                let stride = if every {
                    1
                } else {
                    whole.calls.div_ceil(points)
                };
                let first = chance.usize(1..=stride);
                all.push(scope.spawn(move || {
                    let tally = series(calls, side, first, stride);
                    eprintln!(
                        "{class}, {side:?}: from {first} by {stride} of about {}: {tally:?}",
                        whole.calls
                    );
                    tally
                }));
            }
        }
        all.into_iter()
            .map(|series| series.join().expect("the series holds"))
            .collect()
    });
    let kills: usize = tallies.iter().map(|tally| tally.kills).sum();
    eprintln!("seed {seed}: {kills} kills in {:?}", begun.elapsed());
    assert!(tallies.iter().all(|tally| tally.kills > 0), "{tallies:?}");
}

/// What the module says of strace holds for the strace that is here.
#[test]
#[expect(clippy::print_stderr, reason = "says what is passed over")]
fn a_kill_before_a_call_prevents_it_and_one_after_does_not() {
    if let Some(why) = hindrance() {
        eprintln!("passed over: strace cannot inject signals here: {why}");
        return;
    }
    for (side, made) in [(Side::Before, false), (Side::After, true)] {
        let service = Service::start();
        let workspace = workspace(&service);
        let ended = killed(&workspace, "?mkdir,mkdirat", side, 1);
        assert!(!ended.by_itself(), "{ended:?}");
        assert_eq!(workspace.at(".roe-batch").exists(), made, "{side:?}");
    }
}
