//! The join of what is taken with what the ledger knows: both in the order of their paths, one
//! target after the other, so that of either no more is in memory than a page.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashSet};
use std::convert::Infallible;
use std::ops::{Bound, Range};
use std::sync::Arc;
use std::vec;

use super::decision::{Decision, Held, PlannedRule, StoredBefore, UploadReason};
use super::left::Left;
use super::marks::{Kind, Marks, Row};
use super::names::SharedNames;
use super::recipe::Recipe;
use super::rows::{Plan, small};
use super::select::Problem;
use super::taken::Copies;
use super::versions::Versions;
use super::{Comparison, Inputs, by_rule, compare, moved, names};
use crate::manifest::{OnChange, OnMetadataChange, Overlap, Rule};
use crate::model::{
    Digests, Doubt, Entry, InDoubt, Known, KnownFile, KnownState, Metadata, Owner, SourcePath,
    Stat, Target, ToRead,
};

/// Files of one target that are asked for at a time.
const PAGE: usize = if cfg!(test) { 2 } else { 1000 };

/// What was done before, as planning reads it.
pub trait Before {
    /// Why it cannot be read.
    type Error;

    /// What is known of a target's files from a path on, in the order of the paths' bytes, so many
    /// at the most; fewer only where there are no more.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    fn known_from(
        &self,
        target: &Target,
        from: Bound<&SourcePath>,
        limit: usize,
    ) -> Result<Vec<(SourcePath, KnownFile)>, Self::Error>;
}

impl Before for Known {
    type Error = Infallible;

    fn known_from(
        &self,
        target: &Target,
        from: Bound<&SourcePath>,
        limit: usize,
    ) -> Result<Vec<(SourcePath, KnownFile)>, Infallible> {
        let known = self.from(target, from).take(limit);
        Ok(known
            .map(|(path, file)| (path.clone(), file.clone()))
            .collect())
    }
}

/// A plan before anybody has looked at what is gone and read the files whose content decides.
#[derive(Debug)]
pub struct Sketch<'a> {
    pub(super) plan: Plan<'a>,
    pub(super) inputs: Inputs<'a>,
    /// Each once, in order.
    pub(super) targets: Vec<Arc<Target>>,
    /// Each rule's target among them.
    pub(super) target_of: Vec<u32>,
    /// Rows of one file for one target, where there are several.
    pub(super) overlaps: Vec<Vec<u32>>,
}

/// Which of what [`Sketch::absent`] told is gone, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone(Vec<bool>);

impl Gone {
    /// That of which it is said, in the order of what was told.
    pub fn new(gone: impl IntoIterator<Item = bool>) -> Self {
        Self(gone.into_iter().collect())
    }

    /// How many of the first ones are.
    pub(super) fn count(&self, first: usize) -> usize {
        self.0
            .iter()
            .take(first)
            .filter(|is_gone| **is_gone)
            .count()
    }

    pub(super) fn has(&self, at: usize) -> bool {
        self.0.get(at).copied().unwrap_or(false)
    }
}

/// The rows of a rule that are merged with those of others.
struct Lane {
    path: String,
    row: u32,
    rest: Rest,
}

enum Rest {
    /// As they come; of these, where copies are told, first ones alone.
    Rows(Range<u32>),
    /// Further copies, in the order of their paths.
    Copies(vec::IntoIter<u32>),
}

impl PartialEq for Lane {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Lane {}

impl PartialOrd for Lane {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The greatest is the next.
impl Ord for Lane {
    fn cmp(&self, other: &Self) -> Ordering {
        (&other.path, other.row).cmp(&(&self.path, self.row))
    }
}

impl Lane {
    /// Goes to the next row; none behind the last.
    fn next(mut self, inputs: &Inputs<'_>) -> Option<Self> {
        let taken = &inputs.selection.taken;
        self.row = match &mut self.rest {
            Rest::Copies(rows) => rows.next()?,
            Rest::Rows(rows) => {
                rows.find(|row| taken.get(*row as usize).copy() == Copies::First)?
            }
        };
        let taken = &taken.get(self.row as usize);
        inputs.basis.write_source_path(taken, &mut self.path);
        Some(self)
    }
}

/// What the ledger knows of one target, page by page.
struct Pages<'b, B> {
    before: &'b B,
    target: &'b Target,
    page: vec::IntoIter<(SourcePath, KnownFile)>,
    next: Option<(SourcePath, KnownFile)>,
    is_last: bool,
}

impl<'b, B: Before> Pages<'b, B> {
    fn of(before: &'b B, target: &'b Target) -> Result<Self, B::Error> {
        let mut pages = Self {
            before,
            target,
            page: Vec::new().into_iter(),
            next: None,
            is_last: false,
        };
        pages.turn(Bound::Unbounded)?;
        pages.next = pages.page.next();
        Ok(pages)
    }

    fn turn(&mut self, from: Bound<&SourcePath>) -> Result<(), B::Error> {
        let page = self.before.known_from(self.target, from, PAGE)?;
        self.is_last = page.len() < PAGE;
        self.page = page.into_iter();
        Ok(())
    }

    /// Takes the one that is next.
    fn take(&mut self) -> Result<Option<(SourcePath, KnownFile)>, B::Error> {
        let taken = self.next.take();
        self.next = self.page.next();
        if self.next.is_none()
            && !self.is_last
            && let Some((path, _)) = &taken
        {
            self.turn(Bound::Excluded(path))?;
            self.next = self.page.next();
        }
        Ok(taken)
    }
}

impl<'a> Sketch<'a> {
    /// Joins what is taken with what was done before.
    ///
    /// # Errors
    ///
    /// What was done before cannot be read.
    pub fn new<B: Before>(inputs: &Inputs<'a>, before: &B) -> Result<Self, B::Error> {
        let basis = inputs.basis;
        let rules = &basis.manifest.rules;
        let of_rule = by_rule(&basis);
        let targets = basis.targets();
        let target_of = of_rule.iter().map(|target| {
            let found = targets.binary_search_by(|other| other.cmp(target));
            small(found.unwrap_or_default())
        });
        let planned = rules
            .iter()
            .zip(&of_rule)
            .map(|(rule, target)| PlannedRule {
                name: rule.name.clone(),
                target: Arc::clone(target),
                on_change: rule.on_change,
            });
        let mut sketch = Self {
            plan: Plan {
                manifest: basis.manifest.name.clone(),
                rules: planned.collect(),
                problems: Vec::new(),
                left_out: inputs.selection.left_out.clone(),
                vanished: 0,
                basis,
                selection: inputs.selection,
                recipes: rules.iter().map(|rule| Recipe::of(&basis, rule)).collect(),
                rows: Marks::new(inputs.selection.taken.len()),
                versions: Versions::new(Arc::clone(&basis.candidates.spill)),
                left: Left::new(&basis.candidates.spill),
                others: Vec::new(),
                shared_names: SharedNames::default(),
            },
            inputs: *inputs,
            target_of: target_of.collect(),
            targets,
            overlaps: Vec::new(),
        };
        let mut lanes = sketch.lanes();
        for (at, lanes) in lanes.iter_mut().enumerate() {
            sketch.join(at, std::mem::take(lanes), before)?;
        }
        sketch.plan.problems.sort_by_key(|(row, _)| *row);
        Ok(sketch)
    }

    /// For each target, the rows that are sent there.
    fn lanes(&self) -> Vec<BinaryHeap<Lane>> {
        let inputs = &self.inputs;
        let taken = &inputs.selection.taken;
        let mut lanes: Vec<BinaryHeap<Lane>> = Vec::new();
        lanes.resize_with(self.targets.len(), BinaryHeap::new);
        let tells_copies = inputs.basis.manifest.overlap == Overlap::All;
        for rule in 0..inputs.basis.manifest.rules.len() {
            let of_rule = taken.of_rule(rule);
            let (start, end) = (small(of_rule.start), small(of_rule.end));
            let mut rests = vec![Rest::Rows(start..end)];
            if tells_copies {
                let mut further: Vec<(SourcePath, u32)> = (start..end)
                    .filter(|row| taken.get(*row as usize).copy() == Copies::Further)
                    .map(|row| (inputs.basis.source_path(&taken.get(row as usize)), row))
                    .collect();
                further.sort();
                let rows: Vec<u32> = further.into_iter().map(|(_, row)| row).collect();
                rests.push(Rest::Copies(rows.into_iter()));
            }
            let target = self.target_of[rule] as usize;
            let begun = rests.into_iter().filter_map(|rest| {
                let lane = Lane {
                    path: String::new(),
                    row: start,
                    rest,
                };
                lane.next(inputs)
            });
            lanes[target].extend(begun);
        }
        lanes
    }

    fn join<B: Before>(
        &mut self,
        at: usize,
        mut lanes: BinaryHeap<Lane>,
        before: &B,
    ) -> Result<(), B::Error> {
        let target = Arc::clone(&self.targets[at]);
        let mut known = Pages::of(before, &target)?;
        let inputs = self.inputs;
        let (mut path, mut relative) = (String::new(), String::new());
        let mut rows: Vec<u32> = Vec::new();
        while let Some(lane) = lanes.pop() {
            path.clone_from(&lane.path);
            rows.clear();
            rows.push(lane.row);
            lanes.extend(lane.next(&inputs));
            while lanes.peek().is_some_and(|other| other.path == path) {
                let Some(other) = lanes.pop() else { break };
                rows.push(other.row);
                lanes.extend(other.next(&inputs));
            }
            while let Some((earlier, file)) = &known.next
                && *earlier.as_str() < *path
            {
                self.leave(at, earlier.as_str(), file);
                known.take()?;
            }
            let is_known = known.next.as_ref();
            let is_known = is_known.is_some_and(|(known, _)| known.as_str() == path);
            let file = if is_known { known.take()? } else { None };
            rows.sort_unstable();
            for row in &rows {
                let file = file.as_ref().map(|(_, file)| file);
                self.judge(*row as usize, file, &mut relative);
            }
            if rows.len() > 1 {
                self.overlaps.push(rows.clone());
            }
        }
        while let Some((earlier, file)) = known.take()? {
            self.leave(at, earlier.as_str(), &file);
        }
        Ok(())
    }

    /// Keeps what no rule takes, where it may have been moved. Whatever became of later attempts:
    /// what is stored is stored.
    fn leave(&mut self, target: usize, path: &str, file: &KnownFile) {
        let is_settled = !matches!(file.state, KnownState::InDoubt(..));
        if let Some(stored) = &file.stored
            && is_settled
            && file.owner == Owner::ThisStream
        {
            self.plan.left.push(target, path, stored.stat.size);
        }
    }

    /// Decides about a row, as far as that can be done without reading the file.
    fn judge(&mut self, index: usize, known: Option<&KnownFile>, relative: &mut String) {
        let basis = self.inputs.basis;
        let taken = &self.inputs.selection.taken.get(index);
        let root = &basis.candidates.roots[basis.root_of(taken).0];
        let extra = self.inputs.selection.extra(taken);
        let stat = match root.entry(taken.candidate()) {
            Entry::File(stat) => stat,
            Entry::Other(kind) => {
                let why = format!("{kind}; exclude it, or put a file there");
                return self.refuse(index, Arc::new(Problem::new(why)));
            }
            Entry::Unusable(why) => return self.refuse(index, Arc::new(Problem::new(&*why))),
        };
        if let Some(problem) = &extra.problem {
            return self.refuse(index, Arc::clone(problem));
        }
        let relative = root.write_relative(taken.candidate(), relative);
        let recipe = &self.plan.recipes[taken.rule()];
        let metadata = match recipe.make(&basis, extra, (relative, stat)) {
            Ok(made) => made.metadata,
            Err(problem) => return self.refuse(index, Arc::new(problem)),
        };
        if let Some(known) = known {
            let rule = recipe.rule;
            let row = self.decided(rule, stat, &metadata, known);
            self.plan.rows.set(index, row);
        }
    }

    fn refuse(&mut self, index: usize, problem: Arc<Problem>) {
        self.plan.problems.push((index, problem));
        self.plan.rows.set(index, Row::of(Kind::Problem));
    }

    fn decided(&mut self, rule: &Rule, stat: Stat, metadata: &Metadata, known: &KnownFile) -> Row {
        let mut is_retry = false;
        match &known.state {
            KnownState::InDoubt(attempt, _) if self.inputs.in_doubt == InDoubt::Resend => {
                return self.other(Decision::Upload(UploadReason::Resend(attempt.clone())));
            }
            KnownState::InDoubt(attempt, why) => {
                return self.other(Decision::Hold(Held {
                    attempt: attempt.clone(),
                    why: why.clone(),
                    policy: self.inputs.in_doubt,
                    stored: match known.stored {
                        Some(_) => StoredBefore::Yes,
                        None => StoredBefore::No,
                    },
                }));
            }
            KnownState::Stored => {}
            KnownState::NotStored => is_retry = true,
        }
        let Some(stored) = &known.stored else {
            return Row::of(Kind::Retry);
        };
        let row = Row {
            metadata_differs: stored.metadata != metadata.digest(),
            is_retry,
            ..Row::of(Kind::Undecided)
        };
        let mut keep = |row: Row| Row {
            detail: self.plan.versions.keep(stored, None),
            ..row
        };
        match compare(rule, &stat, stored) {
            Comparison::Same => match same(rule, row, Kind::Unchanged) {
                row if row.kind == Kind::Unchanged => keep(row),
                row => row,
            },
            Comparison::Different => match changed(rule, row) {
                row if row.kind == Kind::ChangeIgnored => keep(row),
                row => row,
            },
            Comparison::ContentDecides => keep(row),
        }
    }

    fn other(&mut self, decision: Decision) -> Row {
        self.plan.others.push(decision);
        Row {
            detail: small(self.plan.others.len() - 1),
            ..Row::of(Kind::Other)
        }
    }

    /// Where files lay that were stored by this manifest's earlier runs, or are in doubt, and that no
    /// rule takes now: they may be gone.
    pub fn absent(&self) -> impl Iterator<Item = SourcePath> {
        let left = &self.plan.left;
        // What cannot be read back must leave the others in their places; the plan is no use then.
        let paths = (0..left.len()).map(|at| left.path(at).unwrap_or_else(|| SourcePath::new(".")));
        paths.chain(self.inputs.doubts.iter().map(|doubt| doubt.path.clone()))
    }

    /// The files in doubt whose sources are gone.
    pub(super) fn gone_doubts(&self, gone: &Gone) -> impl Iterator<Item = &'a Doubt> {
        let left = self.plan.left.len();
        let doubts = self.inputs.doubts.iter().enumerate();
        doubts.filter_map(move |(at, doubt)| gone.has(left + at).then_some(doubt))
    }

    /// The files of which [`Sketch::finish`] needs a digest: stored before, of the same size, but of
    /// another time or inode, or changed so shortly before they were read that the time proves
    /// nothing; and new ones that may have been moved.
    #[must_use]
    pub fn undecided(&self, gone: &Gone) -> ToRead {
        let left = &self.plan.left;
        let mut moved: HashSet<(u32, u64)> = (0..left.len())
            .filter(|at| gone.has(*at))
            .filter_map(|at| left.look(at))
            .collect();
        moved.extend(self.gone_doubts(gone).filter_map(|doubt| {
            let target = self
                .targets
                .binary_search_by(|other| (**other).cmp(&doubt.target));
            Some((small(target.ok()?), doubt.stat.size))
        }));
        let mut to_read = ToRead::default();
        for index in 0..self.plan.len() {
            let is_wanted = match self.plan.rows.kind(index) {
                Kind::Undecided => true,
                Kind::New if !moved.is_empty() => {
                    let target = self.target_of[self.plan.rule(index)];
                    let stat = self.plan.stat(index);
                    stat.is_some_and(|stat| moved.contains(&(target, stat.size)))
                }
                _ => false,
            };
            if is_wanted {
                to_read.insert(self.plan.candidate(index));
            }
        }
        to_read
    }

    /// Makes the plan.
    ///
    /// # Errors
    ///
    /// What was done before cannot be read.
    pub fn finish<B: Before>(
        mut self,
        gone: &Gone,
        digests: &Digests,
        before: &B,
    ) -> Result<Plan<'a>, B::Error> {
        self.settle(digests);
        names::mark_conflicts(&mut self);
        moved::hold_retargeted(&mut self);
        moved::hold_moved(&mut self, gone, digests);
        self.plan.vanished = moved::adopt_moved(&mut self, gone, digests, before)?;
        names::note_shared_names(&mut self);
        Ok(self.plan)
    }

    /// Decides about the rows whose content does.
    fn settle(&mut self, digests: &Digests) {
        for index in 0..self.plan.len() {
            if self.plan.rows.kind(index) != Kind::Undecided {
                continue;
            }
            let row = self.plan.rows.get(index);
            let rule = &self.inputs.basis.manifest.rules[self.plan.rule(index)];
            let row = match digests.get(self.plan.candidate(index)) {
                Some(Ok(digest)) if self.plan.versions.digest(row.detail) == Some(digest) => {
                    same(rule, row, Kind::Touched)
                }
                Some(Ok(_)) => changed(rule, row),
                Some(Err(why)) => self.other(Decision::Unusable(why.to_string())),
                None => row,
            };
            self.plan.rows.set(index, row);
        }
    }
}

/// A row whose file is as it was stored.
fn same(rule: &Rule, row: Row, kind: Kind) -> Row {
    let is_sent = rule.on_metadata_change == OnMetadataChange::Upload && row.metadata_differs;
    let kind = match (is_sent, row.is_retry) {
        (false, _) => kind,
        (true, true) => Kind::Retry,
        (true, false) => Kind::MetadataChanged,
    };
    Row { kind, ..row }
}

/// A row whose file is not as it was stored.
fn changed(rule: &Rule, row: Row) -> Row {
    let kind = match rule.on_change {
        OnChange::Upload if row.is_retry => Kind::Retry,
        OnChange::Upload => Kind::Changed,
        OnChange::Skip => Kind::ChangeIgnored,
        OnChange::Fail => Kind::ChangeRefused,
    };
    Row { kind, ..row }
}
