//! Against the real Django REST Framework behind gunicorn: what it makes of our uploads is what
//! the plan predicted, and what it makes of the same uploads by python-requests.
//!
//! Needs Python 3.10 or newer and the package registry, once: `django/requirements.txt` is
//! installed into the target folder. Without them these tests are skipped, and say so.

mod common;
#[path = "django/names.rs"]
mod names;
#[path = "django/python.rs"]
mod python;
#[path = "django/server.rs"]
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

use common::{DATASET, KEY, Workspace};
use names::Difference::{Cut, PercentEncoded, Refused, Unescaped};
use names::Name;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use server::{Django, Payload, Upload, Workers};
use sha2::{Digest, Sha256};

const FILES: usize = 1000;

const CONCURRENCY: usize = 8;

const MIB: usize = 1024 * 1024;

/// The plan's row of a file.
#[derive(Debug, Deserialize, Serialize)]
struct Planned {
    path: String,
    stored_name: String,
    size: u64,
    content_type: String,
    metadata: Value,
    dataset_id: Option<String>,
    organization_id: Option<String>,
    notes: Vec<String>,
}

/// The report's row of a file.
#[derive(Debug, Deserialize)]
struct Reported {
    path: String,
    outcome: String,
    file_id: Option<String>,
    request_id: Option<String>,
    returned_name: Option<String>,
    attempts: u32,
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn noise(seed: usize, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(seed as u64).fill(&mut bytes);
    bytes
}

/// Of sizes around the 64 KiB in which Django reads, and with ends that resemble a boundary.
fn content(number: usize) -> Vec<u8> {
    let size = match number % 16 {
        0 => 65_536 * (1 + number / 16 % 16) + number % 5 - 2,
        1 => 0,
        // Here the whole form, not the file, is about 64 KiB.
        2 => 65_536 - 1000 + number,
        n => n * n,
    };
    let mut bytes = noise(number, size);
    let ends: [&[u8]; 6] = [b"", b"\r\n", b"\r", b"\n", b"\r\n--", b"\r\n--roe-batch-"];
    let end = ends[number % ends.len()];
    if let Some(start) = size.checked_sub(end.len()) {
        bytes[start..].copy_from_slice(end);
    }
    bytes
}

fn plan(workspace: &Workspace) -> Vec<Planned> {
    let ran = workspace.run(&["plan", "manifest.yaml", "--format", "jsonl"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let rows = ran.stdout.lines().skip(1);
    rows.map(|line| serde_json::from_str(line).expect("a row"))
        .collect()
}

fn report(workspace: &Workspace) -> Vec<Reported> {
    let rows = workspace.report()["files"].take();
    serde_json::from_value(rows).expect("rows")
}

/// A workspace with a folder `in` of which all files go to the dataset.
fn simple(django: &Django, key: &str, metadata: &str) -> Workspace {
    let mut workspace = Workspace::with(
        &format!(
            "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}, \
             metadata: {{{metadata}}}}}\nrun: {{concurrency: {CONCURRENCY}}}\n"
        ),
        &[],
    );
    django.serve(&mut workspace, key);
    workspace
}

/// A thousand files under three rules, and the name of each by its path.
fn hostile(django: &Django) -> (Workspace, BTreeMap<String, Name>) {
    let mut workspace = Workspace::with(
        &format!(
            r#"
version: 1
uploads:
- name: named
  root: in/named
  include: ["**", "**/.*"]
  dataset_id: {DATASET}
  organization_id: 0b5e6d1c-0000-4000-8000-0000000000b1
  metadata: &texts
    path: ${{{{ file.path }}}}
    quotes: "say \"hi\" \\ 'there' %22 &amp;"
    lines: "one\ntwo\r\nthree\ttab\0nul"
    unicode: "e\u0301 é 漢字 🎉 \u202E\u00A0\u2028 שלום"
    empty: ""
    "a \"key\" é\n": "1.10"
- name: typed
  root: in/typed
  include: ["**", "**/.*"]
  content_type: text/csv; charset=utf-8
- name: long
  root: in/long
  include: "**"
  dataset_id: {DATASET}
  file_name: ${{{{ file.path | replace("/", "") }}}}
  metadata: *texts
run: {{concurrency: {CONCURRENCY}}}
"#
        ),
        &[],
    );
    django.serve(&mut workspace, KEY);

    let mut all = BTreeMap::new();
    for (parts, stored) in names::longer_than_kept() {
        let name = Name {
            text: parts.concat(),
            by_requests: Some(stored.clone()),
            stored,
        };
        all.insert(format!("in/long/{}", parts.join("/")), name);
    }
    let whole = names::whole();
    let composed = FILES - all.len() - whole.len();
    let short = (0..composed).map(names::composed).chain(whole);
    for (number, name) in short.enumerate() {
        let folder = if number % 9 == 0 { "typed" } else { "named/a" };
        all.insert(format!("in/{folder}/{}", name.text), name);
    }
    assert_eq!(all.len(), FILES, "no path is there twice");
    for (number, path) in all.keys().enumerate() {
        workspace.write(path, content(number));
    }
    (workspace, all)
}

#[test]
fn a_thousand_hostile_files_arrive_as_planned_and_as_python_requests_sends_them() {
    let Some(django) = Django::start(Workers::Threads) else {
        return;
    };
    let (workspace, names) = hostile(&django);
    let plan = plan(&workspace);
    assert_eq!(plan.len(), FILES);
    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.all(), django.log());

    let ours = django.uploads();
    assert_eq!(ours.len(), FILES);
    assert_eq!(django.posts().len(), FILES, "no POST but the uploads");
    let looks = django.requests().len() - FILES;
    assert!(
        (1..=4).contains(&looks),
        "{looks} looks for key and targets"
    );
    let peers: BTreeSet<&str> = ours
        .iter()
        .map(|upload| upload.peer_port.as_str())
        .collect();
    assert!(
        peers.len() <= 2 * CONCURRENCY,
        "{} connections",
        peers.len()
    );
    let mut by_path = by_reported_id(&workspace, &ours);

    let jobs = plan.iter().map(|row| {
        let mut job = serde_json::to_value(row).expect("JSON");
        job["name"] = names[&row.path].text.as_str().into();
        job
    });
    let answers = django.send_with_requests(workspace.path(), &jobs.collect());
    let theirs = django.uploads().split_off(FILES);
    let mut theirs: BTreeMap<String, &Upload> = theirs
        .iter()
        .map(|upload| (upload.request_id.clone(), upload))
        .collect();

    let mut differences = BTreeSet::new();
    for (planned, (status, answer)) in plan.iter().zip(answers) {
        let path = &planned.path;
        let name = &names[path];
        let upload = by_path.remove(path.as_str()).expect("an upload");
        sent_well(&workspace, planned, name, upload);

        let other = theirs.remove(&hex(path));
        let expected = if name.by_requests.is_some() { 200 } else { 400 };
        assert_eq!(status, expected, "{path:?}: {answer}");
        assert_eq!(
            other.map(|o| &o.name),
            name.by_requests.as_ref(),
            "{path:?}"
        );
        if let Some(other) = other {
            assert_eq!(upload.payload, other.payload, "{path:?}");
        }
        let difference = name.difference();
        let is_same = Some(&name.stored) == name.by_requests.as_ref();
        assert_eq!(difference.is_none(), is_same, "{path:?}: {difference:?}");
        differences.extend(difference);
    }
    assert_eq!(
        differences,
        [PercentEncoded, Unescaped, Cut, Refused].into()
    );
}

fn hex(text: &str) -> String {
    text.bytes()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// What the server has of each file, by the id that the report has for it.
fn by_reported_id<'a>(
    workspace: &Workspace,
    uploads: &'a [Upload],
) -> BTreeMap<String, &'a Upload> {
    let mut by_id: BTreeMap<&str, &Upload> = uploads
        .iter()
        .map(|upload| (upload.id.as_str(), upload))
        .collect();
    let mut by_path = BTreeMap::new();
    for row in report(workspace) {
        assert_eq!((row.outcome.as_str(), row.attempts), ("stored", 1));
        let id = row.file_id.expect("an id");
        let upload = by_id.remove(id.as_str()).expect("an upload of its own");
        assert_eq!(row.request_id.as_ref(), Some(&upload.request_id));
        assert_eq!(row.returned_name.as_ref(), Some(&upload.name));
        by_path.insert(row.path, upload);
    }
    assert!(by_id.is_empty(), "uploads without a row");
    by_path
}

/// What the server recorded is the file, as the plan said.
fn sent_well(workspace: &Workspace, planned: &Planned, name: &Name, upload: &Upload) {
    let path = &planned.path;
    assert_eq!(upload.name, name.stored, "{path:?}");
    assert_eq!(planned.stored_name, name.stored, "{path:?}");
    let noted = format!("{:?}", planned.notes).contains("will store it as");
    assert_eq!(noted, name.text != name.stored, "{:?}", planned.notes);

    let bytes = fs::read(workspace.at(path)).expect("a file");
    let (content_type, charset) = match planned.content_type.split_once("; charset=") {
        Some((content_type, charset)) => (content_type, Some(charset.to_owned())),
        None => (planned.content_type.as_str(), None),
    };
    let metadata = planned.metadata.as_object().expect("an object");
    let payload = Payload {
        size: bytes.len() as u64,
        sha256: digest(&bytes),
        content_type: content_type.to_owned(),
        charset,
        metadata: (!metadata.is_empty()).then(|| planned.metadata.clone()),
        dataset_id: planned.dataset_id.clone(),
        organization_id: planned.organization_id.clone(),
    };
    assert_eq!(upload.payload, payload, "{path:?}");
    assert_eq!(planned.size, payload.size, "{path:?}");

    let length = upload.content_length.as_ref().expect("a Content-Length");
    assert!(length.parse::<u64>().expect("a number") > payload.size);
    assert_eq!(upload.transfer_encoding, None);
    assert!(upload.user_agent.starts_with("roe-batch/"));
}

#[test]
fn thirty_mebibytes_stream_through_unchanged() {
    let Some(django) = Django::start(Workers::Sync) else {
        return;
    };
    let workspace = simple(&django, KEY, "");
    let bytes = noise(30, 30 * MIB);
    workspace.write("in/large.bin", &bytes);
    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.all(), django.log());
    let [upload] = &django.uploads()[..] else {
        panic!("one upload: {:?}", django.uploads());
    };
    assert_eq!(upload.payload.size, bytes.len() as u64);
    assert_eq!(upload.payload.sha256, digest(&bytes));
}

#[test]
fn a_wrong_key_ends_the_run_before_every_worker_has_asked_twice() {
    let Some(django) = Django::start(Workers::Sync) else {
        return;
    };
    let workspace = simple(&django, "another-key", "");
    for number in 0..200 {
        workspace.write(&format!("in/{number}"), content(number));
    }
    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 77, "{}\n{}", ran.all(), django.log());
    assert!(django.uploads().is_empty());
    let requests = django.requests();
    assert_eq!(requests.len(), 2, "{requests:?}");
    assert!(requests.iter().all(|request| request.status == 401));
    let doubts = report(&workspace)
        .iter()
        .filter(|row| row.outcome == "in_doubt")
        .count();
    assert_eq!(doubts, 0, "{}", ran.all());
}

#[test]
fn an_upload_that_is_killed_in_its_middle_is_not_stored_and_then_stored_once() {
    let Some(mut django) = Django::start(Workers::Sync) else {
        return;
    };
    let workspace = simple(&django, KEY, "");
    let bytes = noise(64, 64 * MIB);
    workspace.write("in/large.bin", &bytes);
    let mut child = workspace
        .command(&["apply", "manifest.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    django.wait("a part arrives", |django| django.receiving() > MIB as u64);
    child.kill().expect("killed");
    assert_eq!(child.wait().expect("it ends").code(), None, "it was killed");
    django.wait("its end is noticed", |django| !django.posts().is_empty());
    assert!(django.posts()[0].status >= 400);
    assert!(django.uploads().is_empty(), "nothing of it is stored");

    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.all(), django.log());
    let [upload] = &django.uploads()[..] else {
        panic!("one upload: {:?}", django.uploads());
    };
    assert_eq!(upload.payload.sha256, digest(&bytes));
}

#[test]
fn lost_answers_are_settled_by_the_listing_of_the_rest_framework() {
    let Some(django) = Django::start(Workers::Threads) else {
        return;
    };
    let workspace = simple(&django, KEY, "answer: '${{ file.parent }}'");
    let names = [
        "plain.txt",
        "é \"q\" & a&lt;b+c%20d#e.txt",
        "nb\u{a0}sp.txt",
    ];
    for (number, name) in names.iter().enumerate() {
        workspace.write(&format!("in/lost/{name}"), noise(number, 1000));
    }
    for number in 0..5 {
        workspace.write(&format!("in/given/{number}"), noise(10 + number, 100));
    }
    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.all(), django.log());
    let uploads = django.uploads();
    assert_eq!(uploads.len(), names.len() + 5, "nothing is sent twice");
    let stored: BTreeSet<&str> = uploads.iter().map(|upload| upload.id.as_str()).collect();
    let rows = report(&workspace);
    let reported: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.file_id.as_deref())
        .collect();
    assert_eq!(stored, reported);
}
