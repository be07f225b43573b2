-- A ledger as version 3 of the schema left it, which had it from version 1: a stored, a doubtful and
-- a failed file, a file that failed in a later run, and a run without files since.
PRAGMA foreign_keys = OFF;
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
INSERT INTO "file_states" VALUES(1,'in/a','inbox','attempt-1',2,'stored',NULL,NULL,'id-a',3,5,7,'0707070707070707070707070707070707070707070707070707070707070707','0808080808080808080808080808080808080808080808080808080808080808','a','2026-01-02T03:04:05Z');
INSERT INTO "file_states" VALUES(1,'in/b','inbox','attempt-2',3,'committing',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "file_states" VALUES(1,'in/c','inbox','attempt-3',4,'failed',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "file_states" VALUES(1,'in/d','inbox','attempt-4',5,'failed',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
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
INSERT INTO "run_log" VALUES(1,'01900000-0000-7000-8000-000000000001','inbox','apply','2026-01-02T03:04:05Z',3,0,NULL,'2026-01-02T03:05:05Z',76,NULL,NULL);
INSERT INTO "run_log" VALUES(2,'01a20e98-1916-70e9-96b0-b51a1039a4db','inbox','apply','2026-11-24T17:26:18.643658997Z',0,1,'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262','2026-11-24T17:26:18.652925945Z',76,'[]','{"stored":0,"skipped":0,"rejected":0,"failed":0,"in_doubt":0,"not_attempted":0}');
INSERT INTO "run_log" VALUES(3,'01a20e98-1917-70e9-96b0-b51a1039a4db','inbox','apply','2026-11-24T17:26:18.643658997Z',0,1,'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262','2026-11-24T17:26:18.652925945Z',76,'[]','{"stored":0,"skipped":0,"rejected":0,"failed":0,"in_doubt":0,"not_attempted":0}');
CREATE TABLE targets (
    target_id       INTEGER PRIMARY KEY,
    origin          TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    dataset_id      TEXT NOT NULL,
    UNIQUE (origin, organization_id, dataset_id)
) STRICT;
INSERT INTO "targets" VALUES(1,'https://api.roe-ai.com','','d');
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
INSERT INTO "transitions" VALUES(1,'attempt-1',1,1,1,'all','in/a','committing','2026-01-02T03:04:06Z','2026-01-02T03:04:05Z','2026-01-02T03:04:05Z',3,5,7,'0707070707070707070707070707070707070707070707070707070707070707','0808080808080808080808080808080808080808080808080808080808080808',0,'a',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "transitions" VALUES(2,'attempt-1',1,1,1,'all','in/a','stored','2026-01-02T03:04:07Z','2026-01-02T03:04:05Z','2026-01-02T03:04:05Z',3,5,7,'0707070707070707070707070707070707070707070707070707070707070707','0808080808080808080808080808080808080808080808080808080808080808',0,'a','id-a',200,NULL,NULL,NULL,NULL);
INSERT INTO "transitions" VALUES(3,'attempt-2',1,1,1,'all','in/b','committing','2026-01-02T03:04:08Z','2026-01-02T03:04:08Z','2026-01-02T03:04:08Z',3,5,8,NULL,'0808080808080808080808080808080808080808080808080808080808080808',0,'b',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "transitions" VALUES(4,'attempt-3',1,1,1,'all','in/c','failed','2026-01-02T03:04:09Z','2026-01-02T03:04:08Z','2026-01-02T03:04:08Z',3,5,9,NULL,'0808080808080808080808080808080808080808080808080808080808080808',0,'c',NULL,500,NULL,NULL,NULL,'broken');
INSERT INTO "transitions" VALUES(5,'attempt-4',1,2,1,'all','in/d','failed','2026-11-24T03:04:09Z','2026-11-24T03:04:08Z','2026-11-24T03:04:08Z',3,5,9,NULL,'0808080808080808080808080808080808080808080808080808080808080808',0,'c',NULL,500,NULL,NULL,NULL,'broken');
CREATE INDEX run_log_by_stream ON run_log (stream, run_number);
CREATE INDEX transitions_by_run ON transitions (run_number);
CREATE INDEX transitions_settled ON transitions (attempt_id) WHERE settled_by IS NOT NULL;
CREATE INDEX file_states_in_doubt ON file_states (attempt_id)
    WHERE state IN ('committing', 'in_doubt');
CREATE INDEX plan_rows_open ON plan_rows (stream) WHERE last_run IS NULL;
CREATE INDEX plan_rows_by_run ON plan_rows (stream, first_run);
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
PRAGMA user_version = 3;
