//! A look at a ledger that changes nothing, not even beside it.

use std::cell::RefCell;
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{BUSY_TIMEOUT, Ids, SqliteLedger, exists, schema, temporary_place};
use crate::ledger::{Ledger, LedgerError};
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
    /// Files in doubt, where it is whole and of the newest version.
    pub doubts: Option<usize>,
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
            doubts: None,
        };
        if examined.bytes == 0 {
            examined.damage = Some("it is empty".to_owned());
            return Ok(Some(examined));
        }
        // Whoever reads by way of the journal makes one where there is none. What is without a
        // journal is whole in its file, unless somebody begins to write in this moment.
        let journal = {
            let mut name = path.as_os_str().to_owned();
            name.push("-wal");
            name
        };
        let mut has_journal = Path::new(&journal).exists();
        loop {
            match examine(path, has_journal, &mut examined) {
                Ok(()) => {}
                Err(error) => examined.damage = Some(shown_bounded(&error.to_string())),
            }
            if examined.damage.is_none() || has_journal || !Path::new(&journal).exists() {
                return Ok(Some(examined));
            }
            has_journal = true;
            examined.damage = None;
        }
    }
}

fn examine(path: &Path, has_journal: bool, examined: &mut Examined) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(uri(path, has_journal), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "temp_store", temporary_place().word())?;
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let query = "SELECT count(*) FROM sqlite_schema WHERE name = 'transitions'";
    let tables: i64 = connection.query_row(query, [], |row| row.get(0))?;
    let check: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    examined.schema = Some(version);
    if check != "ok" {
        examined.damage = Some(shown_bounded(&check));
    } else if tables == 0 || version < 1 {
        examined.damage = Some("it is a database of another program".to_owned());
    } else if version == examined.known {
        let ledger = SqliteLedger {
            connection,
            path: path.to_owned(),
            ids: Ids::default(),
            intents: RefCell::default(),
        };
        ledger.show_intents()?;
        examined.doubts = ledger.doubts().ok().map(|doubts| doubts.len());
    }
    Ok(())
}

/// The file as `SQLite` opens it; without a journal as one that nobody writes to.
fn uri(path: &Path, has_journal: bool) -> String {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    if !has_journal {
        uri.push_str("?immutable=1");
    }
    uri
}
