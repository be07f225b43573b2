//! Every key of a manifest, once: the reader knows its keys from here, and so do the schema and
//! the README's reference.

mod annotate;
mod rule;

use serde_json::{Map, Value, json};

use crate::model::CONCURRENCY_MAX;

pub use self::rule::{DEFAULTS, RULE, SIDECAR, TABLE};

/// What a key's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The number 1, the format's version.
    Version,
    /// A text.
    Text,
    /// A text that may hold `${{ … }}`.
    Template,
    /// A whole number, from one to a maximum.
    Count(u32),
    /// A whole number, from one to a maximum, or a mapping of [`CONCURRENCY`].
    Concurrency(u32),
    /// A text, or a mapping from ranges of the day to texts.
    Scheduled,
    /// A text or a whole number.
    Budget,
    /// A length of time, such as `90s` or `2m`.
    Duration,
    /// A count of bytes, such as `10KiB`.
    Size,
    /// `true` or `false`.
    Flag,
    /// A regular expression with named groups.
    Pattern,
    /// `${{ … }}` that yields true or false.
    Condition,
    /// A path, or a list of paths.
    Paths,
    /// A list of names, or a mapping from names to names.
    Columns,
    /// A text that may hold `${{ … }}`, or a mapping of [`SIDECAR`].
    Sidecar,
    /// A mapping from names to texts that hold for the whole manifest.
    Constants,
    /// One pattern or a list of them.
    Patterns,
    /// A mapping from names to scalars that may hold `${{ … }}`.
    Metadata,
    /// One of these words.
    Word(&'static [&'static str]),
    /// One report or a list of them.
    Reports,
    /// A mapping of [`HOOK`] or a list of them.
    Hooks,
    /// A list of texts that may hold `${{ … }}`.
    Words,
    /// A mapping of other keys.
    Mapping(&'static [Key]),
    /// A list of mappings of other keys.
    List(&'static [Key]),
}

/// One key: its name, what it takes, what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// As written in YAML.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether a manifest without it is an error.
    pub required: bool,
    /// What it means, in a sentence or two of Markdown.
    pub doc: &'static str,
    /// What holds when it is left out.
    pub default: &'static str,
    /// A value as one would write it.
    pub example: &'static str,
}

const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    example: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        kind,
        required: false,
        doc,
        default,
        example,
    }
}

const fn required(key: Key) -> Key {
    Key {
        required: true,
        ..key
    }
}

/// The keys of the document.
pub const MANIFEST: &[Key] = &[
    required(key(
        "version",
        Kind::Version,
        "",
        "1",
        "The manifest format: `1`.",
    )),
    key(
        "name",
        Kind::Text,
        "the file's name without its extension",
        "invoices",
        "Names the stream of runs in the ledger and in reports.",
    ),
    key(
        "vars",
        Kind::Constants,
        "none",
        "{client: acme, dataset: 3f2b7a52-0000-4000-8000-000000000001}",
        "Constants to use as `${{ vars.NAME }}`; they may hold `${{ env.NAME }}`, and `--set \
         NAME=VALUE` overrides them.",
    ),
    key(
        "defaults",
        Kind::Mapping(DEFAULTS),
        "nothing",
        "{dataset_id: 3f2b7a52-0000-4000-8000-000000000001}",
        "Anything a rule may say except its name; a rule's own word wins. Metadata is joined key \
         by key.",
    ),
    required(key(
        "uploads",
        Kind::List(RULE),
        "",
        "[{name: all, root: inbox, include: \"**\"}]",
        "The rules: which files go where, with which metadata.",
    )),
    key(
        "overlap",
        Kind::Word(&["error", "first", "all"]),
        "`error`",
        "first",
        "What to do with a file that several rules send to one target: `error` sends it by none and \
         says so, `first` by the first of them in the manifest's order, `all` by each, as a file of \
         its own.",
    ),
    key(
        "run",
        Kind::Mapping(RUN),
        "nothing",
        "{concurrency: 16}",
        "How the uploads are carried out.",
    ),
    key(
        "report",
        Kind::Reports,
        "CSV and JSON in `reports/` of the state folder, named as the manifest",
        "[{path: \"reports/${{ run.id }}.csv\"}]",
        "Where reports are written, relative to the manifest; the extension (`.csv`, `.json`, \
         `.jsonl`, `.html`) chooses the format. One path, or a list of paths or of `{path: …}`.",
    ),
    key(
        "on_finish",
        Kind::Hooks,
        "nobody",
        "{command: [notify-team, \"${{ manifest.name }}\"], on: failure}",
        "Who is told when a run is over: its summary in JSON is posted to a URL, or given to a \
         command. One mapping or a list of them; only where `apply --allow-hooks` allows it.",
    ),
];

/// The keys of `concurrency` where it is a mapping.
pub const CONCURRENCY: &[Key] = &[
    required(key(
        "max",
        Kind::Count(CONCURRENCY_MAX),
        "",
        "64",
        "The most files that are on their way at once.",
    )),
    key(
        "adaptive",
        Kind::Flag,
        "`false`",
        "true",
        "Whether to find out how many the service likes: more as long as answers come well, fewer \
         where it refuses, fails or slows down.",
    ),
];

/// The keys of `run`.
pub const RUN: &[Key] = &[
    key(
        "concurrency",
        Kind::Concurrency(CONCURRENCY_MAX),
        "8",
        "16",
        "How many files are on their way at once: a number, or `{max: 64, adaptive: true}` to find \
         out how many the service likes.",
    ),
    key(
        "rate",
        Kind::Scheduled,
        "`unlimited`",
        "50/s",
        "How many requests are begun in a second (`/s`), minute (`/m`) or hour (`/h`); by time of \
         day as in `{\"08:00-18:00\": 5/s, default: unlimited}`.",
    ),
    key(
        "bandwidth",
        Kind::Scheduled,
        "`unlimited`",
        "20MiB/s",
        "How many bytes are sent in a second; by time of day as in `{\"08:00-18:00\": 2MiB/s, \
         default: unlimited}`.",
    ),
    key(
        "max_attempts",
        Kind::Count(100),
        "5",
        "3",
        "How often one file is tried in a run. Only what was certainly not stored is tried again.",
    ),
    key(
        "failure_budget",
        Kind::Budget,
        "none",
        "5%",
        "How many of the files to upload may fail, be rejected or end in doubt, as a number or a \
         percentage; one more, and nothing new is begun.",
    ),
    key(
        "retry_for",
        Kind::Duration,
        "`15m`",
        "1h",
        "How long after a file's first attempt another one may begin, and how long a service that \
         fails everything is waited for before the run gives up.",
    ),
    key(
        "deadline",
        Kind::Duration,
        "none",
        "2h",
        "How long a run may take: then nothing new is begun, no retry either, what is under way may \
         end within `--grace`, and the next run goes on.",
    ),
    key(
        "in_doubt",
        Kind::Word(&["verify", "hold", "resend"]),
        "`verify`",
        "hold",
        "What to do with files that the service may have stored: `verify` looks for them in the \
         dataset's listing, `hold` leaves them to `roe-batch resolve`, `resend` sends them again \
         and may store them twice.",
    ),
    key(
        "settle",
        Kind::Duration,
        "`2m`",
        "10m",
        "How long after a first look at the listing a file in doubt must still be absent before it \
         is sent again.",
    ),
    key(
        "tag",
        Kind::Flag,
        "`false`",
        "true",
        "Whether to add `roe_batch_key`, a key of each attempt's own, to the metadata: it makes \
         `verify` certain.",
    ),
];

/// The keys of one entry of `report`.
pub const REPORT: &[Key] = &[required(key(
    "path",
    Kind::Template,
    "",
    "reports/${{ run.id }}.csv",
    "Where the report is written, relative to the manifest.",
))];

/// The keys of one entry of `on_finish`.
pub const HOOK: &[Key] = &[
    key(
        "url",
        Kind::Template,
        "none",
        "https://hooks.example.com/roe-batch",
        "Where the summary is posted to: `https`, or `http` on this machine. It is never shown \
         whole, and may hold a secret: `${{ env.HOOK_URL }}`.",
    ),
    key(
        "command",
        Kind::Words,
        "none",
        "[notify-team, --run, \"${{ run.id }}\"]",
        "A program and its arguments, which gets the summary on standard input; no shell reads it. \
         A program named with a `/` is relative to the manifest's folder, in which it runs.",
    ),
    key(
        "timeout",
        Kind::Duration,
        "`30s`",
        "2m",
        "How long it may take, ten minutes at the most; a command that takes longer is killed.",
    ),
    key(
        "on",
        Kind::Word(&["always", "stored", "failure", "change"]),
        "`always`",
        "failure",
        "Of which runs it is told: of each, of those that stored a file, of those with another exit \
         code than 0, or of those with another one than the run before.",
    ),
];

/// The JSON Schema (draft-07) of a manifest, for editors.
#[must_use]
pub fn schema() -> Value {
    let mut schema = mapping(MANIFEST);
    let head = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "roe-batch manifest",
        "description": "Which files go to which Roe dataset, with which metadata.",
    });
    if let (Value::Object(mut whole), Value::Object(rest)) = (head, schema.take()) {
        whole.extend(rest);
        // Whatever is written once there and used by alias elsewhere.
        whole.insert("patternProperties".to_owned(), json!({"^x-": {}}));
        schema = Value::Object(whole);
    }
    schema
}

fn mapping(keys: &[Key]) -> Value {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| (key.name.to_owned(), property(key)))
        .collect();
    let required: Vec<&str> = keys.iter().filter(|k| k.required).map(|k| k.name).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn property(key: &Key) -> Value {
    let mut value = match key.kind {
        Kind::Version => json!({"const": 1}),
        Kind::Text | Kind::Template | Kind::Condition => {
            json!({"type": ["string", "number", "boolean"]})
        }
        Kind::Columns => json!({"oneOf": [
            {"type": "array", "items": {"type": "string"}},
            {"type": "object", "additionalProperties": {"type": "string"}},
        ]}),
        Kind::Sidecar => json!({"oneOf": [{"type": "string"}, mapping(SIDECAR)]}),
        Kind::Count(max) => json!({"type": "integer", "minimum": 1, "maximum": max}),
        Kind::Concurrency(max) => json!({"oneOf": [
            {"type": "integer", "minimum": 1, "maximum": max},
            mapping(CONCURRENCY),
        ]}),
        Kind::Scheduled => json!({"oneOf": [
            {"type": "string"},
            {"type": "object", "additionalProperties": {"type": "string"}},
        ]}),
        Kind::Budget => json!({"oneOf": [
            {"type": "string"},
            {"type": "integer", "minimum": 0},
        ]}),
        Kind::Duration | Kind::Pattern => json!({"type": "string"}),
        Kind::Size => json!({"type": ["string", "integer"]}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Patterns | Kind::Paths => json!({"oneOf": [
            {"type": "string"},
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
        ]}),
        Kind::Metadata | Kind::Constants => json!({
            "type": "object",
            "additionalProperties": {"type": ["string", "number", "boolean"]},
        }),
        Kind::Word(words) => json!({"enum": words}),
        Kind::Reports => {
            let one = json!({"oneOf": [{"type": "string"}, mapping(REPORT)]});
            json!({"oneOf": [{"type": "string"}, {"type": "array", "items": one}]})
        }
        Kind::Hooks => json!({"oneOf": [
            mapping(HOOK),
            {"type": "array", "minItems": 1, "maxItems": 16, "items": mapping(HOOK)},
        ]}),
        Kind::Words => json!({
            "type": "array",
            "minItems": 1,
            "items": {"type": ["string", "number", "boolean"]},
        }),
        Kind::Mapping(keys) => mapping(keys),
        Kind::List(keys) => json!({"type": "array", "minItems": 1, "items": mapping(keys)}),
    };
    annotate::annotate(key, &mut value);
    value
}
