//! `plan`: what `apply` would do.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use schemars::JsonSchema;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::draft::{Draft, Telling, in_use, ledger_failure, sources, warn_of_other_targets};
use crate::cli::{PlanExit, PlanFormat, PlanSettings};
use crate::diagnostic::Source;
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, SqliteLedger};
use crate::model::{
    ContentType, DatasetId, HumanBytes, Metadata, OrganizationId, Origin, RemoteName, RuleName,
    SourcePath, count, schema_of,
};
use crate::plan::{Action, Note, Plan, PlannedFile, Reason, Refusal, Tally};

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
    let known = ledger.as_ref().map(|ledger| ledger as &dyn Ledger);
    let plan = draft.plan(&doubts, known)?;
    if let Some(ledger) = &ledger {
        warn_of_other_targets(&plan, ledger)?;
    }
    if let Some(holder) = draft.state.holder().map_err(|e| ledger_failure(&e))? {
        super::narrate(&in_use(&holder));
    }
    super::say_with(|out| match settings.format {
        PlanFormat::Text => out.write_all(text(&plan).as_bytes()),
        PlanFormat::Json => json(out, &plan, &draft.origin),
        PlanFormat::Jsonl => json_lines(out, &plan, &draft.origin),
    })?;
    draft.intact()?;
    let is_pending = || (0..plan.len()).any(|row| plan.asks_service(row));
    Ok(match settings.exit {
        PlanExit::Detailed if is_pending() => Exit::Pending,
        PlanExit::Detailed | PlanExit::Plain => Exit::Done,
    })
}

/// The plan for people: by rule, with counts, bytes and samples.
fn text(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    for (index, rule) in plan.rules.iter().enumerate() {
        let _ = writeln!(text, "{} → {}", rule.name, rule.target);
        let mut kinds: BTreeMap<(Rank, &str), Kind> = BTreeMap::new();
        for row in plan.of_rule(index) {
            kinds
                .entry(rank_and_label(plan, row))
                .or_default()
                .add(plan, row);
        }
        if kinds.is_empty() {
            text.push_str("  no files\n");
        }
        for ((rank, label), found) in kinds {
            kind(&mut text, plan, (rank, label), &found);
        }
        for (refusal, files) in plan.left_out.get(index).into_iter().flatten() {
            let why = left_out(plan, *refusal);
            let _ = writeln!(text, "  - {} left out: {why}", count(*files, "file"));
        }
        text.push('\n');
    }
    let upload = plan.tally(Action::Upload);
    let rest: Vec<String> = [
        ("to skip", Action::Skip),
        ("in doubt", Action::Hold),
        ("in conflict", Action::Conflict),
        ("changed and refused", Action::Refuse),
        ("unusable", Action::Unusable),
    ]
    .into_iter()
    .filter_map(|(words, action)| {
        let tally = plan.tally(action);
        (tally.files > 0).then(|| format!("{} {words}", tally.files))
    })
    .collect();
    let _ = write!(
        text,
        "{}: {} planned, {} to upload ({})",
        crate::model::shown(&plan.manifest),
        count(plan.len(), "file"),
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

/// What a rule's files of one kind come to, and the first of them.
#[derive(Default)]
struct Kind {
    files: usize,
    bytes: u64,
    first: Vec<usize>,
    /// What is worth knowing of them, by kind.
    noted: BTreeMap<&'static str, Noted>,
}

/// How many rows have a note of one kind, and the first of them.
#[derive(Default)]
struct Noted {
    files: usize,
    first: Vec<(usize, Note)>,
}

impl Kind {
    fn add(&mut self, plan: &Plan<'_>, row: usize) {
        self.files += 1;
        self.bytes += plan.size(row);
        if self.first.len() < PROBLEMS {
            self.first.push(row);
        }
        for note in plan.notes_of(row) {
            let noted = self.noted.entry(note.kind()).or_default();
            noted.files += 1;
            if noted.first.len() < SAMPLES {
                noted.first.push((row, note));
            }
        }
    }
}

fn rank_and_label(plan: &Plan<'_>, row: usize) -> (Rank, &'static str) {
    let label = match (plan.action(row), plan.reason(row)) {
        (Action::Upload, Reason::New) => "new",
        (Action::Upload, Reason::Changed) => "changed",
        (Action::Upload, Reason::Retry) => "tried before, not stored",
        (Action::Upload, Reason::MetadataChanged) => "with changed metadata",
        (Action::Upload, _) => "in doubt, to be sent again all the same",
        (Action::Skip, Reason::Moved) => "stored before at another path",
        (Action::Skip, Reason::ChangeIgnored) => "changed since stored, left alone",
        (Action::Skip, _) => "stored and unchanged",
        (Action::Hold, _) if plan.asks_service(row) => "in doubt, to be looked up",
        (Action::Hold, _) => "in doubt, held back",
        (Action::Refuse, _) => "changed since stored, refused",
        (Action::Conflict, _) => "in conflict, not sent",
        (Action::Unusable, _) => "unusable, not sent",
    };
    match plan.action(row) {
        Action::Upload | Action::Skip => (Rank::Expected, label),
        Action::Hold | Action::Conflict | Action::Refuse | Action::Unusable => {
            (Rank::NeedsALook, label)
        }
    }
}

fn kind(text: &mut String, plan: &Plan<'_>, (rank, label): (Rank, &str), found: &Kind) {
    let Some(&first) = found.first.first() else {
        return;
    };
    let files = found.files;
    let _ = writeln!(
        text,
        "  {} {files} {label} ({})",
        plan.decision(first).sign(),
        HumanBytes(found.bytes)
    );
    let shown = match (rank, plan.action(first), plan.reason(first)) {
        (Rank::NeedsALook, ..) => PROBLEMS,
        (Rank::Expected, Action::Skip, Reason::Unchanged) => 0,
        (Rank::Expected, ..) => SAMPLES,
    };
    for &row in found.first.iter().take(shown) {
        let _ = writeln!(text, "      {}", plan.path(row));
        if rank == Rank::NeedsALook {
            let _ = writeln!(text, "        {}", plan.decision(row));
        }
    }
    if shown > 0 && files > shown {
        let _ = writeln!(text, "      … and {} more", files - shown);
    }
    for (kind, Noted { files, first }) in &found.noted {
        let _ = writeln!(text, "    note: {files} {kind}");
        for (row, note) in first {
            let _ = writeln!(text, "      {}: {note}", plan.path(*row));
        }
        if *files > SAMPLES {
            let _ = writeln!(text, "      … and {} more", files - SAMPLES);
        }
    }
}

/// Why a rule leaves files out that its patterns match.
pub(super) fn left_out(plan: &Plan<'_>, refusal: Refusal) -> String {
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
    #[serde(serialize_with = "each_row")]
    #[schemars(with = "Vec<Row<'a>>")]
    files: &'a Plan<'a>,
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

fn header<'a>(plan: &'a Plan<'_>, origin: &'a Origin) -> Header<'a> {
    let upload = plan.tally(Action::Upload);
    Header {
        format: FORMAT,
        manifest: &plan.manifest,
        origin,
        planned: plan.len(),
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

fn left_outs<'a>(plan: &'a Plan<'_>) -> Vec<LeftOut<'a>> {
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

fn row<'a>(plan: &'a Plan<'_>, file: &'a PlannedFile) -> Row<'a> {
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

fn each_row<S: Serializer>(plan: &Plan<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut rows = serializer.serialize_seq(Some(plan.len()))?;
    for file in plan.files() {
        rows.serialize_element(&row(plan, &file))?;
    }
    rows.end()
}

fn json(out: &mut dyn io::Write, plan: &Plan<'_>, origin: &Origin) -> io::Result<()> {
    let document = Document {
        header: header(plan, origin),
        files: plan,
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    out.write_all(b"\n")
}

fn json_lines(out: &mut dyn io::Write, plan: &Plan<'_>, origin: &Origin) -> io::Result<()> {
    serde_json::to_writer(&mut *out, &header(plan, origin))?;
    out.write_all(b"\n")?;
    for file in plan.files() {
        serde_json::to_writer(&mut *out, &row(plan, &file))?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::diagnostic::Source;
    use crate::manifest::{Given, read};
    use crate::model::{
        AttemptId, Candidate, Candidates, Digest, Entry, Environment, FileId, HIDDEN, InDoubt,
        RelativePath, RootCandidates, RootId, RunId, Stat,
    };
    use crate::plan::{
        Basis, Decision, Held, Inputs, Selection, Skip, SkipReason, StoredBefore, UploadReason,
        first_plan,
    };

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

    const METADATA: &str = r#"{"year":"2025","token":"hunter2"}"#;

    fn with_every_decision<T>(then: impl FnOnce(&Plan<'_>, &Origin) -> T) -> T {
        let source = Source {
            name: "m.yaml".to_owned(),
            text: "version: 1\nuploads:\n- {name: r, root: in, include: '*', dataset_id: d, \
                   metadata: {year: 2025, token: '${{ env.TOKEN }}'}}\n"
                .to_owned(),
        };
        let environment = Environment::new([("TOKEN".to_owned(), SECRET.to_owned())]);
        let given = Given::environment(&environment);
        let manifest = read(&source, Path::new("m.yaml"), given).manifest;
        let decisions = every_decision();
        let files = 0..decisions.len();
        let found = files.map(|at| Candidate {
            relative: RelativePath::new(format!("{at:02}.txt")),
            entry: if decisions[at].action() == Action::Unusable {
                Entry::unusable("a named pipe")
            } else {
                let (size, mtime_ns, inode) = (0, 0, 0);
                Entry::File(Stat {
                    size,
                    mtime_ns,
                    inode,
                })
            },
        });
        let candidates = Candidates {
            roots: vec![RootCandidates::of("in/".to_owned(), None, found.collect())],
            rule_roots: vec![Some(RootId(0))],
            spill: Arc::default(),
        };
        let (origin, run) = (Origin::new("sandbox"), RunId::new("run"));
        let basis = Basis {
            manifest: &manifest,
            candidates: &candidates,
            origin: &origin,
            organization: None,
            run: (&run, jiff::Timestamp::UNIX_EPOCH),
        };
        let selection = Selection::new(&basis);
        let mut plan = first_plan(&Inputs {
            basis,
            selection: &selection,
            in_doubt: InDoubt::Verify,
            doubts: &[],
        });
        plan.vanished = 1;
        for (at, decision) in decisions.into_iter().enumerate() {
            if decision.action() != Action::Unusable {
                plan.decide(at, decision);
            }
        }
        then(&plan, &origin)
    }

    fn made(form: impl FnOnce(&mut dyn io::Write, &Plan<'_>, &Origin) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        with_every_decision(|plan, origin| form(&mut out, plan, origin)).expect("written");
        String::from_utf8(out).expect("UTF-8")
    }

    fn printed() -> Value {
        serde_json::from_str(&made(json)).expect("JSON")
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
        let forms = [
            with_every_decision(|plan, _| text(plan)),
            made(json),
            made(json_lines),
        ];
        for form in forms {
            assert!(!form.contains(SECRET), "{form}");
        }
        let (first, last) = (&printed()["files"][0], &printed()["files"][11]);
        assert_eq!(first["metadata"], json!({"year": "2025", "token": HIDDEN}));
        assert_eq!(first["metadata_bytes"], METADATA.len());
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
