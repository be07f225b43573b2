//! Carrying a plan out: asks it at each stage of a request, does what it says, and writes that down.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;
use uuid::Uuid;

use super::choose::{Asking, Chooser};
use super::{
    End, Farewell, Fault, Faults, Kept, Manner, Moment, On, Reply, ReplyBody, RetryWord, Stage,
};
use crate::sandbox::api;
use crate::sandbox::http::{Answer, Body, Connection};

const LOG: &str = "faults.jsonl";

/// Bodies up to this size are commonly sent in one go, so an early answer would not be early: a file of 64 KiB, and
/// what belongs to it.
const EARLY_BODY_BYTES_MIN: u64 = 80 * 1024;

/// More than any client should read of an answer.
const OVERSIZE_BYTES: usize = 1024 * 1024;

const ANOTHER_DATASET_ID: &str = "00000000-0000-4000-8000-0000000000ff";

/// A fault that was injected, as `faults.jsonl` in the sandbox's folder has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// When.
    pub at: jiff::Timestamp,
    /// Which entry of the plan, from 1.
    pub entry: usize,
    /// The fault's name.
    pub fault: String,
    /// The `X-Request-ID` of the request it hit; none where it hit a connection or the server.
    pub request_id: Option<String>,
    /// The file's name, where it was known.
    pub file: Option<String>,
}

/// How often an entry of a plan was injected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultCount {
    /// The fault's name.
    pub fault: &'static str,
    /// How often it was injected.
    pub times: u64,
}

/// What was injected into a sandbox, read back from its folder, in order.
///
/// # Errors
///
/// When the list cannot be read.
pub fn injected(data: &Path) -> io::Result<Vec<Injected>> {
    let text = match std::fs::read_to_string(data.join(LOG)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let lines = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    lines
        .map(|line| serde_json::from_str(line).map_err(io::Error::from))
        .collect()
}

/// The plan of one sandbox at work.
#[derive(Debug)]
pub(in crate::sandbox) struct Injector {
    state: Mutex<State>,
    started: Instant,
    /// For how long the server is to be gone, and a number that says when anew.
    outage: watch::Sender<Outage>,
}

/// The word to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::sandbox) struct Outage {
    pub(in crate::sandbox) number: u64,
    pub(in crate::sandbox) span: Duration,
}

#[derive(Debug)]
struct State {
    chooser: Chooser,
    counts: Vec<FaultCount>,
    outages: Vec<PlannedOutage>,
    log: Option<File>,
}

/// A `refuse` that has not happened yet.
#[derive(Debug)]
struct PlannedOutage {
    entry: usize,
    left: u64,
    on: On,
    span: Duration,
}

/// What a fault is about, for the record.
#[derive(Debug, Clone, Copy, Default)]
struct About<'a> {
    request_id: Option<&'a str>,
    file: Option<&'a str>,
}

/// What becomes of a connection that was just accepted.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Welcome {
    /// It is reset, or left in silence.
    pub(in crate::sandbox) instead: Option<Instead>,
    /// It is closed when it is idle for so long.
    pub(in crate::sandbox) idle_max: Option<Duration>,
}

/// What a connection gets in place of being read, at first or for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sandbox) enum Instead {
    Reset,
    Stall(Option<Duration>),
}

impl Injector {
    pub(in crate::sandbox) fn new(faults: Faults, data: &Path) -> io::Result<Self> {
        let log = if faults.rules.is_empty() {
            None
        } else {
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(data.join(LOG));
            Some(file?)
        };
        let outages = faults.rules.iter().enumerate();
        let outages = outages.filter_map(|(entry, rule)| match rule.fault {
            Fault::Refuse { after, span } => Some(PlannedOutage {
                entry,
                left: after,
                on: rule.on,
                span,
            }),
            _ => None,
        });
        let state = State {
            outages: outages.collect(),
            counts: Vec::new(),
            chooser: Chooser::new(faults),
            log,
        };
        let injector = Self {
            state: Mutex::new(state),
            started: Instant::now(),
            outage: watch::Sender::new(Outage::default()),
        };
        {
            let mut state = injector.state();
            let rules = state.chooser.rules();
            state.counts = rules
                .map(|rule| FaultCount {
                    fault: rule.kind.name,
                    times: 0,
                })
                .collect();
        }
        injector.begin_outages(|outage| outage.left == 0);
        Ok(injector)
    }

    /// How often each entry was injected.
    pub(in crate::sandbox) fn counts(&self) -> Vec<FaultCount> {
        self.state().counts.clone()
    }

    pub(in crate::sandbox) fn outages(&self) -> watch::Receiver<Outage> {
        self.outage.subscribe()
    }

    /// Asked of each connection.
    pub(in crate::sandbox) fn welcome(&self) -> Welcome {
        let chosen = self.choose(Stage::Connection, false, None);
        if let Some((entry, _)) = &chosen {
            self.record(*entry, About::default());
        }
        match chosen {
            Some((_, Fault::Reset(_))) => Welcome {
                instead: Some(Instead::Reset),
                idle_max: None,
            },
            Some((_, Fault::Stall(_, span))) => Welcome {
                instead: Some(Instead::Stall(span)),
                idle_max: None,
            },
            Some((_, Fault::CloseIdle { after })) => Welcome {
                instead: None,
                idle_max: Some(after),
            },
            _ => Welcome::default(),
        }
    }

    fn begin_outages(&self, is_due: impl Fn(&PlannedOutage) -> bool) {
        let mut due = Vec::new();
        self.state().outages.retain(|outage| {
            let now = is_due(outage);
            if now {
                due.push((outage.entry, outage.span));
            }
            !now
        });
        for (entry, span) in due {
            self.record(entry, About::default());
            self.outage.send_modify(|outage| {
                outage.number += 1;
                outage.span = span;
            });
        }
    }

    fn choose(&self, stage: Stage, is_upload: bool, file: Option<&str>) -> Option<(usize, Fault)> {
        let clock = self.started.elapsed().as_secs_f64();
        self.state().chooser.choose(Asking {
            stage,
            is_upload,
            file,
            clock,
        })
    }

    fn record(&self, entry: usize, about: About<'_>) {
        let mut state = self.state();
        let Some(count) = state.counts.get_mut(entry) else {
            return;
        };
        count.times += 1;
        let injected = Injected {
            at: jiff::Timestamp::now(),
            entry: entry + 1,
            fault: count.fault.to_owned(),
            request_id: about.request_id.map(str::to_owned),
            file: about.file.map(str::to_owned),
        };
        if let (Some(log), Ok(mut line)) = (&mut state.log, serde_json::to_vec(&injected)) {
            line.push(b'\n');
            // The counts are right even where the disk is full.
            let _ = log.write_all(&line);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request on its way past the plan.
#[derive(Debug)]
pub(in crate::sandbox) struct Visit<'a> {
    injector: &'a Injector,
    request_id: &'a str,
    is_upload: bool,
    file: Option<String>,
    chosen: Option<(usize, Fault)>,
}

impl<'a> Visit<'a> {
    /// Begins when the head of the request was read.
    pub(in crate::sandbox) fn new(
        injector: &'a Injector,
        is_upload: bool,
        request_id: &'a str,
    ) -> Self {
        injector.state().outages.iter_mut().for_each(|outage| {
            if is_upload || outage.on == On::AnyRequest {
                outage.left = outage.left.saturating_sub(1);
            }
        });
        injector.begin_outages(|outage| outage.left == 0);
        Self {
            injector,
            request_id,
            is_upload,
            file: None,
            chosen: None,
        }
    }

    /// What happens before anything of the body is read; an answer takes the place of the real one.
    pub(in crate::sandbox) async fn head(&mut self, body: &Body<'_>) -> Result<(), Answer> {
        let chosen = self.injector.choose(Stage::Head, self.is_upload, None);
        let Some((entry, fault)) = chosen else {
            if !self.is_upload {
                self.chosen = self.injector.choose(Stage::Body, false, None);
            }
            return Ok(());
        };
        let answer = match fault {
            Fault::Reset(_) => Answer::withheld(End::Reset),
            Fault::EarlyStatus(reply, farewell) => {
                let answer = reply_answer(&reply);
                match farewell {
                    Farewell::Linger => answer,
                    Farewell::Reset => answer.going(Manner::Then(End::Reset)),
                }
            }
            Fault::RateLimit { retry, .. } => reply_answer(&Reply {
                status: 429,
                retry,
                body: ReplyBody::Json,
            }),
            Fault::EarlySuccess if body.length() > EARLY_BODY_BYTES_MIN => api::json(
                200,
                &json!({ "id": Uuid::now_v7().to_string(), "name": null, "size": null }),
            ),
            Fault::Stall(_, span) => {
                self.record(entry);
                return stall(body, span).await;
            }
            _ => return Ok(()),
        };
        self.record(entry);
        Err(answer)
    }

    /// The name of the file is known. Only the first one counts.
    pub(in crate::sandbox) fn file(&mut self, name: &str) {
        if self.file.is_none() {
            self.file = Some(name.to_owned());
            self.chosen = self.injector.choose(Stage::Body, true, Some(name));
        }
    }

    /// What happens when half of the body was read, and later is no harm.
    pub(in crate::sandbox) async fn mid_body(&mut self, body: &Body<'_>) -> Result<(), Answer> {
        if !body.is_half_read() {
            return Ok(());
        }
        match &self.chosen {
            Some((_, Fault::Reset(Moment::MidBody))) => {
                self.done();
                Err(Answer::withheld(End::Reset))
            }
            Some((_, Fault::Stall(Moment::MidBody, span))) => {
                let span = *span;
                self.done();
                stall(body, span).await
            }
            _ => Ok(()),
        }
    }

    /// What happens when all of the body was read and nothing was done with it.
    pub(in crate::sandbox) async fn whole_body(&mut self, body: &Body<'_>) -> Result<(), Answer> {
        self.mid_body(body).await?;
        let answer = match &self.chosen {
            Some((_, Fault::Reset(Moment::Body))) => Answer::withheld(End::Reset),
            Some((_, Fault::Stall(Moment::Body, span))) => {
                let span = *span;
                self.done();
                return stall(body, span).await;
            }
            Some((_, Fault::Status(reply, Kept::Nothing))) => reply_answer(reply),
            Some((_, Fault::Redirect { status, location })) => {
                Answer::new(*status, "text/html; charset=utf-8", Vec::new())
                    .with("Location", location.clone())
            }
            Some((_, Fault::LoginPage)) => {
                api::page(200, "Sign in", "Your session has ended. Please sign in.")
            }
            _ => return Ok(()),
        };
        self.done();
        Err(answer)
    }

    /// The real answer, made into what the plan wants.
    pub(in crate::sandbox) fn answer(&mut self, answer: Answer) -> Answer {
        let Some((_, fault)) = &self.chosen else {
            return answer;
        };
        let refused = self.is_upload && answer.status != 200;
        let answer = match fault {
            // Nothing is stored, so nothing can be claimed to be.
            _ if refused => return answer,
            Fault::Reset(_) => answer.going(Manner::Half(End::Reset)),
            Fault::TruncatedAnswer => answer.going(Manner::Half(End::Close)),
            Fault::Stall(_, span) => answer.going(Manner::Paused(*span)),
            Fault::StoreThenDrop(end) => Answer::withheld(*end),
            Fault::Status(reply, Kept::Stored) => reply_answer(reply),
            Fault::EmptyAnswer => Answer::new(200, "application/json", Vec::new()),
            Fault::GarbageJson => {
                Answer::new(200, "application/json", b"{\"id\": \xFF\x00{[".into())
            }
            Fault::LongLength => answer.going(Manner::WrongLength { short: false }),
            Fault::ShortLength => answer.going(Manner::WrongLength { short: true }),
            Fault::SlowAnswer { delay } => answer.going(Manner::ByteByByte(*delay)),
            Fault::CloseAfterAnswer => answer.going(Manner::Then(End::Close)),
            Fault::Interim { status } => answer.going(Manner::After(*status)),
            Fault::OversizeAnswer => match padded(&answer) {
                Some(bytes) => Answer::new(200, "application/json", bytes),
                None => return answer,
            },
            receipt => match changed(receipt, &answer) {
                Some(value) => api::json(200, &value),
                None => return answer,
            },
        };
        self.done();
        answer
    }

    fn done(&mut self) {
        if let Some((entry, _)) = self.chosen.take() {
            self.record(entry);
        }
    }

    fn record(&self, entry: usize) {
        let about = About {
            request_id: Some(self.request_id),
            file: self.file.as_deref(),
        };
        self.injector.record(entry, about);
    }
}

/// Silence; afterwards all goes on, or the client has left.
async fn stall(body: &Body<'_>, span: Option<Duration>) -> Result<(), Answer> {
    match silence(body.connection(), span).await {
        Some(()) => Ok(()),
        None => Err(Answer::withheld(End::Close)),
    }
}

/// Silence for a time, or without one until the client has left; `None` when that is so.
pub(in crate::sandbox) async fn silence(
    connection: &Connection,
    span: Option<Duration>,
) -> Option<()> {
    if let Some(span) = span {
        sleep(span).await;
        Some(())
    } else {
        connection.until_gone().await;
        None
    }
}

fn reply_answer(reply: &Reply) -> Answer {
    const TEXT: &str = "Injected by the sandbox's fault plan.";
    let answer = match reply.body {
        ReplyBody::Json => api::detail(reply.status, TEXT),
        ReplyBody::Html => api::page(reply.status, &format!("Error {}", reply.status), TEXT),
        ReplyBody::Empty => Answer::new(reply.status, "text/plain", Vec::new()),
    };
    match reply.retry {
        RetryWord::Nothing => answer,
        RetryWord::Seconds(seconds) => answer.with("Retry-After", seconds.to_string()),
        RetryWord::Date(seconds) => match http_date(seconds) {
            Some(date) => answer.with("Retry-After", date),
            None => answer,
        },
    }
}

/// The time in so many seconds, at least.
fn http_date(seconds: u64) -> Option<String> {
    let ahead = Duration::from_secs(seconds.saturating_add(1));
    let then = jiff::Timestamp::now().checked_add(ahead).ok()?;
    let printer = jiff::fmt::rfc2822::DateTimePrinter::new();
    printer.timestamp_to_rfc9110_string(&then).ok()
}

/// A receipt with a field that is too long; `None` for what is no receipt.
fn padded(answer: &Answer) -> Option<Vec<u8>> {
    let fields = answer.bytes()?.strip_suffix(b"}")?;
    let padding = "x".repeat(OVERSIZE_BYTES);
    Some([fields, b",\"padding\":\"", padding.as_bytes(), b"\"}"].concat())
}

/// A receipt that is not what it should be; `None` for what is no receipt.
fn changed(fault: &Fault, answer: &Answer) -> Option<Value> {
    let mut receipt: Value = serde_json::from_slice(answer.bytes()?).ok()?;
    let fields = receipt.as_object_mut()?;
    match fault {
        Fault::MissingId => drop(fields.remove("id")),
        Fault::NullId => fields["id"] = Value::Null,
        Fault::NullFields => {
            let others = fields.iter_mut().filter(|(key, _)| *key != "id");
            others.for_each(|(_, value)| *value = Value::Null);
        }
        Fault::NumberId => {
            let id = fields["id"].as_str()?.to_owned();
            let digits = id.bytes().fold(0_u32, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(byte.into())
            });
            fields["id"] = json!(digits);
        }
        Fault::Renamed => fields["name"] = json!("renamed-by-the-sandbox"),
        Fault::Resized => fields["size"] = json!(fields["size"].as_u64()? + 1),
        Fault::WrongTarget => fields["dataset"]["id"] = json!(ANOTHER_DATASET_ID),
        _ => return None,
    }
    Some(receipt)
}
