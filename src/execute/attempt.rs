//! One attempt: read, gate, send.
//!
//! The gate: the end of the body leaves only after the ledger has the attempt's `committing` row.
//! Before that the service can never have held a whole request.

use std::borrow::Cow;
use std::cell::Cell;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::{Run, Turn};
use crate::client::{Body, Ending, Envelope, Feeder, Form, HungUp, Receipt, Verdict, verdict};
use crate::event::{Event, Sent};
use crate::ledger::{LedgerError, State, Transition};
use crate::model::{
    AttemptId, Delivery, Difference, Digest, FileId, TAG_KEY, Tag, Target, canonical_id,
    shown_bounded,
};
use crate::plan::Upload;
use crate::source::{Piece, ReadError, Wanted, stream};
use crate::verify::{Sample, tells};

/// Files up to this size are read whole and sent in one write; larger ones are streamed.
const WHOLE_MAX: u64 = 64 * 1024;

/// Files larger than this are noted in the ledger when they begin to be sent: a run that dies in
/// the middle of one has said so. Smaller ones are over in a moment, and the note would be a row of
/// the two that each of them takes.
const NOTED_FROM: u64 = 1024 * 1024;

/// How long the body of a streamed file is held back once its request's head is on its way, where
/// no round trip was measured, and within which limits it follows one that was. A service that
/// refuses by the head alone (401, 413) often closes the connection at once, and bytes that arrive
/// then make it throw its own answer away.
const HOLD: Duration = Duration::from_millis(50);
const HOLD_LEAST: Duration = Duration::from_millis(1);
const HOLD_MOST: Duration = Duration::from_millis(250);

/// Whether a file of this size is read whole before anything of it is sent.
pub(super) fn is_read_whole(size: u64) -> bool {
    size <= WHOLE_MAX
}

/// Why an attempt was withdrawn, as the ledger says it.
pub(super) const WITHDRAWN: &str = "nothing of it was sent: its turn did not come";

/// How an attempt went.
pub(super) enum Attempted {
    /// It was made, and this is what it means; with the HTTP status, if there was one.
    Judged(Verdict, Option<u16>),
    /// The file could not be read as planned; nothing whole was sent.
    Unreadable(ReadError),
    /// The ledger refused to open the gate; nothing whole was sent.
    GateShut(LedgerError),
    /// Its turn on the wire did not come; nothing was sent. Whether that could be written down.
    Withdrawn(Result<(), LedgerError>),
}

/// Why a body was not fed to its end.
enum FeedError {
    /// The request ended first: its own ending says why.
    HungUp,
    Read(ReadError),
    Gate(LedgerError),
}

impl From<HungUp> for FeedError {
    fn from(_: HungUp) -> Self {
        Self::HungUp
    }
}

impl From<ReadError> for FeedError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

pub(super) struct Attempt<'a> {
    run: &'a Run<'a>,
    index: usize,
    upload: Upload<'a>,
    id: AttemptId,
    number: u32,
    started_at: Timestamp,
    read_at: Timestamp,
    digest: Cell<Option<Digest>>,
    /// Whether the ledger was asked for the attempt's `committing` row.
    released: Cell<bool>,
}

impl<'a> Attempt<'a> {
    /// The file's next attempt, by its number; `started_at` is when its first one began.
    pub(super) fn new(
        run: &'a Run<'a>,
        index: usize,
        upload: Upload<'a>,
        number: u32,
        started_at: Option<Timestamp>,
    ) -> Self {
        let now = run.parts.clock.now();
        Self {
            run,
            index,
            upload,
            id: run.parts.chance.attempt_id(),
            number,
            started_at: started_at.unwrap_or(now),
            read_at: now,
            digest: Cell::new(None),
            released: Cell::new(false),
        }
    }

    /// When the file's first attempt began.
    pub(super) fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.upload.stat.size
    }

    pub(super) fn id(&self) -> &AttemptId {
        &self.id
    }

    pub(super) fn target(&self) -> &'a Arc<Target> {
        &self.run.parts.plan.rules[self.upload.file.rule].target
    }

    /// The digest of the file's bytes, once all were read.
    pub(super) fn digest(&self) -> Option<Digest> {
        self.digest.get()
    }

    /// Whether the ledger has, or will have, the attempt's `committing` row.
    pub(super) fn is_released(&self) -> bool {
        self.released.get()
    }

    /// Where the service's account of the stored file differs from what was sent: the worst, and
    /// all of it in words.
    pub(super) fn differences(&self, receipt: &Receipt) -> (Option<Difference>, Option<String>) {
        let mut said = Vec::new();
        let mut found = Vec::new();
        if receipt.file_id.is_none() {
            said.push("the answer has no readable id".to_owned());
        }
        let size = self.upload.stat.size;
        if let Some(other) = receipt.size.filter(|other| *other != size) {
            let how = format!("the service says {other} bytes, {size} were sent");
            found.push((Difference::Mismatch, how));
        }
        let name = self.upload.sending.remote_name.stored();
        if let Some(other) = receipt
            .name
            .as_deref()
            .filter(|other| *other != name.as_str())
        {
            let how = format!("the service calls it \"{}\"", shown_bounded(other));
            found.push((Difference::Renamed, how));
        }
        let dataset = self.target().dataset_id.as_ref();
        if let (Some(other), Some(dataset)) = (&receipt.dataset_id, dataset)
            && canonical_id(other).as_deref() != Some(dataset.as_str())
        {
            let how = format!("it is in dataset {}", shown_bounded(other));
            found.push((Difference::WrongTarget, how));
        }
        let worst = found.iter().map(|(difference, _)| *difference).max();
        let words = found
            .iter()
            .map(|(difference, how)| format!("{}: {how}", difference.word()));
        said.extend(words);
        let reason = (!said.is_empty()).then(|| format!("stored, but {}", said.join("; ")));
        (worst, reason)
    }

    /// The file as a sample of what the target has, if it is a good one: small, not empty, and with
    /// a name that tells.
    pub(super) fn sample(&self, id: &FileId, digest: Digest) -> Option<Sample> {
        let name = self.upload.sending.remote_name.as_str();
        let is_good = (1..=WHOLE_MAX).contains(&self.upload.stat.size) && tells(name);
        is_good.then(|| Sample {
            id: id.clone(),
            remote_name: name.to_owned(),
            path: self.upload.file.path.clone(),
            digest,
            metadata: Some(self.upload.sending.metadata.digest()),
            planted: match self.run.parts.settings.tag {
                Tag::Planted => Some(self.id.clone()),
                Tag::None => None,
            },
        })
    }

    /// A ledger row for this attempt.
    pub(super) fn step(&self, state: State, at: Timestamp) -> Transition {
        let file = self.upload.file;
        Transition {
            attempt: self.id.clone(),
            number: self.number,
            run: self.run.parts.run.clone(),
            target: Arc::clone(self.target()),
            rule: self.run.parts.plan.rules[file.rule].name.clone(),
            path: file.path.clone(),
            state,
            at,
            started_at: self.started_at,
            read_at: self.read_at,
            stat: self.upload.stat,
            digest: self.digest.get(),
            metadata: self.upload.sending.metadata.digest(),
            tag: self.run.parts.settings.tag,
            remote_name: self.upload.sending.remote_name.as_str().to_owned(),
            file_id: None,
            http_status: None,
            returned_name: None,
            returned_dataset: None,
            reason: None,
        }
    }

    /// The gate: returns once the attempt's `committing` row is durable.
    pub(super) async fn release(&self) -> Result<(), LedgerError> {
        // Before asking: the row is written even if nobody waits for it to the end, because of an
        // abort or an early answer.
        self.run.release(self.index, self.digest.get());
        self.released.set(true);
        let step = self.step(State::Committing, self.run.parts.clock.now());
        self.run.parts.ledger.record(step).await
    }

    /// Makes the attempt, with its turn on the wire or waiting for it, and gives the turn back.
    pub(super) async fn make(&self, turn: Option<Turn<'a>>) -> (Attempted, Option<Turn<'a>>) {
        let planned = &self.upload.sending.metadata;
        let metadata = match self.run.parts.settings.tag {
            Tag::Planted => Cow::Owned(planned.with(TAG_KEY, self.id.as_str())),
            Tag::None => Cow::Borrowed(planned),
        };
        let form = Form {
            target: self.target(),
            remote_name: &self.upload.sending.remote_name,
            content_type: &self.upload.sending.content_type,
            metadata: &metadata,
        };
        let boundary = self.run.parts.chance.boundary();
        if is_read_whole(self.upload.stat.size) {
            let envelope = Envelope::new(&form, boundary, self.run.bodies.take());
            self.whole(envelope, turn).await
        } else {
            let envelope = Envelope::new(&form, boundary, Vec::new());
            // Apart: small files would be moved about with room for all that it needs.
            (Box::pin(self.streamed(envelope)).await, turn)
        }
    }

    async fn whole(
        &self,
        envelope: Envelope,
        turn: Option<Turn<'a>>,
    ) -> (Attempted, Option<Turn<'a>>) {
        let Envelope {
            mut head,
            tail,
            content_type,
        } = envelope;
        let stat = self.upload.stat;
        head.reserve(usize::try_from(stat.size).unwrap_or(0) + tail.len());
        let file = self.upload.file;
        let read = self.run.parts.readers.ask(Wanted {
            root: file.root,
            relative: file.relative.clone(),
            stat,
            buffer: head,
        });
        let (bytes, digest) = match read.await.unwrap_or_else(|_| Err(no_reader())) {
            Ok((mut bytes, digest)) => {
                bytes.extend_from_slice(&tail);
                (self.run.bodies.lend(bytes), digest)
            }
            Err(error) => return (Attempted::Unreadable(error), turn),
        };
        self.digest.set(Some(digest));
        // Before the gate: what waits behind it is in doubt if the run ends.
        self.until_there_is_bandwidth(bytes.len()).await;
        let turn = match turn {
            Some(turn) => self.release().await.map(|()| Some(turn)),
            None => self.ready().await,
        };
        let turn = match turn {
            Ok(Some(turn)) => turn,
            Ok(None) => return (Attempted::Withdrawn(self.withdraw().await), None),
            Err(error) => return (Attempted::GateShut(error), None),
        };
        let (body, progress) = Body::whole(bytes);
        let client = self.run.parts.client;
        let sent = client.send(&content_type, &self.id, body, &progress).await;
        (judged(sent), Some(turn))
    }

    /// Passes the gate and waits for a turn on the wire: none where that does not come. If the run
    /// is aborted in the meantime, the attempt is withdrawn.
    async fn ready(&self) -> Result<Option<Turn<'a>>, LedgerError> {
        let guard = WithdrawnOnDrop(self);
        let turn = match self.release().await {
            Ok(()) => Ok(self.run.turn(self.upload).await),
            Err(error) => Err(error),
        };
        mem::forget(guard);
        turn
    }

    /// Writes down that nothing was sent, after all.
    async fn withdraw(&self) -> Result<(), LedgerError> {
        self.run.withdrawn(self.index);
        self.run.parts.ledger.record(self.withdrawal()).await
    }

    fn withdrawal(&self) -> Transition {
        Transition {
            reason: Some(WITHDRAWN.to_owned()),
            ..self.step(State::Withdrawn, self.run.now())
        }
    }

    async fn streamed(&self, envelope: Envelope) -> Attempted {
        let sent = Arc::<Sent>::default();
        if self.upload.stat.size > NOTED_FROM {
            // Nobody waits for it: it is durable before the gate's row.
            let opened = self.step(State::Opened, self.read_at);
            self.run.parts.ledger.note(opened);
            let file = self.upload.file;
            (self.run.parts.events)(&Event::Sending {
                rule: self.run.parts.plan.rules[file.rule].name.clone(),
                path: file.path.clone(),
                size: self.upload.stat.size,
                attempt: self.number,
                request: self.id.clone(),
                sent: Arc::clone(&sent),
            });
        }
        let (body, feeder, progress) = Body::fed(envelope.length(self.upload.stat.size));
        let client = self.run.parts.client;
        let request = client.send(&envelope.content_type, &self.id, body, &progress);
        let feeding = self.feed(feeder, envelope.head.into(), envelope.tail, &sent);
        tokio::pin!(request, feeding);
        let mut fed = false;
        loop {
            tokio::select! {
                // Leaving drops the feeder: what is still withheld never leaves.
                reply = &mut request => return judged(reply),
                result = &mut feeding, if !fed => match result {
                    Ok(()) | Err(FeedError::HungUp) => fed = true,
                    Err(FeedError::Read(error)) => return Attempted::Unreadable(error),
                    Err(FeedError::Gate(error)) => return Attempted::GateShut(error),
                },
            }
        }
    }

    /// Feeds head, file and tail; the last chunk and the tail only through the gate.
    async fn feed(
        &self,
        feeder: Feeder,
        head: Bytes,
        tail: Bytes,
        sent: &Sent,
    ) -> Result<(), FeedError> {
        let file = self.upload.file;
        let mut pieces = stream(
            self.run.parts.roots,
            (file.root, file.relative.clone()),
            self.upload.stat,
            &self.run.buffers,
        );
        let mut next = pieces.next().await?;
        feeder.begun().await;
        let hold = self.run.parts.client.round_trip().unwrap_or(HOLD);
        feeder.held_for(hold.clamp(HOLD_LEAST, HOLD_MOST)).await;
        self.pass_on(&feeder, head, &Sent::default()).await?;
        let mut withheld: Option<Bytes> = None;
        let digest = loop {
            match next {
                Piece::Chunk(chunk) => {
                    if let Some(earlier) = withheld.replace(chunk) {
                        self.pass_on(&feeder, earlier, sent).await?;
                    }
                }
                Piece::End(digest) => break digest,
            }
            next = pieces.next().await?;
        };
        self.digest.set(Some(digest));
        feeder.check()?;
        let mut last = withheld.unwrap_or_default();
        let piece = self.run.piece();
        if last.len() > piece {
            let rest = last.split_off(last.len() - piece);
            self.pass_on(&feeder, last, sent).await?;
            last = rest;
        }
        let wait = self.run.reserve_bytes(last.len() + tail.len());
        feeder.held_for(wait).await;
        self.release().await.map_err(FeedError::Gate)?;
        if !last.is_empty() {
            feeder.send(last).await?;
        }
        feeder.send(tail).await?;
        Ok(())
    }

    /// Waits until the bandwidth has room; not where the run is to end.
    async fn until_there_is_bandwidth(&self, bytes: usize) {
        let mut left = bytes;
        while left > 0 && self.run.parts.stop.cause().is_none() {
            let piece = self.run.piece().min(left);
            left -= piece;
            let wait = self.run.reserve_bytes(piece);
            if !wait.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.run.parts.stop.draining() => {}
                }
            }
        }
    }

    /// Hands over a piece once the bandwidth has room for it.
    async fn pass_on(&self, feeder: &Feeder, mut chunk: Bytes, sent: &Sent) -> Result<(), HungUp> {
        while !chunk.is_empty() {
            let piece = chunk.split_to(self.run.piece().min(chunk.len()));
            let bytes = piece.len();
            feeder.held_for(self.run.reserve_bytes(bytes)).await;
            feeder.send(piece).await?;
            sent.add(bytes);
        }
        Ok(())
    }
}

/// An attempt that may leave and has not. Nobody waits for what an abort drops; if it cannot be
/// written down, the file stays in doubt.
struct WithdrawnOnDrop<'a, 'r>(&'a Attempt<'r>);

impl Drop for WithdrawnOnDrop<'_, '_> {
    fn drop(&mut self) {
        let Self(attempt) = self;
        attempt.run.withdrawn(attempt.index);
        attempt.run.parts.ledger.note(attempt.withdrawal());
    }
}

fn judged((delivery, ending): (Delivery, Ending)) -> Attempted {
    let status = match &ending {
        Ending::Answered(answer) => Some(answer.status),
        Ending::Broken(_) => None,
    };
    Attempted::Judged(verdict(delivery, &ending), status)
}

fn no_reader() -> ReadError {
    ReadError::Io(io::Error::other("the thread that read it is gone"))
}
