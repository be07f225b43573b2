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
pub struct Environment(BTreeMap<String, Variable>);

/// What a manifest may know of a variable.
#[derive(Clone)]
pub enum Variable {
    /// Its value.
    Open(String),
    /// That it holds the API key.
    ApiKey,
}

/// The variable that the key comes from.
const KEY_VARIABLE: &str = "ROE_API_KEY";

impl Environment {
    /// Keeps these variables; not the key, whatever the names of the variables that hold it.
    #[must_use]
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let variables: BTreeMap<String, String> = variables.into_iter().collect();
        let key = variables.get(KEY_VARIABLE).cloned().unwrap_or_default();
        let key = key.trim();
        // A text shorter than any real key stands in others by chance.
        let holds_key = |value: &str| {
            !key.is_empty() && (value.trim() == key || key.len() >= 8 && value.contains(key))
        };
        Self(
            variables
                .iter()
                .map(|(name, value)| {
                    let variable = if name == KEY_VARIABLE || holds_key(value) {
                        Variable::ApiKey
                    } else {
                        Variable::Open(value.clone())
                    };
                    (name.clone(), variable)
                })
                .collect(),
        )
    }

    /// What may be known of a variable, if it is set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Variable> {
        self.0.get(name)
    }

    /// The variables that another program may have: none that looks like a secret by its name, holds
    /// the API key or says where it is, or has an address with a password in it.
    pub fn harmless(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|(name, variable)| {
            let Variable::Open(value) = variable else {
                return None;
            };
            let is_secret = looks_secret(name) || WITHHELD.contains(&name.as_str());
            (!is_secret && !has_credentials(value)).then_some((name.as_str(), value.as_str()))
        })
    }

    /// Names only: values may be secrets.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// Variables that are nobody else's concern, and whose names do not tell.
const WITHHELD: [&str; 3] = [
    "ROE_BATCH_API_KEY_FILE",
    "ROE_BATCH_OTLP_HEADERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
];

/// Whether a text may be an address with a password in it.
fn has_credentials(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(_, rest)| rest.contains('@'))
}

/// Words of a variable's name that say that its value is a secret.
const SECRET_WORDS: [&str; 12] = [
    "APIKEY",
    "CREDENTIAL",
    "CREDENTIALS",
    "CREDS",
    "PASS",
    "PASSPHRASE",
    "PASSWD",
    "PASSWORD",
    "PRIVATE",
    "PWD",
    "SECRET",
    "TOKEN",
];

/// Whether a variable's name says that its value is a secret: `DB_PASSWORD`, `GITHUB_TOKEN`,
/// `AWS_ACCESS_KEY`. The shell's `PWD` and `OLDPWD` are folders.
#[must_use]
pub fn looks_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    if name == "PWD" || name == "OLDPWD" {
        return false;
    }
    let words = || name.split(['_', '-', '.']).filter(|word| !word.is_empty());
    let is_secret = |word: &str| {
        let one = word.strip_suffix('S').unwrap_or(word);
        SECRET_WORDS.contains(&word) || SECRET_WORDS.contains(&one)
    };
    words().any(is_secret)
        || words()
            .next_back()
            .is_some_and(|last| last.ends_with("KEY"))
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variable(hidden)")
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
    fn the_key_cannot_be_had_by_another_name() {
        let env = Environment::new(
            [
                ("ROE_API_KEY", "s3cret-key\n"),
                ("ALIAS", "s3cret-key"),
                ("INSIDE", "Bearer s3cret-key"),
                ("TEAM", "ops"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        for name in ["ROE_API_KEY", "ALIAS", "INSIDE"] {
            assert!(matches!(env.get(name), Some(Variable::ApiKey)), "{name}");
        }
        assert!(matches!(env.get("TEAM"), Some(Variable::Open(value)) if value == "ops"));
        let without = Environment::new([("EMPTY".to_owned(), String::new())]);
        assert!(matches!(without.get("EMPTY"), Some(Variable::Open(_))));
    }

    #[test]
    fn another_program_gets_no_secret() {
        let environment = Environment::new(
            [
                ("ROE_API_KEY", "s3cret-key"),
                ("ROE_BATCH_API_KEY_FILE", "/run/key"),
                ("ALIAS", "s3cret-key"),
                ("GITHUB_TOKEN", "s3cret"),
                ("HTTPS_PROXY", "http://user:s3cret@proxy:3128"),
                ("DATABASE_URL", "postgres://s3cret@db/x"),
                ("ROE_BATCH_OTLP_HEADERS", "authorization=s3cret"),
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret"),
                ("PATH", "/bin"),
                ("HTTP_PROXY", "http://proxy:3128"),
                ("MAIL", "ops@example.com"),
                ("ROE_BASE_URL", "https://api.roe-ai.com"),
            ]
            .map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let names: Vec<&str> = environment.harmless().map(|(name, _)| name).collect();
        assert_eq!(names, ["HTTP_PROXY", "MAIL", "PATH", "ROE_BASE_URL"]);
    }

    #[test]
    fn a_name_tells_whether_its_value_is_a_secret() {
        for name in [
            "DB_PASSWORD",
            "GITHUB_TOKEN",
            "TOKEN",
            "tokens",
            "MY_SECRET_VALUE",
            "MYSQL_PWD",
            "PG_PASS",
            "CLIENT_SECRETS",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "SSH_PRIVATE_FILE",
            "STRIPE_APIKEY",
            "STRIPE_API_KEY",
            "AWS_ACCESS_KEY",
            "SIGNING-KEY",
            "KEY",
            "SSHKEY",
        ] {
            assert!(looks_secret(name), "{name}");
        }
        for name in [
            "TEAM",
            "HOME",
            "PWD",
            "OLDPWD",
            "PATH",
            "KEYBOARD",
            "KEY_COUNT",
            "MONKEY_HOUSE",
            "COMPASS",
            "PASSENGERS",
            "TOKENIZER",
            "ROE_ORGANIZATION_ID",
            "",
            "_",
        ] {
            assert!(!looks_secret(name), "{name}");
        }
    }

    #[test]
    fn keys_that_a_header_cannot_carry_are_refused() {
        for bad in ["", "  \n", "two words", "tab\tkey", "schlüssel"] {
            assert!(ApiKey::new(bad).is_err(), "{bad:?}");
        }
    }
}
