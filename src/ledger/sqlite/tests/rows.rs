//! What runs planned, and what became of it: the rows of their reports.

use super::*;

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
        .and_then(|c| c.execute_batch(include_str!("../version_3_plans.sql")))
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
