//! A small server of HTTP/1.1 and HTTP/2, with or without TLS, that does with uploads what a test
//! says and remembers what reached it; and proxies of both kinds to put before it.

#![allow(
    dead_code,
    reason = "each test file uses its own part of these helpers"
)]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// No test waits so long for a byte.
const SAFETY_NET: Duration = Duration::from_secs(30);

/// What becomes of an upload once all of it is there.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// It is stored and answered.
    Store,
    /// Its stream is reset with this code; HTTP/2 only.
    Reset(u32),
    /// The connection ends with this code, after naming the last stream that counts; HTTP/2 only.
    GoAway { last: u32, code: u32 },
}

/// What reached a server.
#[derive(Debug, Default, Clone)]
pub struct Seen {
    /// Connections on which a request began.
    pub connections: usize,
    /// Heads of requests in HTTP/1.1; what else there was is only counted.
    pub heads: Vec<String>,
    /// Whole bodies of uploads, in the order of their ends.
    pub bodies: Vec<Vec<u8>>,
    /// Uploads that were stored.
    pub stored: usize,
}

impl Seen {
    /// Heads of uploads in HTTP/1.1.
    pub fn uploads(&self) -> Vec<&str> {
        let heads = self.heads.iter().map(String::as_str);
        heads.filter(|head| head.starts_with("POST ")).collect()
    }
}

/// How HTTP is spoken where TLS does not negotiate it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaks {
    One,
    Two,
}

struct Shared {
    speaks: Speaks,
    tls: Option<Arc<ServerConfig>>,
    script: Box<dyn Fn(usize) -> Act + Send + Sync>,
    seen: Mutex<Seen>,
}

/// A listener whose connections are served by threads; none is accepted once it is dropped.
pub struct Listening {
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Listening {
    fn start(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let over = Arc::new(AtomicBool::new(false));
        let (is_over, serve) = (Arc::clone(&over), Arc::new(serve));
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), serve) = (stream, Arc::clone(&serve)) else {
                    continue;
                };
                // A connection that breaks is what some tests are about.
                thread::spawn(move || {
                    let _ = stream.set_read_timeout(Some(SAFETY_NET));
                    let _ = serve(stream);
                });
            }
        });
        Self {
            address,
            over,
            thread: Some(thread),
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The server.
pub struct Web {
    listening: Listening,
    shared: Arc<Shared>,
}

impl Web {
    /// Asks the script what becomes of each upload, by its number from 0.
    pub fn start(
        speaks: Speaks,
        tls: Option<Arc<ServerConfig>>,
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            speaks,
            tls,
            script: Box::new(script),
            seen: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        Self {
            listening: Listening::start(move |stream| serve(&serving, stream)),
            shared,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address
    }

    pub fn seen(&self) -> Seen {
        locked(&self.shared.seen).clone()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A certificate authority of a test's own: its PEM, and a server's settings with a certificate of
/// it for this machine.
pub fn authority(protocols: &[&str]) -> (String, Arc<ServerConfig>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut root = rcgen::CertificateParams::new([]).expect("parameters");
    root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = root.self_signed(&key).expect("a root");
    let issuer = rcgen::Issuer::new(root, key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let leaf = rcgen::CertificateParams::new(names)
        .and_then(|leaf| leaf.signed_by(&key, &issuer))
        .expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .expect("settings");
    config.alpn_protocols = protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    (certificate.pem(), Arc::new(config))
}

fn serve(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    let Some(tls) = &shared.tls else {
        return talk(shared, shared.speaks, &mut stream);
    };
    let mut connection = ServerConnection::new(Arc::clone(tls)).map_err(io::Error::other)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    let speaks = match connection.alpn_protocol() {
        Some(b"h2") => Speaks::Two,
        _ => shared.speaks,
    };
    talk(shared, speaks, &mut StreamOwned::new(connection, stream))
}

fn talk(shared: &Shared, speaks: Speaks, stream: &mut (impl Read + Write)) -> io::Result<()> {
    match speaks {
        Speaks::One => one(shared, stream),
        Speaks::Two => two(shared, stream),
    }
}

fn stored(shared: &Shared) -> String {
    let mut seen = locked(&shared.seen);
    seen.stored += 1;
    format!(
        r#"{{"id": "f-{}", "dataset": {{"id": "d"}}, "name": null, "size": null}}"#,
        seen.stored
    )
}

/// What is to be done with an upload whose body is whole.
fn act(shared: &Shared, body: Vec<u8>) -> Act {
    let mut seen = locked(&shared.seen);
    seen.bodies.push(body);
    (shared.script)(seen.bodies.len() - 1)
}

pub fn head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    String::from_utf8(head).map_err(io::Error::other)
}

fn one(shared: &Shared, stream: &mut (impl Read + Write)) -> io::Result<()> {
    for number in 0.. {
        let head = head(stream)?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().ok())?
        });
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        let is_upload = head.starts_with("POST ");
        {
            let mut seen = locked(&shared.seen);
            seen.connections += usize::from(number == 0);
            seen.heads.push(head);
        }
        let answer = if is_upload {
            let _ = act(shared, body);
            stored(shared)
        } else {
            LISTING.to_owned()
        };
        let length = answer.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{answer}"
        )?;
        stream.flush()?;
    }
    Ok(())
}

/// What is answered to everything but uploads.
const LISTING: &str = r#"{"count": 0, "next": null, "results": []}"#;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200`, as HPACK's static table has it.
const STATUS_200: &[u8] = &[0x88];

fn frame(stream: &mut impl Write, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
    stream.write_all(&bytes)?;
    stream.flush()
}

fn two(shared: &Shared, stream: &mut (impl Read + Write)) -> io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    assert_eq!(&preface, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    frame(stream, SETTINGS, 0, 0, &[])?;
    locked(&shared.seen).connections += 1;
    let mut bodies: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        stream.read_exact(&mut payload)?;
        match kind {
            SETTINGS if flags & ACK == 0 => frame(stream, SETTINGS, ACK, 0, &[])?,
            PING if flags & ACK == 0 => frame(stream, PING, ACK, 0, &payload)?,
            DATA => {
                bodies.entry(id).or_default().extend(&payload);
                if length > 0 {
                    for window in [0, id] {
                        frame(stream, WINDOW_UPDATE, 0, window, &length.to_be_bytes())?;
                    }
                }
            }
            _ => {}
        }
        if !matches!(kind, DATA | HEADERS) || flags & END_STREAM == 0 {
            continue;
        }
        let Some(body) = bodies.remove(&id) else {
            // No upload: what a run asks before the first.
            frame(stream, HEADERS, END_HEADERS, id, STATUS_200)?;
            frame(stream, DATA, END_STREAM, id, LISTING.as_bytes())?;
            continue;
        };
        match act(shared, body) {
            Act::Store => {
                let answer = stored(shared);
                frame(stream, HEADERS, END_HEADERS, id, STATUS_200)?;
                frame(stream, DATA, END_STREAM, id, answer.as_bytes())?;
            }
            Act::Reset(code) => frame(stream, RST_STREAM, 0, id, &code.to_be_bytes())?,
            Act::GoAway { last, code } => {
                let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
                frame(stream, GOAWAY, 0, 0, &payload)?;
                if last >= id {
                    return Ok(());
                }
                // Closed with something unread in it, the connection would be reset, and that may
                // be seen before the frame.
                return io::copy(stream, &mut io::sink()).map(drop);
            }
        }
    }
}

/// A proxy, and what it was asked for.
pub struct Gateway {
    listening: Listening,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Gateway {
    /// Speaks HTTP: passes requests on, and makes tunnels.
    pub fn http() -> Self {
        Self::start(|asked, client| {
            let head = head(&mut &client)?;
            let (line, rest) = head.split_once("\r\n").expect("a line");
            let mut words = line.split(' ');
            let method = words.next().expect("a method");
            let target = words.next().expect("a target").to_owned();
            asked(head.clone());
            if method == "CONNECT" {
                let upstream = TcpStream::connect(target)?;
                (&client).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
                return tunnel(client, upstream);
            }
            let target = target.strip_prefix("http://").expect("an absolute address");
            let (host, path) = target.split_once('/').expect("a path");
            let mut upstream = TcpStream::connect(host)?;
            write!(upstream, "{method} /{path} HTTP/1.1\r\n{rest}")?;
            tunnel(client, upstream)
        })
    }

    /// Refuses everybody without the right credentials, and everybody else.
    pub fn closed() -> Self {
        Self::start(|asked, mut client| {
            asked(head(&mut client)?);
            client.write_all(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            )?;
            client.shutdown(Shutdown::Write)?;
            io::copy(&mut client, &mut io::sink()).map(drop)
        })
    }

    /// Speaks SOCKS 5, with a name and a password where the client has one.
    pub fn socks() -> Self {
        Self::start(|asked, mut client| {
            let mut bytes = |count: usize| {
                let mut bytes = vec![0; count];
                client.read_exact(&mut bytes).map(|()| bytes)
            };
            let methods = usize::from(bytes(2)?[1]);
            let with_password = bytes(methods)?.contains(&2);
            client.write_all(&[5, if with_password { 2 } else { 0 }])?;
            let text = |client: &mut TcpStream| {
                let mut length = [0];
                client.read_exact(&mut length)?;
                let mut text = vec![0; usize::from(length[0])];
                client.read_exact(&mut text)?;
                String::from_utf8(text).map_err(io::Error::other)
            };
            if with_password {
                client.read_exact(&mut [0])?;
                let (name, password) = (text(&mut client)?, text(&mut client)?);
                asked(format!("{name}:{password}"));
                client.write_all(&[1, 0])?;
            }
            let mut request = [0; 4];
            client.read_exact(&mut request)?;
            let host = if request[3] == 1 {
                let mut address = [0; 4];
                client.read_exact(&mut address)?;
                Ipv4Addr::from(address).to_string()
            } else {
                text(&mut client)?
            };
            let mut port = [0; 2];
            client.read_exact(&mut port)?;
            let target = format!("{host}:{}", u16::from_be_bytes(port));
            asked(target.clone());
            let upstream = TcpStream::connect(target)?;
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
            tunnel(client, upstream)
        })
    }

    fn start(
        serve: impl Fn(&dyn Fn(String), TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noting = Arc::clone(&asked);
        let listening =
            Listening::start(move |client| serve(&|word| locked(&noting).push(word), client));
        Self { listening, asked }
    }

    pub fn address(&self) -> SocketAddr {
        self.listening.address
    }

    pub fn asked(&self) -> Vec<String> {
        locked(&self.asked).clone()
    }
}

fn tunnel(client: TcpStream, upstream: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    let there = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let (mut from, mut to) = (upstream, client);
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
    let _ = there.join();
    Ok(())
}
