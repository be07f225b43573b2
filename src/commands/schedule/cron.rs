//! A line for a crontab.

use std::fmt::Write;

use super::{Job, Place, refused, shell};
use crate::error::{Exit, Failure};
use crate::model::CronTime;

/// Longest command that every cron takes, in bytes.
const COMMAND_MAX: usize = 998;

pub(super) fn text(
    job: &Job,
    place: &Place,
    time: &CronTime,
    log: Option<&str>,
) -> Result<String, Failure> {
    let mut command = String::new();
    for (name, value) in &job.environment {
        let _ = write!(command, "{name}={} ", shell(value));
    }
    command.push_str(&shell(&place.program));
    for word in job.arguments(&job.manifest, &place.state, place.key_file.as_deref()) {
        let _ = write!(command, " {}", shell(&word));
    }
    if let Some(log) = log {
        let _ = write!(command, " >>{} 2>&1", shell(log));
    }
    // Crons agree on a backslash before a percent sign that they would take for the command's end,
    // and not on two backslashes.
    if command.contains(r"\\") || command.contains(r"\%") {
        let why = "has a backslash before a backslash or `%`, which crons read differently";
        return Err(refused("the command", &command, why));
    }
    let command = command.replace('%', r"\%");
    if command.len() > COMMAND_MAX {
        let message = format!(
            "the command would have {} bytes, and crons cut it after {COMMAND_MAX}",
            command.len()
        );
        return Err(Failure::new(Exit::Usage, message).hint("shorten the paths, or use systemd"));
    }
    let name = &job.name;
    let heard = match log {
        Some(_) => "What it prints is appended to the log.",
        None => "cron mails what it prints, where it can.",
    };
    Ok(format!(
        "# {name}: add this with `crontab -e`. {heard}\n{} {command}\n",
        time.as_str()
    ))
}
