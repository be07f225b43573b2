//! What happens during a run, as it happens, and the statistics folded from it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{AttemptId, FileId, JobEnd, Outcome, RuleName, SourcePath, StopCause};

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The uploads begin.
    Began {
        /// Files to send.
        files: usize,
        /// Their bytes.
        bytes: u64,
    },
    /// A large file begins to be sent: how far it has come is read where it is shown.
    Sending {
        /// The rule.
        rule: RuleName,
        /// The file.
        path: SourcePath,
        /// Its bytes.
        size: u64,
        /// The attempt, from 1.
        attempt: u32,
        /// Its id.
        request: AttemptId,
        /// What has been handed over; gone once the attempt is over.
        sent: Arc<Sent>,
    },
    /// An attempt did not store its file, and another follows.
    Retrying {
        /// The rule.
        rule: RuleName,
        /// The file.
        path: SourcePath,
        /// The attempt that ended, from 1.
        attempt: u32,
        /// Its id.
        request: AttemptId,
        /// Why.
        why: String,
        /// How long until the next.
        wait: Duration,
    },
    /// Everyone waits: the service asked for it, or fails.
    Paused {
        /// Why.
        why: String,
        /// How long.
        wait: Duration,
    },
    /// A file's last attempt ended.
    Ended {
        /// The rule.
        rule: RuleName,
        /// The file.
        path: SourcePath,
        /// Its bytes.
        size: u64,
        /// How.
        end: JobEnd,
    },
    /// Files in doubt wait for another look at the listing.
    Settling {
        /// Files.
        files: usize,
        /// How long until the look.
        wait: Duration,
    },
    /// A look at the listing settled a file in doubt, or left it.
    Settled {
        /// The rule.
        rule: RuleName,
        /// The file.
        path: SourcePath,
        /// How it stands now.
        end: JobEnd,
    },
    /// A file in doubt that is not in the plan was found stored.
    Found {
        /// The file.
        path: SourcePath,
        /// The attempt that stored it.
        request: AttemptId,
        /// Its id.
        id: FileId,
        /// What proves it.
        how: String,
    },
    /// The service refused a target: its other files are not tried.
    TargetRefused(StopCause),
    /// The run ends early: nothing new is begun.
    Stopping(StopCause),
}

/// How many bytes of a large file were handed over to the connection.
#[derive(Debug, Default)]
pub struct Sent(AtomicU64);

impl Sent {
    /// So many more were.
    pub fn add(&self, bytes: usize) {
        // Nothing else follows from it.
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// All of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts folded from events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Files to send.
    pub files: usize,
    /// Bytes to send.
    pub bytes: u64,
    /// Files whose last attempt ended; not those that were never tried.
    pub ended: usize,
    /// Their bytes.
    pub ended_bytes: u64,
    /// Of them, not stored.
    pub not_stored: usize,
    /// Of these, in doubt when they ended.
    pub in_doubt: usize,
    /// Attempts that another followed.
    pub retries: usize,
}

impl Stats {
    /// Adds what an event says.
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Began { files, bytes } => {
                self.files = *files;
                self.bytes = *bytes;
            }
            Event::Retrying { .. } => self.retries += 1,
            Event::Ended { end, .. } if end.outcome == Outcome::NotAttempted => {}
            Event::Ended { size, end, .. } => {
                self.ended += 1;
                self.ended_bytes += size;
                if end.outcome != Outcome::Stored {
                    self.not_stored += 1;
                }
                if end.outcome == Outcome::InDoubt {
                    self.in_doubt += 1;
                }
            }
            Event::Sending { .. }
            | Event::Paused { .. }
            | Event::Settling { .. }
            | Event::Settled { .. }
            | Event::Found { .. }
            | Event::TargetRefused(_)
            | Event::Stopping(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_what_the_events_add_up_to() {
        let ended = |outcome| Event::Ended {
            rule: RuleName::new("r"),
            path: SourcePath::new("p"),
            size: 10,
            end: JobEnd::without_attempt(outcome, None),
        };
        let mut stats = Stats::default();
        for event in [
            Event::Began {
                files: 3,
                bytes: 30,
            },
            ended(Outcome::Stored),
            ended(Outcome::Failed),
            ended(Outcome::NotAttempted),
        ] {
            stats.add(&event);
        }
        let expected = Stats {
            files: 3,
            bytes: 30,
            ended: 2,
            ended_bytes: 20,
            not_stored: 1,
            in_doubt: 0,
            retries: 0,
        };
        assert_eq!(stats, expected);
    }
}
