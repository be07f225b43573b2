//! Bad days on order: what goes wrong, when, and how often.
//!
//! A fault plan is parsed strictly, chooses by a seed and never by chance, and is carried out by the server's own code
//! for connections, bodies and answers. What was done is counted and written down, so a rehearsal can be judged.

mod choose;
mod inject;
mod kinds;
mod manner;
mod parse;
#[cfg(test)]
mod tests;

use std::time::Duration;

use globset::GlobMatcher;

pub use self::inject::{FaultCount, Injected, injected};
pub(super) use self::inject::{Injector, Instead, Visit, silence};
pub use self::kinds::{FAULT_KINDS, FaultKind};
pub(super) use self::manner::Manner;
pub use self::parse::FaultsError;

/// A fault plan: what is to go wrong. The default is nothing.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    seed: u64,
    rules: Vec<Rule>,
}

impl Faults {
    /// Reads a plan from YAML.
    ///
    /// # Errors
    ///
    /// Says in which line what is wrong: the first mistake only.
    pub fn parse(text: &str) -> Result<Self, FaultsError> {
        parse::parse(text)
    }
}

/// One entry of a plan.
#[derive(Debug, Clone)]
struct Rule {
    kind: &'static FaultKind,
    fault: Fault,
    chance: Chance,
    file: Option<GlobMatcher>,
    on: On,
}

/// How often a fault happens among what it may happen to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Chance {
    Always,
    /// To the first so many.
    First(u64),
    /// From 0 to 1.
    Share(f64),
}

/// What a fault may happen to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Uploads,
    AnyRequest,
}

/// When a fault is chosen, and so what can be known by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// By the server itself, by its count of requests.
    Server,
    /// When a connection is accepted.
    Connection,
    /// When the head of a request was read.
    Head,
    /// When the name of the file is known, or the head of a request without one.
    Body,
    /// As `Body`, but only what stores a file can be answered so.
    Receipt,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
enum Fault {
    Refuse {
        after: u64,
        span: Duration,
    },
    CloseIdle {
        after: Duration,
    },
    Reset(Moment),
    /// Forever without a duration.
    Stall(Moment, Option<Duration>),
    StoreThenDrop(End),
    EarlyStatus(Reply, Farewell),
    EarlySuccess,
    RateLimit {
        per_second: f64,
        retry: RetryWord,
    },
    Status(Reply, Kept),
    Redirect {
        status: u16,
        location: String,
    },
    LoginPage,
    EmptyAnswer,
    GarbageJson,
    MissingId,
    NullId,
    NullFields,
    NumberId,
    LongLength,
    ShortLength,
    TruncatedAnswer,
    OversizeAnswer,
    SlowAnswer {
        delay: Duration,
    },
    CloseAfterAnswer,
    Renamed,
    Resized,
    WrongTarget,
    Interim {
        status: u16,
    },
}

/// Where on its way a request is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    Accept,
    Headers,
    MidBody,
    /// The whole body was read and nothing stored.
    Body,
    /// The file is stored and a part of the answer sent.
    MidAnswer,
}

/// How a connection ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// In order.
    Close,
    /// By a reset, which drops what is on its way.
    Reset,
}

/// What follows an early answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// The rest of the body is read and thrown away, as polite servers do.
    Linger,
    Reset,
}

/// Whether the file is stored when an error says it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    Stored,
}

/// An answer in a plan's words.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reply {
    status: u16,
    retry: RetryWord,
    body: ReplyBody,
}

/// What an answer says of trying again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RetryWord {
    Nothing,
    /// In so many seconds.
    Seconds(u64),
    /// At the time that is so many seconds away.
    Date(u64),
}

/// What an error looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplyBody {
    Json,
    Html,
    Empty,
}
