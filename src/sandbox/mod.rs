//! The embedded server: compatible with the Roe AI dataset API as far as files and datasets go.
//!
//! It stands in for Django REST Framework behind gunicorn, oddities included, so that a rehearsal against it fails where
//! the real service would fail. It keeps what it stores in a folder that outlives it and prints nothing.

mod api;
mod django;
mod faults;
mod http;
mod multipart;
mod store;
#[cfg(test)]
mod tests;
mod upload;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use api::Api;
use faults::{End, Injector, Instead, Visit, silence};
use http::{Connection, NoHead, Sent};
use store::Store;

pub use api::DEFAULT_DATASET_ID;
pub use faults::{FAULT_KINDS, FaultCount, FaultKind, Faults, FaultsError, Injected, injected};
pub use store::{StoredFile, records};

const CONNECTIONS_MAX: usize = 1024;
/// How long requests under way may go on once the sandbox is stopped.
const STOP_GRACE: Duration = Duration::from_secs(2);
/// How long to wait when no connection can be accepted, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the sandbox is to be started.
#[derive(Clone)]
pub struct SandboxConfig {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The folder it stores in, created if missing.
    pub data: PathBuf,
    /// The one key it accepts.
    pub api_key: String,
    /// Datasets beside the default one, which always exists.
    pub datasets: Vec<SandboxDataset>,
    /// What becomes of empty files.
    pub empty_files: EmptyFiles,
    /// What goes wrong; by default nothing does.
    pub faults: Faults,
}

impl fmt::Debug for SandboxConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SandboxConfig")
            .field("listen", &self.listen)
            .field("data", &self.data)
            .field("datasets", &self.datasets)
            .field("empty_files", &self.empty_files)
            .field("faults", &self.faults)
            .finish_non_exhaustive()
    }
}

/// A dataset of the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxDataset {
    /// Its id, a UUID.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// What becomes of empty files. Which of the two the real service does is not documented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmptyFiles {
    /// They are stored like any other.
    Accept,
    /// They are answered 400, as the framework does unless told otherwise.
    Refuse,
}

/// What a sandbox has seen so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SandboxStats {
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose head arrived.
    pub requests: u64,
    /// Uploads stored.
    pub stored: u64,
    /// Uploads answered with a status from 400 to 499, those cut off among them.
    pub refused: u64,
    /// Uploads whose client hung up before the end of the body.
    pub cut_off: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
    stored: AtomicU64,
    refused: AtomicU64,
    cut_off: AtomicU64,
}

impl Counters {
    fn stored(&self) {
        self.stored.fetch_add(1, Ordering::Relaxed);
    }

    fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    fn cut_off(&self) {
        self.cut_off.fetch_add(1, Ordering::Relaxed);
    }
}

/// A running sandbox; stops when dropped.
#[derive(Debug)]
pub struct Sandbox {
    address: SocketAddr,
    counters: Arc<Counters>,
    faults: Arc<Injector>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Sandbox {
    /// Starts a sandbox on a thread of its own; it accepts connections when this returns.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, the folder cannot be used or is in use by another sandbox, or the id of a
    /// dataset is not a UUID.
    pub fn start(config: SandboxConfig) -> io::Result<Self> {
        let mut datasets = config.datasets;
        for dataset in &mut datasets {
            dataset.id = Uuid::parse_str(&dataset.id)
                .map_err(|error| {
                    let message = format!("dataset id {:?} is not a UUID: {error}", dataset.id);
                    io::Error::new(io::ErrorKind::InvalidInput, message)
                })?
                .to_string();
        }
        let listener = std::net::TcpListener::bind(config.listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let counters = Arc::new(Counters::default());
        let store = Store::open(&config.data)?;
        let faults = Arc::new(Injector::new(config.faults, &config.data)?);
        let api = Arc::new(Api::new(
            store,
            Arc::clone(&counters),
            config.empty_files,
            Arc::clone(&faults),
            config.api_key,
            datasets,
        ));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("sandbox".to_owned())
            .spawn(move || runtime.block_on(accept(listener, &api, stopped)))?;
        Ok(Self {
            address,
            counters,
            faults,
            stop,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has seen so far.
    #[must_use]
    pub fn stats(&self) -> SandboxStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SandboxStats {
            connections: read(&self.counters.connections),
            requests: read(&self.counters.requests),
            stored: read(&self.counters.stored),
            refused: read(&self.counters.refused),
            cut_off: read(&self.counters.cut_off),
        }
    }

    /// How often each entry of its fault plan was injected so far, in the plan's order.
    #[must_use]
    pub fn faults(&self) -> Vec<FaultCount> {
        self.faults.counts()
    }

    /// Stops it: no new request is read, those under way get two seconds to end.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            // A panic in there has nowhere to go from a drop.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, api: &Arc<Api>, mut stopped: watch::Receiver<bool>) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut outages = api.faults.outages();
    // One may be due from the start.
    outages.mark_changed();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = until(&mut stopped) => break,
            Ok(()) = outages.changed() => {
                let outage = *outages.borrow_and_update();
                if outage.number > 0 {
                    drop(listener.take());
                    tokio::select! {
                        () = until(&mut stopped) => break,
                        bound = bound_again(address, outage.span) => listener = Some(bound),
                    }
                }
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accepted(listener.as_ref()), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => {
                    api.counters.connections.fetch_add(1, Ordering::Relaxed);
                    let serving = serve(stream, Arc::clone(api), stopped.clone());
                    connections.spawn(serving);
                }
                Err(_) => sleep(ACCEPT_PAUSE).await,
            },
        }
    }
    let all = async { while connections.join_next().await.is_some() {} };
    let _ = timeout(STOP_GRACE, all).await;
    connections.shutdown().await;
}

async fn accepted(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// A listener at an address that was given up, after a while.
async fn bound_again(address: SocketAddr, span: Duration) -> TcpListener {
    sleep(span).await;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            // Any program's outgoing connection may have the port for a moment.
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Answers the requests of one connection until one side has enough.
async fn serve(stream: TcpStream, api: Arc<Api>, mut stopped: watch::Receiver<bool>) {
    // Small answers must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let mut connection = Connection::new(stream);
    let welcome = api.faults.welcome();
    match welcome.instead {
        None => {}
        Some(Instead::Reset) => {
            connection.end(End::Reset);
            return;
        }
        Some(Instead::Stall(span)) => {
            let heard = tokio::select! {
                heard = silence(&connection, span) => heard,
                () = until(&mut stopped) => return,
            };
            if heard.is_none() {
                return;
            }
        }
    }
    let mut outages = api.faults.outages();
    loop {
        let head = tokio::select! {
            biased;
            head = connection.head() => head,
            () = until(&mut stopped) => return,
            // A server that goes away lets no idle connection stay.
            Ok(()) = outages.changed() => return,
            () = idle(welcome.idle_max) => return,
        };
        let head = match head {
            Ok(head) => head,
            Err(NoHead::Gone) => return,
            Err(NoHead::Malformed) => {
                let sent = Sent {
                    request_id: &api::request_id(None),
                    closing: true,
                    without_body: false,
                };
                if connection.send(api::bad_request(), &sent).await.is_ok() {
                    linger(connection, stopped).await;
                }
                return;
            }
        };
        api.counters.requests.fetch_add(1, Ordering::Relaxed);
        let request_id = api::request_id(Some(&head));
        let mut visit = Visit::new(&api.faults, api::is_upload(&head), &request_id);
        let mut body = connection.body(&head);
        let answer = match visit.head(&body).await {
            Ok(()) => {
                let answer = api.answer(&head, &mut body, &request_id, &mut visit).await;
                visit.answer(answer)
            }
            Err(instead) => instead,
        };
        let read = body.is_read();
        let sent = Sent::after(&head, &request_id, read && !*stopped.borrow());
        let closing = sent.closing;
        if connection.send(answer, &sent).await.is_err() {
            return;
        }
        if !read {
            return linger(connection, stopped).await;
        }
        if closing {
            return;
        }
    }
}

/// Waits for the end of a connection's patience.
async fn idle(most: Option<Duration>) {
    match most {
        Some(most) => sleep(most).await,
        None => std::future::pending().await,
    }
}

async fn linger(connection: Connection, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        () = connection.linger() => {}
        () = until(&mut stopped) => {}
    }
}

/// Waits for the word to stop, or for the loss of whoever could give it.
async fn until(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}
