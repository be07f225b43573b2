//! What a run keeps of its rows: of those that the plan or the ledger can tell of, nothing but a
//! byte, however they ended. There may be millions of each kind.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;
#[path = "common/engine.rs"]
mod engine;

use std::fs;

use bad_server::{Act, BadServer, Upload, http, stored_json};
use common::{DATASET, KEY, Workspace, sandbox};
use engine::{Engine, Ran};
use roe_batch::ledger::SqliteLedger;
use roe_batch::model::Outcome;
use serde_json::json;

/// Files of each kind.
const FILES: usize = 40;

const KINDS: [&str; 4] = ["stored", "renamed", "short", "refused"];

fn workspace() -> Workspace {
    let names = KINDS.iter().flat_map(|kind| {
        (0..FILES).map(move |number| (format!("in/{kind}-{number}.txt"), "bytes".to_owned()))
    });
    let files: Vec<(String, String)> = names.collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(n, b)| (&**n, &**b)).collect();
    let workspace = Workspace::with("", &files);
    fs::create_dir(workspace.at("state")).expect("a folder");
    workspace
}

fn run(workspace: &Workspace, url: &str, key: &str) -> Ran {
    let manifest = format!(
        "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}}}\n"
    );
    let engine = Engine::new(&manifest, workspace.path(), url, key, 8);
    let ledger = SqliteLedger::open(&workspace.at("state/ledger.sqlite")).expect("a ledger");
    engine.run(Box::new(ledger), &|_| {})
}

fn answer(upload: &Upload) -> Act {
    let kind = upload.file_name.split('-').next().unwrap_or_default();
    let answer = |status, body: String| Act::answer(http(status, &[], &body));
    let id = upload.id();
    match kind {
        "renamed" => answer(200, json!({"id": id, "name": "another.txt"}).to_string()),
        "short" => answer(200, json!({"id": id, "size": 1}).to_string()),
        "refused" => answer(422, r#"{"detail": "not wanted"}"#.to_owned()),
        _ => answer(200, stored_json(&id)),
    }
}

#[test]
fn of_rows_that_the_ledger_has_nothing_more_is_kept() {
    let workspace = workspace();
    let server = BadServer::start(0, 0, answer);
    let url = format!("http://127.0.0.1:{}", server.port());
    let ran = run(&workspace, &url, KEY);
    server.finish();
    assert_eq!(ran.files(Outcome::Stored), 3 * FILES, "{:?}", ran.stopped);
    assert_eq!(ran.files(Outcome::Rejected), FILES);
    assert_eq!(ran.told, 0);
}

#[test]
fn of_rows_that_were_not_reached_nothing_is_kept() {
    let workspace = workspace();
    let (_data, server) = sandbox();
    let url = format!("http://{}", server.address());
    let ran = run(&workspace, &url, "another-key");
    assert_eq!(ran.files(Outcome::NotAttempted), KINDS.len() * FILES);
    assert_eq!(ran.stopped.len(), 1, "{:?}", ran.stopped);
    assert_eq!(ran.told, 0);
}
