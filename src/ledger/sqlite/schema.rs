//! The schema, its views for people, and the way from older versions to it.
//!
//! A column's meaning stands in the README's chapter on the ledger; the views are what people are
//! told to query, so they change less than the tables.

use rusqlite::{Connection, Transaction, TransactionBehavior};

/// The schema version this code reads and writes (`PRAGMA user_version`).
pub(super) const VERSION: i64 = 3;

const TABLES: &str = "
CREATE TABLE run_log (
    run_number INTEGER PRIMARY KEY,
    run_id     TEXT NOT NULL UNIQUE,
    stream     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    started_at TEXT NOT NULL,
    planned    INTEGER NOT NULL,
    vanished   INTEGER NOT NULL,
    -- Of all rows of its plan, in order: equal plans are kept once.
    plan_blake3 TEXT,
    ended_at   TEXT,
    exit_code  INTEGER,
    -- Why it ended early, a JSON list of texts; and rows by outcome, a JSON object.
    stopped    TEXT,
    outcomes   TEXT
) STRICT;
CREATE INDEX run_log_by_stream ON run_log (stream, run_number);
CREATE TABLE targets (
    target_id       INTEGER PRIMARY KEY,
    origin          TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    dataset_id      TEXT NOT NULL,
    UNIQUE (origin, organization_id, dataset_id)
) STRICT;
CREATE TABLE transitions (
    transition_id    INTEGER PRIMARY KEY,
    attempt_id       TEXT NOT NULL,
    attempt_number   INTEGER NOT NULL,
    run_number       INTEGER NOT NULL REFERENCES run_log,
    target_id        INTEGER NOT NULL REFERENCES targets,
    rule             TEXT NOT NULL,
    path             TEXT NOT NULL,
    state            TEXT NOT NULL,
    at               TEXT NOT NULL,
    started_at       TEXT NOT NULL,
    read_at          TEXT NOT NULL,
    size             INTEGER NOT NULL,
    mtime_ns         INTEGER NOT NULL,
    inode            INTEGER NOT NULL,
    blake3           TEXT,
    metadata_blake3  TEXT NOT NULL,
    tagged           INTEGER NOT NULL,
    remote_name      TEXT NOT NULL,
    file_id          TEXT,
    http_status      INTEGER,
    returned_name    TEXT,
    returned_dataset TEXT,
    -- Of what was not an attempt's own answer: hand, listing, policy, import, moved, forget.
    settled_by       TEXT,
    reason           TEXT
) STRICT;
CREATE INDEX transitions_by_run ON transitions (run_number);
CREATE INDEX transitions_settled ON transitions (attempt_id) WHERE settled_by IS NOT NULL;
-- The latest of each file, so that planning reads one row a file, and the version of it that the
-- service has for sure.
CREATE TABLE file_states (
    target_id              INTEGER NOT NULL REFERENCES targets,
    path                   TEXT NOT NULL,
    stream                 TEXT NOT NULL,
    attempt_id             TEXT NOT NULL,
    transition_id          INTEGER NOT NULL REFERENCES transitions,
    state                  TEXT NOT NULL,
    -- Of a file in doubt: since when the listing does not show it, and what the last look said.
    absent_since           TEXT,
    last_look              TEXT,
    file_id                TEXT,
    stored_size            INTEGER,
    stored_mtime_ns        INTEGER,
    stored_inode           INTEGER,
    stored_blake3          TEXT,
    stored_metadata_blake3 TEXT,
    stored_remote_name     TEXT,
    stored_read_at         TEXT,
    PRIMARY KEY (target_id, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX file_states_in_doubt ON file_states (attempt_id)
    WHERE state IN ('committing', 'in_doubt');
-- Rows of plans, each with the runs of its stream for which it held: a run whose plan is the one
-- before adds nothing.
CREATE TABLE plan_rows (
    plan_row_id  INTEGER PRIMARY KEY,
    stream       TEXT NOT NULL,
    first_run    INTEGER NOT NULL,
    last_run     INTEGER,
    rule_index   INTEGER NOT NULL,
    rule         TEXT NOT NULL,
    target_id    INTEGER NOT NULL REFERENCES targets,
    path         TEXT NOT NULL,
    decision     TEXT NOT NULL,
    -- How the row ends if nothing is attempted.
    outcome      TEXT NOT NULL,
    reason       TEXT,
    file_id      TEXT,
    blake3       TEXT,
    attempt_id   TEXT,
    remote_name  TEXT,
    size         INTEGER,
    content_type TEXT,
    metadata     TEXT,
    row_blake3   BLOB NOT NULL
) STRICT;
CREATE INDEX plan_rows_open ON plan_rows (stream) WHERE last_run IS NULL;
CREATE INDEX plan_rows_by_run ON plan_rows (stream, first_run);
";

const VIEWS: &str = "
CREATE VIEW files AS
SELECT g.origin, g.organization_id, g.dataset_id, f.stream, t.rule, f.path,
       CASE f.state WHEN 'committing' THEN 'in_doubt' WHEN 'opened' THEN 'failed'
            WHEN 'withdrawn' THEN iif(f.stored_size IS NULL, 'not_attempted', 'stored')
            ELSE f.state
       END AS state, f.file_id,
       coalesce(f.stored_size, t.size) AS size,
       strftime('%Y-%m-%dT%H:%M:%SZ', f.stored_mtime_ns / 1000000000, 'unixepoch') AS modified_at,
       f.stored_blake3 AS blake3, f.stored_remote_name AS remote_name,
       coalesce(t.reason, CASE f.state
            WHEN 'opened' THEN 'the run ended before the file was sent whole'
            WHEN 'committing' THEN 'the run ended before the service answered' END) AS reason,
       t.http_status, t.at AS changed_at, r.run_id, f.attempt_id AS request_id
FROM file_states f
JOIN targets g USING (target_id)
JOIN transitions t USING (transition_id)
JOIN run_log r USING (run_number);
CREATE VIEW runs AS
SELECT run_id, stream, kind, started_at, ended_at, exit_code, planned,
       outcomes ->> 'stored' AS stored, outcomes ->> 'skipped' AS skipped,
       outcomes ->> 'rejected' AS rejected, outcomes ->> 'failed' AS failed,
       outcomes ->> 'in_doubt' AS in_doubt, outcomes ->> 'not_attempted' AS not_attempted,
       vanished, stopped
FROM run_log;
CREATE VIEW in_doubt AS
SELECT g.origin, g.organization_id, g.dataset_id, f.path, t.remote_name, t.size, t.blake3,
       f.attempt_id AS request_id, t.at AS since, f.absent_since,
       coalesce(t.reason, 'the run ended before the service answered') AS reason, f.last_look,
       r.run_id
FROM file_states f
JOIN targets g USING (target_id)
JOIN transitions t USING (transition_id)
JOIN run_log r USING (run_number)
WHERE f.state IN ('committing', 'in_doubt');
";

/// What version 1 lacked is left empty, or said as its runs would have said it.
const FROM_1: &str = "
ALTER TABLE runs RENAME TO runs_1;
ALTER TABLE targets RENAME TO targets_1;
ALTER TABLE transitions RENAME TO transitions_1;
ALTER TABLE files RENAME TO files_1;
DROP INDEX files_in_doubt;
";

const FROM_1_DATA: &str = "
INSERT INTO run_log (run_id, stream, kind, started_at, planned, vanished, ended_at, exit_code)
SELECT run_id, stream, 'apply', started_at, planned, 0, ended_at, exit_code
FROM runs_1 ORDER BY started_at, run_id;
INSERT INTO targets SELECT target_id, origin, organization_id, dataset_id FROM targets_1;
INSERT INTO transitions (transition_id, attempt_id, attempt_number, run_number, target_id, rule,
    path, state, at, started_at, read_at, size, mtime_ns, inode, blake3, metadata_blake3, tagged,
    remote_name, file_id, http_status, reason)
SELECT t.transition_id, t.attempt_id, 1, r.run_number, t.target_id, t.rule, t.path, t.state, t.at,
    t.read_at, t.read_at, t.size, t.mtime_ns, t.inode, t.blake3, t.metadata_blake3, 0,
    t.remote_name, t.file_id, t.http_status, t.reason
FROM transitions_1 t JOIN run_log r USING (run_id) ORDER BY t.transition_id;
INSERT INTO file_states (target_id, path, stream, attempt_id, transition_id, state, file_id,
    stored_size, stored_mtime_ns, stored_inode, stored_blake3, stored_metadata_blake3,
    stored_remote_name, stored_read_at)
SELECT f.target_id, f.path, r.stream, f.attempt_id, f.transition_id, f.state, f.file_id,
    f.stored_size, f.stored_mtime_ns, f.stored_inode, f.stored_blake3, f.stored_metadata_blake3,
    CASE WHEN f.stored_size IS NULL THEN NULL ELSE t.remote_name END, f.stored_read_at
FROM files_1 f JOIN transitions t USING (transition_id) JOIN run_log r USING (run_number);
DROP TABLE files_1;
DROP TABLE transitions_1;
DROP TABLE targets_1;
DROP TABLE runs_1;
";

/// Version 2 knew no `withdrawn`.
const FROM_2: &str = "
DROP VIEW files;
DROP VIEW runs;
DROP VIEW in_doubt;
";

/// Makes the schema in an empty database.
pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    in_one_step(connection, |transaction| {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(VIEWS)
    })
}

/// Brings an older version's database to the present one, whole or not at all.
pub(super) fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    let steps: &[&str] = match from {
        ..=1 => &[FROM_1, TABLES, FROM_1_DATA, VIEWS],
        2 => &[FROM_2, VIEWS],
        _ => return Ok(()),
    };
    in_one_step(connection, |transaction| {
        steps
            .iter()
            .try_for_each(|step| transaction.execute_batch(step))
    })
}

/// Begins a transaction that writes. It takes the lock at once: `SQLite` does not wait for a lock that
/// somebody else holds once the transaction has read anything.
pub(super) fn write_lock(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn in_one_step(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let transaction = write_lock(connection)?;
    work(&transaction)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
