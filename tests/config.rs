//! Config files: where they are, what they may say, and that what holds is what is shown.

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};

use common::{DATASET, KEY, Ran, Workspace, sandbox};
use roe_batch::ledger::StateFolder;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};

/// A setting, and where it can be said.
struct Setting {
    name: &'static str,
    variable: Option<&'static str>,
    in_manifest: bool,
    /// What a variable, a manifest, the user's file and the system's file say, and how each is
    /// shown.
    values: [(&'static str, &'static str); 4],
}

const fn setting(
    name: &'static str,
    variable: Option<&'static str>,
    in_manifest: bool,
    values: [(&'static str, &'static str); 4],
) -> Setting {
    Setting {
        name,
        variable,
        in_manifest,
        values,
    }
}

/// Each word as it is.
const fn same(values: [&'static str; 4]) -> [(&'static str, &'static str); 4] {
    let [a, b, c, d] = values;
    [(a, a), (b, b), (c, c), (d, d)]
}

const TIMES: [(&str, &str); 4] = same(["11s", "12s", "13s", "14s"]);

const SETTINGS: [Setting; 24] = [
    setting(
        "base_url",
        Some("ROE_BASE_URL"),
        false,
        same([
            "https://a.example",
            "https://b.example",
            "https://c.example",
            "https://d.example",
        ]),
    ),
    setting(
        "organization_id",
        Some("ROE_ORGANIZATION_ID"),
        false,
        same(["a", "b", "c", "d"]),
    ),
    setting(
        "api_key_file",
        Some("ROE_BATCH_API_KEY_FILE"),
        false,
        [
            ("/a", "/a"),
            ("/b", "/b"),
            ("c", "[USER]/c"),
            ("d", "[SYSTEM]/d"),
        ],
    ),
    setting("timeout", Some("ROE_TIMEOUT"), false, TIMES),
    setting(
        "proxy",
        Some("ROE_PROXY"),
        false,
        [
            ("http://u:p@a", "http://***@a"),
            ("http://b", "http://b"),
            ("http://u:p@c", "http://***@c"),
            ("http://d", "http://d"),
        ],
    ),
    setting(
        "ca_file",
        Some("ROE_BATCH_CA_FILE"),
        false,
        [
            ("a", "a"),
            ("b", "b"),
            ("/c", "/c"),
            ("x/d", "[SYSTEM]/x/d"),
        ],
    ),
    setting(
        "http2",
        Some("ROE_BATCH_HTTP2"),
        false,
        [
            ("1", "true"),
            ("", ""),
            ("false", "false"),
            ("true", "true"),
        ],
    ),
    setting(
        "concurrency",
        Some("ROE_BATCH_CONCURRENCY"),
        true,
        [
            ("11", "11"),
            ("{max: 12, adaptive: true}", "auto:12"),
            ("auto:13", "auto:13"),
            ("14", "14"),
        ],
    ),
    setting(
        "rate",
        None,
        true,
        [
            ("", ""),
            ("12/s", "12/s"),
            (
                "{\"08:00-18:00\": 5/s, default: unlimited}",
                "08:00-18:00=5/s, default=unlimited",
            ),
            ("14/s", "14/s"),
        ],
    ),
    setting(
        "bandwidth",
        None,
        true,
        [
            ("", ""),
            ("{\"22:00-06:00\": 5MB/s}", "22:00-06:00=5MB/s"),
            ("13MB/s", "13MB/s"),
            ("14MB/s", "14MB/s"),
        ],
    ),
    setting("failure_budget", None, true, same(["", "12%", "13%", "14"])),
    setting(
        "max_attempts",
        Some("ROE_MAX_RETRIES"),
        true,
        [("10", "11"), ("12", "12"), ("13", "13"), ("14", "14")],
    ),
    setting(
        "retry_initial_ms",
        Some("ROE_RETRY_INITIAL_MS"),
        false,
        same(["11", "12", "13", "14"]),
    ),
    setting(
        "retry_max_ms",
        Some("ROE_RETRY_MAX_MS"),
        false,
        same(["11", "12", "13", "14"]),
    ),
    setting("retry_for", None, true, TIMES),
    setting("deadline", None, true, TIMES),
    setting("grace", None, false, TIMES),
    setting(
        "in_doubt",
        None,
        true,
        same(["", "resend", "hold", "verify"]),
    ),
    setting("settle", None, true, TIMES),
    setting("if_locked", None, false, same(["", "", "skip", "wait"])),
    setting("wait", None, false, TIMES),
    setting(
        "progress",
        Some("ROE_BATCH_PROGRESS"),
        false,
        same(["bar", "", "json", "none"]),
    ),
    setting(
        "otlp",
        Some("ROE_BATCH_OTLP"),
        false,
        [
            ("http://u:p@a", "http://***@a"),
            ("", ""),
            ("http://c", "http://c"),
            ("http://d", "http://d"),
        ],
    ),
    setting(
        "allow_hooks",
        Some("ROE_BATCH_ALLOW_HOOKS"),
        false,
        [
            ("1", "true"),
            ("", ""),
            ("false", "false"),
            ("true", "true"),
        ],
    ),
];

const RULE: &str =
    "version: 1\nuploads: [{name: all, root: in, include: '**', on_empty: ignore}]\n";

/// A workspace with a home and a system's folder of config files.
fn machine(user: Option<&str>, system: Option<&str>) -> Workspace {
    let mut workspace = Workspace::with(RULE, &[("in/a.txt", "a")]);
    for (place, text) in [(USER, user), (SYSTEM, system)] {
        if let Some(text) = text {
            workspace.write(place, text);
        }
    }
    let at = |name: &str| workspace.at(name).to_string_lossy().into_owned();
    let (home, system) = (at("home"), at("system"));
    workspace.env("HOME", &home);
    workspace.env("XDG_CONFIG_DIRS", &system);
    workspace
}

const USER: &str = "home/.config/roe-batch/config.yaml";
const SYSTEM: &str = "system/roe-batch/config.yaml";

/// Runs with config files where they are usually.
fn run(workspace: &Workspace, args: &[&str]) -> Ran {
    let mut command = workspace.command(args);
    command.env_remove("ROE_BATCH_CONFIG");
    Ran::new(&command.output().expect("the binary runs"))
}

fn shown(workspace: &Workspace, args: &[&str]) -> Value {
    let args = [&["config", "--format", "json"][..], args].concat();
    let ran = run(workspace, &args);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
    serde_json::from_str(&ran.stdout).expect("JSON")
}

#[test]
fn of_all_who_say_something_the_strongest_counts_and_is_shown() {
    let document = shown(&machine(None, None), &[]);
    let known = document["settings"].as_object().expect("settings");
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    let listed: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    assert_eq!(
        names[1..],
        listed,
        "each setting is in the table of this test"
    );
    for setting in &SETTINGS {
        for says in 0..16_u8 {
            check(setting, &|who| says & (1 << who) != 0);
        }
    }
}

/// One setting, where these say something: 0 the environment, 1 the manifest, 2 the user's file, 3
/// the system's.
fn check(setting: &Setting, says: &dyn Fn(usize) -> bool) {
    let name = setting.name;
    let says = |who: usize| {
        let can = match who {
            0 => setting.variable.is_some(),
            1 => setting.in_manifest,
            _ => true,
        };
        can && says(who)
    };
    let line = |who: usize| {
        let (written, _) = setting.values[who];
        says(who).then(|| format!("# a comment\n{name}: {written}\n"))
    };
    let mut workspace = machine(line(2).as_deref(), line(3).as_deref());
    if says(0) {
        let variable = setting.variable.expect("a variable");
        workspace.env(variable, setting.values[0].0);
    }
    if says(1) {
        let run = format!("{RULE}run:\n  {name}: {}\n", setting.values[1].0);
        workspace.write("manifest.yaml", run);
    }
    let document = shown(&workspace, &["manifest.yaml"]);
    let found = &document["settings"][name];
    let at = |name: &str| workspace.at(name).to_string_lossy().into_owned();
    let origins = [
        json!({"kind": "environment", "variable": setting.variable}),
        json!({"kind": "manifest", "file": "manifest.yaml", "line": 4}),
        json!({"kind": "file", "file": at(USER), "line": 2}),
        json!({"kind": "file", "file": at(SYSTEM), "line": 2}),
    ];
    let Some(who) = (0..4).find(|who| says(*who)) else {
        assert_eq!(found["origin"], json!({"kind": "default"}), "{name}");
        return;
    };
    let value = setting.values[who].1;
    let value = value.replace("[USER]", &at("home/.config/roe-batch"));
    let value = value.replace("[SYSTEM]", &at("system/roe-batch"));
    assert_eq!(found["value"], value, "{name} by {who}");
    assert_eq!(found["origin"], origins[who], "{name} by {who}");
    // What is printed for people says the same.
    let text = run(&workspace, &["config", "manifest.yaml", "--show-origin"]);
    let line = text.stdout.lines().find(|line| {
        let word = line.trim_start_matches("# ").split(':').next();
        word == Some(name)
    });
    let line = line.expect("a line");
    let origin = &origins[who];
    let place = match origin["kind"].as_str() {
        Some("environment") => format!("environment {}", setting.variable.expect("one")),
        Some(kind) => format!(
            "{kind} {}:{}",
            origin["file"].as_str().expect("a path"),
            origin["line"]
        ),
        None => panic!("{origin}"),
    };
    assert!(line.ends_with(&format!("  # {place}")), "{line}");
}

#[test]
fn what_is_shown_is_what_a_run_does() {
    // Every upload fails, so a file has as many attempts as it may have.
    let attempts = |config: &str, manifest: &str, variable: &str, flag: &[&str]| {
        let waits = "retry_initial_ms: 1\nretry_max_ms: 1\n";
        let mut workspace = machine(Some(&format!("{waits}{config}")), None);
        workspace.write("manifest.yaml", format!("{RULE}{manifest}"));
        workspace.write("faults.yaml", "faults: [{fault: status, status: 429}]\n");
        if !variable.is_empty() {
            workspace.env("ROE_MAX_RETRIES", variable);
        }
        let document = shown(&workspace, &["manifest.yaml"]);
        let told = document["settings"]["max_attempts"]["value"].clone();
        let apply = [
            "apply",
            "manifest.yaml",
            "--sandbox",
            "--faults",
            "faults.yaml",
        ];
        let ran = run(&workspace, &[&apply[..], flag].concat());
        assert_ne!(ran.code, 0, "{}", ran.all());
        let made = workspace.report()["files"][0]["attempts"].clone();
        (told, made)
    };
    let (config, manifest) = ("max_attempts: 2\n", "run: {max_attempts: 3}\n");
    let both = |told: &str, made: u32| (json!(told), json!(made));
    assert_eq!(attempts(config, "", "", &[]), both("2", 2));
    assert_eq!(attempts(config, manifest, "", &[]), both("3", 3));
    assert_eq!(attempts(config, manifest, "3", &[]), both("4", 4));
    let flag = ["--max-attempts", "1"];
    assert_eq!(attempts(config, manifest, "3", &flag), both("4", 1));
}

#[test]
fn a_config_file_says_where_the_service_and_the_key_are() {
    let (_data, server) = sandbox();
    let config = format!(
        "base_url: http://{}\napi_key_file: roe.key\n",
        server.address()
    );
    let mut workspace = machine(Some(&config), None);
    let rule = format!("{RULE}defaults: {{dataset_id: {DATASET}}}\n");
    workspace.write("manifest.yaml", rule);
    workspace.write("home/.config/roe-batch/roe.key", KEY);
    let key = workspace.at("home/.config/roe-batch/roe.key");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("a mode");
    let ran = run(&workspace, &["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(workspace.report()["files"][0]["outcome"], "stored");

    // What a scheduled run needs of it is written out.
    let ran = run(&workspace, &["schedule", "cron", "manifest.yaml"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(
        ran.stdout.contains("--base-url http://127.0.0.1:"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("--api-key-file "), "{}", ran.stdout);

    // A key in the environment counts before the file that a config file names, and it is said.
    workspace.env("ROE_API_KEY", "another-key");
    workspace.write("in/b.txt", "b");
    let ran = run(&workspace, &["apply", "manifest.yaml"]);
    assert_eq!(ran.code, 77, "{}", ran.all());
    let ran = run(&workspace, &["config", "--show-origin"]);
    assert!(
        ran.stdout.starts_with("# api_key: not shown"),
        "{}",
        ran.stdout
    );
    assert!(
        ran.stdout.contains("\n# api_key_file: none"),
        "{}",
        ran.stdout
    );
    assert!(!ran.all().contains("another-key"));
    let flag = ["apply", "manifest.yaml", "--api-key-file"];
    let ran = run(
        &workspace,
        &[&flag[..], &[key.to_str().expect("UTF-8")]].concat(),
    );
    assert_eq!(ran.code, 0, "{}", ran.all());
}

#[test]
fn who_says_what_to_do_with_a_ledger_in_use_does_not_wait_as_long_as_a_config_file_says() {
    let workspace = machine(Some("if_locked: skip\nwait: 200ms\n"), None);
    assert_eq!(
        run(&workspace, &["apply", "manifest.yaml", "--sandbox"]).code,
        0
    );
    let state = StateFolder::at(&workspace.at(".roe-batch")).expect("a folder");
    let _lock = state.lock("a test").expect("the lock");
    for (args, code, waits) in [
        (&[][..], 0, true),
        (&["--if-locked", "fail"], 75, false),
        (&["--if-locked", "skip"], 0, false),
        (&["--wait", "100ms"], 0, true),
    ] {
        let apply = [&["apply", "manifest.yaml", "--sandbox"][..], args].concat();
        let ran = run(&workspace, &apply);
        assert_eq!(ran.code, code, "{args:?}: {}", ran.all());
        assert_eq!(
            ran.stderr.contains("waiting for"),
            waits,
            "{args:?}: {}",
            ran.all()
        );
    }
    // The same where the system's file says how long and the user's what to do.
    let workspace = machine(Some("if_locked: skip\n"), Some("wait: 10m\n"));
    let document = shown(&workspace, &[]);
    assert_eq!(document["settings"]["wait"]["value"], Value::Null);
    let workspace = machine(Some("wait: 10m\n"), Some("if_locked: skip\n"));
    let document = shown(&workspace, &[]);
    assert_eq!(document["settings"]["wait"]["value"], "10m");
}

#[test]
fn without_a_home_nothing_is_read_and_nothing_fails() {
    let workspace = machine(Some("- broken"), Some("- broken"));
    let nowhere = workspace.at("nowhere");
    let file = workspace.at("manifest.yaml");
    for (home, config_home) in [
        (None, None),
        (Some("".as_ref()), Some("".as_ref())),
        // Relative folders are none.
        (Some("home".as_ref()), Some("home/.config".as_ref())),
        (Some(nowhere.as_os_str()), None),
        (Some(file.as_os_str()), None),
        (None, Some(file.as_os_str())),
    ] {
        let mut command = workspace.command(&["plan", "manifest.yaml", "--sandbox"]);
        command.env_remove("ROE_BATCH_CONFIG").env_remove("HOME");
        command.env("XDG_CONFIG_DIRS", "system:./system");
        command.envs(home.map(|home| ("HOME", home)));
        command.envs(config_home.map(|folder| ("XDG_CONFIG_HOME", folder)));
        let ran = Ran::new(&command.output().expect("the binary runs"));
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
    }
}

#[test]
fn one_file_stands_for_all_and_none_for_none() {
    let mut workspace = machine(Some("timeout: 3s"), None);
    workspace.write("other.yaml", "grace: 4s\n");
    let value = |workspace: &Workspace, name: &str| {
        let ran = workspace.run(&["config", "--format", "json"]);
        assert_eq!(ran.code, 0, "{}", ran.all());
        let document: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        document["settings"][name]["origin"]["kind"].clone()
    };
    for (only, timeout, grace) in [
        ("", "default", "default"),
        ("/dev/null", "default", "default"),
        ("other.yaml", "default", "file"),
    ] {
        workspace.env("ROE_BATCH_CONFIG", only);
        assert_eq!(value(&workspace, "timeout"), timeout, "{only}");
        assert_eq!(value(&workspace, "grace"), grace, "{only}");
    }
    mknodat(CWD, workspace.at("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
    for only in ["missing.yaml", "in", "pipe", "manifest.yaml/x"] {
        workspace.env("ROE_BATCH_CONFIG", only);
        let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (65, ""), "{}", ran.all());
        assert!(
            ran.stderr.contains(only) && ran.stderr.contains("help: "),
            "{}",
            ran.stderr
        );
    }
    assert!(!workspace.at(".roe-batch").exists(), "nothing was touched");
    // What needs no setting does not look.
    for args in [&["--help"][..], &["schema"], &["completions", "bash"]] {
        assert_eq!(workspace.run(args).code, 0, "{args:?}");
    }
}

#[test]
fn a_file_that_others_can_write_or_own_is_refused() {
    let workspace = machine(Some("timeout: 3s"), None);
    let file = workspace.at(USER);
    let refused = |why: &str| {
        let ran = run(&workspace, &["config"]);
        assert_eq!(ran.code, 65, "{}", ran.all());
        assert!(ran.stderr.contains(why), "{}", ran.stderr);
    };
    for mode in [0o620, 0o602, 0o666] {
        fs::set_permissions(&file, Permissions::from_mode(mode)).expect("a mode");
        refused("others can write to it");
    }
    fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("a mode");
    assert_eq!(run(&workspace, &["config"]).code, 0);
    // Only root can give files away.
    if chown(&file, Some(12345), None).is_ok() {
        refused("neither yours nor root's");
    }
}

#[test]
fn every_mistake_is_told_at_its_place_in_one_pass_and_no_secret() {
    let text = "concurency: 3\ntimeout: soon\ntimeout: 3m\napi_key: sk-secret1\nhttp2: yes\n\
                proxy: [http://u:sk-secret2@h]\nca_file: ~/x\nstate: /var/lib\nmax_attempts: '3'\n\
                base_url: http://u:sk-secret3@h\nrate: {\"08:00-09:00\": 5}\ngrace:\n";
    let workspace = machine(Some(text), Some("- no mapping\n"));
    let ran = run(&workspace, &["plan", "manifest.yaml", "--sandbox"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (65, ""), "{}", ran.all());
    for (line, message) in [
        (1, "a config file has no key `concurency`"),
        (2, "`timeout` cannot be `soon`"),
        (3, "`timeout` is given twice"),
        (4, "a config file has no key `api_key`"),
        (5, "expected true or false, found a text"),
        (6, "expected a text, found a list"),
        (7, "`ca_file` cannot be `~/x`"),
        (8, "a config file has no key `state`"),
        (9, "expected a whole number, found a text"),
        (10, "the value of `base_url` cannot be used"),
        (11, "the value of `rate` cannot be used"),
        (12, "expected a text, found nothing"),
        (1, "a config file is a mapping, found a list"),
    ] {
        let at = ran.stderr.find(message);
        let at = at.unwrap_or_else(|| panic!("{message}\n{}", ran.stderr));
        let place = ran.stderr[at..].lines().nth(1).expect("a place");
        assert!(
            place.contains(&format!("config.yaml:{line}:")),
            "{message}: {place}"
        );
    }
    assert!(ran.stderr.contains("12 errors"), "{}", ran.stderr);
    assert!(!ran.all().contains("sk-secret"), "{}", ran.stderr);
    // Nor where it is no YAML at all.
    for text in [
        "api_key: \"sk-secret\n",
        "api_key:sk-secret\n",
        "ROE_API_KEY=sk-secret",
        "proxy: {http://u:sk-secret@h",
        "token: sk-secret: x\n",
        "timeout: 3s\n  api-key: sk-secret\n",
    ] {
        workspace.write(USER, text);
        let ran = run(&workspace, &["config"]);
        assert_eq!(ran.code, 65, "{text}: {}", ran.all());
        assert!(!ran.all().contains("sk-secret"), "{text}: {}", ran.stderr);
    }
}

#[test]
fn what_a_file_holds_gives_a_terminal_no_orders() {
    let workspace = machine(
        Some("\"\\e[2Jx\": 1\ntimeout: \"\\e[31m\u{9b}31m\"\norganization_id: \"a\\e[1mb\"\n"),
        None,
    );
    let ran = run(&workspace, &["config"]);
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(!ran.all().contains(['\u{1b}', '\u{9b}']), "{}", ran.all());
    workspace.write(USER, "ca_file: \"\\e[2J\\u202e.pem\"\n");
    for args in [&["config"][..], &["config", "--show-origin"]] {
        let ran = run(&workspace, args);
        assert_eq!(ran.code, 0, "{}", ran.all());
        assert!(!ran.all().contains(['\u{1b}', '\u{202e}']), "{}", ran.all());
    }
}

#[test]
fn what_is_printed_is_a_config_file_that_says_the_same() {
    let workspace = machine(
        Some("concurrency: auto:32\nbandwidth: {\"08:00-18:00\": 2MiB/s}\nfailure_budget: 5%\n"),
        None,
    );
    let printed = run(&workspace, &["config"]).stdout;
    workspace.write(USER, &printed);
    assert_eq!(run(&workspace, &["config"]).stdout, printed);
}

#[test]
fn a_manifest_that_is_wrong_is_shown() {
    let workspace = machine(None, None);
    workspace.write("manifest.yaml", format!("{RULE}run: {{rate: 5}}\n"));
    let ran = run(&workspace, &["config", "manifest.yaml"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (65, ""), "{}", ran.all());
    assert!(ran.stderr.contains("manifest.yaml:3:"), "{}", ran.stderr);
    assert_eq!(run(&workspace, &["config", "missing.yaml"]).code, 65);
}
