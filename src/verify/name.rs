//! Names that a service may have made of ours, and what to search for to find them all.

use crate::model::StoredName;

/// Shorter terms find too much, and prove nothing about a search.
const PROBE_CHARS_MIN: usize = 4;

/// How far into a name a term is taken from: what lies behind may have been cut.
const HEAD_CHARS: usize = 64;

/// A text that is in every name a service may make of ours.
///
/// It is the longest run of ASCII letters, digits, `-` and `_` in the stem: what survives cleaning
/// (Django's `get_valid_filename`), a suffix, a folder put before it. And it is one word without
/// quotes or commas, so that a search that splits its term (Django REST Framework's does) looks
/// for the same as one that does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Term(String);

impl Term {
    /// None where the stem has no such run.
    pub(super) fn of(name: &StoredName) -> Option<Self> {
        let head: String = name.stem().chars().take(HEAD_CHARS).collect();
        let run = head
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_')
            .map(|run| run.trim_matches(['-', '_']))
            // The first of the longest.
            .rev()
            .max_by_key(|run| run.len())?;
        (!run.is_empty()).then(|| Self(run.to_owned()))
    }

    /// The term itself.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// A part of the term that is neither its start nor its end: a search that finds a name by it
    /// finds names by whatever they contain. None where that would be too short to be telling.
    pub(super) fn probe(&self) -> Option<&str> {
        let inner = self.0.get(1..self.0.len().checked_sub(1)?)?;
        (inner.len() >= PROBE_CHARS_MIN).then_some(inner)
    }
}

/// How a listed name relates to the one predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Likeness {
    /// It is the same.
    Same,
    /// It is the predicted one with something between stem and extension, as a service adds it to
    /// a name that is taken.
    Renamed,
    /// It may have been made of the predicted one, or not be shown.
    Possible,
    /// It was not made of the predicted one.
    Other,
}

/// Compares a listed name with the predicted one.
pub(super) fn likeness(listed: Option<&str>, predicted: &StoredName) -> Likeness {
    let Some(listed) = listed else {
        return Likeness::Possible;
    };
    if listed == predicted.as_str() {
        return Likeness::Same;
    }
    let added = listed
        .strip_prefix(predicted.stem())
        .and_then(|rest| rest.strip_suffix(predicted.extension()));
    if added.is_some_and(|added| added.starts_with(|c: char| !c.is_alphanumeric())) {
        return Likeness::Renamed;
    }
    match Term::of(predicted) {
        Some(term) if !contains(listed, term.as_str()) => Likeness::Other,
        _ => Likeness::Possible,
    }
}

fn contains(name: &str, term: &str) -> bool {
    name.to_ascii_lowercase()
        .contains(&term.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RemoteName;

    fn stored(name: &str) -> StoredName {
        RemoteName::new(name).expect(name).stored()
    }

    #[test]
    fn a_term_is_what_survives_in_every_variant_of_a_name() {
        for (name, expected) in [
            ("invoice-2024_01.pdf", Some("invoice-2024_01")),
            ("my report (final).pdf", Some("report")),
            ("a, b \"long one\".txt", Some("long")),
            ("_-x-_.txt", Some("x")),
            ("résumé.pdf", Some("sum")),
            ("v1.2.3.tar.gz", Some("tar")),
            ("aa bb.txt", Some("aa")),
            (".bashrc", Some("bashrc")),
            ("данные.csv", None),
            ("---.csv", None),
        ] {
            let term = Term::of(&stored(name));
            assert_eq!(term.as_ref().map(Term::as_str), expected, "{name}");
        }
        let long = Term::of(&stored(&format!("{}.bin", "x".repeat(200)))).expect("a term");
        assert_eq!(long.as_str().len(), HEAD_CHARS);
    }

    #[test]
    fn a_probe_is_neither_start_nor_end() {
        let probe = |name: &str| {
            Term::of(&stored(name)).and_then(|term| term.probe().map(ToOwned::to_owned))
        };
        assert_eq!(probe("invoice.pdf").as_deref(), Some("nvoic"));
        assert_eq!(probe("abcdef").as_deref(), Some("bcde"));
        for short in ["abcde", "a.txt", "ab", "данные.csv"] {
            assert_eq!(probe(short), None, "{short}");
        }
    }

    #[test]
    fn a_name_is_judged_by_what_a_service_may_have_made_of_it() {
        use Likeness::{Other, Possible, Renamed, Same};
        for (listed, predicted, expected) in [
            (Some("a b.txt"), "a b.txt", Same),
            (Some("scan_x7Gh2Kq.pdf"), "scan.pdf", Renamed),
            (Some("scan (1).pdf"), "scan.pdf", Renamed),
            (Some("scan2.pdf"), "scan.pdf", Possible),
            (Some("scan_1.png"), "scan.pdf", Possible),
            (Some("SCAN.PDF"), "scan.pdf", Possible),
            (Some("uploads/scan.pdf"), "scan.pdf", Possible),
            (Some("my_report.pdf"), "my report.pdf", Possible),
            (Some("other.pdf"), "scan.pdf", Other),
            (Some("anything"), "данные.csv", Possible),
            (Some(""), "scan.pdf", Other),
            (None, "scan.pdf", Possible),
        ] {
            assert_eq!(
                likeness(listed, &stored(predicted)),
                expected,
                "{listed:?} {predicted}"
            );
        }
    }
}
