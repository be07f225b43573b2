//! `check`: every mistake that can be found without network and ledger, and what is dead.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use super::draft::sources;
use super::look::{Care, Looked, look};
use crate::cli::{CheckFormat, CheckSettings, Warnings};
use crate::diagnostic::{Checked, Diagnostic, Document, Severity, Source, Tally};
use crate::error::{Exit, Failure};
use crate::manifest::{Overlap, Rule, Span};
use crate::model::{InDoubt, Origin, RunId, SourcePath, count, shown, shown_bounded};
use crate::plan::select::Told;
use crate::plan::{
    Action, Basis, Decision, Inputs, Note, Plan, Refusal, first_plan, idle_excludes, unused_columns,
};

/// Looks at each manifest and prints what it finds.
pub(super) fn check(settings: &CheckSettings) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    let mut checked = Vec::new();
    for (path, source) in sources(&settings.look)? {
        let (source, mut diagnostics, files) = check_one(settings, &path, source)?;
        if settings.warnings == Warnings::Fail {
            for diagnostic in &mut diagnostics {
                if diagnostic.severity == Severity::Warning {
                    diagnostic.severity = Severity::Error;
                }
            }
        }
        if Tally::of(&diagnostics).errors > 0 {
            exit = Exit::Invalid;
        }
        match settings.format {
            CheckFormat::Text => {
                if diagnostics.is_empty() {
                    let found = count(files, "file");
                    super::say(&format!("{}: no problems, {found} to plan\n", source.name))?;
                } else {
                    super::narrate(&source.render(&diagnostics));
                }
            }
            CheckFormat::Json => checked.push(Checked {
                manifest: source.name.clone(),
                tally: Tally::of(&diagnostics),
                diagnostics: source.report(&diagnostics),
            }),
        }
    }
    if settings.format == CheckFormat::Json {
        let text = serde_json::to_string_pretty(&Document::new(checked))
            .map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
        super::say(&(text + "\n"))?;
    }
    Ok(exit)
}

/// What is wrong with a manifest, and how many files it plans.
pub(super) fn check_one(
    settings: &CheckSettings,
    path: &Path,
    source: Source,
) -> Result<(Source, Vec<Diagnostic>, usize), Failure> {
    let (origin, run) = (Origin::new("sandbox"), RunId::new("check"));
    let started = jiff::Timestamp::now();
    let at = (&origin, &run, started);
    let looked = look(&settings.look, path, source, at, Care::Check)?;
    let basis = looked.basis(
        &origin,
        settings.look.organization.as_ref(),
        (&run, started),
    );
    let plan = first_plan(&Inputs {
        basis,
        selection: &looked.selection,
        in_doubt: InDoubt::default(),
        doubts: &[],
    });
    let mut diagnostics = looked.diagnostics.clone();
    diagnostics.extend(problems(&looked, &plan));
    diagnostics.extend(conflicts(&looked, &plan));
    diagnostics.extend(names(&looked, &plan));
    // Of a manifest with errors, what nothing uses may be a consequence.
    if !looked.is_invalid() {
        diagnostics.extend(looked.unused.iter().cloned());
        diagnostics.extend(dead(&looked, &basis, &plan));
    }
    let files = plan.len();
    Ok((looked.source, diagnostics, files))
}

/// What keeps files from being sent, each problem once, with the files it keeps.
fn problems(looked: &Looked, plan: &Plan<'_>) -> Vec<Diagnostic> {
    // By place in the manifest; without one, by rule and what it is.
    let mut groups: BTreeMap<(usize, usize, usize, &str), Vec<usize>> = BTreeMap::new();
    for (index, (row, problem)) in plan.problems.iter().enumerate() {
        if problem.told == Told::Already {
            continue;
        }
        let place = match &problem.span {
            Some(span) if problem.beside.is_empty() => (span.start, span.end, 0, ""),
            Some(span) => (span.start, span.end, index, ""),
            None => (0, 0, plan.rule(*row), problem.message.as_str()),
        };
        groups.entry(place).or_default().push(index);
    }
    let mut diagnostics = Vec::new();
    for indices in groups.into_values() {
        let (row, problem) = &plan.problems[indices[0]];
        let rule = &looked.manifest.rules[plan.rule(*row)];
        let path = plan.path(*row);
        // What is wrong in a sidecar is told there.
        if !problem.beside.is_empty() {
            let path = shown_bounded(path.as_str());
            diagnostics.extend(problem.beside.iter().map(|found| {
                Diagnostic {
                    label: found
                        .label
                        .clone()
                        .or_else(|| Some(format!("keeps `{path}` back"))),
                    ..found.clone()
                }
            }));
            continue;
        }
        // What is wrong for every file is told once.
        let is_told = |span: &Span| {
            let mut found = looked.diagnostics.iter();
            found.any(|found| found.span() == Some(span) && found.severity == Severity::Error)
        };
        if problem.span.as_ref().is_some_and(is_told) {
            continue;
        }
        let label = for_files(&path, indices.len());
        let span = problem.span.clone().unwrap_or_else(|| rule.span.clone());
        let (message, help) = match (problem.message.split_once("; "), &problem.help) {
            (Some((message, help)), None) => (message.to_owned(), Some(help.to_owned())),
            (_, help) => (problem.message.clone(), help.clone()),
        };
        let diagnostic = Diagnostic::error(message, span).label(label);
        diagnostics.push(Diagnostic { help, ..diagnostic });
    }
    diagnostics
}

/// What comes of `file_name`: names that several files share, or that the service changes.
fn names(looked: &Looked, plan: &Plan<'_>) -> Vec<Diagnostic> {
    // By rule, how many and the first of them.
    let mut shared: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut changed = shared.clone();
    let template = |rule: &usize| looked.manifest.rules[*rule].file_name.as_ref();
    let named = |rule: &usize| template(rule).is_some();
    for rule in (0..looked.manifest.rules.len()).filter(named) {
        for row in plan.of_rule(rule) {
            for note in plan.notes_of(row) {
                match note {
                    Note::NameShared(_) => shared.entry(rule).or_insert((0, row)).0 += 1,
                    Note::StoredAs(_) => changed.entry(rule).or_insert((0, row)).0 += 1,
                    _ => {}
                }
            }
        }
    }
    let name = |row: usize| {
        let name = plan
            .sending(row)
            .map(|sending| sending.remote_name.stored());
        shown_bounded(name.as_ref().map_or("", |name| name.as_str()))
    };
    let mut diagnostics = Vec::new();
    for (rule, (files, first)) in &shared {
        let Some(template) = template(rule) else {
            continue;
        };
        let message = format!(
            "`file_name` gives several files one name, `{}`",
            name(*first)
        );
        diagnostics.push(
            Diagnostic::warning(message, template.span.clone())
                .label(for_files(&plan.path(*first), *files))
                .help("put in what tells them apart, as `${{ file.path | slug }}`"),
        );
    }
    for (rule, (files, first)) in &changed {
        let Some(template) = template(rule) else {
            continue;
        };
        let message = format!("the service stores this as `{}`", name(*first));
        diagnostics.push(
            Diagnostic::note(message, template.span.clone())
                .label(for_files(&plan.path(*first), *files))
                .help("slashes and some other characters are not kept; `| slug` leaves them out"),
        );
    }
    diagnostics
}

/// Which files it is about: the first of them, and how many.
fn for_files(first: &SourcePath, files: usize) -> String {
    let path = shown_bounded(first.as_str());
    match files {
        1 => format!("for `{path}`"),
        more => format!("for `{path}`, the first of {}", count(more, "file")),
    }
}

/// Files that several rules send to one target, one diagnostic for each pair of rules.
fn conflicts(looked: &Looked, plan: &Plan<'_>) -> Vec<Diagnostic> {
    let rules = &looked.manifest.rules;
    let by_name: HashMap<&str, usize> = rules
        .iter()
        .enumerate()
        .map(|(index, rule)| (rule.name.as_str(), index))
        .collect();
    let mut pairs: BTreeMap<(usize, usize), Vec<usize>> = BTreeMap::new();
    for index in 0..plan.len() {
        if plan.action(index) == Action::Conflict
            && let Decision::Conflict(other) = plan.decision(index)
            && let Some(&other) = by_name.get(other.as_str())
        {
            // Two rules of one name are told of already.
            let rule = plan.rule(index);
            let pair = (rule.min(other), rule.max(other));
            if rules[pair.0].name == rules[pair.1].name {
                continue;
            }
            pairs.entry(pair).or_default().push(index);
        }
    }
    let pairs = pairs.into_iter();
    pairs
        .map(|((first, second), files)| {
            let shared: HashSet<SourcePath> = files.iter().map(|file| plan.path(*file)).collect();
            let path = plan.path(files[0]);
            let path = shown_bounded(path.as_str());
            let what = match shared.len() {
                1 => format!("`{path}`"),
                more => format!("{}, `{path}` the first of them,", count(more, "file")),
            };
            Diagnostic::error(
                format!(
                    "the rules `{}` and `{}` both send {what} to one target",
                    rules[first].name, rules[second].name
                ),
                rules[second].span.clone(),
            )
            .label("neither sends it")
            .other(rules[first].span.clone(), "the other rule")
            .help(
                "exclude it from one of them, or say with `overlap: first` or `all` what is meant",
            )
        })
        .collect()
}

/// What does no harm and no good.
fn dead(looked: &Looked, basis: &Basis<'_>, plan: &Plan<'_>) -> Vec<Diagnostic> {
    let rules = &looked.manifest.rules;
    let mut diagnostics = Vec::new();
    // A pattern of `defaults` is each rule's, and idle where it is so for all of them.
    let mut of_place: HashMap<(usize, usize), usize> = HashMap::new();
    for span in rules.iter().flat_map(|rule| &rule.exclude_spans) {
        *of_place.entry((span.start, span.end)).or_default() += 1;
    }
    for (rule, pattern) in idle_excludes(&looked.manifest, &looked.survey.candidates) {
        let rule = &rules[rule];
        let span = &rule.exclude_spans[pattern];
        let left = of_place.entry((span.start, span.end)).or_default();
        *left -= 1;
        if *left > 0 {
            continue;
        }
        diagnostics.push(
            Diagnostic::warning("this pattern excludes nothing", span.clone())
                .label("matches no file that an `include` takes")
                .help(
                    "take it out, or mend it: patterns are matched below `root`, and case matters",
                ),
        );
    }
    for (index, rule) in rules.iter().enumerate() {
        if plan.of_rule(index).is_empty() {
            diagnostics.extend(shadowed(basis, plan, index, rule));
        }
    }
    for (of, columns) in &looked.tables {
        let with = of.iter().filter_map(|rule| {
            let rule = &rules[*rule];
            Some((rule, rule.table.as_ref()?))
        });
        diagnostics.extend(unused_columns(&with.collect::<Vec<_>>(), columns));
    }
    diagnostics.extend(idle_sidecars(looked));
    diagnostics
}

/// A rule of whose files none is left.
fn shadowed(basis: &Basis<'_>, plan: &Plan<'_>, index: usize, rule: &Rule) -> Option<Diagnostic> {
    let left_out = plan.left_out.get(index)?;
    let (main, _) = left_out.iter().max_by_key(|(_, files)| **files)?;
    let all: usize = left_out.values().sum();
    let files = count(all, "file");
    let message = match main {
        Refusal::TakenBy(by) if basis.manifest.overlap == Overlap::First => format!(
            "rule `{}` gets no file: rule `{}` is before it and takes {files}",
            rule.name, basis.manifest.rules[*by].name
        ),
        main => format!(
            "rule `{}` gets no file: {files} left out, {}",
            rule.name,
            super::plan::left_out(plan, *main)
        ),
    };
    let when = rule.select.when.as_ref().filter(|_| *main == Refusal::When);
    let span = when.map_or(&rule.span, |when| &when.span).clone();
    // Time alone may change that.
    let diagnostic = if *main == Refusal::TooYoung {
        Diagnostic::note(message, span)
    } else {
        Diagnostic::warning(message, span)
    };
    let help = match main {
        Refusal::TakenBy(by) => {
            let other = basis.manifest.rules[*by].span.clone();
            let diagnostic = diagnostic.other(other, "takes them");
            return Some(diagnostic.help("put the narrower rule first, or take it out"));
        }
        Refusal::When => "mend the condition, if that is not meant",
        Refusal::TooDeep => "raise `max_depth`, if they are meant",
        Refusal::TooSmall => "lower `min_size`, if they are meant",
        Refusal::TooLarge => "raise `max_size`, if they are meant",
        _ => return Some(diagnostic),
    };
    Some(diagnostic.help(help))
}

/// Rules with a `sidecar` that no file has, and sidecars that are sent as files too.
fn idle_sidecars(looked: &Looked) -> Vec<Diagnostic> {
    let rules = &looked.manifest.rules;
    let mut with: Vec<(usize, usize)> = vec![(0, 0); rules.len()];
    let mut beside = HashSet::new();
    let candidates = &looked.survey.candidates;
    for taken in looked.selection.taken.iter() {
        let (files, found) = &mut with[taken.rule()];
        let extra = looked.selection.extra(&taken);
        *files += 1;
        // One that cannot be used is there.
        if extra.problem.is_some() {
            *found += 1;
        }
        if let Some(sidecar) = &extra.sidecar {
            *found += 1;
            beside.insert((candidates.rule_roots[taken.rule()], sidecar.0.as_str()));
        }
    }
    let mut diagnostics = Vec::new();
    for (index, (files, found)) in with.into_iter().enumerate() {
        let (rule, first) = (&rules[index], looked.sidecars.get(&index));
        let (Some(sidecar), Some((file, path))) = (&rule.sidecar, first) else {
            continue;
        };
        if files == 0 || found > 0 {
            continue;
        }
        let (of, path) = (shown_bounded(file.as_str()), shown_bounded(path.as_str()));
        diagnostics.push(
            Diagnostic::note(
                format!("no file of rule `{}` has such a sidecar", rule.name),
                sidecar.path.span.clone(),
            )
            .label(format!("for `{of}` this is `{path}`"))
            .help("its path is relative to `root`: `${{ file.path }}` is the whole path there"),
        );
    }
    let mut sent: BTreeMap<usize, (usize, String)> = BTreeMap::new();
    let mut text = String::new();
    for taken in looked.selection.taken.iter() {
        let root = candidates.rule_roots[taken.rule()];
        let Some(found) = root.filter(|_| !beside.is_empty()) else {
            continue;
        };
        let path = candidates.roots[found.0].write_relative(taken.candidate(), &mut text);
        if beside.contains(&(root, path)) {
            let (files, _) = sent.entry(taken.rule()).or_insert((0, path.to_owned()));
            *files += 1;
        }
    }
    for (rule, (files, first)) in sent {
        let rule = &rules[rule];
        let first = shown(&first);
        let (what, span) = (count(files, "sidecar"), rule.span.clone());
        diagnostics.push(
            Diagnostic::warning(
                format!(
                    "rule `{}` sends {what} as files, `{first}` first",
                    rule.name
                ),
                span,
            )
            .help("leave them out, as with `exclude: [\"**/*.meta.yaml\"]`"),
        );
    }
    diagnostics
}
