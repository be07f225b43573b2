//! `resolve`: lists files in doubt, and settles them by what somebody found out.

use std::fmt::Write;

use super::draft::{ledger_failure, lock, state_folder};
use super::say;
use super::stream::no_ledger;
use crate::cli::{Answer, ResolveSettings};
use crate::error::{Exit, Failure};
use crate::ledger::{Entry, Finding, Ledger, Settlement, Settler, SqliteLedger};
use crate::model::{Doubt, HumanBytes, count, shown};

/// Lists, or settles.
pub(super) fn resolve(settings: &ResolveSettings) -> Result<Exit, Failure> {
    let state = state_folder(&settings.manifest, settings.state.as_deref())?;
    if !state.ledger().exists() {
        return Err(no_ledger(&state));
    }
    // What a run has under way looks like doubt until it ends.
    let _lock = lock(&state, "resolve", settings.wait)?;
    let mut ledger = SqliteLedger::open(&state.ledger()).map_err(|error| ledger_failure(&error))?;
    let doubts = ledger.doubts().map_err(|error| ledger_failure(&error))?;
    let Some(answer) = &settings.answer else {
        say(&list(&doubts))?;
        return Ok(if doubts.is_empty() {
            Exit::Done
        } else {
            Exit::InDoubt
        });
    };
    let finding = match answer {
        Answer::Stored(id) => Finding::Stored(id.clone()),
        Answer::NotStored => Finding::NotStored,
    };
    let settlements = settings
        .files
        .iter()
        .map(|file| {
            Ok(Entry::Settled(Settlement {
                attempt: find(&doubts, file)?.attempt.clone(),
                run: None,
                finding: finding.clone(),
                at: jiff::Timestamp::now(),
                by: Settler::Hand,
                reason: "settled by hand".to_owned(),
            }))
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    ledger
        .write(&settlements)
        .map_err(|error| ledger_failure(&error))?;
    let left = ledger.doubts().map_err(|error| ledger_failure(&error))?;
    say(&format!(
        "settled {}, {} left in doubt\n",
        count(settlements.len(), "file"),
        left.len()
    ))?;
    Ok(Exit::Done)
}

/// The doubt that a word of the command line means: a path, or a request id.
fn find<'a>(doubts: &'a [Doubt], word: &str) -> Result<&'a Doubt, Failure> {
    let mut found = doubts
        .iter()
        .filter(|doubt| doubt.path.as_str() == word || doubt.attempt.as_str() == word);
    match (found.next(), found.next()) {
        (Some(doubt), None) => Ok(doubt),
        (None, _) => Err(
            Failure::new(Exit::Usage, format!("\"{}\" is not in doubt", shown(word)))
                .hint("give a path or a request id as `resolve MANIFEST` lists them"),
        ),
        (Some(_), Some(_)) => Err(Failure::new(
            Exit::Usage,
            format!("\"{}\" is in doubt for several targets", shown(word)),
        )
        .hint("give the request id instead")),
    }
}

fn list(doubts: &[Doubt]) -> String {
    let mut text = String::new();
    for doubt in doubts {
        let _ = writeln!(
            text,
            "{}\n  {} as \"{}\" to {}\n  request {}, {:.0}\n  {}",
            doubt.path,
            HumanBytes(doubt.stat.size),
            shown(&doubt.remote_name),
            doubt.target,
            doubt.attempt,
            doubt.since,
            doubt
                .reason
                .as_deref()
                .map_or("the run ended before the answer".into(), shown)
        );
    }
    let _ = writeln!(text, "{} in doubt", count(doubts.len(), "file"));
    if !doubts.is_empty() {
        text.push_str(
            "look for each in the dataset, then: resolve MANIFEST FILE --stored ID, or --not-stored\n",
        );
    }
    text
}
