//! What a run takes from the outside world: time, chance, signals, a runtime.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::num::NonZeroU32;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::runtime::{self, Runtime};
use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::{Builder, Uuid};

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

    fn time_of_day(&self) -> Time {
        TimeZone::system().to_datetime(self.now()).time()
    }
}

/// The operating system's randomness for identities, a fast one for jitter.
#[derive(Debug)]
pub(super) struct SystemChance;

impl Chance for SystemChance {
    fn attempt_id(&self) -> AttemptId {
        let now = SystemClock.now().as_millisecond();
        let random: [u8; 16] = random();
        let mut chance = [0; 10];
        chance.copy_from_slice(&random[..10]);
        // The time leads, so that ids of one run lie together (RFC 9562 section 5.7).
        let id = Builder::from_unix_timestamp_millis(u64::try_from(now).unwrap_or(0), &chance);
        let mut text = Uuid::encode_buffer();
        AttemptId::new(&*id.into_uuid().hyphenated().encode_lower(&mut text))
    }

    fn fraction(&self) -> f64 {
        fastrand::f64()
    }

    fn boundary(&self) -> u128 {
        u128::from_ne_bytes(random())
    }
}

/// Random bytes that were drawn from the operating system and not given out yet.
struct Drawn {
    bytes: [u8; DRAWN_MAX],
    left: usize,
}

/// As many as the system gives at once in any case (getrandom(2)).
const DRAWN_MAX: usize = 256;

thread_local! {
    static DRAWN: RefCell<Drawn> = const { RefCell::new(Drawn { bytes: [0; DRAWN_MAX], left: 0 }) };
}

/// Sixteen of the operating system's random bytes, drawn many at a time: a system call for each
/// would cost more than the rest of an identity.
fn random() -> [u8; 16] {
    DRAWN.with_borrow_mut(|drawn| {
        const EACH: usize = 16;
        if drawn.left < EACH {
            let got = getrandom(&mut drawn.bytes, GetRandomFlags::empty());
            assert_eq!(got, Ok(DRAWN_MAX), "the operating system has random bytes");
            drawn.left = DRAWN_MAX;
        }
        drawn.left -= EACH;
        let mut random = [0; EACH];
        random.copy_from_slice(&drawn.bytes[drawn.left..][..EACH]);
        random
    })
}

/// A runtime takes so many pairs of descriptors, three of the six for signals.
const PAIRS: usize = 3;

/// One thread for all connections: with two, in a process each, 100,000 small files took 3 to 7 % less
/// time, and everything was there twice (`benches/PROFILE.md`).
pub(super) fn runtime() -> Result<Runtime, Failure> {
    // Without descriptors for its signals the builder panics, so it is tried out first.
    (0..PAIRS)
        .map(|_| UnixStream::pair())
        .collect::<io::Result<Vec<_>>>()
        .and_then(|spare| {
            drop(spare);
            runtime::Builder::new_current_thread().enable_all().build()
        })
        .map_err(|error| Failure::new(Exit::Internal, format!("no runtime: {error}")))
}

/// The signals that end a run, from now on delivered here.
pub(super) enum Signals {
    /// By the system.
    Own {
        interrupt: unix::Signal,
        terminate: unix::Signal,
        hangup: unix::Signal,
    },
    /// By whoever has them from the system.
    Told(UnboundedReceiver<Signal>),
}

/// Begins to listen for signals: what comes before anybody waits for it is not lost.
pub(super) fn signals(runtime: &Runtime) -> Result<Signals, Failure> {
    let _entered = runtime.enter();
    let listen = |kind| {
        unix::signal(kind)
            .map_err(|error| Failure::new(Exit::Internal, format!("no signals: {error}")))
    };
    Ok(Signals::Own {
        interrupt: listen(SignalKind::interrupt())?,
        terminate: listen(SignalKind::terminate())?,
        hangup: listen(SignalKind::hangup())?,
    })
}

/// By whom a run is told of signals.
#[derive(Debug)]
pub(super) enum Ears {
    /// By the system.
    Own,
    /// By whoever has them from the system.
    Told(UnboundedReceiver<Signal>),
}

impl Ears {
    /// Begins to listen.
    pub(super) fn open(self, runtime: &Runtime) -> Result<Signals, Failure> {
        match self {
            Self::Own => signals(runtime),
            Self::Told(from) => Ok(Signals::Told(from)),
        }
    }
}

/// From now on, being asked how far a run is (SIGUSR1) ends nothing, whether there is an answer yet
/// or not. The program keeps that to its end.
pub(super) fn survive_questions() {
    // Where that cannot be, as without descriptors, the run cannot be either, and says so itself.
    if let Ok(runtime) = runtime() {
        let _entered = runtime.enter();
        let _ = unix::signal(SignalKind::user_defined1());
    }
}

/// Answers whenever it is asked how far the run is (SIGUSR1). By itself, so that the uploads have
/// nothing to do with it.
pub(super) fn answer_questions(runtime: &Runtime, answer: impl Fn() + Send + 'static) {
    let _entered = runtime.enter();
    let Ok(mut asked) = unix::signal(SignalKind::user_defined1()) else {
        return;
    };
    runtime.spawn(async move {
        while asked.recv().await.is_some() {
            answer();
        }
    });
}

impl Signals {
    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Signal {
        match self {
            Self::Own {
                interrupt,
                terminate,
                hangup,
            } => tokio::select! {
                _ = interrupt.recv() => Signal::Interrupt,
                _ = terminate.recv() => Signal::Terminate,
                _ = hangup.recv() => Signal::Hangup,
            },
            Self::Told(from) => match from.recv().await {
                Some(signal) => signal,
                None => pending().await,
            },
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
            signal = self.next() => {
                tell(&format!("{signal}: dropping what is under way"));
                stop.hurry();
            }
            () = tokio::time::sleep(grace) => tell("dropping what is still under way"),
        }
        stop.abort();
        pending().await
    }
}

/// How long a run may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    /// In all.
    pub limit: Duration,
    /// From now on.
    pub left: Duration,
}

impl Deadline {
    /// Turns the deadline into a drain, and the end of the grace after it into an abort. Never ends
    /// by itself: the run does, once it is told to.
    pub(super) async fn steer(
        deadline: Option<Self>,
        stop: &StopLight,
        grace: Duration,
        tell: impl Fn(&str),
    ) -> Infallible {
        let Some(Self { limit, left }) = deadline else {
            return pending().await;
        };
        tokio::time::sleep(left).await;
        let cause = StopCause::Deadline(limit);
        tell(&format!(
            "stopping: {cause}: no new uploads; waiting up to {} s for those under way",
            grace.as_secs()
        ));
        stop.request(cause);
        tokio::time::sleep(grace).await;
        tell("dropping what is still under way");
        stop.abort();
        pending().await
    }
}

/// Open files and sockets that a run needs beside its uploads: ledger, reports, signals, walks.
const DESCRIPTORS_APART: u64 = 32;

/// How many of the wanted uploads can be under way with the open files that this process may have,
/// at so many for each; and a notice where that is fewer. Takes what the system allows first.
pub(super) fn within_file_limit(
    wanted: NonZeroU32,
    for_each: NonZeroU32,
) -> (NonZeroU32, Option<String>) {
    let mut limit = getrlimit(Resource::Nofile);
    let can_be_raised = match (limit.current, limit.maximum) {
        (Some(current), Some(maximum)) => current < maximum,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if can_be_raised {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            limit = raised;
        }
    }
    clamped(wanted, for_each, limit.current)
}

fn clamped(
    wanted: NonZeroU32,
    for_each: NonZeroU32,
    limit: Option<u64>,
) -> (NonZeroU32, Option<String>) {
    let Some(limit) = limit else {
        return (wanted, None);
    };
    let most = limit.saturating_sub(DESCRIPTORS_APART) / u64::from(for_each.get());
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let most = NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN);
    if wanted <= most {
        return (wanted, None);
    }
    let notice = format!(
        "notice: concurrency {most} instead of {wanted}: this process may have {limit} open files \
         (ulimit -n)"
    );
    (most, Some(notice))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrency_fits_the_open_files_that_a_process_may_have() {
        let number = |number| NonZeroU32::new(number).expect("not zero");
        for (wanted, limit, most) in [
            (8, Some(1024), 8),
            (1024, Some(1024), 330),
            (1024, Some(100), 22),
            (1024, Some(64), 10),
            (1024, Some(3), 1),
            (1024, None, 1024),
        ] {
            let (found, notice) = clamped(number(wanted), number(3), limit);
            assert_eq!(found.get(), most, "{wanted} {limit:?}");
            assert_eq!(notice.is_some(), most < wanted, "{notice:?}");
        }
    }
}
