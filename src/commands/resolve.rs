//! `resolve`: lists files in doubt, and settles them by what somebody found out.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::draft::{ledger_failure, lock};
use super::look::{read_manifest, spill, state_folder};
use super::lookup::{History, Home, SETTLE};
use super::run::{SystemClock, runtime};
use super::service::{self, Place};
use super::stream::require_ledger;
use super::{narrate, say};
use crate::cli::{self, Resolve, ResolveSettings};
use crate::error::{Exit, Failure};
use crate::execute::Past;
use crate::ledger::{self, Entry, Finding, Ledger, Settlement, Settler, SqliteLedger, StateFolder};
use crate::manifest::{self, Given};
use crate::model::{Clock, Doubt, Environment, FileId, HumanBytes, Target, count, shown};
use crate::verify::{self, Look, Verifier};

/// Lists, or settles.
pub(super) fn resolve(settings: &ResolveSettings) -> Result<Exit, Failure> {
    let state = state_folder(&settings.manifest, settings.state.as_deref())?;
    require_ledger(&state)?;
    // What a run has under way looks like doubt until it ends.
    let Some(_lock) = lock(&state, "resolve", settings.if_locked)? else {
        return Ok(Exit::Done);
    };
    let mut ledger = SqliteLedger::open(&state.ledger()).map_err(|error| ledger_failure(&error))?;
    let doubts = ledger.doubts().map_err(|error| ledger_failure(&error))?;
    let mut meant: Vec<Doubt> = Vec::new();
    for file in &settings.files {
        let doubt = find(&doubts, file)?;
        if !meant.contains(doubt) {
            meant.push(doubt.clone());
        }
    }
    let finding = match &settings.task {
        Resolve::List => {
            say(&list(&doubts))?;
            return Ok(if doubts.is_empty() {
                Exit::Done
            } else {
                Exit::InDoubt
            });
        }
        Resolve::Verify(how) => {
            let meant = if meant.is_empty() { &doubts } else { &meant };
            return verify(how, &settings.manifest, &state, &mut ledger, &doubts, meant);
        }
        Resolve::Stored(id) => Finding::Stored(id.clone()),
        Resolve::NotStored => Finding::NotStored,
    };
    let settlements: Vec<Entry> = meant
        .iter()
        .map(|doubt| {
            Entry::Settled(Settlement {
                attempt: doubt.attempt.clone(),
                run: None,
                finding: finding.clone(),
                at: SystemClock.now(),
                by: Settler::Hand,
                reason: "settled by hand".to_owned(),
            })
        })
        .collect();
    ledger
        .write(&settlements)
        .map_err(|error| ledger_failure(&error))?;
    conclude(&ledger, settlements.len())?;
    Ok(Exit::Done)
}

/// Says how many files were settled, and how many are left.
fn conclude(ledger: &SqliteLedger, settled: usize) -> Result<usize, Failure> {
    let left = ledger.doubts().map_err(|error| ledger_failure(&error))?;
    say(&format!(
        "settled {}, {} left in doubt\n",
        count(settled, "file"),
        left.len()
    ))?;
    Ok(left.len())
}

/// Looks files up in the service's listing, twice where the first look did not show them.
fn verify(
    how: &cli::Verify,
    manifest: &Path,
    state: &StateFolder,
    ledger: &mut SqliteLedger,
    doubts: &[Doubt],
    meant: &[Doubt],
) -> Result<Exit, Failure> {
    let endpoint = service::endpoint(&how.service)?;
    let origin = service::origin(endpoint.as_ref());
    let (mut waiting, others): (Vec<Doubt>, Vec<Doubt>) = meant
        .iter()
        .cloned()
        .partition(|doubt| doubt.target.origin == origin);
    if !others.is_empty() {
        narrate(&format!(
            "{} in doubt at another service than {origin} not looked up",
            count(others.len(), "file")
        ));
    }
    let mut settled = 0;
    if !waiting.is_empty() {
        let key = service::key(endpoint.as_ref(), &how.access.key)?;
        let place = Place {
            endpoint: endpoint.as_ref(),
            state,
            faults: None,
        };
        let name = manifest.to_string_lossy();
        let datasets = waiting.iter().filter_map(|d| d.target.dataset_id.as_ref());
        let datasets = datasets.map(|id| (id, &*name));
        let service = service::connect(place, datasets, key, &how.access, 1)?;
        let spill = Arc::new(spill(state));
        let history = History::of(state, &spill, doubts, SystemClock.now());
        let settle = how.settle.with(settle_of(manifest)).unwrap_or(SETTLE);
        let samples = |target: &Target| history.samples(target);
        let known = |target: &Target, id: &FileId| history.has(target, id);
        let open = |target: &Target| {
            let open = doubts.iter().filter(|doubt| doubt.target == *target);
            open.cloned().chain(history.unnamed(target)).collect()
        };
        let verifier = Verifier::new(verify::Parts {
            client: &service.client,
            clock: &SystemClock,
            settle,
            backoff: Duration::from_millis(500),
            files: Arc::new(Home::of(state)),
            samples: &samples,
            known: &known,
            open: &open,
        });
        let runtime = runtime()?;
        loop {
            verifier.begin_pass();
            let mut again = None;
            let mut absent = Vec::new();
            for doubt in waiting {
                let look = match history.prepare(&doubt.target) {
                    Ok(()) => runtime.block_on(verifier.look(&doubt)),
                    Err(why) => Look::Held(why),
                };
                if let Look::KeyRefused(why) = &look {
                    return Err(Failure::new(
                        Exit::Credentials,
                        format!("the service refused the API key ({why})"),
                    ));
                }
                let (entry, line) = note(&doubt, &look);
                match ledger.write(&[entry]) {
                    Ok(()) => say(&line)?,
                    // One that is refused leaves the others their chance.
                    Err(error) if error.is_refusal() => {
                        say(&format!("{}: still in doubt: {error}\n", doubt.path))?;
                        continue;
                    }
                    Err(error) => return Err(ledger_failure(&error)),
                }
                match look {
                    Look::Stored { .. } | Look::NotStored { .. } => settled += 1,
                    Look::AbsentSince { since, again: due } => {
                        again = again.max(Some(due));
                        absent.push(Doubt {
                            absent_since: Some(since),
                            ..doubt
                        });
                    }
                    Look::Held(_) | Look::KeyRefused(_) => {}
                }
            }
            let Some(again) = again else { break };
            let wait = Duration::try_from(again.duration_since(SystemClock.now()));
            let wait = wait.unwrap_or_default();
            narrate(&format!(
                "{} not listed: looking again in {:.0} s (Ctrl-C leaves that to the next look)",
                count(absent.len(), "file"),
                wait.as_secs_f64().ceil()
            ));
            std::thread::sleep(wait);
            waiting = absent;
        }
    }
    let left = conclude(ledger, settled)?;
    Ok(if left == 0 { Exit::Done } else { Exit::InDoubt })
}

/// What the manifest says of the settle time, as far as it can be read.
fn settle_of(path: &Path) -> Option<Duration> {
    let source = read_manifest(path).ok()?;
    let reading = manifest::read(&source, path, Given::environment(&Environment::default()));
    reading.manifest.run.settle
}

/// What the ledger is to keep of a look, and what people are told.
fn note(doubt: &Doubt, look: &Look) -> (Entry, String) {
    let settled = |finding: Finding, how: &str| {
        Entry::Settled(Settlement {
            attempt: doubt.attempt.clone(),
            run: None,
            finding,
            at: SystemClock.now(),
            by: Settler::Listing,
            reason: how.to_owned(),
        })
    };
    let looked = |absent_since, seen: &str| {
        Entry::Looked(ledger::Look {
            attempt: doubt.attempt.clone(),
            absent_since,
            seen: seen.to_owned(),
        })
    };
    let path = &doubt.path;
    match look {
        Look::Stored { id, how } => (
            settled(Finding::Stored(id.clone()), how),
            format!("{path}: stored as {id}: {how}\n"),
        ),
        Look::NotStored { how } => (
            settled(Finding::NotStored, how),
            format!("{path}: not stored: {how}\n"),
        ),
        Look::AbsentSince { since, .. } => {
            let seen = format!("the file listing does not show it since {since:.0}");
            (looked(Some(*since), &seen), String::new())
        }
        Look::Held(why) | Look::KeyRefused(why) => (
            looked(None, why),
            format!("{path}: still in doubt: {}\n", shown(why)),
        ),
    }
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
        if let Some(look) = &doubt.last_look {
            let _ = writeln!(text, "  looked up: {}", shown(look));
        }
    }
    let _ = writeln!(text, "{} in doubt", count(doubts.len(), "file"));
    if !doubts.is_empty() {
        text.push_str(
            "`resolve MANIFEST --verify` looks for them in the dataset; or look yourself, then: resolve \
             MANIFEST FILE --stored ID, or --not-stored\n",
        );
    }
    text
}
