//! A look at a ledger that changes nothing, not even beside it.

use std::fs;
use std::path::Path;

use rusqlite::OpenFlags;

use super::{SqliteLedger, exists, schema, temporary_place};
use crate::ledger::LedgerError;
use crate::model::shown_bounded;

/// What a look at a ledger tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examined {
    /// What is wrong with it, if anything is.
    pub damage: Option<String>,
    /// The version of its schema, where it could be read.
    pub schema: Option<i64>,
    /// The newest version that is known here.
    pub known: i64,
    /// Its size in bytes.
    pub bytes: u64,
}

impl SqliteLedger {
    /// Looks at a ledger, all of it, however large. None where there is none.
    ///
    /// # Errors
    ///
    /// It cannot be reached.
    pub fn examine(path: &Path) -> Result<Option<Examined>, LedgerError> {
        if !exists(path)? {
            return Ok(None);
        }
        let mut examined = Examined {
            damage: None,
            schema: None,
            known: schema::VERSION,
            bytes: fs::metadata(path).map_or(0, |found| found.len()),
        };
        if examined.bytes == 0 {
            examined.damage = Some("it is empty".to_owned());
            return Ok(Some(examined));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let look = || -> rusqlite::Result<(i64, i64, String)> {
            let connection = rusqlite::Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(super::BUSY_TIMEOUT)?;
            connection.pragma_update(None, "temp_store", temporary_place().word())?;
            let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            let query = "SELECT count(*) FROM sqlite_schema WHERE name = 'transitions'";
            let tables = connection.query_row(query, [], |row| row.get(0))?;
            let check = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
            Ok((version, tables, check))
        };
        match look() {
            Ok((version, tables, check)) => {
                examined.schema = Some(version);
                if check != "ok" {
                    examined.damage = Some(shown_bounded(&check));
                } else if tables == 0 || version < 1 {
                    examined.damage = Some("it is a database of another program".to_owned());
                }
            }
            Err(error) => examined.damage = Some(shown_bounded(&error.to_string())),
        }
        Ok(Some(examined))
    }
}
