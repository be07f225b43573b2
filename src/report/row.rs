//! From plan and ends to rows: pure.

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::model::{
    AttemptId, ContentType, DatasetId, Digest, FileId, JobEnd, Metadata, OrganizationId, Outcome,
    RemoteName, RuleName, SourcePath,
};
use crate::plan::{Decision, Plan, PlannedFile};

/// One planned file's row. The order of the fields is the order of a CSV's columns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row<'a> {
    /// The rule that took it.
    pub rule: &'a RuleName,
    /// Its path below the folder that holds the state folder, else absolute.
    pub path: &'a SourcePath,
    /// The dataset it goes to.
    pub dataset_id: Option<&'a DatasetId>,
    /// The organization it goes to.
    pub organization_id: Option<&'a OrganizationId>,
    /// What became of it.
    pub outcome: Outcome,
    /// The id the service gave it.
    pub file_id: Option<FileId>,
    /// Why.
    pub reason: Option<String>,
    /// The name it was, or would be, sent under.
    pub remote_name: Option<&'a RemoteName>,
    /// Bytes.
    pub size: Option<u64>,
    /// The media type.
    pub content_type: Option<&'a ContentType>,
    /// BLAKE3 of the bytes, where they were read.
    pub blake3: Option<Digest>,
    /// What was, or would be, sent with it.
    pub metadata: Option<&'a Metadata>,
    /// Attempts in this run.
    pub attempts: u32,
    /// The last HTTP status.
    pub http_status: Option<u16>,
    /// The last attempt's `X-Request-ID`.
    pub request_id: Option<AttemptId>,
    /// When the first attempt began.
    #[serde(serialize_with = "milliseconds")]
    pub started: Option<Timestamp>,
    /// When the last attempt ended.
    #[serde(serialize_with = "milliseconds")]
    pub finished: Option<Timestamp>,
    /// The name the service says it stored it under.
    pub returned_name: Option<String>,
    /// The dataset's name as the service gave it.
    pub returned_dataset: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde hands the field over by reference")]
fn milliseconds<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(&format_args!("{time:.3}")),
        None => serializer.serialize_none(),
    }
}

/// The rows of a plan, given how its uploads ended.
#[must_use]
pub fn rows(plan: &Plan, ends: Vec<Option<JobEnd>>) -> Vec<Row<'_>> {
    let ends = ends.into_iter().chain(std::iter::repeat(None));
    plan.files
        .iter()
        .zip(ends)
        .map(|(file, end)| {
            row(
                plan,
                file,
                end.unwrap_or_else(|| unexecuted(&file.decision)),
            )
        })
        .collect()
}

/// How a row ends whose file was not sent.
fn unexecuted(decision: &Decision) -> JobEnd {
    let outcome = match decision {
        Decision::Upload(_) => Outcome::NotAttempted,
        Decision::Skip(_) => Outcome::Skipped,
        Decision::HoldInDoubt(..) => Outcome::InDoubt,
        Decision::Conflict(_) | Decision::Unusable(_) => Outcome::Failed,
    };
    let mut end = JobEnd::without_attempt(outcome, Some(decision.to_string()));
    match decision {
        Decision::Skip(unchanged) => {
            end.file_id.clone_from(&unchanged.file_id);
            end.digest = unchanged.digest;
        }
        Decision::HoldInDoubt(attempt, _) => end.request_id = Some(attempt.clone()),
        _ => {}
    }
    end
}

fn row<'a>(plan: &'a Plan, file: &'a PlannedFile, end: JobEnd) -> Row<'a> {
    let rule = &plan.rules[file.rule];
    let sending = file.sending.as_ref();
    Row {
        rule: &rule.name,
        path: &file.path,
        dataset_id: rule.target.dataset_id.as_ref(),
        organization_id: rule.target.organization_id.as_ref(),
        outcome: end.outcome,
        file_id: end.file_id,
        reason: end.reason,
        remote_name: sending.map(|s| &s.remote_name),
        size: file.stat.map(|stat| stat.size),
        content_type: sending.map(|s| &s.content_type),
        blake3: end.digest,
        metadata: sending.map(|s| &s.metadata),
        attempts: end.attempts,
        http_status: end.http_status,
        request_id: end.request_id,
        started: end.started,
        finished: end.finished,
        returned_name: end.returned_name,
        returned_dataset: end.returned_dataset,
    }
}
