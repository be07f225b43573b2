//! What was told last, and so need not be told again.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::event::Event;
use crate::model::Outcome;

/// So many lines are before a reader's eyes, on a terminal as it comes.
const IN_SIGHT: usize = 15;

/// The files whose ends the last few lines told of.
#[derive(Debug, Default)]
pub struct Recent {
    /// Each line's file and its end, if it told of one.
    lines: VecDeque<Option<u64>>,
    hashes: RandomState,
}

impl Recent {
    /// Notes a line that told of this event.
    pub fn add(&mut self, event: &Event) {
        if self.lines.len() == IN_SIGHT {
            self.lines.pop_front();
        }
        let told = match event {
            Event::Ended {
                rule, path, end, ..
            }
            | Event::Settled { rule, path, end } => {
                Some(self.hash(rule.as_str(), path.as_str(), end.outcome))
            }
            _ => None,
        };
        self.lines.push_back(told);
    }

    /// Whether it was told, a moment ago, that a file ended so.
    #[must_use]
    pub fn has(&self, rule: &str, path: &str, outcome: Outcome) -> bool {
        !self.lines.is_empty() && self.lines.contains(&Some(self.hash(rule, path, outcome)))
    }

    fn hash(&self, rule: &str, path: &str, outcome: Outcome) -> u64 {
        self.hashes.hash_one((rule, path, outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{JobEnd, RuleName, SourcePath, StopCause};

    fn ended(path: &str, outcome: Outcome) -> Event {
        Event::Ended {
            rule: RuleName::new("all"),
            path: SourcePath::new(path),
            size: 1,
            end: JobEnd::without_attempt(outcome, None),
        }
    }

    #[test]
    fn what_was_told_a_moment_ago_is_known_until_it_has_left_the_sight() {
        let mut recent = Recent::default();
        assert!(!recent.has("all", "a", Outcome::Failed));
        recent.add(&ended("a", Outcome::Failed));
        assert!(recent.has("all", "a", Outcome::Failed));
        assert!(
            !recent.has("all", "a", Outcome::InDoubt),
            "it ended otherwise"
        );
        assert!(!recent.has("all", "b", Outcome::Failed));
        for _ in 1..IN_SIGHT {
            recent.add(&Event::Stopping(StopCause::Unavailable(String::new())));
        }
        assert!(recent.has("all", "a", Outcome::Failed));
        recent.add(&ended("b", Outcome::Failed));
        assert!(!recent.has("all", "a", Outcome::Failed));
    }
}
