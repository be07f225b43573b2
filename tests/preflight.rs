//! The look at the service before anything is sent: against the sandbox, and against services
//! that know less or behave worse.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;

use std::time::Duration;

use bad_server::{Act, BadServer, http};
use common::{DATASET, KEY, sandbox};
use roe_batch::client::{self, Client, Endpoint, Preflight};
use roe_batch::model::{ApiKey, DatasetId, OrganizationId, Origin, Target};

const UNKNOWN: &str = "3f2b7a52-0000-4000-8000-00000000ffff";

fn client(base: &str, key: &str) -> Client {
    Client::new(&client::Settings {
        endpoint: Endpoint::parse(base).expect("an address"),
        key: ApiKey::new(key).expect("a key"),
        stall: Duration::from_millis(400),
        connections: 1,
        transport: client::Transport::default(),
    })
    .expect("a client")
}

fn at(server: &BadServer) -> Client {
    client(&format!("http://127.0.0.1:{}", server.port()), KEY)
}

fn target(dataset: Option<&str>) -> Target {
    Target {
        origin: Origin::new("https://example.com"),
        organization_id: None,
        dataset_id: dataset.map(DatasetId::new),
    }
}

#[tokio::test]
async fn the_sandbox_takes_its_key_and_knows_its_datasets() {
    let (_folder, server) = sandbox();
    let base = format!("http://{}", server.address());
    let ready = client(&base, KEY);
    assert_eq!(ready.round_trip(), None);
    let dataset = target(Some(DATASET));
    assert_eq!(ready.preflight(&dataset).await, Preflight::Ready);
    let first = ready.clone().round_trip().expect("clones share it");
    assert_eq!(ready.preflight(&target(None)).await, Preflight::Ready);
    assert_eq!(ready.alive().await, Preflight::Ready);
    assert!(ready.round_trip().expect("seen") <= first);
    assert_eq!(server.stats().requests, 3);

    let unknown = ready.preflight(&target(Some(UNKNOWN))).await;
    assert!(
        matches!(&unknown, Preflight::UnknownDataset(why) if why.contains("404")),
        "{unknown:?}"
    );
    let refused = client(&base, "another-key").preflight(&dataset).await;
    assert!(matches!(&refused, Preflight::Refused(_)), "{refused:?}");
}

#[tokio::test]
async fn a_dataset_is_unknown_only_where_there_is_a_listing_without_it() {
    let detail = r#"{"detail": "Not found."}"#;
    let unknown = Target {
        organization_id: Some(OrganizationId::new("org 1")),
        ..target(Some(UNKNOWN))
    };
    let listed = format!(r#"{{"next": null, "results": [{{"id": "{UNKNOWN}"}}]}}"#);
    for (listing, is_unknown) in [
        (http(200, &[], r#"{"count": 0, "results": []}"#), true),
        (
            http(200, &[], r#"{"next": null, "results": [{"id": "x"}]}"#),
            true,
        ),
        (http(200, &[], r#"{"next": null, "results": [{}]}"#), false),
        (http(200, &[], r#"{"results": [{"id": "x"}]}"#), false),
        (http(200, &[], &listed), false),
        (http(200, &[], "[]"), false),
        (http(200, &[], "<html>"), false),
        (http(404, &[], detail), false),
        (http(403, &[], detail), false),
        (http(500, &[], ""), false),
    ] {
        let answer = listing.clone();
        let server = BadServer::others_by(move |number, _| match number {
            0 => Act::answer(http(404, &[], r#"{"detail": "Not found."}"#)),
            _ => Act::answer_and_close(answer.clone()),
        });
        let client = at(&server);
        let found = client.preflight(&unknown).await;
        assert_eq!(
            matches!(found, Preflight::UnknownDataset(_)),
            is_unknown,
            "{listing}: {found:?}"
        );
        assert!(is_unknown || matches!(found, Preflight::Unsaid(_)));
        drop(client);
        let asked = server.others();
        assert_eq!(
            asked,
            [
                format!("GET /v1/datasets/{UNKNOWN}/?organization_id=org+1 HTTP/1.1"),
                "GET /v1/datasets/?organization_id=org+1&page=1&page_size=100 HTTP/1.1".to_owned(),
            ]
        );
    }
}

/// A key that opens uploads and little else is not refused for that.
#[tokio::test]
async fn a_key_is_refused_only_where_two_endpoints_say_so() {
    for (user, is_refused) in [(401, true), (200, false), (404, false)] {
        let server = BadServer::others_by(move |_, path| {
            let status = if path.contains("current_user") {
                user
            } else {
                401
            };
            let close = [("Connection", "close")];
            Act::answer_and_close(http(status, &close, r#"{"detail": "x"}"#))
        });
        let found = at(&server).preflight(&target(Some(UNKNOWN))).await;
        assert_eq!(
            matches!(found, Preflight::Refused(_)),
            is_refused,
            "{user}: {found:?}"
        );
    }
}

#[tokio::test]
async fn what_goes_wrong_is_told_apart() {
    let key = format!(r#"{{"detail": "the key {KEY} is no good"}}"#);
    let rows: [(Act, &str); 6] = [
        (Act::answer_and_close(http(401, &[], &key)), "Refused"),
        (
            Act::answer_and_close(http(429, &[("Retry-After", "3")], "")),
            "Busy(Some",
        ),
        (Act::answer_and_close(http(503, &[], "")), "Busy(None"),
        (Act::answer_and_close(http(500, &[], "")), "Failing"),
        (Act::swallow(), "Failing"),
        (Act::answer_and_stall(""), "Failing"),
    ];
    for (act, expected) in rows {
        let server = BadServer::others_by(move |_, _| act.clone());
        let client = at(&server);
        let found = format!("{:?}", client.alive().await);
        assert!(found.starts_with(expected), "{found}");
        assert!(!found.contains(KEY), "{found}");
        drop(client);
        assert_eq!(server.others(), ["GET /v1/users/current_user/ HTTP/1.1"]);
    }
    let nobody = client("http://127.0.0.1:1", KEY);
    assert!(matches!(nobody.alive().await, Preflight::Unreached(_)));
    assert_eq!(nobody.round_trip(), None);
}
