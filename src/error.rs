//! Errors as a user sees them, and the exit codes.

use std::fmt;

use crate::model::{Outcome, Signal, StopCause};

/// The exit codes: what a script or a scheduler learns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All planned files are stored, or were already.
    Done,
    /// Some files failed.
    SomeFailed,
    /// There is something to upload: only of a plan that was asked to tell.
    Pending,
    /// The command line is wrong.
    Usage,
    /// The manifest is invalid.
    Invalid,
    /// The service is unavailable: gave up.
    Unavailable,
    /// A fault of this program.
    Internal,
    /// Local files cannot be written: ledger or report.
    LocalIo,
    /// Try again later: another run holds the lock, or the deadline came.
    Later,
    /// Files in doubt remain.
    InDoubt,
    /// The service refused the credentials.
    Credentials,
    /// A signal ended the run.
    Interrupted(Signal),
}

impl Exit {
    /// The number. `sysexits.h` where it has one; 128 + n for signals, as shells count.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::SomeFailed => 1,
            Self::Pending => 2,
            Self::Usage => 64,
            Self::Invalid => 65,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::LocalIo => 74,
            Self::Later => 75,
            Self::InDoubt => 76,
            Self::Credentials => 77,
            Self::Interrupted(Signal::Interrupt) => 130,
            Self::Interrupted(Signal::Terminate) => 143,
            Self::Interrupted(Signal::Hangup) => 129,
        }
    }

    /// What several runs end with, one after the other: the worst of what each ended with.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        let rank = |exit: Self| match exit {
            Self::Internal => 0,
            Self::LocalIo => 1,
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::Credentials => 4,
            Self::Unavailable => 5,
            Self::Interrupted(_) => 6,
            Self::InDoubt => 7,
            Self::SomeFailed => 8,
            Self::Later => 9,
            Self::Pending => 10,
            Self::Done => 11,
        };
        if rank(other) < rank(self) {
            other
        } else {
            self
        }
    }

    /// What a run ends with: the first that applies of 74, 77, 69, the signal, 76, 1, 75. `astray`
    /// are stored files of which the service tells what fails a run ([`crate::model::Gravity::FailsRun`]).
    #[must_use]
    pub fn of_run(
        causes: &[StopCause],
        astray: usize,
        mut has: impl FnMut(Outcome) -> bool,
    ) -> Self {
        let rank = |cause: &StopCause| match cause {
            StopCause::Ledger(_) => (0, Some(Self::LocalIo)),
            StopCause::Credentials(_) => (1, Some(Self::Credentials)),
            StopCause::Unavailable(_) => (2, Some(Self::Unavailable)),
            StopCause::Interrupted(signal) => (3, Some(Self::Interrupted(*signal))),
            StopCause::UnknownTarget(_) | StopCause::FailureBudget(_) | StopCause::Deadline(_) => {
                (4, None)
            }
        };
        if let Some((_, Some(exit))) = causes.iter().map(rank).min_by_key(|(rank, _)| *rank) {
            return exit;
        }
        let deadline = causes.iter().any(|c| matches!(c, StopCause::Deadline(_)));
        if has(Outcome::InDoubt) {
            Self::InDoubt
        } else if has(Outcome::Failed) || has(Outcome::Rejected) || astray > 0 {
            Self::SomeFailed
        } else if has(Outcome::NotAttempted) {
            if deadline {
                Self::Later
            } else {
                Self::SomeFailed
            }
        } else {
            Self::Done
        }
    }
}

/// Why a command could not do its work: what, why, what to do, and the exit code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What could not be done, and why, in a lowercase sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// What the process exits with.
    pub exit: Exit,
}

impl Failure {
    /// A failure without a hint.
    #[must_use]
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            hint: None,
            exit,
        }
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "\n  help: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_gravest_cause_decides_the_exit_code() {
        let why = || "why".to_owned();
        let ledger = StopCause::Ledger(why());
        let key = StopCause::Credentials(why());
        let down = StopCause::Unavailable(why());
        let signal = StopCause::Interrupted(Signal::Terminate);
        let target = StopCause::UnknownTarget(why());
        let late = StopCause::Deadline(Duration::from_hours(2));
        let spent = StopCause::FailureBudget(why());
        let none: &[Outcome] = &[];
        for (causes, outcomes, code) in [
            (vec![signal.clone(), key.clone(), ledger], none, 74),
            (vec![down.clone(), key], none, 77),
            (vec![signal.clone(), down], none, 69),
            (vec![signal], &[Outcome::InDoubt], 143),
            (
                vec![target.clone()],
                &[Outcome::InDoubt, Outcome::Failed],
                76,
            ),
            (vec![target], &[Outcome::Failed], 1),
            (vec![], &[Outcome::Rejected], 1),
            (vec![], &[Outcome::NotAttempted], 1),
            (vec![], &[Outcome::Stored, Outcome::Skipped], 0),
            (vec![late.clone()], &[Outcome::NotAttempted], 75),
            (vec![late.clone()], none, 0),
            (
                vec![late.clone()],
                &[Outcome::Failed, Outcome::NotAttempted],
                1,
            ),
            (vec![late], &[Outcome::InDoubt], 76),
            (vec![spent], &[Outcome::Failed, Outcome::NotAttempted], 1),
        ] {
            let exit = Exit::of_run(&causes, 0, |outcome| outcomes.contains(&outcome));
            assert_eq!(exit.code(), code, "{causes:?} {outcomes:?}");
        }
    }

    #[test]
    fn a_stored_file_that_is_not_as_it_was_sent_fails_the_run() {
        let stored = |outcome| outcome == Outcome::Stored;
        assert_eq!(Exit::of_run(&[], 1, stored).code(), 1);
        let late = [StopCause::Deadline(Duration::from_secs(1))];
        assert_eq!(Exit::of_run(&late, 1, stored).code(), 1);
    }
}
