//! Keeps the rooms apart: each imports only what it may use, and only two of them print.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Each room, and the rooms it may use. `commands` composes them all.
const ROOMS: [(&str, &[&str]); 25] = [
    ("cli", &["config", "model"]),
    ("client", &["model"]),
    ("config", &["diagnostic", "model", "yaml"]),
    ("diagnostic", &["model"]),
    ("error", &["model"]),
    ("event", &["model"]),
    (
        "execute",
        &[
            "client", "event", "ledger", "model", "pace", "plan", "source", "verify",
        ],
    ),
    ("json", &[]),
    ("ledger", &["model"]),
    (
        "manifest",
        &["diagnostic", "model", "table", "template", "yaml"],
    ),
    ("model", &["spill"]),
    ("pace", &["model"]),
    (
        "plan",
        &[
            "diagnostic",
            "manifest",
            "model",
            "sidecar",
            "spill",
            "table",
            "template",
        ],
    ),
    ("progress", &["event", "model"]),
    ("report", &["ledger", "model", "plan"]),
    ("sandbox", &[]),
    ("sidecar", &["diagnostic", "json", "model", "yaml"]),
    ("source", &["model", "spill"]),
    ("spill", &[]),
    ("table", &["diagnostic", "json", "model"]),
    ("template", &["model"]),
    ("verify", &["client", "model"]),
    ("watch", &[]),
    ("yaml", &["diagnostic"]),
    (
        "commands",
        &[
            "cli",
            "client",
            "config",
            "diagnostic",
            "error",
            "event",
            "execute",
            "ledger",
            "manifest",
            "model",
            "pace",
            "plan",
            "progress",
            "report",
            "sandbox",
            "sidecar",
            "source",
            "spill",
            "table",
            "template",
            "verify",
            "watch",
        ],
    ),
];

/// Words of the code that only these rooms may have.
const FENCES: [(&str, &[&str]); 8] = [
    ("reqwest::", &["client"]),
    ("hyper", &["client"]),
    ("rusqlite::", &["ledger"]),
    ("ignore::", &["source"]),
    ("std::env::", &["cli"]),
    ("stdout()", &["commands"]),
    ("stderr()", &["commands", "progress"]),
    ("Timestamp::now()", &["commands", "sandbox"]),
];

fn sources() -> Vec<(String, PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = vec![src.clone()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let below = path.strip_prefix(&src).expect("below src");
            let first = below.iter().next().expect("a component").to_string_lossy();
            let room = first.trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).expect("UTF-8");
            found.push((room, below.to_owned(), text));
        }
    }
    found
}

/// The rooms that a text names as `crate::room`.
fn used(text: &str) -> BTreeSet<&str> {
    text.split("crate::")
        .skip(1)
        .map(|after| {
            let end = after.find(|c: char| !c.is_alphanumeric() && c != '_');
            &after[..end.unwrap_or(after.len())]
        })
        .collect()
}

#[test]
fn each_room_uses_only_what_it_may() {
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        if room == "lib" || room == "main" {
            continue;
        }
        let (_, allowed) = ROOMS
            .iter()
            .find(|(name, _)| *name == room)
            .unwrap_or_else(|| panic!("{} is in no room", path.display()));
        for other in used(&text) {
            let known = ROOMS.iter().any(|(name, _)| *name == other);
            assert!(
                known,
                "{} uses crate::{other}, which is no room",
                path.display()
            );
            if other != room && !allowed.contains(&other) {
                wrong.push(format!("{} uses {other}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_room_of_the_table_exists() {
    let found: BTreeSet<String> = sources().into_iter().map(|(room, _, _)| room).collect();
    for (room, _) in ROOMS {
        assert!(found.contains(room), "{room}");
    }
}

#[test]
fn what_reaches_outside_is_behind_its_fence() {
    let mut wrong = Vec::new();
    for (room, path, text) in sources() {
        for (word, rooms) in FENCES {
            if text.contains(word) && !rooms.contains(&room.as_str()) && room != "main" {
                wrong.push(format!("{} has {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_file_is_longer_than_a_room_should_be() {
    for (_, path, text) in sources() {
        let before_tests = text.split("#[cfg(test)]").next().unwrap_or_default();
        let lines = before_tests.lines().count();
        let is_tests = path.ends_with("tests.rs");
        assert!(
            is_tests || lines <= 600,
            "{}: {lines} lines",
            path.display()
        );
    }
}
