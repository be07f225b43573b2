//! What one reading of a listing says of a file in doubt: pure, and sure or silent.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::calibrate::{Calibration, Marks, Search, ShownMetadata, Shows};
use super::hash::decode;
use super::name::{Likeness, likeness};
use super::reading::{Coverage, Reading, Scope};
use crate::client::{Listed, Mark, Presence};
use crate::model::{Doubt, FileId, RemoteName, StoredName, Tag, shown_bounded};

/// How far a file's time may lie outside of what the attempt allows, with clocks that differ.
const WINDOW_SLACK: SignedDuration = SignedDuration::from_mins(15);

/// Up to this size the service's 32-bit sizes are right.
const SIZE_RELIABLE_MAX: u64 = i32::MAX as u64;

/// All that a judgement is made from.
pub struct Evidence<'a> {
    /// The file in doubt.
    pub doubt: &'a Doubt,
    /// The name it has at the service, unless that renamed it.
    pub name: &'a StoredName,
    /// What the listing showed.
    pub reading: &'a Reading,
    /// What a search found beside that.
    pub found: &'a [Listed],
    /// When the reading began.
    pub now: Timestamp,
    /// What the listing is known to show.
    pub calibration: Calibration,
    /// The hash of the bytes sent under the calibrated algorithm, where it could be had.
    pub own: Option<&'a [u8]>,
    /// Whether a listed file is known to be that of another attempt.
    pub known: &'a dyn Fn(&FileId) -> bool,
    /// Whether other attempts may have stored the same bytes.
    pub rivals: Rivals,
}

impl Evidence<'_> {
    fn entries(&self) -> impl Iterator<Item = &Listed> {
        self.reading.entries.iter().chain(self.found)
    }
}

impl std::fmt::Debug for Evidence<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Evidence({:?}, {:?})", self.doubt, self.reading)
    }
}

/// What a reading says of a file in doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// It is stored.
    Stored {
        /// Its id.
        id: FileId,
        /// What proves it.
        how: String,
    },
    /// It is not in the listing, which would show it.
    Absent,
    /// Nothing is certain: why.
    Unclear(String),
}

/// Other attempts, not known to have ended, whose files have the same bytes for all that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rivals {
    /// There is none.
    None,
    /// There are some, under other names.
    OtherNames,
    /// There are some under the same name.
    SameName,
}

impl Rivals {
    /// Looks for rivals of an attempt among all that are open.
    #[must_use]
    pub fn among(open: &[Doubt], doubt: &Doubt) -> Self {
        let mut found = Self::None;
        for other in open {
            let digests_differ =
                matches!((other.digest, doubt.digest), (Some(a), Some(b)) if a != b);
            if other.attempt == doubt.attempt
                || other.target != doubt.target
                || other.stat.size != doubt.stat.size
                || digests_differ
            {
                continue;
            }
            if stored(other) == stored(doubt) {
                return Self::SameName;
            }
            found = Self::OtherNames;
        }
        found
    }
}

/// The name an attempt's file has at the service.
fn stored(doubt: &Doubt) -> Option<StoredName> {
    let name = RemoteName::new(&doubt.remote_name).ok()?;
    Some(name.stored())
}

/// What a listed file may be, the stronger the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// Certainly not the file in doubt.
    Foreign,
    /// Maybe, by all that is shown.
    Possible,
    /// The same bytes and a name that may be ours, with other metadata than was sent.
    OtherMetadata,
    /// The same bytes under another name than a service would make of ours.
    BytesElsewhere,
    /// The same bytes under our name, with an addition.
    BytesRenamed,
    /// The same bytes under our name.
    Bytes,
    /// It carries the attempt's id.
    Own,
}

/// Judges a reading.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> Sight {
    let marks_shown = evidence.calibration.marks == Marks::Shown
        || evidence
            .entries()
            .any(|entry| matches!(entry.mark, Mark::Attempt(_)));
    // An entry that moved from page to page while they were read is one all the same.
    let mut claims: HashMap<&FileId, (Claim, &Listed)> = HashMap::new();
    for entry in evidence.entries() {
        let claim = claim(evidence, entry, marks_shown);
        let best = claims.entry(&entry.id).or_insert((claim, entry));
        let deleted_since = claim == best.0 && entry.presence == Presence::Deleted;
        if claim > best.0 || deleted_since {
            *best = (claim, entry);
        }
    }
    let mut claims: Vec<(Claim, &Listed)> = claims
        .into_values()
        .filter(|(claim, _)| *claim > Claim::Foreign)
        .collect();
    claims.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.id.cmp(&y.id)));
    let own: Vec<&Listed> = claims
        .iter()
        .filter(|(claim, _)| *claim == Claim::Own)
        .map(|(_, entry)| *entry)
        .collect();
    match (own.as_slice(), claims.as_slice()) {
        ([entry], _) => by_key(evidence, entry),
        ([_, _, ..], _) => Sight::Unclear(
            "more than one listed file has this attempt's id in its metadata".to_owned(),
        ),
        ([], []) => absent(evidence),
        ([], [(claim, entry)]) => by_bytes(evidence, *claim, entry),
        ([], several) => Sight::Unclear(format!(
            "{} listed files may be this one, and nothing proves which",
            several.len()
        )),
    }
}

fn claim(evidence: &Evidence<'_>, entry: &Listed, marks_shown: bool) -> Claim {
    let doubt = evidence.doubt;
    let mut of_another_attempt = false;
    match (&entry.mark, doubt.tag) {
        (Mark::Attempt(id), Tag::Planted) if id == doubt.attempt.as_str() => return Claim::Own,
        (Mark::Attempt(_), Tag::Planted) => return Claim::Foreign,
        (Mark::Absent, Tag::Planted) if marks_shown => return Claim::Foreign,
        // The key may also be the manifest's own.
        (Mark::Attempt(_), Tag::None) => of_another_attempt = true,
        (Mark::Absent | Mark::Unshown, _) => {}
    }
    let size = doubt.stat.size;
    let other_size = size <= SIZE_RELIABLE_MAX && entry.size.is_some_and(|listed| listed != size);
    let moment = moment(evidence, entry);
    // What is looked up comes last: most entries are told by what they show.
    if other_size || moment == Moment::Before {
        return Claim::Foreign;
    }
    let likeness = likeness(entry.name.as_deref(), evidence.name);
    if likeness == Likeness::Other || (evidence.known)(&entry.id) {
        return Claim::Foreign;
    }
    match (likeness, same_bytes(evidence, entry)) {
        (Likeness::Other, _) | (_, Some(false)) => Claim::Foreign,
        // Without its time, the same bytes may be an older file's.
        (_, Some(true)) if of_another_attempt || moment != Moment::Within => Claim::Possible,
        (_, Some(true)) if has_other_metadata(evidence, entry) => Claim::OtherMetadata,
        (Likeness::Same, Some(true)) => Claim::Bytes,
        (Likeness::Renamed, Some(true)) => Claim::BytesRenamed,
        (Likeness::Possible, Some(true)) => Claim::BytesElsewhere,
        (_, None) => Claim::Possible,
    }
}

/// When a listed file was stored, as the attempt sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// Before the attempt began: it is another's.
    Before,
    /// When the attempt may have stored it.
    Within,
    /// Later than now: some clock is wrong, so this excludes nothing.
    After,
    /// That cannot be said without both clocks, nor where the one here is known to have gone
    /// backwards.
    Unknown,
}

fn moment(evidence: &Evidence<'_>, entry: &Listed) -> Moment {
    let (Some(created), Some(skew)) = (entry.created_at, evidence.reading.skew) else {
        return Moment::Unknown;
    };
    let doubt = evidence.doubt;
    if doubt.began > doubt.since || doubt.since > evidence.now {
        return Moment::Unknown;
    }
    let created = created.as_duration().saturating_sub(skew);
    if created < doubt.began.as_duration().saturating_sub(WINDOW_SLACK) {
        Moment::Before
    } else if created > evidence.now.as_duration().saturating_add(WINDOW_SLACK) {
        Moment::After
    } else {
        Moment::Within
    }
}

/// Whether a listed file has the bytes sent; none where its hash cannot tell.
fn same_bytes(evidence: &Evidence<'_>, entry: &Listed) -> Option<bool> {
    let listed = decode(entry.hash.as_deref()?, evidence.calibration.algorithm?)?;
    Some(listed == evidence.own?)
}

/// Whether a listed file is shown with other metadata than was sent, by a listing that is not known
/// to change it.
fn has_other_metadata(evidence: &Evidence<'_>, entry: &Listed) -> bool {
    evidence.calibration.metadata != ShownMetadata::Otherwise
        && entry
            .metadata
            .is_some_and(|shown| shown != evidence.doubt.metadata)
}

fn by_key(evidence: &Evidence<'_>, entry: &Listed) -> Sight {
    let id = &entry.id;
    if (evidence.known)(id) {
        return Sight::Unclear(format!(
            "file {id} has this attempt's id in its metadata, and is known as another file's"
        ));
    }
    match entry.presence {
        Presence::Live => Sight::Stored {
            id: id.clone(),
            how: "its metadata has this attempt's id".to_owned(),
        },
        Presence::Deleted => deleted(id),
    }
}

fn deleted(id: &FileId) -> Sight {
    Sight::Unclear(format!(
        "file {id} may be this one: it was stored and then deleted by someone"
    ))
}

fn by_bytes(evidence: &Evidence<'_>, claim: Claim, entry: &Listed) -> Sight {
    if entry.presence == Presence::Deleted {
        return deleted(&entry.id);
    }
    match (claim, evidence.rivals) {
        (Claim::Bytes, Rivals::None | Rivals::OtherNames) | (Claim::BytesRenamed, Rivals::None) => {
            Sight::Stored {
                id: entry.id.clone(),
                how: how(evidence, claim, entry),
            }
        }
        (Claim::Bytes | Claim::BytesRenamed, _) => Sight::Unclear(format!(
            "file {} has these bytes, and so has another file that is not settled",
            entry.id
        )),
        (Claim::OtherMetadata, _) => Sight::Unclear(format!(
            "file {} has these bytes but other metadata, and nothing proves that it is this one",
            entry.id
        )),
        (Claim::BytesElsewhere, _) => Sight::Unclear(format!(
            "file {} has these bytes but {}, and nothing proves that it is this one",
            entry.id,
            called(entry)
        )),
        (Claim::Foreign | Claim::Possible | Claim::Own, _) => {
            let what = match likeness(entry.name.as_deref(), evidence.name) {
                Likeness::Same => "a file of this name and size".to_owned(),
                _ => format!("a file of this size that {}", called(entry)),
            };
            Sight::Unclear(format!(
                "{what} is there ({}), and nothing proves that it is this one",
                entry.id
            ))
        }
    }
}

fn called(entry: &Listed) -> String {
    match &entry.name {
        Some(name) => format!("is called \"{}\"", shown_bounded(name)),
        None => "has no name".to_owned(),
    }
}

/// What agrees, in words.
fn how(evidence: &Evidence<'_>, claim: Claim, entry: &Listed) -> String {
    let mut agreeing = Vec::new();
    if claim == Claim::Bytes {
        agreeing.push("name".to_owned());
    }
    if entry.size == Some(evidence.doubt.stat.size) {
        agreeing.push("size".to_owned());
    }
    if moment(evidence, entry) == Moment::Within {
        agreeing.push("time".to_owned());
    }
    let hash = evidence
        .calibration
        .algorithm
        .map_or("hash".to_owned(), |algorithm| algorithm.to_string());
    let mut text = match agreeing.as_slice() {
        [] => format!("its {hash} matches"),
        some => format!("its {} and {hash} match", some.join(", ")),
    };
    if claim == Claim::BytesRenamed {
        text = format!("{text}; the service renamed it: it {}", called(entry));
    }
    text
}

fn absent(evidence: &Evidence<'_>) -> Sight {
    if let Coverage::Partial(why) = &evidence.reading.coverage {
        return Sight::Unclear(format!("it is not among the files listed, but {why}"));
    }
    let calibration = evidence.calibration;
    match evidence.reading.scope {
        Scope::Search if calibration.search != Search::Proven => Sight::Unclear(
            "the search does not find it, but nothing proves that it would".to_owned(),
        ),
        Scope::Everything if calibration.shows == Shows::NoSample => Sight::Unclear(
            "the listing shows neither it nor files that are known to be stored".to_owned(),
        ),
        Scope::Search | Scope::Everything => Sight::Absent,
    }
}

#[cfg(test)]
mod tests;
