//! Which candidates each rule takes, and what lies beside them: pure, in steps between which the
//! tables and sidecars that it asks for are read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::taken::{AllTaken, Taken};
use super::{Basis, by_rule};
use crate::diagnostic::Diagnostic;
use crate::manifest::{Overlap, Placed, Rule, Span};
use crate::model::{
    Candidate, Entry, Fields, GlobIndex, RelativePath, RootId, SourcePath, Stat, Target,
};
use crate::sidecar::Sidecar;
use crate::table::Row;
use crate::template::{RenderError, Values};

/// How far another machine's clock may be ahead before the times it writes say nothing of an age.
const AHEAD_MAX: SignedDuration = SignedDuration::from_hours(24);

/// What belongs to a file that is taken, beside what was found.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// Its row in the rule's table.
    pub row: Option<Arc<Row>>,
    /// Its sidecar, and that one's path below the root.
    pub sidecar: Option<Arc<(RelativePath, Sidecar)>>,
    /// Why it cannot be sent, whatever else is found.
    pub problem: Option<Arc<Problem>>,
}

/// What belongs to most files.
static NO_EXTRA: Extra = Extra {
    row: None,
    sidecar: None,
    problem: None,
};

/// Why a file cannot be sent as the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, in one line.
    pub message: String,
    /// Where the manifest says what cannot be done.
    pub span: Option<Span>,
    /// What to do about it.
    pub help: Option<String>,
    /// What is wrong in another file, at its place: it says all, where there is something.
    pub beside: Vec<Diagnostic>,
    /// Whether a diagnostic of its own tells it already.
    pub told: Told,
}

/// Whether a problem is told elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Here alone.
    Here,
    /// By a diagnostic about the table.
    Already,
}

impl Problem {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            span: None,
            help: None,
            beside: Vec::new(),
            told: Told::Here,
        }
    }

    /// What a template could not do, at its place.
    pub(super) fn rendering<T>(what: &str, of: &Placed<T>, error: RenderError) -> Self {
        Self {
            message: format!("{what}: {error}"),
            span: Some(of.part(&error.range)),
            help: error.help,
            beside: Vec::new(),
            told: Told::Here,
        }
    }
}

/// Why a rule does not take a candidate that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No include pattern matches.
    NotIncluded,
    /// This exclude pattern matches.
    Excluded(usize),
    /// It lies deeper than `max_depth`.
    TooDeep,
    /// It is smaller than `min_size`.
    TooSmall,
    /// It is larger than `max_size`.
    TooLarge,
    /// It changed less than `min_age` ago.
    TooYoung,
    /// `when` is false.
    When,
    /// An earlier rule takes it, and `overlap: first` says that this is enough.
    TakenBy(usize),
}

impl Refusal {
    /// The stable word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotIncluded => "not_included",
            Self::Excluded(_) => "excluded",
            Self::TooDeep => "deep",
            Self::TooSmall => "small",
            Self::TooLarge => "large",
            Self::TooYoung => "young",
            Self::When => "when",
            Self::TakenBy(_) => "taken_before",
        }
    }
}

/// What all rules take.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// By rule, then in the order of the candidates.
    pub taken: AllTaken,
    /// For each rule, how many of the files that its patterns match it leaves out, and why.
    pub left_out: Vec<BTreeMap<Refusal, usize>>,
    /// When the first of those that changed less than `min_age` ago is old enough, if it changes no
    /// more.
    pub of_age: Option<Timestamp>,
    /// Those of rules with a table: their rows are not without a file.
    pub(super) beside: Vec<Taken>,
    extras: Vec<Extra>,
}

impl Selection {
    /// What the patterns, sizes, times and conditions take, as far as they ask for nothing beside
    /// the files.
    #[must_use]
    pub fn new(basis: &Basis<'_>) -> Self {
        let rules = &basis.manifest.rules;
        let mut by_root: BTreeMap<RootId, Vec<usize>> = BTreeMap::new();
        for (rule, root) in basis.candidates.rule_roots.iter().enumerate() {
            if let Some(root) = root {
                by_root.entry(*root).or_default().push(rule);
            }
        }
        let mut selection = Self {
            left_out: vec![BTreeMap::new(); rules.len()],
            ..Self::default()
        };
        let tells_copies = basis.manifest.overlap == Overlap::All;
        let mut seen = Vec::new();
        let mut path = String::new();
        for (root, of_root) in by_root {
            let Some(candidates) = basis.candidates.roots.get(root.0) else {
                continue;
            };
            // The list alone says what is meant; what patterns leave out of it is counted.
            let is_listed = |rule: &usize| rules[*rule].select.files_from.is_some();
            let (listed, of_root): (Vec<usize>, Vec<usize>) =
                of_root.into_iter().partition(is_listed);
            let index = GlobIndex::new(of_root.iter().map(|rule| &rules[*rule].include));
            let mut taking = Vec::new();
            for stretch in candidates.stretches() {
                let reached = index.reach(stretch.folder);
                for (at, name, entry) in stretch.iter() {
                    path.clear();
                    path.push_str(stretch.folder);
                    path.push_str(name);
                    let mut look = |rule: usize, is_included: Included| {
                        let file = (root, at, path.as_str(), &entry);
                        if selection.look(basis, rule, file, is_included) && tells_copies {
                            seen.push((rule, root, at));
                        }
                    };
                    if path.ends_with('/') || may_hold_files(&entry) {
                        for &rule in of_root.iter().chain(&listed) {
                            look(rule, Included::Unknown);
                        }
                        continue;
                    }
                    taking.clear();
                    index.any_taking_in(&reached, name, |here| {
                        taking.push(here);
                        false
                    });
                    if taking.len() > 1 {
                        taking.sort_unstable();
                        taking.dedup();
                    }
                    for here in &taking {
                        look(of_root[*here], Included::Yes);
                    }
                    for &rule in &listed {
                        look(rule, Included::Unknown);
                    }
                }
            }
        }
        selection.taken.close();
        if tells_copies {
            selection.tell_copies(basis, &seen);
        }
        selection
    }

    /// What belongs to a file that is taken, beside what was found.
    #[must_use]
    pub fn extra(&self, taken: &Taken) -> &Extra {
        taken.extra().map_or(&NO_EXTRA, |at| &self.extras[at])
    }

    /// The same, to be changed.
    pub(super) fn extra_mut(&mut self, at: usize) -> &mut Extra {
        let mut taken = self.taken.get(at);
        let place = Self::extra_of(&mut self.extras, &mut taken);
        self.taken.set(at, taken);
        &mut self.extras[place]
    }

    /// The place of what belongs to a file, which is made if need be.
    fn extra_of(extras: &mut Vec<Extra>, taken: &mut Taken) -> usize {
        taken.extra().unwrap_or_else(|| {
            taken.set_extra(extras.len());
            extras.push(Extra::default());
            extras.len() - 1
        })
    }

    /// The place of a candidate of its root that a rule takes, if it does.
    #[must_use]
    pub fn position(&self, rule: usize, candidate: usize) -> Option<usize> {
        self.taken.position(rule, candidate)
    }

    fn look(
        &mut self,
        basis: &Basis<'_>,
        index: usize,
        (root, at, path, entry): (RootId, usize, &str, &Entry),
        is_included: Included,
    ) -> bool {
        let rule = &basis.manifest.rules[index];
        let refusal = refusal_of(basis, rule, (path, entry), is_included);
        let is_listed = rule.select.files_from.is_some();
        match refusal {
            Some(Refusal::NotIncluded | Refusal::Excluded(_)) => {
                // What is listed is meant: that patterns leave it out must not pass in silence.
                if let (Some(refusal), true) = (refusal, is_listed) {
                    *self.left_out[index].entry(refusal).or_default() += 1;
                }
                return false;
            }
            // A walk does not look that deep, so that nobody knows how many there are.
            Some(Refusal::TooDeep) if !is_listed => return false,
            _ => {}
        }
        debug_assert_eq!(basis.candidates.rule_roots[index], Some(root));
        let mut taken = Taken::new(index, at);
        if let Some(refusal) = refusal {
            *self.left_out[index].entry(refusal).or_default() += 1;
            if let (Refusal::TooYoung, Entry::File(stat)) = (refusal, entry) {
                let of_age = of_age(rule, *stat);
                self.of_age = Some(self.of_age.map_or(of_age, |first| first.min(of_age)));
            }
        } else if asks_beside(rule) || self.holds(basis, &mut taken) {
            self.taken.push(taken);
            return true;
        }
        if rule.table.is_some() {
            self.beside.push(taken);
        }
        true
    }

    /// Whether `when` is true of a file; where it cannot be said, the file stays, with its problem.
    fn holds(&mut self, basis: &Basis<'_>, taken: &mut Taken) -> bool {
        let rule = &basis.manifest.rules[taken.rule()];
        let Some(when) = &rule.select.when else {
            return true;
        };
        let (path, entry) = basis.found(taken);
        let Entry::File(stat) = entry else {
            return true;
        };
        let capture = captured(rule, &path);
        let file = (path.as_str(), stat);
        let values = values(basis, rule, self.extra(taken), file, capture.as_ref());
        match when.value.holds(&values) {
            Ok(true) => true,
            Ok(false) => {
                let left_out = &mut self.left_out[taken.rule()];
                *left_out.entry(Refusal::When).or_default() += 1;
                false
            }
            Err(error) => {
                let problem = Problem::rendering("`when`", when, error);
                let place = Self::extra_of(&mut self.extras, taken);
                self.extras[place].problem = Some(Arc::new(problem));
                true
            }
        }
    }

    /// What of the rest is to be looked at once all is known: conditions that ask for rows and
    /// sidecars, and what several rules take.
    pub fn finish(&mut self, basis: &Basis<'_>) {
        let rules = &basis.manifest.rules;
        if rules.iter().any(asks_beside) {
            let mut taken = std::mem::take(&mut self.taken);
            taken.retain(|file| {
                let has_problem = self.extra(file).problem.is_some();
                let is_open = asks_beside(&rules[file.rule()]) && !has_problem;
                !is_open || self.holds(basis, file)
            });
            self.taken = taken;
        }
        if basis.manifest.overlap == Overlap::First {
            self.leave_to_first(basis);
        }
    }

    /// Leaves each file to the first rule that takes it.
    fn leave_to_first(&mut self, basis: &Basis<'_>) {
        let targets = by_rule(basis);
        let mut first: HashMap<(&Target, SourcePath), usize> = HashMap::new();
        let left_out = &mut self.left_out;
        self.taken.retain(|taken| {
            let key = (&*targets[taken.rule()], basis.source_path(taken));
            let earlier = *first.entry(key).or_insert(taken.rule());
            if earlier != taken.rule() {
                let refusal = Refusal::TakenBy(earlier);
                *left_out[taken.rule()].entry(refusal).or_default() += 1;
            }
            earlier == taken.rule()
        });
    }

    /// Tells further copies from first ones by what patterns alone say: sizes, times, conditions
    /// and lists may say otherwise tomorrow, and then a file would have another name in the ledger.
    fn tell_copies(&mut self, basis: &Basis<'_>, seen: &[(usize, RootId, usize)]) {
        let targets = by_rule(basis);
        let rules = &basis.manifest.rules;
        let mut text = String::new();
        let mut path = |root: RootId, candidate: usize| {
            let root = &basis.candidates.roots[root.0];
            SourcePath::new(root.write_source_path(candidate, &mut text))
        };
        let mut first: HashMap<(&Target, SourcePath), usize> = HashMap::new();
        for (rule, root, candidate) in seen {
            if rules[*rule].select.files_from.is_none() {
                let key = (&*targets[*rule], path(*root, *candidate));
                let earliest = first.entry(key).or_insert(*rule);
                *earliest = (*earliest).min(*rule);
            }
        }
        for at in 0..self.taken.len() {
            let mut taken = self.taken.get(at);
            let root = basis.root_of(&taken);
            let key = (&*targets[taken.rule()], path(root, taken.candidate()));
            if first.get(&key) != Some(&taken.rule()) {
                taken.mark_further();
                self.taken.set(at, taken);
            }
        }
    }
}

/// Whether `when` can only be asked once rows and sidecars are known.
fn asks_beside(rule: &Rule) -> bool {
    rule.select.when.as_ref().is_some_and(|when| {
        let uses = when.value.uses();
        !uses.row.is_empty() || !uses.sidecar.is_empty()
    })
}

/// Whether it is known that an include of a rule takes a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Included {
    Yes,
    Unknown,
}

/// Why a rule does not take a candidate, as far as patterns, depth, size and time say so.
#[must_use]
pub fn refusal(basis: &Basis<'_>, rule: &Rule, candidate: &Candidate) -> Option<Refusal> {
    let found = (candidate.relative.as_str(), &candidate.entry);
    refusal_of(basis, rule, found, Included::Unknown)
}

fn refusal_of(
    basis: &Basis<'_>,
    rule: &Rule,
    (path, entry): (&str, &Entry),
    is_included: Included,
) -> Option<Refusal> {
    let select = &rule.select;
    if let Some(folder) = path.strip_suffix('/') {
        // What cannot be listed may hide files that are wanted.
        let hides =
            folder == "." || rule.include.may_match_below(folder) && !rule.exclude.covers(folder);
        let is_deep = select.max_depth.is_some_and(|max| depth(folder) >= max);
        return (!hides || folder != "." && is_deep).then_some(Refusal::NotIncluded);
    }
    let is_included = is_included == Included::Yes
        || rule.include.patterns().is_empty()
        || rule.include.matches(path);
    if may_hold_files(entry) {
        let hides = rule.include.may_match_below(path) && !rule.exclude.covers(path);
        let is_taken = is_included && !rule.exclude.matches(path);
        return (!hides && !is_taken).then_some(Refusal::NotIncluded);
    }
    if !is_included {
        return Some(Refusal::NotIncluded);
    }
    if !rule.exclude.patterns().is_empty()
        && let Some(pattern) = rule.exclude.matching(path).next()
    {
        return Some(Refusal::Excluded(pattern));
    }
    if select.max_depth.is_some_and(|max| depth(path) > max) {
        return Some(Refusal::TooDeep);
    }
    let Entry::File(stat) = entry else {
        return None;
    };
    if select.min_size.is_some_and(|min| stat.size < min) {
        return Some(Refusal::TooSmall);
    }
    if select.max_size.is_some_and(|max| stat.size > max) {
        return Some(Refusal::TooLarge);
    }
    if let Some(min) = select.min_age {
        let age = basis.run.1.duration_since(stat.modified());
        // A clock may be a little ahead; a time far in the future says nothing of the age.
        let is_far_ahead = age < -AHEAD_MAX;
        if !is_far_ahead && age < SignedDuration::try_from(min).unwrap_or(SignedDuration::MAX) {
            return Some(Refusal::TooYoung);
        }
    }
    None
}

/// When a file is old enough for a rule.
fn of_age(rule: &Rule, stat: Stat) -> Timestamp {
    let min = SignedDuration::try_from(rule.select.min_age.unwrap_or_default());
    let min = min.unwrap_or(SignedDuration::MAX);
    stat.modified().checked_add(min).unwrap_or(Timestamp::MAX)
}

/// Whether there may be files behind it that a rule wants: it must not pass in silence.
fn may_hold_files(entry: &Entry) -> bool {
    matches!(entry, Entry::Other(kind) if kind.may_hold_files())
}

fn depth(path: &str) -> usize {
    path.split('/').count()
}

/// What a rule's capture finds in a path.
pub(super) fn captured(rule: &Rule, path: &str) -> Option<Fields> {
    rule.capture.as_ref()?.capture.find(path)
}

/// What templates of one file may use.
pub(super) fn values<'a>(
    basis: &Basis<'a>,
    rule: &'a Rule,
    extra: &'a Extra,
    file: (&'a str, Stat),
    capture: Option<&'a Fields>,
) -> Values<'a> {
    Values {
        manifest: &basis.manifest.name,
        run: Some(basis.run),
        rule: Some(&rule.name),
        file: Some(file),
        capture,
        row: extra.row.as_ref().map(|row| &row.fields),
        sidecar: extra.sidecar.as_ref().map(|beside| &beside.1.fields),
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::select as one_of;

    use super::*;
    use crate::diagnostic::Source;
    use crate::manifest::{Given, Manifest, read};
    use crate::model::{Candidates, Environment, Origin, RootCandidates, RunId};
    use crate::plan::Copies;

    fn manifest(text: String) -> Manifest {
        let source = Source {
            name: "m.yaml".to_owned(),
            text,
        };
        let given = Environment::default();
        let reading = read(&source, Path::new("m.yaml"), Given::environment(&given));
        assert_eq!(reading.diagnostics, [], "{}", source.text);
        reading.manifest
    }

    fn candidates(rules: usize, files: &BTreeMap<String, (u64, i64)>) -> Candidates {
        let file = |(path, (size, age)): (&String, &(u64, i64))| Candidate {
            relative: RelativePath::new(path.as_str()),
            entry: Entry::File(Stat {
                size: *size,
                mtime_ns: -age * 1_000_000_000,
                inode: 1,
            }),
        };
        Candidates {
            roots: vec![RootCandidates::of(
                "in/".to_owned(),
                None,
                files.iter().map(file).collect(),
            )],
            rule_roots: vec![Some(RootId(0)); rules],
            spill: Arc::default(),
        }
    }

    /// What is taken, as (rule, path, whether it is a copy).
    fn taken(
        manifest: &Manifest,
        files: &BTreeMap<String, (u64, i64)>,
    ) -> Vec<(usize, String, bool)> {
        let candidates = candidates(manifest.rules.len(), files);
        let (origin, run) = (Origin::new("sandbox"), RunId::new("run"));
        let basis = Basis {
            manifest,
            candidates: &candidates,
            origin: &origin,
            organization: None,
            run: (&run, Timestamp::UNIX_EPOCH),
        };
        let mut selection = Selection::new(&basis);
        selection.finish(&basis);
        let rows = selection.taken.iter().map(|taken| {
            let (path, _) = basis.found(&taken);
            (taken.rule(), path, taken.copy() == Copies::Further)
        });
        rows.collect()
    }

    const PATTERNS: [&str; 6] = ["**", "*.a", "x/**", "**/*.b", "{x,y}/*.a", "x/y/z.a"];
    const OVERLAPS: [&str; 3] = ["error", "first", "all"];

    proptest! {
        #[test]
        fn what_is_taken_agrees_with_a_naive_reading_of_the_rules(
            files in prop::collection::btree_map("([xy]/){0,2}[xyz]\\.[ab]", (0_u64..4, 0_i64..4), 0..12),
            rules in prop::collection::vec(
                (one_of(&PATTERNS[..]), one_of(&PATTERNS[1..]), 0_u64..3, 1_i64..4, 1_usize..4, 0_u64..3),
                1..4,
            ),
            overlap in one_of(&OVERLAPS[..]),
        ) {
            let mut text = format!("version: 1\noverlap: {overlap}\nuploads:\n");
            for (index, (include, exclude, min, age, depth, odd)) in rules.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "- {{name: r{index}, root: in, include: '{include}', exclude: '{exclude}', \
                     min_size: {min}, min_age: {age}s, max_depth: {depth}, \
                     when: '${{{{ file.size != {odd} }}}}'}}"
                );
            }
            let manifest = manifest(text);
            let mut expected = Vec::new();
            let (mut seen, mut by_patterns) = (HashMap::new(), HashMap::new());
            for (index, (_, _, min, age, depth, odd)) in rules.iter().enumerate() {
                let rule = &manifest.rules[index];
                for (path, (size, old)) in &files {
                    let is_matched = rule.include.matches(path)
                        && !rule.exclude.matches(path)
                        && path.matches('/').count() < *depth;
                    if !is_matched {
                        continue;
                    }
                    let is_copy = *by_patterns.entry(path).or_insert(index) != index;
                    if size < min || old < age || size == odd {
                        continue;
                    }
                    let is_first = *seen.entry(path).or_insert(index) == index;
                    if is_first || overlap != "first" {
                        expected.push((index, path.clone(), is_copy && overlap == "all"));
                    }
                }
            }
            prop_assert_eq!(taken(&manifest, &files), expected);
        }
    }
}
