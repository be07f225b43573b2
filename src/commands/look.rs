//! Everything that can be known of a manifest without network and ledger: its text, its roots, its
//! tables and sidecars, and every problem of them. What `plan`, `apply`, `check` and `explain`
//! share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::draft::{intact, ledger_failure};
use super::hooks;
use super::near::{self, Near};
use crate::cli::LookSettings;
use crate::diagnostic::{Diagnostic, Place, Severity, Source, excerpt, excerpt_of};
use crate::error::{Exit, Failure};
use crate::ledger::StateFolder;
use crate::manifest::{
    self, BYTES_MAX, FilesFrom, FollowSymlinks, Given, Manifest, Reaction, Rule,
};
use crate::model::{Globs, Links, OrganizationId, Origin, RelativePath, RunId, shown};
use crate::plan::beside::{SidecarFound, SidecarNeed, TableNeed};
use crate::plan::{Basis, Selection, unmatched};
use crate::sidecar;
use crate::source::{Roots, Survey, Want, survey};
use crate::spill::Spill;
use crate::table::{self, Format, Spec};
use crate::template::Values;

/// Longest list of files that is read, in bytes.
const LIST_MAX: u64 = 1 << 30;

/// Longest path that a list may hold, in bytes.
const PATH_MAX: usize = 64 * 1024;

/// Problems of one list that are shown.
const LIST_PROBLEMS: usize = 20;

/// Bytes of what is found, and of what is known of it, that stay in memory: about a million files'
/// worth, so that what is beyond that costs little beside the files themselves.
const ROOM: usize = 64 << 20;

/// How closely a manifest is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// To carry it out.
    Run,
    /// To find what is wrong with it: also what it leaves out is looked at.
    Check,
}

/// A manifest that was read, whose roots were walked and whose tables were joined.
#[derive(Debug)]
pub(super) struct Looked {
    pub source: Source,
    pub manifest: Manifest,
    /// Every problem found so far.
    pub diagnostics: Vec<Diagnostic>,
    /// What does no harm and no good.
    pub unused: Vec<Diagnostic>,
    pub state: StateFolder,
    pub survey: Survey,
    pub selection: Selection,
    /// The tables that could be read: the rules that share one, and its columns.
    pub tables: Vec<(Vec<usize>, Vec<Arc<str>>)>,
    /// For each rule with sidecars, its first file, and where the sidecar of it was looked for.
    pub sidecars: BTreeMap<usize, (RelativePath, RelativePath)>,
}

impl Looked {
    /// Whether nothing is to be done until something is mended.
    pub(super) fn is_invalid(&self) -> bool {
        let mut diagnostics = self.diagnostics.iter();
        diagnostics.any(|diagnostic| diagnostic.severity == Severity::Error)
    }

    pub(super) fn basis<'a>(
        &'a self,
        origin: &'a Origin,
        organization: Option<&'a OrganizationId>,
        run: (&'a RunId, Timestamp),
    ) -> Basis<'a> {
        Basis {
            manifest: &self.manifest,
            candidates: &self.survey.candidates,
            origin,
            organization,
            run,
        }
    }
}

/// Looks at one manifest.
pub(super) fn look(
    settings: &LookSettings,
    path: &Path,
    source: Source,
    (origin, run, started): (&Origin, &RunId, Timestamp),
    care: Care,
) -> Result<Looked, Failure> {
    let state = state_folder(path, settings.state.as_deref())?;
    let given = Given {
        environment: &settings.environment,
        set: &settings.set,
    };
    let reading = manifest::read(&source, path, given);
    let (mut manifest, mut diagnostics) = (reading.manifest, reading.diagnostics);
    for rule in &mut manifest.rules {
        rule.select.min_age = rule.select.min_age.max(settings.min_age);
    }
    let is_whole = diagnostics.iter().all(|d| d.severity != Severity::Error);
    let mut wants = Vec::with_capacity(manifest.rules.len());
    let (mut lists, mut near) = (HashMap::new(), Near::default());
    for rule in &manifest.rules {
        let found = (&mut near, &mut diagnostics);
        wants.push(want(rule, care, &mut lists, found));
    }
    let spill = Arc::new(spill(&state));
    let survey = survey(&wants, state.home(), &[state.path().to_owned()], &spill);
    diagnostics.extend(unusable_roots(&manifest, &survey, &mut near));
    diagnostics.extend(missing(&manifest, (&wants, &lists), &survey, &mut near));
    let mut incomplete: HashSet<usize> = survey.missing.iter().map(|(rule, _)| *rule).collect();
    incomplete.extend(
        manifest
            .rules
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| {
                let Some(FilesFrom::File(path, _)) = &rule.select.files_from else {
                    return None;
                };
                lists
                    .get(path)
                    .is_some_and(|list| list.is_broken)
                    .then_some(index)
            }),
    );
    for (rule, pattern) in unmatched(&manifest, &survey.candidates) {
        // What is wrong with a list is told there.
        if incomplete.contains(&rule) {
            continue;
        }
        diagnostics.extend(unmatched_pattern(&manifest.rules[rule], pattern, &mut near));
    }
    diagnostics.extend(uploaded_reports(&manifest, path, (run, started)));
    diagnostics.extend(hooks::mistakes(&manifest, &source, (run, started)));
    let mut looked = Looked {
        source,
        manifest,
        diagnostics,
        unused: reading.unused,
        state,
        survey,
        selection: Selection::default(),
        tables: Vec::new(),
        sidecars: BTreeMap::new(),
    };
    let mut selection = Selection::default();
    let mut found = Vec::new();
    let mut tables = Vec::new();
    let mut sidecars = BTreeMap::new();
    let basis = looked.basis(origin, settings.organization.as_ref(), (run, started));
    if !basis.manifest.rules.is_empty() {
        selection = Selection::new(&basis);
        let needs = selection.tables(&basis);
        for need in needs {
            let told = (&mut near, &mut found);
            join(&basis, &mut selection, &need, told, &mut tables);
        }
        let mut last: Option<(SidecarNeed, SidecarFound)> = None;
        for need in selection.sidecars(&basis) {
            let taken = &selection.taken.get(need.file);
            let root = &basis.manifest.rules[taken.rule()].root;
            let first = sidecars.entry(taken.rule());
            let file = || RelativePath::new(basis.found(taken).0);
            first.or_insert_with(|| (file(), need.path.clone()));
            // One that many files share is read once, where they follow each other.
            let beside = match last {
                Some((last, found)) if (last.root, &last.path) == (need.root, &need.path) => found,
                _ => read_sidecar(&looked.survey.roots, root, &need),
            };
            selection.beside(&basis, &need, beside.clone());
            last = Some((need, beside));
        }
        selection.finish(&basis);
    }
    intact(&spill)?;
    if let Some(why) = spill.unwritten() {
        super::narrate(&crowded(why));
    }
    // Of a manifest that is not understood, what is missing may be a consequence.
    found.retain(|diagnostic| is_whole || diagnostic.severity == Severity::Error);
    looked.diagnostics.extend(found);
    // What stands in `defaults` is looked at once for each rule.
    let mut seen = HashSet::new();
    looked
        .diagnostics
        .retain(|diagnostic| seen.insert(diagnostic.clone()));
    looked.selection = selection;
    looked.tables = tables;
    looked.sidecars = sidecars;
    Ok(looked)
}

/// Where what does not fit into memory goes: beside the ledger, or where the system has its temporary
/// files, since to look at something needs no folder that can be written to.
pub(super) fn spill(state: &StateFolder) -> Spill {
    let folder = state.path().to_owned();
    Spill::new(ROOM, move || {
        tempfile::tempfile_in(&folder).or_else(|_| tempfile::tempfile())
    })
}

/// Says that all of what is found stays in memory.
pub(super) fn crowded(why: &str) -> String {
    format!(
        "notice: all that is known of the files is kept in memory: a temporary file for it cannot be \
         written: {why}"
    )
}

/// What one rule wants from its root.
fn want(
    rule: &Rule,
    care: Care,
    lists: &mut HashMap<PathBuf, List>,
    (near, diagnostics): (&mut Near, &mut Vec<Diagnostic>),
) -> Want {
    let listed = match &rule.select.files_from {
        None => None,
        Some(FilesFrom::Here(paths)) => Some(paths.iter().map(|(path, _)| path.clone()).collect()),
        // One that stands in `defaults` is read once, and its problems are told once.
        Some(FilesFrom::File(path, _)) if lists.contains_key(path) => {
            lists.get(path).map(|list| list.paths.clone())
        }
        Some(FilesFrom::File(path, span)) => {
            let name = shown(&path.to_string_lossy()).into_owned();
            match read_list(path, &name) {
                Ok(mut list) => {
                    list.is_broken = !list.problems.is_empty();
                    diagnostics.append(&mut list.problems);
                    let paths = list.paths.clone();
                    lists.insert(path.clone(), list);
                    Some(paths)
                }
                Err(error) => {
                    diagnostics.push(
                        Diagnostic::error(
                            format!("the list cannot be read: {}", near::why(&error)),
                            span.clone(),
                        )
                        .label(format!("looked for `{name}`"))
                        .help(near.file(path, "`files_from` is relative to the manifest's folder")),
                    );
                    let is_broken = true;
                    let list = List {
                        is_broken,
                        ..List::default()
                    };
                    lists.insert(path.clone(), list);
                    Some(Vec::new())
                }
            }
        }
    };
    Want {
        root: rule.root.clone(),
        include: rule.include.clone(),
        exclude: match care {
            Care::Run => rule.exclude.clone(),
            Care::Check => Globs::exclude(Vec::new()),
        },
        max_depth: rule.select.max_depth,
        links: match rule.select.follow_symlinks {
            FollowSymlinks::Never => Links::Never,
            FollowSymlinks::WithinRoot => Links::WithinRoot,
        },
        listed,
    }
}

/// A list of files.
#[derive(Default)]
struct List {
    paths: Vec<RelativePath>,
    /// The line of each path.
    lines: Vec<usize>,
    problems: Vec<Diagnostic>,
    is_broken: bool,
}

/// Reads a list's paths, one a line.
fn read_list(path: &Path, name: &str) -> io::Result<List> {
    let mut reader = BufReader::new(open_regular(path)?.take(LIST_MAX + 1));
    let (mut list, mut seen) = (List::default(), HashSet::new());
    let (mut line, mut number, mut more) = (Vec::new(), 0, 0);
    loop {
        line.clear();
        // As much of a line as may be a path, and its end.
        let mut start = reader.by_ref().take(PATH_MAX as u64 + 2);
        if start.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if !line.ends_with(b"\n") {
            reader.skip_until(b'\n')?;
        }
        if reader.get_ref().limit() == 0 {
            return Err(io::Error::other("it is larger than 1 GiB"));
        }
        number += 1;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = match number {
            1 => text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text),
            _ => text,
        };
        if text.is_empty() {
            continue;
        }
        let parsed = match std::str::from_utf8(text) {
            _ if text.len() > PATH_MAX => Err("the path is longer than 64 KiB".to_owned()),
            Ok(text) => RelativePath::parse(text),
            Err(_) => Err("the path is not UTF-8".to_owned()),
        };
        let (problem, help) = match parsed {
            Ok(path) if seen.insert(path.clone()) => {
                list.paths.push(path);
                list.lines.push(number);
                continue;
            }
            Ok(_) => (
                "the path is listed twice".to_owned(),
                "take one of them out",
            ),
            Err(why) => (why, "each line is a path below `root`, as `2024/a.pdf`"),
        };
        if list.problems.len() < LIST_PROBLEMS {
            let at = excerpt_of(name, number as u64, text, 0..text.len());
            list.problems
                .push(Diagnostic::error(problem, at).help(help));
        } else {
            more += 1;
        }
    }
    tell_of_more(&mut list.problems, more, "lines");
    Ok(list)
}

/// Says of the last problem that is told that there are more.
fn tell_of_more(problems: &mut [Diagnostic], more: usize, of: &str) {
    if let Some(last) = problems.last_mut().filter(|_| more > 0) {
        let help = last.help.take().unwrap_or_default();
        last.help = Some(format!(
            "{help}; the same is to be said of {more} more {of}"
        ));
    }
}

fn unusable_roots(manifest: &Manifest, survey: &Survey, near: &mut Near) -> Vec<Diagnostic> {
    let mut seen = HashSet::new();
    let mut diagnostics = Vec::new();
    for (rule, why) in &survey.unusable_roots {
        let rule = &manifest.rules[*rule];
        // A root that stands in `defaults` is every rule's.
        if !seen.insert((rule.root_span.clone(), &rule.root)) {
            continue;
        }
        diagnostics.push(
            Diagnostic::error(why.clone(), rule.root_span.clone())
                .label(format!(
                    "looked for `{}`",
                    shown(&rule.root.to_string_lossy())
                ))
                .help(near.root(&rule.root)),
        );
    }
    diagnostics
}

/// Listed files that are not there.
fn missing(
    manifest: &Manifest,
    (wants, lists): (&[Want], &HashMap<PathBuf, List>),
    survey: &Survey,
    near: &mut Near,
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    for (index, position) in survey.missing.iter().take(LIST_PROBLEMS) {
        let rule = &manifest.rules[*index];
        let listed = wants[*index].listed.as_deref().unwrap_or_default();
        let Some(path) = listed.get(*position) else {
            continue;
        };
        let place: Place = match &rule.select.files_from {
            Some(FilesFrom::Here(paths)) => paths[*position].1.clone().into(),
            Some(FilesFrom::File(file, _)) => {
                let line = lists.get(file).and_then(|list| list.lines.get(*position));
                let (text, line) = (path.as_str(), line.copied().unwrap_or(1));
                excerpt(&file.to_string_lossy(), line, text, 0..text.len()).into()
            }
            None => rule.span.clone().into(),
        };
        let diagnostic = Diagnostic::error(format!("there is no file `{path}`"), place);
        let root = rule.root.to_string_lossy();
        diagnostics.push(
            diagnostic
                .label(format!("looked in `{}`", shown(&root)))
                .help(near.listed(rule, path.as_str(), listed)),
        );
    }
    let more = survey.missing.len().saturating_sub(LIST_PROBLEMS);
    tell_of_more(&mut diagnostics, more, "files");
    diagnostics
}

fn join(
    basis: &Basis<'_>,
    selection: &mut Selection,
    need: &TableNeed,
    (near, found): (&mut Near, &mut Vec<Diagnostic>),
    tables: &mut Vec<(Vec<usize>, Vec<Arc<str>>)>,
) {
    let first = need.rules.first().map(|rule| &basis.manifest.rules[*rule]);
    let Some(table) = first.and_then(|rule| rule.table.as_ref()) else {
        return;
    };
    let name = shown(&need.path.to_string_lossy()).into_owned();
    let file = match open_regular(&need.path) {
        Ok(file) => file,
        Err(error) => {
            found.push(
                Diagnostic::error(
                    format!("the table cannot be read: {}", near::why(&error)),
                    table.path.span.clone(),
                )
                .label(format!("looked for `{name}`"))
                .help(near.file(
                    &need.path,
                    "a table's `path` is relative to the manifest's folder",
                )),
            );
            return;
        }
    };
    let spec = Spec {
        file: &name,
        format: Format::of_path(&name).unwrap_or(Format::Csv),
        delimiter: need.delimiter,
        key: &need.key,
    };
    let keys: Vec<&str> = need.keys.iter().map(String::as_str).collect();
    let joined = table::join(file, &spec, &keys);
    tables.push((need.rules.clone(), joined.columns.clone()));
    found.extend(selection.join(basis, need, joined));
}

fn open_regular(path: &Path) -> io::Result<File> {
    // Of a pipe the end is not known, nor can it be read twice.
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        let what = if found.is_dir() {
            "a folder"
        } else {
            "no file"
        };
        return Err(io::Error::other(format!("it is {what}")));
    }
    File::open(path)
}

fn read_sidecar(roots: &Roots, root: &Path, need: &SidecarNeed) -> SidecarFound {
    let name = root.join(need.path.as_str());
    match roots.read_small(need.root, &need.path, sidecar::BYTES_MAX) {
        Ok(None) => SidecarFound::Missing,
        Ok(Some(bytes)) => match sidecar::parse(&bytes, &name.to_string_lossy()) {
            Ok(sidecar) => SidecarFound::Read(Arc::new((need.path.clone(), sidecar))),
            Err(diagnostics) => {
                let first = diagnostics.first();
                let why = first.map_or_else(String::new, |first| first.message.clone());
                SidecarFound::Unusable(why, diagnostics)
            }
        },
        Err(why) => SidecarFound::Unusable(why, Vec::new()),
    }
}

/// Reports that a rule would take for files to upload, in this run or the next.
fn uploaded_reports(manifest: &Manifest, path: &Path, run: (&RunId, Timestamp)) -> Vec<Diagnostic> {
    let values = Values {
        manifest: &manifest.name,
        run: Some(run),
        ..Values::default()
    };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut found = Vec::new();
    for report in &manifest.reports {
        let Ok(rendered) = report.path.render(&values) else {
            continue;
        };
        let joined = folder.join(rendered);
        let report_path: PathBuf = joined.components().filter(is_named).collect();
        let taker = manifest.rules.iter().find(|rule| {
            let root: PathBuf = rule.root.components().filter(is_named).collect();
            let below = report_path.strip_prefix(&root);
            let below = below.ok().and_then(Path::to_str);
            below.is_some_and(|below| rule.include.matches(below) && !rule.exclude.matches(below))
        });
        if let Some(rule) = taker {
            found.push(
                Diagnostic::error(
                    format!("rule `{}` would upload this report", rule.name),
                    report.span.clone(),
                )
                .help("write reports elsewhere, or exclude their folder from the rule"),
            );
        }
    }
    found
}

fn is_named(component: &Component<'_>) -> bool {
    *component != Component::CurDir
}

fn unmatched_pattern(rule: &Rule, pattern: usize, near: &mut Near) -> Option<Diagnostic> {
    let span = rule.include_spans[pattern].clone();
    let message = format!("no file matches this pattern of rule `{}`", rule.name);
    let diagnostic = match rule.on_empty {
        Reaction::Ignore => return None,
        Reaction::Warn => Diagnostic::warning(message, span),
        Reaction::Error => Diagnostic::error(message, span),
    };
    let root = rule.root.to_string_lossy();
    Some(
        diagnostic
            .label(format!("nothing in `{}`", shown(&root)))
            .help(near.pattern(rule, pattern)),
    )
}

/// The state folder of a manifest: the one named, or `.roe-batch` beside it.
pub(super) fn state_folder(manifest: &Path, named: Option<&Path>) -> Result<StateFolder, Failure> {
    let beside = match manifest.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.join(".roe-batch"),
        _ => ".roe-batch".into(),
    };
    StateFolder::at(named.unwrap_or(&beside)).map_err(|error| ledger_failure(&error))
}

/// Reads a manifest's text, from standard input for `-`.
pub(super) fn read_manifest(path: &Path) -> Result<Source, Failure> {
    let is_stdin = path.as_os_str() == manifest::STDIN;
    let name = if is_stdin {
        "<stdin>".to_owned()
    } else {
        shown(&path.to_string_lossy()).into_owned()
    };
    let fail = |why: String| Failure::new(Exit::Invalid, format!("cannot read {name}: {why}"));
    let mut bytes = Vec::new();
    let read = if is_stdin {
        let bounded = io::stdin().lock().take(BYTES_MAX + 1);
        { bounded }.read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes))
    };
    read.map_err(|error| match error.kind() {
        io::ErrorKind::IsADirectory => {
            fail(near::why(&error)).hint("name the manifest that is in it")
        }
        _ => fail(near::why(&error)).hint("name a manifest, or write one with `roe-batch init`"),
    })?;
    if bytes.len() as u64 > BYTES_MAX {
        let why = "it is larger than 64 MiB".to_owned();
        return Err(fail(why).hint("split it: several manifests can be named at once"));
    }
    if let [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..] = bytes.as_slice() {
        return Err(fail("it is UTF-16".to_owned()).hint("save it as UTF-8"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = error.as_bytes()[..error.utf8_error().valid_up_to()]
            .split(|b| *b == b'\n')
            .count();
        fail(format!("line {line} is not UTF-8")).hint("save it as UTF-8")
    })?;
    Ok(Source {
        text: text.strip_prefix('\u{feff}').unwrap_or(&text).to_owned(),
        name,
    })
}
