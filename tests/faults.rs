//! The real program against a service that misbehaves in every way of DESIGN's verdict table.
//!
//! Each case asserts the exit code, the report, what reached the service, and, by a second run,
//! what the ledger remembers. What "reached" means is counted by the server itself.

#[path = "common/bad_server.rs"]
mod bad_server;
#[path = "common/world.rs"]
mod world;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use roe_batch::ledger::{Ledger, SqliteLedger};
use serde_json::{Value, json};

use bad_server::{Act, BadServer, SAFETY_NET, Signal, Upload, http, stored_json};
use world::{HUGE, KEY, LARGE, MANIFEST, Running, SMALL, World};

/// What the ledger makes a second run do with the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    /// It is stored: not sent.
    Skipped,
    /// It may be stored: not sent, and still in doubt.
    Held,
    /// It is certainly not stored: sent.
    Sent,
}

/// How a file is uploaded, and what must come of it.
#[derive(Clone)]
struct Case {
    name: String,
    size: u64,
    /// What the service does, upload by upload; afterwards it stores.
    acts: Vec<Act>,
    arguments: &'static [&'static str],
    exit: i32,
    outcome: &'static str,
    /// Uploads of the first run that the service saw the beginning of.
    begun: usize,
    /// Uploads of the first run that the service saw whole.
    whole: usize,
    again: Again,
}

const FEW: &[&str] = &["--concurrency", "1", "--max-attempts", "2"];

/// For a server that stalls. The time is longer than a loaded machine takes for what does move.
const IMPATIENT: &[&str] = &["--max-attempts", "2", "--timeout", "2"];

impl Case {
    /// The first upload is answered or broken off by an act, and nothing else is sent.
    fn once(name: impl Into<String>, size: u64, act: Act) -> Self {
        Self {
            name: name.into(),
            size,
            acts: vec![act],
            arguments: FEW,
            exit: 0,
            outcome: "stored",
            begun: 1,
            whole: 1,
            again: Again::Skipped,
        }
    }

    fn in_doubt(self) -> Self {
        Self {
            exit: 76,
            outcome: "in_doubt",
            again: Again::Held,
            ..self
        }
    }

    fn not_stored(self, outcome: &'static str, exit: i32) -> Self {
        Self {
            exit,
            outcome,
            again: Again::Sent,
            ..self
        }
    }

    fn partial(self) -> Self {
        Self { whole: 0, ..self }
    }

    /// The next attempt stores it.
    fn retried(self) -> Self {
        Self {
            begun: self.begun + 1,
            whole: self.whole + 1,
            ..self
        }
    }

    fn with(self, arguments: &'static [&'static str]) -> Self {
        Self { arguments, ..self }
    }

    fn check(self) {
        let name = format!("{} ({} bytes)", self.name, self.size);
        let acts = self.acts;
        let world = World::new(move |upload| {
            acts.get(upload.number)
                .cloned()
                .unwrap_or_else(|| Act::store(upload))
        })
        .file("a.bin", self.size);
        let first = world.apply(self.arguments);
        let shown = format!(
            "{name}:\n{}{}{:#}",
            first.stderr, first.stdout, first.report
        );
        assert_eq!(first.outcome("a.bin"), self.outcome, "{shown}");
        assert_eq!(first.code, self.exit, "{shown}");
        assert_eq!(world.server().count(), self.begun, "{shown}");
        assert_eq!(first.row("a.bin")["attempts"], self.begun, "{shown}");
        let second = world.apply(self.arguments);
        let (exit, outcome, sent) = match self.again {
            Again::Skipped => (0, "skipped", 0),
            Again::Held => (76, "in_doubt", 0),
            Again::Sent => (0, "stored", 1),
        };
        let shown = format!("{name}, second run:\n{}{:#}", second.stderr, second.report);
        assert_eq!(second.outcome("a.bin"), outcome, "{shown}");
        assert_eq!(second.code, exit, "{shown}");
        let uploads = world.finish();
        assert_eq!(uploads.len(), self.begun + sent, "{shown}");
        let whole = uploads[..self.begun]
            .iter()
            .filter(|upload| upload.is_whole());
        assert_eq!(whole.count(), self.whole, "{name}");
        assert!(
            uploads[self.begun..].iter().all(Upload::is_whole),
            "{shown}"
        );
    }
}

/// A few at a time: most of a case is waiting.
fn check_all(cases: Vec<Case>) {
    assert!(!cases.is_empty());
    let mut cases = cases.into_iter().peekable();
    while cases.peek().is_some() {
        let some: Vec<Case> = cases.by_ref().take(4).collect();
        thread::scope(|scope| {
            for case in some {
                scope.spawn(move || case.check());
            }
        });
    }
}

fn cut_short(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{text}")
}

#[test]
fn a_success_with_an_id_is_stored_in_whatever_shape_it_comes() {
    let full = stored_json("f-1");
    let nulls = r#"{"id": "f-1", "dataset": null, "name": null, "size": null, "creator": null}"#;
    let chunked = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{full}\r\n0\r\n\r\n",
        full.len()
    );
    let answers = [
        ("200", Act::answer(http(200, &[], &full))),
        ("201", Act::answer(http(201, &[], &full))),
        ("null fields", Act::answer(http(200, &[], nulls))),
        (
            "a number as id",
            Act::answer(http(200, &[], r#"{"id": 7}"#)),
        ),
        (
            "no content type, other content type",
            Act::answer(http(200, &[("Content-Type", "text/html")], &full)),
        ),
        (
            "interim answers first",
            Act::answer(format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n{}",
                http(200, &[], &full)
            )),
        ),
        ("in chunks", Act::answer(chunked)),
        (
            "to the end of the connection",
            Act::answer_and_close(format!("HTTP/1.0 200 OK\r\n\r\n{full}")),
        ),
        (
            "whole, although more was promised",
            Act::answer_and_close(cut_short(&full)),
        ),
    ];
    let cases = answers
        .into_iter()
        .flat_map(|(name, act)| [SMALL, LARGE].map(|size| Case::once(name, size, act.clone())));
    check_all(cases.collect());
}

#[test]
fn a_success_without_a_readable_id_is_stored_and_never_sent_again() {
    let answers = [
        ("no id", Act::answer(http(200, &[], r#"{"name": "n"}"#))),
        (
            "null id",
            Act::answer(http(200, &[], r#"{"id": null, "creator": "c"}"#)),
        ),
    ];
    let cases = answers
        .into_iter()
        .flat_map(|(name, act)| [SMALL, LARGE].map(|size| Case::once(name, size, act.clone())));
    check_all(cases.collect());
}

/// What failed since does not make the service forget what it has.
#[test]
fn a_file_that_goes_back_to_its_stored_version_is_not_stored_twice() {
    let world = World::new(|upload| match upload.number {
        0 => Act::store(upload),
        _ => Act::answer(http(422, &[], "{}")),
    });
    let world = world.file("a.bin", SMALL);
    let path = world.work().join("inbox/a.bin");
    let first = fs::read(&path).expect("the file");
    assert_eq!(world.apply(FEW).outcome("a.bin"), "stored");
    fs::write(&path, "something else").expect("written");
    assert_eq!(world.apply(FEW).outcome("a.bin"), "rejected");
    fs::write(&path, first).expect("written");
    let ran = world.apply(FEW);
    assert_eq!((ran.code, ran.outcome("a.bin")), (0, "skipped"));
    assert_eq!(world.finish().len(), 2);
}

/// The service reads nothing but the head of a request, answers, and goes: a body that arrives
/// before or after can make the system throw the answer away. Held back for about a round trip it
/// has not come when the service answers; where this machine is slow, some of it may have.
#[test]
fn a_refusal_by_the_head_alone_is_read_although_the_connection_is_reset() {
    const FILES: usize = 30;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let over = Arc::new(AtomicBool::new(false));
    let held = Arc::new(AtomicUsize::new(0));
    let server = {
        let (over, held) = (Arc::clone(&over), Arc::clone(&held));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(true) = stream.and_then(|stream| refuse_by_the_head(&stream)) {
                    held.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let world = (0..FILES).fold(World::without_server(port), |world, n| {
        world.file(&format!("{n}.bin"), HUGE)
    });
    let ran = world.apply(&["--concurrency", "1", "--max-attempts", "1"]);
    let read = ran.outcomes();
    let read = read.iter().filter(|(_, outcome)| *outcome == "rejected");
    let read = read.count();
    let held = held.load(Ordering::Relaxed);
    assert!(
        read > FILES / 2 && held > FILES / 2,
        "{read} read, {held} held back, of {FILES}\n{}",
        ran.stderr
    );
    over.store(true, Ordering::Relaxed);
    drop(TcpStream::connect((Ipv4Addr::LOCALHOST, port)));
    server.join().expect("the server's thread");
}

/// Whether nothing of the body had come when the answer was sent.
fn refuse_by_the_head(mut stream: &TcpStream) -> io::Result<bool> {
    stream.set_read_timeout(Some(SAFETY_NET))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    // As far away as a service in another city.
    thread::sleep(Duration::from_millis(10));
    let answer = http(
        413,
        &[("Connection", "close")],
        r#"{"detail": "too large"}"#,
    );
    stream.set_nonblocking(true)?;
    let nothing_more = stream.peek(&mut byte).is_err();
    stream.set_nonblocking(false)?;
    stream.write_all(answer.as_bytes())?;
    Ok(nothing_more)
}

/// The id counts, but nobody is told that all is as it was sent.
#[test]
fn a_stored_file_that_the_service_describes_otherwise_says_so() {
    let body = r#"{"id": "f-1", "name": "other.bin", "size": 1, "dataset": {"id": "x"}}"#;
    let dataset = "3f2b7a52-0000-4000-8000-000000000001";
    let manifest = MANIFEST.replace(
        "{name: all,",
        &format!("{{name: all, dataset_id: {dataset},"),
    );
    let world = World::new(move |_| Act::answer(http(200, &[], body))).manifest(&manifest);
    let world = world.file("a.bin", SMALL);
    let ran = world.apply(FEW);
    assert_eq!((ran.code, ran.outcome("a.bin")), (1, "stored"));
    let row = ran.row("a.bin");
    assert_eq!(
        (&row["file_id"], &row["returned_name"]),
        (&json!("f-1"), &json!("other.bin"))
    );
    let reason = row["reason"].as_str().expect("a reason");
    assert_eq!(
        reason,
        "stored, but mismatch: the service says 1 bytes, 5120 were sent; renamed: the service \
         calls it \"other.bin\"; wrong_target: it is in dataset x"
    );
    for shown in [&ran.stdout, &ran.stderr] {
        assert!(shown.contains(reason), "{shown}");
    }
    let again = world.apply(FEW);
    assert_eq!((again.code, again.outcome("a.bin")), (0, "skipped"));
    assert_eq!(world.finish().len(), 1);
}

/// Each difference alone, and what it makes of the run.
#[test]
fn only_a_file_that_is_elsewhere_or_not_what_was_sent_fails_the_run() {
    let dataset = "3f2b7a52-0000-4000-8000-000000000001";
    let manifest = MANIFEST.replace(
        "{name: all,",
        &format!("{{name: all, dataset_id: {dataset},"),
    );
    for (body, word, code) in [
        (r#"{"id": "f-1", "name": "other.bin"}"#, "renamed", 0),
        (r#"{"id": "f-1", "size": 5119}"#, "mismatch", 1),
        (
            r#"{"id": "f-1", "dataset": {"id": "x"}}"#,
            "wrong_target",
            1,
        ),
        (r#"{"id": "f-1", "size": 5120}"#, "", 0),
    ] {
        let world = World::new(move |_| Act::answer(http(200, &[], body))).manifest(&manifest);
        let world = world.file("a.bin", SMALL);
        let ran = world.apply(FEW);
        assert_eq!((ran.code, ran.outcome("a.bin")), (code, "stored"), "{body}");
        assert_eq!(ran.row("a.bin")["file_id"], "f-1");
        let reason = ran.row("a.bin")["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(word), "{reason}");
        assert_eq!(reason.is_empty(), word.is_empty(), "{reason}");
        world.finish();
    }
}

/// A login page answers 200 too: only the API's own words count as its word.
#[test]
fn a_success_that_the_api_cannot_have_said_is_in_doubt() {
    let padded = format!(
        r#"{{"id": "f-1", "padding": "{}"}}"#,
        "x".repeat(2 * 1024 * 1024)
    );
    let answers = [
        ("empty answer", Act::answer(http(200, &[], ""))),
        (
            "204",
            Act::answer("HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
        ),
        ("garbage", Act::answer(http(200, &[], "{\"id\": \u{1}]]"))),
        (
            "an error",
            Act::answer(http(200, &[], r#"{"error": "disk full"}"#)),
        ),
        (
            "nothing of a file",
            Act::answer(http(200, &[], r#"{"id": null}"#)),
        ),
        (
            "a page of HTML",
            Act::answer(http(200, &[], "<title>Sign in</title>")),
        ),
        (
            "an answer that breaks off",
            Act::answer_and_close(cut_short(r#"{"id": "f"#)),
        ),
        (
            "an answer of 2 MiB",
            Act::answer_and_close(http(200, &[], &padded)),
        ),
    ];
    let cases = answers.into_iter().flat_map(|(name, act)| {
        [SMALL, LARGE].map(|size| Case::once(name, size, act.clone()).in_doubt())
    });
    let mut cases: Vec<Case> = cases.collect();
    cases.push(
        Case::once(
            "an answer that stalls",
            SMALL,
            Act::answer_and_stall(cut_short(r#"{"id": "f"#)),
        )
        .in_doubt()
        .with(IMPATIENT),
    );
    check_all(cases);
}

#[test]
fn a_success_before_the_end_of_the_body_is_in_doubt() {
    for (name, body) in [("with id", r#"{"id": "f"}"#), ("without id", "{}")] {
        Case::once(name, HUGE, Act::answer_early(http(200, &[], body)))
            .in_doubt()
            .partial()
            .check();
    }
}

#[test]
fn a_redirect_is_not_followed_and_stops_the_run() {
    let mut cases = Vec::new();
    for status in [301, 302, 303, 307, 308] {
        let answer = http(status, &[("Location", "/v1/elsewhere/")], "");
        for size in [SMALL, LARGE] {
            let act = Act::answer(answer.clone());
            cases.push(Case::once(format!("{status}"), size, act).not_stored("failed", 69));
        }
        let act = Act::answer_early(answer);
        let early = Case::once(format!("{status} early"), HUGE, act);
        cases.push(early.not_stored("failed", 69).partial());
    }
    check_all(cases);
}

#[test]
fn a_bad_request_is_rejected_at_once_only_where_the_body_was_whole() {
    let bad = || http(400, &[], r#"{"file": ["No file was submitted."]}"#);
    let mut cases: Vec<Case> = [SMALL, LARGE]
        .map(|size| Case::once("400", size, Act::answer(bad())).not_stored("rejected", 1))
        .into();
    cases.push(
        Case::once("400 early", HUGE, Act::answer_early(bad()))
            .partial()
            .retried(),
    );
    // A run that may try five times still tries this twice.
    let twice = Case {
        acts: vec![Act::answer_early(bad()), Act::answer_early(bad())],
        begun: 2,
        ..Case::once("400 early, twice", HUGE, Act::answer_early(bad()))
    };
    cases.push(
        twice
            .not_stored("rejected", 1)
            .partial()
            .with(&["--max-attempts", "5"]),
    );
    check_all(cases);
}

#[test]
fn an_answer_about_the_file_itself_is_a_rejection() {
    let mut cases = Vec::new();
    for status in [405, 406, 410, 413, 415, 422, 431] {
        let answer = http(status, &[], "<html><title>No</title></html>");
        for size in [SMALL, LARGE] {
            let act = Act::answer(answer.clone());
            cases.push(Case::once(format!("{status}"), size, act).not_stored("rejected", 1));
        }
        let act = Act::answer_early(answer);
        let early = Case::once(format!("{status} early"), HUGE, act);
        cases.push(early.not_stored("rejected", 1).partial());
    }
    check_all(cases);
}

#[test]
fn a_failure_of_the_service_after_the_whole_body_is_in_doubt() {
    let mut cases = Vec::new();
    for status in [408, 409, 500, 501, 502, 503, 504, 520] {
        for size in [SMALL, LARGE] {
            let act = Act::answer(http(status, &[], r#"{"error": "oops"}"#));
            cases.push(Case::once(format!("{status}"), size, act).in_doubt());
        }
    }
    // How the answer's body reads changes nothing.
    for (name, act) in [
        ("500, empty", Act::answer(http(500, &[], ""))),
        (
            "500 with an id",
            Act::answer(http(500, &[], r#"{"id": "f"}"#)),
        ),
        (
            "500 that breaks off",
            Act::answer_and_close("HTTP/1.1 500 X\r\nContent-Length: 99\r\n\r\n<h".to_owned()),
        ),
    ] {
        cases.push(Case::once(name, SMALL, act).in_doubt());
    }
    check_all(cases);
}

#[test]
fn a_failure_of_the_service_before_the_end_of_the_body_is_tried_again() {
    let cases = [408, 409, 500, 502, 503, 504].map(|status| {
        let act = Act::answer_early(http(status, &[], "<h1>Bad Gateway</h1>"));
        let case = Case::once(format!("{status} early"), HUGE, act);
        case.partial().retried()
    });
    check_all(cases.into());
}

#[test]
fn a_file_whose_attempts_are_used_up_is_failed_and_sent_by_the_next_run() {
    let early = || Act::answer_early(http(502, &[], ""));
    let busy = || Act::answer(http(429, &[("Retry-After", "0")], ""));
    for (name, size, acts, whole) in [
        ("502 early", HUGE, vec![early(), early()], 0),
        ("429", SMALL, vec![busy(), busy()], 2),
    ] {
        Case {
            acts: acts.clone(),
            begun: 2,
            whole,
            ..Case::once(name, size, acts[0].clone())
        }
        .not_stored("failed", 1)
        .check();
    }
}

#[test]
fn a_service_that_asks_to_wait_is_asked_again() {
    let mut cases = Vec::new();
    for (status, headers) in [
        (425, &[][..]),
        (429, &[]),
        (429, &[("Retry-After", "0")]),
        (503, &[("Retry-After", "0")]),
        (503, &[("Retry-After", "Thu, 01 Jan 2026 00:00:00 GMT")]),
    ] {
        let answer = http(status, headers, r#"{"detail": "throttled"}"#);
        let name = format!("{status} {headers:?}");
        for size in [SMALL, LARGE] {
            cases.push(Case::once(name.clone(), size, Act::answer(answer.clone())).retried());
        }
        let early = Case::once(format!("{name} early"), HUGE, Act::answer_early(answer));
        cases.push(early.partial().retried());
    }
    check_all(cases);
}

#[test]
fn a_service_that_asks_to_wait_pauses_every_worker() {
    let (both, paused) = (Signal::new(), Signal::new());
    let world = {
        let (both, paused) = (Arc::clone(&both), Arc::clone(&paused));
        World::new(
            move |upload| match (upload.file_name.as_str(), upload.number) {
                ("a.bin", 0 | 1) => {
                    if upload.number == 1 {
                        both.set();
                    }
                    both.wait();
                    Act::answer(http(429, &[("Retry-After", "2")], ""))
                }
                ("b.bin", 0 | 1) => {
                    if upload.number == 1 {
                        both.set();
                    }
                    // The other worker comes free only once everybody has been told to wait.
                    paused.wait();
                    Act::store(upload)
                }
                _ => Act::store(upload),
            },
        )
    };
    let world = ["a.bin", "b.bin", "c.bin", "d.bin"]
        .iter()
        .fold(world, |world, name| world.file(name, SMALL));
    let mut running = world.start(&["--concurrency", "2"]);
    both.wait();
    running.until_it_says("paused");
    paused.set();
    let ran = world.end(running);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.row("a.bin")["attempts"], 2);
    let uploads = world.finish();
    assert_eq!(uploads.len(), 5);
    let told = uploads[0].at.max(uploads[1].at);
    for upload in &uploads[2..] {
        let waited = upload.at - told;
        assert!(
            waited >= Duration::from_secs(2),
            "{} came after {waited:?}",
            upload.file_name
        );
    }
}

#[test]
fn refused_credentials_stop_the_run_after_what_was_under_way() {
    for (status, concurrency) in [(401, 1), (402, 3)] {
        let world = World::new(move |_| Act::answer(http(status, &[], r#"{"detail": "no"}"#)));
        let world = (0..12).fold(world, |world, n| world.file(&format!("{n:02}.bin"), SMALL));
        let ran = world.apply(&["--concurrency", &concurrency.to_string()]);
        assert_eq!(ran.code, 77, "{}", ran.stderr);
        let outcomes = ran.outcomes();
        let failed = outcomes.iter().filter(|row| row.1 == "failed").count();
        let rest = outcomes.iter().filter(|row| row.1 == "not_attempted");
        assert_eq!(failed + rest.count(), 12, "{outcomes:?}");
        let uploads = world.finish();
        assert_eq!(uploads.len(), failed, "{outcomes:?}");
        assert!((1..=concurrency).contains(&failed), "{outcomes:?}");
    }
}

#[test]
fn refused_credentials_are_believed_whenever_they_come_and_leave_no_trace() {
    let no = || http(401, &[("WWW-Authenticate", "Bearer")], "<h1>Who?</h1>");
    check_all(vec![
        Case::once("401", SMALL, Act::answer(no())).not_stored("failed", 77),
        Case::once("401", LARGE, Act::answer(no())).not_stored("failed", 77),
        Case::once("401 early", HUGE, Act::answer_early(no()))
            .not_stored("failed", 77)
            .partial(),
    ]);
}

const THREE_TARGETS: &str = "\
version: 1
name: faults
uploads:
  - {name: one, root: inbox, include: \"1/*\", dataset_id: 3f2b7a52-0000-4000-8000-000000000001}
  - {name: two, root: inbox, include: \"2/*\", dataset_id: 3f2b7a52-0000-4000-8000-000000000002}
  - {name: three, root: inbox, include: \"3/*\", dataset_id: 3f2b7a52-0000-4000-8000-000000000003}
";

fn three_targets(script: impl Fn(&Upload) -> Act + Send + Sync + 'static) -> World {
    let world = World::new(script).manifest(THREE_TARGETS);
    ["1/a", "1/b", "2/c", "2/d", "3/e"]
        .iter()
        .fold(world, |world, name| world.file(name, SMALL))
}

#[test]
fn a_refused_target_is_left_alone_and_the_others_are_served() {
    for (status, exit) in [(403, 77), (404, 1)] {
        let world = three_targets(move |upload| match upload.number {
            0 => Act::answer(http(status, &[], r#"{"detail": "Not found."}"#)),
            _ => Act::store(upload),
        });
        let ran = world.apply(FEW);
        let expected = [
            ("1/a", "failed"),
            ("1/b", "not_attempted"),
            ("2/c", "stored"),
            ("2/d", "stored"),
            ("3/e", "stored"),
        ];
        assert_eq!(ran.outcomes(), expected, "{status}: {}", ran.stderr);
        assert_eq!(ran.code, exit, "{}", ran.stderr);
        assert_eq!(world.server().count(), 4);
        let ran = world.apply(FEW);
        let expected = [
            ("1/a", "stored"),
            ("1/b", "stored"),
            ("2/c", "skipped"),
            ("2/d", "skipped"),
            ("3/e", "skipped"),
        ];
        assert_eq!(ran.outcomes(), expected, "{status}: {}", ran.stderr);
        assert_eq!(world.finish().len(), 6);
    }
}

#[test]
fn several_refused_targets_stop_the_run() {
    for (statuses, exit) in [([403, 403], 77), ([404, 403], 77), ([404, 404], 1)] {
        let world = three_targets(move |upload| match statuses.get(upload.number) {
            Some(status) => Act::answer(http(*status, &[], "")),
            None => Act::store(upload),
        });
        let ran = world.apply(FEW);
        let expected = [
            ("1/a", "failed"),
            ("1/b", "not_attempted"),
            ("2/c", "failed"),
            ("2/d", "not_attempted"),
            ("3/e", "not_attempted"),
        ];
        assert_eq!(ran.outcomes(), expected, "{statuses:?}: {}", ran.stderr);
        assert_eq!(ran.code, exit, "{statuses:?}: {}", ran.stderr);
        assert_eq!(world.finish().len(), 2);
    }
}

#[test]
fn a_refused_target_is_believed_before_the_end_of_the_body() {
    let cases = [(403, 77), (404, 1)].map(|(status, exit)| {
        let act = Act::answer_early(http(status, &[], ""));
        let case = Case::once(format!("{status} early"), HUGE, act);
        case.not_stored("failed", exit).partial()
    });
    check_all(cases.into());
}

#[test]
fn a_service_that_is_not_there_is_tried_again_and_then_given_up() {
    // A port that was just free is not listened on.
    let port = BadServer::start(0, 0, Act::store).port();
    for size in [SMALL, LARGE] {
        let mut world = World::without_server(port).file("a.bin", size);
        let ran = world.apply(FEW);
        assert_eq!(ran.outcome("a.bin"), "not_attempted", "{}", ran.stderr);
        assert_eq!(ran.code, 69, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("paused: cannot connect"),
            "{}",
            ran.stderr
        );
        world.server = Some(BadServer::start(port, 0, Act::store));
        let ran = world.apply(FEW);
        assert_eq!(ran.outcome("a.bin"), "stored", "{}", ran.stderr);
        assert_eq!(ran.code, 0);
        let uploads = world.finish();
        assert_eq!(uploads.len(), 1);
        assert!(uploads[0].is_whole());
    }
}

#[test]
fn a_connection_that_ends_amid_the_body_is_tried_again_and_stores_once() {
    check_all(vec![
        Case::once("behind the head", HUGE, Act::break_off())
            .partial()
            .retried(),
        Case::once(
            "amid the body",
            HUGE,
            Act::break_off_after(17 * 1024 * 1024 + 5),
        )
        .partial()
        .retried(),
        Case::once("amid the body, stalled", HUGE, Act::stall_amid_body())
            .partial()
            .retried()
            .with(IMPATIENT),
    ]);
}

#[test]
fn a_connection_that_ends_after_the_whole_body_is_in_doubt() {
    let mut cases = Vec::new();
    for size in [SMALL, LARGE] {
        cases.extend([
            Case::once("no answer", size, Act::swallow()).in_doubt(),
            Case::once(
                "half an answer's head",
                size,
                Act::answer_and_close("HTTP/1.1 200 OK\r\nContent-Le".to_owned()),
            )
            .in_doubt(),
            Case::once(
                "no HTTP",
                size,
                Act::answer_and_close("SSH-2.0-OpenSSH_9.6\r\n".to_owned()),
            )
            .in_doubt(),
            Case::once("a stall", size, Act::answer_and_stall(""))
                .in_doubt()
                .with(IMPATIENT),
        ]);
    }
    // A small file goes out with its request's head, so a server that saw the head may have had
    // it all.
    let reset = Case::once("reset behind the head", SMALL, Act::break_off());
    cases.push(reset.in_doubt().partial());
    check_all(cases);
}

#[test]
fn a_connection_that_is_closed_at_once_loses_no_file_and_stores_none_twice() {
    let world = World::with(BadServer::start(0, 1, Act::store)).file("a.bin", HUGE);
    let ran = world.apply(FEW);
    assert_eq!(ran.outcome("a.bin"), "stored", "{}", ran.stderr);
    assert_eq!(ran.code, 0);
    assert_eq!(ran.row("a.bin")["attempts"], 2);
    assert_eq!(world.finish().len(), 1);

    // Whether a small file was on its way when the connection ended is the kernel's business; the
    // program must be sure before it sends it again.
    let world = World::with(BadServer::start(0, 1, Act::store)).file("a.bin", SMALL);
    let first = world.apply(FEW);
    let second = world.apply(FEW);
    let found = (
        (first.code, first.outcome("a.bin")),
        (second.code, second.outcome("a.bin")),
        world.finish().len(),
    );
    let stored = ((0, "stored"), (0, "skipped"), 1);
    let held = ((76, "in_doubt"), (76, "in_doubt"), 0);
    assert!(found == stored || found == held, "{found:?}");
}

/// An early answer races with the ledger's write for the gate. Whoever wins, no file may be lost,
/// sent twice after doubt, or break the run.
#[test]
fn an_answer_that_comes_while_the_gate_opens_breaks_nothing() {
    const FILES: usize = 48;
    let seen = std::sync::Mutex::new(std::collections::HashSet::new());
    let world = World::new(move |upload| {
        let news = seen
            .lock()
            .expect("no script panics")
            .insert(upload.file_name.clone());
        if news {
            Act::answer_and_read_on(http(409, &[], ""))
        } else {
            Act::store(upload)
        }
    });
    // One chunk each: it waits for the gate right behind the head that the server answers to.
    let world = (0..FILES).fold(world, |world, n| {
        world.file(&format!("{n:02}.bin"), 65 * 1024)
    });
    let ran = world.apply(&["--concurrency", "8"]);
    assert!([0, 76].contains(&ran.code), "{}{}", ran.stderr, ran.stdout);
    let uploads = world.finish();
    for (name, outcome) in ran.outcomes() {
        let sent = uploads.iter().filter(|upload| upload.file_name == name);
        match outcome {
            "stored" => assert_eq!(sent.count(), 2, "{name}"),
            "in_doubt" => assert_eq!(sent.count(), 1, "{name}"),
            _ => panic!("{name} is {outcome}: {:#}", ran.row(name)),
        }
    }
}

type Change = fn(&Path);

#[test]
fn a_file_that_changes_while_it_is_uploaded_is_never_sent_whole() {
    let cases: [(&str, Change); 5] = [
        ("appended to", |path| {
            let mut file = File::options().append(true).open(path).expect("the file");
            std::io::Write::write_all(&mut file, b"x").expect("a byte");
        }),
        ("cut", |path| {
            let file = File::options().write(true).open(path).expect("the file");
            file.set_len(1024).expect("a size");
        }),
        ("written to", |path| {
            let mut file = File::options().write(true).open(path).expect("the file");
            std::io::Write::write_all(&mut file, b"x").expect("a byte");
            // File systems' clocks are coarse; this is another time for sure.
            let later = SystemTime::now() + Duration::from_secs(5);
            file.set_modified(later).expect("a time");
        }),
        ("replaced", |path| {
            let other = path.with_file_name("../other");
            let modified = fs::metadata(path).and_then(|found| found.modified());
            let file = File::create(&other).expect("a file");
            file.set_len(HUGE).expect("a size");
            file.set_modified(modified.expect("a time"))
                .expect("a time");
            fs::rename(other, path).expect("another file");
        }),
        ("removed", |path| fs::remove_file(path).expect("the file")),
    ];
    for (name, change) in cases {
        let (begun, go_on) = (Signal::new(), Signal::new());
        let world = {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            World::new(move |upload| {
                begun.set();
                go_on.wait();
                Act::store(upload)
            })
        };
        let world = world.file("a.bin", HUGE);
        let running = world.start(FEW);
        begun.wait();
        change(&world.inbox("a.bin"));
        go_on.set();
        let ran = world.end(running);
        assert_eq!(ran.outcome("a.bin"), "failed", "{name}: {}", ran.stderr);
        assert_eq!(ran.code, 1, "{name}: {}", ran.stderr);
        assert_eq!(world.server().count(), 1, "{name}");
        // What was not sent whole is sent by the next run, as it is by then.
        let _ = fs::write(world.inbox("a.bin"), "as it is by then");
        let ran = world.apply(FEW);
        assert_eq!(ran.outcome("a.bin"), "stored", "{name}: {}", ran.stderr);
        let uploads = world.finish();
        assert_eq!(uploads.len(), 2, "{name}");
        assert!(!uploads[0].is_whole(), "{name}");
        assert!(uploads[1].is_whole(), "{name}");
    }
}

#[test]
fn a_request_is_exactly_what_the_service_documents() {
    let world = World::new(Act::store).manifest(
        "version: 1\nname: faults\nuploads:\n  - name: all\n    root: inbox\n    include: \"**\"\n    \
         dataset_id: 3f2b7a52-0000-4000-8000-000000000001\n    organization_id: org-1\n    \
         metadata: {version: 1.10}\n",
    );
    let sizes = [0, 1, SMALL, 64 * 1024, 64 * 1024 + 1, LARGE];
    let world = sizes.iter().enumerate().fold(world, |world, (n, size)| {
        world.file(&format!("{n}.bin"), *size)
    });
    let ran = world.apply(&["--concurrency", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let files: Vec<Vec<u8>> = (0..sizes.len())
        .map(|n| fs::read(world.inbox(&format!("{n}.bin"))).expect("its bytes"))
        .collect();
    let others = world.server().others();
    let looked =
        "GET /v1/datasets/3f2b7a52-0000-4000-8000-000000000001/?organization_id=org-1 HTTP/1.1";
    let listed = "GET /v1/datasets/?organization_id=org-1&page=1&page_size=100 HTTP/1.1";
    assert_eq!(others, [looked, listed], "it is looked for, and not there");
    let uploads = world.finish();
    assert_eq!(uploads.len(), sizes.len());
    for (n, upload) in uploads.iter().enumerate() {
        let row = ran.row(&format!("{n}.bin"));
        assert_eq!(row["file_id"], upload.id());
        let id = &upload.headers["x-request-id"];
        assert_eq!(row["request_id"], id.as_str());
        uuid::Uuid::parse_str(id).expect("X-Request-ID is a UUID");
        assert!(!upload.headers.contains_key("expect"));

        let content_type = &upload.headers["content-type"];
        let boundary = content_type
            .strip_prefix("multipart/form-data; boundary=")
            .expect("a boundary");
        let field = |name: &str, value: &str| {
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            )
        };
        let head = [
            field("dataset_id", "3f2b7a52-0000-4000-8000-000000000001"),
            field("organization_id", "org-1"),
            field("metadata", r#"{"version":"1.10"}"#),
            format!(
                "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; \
                 filename=\"{n}.bin\"\r\nContent-Type: application/octet-stream\r\n\r\n"
            ),
        ]
        .concat();
        let tail = format!("\r\n--{boundary}--\r\n");
        let body = [head.as_bytes(), &files[n], tail.as_bytes()].concat();
        assert_eq!(upload.length, body.len() as u64, "Content-Length");
        assert!(upload.body == body, "the body of {n}.bin differs");
    }
    let mut ids: Vec<&String> = uploads.iter().map(|u| &u.headers["x-request-id"]).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), uploads.len(), "each attempt has its own id");
    let connections = uploads.iter().map(|upload| upload.connection).max();
    assert!(
        connections.is_some_and(|last| last + 1 < uploads.len()),
        "connections are reused"
    );
}

#[test]
fn an_attempt_that_is_repeated_has_a_new_request_id_and_the_report_names_the_last() {
    let world = World::new(|upload| match upload.number {
        0 => Act::answer(http(429, &[("Retry-After", "0")], "")),
        _ => Act::store(upload),
    });
    let world = world.file("a.bin", SMALL);
    let ran = world.apply(FEW);
    let uploads = world.finish();
    let [first, last] = [0, 1].map(|n| uploads[n].headers["x-request-id"].as_str());
    assert_ne!(first, last);
    assert_eq!(ran.row("a.bin")["request_id"], last);
}

#[test]
fn a_first_sigterm_lets_uploads_under_way_end_and_begins_no_others() {
    let (begun, told) = (Signal::new(), Signal::new());
    let world = {
        let (begun, told) = (Arc::clone(&begun), Arc::clone(&told));
        World::new(move |upload| {
            begun.set();
            told.wait();
            Act::store(upload)
        })
    };
    let world = world.file("a.bin", HUGE).file("b.bin", SMALL);
    let mut running = world.start(&["--concurrency", "1", "--grace", "60"]);
    begun.wait();
    running.terminate();
    running.until_it_says("SIGTERM");
    told.set();
    let ran = world.end(running);
    assert_eq!(ran.code, 143, "{}", ran.stderr);
    let expected = [("a.bin", "stored"), ("b.bin", "not_attempted")];
    assert_eq!(ran.outcomes(), expected, "{}", ran.stderr);
    let ran = world.apply(FEW);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let expected = [("a.bin", "skipped"), ("b.bin", "stored")];
    assert_eq!(ran.outcomes(), expected, "{}", ran.stderr);
    assert_eq!(world.finish().len(), 2);
}

/// `a` is past the gate, `b` is not, `c` has not begun: each is told apart.
fn interrupted(grace: &str, end: impl FnOnce(&mut Running)) {
    let (whole, part) = (Signal::new(), Signal::new());
    let world = {
        let (whole, part) = (Arc::clone(&whole), Arc::clone(&part));
        World::new(
            move |upload| match (upload.number, upload.file_name.as_str()) {
                // A small file's end is on its way with its head.
                (0 | 1, "a.bin") => {
                    whole.set();
                    Act::answer_and_stall("")
                }
                (0 | 1, "b.bin") => {
                    part.set();
                    Act::stall_amid_body()
                }
                _ => Act::store(upload),
            },
        )
    };
    let world = world
        .file("a.bin", SMALL)
        .file("b.bin", HUGE)
        .file("c.bin", SMALL);
    let mut running = world.start(&["--concurrency", "2", "--grace", grace]);
    whole.wait();
    part.wait();
    running.terminate();
    running.until_it_says("SIGTERM");
    end(&mut running);
    let ran = world.end(running);
    assert_eq!(ran.code, 143, "{}", ran.stderr);
    let expected = [
        ("a.bin", "in_doubt"),
        ("b.bin", "failed"),
        ("c.bin", "not_attempted"),
    ];
    assert_eq!(ran.outcomes(), expected, "{}", ran.stderr);
    assert_eq!(ran.row("a.bin")["attempts"], 1);
    assert_eq!(ran.row("b.bin")["attempts"], 1, "b.bin was begun once");
    let csv = fs::read_to_string(world.work().join(".roe-batch/reports/manifest.csv"));
    assert_eq!(csv.expect("a CSV report").lines().count(), 4);

    let ran = world.apply(FEW);
    assert_eq!(ran.code, 76, "{}", ran.stderr);
    let expected = [
        ("a.bin", "in_doubt"),
        ("b.bin", "stored"),
        ("c.bin", "stored"),
    ];
    assert_eq!(ran.outcomes(), expected, "{}", ran.stderr);
    let uploads = world.finish();
    let count = |name: &str, whole: bool| {
        uploads
            .iter()
            .filter(|upload| upload.file_name == name && upload.is_whole() == whole)
            .count()
    };
    assert_eq!((count("a.bin", true), count("a.bin", false)), (1, 0));
    assert_eq!((count("b.bin", true), count("b.bin", false)), (1, 1));
    assert_eq!((count("c.bin", true), count("c.bin", false)), (1, 0));
}

#[test]
fn a_second_sigterm_drops_what_is_under_way_and_says_what_is_in_doubt() {
    interrupted("60", |running| {
        running.terminate();
        running.until_it_says("dropping");
    });
}

#[test]
fn the_end_of_the_grace_drops_what_is_under_way_and_says_what_is_in_doubt() {
    interrupted("0.1", |running| running.until_it_says("dropping"));
}

/// A run with four turns on the wire, which the service takes and does not give back until `told`,
/// and at least a fifth file that the ledger has, ready to leave.
fn ready_behind_the_wire(act: impl Fn(&Upload) -> Act + Send + Sync + 'static) -> ReadyBehind {
    let told = Signal::new();
    let world = {
        let told = Arc::clone(&told);
        World::new(move |upload| {
            if upload.number >= 4 {
                return Act::store(upload);
            }
            told.wait();
            act(upload)
        })
    };
    let world = (0..6).fold(world, |world, n| world.file(&format!("{n}.bin"), SMALL));
    let running = world.start(&["--concurrency", "4", "--grace", "60"]);
    world.until(4, 5);
    ReadyBehind {
        world,
        running,
        told,
    }
}

struct ReadyBehind {
    world: World,
    running: Running,
    told: Arc<Signal>,
}

impl World {
    /// Waits until so many uploads have begun in all, and the ledger has so many files in doubt.
    fn until(&self, begun: usize, in_doubt: usize) {
        let since = Instant::now();
        while self.server().count() < begun || self.in_doubt().len() < in_doubt {
            assert!(since.elapsed() < SAFETY_NET, "{:?}", self.in_doubt());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Paths that the ledger has as in doubt, as anybody can read it while a run goes on.
    fn in_doubt(&self) -> Vec<String> {
        let path = self.work().join(".roe-batch/ledger.sqlite");
        let Some(ledger) = SqliteLedger::open_read_only(&path).expect("a ledger") else {
            return Vec::new();
        };
        let doubts = ledger.doubts().expect("read");
        doubts.iter().map(|d| d.path.as_str().to_owned()).collect()
    }

    /// The last run's report, from the ledger.
    fn told_again(&self) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_roe-batch"))
            .args(["report", "manifest.yaml", "--format", "json"])
            .current_dir(self.work())
            .env_clear()
            .env("ROE_BATCH_CONFIG", "")
            .env("ROE_BASE_URL", &self.base_url)
            .output()
            .expect("the program runs");
        serde_json::from_slice(&output.stdout).expect("a report in JSON")
    }
}

#[test]
fn what_is_ready_and_not_sent_when_the_run_ends_is_withdrawn_and_leaves_no_doubt() {
    let refused = |_: &Upload| Act::answer(http(401, &[], ""));
    for (what, ready, first, code) in [
        ("SIGTERM", ready_behind_the_wire(Act::store), "stored", 143),
        ("401", ready_behind_the_wire(refused), "failed", 77),
    ] {
        let ReadyBehind {
            world,
            mut running,
            told,
        } = ready;
        if what == "SIGTERM" {
            running.terminate();
            running.until_it_says("SIGTERM");
        }
        told.set();
        let ran = world.end(running);
        assert_eq!(ran.code, code, "{what}: {}", ran.stderr);
        let (sent, unsent): (Vec<_>, Vec<_>) = ran
            .outcomes()
            .into_iter()
            .partition(|(_, outcome)| *outcome != "not_attempted");
        assert_eq!(sent.len(), 4, "{what}: {}", ran.stderr);
        assert!(
            sent.iter().all(|(_, outcome)| *outcome == first),
            "{sent:?}"
        );
        let [one, other] = [unsent[0].0, unsent[1].0].map(|path| ran.row(path));
        assert_eq!(
            (&one["attempts"], &one["request_id"]),
            (&json!(0), &json!(null))
        );
        assert_eq!(one["reason"], other["reason"], "{what}");
        assert_eq!(world.in_doubt(), [""; 0], "{what}");
        assert_eq!(world.told_again(), ran.report, "{what}");
        let next = world.apply(FEW);
        assert_eq!(next.code, 0, "{what}: {}", next.stderr);
        let uploads = world.finish();
        let times = |path: &str| uploads.iter().filter(|u| u.file_name == path).count();
        assert!(unsent.iter().all(|(path, _)| times(path) == 1), "{what}");
    }
}

#[test]
fn files_in_doubt_are_sent_again_side_by_side() {
    let both = Signal::new();
    let world = {
        let both = Arc::clone(&both);
        World::new(move |upload| match upload.number {
            0 | 1 => Act::swallow(),
            number => {
                if number == 3 {
                    both.set();
                }
                both.wait();
                Act::store(upload)
            }
        })
    };
    let world = world.file("a.bin", SMALL).file("b.bin", LARGE);
    let ran = world.apply(&["--concurrency", "2", "--in-doubt", "resend"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.outcomes(), [("a.bin", "stored"), ("b.bin", "stored")]);
    assert_eq!(world.finish().len(), 4);
}

#[test]
fn a_doubt_is_not_given_up_before_its_turn_to_be_sent_again() {
    let told = Signal::new();
    let world = {
        let told = Arc::clone(&told);
        World::new(move |upload| {
            if upload.number < 6 {
                // In doubt, and no sign that the service fails.
                return Act::answer(http(409, &[], ""));
            }
            told.wait();
            Act::store(upload)
        })
    };
    let world = (0..6).fold(world, |world, n| world.file(&format!("{n}.bin"), SMALL));
    let arguments = [
        "--concurrency",
        "4",
        "--in-doubt",
        "resend",
        "--grace",
        "60",
    ];
    let mut running = world.start(&arguments);
    world.until(10, 0);
    running.terminate();
    running.until_it_says("SIGTERM");
    told.set();
    let ran = world.end(running);
    assert_eq!(ran.code, 143, "{}", ran.stderr);
    let with = |outcome: &str| -> Vec<String> {
        let outcomes = ran.outcomes().into_iter();
        let those = outcomes.filter(|row| row.1 == outcome);
        those.map(|row| format!("inbox/{}", row.0)).collect()
    };
    assert_eq!((with("stored").len(), with("in_doubt").len()), (4, 2));
    assert_eq!(world.in_doubt(), with("in_doubt"));
    assert_eq!(world.told_again(), ran.report);
    world.finish();
}

#[test]
fn what_is_withdrawn_stays_stored_as_it_was() {
    let told = Signal::new();
    let world = {
        let told = Arc::clone(&told);
        World::new(move |upload| {
            if upload.number >= 6 {
                told.wait();
            }
            Act::store(upload)
        })
    };
    let manifest = |value: &str| {
        format!(
            "version: 1\nname: faults\nuploads:\n- {{name: all, root: inbox, include: '**', \
             on_metadata_change: upload, metadata: {{edition: {value}}}}}\n"
        )
    };
    let mut world = world.manifest(&manifest("first"));
    for n in 0..6 {
        world = world.file(&format!("{n}.bin"), SMALL + n);
    }
    let first = world.apply(&[]);
    assert_eq!(first.code, 0, "{}", first.stderr);
    let world = world.manifest(&manifest("second"));
    let mut running = world.start(&["--concurrency", "4", "--grace", "60"]);
    world.until(10, 5);
    running.terminate();
    running.until_it_says("SIGTERM");
    told.set();
    let ran = world.end(running);
    assert_eq!(ran.code, 143, "{}", ran.stderr);
    let unsent: Vec<&str> = ran
        .outcomes()
        .into_iter()
        .filter(|row| row.1 == "not_attempted")
        .map(|row| row.0)
        .collect();
    assert_eq!(unsent.len(), 2, "{}", ran.stderr);
    // The service has them as the first run sent them, so they keep their ids wherever they go.
    fs::create_dir(world.inbox("moved")).expect("a folder");
    for name in &unsent {
        let moved = world.inbox(&format!("moved/{name}"));
        fs::rename(world.inbox(name), moved).expect("moved");
    }
    let world = world.manifest(&manifest("first"));
    let last = world.apply(&[]);
    assert_eq!(last.code, 0, "{}", last.stderr);
    for name in unsent {
        let row = last.row(&format!("moved/{name}"));
        assert_eq!(row["outcome"], "skipped", "{row}");
        assert_eq!(row["file_id"], first.row(name)["file_id"]);
    }
    world.finish();
}

#[test]
fn a_key_that_the_service_repeats_is_not_shown() {
    let told = format!(r#"{{"detail": "Invalid token {KEY}"}}"#);
    let place = format!("/login?token={KEY}");
    for (name, answer) in [
        ("an error", http(422, &[], &told)),
        ("a refusal", http(401, &[], &told)),
        ("doubt", http(500, &[], &format!("<title>{KEY}</title>"))),
        ("a redirect", http(302, &[("Location", &place)], "")),
    ] {
        let world = World::new(move |_| Act::answer(answer.clone())).file("a.bin", SMALL);
        // The end of a run looks for the key in all that it leaves.
        let ran = world.apply(FEW);
        assert_ne!(ran.code, 0, "{name}");
        world.finish();
    }
}
