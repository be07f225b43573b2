//! A service that goes away, or fails everything: waited for, not hammered, and given up in time.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;
#[path = "common/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bad_server::{Act, BadServer, http};
use common::service::Service;
use common::{DATASET, Workspace};
use world::{SMALL, World};

const FILES: usize = 40;

fn many(world: World) -> World {
    (0..FILES).fold(world, |world, n| world.file(&format!("{n:02}.bin"), SMALL))
}

#[test]
fn a_service_that_goes_away_and_comes_back_gets_every_file_once() {
    let port = {
        let before = BadServer::start(0, 0, Act::store);
        before.port()
    };
    let world = many(World::without_server(port));
    // What the run asks first finds nobody yet, and asks again.
    let server = BadServer::start(port, 0, |upload| {
        if upload.number < 10 {
            Act::store(upload)
        } else {
            Act::break_off()
        }
    });
    let mut running = world.start(&["--concurrency", "4"]);
    running.until_it_says("paused: the connection was lost");
    let first = server.finish();
    running.until_it_says("paused: cannot connect");
    let server = BadServer::start(port, 0, Act::store);
    let ran = world.end(running);
    assert_eq!(ran.code, 76, "{}", ran.stderr);
    let second = server.finish();
    let in_doubt = ran
        .outcomes()
        .iter()
        .filter(|row| row.1 == "in_doubt")
        .count();
    let stored = ran
        .outcomes()
        .iter()
        .filter(|row| row.1 == "stored")
        .count();
    assert_eq!(stored + in_doubt, FILES, "{}", ran.stderr);
    assert!(first.len() <= 10 + 8, "{}", first.len());
    assert_eq!(10 + second.len(), stored);
}

/// Each answer puts its file in doubt, so every try costs one: after the first few there are only
/// single ones, further and further apart.
#[test]
fn a_service_that_fails_everything_is_given_up_and_most_files_are_left_alone() {
    for answer in [
        http(500, &[], "<h1>Server Error (500)</h1>"),
        http(200, &[], "<title>Sign in</title>"),
    ] {
        let world = many(World::new(move |_| Act::answer(answer.clone())));
        let ran = world.apply(&[
            "--concurrency",
            "4",
            "--retry-for",
            "3",
            "--in-doubt",
            "hold",
        ]);
        assert_eq!(ran.code, 69, "{}", ran.stderr);
        let outcomes = ran.outcomes();
        let in_doubt = outcomes.iter().filter(|row| row.1 == "in_doubt").count();
        assert!((4..=12).contains(&in_doubt), "{in_doubt}: {}", ran.stderr);
        let others = outcomes.iter().filter(|row| row.1 == "not_attempted");
        assert_eq!(others.count(), FILES - in_doubt);
        let why = ran.report["header"]["stopped"][0]
            .as_str()
            .expect("a cause");
        assert!(
            why.starts_with("the service has failed everything for too long (HTTP"),
            "{why}"
        );
        assert_eq!(world.finish().len(), in_doubt);
    }
}

/// What is refused with 429 is sent until it is stored, however many turns it takes.
#[test]
fn a_service_that_takes_few_at_a_time_is_not_asked_for_more_for_long() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), 3);
    let refused = Arc::new(AtomicUsize::new(0));
    let world = {
        let refused = Arc::clone(&refused);
        World::new(move |upload| {
            let others = now.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_millis(5));
            now.fetch_sub(1, Ordering::SeqCst);
            if others >= most {
                refused.fetch_add(1, Ordering::SeqCst);
                return Act::answer(http(429, &[], ""));
            }
            Act::store(upload)
        })
    };
    let world = many(world);
    let ran = world.apply(&["--concurrency", "auto:16", "--max-attempts", "20"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let uploads = world.finish();
    assert_eq!(uploads.len() - refused.load(Ordering::SeqCst), FILES);
}

/// An upload that the service takes long for is one of many, and no reason to stop.
#[test]
fn failures_between_successes_never_open_the_breaker() {
    let even = Arc::new(AtomicBool::new(false));
    let world = World::new(move |upload| {
        if even.fetch_xor(true, Ordering::SeqCst) {
            Act::answer(http(500, &[], ""))
        } else {
            Act::store(upload)
        }
    });
    let world = many(world);
    let ran = world.apply(&["--concurrency", "1", "--in-doubt", "hold"]);
    assert_eq!(ran.code, 76, "{}", ran.stderr);
    assert!(!ran.stderr.contains("paused"), "{}", ran.stderr);
    assert_eq!(world.finish().len(), FILES);
}

/// Ten thousand files and a key that was revoked.
#[test]
fn a_revoked_key_costs_two_requests_however_many_files_there_are() {
    let names: Vec<String> = (0..10_000).map(|n| format!("inbox/{n:05}.txt")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "x")).collect();
    let manifest = format!(
        "version: 1\nuploads:\n- {{name: all, root: inbox, include: '**', dataset_id: {DATASET}}}\n"
    );
    let mut workspace = Workspace::with(&manifest, &files);
    let service = Service::start();
    service.serve(&mut workspace);
    workspace.env("ROE_API_KEY", "revoked");
    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 77, "{}", ran.all());
    assert_eq!(
        service.stats().requests,
        2,
        "for the dataset, and for the user"
    );
    let report = workspace.report();
    assert_eq!(report["header"]["outcomes"]["not_attempted"], 10_000);
    let row = &report["files"][0];
    assert_eq!(
        row["reason"],
        "the service refused the API key (HTTP 401: Invalid token.)"
    );
}

#[test]
fn a_dataset_that_the_service_does_not_know_costs_no_upload() {
    let unknown = "3f2b7a52-0000-4000-8000-00000000ffff";
    let manifest = format!(
        "version: 1\nuploads:\n- {{name: known, root: inbox, include: 'a*', dataset_id: {DATASET}}}\n\
         - {{name: unknown, root: inbox, include: 'b*', dataset_id: {unknown}}}\n"
    );
    let mut workspace = Workspace::with(&manifest, &[("inbox/a.txt", "a"), ("inbox/b.txt", "b")]);
    let mut service = Service::start();
    service.serve(&mut workspace);
    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    let report = workspace.report();
    let outcomes = [&report["files"][0], &report["files"][1]].map(|row| row["outcome"].clone());
    assert_eq!(outcomes, ["stored", "not_attempted"]);
    let why = report["files"][1]["reason"].as_str().expect("a reason");
    assert!(why.contains("the service does not know dataset"), "{why}");
    assert_eq!(
        service.stats().requests,
        4,
        "two looks, the listing, and one upload"
    );
    assert_eq!(service.settled().len(), 1);
}
