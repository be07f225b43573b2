//! The sandbox's folder: the bytes of each stored file, and an index of one JSON line for each.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use uuid::Uuid;

const FILES: &str = "files";
const TEMPORARY: &str = "tmp";
const INDEX: &str = "index.jsonl";
const LOCK: &str = "lock";

/// A file the sandbox has stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredFile {
    /// The id the server gave it, a UUID v7.
    pub id: String,
    /// Its name, after everything Django does to names.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// The content type of the part without parameters; empty when the part had none.
    pub content_type: String,
    /// The metadata sent with it.
    pub metadata: Map<String, Value>,
    /// The dataset it is in.
    pub dataset_id: String,
    /// The organization named with it.
    pub organization_id: Option<String>,
    /// When it was stored.
    pub created_at: jiff::Timestamp,
    /// The `X-Request-ID` of the request that stored it.
    pub request_id: Option<String>,
    /// Where its bytes are.
    #[serde(skip)]
    pub path: PathBuf,
}

/// What a request says about a file, beside its bytes.
#[derive(Debug)]
pub(super) struct NewFile {
    pub(super) name: String,
    pub(super) content_type: String,
    pub(super) metadata: Map<String, Value>,
    pub(super) dataset_id: String,
    pub(super) organization_id: Option<String>,
    pub(super) request_id: Option<String>,
}

/// The only writer of a sandbox's folder.
#[derive(Debug)]
pub(super) struct Store {
    data: PathBuf,
    state: Mutex<State>,
    /// Held as long as the store lives, so that no second sandbox writes here.
    _lock: File,
}

#[derive(Debug)]
struct State {
    index: File,
    index_bytes: u64,
    files: Vec<StoredFile>,
}

impl Store {
    /// Opens a folder, creating what is missing, and cleans up what a crash left behind.
    pub(super) fn open(data: &Path) -> io::Result<Self> {
        fs::create_dir_all(data.join(FILES))?;
        let lock = File::create(data.join(LOCK))?;
        if lock.try_lock().is_err() {
            let message = format!("another sandbox is using {}", data.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        let temporary = data.join(TEMPORARY);
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        fs::create_dir(&temporary)?;

        let (files, whole) = read_index(data)?;
        let index = OpenOptions::new()
            .create(true)
            .append(true)
            .open(data.join(INDEX))?;
        index.set_len(whole)?;
        Ok(Self {
            data: data.to_owned(),
            state: Mutex::new(State {
                index,
                index_bytes: whole,
                files,
            }),
            _lock: lock,
        })
    }

    /// Begins to receive a file.
    pub(super) fn receive(&self) -> io::Result<Incoming> {
        let file = tempfile::Builder::new()
            .prefix("upload-")
            .tempfile_in(self.data.join(TEMPORARY))?;
        Ok(Incoming {
            file,
            digest: Sha256::new(),
            size: 0,
        })
    }

    /// Makes a received file part of the store; it is in the index when this returns.
    pub(super) fn keep(&self, incoming: Incoming, new: NewFile) -> io::Result<StoredFile> {
        let mut state = self.state();
        let now = jiff::Timestamp::now();
        let id = Uuid::now_v7().to_string();
        let path = self.data.join(FILES).join(&id);
        incoming.file.persist(&path)?;
        let stored = StoredFile {
            id,
            name: new.name,
            size: incoming.size,
            sha256: hex(&incoming.digest.finalize()),
            content_type: new.content_type,
            metadata: new.metadata,
            dataset_id: new.dataset_id,
            organization_id: new.organization_id,
            created_at: jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now),
            request_id: new.request_id,
            path,
        };
        let mut line = serde_json::to_vec(&stored)?;
        line.push(b'\n');
        if let Err(error) = state.index.write_all(&line) {
            // Half a line would spoil the next one; the upload is answered as failed, so nothing of it may stay.
            state.index.set_len(state.index_bytes)?;
            fs::remove_file(&stored.path)?;
            return Err(error);
        }
        state.index_bytes += line.len() as u64;
        state.files.push(stored.clone());
        Ok(stored)
    }

    /// Looks at the stored files, oldest first.
    pub(super) fn with_files<T>(&self, look: impl FnOnce(&[StoredFile]) -> T) -> T {
        look(&self.state().files)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file on its way in; dropping it removes what has arrived.
#[derive(Debug)]
pub(super) struct Incoming {
    file: NamedTempFile,
    digest: Sha256,
    size: u64,
}

impl Incoming {
    /// Adds bytes. Writes on the calling thread: the page cache takes them faster than a hand-over would.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// How much has arrived.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

/// What the sandbox stored, read back from its folder: one per stored file, in order of storing.
///
/// A torn last line, as a crash leaves it, is passed over: its upload was never answered.
///
/// # Errors
///
/// When the index cannot be read, or a line before the last is not one of its lines.
pub fn records(data: &Path) -> io::Result<Vec<StoredFile>> {
    Ok(read_index(data)?.0)
}

/// Reads the index: its files, and how many of its bytes are whole lines.
fn read_index(data: &Path) -> io::Result<(Vec<StoredFile>, u64)> {
    let bytes = match fs::read(data.join(INDEX)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut files = Vec::new();
    let mut whole = 0;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        if !line.ends_with(b"\n") {
            break;
        }
        let bad = |cause: &dyn std::fmt::Display| {
            let message = format!("{INDEX}, line {}: {cause}", number + 1);
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let mut file: StoredFile = serde_json::from_slice(line).map_err(|e| bad(&e))?;
        // The id becomes a path.
        Uuid::parse_str(&file.id).map_err(|e| bad(&e))?;
        file.path = data.join(FILES).join(&file.id);
        files.push(file);
        whole += line.len() as u64;
    }
    Ok((files, whole))
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
        .collect()
}
