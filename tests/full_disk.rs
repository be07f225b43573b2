//! A disk that is full, at twenty sizes each for the ledger and for the reports.
//!
//! A limit on the size of files stands in for the disk: it needs no privileges, and a write that
//! exceeds it fails in the midst, as on a full disk. The service is not limited.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;

use common::service::{
    Service, Settled, apply_after, assert_each_stored_once, doubts, rows, settle_by_records,
};
use common::{DATASET, Ran, Workspace};
use roe_batch::ledger::{Ledger, SqliteLedger};

const FILES: usize = 48;

const CONCURRENCY: usize = 4;

const SIZES: u64 = 20;

/// The limit of a run that has none.
const UNLIMITED: &str = "unlimited";

/// A manifest that sends a note of so many bytes with each file: only reports repeat it.
fn workspace(service: &Service, note: usize) -> Workspace {
    let note = "n".repeat(note);
    let mut workspace = Workspace::with(
        &format!(
            "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}, \
             metadata: {{note: '{note}'}}}}\nrun: {{concurrency: {CONCURRENCY}}}\n"
        ),
        &[],
    );
    for index in 0..FILES {
        workspace.write(&format!("in/{index:03}.txt"), format!("content {index}"));
    }
    service.serve(&mut workspace);
    workspace
}

/// `apply` where no file may become larger than so many of the shell's blocks.
fn apply(workspace: &Workspace, limit: &str) -> Ran {
    // Unless the signal is ignored, the process just dies.
    apply_after(workspace, &format!("trap '' XFSZ; ulimit -f {limit}"))
}

/// Bytes of a block as `ulimit -f` counts: 512 or 1024, which depends on the shell.
fn block() -> u64 {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "trap '' XFSZ; ulimit -f 1 && printf '%2000s' x > file";
    let shell = Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir(&folder)
        .output();
    assert!(!shell.expect("a shell").status.success(), "the limit holds");
    fs::metadata(folder.path().join("file"))
        .expect("a file")
        .len()
}

/// The size of the largest of these files of a run's ledger. While another one has the ledger
/// open, nothing of it is tidied away.
fn ledger_needs(workspace: &Workspace, files: &[&str]) -> u64 {
    fs::create_dir_all(workspace.at(".roe-batch")).expect("a folder");
    let ledger = workspace.at(".roe-batch/ledger.sqlite");
    let open = SqliteLedger::open(&ledger).expect("the ledger opens");
    open.doubts().expect("only a reader counts as one");
    let ran = apply(workspace, UNLIMITED);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let sizes = files.iter().map(|end| {
        let path = workspace.at(format!(".roe-batch/ledger.sqlite{end}"));
        fs::metadata(path).expect("a file").len()
    });
    let largest = sizes.max().expect("a size");
    drop(open);
    largest
}

/// So many sizes from one to the other, the small ones closer together.
fn spread(from: u64, to: u64, count: u64) -> BTreeSet<u64> {
    let last = count - 1;
    let sizes = (0..count).map(|number| from + (to - from) * number * number / (last * last));
    let sizes: BTreeSet<u64> = sizes.collect();
    assert_eq!(sizes.len() as u64, count, "{from} to {to}");
    sizes
}

/// A run on a disk of so many blocks, and what must come of it. Says how it ended, and how doubts
/// were settled.
fn full_under_the_ledger(limit: u64, hopeless: bool) -> (String, Settled) {
    let mut service = Service::start();
    let workspace = workspace(&service, 1);
    let ran = apply(&workspace, &limit.to_string());
    let shown = format!("{limit} blocks: {}", ran.all());
    let stored_first = service.stats().stored;
    if ran.code == 0 {
        assert_eq!(stored_first, FILES as u64, "{shown}");
    } else {
        assert_eq!(ran.code, 74, "{shown}");
        let what = ["the ledger ", "the report ", "the state folder "];
        let says = what.iter().any(|what| ran.stderr.contains(what));
        assert!(says && ran.stderr.contains("cannot be"), "{shown}");
    }
    if hopeless {
        assert_eq!(stored_first, 0, "{shown}");
    }
    if workspace
        .at(".roe-batch/reports/manifest.json")
        .try_exists()
        .expect("known")
    {
        assert_eq!(rows(&workspace.report()).len(), FILES, "{shown}");
    }
    let left = doubts(&workspace).len();
    assert!(left <= 2 * CONCURRENCY, "{left} in doubt, {shown}");

    let again = apply(&workspace, UNLIMITED);
    let expected = if left == 0 { 0 } else { 76 };
    assert_eq!(again.code, expected, "{shown}\nthen {}", again.all());
    assert_eq!(rows(&workspace.report()).len(), FILES, "{shown}");
    let settled = settle_by_records(&workspace, &mut service);
    let last = apply(&workspace, UNLIMITED);
    assert_eq!(last.code, 0, "{shown}\nat last {}", last.all());
    assert_each_stored_once(&workspace, &service.settled(), FILES);
    let text = format!("{limit}: {} ({stored_first}, {left})", ran.code);
    (text, settled)
}

#[test]
#[expect(clippy::print_stderr, reason = "for people who ask with --nocapture")]
fn a_full_disk_under_the_ledger_loses_nothing_and_stores_nothing_twice() {
    let block = block();
    let whole = {
        let service = Service::start();
        ledger_needs(&workspace(&service, 1), &["", "-wal", "-shm"]) / block
    };
    // SQLite maps 32 KiB to begin with: below that, nothing can be sent.
    let few = 32 * 1024 / block;
    let mut limits: BTreeSet<u64> = [0, 1, few / 8, few / 2, few - 1].into();
    limits.extend(spread(few, whole - 1, SIZES - limits.len() as u64));
    assert_eq!(limits.len() as u64, SIZES);

    // A few at a time: most of it is waiting for the disk.
    let limits: Vec<u64> = limits.into_iter().collect();
    let mut seen = Vec::new();
    let mut settled = Settled::default();
    for some in limits.chunks(4) {
        thread::scope(|scope| {
            let cases: Vec<_> = some
                .iter()
                .map(|&limit| scope.spawn(move || full_under_the_ledger(limit, limit < few)))
                .collect();
            for case in cases {
                let (text, doubts) = case.join().expect("the case holds");
                seen.push(text);
                settled += doubts;
            }
        });
    }
    eprintln!(
        "blocks of {block}: exit code (stored, in doubt): {}; {} doubts were stored, {} not",
        seen.join(", "),
        settled.stored,
        settled.not_stored
    );
}

#[test]
#[expect(clippy::print_stderr, reason = "for people who ask with --nocapture")]
fn a_full_disk_under_the_reports_leaves_the_old_ones_whole() {
    let block = block();
    let service = Service::start();
    let workspace = workspace(&service, 20 * 1024);
    // The second run's plan is news to the ledger, from then on nothing is: what such a run adds
    // goes to the journal.
    for _ in 0..2 {
        let ran = apply(&workspace, UNLIMITED);
        assert_eq!(ran.code, 0, "{}", ran.all());
    }
    let needed = ledger_needs(&workspace, &["-wal", "-shm"]);
    let reports =
        ["json", "csv"].map(|end| workspace.at(format!(".roe-batch/reports/manifest.{end}")));
    let read = || {
        reports
            .each_ref()
            .map(|path| fs::read(path).expect("a report"))
    };
    let old = read();
    let smallest = old.iter().map(Vec::len).min().expect("two reports") as u64;
    // Room enough for the ledger, and not for any report.
    let limits = spread(needed * 2 / block, smallest / block - 8, SIZES);
    for &limit in &limits {
        // What a limited run cannot move from the journal into the ledger would add up.
        let ledger = SqliteLedger::open(&workspace.at(".roe-batch/ledger.sqlite"));
        drop(ledger.expect("the ledger opens"));
        let ran = apply(&workspace, &limit.to_string());
        let shown = format!("{limit} blocks: {}", ran.all());
        assert_eq!(ran.code, 74, "{shown}");
        for path in [
            ".roe-batch/reports/manifest.json",
            ".roe-batch/reports/manifest.csv",
        ] {
            let says = format!("the report {path} cannot be written");
            assert!(ran.stderr.contains(&says), "{shown}");
            assert!(!ran.stdout.contains(path), "{shown}");
        }
        assert!(read() == old, "{shown}: the old reports are changed");
        let entries = fs::read_dir(workspace.at(".roe-batch/reports")).expect("listed");
        assert_eq!(entries.count(), reports.len(), "{shown}: something is left");
    }
    rows(&workspace.report());
    let ran = apply(&workspace, UNLIMITED);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert!(read() != old, "with room they are new");
    assert_eq!(service.stats().stored, FILES as u64);
    eprintln!(
        "blocks of {block}: {limits:?}; the ledger needs {needed} bytes, the smallest report \
         {smallest}"
    );
}
