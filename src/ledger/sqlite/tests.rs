use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::ledger::{
    AdoptedFrom, Adoption, Finding, Forgotten, Look, Refreshed, Relation, RunKind, RunRow,
    Settlement, Settler, State, Transition,
};
use crate::model::{
    AttemptId, DatasetId, Digest, FileId, JobEnd, KnownState, Metadata, Origin, Outcome, RuleName,
    SourcePath, Stat, StoredVersion, Tag,
};

mod intents;
mod writer;

fn target(dataset: &str) -> Arc<Target> {
    Arc::new(Target {
        origin: Origin::new("sandbox"),
        organization_id: None,
        dataset_id: Some(DatasetId::new(dataset)),
    })
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn transition(path: &str, attempt: &str, state: State) -> Transition {
    Transition {
        attempt: AttemptId::new(attempt),
        number: 1,
        run: RunId::new("run-1"),
        target: target("d"),
        rule: RuleName::new("rule"),
        path: SourcePath::new(path),
        state,
        at: time(1_000),
        started_at: time(990),
        read_at: time(1_000),
        stat: Stat {
            size: 3,
            mtime_ns: 5,
            inode: u64::MAX,
        },
        digest: Some(Digest([7; 32])),
        metadata: Digest([8; 32]),
        tag: Tag::Planted,
        remote_name: "a.txt".to_owned(),
        file_id: (state == State::Stored).then(|| FileId::new(format!("id-{attempt}"))),
        http_status: None,
        returned_name: None,
        returned_dataset: None,
        reason: None,
    }
}

fn step(path: &str, attempt: &str, state: State) -> Entry {
    Entry::Step(transition(path, attempt, state))
}

fn settlement(attempt: &str, finding: Finding) -> Entry {
    Entry::Settled(Settlement {
        attempt: AttemptId::new(attempt),
        run: None,
        finding,
        at: time(3_000),
        by: Settler::Hand,
        reason: "looked".to_owned(),
    })
}

fn begin(ledger: &mut SqliteLedger, run: &str, plan: &[PlannedRow<'_>]) {
    let start = RunStart {
        run: RunId::new(run),
        stream: "s".to_owned(),
        kind: RunKind::Apply,
        at: Timestamp::UNIX_EPOCH,
        vanished: 0,
    };
    let mut plan = plan.iter().cloned();
    ledger.begin_run(&start, &mut plan).expect("a run");
}

fn fresh() -> (tempfile::TempDir, SqliteLedger) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).expect("opens");
    begin(&mut ledger, "run-1", &[]);
    (folder, ledger)
}

/// Brings a file's attempt to a state, by the way that leads there.
fn bring(ledger: &mut SqliteLedger, path: &str, attempt: &str, state: State) {
    let way: &[State] = match state {
        State::Opened => &[],
        State::Rejected | State::Failed | State::Committing => &[State::Opened],
        _ => &[State::Opened, State::Committing],
    };
    let steps = way.iter().copied().chain([state]);
    let group: Vec<Entry> = steps.map(|state| step(path, attempt, state)).collect();
    ledger.write(&group).expect("legal");
}

fn state(ledger: &SqliteLedger, path: &str) -> Option<KnownState> {
    let known = ledger.known(&[target("d")], "s").expect("read");
    let file = known.get(&target("d"), &SourcePath::new(path));
    file.map(|file| file.state.clone())
}

fn stored(ledger: &SqliteLedger, path: &str) -> StoredVersion {
    let known = ledger.known(&[target("d")], "s").expect("read");
    let file = known.get(&target("d"), &SourcePath::new(path));
    file.and_then(|file| file.stored.clone())
        .expect("a stored version")
}

fn doubtful_paths(ledger: &SqliteLedger) -> Vec<String> {
    let doubts = ledger.doubts().expect("read");
    doubts.iter().map(|d| d.path.as_str().to_owned()).collect()
}

#[test]
fn what_was_stored_is_known_after_reopening() {
    let (folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::Stored);
    bring(&mut ledger, "b", "2", State::Committing);
    bring(&mut ledger, "c", "3", State::Opened);
    drop(ledger);
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open_read_only(&path)
        .expect("opens")
        .expect("exists");
    assert_eq!(state(&ledger, "a"), Some(KnownState::Stored));
    let version = stored(&ledger, "a");
    assert_eq!(version.file_id, Some(FileId::new("id-1")));
    assert_eq!(version.stat.inode, u64::MAX);
    assert_eq!(version.digest, Some(Digest([7; 32])));
    assert_eq!(version.remote_name, "a.txt");
    let doubt = KnownState::InDoubt(AttemptId::new("2"), None);
    assert_eq!(
        state(&ledger, "b"),
        Some(doubt),
        "a dead run's open gate is doubt"
    );
    assert_eq!(
        state(&ledger, "c"),
        Some(KnownState::NotStored),
        "behind a shut gate nothing was stored"
    );
    let other = ledger.known(&[target("other")], "s").expect("read");
    assert!(other.get(&target("other"), &SourcePath::new("a")).is_none());
}

#[test]
fn a_group_is_written_whole_or_not_at_all() {
    let (_folder, mut ledger) = fresh();
    let error = ledger
        .write(&[
            step("a", "1", State::Opened),
            step("b", "2", State::Opened),
            step("b", "2", State::Stored),
        ])
        .expect_err("stored without passing the gate");
    assert!(matches!(error, LedgerError::Illegal { .. }), "{error}");
    let known = ledger.known(&[target("d")], "s").expect("read");
    assert_eq!(known, crate::model::Known::default());
}

#[test]
fn the_file_is_its_owners_alone() {
    let (folder, _ledger) = fresh();
    let path = folder.path().join("ledger.sqlite");
    let mode = std::fs::metadata(path)
        .expect("exists")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn foreign_newer_and_damaged_files_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    Connection::open(at("foreign"))
        .and_then(|c| c.execute_batch("CREATE TABLE t (x)"))
        .expect("a database");
    drop(SqliteLedger::open(&at("newer")).expect("opens"));
    Connection::open(at("newer"))
        .and_then(|c| c.execute_batch("PRAGMA user_version = 99"))
        .expect("a database");
    let garbage = "this is no database, and long enough to tell";
    std::fs::write(at("damaged"), garbage).expect("ok");
    for (name, says) in [
        ("foreign", "another program"),
        ("newer", "newer roe-batch"),
        ("damaged", "is damaged"),
    ] {
        let before = std::fs::read(at(name)).expect("read");
        for _ in 0..2 {
            let error = SqliteLedger::open(&at(name)).expect_err(name).to_string();
            assert!(error.contains(says), "{name}: {error}");
            assert_eq!(std::fs::read(at(name)).expect("read"), before, "{name}");
        }
    }
    let copies = std::fs::read_dir(folder.path()).expect("listed");
    let copies: Vec<_> = copies
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.to_string_lossy().contains(".damaged-"))
        .collect();
    assert_eq!(copies.len(), 1, "one copy for one state: {copies:?}");
    assert_eq!(std::fs::read(&copies[0]).expect("read"), garbage.as_bytes());
}

#[test]
fn a_ledger_with_a_hole_in_it_is_damaged_before_anybody_reads_or_writes_there() {
    let (folder, mut ledger) = fresh();
    for number in 0..300 {
        let name = number.to_string();
        bring(&mut ledger, &name, &name, State::Stored);
    }
    drop(ledger);
    let path = folder.path().join("ledger.sqlite");
    let mut bytes = std::fs::read(&path).expect("read");
    let len = bytes.len();
    bytes[8192..len].fill(0xA5);
    std::fs::write(&path, &bytes).expect("written");
    let to_read = SqliteLedger::open_read_only(&path).map(|_| ());
    for result in [SqliteLedger::open(&path).map(|_| ()), to_read] {
        let error = result.expect_err("damaged");
        let LedgerError::Damaged {
            copy: Some(copy), ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(std::fs::read(copy).expect("a copy"), bytes);
    }
}

#[test]
fn what_no_version_wrote_is_an_error_when_read() {
    for (damage, says) in [
        ("UPDATE file_states SET state = 'perhaps'", "is damaged"),
        ("UPDATE file_states SET stored_blake3 = 'x'", "is damaged"),
        (
            "UPDATE file_states SET stored_size = NULL, state = 'stored'",
            "is damaged",
        ),
        (
            "UPDATE transitions SET state = 'failed' WHERE state = 'stored'",
            "makes no sense",
        ),
        (
            "UPDATE transitions SET attempt_id = '9' WHERE state = 'stored'",
            "makes no sense",
        ),
        (
            "UPDATE plan_chunks SET rows = replace(rows, 'not_attempted', 'perhaps')",
            "is damaged",
        ),
        ("UPDATE plan_chunks SET rows = '{}'", "is damaged"),
        (
            "UPDATE transitions SET state = 'resolved'",
            "makes no sense",
        ),
    ] {
        let (_folder, mut ledger) = fresh();
        let plan = Planned::new(&[("a", "upload", Outcome::NotAttempted)]);
        begin(&mut ledger, "run-2", &plan.rows());
        for state in [State::Opened, State::Committing, State::Stored] {
            let step = Transition {
                run: RunId::new("run-2"),
                ..transition("a", "1", state)
            };
            ledger.write(&[Entry::Step(step)]).expect("legal");
        }
        ledger
            .connection
            .pragma_update(None, "foreign_keys", false)
            .expect("ok");
        ledger.connection.execute_batch(damage).expect("done");
        let known = ledger.known(&[target("d")], "s").map(|_| ());
        let rows = try_rows(&ledger, "run-2").map(|_| ());
        let error = known.and(rows).expect_err(damage).to_string();
        assert!(error.contains(says), "{damage}: {error}");
    }
}

#[test]
fn files_are_known_page_by_page_in_the_order_of_their_bytes() {
    let (_folder, mut ledger) = fresh();
    for path in ["b", "a/x", "a!", "é", "a"] {
        bring(&mut ledger, path, &format!("attempt-{path}"), State::Stored);
    }
    bring(&mut ledger, "a0", "attempt-withdrawn", State::Withdrawn);
    let page = |from: Bound<&str>, limit| -> Vec<String> {
        let from = from.map(SourcePath::new);
        let page = ledger.known_from(&target("d"), "s", from.as_ref(), limit);
        let page = page.expect("read").into_iter();
        page.map(|(path, _)| path.as_str().to_owned()).collect()
    };
    assert_eq!(page(Bound::Unbounded, 3), ["a", "a!", "a/x"]);
    assert_eq!(
        page(Bound::Excluded("a/x"), 3),
        ["b", "é"],
        "nothing of a0 left"
    );
    assert_eq!(page(Bound::Included("a!"), 1), ["a!"]);
    assert_eq!(page(Bound::Excluded("é"), 3), [""; 0]);
    let other = ledger.known_from(&target("other"), "s", Bound::Unbounded, 3);
    assert_eq!(other.expect("read"), []);
}

#[test]
fn an_older_ledger_is_brought_to_the_present_schema() {
    for (version, sql, firsts) in [
        (1, include_str!("version_1.sql"), &[1][..]),
        (2, include_str!("version_2.sql"), &[1, 5]),
        (3, include_str!("version_3.sql"), &[1, 5, 6]),
    ] {
        assert_is_brought_to_the_present_schema(version, sql, firsts);
    }
}

/// `firsts` says of each run where its transitions begin.
fn assert_is_brought_to_the_present_schema(version: i64, sql: &str, firsts: &[i64]) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    Connection::open(&path)
        .and_then(|c| c.execute_batch(sql))
        .expect("a database");
    let error = SqliteLedger::open_read_only(&path).expect_err("older");
    assert!(matches!(error, LedgerError::Older { found, .. } if found == version));
    let place = Arc::new(Target {
        origin: Origin::new("https://api.roe-ai.com"),
        organization_id: None,
        dataset_id: Some(DatasetId::new("d")),
    });
    let mut ledger = SqliteLedger::open(&path).expect("migrated");
    for _ in 0..2 {
        let known = ledger.known(&[Arc::clone(&place)], "inbox").expect("read");
        let get = |path: &str| known.get(&place, &SourcePath::new(path)).expect("known");
        assert_eq!(get("in/a").state, KnownState::Stored);
        let version = get("in/a").stored.clone().expect("stored");
        assert_eq!(version.file_id, Some(FileId::new("id-a")));
        assert_eq!(version.remote_name, "a");
        assert!(matches!(get("in/b").state, KnownState::InDoubt(..)));
        assert_eq!(get("in/c").state, KnownState::NotStored);
        let runs = ledger.runs("inbox").expect("read");
        assert_eq!((runs.len(), runs[0].exit_code), (firsts.len(), Some(76)));
        for run in &runs {
            rows(&ledger, run.run.as_str());
        }
        let query = "SELECT first_transition FROM run_log ORDER BY run_number";
        let mut select = ledger.connection.prepare(query).expect("a query");
        let found: rusqlite::Result<Vec<i64>> = select
            .query_map([], |row| row.get(0))
            .and_then(Iterator::collect);
        assert_eq!(found.expect("numbers"), firsts);
        drop(select);
        assert_eq!(doubtful_paths(&ledger), ["in/b"]);
        drop(ledger);
        ledger = SqliteLedger::open(&path).expect("opens again");
    }
    ledger
        .write(&[settlement("attempt-2", Finding::NotStored)])
        .expect("settled");
    assert_eq!(doubtful_paths(&ledger), [""; 0]);
}

#[test]
fn the_views_that_people_are_told_of_can_be_queried() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::Stored);
    bring(&mut ledger, "b", "2", State::InDoubt);
    bring(&mut ledger, "c", "3", State::Committing);
    let end = RunEnd {
        run: RunId::new("run-1"),
        at: time(5_000),
        exit_code: 76,
        stopped: vec!["because".to_owned()],
        outcomes: vec![(Outcome::Stored, 1), (Outcome::InDoubt, 1)],
    };
    ledger.end_run(&end).expect("ended");
    let one = |query: &str| -> String {
        ledger
            .connection
            .query_row(query, [], |row| row.get(0))
            .expect(query)
    };
    assert_eq!(
        one(
            "SELECT path || file_id || dataset_id || modified_at FROM files WHERE state = 'stored'"
        ),
        "aid-1d1970-01-01T00:00:00Z"
    );
    assert_eq!(
        one("SELECT path || request_id || remote_name FROM in_doubt WHERE path = 'b'"),
        "b2a.txt"
    );
    assert_eq!(
        one(
            "SELECT d.reason || f.reason || f.size FROM in_doubt d, files f WHERE d.path = f.path AND f.path = 'c'"
        ),
        "the run ended before the service answeredthe run ended before the service answered3"
    );
    assert_eq!(
        one("SELECT run_id || stored || in_doubt || exit_code || stopped FROM runs"),
        "run-11176[\"because\"]"
    );
}

#[test]
fn a_refreshed_file_keeps_its_content_and_id() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::Stored);
    let stat = Stat {
        size: 3,
        mtime_ns: 99,
        inode: 98,
    };
    let refreshed = Refreshed {
        target: target("d"),
        path: SourcePath::new("a"),
        stat,
        read_at: time(2_000),
    };
    ledger
        .write(&[Entry::Refreshed(refreshed)])
        .expect("written");
    let version = stored(&ledger, "a");
    assert_eq!(version.stat, stat);
    assert_eq!(version.file_id, Some(FileId::new("id-1")));
    assert_eq!(version.read_at.as_second(), 2_000);
}

#[test]
fn a_failed_attempt_does_not_forget_the_version_that_is_stored() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::Stored);
    let changed = |state| {
        Entry::Step(Transition {
            stat: Stat {
                size: 99,
                mtime_ns: 9,
                inode: 9,
            },
            digest: Some(Digest([9; 32])),
            ..transition("a", "2", state)
        })
    };
    for state in [State::Opened, State::Committing, State::Failed] {
        ledger.write(&[changed(state)]).expect("written");
        let version = stored(&ledger, "a");
        assert_eq!(
            (version.stat.size, version.digest),
            (3, Some(Digest([7; 32])))
        );
        assert_eq!(version.file_id, Some(FileId::new("id-1")));
        assert_ne!(super::tests::state(&ledger, "a"), Some(KnownState::Stored));
    }
}

#[test]
fn a_doubt_is_settled_once_by_what_is_found() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::Committing);
    bring(&mut ledger, "b", "2", State::InDoubt);
    bring(&mut ledger, "c", "3", State::Stored);
    assert_eq!(doubtful_paths(&ledger), ["a", "b"]);
    let found = settlement("1", Finding::Stored(FileId::new("id-9")));
    let absent = settlement("2", Finding::NotStored);
    let settled = settlement("3", Finding::NotStored);
    assert!(
        ledger.write(&[found.clone(), settled]).is_err(),
        "all or none"
    );
    assert_eq!(doubtful_paths(&ledger), ["a", "b"]);
    ledger.write(&[found.clone(), absent]).expect("settled");
    assert_eq!(doubtful_paths(&ledger), [""; 0]);
    assert!(ledger.write(&[found]).is_err(), "settled already");
    assert_eq!(state(&ledger, "a"), Some(KnownState::Stored));
    assert_eq!(stored(&ledger, "a").file_id, Some(FileId::new("id-9")));
    assert_eq!(state(&ledger, "b"), Some(KnownState::NotStored));
}

#[test]
fn one_stored_file_is_never_two_files() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::Stored);
    bring(&mut ledger, "b", "2", State::InDoubt);
    let taken = settlement("2", Finding::Stored(FileId::new("id-1")));
    let error = ledger.write(&[taken]).expect_err("a has it");
    assert!(matches!(error, LedgerError::IdTaken { .. }), "{error}");
    assert_eq!(doubtful_paths(&ledger), ["b"]);
}

#[test]
fn what_a_look_saw_stays_until_the_doubt_ends() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::Committing);
    let look = |absent_since, seen: &str| {
        Entry::Looked(Look {
            attempt: AttemptId::new("1"),
            absent_since,
            seen: seen.to_owned(),
        })
    };
    ledger
        .write(&[look(Some(time(2_000)), "not listed")])
        .expect("written");
    let doubt = ledger.doubts().expect("read").remove(0);
    assert_eq!(doubt.absent_since, Some(time(2_000)));
    assert_eq!(doubt.last_look.as_deref(), Some("not listed"));
    assert_eq!(doubt.tag, Tag::Planted);
    assert_eq!((doubt.began, doubt.since), (time(1_000), time(1_000)));
    ledger
        .write(&[
            look(None, "something is there"),
            settlement("1", Finding::NotStored),
        ])
        .expect("written");
    assert!(ledger.write(&[look(None, "late")]).is_err());
}

fn adoption(path: &str, from: AdoptedFrom) -> Entry {
    Entry::Adopted(Adoption {
        run: RunId::new("run-1"),
        attempt: AttemptId::new(format!("adopted-{path}")),
        target: target("d"),
        rule: RuleName::new("rule"),
        path: SourcePath::new(path),
        stat: Stat {
            size: 3,
            mtime_ns: 6,
            inode: 7,
        },
        read_at: time(4_000),
        digest: Digest([7; 32]),
        metadata: Digest([8; 32]),
        remote_name: "a.txt".to_owned(),
        file_id: Some(FileId::new("id-1")),
        from,
    })
}

#[test]
fn ids_are_those_of_every_version_that_runs_since_then_stored() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::Stored);
    bring(&mut ledger, "b", "2", State::Failed);
    let later = RunStart {
        run: RunId::new("run-2"),
        stream: "another".to_owned(),
        kind: RunKind::Apply,
        at: time(5_000),
        vanished: 0,
    };
    ledger
        .begin_run(&later, &mut std::iter::empty())
        .expect("a run");
    for state in [State::Opened, State::Committing, State::Stored] {
        let step = Transition {
            run: RunId::new("run-2"),
            ..transition("a", "3", state)
        };
        ledger.write(&[Entry::Step(step)]).expect("legal");
    }
    let ids = |dataset: &str, since: i64| -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        let mut take = |id: &FileId| ids.push(id.as_str().to_owned());
        let read = ledger.each_id(&target(dataset), time(since), &mut take);
        read.expect("read");
        ids.sort();
        ids
    };
    assert_eq!(ids("d", 1), ["id-1", "id-3"], "the earlier version counts");
    assert_eq!(ids("d", 6_000), ["id-3"]);
    assert_eq!(ids("other", 1), [""; 0]);
}

#[test]
fn samples_are_stored_files_with_names_that_tell() {
    let (_folder, mut ledger) = fresh();
    let sample = |path: &str, name: &str, size: u64, tag: Tag, last: State| {
        [State::Opened, State::Committing, last].map(|state| {
            Entry::Step(Transition {
                stat: Stat {
                    size,
                    mtime_ns: 1,
                    inode: 1,
                },
                tag,
                remote_name: name.to_owned(),
                ..transition(path, path, state)
            })
        })
    };
    for group in [
        sample("empty", "empty-file.txt", 0, Tag::None, State::Stored),
        sample("short", "a.txt", 1, Tag::None, State::Stored),
        sample("large", "large-file.txt", 900, Tag::None, State::Stored),
        sample("small", "small-file.txt", 9, Tag::Planted, State::Stored),
        sample("doubt", "doubtful.txt", 1, Tag::None, State::InDoubt),
    ] {
        ledger.write(&group).expect("legal");
    }
    let found = ledger.stored_samples(&target("d")).expect("read");
    let paths: Vec<&str> = found.iter().map(|sample| sample.path.as_str()).collect();
    assert_eq!(paths, ["small", "large", "short"]);
    assert_eq!(found[0].planted, Some(AttemptId::new("small")));
    assert_eq!(found[1].planted, None);
    assert_eq!(found[0].file_id, FileId::new("id-small"));
}

#[test]
fn a_moved_file_takes_its_id_along_and_leaves_nothing_behind() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::Stored);
    let moved = adoption("b", AdoptedFrom::Moved(SourcePath::new("a")));
    ledger.write(std::slice::from_ref(&moved)).expect("adopted");
    assert_eq!(state(&ledger, "a"), None);
    assert_eq!(state(&ledger, "b"), Some(KnownState::Stored));
    assert_eq!(stored(&ledger, "b").file_id, Some(FileId::new("id-1")));
    assert!(ledger.write(&[moved]).is_err(), "there is nothing at a");
}

#[test]
fn only_what_is_not_stored_nor_in_doubt_is_adopted() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "stored", "1", State::Stored);
    bring(&mut ledger, "doubt", "2", State::InDoubt);
    bring(&mut ledger, "failed", "3", State::Failed);
    bring(&mut ledger, "withdrawn", "4", State::Withdrawn);
    for (path, is_adopted) in [
        ("stored", false),
        ("doubt", false),
        ("failed", true),
        ("withdrawn", true),
        ("new", true),
    ] {
        let result = ledger.write(&[adoption(path, AdoptedFrom::Import)]);
        assert_eq!(result.is_ok(), is_adopted, "{path}");
    }
}

#[test]
fn a_forgotten_file_is_new_again_and_its_history_stays() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::Stored);
    bring(&mut ledger, "b", "2", State::InDoubt);
    let forget = |path: &str| {
        Entry::Forgotten(Forgotten {
            target: target("d"),
            path: SourcePath::new(path),
            at: time(5_000),
            reason: "asked".to_owned(),
        })
    };
    ledger.write(&[forget("a")]).expect("forgotten");
    assert_eq!(state(&ledger, "a"), None);
    assert!(
        ledger.write(&[forget("b")]).is_err(),
        "doubt is not dropped"
    );
    assert!(ledger.write(&[forget("c")]).is_err(), "it was never known");
    let query = "SELECT count(*) FROM transitions WHERE path = 'a'";
    let kept: i64 = ledger
        .connection
        .query_row(query, [], |row| row.get(0))
        .expect("counted");
    assert_eq!(kept, 4);
    bring(&mut ledger, "a", "9", State::Stored);
}

/// Owned parts of planned rows, for tests.
struct Planned {
    rule: RuleName,
    target: Arc<Target>,
    rows: Vec<(SourcePath, &'static str, JobEnd)>,
    metadata: Metadata,
}

impl Planned {
    fn new(rows: &[(&str, &'static str, Outcome)]) -> Self {
        let row = |&(path, decision, outcome): &(&str, &'static str, Outcome)| {
            let end = JobEnd::without_attempt(outcome, Some("planned".to_owned()));
            (SourcePath::new(path), decision, end)
        };
        Self {
            rule: RuleName::new("rule"),
            target: target("d"),
            rows: rows.iter().map(row).collect(),
            metadata: Metadata::open([("z".to_owned(), "1".to_owned())]),
        }
    }

    fn rows(&self) -> Vec<PlannedRow<'_>> {
        self.rows
            .iter()
            .map(|(path, decision, end)| PlannedRow {
                rule: &self.rule,
                target: &self.target,
                path: path.clone(),
                decision,
                unattempted: end.clone(),
                remote_name: Some("a.txt".into()),
                size: Some(3),
                content_type: Some("text/plain".into()),
                metadata: Some(self.metadata.clone()),
            })
            .collect()
    }
}

fn count(ledger: &SqliteLedger, table: &str) -> i64 {
    let query = format!("SELECT count(*) FROM {table}");
    let count = ledger.connection.query_row(&query, [], |row| row.get(0));
    count.expect("counted")
}

/// A row of a run that is kept.
#[derive(Debug, PartialEq)]
struct Row {
    rule: String,
    target: Arc<Target>,
    path: SourcePath,
    size: Option<u64>,
    content_type: Option<String>,
    metadata: Option<String>,
    end: JobEnd,
}

impl Row {
    fn of(row: &RunRow<'_>) -> Self {
        Self {
            rule: row.rule.to_owned(),
            target: Arc::clone(row.target),
            path: SourcePath::new(row.path),
            size: row.size,
            content_type: row.content_type.map(str::to_owned),
            metadata: row.metadata.map(|shown| shown.as_json().to_owned()),
            end: row.end.into(),
        }
    }
}

fn try_rows(ledger: &SqliteLedger, run: &str) -> Result<Vec<Row>, LedgerError> {
    let mut rows = Vec::new();
    ledger.each_row(&RunId::new(run), &mut |row| {
        rows.push(Row::of(&row));
        ControlFlow::Continue(())
    })?;
    Ok(rows)
}

fn rows(ledger: &SqliteLedger, run: &str) -> Vec<Row> {
    try_rows(ledger, run).expect("a history that can be")
}

fn files(ledger: &SqliteLedger) -> Vec<Row> {
    let mut files = Vec::new();
    let each = ledger.each_file(&mut |row| {
        files.push(Row::of(&row));
        ControlFlow::Continue(())
    });
    each.expect("a history that can be");
    files
}

fn outcomes(ledger: &SqliteLedger, run: &str) -> Vec<(String, Outcome)> {
    let rows = rows(ledger, run).into_iter();
    rows.map(|row| (row.path.as_str().to_owned(), row.end.outcome))
        .collect()
}

#[test]
fn every_runs_rows_can_be_had_again_and_equal_plans_are_kept_once() {
    use Outcome::{NotAttempted, Skipped, Stored};
    let (_folder, mut ledger) = fresh();
    let first = Planned::new(&[("a", "upload", NotAttempted), ("b", "upload", NotAttempted)]);
    begin(&mut ledger, "run-2", &first.rows());
    let mut stored = transition("a", "1", State::Opened);
    stored.run = RunId::new("run-2");
    for state in [State::Opened, State::Committing, State::Stored] {
        let step = Transition {
            state,
            file_id: (state == State::Stored).then(|| FileId::new("id-1")),
            ..stored.clone()
        };
        ledger.write(&[Entry::Step(step)]).expect("written");
    }
    let second = Planned::new(&[("a", "skip", Skipped), ("b", "upload", NotAttempted)]);
    begin(&mut ledger, "run-3", &second.rows());
    begin(&mut ledger, "run-4", &second.rows());
    let kept = ["plans", "plan_chunks", "plan_parts"].map(|table| count(&ledger, table));
    assert_eq!(
        kept,
        [3, 2, 2],
        "with the empty one; a plan without news adds nothing"
    );
    let third = Planned::new(&[("b", "upload", NotAttempted)]);
    begin(&mut ledger, "run-5", &third.rows());
    let expected = |pairs: &[(&str, Outcome)]| -> Vec<(String, Outcome)> {
        pairs.iter().map(|(p, o)| ((*p).to_owned(), *o)).collect()
    };
    assert_eq!(outcomes(&ledger, "run-1"), expected(&[]));
    assert_eq!(
        outcomes(&ledger, "run-2"),
        expected(&[("a", Stored), ("b", NotAttempted)])
    );
    for run in ["run-3", "run-4"] {
        let found = outcomes(&ledger, run);
        assert_eq!(found, expected(&[("a", Skipped), ("b", NotAttempted)]));
    }
    assert_eq!(outcomes(&ledger, "run-5"), expected(&[("b", NotAttempted)]));
    assert_eq!(outcomes(&ledger, "no such run"), expected(&[]));
    let row = &rows(&ledger, "run-2")[0];
    assert_eq!(row.end.started, Some(time(990)));
    assert_eq!((row.end.attempts, row.size), (1, Some(3)));
    assert_eq!(row.metadata.as_deref(), Some(first.metadata.shown_json()));
    assert_eq!(row.target, target("d"));
}

#[test]
fn the_rows_that_version_3_kept_one_by_one_are_had_again() {
    use Outcome::{Rejected, Skipped, Stored};
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ledger.sqlite");
    Connection::open(&path)
        .and_then(|c| c.execute_batch(include_str!("version_3_plans.sql")))
        .expect("a database");
    let error = SqliteLedger::open_read_only(&path).expect_err("older");
    assert!(matches!(error, LedgerError::Older { found: 3, .. }));
    let ledger = SqliteLedger::open(&path).expect("migrated");
    let of_run = [
        &[
            ("in/a.txt", Stored),
            ("in/b.txt", Stored),
            ("in/c.txt", Rejected),
        ],
        &[
            ("in/b.txt", Skipped),
            ("in/c.txt", Stored),
            ("in/d.txt", Stored),
        ],
        &[
            ("in/b.txt", Skipped),
            ("in/c.txt", Skipped),
            ("in/d.txt", Skipped),
        ],
        &[
            ("in/b.txt", Skipped),
            ("in/c.txt", Skipped),
            ("in/d.txt", Skipped),
        ],
    ];
    let runs = ledger.runs("inbox").expect("read");
    assert_eq!(runs.len(), of_run.len());
    for (run, expected) in runs.iter().rev().zip(of_run) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(p, o)| ((*p).to_owned(), *o))
            .collect();
        assert_eq!(outcomes(&ledger, run.run.as_str()), expected);
        for row in rows(&ledger, run.run.as_str()) {
            assert_eq!(row.end.file_id.is_some(), row.end.outcome != Rejected);
            assert_eq!(row.size, Some(2));
            assert_eq!(row.content_type.as_deref(), Some("text/plain"));
            assert_eq!(row.metadata.as_deref(), Some(r#"{"vendor":"acme"}"#));
        }
    }
    assert_eq!(count(&ledger, "plans"), 3, "the last two runs had one plan");
    let planned =
        "SELECT group_concat(path || size || decision || json_extract(metadata, '$.vendor'))
                   FROM planned WHERE run_id = ?1";
    let planned: String = ledger
        .connection
        .query_row(planned, [runs[2].run.as_str()], |row| row.get(0))
        .expect("the view");
    assert_eq!(
        planned,
        "in/b.txt2skipacme,in/c.txt2uploadacme,in/d.txt2uploadacme"
    );
}

#[test]
fn a_plan_that_no_run_has_any_more_goes_with_what_was_only_its() {
    let (_folder, mut ledger) = fresh();
    let all: Vec<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
    let plan = |upto: usize| -> Vec<(&str, &'static str, Outcome)> {
        let paths = all.iter().take(upto);
        paths
            .map(|path| (path.as_str(), "upload", Outcome::NotAttempted))
            .collect()
    };
    begin(&mut ledger, "run-2", &Planned::new(&plan(999)).rows());
    let first = count(&ledger, "plan_chunks");
    begin(&mut ledger, "run-3", &Planned::new(&plan(1_000)).rows());
    let both = count(&ledger, "plan_chunks");
    assert!(first > 1 && both == first + 1, "{first} and {both}");
    let give_up = "UPDATE run_log SET plan_id = NULL WHERE run_id = 'run-2'";
    ledger.connection.execute_batch(give_up).expect("done");
    begin(&mut ledger, "run-4", &Planned::new(&plan(1_000)).rows());
    assert_eq!(count(&ledger, "plan_chunks"), first);
    assert_eq!(count(&ledger, "plan_parts"), first);
    assert_eq!(outcomes(&ledger, "run-2"), []);
    assert_eq!(outcomes(&ledger, "run-3").len(), 1_000);
}

#[test]
fn a_row_that_was_not_to_be_sent_ends_as_planned_beside_one_that_was() {
    use Outcome::{Failed, NotAttempted, Skipped, Stored};
    let (_folder, mut ledger) = fresh();
    let plan = [
        ("a", "skip", Skipped),
        ("b", "upload", NotAttempted),
        ("b", "conflict", Failed),
        // A name that is shown alike.
        ("b", "upload", NotAttempted),
        ("c", "skip", Skipped),
        ("d", "upload", NotAttempted),
        ("a", "upload", NotAttempted),
    ];
    begin(&mut ledger, "run-2", &Planned::new(&plan).rows());
    for (path, attempt) in [("a", "1"), ("b", "2"), ("d", "3")] {
        for state in [State::Committing, State::Stored] {
            let step = Transition {
                run: RunId::new("run-2"),
                ..transition(path, attempt, state)
            };
            ledger.write(&[Entry::Step(step)]).expect("legal");
        }
    }
    let ends: Vec<Outcome> = rows(&ledger, "run-2")
        .iter()
        .map(|row| row.end.outcome)
        .collect();
    assert_eq!(
        ends,
        [Skipped, Stored, Failed, Stored, Skipped, Stored, Stored]
    );
}

#[test]
fn who_has_enough_rows_gets_no_more() {
    let (_folder, mut ledger) = fresh();
    let plan = [
        ("a", "upload", Outcome::NotAttempted),
        ("b", "upload", Outcome::NotAttempted),
    ];
    begin(&mut ledger, "run-2", &Planned::new(&plan).rows());
    for (path, attempt) in [("a", "1"), ("b", "2")] {
        for state in [State::Committing, State::Stored] {
            let step = Transition {
                run: RunId::new("run-2"),
                ..transition(path, attempt, state)
            };
            ledger.write(&[Entry::Step(step)]).expect("legal");
        }
    }
    let mut taken = 0;
    let mut take = |_: RunRow<'_>| {
        taken += 1;
        ControlFlow::Break(())
    };
    ledger
        .each_row(&RunId::new("run-2"), &mut take)
        .expect("read");
    ledger.each_file(&mut take).expect("read");
    assert_eq!(taken, 2);
}

/// One thing that happens to a file in a run.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Ends(State),
    /// What is in doubt is settled: by this run, or by hand.
    Settled(State, bool),
    Forgotten,
}

fn happens() -> impl Strategy<Value = Happens> {
    use State::{Abandoned, Committing, Failed, InDoubt, Opened, Rejected, Stored, Withdrawn};
    let ends = vec![
        Opened, Committing, Stored, Rejected, Failed, InDoubt, Withdrawn,
    ];
    prop_oneof![
        4 => prop::sample::select(ends).prop_map(Happens::Ends),
        2 => (prop::sample::select(vec![Stored, Failed, Abandoned]), any::<bool>())
            .prop_map(|(state, by_run)| Happens::Settled(state, by_run)),
        1 => Just(Happens::Forgotten),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// How each row of each run ended is what the steps of its run say, whatever later runs did:
    /// the list of all that happened is the model.
    #[test]
    fn a_runs_rows_end_as_its_own_steps_and_what_settled_them_say(
        all in prop::collection::vec(prop::collection::vec((0_usize..6, happens()), 0..8), 1..4)
    ) {
        let (_folder, mut ledger) = fresh();
        let paths = ["a", "b", "c", "d", "e", "f"];
        let plan = Planned::new(&paths.map(|path| (path, "upload", Outcome::NotAttempted)));
        // Of each attempt: its file, run, and the end of it; in order.
        let mut attempts: Vec<(usize, String, State)> = Vec::new();
        let mut expected: Vec<(String, [Option<usize>; 6])> = Vec::new();
        for (number, steps) in all.into_iter().enumerate() {
            let run = format!("run-{}", number + 2);
            begin(&mut ledger, &run, &plan.rows());
            let mut last: [Option<usize>; 6] = [None; 6];
            for (file, what) in steps {
                let id = attempts.len().to_string();
                let latest = attempts.iter().rposition(|(of, _, _)| *of == file);
                match what {
                    Happens::Ends(state) => {
                        let way: &[State] = match state {
                            State::Opened | State::Failed | State::Rejected => &[],
                            State::Committing => &[State::Opened],
                            _ => &[State::Opened, State::Committing],
                        };
                        let steps = way.iter().copied().chain([state]);
                        let group: Vec<Entry> = steps.map(|state| Entry::Step(Transition {
                            run: RunId::new(&*run),
                            ..transition(paths[file], &id, state)
                        })).collect();
                        if ledger.write(&group).is_ok() {
                            last[file] = Some(attempts.len());
                            attempts.push((file, run.clone(), state));
                        }
                    }
                    Happens::Settled(state, by_run) => {
                        let Some(latest) = latest else { continue };
                        let finding = match state {
                            State::Stored => Finding::Stored(FileId::new(format!("id-{latest}"))),
                            State::Failed => Finding::NotStored,
                            _ => Finding::Abandoned,
                        };
                        let settled = Entry::Settled(Settlement {
                            attempt: AttemptId::new(latest.to_string()),
                            run: by_run.then(|| RunId::new(&*run)),
                            finding,
                            at: time(3_000),
                            by: Settler::Listing,
                            reason: "looked".to_owned(),
                        });
                        if ledger.write(&[settled]).is_ok() {
                            attempts[latest].2 = state;
                            if by_run {
                                last[file] = Some(latest);
                            }
                        }
                    }
                    Happens::Forgotten => {
                        let entry = Entry::Forgotten(Forgotten {
                            target: target("d"),
                            path: SourcePath::new(paths[file]),
                            at: time(1),
                            reason: "asked".to_owned(),
                        });
                        let _ = ledger.write(&[entry]);
                    }
                }
            }
            expected.push((run, last));
        }
        for (run, last) in expected {
            for (row, last) in rows(&ledger, &run).iter().zip(last) {
                let model = last.map(|at| &attempts[at]).filter(|(_, _, state)| {
                    *state != State::Withdrawn
                });
                let outcome = model.map_or(Outcome::NotAttempted, |(_, _, state)| state.outcome());
                prop_assert_eq!(row.end.outcome, outcome, "{:?} {:?}", run, row);
                let attempt = model.and(last).map(|at| AttemptId::new(at.to_string()));
                prop_assert_eq!(&row.end.request_id, &attempt, "{:?} {:?}", run, row);
                // An attempt of an earlier run, settled by this one, is none of this one.
                let own = model.is_some_and(|(_, of, _)| *of == run);
                prop_assert_eq!(row.end.attempts, u32::from(own), "{:?} {:?}", run, row);
                prop_assert_eq!(row.end.started.is_some(), own);
            }
        }
    }
}

#[test]
fn names_that_are_shown_alike_keep_a_row_each() {
    let (_folder, mut ledger) = fresh();
    let twins = [("x\u{fffd}", "unusable", Outcome::Failed); 2];
    let plan = Planned::new(&twins);
    begin(&mut ledger, "run-2", &plan.rows());
    begin(&mut ledger, "run-3", &Planned::new(&[twins[0]]).rows());
    assert_eq!(outcomes(&ledger, "run-2").len(), 2);
    assert_eq!(outcomes(&ledger, "run-3").len(), 1);
}

#[test]
fn a_held_row_ends_as_its_doubt_was_settled() {
    let (_folder, mut ledger) = fresh();
    bring(&mut ledger, "a", "1", State::InDoubt);
    let mut plan = Planned::new(&[("a", "hold", Outcome::InDoubt)]);
    plan.rows[0].2.request_id = Some(AttemptId::new("1"));
    begin(&mut ledger, "run-2", &plan.rows());
    let look = Look {
        attempt: AttemptId::new("1"),
        absent_since: None,
        seen: "unclear".to_owned(),
    };
    ledger.write(&[Entry::Looked(look)]).expect("written");
    let row = rows(&ledger, "run-2").remove(0);
    assert_eq!(
        row.end.reason.as_deref(),
        Some("planned; looked up: unclear")
    );
    ledger
        .write(&[settlement("1", Finding::Stored(FileId::new("id-1")))])
        .expect("settled");
    let row = rows(&ledger, "run-2").remove(0);
    assert_eq!(row.end.outcome, Outcome::Stored);
    assert_eq!(row.end.file_id, Some(FileId::new("id-1")));
}

/// What the naive model knows of a file.
#[derive(Debug, Clone)]
struct Model {
    attempt: u8,
    state: State,
    stored: Option<u8>,
}

proptest! {
    /// A map from path to its latest attempt is the model; every kind of entry, legal or not.
    #[test]
    fn agrees_with_a_naive_model(
        steps in prop::collection::vec(("[ab]", 0_u8..4, 0_usize..12), 0..40)
    ) {
        let (_folder, mut ledger) = fresh();
        let mut model: BTreeMap<String, Model> = BTreeMap::new();
        for (path, attempt, kind) in steps {
            let id = attempt.to_string();
            let known = model.get(&path).cloned();
            let doubtful = |path: &str| {
                model.get(path).is_some_and(|m| m.attempt == attempt && m.state.is_doubtful())
            };
            let (entry, legal, next) = match kind {
                0..=5 | 11 => {
                    let state = if kind == 11 { State::Withdrawn } else { State::ALL[kind] };
                    let before = known.as_ref().map(|m| {
                        let same = m.attempt == attempt;
                        (m.state, if same { Relation::SameAttempt } else { Relation::OtherAttempt })
                    });
                    let stored = if state == State::Stored {
                        Some(attempt)
                    } else {
                        known.as_ref().and_then(|m| m.stored)
                    };
                    let next = Some((path.clone(), Some(Model { attempt, state, stored })));
                    (step(&path, &id, state), state.may_follow(before), next)
                }
                6..=8 => {
                    let (finding, state) = match kind {
                        6 => (Finding::Stored(FileId::new(format!("id-{attempt}"))), State::Stored),
                        7 => (Finding::NotStored, State::Failed),
                        _ => (Finding::Abandoned, State::Abandoned),
                    };
                    // The attempt alone says which file is meant.
                    let at = ["a", "b"].into_iter().find(|path| doubtful(path));
                    let free = !model.iter().any(|(path, m)| {
                        m.stored == Some(attempt) && Some(path.as_str()) != at
                    });
                    let legal = at.is_some() && (state != State::Stored || free);
                    let next = at.map(|path| {
                        let before = model[path].clone();
                        let stored = if state == State::Stored { Some(attempt) } else { before.stored };
                        (path.to_owned(), Some(Model { attempt, state, stored }))
                    });
                    (settlement(&id, finding), legal, next)
                }
                9 => {
                    let legal = known.as_ref().is_none_or(|m| {
                        !m.state.is_doubtful() && m.state != State::Stored
                    });
                    let Entry::Adopted(adoption) = adoption(&path, AdoptedFrom::Import) else {
                        unreachable!("it is one");
                    };
                    let entry = Entry::Adopted(Adoption {
                        attempt: AttemptId::new(&*id),
                        file_id: Some(FileId::new(format!("id-{attempt}"))),
                        ..adoption
                    });
                    let next = Model { attempt, state: State::Stored, stored: Some(attempt) };
                    (entry, legal, Some((path.clone(), Some(next))))
                }
                _ => {
                    let legal = known.as_ref().is_some_and(|m| !m.state.is_doubtful());
                    let entry = Entry::Forgotten(Forgotten {
                        target: target("d"),
                        path: SourcePath::new(&*path),
                        at: time(1),
                        reason: "asked".to_owned(),
                    });
                    (entry, legal, Some((path.clone(), None)))
                }
            };
            let written = ledger.write(&[entry]);
            prop_assert_eq!(written.is_ok(), legal, "{:?}", written);
            if let (true, Some((path, after))) = (legal, next) {
                match after {
                    Some(after) => model.insert(path, after),
                    None => model.remove(&path),
                };
            }
            for path in ["a", "b"] {
                // What was withdrawn is as if it had never been.
                let is_new = |m: &&Model| m.state == State::Withdrawn && m.stored.is_none();
                let expected = model.get(path).filter(|m| !is_new(m)).map(|m| match m.state {
                    State::Stored | State::Withdrawn => KnownState::Stored,
                    State::Committing | State::InDoubt => {
                        let reason = None;
                        KnownState::InDoubt(AttemptId::new(m.attempt.to_string()), reason)
                    }
                    _ => KnownState::NotStored,
                });
                prop_assert_eq!(state(&ledger, path), expected);
                let id = model.get(path).and_then(|m| m.stored).map(|n| format!("id-{n}"));
                let known = ledger.known(&[target("d")], "s").expect("read");
                let found = known
                    .get(&target("d"), &SourcePath::new(path))
                    .and_then(|file| file.stored.as_ref())
                    .and_then(|stored| stored.file_id.clone());
                prop_assert_eq!(found.map(|id| id.as_str().to_owned()), id);
            }
        }
    }
}
