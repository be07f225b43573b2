//! The state folder's ledger: whether it can be read, whose it is now, and what waits in it.

use std::cmp::Ordering;
use std::io::ErrorKind;
use std::path::Path;

use super::{Finding, path};
use crate::commands::draft::ledger_failure;
use crate::error::Exit;
use crate::ledger::{SqliteLedger, StateFolder};
use crate::model::{HumanBytes, count};

pub(super) fn look(state: &StateFolder, findings: &mut Vec<Finding>) {
    if !is_there(state.path()) {
        let found = format!(
            "{} is not there yet: a first run makes it",
            path(state.path())
        );
        findings.push(Finding::fine("ledger", found));
        return;
    }
    let holder = match state.holder() {
        Ok(holder) => holder,
        Err(error) => {
            findings.push(Finding::failure("ledger", ledger_failure(&error)));
            return;
        }
    };
    let name = path(&state.ledger());
    match SqliteLedger::examine(&state.ledger()) {
        Err(error) => findings.push(Finding::failure("ledger", ledger_failure(&error))),
        Ok(None) => {
            let found = format!("{name} is not there yet: a first run makes it");
            findings.push(Finding::fine("ledger", found));
        }
        Ok(Some(examined)) => {
            if let Some(damage) = examined.damage {
                let found = format!("{name} cannot be used: {damage}");
                findings.push(Finding::problem("ledger", Exit::LocalIo, found).help(
                    "put a backup in its place, or move it away and `import` the last report",
                ));
                return;
            }
            let schema = examined.schema.unwrap_or_default();
            let size = HumanBytes(examined.bytes);
            let found = format!("{name}: whole, {size}, schema {schema}");
            let known = examined.known;
            findings.push(match schema.cmp(&known) {
                Ordering::Greater => {
                    let found = format!("{name} was written by a newer roe-batch");
                    Finding::problem("ledger", Exit::LocalIo, found).help("use the newer one")
                }
                Ordering::Less => {
                    Finding::fine("ledger", format!("{found}; the next run makes it {known}"))
                }
                Ordering::Equal => Finding::fine("ledger", found),
            });
            if let Some(holder) = holder {
                findings.push(
                    Finding::warning("lock", format!("in use now ({holder})")).help(
                        "a run that begins now exits with 75: `--wait 10m` waits for the other one",
                    ),
                );
                return;
            }
            findings.push(Finding::fine("lock", "nobody uses the ledger now"));
            if let Some(doubts) = examined.doubts.filter(|doubts| *doubts > 0) {
                let finding =
                    Finding::warning("doubt", format!("{} in doubt", count(doubts, "file")));
                findings.push(finding.help("`roe-batch resolve MANIFEST --verify` looks for them"));
            }
        }
    }
}

/// One that may not be looked at is there.
fn is_there(folder: &Path) -> bool {
    match folder.try_exists() {
        Ok(is_there) => is_there,
        Err(error) => error.kind() != ErrorKind::NotADirectory,
    }
}
