//! What is read: what a plan needs to know, runs and the rows of their reports.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::write::target_key;
use crate::ledger::{LedgerError, Relation, RunKind, RunRecord, RunRow, State};
use crate::model::{
    AttemptId, DatasetId, Digest, FileId, JobEnd, Known, KnownFile, KnownState, Metadata,
    OrganizationId, Origin, Outcome, Owner, RuleName, RunId, SourcePath, Stat, StoredVersion,
    Target,
};

/// Why a read failed: the database, or what it holds.
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Impossible(LedgerError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Origin, organization and dataset, from a column on.
pub(super) fn target(row: &Row<'_>, from: usize) -> rusqlite::Result<Target> {
    let optional = |column: usize| -> rusqlite::Result<Option<String>> {
        Ok(Some(row.get::<_, String>(column)?).filter(|text| !text.is_empty()))
    };
    Ok(Target {
        origin: Origin::new(row.get::<_, String>(from)?),
        organization_id: optional(from + 1)?.map(OrganizationId::new),
        dataset_id: optional(from + 2)?.map(DatasetId::new),
    })
}

pub(super) fn known(
    connection: &Connection,
    targets: &[Arc<Target>],
    stream: &str,
) -> rusqlite::Result<Known> {
    let mut known = Known::default();
    let mut find = connection.prepare(
        "SELECT target_id FROM targets
         WHERE origin = ?1 AND organization_id = ?2 AND dataset_id = ?3",
    )?;
    // The history is read only of what is in doubt.
    let mut select = connection.prepare(
        "SELECT f.path, f.state, f.attempt_id, t.reason, f.file_id, f.stored_size,
                f.stored_mtime_ns, f.stored_inode, f.stored_blake3, f.stored_metadata_blake3,
                f.stored_read_at, f.stored_remote_name, f.stream = ?2, t.state
         FROM file_states f
         LEFT JOIN transitions t ON t.transition_id = f.transition_id
              AND f.state IN ('committing', 'in_doubt')
         WHERE f.target_id = ?1",
    )?;
    for target in targets {
        let id = find.query_row(target_key(target), |row| row.get::<_, i64>(0));
        let Some(id) = id.optional()? else {
            continue;
        };
        let mut rows = select.query(params![id, stream])?;
        while let Some(row) = rows.next()? {
            let path: String = row.get(0)?;
            if let Some(file) = known_file(row)? {
                known.insert(target, SourcePath::new(path), file);
            }
        }
    }
    Ok(known)
}

pub(super) fn elsewhere(
    connection: &Connection,
    targets: &[Arc<Target>],
    stream: &str,
    paths: &HashSet<&SourcePath>,
) -> rusqlite::Result<Vec<(Target, usize)>> {
    let mut others = connection.prepare(
        "SELECT origin, organization_id, dataset_id, target_id FROM targets ORDER BY target_id",
    )?;
    let mut select = connection.prepare(
        "SELECT path FROM file_states
         WHERE target_id = ?1 AND stream = ?2 AND stored_size IS NOT NULL",
    )?;
    let others = others.query_map([], |row| Ok((target(row, 0)?, row.get::<_, i64>(3)?)))?;
    let mut found = Vec::new();
    for other in others {
        let (target, id) = other?;
        if targets.iter().any(|wanted| **wanted == target) {
            continue;
        }
        let mut files = 0;
        let mut rows = select.query(params![id, stream])?;
        while let Some(row) = rows.next()? {
            files += usize::from(paths.contains(&SourcePath::new(row.get::<_, String>(0)?)));
        }
        if files > 0 {
            found.push((target, files));
        }
    }
    Ok(found)
}

/// None where nothing of the file ever left.
fn known_file(row: &Row<'_>) -> rusqlite::Result<Option<KnownFile>> {
    let word: String = row.get(1)?;
    let size: Option<i64> = row.get(5)?;
    let state = match State::of_word(&word) {
        Some(State::Withdrawn) if size.is_none() => return Ok(None),
        // What was withdrawn changed nothing of what is stored.
        Some(State::Stored | State::Withdrawn) => KnownState::Stored,
        // A run that died before the gate left it `opened`: the service cannot have it.
        Some(State::Opened | State::Rejected | State::Failed | State::Abandoned) => {
            KnownState::NotStored
        }
        // A run that died between gate and answer left it `committing`.
        Some(State::Committing | State::InDoubt) => {
            if row.get::<_, Option<String>>(13)?.as_deref() != Some(word.as_str()) {
                return Err(unreadable(13, "its history says otherwise"));
            }
            KnownState::InDoubt(AttemptId::new(row.get::<_, String>(2)?), row.get(3)?)
        }
        Some(State::Forgotten) | None => return Err(unreadable(1, "no state of a file")),
    };
    let owner = if row.get(12)? {
        Owner::ThisStream
    } else {
        Owner::AnotherStream
    };
    let Some(size) = size else {
        if state == KnownState::Stored {
            return Err(unreadable(5, "stored, but nothing says what"));
        }
        return Ok(Some(KnownFile {
            state,
            stored: None,
            owner,
        }));
    };
    let stored = StoredVersion {
        stat: Stat {
            size: size.cast_unsigned(),
            mtime_ns: row.get(6)?,
            inode: row.get::<_, i64>(7)?.cast_unsigned(),
        },
        digest: digest(row, 8)?,
        metadata: digest(row, 9)?.ok_or_else(|| unreadable(9, "no digest"))?,
        file_id: row.get::<_, Option<String>>(4)?.map(FileId::new),
        read_at: time(row, 10)?,
        remote_name: row.get(11)?,
    };
    Ok(Some(KnownFile {
        state,
        stored: Some(stored),
        owner,
    }))
}

const RUN_COLUMNS: &str = "run_id, stream, kind, started_at, ended_at, exit_code, planned, \
                           vanished, stopped, outcomes, run_number";

pub(super) fn runs(connection: &Connection, stream: &str) -> rusqlite::Result<Vec<RunRecord>> {
    let mut select = connection.prepare(&format!(
        "SELECT {RUN_COLUMNS} FROM run_log WHERE stream = ?1 ORDER BY run_number DESC"
    ))?;
    select.query_map([stream], |row| Ok(run(row)?.0))?.collect()
}

fn run(row: &Row<'_>) -> rusqlite::Result<(RunRecord, i64)> {
    let kind: String = row.get(2)?;
    let stopped: Option<String> = row.get(8)?;
    let outcomes: Option<String> = row.get(9)?;
    let json = |column, text: Option<String>| -> rusqlite::Result<Option<Value>> {
        text.map(|text| serde_json::from_str(&text).map_err(|_| unreadable(column, "no JSON")))
            .transpose()
    };
    let stopped = json(8, stopped)?;
    let outcomes = json(9, outcomes)?;
    let count = |outcomes: &Value, outcome: Outcome| {
        let number = outcomes.get(outcome.word()).and_then(Value::as_u64);
        (outcome, number.map_or(0, size))
    };
    let record = RunRecord {
        run: RunId::new(row.get::<_, String>(0)?),
        stream: row.get(1)?,
        kind: RunKind::of_word(&kind).ok_or_else(|| unreadable(2, "no kind of run"))?,
        started: time(row, 3)?,
        ended: optional_time(row, 4)?,
        exit_code: row.get(5)?,
        planned: size(row.get::<_, i64>(6)?.cast_unsigned()),
        vanished: size(row.get::<_, i64>(7)?.cast_unsigned()),
        stopped: stopped
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect(),
        outcomes: outcomes.map(|outcomes| {
            Outcome::ALL
                .map(|outcome| count(&outcomes, outcome))
                .to_vec()
        }),
    };
    Ok((record, row.get(10)?))
}

/// Where a file's attempts of one run have come.
struct Last {
    attempt: AttemptId,
    state: State,
    /// Whether an attempt of this run, not only the settling of an earlier one, is meant.
    own: Option<(u32, Timestamp)>,
    /// None where nothing was sent after all.
    end: Option<JobEnd>,
}

pub(super) fn rows(connection: &Connection, id: &RunId) -> Result<Vec<RunRow>, Failure> {
    let query = format!("SELECT {RUN_COLUMNS} FROM run_log WHERE run_id = ?1");
    let found = connection
        .query_row(&query, [id.as_str()], run)
        .optional()?;
    let Some((record, number)) = found else {
        return Ok(Vec::new());
    };
    let targets = targets(connection)?;
    let lasts = replay(connection, number)?;
    let unattempted = if record.stopped.is_empty() {
        "the run ended before its turn".to_owned()
    } else {
        record.stopped.join("; ")
    };
    let mut select = connection.prepare(
        "SELECT rule, target_id, path, decision, outcome, reason, file_id, blake3, attempt_id,
                remote_name, size, content_type, metadata
         FROM plan_rows
         WHERE stream = ?1 AND first_run <= ?2 AND (last_run IS NULL OR last_run >= ?2)
         ORDER BY rule_index, path, plan_row_id",
    )?;
    let mut found = select.query(params![record.stream, number])?;
    let mut rows = Vec::with_capacity(record.planned);
    while let Some(row) = found.next()? {
        let target_id: i64 = row.get(1)?;
        let path: String = row.get(2)?;
        let mut end = planned_end(row)?;
        // Rows that were never to be sent share the path of one that was.
        let decision: String = row.get(3)?;
        let sent = matches!(decision.as_str(), "upload" | "hold");
        let last = lasts.get(&(target_id, path.clone()));
        match last.and_then(|last| last.end.clone()) {
            Some(last) if sent => end = last,
            _ if end.outcome == Outcome::NotAttempted => end.reason = Some(unattempted.clone()),
            _ => {}
        }
        settle_later(connection, target_id, &mut end)?;
        let metadata: Option<String> = row.get(12)?;
        rows.push(RunRow {
            rule: RuleName::new(row.get::<_, String>(0)?),
            target: target_of(&targets, target_id)?,
            path: SourcePath::new(path),
            remote_name: row.get(9)?,
            size: row.get::<_, Option<i64>>(10)?.map(i64::cast_unsigned),
            content_type: row.get(11)?,
            metadata: metadata.map(|text| metadata_of(12, &text)).transpose()?,
            end,
        });
    }
    Ok(rows)
}

/// What the plan alone says of a row's end.
fn planned_end(row: &Row<'_>) -> rusqlite::Result<JobEnd> {
    let outcome: String = row.get(4)?;
    let outcome = Outcome::ALL
        .into_iter()
        .find(|known| known.word() == outcome)
        .ok_or_else(|| unreadable(4, "no outcome"))?;
    Ok(JobEnd {
        file_id: row.get::<_, Option<String>>(6)?.map(FileId::new),
        digest: digest(row, 7)?,
        request_id: row.get::<_, Option<String>>(8)?.map(AttemptId::new),
        ..JobEnd::without_attempt(outcome, row.get(5)?)
    })
}

/// Follows every file through one run's transitions; what cannot follow is an error.
fn replay(connection: &Connection, run: i64) -> Result<HashMap<(i64, String), Last>, Failure> {
    let mut select = connection.prepare(
        "SELECT target_id, path, attempt_id, attempt_number, state, at, started_at, blake3,
                file_id, http_status, returned_name, returned_dataset, settled_by, reason
         FROM transitions
         WHERE run_number = ?1
             AND (settled_by IS NULL OR settled_by IN ('hand', 'listing', 'policy'))
         ORDER BY transition_id",
    )?;
    let mut found = select.query([run])?;
    let mut lasts: HashMap<(i64, String), Last> = HashMap::new();
    while let Some(row) = found.next()? {
        let path: String = row.get(1)?;
        let attempt = AttemptId::new(row.get::<_, String>(2)?);
        let word: String = row.get(4)?;
        let Some(state) = State::of_word(&word) else {
            return Err(impossible(path, format!("\"{word}\" is no state")));
        };
        let settled = row.get::<_, Option<String>>(12)?.is_some();
        let key = (row.get(0)?, path);
        let before = lasts.get(&key);
        let related = before.map(|last| {
            let relation = if last.attempt == attempt {
                Relation::SameAttempt
            } else {
                Relation::OtherAttempt
            };
            (last.state, relation)
        });
        // The doubt that an earlier run left has its beginning there.
        let first = related.is_none() && settled;
        if !first && !state.may_follow(related) {
            let from = before.map_or("nothing", |last| last.state.word());
            return Err(impossible(key.1, format!("{word} after {from}")));
        }
        let own = if settled {
            before.and_then(|last| last.own)
        } else {
            Some((row.get(3)?, time(row, 6)?))
        };
        let end = JobEnd {
            outcome: state.outcome(),
            reason: match state {
                State::Opened => Some(JobEnd::CUT_BEFORE_SENT.to_owned()),
                State::Committing => Some(JobEnd::CUT_BEFORE_ANSWER.to_owned()),
                _ => row.get(13)?,
            },
            difference: None,
            file_id: row.get::<_, Option<String>>(8)?.map(FileId::new),
            digest: digest(row, 7)?,
            attempts: own.map_or(0, |(number, _)| number),
            http_status: row.get(9)?,
            request_id: Some(attempt.clone()),
            started: own.map(|(_, started)| started),
            finished: match state {
                State::Opened | State::Committing => None,
                _ => Some(time(row, 5)?),
            },
            returned_name: row.get(10)?,
            returned_dataset: row.get(11)?,
        };
        lasts.insert(
            key,
            Last {
                attempt,
                state,
                own,
                end: (state != State::Withdrawn).then_some(end),
            },
        );
    }
    Ok(lasts)
}

/// A doubt that was settled after the run ends as it was settled; one at another target is no word
/// of what is at the row's own.
fn settle_later(connection: &Connection, target_id: i64, end: &mut JobEnd) -> rusqlite::Result<()> {
    let (Outcome::InDoubt, Some(attempt)) = (end.outcome, &end.request_id) else {
        return Ok(());
    };
    let settled = connection
        .prepare_cached(
            "SELECT state, file_id, reason, at, blake3, target_id FROM transitions
             WHERE attempt_id = ?1 AND settled_by IN ('hand', 'listing', 'policy')
             ORDER BY transition_id DESC LIMIT 1",
        )?
        .query_row([attempt.as_str()], |row| {
            let word: String = row.get(0)?;
            let state = State::of_word(&word).ok_or_else(|| unreadable(0, "no state"))?;
            let id = row.get::<_, Option<String>>(1)?.map(FileId::new);
            let reason: Option<String> = row.get(2)?;
            let end = (state, id, reason, time(row, 3)?, digest(row, 4)?);
            Ok((end, row.get::<_, i64>(5)?))
        })
        .optional()?;
    if let Some((_, other)) = settled
        && other != target_id
    {
        let why = "what was in doubt at another target is settled; nothing was sent here";
        *end = JobEnd::without_attempt(Outcome::NotAttempted, Some(why.to_owned()));
        return Ok(());
    }
    if let Some(((state, file_id, reason, at, digest), _)) = settled {
        end.outcome = state.outcome();
        end.file_id = file_id;
        end.reason = reason;
        end.digest = digest;
        end.http_status = None;
        end.finished = Some(at);
        return Ok(());
    }
    let look: Option<Option<String>> = connection
        .prepare_cached(
            "SELECT last_look FROM file_states
             WHERE attempt_id = ?1 AND state IN ('committing', 'in_doubt')",
        )?
        .query_row([attempt.as_str()], |row| row.get(0))
        .optional()?;
    end.add_look(look.flatten().as_deref());
    Ok(())
}

pub(super) fn files(connection: &Connection) -> Result<Vec<RunRow>, Failure> {
    let targets = targets(connection)?;
    let mut select = connection.prepare(
        "SELECT f.target_id, f.path, t.rule, f.state, f.file_id, t.reason, t.remote_name, t.size,
                t.blake3, t.attempt_number, t.http_status, f.attempt_id, t.started_at, t.at,
                t.returned_name, t.returned_dataset
         FROM file_states f JOIN transitions t USING (transition_id)
         ORDER BY f.target_id, f.path",
    )?;
    let mut found = select.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let word: String = row.get(3)?;
        let path: String = row.get(1)?;
        let Some(state) = State::of_word(&word) else {
            return Err(impossible(path, format!("\"{word}\" is no state")));
        };
        rows.push(RunRow {
            rule: RuleName::new(row.get::<_, String>(2)?),
            target: target_of(&targets, row.get(0)?)?,
            path: SourcePath::new(path),
            remote_name: row.get(6)?,
            size: row.get::<_, Option<i64>>(7)?.map(i64::cast_unsigned),
            content_type: None,
            metadata: None,
            end: if state == State::Withdrawn {
                let reason = row.get(5)?;
                JobEnd {
                    file_id: row.get::<_, Option<String>>(4)?.map(FileId::new),
                    ..JobEnd::without_attempt(state.outcome(), reason)
                }
            } else {
                JobEnd {
                    outcome: state.outcome(),
                    reason: match state {
                        State::Opened => Some(JobEnd::CUT_BEFORE_SENT.to_owned()),
                        State::Committing => Some(JobEnd::CUT_BEFORE_ANSWER.to_owned()),
                        _ => row.get(5)?,
                    },
                    difference: None,
                    file_id: row.get::<_, Option<String>>(4)?.map(FileId::new),
                    digest: digest(row, 8)?,
                    attempts: row.get(9)?,
                    http_status: row.get(10)?,
                    request_id: Some(AttemptId::new(row.get::<_, String>(11)?)),
                    started: Some(time(row, 12)?),
                    finished: Some(time(row, 13)?),
                    returned_name: row.get(14)?,
                    returned_dataset: row.get(15)?,
                }
            },
        });
    }
    Ok(rows)
}

fn targets(connection: &Connection) -> rusqlite::Result<HashMap<i64, Arc<Target>>> {
    let mut select =
        connection.prepare("SELECT target_id, origin, organization_id, dataset_id FROM targets")?;
    select
        .query_map([], |row| Ok((row.get(0)?, Arc::new(target(row, 1)?))))?
        .collect()
}

fn target_of(targets: &HashMap<i64, Arc<Target>>, id: i64) -> rusqlite::Result<Arc<Target>> {
    let found = targets.get(&id).cloned();
    found.ok_or_else(|| unreadable(0, "no target of this ledger"))
}

fn metadata_of(column: usize, text: &str) -> rusqlite::Result<Metadata> {
    Metadata::from_json(text).ok_or_else(|| unreadable(column, "no metadata"))
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| Digest::parse(&text).ok_or_else(|| unreadable(column, "no BLAKE3 digest")))
        .transpose()
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    parsed_time(column, &row.get::<_, String>(column)?)
}

pub(super) fn optional_time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let text: Option<String> = row.get(column)?;
    text.map(|text| parsed_time(column, &text)).transpose()
}

fn parsed_time(column: usize, text: &str) -> rusqlite::Result<Timestamp> {
    text.parse().map_err(|_| unreadable(column, "no time"))
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn unreadable(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}

fn impossible(path: String, what: String) -> Failure {
    Failure::Impossible(LedgerError::Impossible {
        path: SourcePath::new(path),
        what,
    })
}
