//! The process is killed at random instants, again and again. The sandbox's own records judge:
//! nothing is lost, nothing is stored twice, and doubt is bounded.
//!
//! `ROE_BATCH_KILLS=1000` makes it longer; `ROE_BATCH_SEED` chooses the instants.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::time::Duration;

use common::{DATASET, KEY, Workspace, sandbox};
use roe_batch::ledger::{Ledger, SqliteLedger};
use roe_batch::model::Doubt;
use roe_batch::sandbox::{StoredFile, records};

const FILES: usize = 1500;

const CONCURRENCY: usize = 8;

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

fn kill(mut child: Child) -> bool {
    let ended = child.try_wait().expect("a child").is_some();
    child.kill().expect("killed, or ended before");
    child.wait().expect("reaped");
    ended
}

#[test]
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
    let mut doubt_seen: BTreeSet<String> = BTreeSet::new();
    while killed < kills {
        let child = workspace
            .command(&["apply", "manifest.yaml"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        // Not to wait for anything: this is the random instant.
        std::thread::sleep(Duration::from_micros(chance.u64(2_000..120_000)));
        if kill(child) {
            add(&workspace, files, files + FILES);
            files += FILES;
            continue;
        }
        killed += 1;
        let doubts = doubts(&workspace);
        doubt_seen.extend(doubts.iter().map(|doubt| doubt.path.as_str().to_owned()));
    }
    let most = usize::try_from(killed).expect("a count") * 2 * CONCURRENCY;
    assert!(
        doubt_seen.len() <= most,
        "seed {seed}: {} in doubt",
        doubt_seen.len()
    );

    let ran = workspace.run(&["apply", "manifest.yaml"]);
    let left = doubts(&workspace);
    let expected = if left.is_empty() { 0 } else { 76 };
    assert_eq!(ran.code, expected, "{}", ran.all());
    let stored = records(data.path()).expect("records");
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

    // Somebody looks at the server for each, and says what is there.
    let by_request: BTreeMap<&str, &StoredFile> = stored
        .iter()
        .filter_map(|file| Some((file.request_id.as_deref()?, file)))
        .collect();
    for doubt in &left {
        let request = doubt.attempt.as_str();
        let mut args = vec!["resolve", "manifest.yaml", request];
        match by_request.get(request) {
            Some(file) => args.extend(["--stored", &file.id]),
            None => args.push("--not-stored"),
        }
        let ran = workspace.run(&args);
        assert_eq!(ran.code, 0, "{}", ran.all());
    }
    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let stored = records(data.path()).expect("records");
    assert_eq!(stored.len(), files);
    assert_eq!(by_path(&stored).len(), files, "seed {seed}");
}
