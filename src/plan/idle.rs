//! Patterns that do nothing.

use std::collections::BTreeMap;

use crate::manifest::Manifest;
use crate::model::{Candidates, GlobIndex, Globs, RootCandidates, RootId};

/// The include patterns that match nothing, as (rule, pattern); none of a rule whose root cannot
/// be read.
#[must_use]
pub fn unmatched(manifest: &Manifest, candidates: &Candidates) -> Vec<(usize, usize)> {
    let mut by_root: BTreeMap<RootId, Vec<usize>> = BTreeMap::new();
    for (rule, root) in candidates.rule_roots.iter().enumerate() {
        if let Some(root) = root {
            by_root.entry(*root).or_default().push(rule);
        }
    }
    let mut idle = Vec::new();
    for (root, rules) in by_root {
        let rules = rules
            .iter()
            .map(|rule| (*rule, &manifest.rules[*rule].include));
        let (open, globs): (Vec<(usize, usize)>, Vec<Globs>) = rules
            .flat_map(|(rule, include)| {
                let each = include.each().enumerate();
                each.map(move |(pattern, globs)| ((rule, pattern), globs))
            })
            .unzip();
        let found = candidates.roots.get(root.0);
        let hits = found.map(|found| hits(manifest, found, &open, &globs));
        let hits = hits.unwrap_or_else(|| vec![false; open.len()]);
        let missed = open.into_iter().zip(hits).filter(|(_, hit)| !hit);
        idle.extend(missed.map(|(which, _)| which));
    }
    idle.sort_unstable();
    idle
}

/// Which of these patterns match what was found, but for what their rule excludes.
fn hits(
    manifest: &Manifest,
    found: &RootCandidates,
    patterns: &[(usize, usize)],
    globs: &[Globs],
) -> Vec<bool> {
    let index = GlobIndex::new(globs);
    let mut hits = vec![false; patterns.len()];
    let mut open = hits.len();
    let mut path = String::new();
    for stretch in found.stretches() {
        let reached = index.reach(stretch.folder);
        for (_, name, _) in stretch.iter() {
            // What hit once is no longer looked for.
            if open == 0 {
                return hits;
            }
            index.any_taking_in(&reached, name, |at| {
                if !hits[at] {
                    path.clear();
                    path.push_str(stretch.folder);
                    path.push_str(name);
                    let (rule, _) = patterns[at];
                    hits[at] = !manifest.rules[rule].exclude.matches(&path);
                    open -= usize::from(hits[at]);
                }
                false
            });
        }
    }
    hits
}

/// The exclude patterns that leave out nothing that an include takes, as (rule, pattern). The
/// candidates must be those of a walk that does not heed excludes.
#[must_use]
pub fn idle_excludes(manifest: &Manifest, candidates: &Candidates) -> Vec<(usize, usize)> {
    let mut by_root: BTreeMap<RootId, Vec<usize>> = BTreeMap::new();
    let mut hits: Vec<Vec<bool>> = Vec::with_capacity(manifest.rules.len());
    let rules = manifest.rules.iter().zip(&candidates.rule_roots);
    for (index, (rule, root)) in rules.enumerate() {
        hits.push(vec![false; rule.exclude.patterns().len()]);
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
        let mut open: usize = rules.iter().map(|rule| hits[*rule].len()).sum();
        let mut path = String::new();
        let mut taking: Vec<usize> = Vec::new();
        for stretch in candidates.stretches() {
            // What hit once is no longer looked for.
            if open == 0 {
                break;
            }
            let reached = index.reach(stretch.folder);
            for (_, name, _) in stretch.iter() {
                taking.clear();
                index.any_taking_in(&reached, name, |here| {
                    taking.push(rules[here]);
                    false
                });
                taking.extend(&listed);
                taking.retain(|rule| hits[*rule].contains(&false));
                if taking.is_empty() {
                    continue;
                }
                path.clear();
                path.push_str(stretch.folder);
                path.push_str(name);
                for &rule in &taking {
                    for pattern in manifest.rules[rule].exclude.matching(&path) {
                        let hit = &mut hits[rule][pattern];
                        open -= usize::from(!*hit);
                        *hit = true;
                    }
                }
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
