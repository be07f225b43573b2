//! Carries out a plan's uploads: bounded workers, one attempt after another, nothing lost.
//!
//! One failure never stops the batch. What stops it is written down once ([`StopLight`]) and every
//! file that was not reached says so.

mod after;
mod attempt;
mod bodies;
mod ends;
mod preflight;
mod settle;
mod stop;
mod stored;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::future::poll_fn;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;
use jiff::civil::Time;
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::time::Instant;

use crate::client::{Client, Verdict};
use crate::event::Event;
use crate::ledger::{Handle, State};
use crate::model::{
    AttemptId, Clock, Digest, FailureBudget, JobEnd, Outcome, RunId, StopCause, Tag, Target, count,
};
use crate::pace::{Backoff, Pace, PaceSettings, exceeded};
use crate::plan::{Action, Decision, Plan, PlannedFile, Upload, UploadReason};
use crate::source::{Buffers, Readers, Roots};

use self::attempt::{Attempt, Attempted, WITHDRAWN, is_read_whole};
use self::bodies::Bodies;
use self::ends::{Ended, Record, WrittenRows};
pub use self::ends::{Ends, RowEnd, Written};
pub use self::settle::{Doubts, Past};
pub use self::stop::StopLight;
use self::stored::Stored;
use self::wire::{Hand, Order, STREAMS_MAX, Turn};

/// How a run is to be carried out.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many uploads begin, and how fast they go.
    pub pace: PaceSettings,
    /// Attempts for one file.
    pub max_attempts: NonZeroU32,
    /// Waits between them.
    pub backoff: Backoff,
    /// How long after a file's first attempt another one may begin.
    pub retry_for: Duration,
    /// How many of the files to upload may fail before nothing new is begun.
    pub failure_budget: Option<FailureBudget>,
    /// Whether each attempt's id is planted in the metadata.
    pub tag: Tag,
}

/// Chance, handed in: identities and jitter.
pub trait Chance {
    /// A new attempt's id.
    fn attempt_id(&self) -> AttemptId;
    /// Uniform in 0..1.
    fn fraction(&self) -> f64;
    /// A multipart boundary's 128 bits.
    fn boundary(&self) -> u128;
}

/// Everything a run needs.
pub struct Parts<'a> {
    /// What to do.
    pub plan: &'a Plan<'a>,
    /// To open files by.
    pub roots: &'a Roots,
    /// To read small ones with.
    pub readers: &'a Readers,
    /// To send with.
    pub client: &'a Client,
    /// To write down what happens.
    pub ledger: Handle,
    /// The run's id.
    pub run: &'a RunId,
    /// The time.
    pub clock: &'a dyn Clock,
    /// Chance.
    pub chance: &'a dyn Chance,
    /// How it is stopped.
    pub stop: &'a StopLight,
    /// Who listens.
    pub events: &'a dyn Fn(&Event),
    /// What is done about doubt.
    pub doubts: Doubts<'a>,
    /// How.
    pub settings: Settings,
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parts({} files)", self.plan.len())
    }
}

/// Carries out all uploads of a plan, settles what can be settled of doubt, and says how each row
/// ended.
pub async fn execute(parts: Parts<'_>) -> Ends {
    let plan = parts.plan;
    let jobs = (0..plan.len()).filter(|index| plan.is_upload(*index));
    let total = parts.plan.tally(Action::Upload);
    (parts.events)(&Event::Began {
        files: total.files,
        bytes: total.bytes,
    });
    // To find out where the clock stands takes as long as to upload many a file.
    let time = if parts.settings.pace.follow_the_day() {
        parts.clock.time_of_day()
    } else {
        Time::midnight()
    };
    let pace = Pace::new(parts.settings.pace.clone(), time);
    let run = Run {
        began: Instant::now(),
        pace: RefCell::new(pace),
        door: Mutex::new(()),
        on_wire: Cell::new(0),
        hands: Mutex::new(()),
        in_hand: Cell::new(0),
        streams: Semaphore::new(STREAMS_MAX),
        buffers: Buffers::default(),
        bodies: Bodies::default(),
        news: Notify::new(),
        answered: RefCell::default(),
        failing: RefCell::default(),
        ends: RefCell::default(),
        phases: RefCell::default(),
        written: RefCell::default(),
        refused: RefCell::new(HashSet::new()),
        stored: RefCell::default(),
        released: RefCell::default(),
        key_refused: RefCell::default(),
        settled: RefCell::default(),
        planned: total.files as u64,
        failed: Cell::new(0),
        parts,
    };
    let jobs = RefCell::new(jobs);
    let worker = || async {
        loop {
            let next = jobs.borrow_mut().next();
            let Some(index) = next else {
                return;
            };
            let file = plan.file(index);
            let Some(upload) = file.as_upload() else {
                continue;
            };
            let standing = unsent(upload.file);
            let ended = run.job(index, upload, Order::of(upload), standing).await;
            run.ended(index, upload, ended);
        }
    };
    // Workers that go from file to file: a future for each file is memory to be had and given back,
    // four kilobytes of it.
    let workers = run.under_way_max().min(total.files);
    let workers: FuturesUnordered<_> = (0..workers).map(|_| worker()).collect();
    let uploads = workers.collect();
    let work = async {
        run.preflight().await;
        run.settling(uploads).await;
    };
    tokio::select! {
        // The last one hands on what the others asked for in this turn.
        biased;
        () = work => {}
        () = run.follow_the_day() => {}
        () = run.parts.stop.aborted() => {}
        () = poll_fn(|_| {
            run.parts.readers.send();
            run.parts.ledger.send();
            Poll::Pending
        }) => {}
    }
    run.close()
}

/// How far a job has come: what an abort leaves behind depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// A file that is read whole before any of it is sent is being read for an attempt.
    Reading(Box<Reading>),
    /// An attempt is under way, or another one is waited for: the row so far.
    Started(Box<JobEnd>),
    /// The gate is open for the attempt under way: the service may store the file.
    Released(Box<JobEnd>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reading {
    /// How the row stands without the attempt.
    before: JobEnd,
    /// The row so far.
    end: JobEnd,
}

struct Run<'a> {
    parts: Parts<'a>,
    /// When it began.
    began: Instant,
    /// Decides who begins, and when.
    pace: RefCell<Pace>,
    /// Whoever has it is the next to begin.
    door: Mutex<()>,
    /// Attempts on the wire.
    on_wire: Cell<usize>,
    /// Whoever has it is the next to be taken in hand.
    hands: Mutex<()>,
    /// Attempts on the wire, and ready for it.
    in_hand: Cell<usize>,
    /// Places for streamed files.
    streams: Semaphore,
    /// What streamed files are read into.
    buffers: Buffers,
    /// What small files are read into.
    bodies: Bodies,
    /// An attempt or a probe ended.
    news: Notify,
    /// What the service was first asked about and answered: what it is asked again after it failed.
    answered: RefCell<Option<Arc<Target>>>,
    /// What the service's last failure was.
    failing: RefCell<String>,
    /// Rows of which nobody else has all that there is to say.
    ends: RefCell<BTreeMap<usize, Box<JobEnd>>>,
    /// Rows that are under way.
    phases: RefCell<BTreeMap<usize, Phase>>,
    /// Rows of which the ledger has all that there is to say.
    written: RefCell<WrittenRows>,
    /// Targets that the service refused (403, 404).
    refused: RefCell<HashSet<Arc<Target>>>,
    /// What this run stored.
    stored: RefCell<Stored>,
    /// Rows that this run opened the gate for, as long as a listed file may be theirs without anybody
    /// knowing ([`JobEnd::is_named`]).
    released: RefCell<BTreeSet<usize>>,
    /// What a listing said that did not accept the key.
    key_refused: RefCell<Option<String>>,
    /// Attempts whose doubt this run ended.
    settled: RefCell<HashSet<AttemptId>>,
    /// Files to upload.
    planned: u64,
    /// Of them, those that failed so far in whatever way.
    failed: Cell<u64>,
}

/// How a row stands that is to be sent and was not.
fn unsent(file: &PlannedFile) -> JobEnd {
    match &file.decision {
        Decision::Upload(UploadReason::Resend(earlier)) => JobEnd {
            request_id: Some(earlier.clone()),
            ..JobEnd::without_attempt(Outcome::InDoubt, Some(file.decision.to_string()))
        },
        _ => JobEnd::without_attempt(Outcome::NotAttempted, None),
    }
}

/// A file's attempts in this run.
#[derive(Debug)]
struct Tries {
    /// When the first one began.
    began: Option<Instant>,
    /// Whether what may be tried again once was.
    once: Once,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Once {
    Left,
    Used,
}

impl Default for Tries {
    fn default() -> Self {
        Self {
            began: None,
            once: Once::Left,
        }
    }
}

/// What to do after an attempt.
enum Next {
    /// The ledger has it.
    End(Outcome, Option<String>),
    /// The ledger could not be written.
    Unwritten(Outcome, String),
    /// Nothing was sent.
    Withdrawn,
    Again {
        why: String,
        wait: Duration,
    },
}

impl Run<'_> {
    fn ended(&self, index: usize, upload: Upload<'_>, ended: Ended) {
        let Ended { end, record } = ended;
        self.count_failure(&end);
        (self.parts.events)(&Event::Ended {
            rule: self.parts.plan.rules[upload.file.rule].name.clone(),
            path: upload.file.path.clone(),
            size: upload.stat.size,
            end: end.clone(),
        });
        // Of a run that was stopped there may be millions of rows that nothing was sent of, and of
        // one that a service turned away as many that were refused.
        match (record, Written::of(&end)) {
            (Record::Plan, _) => {
                self.phases.borrow_mut().remove(&index);
            }
            (Record::Ledger, Some(written)) => self.leave_to_the_ledger(index, written),
            (Record::Ledger, None) | (Record::Nowhere, _) => self.keep(index, end),
        }
    }

    /// Ends the run once more failed than it may have.
    fn count_failure(&self, end: &JobEnd) {
        let Some(budget) = self.parts.settings.failure_budget else {
            return;
        };
        if end.attempts == 0 || exceeded(budget, self.failed.get(), self.planned) {
            return;
        }
        let failed = match end.outcome {
            Outcome::Failed | Outcome::Rejected | Outcome::InDoubt => self.failed.get() + 1,
            Outcome::Stored | Outcome::Skipped | Outcome::NotAttempted => return,
        };
        self.failed.set(failed);
        if exceeded(budget, failed, self.planned) {
            self.stop(StopCause::FailureBudget(format!(
                "{} of {} failed, more than the failure budget of {budget}",
                failed,
                count(usize::try_from(self.planned).unwrap_or(usize::MAX), "file"),
            )));
        }
    }

    fn keep(&self, index: usize, end: JobEnd) {
        if end.is_named() {
            self.released.borrow_mut().remove(&index);
        }
        self.ends.borrow_mut().insert(index, Box::new(end));
        self.phases.borrow_mut().remove(&index);
    }

    /// Lets go of what the ledger has of a job's end.
    fn leave_to_the_ledger(&self, index: usize, written: Written) {
        self.released.borrow_mut().remove(&index);
        self.ends.borrow_mut().remove(&index);
        self.phases.borrow_mut().remove(&index);
        self.written.borrow_mut().set(index, written);
    }

    /// Gives every job that did not end its end: after an abort some are cut off in the middle.
    fn close(self) -> Ends {
        // Why is known only now: what comes to light at the end counts too.
        let causes = self.parts.stop.causes();
        let why: Vec<String> = causes.iter().map(ToString::to_string).collect();
        let why = why.join("; ");
        let mut ends = Ends::new(self.written.into_inner());
        for (row, phase) in self.phases.into_inner() {
            match phase {
                Phase::Reading(reading) => {
                    if reading.before.outcome != Outcome::NotAttempted {
                        ends.tell(row, reading.before);
                    }
                }
                Phase::Started(mut end) => {
                    end.outcome = Outcome::Failed;
                    end.reason
                        .get_or_insert_with(|| JobEnd::CUT_BEFORE_SENT.to_owned());
                    ends.tell(row, end);
                }
                Phase::Released(mut end) => {
                    end.outcome = Outcome::InDoubt;
                    end.reason = Some(JobEnd::CUT_BEFORE_ANSWER.to_owned());
                    ends.tell(row, end);
                }
            }
        }
        for (row, mut end) in self.ends.into_inner() {
            if end.outcome == Outcome::NotAttempted {
                end.reason = Some(why.clone());
            }
            ends.tell(row, end);
        }
        ends
    }

    /// Sends a file, as often as it takes; `standing` is how its row stands before.
    async fn job(
        &self,
        index: usize,
        upload: Upload<'_>,
        order: Order<'_>,
        standing: JobEnd,
    ) -> Ended {
        let file = upload.file;
        let target = &self.parts.plan.rules[file.rule].target;
        let mut end = standing;
        let (mut order, mut started, mut tries) = (order, None, Tries::default());
        for number in 1..=self.parts.settings.max_attempts.get() {
            let Some(hand) = self.hand(target).await else {
                return Ended::before_its_turn(end);
            };
            let turn = if order == Order::LedgerFirst {
                None
            } else {
                let turn = self.turn(upload).await;
                if turn.is_none() {
                    return Ended::before_its_turn(end);
                }
                turn
            };
            if let Order::GivingUp(earlier) = order
                && let Err(error) = self.abandon(earlier).await
            {
                if !error.is_refusal() {
                    self.stop(StopCause::Ledger(error.to_string()));
                }
                return Ended::before_its_turn(end);
            }
            order = Order::WireFirst;
            let attempt = Attempt::new(self, index, upload, number, started);
            started = Some(attempt.started_at());
            let before = end;
            end = JobEnd {
                attempts: number,
                started,
                request_id: Some(attempt.id().clone()),
                ..JobEnd::without_attempt(Outcome::Failed, None)
            };
            self.begin(index, upload, &before, &end);
            let places = (hand, turn);
            let next = self.attempt(&attempt, places, &mut end, &mut tries).await;
            match next {
                Next::Withdrawn => return Ended::before_its_turn(before),
                Next::End(outcome, reason) => {
                    end.outcome = outcome;
                    end.reason = reason;
                    let record = Record::Ledger;
                    return Ended { end, record };
                }
                Next::Unwritten(outcome, why) => {
                    end.outcome = outcome;
                    end.reason = Some(why);
                    let record = Record::Nowhere;
                    return Ended { end, record };
                }
                Next::Again { why, wait } => {
                    (self.parts.events)(&Event::Retrying {
                        rule: self.parts.plan.rules[file.rule].name.clone(),
                        path: file.path.clone(),
                        attempt: number,
                        request: attempt.id().clone(),
                        why: why.clone(),
                        wait,
                    });
                    end.reason = Some(why);
                    let started = Phase::Started(Box::new(end.clone()));
                    self.phases.borrow_mut().insert(index, started);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.parts.stop.draining() => {}
                    }
                }
            }
        }
        Ended::before_its_turn(end)
    }

    /// Makes one attempt and writes down how it ended.
    async fn attempt(
        &self,
        attempt: &Attempt<'_>,
        (hand, turn): (Hand<'_>, Option<Turn<'_>>),
        end: &mut JobEnd,
        tries: &mut Tries,
    ) -> Next {
        let (attempted, turn) = attempt.make(turn).await;
        let now = self.now();
        end.finished = Some(now);
        end.digest = attempt.digest();
        let (verdict, status) = match attempted {
            Attempted::Judged(verdict, status) => (verdict, status),
            Attempted::Unreadable(error) => {
                let why = error.to_string();
                return self.write_end(attempt, State::Failed, end, why).await;
            }
            Attempted::GateShut(error) => return self.ledger_broke(&error, Outcome::Failed, None),
            Attempted::Withdrawn(Ok(())) => return Next::Withdrawn,
            // The ledger will go on saying that it may have left.
            Attempted::Withdrawn(Err(error)) => {
                return self.ledger_broke(&error, Outcome::InDoubt, Some(WITHDRAWN.to_owned()));
            }
        };
        end.http_status = status;
        if let Some(turn) = &turn {
            // A file that is ready before its turn has waited, and was not tried.
            tries
                .began
                .get_or_insert_with(|| Instant::now() - turn.took());
            let (signal, why) = self.signal(&verdict, status, attempt, turn.took());
            turn.tell(signal, why);
        }
        match verdict {
            Verdict::Stored(receipt) => {
                // The next one goes while this one's end is written down, which is asked for before
                // anybody else has a turn. After any other verdict it first has to see whether that
                // stops the run.
                drop((turn, hand));
                self.stored(attempt, end, now, receipt).await
            }
            Verdict::Rejected(why) => self.write_end(attempt, State::Rejected, end, why).await,
            Verdict::InDoubt(why) => {
                // A success before the end was sent: the gate was still shut, but the service may
                // have stored something. The ledger notes doubt only behind the gate.
                if !attempt.is_released()
                    && let Err(error) = attempt.release().await
                {
                    return self.ledger_broke(&error, Outcome::InDoubt, Some(why));
                }
                self.write_end(attempt, State::InDoubt, end, why).await
            }
            Verdict::Stop(stop) => self.stopped(attempt, end, stop).await,
            Verdict::Retry(retry) => self.retry(attempt, end, retry, tries).await,
        }
    }

    /// An attempt is under way: how its row stood before says nothing any more, unless the file is
    /// still to be read.
    fn begin(&self, index: usize, upload: Upload<'_>, before: &JobEnd, end: &JobEnd) {
        self.ends.borrow_mut().remove(&index);
        self.written.borrow_mut().unset(index);
        let phase = if is_read_whole(upload.stat.size) {
            Phase::Reading(Box::new(Reading {
                before: before.clone(),
                end: end.clone(),
            }))
        } else {
            Phase::Started(Box::new(end.clone()))
        };
        self.phases.borrow_mut().insert(index, phase);
    }

    /// From now on an abort leaves this job in doubt.
    fn release(&self, index: usize, digest: Option<Digest>) {
        self.released.borrow_mut().insert(index);
        let mut phases = self.phases.borrow_mut();
        let Some(phase) = phases.get_mut(&index) else {
            return;
        };
        let end = match phase {
            Phase::Reading(reading) => &reading.end,
            Phase::Started(end) => end,
            Phase::Released(_) => return,
        };
        *phase = Phase::Released(Box::new(JobEnd {
            digest,
            ..end.clone()
        }));
    }

    /// Nothing of the job was sent, although the gate was open.
    fn withdrawn(&self, index: usize) {
        self.released.borrow_mut().remove(&index);
        self.phases.borrow_mut().remove(&index);
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }
}
