//! What is known of files after what was written of them.

use super::*;

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
