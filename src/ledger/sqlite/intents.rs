//! Attempts whose gate is open: one row for all that were committed together, instead of rows in
//! two tables for each. The row goes when the last of them has come to its next state.
//!
//! An attempt of a row is open as long as its file has no later transition than the row: nothing
//! but that attempt's own next state may follow. What a dead run left open becomes ordinary
//! `committing` transitions as soon as the ledger is opened to write; until then, and for whoever
//! only reads, it is shown as if it were.

use std::collections::HashMap;
use std::mem;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;

use super::group::Changes;
use super::read::unreadable;
use super::text::{Hex, Times, push_number};
use crate::ledger::{State, Transition};
use crate::model::{AttemptId, SourcePath, Tag};

/// A target's row id, and a path.
pub(super) type FileKey = (i64, SourcePath);

/// An attempt whose gate is open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) attempt: AttemptId,
    /// Since when.
    pub(super) at: Timestamp,
    /// The row it stands in.
    pub(super) intent: i64,
    /// Its place there.
    pub(super) place: usize,
}

/// What `intents` holds. A transaction changes it as it goes: [`Intents::keep`] or
/// [`Intents::undo`] follows.
#[derive(Debug, Default)]
pub(super) struct Intents {
    open: HashMap<FileKey, Open>,
    /// Attempts of each row that are still open; as of the last transaction that was committed.
    left: HashMap<i64, usize>,
    /// The last row's id. None is used twice, not even of a row that is gone.
    last: i64,
    /// What the transaction changed, and what was there before.
    changed: Vec<(FileKey, Option<Open>)>,
    /// Whether it made ordinary rows of all that were open.
    is_cleared: bool,
}

impl Intents {
    /// Whether there is no row, nor will be one.
    pub(super) fn are_none(&self) -> bool {
        self.left.is_empty() && self.open.is_empty()
    }

    pub(super) fn get(&self, file: &FileKey) -> Option<&Open> {
        self.open.get(file)
    }

    pub(super) fn has_attempt(&self, attempt: &AttemptId) -> bool {
        self.open.values().any(|open| open.attempt == *attempt)
    }

    /// The id of the row that the transaction under way writes, if it does.
    pub(super) fn next(&self) -> i64 {
        self.last + 1
    }

    pub(super) fn begin(&mut self, file: FileKey, open: Open) {
        let before = self.open.insert(file.clone(), open);
        self.changed.push((file, before));
    }

    /// Takes out an attempt that came to its next state: since when its gate was open, its row and
    /// its place there.
    pub(super) fn end(&mut self, file: &FileKey) -> Option<(Timestamp, i64, usize)> {
        let (file, open) = self.open.remove_entry(file)?;
        let was = (open.at, open.intent, open.place);
        self.changed.push((file, Some(open)));
        Some(was)
    }

    /// Takes out all.
    pub(super) fn clear(&mut self) {
        let all = self.open.drain().map(|(file, open)| (file, Some(open)));
        self.changed.extend(all);
        self.is_cleared = true;
    }

    /// Rows of which nothing is left open once so many attempts of each ended.
    pub(super) fn emptied(&self, ended: &HashMap<i64, usize>) -> Vec<i64> {
        let emptied = ended
            .iter()
            .filter(|(intent, count)| self.left.get(intent) == Some(count));
        emptied.map(|(intent, _)| *intent).collect()
    }

    /// The transaction was committed.
    pub(super) fn keep(&mut self, Changes { ended, begun }: Changes) {
        self.changed.clear();
        if mem::take(&mut self.is_cleared) {
            self.left.clear();
        }
        for (intent, count) in ended {
            if let Some(left) = self.left.get_mut(&intent) {
                *left -= count;
                if *left == 0 {
                    self.left.remove(&intent);
                }
            }
        }
        if begun > 0 {
            self.last += 1;
            self.left.insert(self.last, begun);
        }
    }

    /// The transaction was not committed.
    pub(super) fn undo(&mut self) {
        self.is_cleared = false;
        for (file, before) in self.changed.drain(..).rev() {
            match before {
                Some(open) => self.open.insert(file, open),
                None => self.open.remove(&file),
            };
        }
    }
}

/// Whether all that is known of a step has its place in an intent.
pub(super) fn holds(step: &Transition) -> bool {
    step.state == State::Committing
        && step.file_id.is_none()
        && step.http_status.is_none()
        && step.returned_name.is_none()
        && step.returned_dataset.is_none()
        && step.reason.is_none()
}

/// Writes the list of an intent's attempts, as [`Intent`] reads it.
#[derive(Debug)]
pub(super) struct Attempts {
    list: Vec<u8>,
    times: Times,
}

/// Bytes that the most attempts take.
const ATTEMPT_BYTES: usize = 768;

impl Attempts {
    /// With room for so many.
    pub(super) fn of(count: usize) -> Self {
        Self {
            list: Vec::with_capacity(count * ATTEMPT_BYTES),
            times: Times::default(),
        }
    }

    pub(super) fn push(&mut self, target: i64, step: &Transition) {
        let open: &[u8] = if self.list.is_empty() { b"[" } else { b",\n" };
        self.list.extend_from_slice(open);
        self.text("{\"attempt_id\":\"", step.attempt.as_str());
        self.number(",\"attempt_number\":", i64::from(step.number));
        self.number(",\"target_id\":", target);
        self.text(",\"rule\":\"", step.rule.as_str());
        self.text(",\"path\":\"", step.path.as_str());
        self.time(",\"at\":\"", step.at);
        self.time(",\"started_at\":\"", step.started_at);
        self.time(",\"read_at\":\"", step.read_at);
        self.number(",\"size\":", step.stat.size.cast_signed());
        self.number(",\"mtime_ns\":", step.stat.mtime_ns);
        self.number(",\"inode\":", step.stat.inode.cast_signed());
        if let Some(digest) = &step.digest {
            self.plain(",\"blake3\":\"", Hex::of(digest).as_bytes());
        }
        self.plain(
            ",\"metadata_blake3\":\"",
            Hex::of(&step.metadata).as_bytes(),
        );
        self.number(",\"tagged\":", i64::from(step.tag == Tag::Planted));
        self.text(",\"remote_name\":\"", &step.remote_name);
        self.list.push(b'}');
    }

    /// The list; none where nothing was pushed.
    pub(super) fn finish(mut self) -> Option<String> {
        if self.list.is_empty() {
            return None;
        }
        self.list.push(b']');
        Some(String::from_utf8(self.list).expect("texts between ASCII"))
    }

    fn number(&mut self, key: &str, number: i64) {
        self.list.extend_from_slice(key.as_bytes());
        push_number(&mut self.list, number);
    }

    /// A key here ends with the quote that begins its text.
    fn time(&mut self, key: &str, at: Timestamp) {
        self.list.extend_from_slice(key.as_bytes());
        self.times.push(&mut self.list, at);
        self.list.push(b'"');
    }

    fn text(&mut self, key: &str, text: &str) {
        // Counted, so that many bytes are looked at in one step.
        let special = |byte: &u8| matches!(byte, 0..=0x1f | b'"' | b'\\');
        if text.bytes().filter(special).count() > 0 {
            self.list.extend_from_slice(key.as_bytes());
            let quoted = serde_json::Value::from(text).to_string();
            self.list.extend_from_slice(&quoted.as_bytes()[1..]);
        } else {
            self.plain(key, text.as_bytes());
        }
    }

    /// A text in which nothing is to be escaped.
    fn plain(&mut self, key: &str, text: &[u8]) {
        self.list.extend_from_slice(key.as_bytes());
        self.list.extend_from_slice(text);
        self.list.push(b'"');
    }
}

/// One attempt of an intent: its `committing` transition, with its columns' names.
#[derive(Debug, PartialEq, Deserialize)]
struct Intent {
    attempt_id: String,
    attempt_number: u32,
    target_id: i64,
    rule: String,
    path: String,
    at: String,
    started_at: String,
    read_at: String,
    size: i64,
    mtime_ns: i64,
    inode: i64,
    blake3: Option<String>,
    metadata_blake3: String,
    tagged: i64,
    remote_name: String,
}

impl Intent {
    /// Writes it as an ordinary transition.
    fn insert(
        &self,
        connection: &Connection,
        table: &str,
        id: Option<i64>,
        run: i64,
    ) -> rusqlite::Result<()> {
        connection
            .prepare_cached(&format!(
                "INSERT INTO {table} (transition_id, attempt_id, attempt_number, run_number,
                     target_id, rule, path, state, at, started_at, read_at, size, mtime_ns, inode,
                     blake3, metadata_blake3, tagged, remote_name)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'committing', ?8, ?9, ?10, ?11, ?12, ?13, ?14,
                     ?15, ?16, ?17)"
            ))?
            .execute(params![
                id,
                self.attempt_id,
                self.attempt_number,
                run,
                self.target_id,
                self.rule,
                self.path,
                self.at,
                self.started_at,
                self.read_at,
                self.size,
                self.mtime_ns,
                self.inode,
                self.blake3,
                self.metadata_blake3,
                self.tagged,
                self.remote_name,
            ])?;
        Ok(())
    }
}

/// Every attempt that is open, with its run, in the order they were written.
fn left_open(connection: &Connection) -> rusqlite::Result<Vec<(i64, Intent)>> {
    let mut select = connection.prepare(
        "SELECT run_number, after_transition, attempts FROM main.intents ORDER BY intent_id",
    )?;
    let mut latest = connection
        .prepare("SELECT transition_id FROM main.file_states WHERE target_id = ?1 AND path = ?2")?;
    let mut rows = select.query([])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let (run, after): (i64, i64) = (row.get(0)?, row.get(1)?);
        let text = row.get_ref(2)?.as_str()?;
        let attempts: Vec<Intent> =
            serde_json::from_str(text).map_err(|_| unreadable(2, "no list of attempts"))?;
        for attempt in attempts {
            let found: Option<i64> = latest
                .query_row(params![attempt.target_id, attempt.path], |row| row.get(0))
                .optional()?;
            if found.is_none_or(|latest| latest <= after) {
                open.push((run, attempt));
            }
        }
    }
    Ok(open)
}

/// Makes ordinary rows of all attempts that are open. To be called in a transaction that writes.
pub(super) fn unfold(connection: &Connection) -> rusqlite::Result<()> {
    for (run, attempt) in left_open(connection)? {
        attempt.insert(connection, "main.transitions", None, run)?;
        super::write::point_at(connection, connection.last_insert_rowid())?;
    }
    connection.execute("DELETE FROM main.intents", [])?;
    Ok(())
}

pub(super) fn are_any(connection: &Connection) -> rusqlite::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM main.intents)";
    connection.query_row(query, [], |row| row.get(0))
}

/// Makes this connection, which cannot write, read the ledger as [`unfold`] would leave it: what
/// is open lies in tables of its own, and views that hide the ledger's tables join the two. To be
/// called in a transaction that lasts as long as the connection, or the two would part.
pub(super) fn show(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(
        "CREATE TEMP TABLE open_transitions AS SELECT * FROM main.transitions LIMIT 0;
         CREATE TEMP TABLE open_states AS SELECT * FROM main.file_states LIMIT 0;
         CREATE INDEX temp.open_transitions_by_id ON open_transitions (transition_id);
         CREATE INDEX temp.open_states_by_file ON open_states (target_id, path);",
    )?;
    let query = "SELECT coalesce(max(transition_id), 0) FROM main.transitions";
    let mut id: i64 = connection.query_row(query, [], |row| row.get(0))?;
    for (run, attempt) in left_open(connection)? {
        id += 1;
        attempt.insert(connection, "temp.open_transitions", Some(id), run)?;
        let file = params![attempt.target_id, attempt.path];
        connection
            .prepare_cached(
                "INSERT INTO temp.open_states
                 SELECT * FROM main.file_states WHERE target_id = ?1 AND path = ?2",
            )?
            .execute(file)?;
        if connection.changes() == 0 {
            connection
                .prepare_cached("INSERT INTO temp.open_states (target_id, path) VALUES (?1, ?2)")?
                .execute(file)?;
        }
        connection
            .prepare_cached(
                "UPDATE temp.open_states SET attempt_id = ?3, transition_id = ?4,
                     state = 'committing', absent_since = NULL, last_look = NULL,
                     stream = (SELECT stream FROM main.run_log WHERE run_number = ?5)
                 WHERE target_id = ?1 AND path = ?2",
            )?
            .execute(params![
                attempt.target_id,
                attempt.path,
                attempt.attempt_id,
                id,
                run
            ])?;
    }
    connection.execute_batch(
        "CREATE TEMP VIEW transitions AS
         SELECT * FROM main.transitions UNION ALL SELECT * FROM temp.open_transitions;
         CREATE TEMP VIEW file_states AS
         SELECT * FROM main.file_states s
         WHERE NOT EXISTS (SELECT 1 FROM temp.open_states o
                           WHERE o.target_id = s.target_id AND o.path = s.path)
         UNION ALL SELECT * FROM temp.open_states;",
    )
}
