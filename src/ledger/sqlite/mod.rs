//! The ledger in `SQLite`: readable with `sqlite3` while nothing runs.
//!
//! `transitions` is appended to and never rewritten; `file_states` holds the latest one of each
//! file, so that planning reads one row a file. Both change in one transaction.

mod doubts;
mod plan_rows;
mod read;
mod schema;
mod write;

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, params};
use serde_json::{Map, Value, json};

use self::write::{Failure, Ids};
use super::{
    Entry, Ledger, LedgerError, PlannedRow, RunEnd, RunRecord, RunRow, RunStart, StoredSample,
};
use crate::model::{Doubt, FileId, Known, RunId, SourcePath, Target, shown_bounded};

/// Ledgers up to this size are checked whole when they are opened, which takes a moment; of larger
/// ones damage shows when it is read.
const CHECKED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long another reader, such as `sqlite3`, may hold the database up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// A ledger in one `SQLite` file.
pub struct SqliteLedger {
    connection: Connection,
    path: PathBuf,
    ids: Ids,
}

impl fmt::Debug for SqliteLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqliteLedger({})", self.path.display())
    }
}

impl SqliteLedger {
    /// Opens the ledger, or makes a new one, readable by its owner only. An older version's is
    /// brought to the present schema.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, is no ledger, is damaged, or a newer roe-batch wrote it.
    pub fn open(path: &Path) -> Result<Self, LedgerError> {
        let fail = |error| storage(path, &error);
        if !exists(path)? {
            Self::create(path)?;
        }
        refuse_empty(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut ledger = Self::connect(path, flags)?;
        let found = ledger.version()?;
        ledger.check()?;
        // Only now that the file is known to be a ledger may anything of it change.
        ledger.make_durable().map_err(fail)?;
        schema::migrate(&mut ledger.connection, found).map_err(fail)?;
        Ok(ledger)
    }

    /// Makes a new ledger under another name first, so that one without its tables is never taken
    /// for a new one.
    fn create(path: &Path) -> Result<(), LedgerError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let new = path.with_file_name(name);
        let io = |error: io::Error| LedgerError::Storage {
            path: path.to_owned(),
            cause: error.to_string(),
        };
        // SQLite would make it readable by others.
        OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)
            .map_err(io)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut ledger = Self::connect(&new, flags)?;
        let fail = |error| storage(path, &error);
        schema::create(&mut ledger.connection).map_err(fail)?;
        drop(ledger);
        fs::rename(&new, path).map_err(io)?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))
            .and_then(|folder| folder.sync_all())
            .map_err(io)
    }

    /// Opens an existing ledger to read from; nothing is created.
    ///
    /// # Errors
    ///
    /// As [`SqliteLedger::open`], and that an older version's first needs a run.
    pub fn open_read_only(path: &Path) -> Result<Option<Self>, LedgerError> {
        if !exists(path)? {
            return Ok(None);
        }
        refuse_empty(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ledger = Self::connect(path, flags)?;
        let found = ledger.version()?;
        ledger.check()?;
        if found < schema::VERSION {
            return Err(LedgerError::Older {
                path: path.to_owned(),
                found,
            });
        }
        Ok(Some(ledger))
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, LedgerError> {
        let open = || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.set_prepared_statement_cache_capacity(64);
            // Plans do not depend on bound values: otherwise SQLite prepares the upsert of every
            // step anew, which costs more than the step itself.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            Ok(connection)
        };
        Ok(Self {
            connection: open().map_err(|error| storage(path, &error))?,
            path: path.to_owned(),
            ids: Ids::default(),
        })
    }

    fn make_durable(&self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.pragma_update(None, "synchronous", "FULL")
    }

    /// The schema version, if it is one of this program's.
    fn version(&self) -> Result<i64, LedgerError> {
        let found: i64 = self
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(|error| storage(&self.path, &error))?;
        let query = "SELECT count(*) FROM sqlite_schema WHERE name = 'transitions'";
        let tables: i64 = self
            .connection
            .query_row(query, [], |row| row.get(0))
            .map_err(|error| storage(&self.path, &error))?;
        if found > schema::VERSION {
            return Err(LedgerError::Newer {
                path: self.path.clone(),
                found,
                known: schema::VERSION,
            });
        }
        if found < 1 || tables == 0 {
            return Err(LedgerError::Storage {
                path: self.path.clone(),
                cause: "it is a database of another program".to_owned(),
            });
        }
        Ok(found)
    }

    /// Finds damage before anything more is written behind it.
    fn check(&self) -> Result<(), LedgerError> {
        let size = fs::metadata(&self.path).map_or(0, |found| found.len());
        if size > CHECKED_BYTES_MAX {
            return Ok(());
        }
        let cause: String = self
            .connection
            .pragma_query_value(None, "quick_check", |row| row.get(0))
            .map_err(|error| storage(&self.path, &error))?;
        if cause == "ok" {
            return Ok(());
        }
        Err(LedgerError::Damaged {
            path: self.path.clone(),
            copy: keep_copy(&self.path).ok(),
            cause: shown_bounded(&cause),
        })
    }

    fn in_one_step<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut Ids) -> Result<T, Failure>,
    ) -> Result<T, LedgerError> {
        // What a failed transaction made known is not there.
        let mut ids = self.ids.clone();
        let result = (|| {
            let transaction = schema::write_lock(&mut self.connection)?;
            let done = work(&transaction, &mut ids)?;
            transaction.commit()?;
            Ok(done)
        })();
        match result {
            Ok(done) => {
                self.ids = ids;
                Ok(done)
            }
            Err(Failure::Refused(error)) => Err(error),
            Err(Failure::Sqlite(error)) => Err(storage(&self.path, &error)),
        }
    }

    fn read<T>(&self, result: Result<T, read::Failure>) -> Result<T, LedgerError> {
        result.map_err(|failure| match failure {
            read::Failure::Sqlite(error) => storage(&self.path, &error),
            read::Failure::Impossible(error) => error,
        })
    }
}

impl Ledger for SqliteLedger {
    fn begin_run(&mut self, run: &RunStart, plan: &[PlannedRow<'_>]) -> Result<(), LedgerError> {
        self.in_one_step(|transaction, ids| {
            plan_rows::begin(transaction, ids, run, plan).map_err(Failure::from)
        })
    }

    fn end_run(&mut self, run: &RunEnd) -> Result<(), LedgerError> {
        let outcomes: Map<String, Value> = run
            .outcomes
            .iter()
            .map(|(outcome, files)| (outcome.word().to_owned(), json!(files)))
            .collect();
        self.in_one_step(|transaction, _| {
            transaction.execute(
                "UPDATE run_log SET ended_at = ?2, exit_code = ?3, stopped = ?4, outcomes = ?5
                 WHERE run_id = ?1",
                params![
                    run.run.as_str(),
                    run.at.to_string(),
                    run.exit_code,
                    json!(run.stopped).to_string(),
                    Value::Object(outcomes).to_string(),
                ],
            )?;
            Ok(())
        })
    }

    fn write(&mut self, group: &[Entry]) -> Result<(), LedgerError> {
        self.in_one_step(|transaction, ids| {
            for entry in group {
                write::write(transaction, ids, entry)?;
            }
            Ok(())
        })
    }

    fn doubts(&self) -> Result<Vec<Doubt>, LedgerError> {
        doubts::doubts(&self.connection).map_err(|error| storage(&self.path, &error))
    }

    fn ids(&self, target: &Target, since: Timestamp) -> Result<HashSet<FileId>, LedgerError> {
        doubts::ids(&self.connection, target, since).map_err(|error| storage(&self.path, &error))
    }

    fn unnamed(&self, target: &Target, since: Timestamp) -> Result<Vec<Doubt>, LedgerError> {
        doubts::unnamed(&self.connection, target, since)
            .map_err(|error| storage(&self.path, &error))
    }

    fn stored_samples(&self, target: &Target) -> Result<Vec<StoredSample>, LedgerError> {
        doubts::stored_samples(&self.connection, target)
            .map_err(|error| storage(&self.path, &error))
    }

    fn known(&self, targets: &[Arc<Target>], stream: &str) -> Result<Known, LedgerError> {
        read::known(&self.connection, targets, stream).map_err(|error| storage(&self.path, &error))
    }

    fn elsewhere(
        &self,
        targets: &[Arc<Target>],
        stream: &str,
        paths: &HashSet<&SourcePath>,
    ) -> Result<Vec<(Target, usize)>, LedgerError> {
        read::elsewhere(&self.connection, targets, stream, paths)
            .map_err(|error| storage(&self.path, &error))
    }

    fn runs(&self, stream: &str) -> Result<Vec<RunRecord>, LedgerError> {
        read::runs(&self.connection, stream).map_err(|error| storage(&self.path, &error))
    }

    fn rows(&self, run: &RunId) -> Result<Vec<RunRow>, LedgerError> {
        self.read(read::rows(&self.connection, run))
    }

    fn files(&self) -> Result<Vec<RunRow>, LedgerError> {
        self.read(read::files(&self.connection))
    }
}

/// Whether there is a ledger; a folder that may not be looked into is an error, not an absence.
fn exists(path: &Path) -> Result<bool, LedgerError> {
    path.try_exists().map_err(|error| LedgerError::Storage {
        path: path.to_owned(),
        cause: error.to_string(),
    })
}

/// A ledger is never empty, not even in the first instant of its life: an empty file has lost what
/// it knew, and to begin anew would store everything twice.
fn refuse_empty(path: &Path) -> Result<(), LedgerError> {
    if fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0) {
        return Err(LedgerError::Damaged {
            path: path.to_owned(),
            cause: "it is empty".to_owned(),
            copy: None,
        });
    }
    Ok(())
}

/// What a failure of the database is to a user. Of a damaged ledger a copy is kept as it was
/// found: whatever is tried next, nothing is lost by it.
fn storage(path: &Path, error: &rusqlite::Error) -> LedgerError {
    let cause = error.to_string();
    let path = path.to_owned();
    let is_damage = match error {
        // What is read back is none of what is written.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..) => true,
        other => matches!(
            other.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
        ),
    };
    if is_damage {
        let copy = keep_copy(&path).ok();
        LedgerError::Damaged { path, cause, copy }
    } else {
        LedgerError::Storage { path, cause }
    }
}

/// Copies a ledger and its journal beside it, once for each state it is found in.
fn keep_copy(path: &Path) -> io::Result<PathBuf> {
    let found = fs::metadata(path)?;
    let name = |suffix: &str| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(suffix);
        path.with_file_name(name)
    };
    let damaged = format!(".damaged-{}-{}", found.mtime(), found.len());
    let copy = name(&damaged);
    if !copy.exists() {
        let journal = name("-wal");
        if journal.exists() {
            fs::copy(journal, name(&format!("{damaged}-wal")))?;
        }
        fs::copy(path, &copy)?;
    }
    Ok(copy)
}

#[cfg(test)]
mod tests;
