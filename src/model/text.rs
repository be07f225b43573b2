//! Text for people: safe to show, in words and units.

use std::borrow::Cow;
use std::fmt;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// Longest text from outside that is shown whole, in characters.
const SHOWN_MAX: usize = 300;

/// A text from outside (a file name, a server's answer) made safe for a terminal or a log:
/// control, format, private and unassigned characters and separators other than a space appear
/// as `\u{…}`, so that nothing can move the cursor, hide text or forge a line.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    if text
        .bytes()
        .all(|b| (b' '..=b'~').contains(&b) && b != b'\\')
    {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            '\\' => safe.push_str("\\\\"),
            _ if is_shown(c) => safe.push(c),
            _ => safe.extend(c.escape_unicode()),
        }
    }
    Cow::Owned(safe)
}

/// Whether a character can do nothing to a terminal or a log but be seen there.
#[must_use]
pub fn is_shown(c: char) -> bool {
    c == ' '
        || !matches!(
            c.general_category_group(),
            GeneralCategoryGroup::Other | GeneralCategoryGroup::Separator
        )
}

/// As [`shown`], cut after 300 characters.
#[must_use]
pub fn shown_bounded(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(SHOWN_MAX).collect();
    let mut safe = shown(&head).into_owned();
    if chars.next().is_some() {
        safe.push('…');
    }
    safe
}

/// An id of the service's in the one form that ids are compared in: without white space around
/// it, a UUID in lower case (RFC 9562 section 4). None where a control character is in it, or
/// nothing is.
#[must_use]
pub fn canonical_id(text: &str) -> Option<String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return None;
    }
    let uuid = uuid::Uuid::parse_str(text)
        .ok()
        .filter(|_| text.len() == 36);
    Some(uuid.map_or_else(|| text.to_owned(), |uuid| uuid.to_string()))
}

/// A byte count in binary units, as `1.5 MiB`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    #[expect(
        clippy::cast_precision_loss,
        reason = "one decimal of a binary unit needs no more than f64 holds"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1023.95 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        write!(f, "{value:.1} {}", UNITS[unit])
    }
}

/// A count with its noun in the right number, as `1 file` or `2,500 files`.
#[must_use]
pub fn count(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", number(count))
}

/// A number as people write it, as `2,500`.
#[must_use]
pub fn number(number: usize) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + 4);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// The candidate nearest to a mistyped word, if any is near enough to be worth suggesting.
#[must_use]
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let replace = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replace.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_cannot_drive_a_terminal() {
        assert_eq!(shown("plain name.txt"), "plain name.txt");
        assert_eq!(shown("é 漢 🎉"), "é 漢 🎉");
        assert_eq!(shown("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
        assert_eq!(shown("evil\u{202e}fdp.exe"), "evil\\u{202e}fdp.exe");
        assert_eq!(shown("a\\nb"), "a\\\\nb");
        assert_eq!(shown("\u{a0}"), "\\u{a0}");
    }

    #[test]
    fn one_id_has_one_form() {
        let id = "3f2b7a52-0000-4000-8000-00000000000a";
        for written in [id.to_owned(), id.to_uppercase(), format!(" {id}\n")] {
            assert_eq!(canonical_id(&written).as_deref(), Some(id));
        }
        assert_eq!(canonical_id("Team-A").as_deref(), Some("Team-A"));
        assert_eq!(canonical_id(" \n"), None);
        assert_eq!(canonical_id("a\u{0}b"), None);
    }

    #[test]
    fn long_text_from_outside_is_cut() {
        assert_eq!(shown_bounded(&"x".repeat(10_000)).chars().count(), 301);
        assert_eq!(shown_bounded(&"x".repeat(300)), "x".repeat(300));
    }

    #[test]
    fn byte_counts_use_binary_units_and_never_say_1024() {
        let shown: Vec<String> = [0, 1023, 1024, 1536, 1_048_575, 1_048_576, u64::MAX]
            .map(|n| Bytes(n).to_string())
            .to_vec();
        assert_eq!(
            shown,
            [
                "0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "1.0 MiB", "16.0 EiB"
            ]
        );
    }

    #[test]
    fn counts_read_as_people_write_them() {
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(1, "file"), "1 file");
        assert_eq!(count(1_234_567, "file"), "1,234,567 files");
    }

    #[test]
    fn a_typo_finds_its_word_and_nonsense_finds_none() {
        let keys = ["include", "exclude", "metadata", "dataset_id"];
        assert_eq!(closest("inlcude", keys), Some("include"));
        assert_eq!(closest("dataset", keys), None);
        assert_eq!(closest("metdata", keys), Some("metadata"));
        assert_eq!(closest("zzz", keys), None);
    }
}
