//! `import`: adopts files that another program uploaded, from its table of paths and ids.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::draft::{Draft, draft_of, ledger_failure, lock, sources};
use super::run::{SystemChance, SystemClock};
use super::{narrate, say};
use crate::cli::ImportSettings;
use crate::error::{Exit, Failure};
use crate::execute::Chance;
use crate::ledger::{
    AdoptedFrom, Adoption, Entry, Ledger, RunEnd, RunKind, RunStart, SqliteLedger,
};
use crate::model::{
    Clock, DatasetId, Digest, FileId, Known, Outcome, Target, ToRead, count, shown, shown_bounded,
};
use crate::plan::{Decision, Plan, UploadReason};

/// Entries written in one step.
const GROUP: usize = 1000;

/// Problems that are shown.
const SHOWN: usize = 20;

/// Largest table that is read, in bytes.
const TABLE_MAX: u64 = 1 << 30;

/// Longest id that is taken for one.
const ID_MAX: usize = 256;

/// One row of the table that says something.
struct Said {
    line: u64,
    path: String,
    id: FileId,
    /// What else the table says, where it is a report.
    digest: Option<Digest>,
    dataset: Option<String>,
}

/// What is made of the table.
#[derive(Default)]
struct Sorted<'a> {
    /// Rows of the plan, each with what is said of it.
    adopted: Vec<(usize, &'a Said)>,
    known_already: usize,
    missing: usize,
    problems: Vec<String>,
}

/// Adopts what the table says, all of it or nothing.
pub(super) fn import(settings: &ImportSettings) -> Result<Exit, Failure> {
    let clock = SystemClock;
    let sources = sources(&settings.plan.look)?;
    let Some(draft) = draft_of(&settings.plan, &sources, clock.now())? else {
        return Ok(Exit::Invalid);
    };
    let (said, without_id) = read_table(&settings.table)?;
    let Some(_lock) = lock(&draft.state, "import", settings.if_locked)? else {
        return Ok(Exit::Done);
    };
    let mut ledger =
        SqliteLedger::open(&draft.state.ledger()).map_err(|error| ledger_failure(&error))?;
    let doubts = ledger.doubts().map_err(|error| ledger_failure(&error))?;
    let plan = draft.plan(&doubts, Some(&ledger))?;
    let targets: BTreeSet<&Arc<Target>> = plan.rules.iter().map(|rule| &rule.target).collect();
    let targets: Vec<Arc<Target>> = targets.into_iter().cloned().collect();
    let known = ledger
        .known(&targets, &plan.manifest)
        .map_err(|error| ledger_failure(&error))?;
    let sorted = sort(&draft, &plan, &known, &said, settings.ignore_missing);
    draft.intact()?;
    if !sorted.problems.is_empty() {
        let mut text = String::new();
        for problem in sorted.problems.iter().take(SHOWN) {
            let _ = writeln!(text, "{problem}");
        }
        if sorted.problems.len() > SHOWN {
            let _ = writeln!(text, "… and {} more", sorted.problems.len() - SHOWN);
        }
        narrate(&text);
        return Err(Failure::new(
            Exit::Invalid,
            format!(
                "{} of the table cannot be imported; nothing was",
                count(sorted.problems.len(), "row")
            ),
        ));
    }
    let adopted = adopt(&mut ledger, &draft, &plan, &sorted)?;
    let mut text = format!("imported {}", count(adopted, "file"));
    for (number, what) in [
        (sorted.known_already, "known already"),
        (sorted.missing, "not in the plan and left out"),
        (without_id, "without an ID"),
    ] {
        if number > 0 {
            let _ = write!(text, ", {number} {what}");
        }
    }
    say(&(text + "\n"))?;
    Ok(Exit::Done)
}

/// The rows with an id, and the number of those without.
fn read_table(path: &Path) -> Result<(Vec<Said>, usize), Failure> {
    let name = shown(&path.to_string_lossy()).into_owned();
    let fail = |why: &str| Failure::new(Exit::Invalid, format!("cannot import {name}: {why}"));
    let unlike = |why: &str| {
        fail(why).hint("a CSV is wanted whose first line names the columns `path` and `file_id`")
    };
    let file = File::open(path).map_err(|error| fail(&error.to_string()))?;
    let mut reader = csv::Reader::from_reader(file.take(TABLE_MAX));
    let headers = reader.headers().map_err(|error| fail(&error.to_string()))?;
    if headers.is_empty() {
        return Err(unlike("it is empty"));
    }
    let column = |wanted: &str| {
        let name = |header: &str| header.trim_start_matches('\u{feff}').trim() == wanted;
        let mut found = (0..headers.len()).filter(|at| name(&headers[*at]));
        match (found.next(), found.next()) {
            (Some(at), None) => Ok(at),
            (Some(_), Some(_)) => Err(unlike(&format!("it has two columns `{wanted}`"))),
            (None, _) => {
                let columns: Vec<_> = headers.iter().take(10).collect();
                let columns = shown_bounded(&columns.join(", "));
                Err(unlike(&format!(
                    "it has no column `{wanted}`, only: {columns}"
                )))
            }
        }
    };
    let (path_column, id_column) = (column("path")?, column("file_id")?);
    let optional = |wanted: &str| headers.iter().position(|header| header.trim() == wanted);
    let (digest_column, dataset_column) = (optional("blake3"), optional("dataset_id"));
    let outcome_column = optional("outcome");
    let mut said = Vec::new();
    let mut without_id = 0;
    for record in reader.records() {
        let record = record.map_err(|error| fail(&error.to_string()))?;
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let id = cell(id_column).trim();
        let id = id.strip_prefix('\'').unwrap_or(id);
        let line = record.position().map_or(0, csv::Position::line);
        if id.is_empty() {
            let outcome = outcome_column.map_or("", cell);
            if matches!(outcome, "in_doubt" | "stored" | "skipped") {
                return Err(fail(&format!(
                    "line {line} says {outcome} and has no file_id; look the file up and fill it \
                     in, or take the line out to have the file sent"
                )));
            }
            without_id += 1;
            continue;
        }
        if id.len() > ID_MAX {
            return Err(fail("a file_id is longer than 256 bytes"));
        }
        said.push(Said {
            line,
            path: cell(path_column).to_owned(),
            id: FileId::new(id),
            digest: digest_column.and_then(|column| Digest::parse(cell(column))),
            dataset: dataset_column
                .map(|column| cell(column).to_owned())
                .filter(|id| !id.is_empty()),
        });
    }
    Ok((said, without_id))
}

fn sort<'a>(
    draft: &Draft<'_>,
    plan: &Plan<'_>,
    known: &Known,
    said: &'a [Said],
    ignore_missing: bool,
) -> Sorted<'a> {
    let mut by_path: HashMap<String, Vec<usize>> = HashMap::new();
    let mut below_root: HashMap<String, Vec<usize>> = HashMap::new();
    for row in 0..plan.len() {
        let path = plan.path(row).as_str().to_owned();
        by_path.entry(path).or_default().push(row);
        below_root.entry(plan.relative(row)).or_default().push(row);
    }
    let mut ids: HashMap<&FileId, String> = known
        .iter()
        .filter_map(|(_, path, file)| {
            let id = file.stored.as_ref()?.file_id.as_ref()?;
            Some((id, path.to_string()))
        })
        .collect();
    let mut lines: HashMap<usize, u64> = HashMap::new();
    let mut sorted = Sorted::default();
    let home = draft.state.home().to_string_lossy();
    for row in said {
        let mut problem = |why: String| {
            let path = shown_bounded(&row.path);
            sorted
                .problems
                .push(format!("line {}: \"{path}\": {why}", row.line));
        };
        let spelt = |paths: &HashMap<String, Vec<usize>>| {
            spellings(&row.path, &home).find_map(|path| paths.get(path).cloned())
        };
        let found = spelt(&by_path).or_else(|| spelt(&below_root));
        let Some(found) = found else {
            if ignore_missing {
                sorted.missing += 1;
            } else {
                problem("no rule of the manifest takes a file of this path".to_owned());
            }
            continue;
        };
        let found: Vec<usize> = found
            .into_iter()
            .filter(|file| {
                let target = plan.rules[plan.rule(*file)].target.dataset_id.as_ref();
                let said = row.dataset.as_deref();
                said.is_none() || said == target.map(DatasetId::as_str)
            })
            .collect();
        if let ([], Some(dataset)) = (found.as_slice(), &row.dataset) {
            let dataset = shown_bounded(dataset);
            problem(format!(
                "it is in dataset {dataset}, where no rule sends it"
            ));
            continue;
        }
        let &[file] = found.as_slice() else {
            problem("several rules of the manifest take a file of this path".to_owned());
            continue;
        };
        if let Some(line) = lines.insert(file, row.line) {
            problem(format!("line {line} has this file too"));
            continue;
        }
        let path = plan.path(file);
        let stored = known
            .get(&plan.rules[plan.rule(file)].target, &path)
            .and_then(|known| known.stored.as_ref());
        if stored.is_some_and(|stored| stored.file_id.as_ref() == Some(&row.id)) {
            sorted.known_already += 1;
            continue;
        }
        if let Some(other) = ids.insert(&row.id, path.to_string()) {
            problem(format!("{other} has this file_id already"));
            continue;
        }
        match plan.decision(file) {
            Decision::Upload(UploadReason::New | UploadReason::Retry) if stored.is_none() => {
                sorted.adopted.push((file, row));
            }
            Decision::Hold(_) => {
                problem("it is in doubt; settle it with `roe-batch resolve`".to_owned());
            }
            _ if stored.is_some() => {
                problem("the ledger has it stored, and not under this file_id".to_owned());
            }
            other => problem(other.to_string()),
        }
    }
    sorted
}

/// How a path may be written that the ledger knows by one name. A report's cell that a spreadsheet
/// would run begins with an apostrophe.
fn spellings<'a>(path: &'a str, home: &str) -> impl Iterator<Item = &'a str> {
    let below_home = path
        .strip_prefix(home)
        .and_then(|below| below.strip_prefix('/'));
    [
        Some(path),
        path.strip_prefix("./"),
        below_home,
        path.strip_prefix('\''),
    ]
    .into_iter()
    .flatten()
}

fn adopt(
    ledger: &mut SqliteLedger,
    draft: &Draft<'_>,
    plan: &Plan<'_>,
    sorted: &Sorted<'_>,
) -> Result<usize, Failure> {
    let failure = |error| ledger_failure(&error);
    let rows = sorted.adopted.iter();
    let to_read: ToRead = rows.map(|(row, _)| plan.candidate(*row)).collect();
    let digests = draft.roots().digests(draft.candidates(), &to_read);
    let mut entries = Vec::with_capacity(sorted.adopted.len());
    for (row, said) in &sorted.adopted {
        let file = plan.file(*row);
        let digest = digests.get(plan.candidate(*row));
        let digest = match digest {
            Some(Ok(digest)) if said.digest.is_none_or(|said| said == digest) => digest,
            Some(Ok(_)) => {
                let message = format!(
                    "{} (line {}) is not what was stored: its content has another blake3; nothing \
                     was imported",
                    file.path, said.line
                );
                return Err(Failure::new(Exit::Invalid, message)
                    .hint("take the line out, and the next run sends the file as it is now"));
            }
            Some(Err(why)) => {
                let message = format!("{} cannot be read: {why}", file.path);
                return Err(Failure::new(Exit::LocalIo, message));
            }
            None => continue,
        };
        let (Some(stat), Some(sending)) = (file.stat, &file.sending) else {
            continue;
        };
        entries.push(Entry::Adopted(Adoption {
            run: draft.run.clone(),
            attempt: SystemChance.attempt_id(),
            target: Arc::clone(&plan.rules[file.rule].target),
            rule: plan.rules[file.rule].name.clone(),
            path: file.path.clone(),
            stat,
            read_at: draft.started,
            digest,
            metadata: sending.metadata.digest(),
            remote_name: sending.remote_name.as_str().to_owned(),
            file_id: Some(said.id.clone()),
            from: AdoptedFrom::Import,
        }));
    }
    if entries.is_empty() {
        return Ok(0);
    }
    let start = RunStart {
        run: draft.run.clone(),
        stream: plan.manifest.clone(),
        kind: RunKind::Import,
        at: draft.started,
        vanished: 0,
    };
    // What was not read back is missing among the entries.
    draft.intact()?;
    ledger
        .begin_run(&start, &mut std::iter::empty())
        .map_err(failure)?;
    for group in entries.chunks(GROUP) {
        ledger.write(group).map_err(failure)?;
    }
    let end = RunEnd {
        run: draft.run.clone(),
        at: SystemClock.now(),
        exit_code: Exit::Done.code(),
        stopped: Vec::new(),
        outcomes: vec![(Outcome::Stored, entries.len())],
    };
    ledger.end_run(&end).map_err(failure)?;
    Ok(entries.len())
}
