//! `plan`: what `apply` would do.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::draft::{Draft, in_use, ledger_failure, sources, warn_of_other_targets};
use crate::cli::{PlanExit, PlanFormat, PlanSettings};
use crate::diagnostic::Source;
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, SqliteLedger};
use crate::model::{
    ContentType, DatasetId, HumanBytes, InDoubt, Known, Metadata, OrganizationId, Origin,
    RemoteName, RuleName, SourcePath, count,
};
use crate::plan::{Decision, Plan, PlannedFile, Refusal, SkipReason, Tally, UploadReason};

/// The version of the printed plan's form.
const FORMAT: u32 = 1;

/// Rows shown of each kind of decision in a rule, unless they need a look.
const SAMPLES: usize = 3;

/// Rows shown of each kind that needs a look.
const PROBLEMS: usize = 10;

/// Plans and prints, one manifest after the other.
pub(super) fn plan(settings: &PlanSettings) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for (path, source) in sources(&settings.look)? {
        exit = exit.worst(plan_one(settings, (&path, &source))?);
    }
    Ok(exit)
}

fn plan_one(settings: &PlanSettings, manifest: (&Path, &Source)) -> Result<Exit, Failure> {
    let Some(draft) = Draft::load(settings, manifest, jiff::Timestamp::now())? else {
        return Ok(Exit::Invalid);
    };
    let ledger = SqliteLedger::open_read_only(&draft.state.ledger())
        .map_err(|error| ledger_failure(&error))?;
    let doubts = match &ledger {
        Some(ledger) => ledger.doubts().map_err(|error| ledger_failure(&error))?,
        None => Vec::new(),
    };
    let plan = draft.plan(&doubts, |targets, stream| match &ledger {
        Some(ledger) => ledger.known(targets, stream),
        None => Ok(Known::default()),
    })?;
    if let Some(ledger) = &ledger {
        warn_of_other_targets(&plan, ledger)?;
    }
    if let Some(holder) = draft.state.holder().map_err(|e| ledger_failure(&e))? {
        super::narrate(&in_use(&holder));
    }
    super::say(&match settings.format {
        PlanFormat::Text => text(&plan),
        PlanFormat::Json => json(&plan, &draft.origin)?,
        PlanFormat::Jsonl => json_lines(&plan, &draft.origin)?,
    })?;
    Ok(match settings.exit {
        PlanExit::Detailed if plan.files.iter().any(PlannedFile::asks_service) => Exit::Pending,
        PlanExit::Detailed | PlanExit::Plain => Exit::Done,
    })
}

/// The plan for people: by rule, with counts, bytes and samples.
fn text(plan: &Plan) -> String {
    let mut text = String::new();
    for (index, rule) in plan.rules.iter().enumerate() {
        let _ = writeln!(text, "{} → {}", rule.name, rule.target);
        let mut kinds: BTreeMap<(Rank, &str), Vec<&PlannedFile>> = BTreeMap::new();
        for file in plan.files.iter().filter(|file| file.rule == index) {
            let key = (rank(&file.decision), label(&file.decision));
            kinds.entry(key).or_default().push(file);
        }
        if kinds.is_empty() {
            text.push_str("  no files\n");
        }
        for ((rank, label), files) in kinds {
            kind(&mut text, rank, label, &files);
        }
        for (refusal, files) in plan.left_out.get(index).into_iter().flatten() {
            let why = left_out(plan, *refusal);
            let _ = writeln!(text, "  - {} left out: {why}", count(*files, "file"));
        }
        text.push('\n');
    }
    let upload = plan.tally(PlannedFile::is_upload);
    let rest: Vec<String> = [
        ("to skip", "skip"),
        ("in doubt", "hold"),
        ("in conflict", "conflict"),
        ("changed and refused", "refuse"),
        ("unusable", "unusable"),
    ]
    .into_iter()
    .filter_map(|(words, action)| {
        let tally = plan.tally(|file| file.decision.action() == action);
        (tally.files > 0).then(|| format!("{} {words}", tally.files))
    })
    .collect();
    let _ = write!(
        text,
        "{}: {} planned, {} to upload ({})",
        crate::model::shown(&plan.manifest),
        count(plan.files.len(), "file"),
        upload.files,
        HumanBytes(upload.bytes)
    );
    for part in rest {
        let _ = write!(text, ", {part}");
    }
    if plan.vanished > 0 {
        let _ = write!(text, "; {} stored before and gone since", plan.vanished);
    }
    text.push('\n');
    text
}

/// What needs a look comes last, nearest to the totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Expected,
    NeedsALook,
}

fn rank(decision: &Decision) -> Rank {
    match decision {
        Decision::Upload(_) | Decision::Skip(_) => Rank::Expected,
        Decision::Hold(_)
        | Decision::Conflict(_)
        | Decision::ChangeRefused
        | Decision::Unusable(_) => Rank::NeedsALook,
    }
}

fn label(decision: &Decision) -> &'static str {
    match decision {
        Decision::Upload(UploadReason::New) => "new",
        Decision::Upload(UploadReason::Changed) => "changed",
        Decision::Upload(UploadReason::Retry) => "tried before, not stored",
        Decision::Upload(UploadReason::MetadataChanged) => "with changed metadata",
        Decision::Upload(UploadReason::Resend(_)) => "in doubt, to be sent again all the same",
        Decision::Skip(skip) => match skip.why {
            SkipReason::Unchanged | SkipReason::Touched => "stored and unchanged",
            SkipReason::Moved(_) => "stored before at another path",
            SkipReason::ChangeIgnored => "changed since stored, left alone",
        },
        Decision::Hold(held) => match held.policy {
            InDoubt::Verify => "in doubt, to be looked up",
            InDoubt::Hold | InDoubt::Resend => "in doubt, held back",
        },
        Decision::ChangeRefused => "changed since stored, refused",
        Decision::Conflict(_) => "in conflict, not sent",
        Decision::Unusable(_) => "unusable, not sent",
    }
}

fn kind(text: &mut String, rank: Rank, label: &str, files: &[&PlannedFile]) {
    let Some(first) = files.first() else { return };
    let bytes: u64 = files
        .iter()
        .filter_map(|file| file.stat)
        .map(|stat| stat.size)
        .sum();
    let _ = writeln!(
        text,
        "  {} {} {label} ({})",
        first.decision.sign(),
        files.len(),
        HumanBytes(bytes)
    );
    let shown = match (rank, &first.decision) {
        (Rank::NeedsALook, _) => PROBLEMS,
        (Rank::Expected, Decision::Skip(skip)) => match skip.why {
            SkipReason::Unchanged | SkipReason::Touched => 0,
            SkipReason::Moved(_) | SkipReason::ChangeIgnored => SAMPLES,
        },
        (Rank::Expected, _) => SAMPLES,
    };
    for file in files.iter().take(shown) {
        let _ = writeln!(text, "      {}", file.path);
        if rank == Rank::NeedsALook {
            let _ = writeln!(text, "        {}", file.decision);
        }
    }
    if shown > 0 && files.len() > shown {
        let _ = writeln!(text, "      … and {} more", files.len() - shown);
    }
    let mut noted: BTreeMap<&str, Vec<&PlannedFile>> = BTreeMap::new();
    for file in files {
        for note in &file.notes {
            noted.entry(note.kind()).or_default().push(file);
        }
    }
    for (kind, files) in noted {
        let _ = writeln!(text, "    note: {} {kind}", files.len());
        for file in files.iter().take(SAMPLES) {
            let note = file.notes.iter().find(|note| note.kind() == kind);
            let note = note.map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "      {}: {note}", file.path);
        }
        if files.len() > SAMPLES {
            let _ = writeln!(text, "      … and {} more", files.len() - SAMPLES);
        }
    }
}

/// Why a rule leaves files out that its patterns match.
pub(super) fn left_out(plan: &Plan, refusal: Refusal) -> String {
    match refusal {
        Refusal::NotIncluded => "no `include` pattern matches".to_owned(),
        Refusal::Excluded(_) => "an `exclude` pattern matches".to_owned(),
        Refusal::TooDeep => "deeper than `max_depth`".to_owned(),
        Refusal::TooSmall => "smaller than `min_size`".to_owned(),
        Refusal::TooLarge => "larger than `max_size`".to_owned(),
        Refusal::TooYoung => "changed less than `min_age` ago, left to a later run".to_owned(),
        Refusal::When => "`when` is false".to_owned(),
        Refusal::TakenBy(rule) => {
            let name = plan.rules.get(rule).map_or("", |rule| rule.name.as_str());
            format!("taken by rule {}", crate::model::shown(name))
        }
    }
}

#[derive(Serialize)]
struct Header<'a> {
    format: u32,
    manifest: &'a str,
    origin: &'a Origin,
    planned: usize,
    upload_files: usize,
    upload_bytes: u64,
    vanished: usize,
    decisions: Vec<Decided>,
}

#[derive(Serialize)]
struct Decided {
    action: &'static str,
    reason: &'static str,
    files: usize,
    bytes: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    rule: &'a RuleName,
    path: &'a SourcePath,
    action: &'static str,
    reason: &'static str,
    detail: String,
    dataset_id: Option<&'a DatasetId>,
    organization_id: Option<&'a OrganizationId>,
    remote_name: Option<&'a RemoteName>,
    stored_name: Option<String>,
    size: Option<u64>,
    content_type: Option<&'a ContentType>,
    metadata: Option<&'a Metadata>,
    notes: Vec<String>,
}

fn header<'a>(plan: &'a Plan, origin: &'a Origin) -> Header<'a> {
    let upload = plan.tally(PlannedFile::is_upload);
    Header {
        format: FORMAT,
        manifest: &plan.manifest,
        origin,
        planned: plan.files.len(),
        upload_files: upload.files,
        upload_bytes: upload.bytes,
        vanished: plan.vanished,
        decisions: plan
            .tallies()
            .into_iter()
            .map(|((action, reason), Tally { files, bytes })| Decided {
                action,
                reason,
                files,
                bytes,
            })
            .collect(),
    }
}

fn row<'a>(plan: &'a Plan, file: &'a PlannedFile) -> Row<'a> {
    let rule = &plan.rules[file.rule];
    let sending = file.sending.as_ref();
    Row {
        rule: &rule.name,
        path: &file.path,
        action: file.decision.action(),
        reason: file.decision.reason(),
        detail: file.decision.to_string(),
        dataset_id: rule.target.dataset_id.as_ref(),
        organization_id: rule.target.organization_id.as_ref(),
        remote_name: sending.map(|s| &s.remote_name),
        stored_name: sending.map(|s| s.remote_name.stored().as_str().to_owned()),
        size: file.stat.map(|stat| stat.size),
        content_type: sending.map(|s| &s.content_type),
        metadata: sending.map(|s| &s.metadata),
        notes: file.notes.iter().map(ToString::to_string).collect(),
    }
}

fn json(plan: &Plan, origin: &Origin) -> Result<String, Failure> {
    #[derive(Serialize)]
    struct Document<'a> {
        header: Header<'a>,
        files: Vec<Row<'a>>,
    }
    let document = Document {
        header: header(plan, origin),
        files: plan.files.iter().map(|file| row(plan, file)).collect(),
    };
    let text = serde_json::to_string_pretty(&document).map_err(|error| internal(&error))?;
    Ok(text + "\n")
}

fn json_lines(plan: &Plan, origin: &Origin) -> Result<String, Failure> {
    let mut text = serde_json::to_string(&header(plan, origin)).map_err(|e| internal(&e))?;
    text.push('\n');
    for file in &plan.files {
        text.push_str(&serde_json::to_string(&row(plan, file)).map_err(|e| internal(&e))?);
        text.push('\n');
    }
    Ok(text)
}

fn internal(error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Internal, error.to_string())
}
