//! Where a run stands: events folded, and what can be said of it at a moment.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::rate::Rate;
use crate::event::{Event, Sent, Stats};
use crate::model::{AttemptId, Outcome, RuleName, SourcePath};

/// Files as large as this are shown by themselves while they are sent.
const SHOWN_FROM: u64 = 8 * 1024 * 1024;

/// How many of them, the largest first.
const SHOWN_MAX: usize = 4;

/// What a file costs beside its bytes, as bytes: without it, large files behind small ones would
/// take days by the rate of these. More would promise too much where it is bytes that take the
/// time.
const FILE_COST: u64 = 16 * 1024;

/// Events folded. Times are counted from one and the same moment, whichever that is.
#[derive(Debug, Default)]
pub(super) struct Tally {
    stats: Stats,
    phase: Phase,
    /// Files in doubt, as hashes: there can be as many as files.
    doubts: HashSet<u64>,
    hashes: RandomState,
    held: Option<Hold>,
    sending: Vec<Sending>,
    bytes: Rate,
    work: Rate,
}

/// What a run is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not begun.
    #[default]
    Planning,
    /// It sends.
    Sending,
    /// It ends early, and sends nothing new.
    Stopping,
}

impl Phase {
    /// The word for it; stable.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Sending => "sending",
            Self::Stopping => "stopping",
        }
    }
}

/// Why nothing new begins, and until when.
#[derive(Debug)]
struct Hold {
    why: String,
    until: Duration,
}

#[derive(Debug)]
struct Sending {
    rule: RuleName,
    path: SourcePath,
    size: u64,
    attempt: u32,
    request: AttemptId,
    sent: Weak<Sent>,
}

/// A run at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct View {
    pub phase: Phase,
    /// Files to send.
    pub files: usize,
    /// Of them, those that ended in whatever way.
    pub ended: usize,
    /// Bytes to send.
    pub bytes: u64,
    /// Of them, those of files that ended, or that were handed over.
    pub sent: u64,
    /// Files that ended and are not stored, without those in doubt.
    pub failed: usize,
    pub in_doubt: usize,
    pub retries: usize,
    /// Bytes a second.
    pub speed: Option<f64>,
    pub left: Option<Duration>,
    pub held: Option<Held>,
    /// Large files under way, the largest first.
    pub sending: Vec<Large>,
}

/// Why nothing new begins, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub why: String,
    pub left: Duration,
}

/// A large file under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Large {
    pub rule: RuleName,
    pub path: SourcePath,
    pub size: u64,
    pub sent: u64,
    pub attempt: u32,
    pub request: AttemptId,
}

impl Tally {
    /// Adds what an event says.
    pub(super) fn add(&mut self, event: &Event, now: Duration) {
        self.stats.add(event);
        match event {
            Event::Began { .. } => {
                self.phase = Phase::Sending;
                self.bytes = Rate::default();
                self.bytes.skip(now, 0);
                self.work = self.bytes;
            }
            Event::Sending {
                rule,
                path,
                size,
                attempt,
                request,
                sent,
            } => {
                self.sending.retain(|other| other.sent.strong_count() > 0);
                self.sending.push(Sending {
                    rule: rule.clone(),
                    path: path.clone(),
                    size: *size,
                    attempt: *attempt,
                    request: request.clone(),
                    sent: Arc::downgrade(sent),
                });
            }
            Event::Ended {
                rule, path, end, ..
            }
            | Event::Settled { rule, path, end } => {
                if end.outcome == Outcome::InDoubt {
                    self.doubts.insert(self.hashes.hash_one((rule, path)));
                } else if !self.doubts.is_empty() {
                    self.doubts.remove(&self.hashes.hash_one((rule, path)));
                }
            }
            Event::Paused { why, wait } => self.hold(why.clone(), now + *wait),
            Event::Settling { wait, .. } => {
                self.hold("looking again for files in doubt".to_owned(), now + *wait);
            }
            Event::Stopping(_) => self.stopping(),
            Event::Retrying { .. } | Event::Found { .. } | Event::TargetRefused(_) => {}
        }
    }

    /// The run ends early.
    pub(super) fn stopping(&mut self) {
        self.phase = Phase::Stopping;
    }

    fn hold(&mut self, why: String, until: Duration) {
        self.held = Some(Hold { why, until });
    }

    /// How it stands now; the next time, speeds are held against this one.
    pub(super) fn view(&mut self, now: Duration) -> View {
        self.held.take_if(|hold| hold.until <= now);
        let held = self.held.as_ref().map(|hold| Held {
            why: hold.why.clone(),
            left: hold.until.saturating_sub(now),
        });
        let under_way = self.sending.iter();
        let mut sending: Vec<Large> = under_way
            .filter_map(|file| {
                let sent = file.sent.upgrade()?.bytes();
                Some(Large {
                    rule: file.rule.clone(),
                    path: file.path.clone(),
                    size: file.size,
                    sent: sent.min(file.size),
                    attempt: file.attempt,
                    request: file.request.clone(),
                })
            })
            .collect();
        let partly: u64 = sending.iter().map(|file| file.sent).sum();
        let stats = self.stats;
        // Files that were in doubt are sent beside what was to be sent.
        let sent = (stats.ended_bytes + partly).min(stats.bytes);
        let work_of = |files: usize, bytes| files as u64 * FILE_COST + bytes;
        let (work, whole) = (
            work_of(stats.ended, sent),
            work_of(stats.files, stats.bytes),
        );
        if held.is_some() {
            self.bytes.skip(now, sent);
            self.work.skip(now, work);
        } else {
            self.bytes.look(now, sent);
            self.work.look(now, work);
        }
        let left = match self.phase {
            Phase::Sending if stats.ended < stats.files => self.work.time_for(whole - work),
            _ => None,
        };
        let pause = held.as_ref().map_or(Duration::ZERO, |held| held.left);
        sending.retain(|file| file.size >= SHOWN_FROM);
        sending.sort_by_key(|file| std::cmp::Reverse(file.size));
        sending.truncate(SHOWN_MAX);
        View {
            phase: self.phase,
            files: stats.files,
            ended: stats.ended,
            bytes: stats.bytes,
            sent,
            failed: stats.not_stored.saturating_sub(stats.in_doubt),
            in_doubt: self.doubts.len(),
            retries: stats.retries,
            speed: self.bytes.a_second(),
            left: left.map(|left| left + pause),
            held,
            sending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{JobEnd, StopCause};

    const MIB: u64 = 1024 * 1024;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    fn ended(path: &str, size: u64, outcome: Outcome) -> Event {
        Event::Ended {
            rule: RuleName::new("all"),
            path: SourcePath::new(path),
            size,
            end: JobEnd::without_attempt(outcome, None),
        }
    }

    fn sending(path: &str, size: u64) -> (Event, Arc<Sent>) {
        let sent = Arc::<Sent>::default();
        let event = Event::Sending {
            rule: RuleName::new("all"),
            path: SourcePath::new(path),
            size,
            attempt: 1,
            request: AttemptId::new("id"),
            sent: Arc::clone(&sent),
        };
        (event, sent)
    }

    fn began(files: usize, bytes: u64) -> Tally {
        let mut tally = Tally::default();
        tally.add(&Event::Began { files, bytes }, seconds(100));
        tally
    }

    #[test]
    fn bytes_of_large_files_count_while_they_are_sent_and_once_when_they_have_ended() {
        let mut tally = began(2, 30 * MIB);
        let (event, sent) = sending("a", 20 * MIB);
        tally.add(&event, seconds(100));
        drop(event);
        sent.add(5 * 1024 * 1024);
        let view = tally.view(seconds(101));
        assert_eq!((view.sent, view.ended), (5 * MIB, 0));
        assert_eq!(view.sending.len(), 1);
        assert_eq!(view.sending[0].sent, 5 * MIB);
        drop(sent);
        tally.add(&ended("a", 20 * MIB, Outcome::Stored), seconds(102));
        let view = tally.view(seconds(102));
        assert_eq!((view.sent, view.ended), (20 * MIB, 1));
        assert_eq!(view.sending, []);
    }

    #[test]
    fn the_largest_few_are_shown_and_all_count() {
        let mut tally = began(9, 1000 * MIB);
        let sizes = [2, 8, 50, 9, 30, 7, 20];
        let files: Vec<_> = sizes
            .iter()
            .map(|size| {
                let (event, sent) = sending(&format!("{size}"), size * MIB);
                tally.add(&event, seconds(100));
                sent.add(1024 * 1024);
                sent
            })
            .collect();
        let view = tally.view(seconds(101));
        let shown: Vec<u64> = view.sending.iter().map(|file| file.size / MIB).collect();
        assert_eq!(shown, [50, 30, 20, 9]);
        assert_eq!(view.sent, files.len() as u64 * MIB);
    }

    #[test]
    fn an_attempt_that_is_over_takes_its_bytes_back() {
        let mut tally = began(1, 100 * MIB);
        let (event, first) = sending("a", 100 * MIB);
        tally.add(&event, seconds(100));
        drop(event);
        first.add(60 * 1024 * 1024);
        assert_eq!(tally.view(seconds(101)).sent, 60 * MIB);
        drop(first);
        assert_eq!(tally.view(seconds(102)).sent, 0);
        for _ in 0..1000 {
            let (event, _) = sending("a", 100 * MIB);
            tally.add(&event, seconds(103));
        }
        assert!(tally.sending.len() < 3, "{}", tally.sending.len());
    }

    #[test]
    fn doubts_end_when_they_are_settled_and_are_no_failures() {
        let mut tally = began(3, 3);
        tally.add(&ended("a", 1, Outcome::InDoubt), seconds(100));
        tally.add(&ended("b", 1, Outcome::InDoubt), seconds(100));
        tally.add(&ended("c", 1, Outcome::Rejected), seconds(100));
        let view = tally.view(seconds(101));
        assert_eq!((view.in_doubt, view.failed, view.ended), (2, 1, 3));
        let settled = |outcome| Event::Settled {
            rule: RuleName::new("all"),
            path: SourcePath::new("a"),
            end: JobEnd::without_attempt(outcome, None),
        };
        // A look that settled nothing, one that did, and the file sent again.
        for (outcome, left) in [
            (Outcome::InDoubt, 2),
            (Outcome::Failed, 1),
            (Outcome::Stored, 1),
        ] {
            tally.add(&settled(outcome), seconds(102));
            assert_eq!(tally.view(seconds(102)).in_doubt, left, "{outcome:?}");
        }
    }

    #[test]
    fn the_time_left_follows_work_and_waits_out_a_pause() {
        let mut tally = began(100, 100 * MIB);
        for second in 1..=10 {
            tally.add(&ended("a", MIB, Outcome::Stored), seconds(100 + second));
            tally.view(seconds(100 + second));
        }
        let left = tally.view(seconds(110)).left.expect("known");
        assert!((seconds(89)..seconds(91)).contains(&left), "{left:?}");
        let pause = Event::Paused {
            why: "HTTP 429".to_owned(),
            wait: seconds(60),
        };
        tally.add(&pause, seconds(110));
        let view = tally.view(seconds(150));
        let held = view.held.expect("it is paused");
        assert_eq!((held.why.as_str(), held.left), ("HTTP 429", seconds(20)));
        let left = view.left.expect("known");
        assert!((seconds(109)..seconds(111)).contains(&left), "{left:?}");
        let view = tally.view(seconds(170));
        assert_eq!(view.held, None, "it is over");
    }

    #[test]
    fn small_files_before_large_ones_do_not_make_the_end_recede() {
        // A thousand of a kilobyte in ten seconds, then one large one is left: by bytes alone it
        // would take eleven days.
        let mut tally = began(1001, 1000 * 1024 + 100 * MIB);
        for second in 1..=10 {
            for _ in 0..100 {
                tally.add(&ended("a", 1024, Outcome::Stored), seconds(100 + second));
            }
            tally.view(seconds(100 + second));
        }
        let left = tally.view(seconds(110)).left.expect("known");
        assert!(left < seconds(90), "{left:?}");
    }

    #[test]
    fn a_run_that_stops_has_no_time_left_to_tell_and_what_is_not_tried_did_not_end() {
        let mut tally = began(4, 4 * MIB);
        tally.add(&ended("a", MIB, Outcome::Stored), seconds(101));
        tally.view(seconds(102));
        assert!(tally.view(seconds(102)).left.is_some());
        tally.add(
            &Event::Stopping(StopCause::Deadline(seconds(1))),
            seconds(102),
        );
        tally.add(&ended("b", MIB, Outcome::NotAttempted), seconds(103));
        let view = tally.view(seconds(103));
        assert_eq!((view.left, view.ended, view.sent), (None, 1, MIB));
        assert_eq!(view.phase, Phase::Stopping);
    }
}
