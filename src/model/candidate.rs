//! What a source found below its roots: packed, since there may be millions.

use std::ops::Range;
use std::sync::Arc;

use super::pieces::{Packed, Placed, Store};
use super::{EntryKind, RelativePath, SourcePath, Stat};
use crate::spill::{Held, Spill};

/// Something found below a root that a rule may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where it lies below the root. A name that is not UTF-8 is shown with replacement
    /// characters and can be no file to upload.
    pub relative: RelativePath,
    /// What it is.
    pub entry: Entry,
}

/// What was found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File(Stat),
    /// Something else with a name that matches.
    Other(EntryKind),
    /// A file or folder that cannot be used: why.
    Unusable(Arc<str>),
}

impl Entry {
    /// What cannot be used: why.
    #[must_use]
    pub fn unusable(why: impl Into<Arc<str>>) -> Self {
        Self::Unusable(why.into())
    }

    /// Orders what has one path: a name that is not UTF-8 is shown as another one may be.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::File(_) => 0,
            Self::Other(_) => 1,
            Self::Unusable(_) => 2,
        }
    }
}

/// A stretch of candidates that lie next to each other in a piece and in the order of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    /// The index of the first of them.
    first: u32,
    piece: u32,
    /// Its row there.
    row: u32,
}

/// What was found below one root, in the order of its source paths' bytes.
#[derive(Debug, Clone, Default)]
pub struct RootCandidates {
    prefix: String,
    home_below: Option<String>,
    pieces: Vec<Placed>,
    runs: Vec<Run>,
    len: usize,
    store: Arc<Store>,
}

/// Candidates that follow each other and share the beginning of their paths.
#[derive(Debug)]
pub struct Stretch<'a> {
    /// What precedes their names: empty, or ending in `/`.
    pub folder: &'a str,
    first: usize,
    store: &'a Store,
    block: u32,
    packed: Option<Held<'a, Packed>>,
    rows: Range<usize>,
}

impl Stretch<'_> {
    /// Each with its index and what follows the folder.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &str, Entry)> {
        let packed = self.packed.as_deref();
        self.rows.clone().enumerate().map(move |(at, row)| {
            let name = packed.map_or("", |packed| packed.name(row));
            let entry = self.store.entry(self.block, packed, row);
            (self.first + at, name, entry)
        })
    }
}

impl RootCandidates {
    /// Those of pieces that are in order.
    pub(super) fn ordered(
        prefix: String,
        home_below: Option<String>,
        pieces: Vec<Placed>,
        store: Arc<Store>,
    ) -> Self {
        let mut found = Self {
            prefix,
            home_below,
            runs: runs(&pieces, &store),
            len: pieces.iter().map(|piece| piece.rows as usize).sum(),
            pieces,
            store,
        };
        found.bring_home();
        found
    }

    /// What precedes relative paths in a [`SourcePath`].
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All of them, in order, by what they share.
    pub fn stretches(&self) -> impl Iterator<Item = Stretch<'_>> {
        self.spans().map(|(run, span)| {
            let piece = &self.pieces[run.piece as usize];
            let row = (piece.row + run.row) as usize;
            Stretch {
                folder: &piece.folder,
                first: span.start,
                store: &self.store,
                block: piece.block,
                packed: self.store.get(piece.block),
                rows: row..row + span.len(),
            }
        })
    }

    /// All runs, with the indices of each.
    fn spans(&self) -> impl Iterator<Item = (&Run, Range<usize>)> {
        let ends = self.runs.iter().skip(1).map(|run| run.first as usize);
        let ends = ends.chain([self.len]);
        let runs = self.runs.iter().zip(ends);
        runs.map(|(run, end)| (run, run.first as usize..end))
    }

    /// What one of them is.
    #[must_use]
    pub fn entry(&self, index: usize) -> Entry {
        let (piece, row) = self.at(index);
        let packed = self.store.get(piece.block);
        self.store.entry(piece.block, packed.as_deref(), row)
    }

    /// Size and times of one of them, where it is a regular file.
    #[must_use]
    pub fn stat(&self, index: usize) -> Option<Stat> {
        let (piece, row) = self.at(index);
        let packed = self.store.get(piece.block)?;
        let row = packed.row(row);
        (row.odd == 0).then_some(row.stat)
    }

    /// Where one of them lies below the root.
    #[must_use]
    pub fn relative(&self, index: usize) -> RelativePath {
        let mut path = String::new();
        RelativePath::new(self.write_relative(index, &mut path))
    }

    /// The same, written into a text that may be used again.
    pub fn write_relative<'t>(&self, index: usize, text: &'t mut String) -> &'t str {
        text.clear();
        self.push_relative(index, text);
        text
    }

    /// The same of a regular file, with its size and times; none of anything else.
    pub fn write_file<'t>(&self, index: usize, text: &'t mut String) -> Option<(&'t str, Stat)> {
        text.clear();
        let stat = self.push_relative(index, text)?;
        Some((text, stat))
    }

    fn push_relative(&self, index: usize, text: &mut String) -> Option<Stat> {
        let (piece, row) = self.at(index);
        let Some(packed) = self.store.get(piece.block) else {
            text.push_str(&piece.folder);
            return None;
        };
        let name = packed.name(row);
        text.reserve(piece.folder.len() + name.len());
        text.push_str(&piece.folder);
        text.push_str(name);
        let row = packed.row(row);
        (row.odd == 0).then_some(row.stat)
    }

    /// What the ledger knows one of them by, written into a text that may be used again.
    pub fn write_source_path<'t>(&self, index: usize, text: &'t mut String) -> &'t str {
        if self.home_below.is_some() {
            self.write_relative(index, text);
            *text = self.at_home(text);
        } else {
            text.clear();
            text.push_str(&self.prefix);
            self.push_relative(index, text);
        }
        text
    }

    /// What the ledger knows a candidate of this root by.
    #[must_use]
    pub fn source_path(&self, relative: &str) -> SourcePath {
        SourcePath::new(self.at_home(relative))
    }

    fn at_home(&self, relative: &str) -> String {
        let at_home = self.home_below.as_ref();
        match at_home.and_then(|way| relative.strip_prefix(way.as_str())) {
            // The folder itself, where it cannot be listed.
            Some("") => "./".to_owned(),
            Some(below) => below.to_owned(),
            None => format!("{}{relative}", self.prefix),
        }
    }

    /// The index of what lies at a path below the root.
    #[must_use]
    pub fn find(&self, relative: &str) -> Option<usize> {
        let wanted = self.at_home(relative);
        let mut text = String::new();
        let at = first_where(0..self.len, |index| {
            *self.write_source_path(index, &mut text) >= *wanted
        });
        (at < self.len && self.write_source_path(at, &mut text) == wanted).then_some(at)
    }

    /// Where one of them lies: its piece, and its row in the block.
    fn at(&self, index: usize) -> (&Placed, usize) {
        let behind = self.runs.partition_point(|run| run.first as usize <= index);
        let run = &self.runs[behind - 1];
        let piece = &self.pieces[run.piece as usize];
        let row = (piece.row + run.row) as usize + index - run.first as usize;
        (piece, row)
    }

    /// Puts those below home where their source paths belong: these are relative, all others are
    /// absolute and so begin with `/`.
    fn bring_home(&mut self) {
        let Some(way) = self.home_below.clone() else {
            return;
        };
        let mut text = String::new();
        let all = 0..self.len;
        let start = first_where(all, |at| *self.write_relative(at, &mut text) >= *way);
        let end = first_where(start..self.len, |at| {
            !self.write_relative(at, &mut text).starts_with(&way)
        });
        let high = first_where(start..end, |at| {
            self.write_source_path(at, &mut text).as_bytes() > b"/".as_slice()
        });
        let parts = [start..high, 0..start, end..self.len, high..end];
        let mut runs = Vec::with_capacity(self.runs.len() + 3);
        let mut first = 0;
        for part in parts {
            for (run, span) in self.spans() {
                let start = span.start.max(part.start);
                let end = span.end.min(part.end);
                if start < end {
                    runs.push(Run {
                        first: small(first),
                        piece: run.piece,
                        row: run.row + small(start - span.start),
                    });
                    first += end - start;
                }
            }
        }
        self.runs = runs;
    }
}

/// The first of a range for which something holds that holds for all behind it too.
fn first_where(range: Range<usize>, mut holds: impl FnMut(usize) -> bool) -> usize {
    let Range { mut start, mut end } = range;
    while start < end {
        let middle = usize::midpoint(start, end);
        if holds(middle) {
            end = middle;
        } else {
            start = middle + 1;
        }
    }
    start
}

/// The order of all rows of ordered pieces by their whole paths: what lies in a folder comes where
/// its name with the slash belongs among the names beside it.
fn runs(pieces: &[Placed], store: &Store) -> Vec<Run> {
    /// A folder of which not all is told, from a row of a piece on; and the last of its pieces.
    struct Open {
        piece: usize,
        row: u32,
        end: usize,
    }
    let mut runs = Vec::with_capacity(pieces.len());
    let mut first = 0;
    let mut tell = |open: &mut Open, until: Option<&str>| {
        while open.piece < open.end {
            let piece = &pieces[open.piece];
            let end = until.map_or(piece.rows, |name| below(store, piece, open.row, name));
            if end > open.row {
                runs.push(Run {
                    first: small(first),
                    piece: small(open.piece),
                    row: open.row,
                });
                first += (end - open.row) as usize;
            }
            if end < piece.rows {
                open.row = end;
                return;
            }
            (open.piece, open.row) = (open.piece + 1, 0);
        }
    };
    let mut above: Vec<(&str, Open)> = Vec::new();
    let mut piece = 0;
    for group in pieces.chunk_by(|a, b| a.folder == b.folder) {
        let folder = &*group[0].folder;
        while let Some((holder, open)) = above.last_mut() {
            if let Some(below) = folder.strip_prefix(*holder) {
                tell(open, Some(below));
                break;
            }
            tell(open, None);
            above.pop();
        }
        let end = piece + group.len();
        above.push((folder, Open { piece, row: 0, end }));
        piece = end;
    }
    while let Some((_, mut open)) = above.pop() {
        tell(&mut open, None);
    }
    runs
}

/// From a row of a piece on, where its names are not below another.
fn below(store: &Store, piece: &Placed, from: u32, name: &str) -> u32 {
    let Some(packed) = store.get(piece.block) else {
        return from;
    };
    let rows = from as usize..piece.rows as usize;
    let is_not_below = |row| packed.name(piece.row as usize + row) >= name;
    small(first_where(rows, is_not_below))
}

pub(super) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// An index into [`Candidates::roots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootId(pub usize);

/// One candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CandidateId {
    /// Where it was found.
    pub root: RootId,
    /// Its index among what was found there.
    pub index: usize,
}

/// Everything found for a manifest: one list a root, however many rules share it.
#[derive(Debug, Clone, Default)]
pub struct Candidates {
    /// The roots, each walked once.
    pub roots: Vec<RootCandidates>,
    /// For each rule of the manifest, its root; none where the root cannot be read.
    pub rule_roots: Vec<Option<RootId>>,
    /// Where what is made of them goes too, if there is more than fits into memory.
    pub spill: Arc<Spill>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Piece, Pieces};

    fn piece(folder: &str, names: &[&str]) -> Piece {
        let mut piece = Piece::of(folder);
        for name in names {
            let inode = (folder.len() + name.len()) as u64;
            let (size, mtime_ns) = (name.len() as u64, 0);
            piece.push(
                name,
                Entry::File(Stat {
                    size,
                    mtime_ns,
                    inode,
                }),
            );
        }
        piece
    }

    fn source_paths(found: &RootCandidates) -> Vec<String> {
        let mut text = String::new();
        let all = 0..found.len();
        all.map(|at| found.write_source_path(at, &mut text).to_owned())
            .collect()
    }

    #[test]
    fn a_folder_lies_where_its_name_with_the_slash_does() {
        let pieces = vec![
            piece("b/", &["x"]),
            piece("", &["a", "a-b", "a.txt", "b-", "b0", "c"]),
            piece("a/", &["", "z"]),
            piece("a/deep/er/", &["x"]),
        ];
        let found = RootCandidates::new(String::new(), None, pieces);
        let expected = [
            "a",
            "a-b",
            "a.txt",
            "a/",
            "a/deep/er/x",
            "a/z",
            "b-",
            "b/x",
            "b0",
            "c",
        ];
        assert_eq!(source_paths(&found), expected);
        for (at, path) in expected.iter().enumerate() {
            assert_eq!(found.find(path), Some(at), "{path}");
        }
        assert_eq!(found.find("a/y"), None);
    }

    #[test]
    fn folders_that_are_shown_alike_become_one() {
        let pieces = vec![
            piece("?/", &["a", "c", "e"]),
            piece("?/", &["b", "d"]),
            piece("?/", &["f"]),
        ];
        let found = RootCandidates::new("in/".to_owned(), None, pieces);
        let names = ["a", "b", "c", "d", "e", "f"].map(|name| format!("in/?/{name}"));
        assert_eq!(source_paths(&found), names);
    }

    #[test]
    fn a_name_that_is_shown_as_another_one_comes_behind_it() {
        let relative = RelativePath::new("a");
        let (size, mtime_ns, inode) = (1, 2, 3);
        let entries = [
            Entry::unusable("the name is not UTF-8"),
            Entry::File(Stat {
                size,
                mtime_ns,
                inode,
            }),
        ];
        let mut pieces = Vec::new();
        for entry in entries {
            let mut piece = Piece::of("");
            piece.push(relative.as_str(), entry);
            pieces.push(piece);
        }
        let found = RootCandidates::new(String::new(), None, pieces);
        assert!(found.stat(0).is_some() && found.stat(1).is_none());
    }

    /// Pieces of which all that can leaves memory.
    fn spilled(pieces: Vec<Piece>, spill: Spill) -> RootCandidates {
        let mut found = Pieces::new(Arc::new(spill));
        for piece in pieces {
            found.add(0, piece);
        }
        let mut roots = found.into_roots(vec![("in/".to_owned(), None)]);
        roots.pop().expect("one")
    }

    #[test]
    fn what_cannot_be_read_back_is_nothing_to_upload() {
        let pieces = || {
            vec![
                piece("a/", &["x", "y"]),
                piece("a/", &["z"]),
                piece("", &["b"]),
            ]
        };
        let unreadable = || std::fs::OpenOptions::new().write(true).open("/dev/null");
        let found = spilled(pieces(), Spill::new(0, unreadable));
        assert_eq!(found.len(), 4);
        for at in 0..4 {
            assert_eq!(found.stat(at), None);
            assert!(matches!(found.entry(at), Entry::Unusable(_)));
        }
        let told: Vec<usize> = found
            .stretches()
            .flat_map(|stretch| stretch.iter().map(|(at, ..)| at).collect::<Vec<_>>())
            .collect();
        assert_eq!(told, [0, 1, 2, 3]);
        let unwritable = || Err(std::io::ErrorKind::StorageFull.into());
        let kept = spilled(pieces(), Spill::new(0, unwritable));
        assert_eq!(source_paths(&kept), ["in/a/x", "in/a/y", "in/a/z", "in/b"]);
    }

    /// What is told of candidates one by one, and in stretches.
    fn told(found: &RootCandidates) -> Vec<(String, Entry, Option<Stat>)> {
        let stretches = found.stretches().flat_map(|stretch| {
            let folder = stretch.folder;
            let each = stretch.iter();
            let each = each.map(|(at, name, entry)| (at, format!("{folder}{name}"), entry));
            each.collect::<Vec<_>>()
        });
        for (at, path, entry) in stretches {
            let relative = found.relative(at);
            assert_eq!((relative.as_str(), found.entry(at)), (&*path, entry));
        }
        let paths = source_paths(found).into_iter().enumerate();
        paths
            .map(|(at, path)| (path, found.entry(at), found.stat(at)))
            .collect()
    }

    proptest! {
        #[test]
        fn what_left_memory_is_as_what_stayed(
            folders in prop::collection::vec(
                ("([ab?]/){0,2}", prop::collection::vec(("[a-c?]{1,2}", 0_u8..6), 1..6)),
                0..12,
            ),
            room in 0_usize..400,
            chunk in 1_usize..5,
        ) {
            let pieces = || {
                let mut parts: Vec<Vec<(usize, Piece)>> = Vec::new();
                for (at, (folder, names)) in folders.iter().enumerate() {
                    let mut names = names.clone();
                    names.sort();
                    names.dedup_by(|a, b| a.0 == b.0);
                    let mut piece = Piece::of(folder.as_str());
                    for (name, kind) in &names {
                        let inode = u64::from(*kind) + at as u64;
                        piece.push(name, match kind {
                            0 => Entry::Other(EntryKind::Fifo),
                            1 => Entry::unusable(format!("why {at}")),
                            _ => Entry::File(Stat { size: 7, mtime_ns: -1, inode }),
                        });
                    }
                    if at % chunk == 0 {
                        parts.push(Vec::new());
                    }
                    parts.last_mut().expect("one").push((at % 2, piece));
                }
                parts
            };
            let roots = |spill: Spill| {
                let spill = Arc::new(spill);
                let mut all = Pieces::new(Arc::clone(&spill));
                for part in pieces() {
                    let mut found = Pieces::new(Arc::clone(&spill));
                    for (root, piece) in part {
                        found.add(root, piece);
                    }
                    all.append(found);
                }
                let home = Some("a/".to_owned());
                let roots = all.into_roots(vec![("in/".to_owned(), None), ("/srv/".to_owned(), home)]);
                (roots, spill)
            };
            let (kept, _) = roots(Spill::default());
            let (left, spill) = roots(Spill::new(room, tempfile::tempfile));
            prop_assert!(room > 0 || folders.is_empty() || spill.spilled() > 0);
            for (kept, left) in kept.iter().zip(&left) {
                let expected = told(kept);
                prop_assert_eq!(told(left), expected.clone());
                for (path, ..) in &expected {
                    prop_assert_eq!(left.find(path), kept.find(path));
                }
            }
            prop_assert_eq!((spill.unread(), spill.unwritten()), (None, None));
        }

        /// Sorting whole source paths is the oracle, whatever the pieces.
        #[test]
        fn pieces_are_put_in_the_order_of_source_paths(
            paths in prop::collection::btree_set("([a!-]/){0,3}[a0!-]{1,2}", 0..20),
            chunk in 1_usize..4,
            home in prop::option::of("([a!-]/){1,2}"),
        ) {
            let mut by_folder: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
            for path in &paths {
                let (folder, name) = path.split_at(path.rfind('/').map_or(0, |at| at + 1));
                by_folder.entry(folder).or_default().push(name);
            }
            let pieces = by_folder.iter().rev().flat_map(|(folder, names)| {
                names.chunks(chunk).rev().map(|names| piece(folder, names))
            });
            let found = RootCandidates::new("/srv/".to_owned(), home, pieces.collect());
            let mut expected: Vec<String> =
                paths.iter().map(|path| found.source_path(path).as_str().to_owned()).collect();
            expected.sort();
            prop_assert_eq!(source_paths(&found), expected);
            prop_assert_eq!(found.len(), paths.len());
            for path in &paths {
                let at = found.find(path).expect("found");
                let relative = found.relative(at);
                prop_assert_eq!(relative.as_str(), path);
            }
            let told = found.stretches().flat_map(|stretch| {
                let folder = stretch.folder;
                stretch.iter().map(move |(at, name, _)| (at, format!("{folder}{name}"))).collect::<Vec<_>>()
            });
            for (at, path) in told {
                let relative = found.relative(at);
                prop_assert_eq!(relative.as_str(), path);
            }
        }
    }
}
