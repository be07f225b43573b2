//! Between counts, times and the real numbers that pacing computes with.

use std::time::Duration;

/// A count as a real number.
#[expect(
    clippy::cast_precision_loss,
    reason = "counts of requests are far below 2^53"
)]
pub(super) fn real(count: u64) -> f64 {
    count as f64
}

/// A number of slots as a real number.
pub(super) fn real_size(size: usize) -> f64 {
    real(u64::try_from(size).unwrap_or(u64::MAX))
}

/// The whole part of a real number; nothing for what is negative or no number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast of a float saturates, which is what is meant"
)]
pub(super) fn whole(number: f64) -> u64 {
    number as u64
}

/// The whole part of a real number, as a number of slots.
pub(super) fn whole_size(number: f64) -> usize {
    usize::try_from(whole(number)).unwrap_or(usize::MAX)
}

/// Seconds as a time; longer than a run can be for what is no time.
pub(super) fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::from_secs(u64::from(u32::MAX)))
}
