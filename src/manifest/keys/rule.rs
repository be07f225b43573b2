//! The keys of a rule, and of what lies beside its files.

use super::{Key, Kind, key, required};

const RULE_NAME: Key = required(key(
    "name",
    Kind::Text,
    "",
    "invoices",
    "Names the rule in plans and reports; unique in the manifest.",
));

const ROOT: Key = key(
    "root",
    Kind::Template,
    "",
    "inbox",
    "The folder to look in, relative to the manifest. Required, here or in `defaults`.",
);

const INCLUDE: Key = key(
    "include",
    Kind::Patterns,
    "",
    "[\"**/*.pdf\"]",
    "Globs on the path below `root`; a file must match one. Required, here or in `defaults`, \
     unless there is `files_from`.",
);

const EXCLUDE: Key = key(
    "exclude",
    Kind::Patterns,
    "none",
    "[\"**/draft-*\"]",
    "Globs; a file that matches any is left out, whatever includes it. Here wildcards match \
     names with a leading dot too.",
);

const DATASET: Key = key(
    "dataset_id",
    Kind::Template,
    "the service's default dataset",
    "3f2b7a52-0000-4000-8000-000000000001",
    "The Roe dataset the files go to.",
);

const DATASET_NAME: Key = key(
    "dataset",
    Kind::Template,
    "`dataset_id`",
    "Invoices 2025",
    "The dataset by its name instead of `dataset_id`: exactly one must have it. It is looked up in \
     the service's listing, by `plan` too, which then needs the API key.",
);

const ORGANIZATION: Key = key(
    "organization_id",
    Kind::Template,
    "`ROE_ORGANIZATION_ID` if set, else the key's own",
    "${{ env.ROE_ORGANIZATION_ID }}",
    "The Roe organization the dataset belongs to.",
);

const METADATA: Key = key(
    "metadata",
    Kind::Metadata,
    "none",
    "{folder: \"${{ file.parent }}\", source: scanner}",
    "Names and values that are stored with each file. Values are texts, kept exactly as written \
     (`1.10`, `007`, `no`). Of a name that several places give a value, the last counts: \
     `defaults`, the rule, `capture`, `table`, `sidecar`.",
);

const CAPTURE: Key = key(
    "capture",
    Kind::Pattern,
    "none",
    "'(?<year>\\d{4})/(?<vendor>[^/]+)/'",
    "A regular expression that is looked for in the path below `root`; what its named groups match \
     is `${{ capture.NAME }}`.",
);

const CAPTURE_METADATA: Key = key(
    "capture_metadata",
    Kind::Flag,
    "`false`",
    "true",
    "Whether all groups of `capture` become metadata under their own names. A file whose path does \
     not match is not sent then.",
);

const TABLE_KEY: Key = key(
    "table",
    Kind::Mapping(TABLE),
    "none",
    "{path: invoices.csv, key: file, match: \"${{ file.name }}\"}",
    "A table with a row for each file: CSV, TSV or JSON lines.",
);

const SIDECAR_KEY: Key = key(
    "sidecar",
    Kind::Sidecar,
    "none",
    "${{ file.path }}.meta.yaml",
    "A YAML or JSON file beside each file, by its path below `root`, whose names and texts become \
     metadata; `{path: …, on_missing: error}` where each file must have one.",
);

const WHEN: Key = key(
    "when",
    Kind::Condition,
    "every file",
    "${{ file.size > 0 }}",
    "Which of the files that the patterns match are taken: those for which this is true.",
);

const MIN_AGE: Key = key(
    "min_age",
    Kind::Duration,
    "none",
    "2m",
    "How long a file must not have changed to be taken: others may still be being written, and are \
     left to a later run.",
);

const MIN_SIZE: Key = key(
    "min_size",
    Kind::Size,
    "none",
    "1B",
    "The smallest file that is taken.",
);

const MAX_SIZE: Key = key(
    "max_size",
    Kind::Size,
    "none",
    "2GiB",
    "The largest file that is taken.",
);

const MAX_DEPTH: Key = key(
    "max_depth",
    Kind::Count(1000),
    "none",
    "1",
    "How deep to look: `1` takes files directly below `root` only.",
);

const FILES_FROM: Key = key(
    "files_from",
    Kind::Paths,
    "none",
    "files.txt",
    "Take the files of this list and no others: a text file, relative to the manifest, with a path \
     below `root` on each line, or a YAML list of such paths. A path that leads to no file is an \
     error. `include` may be left out then.",
);

const HIDDEN: Key = key(
    "hidden",
    Kind::Flag,
    "`false`",
    "true",
    "Whether wildcards of `include` match names with a leading dot too.",
);

const FOLLOW_SYMLINKS: Key = key(
    "follow_symlinks",
    Kind::Word(&["never", "within_root"]),
    "`never`",
    "within_root",
    "What to do with symbolic links: `never` follow them, or follow those that lead to somewhere \
     `within_root`.",
);

const FILE_NAME: Key = key(
    "file_name",
    Kind::Template,
    "`${{ file.name }}`",
    "${{ file.parent }}-${{ file.name }}",
    "The name the file gets in the dataset.",
);

const CONTENT_TYPE: Key = key(
    "content_type",
    Kind::Text,
    "`auto`: by the file name's extension",
    "application/pdf",
    "The media type the files are sent as.",
);

const ON_EMPTY: Key = key(
    "on_empty",
    Kind::Word(&["error", "warn", "ignore"]),
    "`error`",
    "ignore",
    "What an include pattern that matches no file is: an inbox that may be empty wants `ignore`.",
);

const COMPARE: Key = key(
    "compare",
    Kind::Word(&["content", "size_mtime"]),
    "`content`",
    "size_mtime",
    "When a file counts as changed since it was stored: `content` reads files whose time or inode \
     differ and compares digests; `size_mtime` believes size and time of change alone, and reads \
     nothing.",
);

const ON_CHANGE: Key = key(
    "on_change",
    Kind::Word(&["upload", "skip", "fail"]),
    "`upload`",
    "fail",
    "What to do with a file whose content changed since it was stored: `upload` it beside the \
     stored version (the API replaces nothing), `skip` it with a note, or `fail` its row.",
);

const ON_METADATA_CHANGE: Key = key(
    "on_metadata_change",
    Kind::Word(&["skip", "upload"]),
    "`skip`",
    "upload",
    "What to do with a file of which only the metadata differs from what was stored: `skip` it \
     with a note, or `upload` it again beside the stored version.",
);

/// The keys of one entry of `uploads`.
pub const RULE: &[Key] = &[
    RULE_NAME,
    ROOT,
    INCLUDE,
    EXCLUDE,
    WHEN,
    MIN_AGE,
    MIN_SIZE,
    MAX_SIZE,
    MAX_DEPTH,
    FILES_FROM,
    HIDDEN,
    FOLLOW_SYMLINKS,
    DATASET,
    DATASET_NAME,
    ORGANIZATION,
    METADATA,
    CAPTURE,
    CAPTURE_METADATA,
    TABLE_KEY,
    SIDECAR_KEY,
    FILE_NAME,
    CONTENT_TYPE,
    ON_EMPTY,
    COMPARE,
    ON_CHANGE,
    ON_METADATA_CHANGE,
];

/// The keys of `defaults`: a rule's, without its name.
pub const DEFAULTS: &[Key] = match RULE {
    [_name, rest @ ..] => rest,
    [] => &[],
};

/// What a missing counterpart is.
const REACTIONS: Kind = Kind::Word(&["error", "warn", "ignore"]);

/// The keys of `table`.
pub const TABLE: &[Key] = &[
    required(key(
        "path",
        Kind::Template,
        "",
        "invoices.csv",
        "The table, relative to the manifest. Its extension says what it is: `.csv`, `.tsv` or \
         `.tab`, `.jsonl` or `.ndjson`. A CSV's first line names the columns.",
    )),
    required(key(
        "key",
        Kind::Text,
        "",
        "file",
        "The column that says which file a row belongs to.",
    )),
    key(
        "match",
        Kind::Template,
        "`${{ file.path }}`",
        "${{ file.name }}",
        "What that column holds for a file.",
    ),
    key(
        "columns",
        Kind::Columns,
        "all but the key",
        "[customer, year]",
        "The columns that become metadata: a list, or a mapping from metadata names to columns; \
         `[]` for none. `${{ row.COLUMN }}` has the others too.",
    ),
    key(
        "delimiter",
        Kind::Text,
        "`,`, a tab in TSV",
        "\";\"",
        "What stands between two cells of a CSV: one character.",
    ),
    key(
        "files_without_row",
        REACTIONS,
        "`error`",
        "warn",
        "What a file without a row is.",
    ),
    key(
        "rows_without_file",
        REACTIONS,
        "`warn`",
        "error",
        "What a row is that no file of any rule with this table asks for.",
    ),
];

/// The keys of `sidecar` where it is a mapping.
pub const SIDECAR: &[Key] = &[
    required(key(
        "path",
        Kind::Template,
        "",
        "${{ file.path }}.meta.yaml",
        "The sidecar's path below `root`; a name that ends in `.json` is JSON, any other YAML.",
    )),
    key(
        "on_missing",
        REACTIONS,
        "`ignore`",
        "error",
        "What a file without a sidecar is.",
    ),
];
