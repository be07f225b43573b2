//! The states of an attempt, and which may follow which.

use crate::model::Outcome;

/// The states of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its bytes are being sent while they are read; the end is withheld, so the service cannot
    /// store it.
    Opened,
    /// The end of the body may be released from now on.
    Committing,
    /// The service stored the file.
    Stored,
    /// The service refused the file.
    Rejected,
    /// It is certainly not stored.
    Failed,
    /// The service may have stored it.
    InDoubt,
    /// The service may have stored it, and the user chose to send it again all the same.
    Abandoned,
    /// The body was free to leave, and nothing of it did: its turn did not come.
    Withdrawn,
    /// The user, or a move, took the file out of the ledger.
    Forgotten,
}

/// Whether two transitions belong to one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// They do.
    SameAttempt,
    /// They do not.
    OtherAttempt,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 9] = [
        Self::Opened,
        Self::Committing,
        Self::Stored,
        Self::Rejected,
        Self::Failed,
        Self::InDoubt,
        Self::Abandoned,
        Self::Withdrawn,
        Self::Forgotten,
    ];

    /// The word in the ledger; stable.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Committing => "committing",
            Self::Stored => "stored",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::InDoubt => "in_doubt",
            Self::Abandoned => "abandoned",
            Self::Withdrawn => "withdrawn",
            Self::Forgotten => "forgotten",
        }
    }

    /// What a file whose attempt is left in this state has come to.
    #[must_use]
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Stored => Outcome::Stored,
            Self::Rejected => Outcome::Rejected,
            Self::Opened | Self::Failed | Self::Forgotten => Outcome::Failed,
            Self::Committing | Self::InDoubt | Self::Abandoned => Outcome::InDoubt,
            Self::Withdrawn => Outcome::NotAttempted,
        }
    }

    /// The state that a word of the ledger names.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word)
    }

    /// Whether the service may have the file without anybody knowing.
    #[must_use]
    pub fn is_doubtful(self) -> bool {
        matches!(self, Self::Committing | Self::InDoubt)
    }

    /// Whether an attempt may enter this state when its file's latest attempt is in `before`.
    ///
    /// A file that may be stored is never tried again, only an attempt that passed the gate can
    /// end as stored or in doubt, and only doubt can be settled or abandoned.
    #[must_use]
    pub fn may_follow(self, before: Option<(State, Relation)>) -> bool {
        match before {
            Some((Self::Opened, Relation::SameAttempt)) => {
                matches!(
                    self,
                    Self::Committing | Self::Rejected | Self::Failed | Self::Forgotten
                )
            }
            Some((Self::Committing, Relation::SameAttempt)) => matches!(
                self,
                Self::Stored
                    | Self::Rejected
                    | Self::Failed
                    | Self::InDoubt
                    | Self::Abandoned
                    | Self::Withdrawn
            ),
            Some((Self::InDoubt, Relation::SameAttempt)) => {
                matches!(self, Self::Stored | Self::Failed | Self::Abandoned)
            }
            Some((_, Relation::SameAttempt)) => self == Self::Forgotten,
            Some((Self::Committing | Self::InDoubt, Relation::OtherAttempt)) => false,
            // Where the whole file is read before anything is sent, nothing is ever `opened`.
            None | Some((_, Relation::OtherAttempt)) => matches!(
                self,
                Self::Opened | Self::Committing | Self::Rejected | Self::Failed
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_passed_the_gate_can_be_stored_or_in_doubt() {
        use Relation::{OtherAttempt, SameAttempt};
        use State::{
            Abandoned, Committing, Failed, Forgotten, InDoubt, Opened, Rejected, Stored, Withdrawn,
        };
        for (before, allowed) in [
            (None, vec![Opened, Committing, Rejected, Failed]),
            (
                Some((Opened, SameAttempt)),
                vec![Committing, Rejected, Failed, Forgotten],
            ),
            (
                Some((Opened, OtherAttempt)),
                vec![Opened, Committing, Rejected, Failed],
            ),
            (
                Some((Committing, SameAttempt)),
                vec![Stored, Rejected, Failed, InDoubt, Abandoned, Withdrawn],
            ),
            (Some((Committing, OtherAttempt)), vec![]),
            (Some((Stored, SameAttempt)), vec![Forgotten]),
            (
                Some((Stored, OtherAttempt)),
                vec![Opened, Committing, Rejected, Failed],
            ),
            (
                Some((Rejected, OtherAttempt)),
                vec![Opened, Committing, Rejected, Failed],
            ),
            (Some((Failed, SameAttempt)), vec![Forgotten]),
            (
                Some((Failed, OtherAttempt)),
                vec![Opened, Committing, Rejected, Failed],
            ),
            (
                Some((InDoubt, SameAttempt)),
                vec![Stored, Failed, Abandoned],
            ),
            (Some((InDoubt, OtherAttempt)), vec![]),
            (
                Some((Abandoned, OtherAttempt)),
                vec![Opened, Committing, Rejected, Failed],
            ),
            (Some((Withdrawn, SameAttempt)), vec![Forgotten]),
            (
                Some((Withdrawn, OtherAttempt)),
                vec![Opened, Committing, Rejected, Failed],
            ),
        ] {
            let found: Vec<State> = State::ALL
                .into_iter()
                .filter(|state| state.may_follow(before))
                .collect();
            assert_eq!(found, allowed, "after {before:?}");
        }
    }

    #[test]
    fn every_word_reads_back() {
        for state in State::ALL {
            assert_eq!(State::of_word(state.word()), Some(state));
        }
        assert_eq!(State::of_word("resolved"), None);
    }
}
