//! A group of entries on its way into the database: the steps of attempts, which every upload
//! takes, with what they need kept at hand.

use std::collections::HashMap;
use std::mem;

use rusqlite::{CachedStatement, OptionalExtension, Statement, ToSql, Transaction, params};

use super::intents::{self, Attempts, FileKey, Intents, Open};
use super::text::{self, Hex, as_text};
use super::write::{self, Failure, Ids};
use crate::ledger::{Entry, LedgerError, Relation, State, Transition};
use crate::model::{AttemptId, FileId, Tag};

/// One transaction's work.
pub(super) struct Group<'g> {
    transaction: &'g Transaction<'g>,
    ids: &'g mut Ids,
    intents: &'g mut Intents,
    /// Attempts of each intent that was there before which came to their next state.
    ended: HashMap<i64, usize>,
    /// Steps through the gate, by their places in the intent, each with its target; of those that
    /// something followed already, none.
    begun: Vec<Option<(i64, &'g Transition)>>,
    /// The run whose steps they are.
    run: Option<i64>,
    statements: Statements<'g>,
    /// The step that was inserted last: what the next one shares with it is bound already.
    last: Option<&'g Transition>,
    last_stored: Option<&'g Transition>,
    times: Times,
}

/// What a group did to the open attempts: for [`Intents::keep`].
#[derive(Default)]
pub(super) struct Changes {
    pub(super) ended: HashMap<i64, usize>,
    pub(super) begun: usize,
}

/// Prepared once for a group.
struct Statements<'g> {
    latest: CachedStatement<'g>,
    transition: CachedStatement<'g>,
    state: CachedStatement<'g>,
    stored: CachedStatement<'g>,
}

/// The texts of a step's times.
#[derive(Default)]
struct Times {
    writer: text::Times,
    at: Vec<u8>,
    started: Vec<u8>,
    read: Vec<u8>,
    committing: Vec<u8>,
}

impl<'g> Statements<'g> {
    fn new(transaction: &'g Transaction<'g>) -> rusqlite::Result<Self> {
        Ok(Self {
            latest: transaction.prepare_cached(
                "SELECT attempt_id, state FROM file_states WHERE target_id = ?1 AND path = ?2",
            )?,
            transition: transaction.prepare_cached(
                "INSERT INTO transitions (attempt_id, attempt_number, run_number, target_id, rule,
                     path, state, at, started_at, read_at, size, mtime_ns, inode, blake3,
                     metadata_blake3, tagged, remote_name, file_id, http_status, returned_name,
                     returned_dataset, reason, committing_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16,
                     ?17, ?18, ?19, ?20, ?21, ?22, ?23)",
            )?,
            state: transaction.prepare_cached(
                "INSERT INTO file_states (target_id, path, stream, attempt_id, transition_id,
                     state)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (target_id, path) DO UPDATE SET stream = excluded.stream,
                     attempt_id = excluded.attempt_id, transition_id = excluded.transition_id,
                     state = excluded.state, absent_since = NULL, last_look = NULL",
            )?,
            // Only what is stored replaces what is known to be stored.
            stored: transaction.prepare_cached(
                "INSERT INTO file_states (target_id, path, stream, attempt_id, transition_id,
                     state, file_id, stored_size, stored_mtime_ns, stored_inode, stored_blake3,
                     stored_metadata_blake3, stored_remote_name, stored_read_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'stored', ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)
                 ON CONFLICT (target_id, path) DO UPDATE SET stream = excluded.stream,
                     attempt_id = excluded.attempt_id, transition_id = excluded.transition_id,
                     state = excluded.state, absent_since = NULL, last_look = NULL,
                     file_id = excluded.file_id, stored_size = excluded.stored_size,
                     stored_mtime_ns = excluded.stored_mtime_ns,
                     stored_inode = excluded.stored_inode, stored_blake3 = excluded.stored_blake3,
                     stored_metadata_blake3 = excluded.stored_metadata_blake3,
                     stored_remote_name = excluded.stored_remote_name,
                     stored_read_at = excluded.stored_read_at",
            )?,
        })
    }
}

impl<'g> Group<'g> {
    pub(super) fn new(
        transaction: &'g Transaction<'g>,
        ids: &'g mut Ids,
        intents: &'g mut Intents,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            transaction,
            ids,
            intents,
            ended: HashMap::new(),
            begun: Vec::new(),
            run: None,
            statements: Statements::new(transaction)?,
            last: None,
            last_stored: None,
            times: Times::default(),
        })
    }

    pub(super) fn write(&mut self, entry: &'g Entry) -> Result<(), Failure> {
        match entry {
            Entry::Step(step) => self.step(step),
            // What a stored version is known by says nothing of its file's attempts.
            Entry::Refreshed(file) => write::refresh(self.transaction, self.ids, file),
            Entry::Settled(settlement) => {
                self.make_ordinary_of(&settlement.attempt)?;
                write::settle(self.transaction, self.ids, settlement)
            }
            Entry::Looked(look) => {
                self.make_ordinary_of(&look.attempt)?;
                write::look(self.transaction, look)
            }
            // These may end a file's history, by which an open attempt is told from a past one.
            Entry::Adopted(adoption) => {
                self.make_all_ordinary()?;
                write::adopt(self.transaction, self.ids, adoption)
            }
            Entry::Forgotten(file) => {
                self.make_all_ordinary()?;
                write::forget(self.transaction, self.ids, file)
            }
        }
    }

    /// Writes the intent of what passed the gate, and drops those of which nothing is left.
    pub(super) fn finish(self) -> Result<Changes, Failure> {
        let mut attempts = Attempts::of(self.begun.len());
        let mut begun = 0;
        for (target, step) in self.begun.into_iter().flatten() {
            attempts.push(target, step);
            begun += 1;
        }
        if let Some(attempts) = attempts.finish() {
            self.transaction
                .prepare_cached(
                    "INSERT INTO intents (intent_id, run_number, after_transition, attempts)
                     VALUES (?1, ?2, (SELECT coalesce(max(transition_id), 0) FROM transitions), ?3)",
                )?
                .execute(params![self.intents.next(), self.run, attempts])?;
        }
        for emptied in self.intents.emptied(&self.ended) {
            self.transaction
                .prepare_cached("DELETE FROM intents WHERE intent_id = ?1")?
                .execute([emptied])?;
        }
        Ok(Changes {
            ended: self.ended,
            begun,
        })
    }

    fn step(&mut self, step: &'g Transition) -> Result<(), Failure> {
        let target = write::target_id(self.transaction, self.ids, &step.target)?;
        let run = write::run_number(self.transaction, self.ids, &step.run)?;
        let file = (target, step.path.clone());
        let before = self.before(&file, &step.attempt)?;
        if !step.state.may_follow(before) {
            return Err(Failure::Refused(LedgerError::Illegal {
                path: step.path.clone(),
                from: before.map_or("none", |(state, _)| state.word()).to_owned(),
                to: step.state.word(),
            }));
        }
        // The history of an attempt that began with a row of its own goes on so.
        if before != Some((State::Opened, Relation::SameAttempt))
            && intents::holds(step)
            && *self.run.get_or_insert(run) == run
        {
            let open = Open {
                attempt: step.attempt.clone(),
                at: step.at,
                intent: self.intents.next(),
                place: self.begun.len(),
            };
            self.begun.push(Some((target, step)));
            self.intents.begin(file, open);
            return Ok(());
        }
        let has_gate = self.leave_gate(&file);
        self.insert(target, step, run, has_gate)
    }

    /// The state of a file's latest attempt, and whether it is this one.
    fn before(
        &mut self,
        file: &FileKey,
        attempt: &AttemptId,
    ) -> rusqlite::Result<Option<(State, Relation)>> {
        let relation = |other: &str| {
            if other == attempt.as_str() {
                Relation::SameAttempt
            } else {
                Relation::OtherAttempt
            }
        };
        if let Some(open) = self.intents.get(file) {
            return Ok(Some((State::Committing, relation(open.attempt.as_str()))));
        }
        self.statements
            .latest
            .query_row(params![file.0, file.1.as_str()], |row| {
                // A state this version does not know is treated as the one that forbids most.
                let state = State::of_word(row.get_ref(1)?.as_str()?).unwrap_or(State::InDoubt);
                Ok((state, relation(row.get_ref(0)?.as_str()?)))
            })
            .optional()
    }

    /// Ends a file's open attempt and leaves in `times` since when it was; false where it has none.
    fn leave_gate(&mut self, file: &FileKey) -> bool {
        let Some((at, intent, place)) = self.intents.end(file) else {
            return false;
        };
        if intent == self.intents.next() {
            self.begun[place] = None;
        } else {
            *self.ended.entry(intent).or_default() += 1;
        }
        self.times.writer.write(&mut self.times.committing, at);
        true
    }

    /// Appends a step's row and makes it its file's latest.
    fn insert(
        &mut self,
        target: i64,
        step: &'g Transition,
        run: i64,
        has_gate: bool,
    ) -> Result<(), Failure> {
        let times = &mut self.times;
        times.writer.write(&mut times.at, step.at);
        times.writer.write(&mut times.started, step.started_at);
        times.writer.write(&mut times.read, step.read_at);
        let read_at = as_text(&times.read);
        let digest = step.digest.as_ref().map(Hex::of);
        let digest = digest.as_ref().map(Hex::as_str);
        let metadata = Hex::of(&step.metadata);
        let path = step.path.as_str();
        let (size, inode) = (step.stat.size.cast_signed(), step.stat.inode.cast_signed());
        let file_id = step.file_id.as_ref().map(FileId::as_str);
        let last = self.last.replace(step);
        let row = &mut *self.statements.transition;
        row.raw_bind_parameter(1, step.attempt.as_str())?;
        row.raw_bind_parameter(2, step.number)?;
        row.raw_bind_parameter(3, run)?;
        row.raw_bind_parameter(4, target)?;
        rebind(row, 5, last, step, |step| step.rule.as_str())?;
        row.raw_bind_parameter(6, path)?;
        rebind(row, 7, last, step, |step| step.state.word())?;
        row.raw_bind_parameter(8, as_text(&times.at))?;
        row.raw_bind_parameter(9, as_text(&times.started))?;
        row.raw_bind_parameter(10, read_at)?;
        row.raw_bind_parameter(11, size)?;
        row.raw_bind_parameter(12, step.stat.mtime_ns)?;
        row.raw_bind_parameter(13, inode)?;
        row.raw_bind_parameter(14, digest)?;
        if last.is_none_or(|last| last.metadata != step.metadata) {
            row.raw_bind_parameter(15, metadata.as_str())?;
        }
        rebind(row, 16, last, step, |step| step.tag == Tag::Planted)?;
        row.raw_bind_parameter(17, &step.remote_name)?;
        row.raw_bind_parameter(18, file_id)?;
        rebind(row, 19, last, step, |step| step.http_status)?;
        rebind(row, 20, last, step, |step| step.returned_name.as_deref())?;
        rebind(row, 21, last, step, |step| step.returned_dataset.as_deref())?;
        rebind(row, 22, last, step, |step| step.reason.as_deref())?;
        row.raw_bind_parameter(23, has_gate.then(|| as_text(&times.committing)))?;
        row.raw_execute()?;
        let latest = self.transaction.last_insert_rowid();
        let stream = self.ids.stream();
        let (attempt, word) = (step.attempt.as_str(), step.state.word());
        if step.state == State::Stored {
            let last = self.last_stored.replace(step);
            let row = &mut *self.statements.stored;
            row.raw_bind_parameter(1, target)?;
            row.raw_bind_parameter(2, path)?;
            if last.is_none_or(|last| last.run != step.run) {
                row.raw_bind_parameter(3, stream)?;
            }
            row.raw_bind_parameter(4, attempt)?;
            row.raw_bind_parameter(5, latest)?;
            row.raw_bind_parameter(6, file_id)?;
            row.raw_bind_parameter(7, size)?;
            row.raw_bind_parameter(8, step.stat.mtime_ns)?;
            row.raw_bind_parameter(9, inode)?;
            row.raw_bind_parameter(10, digest)?;
            if last.is_none_or(|last| last.metadata != step.metadata) {
                row.raw_bind_parameter(11, metadata.as_str())?;
            }
            row.raw_bind_parameter(12, &step.remote_name)?;
            row.raw_bind_parameter(13, read_at)?;
            row.raw_execute()?;
        } else {
            let latest = params![target, path, stream, attempt, latest, word];
            self.statements.state.execute(latest)?;
        }
        Ok(())
    }

    fn make_ordinary_of(&mut self, attempt: &AttemptId) -> Result<(), Failure> {
        if self.intents.has_attempt(attempt) {
            self.make_all_ordinary()?;
        }
        Ok(())
    }

    /// Turns every open attempt into an ordinary transition.
    fn make_all_ordinary(&mut self) -> Result<(), Failure> {
        if self.intents.are_none() {
            return Ok(());
        }
        intents::unfold(self.transaction)?;
        self.intents.clear();
        self.ended.clear();
        for (target, step) in mem::take(&mut self.begun).into_iter().flatten() {
            let run = write::run_number(self.transaction, self.ids, &step.run)?;
            self.insert(target, step, run, false)?;
        }
        Ok(())
    }
}

/// Binds what is not bound since the last step.
fn rebind<'g, T: ToSql + PartialEq>(
    statement: &mut Statement<'_>,
    place: usize,
    last: Option<&'g Transition>,
    step: &'g Transition,
    value: impl Fn(&'g Transition) -> T,
) -> rusqlite::Result<()> {
    let new = value(step);
    if last.is_some_and(|last| value(last) == new) {
        return Ok(());
    }
    statement.raw_bind_parameter(place, new)
}
