//! A request body that knows how much of it was handed over, and whose end can be withheld.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::{Notify, mpsc};

use crate::model::Delivery;

/// Chunks waiting between reader and connection. With chunks of 128 KiB an upload holds 1 MiB at the
/// most: one that is read, one that is withheld, these, and the four that hyper takes before it
/// writes.
const CHUNKS_WAITING: usize = 2;

/// How far a body's delivery has come; shared with the connection that takes it.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The connection took the body: it had sent the request's head.
    begun: Notify,
}

#[derive(Debug, Default)]
struct State {
    length: u64,
    handed: u64,
    ticks: u64,
    taken: Taken,
}

/// Whether the connection takes the body.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// It has not asked for any of it.
    #[default]
    NotYet,
    Begun,
    /// It gets no more of it.
    CutOff,
}

impl Progress {
    fn state(&self) -> MutexGuard<'_, State> {
        // The counters are whole whatever a panicking holder was about to do.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much the server can have seen. A body is handed over when the connection takes it, so
    /// this never claims less than the truth.
    #[must_use]
    pub fn delivery(&self) -> Delivery {
        self.state().delivery()
    }

    /// Lets no more of the body be taken, and says how much was: what is withheld now stays so.
    #[must_use]
    pub fn cut_off(&self) -> Delivery {
        let mut state = self.state();
        state.taken = match state.taken {
            Taken::NotYet => Taken::NotYet,
            Taken::Begun | Taken::CutOff => Taken::CutOff,
        };
        state.delivery()
    }

    /// A number that grows while anything moves.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.state().ticks
    }

    /// Says that something moved: a piece of the answer came.
    pub fn tick(&self) {
        self.state().ticks += 1;
    }
}

impl State {
    fn delivery(&self) -> Delivery {
        match self.taken {
            Taken::NotYet => Delivery::NotSent,
            _ if self.handed < self.length => Delivery::Incomplete,
            _ => Delivery::Complete,
        }
    }
}

/// A body of known length that takes its chunks from a [`Feeder`], or is one chunk.
pub struct Body {
    chunks: Chunks,
    progress: Progress,
}

enum Chunks {
    Whole(Option<Bytes>),
    Fed(mpsc::Receiver<Bytes>),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({:?})", self.progress)
    }
}

/// Feeds a [`Body`]. Dropping it before the last byte breaks the request off.
#[derive(Debug)]
pub struct Feeder {
    chunks: mpsc::Sender<Bytes>,
    progress: Progress,
}

/// How often a wait that is meant tells the watchdog so.
const HELD_TICK: Duration = Duration::from_millis(50);

async fn held(progress: &Progress, wait: Duration) {
    let until = tokio::time::Instant::now() + wait;
    while tokio::time::Instant::now() < until {
        progress.tick();
        let next = tokio::time::Instant::now() + HELD_TICK;
        tokio::time::sleep_until(next.min(until)).await;
    }
    progress.tick();
}

/// The connection no longer takes the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection no longer takes the body")]
pub struct HungUp;

impl Feeder {
    /// Hands over a chunk; waits while earlier ones are still waiting.
    ///
    /// # Errors
    ///
    /// [`HungUp`] where the request has ended.
    pub async fn send(&self, chunk: Bytes) -> Result<(), HungUp> {
        self.check()?;
        self.chunks.send(chunk).await.map_err(|_| HungUp)
    }

    /// Returns once the connection takes the body, which is when the request's head is on its way;
    /// it does not return where no connection comes about.
    pub async fn begun(&self) {
        let shared = &self.progress.0;
        while self.progress.state().taken == Taken::NotYet {
            // A notification that comes first is kept.
            shared.begun.notified().await;
        }
    }

    /// Waits while a budget holds the next piece back: that nothing moves is meant.
    pub async fn held_for(&self, wait: Duration) {
        held(&self.progress, wait).await;
    }

    /// Whether the body is still taken: if not, nobody need read or release any more of it.
    ///
    /// # Errors
    ///
    /// [`HungUp`] where the request has ended, or was answered before the body's end.
    pub fn check(&self) -> Result<(), HungUp> {
        if self.chunks.is_closed() || self.progress.state().taken == Taken::CutOff {
            return Err(HungUp);
        }
        Ok(())
    }
}

impl Body {
    /// A body whose bytes are all there. The gate must be open before it is sent.
    #[must_use]
    pub fn whole(bytes: Bytes) -> (Self, Progress) {
        let length = bytes.len() as u64;
        Self::new(Chunks::Whole(Some(bytes)), length)
    }

    /// A body of `length` bytes that a feeder hands over.
    #[must_use]
    pub fn fed(length: u64) -> (Self, Feeder, Progress) {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let (body, progress) = Self::new(Chunks::Fed(receiver), length);
        let feeder = Feeder {
            chunks: sender,
            progress: progress.clone(),
        };
        (body, feeder, progress)
    }

    fn new(chunks: Chunks, length: u64) -> (Self, Progress) {
        let progress = Progress::default();
        progress.state().length = length;
        let body = Self {
            chunks,
            progress: progress.clone(),
        };
        (body, progress)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        {
            let mut state = this.progress.state();
            if state.taken == Taken::NotYet {
                state.taken = Taken::Begun;
                state.ticks += 1;
                this.progress.0.begun.notify_one();
            }
        }
        loop {
            let chunk = match &mut this.chunks {
                Chunks::Whole(bytes) => bytes.take(),
                Chunks::Fed(receiver) => match receiver.poll_recv(context) {
                    Poll::Ready(chunk) => chunk,
                    Poll::Pending => return Poll::Pending,
                },
            };
            let mut state = this.progress.state();
            return match chunk {
                // Dropped: the connection stays open for the answer until the feeder is gone.
                Some(_) if state.taken == Taken::CutOff => continue,
                Some(chunk) => {
                    state.handed += chunk.len() as u64;
                    state.ticks += 1;
                    Poll::Ready(Some(Ok(Frame::data(chunk))))
                }
                None if state.handed == state.length => Poll::Ready(None),
                None => Poll::Ready(Some(Err(BrokenOff))),
            };
        }
    }

    fn is_end_stream(&self) -> bool {
        let state = self.progress.state();
        state.handed == state.length
    }

    fn size_hint(&self) -> SizeHint {
        let state = self.progress.state();
        SizeHint::with_exact(state.length - state.handed)
    }
}

/// The body was broken off on our side, before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upload was broken off before its end")]
pub struct BrokenOff;

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    fn poll(body: &mut Body) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        Pin::new(body)
            .poll_frame(&mut context)
            .map(|frame| frame.map(|f| f.map(|f| f.into_data().expect("data"))))
    }

    #[test]
    fn a_whole_body_is_not_sent_until_it_is_taken_and_then_complete() {
        let (mut body, progress) = Body::whole(Bytes::from_static(b"abc"));
        assert_eq!(body.size_hint().exact(), Some(3));
        assert_eq!(progress.delivery(), Delivery::NotSent);
        assert_eq!(
            poll(&mut body),
            Poll::Ready(Some(Ok(Bytes::from_static(b"abc"))))
        );
        assert_eq!(progress.delivery(), Delivery::Complete);
        assert_eq!(poll(&mut body), Poll::Ready(None));
    }

    #[tokio::test]
    async fn a_fed_body_is_incomplete_until_its_last_byte() {
        let (mut body, feeder, progress) = Body::fed(4);
        assert!(poll(&mut body).is_pending());
        assert_eq!(
            progress.delivery(),
            Delivery::Incomplete,
            "headers may be out"
        );
        feeder
            .send(Bytes::from_static(b"abc"))
            .await
            .expect("taken");
        assert!(poll(&mut body).is_ready());
        assert_eq!(progress.delivery(), Delivery::Incomplete);
        feeder.send(Bytes::from_static(b"d")).await.expect("taken");
        assert!(poll(&mut body).is_ready());
        assert_eq!(progress.delivery(), Delivery::Complete);
        assert!(body.is_end_stream());
    }

    #[tokio::test]
    async fn a_feeder_that_is_dropped_breaks_the_body_off() {
        let (mut body, feeder, progress) = Body::fed(4);
        feeder
            .send(Bytes::from_static(b"abc"))
            .await
            .expect("taken");
        drop(feeder);
        assert!(poll(&mut body).is_ready());
        assert_eq!(poll(&mut body), Poll::Ready(Some(Err(BrokenOff))));
        assert_eq!(progress.delivery(), Delivery::Incomplete);
    }

    #[tokio::test]
    async fn a_body_that_is_cut_off_never_lets_its_end_out() {
        let (mut body, feeder, progress) = Body::fed(4);
        feeder
            .send(Bytes::from_static(b"abc"))
            .await
            .expect("taken");
        assert!(poll(&mut body).is_ready());
        feeder.send(Bytes::from_static(b"d")).await.expect("taken");
        assert_eq!(progress.cut_off(), Delivery::Incomplete);
        assert_eq!(feeder.check(), Err(HungUp));
        assert!(poll(&mut body).is_pending(), "the connection stays open");
        drop(feeder);
        assert_eq!(poll(&mut body), Poll::Ready(Some(Err(BrokenOff))));
        assert_eq!(progress.delivery(), Delivery::Incomplete);
    }

    #[tokio::test]
    async fn a_feeder_learns_that_the_request_ended() {
        let (body, feeder, _) = Body::fed(4);
        drop(body);
        assert_eq!(feeder.send(Bytes::from_static(b"a")).await, Err(HungUp));
    }
}
