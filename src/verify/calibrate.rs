//! What a listing is known to show, learnt from files that are known to be stored.

use super::hash::{Algorithm, Hashes, decode};
use crate::client::{Listed, Mark};
use crate::model::{AttemptId, Digest, FileId, SourcePath};

/// A file that the ledger knows to be stored in a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// The id the service gave it.
    pub id: FileId,
    /// The name it was sent under.
    pub remote_name: String,
    /// Where it lies here.
    pub path: SourcePath,
    /// The BLAKE3 digest of the bytes sent.
    pub digest: Digest,
    /// The digest of the metadata sent, without a planted key.
    pub metadata: Digest,
    /// The attempt whose id was planted in its metadata, where one was.
    pub planted: Option<AttemptId>,
}

/// What the listing of one target is known to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Calibration {
    /// Whether its search finds names by what they contain.
    pub search: Search,
    /// Whether it shows what is stored.
    pub shows: Shows,
    /// Whether it shows planted keys.
    pub marks: Marks,
    /// Whether it shows metadata as it was sent.
    pub metadata: ShownMetadata,
    /// What its hashes are.
    pub algorithm: Option<Algorithm>,
}

/// Whether a search finds names by what they contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Search {
    /// Nothing proves it.
    #[default]
    Unproven,
    /// It found a sample by the middle of its name.
    Proven,
}

/// Whether a listing shows what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shows {
    /// Nothing is known to be stored that it could show.
    #[default]
    Untried,
    /// It showed a sample.
    Samples,
    /// It was read to its end and showed none of the samples.
    NoSample,
}

/// Whether a listing shows planted keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Marks {
    /// Nothing proves it.
    #[default]
    Unproven,
    /// It showed that of a sample.
    Shown,
}

/// Whether a listing shows metadata as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShownMetadata {
    /// Nothing says otherwise: a file with other metadata may be somebody else's.
    #[default]
    AsSent,
    /// It showed a sample with other metadata than was sent.
    Otherwise,
}

impl Calibration {
    /// Learns from a sample that the listing showed.
    pub(super) fn learn(&mut self, sample: &Sample, entry: &Listed) {
        self.shows = Shows::Samples;
        if let (Some(planted), Mark::Attempt(shown)) = (&sample.planted, &entry.mark)
            && planted.as_str() == shown
        {
            self.marks = Marks::Shown;
        }
        if entry.metadata.is_some_and(|shown| shown != sample.metadata) {
            self.metadata = ShownMetadata::Otherwise;
        }
    }
}

/// The algorithm under which these bytes have this hash.
pub(super) fn recognise(hash: &str, hashes: &Hashes) -> Option<Algorithm> {
    Algorithm::ALL.into_iter().find(|algorithm| {
        let shown = decode(hash, *algorithm);
        shown.is_some() && shown.as_deref() == hashes.of(*algorithm)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Presence;

    #[test]
    fn an_algorithm_is_recognised_by_a_hash_of_known_bytes() {
        let hashes = Hashes::read(&b"abc"[..], &Algorithm::ALL).expect("read");
        for (hash, expected) in [
            ("900150983cd24fb0d6963f7d28e17f72", Some(Algorithm::Md5)),
            (
                "SHA256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD",
                Some(Algorithm::Sha256),
            ),
            (
                "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
                Some(Algorithm::Blake3),
            ),
            ("00000000000000000000000000000000", None),
            ("", None),
        ] {
            assert_eq!(recognise(hash, &hashes), expected, "{hash}");
        }
    }

    #[test]
    fn only_a_samples_own_key_proves_that_keys_are_shown() {
        let sample = |planted: Option<&str>| Sample {
            id: FileId::new("f"),
            remote_name: "a".to_owned(),
            path: SourcePath::new("a"),
            digest: Digest([0; 32]),
            metadata: Digest([0; 32]),
            planted: planted.map(AttemptId::new),
        };
        let entry = |mark| Listed {
            id: FileId::new("f"),
            name: None,
            size: None,
            hash: None,
            mark,
            metadata: None,
            created_at: None,
            presence: Presence::Live,
        };
        for (planted, mark, expected) in [
            (Some("k"), Mark::Attempt("k".to_owned()), Marks::Shown),
            (Some("k"), Mark::Attempt("j".to_owned()), Marks::Unproven),
            (Some("k"), Mark::Absent, Marks::Unproven),
            (None, Mark::Attempt("k".to_owned()), Marks::Unproven),
        ] {
            let mut calibration = Calibration::default();
            calibration.learn(&sample(planted), &entry(mark));
            assert_eq!(calibration.marks, expected);
            assert_eq!(calibration.shows, Shows::Samples);
        }
    }
}
