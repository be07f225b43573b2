-- A ledger as version 3 of the schema left it: four runs with three plans, in which files were
-- stored, refused once, skipped, and gone.
PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
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
INSERT INTO run_log VALUES(1,'01a2108e-b20e-737f-96ad-50e726784b1d','inbox','apply','2026-11-25T02:35:16.878506008Z',3,0,'0bde7ecd7fe9acdae8e6ceb3ced9a3077c550f7926585091bc969ed87e32b195','2026-11-25T02:35:16.919177821Z',1,'[]','{"stored":2,"skipped":0,"rejected":1,"failed":0,"in_doubt":0,"not_attempted":0}');
INSERT INTO run_log VALUES(2,'01a2108e-b241-76fd-a7d8-d0b64d755df7','inbox','apply','2026-11-25T02:35:16.929497435Z',3,1,'91544245f14af5e04be68ef01949030802803423807c10eca5ace9d2e72b285d','2026-11-25T02:35:16.948187564Z',0,'[]','{"stored":2,"skipped":1,"rejected":0,"failed":0,"in_doubt":0,"not_attempted":0}');
INSERT INTO run_log VALUES(3,'01a2108e-b25f-75b4-954b-e863a38dcaa3','inbox','apply','2026-11-25T02:35:16.959458302Z',3,1,'9d5cd02622443910a6146a53b578f5565d3c6303b810f9d11eea49ce950e500b','2026-11-25T02:35:16.965641415Z',0,'[]','{"stored":0,"skipped":3,"rejected":0,"failed":0,"in_doubt":0,"not_attempted":0}');
INSERT INTO run_log VALUES(4,'01a2108f-7f44-71b1-b6e8-bb96923f4eb4','inbox','apply','2026-11-25T02:36:09.412514994Z',3,1,'9d5cd02622443910a6146a53b578f5565d3c6303b810f9d11eea49ce950e500b','2026-11-25T02:36:09.438360723Z',0,'[]','{"stored":0,"skipped":3,"rejected":0,"failed":0,"in_doubt":0,"not_attempted":0}');
CREATE TABLE targets (
    target_id       INTEGER PRIMARY KEY,
    origin          TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    dataset_id      TEXT NOT NULL,
    UNIQUE (origin, organization_id, dataset_id)
) STRICT;
INSERT INTO targets VALUES(1,'sandbox','','3f2b7a52-0000-4000-8000-000000000001');
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
INSERT INTO transitions VALUES(1,'01a2108e-b230-752c-a0ba-f24c066684e3',1,1,1,'all','in/a.txt','committing','2026-11-25T02:35:16.913034987Z','2026-11-25T02:35:16.912172105Z','2026-11-25T02:35:16.912172105Z',2,1767225600000000000,10195058,'81c4b7f7e0549f1514e9cae97cf40cf133920418d3dc71bedbf60ec9bd6148cb','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8',0,'a.txt',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO transitions VALUES(2,'01a2108e-b230-752c-a0ba-f24deaa05acd',1,1,1,'all','in/b.txt','committing','2026-11-25T02:35:16.913069258Z','2026-11-25T02:35:16.912267547Z','2026-11-25T02:35:16.912267547Z',2,1767225600000000000,10195059,'9d902f9864f3043dca97e40698eee07a2fe6771591c687ed129cde8f6fcc4a79','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8',0,'b.txt',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO transitions VALUES(3,'01a2108e-b230-752c-a0ba-f24e36bc0629',1,1,1,'all','in/c.txt','committing','2026-11-25T02:35:16.913072052Z','2026-11-25T02:35:16.912307466Z','2026-11-25T02:35:16.912307466Z',2,1767225600000000000,10195060,'d1cd1ec45291d06cdde016568971990c7e4da895f2e5a8a705d4feeb79578a69','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8',0,'c.txt',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO transitions VALUES(4,'01a2108e-b230-752c-a0ba-f24deaa05acd',1,1,1,'all','in/b.txt','stored','2026-11-25T02:35:16.91532371Z','2026-11-25T02:35:16.912267547Z','2026-11-25T02:35:16.912267547Z',2,1767225600000000000,10195059,'9d902f9864f3043dca97e40698eee07a2fe6771591c687ed129cde8f6fcc4a79','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8',0,'b.txt','01a2108e-b233-77b2-95e7-ef5eaa02a924',200,'b.txt','inbox',NULL,NULL);
INSERT INTO transitions VALUES(5,'01a2108e-b230-752c-a0ba-f24c066684e3',1,1,1,'all','in/a.txt','stored','2026-11-25T02:35:16.915617217Z','2026-11-25T02:35:16.912172105Z','2026-11-25T02:35:16.912172105Z',2,1767225600000000000,10195058,'81c4b7f7e0549f1514e9cae97cf40cf133920418d3dc71bedbf60ec9bd6148cb','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8',0,'a.txt','01a2108e-b233-77b2-95e7-ef5f535b18c3',200,'a.txt','inbox',NULL,NULL);
INSERT INTO transitions VALUES(6,'01a2108e-b230-752c-a0ba-f24e36bc0629',1,1,1,'all','in/c.txt','rejected','2026-11-25T02:35:16.916017712Z','2026-11-25T02:35:16.912307466Z','2026-11-25T02:35:16.912307466Z',2,1767225600000000000,10195060,'d1cd1ec45291d06cdde016568971990c7e4da895f2e5a8a705d4feeb79578a69','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8',0,'c.txt',NULL,400,NULL,NULL,NULL,'HTTP 400: Injected by the sandbox''s fault plan.');
INSERT INTO transitions VALUES(7,'01a2108e-b24e-7016-8075-09d789987a59',1,2,1,'all','in/c.txt','committing','2026-11-25T02:35:16.942660306Z','2026-11-25T02:35:16.942436523Z','2026-11-25T02:35:16.942436523Z',2,1767225600000000000,10195060,'d1cd1ec45291d06cdde016568971990c7e4da895f2e5a8a705d4feeb79578a69','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8',0,'c.txt',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO transitions VALUES(8,'01a2108e-b24e-7016-8075-09d808cef6a8',1,2,1,'all','in/d.txt','committing','2026-11-25T02:35:16.94310726Z','2026-11-25T02:35:16.942504063Z','2026-11-25T02:35:16.942504063Z',2,1767225600000000000,10195066,'3f2446562e758157e38542ed7b227a8c83c2a9bd03d8d37cf013fa29ef93d878','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8',0,'d.txt',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO transitions VALUES(9,'01a2108e-b24e-7016-8075-09d789987a59',1,2,1,'all','in/c.txt','stored','2026-11-25T02:35:16.944773558Z','2026-11-25T02:35:16.942436523Z','2026-11-25T02:35:16.942436523Z',2,1767225600000000000,10195060,'d1cd1ec45291d06cdde016568971990c7e4da895f2e5a8a705d4feeb79578a69','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8',0,'c.txt','01a2108e-b250-7102-9a38-d53703aece03',200,'c.txt','inbox',NULL,NULL);
INSERT INTO transitions VALUES(10,'01a2108e-b24e-7016-8075-09d808cef6a8',1,2,1,'all','in/d.txt','stored','2026-11-25T02:35:16.94714903Z','2026-11-25T02:35:16.942504063Z','2026-11-25T02:35:16.942504063Z',2,1767225600000000000,10195066,'3f2446562e758157e38542ed7b227a8c83c2a9bd03d8d37cf013fa29ef93d878','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8',0,'d.txt','01a2108e-b252-70b1-94ad-8eaa4fcdd9ef',200,'d.txt','inbox',NULL,NULL);
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
INSERT INTO file_states VALUES(1,'in/a.txt','inbox','01a2108e-b230-752c-a0ba-f24c066684e3',5,'stored',NULL,NULL,'01a2108e-b233-77b2-95e7-ef5f535b18c3',2,1767225600000000000,10195058,'81c4b7f7e0549f1514e9cae97cf40cf133920418d3dc71bedbf60ec9bd6148cb','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8','a.txt','2026-11-25T02:35:16.912172105Z');
INSERT INTO file_states VALUES(1,'in/b.txt','inbox','01a2108e-b230-752c-a0ba-f24deaa05acd',4,'stored',NULL,NULL,'01a2108e-b233-77b2-95e7-ef5eaa02a924',2,1767225600000000000,10195059,'9d902f9864f3043dca97e40698eee07a2fe6771591c687ed129cde8f6fcc4a79','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8','b.txt','2026-11-25T02:35:16.912267547Z');
INSERT INTO file_states VALUES(1,'in/c.txt','inbox','01a2108e-b24e-7016-8075-09d789987a59',9,'stored',NULL,NULL,'01a2108e-b250-7102-9a38-d53703aece03',2,1767225600000000000,10195060,'d1cd1ec45291d06cdde016568971990c7e4da895f2e5a8a705d4feeb79578a69','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8','c.txt','2026-11-25T02:35:16.942436523Z');
INSERT INTO file_states VALUES(1,'in/d.txt','inbox','01a2108e-b24e-7016-8075-09d808cef6a8',10,'stored',NULL,NULL,'01a2108e-b252-70b1-94ad-8eaa4fcdd9ef',2,1767225600000000000,10195066,'3f2446562e758157e38542ed7b227a8c83c2a9bd03d8d37cf013fa29ef93d878','65dbd8aea96e35fc8d61a7d566995181bf971912dc99bafd4fc9e05a8da7d1c8','d.txt','2026-11-25T02:35:16.942504063Z');
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
INSERT INTO plan_rows VALUES(1,'inbox',1,1,0,'all',1,'in/a.txt','upload','not_attempted','new',NULL,NULL,NULL,'a.txt',2,'text/plain','{"vendor":"acme"}',X'78fefc51c940ebcb7af70faaf56485bf');
INSERT INTO plan_rows VALUES(2,'inbox',1,1,0,'all',1,'in/b.txt','upload','not_attempted','new',NULL,NULL,NULL,'b.txt',2,'text/plain','{"vendor":"acme"}',X'2bf641d6017a251e646bd537ad0f548a');
INSERT INTO plan_rows VALUES(3,'inbox',1,1,0,'all',1,'in/c.txt','upload','not_attempted','new',NULL,NULL,NULL,'c.txt',2,'text/plain','{"vendor":"acme"}',X'797bc1f1bef69fd6c344c41e7b1a52c5');
INSERT INTO plan_rows VALUES(4,'inbox',2,NULL,0,'all',1,'in/b.txt','skip','skipped','stored and unchanged','01a2108e-b233-77b2-95e7-ef5eaa02a924','9d902f9864f3043dca97e40698eee07a2fe6771591c687ed129cde8f6fcc4a79',NULL,'b.txt',2,'text/plain','{"vendor":"acme"}',X'a560aa8c55cbe8bc1b9331372f80f518');
INSERT INTO plan_rows VALUES(5,'inbox',2,2,0,'all',1,'in/c.txt','upload','not_attempted','an earlier attempt did not store it',NULL,NULL,NULL,'c.txt',2,'text/plain','{"vendor":"acme"}',X'a5391179f4f23a4822208ee9a96f43fb');
INSERT INTO plan_rows VALUES(6,'inbox',2,2,0,'all',1,'in/d.txt','upload','not_attempted','new',NULL,NULL,NULL,'d.txt',2,'text/plain','{"vendor":"acme"}',X'3577eb48eaec032e51a6f1820c705d87');
INSERT INTO plan_rows VALUES(7,'inbox',3,NULL,0,'all',1,'in/c.txt','skip','skipped','stored and unchanged','01a2108e-b250-7102-9a38-d53703aece03','d1cd1ec45291d06cdde016568971990c7e4da895f2e5a8a705d4feeb79578a69',NULL,'c.txt',2,'text/plain','{"vendor":"acme"}',X'39f6c970cd8df3659d41b6b6ef74ffcf');
INSERT INTO plan_rows VALUES(8,'inbox',3,NULL,0,'all',1,'in/d.txt','skip','skipped','stored and unchanged','01a2108e-b252-70b1-94ad-8eaa4fcdd9ef','3f2446562e758157e38542ed7b227a8c83c2a9bd03d8d37cf013fa29ef93d878',NULL,'d.txt',2,'text/plain','{"vendor":"acme"}',X'4e541651c2eb50354480a38b5d8337c3');
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
COMMIT;
PRAGMA user_version = 3;
