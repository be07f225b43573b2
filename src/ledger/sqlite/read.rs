//! What is read: what a plan needs to know, runs and the rows of their reports.

use std::collections::HashMap;
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;

use super::write::target_key;
use crate::ledger::{LedgerError, RunKind, RunRecord, State};
use crate::model::{
    AttemptId, DatasetId, Digest, FileId, KnownFile, KnownState, OrganizationId, Origin, Outcome,
    Owner, RunId, SourcePath, Stat, StoredVersion, Target,
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

/// The history is read only of what is in doubt. (Not by an outer join: where a view hides
/// `transitions`, that would read all of it.) A file of which nothing ever left is not known.
const KNOWN: &str = "
    SELECT f.path, f.state, f.attempt_id,
           CASE WHEN f.state IN ('committing', 'in_doubt') THEN
               (SELECT t.reason FROM transitions t WHERE t.transition_id = f.transition_id)
           END,
           f.file_id, f.stored_size,
           f.stored_mtime_ns, f.stored_inode, f.stored_blake3, f.stored_metadata_blake3,
           f.stored_read_at, f.stored_remote_name, f.stream = ?2,
           CASE WHEN f.state IN ('committing', 'in_doubt') THEN
               (SELECT t.state FROM transitions t WHERE t.transition_id = f.transition_id)
           END
    FROM file_states f
    WHERE f.target_id = ?1 AND (f.state <> 'withdrawn' OR f.stored_size IS NOT NULL)";

pub(super) fn known_from(
    connection: &Connection,
    target: &Target,
    stream: &str,
    from: Bound<&SourcePath>,
    limit: usize,
) -> rusqlite::Result<Vec<(SourcePath, KnownFile)>> {
    let mut find = connection.prepare_cached(
        "SELECT target_id FROM targets
         WHERE origin = ?1 AND organization_id = ?2 AND dataset_id = ?3",
    )?;
    let id = find.query_row(target_key(target), |row| row.get::<_, i64>(0));
    let Some(id) = id.optional()? else {
        return Ok(Vec::new());
    };
    let (from, comparison) = match from {
        Bound::Unbounded => ("", ">="),
        Bound::Included(path) => (path.as_str(), ">="),
        Bound::Excluded(path) => (path.as_str(), ">"),
    };
    let mut select = connection.prepare_cached(&format!(
        "{KNOWN} AND f.path {comparison} ?3 ORDER BY f.path LIMIT ?4"
    ))?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = select.query_map(params![id, stream, from, limit], |row| {
        let path = SourcePath::new(row.get_ref(0)?.as_str()?);
        Ok((path, known_file(row)?))
    })?;
    rows.collect()
}

pub(super) fn elsewhere(
    connection: &Connection,
    targets: &[Arc<Target>],
    stream: &str,
    is_meant: &mut dyn FnMut(&str) -> bool,
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
            files += usize::from(is_meant(row.get_ref(0)?.as_str()?));
        }
        if files > 0 {
            found.push((target, files));
        }
    }
    Ok(found)
}

fn known_file(row: &Row<'_>) -> rusqlite::Result<KnownFile> {
    let word = row.get_ref(1)?.as_str()?;
    let size: Option<i64> = row.get(5)?;
    let state = match State::of_word(word) {
        // What was withdrawn changed nothing of what is stored.
        Some(State::Stored | State::Withdrawn) => KnownState::Stored,
        // A run that died before the gate left it `opened`: the service cannot have it.
        Some(State::Opened | State::Rejected | State::Failed | State::Abandoned) => {
            KnownState::NotStored
        }
        // A run that died between gate and answer left it `committing`.
        Some(State::Committing | State::InDoubt) => {
            if row.get_ref(13)?.as_str_or_null()? != Some(word) {
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
        return Ok(KnownFile {
            state,
            stored: None,
            owner,
        });
    };
    let stored = StoredVersion {
        stat: Stat {
            size: size.cast_unsigned(),
            mtime_ns: row.get(6)?,
            inode: row.get::<_, i64>(7)?.cast_unsigned(),
        },
        digest: digest(row, 8)?,
        metadata: digest(row, 9)?.ok_or_else(|| unreadable(9, "no digest"))?,
        file_id: row.get_ref(4)?.as_str_or_null()?.map(FileId::new),
        read_at: time(row, 10)?,
        remote_name: row.get(11)?,
    };
    Ok(KnownFile {
        state,
        stored: Some(stored),
        owner,
    })
}

pub(super) const RUN_COLUMNS: &str = "run_id, stream, kind, started_at, ended_at, exit_code, \
                                      planned, vanished, stopped, outcomes";

pub(super) fn runs(connection: &Connection, stream: &str) -> rusqlite::Result<Vec<RunRecord>> {
    let mut select = connection.prepare(&format!(
        "SELECT {RUN_COLUMNS} FROM run_log WHERE stream = ?1 ORDER BY run_number DESC"
    ))?;
    select.query_map([stream], run)?.collect()
}

pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
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
    Ok(record)
}

pub(super) fn targets(connection: &Connection) -> rusqlite::Result<HashMap<i64, Arc<Target>>> {
    let mut select =
        connection.prepare("SELECT target_id, origin, organization_id, dataset_id FROM targets")?;
    select
        .query_map([], |row| Ok((row.get(0)?, Arc::new(target(row, 1)?))))?
        .collect()
}

pub(super) fn target_of(
    targets: &HashMap<i64, Arc<Target>>,
    id: i64,
) -> rusqlite::Result<&Arc<Target>> {
    let found = targets.get(&id);
    found.ok_or_else(|| unreadable(0, "no target of this ledger"))
}

pub(super) fn text_of<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<Option<&'a str>> {
    Ok(row.get_ref(column)?.as_str_or_null()?)
}

pub(super) fn digest(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Digest>> {
    text_of(row, column)?
        .map(|text| Digest::parse(text).ok_or_else(|| unreadable(column, "no BLAKE3 digest")))
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

pub(super) fn impossible(path: String, what: String) -> Failure {
    Failure::Impossible(LedgerError::Impossible {
        path: SourcePath::new(path),
        what,
    })
}
