//! `schedule` prints what cron, systemd and Kubernetes take, and the runs work as printed.

#![expect(
    clippy::needless_raw_string_hashes,
    reason = "the snapshot tool writes them so"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::service::{Service, rows};
use common::{DATASET, KEY, Workspace};
use serde_json::Value;
use snapbox::{assert_data_eq, str};

const PROGRAM: &str = env!("CARGO_BIN_EXE_roe-batch");

/// A manifest with everything that a place must be found for.
fn workspace() -> Workspace {
    let workspace = Workspace::with(
        &format!(
            "version: 1\nname: Invoices (EU)\nuploads:\n- name: all\n  root: inbox\n  include: '**'\n  \
             dataset_id: {DATASET}\n  organization_id: ${{{{ env.ROE_ORGANIZATION_ID }}}}\n  \
             table: {{path: rows.csv, key: path, rows_without_file: ignore}}\n\
             report: ['reports/${{{{ run.id }}}}.csv', reports/latest.json]\n"
        ),
        &[("inbox/a.txt", "a"), ("rows.csv", "path,team\na.txt,ops\n")],
    );
    write_key(&workspace, "key");
    workspace
}

fn write_key(workspace: &Workspace, name: &str) {
    workspace.write(name, format!("{KEY}\n"));
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(workspace.at(name), mode).expect("a mode");
}

const ORGANIZATION: &str = "ROE_ORGANIZATION_ID=5e0c1a52-0000-4000-8000-000000000002";

/// What differs from machine to machine, taken out.
fn redacted(workspace: &Workspace, text: &str) -> String {
    let folder = workspace.path().to_str().expect("UTF-8");
    let user = format!("User={}\n", rustix::process::getuid().as_raw());
    text.replace(folder, "[DIR]")
        .replace(PROGRAM, "[PROGRAM]")
        .replace(&user, "User=[UID]\n")
        // Who runs the tests, and whether their folders are below `/tmp`, differs too.
        .replace(" /tmp /var/tmp\n", "\n")
        .replace("PrivateTmp=yes\n", "")
        .replace("CapabilityBoundingSet=\n", "")
}

fn shown(args: &[&str]) -> String {
    let workspace = workspace();
    let ran = workspace.run(&[&["schedule"][..], args].concat());
    assert!(!ran.all().contains(KEY));
    redacted(&workspace, &ran.all())
}

#[test]
fn cron_gets_a_line() {
    let args = ["cron", "manifest.yaml", "--api-key-file", "key"];
    assert_data_eq!(
        shown(&[&args[..], &["--env", ORGANIZATION]].concat()),
        str![[r#"
exit 0
--- stdout
# roe-batch-invoices-eu: add this with `crontab -e`. cron mails what it prints, where it can.
15 2 * * * ROE_ORGANIZATION_ID=5e0c1a52-0000-4000-8000-000000000002 [PROGRAM] apply [DIR]/manifest.yaml --state [DIR]/.roe-batch --api-key-file [DIR]/key --grace 20s --if-locked skip
--- stderr

"#]]
    );
}

#[test]
fn systemd_gets_a_service_and_a_timer() {
    let args = ["systemd", "manifest.yaml", "--api-key-file", "key"];
    assert_data_eq!(
        shown(&[&args[..], &["--env", ORGANIZATION]].concat()),
        str![[r#"
exit 0
--- stdout
# /etc/systemd/system/roe-batch-invoices-eu.service
# Before its first run, as its user: mkdir -p -m 700 [DIR]/.roe-batch [DIR]/reports
[Unit]
Description=Upload files to Roe AI (roe-batch-invoices-eu)
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
User=[UID]
Environment="ROE_ORGANIZATION_ID=5e0c1a52-0000-4000-8000-000000000002"
# Read by systemd itself: nobody but root needs to be able to.
LoadCredential=api-key:[DIR]/key
ExecStart=[PROGRAM] apply [DIR]/manifest.yaml --state [DIR]/.roe-batch --api-key-file "${CREDENTIALS_DIRECTORY}/api-key" --grace 20s --if-locked skip
# In good order, and the next run goes on: the deadline came, or somebody stopped it.
SuccessExitStatus=75 129 130 143
# Tried again soon: it gave up on the service (69), or was killed. The rest is for people.
Restart=on-failure
RestartSec=15min
RestartPreventExitStatus=1 64 65 70 74 76 77
TimeoutStartSec=infinity
# Longer than --grace: what is under way may end, and a report is written.
KillSignal=SIGTERM
TimeoutStopSec=60s

NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
ReadWritePaths=[DIR]/.roe-batch [DIR]/reports

# /etc/systemd/system/roe-batch-invoices-eu.timer
# Then: systemctl daemon-reload && systemctl enable --now roe-batch-invoices-eu.timer
[Unit]
Description=When to upload files to Roe AI (roe-batch-invoices-eu)

[Timer]
OnCalendar=*-*-* 02:15:00
RandomizedDelaySec=5min
# A turn that the machine slept through is made up for.
Persistent=true

[Install]
WantedBy=timers.target
--- stderr

"#]]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "all of what is printed")]
fn kubernetes_gets_a_cron_job_and_a_claim() {
    let args = ["kubernetes", "manifest.yaml", "--image", "roe-batch:1"];
    assert_data_eq!(
        shown(&[&args[..], &["--env", ORGANIZATION]].concat()),
        str![[r#"
exit 0
--- stdout
# Before `kubectl apply -f`:
# kubectl create configmap roe-batch-invoices-eu --from-file=manifest.yaml=/dev/stdin <[DIR]/manifest.yaml
# kubectl create secret generic roe-batch-invoices-eu --from-file=api-key=/dev/stdin <KEY-FILE
# The claim roe-batch-invoices-eu-files is your own: what the manifest names lies there as it lies beside the
# manifest. The ledger's volume must have file locks, as disks do, and NFS often does not.
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: roe-batch-invoices-eu-ledger
  labels: {app.kubernetes.io/name: roe-batch, app.kubernetes.io/instance: roe-batch-invoices-eu}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1Gi}}
---
apiVersion: batch/v1
kind: CronJob
metadata:
  name: roe-batch-invoices-eu
  labels: {app.kubernetes.io/name: roe-batch, app.kubernetes.io/instance: roe-batch-invoices-eu}
spec:
  schedule: "15 2 * * *"
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 3600
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 3
  jobTemplate:
    spec:
      # Tried again: it gave up on the service (69), or was killed.
      backoffLimit: 3
      podFailurePolicy:
        rules:
          # That a node is drained is no failure.
          - action: Ignore
            onPodConditions:
              - type: DisruptionTarget
                status: "True"
          # Not tried again: the deadline came (75), or somebody has to look.
          - action: FailJob
            onExitCodes:
              containerName: roe-batch
              operator: In
              values: [1, 64, 65, 70, 74, 75, 76, 77]
      template:
        metadata:
          labels: {app.kubernetes.io/name: roe-batch, app.kubernetes.io/instance: roe-batch-invoices-eu}
        spec:
          restartPolicy: Never
          # Longer than --grace: what is under way may end, and a report is written.
          terminationGracePeriodSeconds: 60
          automountServiceAccountToken: false
          enableServiceLinks: false
          securityContext:
            runAsNonRoot: true
            runAsUser: 65532
            runAsGroup: 65532
            fsGroup: 65532
            fsGroupChangePolicy: OnRootMismatch
            seccompProfile: {type: RuntimeDefault}
          containers:
            - name: roe-batch
              image: "roe-batch:1"
              command:
                - roe-batch
                - apply
                - "/batch/manifest.yaml"
                - "--state"
                - "/batch/.roe-batch"
                - "--grace"
                - "20s"
                - "--if-locked"
                - skip
              env:
                - name: ROE_ORGANIZATION_ID
                  value: "5e0c1a52-0000-4000-8000-000000000002"
                - name: ROE_API_KEY
                  valueFrom: {secretKeyRef: {name: roe-batch-invoices-eu, key: api-key}}
              securityContext:
                allowPrivilegeEscalation: false
                readOnlyRootFilesystem: true
                capabilities: {drop: [ALL]}
              resources:
                requests: {cpu: 100m, memory: 128Mi}
                limits: {memory: 512Mi}
              volumeMounts:
                - name: manifest
                  mountPath: "/batch/manifest.yaml"
                  subPath: manifest.yaml
                  readOnly: true
                - name: ledger
                  mountPath: "/batch/.roe-batch"
                  subPath: state
                - name: ledger
                  mountPath: "/batch/reports"
                  subPath: reports/reports
                - name: files
                  mountPath: "/batch/inbox"
                  subPath: inbox
                  readOnly: true
                - name: files
                  mountPath: "/batch/rows.csv"
                  subPath: rows.csv
                  readOnly: true
                - name: tmp
                  mountPath: "/tmp"
          volumes:
            - name: manifest
              configMap: {name: roe-batch-invoices-eu}
            - name: ledger
              persistentVolumeClaim: {claimName: roe-batch-invoices-eu-ledger}
            - name: files
              persistentVolumeClaim: {claimName: roe-batch-invoices-eu-files, readOnly: true}
            - name: tmp
              emptyDir: {sizeLimit: 1Gi}
--- stderr

"#]]
    );
}

/// What is told of a command line: `¶` is a line break in it, `~` a space, `KEY` an option.
const REFUSED: [(&str, i32, &str); 22] = [
    ("cron -", 64, "standard input cannot be read again"),
    ("cron none.yaml", 65, "cannot read none.yaml"),
    ("cron manifest.yaml KEY", 65, "no environment variables but"),
    ("cron ok.yaml", 64, "--api-key-file"),
    ("cron ok.yaml --api-key-file -", 64, "standard input"),
    ("cron ok.yaml --api-key-file open", 77, "everybody can read"),
    ("cron ok.yaml KEY --cron @daily", 64, "give minute, hour"),
    ("cron ok.yaml KEY --env A_TOKEN=x", 64, "no place for one"),
    (
        "cron ok.yaml KEY --env A=Bearer~s3cret-test-key",
        64,
        "A holds the API key",
    ),
    (
        "cron ok.yaml KEY --env A=x --env A=x",
        64,
        "gives `A` two values",
    ),
    ("cron ok.yaml KEY --env 1A=x", 64, "begins with no digit"),
    (
        "cron ok.yaml KEY --env A=x¶y",
        64,
        r#"the variable A, "x\ny", has a line break"#,
    ),
    (
        "cron ok.yaml KEY --base-url http://example.com",
        64,
        "the API's address",
    ),
    (
        "cron ok.yaml KEY --log none/log",
        64,
        "the folder of the log",
    ),
    ("kubernetes ok.yaml --image ", 64, "--image"),
    (
        "cron line¶break.yaml KEY",
        64,
        r#"line\nbreak.yaml", has a line break"#,
    ),
    ("systemd a\u{2028}b.yaml KEY", 64, "has a line break"),
    (
        "systemd ok.yaml KEY --on-calendar daily¶User=root",
        64,
        "systemd-analyze calendar",
    ),
    ("systemd ok.yaml KEY --state x/y/z", 74, "the state folder"),
    ("kubernetes ok.yaml", 64, "--image"),
    (
        "kubernetes ok.yaml --image a¶b",
        64,
        r#"the image, "a\nb", has a line break"#,
    ),
    (
        "kubernetes root.yaml --image x",
        64,
        "in a folder of its own",
    ),
];

#[test]
fn what_cannot_be_scheduled_is_told_now() {
    let mut workspace = workspace();
    workspace.env("ROE_API_KEY", KEY);
    workspace.write("open", KEY);
    let mode = fs::Permissions::from_mode(0o644);
    fs::set_permissions(workspace.at("open"), mode).expect("a mode");
    let manifest = "version: 1\nuploads: [{name: a, root: in, include: '*'}]\n";
    for name in ["ok.yaml", "line\nbreak.yaml", "a\u{2028}b.yaml"] {
        workspace.write(name, manifest);
    }
    workspace.write("root.yaml", manifest.replace("root: in", "root: ."));
    for (line, code, says) in REFUSED {
        let line = line.replace("KEY", "--api-key-file key");
        let words = line
            .split(' ')
            .map(|w| w.replace('¶', "\n").replace('~', " "));
        let args: Vec<String> = ["schedule".to_owned()].into_iter().chain(words).collect();
        let ran = workspace.run(&args);
        let shown = ran.all();
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (code, ""),
            "{line}: {shown}"
        );
        assert!(ran.stderr.contains(says), "{line}: {shown}");
        assert!(!shown.contains(KEY), "{line}: {shown}");
    }
}

#[test]
fn what_is_set_now_and_belongs_to_the_runs_is_in_what_is_printed() {
    let mut workspace = workspace();
    let (name, organization) = ORGANIZATION.split_once('=').expect("a value");
    workspace.env(name, organization);
    workspace.env("ROE_BASE_URL", "https://roe.example.com");
    workspace.env("ROE_BATCH_STATE", "elsewhere");
    workspace.env("ROE_BATCH_API_KEY_FILE", "later");
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_TIMEOUT", "3m");
    workspace.env("HTTPS_PROXY", "http://proxy.example.com");
    workspace.env("NO_PROXY", "");
    for with in ["cron", "systemd"] {
        let ran = workspace.run(&["schedule", with, "manifest.yaml"]);
        assert_eq!(ran.code, 0, "{}", ran.all());
        for part in [
            organization.to_owned(),
            "--base-url https://roe.example.com ".to_owned(),
            format!("--state {} ", workspace.at("elsewhere").display()),
            workspace.at("later").display().to_string(),
        ] {
            assert!(ran.stdout.contains(&part), "{part} in {}", ran.all());
        }
        assert!(ran.stderr.contains("is not there yet"), "{}", ran.all());
        let left = "unless --env gives it: HTTPS_PROXY, ROE_TIMEOUT\n";
        assert!(ran.stderr.ends_with(left), "{}", ran.all());
        assert!(!ran.all().contains(KEY), "{}", ran.all());
    }
}

/// Runs what cron would: the shell, hardly any environment, another folder.
fn as_cron(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", command])
        .current_dir("/")
        .env_clear()
        .env("ROE_BATCH_CONFIG", "")
        .stdin(Stdio::null());
    shell
}

#[test]
fn the_line_of_a_crontab_uploads_with_an_empty_environment() {
    let mut service = Service::start();
    let outer = workspace();
    let hostile = "100% it's $HOME \"now\"";
    for name in ["manifest.yaml", "rows.csv", "inbox/a.txt"] {
        let text = fs::read(outer.at(name)).expect("read");
        outer.write(&format!("{hostile}/{name}"), text);
    }
    write_key(&outer, &format!("{hostile}/key"));
    let at = |name: &str| format!("{hostile}/{name}");
    let ran = outer.run(&[
        "schedule",
        "cron",
        &at("manifest.yaml"),
        "--api-key-file",
        &at("key"),
        "--log",
        &at("log"),
        "--base-url",
        &service.url(),
        "--env",
        ORGANIZATION,
        "--cron",
        "*/5 * * * *",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let line = ran.stdout.lines().nth(1).expect("a line");
    let command = line
        .strip_prefix("*/5 * * * * ")
        .expect(line)
        .replace("\\%", "%");
    for stored in ["stored               1", "skipped              1"] {
        let status = as_cron(&command).status().expect("a shell");
        let log = fs::read_to_string(outer.at(at("log"))).expect("a log");
        assert!(status.success(), "{status}: {log}");
        assert!(log.contains(stored), "{log}");
    }
    assert_eq!(rows(&outer.json(&at("reports/latest.json"))).len(), 1);
    assert_eq!(service.settled().len(), 1);
}

/// What a program says of it, or why it is passed over.
fn said(command: &mut Command, name: &str) -> Option<(bool, String)> {
    match command.output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            Some((
                output.status.success(),
                String::from_utf8_lossy(&text).into_owned(),
            ))
        }
        Err(why) => {
            passed_over(&format!("{name}: {why}"));
            None
        }
    }
}

#[expect(clippy::print_stderr, reason = "says what is passed over")]
fn passed_over(what: &str) {
    eprintln!("passed over: {what}");
}

#[test]
fn cron_itself_takes_the_line() {
    let workspace = workspace();
    let ran = workspace.run(&[
        "schedule",
        "cron",
        "manifest.yaml",
        "--api-key-file",
        "key",
        "--env",
        ORGANIZATION,
        "--cron",
        "*/7 0-6,22 1 1,7 1-5",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    workspace.write("crontab", &ran.stdout);
    // Only checks, and installs nothing; not every cron can.
    let mut crontab = Command::new("crontab");
    crontab.arg("-T").arg(workspace.at("crontab"));
    let Some((took, text)) = said(&mut crontab, "crontab") else {
        return;
    };
    if text.contains("usage") || text.contains("invalid option") {
        passed_over("this crontab only installs");
        return;
    }
    assert!(took, "{text}\n{}", ran.stdout);
}

/// Puts both units into a folder, each printed alone, and asks systemd.
fn verified(folder: &str) {
    let workspace = workspace();
    let at = |name: &str| format!("{folder}/{name}");
    for name in ["manifest.yaml", "rows.csv"] {
        let text = fs::read(workspace.at(name)).expect("read");
        workspace.write(&at(name), text);
    }
    write_key(&workspace, &at("key"));
    let unit = |kind: &str| {
        let ran = workspace.run(&[
            "schedule",
            "systemd",
            &at("manifest.yaml"),
            "--api-key-file",
            &at("key"),
            "--env",
            ORGANIZATION,
            "--env",
            "TEAM=a \"b\" %c $d \\e 'f",
            "--on-calendar",
            "Mon..Fri *-*-* 04:00:00 Europe/Berlin",
            "--only",
            kind,
        ]);
        assert_eq!(ran.code, 0, "{}", ran.all());
        let name = format!("units/roe-batch-invoices-eu.{kind}");
        workspace.write(&name, &ran.stdout);
        assert!(
            ran.stdout
                .starts_with(&format!("# /etc/systemd/system/{}", &name[6..]))
        );
        workspace.at(name)
    };
    let units = [unit("service"), unit("timer")];
    let mut verify = Command::new("systemd-analyze");
    verify
        .args(["verify", "--man=no", "--recursive-errors=no"])
        .args(&units);
    let Some((is_good, text)) = said(&mut verify, "systemd-analyze") else {
        return;
    };
    let printed = fs::read_to_string(&units[0]).expect("a unit");
    // What it does not understand, it says and ignores.
    let is_understood = !text.contains("ignoring") && !text.contains("Unknown");
    assert!(is_good && is_understood, "{text}\n{printed}");
}

#[test]
fn systemd_itself_takes_the_units() {
    for folder in [
        "plain",
        "two words",
        "it's",
        "say \"x\"",
        "100% %h",
        "$HOME ${HOME}",
        "back\\slash \\x41",
        "größe",
    ] {
        verified(folder);
    }
}

#[test]
fn systemd_knows_what_it_is_asked_for() {
    // What verifies everything verifies nothing.
    let workspace = Workspace::new();
    let unit = "[Service]\nType=oneshot\nExecStart=/bin/true\nRestart=always\n";
    workspace.write("wrong.service", unit);
    let mut verify = Command::new("systemd-analyze");
    verify
        .args(["verify", "--man=no"])
        .arg(workspace.at("wrong.service"));
    if let Some((is_good, text)) = said(&mut verify, "systemd-analyze") {
        assert!(!is_good, "{text}");
    }
}

fn resources(workspace: &Workspace, more: &[&str]) -> Vec<Value> {
    let args = [
        "schedule",
        "kubernetes",
        "manifest.yaml",
        "--image",
        "roe-batch:1",
    ];
    let ran = workspace.run(&[&args[..], &["--env", ORGANIZATION], more].concat());
    assert_eq!(ran.code, 0, "{}", ran.all());
    let documents = ran.stdout.split("---\n");
    documents
        .map(|document| serde_yaml::from_str(document).expect(document))
        .collect()
}

#[test]
fn kubernetes_resources_fit_the_schema_of_what_they_use() {
    let schema: Value =
        serde_json::from_str(include_str!("kubernetes/schema.json")).expect("a schema");
    let schema = jsonschema::validator_for(&schema).expect("a schema");
    let workspace = workspace();
    for more in [
        &[][..],
        &["--sandbox", "--grace", "90s"],
        &[
            "--cron",
            "*/30 8-18 * * 1-5",
            "--files",
            "my-files",
            "--env",
            "TEAM=$(HOME) %d",
        ],
    ] {
        for document in resources(&workspace, more) {
            let wrong: Vec<String> = schema
                .iter_errors(&document)
                .map(|e| e.to_string())
                .collect();
            assert!(wrong.is_empty(), "{wrong:#?}\n{document:#}");
        }
    }
    let mut documents = resources(&workspace, &[]);
    let pod = "/spec/jobTemplate/spec/template/spec";
    for (place, value) in [
        ("/spec/concurrencyPolicy".to_owned(), "Allow".into()),
        (format!("{pod}/restartPolicy"), "OnFailure".into()),
        (
            format!("{pod}/containers/0/volumeMounts/0/mountPath"),
            "/a:b".into(),
        ),
        (format!("{pod}/terminationGracePeriodSeconds"), "60".into()),
    ] {
        let mut wrong = documents[1].clone();
        *wrong.pointer_mut(&place).expect("a value") = value;
        assert!(!schema.is_valid(&wrong), "{place}");
    }
    documents[0]["spec"]["accesModes"] = Value::Null;
    assert!(!schema.is_valid(&documents[0]));
}

#[test]
fn a_pod_has_all_volumes_that_it_mounts_and_no_key_in_its_text() {
    let workspace = workspace();
    let documents = resources(&workspace, &["--grace", "2m"]);
    let pod = &documents[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 160);
    let names = |of: &Value| -> Vec<String> {
        let items = of.as_array().expect("a list").iter();
        let mut names: Vec<String> = items
            .map(|item| item["name"].as_str().expect("a name").to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    };
    let container = &pod["containers"][0];
    assert_eq!(names(&pod["volumes"]), names(&container["volumeMounts"]));
    let claim = &pod["volumes"][1]["persistentVolumeClaim"]["claimName"];
    assert_eq!(*claim, documents[0]["metadata"]["name"]);
    let env = container["env"].as_array().expect("variables");
    let key = env
        .iter()
        .find(|variable| variable["name"] == "ROE_API_KEY");
    let secret = &key.expect("a key")["valueFrom"]["secretKeyRef"];
    assert_eq!(secret["name"], documents[1]["metadata"]["name"]);
    let with_sandbox = resources(&workspace, &["--sandbox"]);
    assert!(!with_sandbox[1].to_string().contains("ROE_API_KEY"));
}

/// That one value has all that another one has.
fn assert_kept(kept: &Value, printed: &Value, at: &str) {
    match (kept, printed) {
        (Value::Object(kept), Value::Object(printed)) => {
            for (key, value) in printed {
                let at = format!("{at}/{key}");
                assert_kept(
                    kept.get(key).unwrap_or_else(|| panic!("{at} is lost")),
                    value,
                    &at,
                );
            }
        }
        (Value::Array(kept), Value::Array(printed)) => {
            assert!(kept.len() >= printed.len(), "{at}");
            for (index, (kept, printed)) in kept.iter().zip(printed).enumerate() {
                assert_kept(kept, printed, &format!("{at}/{index}"));
            }
        }
        _ => assert_eq!(kept, printed, "{at}"),
    }
}

/// kubectl reads a resource as the API's own types, without a cluster where it only changes a file:
/// what is no field is lost, and what has another type is an error.
#[test]
fn kubernetes_own_types_have_every_field_of_the_cron_job() {
    let workspace = workspace();
    let printed = resources(&workspace, &["--env", "TEAM=$(HOME) %d"]).remove(1);
    workspace.write("job.json", printed.to_string());
    let mut kubectl = Command::new("kubectl");
    kubectl
        .args(["set", "env", "--local", "-o", "json", "ADDED=1", "-f"])
        .arg(workspace.at("job.json"))
        .env("HOME", workspace.path());
    let Some((took, text)) = said(&mut kubectl, "kubectl") else {
        return;
    };
    assert!(took, "{text}");
    assert_kept(&serde_json::from_str(&text).expect(&text), &printed, "");
}

#[test]
fn the_command_in_the_comment_makes_the_config_map() {
    let workspace = workspace();
    let args = [
        "schedule",
        "kubernetes",
        "manifest.yaml",
        "--image",
        "x",
        "--env",
        ORGANIZATION,
    ];
    let ran = workspace.run(&args);
    let line = ran.stdout.lines().nth(1).expect("a line");
    let command = line.strip_prefix("# ").expect("a comment");
    let home = workspace.path().to_str().expect("UTF-8");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{command} --dry-run=client -o json")])
        .env("HOME", home)
        .current_dir(Path::new("/"));
    let Some((made, text)) = said(&mut shell, "sh") else {
        return;
    };
    if text.contains("not found") {
        passed_over("there is no kubectl");
        return;
    }
    assert!(made, "{command}: {text}");
    let map: Value = serde_json::from_str(&text).expect(&text);
    let manifest = fs::read_to_string(workspace.at("manifest.yaml")).expect("a manifest");
    assert_eq!(map["data"]["manifest.yaml"], manifest);
    assert_eq!(map["metadata"]["name"], "roe-batch-invoices-eu");
}
