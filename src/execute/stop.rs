//! How a run is asked to end: in good order, or at once.

use std::sync::{Mutex, OnceLock};

use tokio_util::sync::CancellationToken;

use crate::model::StopCause;

/// Tells a run to begin nothing new (drain), or to drop everything (abort), and remembers why.
#[derive(Debug, Default)]
pub struct StopLight {
    drain: CancellationToken,
    abort: CancellationToken,
    causes: Mutex<Vec<StopCause>>,
    drain_cause: OnceLock<StopCause>,
}

impl StopLight {
    /// Asks the run to begin nothing new. True where this cause is news.
    pub fn request(&self, cause: StopCause) -> bool {
        let news = self.note(cause.clone());
        // The first one counts: later causes may come from what is still under way.
        let _ = self.drain_cause.set(cause);
        self.drain.cancel();
        news
    }

    /// Remembers a cause that does not end the run. True where it is news.
    pub fn note(&self, cause: StopCause) -> bool {
        let Ok(mut causes) = self.causes.lock() else {
            return false;
        };
        let news = !causes.contains(&cause);
        if news {
            causes.push(cause);
        }
        news
    }

    /// Asks the run to drop everything.
    pub fn abort(&self) {
        self.drain.cancel();
        self.abort.cancel();
    }

    /// Why the run is draining, if it is.
    #[must_use]
    pub fn cause(&self) -> Option<StopCause> {
        self.drain_cause.get().cloned()
    }

    /// All causes so far, in order.
    #[must_use]
    pub fn causes(&self) -> Vec<StopCause> {
        self.causes
            .lock()
            .map(|causes| causes.clone())
            .unwrap_or_default()
    }

    /// Returns once the run drains.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Returns once the run aborts.
    pub async fn aborted(&self) {
        self.abort.cancelled().await;
    }
}
