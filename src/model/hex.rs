//! Hexadecimal digits, in small letters: every upload has many.

use super::Digest;

/// Every pair of digits.
const PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

/// What stands for a byte that is no digit.
const NONE: u8 = 0xff;

/// The value of every digit, large letters too.
const VALUES: [u8; 256] = {
    let mut values = [NONE; 256];
    let mut value = 0;
    while value < 16 {
        let [_, digit] = PAIRS[value as usize];
        values[digit as usize] = value;
        values[digit.to_ascii_uppercase() as usize] = value;
        value += 1;
    }
    values
};

/// Writes two digits for each byte.
pub fn write_hex(bytes: &[u8], to: &mut [u8]) {
    for (pair, byte) in to.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = PAIRS[usize::from(*byte)];
    }
}

/// Reads bytes of which each has two digits.
pub(super) fn read_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, rest) = text.as_bytes().as_chunks();
    let pairs: &[[u8; 2]; N] = pairs.try_into().ok().filter(|_| rest.is_empty())?;
    let mut bytes = [0; N];
    // Looked at in the end: no digit is so large.
    let mut seen = 0;
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        let (high, low) = (VALUES[usize::from(*high)], VALUES[usize::from(*low)]);
        seen |= high | low;
        *byte = high << 4 | low & 15;
    }
    (seen != NONE).then_some(bytes)
}

/// The digits of a digest.
#[derive(Debug, Clone, Copy)]
pub struct Hex([u8; 64]);

impl Hex {
    /// Writes them.
    #[must_use]
    pub fn of(digest: &Digest) -> Self {
        let mut text = [0; 64];
        write_hex(&digest.0, &mut text);
        Self(text)
    }

    /// As bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As a text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn digits_are_those_that_another_library_writes(bytes in any::<[u8; 32]>()) {
            let hex = Hex::of(&Digest(bytes));
            let naive = blake3::Hash::from_bytes(bytes).to_hex().to_string();
            prop_assert_eq!(hex.as_str(), &naive);
            prop_assert_eq!(hex.as_bytes(), naive.as_bytes());
            prop_assert_eq!(read_hex(&naive), Some(bytes));
            prop_assert_eq!(read_hex(&naive.to_uppercase()), Some(bytes));
        }

        #[test]
        fn what_is_read_is_digits_and_neither_more_nor_less(
            text in "[0-9a-fA-F]{6,10}|[0-9a-g/:@`G]{8}|.{8}"
        ) {
            let is_hex = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
            let number = u32::from_str_radix(&text, 16).ok().filter(|_| is_hex);
            prop_assert_eq!(read_hex(&text), number.map(u32::to_be_bytes));
        }
    }
}
