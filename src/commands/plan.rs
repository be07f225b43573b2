//! `plan`: what `apply` would do.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::draft::{Draft, Telling, in_use, ledger_failure, sources, warn_of_other_targets};
use crate::cli::{PlanExit, PlanFormat, PlanSettings};
use crate::diagnostic::Source;
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, SqliteLedger};
use crate::model::{
    ContentType, DatasetId, HumanBytes, InDoubt, Known, Metadata, OrganizationId, Origin,
    RemoteName, RuleName, SourcePath, count, schema_of,
};
use crate::plan::{
    Action, Decision, Plan, PlannedFile, Reason, Refusal, SkipReason, Tally, UploadReason,
};

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
    let Some(draft) = Draft::load(
        settings,
        manifest,
        jiff::Timestamp::now(),
        Telling::Everything,
    )?
    else {
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
        for file in plan.of_rule(index) {
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
        ("to skip", Action::Skip),
        ("in doubt", Action::Hold),
        ("in conflict", Action::Conflict),
        ("changed and refused", Action::Refuse),
        ("unusable", Action::Unusable),
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

/// A plan as `plan --format json` prints it. With `--format jsonl` the first line is the
/// definition `header`, every other one a `row`. Later versions may have more fields: skip those
/// you do not know.
#[derive(Serialize, JsonSchema)]
#[schemars(title = "roe-batch plan")]
struct Document<'a> {
    /// What is said of the plan as a whole.
    header: Header<'a>,
    /// One row for each planned file: by rule, then by path.
    files: Vec<Row<'a>>,
}

/// What is said of a plan as a whole.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "header")]
struct Header<'a> {
    /// The version of this form.
    #[schemars(extend("const" = FORMAT))]
    format: u32,
    /// The manifest's name.
    manifest: &'a str,
    /// Scheme, host and port of the API, or the word `sandbox`.
    origin: &'a Origin,
    /// Rows: the sum of all decisions.
    planned: usize,
    /// Files that are to be uploaded.
    upload_files: usize,
    /// Their bytes together.
    upload_bytes: u64,
    /// Files stored by earlier runs whose source is gone: no rows of this plan.
    vanished: usize,
    /// Rows by action and reason; those of none are left out.
    decisions: Vec<Decided>,
    /// Files that patterns match and rules leave out all the same: no rows of this plan.
    left_out: Vec<LeftOut<'a>>,
}

/// How many files a rule leaves out for one reason.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "left_out")]
struct LeftOut<'a> {
    /// The rule.
    rule: &'a RuleName,
    /// Why: `deep`, `small`, `large`, `young`, `when`, or `taken_before` by another rule.
    reason: &'static str,
    /// How many they are.
    files: usize,
}

/// How many files have one decision.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "decided")]
struct Decided {
    /// What is done with them.
    action: Action,
    /// Why.
    reason: Reason,
    /// How many they are.
    files: usize,
    /// Their bytes together.
    bytes: u64,
}

/// One planned file.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "row")]
struct Row<'a> {
    /// The rule that takes it.
    rule: &'a RuleName,
    /// Its path below the folder that holds the state folder, else absolute.
    path: &'a SourcePath,
    /// What `apply` does with it.
    action: Action,
    /// Why.
    reason: Reason,
    /// Why, in words for people.
    detail: String,
    /// The dataset it goes to; null for the service's default dataset.
    dataset_id: Option<&'a DatasetId>,
    /// The organization it goes to; null for the key's own.
    organization_id: Option<&'a OrganizationId>,
    /// The name it is, or would be, sent under; null where it cannot be sent.
    remote_name: Option<&'a RemoteName>,
    /// The name that the service is expected to make of it; null where it cannot be sent.
    stored_name: Option<String>,
    /// Bytes; null where there is no regular file.
    size: Option<u64>,
    /// The media type it is, or would be, sent as; null where it cannot be sent.
    content_type: Option<&'a ContentType>,
    /// The metadata that is, or would be, sent with it; secret values are `(hidden)`. Null where
    /// it cannot be sent.
    metadata: Option<&'a Metadata>,
    /// The size of the metadata as sent, in bytes, without the key of `tag`; null where it cannot
    /// be sent.
    metadata_bytes: Option<usize>,
    /// What is worth knowing beside that, in words for people.
    notes: Vec<String>,
}

/// The JSON Schema (draft-07) of a plan in JSON.
pub(super) fn schema() -> Value {
    schema_of::<Document<'_>>()
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
        left_out: left_outs(plan),
    }
}

fn left_outs(plan: &Plan) -> Vec<LeftOut<'_>> {
    let rules = plan.rules.iter().zip(&plan.left_out);
    rules
        .flat_map(|(rule, left_out)| {
            left_out.iter().map(|(refusal, files)| LeftOut {
                rule: &rule.name,
                reason: refusal.word(),
                files: *files,
            })
        })
        .collect()
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
        metadata_bytes: sending.map(|s| s.metadata.sent_bytes()),
        notes: file.notes.iter().map(ToString::to_string).collect(),
    }
}

fn json(plan: &Plan, origin: &Origin) -> Result<String, Failure> {
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::model::{
        AttemptId, Digest, FileId, HIDDEN, RelativePath, RootId, Secrecy, Stat, Target,
    };
    use crate::plan::{Held, Note, OnChange, PlannedRule, Sending, Skip, StoredBefore};

    fn every_decision() -> Vec<Decision> {
        let skip = |why| {
            Decision::Skip(Skip {
                file_id: Some(FileId::new("id")),
                digest: Some(Digest([1; 32])),
                why,
            })
        };
        vec![
            Decision::Upload(UploadReason::New),
            Decision::Upload(UploadReason::Changed),
            Decision::Upload(UploadReason::MetadataChanged),
            Decision::Upload(UploadReason::Retry),
            Decision::Upload(UploadReason::Resend(AttemptId::new("attempt"))),
            skip(SkipReason::Unchanged),
            skip(SkipReason::Moved(SourcePath::new("old.txt"))),
            skip(SkipReason::ChangeIgnored),
            Decision::Hold(Held {
                attempt: AttemptId::new("attempt"),
                why: None,
                policy: InDoubt::Verify,
                stored: StoredBefore::No,
            }),
            Decision::ChangeRefused,
            Decision::Conflict(RuleName::new("other")),
            Decision::Unusable("a named pipe".to_owned()),
        ]
    }

    const SECRET: &str = "hunter2";

    fn metadata() -> Metadata {
        let mut metadata = Metadata::open([("year".to_owned(), "2025".to_owned())]);
        metadata.push("token".to_owned(), SECRET.to_owned(), Secrecy::Hidden);
        metadata
    }

    fn planned(decision: Decision) -> PlannedFile {
        let is_usable = !matches!(decision, Decision::Unusable(_));
        let sending = is_usable.then(|| Sending {
            remote_name: RemoteName::new("a.txt").expect("a name"),
            content_type: ContentType::of_name("a.txt"),
            metadata: metadata(),
        });
        PlannedFile {
            rule: 0,
            root: RootId(0),
            relative: RelativePath::new("a.txt"),
            path: SourcePath::new("in/a.txt"),
            stat: sending.is_some().then_some(Stat {
                size: 5,
                mtime_ns: 0,
                inode: 0,
            }),
            sending,
            decision,
            notes: vec![Note::Empty],
        }
    }

    fn plan_with_every_decision() -> Plan {
        Plan {
            manifest: "m".to_owned(),
            rules: vec![PlannedRule {
                name: RuleName::new("r"),
                target: Arc::new(Target {
                    origin: Origin::new("sandbox"),
                    organization_id: None,
                    dataset_id: Some(DatasetId::new("d")),
                }),
                on_change: OnChange::Upload,
            }],
            files: every_decision().into_iter().map(planned).collect(),
            problems: Vec::new(),
            left_out: Vec::new(),
            vanished: 1,
        }
    }

    fn printed() -> Value {
        let text = json(&plan_with_every_decision(), &Origin::new("sandbox")).expect("JSON");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The words that a definition of the schema has.
    fn words(name: &str) -> BTreeSet<String> {
        let schema = schema();
        let choices = schema["definitions"][name]["oneOf"].as_array();
        let word = |choice: &Value| choice["const"].as_str().expect("a word").to_owned();
        choices.expect("choices").iter().map(word).collect()
    }

    #[test]
    fn a_plan_with_every_decision_fits_the_schema_and_uses_all_its_words() {
        let document = printed();
        let validator = jsonschema::validator_for(&schema()).expect("a schema");
        if let Err(error) = validator.validate(&document) {
            panic!("{error} at {}", error.instance_path());
        }
        for name in ["action", "reason"] {
            let rows = document["files"].as_array().expect("rows");
            let word = |row: &Value| row[name].as_str().expect("a word").to_owned();
            let used: BTreeSet<String> = rows.iter().map(word).collect();
            assert_eq!(used, words(name));
        }
    }

    #[test]
    fn the_words_of_a_decision_are_those_that_are_printed() {
        for decision in every_decision() {
            assert_eq!(json!(decision.action()), decision.action().word());
            assert_eq!(json!(decision.reason()), decision.reason().word());
        }
    }

    #[test]
    fn a_hidden_value_is_in_no_form_of_a_plan() {
        let (plan, origin) = (plan_with_every_decision(), Origin::new("sandbox"));
        let forms = [
            text(&plan),
            json(&plan, &origin).expect("JSON"),
            json_lines(&plan, &origin).expect("JSON"),
        ];
        for form in forms {
            assert!(!form.contains(SECRET), "{form}");
        }
        let (first, last) = (&printed()["files"][0], &printed()["files"][11]);
        assert_eq!(first["metadata"], json!({"year": "2025", "token": HIDDEN}));
        assert_eq!(first["metadata_bytes"], metadata().to_json().len());
        assert_eq!(last["metadata_bytes"], Value::Null);
    }

    #[test]
    fn a_damaged_plan_does_not_fit() {
        let validator = jsonschema::validator_for(&schema()).expect("a schema");
        for (place, value) in [
            ("/header/format", json!(2)),
            ("/header/decisions/0/action", json!("perhaps")),
            ("/header/planned", json!("12")),
            ("/files/0", json!({})),
            ("/files/0/action", json!("new")),
            ("/files/0/reason", json!("upload")),
            ("/files/0/metadata/year", json!(2025)),
            ("/files/0/metadata_bytes", json!("35")),
            ("/files/0/notes", json!(null)),
        ] {
            let mut document = printed();
            *document.pointer_mut(place).expect(place) = value;
            assert!(!validator.is_valid(&document), "{place}");
        }
    }
}
