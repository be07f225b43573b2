//! Proxies, certificate authorities and HTTP/2, over real sockets.

mod common;
#[path = "common/web.rs"]
mod web;

use common::{KEY, Ran, Workspace};
use roe_batch::client::{self, Client, Endpoint};
use roe_batch::model::{ApiKey, DatasetId};
use web::{Act, Gateway, Seen, Speaks, Web, authority};

const MANIFEST: &str = "\
version: 1
uploads:
  - {name: all, root: inbox, include: \"**\"}
";

const REFUSED_STREAM: u32 = 7;

/// A workspace with these files, for a service there.
fn workspace(base: &str, files: &[(&str, &str)]) -> Workspace {
    let mut workspace = Workspace::with(MANIFEST, files);
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", base);
    workspace.env("ROE_TIMEOUT", "20");
    workspace.env("ROE_RETRY_INITIAL_MS", "1");
    workspace
}

fn one_file(base: &str) -> Workspace {
    workspace(base, &[("inbox/a.txt", "content of a")])
}

fn plain(web: &Web) -> String {
    format!("http://{}", web.address())
}

fn encrypted(web: &Web) -> String {
    format!("https://{}", web.address())
}

fn apply(workspace: &Workspace, flags: &[&str]) -> Ran {
    let mut args = vec!["apply", "manifest.yaml", "--in-doubt", "hold"];
    args.extend(flags);
    let ran = workspace.run(&args);
    for secret in [KEY, "s3cret"] {
        assert!(!ran.all().contains(secret), "{secret} in {}", ran.all());
    }
    ran
}

/// The one file was uploaded, at the first attempt and once.
fn assert_stored_once(workspace: &Workspace, ran: &Ran, seen: &Seen) {
    assert_eq!(ran.code, 0, "{}", ran.all());
    let row = &workspace.report()["files"][0];
    assert_eq!(row["outcome"], "stored", "{row:#}");
    assert_eq!(row["attempts"], 1, "{row:#}");
    assert_eq!((seen.stored, seen.bodies.len()), (1, 1));
    let body = String::from_utf8_lossy(&seen.bodies[0]);
    assert!(body.contains("content of a"), "{body}");
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then_some(value)
    })
}

fn agent() -> String {
    format!("roe-batch/{}", env!("CARGO_PKG_VERSION"))
}

#[test]
fn an_upload_says_who_sends_it_and_has_the_attempts_id() {
    let web = Web::start(Speaks::One, None, |_| Act::Store);
    let workspace = one_file(&plain(&web));
    let ran = apply(&workspace, &[]);
    let seen = web.seen();
    assert_stored_once(&workspace, &ran, &seen);
    let head = seen.uploads()[0];
    assert_eq!(header(head, "user-agent"), Some(agent().as_str()));
    let report = workspace.report();
    let id = report["files"][0]["request_id"].as_str();
    assert!(id.is_some());
    assert_eq!(header(head, "x-request-id"), id);
}

#[tokio::test]
async fn a_listing_says_who_asks_for_it() {
    let web = Web::start(Speaks::One, None, |_| Act::Store);
    let client = Client::new(&client::Settings {
        endpoint: Endpoint::parse(&plain(&web)).expect("an address"),
        key: ApiKey::new(KEY).expect("a key"),
        stall: std::time::Duration::from_secs(20),
        connections: 1,
        transport: client::Transport::default(),
    })
    .expect("a client");
    let listed = client.list(&DatasetId::new("d"), None, 1).await;
    assert!(listed.is_ok(), "{listed:?}");
    assert!(client.datasets(Some("x"), None, 1).await.is_ok());
    for head in web.seen().heads {
        assert_eq!(header(&head, "user-agent"), Some(agent().as_str()));
    }
}

#[test]
fn a_proxy_that_is_named_passes_uploads_on_from_this_machine_too() {
    for by_flag in [true, false] {
        let web = Web::start(Speaks::One, None, |_| Act::Store);
        let gateway = Gateway::http();
        let address = format!("http://user:s3cret@{}", gateway.address());
        let mut workspace = one_file(&plain(&web));
        // Nobody listens there: the flag wins.
        let variable = if by_flag {
            "http://127.0.0.1:1"
        } else {
            &address
        };
        workspace.env("ROE_PROXY", variable);
        workspace.env("HTTP_PROXY", "http://127.0.0.1:1");
        workspace.env("NO_PROXY", "127.0.0.1");
        let flags: &[&str] = if by_flag { &["--proxy", &address] } else { &[] };
        let ran = apply(&workspace, flags);
        assert_stored_once(&workspace, &ran, &web.seen());
        let asked = gateway.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        let look = format!("GET {}/v1/users/current_user/", plain(&web));
        assert!(
            asked[0].starts_with(&look),
            "the connection is kept for the upload"
        );
        // "user:s3cret" in Base64.
        let credentials = header(&asked[0], "proxy-authorization");
        assert_eq!(credentials, Some("Basic dXNlcjpzM2NyZXQ="));
        let seen = web.seen();
        assert_eq!(
            header(seen.uploads()[0], "user-agent"),
            Some(agent().as_str())
        );
    }
}

#[test]
fn the_environments_proxy_is_not_for_this_machine() {
    let web = Web::start(Speaks::One, None, |_| Act::Store);
    let mut workspace = one_file(&plain(&web));
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        workspace.env(name, "http://127.0.0.1:1");
    }
    let ran = apply(&workspace, &[]);
    assert_stored_once(&workspace, &ran, &web.seen());
}

#[test]
fn an_encrypted_upload_goes_through_a_tunnel() {
    let (pem, tls) = authority(&[]);
    let web = Web::start(Speaks::One, Some(tls), |_| Act::Store);
    let gateway = Gateway::http();
    let workspace = one_file(&encrypted(&web));
    workspace.write("ca.pem", pem);
    let proxy = format!("http://{}", gateway.address());
    let ran = apply(&workspace, &["--proxy", &proxy, "--ca-file", "ca.pem"]);
    assert_stored_once(&workspace, &ran, &web.seen());
    let asked = gateway.asked();
    assert!(asked[0].starts_with(&format!("CONNECT {} ", web.address())));
    assert!(!asked[0].contains(KEY));
}

#[test]
fn socks_passes_bytes_on_with_and_without_a_password() {
    for (scheme, credentials) in [("socks5", ""), ("socks5h", "user:s3cret@")] {
        let web = Web::start(Speaks::One, None, |_| Act::Store);
        let gateway = Gateway::socks();
        let workspace = one_file(&plain(&web));
        let proxy = format!("{scheme}://{credentials}{}", gateway.address());
        let ran = apply(&workspace, &["--proxy", &proxy]);
        assert_stored_once(&workspace, &ran, &web.seen());
        let mut expected = vec![web.address().to_string()];
        if !credentials.is_empty() {
            expected.insert(0, "user:s3cret".to_owned());
        }
        assert_eq!(gateway.asked(), expected);
    }
}

#[test]
fn a_proxy_that_wants_credentials_stops_the_run() {
    let (pem, tls) = authority(&[]);
    let web = Web::start(Speaks::One, None, |_| Act::Store);
    let secure = Web::start(Speaks::One, Some(tls), |_| Act::Store);
    let gateway = Gateway::closed();
    let proxy = format!("http://user:s3cret@{}", gateway.address());
    for base in [plain(&web), encrypted(&secure)] {
        let workspace = one_file(&base);
        workspace.write("ca.pem", &pem);
        let flags = [
            "--proxy",
            &proxy,
            "--ca-file",
            "ca.pem",
            "--max-attempts",
            "2",
        ];
        let ran = apply(&workspace, &flags);
        assert_eq!(ran.code, 69, "{}", ran.all());
    }
    assert_eq!(web.seen().bodies.len() + secure.seen().bodies.len(), 0);
}

#[test]
fn a_proxys_address_that_cannot_be_used_is_refused_without_being_shown() {
    let web = Web::start(Speaks::One, None, |_| Act::Store);
    for bad in [
        "user:s3cret@proxy",
        "ftp://user:s3cret@proxy",
        "http://user:s3cret@proxy/path",
        "http://user:s3cret@proxy:99999",
    ] {
        let workspace = one_file(&plain(&web));
        let ran = apply(&workspace, &["--proxy", bad]);
        assert_eq!(ran.code, 64, "{}", ran.all());
        assert!(ran.stderr.contains("the proxy's address cannot be used"));
    }
    let mut workspace = one_file(&plain(&web));
    workspace.env("ROE_PROXY", "s3cret");
    assert_eq!(apply(&workspace, &[]).code, 64);
    assert_eq!(web.seen().uploads().len(), 0);
}

#[test]
fn the_sandbox_needs_no_proxy() {
    let mut workspace = Workspace::with(MANIFEST, &[("inbox/a.txt", "a")]);
    workspace.env("ROE_PROXY", "http://127.0.0.1:1");
    workspace.env("ROE_BATCH_HTTP2", "1");
    let ran = workspace.apply();
    assert_eq!(ran.code, 0, "{}", ran.all());
}

#[test]
fn a_certificate_of_an_unknown_authority_is_refused_before_anything_is_sent() {
    let (pem, tls) = authority(&[]);
    let web = Web::start(Speaks::One, Some(tls), |_| Act::Store);
    let workspace = one_file(&encrypted(&web));
    let ran = apply(&workspace, &[]);
    assert_eq!(ran.code, 69, "{}", ran.all());
    assert!(ran.stdout.contains("TLS refused"), "{}", ran.all());
    assert_eq!((web.seen().connections, web.seen().bodies.len()), (0, 0));

    workspace.write("ca.pem", &pem);
    let ran = apply(&workspace, &["--ca-file", "ca.pem"]);
    assert_stored_once(&workspace, &ran, &web.seen());

    let mut other = one_file(&encrypted(&web));
    other.write("ca.pem", pem);
    other.env("ROE_BATCH_CA_FILE", "ca.pem");
    let ran = apply(&other, &[]);
    assert_eq!(ran.code, 0, "{}", ran.all());
}

#[test]
fn a_file_without_authorities_is_a_usage_error() {
    let workspace = one_file("http://127.0.0.1:1");
    workspace.write("empty.pem", "");
    workspace.write("text.pem", "not PEM at all");
    workspace.write("large.pem", vec![b'x'; 1024 * 1024 + 1]);
    for (file, why) in [
        ("absent.pem", "No such file"),
        ("empty.pem", "no certificate"),
        ("text.pem", "no certificate"),
        ("large.pem", "larger than 1 MiB"),
    ] {
        let ran = apply(&workspace, &["--ca-file", file]);
        assert_eq!(ran.code, 64, "{}", ran.all());
        assert!(ran.stderr.contains(why), "{}", ran.all());
        assert!(ran.stderr.contains(file), "{}", ran.all());
    }
}

#[test]
fn http2_is_spoken_on_request_and_not_otherwise() {
    let (pem, tls) = authority(&["h2", "http/1.1"]);
    for (flags, heads) in [(&["--http2"] as &[&str], 0), (&[], 1)] {
        let web = Web::start(Speaks::One, Some(tls.clone()), |_| Act::Store);
        let workspace = one_file(&encrypted(&web));
        workspace.write("ca.pem", &pem);
        let flags = [flags, &["--ca-file", "ca.pem"]].concat();
        let ran = apply(&workspace, &flags);
        assert_stored_once(&workspace, &ran, &web.seen());
        assert_eq!(web.seen().uploads().len(), heads, "requests in HTTP/1.1");
    }
}

#[test]
fn a_service_without_http2_gets_http1() {
    let (pem, tls) = authority(&["http/1.1"]);
    let web = Web::start(Speaks::One, Some(tls), |_| Act::Store);
    let mut workspace = one_file(&encrypted(&web));
    workspace.write("ca.pem", pem);
    workspace.env("ROE_BATCH_HTTP2", "1");
    let ran = apply(&workspace, &["--ca-file", "ca.pem"]);
    assert_stored_once(&workspace, &ran, &web.seen());
    assert_eq!(web.seen().uploads().len(), 1);
}

/// Nothing can be negotiated without TLS, and what answers there is understood before any upload.
#[test]
fn a_service_that_does_not_speak_http2_without_tls_gets_no_upload() {
    let web = Web::start(Speaks::One, None, |_| Act::Store);
    let workspace = one_file(&plain(&web));
    let ran = apply(&workspace, &["--http2"]);
    assert_eq!(ran.code, 69, "{}", ran.all());
    assert!(
        ran.stderr.contains("what answers does not speak HTTP/2"),
        "{}",
        ran.all()
    );
    assert!(ran.stderr.contains("try without --http2"), "{}", ran.all());
    let report = workspace.report();
    assert_eq!(report["files"][0]["outcome"], "not_attempted");
    assert!(web.seen().uploads().is_empty());
}

#[test]
fn many_files_share_one_http2_connection() {
    let web = Web::start(Speaks::Two, None, |_| Act::Store);
    let large = "0123456789abcdef".repeat(20_000);
    let names: Vec<String> = (0..12)
        .map(|number| format!("inbox/{number}.txt"))
        .collect();
    let files: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), large.as_str())).collect();
    let workspace = workspace(&plain(&web), &files);
    let ran = apply(&workspace, &["--http2"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let seen = web.seen();
    assert_eq!((seen.connections, seen.stored), (1, 12));
    let whole = |body: &&Vec<u8>| String::from_utf8_lossy(body).contains(&large);
    assert_eq!(seen.bodies.iter().filter(whole).count(), 12);
}

#[test]
fn what_http2_says_was_not_processed_is_sent_again() {
    for first in [Act::Reset(REFUSED_STREAM), Act::GoAway { last: 0, code: 0 }] {
        let web = Web::start(Speaks::Two, None, move |number| match number {
            0 => first,
            _ => Act::Store,
        });
        let workspace = one_file(&plain(&web));
        let ran = apply(&workspace, &["--http2"]);
        assert_eq!(ran.code, 0, "{first:?}: {}", ran.all());
        let row = &workspace.report()["files"][0];
        assert_eq!(row["outcome"], "stored", "{row:#}");
        assert_eq!(row["attempts"], 2, "{row:#}");
        let seen = web.seen();
        // Both had their whole body there.
        assert_eq!((seen.stored, seen.bodies.len()), (1, 2), "{first:?}");
    }
}

#[test]
fn any_other_end_of_an_http2_stream_leaves_a_whole_upload_in_doubt() {
    const INTERNAL_ERROR: u32 = 2;
    const CANCEL: u32 = 8;
    for first in [
        Act::Reset(0),
        Act::Reset(INTERNAL_ERROR),
        Act::Reset(CANCEL),
        Act::GoAway { last: 3, code: 0 },
        Act::GoAway {
            last: 0,
            code: INTERNAL_ERROR,
        },
        Act::GoAway {
            last: 3,
            code: REFUSED_STREAM,
        },
    ] {
        let web = Web::start(Speaks::Two, None, move |_| first);
        let workspace = one_file(&plain(&web));
        let ran = apply(&workspace, &["--http2"]);
        assert_eq!(ran.code, 76, "{first:?}: {}", ran.all());
        let row = &workspace.report()["files"][0];
        assert_eq!(row["outcome"], "in_doubt", "{first:?}: {row:#}");
        assert_eq!(web.seen().bodies.len(), 1, "{first:?}");
    }
}

#[test]
fn a_proxy_is_asked_in_http1_whatever_is_wanted() {
    let web = Web::start(Speaks::One, None, |_| Act::Store);
    let gateway = Gateway::http();
    let workspace = one_file(&plain(&web));
    let proxy = format!("http://{}", gateway.address());
    let ran = apply(&workspace, &["--http2", "--proxy", &proxy]);
    assert_stored_once(&workspace, &ran, &web.seen());
}

#[test]
fn only_one_and_zero_switch_http2() {
    let mut workspace = one_file("http://127.0.0.1:1");
    workspace.env("ROE_BATCH_HTTP2", "perhaps");
    let ran = apply(&workspace, &[]);
    assert_eq!(ran.code, 64, "{}", ran.all());
    assert!(ran.stderr.contains("ROE_BATCH_HTTP2"), "{}", ran.all());
}

#[test]
fn a_proxy_that_cannot_be_reached_is_named_without_its_password() {
    let web = Web::start(Speaks::One, None, |_| Act::Store);
    let workspace = one_file(&plain(&web));
    let flags = [
        "--proxy",
        "http://user:s3cret@127.0.0.1:1",
        "--max-attempts",
        "1",
    ];
    let ran = apply(&workspace, &flags);
    assert_eq!(ran.code, 69, "{}", ran.all());
    let named = "Connection refused (os error 111), by the proxy http://127.0.0.1:1)";
    assert!(ran.stderr.contains(named), "{}", ran.all());
}
