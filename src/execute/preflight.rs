//! Before the first byte: does the service take the key, and does it know the datasets?

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::Run;
use crate::client::Preflight;
use crate::event::Event;
use crate::model::{StopCause, Target};
use crate::pace::retry_after_wait;

/// Targets that are asked about; of further ones the uploads tell.
const ASKED: usize = 16;

/// How often a question is asked that fails: uploads may fare better, and will tell.
const FAILING_ASKED: u32 = 2;

/// How long an answer to a question is waited for.
const PATIENCE: Duration = Duration::from_secs(15);

/// Targets that are asked about at once, once the key is known to be good.
const AT_ONCE: usize = 4;

impl Run<'_> {
    /// Asks the service about the key first, then about each target. What it does not say, or has
    /// no endpoint for, the uploads will tell.
    pub(super) async fn preflight(&self) {
        let plan = self.parts.plan;
        let asks = |rule: &usize| plan.of_rule(*rule).any(|row| plan.asks_service(row));
        let rules = (0..plan.rules.len()).filter(asks);
        let target = |rule: usize| Arc::clone(&plan.rules[rule].target);
        let targets: BTreeSet<Arc<Target>> = rules.map(target).collect();
        let mut targets = targets.iter().take(ASKED);
        let Some(first) = targets.next() else {
            return;
        };
        self.ask_about(first).await;
        if self.answered.borrow().is_none() {
            return;
        }
        futures::stream::iter(targets)
            .for_each_concurrent(AT_ONCE, |target| self.ask_about(target))
            .await;
    }

    /// Asks what the first question was about once more; none where that was never answered, so
    /// that no answer says nothing. A run that is to end does not wait for it.
    pub(super) async fn ask(&self) -> Option<Preflight> {
        let target = self.answered.borrow().clone()?;
        tokio::select! {
            answer = self.parts.client.preflight(&target) => Some(answer),
            () = tokio::time::sleep(PATIENCE) => {
                Some(Preflight::Failing(format!("no answer in {} s", PATIENCE.as_secs())))
            }
            () = self.parts.stop.draining() => None,
        }
    }

    async fn ask_about(&self, target: &Arc<Target>) {
        let mut number = 0;
        while self.parts.stop.cause().is_none() {
            number += 1;
            let answer = tokio::select! {
                answer = self.parts.client.preflight(target) => answer,
                // Uploads have a longer patience, and will tell.
                () = tokio::time::sleep(PATIENCE) => return,
                () = self.parts.stop.draining() => return,
            };
            let (why, wait) = match &answer {
                Preflight::Ready | Preflight::Unsaid(_) => {
                    self.answered.borrow_mut().get_or_insert(Arc::clone(target));
                    return;
                }
                Preflight::Refused(why) => {
                    let cause = format!("the service refused the API key ({why})");
                    return self.stop(StopCause::Credentials(cause));
                }
                Preflight::UnknownDataset(why) => {
                    self.answered.borrow_mut().get_or_insert(Arc::clone(target));
                    let cause = format!("the service does not know {target} ({why})");
                    return self.refuse(target, StopCause::UnknownTarget(cause));
                }
                Preflight::Misconfigured(why) => {
                    let cause = format!("the service cannot be used at this address ({why})");
                    return self.stop(StopCause::Unavailable(cause));
                }
                Preflight::Busy(after) => {
                    let asked = after.map(|after| retry_after_wait(after, self.now()));
                    let wait = asked.unwrap_or_else(|| self.backoff(number));
                    ("the service is busy".to_owned(), wait)
                }
                Preflight::Failing(why) | Preflight::Unreached(why) => {
                    (why.clone(), self.backoff(number))
                }
            };
            let settings = &self.parts.settings;
            let most = match &answer {
                Preflight::Failing(_) => FAILING_ASKED,
                _ => settings.max_attempts.get(),
            };
            if number >= most || self.elapsed() + wait > settings.retry_for {
                if let Preflight::Unreached(why) = &answer {
                    let cause = format!("the service cannot be reached ({why})");
                    self.stop(StopCause::Unavailable(cause));
                }
                return;
            }
            (self.parts.events)(&Event::Paused { why, wait });
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.parts.stop.draining() => {}
            }
        }
    }

    fn backoff(&self, number: u32) -> Duration {
        let chance = self.parts.chance.fraction();
        self.parts.settings.backoff.wait(number, chance)
    }
}
