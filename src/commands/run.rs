//! What a run takes from the outside world: time, chance, signals, a runtime.

use std::convert::Infallible;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{self, SignalKind};
use uuid::Uuid;

use crate::error::{Exit, Failure};
use crate::execute::{Chance, StopLight};
use crate::model::{AttemptId, Clock, Signal, StopCause};

/// The computer's clock.
#[derive(Debug)]
pub(super) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The operating system's randomness for identities, a fast one for jitter.
#[derive(Debug)]
pub(super) struct SystemChance;

impl Chance for SystemChance {
    fn attempt_id(&self) -> AttemptId {
        AttemptId::new(Uuid::now_v7().to_string())
    }

    fn fraction(&self) -> f64 {
        fastrand::f64()
    }

    fn boundary(&self) -> u128 {
        Uuid::new_v4().as_u128()
    }
}

/// A runtime takes so many pairs of descriptors, three of the six for signals.
const PAIRS: usize = 3;

/// One thread for all connections: more only cost CPU where files are small.
pub(super) fn runtime() -> Result<Runtime, Failure> {
    // Without descriptors for its signals the builder panics, so it is tried out first.
    (0..PAIRS)
        .map(|_| UnixStream::pair())
        .collect::<io::Result<Vec<_>>>()
        .and_then(|spare| {
            drop(spare);
            Builder::new_current_thread().enable_all().build()
        })
        .map_err(|error| Failure::new(Exit::Internal, format!("no runtime: {error}")))
}

/// The signals that end a run, from now on delivered here.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
}

/// Begins to listen for signals: what comes before anybody waits for it is not lost.
pub(super) fn signals(runtime: &Runtime) -> Result<Signals, Failure> {
    let _entered = runtime.enter();
    let listen = |kind| {
        unix::signal(kind)
            .map_err(|error| Failure::new(Exit::Internal, format!("no signals: {error}")))
    };
    Ok(Signals {
        interrupt: listen(SignalKind::interrupt())?,
        terminate: listen(SignalKind::terminate())?,
        hangup: listen(SignalKind::hangup())?,
    })
}

impl Signals {
    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.hangup.recv() => Signal::Hangup,
        }
    }

    /// Turns the first signal into a drain, and the second, or the end of the grace, into an
    /// abort. Never ends by itself: the run does, once it is told to.
    pub(super) async fn steer(
        mut self,
        stop: &StopLight,
        grace: Duration,
        tell: impl Fn(&str),
    ) -> Infallible {
        let signal = self.next().await;
        stop.request(StopCause::Interrupted(signal));
        tell(&format!(
            "{signal}: no new uploads; waiting up to {} s for those under way (once more to drop \
             them)",
            grace.as_secs()
        ));
        tokio::select! {
            signal = self.next() => tell(&format!("{signal}: dropping what is under way")),
            () = tokio::time::sleep(grace) => tell("dropping what is still under way"),
        }
        stop.abort();
        std::future::pending().await
    }
}
