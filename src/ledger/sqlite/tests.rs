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

mod file;
mod intents;
mod known;
mod rows;
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

/// What the naive model knows of a file.
#[derive(Debug, Clone)]
struct Model {
    attempt: u8,
    state: State,
    stored: Option<u8>,
}
