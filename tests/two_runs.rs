//! Two runs of one manifest that begin together: one does the work, the other steps back and says
//! to whom.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bad_server::{Act, BadServer, Signal};
use common::service::{SAFETY_NET, Service, assert_each_stored_once, rows};
use common::{DATASET, KEY, Ran, Workspace};

const ROUNDS: usize = 50;

/// Files that each round adds.
const FILES: usize = 2;

fn workspace() -> Workspace {
    Workspace::with(
        &format!(
            "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}}}\n"
        ),
        &[],
    )
}

fn start(workspace: &Workspace) -> Child {
    workspace
        .command(&["apply", "manifest.yaml", "--in-doubt", "hold"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs")
}

/// The process that ran, and how it ended.
struct Ended {
    process: u32,
    ran: Ran,
}

fn end(child: Child) -> Ended {
    Ended {
        process: child.id(),
        ran: common::service::ran(&child.wait_with_output().expect("its end")),
    }
}

/// It did nothing, and says which process does.
fn assert_stepped_back(one: &Ended, for_process: u32) {
    let shown = one.ran.all();
    assert_eq!(one.ran.code, 75, "{shown}");
    let holder = format!("(process {for_process}, ");
    assert!(one.ran.stderr.contains(&holder), "{holder} in {shown}");
    assert!(one.ran.stdout.is_empty(), "{shown}");
}

/// The report of the state folder belongs to this process's run.
fn assert_did_the_work(workspace: &Workspace, one: &Ended, files: usize) {
    let shown = one.ran.all();
    assert_eq!(one.ran.code, 0, "{shown}");
    assert_eq!(rows(&workspace.report()).len(), files, "{shown}");
}

#[test]
#[expect(clippy::print_stderr, reason = "for people who ask with --nocapture")]
fn of_two_runs_that_start_together_one_does_the_work_and_each_file_is_stored_once() {
    let mut service = Service::start();
    let mut workspace = workspace();
    service.serve(&mut workspace);
    let (mut stepped_back, mut came_after) = (0, 0);
    let begun = Instant::now();
    for round in 0..ROUNDS {
        for number in 0..FILES {
            workspace.write(
                &format!("in/{round}-{number}.txt"),
                format!("{round} {number}"),
            );
        }
        let files = (round + 1) * FILES;
        let two = [start(&workspace), start(&workspace)];
        let [a, b] = two.map(end);
        let (worker, other) = if a.ran.code == 75 { (b, a) } else { (a, b) };
        assert_did_the_work(&workspace, &worker, files);
        if other.ran.code == 75 {
            assert_stepped_back(&other, worker.process);
            stepped_back += 1;
        } else {
            // It came when the first had ended: one of them found nothing to do.
            assert_did_the_work(&workspace, &other, files);
            let idle = [&worker, &other].map(|one| one.ran.stdout.contains("nothing to upload"));
            assert!(
                idle[0] != idle[1],
                "{}{}",
                worker.ran.all(),
                other.ran.all()
            );
            came_after += 1;
        }
        assert_eq!(service.stats().stored, files as u64, "round {round}");
    }
    assert_each_stored_once(&workspace, &service.settled(), ROUNDS * FILES);
    eprintln!(
        "{ROUNDS} rounds in {:?}: {stepped_back} times the other stepped back, {came_after} times \
         it came after",
        begun.elapsed()
    );
}

/// Waits for one of two to end. Returns it and the other.
fn first_to_end(mut one: Child, mut other: Child) -> (Child, Child) {
    let patience = Instant::now() + SAFETY_NET;
    loop {
        if one.try_wait().expect("a child").is_some() {
            return (one, other);
        }
        if other.try_wait().expect("a child").is_some() {
            return (other, one);
        }
        assert!(Instant::now() < patience, "both wait");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "for people who ask with --nocapture")]
fn a_run_that_finds_another_under_way_does_not_wait_for_it() {
    let mut longest = Duration::ZERO;
    for _ in 0..10 {
        let stepped_back = Signal::new();
        let server = {
            let stepped_back = Arc::clone(&stepped_back);
            // Until one of the two has gone, the service answers nobody.
            BadServer::start(0, 0, move |upload| {
                stepped_back.wait();
                Act::store(upload)
            })
        };
        let mut workspace = workspace();
        workspace.write("in/a.txt", "a");
        workspace.env("ROE_API_KEY", KEY);
        workspace.env(
            "ROE_BASE_URL",
            &format!("http://127.0.0.1:{}", server.port()),
        );
        let begun = Instant::now();
        let (gone, worker) = first_to_end(start(&workspace), start(&workspace));
        let gone = end(gone);
        longest = longest.max(begun.elapsed());
        stepped_back.set();
        let worker = end(worker);
        assert_stepped_back(&gone, worker.process);
        assert_did_the_work(&workspace, &worker, 1);
        let uploads = server.finish();
        assert_eq!(uploads.len(), 1);
        assert!(uploads[0].is_whole());
    }
    eprintln!("stepping back took {longest:?} at most");
}

#[test]
fn who_looks_while_a_run_is_under_way_is_told_so() {
    let (begun, told) = (Signal::new(), Signal::new());
    let server = {
        let (begun, told) = (Arc::clone(&begun), Arc::clone(&told));
        BadServer::start(0, 0, move |upload| {
            begun.set();
            told.wait();
            Act::store(upload)
        })
    };
    let mut workspace = workspace();
    workspace.write("in/a.txt", "a");
    workspace.env("ROE_API_KEY", KEY);
    let url = format!("http://127.0.0.1:{}", server.port());
    workspace.env("ROE_BASE_URL", &url);
    let child = start(&workspace);
    begun.wait();
    let in_use = format!("in use now (process {}, run ", child.id());
    let status = workspace.run(&["status", "manifest.yaml"]);
    assert!(status.stdout.contains(&in_use), "{}", status.all());
    assert!(
        status.stdout.contains("under way; 1 planned"),
        "{}",
        status.all()
    );
    let plan = workspace.run(&["plan", "manifest.yaml"]);
    assert!(plan.stderr.contains(&in_use), "{}", plan.all());
    told.set();
    assert_did_the_work(&workspace, &end(child), 1);
    let status = workspace.run(&["status", "manifest.yaml"]);
    assert!(!status.stdout.contains("in use"), "{}", status.all());
    let plan = workspace.run(&["plan", "manifest.yaml"]);
    assert_eq!(plan.stderr, "");
    assert_eq!(server.finish().len(), 1);
}

/// A service that answers nobody before it is told to, and a run that is sending to it.
struct UnderWay {
    workspace: Workspace,
    server: BadServer,
    answer: Arc<Signal>,
    child: Child,
}

impl UnderWay {
    fn begin() -> Self {
        let (begun, answer) = (Signal::new(), Signal::new());
        let server = {
            let (begun, answer) = (Arc::clone(&begun), Arc::clone(&answer));
            BadServer::start(0, 0, move |upload| {
                begun.set();
                answer.wait();
                Act::store(upload)
            })
        };
        let mut workspace = workspace();
        workspace.write("in/a.txt", "a");
        workspace.env("ROE_API_KEY", KEY);
        let url = format!("http://127.0.0.1:{}", server.port());
        workspace.env("ROE_BASE_URL", &url);
        let child = start(&workspace);
        begun.wait();
        Self {
            workspace,
            server,
            answer,
            child,
        }
    }

    /// What is said of it, up to its run's id.
    fn holder(&self) -> String {
        format!("(process {}, run ", self.child.id())
    }

    fn end(self) {
        self.answer.set();
        assert_did_the_work(&self.workspace, &end(self.child), 1);
        assert_eq!(self.server.finish().len(), 1);
    }
}

#[test]
fn who_is_to_skip_while_a_run_is_under_way_says_so_in_a_line_and_does_nothing() {
    let under_way = UnderWay::begin();
    let workspace = &under_way.workspace;
    let ledger = std::fs::read(workspace.at(".roe-batch/ledger.sqlite")).expect("a ledger");
    workspace.write("map.csv", "path,file_id\nin/a.txt,x\n");
    workspace.write(
        "other.yaml",
        "version: 1\nuploads: [{name: a, root: in, include: '*'}]\n",
    );
    let skipped = format!("skipped: another run is under way {}", under_way.holder());
    let waiting = format!("waiting for another run to end {}", under_way.holder());
    for (command, lines) in [
        ("apply manifest.yaml --if-locked skip", vec![&skipped]),
        (
            "apply manifest.yaml other.yaml --if-locked skip",
            vec![&skipped, &skipped],
        ),
        (
            "apply manifest.yaml --if-locked skip --wait 0.2",
            vec![&waiting, &skipped],
        ),
        ("resolve manifest.yaml --if-locked skip", vec![&skipped]),
        (
            "forget manifest.yaml in/a.txt --if-locked skip",
            vec![&skipped],
        ),
        (
            "import manifest.yaml map.csv --if-locked skip",
            vec![&skipped],
        ),
    ] {
        let args: Vec<&str> = command.split(' ').collect();
        let ran = workspace.run(&args);
        let shown = ran.all();
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (0, ""),
            "{command}: {shown}"
        );
        let said: Vec<&str> = ran.stderr.lines().collect();
        assert_eq!(said.len(), lines.len(), "{command}: {shown}");
        for (line, wanted) in said.iter().zip(lines) {
            assert!(line.starts_with(wanted.as_str()), "{command}: {shown}");
        }
    }
    let now = std::fs::read(workspace.at(".roe-batch/ledger.sqlite")).expect("a ledger");
    assert!(now == ledger, "the ledger was written to");
    under_way.end();
}

#[test]
fn who_is_to_fail_or_waits_in_vain_is_to_try_again_later() {
    let under_way = UnderWay::begin();
    for options in [
        &["--if-locked", "fail"][..],
        &["--if-locked", "wait", "--wait", "0.2"],
        &["--wait", "0.2"],
        &[],
    ] {
        let args = [&["apply", "manifest.yaml"][..], options].concat();
        let ran = under_way.workspace.run(&args);
        let shown = ran.all();
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (75, ""),
            "{args:?}: {shown}"
        );
        let waits = options.contains(&"--wait");
        assert_eq!(
            ran.stderr.contains("waiting for"),
            waits,
            "{args:?}: {shown}"
        );
        assert!(
            ran.stderr.contains(&under_way.holder()),
            "{args:?}: {shown}"
        );
    }
    under_way.end();
}

#[test]
fn who_is_to_wait_goes_on_when_the_run_under_way_has_ended() {
    let under_way = UnderWay::begin();
    let mut second = under_way
        .workspace
        .command(&["apply", "manifest.yaml", "--if-locked", "wait"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    let mut stderr = BufReader::new(second.stderr.take().expect("piped"));
    stderr.read_line(&mut line).expect("a line");
    assert!(line.contains(&under_way.holder()), "{line}");
    under_way.answer.set();
    let second = end(second);
    assert_did_the_work(&under_way.workspace, &second, 1);
    assert!(
        second.ran.stdout.contains("nothing to upload"),
        "{}",
        second.ran.all()
    );
    under_way.end();
}

#[test]
fn to_fail_and_to_wait_contradict_each_other() {
    let workspace = workspace();
    for command in [
        "apply manifest.yaml",
        "resolve manifest.yaml",
        "forget manifest.yaml a",
        "import manifest.yaml map.csv",
    ] {
        let options = "--if-locked fail --wait 5m";
        let args: Vec<&str> = command.split(' ').chain(options.split(' ')).collect();
        let ran = workspace.run(&args);
        assert_eq!((ran.code, ran.stdout.as_str()), (64, ""), "{}", ran.all());
        let said =
            "error: --if-locked fail does not wait, and --wait does: leave one of them out\n";
        assert_eq!(ran.stderr, said, "{command}");
    }
}
