//! What a listing is known to show, learnt from files that are known to be stored.

use super::hash::{Algorithm, Hashes, decode};
use crate::client::{Listed, Mark};
use crate::model::{AttemptId, Digest, FileId, Metadata, SourcePath};

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
    /// The digest of the metadata sent, without a planted key, where that is known.
    pub metadata: Option<Digest>,
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
    /// Nothing says so, nor otherwise.
    #[default]
    Untried,
    /// It showed a sample with the metadata that were sent, and there were some. Another sample
    /// that differs was changed since.
    AsSent,
    /// It showed samples only with other metadata than were sent.
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
        if let (Some(shown), Some(sent)) = (entry.metadata, sample.metadata) {
            // That nothing is shown where nothing was sent says nothing of the others.
            if shown == sent && sent != Metadata::default().digest() {
                self.metadata = ShownMetadata::AsSent;
            } else if shown != sent && self.metadata == ShownMetadata::Untried {
                self.metadata = ShownMetadata::Otherwise;
            }
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

    fn sample(planted: Option<&str>) -> Sample {
        Sample {
            id: FileId::new("f"),
            remote_name: "a".to_owned(),
            path: SourcePath::new("a"),
            digest: Digest([0; 32]),
            metadata: None,
            planted: planted.map(AttemptId::new),
        }
    }

    fn entry(mark: Mark) -> Listed {
        Listed {
            id: FileId::new("f"),
            name: None,
            size: None,
            hash: None,
            mark,
            metadata: None,
            created_at: None,
            presence: Presence::Live,
        }
    }

    #[test]
    fn only_a_samples_own_key_proves_that_keys_are_shown() {
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

    #[test]
    fn a_listing_is_trusted_with_metadata_unless_every_sample_says_otherwise() {
        let (sent, other) = (Digest([1; 32]), Digest([2; 32]));
        let nothing = Metadata::default().digest();
        for (samples, expected) in [
            (vec![], ShownMetadata::Untried),
            (vec![(Some(sent), None)], ShownMetadata::Untried),
            (vec![(None, Some(other))], ShownMetadata::Untried),
            (vec![(Some(nothing), Some(nothing))], ShownMetadata::Untried),
            (vec![(Some(sent), Some(sent))], ShownMetadata::AsSent),
            (vec![(Some(sent), Some(nothing))], ShownMetadata::Otherwise),
            (vec![(Some(nothing), Some(other))], ShownMetadata::Otherwise),
            (
                vec![(Some(sent), Some(other)), (Some(sent), Some(sent))],
                ShownMetadata::AsSent,
            ),
            (
                vec![(Some(sent), Some(sent)), (Some(sent), Some(other))],
                ShownMetadata::AsSent,
            ),
        ] {
            let mut calibration = Calibration::default();
            for &(metadata, shown) in &samples {
                let sample = Sample {
                    metadata,
                    ..sample(None)
                };
                let entry = Listed {
                    metadata: shown,
                    ..entry(Mark::Unshown)
                };
                calibration.learn(&sample, &entry);
            }
            assert_eq!(calibration.metadata, expected, "{samples:?}");
        }
    }
}
