//! `init`: a manifest for a folder, proposed from what is in it.

mod join;
mod propose;
mod text;

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Component, Path, PathBuf};

use self::propose::{Head, Seen, propose};
use self::text::Frame;
use super::{narrate, say, spell};
use crate::cli::{InitSettings, WriteTo};
use crate::error::{Exit, Failure};
use crate::model::{HumanBytes, SourcePath, count, shown};
use crate::source::{Listing, ignored, list, open_source};

/// Most entries that are looked at.
const ENTRIES_MAX: usize = 20_000;

/// How much of a table or a sidecar is read.
const HEAD_MAX: u64 = 64 * 1024;

/// Longest name of a manifest, in characters.
const NAME_MAX: usize = 200;

/// Folders that programs fill, wherever they are.
const PROGRAMS: [&str; 3] = ["node_modules", "__pycache__", "roe-sandbox"];

/// Looks, proposes, writes.
pub(super) fn init(settings: &InitSettings) -> Result<Exit, Failure> {
    let folder = real(&settings.folder)?;
    let place = Place::of(settings, &folder)?;
    let listing = look(&folder, settings.state.as_deref())?;
    let frame = Frame {
        name: name(&folder),
        root: place.root,
        notes: notes(&listing),
    };
    let seen = Seen {
        files: listing.files,
        left_out: listing.left_out,
        manifest: place.below,
    };
    let proposal = propose(&seen, &|path| head(&folder, path));
    let text = text::manifest(&frame, &proposal);
    let files: usize = proposal.rules.iter().map(|rule| rule.files).sum();
    let found = match files {
        0 => "no files were found, so it is a template".to_owned(),
        files => format!(
            "{} for {} ({})",
            count(proposal.rules.len(), "rule"),
            count(files, "file"),
            HumanBytes(proposal.rules.iter().map(|rule| rule.bytes).sum())
        ),
    };
    let path = match &settings.out {
        WriteTo::Stdout => {
            say(&text)?;
            narrate(&found);
            return Ok(Exit::Done);
        }
        WriteTo::File(path) => path,
    };
    write(path, &text)?;
    let path = path.to_string_lossy();
    let again = spell::shell(&path);
    narrate(&format!(
        "wrote {}: {found}\nnext:\n  roe-batch plan {again} --sandbox\n  roe-batch apply {again} \
         --sandbox",
        shown(&path)
    ));
    Ok(Exit::Done)
}

/// Where a manifest will lie, seen from the folder that it is for.
struct Place {
    /// The folder, from where the manifest is.
    root: String,
    /// The manifest's path below the folder, if there.
    below: Option<String>,
}

impl Place {
    fn of(settings: &InitSettings, folder: &Path) -> Result<Self, Failure> {
        let (root, below) = match &settings.out {
            WriteTo::Stdout => {
                // Whoever puts it into a file does so here.
                let named = |part: &Component<'_>| *part != Component::CurDir;
                (settings.folder.components().filter(named).collect(), None)
            }
            WriteTo::File(path) => {
                if fs::symlink_metadata(path).is_ok() {
                    return Err(is_there(path));
                }
                let parent = match path.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent,
                    _ => Path::new("."),
                };
                let parent = real(parent)?;
                let root = folder.strip_prefix(&parent).unwrap_or(folder).to_owned();
                let whole = path.file_name().map(|name| parent.join(name));
                let below = whole.and_then(|whole| below(&whole, folder));
                (root, below)
            }
        };
        let Ok(root) = root.into_os_string().into_string() else {
            let message = "the folder's path is not UTF-8, which a manifest must be".to_owned();
            return Err(Failure::new(Exit::Usage, message).hint("rename the folder"));
        };
        Ok(Self {
            root: if root.is_empty() {
                ".".to_owned()
            } else {
                root
            },
            below,
        })
    }
}

fn real(folder: &Path) -> Result<PathBuf, Failure> {
    let fail = |why: &str| {
        let folder = folder.to_string_lossy();
        let message = format!("cannot look into {}: {why}", shown(&folder));
        Failure::new(Exit::Usage, message).hint("name a folder, as in `roe-batch init inbox`")
    };
    let real = fs::canonicalize(folder).map_err(|error| fail(&error.to_string()))?;
    if real.is_dir() {
        Ok(real)
    } else {
        Err(fail("it is no folder"))
    }
}

fn below(path: &Path, folder: &Path) -> Option<String> {
    path.strip_prefix(folder)
        .ok()?
        .to_str()
        .map(ToOwned::to_owned)
}

fn look(folder: &Path, state: Option<&Path>) -> Result<Listing, Failure> {
    let state = state.and_then(|state| below(&fs::canonicalize(state).ok()?, folder));
    let is_left_out = |path: &str, beside: &[String]| {
        let is_beside = |name: &str| beside.iter().any(|other| other == name);
        let name = path.rsplit('/').next().unwrap_or(path);
        PROGRAMS.contains(&name)
            || state.as_deref() == Some(path)
            // What other programs would call so may be anyone's files.
            || name == "target" && (is_beside("Cargo.toml") || is_beside("pom.xml"))
    };
    let mut listing = list(folder, ENTRIES_MAX, is_left_out).map_err(|error| {
        let folder = folder.to_string_lossy();
        let message = format!("cannot list {}: {error}", shown(&folder));
        Failure::new(Exit::LocalIo, message)
    })?;
    // No walk enters it anyway.
    listing.left_out.retain(|path| Some(path) != state.as_ref());
    if listing.hides {
        let is_seen = |path: &str| ignored(folder, path).is_none();
        listing.files.retain(|file| is_seen(&file.0));
        listing.left_out.retain(|path| is_seen(path));
    }
    Ok(listing)
}

/// The beginning of a file; none where it cannot be read.
fn head(folder: &Path, path: &str) -> Option<Head> {
    let file = open_source(folder, &SourcePath::new(path)).ok()?;
    let mut bytes = Vec::new();
    file.take(HEAD_MAX + 1).read_to_end(&mut bytes).ok()?;
    let whole = usize::try_from(HEAD_MAX).unwrap_or(usize::MAX);
    let is_whole = bytes.len() <= whole;
    bytes.truncate(whole);
    Some(Head { bytes, is_whole })
}

/// The folder's name, if it can be the manifest's.
fn name(folder: &Path) -> Option<String> {
    let name = folder.file_name()?.to_str()?;
    let is_name = !name.trim().is_empty()
        && name.chars().count() <= NAME_MAX
        && !name.contains(char::is_control);
    is_name.then(|| name.to_owned())
}

fn notes(listing: &Listing) -> Vec<String> {
    let mut notes = Vec::new();
    if listing.cut {
        notes.push(
            "20,000 files and folders were looked at, and there are more: rules for the rest may \
             be missing"
                .to_owned(),
        );
    }
    if listing.unusable > 0 {
        notes.push(format!(
            "{} here cannot be uploaded: a link, a folder that cannot be read, or a name that is \
             not UTF-8; `plan` tells which",
            count(listing.unusable, "thing")
        ));
    }
    notes
}

fn is_there(path: &Path) -> Failure {
    let path = path.to_string_lossy();
    Failure::new(
        Exit::Usage,
        format!("{} is there already; nothing was written", shown(&path)),
    )
    .hint("write elsewhere with `--out FILE`, or look first with `--out -`")
}

/// Writes a new file; what is there is never touched.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => is_there(path),
            _ => unwritten(path, &error),
        })?;
    file.write_all(text.as_bytes()).map_err(|error| {
        // Half a manifest is worse than none.
        let _ = fs::remove_file(path);
        unwritten(path, &error)
    })
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    let path = path.to_string_lossy();
    let message = format!("cannot write {}: {error}", shown(&path));
    Failure::new(Exit::LocalIo, message).hint("write elsewhere with `--out FILE`")
}
