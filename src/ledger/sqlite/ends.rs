//! How the rows of a run ended: by the latest step of each file, found in the order of paths; where
//! a later run touched it, by following the run's own steps once.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use jiff::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use super::chunks::KeptRow;
use super::read::{Failure, digest, impossible, text_of, time, unreadable};
use crate::ledger::{Relation, State};
use crate::model::{End, FileId, JobEnd, Outcome};

/// Steps past files that are in no row before the next row is looked for anew.
const STEPS_MAX: usize = 4;

/// How one file's row of a run stands.
enum Fate<'a> {
    /// The run sent nothing of it.
    Unsent,
    Ended(End<'a>),
    /// A later step hides what the run did.
    Hidden,
}

/// Finds how the rows of one run ended.
pub(super) struct Ends<'a> {
    near: CachedStatement<'a>,
    latest: LatestColumns,
    own: OwnSteps<'a>,
}

/// What takes rows one after the other, with the end of each; none where nothing was sent.
pub(super) type TakeEnd<'a> =
    &'a mut dyn FnMut(&KeptRow<'_>, Option<End<'_>>) -> Result<ControlFlow<()>, Failure>;

impl<'a> Ends<'a> {
    pub(super) fn of(connection: &'a Connection, run: i64) -> rusqlite::Result<Self> {
        let near = format!(
            "SELECT {} FROM file_states f JOIN transitions t USING (transition_id)
             WHERE f.target_id = ?1 AND f.path BETWEEN ?2 AND ?3 ORDER BY f.path",
            LatestColumns::SQL
        );
        Ok(Self {
            near: connection.prepare_cached(&near)?,
            latest: LatestColumns::default(),
            own: OwnSteps {
                connection,
                run,
                is_thinned: None,
                is_replayed: false,
            },
        })
    }

    /// Goes through rows whose files were sent to one target, in the order of their paths, and rows
    /// of which nothing was to be sent, which have none.
    pub(super) fn each(
        &mut self,
        target: i64,
        rows: &[KeptRow<'_>],
        is_sent: impl Fn(&KeptRow<'_>) -> bool,
        take: TakeEnd<'_>,
    ) -> Result<ControlFlow<()>, Failure> {
        let path_of = |row| is_sent(row).then(|| row.1.as_str());
        let mut rows = rows.iter().map(|row| (row, path_of(row))).peekable();
        let last = rows.clone().filter_map(|(_, path)| path).next_back();
        while let Some((row, path)) = rows.peek() {
            let Some(path) = path else {
                if take(row, None)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
                rows.next();
                continue;
            };
            let mut found = self.near.query(params![target, path, last])?;
            let mut steps = 0;
            while rows.peek().is_some() && steps < STEPS_MAX {
                let file = found.next()?;
                let at = match &file {
                    Some(file) => Some(file.get_ref(0)?.as_str().map_err(|_| no_path())?),
                    None => None,
                };
                let is_before = |path: Option<&str>| match (path, at) {
                    (Some(path), Some(at)) => path < at,
                    _ => true,
                };
                while let Some((row, path)) = rows.next_if(|(_, path)| is_before(*path)) {
                    let end = match path {
                        Some(path) => self.own.end_without_state(&mut self.latest, target, path)?,
                        None => None,
                    };
                    if take(row, end.as_ref().map(End::from))?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
                let Some((file, at)) = file.zip(at) else {
                    continue;
                };
                steps += 1;
                // Names that are not UTF-8 may be shown alike.
                while let Some((row, path)) = rows.next_if(|(_, path)| path.is_none_or(|p| p == at))
                {
                    steps = 0;
                    let replayed;
                    let fate = match path {
                        Some(_) => self.latest.fate(file, self.own.run)?,
                        None => Fate::Unsent,
                    };
                    let end = match fate {
                        Fate::Ended(end) => Some(end),
                        Fate::Hidden => {
                            replayed = self.own.replayed(&mut self.latest, target, at)?;
                            replayed.as_ref().map(End::from)
                        }
                        Fate::Unsent => None,
                    };
                    if take(row, end)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What a run did of its own, whatever came later.
struct OwnSteps<'a> {
    connection: &'a Connection,
    run: i64,
    /// Whether files were taken out of the ledger since: what has no state now may have had one.
    is_thinned: Option<bool>,
    is_replayed: bool,
}

impl OwnSteps<'_> {
    /// How a file ended that the ledger does not know.
    fn end_without_state(
        &mut self,
        latest: &mut LatestColumns,
        target: i64,
        path: &str,
    ) -> Result<Option<JobEnd>, Failure> {
        if self.is_thinned()? {
            return self.replayed(latest, target, path);
        }
        Ok(None)
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
    fn replayed(
        &mut self,
        latest: &mut LatestColumns,
        target: i64,
        path: &str,
    ) -> Result<Option<JobEnd>, Failure> {
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
        let mut end = JobEnd::from(latest.end(row, state)?);
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
    started: LastSecond,
    at: LastSecond,
}

impl LatestColumns {
    /// The columns, of a file's state `f` and the transition `t`.
    pub(super) const SQL: &str = "f.path, f.state,                                   f.state = t.state AND f.attempt_id = t.attempt_id, t.state,                                   t.attempt_id, t.run_number, t.settled_by IS NOT NULL,                                   t.attempt_number, t.at, t.started_at, t.blake3, t.file_id,                                   t.http_status, t.returned_name, t.returned_dataset, t.reason";

    /// How many they are.
    pub(super) const COUNT: usize = 16;

    /// The file's state; an error where its latest step is another one's.
    pub(super) fn state(row: &Row<'_>) -> Result<State, Failure> {
        let word = text_of(row, 1)?.unwrap_or_default();
        let wrong = |what: String| match text_of(row, 0) {
            Ok(path) => impossible(path.unwrap_or_default().to_owned(), what),
            Err(error) => error.into(),
        };
        let Some(state) = State::of_word(word) else {
            return Err(wrong(format!("\"{word}\" is no state")));
        };
        if !row.get::<_, bool>(2)? {
            let step = text_of(row, 3)?.unwrap_or_default();
            return Err(wrong(format!("it is {word}, and its latest step {step}")));
        }
        Ok(state)
    }

    pub(super) fn reason<'a>(row: &'a Row<'_>) -> rusqlite::Result<Option<&'a str>> {
        text_of(row, 15)
    }

    pub(super) fn at(&mut self, row: &Row<'_>) -> rusqlite::Result<Timestamp> {
        self.at.time(row, 8)
    }

    /// How the attempt ended whose step it is.
    pub(super) fn end<'a>(&mut self, row: &'a Row<'_>, state: State) -> rusqlite::Result<End<'a>> {
        Ok(End {
            outcome: state.outcome(),
            reason: match state {
                State::Opened => Some(JobEnd::CUT_BEFORE_SENT),
                State::Committing => Some(JobEnd::CUT_BEFORE_ANSWER),
                _ => Self::reason(row)?,
            },
            difference: None,
            file_id: text_of(row, 11)?,
            digest: digest(row, 10)?,
            attempts: row.get(7)?,
            http_status: row.get(12)?,
            request_id: text_of(row, 4)?,
            started: Some(self.started.time(row, 9)?),
            finished: match state {
                State::Opened | State::Committing => None,
                _ => Some(self.at(row)?),
            },
            returned_name: text_of(row, 13)?,
            returned_dataset: text_of(row, 14)?,
        })
    }

    fn fate<'a>(&mut self, row: &'a Row<'_>, run: i64) -> Result<Fate<'a>, Failure> {
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
}

/// The second of the time that was read last, as text and time: steps of a run lie in few seconds.
#[derive(Debug, Default)]
struct LastSecond(Option<(String, Timestamp)>);

impl LastSecond {
    fn time(&mut self, row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
        let text = row.get_ref(column)?.as_str()?;
        if let Some((second, time)) = &self.0
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
            self.0 = Some((second.to_owned(), whole));
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

fn no_path() -> rusqlite::Error {
    unreadable(0, "no path")
}
