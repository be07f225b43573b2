//! The name a file gets at the service, and what the service will make of it.
//!
//! The service is Django: its multipart parser unescapes HTML entities in a file name, keeps
//! what follows the last slash or backslash, and drops what Python calls not printable
//! (`MultiPartParser.sanitize_file_name`). So we send what comes out right, and say beforehand
//! where it cannot.

use std::borrow::Cow;
use std::fmt::{self, Write};

use schemars::JsonSchema;
use serde::Serialize;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::shown;

/// Longest stored name in characters; Django cuts longer ones before the extension.
const STORED_CHARS_MAX: usize = 255;

/// Most bytes for the `filename` parameters. Django refuses a part whose header block is over
/// 1,024 bytes (`MAX_TOTAL_HEADER_SIZE`); the rest of the block takes up to 324.
const PARAMETERS_MAX: usize = 700;

/// The entity names that HTML lets stand without a semicolon (HTML Standard, "Named character
/// references"): the only ones that change a name by a mere prefix.
const LEGACY_ENTITIES: [&str; 106] = [
    "AElig", "AMP", "Aacute", "Acirc", "Agrave", "Aring", "Atilde", "Auml", "COPY", "Ccedil",
    "ETH", "Eacute", "Ecirc", "Egrave", "Euml", "GT", "Iacute", "Icirc", "Igrave", "Iuml", "LT",
    "Ntilde", "Oacute", "Ocirc", "Ograve", "Oslash", "Otilde", "Ouml", "QUOT", "REG", "THORN",
    "Uacute", "Ucirc", "Ugrave", "Uuml", "Yacute", "aacute", "acirc", "acute", "aelig", "agrave",
    "amp", "aring", "atilde", "auml", "brvbar", "ccedil", "cedil", "cent", "copy", "curren", "deg",
    "divide", "eacute", "ecirc", "egrave", "eth", "euml", "frac12", "frac14", "frac34", "gt",
    "iacute", "icirc", "iexcl", "igrave", "iquest", "iuml", "laquo", "lt", "macr", "micro",
    "middot", "nbsp", "not", "ntilde", "oacute", "ocirc", "ograve", "ordf", "ordm", "oslash",
    "otilde", "ouml", "para", "plusmn", "pound", "quot", "raquo", "reg", "sect", "shy", "sup1",
    "sup2", "sup3", "szlig", "thorn", "times", "uacute", "ucirc", "ugrave", "uml", "uuml",
    "yacute", "yen", "yuml",
];

/// The name that is sent for a file: one component, with nothing that would break the header.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct RemoteName(String);

/// The name that the service will store for a [`RemoteName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoredName(String);

impl RemoteName {
    /// Takes the wanted name. Slashes, backslashes, CR, LF and NUL become `_`: the service would
    /// cut the name there or refuse the header.
    ///
    /// # Errors
    ///
    /// Says why no file could be stored under this name: nothing printable is left of it, or it
    /// is too long for the service to read.
    pub fn new(wanted: &str) -> Result<Self, String> {
        if Self::is_plain(wanted) {
            return Ok(Self(wanted.to_owned()));
        }
        let name = Self(wanted.replace(['/', '\\', '\r', '\n', '\0'], "_"));
        if let "" | "." | ".." = name.stored().as_str() {
            return Err(format!(
                "the file name \"{}\" leaves nothing that the service would store",
                shown(wanted)
            ));
        }
        let length = name.plain_parameter().len();
        if length > PARAMETERS_MAX {
            return Err(format!(
                "the file name is too long to send: {length} bytes encoded, {PARAMETERS_MAX} at \
                 the most"
            ));
        }
        Ok(name)
    }

    /// Says what [`RemoteName::new`] says of a wanted name, without making it.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn check(wanted: &str) -> Result<(), String> {
        if Self::is_plain(wanted) {
            return Ok(());
        }
        Self::new(wanted).map(drop)
    }

    /// Whether a name is sent and stored as it is, with nothing about it to be looked at closely: short
    /// and printable ASCII, but for what has a meaning in headers, paths and HTML.
    #[must_use]
    pub fn is_plain(name: &str) -> bool {
        let is_plain =
            |b: u8| (b' '..=b'~').contains(&b) && !matches!(b, b'/' | b'\\' | b'"' | b'&');
        (1..=STORED_CHARS_MAX).contains(&name.len())
            && !matches!(name, "." | "..")
            && name.bytes().all(is_plain)
    }

    /// The name as sent, before encoding.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that Django will store: what is not printable in Python's sense is dropped, and
    /// more than 255 characters are cut before the extension (`UploadedFile._set_name`).
    #[must_use]
    pub fn stored(&self) -> StoredName {
        if Self::is_plain(&self.0) {
            return StoredName(self.0.clone());
        }
        let printable: String = self.0.chars().filter(|c| is_printable(*c)).collect();
        let length = printable.chars().count();
        if length <= STORED_CHARS_MAX {
            return StoredName(printable);
        }
        let extension: String = extension(&printable)
            .chars()
            .take(STORED_CHARS_MAX)
            .collect();
        let keep = STORED_CHARS_MAX - extension.chars().count();
        let stem: String = printable.chars().take(keep).collect();
        StoredName(stem + &extension)
    }

    /// The `filename` parameters of the part's `Content-Disposition` (RFC 7578 section 4.2, RFC
    /// 8187): quotes as `\"`, ampersands escaped where unescaping would change the name, and for
    /// other than ASCII the extended form too, last, where every Django lets it win; without it
    /// where both would not fit.
    #[must_use]
    pub fn header_parameters(&self) -> String {
        let plain = self.plain_parameter();
        if self.0.is_ascii() {
            return plain;
        }
        let escaped = escape_ampersands(&self.0);
        let mut both = plain.clone();
        both.push_str("; filename*=UTF-8''");
        for byte in escaped.bytes() {
            if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
                both.push(char::from(byte));
            } else {
                let _ = write!(both, "%{byte:02X}");
            }
        }
        if both.len() > PARAMETERS_MAX {
            plain
        } else {
            both
        }
    }

    fn plain_parameter(&self) -> String {
        let quoted = |name: &str| ["filename=\"", name, "\""].concat();
        if !self.0.contains(['&', '"']) {
            return quoted(&self.0);
        }
        quoted(&escape_ampersands(&self.0).replace('"', "\\\""))
    }
}

impl From<RemoteName> for Cow<'static, str> {
    fn from(name: RemoteName) -> Self {
        Self::Owned(name.0)
    }
}

impl fmt::Display for RemoteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl StoredName {
    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name before its extension.
    #[must_use]
    pub fn stem(&self) -> &str {
        &self.0[..self.0.len() - extension(&self.0).len()]
    }

    /// The extension with its dot; empty where there is none.
    #[must_use]
    pub fn extension(&self) -> &str {
        extension(&self.0)
    }
}

/// Python's `str.isprintable` for one character: no control, format, surrogate, private or
/// unassigned character and no separator but the space.
fn is_printable(c: char) -> bool {
    c == ' '
        || !matches!(
            c.general_category_group(),
            GeneralCategoryGroup::Other | GeneralCategoryGroup::Separator
        )
}

/// As Python's `os.path.splitext`: from the last dot, unless only dots stand before it.
fn extension(name: &str) -> &str {
    match name.rfind('.') {
        Some(dot) if name[..dot].contains(|c| c != '.') => &name[dot..],
        _ => "",
    }
}

/// Writes `&amp;` for each ampersand that begins something `html.unescape` would replace.
fn escape_ampersands(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        escaped.push(c);
        if c == '&' && begins_entity(&name[at + 1..]) {
            escaped.push_str("amp;");
        }
    }
    escaped
}

fn begins_entity(after: &str) -> bool {
    if let Some(number) = after.strip_prefix('#') {
        let digits = number.strip_prefix(['x', 'X']);
        return number.starts_with(|c: char| c.is_ascii_digit())
            || digits.is_some_and(|d| d.starts_with(|c: char| c.is_ascii_hexdigit()));
    }
    // A name with its semicolon may be any of 2,125: escaping one that is none does no harm,
    // since `&amp;` always unescapes to `&`.
    let word = after.split(|c: char| !c.is_ascii_alphanumeric()).next();
    let word = word.unwrap_or_default();
    (!word.is_empty() && after[word.len()..].starts_with(';'))
        || LEGACY_ENTITIES.iter().any(|name| after.starts_with(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(wanted: &str) -> String {
        RemoteName::new(wanted).expect(wanted).stored().0
    }

    fn parameters(wanted: &str) -> String {
        RemoteName::new(wanted).expect(wanted).header_parameters()
    }

    #[test]
    fn what_would_cut_the_name_or_break_the_header_becomes_an_underscore() {
        assert_eq!(stored("a\\b/c\r\nd\0e"), "a_b_c__d_e");
    }

    #[test]
    fn the_service_drops_what_python_does_not_print() {
        assert_eq!(stored("a\u{a0}b\u{202f}c\u{3000}d\u{200d}e f"), "abcde f");
        assert_eq!(stored("e\u{301}.txt"), "e\u{301}.txt");
        assert_eq!(stored("🎉.txt"), "🎉.txt");
    }

    #[test]
    fn a_name_of_which_nothing_would_be_stored_is_refused() {
        for wanted in ["", ".", "..", "\u{a0}", "\u{a0}."] {
            assert!(RemoteName::new(wanted).is_err(), "{wanted:?}");
        }
    }

    #[test]
    fn long_names_keep_their_extension() {
        let long = format!("{}.pdf", "é".repeat(300));
        let name = stored(&long);
        assert_eq!(name.chars().count(), 255);
        assert!(name.ends_with("é.pdf"));
        assert!(RemoteName::new(&"é".repeat(400)).is_err());
        assert_eq!(stored(&".".repeat(300)).chars().count(), 255);
    }

    #[test]
    fn ampersands_are_escaped_only_where_unescaping_would_change_the_name() {
        assert_eq!(parameters("a&region.csv"), "filename=\"a&amp;region.csv\"");
        assert_eq!(parameters("&amp;"), "filename=\"&amp;amp;\"");
        assert_eq!(parameters("&#65;&#x41"), "filename=\"&amp;#65;&amp;#x41\"");
        assert_eq!(parameters("&hearts;"), "filename=\"&amp;hearts;\"");
        assert_eq!(parameters("R&D & Co&.txt"), "filename=\"R&D & Co&.txt\"");
    }

    #[test]
    fn quotes_are_escaped_and_other_than_ascii_has_the_extended_form_last() {
        assert_eq!(
            parameters("say \"hi\".txt"),
            "filename=\"say \\\"hi\\\".txt\""
        );
        assert_eq!(
            parameters("é 1.txt"),
            "filename=\"é 1.txt\"; filename*=UTF-8''%C3%A9%201.txt"
        );
    }

    #[test]
    fn a_plain_name_is_what_every_rule_makes_of_it() {
        let long = "n".repeat(STORED_CHARS_MAX);
        for name in ["a.txt", " ", "...", "a b'(1)~.pdf", &long] {
            assert!(RemoteName::is_plain(name), "{name}");
            let made = RemoteName::new(name).expect(name);
            let escaped = format!("filename=\"{name}\"");
            let printable: String = name.chars().filter(|c| is_printable(*c)).collect();
            assert_eq!(
                (made.as_str(), &*made.stored().0, made.header_parameters()),
                (name, &*printable, escaped)
            );
        }
        let longer = "n".repeat(STORED_CHARS_MAX + 1);
        for name in [
            "", ".", "..", "é", "a&b", "a\"b", "a\\b", "a/b", "a\tb", "\x7f", &longer,
        ] {
            assert!(!RemoteName::is_plain(name), "{name:?}");
        }
    }

    #[test]
    fn a_long_name_drops_the_extended_form_before_the_header_grows_too_large() {
        let long = "漢".repeat(85);
        assert_eq!(parameters(&long), format!("filename=\"{long}\""));
    }
}
