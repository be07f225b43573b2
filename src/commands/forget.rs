//! `forget`: takes files out of the ledger, so that they are new again if they are found again.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::draft::{ledger_failure, lock};
use super::say;
use super::stream::{Stream, require_ledger};
use crate::cli::{ForgetSettings, Forgettable};
use crate::error::{Exit, Failure};
use crate::ledger::{Entry, Forgotten, Ledger, RunRow, SqliteLedger};
use crate::model::{Outcome, RuleName, SourcePath, Target, count, shown};
use crate::source::gone;

/// Entries written in one step.
const GROUP: usize = 1000;

/// Drops rows.
pub(super) fn forget(settings: &ForgetSettings) -> Result<Exit, Failure> {
    let stream = Stream::of(&settings.stream)?;
    require_ledger(&stream.state)?;
    let Some(_lock) = lock(&stream.state, "forget", settings.if_locked)? else {
        return Ok(Exit::Done);
    };
    let mut ledger =
        SqliteLedger::open(&stream.state.ledger()).map_err(|error| ledger_failure(&error))?;
    let (chosen, reason) = match &settings.which {
        Forgettable::Named(words) => (named(&ledger, words)?, "asked for by path"),
        Forgettable::Vanished => (
            vanished(&ledger, stream.state.home())?,
            "gone from the source",
        ),
    };
    if let Some(row) = chosen.iter().find(|row| row.outcome == Outcome::InDoubt) {
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

/// A file that is chosen.
struct Chosen {
    target: Arc<Target>,
    rule: RuleName,
    path: SourcePath,
    outcome: Outcome,
}

impl Chosen {
    fn of(row: &RunRow<'_>) -> Self {
        Self {
            target: Arc::clone(row.target),
            rule: RuleName::new(row.rule),
            path: SourcePath::new(row.path),
            outcome: row.end.outcome,
        }
    }
}

/// The rows that words of the command line mean: a path, or a folder's with a slash at its end.
fn named(ledger: &SqliteLedger, words: &[String]) -> Result<Vec<Chosen>, Failure> {
    let mut chosen = Vec::new();
    let mut is_known = vec![false; words.len()];
    each_file(ledger, |row| {
        let mut is_meant = false;
        for (word, is_known) in words.iter().zip(&mut is_known) {
            let path = row.path;
            if path == word || word.ends_with('/') && path.starts_with(word.as_str()) {
                is_meant = true;
                *is_known = true;
            }
        }
        if is_meant {
            chosen.push(Chosen::of(row));
        }
    })?;
    let mut found = words.iter().zip(is_known);
    if let Some((word, _)) = found.find(|(_, is_known)| !is_known) {
        return Err(Failure::new(
            Exit::Usage,
            format!("the ledger knows no file \"{}\"", shown(word)),
        )
        .hint("give paths as `roe-batch report MANIFEST --all` shows them; folders end in /"));
    }
    Ok(chosen)
}

/// The files that are gone. Where a rule has none left at all, its folder may just not be mounted:
/// then nobody can say.
fn vanished(ledger: &SqliteLedger, home: &Path) -> Result<Vec<Chosen>, Failure> {
    let mut left: HashSet<String> = HashSet::new();
    let mut found = Vec::new();
    each_file(ledger, |row| {
        if gone([row.path], home).any(|gone| gone) {
            found.push(Chosen::of(row));
        } else if !left.contains(row.rule) {
            left.insert(row.rule.to_owned());
        }
    })?;
    if let Some(row) = found.iter().find(|row| !left.contains(row.rule.as_str())) {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "every file of rule {} is gone: is its folder there?",
                row.rule
            ),
        )
        .hint("if they are really gone, name them, or their folder with a slash at the end"));
    }
    found.retain(|row| row.outcome != Outcome::InDoubt);
    Ok(found)
}

fn each_file(ledger: &SqliteLedger, mut take: impl FnMut(&RunRow<'_>)) -> Result<(), Failure> {
    let each = ledger.each_file(&mut |row| {
        take(&row);
        ControlFlow::Continue(())
    });
    each.map_err(|error| ledger_failure(&error))
}
