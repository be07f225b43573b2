//! What is to be done with each row, in a byte for most.

use super::details::Details;

const METADATA_DIFFERS: u8 = 1 << 6;
const IS_RETRY: u8 = 1 << 7;

/// What is to be done with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    New,
    Changed,
    MetadataChanged,
    Retry,
    /// These four: the detail is the stored version's place.
    Unchanged,
    Touched,
    Moved,
    ChangeIgnored,
    ChangeRefused,
    /// The detail is the other rule's index.
    Conflict,
    /// Of what is among the plan's problems.
    Problem,
    /// The detail is the decision's place among the others.
    Other,
    /// Its content decides: the detail is the stored version's place.
    Undecided,
}

const KINDS: [Kind; 13] = [
    Kind::New,
    Kind::Changed,
    Kind::MetadataChanged,
    Kind::Retry,
    Kind::Unchanged,
    Kind::Touched,
    Kind::Moved,
    Kind::ChangeIgnored,
    Kind::ChangeRefused,
    Kind::Conflict,
    Kind::Problem,
    Kind::Other,
    Kind::Undecided,
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub kind: Kind,
    /// Whether its metadata is not what was stored with it.
    pub metadata_differs: bool,
    /// Whether an attempt failed since the version that is stored.
    pub is_retry: bool,
    pub detail: u32,
}

impl Row {
    pub fn of(kind: Kind) -> Self {
        Self {
            kind,
            metadata_differs: false,
            is_retry: false,
            detail: 0,
        }
    }
}

/// The rows of a plan. Of those that are new, and at first most are, there are no details.
#[derive(Debug, Default)]
pub(super) struct Marks {
    bytes: Vec<u8>,
    details: Details,
}

impl Marks {
    /// So many new ones.
    pub fn new(rows: usize) -> Self {
        Self {
            bytes: vec![Kind::New as u8; rows],
            details: Details::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What is to be done with one, which is most of what is asked.
    #[inline]
    pub fn kind(&self, index: usize) -> Kind {
        KINDS[usize::from(self.bytes[index] & !(METADATA_DIFFERS | IS_RETRY))]
    }

    /// The detail of one.
    pub fn detail(&self, index: usize) -> usize {
        self.details.get(index) as usize
    }

    pub fn get(&self, index: usize) -> Row {
        let byte = self.bytes[index];
        Row {
            kind: self.kind(index),
            metadata_differs: byte & METADATA_DIFFERS != 0,
            is_retry: byte & IS_RETRY != 0,
            detail: self.details.get(index),
        }
    }

    pub fn set(&mut self, index: usize, row: Row) {
        let mut byte = row.kind as u8;
        if row.metadata_differs {
            byte |= METADATA_DIFFERS;
        }
        if row.is_retry {
            byte |= IS_RETRY;
        }
        self.bytes[index] = byte;
        self.details.set(index, row.detail);
    }

    pub fn iter(&self) -> impl Iterator<Item = Row> {
        (0..self.len()).map(|index| self.get(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::details::CHUNK;

    #[test]
    fn a_row_reads_back_as_it_was_set() {
        let mut marks = Marks::new(3 * CHUNK);
        let mut expected = vec![Row::of(Kind::New); 3 * CHUNK];
        let rows = KINDS.into_iter().flat_map(|kind| {
            let flags = [(false, false), (true, false), (false, true), (true, true)];
            flags.map(|(metadata_differs, is_retry)| Row {
                kind,
                metadata_differs,
                is_retry,
                detail: kind as u32 * 1000,
            })
        });
        for (at, row) in rows.enumerate() {
            for index in [at * 40, at, 2 * CHUNK + at] {
                marks.set(index, row);
                expected[index] = row;
            }
        }
        marks.set(7, Row::of(Kind::Retry));
        expected[7] = Row::of(Kind::Retry);
        assert!(marks.iter().eq(expected));
        assert_eq!(marks.len(), 3 * CHUNK);
    }
}
