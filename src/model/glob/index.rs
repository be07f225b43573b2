//! Which of very many lists of patterns match a path, without asking each of them.
//!
//! The patterns are one tree of components, where equal beginnings are one branch. A path walks
//! down it on all branches at once: a literal name is looked up, and of many wildcards only those
//! are tried whose literal beginning or end the name has.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::{Component, Dotfiles, Globs};

/// Wildcards of one node that are all tried: fewer are not worth a look-up.
const TRIED_MAX: usize = 8;

/// Answers for many [`Globs`] at once what each of them would answer.
pub struct GlobIndex<'a> {
    nodes: Vec<Node<'a>>,
    /// From a node to the next, by the component between them.
    edges: HashMap<(usize, Shape<'a>), usize>,
}

/// The root of the patterns that must name dotfiles, and of those that need not.
const ROOTS: [(usize, Dotfiles); 2] = [(0, Dotfiles::MustBeNamed), (1, Dotfiles::Matched)];

/// Where the patterns of a [`GlobIndex`] have come to in a folder: what is asked of the files in it
/// begins there.
#[derive(Debug, Clone)]
pub struct Reached([Vec<usize>; 2]);

/// Where patterns with one beginning part.
#[derive(Default)]
struct Node<'a> {
    /// Every node one component further.
    next: Vec<usize>,
    /// Those of them behind a wildcard within a name.
    wild: Vec<(&'a Component, usize)>,
    /// Which of many wildcards to try.
    keys: Option<Keys<'a>>,
    /// The one behind a `**`.
    any_depth: Option<usize>,
    /// Whether this one is behind a `**`.
    is_behind_any_depth: bool,
    /// Whether any is behind a literal name.
    is_before_literal: bool,
    /// Whose patterns end here.
    takers: Vec<usize>,
}

/// A component by what it matches, to find equal ones.
#[derive(PartialEq, Eq, Hash)]
enum Shape<'a> {
    AnyDepth,
    Literal(&'a str),
    Wildcard(&'a str),
}

/// Wildcards by how the names that they match begin or end.
#[derive(Default)]
struct Keys<'a> {
    by_start: HashMap<&'a [u8], Vec<usize>>,
    by_end: HashMap<&'a [u8], Vec<usize>>,
    /// How long these beginnings and ends are.
    start_lengths: BTreeSet<usize>,
    end_lengths: BTreeSet<usize>,
    /// Wildcards without either.
    rest: Vec<usize>,
}

impl fmt::Debug for GlobIndex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GlobIndex({} nodes)", self.nodes.len())
    }
}

impl<'a> GlobIndex<'a> {
    /// Indexes them; an answer names each by its place in this order.
    #[must_use]
    pub fn new(globs: impl IntoIterator<Item = &'a Globs>) -> Self {
        let mut index = Self {
            nodes: vec![Node::default(), Node::default()],
            edges: HashMap::new(),
        };
        for (taker, globs) in globs.into_iter().enumerate() {
            let (root, _) = ROOTS[usize::from(globs.dotfiles == Dotfiles::Matched)];
            for glob in globs.patterns() {
                for alternative in &glob.alternatives {
                    let end = alternative
                        .iter()
                        .fold(root, |node, component| index.grow(node, component));
                    index.nodes[end].takers.push(taker);
                }
            }
        }
        for node in &mut index.nodes {
            node.takers.dedup();
            if node.wild.len() > TRIED_MAX {
                node.keys = Some(Keys::new(&node.wild));
            }
        }
        index
    }

    /// The node behind a component, which is made if need be.
    fn grow(&mut self, from: usize, component: &'a Component) -> usize {
        let new = self.nodes.len();
        let node = *self.edges.entry((from, shape(component))).or_insert(new);
        if node == new {
            let is_behind_any_depth = matches!(component, Component::AnyDepth);
            self.nodes.push(Node {
                is_behind_any_depth,
                ..Node::default()
            });
            let from = &mut self.nodes[from];
            from.next.push(new);
            match component {
                Component::AnyDepth => from.any_depth = Some(new),
                Component::Literal(_) => from.is_before_literal = true,
                Component::Wildcard(..) => from.wild.push((component, new)),
            }
        }
        node
    }

    /// Those that match this relative path, in ascending order: exactly those whose
    /// [`Globs::matches`] says so.
    pub fn taking(&self, path: &str) -> impl Iterator<Item = usize> + use<> {
        let mut found = BTreeSet::new();
        self.any_taking(path, |index| {
            found.insert(index);
            false
        });
        found.into_iter()
    }

    /// Those that may match a file somewhere below this folder, in ascending order: some of those
    /// whose [`Globs::may_match_below`] says so, and all that do match one.
    pub fn taking_below(&self, folder: &str) -> impl Iterator<Item = usize> + use<> {
        let mut found = BTreeSet::new();
        self.any_taking_below(folder, |index| {
            found.insert(index);
            false
        });
        found.into_iter()
    }

    /// Whether any matches this relative path and is accepted too. Asks in no order, some perhaps
    /// twice, and no more after one that is accepted.
    pub fn any_taking(&self, path: &str, accept: impl FnMut(usize) -> bool) -> bool {
        self.any_taking_in(&self.reach(""), path, accept)
    }

    /// Whether any may match a file somewhere below this folder: if not, a walk need not enter it.
    #[must_use]
    pub fn any_below(&self, folder: &str) -> bool {
        self.any_taking_below(folder, |_| true)
    }

    /// Whether any may match a file somewhere below this folder and is accepted too. Asks as
    /// [`GlobIndex::any_taking`] does.
    pub fn any_taking_below(&self, folder: &str, accept: impl FnMut(usize) -> bool) -> bool {
        self.any_taking_below_in(&self.reach(""), folder, accept)
    }

    /// Where a folder leads to: empty, or a path that may end in `/`.
    #[must_use]
    pub fn reach(&self, folder: &str) -> Reached {
        let folder = folder.strip_suffix('/').unwrap_or(folder);
        Reached(ROOTS.map(|(root, dotfiles)| {
            let mut reached = Vec::new();
            if !self.nodes[root].next.is_empty() {
                reached.push(root);
            }
            if !folder.is_empty() {
                self.follow(&mut reached, folder, dotfiles);
            }
            reached
        }))
    }

    /// As [`GlobIndex::any_taking`], of a path below a folder that was reached.
    pub fn any_taking_in(
        &self,
        reached: &Reached,
        below: &str,
        mut accept: impl FnMut(usize) -> bool,
    ) -> bool {
        let ways = reached.0.iter().zip(ROOTS);
        let mut ways = ways.filter(|(reached, _)| !reached.is_empty());
        ways.any(|(reached, (_, dotfiles))| {
            let mut is_accepted = |end: usize| {
                let mut takers = self.nodes[end].takers.iter();
                takers.any(|taker| accept(*taker))
            };
            match below.rsplit_once('/') {
                None => self.visit(reached, below, dotfiles, &mut is_accepted),
                Some((folder, name)) => {
                    let mut there = reached.clone();
                    self.follow(&mut there, folder, dotfiles);
                    self.visit(&there, name, dotfiles, &mut is_accepted)
                }
            }
        })
    }

    /// As [`GlobIndex::any_taking_below`], of a folder below one that was reached.
    pub fn any_taking_below_in(
        &self,
        reached: &Reached,
        folder: &str,
        mut accept: impl FnMut(usize) -> bool,
    ) -> bool {
        reached.0.iter().zip(ROOTS).any(|(reached, (_, dotfiles))| {
            let mut ends = reached.clone();
            self.follow(&mut ends, folder, dotfiles);
            let mut open = Vec::new();
            for end in ends {
                let node = &self.nodes[end];
                if node.is_behind_any_depth {
                    open.push(end);
                } else {
                    open.extend(&node.next);
                }
            }
            while let Some(next) = open.pop() {
                let node = &self.nodes[next];
                if node.takers.iter().any(|taker| accept(*taker)) {
                    return true;
                }
                open.extend(&node.next);
            }
            false
        })
    }

    /// Goes on along all components of a path, to each node once.
    fn follow(&self, reached: &mut Vec<usize>, path: &str, dotfiles: Dotfiles) {
        let mut next = Vec::new();
        for name in path.split('/') {
            next.clear();
            self.advance(reached, name, dotfiles, &mut next);
            std::mem::swap(reached, &mut next);
        }
    }

    /// Goes one component on, to each node once.
    fn advance(&self, from: &[usize], name: &str, dotfiles: Dotfiles, next: &mut Vec<usize>) {
        self.visit(from, name, dotfiles, &mut |node| {
            next.push(node);
            false
        });
        next.sort_unstable();
        next.dedup();
    }

    /// Whether a node is accepted that one name leads to; some may be asked about twice.
    fn visit(
        &self,
        from: &[usize],
        name: &str,
        dotfiles: Dotfiles,
        accept: &mut impl FnMut(usize) -> bool,
    ) -> bool {
        let crosses = Component::AnyDepth.matches(name, dotfiles);
        from.iter().any(|&at| {
            self.step(at, name, dotfiles, accept)
                || crosses && self.nodes[at].is_behind_any_depth && accept(at)
                // A `**` may cross no component, this one, or more.
                || self.nodes[at].any_depth.is_some_and(|behind| {
                    self.step(behind, name, dotfiles, accept) || crosses && accept(behind)
                })
        })
    }

    /// Where one name leads to, but for `**`.
    fn step(
        &self,
        at: usize,
        name: &str,
        dotfiles: Dotfiles,
        accept: &mut impl FnMut(usize) -> bool,
    ) -> bool {
        let node = &self.nodes[at];
        if node.is_before_literal
            && let Some(next) = self.edges.get(&(at, Shape::Literal(name)))
            && accept(*next)
        {
            return true;
        }
        let mut attempt = |(component, to): &(&Component, usize)| {
            component.matches(name, dotfiles) && accept(*to)
        };
        match &node.keys {
            None => node.wild.iter().any(attempt),
            Some(keys) => keys.of(name).any(|wild| attempt(&node.wild[wild])),
        }
    }
}

impl<'a> Keys<'a> {
    /// Each wildcard is filed once, under the rarer of its two keys.
    fn new(wild: &[(&'a Component, usize)]) -> Self {
        let affixes = || wild.iter().map(|(component, _)| component.affixes());
        let (mut starts, mut ends) = (HashMap::new(), HashMap::new());
        for (start, end) in affixes() {
            *starts.entry(start).or_insert(0_usize) += 1;
            *ends.entry(end).or_insert(0_usize) += 1;
        }
        let mut keys = Self::default();
        for (at, (start, end)) in affixes().enumerate() {
            match (start, end) {
                ("", "") => keys.rest.push(at),
                (start, end)
                    if end.is_empty() || !start.is_empty() && starts[start] <= ends[end] =>
                {
                    keys.start_lengths.insert(start.len());
                    keys.by_start.entry(start.as_bytes()).or_default().push(at);
                }
                (_, end) => {
                    keys.end_lengths.insert(end.len());
                    keys.by_end.entry(end.as_bytes()).or_default().push(at);
                }
            }
        }
        keys
    }

    /// The wildcards that may match a name.
    fn of(&self, name: &str) -> impl Iterator<Item = usize> {
        let name = name.as_bytes();
        let starts = self.start_lengths.range(..=name.len());
        let ends = self.end_lengths.range(..=name.len());
        let starting = starts.filter_map(|length| self.by_start.get(&name[..*length]));
        let ending = ends.filter_map(|length| self.by_end.get(&name[name.len() - length..]));
        starting
            .chain(ending)
            .chain([&self.rest])
            .flatten()
            .copied()
    }
}

fn shape(component: &Component) -> Shape<'_> {
    match component {
        Component::AnyDepth => Shape::AnyDepth,
        Component::Literal(text) => Shape::Literal(text),
        Component::Wildcard(text, _) => Shape::Wildcard(text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Glob;

    fn globs(patterns: &[String], dotfiles: Dotfiles) -> Globs {
        let parsed = patterns.iter().map(|p| Glob::parse(p).expect("a pattern"));
        match dotfiles {
            Dotfiles::MustBeNamed => Globs::include(parsed.collect()),
            Dotfiles::Matched => Globs::include_hidden(parsed.collect()),
        }
    }

    fn numbered(pattern: impl Fn(usize) -> String) -> Vec<Globs> {
        let numbers = 0..1000;
        numbers
            .map(|number| globs(&[pattern(number)], Dotfiles::MustBeNamed))
            .collect()
    }

    /// How many wildcards are tried for a path.
    fn tried(index: &GlobIndex<'_>, name: &str) -> usize {
        let nodes = index.nodes.iter();
        nodes
            .map(|node| match &node.keys {
                None => node.wild.len(),
                Some(keys) => keys.of(name).count(),
            })
            .max()
            .unwrap_or_default()
    }

    #[test]
    fn of_a_thousand_patterns_only_few_are_tried() {
        let shapes: [fn(usize) -> String; 6] = [
            |n| format!("scan-{n:04}*.pdf"),
            |n| format!("**/scan-*-{n:04}.pdf"),
            |n| format!("scan-{n:04}-[0-9].pdf"),
            |n| format!("customer-{n:04}/*.pdf"),
            |n| format!("**/customer-{n:04}/**/*.pdf"),
            |n| format!("*/scan-{n:04}.pdf"),
        ];
        for shape in shapes {
            let all = numbered(shape);
            let index = GlobIndex::new(&all);
            for name in ["scan-0123-1.pdf", "scan-x-0123.pdf", "x", ""] {
                assert!(tried(&index, name) <= TRIED_MAX, "{} {name}", shape(0));
            }
        }
    }

    #[test]
    fn equal_patterns_are_matched_once() {
        let all = numbered(|_| "**/*.pdf".to_owned());
        let index = GlobIndex::new(&all);
        assert_eq!(index.nodes.len(), 4);
        assert_eq!(index.taking("in/a.pdf").count(), 1000);
        let mut asked = 0;
        assert!(index.any_taking("in/a.pdf", |_| {
            asked += 1;
            true
        }));
        assert_eq!(asked, 1);
    }

    #[test]
    fn a_list_with_several_patterns_is_named_once() {
        let all = [globs(
            &["{a,*}.txt".to_owned(), "a.*".to_owned(), "**".to_owned()],
            Dotfiles::MustBeNamed,
        )];
        let index = GlobIndex::new(&all);
        assert_eq!(index.taking("a.txt").collect::<Vec<_>>(), [0]);
        assert_eq!(index.taking_below("in").collect::<Vec<_>>(), [0]);
    }

    const COMPONENT: &str = r"(\.?(a|b|é|\*|\?|a\*|\*b|a\*b|\{a,b/\.?a\}|\[ab.\]|\*a\*)|\*\*)";

    fn lists() -> impl Strategy<Value = Vec<(Vec<String>, bool)>> {
        let pattern = proptest::collection::vec(COMPONENT, 1..5).prop_map(|c| c.join("/"));
        let list = proptest::collection::vec(pattern, 0..4);
        proptest::collection::vec((list, any::<bool>()), 0..12)
    }

    proptest! {
        #[test]
        fn agrees_with_asking_each(
            lists in lists(),
            paths in proptest::collection::vec(r"\.?[abé]{1,3}(/\.?[abé]{0,3}){0,4}", 1..12),
        ) {
            let all: Vec<Globs> = lists.iter().map(|(patterns, hidden)| {
                globs(patterns, if *hidden { Dotfiles::Matched } else { Dotfiles::MustBeNamed })
            }).collect();
            let index = GlobIndex::new(&all);
            for path in &paths {
                let each = |asked: &dyn Fn(&Globs) -> bool| -> Vec<usize> {
                    (0..all.len()).filter(|at| asked(&all[*at])).collect()
                };
                let taking: Vec<usize> = index.taking(path).collect();
                prop_assert_eq!(&taking, &each(&|globs| globs.matches(path)), "{}", path);

                let below: Vec<usize> = index.taking_below(path).collect();
                let may = each(&|globs| globs.may_match_below(path));
                prop_assert!(below.iter().all(|at| may.contains(at)), "{}", path);
                prop_assert_eq!(index.any_below(path), !below.is_empty());
                if !path.contains("/.") && !path.starts_with('.') {
                    prop_assert_eq!(&below, &may, "{}", path);
                }
                let mut folder = path.as_str();
                while let Some((above, _)) = folder.rsplit_once('/') {
                    let below: Vec<usize> = index.taking_below(above).collect();
                    prop_assert!(taking.iter().all(|at| below.contains(at)), "{}", above);
                    folder = above;
                }
            }
        }
    }
}
