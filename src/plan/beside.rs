//! What lies beside the files that rules take: which tables and sidecars are to be read, and what is
//! made of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::Basis;
use super::select::{Extra, Problem, Selection, Told, captured, values};
use super::taken::Taken;
use crate::diagnostic::{Diagnostic, Excerpt, Severity, excerpt};
use crate::manifest::{Reaction, Rule, Span, TableRule};
use crate::model::{Entry, RelativePath, RootId, closest, count, shown, shown_bounded};
use crate::sidecar::Sidecar;
use crate::table::{self, Joined};

/// A table to be read, and which files it is asked about.
#[derive(Debug)]
pub struct TableNeed {
    /// The rules that share it.
    pub rules: Vec<usize>,
    /// Where it is.
    pub path: PathBuf,
    /// What stands between cells.
    pub delimiter: Option<u8>,
    /// The column that is the key.
    pub key: String,
    /// Whether other rules read the same table by another key: its rows may be theirs.
    pub shared: bool,
    /// Indices into [`Selection::taken`].
    pub files: Vec<usize>,
    /// For each of them, the key of its row; then those of files that are there and not taken.
    pub keys: Vec<String>,
}

/// A sidecar to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarNeed {
    /// An index into [`Selection::taken`].
    pub file: usize,
    /// The root.
    pub root: RootId,
    /// Its path below the root.
    pub path: RelativePath,
}

/// What was found where a sidecar was looked for.
#[derive(Debug, Clone)]
pub enum SidecarFound {
    /// This.
    Read(Arc<(RelativePath, Sidecar)>),
    /// Nothing.
    Missing,
    /// Something that cannot be used: why, and where.
    Unusable(String, Vec<Diagnostic>),
}

impl Selection {
    /// The tables that the rules name, each once.
    #[must_use]
    pub fn tables(&mut self, basis: &Basis<'_>) -> Vec<TableNeed> {
        let mut needs: Vec<TableNeed> = Vec::new();
        let mut places: HashMap<(&PathBuf, Option<u8>, &str), usize> = HashMap::new();
        let mut of_rule: Vec<Option<usize>> = Vec::new();
        for (index, rule) in basis.manifest.rules.iter().enumerate() {
            of_rule.push(rule.table.as_ref().map(|table| {
                let identity = (&table.path.value, table.delimiter, &*table.key.value);
                let at = *places.entry(identity).or_insert_with(|| {
                    needs.push(TableNeed {
                        rules: Vec::new(),
                        path: table.path.value.clone(),
                        delimiter: table.delimiter,
                        key: table.key.value.clone(),
                        shared: false,
                        files: Vec::new(),
                        keys: Vec::new(),
                    });
                    needs.len() - 1
                });
                needs[at].rules.push(index);
                at
            }));
        }
        if needs.is_empty() {
            return needs;
        }
        let mut by_path: HashMap<PathBuf, Vec<usize>> = HashMap::new();
        for (at, need) in needs.iter().enumerate() {
            by_path.entry(need.path.clone()).or_default().push(at);
        }
        for shared in by_path.into_values().filter(|needs| needs.len() > 1) {
            for at in shared {
                needs[at].shared = true;
            }
        }
        for at in 0..self.taken.len() {
            let taken = self.taken.get(at);
            match (of_rule[taken.rule()], row_key(basis, &taken)) {
                (Some(need), Some(Ok(key))) => {
                    needs[need].files.push(at);
                    needs[need].keys.push(key);
                }
                (_, Some(Err(problem))) => self.extra_mut(at).problem = Some(Arc::new(problem)),
                _ => {}
            }
        }
        for taken in &self.beside {
            if let (Some(need), Some(Ok(key))) = (of_rule[taken.rule()], row_key(basis, taken)) {
                needs[need].keys.push(key);
            }
        }
        needs
    }

    /// Gives each file its row; says what is wrong with the table, and what is missing on either
    /// side.
    pub fn join(&mut self, basis: &Basis<'_>, need: &TableNeed, joined: Joined) -> Vec<Diagnostic> {
        let mut diagnostics = joined.diagnostics;
        // A table with errors is not joined: what it lacks may be a consequence.
        let mut errors = diagnostics.iter();
        let is_sound = errors.all(|found| found.severity != Severity::Error);
        let mut without: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        let rows = joined.rows.into_iter();
        for (position, (row, &at)) in rows.zip(&need.files).enumerate() {
            if row.is_none() {
                without
                    .entry(self.taken.get(at).rule())
                    .or_default()
                    .push(position);
            }
            if row.is_some() {
                self.extra_mut(at).row = row;
            }
        }
        let rules = need.rules.iter();
        let tables: Vec<(&Rule, &TableRule)> = rules
            .filter_map(|rule| {
                let rule = &basis.manifest.rules[*rule];
                Some((rule, rule.table.as_ref()?))
            })
            .collect();
        let untold = |message: &str| Problem {
            told: Told::Already,
            ..Problem::new(message)
        };
        if !is_sound {
            let all = need.files.iter().copied();
            self.refuse(all, untold("its table cannot be used"));
            return diagnostics;
        }
        for (rule, positions) in &without {
            let table = basis.manifest.rules[*rule].table.as_ref();
            if table.is_some_and(|table| table.files_without_row == Reaction::Error) {
                let these = positions.iter().map(|position| need.files[*position]);
                self.refuse(these, untold("it has no row in the table"));
            }
        }
        diagnostics.extend(unknown_columns(&tables, &joined.columns));
        // That rows are left over says the same as that files have none, where they are alike.
        let mut is_explained = false;
        for (rule, positions) in without {
            let rule = &basis.manifest.rules[rule];
            let Some(table) = &rule.table else { continue };
            let first = &self.taken.get(need.files[positions[0]]);
            let (path, _) = basis.found(first);
            let key = &need.keys[positions[0]];
            let message = match positions.len() {
                1 => format!("`{}` has no row in the table", shown_bounded(&path)),
                more => format!(
                    "{} have no row in the table, `{}` the first of them",
                    count(more, "file"),
                    shown_bounded(&path)
                ),
            };
            let Some(diagnostic) = reacting(
                table.files_without_row,
                message,
                table.matching.span.clone(),
            ) else {
                continue;
            };
            let unused = joined.unused.keys.iter().map(|key| &**key);
            let near = table::nearest(key, unused);
            let help = match near {
                Some((near, how)) => {
                    let is_sure = !how.contains("almost");
                    is_explained |= is_sure && positions.len() as u64 >= joined.unused.rows;
                    let by_name = near.rsplit('/').next() == key.rsplit('/').next();
                    let how = if by_name && !near.contains('/') {
                        format!("{how}; `match: ${{{{ file.name }}}}` looks for names")
                    } else {
                        how.to_owned()
                    };
                    let near = shown_bounded(near);
                    format!("the table has `{near}`, which no file asks for: it {how}")
                }
                None if table.files_without_row == Reaction::Error => {
                    "add the row, exclude the file, or write `files_without_row: warn`".to_owned()
                }
                None => {
                    "add the row, exclude the file, or write `files_without_row: ignore`".to_owned()
                }
            };
            diagnostics.push(
                diagnostic
                    .label(format!(
                        "no row has `{}` in the column `{}`",
                        shown_bounded(key),
                        shown(&need.key)
                    ))
                    .help(help),
            );
        }
        if !need.shared && !is_explained {
            let unused = &joined.unused;
            diagnostics.extend(unused_rows(&tables, &unused.first, unused.rows));
        }
        diagnostics
    }

    /// Says of files that they cannot be sent, for one reason.
    fn refuse(&mut self, files: impl Iterator<Item = usize>, problem: Problem) {
        let problem = Arc::new(problem);
        for at in files {
            self.extra_mut(at).problem = Some(Arc::clone(&problem));
        }
    }

    /// The sidecars that the rules name.
    #[must_use]
    pub fn sidecars(&mut self, basis: &Basis<'_>) -> Vec<SidecarNeed> {
        let mut needs = Vec::new();
        for at in 0..self.taken.len() {
            let taken = &self.taken.get(at);
            let rule = &basis.manifest.rules[taken.rule()];
            let Some(sidecar) = &rule.sidecar else {
                continue;
            };
            let (path, entry) = basis.found(taken);
            let Entry::File(stat) = entry else {
                continue;
            };
            let capture = captured(rule, &path);
            let file = (path.as_str(), stat);
            let values = values(basis, rule, self.extra(taken), file, capture.as_ref());
            let path = match sidecar.path.value.render(&values) {
                Ok(path) => RelativePath::parse(&path).map_err(|why| Problem {
                    span: Some(sidecar.path.span.clone()),
                    help: Some("a sidecar lies below `root`, as its file does".to_owned()),
                    ..Problem::new(format!("its sidecar: {why}"))
                }),
                Err(error) => Err(Problem::rendering("`sidecar`", &sidecar.path, error)),
            };
            match path {
                Ok(path) => needs.push(SidecarNeed {
                    file: at,
                    root: basis.root_of(taken),
                    path,
                }),
                Err(problem) => self.extra_mut(at).problem = Some(Arc::new(problem)),
            }
        }
        needs
    }

    /// Gives a file what was found beside it.
    pub fn beside(&mut self, basis: &Basis<'_>, need: &SidecarNeed, found: SidecarFound) {
        let rule = self.taken.get(need.file).rule();
        let Some(rule) = &basis.manifest.rules[rule].sidecar else {
            return;
        };
        let mut help = None;
        let (message, beside) = match found {
            SidecarFound::Read(sidecar) => {
                self.extra_mut(need.file).sidecar = Some(sidecar);
                return;
            }
            SidecarFound::Missing if rule.on_missing == Reaction::Error => {
                help = Some("put it there, or write `on_missing: ignore`".to_owned());
                (format!("its sidecar {} is missing", need.path), Vec::new())
            }
            SidecarFound::Missing => return,
            SidecarFound::Unusable(why, beside) => (
                format!("its sidecar {} cannot be used: {why}", need.path),
                beside,
            ),
        };
        self.extra_mut(need.file).problem = Some(Arc::new(Problem {
            span: Some(rule.path.span.clone()),
            help,
            beside,
            ..Problem::new(message)
        }));
    }
}

/// What a file's row has in the key column; none where the rule has no table, or there is no file.
fn row_key(basis: &Basis<'_>, taken: &Taken) -> Option<Result<String, Problem>> {
    let rule = &basis.manifest.rules[taken.rule()];
    let table = rule.table.as_ref()?;
    let (path, entry) = basis.found(taken);
    let Entry::File(stat) = entry else {
        return None;
    };
    let capture = captured(rule, &path);
    let file = (path.as_str(), stat);
    // Its row is what is looked for, and its sidecar comes after that.
    let extra = Extra::default();
    let values = values(basis, rule, &extra, file, capture.as_ref());
    let rendered = table.matching.value.render(&values);
    Some(
        rendered.map_err(|error| Problem::rendering("the table's `match`", &table.matching, error)),
    )
}

fn reacting(reaction: Reaction, message: String, span: Span) -> Option<Diagnostic> {
    match reaction {
        Reaction::Error => Some(Diagnostic::error(message, span)),
        Reaction::Warn => Some(Diagnostic::warning(message, span)),
        Reaction::Ignore => None,
    }
}

/// Rows that no file of any rule asks for: as bad as the strictest of the rules says.
fn unused_rows(tables: &[(&Rule, &TableRule)], first: &[Excerpt], rows: u64) -> Option<Diagnostic> {
    let row = first.first()?;
    let reactions = || tables.iter().map(|(_, table)| table.rows_without_file);
    let strictest = [Reaction::Error, Reaction::Warn, Reaction::Ignore]
        .into_iter()
        .find(|reaction| reactions().any(|other| other == *reaction))?;
    let (_, table) = tables.first()?;
    let message = match rows {
        1 => "no file asks for this row".to_owned(),
        rows => format!(
            "no file asks for {} of the table, this the first of them",
            count(usize::try_from(rows).unwrap_or(usize::MAX), "row")
        ),
    };
    let diagnostic = reacting(strictest, message, 0..0)?;
    let at = excerpt(&row.file, row.line, &row.text, row.span.clone());
    Some(
        Diagnostic {
            place: Some(at.into()),
            ..diagnostic
        }
        .other(table.path.span.clone(), "the table is named here")
        .help(
            "put the file there, take the row out, or write `rows_without_file: ignore` where the \
             table may know more files than there are",
        ),
    )
}

/// Columns that rules name and the table does not have.
fn unknown_columns(tables: &[(&Rule, &TableRule)], columns: &[Arc<str>]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    // JSON lines without a row have no columns, and no mistake either.
    if columns.is_empty() {
        return diagnostics;
    }
    let mut seen = HashSet::new();
    let known: HashSet<&str> = columns.iter().map(|column| &**column).collect();
    for (rule, table) in tables {
        for (name, span) in super::columns::named(rule, table) {
            if known.contains(name) || !seen.insert(span.clone()) {
                continue;
            }
            let names = || columns.iter().map(|column| &**column);
            let help = match closest(name, names()) {
                Some(near) => format!("did you mean `{}`?", shown(near)),
                None => format!(
                    "its columns are {}",
                    shown_bounded(&names().collect::<Vec<_>>().join(", "))
                ),
            };
            let message = format!("the table has no column `{}`", shown(name));
            diagnostics.push(Diagnostic::error(message, span).help(help));
        }
    }
    diagnostics
}
