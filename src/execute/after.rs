//! What follows from an attempt's verdict: for its file, for its target, for the run.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempt::Attempt;
use super::{Next, Once, Run, Tries};
use crate::client::{Pause, Reach, Receipt, Retry, RetryLimit, Stop, Verdict};
use crate::event::Event;
use crate::ledger::{LedgerError, State, Transition};
use crate::model::{JobEnd, Outcome, StopCause, Target, count};
use crate::pace::{Signal, retry_after_wait};

/// The status that tells of this file's upload, and not of the service.
const CONFLICT: u16 = 409;

impl Run<'_> {
    pub(super) async fn stored(
        &self,
        attempt: &Attempt<'_>,
        end: &mut JobEnd,
        at: Timestamp,
        receipt: Receipt,
    ) -> Next {
        end.file_id.clone_from(&receipt.file_id);
        end.returned_name.clone_from(&receipt.name);
        end.returned_dataset.clone_from(&receipt.dataset_name);
        let (difference, reason) = attempt.differences(&receipt);
        end.difference = difference;
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

    pub(super) async fn write_end(
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
    pub(super) fn ledger_broke(
        &self,
        error: &LedgerError,
        outcome: Outcome,
        why: Option<String>,
    ) -> Next {
        self.stop(StopCause::Ledger(error.to_string()));
        let why = why.map_or(error.to_string(), |why| format!("{why}; {error}"));
        Next::Unwritten(outcome, why)
    }

    pub(super) fn stop(&self, cause: StopCause) {
        if self.parts.stop.request(cause.clone()) {
            (self.parts.events)(&Event::Stopping(cause));
        }
    }

    pub(super) async fn stopped(&self, attempt: &Attempt<'_>, end: &JobEnd, stop: Stop) -> Next {
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
    pub(super) fn refuse(&self, target: &Arc<Target>, cause: StopCause) {
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

    pub(super) async fn retry(
        &self,
        attempt: &Attempt<'_>,
        end: &JobEnd,
        retry: Retry,
        tries: &mut Tries,
    ) -> Next {
        let number = end.attempts;
        let spent = match retry.limit {
            RetryLimit::Once => mem::replace(&mut tries.once, Once::Used) == Once::Used,
            RetryLimit::Attempts => false,
        };
        let wait = self.wait_before_retry(number, &retry.pause);
        let last = number >= self.parts.settings.max_attempts.get()
            || tries
                .began
                .is_some_and(|began| began.elapsed() + wait > self.parts.settings.retry_for);
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
        Next::Again {
            why: retry.why,
            wait,
        }
    }

    /// What an attempt's verdict tells the pace, and why.
    pub(super) fn signal<'v>(
        &self,
        verdict: &'v Verdict,
        status: Option<u16>,
        attempt: &Attempt<'_>,
        took: Duration,
    ) -> (Signal, &'v str) {
        match verdict {
            Verdict::Stored(_) => (Signal::good(attempt.size(), took), ""),
            // It says something of the file, the key or the target, not of the service.
            Verdict::Rejected(_) | Verdict::Stop(_) => (Signal::Good { took: None }, ""),
            _ if status == Some(CONFLICT) => (Signal::Good { took: None }, ""),
            Verdict::InDoubt(why) => (Signal::Failing, why),
            Verdict::Retry(retry) => {
                let signal = match (&retry.pause, retry.limit) {
                    (Pause::Shared(after), _) => Signal::Refused {
                        retry_after: after.map(|after| retry_after_wait(after, self.now())),
                    },
                    (Pause::Own, RetryLimit::Once) => Signal::Good { took: None },
                    (Pause::Own, RetryLimit::Attempts) => Signal::Failing,
                };
                (signal, &retry.why)
            }
        }
    }

    /// How long a file waits after its attempt of this number.
    fn wait_before_retry(&self, number: u32, pause: &Pause) -> Duration {
        let backoff = self.parts.settings.backoff;
        let chance = self.parts.chance.fraction();
        match pause {
            // The jitter on top keeps the workers from coming back as one.
            Pause::Shared(Some(after)) => {
                retry_after_wait(*after, self.now()) + backoff.wait(1, chance)
            }
            Pause::Own | Pause::Shared(None) => backoff.wait(number, chance),
        }
    }
}
