//! How the rows of a plan ended: of most there is nothing to say, or one bit.

use std::collections::BTreeMap;

use crate::model::JobEnd;

/// How a row of the plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowEnd<'a> {
    /// As it was planned to end if nothing is done about it.
    AsPlanned,
    /// It is stored as it was sent, under an id that the ledger has: rows by the million are not kept
    /// here as well.
    Written,
    /// So.
    Told(&'a JobEnd),
}

/// How all rows of a plan ended.
#[derive(Debug, Default)]
pub struct Ends {
    told: BTreeMap<usize, Box<JobEnd>>,
    written: Bits,
}

impl Ends {
    pub(super) fn new(written: Bits) -> Self {
        Self {
            told: BTreeMap::new(),
            written,
        }
    }

    /// How a row ended.
    #[must_use]
    pub fn get(&self, row: usize) -> RowEnd<'_> {
        match self.told.get(&row) {
            Some(end) => RowEnd::Told(end),
            None if self.written.has(row) => RowEnd::Written,
            None => RowEnd::AsPlanned,
        }
    }

    /// Says how a row ended.
    pub fn tell(&mut self, row: usize, end: impl Into<Box<JobEnd>>) {
        self.told.insert(row, end.into());
    }
}

/// A bit for each row.
#[derive(Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub fn has(&self, at: usize) -> bool {
        let word = self.0.get(at / 64);
        word.is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    pub fn set(&mut self, at: usize) {
        if self.0.len() <= at / 64 {
            self.0.resize(at / 64 + 1, 0);
        }
        self.0[at / 64] |= 1 << (at % 64);
    }

    pub fn unset(&mut self, at: usize) {
        if let Some(word) = self.0.get_mut(at / 64) {
            *word &= !(1 << (at % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Outcome;

    #[test]
    fn what_is_told_of_a_row_says_more_than_that_it_is_written() {
        let mut written = Bits::default();
        for row in [0, 63, 64, 1000] {
            written.set(row);
        }
        written.unset(64);
        written.unset(5000);
        let mut ends = Ends::new(written);
        let end = JobEnd::without_attempt(Outcome::Failed, None);
        ends.tell(63, end.clone());
        ends.tell(7, end.clone());
        let expected = |row| match row {
            0 | 1000 => RowEnd::Written,
            7 | 63 => RowEnd::Told(&end),
            _ => RowEnd::AsPlanned,
        };
        assert!((0..1100).all(|row| ends.get(row) == expected(row)));
    }
}
