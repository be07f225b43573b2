//! One wildcard within a name: matched as it is written, for a compiled matcher for each of very
//! many would not fit into memory.

use globset::{ErrorKind, GlobBuilder};

/// What has its own meaning in a wildcard.
pub(super) const SPECIAL: [char; 4] = ['*', '?', '[', '\\'];

/// Whether a text means something as a wildcard.
pub(super) fn check(wildcard: &str) -> Result<(), ErrorKind> {
    let mut builder = GlobBuilder::new(wildcard);
    let builder = builder.literal_separator(true).backslash_escape(true);
    builder
        .build()
        .map(|_| ())
        .map_err(|error| error.kind().clone())
}

/// The place of the star in a wildcard that is one star between literal texts, as most are.
pub(super) fn only_star(wildcard: &str) -> Option<usize> {
    let star = wildcard.find('*')?;
    let others = [&wildcard[..star], &wildcard[star + 1..]];
    others
        .iter()
        .all(|text| !text.contains(SPECIAL))
        .then_some(star)
}

/// Whether a name matches a wildcard whose only special character is the star at a place.
pub(super) fn matches_star(wildcard: &str, star: usize, name: &str) -> bool {
    let (wildcard, name) = (wildcard.as_bytes(), name.as_bytes());
    let (start, end) = (&wildcard[..star], &wildcard[star + 1..]);
    name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end)
}

/// Whether a name matches a wildcard that means something.
pub(super) fn matches(wildcard: &str, name: &str) -> bool {
    let (mut pattern, mut rest) = (wildcard, name);
    // One backtracking point is enough: a later `*` can always take over from an earlier one.
    let mut last_star: Option<(&str, &str)> = None;
    loop {
        if let Some(after) = pattern.strip_prefix('*') {
            last_star = Some((after, rest));
            pattern = after;
            continue;
        }
        match (pattern.is_empty(), cut(rest)) {
            (true, None) => return true,
            (false, None) => return false,
            (false, Some((c, after))) => {
                if let Some(next) = step(pattern, c) {
                    (pattern, rest) = (next, after);
                    continue;
                }
            }
            (true, Some(_)) => {}
        }
        let Some((star, Some((_, fewer)))) = last_star.map(|(star, from)| (star, cut(from))) else {
            return false;
        };
        last_star = Some((star, fewer));
        (pattern, rest) = (star, fewer);
    }
}

fn cut(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    chars.next().map(|first| (first, chars.as_str()))
}

/// What is left of a wildcard once its first element, no `*`, took this character; none where it
/// does not take it.
fn step(pattern: &str, c: char) -> Option<&str> {
    let (first, after) = cut(pattern)?;
    let (is_taken, after) = match first {
        '?' => (true, after),
        '[' => class(after, c),
        '\\' => {
            let (escaped, after) = cut(after)?;
            (escaped == c, after)
        }
        literal => (literal == c, after),
    };
    is_taken.then_some(after)
}

/// Whether the class that begins here has a character, and what follows the class.
fn class(text: &str, c: char) -> (bool, &str) {
    let inner = text.strip_prefix(['!', '^']);
    let mut rest = inner.unwrap_or(text);
    let mut is_in = false;
    // The newest range may still get another end.
    let mut newest: Option<(char, char)> = None;
    let mut is_range = false;
    let holds = |range: Option<(char, char)>| range.is_some_and(|(a, b)| (a..=b).contains(&c));
    while let Some((next, after)) = cut(rest) {
        rest = after;
        match (newest, next) {
            (Some(_), ']') => break,
            (Some(_), '-') if !is_range => is_range = true,
            (Some((start, _)), end) if is_range => {
                newest = Some((start, end));
                is_range = false;
            }
            (earlier, single) => {
                is_in |= holds(earlier);
                newest = Some((single, single));
            }
        }
    }
    is_in |= holds(newest) || is_range && c == '-';
    (is_in != inner.is_some(), rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_character_is_one_whatever_its_length() {
        for (wildcard, name) in [
            ("?x", "éx"),
            ("?", "文"),
            ("[éè]x", "éx"),
            ("[!a]x", "éx"),
            ("[à-é]", "ç"),
            ("*?", "é"),
        ] {
            assert!(matches(wildcard, name), "{wildcard} {name}");
        }
        assert!(!matches("??", "é"));
        assert!(!matches("[é]", "è"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// globset is the oracle where a character is a byte.
        #[test]
        fn agrees_with_globset(
            wildcard in r"([ab\]!^.-]|\*|\?|\[[!^]?[ab\]!^\\-]{1,5}\]|\\[ab*?\[\\-]|\[|\\){1,6}",
            name in r"[abc\]\[!^.*?\\-]{0,6}",
        ) {
            let glob = GlobBuilder::new(&wildcard).literal_separator(true).build();
            prop_assert_eq!(check(&wildcard).is_ok(), glob.is_ok());
            if !wildcard.contains("**") && let Ok(glob) = glob {
                let oracle = glob.compile_matcher().is_match(&name);
                prop_assert_eq!(matches(&wildcard, &name), oracle, "{} on {}", wildcard, name);
                if let Some(star) = only_star(&wildcard) {
                    let is_it = matches_star(&wildcard, star, &name);
                    prop_assert_eq!(is_it, oracle, "{} on {}", wildcard, name);
                }
            }
        }
    }
}
