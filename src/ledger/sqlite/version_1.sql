-- A ledger as version 1 of the schema left it: a stored, a doubtful and a failed file.
CREATE TABLE runs (
    run_id     TEXT PRIMARY KEY,
    stream     TEXT NOT NULL,
    started_at TEXT NOT NULL,
    planned    INTEGER NOT NULL,
    ended_at   TEXT,
    exit_code  INTEGER
) STRICT;
CREATE TABLE targets (
    target_id       INTEGER PRIMARY KEY,
    origin          TEXT NOT NULL,
    organization_id TEXT NOT NULL,
    dataset_id      TEXT NOT NULL,
    UNIQUE (origin, organization_id, dataset_id)
) STRICT;
CREATE TABLE transitions (
    transition_id   INTEGER PRIMARY KEY,
    attempt_id      TEXT NOT NULL,
    run_id          TEXT NOT NULL REFERENCES runs,
    target_id       INTEGER NOT NULL REFERENCES targets,
    rule            TEXT NOT NULL,
    path            TEXT NOT NULL,
    state           TEXT NOT NULL,
    at              TEXT NOT NULL,
    size            INTEGER NOT NULL,
    mtime_ns        INTEGER NOT NULL,
    inode           INTEGER NOT NULL,
    blake3          TEXT,
    metadata_blake3 TEXT NOT NULL,
    remote_name     TEXT NOT NULL,
    file_id         TEXT,
    http_status     INTEGER,
    reason          TEXT,
    read_at         TEXT NOT NULL
) STRICT;
CREATE TABLE files (
    target_id              INTEGER NOT NULL REFERENCES targets,
    path                   TEXT NOT NULL,
    attempt_id             TEXT NOT NULL,
    transition_id          INTEGER NOT NULL REFERENCES transitions,
    state                  TEXT NOT NULL,
    file_id                TEXT,
    stored_size            INTEGER,
    stored_mtime_ns        INTEGER,
    stored_inode           INTEGER,
    stored_blake3          TEXT,
    stored_metadata_blake3 TEXT,
    stored_read_at         TEXT,
    PRIMARY KEY (target_id, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX files_in_doubt ON files (attempt_id) WHERE state IN ('committing', 'in_doubt');
PRAGMA user_version = 1;
INSERT INTO runs VALUES
    ('01900000-0000-7000-8000-000000000001', 'inbox', '2026-01-02T03:04:05Z', 3,
     '2026-01-02T03:05:05Z', 76);
INSERT INTO targets VALUES (1, 'https://api.roe-ai.com', '', 'd');
INSERT INTO transitions VALUES
    (1, 'attempt-1', '01900000-0000-7000-8000-000000000001', 1, 'all', 'in/a', 'committing',
     '2026-01-02T03:04:06Z', 3, 5, 7, '0707070707070707070707070707070707070707070707070707070707070707',
     '0808080808080808080808080808080808080808080808080808080808080808', 'a', NULL, NULL, NULL,
     '2026-01-02T03:04:05Z'),
    (2, 'attempt-1', '01900000-0000-7000-8000-000000000001', 1, 'all', 'in/a', 'stored',
     '2026-01-02T03:04:07Z', 3, 5, 7, '0707070707070707070707070707070707070707070707070707070707070707',
     '0808080808080808080808080808080808080808080808080808080808080808', 'a', 'id-a', 200, NULL,
     '2026-01-02T03:04:05Z'),
    (3, 'attempt-2', '01900000-0000-7000-8000-000000000001', 1, 'all', 'in/b', 'committing',
     '2026-01-02T03:04:08Z', 3, 5, 8, NULL,
     '0808080808080808080808080808080808080808080808080808080808080808', 'b', NULL, NULL, NULL,
     '2026-01-02T03:04:08Z'),
    (4, 'attempt-3', '01900000-0000-7000-8000-000000000001', 1, 'all', 'in/c', 'failed',
     '2026-01-02T03:04:09Z', 3, 5, 9, NULL,
     '0808080808080808080808080808080808080808080808080808080808080808', 'c', NULL, 500, 'broken',
     '2026-01-02T03:04:08Z');
INSERT INTO files VALUES
    (1, 'in/a', 'attempt-1', 2, 'stored', 'id-a', 3, 5, 7,
     '0707070707070707070707070707070707070707070707070707070707070707',
     '0808080808080808080808080808080808080808080808080808080808080808', '2026-01-02T03:04:05Z'),
    (1, 'in/b', 'attempt-2', 3, 'committing', NULL, NULL, NULL, NULL, NULL, NULL, NULL),
    (1, 'in/c', 'attempt-3', 4, 'failed', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
