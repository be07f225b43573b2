//! Datasets that a manifest names instead of their ids.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;

use std::io::Write;
use std::process::Stdio;

use bad_server::{Act, BadServer, http};
use common::{KEY, Ran, Workspace};
use roe_batch::sandbox::{EmptyFiles, Faults, Sandbox, SandboxConfig, SandboxDataset, records};
use snapbox::str;

const INVOICES: &str = "3f2b7a52-0000-4000-8000-000000000001";
const RECEIPTS: &str = "3f2b7a52-0000-4000-8000-000000000002";
const TWIN: &str = "3f2b7a52-0000-4000-8000-000000000003";

const MANIFEST: &str = "\
version: 1
uploads:
  - name: all
    root: inbox
    include: \"**\"
    dataset: Invoices
";

/// A service with these datasets, and a workspace for it with one file.
fn world(manifest: &str, datasets: &[(&str, &str)]) -> (tempfile::TempDir, Sandbox, Workspace) {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Sandbox::start(SandboxConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        data: folder.path().to_owned(),
        api_key: KEY.to_owned(),
        datasets: datasets
            .iter()
            .map(|(id, name)| SandboxDataset {
                id: (*id).to_owned(),
                name: (*name).to_owned(),
            })
            .collect(),
        empty_files: EmptyFiles::Accept,
        faults: Faults::default(),
    })
    .expect("the sandbox starts");
    let workspace = at(manifest, &format!("http://{}", server.address()));
    (folder, server, workspace)
}

fn at(manifest: &str, base: &str) -> Workspace {
    let mut workspace = Workspace::with(manifest, &[("inbox/a.txt", "a")]);
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", base);
    workspace
}

fn plan(workspace: &Workspace) -> Ran {
    workspace.run(&["plan", "manifest.yaml"])
}

fn apply(workspace: &Workspace) -> Ran {
    workspace.run(&["apply", "manifest.yaml"])
}

#[test]
fn a_name_stands_for_the_one_dataset_that_has_it() {
    let datasets = [
        (INVOICES, " Invoices "),
        (RECEIPTS, "Invoices 2025"),
        (TWIN, "invoices"),
    ];
    let (folder, server, workspace) = world(MANIFEST, &datasets);
    let planned = plan(&workspace);
    assert_eq!(planned.code, 0, "{}", planned.all());
    assert!(planned.stdout.contains(INVOICES), "{}", planned.all());
    let ran = apply(&workspace);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(
        ran.stderr
            .contains(&format!("dataset \"Invoices\" is {INVOICES}")),
        "{}",
        ran.all()
    );
    assert_eq!(workspace.report()["files"][0]["dataset_id"], INVOICES);
    let again = apply(&workspace);
    assert_eq!(again.code, 0, "{}", again.all());
    drop(server);
    let stored = records(folder.path()).expect("records");
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].dataset_id, INVOICES);
}

#[test]
fn a_name_that_no_dataset_has_is_shown_at_its_place_with_what_is_near() {
    let datasets = [(INVOICES, "Invoices"), (RECEIPTS, "Receipts")];
    let manifest = MANIFEST.replace("Invoices", "Invioces");
    let (_folder, server, workspace) = world(&manifest, &datasets);
    for ran in [plan(&workspace), apply(&workspace)] {
        assert_eq!(ran.code, 65, "{}", ran.all());
        snapbox::assert_data_eq!(
            ran.all(),
            str![[r#"
exit 65
--- stdout
--- stderr
error: no dataset is named "Invioces"
 --> manifest.yaml:6:14
  |
6 |     dataset: Invioces
  |              ^^^^^^^^ unknown to the service, or to this key
  |
  = help: did you mean "Invoices"?

manifest.yaml: 1 error

"#]]
        );
    }
    assert_eq!(server.stats().stored, 0);
}

#[test]
fn a_name_that_several_datasets_have_is_shown_with_their_ids() {
    let datasets = [
        (INVOICES, "Invoices"),
        (RECEIPTS, "Other"),
        (TWIN, "Invoices"),
    ];
    let (_folder, _server, workspace) = world(MANIFEST, &datasets);
    snapbox::assert_data_eq!(
        plan(&workspace).all(),
        str![[r#"
exit 65
--- stdout
--- stderr
error: 2 datasets are named "Invoices"
 --> manifest.yaml:6:14
  |
6 |     dataset: Invoices
  |              ^^^^^^^^ which one?
  |
  = help: write `dataset_id` with one of 3f2b7a52-0000-4000-8000-000000000001, 3f2b7a52-0000-4000-8000-000000000003

manifest.yaml: 1 error

"#]]
    );
}

#[test]
fn a_name_far_down_a_long_listing_is_suggested() {
    let ids: Vec<String> = (0..150)
        .map(|number| format!("3f2b7a52-0000-4000-8000-{number:012}"))
        .collect();
    let names: Vec<String> = (0..150).map(|number| format!("Letters {number}")).collect();
    let mut datasets: Vec<(&str, &str)> = ids
        .iter()
        .zip(&names)
        .map(|(id, name)| (id.as_str(), name.as_str()))
        .collect();
    datasets.push(("ff2b7a52-0000-4000-8000-000000000000", "Invoice"));
    let (_folder, _server, workspace) = world(MANIFEST, &datasets);
    let ran = plan(&workspace);
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(
        ran.stderr.contains("did you mean \"Invoice\"?"),
        "{}",
        ran.all()
    );
}

#[test]
fn name_and_id_in_one_mapping_contradict_each_other() {
    let both = MANIFEST.replace(
        "dataset: Invoices",
        &format!("dataset: Invoices\n    dataset_id: {INVOICES}"),
    );
    let (_folder, server, workspace) = world(&both, &[]);
    snapbox::assert_data_eq!(
        plan(&workspace).all(),
        str![[r"
exit 65
--- stdout
--- stderr
error: `dataset` and `dataset_id` both say where the files go
 --> manifest.yaml:6:5
  |
6 |     dataset: Invoices
  |     ^^^^^^^ a name here
7 |     dataset_id: 3f2b7a52-0000-4000-8000-000000000001
  |     ---------- an id here
  |
  = help: keep one; an id needs no listing, and outlives a new name

manifest.yaml: 1 error

"]]
    );
    assert_eq!(server.stats().requests, 0, "no look-up for a bad manifest");
}

#[test]
fn a_rules_own_name_or_id_replaces_that_of_the_defaults() {
    let manifest = format!(
        "version: 1
defaults: {{root: inbox, include: \"**\", dataset_id: {RECEIPTS}}}
uploads:
  - {{name: own, dataset: \"${{{{ env.WHERE }}}}\"}}
"
    );
    let (_folder, _server, mut workspace) = world(&manifest, &[(INVOICES, "Invoices")]);
    workspace.env("WHERE", " Invoices ");
    let ran = plan(&workspace);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(ran.stdout.contains(INVOICES) && !ran.stdout.contains(RECEIPTS));

    let manifest = format!(
        "version: 1
defaults: {{root: inbox, include: \"**\", dataset: Nowhere}}
uploads:
  - {{name: own, dataset_id: {RECEIPTS}}}
"
    );
    let (_folder, server, workspace) = world(&manifest, &[]);
    let ran = plan(&workspace);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(ran.stdout.contains(RECEIPTS), "{}", ran.all());
    assert_eq!(server.stats().requests, 0, "the name counts for nobody");
}

#[test]
fn a_plan_needs_a_key_only_for_a_name() {
    let by_id = MANIFEST.replace("dataset: Invoices", &format!("dataset_id: {INVOICES}"));
    let workspace = Workspace::with(&by_id, &[("inbox/a.txt", "a")]);
    let ran = plan(&workspace);
    assert_eq!(ran.code, 0, "{}", ran.all());

    let workspace = Workspace::with(MANIFEST, &[("inbox/a.txt", "a")]);
    let ran = plan(&workspace);
    assert_eq!(ran.code, 77, "{}", ran.all());
    assert!(ran.stderr.contains("there is no API key"), "{}", ran.all());
}

#[test]
fn a_key_from_standard_input_serves_look_up_and_upload() {
    let (_folder, server, workspace) = world(MANIFEST, &[(INVOICES, "Invoices")]);
    let mut child = workspace
        .command(&["apply", "manifest.yaml", "--api-key-file", "-"])
        .env_remove("ROE_API_KEY")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("its stdin");
    stdin.write_all(KEY.as_bytes()).expect("written");
    drop(stdin);
    assert!(child.wait().expect("it ends").success());
    assert_eq!(server.stats().stored, 1);
}

#[test]
fn a_refused_key_is_called_one() {
    let (_folder, _server, mut workspace) = world(MANIFEST, &[(INVOICES, "Invoices")]);
    workspace.env("ROE_API_KEY", "another-key");
    let ran = plan(&workspace);
    assert_eq!(ran.code, 77, "{}", ran.all());
    assert!(ran.stderr.contains("refused the API key"), "{}", ran.all());
    assert!(ran.stderr.contains("`dataset_id` works"), "{}", ran.all());
}

#[test]
fn without_a_listing_only_an_id_helps() {
    let entry = r#"{"id": "a", "name": "other"}"#;
    for (answer, why) in [
        (http(404, &[], "<html>"), "HTTP 404"),
        (http(403, &[], r#"{"detail": "No."}"#), "HTTP 403: No."),
        (http(200, &[], "[]"), "no listing"),
        (http(200, &[], r#"{"results": [null]}"#), "without an id"),
        (
            http(
                200,
                &[],
                &format!(r#"{{"results": [{entry}], "next": "x"}}"#),
            ),
            "repeat themselves",
        ),
        (http(502, &[], "<title>Bad</title>"), "HTTP 502: Bad"),
    ] {
        let server = BadServer::others_by(move |_, _| Act::answer(answer.clone()));
        let workspace = at(MANIFEST, &format!("http://127.0.0.1:{}", server.port()));
        let ran = plan(&workspace);
        assert_eq!(ran.code, 69, "{}", ran.all());
        let lookup = "the dataset \"Invoices\" cannot be looked up by its name";
        for text in [lookup, why, "write `dataset_id`"] {
            assert!(ran.stderr.contains(text), "{text}: {}", ran.all());
        }
    }
}

#[test]
fn a_listing_that_fails_once_is_asked_again() {
    let found = format!(
        r#"{{"count": 1, "next": null, "results": [{{"id": "{INVOICES}", "name": "Invoices"}}]}}"#
    );
    let server = BadServer::others_by(move |number, _| match number {
        0 => Act::answer(http(503, &[], "")),
        _ => Act::answer(http(200, &[], &found)),
    });
    let workspace = at(MANIFEST, &format!("http://127.0.0.1:{}", server.port()));
    let ran = plan(&workspace);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(
        server.others()[1],
        "GET /v1/datasets/?search=Invoices&page=1&page_size=100 HTTP/1.1"
    );
}

#[test]
fn the_embedded_sandbox_has_every_dataset_that_is_named() {
    let workspace = Workspace::with(MANIFEST, &[("inbox/a.txt", "a")]);
    let ran = workspace.apply();
    assert_eq!(ran.code, 0, "{}", ran.all());
    let report = workspace.report();
    let row = &report["files"][0];
    assert_eq!(row["outcome"], "stored");
    assert_eq!(row["returned_dataset"], "Invoices", "{row:#}");
    let again = workspace.apply();
    assert_eq!(again.code, 0, "{}", again.all());
    let second = workspace.report();
    assert_eq!(second["files"][0]["outcome"], "skipped", "{second:#}");
    assert_eq!(second["files"][0]["dataset_id"], row["dataset_id"]);
}
