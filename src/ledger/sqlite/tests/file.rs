//! What a ledger's file is: whose it is, which are refused, and how an older one is brought up.

use super::*;

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
fn an_older_ledger_is_brought_to_the_present_schema() {
    for (version, sql, firsts) in [
        (1, include_str!("../version_1.sql"), &[1][..]),
        (2, include_str!("../version_2.sql"), &[1, 5]),
        (3, include_str!("../version_3.sql"), &[1, 5, 6]),
    ] {
        assert_is_brought_to_the_present_schema(version, sql, firsts);
    }
}

#[test]
fn views_that_people_made_in_an_older_ledger_can_be_queried_in_the_new_one() {
    for sql in [
        include_str!("../version_1.sql"),
        include_str!("../version_2.sql"),
        include_str!("../version_3.sql"),
    ] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ledger.sqlite");
        let connection = Connection::open(&path).expect("a database");
        connection.execute_batch(sql).expect("an older ledger");
        connection
            .execute_batch(
                "CREATE VIEW mine AS SELECT path FROM files WHERE state = 'stored';
                 CREATE VIEW steps AS SELECT path FROM transitions t JOIN mine USING (path)",
            )
            .expect("views");
        // Of a table that goes: it cannot be queried any more, and keeps nothing from being done.
        if sql.contains("plan_rows") {
            connection
                .execute_batch("CREATE VIEW gone AS SELECT * FROM plan_rows")
                .expect("a view");
        }
        drop(connection);
        let ledger = SqliteLedger::open(&path).expect("migrated");
        assert_eq!(count(&ledger, "mine WHERE path = 'in/a'"), 1);
        assert!(count(&ledger, "steps WHERE path = 'in/a'") > 0);
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
fn what_a_query_puts_by_leaves_memory_where_there_is_a_place() {
    let (_folder, ledger) = fresh();
    let place = ledger
        .connection
        .pragma_query_value(None, "temp_store", |row| row.get::<_, i64>(0));
    let in_a_file = 1;
    assert_eq!(place, Ok(in_a_file));
}

#[test]
fn without_need_of_a_disk_what_a_query_puts_by_stays_in_memory() {
    let (folder, ledger) = fresh();
    drop(ledger);
    let path = folder.path().join("ledger.sqlite");
    let ledger = SqliteLedger::open_read_only_on_full_disk(&path).expect("opens");
    let place =
        ledger
            .expect("a ledger")
            .connection
            .pragma_query_value(None, "temp_store", |row| row.get::<_, i64>(0));
    let in_memory = 2;
    assert_eq!(place, Ok(in_memory));
}
