//! Stands between the tool and the sandbox, and loses answers as a test says.

#![allow(
    dead_code,
    reason = "each test file uses its own part of these helpers"
)]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// No test waits so long for a byte.
const SAFETY_NET: Duration = Duration::from_mins(1);

/// What becomes of one upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is stored, and the answer is lost.
    StoredUnanswered,
    /// It is stored, and the answer does not say under which id.
    StoredUnnamed,
    /// All of it is taken, nothing is stored, and no answer comes.
    LostUnanswered,
}

/// What the service does when its files are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// It lists them.
    Works,
    /// It has no such endpoint.
    Absent,
}

#[derive(Debug)]
struct Plan {
    upstream: SocketAddr,
    listing: Listing,
    /// Fates of uploads by a text in them, used up from the front.
    fates: Mutex<BTreeMap<String, Vec<Fate>>>,
    listed: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

/// The proxy; it ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    plan: Arc<Plan>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Before the sandbox at this address. Each text names the upload that has it in its body; its
    /// fates are those of its attempts in order, and what comes after them goes through.
    pub fn start(upstream: SocketAddr, listing: Listing, fates: &[(&str, &[Fate])]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let fates = fates
            .iter()
            .map(|(text, fates)| ((*text).to_owned(), fates.to_vec()));
        let plan = Arc::new(Plan {
            upstream,
            listing,
            fates: Mutex::new(fates.collect()),
            listed: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&plan);
        let thread = thread::spawn(move || {
            for client in listener.incoming() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), plan) = (client, Arc::clone(&shared)) else {
                    continue;
                };
                // A connection that breaks is what this is for.
                thread::spawn(move || {
                    let _ = serve(&plan, client);
                });
            }
        });
        Self {
            address,
            plan,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The listings that were asked for, by path and query.
    pub fn listed(&self) -> Vec<String> {
        let listed = self.plan.listed.lock();
        listed.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.plan.is_over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(plan: &Plan, mut client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(SAFETY_NET))?;
    while let Some((head, body)) = message(&mut client)? {
        let line = head.lines().next().unwrap_or_default().to_owned();
        if line.starts_with("GET ") {
            let mut listed = plan.listed.lock().unwrap_or_else(PoisonError::into_inner);
            let path = line.split(' ').nth(1).unwrap_or_default();
            if path.contains("/files/") {
                listed.push(path.to_owned());
            }
            if plan.listing == Listing::Absent {
                let page = "<html><title>Not Found</title></html>";
                let length = page.len();
                write!(
                    client,
                    "HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\
                     Content-Length: {length}\r\n\r\n{page}"
                )?;
                continue;
            }
        }
        let fate = fate(plan, &body);
        if fate == Some(Fate::LostUnanswered) {
            return client.shutdown(Shutdown::Both);
        }
        let mut upstream = TcpStream::connect(plan.upstream)?;
        upstream.set_read_timeout(Some(SAFETY_NET))?;
        upstream.write_all(head.as_bytes())?;
        upstream.write_all(&body)?;
        let Some((head, body)) = message(&mut upstream)? else {
            return client.shutdown(Shutdown::Both);
        };
        if fate == Some(Fate::StoredUnanswered) {
            return client.shutdown(Shutdown::Both);
        }
        if fate == Some(Fate::StoredUnnamed) {
            let body = r#"{"name": "x", "size": null, "creator": "c"}"#;
            let length = body.len();
            write!(
                client,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
            )?;
            continue;
        }
        client.write_all(head.as_bytes())?;
        client.write_all(&body)?;
    }
    Ok(())
}

fn fate(plan: &Plan, body: &[u8]) -> Option<Fate> {
    let mut fates = plan.fates.lock().unwrap_or_else(PoisonError::into_inner);
    let is_in = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
    let (_, left) = fates.iter_mut().find(|(text, _)| is_in(text))?;
    (!left.is_empty()).then(|| left.remove(0))
}

/// A head and, as long as its `Content-Length` says, a body; none at the connection's end.
fn message(from: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if from.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut body)?;
    Ok(Some((head, body)))
}
