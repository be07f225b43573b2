//! The example for GitHub Actions does what the comment at its head says, with the scripts in it.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use common::service::{Service, rows};
use common::{DATASET, KEY, Workspace};
use serde_json::Value;

const GH: &str = "#!/bin/sh\nprintf '%s\\n' \"$@\" > gh-arguments\ncat \"$7\" > gh-comment\n";

fn workflow() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/github-actions/roe-batch.yaml");
    serde_yaml::from_str(&fs::read_to_string(path).expect("a workflow")).expect("YAML")
}

/// The scripts of a job, by their names and in their order.
fn scripts(workflow: &Value, job: &str) -> Vec<(String, String)> {
    let steps = workflow["jobs"][job]["steps"].as_array().expect("steps");
    let text = |step: &Value, key: &str| step[key].as_str().map(ToOwned::to_owned);
    steps
        .iter()
        .filter_map(|step| Some((text(step, "name")?, text(step, "run")?)))
        .collect()
}

/// A checkout, with what the runner gives a script.
struct Runner {
    workspace: Workspace,
    variables: BTreeMap<&'static str, String>,
}

impl Runner {
    fn new(service: &Service) -> Self {
        let workspace = Workspace::with(
            &format!(
                "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}}}\n"
            ),
            &[("in/a.txt", "a"), ("bin/gh", GH)],
        );
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(workspace.at("bin/gh"), executable).expect("a mode");
        fs::create_dir(workspace.at("temp")).expect("a folder");
        let at = |name: &str| workspace.at(name).display().to_string();
        let program = Path::new(env!("CARGO_BIN_EXE_roe-batch"));
        let programs = program.parent().expect("a folder").display();
        let variables = BTreeMap::from([
            ("PATH", format!("{}:{programs}:/usr/bin:/bin", at("bin"))),
            ("RUNNER_TEMP", at("temp")),
            ("MANIFEST", "manifest.yaml".to_owned()),
            ("ROE_BATCH_STATE", at("state")),
            ("ROE_BASE_URL", service.url()),
            ("NUMBER", "7".to_owned()),
        ]);
        Self {
            workspace,
            variables,
        }
    }

    /// None where there is no bash, which runs scripts there.
    #[expect(clippy::print_stderr, reason = "says what is passed over")]
    fn run(&self, script: &str, key: Option<&str>) -> Option<Output> {
        let mut bash = Command::new("bash");
        bash.args(["-e", "-c", script])
            .current_dir(self.workspace.path())
            .env_clear()
            .env("ROE_BATCH_CONFIG", "")
            .envs(&self.variables)
            .envs(key.map(|key| ("ROE_API_KEY", key)));
        match bash.output() {
            Ok(output) => Some(output),
            Err(why) => {
                eprintln!("passed over: there is no bash: {why}");
                None
            }
        }
    }
}

#[test]
fn a_pull_request_is_checked_and_gets_the_plan_and_what_is_merged_is_uploaded() {
    let workflow = workflow();
    let mut service = Service::start();
    let runner = Runner::new(&service);
    for (job, key, names) in [
        ("check", None, &["Check", "Plan", "Comment"][..]),
        ("apply", Some(KEY), &["Apply"]),
        ("check", None, &["Check", "Plan", "Comment"]),
    ] {
        let scripts = scripts(&workflow, job);
        let found: Vec<&str> = scripts.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(found, names);
        for (name, script) in scripts {
            let Some(output) = runner.run(&script, key) else {
                return;
            };
            assert!(output.status.success(), "{name}: {output:?}");
        }
        let read = |name: &str| fs::read_to_string(runner.workspace.at(name)).expect("read");
        let comment = read("gh-comment");
        let wanted = format!(" {} to upload", 1 - service.stats().stored);
        if job == "check" {
            let (text, end) = comment.split_once("````````text\n").expect("a block");
            assert_eq!(text, "Once this is merged:\n");
            assert!(
                end.ends_with("\n````````\n") && end.contains(&wanted),
                "{comment}"
            );
            let file = runner.workspace.at("temp/comment.md");
            let arguments = format!(
                "pr\ncomment\n7\n--edit-last\n--create-if-none\n--body-file\n{}\n",
                file.display()
            );
            assert_eq!(read("gh-arguments"), arguments);
        }
    }
    assert_eq!(service.settled().len(), 1);
    let report = runner.workspace.json("state/reports/manifest.json");
    assert_eq!(rows(&report)[0]["outcome"], "stored");
}

#[test]
fn a_mistake_stops_a_pull_request() {
    let workflow = workflow();
    let runner = Runner::new(&Service::start());
    runner
        .workspace
        .write("manifest.yaml", "version: 1\nuplods: []\n");
    let (_, check) = &scripts(&workflow, "check")[0];
    if let Some(output) = runner.run(check, None) {
        assert_eq!(output.status.code(), Some(65), "{output:?}");
    }
}

#[test]
fn nothing_of_a_pull_request_is_part_of_a_script_and_only_a_merge_has_the_key() {
    let workflow = workflow();
    for job in ["check", "apply"] {
        for (name, script) in scripts(&workflow, job) {
            assert!(!script.contains("${{"), "{name}: {script}");
        }
    }
    let check = &workflow["jobs"]["check"];
    assert!(!check.to_string().contains("secrets."));
    let only = check["if"].as_str().expect("a condition");
    assert!(
        only.contains("head.repo.full_name == github.repository"),
        "{only}"
    );
    assert_eq!(
        workflow["jobs"]["apply"]["if"],
        "github.event_name == 'push'"
    );
    assert_eq!(
        workflow["permissions"],
        serde_json::json!({"contents": "read"})
    );
}
