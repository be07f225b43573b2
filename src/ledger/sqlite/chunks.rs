//! The texts in which plans are kept: some hundred rows each, as JSON that `sqlite3` can read.
//!
//! Where one ends is told by the paths in it, so that a file more or less changes the chunk it is
//! in, and seldom the next; all the others serve both plans.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Rows of the smallest chunk, the last of a plan aside.
const ROWS_MIN: usize = 16;

/// Of so many paths one ends a chunk. Smaller chunks keep less twice when a file changes; larger
/// ones repeat less. Keeping one takes about as long as writing its rows.
const ROWS_MEAN: u64 = 128;

/// Rows of the largest.
const ROWS_MAX: usize = 1024;

/// Bytes that are enough for one, however few rows they are.
const BYTES_ENOUGH: usize = 1 << 20;

/// What many rows of a plan share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head<'a> {
    pub(super) rule: Cow<'a, str>,
    pub(super) target_id: i64,
    pub(super) decision: Cow<'a, str>,
    /// How the row ends if nothing is attempted.
    pub(super) outcome: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content_type: Option<Cow<'a, str>>,
}

impl Head<'_> {
    fn into_owned(self) -> Head<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        Head {
            rule: owned(self.rule),
            target_id: self.target_id,
            decision: owned(self.decision),
            outcome: owned(self.outcome),
            reason: self.reason.map(owned),
            content_type: self.content_type.map(owned),
        }
    }
}

/// One row to be kept.
#[derive(Debug, Clone)]
pub(super) struct Row<'a> {
    pub(super) head: Head<'a>,
    pub(super) path: &'a str,
    pub(super) remote_name: Option<&'a str>,
    pub(super) size: Option<u64>,
    /// A JSON object.
    pub(super) metadata: Option<&'a str>,
    pub(super) file_id: Option<&'a str>,
    pub(super) blake3: Option<&'a str>,
    pub(super) attempt_id: Option<&'a str>,
}

/// A chunk that is read.
#[derive(Debug, Deserialize)]
pub(super) struct Kept<'a> {
    #[serde(borrow)]
    pub(super) heads: Vec<Head<'a>>,
    /// JSON objects.
    #[serde(borrow)]
    pub(super) metadata: Vec<&'a RawValue>,
    #[serde(borrow)]
    pub(super) rows: Vec<KeptRow<'a>>,
}

/// A row of a chunk that is read. What is null at its end is left out.
#[derive(Debug, Deserialize)]
pub(super) struct KeptRow<'a>(
    /// Which of the heads.
    pub(super) usize,
    /// The path.
    #[serde(borrow)]
    pub(super) Text<'a>,
    /// The name to send it under.
    #[serde(borrow, default)]
    pub(super) Option<Text<'a>>,
    /// Bytes.
    #[serde(default)]
    pub(super) Option<u64>,
    /// Which of the metadata.
    #[serde(default)]
    pub(super) Option<usize>,
    /// The id under which it is stored.
    #[serde(borrow, default)]
    pub(super) Option<Text<'a>>,
    /// The digest of what is stored.
    #[serde(borrow, default)]
    pub(super) Option<Text<'a>>,
    /// The attempt in question.
    #[serde(borrow, default)]
    pub(super) Option<Text<'a>>,
);

/// A text that is borrowed also where it may be missing.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Text<'a>(#[serde(borrow)] pub(super) Cow<'a, str>);

impl Text<'_> {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A chunk that is written.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    heads: Heads,
    metadata: Shared,
    /// Each behind a comma and a new line, the first too.
    rows: Vec<u8>,
    count: usize,
}

/// How many of a chunk's heads are compared with a row's before it is written to find its place.
const HEADS_COMPARED: usize = 8;

/// The heads of a chunk's rows.
#[derive(Debug, Default)]
struct Heads {
    written: Shared,
    /// The first of them, each at its place.
    first: Vec<Head<'static>>,
    json: Vec<u8>,
}

/// Values of which each is written once.
#[derive(Debug, Default)]
struct Shared {
    /// Each behind a comma, the first too.
    text: Vec<u8>,
    places: HashMap<Vec<u8>, usize>,
    /// The last one, and its place: rows that follow each other are much alike.
    last: Vec<u8>,
    place: usize,
}

impl Chunk {
    /// Adds a row. Returns whether the chunk ends with it.
    pub(super) fn add(&mut self, row: &Row<'_>) -> bool {
        let head = self.heads.place(&row.head);
        let metadata = row
            .metadata
            .map(|metadata| self.metadata.place(metadata.as_bytes()));
        self.rows.extend_from_slice(b",\n[");
        json(&mut self.rows, &head);
        let mut cells = Cells {
            to: &mut self.rows,
            missing: 0,
        };
        cells.add(Some(row.path));
        cells.add(row.remote_name);
        cells.add(row.size);
        cells.add(metadata);
        cells.add(row.file_id);
        cells.add(row.blake3);
        cells.add(row.attempt_id);
        self.rows.push(b']');
        self.count += 1;
        let bytes = self.rows.len() + self.metadata.text.len() + self.heads.written.text.len();
        self.count >= ROWS_MAX
            || bytes >= BYTES_ENOUGH
            || self.count >= ROWS_MIN && ends_chunk(row.path)
    }

    /// The chunk's text, if there is a row in it; the next row begins another.
    pub(super) fn take(&mut self) -> Option<String> {
        let chunk = std::mem::take(self);
        if chunk.count == 0 {
            return None;
        }
        let mut text = Vec::with_capacity(
            chunk.rows.len() + chunk.metadata.text.len() + chunk.heads.written.text.len() + 64,
        );
        for (key, values) in [
            ("{\"heads\":[", &chunk.heads.written.text),
            ("],\n\"metadata\":[", &chunk.metadata.text),
            ("],\n\"rows\":[", &chunk.rows),
        ] {
            text.extend_from_slice(key.as_bytes());
            text.extend_from_slice(values.get(1..).unwrap_or_default());
        }
        text.extend_from_slice(b"]}");
        Some(String::from_utf8(text).expect("made of texts"))
    }
}

impl Heads {
    /// The place of a head among those written.
    fn place(&mut self, head: &Head<'_>) -> usize {
        if let Some(place) = self.first.iter().position(|first| first == head) {
            return place;
        }
        self.json.clear();
        json(&mut self.json, head);
        let place = self.written.place(&self.json);
        if place == self.first.len() && place < HEADS_COMPARED {
            self.first.push(head.clone().into_owned());
        }
        place
    }
}

impl Shared {
    /// The place of a value's JSON among those written.
    fn place(&mut self, json: &[u8]) -> usize {
        if self.last == json {
            return self.place;
        }
        let next = self.places.len();
        self.place = self.places.get(json).copied().unwrap_or(next);
        if self.place == next {
            self.text.push(b',');
            self.text.extend_from_slice(json);
            self.places.insert(json.to_owned(), next);
        }
        self.last.clear();
        self.last.extend_from_slice(json);
        self.place
    }
}

/// The cells of a row behind its first.
struct Cells<'a> {
    to: &'a mut Vec<u8>,
    /// Nulls that are written only if something follows.
    missing: usize,
}

impl Cells<'_> {
    fn add<T: Serialize>(&mut self, cell: Option<T>) {
        let Some(cell) = cell else {
            self.missing += 1;
            return;
        };
        for _ in 0..std::mem::take(&mut self.missing) {
            self.to.extend_from_slice(b",null");
        }
        self.to.push(b',');
        json(self.to, &cell);
    }
}

fn json(to: &mut Vec<u8>, value: &impl Serialize) {
    serde_json::to_writer(to, value).expect("texts and numbers into memory");
}

/// Whether a chunk that is large enough ends with this path: FNV-1a, whose last bytes are mixed into
/// the upper half once more.
fn ends_chunk(path: &str) -> bool {
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32).is_multiple_of(ROWS_MEAN)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// A row with some of everything, told by its number.
    fn row<'a>(path: &'a str, number: u32, texts: &'a [String; 3]) -> Row<'a> {
        let [reason, name, metadata] = texts;
        Row {
            head: Head {
                rule: Cow::Borrowed("rule \"1\""),
                target_id: i64::from(number % 2),
                decision: Cow::Borrowed("upload"),
                outcome: Cow::Borrowed("not_attempted"),
                reason: number.is_multiple_of(3).then_some(Cow::Borrowed(reason)),
                content_type: (!number.is_multiple_of(5)).then_some(Cow::Borrowed("text/plain")),
            },
            path,
            remote_name: (!number.is_multiple_of(7)).then_some(name),
            size: (!number.is_multiple_of(11)).then_some(u64::from(number)),
            metadata: (!number.is_multiple_of(4)).then_some(metadata),
            file_id: number.is_multiple_of(13).then_some("id"),
            blake3: number.is_multiple_of(17).then_some("00ff"),
            attempt_id: number.is_multiple_of(19).then_some("attempt"),
        }
    }

    fn texts(number: u32, odd: &str) -> [String; 3] {
        [
            format!("why {}{odd}", number % 9),
            format!("name-{number}"),
            serde_json::json!({"k": odd, "n": (number % 6).to_string()}).to_string(),
        ]
    }

    fn chunks(paths: &[(String, u32)]) -> Vec<String> {
        let mut chunk = Chunk::default();
        let mut found = Vec::new();
        for (path, number) in paths {
            if chunk.add(&row(path, *number, &texts(*number, "\u{1}\"é"))) {
                found.extend(chunk.take());
            }
        }
        found.extend(chunk.take());
        found
    }

    fn assert_reads_back(paths: &[(String, u32)]) {
        let found = chunks(paths);
        let mut expected = paths.iter();
        for text in &found {
            let kept: Kept<'_> = serde_json::from_str(text).expect("a chunk");
            let is_last = std::ptr::eq(text, found.last().expect("one"));
            assert!(is_last || kept.rows.len() >= ROWS_MIN);
            assert!(kept.rows.len() <= ROWS_MAX);
            for read in kept.rows {
                let (path, number) = expected.next().expect("no more than written");
                let texts = texts(*number, "\u{1}\"é");
                let written = row(path, *number, &texts);
                let text = |text: &Option<Text<'_>>| text.as_ref().map(|t| t.as_str().to_owned());
                let owned = |text: Option<&str>| text.map(str::to_owned);
                assert_eq!(kept.heads[read.0], written.head);
                assert_eq!(read.1.as_str(), path);
                assert_eq!(text(&read.2), owned(written.remote_name));
                assert_eq!(read.3, written.size);
                let metadata = read.4.map(|at| kept.metadata[at].get());
                assert_eq!(metadata, written.metadata);
                assert_eq!(text(&read.5), owned(written.file_id));
                assert_eq!(text(&read.6), owned(written.blake3));
                assert_eq!(text(&read.7), owned(written.attempt_id));
            }
        }
        assert!(expected.next().is_none(), "no fewer than written");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn rows_read_back_and_a_file_more_or_less_changes_few_chunks(
            seed in any::<u32>(), count in 1_u32..6_000, at in any::<prop::sample::Index>()
        ) {
            let path = |number: u32| {
                (format!("in/{seed:x}/{:03}/invoice-{number}.pdf", number / 100), number)
            };
            let all: Vec<(String, u32)> = (0..count).map(path).collect();
            assert_reads_back(&all);
            let mut fewer = all.clone();
            fewer.remove(at.index(all.len()));
            let before: HashSet<String> = chunks(&all).into_iter().collect();
            let after: HashSet<String> = chunks(&fewer).into_iter().collect();
            let new = after.difference(&before).count();
            let gone = before.difference(&after).count();
            // Where borders fall apart, each further chunk makes them meet again seven times of
            // eight.
            prop_assert!(new <= 16 && gone <= 16, "{new} new and {gone} gone of {}", before.len());
        }
    }

    #[test]
    fn names_that_differ_little_end_as_many_chunks_as_others() {
        for paths in [
            (0..12_800).map(|n| format!("{n:05}")).collect::<Vec<_>>(),
            (0..12_800).map(|n| format!("in/{n}.pdf")).collect(),
        ] {
            let ends = paths.iter().filter(|path| ends_chunk(path)).count();
            assert!((50..200).contains(&ends), "{ends}");
        }
    }

    #[test]
    fn rows_of_one_path_end_chunks_too() {
        let same: Vec<(String, u32)> = (0..3_000).map(|n| ("same".to_owned(), n)).collect();
        assert_reads_back(&same);
    }

    #[test]
    fn what_rows_share_is_written_once() {
        let all: Vec<(String, u32)> = (0..16).map(|n| (format!("{n}"), 9)).collect();
        let found = chunks(&all);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].matches("rule").count(), 2, "the key and the word");
        assert_eq!(found[0].matches("{\"k\"").count(), 1);
    }
}
