//! Where a setting comes from: flag, environment, manifest, config file or default, the first of
//! them that says anything. What a run does and what `config` shows are made here both.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;

use super::table::{
    API_KEY_FILE, IF_LOCKED, InManifest, Known, Otherwise, SETTINGS, Setting, WAIT,
};
use crate::config::{Config, Key, Takes};

/// Who said something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A variable of the environment.
    Environment(&'static str),
    /// A manifest's `run`, on this line.
    Manifest(usize),
    /// A config file, on this line.
    File(PathBuf, usize),
    /// Nobody: it holds unless somebody says otherwise.
    Default,
}

/// What somebody said, as a flag would say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The text.
    pub text: OsString,
    /// Who.
    pub origin: Origin,
}

/// What is said of a setting on either side of what a manifest says of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layered<T> {
    /// By flag or environment: the manifest does not count then.
    before: Option<T>,
    /// By a config file: where the manifest says nothing.
    after: Option<T>,
}

impl<T> Layered<T> {
    /// The first that is said, with what a manifest says.
    pub fn with(self, manifest: Option<T>) -> Option<T> {
        self.before.or(manifest).or(self.after)
    }
}

/// A setting, and what is said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its name in config files.
    pub name: &'static str,
    /// Whether its text may hold a password.
    pub is_secret: bool,
    /// Whether a manifest's `run` may say it.
    pub in_manifest: bool,
    /// What holds where nobody says anything.
    pub default: Otherwise,
    /// What is said, beside a manifest.
    pub said: Layered<Said>,
}

/// Environment and config files.
#[derive(Debug)]
pub(super) struct Sources<'a> {
    variable: fn(&str) -> Option<OsString>,
    config: &'a Config,
}

impl<'a> Sources<'a> {
    /// `variable` reads the environment.
    pub(super) fn new(variable: fn(&str) -> Option<OsString>, config: &'a Config) -> Self {
        Self { variable, config }
    }

    /// A variable that is set to something; an empty one counts as unset.
    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// What is said of a setting, by everybody but flags and manifests.
    fn said(&self, setting: &dyn Known) -> Result<Layered<Said>, clap::Error> {
        let before = setting.variable().and_then(|variable| {
            let text = self.variable(variable.name)?;
            Some((variable, text))
        });
        let before = match before {
            // What need not be UTF-8 is said as it is.
            Some((variable, text)) => Some(Said {
                text: match text.to_str() {
                    Some(said) => (variable.told)(said)
                        .map_err(|why| unusable(variable.name, &why))?
                        .into(),
                    None => text,
                },
                origin: Origin::Environment(variable.name),
            }),
            None => None,
        };
        let after = self.config.get(setting.name()).map(|(file, entry)| Said {
            text: entry.text.clone(),
            origin: Origin::File(file.path.clone(), entry.line),
        });
        Ok(Layered {
            before,
            after: after.filter(|_| !self.is_overridden(setting)),
        })
    }

    /// Whether something stronger makes a config file's word on a setting meaningless: a key in the
    /// environment the key's file, and what is done with a ledger that is in use how long it is
    /// waited for.
    fn is_overridden(&self, setting: &dyn Known) -> bool {
        if setting.name() == API_KEY_FILE.name {
            return self.variable("ROE_API_KEY").is_some();
        }
        if setting.name() == WAIT.name {
            let place = |name| {
                let files = &mut self.config.files.iter();
                files.position(|file| file.entries.iter().any(|entry| entry.key == name))
            };
            let action = place(IF_LOCKED.name);
            return action.is_some_and(|action| place(WAIT.name).is_some_and(|wait| wait > action));
        }
        false
    }

    /// The setting where a manifest may say it too.
    pub(super) fn layered<T: 'static>(
        &self,
        setting: &'static Setting<T>,
        flag: Option<T>,
    ) -> Result<Layered<T>, clap::Error> {
        let said = self.said(setting)?;
        let parse = |said: Option<Said>| {
            let parsed = said.map(|said| {
                setting.parse(&said.text).map_err(|why| match said.origin {
                    Origin::Environment(name) => unusable(name, &why),
                    _ => unusable(setting.name, &why),
                })
            });
            parsed.transpose()
        };
        let before = match flag {
            Some(flag) => Some(flag),
            None => parse(said.before)?,
        };
        let after = parse(said.after)?;
        Ok(Layered { before, after })
    }

    /// The setting where no manifest says it.
    pub(super) fn get<T: 'static>(
        &self,
        setting: &'static Setting<T>,
        flag: Option<T>,
    ) -> Result<Option<T>, clap::Error> {
        Ok(self.layered(setting, flag)?.with(None))
    }

    /// What is said of all settings.
    pub(super) fn all(&self) -> Result<Vec<Told>, clap::Error> {
        let told = |setting: &&'static dyn Known| {
            let setting: &'static dyn Known = *setting;
            let said = self.said(setting)?;
            for said in said.before.iter().chain(&said.after) {
                if let Err(why) = setting.check(&said.text) {
                    let variable = setting.variable().map(|variable| variable.name);
                    return Err(unusable(variable.unwrap_or(setting.name()), &why));
                }
            }
            Ok(Told {
                name: setting.name(),
                is_secret: setting.takes() == Takes::Secret,
                in_manifest: setting.manifest() == InManifest::Yes,
                default: setting.otherwise(),
                said,
            })
        };
        SETTINGS.iter().map(told).collect()
    }
}

/// The keys of a config file.
pub(super) fn keys() -> Vec<&'static dyn Key> {
    SETTINGS
        .iter()
        .map(|setting| *setting as &'static dyn Key)
        .collect()
}

fn unusable(name: &str, why: &str) -> clap::Error {
    let message = format!("{name} cannot be used: {why}\n");
    clap::Error::raw(ErrorKind::ValueValidation, message)
}
