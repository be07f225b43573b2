//! `watch`: what comes into a folder is uploaded once it has settled, and a watch ends only when it
//! is told to, or cannot go on.

#[path = "common/bad_server.rs"]
mod bad_server;
mod common;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use bad_server::{Act, BadServer, Signal, http};
use common::service::{SAFETY_NET, Service, assert_each_stored_once, ran, rows};
use common::{DATASET, KEY, Workspace};
use roe_batch::sandbox::{EmptyFiles, Faults, Sandbox, SandboxConfig, SandboxDataset};
use rustix::process::{Pid, Signal as Kill, kill_process};

fn manifest(more: &str) -> String {
    format!(
        "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}, \
         on_empty: ignore{more}}}\n"
    )
}

fn workspace() -> Workspace {
    let workspace = Workspace::with(&manifest(", exclude: '**/*.log'"), &[]);
    fs::create_dir(workspace.at("in")).expect("a folder");
    workspace
}

/// A watch, and the lines that it printed so far.
struct Watching {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

fn forward(from: impl Read + Send + 'static, to: Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if to.send(line).is_err() {
                return;
            }
        }
    });
}

impl Watching {
    /// With changes that settle soon, and a rescan that comes too late for any test.
    fn start(workspace: &Workspace, more: &[&str]) -> Self {
        let often = ["--quiet-for=0.2", "--rescan=12h"];
        Self::with(workspace, &[&often[..], more].concat())
    }

    fn with(workspace: &Workspace, options: &[&str]) -> Self {
        let args = [&["watch", "manifest.yaml"][..], options].concat();
        let mut watching = Self::of(workspace.command(&args));
        watching.until("watching: ");
        watching
    }

    fn of(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let (to, lines) = channel();
        forward(child.stdout.take().expect("piped"), to.clone());
        forward(child.stderr.take().expect("piped"), to);
        Self {
            child,
            lines,
            seen: Vec::new(),
        }
    }

    /// Waits for a line that has this in it.
    fn until(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(SAFETY_NET) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(why) => panic!("{text}: {why}\n{}", self.seen.join("\n")),
            }
        }
    }

    /// Waits for the end of a run.
    fn report(&mut self) {
        self.until("report: .roe-batch/reports/manifest.json");
    }

    fn kill(&self, signal: Kill) {
        let process = i32::try_from(self.child.id()).expect("a process");
        kill_process(Pid::from_raw(process).expect("a process"), signal).expect("it runs");
    }

    /// Its exit code, and all that it printed.
    fn end(mut self) -> (i32, String) {
        let status = self.child.wait().expect("its end");
        self.seen.extend(self.lines.iter());
        (status.code().expect("a code"), self.seen.join("\n"))
    }

    fn stop(self) -> (i32, String) {
        self.kill(Kill::TERM);
        self.end()
    }
}

/// Ends it where a test fails.
impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn count(text: &str, what: &str) -> usize {
    text.lines().filter(|line| line.contains(what)).count()
}

/// What changes with each look, also with those that find nothing: who had the lock last.
fn last_look(workspace: &Workspace) -> String {
    fs::read_to_string(workspace.at(".roe-batch/lock")).unwrap_or_default()
}

/// Waits until a look has begun since then.
fn await_look(workspace: &Workspace, last: &str) {
    let patience = Instant::now() + SAFETY_NET;
    while last_look(workspace) == last {
        assert!(Instant::now() < patience, "nothing looks");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Puts a file there that has not changed for long.
fn put_old(workspace: &Workspace, name: &str, content: &str) {
    let hour = Duration::from_hours(1);
    workspace.write("old", content);
    let file = File::options()
        .write(true)
        .open(workspace.at("old"))
        .expect("it is there");
    file.set_modified(SystemTime::now() - hour)
        .expect("an hour ago");
    fs::rename(workspace.at("old"), workspace.at(name)).expect("moved");
}

#[test]
fn what_comes_in_is_uploaded_once_and_sigterm_ends_an_idle_watch_at_once() {
    let mut service = Service::start();
    let mut workspace = workspace();
    service.serve(&mut workspace);
    workspace.write("in/first.txt", "first");
    let mut watch = Watching::start(&workspace, &[]);
    watch.report();
    workspace.write("in/second.txt", "second");
    watch.report();
    // A folder that comes later, with one in it, and one that is moved here with all that it holds.
    workspace.write("in/new/deep/third.txt", "third");
    watch.report();
    workspace.write("in/new/deep/fourth.txt", "fourth");
    watch.report();
    workspace.write("elsewhere/deep/fifth.txt", "fifth");
    fs::rename(workspace.at("elsewhere"), workspace.at("in/moved")).expect("moved");
    watch.report();
    workspace.write("in/moved/deep/sixth.txt", "sixth");
    watch.report();
    let (code, shown) = watch.stop();
    assert_eq!(code, 0, "{shown}");
    assert_eq!(count(&shown, "1 file to do"), 6, "{shown}");
    assert!(shown.ends_with("SIGTERM: the watch ends"), "{shown}");
    assert_each_stored_once(&workspace, &service.settled(), 6);
}

#[test]
fn a_burst_is_one_run() {
    let mut service = Service::start();
    let mut workspace = workspace();
    service.serve(&mut workspace);
    let mut watch = Watching::with(&workspace, &["--quiet-for=1", "--rescan=12h"]);
    for number in 0..10 {
        workspace.write(&format!("in/{number}.txt"), format!("{number}"));
    }
    watch.report();
    let (code, shown) = watch.stop();
    assert_eq!((code, count(&shown, " to do")), (0, 1), "{shown}");
    assert_eq!(count(&shown, "10 files to do"), 1, "{shown}");
    assert_each_stored_once(&workspace, &service.settled(), 10);
}

#[test]
fn a_file_that_is_too_young_is_taken_by_the_clock_once_it_is_old_enough() {
    let mut service = Service::start();
    let mut workspace = workspace();
    workspace.write("manifest.yaml", manifest(", min_age: 2s"));
    service.serve(&mut workspace);
    let mut watch = Watching::start(&workspace, &[]);
    workspace.write("in/a.txt", "grow");
    // It is looked at, and left alone; then it grows.
    await_look(&workspace, &last_look(&workspace));
    workspace.write("in/a.txt", "grown");
    let grown = Instant::now();
    watch.report();
    assert!(
        grown.elapsed() >= Duration::from_millis(1900),
        "{:?}",
        grown.elapsed()
    );
    let (code, shown) = watch.stop();
    assert_eq!((code, count(&shown, " to do")), (0, 1), "{shown}");
    assert_each_stored_once(&workspace, &service.settled(), 1);
}

#[test]
fn the_rescan_finds_what_is_not_told_and_looks_that_find_nothing_leave_nothing() {
    let mut service = Service::start();
    let mut workspace = workspace();
    let reports = "report: [{path: 'reports/${{ run.id }}.json'}]\n";
    workspace.write("manifest.yaml", manifest("") + reports);
    service.serve(&mut workspace);
    workspace.write("in/a.txt", "a");
    let applied = workspace.run(&["apply", "manifest.yaml"]);
    assert_eq!(applied.code, 0, "{}", applied.all());
    let options = ["--events", "never", "--rescan", "0.3", "--quiet-for", "0.1"];
    let mut watch = Watching::with(&workspace, &options);
    for _ in 0..3 {
        await_look(&workspace, &last_look(&workspace));
    }
    workspace.write("in/b.txt", "b");
    watch.until("report: reports/");
    // The content is the same: it is read once more, and that is all.
    let file = File::options().write(true).open(workspace.at("in/a.txt"));
    let hour = SystemTime::now() - Duration::from_hours(1);
    file.and_then(|file| file.set_modified(hour))
        .expect("touched");
    for _ in 0..3 {
        await_look(&workspace, &last_look(&workspace));
    }
    let (code, shown) = watch.stop();
    assert_eq!((code, count(&shown, " to do")), (0, 1), "{shown}");
    let reports = fs::read_dir(workspace.at("reports")).expect("reports");
    assert_eq!(reports.count(), 2);
    let status = workspace.run(&["status", "manifest.yaml"]);
    assert_eq!(count(&status.stdout, "exit 0"), 2, "{}", status.all());
    assert_eq!(service.settled().len(), 2);
}

#[test]
#[expect(clippy::print_stderr, reason = "says what is passed over")]
fn where_the_system_tells_of_no_more_folders_that_is_said_and_the_rescan_finds_the_rest() {
    let workspace = workspace();
    for folder in 0..9 {
        workspace.write(&format!("in/{folder}/a.log"), "no candidate");
    }
    let script = "echo 3 > /proc/sys/user/max_inotify_watches || exit 99
        exec \"$0\" watch manifest.yaml --sandbox --quiet-for 0.1 --rescan 0.3";
    let binary = env!("CARGO_BIN_EXE_roe-batch");
    let probe = Command::new("unshare")
        .args([
            "-Ur",
            "sh",
            "-c",
            "echo 3 > /proc/sys/user/max_inotify_watches",
        ])
        .output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no namespace with limits of its own here");
        return;
    }
    let mut shell = Command::new("unshare");
    shell
        .args(["-Ur", "sh", "-c", script, binary])
        .current_dir(workspace.path());
    let mut watch = Watching::of(shell);
    watch.until("watching: changes in 3 folders are told");
    for folder in 0..9 {
        workspace.write(&format!("in/{folder}/a.txt"), format!("{folder}"));
    }
    watch.until("  stored ");
    let (code, shown) = watch.stop();
    assert_eq!(code, 0, "{shown}");
    assert_eq!(
        count(&shown, "see fs.inotify.max_user_watches"),
        1,
        "{shown}"
    );
}

#[test]
fn a_manifest_that_breaks_is_told_once_and_waited_for_until_it_is_mended() {
    let mut service = Service::start();
    let mut workspace = workspace();
    service.serve(&mut workspace);
    workspace.write("in/a.txt", "a");
    let mut watch = Watching::start(&workspace, &[]);
    watch.report();
    workspace.write("manifest.yaml", "version: 1\nuplods: []\n");
    watch.until("nothing is sent until that is mended");
    let last = last_look(&workspace);
    workspace.write("in/b.txt", "b");
    workspace.write("manifest.yaml", manifest(""));
    watch.report();
    assert_ne!(last_look(&workspace), last);
    let (code, shown) = watch.stop();
    assert_eq!((code, count(&shown, "uplods")), (0, 2), "{shown}");
    assert_each_stored_once(&workspace, &service.settled(), 2);
}

#[test]
fn a_watch_of_a_manifest_that_is_invalid_from_the_start_ends() {
    let workspace = workspace();
    workspace.write("manifest.yaml", "version: 1\nuplods: []\n");
    let ran = workspace.run(&["watch", "manifest.yaml", "--sandbox"]);
    assert_eq!(ran.code, 65, "{}", ran.all());
    let ran = workspace.run(&["watch", "nowhere.yaml", "--sandbox"]);
    assert_eq!(ran.code, 65, "{}", ran.all());
}

#[test]
fn what_is_read_at_each_run_cannot_come_from_standard_input() {
    let workspace = workspace();
    for (args, why) in [
        (&["-"][..], "standard input gives it once: name a file"),
        (
            &["manifest.yaml", "--api-key-file", "-"],
            "the API key is read at each run",
        ),
        (
            &["manifest.yaml", "--if-locked", "fail"],
            "--if-locked wait or skip",
        ),
    ] {
        let ran = workspace.run(&[&["watch"], args].concat());
        assert_eq!(ran.code, 64, "{}", ran.all());
        assert!(ran.stderr.contains(why), "{}", ran.all());
    }
}

/// A service that answers an upload once it is told to, and says when the first one is there.
struct Slow {
    server: BadServer,
    begun: Arc<Signal>,
    answer: Arc<Signal>,
}

impl Slow {
    fn serve(workspace: &mut Workspace) -> Self {
        let (begun, answer) = (Signal::new(), Signal::new());
        let server = {
            let (begun, answer) = (Arc::clone(&begun), Arc::clone(&answer));
            BadServer::start(0, 0, move |upload| {
                begun.set();
                answer.wait();
                Act::store(upload)
            })
        };
        workspace.env("ROE_API_KEY", KEY);
        let url = format!("http://127.0.0.1:{}", server.port());
        workspace.env("ROE_BASE_URL", &url);
        Self {
            server,
            begun,
            answer,
        }
    }
}

#[test]
fn a_run_of_cron_in_between_is_waited_for_or_its_turn_is_skipped() {
    for (options, told) in [
        (&[][..], "waiting for another run to end"),
        (
            &["--if-locked", "skip"],
            "skipped: another run is under way",
        ),
    ] {
        let mut workspace = workspace();
        let slow = Slow::serve(&mut workspace);
        workspace.write("in/a.txt", "a");
        let run = workspace
            .command(&["apply", "manifest.yaml"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        slow.begun.wait();
        let mut watch = Watching::start(&workspace, options);
        watch.until(told);
        workspace.write("in/b.txt", "b");
        slow.answer.set();
        let run = ran(&run.wait_with_output().expect("its end"));
        assert_eq!(run.code, 0, "{}", run.all());
        watch.report();
        let (code, shown) = watch.stop();
        assert_eq!((code, count(&shown, "1 file to do")), (0, 1), "{shown}");
        assert_eq!(slow.server.finish().len(), 2);
    }
}

#[test]
fn sigterm_in_the_middle_of_an_upload_lets_it_end_and_leaves_the_rest() {
    for (files, code) in [(1, 0), (2, 143)] {
        let mut workspace = workspace();
        let slow = Slow::serve(&mut workspace);
        for number in 0..files {
            workspace.write(&format!("in/{number}.txt"), "a");
        }
        let mut watch = Watching::start(&workspace, &["--concurrency", "1"]);
        slow.begun.wait();
        watch.kill(Kill::TERM);
        watch.until("SIGTERM: no new uploads");
        slow.answer.set();
        let (ended, shown) = watch.end();
        assert_eq!(ended, code, "{shown}");
        assert!(shown.contains("report: "), "{shown}");
        let report = workspace.report();
        assert_eq!(report["header"]["outcomes"]["stored"], 1);
        assert_eq!(rows(&report).len(), files);
        assert_eq!(slow.server.finish().len(), 1);
    }
}

#[test]
fn a_second_signal_drops_what_is_under_way() {
    let mut workspace = workspace();
    let slow = Slow::serve(&mut workspace);
    put_old(&workspace, "in/a.txt", "a");
    let mut watch = Watching::start(&workspace, &["--in-doubt", "hold"]);
    slow.begun.wait();
    watch.kill(Kill::INT);
    watch.until("SIGINT: no new uploads");
    watch.kill(Kill::HUP);
    watch.until("SIGHUP: dropping what is under way");
    let (code, shown) = watch.end();
    assert_eq!(code, 130, "{shown}");
    assert!(shown.contains("report: "), "{shown}");
    assert_eq!(workspace.report()["header"]["outcomes"]["in_doubt"], 1);
    // The next one has nothing to do about it, and does not call that well.
    let options = ["--in-doubt=hold", "--events=never", "--rescan=0.3"];
    let watch = Watching::with(&workspace, &options);
    for _ in 0..3 {
        await_look(&workspace, &last_look(&workspace));
    }
    let (code, shown) = watch.stop();
    assert_eq!((code, count(&shown, " to do")), (76, 0), "{shown}");
    slow.answer.set();
    slow.server.finish();
}

#[test]
fn a_service_that_is_away_is_tried_again_and_the_files_are_stored_when_it_is_back() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address: SocketAddr = listener.local_addr().expect("an address");
    drop(listener);
    let mut workspace = workspace();
    workspace.env("ROE_API_KEY", KEY);
    workspace.env("ROE_BASE_URL", &format!("http://{address}"));
    workspace.write("in/a.txt", "a");
    let mut watch = Watching::start(&workspace, &["--retry-for", "0.2"]);
    watch.until("trying again in 1s");
    watch.until("trying again in 2s");
    let data = tempfile::tempdir().expect("a folder");
    let server = Sandbox::start(SandboxConfig {
        listen: address,
        data: data.path().to_owned(),
        api_key: KEY.to_owned(),
        datasets: vec![SandboxDataset {
            id: DATASET.to_owned(),
            name: "tests".to_owned(),
        }],
        empty_files: EmptyFiles::Accept,
        faults: Faults::default(),
    })
    .expect("the sandbox starts");
    watch.until("  stored               1");
    let (code, shown) = watch.stop();
    assert_eq!(code, 0, "{shown}");
    assert_eq!(server.stats().stored, 1);
}

#[test]
fn a_file_that_is_rejected_is_not_sent_again_because_something_else_changes() {
    let server = BadServer::start(0, 0, |upload| match upload.file_name.as_str() {
        "bad.txt" => Act::answer(http(422, &[], "{}")),
        _ => Act::store(upload),
    });
    let mut workspace = workspace();
    workspace.env("ROE_API_KEY", KEY);
    let url = format!("http://127.0.0.1:{}", server.port());
    workspace.env("ROE_BASE_URL", &url);
    put_old(&workspace, "in/bad.txt", "bad");
    // What is left is tried again after five times ten seconds.
    let options = ["--quiet-for", "10", "--at-latest", "0.2", "--rescan", "12h"];
    let mut watch = Watching::with(&workspace, &options);
    watch.until("trying again in 50s");
    for number in 0..2 {
        let last = last_look(&workspace);
        workspace.write(&format!("in/{number}.log"), "no candidate");
        await_look(&workspace, &last);
    }
    put_old(&workspace, "in/good.txt", "good");
    watch.until("2 files to do");
    watch.report();
    let (code, shown) = watch.stop();
    assert_eq!((code, count(&shown, " to do")), (1, 2), "{shown}");
    let sent = server.finish();
    assert_eq!(sent.len(), 3, "{shown}");
}

#[test]
fn a_key_file_is_read_anew_and_a_key_that_is_refused_ends_the_watch() {
    let service = Service::start();
    let mut workspace = workspace();
    workspace.env("ROE_BASE_URL", &service.url());
    let write = |key: &str| {
        workspace.write("new", key);
        fs::set_permissions(workspace.at("new"), fs::Permissions::from_mode(0o600)).expect("set");
        fs::rename(workspace.at("new"), workspace.at("key")).expect("replaced");
    };
    write(KEY);
    workspace.write("in/a.txt", "a");
    let mut watch = Watching::start(&workspace, &["--api-key-file", "key"]);
    watch.report();
    write("another-key");
    workspace.write("in/b.txt", "b");
    let (code, shown) = watch.end();
    assert_eq!(code, 77, "{shown}");
    assert_eq!(service.stats().stored, 1);
}
