//! What a source found below its roots: packed, since there may be millions.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use super::{Digest, EntryKind, RelativePath, SourcePath, Stat};

/// Rows of one piece of loose candidates.
const PIECE_ROWS: usize = 4096;

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
    fn rank(&self) -> u8 {
        match self {
            Self::File(_) => 0,
            Self::Other(_) => 1,
            Self::Unusable(_) => 2,
        }
    }
}

/// Candidates that share the beginning of their paths, in the order of what follows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// What precedes the names: empty, or ending in `/`.
    folder: Box<str>,
    /// All names, one behind the other.
    names: String,
    rows: Vec<Row>,
    /// What is no regular file: very few.
    odd: Vec<Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    stat: Stat,
    /// Where its name ends; it begins where the one before ends.
    end: u32,
    /// Of what is no regular file the place among those, from 1.
    odd: u32,
}

impl Piece {
    /// An empty one. Its folder is empty, or ends in `/`.
    #[must_use]
    pub fn of(folder: impl Into<Box<str>>) -> Self {
        Self {
            folder: folder.into(),
            ..Self::default()
        }
    }

    /// Adds what does not come before those that are there.
    pub fn push(&mut self, name: &str, entry: Entry) {
        let no_file = Stat {
            size: 0,
            mtime_ns: 0,
            inode: 0,
        };
        let (stat, odd) = match entry {
            Entry::File(stat) => (stat, 0),
            other => {
                self.odd.push(other);
                (no_file, small(self.odd.len()))
            }
        };
        self.names.push_str(name);
        let end = small(self.names.len());
        self.rows.push(Row { stat, end, odd });
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Gives back what it does not need.
    pub fn shrink(&mut self) {
        self.names.shrink_to_fit();
        self.rows.shrink_to_fit();
    }

    fn name(&self, row: usize) -> &str {
        let end = |row: usize| self.rows[row].end as usize;
        let start = if row == 0 { 0 } else { end(row - 1) };
        &self.names[start..end(row)]
    }

    fn entry(&self, row: usize) -> Entry {
        let Row { stat, odd, .. } = self.rows[row];
        match odd {
            0 => Entry::File(stat),
            odd => self.odd[odd as usize - 1].clone(),
        }
    }

    fn compare(&self, row: usize, other: &Self, at: usize) -> Ordering {
        let by_name = self.name(row).cmp(other.name(at));
        by_name.then_with(|| self.entry(row).rank().cmp(&other.entry(at).rank()))
    }

    /// Where names of this one and more are not below another.
    fn below(&self, from: usize, name: &str) -> usize {
        let rows = &self.rows[from..];
        let mut row = from;
        let mut size = rows.len();
        while size > 0 {
            let half = size / 2;
            if self.name(row + half) < name {
                row += half + 1;
                size -= half + 1;
            } else {
                size = half;
            }
        }
        row
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RootCandidates {
    prefix: String,
    home_below: Option<String>,
    pieces: Vec<Piece>,
    runs: Vec<Run>,
    len: usize,
}

/// Candidates that follow each other and share the beginning of their paths.
#[derive(Debug, Clone)]
pub struct Stretch<'a> {
    /// What precedes their names: empty, or ending in `/`.
    pub folder: &'a str,
    first: usize,
    piece: &'a Piece,
    rows: Range<usize>,
}

impl<'a> Stretch<'a> {
    /// Each with its index and what follows the folder.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &'a str, Entry)> + use<'a> {
        let (piece, first, start) = (self.piece, self.first, self.rows.start);
        let rows = self.rows.clone();
        rows.map(move |row| (first + row - start, piece.name(row), piece.entry(row)))
    }
}

impl RootCandidates {
    /// Puts pieces in order. The prefix is what precedes relative paths in a [`SourcePath`]: empty,
    /// or ending in `/`. Where the root holds the folder that source paths are relative to,
    /// `home_below` is the way from one to the other, ending in `/`: below it a file has the path
    /// that any other root would give it.
    #[must_use]
    pub fn new(prefix: String, home_below: Option<String>, pieces: Vec<Piece>) -> Self {
        let pieces = in_order(pieces);
        let mut found = Self {
            prefix,
            home_below,
            runs: runs(&pieces),
            len: pieces.iter().map(|piece| piece.rows.len()).sum(),
            pieces,
        };
        found.bring_home();
        found
    }

    /// The same, of candidates in any order; of several with one path the first in rank is taken.
    #[must_use]
    pub fn of(prefix: String, home_below: Option<String>, mut found: Vec<Candidate>) -> Self {
        found.sort_by(|a, b| {
            let by_path = a.relative.cmp(&b.relative);
            by_path.then_with(|| a.entry.rank().cmp(&b.entry.rank()))
        });
        found.dedup_by(|a, b| a.relative == b.relative);
        let pieces = found.chunks(PIECE_ROWS).map(|chunk| {
            let mut piece = Piece::of("");
            for candidate in chunk {
                piece.push(candidate.relative.as_str(), candidate.entry.clone());
            }
            piece.shrink();
            piece
        });
        Self::new(prefix, home_below, pieces.collect())
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
        let ends = self.runs.iter().skip(1).map(|run| run.first as usize);
        let ends = ends.chain([self.len]);
        self.runs.iter().zip(ends).map(|(run, end)| {
            let piece = &self.pieces[run.piece as usize];
            let (first, row) = (run.first as usize, run.row as usize);
            Stretch {
                folder: &piece.folder,
                first,
                piece,
                rows: row..row + end - first,
            }
        })
    }

    /// What one of them is.
    #[must_use]
    pub fn entry(&self, index: usize) -> Entry {
        let (piece, row) = self.at(index);
        piece.entry(row)
    }

    /// Size and times of one of them, where it is a regular file.
    #[must_use]
    pub fn stat(&self, index: usize) -> Option<Stat> {
        let (piece, row) = self.at(index);
        let row = &piece.rows[row];
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
        let (piece, row) = self.at(index);
        text.clear();
        text.push_str(&piece.folder);
        text.push_str(piece.name(row));
        text
    }

    /// What the ledger knows one of them by, written into a text that may be used again.
    pub fn write_source_path<'t>(&self, index: usize, text: &'t mut String) -> &'t str {
        if self.home_below.is_some() {
            self.write_relative(index, text);
            *text = self.at_home(text);
        } else {
            let (piece, row) = self.at(index);
            text.clear();
            text.push_str(&self.prefix);
            text.push_str(&piece.folder);
            text.push_str(piece.name(row));
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

    fn at(&self, index: usize) -> (&Piece, usize) {
        let behind = self.runs.partition_point(|run| run.first as usize <= index);
        let run = &self.runs[behind - 1];
        let row = run.row as usize + index - run.first as usize;
        (&self.pieces[run.piece as usize], row)
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
            for stretch in self.stretches() {
                let (from, to) = (stretch.first, stretch.first + stretch.rows.len());
                let (start, end) = (from.max(part.start), to.min(part.end));
                if start < end {
                    let behind = self.runs.partition_point(|run| run.first as usize <= start);
                    let run = self.runs[behind - 1];
                    runs.push(Run {
                        first: small(first),
                        piece: run.piece,
                        row: run.row + small(start - from),
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

/// Orders pieces by folder and names. Those of one folder follow each other, and only where two
/// folders are shown alike does one begin before the other ends: these become one.
fn in_order(mut pieces: Vec<Piece>) -> Vec<Piece> {
    pieces.retain(|piece| !piece.is_empty());
    pieces.sort_by(|a, b| {
        let by_folder = a.folder.cmp(&b.folder);
        by_folder.then_with(|| a.compare(0, b, 0))
    });
    let meet = |a: &Piece, b: &Piece| {
        a.folder == b.folder && a.compare(a.rows.len() - 1, b, 0) == Ordering::Greater
    };
    if !pieces.windows(2).any(|two| meet(&two[0], &two[1])) {
        return pieces;
    }
    let mut ordered: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match ordered.last_mut() {
            Some(last) if meet(last, &piece) => *last = merged(last, &piece),
            _ => ordered.push(piece),
        }
    }
    ordered
}

fn merged(a: &Piece, b: &Piece) -> Piece {
    let rows = |piece| -> Vec<(&Piece, usize)> {
        let piece: &Piece = piece;
        (0..piece.rows.len()).map(|row| (piece, row)).collect()
    };
    let mut all = rows(a);
    all.extend(rows(b));
    all.sort_by(|(a, row), (b, at)| a.compare(*row, b, *at));
    let mut merged = Piece::of(a.folder.clone());
    for (piece, row) in all {
        merged.push(piece.name(row), piece.entry(row));
    }
    merged
}

/// The order of all rows of ordered pieces by their whole paths: what lies in a folder comes where
/// its name with the slash belongs among the names beside it.
fn runs(pieces: &[Piece]) -> Vec<Run> {
    /// A folder of which not all is told, from a row of a piece on; and the last of its pieces.
    struct Open {
        piece: usize,
        row: usize,
        end: usize,
    }
    let mut runs = Vec::with_capacity(pieces.len());
    let mut first = 0;
    let mut tell = |open: &mut Open, until: Option<&str>| {
        while open.piece < open.end {
            let piece = &pieces[open.piece];
            let end = until.map_or(piece.rows.len(), |name| piece.below(open.row, name));
            if end > open.row {
                runs.push(Run {
                    first: small(first),
                    piece: small(open.piece),
                    row: small(open.row),
                });
                first += end - open.row;
            }
            if end < piece.rows.len() {
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

fn small(number: usize) -> u32 {
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The roots, each walked once.
    pub roots: Vec<RootCandidates>,
    /// For each rule of the manifest, its root; none where the root cannot be read.
    pub rule_roots: Vec<Option<RootId>>,
}

/// Digests of files whose content decides, or why a file could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Digests(Vec<(CandidateId, Result<Digest, Arc<str>>)>);

impl Digests {
    /// What reading a file came to, if it was read.
    #[must_use]
    pub fn get(&self, id: CandidateId) -> Option<&Result<Digest, Arc<str>>> {
        let at = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Everything that was read, in order.
    pub fn iter(&self) -> impl Iterator<Item = (CandidateId, &Result<Digest, Arc<str>>)> {
        self.0.iter().map(|(id, read)| (*id, read))
    }
}

impl FromIterator<(CandidateId, Result<Digest, Arc<str>>)> for Digests {
    fn from_iter<T: IntoIterator<Item = (CandidateId, Result<Digest, Arc<str>>)>>(read: T) -> Self {
        let mut read: Vec<_> = read.into_iter().collect();
        read.sort_by_key(|(id, _)| *id);
        read.dedup_by_key(|(id, _)| *id);
        Self(read)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

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
        let entries = [
            Entry::unusable("the name is not UTF-8"),
            piece("", &["a"]).entry(0),
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

    proptest! {
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
