//! Times and numbers as texts of the ledger, of which every upload has many: without the
//! machinery of formatting.

use jiff::Timestamp;

pub(super) use crate::model::Hex;

/// Every pair of decimal digits.
const DECIMAL: [[u8; 2]; 100] = {
    let digits = b"0123456789";
    let mut pairs = [[0; 2]; 100];
    let mut at = 0;
    while at < pairs.len() {
        pairs[at] = [digits[at / 10], digits[at % 10]];
        at += 1;
    }
    pairs
};

/// Writes times as `jiff` does. Those of one group are mostly of one second, whose digits it keeps.
#[derive(Debug, Default)]
pub(super) struct Times {
    second: Option<i64>,
    digits: [u8; 30],
}

impl Times {
    /// Appends a time.
    pub(super) fn push(&mut self, text: &mut Vec<u8>, at: Timestamp) {
        let (second, fraction) = (at.as_second(), at.subsec_nanosecond());
        let parts = (
            u32::try_from(second / 86_400),
            u32::try_from(second % 86_400),
            u32::try_from(fraction),
        );
        let (Ok(day), Ok(second_of_day), Ok(fraction)) = parts else {
            // Before 1970; no time is after 9999.
            text.extend_from_slice(at.to_string().as_bytes());
            return;
        };
        if self.second != Some(second) {
            self.digits = digits_of(day, second_of_day);
            self.second = Some(second);
        }
        let digits = &mut self.digits;
        let mut length = 19;
        if fraction > 0 {
            // The last pair holds the `Z`'s place too.
            place(digits, 20, fraction / 10_000_000);
            place(digits, 22, fraction / 100_000 % 100);
            place(digits, 24, fraction / 1_000 % 100);
            place(digits, 26, fraction / 10 % 100);
            place(digits, 28, fraction % 10 * 10);
            digits[length] = b'.';
            length = 29;
            while digits[length - 1] == b'0' {
                length -= 1;
            }
        }
        digits[length] = b'Z';
        text.extend_from_slice(&digits[..=length]);
    }

    /// Replaces a text by a time's.
    pub(super) fn write(&mut self, text: &mut Vec<u8>, at: Timestamp) {
        text.clear();
        self.push(text, at);
    }
}

/// The digits of a second, by its day since 1970, with room for a fraction.
fn digits_of(day: u32, second: u32) -> [u8; 30] {
    // Years that begin in March, so that a leap day is a year's last; eras of 400 years.
    let days = day + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march = (5 * day + 2) / 153;
    let day = day - (153 * march + 2) / 5 + 1;
    let month = if march < 10 { march + 3 } else { march - 9 };
    let year = era * 400 + year + u32::from(month <= 2);
    let mut digits = *b"0000-00-00T00:00:00.000000000Z";
    place(&mut digits, 0, year / 100);
    place(&mut digits, 2, year % 100);
    place(&mut digits, 5, month);
    place(&mut digits, 8, day);
    place(&mut digits, 11, second / 3_600);
    place(&mut digits, 14, second / 60 % 60);
    place(&mut digits, 17, second % 60);
    digits
}

/// What was pushed, as a text.
pub(super) fn as_text(text: &[u8]) -> &str {
    std::str::from_utf8(text).expect("digits")
}

/// Puts the two digits of a number below 100 in their place.
fn place(digits: &mut [u8; 30], at: usize, number: u32) {
    [digits[at], digits[at + 1]] = DECIMAL[number as usize];
}

/// Appends a number.
pub(super) fn push_number(text: &mut Vec<u8>, at: i64) {
    let mut digits = [b'0'; 20];
    let mut left = at.unsigned_abs();
    let mut from = digits.len();
    while left > 9 {
        from -= 2;
        [digits[from], digits[from + 1]] = DECIMAL[usize::try_from(left % 100).unwrap_or(0)];
        left /= 100;
    }
    if left > 0 || from == digits.len() {
        from -= 1;
        digits[from] = DECIMAL[usize::try_from(left).unwrap_or(0)][1];
    }
    if at < 0 {
        text.push(b'-');
    }
    text.extend_from_slice(&digits[from..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(at: Timestamp) -> String {
        by(&mut Times::default(), at)
    }

    fn by(times: &mut Times, at: Timestamp) -> String {
        let mut text = b"before".to_vec();
        times.write(&mut text, at);
        as_text(&text).to_owned()
    }

    #[test]
    fn times_of_one_second_read_each_for_itself() {
        let mut times = Times::default();
        for nanosecond in [0, 120_000_000, 5, 0, 999_999_999, 100] {
            for second in [1_700_000_000, 1_700_000_000, 1_700_000_001, 0, -1] {
                let at = Timestamp::new(second, nanosecond).expect("a time");
                assert_eq!(by(&mut times, at), at.to_string());
            }
        }
    }

    #[test]
    fn a_time_of_every_day_reads_as_it_always_did() {
        let noon = |day: i64| Timestamp::from_second(day * 86_400 + 43_259).expect("a time");
        for at in (0..100_000).map(noon) {
            assert_eq!(written(at), at.to_string());
        }
        for second in [-86_401, -86_400, -1, 0, 253_402_207_200] {
            let at = Timestamp::from_second(second).expect("a time");
            assert_eq!(written(at), at.to_string());
        }
    }

    proptest! {
        #[test]
        fn times_and_numbers_read_as_they_always_did(
            second in -100_000_000_000_i64..=253_402_207_200,
            fraction in -999_999_999..=999_999_999,
            digits in 0_u32..9,
            any in any::<i64>(),
        ) {
            let fraction = fraction / 10_i32.pow(digits) * 10_i32.pow(digits);
            if let Ok(at) = Timestamp::new(second, fraction) {
                prop_assert_eq!(written(at), at.to_string());
            }
            for number in [any, any >> 40, i64::MIN, 0] {
                let mut text = Vec::new();
                push_number(&mut text, number);
                prop_assert_eq!(as_text(&text), number.to_string());
            }
        }
    }
}
