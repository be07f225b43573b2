//! What is written beside the steps of attempts: every entry checked against its file's state.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, named_params, params};

use crate::ledger::{
    AdoptedFrom, Adoption, Finding, Forgotten, LedgerError, Look, Refreshed, Settlement, State,
};
use crate::model::{FileId, RunId, Target};

/// Rows that were met already, so that they are looked up once.
#[derive(Debug, Default)]
pub(super) struct Ids {
    targets: HashMap<Arc<Target>, i64>,
    /// The one that was asked for last.
    target: Option<(Arc<Target>, i64)>,
    run: Option<RunRow>,
}

#[derive(Debug)]
struct RunRow {
    id: RunId,
    number: i64,
    stream: String,
}

impl Ids {
    /// Another run is the latest now.
    pub(super) fn forget_run(&mut self) {
        self.run = None;
    }

    /// The stream of the run whose number was asked for last.
    pub(super) fn stream(&self) -> &str {
        self.run.as_ref().map_or("", |run| &run.stream)
    }
}

/// Why a write did not happen.
pub(super) enum Failure {
    Sqlite(rusqlite::Error),
    Refused(LedgerError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

pub(super) fn look(transaction: &Transaction<'_>, look: &Look) -> Result<(), Failure> {
    let changed = transaction
        .prepare_cached(
            "UPDATE file_states SET absent_since = ?2, last_look = ?3
             WHERE attempt_id = ?1 AND state IN ('committing', 'in_doubt')",
        )?
        .execute(params![
            look.attempt.as_str(),
            look.absent_since.map(|at| at.to_string()),
            look.seen
        ])?;
    if changed == 1 {
        return Ok(());
    }
    Err(Failure::Refused(LedgerError::NotInDoubt {
        attempt: look.attempt.clone(),
    }))
}

/// The attempt and the state's word of a file's latest attempt.
fn state_of(
    transaction: &Transaction<'_>,
    target: i64,
    path: &str,
) -> rusqlite::Result<Option<(String, String)>> {
    transaction
        .prepare_cached(
            "SELECT attempt_id, state FROM file_states WHERE target_id = ?1 AND path = ?2",
        )?
        .query_row(params![target, path], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// Makes a transition its file's latest.
pub(super) fn point_at(transaction: &Connection, transition: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO file_states (target_id, path, stream, attempt_id, transition_id, state)
             SELECT t.target_id, t.path, r.stream, t.attempt_id, t.transition_id, t.state
             FROM transitions t JOIN run_log r USING (run_number) WHERE t.transition_id = ?1
             ON CONFLICT (target_id, path) DO UPDATE SET stream = excluded.stream,
                 attempt_id = excluded.attempt_id, transition_id = excluded.transition_id,
                 state = excluded.state, absent_since = NULL, last_look = NULL",
        )?
        .execute([transition])?;
    Ok(())
}

/// Only what is stored replaces what is known to be stored.
fn keep_stored_version(transaction: &Transaction<'_>, transition: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE file_states SET file_id = t.file_id, stored_size = t.size,
                 stored_mtime_ns = t.mtime_ns, stored_inode = t.inode, stored_blake3 = t.blake3,
                 stored_metadata_blake3 = t.metadata_blake3, stored_remote_name = t.remote_name,
                 stored_read_at = t.read_at
             FROM transitions t
             WHERE t.transition_id = ?1 AND file_states.transition_id = ?1
                 AND file_states.target_id = t.target_id AND file_states.path = t.path",
        )?
        .execute([transition])?;
    Ok(())
}

pub(super) fn refresh(
    transaction: &Transaction<'_>,
    ids: &mut Ids,
    file: &Refreshed,
) -> Result<(), Failure> {
    let target = target_id(transaction, ids, &file.target)?;
    transaction
        .prepare_cached(
            "UPDATE file_states SET stored_mtime_ns = ?3, stored_inode = ?4, stored_read_at = ?5
             WHERE target_id = ?1 AND path = ?2 AND stored_size = ?6",
        )?
        .execute(params![
            target,
            file.path.as_str(),
            file.stat.mtime_ns,
            file.stat.inode.cast_signed(),
            file.read_at.to_string(),
            file.stat.size.cast_signed(),
        ])?;
    Ok(())
}

/// Appends a transition that no attempt made: a copy of the file's latest with another state.
struct Appended<'a> {
    /// The run that found it out; none for the run of the latest transition.
    run: Option<i64>,
    target: i64,
    path: &'a str,
    state: State,
    at: String,
    by: &'a str,
    file_id: Option<&'a str>,
    reason: &'a str,
}

fn append(transaction: &Transaction<'_>, what: &Appended<'_>) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "INSERT INTO transitions (attempt_id, attempt_number, run_number, target_id, rule,
                 path, state, at, started_at, read_at, size, mtime_ns, inode, blake3,
                 metadata_blake3, tagged, remote_name, file_id, settled_by, reason)
             SELECT t.attempt_id, t.attempt_number, coalesce(:run, t.run_number), t.target_id,
                 t.rule, t.path, :state, :at, t.started_at, t.read_at, t.size, t.mtime_ns, t.inode, t.blake3,
                 t.metadata_blake3, t.tagged, t.remote_name, :file_id, :by, :reason
             FROM file_states f JOIN transitions t USING (transition_id)
             WHERE f.target_id = :target AND f.path = :path",
        )?
        .execute(named_params! {
            ":run": what.run,
            ":target": what.target,
            ":path": what.path,
            ":state": what.state.word(),
            ":at": what.at,
            ":file_id": what.file_id,
            ":by": what.by,
            ":reason": what.reason,
        })?;
    Ok(transaction.last_insert_rowid())
}

pub(super) fn settle(
    transaction: &Transaction<'_>,
    ids: &mut Ids,
    settlement: &Settlement,
) -> Result<(), Failure> {
    let run = match &settlement.run {
        Some(run) => Some(run_number(transaction, ids, run)?),
        None => None,
    };
    let (state, file_id) = match &settlement.finding {
        Finding::Stored(id) => (State::Stored, Some(id.as_str())),
        Finding::NotStored => (State::Failed, None),
        Finding::Abandoned => (State::Abandoned, None),
    };
    let doubtful: Option<(i64, String)> = transaction
        .prepare_cached(
            "SELECT target_id, path FROM file_states
             WHERE attempt_id = ?1 AND state IN ('committing', 'in_doubt')",
        )?
        .query_row([settlement.attempt.as_str()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((target, path)) = doubtful else {
        return Err(Failure::Refused(LedgerError::NotInDoubt {
            attempt: settlement.attempt.clone(),
        }));
    };
    if let Some(id) = file_id {
        refuse_taken_id(transaction, target, &path, id)?;
    }
    let transition = append(
        transaction,
        &Appended {
            run,
            target,
            path: &path,
            state,
            at: settlement.at.to_string(),
            by: settlement.by.word(),
            file_id,
            reason: &settlement.reason,
        },
    )?;
    point_at(transaction, transition)?;
    if state == State::Stored {
        keep_stored_version(transaction, transition)?;
    }
    Ok(())
}

/// One stored file is never two files of the ledger.
fn refuse_taken_id(
    transaction: &Transaction<'_>,
    target: i64,
    path: &str,
    id: &str,
) -> Result<(), Failure> {
    let taken: Option<String> = transaction
        .prepare_cached(
            "SELECT path FROM file_states WHERE target_id = ?1 AND file_id = ?2 AND path <> ?3",
        )?
        .query_row(params![target, id, path], |row| row.get(0))
        .optional()?;
    match taken {
        None => Ok(()),
        Some(other) => Err(Failure::Refused(LedgerError::IdTaken {
            id: id.to_owned(),
            path: crate::model::SourcePath::new(other),
        })),
    }
}

pub(super) fn adopt(
    transaction: &Transaction<'_>,
    ids: &mut Ids,
    adoption: &Adoption,
) -> Result<(), Failure> {
    let target = target_id(transaction, ids, &adoption.target)?;
    let run = run_number(transaction, ids, &adoption.run)?;
    let path = adoption.path.as_str();
    let before = state_of(transaction, target, path)?;
    if let Some((_, word)) = before
        && !matches!(
            State::of_word(&word),
            Some(
                State::Opened
                    | State::Failed
                    | State::Rejected
                    | State::Abandoned
                    | State::Withdrawn
            )
        )
    {
        return Err(Failure::Refused(LedgerError::Illegal {
            path: adoption.path.clone(),
            from: word,
            to: State::Stored.word(),
        }));
    }
    let (by, reason) = match &adoption.from {
        AdoptedFrom::Import => ("import", "uploaded by other means".to_owned()),
        AdoptedFrom::Moved(from) => {
            let reason = format!("moved to {path}");
            let gone = Gone {
                target,
                path: from.as_str(),
                at: adoption.read_at.to_string(),
                by: "moved",
                reason: &reason,
            };
            give_up(transaction, &gone)?;
            ("moved", format!("moved from {}", from.as_str()))
        }
    };
    let read_at = adoption.read_at.to_string();
    transaction
        .prepare_cached(
            "INSERT INTO transitions (attempt_id, attempt_number, run_number, target_id, rule,
                 path, state, at, started_at, read_at, size, mtime_ns, inode, blake3,
                 metadata_blake3, tagged, remote_name, file_id, settled_by, reason)
             VALUES (:attempt, 0, :run, :target, :rule, :path, 'stored', :at, :at, :at, :size,
                 :mtime, :inode, :digest, :metadata, 0, :name, :file_id, :by, :reason)",
        )?
        .execute(named_params! {
            ":attempt": adoption.attempt.as_str(),
            ":run": run,
            ":target": target,
            ":rule": adoption.rule.as_str(),
            ":path": path,
            ":at": read_at,
            ":size": adoption.stat.size.cast_signed(),
            ":mtime": adoption.stat.mtime_ns,
            ":inode": adoption.stat.inode.cast_signed(),
            ":digest": adoption.digest.to_string(),
            ":metadata": adoption.metadata.to_string(),
            ":name": adoption.remote_name,
            ":file_id": adoption.file_id.as_ref().map(FileId::as_str),
            ":by": by,
            ":reason": reason,
        })?;
    let transition = transaction.last_insert_rowid();
    point_at(transaction, transition)?;
    keep_stored_version(transaction, transition)?;
    Ok(())
}

pub(super) fn forget(
    transaction: &Transaction<'_>,
    ids: &mut Ids,
    file: &Forgotten,
) -> Result<(), Failure> {
    let target = target_id(transaction, ids, &file.target)?;
    let gone = Gone {
        target,
        path: file.path.as_str(),
        at: file.at.to_string(),
        by: "forget",
        reason: &file.reason,
    };
    give_up(transaction, &gone)
}

/// A file whose row is to go; its history stays.
struct Gone<'a> {
    target: i64,
    path: &'a str,
    at: String,
    by: &'a str,
    reason: &'a str,
}

fn give_up(transaction: &Transaction<'_>, gone: &Gone<'_>) -> Result<(), Failure> {
    let before = state_of(transaction, gone.target, gone.path)?;
    let state = before.as_ref().map(|(_, word)| State::of_word(word));
    match state {
        Some(Some(state)) if !state.is_doubtful() => {}
        _ => {
            return Err(Failure::Refused(LedgerError::Illegal {
                path: crate::model::SourcePath::new(gone.path),
                from: before.map_or("none".to_owned(), |(_, word)| word),
                to: State::Forgotten.word(),
            }));
        }
    }
    append(
        transaction,
        &Appended {
            run: None,
            target: gone.target,
            path: gone.path,
            state: State::Forgotten,
            at: gone.at.clone(),
            by: gone.by,
            file_id: None,
            reason: gone.reason,
        },
    )?;
    transaction
        .prepare_cached("DELETE FROM file_states WHERE target_id = ?1 AND path = ?2")?
        .execute(params![gone.target, gone.path])?;
    Ok(())
}

pub(super) fn target_key(target: &Target) -> [&str; 3] {
    [
        target.origin.as_str(),
        target.organization_id.as_ref().map_or("", |id| id.as_str()),
        target.dataset_id.as_ref().map_or("", |id| id.as_str()),
    ]
}

pub(super) fn target_id(
    transaction: &Transaction<'_>,
    ids: &mut Ids,
    target: &Arc<Target>,
) -> rusqlite::Result<i64> {
    if let Some((last, id)) = &ids.target
        && Arc::ptr_eq(last, target)
    {
        return Ok(*id);
    }
    if let Some(id) = ids.targets.get(target).copied() {
        ids.target = Some((Arc::clone(target), id));
        return Ok(id);
    }
    let key = target_key(target);
    transaction.execute(
        "INSERT INTO targets (origin, organization_id, dataset_id) VALUES (?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
        key,
    )?;
    let id = transaction.query_row(
        "SELECT target_id FROM targets
         WHERE origin = ?1 AND organization_id = ?2 AND dataset_id = ?3",
        key,
        |row| row.get(0),
    )?;
    ids.targets.insert(Arc::clone(target), id);
    Ok(id)
}

/// The number of a run that is under way: the latest.
///
/// Reports look for a run's steps between its beginning and the next one's, so a step of any other
/// would be lost to them.
pub(super) fn run_number(
    transaction: &Transaction<'_>,
    ids: &mut Ids,
    run: &RunId,
) -> Result<i64, Failure> {
    if let Some(known) = &ids.run
        && known.id == *run
    {
        return Ok(known.number);
    }
    let query = "SELECT run_number, stream, run_number = (SELECT max(run_number) FROM run_log)
                 FROM run_log WHERE run_id = ?1";
    let (number, stream, is_latest) = transaction.query_row(query, [run.as_str()], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get::<_, bool>(2)?))
    })?;
    if !is_latest {
        return Err(Failure::Refused(LedgerError::Superseded {
            run: run.clone(),
        }));
    }
    ids.run = Some(RunRow {
        id: run.clone(),
        number,
        stream,
    });
    Ok(number)
}
