//! Files in doubt and how they are settled, judged by the sandbox's own records.

mod common;
#[path = "common/proxy.rs"]
mod proxy;

use std::fs;
use std::process::Command;

use common::{DATASET, KEY, Ran, Workspace, sandbox};
use jiff::{SignedDuration, Timestamp};
use proxy::Fate::{LostUnanswered, StoredUnanswered, StoredUnnamed};
use proxy::{Fate, Listing, Proxy};
use roe_batch::ledger::{Ledger, SqliteLedger};
use roe_batch::sandbox::{Sandbox, StoredFile, records};
use serde_json::Value;

/// A workspace whose uploads go to a sandbox through a proxy that loses answers.
struct Bench {
    workspace: Workspace,
    data: tempfile::TempDir,
    proxy: Proxy,
    _server: Sandbox,
}

impl Bench {
    fn new(run: &str, listing: Listing, fates: &[(&str, &[Fate])]) -> Self {
        let (data, server) = sandbox();
        let proxy = Proxy::start(server.address(), listing, fates);
        let manifest = format!(
            "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}}}\n\
             run: {{{run}}}\n"
        );
        let mut workspace = Workspace::with(&manifest, &[]);
        for name in ["stored", "lost", "plain"] {
            workspace.write(&format!("in/{name}.txt"), format!("content of {name}"));
        }
        workspace.env("ROE_API_KEY", KEY);
        workspace.env("ROE_BASE_URL", &proxy.url());
        Self {
            workspace,
            data,
            proxy,
            _server: server,
        }
    }

    fn apply(&self, more: &[&str]) -> Ran {
        let mut args = vec!["apply", "manifest.yaml"];
        args.extend(more);
        self.workspace.run(&args)
    }

    fn records(&self) -> Vec<StoredFile> {
        records(self.data.path()).expect("records")
    }

    /// How often the sandbox has each file, by name.
    fn stored(&self, name: &str) -> usize {
        let records = self.records();
        records.iter().filter(|file| file.name == name).count()
    }

    fn row(&self, path: &str) -> Value {
        let report = self.workspace.report();
        let rows = report["files"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["path"] == path);
        row.expect("a row").clone()
    }

    /// The report can be had again, just as it was written.
    fn assert_report_is_the_ledgers(&self) {
        let written = self.workspace.report();
        let ran = self
            .workspace
            .run(&["report", "manifest.yaml", "--format", "json"]);
        let again: Value = serde_json::from_str(&ran.stdout).expect("JSON");
        assert_eq!(again, written);
    }
}

const BOTH: &[(&str, &[Fate])] = &[
    ("content of stored", &[StoredUnanswered]),
    ("content of lost", &[LostUnanswered]),
];

#[test]
fn what_is_in_doubt_is_looked_up_at_the_end_of_the_run_and_settled_for_sure() {
    for run in ["", "tag: true"] {
        let bench = Bench::new(run, Listing::Works, BOTH);
        let ran = bench.apply(&["--settle", "0.2"]);
        assert_eq!(ran.code, 0, "{}", ran.all());
        for name in ["stored.txt", "lost.txt", "plain.txt"] {
            assert_eq!(bench.stored(name), 1, "{name}: {}", ran.all());
        }
        let records = bench.records();
        for name in ["stored", "lost", "plain"] {
            let row = bench.row(&format!("in/{name}.txt"));
            assert_eq!(row["outcome"], "stored", "{}", ran.all());
            let file = records
                .iter()
                .find(|file| file.name == format!("{name}.txt"));
            assert_eq!(row["file_id"], file.expect("stored").id.as_str());
        }
        bench.assert_report_is_the_ledgers();
        let ran = bench.apply(&[]);
        assert!(ran.stdout.contains("nothing to upload"), "{}", ran.all());
    }
}

/// To report a run that settled a doubt all its steps are followed, and their paths are too long here
/// for the table of that to stay in memory by itself.
#[test]
#[expect(clippy::print_stderr, reason = "for people who ask with --nocapture")]
fn what_was_settled_is_reported_with_all_ids_though_no_temporary_file_can_be_made() {
    const FILES: usize = 600;
    let mut bench = Bench::new("", Listing::Works, BOTH);
    let folder = vec!["n".repeat(250); 12].join("/");
    for index in 0..FILES {
        let content = format!("long path {index}");
        let path = format!("in/{folder}/{index}.txt");
        bench.workspace.write(&path, content);
    }
    // SQLite makes a file without a name there, which strace prevents, and else one whose name would
    // be longer than it allows.
    let full = bench.workspace.at(vec!["t".repeat(250); 3].join("/"));
    fs::create_dir_all(&full).expect("folders");
    let full = full.to_str().expect("UTF-8");
    bench.workspace.env("SQLITE_TMPDIR", full);
    let traced = bench.workspace.at("traced");
    let traced = traced.to_str().expect("UTF-8").to_owned();
    let inject = |program: &Command| {
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "-o", &traced, "-P", full])
            .args(["-e", "trace=openat", "-e", "inject=openat:error=ENOSPC"])
            .arg(program.get_program())
            .args(program.get_args())
            .current_dir(bench.workspace.path())
            .env_clear();
        for (name, value) in program.get_envs() {
            strace.env(name, value.expect("a value"));
        }
        if let Some(path) = std::env::var_os("PATH") {
            strace.env("PATH", path);
        }
        strace.output()
    };
    match inject(&Command::new("true")) {
        Ok(ran) if ran.status.success() => {}
        why => {
            eprintln!("passed over: strace cannot inject errors here: {why:?}");
            return;
        }
    }

    let apply = ["apply", "manifest.yaml", "--settle", "0.2"];
    let ran = inject(&bench.workspace.command(&apply)).expect("strace runs");
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let refused = fs::read_to_string(&traced).expect("what strace saw");
    assert!(refused.contains("(INJECTED)"), "{refused}");
    let report = bench.workspace.report();
    let rows = report["files"].as_array().expect("rows");
    assert_eq!(rows.len(), FILES + 3);
    for row in rows {
        assert_eq!(row["outcome"], "stored", "{row}");
        assert!(row["file_id"].is_string(), "{row}");
        assert_ne!(row["attempts"], 0, "{row}");
    }
}

#[test]
fn what_an_earlier_run_left_is_looked_up_by_the_next() {
    let bench = Bench::new("", Listing::Works, BOTH);
    let ran = bench.apply(&["--in-doubt", "hold"]);
    assert_eq!(ran.code, 76, "{}", ran.all());
    assert!(bench.proxy.listed().is_empty(), "{}", ran.all());
    let plan = bench.workspace.run(&["plan", "manifest.yaml"]);
    assert!(
        plan.stdout.contains("2 in doubt, to be looked up"),
        "{}",
        plan.all()
    );
    bench.assert_report_is_the_ledgers();
    let ran = bench.apply(&["--settle", "0.2"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(bench.records().len(), 3, "{}", ran.all());
    assert_eq!(bench.stored("stored.txt"), 1);
    assert_eq!(bench.stored("lost.txt"), 1);
    assert_eq!(bench.row("in/stored.txt")["outcome"], "stored");
    assert_eq!(bench.row("in/lost.txt")["attempts"], 1);
    bench.assert_report_is_the_ledgers();
}

#[test]
fn an_absence_noted_by_one_run_is_settled_by_the_next_without_waiting() {
    let bench = Bench::new("", Listing::Works, &BOTH[1..]);
    let mut child = bench
        .workspace
        .command(&["apply", "manifest.yaml", "--settle", "1h"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    let stderr = child.stderr.take().expect("piped");
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(stderr));
    let waiting = lines.find(|line| {
        let line = line.as_ref().expect("UTF-8");
        line.contains("looking again in 3600 s")
    });
    assert!(waiting.is_some());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
    for _ in lines {}
    assert_eq!(child.wait().expect("ended").code(), Some(130));
    assert_eq!(bench.row("in/lost.txt")["outcome"], "in_doubt");
    bench.assert_report_is_the_ledgers();
    let ledger = SqliteLedger::open(&bench.workspace.at(".roe-batch/ledger.sqlite"));
    let doubts = ledger.and_then(|ledger| ledger.doubts()).expect("read");
    let absent_since = doubts[0].absent_since.expect("noted");
    // The settle time must really pass.
    while Timestamp::now().duration_since(absent_since) < SignedDuration::from_millis(110) {
        std::thread::yield_now();
    }
    let ran = bench.apply(&["--settle", "0.1"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(!ran.stderr.contains("looking again"), "{}", ran.all());
    assert_eq!(bench.stored("lost.txt"), 1);
}

#[test]
fn without_a_listing_doubt_is_held_and_resolve_settles_it() {
    let bench = Bench::new("", Listing::Absent, BOTH);
    let ran = bench.apply(&["--settle", "0.1"]);
    assert_eq!(ran.code, 76, "{}", ran.all());
    assert!(
        ran.stderr.contains("the service has no file listing"),
        "{}",
        ran.all()
    );
    assert_eq!(bench.proxy.listed().len(), 1, "it is asked for once");
    for path in ["in/stored.txt", "in/lost.txt"] {
        let row = bench.row(path);
        assert_eq!(row["outcome"], "in_doubt");
        let reason = row["reason"].as_str().expect("a reason");
        assert!(reason.contains("no file listing"), "{reason}");
    }
    bench.assert_report_is_the_ledgers();
    let id = bench
        .records()
        .into_iter()
        .find(|file| file.name == "stored.txt")
        .expect("stored")
        .id;
    for (file, answer) in [
        ("in/stored.txt", &["--stored", &id][..]),
        ("in/lost.txt", &["--not-stored"]),
    ] {
        let mut args = vec!["resolve", "manifest.yaml", file];
        args.extend(answer);
        let ran = bench.workspace.run(&args);
        assert_eq!(ran.code, 0, "{}", ran.all());
    }
    let ran = bench.workspace.run(&["report", "manifest.yaml"]);
    assert!(ran.stdout.contains("settled by hand"), "{}", ran.all());
    let ran = bench.apply(&[]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(bench.records().len(), 3);
}

#[test]
fn resend_sends_again_at_once_and_may_store_twice() {
    let bench = Bench::new("in_doubt: resend", Listing::Works, BOTH);
    let ran = bench.apply(&[]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(bench.stored("stored.txt"), 2, "that is what was chosen");
    assert_eq!(bench.stored("lost.txt"), 1);
    assert!(bench.proxy.listed().is_empty());
    bench.assert_report_is_the_ledgers();

    let bench = Bench::new("in_doubt: hold", Listing::Works, BOTH);
    assert_eq!(bench.apply(&[]).code, 76);
    let ran = bench.apply(&["--in-doubt", "resend"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(bench.stored("stored.txt"), 2);
    assert_eq!(bench.stored("lost.txt"), 1);
    bench.assert_report_is_the_ledgers();
}

#[test]
fn resolve_looks_files_up_without_a_run() {
    let bench = Bench::new("in_doubt: hold", Listing::Works, BOTH);
    assert_eq!(bench.apply(&[]).code, 76);
    let verify = ["resolve", "manifest.yaml", "--verify", "--settle", "0.2"];
    let ran = bench.workspace.run(&verify);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(
        ran.stdout.ends_with("settled 2 files, 0 left in doubt\n"),
        "{}",
        ran.all()
    );
    assert_eq!(bench.records().len(), 2, "it sends nothing");
    let ran = bench.apply(&[]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(bench.records().len(), 3);

    let bench = Bench::new("in_doubt: hold", Listing::Absent, BOTH);
    assert_eq!(bench.apply(&[]).code, 76);
    let ran = bench.workspace.run(&verify);
    assert_eq!(ran.code, 76, "{}", ran.all());
    assert!(ran.stdout.contains("no file listing"), "{}", ran.all());
}

#[test]
fn a_file_that_changed_while_it_was_in_doubt_is_stored_in_both_versions() {
    let bench = Bench::new("", Listing::Works, &BOTH[..1]);
    assert_eq!(bench.apply(&["--in-doubt", "hold"]).code, 76);
    bench
        .workspace
        .write("in/stored.txt", "another version of it");
    let ran = bench.apply(&["--settle", "0.1"]);
    // The hash of the version sent can no longer be had: nothing proves that it is the one.
    assert_eq!(ran.code, 76, "{}", ran.all());
    assert_eq!(bench.stored("stored.txt"), 1);

    let bench = Bench::new("tag: true", Listing::Works, &BOTH[..1]);
    assert_eq!(bench.apply(&["--in-doubt", "hold"]).code, 76);
    bench
        .workspace
        .write("in/stored.txt", "another version of it");
    let ran = bench.apply(&["--settle", "0.1"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(bench.stored("stored.txt"), 2, "{}", ran.all());
    bench.assert_report_is_the_ledgers();
    let ran = bench.apply(&[]);
    assert!(ran.stdout.contains("nothing to upload"), "{}", ran.all());
}

#[test]
fn the_key_is_planted_where_it_is_asked_for_and_changes_nothing_else() {
    let bench = Bench::new("tag: true", Listing::Works, &[]);
    assert_eq!(bench.apply(&[]).code, 0);
    for file in bench.records() {
        assert_eq!(
            file.metadata["roe_batch_key"].as_str(),
            file.request_id.as_deref()
        );
    }
    let row = bench.row("in/plain.txt");
    assert_eq!(row["metadata"], serde_json::json!({}));
    let ran = bench.apply(&[]);
    assert!(ran.stdout.contains("nothing to upload"), "{}", ran.all());
    let manifest = fs::read_to_string(bench.workspace.at("manifest.yaml")).expect("read");
    bench
        .workspace
        .write("manifest.yaml", manifest.replace("tag: true", ""));
    let ran = bench.apply(&[]);
    assert!(ran.stdout.contains("nothing to upload"), "{}", ran.all());
}

#[test]
fn a_file_in_doubt_that_was_moved_is_not_sent_as_a_new_one() {
    let bench = Bench::new("", Listing::Works, BOTH);
    assert_eq!(bench.apply(&["--in-doubt", "hold"]).code, 76);
    for name in ["stored", "lost"] {
        fs::create_dir_all(bench.workspace.at("in/moved")).expect("a folder");
        let from = bench.workspace.at(format!("in/{name}.txt"));
        let to = bench.workspace.at(format!("in/moved/{name}.txt"));
        fs::rename(from, to).expect("moved");
    }
    let ran = bench.apply(&["--in-doubt", "hold"]);
    assert_eq!(ran.code, 76, "{}", ran.all());
    assert_eq!(bench.records().len(), 2, "{}", ran.all());
    bench.assert_report_is_the_ledgers();
    let ran = bench.apply(&["--settle", "0.2"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    for name in ["stored.txt", "lost.txt"] {
        assert_eq!(bench.stored(name), 1, "{name}: {}", ran.all());
        assert_eq!(bench.row(&format!("in/moved/{name}"))["outcome"], "stored");
    }
    bench.assert_report_is_the_ledgers();
    let ran = bench.apply(&[]);
    assert!(ran.stdout.contains("nothing to upload"), "{}", ran.all());
    assert_eq!(bench.records().len(), 3);
}

#[test]
fn doubt_about_a_file_that_left_the_plan_is_not_forgotten() {
    let bench = Bench::new("in_doubt: hold", Listing::Works, BOTH);
    assert_eq!(bench.apply(&[]).code, 76);
    fs::remove_file(bench.workspace.at("in/stored.txt")).expect("removed");
    fs::remove_file(bench.workspace.at("in/lost.txt")).expect("removed");
    let ran = bench.apply(&[]);
    assert_eq!(ran.code, 76, "{}", ran.all());
    assert!(
        ran.stdout
            .contains("2 files of earlier runs in doubt, and not in this plan"),
        "{}",
        ran.all()
    );
}

#[test]
fn doubt_about_a_file_that_left_the_plan_is_looked_up_all_the_same() {
    let bench = Bench::new("in_doubt: hold, tag: true", Listing::Works, BOTH);
    assert_eq!(bench.apply(&[]).code, 76);
    fs::remove_file(bench.workspace.at("in/stored.txt")).expect("removed");
    fs::remove_file(bench.workspace.at("in/lost.txt")).expect("removed");
    for _ in 0..3 {
        let ran = bench.apply(&["--in-doubt", "verify", "--settle", "0.1"]);
        // That one is not stored is no end of it: nobody can send it any more.
        assert_eq!(ran.code, 76, "{}", ran.all());
        let left = bench.workspace.run(&["resolve", "manifest.yaml"]);
        assert!(left.stdout.contains("1 file in doubt"), "{}", left.all());
        assert!(left.stdout.contains("in/lost.txt"), "{}", left.all());
        assert!(left.stdout.contains("listing d"), "{}", left.all());
    }
    let all = bench.workspace.run(&["report", "manifest.yaml", "--all"]);
    let record = &bench.records()[..];
    let stored = record.iter().find(|file| file.name == "stored.txt");
    assert!(
        all.stdout.contains(&stored.expect("stored").id),
        "{}",
        all.all()
    );
}

#[test]
fn a_key_that_is_refused_at_the_listing_is_a_refused_key() {
    let bench = Bench::new("", Listing::Works, BOTH);
    assert_eq!(bench.apply(&["--in-doubt", "hold"]).code, 76);
    for args in [
        &["apply", "manifest.yaml"][..],
        &["resolve", "manifest.yaml", "--verify"],
    ] {
        let mut command = bench.workspace.command(args);
        command.env("ROE_API_KEY", "a-key-that-is-refused");
        let output = command.output().expect("it runs");
        assert_eq!(output.status.code(), Some(77), "{args:?}");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("refused the API key"), "{said}");
    }
    assert_eq!(bench.apply(&["--settle", "0.1"]).code, 0);
}

#[test]
fn doubt_stays_doubt_until_the_file_is_really_sent_again() {
    let bench = Bench::new("in_doubt: hold", Listing::Works, BOTH);
    assert_eq!(bench.apply(&[]).code, 76);
    let mut command = bench.workspace.command(&["apply", "manifest.yaml"]);
    command.args([
        "--in-doubt",
        "resend",
        "--max-attempts",
        "1",
        "--concurrency",
        "1",
    ]);
    command.env("ROE_API_KEY", "a-key-that-is-refused");
    let output = command.output().expect("it runs");
    assert_eq!(output.status.code(), Some(77));
    let list = bench.workspace.run(&["resolve", "manifest.yaml"]);
    assert!(
        list.stdout.contains("2 files in doubt"),
        "their turn did not come: {}",
        list.all()
    );
    bench.assert_report_is_the_ledgers();
}

#[test]
fn a_version_that_is_not_stored_is_not_sent_where_an_earlier_one_is() {
    let bench = Bench::new("", Listing::Works, &[("second version", &[LostUnanswered])]);
    assert_eq!(bench.apply(&[]).code, 0);
    let path = bench.workspace.at("in/plain.txt");
    let first = fs::metadata(&path)
        .expect("a file")
        .modified()
        .expect("a time");
    bench.workspace.write("in/plain.txt", "second version");
    assert_eq!(bench.apply(&["--in-doubt", "hold"]).code, 76);
    bench.workspace.write("in/plain.txt", "content of plain");
    let file = fs::File::options().write(true).open(&path).expect("opens");
    file.set_modified(first).expect("set");
    let ran = bench.apply(&["--settle", "0.1"]);
    assert_eq!(ran.code, 1, "{}", ran.all());
    let ran = bench.apply(&[]);
    assert!(ran.stdout.contains("nothing to upload"), "{}", ran.all());
    assert_eq!(bench.stored("plain.txt"), 1);
}

/// Two files with the same bytes and name: the service has one, and did not say under which id.
#[test]
fn a_file_that_is_stored_under_an_unknown_id_is_not_taken_for_its_twin() {
    let fates: &[(&str, &[Fate])] = &[("content of twins", &[StoredUnnamed, LostUnanswered])];
    for in_one_run in [true, false] {
        let bench = Bench::new("concurrency: 1", Listing::Works, fates);
        let twin = |folder: &str| {
            let path = format!("in/{folder}/quarterly.txt");
            bench.workspace.write(&path, "content of twins");
        };
        twin("1");
        if !in_one_run {
            let ran = bench.apply(&[]);
            assert_eq!(ran.code, 0, "{}", ran.all());
        }
        twin("2");
        let ran = bench.apply(&["--settle", "0.1"]);
        assert_eq!(ran.code, 76, "{}", ran.all());
        let row = bench.row("in/2/quarterly.txt");
        assert_eq!(row["outcome"], "in_doubt", "{row}");
        assert_eq!(bench.stored("quarterly.txt"), 1);
        bench.assert_report_is_the_ledgers();
    }
}

/// The default dataset and the same one by its name are two targets.
#[test]
fn what_is_in_doubt_at_a_target_that_was_renamed_is_held_at_the_new_one() {
    let bench = Bench::new("in_doubt: hold", Listing::Works, BOTH);
    let named = fs::read_to_string(bench.workspace.at("manifest.yaml")).expect("a manifest");
    let unnamed = named.replace(&format!(", dataset_id: {DATASET}"), "");
    bench.workspace.write("manifest.yaml", &unnamed);
    let ran = bench.apply(&[]);
    assert_eq!(ran.code, 76, "{}", ran.all());
    bench.workspace.write("manifest.yaml", &named);
    for policy in ["hold", "verify"] {
        let ran = bench.apply(&["--in-doubt", policy, "--settle", "0.1"]);
        assert_eq!(ran.code, 76, "{}", ran.all());
        for name in ["stored", "lost"] {
            let row = bench.row(&format!("in/{name}.txt"));
            assert_eq!(row["outcome"], "in_doubt", "{row}");
            let reason = row["reason"].as_str().expect("a reason");
            assert!(reason.contains("at the default dataset"), "{reason}");
        }
        bench.assert_report_is_the_ledgers();
    }
    assert_eq!(
        (bench.stored("stored.txt"), bench.stored("lost.txt")),
        (1, 0)
    );
    // One rule that still sends elsewhere does not make it another matter.
    let other = "- {name: other, root: in, include: 'nothing', on_empty: ignore}\nrun:";
    bench
        .workspace
        .write("manifest.yaml", named.replace("run:", other));
    let ran = bench.apply(&[]);
    assert_eq!(ran.code, 76, "{}", ran.all());
    assert_eq!(
        (bench.stored("stored.txt"), bench.stored("lost.txt")),
        (1, 0)
    );
    // What is settled there says nothing of what is here.
    let resolve = [
        "resolve",
        "manifest.yaml",
        "in/stored.txt",
        "--stored",
        "id-there",
    ];
    assert_eq!(bench.workspace.run(&resolve).code, 0);
    let report = bench
        .workspace
        .run(&["report", "manifest.yaml", "--format", "json"]);
    assert!(!report.stdout.contains("id-there"), "{}", report.all());
    assert!(
        report.stdout.contains("nothing was sent here"),
        "{}",
        report.all()
    );
    // A source that is gone keeps its doubt all the same.
    for name in ["stored", "lost"] {
        fs::remove_file(bench.workspace.at(format!("in/{name}.txt"))).expect("removed");
    }
    let ran = bench.apply(&[]);
    assert_eq!(ran.code, 76, "{}", ran.all());
}
