//! The state folder: where ledger, lock and default reports lie.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::LedgerError;

/// Longest text read from a lock file, which anyone may have written.
const HOLDER_MAX: u64 = 200;

/// The folder of durable state: `.roe-batch` beside the manifest unless chosen.
#[derive(Debug, Clone)]
pub struct StateFolder {
    path: PathBuf,
    home: PathBuf,
}

impl StateFolder {
    /// The state folder at a path, which need not exist yet; its parent must.
    ///
    /// # Errors
    ///
    /// The parent folder does not exist or cannot be reached.
    pub fn at(path: &Path) -> Result<Self, LedgerError> {
        let error = |cause: io::Error| LedgerError::Folder {
            path: path.to_owned(),
            cause: cause.to_string(),
        };
        let absolute = std::path::absolute(path).map_err(error)?;
        let parent = absolute.parent().unwrap_or(Path::new("/"));
        let home = fs::canonicalize(parent).map_err(error)?;
        let name = absolute.file_name().unwrap_or_default();
        Ok(Self {
            path: home.join(name),
            home,
        })
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that holds it: source paths are relative to this one, so that a tree can move
    /// together with its state.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// The ledger's file.
    #[must_use]
    pub fn ledger(&self) -> PathBuf {
        self.path.join("ledger.sqlite")
    }

    /// Where reports go unless the manifest says otherwise.
    #[must_use]
    pub fn reports(&self) -> PathBuf {
        self.path.join("reports")
    }

    /// Where the embedded sandbox of `--sandbox` keeps its files.
    #[must_use]
    pub fn sandbox(&self) -> PathBuf {
        self.path.join("sandbox")
    }

    /// Makes the folder, for its owner only, with a `.gitignore` that keeps it out of commits.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn create(&self) -> Result<(), LedgerError> {
        let make = || {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&self.path)?;
            let ignore = self.path.join(".gitignore");
            // A disk that was full may have left it empty.
            if fs::metadata(&ignore).is_ok_and(|found| found.len() > 0) {
                return Ok(());
            }
            fs::write(ignore, "*\n")?;
            Ok(())
        };
        make().map_err(|error| self.error(&error))
    }

    /// Takes the lock that lets one run at a time use this folder. The operating system releases
    /// it when the process ends, however it ends.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Locked`] at once where another run has it.
    pub fn lock(&self, holder: &str) -> Result<RunLock, LedgerError> {
        let _turn = self.turn()?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.join("lock"))
            .map_err(|error| self.error(&error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LedgerError::Locked {
                    holder: holder_of(&file),
                });
            }
            Err(TryLockError::Error(error)) => return Err(self.error(&error)),
        }
        let mut note = || {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(holder.as_bytes())
        };
        note().map_err(|error| self.error(&error))?;
        Ok(RunLock { _file: file })
    }

    /// What the lock file says of who has the lock; none where nobody has it.
    ///
    /// # Errors
    ///
    /// The folder cannot be looked into.
    pub fn holder(&self) -> Result<Option<String>, LedgerError> {
        let path = self.path.join("lock");
        if !path.try_exists().map_err(|error| self.error(&error))? {
            return Ok(None);
        }
        // A run that begins in this moment must not find the lock taken by a look at it: the turn
        // is kept until the file is closed.
        let _turn = self.turn()?;
        let file = File::open(path).map_err(|error| self.error(&error))?;
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(holder_of(&file))),
            Err(TryLockError::Error(error)) => Err(self.error(&error)),
        }
    }

    /// Taking the lock and writing down who has it must be one step for whoever comes second, who
    /// would read nobody's name or the last holder's: one after another, for this moment.
    fn turn(&self) -> Result<File, LedgerError> {
        File::open(&self.path)
            .and_then(|turn| turn.lock().map(|()| turn))
            .map_err(|error| self.error(&error))
    }

    fn error(&self, error: &io::Error) -> LedgerError {
        LedgerError::Folder {
            path: self.path.clone(),
            cause: error.to_string(),
        }
    }
}

/// What a lock file says; safe to show.
fn holder_of(file: &File) -> String {
    let mut text = Vec::new();
    let _ = file.take(HOLDER_MAX).read_to_end(&mut text);
    crate::model::shown(String::from_utf8_lossy(&text).trim()).into_owned()
}

/// The right to use a state folder, until dropped.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_second_taker_of_the_lock_learns_who_has_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::at(&folder.path().join(".roe-batch")).expect("a parent");
        state.create().expect("made");
        let first = state.lock("pid 42, run abc").expect("free");
        let error = state.lock("pid 43").expect_err("taken").to_string();
        assert!(error.contains("pid 42, run abc"), "{error}");
        let holder = || state.holder().expect("read");
        assert_eq!(holder().as_deref(), Some("pid 42, run abc"));
        drop(first);
        assert_eq!(holder(), None);
        drop(state.lock("pid 44").expect("free again"));
        let new = StateFolder::at(&folder.path().join("new")).expect("a parent");
        assert_eq!(new.holder().expect("nobody was there"), None);
    }

    #[test]
    fn the_folder_is_its_owners_alone_and_out_of_git() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = StateFolder::at(&folder.path().join("state")).expect("a parent");
        state.create().expect("made");
        let mode = fs::metadata(state.path())
            .expect("exists")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700);
        let ignore = state.path().join(".gitignore");
        assert_eq!(fs::read_to_string(&ignore).expect("exists"), "*\n");
        fs::write(&ignore, "").expect("emptied");
        state.create().expect("made");
        assert_eq!(fs::read_to_string(&ignore).expect("exists"), "*\n");
    }
}
