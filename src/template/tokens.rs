//! The words and signs of an expression, with their places.
//!
//! The engine has a parser of its own. This reading of the same text is what its parser does not
//! tell: where each name stands, and how deep an expression would have it recurse.

use std::ops::Range;

use super::TemplateError;
use crate::model::shown;

/// Longest expression, in bytes.
const SOURCE_MAX: usize = 8 * 1024;

/// Most words and signs of one expression: the engine recurses over chains of them.
const TOKENS_MAX: usize = 1_000;

/// Most brackets that may be open at once.
const DEPTH_MAX: usize = 32;

/// Most signs in a row that stand before one value (`not not x`, `--1`) and most `else` in one
/// expression: the engine recurses once for each.
const CHAIN_MAX: usize = 32;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, or a word such as `not`.
    Word,
    /// A text in quotes.
    Text,
    /// A number.
    Number,
    /// Anything else.
    Sign,
}

/// One word, text, number or sign.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'s> {
    pub kind: Kind,
    pub text: &'s str,
    /// Where it starts in the expression.
    pub at: usize,
}

impl Token<'_> {
    pub fn range(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }

    pub fn is(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }

    pub fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    pub fn opens(&self) -> bool {
        self.kind == Kind::Sign && matches!(self.text, "(" | "[" | "{")
    }

    pub fn closes(&self) -> bool {
        self.kind == Kind::Sign && matches!(self.text, ")" | "]" | "}")
    }
}

/// Finds the `}}` that ends an expression, past any inside a quoted text or a `{…}`.
pub(super) fn expression_end(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut braces = 0_usize;
    let mut at = from;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), b) if b == open => quote = None,
            (None, b @ (b'"' | b'\'')) => quote = Some(b),
            (None, b'{') => braces += 1,
            (None, b'}') if braces > 0 => braces -= 1,
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The tokens of an expression that is short and shallow enough for the engine.
pub(super) fn tokens(source: &str) -> Result<Vec<Token<'_>>, TemplateError> {
    let refused = |range: Range<usize>, message: String| TemplateError {
        range,
        message,
        help: Some("let a table, a sidecar or `vars` say what differs from file to file".into()),
    };
    if source.len() > SOURCE_MAX {
        let message = format!("the expression is longer than {} KiB", SOURCE_MAX / 1024);
        return Err(refused(0..source.len(), message));
    }
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let (mut depth, mut chain, mut elses) = (0_usize, 0_usize, 0_usize);
    let mut at = 0;
    while let Some(token) = next(source, at) {
        at = token.range().end;
        if tokens.len() == TOKENS_MAX {
            let message = format!("the expression has more than {TOKENS_MAX} words and signs");
            return Err(refused(token.at..source.len(), message));
        }
        // The engine passes over what it cannot read behind a text.
        if let Some((message, help)) = unreadable(&token) {
            return Err(TemplateError {
                range: token.range(),
                message,
                help: Some(help.to_owned()),
            });
        }
        if token.opens() {
            depth += 1;
        } else if token.closes() {
            depth = depth.saturating_sub(1);
        }
        elses += usize::from(token.is_word("else"));
        let is_chained = token.is("-") || token.is_word("not");
        chain = if is_chained { chain + 1 } else { 0 };
        if depth > DEPTH_MAX || chain > CHAIN_MAX || elses > CHAIN_MAX {
            let message = "the expression is nested too deeply".to_owned();
            return Err(refused(token.range(), message));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

fn unreadable(token: &Token<'_>) -> Option<(String, &'static str)> {
    const SIGNS: &str = "+-*/%.,:~|=><()[]{}";
    match token.kind {
        Kind::Text if text_end(token.text).is_none() => Some((
            "the text is not closed".to_owned(),
            "end it with the quote that it begins with",
        )),
        // The signs of two characters are all signs; of these, only those of one may be none.
        Kind::Sign if token.text.chars().count() == 1 && !SIGNS.contains(token.text) => {
            let message = format!("`{}` cannot stand here", shown(token.text));
            let help = match token.text {
                "&" => "write `and`",
                "!" => "write `not`",
                "?" => "write `a if b else c`",
                typeset if typeset.contains(TYPESET) => {
                    "texts stand in straight quotes, `\"` or `'`"
                }
                _ => SIGN_HELP,
            };
            Some((message, help))
        }
        _ => None,
    }
}

/// Quotes as word processors set them.
const TYPESET: [char; 9] = ['“', '”', '„', '‟', '‘', '’', '‚', '«', '»'];

const SIGN_HELP: &str = "put a name that is not of ASCII letters, digits and `_` in brackets and \
                         quotes, as in `row[\"Größe\"]`";

fn next(source: &str, from: usize) -> Option<Token<'_>> {
    let rest = &source[from..];
    let skipped = rest.find(|c: char| !c.is_ascii_whitespace())?;
    let (at, rest) = (from + skipped, &rest[skipped..]);
    let first = rest.chars().next()?;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let run = |text: &str| text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (kind, length) = if first.is_ascii_digit() {
        (Kind::Number, number_length(&source[..at], rest))
    } else if is_word(first) {
        (Kind::Word, run(rest))
    } else if matches!(first, '"' | '\'') {
        (Kind::Text, text_end(rest).unwrap_or(rest.len()))
    } else if ["//", "**", "==", "!=", ">=", "<="]
        .iter()
        .any(|sign| rest.starts_with(sign))
    {
        (Kind::Sign, 2)
    } else {
        (Kind::Sign, first.len_utf8())
    };
    let text = &rest[..length];
    Some(Token { kind, text, at })
}

/// The length of a number as the engine reads one: `1if x` is a number and a word.
fn number_length(before: &str, rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let prefix = bytes.get(..2).map(<[u8]>::to_ascii_lowercase);
    if let Some(b"0b" | b"0o" | b"0x") = prefix.as_deref() {
        let is_hexadecimal = bytes[1].eq_ignore_ascii_case(&b'x');
        let is_digit =
            |b: &u8| b.is_ascii_digit() || *b == b'_' || is_hexadecimal && b.is_ascii_hexdigit();
        return 2 + bytes[2..].iter().take_while(|b| is_digit(b)).count();
    }
    let is_word = |b: &u8| b.is_ascii_alphabetic() || *b == b'_';
    // Behind a dot it is the number of an item.
    let (mut may_have_dot, mut may_have_exponent) = (!before.ends_with('.'), true);
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let after = |distance: usize| bytes.get(at + distance);
        match byte {
            b'0'..=b'9' | b'_' => {}
            b'.' if may_have_dot && may_have_exponent => {
                let is_exponent = matches!(after(1), Some(b'e' | b'E'))
                    && matches!(after(2), Some(b'+' | b'-' | b'0'..=b'9'));
                if !is_exponent && after(1).is_some_and(is_word) {
                    break;
                }
                may_have_dot = false;
            }
            b'e' | b'E' if may_have_exponent => {
                may_have_exponent = false;
                at += usize::from(matches!(after(1), Some(b'+' | b'-')));
            }
            _ => break,
        }
        at += 1;
    }
    at
}

/// The length of a quoted text with its quotes; none where it does not end.
fn text_end(rest: &str) -> Option<usize> {
    let quote = rest.chars().next()?;
    let mut is_escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == quote {
            return Some(at + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        let tokens = tokens(source).expect("short enough");
        tokens.into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn an_expression_is_read_as_the_engine_reads_it() {
        assert_eq!(
            texts(r#"row["a \" b"]|x .y1>=1.5//2 is not z"#),
            [
                "row",
                "[",
                r#""a \" b""#,
                "]",
                "|",
                "x",
                ".",
                "y1",
                ">=",
                "1.5",
                "//",
                "2",
                "is",
                "not",
                "z"
            ]
        );
        let numbers = "a.1.5 1if 0xffor 1e5and 1.5.x 1.e2 1_0 2.b";
        assert_eq!(
            texts(numbers),
            [
                "a", ".", "1", ".", "5", "1", "if", "0xff", "or", "1e5", "and", "1.5", ".", "x",
                "1.e2", "1_0", "2", ".", "b"
            ]
        );
    }

    #[test]
    fn an_expression_ends_outside_quotes_and_braces() {
        for (text, end) in [
            ("a }} b", Some(2)),
            ("'}}' }}", Some(5)),
            (r#""\"}}" }}"#, Some(7)),
            ("{'a': {'b': 1}}[x] }}", Some(19)),
            ("{'a': 1}}}", Some(8)),
            ("a }", None),
        ] {
            assert_eq!(expression_end(text, 0), end, "{text}");
        }
    }
    #[test]
    fn what_the_engine_would_pass_over_is_refused() {
        for (source, place) in [
            ("'a'é", "é"),
            ("'a' 'b", "'b"),
            ("'a' 'b\\'", "'b\\'"),
            ("'a' \"", "\""),
            ("'a' ; x", ";"),
            ("'a' \u{a0}", "\u{a0}"),
            ("'a' $x", "$"),
        ] {
            let error = tokens(source).expect_err(source);
            assert_eq!(&source[error.range], place, "{source}");
        }
        assert!(tokens("'it\\'s' + \"é\" \n\t").is_ok());
    }
}
