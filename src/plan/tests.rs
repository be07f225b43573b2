use std::collections::HashSet;
use std::fmt::Write;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::diagnostic::Source;
use crate::manifest::{Given, read};
use crate::model::{
    AttemptId, Candidate, DatasetId, Digest, DigestsRead, Environment, FileId, KnownFile,
    KnownState, Metadata, Owner, RelativePath, RootCandidates, RuleName, shown,
};
use crate::spill::Spill;

const RULE: &str = "version: 1\nuploads:\n- {name: all, root: in, include: '**', dataset_id: d}\n";

/// Long after every time in these tests.
const NOW: i64 = 2_000_000_000;

fn manifest(text: &str) -> Manifest {
    let source = Source {
        name: "m.yaml".to_owned(),
        text: text.to_owned(),
    };
    let reading = read(
        &source,
        Path::new("m.yaml"),
        Given::environment(&Environment::default()),
    );
    assert_eq!(reading.diagnostics, [], "{text}");
    reading.manifest
}

fn stat(size: u64, seconds: i64) -> Stat {
    Stat {
        size,
        mtime_ns: seconds * 1_000_000_000,
        inode: 1,
    }
}

fn file(relative: &str, stat: Stat) -> Candidate {
    Candidate {
        relative: RelativePath::new(relative),
        entry: Entry::File(stat),
    }
}

fn candidates(rules: usize, found: Vec<Candidate>) -> Candidates {
    Candidates {
        roots: vec![RootCandidates::of("in/".to_owned(), None, found)],
        spill: Arc::default(),
        rule_roots: vec![Some(RootId(0)); rules],
    }
}

fn target() -> Target {
    Target {
        origin: Origin::new("sandbox"),
        organization_id: None,
        dataset_id: Some(DatasetId::new("d")),
    }
}

fn known(state: KnownState, stat: Stat, content: &str) -> KnownFile {
    let stored = StoredVersion {
        stat,
        digest: Some(digest(content)),
        metadata: Metadata::default().digest(),
        file_id: Some(FileId::new("id-1")),
        remote_name: "a".to_owned(),
        read_at: Timestamp::from_second(NOW).expect("a time"),
    };
    KnownFile {
        stored: (state == KnownState::Stored).then_some(stored),
        state,
        owner: Owner::ThisStream,
    }
}

fn in_doubt() -> KnownState {
    KnownState::InDoubt(AttemptId::new("attempt"), None)
}

fn digest(content: &str) -> Digest {
    Digest(*blake3::hash(content.as_bytes()).as_bytes())
}

struct Case {
    manifest: Manifest,
    candidates: Candidates,
    known: Known,
    /// Paths that are gone.
    gone: HashSet<SourcePath>,
    digests: Vec<(CandidateId, Result<Digest, Arc<str>>)>,
    in_doubt: InDoubt,
    doubts: Vec<Doubt>,
}

/// A plan, all of it made.
#[derive(Debug, PartialEq)]
struct Made {
    files: Vec<PlannedFile>,
    vanished: usize,
    tallied: usize,
}

impl Case {
    fn new(manifest: Manifest, found: Vec<Candidate>) -> Self {
        Self {
            candidates: candidates(manifest.rules.len(), found),
            manifest,
            known: Known::default(),
            gone: HashSet::new(),
            digests: Vec::new(),
            in_doubt: InDoubt::default(),
            doubts: Vec::new(),
        }
    }

    fn with_sketch<T>(&self, then: impl FnOnce(Sketch<'_>, Gone) -> T) -> T {
        let (origin, run) = (Origin::new("sandbox"), RunId::new("run"));
        let basis = Basis {
            manifest: &self.manifest,
            candidates: &self.candidates,
            origin: &origin,
            organization: None,
            run: (&run, Timestamp::UNIX_EPOCH),
        };
        let mut selection = Selection::new(&basis);
        selection.finish(&basis);
        let inputs = Inputs {
            basis,
            selection: &selection,
            in_doubt: self.in_doubt,
            doubts: &self.doubts,
        };
        let Ok(sketch) = Sketch::new(&inputs, &self.known);
        let is_gone = |path| self.gone.contains(&path);
        let gone = Gone::new(sketch.absent().map(is_gone));
        then(sketch, gone)
    }

    fn undecided(&self) -> Vec<CandidateId> {
        self.with_sketch(|sketch, gone| sketch.undecided(&gone).iter().collect())
    }

    fn absent(&self) -> BTreeSet<SourcePath> {
        self.with_sketch(|sketch, _| sketch.absent().collect())
    }

    fn plan(&self) -> Made {
        let mut read = DigestsRead::new(&self.candidates.spill);
        for (id, digest) in &self.digests {
            read.push(*id, digest.clone());
        }
        let digests = Digests::of(vec![read]);
        self.with_sketch(|sketch, gone| {
            let Ok(plan) = sketch.finish(&gone, &digests, &self.known);
            let files: Vec<PlannedFile> = plan.files().collect();
            for (row, file) in files.iter().enumerate() {
                assert_eq!(plan.action(row), file.decision.action());
                assert_eq!(plan.reason(row), file.decision.reason());
                assert_eq!(plan.is_upload(row), file.is_upload());
                assert_eq!(plan.asks_service(row), file.asks_service());
                assert_eq!(plan.notes_of(row), file.notes);
                assert_eq!(plan.sending(row), file.sending);
                assert_eq!(plan.stat(row), file.stat);
                assert!(plan.of_rule(file.rule).contains(&row));
            }
            Made {
                files,
                vanished: plan.vanished,
                tallied: plan.tallies().values().map(|tally| tally.files).sum(),
            }
        })
    }

    fn read(&mut self, content: &str) {
        for id in self.undecided() {
            self.digests.push((id, Ok(digest(content))));
        }
    }

    fn decisions(&self) -> Vec<(String, &'static str, &'static str)> {
        let plan = self.plan();
        let rows = plan.files.iter();
        rows.map(|f| {
            (
                f.path.as_str().to_owned(),
                f.decision.action().word(),
                f.decision.reason().word(),
            )
        })
        .collect()
    }
}

/// The first of all candidates.
const FIRST: CandidateId = CandidateId {
    root: RootId(0),
    index: 0,
};

fn one_known(file_stat: Stat, known_file: KnownFile) -> Case {
    let mut case = Case::new(manifest(RULE), vec![file("a.txt", file_stat)]);
    case.known
        .insert(&target(), SourcePath::new("in/a.txt"), known_file);
    case
}

#[test]
fn a_file_the_ledger_does_not_know_is_new() {
    let case = Case::new(manifest(RULE), vec![file("a.txt", stat(1, 0))]);
    assert_eq!(case.decisions(), [("in/a.txt".to_owned(), "upload", "new")]);
}

#[test]
fn what_the_ledger_knows_decides() {
    let same = stat(3, 0);
    for (state, expected) in [
        (KnownState::Stored, ("skip", "unchanged")),
        (KnownState::NotStored, ("upload", "retry")),
        (in_doubt(), ("hold", "in_doubt")),
    ] {
        let case = one_known(same, known(state, same, "abc"));
        let decided = &case.decisions()[0];
        assert_eq!((decided.1, decided.2), expected);
        assert_eq!(case.undecided(), []);
    }
    let grown = one_known(stat(4, 0), known(KnownState::Stored, same, "abc"));
    assert_eq!(grown.decisions()[0].2, "changed");
    assert_eq!(grown.undecided(), []);
}

#[test]
fn a_file_that_goes_back_to_its_stored_version_is_not_sent_again() {
    let version = known(KnownState::Stored, stat(3, 0), "abc");
    let failed_since = KnownFile {
        state: KnownState::NotStored,
        ..version
    };
    let back = one_known(stat(3, 0), failed_since.clone());
    assert_eq!(back.decisions()[0].2, "unchanged");
    let still_other = one_known(stat(4, 0), failed_since);
    assert_eq!(still_other.decisions()[0].2, "retry");
}

#[test]
fn a_rule_that_overlaps_later_leaves_what_is_stored_as_it_is() {
    let both = manifest(
        "version: 1\ndefaults: {root: in, dataset_id: d}\nuploads:\n- {name: a, include: '*'}\n\
         - {name: b, include: 'x*'}\n",
    );
    let same = stat(3, 0);
    let mut case = Case::new(both, vec![file("x.txt", same)]);
    let path = SourcePath::new("in/x.txt");
    case.known.insert(
        &target(),
        path.clone(),
        known(KnownState::Stored, same, "abc"),
    );
    let reasons = |case: &Case| -> Vec<&str> { case.decisions().iter().map(|d| d.2).collect() };
    assert_eq!(reasons(&case), ["unchanged", "unchanged"]);
    case.known
        .insert(&target(), path, known(in_doubt(), same, "abc"));
    assert_eq!(reasons(&case), ["in_doubt", "in_doubt"]);
}

#[test]
fn another_time_or_inode_makes_the_content_decide() {
    let other_inode = Stat {
        inode: 2,
        ..stat(3, 0)
    };
    for now in [stat(3, 5), other_inode] {
        let mut case = one_known(now, known(KnownState::Stored, stat(3, 0), "abc"));
        assert_eq!(case.undecided(), [FIRST]);
        for (content, reason) in [
            (Ok(digest("abc")), "unchanged"),
            (Ok(digest("abd")), "changed"),
            (Err("gone".into()), "unusable"),
        ] {
            case.digests = vec![(FIRST, content)];
            assert_eq!(case.decisions()[0].2, reason);
        }
    }
}

#[test]
fn a_time_too_close_to_the_reading_proves_nothing() {
    let recent = stat(3, NOW - 1);
    let case = one_known(recent, known(KnownState::Stored, recent, "abc"));
    assert_eq!(case.undecided().len(), 1);
    let settled = stat(3, NOW - 3);
    let case = one_known(settled, known(KnownState::Stored, settled, "abc"));
    assert_eq!(case.undecided().len(), 0);
}

#[test]
fn one_file_for_one_target_by_two_rules_is_a_conflict_of_both() {
    let both = manifest(
        "version: 1\ndefaults: {root: in, dataset_id: d}\nuploads:\n- {name: a, include: '*.txt'}\n\
         - {name: b, include: 'x*'}\n- {name: c, include: '*', dataset_id: e}\n",
    );
    let case = Case::new(
        both,
        vec![file("x.txt", stat(1, 0)), file("y.txt", stat(1, 0))],
    );
    let decided: Vec<_> = case
        .plan()
        .files
        .iter()
        .map(|f| (f.rule, f.relative.as_str().to_owned(), f.decision.clone()))
        .collect();
    let new = Decision::Upload(UploadReason::New);
    assert_eq!(
        decided,
        [
            (
                0,
                "x.txt".to_owned(),
                Decision::Conflict(RuleName::new("b"))
            ),
            (0, "y.txt".to_owned(), new.clone()),
            (
                1,
                "x.txt".to_owned(),
                Decision::Conflict(RuleName::new("a"))
            ),
            (2, "x.txt".to_owned(), new.clone()),
            (2, "y.txt".to_owned(), new),
        ]
    );
}

#[test]
fn names_that_the_service_changes_or_that_clash_are_noted() {
    let case = Case::new(
        manifest(RULE),
        vec![
            file("a/x.txt", stat(1, 0)),
            file("b/odd\u{a0}name", stat(0, 0)),
            file("b/x.txt", stat(1, 0)),
            file("c/back\\slash", stat(1 << 31, 0)),
        ],
    );
    let notes: Vec<Vec<String>> = case
        .plan()
        .files
        .iter()
        .map(|f| f.notes.iter().map(ToString::to_string).collect())
        .collect();
    let shared = "1 other file of this plan with the same name there";
    assert_eq!(notes[0], [shared]);
    assert_eq!(notes[2], [shared]);
    assert_eq!(
        notes[1],
        [
            "the service will store it as \"oddname\"",
            "it is empty; a service may refuse it"
        ]
    );
    assert_eq!(
        notes[3],
        [
            "the service will store it as \"back_slash\"",
            "2 GiB or more: the API cannot state its size"
        ]
    );
}

#[test]
fn a_file_whose_texts_cannot_be_rendered_is_a_row_of_its_own() {
    let text = "version: 1\nuploads:\n- name: a\n  root: in\n  include: '*'\n  file_name: '${{ \
                file.name | replace(file.stem, \"\") | replace(\".\", \"\") }}'\n";
    let case = Case::new(
        manifest(text),
        vec![file("a.txt", stat(1, 0)), file("noext", stat(1, 0))],
    );
    let plan = case.plan();
    assert_eq!(
        plan.files[0]
            .sending
            .as_ref()
            .map(|s| s.remote_name.as_str()),
        Some("txt")
    );
    assert!(
        matches!(&plan.files[1].decision, Decision::Unusable(why) if why.contains("leaves nothing"))
    );
}

#[test]
fn patterns_that_match_nothing_are_named() {
    let text = "version: 1\nuploads:\n- {name: a, root: in, include: ['*.pdf', '*.txt', 'z/**']}\n";
    let case = Case::new(manifest(text), vec![file("a.txt", stat(1, 0))]);
    assert_eq!(
        unmatched(&case.manifest, &case.candidates),
        [(0, 0), (0, 2)]
    );
}

#[test]
fn changed_metadata_is_noted_and_not_sent() {
    let text = "version: 1\nuploads:\n- {name: all, root: in, include: '**', dataset_id: d, \
                metadata: {k: v}}\n";
    let same = stat(3, 0);
    let mut case = Case::new(manifest(text), vec![file("a.txt", same)]);
    let path = SourcePath::new("in/a.txt");
    case.known
        .insert(&target(), path, known(KnownState::Stored, same, "abc"));
    let plan = case.plan();
    assert_eq!(plan.files[0].decision.reason().word(), "unchanged");
    assert_eq!(plan.files[0].notes, [Note::MetadataDiffers]);
}

proptest! {
    /// A naive reading of the rules, file by file, is the oracle.
    #[test]
    fn decisions_agree_with_a_naive_model(
        files in prop::collection::btree_map("[a-c]{1,2}", (0_u64..3, 0_i64..3, "[xy]"), 0..6),
        stored in prop::collection::btree_map("[a-c]{1,2}", (0_u64..3, 0_i64..3, "[xy]", 0_u8..3), 0..6),
    ) {
        let found = files.iter().map(|(n, (size, time, _))| file(n, stat(*size, *time))).collect();
        let mut case = Case::new(manifest(RULE), found);
        for (name, (size, time, content, state)) in &stored {
            let state = [KnownState::Stored, KnownState::NotStored, in_doubt()][*state as usize].clone();
            let path = SourcePath::new(format!("in/{name}"));
            case.known.insert(&target(), path, known(state, stat(*size, *time), content));
        }
        for id in case.undecided() {
            let path = case.candidates.roots[0].relative(id.index);
            let content = &files[path.as_str()].2;
            case.digests.push((id, Ok(digest(content))));
        }
        let plan = case.plan();
        prop_assert_eq!(plan.files.len(), files.len());
        prop_assert_eq!(plan.tallied, files.len());
        for row in &plan.files {
            let (size, time, content) = &files[row.relative.as_str()];
            let expected = match stored.get(row.relative.as_str()) {
                None => "new",
                Some((_, _, _, 1)) => "retry",
                Some((_, _, _, 2)) => "in_doubt",
                Some((s, t, _, _)) if s == size && t == time => "unchanged",
                Some((s, _, c, _)) if s == size && c == content => "unchanged",
                Some(_) => "changed",
            };
            prop_assert_eq!(row.decision.reason().word(), expected, "{}", shown(row.relative.as_str()));
        }
        prop_assert_eq!(case.plan(), plan, "the same inputs give the same plan");
    }
}

fn rule_with(keys: &str) -> Manifest {
    manifest(&format!(
        "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: d, {keys}}}\n"
    ))
}

/// A stored file `in/a` of five bytes, found now with this stat, and this content if it is read.
fn found_again(keys: &str, now: Stat, content: &str) -> (&'static str, &'static str) {
    let mut case = Case::new(rule_with(keys), vec![file("a", now)]);
    let path = SourcePath::new("in/a");
    let before = known(KnownState::Stored, stat(5, 100), "bytes");
    case.known.insert(&target(), path, before);
    case.read(content);
    let (_, action, reason) = case.decisions().remove(0);
    (action, reason)
}

#[test]
fn what_counts_as_changed_and_what_is_done_then_is_the_rules_choice() {
    for (keys, now, content, expected) in [
        ("", stat(5, 100), "bytes", ("skip", "unchanged")),
        ("", stat(5, 200), "bytes", ("skip", "unchanged")),
        ("", stat(5, 200), "other", ("upload", "changed")),
        (
            "on_change: skip",
            stat(5, 200),
            "other",
            ("skip", "change_ignored"),
        ),
        (
            "on_change: skip",
            stat(6, 200),
            "longer",
            ("skip", "change_ignored"),
        ),
        (
            "on_change: skip",
            stat(5, 200),
            "bytes",
            ("skip", "unchanged"),
        ),
        (
            "on_change: fail",
            stat(5, 200),
            "other",
            ("refuse", "changed"),
        ),
        (
            "on_change: fail",
            stat(5, 200),
            "bytes",
            ("skip", "unchanged"),
        ),
        (
            "compare: size_mtime",
            stat(5, 200),
            "bytes",
            ("upload", "changed"),
        ),
        (
            "compare: size_mtime",
            stat(5, 100),
            "other",
            ("skip", "unchanged"),
        ),
        (
            "compare: size_mtime, on_change: fail",
            stat(5, 9),
            "",
            ("refuse", "changed"),
        ),
        (
            "metadata: {k: v}",
            stat(5, 100),
            "bytes",
            ("skip", "unchanged"),
        ),
        (
            "metadata: {k: v}, on_metadata_change: upload",
            stat(5, 100),
            "bytes",
            ("upload", "metadata_changed"),
        ),
        (
            "on_metadata_change: upload",
            stat(5, 200),
            "bytes",
            ("skip", "unchanged"),
        ),
    ] {
        assert_eq!(
            found_again(keys, now, content),
            expected,
            "{keys} {content}"
        );
    }
}

#[test]
fn nothing_is_read_where_size_and_time_are_believed() {
    let replaced = Stat {
        inode: 9,
        ..stat(5, 100)
    };
    let mut case = Case::new(rule_with("compare: size_mtime"), vec![file("a", replaced)]);
    let before = known(KnownState::Stored, stat(5, 100), "bytes");
    case.known
        .insert(&target(), SourcePath::new("in/a"), before);
    assert_eq!(case.undecided(), []);
    assert_eq!(case.decisions()[0].1, "skip");
}

#[test]
fn a_file_in_doubt_is_held_or_sent_again_as_the_policy_says() {
    for (policy, expected, says) in [
        (InDoubt::Verify, "hold", "to be looked up"),
        (InDoubt::Hold, "hold", "held until"),
        (InDoubt::Resend, "upload", "sent again"),
    ] {
        let mut case = Case::new(manifest(RULE), vec![file("a", stat(5, 100))]);
        case.in_doubt = policy;
        let before = known(in_doubt(), stat(5, 100), "bytes");
        case.known
            .insert(&target(), SourcePath::new("in/a"), before);
        let plan = case.plan();
        assert_eq!(plan.files[0].decision.action().word(), expected);
        let text = plan.files[0].decision.to_string();
        assert!(text.contains(says), "{text}");
    }
}

/// `old` is stored and gone; these files are found, all with its content.
fn moved(keys: &str, remote_name: &str, found: &[&str]) -> (Vec<&'static str>, usize) {
    let found = found.iter().map(|path| file(path, stat(5, 300))).collect();
    let mut case = Case::new(rule_with(keys), found);
    let mut before = known(KnownState::Stored, stat(5, 100), "bytes");
    if let Some(stored) = &mut before.stored {
        stored.remote_name = remote_name.to_owned();
    }
    let path = SourcePath::new("in/old/a");
    case.known.insert(&target(), path.clone(), before);
    assert_eq!(case.absent(), BTreeSet::from([path.clone()]));
    case.gone.insert(path);
    case.read("bytes");
    let vanished = case.plan().vanished;
    let reasons = case.decisions().into_iter().map(|(_, _, reason)| reason);
    (reasons.collect(), vanished)
}

#[test]
fn a_file_that_was_moved_is_adopted_once_if_all_that_is_stored_is_the_same() {
    for (keys, remote_name, found, expected) in [
        ("", "a", &["new/a"] as &[&str], (vec!["moved"], 0)),
        ("", "a", &["new/a", "newer/a"], (vec!["moved", "new"], 0)),
        ("", "b", &["new/a"], (vec!["new"], 1)),
        ("metadata: {k: v}", "a", &["new/a"], (vec!["new"], 1)),
        ("", "a", &[], (vec![], 1)),
    ] {
        assert_eq!(
            moved(keys, remote_name, found),
            expected,
            "{keys} {found:?}"
        );
    }
}

#[test]
fn what_is_still_there_or_another_streams_is_not_moved_nor_vanished() {
    let mut case = Case::new(manifest(RULE), vec![file("new/a", stat(5, 300))]);
    let there = SourcePath::new("elsewhere/a");
    let before = known(KnownState::Stored, stat(5, 100), "bytes");
    case.known.insert(&target(), there, before.clone());
    let theirs = SourcePath::new("theirs/a");
    let other = KnownFile {
        owner: Owner::AnotherStream,
        ..before
    };
    case.known.insert(&target(), theirs.clone(), other);
    case.gone.insert(theirs);
    assert_eq!(case.undecided(), []);
    assert_eq!(case.decisions()[0].2, "new");
    assert_eq!(case.plan().vanished, 0);
}

#[test]
fn a_file_in_doubt_that_was_moved_is_held_and_not_sent_as_a_new_one() {
    let found = ["in/new/a", "in/new/b"].map(|path| file(&path[3..], stat(5, 300)));
    let mut case = Case::new(manifest(RULE), found.into());
    let path = SourcePath::new("in/a");
    case.known
        .insert(&target(), path.clone(), known(in_doubt(), stat(5, 100), ""));
    case.doubts.push(Doubt {
        attempt: AttemptId::new("attempt"),
        stream: "tests".to_owned(),
        target: target(),
        path: path.clone(),
        remote_name: "a".to_owned(),
        stat: stat(5, 100),
        digest: Some(digest("bytes")),
        metadata: digest("metadata"),
        tag: crate::model::Tag::None,
        began: Timestamp::UNIX_EPOCH,
        since: Timestamp::UNIX_EPOCH,
        absent_since: None,
        reason: None,
        last_look: None,
    });
    assert_eq!(case.absent(), BTreeSet::from([path.clone()]));
    let reasons = |case: &Case| -> Vec<&'static str> {
        let rows = case.decisions().into_iter();
        rows.map(|(_, _, reason)| reason).collect()
    };
    assert_eq!(case.undecided(), []);
    assert_eq!(reasons(&case), ["new", "new"], "its source is still there");
    case.gone.insert(path);
    case.read("bytes");
    assert_eq!(reasons(&case), ["in_doubt", "new"]);
    for (_, read) in &mut case.digests {
        *read = Ok(digest("other"));
    }
    assert_eq!(reasons(&case), ["new", "new"]);
}

proptest! {
    /// Each stored file that is gone is adopted once, by the first that is the same; whether what is
    /// left fits into memory or not.
    #[test]
    fn moved_files_agree_with_a_naive_model(
        old in prop::collection::btree_map("[a-e]{1,2}", (0_usize..3, "[xy]", any::<bool>()), 0..12),
        new in prop::collection::btree_map("[a-e]{1,2}", (0_usize..3, prop::option::of("[xy]")), 0..12),
        room in prop::sample::select(vec![0_usize, 200, usize::MAX]),
    ) {
        let found = new.iter().map(|(name, (size, _))| file(&format!("new/{name}/a"), stat(*size as u64, 9)));
        let mut case = Case::new(manifest(RULE), found.collect());
        case.candidates.spill = Arc::new(Spill::new(room, tempfile::tempfile));
        let mut orphans: Vec<(SourcePath, String)> = Vec::new();
        for (name, (size, content, is_gone)) in &old {
            let path = SourcePath::new(format!("old/{name}/a"));
            let content = content.repeat(*size);
            let mut before = known(KnownState::Stored, stat(*size as u64, 0), &content);
            if let Some(stored) = &mut before.stored {
                stored.file_id = Some(FileId::new(path.as_str()));
            }
            case.known.insert(&target(), path.clone(), before);
            if *is_gone {
                case.gone.insert(path.clone());
                orphans.push((path, content));
            }
        }
        for id in case.undecided() {
            let path = case.candidates.roots[0].relative(id.index);
            let name = path.as_str().split('/').nth(1).expect("a name");
            let (size, content) = &new[name];
            let read = content.as_ref().map(|content| digest(&content.repeat(*size)));
            let read = read.ok_or_else(|| "unreadable".into());
            case.digests.push((id, read));
        }
        let plan = case.plan();
        for (row, (size, content)) in plan.files.iter().zip(new.values()) {
            let content = content.as_ref().map(|content| content.repeat(*size));
            let is_same = |(_, old): &(SourcePath, String)| content.as_ref() == Some(old);
            let expected = match orphans.iter().position(is_same) {
                Some(at) => {
                    let (from, _) = orphans.remove(at);
                    Decision::Skip(Skip {
                        file_id: Some(FileId::new(from.as_str())),
                        digest: content.as_deref().map(digest),
                        why: SkipReason::Moved(from),
                    })
                }
                None => Decision::Upload(UploadReason::New),
            };
            prop_assert_eq!(&row.decision, &expected);
        }
        prop_assert_eq!(plan.vanished, orphans.len());
    }
}

/// What a ledger may know of `name`: of which target, how it stands, whose it is.
type Past = (String, u8, u8, bool);

proptest! {
    /// A map of all that is known is the oracle, whatever the rules, copies and pages.
    #[test]
    fn the_ordered_join_agrees_with_a_map(
        names in prop::collection::btree_set("[ab]{1,2}(![ab])?", 0..8),
        rules in prop::collection::vec(("(\\*|a\\*|b\\*)", 0_u8..2), 1..4),
        past in prop::collection::vec(
            ("[ab]{1,2}(![ab])?(//r[0-2])?", 0_u8..3, 0_u8..3, any::<bool>()), 0..12,
        ),
        overlap in prop::sample::select(&["error", "all"][..]),
    ) {
        let mut text = format!("version: 1\noverlap: {overlap}\nuploads:\n");
        for (index, (include, dataset)) in rules.iter().enumerate() {
            let _ = writeln!(
                text,
                "- {{name: r{index}, root: in, include: '{include}', dataset_id: d{dataset}}}"
            );
        }
        let same = stat(3, 0);
        let found = names.iter().map(|name| file(name, same)).collect();
        let mut case = Case::new(manifest(&text), found);
        let target = |dataset: u8| Target {
            dataset_id: Some(DatasetId::new(format!("d{dataset}"))),
            ..target()
        };
        let mut left = BTreeSet::new();
        for past in &past {
            let (name, dataset, state, ours): &Past = past;
            let state = [KnownState::Stored, KnownState::NotStored, in_doubt()][*state as usize].clone();
            let before = KnownFile {
                owner: if *ours { Owner::ThisStream } else { Owner::AnotherStream },
                ..known(state, same, "abc")
            };
            let path = SourcePath::new(format!("in/{name}"));
            case.known.insert(&target(*dataset), path, before);
        }
        let plan = case.plan();
        for row in &plan.files {
            let target = target(rules[row.rule].1);
            let is_conflict = matches!(row.decision, Decision::Conflict(_));
            let expected = match case.known.get(&target, &row.path).map(|known| &known.state) {
                Some(KnownState::Stored) => "unchanged",
                Some(KnownState::InDoubt(..)) => "in_doubt",
                _ if is_conflict => "same_file",
                Some(KnownState::NotStored) => "retry",
                None => "new",
            };
            prop_assert_eq!(row.decision.reason().word(), expected, "{:?}", row.path);
            let twins = plan.files.iter().filter(|other| {
                other.path == row.path && rules[other.rule].1 == rules[row.rule].1
            });
            let is_sent = matches!(row.decision.reason(), Reason::New | Reason::Retry);
            prop_assert!(!is_sent || twins.count() == 1, "{:?}", row.path);
        }
        for (other, path, known) in case.known.iter() {
            let mut takers = plan.files.iter();
            let is_taken = takers.any(|row| row.path == *path && target(rules[row.rule].1) == *other);
            let is_asked = rules.iter().any(|(_, dataset)| target(*dataset) == *other);
            let is_ours = known.owner == Owner::ThisStream && known.state == KnownState::Stored;
            if is_asked && is_ours && !is_taken {
                left.insert(path.clone());
            }
        }
        prop_assert_eq!(case.absent(), left);
    }
}
