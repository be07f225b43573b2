//! Files that say something about other files: tables at the top, sidecars beside them. Pure.

use std::collections::HashSet;
use std::io::Cursor;

use super::propose::{Head, extension, name_of};
use crate::model::TAG_KEY;
use crate::sidecar;
use crate::table::{self, Format, Spec};

/// Most tables that are looked into.
const TABLES_MAX: usize = 5;

/// Most sidecars of a folder that are looked into.
const SIDECARS_MAX: usize = 50;

/// How the names of sidecars end.
const SUFFIXES: [&str; 6] = [
    ".meta.yaml",
    ".meta.yml",
    ".meta.json",
    ".yaml",
    ".yml",
    ".json",
];

/// Files that stand beside others of the same name and say something about them.
#[derive(Debug)]
pub(super) struct Sidecar {
    /// How their names end.
    pub suffix: &'static str,
    /// The path of a file's own, as a template.
    pub template: String,
    /// The files that have one.
    pub has_one: HashSet<String>,
    /// One of them.
    pub first: String,
}

/// The part of a file's path that its sidecar's begins with.
type Way = fn(&str) -> &str;

/// The sidecars of the files of one place: all of its files of such an ending, each beside a file
/// that it can be about, of which at least every other one has one.
pub(super) fn sidecar(
    files: &[&(String, u64)],
    is_top: bool,
    head: &dyn Fn(&str) -> Option<Head>,
) -> Option<Sidecar> {
    let parent = if is_top { "" } else { "${{ file.parent }}/" };
    SUFFIXES.into_iter().find_map(|suffix| {
        let (beside, about): (Vec<&str>, Vec<&str>) = files
            .iter()
            .map(|file| file.0.as_str())
            .partition(|path| path.ends_with(suffix));
        let by_path: (Way, _) = (|path| path, format!("${{{{ file.path }}}}{suffix}"));
        let by_stem: (Way, _) = (stem, format!("{parent}${{{{ file.stem }}}}{suffix}"));
        let ways = [by_path, by_stem];
        ways.into_iter().find_map(|(way, template)| {
            let bases: HashSet<&str> = beside
                .iter()
                .map(|path| &path[..path.len() - suffix.len()])
                .collect();
            let possible: HashSet<&str> = about.iter().map(|path| way(path)).collect();
            let has_one: HashSet<String> = about
                .iter()
                .filter(|path| bases.contains(way(path)))
                .map(|path| (*path).to_owned())
                .collect();
            let fits = !bases.is_empty()
                && bases.iter().all(|base| possible.contains(base))
                && 2 * has_one.len() >= about.len()
                && beside
                    .iter()
                    .take(SIDECARS_MAX)
                    .all(|path| is_flat(path, head));
            fits.then(|| Sidecar {
                suffix,
                template,
                has_one,
                first: beside[0].to_owned(),
            })
        })
    })
}

/// The path without the last extension.
fn stem(path: &str) -> &str {
    let from = path.len() - name_of(path).len();
    match path[from..].rfind('.') {
        Some(at) if at > 0 => &path[..from + at],
        _ => path,
    }
}

/// How a row finds its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum By {
    Name,
    Path,
    Stem,
}

impl By {
    const ALL: [Self; 3] = [Self::Name, Self::Path, Self::Stem];

    fn of(self, path: &str) -> &str {
        match self {
            Self::Name => name_of(path),
            Self::Path => path,
            Self::Stem => stem(name_of(path)),
        }
    }

    pub(super) fn template(self) -> &'static str {
        match self {
            Self::Name => "${{ file.name }}",
            Self::Path => "${{ file.path }}",
            Self::Stem => "${{ file.stem }}",
        }
    }
}

/// A table whose rows are about files that were seen.
#[derive(Debug)]
pub(super) struct Table {
    pub path: String,
    key: String,
    by: By,
    columns: Vec<String>,
    delimiter: char,
    keys: HashSet<String>,
    is_whole: bool,
}

/// A table that is joined to the files of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Join {
    pub path: String,
    pub key: String,
    pub by: By,
    /// The other columns.
    pub columns: Vec<String>,
    pub delimiter: char,
    /// Whether a file of the rule may have no row.
    pub lacks_rows: bool,
    /// Whether a row is about no file of a rule that the table is joined to.
    pub lacks_files: bool,
}

/// The CSV and TSV files at the top with a column of which at least every other value names a file.
pub(super) fn tables(files: &[&(String, u64)], head: &dyn Fn(&str) -> Option<Head>) -> Vec<Table> {
    let at_top = files.iter().map(|file| file.0.as_str()).filter(|path| {
        let kind = extension(path).map(str::to_ascii_lowercase);
        !path.contains('/') && matches!(kind.as_deref(), Some("csv" | "tsv"))
    });
    let others = |table: &str, by: By| -> HashSet<&str> {
        let paths = files.iter().map(|file| file.0.as_str());
        paths
            .filter(|path| *path != table)
            .map(|path| by.of(path))
            .collect()
    };
    at_top
        .take(TABLES_MAX)
        .filter_map(|path| {
            let named = By::ALL.map(|by| (by, others(path, by)));
            read(path, &head(path)?, &named)
        })
        .collect()
}

fn read(path: &str, head: &Head, named: &[(By, HashSet<&str>)]) -> Option<Table> {
    let whole = whole_lines(head);
    let text = std::str::from_utf8(whole).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.lines().next()?;
    let format = Format::of_path(path)?;
    let delimiter = if format == Format::Tsv {
        '\t'
    } else if !first.contains(',') && first.contains(';') {
        ';'
    } else {
        ','
    };
    let byte = u8::try_from(delimiter).ok()?;
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(byte)
        .from_reader(text.as_bytes());
    let headers: Vec<String> = reader
        .headers()
        .ok()?
        .iter()
        .map(ToOwned::to_owned)
        .collect();
    let distinct: HashSet<&String> = headers.iter().collect();
    let is_usable = |name: &String| {
        !name.trim().is_empty() && !name.contains(char::is_control) && name != TAG_KEY
    };
    if distinct.len() != headers.len() || !headers.iter().all(is_usable) {
        return None;
    }
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().ok()?;
    let mut best: Option<(usize, usize, By)> = None;
    for column in 0..headers.len() {
        for (by, names) in named {
            // A name without its extension may be any word or number.
            if *by == By::Stem && column > 0 {
                continue;
            }
            let found = rows
                .iter()
                .filter(|row| names.contains(&row[column]))
                .count();
            if found > best.map_or(0, |(most, ..)| most) {
                best = Some((found, column, *by));
            }
        }
    }
    let (found, column, by) = best?;
    let keys: HashSet<String> = rows.iter().map(|row| row[column].to_owned()).collect();
    if 2 * found < rows.len() || keys.len() < rows.len() || keys.contains("") {
        return None;
    }
    let mut columns = headers;
    let key = columns.remove(column);
    let spec = Spec {
        file: path,
        format,
        delimiter: Some(byte),
        key: &key,
    };
    // Whoever uploads reads it in another way than it was read here.
    if !table::join(Cursor::new(whole), &spec, &[])
        .diagnostics
        .is_empty()
    {
        return None;
    }
    Some(Table {
        path: path.to_owned(),
        key,
        by,
        columns,
        delimiter,
        keys,
        is_whole: head.is_whole,
    })
}

/// What was read of a file, without the line that it may have been cut in.
fn whole_lines(head: &Head) -> &[u8] {
    let end = if head.is_whole {
        head.bytes.len()
    } else {
        head.bytes
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1)
    };
    &head.bytes[..end]
}

impl Table {
    /// Joins the table to files of which at least every other one has a row, as far as it was read.
    pub(super) fn join(&self, paths: &[&str]) -> Option<Join> {
        let names: HashSet<&str> = paths.iter().map(|path| self.by.of(path)).collect();
        let rows = names
            .iter()
            .filter(|name| self.keys.contains(**name))
            .count();
        let most = if self.is_whole {
            names.len()
        } else {
            names.len().min(self.keys.len())
        };
        (rows > 0 && 2 * rows >= most).then(|| Join {
            path: self.path.clone(),
            key: self.key.clone(),
            by: self.by,
            columns: self.columns.clone(),
            delimiter: self.delimiter,
            lacks_rows: !self.is_whole || rows < names.len(),
            lacks_files: self.lacks_files(paths),
        })
    }

    /// Whether a row is about none of these files; of a table that was cut nobody knows.
    pub(super) fn lacks_files(&self, paths: &[&str]) -> bool {
        let names: HashSet<&str> = paths.iter().map(|path| self.by.of(path)).collect();
        self.is_whole && self.keys.iter().any(|key| !names.contains(key.as_str()))
    }
}

/// Whether a file can be a sidecar, as far as its content goes.
fn is_flat(path: &str, head: &dyn Fn(&str) -> Option<Head>) -> bool {
    let head = head(path).filter(|head| head.is_whole);
    head.is_some_and(|head| sidecar::parse(&head.bytes, path).is_ok())
}
