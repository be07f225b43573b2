//! The rows of plans. Each is kept once for all the runs of its stream for which it held, so that
//! a nightly run without news adds one row to `run_log` and nothing else.

use std::collections::HashMap;

use rusqlite::{OptionalExtension, Transaction, named_params, params};

use super::write::{Ids, target_id};
use crate::ledger::{PlannedRow, RunKind, RunStart};
use crate::model::{AttemptId, FileId, Metadata};

/// Bytes of a row's digest that are kept: enough to tell two versions of one row apart.
const ROW_DIGEST: usize = 16;

/// What tells a row from the others of its plan: rule, path, and which one of equal ones, since
/// names that are not UTF-8 may be shown alike.
type Key = (i64, String, u32);

/// Writes the run and what is new of its plan.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    ids: &mut Ids,
    run: &RunStart,
    plan: &[PlannedRow<'_>],
) -> rusqlite::Result<()> {
    let digests: Vec<[u8; ROW_DIGEST]> = plan.iter().map(row_digest).collect();
    let mut whole = blake3::Hasher::new();
    for digest in &digests {
        whole.update(digest);
    }
    let whole = whole.finalize().to_hex().to_string();
    let before: Option<Option<String>> = transaction
        .query_row(
            "SELECT plan_blake3 FROM run_log WHERE stream = ?1 AND kind = 'apply'
             ORDER BY run_number DESC LIMIT 1",
            [&run.stream],
            |row| row.get(0),
        )
        .optional()?;
    transaction.execute(
        "INSERT INTO run_log (run_id, stream, kind, started_at, planned, vanished, plan_blake3)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            run.run.as_str(),
            run.stream,
            run.kind.word(),
            run.at.to_string(),
            integer(plan.len()),
            integer(run.vanished),
            whole,
        ],
    )?;
    let number = transaction.last_insert_rowid();
    let is_same = before.flatten().as_deref() == Some(whole.as_str());
    // An import plans nothing, and must not end what the last plan said.
    if is_same || run.kind == RunKind::Import {
        return Ok(());
    }
    let mut open = open_rows(transaction, &run.stream)?;
    let mut occurrences: HashMap<(usize, &str), u32> = HashMap::new();
    for (row, digest) in plan.iter().zip(&digests) {
        let place = (row.rule_index, row.path.as_str());
        let occurrence = occurrences.entry(place).or_default();
        let key = (
            integer(row.rule_index),
            row.path.as_str().to_owned(),
            *occurrence,
        );
        *occurrence += 1;
        match open.get(&key) {
            Some((_, same)) if same == digest => {
                open.remove(&key);
            }
            _ => insert(transaction, ids, (&run.stream, number), row, digest)?,
        }
    }
    let mut close =
        transaction.prepare_cached("UPDATE plan_rows SET last_run = ?2 WHERE plan_row_id = ?1")?;
    // In the order of their pages.
    let mut ended: Vec<i64> = open.into_values().map(|(id, _)| id).collect();
    ended.sort_unstable();
    for id in ended {
        close.execute(params![id, number - 1])?;
    }
    Ok(())
}

fn open_rows(
    transaction: &Transaction<'_>,
    stream: &str,
) -> rusqlite::Result<HashMap<Key, (i64, Vec<u8>)>> {
    let mut select = transaction.prepare_cached(
        "SELECT plan_row_id, rule_index, path, row_blake3 FROM plan_rows
         WHERE stream = ?1 AND last_run IS NULL ORDER BY plan_row_id",
    )?;
    let mut rows = select.query([stream])?;
    let mut open = HashMap::new();
    while let Some(row) = rows.next()? {
        let (id, rule, path): (i64, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let mut key = (rule, path, 0);
        while open.contains_key(&key) {
            key.2 += 1;
        }
        open.insert(key, (id, row.get(3)?));
    }
    Ok(open)
}

fn insert(
    transaction: &Transaction<'_>,
    ids: &mut Ids,
    (stream, run): (&str, i64),
    row: &PlannedRow<'_>,
    digest: &[u8; ROW_DIGEST],
) -> rusqlite::Result<()> {
    let target = target_id(transaction, ids, row.target)?;
    transaction
        .prepare_cached(
            "INSERT INTO plan_rows (stream, first_run, rule_index, rule, target_id, path,
                 decision, outcome, reason, file_id, blake3, attempt_id, remote_name, size,
                 content_type, metadata, row_blake3)
             VALUES (:stream, :run, :rule_index, :rule, :target, :path, :decision, :outcome,
                 :reason, :file_id, :blake3, :attempt, :remote_name, :size, :content_type,
                 :metadata, :digest)",
        )?
        .execute(named_params! {
            ":stream": stream,
            ":run": run,
            ":rule_index": integer(row.rule_index),
            ":rule": row.rule.as_str(),
            ":target": target,
            ":path": row.path.as_str(),
            ":decision": row.decision,
            ":outcome": row.unattempted.outcome.word(),
            ":reason": row.unattempted.reason,
            ":file_id": row.unattempted.file_id.as_ref().map(FileId::as_str),
            ":blake3": row.unattempted.digest.map(|digest| digest.to_string()),
            ":attempt": row.unattempted.request_id.as_ref().map(AttemptId::as_str),
            ":remote_name": row.remote_name,
            ":size": row.size.map(u64::cast_signed),
            ":content_type": row.content_type,
            ":metadata": row.metadata.map(Metadata::to_shown_json),
            ":digest": digest.as_slice(),
        })?;
    Ok(())
}

/// A digest of all that a row says.
fn row_digest(row: &PlannedRow<'_>) -> [u8; ROW_DIGEST] {
    let mut hasher = blake3::Hasher::new();
    // A length before each text, and a mark for what is missing, so that no two rows read alike.
    let mut text = |text: Option<&str>| match text {
        Some(text) => {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        None => {
            hasher.update(&u64::MAX.to_le_bytes());
        }
    };
    let end = &row.unattempted;
    text(Some(row.rule.as_str()));
    for part in super::write::target_key(row.target) {
        text(Some(part));
    }
    text(Some(row.path.as_str()));
    text(Some(row.decision));
    text(Some(end.outcome.word()));
    text(end.reason.as_deref());
    text(end.file_id.as_ref().map(FileId::as_str));
    text(end.request_id.as_ref().map(AttemptId::as_str));
    text(row.remote_name);
    text(row.content_type);
    text(row.metadata.map(Metadata::to_shown_json).as_deref());
    hasher.update(&end.digest.map_or([0; 32], |digest| digest.0));
    hasher.update(&row.size.unwrap_or(u64::MAX).to_le_bytes());
    hasher.update(&(row.rule_index as u64).to_le_bytes());
    let mut short = [0; ROW_DIGEST];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..ROW_DIGEST]);
    short
}

fn integer(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
