//! What runs planned. Equal plans are kept once, and of plans that are nearly equal most chunks:
//! a nightly run without news adds one row to `run_log` and nothing else.

use std::borrow::Cow;

use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::chunks::{self, Chunk, Head};
use super::write::{Ids, target_id};
use crate::ledger::{PlannedRow, RunKind, RunStart};
use crate::model::{AttemptId, FileId, Metadata};

/// Writes the run and what is new of its plan.
pub(super) fn begin(
    transaction: &Transaction<'_>,
    ids: &mut Ids,
    run: &RunStart,
    plan: &mut dyn Iterator<Item = PlannedRow<'_>>,
) -> rusqlite::Result<()> {
    let (planned, plan) = match run.kind {
        RunKind::Apply => {
            let mut keeper = Keeper::new(transaction);
            for row in plan {
                let metadata = row.metadata.as_ref().map(Metadata::shown_json);
                let end = &row.unattempted;
                let digest = end.digest.map(|digest| digest.to_string());
                keeper.add(&chunks::Row {
                    head: Head {
                        rule: Cow::Borrowed(row.rule.as_str()),
                        target_id: target_id(transaction, ids, row.target)?,
                        decision: Cow::Borrowed(row.decision),
                        outcome: Cow::Borrowed(end.outcome.word()),
                        reason: end.reason.as_deref().map(Cow::Borrowed),
                        content_type: row.content_type.as_deref().map(Cow::Borrowed),
                    },
                    path: row.path.as_str(),
                    remote_name: row.remote_name.as_deref(),
                    size: row.size,
                    metadata,
                    file_id: end.file_id.as_ref().map(FileId::as_str),
                    blake3: digest.as_deref(),
                    attempt_id: end.request_id.as_ref().map(AttemptId::as_str),
                })?;
            }
            (keeper.rows, Some(keeper.finish()?))
        }
        // An import plans nothing.
        RunKind::Import => (plan.count(), None),
    };
    transaction.execute(
        "INSERT INTO run_log (run_id, stream, kind, started_at, planned, vanished, plan_id)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            run.run.as_str(),
            run.stream,
            run.kind.word(),
            run.at.to_string(),
            integer(planned),
            integer(run.vanished),
            plan,
        ],
    )?;
    drop_unused(transaction)
}

/// Keeps one plan's rows, in its order.
struct Keeper<'a> {
    transaction: &'a Transaction<'a>,
    chunk: Chunk,
    /// The chunks so far: of each a number, so that many millions of rows come to little.
    parts: Vec<i64>,
    whole: blake3::Hasher,
    rows: usize,
}

impl<'a> Keeper<'a> {
    fn new(transaction: &'a Transaction<'a>) -> Self {
        Self {
            transaction,
            chunk: Chunk::default(),
            parts: Vec::new(),
            whole: blake3::Hasher::new(),
            rows: 0,
        }
    }

    fn add(&mut self, row: &chunks::Row<'_>) -> rusqlite::Result<()> {
        self.rows += 1;
        if self.chunk.add(row) {
            self.keep()?;
        }
        Ok(())
    }

    fn keep(&mut self) -> rusqlite::Result<()> {
        let Some(text) = self.chunk.take() else {
            return Ok(());
        };
        let digest = blake3::hash(text.as_bytes());
        self.whole.update(digest.as_bytes());
        let known = self
            .transaction
            .prepare_cached("SELECT chunk_id FROM plan_chunks WHERE blake3 = ?1")?
            .query_row([digest.as_bytes()], |row| row.get(0))
            .optional()?;
        let id = match known {
            Some(id) => id,
            None => self
                .transaction
                .prepare_cached("INSERT INTO plan_chunks (blake3, rows) VALUES (?1, ?2)")?
                .insert(params![digest.as_bytes(), text])?,
        };
        self.parts.push(id);
        Ok(())
    }

    /// The plan's id: that of an equal one, if there is one.
    fn finish(mut self) -> rusqlite::Result<i64> {
        self.keep()?;
        let digest = self.whole.finalize();
        let known = self
            .transaction
            .prepare_cached("SELECT plan_id FROM plans WHERE blake3 = ?1")?
            .query_row([digest.as_bytes()], |row| row.get(0))
            .optional()?;
        if let Some(id) = known {
            return Ok(id);
        }
        let id = self
            .transaction
            .prepare_cached("INSERT INTO plans (blake3) VALUES (?1)")?
            .insert([digest.as_bytes()])?;
        let mut insert = self.transaction.prepare_cached(
            "INSERT INTO plan_parts (plan_id, position, chunk_id) VALUES (?1, ?2, ?3)",
        )?;
        for (position, chunk) in self.parts.iter().enumerate() {
            insert.execute(params![id, integer(position), chunk])?;
        }
        Ok(id)
    }
}

/// Drops the plans that no run refers to any more, and the chunks that were only theirs.
fn drop_unused(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let unused: Vec<i64> = transaction
        .prepare_cached(
            "SELECT plan_id FROM plans
             WHERE plan_id NOT IN (SELECT plan_id FROM run_log WHERE plan_id IS NOT NULL)",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for plan in unused {
        let chunks: Vec<i64> = transaction
            .prepare_cached("SELECT DISTINCT chunk_id FROM plan_parts WHERE plan_id = ?1")?
            .query_map([plan], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        transaction.execute("DELETE FROM plan_parts WHERE plan_id = ?1", [plan])?;
        let mut drop = transaction.prepare_cached(
            "DELETE FROM plan_chunks WHERE chunk_id = ?1
                 AND NOT EXISTS (SELECT 1 FROM plan_parts WHERE chunk_id = ?1)",
        )?;
        for chunk in chunks {
            drop.execute([chunk])?;
        }
        transaction.execute("DELETE FROM plans WHERE plan_id = ?1", [plan])?;
    }
    Ok(())
}

/// Makes chunks of the rows that version 3 kept one by one, each with the runs for which it held.
pub(super) fn convert(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let mut runs = transaction.prepare(
        "SELECT run_number, stream, plan_blake3 FROM run_log
         WHERE kind = 'apply' AND plan_blake3 IS NOT NULL ORDER BY stream, run_number",
    )?;
    let mut select = transaction.prepare(
        "SELECT rule, target_id, path, decision, outcome, reason, file_id, blake3, attempt_id,
                remote_name, size, content_type, metadata
         FROM plan_rows
         WHERE stream = ?1 AND first_run <= ?2 AND (last_run IS NULL OR last_run >= ?2)
         ORDER BY rule_index, path, plan_row_id",
    )?;
    let mut found = runs.query([])?;
    let mut last: Option<(String, String, i64)> = None;
    while let Some(run) = found.next()? {
        let (number, stream, digest): (i64, String, String) =
            (run.get(0)?, run.get(1)?, run.get(2)?);
        let same = last.take().filter(|(s, d, _)| *s == stream && *d == digest);
        let plan = if let Some((_, _, plan)) = same {
            plan
        } else {
            let mut keeper = Keeper::new(transaction);
            let mut rows = select.query(params![stream, number])?;
            while let Some(row) = rows.next()? {
                keeper.add(&row_of_3(row)?)?;
            }
            keeper.finish()?
        };
        transaction
            .prepare_cached("UPDATE run_log SET plan_id = ?2 WHERE run_number = ?1")?
            .execute(params![number, plan])?;
        last = Some((stream, digest, plan));
    }
    Ok(())
}

fn row_of_3<'a>(row: &'a Row<'_>) -> rusqlite::Result<chunks::Row<'a>> {
    let text = |column: usize| -> rusqlite::Result<&'a str> { Ok(row.get_ref(column)?.as_str()?) };
    let optional = |column: usize| -> rusqlite::Result<Option<&'a str>> {
        Ok(row.get_ref(column)?.as_str_or_null()?)
    };
    Ok(chunks::Row {
        head: Head {
            rule: Cow::Borrowed(text(0)?),
            target_id: row.get(1)?,
            decision: Cow::Borrowed(text(3)?),
            outcome: Cow::Borrowed(text(4)?),
            reason: optional(5)?.map(Cow::Borrowed),
            content_type: optional(11)?.map(Cow::Borrowed),
        },
        path: text(2)?,
        remote_name: optional(9)?,
        size: row.get::<_, Option<i64>>(10)?.map(i64::cast_unsigned),
        metadata: optional(12)?,
        file_id: optional(6)?,
        blake3: optional(7)?,
        attempt_id: optional(8)?,
    })
}

fn integer(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
