//! The rows of reports, handed over as they are read: a chunk of the plan at a time.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::chunks::{Head, Kept, KeptRow, Text};
use super::ends::{Ends, LatestColumns, settle_later};
use super::read::{Failure, RUN_COLUMNS, run, target_of, targets, text_of, unreadable};
use crate::ledger::{RunRow, State, Take};
use crate::model::{Digest, End, JobEnd, Metadata, Outcome, RunId, ShownMetadata, Target};

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
        let shared = Shared::of(&chunk, &targets)?;
        let mut take_row = |row: &KeptRow<'_>, end: Option<End<'_>>| {
            let head = &shared.heads[row.0];
            let end = match end {
                Some(end) => end,
                None => head.planned_end(row, &unattempted)?,
            };
            if end.outcome == Outcome::InDoubt {
                let mut doubt = JobEnd::from(end);
                settle_later(connection, head.target_id, &mut doubt)?;
                return Ok(take(shared.row(row, End::from(&doubt))));
            }
            Ok(take(shared.row(row, end)))
        };
        let is_sent = |row: &KeptRow<'_>| shared.heads[row.0].is_sent;
        let mut rest = chunk.rows.as_slice();
        while !rest.is_empty() {
            let (target, rows) = shared.looked_up_together(rest);
            if ends.each(target, rows, is_sent, &mut take_row)?.is_break() {
                return Ok(());
            }
            rest = &rest[rows.len()..];
        }
    }
    Ok(())
}

/// What rows of a chunk share, as rows have it. Every row's is there.
struct Shared<'a> {
    heads: Vec<SharedHead<'a>>,
    metadata: Vec<Written<'a>>,
}

struct SharedHead<'a> {
    rule: &'a str,
    target_id: i64,
    target: &'a Arc<Target>,
    /// Rows that were never to be sent share the path of one that was.
    is_sent: bool,
    outcome: Outcome,
    reason: Option<&'a str>,
    content_type: Option<&'a str>,
}

impl<'a> Shared<'a> {
    fn of(chunk: &'a Kept<'_>, targets: &'a HashMap<i64, Arc<Target>>) -> rusqlite::Result<Self> {
        let (heads, metadata) = (chunk.heads.iter(), chunk.metadata.iter());
        let shared = Self {
            heads: heads
                .map(|head| SharedHead::of(head, targets))
                .collect::<rusqlite::Result<_>>()?,
            metadata: metadata
                .map(|object| Written::of(object.get()).ok_or_else(no_chunk))
                .collect::<rusqlite::Result<_>>()?,
        };
        let (heads, metadata) = (shared.heads.len(), shared.metadata.len());
        let is_whole = |row: &KeptRow<'_>| row.0 < heads && row.4.is_none_or(|at| at < metadata);
        let are_whole = chunk.rows.iter().all(is_whole);
        are_whole.then_some(shared).ok_or_else(no_chunk)
    }

    /// The first rows, as far as those that were sent went to one target and are in the order of
    /// their paths.
    fn looked_up_together<'r, 'k>(&self, rows: &'r [KeptRow<'k>]) -> (i64, &'r [KeptRow<'k>]) {
        let mut last: Option<(i64, &str)> = None;
        for (index, row) in rows.iter().enumerate() {
            let head = &self.heads[row.0];
            if !head.is_sent {
                continue;
            }
            let path = row.1.as_str();
            if last.is_some_and(|(target, last)| target != head.target_id || path < last) {
                return (last.map_or(0, |(target, _)| target), &rows[..index]);
            }
            last = Some((head.target_id, path));
        }
        (last.map_or(0, |(target, _)| target), rows)
    }

    fn row<'r>(&'r self, row: &'r KeptRow<'_>, end: End<'r>) -> RunRow<'r> {
        let head = &self.heads[row.0];
        RunRow {
            rule: head.rule,
            target: head.target,
            path: row.1.as_str(),
            remote_name: row.2.as_ref().map(Text::as_str),
            size: row.3,
            content_type: head.content_type,
            metadata: row.4.map(|at| self.metadata[at].as_shown()),
            end,
        }
    }
}

/// An object of texts.
enum Written<'a> {
    AsShown(ShownMetadata<'a>),
    /// By hand, maybe.
    Otherwise(Metadata),
}

impl<'a> Written<'a> {
    fn of(object: &'a str) -> Option<Self> {
        match ShownMetadata::of_json(object) {
            Some(shown) => Some(Self::AsShown(shown)),
            None => Metadata::from_json(object).map(Self::Otherwise),
        }
    }

    fn as_shown(&self) -> ShownMetadata<'_> {
        match self {
            Self::AsShown(shown) => *shown,
            Self::Otherwise(metadata) => metadata.as_shown(),
        }
    }
}

impl<'a> SharedHead<'a> {
    fn of(head: &'a Head<'_>, targets: &'a HashMap<i64, Arc<Target>>) -> rusqlite::Result<Self> {
        let mut outcomes = Outcome::ALL.into_iter();
        Ok(Self {
            rule: &head.rule,
            target_id: head.target_id,
            target: target_of(targets, head.target_id)?,
            is_sent: matches!(&*head.decision, "upload" | "hold"),
            outcome: outcomes
                .find(|outcome| outcome.word() == head.outcome)
                .ok_or_else(|| unreadable(0, "no outcome"))?,
            reason: head.reason.as_deref(),
            content_type: head.content_type.as_deref(),
        })
    }

    /// What the plan alone says of a row's end.
    fn planned_end<'r>(
        &'r self,
        row: &'r KeptRow<'_>,
        unattempted: &'r str,
    ) -> rusqlite::Result<End<'r>> {
        let digest = row.6.as_ref().map(|hex| {
            Digest::parse(hex.as_str()).ok_or_else(|| unreadable(0, "no BLAKE3 digest"))
        });
        Ok(End {
            reason: match self.outcome {
                Outcome::NotAttempted => Some(unattempted),
                _ => self.reason,
            },
            file_id: row.5.as_ref().map(Text::as_str),
            digest: digest.transpose()?,
            request_id: row.7.as_ref().map(Text::as_str),
            ..End::without_attempt(self.outcome)
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
        let end = if state == State::Withdrawn {
            End {
                reason: LatestColumns::reason(row)?,
                ..End::without_attempt(state.outcome())
            }
        } else {
            End {
                finished: Some(latest.at(row)?),
                ..latest.end(row, state)?
            }
        };
        let row = RunRow {
            rule: text_of(row, more + 1)?.unwrap_or_default(),
            target: target_of(&targets, row.get(more)?)?,
            path: text_of(row, 0)?.unwrap_or_default(),
            remote_name: text_of(row, more + 2)?,
            size: row.get::<_, Option<i64>>(more + 3)?.map(i64::cast_unsigned),
            content_type: None,
            metadata: None,
            end: End {
                file_id: text_of(row, more + 4)?,
                ..end
            },
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
