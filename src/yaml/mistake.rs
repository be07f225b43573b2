//! What a text that is no YAML was most likely meant to be. The parser says where it gave up; who
//! wrote the text wants to know what to mend, and where.

use super::line::{Line, PIECE_MAX, example, open_brackets, piece, quoted};
use super::{DEPTH_MAX, Document, Span};
use crate::diagnostic::Diagnostic;

/// Lines that are looked at for what the parser took for something else.
const LINES_MAX: usize = 1000;

/// What the parser says, and where.
struct Failure<'t> {
    message: &'t str,
    at: usize,
    text: &'t str,
    document: &'t Document,
}

/// The one thing to mend: the first of these that the text shows.
pub(super) fn explain(message: &str, span: Span, text: &str, document: &Document) -> Diagnostic {
    let failure = Failure {
        message,
        at: span.start,
        text,
        document,
    };
    let known: [fn(&Failure<'_>) -> Option<Diagnostic>; 12] = [
        limits,
        merge_conflict,
        tab,
        missing_space,
        alias,
        braces,
        quote,
        bracket,
        missing_colon,
        second_colon,
        indentation,
        first_character,
    ];
    let mut known = known.into_iter();
    known
        .find_map(|explain| explain(&failure))
        .unwrap_or_else(|| other(&failure, span))
}

/// What has no story of its own.
fn other(failure: &Failure<'_>, span: Span) -> Diagnostic {
    for (theirs, ours, help) in [
        (
            "expected string scalar",
            "a key must be a plain text",
            "write it on one line, without brackets and braces",
        ),
        (
            "null into string",
            "a key must be a plain text",
            "write the name before the `:`",
        ),
        (
            "recursive references",
            "this alias stands in what it stands for",
            "write out what is meant",
        ),
        (
            "merge value",
            "`<<` takes in mappings, and this is none",
            "name a mapping, or a list of mappings",
        ),
        (
            "implicit flow mapping",
            "between these commas there is nothing",
            "take one of them out",
        ),
        (
            "expected ',' or",
            "here a comma is missing, or the closing bracket",
            "inside of brackets texts with `:`, `,`, brackets or braces need quotes",
        ),
        (
            "expected key",
            "this follows a value that is complete",
            "a text with brackets, braces or quotes in it needs quotes around all of it",
        ),
        (
            "scanning a block scalar",
            "after `|` or `>` a text begins on the next line",
            "put it in quotes if it is one line",
        ),
        (
            "sequence entries are not allowed",
            "a list begins on a line of its own",
            "put this `-` and what follows below, indented by two spaces",
        ),
        (
            "may not precede any of",
            "there is no space after this colon",
            "put one there",
        ),
        (
            "separated from other tokens",
            "there is no space before this comment",
            "put one before the `#`; a text with `#` needs quotes",
        ),
    ] {
        if failure.message.contains(theirs) {
            return Diagnostic::error(ours, span).help(help);
        }
    }
    let why = failure.message.rsplit_once(", ");
    let why = why.map_or(failure.message, |(_, why)| why);
    Diagnostic::error(format!("this is no YAML: {why}"), span)
        .label("YAML cannot be read here")
        .help("texts with special characters need quotes; `key: value` pairs share a column")
}

fn limits(failure: &Failure<'_>) -> Option<Diagnostic> {
    let is = |words: &[&str]| words.iter().any(|word| failure.message.contains(word));
    let name = failure.document.name;
    let (message, help) = if is(&["multiple YAML documents"]) {
        let lines = Line::of(failure.text, failure.at).and_above(failure.text);
        let mut marks = lines.filter(|line| line.text.starts_with("---"));
        let at = marks.next().map_or(failure.at, |line| line.start);
        let help = format!("a {name} is one document: take the `---` out, or what follows it");
        return Some(Diagnostic::error("a second document begins here", at..at + 3).help(help));
    } else if is(&["recursion limit", "Depth"]) {
        (
            format!("this is nested more than {DEPTH_MAX} levels deep"),
            format!("no {name} needs that"),
        )
    } else if is(&["alias replay", "Alias", "Anchors", "MergeKeys", "Recorded"]) {
        (
            "aliases repeat too much of this document".to_owned(),
            "an alias that stands for other aliases multiplies: write out what is meant".to_owned(),
        )
    } else if is(&["budget breached", "exceeds the configured limit"]) {
        (
            format!("this {name} holds too much"),
            "aliases count as often as they are used".to_owned(),
        )
    } else {
        return None;
    };
    Some(Diagnostic::error(message, failure.at..failure.at).help(help))
}

fn merge_conflict(failure: &Failure<'_>) -> Option<Diagnostic> {
    let line = Line::of(failure.text, failure.at);
    let mut near = line.and_above(failure.text).take(LINES_MAX);
    let mark = near.find(|line| {
        ["<<<<<<< ", ">>>>>>> "]
            .iter()
            .any(|m| line.text.starts_with(m))
    })?;
    Some(
        Diagnostic::error("a merge conflict was left here", mark.all())
            .help("keep one of the two sides, and take the marks out"),
    )
}

fn tab(failure: &Failure<'_>) -> Option<Diagnostic> {
    if !failure.message.contains("tab") {
        return None;
    }
    let line = Line::of(failure.text, failure.at);
    let mut below = line.and_below(failure.text).take(LINES_MAX);
    let tabbed = below.find_map(|line| {
        let indentation = &line.text[..line.indentation()];
        Some(line.start + indentation.find('\t')?)
    });
    let diagnostic = match tabbed {
        Some(at) => Diagnostic::error("a tab indents this line", at..at + 1),
        None => Diagnostic::error("a tab stands here", failure.at..failure.at),
    };
    Some(diagnostic.help("YAML is indented by spaces alone: put two for each level"))
}

/// `key:value`, here or where the value of the line above goes on.
fn missing_space(failure: &Failure<'_>) -> Option<Diagnostic> {
    let line = Line::of(failure.text, failure.at);
    let is_key = failure.message.contains("simple key expected");
    let goes_on = failure.message.contains("mapping values are not allowed");
    let mut above = line.above(failure.text);
    let line = match (is_key, goes_on) {
        (true, _) => line,
        (_, true) => above.next()?,
        _ => return None,
    };
    let colon = line.glued_colon()?;
    let at = line.start + colon;
    let (key, value) = (&line.text[line.key()..colon], &line.text[colon + 1..]);
    Some(
        Diagnostic::error("there is no space after this colon", at..at + 1)
            .label("YAML takes all of this for one text")
            .help(example(&[key, ": ", value]).unwrap_or_else(|| "put one there".to_owned())),
    )
}

fn alias(failure: &Failure<'_>) -> Option<Diagnostic> {
    let is_alias = failure.message.contains("unknown anchor")
        || failure.message.contains("scanning an anchor or alias");
    if !is_alias {
        return None;
    }
    let line = Line::of(failure.text, failure.at);
    let value = line.value(failure.at)?;
    let span = failure.at..failure.at + value.len();
    let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let name = value.get(1..).unwrap_or_default();
    if !name.is_empty() && name.chars().all(is_word) && value.chars().count() <= PIECE_MAX {
        return Some(
            Diagnostic::error(format!("there is no `&{name}` above"), span)
                .label("an alias: it stands for what has that mark")
                .help(format!(
                    "put `&{name}` before the value that is meant, or this in quotes if it is a text"
                )),
        );
    }
    let mark = value.chars().next()?;
    Some(
        Diagnostic::error(
            format!("a text that begins with `{mark}` needs quotes"),
            span,
        )
        .help(quoted(value)),
    )
}

/// Texts with braces, which YAML takes for mappings.
fn braces(failure: &Failure<'_>) -> Option<Diagnostic> {
    let line = Line::of(failure.text, failure.at);
    let (before, after) = line.split(failure.at);
    let here = before.len();
    if let Some(start) = line.text.find("${{")
        && start <= here
        && failure.message.contains("expected ',' or")
    {
        let rest = &line.text[start..];
        let end = rest.find("}}").map_or(rest.len(), |end| end + 2);
        let start = line.start + start;
        return Some(
            Diagnostic::error(
                "an expression inside of `{…}` or `[…]` needs quotes",
                start..start + end,
            )
            .help(quoted(&rest[..end])),
        );
    }
    if before.ends_with('{') && failure.message.contains("string scalar") {
        let end = after.find("}}").map_or(after.len(), |end| end + 2);
        let inner = after[..end].trim_matches(['{', '}', ' ']);
        return Some(
            Diagnostic::error(
                "`{{` begins a mapping in YAML, and no expression",
                failure.at - 1..failure.at + end,
            )
            .help(example(&["${{ ", inner, " }}"]).unwrap_or_else(|| "write `${{`".to_owned())),
        );
    }
    let follows = failure.message.contains("did not find expected key");
    let (colon, value) = line.first_value()?;
    if follows && value.starts_with('{') && before.ends_with('}') {
        let start = line.start + colon;
        return Some(
            Diagnostic::error(
                "a text that begins with `{` needs quotes",
                start..start + value.len(),
            )
            .help(if value.contains("{{") {
                quoted(value)
            } else {
                let how = quoted(value);
                format!("{how}; what is to be filled in is `${{{{ … }}}}`")
            }),
        );
    }
    None
}

fn quote(failure: &Failure<'_>) -> Option<Diagnostic> {
    if failure.message.contains("unclosed quote") {
        return Some(unclosed_quote(failure.at..failure.at + 1));
    }
    if failure.message.contains("parsing a quoted scalar") {
        return Some(escape(failure));
    }
    let mark = match failure.message {
        m if m.contains("after double-quoted") => '"',
        m if m.contains("after single-quoted") => '\'',
        _ => return None,
    };
    let line = Line::of(failure.text, failure.at);
    let (before, rest) = line.split(failure.at);
    let here = before.len();
    let close = before.rfind(mark)?;
    let is_odd = |text: &str| text.matches(mark).count() % 2 == 1;
    if is_odd(before) {
        let mut above = line.above(failure.text).take(LINES_MAX);
        let opened = above.find(|line| is_odd(line.text))?;
        let open = opened.start + opened.text.rfind(mark)?;
        let close = line.start + close;
        return Some(
            unclosed_quote(open..open + 1)
                .other(close..close + 1, "so that the text goes on up to here"),
        );
    }
    let diagnostic = if rest.starts_with(['"', '\'']) {
        let flow = open_brackets(&failure.text[..failure.at]).is_some();
        let diagnostic = Diagnostic::error("a second text follows", failure.at..failure.at + 1);
        diagnostic.help(if flow {
            "put a comma between the two"
        } else {
            "write a list: `[\"one\", \"two\"]`"
        })
    } else if mark == '\'' && close + 1 == here && rest.starts_with(char::is_alphanumeric) {
        let close = line.start + close;
        Diagnostic::error("the text ends at this apostrophe", close..close + 1)
            .help("in single quotes write it twice, as in 'Anna''s'; or use double quotes")
    } else {
        let end = rest.find([',', ']', '}']).unwrap_or(rest.len());
        let end = rest[..end].trim_end().len();
        Diagnostic::error(
            "this follows a text that ended",
            failure.at..failure.at + end,
        )
        .help("put all of the text in one pair of quotes")
    };
    Some(diagnostic)
}

fn unclosed_quote(span: Span) -> Diagnostic {
    Diagnostic::error("this quote is not closed", span)
        .help("end the text with the same quote, in the same line")
}

/// A backslash in double quotes, with what is no escape after it.
fn escape(failure: &Failure<'_>) -> Diagnostic {
    let line = Line::of(failure.text, failure.at);
    let (before, quoted) = line.split(failure.at);
    let from = before.len();
    let inner = quoted.get(1..).unwrap_or_default();
    let mut bad = from;
    let mut chars = inner.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == '"' {
            break;
        }
        if c != '\\' {
            continue;
        }
        let next = chars.next().map_or(' ', |(_, next)| next);
        if !"0abt\tnvfre \"/\\N_LP".contains(next) {
            bad = from + 1 + at;
            break;
        }
    }
    let written = line.text.get(bad..).unwrap_or_default();
    let escape: String = written.chars().take(2).collect();
    let start = line.start + bad;
    let whole = inner.split('"').next().unwrap_or_default();
    let help = "in single quotes a backslash is a backslash";
    Diagnostic::error(
        format!(
            "`{}` means nothing in double quotes",
            piece(&escape).unwrap_or("\\")
        ),
        start..start + escape.len(),
    )
    .help(match piece(whole).filter(|whole| !whole.contains('\'')) {
        Some(whole) => format!("{help}: write '{whole}'"),
        None => help.to_owned(),
    })
}

fn bracket(failure: &Failure<'_>) -> Option<Diagnostic> {
    let is = |words: &str| failure.message.contains(words);
    let close = |open| if open == '[' { ']' } else { '}' };
    if is("mismatched bracket") {
        let open = failure.text[failure.at..].chars().next()?;
        let rest = &failure.text[failure.at + 1..];
        let wrong = failure.at + 1 + rest.find(if open == '[' { '}' } else { ']' })?;
        return Some(
            Diagnostic::error(
                format!("this is closed as if it were no `{open}`"),
                wrong..wrong + 1,
            )
            .other(failure.at..failure.at + 1, "opened here")
            .help(format!("close it with `{}`", close(open))),
        );
    }
    if is("misplaced bracket") {
        return Some(
            Diagnostic::error("this closes nothing", failure.at..failure.at + 1)
                .help("take it out, or put the text in quotes"),
        );
    }
    let is_unclosed = is("unclosed bracket")
        || is("illegal placement of ':'")
        || is("invalid indentation in flow")
        || is("unexpected EOF while parsing a flow")
        || is("expected ',' or");
    if !is_unclosed {
        return None;
    }
    let (at, open) = match failure.text.get(failure.at..)?.chars().next() {
        Some(open @ ('[' | '{')) if is("unclosed bracket") => (failure.at, open),
        _ => open_brackets(&failure.text[..failure.at])?,
    };
    let opened = Line::of(failure.text, at);
    if is("expected ',' or") && failure.at <= opened.end() {
        return None;
    }
    Some(
        Diagnostic::error("this bracket is not closed", at..at + 1)
            .help(format!("close it with `{}`", close(open))),
    )
}

fn missing_colon(failure: &Failure<'_>) -> Option<Diagnostic> {
    if !failure.message.contains("simple key expected") {
        return None;
    }
    let line = Line::of(failure.text, failure.at);
    let content = line.text[line.key()..].trim_end();
    let start = line.start + line.key();
    let (key, value) = content.split_once(' ').unwrap_or((content, ""));
    if content.contains(": ") {
        return Some(
            Diagnostic::error("this key is too long", start..start + content.len())
                .help("a key has up to 1,024 characters"),
        );
    }
    let form = "each line of a mapping is `key: value`".to_owned();
    Some(
        Diagnostic::error("this line has no colon", start..start + content.len())
            .help(example(&[key, ": ", value.trim_start()]).unwrap_or(form)),
    )
}

/// A `: ` in a line that has one already, or that goes on with the value of the line above.
fn second_colon(failure: &Failure<'_>) -> Option<Diagnostic> {
    if !failure.message.contains("mapping values are not allowed") {
        return None;
    }
    let line = Line::of(failure.text, failure.at);
    let here = line.split(failure.at).0.len();
    let (value_at, value) = line.first_value()?;
    if value_at <= here {
        let key = &line.text[line.key()..value_at]
            .trim_end()
            .trim_end_matches(':');
        let whole = example(&[key, ": \"", value, "\""]).filter(|_| !value.contains('"'));
        let span = failure.at..failure.at + 1;
        let diagnostic = Diagnostic::error("a second colon in one line", span);
        let diagnostic = match whole {
            Some(whole) => diagnostic.help(format!(
                "if it belongs to the text, {whole}; a second key needs a line of its own"
            )),
            None => {
                diagnostic.help("a text with `: ` needs quotes, a second key a line of its own")
            }
        };
        return Some(diagnostic);
    }
    let above = line.above(failure.text).next()?;
    let (at, value) = above.first_value()?;
    let at = above.start + at;
    let start = line.start + line.key();
    let column = above.key() + 1;
    Some(
        Diagnostic::error(
            "this is indented as if it belonged to the line above",
            start..failure.at,
        )
        .label(format!("in column {}", line.key() + 1))
        .other(at..at + value.len(), "which has its value already")
        .help(format!(
            "begin it in column {column}, or take the value above out"
        )),
    )
}

fn indentation(failure: &Failure<'_>) -> Option<Diagnostic> {
    let is_known = [
        "expected '-' indicator",
        "expected key",
        "invalid indentation",
    ];
    let is_known = is_known.iter().any(|words| failure.message.contains(words));
    let line = Line::of(failure.text, failure.at);
    if !is_known || failure.at - line.start > line.indentation() {
        return None;
    }
    let column = line.indentation() + 1;
    // A dash aligns with a dash, a key with a key.
    let is_item = line.is_item();
    let mut above = line.above(failure.text).take(LINES_MAX);
    let (number, what) = if is_item {
        let item = above.find(Line::is_item)?;
        (item.indentation() + 1, "dash")
    } else {
        (above.next()?.key() + 1, "key")
    };
    let content = line.text.trim();
    let end = content.find([':', ' ']).unwrap_or(content.len());
    let start = line.start + line.indentation();
    Some(
        Diagnostic::error(
            "this line's indentation fits no line above",
            start..start + end.max(1),
        )
        .label(format!("in column {column}"))
        .help(format!("the {what} above begins in column {number}")),
    )
}

fn first_character(failure: &Failure<'_>) -> Option<Diagnostic> {
    let is_known = [
        "unexpected character",
        "not find expected node content",
        "tag",
        "plain scalar",
    ];
    if !is_known.iter().any(|words| failure.message.contains(words)) {
        return None;
    }
    let line = Line::of(failure.text, failure.at);
    let first = failure.text[failure.at..].chars().next()?;
    let span = failure.at..failure.at + first.len_utf8();
    if first.is_control() {
        return Some(
            Diagnostic::error(
                format!(
                    "a control character (U+{:04X}) stands here",
                    u32::from(first)
                ),
                span,
            )
            .help("take it out; where it is meant, write it as an escape in double quotes"),
        );
    }
    let value = line.value(failure.at)?;
    let message = format!("a text that begins with `{first}` needs quotes");
    Some(Diagnostic::error(message, failure.at..failure.at + value.len()).help(quoted(value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::yaml::{MANIFEST as DOCUMENT, parse};

    const MANIFEST: &str = "version: 1\nuploads:\n  - name: invoices\r\n    root: 'in'\n    \
                            include: [\"*.pdf\", é]\n    metadata: {a: \"b\\n\", c: ${{ d }}}\n";

    proptest! {
        /// Whatever is wrong and wherever: the place is one of the text.
        #[test]
        fn any_slip_of_the_pen_is_told_at_a_place_of_the_text(
            at in 0..MANIFEST.len(),
            cut in 0..4_usize,
            put in r"([\[\]{}'\x22:,*&!%@#|>\t\r\n \\aé-]|---|\.\.\.|<<|\$\{\{){0,3}",
        ) {
            let start = MANIFEST.floor_char_boundary(at);
            let end = MANIFEST.ceil_char_boundary(at + cut);
            let text = [&MANIFEST[..start], &put, &MANIFEST[end..]].concat();
            if let Err(wrong) = parse(&text, &DOCUMENT) {
                let span = wrong.span().expect("a place").clone();
                prop_assert!(span.start <= text.len(), "{text:?}: {wrong:?}");
                prop_assert!(wrong.help.is_some(), "{text:?}: {wrong:?}");
            }
        }
    }
}
