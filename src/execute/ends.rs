//! How the rows of a plan ended: of most there is nothing to say, or one byte.

use std::collections::BTreeMap;

use crate::model::{Difference, JobEnd, Outcome};

/// How a row of the plan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowEnd<'a> {
    /// As it was planned to end if nothing is done about it: nothing was sent.
    AsPlanned,
    /// As the ledger has it: rows by the million are not kept here as well.
    Written(Written),
    /// So.
    Told(&'a JobEnd),
}

/// How a row ended of which the ledger has all but this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is stored as it was sent.
    Stored,
    /// It is stored, but not as it was sent.
    Renamed,
    /// Likewise.
    Mismatch,
    /// Likewise.
    WrongTarget,
    /// The service refused it.
    Rejected,
    /// It is certainly not stored.
    Failed,
}

impl Written {
    /// What is kept of an end that the ledger has; none where that has to be looked at again.
    pub(super) fn of(end: &JobEnd) -> Option<Self> {
        Some(match (end.outcome, end.difference) {
            _ if !end.is_named() => return None,
            (Outcome::Stored, None) => Self::Stored,
            (Outcome::Stored, Some(Difference::Renamed)) => Self::Renamed,
            (Outcome::Stored, Some(Difference::Mismatch)) => Self::Mismatch,
            (Outcome::Stored, Some(Difference::WrongTarget)) => Self::WrongTarget,
            (Outcome::Rejected, _) => Self::Rejected,
            (Outcome::Failed, _) => Self::Failed,
            (Outcome::Skipped | Outcome::InDoubt | Outcome::NotAttempted, _) => return None,
        })
    }

    /// What became of it.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Stored | Self::Renamed | Self::Mismatch | Self::WrongTarget => Outcome::Stored,
            Self::Rejected => Outcome::Rejected,
            Self::Failed => Outcome::Failed,
        }
    }

    /// The worst that is odd about how it is stored.
    #[must_use]
    pub fn difference(self) -> Option<Difference> {
        match self {
            Self::Renamed => Some(Difference::Renamed),
            Self::Mismatch => Some(Difference::Mismatch),
            Self::WrongTarget => Some(Difference::WrongTarget),
            Self::Stored | Self::Rejected | Self::Failed => None,
        }
    }
}

/// How a job ended.
pub(super) struct Ended {
    pub end: JobEnd,
    pub record: Record,
}

/// Where all that there is to say of a job's end stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    /// In the plan: nothing was sent.
    Plan,
    /// In the ledger: that it is written down was waited for.
    Ledger,
    /// Nowhere else: it could not be written down.
    Nowhere,
}

impl Ended {
    /// What stands in the plan, or came of an attempt that another was to follow.
    pub(super) fn before_its_turn(end: JobEnd) -> Self {
        let record = match end.attempts {
            0 => Record::Plan,
            _ => Record::Ledger,
        };
        Self { end, record }
    }
}

/// How all rows of a plan ended.
#[derive(Debug, Default)]
pub struct Ends {
    told: BTreeMap<usize, Box<JobEnd>>,
    written: WrittenRows,
}

impl Ends {
    pub(super) fn new(written: WrittenRows) -> Self {
        Self {
            told: BTreeMap::new(),
            written,
        }
    }

    /// How a row ended.
    #[must_use]
    pub fn get(&self, row: usize) -> RowEnd<'_> {
        match (self.told.get(&row), self.written.get(row)) {
            (Some(end), _) => RowEnd::Told(end),
            (None, Some(written)) => RowEnd::Written(written),
            (None, None) => RowEnd::AsPlanned,
        }
    }

    /// Says how a row ended.
    pub fn tell(&mut self, row: usize, end: impl Into<Box<JobEnd>>) {
        self.told.insert(row, end.into());
    }

    /// Rows of which more than a byte is kept: those that nobody else knows all of.
    #[must_use]
    pub fn told(&self) -> usize {
        self.told.len()
    }
}

/// A byte for each row.
#[derive(Debug, Default)]
pub(super) struct WrittenRows(Vec<Option<Written>>);

impl WrittenRows {
    fn get(&self, row: usize) -> Option<Written> {
        self.0.get(row).copied().flatten()
    }

    pub fn set(&mut self, row: usize, written: Written) {
        if self.0.len() <= row {
            self.0.resize(row + 1, None);
        }
        self.0[row] = Some(written);
    }

    pub fn unset(&mut self, row: usize) {
        if let Some(written) = self.0.get_mut(row) {
            *written = None;
        }
    }
}

// What is kept of millions of rows.
const _: () = assert!(size_of::<Option<Written>>() == 1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FileId;

    #[test]
    fn what_is_told_of_a_row_says_more_than_that_it_is_written() {
        let mut written = WrittenRows::default();
        for row in [0, 63, 64, 1000] {
            written.set(row, Written::Stored);
        }
        written.set(8, Written::Rejected);
        written.unset(64);
        written.unset(5000);
        let mut ends = Ends::new(written);
        let end = JobEnd::without_attempt(Outcome::Failed, None);
        ends.tell(63, end.clone());
        ends.tell(7, end.clone());
        let expected = |row| match row {
            0 | 1000 => RowEnd::Written(Written::Stored),
            8 => RowEnd::Written(Written::Rejected),
            7 | 63 => RowEnd::Told(&end),
            _ => RowEnd::AsPlanned,
        };
        assert!((0..1100).all(|row| ends.get(row) == expected(row)));
        assert_eq!(ends.told(), 2);
    }

    #[test]
    fn of_what_the_ledger_has_the_outcome_is_kept_and_the_difference() {
        let differences = [
            None,
            Some(Difference::Renamed),
            Some(Difference::Mismatch),
            Some(Difference::WrongTarget),
        ];
        for difference in differences {
            let mut end = JobEnd {
                difference,
                ..JobEnd::without_attempt(Outcome::Stored, None)
            };
            assert_eq!(Written::of(&end), None, "a listed file may be this one");
            end.file_id = Some(FileId::new("id"));
            let written = Written::of(&end).expect("by its id");
            assert_eq!(written.outcome(), Outcome::Stored);
            assert_eq!(written.difference(), difference);
        }
        for outcome in [Outcome::Rejected, Outcome::Failed] {
            let written = Written::of(&JobEnd::without_attempt(outcome, None));
            assert_eq!(written.map(Written::outcome), Some(outcome));
        }
        let doubt = JobEnd::without_attempt(Outcome::InDoubt, None);
        assert_eq!(Written::of(&doubt), None);
    }
}
