//! Answers that do not go out as they should.

use std::io::{self, Read};
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use super::End;
use super::inject::silence;
use crate::sandbox::http::{Answer, Connection, Payload, Sent, head_text, reason};

/// How long a client has to read what was sent before a reset.
const RESET_PAUSE: Duration = Duration::from_millis(10);

/// How an answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Manner {
    /// As it should.
    Plain,
    /// Not at all: the connection ends.
    Withheld(End),
    /// The first half of it; then the connection ends.
    Half(End),
    /// In two halves with a silence between them, or one half and a silence without end.
    Paused(Option<Duration>),
    /// With a `Content-Length` that is not its own.
    WrongLength {
        short: bool,
    },
    ByteByByte(Duration),
    /// After an informational answer of this status.
    After(u16),
    /// Whole, and as if the connection were kept; then it ends.
    Then(End),
}

impl Connection {
    /// Sends an answer in another manner than it should be sent in.
    pub(in crate::sandbox) async fn send_oddly(
        &mut self,
        answer: Answer,
        head: &Sent<'_>,
    ) -> io::Result<()> {
        const PROMISED: u64 = 100;
        let manner = answer.manner;
        let length = match (manner, answer.payload.length()) {
            (Manner::WrongLength { short: false }, length) => length + PROMISED,
            (Manner::WrongLength { short: true }, length) => length / 2,
            (_, length) => length,
        };
        let mut bytes = head_text(&answer, length, head).into_bytes();
        let head_bytes = bytes.len();
        match answer.payload {
            Payload::Bytes(body) => bytes.extend_from_slice(&body),
            Payload::File { mut file, .. } => drop(file.read_to_end(&mut bytes)?),
        }
        let body_bytes = bytes.len() - head_bytes;
        let half = if body_bytes > 1 {
            head_bytes + body_bytes / 2
        } else {
            head_bytes / 2
        };
        match manner {
            Manner::Plain | Manner::WrongLength { .. } => self.write(&bytes).await,
            Manner::Withheld(end) => Err(self.end(end)),
            Manner::Half(end) => {
                self.write(&bytes[..half]).await?;
                // So that the half is read and not lost to the reset.
                sleep(RESET_PAUSE).await;
                Err(self.end(end))
            }
            Manner::Paused(span) => {
                self.write(&bytes[..half]).await?;
                if silence(self, span).await.is_none() {
                    return Err(self.end(End::Close));
                }
                self.write(&bytes[half..]).await
            }
            Manner::ByteByByte(delay) => {
                for byte in bytes {
                    self.write(&[byte]).await?;
                    if delay.is_zero() {
                        // The shortest sleep is a millisecond.
                        yield_now().await;
                    } else {
                        sleep(delay).await;
                    }
                }
                Ok(())
            }
            Manner::After(status) => {
                let interim = format!("HTTP/1.1 {status} {}\r\n\r\n", reason(status));
                self.write(&[interim.as_bytes(), &bytes].concat()).await
            }
            Manner::Then(end) => {
                self.write(&bytes).await?;
                Err(self.end(end))
            }
        }
    }
}
