//! One open file: read whole or in chunks, and checked against the plan before it counts.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags, retry_on_intr};

use super::link::is_absent;
use super::stat;
use crate::model::{Digest, Links, Stat};

/// How a file is opened: no link in its last component, and no wait for a named pipe.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// A folder that files are opened below.
#[derive(Debug, Clone)]
pub(super) struct Root {
    /// Its real path.
    pub path: PathBuf,
    /// Which links below it are followed.
    pub links: Links,
    /// The folder itself, once something below it was opened.
    folder: OnceLock<Arc<OwnedFd>>,
}

impl Root {
    pub(super) fn new(path: PathBuf, links: Links) -> Self {
        Self {
            path,
            links,
            folder: OnceLock::new(),
        }
    }

    /// The folder, opened once for all files below it.
    fn folder(&self) -> Result<Arc<OwnedFd>, Errno> {
        if let Some(folder) = self.folder.get() {
            return Ok(Arc::clone(folder));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = retry_on_intr(|| rustix::fs::open(&self.path, flags, Mode::empty()))?;
        Ok(Arc::clone(self.folder.get_or_init(|| Arc::new(folder))))
    }
}

/// A candidate that is open for reading. All its methods block.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    path: PathBuf,
    links: Links,
}

/// How a file differs from what the plan saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Changed {
    /// Another size.
    #[error("the file's size changed since the plan was made")]
    Size,
    /// The same size but another time of change.
    #[error("the file was written to since the plan was made")]
    Time,
    /// Another file has its name now, or none.
    #[error("the file was replaced or removed since the plan was made")]
    Replaced,
}

/// Why a file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    /// It is not what was planned.
    #[error(transparent)]
    Changed(#[from] Changed),
}

impl Read for OpenFile {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.file.read(into)
    }
}

impl OpenFile {
    /// Opens a file below a root.
    pub(super) fn below(root: &Root, relative: &str) -> io::Result<Self> {
        Self::regular(
            open_below(root, Path::new(relative))?,
            root.path.join(relative),
            root.links,
        )
    }

    /// Opens a file wherever it lies.
    pub(super) fn at(path: PathBuf) -> io::Result<Self> {
        let flags = FLAGS.difference(OFlags::NOFOLLOW);
        let file = retry_on_intr(|| rustix::fs::open(&path, flags, Mode::empty()))?;
        Self::regular(file.into(), path, Links::WithinRoot)
    }

    fn regular(file: File, path: PathBuf, links: Links) -> io::Result<Self> {
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no longer a regular file"));
        }
        Ok(Self { file, path, links })
    }

    /// Compares the open file, and what its name leads to now, with what was planned.
    ///
    /// # Errors
    ///
    /// The first difference found.
    pub fn check(&self, planned: &Stat) -> Result<(), ReadError> {
        self.check_bytes(planned)?;
        let named = match self.links {
            Links::Never => fs::symlink_metadata(&self.path),
            Links::WithinRoot => fs::metadata(&self.path),
        };
        let named = named.map(|found| stat(&found).inode);
        if named.ok() != Some(planned.inode) {
            return Err(Changed::Replaced.into());
        }
        Ok(())
    }

    /// Compares the open file with what was planned: that these are its bytes. Whether its name
    /// leads elsewhere by now is another question.
    ///
    /// # Errors
    ///
    /// The first difference found.
    pub fn check_bytes(&self, planned: &Stat) -> Result<(), ReadError> {
        let now = stat(&self.file.metadata()?);
        if now.size != planned.size {
            return Err(Changed::Size.into());
        }
        if now.mtime_ns != planned.mtime_ns {
            return Err(Changed::Time.into());
        }
        if now.inode != planned.inode {
            return Err(Changed::Replaced.into());
        }
        Ok(())
    }

    /// Appends `size` bytes to a buffer, which are the whole file if [`OpenFile::check_bytes`]
    /// finds nothing afterwards.
    ///
    /// # Errors
    ///
    /// [`Changed::Size`] where the file is shorter.
    pub fn read_whole(&mut self, size: u64, buffer: &mut Vec<u8>) -> Result<Digest, ReadError> {
        let start = buffer.len();
        (&self.file).take(size).read_to_end(buffer)?;
        if (buffer.len() - start) as u64 != size {
            return Err(Changed::Size.into());
        }
        Ok(Digest(*blake3::hash(&buffer[start..]).as_bytes()))
    }

    /// Fills a buffer as far as the file goes: how many bytes it got.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Reads what of the file's next bytes is in memory, without waiting for a disk or another
    /// machine: how many it got; none where that is none, or the file's system cannot tell.
    pub(super) fn read_in_memory(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match read_without_waiting(&self.file, buffer) {
            Ok(read) => Ok(Some(read)),
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::INTR) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads the file to its end.
    ///
    /// # Errors
    ///
    /// Whatever the operating system says.
    pub fn digest(self) -> Result<Digest, ReadError> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(&self.file)?;
        Ok(Digest(*hasher.finalize().as_bytes()))
    }
}

#[cfg(target_os = "linux")]
fn read_without_waiting(file: &File, buffer: &mut [u8]) -> Result<usize, Errno> {
    // From where the file stands, and on from there.
    let offset = u64::MAX;
    let buffers = &mut [io::IoSliceMut::new(buffer)];
    rustix::io::preadv2(file, buffers, offset, ReadWriteFlags::NOWAIT)
}

#[cfg(not(target_os = "linux"))]
fn read_without_waiting(_: &File, _: &mut [u8]) -> Result<usize, Errno> {
    Err(Errno::OPNOTSUPP)
}

/// Reads a small file below a root; none where there is nothing.
pub(super) fn read_small(root: &Root, below: &Path, max: u64) -> Result<Option<Vec<u8>>, String> {
    let cannot = |error: io::Error| format!("cannot read it: {error}");
    let file = match open_below(root, below) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => {
            let is_there = fs::symlink_metadata(root.path.join(below)).is_ok();
            return if is_there {
                Err("it is a symbolic link to nothing".to_owned())
            } else {
                Ok(None)
            };
        }
        Err(error) => return Err(cannot(error)),
    };
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(max.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(cannot)?;
    if bytes.len() as u64 > max {
        return Err(format!("it is larger than {max} bytes"));
    }
    Ok(Some(bytes))
}

/// Opens what lies at a path below a root, by the links that the root follows and no others, even
/// where somebody puts links there meanwhile.
fn open_below(root: &Root, below: &Path) -> io::Result<File> {
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if below.as_os_str().is_empty() || !below.components().all(is_plain) {
        return Err(io::Error::other("its path leads out of the root"));
    }
    let real;
    let below = match root.links {
        Links::Never => below,
        // What a link leads to is opened by its real path, and that must have no link in it.
        Links::WithinRoot => {
            real = fs::canonicalize(root.path.join(below))?;
            real.strip_prefix(&root.path).map_err(|_| {
                io::Error::other("it is behind a symbolic link that leads out of the root")
            })?
        }
    };
    let opened = match open_beneath(root, below) {
        // No such call here, or one that a sandbox forbids.
        Err(Errno::NOSYS | Errno::PERM) => open_checked(root, below),
        opened => opened,
    };
    opened.map_err(|error| match error {
        Errno::LOOP => io::Error::other("it is, or lies behind, a symbolic link"),
        error => error.into(),
    })
}

#[cfg(target_os = "linux")]
fn open_beneath(root: &Root, below: &Path) -> Result<File, Errno> {
    use rustix::fs::ResolveFlags;

    let folder = root.folder()?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    retry_on_intr(|| rustix::fs::openat2(&folder, below, FLAGS, Mode::empty(), resolve))
        .map(File::from)
}

#[cfg(not(target_os = "linux"))]
fn open_beneath(_: &Root, _: &Path) -> Result<File, Errno> {
    Err(Errno::NOSYS)
}

/// The same, but for links that are put on the way just then.
fn open_checked(root: &Root, below: &Path) -> Result<File, Errno> {
    let path = root.path.join(below);
    let file = retry_on_intr(|| rustix::fs::open(&path, FLAGS, Mode::empty()))?;
    let real = fs::canonicalize(&path)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    if real == path {
        Ok(file.into())
    } else {
        Err(Errno::LOOP)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    type Opener = fn(&Root, &Path) -> Result<File, Errno>;

    #[test]
    fn no_link_on_the_way_is_followed_whatever_the_system_offers() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = fs::canonicalize(folder.path()).expect("a folder");
        fs::create_dir(root.join("in")).expect("a folder");
        fs::write(root.join("in/a.txt"), "a").expect("a file");
        symlink("in", root.join("linked")).expect("a link");
        symlink("a.txt", root.join("in/link.txt")).expect("a link");
        let root = Root::new(root, Links::Never);
        for open in [open_beneath as Opener, open_checked] {
            let kind = |path: &str| open(&root, Path::new(path)).map(|_| ());
            if kind("in/a.txt") == Err(Errno::NOSYS) {
                continue;
            }
            assert_eq!(kind("in/a.txt"), Ok(()));
            assert_eq!(kind("in/gone.txt"), Err(Errno::NOENT));
            assert_eq!(kind("in/link.txt"), Err(Errno::LOOP));
            assert_eq!(kind("linked/a.txt"), Err(Errno::LOOP));
        }
    }
}
