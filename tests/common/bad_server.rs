//! A server that behaves as badly as a script tells it to, and remembers what reached it.

#![allow(
    dead_code,
    reason = "each test file uses its own part of these helpers"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The only path that takes uploads.
pub const UPLOAD_PATH: &str = "/v1/datasets/files/upload/";

/// No test waits so long: it ends one that would otherwise hang.
pub const SAFETY_NET: Duration = Duration::from_mins(1);

/// Request bodies up to this size are kept.
const KEPT_MAX: u64 = 1024 * 1024;

/// Something that one thread waits for and another one brings about, once.
#[derive(Debug, Default)]
pub struct Signal(Mutex<bool>, Condvar);

impl Signal {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn set(&self) {
        *locked(&self.0) = true;
        self.1.notify_all();
    }

    pub fn wait(&self) {
        let (set, _) = self
            .1
            .wait_timeout_while(locked(&self.0), SAFETY_NET, |set| !*set)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(*set, "what a test waited for did not happen");
    }
}

/// How much of a request's body is read before the server writes anything.
#[derive(Debug, Clone, Copy)]
enum Take {
    /// The multipart head only, which was read to know whose turn it is.
    Head,
    /// So many bytes behind it.
    Some(usize),
    /// As much as `Content-Length` promises.
    Whole,
}

/// What becomes of the connection once everything is written.
#[derive(Debug, Clone, Copy)]
enum Then {
    /// The next request may follow.
    KeepAlive,
    /// It is closed; with unread data in it, that is a reset.
    Close,
    /// It stays open, and nothing is read from it until the test is over.
    Hold,
    /// What is left of the body is read; then the next request may follow.
    ReadOn,
}

/// What the server does with one upload.
#[derive(Debug, Clone)]
pub struct Act {
    take: Take,
    write: Vec<u8>,
    then: Then,
}

impl Act {
    fn new(take: Take, write: impl Into<Vec<u8>>, then: Then) -> Self {
        Self {
            take,
            write: write.into(),
            then,
        }
    }

    /// Answers once the whole body is there.
    pub fn answer(answer: impl Into<Vec<u8>>) -> Self {
        Self::new(Take::Whole, answer, Then::KeepAlive)
    }

    /// Answers once the whole body is there, and closes the connection.
    pub fn answer_and_close(answer: impl Into<Vec<u8>>) -> Self {
        Self::new(Take::Whole, answer, Then::Close)
    }

    /// Answers once the whole body is there, and says nothing more.
    pub fn answer_and_stall(answer: impl Into<Vec<u8>>) -> Self {
        Self::new(Take::Whole, answer, Then::Hold)
    }

    /// Answers before the body, and reads no more of it: a body that does not fit the sockets'
    /// buffers can then not have been sent to its end.
    pub fn answer_early(answer: impl Into<Vec<u8>>) -> Self {
        Self::new(Take::Head, answer, Then::Hold)
    }

    /// Answers before the body, and reads it all the same.
    pub fn answer_and_read_on(answer: impl Into<Vec<u8>>) -> Self {
        Self::new(Take::Head, answer, Then::ReadOn)
    }

    /// Reads so much of the body, then goes away.
    pub fn break_off_after(bytes: usize) -> Self {
        Self::new(Take::Some(bytes), "", Then::Close)
    }

    /// Goes away with the multipart head read and the file unread.
    pub fn break_off() -> Self {
        Self::new(Take::Head, "", Then::Close)
    }

    /// Reads the whole body, then goes away.
    pub fn swallow() -> Self {
        Self::new(Take::Whole, "", Then::Close)
    }

    /// Stops reading amid the body, and never says anything.
    pub fn stall_amid_body() -> Self {
        Self::new(Take::Head, "", Then::Hold)
    }

    /// Stores the file as a healthy service does.
    pub fn store(upload: &Upload) -> Self {
        Self::answer(http(200, &[], &stored_json(&upload.id())))
    }
}

/// An answer with an exact length.
pub fn http(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\n\r\n{body}", body.len());
    text
}

/// What a healthy service says of a stored file.
pub fn stored_json(id: &str) -> String {
    format!(
        r#"{{"id": "{id}", "dataset": null, "name": null, "size": null, "creator": "c", "created_at": "2026-01-01T00:00:00Z"}}"#
    )
}

/// An upload as it reached the server.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Its number among all uploads, from 0.
    pub number: usize,
    /// The number of its connection, from 0.
    pub connection: usize,
    /// Its headers, by lowercase name.
    pub headers: BTreeMap<String, String>,
    /// The file's name in the form.
    pub file_name: String,
    /// What `Content-Length` promises.
    pub length: u64,
    /// Bytes of the body that came.
    pub received: u64,
    /// The body, where it is not large.
    pub body: Vec<u8>,
    /// When its head was there.
    pub at: Instant,
}

impl Upload {
    /// The id under which [`Act::store`] stores it.
    pub fn id(&self) -> String {
        format!("file-{}", self.number)
    }

    /// Whether the service could have stored it.
    pub fn is_whole(&self) -> bool {
        self.received == self.length
    }
}

type Script = dyn Fn(&Upload) -> Act + Send + Sync;

/// For requests that are no uploads: by path and query, with their number.
type OtherScript = dyn Fn(usize, &str) -> Act + Send + Sync;

struct Shared {
    script: Box<Script>,
    other: Box<OtherScript>,
    uploads: Mutex<Vec<Upload>>,
    /// Requests that are no uploads: method and path.
    others: Mutex<Vec<String>>,
    over: Signal,
}

impl Shared {
    /// Returns once the test is over.
    fn wait_for_end(&self) {
        let (over, _) = self
            .over
            .1
            .wait_timeout_while(locked(&self.over.0), SAFETY_NET, |over| !*over)
            .unwrap_or_else(PoisonError::into_inner);
        drop(over);
    }
}

fn not_found() -> Act {
    let headers = [("Connection", "close")];
    Act::answer_and_close(http(404, &headers, r#"{"detail": "Not found."}"#))
}

/// The server. Its threads end with it.
pub struct BadServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

impl BadServer {
    /// Serves uploads by a script on this port; 0 takes a free one. The script is asked once the
    /// multipart head of an upload is there; it may wait. The first connection is for what a run
    /// asks before its first upload; the next `shut` ones are closed as soon as they are there.
    pub fn start(
        port: u16,
        shut: usize,
        script: impl Fn(&Upload) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::run(port, shut, Box::new(script), Box::new(|_, _| not_found()))
    }

    /// Serves everything but uploads by a script, which is given the number of the request, from
    /// 0, and its path with its query.
    pub fn others_by(other: impl Fn(usize, &str) -> Act + Send + Sync + 'static) -> Self {
        Self::run(0, 0, Box::new(|_| not_found()), Box::new(other))
    }

    fn run(port: u16, shut: usize, script: Box<Script>, other: Box<OtherScript>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("a free port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            script,
            other,
            uploads: Mutex::default(),
            others: Mutex::default(),
            over: Signal::default(),
        });
        let accepting = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || accept(&listener, shut, &shared))
        };
        Self {
            address,
            shared,
            accepting: Some(accepting),
        }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Uploads begun so far.
    pub fn count(&self) -> usize {
        locked(&self.shared.uploads).len()
    }

    /// Requests so far that were no uploads.
    pub fn others(&self) -> Vec<String> {
        locked(&self.shared.others).clone()
    }

    /// Ends the server, once its clients have gone, and says what reached it.
    pub fn finish(mut self) -> Vec<Upload> {
        self.end().expect("no server thread panicked");
        locked(&self.shared.uploads).clone()
    }

    fn end(&mut self) -> thread::Result<()> {
        let Some(accepting) = self.accepting.take() else {
            return Ok(());
        };
        *locked(&self.shared.over.0) = true;
        self.shared.over.1.notify_all();
        // Only a connection wakes a thread that waits for one.
        drop(TcpStream::connect(self.address));
        accepting.join()
    }
}

impl Drop for BadServer {
    fn drop(&mut self) {
        // A test that failed has said why already.
        let _ = self.end();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn accept(listener: &TcpListener, shut: usize, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for number in 0.. {
        let Ok((stream, _)) = listener.accept() else {
            break;
        };
        if *locked(&shared.over.0) {
            break;
        }
        if (1..=shut).contains(&number) {
            continue;
        }
        let shared = Arc::clone(shared);
        threads.push(thread::spawn(move || {
            // A connection that breaks is what most scripts are about.
            let _ = serve(&shared, number, &stream);
        }));
    }
    for thread in threads {
        thread.join().expect("a connection's thread");
    }
}

fn serve(shared: &Shared, connection: usize, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SAFETY_NET))?;
    stream.set_nodelay(true)?;
    loop {
        let mut head = Vec::new();
        // Byte by byte, so that nothing behind it is taken out of the socket.
        while !head.ends_with(b"\r\n\r\n") {
            head.push(byte(stream)?);
        }
        let head = String::from_utf8(head).expect("a request's head is text");
        let (line, headers) = head.split_once("\r\n").expect("a request line");
        let headers: BTreeMap<String, String> = headers
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |length| {
            length.parse().expect("Content-Length is a number")
        });
        if line != format!("POST {UPLOAD_PATH} HTTP/1.1") {
            let number = {
                let mut others = locked(&shared.others);
                others.push(line.to_owned());
                others.len() - 1
            };
            io::copy(&mut stream.take(length), &mut io::sink())?;
            let path = line.split(' ').nth(1).unwrap_or_default();
            let act = (shared.other)(number, path);
            stream.write_all(&act.write)?;
            match act.then {
                Then::KeepAlive | Then::ReadOn => continue,
                Then::Close => return Ok(()),
                Then::Hold => {
                    shared.wait_for_end();
                    return Ok(());
                }
            }
        }
        let body = multipart_head(stream, length)?;
        let upload = {
            let mut uploads = locked(&shared.uploads);
            let upload = Upload {
                number: uploads.len(),
                connection,
                headers,
                file_name: file_name(&body),
                length,
                received: body.len() as u64,
                body,
                at: Instant::now(),
            };
            uploads.push(upload.clone());
            upload
        };
        let act = (shared.script)(&upload);
        take(shared, &upload, stream, act.take)?;
        stream.write_all(&act.write)?;
        match act.then {
            Then::KeepAlive => {}
            Then::ReadOn => take(shared, &upload, stream, Take::Whole)?,
            Then::Close => return Ok(()),
            Then::Hold => {
                shared.wait_for_end();
                // The client has gone: all that it ever sent can be counted now.
                stream.shutdown(Shutdown::Write)?;
                return take(shared, &upload, stream, Take::Whole);
            }
        }
    }
}

fn byte(mut stream: &TcpStream) -> io::Result<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte)?;
    Ok(byte[0])
}

/// All parts before the file's bytes.
fn multipart_head(stream: &TcpStream, length: u64) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut in_file_part = false;
    while !(in_file_part && head.ends_with(b"\r\n\r\n")) && (head.len() as u64) < length {
        head.push(byte(stream)?);
        in_file_part = in_file_part || head.ends_with(b"filename=\"");
    }
    Ok(head)
}

fn file_name(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    let name = text.split_once("filename=\"").map(|(_, rest)| rest);
    let name = name.and_then(|rest| rest.split_once('"'));
    name.map_or(String::new(), |(name, _)| name.to_owned())
}

/// Reads on in a body and counts, as far as is wanted.
fn take(shared: &Shared, upload: &Upload, mut stream: &TcpStream, wanted: Take) -> io::Result<()> {
    let mut left = match wanted {
        Take::Head => return Ok(()),
        Take::Some(bytes) => bytes,
        Take::Whole => usize::MAX,
    };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let missing = {
            let uploads = locked(&shared.uploads);
            let upload = &uploads[upload.number];
            usize::try_from(upload.length - upload.received).unwrap_or(usize::MAX)
        };
        let most = buffer.len().min(left).min(missing);
        if most == 0 {
            return Ok(());
        }
        let read = stream.read(&mut buffer[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= read;
        let mut uploads = locked(&shared.uploads);
        let upload = &mut uploads[upload.number];
        upload.received += read as u64;
        if upload.length <= KEPT_MAX {
            upload.body.extend_from_slice(&buffer[..read]);
        }
    }
}
