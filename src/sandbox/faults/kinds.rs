//! The catalogue: every fault by name, with what it does and which parameters it has.

use std::time::Duration;

use super::parse::{Parameters, Wrong};
use super::{End, Farewell, Fault, Kept, Moment, Reply, Stage};

/// A fault that a plan may name.
#[derive(Debug)]
pub struct FaultKind {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Its own parameters, beside those that all have.
    pub parameters: &'static [&'static str],
    pub(super) stage: Stage,
    pub(super) make: fn(&mut Parameters<'_>) -> Result<Fault, Wrong>,
}

impl FaultKind {
    /// Whether `file:` may choose the uploads: only when the fault comes late enough to know the name.
    #[must_use]
    pub fn knows_the_file(&self) -> bool {
        matches!(self.stage, Stage::Body | Stage::Receipt)
    }

    /// Whether `on: any` lets it happen to requests that upload nothing.
    #[must_use]
    pub fn hits_any_request(&self) -> bool {
        matches!(self.stage, Stage::Head | Stage::Body)
    }

    /// Whether `probability:` or `count:` may be given.
    #[must_use]
    pub fn has_a_chance(&self) -> bool {
        !matches!(self.name, "refuse" | "rate_limit")
    }
}

const REFUSED_FOR: Duration = Duration::from_secs(2);
const IDLE: Duration = Duration::from_millis(100);
const DRIP: Duration = Duration::from_millis(20);

/// All faults, in the order of a request's life.
pub const FAULT_KINDS: &[FaultKind] = &[
    FaultKind {
        name: "refuse",
        doc: "After `after` uploads (0) the server is gone for `for` (2s): no new connection, idle ones closed.",
        parameters: &["after", "for"],
        stage: Stage::Server,
        make: |given| {
            Ok(Fault::Refuse {
                after: given.number("after")?.unwrap_or(0),
                span: given.duration("for")?.unwrap_or(REFUSED_FOR),
            })
        },
    },
    FaultKind {
        name: "close_idle",
        doc: "The connection is closed when no request comes for `after` (100ms).",
        parameters: &["after"],
        stage: Stage::Connection,
        make: |given| {
            let after = given.duration("after")?.unwrap_or(IDLE);
            Ok(Fault::CloseIdle { after })
        },
    },
    FaultKind {
        name: "reset_at_accept",
        doc: "The connection is reset as soon as it is there.",
        parameters: &[],
        stage: Stage::Connection,
        make: |_| Ok(Fault::Reset(Moment::Accept)),
    },
    FaultKind {
        name: "reset_after_headers",
        doc: "Reset when the head of the request was read.",
        parameters: &[],
        stage: Stage::Head,
        make: |_| Ok(Fault::Reset(Moment::Headers)),
    },
    FaultKind {
        name: "reset_mid_body",
        doc: "Reset when half of the body was read.",
        parameters: &[],
        stage: Stage::Body,
        make: |_| Ok(Fault::Reset(Moment::MidBody)),
    },
    FaultKind {
        name: "reset_after_body",
        doc: "Reset when the whole body was read; nothing is stored.",
        parameters: &[],
        stage: Stage::Body,
        make: |_| Ok(Fault::Reset(Moment::Body)),
    },
    FaultKind {
        name: "reset_mid_answer",
        doc: "The file is stored; reset after half of the answer.",
        parameters: &[],
        stage: Stage::Body,
        make: |_| Ok(Fault::Reset(Moment::MidAnswer)),
    },
    FaultKind {
        name: "stall_at_accept",
        doc: "The connection is accepted and nothing read for `for` (until the client leaves).",
        parameters: &["for"],
        stage: Stage::Connection,
        make: |given| Ok(Fault::Stall(Moment::Accept, given.duration("for")?)),
    },
    FaultKind {
        name: "stall_after_headers",
        doc: "Silence for `for` (until the client leaves) when the head was read.",
        parameters: &["for"],
        stage: Stage::Head,
        make: |given| Ok(Fault::Stall(Moment::Headers, given.duration("for")?)),
    },
    FaultKind {
        name: "stall_mid_body",
        doc: "Silence for `for` (until the client leaves) when half of the body was read.",
        parameters: &["for"],
        stage: Stage::Body,
        make: |given| Ok(Fault::Stall(Moment::MidBody, given.duration("for")?)),
    },
    FaultKind {
        name: "stall_after_body",
        doc: "Silence for `for` (until the client leaves) when the whole body was read. After `for` the file is stored, whether or not the client is still there.",
        parameters: &["for"],
        stage: Stage::Body,
        make: |given| Ok(Fault::Stall(Moment::Body, given.duration("for")?)),
    },
    FaultKind {
        name: "stall_mid_answer",
        doc: "The file is stored; silence for `for` (until the client leaves) after half of the answer.",
        parameters: &["for"],
        stage: Stage::Body,
        make: |given| Ok(Fault::Stall(Moment::MidAnswer, given.duration("for")?)),
    },
    FaultKind {
        name: "store_then_drop",
        doc: "The file is stored and not answered: `then: close` (the default) or `then: reset` ends the connection.",
        parameters: &["then"],
        stage: Stage::Body,
        make: |given| {
            let then = given.word("then", &[("close", End::Close), ("reset", End::Reset)])?;
            Ok(Fault::StoreThenDrop(then.unwrap_or(End::Close)))
        },
    },
    FaultKind {
        name: "early_status",
        doc: "Any error `status` is answered when the head was read. The rest of the body is thrown away, or with `then: reset` the connection reset at once.",
        parameters: &["status", "then", "retry_after", "retry_at", "body"],
        stage: Stage::Head,
        make: |given| {
            let then = given.word(
                "then",
                &[("linger", Farewell::Linger), ("reset", Farewell::Reset)],
            )?;
            let then = then.unwrap_or(Farewell::Linger);
            Ok(Fault::EarlyStatus(reply(given)?, then))
        },
    },
    FaultKind {
        name: "early_success",
        doc: "200 with an ID when the head was read, and nothing stored. Only of bodies over 80 KiB: of smaller ones nobody could tell.",
        parameters: &[],
        stage: Stage::Head,
        make: |_| Ok(Fault::EarlySuccess),
    },
    FaultKind {
        name: "rate_limit",
        doc: "More than `rate` requests (as `20/s` or `90/m`, with bursts of a second's worth) are answered 429 when the head was read.",
        parameters: &["rate", "retry_after", "retry_at"],
        stage: Stage::Head,
        make: |given| {
            Ok(Fault::RateLimit {
                per_second: given.rate("rate")?,
                retry: given.retry()?,
            })
        },
    },
    FaultKind {
        name: "status",
        doc: "Any error `status` is answered when the whole body was read; nothing is stored, or with `stored: true` the file is.",
        parameters: &["status", "stored", "retry_after", "retry_at", "body"],
        stage: Stage::Body,
        make: |given| {
            let kept = given.word(
                "stored",
                &[("true", Kept::Stored), ("false", Kept::Nothing)],
            )?;
            let kept = kept.unwrap_or(Kept::Nothing);
            Ok(Fault::Status(reply(given)?, kept))
        },
    },
    FaultKind {
        name: "redirect",
        doc: "`status` (302) with `location` (`/login/`); nothing is stored.",
        parameters: &["status", "location"],
        stage: Stage::Body,
        make: |given| {
            let location = given.header("location")?;
            Ok(Fault::Redirect {
                status: given.status(300..=399)?.unwrap_or(302),
                location: location.unwrap_or_else(|| "/login/".to_owned()),
            })
        },
    },
    FaultKind {
        name: "login_page",
        doc: "200 with a page in HTML; nothing is stored.",
        parameters: &[],
        stage: Stage::Body,
        make: |_| Ok(Fault::LoginPage),
    },
    FaultKind {
        name: "empty_answer",
        doc: "The file is stored; 200 without a body.",
        parameters: &[],
        stage: Stage::Body,
        make: |_| Ok(Fault::EmptyAnswer),
    },
    FaultKind {
        name: "garbage_json",
        doc: "The file is stored; 200 with bytes that are no JSON.",
        parameters: &[],
        stage: Stage::Body,
        make: |_| Ok(Fault::GarbageJson),
    },
    FaultKind {
        name: "missing_id",
        doc: "The file is stored; the answer has no `id`.",
        parameters: &[],
        stage: Stage::Receipt,
        make: |_| Ok(Fault::MissingId),
    },
    FaultKind {
        name: "null_id",
        doc: "The file is stored; the answer's `id` is null.",
        parameters: &[],
        stage: Stage::Receipt,
        make: |_| Ok(Fault::NullId),
    },
    FaultKind {
        name: "null_fields",
        doc: "The file is stored; everything in the answer but its `id` is null.",
        parameters: &[],
        stage: Stage::Receipt,
        make: |_| Ok(Fault::NullFields),
    },
    FaultKind {
        name: "number_id",
        doc: "The file is stored; the answer's `id` is a number, which the server does not know itself.",
        parameters: &[],
        stage: Stage::Receipt,
        make: |_| Ok(Fault::NumberId),
    },
    FaultKind {
        name: "long_length",
        doc: "The file is stored; the answer's Content-Length promises more than comes.",
        parameters: &[],
        stage: Stage::Body,
        make: |_| Ok(Fault::LongLength),
    },
    FaultKind {
        name: "short_length",
        doc: "The file is stored; the answer is longer than its Content-Length says.",
        parameters: &[],
        stage: Stage::Body,
        make: |_| Ok(Fault::ShortLength),
    },
    FaultKind {
        name: "truncated_answer",
        doc: "The file is stored; the connection is closed after half of the answer.",
        parameters: &[],
        stage: Stage::Body,
        make: |_| Ok(Fault::TruncatedAnswer),
    },
    FaultKind {
        name: "oversize_answer",
        doc: "The file is stored; the answer is longer than 1 MiB.",
        parameters: &[],
        stage: Stage::Receipt,
        make: |_| Ok(Fault::OversizeAnswer),
    },
    FaultKind {
        name: "slow_answer",
        doc: "The file is stored; the answer comes byte by byte, `delay` (20ms) apart.",
        parameters: &["delay"],
        stage: Stage::Body,
        make: |given| {
            let delay = given.duration("delay")?.unwrap_or(DRIP);
            Ok(Fault::SlowAnswer { delay })
        },
    },
    FaultKind {
        name: "close_after_answer",
        doc: "All is well, but the connection that was to be kept is closed after the answer.",
        parameters: &[],
        stage: Stage::Body,
        make: |_| Ok(Fault::CloseAfterAnswer),
    },
    FaultKind {
        name: "renamed",
        doc: "The file is stored; the answer has another name.",
        parameters: &[],
        stage: Stage::Receipt,
        make: |_| Ok(Fault::Renamed),
    },
    FaultKind {
        name: "resized",
        doc: "The file is stored; the answer has another size.",
        parameters: &[],
        stage: Stage::Receipt,
        make: |_| Ok(Fault::Resized),
    },
    FaultKind {
        name: "wrong_target",
        doc: "The file is stored; the answer has another dataset.",
        parameters: &[],
        stage: Stage::Receipt,
        make: |_| Ok(Fault::WrongTarget),
    },
    FaultKind {
        name: "interim",
        doc: "All is well; an informational `status` (103; 100 and 102 too) comes before the answer.",
        parameters: &["status"],
        stage: Stage::Body,
        make: |given| {
            let status = given.status(100..=103)?.unwrap_or(103);
            if status == 101 {
                return Err(given.wrong(
                    "status",
                    "101 would change the protocol; give 100, 102 or 103",
                ));
            }
            Ok(Fault::Interim { status })
        },
    },
];

fn reply(given: &mut Parameters<'_>) -> Result<Reply, Wrong> {
    let Some(status) = given.status(400..=599)? else {
        return Err(given.missing("status"));
    };
    Ok(Reply {
        status,
        retry: given.retry()?,
        body: given.body()?,
    })
}
