//! The ledger in `SQLite`: readable with `sqlite3` while nothing runs.
//!
//! `transitions` is appended to and never rewritten; `files` holds the latest one of each file,
//! so that planning reads one row a file. Both change in one transaction.

use std::collections::HashMap;
use std::fmt;
use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, named_params, params};

use super::{
    Doubt, Finding, Ledger, LedgerError, Refreshed, Relation, RunEnd, RunStart, Settlement, State,
    Transition,
};
use crate::model::{
    AttemptId, DatasetId, Digest, FileId, Known, KnownFile, KnownState, OrganizationId, Origin,
    SourcePath, Stat, StoredVersion, Target,
};

/// The schema version this code reads and writes (`PRAGMA user_version`).
const SCHEMA_VERSION: i64 = 1;

/// How long another reader, such as `sqlite3`, may hold the database up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
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
";

/// A ledger in one `SQLite` file.
pub struct SqliteLedger {
    connection: Connection,
    path: PathBuf,
    /// Ids of the targets met so far.
    targets: HashMap<Arc<Target>, i64>,
}

impl fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteLedger({})", self.path.display())
    }
}

impl SqliteLedger {
    /// Opens the ledger, or makes a new one, readable by its owner only.
    ///
    /// # Errors
    ///
    /// The file cannot be opened or is no ledger, or a newer roe-batch wrote it.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        // SQLite would create it readable by others.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| storage(path, &error))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut ledger = Self::connect(path, flags)?;
        if ledger.is_new().map_err(|error| storage(path, &error))? {
            ledger.create().map_err(|error| storage(path, &error))?;
        }
        ledger.check_version()?;
        // Only now that the file is known to be a ledger may anything of it change.
        ledger
            .make_durable()
            .map_err(|error| storage(path, &error))?;
        Ok(ledger)
    }

    /// Opens an existing ledger to read from; nothing is created.
    ///
    /// # Errors
    ///
    /// As [`SqliteLedger::open`].
    pub fn open_read_only(path: &Path) -> Result<Option<Self>, LedgerError> {
        if !path.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ledger = Self::connect(path, flags)?;
        ledger.check_version()?;
        Ok(Some(ledger))
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, LedgerError> {
        let connection =
            Connection::open_with_flags(path, flags).map_err(|error| storage(path, &error))?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .map_err(|error| storage(path, &error))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            targets: HashMap::new(),
        })
    }

    fn is_new(&self) -> rusqlite::Result<bool> {
        let query = "SELECT count(*) FROM sqlite_schema";
        let tables: i64 = self.connection.query_row(query, [], |row| row.get(0))?;
        let version: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))?;
        Ok(tables == 0 && version == 0)
    }

    fn create(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        transaction.execute_batch(SCHEMA)?;
        transaction.commit()
    }

    fn make_durable(&self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")
    }

    fn check_version(&self) -> Result<(), LedgerError> {
        let found: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|error| storage(&self.path, &error))?;
        match found {
            SCHEMA_VERSION => Ok(()),
            newer if newer > SCHEMA_VERSION => Err(LedgerError::Newer {
                path: self.path.clone(),
                found,
                known: SCHEMA_VERSION,
            }),
            _ => Err(LedgerError::Storage {
                path: self.path.clone(),
                cause: "it is a database of another program".to_owned(),
            }),
        }
    }

    fn write<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut HashMap<Arc<Target>, i64>) -> Result<T, Failure>,
    ) -> Result<T, LedgerError> {
        let mut targets = self.targets.clone();
        let result = (|| {
            let transaction = self.connection.transaction()?;
            let done = work(&transaction, &mut targets)?;
            transaction.commit()?;
            Ok(done)
        })();
        match result {
            Ok(done) => {
                self.targets = targets;
                Ok(done)
            }
            Err(Failure::Illegal(error)) => Err(error),
            Err(Failure::Sqlite(error)) => Err(storage(&self.path, &error)),
        }
    }
}

enum Failure {
    Sqlite(rusqlite::Error),
    Illegal(LedgerError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Ledger for SqliteLedger {
    fn begin_run(&mut self, run: &RunStart) -> Result<(), LedgerError> {
        self.write(|transaction, _| {
            transaction.execute(
                "INSERT INTO runs (run_id, stream, started_at, planned) VALUES (?1, ?2, ?3, ?4)",
                params![
                    run.run.as_str(),
                    run.stream,
                    run.at.to_string(),
                    i64::try_from(run.planned).unwrap_or(i64::MAX)
                ],
            )?;
            Ok(())
        })
    }

    fn end_run(&mut self, run: &RunEnd) -> Result<(), LedgerError> {
        self.write(|transaction, _| {
            transaction.execute(
                "UPDATE runs SET ended_at = ?2, exit_code = ?3 WHERE run_id = ?1",
                params![run.run.as_str(), run.at.to_string(), run.exit_code],
            )?;
            Ok(())
        })
    }

    fn record(&mut self, group: &[Transition]) -> Result<(), LedgerError> {
        self.write(|transaction, targets| {
            for step in group {
                record_one(transaction, targets, step)?;
            }
            Ok(())
        })
    }

    fn refresh(&mut self, group: &[Refreshed]) -> Result<(), LedgerError> {
        self.write(|transaction, targets| {
            let mut update = transaction.prepare_cached(
                "UPDATE files SET stored_mtime_ns = ?3, stored_inode = ?4, stored_read_at = ?5
                 WHERE target_id = ?1 AND path = ?2 AND stored_size = ?6",
            )?;
            for file in group {
                let target = target_id(transaction, targets, &file.target)?;
                update.execute(params![
                    target,
                    file.path.as_str(),
                    file.stat.mtime_ns,
                    file.stat.inode.cast_signed(),
                    file.read_at.to_string(),
                    file.stat.size.cast_signed(),
                ])?;
            }
            Ok(())
        })
    }

    fn doubts(&self) -> Result<Vec<Doubt>, LedgerError> {
        let read = || -> rusqlite::Result<Vec<Doubt>> {
            let mut select = self.connection.prepare(
                "SELECT f.attempt_id, g.origin, g.organization_id, g.dataset_id, f.path,
                        t.remote_name, t.size, t.at, t.reason
                 FROM files f
                 JOIN targets g USING (target_id)
                 JOIN transitions t ON t.transition_id = f.transition_id
                 WHERE f.state IN ('committing', 'in_doubt')
                 ORDER BY f.target_id, f.path",
            )?;
            select.query_map([], doubt)?.collect()
        };
        read().map_err(|error| storage(&self.path, &error))
    }

    fn settle(&mut self, group: &[Settlement]) -> Result<(), LedgerError> {
        self.write(|transaction, _| {
            for settlement in group {
                settle_one(transaction, settlement)?;
            }
            Ok(())
        })
    }

    fn known(&self, targets: &[Arc<Target>]) -> Result<Known, LedgerError> {
        let mut known = Known::default();
        let mut read = || -> rusqlite::Result<()> {
            let mut find = self.connection.prepare(
                "SELECT target_id FROM targets
                 WHERE origin = ?1 AND organization_id = ?2 AND dataset_id = ?3",
            )?;
            let mut select = self.connection.prepare(
                "SELECT f.path, f.state, f.attempt_id, t.reason, f.file_id, f.stored_size,
                        f.stored_mtime_ns, f.stored_inode, f.stored_blake3,
                        f.stored_metadata_blake3, f.stored_read_at
                 FROM files f
                 LEFT JOIN transitions t ON t.transition_id = f.transition_id
                      AND f.state IN ('committing', 'in_doubt')
                 WHERE f.target_id = ?1",
            )?;
            for target in targets {
                let key = target_key(target);
                let Some(id) = find.query_row(key, |row| row.get::<_, i64>(0)).optional()? else {
                    continue;
                };
                let mut rows = select.query([id])?;
                while let Some(row) = rows.next()? {
                    let path: String = row.get(0)?;
                    known.insert(target, SourcePath::new(path), known_file(row)?);
                }
            }
            Ok(())
        };
        read().map_err(|error| storage(&self.path, &error))?;
        Ok(known)
    }
}

fn record_one(
    transaction: &Transaction<'_>,
    targets: &mut HashMap<Arc<Target>, i64>,
    step: &Transition,
) -> Result<(), Failure> {
    let target = target_id(transaction, targets, &step.target)?;
    let before = transaction
        .prepare_cached("SELECT attempt_id, state FROM files WHERE target_id = ?1 AND path = ?2")?
        .query_row(params![target, step.path.as_str()], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?;
    let state = before.as_ref().map(|(attempt, word)| {
        let relation = if *attempt == step.attempt.as_str() {
            Relation::SameAttempt
        } else {
            Relation::OtherAttempt
        };
        // A state this version does not know is treated as the one that forbids most.
        (State::of_word(word).unwrap_or(State::InDoubt), relation)
    });
    if !step.state.may_follow(state) {
        return Err(Failure::Illegal(LedgerError::Illegal {
            path: step.path.clone(),
            from: before.map_or("none".to_owned(), |(_, word)| word),
            to: step.state.word(),
        }));
    }
    transaction
        .prepare_cached(
            "INSERT INTO transitions (attempt_id, run_id, target_id, rule, path, state, at, size,
                 mtime_ns, inode, blake3, metadata_blake3, remote_name, file_id, http_status,
                 reason, read_at)
             VALUES (:attempt, :run, :target, :rule, :path, :state, :at, :size, :mtime, :inode,
                 :digest, :metadata, :name, :file_id, :status, :reason, :read_at)",
        )?
        .execute(named_params! {
            ":attempt": step.attempt.as_str(),
            ":run": step.run.as_str(),
            ":target": target,
            ":rule": step.rule.as_str(),
            ":path": step.path.as_str(),
            ":state": step.state.word(),
            ":at": step.at.to_string(),
            ":size": step.stat.size.cast_signed(),
            ":mtime": step.stat.mtime_ns,
            ":inode": step.stat.inode.cast_signed(),
            ":digest": step.digest.map(|digest| digest.to_string()),
            ":metadata": step.metadata.to_string(),
            ":name": step.remote_name,
            ":file_id": step.file_id.as_ref().map(FileId::as_str),
            ":status": step.http_status,
            ":reason": step.reason,
            ":read_at": step.read_at.to_string(),
        })?;
    let transition = transaction.last_insert_rowid();
    transaction
        .prepare_cached(
            "INSERT INTO files (target_id, path, attempt_id, transition_id, state)
             VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (target_id, path) DO UPDATE SET attempt_id = excluded.attempt_id,
                 transition_id = excluded.transition_id, state = excluded.state",
        )?
        .execute(params![
            target,
            step.path.as_str(),
            step.attempt.as_str(),
            transition,
            step.state.word(),
        ])?;
    if step.state == State::Stored {
        keep_stored_version(transaction, transition)?;
    }
    Ok(())
}

/// Only what is stored replaces what is known to be stored.
fn keep_stored_version(transaction: &Transaction<'_>, transition: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "UPDATE files SET file_id = t.file_id, stored_size = t.size,
                 stored_mtime_ns = t.mtime_ns, stored_inode = t.inode, stored_blake3 = t.blake3,
                 stored_metadata_blake3 = t.metadata_blake3, stored_read_at = t.read_at
             FROM transitions t
             WHERE t.transition_id = ?1 AND files.transition_id = ?1
                 AND files.target_id = t.target_id AND files.path = t.path",
        )?
        .execute([transition])?;
    Ok(())
}

fn settle_one(transaction: &Transaction<'_>, settlement: &Settlement) -> Result<(), Failure> {
    let (state, file_id) = match &settlement.finding {
        Finding::Stored(id) => (State::Stored, Some(id.as_str())),
        Finding::NotStored => (State::Failed, None),
    };
    let appended = transaction.execute(
        "INSERT INTO transitions (attempt_id, run_id, target_id, rule, path, state, at, size,
             mtime_ns, inode, blake3, metadata_blake3, remote_name, file_id, http_status, reason,
             read_at)
         SELECT t.attempt_id, t.run_id, t.target_id, t.rule, t.path, :state, :at, t.size,
             t.mtime_ns, t.inode, t.blake3, t.metadata_blake3, t.remote_name, :file_id,
             t.http_status, :reason, t.read_at
         FROM files f JOIN transitions t ON t.transition_id = f.transition_id
         WHERE f.attempt_id = :attempt AND f.state IN ('committing', 'in_doubt')",
        named_params! {
            ":attempt": settlement.attempt.as_str(),
            ":state": state.word(),
            ":at": settlement.at.to_string(),
            ":file_id": file_id,
            ":reason": settlement.reason,
        },
    )?;
    if appended != 1 {
        return Err(Failure::Illegal(LedgerError::NotInDoubt {
            attempt: settlement.attempt.clone(),
        }));
    }
    let transition = transaction.last_insert_rowid();
    transaction.execute(
        "UPDATE files SET state = ?1, transition_id = ?2
         WHERE attempt_id = ?3 AND state IN ('committing', 'in_doubt')",
        params![state.word(), transition, settlement.attempt.as_str()],
    )?;
    if state == State::Stored {
        keep_stored_version(transaction, transition)?;
    }
    Ok(())
}

fn doubt(row: &Row<'_>) -> rusqlite::Result<Doubt> {
    let optional = |column: usize| -> rusqlite::Result<Option<String>> {
        Ok(Some(row.get::<_, String>(column)?).filter(|text| !text.is_empty()))
    };
    Ok(Doubt {
        attempt: AttemptId::new(row.get::<_, String>(0)?),
        target: Target {
            origin: Origin::new(row.get::<_, String>(1)?),
            organization_id: optional(2)?.map(OrganizationId::new),
            dataset_id: optional(3)?.map(DatasetId::new),
        },
        path: SourcePath::new(row.get::<_, String>(4)?),
        remote_name: row.get(5)?,
        size: row.get::<_, i64>(6)?.cast_unsigned(),
        since: time(7, &row.get::<_, String>(7)?)?,
        reason: row.get(8)?,
    })
}

fn time(column: usize, text: &str) -> rusqlite::Result<Timestamp> {
    text.parse().map_err(|_| unreadable(column, "no time"))
}

fn target_key(target: &Target) -> [&str; 3] {
    [
        target.origin.as_str(),
        target.organization_id.as_ref().map_or("", |id| id.as_str()),
        target.dataset_id.as_ref().map_or("", |id| id.as_str()),
    ]
}

fn target_id(
    transaction: &Transaction<'_>,
    targets: &mut HashMap<Arc<Target>, i64>,
    target: &Arc<Target>,
) -> rusqlite::Result<i64> {
    if let Some(id) = targets.get(target) {
        return Ok(*id);
    }
    let key = target_key(target);
    transaction.execute(
        "INSERT INTO targets (origin, organization_id, dataset_id) VALUES (?1, ?2, ?3)
         ON CONFLICT DO NOTHING",
        key,
    )?;
    let id = transaction.query_row(
        "SELECT target_id FROM targets
         WHERE origin = ?1 AND organization_id = ?2 AND dataset_id = ?3",
        key,
        |row| row.get(0),
    )?;
    targets.insert(Arc::clone(target), id);
    Ok(id)
}

fn known_file(row: &Row<'_>) -> rusqlite::Result<KnownFile> {
    let digest = |column: usize, text: &str| {
        Digest::parse(text).ok_or_else(|| unreadable(column, "no BLAKE3 digest"))
    };
    let word: String = row.get(1)?;
    let state = match State::of_word(&word) {
        Some(State::Stored) => KnownState::Stored,
        Some(State::Rejected | State::Failed) => KnownState::NotStored,
        // A run that died between gate and answer left it `committing`.
        Some(State::Committing | State::InDoubt) => {
            KnownState::InDoubt(AttemptId::new(row.get::<_, String>(2)?), row.get(3)?)
        }
        None => return Err(unreadable(1, "no state of an attempt")),
    };
    let Some(size) = row.get::<_, Option<i64>>(5)? else {
        return Ok(KnownFile {
            state,
            stored: None,
        });
    };
    let content: Option<String> = row.get(8)?;
    let stored = StoredVersion {
        stat: Stat {
            size: size.cast_unsigned(),
            mtime_ns: row.get(6)?,
            inode: row.get::<_, i64>(7)?.cast_unsigned(),
        },
        digest: content.map(|text| digest(8, &text)).transpose()?,
        metadata: digest(9, &row.get::<_, String>(9)?)?,
        file_id: row.get::<_, Option<String>>(4)?.map(FileId::new),
        read_at: time(10, &row.get::<_, String>(10)?)?,
    };
    Ok(KnownFile {
        state,
        stored: Some(stored),
    })
}

fn unreadable(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, what.into())
}

fn storage(path: &Path, cause: &dyn std::error::Error) -> LedgerError {
    LedgerError::Storage {
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use proptest::prelude::*;

    use super::*;
    use crate::ledger::Writer;
    use crate::model::{RuleName, RunId};

    fn target(dataset: &str) -> Arc<Target> {
        Arc::new(Target {
            origin: Origin::new("sandbox"),
            organization_id: None,
            dataset_id: Some(DatasetId::new(dataset)),
        })
    }

    fn step(path: &str, attempt: &str, state: State) -> Transition {
        Transition {
            attempt: AttemptId::new(attempt),
            run: RunId::new("run-1"),
            target: target("d"),
            rule: RuleName::new("rule"),
            path: SourcePath::new(path),
            state,
            at: Timestamp::from_second(1_000).expect("a time"),
            read_at: Timestamp::from_second(1_000).expect("a time"),
            stat: Stat {
                size: 3,
                mtime_ns: 5,
                inode: u64::MAX,
            },
            digest: Some(Digest([7; 32])),
            metadata: Digest([8; 32]),
            remote_name: "a.txt".to_owned(),
            file_id: (state == State::Stored).then(|| FileId::new("id-1")),
            http_status: None,
            reason: None,
        }
    }

    fn begin(ledger: &mut SqliteLedger) {
        let run = RunStart {
            run: RunId::new("run-1"),
            stream: "s".to_owned(),
            at: Timestamp::UNIX_EPOCH,
            planned: 1,
        };
        ledger.begin_run(&run).expect("a run");
    }

    fn fresh() -> (tempfile::TempDir, SqliteLedger) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).expect("opens");
        begin(&mut ledger);
        (folder, ledger)
    }

    #[test]
    fn what_was_stored_is_known_after_reopening() {
        let (folder, mut ledger) = fresh();
        ledger
            .record(&[step("a", "1", State::Committing)])
            .expect("recorded");
        ledger
            .record(&[
                step("a", "1", State::Stored),
                step("b", "2", State::Committing),
            ])
            .expect("recorded");
        drop(ledger);
        let path = folder.path().join("ledger.sqlite");
        let ledger = SqliteLedger::open_read_only(&path)
            .expect("opens")
            .expect("exists");
        let known = ledger.known(&[target("d"), target("other")]).expect("read");
        let a = known
            .get(&target("d"), &SourcePath::new("a"))
            .expect("known");
        assert_eq!(a.state, KnownState::Stored);
        let stored = a.stored.as_ref().expect("a stored version");
        assert_eq!(stored.file_id, Some(FileId::new("id-1")));
        assert_eq!(stored.stat.inode, u64::MAX);
        assert_eq!(stored.digest, Some(Digest([7; 32])));
        let b = known
            .get(&target("d"), &SourcePath::new("b"))
            .expect("known");
        let doubt = KnownState::InDoubt(AttemptId::new("2"), None);
        assert_eq!(b.state, doubt, "a dead run's open gate is doubt");
        assert!(known.get(&target("other"), &SourcePath::new("a")).is_none());
    }

    #[test]
    fn a_group_is_recorded_whole_or_not_at_all() {
        let (_folder, mut ledger) = fresh();
        let error = ledger
            .record(&[
                step("a", "1", State::Committing),
                step("b", "2", State::Stored),
            ])
            .expect_err("stored without passing the gate");
        assert!(matches!(error, LedgerError::Illegal { .. }), "{error}");
        assert_eq!(
            ledger.known(&[target("d")]).expect("read"),
            Known::default()
        );
    }

    #[test]
    fn the_file_is_its_owners_alone() {
        let (folder, _ledger) = fresh();
        let path = folder.path().join("ledger.sqlite");
        let mode = std::fs::metadata(path)
            .expect("exists")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn foreign_newer_and_damaged_files_are_refused_and_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        Connection::open(at("foreign"))
            .and_then(|c| c.execute_batch("CREATE TABLE t (x)"))
            .expect("a database");
        drop(SqliteLedger::open(&at("newer")).expect("opens"));
        Connection::open(at("newer"))
            .and_then(|c| c.execute_batch("PRAGMA user_version = 99"))
            .expect("a database");
        std::fs::write(
            at("damaged"),
            "this is no database, and long enough to tell",
        )
        .expect("ok");
        for (name, says) in [
            ("foreign", "another program"),
            ("newer", "newer roe-batch"),
            ("damaged", "not a database"),
        ] {
            let before = std::fs::read(at(name)).expect("read");
            let error = SqliteLedger::open(&at(name)).expect_err(name).to_string();
            assert!(error.contains(says), "{name}: {error}");
            assert_eq!(std::fs::read(at(name)).expect("read"), before, "{name}");
        }
    }

    #[test]
    fn a_refreshed_file_keeps_its_content_and_id() {
        let (_folder, mut ledger) = fresh();
        ledger
            .record(&[step("a", "1", State::Committing)])
            .expect("recorded");
        ledger
            .record(&[step("a", "1", State::Stored)])
            .expect("recorded");
        let stat = Stat {
            size: 3,
            mtime_ns: 99,
            inode: 98,
        };
        let refreshed = Refreshed {
            target: target("d"),
            path: SourcePath::new("a"),
            stat,
            read_at: Timestamp::from_second(2_000).expect("a time"),
        };
        ledger.refresh(&[refreshed]).expect("recorded");
        let known = ledger.known(&[target("d")]).expect("read");
        let a = known
            .get(&target("d"), &SourcePath::new("a"))
            .expect("known");
        let stored = a.stored.as_ref().expect("a stored version");
        assert_eq!(stored.stat, stat);
        assert_eq!(stored.file_id, Some(FileId::new("id-1")));
        assert_eq!(stored.read_at.as_second(), 2_000);
    }

    #[tokio::test]
    async fn after_a_failed_group_the_gate_stays_shut() {
        let (_folder, ledger) = fresh();
        let writer = Writer::start(Box::new(ledger)).expect("a thread");
        let handle = writer.handle();
        handle
            .record(step("a", "1", State::Committing))
            .await
            .expect("durable");
        assert!(handle.record(step("b", "2", State::Stored)).await.is_err());
        assert!(
            handle
                .record(step("c", "3", State::Committing))
                .await
                .is_err()
        );
        let end = handle.record(step("a", "1", State::Stored)).await;
        end.expect("what was out already is still written down");
        drop(handle);
        let ledger = writer.finish().expect("the ledger");
        let known = ledger.known(&[target("d")]).expect("read");
        let state = |path| {
            known
                .get(&target("d"), &SourcePath::new(path))
                .map(|k| &k.state)
        };
        assert_eq!(state("a"), Some(&KnownState::Stored));
        assert_eq!((state("b"), state("c")), (None, None));
    }

    #[test]
    fn a_failed_attempt_does_not_forget_the_version_that_is_stored() {
        let (_folder, mut ledger) = fresh();
        ledger
            .record(&[step("a", "1", State::Committing)])
            .expect("recorded");
        ledger
            .record(&[step("a", "1", State::Stored)])
            .expect("recorded");
        let changed = |state| Transition {
            stat: Stat {
                size: 99,
                mtime_ns: 9,
                inode: 9,
            },
            digest: Some(Digest([9; 32])),
            ..step("a", "2", state)
        };
        for state in [State::Committing, State::Failed] {
            ledger.record(&[changed(state)]).expect("recorded");
            let known = ledger.known(&[target("d")]).expect("read");
            let a = known
                .get(&target("d"), &SourcePath::new("a"))
                .expect("known");
            let stored = a.stored.as_ref().expect("a stored version");
            assert_eq!(
                (stored.stat.size, stored.digest),
                (3, Some(Digest([7; 32])))
            );
            assert_eq!(stored.file_id, Some(FileId::new("id-1")));
            assert_ne!(a.state, KnownState::Stored);
        }
    }

    #[test]
    fn a_doubt_is_settled_once_by_what_is_found() {
        let (_folder, mut ledger) = fresh();
        for (path, attempt) in [("a", "1"), ("b", "2"), ("c", "3")] {
            ledger
                .record(&[step(path, attempt, State::Committing)])
                .expect("recorded");
        }
        ledger
            .record(&[step("b", "2", State::InDoubt)])
            .expect("recorded");
        ledger
            .record(&[step("c", "3", State::Stored)])
            .expect("recorded");
        let paths = |ledger: &SqliteLedger| -> Vec<String> {
            let doubts = ledger.doubts().expect("read");
            doubts.iter().map(|d| d.path.as_str().to_owned()).collect()
        };
        assert_eq!(paths(&ledger), ["a", "b"]);
        let settlement = |attempt: &str, finding| Settlement {
            attempt: AttemptId::new(attempt),
            finding,
            at: Timestamp::from_second(3_000).expect("a time"),
            reason: "looked".to_owned(),
        };
        let found = settlement("1", Finding::Stored(FileId::new("id-9")));
        let absent = settlement("2", Finding::NotStored);
        let settled = settlement("3", Finding::NotStored);
        assert!(
            ledger.settle(&[found.clone(), settled]).is_err(),
            "all or none"
        );
        assert_eq!(paths(&ledger), ["a", "b"]);
        ledger.settle(&[found.clone(), absent]).expect("settled");
        assert_eq!(paths(&ledger), [""; 0]);
        assert!(ledger.settle(&[found]).is_err(), "settled already");
        let known = ledger.known(&[target("d")]).expect("read");
        let get = |path: &str| {
            known
                .get(&target("d"), &SourcePath::new(path))
                .expect("known")
        };
        assert_eq!(get("a").state, KnownState::Stored);
        let stored = get("a").stored.clone().expect("a stored version");
        assert_eq!(stored.file_id, Some(FileId::new("id-9")));
        assert_eq!(get("b").state, KnownState::NotStored);
    }

    proptest! {
        /// A map from path to (attempt, state) is the model.
        #[test]
        fn agrees_with_a_naive_model(
            steps in prop::collection::vec(("[ab]", 0_u8..3, 0_usize..5), 0..30)
        ) {
            let (_folder, mut ledger) = fresh();
            let mut model: BTreeMap<String, (u8, State)> = BTreeMap::new();
            for (path, attempt, state) in steps {
                let state = State::ALL[state];
                let before = model.get(&path).map(|(other, state)| {
                    let same = *other == attempt;
                    (*state, if same { Relation::SameAttempt } else { Relation::OtherAttempt })
                });
                let legal = state.may_follow(before);
                let recorded = ledger.record(&[step(&path, &attempt.to_string(), state)]);
                prop_assert_eq!(recorded.is_ok(), legal);
                if legal {
                    model.insert(path, (attempt, state));
                }
            }
            let known = ledger.known(&[target("d")]).expect("read");
            for path in ["a", "b"] {
                let expected = model.get(path).map(|(_, state)| match state {
                    State::Stored => KnownState::Stored,
                    State::Rejected | State::Failed => KnownState::NotStored,
                    State::Committing | State::InDoubt => KnownState::InDoubt(AttemptId::new("-"), None),
                });
                let found = known
                    .get(&target("d"), &SourcePath::new(path))
                    .map(|k| match &k.state {
                        KnownState::InDoubt(..) => KnownState::InDoubt(AttemptId::new("-"), None),
                        other => other.clone(),
                    });
                prop_assert_eq!(found, expected);
            }
        }
    }
}
