//! How many files may be on their way at once, as people write it.

use std::fmt;
use std::num::NonZeroU32;

/// Most files on their way at once.
pub const CONCURRENCY_MAX: u32 = 1024;

/// The highest that `auto` goes to.
const AUTO_MAX: NonZeroU32 = NonZeroU32::new(64).expect("64 is not zero");

/// How many files may be on their way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concurrency {
    /// So many, whatever the service makes of it.
    Fixed(NonZeroU32),
    /// As many as the service is found to like, up to a maximum.
    Adaptive(NonZeroU32),
}

impl Concurrency {
    /// Reads `16`, `auto` (adaptive, up to 64) or `auto:128`.
    ///
    /// # Errors
    ///
    /// Says what may be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let number = |text: &str| {
            let number = text.parse::<NonZeroU32>().ok();
            number.filter(|number| number.get() <= CONCURRENCY_MAX)
        };
        let parsed = match text.split_once(':') {
            None if text == "auto" => Some(Self::Adaptive(AUTO_MAX)),
            None => number(text).map(Self::Fixed),
            Some(("auto", max)) => number(max).map(Self::Adaptive),
            Some(_) => None,
        };
        parsed.ok_or_else(|| {
            format!("give a whole number from 1 to {CONCURRENCY_MAX}, or `auto`, or `auto:MAX`")
        })
    }

    /// The most that may be on their way at once.
    #[must_use]
    pub fn max(self) -> NonZeroU32 {
        match self {
            Self::Fixed(number) | Self::Adaptive(number) => number,
        }
    }

    /// The same with another maximum.
    #[must_use]
    pub fn with_max(self, max: NonZeroU32) -> Self {
        match self {
            Self::Fixed(_) => Self::Fixed(max),
            Self::Adaptive(_) => Self::Adaptive(max),
        }
    }
}

impl fmt::Display for Concurrency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(number) => number.fmt(f),
            Self::Adaptive(max) => write!(f, "auto:{max}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_fixed_and_auto_is_adaptive() {
        let number = |number| NonZeroU32::new(number).expect("not zero");
        for (text, parsed) in [
            ("16", Some(Concurrency::Fixed(number(16)))),
            ("auto", Some(Concurrency::Adaptive(number(64)))),
            (" auto:1024 ", Some(Concurrency::Adaptive(number(1024)))),
            ("0", None),
            ("1025", None),
            ("auto:0", None),
            ("auto:", None),
            ("fast:8", None),
            ("", None),
        ] {
            assert_eq!(Concurrency::parse(text).ok(), parsed, "{text}");
        }
    }
}
