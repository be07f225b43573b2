//! `explain`: what becomes of one file, and why.

mod text;

use std::collections::HashMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::draft::{Stream, ledger_failure, sources};
use super::look::{Care, Looked, look};
use super::service;
use crate::cli::{CheckFormat, ExplainSettings};
use crate::error::{Exit, Failure};
use crate::ledger::{Ledger, LedgerError, SqliteLedger};
use crate::manifest::{Overlap, Rule};
use crate::model::{
    Candidate, CandidateId, ContentType, Entry, FileId, HIDDEN, HumanBytes, KnownFile, KnownState,
    RelativePath, RemoteName, RootId, RuleName, RunId, Secrecy, SourcePath, Target, ToRead, shown,
};
use crate::plan::select::{Extra, refusal};
use crate::plan::{
    Action, Basis, Before, Gone, Inputs, LayerOrigin, Reason, Refusal, Rendered, Sketch, Taken,
    rendered,
};
use crate::source::{find, gone, ignored};

/// The version of the printed explanation's form.
const FORMAT: u32 = 1;

/// One file, as each rule sees it.
#[derive(Serialize)]
struct Explanation {
    format: u32,
    manifest: String,
    file: String,
    size: Option<u64>,
    modified: Option<String>,
    rules: Vec<Seen>,
}

/// One rule's view of the file.
#[derive(Serialize)]
struct Seen {
    rule: RuleName,
    line: usize,
    /// `taken` or `left_out`.
    verdict: &'static str,
    why: String,
    pattern: Option<Pattern>,
    sending: Option<Sent>,
    problem: Option<String>,
    decision: Option<Decided>,
    ledger: Option<InLedger>,
}

#[derive(Serialize)]
struct Pattern {
    text: String,
    line: usize,
}

#[derive(Serialize)]
struct Sent {
    remote_name: RemoteName,
    stored_name: String,
    content_type: ContentType,
    content_type_from: String,
    target: Target,
    dataset: Option<String>,
    metadata: Vec<Given>,
    metadata_bytes: usize,
}

/// One metadata name.
#[derive(Serialize)]
struct Given {
    name: String,
    value: String,
    /// `defaults`, `rule`, `capture`, `table` or `sidecar`.
    origin: &'static str,
    file: String,
    line: u64,
    column: Option<String>,
}

#[derive(Serialize)]
struct Decided {
    action: Action,
    reason: Reason,
    detail: String,
}

#[derive(Serialize)]
struct InLedger {
    path: SourcePath,
    /// `stored`, `not_stored`, `in_doubt` or `unknown`.
    state: &'static str,
    file_id: Option<FileId>,
    remote_name: Option<String>,
}

/// Explains and prints.
pub(super) fn explain(settings: &ExplainSettings) -> Result<Exit, Failure> {
    let Some((path, source)) = sources(&settings.look)?.into_iter().next() else {
        return Ok(Exit::Done);
    };
    let endpoint = service::endpoint(&settings.service)?;
    let origin = service::origin(endpoint.as_ref());
    let (run, started) = (RunId::new("explain"), jiff::Timestamp::now());
    let at = (&origin, &run, started);
    let looked = look(&settings.look, &path, source, at, Care::Check)?;
    let problems = looked.source.render(&looked.diagnostics);
    if looked.is_invalid() {
        super::narrate(&problems);
        // Rules that could not be understood would be missing here without a word.
        super::narrate("the manifest has errors: what follows is about the rest of it");
    }
    let basis = looked.basis(
        &origin,
        settings.look.organization.as_ref(),
        (&run, started),
    );
    let file = Named::of(&settings.file, &path);
    let asked = Asked {
        looked: &looked,
        basis,
        file: &file,
        lines: looked.source.line_starts(),
    };
    let explanation = asked.explain()?;
    let is_found =
        explanation.size.is_some() || explanation.rules.iter().any(|seen| seen.verdict == "taken");
    if !is_found && !file.exists() {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "there is no file {}",
                shown(&settings.file.to_string_lossy())
            ),
        )
        .hint("name it by its path from here, from the manifest, or below a rule's root"));
    }
    super::say(&match settings.format {
        CheckFormat::Text => text::text(&explanation),
        CheckFormat::Json => {
            let json = serde_json::to_string_pretty(&explanation)
                .map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
            json + "\n"
        }
    })?;
    Ok(if looked.is_invalid() {
        Exit::Invalid
    } else {
        Exit::Done
    })
}

/// A file as it was named, and where that may lead.
struct Named {
    given: PathBuf,
    /// As seen from here, and from the manifest's folder.
    places: Vec<PathBuf>,
}

impl Named {
    fn of(given: &Path, manifest: &Path) -> Self {
        let folder = manifest.parent().unwrap_or(Path::new(""));
        let places = [given.to_owned(), folder.join(given)];
        let real = places.into_iter().filter_map(|place| find(&place));
        Self {
            given: given.to_owned(),
            places: real.collect(),
        }
    }

    fn exists(&self) -> bool {
        !self.places.is_empty()
    }

    /// Its path below a root, if it lies there.
    fn below(&self, root: &Path) -> Option<RelativePath> {
        let real = std::fs::canonicalize(root).ok()?;
        let mut places = self.places.iter();
        let below = places.find_map(|place| place.strip_prefix(&real).ok());
        let below = if let Some(below) = below {
            below.to_str()?.to_owned()
        } else {
            let below = self.given.to_str()?;
            find(&real.join(below))?;
            below.to_owned()
        };
        RelativePath::parse(&below).ok()
    }
}

struct Asked<'a> {
    looked: &'a Looked,
    basis: Basis<'a>,
    file: &'a Named,
    /// Where the lines of the manifest begin.
    lines: Vec<usize>,
}

impl Asked<'_> {
    fn explain(&self) -> Result<Explanation, Failure> {
        let rules = &self.looked.manifest.rules;
        let mut below: HashMap<&Path, Option<RelativePath>> = HashMap::new();
        let mut paths: Vec<Option<RelativePath>> = Vec::with_capacity(rules.len());
        for rule in rules {
            let path = below
                .entry(&rule.root)
                .or_insert_with(|| self.file.below(&rule.root));
            paths.push(path.clone());
        }
        let selection = &self.looked.selection;
        let found = self.found(&paths);
        let roots = &self.basis.candidates.rule_roots;
        let rows: Vec<Option<usize>> = roots
            .iter()
            .enumerate()
            .map(|(rule, root)| selection.position(rule, *found.get(&(*root)?)?))
            .collect();
        let ledger = SqliteLedger::open_read_only(&self.looked.state.ledger())
            .map_err(|error| ledger_failure(&error))?;
        let doubts = match &ledger {
            Some(ledger) => ledger.doubts().map_err(|error| ledger_failure(&error))?,
            None => Vec::new(),
        };
        let before = Stream {
            ledger: ledger.as_ref().map(|ledger| ledger as &dyn Ledger),
            name: &self.looked.manifest.name,
        };
        let inputs = Inputs {
            basis: self.basis,
            selection,
            in_doubt: self.looked.manifest.run.in_doubt.unwrap_or_default(),
            doubts: &doubts,
        };
        // What is gone only all that is taken can say; read is no more than this file.
        let failure = |error| ledger_failure(&error);
        let sketch = Sketch::new(&inputs, &before).map_err(failure)?;
        let gone = Gone::new(gone(sketch.absent(), self.looked.state.home()));
        let undecided = sketch.undecided(&gone);
        let is_this = |id: &CandidateId| found.get(&id.root) == Some(&id.index);
        let to_read: ToRead = undecided.iter().filter(is_this).collect();
        let survey = &self.looked.survey;
        let digests = survey.roots.digests(&survey.candidates, &to_read);
        let plan = sketch.finish(&gone, &digests, &before).map_err(failure)?;
        super::draft::intact(&survey.candidates.spill)?;
        let mut seen = Vec::new();
        let mut stat = None;
        for (index, rule) in rules.iter().enumerate() {
            let view = match (rows[index], &paths[index]) {
                (Some(row), Some(path)) => {
                    stat = stat.or(plan.stat(row));
                    let mut view = self.taken(rule, &selection.taken.get(row), path);
                    // The id of a dataset that is named is the service's to tell.
                    if rule.dataset.is_none() {
                        view.decision = Some(Decided {
                            action: plan.action(row),
                            reason: plan.reason(row),
                            detail: plan.decision(row).to_string(),
                        });
                        let (target, path) = (&plan.rules[index].target, plan.path(row));
                        let known = known_of(&before, target, &path).map_err(failure)?;
                        view.ledger = Some(in_ledger(&path, known.as_ref()));
                    }
                    view
                }
                (None, Some(path)) => {
                    let root = self.basis.candidates.rule_roots[index];
                    let candidate = root.and_then(|root| {
                        let index = *found.get(&root)?;
                        let root = &self.basis.candidates.roots[root.0];
                        Some(Candidate {
                            relative: path.clone(),
                            entry: root.entry(index),
                        })
                    });
                    self.left_out(index, (path, candidate), &rows)
                }
                (_, None) => self.view(
                    rule,
                    "left_out",
                    format!(
                        "it does not lie in the rule's root `{}`",
                        shown(&rule.root.to_string_lossy())
                    ),
                ),
            };
            seen.push(view);
        }
        let stat = stat.or_else(|| {
            let mut found = self.file.places.iter();
            found.find_map(|place| crate::source::stat_of(place))
        });
        Ok(Explanation {
            format: FORMAT,
            manifest: self.looked.manifest.name.clone(),
            file: self.file.given.to_string_lossy().into_owned(),
            size: stat.map(|stat| stat.size),
            modified: stat.map(|stat| format!("{:.0}", stat.modified())),
            rules: seen,
        })
    }

    fn line(&self, byte: usize) -> usize {
        self.lines.partition_point(|start| *start <= byte)
    }

    fn view(&self, rule: &Rule, verdict: &'static str, why: String) -> Seen {
        Seen {
            rule: rule.name.clone(),
            line: self.line(rule.span.start),
            verdict,
            why,
            pattern: None,
            sending: None,
            problem: None,
            decision: None,
            ledger: None,
        }
    }

    fn include(&self, rule: &Rule, path: &str) -> Option<Pattern> {
        let at = rule.include.matching(path).next()?;
        Some(Pattern {
            text: rule.include.patterns()[at].as_str().to_owned(),
            line: self.line(rule.include_spans.get(at)?.start),
        })
    }

    fn taken(&self, rule: &Rule, taken: &Taken, path: &RelativePath) -> Seen {
        let pattern = self.include(rule, path.as_str());
        let why = match &pattern {
            Some(_) => "an `include` pattern matches".to_owned(),
            None => "`files_from` lists it".to_owned(),
        };
        let mut view = self.view(rule, "taken", why);
        view.pattern = pattern;
        let (_, Entry::File(stat)) = self.basis.found(taken) else {
            return view;
        };
        let extra = self.looked.selection.extra(taken);
        if let Some(problem) = &extra.problem {
            view.problem = Some(problem.message.clone());
            return view;
        }
        match rendered(&self.basis, rule, extra, (path.as_str(), stat)) {
            Ok(rendered) => view.sending = Some(self.sent(rule, extra, path, rendered)),
            Err(problem) => view.problem = Some(problem.message),
        }
        view
    }

    fn sent(&self, rule: &Rule, extra: &Extra, path: &RelativePath, what: Rendered) -> Sent {
        let name = path.as_str().rsplit('/').next().unwrap_or_default();
        let content_type_from = match &rule.content_type {
            Some(at) => format!("`content_type`, line {}", self.line(at.span.start)),
            None => match name.rsplit_once('.') {
                Some((_, extension)) => format!("the extension `.{}`", shown(extension)),
                None => "no extension".to_owned(),
            },
        };
        let targets = self.basis.target_of(rule);
        let metadata_bytes = what.metadata_bytes();
        let metadata = what.metadata.into_iter().map(|layered| {
            let (file, line, column) = self.place(rule, extra, &layered.origin);
            Given {
                origin: layered.origin.word(),
                name: layered.key,
                value: match layered.secrecy {
                    Secrecy::Open => layered.value,
                    Secrecy::Hidden => HIDDEN.to_owned(),
                },
                file,
                line,
                column,
            }
        });
        Sent {
            stored_name: what.remote_name.stored().as_str().to_owned(),
            remote_name: what.remote_name,
            content_type: what.content_type,
            content_type_from,
            target: targets,
            dataset: rule.dataset.as_ref().map(|dataset| dataset.text.clone()),
            metadata: metadata.collect(),
            metadata_bytes,
        }
    }

    /// Where a value comes from: file, line, column of a table.
    fn place(
        &self,
        rule: &Rule,
        extra: &Extra,
        origin: &LayerOrigin,
    ) -> (String, u64, Option<String>) {
        let in_manifest = |byte: usize| {
            let line = self.line(byte) as u64;
            (self.looked.source.name.clone(), line, None)
        };
        match origin {
            LayerOrigin::Defaults(span) | LayerOrigin::Rule(span) | LayerOrigin::Capture(span) => {
                in_manifest(span.start)
            }
            LayerOrigin::Table { line, column } => {
                let table = rule.table.as_ref();
                let path = table.map(|table| table.path.value.to_string_lossy().into_owned());
                (path.unwrap_or_default(), *line, Some(column.clone()))
            }
            LayerOrigin::Sidecar { line } => {
                let path = extra
                    .sidecar
                    .as_ref()
                    .map_or("", |beside| beside.0.as_str());
                let path = rule.root.join(path).to_string_lossy().into_owned();
                (path, *line as u64, None)
            }
        }
    }

    fn left_out(
        &self,
        index: usize,
        (path, found): (&RelativePath, Option<Candidate>),
        rows: &[Option<usize>],
    ) -> Seen {
        let rule = &self.looked.manifest.rules[index];
        if self.basis.candidates.rule_roots[index].is_none() {
            return self.view(rule, "left_out", "its root cannot be read".to_owned());
        }
        let is_found = found.is_some();
        let candidate = &found.unwrap_or_else(|| {
            let stat = crate::source::stat_of(&rule.root.join(path.as_str()));
            let unusable = Entry::unusable("it is no regular file");
            Candidate {
                relative: path.clone(),
                entry: stat.map_or(unusable, Entry::File),
            }
        });
        let path = path.as_str();
        let mut pattern = None;
        let why = match refusal(&self.basis, rule, candidate) {
            Some(Refusal::NotIncluded) if hidden(path) && !rule.include.patterns().is_empty() => {
                "no `include` pattern matches; names with a leading dot must be spelt, or \
                 `hidden: true` set"
                    .to_owned()
            }
            Some(Refusal::NotIncluded) => "no `include` pattern matches".to_owned(),
            Some(Refusal::Excluded(at)) => {
                pattern = rule.exclude_spans.get(at).map(|span| Pattern {
                    text: rule.exclude.patterns()[at].as_str().to_owned(),
                    line: self.line(span.start),
                });
                "an `exclude` pattern matches".to_owned()
            }
            Some(refusal) => limit(rule, candidate, refusal),
            None if !is_found => unseen(rule, path),
            None => {
                let target = self.basis.target_of(rule);
                let rules = &self.looked.manifest.rules;
                let mut earlier = (0..index).filter(|other| rows[*other].is_some());
                let taker = earlier.find(|other| self.basis.target_of(&rules[*other]) == target);
                match taker {
                    Some(taker) if self.looked.manifest.overlap == Overlap::First => format!(
                        "rule `{}` takes it before, and `overlap` is `first`",
                        rules[taker].name
                    ),
                    _ => match &rule.select.when {
                        Some(when) => {
                            format!("`when` is false, line {}", self.line(when.span.start))
                        }
                        None => "it is not taken".to_owned(),
                    },
                }
            }
        };
        let mut view = self.view(rule, "left_out", why);
        view.pattern = pattern;
        view
    }

    /// Where in each root the file was found.
    fn found(&self, paths: &[Option<RelativePath>]) -> HashMap<RootId, usize> {
        let mut wanted: HashMap<RootId, &RelativePath> = HashMap::new();
        for (root, path) in self.basis.candidates.rule_roots.iter().zip(paths) {
            if let (Some(root), Some(path)) = (root, path) {
                wanted.insert(*root, path);
            }
        }
        let found = wanted.into_iter().filter_map(|(root, path)| {
            let candidates = &self.basis.candidates.roots[root.0];
            Some((root, candidates.find(path.as_str())?))
        });
        found.collect()
    }
}

fn known_of(
    before: &Stream<'_>,
    target: &Target,
    path: &SourcePath,
) -> Result<Option<KnownFile>, LedgerError> {
    let found = before.known_from(target, Bound::Included(path), 1)?;
    let mut found = found.into_iter().filter(|(known, _)| known == path);
    Ok(found.next().map(|(_, file)| file))
}

/// Why the patterns match and the walk did not see it all the same.
fn unseen(rule: &Rule, path: &str) -> String {
    if rule.select.files_from.is_some() {
        return "`files_from` does not list it".to_owned();
    }
    match ignored(&rule.root, path) {
        Some(ignored) => format!(
            "{} hides it, line {}: `{}`",
            shown(&ignored.file),
            ignored.line,
            shown(&ignored.pattern)
        ),
        None => "it lies behind a symbolic link, or in the state folder".to_owned(),
    }
}

fn limit(rule: &Rule, candidate: &Candidate, refusal: Refusal) -> String {
    let size = match candidate.entry {
        Entry::File(stat) => HumanBytes(stat.size).to_string(),
        _ => String::new(),
    };
    let select = &rule.select;
    match refusal {
        Refusal::TooDeep => format!(
            "it lies deeper than `max_depth: {}`",
            select.max_depth.unwrap_or_default()
        ),
        Refusal::TooSmall => format!(
            "its size of {size} is below `min_size` of {}",
            HumanBytes(select.min_size.unwrap_or_default())
        ),
        Refusal::TooLarge => format!(
            "its size of {size} is above `max_size` of {}",
            HumanBytes(select.max_size.unwrap_or_default())
        ),
        Refusal::TooYoung => "it changed less than `min_age` ago".to_owned(),
        _ => "it is not taken".to_owned(),
    }
}

fn hidden(path: &str) -> bool {
    path.split('/').any(|component| component.starts_with('.'))
}

fn in_ledger(path: &SourcePath, known: Option<&KnownFile>) -> InLedger {
    let stored = known.and_then(|known| known.stored.as_ref());
    InLedger {
        path: path.clone(),
        state: match known.map(|known| &known.state) {
            None => "unknown",
            Some(KnownState::Stored) => "stored",
            Some(KnownState::NotStored) => "not_stored",
            Some(KnownState::InDoubt(..)) => "in_doubt",
        },
        file_id: stored.and_then(|stored| stored.file_id.clone()),
        remote_name: stored.map(|stored| stored.remote_name.clone()),
    }
}
