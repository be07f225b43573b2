//! Carries out a plan's uploads: bounded workers, one attempt after another, nothing lost.
//!
//! One failure never stops the batch. What stops it is written down once ([`StopLight`]) and every
//! file that was not reached says so.

mod attempt;
mod settle;
mod stop;
mod wire;

use std::cell::RefCell;
use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::client::{Client, Pause, Reach, Receipt, Retry, RetryLimit, Stop, Verdict};
use crate::event::Event;
use crate::ledger::{Handle, LedgerError, State, Transition};
use crate::model::{
    AttemptId, Clock, Digest, JobEnd, Outcome, RunId, StopCause, Tag, Target, count,
};
use crate::pace::{Backoff, retry_after_wait};
use crate::plan::{Decision, Plan, PlannedFile, Upload, UploadReason};
use crate::source::Roots;

use self::attempt::{Attempt, Attempted, WITHDRAWN, is_read_whole};
use self::settle::Stored;
pub use self::settle::{Doubts, Past};
pub use self::stop::StopLight;
use self::wire::{Order, Turn};

/// How a run is to be carried out.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Files on their way at once.
    pub concurrency: NonZeroU32,
    /// Attempts for one file.
    pub max_attempts: NonZeroU32,
    /// Waits between them.
    pub backoff: Backoff,
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
    pub plan: &'a Plan,
    /// To open files by.
    pub roots: &'a Roots,
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
        write!(f, "Parts({} files)", self.plan.files.len())
    }
}

/// Carries out all uploads of a plan, settles what can be settled of doubt, and says how each row
/// ended: one entry for each row of the plan, none for rows of which there is nothing to say.
pub async fn execute(parts: Parts<'_>) -> Vec<Option<JobEnd>> {
    let plan = parts.plan;
    let jobs: Vec<(usize, Upload<'_>)> = plan
        .files
        .iter()
        .enumerate()
        .filter_map(|(index, file)| Some((index, file.as_upload()?)))
        .collect();
    let total = parts.plan.tally(PlannedFile::is_upload);
    (parts.events)(&Event::Began {
        files: total.files,
        bytes: total.bytes,
    });
    let concurrency = usize::try_from(parts.settings.concurrency.get()).unwrap_or(1);
    let run = Run {
        wire: Semaphore::new(concurrency),
        ends: RefCell::new(vec![None; parts.plan.files.len()]),
        phases: RefCell::new(vec![Phase::Waiting; parts.plan.files.len()]),
        refused: RefCell::new(HashSet::new()),
        pause: RefCell::new(None),
        stored: RefCell::default(),
        released: RefCell::default(),
        key_refused: RefCell::default(),
        settled: RefCell::default(),
        parts,
    };
    let uploads =
        futures::stream::iter(&jobs).for_each_concurrent(run.in_hand(), |&(index, upload)| {
            let run = &run;
            async move {
                let standing = unsent(upload.file);
                let end = run.job(index, upload, Order::of(upload), standing).await;
                run.ended(index, upload, end);
            }
        });
    let work = run.settling(uploads);
    tokio::select! {
        () = work => {}
        () = run.parts.stop.aborted() => {}
    }
    run.close()
}

/// How far a job has come: what an abort leaves behind depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// No attempt is under way.
    Waiting,
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
    /// Turns on the wire: as many as files may be on their way at once.
    wire: Semaphore,
    ends: RefCell<Vec<Option<JobEnd>>>,
    phases: RefCell<Vec<Phase>>,
    /// Targets that the service refused (403, 404).
    refused: RefCell<HashSet<Arc<Target>>>,
    /// Until when nobody begins an attempt, because the service asked for it.
    pause: RefCell<Option<Instant>>,
    /// What this run stored.
    stored: RefCell<Stored>,
    /// Rows that this run opened the gate for, as long as a listed file may be theirs without anybody
    /// knowing ([`JobEnd::is_named`]).
    released: RefCell<BTreeSet<usize>>,
    /// What a listing said that did not accept the key.
    key_refused: RefCell<Option<String>>,
    /// Attempts whose doubt this run ended.
    settled: RefCell<HashSet<AttemptId>>,
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

/// What to do after an attempt.
enum Next {
    End(Outcome, Option<String>),
    /// Nothing was sent.
    Withdrawn,
    Again {
        why: String,
        wait: Duration,
    },
}

impl Run<'_> {
    fn ended(&self, index: usize, upload: Upload<'_>, end: JobEnd) {
        (self.parts.events)(&Event::Ended {
            rule: self.parts.plan.rules[upload.file.rule].name.clone(),
            path: upload.file.path.clone(),
            size: upload.stat.size,
            end: end.clone(),
        });
        self.keep(index, end);
    }

    fn keep(&self, index: usize, end: JobEnd) {
        if end.is_named() {
            self.released.borrow_mut().remove(&index);
        }
        self.ends.borrow_mut()[index] = Some(end);
        self.phases.borrow_mut()[index] = Phase::Waiting;
    }

    /// Gives every job that did not end its end: after an abort some are cut off in the middle.
    fn close(self) -> Vec<Option<JobEnd>> {
        let mut ends = self.ends.into_inner();
        let phases = self.phases.into_inner();
        for (index, phase) in phases.iter().enumerate() {
            if *phase == Phase::Waiting && !self.parts.plan.files[index].is_upload() {
                continue;
            }
            ends[index].get_or_insert_with(|| match phase {
                Phase::Waiting => unsent(&self.parts.plan.files[index]),
                Phase::Reading(reading) => reading.before.clone(),
                Phase::Started(end) => JobEnd {
                    outcome: Outcome::Failed,
                    reason: end
                        .reason
                        .clone()
                        .or(Some(JobEnd::CUT_BEFORE_SENT.to_owned())),
                    ..JobEnd::clone(end)
                },
                Phase::Released(end) => JobEnd {
                    outcome: Outcome::InDoubt,
                    reason: Some(JobEnd::CUT_BEFORE_ANSWER.to_owned()),
                    ..JobEnd::clone(end)
                },
            });
        }
        // Why is known only now: what comes to light at the end counts too.
        let causes = self.parts.stop.causes();
        let why: Vec<String> = causes.iter().map(ToString::to_string).collect();
        for end in ends.iter_mut().flatten() {
            if end.outcome == Outcome::NotAttempted {
                end.reason = Some(why.join("; "));
            }
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
    ) -> JobEnd {
        let file = upload.file;
        let target = &self.parts.plan.rules[file.rule].target;
        let mut end = standing;
        let (mut order, mut started, mut once_used) = (order, None, false);
        for number in 1..=self.parts.settings.max_attempts.get() {
            let turn = if order == Order::LedgerFirst {
                if self.is_hindered(target).await {
                    return end;
                }
                None
            } else {
                let turn = self.turn(target).await;
                if turn.is_none() {
                    return end;
                }
                turn
            };
            if let Order::GivingUp(earlier) = order
                && let Err(error) = self.abandon(earlier).await
            {
                if !error.is_refusal() {
                    self.stop(StopCause::Ledger(error.to_string()));
                }
                return end;
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
            let next = self.attempt(&attempt, turn, &mut end, &mut once_used).await;
            match next {
                Next::Withdrawn => return before,
                Next::End(outcome, reason) => {
                    end.outcome = outcome;
                    end.reason = reason;
                    return end;
                }
                Next::Again { why, wait } => {
                    (self.parts.events)(&Event::Retrying {
                        rule: self.parts.plan.rules[file.rule].name.clone(),
                        path: file.path.clone(),
                        attempt: number,
                        why: why.clone(),
                        wait,
                    });
                    end.reason = Some(why);
                    self.phases.borrow_mut()[index] = Phase::Started(Box::new(end.clone()));
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.parts.stop.draining() => {}
                    }
                }
            }
        }
        end
    }

    /// Makes one attempt and writes down how it ended.
    async fn attempt(
        &self,
        attempt: &Attempt<'_>,
        turn: Option<Turn<'_>>,
        end: &mut JobEnd,
        once_used: &mut bool,
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
        match verdict {
            Verdict::Stored(receipt) => {
                // The next one goes while this one's end is written down. After any other verdict
                // it first has to see what that means for all.
                drop(turn);
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
            Verdict::Retry(retry) => self.retry(attempt, end, retry, once_used).await,
        }
    }

    async fn stored(
        &self,
        attempt: &Attempt<'_>,
        end: &mut JobEnd,
        at: Timestamp,
        receipt: Receipt,
    ) -> Next {
        end.file_id.clone_from(&receipt.file_id);
        end.returned_name.clone_from(&receipt.name);
        end.returned_dataset.clone_from(&receipt.dataset_name);
        let reason = attempt.differences(&receipt);
        let step = Transition {
            file_id: receipt.file_id.clone(),
            http_status: end.http_status,
            returned_name: receipt.name.clone(),
            returned_dataset: receipt.dataset_name.clone(),
            reason: reason.clone(),
            ..attempt.step(State::Stored, at)
        };
        match self.parts.ledger.record(step).await {
            Ok(()) => {
                self.remember(attempt, &receipt);
                Next::End(Outcome::Stored, reason)
            }
            Err(error) => {
                let id = receipt
                    .file_id
                    .map_or("unknown".to_owned(), |id| id.to_string());
                let why = format!("stored with the id {id}, which could not be written down");
                self.ledger_broke(&error, Outcome::InDoubt, Some(why))
            }
        }
    }

    async fn write_end(
        &self,
        attempt: &Attempt<'_>,
        state: State,
        end: &JobEnd,
        why: String,
    ) -> Next {
        match self.write_step(attempt, state, end, &why).await {
            Ok(()) => Next::End(state.outcome(), Some(why)),
            Err(error) => self.ledger_broke(&error, state.outcome(), Some(why)),
        }
    }

    async fn write_step(
        &self,
        attempt: &Attempt<'_>,
        state: State,
        end: &JobEnd,
        why: &str,
    ) -> Result<(), LedgerError> {
        let step = Transition {
            http_status: end.http_status,
            reason: Some(why.to_owned()),
            ..attempt.step(state, end.finished.unwrap_or_else(|| self.now()))
        };
        self.parts.ledger.record(step).await
    }

    /// Without a ledger nothing more may be sent; what is known of this file is still said.
    fn ledger_broke(&self, error: &LedgerError, outcome: Outcome, why: Option<String>) -> Next {
        self.stop(StopCause::Ledger(error.to_string()));
        let why = why.map_or(error.to_string(), |why| format!("{why}; {error}"));
        Next::End(outcome, Some(why))
    }

    fn stop(&self, cause: StopCause) {
        if self.parts.stop.request(cause.clone()) {
            (self.parts.events)(&Event::Stopping(cause));
        }
    }

    async fn stopped(&self, attempt: &Attempt<'_>, end: &JobEnd, stop: Stop) -> Next {
        let target = attempt.target();
        let why = match stop {
            Stop::Credentials(why) => {
                let cause = format!("the service refused the API key ({why})");
                self.stop(StopCause::Credentials(cause));
                why
            }
            Stop::Misconfigured(why) => {
                let cause = format!("the service cannot be used at this address ({why})");
                self.stop(StopCause::Unavailable(cause));
                why
            }
            Stop::Forbidden(why) => {
                let cause = format!("the API key may not use {target} ({why})");
                self.refuse(target, StopCause::Credentials(cause));
                why
            }
            Stop::UnknownTarget(why) => {
                let cause = format!("the service does not know {target} ({why})");
                self.refuse(target, StopCause::UnknownTarget(cause));
                why
            }
        };
        self.write_end(attempt, State::Failed, end, why).await
    }

    /// One refused target leaves the others their chance; a second says it is not the target.
    fn refuse(&self, target: &Arc<Target>, cause: StopCause) {
        let mut refused = self.refused.borrow_mut();
        if !refused.insert(Arc::clone(target)) {
            return;
        }
        if refused.len() > 1 {
            self.stop(cause);
        } else if self.parts.stop.note(cause.clone()) {
            (self.parts.events)(&Event::TargetRefused(cause));
        }
    }

    async fn retry(
        &self,
        attempt: &Attempt<'_>,
        end: &JobEnd,
        retry: Retry,
        once_used: &mut bool,
    ) -> Next {
        let number = end.attempts;
        let spent = match retry.limit {
            RetryLimit::Once => std::mem::replace(once_used, true),
            RetryLimit::Attempts => false,
        };
        let last = number >= self.parts.settings.max_attempts.get();
        if last && retry.reach == Reach::Unreached {
            self.stop(StopCause::Unavailable(format!(
                "the service cannot be reached ({})",
                retry.why
            )));
        }
        if spent {
            return self
                .write_end(attempt, State::Rejected, end, retry.why)
                .await;
        }
        if last {
            let why = format!(
                "{} (gave up after {})",
                retry.why,
                count(usize::try_from(number).unwrap_or(usize::MAX), "attempt")
            );
            return self.write_end(attempt, State::Failed, end, why).await;
        }
        let written = self.write_step(attempt, State::Failed, end, &retry.why);
        if let Err(error) = written.await {
            return self.ledger_broke(&error, Outcome::Failed, Some(retry.why));
        }
        let backoff = self.parts.settings.backoff;
        let own = backoff.wait(number, self.parts.chance.fraction());
        let wait = match retry.pause {
            Pause::Own => own,
            Pause::Shared(after) => {
                let asked = after.map(|after| retry_after_wait(after, self.now()));
                let wait = asked.unwrap_or(own);
                self.pause_all(&retry.why, wait);
                // The jitter on top keeps the workers from coming back as one.
                asked.map_or(own, |asked| {
                    asked + backoff.wait(1, self.parts.chance.fraction())
                })
            }
        };
        Next::Again {
            why: retry.why,
            wait,
        }
    }

    /// An attempt is under way: how its row stood before says nothing any more, unless the file is
    /// still to be read.
    fn begin(&self, index: usize, upload: Upload<'_>, before: &JobEnd, end: &JobEnd) {
        self.ends.borrow_mut()[index] = None;
        self.phases.borrow_mut()[index] = if is_read_whole(upload.stat.size) {
            Phase::Reading(Box::new(Reading {
                before: before.clone(),
                end: end.clone(),
            }))
        } else {
            Phase::Started(Box::new(end.clone()))
        };
    }

    /// From now on an abort leaves this job in doubt.
    fn release(&self, index: usize, digest: Option<Digest>) {
        self.released.borrow_mut().insert(index);
        let phase = &mut self.phases.borrow_mut()[index];
        let end = match phase {
            Phase::Reading(reading) => &reading.end,
            Phase::Started(end) => end,
            Phase::Waiting | Phase::Released(_) => return,
        };
        *phase = Phase::Released(Box::new(JobEnd {
            digest,
            ..end.clone()
        }));
    }

    /// Nothing of the job was sent, although the gate was open.
    fn withdrawn(&self, index: usize) {
        self.released.borrow_mut().remove(&index);
        self.phases.borrow_mut()[index] = Phase::Waiting;
    }

    fn now(&self) -> Timestamp {
        self.parts.clock.now()
    }
}
