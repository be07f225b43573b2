//! HTTP/1.1 on one connection: reads heads, hands out bodies, writes answers.
//!
//! Written by hand, because the sandbox must answer before a body is read, see how the body was framed, and notice when
//! the client hangs up halfway; a framework hides all three.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::django::hex_byte;
use super::faults::{End, Manner};

const HEAD_BYTES_MAX: usize = 32 * 1024;
const HEADERS_MAX: usize = 100;
const CHUNK_BYTES: usize = 64 * 1024;
const READ_STALL_MAX: Duration = Duration::from_mins(1);
const WRITE_STALL_MAX: Duration = Duration::from_mins(1);
/// How long, and for how many bytes, a client may go on sending after it was answered early.
const LINGER_MAX: Duration = Duration::from_secs(10);
const LINGER_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How often to look whether a client that is not read from has left.
const GONE_PAUSE: Duration = Duration::from_millis(10);

/// How the body of a request is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length; 0 when there is no body.
    Length(u64),
    /// By chunks, which the application behind gunicorn never sees.
    Chunked,
}

/// The head of a request.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) method: String,
    /// The path as sent, still percent-encoded.
    pub(super) path: String,
    /// What follows the `?`, as sent.
    pub(super) query: String,
    pub(super) framing: Framing,
    keep_alive: bool,
    expects_continue: bool,
    headers: Vec<(String, String)>,
}

impl Head {
    /// The value of a header, given in lower case; of several the first.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(key, _)| key == name);
        found.next().map(|(_, value)| value.as_str())
    }

    /// How long its body is, where it is delimited by that.
    fn length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(length) => Some(length),
            Framing::Chunked => None,
        }
    }

    /// The last value of a query parameter, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        let pairs = self.query.split('&');
        pairs
            .filter_map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                (form_decode(key) == name).then(|| form_decode(value))
            })
            .next_back()
    }

    /// Reads the bytes up to the blank line; `None` when they are no request.
    fn parse(bytes: &[u8]) -> Option<Self> {
        // As WSGI does: every byte is a character.
        let text: String = bytes.iter().copied().map(char::from).collect();
        let mut lines = text.split("\r\n");
        let mut request = lines.next()?.split(' ');
        let (method, target, version) = (request.next()?, request.next()?, request.next()?);
        if method.is_empty() || !method.bytes().all(is_token) || request.next().is_some() {
            return None;
        }
        let persistent = match version {
            "HTTP/1.1" => true,
            "HTTP/1.0" => false,
            _ => return None,
        };
        let target = match target.strip_prefix("http://") {
            Some(absolute) => absolute.find('/').map_or("/", |at| &absolute[at..]),
            None => target,
        };
        if !target.starts_with('/') || !target.bytes().all(|b| b.is_ascii_graphic()) {
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));

        let mut headers = Vec::new();
        for line in lines {
            let (name, value) = line.split_once(':')?;
            let value = value.trim_matches([' ', '\t']);
            if name.is_empty() || !name.bytes().all(is_token) || value.contains(['\r', '\n', '\0'])
            {
                return None;
            }
            if headers.len() == HEADERS_MAX {
                return None;
            }
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut head = Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            framing: Framing::Length(0),
            keep_alive: persistent,
            expects_continue: false,
            headers,
        };
        head.framing = head.read_framing()?;
        head.expects_continue = head
            .header("expect")
            .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
        if let Some(value) = head.header("connection") {
            let value = value.to_ascii_lowercase();
            head.keep_alive = if persistent {
                !value.contains("close")
            } else {
                value.contains("keep-alive")
            };
        }
        Some(head)
    }

    /// How the body is delimited; `None` when that is in doubt, for then the next request would be too.
    fn read_framing(&self) -> Option<Framing> {
        let mut lengths = self.headers.iter().filter(|(k, _)| k == "content-length");
        let length = lengths.next().map(|(_, value)| value.as_str());
        if lengths.any(|(_, other)| Some(other.as_str()) != length) {
            return None;
        }
        match (self.header("transfer-encoding"), length) {
            (Some(coding), None) => coding
                .eq_ignore_ascii_case("chunked")
                .then_some(Framing::Chunked),
            (Some(_), Some(_)) => None,
            (None, None) => Some(Framing::Length(0)),
            (None, Some(digits)) => {
                let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
                let number = plain.then(|| digits.parse().ok()).flatten();
                number.map(Framing::Length)
            }
        }
    }
}

/// An answer on its way out.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) payload: Payload,
    pub(super) manner: Manner,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Payload {
    Bytes(Vec<u8>),
    File { file: File, length: u64 },
}

impl Payload {
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { length, .. } => *length,
        }
    }
}

impl Answer {
    /// An answer with a body of this content type.
    pub(super) fn new(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", content_type.to_owned())],
            payload: Payload::Bytes(body),
            manner: Manner::Plain,
        }
    }

    /// No answer at all.
    pub(super) fn withheld(end: End) -> Self {
        Self::new(0, "text/plain", Vec::new()).going(Manner::Withheld(end))
    }

    /// Sends it in another manner.
    pub(super) fn going(mut self, manner: Manner) -> Self {
        self.manner = manner;
        self
    }

    /// Its body, when that is in memory.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match &self.payload {
            Payload::Bytes(bytes) => Some(bytes),
            Payload::File { .. } => None,
        }
    }

    /// Adds a header; the value must be free of control characters.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// One connection, with what was read from it but not used.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

/// What came instead of a request.
#[derive(Debug)]
pub(super) enum NoHead {
    /// The client is gone, or silent for too long.
    Gone,
    /// It sent something that is no request.
    Malformed,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    /// Reads the head of the next request.
    pub(super) async fn head(&mut self) -> Result<Head, NoHead> {
        let mut searched = 0_usize;
        loop {
            let from = searched.saturating_sub(3);
            let blank = self.buffer[from..]
                .windows(4)
                .position(|w| w == b"\r\n\r\n");
            if let Some(at) = blank {
                let bytes = self.buffer.split_to(from + at);
                self.buffer.advance(4);
                let head = Some(bytes).filter(|bytes| bytes.len() <= HEAD_BYTES_MAX);
                return head
                    .and_then(|bytes| Head::parse(&bytes))
                    .ok_or(NoHead::Malformed);
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(NoHead::Malformed);
            }
            searched = self.buffer.len();
            if self.fill().await.map_err(|_| NoHead::Gone)? == 0 {
                return Err(NoHead::Gone);
            }
        }
    }

    /// The body that follows a head.
    pub(super) fn body(&mut self, head: &Head) -> Body<'_> {
        Body {
            owes_continue: head.expects_continue,
            unread: head.length(),
            length: head.length().unwrap_or(0),
            connection: self,
        }
    }

    /// Sends an answer; an error when the connection is over.
    pub(super) async fn send(&mut self, answer: Answer, head: &Sent<'_>) -> io::Result<()> {
        if answer.manner != Manner::Plain {
            return self.send_oddly(answer, head).await;
        }
        let length = answer.payload.length();
        let mut bytes = head_text(&answer, length, head).into_bytes();
        match answer.payload {
            _ if head.without_body => self.write(&bytes).await,
            Payload::Bytes(body) => {
                bytes.extend_from_slice(&body);
                self.write(&bytes).await
            }
            Payload::File { mut file, length } => {
                self.write(&bytes).await?;
                self.write_file(&mut file, length).await
            }
        }
    }

    /// Makes the connection end so when it is dropped.
    pub(super) fn end(&self, end: End) -> io::Error {
        if end == End::Reset {
            // What cannot be reset is closed.
            let _ = self.stream.set_zero_linger();
        }
        io::ErrorKind::ConnectionAborted.into()
    }

    /// Waits for the client's leaving without reading what it sends.
    pub(super) async fn until_gone(&self) {
        while let Ok(ready) = self.stream.ready(Interest::READABLE).await {
            if ready.is_read_closed() {
                return;
            }
            sleep(GONE_PAUSE).await;
        }
    }

    async fn write_file(&mut self, file: &mut File, length: u64) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
            file.read_exact(&mut chunk[..want])?;
            self.write(&chunk[..want]).await?;
            left -= want as u64;
        }
        Ok(())
    }

    /// Lets a client that was answered early finish or notice: closing at once would reset the connection, and the
    /// reset would throw the answer away before the client reads it.
    pub(super) async fn linger(mut self) {
        let deadline = Instant::now() + LINGER_MAX;
        let _ = self.stream.shutdown().await;
        let mut drained = self.buffer.len();
        while drained < LINGER_BYTES_MAX {
            self.buffer.clear();
            match timeout_at(deadline, self.fill()).await {
                Ok(Ok(count)) if count > 0 => drained += count,
                _ => return,
            }
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(WRITE_STALL_MAX, self.stream.write_all(bytes)).await?
    }

    async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.reserve(CHUNK_BYTES);
        timeout(READ_STALL_MAX, self.stream.read_buf(&mut self.buffer)).await?
    }
}

/// The head of an answer, with the blank line after it.
pub(super) fn head_text(answer: &Answer, length: u64, sent: &Sent<'_>) -> String {
    let status = answer.status;
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    let date = jiff::fmt::rfc2822::DateTimePrinter::new()
        .timestamp_to_rfc9110_string(&jiff::Timestamp::now())
        .ok();
    let connection = if sent.closing { "close" } else { "keep-alive" };
    let common = [
        ("Date", date.as_deref()),
        ("Connection", Some(connection)),
        ("X-Request-ID", Some(sent.request_id)),
        ("Content-Length", Some(&length.to_string())),
    ];
    let own = answer.headers.iter().map(|(n, v)| (*n, Some(v.as_str())));
    for (name, value) in common.into_iter().chain(own) {
        if let Some(value) = value {
            let _ = write!(text, "{name}: {value}\r\n");
        }
    }
    text.push_str("\r\n");
    text
}

/// What the head of an answer says beside the answer itself.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    pub(super) request_id: &'a str,
    pub(super) closing: bool,
    pub(super) without_body: bool,
}

impl<'a> Sent<'a> {
    /// How to answer this request: the connection stays open when the client wants it and the body was read.
    pub(super) fn after(head: &Head, request_id: &'a str, body_read: bool) -> Self {
        Self {
            request_id,
            closing: !body_read || !head.keep_alive,
            without_body: head.method == "HEAD",
        }
    }
}

/// The body of a request, read as it arrives.
#[derive(Debug)]
pub(super) struct Body<'a> {
    connection: &'a mut Connection,
    owes_continue: bool,
    /// How much is still to come; `None` when the body is chunked.
    unread: Option<u64>,
    length: u64,
}

impl Body<'_> {
    /// The next bytes; `None` at the end of the body, an error when the client hangs up before it.
    pub(super) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let Some(unread) = self.unread.filter(|unread| *unread > 0) else {
            return Ok(None);
        };
        if std::mem::take(&mut self.owes_continue) && self.connection.buffer.is_empty() {
            self.connection
                .write(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await?;
        }
        if self.connection.buffer.is_empty() && self.connection.fill().await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // In two halves at the least, so that there is a middle.
        let until = if self.is_half_read() {
            0
        } else {
            self.length / 2
        };
        let wanted = usize::try_from(unread - until).unwrap_or(usize::MAX);
        let buffer = &mut self.connection.buffer;
        let take = wanted.min(buffer.len());
        self.unread = Some(unread - take as u64);
        Ok(Some(buffer.split_to(take).freeze()))
    }

    /// Its length, 0 when that is not known.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether no more than half of it is to come.
    pub(super) fn is_half_read(&self) -> bool {
        self.unread.is_none_or(|unread| unread <= self.length / 2)
    }

    /// The connection it comes over.
    pub(super) fn connection(&self) -> &Connection {
        self.connection
    }

    /// Whether nothing of it is left on the connection.
    pub(super) fn is_read(&self) -> bool {
        self.unread == Some(0)
    }
}

/// Decodes `%XX` into bytes, and `+` into a space when it stands for one; bad UTF-8 becomes U+FFFD.
fn percent_decode(text: &str, plus: u8) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let digits = after.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        match (first, digits.and_then(hex_byte)) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => bytes.push(plus),
            (other, _) => bytes.push(*other),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn form_decode(text: &str) -> String {
    percent_decode(text, b' ')
}

/// A path without its percent-encoding.
pub(super) fn path_decode(path: &str) -> String {
    percent_decode(path, b'+')
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(super) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        425 => "Too Early",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}
