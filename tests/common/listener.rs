//! Somebody on this machine who is told something by HTTP, and remembers it.

#![allow(
    dead_code,
    reason = "each test file uses its own part of these helpers"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// No test waits so long: it ends one that would otherwise hang.
const SAFETY_NET: Duration = Duration::from_mins(1);

/// What was told.
#[derive(Debug)]
pub struct Told {
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: Value,
}

/// Answers every request alike.
pub struct Listener {
    port: u16,
    told: Receiver<Told>,
}

impl Listener {
    /// With an answer such as `200 OK`, and headers behind it; with none it never answers.
    pub fn start(answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, told) = mpsc::channel();
        // It ends with the test's process.
        thread::spawn(move || {
            let mut held = Vec::new();
            for stream in listener.incoming().flatten() {
                let Some(stream) = take(stream, &sender) else {
                    continue;
                };
                match answer {
                    Some(answer) => reply(stream, answer),
                    None => held.push(stream),
                }
            }
        });
        Self { port, told }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn next(&self) -> Told {
        self.told.recv_timeout(SAFETY_NET).expect("a request")
    }

    /// Whether nothing was told that nobody asked for yet.
    pub fn is_silent(&self) -> bool {
        self.told.try_recv().is_err()
    }
}

fn take(stream: TcpStream, sender: &Sender<Told>) -> Option<TcpStream> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut headers = BTreeMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(": ") else {
            break;
        };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length")?.parse().expect("a number");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).expect("JSON");
    let line = line.trim().to_owned();
    let _ = sender.send(Told {
        line,
        headers,
        body,
    });
    Some(reader.into_inner())
}

fn reply(mut stream: TcpStream, answer: &str) {
    let text = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(text.as_bytes());
}
