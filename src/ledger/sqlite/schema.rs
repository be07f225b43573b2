//! The schema, its views for people, and the way from older versions to it.
//!
//! A column's meaning stands in the README's chapter on the ledger; the views are what people are
//! told to query, so they change less than the tables.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::plans;

/// The schema version this code reads and writes (`PRAGMA user_version`).
pub(super) const VERSION: i64 = 4;

const TABLES: &str = "
CREATE TABLE run_log (
    run_number INTEGER PRIMARY KEY,
    run_id     TEXT NOT NULL UNIQUE,
    stream     TEXT NOT NULL,
    kind       TEXT NOT NULL,
    started_at TEXT NOT NULL,
    planned    INTEGER NOT NULL,
    vanished   INTEGER NOT NULL,
    -- Of an import, and where its plan was given up, there is none.
    plan_id    INTEGER REFERENCES plans,
    ended_at   TEXT,
    exit_code  INTEGER,
    -- Why it ended early, a JSON list of texts; and rows by outcome, a JSON object.
    stopped    TEXT,
    outcomes   TEXT,
    -- The least that the id of a step of it can be.
    first_transition INTEGER NOT NULL DEFAULT 0
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
    reason           TEXT,
    -- When its gate opened, where an intent said so and no transition of its own.
    committing_at    TEXT
) STRICT;
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
";

/// What runs planned.
const PLANS: &str = "
-- By all rows, in order: equal plans are kept once.
CREATE TABLE plans (
    plan_id INTEGER PRIMARY KEY,
    blake3  BLOB NOT NULL UNIQUE
) STRICT;
-- Rows, as JSON: `heads` and `metadata` are what rows share, and `rows` have for each the number of
-- its head, path, remote name, size, the number of its metadata, file id, digest and attempt.
CREATE TABLE plan_chunks (
    chunk_id INTEGER PRIMARY KEY,
    blake3   BLOB NOT NULL UNIQUE,
    rows     TEXT NOT NULL
) STRICT;
CREATE TABLE plan_parts (
    plan_id  INTEGER NOT NULL REFERENCES plans,
    position INTEGER NOT NULL,
    chunk_id INTEGER NOT NULL REFERENCES plan_chunks,
    PRIMARY KEY (plan_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX plan_parts_by_chunk ON plan_parts (chunk_id);
";

const PLAN_VIEWS: &str = "
CREATE VIEW planned AS
SELECT r.run_id, h.value ->> 'rule' AS rule, f.value ->> 1 AS path,
       g.origin, g.organization_id, g.dataset_id,
       h.value ->> 'decision' AS decision, h.value ->> 'reason' AS reason,
       f.value ->> 2 AS remote_name, f.value ->> 3 AS size,
       h.value ->> 'content_type' AS content_type,
       c.rows -> ('$.metadata[' || (f.value ->> 4) || ']') AS metadata,
       f.value ->> 5 AS file_id, f.value ->> 6 AS blake3, f.value ->> 7 AS request_id
FROM run_log r
JOIN plan_parts p USING (plan_id)
JOIN plan_chunks c USING (chunk_id)
JOIN json_each(c.rows, '$.rows') f
JOIN json_each(c.rows, '$.heads') h ON h.key = f.value ->> 0
JOIN targets g ON g.target_id = h.value ->> 'target_id';
";

/// Attempts whose gate is open, a row for all that were committed together. Such an attempt is open
/// as long as its file has no later transition than `after_transition`.
const INTENTS: &str = "
CREATE TABLE intents (
    intent_id        INTEGER PRIMARY KEY,
    run_number       INTEGER NOT NULL REFERENCES run_log,
    after_transition INTEGER NOT NULL,
    -- A JSON list of `committing` transitions, by their columns' names.
    attempts         TEXT NOT NULL
) STRICT;
CREATE VIEW open_attempts AS
SELECT i.run_number, a.value ->> 'attempt_id' AS attempt_id, a.value ->> 'target_id' AS target_id,
       a.value ->> 'rule' AS rule, a.value ->> 'path' AS path, a.value ->> 'at' AS at,
       a.value ->> 'size' AS size, a.value ->> 'blake3' AS blake3,
       a.value ->> 'remote_name' AS remote_name
FROM intents i, json_each(i.attempts) a
WHERE NOT EXISTS (SELECT 1 FROM file_states f
                  WHERE f.target_id = a.value ->> 'target_id' AND f.path = a.value ->> 'path'
                      AND f.transition_id > i.after_transition);
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
JOIN run_log r USING (run_number)
WHERE (f.target_id, f.path) NOT IN (SELECT target_id, path FROM open_attempts)
UNION ALL
SELECT g.origin, g.organization_id, g.dataset_id, r.stream, o.rule, o.path, 'in_doubt', f.file_id,
       coalesce(f.stored_size, o.size),
       strftime('%Y-%m-%dT%H:%M:%SZ', f.stored_mtime_ns / 1000000000, 'unixepoch'),
       f.stored_blake3, f.stored_remote_name, 'the run ended before the service answered', NULL,
       o.at, r.run_id, o.attempt_id
FROM open_attempts o
JOIN targets g USING (target_id)
JOIN run_log r USING (run_number)
LEFT JOIN file_states f ON f.target_id = o.target_id AND f.path = o.path;
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
WHERE f.state IN ('committing', 'in_doubt')
UNION ALL
SELECT g.origin, g.organization_id, g.dataset_id, o.path, o.remote_name, o.size, o.blake3,
       o.attempt_id, o.at, NULL, 'the run ended before the service answered', NULL, r.run_id
FROM open_attempts o
JOIN targets g USING (target_id)
JOIN run_log r USING (run_number);
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

/// Views are made anew: version 2 knew no `withdrawn`, version 3 no intents.
const DROP_VIEWS: &str = "
DROP VIEW files;
DROP VIEW runs;
DROP VIEW in_doubt;
";

/// What version 3 lacked.
const FROM_3: &str = "
ALTER TABLE run_log ADD COLUMN plan_id INTEGER REFERENCES plans;
ALTER TABLE run_log ADD COLUMN first_transition INTEGER NOT NULL DEFAULT 0;
ALTER TABLE transitions ADD COLUMN committing_at TEXT;
DROP INDEX transitions_by_run;
";

/// A run's steps come after those of the runs before it, and before those of the ones after.
const FIRST_TRANSITIONS: &str = "
UPDATE run_log SET first_transition = coalesce(
    f.first, (SELECT coalesce(max(transition_id), 0) + 1 FROM transitions))
FROM (SELECT r.run_number, min(t.first) OVER (ORDER BY r.run_number DESC) AS first
      FROM run_log r
      LEFT JOIN (SELECT run_number, min(transition_id) AS first FROM transitions
                 GROUP BY run_number) t USING (run_number)) f
WHERE run_log.run_number = f.run_number;
";

/// After the views, since a column is dropped only where all views can be read, other people's too.
const FROM_3_END: &str = "
ALTER TABLE run_log DROP COLUMN plan_blake3;
DROP TABLE plan_rows;
";

/// Has views alone when a table is altered.
const LEGACY_ALTER: &str = "legacy_alter_table";

/// One step on the way to the present schema.
enum Step {
    Sql(&'static str),
    Plans,
}

/// Makes the schema in an empty database.
pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let steps = [TABLES, PLANS, INTENTS, VIEWS, PLAN_VIEWS].map(Step::Sql);
    in_one_step(connection, &steps)
}

/// Brings an older version's database to the present one, whole or not at all.
pub(super) fn migrate(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    // People may have made views of their own. Otherwise SQLite refuses to rename a table as long as
    // one of them names what is not there for the moment, and has others follow it to a name that it
    // has only until it is dropped.
    connection.pragma_update(None, LEGACY_ALTER, true)?;
    let migrated = migrate_tables(connection, from);
    let reset = connection.pragma_update(None, LEGACY_ALTER, false);
    migrated.and(reset)
}

fn migrate_tables(connection: &mut Connection, from: i64) -> rusqlite::Result<()> {
    use Step::{Plans, Sql};
    match from {
        ..=1 => in_one_step(
            connection,
            &[
                Sql(FROM_1),
                Sql(TABLES),
                Sql(PLANS),
                Sql(FROM_1_DATA),
                Sql(FIRST_TRANSITIONS),
                Sql(INTENTS),
                Sql(VIEWS),
                Sql(PLAN_VIEWS),
            ],
        ),
        2 | 3 => in_one_step(
            connection,
            &[
                Sql(DROP_VIEWS),
                Sql(PLANS),
                Sql(FROM_3),
                Sql(FIRST_TRANSITIONS),
                Plans,
                Sql(INTENTS),
                Sql(VIEWS),
                Sql(PLAN_VIEWS),
                Sql(FROM_3_END),
            ],
        ),
        _ => Ok(()),
    }
}

/// Begins a transaction that writes. It takes the lock at once: `SQLite` does not wait for a lock that
/// somebody else holds once the transaction has read anything.
pub(super) fn write_lock(connection: &mut Connection) -> rusqlite::Result<Transaction<'_>> {
    connection.transaction_with_behavior(TransactionBehavior::Immediate)
}

fn in_one_step(connection: &mut Connection, steps: &[Step]) -> rusqlite::Result<()> {
    let transaction = write_lock(connection)?;
    for step in steps {
        match step {
            Step::Sql(text) => transaction.execute_batch(text)?,
            Step::Plans => plans::convert(&transaction)?,
        }
    }
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
