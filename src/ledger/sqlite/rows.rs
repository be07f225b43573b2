//! The rows of reports, handed over as they are read: a chunk of the plan at a time.

use std::borrow::Cow;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::chunks::{Head, Kept, KeptRow, Text};
use super::ends::{Ends, LatestColumns, settle_later};
use super::read::{Failure, RUN_COLUMNS, run, target_of, targets, unreadable};
use crate::ledger::{RunRow, State, Take};
use crate::model::{
    AttemptId, Digest, FileId, JobEnd, Metadata, Outcome, RuleName, RunId, SourcePath, Target,
};

pub(super) fn each_row(connection: &Connection, id: &RunId, take: Take<'_>) -> Result<(), Failure> {
    let _view = one_state(connection)?;
    let query = format!("SELECT {RUN_COLUMNS}, run_number, plan_id FROM run_log WHERE run_id = ?1");
    let found = connection
        .query_row(&query, [id.as_str()], |row| {
            Ok((run(row)?, row.get(10)?, row.get(11)?))
        })
        .optional()?;
    let Some((record, number, Some(plan))) = found else {
        return Ok(());
    };
    let (number, plan): (i64, i64) = (number, plan);
    let unattempted = if record.stopped.is_empty() {
        JobEnd::BEFORE_ITS_TURN.to_owned()
    } else {
        record.stopped.join("; ")
    };
    let targets = targets(connection)?;
    let mut ends = Ends::of(connection, number)?;
    let mut parts = connection.prepare(
        "SELECT c.rows FROM plan_parts p JOIN plan_chunks c USING (chunk_id)
         WHERE p.plan_id = ?1 ORDER BY p.position",
    )?;
    let mut found = parts.query([plan])?;
    while let Some(part) = found.next()? {
        let text = part.get_ref(0)?.as_str().map_err(|_| no_chunk())?;
        let chunk: Kept<'_> = serde_json::from_str(text).map_err(|_| no_chunk())?;
        let heads: Vec<SharedHead> = chunk
            .heads
            .iter()
            .map(|head| SharedHead::of(head, |id| target_of(&targets, id)))
            .collect::<rusqlite::Result<_>>()?;
        let metadata: Vec<Arc<Metadata>> = chunk
            .metadata
            .into_iter()
            .map(|fields| Metadata::from_fields(fields).map(Arc::new))
            .collect::<Option<_>>()
            .ok_or_else(no_chunk)?;
        let sent = chunk.rows.iter().map(|row| {
            let head = heads.get(row.0).ok_or_else(no_chunk)?;
            Ok(head.is_sent.then(|| (head.target_id, row.1.as_str())))
        });
        let sent: Vec<Option<(i64, &str)>> = sent.collect::<rusqlite::Result<_>>()?;
        let known = ends.look_up(&sent)?;
        for (row, known) in chunk.rows.iter().zip(known) {
            let head = &heads[row.0];
            let mut end = match known {
                Some(end) => end,
                None => head.planned_end(row, &unattempted)?,
            };
            settle_later(connection, head.target_id, &mut end)?;
            let row = head.row(row, &metadata, end)?;
            if take(row).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What rows of a chunk share, as rows have it.
struct SharedHead {
    rule: RuleName,
    target_id: i64,
    target: Arc<Target>,
    /// Rows that were never to be sent share the path of one that was.
    is_sent: bool,
    outcome: Outcome,
    reason: Option<String>,
    content_type: Option<Arc<str>>,
}

impl SharedHead {
    fn of(
        head: &Head<'_>,
        target_of: impl FnOnce(i64) -> rusqlite::Result<Arc<Target>>,
    ) -> rusqlite::Result<Self> {
        let mut outcomes = Outcome::ALL.into_iter();
        Ok(Self {
            rule: RuleName::new(&*head.rule),
            target_id: head.target_id,
            target: target_of(head.target_id)?,
            is_sent: matches!(&*head.decision, "upload" | "hold"),
            outcome: outcomes
                .find(|outcome| outcome.word() == head.outcome)
                .ok_or_else(|| unreadable(0, "no outcome"))?,
            reason: head.reason.clone().map(Cow::into_owned),
            content_type: head.content_type.as_deref().map(Arc::from),
        })
    }

    /// What the plan alone says of a row's end.
    fn planned_end(&self, row: &KeptRow<'_>, unattempted: &str) -> rusqlite::Result<JobEnd> {
        let reason = match self.outcome {
            Outcome::NotAttempted => Some(unattempted.to_owned()),
            _ => self.reason.clone(),
        };
        let digest = row.6.as_ref().map(|hex| {
            Digest::parse(hex.as_str()).ok_or_else(|| unreadable(0, "no BLAKE3 digest"))
        });
        Ok(JobEnd {
            file_id: row.5.as_ref().map(|id| FileId::new(id.as_str())),
            digest: digest.transpose()?,
            request_id: row.7.as_ref().map(|id| AttemptId::new(id.as_str())),
            ..JobEnd::without_attempt(self.outcome, reason)
        })
    }

    fn row(
        &self,
        row: &KeptRow<'_>,
        metadata: &[Arc<Metadata>],
        end: JobEnd,
    ) -> rusqlite::Result<RunRow> {
        let metadata = row
            .4
            .map(|place| metadata.get(place).cloned().ok_or_else(no_chunk));
        Ok(RunRow {
            rule: self.rule.clone(),
            target: Arc::clone(&self.target),
            path: SourcePath::new(row.1.as_str()),
            remote_name: row.2.as_ref().map(|name| Text::as_str(name).to_owned()),
            size: row.3,
            content_type: self.content_type.clone(),
            metadata: metadata.transpose()?,
            end,
        })
    }
}

pub(super) fn each_file(connection: &Connection, take: Take<'_>) -> Result<(), Failure> {
    let _view = one_state(connection)?;
    let targets = targets(connection)?;
    let mut latest = LatestColumns::default();
    let query = format!(
        "SELECT {}, f.target_id, t.rule, t.remote_name, t.size, f.file_id
         FROM file_states f JOIN transitions t USING (transition_id)
         ORDER BY f.target_id, f.path",
        LatestColumns::SQL
    );
    let mut select = connection.prepare(&query)?;
    let mut found = select.query([])?;
    let more = LatestColumns::COUNT;
    while let Some(row) = found.next()? {
        let state = LatestColumns::state(row)?;
        let file_id = row.get::<_, Option<String>>(more + 4)?.map(FileId::new);
        let end = if state == State::Withdrawn {
            JobEnd {
                file_id,
                ..JobEnd::without_attempt(state.outcome(), LatestColumns::reason(row)?)
            }
        } else {
            let mut end = latest.end(row, state)?;
            end.file_id = file_id;
            end.finished = Some(latest.at(row)?);
            end
        };
        let row = RunRow {
            rule: RuleName::new(row.get::<_, String>(more + 1)?),
            target: target_of(&targets, row.get(more)?)?,
            path: SourcePath::new(row.get::<_, String>(0)?),
            remote_name: row.get(more + 2)?,
            size: row.get::<_, Option<i64>>(more + 3)?.map(i64::cast_unsigned),
            content_type: None,
            metadata: None,
            end,
        };
        if take(row).is_break() {
            return Ok(());
        }
    }
    Ok(())
}

/// One state of the ledger throughout, whatever is written meanwhile.
fn one_state(connection: &Connection) -> rusqlite::Result<Option<Transaction<'_>>> {
    let is_open = !connection.is_autocommit();
    (!is_open)
        .then(|| connection.unchecked_transaction())
        .transpose()
}

fn no_chunk() -> rusqlite::Error {
    unreadable(0, "no chunk of a plan")
}
