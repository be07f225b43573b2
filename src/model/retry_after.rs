//! The `Retry-After` header.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;

/// A `Retry-After` header (RFC 9110 section 10.2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryAfter {
    /// So long from now.
    Delay(Duration),
    /// Not before this time.
    At(Timestamp),
}

impl RetryAfter {
    /// Reads the header; none where it is neither seconds nor a date.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // More digits than fit are a very long time, and capped like one.
            let seconds = text.parse().unwrap_or(u64::MAX);
            return Some(Self::Delay(Duration::from_secs(seconds)));
        }
        // HTTP's date (IMF-fixdate) is RFC 2822's with the zone spelled GMT.
        rfc2822::DateTimeParser::new()
            .parse_timestamp(text)
            .ok()
            .map(Self::At)
    }
}
