//! What runs measure, for Prometheus and for collectors of OpenTelemetry.

mod common;
#[path = "common/listener.rs"]
mod listener;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use common::{DATASET, Workspace};
use listener::Listener;
use serde_json::{Value, json};

/// Samples by name and labels.
type Samples = BTreeMap<(String, BTreeMap<String, String>), f64>;

/// Reads the text format strictly: each name has its help, then its type, then all of its samples,
/// once; names, labels and numbers are well formed; no sample is there twice.
fn parse(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "{text}");
    let is_name = |name: &str| {
        let mut chars = name.chars();
        chars
            .next()
            .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let (mut samples, mut seen) = (Samples::new(), BTreeSet::new());
    let mut lines = text
        .strip_suffix('\n')
        .expect("an end")
        .split('\n')
        .peekable();
    while let Some(help) = lines.next() {
        let help = help.strip_prefix("# HELP ").expect(help);
        let (name, help) = help.split_once(' ').expect(help);
        assert!(
            is_name(name) && !help.is_empty() && seen.insert(name.to_owned()),
            "{name}"
        );
        assert_eq!(lines.next(), Some(format!("# TYPE {name} gauge").as_str()));
        let mut is_sampled = false;
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            is_sampled = true;
            let rest = line.strip_prefix(name).expect(line);
            let mut rest = rest.strip_prefix('{').expect(line);
            let mut labels = BTreeMap::new();
            loop {
                let (label, after) = rest.split_once("=\"").expect(line);
                assert!(is_name(label), "{line}");
                let (mut value, mut chars) = (String::new(), after.char_indices());
                let end = loop {
                    match chars.next().expect(line) {
                        (at, '"') => break at,
                        (_, '\\') => value.push(match chars.next().expect(line).1 {
                            'n' => '\n',
                            c @ ('\\' | '"') => c,
                            c => panic!("\\{c} in {line}"),
                        }),
                        (_, c) => value.push(c),
                    }
                };
                assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
                rest = &after[end + 1..];
                match rest.split_at(1) {
                    (",", more) => rest = more,
                    ("}", more) => {
                        rest = more;
                        break;
                    }
                    _ => panic!("{line}"),
                }
            }
            let number = rest.strip_prefix(' ').expect(line);
            assert!(
                number.bytes().all(|b| b.is_ascii_digit() || b == b'.'),
                "{line}"
            );
            let number = number.parse().expect(line);
            assert!(
                samples.insert((name.to_owned(), labels), number).is_none(),
                "{line}"
            );
        }
        assert!(is_sampled, "{name}");
    }
    assert_known_to_promtool(text);
    samples
}

/// Asks Prometheus itself, where it is installed.
fn assert_known_to_promtool(text: &str) {
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else { return };
    let mut stdin = promtool.stdin.take().expect("its stdin");
    stdin.write_all(text.as_bytes()).expect("written");
    drop(stdin);
    let output = promtool.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

/// What a manifest's run measured, by name and outcome.
struct Measured(Samples, &'static str);

impl Measured {
    fn of(workspace: &Workspace) -> Self {
        let text = fs::read_to_string(workspace.at("run.prom")).expect("metrics");
        Self(parse(&text), "told")
    }

    fn get(&self, name: &str) -> Option<f64> {
        self.labelled(name, &[("manifest", self.1)])
    }

    fn files(&self, outcome: &str) -> Option<f64> {
        let labels = [("manifest", self.1), ("outcome", outcome)];
        self.labelled("last_run_files", &labels)
    }

    fn labelled(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let key = (
            format!("roe_batch_{name}"),
            labels.iter().map(owned).collect(),
        );
        self.0.get(&key).copied()
    }
}

/// Three files.
fn workspace() -> Workspace {
    Workspace::with(
        &format!(
            "version: 1\nname: told\ndefaults: {{dataset_id: {DATASET}}}\nuploads:\n\
             - {{name: all, root: in, include: '*', on_empty: ignore}}\n\
             run: {{in_doubt: hold}}\n"
        ),
        &[
            ("in/a.txt", "four"),
            ("in/b.pdf", "seven.."),
            ("in/c.bin", ""),
        ],
    )
}

const APPLY: [&str; 5] = [
    "apply",
    "manifest.yaml",
    "--sandbox",
    "--metrics-file",
    "run.prom",
];

fn apply(workspace: &Workspace, faults: &str, code: i32) -> Measured {
    workspace.write("faults.yaml", format!("faults: [{faults}]\n"));
    let ran = workspace.run(&[&APPLY[..], &["--faults", "faults.yaml"]].concat());
    assert_eq!(ran.code, code, "{}", ran.all());
    Measured::of(workspace)
}

#[test]
fn each_run_is_measured_and_the_last_success_outlives_failures() {
    let workspace = workspace();
    let refuse = "{fault: status, status: 422, file: '*.pdf'}";
    let lose = "{fault: status, status: 504, stored: true, file: '*.bin'}";

    let first = apply(&workspace, refuse, 1);
    assert_eq!(first.get("last_run_exit_code"), Some(1.0));
    assert_eq!(first.files("stored"), Some(2.0));
    assert_eq!(first.files("rejected"), Some(1.0));
    assert_eq!(first.files("skipped"), Some(0.0));
    assert_eq!(first.get("last_run_stored_bytes"), Some(4.0));
    assert_eq!(first.get("backlog_files"), Some(1.0));
    assert_eq!(first.get("in_doubt_files"), Some(0.0));
    assert_eq!(first.get("last_success_timestamp_seconds"), None);
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(first.labelled("build_info", &version), Some(1.0));

    let second = apply(&workspace, "", 0);
    let success = second
        .get("last_success_timestamp_seconds")
        .expect("a time");
    assert_eq!(second.get("last_run_end_timestamp_seconds"), Some(success));
    let started = second
        .get("last_run_start_timestamp_seconds")
        .expect("a time");
    let took = second.get("last_run_duration_seconds").expect("a duration");
    assert!(
        (success - started - took).abs() < 0.001,
        "{started} {took} {success}"
    );
    assert_eq!(
        (second.files("stored"), second.get("backlog_files")),
        (Some(1.0), Some(0.0))
    );

    // Nothing to do is a success, too.
    let third = apply(&workspace, "", 0);
    let later = third.get("last_success_timestamp_seconds").expect("a time");
    assert!(later > success, "{later} {success}");
    assert_eq!(
        (third.files("stored"), third.files("skipped")),
        (Some(0.0), Some(3.0))
    );
    assert_eq!(third.get("last_run_stored_bytes"), Some(0.0));

    // The old file may be lost: the ledger knows.
    fs::remove_file(workspace.at("run.prom")).expect("removed");
    workspace.write("in/d.bin", "new");
    let fourth = apply(&workspace, lose, 76);
    assert_eq!(fourth.get("last_success_timestamp_seconds"), Some(later));
    assert_eq!(
        (fourth.files("in_doubt"), fourth.get("in_doubt_files")),
        (Some(1.0), Some(1.0))
    );
    assert_eq!(fourth.get("backlog_files"), Some(0.0));

    // A file in doubt is still told of when it is in no plan any more.
    fs::remove_file(workspace.at("in/d.bin")).expect("removed");
    let fifth = apply(&workspace, "", 76);
    assert_eq!(
        (fifth.files("in_doubt"), fifth.get("in_doubt_files")),
        (Some(0.0), Some(1.0))
    );
    assert_eq!(fifth.get("last_success_timestamp_seconds"), Some(later));
}

#[test]
fn retries_are_counted() {
    let mut workspace = workspace();
    workspace.env("ROE_RETRY_INITIAL_MS", "1");
    workspace.env("ROE_RETRY_MAX_MS", "1");
    let busy = "{fault: status, status: 429, count: 2, file: '*.txt'}";
    let measured = apply(&workspace, busy, 0);
    assert_eq!(measured.get("last_run_retries"), Some(2.0));
}

#[test]
fn a_run_that_does_not_come_about_is_measured_as_far_as_it_goes() {
    let workspace = workspace();
    let success = apply(&workspace, "", 0).get("last_success_timestamp_seconds");
    let unknown = |code: f64| {
        let measured = Measured::of(&workspace);
        assert_eq!(measured.get("last_run_exit_code"), Some(code));
        assert_eq!(measured.get("last_success_timestamp_seconds"), success);
        assert_eq!(measured.get("in_doubt_files"), Some(0.0));
        for name in ["last_run_stored_bytes", "backlog_files", "last_run_retries"] {
            assert_eq!(measured.get(name), None, "{name}");
        }
        assert_eq!(measured.files("stored"), None);
    };
    // No key.
    let ran = workspace.run(&["apply", "manifest.yaml", "--metrics-file", "run.prom"]);
    assert_eq!(ran.code, 77, "{}", ran.all());
    unknown(77.0);
    // Another run has the lock.
    let lock = fs::File::open(workspace.at(".roe-batch/lock")).expect("a lock file");
    lock.lock().expect("the lock");
    assert_eq!(workspace.run(&APPLY).code, 75);
    unknown(75.0);
    let before = fs::read(workspace.at("run.prom")).expect("metrics");
    let ran = workspace.run(&[&APPLY[..], &["--if-locked", "skip"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(fs::read(workspace.at("run.prom")).expect("metrics"), before);
    drop(lock);
    // A manifest that is wrong.
    let manifest = fs::read_to_string(workspace.at("manifest.yaml")).expect("a manifest");
    workspace.write("manifest.yaml", manifest + "more: keys\n");
    assert_eq!(workspace.run(&APPLY).code, 65);
    unknown(65.0);
}

#[test]
fn a_service_that_is_not_there_is_measured() {
    let mut workspace = workspace();
    workspace.env("ROE_API_KEY", "s3cret-test-key");
    workspace.env("ROE_BATCH_METRICS_FILE", "run.prom");
    let args = ["--base-url", "http://127.0.0.1:1", "--retry-for", "100ms"];
    let ran = workspace.run(&[&["apply", "manifest.yaml"][..], &args].concat());
    assert_eq!(ran.code, 69, "{}", ran.all());
    let measured = Measured::of(&workspace);
    assert_eq!(measured.get("last_run_exit_code"), Some(69.0));
    assert_eq!(measured.get("backlog_files"), Some(3.0));
}

#[test]
fn names_that_would_break_the_file_do_not() {
    let name = "a\"b\\n\\c}\u{e9}\u{202e}{x=\"1\"} 1 # HELP";
    let mut workspace = workspace();
    workspace.env("HOME", "/nonexistent");
    let manifest = fs::read_to_string(workspace.at("manifest.yaml")).expect("a manifest");
    let hostile = manifest.replace("name: told", &format!("name: {}", json!(name)));
    workspace.write("manifest.yaml", hostile);
    assert_eq!(workspace.run(&APPLY).code, 0);
    let text = fs::read_to_string(workspace.at("run.prom")).expect("metrics");
    let samples = parse(&text);
    let names: BTreeSet<&str> = samples
        .keys()
        .filter_map(|(_, labels)| labels.get("manifest").map(String::as_str))
        .collect();
    assert_eq!(names, BTreeSet::from([name]));

    // A file's name can have what no `name` may.
    let manifest = manifest.replace("name: told\n", "");
    workspace.write("line\nbreak.yaml", manifest);
    let ran = workspace.run(&[
        "apply",
        "line\nbreak.yaml",
        "--sandbox",
        "--metrics-file",
        "x.prom",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let text = fs::read_to_string(workspace.at("x.prom")).expect("metrics");
    let is_named = |(_, labels): &(String, BTreeMap<String, String>)| {
        labels
            .get("manifest")
            .is_some_and(|name| name == "line\nbreak")
    };
    assert!(parse(&text).keys().any(is_named), "{text}");
}

#[test]
fn several_manifests_are_in_one_file_and_need_names_of_their_own() {
    let workspace = workspace();
    let manifest = fs::read_to_string(workspace.at("manifest.yaml")).expect("a manifest");
    workspace.write("more/in/x.txt", "x");
    workspace.write("more/other.yaml", manifest.replace("told", "other"));
    workspace.write("more/same.yaml", &manifest);
    let apply = |other: &str| {
        let args = [&APPLY[..2], &[other], &APPLY[2..]].concat();
        workspace.run(&args)
    };
    let ran = apply("more/same.yaml");
    assert_eq!(ran.code, 64, "{}", ran.all());
    assert!(
        ran.stderr.contains("have one name, \"told\""),
        "{}",
        ran.stderr
    );
    assert!(!workspace.at("run.prom").exists());
    let ran = apply("more/other.yaml");
    assert_eq!(ran.code, 0, "{}", ran.all());
    let mut measured = Measured::of(&workspace);
    assert_eq!(measured.files("stored"), Some(3.0));
    measured.1 = "other";
    assert_eq!(measured.files("stored"), Some(1.0));
}

#[test]
fn the_file_is_put_in_its_place_in_one_step_and_everybody_can_read_it() {
    let workspace = workspace();
    let binary = env!("CARGO_BIN_EXE_roe-batch");
    let output = workspace
        .shell(&format!("umask 077; mkdir textfiles; {binary} apply manifest.yaml --sandbox --metrics-file textfiles/run.prom"))
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("a shell");
    assert!(output.status.success(), "{output:?}");
    let path = workspace.at("textfiles/run.prom");
    let before = fs::File::open(&path).expect("metrics");
    let mode = before
        .metadata()
        .expect("its metadata")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o644);
    let names = || {
        let entries = fs::read_dir(workspace.at("textfiles")).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").file_name())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["run.prom"]);
    // Whoever reads the old one reads all of it.
    let old = fs::read_to_string(&path).expect("metrics");
    let ran = workspace.run(&[
        "apply",
        "manifest.yaml",
        "--sandbox",
        "--metrics-file",
        "textfiles/run.prom",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(std::io::read_to_string(before).expect("metrics"), old);
    assert_ne!(fs::read_to_string(&path).expect("metrics"), old);
    assert_eq!(names(), ["run.prom"]);
}

#[test]
fn a_file_that_cannot_be_written_changes_the_exit_code_and_nothing_else() {
    let workspace = workspace();
    workspace.write("run.prom/file", "");
    let ran = workspace.run(&APPLY);
    assert_eq!(ran.code, 74, "{}", ran.all());
    assert!(
        ran.stderr
            .starts_with("error: the metrics file run.prom cannot be written: "),
        "{}",
        ran.stderr
    );
    let report = workspace.report();
    assert_eq!(report["header"]["outcomes"]["stored"], 3);
    assert_eq!(report["header"]["exit_code"], 0);
    for wrong in ["run.txt", "run", "manifest.yaml", ".prom"] {
        let ran = workspace.run(&["apply", "manifest.yaml", "--metrics-file", wrong]);
        assert_eq!(ran.code, 64, "{wrong}: {}", ran.all());
    }
}

#[test]
fn a_collector_is_pushed_the_same_numbers() {
    let listener = Listener::start(Some("200 OK"));
    let mut workspace = workspace();
    workspace.env("ROE_BATCH_OTLP_HEADERS", "authorization=Basic%20czNjcmV0");
    workspace.env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
    // Nobody asked for it.
    let ran = workspace.run(&APPLY);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    workspace.env("ROE_BATCH_OTLP", &listener.url());
    let ran = workspace.run(&APPLY);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let told = listener.next();
    assert!(listener.is_silent());
    assert_eq!(told.line, "POST /v1/metrics HTTP/1.1");
    assert_eq!(told.headers["authorization"], "Basic czNjcmV0");
    assert_eq!(told.headers["content-type"], "application/json");
    let of = &told.body["resourceMetrics"][0];
    assert_eq!(
        of["resource"]["attributes"][0],
        json!({"key": "service.name", "value": {"stringValue": "roe-batch"}})
    );
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let mut pushed = Samples::new();
    for metric in of["scopeMetrics"][0]["metrics"]
        .as_array()
        .expect("metrics")
    {
        for point in metric["gauge"]["dataPoints"].as_array().expect("points") {
            let labels = point["attributes"].as_array().expect("attributes").iter();
            let labels =
                labels.map(|pair| (text(&pair["key"]), text(&pair["value"]["stringValue"])));
            let whole = point["asInt"]
                .as_str()
                .map(|n| n.parse().expect("a number"));
            let value = whole.or(point["asDouble"].as_f64()).expect("a value");
            assert!(
                point["timeUnixNano"]
                    .as_str()
                    .is_some_and(|n| n.parse::<u64>().is_ok())
            );
            pushed.insert((text(&metric["name"]), labels.collect()), value);
        }
    }
    let mut measured = Measured::of(&workspace).0;
    measured.retain(|(name, _), _| name != "roe_batch_build_info");
    assert_eq!(pushed, measured);
}

#[test]
fn a_collector_that_is_not_well_changes_nothing() {
    let failing = Listener::start(Some("503 Service Unavailable"));
    let workspace = workspace();
    for (endpoint, said) in [
        (failing.url(), format!("{}: HTTP 503\n", failing.url())),
        ("s3cret".to_owned(), "it is not a URL\n".to_owned()),
    ] {
        let ran = workspace.run(&["apply", "manifest.yaml", "--sandbox", "--otlp", &endpoint]);
        let expected = format!("notice: measurements were not pushed: {said}");
        assert_eq!((ran.code, ran.stderr), (0, expected));
    }
}

#[test]
fn a_manifest_whose_turn_does_not_come_is_measured_too() {
    let workspace = workspace();
    let manifest = fs::read_to_string(workspace.at("manifest.yaml")).expect("a manifest");
    workspace.write("more/in/x.txt", "x");
    workspace.write("more/other.yaml", manifest.replace("told", "other"));
    let apply = |rest: &[&str]| {
        let args = ["apply", "manifest.yaml", "more/other.yaml"];
        workspace.run(&[&args[..], &["--metrics-file", "run.prom"], rest].concat())
    };
    assert_eq!(apply(&["--sandbox"]).code, 0);
    let other = || Measured(Measured::of(&workspace).0, "other");
    let success = other().get("last_success_timestamp_seconds");
    assert!(success.is_some());
    let ran = apply(&[]);
    assert_eq!(ran.code, 77, "{}", ran.all());
    assert_eq!(other().get("last_success_timestamp_seconds"), success);
    assert_eq!(other().get("last_run_exit_code"), Some(77.0));
}
