//! The config files of a machine and of its user: where they are, whether they can be trusted, and
//! what they say. Which keys there are is told by who reads them.

mod read;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::getuid;
use serde_json::{Map, Value, json};

use crate::model::shown;

/// Below each folder of config files.
const FILE: &str = "roe-batch/config.yaml";

/// Where systems have config files unless they say so.
const SYSTEM: &str = "/etc/xdg";

/// Largest config file, in bytes.
const BYTES_MAX: u64 = 1024 * 1024;

/// What a key's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// A text, or a number where that is one.
    Text,
    /// The address of a service.
    Address,
    /// An address that may have a password in it: never shown.
    Secret,
    /// A path, relative to the file's folder.
    Path,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number,
    /// One of these words.
    Word(&'static [&'static str]),
    /// A text, or a mapping of ranges of the day, and `default`, to texts.
    Scheduled,
}

/// A key that a config file may have.
pub trait Key: Sync {
    /// As it is written.
    fn name(&self) -> &'static str;
    /// What it takes.
    fn takes(&self) -> Takes;
    /// What it means, in a sentence.
    fn doc(&self) -> &'static str;
    /// A value as one would write it.
    fn example(&self) -> &'static str;
    /// What holds where nobody says anything.
    fn default(&self) -> &'static str;
    /// Whether a value can be used.
    ///
    /// # Errors
    ///
    /// Says what may be written.
    fn check(&self, text: &OsStr) -> Result<(), String>;
}

/// What the environment says of where config files are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// `ROE_BATCH_CONFIG`: the one file, or none at all where it is empty.
    pub only: Option<OsString>,
    /// `XDG_CONFIG_HOME`.
    pub config_home: Option<OsString>,
    /// `HOME`.
    pub home: Option<OsString>,
    /// `XDG_CONFIG_DIRS`.
    pub config_dirs: Option<OsString>,
}

/// Whether a file must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
}

impl Places {
    /// The files that count, the strongest first: as the XDG Base Directory specification has it,
    /// relative folders are none.
    fn files(&self) -> (Vec<PathBuf>, Presence) {
        if let Some(only) = &self.only {
            let is_none = only.is_empty() || only == "/dev/null";
            let file = (!is_none).then(|| PathBuf::from(only));
            return (file.into_iter().collect(), Presence::Required);
        }
        let given = |name: &Option<OsString>| name.clone().filter(|name| !name.is_empty());
        let user = match given(&self.config_home) {
            Some(folder) => Some(PathBuf::from(folder)),
            None => given(&self.home).map(|home| Path::new(&home).join(".config")),
        };
        let system = given(&self.config_dirs).unwrap_or_else(|| SYSTEM.into());
        let system = system.as_bytes().split(|byte| *byte == b':');
        let system = system.map(|folder| PathBuf::from(OsStr::from_bytes(folder)));
        let folders = user.into_iter().chain(system);
        let mut files: Vec<PathBuf> = Vec::new();
        for folder in folders.filter(|folder| folder.is_absolute()) {
            let file = folder.join(FILE);
            if !files.contains(&file) {
                files.push(file);
            }
        }
        (files, Presence::Optional)
    }
}

/// What the config files say.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Those that were read, the strongest first.
    pub files: Vec<ConfigFile>,
}

/// One config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it says, in its order.
    pub entries: Vec<Entry>,
}

/// What a config file says of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: &'static str,
    /// The value, as a flag's would be written; a path is no longer relative to the file.
    pub text: OsString,
    /// The line, from one.
    pub line: usize,
}

impl Config {
    /// Reads the files that are there.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn load(places: &Places, keys: &[&'static dyn Key]) -> Result<Self, Problems> {
        let (paths, presence) = places.files();
        let mut files = Vec::new();
        let mut problems = Problems::default();
        for path in paths {
            let text = match open(&path, presence) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(problem) => {
                    problems.0.push(problem);
                    continue;
                }
            };
            match read::read(&path, &text, keys) {
                Ok(entries) => files.push(ConfigFile { path, entries }),
                Err(problem) => problems.0.push(problem),
            }
        }
        if problems.0.is_empty() {
            Ok(Self { files })
        } else {
            Err(problems)
        }
    }

    /// What the strongest file that says anything of a key says of it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<(&ConfigFile, &Entry)> {
        self.files.iter().find_map(|file| {
            let entry = file.entries.iter().find(|entry| entry.key == key)?;
            Some((file, entry))
        })
    }
}

/// What is wrong with config files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Each file's, in the order of their strength.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

/// What is wrong with one config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// In a line.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The same with the places where it is wrong, where it could be read.
    pub rendered: Option<String>,
}

impl std::fmt::Display for Problems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for problem in &self.0 {
            match (&problem.rendered, &problem.help) {
                (Some(rendered), _) => f.write_str(rendered)?,
                (None, Some(help)) => writeln!(f, "error: {}\n  help: {help}", problem.message)?,
                (None, None) => writeln!(f, "error: {}", problem.message)?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A config file's text; none where there is no such file. It chooses the host and the key, so what
/// others can write is not read.
fn open(path: &Path, presence: Presence) -> Result<Option<String>, Problem> {
    let name = shown(&path.to_string_lossy()).into_owned();
    let fail = |why: &str, help: &str| Problem {
        message: format!("the config file {name} cannot be used: {why}"),
        help: Some(help.to_owned()),
        rendered: None,
    };
    let read_it = "make it readable, or set ROE_BATCH_CONFIG= to do without";
    let found = match fs::metadata(path) {
        Ok(found) => found,
        // What lies in a folder that this user may not look into is another user's.
        Err(error) if presence == Presence::Optional && is_elsewhere(&error) => return Ok(None),
        Err(error) => return Err(fail(&cause(&error), read_it)),
    };
    if !found.is_file() {
        return Err(fail("it is no regular file", read_it));
    }
    let file = File::open(path).map_err(|error| fail(&cause(&error), read_it))?;
    let found = file
        .metadata()
        .map_err(|error| fail(&cause(&error), read_it))?;
    if found.mode() & 0o022 != 0 {
        return Err(fail(
            "others can write to it, and it chooses where the API key is sent",
            &format!("chmod go-w {name}"),
        ));
    }
    if found.uid() != 0 && found.uid() != getuid().as_raw() {
        return Err(fail(
            "it is neither yours nor root's, and it chooses where the API key is sent",
            "make it your own with chown, or set ROE_BATCH_CONFIG= to do without",
        ));
    }
    let mut bytes = Vec::new();
    file.take(BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| fail(&cause(&error), read_it))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(fail("it is larger than 1 MiB", "is this the file?"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.split(|b| *b == b'\n').count();
        fail(&format!("line {line} is not UTF-8"), "save it as UTF-8")
    })?;
    Ok(Some(
        text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned(),
    ))
}

fn is_elsewhere(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
    )
}

/// What the operating system says, without its number.
fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_lowercase()
}

/// The JSON Schema (draft-07) of a config file with these keys, for editors.
#[must_use]
pub fn schema(keys: &[&'static dyn Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| (key.name().to_owned(), property(*key)))
        .collect();
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "roe-batch config",
        "description": "What holds on this machine where flags, environment and manifests say \
                        nothing.",
        "type": "object",
        "additionalProperties": false,
        "properties": properties,
    })
}

fn property(key: &dyn Key) -> Value {
    let mut value = match key.takes() {
        Takes::Address | Takes::Secret | Takes::Path => json!({"type": "string"}),
        Takes::Text => json!({"type": ["string", "number"]}),
        Takes::Flag => json!({"type": "boolean"}),
        Takes::Number => json!({"type": "integer", "minimum": 1}),
        Takes::Word(words) => json!({"enum": words}),
        Takes::Scheduled => json!({"oneOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": {"type": "string"}},
        ]}),
    };
    if let Some(parts) = value.as_object_mut() {
        let description = format!("{} Default: {}.", key.doc(), key.default());
        parts.insert("description".to_owned(), description.into());
        parts.insert("examples".to_owned(), json!([example(key)]));
    }
    value
}

fn example(key: &dyn Key) -> Value {
    match key.takes() {
        Takes::Flag => json!(key.example() == "true"),
        Takes::Number => key
            .example()
            .parse::<u32>()
            .map_or(Value::Null, Value::from),
        _ => key.example().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(home: &str, config_home: &str, dirs: &str) -> Vec<String> {
        let set = |text: &str| (text != "-").then(|| text.into());
        let places = Places {
            only: None,
            config_home: set(config_home),
            home: set(home),
            config_dirs: set(dirs),
        };
        let files = places.files().0;
        files
            .iter()
            .map(|path| path.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn files_are_where_the_specification_says() {
        for (home, config_home, dirs, expected) in [
            (
                "/h",
                "-",
                "-",
                &[
                    "/h/.config/roe-batch/config.yaml",
                    "/etc/xdg/roe-batch/config.yaml",
                ][..],
            ),
            (
                "/h",
                "/c",
                "/a:/b:/a",
                &[
                    "/c/roe-batch/config.yaml",
                    "/a/roe-batch/config.yaml",
                    "/b/roe-batch/config.yaml",
                ],
            ),
            (
                "/h",
                "",
                "",
                &[
                    "/h/.config/roe-batch/config.yaml",
                    "/etc/xdg/roe-batch/config.yaml",
                ],
            ),
            ("-", "-", "-", &["/etc/xdg/roe-batch/config.yaml"]),
            ("h", "-", "b:./c:", &[]),
            ("/h", "c", "/b", &["/b/roe-batch/config.yaml"]),
        ] {
            assert_eq!(
                places(home, config_home, dirs),
                expected,
                "{home} {config_home} {dirs}"
            );
        }
    }

    #[test]
    fn one_file_can_be_named_or_none() {
        for (only, expected) in [("", None), ("/dev/null", None), ("c.yaml", Some("c.yaml"))] {
            let places = Places {
                only: Some(only.into()),
                home: Some("/h".into()),
                ..Places::default()
            };
            let files = places.files();
            assert_eq!(files.0.first(), expected.map(PathBuf::from).as_ref());
            assert_eq!(files.1, Presence::Required);
        }
    }
}
