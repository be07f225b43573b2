//! Ten thousand files with names that break things, of mixed sizes: none is lost, and each is
//! stored under the name that the plan predicted.

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{DATASET, KEY, Workspace, sandbox};
use roe_batch::sandbox::records;
use serde_json::Value;

const FILES: usize = 10_000;

/// Parts that a name is put together from.
const PARTS: [&str; 24] = [
    "plain",
    "with space",
    "\"quoted\"",
    "'single'",
    "new\nline",
    "back\\slash",
    "a&amp;b",
    "a&region",
    "&#65;",
    "&notin;",
    "R&D",
    "🎉",
    "nb\u{a0}sp",
    "nn\u{202f}bsp",
    "ide\u{3000}o",
    "zwj\u{200d}x",
    "e\u{301}",
    "é",
    "漢字",
    "-dash",
    "semi;colon",
    "per%22cent",
    "tab\tbed",
    "a\u{202e}b",
];

fn name(index: usize) -> String {
    let part = |n: usize| PARTS[n % PARTS.len()];
    match index % 50 {
        // 255 bytes, the longest a file system takes: ASCII, and two bytes a character.
        0 => format!("{index:05}{}", "x".repeat(250)),
        1 => format!("{index:05}{}", "é".repeat(125)),
        2 => format!("-{index}"),
        3 => format!("=cmd|{index}"),
        4 => format!("{index}\"; filename=\"evil.sh"),
        5 => format!(".{index}{}", part(index / 50)),
        _ => format!("{index}{}{}.bin", part(index), part(index / PARTS.len())),
    }
}

fn size(index: usize) -> usize {
    match index % 1000 {
        0 => 0,
        1 => 65_536,
        2 => 65_537,
        3 => 600_000,
        n => n,
    }
}

#[test]
fn ten_thousand_hostile_names_lose_nothing_and_are_stored_as_predicted() {
    let mut workspace = Workspace::with(
        &format!(
            "version: 1\nuploads:\n- name: all\n  root: in\n  include: ['**', '**/.*']\n  \
             dataset_id: {DATASET}\n  metadata: {{path: '${{{{ file.path }}}}'}}\n\
             run: {{concurrency: 32}}\n"
        ),
        &[],
    );
    for index in 0..FILES {
        let folder = index % 7;
        let content = vec![u8::try_from(index % 251).expect("a byte"); size(index)];
        workspace.write(&format!("in/{folder}/{}", name(index)), content);
    }
    let (data, server) = sandbox();
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", &format!("http://{}", server.address()));

    let plan = workspace.run(&["plan", "manifest.yaml", "--format", "jsonl"]);
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    let predicted: BTreeMap<String, String> = plan
        .stdout
        .lines()
        .skip(1)
        .map(|line| {
            let row: Value = serde_json::from_str(line).expect("JSON");
            let text = |key: &str| row[key].as_str().expect("a text").to_owned();
            (text("path"), text("stored_name"))
        })
        .collect();
    assert_eq!(predicted.len(), FILES);

    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let stored = records(data.path()).expect("records");
    assert_eq!(stored.len(), FILES);
    assert!(
        server.stats().connections <= 64,
        "connections are reused: {:?}",
        server.stats()
    );
    let by_id: BTreeMap<&str, _> = stored.iter().map(|file| (file.id.as_str(), file)).collect();
    let report = workspace.report();
    let rows = report["files"].as_array().expect("rows");
    assert_eq!(rows.len(), FILES);
    for row in rows {
        let path = row["path"].as_str().expect("a path");
        let file = by_id[row["file_id"].as_str().expect("an id")];
        assert_eq!(file.name, predicted[path], "{path:?}");
        assert_eq!(row["returned_name"], file.name.as_str());
        assert_eq!(
            format!("in/{}", file.metadata["path"].as_str().expect("a text")),
            path
        );
        let bytes = fs::read(&file.path).expect("stored bytes");
        assert_eq!(
            bytes,
            fs::read(workspace.at(path)).expect("source bytes"),
            "{path:?}"
        );
    }

    let again = workspace.run(&["apply", "manifest.yaml"]);
    assert!(
        again.stdout.contains("nothing to upload"),
        "{}",
        again.all()
    );
    assert_eq!(records(data.path()).expect("records").len(), FILES);
}
