//! Rows of cells with delimiters between them.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::{Read, Seek};
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::model::{Fields, HumanBytes, closest, count, shown_bounded};

use super::cells::{Cell, Lexer, Trouble};
use super::join::Joiner;
use super::lines::{End, Lines, Raw};
use super::{COLUMNS_MAX, Format, Spec};

/// Most columns that a help line lists.
const LISTED_MAX: usize = 8;

/// Reads the header and every row.
pub(super) fn read<R: Read + Seek>(
    lines: &mut Lines<'_, R>,
    joiner: &mut Joiner<'_>,
) -> Result<(), End> {
    let mut lexer = Lexer::new(delimiter(joiner.spec));
    if !lexer.row(lines)? {
        let key = shown_bounded(joiner.spec.key);
        let raw = Raw {
            line: 1,
            ..lines.raw()
        };
        joiner.error(|| {
            Diagnostic::error("the table is empty", raw.place(0..0)).help(format!(
                "its first row must name the columns, `{key}` among them"
            ))
        });
        return Ok(());
    }
    let raw = lines.raw();
    let Some(text) = joiner.readable(raw) else {
        return Ok(());
    };
    let Some((names, key_at)) = header(joiner, raw, text, &lexer) else {
        return Ok(());
    };
    while lexer.row(lines)? {
        joiner.count()?;
        let raw = lines.raw();
        let Some(text) = joiner.readable(raw) else {
            continue;
        };
        let cells = &lexer.cells;
        if let Some(trouble) = lexer.trouble {
            troubled(joiner, raw, cells, trouble);
            // Where the next row begins is not known.
            if matches!(trouble, Trouble::TooLong(_)) {
                break;
            }
            continue;
        }
        let Some(key) = cells.get(key_at).filter(|_| cells.len() == names.len()) else {
            uneven(joiner, raw, &lexer, names.len());
            continue;
        };
        joiner.take(raw, &key.value(text), key.span.clone(), || {
            let values: Vec<Cow<'_, str>> = cells.iter().map(|cell| cell.value(text)).collect();
            Fields::new(names.clone(), values.iter().map(|value| Some(&**value)))
        });
    }
    joiner.show_firsts(lines, |lines| {
        lexer.row(lines).ok().filter(|more| *more)?;
        let text = std::str::from_utf8(&lines.text).ok()?;
        let cell = lexer.cells.get(key_at)?;
        Some((cell.value(text).into_owned(), cell.span.clone()))
    });
    Ok(())
}

fn delimiter(spec: &Spec<'_>) -> u8 {
    spec.delimiter.unwrap_or(match spec.format {
        Format::Tsv => b'\t',
        _ => b',',
    })
}

/// A delimiter as a reader would call it.
fn called(delimiter: u8) -> String {
    match delimiter {
        b'\t' => "tab".to_owned(),
        _ => format!("`{}`", char::from(delimiter)),
    }
}

/// Checks the first row: the columns, and which of them is the key's. None where no row can be
/// understood without a better one.
fn header(
    joiner: &mut Joiner<'_>,
    raw: Raw<'_>,
    text: &str,
    lexer: &Lexer,
) -> Option<(Arc<[Arc<str>]>, usize)> {
    let cells = &lexer.cells;
    if let Some(trouble) = lexer.trouble {
        troubled(joiner, raw, cells, trouble);
        return None;
    }
    if let Some(surplus) = cells.get(COLUMNS_MAX) {
        joiner.error(|| {
            let most = count(COLUMNS_MAX, "column");
            let message = format!("the table has more than {most}");
            Diagnostic::error(message, raw.place(surplus.span.clone()))
                .label("the first one too many")
        });
        return None;
    }
    let names: Vec<Arc<str>> = cells.iter().map(|cell| cell.value(text).into()).collect();
    joiner.joined.columns.clone_from(&names);
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (at, (name, cell)) in names.iter().zip(cells).enumerate() {
        let place = || raw.place(cell.span.clone());
        if name.is_empty() {
            joiner.error(|| {
                Diagnostic::error(format!("column {} has no name", at + 1), place())
                    .label("a name is missing here")
                    .help("name it, or take the column out of every row")
            });
        } else if let Some(before) = first.get(&**name) {
            joiner.error(|| {
                let name = shown_bounded(name);
                let other = raw.place(cells[*before].span.clone());
                let (before, this) = (before + 1, at + 1);
                let message = format!("columns {before} and {this} have one name, `{name}`");
                Diagnostic::error(message, place())
                    .label("again here")
                    .other(other, "first here")
                    .help("rename one of them")
            });
        } else {
            first.insert(name, at);
        }
    }
    let key_at = first.get(joiner.spec.key).copied();
    if key_at.is_none() {
        no_key_column(joiner, raw, cells, &names);
    }
    Some((names.into(), key_at?))
}

fn no_key_column(joiner: &mut Joiner<'_>, raw: Raw<'_>, cells: &[Cell], names: &[Arc<str>]) {
    let spec = *joiner.spec;
    let (near, help) = column_help(spec.key, names);
    let other = match names {
        [sep, ..] if sep.starts_with("sep=") => {
            Some("only Excel reads a line `sep=`: take it out, and say `delimiter:`".to_owned())
        }
        [only] => other_delimiter(only, delimiter(&spec)),
        _ => None,
    };
    let whole = 0..cells.last().map_or(0, |cell| cell.span.end);
    let near = near.and_then(|near| cells.get(near));
    let span = near.map_or(whole, |cell| cell.span.clone());
    joiner.error(|| {
        let key = shown_bounded(spec.key);
        let message = format!("the table has no column `{key}`");
        Diagnostic::error(message, raw.place(span)).help(other.unwrap_or(help))
    });
}

/// Which column was probably meant by a name that none has, and what to say.
pub(super) fn column_help(key: &str, names: &[Arc<str>]) -> (Option<usize>, String) {
    let of = |is: &dyn Fn(&str) -> bool| names.iter().position(|name| is(name));
    if let Some(same) = of(&|name| name.trim() == key.trim()) {
        let (name, key) = (shown_bounded(&names[same]), shown_bounded(key));
        let help = format!("the column is `{name}`, the key `{key}`: they differ by white space");
        return (Some(same), help);
    }
    let lower = key.to_lowercase();
    let near = of(&|name| name.to_lowercase() == lower).or_else(|| {
        let near = closest(key, names.iter().map(|name| &**name))?;
        of(&|name| name == near)
    });
    if let Some(near) = near {
        let help = format!("did you mean `{}`?", shown_bounded(&names[near]));
        return (Some(near), help);
    }
    let listed = names.iter().take(LISTED_MAX);
    let mut listed: Vec<String> = listed.map(|n| format!("`{}`", shown_bounded(n))).collect();
    if names.len() > LISTED_MAX {
        listed.push(count(names.len() - LISTED_MAX, "more column"));
    }
    let help = match listed.split_last() {
        None => "it has no columns".to_owned(),
        Some((one, [])) => format!("its only column is {one}"),
        Some((last, others)) => format!("its columns are {} and {last}", others.join(", ")),
    };
    (None, help)
}

/// What to do where a header's only name looks like several with another delimiter between.
fn other_delimiter(name: &str, delimiter: u8) -> Option<String> {
    let (_, other) = [b',', b';', b'\t', b'|']
        .into_iter()
        .filter(|other| *other != delimiter)
        .map(|other| (name.bytes().filter(|byte| *byte == other).count(), other))
        .filter(|(found, _)| *found > 0)
        .max_by_key(|(found, _)| *found)?;
    Some(match other {
        b'\t' => "its cells seem to be separated by tabs: say `delimiter: \"\\t\"`, or let its \
                  name end in .tsv"
            .to_owned(),
        _ => format!(
            "its cells seem to be separated by {}: say `delimiter: \"{}\"`",
            called(other),
            char::from(other)
        ),
    })
}

/// Reports a row whose quotes or line ends are wrong.
fn troubled(joiner: &mut Joiner<'_>, raw: Raw<'_>, cells: &[Cell], trouble: Trouble) {
    const DOUBLE: &str = "a quote that belongs to a cell is doubled, as in \"5\"\" pipe\"";
    let most = HumanBytes(joiner.limits.row_bytes);
    let at = |at: usize| raw.place(at..at + 1);
    joiner.error(|| match trouble {
        Trouble::Unclosed(open) => Diagnostic::error("a quote is not closed", at(open))
            .label("the rest of the table is in this cell")
            .help(format!("write another `\"` where the cell ends; {DOUBLE}")),
        Trouble::TooLong(open) => {
            Diagnostic::error(format!("a row is larger than {most}"), at(open))
                .label("because of the quotes that begin here")
                .help(format!("is the quote that ends them missing? {DOUBLE}"))
        }
        Trouble::AfterQuotes(open, after) => {
            let end = cells.iter().map(|cell| cell.span.end);
            let end = end.into_iter().find(|end| *end > after);
            let place = raw.place(after..end.unwrap_or(after + 1));
            let opening = at(open);
            let is_far = opening.line != place.line;
            let error = Diagnostic::error("a cell goes on after its closing quote", place)
                .label("outside of the quotes")
                .help(DOUBLE);
            if is_far {
                return error
                    .other(opening, "the quotes begin here")
                    .help(format!("is a quote missing where the cell ends? {DOUBLE}"));
            }
            error
        }
        Trouble::CarriageReturn(after) => {
            Diagnostic::error("a carriage return ends no line", at(after))
                .label("no line feed follows")
                .help("end lines with LF or CRLF; a cell with a carriage return in it needs quotes")
        }
        Trouble::Zero(zero) => Diagnostic::error("a zero byte is in this row", at(zero))
            .help("no text has one; is the file whole, and a table?"),
    });
}

/// Reports a row that has more or fewer cells than the header.
fn uneven(joiner: &mut Joiner<'_>, raw: Raw<'_>, lexer: &Lexer, columns: usize) {
    let cells = &lexer.cells;
    joiner.error(|| {
        let end = cells.last().map_or(0, |cell| cell.span.end);
        let between = called(lexer.delimiter);
        let is_long = |cell: &&Cell| raw.text[cell.span.clone()].contains(&b'\n');
        let (span, label, help) = if let Some(long) = cells.iter().find(is_long) {
            let lines = raw.text[long.span.clone()].split(|byte| *byte == b'\n');
            (
                long.span.clone(),
                format!("this cell goes on for {}", count(lines.count(), "line")),
                "is a quote missing where it ends, or one too many where it begins?".to_owned(),
            )
        } else if let Some(surplus) = cells.get(columns) {
            let is_late = |cell: &Cell| {
                let written = &raw.text[cell.span.clone()];
                written.starts_with(b" ") && written.trim_ascii_start().starts_with(b"\"")
            };
            (
                surplus.span.start..end,
                format!("{} too many", count(cells.len() - columns, "cell")),
                if cells.iter().any(is_late) {
                    "quotes count only at the beginning of a cell: take the space before them out"
                        .to_owned()
                } else {
                    format!("a cell with a {between} in it needs quotes around it")
                },
            )
        } else {
            (
                end..end,
                format!("{} too few", count(columns - cells.len(), "cell")),
                format!("an empty cell needs its {between} too"),
            )
        };
        let this = count(cells.len(), "cell");
        let message = format!("this row has {this}, the header {columns}");
        Diagnostic::error(message, raw.place(span))
            .label(label)
            .help(help)
    });
}
