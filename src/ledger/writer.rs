//! The thread that owns a ledger, and group commit.

use std::fmt;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use super::{Entry, Ledger, LedgerError, State, Transition};

/// Most entries committed together, so that nobody waits for a group without end.
const GROUP_MAX: usize = 1000;

type Answer = oneshot::Sender<Result<(), LedgerError>>;

/// What is asked for, and who waits for it.
type Request = (Entry, Option<Answer>);

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

/// Asks a [`Writer`] for durable entries.
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
        self.write(Entry::Step(transition)).await
    }

    /// Returns when the entry is durable.
    ///
    /// # Errors
    ///
    /// As [`Handle::record`].
    pub async fn write(&self, entry: Entry) -> Result<(), LedgerError> {
        let (done, answer) = oneshot::channel();
        self.0
            .send((entry, Some(done)))
            .map_err(|_| LedgerError::Closed)?;
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    /// Asks for a transition that nobody waits for: it is durable before any later one is. If it
    /// cannot be written, neither can those.
    pub fn note(&self, transition: Transition) {
        // A closed ledger is noticed by the next one who waits.
        let _ = self.0.send((Entry::Step(transition), None));
    }
}

fn write_groups(mut ledger: Box<dyn Ledger>, requests: &Receiver<Request>) -> Box<dyn Ledger> {
    let mut broken: Option<LedgerError> = None;
    while let Ok((first, answer)) = requests.recv() {
        let (mut group, mut waiting) = (vec![first], vec![answer]);
        // Who asks for one entry is about to ask for others: whatever comes before the commit begins
        // need not wait for the next.
        thread::yield_now();
        while group.len() < GROUP_MAX
            && let Ok((entry, answer)) = requests.try_recv()
        {
            group.push(entry);
            waiting.push(answer);
        }
        if broken.is_none() {
            match ledger.write(&group) {
                Ok(()) => {
                    for answer in waiting {
                        tell(answer, Ok(()));
                    }
                    continue;
                }
                Err(error) if error.is_refusal() => {}
                Err(error) => broken = Some(error),
            }
        }
        // One by one: what an entry says may be refused alone. Once the ledger itself failed, the
        // gate stays shut; but what is known of files that are out already is still tried.
        for (entry, answer) in group.into_iter().zip(waiting) {
            let result = match &broken {
                Some(error) if opens_a_gate(&entry) => Err(error.clone()),
                _ => ledger.write(&[entry]),
            };
            if let Err(error) = &result
                && !error.is_refusal()
            {
                broken.get_or_insert_with(|| error.clone());
            }
            tell(answer, result);
        }
    }
    ledger
}

fn opens_a_gate(entry: &Entry) -> bool {
    matches!(entry, Entry::Step(step) if step.state == State::Committing)
}

fn tell(answer: Option<Answer>, result: Result<(), LedgerError>) {
    if let Some(answer) = answer {
        // A worker that was aborted no longer waits for its answer.
        let _ = answer.send(result);
    }
}
