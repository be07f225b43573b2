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
    urgent: OnceLock<()>,
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

    /// Asks the run to drop everything, and whoever comes after it to begin nothing.
    pub fn hurry(&self) {
        let _ = self.urgent.set(());
        self.abort();
    }

    /// Whether nothing is to be begun even when the run is over.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.urgent.get().is_some()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Signal;

    #[test]
    fn files_that_are_not_reached_name_what_stopped_the_run_not_what_came_after() {
        let stop = StopLight::default();
        let target = StopCause::UnknownTarget("dataset d".to_owned());
        assert!(stop.note(target.clone()));
        assert_eq!(stop.cause(), None, "one refused target does not end a run");
        let signal = StopCause::Interrupted(Signal::Terminate);
        assert!(stop.request(signal.clone()));
        assert!(!stop.request(target.clone()), "it is no news");
        assert_eq!(stop.cause(), Some(signal.clone()));
        assert_eq!(stop.causes(), [target, signal]);
    }
}
