//! From plan and ends to rows: pure.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use crate::ledger::{PlannedRow, RunRow};
use crate::model::{
    DatasetId, Difference, Digest, End, JobEnd, OrganizationId, Outcome, ShownMetadata, Target,
};
use crate::plan::{Decision, Note, Plan, PlannedFile, PlannedRule, UploadReason};

/// One planned file's row. The order of the fields is the order of a CSV's columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "row")]
pub struct Row<'a> {
    /// The rule that took it.
    pub rule: &'a str,
    /// Its path below the folder that holds the state folder, else absolute.
    pub path: &'a str,
    /// The dataset it goes to; null for the service's default dataset.
    pub dataset_id: Option<&'a DatasetId>,
    /// The organization it goes to; null for the key's own.
    pub organization_id: Option<&'a OrganizationId>,
    /// What became of it.
    pub outcome: Outcome,
    /// The id the service gave it, also where an earlier run stored it.
    pub file_id: Option<&'a str>,
    /// Why, in words for people; null where a file is stored and nothing is odd about that.
    pub reason: Option<&'a str>,
    /// The name it was, or would be, sent under.
    pub remote_name: Option<&'a str>,
    /// Bytes; null where there is no regular file.
    pub size: Option<u64>,
    /// The media type it was, or would be, sent as.
    pub content_type: Option<&'a str>,
    /// The BLAKE3 digest of its bytes, where they were read.
    pub blake3: Option<Digest>,
    /// The metadata that was, or would be, sent with it; secret values are `(hidden)`.
    pub metadata: Option<ShownMetadata<'a>>,
    /// Attempts in this run; null where there were some and the ledger, which has their number,
    /// cannot be read.
    pub attempts: Option<u32>,
    /// The last HTTP status that the service answered.
    pub http_status: Option<u16>,
    /// The last attempt's `X-Request-ID`; of a file in doubt, that of the attempt in question.
    pub request_id: Option<&'a str>,
    /// When the first attempt began.
    #[serde(serialize_with = "milliseconds")]
    pub started: Option<Timestamp>,
    /// When the last attempt ended.
    #[serde(serialize_with = "milliseconds")]
    pub finished: Option<Timestamp>,
    /// The name the service says it stored it under.
    pub returned_name: Option<&'a str>,
    /// The dataset's name as the service gave it.
    pub returned_dataset: Option<&'a str>,
    /// The worst that is odd about how it is stored; the reason says it in words.
    #[serde(skip)]
    pub difference: Option<Difference>,
}

#[expect(clippy::ref_option, reason = "serde hands the field over by reference")]
fn milliseconds<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&format_args!("{time:.3}")),
        None => serializer.serialize_none(),
    }
}

/// How a row ends whose file was not sent.
#[must_use]
pub fn unattempted(file: &PlannedFile) -> JobEnd {
    let decision = &file.decision;
    let outcome = match decision {
        // Until it is sent again, the earlier attempt is in doubt.
        Decision::Upload(UploadReason::Resend(_)) | Decision::Hold(_) => Outcome::InDoubt,
        Decision::Upload(_) => Outcome::NotAttempted,
        Decision::Skip(_) => Outcome::Skipped,
        Decision::Conflict(_) | Decision::ChangeRefused | Decision::Unusable(_) => Outcome::Failed,
    };
    let mut why = decision.to_string();
    // The row shows what would be sent: that it is not what is stored must be said.
    if file.notes.contains(&Note::MetadataDiffers) {
        why = format!("{why}; {}", Note::MetadataDiffers);
    }
    let mut end = JobEnd::without_attempt(outcome, Some(why));
    match decision {
        Decision::Skip(skip) => {
            end.file_id.clone_from(&skip.file_id);
            end.digest = skip.digest;
        }
        Decision::Hold(held) => end.request_id = Some(held.attempt.clone()),
        Decision::Upload(UploadReason::Resend(attempt)) => {
            end.request_id = Some(attempt.clone());
        }
        _ => {}
    }
    end
}

/// A plan's rows as the ledger keeps them, so that the report of any run can be had again.
pub fn planned_rows<'a>(plan: &'a Plan<'_>) -> impl Iterator<Item = PlannedRow<'a>> {
    plan.files().map(|file| planned(&plan.rules, file))
}

fn planned(rules: &[PlannedRule], file: PlannedFile) -> PlannedRow<'_> {
    let unattempted = unattempted(&file);
    let rule = &rules[file.rule];
    let (remote_name, content_type, metadata) = match file.sending {
        Some(sending) => (
            Some(sending.remote_name.into()),
            Some(sending.content_type.into()),
            Some(sending.metadata),
        ),
        None => (None, None, None),
    };
    PlannedRow {
        rule: &rule.name,
        target: &rule.target,
        path: file.path,
        decision: file.decision.action().word(),
        unattempted,
        remote_name,
        size: file.stat.map(|stat| stat.size),
        content_type,
        metadata,
    }
}

/// The row of a planned file, given how it ended.
#[must_use]
pub fn row_of_plan<'a>(
    rules: &'a [PlannedRule],
    file: &'a PlannedFile,
    end: &'a JobEnd,
) -> Row<'a> {
    let rule = &rules[file.rule];
    let sending = file.sending.as_ref();
    let what = What {
        rule: rule.name.as_str(),
        path: file.path.as_str(),
        target: &rule.target,
        remote_name: sending.map(|s| s.remote_name.as_str()),
        size: file.stat.map(|stat| stat.size),
        content_type: sending.map(|s| s.content_type.as_str()),
        metadata: sending.map(|s| s.metadata.as_shown()),
    };
    what.ended(&End::from(end))
}

/// A row of a run, or of all files, as the ledger has it.
#[must_use]
pub fn row_of_ledger<'a>(row: &RunRow<'a>) -> Row<'a> {
    let what = What {
        rule: row.rule,
        path: row.path,
        target: row.target,
        remote_name: row.remote_name,
        size: row.size,
        content_type: row.content_type,
        metadata: row.metadata,
    };
    what.ended(&row.end)
}

/// What a row is about, wherever that was read.
struct What<'a> {
    rule: &'a str,
    path: &'a str,
    target: &'a Target,
    remote_name: Option<&'a str>,
    size: Option<u64>,
    content_type: Option<&'a str>,
    metadata: Option<ShownMetadata<'a>>,
}

impl<'a> What<'a> {
    fn ended(self, end: &End<'a>) -> Row<'a> {
        Row {
            rule: self.rule,
            path: self.path,
            dataset_id: self.target.dataset_id.as_ref(),
            organization_id: self.target.organization_id.as_ref(),
            outcome: end.outcome,
            file_id: end.file_id,
            reason: end.reason,
            remote_name: self.remote_name,
            size: self.size,
            content_type: self.content_type,
            blake3: end.digest,
            metadata: self.metadata,
            attempts: Some(end.attempts),
            http_status: end.http_status,
            request_id: end.request_id,
            started: end.started,
            finished: end.finished,
            returned_name: end.returned_name,
            returned_dataset: end.returned_dataset,
            difference: end.difference,
        }
    }
}
