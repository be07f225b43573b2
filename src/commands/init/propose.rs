//! From what a look at a folder found to rules: pure.
//!
//! Every file that was seen, and is not said to be left out, is taken by one rule and no other.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::join::{self, Join};
use crate::commands::spell;
use crate::model::{Glob, Globs, ReportFormat, shown_bounded};

/// Most rules that are proposed.
const RULES_MAX: usize = 12;

/// Most kinds of file that a folder is told apart by.
const KINDS_MAX: usize = 3;

/// Longest name of a folder that a rule is named after, in characters.
const NAME_MAX: usize = 100;

/// Kinds of file, by extension.
const KINDS: [(&str, &[&str]); 9] = [
    (
        "documents",
        &[
            "pdf", "doc", "docx", "odt", "rtf", "ppt", "pptx", "odp", "xls", "xlsx", "ods", "epub",
        ],
    ),
    (
        "images",
        &[
            "png", "jpg", "jpeg", "gif", "webp", "tif", "tiff", "bmp", "svg", "heic", "avif",
        ],
    ),
    ("texts", &["txt", "md", "markdown", "rst", "log"]),
    ("pages", &["html", "htm", "xhtml"]),
    (
        "data",
        &[
            "csv", "tsv", "json", "jsonl", "ndjson", "xml", "yaml", "yml", "parquet",
        ],
    ),
    (
        "audio",
        &["mp3", "wav", "flac", "m4a", "ogg", "aac", "opus"],
    ),
    ("video", &["mp4", "mov", "mkv", "avi", "webm"]),
    ("mail", &["eml", "msg", "mbox"]),
    ("archives", &["zip", "tar", "gz", "tgz", "7z", "xz", "zst"]),
];

const PROGRAMS: &str = "made by programs";

const REPORTS: &str = "reports of earlier runs";

const UNFINISHED: &str = "still being written";

/// Why something is left out that may be missed.
const TOLD: [&str; 3] = [PROGRAMS, REPORTS, UNFINISHED];

/// Files that nobody wants to upload, and what they are.
const JUNK: [(&str, &str); 6] = [
    ("**/Thumbs.db", PROGRAMS),
    ("**/desktop.ini", PROGRAMS),
    ("**/~$*", PROGRAMS),
    ("**/*.tmp", UNFINISHED),
    ("**/*.part", UNFINISHED),
    ("**/*.crdownload", UNFINISHED),
];

/// What was seen in a folder.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Paths and sizes of its files, in order.
    pub files: Vec<(String, u64)>,
    /// Folders that were left out of the look.
    pub left_out: Vec<String>,
    /// Where the manifest will lie, if below the folder.
    pub manifest: Option<String>,
}

/// The beginning of a file.
#[derive(Debug, Clone)]
pub(super) struct Head {
    /// Its first bytes.
    pub bytes: Vec<u8>,
    /// Whether they are all of them.
    pub is_whole: bool,
}

/// What is proposed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Proposal {
    /// The rules, those for what lies at the top first; one that takes everything where there is
    /// nothing yet.
    pub rules: Vec<Rule>,
    /// What the reader should know, each in a sentence that is safe to show.
    pub notes: Vec<String>,
}

/// A rule that is proposed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub name: String,
    pub include: String,
    /// Patterns of what it leaves out, and why.
    pub exclude: BTreeMap<String, &'static str>,
    /// The expression, and the names of its groups.
    pub capture: Option<(String, Vec<&'static str>)>,
    pub sidecar: Option<String>,
    pub table: Option<Join>,
    pub files: usize,
    pub bytes: u64,
    pub empty: usize,
}

/// Where files lie that share their rules.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// At the top.
    Top,
    /// Below one folder at the top.
    Folder(String),
    /// Below folders at the top whose names are four digits.
    Years,
    /// Below any folder at the top.
    Anywhere,
}

impl Place {
    fn of(path: &str) -> Self {
        match path.split_once('/') {
            None => Self::Top,
            Some((first, _)) if is_four_digits(first) => Self::Years,
            Some((first, _)) => Self::Folder(first.to_owned()),
        }
    }

    /// What comes before a pattern on the names of its files.
    fn pattern(&self) -> String {
        match self {
            Self::Top => String::new(),
            Self::Folder(name) => format!("{}/**/", spell::glob(name)),
            Self::Years => "[0-9][0-9][0-9][0-9]/**/".to_owned(),
            Self::Anywhere => "*/**/".to_owned(),
        }
    }

    /// The pattern that takes everything there.
    fn everything(&self) -> String {
        match self {
            Self::Top => "*".to_owned(),
            _ => self.pattern().trim_end_matches('/').to_owned(),
        }
    }
}

/// Files that share a place, and perhaps a kind.
struct Group<'a> {
    place: Place,
    /// The kind, where there are others.
    kind: Option<&'static str>,
    /// All of them are of known kinds.
    extensions: Option<BTreeSet<&'a str>>,
    files: Vec<&'a (String, u64)>,
    /// The template of their sidecars' paths.
    sidecar: Option<String>,
}

/// Something that no rule is to take.
struct Left {
    /// A file, or a folder with a slash at its end.
    path: String,
    /// The pattern that leaves it out.
    pattern: String,
    why: &'static str,
}

impl Left {
    fn new(path: impl Into<String>, pattern: impl Into<String>, why: &'static str) -> Self {
        Self {
            path: path.into(),
            pattern: pattern.into(),
            why,
        }
    }

    /// Whether a rule would take it, or something in it.
    fn is_taken(&self, include: &Globs) -> bool {
        match self.path.strip_suffix('/') {
            Some(folder) => include.may_match_below(folder),
            None => include.matches(&self.path),
        }
    }
}

/// Proposes rules. `head` gives the beginning of a file, for tables and sidecars.
pub(super) fn propose(seen: &Seen, head: &dyn Fn(&str) -> Option<Head>) -> Proposal {
    let mut proposal = Proposal::default();
    let (files, mut left) = sift(seen);
    let mut tables = join::tables(&files, head);
    let grouped = loop {
        let mut others = files.clone();
        others.retain(|file| !tables.iter().any(|table| table.path == file.0));
        let grouped = groups(others, head);
        proposal.rules = rules(&grouped.groups, &tables);
        let before = tables.len();
        tables.retain(|table| {
            let mut joins = proposal.rules.iter().filter_map(|rule| rule.table.as_ref());
            joins.any(|join| join.path == table.path)
        });
        // A table that no rule joins is a file like others.
        if tables.len() == before {
            break grouped;
        }
    };
    for table in &tables {
        let pattern = spell::glob(&table.path);
        left.push(Left::new(&table.path, pattern, "read as a table"));
    }
    left.extend(grouped.sidecars);
    proposal.notes.extend(told(&left));
    for folder in grouped.unnamed {
        proposal.notes.push(format!(
            "no rule takes what lies in \"{}\": its name has a control character",
            shown_bounded(&folder)
        ));
    }
    if proposal.rules.is_empty() {
        proposal.rules.push(Rule {
            name: "everything".to_owned(),
            include: "**".to_owned(),
            ..Rule::default()
        });
    }
    for rule in &mut proposal.rules {
        let include = Globs::include(Glob::parse(&rule.include).into_iter().collect());
        let taken = left.iter().filter(|left| left.is_taken(&include));
        let patterns = taken.map(|left| (left.pattern.clone(), left.why));
        rule.exclude = patterns.collect();
    }
    proposal
}

/// The files that rules are for, and what is to be left out beside them.
fn sift(seen: &Seen) -> (Vec<&(String, u64)>, Vec<Left>) {
    let mut left = Vec::new();
    if let Some(path) = &seen.manifest {
        left.push(Left::new(path, spell::glob(path), "this file"));
    }
    for path in &seen.left_out {
        let pattern = match name_of(path) {
            "target" => format!("{}/**", spell::glob(path)),
            name => format!("**/{}/**", spell::glob(name)),
        };
        if !path.contains(char::is_control) {
            left.push(Left::new(format!("{path}/"), pattern, PROGRAMS));
        }
    }
    let reports = holds_reports(&seen.files);
    let junk = JUNK.iter().filter_map(|(glob, _)| Glob::parse(glob).ok());
    let junk = Globs::exclude(junk.collect());
    let mut files = Vec::new();
    for file in &seen.files {
        let path = file.0.as_str();
        if let Some(which) = junk.matching(path).next() {
            let (pattern, why) = JUNK[which];
            left.push(Left::new(path, pattern, why));
        } else if reports && path.starts_with("reports/") {
            left.push(Left::new(path, "reports/**", REPORTS));
        } else if seen.manifest.as_deref() != Some(path) {
            files.push(file);
        }
    }
    (files, left)
}

/// What is left out, by why, where no rule may show it.
fn told(left: &[Left]) -> Vec<String> {
    let mut by_why: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for left in left.iter().filter(|left| TOLD.contains(&left.why)) {
        by_why.entry(left.why).or_default().push(&left.path);
    }
    let notes = by_why.into_iter().map(|(why, paths)| {
        let first: Vec<String> = paths
            .iter()
            .take(3)
            .map(|path| shown_bounded(path))
            .collect();
        let more = match paths.len() - first.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("left out as {why}: {}{more}", first.join(", "))
    });
    notes.collect()
}

/// All files in groups.
struct Grouped<'a> {
    /// Each becomes a rule.
    groups: Vec<Group<'a>>,
    /// A sidecar of each place that has some.
    sidecars: Vec<Left>,
    /// Folders that no pattern can be written for.
    unnamed: Vec<String>,
}

fn groups<'a>(files: Vec<&'a (String, u64)>, head: &dyn Fn(&str) -> Option<Head>) -> Grouped<'a> {
    let mut places: BTreeMap<Place, Vec<&(String, u64)>> = BTreeMap::new();
    for file in &files {
        places.entry(Place::of(&file.0)).or_default().push(file);
    }
    if places.len() > RULES_MAX {
        places.clear();
        for file in files {
            let place = match Place::of(&file.0) {
                Place::Top => Place::Top,
                _ => Place::Anywhere,
            };
            places.entry(place).or_default().push(file);
        }
    }
    let mut grouped = Grouped {
        groups: Vec::new(),
        sidecars: Vec::new(),
        unnamed: Vec::new(),
    };
    let mut whole = Vec::new();
    for (place, mut files) in places {
        if let Place::Folder(name) = &place
            && name.contains(char::is_control)
        {
            grouped.unnamed.push(name.clone());
            continue;
        }
        let sidecar = join::sidecar(&files, place == Place::Top, head);
        if let Some(sidecar) = &sidecar {
            files.retain(|file| !file.0.ends_with(sidecar.suffix));
            let pattern = format!("{}*{}", place.pattern(), sidecar.suffix);
            grouped
                .sidecars
                .push(Left::new(&sidecar.first, pattern, "read as metadata"));
        }
        let group = Group {
            extensions: extensions(&files),
            sidecar: sidecar.as_ref().map(|sidecar| sidecar.template.clone()),
            kind: None,
            place,
            files,
        };
        let mut parts = by_kind(&group);
        for part in &mut parts {
            part.sidecar = sidecar
                .as_ref()
                .filter(|sidecar| {
                    part.files
                        .iter()
                        .any(|file| sidecar.has_one.contains(&file.0))
                })
                .map(|sidecar| sidecar.template.clone());
        }
        grouped.groups.extend(parts);
        whole.push(group);
    }
    if grouped.groups.len() > RULES_MAX {
        grouped.groups = whole;
    }
    grouped
}

/// The group's parts by kind of file, or the group as it is where there is one kind, too many, or
/// a file of no known one.
fn by_kind<'a>(group: &Group<'a>) -> Vec<Group<'a>> {
    let mut kinds: BTreeMap<Option<&'static str>, Vec<&'a (String, u64)>> = BTreeMap::new();
    for file in &group.files {
        kinds.entry(kind(&file.0)).or_default().push(file);
    }
    if kinds.contains_key(&None) || !(2..=KINDS_MAX).contains(&kinds.len()) {
        kinds = BTreeMap::from([(None, group.files.clone())]);
    }
    kinds
        .into_iter()
        .map(|(kind, files)| Group {
            place: group.place.clone(),
            kind,
            extensions: extensions(&files),
            files,
            sidecar: None,
        })
        .collect()
}

fn rules(groups: &[Group<'_>], tables: &[join::Table]) -> Vec<Rule> {
    let mut names = HashSet::new();
    let mut rules = Vec::new();
    for group in groups {
        let mut rule = rule(group);
        let first = rule.name.clone();
        let mut number = 2;
        while !names.insert(rule.name.clone()) {
            rule.name = format!("{first}-{number}");
            number += 1;
        }
        let paths: Vec<&str> = group.files.iter().map(|file| file.0.as_str()).collect();
        rule.table = tables.iter().find_map(|table| table.join(&paths));
        rules.push(rule);
    }
    for table in tables {
        let has_it = |rule: &Rule| {
            rule.table
                .as_ref()
                .is_some_and(|join| join.path == table.path)
        };
        let joined = rules.iter().zip(groups).filter(|(rule, _)| has_it(rule));
        let paths: Vec<&str> = joined
            .flat_map(|(_, group)| group.files.iter().map(|file| file.0.as_str()))
            .collect();
        let lacks_files = table.lacks_files(&paths);
        for join in rules.iter_mut().filter(|rule| has_it(rule)) {
            if let Some(join) = &mut join.table {
                join.lacks_files = lacks_files;
            }
        }
    }
    rules
}

fn rule(group: &Group<'_>) -> Rule {
    let kinds: BTreeSet<_> = group.files.iter().map(|file| kind(&file.0)).collect();
    let only = match kinds.first() {
        Some(Some(kind)) if kinds.len() == 1 => *kind,
        _ => "files",
    };
    let name = match (&group.place, group.kind) {
        (Place::Folder(name), kind) => {
            let short: String = name.chars().take(NAME_MAX).collect();
            let name = if short.trim().is_empty() {
                "folder".to_owned()
            } else {
                short
            };
            match kind {
                Some(kind) if kind != name => format!("{name}-{kind}"),
                _ => name,
            }
        }
        (Place::Top, kind) => kind.unwrap_or(only).to_owned(),
        (Place::Years, kind) => format!("yearly-{}", kind.unwrap_or(only)),
        (Place::Anywhere, kind) => format!("all-{}", kind.unwrap_or(only)),
    };
    let include = match &group.extensions {
        None => group.place.everything(),
        Some(extensions) => {
            let all: Vec<&str> = extensions.iter().copied().collect();
            let one = match all.as_slice() {
                [one] => (*one).to_owned(),
                several => format!("{{{}}}", several.join(",")),
            };
            format!("{}*.{one}", group.place.pattern())
        }
    };
    Rule {
        name,
        include,
        exclude: BTreeMap::new(),
        capture: capture(group),
        sidecar: group.sidecar.clone(),
        table: None,
        files: group.files.len(),
        bytes: group.files.iter().map(|file| file.1).sum(),
        empty: group.files.iter().filter(|file| file.1 == 0).count(),
    }
}

/// An expression for years, and months and days below them, that stand in the path of every file
/// of the group at the same depth; and for the folder at the top, where the group has many.
fn capture(group: &Group<'_>) -> Option<(String, Vec<&'static str>)> {
    let folders: Vec<Vec<&str>> = group
        .files
        .iter()
        .map(|file| {
            let mut parts: Vec<&str> = file.0.split('/').collect();
            parts.pop();
            parts
        })
        .collect();
    let depth = folders.iter().map(Vec::len).min()?;
    let all = |at: usize, is: fn(&str) -> bool| folders.iter().all(|parts| is(parts[at]));
    let mut found: BTreeMap<usize, (&'static str, &str)> = BTreeMap::new();
    if let Some(at) = (0..depth).find(|at| all(*at, is_year)) {
        found.insert(at, ("year", r"\d{4}"));
        if at + 1 < depth && all(at + 1, is_month) {
            found.insert(at + 1, ("month", r"\d{2}"));
            if at + 2 < depth && all(at + 2, is_day) {
                found.insert(at + 2, ("day", r"\d{2}"));
            }
        }
    }
    if group.place == Place::Anywhere {
        found.entry(0).or_insert(("folder", "[^/]+"));
    }
    let last = *found.keys().last()?;
    let mut expression = String::from("^");
    for at in 0..=last {
        match (found.get(&at), &group.place) {
            (Some((name, what)), _) => {
                expression.extend(["(?<", name, ">", what, ")/"]);
            }
            (None, Place::Folder(name)) if at == 0 && is_literal(name) => {
                expression.extend([name, "/"]);
            }
            (None, _) => expression.push_str("[^/]+/"),
        }
    }
    Some((expression, found.values().map(|(name, _)| *name).collect()))
}

fn is_four_digits(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_year(text: &str) -> bool {
    is_four_digits(text) && ("1900".."2100").contains(&text)
}

fn is_month(text: &str) -> bool {
    is_two_digits(text) && ("01"..="12").contains(&text)
}

fn is_day(text: &str) -> bool {
    is_two_digits(text) && ("01"..="31").contains(&text)
}

fn is_two_digits(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Whether a regular expression matches this text by itself.
fn is_literal(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' '))
}

/// The files' extensions as written, where all are of known kinds, and of few.
fn extensions<'a>(files: &[&'a (String, u64)]) -> Option<BTreeSet<&'a str>> {
    let kinds: BTreeSet<_> = files.iter().map(|file| kind(&file.0)).collect();
    if kinds.len() > KINDS_MAX {
        return None;
    }
    files
        .iter()
        .map(|file| kind(&file.0).and(extension(&file.0)))
        .collect()
}

fn kind(path: &str) -> Option<&'static str> {
    let extension = extension(path)?.to_ascii_lowercase();
    KINDS
        .iter()
        .find(|(_, known)| known.contains(&extension.as_str()))
        .map(|(kind, _)| *kind)
}

pub(super) fn extension(path: &str) -> Option<&str> {
    name_of(path)
        .rsplit_once('.')
        .filter(|(stem, _)| !stem.is_empty())
        .map(|(_, extension)| extension)
}

pub(super) fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// Whether the folder `reports` at the top holds nothing but files that reports could be.
fn holds_reports(files: &[(String, u64)]) -> bool {
    let below = || files.iter().filter(|file| file.0.starts_with("reports/"));
    below().next().is_some() && below().all(|file| ReportFormat::of_path(&file.0).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposed(files: &[&str]) -> Proposal {
        with_heads(files, &[])
    }

    fn with_heads(files: &[&str], heads: &[(&str, &str)]) -> Proposal {
        let paths = files.iter().copied().chain(heads.iter().map(|head| head.0));
        let mut files: Vec<(String, u64)> = paths.map(|path| (path.to_owned(), 1)).collect();
        files.sort();
        let seen = Seen {
            files,
            ..Seen::default()
        };
        propose(&seen, &|path| {
            let (_, text) = heads.iter().find(|(of, _)| *of == path)?;
            Some(Head {
                bytes: text.as_bytes().to_vec(),
                is_whole: !text.ends_with('~'),
            })
        })
    }

    /// Names and patterns.
    fn rules(proposal: &Proposal) -> Vec<(&str, &str)> {
        proposal
            .rules
            .iter()
            .map(|rule| (rule.name.as_str(), rule.include.as_str()))
            .collect()
    }

    fn capture(files: &[&str]) -> Option<String> {
        let mut proposal = proposed(files);
        assert_eq!(proposal.rules.len(), 1, "{proposal:#?}");
        Some(proposal.rules.remove(0).capture?.0)
    }

    #[test]
    fn a_folder_of_few_kinds_has_a_rule_for_each_and_one_of_many_has_one() {
        assert_eq!(
            rules(&proposed(&[
                "a/1.pdf",
                "a/2.png",
                "a/x/3.JPG",
                "b/1.txt",
                "b/2.md"
            ])),
            [
                ("a-documents", "a/**/*.pdf"),
                ("a-images", "a/**/*.{JPG,png}"),
                ("b", "b/**/*.{md,txt}"),
            ]
        );
        let many = ["a/1.pdf", "a/2.png", "a/3.txt", "a/4.mp3"];
        assert_eq!(rules(&proposed(&many)), [("a", "a/**")]);
        assert_eq!(rules(&proposed(&["a/1.pdf", "a/2"])), [("a", "a/**")]);
        assert_eq!(rules(&proposed(&["1.pdf", ".env"])), [("files", "*")]);
        let same = ["images/1.png", "images/1.txt"];
        let names = [
            ("images", "images/**/*.png"),
            ("images-texts", "images/**/*.txt"),
        ];
        assert_eq!(rules(&proposed(&same)), names);
    }

    #[test]
    fn no_more_rules_are_proposed_than_one_reads() {
        let path = |folder: usize, kind: &str| format!("folder-{folder:02}/x.{kind}");
        for folders in [1, 4, 6, 7, 12, 13, 500] {
            let files: Vec<String> = (0..folders)
                .flat_map(|n| [path(n, "pdf"), path(n, "png")])
                .collect();
            let files: Vec<&str> = files.iter().map(String::as_str).collect();
            let proposal = proposed(&files);
            assert!(proposal.rules.len() <= RULES_MAX, "{folders}");
            let all: usize = proposal.rules.iter().map(|rule| rule.files).sum();
            assert_eq!(all, files.len(), "{folders}");
        }
    }

    #[test]
    fn rules_have_names_of_their_own() {
        let files = [
            "files/1.pdf",
            "1.bin",
            "2024/1.pdf",
            "yearly-documents/1.pdf",
            " /1.pdf",
        ];
        let proposal = proposed(&files);
        let names: HashSet<&str> = rules(&proposal).iter().map(|rule| rule.0).collect();
        assert_eq!(names.len(), files.len(), "{names:?}");
    }

    #[test]
    fn what_every_path_has_at_one_depth_is_captured() {
        assert_eq!(
            capture(&["in/2024/1.pdf", "in/2025/x/1.pdf"]).as_deref(),
            Some(r"^in/(?<year>\d{4})/")
        );
        assert_eq!(
            capture(&["in.x/a/2024/02/1.pdf", "in.x/b/2024/12/1.pdf"]).as_deref(),
            Some(r"^[^/]+/[^/]+/(?<year>\d{4})/(?<month>\d{2})/")
        );
        assert_eq!(
            capture(&["in/2024/13/1.pdf"]).as_deref(),
            Some(r"^in/(?<year>\d{4})/")
        );
        for files in [
            ["in/2024/1.pdf", "in/1.pdf"],
            ["in/2024/1.pdf", "in/old/1.pdf"],
            ["in/1024/1.pdf", "in/3024/1.pdf"],
            ["in/2024.pdf", "in/2025.pdf"],
        ] {
            assert_eq!(capture(&files), None, "{files:?}");
        }
    }

    #[test]
    fn a_table_is_joined_by_the_column_and_the_part_of_the_path_that_fit() {
        let files = ["in/a.pdf", "in/b.pdf", "in/c.pdf"];
        for (text, key, by, lacks) in [
            (
                "file,x\na.pdf,1\nb.pdf,2\nc.pdf,3\n",
                "file",
                join::By::Name,
                (false, false),
            ),
            (
                "x,path\n1,in/a.pdf\n2,in/b.pdf\n",
                "path",
                join::By::Path,
                (true, false),
            ),
            ("id;x\na;1\nb;2\nd;3\n", "id", join::By::Stem, (true, true)),
            (
                "file,x\na.pdf,1\nb.pdf,2\nc.pd~",
                "file",
                join::By::Name,
                (true, false),
            ),
            (
                "\u{feff}file,x\r\na.pdf,\"1\n2\"\r\nb.pdf,2\r\n",
                "file",
                join::By::Name,
                (true, false),
            ),
        ] {
            let proposal = with_heads(&files, &[("t.csv", text)]);
            let [rule] = proposal.rules.as_slice() else {
                panic!("{proposal:#?}")
            };
            let join = rule.table.as_ref().expect(text);
            assert_eq!((join.key.as_str(), join.by), (key, by), "{text}");
            assert_eq!((join.lacks_rows, join.lacks_files), lacks, "{text}");
            assert!(rule.exclude.is_empty(), "its pattern takes no table");
        }
    }

    #[test]
    fn what_is_no_table_of_the_files_stays_a_file() {
        for text in [
            "",
            "file\n",
            "file,x\nq.pdf,1\n",
            "file,x\na.pdf,1\na.pdf,2\n",
            "file,x\na.pdf,1\n,2\n",
            "file,file\na.pdf,1\n",
            "file,\na.pdf,1\n",
            "file,x\na.pdf,1,2\n",
            "file,x\na.pdf,1\nx,2\ny,3\n",
        ] {
            let proposal = with_heads(&["in/a.pdf", "in/b.pdf"], &[("t.csv", text)]);
            assert_eq!(
                rules(&proposal),
                [("data", "*.csv"), ("in", "in/**/*.pdf")],
                "{text:?}"
            );
            assert!(proposal.rules.iter().all(|rule| rule.table.is_none()));
        }
    }

    #[test]
    fn sidecars_are_known_by_what_they_stand_beside_and_what_is_in_them() {
        let sidecar = |files: &[&str], heads: &[(&str, &str)]| {
            let mut proposal = with_heads(files, heads);
            let rule = proposal.rules.remove(0);
            (rule.sidecar, rule.exclude)
        };
        let (path, exclude) = sidecar(&["in/a.pdf"], &[("in/a.pdf.meta.yaml", "x: 1")]);
        assert_eq!(path.as_deref(), Some("${{ file.path }}.meta.yaml"));
        assert!(exclude.is_empty(), "its pattern takes no sidecar");
        let (_, exclude) = sidecar(&["in/a"], &[("in/a.meta.yaml", "x: 1")]);
        assert_eq!(exclude["in/**/*.meta.yaml"], "read as metadata");
        let (path, _) = sidecar(&["in/a.pdf", "in/b.pdf"], &[("in/b.json", "{}")]);
        assert_eq!(
            path.as_deref(),
            Some("${{ file.parent }}/${{ file.stem }}.json")
        );
        let (path, _) = sidecar(&["a.pdf"], &[("a.yml", "x: y")]);
        assert_eq!(path.as_deref(), Some("${{ file.stem }}.yml"));
        for (files, head) in [
            (["in/a.pdf", "in/b.pdf"], ("in/c.json", "{}")),
            (["in/a.pdf", "in/b.pdf"], ("in/a.json", "[1]")),
            (["in/a.pdf", "in/b.pdf"], ("in/a.json", "{\"x\": {}}")),
            (["in/a.pdf", "in/b.pdf"], ("in/a.json", "{\"x\": 1}~")),
        ] {
            let (path, exclude) = sidecar(&files, &[head]);
            assert_eq!(path, None, "{head:?}");
            assert!(exclude.is_empty());
        }
        let few = ["in/a.pdf", "in/b.pdf", "in/c.pdf"];
        assert_eq!(sidecar(&few, &[("in/a.json", "{}")]).0, None);
    }
}
