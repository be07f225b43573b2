//! Values that must not be shown.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The Roe API key: wiped from memory when dropped, redacted by `Debug`, without `Display`.
#[derive(Clone)]
pub struct ApiKey(SecretString);

impl ApiKey {
    /// Takes a key as it came from the environment, a file or stdin, without the white space
    /// around it.
    ///
    /// # Errors
    ///
    /// Says what is wrong with the text, never the text: empty, or with a character that an HTTP
    /// header cannot carry.
    pub fn new(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if text.is_empty() {
            return Err("it is empty");
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("it has a character other than visible ASCII");
        }
        Ok(Self(SecretString::from(text)))
    }

    /// The key itself, for the one header that carries it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// The process environment as read once by the command line, for `${{ env.NAME }}`.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, String>);

impl Environment {
    /// Keeps these variables.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// The variable's value, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names only: values may be secrets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_key_nor_environment_values_are_in_their_debug_text() {
        let key = ApiKey::new(" s3cret-key\n").expect("a good key");
        let env = Environment::new([("TOKEN".to_owned(), "s3cret-value".to_owned())]);
        let text = format!("{key:?} {env:?}");
        assert!(!text.contains("s3cret"), "{text}");
        assert_eq!(key.expose(), "s3cret-key");
    }

    #[test]
    fn keys_that_a_header_cannot_carry_are_refused() {
        for bad in ["", "  \n", "two words", "tab\tkey", "schlüssel"] {
            assert!(ApiKey::new(bad).is_err(), "{bad:?}");
        }
    }
}
