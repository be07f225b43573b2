//! What one attempt's ending means: DESIGN's table as one pure function.

use super::answer::{Answer, Break, Ending, Receipt};
use crate::model::{Delivery, RetryAfter, shown_bounded};

/// What is to be made of one attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The file is stored; the id may have been unreadable, it is never sent again all the same.
    Stored(Receipt),
    /// The service refused this file for good.
    Rejected(String),
    /// It is certainly not stored: try again.
    Retry(Retry),
    /// The service may have stored it.
    InDoubt(String),
    /// Not stored, and no other file would fare better.
    Stop(Stop),
}

/// A retry, and on what terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// What went wrong.
    pub why: String,
    /// How often this cause may be answered by trying again.
    pub limit: RetryLimit,
    /// Whom it slows down.
    pub pause: Pause,
    /// What it says of the service.
    pub reach: Reach,
}

/// How often a cause may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryLimit {
    /// As often as the run allows.
    Attempts,
    /// Once: a second time it is the file's own fault.
    Once,
}

/// Who waits before a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pause {
    /// This file.
    Own,
    /// Every worker: the service asked for it, maybe with a time.
    Shared(Option<RetryAfter>),
}

/// Whether the service was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// It was, or may have been.
    Reached,
    /// No connection came about.
    Unreached,
}

/// Why no other file would fare better.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// 401, 402: the key. Stops the run.
    Credentials(String),
    /// 403: the key may not use this target. Stops the target.
    Forbidden(String),
    /// 404: the service does not know this target. Stops the target.
    UnknownTarget(String),
    /// A redirect or TLS refused: the address is not the API's. Stops the run.
    Misconfigured(String),
}

/// Judges one attempt.
#[must_use]
pub fn verdict(delivery: Delivery, ending: &Ending) -> Verdict {
    match ending {
        Ending::Broken(broken) => broken_off(delivery, broken),
        Ending::Answered(answer) => answered(delivery, answer),
    }
}

fn broken_off(delivery: Delivery, broken: &Break) -> Verdict {
    let why = broken.text().to_owned();
    match (broken, delivery) {
        (Break::Refused(_), _) => retry(why),
        // Also for TLS: an alert can come after the service has taken the whole file.
        (_, Delivery::Complete) => Verdict::InDoubt(why),
        (Break::Tls(_), _) => Verdict::Stop(Stop::Misconfigured(why)),
        (Break::Connect(_), _) => Verdict::Retry(Retry {
            why,
            limit: RetryLimit::Attempts,
            pause: Pause::Own,
            reach: Reach::Unreached,
        }),
        _ => retry(why),
    }
}

fn answered(delivery: Delivery, answer: &Answer) -> Verdict {
    let complete = delivery == Delivery::Complete;
    // What went well needs no words.
    let why = || describe(answer);
    let unless_complete = |why: String| {
        if complete {
            Verdict::InDoubt(why)
        } else {
            retry(why)
        }
    };
    match answer.status {
        200..=299 if !complete => Verdict::InDoubt(format!(
            "{}, although the end of the file was not sent",
            why()
        )),
        200..=299 => match Receipt::parse(&answer.body) {
            Some(receipt) => Verdict::Stored(receipt),
            // A login page or a proxy's greeting is no word of the service's.
            None => Verdict::InDoubt(format!("{}, but the answer is none of the API's", why())),
        },
        300..=399 => Verdict::Stop(Stop::Misconfigured(match &answer.location {
            Some(to) => format!("{}: redirected to {}", why(), shown_bounded(to)),
            None => format!("{}: redirected", why()),
        })),
        400 if complete => Verdict::Rejected(why()),
        400 => Verdict::Retry(Retry {
            why: why(),
            limit: RetryLimit::Once,
            pause: Pause::Own,
            reach: Reach::Reached,
        }),
        401 | 402 => Verdict::Stop(Stop::Credentials(why())),
        403 => Verdict::Stop(Stop::Forbidden(why())),
        404 => Verdict::Stop(Stop::UnknownTarget(why())),
        // A proxy on the way, which passes nothing on.
        407 => Verdict::Stop(Stop::Misconfigured(why())),
        425 | 429 => shared(why(), answer),
        503 if retry_after(answer).is_some() => shared(why(), answer),
        408 | 409 | 500 | 502 | 503 | 504 => unless_complete(why()),
        // What the rows above left of 4xx.
        status if status / 100 == 4 => Verdict::Rejected(why()),
        // Informational and unassigned statuses say nothing about the file.
        _ => unless_complete(why()),
    }
}

fn retry(why: String) -> Verdict {
    Verdict::Retry(Retry {
        why,
        limit: RetryLimit::Attempts,
        pause: Pause::Own,
        reach: Reach::Reached,
    })
}

fn shared(why: String, answer: &Answer) -> Verdict {
    Verdict::Retry(Retry {
        why,
        limit: RetryLimit::Attempts,
        pause: Pause::Shared(retry_after(answer)),
        reach: Reach::Reached,
    })
}

fn retry_after(answer: &Answer) -> Option<RetryAfter> {
    RetryAfter::parse(answer.retry_after.as_deref()?)
}

/// An answer in words: status, message, and how it was cut.
pub(super) fn describe(answer: &Answer) -> String {
    let mut text = format!("HTTP {}", answer.status);
    if let Some(message) = answer.message() {
        text = format!("{text}: {message}");
    }
    if let Some(cut) = &answer.cut {
        text = format!("{text} ({cut})");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use Delivery::{Complete, Incomplete, NotSent};

    fn answer(status: u16, body: &str, retry_after: Option<&str>) -> Ending {
        Ending::Answered(Answer {
            status,
            retry_after: retry_after.map(ToOwned::to_owned),
            body: body.as_bytes().to_vec(),
            ..Answer::default()
        })
    }

    /// The verdict in a word.
    fn word(delivery: Delivery, ending: &Ending) -> &'static str {
        match verdict(delivery, ending) {
            Verdict::Stored(receipt) if receipt.file_id.is_some() => "stored",
            Verdict::Stored(_) => "stored, id unknown",
            Verdict::Rejected(_) => "rejected",
            Verdict::InDoubt(_) => "in doubt",
            Verdict::Stop(Stop::Credentials(_)) => "stop: credentials",
            Verdict::Stop(Stop::Forbidden(_)) => "stop target: forbidden",
            Verdict::Stop(Stop::UnknownTarget(_)) => "stop target: unknown",
            Verdict::Stop(Stop::Misconfigured(_)) => "stop: configuration",
            Verdict::Retry(retry) => match (retry.limit, retry.pause, retry.reach) {
                (RetryLimit::Once, _, _) => "retry once",
                (_, Pause::Shared(Some(_)), _) => "retry after, all",
                (_, Pause::Shared(None), _) => "retry, all",
                (_, Pause::Own, Reach::Unreached) => "retry, unreached",
                (_, Pause::Own, Reach::Reached) => "retry",
            },
        }
    }

    #[test]
    fn broken_attempts_are_retried_until_the_whole_body_is_out_unless_they_were_refused() {
        type Make = fn(String) -> Break;
        let rows: [(Make, [&str; 3]); 6] = [
            (
                Break::Connect,
                ["retry, unreached", "retry, unreached", "in doubt"],
            ),
            (Break::Lost, ["retry", "retry", "in doubt"]),
            (Break::Foreign, ["retry", "retry", "in doubt"]),
            (Break::Stall, ["retry", "retry", "in doubt"]),
            (Break::Refused, ["retry", "retry", "retry"]),
            (
                Break::Tls,
                ["stop: configuration", "stop: configuration", "in doubt"],
            ),
        ];
        for (make, expected) in rows {
            let ending = Ending::Broken(make("why".to_owned()));
            let found = [NotSent, Incomplete, Complete].map(|d| word(d, &ending));
            assert_eq!(found, expected, "{ending:?}");
        }
    }

    #[test]
    fn a_success_counts_only_when_everything_was_sent() {
        for status in [200, 201, 204] {
            let with_id = answer(status, r#"{"id": "f"}"#, None);
            assert_eq!(word(Complete, &with_id), "stored");
            assert_eq!(word(Incomplete, &with_id), "in doubt");
        }
        for body in [
            "",
            "<html>Login</html>",
            "[1]",
            "{\"id\": \"f",
            "{}",
            r#"{"id": null}"#,
            r#"{"error": "disk full"}"#,
        ] {
            assert_eq!(
                word(Complete, &answer(200, body, None)),
                "in doubt",
                "{body}"
            );
        }
        for body in [r#"{"name": "a"}"#, r#"{"id": null, "size": 3}"#] {
            let without = answer(200, body, None);
            assert_eq!(word(Complete, &without), "stored, id unknown");
            assert_eq!(word(Incomplete, &without), "in doubt");
        }
    }

    #[test]
    fn each_status_has_its_row() {
        let rows: [(u16, &str, &str); 29] = [
            (301, "stop: configuration", "stop: configuration"),
            (302, "stop: configuration", "stop: configuration"),
            (307, "stop: configuration", "stop: configuration"),
            (308, "stop: configuration", "stop: configuration"),
            (400, "retry once", "rejected"),
            (401, "stop: credentials", "stop: credentials"),
            (402, "stop: credentials", "stop: credentials"),
            (403, "stop target: forbidden", "stop target: forbidden"),
            (404, "stop target: unknown", "stop target: unknown"),
            (405, "rejected", "rejected"),
            (407, "stop: configuration", "stop: configuration"),
            (408, "retry", "in doubt"),
            (409, "retry", "in doubt"),
            (410, "rejected", "rejected"),
            (413, "rejected", "rejected"),
            (415, "rejected", "rejected"),
            (418, "rejected", "rejected"),
            (422, "rejected", "rejected"),
            (425, "retry, all", "retry, all"),
            (429, "retry, all", "retry, all"),
            (431, "rejected", "rejected"),
            (500, "retry", "in doubt"),
            (501, "retry", "in doubt"),
            (502, "retry", "in doubt"),
            (503, "retry", "in doubt"),
            (504, "retry", "in doubt"),
            (520, "retry", "in doubt"),
            (599, "retry", "in doubt"),
            (100, "retry", "in doubt"),
        ];
        for (status, incomplete, complete) in rows {
            let ending = answer(status, "", None);
            assert_eq!(word(Incomplete, &ending), incomplete, "{status} incomplete");
            assert_eq!(word(Complete, &ending), complete, "{status} complete");
        }
    }

    #[test]
    fn retry_after_slows_everyone_and_clears_a_503_of_doubt() {
        for status in [425, 429, 503] {
            let ending = answer(status, "", Some("3"));
            assert_eq!(word(Incomplete, &ending), "retry after, all");
            assert_eq!(word(Complete, &ending), "retry after, all");
        }
        let nonsense = answer(503, "", Some("soon"));
        assert_eq!(word(Complete, &nonsense), "in doubt");
        assert_eq!(word(Incomplete, &nonsense), "retry");
    }

    #[test]
    fn reasons_say_what_the_service_said() {
        let Verdict::Rejected(why) =
            verdict(Complete, &answer(422, r#"{"file": ["too odd"]}"#, None))
        else {
            panic!("rejected")
        };
        assert_eq!(why, "HTTP 422: file: too odd");
    }
}
