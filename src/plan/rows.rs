//! A plan's rows, packed: what few of them have lies beside them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::decision::{
    Action, Decision, Note, PlannedFile, PlannedRule, Reason, Sending, SkipReason, Tally,
    UploadReason,
};
use super::left::Left;
use super::marks::{Kind, Marks, Row};
use super::names::SharedNames;
use super::recipe::{Made, Recipe};
use super::select::{Problem, Refusal, Selection};
use super::taken::Taken;
use super::versions::Versions;
use super::{Basis, SIZE_NOTED};
use crate::model::{
    CandidateId, Doubt, FileIds, InDoubt, RelativePath, RemoteName, RootCandidates, SourcePath,
    Stat,
};

/// All planned files with, for each, what to do and why. It has a few bytes for each; what would be
/// sent is rendered when it is asked for, from what the plan was made from.
#[derive(Debug)]
pub struct Plan<'a> {
    /// The manifest's name.
    pub manifest: String,
    /// The rules in order.
    pub rules: Vec<PlannedRule>,
    /// Why the rows that cannot be sent cannot: the row's index, and the problem with its place.
    pub problems: Vec<(usize, Arc<Problem>)>,
    /// For each rule, how many of the files that its patterns match it leaves out, and why.
    pub left_out: Vec<BTreeMap<Refusal, usize>>,
    /// Files stored by earlier runs of this manifest whose source is gone. They are counted, and
    /// never touched.
    pub vanished: usize,
    pub(super) basis: Basis<'a>,
    pub(super) selection: &'a Selection,
    pub(super) recipes: Vec<Recipe<'a>>,
    pub(super) rows: Marks,
    pub(super) versions: Versions,
    /// What no rule takes any more, among it where moved files lay.
    pub(super) left: Left,
    pub(super) others: Vec<Decision>,
    pub(super) shared_names: SharedNames,
}

pub(super) fn small(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Plan<'_> {
    /// How many rows it has. They are in order by rule, then by path.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A set of file ids, which goes where what the plan was made from does if it grows.
    #[must_use]
    pub fn file_ids(&self) -> FileIds {
        FileIds::new(&self.basis.candidates.spill)
    }

    /// A row as a whole.
    #[must_use]
    pub fn file(&self, index: usize) -> PlannedFile {
        let taken = &self.taken(index);
        let relative = self.relative(index);
        let made = self.made(index, &relative);
        let wanted = made.as_ref().map(|made| &*made.wanted);
        let notes = self.notes(index, wanted);
        let recipe = &self.recipes[taken.rule()];
        let sending = made.and_then(|made| recipe.sending(&relative, made));
        PlannedFile {
            rule: taken.rule(),
            root: self.basis.root_of(taken),
            path: self.path(index),
            stat: self.stat(index),
            sending,
            decision: self.decision(index),
            notes,
            relative: RelativePath::new(relative.as_str()),
        }
    }

    /// All rows as wholes, each made when it is asked for.
    #[must_use]
    pub fn files(&self) -> impl ExactSizeIterator<Item = PlannedFile> {
        (0..self.len()).map(|index| self.file(index))
    }

    /// The indices of one rule's rows.
    #[must_use]
    pub fn of_rule(&self, rule: usize) -> Range<usize> {
        self.selection.taken.of_rule(rule)
    }

    /// The index of a row's rule.
    #[must_use]
    pub fn rule(&self, index: usize) -> usize {
        self.selection.taken.rule(index)
    }

    /// What was found of a row's file.
    #[must_use]
    pub fn candidate(&self, index: usize) -> CandidateId {
        self.basis.candidate_id(&self.taken(index))
    }

    /// What the ledger knows a row's file by.
    #[must_use]
    pub fn path(&self, index: usize) -> SourcePath {
        self.basis.source_path(&self.taken(index))
    }

    /// The same, written into a text that may be used again.
    pub fn write_path<'t>(&self, index: usize, text: &'t mut String) -> &'t str {
        self.basis.write_source_path(&self.taken(index), text)
    }

    /// A row's path below its root.
    #[must_use]
    pub fn relative(&self, index: usize) -> String {
        let (root, at) = self.at(index);
        let mut text = String::new();
        root.write_relative(at, &mut text);
        text
    }

    /// Size and times of a row's file; none where there is no regular file.
    #[must_use]
    pub fn stat(&self, index: usize) -> Option<Stat> {
        let (root, at) = self.at(index);
        root.stat(at)
    }

    /// Bytes of a row's file; none where there is no regular file.
    #[must_use]
    pub fn size(&self, index: usize) -> u64 {
        self.stat(index).map_or(0, |stat| stat.size)
    }

    /// What is sent, or would be, with a row's file; none where it cannot be sent.
    #[must_use]
    pub fn sending(&self, index: usize) -> Option<Sending> {
        let relative = self.relative(index);
        let made = self.made(index, &relative)?;
        self.recipes[self.rule(index)].sending(&relative, made)
    }

    /// What to do with a row's file, and why.
    #[must_use]
    pub fn decision(&self, index: usize) -> Decision {
        let Row { kind, detail, .. } = self.rows.get(index);
        match kind {
            Kind::New => Decision::Upload(UploadReason::New),
            Kind::Changed => Decision::Upload(UploadReason::Changed),
            Kind::MetadataChanged => Decision::Upload(UploadReason::MetadataChanged),
            Kind::Retry => Decision::Upload(UploadReason::Retry),
            Kind::Unchanged => self.versions.skip(detail, SkipReason::Unchanged),
            Kind::Touched => self.versions.skip(detail, SkipReason::Touched),
            Kind::Moved => self.moved(detail),
            Kind::ChangeIgnored => self.versions.skip(detail, SkipReason::ChangeIgnored),
            Kind::ChangeRefused => Decision::ChangeRefused,
            Kind::Conflict => Decision::Conflict(self.rules[detail as usize].name.clone()),
            Kind::Problem => {
                let problem = self.problem(index);
                Decision::Unusable(problem.map_or_else(String::new, |of| of.message.clone()))
            }
            Kind::Other => self.others[detail as usize].clone(),
            Kind::Undecided => Decision::Unusable("its content was not read".to_owned()),
        }
    }

    /// What is done with a row's file.
    #[must_use]
    pub fn action(&self, index: usize) -> Action {
        match self.rows.kind(index) {
            Kind::New | Kind::Changed | Kind::MetadataChanged | Kind::Retry => Action::Upload,
            Kind::Unchanged | Kind::Touched | Kind::Moved | Kind::ChangeIgnored => Action::Skip,
            Kind::ChangeRefused => Action::Refuse,
            Kind::Conflict => Action::Conflict,
            Kind::Problem | Kind::Undecided => Action::Unusable,
            Kind::Other => self.others[self.rows.detail(index)].action(),
        }
    }

    /// Why that is done.
    #[must_use]
    pub fn reason(&self, index: usize) -> Reason {
        match self.rows.kind(index) {
            Kind::New => Reason::New,
            Kind::Changed | Kind::ChangeRefused => Reason::Changed,
            Kind::MetadataChanged => Reason::MetadataChanged,
            Kind::Retry => Reason::Retry,
            Kind::Unchanged | Kind::Touched => Reason::Unchanged,
            Kind::Moved => Reason::Moved,
            Kind::ChangeIgnored => Reason::ChangeIgnored,
            Kind::Conflict => Reason::SameFile,
            Kind::Problem | Kind::Undecided => Reason::Unusable,
            Kind::Other => self.others[self.rows.detail(index)].reason(),
        }
    }

    /// Whether a row's file is to be sent.
    #[must_use]
    pub fn is_upload(&self, index: usize) -> bool {
        self.action(index) == Action::Upload
    }

    /// Whether a row tells the ledger something before anything is sent: that its file is as it was
    /// although it looks otherwise, or that it was moved.
    #[must_use]
    pub fn is_news(&self, index: usize) -> bool {
        matches!(self.rows.kind(index), Kind::Touched | Kind::Moved)
    }

    /// Whether a run asks the service about a row's file: to store it, or whether it is stored.
    #[must_use]
    pub fn asks_service(&self, index: usize) -> bool {
        match self.action(index) {
            Action::Upload => true,
            Action::Hold => self.held(index).is_some_and(|of| of == InDoubt::Verify),
            _ => false,
        }
    }

    fn moved(&self, version: u32) -> Decision {
        let from = self.versions.from(version);
        match from.and_then(|from| self.left.path(from)) {
            Some(path) => self.versions.skip(version, SkipReason::Moved(path)),
            None => Decision::Unusable("where it lay cannot be read back".to_owned()),
        }
    }

    /// How a row's doubt is to be settled, where it waits for that.
    fn held(&self, index: usize) -> Option<InDoubt> {
        match self.other(index)? {
            Decision::Hold(held) => Some(held.policy),
            _ => None,
        }
    }

    fn other(&self, index: usize) -> Option<&Decision> {
        let is_other = self.rows.kind(index) == Kind::Other;
        is_other.then(|| &self.others[self.rows.detail(index)])
    }

    /// Whether a row's file is left as it is stored although something of it changed.
    #[must_use]
    pub fn is_drifted(&self, index: usize) -> bool {
        let row = self.rows.get(index);
        match row.kind {
            Kind::ChangeIgnored => true,
            Kind::Unchanged | Kind::Touched => row.metadata_differs,
            _ => false,
        }
    }

    /// Whether a doubt is this manifest's own, at a target that it still has, of a file that is to
    /// be looked up although no row waits for it.
    #[must_use]
    pub fn left_behind(&self, doubt: &Doubt) -> bool {
        let is_held = |row: Row| {
            let other = (row.kind == Kind::Other).then(|| &self.others[row.detail as usize]);
            match other {
                Some(Decision::Hold(held)) => held.attempt == doubt.attempt,
                Some(Decision::Upload(UploadReason::Resend(attempt))) => *attempt == doubt.attempt,
                _ => false,
            }
        };
        doubt.stream == self.manifest
            && self.rules.iter().any(|rule| *rule.target == doubt.target)
            && !self.rows.iter().any(is_held)
    }

    /// Counts of all rows with an action.
    #[must_use]
    pub fn tally(&self, action: Action) -> Tally {
        let mut tally = Tally::default();
        for index in (0..self.len()).filter(|index| self.action(*index) == action) {
            tally.add(self.size(index));
        }
        tally
    }

    /// Counts by (action, reason), in a fixed order.
    #[must_use]
    pub fn tallies(&self) -> BTreeMap<(Action, Reason), Tally> {
        let mut tallies: BTreeMap<_, Tally> = BTreeMap::new();
        for index in 0..self.len() {
            let key = (self.action(index), self.reason(index));
            tallies.entry(key).or_default().add(self.size(index));
        }
        tallies
    }

    /// What is worth knowing of a row, beside what is done with it.
    #[must_use]
    pub fn notes_of(&self, index: usize) -> Vec<Note> {
        let mut text = String::new();
        let wanted = self.wanted(index, &mut text);
        self.notes(index, wanted.as_deref())
    }

    fn notes(&self, index: usize, wanted: Option<&str>) -> Vec<Note> {
        let mut notes = Vec::new();
        let (Some(wanted), Some(stat)) = (wanted, self.stat(index)) else {
            return notes;
        };
        let kind = self.rows.kind(index);
        if matches!(self.action(index), Action::Upload | Action::Conflict) {
            if !RemoteName::is_plain(wanted)
                && let Ok(name) = RemoteName::new(wanted)
                && let stored = name.stored()
                && stored.as_str() != wanted
            {
                notes.push(Note::StoredAs(stored.as_str().to_owned()));
            }
            if stat.size >= SIZE_NOTED {
                notes.push(Note::Large);
            }
            if stat.size == 0 {
                notes.push(Note::Empty);
            }
        }
        let is_stored = matches!(kind, Kind::Unchanged | Kind::Touched | Kind::ChangeIgnored);
        if is_stored && self.rows.get(index).metadata_differs {
            notes.push(Note::MetadataDiffers);
        }
        if self.is_upload(index) {
            match self.shared_names.others(self.rule(index), wanted) {
                0 => {}
                others => notes.push(Note::NameShared(others as usize)),
            }
        }
        notes
    }

    /// What is made of a row's file; none where it cannot be sent.
    pub(super) fn made<'p>(&self, index: usize, relative: &'p str) -> Option<Made<'p>> {
        if self.rows.kind(index) == Kind::Problem {
            return None;
        }
        let taken = &self.taken(index);
        let extra = self.selection.extra(taken);
        let (root, at) = self.place(taken);
        let file = (relative, root.stat(at)?);
        self.recipes[taken.rule()]
            .make(&self.basis, extra, file)
            .ok()
    }

    /// The name of a row's file as the manifest wants it; none where it cannot be sent.
    pub(super) fn wanted<'t>(&self, index: usize, text: &'t mut String) -> Option<Cow<'t, str>> {
        if self.rows.kind(index) == Kind::Problem {
            return None;
        }
        let taken = &self.taken(index);
        let extra = self.selection.extra(taken);
        let (root, at) = self.place(taken);
        let file = root.write_file(at, text)?;
        self.recipes[taken.rule()].wanted(&self.basis, extra, file)
    }

    fn problem(&self, index: usize) -> Option<&Problem> {
        let at = self.problems.binary_search_by_key(&index, |(row, _)| *row);
        Some(&self.problems[at.ok()?].1)
    }

    /// Decides otherwise about a row.
    pub(crate) fn decide(&mut self, index: usize, decision: Decision) {
        self.others.push(decision);
        let row = Row {
            detail: small(self.others.len() - 1),
            ..Row::of(Kind::Other)
        };
        self.rows.set(index, row);
    }

    fn taken(&self, index: usize) -> Taken {
        self.selection.taken.get(index)
    }

    fn at(&self, index: usize) -> (&RootCandidates, usize) {
        self.place(&self.taken(index))
    }

    fn place(&self, taken: &Taken) -> (&RootCandidates, usize) {
        let root = self.basis.root_of(taken);
        (&self.basis.candidates.roots[root.0], taken.candidate())
    }
}
