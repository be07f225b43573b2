//! What a user sees when something is wrong: whole outputs, code and both streams.
//!
//! `SNAPSHOTS=overwrite cargo test --test errors` writes the outputs anew; read the difference.

#![expect(
    clippy::needless_raw_string_hashes,
    reason = "the snapshot tool writes them so"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::{DATASET, KEY, Workspace, sandbox};
use snapbox::{assert_data_eq, str};

const RULE: &str = "version: 1\nuploads:\n- {name: all, root: in, include: '**'}\n";

#[test]
fn every_mistake_of_a_manifest_is_shown_at_its_place_in_one_pass() {
    let workspace = Workspace::with(
        "version: 1
name: broken
uplaods: []
uploads:
  - name: one
    root: in
    include: [\"*.pdf\", \"a**b\"]
    inlcude: x
    metadata:
      year: 2024
      year: 2025
      vendor:
      tags: [a, b]
      stem: ${{ file.stm }}
      team: ${{ env.TEAM }}
  - name: two
    root: nowhere
    include: '*.txt'
    content_type: pdf
  - name: three
    root: in
    include: ['*.txt', '*.csv']
run:
  concurrency: many
report: out.xlsx
",
        &[("in/a.txt", "a")],
    );
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 65
--- stdout
--- stderr
error: the manifest has no key `uplaods`
 --> manifest.yaml:3:1
  |
3 | uplaods: []
  | ^^^^^^^ unknown key
  |
  = help: did you mean `uploads`?

error: `**` is glued to other text
 --> manifest.yaml:7:25
  |
7 |     include: ["*.pdf", "a**b"]
  |                         ^^^^
  |
  = help: `**` crosses folders only when it stands alone, as in `**/*.pdf`; `*` matches within one name

error: the rule has no key `inlcude`
 --> manifest.yaml:8:5
  |
8 |     inlcude: x
  |     ^^^^^^^ unknown key
  |
  = help: did you mean `include`?

error: `year` is given twice
  --> manifest.yaml:11:7
   |
10 |       year: 2024
   |       ---- first given here
11 |       year: 2025
   |       ^^^^ given again here
   |
   = help: keep one; values are never merged or overridden in silence

error: the metadata value of `vendor` must be a text, found nothing
  --> manifest.yaml:12:7
   |
12 |       vendor:
   |       ^^^^^^
   |
   = help: write "" for an empty text, or leave the key out

error: the metadata value of `tags` must be a text, found a list
  --> manifest.yaml:13:13
   |
13 |       tags: [a, b]
   |             ^
   |
   = help: the API stores texts only; write a text, JSON in quotes if need be

error: `file.stm` is not known
  --> manifest.yaml:14:17
   |
14 |       stem: ${{ file.stm }}
   |                 ^^^^^^^^
   |
   = help: did you mean `file.stem`?

error: the environment variable TEAM is not set
  --> manifest.yaml:15:17
   |
15 |       team: ${{ env.TEAM }}
   |                 ^^^^^^^^
   |
   = help: set it before the run, as in `export TEAM=…`, or give a text for when it is not set: `env("TEAM", "…")`

error: the folder does not exist
  --> manifest.yaml:17:11
   |
17 |     root: nowhere
   |           ^^^^^^^ looked for `nowhere`
   |
   = help: `root` is relative to the manifest's folder

error: "pdf" is not of the form type/subtype
  --> manifest.yaml:19:19
   |
19 |     content_type: pdf
   |                   ^^^
   |
   = help: write a media type such as `application/pdf`, or `auto`

error: no file matches this pattern of rule `three`
  --> manifest.yaml:22:24
   |
22 |     include: ['*.txt', '*.csv']
   |                        ^^^^^^^ nothing in `in`
   |
   = help: patterns are matched below `root`, case matters, `*` stops at `/`; where there may be no files, write `on_empty: ignore`

error: `concurrency` must be a whole number from 1 to 1024
  --> manifest.yaml:24:16
   |
24 |   concurrency: many
   |                ^^^^
   |
   = help: for example `concurrency: 16`, or `concurrency: {max: 64, adaptive: true}`

error: the report's extension chooses no format
  --> manifest.yaml:25:9
   |
25 | report: out.xlsx
   |         ^^^^^^^^
   |
   = help: end the path with .csv, .json, .jsonl or .html

manifest.yaml: 13 errors

"#]]
    );
    assert!(!workspace.at(".roe-batch/ledger.sqlite").exists());
}

#[test]
fn a_manifest_that_is_no_yaml_shows_where() {
    let workspace = Workspace::with("version: 1\nuploads: [a, b\nname: x\n", &[]);
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 65
--- stdout
--- stderr
error: this bracket is not closed
 --> manifest.yaml:2:10
  |
2 | uploads: [a, b
  |          ^
  |
  = help: close it with `]`

manifest.yaml: 1 error

"#]]
    );
}

#[test]
fn an_empty_manifest_says_how_to_begin() {
    let workspace = Workspace::with("# nothing yet\n", &[]);
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 65
--- stdout
--- stderr
error: the manifest is empty
 --> manifest.yaml:1:1
  |
1 | # nothing yet
  | ^
  |
  = help: begin with `version: 1` and `uploads:`; `roe-batch init` writes one

manifest.yaml: 1 error

"#]]
    );
}

#[test]
fn a_manifest_that_is_not_there_is_named() {
    let workspace = Workspace::new();
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 65
--- stdout
--- stderr
error: cannot read manifest.yaml: it is not there
  help: name a manifest, or write one with `roe-batch init`

"#]]
    );
}

#[test]
fn an_include_without_files_is_an_error_unless_the_rule_allows_it() {
    let manifest = "version: 1\nuploads:\n- {name: all, root: in, include: ['*.txt', '*.pdf']}\n";
    let workspace = Workspace::with(manifest, &[("in/a.txt", "a")]);
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 65
--- stdout
--- stderr
error: no file matches this pattern of rule `all`
 --> manifest.yaml:3:44
  |
3 | - {name: all, root: in, include: ['*.txt', '*.pdf']}
  |                                            ^^^^^^^ nothing in `in`
  |
  = help: patterns are matched below `root`, case matters, `*` stops at `/`; where there may be no files, write `on_empty: ignore`

manifest.yaml: 1 error

"#]]
    );
    for (choice, code, says) in [
        ("warn", 0, "warning"),
        ("ignore", 0, ""),
        ("error", 65, "error"),
    ] {
        let allowed = manifest.replace("}\n", &format!(", on_empty: {choice}}}\n"));
        workspace.write("manifest.yaml", allowed);
        let ran = workspace.run(&["plan", "manifest.yaml"]);
        assert_eq!(ran.code, code, "{}", ran.all());
        assert!(ran.stderr.contains(says) && ran.stderr.is_empty() == says.is_empty());
    }
}

#[test]
fn a_missing_key_says_where_keys_come_from() {
    let workspace = Workspace::with(RULE, &[("in/a.txt", "a")]);
    assert_data_eq!(
        workspace.run(&["apply", "manifest.yaml"]).all(),
        str![[r#"
exit 77
--- stdout
--- stderr
error: there is no API key
  help: set ROE_API_KEY, name a file with --api-key-file, or try things out with --sandbox

"#]]
    );
}

#[test]
fn a_key_file_that_everybody_can_read_is_refused() {
    let workspace = Workspace::with(RULE, &[("in/a.txt", "a"), ("key", KEY)]);
    let mode = |mode| {
        fs::set_permissions(workspace.at("key"), fs::Permissions::from_mode(mode)).expect("a mode");
    };
    let args = ["apply", "manifest.yaml", "--api-key-file", "key"];
    mode(0o644);
    assert_data_eq!(
        workspace.run(&args).all(),
        str![[r#"
exit 77
--- stdout
--- stderr
error: the API key in key cannot be used: everybody can read the file
  help: chmod 600 key

"#]]
    );
    let (_data, server) = sandbox();
    for allowed in [0o600, 0o440] {
        mode(allowed);
        let base = format!("http://{}", server.address());
        let ran = workspace.run(&[&args[..], &["--base-url", &base]].concat());
        assert_eq!(ran.code, 0, "{}", ran.all());
    }
}

#[test]
fn a_key_file_can_be_named_by_a_variable() {
    let mut workspace = Workspace::with(RULE, &[("in/a.txt", "a"), ("key", KEY)]);
    let private = fs::Permissions::from_mode(0o600);
    fs::set_permissions(workspace.at("key"), private).expect("set");
    let (_data, server) = sandbox();
    workspace.env("ROE_BASE_URL", &format!("http://{}", server.address()));
    workspace.env("ROE_BATCH_API_KEY_FILE", "key");
    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
}

#[test]
fn a_key_the_service_refuses_stops_the_run() {
    let mut workspace = Workspace::with(RULE, &[]);
    for index in 0..500 {
        workspace.write(&format!("in/{index:03}.txt"), "content");
    }
    let (_data, server) = sandbox();
    workspace.env("ROE_API_KEY", "wrong-key");
    workspace.env("ROE_BASE_URL", &format!("http://{}", server.address()));
    let ran = workspace.run(&["apply", "manifest.yaml", "--concurrency", "4"]);
    assert_eq!(ran.code, 77, "{}", ran.all());
    assert!(server.stats().requests <= 8, "{:?}", server.stats());
    let report = workspace.report();
    let outcomes = &report["header"]["outcomes"];
    let (failed, left) = (&outcomes["failed"], &outcomes["not_attempted"]);
    assert_eq!(failed.as_u64().expect("n") + left.as_u64().expect("n"), 500);
    assert!(failed.as_u64().expect("n") <= 8);
    assert!(
        ran.stdout.contains("the service refused the API key"),
        "{}",
        ran.stdout
    );
    assert!(!ran.all().contains("wrong-key"));
}

#[test]
fn a_dataset_the_service_does_not_know_is_named() {
    let mut workspace = Workspace::with(
        "version: 1\ndefaults: {root: in, include: '**'}\nuploads:\n- {name: a, dataset_id: \
         00000000-0000-4000-8000-00000000dead}\n",
        &[("in/a.txt", "a"), ("in/b.txt", "b")],
    );
    let (_data, server) = sandbox();
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", &format!("http://{}", server.address()));
    assert_data_eq!(
        workspace
            .run(&["apply", "manifest.yaml", "--concurrency", "1"])
            .all(),
        str![[r#"
exit 1
--- stdout
manifest: 2 files planned
  not attempted        2
ended early: the service does not know dataset 00000000-0000-4000-8000-00000000dead at http://127.0.0.1:[..] (HTTP 404: No Dataset matches the given query.)
report: .roe-batch/reports/manifest.csv
report: .roe-batch/reports/manifest.json
--- stderr
refused: the service does not know dataset 00000000-0000-4000-8000-00000000dead at http://127.0.0.1:[..] (HTTP 404: No Dataset matches the given query.); its files are not tried

"#]]
    );
}

#[test]
fn a_service_that_is_not_there_is_given_up_and_nothing_is_lost() {
    let mut workspace = Workspace::with(RULE, &[("in/a.txt", "a"), ("in/b.txt", "b")]);
    let port = {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        taken.local_addr().expect("an address").port()
    };
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", &format!("http://127.0.0.1:{port}"));
    let args = [
        "apply",
        "manifest.yaml",
        "--concurrency",
        "1",
        "--max-attempts",
        "1",
    ];
    assert_data_eq!(
        workspace.run(&args).all(),
        str![[r#"
exit 69
--- stdout
manifest: 2 files planned
  not attempted        2
ended early: the service cannot be reached (cannot connect: Connection refused (os error 111))
report: .roe-batch/reports/manifest.csv
report: .roe-batch/reports/manifest.json
--- stderr
stopping: the service cannot be reached (cannot connect: Connection refused (os error 111))

"#]]
    );
}

#[test]
fn addresses_that_would_show_the_key_are_refused() {
    let mut workspace = Workspace::with(RULE, &[("in/a.txt", "a")]);
    workspace.env("ROE_API_KEY", KEY);
    let args = [
        "apply",
        "manifest.yaml",
        "--base-url",
        "http://api.example.com",
    ];
    assert_data_eq!(
        workspace.run(&args).all(),
        str![[r#"
exit 64
--- stdout
--- stderr
error: the API's address "http://api.example.com" cannot be used: the key would travel unencrypted; use https
  help: set it by --base-url or ROE_BASE_URL, as in https://api.roe-ai.com

"#]]
    );
}

#[test]
fn one_file_wanted_twice_is_sent_by_neither_and_the_rest_goes_on() {
    let workspace = Workspace::with(
        &format!(
            "version: 1\ndefaults: {{root: in, dataset_id: {DATASET}}}\nuploads:\n\
             - {{name: texts, include: '*.txt'}}\n- {{name: all, include: '*'}}\n"
        ),
        &[("in/a.txt", "a"), ("in/b.csv", "b")],
    );
    assert_data_eq!(
        workspace.run(&["plan", "manifest.yaml"]).all(),
        str![[r#"
exit 0
--- stdout
texts → dataset 3f2b7a52-0000-4000-8000-000000000001 at https://api.roe-ai.com
  ! 1 in conflict, not sent (1 B)
      in/a.txt
        rule all sends the same file to the same target; exclude it from one of them

all → dataset 3f2b7a52-0000-4000-8000-000000000001 at https://api.roe-ai.com
  + 1 new (1 B)
      in/b.csv
  ! 1 in conflict, not sent (1 B)
      in/a.txt
        rule texts sends the same file to the same target; exclude it from one of them

manifest: 3 files planned, 1 to upload (1 B), 2 in conflict
--- stderr

"#]]
    );
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 1
--- stdout
manifest: 3 files planned
  stored               1   1 B, 1 file ID
  failed               2
failed: texts: in/a.txt: rule all sends the same file to the same target; exclude it from one of them
failed: all: in/a.txt: rule texts sends the same file to the same target; exclude it from one of them
report: .roe-batch/reports/manifest.csv
report: .roe-batch/reports/manifest.json
--- stderr

"#]]
    );
}

#[test]
fn a_report_that_cannot_be_written_is_found_before_the_first_upload() {
    let workspace = Workspace::with(
        &format!("{RULE}report: file/report.csv\n"),
        &[("in/a.txt", "a"), ("file", "in the way")],
    );
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 74
--- stdout
--- stderr
error: the report file/report.csv cannot be written: File exists (os error 17)

"#]]
    );
    assert!(!workspace.at(".roe-batch/sandbox").exists());
}

#[test]
fn a_run_beside_another_ends_at_once_and_says_who_has_the_lock() {
    let workspace = Workspace::with(RULE, &[("in/a.txt", "a")]);
    assert_eq!(workspace.apply().code, 0);
    let lock = fs::File::open(workspace.at(".roe-batch/lock")).expect("a lock file");
    lock.lock().expect("the lock");
    let ran = workspace.apply();
    assert_eq!(ran.code, 75, "{}", ran.all());
    assert!(
        ran.stderr
            .contains("another run is using this ledger (process "),
        "{}",
        ran.stderr
    );
    drop(lock);
    assert_eq!(workspace.apply().code, 0);
}

#[test]
fn a_damaged_ledger_stops_the_run_before_it_begins() {
    let workspace = Workspace::with(RULE, &[("in/a.txt", "a")]);
    workspace.write(
        ".roe-batch/ledger.sqlite",
        "not a database at all, but long enough",
    );
    let ran = workspace.apply();
    assert_eq!(ran.code, 74, "{}", ran.all());
    assert!(
        ran.stderr.contains("file is not a database"),
        "{}",
        ran.stderr
    );
}

#[test]
fn what_is_no_file_is_named_and_does_not_pass_for_stored() {
    let workspace = Workspace::with(RULE, &[("in/a.txt", "a")]);
    std::os::unix::fs::symlink("a.txt", workspace.at("in/link.txt")).expect("a link");
    std::os::unix::fs::symlink(".", workspace.at("in/folder")).expect("a link");
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 1
--- stdout
manifest: 3 files planned
  stored               1   1 B, 1 file ID
  failed               2
failed: all: in/folder: a symbolic link to a folder, not followed; exclude it, or put a file there
failed: all: in/link.txt: a symbolic link, not followed; exclude it, or put a file there
report: .roe-batch/reports/manifest.csv
report: .roe-batch/reports/manifest.json
--- stderr

"#]]
    );
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 1
--- stdout
manifest: 3 files planned
  skipped              1   stored before, 1 file ID
  failed               2
failed: all: in/folder: a symbolic link to a folder, not followed; exclude it, or put a file there
failed: all: in/link.txt: a symbolic link, not followed; exclude it, or put a file there
report: .roe-batch/reports/manifest.csv
report: .roe-batch/reports/manifest.json
--- stderr

"#]]
    );
}

#[test]
fn pasted_quotes_in_an_expression_are_shown_and_break_nothing() {
    let workspace = Workspace::with(
        "version: 1\nuploads:\n- name: a\n  root: .\n  include: '*'\n  file_name: ${{ file.name | \
         replace(“a”, 'b') }}\n",
        &[],
    );
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 65
--- stdout
--- stderr
error: `“` cannot stand here
 --> manifest.yaml:6:38
  |
6 |   file_name: ${{ file.name | replace(“a”, 'b') }}
  |                                      ^
  |
  = help: texts stand in straight quotes, `"` or `'`

manifest.yaml: 1 error

"#]]
    );
}

#[test]
fn a_password_in_an_address_is_not_repeated() {
    let workspace = Workspace::with(RULE, &[("in/a.txt", "a")]);
    let ran = workspace.run(&[
        "plan",
        "manifest.yaml",
        "--base-url",
        "https://u:hunter2@host",
    ]);
    assert_eq!(ran.code, 64, "{}", ran.all());
    assert!(!ran.all().contains("hunter2"), "{}", ran.all());
}

#[test]
fn a_pattern_without_quotes_says_that_it_needs_them() {
    let manifest = "version: 1\nuploads:\n- {name: a, root: ., include: *.pdf}\n";
    let workspace = Workspace::with(manifest, &[]);
    assert_data_eq!(
        workspace.apply().all(),
        str![[r#"
exit 65
--- stdout
--- stderr
error: a text that begins with `*` needs quotes
 --> manifest.yaml:3:31
  |
3 | - {name: a, root: ., include: *.pdf}
  |                               ^^^^^
  |
  = help: write "*.pdf"

manifest.yaml: 1 error

"#]]
    );
}

#[test]
fn resolve_says_what_it_needs() {
    let workspace = Workspace::with(RULE, &[("in/a.txt", "a")]);
    assert_data_eq!(
        workspace.run(&["resolve", "manifest.yaml"]).all(),
        str![[r#"
exit 74
--- stdout
--- stderr
error: there is no ledger in [..]/.roe-batch
  help: name the manifest of an earlier run, or its --state

"#]]
    );
    assert_eq!(workspace.apply().code, 0);
    assert_data_eq!(
        workspace.run(&["resolve", "manifest.yaml"]).all(),
        str![[r#"
exit 0
--- stdout
0 files in doubt
--- stderr

"#]]
    );
    let stored = ["resolve", "manifest.yaml", "in/a.txt", "--not-stored"];
    assert_data_eq!(
        workspace.run(&stored).all(),
        str![[r#"
exit 64
--- stdout
--- stderr
error: "in/a.txt" is not in doubt
  help: give a path or a request id as `resolve MANIFEST` lists them

"#]]
    );
    for args in [
        &["resolve", "manifest.yaml", "in/a.txt"][..],
        &["resolve", "manifest.yaml", "a", "b", "--stored", "x"],
        &["resolve", "manifest.yaml", "--stored", "x"],
    ] {
        assert_eq!(workspace.run(args).code, 64, "{args:?}");
    }
}

#[test]
fn usage_errors_exit_64() {
    let workspace = Workspace::new();
    let mut strange = Workspace::with(RULE, &[("in/a.txt", "a")]);
    strange.env("ROE_TIMEOUT", "soon");
    let ran = strange.run(&["apply", "manifest.yaml", "--sandbox"]);
    assert_eq!(ran.code, 64, "{}", ran.all());
    assert!(
        ran.stderr.contains("ROE_TIMEOUT cannot be used"),
        "{}",
        ran.stderr
    );
    let mut empty = Workspace::with(RULE, &[("in/a.txt", "a")]);
    for name in [
        "ROE_TIMEOUT",
        "ROE_MAX_RETRIES",
        "ROE_BATCH_CONCURRENCY",
        "ROE_BATCH_STATE",
    ] {
        empty.env(name, "");
    }
    assert_eq!(empty.apply().code, 0, "an empty variable is none");
    for args in [
        &["aply"][..],
        &["apply"],
        &["plan", "m", "--concurrency", "0"],
        &[],
    ] {
        assert_eq!(workspace.run(args).code, 64, "{args:?}");
    }
    assert_eq!(workspace.run(&["--help"]).code, 0);
    assert_eq!(workspace.run(&["--version"]).code, 0);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let workspace = Workspace::with(RULE, &[("in/a.txt", "a")]);
    let mut command = workspace.command(&["apply", "manifest.yaml", "--sandbox"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command.stdout(writer).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(workspace.report()["header"]["outcomes"]["stored"], 1);
}

#[test]
fn the_key_is_in_no_output_and_no_file() {
    let mut workspace = Workspace::with(
        "version: 1\nuploads:\n- {name: all, root: in, include: '**', metadata: {k: '${{ \
         env.ROE_API_KEY }}'}}\n",
        &[("in/a.txt", "a")],
    );
    workspace.env("ROE_API_KEY", KEY);
    let ran = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 65);
    assert!(!ran.all().contains(KEY), "{}", ran.all());
    workspace.write("manifest.yaml", RULE);
    let (_data, server) = sandbox();
    let ran = workspace.run(&[
        "apply",
        "manifest.yaml",
        "--base-url",
        &format!("http://{}", server.address()),
    ]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(!ran.all().contains(KEY));
    let mut open = vec![workspace.path().to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = fs::read(&path).expect("read");
                let found = bytes
                    .windows(KEY.len())
                    .any(|window| window == KEY.as_bytes());
                assert!(!found, "{}", path.display());
            }
        }
    }
}
