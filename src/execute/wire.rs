//! Turns on the wire: how many files are on their way at once, what is ready behind them, and the
//! pause that the service asks for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::Instant;

use super::Run;
use super::attempt::is_read_whole;
use crate::event::Event;
use crate::model::{AttemptId, Target};
use crate::plan::{Decision, Upload, UploadReason};

/// For how many files on their way one more is read, written down and ready to leave, so that the
/// wire does not wait for the ledger. More would bring nothing (`benches/gate`), and what is in hand
/// is what a crash can leave in doubt. One at a time stays one at a time, in the plan's order.
const WIRE_FOR_ONE_READY: usize = 4;

/// What an attempt waits for first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order<'a> {
    /// The ledger: it is ready to leave when its turn on the wire comes. If the turn does not come,
    /// it is withdrawn, and the file's row is as it was planned.
    LedgerFirst,
    /// Its turn on the wire.
    WireFirst,
    /// Its turn on the wire, and then the end of this attempt's doubt: until then it is in doubt.
    GivingUp(&'a AttemptId),
}

/// A turn on the wire.
pub(super) type Turn<'a> = SemaphorePermit<'a>;

impl<'a> Order<'a> {
    /// A streamed file is written down while it is sent, and one that is to be sent a second time
    /// has a history that a withdrawal would hide.
    pub(super) fn of(upload: Upload<'a>) -> Self {
        match &upload.file.decision {
            Decision::Upload(UploadReason::Resend(earlier)) => Self::GivingUp(earlier),
            Decision::Upload(_) if is_read_whole(upload.stat.size) => Self::LedgerFirst,
            _ => Self::WireFirst,
        }
    }
}

impl Run<'_> {
    /// Attempts that may be under way at once: on the wire, and ready for it.
    pub(super) fn in_hand(&self) -> usize {
        let concurrency = self.parts.settings.concurrency.get();
        let concurrency = usize::try_from(concurrency).unwrap_or(1);
        concurrency.saturating_add(concurrency / WIRE_FOR_ONE_READY)
    }

    /// Waits for a turn on the wire; none where something keeps the attempt from beginning.
    pub(super) async fn turn(&self, target: &Arc<Target>) -> Option<Turn<'_>> {
        let turn = tokio::select! {
            turn = self.wire.acquire() => turn.ok()?,
            () = self.parts.stop.draining() => return None,
        };
        (!self.is_hindered(target).await).then_some(turn)
    }

    /// Waits out a shared pause; then says whether something keeps an attempt from beginning.
    pub(super) async fn is_hindered(&self, target: &Arc<Target>) -> bool {
        loop {
            if self.parts.stop.cause().is_some() || self.refused.borrow().contains(target) {
                return true;
            }
            let until = *self.pause.borrow();
            match until {
                Some(until) if until > Instant::now() => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = self.parts.stop.draining() => {}
                },
                _ => return false,
            }
        }
    }

    /// Lets nobody begin an attempt for a while, because the service asked for it.
    pub(super) fn pause_all(&self, why: &str, wait: Duration) {
        let until = Instant::now() + wait;
        let mut pause = self.pause.borrow_mut();
        if pause.is_none_or(|earlier| earlier < until) {
            *pause = Some(until);
            (self.parts.events)(&Event::Paused {
                why: why.to_owned(),
                wait,
            });
        }
    }
}
