//! Config files: where they are, what they may say, and that what holds is what is shown.

mod common;

use common::{Ran, Workspace};
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

const SETTINGS: [Setting; 21] = [
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
