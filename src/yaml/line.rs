//! Lines of a text and pieces of them, to say what was meant.

use super::Span;

/// Longest piece of a text that is repeated as an example, in characters.
pub(super) const PIECE_MAX: usize = 60;

/// A line, without its end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'t> {
    pub(super) start: usize,
    pub(super) text: &'t str,
}

impl<'t> Line<'t> {
    pub(super) fn of(text: &'t str, byte: usize) -> Self {
        let start = text[..byte].rfind('\n').map_or(0, |at| at + 1);
        let end = text[byte..].find('\n').map_or(text.len(), |at| byte + at);
        let text = text[start..end].trim_end_matches('\r');
        Self { start, text }
    }

    /// What stands before a byte of the whole text, and what from there on.
    pub(super) fn split(&self, at: usize) -> (&'t str, &'t str) {
        self.text.split_at((at - self.start).min(self.text.len()))
    }

    pub(super) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub(super) fn all(&self) -> Span {
        self.start..self.end()
    }

    /// The lines above that say something, the nearest first.
    pub(super) fn above(self, text: &'t str) -> impl Iterator<Item = Self> {
        let mut start = self.start;
        let lines = std::iter::from_fn(move || {
            let line = Self::of(text, start.checked_sub(1)?);
            start = line.start;
            Some(line)
        });
        lines.filter(|line| !matches!(line.text.trim_start().chars().next(), None | Some('#')))
    }

    pub(super) fn and_above(self, text: &'t str) -> impl Iterator<Item = Self> {
        std::iter::once(self).chain(self.above(text))
    }

    pub(super) fn and_below(self, text: &'t str) -> impl Iterator<Item = Self> {
        let lines = text[self.start..].split_inclusive('\n');
        lines.scan(self.start, |start, line| {
            let this = Self {
                start: *start,
                text: line.trim_end_matches(['\n', '\r']),
            };
            *start += line.len();
            Some(this)
        })
    }

    pub(super) fn indentation(&self) -> usize {
        self.text.len() - self.text.trim_start_matches([' ', '\t']).len()
    }

    pub(super) fn is_item(&self) -> bool {
        self.text[self.indentation()..].starts_with("- ")
    }

    /// Where its key begins: after its indentation and the dashes of items.
    pub(super) fn key(&self) -> usize {
        let mut at = self.indentation();
        while let Some(rest) = self.text[at..].strip_prefix("- ") {
            at = self.text.len() - rest.trim_start_matches(' ').len();
        }
        at
    }

    /// The colon of a `key:value`.
    pub(super) fn glued_colon(&self) -> Option<usize> {
        let key = self.key();
        let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let length = self.text[key..].find(|c| !is_word(c))?;
        let rest = self.text[key + length..].strip_prefix(':')?;
        let is_glued = length > 0 && rest.starts_with(|c: char| c != ' ' && c != '\t' && c != '/');
        is_glued.then_some(key + length)
    }

    /// The value of its first key, and where that begins.
    pub(super) fn first_value(&self) -> Option<(usize, &'t str)> {
        let from = self.key();
        let colon = from + self.text[from..].find(": ")? + 1;
        let value = self.text[colon..].trim();
        let at = self.text.len() - self.text[colon..].trim_start().len();
        (!value.is_empty()).then_some((at, value))
    }

    /// The unquoted value that begins at a byte of the whole text: up to a comma or a bracket where
    /// the line has one open.
    pub(super) fn value(&self, at: usize) -> Option<&'t str> {
        let (before, rest) = self.split(at);
        let is_flow = open_brackets(before).is_some();
        let end = rest.find([',', ']', '}']).filter(|_| is_flow);
        let value = rest[..end.unwrap_or(rest.len())].trim_end();
        (!value.is_empty()).then_some(value)
    }
}

/// What a text is repeated by: nothing that is long, or that a screen would not show as it is.
pub(super) fn piece(text: &str) -> Option<&str> {
    let is_plain = |c: char| c.is_alphanumeric() || c.is_ascii_punctuation() || c == ' ';
    (text.chars().count() <= PIECE_MAX && text.chars().all(is_plain)).then_some(text)
}

pub(super) fn example(parts: &[&str]) -> Option<String> {
    let whole = parts.concat();
    Some(format!("write `{}`", piece(whole.trim_end())?))
}

pub(super) fn quoted(text: &str) -> String {
    match piece(text).filter(|text| !text.contains(['"', '\\'])) {
        Some(text) => format!("write \"{text}\""),
        None => "put it in single quotes, and write each `'` in it twice".to_owned(),
    }
}

/// The innermost bracket that is open at the end of a text.
pub(super) fn open_brackets(text: &str) -> Option<(usize, char)> {
    let mut open = Vec::new();
    let mut quote = None;
    let mut before = ' ';
    let mut in_comment = false;
    for (at, c) in text.char_indices() {
        if in_comment {
            in_comment = c != '\n';
        } else if quote.is_some() {
            if quote == Some(c) && before != '\\' {
                quote = None;
            }
        } else {
            match c {
                '"' | '\'' if !before.is_alphanumeric() => quote = Some(c),
                '#' if before.is_whitespace() => in_comment = true,
                '[' | '{' if !open.is_empty() || before.is_whitespace() => open.push((at, c)),
                ']' | '}' => {
                    open.pop();
                }
                _ => {}
            }
        }
        before = c;
    }
    open.pop()
}
