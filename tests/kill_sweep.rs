//! The process is killed at random instants, again and again. The sandbox's own records judge:
//! nothing is lost, nothing is stored twice, and doubt is bounded.
//!
//! `ROE_BATCH_KILLS=1000` makes it longer; `ROE_BATCH_SEED` chooses the instants.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{DATASET, KEY, Workspace, sandbox};
use roe_batch::ledger::{Ledger, SqliteLedger};
use roe_batch::model::{AttemptId, Doubt, Outcome};
use roe_batch::sandbox::{StoredFile, records};

const FILES: usize = 400;

const CONCURRENCY: usize = 8;

/// The sandbox lists what it has at once, so a short settle time is as good as a long one.
const SETTLE: &str = "0.1";

/// Kills that find the process already at its end do not count, so the tree grows with them.
fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Records by the path that each was sent with.
fn by_path(stored: &[StoredFile]) -> BTreeMap<String, Vec<&StoredFile>> {
    let mut found: BTreeMap<String, Vec<&StoredFile>> = BTreeMap::new();
    for file in stored {
        let path = file.metadata["path"].as_str().expect("a path");
        found.entry(path.to_owned()).or_default().push(file);
    }
    found
}

fn doubts(workspace: &Workspace) -> Vec<Doubt> {
    let path = workspace.at(".roe-batch/ledger.sqlite");
    // Right after a kill the file may not be there yet, or be empty.
    match SqliteLedger::open(&path) {
        Ok(ledger) => ledger.doubts().expect("read"),
        Err(_) => Vec::new(),
    }
}

/// A killed run's report, had from the ledger, has a row for each planned file, and what it calls
/// stored is stored.
fn the_dead_runs_report_tells_the_truth(workspace: &Workspace, data: &Path) {
    let path = workspace.at(".roe-batch/ledger.sqlite");
    let ledger = SqliteLedger::open(&path).expect("the ledger opens");
    let runs = ledger.runs("manifest").expect("read");
    let Some(run) = runs.first() else { return };
    let stored = records(data).expect("records");
    let ids: BTreeSet<&str> = stored.iter().map(|file| file.id.as_str()).collect();
    let mut rows = 0;
    let each = ledger.each_row(&run.run, &mut |row| {
        rows += 1;
        let is_there = matches!(row.end.outcome, Outcome::Stored | Outcome::Skipped);
        let id = row.end.file_id;
        assert_eq!(is_there, id.is_some(), "{row:?}");
        assert!(id.is_none_or(|id| ids.contains(id)), "{row:?}");
        ControlFlow::Continue(())
    });
    each.expect("a history that can be");
    // A row has one outcome, so these add up to what was planned.
    assert_eq!(rows, run.planned);
}

/// Each row of the report is what the server has: once, or in doubt.
fn report_and_server_agree(workspace: &Workspace, data: &Path, files: usize, left: &[Doubt]) {
    let stored = records(data).expect("records");
    let found = by_path(&stored);
    for (path, copies) in &found {
        assert_eq!(copies.len(), 1, "{path} is stored twice");
    }
    let report = workspace.report();
    let rows = report["files"].as_array().expect("rows");
    assert_eq!(rows.len(), files);
    for row in rows {
        let path = row["path"].as_str().expect("a path");
        let name = path.strip_prefix("in/").expect("below in");
        let outcome = row["outcome"].as_str().expect("an outcome");
        match outcome {
            "stored" | "skipped" => {
                let copy = found.get(name).unwrap_or_else(|| panic!("{path} is lost"));
                assert_eq!(row["file_id"], copy[0].id.as_str(), "{path}");
            }
            "in_doubt" => assert!(left.iter().any(|d| d.path.as_str() == path), "{path}"),
            other => panic!("{path} is {other}"),
        }
    }
}

fn kill(mut child: Child) -> bool {
    let ended = child.try_wait().expect("a child").is_some();
    child.kill().expect("killed, or ended before");
    child.wait().expect("reaped");
    ended
}

#[test]
#[expect(clippy::print_stderr, reason = "for people who ask with --nocapture")]
fn a_run_that_is_killed_at_any_instant_loses_nothing_and_stores_nothing_twice() {
    let kills = number("ROE_BATCH_KILLS", 200);
    let seed = number("ROE_BATCH_SEED", 7);
    let mut chance = fastrand::Rng::with_seed(seed);
    let mut workspace = Workspace::with(
        &format!(
            "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}, \
             metadata: {{path: '${{{{ file.path }}}}'}}}}\nrun: {{concurrency: {CONCURRENCY}}}\n"
        ),
        &[],
    );
    let add = |workspace: &Workspace, from: usize, to: usize| {
        for index in from..to {
            let size = if index % 25 == 0 { 400_000 } else { 100 };
            workspace.write(&format!("in/{index:05}.bin"), vec![b'x'; size]);
        }
    };
    add(&workspace, 0, FILES);
    let mut files = FILES;
    let (data, server) = sandbox();
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", &format!("http://{}", server.address()));

    let mut killed = 0;
    let mut doubt_seen: BTreeSet<AttemptId> = BTreeSet::new();
    while killed < kills {
        // Half of the runs only upload; the others also look for what was left in doubt.
        let policy = if chance.bool() { "hold" } else { "verify" };
        let mut child = workspace
            .command(&["apply", "manifest.yaml", "--settle", SETTLE])
            .args(["--in-doubt", policy])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        // Some die early in their life, whatever they do then; the others amid their uploads,
        // however slow the machine is.
        let delay = if chance.u8(0..4) == 0 {
            chance.u64(0..100_000)
        } else {
            let until = server.stats().stored + chance.u64(1..6);
            while server.stats().stored < until && child.try_wait().expect("a child").is_none() {
                std::thread::sleep(Duration::from_micros(100));
            }
            chance.u64(0..3_000)
        };
        // Not to wait for anything: this is the random instant.
        std::thread::sleep(Duration::from_micros(delay));
        if kill(child) {
            add(&workspace, files, files + FILES);
            files += FILES;
            continue;
        }
        killed += 1;
        let doubts = doubts(&workspace);
        doubt_seen.extend(doubts.into_iter().map(|doubt| doubt.attempt));
        the_dead_runs_report_tells_the_truth(&workspace, data.path());
    }
    assert!(
        !doubt_seen.is_empty(),
        "no kill hit between gate and answer"
    );
    let most = usize::try_from(killed).expect("a count") * 2 * CONCURRENCY;
    assert!(
        doubt_seen.len() <= most,
        "seed {seed}: {} in doubt",
        doubt_seen.len()
    );

    let apply = ["apply", "manifest.yaml", "--settle", SETTLE];
    let ran = workspace.run(&[&apply[..], &["--in-doubt", "hold"]].concat());
    let left = doubts(&workspace);
    let expected = if left.is_empty() { 0 } else { 76 };
    assert_eq!(ran.code, expected, "{}", ran.all());
    report_and_server_agree(&workspace, data.path(), files, &left);

    // The listing settles what is left: nothing is in doubt, lost or stored twice.
    let ran = workspace.run(&apply);
    assert_eq!(ran.code, 0, "seed {seed}: {}", ran.all());
    assert_eq!(doubts(&workspace), []);
    let stored = records(data.path()).expect("records");
    assert_eq!(stored.len(), files, "seed {seed}");
    assert_eq!(by_path(&stored).len(), files, "seed {seed}");
    let ran = workspace.run(&apply);
    assert!(ran.stdout.contains("nothing to upload"), "{}", ran.all());
    eprintln!(
        "{killed} kills, {} attempts in doubt on the way, {} left to the end",
        doubt_seen.len(),
        left.len()
    );
}
