//! Doubt is settled by what a listing shows, against the real sandbox and against services that
//! list badly, lie or have no listing.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use roe_batch::client::{
    Body, Client, Ending, Endpoint, Envelope, Form, ListError, Receipt, Settings,
};
use roe_batch::model::{
    ApiKey, AttemptId, Clock, ContentType, DatasetId, Digest, Doubt, FileId, Metadata, Origin,
    RemoteName, SourcePath, Stat, TAG_KEY, Tag, Target,
};
use roe_batch::sandbox::Sandbox;
use roe_batch::verify::{Algorithm, Hashes, LocalFiles, Look, Parts, Sample, Verifier};
use serde_json::{Value, json};

use bad_server::{Act, BadServer};
use common::{DATASET, KEY, Workspace, sandbox};

const SETTLE: Duration = Duration::from_mins(2);

/// A clock that stands still until it is moved; in microseconds.
#[derive(Debug)]
struct Hands(AtomicI64);

impl Hands {
    fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_micros()).expect("a short time");
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.0.load(Ordering::Relaxed)).expect("a time")
    }
}

#[derive(Debug)]
struct Folder(PathBuf);

impl LocalFiles for Folder {
    fn hashes(&self, path: &SourcePath, algorithms: &[Algorithm]) -> Option<Hashes> {
        let file = File::open(self.0.join(path.as_str())).ok()?;
        Hashes::read(file, algorithms).ok()
    }
}

/// A service, local files, and what a ledger would know.
struct World {
    client: Client,
    clock: Hands,
    local: Workspace,
    samples: Vec<Sample>,
    known: HashSet<FileId>,
    open: Vec<Doubt>,
    attempts: u32,
}

impl World {
    fn at(base: &str, stall: Duration) -> Self {
        let settings = Settings {
            endpoint: Endpoint::parse(base).expect("an address"),
            key: ApiKey::new(KEY).expect("a key"),
            stall,
            connections: 1,
            transport: roe_batch::client::Transport::default(),
        };
        Self {
            client: Client::new(&settings).expect("a client"),
            clock: Hands(AtomicI64::new(Timestamp::now().as_microsecond())),
            local: Workspace::new(),
            samples: Vec::new(),
            known: HashSet::new(),
            open: Vec::new(),
            attempts: 0,
        }
    }

    fn of(sandbox: &Sandbox) -> Self {
        let base = format!("http://{}", sandbox.address());
        Self::at(&base, Duration::from_secs(30))
    }

    fn bad(server: &BadServer) -> Self {
        let base = format!("http://127.0.0.1:{}", server.port());
        Self::at(&base, Duration::from_millis(200))
    }

    /// An attempt of a local file, of which nothing is sent.
    fn attempt(&mut self, name: &str, content: &str, tag: Tag) -> Doubt {
        self.attempts += 1;
        let path = format!("{}/file", self.attempts);
        self.local.write(&path, content);
        let now = self.clock.now();
        Doubt {
            attempt: AttemptId::new(format!("attempt-{}", self.attempts)),
            stream: "s".to_owned(),
            target: Target {
                origin: Origin::new("o"),
                organization_id: None,
                dataset_id: Some(DatasetId::new(DATASET)),
            },
            path: SourcePath::new(path),
            remote_name: RemoteName::new(name).expect("a name").as_str().to_owned(),
            stat: Stat {
                size: content.len() as u64,
                mtime_ns: 0,
                inode: 0,
            },
            digest: Some(Digest(*blake3_of(content).as_bytes())),
            metadata: Metadata::default().digest(),
            tag,
            began: now,
            since: now,
            absent_since: None,
            reason: None,
            last_look: None,
        }
    }

    /// An attempt whose file the service did store; its id there.
    async fn stored(&mut self, name: &str, content: &str, tag: Tag) -> (Doubt, FileId) {
        let doubt = self.attempt(name, content, tag);
        let metadata = match tag {
            Tag::Planted => vec![(TAG_KEY.to_owned(), doubt.attempt.as_str().to_owned())],
            Tag::None => Vec::new(),
        };
        let envelope = Envelope::new(
            &Form {
                target: &doubt.target,
                remote_name: &RemoteName::new(name).expect("a name"),
                content_type: &ContentType::of_name(name),
                metadata: &Metadata::open(metadata),
            },
            7,
            Vec::new(),
        );
        let bytes = [&envelope.head[..], content.as_bytes(), &envelope.tail].concat();
        let (body, progress) = Body::whole(bytes.into());
        let (_, ending) = self
            .client
            .send(&envelope.content_type, &doubt.attempt, body, &progress)
            .await;
        let Ending::Answered(answer) = ending else {
            panic!("{ending:?}");
        };
        let receipt = Receipt::parse(&answer.body).expect("a receipt");
        (doubt, receipt.file_id.expect("an id"))
    }

    /// A file that the ledger knows to be stored.
    async fn sample(&mut self, name: &str, content: &str, tag: Tag) {
        let (doubt, id) = self.stored(name, content, tag).await;
        self.known.insert(id.clone());
        self.samples.push(Sample {
            id,
            remote_name: doubt.remote_name,
            path: doubt.path,
            digest: doubt.digest.expect("a digest"),
            metadata: Some(doubt.metadata),
            planted: (tag == Tag::Planted).then_some(doubt.attempt),
        });
    }

    /// What one verifier says of these, one after another.
    async fn looks(&self, doubts: &[&Doubt]) -> Vec<Look> {
        let samples = |_: &Target| self.samples.clone();
        let known = |_: &Target, id: &FileId| self.known.contains(id);
        let open = |_: &Target| self.open.clone();
        let verifier = Verifier::new(Parts {
            client: &self.client,
            clock: &self.clock,
            settle: SETTLE,
            backoff: Duration::from_millis(1),
            files: Arc::new(Folder(self.local.path().to_owned())),
            samples: &samples,
            known: &known,
            open: &open,
        });
        let mut looks = Vec::new();
        for doubt in doubts {
            looks.push(verifier.look(doubt).await);
        }
        looks
    }

    async fn look(&self, doubt: &Doubt) -> Look {
        self.looks(&[doubt]).await.pop().expect("a look")
    }

    async fn held(&self, doubt: &Doubt) -> String {
        match self.look(doubt).await {
            Look::Held(why) => why,
            other => panic!("{other:?}"),
        }
    }

    /// The first absence that a look shows.
    async fn absence(&self, doubt: &Doubt) -> Timestamp {
        match self.look(doubt).await {
            Look::AbsentSince { since, .. } => since,
            other => panic!("{other:?}"),
        }
    }
}

fn blake3_of(content: &str) -> blake3::Hash {
    blake3::hash(content.as_bytes())
}

fn matched(id: FileId) -> Look {
    Look::Stored {
        id,
        how: "its name, size, time and SHA-256 match".to_owned(),
    }
}

#[tokio::test]
async fn a_stored_file_is_found_by_its_hash() {
    let (_folder, server) = sandbox();
    let mut world = World::of(&server);
    world.sample("known report.txt", "sample", Tag::None).await;
    let (doubt, id) = world.stored("invoice 12.pdf", "content", Tag::None).await;
    assert_eq!(world.look(&doubt).await, matched(id));
}

#[tokio::test]
async fn a_tagged_file_is_found_without_its_bytes_or_any_sample() {
    let (_folder, server) = sandbox();
    let mut world = World::of(&server);
    world.stored("invoice.pdf", "content", Tag::Planted).await;
    let (doubt, id) = world.stored("invoice.pdf", "content", Tag::Planted).await;
    world.local.write(doubt.path.as_str(), "changed");
    let how = "its metadata has this attempt's id".to_owned();
    assert_eq!(world.look(&doubt).await, Look::Stored { id, how });
}

#[tokio::test]
async fn a_file_that_is_not_there_twice_is_not_stored() {
    let (_folder, server) = sandbox();
    for tag in [Tag::None, Tag::Planted] {
        let mut world = World::of(&server);
        world.sample("known report.txt", "sample", tag).await;
        // Of the same name and size, but another's: of other bytes, or with another key.
        let content = if tag == Tag::None {
            "CONTENT"
        } else {
            "content"
        };
        world.stored("invoice.pdf", content, tag).await;
        let mut doubt = world.attempt("invoice.pdf", "content", tag);
        let begun = world.clock.now();
        let again = begun + SETTLE;
        let since = begun;
        let absent = Look::AbsentSince { since, again };
        assert_eq!(world.look(&doubt).await, absent, "{tag:?}");
        doubt.absent_since = Some(since);
        let almost = Duration::from_millis(119_999);
        world.clock.advance(almost);
        assert_eq!(world.look(&doubt).await, absent, "{tag:?}");
        world.clock.advance(SETTLE.saturating_sub(almost));
        let look = world.look(&doubt).await;
        assert!(matches!(look, Look::NotStored { .. }), "{tag:?} {look:?}");
    }
}

#[tokio::test]
async fn without_a_sample_a_like_file_proves_nothing_but_the_whole_listing_does() {
    let (_folder, server) = sandbox();
    let mut world = World::of(&server);
    let (there, id) = world.stored("invoice.pdf", "content", Tag::None).await;
    assert_eq!(
        world.held(&there).await,
        format!(
            "a file of this name and size is there ({id}), and nothing proves that it is this one"
        )
    );
    let missing = world.attempt("invoice-2.pdf", "other", Tag::None);
    world.absence(&missing).await;
}

#[tokio::test]
async fn samples_that_the_listing_does_not_show_take_its_word_away() {
    let (_folder, server) = sandbox();
    let mut world = World::of(&server);
    world.sample("known report.txt", "sample", Tag::None).await;
    world.samples[0].id = FileId::new("gone");
    let missing = world.attempt("invoice.pdf", "content", Tag::None);
    assert_eq!(
        world.held(&missing).await,
        "the listing shows neither it nor files that are known to be stored"
    );
}

#[tokio::test]
async fn short_samples_prove_hashes_by_the_whole_listing() {
    let (_folder, server) = sandbox();
    let mut world = World::of(&server);
    world.sample("1.txt", "sample", Tag::None).await;
    let (doubt, id) = world.stored("2.txt", "content", Tag::None).await;
    assert_eq!(world.look(&doubt).await, matched(id));
}

#[tokio::test]
async fn a_local_file_or_sample_that_changed_proves_nothing() {
    let (_folder, server) = sandbox();
    let mut world = World::of(&server);
    world.sample("known report.txt", "sample", Tag::None).await;
    let (doubt, _) = world.stored("invoice.pdf", "content", Tag::None).await;
    world.local.write(doubt.path.as_str(), "CONTENT");
    assert!(world.held(&doubt).await.contains("nothing proves"));
    world.local.write(doubt.path.as_str(), "content");
    let sample = world.samples[0].path.as_str().to_owned();
    world.local.write(&sample, "SAMPLE");
    assert!(world.held(&doubt).await.contains("nothing proves"));
}

#[tokio::test]
async fn twins_in_doubt_are_not_told_apart_by_their_bytes() {
    let (_folder, server) = sandbox();
    let mut world = World::of(&server);
    world.sample("known report.txt", "sample", Tag::None).await;
    let (one, id) = world.stored("readme.txt", "content", Tag::None).await;
    let two = world.attempt("readme.txt", "content", Tag::None);
    world.open = vec![one.clone(), two.clone()];
    for doubt in [&one, &two] {
        let why = world.held(doubt).await;
        assert!(why.contains("so has another file"), "{why}");
    }
    // Nobody said so, and yet one file is not given to two.
    world.open.clear();
    let looks = world.looks(&[&one, &two, &one]).await;
    assert_eq!(looks[0], matched(id));
    assert!(matches!(looks[1], Look::AbsentSince { .. }), "{looks:?}");
    assert_eq!(looks[2], looks[0]);
}

#[tokio::test]
async fn somebody_elses_file_with_our_bytes_and_name_is_told_by_its_metadata() {
    let (_folder, server) = sandbox();
    let mut world = World::of(&server);
    world.sample("known report.txt", "sample", Tag::None).await;
    let (theirs, id) = world.stored("readme.txt", "content", Tag::None).await;
    let mut ours = world.attempt("readme.txt", "content", Tag::None);
    ours.metadata = Metadata::open([("vendor".to_owned(), "acme".to_owned())]).digest();
    let why = world.held(&ours).await;
    assert!(why.contains("but other metadata"), "{why}");
    assert_eq!(world.look(&theirs).await, matched(id));
}

#[tokio::test]
async fn a_dataset_that_is_not_named_or_not_there_has_no_listing() {
    let (_folder, server) = sandbox();
    let mut world = World::of(&server);
    let mut doubt = world.attempt("invoice.pdf", "content", Tag::None);
    doubt.target.dataset_id = None;
    assert!(
        world
            .held(&doubt)
            .await
            .contains("only the files of a dataset")
    );
    doubt.target.dataset_id = Some(DatasetId::new("3f2b7a52-0000-4000-8000-0000000000ff"));
    let why = world.held(&doubt).await;
    assert!(why.contains("no file listing"), "{why}");
    assert!(why.contains("No Dataset matches"), "{why}");
    for hostile in ["..", "../files/upload", "%2e%2e", "a\nb"] {
        doubt.target.dataset_id = Some(DatasetId::new(hostile));
        let why = world.held(&doubt).await;
        assert!(why.contains("no file listing"), "{why}");
    }
}

#[tokio::test]
async fn names_that_break_searches_are_found_all_the_same() {
    let (_folder, server) = sandbox();
    for name in [
        "a, b \"quoted, part\" 'c'.txt",
        "漢字.pdf",
        "100%_of & more.txt",
        "back\\slash;semi.tar.gz",
        "e\u{301}te\u{301} zwj\u{200d}x.bin",
        "-dash.txt",
        ".hidden",
        "🎉",
        "nb\u{a0}sp",
        &"x".repeat(255),
    ] {
        let mut world = World::of(&server);
        world.sample("known report.txt", "sample", Tag::None).await;
        let missing = world.attempt(name, "no such content", Tag::None);
        world.absence(&missing).await;
        let (doubt, id) = world.stored(name, name, Tag::None).await;
        assert_eq!(world.look(&doubt).await, matched(id), "{name}");
    }
}

#[tokio::test]
async fn a_listing_of_several_pages_is_read_to_its_end() {
    let (_folder, server) = sandbox();
    let mut world = World::of(&server);
    world.sample("known report.txt", "sample", Tag::None).await;
    for number in 0..120 {
        let name = format!("page {number}.txt");
        let (_, id) = world.stored(&name, "filler", Tag::None).await;
        world.known.insert(id);
    }
    let missing = world.attempt("page.txt", "filler", Tag::None);
    world.absence(&missing).await;
    let (doubt, id) = world.stored("page.txt", "filler", Tag::None).await;
    assert_eq!(world.look(&doubt).await, matched(id));
}

/// An answer after which the connection is closed: nothing of the client holds the server up.
fn http(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let headers = [headers, &[("Connection", "close")]].concat();
    bad_server::http(status, &headers, body)
}

/// A service that answers everything like this.
fn always(answer: String) -> BadServer {
    BadServer::others_by(move |_, _| Act::answer_and_close(answer.clone()))
}

fn listing(results: &[Value]) -> String {
    let body = json!({"count": results.len(), "next": null, "previous": null, "results": results});
    http(200, &[], &body.to_string())
}

#[tokio::test]
async fn without_a_listing_doubt_stays_and_the_service_is_asked_once() {
    for (answer, said) in [
        (http(404, &[], r#"{"detail": "Not found."}"#), "Not found."),
        (http(405, &[], "{}"), "HTTP 405"),
        (http(410, &[], ""), "HTTP 410"),
        (http(501, &[], ""), "HTTP 501"),
        (http(204, &[], ""), "HTTP 204"),
        (
            http(302, &[("Location", "https://elsewhere/")], ""),
            "redirected to https://elsewhere/",
        ),
        (http(200, &[], "<html><title>Welcome</title>"), "no listing"),
        (http(200, &[], "[]"), "no listing"),
        (http(200, &[], r#"{"files": []}"#), "no listing"),
        (http(200, &[], "\u{0}\u{1b}[31mgarbage"), "no listing"),
    ] {
        let server = always(answer);
        let mut world = World::bad(&server);
        let doubt = world.attempt("invoice.pdf", "content", Tag::None);
        let looks = world.looks(&[&doubt, &doubt]).await;
        let Look::Held(why) = &looks[0] else {
            panic!("{looks:?}");
        };
        assert!(why.starts_with("the service has no file listing"), "{why}");
        assert!(why.contains(said), "{why}");
        assert_eq!(looks[0], looks[1]);
        assert_eq!(server.others().len(), 1, "{said}");
    }
}

#[tokio::test]
async fn a_refused_listing_is_not_asked_for_again_in_one_look() {
    for status in [401, 402, 403] {
        let server = always(http(status, &[], r#"{"detail": "no"}"#));
        let mut world = World::bad(&server);
        let doubt = world.attempt("invoice.pdf", "content", Tag::None);
        match world.look(&doubt).await {
            Look::KeyRefused(why) => assert_eq!((status, why.as_str()), (401, "HTTP 401: no")),
            Look::Held(why) if status != 401 => {
                assert!(why.contains("the API key may not list"), "{why}");
            }
            other => panic!("{status}: {other:?}"),
        }
        assert_eq!(server.others().len(), 1);
    }
}

#[tokio::test]
async fn a_listing_that_fails_is_tried_three_times_and_never_repeats_the_key() {
    let echo = format!("{{\"error\": \"bad key {KEY}\"}}");
    let escaped = format!("{{\"error\": \"bad key \\u0073{}\"}}", &KEY[1..]);
    let huge = http(200, &[], &" ".repeat(9 * 1024 * 1024));
    for (act, said) in [
        (
            Act::answer_and_close(http(500, &[], &echo)),
            "[the API key]",
        ),
        (
            Act::answer_and_close(http(503, &[], &escaped)),
            "[the API key]",
        ),
        (
            Act::answer_and_close(http(429, &[("Retry-After", "1")], "")),
            "HTTP 429",
        ),
        (Act::answer_and_close(http(400, &[], "{}")), "HTTP 400"),
        (Act::break_off(), "the connection was lost"),
        (Act::answer_and_stall(""), "nothing moved"),
        (
            Act::answer_and_stall("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"results\": ["),
            "the answer stalled",
        ),
        (
            Act::answer_and_close("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"results\": ["),
            "the answer broke off",
        ),
        (Act::answer_and_close(huge), "longer than 8 MiB"),
        (
            Act::answer_and_close("no HTTP at all\r\n\r\n"),
            "the connection was lost",
        ),
    ] {
        let server = BadServer::others_by(move |_, _| act.clone());
        let mut world = World::bad(&server);
        let doubt = world.attempt("invoice.pdf", "content", Tag::None);
        let why = world.held(&doubt).await;
        assert!(
            why.starts_with("the file listing cannot be read now"),
            "{why}"
        );
        assert!(why.contains(said), "{why}");
        assert!(!why.contains(KEY), "{why}");
        assert_eq!(server.others().len(), 3, "{said}");
    }
}

#[tokio::test]
async fn a_listing_that_comes_back_is_read() {
    let server = BadServer::others_by(|number, _| match number {
        0 => Act::answer_and_close(http(500, &[], "")),
        1 => Act::break_off(),
        _ => Act::answer_and_close(listing(&[])),
    });
    let mut world = World::bad(&server);
    let doubt = world.attempt("invoice.pdf", "content", Tag::None);
    world.absence(&doubt).await;
}

#[tokio::test]
async fn the_next_page_is_asked_for_here_whatever_address_the_service_gives() {
    let server = BadServer::others_by(|_, path| {
        let last = path.contains("page=2&");
        let body = json!({
            "count": 2,
            "next": (!last).then_some("https://elsewhere.example/?page=7"),
            "results": [{"id": if last { "b" } else { "a" }}],
        });
        Act::answer_and_close(http(200, &[], &body.to_string()))
    });
    let mut world = World::bad(&server);
    let doubt = world.attempt("in voice.pdf", "content", Tag::None);
    world.held(&doubt).await;
    let base = format!("GET /v1/datasets/{DATASET}/files/?");
    assert_eq!(
        server.others(),
        [
            "search=voice&page=1",
            "search=voice&page=2",
            "page=1",
            "page=2"
        ]
        .map(|query| format!("{base}{query}&page_size=100 HTTP/1.1"))
    );
}

#[tokio::test]
async fn a_whole_listing_is_read_once_for_all_files_that_were_in_doubt_by_then() {
    let server = always(listing(&[
        json!({"id": "f", "name": "else.txt", "size": 9}),
    ]));
    let mut world = World::bad(&server);
    let [one, two] = ["one.txt", "two.txt"].map(|name| world.attempt(name, "content", Tag::None));
    world.clock.advance(Duration::from_secs(1));
    let late = world.attempt("late.txt", "content", Tag::None);
    let is_absent = |look: &Look| matches!(look, Look::AbsentSince { .. });
    let looks = world.looks(&[&one, &two]).await;
    assert!(looks.iter().all(is_absent), "{looks:?}");
    let asked = |what: &str| {
        let others = server.others();
        others.iter().filter(|line| line.contains(what)).count()
    };
    assert_eq!((asked("?page=1"), asked("search=")), (1, 1));
    // The reading says nothing of what began with it.
    let looks = world.looks(&[&one, &late]).await;
    assert!(looks.iter().all(is_absent), "{looks:?}");
    assert_eq!(asked("?page=1"), 3);
}

#[tokio::test]
async fn an_endless_listing_is_bounded_and_proves_no_absence() {
    let server = BadServer::others_by(|number, _| {
        let body = json!({
            "count": 100_000,
            "next": "x",
            "results": [{"id": number, "name": "other.txt", "size": 1}],
        });
        Act::answer_and_close(http(200, &[], &body.to_string()))
    });
    let mut world = World::bad(&server);
    let doubt = world.attempt("invoice.pdf", "content", Tag::None);
    let why = world.held(&doubt).await;
    assert!(
        why.contains("only 500 pages of the listing were read"),
        "{why}"
    );
    assert_eq!(server.others().len(), 520);
}

#[tokio::test]
async fn a_page_that_vanishes_or_entries_that_cannot_be_read_prove_no_absence() {
    for second in [
        http(404, &[], r#"{"detail": "Invalid page."}"#),
        http(
            200,
            &[],
            r#"{"count": 2, "next": null, "results": [{"name": "invoice.pdf"}]}"#,
        ),
        http(200, &[], r#"{"count": 2, "next": null, "results": []}"#),
    ] {
        let server = BadServer::others_by(move |_, path| {
            Act::answer_and_close(if path.contains("page=1&") {
                let body = r#"{"count": 2, "next": "x", "results": [{"id": "a", "size": 1}]}"#;
                http(200, &[], body)
            } else {
                second.clone()
            })
        });
        let mut world = World::bad(&server);
        let doubt = world.attempt("invoice.pdf", "content", Tag::None);
        let why = world.held(&doubt).await;
        assert!(
            why.contains("it is not among the files listed, but"),
            "{why}"
        );
    }
}

#[tokio::test]
async fn a_hostile_name_is_shown_escaped_and_cut() {
    let name = format!("invoice\u{1b}[2J\r\n\u{202e}{}.pdf", "x".repeat(5000));
    let server = always(listing(&[json!({"id": "a\u{7}", "name": name, "size": 7})]));
    let mut world = World::bad(&server);
    let doubt = world.attempt("invoice.pdf", "content", Tag::None);
    let why = world.held(&doubt).await;
    assert!(why.contains("invoice\\u{1b}[2J\\r\\n\\u{202e}"), "{why}");
    assert!(
        why.chars().all(|c| !c.is_control()) && why.len() < 1000,
        "{why}"
    );
}

fn http_date(at: Timestamp) -> String {
    jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&at)
        .expect("a date")
}

#[tokio::test]
async fn a_clock_that_is_wrong_there_is_allowed_for() {
    let ahead = Timestamp::now() + SignedDuration::from_hours(30);
    let date = http_date(ahead);
    let entry = |created: Timestamp| json!({"id": "a", "name": "invoice.pdf", "size": 7, "created_at": created.to_string()});
    for (created, is_possible) in [
        (ahead, true),
        (ahead - SignedDuration::from_mins(14), true),
        (ahead - SignedDuration::from_mins(17), false),
    ] {
        let body = json!({"next": null, "results": [entry(created)]}).to_string();
        let server = always(http(200, &[("Date", &date)], &body));
        let mut world = World::bad(&server);
        let doubt = world.attempt("invoice.pdf", "content", Tag::None);
        let look = world.look(&doubt).await;
        let held = matches!(look, Look::Held(_));
        assert_eq!(held, is_possible, "{look:?}");
    }
}

#[tokio::test]
async fn a_listing_of_another_hash_is_calibrated_by_its_sample() {
    let hash = |content: &str| {
        let hashes = Hashes::read(content.as_bytes(), &[Algorithm::Md5]).expect("read");
        let bytes = hashes.of(Algorithm::Md5).expect("computed");
        let mut text = "md5:".to_owned();
        for byte in bytes {
            let _ = write!(text, "{byte:02X}");
        }
        text
    };
    let now = Timestamp::now();
    let date = http_date(now);
    let body = json!({"next": null, "results": [
        {"id": "sample", "name": "known report.txt", "hash": hash("sample")},
        {"id": "mine", "name": "invoice.pdf", "size": 7, "hash": hash("content"), "created_at": now},
        {"id": "not", "name": "invoice.pdf", "size": 7, "hash": hash("CONTENT"), "created_at": now},
    ]});
    let server = always(http(200, &[("Date", &date)], &body.to_string()));
    let mut world = World::bad(&server);
    let sample = world.attempt("known report.txt", "sample", Tag::None);
    world.samples.push(Sample {
        id: FileId::new("sample"),
        remote_name: sample.remote_name,
        path: sample.path,
        digest: sample.digest.expect("a digest"),
        metadata: Some(sample.metadata),
        planted: None,
    });
    let doubt = world.attempt("invoice.pdf", "content", Tag::None);
    assert_eq!(
        world.look(&doubt).await,
        Look::Stored {
            id: FileId::new("mine"),
            how: "its name, size, time and MD5 match".to_owned()
        }
    );
}

#[tokio::test]
async fn a_page_says_by_its_kind_of_error_whether_asking_again_may_help() {
    let server = BadServer::others_by(|number, _| match number {
        0 => Act::answer_and_close(http(404, &[], "{}")),
        1 => Act::answer_and_close(http(403, &[], "{}")),
        2 => Act::answer_and_close(http(502, &[], "{}")),
        _ => Act::answer_and_close(listing(&[json!({"id": 1}), json!({})])),
    });
    let world = World::bad(&server);
    let dataset = DatasetId::new(DATASET);
    let list = || world.client.list(&dataset, None, 1);
    assert!(matches!(list().await, Err(ListError::Absent(_))));
    assert!(matches!(list().await, Err(ListError::Refused(_))));
    assert!(matches!(list().await, Err(ListError::Unreadable(_))));
    let page = list().await.expect("a page");
    assert_eq!((page.entries.len(), page.unreadable), (1, 1));
}
