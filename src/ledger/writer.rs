//! The thread that owns a ledger, and group commit.

use std::fmt;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::{Ledger, LedgerError, State, Transition};

/// Most transitions committed together, so that nobody waits for a group without end.
const GROUP_MAX: usize = 1000;

type Request = (Transition, oneshot::Sender<Result<(), LedgerError>>);

/// Owns a ledger on a thread of its own and commits what its handles ask for, in groups: while
/// one group is being made durable, the next gathers.
pub struct Writer {
    handle: Handle,
    thread: JoinHandle<Box<dyn Ledger>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

/// Asks a [`Writer`] for durable transitions.
#[derive(Debug, Clone)]
pub struct Handle(Sender<Request>);

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The operating system has no thread to give.
    pub fn start(ledger: Box<dyn Ledger>) -> std::io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || write_groups(ledger, &receiver))?;
        Ok(Self {
            handle: Handle(sender),
            thread,
        })
    }

    /// A handle for a worker.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits until all that was asked for is written, and gives the ledger back. Every other
    /// handle must be gone.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Closed`] if the thread died.
    pub fn finish(self) -> Result<Box<dyn Ledger>, LedgerError> {
        drop(self.handle);
        self.thread.join().map_err(|_| LedgerError::Closed)
    }
}

impl Handle {
    /// Returns when the transition is durable.
    ///
    /// # Errors
    ///
    /// It is not durable. After a failure no gate opens again; ends of attempts are still tried.
    pub async fn record(&self, transition: Transition) -> Result<(), LedgerError> {
        let (done, answer) = oneshot::channel();
        self.0
            .send((transition, done))
            .map_err(|_| LedgerError::Closed)?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }
}

fn write_groups(mut ledger: Box<dyn Ledger>, requests: &Receiver<Request>) -> Box<dyn Ledger> {
    let mut broken: Option<LedgerError> = None;
    while let Ok(first) = requests.recv() {
        let (mut group, mut waiting) = (vec![first.0], vec![first.1]);
        while group.len() < GROUP_MAX
            && let Ok((transition, done)) = requests.try_recv()
        {
            group.push(transition);
            waiting.push(done);
        }
        if broken.is_none() {
            match ledger.record(&group) {
                Ok(()) => {
                    for done in waiting {
                        tell(done, Ok(()));
                    }
                    continue;
                }
                Err(error) => broken = Some(error),
            }
        }
        // The gate stays shut from now on; but what is known of files that are out already is
        // still tried, one by one.
        for (step, done) in group.into_iter().zip(waiting) {
            let result = match &broken {
                Some(error) if step.state == State::Committing => Err(error.clone()),
                _ => ledger.record(&[step]),
            };
            tell(done, result);
        }
    }
    ledger
}

fn tell(done: oneshot::Sender<Result<(), LedgerError>>, result: Result<(), LedgerError>) {
    // A worker that was aborted no longer waits for its answer.
    let _ = done.send(result);
}
