//! Candidates as they are found: packed into blocks, of which some may leave memory.

use std::sync::Arc;

use super::Stat;
use super::candidate::{Candidate, Entry, RootCandidates, small};
use crate::spill::{Block, Blocks, Held, Spill, take};

/// Bytes from which on a block is sealed: enough that reading one back costs little for each of its
/// rows, and that those kept at a time are a few MiB.
const BLOCK: usize = 64 * 1024;

/// Rows of one piece of loose candidates.
const PIECE_ROWS: usize = 4096;

const ROW_BYTES: usize = 32;

/// Candidates that share the beginning of their paths, in the order of what follows it.
#[derive(Debug, Default)]
pub struct Piece {
    /// What precedes the names: empty, or ending in `/`.
    folder: Box<str>,
    packed: Packed,
    odd: Vec<Entry>,
}

/// Names and what they are.
#[derive(Debug, Clone, Default)]
pub(super) struct Packed {
    /// All names, one behind the other.
    names: String,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    pub stat: Stat,
    /// Where its name ends; it begins where the one before ends.
    end: u32,
    /// Of what is no regular file the place among those, from 1.
    pub odd: u32,
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
        self.packed.names.push_str(name);
        let end = small(self.packed.names.len());
        self.packed.rows.push(Row { stat, end, odd });
    }
}

impl Packed {
    pub fn row(&self, row: usize) -> &Row {
        &self.rows[row]
    }

    pub fn name(&self, row: usize) -> &str {
        let end = |row: usize| self.rows[row].end as usize;
        let start = if row == 0 { 0 } else { end(row - 1) };
        &self.names[start..end(row)]
    }
}

impl Block for Packed {
    fn size(&self) -> usize {
        self.names.len() + self.rows.len() * ROW_BYTES
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        bytes.extend(small(self.rows.len()).to_le_bytes());
        for row in &self.rows {
            let Stat {
                size,
                mtime_ns,
                inode,
            } = row.stat;
            bytes.extend(size.to_le_bytes());
            bytes.extend(mtime_ns.to_le_bytes());
            bytes.extend(inode.to_le_bytes());
            bytes.extend(row.end.to_le_bytes());
            bytes.extend(row.odd.to_le_bytes());
        }
        bytes.extend_from_slice(self.names.as_bytes());
    }

    fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let count = u32::from_le_bytes(take(&mut bytes)?) as usize;
        let mut rows = Vec::with_capacity(count.min(bytes.len() / ROW_BYTES));
        for _ in 0..count {
            rows.push(Row {
                stat: Stat {
                    size: u64::from_le_bytes(take(&mut bytes)?),
                    mtime_ns: i64::from_le_bytes(take(&mut bytes)?),
                    inode: u64::from_le_bytes(take(&mut bytes)?),
                },
                end: u32::from_le_bytes(take(&mut bytes)?),
                odd: u32::from_le_bytes(take(&mut bytes)?),
            });
        }
        let names = str::from_utf8(bytes).ok()?.to_owned();
        Some(Self { names, rows })
    }
}

/// Where a piece was put.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub folder: Box<str>,
    /// The number of the root that it lies below.
    root: u32,
    pub block: u32,
    /// Its first row there.
    pub row: u32,
    pub rows: u32,
}

/// The blocks of pieces.
#[derive(Debug, Default)]
pub(super) struct Store {
    blocks: Blocks<Packed>,
    /// Of each block what is no regular file: very few.
    odd: Vec<Vec<Entry>>,
}

impl Store {
    /// A block; none where it cannot be read back.
    pub fn get(&self, block: u32) -> Option<Held<'_, Packed>> {
        self.blocks.get(block as usize)
    }

    /// What a row of a block is.
    pub fn entry(&self, block: u32, packed: Option<&Packed>, row: usize) -> Entry {
        match packed.map(|packed| packed.row(row)) {
            Some(Row { odd: 0, stat, .. }) => Entry::File(*stat),
            Some(Row { odd, .. }) => self.odd[block as usize][*odd as usize - 1].clone(),
            None => Entry::unusable("what was found of it cannot be read back"),
        }
    }

    /// A row's name and rank.
    fn key(&self, of: &Placed, row: u32) -> (String, u8) {
        let packed = self.get(of.block);
        let row = (of.row + row) as usize;
        let name = packed.as_deref().map_or("", |packed| packed.name(row));
        let entry = self.entry(of.block, packed.as_deref(), row);
        (name.to_owned(), entry.rank())
    }
}

/// All pieces that somebody found.
#[derive(Debug, Default)]
pub struct Pieces {
    placed: Vec<Placed>,
    store: Store,
    open: Packed,
    /// What is no regular file of the open block.
    odd: Vec<Entry>,
}

impl Pieces {
    /// None yet; blocks of them are put where there is room.
    #[must_use]
    pub fn new(spill: Arc<Spill>) -> Self {
        Self {
            store: Store {
                blocks: Blocks::new(spill),
                odd: Vec::new(),
            },
            ..Self::default()
        }
    }

    /// Adds one that lies below a root.
    pub fn add(&mut self, root: usize, piece: Piece) {
        let Piece {
            folder,
            packed,
            mut odd,
        } = piece;
        if packed.rows.is_empty() {
            return;
        }
        self.placed.push(Placed {
            folder,
            root: small(root),
            block: small(self.store.blocks.len()),
            row: small(self.open.rows.len()),
            rows: small(packed.rows.len()),
        });
        let names = small(self.open.names.len());
        let odds = small(self.odd.len());
        self.open.rows.extend(packed.rows.iter().map(|row| Row {
            stat: row.stat,
            end: names + row.end,
            odd: if row.odd == 0 { 0 } else { odds + row.odd },
        }));
        self.open.names.push_str(&packed.names);
        self.odd.append(&mut odd);
        if self.open.size() >= BLOCK {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if self.open.rows.is_empty() {
            return;
        }
        // What is filled is used again: what is kept takes no more than it needs.
        let sealed = self.store.blocks.spill().seal(self.open.clone());
        self.store.blocks.push(sealed);
        self.open.names.clear();
        self.open.rows.clear();
        self.store.odd.push(std::mem::take(&mut self.odd));
    }

    /// Adds what others found, who put their blocks into the same place.
    pub fn append(&mut self, mut others: Self) {
        self.seal();
        others.seal();
        let blocks = small(self.store.blocks.len());
        self.store.blocks.append(others.store.blocks);
        self.store.odd.append(&mut others.store.odd);
        let placed = others.placed.into_iter().map(|placed| Placed {
            block: blocks + placed.block,
            ..placed
        });
        self.placed.extend(placed);
    }

    /// Puts them in order, for each root by itself. Of each is told what precedes relative paths in a
    /// [`SourcePath`](super::SourcePath): nothing, or what ends in `/`; and, where it holds the folder
    /// that source paths are relative to, the way from one to the other, ending in `/`: below it a
    /// file has the path that any other root would give it.
    #[must_use]
    pub fn into_roots(mut self, roots: Vec<(String, Option<String>)>) -> Vec<RootCandidates> {
        self.seal();
        let mut placed: Vec<Vec<Placed>> = vec![Vec::new(); roots.len()];
        for piece in std::mem::take(&mut self.placed) {
            placed[piece.root as usize].push(piece);
        }
        for pieces in &mut placed {
            pieces.shrink_to_fit();
            self.order(pieces);
        }
        self.seal();
        let store = Arc::new(self.store);
        let ordered = roots.into_iter().zip(placed);
        let ordered = ordered.map(|((prefix, home_below), pieces)| {
            RootCandidates::ordered(prefix, home_below, pieces, Arc::clone(&store))
        });
        ordered.collect()
    }

    /// Orders pieces by folder and names.
    fn order(&mut self, pieces: &mut Vec<Placed>) {
        pieces.sort_unstable_by(|a, b| a.folder.cmp(&b.folder));
        let is_alike = |two: &[Placed]| two[0].folder == two[1].folder;
        if !pieces.windows(2).any(is_alike) {
            return;
        }
        let mut ordered = Vec::with_capacity(pieces.len());
        let mut rest = std::mem::take(pieces).into_iter().peekable();
        while let Some(piece) = rest.next() {
            let mut alike = vec![piece];
            while let Some(next) = rest.next_if(|next| next.folder == alike[0].folder) {
                alike.push(next);
            }
            match alike.len() {
                1 => ordered.append(&mut alike),
                _ => self.order_alike(alike, &mut ordered),
            }
        }
        *pieces = ordered;
    }

    /// Orders pieces of one folder. They follow each other, and only where two folders are shown
    /// alike does one begin before the other ends: these become one.
    fn order_alike(&mut self, pieces: Vec<Placed>, ordered: &mut Vec<Placed>) {
        let ends = pieces.into_iter().map(|piece| {
            let first = self.store.key(&piece, 0);
            let last = self.store.key(&piece, piece.rows - 1);
            (first, last, piece)
        });
        let mut ends: Vec<_> = ends.collect();
        ends.sort_by(|a, b| a.0.cmp(&b.0));
        let mut rest = ends.into_iter().peekable();
        while let Some((_, mut last, piece)) = rest.next() {
            let mut meeting = vec![piece];
            while let Some((_, end, piece)) = rest.next_if(|(first, ..)| last > *first) {
                last = last.max(end);
                meeting.push(piece);
            }
            match meeting.len() {
                1 => ordered.append(&mut meeting),
                _ => ordered.push(self.merge(&meeting)),
            }
        }
    }

    fn merge(&mut self, pieces: &[Placed]) -> Placed {
        let mut all = Vec::new();
        for piece in pieces {
            let packed = self.store.get(piece.block);
            let packed = packed.as_deref();
            for row in (piece.row..piece.row + piece.rows).map(|row| row as usize) {
                let name = packed.map_or("", |packed| packed.name(row)).to_owned();
                all.push((name, self.store.entry(piece.block, packed, row)));
            }
        }
        all.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| one.rank().cmp(&other.rank())));
        let mut merged = Piece::of(pieces[0].folder.clone());
        for (name, entry) in all {
            merged.push(&name, entry);
        }
        self.add(pieces[0].root as usize, merged);
        let placed = self.placed.pop();
        placed.unwrap_or_else(|| pieces[0].clone())
    }
}

impl RootCandidates {
    /// Puts pieces of one root in order, all of them in memory; see [`Pieces::into_roots`].
    #[must_use]
    pub fn new(prefix: String, home_below: Option<String>, pieces: Vec<Piece>) -> Self {
        let mut found = Pieces::default();
        for piece in pieces {
            found.add(0, piece);
        }
        let mut roots = found.into_roots(vec![(prefix, home_below)]);
        roots.pop().unwrap_or_default()
    }

    /// The same, of candidates in any order; of several with one path the first in rank is taken.
    #[must_use]
    pub fn of(prefix: String, home_below: Option<String>, found: Vec<Candidate>) -> Self {
        Self::new(prefix, home_below, loose(found))
    }
}

/// Pieces of candidates in any order; of several with one path the first in rank is taken.
#[must_use]
pub fn loose(mut found: Vec<Candidate>) -> Vec<Piece> {
    found.sort_by(|a, b| {
        let by_path = a.relative.cmp(&b.relative);
        by_path.then_with(|| a.entry.rank().cmp(&b.entry.rank()))
    });
    found.dedup_by(|a, b| a.relative == b.relative);
    let mut pieces = Vec::with_capacity(found.len().div_ceil(PIECE_ROWS));
    let mut found = found.into_iter().peekable();
    while found.peek().is_some() {
        let mut piece = Piece::of("");
        for Candidate { relative, entry } in found.by_ref().take(PIECE_ROWS) {
            piece.push(relative.as_str(), entry);
        }
        pieces.push(piece);
    }
    pieces
}
