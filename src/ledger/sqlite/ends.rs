//! How the rows of a run ended: by the latest step of each file, found in the order of paths; where
//! a later run touched it, by following the run's own steps once.

use std::cmp::Ordering;

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::read::{Failure, digest, impossible, time, unreadable};
use crate::ledger::{Relation, State};
use crate::model::{AttemptId, FileId, JobEnd, Outcome};

/// Steps past files that are in no row before the next row is looked for anew.
const STEPS_MAX: usize = 4;

/// How one file's row of a run stands.
#[derive(Debug, Clone)]
enum Fate {
    /// The run sent nothing of it.
    Unsent,
    Ended(JobEnd),
    /// A later step hides what the run did.
    Hidden,
}

/// Finds how the rows of one run ended.
pub(super) struct Ends<'a> {
    connection: &'a Connection,
    run: i64,
    near: CachedStatement<'a>,
    latest: LatestColumns,
    /// Whether files were taken out of the ledger since: what has no state now may have had one.
    is_thinned: Option<bool>,
    is_replayed: bool,
}

impl<'a> Ends<'a> {
    pub(super) fn of(connection: &'a Connection, run: i64) -> rusqlite::Result<Self> {
        let near = format!(
            "SELECT {} FROM file_states f JOIN transitions t USING (transition_id)
             WHERE f.target_id = ?1 AND f.path BETWEEN ?2 AND ?3 ORDER BY f.path",
            LatestColumns::SQL
        );
        Ok(Self {
            connection,
            run,
            near: connection.prepare_cached(&near)?,
            latest: LatestColumns::default(),
            is_thinned: None,
            is_replayed: false,
        })
    }

    /// The ends of the files of some rows, by target and path; none where nothing was sent.
    pub(super) fn look_up(
        &mut self,
        sent: &[Option<(i64, &str)>],
    ) -> Result<Vec<Option<JobEnd>>, Failure> {
        let mut wanted: Vec<(i64, &str, usize)> = sent
            .iter()
            .enumerate()
            .filter_map(|(index, key)| key.map(|(target, path)| (target, path, index)))
            .collect();
        wanted.sort_unstable();
        let mut ends: Vec<Option<JobEnd>> = vec![None; sent.len()];
        for of_target in wanted.chunk_by(|a, b| a.0 == b.0) {
            let fates = self.fates(of_target)?;
            for ((target, path, index), fate) in of_target.iter().zip(fates) {
                ends[*index] = match fate {
                    Some(Fate::Ended(end)) => Some(end),
                    Some(Fate::Hidden) => self.replayed(*target, path)?,
                    None if self.is_thinned()? => self.replayed(*target, path)?,
                    Some(Fate::Unsent) | None => None,
                };
            }
        }
        Ok(ends)
    }

    /// The fates of files of one target, in the order of their paths; none of those that the ledger
    /// does not know.
    fn fates(&mut self, wanted: &[(i64, &str, usize)]) -> Result<Vec<Option<Fate>>, Failure> {
        let mut fates: Vec<Option<Fate>> = Vec::with_capacity(wanted.len());
        let Some((target, last, _)) = wanted.last() else {
            return Ok(fates);
        };
        while let Some((_, path, _)) = wanted.get(fates.len()) {
            let mut found = self.near.query(params![target, path, last])?;
            let mut steps = 0;
            loop {
                let Some(row) = found.next()? else {
                    fates.resize(wanted.len(), None);
                    break;
                };
                let path = row.get_ref(0)?.as_str().map_err(|_| no_path())?;
                let next = |fates: &Vec<_>| wanted.get(fates.len()).map(|(_, path, _)| *path);
                while next(&fates).is_some_and(|wanted| wanted < path) {
                    fates.push(None);
                }
                if next(&fates) == Some(path) {
                    let fate = self.latest.fate(row, self.run)?;
                    // Names that are not UTF-8 may be shown alike.
                    while next(&fates) == Some(path) {
                        fates.push(Some(fate.clone()));
                    }
                    steps = 0;
                } else {
                    steps += 1;
                }
                if fates.len() == wanted.len() || steps == STEPS_MAX {
                    break;
                }
            }
        }
        Ok(fates)
    }

    fn is_thinned(&mut self) -> rusqlite::Result<bool> {
        if let Some(is_thinned) = self.is_thinned {
            return Ok(is_thinned);
        }
        let found = self.connection.query_row(
            // By the index of the few that are settled.
            "SELECT EXISTS (SELECT 1 FROM transitions
                 WHERE settled_by IN ('forget', 'moved') AND state = 'forgotten'
                     AND +run_number >= ?1)",
            [self.run],
            |row| row.get(0),
        )?;
        self.is_thinned = Some(found);
        Ok(found)
    }

    /// How a file of the run ended, by the run's own steps.
    fn replayed(&mut self, target: i64, path: &str) -> Result<Option<JobEnd>, Failure> {
        if !self.is_replayed {
            replay(self.connection, self.run)?;
            self.is_replayed = true;
        }
        let query = format!(
            "SELECT {}, e.attempts, e.started_at
             FROM run_ends e JOIN transitions t USING (transition_id)
             WHERE e.target_id = ?1 AND e.path = ?2",
            LatestColumns::SQL.replace("f.", "e.")
        );
        let mut select = self.connection.prepare_cached(&query)?;
        let mut found = select.query(params![target, path])?;
        let Some(row) = found.next()? else {
            return Ok(None);
        };
        let state = LatestColumns::state(row)?;
        if state == State::Withdrawn {
            return Ok(None);
        }
        let mut end = self.latest.end(row, state)?;
        end.attempts = row.get(LatestColumns::COUNT)?;
        end.started = super::read::optional_time(row, LatestColumns::COUNT + 1)?;
        Ok(Some(end))
    }
}

/// Follows every file through one run's transitions into a table beside the ledger, on disk where
/// it grows large; what cannot follow is an error.
fn replay(connection: &Connection, run: i64) -> Result<(), Failure> {
    connection.execute_batch(
        "CREATE TEMP TABLE IF NOT EXISTS run_ends (
             target_id     INTEGER NOT NULL,
             path          TEXT NOT NULL,
             transition_id INTEGER NOT NULL,
             attempt_id    TEXT NOT NULL,
             state         TEXT NOT NULL,
             -- Of an attempt of this run, not only the settling of an earlier one.
             attempts      INTEGER NOT NULL,
             started_at    TEXT,
             PRIMARY KEY (target_id, path)
         ) WITHOUT ROWID;
         DELETE FROM temp.run_ends;",
    )?;
    let mut select = connection.prepare(
        "SELECT transition_id, target_id, path, attempt_id, state, attempt_number, started_at,
                settled_by IS NOT NULL
         FROM transitions
         WHERE run_number = ?1 AND transition_id >= ?2 AND transition_id < ?3
             AND (settled_by IS NULL OR settled_by IN ('hand', 'listing', 'policy'))
         ORDER BY transition_id",
    )?;
    // All of it came before the next run, but for the ends of doubts: `settle_later` has those.
    let (first, next): (i64, i64) = connection.query_row(
        "SELECT first_transition,
                coalesce((SELECT n.first_transition FROM run_log n
                          WHERE n.run_number > r.run_number ORDER BY n.run_number LIMIT 1), ?2)
         FROM run_log r WHERE run_number = ?1",
        [run, i64::MAX],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let mut before = connection.prepare(
        "SELECT attempt_id, state, attempts, started_at FROM run_ends
         WHERE target_id = ?1 AND path = ?2",
    )?;
    let mut keep = connection.prepare(
        "INSERT OR REPLACE INTO run_ends (transition_id, target_id, path, attempt_id, state,
             attempts, started_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    let mut found = select.query([run, first, next])?;
    while let Some(row) = found.next()? {
        let (id, target): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (path, attempt, word): (String, String, String) =
            (row.get(2)?, row.get(3)?, row.get(4)?);
        let Some(state) = State::of_word(&word) else {
            return Err(impossible(path, format!("\"{word}\" is no state")));
        };
        let is_settled: bool = row.get(7)?;
        let last = before
            .query_row(params![target, path], |row| {
                let (attempt, word): (String, String) = (row.get(0)?, row.get(1)?);
                let own: (u32, Option<String>) = (row.get(2)?, row.get(3)?);
                Ok((attempt, word, own))
            })
            .optional()?;
        let related = last.as_ref().map(|(last, word, _)| {
            let relation = if *last == attempt {
                Relation::SameAttempt
            } else {
                Relation::OtherAttempt
            };
            (State::of_word(word).unwrap_or(State::InDoubt), relation)
        });
        // The doubt that an earlier run left has its beginning there.
        let is_first = related.is_none() && is_settled;
        if !is_first && !may_be_next(state, related) {
            let from = last.map_or("nothing".to_owned(), |(_, word, _)| word);
            return Err(impossible(path, format!("{word} after {from}")));
        }
        let (attempts, started) = if is_settled {
            last.map_or((0, None), |(_, _, own)| own)
        } else {
            (row.get(5)?, row.get(6)?)
        };
        keep.execute(params![id, target, path, attempt, word, attempts, started])?;
    }
    Ok(())
}

/// Whether a kept step may follow another: that the gate was opened is not kept of an attempt whose
/// end is known.
fn may_be_next(state: State, before: Option<(State, Relation)>) -> bool {
    let gate = Some((State::Committing, Relation::SameAttempt));
    state.may_follow(before) || State::Committing.may_follow(before) && state.may_follow(gate)
}

/// A doubt that was settled after the run ends as it was settled; one at another target is no word
/// of what is at the row's own.
pub(super) fn settle_later(
    connection: &Connection,
    target_id: i64,
    end: &mut JobEnd,
) -> rusqlite::Result<()> {
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

/// What is read of a file and its latest step, whatever else is read with them.
#[derive(Debug, Default)]
pub(super) struct LatestColumns {
    /// The second that was read last, as text and time: steps of a run lie in few seconds.
    second: Option<(String, Timestamp)>,
}

impl LatestColumns {
    /// The columns, of a file's state `f` and the transition `t`.
    pub(super) const SQL: &str = "f.path, f.state, f.attempt_id, t.state, t.attempt_id, \
                                  t.run_number, t.settled_by IS NOT NULL, t.attempt_number, t.at, \
                                  t.started_at, t.blake3, t.file_id, t.http_status, \
                                  t.returned_name, t.returned_dataset, t.reason";

    /// How many they are.
    pub(super) const COUNT: usize = 16;

    /// The file's state; an error where its latest step is another one's.
    pub(super) fn state(row: &Row<'_>) -> Result<State, Failure> {
        let text = |column: usize| -> rusqlite::Result<Option<&str>> {
            Ok(row.get_ref(column)?.as_str_or_null()?)
        };
        let word = text(1)?.unwrap_or_default();
        let wrong = |what: String| match text(0) {
            Ok(path) => impossible(path.unwrap_or_default().to_owned(), what),
            Err(error) => error.into(),
        };
        let Some(state) = State::of_word(word) else {
            return Err(wrong(format!("\"{word}\" is no state")));
        };
        if text(3)? != Some(word) || text(2)? != text(4)? {
            let step = text(3)?.unwrap_or_default();
            return Err(wrong(format!("it is {word}, and its latest step {step}")));
        }
        Ok(state)
    }

    pub(super) fn reason(row: &Row<'_>) -> rusqlite::Result<Option<String>> {
        row.get(15)
    }

    pub(super) fn at(&mut self, row: &Row<'_>) -> rusqlite::Result<Timestamp> {
        self.time(row, 8)
    }

    /// How the attempt ended whose step it is.
    pub(super) fn end(&mut self, row: &Row<'_>, state: State) -> rusqlite::Result<JobEnd> {
        Ok(JobEnd {
            outcome: state.outcome(),
            reason: match state {
                State::Opened => Some(JobEnd::CUT_BEFORE_SENT.to_owned()),
                State::Committing => Some(JobEnd::CUT_BEFORE_ANSWER.to_owned()),
                _ => Self::reason(row)?,
            },
            difference: None,
            file_id: text_of(row, 11)?.map(FileId::new),
            digest: digest(row, 10)?,
            attempts: row.get(7)?,
            http_status: row.get(12)?,
            request_id: text_of(row, 4)?.map(AttemptId::new),
            started: Some(self.time(row, 9)?),
            finished: match state {
                State::Opened | State::Committing => None,
                _ => Some(self.at(row)?),
            },
            returned_name: row.get(13)?,
            returned_dataset: row.get(14)?,
        })
    }

    fn fate(&mut self, row: &Row<'_>, run: i64) -> Result<Fate, Failure> {
        let state = Self::state(row)?;
        let is_settled: bool = row.get(6)?;
        Ok(match row.get::<_, i64>(5)?.cmp(&run) {
            Ordering::Less => Fate::Unsent,
            Ordering::Equal if !is_settled => match state {
                State::Withdrawn => Fate::Unsent,
                _ => Fate::Ended(self.end(row, state)?),
            },
            Ordering::Equal | Ordering::Greater => Fate::Hidden,
        })
    }

    fn time(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
        let text = row.get_ref(column)?.as_str()?;
        if let Some((second, time)) = &self.second
            && let Some(rest) = text.strip_prefix(&**second)
            && let Some(nanoseconds) = nanoseconds(rest)
        {
            return Ok(*time + jiff::SignedDuration::from_nanos(nanoseconds));
        }
        let time = time(row, column)?;
        if let (Some(second), Ok(whole)) = (
            text.get(.."2026-01-02T03:04:05".len()),
            Timestamp::from_second(time.as_second()),
        ) && text.ends_with('Z')
            && time >= Timestamp::UNIX_EPOCH
        {
            self.second = Some((second.to_owned(), whole));
        }
        Ok(time)
    }
}

/// What a time's text says behind its second: a fraction of up to nine digits, if any, and `Z`.
fn nanoseconds(rest: &str) -> Option<i64> {
    let rest = rest.strip_suffix('Z')?;
    if rest.is_empty() {
        return Some(0);
    }
    let digits = rest.strip_prefix('.')?;
    if !(1..=9).contains(&digits.len()) {
        return None;
    }
    let mut number = 0;
    for digit in digits.bytes() {
        number = number * 10 + i64::from(digit.is_ascii_digit().then(|| digit - b'0')?);
    }
    let missing = u32::try_from(9 - digits.len()).ok()?;
    Some(number * 10_i64.pow(missing))
}

fn text_of<'a>(row: &'a Row<'_>, column: usize) -> rusqlite::Result<Option<&'a str>> {
    Ok(row.get_ref(column)?.as_str_or_null()?)
}

fn no_path() -> rusqlite::Error {
    unreadable(0, "no path")
}
