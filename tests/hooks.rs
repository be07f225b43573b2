//! Who is told of a run's end, and that nothing that comes of it changes the run.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;
#[path = "common/listener.rs"]
mod listener;
#[path = "common/world.rs"]
mod world;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bad_server::{Act, Signal};
use common::{DATASET, Workspace};
use listener::Listener;
use serde_json::{Value, json};
use world::{SMALL, World};

/// No test waits so long: it ends one that would otherwise hang.
const SAFETY_NET: Duration = Duration::from_mins(1);

/// Two files, and hooks.
fn workspace(hooks: &str) -> Workspace {
    let mut workspace = Workspace::with(
        &format!(
            "version: 1\nname: told\ndefaults: {{dataset_id: {DATASET}}}\nuploads:\n\
             - {{name: all, root: in, include: '*'}}\nrun: {{in_doubt: hold}}\n\
             on_finish: {hooks}\n"
        ),
        &[("in/a.txt", "four"), ("in/b.pdf", "seven..")],
    );
    workspace.env("PATH", "/usr/local/bin:/usr/bin:/bin");
    workspace
}

const APPLY: [&str; 4] = ["apply", "manifest.yaml", "--sandbox", "--allow-hooks"];

/// As `APPLY`, with what goes wrong.
fn apply_with(workspace: &Workspace, faults: &str) -> common::Ran {
    workspace.write("faults.yaml", faults);
    workspace.run(&[&APPLY[..], &["--faults", "faults.yaml"]].concat())
}

fn assert_is_summary(summary: &Value) {
    let printed = Workspace::new().run(&["schema", "summary"]);
    let schema: Value = serde_json::from_str(&printed.stdout).expect("a schema");
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .expect("a schema");
    let wrong: Vec<String> = validator
        .iter_errors(summary)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{summary:#}");
}

#[test]
fn a_command_and_a_url_are_told_once_and_alike() {
    let listener = Listener::start(Some("204 No Content"));
    let workspace = workspace(&format!(
        "{{command: [sh, -c, 'cat >> told.json'], url: '{}/hook?${{{{ run.id }}}}'}}",
        listener.url()
    ));
    let ran = apply_with(
        &workspace,
        "faults: [{fault: status, status: 422, file: '*.pdf'}]",
    );
    assert_eq!(ran.code, 1, "{}", ran.all());
    let posted = listener.next();
    let summary = workspace.json("told.json");
    assert_eq!(posted.body, summary);
    assert_is_summary(&summary);
    let report = workspace.report();
    let header = &report["header"];
    for same in [
        "manifest",
        "run_id",
        "outcomes",
        "planned",
        "bytes_stored",
        "exit_code",
    ] {
        assert_eq!(summary[same], header[same], "{same}");
    }
    assert_eq!(summary["exit_code"], 1);
    assert_eq!(summary["outcomes"]["stored"], 1);
    assert_eq!(summary["outcomes"]["rejected"], 1);
    assert_eq!(summary["bytes_stored"], 4);
    assert_eq!(summary["service"], "sandbox");
    assert_eq!(
        (&summary["in_doubt"], &summary["retries"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(summary["last_success"], Value::Null);
    let reports = summary["reports"].as_array().expect("reports");
    assert_eq!(reports.len(), 2);
    for report in reports {
        assert!(
            Path::new(report.as_str().expect("a path")).is_file(),
            "{report}"
        );
    }
    assert_eq!(
        summary["text"],
        "roe-batch: told: 2 files planned, 1 stored, 1 rejected (4 B stored); exit code 1"
    );
    let run = summary["run_id"].as_str().expect("an id");
    assert_eq!(posted.line, format!("POST /hook?{run} HTTP/1.1"));
    assert_eq!(posted.headers["content-type"], "application/json");
    assert!(!posted.headers.contains_key("authorization"));
    assert!(listener.is_silent());
}

#[test]
fn hooks_need_to_be_allowed_by_who_applies_the_manifest() {
    let mut workspace =
        workspace("[{command: [sh, -c, 'touch ran']}, {url: 'https://127.0.0.1:9/s3cret'}]");
    let ran = workspace.run(&APPLY[..3]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(
        ran.stderr,
        "notice: hook not run: `sh`: hooks of a manifest need --allow-hooks\n\
         notice: hook not run: https://127.0.0.1:9: hooks of a manifest need --allow-hooks\n"
    );
    assert!(!workspace.at("ran").exists());
    workspace.env("ROE_BATCH_ALLOW_HOOKS", "1");
    assert_eq!(workspace.run(&APPLY[..3]).code, 0);
    assert!(workspace.at("ran").exists());
}

#[test]
fn a_command_has_no_secret_in_its_environment_and_runs_beside_the_manifest() {
    let mut workspace = workspace("{command: [bin/hook, '${{ manifest.name }}']}");
    workspace.write(
        "bin/hook",
        "#!/bin/sh\nenv > env.txt\nprintf '%s' \"$1\" > argument\n",
    );
    common_executable(&workspace.at("bin/hook"));
    for (name, value) in [
        ("ROE_API_KEY", "s3cret-test-key"),
        ("ROE_BATCH_API_KEY_FILE", ""),
        ("COPY", "s3cret-test-key"),
        ("GITHUB_TOKEN", "s3cret-token"),
        ("FORWARD", "http://user:s3cret@proxy:3128"),
        ("TEAM", "ops"),
    ] {
        workspace.env(name, value);
    }
    let ran = workspace.run(&APPLY);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
    let environment = fs::read_to_string(workspace.at("env.txt")).expect("an environment");
    assert!(!environment.contains("s3cret"), "{environment}");
    assert!(environment.contains("TEAM=ops\n"), "{environment}");
    let argument = fs::read_to_string(workspace.at("argument")).expect("an argument");
    assert_eq!(argument, "told");
}

fn common_executable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("its mode");
}

/// Waits until a process is gone, or is only left to be buried by whoever adopted it.
fn assert_ends(id: &str) {
    let patience = Instant::now() + SAFETY_NET;
    loop {
        let state = fs::read_to_string(format!("/proc/{}/stat", id.trim()));
        let Ok(state) = state else { return };
        if state
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('Z'))
        {
            return;
        }
        assert!(Instant::now() < patience, "{id} lives: {state}");
        thread::yield_now();
    }
}

#[test]
fn a_command_that_hangs_is_killed_with_all_that_it_began() {
    let workspace = workspace(
        "{timeout: 1s, command: [sh, -c, 'echo begun; sleep 1000 & echo $! > pid; wait']}",
    );
    let ran = workspace.run(&APPLY);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(
        ran.stderr,
        "`sh`: begun\nnotice: hook failed: `sh`: not done within 1 s; it was killed\n"
    );
    assert_ends(&fs::read_to_string(workspace.at("pid")).expect("an id"));
}

#[test]
fn what_a_command_leaves_behind_with_its_streams_is_killed_too() {
    let workspace = workspace("{command: [sh, -c, 'sleep 1000 & echo $! > pid']}");
    let ran = workspace.run(&APPLY);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
    assert_ends(&fs::read_to_string(workspace.at("pid")).expect("an id"));
}

#[test]
fn whatever_a_command_does_the_run_is_what_it_was() {
    for (command, said) in [
        (
            "[sh, -c, 'exit 3']",
            "notice: hook failed: `sh`: exit status: 3\n",
        ),
        (
            "[sh, -c, 'kill -9 $$']",
            "notice: hook failed: `sh`: signal: 9 (SIGKILL)\n",
        ),
        ("[sh, -c, 'exec <&-; exit 0']", ""),
        (
            "[no-such-program]",
            "notice: hook failed: `no-such-program`: it cannot be run: No such file or directory \
             (os error 2)\n",
        ),
        (
            "[./manifest.yaml]",
            "notice: hook failed: `./manifest.yaml`: it cannot be run: Permission denied (os \
             error 13)\n",
        ),
        (
            "[printf, 'a\\033[2Jb\\n\\377']",
            "`printf`: a\\u{1b}[2Jb\n`printf`: \u{fffd}\n",
        ),
    ] {
        let workspace = workspace(&format!(
            "[{{command: {command}}}, {{command: [touch, next]}}]"
        ));
        let ran = workspace.run(&APPLY);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, said), "{command}");
        assert!(
            ran.stdout.contains("stored               2"),
            "{}",
            ran.stdout
        );
        assert!(workspace.at("next").exists(), "{command}");
    }
    let workspace = workspace(
        "{command: [sh, -c, 'yes | head -c 3000000; yes | head -c 3000000 >&2'], timeout: 10s}",
    );
    let ran = workspace.run(&APPLY);
    assert_eq!(ran.code, 0);
    assert!(ran.stderr.len() < 1000, "{}", ran.stderr);
    assert!(ran.stderr.contains("`sh`: … and more\n"), "{}", ran.stderr);
}

#[test]
fn whatever_a_url_answers_the_run_is_what_it_was() {
    let elsewhere = Listener::start(Some("200 OK"));
    let moved: &'static str =
        Box::leak(format!("302 Found\r\nLocation: {}", elsewhere.url()).into_boxed_str());
    for (answer, said) in [
        (Some("500 Oops"), "HTTP 500"),
        (Some(moved), "HTTP 302; redirects are not followed"),
        (None, "not done within 1 s"),
    ] {
        let listener = Listener::start(answer);
        let mut workspace = workspace("{url: '${{ env.HOOK_URL_TOKEN }}', timeout: 1s}");
        workspace.env("HOOK_URL_TOKEN", &format!("{}/s3cret", listener.url()));
        let ran = workspace.run(&APPLY);
        let expected = format!("notice: hook failed: {}: {said}\n", listener.url());
        assert_eq!((ran.code, ran.stderr), (0, expected));
        assert_eq!(listener.next().line, "POST /s3cret HTTP/1.1");
    }
    assert!(elsewhere.is_silent());
    let workspace = workspace("{url: 'http://127.0.0.1:1/s3cret'}");
    let ran = workspace.run(&APPLY);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(
        ran.stderr.contains("hook failed: http://127.0.0.1:1: "),
        "{}",
        ran.stderr
    );
    assert!(!ran.all().contains("s3cret"), "{}", ran.all());
}

#[test]
fn a_hook_hears_of_the_runs_that_it_is_for() {
    let told = |on: &str| format!("{{on: {on}, command: [sh, -c, 'echo >> {on}']}}");
    let hooks = ["always", "stored", "failure", "change"]
        .map(told)
        .join(", ");
    let workspace = workspace(&format!("[{hooks}]"));
    let refuse = "faults: [{fault: status, status: 422, file: '*.pdf'}]";
    let heard = || {
        ["always", "stored", "failure", "change"].map(|on| {
            let lines = fs::read_to_string(workspace.at(on));
            lines.map_or(0, |lines| lines.lines().count())
        })
    };
    // The first run fails for one of the files, and so does the second; the third is well.
    for (faults, code, expected) in [
        (refuse, 1, [1, 1, 1, 1]),
        (refuse, 1, [2, 1, 2, 1]),
        ("faults: []", 0, [3, 2, 2, 2]),
        ("faults: []", 0, [4, 2, 2, 2]),
    ] {
        let ran = apply_with(&workspace, faults);
        assert_eq!(ran.code, code, "{}", ran.all());
        assert_eq!(heard(), expected, "{}", ran.all());
    }
    // A run that does not come about, since another one is under way.
    let lock = fs::File::open(workspace.at(".roe-batch/lock")).expect("a lock file");
    lock.lock().expect("the lock");
    assert_eq!(workspace.run(&APPLY).code, 75);
    assert_eq!(heard(), [5, 2, 3, 3]);
    // One that is told to leave it is no run.
    let skipped = workspace.run(&[&APPLY[..], &["--if-locked", "skip"]].concat());
    assert_eq!(skipped.code, 0);
    assert_eq!(heard(), [5, 2, 3, 3]);
}

#[test]
fn a_run_without_a_key_is_told_of_and_one_with_a_wrong_manifest_is_not() {
    let workspace = workspace("{command: [sh, -c, 'cat > told.json']}");
    let ran = workspace.run(&["apply", "manifest.yaml", "--allow-hooks"]);
    assert_eq!(ran.code, 77, "{}", ran.all());
    let summary = workspace.json("told.json");
    assert_is_summary(&summary);
    assert_eq!(summary["exit_code"], 77);
    assert_eq!(summary["outcomes"], Value::Null);
    assert_eq!(summary["stopped"], json!(["there is no API key"]));
    assert_eq!(
        summary["text"],
        "roe-batch: told: no run; there is no API key; exit code 77"
    );
    fs::remove_file(workspace.at("told.json")).expect("removed");
    let manifest = fs::read_to_string(workspace.at("manifest.yaml")).expect("a manifest");
    workspace.write("manifest.yaml", manifest + "more: keys\n");
    assert_eq!(workspace.run(&APPLY).code, 65);
    assert!(!workspace.at("told.json").exists());
}

#[test]
fn the_lock_is_free_while_hooks_run() {
    let binary = env!("CARGO_BIN_EXE_roe-batch");
    let workspace = workspace(&format!(
        "{{on: stored, command: [{binary}, apply, manifest.yaml, --sandbox]}}"
    ));
    let ran = workspace.run(&APPLY);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(ran.stderr.contains("nothing to upload"), "{}", ran.stderr);
}

#[test]
fn an_address_that_would_tell_everybody_is_a_mistake_of_the_manifest() {
    let workspace = workspace("\n- url: http://hooks.example.com/s3cret\n");
    for command in ["check", "plan", "apply"] {
        let ran = workspace.run(&[command, "manifest.yaml"]);
        assert_eq!(ran.code, 65, "{}", ran.all());
        let all = ran.all();
        assert!(all.contains("manifest.yaml:8:3"), "{all}");
        assert!(all.contains("the hook's `url` cannot be used: what is posted there would travel unencrypted; use https"), "{all}");
        assert!(!all.contains("s3cret"), "{all}");
    }
}

/// A world whose runs are told of, and whose uploads wait.
fn waiting(hooks: &str) -> (World, Arc<Signal>, Arc<Signal>) {
    let (begun, told) = (Signal::new(), Signal::new());
    let world = {
        let (begun, told) = (Arc::clone(&begun), Arc::clone(&told));
        World::new(move |upload| {
            begun.set();
            told.wait();
            Act::store(upload)
        })
    };
    let manifest = format!("{}on_finish: {hooks}\n", world::MANIFEST);
    let world = world.manifest(&manifest);
    (world.file("a.bin", SMALL).file("b.bin", SMALL), begun, told)
}

#[test]
fn an_interrupted_run_is_told_of() {
    let listener = Listener::start(Some("200 OK"));
    let (world, begun, told) = waiting(&format!("{{url: '{}'}}", listener.url()));
    let mut running = world.start(&["--allow-hooks", "--concurrency", "1", "--grace", "60"]);
    begun.wait();
    running.terminate();
    running.until_it_says("no new uploads");
    told.set();
    let ran = world.end(running);
    assert_eq!(ran.code, 143, "{}", ran.stderr);
    let summary = listener.next().body;
    assert_is_summary(&summary);
    assert_eq!(summary["exit_code"], 143);
    assert_eq!(summary["outcomes"], ran.report["header"]["outcomes"]);
    assert_eq!(summary["outcomes"]["not_attempted"], 1);
    assert_eq!(summary["stopped"], ran.report["header"]["stopped"]);
    assert!(listener.is_silent());
}

#[test]
fn a_second_signal_leaves_hooks_out() {
    let listener = Listener::start(Some("200 OK"));
    let (world, begun, told) = waiting(&format!("{{url: '{}'}}", listener.url()));
    let mut running = world.start(&["--allow-hooks", "--concurrency", "1", "--grace", "60"]);
    begun.wait();
    running.terminate();
    running.until_it_says("no new uploads");
    running.terminate();
    running.until_it_says("hook not run");
    told.set();
    assert_eq!(world.end(running).code, 143);
    assert!(listener.is_silent());
}

#[test]
fn a_signal_ends_hooks_that_hang() {
    let listener = Listener::start(None);
    let (world, _, told) = waiting(&format!("{{url: '{}', timeout: 10m}}", listener.url()));
    told.set();
    let running = world.start(&["--allow-hooks"]);
    listener.next();
    running.terminate();
    let ran = world.end(running);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("SIGTERM: hooks that are not done are dropped"),
        "{}",
        ran.stderr
    );
}

#[test]
fn the_readmes_hooks_are_understood() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("a README");
    let hooks = readme.split("```yaml\non_finish:").nth(1).expect("hooks");
    let hooks = hooks.split("```").next().expect("its end");
    let mut workspace = workspace(hooks);
    workspace.env("CHAT_WEBHOOK_URL", "https://chat.example.com/s3cret");
    let ran = workspace.run(&["check", "manifest.yaml", "--strict"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
}

#[test]
fn a_variable_without_a_value_is_a_mistake_with_its_place() {
    let workspace = workspace("[{url: '${{ env.HOOK_URL }}'}]");
    let ran = workspace.run(&["check", "manifest.yaml"]);
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(ran.stderr.contains("manifest.yaml:7:24"), "{}", ran.all());
}
