//! Lines about what happens: for people, or a JSON object each.

use std::fmt::Write;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::tally::{Large, View};
use crate::event::Event;
use crate::model::{
    AttemptId, Difference, FileId, Gravity, HumanBytes, JobEnd, LogForm, Outcome, RuleName,
    SourcePath, Verbosity, count, is_shown,
};

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For those who want to see each file.
    Debug,
    /// What a person at the terminal wants to know.
    Info,
    /// What may become a problem.
    Warning,
    /// A problem.
    Error,
}

impl Level {
    /// Whether it is told where so much is.
    #[must_use]
    pub fn is_told(self, verbosity: Verbosity) -> bool {
        let least = match verbosity {
            Verbosity::Quiet => Self::Warning,
            Verbosity::Normal => Self::Info,
            Verbosity::Verbose => Self::Debug,
        };
        self >= least
    }

    fn word(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// How much an event matters; none where it is only counted.
pub(super) fn level(event: &Event) -> Option<Level> {
    Some(match event {
        Event::Began { .. } | Event::Sending { .. } => return None,
        Event::Retrying { .. }
        | Event::Paused { .. }
        | Event::Settling { .. }
        | Event::Found { .. } => Level::Info,
        Event::Settled { end, .. } => match end.outcome {
            Outcome::InDoubt => Level::Error,
            _ => Level::Info,
        },
        Event::Ended { end, .. } => match (end.outcome, end.difference.map(Difference::gravity)) {
            (Outcome::Stored, Some(Gravity::FailsRun)) => Level::Error,
            (Outcome::Stored, _) if end.reason.is_some() => Level::Info,
            (Outcome::Stored, _) => Level::Debug,
            (Outcome::NotAttempted, _) => return None,
            _ => Level::Error,
        },
        Event::TargetRefused(_) | Event::Stopping(_) => Level::Error,
    })
}

/// The line for an event.
pub(super) fn line(event: &Event, form: LogForm, at: impl FnOnce() -> Timestamp) -> Option<String> {
    let level = level(event)?;
    match form {
        LogForm::Text => text(event),
        LogForm::Json => {
            let mut line = Line::new("log", at());
            line.set("level", level.word());
            fields(event, &mut line);
            Some(line.text())
        }
    }
}

/// A line about the run that is no event.
#[must_use]
pub fn message(level: Level, text: &str, form: LogForm, at: impl FnOnce() -> Timestamp) -> String {
    match form {
        LogForm::Text => text.to_owned(),
        LogForm::Json => {
            let mut line = Line::new("log", at());
            line.set("level", level.word());
            line.set("event", "message");
            line.set("message", anstream::adapter::strip_str(text).to_string());
            line.text()
        }
    }
}

fn text(event: &Event) -> Option<String> {
    Some(match event {
        Event::Began { .. } | Event::Sending { .. } => return None,
        Event::Retrying {
            rule,
            path,
            attempt,
            request,
            why,
            wait,
        } => format!(
            "retry: {rule}: {path}: {why}; again in {:.1} s{}",
            wait.as_secs_f64(),
            behind(*attempt, Some(request))
        ),
        Event::Settling { files, wait } => format!(
            "{} in doubt and not listed: looking again in {:.0} s (Ctrl-C leaves that to the next \
             run)",
            count(*files, "file"),
            wait.as_secs_f64().ceil()
        ),
        Event::Settled { rule, path, end } => {
            let why = end.reason.as_deref().unwrap_or("sent again");
            let label = end.outcome.label();
            let behind = behind(end.attempts, end.request_id.as_ref());
            match end.outcome {
                Outcome::InDoubt => format!("{label}: {rule}: {path}: {why}{behind}"),
                _ => format!("settled: {rule}: {path}: {label}: {why}{behind}"),
            }
        }
        Event::Found {
            path,
            request,
            id,
            how,
        } => format!(
            "settled: {path}, which is not in the plan: stored as {id}: {how}{}",
            behind(0, Some(request))
        ),
        Event::Paused { why, wait } => {
            format!(
                "paused: {why}; all uploads wait {:.1} s",
                wait.as_secs_f64()
            )
        }
        Event::Ended {
            rule,
            path,
            size,
            end,
        } => {
            let behind = behind(end.attempts, end.request_id.as_ref());
            match (end.outcome, &end.reason) {
                (Outcome::Stored, Some(why)) => format!("note: {rule}: {path}: {why}{behind}"),
                (Outcome::Stored, None) => {
                    let mut text = format!("stored: {rule}: {path}: ");
                    if let Some(id) = &end.file_id {
                        let _ = write!(text, "{id}, ");
                    }
                    let _ = write!(text, "{}", HumanBytes(*size));
                    if let Some(took) = took(end) {
                        let _ = write!(text, " in {:.1} s", took.as_secs_f64());
                    }
                    text + &behind
                }
                (outcome, why) => {
                    let why = why.as_deref().unwrap_or("no reason known");
                    format!("{}: {rule}: {path}: {why}{behind}", outcome.label())
                }
            }
        }
        Event::TargetRefused(cause) => format!("refused: {cause}; its files are not tried"),
        Event::Stopping(cause) => format!("stopping: {cause}"),
    })
}

/// Which attempt it was, and the id under which the service may know it.
fn behind(attempt: u32, request: Option<&AttemptId>) -> String {
    match (attempt, request) {
        (0, Some(request)) => format!(" (request {request})"),
        (number, Some(request)) => format!(" (attempt {number}, request {request})"),
        (_, None) => String::new(),
    }
}

/// From the beginning of the first attempt to the end of the last.
fn took(end: &JobEnd) -> Option<Duration> {
    let took = end.finished?.duration_since(end.started?);
    Duration::try_from(took.max(SignedDuration::ZERO)).ok()
}

fn fields(event: &Event, line: &mut Line) {
    match event {
        Event::Began { .. } | Event::Sending { .. } => {}
        Event::Retrying {
            rule,
            path,
            attempt,
            request,
            why,
            wait,
        } => {
            line.set("event", "retrying");
            line.file(Some(rule), path, *attempt, Some(request));
            line.set("reason", why.as_str());
            line.seconds("wait_s", *wait);
        }
        Event::Settling { files, wait } => {
            line.set("event", "settling");
            line.set("files", *files);
            line.seconds("wait_s", *wait);
        }
        Event::Settled { rule, path, end } => {
            line.set("event", "settled");
            line.end(rule, path, end);
        }
        Event::Found {
            path,
            request,
            id,
            how,
        } => {
            line.set("event", "found");
            line.file(None, path, 0, Some(request));
            line.set("file_id", id.as_str());
            line.set("reason", how.as_str());
        }
        Event::Paused { why, wait } => {
            line.set("event", "paused");
            line.set("reason", why.as_str());
            line.seconds("wait_s", *wait);
        }
        Event::Ended {
            rule,
            path,
            size,
            end,
        } => {
            line.set("event", "ended");
            line.end(rule, path, end);
            line.set("size", *size);
        }
        Event::TargetRefused(cause) => {
            line.set("event", "target_refused");
            line.set("reason", cause.to_string());
        }
        Event::Stopping(cause) => {
            line.set("event", "stopping");
            line.set("reason", cause.to_string());
        }
    }
}

/// How far a run has come, for programs.
pub(super) fn progress(view: &View, at: Timestamp) -> String {
    let mut line = Line::new("progress", at);
    line.set("phase", view.phase.word());
    line.set("files", view.files);
    line.set("files_ended", view.ended);
    line.set("bytes", view.bytes);
    line.set("bytes_sent", view.sent);
    line.set("failed", view.failed);
    line.set("in_doubt", view.in_doubt);
    line.set("retries", view.retries);
    line.set("bytes_per_s", view.speed.map(f64::round));
    line.set("left_s", view.left.map(|left| left.as_secs_f64().ceil()));
    let paused = view.held.as_ref().map(|held| {
        json!({
            "reason": held.why,
            "left_s": tenths(held.left),
        })
    });
    line.set("paused", paused);
    let sending: Vec<Value> = view.sending.iter().map(sending).collect();
    line.set("sending", sending);
    line.text()
}

fn sending(file: &Large) -> Value {
    json!({
        "rule": file.rule.as_str(),
        "path": file.path.as_str(),
        "attempt": file.attempt,
        "request_id": file.request.as_str(),
        "bytes": file.size,
        "bytes_sent": file.sent,
    })
}

fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// A JSON object that is to be one line.
struct Line(Map<String, Value>);

impl Line {
    fn new(kind: &str, at: Timestamp) -> Self {
        let mut line = Self(Map::new());
        line.set("kind", kind);
        line.set("timestamp", format!("{at:.3}"));
        line
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn seconds(&mut self, name: &str, time: Duration) {
        self.set(name, tenths(time));
    }

    fn file(
        &mut self,
        rule: Option<&RuleName>,
        path: &SourcePath,
        attempt: u32,
        request: Option<&AttemptId>,
    ) {
        self.set("rule", rule.map(RuleName::as_str));
        self.set("path", path.as_str());
        self.set("attempt", attempt);
        self.set("request_id", request.map(AttemptId::as_str));
    }

    fn end(&mut self, rule: &RuleName, path: &SourcePath, end: &JobEnd) {
        self.file(Some(rule), path, end.attempts, end.request_id.as_ref());
        self.set("outcome", end.outcome.word());
        self.set("file_id", end.file_id.as_ref().map(FileId::as_str));
        self.set("http_status", end.http_status);
        self.set("reason", end.reason.as_deref());
        self.set("took_s", took(end).map(|took| took.as_secs_f64()));
    }

    /// As JSON in which nothing can drive a terminal that the line is shown on.
    fn text(self) -> String {
        let text = Value::Object(self.0).to_string();
        if text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return text;
        }
        let mut safe = String::with_capacity(text.len() + 16);
        for c in text.chars() {
            if is_shown(c) {
                safe.push(c);
            } else {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(safe, "\\u{unit:04x}");
                }
            }
        }
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::StopCause;

    const HOSTILE: &str = "in/\u{1b}[2J\"\\\n\u{9b}\u{202e}\u{2028}\u{e0001}漢🎉.pdf";

    fn at() -> Timestamp {
        Timestamp::from_second(1_800_000_000).expect("a time")
    }

    fn ended(outcome: Outcome, reason: Option<&str>) -> Event {
        Event::Ended {
            rule: RuleName::new("all"),
            path: SourcePath::new(HOSTILE),
            size: 10,
            end: JobEnd {
                attempts: 2,
                request_id: Some(AttemptId::new("0197")),
                file_id: Some(FileId::new("f-1")),
                ..JobEnd::without_attempt(outcome, reason.map(str::to_owned))
            },
        }
    }

    fn retrying() -> Event {
        Event::Retrying {
            rule: RuleName::new("all"),
            path: SourcePath::new(HOSTILE),
            attempt: 1,
            request: AttemptId::new("0197"),
            why: "HTTP 429".to_owned(),
            wait: Duration::from_millis(1240),
        }
    }

    fn said(event: &Event, form: LogForm) -> String {
        line(event, form, at).expect("a line")
    }

    #[test]
    fn a_hostile_name_drives_no_terminal_and_is_the_same_when_read_back() {
        for event in [
            ended(Outcome::Stored, None),
            ended(Outcome::Rejected, Some("HTTP 422")),
            retrying(),
        ] {
            for form in [LogForm::Text, LogForm::Json] {
                let line = said(&event, form);
                assert!(line.chars().all(is_shown), "{line:?}");
            }
            let value: Value = serde_json::from_str(&said(&event, LogForm::Json)).expect("JSON");
            assert_eq!(value["path"], HOSTILE);
        }
    }

    #[test]
    fn every_line_about_a_file_names_rule_path_attempt_and_request() {
        let path = SourcePath::new(HOSTILE).to_string();
        for event in [
            ended(Outcome::Stored, None),
            ended(Outcome::Stored, Some("renamed: so")),
            ended(Outcome::Failed, None),
            retrying(),
        ] {
            let text = said(&event, LogForm::Text);
            assert!(text.contains(&format!("all: {path}")), "{text}");
            assert!(
                text.contains("attempt ") && text.contains("request 0197"),
                "{text}"
            );
            let value: Value = serde_json::from_str(&said(&event, LogForm::Json)).expect("JSON");
            for name in ["rule", "path", "attempt", "request_id"] {
                assert!(!value[name].is_null(), "{name} in {value}");
            }
        }
    }

    #[test]
    fn a_json_line_says_when_how_bad_and_what() {
        let value: Value = serde_json::from_str(&said(&retrying(), LogForm::Json)).expect("JSON");
        let expected = json!({
            "kind": "log",
            "timestamp": "2027-01-15T08:00:00.000Z",
            "level": "info",
            "event": "retrying",
            "rule": "all",
            "path": HOSTILE,
            "attempt": 1,
            "request_id": "0197",
            "reason": "HTTP 429",
            "wait_s": 1.2,
        });
        assert_eq!(value, expected);
        let line = message(
            Level::Info,
            "\u{1b}[1mnotice\u{1b}[0m: so",
            LogForm::Json,
            at,
        );
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["message"], "notice: so");
    }

    #[test]
    fn what_is_told_depends_on_how_much_is_wanted() {
        let told =
            |event: &Event, verbosity| level(event).is_some_and(|level| level.is_told(verbosity));
        let stopping = Event::Stopping(StopCause::Unavailable("gone".to_owned()));
        for (event, quiet, normal, verbose) in [
            (ended(Outcome::Stored, None), false, false, true),
            (ended(Outcome::Stored, Some("renamed")), false, true, true),
            (ended(Outcome::Rejected, None), true, true, true),
            (ended(Outcome::InDoubt, None), true, true, true),
            (ended(Outcome::NotAttempted, None), false, false, false),
            (retrying(), false, true, true),
            (stopping, true, true, true),
        ] {
            let found = [Verbosity::Quiet, Verbosity::Normal, Verbosity::Verbose]
                .map(|verbosity| told(&event, verbosity));
            assert_eq!(found, [quiet, normal, verbose], "{event:?}");
        }
    }

    #[test]
    fn progress_is_one_object_with_everything_in_it() {
        let view = View::default();
        let value: Value = serde_json::from_str(&progress(&view, at())).expect("JSON");
        assert_eq!(value["kind"], "progress");
        assert_eq!(value["phase"], "planning");
        assert!(
            value["paused"].is_null() && value["sending"] == json!([]),
            "{value}"
        );
    }
}
