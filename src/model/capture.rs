//! A regular expression with named groups, looked for in paths.

use std::ops::Range;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::Fields;

/// Most memory that one compiled expression may take, in bytes. Matching takes linear time
/// whatever the expression: the engine knows no backtracking.
const COMPILED_MAX: usize = 1024 * 1024;

/// Longest expression that is read, in bytes.
const TEXT_MAX: usize = 10_000;

/// Why an expression cannot be used: the problem, where in its text, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureError {
    /// Bytes of the expression.
    pub range: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// An expression, ready to look for.
#[derive(Debug, Clone)]
pub struct Capture {
    regex: Regex,
    names: Arc<[Arc<str>]>,
    /// Each name's group.
    groups: Arc<[usize]>,
}

impl Capture {
    /// Parses an expression in the syntax of the crate `regex`: as in most languages, without
    /// look-around and back-references.
    ///
    /// # Errors
    ///
    /// What is malformed, where; expressions too large to compile; those without a named group.
    pub fn parse(text: &str) -> Result<Self, Box<CaptureError>> {
        let fail = |range: Range<usize>, message: String, help: &str| {
            let help = Some(help.to_owned()).filter(|help| !help.is_empty());
            Box::new(CaptureError {
                range,
                message,
                help,
            })
        };
        if text.len() > TEXT_MAX {
            let message = "the expression is longer than 10,000 bytes".to_owned();
            return Err(fail(0..text.len(), message, ""));
        }
        if let Err(error) = regex_syntax::Parser::new().parse(text) {
            let (span, message) = match &error {
                regex_syntax::Error::Parse(error) => (*error.span(), error.kind().to_string()),
                regex_syntax::Error::Translate(error) => (*error.span(), error.kind().to_string()),
                _ => {
                    let message = "the expression cannot be read".to_owned();
                    return Err(fail(0..text.len(), message, ""));
                }
            };
            let range = span.start.offset..span.end.offset;
            let (ours, help) = explain(&message);
            return Err(fail(range, ours.unwrap_or(message), help));
        }
        let regex = RegexBuilder::new(text)
            .size_limit(COMPILED_MAX)
            .dfa_size_limit(COMPILED_MAX)
            .build()
            .map_err(|_| {
                fail(
                    0..text.len(),
                    "the expression is too large to compile".to_owned(),
                    "large counts multiply: `(.{100}){100}` is 10,000 places",
                )
            })?;
        let named = regex.capture_names().enumerate();
        let named: Vec<(usize, Arc<str>)> = named
            .filter_map(|(group, name)| Some((group, Arc::from(name?))))
            .collect();
        if named.is_empty() {
            return Err(fail(
                0..text.len(),
                "the expression has no named group".to_owned(),
                "name what is to be captured, as in `(?<year>\\d{4})`",
            ));
        }
        Ok(Self {
            regex,
            groups: named.iter().map(|(group, _)| *group).collect(),
            names: named.into_iter().map(|(_, name)| name).collect(),
        })
    }

    /// The groups' names, in the order of the expression.
    #[must_use]
    pub fn names(&self) -> &Arc<[Arc<str>]> {
        &self.names
    }

    /// What the groups match where the expression is first found; none where it is not.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<Fields> {
        let found = self.regex.captures(path)?;
        let values = self.groups.iter();
        let values = values.map(|group| found.get(*group).map(|part| part.as_str()));
        Some(Fields::new(Arc::clone(&self.names), values))
    }
}

/// What the parser means where it says it in words of its own, and what to do.
fn explain(message: &str) -> (Option<String>, &'static str) {
    for (theirs, ours, help) in [
        (
            "look-around",
            "looking ahead or behind is not supported",
            "take the whole path in, and name only the part that is wanted",
        ),
        (
            "backreferences",
            "references to earlier groups are not supported",
            "write the group's pattern out a second time",
        ),
        (
            "unclosed group",
            "this group is not closed",
            "close it with `)`, or write `\\(` for the character itself",
        ),
        (
            "unopened group",
            "this closes no group",
            "take it out, or write `\\)` for the character itself",
        ),
        (
            "unclosed character class",
            "this character class is not closed",
            "close it with `]`, or write `\\[` for the character itself",
        ),
        (
            "unrecognized escape",
            "this escape means nothing",
            "`\\d`, `\\w`, `\\s` and `\\.` are known; in double quotes YAML takes a backslash for \
             itself, so use single quotes",
        ),
        (
            "duplicate capture group name",
            "two groups have this name",
            "give each its own; one group may have several patterns, as in `(?<x>a|b)`",
        ),
        (
            "capture group character",
            "a group's name cannot have this character",
            "use letters, digits and `_`",
        ),
        (
            "repetition operator missing expression",
            "there is nothing before this that it could repeat",
            "this is a regular expression: `.*` matches anything, `[^/]*` anything in one folder's \
             name, and `(?<name>…)` names it",
        ),
        (
            "character class range",
            "this range runs backwards",
            "write the lower end first; a `-` that is meant comes last, as in `[ab-]`",
        ),
    ] {
        if message.contains(theirs) {
            return (Some(ours.to_owned()), help);
        }
    }
    let help = if message.contains("decimal") || message.contains("repetition") {
        "`{` begins a count, as in `\\d{4}`; write `\\{` for the character itself"
    } else {
        "a special character stands for itself after a backslash, as in `\\.`"
    };
    (None, help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_groups_are_found_anywhere_in_a_path() {
        let capture = Capture::parse(r"(?<year>\d{4})/(?P<vendor>[^/]+)/(?<draft>draft-)?")
            .expect("an expression");
        let fields = capture.find("in/2024/acme/1.pdf").expect("found");
        assert_eq!(fields.get("year"), Some("2024"));
        assert_eq!(fields.get("vendor"), Some("acme"));
        assert_eq!(fields.get("draft"), None);
        assert_eq!(capture.find("in/acme/1.pdf"), None);
    }

    #[test]
    fn what_cannot_be_used_is_named_at_its_place() {
        for (text, part, message) in [
            ("a(?<x>b", "(", "this group is not closed"),
            ("a[b", "[", "this character class is not closed"),
            ("(?<x>a)(?<x>b)", "x", "two groups have this name"),
            (
                "(?<x>.)(?=b)",
                "(?=",
                "looking ahead or behind is not supported",
            ),
            (
                r"(?<x>.)\1",
                r"\1",
                "references to earlier groups are not supported",
            ),
            (r"(\d+)", r"(\d+)", "the expression has no named group"),
            (
                "(?<x>(.{1000}){1000})",
                "(?<x>(.{1000}){1000})",
                "the expression is too large to compile",
            ),
        ] {
            let error = Capture::parse(text).expect_err(text);
            assert_eq!(
                (&text[error.range.clone()], error.message.as_str()),
                (part, message)
            );
        }
        let long = "a".repeat(TEXT_MAX + 1);
        assert!(Capture::parse(&long).is_err());
        let deep = "(".repeat(5000) + &")".repeat(5000);
        assert!(Capture::parse(&deep).is_err());
    }

    #[test]
    fn an_expression_that_would_backtrack_for_ever_elsewhere_takes_linear_time() {
        let capture = Capture::parse("(?<x>(a|a|a*)*)*b").expect("an expression");
        assert_eq!(capture.find(&"a".repeat(100_000)), None);
    }
}
