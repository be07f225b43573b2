//! Every fault over real sockets: what goes over the wire, and whether something is stored.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{FAULT_KINDS, Faults, injected};
use crate::sandbox::tests::{FORM, KEY, Lab, UPLOAD, file, form, noise, request, text, upload};

/// How long a server that is to say nothing is listened to.
const SILENCE: Duration = Duration::from_millis(250);

/// How much of an upload is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Nothing,
    Head,
    Most,
    Whole,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Ended {
    Closed,
    Reset,
    /// Neither, and nothing comes.
    Silent,
}

use Ended::{Closed, Reset, Silent};
use Part::{Head, Most, Nothing, Whole};

const CONTENT_BYTES: usize = 100_000;

/// Everything that came back, and how it ended.
fn listen(stream: &mut TcpStream, patience: Duration) -> (Vec<u8>, Ended) {
    stream.set_read_timeout(Some(patience)).unwrap();
    let (mut all, mut chunk) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return (all, Closed),
            Ok(count) => all.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return (all, Silent);
            }
            Err(_) => return (all, Reset),
        }
    }
}

fn whole(name: &str, headers: &str) -> Vec<u8> {
    let body = form(&[
        text("organization_id", b"o"),
        file(name, &noise(CONTENT_BYTES)),
    ]);
    request("POST", UPLOAD, &format!("{KEY}{FORM}{headers}"), &body)
}

/// Sends a part of an upload on a fresh connection.
fn exchange(lab: &Lab, part: Part) -> (Vec<u8>, Ended) {
    let bytes = whole("a.bin", "Connection: close\r\nX-Request-ID: r-1\r\n");
    let until = match part {
        Nothing => 0,
        Head => bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4,
        Most => bytes.len() * 3 / 4,
        Whole => bytes.len(),
    };
    let mut stream = lab.connect();
    // The server may be gone before all of it is sent.
    let _ = stream.write_all(&bytes[..until]);
    listen(&mut stream, SILENCE)
}

fn status(bytes: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(bytes.get(..12)?).into_owned();
    line.strip_prefix("HTTP/1.1 ")?.parse().ok()
}

fn body(bytes: &[u8]) -> Vec<u8> {
    let head = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    bytes[head + 4..].to_vec()
}

fn header(bytes: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let head = text.split("\r\n\r\n").next()?.to_owned();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

fn plan(entry: &str) -> String {
    format!("faults:\n- {{fault: {entry}}}\n")
}

/// Fault, what is sent, the status that is answered, the end, and how many files are stored.
const ON_THE_WIRE: &[(&str, Part, Option<u16>, Ended, usize)] = &[
    ("reset_at_accept", Nothing, None, Reset, 0),
    ("reset_after_headers", Head, None, Reset, 0),
    ("reset_mid_body", Most, None, Reset, 0),
    ("reset_after_body", Whole, None, Reset, 0),
    ("reset_mid_answer", Whole, Some(200), Reset, 1),
    ("stall_at_accept", Whole, None, Silent, 0),
    ("'stall_at_accept', for: 50ms", Whole, Some(200), Closed, 1),
    ("stall_after_headers", Head, None, Silent, 0),
    (
        "'stall_after_headers', for: 50ms",
        Whole,
        Some(200),
        Closed,
        1,
    ),
    ("stall_mid_body", Most, None, Silent, 0),
    ("'stall_mid_body', for: 50ms", Whole, Some(200), Closed, 1),
    ("stall_after_body", Whole, None, Silent, 0),
    ("'stall_after_body', for: 50ms", Whole, Some(200), Closed, 1),
    ("stall_mid_answer", Whole, Some(200), Silent, 1),
    ("'stall_mid_answer', for: 50ms", Whole, Some(200), Closed, 1),
    ("close_idle", Nothing, None, Closed, 0),
    ("store_then_drop", Whole, None, Closed, 1),
    ("'store_then_drop', then: reset", Whole, None, Reset, 1),
    ("'early_status', status: 413", Head, Some(413), Closed, 0),
    (
        "'early_status', status: 503, then: reset",
        Head,
        Some(503),
        Reset,
        0,
    ),
    ("early_success", Head, Some(200), Closed, 0),
    ("'status', status: 500", Whole, Some(500), Closed, 0),
    (
        "'status', status: 502, body: html",
        Whole,
        Some(502),
        Closed,
        0,
    ),
    (
        "'status', status: 504, stored: true",
        Whole,
        Some(504),
        Closed,
        1,
    ),
    (
        "'redirect', status: 307, location: /x",
        Whole,
        Some(307),
        Closed,
        0,
    ),
    ("login_page", Whole, Some(200), Closed, 0),
    ("empty_answer", Whole, Some(200), Closed, 1),
    ("garbage_json", Whole, Some(200), Closed, 1),
    ("missing_id", Whole, Some(200), Closed, 1),
    ("null_id", Whole, Some(200), Closed, 1),
    ("null_fields", Whole, Some(200), Closed, 1),
    ("number_id", Whole, Some(200), Closed, 1),
    ("long_length", Whole, Some(200), Closed, 1),
    ("short_length", Whole, Some(200), Closed, 1),
    ("truncated_answer", Whole, Some(200), Closed, 1),
    ("oversize_answer", Whole, Some(200), Closed, 1),
    ("'slow_answer', delay: 100us", Whole, Some(200), Closed, 1),
    ("close_after_answer", Whole, Some(200), Closed, 1),
    ("renamed", Whole, Some(200), Closed, 1),
    ("resized", Whole, Some(200), Closed, 1),
    ("wrong_target", Whole, Some(200), Closed, 1),
    ("interim", Whole, Some(103), Closed, 1),
];

#[test]
fn each_fault_is_seen_on_the_wire_and_stores_what_it_says_and_is_written_down() {
    for (entry, part, answered, ended, stored) in ON_THE_WIRE {
        let lab = Lab::with_faults(&plan(entry));
        let (bytes, end) = exchange(&lab, *part);
        assert_eq!((status(&bytes), end), (*answered, *ended), "{entry}");
        assert_eq!(lab.records().len(), *stored, "{entry}");
        let [count] = lab.sandbox.faults().try_into().unwrap();
        assert_eq!(count.times, 1, "{entry}");
        let [written] = injected(lab.folder.path()).unwrap().try_into().unwrap();
        assert_eq!((written.fault.as_str(), written.entry), (count.fault, 1));
        let is_of_a_request = !["accept", "idle"].iter().any(|word| entry.contains(word));
        let request = is_of_a_request.then(|| "r-1".to_owned());
        assert_eq!(written.request_id, request, "{entry}");
    }
}

#[test]
fn every_kind_of_fault_is_tried_on_the_wire() {
    let elsewhere = ["refuse", "rate_limit"];
    let tried: BTreeSet<&str> = ON_THE_WIRE
        .iter()
        .map(|(entry, ..)| entry.split(',').next().unwrap().trim_matches('\''))
        .chain(elsewhere)
        .collect();
    let all: BTreeSet<&str> = FAULT_KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(tried, all);
    assert_eq!(all.len(), FAULT_KINDS.len(), "each has its own name");
}

#[test]
fn answers_are_wrong_in_the_way_their_fault_says() {
    let answer = |entry: &str| {
        let lab = Lab::with_faults(&plan(entry));
        let (bytes, _) = exchange(&lab, Whole);
        let receipt = serde_json::from_slice::<Value>(&body(&bytes));
        let stored = lab.records().pop();
        (bytes, receipt.ok(), stored)
    };
    let receipt = |entry: &str| answer(entry).1.unwrap();
    assert!(receipt("missing_id").get("id").is_none());
    assert!(receipt("null_id")["id"].is_null());
    assert!(receipt("null_id")["name"].is_string());
    assert!(receipt("number_id")["id"].is_u64());
    let (_, nulls, stored) = answer("null_fields");
    let (nulls, stored) = (nulls.unwrap(), stored.unwrap());
    assert_eq!(nulls["id"], stored.id);
    let others = nulls
        .as_object()
        .unwrap()
        .iter()
        .filter(|(key, _)| *key != "id");
    assert!(others.count() > 4 && nulls["name"].is_null() && nulls["dataset"].is_null());
    assert_eq!(receipt("renamed")["name"], "renamed-by-the-sandbox");
    assert_eq!(receipt("resized")["size"], CONTENT_BYTES + 1);
    let (_, elsewhere, stored) = answer("wrong_target");
    assert_ne!(
        elsewhere.unwrap()["dataset"]["id"],
        stored.unwrap().dataset_id
    );
    assert!(receipt("oversize_answer").to_string().len() > 1024 * 1024);

    for entry in [
        "garbage_json",
        "empty_answer",
        "truncated_answer",
        "login_page",
    ] {
        assert!(answer(entry).1.is_none(), "{entry}");
    }
    let promised = |entry: &str| {
        let (bytes, ..) = answer(entry);
        let length = header(&bytes, "Content-Length").unwrap();
        (length.parse::<usize>().unwrap(), body(&bytes).len())
    };
    let (said, came) = promised("long_length");
    assert_eq!(said, came + 100);
    let (said, came) = promised("short_length");
    assert_eq!(said, came / 2);
    let (said, came) = promised("truncated_answer");
    assert_eq!(said / 2, came);

    let (redirect, ..) = answer("'redirect', status: 308, location: /y/");
    assert_eq!(header(&redirect, "Location").as_deref(), Some("/y/"));
    let (page, ..) = answer("login_page");
    assert!(String::from_utf8_lossy(&page).contains("<title>Sign in</title>"));
    let (interim, ..) = answer("interim");
    assert!(interim.starts_with(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"));
}

#[test]
fn retry_after_is_said_in_seconds_or_as_a_date_or_not_at_all() {
    let word = |parameters: &str| {
        let lab = Lab::with_faults(&plan(&format!("'status', status: 429{parameters}")));
        header(&exchange(&lab, Whole).0, "Retry-After")
    };
    assert_eq!(word(""), None);
    assert_eq!(word(", retry_after: 3s").as_deref(), Some("3"));
    assert!(word(", retry_at: 3s").unwrap().ends_with(" GMT"));
}

#[test]
fn a_kept_connection_is_closed_though_the_answer_promises_to_keep_it() {
    let lab = Lab::with_faults(&plan("close_after_answer"));
    let mut stream = lab.connect();
    stream.write_all(&whole("a", "")).unwrap();
    let (bytes, end) = listen(&mut stream, SILENCE);
    assert_eq!(header(&bytes, "Connection").as_deref(), Some("keep-alive"));
    assert_eq!(end, Closed);
}

#[test]
fn a_refusing_server_takes_no_connection_for_a_while_and_is_then_back_at_its_port() {
    let lab = Lab::with_faults(&plan("'refuse', after: 2, for: 400ms"));
    let mut idle = lab.connect();
    idle.write_all(&whole("a", "")).unwrap();
    assert_eq!(listen(&mut idle, SILENCE).1, Silent, "kept");
    assert_eq!(exchange(&lab, Whole).1, Closed);
    // The answer may come before the server has gone.
    std::thread::sleep(Duration::from_millis(50));
    let mut refused = 0;
    let until = Instant::now() + Duration::from_secs(20);
    while let Err(error) = TcpStream::connect(lab.sandbox.address()) {
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        refused += 1;
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(refused > 5, "{refused}");
    assert_eq!(listen(&mut idle, SILENCE).1, Closed, "idle when it went");
    assert_eq!(status(&exchange(&lab, Whole).0), Some(200));
    assert_eq!(lab.records().len(), 3);
    assert_eq!(lab.sandbox.faults()[0].times, 1);
}

#[test]
fn a_rate_limit_answers_429_to_what_exceeds_it() {
    let lab = Lab::with_faults(&plan("'rate_limit', rate: 2/m, retry_after: 1s"));
    let found = [(); 3].map(|()| {
        let (bytes, _) = exchange(&lab, Whole);
        (status(&bytes), header(&bytes, "Retry-After"))
    });
    let limited = (Some(429), Some("1".to_owned()));
    assert_eq!(found, [(Some(200), None), limited.clone(), limited]);
    assert_eq!(lab.records().len(), 1);
}

#[test]
fn an_early_success_is_for_bodies_that_are_still_on_their_way() {
    let lab = Lab::with_faults(&plan("early_success"));
    assert_eq!(lab.send(&upload(&form(&[file("a", b"small")]))).status, 200);
    assert_eq!(lab.records().len(), 1);
    assert_eq!(lab.sandbox.faults()[0].times, 0);
}

#[test]
fn only_the_files_that_a_plan_names_are_hit() {
    let lab = Lab::with_faults("faults:\n- {fault: 'status', status: 500, file: '**.pdf'}");
    let mut send = |name: &str| lab.post(&[file(name, b"x")]).status;
    assert_eq!(
        ["a.txt", "a.pdf", "b.pdf.txt"].map(&mut send),
        [200, 500, 200]
    );
    assert_eq!(
        injected(lab.folder.path()).unwrap()[0].file.as_deref(),
        Some("a.pdf")
    );
}

#[test]
fn a_listing_is_hit_only_where_the_plan_says_any() {
    for (entry, expected) in [
        ("'status', status: 500", 200),
        ("'status', status: 500, on: any", 500),
        ("'early_status', status: 503, on: any", 503),
    ] {
        let lab = Lab::with_faults(&plan(entry));
        assert_eq!(lab.get("/v1/datasets/").status, expected, "{entry}");
    }
    let lab = Lab::with_faults(&plan("'truncated_answer', on: any"));
    let mut stream = lab.connect();
    stream
        .write_all(&request("GET", "/v1/datasets/", KEY, b""))
        .unwrap();
    let (bytes, end) = listen(&mut stream, SILENCE);
    assert_eq!((status(&bytes), end), (Some(200), Closed));
    assert!(serde_json::from_slice::<Value>(&body(&bytes)).is_err());
}

#[test]
fn an_upload_that_is_refused_anyway_is_not_said_to_be_stored() {
    let lab = Lab::with_faults(&plan("renamed"));
    let reply = lab.post(&[file("a", b"x"), text("metadata", b"no json")]);
    assert_eq!(reply.status, 400);
    assert_eq!(lab.sandbox.faults()[0].times, 0);
}

#[test]
fn a_stalled_sandbox_stops_all_the_same() {
    let lab = Lab::with_faults(&plan("stall_at_accept"));
    let _stream = lab.connect();
    std::thread::sleep(Duration::from_millis(50));
    let begun = Instant::now();
    lab.sandbox.stop();
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn mistakes_in_a_plan_are_named_with_their_line() {
    for (yaml, expected) in [
        (
            "faults:\n- fault: reset_mid_boddy",
            "line 2: there is no fault `reset_mid_boddy`; there are reset_mid_body, reset_mid_answer",
        ),
        (
            "faults:\n- fault: missing_id\n  status: 3",
            "line 3: `missing_id` has no parameter `status`",
        ),
        (
            "faults:\n- fault: refuse\n  until: 3s",
            "line 3: `refuse` has no parameter `until`; its own are `after`, `for`",
        ),
        (
            "faults:\n- fault: missing_id\n  probability: 1.5",
            "line 3: `probability` is a number from 0 to 1",
        ),
        (
            "faults:\n- fault: missing_id\n  count: 0",
            "line 3: `count` is a whole number from 1",
        ),
        (
            "faults:\n- fault: missing_id\n  count: 2\n  probability: 1",
            "line 3: give `probability` or `count`, not both",
        ),
        (
            "faults:\n- fault: refuse\n  count: 2",
            "line 3: `refuse` happens by its own rule, so it has no `count`",
        ),
        (
            "faults:\n- fault: reset_after_headers\n  file: '*.pdf'",
            "line 3: `reset_after_headers` happens before the file's name is known",
        ),
        ("faults:\n- fault: missing_id\n  file: '[a'", "line 3: "),
        (
            "faults:\n- fault: missing_id\n  on: any",
            "line 3: `missing_id` cannot be said of any request",
        ),
        (
            "faults:\n- fault: empty_answer\n  on: any\n  file: a",
            "line 3: `file` chooses uploads",
        ),
        (
            "faults:\n- fault: empty_answer\n  on: none",
            "line 3: `on` is uploads or any",
        ),
        ("faults:\n- fault: status", "line 2: status needs `status`"),
        (
            "faults:\n- fault: status\n  status: 200",
            "line 3: `status` is a number from 400 to 599 here",
        ),
        (
            "faults:\n- fault: interim\n  status: 101",
            "line 3: 101 would change the protocol",
        ),
        (
            "faults:\n- fault: redirect\n  location: \"a\\nb\"",
            "line 3: `location` has characters",
        ),
        (
            "faults:\n- fault: rate_limit",
            "line 2: rate_limit needs `rate`",
        ),
        (
            "faults:\n- fault: rate_limit\n  rate: 20",
            "line 3: `rate` is such as 20/s or 90/m",
        ),
        (
            "faults:\n- fault: stall_mid_body\n  for: soon",
            "line 3: `for` is a time such as 300ms",
        ),
        (
            "faults:\n- fault: 'status'\n  status: 429\n  retry_after: 1500ms",
            "line 4: `retry_after` is in whole seconds",
        ),
        (
            "faults:\n- probability: 1",
            "line 2: this entry needs `fault`",
        ),
        ("faults:\n- fault: missing_id\n  file: [a]", "line 3: "),
        ("faults:\n- fault: missing_id\n  fault: null_id", "line 3: "),
        ("faults:\n- missing_id", "line 2: "),
        ("sed: 1\nfaults: []", "line 1: "),
        ("seed: 1", "line 1: "),
        ("seed: -1\nfaults: []", "line 1: "),
        ("faults:\n- fault: {", "line 2: "),
    ] {
        let error = Faults::parse(yaml).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{yaml}\n  {error}");
    }
    assert!(Faults::parse("faults: []").is_ok());
}

#[test]
fn every_parameter_of_the_catalogue_is_read() {
    let sample = |name: &str, parameter: &str| match (name, parameter) {
        ("redirect", "status") => "301",
        ("interim", "status") => "102",
        ("refuse", "after") => "3",
        (_, "status") => "500",
        (_, "for" | "after" | "delay") => "30ms",
        (_, "retry_after" | "retry_at") => "2s",
        (_, "rate") => "5/s",
        (_, "stored") => "true",
        (_, "location") => "/there/",
        (_, "body") => "html",
        (_, "then") => "reset",
        other => panic!("{other:?}"),
    };
    for kind in FAULT_KINDS {
        let needed = |parameter: &&str| match *parameter {
            "status" => matches!(kind.name, "status" | "early_status"),
            other => other == "rate",
        };
        let with = |parameters: &[&str]| {
            let given: String = parameters
                .iter()
                .flat_map(|p| ["\n  ", p, ": ", sample(kind.name, p)])
                .collect();
            let yaml = format!("faults:\n- fault: {}{given}", kind.name);
            let faults = Faults::parse(&yaml).unwrap_or_else(|error| panic!("{yaml}: {error}"));
            faults.rules[0].fault.clone()
        };
        let least: Vec<&str> = kind.parameters.iter().copied().filter(needed).collect();
        for parameter in kind.parameters {
            if needed(parameter) {
                continue;
            }
            assert_ne!(
                with(&[&least[..], &[parameter]].concat()),
                with(&least),
                "{}: {parameter}",
                kind.name
            );
            assert!(
                kind.doc.contains(parameter)
                    || ["retry_after", "retry_at", "body"].contains(parameter)
            );
        }
    }
}
