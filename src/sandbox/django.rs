//! What Django does to the text of a multipart part: header parameters, HTML entities, file names.
//!
//! A client can only predict the stored name when the server it rehearses against is as odd as the real one, so the
//! oddities are kept: they come from Python's `email.message`, `html.unescape` and Django's `MultiPartParser`.

use std::collections::{BTreeMap, HashMap};
use std::sync::OnceLock;

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// The longest name Django keeps, in characters.
const NAME_CHARS_MAX: usize = 255;

/// The longest run of characters that `html.unescape` takes for an entity name.
const ENTITY_CHARS_MAX: usize = 32;

/// One header line taken apart: its lower-cased text before the first `;`, and its parameters.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct HeaderLine {
    /// The header's name and value as far as the first `;`, lower-cased.
    pub(super) main: String,
    /// The parameters by lower-cased name; of two with the same name the later one.
    pub(super) params: BTreeMap<String, String>,
}

/// Takes a header line (or only its value) apart; `None` when Python raises `ValueError` and Django skips the line.
pub(super) fn header_parameters(line: &str) -> Option<HeaderLine> {
    if !line.contains(';') {
        return Some(HeaderLine {
            main: strip(line).to_lowercase(),
            params: BTreeMap::new(),
        });
    }
    let mut pieces = split_params(line).into_iter().map(|piece| {
        let (name, value) = piece.split_once('=').unwrap_or((&piece, ""));
        (strip(name).to_owned(), strip(value).to_owned())
    });
    let main = pieces.next().map(|(name, _)| name).unwrap_or_default();
    let mut line = HeaderLine {
        main: main.to_lowercase(),
        params: BTreeMap::new(),
    };
    let mut extended: BTreeMap<String, Vec<Segment>> = BTreeMap::new();
    for (name, value) in pieces {
        let text = unquote(&value);
        match rfc2231_name(&name) {
            Some((base, order)) => extended.entry(base.to_owned()).or_default().push(Segment {
                order,
                text,
                encoded: name.ends_with('*'),
            }),
            None if name.is_empty() => {}
            None => drop(line.params.insert(name, text)),
        }
    }
    // Python appends the RFC 2231 parameters after all others, so they win wherever they stood.
    for (name, segments) in extended {
        line.params.insert(name, join_segments(segments)?);
    }
    Some(line)
}

/// One piece of an RFC 2231 parameter, `name*`, `name*0` or `name*0*`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Segment {
    order: Option<u64>,
    text: String,
    encoded: bool,
}

/// Splits at every `;` that is not inside quotes, as Python counts them.
fn split_params(line: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut rest = line;
    loop {
        let mut end = rest.len();
        let mut quotes = 0_usize;
        let mut previous = ' ';
        for (at, letter) in rest.char_indices() {
            match letter {
                '"' if previous != '\\' => quotes += 1,
                ';' if quotes.is_multiple_of(2) => {
                    end = at;
                    break;
                }
                _ => {}
            }
            previous = letter;
        }
        let piece = &rest[..end];
        pieces.push(match piece.split_once('=') {
            Some((name, value)) => {
                format!("{}={}", strip(name).to_lowercase(), strip(value))
            }
            None => strip(piece).to_owned(),
        });
        match rest.get(end + 1..) {
            Some(next) => rest = next,
            None => return pieces,
        }
    }
}

/// Removes one pair of `"…"` (and its escapes) or `<…>`.
fn unquote(value: &str) -> String {
    let inner = |open, close| value.strip_prefix(open)?.strip_suffix(close);
    if let Some(text) = inner('"', '"') {
        // Two passes, as Python does: `\\"` becomes `"`, not `\"`.
        text.replace("\\\\", "\\").replace("\\\"", "\"")
    } else {
        inner('<', '>').unwrap_or(value).to_owned()
    }
}

/// `name*`, `name*N` and `name*N*`: the base name and N.
fn rfc2231_name(name: &str) -> Option<(&str, Option<u64>)> {
    let (base, rest) = name.split_once('*')?;
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if base.is_empty() || !base.bytes().all(word) {
        return None;
    }
    if rest.is_empty() {
        return Some((base, None));
    }
    let digits = rest.strip_suffix('*').unwrap_or(rest);
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    number.then(|| (base, Some(digits.parse().unwrap_or(u64::MAX))))
}

/// Puts the segments of one parameter together and decodes them; `None` for what Python refuses.
fn join_segments(mut segments: Vec<Segment>) -> Option<String> {
    let numbered = segments.iter().filter(|s| s.order.is_some()).count();
    if numbered != 0 && numbered != segments.len() {
        return None;
    }
    segments.sort();
    let extended = segments.iter().any(|segment| segment.encoded);
    let text: String = segments
        .iter()
        .map(|segment| {
            if segment.encoded {
                percent_as_latin1(&segment.text)
            } else {
                segment.text.clone()
            }
        })
        .collect();
    if !extended {
        return Some(text);
    }
    let mut ticks = text.splitn(3, '\'');
    match (ticks.next(), ticks.next(), ticks.next()) {
        (Some(""), Some(_), Some(value)) => Some(value.to_owned()),
        (Some(charset), Some(_), Some(value)) => decode(charset, &raw_bytes(value)),
        _ => decode("us-ascii", &raw_bytes(&text)),
    }
}

/// Decodes `%XX` to the character of that number.
fn percent_as_latin1(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        if let Some(byte) = rest.get(at + 1..at + 3).and_then(hex_byte) {
            out.push(char::from(byte));
            rest = &rest[at + 3..];
        } else {
            out.push('%');
            rest = &rest[at + 1..];
        }
    }
    out.push_str(rest);
    out
}

/// The number of two hexadecimal digits.
pub(super) fn hex_byte(digits: &str) -> Option<u8> {
    let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

/// Python's `raw-unicode-escape`: a byte for each character up to U+00FF, an escape for each beyond.
fn raw_bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for letter in text.chars() {
        match (u8::try_from(letter), u32::from(letter)) {
            (Ok(byte), _) => bytes.push(byte),
            (Err(_), code @ ..=0xFFFF) => bytes.extend(format!("\\u{code:04x}").bytes()),
            (Err(_), code) => bytes.extend(format!("\\U{code:08x}").bytes()),
        }
    }
    bytes
}

/// The three charsets that clients send; any other counts as unknown to Python, which makes Django skip the header.
fn decode(charset: &str, bytes: &[u8]) -> Option<String> {
    // Python looks a codec up by the ASCII letters and digits of its name, whatever stands between them.
    let mut key = String::with_capacity(charset.len());
    let mut gap = false;
    for letter in charset.chars() {
        if !letter.is_alphanumeric() && letter != '.' {
            gap = true;
            continue;
        }
        if std::mem::take(&mut gap) && !key.is_empty() {
            key.push('-');
        }
        if letter.is_ascii() {
            key.push(letter.to_ascii_lowercase());
        }
    }
    match key.as_str() {
        "utf-8" | "utf8" | "u8" | "utf" => Some(String::from_utf8_lossy(bytes).into_owned()),
        "iso-8859-1" | "iso8859-1" | "latin-1" | "latin1" | "l1" => {
            Some(bytes.iter().copied().map(char::from).collect())
        }
        "us-ascii" | "ascii" => Some(
            bytes
                .iter()
                .map(|byte| {
                    if byte.is_ascii() {
                        char::from(*byte)
                    } else {
                        char::REPLACEMENT_CHARACTER
                    }
                })
                .collect(),
        ),
        _ => None,
    }
}

/// Python's `str.strip()`: what Unicode calls white space, and the four separators U+001C to U+001F.
pub(super) fn strip(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c))
}

/// The name Django stores for a part's file name; `None` when it drops the file.
pub(super) fn stored_name(sent: &str) -> Option<String> {
    let unescaped = unescape(sent);
    let last = unescaped.rsplit('/').next().unwrap_or_default();
    let last = last.rsplit('\\').next().unwrap_or_default();
    let name: String = last.chars().filter(|c| is_printable(*c)).collect();
    match name.as_str() {
        "" | "." | ".." => None,
        _ => Some(shorten(name)),
    }
}

/// Cuts a name to what `UploadedFile` keeps: the extension survives, the stem pays.
fn shorten(name: String) -> String {
    if name.chars().count() <= NAME_CHARS_MAX {
        return name;
    }
    let (stem, extension) = split_extension(&name);
    let extension: Vec<char> = extension.chars().take(NAME_CHARS_MAX).collect();
    let room = NAME_CHARS_MAX - extension.len();
    stem.chars().take(room).chain(extension).collect()
}

/// Python's `os.path.splitext` for a name without a slash: leading dots belong to the stem.
fn split_extension(name: &str) -> (&str, &str) {
    match name.rfind('.') {
        Some(dot) if name[..dot].contains(|c| c != '.') => name.split_at(dot),
        _ => (name, ""),
    }
}

/// Python's `str.isprintable()` for one character.
fn is_printable(letter: char) -> bool {
    letter == ' '
        || !matches!(
            letter.general_category_group(),
            GeneralCategoryGroup::Other | GeneralCategoryGroup::Separator
        )
}

/// Python's `html.unescape`.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let used = match after.strip_prefix('#') {
            Some(number) => numeric(number, &mut out).map(|used| used + 1),
            None => named(after, &mut out),
        };
        if used.is_none() {
            out.push('&');
        }
        rest = &after[used.unwrap_or(0)..];
    }
    out.push_str(rest);
    out
}

/// Reads what follows `&#`, writes its character and says how many bytes it took.
fn numeric(text: &str, out: &mut String) -> Option<usize> {
    let (digits, radix, prefix) = match text.strip_prefix(['x', 'X']) {
        Some(hex) => (hex, 16, 1),
        None => (text, 10, 0),
    };
    let length = digits
        .find(|c: char| !c.is_digit(radix))
        .unwrap_or(digits.len());
    if length == 0 {
        return None;
    }
    // Whatever does not fit is beyond the last character anyway.
    let code = u32::from_str_radix(&digits[..length], radix).unwrap_or(u32::MAX);
    out.extend(character(code));
    let semicolon = usize::from(digits[length..].starts_with(';'));
    Some(prefix + length + semicolon)
}

/// The character of a numeric reference, by the HTML 5 rules as Python has them.
fn character(code: u32) -> Option<char> {
    const WINDOWS_1252: [char; 32] = [
        '\u{20ac}', '\u{81}', '\u{201a}', '\u{192}', '\u{201e}', '\u{2026}', '\u{2020}',
        '\u{2021}', '\u{2c6}', '\u{2030}', '\u{160}', '\u{2039}', '\u{152}', '\u{8d}', '\u{17d}',
        '\u{8f}', '\u{90}', '\u{2018}', '\u{2019}', '\u{201c}', '\u{201d}', '\u{2022}', '\u{2013}',
        '\u{2014}', '\u{2dc}', '\u{2122}', '\u{161}', '\u{203a}', '\u{153}', '\u{9d}', '\u{17e}',
        '\u{178}',
    ];
    match code {
        0 => Some(char::REPLACEMENT_CHARACTER),
        0x80..=0x9F => WINDOWS_1252.get(code as usize - 0x80).copied(),
        0x01..=0x08 | 0x0B | 0x0E..=0x1F | 0x7F | 0xFDD0..=0xFDEF => None,
        _ if code <= 0x10_FFFF && code & 0xFFFE == 0xFFFE => None,
        _ => Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
    }
}

/// Reads a named reference after `&`, writes what it stands for and says how many bytes it took.
fn named(text: &str, out: &mut String) -> Option<usize> {
    let ends = |c: char| matches!(c, '\t' | '\n' | '\u{c}' | ' ' | '<' | '&' | '#' | ';');
    let run: usize = text
        .chars()
        .take(ENTITY_CHARS_MAX)
        .take_while(|c| !ends(*c))
        .map(char::len_utf8)
        .sum();
    if run == 0 {
        return None;
    }
    let whole = run + usize::from(text[run..].starts_with(';'));
    let table = entity_table();
    if let Some(meaning) = table.get(&text[..whole]) {
        out.push_str(meaning);
        return Some(whole);
    }
    let (name, meaning) = (2..whole)
        .rev()
        .find_map(|end| table.get_key_value(text.get(..end)?))?;
    out.push_str(meaning);
    Some(name.len())
}

/// The HTML 5 entities by name, with the semicolon where it is part of the name.
fn entity_table() -> &'static HashMap<&'static str, &'static str> {
    static TABLE: OnceLock<HashMap<&str, &str>> = OnceLock::new();
    TABLE.get_or_init(|| {
        entities::ENTITIES
            .iter()
            .map(|entity| (entity.entity.trim_start_matches('&'), entity.characters))
            .collect()
    })
}
