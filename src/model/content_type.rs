//! The content type that a file is sent with.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

use super::shown;

/// What a file is sent as when nothing better is known (RFC 2046 section 4.5.1).
const UNKNOWN: &str = "application/octet-stream";

/// Longest content type accepted from a manifest, in bytes.
const LENGTH_MAX: usize = 255;

/// Extensions that `mime_guess` lacks or takes for something a dataset rarely holds.
const OVERLAY: [(&str, &str); 25] = [
    ("arrow", "application/vnd.apache.arrow.file"),
    ("avro", "application/avro"),
    ("br", "application/x-brotli"),
    ("dcm", "application/dicom"),
    ("feather", "application/vnd.apache.arrow.file"),
    ("gpkg", "application/geopackage+sqlite3"),
    ("h5", "application/x-hdf5"),
    ("hdf5", "application/x-hdf5"),
    ("ipynb", "application/x-ipynb+json"),
    ("jsonl", "application/jsonl"),
    ("ndjson", "application/x-ndjson"),
    ("npy", "application/x-npy"),
    ("npz", "application/x-npz"),
    ("orc", "application/vnd.apache.orc"),
    ("parquet", "application/vnd.apache.parquet"),
    ("psd", "image/vnd.adobe.photoshop"),
    ("sqlite", "application/vnd.sqlite3"),
    ("stl", "model/stl"),
    ("tbz2", "application/x-bzip2"),
    ("tgz", "application/gzip"),
    ("ts", "text/typescript"),
    ("tsx", "text/tsx"),
    ("txz", "application/x-xz"),
    ("webp", "image/webp"),
    ("zst", "application/zstd"),
];

/// A media type, fit for a header.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct ContentType(Cow<'static, str>);

/// Why a text is no media type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ContentTypeError(String);

impl ContentType {
    /// The type that a file name's extension stands for, whatever its case; a file without a
    /// known extension is `application/octet-stream`.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let extension = match name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => extension,
            _ => return Self(UNKNOWN.into()),
        };
        let lower: Cow<'_, str> = if extension.bytes().any(|b| b.is_ascii_uppercase()) {
            extension.to_ascii_lowercase().into()
        } else {
            extension.into()
        };
        let known = match OVERLAY.binary_search_by_key(&&*lower, |(e, _)| e) {
            Ok(at) => Some(OVERLAY[at].1),
            Err(_) => mime_guess::from_ext(&lower).first_raw(),
        };
        Self(known.unwrap_or(UNKNOWN).into())
    }

    /// Takes a type from a manifest: `type/subtype`, parameters allowed.
    ///
    /// # Errors
    ///
    /// Anything that is not `type/subtype` of token characters (RFC 9110 section 8.3.1), is over
    /// 255 bytes, or holds what a header line cannot.
    pub fn parse(text: &str) -> Result<Self, ContentTypeError> {
        let refuse = |why: &str| ContentTypeError(format!("\"{}\" {why}", shown(text)));
        if text.len() > LENGTH_MAX {
            return Err(refuse("is longer than 255 bytes"));
        }
        if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
            return Err(refuse("has a character that a header cannot carry"));
        }
        let essence = text.split(';').next().unwrap_or_default().trim();
        let is_token = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
        };
        match essence.split_once('/') {
            Some((kind, subtype)) if is_token(kind) && is_token(subtype) => {
                Ok(Self(text.to_owned().into()))
            }
            _ => Err(refuse("is not of the form type/subtype")),
        }
    }

    /// The type as sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<ContentType> for Cow<'static, str> {
    fn from(content_type: ContentType) -> Self {
        content_type.0
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlay_is_sorted_for_its_search() {
        assert!(OVERLAY.is_sorted_by_key(|(extension, _)| *extension));
    }

    #[test]
    fn an_extension_decides_whatever_its_case() {
        for (name, expected) in [
            ("a.pdf", "application/pdf"),
            ("A.PDF", "application/pdf"),
            ("rows.jsonl", "application/jsonl"),
            ("code.ts", "text/typescript"),
            ("photo.jpeg", "image/jpeg"),
            ("a.tar.gz", "application/gzip"),
            ("a.tgz", "application/gzip"),
            ("table.parquet", "application/vnd.apache.parquet"),
            ("Makefile", "application/octet-stream"),
            (".bashrc", "application/octet-stream"),
            ("odd.zzzz", "application/octet-stream"),
        ] {
            assert_eq!(ContentType::of_name(name).as_str(), expected, "{name}");
        }
    }

    #[test]
    fn a_written_type_must_be_one() {
        for good in ["text/plain", "text/plain; charset=utf-8", "model/gltf+json"] {
            assert!(ContentType::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "pdf",
            "text/",
            "/plain",
            "te xt/plain",
            "text/plain\r\nX: y",
            "tëxt/x",
        ] {
            assert!(ContentType::parse(bad).is_err(), "{bad:?}");
        }
    }
}
