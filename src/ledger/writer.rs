//! The thread that owns a ledger, and group commit.

use std::cell::RefCell;
use std::fmt;
use std::mem;
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
    requests: Sender<Vec<Request>>,
    thread: JoinHandle<Box<dyn Ledger>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Writer")
    }
}

/// Asks a [`Writer`] for durable entries.
///
/// What is asked for in one turn of a runtime goes to the thread together, with [`Handle::send`]: a
/// thread that is woken for each entry costs more than the entry, and commits smaller groups.
#[derive(Debug)]
pub struct Handle {
    asked: RefCell<Vec<Request>>,
    thread: Sender<Vec<Request>>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The operating system has no thread to give.
    pub fn start(ledger: Box<dyn Ledger>) -> std::io::Result<Self> {
        let (requests, receiver) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || write_groups(ledger, &receiver))?;
        Ok(Self { requests, thread })
    }

    /// A handle for a worker.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle {
            asked: RefCell::default(),
            thread: self.requests.clone(),
        }
    }

    /// Waits until all that was asked for is written, and gives the ledger back. Every other
    /// handle must be gone.
    ///
    /// # Errors
    ///
    /// [`LedgerError::Closed`] if the thread died.
    pub fn finish(self) -> Result<Box<dyn Ledger>, LedgerError> {
        drop(self.requests);
        self.thread.join().map_err(|_| LedgerError::Closed)
    }
}

impl Handle {
    /// Returns when the transition is durable, which takes a [`Handle::send`].
    ///
    /// # Errors
    ///
    /// It is not durable. After a failure no gate opens again; ends of attempts are still tried.
    pub async fn record(&self, transition: Transition) -> Result<(), LedgerError> {
        self.write(Entry::Step(transition)).await
    }

    /// Returns when the entry is durable, which takes a [`Handle::send`].
    ///
    /// # Errors
    ///
    /// As [`Handle::record`].
    pub async fn write(&self, entry: Entry) -> Result<(), LedgerError> {
        let (done, answer) = oneshot::channel();
        self.asked.borrow_mut().push((entry, Some(done)));
        answer.await.map_err(|_| LedgerError::Closed)?
    }

    /// Asks for a transition that nobody waits for: it is durable before any later one is. If it
    /// cannot be written, neither can those.
    pub fn note(&self, transition: Transition) {
        self.asked
            .borrow_mut()
            .push((Entry::Step(transition), None));
    }

    /// Hands what was asked for to the thread. To be called at the end of each turn; dropping the
    /// handle does it a last time.
    pub fn send(&self) {
        let mut asked = self.asked.borrow_mut();
        if !asked.is_empty() {
            // The next turn will ask for about as much.
            let next = Vec::with_capacity(asked.len());
            let asked = mem::replace(&mut *asked, next);
            // A closed ledger is noticed by those who wait: their answers' senders are dropped.
            let _ = self.thread.send(asked);
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.send();
    }
}

fn write_groups(mut ledger: Box<dyn Ledger>, requests: &Receiver<Vec<Request>>) -> Box<dyn Ledger> {
    let mut broken: Option<LedgerError> = None;
    while let Ok(mut asked) = requests.recv() {
        // Whatever else was asked for by now need not wait for the next group.
        while asked.len() < GROUP_MAX
            && let Ok(more) = requests.try_recv()
        {
            asked.extend(more);
        }
        let (group, waiting): (Vec<Entry>, Vec<Option<Answer>>) = asked.into_iter().unzip();
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
