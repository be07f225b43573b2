//! What bounds a run: its deadline, its patience, its failure budget, rate and bandwidth, the files
//! a process may open.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;
#[path = "common/world.rs"]
mod world;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bad_server::{Act, BadServer, SAFETY_NET, Signal, http};
use common::service::{Service, apply_after};
use common::{KEY, Workspace};
use world::{LARGE, SMALL, World};

#[test]
fn at_the_deadline_what_is_under_way_ends_and_nothing_new_begins() {
    let go_on = Signal::new();
    let world = {
        let go_on = Arc::clone(&go_on);
        World::new(move |upload| {
            go_on.wait();
            Act::store(upload)
        })
    };
    let world = world.file("a.bin", SMALL).file("b.bin", SMALL);
    let mut running = world.start(&["--concurrency", "1", "--deadline", "0.2"]);
    running.until_it_says("the run's deadline of 200ms is reached");
    go_on.set();
    let ran = world.end(running);
    assert_eq!(
        ran.outcomes(),
        [("a.bin", "stored"), ("b.bin", "not_attempted")]
    );
    assert_eq!(ran.code, 75, "{}", ran.stderr);
    assert_eq!(
        ran.row("b.bin")["reason"],
        "the run's deadline of 200ms is reached"
    );
    assert_eq!(world.finish().len(), 1);
}

/// The service asks for a wait that is longer than any test.
#[test]
fn neither_retries_nor_pauses_stretch_the_deadline() {
    let world = World::new(|_| Act::answer(http(429, &[("Retry-After", "300")], "")));
    let world = world.file("a.bin", SMALL).file("b.bin", SMALL);
    let manifest = format!("{}run: {{deadline: 1s}}\n", world::MANIFEST);
    let world = world.manifest(&manifest);
    let ran = world.apply(&["--concurrency", "1"]);
    assert_eq!(
        ran.outcomes(),
        [("a.bin", "failed"), ("b.bin", "not_attempted")]
    );
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert_eq!(world.finish().len(), 1);
}

#[test]
fn a_file_is_not_tried_for_longer_than_the_run_is_patient() {
    let world = World::new(|_| Act::answer(http(429, &[("Retry-After", "60")], "")));
    let ran = world
        .file("a.bin", SMALL)
        .apply(&["--retry-for", "10", "--max-attempts", "9"]);
    let row = ran.row("a.bin");
    assert_eq!((ran.code, ran.outcome("a.bin")), (1, "failed"));
    assert_eq!(row["attempts"], 1);
    assert_eq!(row["reason"], "HTTP 429 (gave up after 1 attempt)");
}

#[test]
fn concurrency_is_clamped_to_what_a_process_may_open_and_everything_is_stored() {
    let names: Vec<String> = (0..200).map(|n| format!("inbox/{n:03}.txt")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), n.as_str())).collect();
    let manifest = "version: 1\nuploads:\n- {name: all, root: inbox, include: '**'}\n\
                    run: {concurrency: 512}\n";
    let mut workspace = Workspace::with(manifest, &files);
    let mut service = Service::start();
    service.serve(&mut workspace);
    let ran = apply_after(&workspace, "ulimit -n 100");
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(
        ran.stderr.contains(
            "notice: concurrency 22 instead of 512: this process may have 100 open files"
        ),
        "{}",
        ran.all()
    );
    assert_eq!(service.settled().len(), 200);
}

/// Only the hard limit binds: the soft one is raised to it.
#[test]
fn a_low_soft_limit_of_open_files_is_raised() {
    let manifest = "version: 1\nuploads:\n- {name: all, root: inbox, include: '**'}\n\
                    run: {concurrency: 100}\n";
    let mut workspace = Workspace::with(manifest, &[("inbox/a.txt", "a")]);
    let service = Service::start();
    service.serve(&mut workspace);
    let ran = apply_after(&workspace, "ulimit -Sn 100");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
}

#[test]
fn one_failure_more_than_the_budget_ends_the_run() {
    let ten = |world: World| (0..10).fold(world, |world, n| world.file(&format!("{n}.bin"), SMALL));
    for (budget, answer, failed) in [
        ("3", "rejected", 4),
        ("20%", "rejected", 3),
        ("0", "in_doubt", 1),
    ] {
        let status = if answer == "rejected" { 422 } else { 409 };
        let world = ten(World::new(move |_| Act::answer(http(status, &[], ""))));
        let ran = world.apply(&["--concurrency", "1", "--failure-budget", budget]);
        let outcomes = ran.outcomes();
        let with = |wanted: &str| outcomes.iter().filter(|row| row.1 == wanted).count();
        assert_eq!(
            (with(answer), with("not_attempted")),
            (failed, 10 - failed),
            "{budget}: {}",
            ran.stderr
        );
        let said = format!("{failed} of 10 files failed, more than the failure budget of {budget}");
        assert!(ran.stderr.contains(&said), "{}", ran.stderr);
        assert_eq!(ran.report["header"]["stopped"][0], said.as_str());
        assert_eq!(world.finish().len(), failed);
    }
    // However many were under way, it is said once.
    let world = ten(World::new(|_| Act::answer(http(422, &[], ""))));
    let ran = world.apply(&["--concurrency", "8", "--failure-budget", "0"]);
    let stopped = ran.report["header"]["stopped"].as_array().expect("causes");
    assert_eq!(stopped.len(), 1, "{stopped:?}");
    world.finish();
    let budget = format!("{}run: {{failure_budget: 100%}}\n", world::MANIFEST);
    let world = ten(World::new(|_| Act::answer(http(422, &[], ""))).manifest(&budget));
    assert_eq!(world.apply(&[]).code, 1);
    assert_eq!(world.finish().len(), 10);
}

/// Lower bounds only: a slow machine takes longer.
#[test]
fn no_more_requests_begin_than_the_rate_allows() {
    let manifest = format!("{}run: {{rate: 20/s, concurrency: 8}}\n", world::MANIFEST);
    let world = World::new(Act::store).manifest(&manifest);
    let world = (0..21).fold(world, |world, n| world.file(&format!("{n}.bin"), SMALL));
    let ran = world.apply(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let uploads = world.finish();
    let (first, last) = (uploads[0].at, uploads[uploads.len() - 1].at);
    assert!(
        last - first >= Duration::from_millis(900),
        "{:?}",
        last - first
    );
}

#[test]
fn no_more_bytes_leave_than_the_bandwidth_allows_and_waiting_for_it_is_no_stall() {
    let all_day = "{\"00:00-12:00\": 256KiB/s, \"12:00-24:00\": 256KiB/s}";
    let manifest = format!("{}run: {{bandwidth: {all_day}}}\n", world::MANIFEST);
    let world = World::new(Act::store).manifest(&manifest);
    let world = world.file("a.bin", 2 * LARGE).file("b.bin", SMALL);
    let begun = Instant::now();
    let ran = world.apply(&["--timeout", "0.5"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(ran.row("a.bin")["attempts"], 1);
    let unlimited = world.apply(&["--bandwidth", "unlimited"]);
    assert_eq!(unlimited.code, 0, "{}", unlimited.stderr);
    assert_eq!(world.finish().len(), 2);
}

/// A file that waited long for its turn has all its patience left.
#[test]
fn patience_with_a_file_begins_with_its_first_attempt() {
    let seen = Mutex::new(HashSet::new());
    let server = BadServer::start(0, 0, move |upload| {
        let is_first = seen
            .lock()
            .expect("no script panics")
            .insert(upload.file_name.clone());
        if is_first {
            Act::answer(http(429, &[("Retry-After", "0")], ""))
        } else {
            Act::store(upload)
        }
    });
    let manifest = "version: 1\nuploads:\n- {name: all, root: inbox, include: '**'}\n";
    let files = [
        ("inbox/a.txt", "a"),
        ("inbox/b.txt", "b"),
        ("inbox/c.txt", "c"),
    ];
    let mut workspace = Workspace::with(manifest, &files);
    workspace.env("ROE_API_KEY", KEY);
    workspace.env(
        "ROE_BASE_URL",
        &format!("http://127.0.0.1:{}", server.port()),
    );
    workspace.env("ROE_RETRY_INITIAL_MS", "1");
    let ran = workspace.run(&[
        "apply",
        "manifest.yaml",
        "--rate",
        "2/s",
        "--retry-for",
        "0.4",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(server.finish().len(), 6);
}

/// What waits for the bandwidth has not passed the gate, and is in nobody's doubt.
#[test]
fn a_run_that_ends_while_files_wait_for_the_bandwidth_leaves_none_in_doubt() {
    let world = World::new(Act::store);
    let world = (0..8).fold(world, |world, n| world.file(&format!("{n}.bin"), 60 * 1024));
    let arguments = [
        "--bandwidth",
        "1KiB/s",
        "--concurrency",
        "4",
        "--grace",
        "60",
    ];
    let running = world.start(&arguments);
    let since = Instant::now();
    while world.server().count() < 1 {
        assert!(since.elapsed() < SAFETY_NET, "nothing was sent");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.terminate();
    let ran = world.end(running);
    assert_eq!(ran.code, 143, "{}", ran.stderr);
    let outcomes = ran.outcomes();
    let stored = outcomes.iter().filter(|row| row.1 == "stored").count();
    let left = outcomes
        .iter()
        .filter(|row| row.1 == "not_attempted")
        .count();
    assert_eq!(
        (stored, left),
        (world.finish().len(), 8 - stored),
        "{outcomes:?}"
    );
}
