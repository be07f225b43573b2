//! `forget`: takes files out of the ledger, so that they are new again if they are found again.

use std::collections::HashSet;

use super::draft::{ledger_failure, lock};
use super::say;
use super::stream::{Stream, require_ledger};
use crate::cli::{ForgetSettings, Forgettable};
use crate::error::{Exit, Failure};
use crate::ledger::{Entry, Forgotten, Ledger, RunRow, SqliteLedger};
use crate::model::{Outcome, RuleName, SourcePath, count, shown};
use crate::source::gone;

/// Entries written in one step.
const GROUP: usize = 1000;

/// Drops rows.
pub(super) fn forget(settings: &ForgetSettings) -> Result<Exit, Failure> {
    let stream = Stream::of(&settings.stream)?;
    require_ledger(&stream.state)?;
    let _lock = lock(&stream.state, "forget", settings.wait)?;
    let mut ledger =
        SqliteLedger::open(&stream.state.ledger()).map_err(|error| ledger_failure(&error))?;
    let files = ledger.files().map_err(|error| ledger_failure(&error))?;
    let (chosen, reason) = match &settings.which {
        Forgettable::Named(words) => (named(&files, words)?, "asked for by path"),
        Forgettable::Vanished => {
            let paths: Vec<SourcePath> = files.iter().map(|row| row.path.clone()).collect();
            let gone = gone(&paths, stream.state.home());
            (vanished(&files, &gone)?, "gone from the source")
        }
    };
    if let Some(row) = chosen
        .iter()
        .find(|row| row.end.outcome == Outcome::InDoubt)
    {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "{} is in doubt: forgotten, it might be stored twice",
                row.path
            ),
        )
        .hint("settle it first with `roe-batch resolve`"));
    }
    let entries: Vec<Entry> = chosen
        .iter()
        .map(|row| {
            Entry::Forgotten(Forgotten {
                target: row.target.clone(),
                path: row.path.clone(),
                at: jiff::Timestamp::now(),
                reason: reason.to_owned(),
            })
        })
        .collect();
    for group in entries.chunks(GROUP) {
        ledger
            .write(group)
            .map_err(|error| ledger_failure(&error))?;
    }
    say(&format!(
        "forgot {}; what the next run finds of them is new, and sent again\n",
        count(entries.len(), "file")
    ))?;
    Ok(Exit::Done)
}

/// The rows that words of the command line mean: a path, or a folder's with a slash at its end.
fn named<'a>(files: &'a [RunRow], words: &[String]) -> Result<Vec<&'a RunRow>, Failure> {
    let mut chosen: Vec<&RunRow> = Vec::new();
    let mut seen: HashSet<*const RunRow> = HashSet::new();
    for word in words {
        let is_meant = |row: &&RunRow| {
            let path = row.path.as_str();
            path == word || word.ends_with('/') && path.starts_with(word.as_str())
        };
        let mut found = files.iter().filter(is_meant).peekable();
        if found.peek().is_none() {
            return Err(Failure::new(
                Exit::Usage,
                format!("the ledger knows no file \"{}\"", shown(word)),
            )
            .hint("give paths as `roe-batch report MANIFEST --all` shows them; folders end in /"));
        }
        chosen.extend(found.filter(|row| seen.insert(std::ptr::from_ref(*row))));
    }
    Ok(chosen)
}

/// The files that are gone. Where a rule has none left at all, its folder may just not be mounted:
/// then nobody can say.
fn vanished<'a>(
    files: &'a [RunRow],
    gone: &HashSet<SourcePath>,
) -> Result<Vec<&'a RunRow>, Failure> {
    let left: HashSet<&RuleName> = files
        .iter()
        .filter(|row| !gone.contains(&row.path))
        .map(|row| &row.rule)
        .collect();
    let mut found = Vec::new();
    for row in files.iter().filter(|row| gone.contains(&row.path)) {
        if !left.contains(&row.rule) {
            return Err(Failure::new(
                Exit::Usage,
                format!(
                    "every file of rule {} is gone: is its folder there?",
                    row.rule
                ),
            )
            .hint("if they are really gone, name them, or their folder with a slash at the end"));
        }
        if row.end.outcome != Outcome::InDoubt {
            found.push(row);
        }
    }
    Ok(found)
}
