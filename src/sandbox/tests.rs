//! The room over real sockets, with requests written by hand.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::store::hex;
use super::{
    DEFAULT_DATASET_ID, EmptyFiles, Faults, Sandbox, SandboxConfig, SandboxDataset, StoredFile,
    records,
};

pub(super) const UPLOAD: &str = "/v1/datasets/files/upload/";
pub(super) const KEY: &str = "Authorization: Bearer secret-key\r\n";
pub(super) const FORM: &str = "Content-Type: multipart/form-data; boundary=BB\r\n";
const OTHER_DATASET: &str = "3f2b7a52-0000-4000-8000-000000000001";
const NO_FILE: &str = r#"{"file":["No file was submitted."]}"#;

/// A sandbox in a folder of its own.
pub(super) struct Lab {
    pub(super) folder: TempDir,
    pub(super) sandbox: Sandbox,
}

impl Lab {
    fn new() -> Self {
        Self::with(EmptyFiles::Accept)
    }

    fn with(empty_files: EmptyFiles) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start(config(folder.path(), empty_files)).unwrap();
        Self { folder, sandbox }
    }

    /// A sandbox with a fault plan.
    pub(super) fn with_faults(plan: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::start(SandboxConfig {
            faults: Faults::parse(plan).unwrap(),
            ..config(folder.path(), EmptyFiles::Accept)
        })
        .unwrap();
        Self { folder, sandbox }
    }

    pub(super) fn connect(&self) -> TcpStream {
        TcpStream::connect(self.sandbox.address()).unwrap()
    }

    /// Sends bytes on a fresh connection and reads one answer.
    pub(super) fn send(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        Reply::read(&mut stream, true)
    }

    pub(super) fn get(&self, path: &str) -> Reply {
        self.send(&request("GET", path, KEY, b""))
    }

    /// Uploads a form of these parts.
    pub(super) fn post(&self, parts: &[Vec<u8>]) -> Reply {
        self.send(&upload(&form(parts)))
    }

    pub(super) fn records(&self) -> Vec<StoredFile> {
        records(self.folder.path()).unwrap()
    }

    /// What is in the folder for files that have not arrived whole.
    fn temporary(&self) -> Vec<fs::DirEntry> {
        let entries = fs::read_dir(self.folder.path().join("tmp")).unwrap();
        entries.map(Result::unwrap).collect()
    }
}

fn config(data: &Path, empty_files: EmptyFiles) -> SandboxConfig {
    SandboxConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        data: data.to_owned(),
        api_key: "secret-key".to_owned(),
        datasets: vec![SandboxDataset {
            id: OTHER_DATASET.to_owned(),
            name: "Invoices".to_owned(),
        }],
        empty_files,
        faults: Faults::default(),
    }
}

/// An answer, taken apart.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn read(stream: &mut TcpStream, with_body: bool) -> Self {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let mut reply = Self {
            status: head[9..12].parse().unwrap(),
            head,
            body: Vec::new(),
        };
        if with_body {
            let length = reply.header("Content-Length").unwrap().parse().unwrap();
            reply.body = vec![0; length];
            stream.read_exact(&mut reply.body).unwrap();
        }
        reply
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and body at once, for comparisons.
    fn seen(&self) -> (u16, String) {
        (self.status, self.text())
    }
}

pub(super) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: sandbox\r\n{headers}Content-Length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

pub(super) fn upload(body: &[u8]) -> Vec<u8> {
    request("POST", UPLOAD, &format!("{KEY}{FORM}"), body)
}

pub(super) fn form(parts: &[Vec<u8>]) -> Vec<u8> {
    [&parts.concat(), &b"--BB--\r\n"[..]].concat()
}

/// A part with everything after `form-data; ` given, and further header lines.
fn part(disposition: &str, headers: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("--BB\r\nContent-Disposition: form-data; {disposition}\r\n{headers}\r\n");
    [head.as_bytes(), content, b"\r\n"].concat()
}

pub(super) fn file(name: &str, content: &[u8]) -> Vec<u8> {
    part(&format!("name=\"file\"; filename=\"{name}\""), "", content)
}

pub(super) fn text(name: &str, value: &[u8]) -> Vec<u8> {
    part(&format!("name=\"{name}\""), "", value)
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes without a pattern that could hide a shift.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let step = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    std::iter::repeat_with(step).take(length).collect()
}

#[test]
fn an_upload_is_answered_and_recorded_with_everything_sent() {
    let lab = Lab::new();
    let body = form(&[
        part(
            "name=\"file\"; filename=\"a.pdf\"",
            "Content-Type: Application/PDF; v=1\r\n",
            b"hello",
        ),
        text("dataset_id", OTHER_DATASET.as_bytes()),
        text("organization_id", b" acme "),
        text("metadata", br#"{"b":"1.10","a":"no"}"#),
    ]);
    let headers = format!("{KEY}{FORM}X-Request-ID: job-1\r\n");
    let reply = lab.send(&request("POST", UPLOAD, &headers, &body));
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("X-Request-ID"), Some("job-1"));
    let answer = reply.json();
    assert_eq!(answer["name"], "a.pdf");
    assert_eq!(answer["size"], 5);
    assert_eq!(answer["dataset"]["id"], OTHER_DATASET);
    assert_eq!(answer["dataset"]["name"], "Invoices");
    assert!(answer["created_at"].as_str().unwrap().ends_with('Z'));
    assert_eq!(answer["creator"], answer["dataset"]["creator"]);

    let [stored] = lab.records().try_into().unwrap();
    assert_eq!(answer["id"], stored.id);
    assert_eq!(stored.content_type, "application/pdf");
    assert_eq!(stored.organization_id.as_deref(), Some("acme"));
    assert_eq!(stored.request_id.as_deref(), Some("job-1"));
    assert_eq!(
        Value::Object(stored.metadata),
        json!({"b": "1.10", "a": "no"})
    );
    let known = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(stored.sha256, known);
    assert_eq!(fs::read(&stored.path).unwrap(), b"hello");
    let stats = lab.sandbox.stats();
    let counts = (
        stats.connections,
        stats.requests,
        stats.stored,
        stats.refused,
    );
    assert_eq!(counts, (1, 1, 1, 0));
}

#[test]
fn a_file_without_dataset_metadata_and_type_goes_to_the_default_dataset() {
    let lab = Lab::new();
    assert_eq!(
        lab.post(&[file("a", b"x")]).json()["dataset"]["id"],
        DEFAULT_DATASET_ID
    );
    let [stored] = lab.records().try_into().unwrap();
    assert_eq!(stored.dataset_id, DEFAULT_DATASET_ID);
    assert_eq!(stored.content_type, "");
    assert!(stored.metadata.is_empty());
    assert!(stored.request_id.is_some(), "made up when absent");
}

#[test]
fn twenty_megabytes_arrive_unchanged_and_come_back_unchanged() {
    let lab = Lab::new();
    let content = noise(20 * 1024 * 1024 + 7);
    assert_eq!(lab.post(&[file("big.bin", &content)]).status, 200);
    let [stored] = lab.records().try_into().unwrap();
    assert_eq!(stored.size, content.len() as u64);
    assert_eq!(stored.sha256, sha256(&content));
    assert!(fs::read(&stored.path).unwrap() == content);
    let reply = lab.get(&format!("/v1/datasets/files/{}/download/", stored.id));
    assert_eq!(reply.status, 200);
    assert!(reply.body == content);
}

#[test]
fn content_that_resembles_the_delimiter_is_kept() {
    let lab = Lab::new();
    let content = b"\r\n--B\r\n-B--\n--\r\n\r\n--B--B\r\r\n".repeat(10_000);
    lab.post(&[file("a", &content)]);
    assert!(fs::read(&lab.records()[0].path).unwrap() == content);
}

#[test]
fn credentials_that_are_missing_and_credentials_that_are_wrong_are_told_apart() {
    let lab = Lab::new();
    for (header, detail) in [
        ("", "Authentication credentials were not provided."),
        (
            "Authorization: Basic eDp5\r\n",
            "Authentication credentials were not provided.",
        ),
        (
            "Authorization: Bearer\r\n",
            "Invalid token header. No credentials provided.",
        ),
        (
            "Authorization: Bearer secret key\r\n",
            "Invalid token header. Token string should not contain spaces.",
        ),
        ("Authorization: Bearer other\r\n", "Invalid token."),
    ] {
        for path in [UPLOAD, "/v1/users/current_user/", "/v1/datasets/"] {
            let reply = lab.send(&request("GET", path, header, b""));
            assert_eq!(reply.status, 401, "{header} {path}");
            assert_eq!(reply.json(), json!({ "detail": detail }));
            assert_eq!(reply.header("WWW-Authenticate"), Some("Bearer"));
        }
    }
}

#[test]
fn a_wrong_key_is_answered_before_a_large_body_is_sent() {
    let lab = Lab::new();
    let mut stream = lab.connect();
    let head = format!("POST {UPLOAD} HTTP/1.1\r\n{FORM}Content-Length: 52428800\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let reply = Reply::read(&mut stream, true);
    assert_eq!(reply.status, 401);
    assert_eq!(reply.header("Connection"), Some("close"));
}

#[test]
fn a_client_that_sends_its_whole_body_regardless_still_reads_the_early_answer() {
    let lab = Lab::new();
    let body = vec![b'x'; 50 * 1024 * 1024];
    let reply = lab.send(&request("POST", UPLOAD, FORM, &body));
    assert_eq!(reply.status, 401);
}

#[test]
fn a_chunked_body_is_no_file() {
    let lab = Lab::new();
    let head = format!("POST {UPLOAD} HTTP/1.1\r\n{KEY}{FORM}Transfer-Encoding: chunked\r\n\r\n");
    let body = form(&[file("a", b"x")]);
    let chunk = format!("{:x}\r\n", body.len());
    let bytes = [head.as_bytes(), chunk.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    assert_eq!(lab.send(&bytes).seen(), (400, NO_FILE.to_owned()));
    assert!(lab.records().is_empty());
}

#[test]
fn a_body_cut_off_anywhere_stores_nothing_and_leaves_no_temporary_file() {
    let lab = Lab::new();
    let whole = upload(&form(&[
        file("a", &noise(100_000)),
        text("organization_id", b"x"),
    ]));
    for missing in [1, 3, 8, 12, 50, 200, 50_000, 100_100] {
        let mut stream = lab.connect();
        stream.write_all(&whole[..whole.len() - missing]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let reply = Reply::read(&mut stream, true);
        assert_eq!(
            reply.seen(),
            (400, NO_FILE.to_owned()),
            "{missing} bytes missing"
        );
    }
    assert!(lab.records().is_empty());
    assert_eq!(lab.sandbox.stats().cut_off, 8);
    assert!(lab.temporary().is_empty());
}

#[test]
fn an_upload_whose_client_vanishes_leaves_no_temporary_file() {
    let lab = Lab::new();
    let whole = upload(&form(&[file("a", &noise(100_000))]));
    let mut stream = lab.connect();
    stream.write_all(&whole[..50_000]).unwrap();
    drop(stream);
    let Lab { folder, sandbox } = lab;
    sandbox.stop();
    assert!(records(folder.path()).unwrap().is_empty());
    let mut left = fs::read_dir(folder.path().join("tmp")).unwrap();
    assert!(left.next().is_none());
}

#[test]
fn a_form_whose_last_part_has_no_delimiter_after_it_has_no_file() {
    let lab = Lab::new();
    for end in ["", "--BB"] {
        let body = [file("a", b"x"), end.into()].concat();
        assert_eq!(
            lab.send(&upload(&body)).seen(),
            (400, NO_FILE.to_owned()),
            "{end}"
        );
    }
    // Any byte after the delimiter will do: Django never looks for the two closing dashes.
    let body = [file("a", b"x"), b"--BB\n".to_vec()].concat();
    assert_eq!(lab.send(&upload(&body)).status, 200);
}

#[test]
fn a_malformed_form_is_a_parse_error() {
    let lab = Lab::new();
    let body = form(&[file("a", b"x")]);
    let long = format!("X-Long: {}\r\n", "y".repeat(1024));
    let cases = [
        (
            "multipart/form-data",
            body.clone(),
            "Invalid boundary in multipart: None",
        ),
        (
            "multipart/form-data; boundary=",
            body.clone(),
            "Invalid boundary in multipart: ",
        ),
        (
            "Multipart/form-data; boundary=BB",
            body,
            "Invalid Content-Type: Multipart/form-data; boundary=BB",
        ),
        (
            "multipart/form-data; boundary=BB",
            part("name=\"file\"; filename=\"a\"", &long, b"x"),
            "Request max total header size exceeded.",
        ),
    ];
    for (content_type, body, cause) in cases {
        let headers = format!("{KEY}Content-Type: {content_type}\r\n");
        let reply = lab.send(&request("POST", UPLOAD, &headers, &body));
        assert_eq!(reply.status, 400, "{cause}");
        let detail = format!("Multipart form parse error - {cause}");
        assert_eq!(reply.json(), json!({ "detail": detail }));
    }
    assert!(lab.records().is_empty());
}

#[test]
fn the_header_block_of_a_part_may_have_1024_bytes_and_no_more() {
    let lab = Lab::new();
    // The line break before the headers and the blank line after them count.
    let bare = part("name=\"file\"; filename=\"a\"", "X: \r\n", b"").len() - "--BB\r\n".len();
    for (spare, status) in [(0, 200), (1, 400)] {
        let padding = format!("X: {}\r\n", "y".repeat(1024 - bare + spare));
        let body = form(&[part("name=\"file\"; filename=\"a\"", &padding, b"x")]);
        assert_eq!(lab.send(&upload(&body)).status, status, "{spare}");
    }
}

#[test]
fn another_content_type_is_unsupported() {
    let lab = Lab::new();
    for content_type in ["application/json", "", "multipart/mixed; boundary=BB"] {
        let headers = format!("{KEY}Content-Type: {content_type}\r\n");
        let reply = lab.send(&request("POST", UPLOAD, &headers, b"{}"));
        assert_eq!(reply.status, 415);
        let detail = format!("Unsupported media type \"{content_type}\" in request.");
        assert_eq!(reply.json(), json!({ "detail": detail }));
    }
}

#[test]
fn another_method_is_not_allowed() {
    let lab = Lab::new();
    for (method, path, allow) in [
        ("GET", UPLOAD, "POST, OPTIONS"),
        ("PUT", UPLOAD, "POST, OPTIONS"),
        ("POST", "/v1/datasets/", "GET, HEAD, OPTIONS"),
    ] {
        let reply = lab.send(&request(method, path, KEY, b""));
        assert_eq!(reply.status, 405);
        let detail = format!("Method \"{method}\" not allowed.");
        assert_eq!(reply.json(), json!({ "detail": detail }));
        assert_eq!(reply.header("Allow"), Some(allow));
    }
}

#[test]
fn a_missing_slash_is_redirected_whatever_the_method_and_key() {
    let lab = Lab::new();
    for method in ["GET", "POST"] {
        let path = "/v1/datasets/files/upload?a=b";
        let reply = lab.send(&request(method, path, "", b""));
        assert_eq!(reply.status, 301);
        assert_eq!(
            reply.header("Location"),
            Some("/v1/datasets/files/upload/?a=b")
        );
    }
}

#[test]
fn an_unknown_path_is_a_page_not_found() {
    let lab = Lab::new();
    for path in [
        "/",
        "/v1/datasets/nope/",
        "/v1/datasets/nope",
        "/v2/datasets/",
    ] {
        let reply = lab.get(path);
        assert_eq!(reply.status, 404, "{path}");
        assert_eq!(
            reply.header("Content-Type"),
            Some("text/html; charset=utf-8")
        );
        assert!(reply.text().contains("<h1>Not Found</h1>"));
    }
}

#[test]
fn what_is_no_request_is_a_bad_request() {
    let lab = Lab::new();
    let too_long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(40_000));
    let too_many = format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(101));
    for bytes in [
        "hello\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        &too_long,
        &too_many,
    ] {
        let reply = lab.send(bytes.as_bytes());
        assert_eq!(reply.status, 400);
        assert_eq!(reply.header("Connection"), Some("close"));
    }
}

#[test]
fn a_file_that_is_missing_and_a_file_that_is_text_are_told_apart() {
    let lab = Lab::new();
    let not_a_file =
        r#"{"file":["The submitted data was not a file. Check the encoding type on the form."]}"#;
    let seen = |parts: &[Vec<u8>]| lab.post(parts).seen();
    assert_eq!(seen(&[text("metadata", b"{}")]), (400, NO_FILE.to_owned()));
    assert_eq!(seen(&[text("file", b"x")]), (400, not_a_file.to_owned()));
    assert_eq!(seen(&[file("", b"x")]), (400, not_a_file.to_owned()));
    assert_eq!(seen(&[file("..", b"x")]), (400, NO_FILE.to_owned()));
    assert_eq!(lab.send(&upload(b"")).seen(), (400, NO_FILE.to_owned()));
    assert_eq!(lab.sandbox.stats().refused, 5);
}

#[test]
fn all_problems_of_a_form_are_reported_together() {
    let lab = Lab::new();
    let reply = lab.post(&[
        text("dataset_id", b"nope"),
        text("organization_id", b" "),
        text("metadata", br#"{"a":1}"#),
    ]);
    let expected = json!({
        "file": ["No file was submitted."],
        "dataset_id": ["Must be a valid UUID."],
        "organization_id": ["This field may not be blank."],
        "metadata": ["The value of \"a\" must be a string, not 1."],
    });
    assert_eq!((reply.status, reply.json()), (400, expected));
}

#[test]
fn metadata_that_is_no_object_of_strings_is_refused() {
    let lab = Lab::new();
    for bad in [
        "",
        "{",
        "[]",
        "null",
        r#"{"a":null}"#,
        r#"{"a":{"b":"c"}}"#,
        "\"x\"",
    ] {
        let reply = lab.post(&[file("a", b"x"), text("metadata", bad.as_bytes())]);
        assert_eq!(reply.status, 400, "{bad}");
        assert!(reply.json()["metadata"][0].is_string(), "{bad}");
    }
    assert!(lab.records().is_empty());
}

#[test]
fn a_dataset_must_be_named_well_and_exist() {
    let lab = Lab::new();
    let seen = |id: &str| {
        lab.post(&[file("a", b"x"), text("dataset_id", id.as_bytes())])
            .seen()
    };
    let blank = r#"{"dataset_id":["This field may not be blank."]}"#;
    assert_eq!(seen(""), (400, blank.to_owned()));
    let unknown = r#"{"detail":"Dataset not found."}"#;
    let id = "3f2b7a52-0000-4000-8000-00000000ffff";
    assert_eq!(seen(id), (404, unknown.to_owned()));
    // Every spelling Python takes for a UUID leads to the same dataset.
    for spelling in [
        OTHER_DATASET.to_uppercase(),
        OTHER_DATASET.replace('-', ""),
        format!("urn:uuid:{OTHER_DATASET}"),
        format!("{{{OTHER_DATASET}}}"),
    ] {
        assert_eq!(seen(&spelling).0, 200, "{spelling}");
    }
    assert!(
        lab.records()
            .iter()
            .all(|file| file.dataset_id == OTHER_DATASET)
    );
}

#[test]
fn an_empty_file_is_stored_or_refused_as_configured() {
    let accepting = Lab::with(EmptyFiles::Accept);
    assert_eq!(accepting.post(&[file("a", b"")]).json()["size"], 0);
    assert_eq!(accepting.records()[0].sha256, sha256(b""));
    let refusing = Lab::with(EmptyFiles::Refuse);
    let empty = r#"{"file":["The submitted file is empty."]}"#;
    assert_eq!(
        refusing.post(&[file("a", b"")]).seen(),
        (400, empty.to_owned())
    );
    assert_eq!(refusing.post(&[file("a", b"x")]).status, 200);
}

#[test]
fn of_duplicate_fields_the_last_wins_and_a_file_wins_over_text() {
    let lab = Lab::new();
    let parts = [
        file("first", b"1"),
        text("organization_id", b"first"),
        file("second", b"22"),
        text("organization_id", b"second"),
        text("file", b"text"),
    ];
    assert_eq!(lab.post(&parts).status, 200);
    let [stored] = lab.records().try_into().unwrap();
    assert_eq!((stored.name.as_str(), stored.size), ("second", 2));
    assert_eq!(stored.organization_id.as_deref(), Some("second"));
    assert!(lab.temporary().is_empty());
}

#[test]
fn text_that_is_not_utf8_is_stored_with_replacements() {
    let lab = Lab::new();
    lab.post(&[file("a", b"x"), text("organization_id", b"a\xff\xe6\x97b")]);
    let stored = lab.records().remove(0);
    assert_eq!(
        stored.organization_id.as_deref(),
        Some("a\u{fffd}\u{fffd}b")
    );
}

#[test]
fn a_form_may_hold_a_thousand_fields_and_two_and_a_half_mebibytes_of_text() {
    let lab = Lab::new();
    let status = |fields: Vec<Vec<u8>>| {
        let parts = [vec![file("a", b"x")], fields].concat();
        lab.post(&parts).status
    };
    assert_eq!(status(vec![text("x", b""); 1000]), 200);
    assert_eq!(status(vec![text("x", b""); 1001]), 400);
    // Each field costs its name and two bytes more.
    let most = 2_621_440 - "x".len() - 2;
    assert_eq!(status(vec![text("x", &vec![b'y'; most])]), 200);
    assert_eq!(status(vec![text("x", &vec![b'y'; most + 1])]), 400);
}

#[test]
fn a_part_in_base64_is_refused_rather_than_stored_as_it_is() {
    let lab = Lab::new();
    let headers = "Content-Transfer-Encoding: base64\r\n";
    let encoded = part("name=\"file\"; filename=\"a\"", headers, b"eA==");
    assert_eq!(lab.post(&[encoded]).status, 400);
    assert!(lab.records().is_empty());
}

#[test]
fn three_requests_share_a_connection() {
    let lab = Lab::new();
    let mut stream = lab.connect();
    for name in ["one", "two", "three"] {
        stream
            .write_all(&upload(&form(&[file(name, b"x")])))
            .unwrap();
        let reply = Reply::read(&mut stream, true);
        assert_eq!(reply.json()["name"], name);
        assert_eq!(reply.header("Connection"), Some("keep-alive"));
    }
    let names: Vec<_> = lab.records().into_iter().map(|file| file.name).collect();
    assert_eq!(names, ["one", "two", "three"]);
    let stats = lab.sandbox.stats();
    assert_eq!((stats.connections, stats.requests, stats.stored), (1, 3, 3));
}

#[test]
fn a_connection_closes_when_the_client_asks_for_it() {
    let lab = Lab::new();
    let mut stream = lab.connect();
    let headers = format!("{KEY}Connection: close\r\n");
    stream
        .write_all(&request("GET", "/v1/datasets/", &headers, b""))
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\r\nConnection: close\r\n"));
}

#[test]
fn a_client_that_waits_for_it_is_told_to_continue() {
    let lab = Lab::new();
    let body = form(&[file("a", b"x")]);
    let mut stream = lab.connect();
    let headers = format!("{KEY}{FORM}Expect: 100-continue\r\n");
    let bytes = request("POST", UPLOAD, &headers, &body);
    let (head, body) = bytes.split_at(bytes.len() - body.len());
    stream.write_all(head).unwrap();
    assert_eq!(Reply::read(&mut stream, false).status, 100);
    stream.write_all(body).unwrap();
    assert_eq!(Reply::read(&mut stream, true).status, 200);
}

#[test]
fn a_restart_on_the_same_folder_continues() {
    let Lab { folder, sandbox } = Lab::new();
    let address = sandbox.address();
    let mut stream = TcpStream::connect(address).unwrap();
    let parts = [
        file("a", b"x"),
        text("dataset_id", OTHER_DATASET.as_bytes()),
    ];
    stream.write_all(&upload(&form(&parts))).unwrap();
    assert_eq!(Reply::read(&mut stream, true).status, 200);
    sandbox.stop();
    assert!(
        TcpStream::connect(address).is_err(),
        "nothing listens any more"
    );
    let before = records(folder.path()).unwrap();

    // As a crash would leave it: half an upload, half a line.
    fs::write(folder.path().join("tmp/upload-x"), b"half").unwrap();
    let index = folder.path().join("index.jsonl");
    let whole = fs::read(&index).unwrap();
    fs::write(&index, [&whole, &whole[..40]].concat()).unwrap();
    assert_eq!(records(folder.path()).unwrap(), before);

    let mut restarted = config(folder.path(), EmptyFiles::Accept);
    restarted.datasets.clear();
    let sandbox = Sandbox::start(restarted).unwrap();
    let lab = Lab { folder, sandbox };
    assert_eq!(
        lab.post(&[
            file("b", b"y"),
            text("dataset_id", OTHER_DATASET.as_bytes())
        ])
        .status,
        200
    );
    let after = lab.records();
    assert_eq!((after.len(), &after[0]), (2, &before[0]));
    assert_eq!(after[1].name, "b");
    assert!(lab.temporary().is_empty());
}

#[test]
fn an_index_that_is_damaged_before_its_end_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("index.jsonl"), "{}\n").unwrap();
    let error = records(folder.path()).unwrap_err();
    assert!(
        error.to_string().starts_with("index.jsonl, line 1: "),
        "{error}"
    );
    assert!(Sandbox::start(config(folder.path(), EmptyFiles::Accept)).is_err());
}

#[test]
fn two_sandboxes_do_not_share_a_folder() {
    let lab = Lab::new();
    let error = Sandbox::start(config(lab.folder.path(), EmptyFiles::Accept)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ResourceBusy);
}

#[test]
fn a_folder_without_an_index_has_no_records() {
    let folder = tempfile::tempdir().unwrap();
    assert!(records(&folder.path().join("absent")).unwrap().is_empty());
}

#[test]
fn a_dataset_id_that_is_no_uuid_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), EmptyFiles::Accept);
    config.datasets[0].id = "invoices".to_owned();
    let error = Sandbox::start(config).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
fn the_key_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), EmptyFiles::Accept);
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn the_user_and_the_datasets_are_shown() {
    let lab = Lab::new();
    assert!(lab.get("/v1/users/current_user/").json()["email"].is_string());
    let all = lab.get("/v1/datasets/").json();
    assert_eq!(
        (&all["count"], &all["next"], &all["previous"]),
        (&json!(2), &Value::Null, &Value::Null)
    );
    let found = lab.get("/v1/datasets/?search=INV").json();
    assert_eq!(found["count"], 1);
    assert_eq!(found["results"][0]["id"], OTHER_DATASET);
    assert_eq!(
        lab.get(&format!("/v1/datasets/{OTHER_DATASET}/")).json()["name"],
        "Invoices"
    );
    let unknown = lab.get("/v1/datasets/3f2b7a52-0000-4000-8000-00000000ffff/");
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["detail"].is_string());
}

#[test]
fn the_files_of_a_dataset_are_listed_in_pages_oldest_first() {
    let lab = Lab::new();
    for name in ["Résumé a.pdf", "other.pdf", "résumé b.pdf", "RÉSUMÉ c.pdf"] {
        assert_eq!(lab.post(&[file(name, name.as_bytes())]).status, 200);
    }
    let base = format!("/v1/datasets/{DEFAULT_DATASET_ID}/files/");
    let first = lab
        .get(&format!("{base}?search=r%C3%A9sum%C3%A9+&page_size=2"))
        .json();
    assert_eq!(first["count"], 3);
    assert_eq!(first["results"][0]["name"], "Résumé a.pdf");
    assert_eq!(first["results"][1]["name"], "résumé b.pdf");
    assert_eq!(
        first["results"][0]["hash"],
        sha256("Résumé a.pdf".as_bytes())
    );
    assert_eq!(first["results"][0]["size"], "Résumé a.pdf".len());
    assert_eq!(first["results"][0]["deleted_at"], Value::Null);
    assert_eq!(first["previous"], Value::Null);
    let next = first["next"]
        .as_str()
        .unwrap()
        .strip_prefix("http://sandbox")
        .unwrap();
    let second = lab.get(next).json();
    assert_eq!(second["results"][0]["name"], "RÉSUMÉ c.pdf");
    assert_eq!(second["next"], Value::Null);
    let back = second["previous"]
        .as_str()
        .unwrap()
        .strip_prefix("http://sandbox")
        .unwrap();
    assert_eq!(lab.get(back).json()["results"], first["results"]);

    for page in ["3", "0", "x"] {
        let reply = lab.get(&format!("{base}?page_size=2&page={page}"));
        assert_eq!(
            reply.seen(),
            (404, r#"{"detail":"Invalid page."}"#.to_owned()),
            "{page}"
        );
    }
    let empty = lab
        .get(&format!("/v1/datasets/{OTHER_DATASET}/files/"))
        .json();
    assert_eq!(
        (&empty["count"], &empty["results"]),
        (&json!(0), &json!([]))
    );
}

#[test]
fn a_download_names_its_file_and_type_without_trusting_them() {
    let lab = Lab::new();
    let headers = "Content-Type: text/evil\nX-Injected: yes\r\n";
    lab.post(&[part(
        "name=\"file\"; filename=\"a\\\"b.txt\"",
        headers,
        b"1",
    )]);
    lab.post(&[part(
        "name=\"file\"; filename=\"é.txt\"",
        "Content-Type: text/plain\r\n",
        b"2",
    )]);
    let expected = [
        (
            "application/octet-stream",
            r#"attachment; filename="a\"b.txt""#,
        ),
        ("text/plain", "attachment; filename*=utf-8''%C3%A9.txt"),
    ];
    for (stored, (content_type, disposition)) in lab.records().iter().zip(expected) {
        let path = format!("/v1/datasets/files/{}/download/", stored.id);
        let reply = lab.get(&path);
        assert_eq!(reply.header("Content-Type"), Some(content_type));
        assert_eq!(reply.header("Content-Disposition"), Some(disposition));
        assert_eq!(reply.header("X-Injected"), None);

        let mut stream = lab.connect();
        stream
            .write_all(&request(
                "HEAD",
                &path,
                &format!("{KEY}Connection: close\r\n"),
                b"",
            ))
            .unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        assert!(bytes.ends_with(b"\r\n\r\n"), "a HEAD has no body");
    }
    let absent = lab.get(&format!(
        "/v1/datasets/files/{DEFAULT_DATASET_ID}/download/"
    ));
    assert_eq!(absent.status, 404);
}

#[test]
fn a_request_id_is_echoed_within_bounds() {
    let lab = Lab::new();
    let echoed = |sent: &str| {
        let headers = format!("{KEY}X-Request-ID: {sent}\r\n");
        let reply = lab.send(&request("GET", "/nowhere/", &headers, b""));
        reply.header("X-Request-ID").unwrap().to_owned()
    };
    assert_eq!(echoed("run-7/job é\u{7f}3"), "run-7/job3");
    assert_eq!(echoed(&"x".repeat(500)).len(), 128);
    assert_eq!(echoed("").len(), 36);
}

#[test]
fn a_name_longer_than_255_characters_loses_the_end_of_its_stem() {
    let lab = Lab::new();
    let named = |sent: &str| lab.post(&[file(sent, b"x")]).json()["name"].clone();
    assert_eq!(
        named(&format!("{}.pdf", "a".repeat(251))),
        format!("{}.pdf", "a".repeat(251))
    );
    assert_eq!(
        named(&format!("{}.pdf", "a".repeat(252))),
        format!("{}.pdf", "a".repeat(251))
    );
    assert_eq!(
        named(&format!("{}.pdf", "字".repeat(260))),
        format!("{}.pdf", "字".repeat(251))
    );
    assert_eq!(named(&"a".repeat(300)), "a".repeat(255));
    assert_eq!(named(&format!("{}x", ".".repeat(260))), ".".repeat(255));
    assert_eq!(
        named(&format!("a.{}", "e".repeat(300))),
        format!(".{}", "e".repeat(254))
    );
}

#[test]
fn names_are_stored_as_django_stores_them() {
    let lab = Lab::new();
    for (sent, stored) in NAMES {
        let reply = lab.post(&[part(&format!("name=\"file\"; {sent}"), "", b"x")]);
        let name = reply.json()["name"].as_str().map(str::to_owned);
        assert_eq!(name.as_deref(), *stored, "{sent}");
    }
}

/// What follows `name="file"; `, and the name that Django 5.2 stored for it; `None` where it stored nothing.
#[rustfmt::skip]
const NAMES: &[(&str, Option<&str>)] = &[
    ("filename=\"a.pdf\"", Some("a.pdf")),
    ("filename=a.pdf", Some("a.pdf")),
    ("filename = \"a.pdf\"", Some("a.pdf")),
    ("FILENAME=\"a.pdf\"", Some("a.pdf")),
    ("filename=\"a\\\"b.pdf\"", Some("a\"b.pdf")),
    ("filename=\"a\\\\b.pdf\"", Some("b.pdf")),
    ("filename=\"a\\\\\\\"b.pdf\"", Some("\"b.pdf")),
    ("filename=\"a%22b.pdf\"", Some("a%22b.pdf")),
    ("filename=\"%41.pdf\"", Some("%41.pdf")),
    ("filename=\"dir/sub/a.pdf\"", Some("a.pdf")),
    ("filename=\"C:\\dir\\a.pdf\"", Some("a.pdf")),
    ("filename=\"a;b.pdf\"", Some("a;b.pdf")),
    ("filename=\"a\\\";b.pdf\"", Some("a\";b.pdf")),
    ("filename=\"a=b,c.pdf\"", Some("a=b,c.pdf")),
    ("filename=<a.pdf>", Some("a.pdf")),
    ("filename=\"<a>.pdf\"", Some("<a>.pdf")),
    ("filename=\"a", Some("\"a")),
    ("filename=\"'a'.pdf\"", Some("'a'.pdf")),
    ("filename=\"  a.pdf \"", Some("  a.pdf ")),
    ("filename=\".bashrc\"", Some(".bashrc")),
    ("filename=\"...\"", Some("...")),
    ("filename=\"a&region.csv\"", Some("a\u{ae}ion.csv")),
    ("filename=\"a&amp;region.csv\"", Some("a&region.csv")),
    ("filename=\"a&amp;amp;b\"", Some("a&amp;b")),
    ("filename=\"&lt;x&gt;\"", Some("<x>")),
    ("filename=\"&ltx&gt\"", Some("<x>")),
    ("filename=\"&notit;\"", Some("\u{ac}it;")),
    ("filename=\"&notin;\"", Some("\u{2209}")),
    ("filename=\"&unknown;\"", Some("&unknown;")),
    ("filename=\"&copy2026.pdf\"", Some("\u{a9}2026.pdf")),
    ("filename=\"&NotEqualTilde;\"", Some("\u{2242}\u{338}")),
    ("filename=\"&#65;&#x42;&#X43;\"", Some("ABC")),
    ("filename=\"&#65b\"", Some("Ab")),
    ("filename=\"&#x80;\"", Some("\u{20ac}")),
    ("filename=\"&#xD800;&#x110000;&#0;\"", Some("\u{fffd}\u{fffd}\u{fffd}")),
    ("filename=\"a&#1;b\"", Some("ab")),
    ("filename=\"x&#47;etc&sol;a\"", Some("a")),
    ("filename=\"x&bsol;a\"", Some("a")),
    ("filename=\"&#;&#x;&;\"", Some("&#;&#x;&;")),
    ("filename=\"R&D.pdf\"", Some("R&D.pdf")),
    ("filename=\"été 日本 😀.pdf\"", Some("été 日本 😀.pdf")),
    ("filename=\"a\u{a0}b\u{202f}c\u{3000}d.pdf\"", Some("abcd.pdf")),
    ("filename=\"a\u{200d}\u{200b}\u{feff}\u{ad}b.pdf\"", Some("ab.pdf")),
    ("filename=\"a\tb.pdf\"", Some("ab.pdf")),
    ("filename=\"e\u{301}.pdf\"", Some("e\u{301}.pdf")),
    ("filename*=UTF-8''%E6%97%A5.pdf", Some("日.pdf")),
    ("filename=\"a.pdf\"; filename*=UTF-8''b.pdf", Some("b.pdf")),
    ("filename*=UTF-8''b.pdf; filename=\"a.pdf\"", Some("b.pdf")),
    ("filename*=utf-8'en'%e2%82%ac.pdf", Some("\u{20ac}.pdf")),
    ("filename*=iso-8859-1''%E9.pdf", Some("é.pdf")),
    ("filename*=UTF-8''dir%2Fa.pdf", Some("a.pdf")),
    ("filename*=UTF-8''a%26amp%3Bb", Some("a&b")),
    ("filename*=UTF-8''a%zz", Some("a%zz")),
    ("filename*=UTF-8''%FF.pdf", Some("\u{fffd}.pdf")),
    ("filename*=a%E9.pdf", Some("a\u{fffd}.pdf")),
    ("filename*0=\"a\"; filename*1=\"b.pdf\"", Some("ab.pdf")),
    ("filename*1*=b.pdf; filename*0*=UTF-8''%C3%A9", Some("éb.pdf")),
    ("filename=\"a\"; filename=\"b\"", Some("b")),
    ("filename=\"..\"", None),
    ("filename=\"dir/\"", None),
    ("filename=\"\u{200b}\"", None),
    ("filename*=klingon''a.pdf", None),
    ("filename=\"\"", None),
];
