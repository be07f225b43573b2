//! The ledger in `SQLite`: readable with `sqlite3` while nothing runs.
//!
//! `transitions` is appended to and never rewritten; `file_states` holds the latest one of each
//! file, so that planning reads one row a file. Both change in one transaction. `intents` holds the
//! attempts whose gate is open, a row for all that were committed together.

mod chunks;
mod doubts;
mod ends;
mod examine;
mod group;
mod intents;
mod plans;
mod read;
mod rows;
mod schema;
mod text;
mod write;

use std::cell::RefCell;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::mem;
use std::ops::Bound;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params};
use serde_json::{Map, Value, json};

pub use self::examine::Examined;
use self::group::{Changes, Group};
use self::intents::Intents;
use self::write::{Failure, Ids};
use super::{
    Entry, Ledger, LedgerError, PlannedRow, RunEnd, RunRecord, RunStart, StoredSample, Take,
};
use crate::model::{Doubt, FileId, KnownFile, RunId, SourcePath, Target, shown_bounded};

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
    /// Reading it makes ordinary rows of what is open, hence the cell.
    intents: RefCell<Intents>,
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
        let mut ledger = Self::connect(path, flags, temporary_place())?;
        let found = ledger.version()?;
        ledger.check()?;
        // Only now that the file is known to be a ledger may anything of it change.
        ledger.make_durable().map_err(fail)?;
        schema::migrate(&mut ledger.connection, found).map_err(fail)?;
        if intents::are_any(&ledger.connection).map_err(fail)? {
            ledger.unfold().map_err(fail)?;
        }
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
        let mut ledger = Self::connect(&new, flags, temporary_place())?;
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
        Self::open_to_read(path, temporary_place())
    }

    /// The same, without need of a disk that has room: what a query puts by stays in memory, however
    /// much it is.
    ///
    /// # Errors
    ///
    /// As [`SqliteLedger::open_read_only`].
    pub fn open_read_only_on_full_disk(path: &Path) -> Result<Option<Self>, LedgerError> {
        Self::open_to_read(path, TemporaryPlace::Memory)
    }

    fn open_to_read(path: &Path, place: TemporaryPlace) -> Result<Option<Self>, LedgerError> {
        if !exists(path)? {
            return Ok(None);
        }
        refuse_empty(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let ledger = Self::connect(path, flags, place)?;
        let found = ledger.version()?;
        ledger.check()?;
        if found < schema::VERSION {
            return Err(LedgerError::Older {
                path: path.to_owned(),
                found,
            });
        }
        ledger
            .show_intents()
            .map_err(|error| storage(path, &error))?;
        Ok(Some(ledger))
    }

    fn connect(path: &Path, flags: OpenFlags, place: TemporaryPlace) -> Result<Self, LedgerError> {
        let open = || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY_TIMEOUT)?;
            connection.set_prepared_statement_cache_capacity(64);
            connection.pragma_update(None, "temp_store", place.word())?;
            // Plans do not depend on bound values: otherwise SQLite prepares the upsert of every
            // step anew, which costs more than the step itself.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
            Ok(connection)
        };
        Ok(Self {
            connection: open().map_err(|error| storage(path, &error))?,
            path: path.to_owned(),
            ids: Ids::default(),
            intents: RefCell::default(),
        })
    }

    fn make_durable(&self) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        // What rows refer to was looked up or written in the same transaction.
        self.connection.pragma_update(None, "foreign_keys", false)?;
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

    /// Has this connection read what is open as if it were in doubt already. Where nothing is, a
    /// run that begins in the meantime is none of its reader's.
    fn show_intents(&self) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        if !intents::are_any(&transaction)? {
            return transaction.commit();
        }
        intents::show(&transaction)?;
        // It lasts as long as the connection: what is shown was so in one moment.
        mem::forget(transaction);
        Ok(())
    }

    /// Makes ordinary rows of all attempts that are open.
    fn unfold(&self) -> rusqlite::Result<()> {
        let immediate = TransactionBehavior::Immediate;
        let transaction = Transaction::new_unchecked(&self.connection, immediate)?;
        intents::unfold(&transaction)?;
        transaction.commit()?;
        let mut intents = self.intents.borrow_mut();
        intents.clear();
        intents.keep(Changes::default());
        Ok(())
    }

    /// The connection to read from, with every open attempt where it is looked for.
    fn reader(&self) -> rusqlite::Result<&Connection> {
        if !self.intents.borrow().are_none() {
            self.unfold()?;
        }
        Ok(&self.connection)
    }

    fn in_one_step<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>, &mut Ids, &mut Intents) -> Result<T, Failure>,
    ) -> Result<T, LedgerError> {
        let intents = self.intents.get_mut();
        let result = (|| {
            let transaction = schema::write_lock(&mut self.connection)?;
            let done = work(&transaction, &mut self.ids, intents)?;
            transaction.commit()?;
            Ok(done)
        })();
        if result.is_err() {
            // What a failed transaction made known is not there.
            self.ids = Ids::default();
            self.intents.get_mut().undo();
        }
        result.map_err(|failure| match failure {
            Failure::Refused(error) => error,
            Failure::Sqlite(error) => storage(&self.path, &error),
        })
    }

    fn read<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, read::Failure>,
    ) -> Result<T, LedgerError> {
        let connection = self.reader().map_err(read::Failure::from);
        connection.and_then(work).map_err(|failure| match failure {
            read::Failure::Sqlite(error) => storage(&self.path, &error),
            read::Failure::Impossible(error) => error,
        })
    }
}

impl Ledger for SqliteLedger {
    fn begin_run(
        &mut self,
        run: &RunStart,
        plan: &mut dyn Iterator<Item = PlannedRow<'_>>,
    ) -> Result<(), LedgerError> {
        self.in_one_step(|transaction, ids, _| {
            plans::begin(transaction, ids, run, plan)?;
            // Its steps come after all that is there.
            transaction.execute(
                "UPDATE run_log SET first_transition =
                     (SELECT coalesce(max(transition_id), 0) + 1 FROM transitions)
                 WHERE run_id = ?1",
                [run.run.as_str()],
            )?;
            ids.forget_run();
            Ok(())
        })
    }

    fn end_run(&mut self, run: &RunEnd) -> Result<(), LedgerError> {
        let outcomes: Map<String, Value> = run
            .outcomes
            .iter()
            .map(|(outcome, files)| (outcome.word().to_owned(), json!(files)))
            .collect();
        self.in_one_step(|transaction, _, _| {
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
        let changes = self.in_one_step(|transaction, ids, intents| {
            let mut writing = Group::new(transaction, ids, intents)?;
            for entry in group {
                writing.write(entry)?;
            }
            writing.finish()
        })?;
        self.intents.get_mut().keep(changes);
        Ok(())
    }

    fn doubts(&self) -> Result<Vec<Doubt>, LedgerError> {
        self.read(|connection| Ok(doubts::doubts(connection)?))
    }

    fn each_id(
        &self,
        target: &Target,
        since: Timestamp,
        take: &mut dyn FnMut(&FileId),
    ) -> Result<(), LedgerError> {
        self.read(|connection| Ok(doubts::each_id(connection, target, since, take)?))
    }

    fn unnamed(&self, target: &Target, since: Timestamp) -> Result<Vec<Doubt>, LedgerError> {
        self.read(|connection| Ok(doubts::unnamed(connection, target, since)?))
    }

    fn stored_samples(&self, target: &Target) -> Result<Vec<StoredSample>, LedgerError> {
        self.read(|connection| Ok(doubts::stored_samples(connection, target)?))
    }

    fn known_from(
        &self,
        target: &Target,
        stream: &str,
        from: Bound<&SourcePath>,
        limit: usize,
    ) -> Result<Vec<(SourcePath, KnownFile)>, LedgerError> {
        self.read(|connection| Ok(read::known_from(connection, target, stream, from, limit)?))
    }

    fn elsewhere(
        &self,
        targets: &[Arc<Target>],
        stream: &str,
        is_meant: &mut dyn FnMut(&str) -> bool,
    ) -> Result<Vec<(Target, usize)>, LedgerError> {
        self.read(|connection| Ok(read::elsewhere(connection, targets, stream, is_meant)?))
    }

    fn runs(&self, stream: &str) -> Result<Vec<RunRecord>, LedgerError> {
        self.read(|connection| Ok(read::runs(connection, stream)?))
    }

    fn each_row(&self, run: &RunId, take: Take<'_>) -> Result<(), LedgerError> {
        self.read(|connection| rows::each_row(connection, run, take))
    }

    fn each_file(&self, take: Take<'_>) -> Result<(), LedgerError> {
        self.read(|connection| rows::each_file(connection, take))
    }
}

/// Where `SQLite` puts tables of its own for one query.
#[derive(Debug, Clone, Copy)]
enum TemporaryPlace {
    /// A file without a name, written only once a table is large, in the folder that `SQLite` finds
    /// for it: the first that may be written to of `SQLITE_TMPDIR`, `TMPDIR`, `/var/tmp`, `/usr/tmp`,
    /// `/tmp` and the working one. It does not look whether there is room.
    File,
    Memory,
}

impl TemporaryPlace {
    fn word(self) -> &'static str {
        match self {
            Self::File => "FILE",
            Self::Memory => "MEMORY",
        }
    }
}

/// To follow a large run takes a row for each of its files, too many for memory. Not everywhere is a
/// place for a file.
fn temporary_place() -> TemporaryPlace {
    match tempfile::tempfile() {
        Ok(_) => TemporaryPlace::File,
        Err(_) => TemporaryPlace::Memory,
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
