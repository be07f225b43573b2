//! The filter `regex_replace`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use regex::{Regex, RegexBuilder};

use super::filters::{Checked, push};
use crate::model::shown_bounded;

/// Longest pattern, in bytes.
const PATTERN_MAX: usize = 8 * 1024;

/// Largest compiled pattern, in bytes.
const COMPILED_MAX: usize = 1024 * 1024;

/// Most memory that a pattern takes while it matches, in bytes.
const MATCHING_MAX: usize = 256 * 1024;

/// Most compiled patterns that are kept.
const KEPT_MAX: usize = 100;

/// Most bytes that are searched in one text, each match counting all that is behind it: finding
/// every match takes quadratic time at worst.
const SEARCHED_MAX: usize = 1 << 28;

/// A part of a replacement.
enum Piece {
    Literal(String),
    Group(usize),
}

/// What is wrong with a pattern and its replacement, as far as they are known: which of the two,
/// and why.
pub(super) fn check(pattern: &str, replacement: Option<&str>) -> Checked {
    let regex = compiled(pattern).map_err(|why| (0, why))?;
    match replacement {
        Some(replacement) => pieces(replacement, &regex)
            .map(drop)
            .map_err(|why| (1, why)),
        None => Ok(()),
    }
}

/// The text with every match replaced.
pub(super) fn replace(text: &str, pattern: &str, replacement: &str) -> Result<String, String> {
    let regex = compiled(pattern)?;
    let pieces = pieces(replacement, &regex)?;
    let mut made = String::new();
    let mut rest = 0;
    let mut searched = 0;
    for captures in regex.captures_iter(text) {
        let Some(whole) = captures.get(0) else {
            continue;
        };
        searched += text.len() - rest;
        if searched > SEARCHED_MAX {
            return Err("the text is too long for so many matches".to_owned());
        }
        push(&mut made, &text[rest..whole.start()])?;
        for piece in &pieces {
            match piece {
                Piece::Literal(literal) => push(&mut made, literal)?,
                Piece::Group(number) => {
                    push(
                        &mut made,
                        captures.get(*number).map_or("", |group| group.as_str()),
                    )?;
                }
            }
        }
        rest = whole.end();
    }
    push(&mut made, &text[rest..])?;
    Ok(made)
}

/// A pattern that was compiled before, or is now.
fn compiled(pattern: &str) -> Result<Arc<Regex>, String> {
    static KEPT: LazyLock<Mutex<HashMap<String, Arc<Regex>>>> = LazyLock::new(Mutex::default);
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = kept().get(pattern) {
        return Ok(Arc::clone(regex));
    }
    if pattern.len() > PATTERN_MAX {
        return Err("the pattern is longer than 8 KiB".to_owned());
    }
    let regex = RegexBuilder::new(pattern)
        .size_limit(COMPILED_MAX)
        .dfa_size_limit(MATCHING_MAX)
        .build()
        .map_err(|error| explained(&error))?;
    let regex = Arc::new(regex);
    let mut kept = kept();
    if kept.len() >= KEPT_MAX {
        kept.clear();
    }
    kept.insert(pattern.to_owned(), Arc::clone(&regex));
    Ok(regex)
}

fn explained(error: &regex::Error) -> String {
    if matches!(error, regex::Error::CompiledTooBig(_)) {
        return "the pattern is too large".to_owned();
    }
    // The last line says why; those before draw the pattern.
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    let why = last.strip_prefix("error: ").unwrap_or(last);
    format!("it is no regular expression: {}", shown_bounded(why))
}

/// Reads a replacement: `$1`, `$name`, `${name}`, and `$$` for a dollar. A group that the pattern
/// does not have is an error, where the crate would put nothing.
fn pieces(replacement: &str, regex: &Regex) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            literal.push('$');
            rest = after;
            continue;
        }
        let braced = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            rest.split_at(rest.find(|c| !is_name(c)).unwrap_or(rest.len()))
        });
        rest = after;
        let number = match name.parse::<usize>() {
            Ok(number) => (number < regex.captures_len()).then_some(number),
            Err(_) => regex.capture_names().position(|group| group == Some(name)),
        };
        // The name may be a part of a secret.
        let number = number.ok_or_else(|| {
            "the replacement names a group that the pattern does not have: write `$$` for a \
             dollar, `${1}` where a letter or digit follows"
                .to_owned()
        })?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Group(number));
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_in_a_replacement_by_number_and_name() {
        for (pattern, replacement, expected) in [
            (r"(\d+)-(?<b>\w+)", "$b/$1", "xx/12 y"),
            (r"(\d+)-(?<b>\w+)", "${1}x $$ ${b} $0", "12x $ xx 12-xx y"),
            (r"(\d+)-(?<b>\w+)|(q)", "[$3]", "[] y"),
            ("nope", "$0", "12-xx y"),
            ("", "-", "-1-2---x-x- -y-"),
        ] {
            let replaced = replace("12-xx y", pattern, replacement);
            assert_eq!(replaced.as_deref(), Ok(expected), "{pattern} {replacement}");
        }
    }

    #[test]
    fn a_pattern_or_group_that_is_none_is_told() {
        for (pattern, replacement, which, why) in [
            ("(a", "", 0, "it is no regular expression: unclosed group"),
            ("(?=a)", "", 0, "look-around"),
            (r"(\w{100}){100}", "", 0, "is too large"),
            ("(a)", "$2", 1, "names a group"),
            ("(a)", "$1_x", 1, "names a group"),
            ("(a)", "5 $", 1, "names a group"),
            ("(a)", "${1", 1, "names a group"),
        ] {
            let (at, error) = check(pattern, Some(replacement)).expect_err(pattern);
            assert_eq!(at, which, "{pattern} {replacement}");
            assert!(error.contains(why), "{error}");
        }
        assert!(compiled(&"a".repeat(PATTERN_MAX + 1)).is_err());
    }

    #[test]
    fn a_replacement_cannot_explode_and_matching_takes_bounded_time() {
        let text = "a".repeat(1_000_000);
        let error = replace(&text, "a*", &"$0".repeat(1_000)).expect_err("a gigabyte");
        assert_eq!(error, "it makes a text longer than 1 MiB");
        // With `a*b|a` each of a million searches would run to the end of the text.
        let error = replace(&text, "a", "").expect_err("a trillion steps");
        assert_eq!(error, "the text is too long for so many matches");
    }

    #[test]
    fn few_patterns_are_kept() {
        for number in 0..3 * KEPT_MAX {
            let replaced = replace("x7y", &format!("{number}"), "-");
            let expected = if number == 7 { "x-y" } else { "x7y" };
            assert_eq!(replaced.as_deref(), Ok(expected));
        }
    }
}
