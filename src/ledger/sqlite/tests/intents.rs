//! Attempts whose gate is open, through every kind of end, crash and reading.

use super::*;

fn at(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("ledger.sqlite")
}

fn read_only(folder: &tempfile::TempDir) -> SqliteLedger {
    let ledger = SqliteLedger::open_read_only(&at(folder)).expect("opens");
    ledger.expect("exists")
}

/// One column of a query, asked as anybody else would.
fn asked(folder: &tempfile::TempDir, query: &str) -> Vec<String> {
    let connection = Connection::open(at(folder)).expect("a database");
    let mut select = connection.prepare(query).expect("a query");
    let found = select
        .query_map([], |row| row.get(0))
        .expect("rows")
        .collect::<Result<_, _>>();
    found.expect("texts")
}

fn write(ledger: &mut SqliteLedger, steps: &[(&str, &str, State)]) -> Result<(), LedgerError> {
    let group: Vec<Entry> = steps
        .iter()
        .map(|&(path, attempt, state)| step(path, attempt, state))
        .collect();
    ledger.write(&group)
}

/// `a` is stored and changed since, `b` new, `c` came to its end: all in one intent, which a dead
/// run left.
fn dead_run() -> tempfile::TempDir {
    let (folder, mut ledger) = fresh();
    let plan = Planned::new(&["a", "b", "c"].map(|p| (p, "upload", Outcome::NotAttempted)));
    begin(&mut ledger, "run-2", &plan.rows());
    let step = |path: &str, attempt: &str, state| {
        Entry::Step(Transition {
            run: RunId::new("run-2"),
            ..transition(path, attempt, state)
        })
    };
    for state in [State::Committing, State::Stored] {
        ledger.write(&[step("a", "1", state)]).expect("legal");
    }
    let gate = ["a", "b", "c"].map(|path| step(path, &format!("{path}-2"), State::Committing));
    ledger.write(&gate).expect("legal");
    ledger
        .write(&[step("c", "c-2", State::Failed)])
        .expect("legal");
    drop(ledger);
    folder
}

fn assert_shows_the_dead_runs_doubts(ledger: &SqliteLedger) {
    assert_eq!(doubtful_paths(ledger), ["a", "b"]);
    let doubt = ledger.doubts().expect("read").remove(0);
    assert_eq!(doubt.attempt, AttemptId::new("a-2"));
    assert_eq!((doubt.since, doubt.began), (time(1_000), time(1_000)));
    assert_eq!(doubt.digest, Some(Digest([7; 32])));
    assert_eq!(doubt.metadata, Digest([8; 32]));
    assert_eq!(
        (doubt.stat.inode, doubt.tag, &*doubt.remote_name),
        (u64::MAX, Tag::Planted, "a.txt")
    );
    let in_doubt = |attempt: &str| Some(KnownState::InDoubt(AttemptId::new(attempt), None));
    assert_eq!(state(ledger, "a"), in_doubt("a-2"));
    assert_eq!(stored(ledger, "a").file_id, Some(FileId::new("id-1")));
    assert_eq!(state(ledger, "b"), in_doubt("b-2"));
    assert_eq!(state(ledger, "c"), Some(KnownState::NotStored));
    let rows = rows(ledger, "run-2");
    let cut = Some(JobEnd::CUT_BEFORE_ANSWER);
    assert_eq!(rows[1].end.reason.as_deref(), cut);
    let ends: Vec<_> = rows.iter().map(|row| row.end.outcome).collect();
    assert_eq!(ends, [Outcome::InDoubt, Outcome::InDoubt, Outcome::Failed]);
    let files = files(ledger);
    let ends: Vec<_> = files.iter().map(|row| row.end.outcome).collect();
    assert_eq!(ends, [Outcome::InDoubt, Outcome::InDoubt, Outcome::Failed]);
    assert_eq!(files[1].end.started, Some(time(990)));
}

#[test]
fn an_open_gate_of_a_dead_run_is_doubt_to_whoever_reads_and_to_the_next_run() {
    let folder = dead_run();
    let views = || {
        assert_eq!(
            asked(&folder, "SELECT path || state FROM files ORDER BY path"),
            ["ain_doubt", "bin_doubt", "cfailed"]
        );
        assert_eq!(
            asked(
                &folder,
                "SELECT path || request_id || since || size || blake3 || remote_name || run_id
                     || reason FROM in_doubt ORDER BY path"
            )
            .len(),
            2
        );
        assert_eq!(
            asked(
                &folder,
                "SELECT file_id || size FROM files WHERE path = 'a'"
            ),
            ["id-13"]
        );
    };
    views();
    assert_shows_the_dead_runs_doubts(&read_only(&folder));
    let ledger = SqliteLedger::open(&at(&folder)).expect("opens");
    assert_shows_the_dead_runs_doubts(&ledger);
    assert_shows_the_dead_runs_doubts(&read_only(&folder));
    views();
    assert_eq!(asked(&folder, "SELECT attempts FROM intents"), [""; 0]);
    assert_eq!(
        asked(
            &folder,
            "SELECT attempt_id FROM transitions WHERE state = 'committing'"
        ),
        ["a-2", "b-2"]
    );
    drop(ledger);
    let mut ledger = SqliteLedger::open(&at(&folder)).expect("opens");
    ledger
        .write(&[
            settlement("a-2", Finding::NotStored),
            settlement("b-2", Finding::Stored(FileId::new("id-b"))),
        ])
        .expect("settled");
    assert_eq!(doubtful_paths(&ledger), [""; 0]);
    rows(&ledger, "run-2");
}

#[test]
fn an_attempt_that_came_to_its_end_leaves_one_transition_and_no_intent() {
    let (folder, mut ledger) = fresh();
    write(
        &mut ledger,
        &[
            ("a", "1", State::Committing),
            ("b", "2", State::Committing),
            ("c", "3", State::Committing),
        ],
    )
    .expect("legal");
    let intents = "SELECT attempts FROM intents";
    assert_eq!(asked(&folder, intents).len(), 1);
    write(&mut ledger, &[("a", "1", State::Stored)]).expect("legal");
    assert_eq!(
        asked(&folder, "SELECT path FROM in_doubt"),
        ["b", "c"],
        "what came to its end is no longer open"
    );
    write(
        &mut ledger,
        &[("b", "2", State::InDoubt), ("c", "3", State::Withdrawn)],
    )
    .expect("legal");
    assert_eq!(asked(&folder, intents), [""; 0]);
    assert_eq!(
        asked(
            &folder,
            "SELECT path || state || committing_at FROM transitions ORDER BY transition_id"
        ),
        [
            "astored1970-01-01T00:16:40Z",
            "bin_doubt1970-01-01T00:16:40Z",
            "cwithdrawn1970-01-01T00:16:40Z"
        ]
    );
    rows(&ledger, "run-1");
}

#[test]
fn an_intent_that_a_sibling_keeps_does_not_bring_back_what_was_sent_again() {
    let (folder, mut ledger) = fresh();
    let sibling = ("sibling", "9", State::Committing);
    write(&mut ledger, &[("a", "1", State::Committing), sibling]).expect("legal");
    for steps in [
        [("a", "1", State::Failed), ("a", "2", State::Committing)],
        [("a", "2", State::Failed), ("a", "3", State::Committing)],
    ] {
        write(&mut ledger, &steps).expect("legal");
    }
    write(&mut ledger, &[("a", "3", State::Stored)]).expect("legal");
    drop(ledger);
    assert_eq!(doubtful_paths(&read_only(&folder)), ["sibling"]);
    let mut ledger = SqliteLedger::open(&at(&folder)).expect("opens");
    assert_eq!(doubtful_paths(&ledger), ["sibling"]);
    assert_eq!(state(&ledger, "a"), Some(KnownState::Stored));
    let run_2 = RunStart {
        run: RunId::new("run-2"),
        stream: "s".to_owned(),
        kind: RunKind::Apply,
        at: time(2_000),
        vanished: 0,
    };
    ledger
        .begin_run(&run_2, &mut std::iter::empty())
        .expect("a run");
    let late = write(&mut ledger, &[("b", "4", State::Committing)]);
    assert!(
        matches!(late, Err(LedgerError::Superseded { .. })),
        "no report of the run would find it"
    );
}

#[test]
fn a_file_that_was_forgotten_beside_an_open_gate_stays_forgotten() {
    let (folder, mut ledger) = fresh();
    let gates = [
        ("a", "1", State::Committing),
        ("sibling", "2", State::Committing),
    ];
    write(&mut ledger, &gates).expect("legal");
    write(&mut ledger, &[("a", "1", State::Stored)]).expect("legal");
    let forgotten = Forgotten {
        target: target("d"),
        path: SourcePath::new("a"),
        at: time(5_000),
        reason: "asked".to_owned(),
    };
    ledger
        .write(&[Entry::Forgotten(forgotten)])
        .expect("forgotten");
    drop(ledger);
    let ledger = SqliteLedger::open(&at(&folder)).expect("opens");
    assert_eq!(state(&ledger, "a"), None);
    assert_eq!(doubtful_paths(&ledger), ["sibling"]);
}

#[test]
fn a_group_that_fails_opens_no_gate_and_ends_none() {
    let (folder, mut ledger) = fresh();
    write(&mut ledger, &[("a", "1", State::Committing)]).expect("legal");
    let illegal = ("x", "9", State::Stored);
    let group = [
        ("a", "1", State::Stored),
        ("b", "2", State::Committing),
        illegal,
    ];
    write(&mut ledger, &group).expect_err("stored without passing the gate");
    let other = write(&mut ledger, &[("a", "2", State::Committing)]);
    other.expect_err("its first attempt is still open");
    write(&mut ledger, &[("b", "2", State::Stored)]).expect_err("its gate never opened");
    assert_eq!(asked(&folder, "SELECT path FROM in_doubt"), ["a"]);
    // Nothing but a full disk or the like makes the commit itself fail.
    ledger
        .connection
        .execute_batch(
            "CREATE TRIGGER full BEFORE DELETE ON intents BEGIN SELECT RAISE(FAIL, 'full'); END",
        )
        .expect("made");
    let end = [("a", "1", State::Stored), ("b", "3", State::Committing)];
    write(&mut ledger, &end).expect_err("full");
    ledger
        .connection
        .execute_batch("DROP TRIGGER full")
        .expect("dropped");
    write(&mut ledger, &end).expect("as if it had not been tried");
    assert_eq!(state(&ledger, "a"), Some(KnownState::Stored));
    assert_eq!(doubtful_paths(&ledger), ["b"]);
}

#[test]
fn a_reader_beside_a_run_sees_one_moment_of_it() {
    let (folder, mut ledger) = fresh();
    let gates = [("a", "1", State::Committing), ("b", "2", State::Committing)];
    write(&mut ledger, &gates).expect("legal");
    let reader = read_only(&folder);
    let ends = [("a", "1", State::Stored), ("b", "2", State::Failed)];
    write(&mut ledger, &ends).expect("a reader holds nobody up");
    assert_eq!(doubtful_paths(&reader), ["a", "b"]);
    assert_eq!(files(&reader).len(), 2);
    assert_eq!(doubtful_paths(&read_only(&folder)), [""; 0]);
}

#[test]
fn names_of_every_kind_come_back_from_an_intent() {
    let names = ["\"", "\\", "\n", "\u{1}", "é\u{2028}", "a\"b\\c'd"];
    let (folder, mut ledger) = fresh();
    let gate = names.map(|name| {
        Entry::Step(Transition {
            remote_name: name.to_owned(),
            digest: None,
            tag: Tag::None,
            rule: RuleName::new(name),
            ..transition(name, name, State::Committing)
        })
    });
    ledger.write(&gate).expect("legal");
    drop(ledger);
    let mut sorted = names.map(str::to_owned).to_vec();
    sorted.sort();
    let in_doubt = "SELECT path FROM in_doubt ORDER BY path";
    assert_eq!(asked(&folder, in_doubt), sorted);
    let ledgers = [
        read_only(&folder),
        SqliteLedger::open(&at(&folder)).expect("opens"),
    ];
    for ledger in ledgers {
        for doubt in ledger.doubts().expect("read") {
            let name = doubt.path.as_str();
            assert_eq!((&*doubt.remote_name, doubt.attempt.as_str()), (name, name));
            assert_eq!((doubt.digest, doubt.tag), (None, Tag::None));
        }
        assert_eq!(doubtful_paths(&ledger), sorted);
        let files = files(&ledger);
        assert!(
            files
                .iter()
                .all(|row| row.rule.as_str() == row.path.as_str())
        );
    }
}

#[test]
fn an_intent_that_no_version_wrote_is_damage() {
    let (folder, mut ledger) = fresh();
    write(&mut ledger, &[("a", "1", State::Committing)]).expect("legal");
    ledger
        .connection
        .execute_batch("UPDATE intents SET attempts = '[{\"path\": 7}]'")
        .expect("done");
    drop(ledger);
    for result in [
        SqliteLedger::open(&at(&folder)).map(|_| ()),
        SqliteLedger::open_read_only(&at(&folder)).map(|_| ()),
    ] {
        let error = result.expect_err("damaged");
        assert!(matches!(error, LedgerError::Damaged { .. }), "{error}");
    }
}

/// What is done between two groups.
#[derive(Debug, Clone, Copy)]
enum Between {
    Nothing,
    ReadAnew,
    Read,
    Reopen,
}

proptest! {
    /// The model is what each file's latest attempt came to; groups of any steps, legal or not,
    /// with crashes and readers at any moment.
    #[test]
    fn open_gates_agree_with_a_naive_model(
        groups in prop::collection::vec(
            (
                prop::collection::vec(("[abc]", 0_u8..3, 0_usize..8), 1..4),
                prop::sample::select(vec![
                    Between::Nothing, Between::Nothing, Between::ReadAnew, Between::Read,
                    Between::Reopen,
                ]),
            ),
            1..25,
        )
    ) {
        let (folder, mut ledger) = fresh();
        let mut model: BTreeMap<String, Model> = BTreeMap::new();
        for (steps, between) in groups {
            let mut after = model.clone();
            let mut legal = true;
            let mut group = Vec::new();
            for (path, attempt, kind) in steps {
                // Likelier than the others: what an upload does.
                let state = [
                    State::Committing, State::Committing, State::Stored, State::Failed,
                    State::InDoubt, State::Withdrawn, State::Opened, State::Rejected,
                ][kind];
                group.push(step(&path, &attempt.to_string(), state));
                let before = after.get(&path);
                let related = before.map(|m| {
                    let same = m.attempt == attempt;
                    (m.state, if same { Relation::SameAttempt } else { Relation::OtherAttempt })
                });
                legal &= state.may_follow(related);
                let stored = match state {
                    State::Stored => Some(attempt),
                    _ => before.and_then(|m| m.stored),
                };
                after.insert(path, Model { attempt, state, stored });
            }
            let written = ledger.write(&group);
            prop_assert_eq!(written.is_ok(), legal, "{:?}", written);
            if legal {
                model = after;
            }
            match between {
                Between::Nothing => {}
                Between::Read => assert_agrees(&ledger, &model)?,
                Between::ReadAnew => assert_agrees(&read_only(&folder), &model)?,
                Between::Reopen => {
                    drop(ledger);
                    ledger = SqliteLedger::open(&at(&folder)).expect("opens");
                }
            }
        }
        assert_agrees(&read_only(&folder), &model)?;
        assert_agrees(&ledger, &model)?;
        let doubts: Vec<&str> = model
            .iter()
            .filter(|(_, m)| m.state.is_doubtful())
            .map(|(path, _)| path.as_str())
            .collect();
        prop_assert_eq!(asked(&folder, "SELECT path FROM in_doubt ORDER BY path"), doubts);
    }
}

fn assert_agrees(
    ledger: &SqliteLedger,
    model: &BTreeMap<String, Model>,
) -> Result<(), TestCaseError> {
    for path in ["a", "b", "c"] {
        let is_new = |m: &&Model| m.state == State::Withdrawn && m.stored.is_none();
        let known = model.get(path).filter(|m| !is_new(m));
        let expected = known.map(|m| match m.state {
            State::Stored | State::Withdrawn => KnownState::Stored,
            State::Committing | State::InDoubt => {
                KnownState::InDoubt(AttemptId::new(m.attempt.to_string()), None)
            }
            _ => KnownState::NotStored,
        });
        prop_assert_eq!(state(ledger, path), expected);
        if let Some(attempt) = known.and_then(|m| m.stored) {
            let id = FileId::new(format!("id-{attempt}"));
            prop_assert_eq!(stored(ledger, path).file_id, Some(id));
        }
    }
    let doubtful = model.iter().filter(|(_, m)| m.state.is_doubtful());
    let doubtful: Vec<String> = doubtful.map(|(path, _)| path.clone()).collect();
    prop_assert_eq!(doubtful_paths(ledger), doubtful);
    prop_assert_eq!(files(ledger).len(), model.len());
    rows(ledger, "run-1");
    Ok(())
}
