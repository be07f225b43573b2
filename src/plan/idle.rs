//! Patterns that do nothing.

use std::collections::BTreeMap;

use crate::manifest::{Manifest, Rule};
use crate::model::{Candidates, GlobIndex, RootId};

/// The include patterns that match nothing, as (rule, pattern); none of a rule whose root cannot
/// be read.
#[must_use]
pub fn unmatched(manifest: &Manifest, candidates: &Candidates) -> Vec<(usize, usize)> {
    idle(
        manifest,
        candidates,
        |rule| rule.include.patterns().len(),
        |rule, path, hits| {
            if !hits.iter().all(|hit| *hit) && !rule.exclude.matches(path) {
                for pattern in rule.include.matching(path) {
                    hits[pattern] = true;
                }
            }
        },
    )
}

/// The exclude patterns that leave out nothing that an include takes, as (rule, pattern). The
/// candidates must be those of a walk that does not heed excludes.
#[must_use]
pub fn idle_excludes(manifest: &Manifest, candidates: &Candidates) -> Vec<(usize, usize)> {
    idle(
        manifest,
        candidates,
        |rule| rule.exclude.patterns().len(),
        |rule, path, hits| {
            for pattern in rule.exclude.matching(path) {
                hits[pattern] = true;
            }
        },
    )
}

/// Patterns that no candidate hits of those that an include of their rule takes.
fn idle(
    manifest: &Manifest,
    candidates: &Candidates,
    patterns: impl Fn(&Rule) -> usize,
    mark: impl Fn(&Rule, &str, &mut [bool]),
) -> Vec<(usize, usize)> {
    let mut by_root: BTreeMap<RootId, Vec<usize>> = BTreeMap::new();
    let mut hits: Vec<Vec<bool>> = Vec::with_capacity(manifest.rules.len());
    let rules = manifest.rules.iter().zip(&candidates.rule_roots);
    for (index, (rule, root)) in rules.enumerate() {
        hits.push(vec![false; patterns(rule)]);
        if let Some(root) = root {
            by_root.entry(*root).or_default().push(index);
        }
    }
    for (root, rules) in &by_root {
        let Some(candidates) = candidates.roots.get(root.0) else {
            continue;
        };
        let index = GlobIndex::new(rules.iter().map(|rule| &manifest.rules[*rule].include));
        let is_listed = |rule: &usize| manifest.rules[*rule].include.patterns().is_empty();
        let listed: Vec<usize> = rules.iter().copied().filter(is_listed).collect();
        for candidate in &candidates.found {
            let path = candidate.relative.as_str();
            let taking = index.taking(path).map(|here| rules[here]);
            for rule in taking.chain(listed.iter().copied()) {
                mark(&manifest.rules[rule], path, &mut hits[rule]);
            }
        }
    }
    let mut idle = Vec::new();
    for rule in by_root.into_values().flatten() {
        let missed = hits[rule].iter().enumerate().filter(|(_, hit)| !**hit);
        idle.extend(missed.map(|(pattern, _)| (rule, pattern)));
    }
    idle.sort_unstable();
    idle
}
