//! Which of very many lists of patterns match a path, without asking each of them.

use super::Globs;

/// Answers for many [`Globs`] at once what each of them would answer.
#[derive(Debug)]
pub struct GlobIndex<'a> {
    all: Vec<&'a Globs>,
}

impl<'a> GlobIndex<'a> {
    /// Indexes them; an answer names each by its place in this order.
    #[must_use]
    pub fn new(globs: impl IntoIterator<Item = &'a Globs>) -> Self {
        Self {
            all: globs.into_iter().collect(),
        }
    }

    /// Those that match this relative path, in ascending order: exactly those whose
    /// [`Globs::matches`] says so.
    pub fn taking(&self, path: &str) -> impl Iterator<Item = usize> {
        let mut found = Vec::new();
        self.any_taking(path, |index| {
            found.push(index);
            false
        });
        found.sort_unstable();
        found.dedup();
        found.into_iter()
    }

    /// Those that may match a file somewhere below this folder, in ascending order: some of those
    /// whose [`Globs::may_match_below`] says so, and all that do match one.
    pub fn taking_below(&self, folder: &str) -> impl Iterator<Item = usize> {
        let mut found = Vec::new();
        self.any_taking_below(folder, |index| {
            found.push(index);
            false
        });
        found.sort_unstable();
        found.dedup();
        found.into_iter()
    }

    /// Whether any matches this relative path and is accepted too. Asks in no order, some perhaps
    /// twice, and no more after one that is accepted.
    pub fn any_taking(&self, path: &str, mut accept: impl FnMut(usize) -> bool) -> bool {
        let mut all = self.all.iter().enumerate();
        all.any(|(index, globs)| globs.matches(path) && accept(index))
    }

    /// Whether any may match a file somewhere below this folder: if not, a walk need not enter it.
    #[must_use]
    pub fn any_below(&self, folder: &str) -> bool {
        self.any_taking_below(folder, |_| true)
    }

    /// Whether any may match a file somewhere below this folder and is accepted too. Asks as
    /// [`GlobIndex::any_taking`] does.
    pub fn any_taking_below(&self, folder: &str, mut accept: impl FnMut(usize) -> bool) -> bool {
        let mut all = self.all.iter().enumerate();
        all.any(|(index, globs)| globs.may_match_below(folder) && accept(index))
    }
}
