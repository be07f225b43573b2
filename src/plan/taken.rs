//! What all rules take: in most a rule's files follow each other, and then take next to nothing.

use std::ops::Range;

use super::details::{CHUNK, Details};
use super::rows::small;

/// A candidate that a rule takes. There may be millions: what few of them have is kept elsewhere
/// ([`Selection::extra`](super::Selection::extra)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    rule: u32,
    candidate: u32,
    /// The place of what lies beside it, from 1; and whether it is a further copy.
    rest: u32,
}

/// The bit of [`Taken::rest`] that marks a further copy.
const FURTHER: u32 = 1 << 31;

/// Whether an earlier rule sends the same file to the same target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// No: it is known by its path.
    First,
    /// Yes, and `overlap: all` says that both are wanted: it is known by its path and its rule.
    Further,
}

impl Taken {
    pub(super) fn new(rule: usize, candidate: usize) -> Self {
        Self {
            rule: small(rule),
            candidate: small(candidate),
            rest: 0,
        }
    }

    /// Index of the rule.
    #[must_use]
    pub fn rule(&self) -> usize {
        self.rule as usize
    }

    /// Its index among what was found in the rule's root.
    #[must_use]
    pub fn candidate(&self) -> usize {
        self.candidate as usize
    }

    /// Whether an earlier rule sends it to the same target too.
    #[must_use]
    pub fn copy(&self) -> Copies {
        if self.rest & FURTHER == 0 {
            Copies::First
        } else {
            Copies::Further
        }
    }

    pub(super) fn mark_further(&mut self) {
        self.rest |= FURTHER;
    }

    pub(super) fn extra(&self) -> Option<usize> {
        (self.rest & !FURTHER).checked_sub(1).map(|at| at as usize)
    }

    pub(super) fn set_extra(&mut self, at: usize) {
        let place = u32::try_from(at + 1).unwrap_or(u32::MAX);
        self.rest = self.rest & FURTHER | place & !FURTHER;
    }
}

/// Everything that is taken: by rule, then in the order of the candidates.
#[derive(Debug, Clone, Default)]
pub struct AllTaken {
    /// Those of each rule.
    rules: Vec<OfRule>,
    len: usize,
}

#[derive(Debug, Clone, Default)]
struct OfRule {
    /// How many rules before it take.
    first: usize,
    len: usize,
    /// So many candidates each.
    full: Vec<Chunk>,
    open: Vec<u32>,
    rests: Details,
}

#[derive(Debug, Clone)]
enum Chunk {
    /// They follow each other from this one on.
    From(u32),
    Each(Box<[u32]>),
}

impl OfRule {
    fn push(&mut self, taken: Taken) {
        self.open.push(taken.candidate);
        self.rests.set(self.len, taken.rest);
        self.len += 1;
        if self.open.len() == CHUNK {
            let first = self.open[0];
            let follow = self.open.iter().zip(first..).all(|(at, next)| *at == next);
            self.full.push(if follow {
                Chunk::From(first)
            } else {
                Chunk::Each(self.open.as_slice().into())
            });
            self.open.clear();
        }
    }

    #[inline]
    fn candidate(&self, at: usize) -> u32 {
        let (chunk, at) = (at / CHUNK, at % CHUNK);
        match self.full.get(chunk) {
            Some(Chunk::From(first)) => first + small(at),
            Some(Chunk::Each(each)) => each[at],
            None => self.open[at],
        }
    }
}

impl AllTaken {
    /// Adds one: those of a rule in the order of its candidates. They can be counted once
    /// [`AllTaken::close`] was told.
    pub(super) fn push(&mut self, taken: Taken) {
        if self.rules.len() <= taken.rule() {
            self.rules.resize_with(taken.rule() + 1, OfRule::default);
        }
        self.rules[taken.rule()].push(taken);
    }

    /// All are added.
    pub(super) fn close(&mut self) {
        self.len = 0;
        for rule in &mut self.rules {
            rule.first = self.len;
            rule.open.shrink_to_fit();
            self.len += rule.len;
        }
    }

    /// How many they are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// One of them.
    ///
    /// # Panics
    ///
    /// Where there are not so many.
    #[must_use]
    #[inline]
    pub fn get(&self, at: usize) -> Taken {
        let (rule, of) = self.of(at);
        let at = at - of.first;
        Taken {
            rule: small(rule),
            candidate: of.candidate(at),
            rest: of.rests.get(at),
        }
    }

    /// The rule of one of them.
    #[must_use]
    #[inline]
    pub fn rule(&self, at: usize) -> usize {
        self.of(at).0
    }

    #[inline]
    fn of(&self, at: usize) -> (usize, &OfRule) {
        let rule = match &*self.rules {
            [_] => 0,
            rules => rules.partition_point(|rule| rule.first <= at) - 1,
        };
        (rule, &self.rules[rule])
    }

    /// Puts another one of the same candidate in the place of one.
    pub(super) fn set(&mut self, at: usize, taken: Taken) {
        let of = &mut self.rules[taken.rule()];
        of.rests.set(at - of.first, taken.rest);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Taken> {
        (0..self.len).map(|at| self.get(at))
    }

    /// The places of those of one rule.
    #[must_use]
    pub fn of_rule(&self, rule: usize) -> Range<usize> {
        match self.rules.get(rule) {
            Some(of) => of.first..of.first + of.len,
            None => self.len..self.len,
        }
    }

    /// The place of a candidate that a rule takes.
    #[must_use]
    pub fn position(&self, rule: usize, candidate: usize) -> Option<usize> {
        let Range { mut start, end } = self.of_rule(rule);
        let mut behind = end;
        while start < behind {
            let middle = usize::midpoint(start, behind);
            if self.get(middle).candidate() < candidate {
                start = middle + 1;
            } else {
                behind = middle;
            }
        }
        (start < end && self.get(start).candidate() == candidate).then_some(start)
    }

    /// Leaves those of which something holds, in their order; it may change what lies beside them.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Taken) -> bool) {
        let mut kept = Self::default();
        for mut taken in self.iter() {
            if keep(&mut taken) {
                kept.push(taken);
            }
        }
        kept.close();
        *self = kept;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// A sorted list is the oracle.
        #[test]
        fn what_is_taken_reads_back_as_it_was_added(
            stretches in prop::collection::vec((0_usize..4, 1_usize..3, 1_usize..1500), 0..8),
            marked in prop::collection::vec(0_usize..4000, 0..8),
        ) {
            let (mut taken, mut expected, mut ends) = (AllTaken::default(), Vec::new(), [0; 4]);
            for (rule, step, count) in stretches {
                for _ in 0..count {
                    ends[rule] += step;
                    let one = Taken::new(rule, ends[rule]);
                    taken.push(one);
                    expected.push(one);
                }
            }
            taken.close();
            expected.sort_by_key(|taken| (taken.rule, taken.candidate));
            let count = expected.len();
            for at in marked.into_iter().filter(|at| *at < count) {
                let mut one = taken.get(at);
                one.set_extra(at);
                one.mark_further();
                taken.set(at, one);
                expected[at] = one;
                prop_assert_eq!((one.extra(), one.copy()), (Some(at), Copies::Further));
            }
            prop_assert!(taken.iter().eq(expected.iter().copied()));
            for (at, one) in expected.iter().enumerate().step_by(97) {
                prop_assert_eq!(taken.position(one.rule(), one.candidate()), Some(at));
            }
            for rule in 0..5 {
                let of_rule = expected.iter().filter(|taken| taken.rule() == rule).count();
                prop_assert_eq!(taken.of_rule(rule).len(), of_rule);
                prop_assert_eq!(taken.position(rule, 100_000), None);
            }
            let is_kept = |taken: &Taken| !taken.candidate.is_multiple_of(3);
            taken.retain(|taken| is_kept(taken));
            expected.retain(is_kept);
            prop_assert!(taken.iter().eq(expected));
        }
    }
}
