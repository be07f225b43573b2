//! Hashes as services write them, and the same hashes of local bytes.

use std::fmt;
use std::io::{self, Read};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

use crate::model::Digest;

/// Bytes read at a time.
const CHUNK: usize = 256 * 1024;

/// The algorithms that a listing's hash may be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// MD5 (RFC 1321).
    Md5,
    /// SHA-1 (FIPS 180-4).
    Sha1,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// BLAKE3, of 32 bytes.
    Blake3,
}

impl Algorithm {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Md5,
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
        Self::Blake3,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha512 => "SHA-512",
            Self::Blake3 => "BLAKE3",
        }
    }

    /// Bytes of a hash.
    fn length(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Blake3 => 32,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Hashes of some bytes under several algorithms, all of one reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hashes {
    digest: Digest,
    others: Vec<(Algorithm, Vec<u8>)>,
}

impl Hashes {
    /// Reads to the end. BLAKE3 is always computed: it says which bytes these are.
    ///
    /// # Errors
    ///
    /// Whatever the reader says.
    pub fn read(mut from: impl Read, algorithms: &[Algorithm]) -> io::Result<Self> {
        let mut blake3 = blake3::Hasher::new();
        let mut others: Vec<(Algorithm, Hasher)> = algorithms
            .iter()
            .filter_map(|algorithm| Some((*algorithm, Hasher::new(*algorithm)?)))
            .collect();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => &chunk[..read],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            blake3.update(read);
            for (_, hasher) in &mut others {
                hasher.update(read);
            }
        }
        Ok(Self {
            digest: Digest(*blake3.finalize().as_bytes()),
            others: others
                .into_iter()
                .map(|(algorithm, hasher)| (algorithm, hasher.finish()))
                .collect(),
        })
    }

    /// The BLAKE3 digest: which bytes these are.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The hash under an algorithm, where it was asked for.
    #[must_use]
    pub fn of(&self, algorithm: Algorithm) -> Option<&[u8]> {
        if algorithm == Algorithm::Blake3 {
            return Some(&self.digest.0);
        }
        let (_, hash) = self.others.iter().find(|(other, _)| *other == algorithm)?;
        Some(hash)
    }
}

/// A hash on its way.
enum Hasher {
    Md5(Md5),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// None for BLAKE3, which is computed anyway.
    fn new(algorithm: Algorithm) -> Option<Self> {
        Some(match algorithm {
            Algorithm::Md5 => Self::Md5(Md5::new()),
            Algorithm::Sha1 => Self::Sha1(Sha1::new()),
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
            Algorithm::Blake3 => return None,
        })
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Md5(hasher) => hasher.finalize().to_vec(),
            Self::Sha1(hasher) => hasher.finalize().to_vec(),
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
        }
    }
}

/// The bytes of a hash as a service may write it: hexadecimal in any case or base64, maybe in
/// quotes, maybe behind the algorithm's name. None where it cannot be one of this algorithm: an
/// S3 `ETag` of a large file, say, is no MD5, and so proves nothing.
pub(super) fn decode(text: &str, algorithm: Algorithm) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

    let text = text.trim();
    let text = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(text);
    let text = without_name(text, algorithm);
    let length = algorithm.length();
    if text.len() == 2 * length {
        return hex(text);
    }
    [STANDARD, URL_SAFE]
        .iter()
        .find_map(|engine| engine.decode(text).ok())
        .filter(|bytes| bytes.len() == length)
}

/// The rest behind the algorithm's own name (`sha256:`, `SHA-256=`, `sha256-`), where that is
/// what precedes it.
fn without_name(text: &str, algorithm: Algorithm) -> &str {
    let name = algorithm.to_string();
    let plain = name.replace('-', "");
    for name in [name, plain] {
        if let Some(start) = text.get(..name.len())
            && start.eq_ignore_ascii_case(&name)
            && let Some(rest) = text[name.len()..].strip_prefix([':', '=', '-'])
        {
            return rest.trim_start();
        }
    }
    text
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| u8::try_from(c.to_digit(16)?).ok())
        .collect();
    Some(
        digits?
            .chunks(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: [(Algorithm, &str); 5] = [
        (Algorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
        (Algorithm::Sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (
            Algorithm::Sha256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            Algorithm::Sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a\
             2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
        ),
        (
            Algorithm::Blake3,
            "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
        ),
    ];

    #[test]
    fn every_algorithm_gives_its_published_hash() {
        let hashes = Hashes::read(&b"abc"[..], &Algorithm::ALL).expect("read");
        for (algorithm, expected) in ABC {
            let found = hashes.of(algorithm).expect("computed");
            assert_eq!(found, hex(expected).expect("hex"), "{algorithm}");
        }
        let without = Hashes::read(&b"abc"[..], &[]).expect("read");
        assert_eq!(without.of(Algorithm::Md5), None);
        assert_eq!(without.digest(), hashes.digest());
    }

    #[test]
    fn a_hash_is_read_however_it_is_written() {
        for (algorithm, expected) in ABC {
            let bytes = hex(expected).expect("hex");
            let base64 = base64::prelude::BASE64_STANDARD.encode(&bytes);
            let url_safe = base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(&bytes);
            let plain = algorithm.to_string().replace('-', "").to_lowercase();
            for text in [
                expected.to_owned(),
                expected.to_uppercase(),
                format!("\"{expected}\""),
                format!("{plain}:{expected}"),
                format!("{algorithm}={expected}"),
                format!("{plain}-{base64}"),
                base64.trim_end_matches('=').to_owned(),
                base64,
                url_safe,
            ] {
                assert_eq!(decode(&text, algorithm).as_ref(), Some(&bytes), "{text}");
            }
        }
    }

    #[test]
    fn what_is_no_hash_of_the_algorithm_is_none() {
        let md5 = ABC[0].1;
        for text in [
            "",
            "\"",
            "xyz",
            "900150983cd24fb0d6963f7d28e17f7",
            "900150983cd24fb0d6963f7d28e17fzz",
            // Sixteen characters of two bytes each.
            "éééééééééééééééé",
            &format!("{md5}-3"),
            &format!("sha1:{md5}"),
            ABC[1].1,
            ABC[2].1,
        ] {
            assert_eq!(decode(text, Algorithm::Md5), None, "{text}");
        }
        assert_eq!(
            decode(&format!("blake3:{}", ABC[2].1), Algorithm::Sha256),
            None
        );
    }
}
