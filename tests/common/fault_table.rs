//! What each fault may make of an attempt that it hits, by size: DESIGN's verdict table as it looks from
//! outside. A small file is sent whole, so nothing that happens later is certain; the end of a large one is
//! withheld, so what happens before it is.

/// What the ledger says of an attempt, before any doubt about it is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Stored,
    Failed,
    Rejected,
    InDoubt,
}

use Verdict::{Failed, InDoubt, Rejected, Stored};

/// How often a fault happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Often {
    /// By probability or by count, as the seed is even or odd.
    BySeed,
    /// Twice: each time all uploads pause for a second.
    Twice,
    /// By its own rule.
    Own,
}

/// One fault with its parameters.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The entry of the plan, without its frequency.
    pub entry: &'static str,
    pub often: Often,
    /// What a hit attempt of a small file may be.
    pub small: &'static [Verdict],
    /// Of a large one.
    pub large: &'static [Verdict],
    /// What other attempts may be: those that share a connection with what was hit, and all where a
    /// fault hits connections.
    pub others: &'static [Verdict],
    /// What a run ends with that met the fault, where it ends the run.
    pub stop: Option<i32>,
}

const fn row(entry: &'static str, small: &'static [Verdict], large: &'static [Verdict]) -> Row {
    Row {
        entry,
        often: Often::BySeed,
        small,
        large,
        others: &[Stored],
        stop: None,
    }
}

const fn both(entry: &'static str, verdicts: &'static [Verdict]) -> Row {
    row(entry, verdicts, verdicts)
}

const fn stops(exit: i32, row: Row) -> Row {
    Row {
        stop: Some(exit),
        ..row
    }
}

const fn pauses(row: Row) -> Row {
    Row {
        often: Often::Twice,
        ..row
    }
}

/// Hits connections, or breaks those that others use.
const fn spreads(others: &'static [Verdict], row: Row) -> Row {
    Row { others, ..row }
}

/// By its own rule.
const fn own(row: Row) -> Row {
    Row {
        often: Often::Own,
        ..row
    }
}

const LOST: &[Verdict] = &[Failed, InDoubt];
const SPREAD: &[Verdict] = &[Stored, Failed, InDoubt];

pub const FAULTS: &[Row] = &[
    spreads(SPREAD, own(both("fault: refuse, after: 3, for: 60ms", &[]))),
    spreads(SPREAD, both("fault: reset_at_accept", &[])),
    row("fault: reset_after_headers", &[InDoubt], LOST),
    row("fault: reset_mid_body", &[InDoubt], LOST),
    both("fault: reset_after_body", &[InDoubt]),
    both("fault: reset_mid_answer", &[InDoubt]),
    spreads(SPREAD, both("fault: stall_at_accept", &[])),
    spreads(&[Stored], both("fault: stall_at_accept, for: 50ms", &[])),
    row("fault: stall_after_headers", &[InDoubt], LOST),
    both("fault: stall_after_headers, for: 50ms", &[Stored]),
    row("fault: stall_mid_body", &[InDoubt], LOST),
    both("fault: stall_mid_body, for: 50ms", &[Stored]),
    both("fault: stall_after_body", &[InDoubt]),
    both("fault: stall_after_body, for: 50ms", &[Stored]),
    both("fault: stall_mid_answer", &[InDoubt]),
    both("fault: stall_mid_answer, for: 50ms", &[Stored]),
    spreads(SPREAD, both("fault: close_idle, after: 2ms", &[])),
    both("fault: store_then_drop", &[InDoubt]),
    both("fault: store_then_drop, then: reset", &[InDoubt]),
    both("fault: early_status, status: 413", &[Rejected]),
    row(
        "fault: early_status, status: 400",
        &[Rejected],
        &[Failed, Rejected],
    ),
    stops(77, both("fault: early_status, status: 401", &[Failed])),
    row("fault: early_status, status: 408", &[InDoubt], LOST),
    pauses(both(
        "fault: early_status, status: 429, retry_after: 1s",
        &[Failed],
    )),
    row(
        "fault: early_status, status: 503, body: html",
        &[InDoubt],
        LOST,
    ),
    row(
        "fault: early_status, status: 503, then: reset",
        &[InDoubt],
        LOST,
    ),
    row("fault: early_success", &[], &[Stored, InDoubt]),
    own(both(
        "fault: rate_limit, rate: 4/s, retry_after: 1s",
        &[Failed],
    )),
    both("fault: status, status: 400", &[Rejected]),
    stops(77, both("fault: status, status: 401", &[Failed])),
    stops(77, both("fault: status, status: 403", &[Failed])),
    stops(1, both("fault: status, status: 404", &[Failed])),
    both("fault: status, status: 408", &[InDoubt]),
    both("fault: status, status: 409", &[InDoubt]),
    both("fault: status, status: 413", &[Rejected]),
    both("fault: status, status: 415, body: empty", &[Rejected]),
    both("fault: status, status: 422", &[Rejected]),
    both("fault: status, status: 425", &[Failed]),
    both("fault: status, status: 429", &[Failed]),
    pauses(both(
        "fault: status, status: 429, retry_after: 1s",
        &[Failed],
    )),
    pauses(both("fault: status, status: 429, retry_at: 1s", &[Failed])),
    both("fault: status, status: 500", &[InDoubt]),
    both("fault: status, status: 502, body: html", &[InDoubt]),
    both("fault: status, status: 503", &[InDoubt]),
    pauses(both(
        "fault: status, status: 503, retry_after: 1s",
        &[Failed],
    )),
    both("fault: status, status: 504, body: empty", &[InDoubt]),
    both("fault: status, status: 500, stored: true", &[InDoubt]),
    both(
        "fault: status, status: 502, stored: true, body: html",
        &[InDoubt],
    ),
    both("fault: status, status: 503, stored: true", &[InDoubt]),
    both(
        "fault: status, status: 504, stored: true, body: html",
        &[InDoubt],
    ),
    stops(69, both("fault: redirect", &[Failed])),
    stops(69, both("fault: redirect, status: 307", &[Failed])),
    stops(
        69,
        both(
            "fault: redirect, status: 308, location: 'http://127.0.0.1:9/'",
            &[Failed],
        ),
    ),
    both("fault: login_page", &[InDoubt]),
    both("fault: empty_answer", &[InDoubt]),
    both("fault: garbage_json", &[InDoubt]),
    both("fault: missing_id", &[Stored]),
    both("fault: null_id", &[Stored]),
    both("fault: null_fields", &[Stored]),
    both("fault: number_id", &[Stored]),
    both("fault: long_length", &[Stored]),
    spreads(SPREAD, both("fault: short_length", &[InDoubt])),
    both("fault: truncated_answer", &[InDoubt]),
    both("fault: oversize_answer", &[InDoubt]),
    both("fault: slow_answer, delay: 0ms", &[Stored]),
    both("fault: slow_answer, delay: 100ms", &[InDoubt]),
    spreads(SPREAD, both("fault: close_after_answer", &[Stored])),
    both("fault: renamed", &[Stored]),
    both("fault: resized", &[Stored]),
    both("fault: wrong_target", &[Stored]),
    both("fault: interim", &[Stored]),
    both("fault: interim, status: 100", &[Stored]),
    both("fault: interim, status: 102", &[Stored]),
];
