//! When a watch looks at its folders: pure, time is handed in.
//!
//! Each look goes through everything, so that all that can be missed is the moment: what the
//! operating system tells of changes only makes a look come sooner than the next periodic one.

use std::time::Duration;

/// A point in time: so long after the watch began.
pub type Moment = Duration;

/// How long what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// A look begins once nothing changed for so long.
    pub quiet: Duration,
    /// Or so long after the first change, where changes go on.
    pub at_latest: Duration,
    /// And so long after the last look, whatever is told.
    pub rescan: Duration,
    /// What is left undone is tried again after so long; after twice as long the next time.
    pub first_wait: Duration,
    /// But never after longer than this.
    pub most_wait: Duration,
}

/// What a look is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// What is new. What was tried and is left as it was waits for its time.
    New,
    /// All that is to be done.
    Everything,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Came {
    /// Nothing is left to be tried again.
    Well,
    /// Something is left that was tried; what is new need not wait for it.
    Left,
    /// Something is left, and was not tried now.
    Untried,
    /// Whatever is tried now would fail as well.
    Barred,
}

/// A look that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Looked {
    /// What came of it.
    pub came: Came,
    /// How long it took, without what was sent.
    pub took: Duration,
    /// When from now the first file is old enough that was too young for it.
    pub of_age: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Changes {
    first: Moment,
    last: Moment,
}

/// What is known of when to look next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    rhythm: Rhythm,
    changes: Option<Changes>,
    rescan: Moment,
    of_age: Option<Moment>,
    retry: Option<Moment>,
    /// How long what is left waits the next time.
    wait: Duration,
    /// No look begins before.
    not_before: Moment,
}

impl Watch {
    /// A watch that looks at once.
    #[must_use]
    pub fn new(rhythm: Rhythm) -> Self {
        Self {
            rhythm,
            changes: None,
            rescan: Moment::ZERO,
            of_age: None,
            retry: Some(Moment::ZERO),
            wait: rhythm.first_wait,
            not_before: Moment::ZERO,
        }
    }

    /// Something changed, or may have.
    pub fn changed(&mut self, now: Moment) {
        let first = self.changes.map_or(now, |changes| changes.first);
        self.changes = Some(Changes { first, last: now });
    }

    /// When the next look begins, unless something changes before.
    #[must_use]
    pub fn due(&self) -> Moment {
        let due = match self.changes {
            Some(Changes { first, last }) => {
                (last + self.rhythm.quiet).min(first + self.rhythm.at_latest)
            }
            // A look for changes is as good as any other, so that these are not heard beside it.
            None => [self.of_age, self.retry]
                .into_iter()
                .flatten()
                .fold(self.rescan, Moment::min),
        };
        due.max(self.not_before)
    }

    /// A look begins, which will see all that changed so far.
    pub fn begin(&mut self, now: Moment) -> Look {
        self.changes = None;
        match self.retry {
            Some(retry) if now < retry => Look::New,
            _ => Look::Everything,
        }
    }

    /// A look has ended.
    pub fn ended(&mut self, now: Moment, looked: Looked) {
        let Rhythm {
            rescan,
            first_wait,
            most_wait,
            ..
        } = self.rhythm;
        self.rescan = now + rescan;
        self.of_age = looked.of_age.map(|wait| now + wait);
        // A tree that takes long to go through is not gone through all the time.
        self.not_before = now + looked.took.min(rescan);
        if looked.came == Came::Well {
            self.retry = None;
            self.wait = first_wait;
            return;
        }
        if looked.came == Came::Untried && self.retry.is_some() {
            return;
        }
        let retry = now + self.wait;
        self.retry = Some(retry);
        self.wait = (self.wait * 2).min(most_wait);
        if looked.came == Came::Barred {
            self.not_before = self.not_before.max(retry);
        }
    }

    /// How long what is left waits from now.
    #[must_use]
    pub fn retries_in(&self, now: Moment) -> Option<Duration> {
        self.retry.map(|retry| retry.saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const RHYTHM: Rhythm = Rhythm {
        quiet: s(2),
        at_latest: s(60),
        rescan: s(300),
        first_wait: s(10),
        most_wait: s(900),
    };

    fn looked(came: Came) -> Looked {
        Looked {
            came,
            took: Duration::ZERO,
            of_age: None,
        }
    }

    /// One that has looked for the first time at moment zero.
    fn watch(came: Came) -> Watch {
        let mut watch = Watch::new(RHYTHM);
        assert_eq!((watch.due(), watch.begin(s(0))), (s(0), Look::Everything));
        watch.ended(s(0), looked(came));
        watch
    }

    #[test]
    fn a_look_begins_when_changes_have_settled() {
        let mut watch = watch(Came::Well);
        assert_eq!(watch.due(), s(300));
        watch.changed(s(7));
        assert_eq!(watch.due(), s(9));
        watch.changed(s(8));
        assert_eq!(watch.due(), s(10));
    }

    #[test]
    fn a_folder_that_never_settles_is_looked_at_all_the_same() {
        let mut watch = watch(Came::Well);
        for second in 100..159 {
            watch.changed(s(second));
        }
        assert_eq!(watch.due(), s(160));
    }

    #[test]
    fn a_file_that_was_too_young_is_looked_at_when_it_is_old_enough() {
        let mut watch = watch(Came::Well);
        let of_age = Some(s(120));
        watch.begin(s(50));
        watch.ended(
            s(51),
            Looked {
                of_age,
                ..looked(Came::Well)
            },
        );
        assert_eq!(watch.due(), s(171));
    }

    #[test]
    fn what_is_left_is_tried_again_after_longer_and_longer_and_new_files_do_not_wait() {
        let mut watch = watch(Came::Left);
        let mut now = s(0);
        for wait in [10, 20, 40, 80, 160, 300] {
            watch.changed(now + s(1));
            assert_eq!(watch.due(), now + s(3));
            assert_eq!(watch.begin(now + s(3)), Look::New);
            watch.ended(now + s(4), looked(Came::Untried));
            let due = watch.due();
            if wait < 300 {
                assert_eq!(due, now + s(wait));
                assert_eq!(watch.begin(due), Look::Everything);
            } else {
                assert_eq!(due, now + s(304), "the look in between was one of all");
                break;
            }
            now = due;
            watch.ended(now, looked(Came::Left));
        }
        watch.ended(now, looked(Came::Well));
        watch.ended(now, looked(Came::Left));
        assert_eq!(watch.retries_in(now), Some(s(10)));
    }

    #[test]
    fn while_everything_fails_changes_do_not_hasten() {
        let mut watch = watch(Came::Barred);
        watch.changed(s(1));
        assert_eq!(watch.due(), s(10));
        assert_eq!(watch.begin(s(10)), Look::Everything);
        watch.ended(s(10), looked(Came::Barred));
        watch.changed(s(11));
        assert_eq!(watch.due(), s(30));
    }

    #[test]
    fn a_large_tree_is_not_gone_through_all_the_time() {
        let mut watch = watch(Came::Well);
        watch.begin(s(100));
        watch.ended(
            s(130),
            Looked {
                took: s(30),
                ..looked(Came::Well)
            },
        );
        watch.changed(s(131));
        assert_eq!(watch.due(), s(160));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Change(u64),
        Look(Came, u64, Option<u64>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let came = prop::sample::select(vec![Came::Well, Came::Left, Came::Untried, Came::Barred]);
        let look = (came, 0_u64..1000, prop::option::of(0_u64..1000));
        let step = prop_oneof![
            (0_u64..100).prop_map(Step::Change),
            look.prop_map(|(came, took, of_age)| Step::Look(came, took, of_age)),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        #[test]
        fn every_change_is_looked_at_in_time_and_no_look_comes_too_soon(steps in steps()) {
            let mut watch = Watch::new(RHYTHM);
            let mut now = Moment::ZERO;
            // The first change that no look has seen, and the last; when the last look ended.
            let mut unseen: Option<(Moment, Moment)> = None;
            let mut last: Option<(Moment, Looked)> = None;
            let mut wait = RHYTHM.first_wait;
            for step in steps {
                match step {
                    // What changes when a look is due is told after it.
                    Step::Change(after) if now + s(after) < watch.due() => {
                        now += s(after);
                        watch.changed(now);
                        unseen = Some((unseen.map_or(now, |(first, _)| first), now));
                    }
                    Step::Change(_) => {}
                    Step::Look(came, took, of_age) => {
                        let due = watch.due();
                        prop_assert!(due >= now);
                        now = due;
                        if let Some((ended, looked)) = last {
                            let rest = looked.took.min(RHYTHM.rescan);
                            let bar = match looked.came {
                                Came::Barred => wait.max(rest),
                                _ => rest,
                            };
                            prop_assert!(now >= ended + bar, "rest");
                            prop_assert!(now <= ended + bar.max(RHYTHM.rescan).max(
                                if unseen.is_some() { RHYTHM.rescan + RHYTHM.at_latest } else { s(0) }
                            ), "rescan");
                            if let Some((first, latest)) = unseen {
                                let free = ended + bar;
                                prop_assert!(now <= free.max(latest + RHYTHM.quiet), "settled");
                                prop_assert!(now <= free.max(first + RHYTHM.at_latest), "at latest");
                                let is_quiet = now >= latest + RHYTHM.quiet;
                                prop_assert!(is_quiet || now >= first + RHYTHM.at_latest, "soon");
                            }
                        }
                        let look = watch.begin(now);
                        unseen = None;
                        let took = s(took);
                        now += took;
                        // Only what there is to try again can be passed over.
                        let came = if look == Look::Everything && came == Came::Untried {
                            Came::Left
                        } else {
                            came
                        };
                        let looked = Looked { came, took, of_age: of_age.map(s) };
                        let before = watch.retries_in(now);
                        watch.ended(now, looked);
                        last = Some((now, looked));
                        match came {
                            Came::Well => prop_assert_eq!(watch.retries_in(now), None),
                            Came::Untried => prop_assert_eq!(watch.retries_in(now), before),
                            Came::Left | Came::Barred => {
                                wait = watch.retries_in(now).expect("it is tried again");
                                prop_assert!(wait >= RHYTHM.first_wait && wait <= RHYTHM.most_wait);
                            }
                        }
                    }
                }
            }
        }
    }
}
