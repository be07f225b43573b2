//! Which key was probably meant by one that is not there.

use crate::model::closest;

use super::KEYS_MAX;

/// Most characters of what may be called a file name's extension.
const EXTENSION_MAX: usize = 5;

/// The key that another one was probably meant to be, and how it differs, in words that go on
/// from it: "differs only by upper and lower case". Differences of a known kind go before mere
/// likeness, for which a thousand keys are tried.
#[must_use]
pub fn nearest<'k>(
    key: &str,
    unmatched_keys: impl Iterator<Item = &'k str>,
) -> Option<(&'k str, &'static str)> {
    let lower = key.to_lowercase();
    let mut tried = Vec::new();
    let mut best: Option<(usize, &str)> = None;
    for other in unmatched_keys.filter(|other| *other != key) {
        if tried.len() < KEYS_MAX {
            tried.push(other);
        }
        let found = KINDS
            .iter()
            .position(|(is_so, _)| is_so(key, &lower, other));
        if let Some(kind) = found
            && best.is_none_or(|(before, _)| kind < before)
        {
            best = Some((kind, other));
            if kind == 0 {
                break;
            }
        }
    }
    if let Some((kind, other)) = best {
        return Some((other, KINDS[kind].1));
    }
    let near = closest(key, tried)?;
    Some((near, "is spelt almost the same"))
}

/// Whether two keys differ so: the one, the same in lower case, the other.
type IsSo = fn(&str, &str, &str) -> bool;

/// The kinds of difference, the surest first.
const KINDS: [(IsSo, &str); 5] = [
    (
        |key, _, other| key.trim() == other.trim(),
        "differs only by white space around it",
    ),
    (
        |_, lower, other| other.to_lowercase() == lower,
        "differs only by upper and lower case",
    ),
    (
        |key, _, other| are_composed_otherwise(key, other),
        "looks the same, but its accents are encoded in another way (Unicode NFC and NFD)",
    ),
    (
        |key, _, other| is_below(key, other) || is_below(other, key),
        "differs only by the folders before it",
    ),
    (
        |key, _, other| stem(key) == stem(other),
        "differs only by its extension",
    ),
];

/// Whether a path is another one with folders before it.
fn is_below(long: &str, short: &str) -> bool {
    let folders = long.strip_suffix(short);
    !short.is_empty() && folders.is_some_and(|folders| folders.ends_with(['/', '\\']))
}

/// A path without its extension, where it has one.
fn stem(path: &str) -> &str {
    match path.rsplit_once('.') {
        Some((stem, extension))
            if !stem.is_empty()
                && (1..=EXTENSION_MAX).contains(&extension.len())
                && extension.starts_with(|c: char| c.is_ascii_alphabetic())
                && extension.bytes().all(|byte| byte.is_ascii_alphanumeric()) =>
        {
            stem
        }
        _ => path,
    }
}

/// Whether two texts differ only in that one has letters with combining accents, as macOS writes
/// file names, where the other has accented letters. Which accents is not looked at.
fn are_composed_otherwise(a: &str, b: &str) -> bool {
    // Each letter, and whether combining accents follow it.
    fn letters(text: &str) -> impl Iterator<Item = (char, bool)> {
        let is_accent = |c: &char| ('\u{300}'..='\u{36f}').contains(c);
        let mut chars = text.chars().peekable();
        std::iter::from_fn(move || {
            let letter = chars.next()?;
            let mut is_accented = false;
            while chars.next_if(is_accent).is_some() {
                is_accented = true;
            }
            Some((letter, is_accented))
        })
    }
    let are_alike = |a: (char, bool), b: (char, bool)| match (a, b) {
        ((_, true), (letter, false)) | ((letter, false), (_, true)) => !letter.is_ascii(),
        _ => a == b,
    };
    a != b && letters(a).count() == letters(b).count() && {
        letters(a).zip(letters(b)).all(|(a, b)| are_alike(a, b))
    }
}
