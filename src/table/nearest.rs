//! Which key was probably meant by one that is not there.

use crate::model::closest;

use super::KEYS_MAX;

/// The key that another one was probably meant to be, and how it differs, in words that go on
/// from it: "differs only in upper and lower case".
#[must_use]
pub fn nearest<'k>(
    key: &str,
    unmatched_keys: impl Iterator<Item = &'k str>,
) -> Option<(&'k str, &'static str)> {
    let near = closest(key, unmatched_keys.take(KEYS_MAX))?;
    Some((near, "is spelt almost the same"))
}
