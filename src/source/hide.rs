//! `.roeignore` files: what they hide, a walk does not find.

use std::path::Path;
use std::sync::Arc;

use ignore::Match;
use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::open::{Root, read_small};
use crate::model::{Links, shown_bounded};

/// The name of the files that hide others.
pub(super) const NAME: &str = ".roeignore";

/// Largest such file in bytes.
const SIZE_MAX: u64 = 1 << 20;

/// The line of a `.roeignore` file that hides a file or a folder that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// The `.roeignore` file's path below the root.
    pub file: String,
    /// Its line, from 1.
    pub line: usize,
    /// The pattern on that line.
    pub pattern: String,
}

/// What hides this path below a root from a walk, if anything does. A `.roeignore` file that
/// cannot be used hides nothing here: its folder is not walked at all.
#[must_use]
pub fn ignored(root: &Path, relative: &str) -> Option<Ignored> {
    if relative
        .split('/')
        .any(|part| matches!(part, "" | "." | ".."))
    {
        return None;
    }
    let root = Root::new(root.canonicalize().ok()?, Links::WithinRoot);
    let slashes = relative.match_indices('/').map(|(at, _)| at);
    let (mut hides, mut folder) = (None, "");
    for end in slashes.chain([relative.len()]) {
        hides = Hides::read(&root, Path::new(folder), folder, hides).ok()?;
        let way = &relative[..end];
        let is_folder = end < relative.len() || root.path.join(way).is_dir();
        let hit = hides.as_ref().and_then(|hides| hides.hit(way, is_folder));
        if let Some((hides, pattern)) = hit {
            return Some(hides.ignored(pattern));
        }
        folder = way;
    }
    None
}

/// The `.roeignore` files that matter in a folder: the nearest first.
#[derive(Debug)]
pub(super) struct Hides {
    /// The folder of this one: empty for the root.
    folder: String,
    text: String,
    matcher: Gitignore,
    above: Option<Arc<Hides>>,
}

impl Hides {
    /// Reads that of the folder `at` below a root, if it has one, on top of those above. The folder
    /// is found as `folder`, which links may have led to.
    pub(super) fn read(
        root: &Root,
        at: &Path,
        folder: &str,
        above: Option<Arc<Self>>,
    ) -> Result<Option<Arc<Self>>, String> {
        let fail = |why: String| format!("cannot use its {NAME}: {why}");
        let Some(bytes) = read_small(root, &at.join(NAME), SIZE_MAX).map_err(fail)? else {
            return Ok(above);
        };
        let text = String::from_utf8(bytes).map_err(|_| fail("it is not UTF-8".to_owned()))?;
        let mut builder = GitignoreBuilder::new("");
        for (at, line) in lines(&text) {
            builder.add_line(None, line).map_err(|error| {
                fail(format!("line {at}: {}", shown_bounded(&error.to_string())))
            })?;
        }
        let matcher = builder.build().map_err(|error| fail(error.to_string()))?;
        Ok(Some(Arc::new(Self {
            folder: folder.to_owned(),
            text,
            matcher,
            above,
        })))
    }

    /// Whether a path below the root is hidden, where the folder that it lies in is not.
    pub(super) fn hide(&self, path: &str, is_folder: bool) -> bool {
        self.hit(path, is_folder).is_some()
    }

    /// The pattern that hides a path, and whose it is.
    fn hit(&self, path: &str, is_folder: bool) -> Option<(&Self, &str)> {
        let below = path.strip_prefix(&self.folder).unwrap_or(path);
        let below = below.strip_prefix('/').unwrap_or(below);
        match self.matcher.matched(below, is_folder) {
            Match::None => self.above.as_ref()?.hit(path, is_folder),
            Match::Whitelist(_) => None,
            Match::Ignore(glob) => Some((self, glob.original())),
        }
    }

    fn ignored(&self, pattern: &str) -> Ignored {
        // The last of equal lines is the one that counts.
        let is_it = |line: &str| line == pattern || line.trim_end() == pattern;
        let written = lines(&self.text).filter(|(_, line)| is_it(line)).last();
        Ignored {
            file: file(&self.folder),
            line: written.map_or(1, |(at, _)| at),
            pattern: pattern.to_owned(),
        }
    }
}

/// The path of a folder's own one.
fn file(folder: &str) -> String {
    if folder.is_empty() {
        NAME.to_owned()
    } else {
        format!("{folder}/{NAME}")
    }
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines().zip(1..).map(|(line, at)| (at, line))
}
