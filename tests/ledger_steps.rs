//! Which steps of an attempt the ledger is asked to write down, and what waits for them.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;
#[path = "common/engine.rs"]
mod engine;

use std::sync::{Arc, Mutex};

use bad_server::{Act, BadServer, Signal, Upload};
use common::{KEY, Workspace};
use engine::{Engine, MemoryLedger, Ran};
use roe_batch::ledger::{State, Transition};
use roe_batch::model::Outcome;

const MANIFEST: &str = "version: 1\nuploads:\n- {name: all, root: in, include: '**'}\n";

/// Read whole before anything of it is sent.
const WHOLE: usize = 1024;

/// Streamed.
const STREAMED: usize = 300 * 1024;

/// Streamed; of a larger one the ledger notes when it begins to be sent.
const NOT_NOTED_MAX: usize = 1024 * 1024;

/// One run over files of these sizes, so many at a time.
fn run(
    concurrency: u32,
    files: &[(&str, usize)],
    script: impl Fn(&Upload) -> Act + Send + Sync + 'static,
    watch: impl FnMut(&Transition) + Send + 'static,
) -> Ran {
    let texts: Vec<(String, String)> = files
        .iter()
        .map(|(name, size)| (format!("in/{name}"), "x".repeat(*size)))
        .collect();
    let texts: Vec<(&str, &str)> = texts.iter().map(|(n, t)| (&**n, &**t)).collect();
    let workspace = Workspace::with("", &texts);
    let server = BadServer::start(0, 0, script);
    let url = format!("http://127.0.0.1:{}", server.port());
    let engine = Engine::new(MANIFEST, workspace.path(), &url, KEY, concurrency);
    engine.run(Box::new(MemoryLedger::watched(watch)), &|_| {})
}

#[test]
fn that_a_file_begins_to_be_sent_is_noted_of_large_ones_only() {
    let files = [
        ("a.bin", WHOLE),
        ("b.bin", STREAMED),
        ("c.bin", NOT_NOTED_MAX),
        ("d.bin", NOT_NOTED_MAX + 1),
    ];
    let steps: Arc<Mutex<Vec<(String, State)>>> = Arc::default();
    let ran = {
        let steps = Arc::clone(&steps);
        run(1, &files, Act::store, move |step| {
            let step = (step.path.as_str().to_owned(), step.state);
            steps.lock().expect("no panic").push(step);
        })
    };
    assert_eq!(ran.files(Outcome::Stored), files.len());
    let steps = steps.lock().expect("no panic");
    let with = |wanted| -> Vec<&str> {
        let steps = steps.iter().filter(|(_, state)| *state == wanted);
        steps.map(|(path, _)| path.as_str()).collect()
    };
    let all = ["in/a.bin", "in/b.bin", "in/c.bin", "in/d.bin"];
    assert_eq!(with(State::Opened), ["in/d.bin"]);
    assert_eq!(with(State::Committing), all);
    assert_eq!(with(State::Stored), all);
}

/// The first file's end becomes durable only after the second one began to be sent, which a run
/// that waits for it would never see.
#[test]
fn an_answered_file_makes_room_for_the_next_before_its_end_is_durable() {
    let begun = Signal::new();
    let script = {
        let begun = Arc::clone(&begun);
        move |upload: &Upload| {
            if upload.number == 1 {
                begun.set();
            }
            Act::store(upload)
        }
    };
    let ran = run(
        1,
        &[("a.bin", WHOLE), ("b.bin", STREAMED)],
        script,
        move |step| {
            if step.state == State::Stored && step.path.as_str() == "in/a.bin" {
                begun.wait();
            }
        },
    );
    assert_eq!(ran.files(Outcome::Stored), 2);
}

/// What a crash would leave in doubt at any moment, where all that can be ready is ready before the
/// first answer, and answers then come faster than the ledger is shown their ends.
#[test]
fn no_more_gates_are_open_at_once_than_files_may_be_in_hand() {
    const CONCURRENCY: u32 = 4;
    const IN_HAND: u32 = 2 * CONCURRENCY - 1;
    let names: Vec<String> = (0..100).map(|number| format!("{number}.bin")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (&**name, WHOLE)).collect();
    let ready = Signal::new();
    let script = {
        let ready = Arc::clone(&ready);
        move |upload: &Upload| {
            ready.wait();
            Act::store(upload)
        }
    };
    let most: Arc<Mutex<u32>> = Arc::default();
    let ran = {
        let (most, mut open) = (Arc::clone(&most), 0);
        run(CONCURRENCY, &files, script, move |step| {
            match step.state {
                State::Committing => open += 1,
                _ => open -= 1,
            }
            if open == IN_HAND {
                ready.set();
            }
            let mut most = most.lock().expect("no panic");
            *most = open.max(*most);
        })
    };
    assert_eq!(ran.files(Outcome::Stored), files.len());
    assert_eq!(*most.lock().expect("no panic"), IN_HAND);
}
