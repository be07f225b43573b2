//! Doubt: files of earlier runs are looked up beside the uploads, those of this run after them.
//!
//! What the listing says for sure is written down and ends the doubt; what is not stored is sent
//! again; everything else stays as it is.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::attempt::Attempt;
use super::{Order, Phase, Run, unsent};
use crate::client::Receipt;
use crate::event::Event;
use crate::ledger::{self, Entry, Finding, LedgerError, Settlement, Settler};
use crate::model::{AttemptId, Digest, Doubt, FileId, InDoubt, JobEnd, Outcome, StopCause, Target};
use crate::plan::{Action, Decision, StoredBefore, Upload};
use crate::verify::{LocalFiles, Look, Parts, Sample, Verifier};

/// The wait before a page of a listing is asked for again.
const LISTING_BACKOFF: Duration = Duration::from_millis(500);

/// What is done about doubt.
#[derive(Clone, Copy)]
pub struct Doubts<'a> {
    /// How it is settled.
    pub policy: InDoubt,
    /// Every file that earlier runs left in doubt.
    pub earlier: &'a [Doubt],
    /// How far two looks that do not show a file must lie apart before it counts as not stored.
    pub settle: Duration,
    /// To read files by.
    pub files: &'a Arc<dyn LocalFiles>,
    /// What earlier runs stored.
    pub past: &'a dyn Past,
}

impl fmt::Debug for Doubts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Doubts({:?}, {})", self.policy, self.earlier.len())
    }
}

/// What earlier runs stored in a target.
pub trait Past {
    /// Makes what is known of a target ready.
    ///
    /// # Errors
    ///
    /// Why it cannot be known; then nothing can be verified.
    fn prepare(&self, target: &Target) -> Result<(), String>;

    /// Whether a file is known.
    fn has(&self, target: &Target, id: &FileId) -> bool;

    /// Attempts that stored their file under an id which nobody knows.
    fn unnamed(&self, target: &Target) -> Vec<Doubt>;

    /// A few files that are known.
    fn samples(&self, target: &Target) -> Vec<Sample>;
}

/// A file in doubt, and the rows of the plan that wait for its end.
struct Case {
    doubt: Doubt,
    rows: Vec<usize>,
    /// Each row as it stands while nothing is settled.
    before: Vec<JobEnd>,
    looked: Cell<Looked>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// Not in this run.
    NotYet,
    /// It was absent: another look may settle it.
    Again(jiff::Timestamp),
    /// Nothing was certain while uploads were under way.
    Unclear,
    /// The end of the doubt, or all that this run can say.
    Done,
    /// It is not stored, and can be sent again.
    Resend,
}

impl Run<'_> {
    /// Does the work, and settles doubt beside and after it.
    pub(super) async fn settling(&self, work: impl Future<Output = ()>) {
        self.work_and_settle(work).await;
        // Where a file was accepted it is the listing that cannot be had, not the key that is bad.
        if let Some(why) = self.key_refused.take()
            && self.stored.borrow().is_empty()
        {
            let cause = format!("the service refused the API key ({why})");
            self.parts.stop.note(StopCause::Credentials(cause));
        }
    }

    async fn work_and_settle(&self, work: impl Future<Output = ()>) {
        let doubts = self.parts.doubts;
        let samples = |target: &Target| self.samples(target);
        let known = |target: &Target, id: &FileId| self.is_known(target, id);
        let open = |target: &Target| self.open(target);
        let verifier = Verifier::new(Parts {
            client: self.parts.client,
            clock: self.parts.clock,
            settle: doubts.settle,
            backoff: LISTING_BACKOFF,
            files: Arc::clone(doubts.files),
            samples: &samples,
            known: &known,
            open: &open,
        });
        if doubts.policy != InDoubt::Verify {
            work.await;
            if doubts.policy == InDoubt::Resend && self.parts.stop.cause().is_none() {
                self.send_again().await;
            }
            return;
        }
        let mut cases = self.held();
        tokio::join!(work, self.look_at(&verifier, &cases));
        // What was unclear while files came and nothing was known may be clear now.
        for case in &cases {
            if case.looked.get() == Looked::Unclear {
                case.looked.set(Looked::NotYet);
            }
        }
        cases.extend(self.doubtful());
        verifier.begin_pass();
        self.look_at(&verifier, &cases).await;
        self.wait(&cases).await;
        verifier.begin_pass();
        self.look_at(&verifier, &cases).await;
        let absent = cases.iter().filter(|c| c.looked.get() == Looked::Resend);
        futures::stream::iter(absent)
            .for_each_concurrent(self.in_hand_max(), |case| {
                self.resend(case, Order::WireFirst)
            })
            .await;
    }

    /// Earlier runs' doubts, with the rows that wait for their end: none where the file has left the
    /// plan.
    fn held(&self) -> Vec<Case> {
        let plan = self.parts.plan;
        let mut rows: HashMap<AttemptId, Vec<usize>> = HashMap::new();
        for index in (0..plan.len()).filter(|row| plan.action(*row) == Action::Hold) {
            if let Decision::Hold(held) = plan.decision(index)
                && held.policy == InDoubt::Verify
            {
                rows.entry(held.attempt).or_default().push(index);
            }
        }
        let earlier = self.parts.doubts.earlier.iter();
        earlier
            .filter_map(|doubt| {
                let rows = rows.remove(&doubt.attempt).unwrap_or_default();
                if rows.is_empty() && !self.parts.plan.left_behind(doubt) {
                    return None;
                }
                let before = rows.iter().map(|&row| {
                    let why = plan.decision(row).to_string();
                    JobEnd {
                        request_id: Some(doubt.attempt.clone()),
                        ..JobEnd::without_attempt(Outcome::InDoubt, Some(why))
                    }
                });
                // Where the file was moved, its bytes lie where the plan has it now.
                let path = match rows.first() {
                    Some(&row) => plan.path(row),
                    None => doubt.path.clone(),
                };
                Some(Case {
                    doubt: Doubt {
                        path,
                        ..doubt.clone()
                    },
                    before: before.collect(),
                    rows,
                    looked: Cell::new(Looked::NotYet),
                })
            })
            .collect()
    }

    /// The rows that this run left in doubt.
    fn doubtful(&self) -> Vec<Case> {
        let ends = self.ends.borrow();
        let rows = ends.iter();
        let rows = rows.filter(|(_, end)| end.outcome == Outcome::InDoubt && end.attempts > 0);
        rows.filter_map(|(index, end)| {
            Some(Case {
                doubt: self.doubt(*index, end)?,
                rows: vec![*index],
                before: vec![JobEnd::clone(end)],
                looked: Cell::new(Looked::NotYet),
            })
        })
        .collect()
    }

    fn doubt(&self, index: usize, end: &JobEnd) -> Option<Doubt> {
        let file = self.parts.plan.file(index);
        let upload = file.sendable()?;
        let began = end.started?;
        Some(Doubt {
            attempt: end.request_id.clone()?,
            stream: self.parts.plan.manifest.clone(),
            target: (*self.parts.plan.rules[file.rule].target).clone(),
            path: file.path.clone(),
            remote_name: upload.sending.remote_name.as_str().to_owned(),
            stat: upload.stat,
            digest: end.digest,
            metadata: upload.sending.metadata.digest(),
            tag: self.parts.settings.tag,
            began,
            since: end.finished.unwrap_or(began),
            absent_since: None,
            reason: end.reason.clone(),
            last_look: None,
        })
    }

    /// Every attempt to a target that may have stored its file without anybody knowing.
    fn open(&self, target: &Target) -> Vec<Doubt> {
        let (ends, phases) = (self.ends.borrow(), self.phases.borrow());
        let settled = self.settled.borrow();
        let released = self.released.borrow();
        let own = released.iter().filter_map(|&index| {
            let end = match (ends.get(&index), phases.get(&index)) {
                (Some(end), _) if !end.is_named() && end.attempts > 0 => end,
                (None, Some(Phase::Released(end))) => end,
                _ => return None,
            };
            self.doubt(index, end)
        });
        let earlier = self.parts.doubts.earlier.iter();
        earlier
            .filter(|doubt| !settled.contains(&doubt.attempt))
            .cloned()
            .chain(own)
            .filter(|doubt| doubt.target == *target)
            .chain(self.parts.doubts.past.unnamed(target))
            .collect()
    }

    /// Looks at every case that a look can bring on.
    async fn look_at(&self, verifier: &Verifier<'_>, cases: &[Case]) {
        for case in cases {
            let due = match case.looked.get() {
                Looked::NotYet => true,
                Looked::Again(at) => at <= self.now(),
                Looked::Unclear | Looked::Done | Looked::Resend => false,
            };
            if due && self.parts.stop.cause().is_none() {
                let looked = self.look(verifier, case).await;
                case.looked.set(looked);
            }
        }
    }

    async fn look(&self, verifier: &Verifier<'_>, case: &Case) -> Looked {
        let mut doubt = case.doubt.clone();
        if let Looked::Again(again) = case.looked.get() {
            // The first look's time is what the second one is held against.
            doubt.absent_since = again.checked_sub(self.parts.doubts.settle).ok();
        }
        let look = match self.parts.doubts.past.prepare(&doubt.target) {
            Ok(()) => verifier.look(&doubt).await,
            Err(why) => Look::Held(why),
        };
        if case.rows.is_empty() && !matches!(look, Look::Stored { .. } | Look::KeyRefused(_)) {
            return self.left_behind(case, look).await;
        }
        match look {
            Look::Stored { id, how } => {
                match self.settle(case, Finding::Stored(id.clone()), &how).await {
                    Ok(at) => {
                        self.adopted(case, &id, &how, at).await;
                        Looked::Done
                    }
                    Err(error) => self.unsettled(case, &error),
                }
            }
            Look::NotStored { how } => match self.settle(case, Finding::NotStored, &how).await {
                Ok(at) => {
                    self.show(case, |before| JobEnd {
                        outcome: Outcome::Failed,
                        reason: Some(how.clone()),
                        digest: case.doubt.digest,
                        http_status: None,
                        finished: Some(at),
                        ..before.clone()
                    });
                    Looked::Resend
                }
                Err(error) => self.unsettled(case, &error),
            },
            Look::AbsentSince { since, again } => {
                let seen = format!("the file listing does not show it since {since:.0}");
                self.seen(case, Some(since), seen).await;
                Looked::Again(again)
            }
            Look::Held(why) => {
                self.seen(case, None, why).await;
                Looked::Unclear
            }
            Look::KeyRefused(why) => {
                self.seen(case, None, format!("the API key was refused ({why})"))
                    .await;
                self.key_refused.borrow_mut().get_or_insert(why);
                Looked::Unclear
            }
        }
    }

    /// A doubt whose file has left the plan: nobody can send it again, so that it is not stored is for
    /// a person to hear and to settle.
    async fn left_behind(&self, case: &Case, look: Look) -> Looked {
        let (absent_since, seen) = match look {
            Look::NotStored { how } => (case.doubt.absent_since, how),
            Look::AbsentSince { since, .. } => {
                let seen = format!("the file listing does not show it since {since:.0}");
                (Some(since), seen)
            }
            Look::Held(why) | Look::KeyRefused(why) => (None, why),
            Look::Stored { how, .. } => (None, how),
        };
        self.seen(case, absent_since, seen).await;
        Looked::Done
    }

    /// Gives an attempt up that may have stored its file.
    pub(super) async fn abandon(&self, attempt: &AttemptId) -> Result<(), LedgerError> {
        let settlement = Settlement {
            attempt: attempt.clone(),
            run: Some(self.parts.run.clone()),
            finding: Finding::Abandoned,
            at: self.now(),
            by: Settler::Policy,
            reason: "sent again, as `in_doubt: resend` says".to_owned(),
        };
        self.end_doubt(settlement).await
    }

    async fn end_doubt(&self, settlement: Settlement) -> Result<(), LedgerError> {
        let attempt = settlement.attempt.clone();
        self.parts.ledger.write(Entry::Settled(settlement)).await?;
        self.settled.borrow_mut().insert(attempt);
        Ok(())
    }

    /// Ends a doubt in the ledger.
    async fn settle(
        &self,
        case: &Case,
        finding: Finding,
        how: &str,
    ) -> Result<jiff::Timestamp, LedgerError> {
        let at = self.now();
        let settlement = Settlement {
            attempt: case.doubt.attempt.clone(),
            run: Some(self.parts.run.clone()),
            by: Settler::Listing,
            finding,
            at,
            reason: how.to_owned(),
        };
        self.end_doubt(settlement).await?;
        Ok(at)
    }

    fn unsettled(&self, case: &Case, error: &LedgerError) -> Looked {
        if !error.is_refusal() {
            self.stop(StopCause::Ledger(error.to_string()));
        }
        self.show(case, |before| {
            let mut end = before.clone();
            end.add_look(Some(&error.to_string()));
            end
        });
        Looked::Done
    }

    /// Notes what a look saw that settled nothing.
    async fn seen(&self, case: &Case, absent_since: Option<jiff::Timestamp>, seen: String) {
        let look = ledger::Look {
            attempt: case.doubt.attempt.clone(),
            absent_since,
            seen: seen.clone(),
        };
        if let Err(error) = self.parts.ledger.write(Entry::Looked(look)).await
            && !error.is_refusal()
        {
            self.stop(StopCause::Ledger(error.to_string()));
        }
        self.show(case, |before| {
            let mut end = before.clone();
            end.add_look(Some(&seen));
            end
        });
    }

    /// The rows of a file that was found stored. Where the file has changed since it was sent,
    /// what was found is the earlier version: the present one is sent.
    async fn adopted(&self, case: &Case, id: &FileId, how: &str, at: jiff::Timestamp) {
        if case.rows.is_empty() {
            (self.parts.events)(&Event::Found {
                path: case.doubt.path.clone(),
                request: case.doubt.attempt.clone(),
                id: id.clone(),
                how: how.to_owned(),
            });
        }
        for (&row, before) in case.rows.iter().zip(&case.before) {
            let file = self.parts.plan.file(row);
            if let Some(upload) = file.sendable()
                && self.parts.plan.rules[file.rule].sends_changes()
                && case.rows.len() == 1
                && self.has_changed(case, upload).await
            {
                // The present version is a file of its own: nothing of it is stored yet.
                let standing = unsent(&file);
                let ended = self.job(row, upload, Order::WireFirst, standing).await;
                self.set(row, ended.end);
                continue;
            }
            let end = JobEnd {
                outcome: Outcome::Stored,
                reason: Some(how.to_owned()),
                file_id: Some(id.clone()),
                digest: case.doubt.digest,
                http_status: None,
                finished: Some(at),
                ..before.clone()
            };
            self.set(row, end);
        }
    }

    async fn has_changed(&self, case: &Case, upload: Upload<'_>) -> bool {
        if upload.stat == case.doubt.stat {
            return false;
        }
        let roots = self.parts.roots.clone();
        let (root, relative) = (upload.file.root, upload.file.relative.clone());
        let read = tokio::task::spawn_blocking(move || -> Option<Digest> {
            roots.open(root, &relative).ok()?.digest().ok()
        });
        let found = read.await.ok().flatten();
        found.is_some() && found != case.doubt.digest
    }

    /// Waits until another look can settle what was absent, unless the run is to end.
    async fn wait(&self, cases: &[Case]) {
        let waiting: Vec<jiff::Timestamp> = cases
            .iter()
            .filter_map(|case| match case.looked.get() {
                Looked::Again(at) => Some(at),
                _ => None,
            })
            .collect();
        let Some(last) = waiting.iter().max() else {
            return;
        };
        let wait = Duration::try_from(last.duration_since(self.now())).unwrap_or_default();
        if self.parts.stop.cause().is_some() {
            return;
        }
        (self.parts.events)(&Event::Settling {
            files: waiting.len(),
            wait,
        });
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = self.parts.stop.draining() => {}
        }
    }

    /// Sends a file again whose earlier attempt is settled as not stored, or is to be given up. If
    /// its turn does not come, its row stays as it is.
    async fn resend(&self, case: &Case, order: Order<'_>) {
        let [row] = case.rows.as_slice() else {
            self.show(case, |before| JobEnd {
                outcome: Outcome::Failed,
                reason: Some(
                    "it is not stored; several rules send it to the same target: exclude it from \
                     all but one"
                        .to_owned(),
                ),
                ..before.clone()
            });
            return;
        };
        let file = self.parts.plan.file(*row);
        if let Decision::Hold(held) = &file.decision
            && held.stored == StoredBefore::Yes
        {
            // Whether what lies there now is news is for the next plan to say.
            self.show(case, |before| JobEnd {
                outcome: Outcome::Failed,
                reason: Some(
                    "that version is not stored; an earlier one is, and the next run compares"
                        .to_owned(),
                ),
                ..before.clone()
            });
            return;
        }
        let Some(upload) = file.sendable() else {
            return;
        };
        let standing = self.ends.borrow().get(row).map(|end| JobEnd::clone(end));
        let standing = standing.unwrap_or_else(|| case.before[0].clone());
        let ended = self.job(*row, upload, order, standing.clone()).await;
        if ended.end != standing {
            self.set(*row, ended.end);
        }
    }

    /// The policy `resend`: what this run left in doubt is sent once more.
    async fn send_again(&self) {
        let cases = self.doubtful();
        futures::stream::iter(&cases)
            .for_each_concurrent(self.in_hand_max(), |case| {
                self.resend(case, Order::GivingUp(&case.doubt.attempt))
            })
            .await;
    }

    fn show(&self, case: &Case, end: impl Fn(&JobEnd) -> JobEnd) {
        for (&row, before) in case.rows.iter().zip(&case.before) {
            self.set(row, end(before));
        }
    }

    /// How a row stands now.
    fn set(&self, row: usize, end: JobEnd) {
        let (rule, path) = (self.parts.plan.rule(row), self.parts.plan.path(row));
        (self.parts.events)(&Event::Settled {
            rule: self.parts.plan.rules[rule].name.clone(),
            path,
            end: end.clone(),
        });
        self.keep(row, end);
    }

    /// Keeps what an attempt stored, to learn from it.
    pub(super) fn remember(&self, attempt: &Attempt<'_>, receipt: &Receipt) {
        let (Some(id), Some(digest)) = (&receipt.file_id, attempt.digest()) else {
            return;
        };
        let mut stored = self.stored.borrow_mut();
        let there = stored.at(attempt.target(), self.parts.plan);
        there.ids.insert(id);
        if there.wants_a_sample(attempt.size()) {
            there.samples.extend(attempt.sample(id, digest));
        }
    }

    fn samples(&self, target: &Target) -> Vec<Sample> {
        let stored = self.stored.borrow();
        let own = stored.samples(target).to_vec();
        let earlier = self.parts.doubts.past.samples(target);
        own.into_iter().chain(earlier).collect()
    }

    fn is_known(&self, target: &Target, id: &FileId) -> bool {
        self.stored.borrow().has(target, id) || self.parts.doubts.past.has(target, id)
    }
}
