//! What was meant by a pattern, a root or a listed path that leads to nothing: told by a short look
//! at what is there.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::Rule;
use crate::model::{Glob, Globs, RelativePath, closest, shown, shown_bounded};
use crate::source::{Listing, list};

/// Most entries of one folder that are looked at.
const ENTRIES_MAX: usize = 10_000;

/// Most folders that are looked at.
const FOLDERS_MAX: usize = 20;

/// Shortest path whose spelling says that another one was meant, in bytes.
const NEAR_MIN: usize = 8;

/// Most questions that are answered by looking: more are not shown.
const ASKED_MAX: usize = 50;

/// What lies in the folders that a manifest names.
#[derive(Default)]
pub(super) struct Near {
    folders: HashMap<PathBuf, Listing>,
    asked: usize,
}

impl Near {
    /// Whether there is still to be looked.
    fn ask(&mut self) -> bool {
        self.asked += 1;
        self.asked <= ASKED_MAX
    }

    fn listing(&mut self, folder: &Path) -> Option<&Listing> {
        if !self.folders.contains_key(folder) {
            if self.folders.len() == FOLDERS_MAX {
                return None;
            }
            let listing = list(folder, ENTRIES_MAX, |_, _| false).ok()?;
            self.folders.insert(folder.to_owned(), listing);
        }
        self.folders.get(folder)
    }

    /// What to do about a pattern of `include` that matches no file.
    pub(super) fn pattern(&mut self, rule: &Rule, pattern: usize) -> String {
        let written = rule.include.patterns()[pattern].as_str();
        let is_asked = self.ask();
        let listing = self.listing(&rule.root).filter(|_| is_asked);
        listing
            .and_then(|listing| of_pattern(rule, written, listing))
            .unwrap_or_else(|| {
                "patterns are matched below `root`, case matters, `*` stops at `/`; where there \
                 may be no files, write `on_empty: ignore`"
                    .to_owned()
            })
    }

    /// What to do about a listed path that leads to no file.
    pub(super) fn listed(&mut self, rule: &Rule, path: &str, listed: &[RelativePath]) -> String {
        let near = self.listing(&rule.root).and_then(|listing| {
            let is_new = |file: &&str| listed.iter().all(|path| path.as_str() != *file);
            let files = || listing.files.iter().map(|(path, _)| path.as_str());
            let below = below(rule, path);
            let lower = path.to_lowercase();
            files()
                .find(|file| Some(*file) == below || file.to_lowercase() == lower)
                .or_else(|| {
                    closest(path, files().filter(is_new)).filter(|_| path.len() >= NEAR_MIN)
                })
        });
        match near {
            Some(near) => format!("did you mean `{}`?", shown_bounded(near)),
            None => "paths of `files_from` are relative to `root`, and case matters".to_owned(),
        }
    }

    /// What to do about a root that cannot be used.
    pub(super) fn root(&mut self, root: &Path) -> String {
        if root.components().any(|part| part.as_os_str() == "~") {
            return "`~` is no more than a name here: write `${{ env.HOME }}` instead".to_owned();
        }
        let near = self.ask().then(|| near(root, |beside| beside.left_out));
        near.flatten()
            .unwrap_or_else(|| "`root` is relative to the manifest's folder".to_owned())
    }

    /// What to do about a file that cannot be read, unless another one was meant.
    pub(super) fn file(&mut self, path: &Path, otherwise: &str) -> String {
        let files = |beside: Listing| beside.files.into_iter().map(|(name, _)| name).collect();
        let near = self.ask().then(|| near(path, files));
        near.flatten().unwrap_or_else(|| otherwise.to_owned())
    }
}

/// What is left of a path or pattern that begins with the name of the rule's root.
fn below<'p>(rule: &Rule, path: &'p str) -> Option<&'p str> {
    let root = rule.root.file_name()?.to_str()?;
    path.strip_prefix(root)?.strip_prefix('/')
}

/// What of a folder is spelt almost as the last name of a path to it.
fn near(path: &Path, names: impl Fn(Listing) -> Vec<String>) -> Option<String> {
    let (name, folder) = (path.file_name()?.to_str()?, path.parent()?);
    let here = Some(folder).filter(|folder| !folder.as_os_str().is_empty());
    // Folders are told apart from files by not being entered.
    let beside = list(here.unwrap_or(Path::new(".")), ENTRIES_MAX, |_, _| true).ok()?;
    let names = names(beside);
    let others = names
        .iter()
        .map(String::as_str)
        .filter(|near| *near != name);
    let near = folder.join(closest(name, others)?);
    Some(format!(
        "did you mean `{}`?",
        shown(&near.to_string_lossy())
    ))
}

fn of_pattern(rule: &Rule, written: &str, listing: &Listing) -> Option<String> {
    let first = |pattern: &str| {
        let globs = Globs::include(vec![Glob::parse(pattern).ok()?]);
        let mut files = listing.files.iter().map(|(path, _)| path.as_str());
        files.find(|path| globs.matches(path))
    };
    if let Some(path) = first(written) {
        let depth = path.split('/').count();
        let path = shown_bounded(path);
        return Some(if rule.exclude.matches(&path) {
            format!("`exclude` leaves out what it matches, as `{path}`")
        } else if rule.select.max_depth.is_some_and(|max| depth > max) {
            format!("what it matches is deeper than `max_depth`, as `{path}`")
        } else {
            format!("what it matches is hidden by an ignore file, as `{path}`")
        });
    }
    if let Some(below) = below(rule, written).filter(|below| first(below).is_some()) {
        return Some(format!("patterns begin below `root`: write `{below}`"));
    }
    let deeper = format!("**/{written}");
    if let Some(path) = first(&deeper) {
        let path = shown_bounded(path);
        return Some(format!(
            "the files lie deeper, as `{path}`: write `{deeper}`"
        ));
    }
    let inside = format!("{written}/**");
    if first(&inside).is_some() {
        return Some(format!(
            "this is a folder: `{inside}` takes the files below it"
        ));
    }
    let slashes = written.replace('\\', "/");
    if slashes != written && first(&slashes).is_some() {
        return Some(format!(
            "`/` stands between folders everywhere: write `{slashes}`"
        ));
    }
    let straight = written.trim_matches(['“', '”', '„', '‘', '’', '"', '\'']);
    if straight != written && first(straight).is_some() {
        return Some(format!(
            "the quotes are part of the pattern: write \"{straight}\""
        ));
    }
    let lower = Globs::include(vec![Glob::parse(&written.to_lowercase()).ok()?]);
    let mut files = listing.files.iter().map(|(path, _)| path.as_str());
    if let Some(path) = files.find(|path| lower.matches(&path.to_lowercase())) {
        let path = shown_bounded(path);
        return Some(format!(
            "`{path}` differs in upper and lower case, which matters"
        ));
    }
    if listing.files.is_empty() && !listing.cut {
        return Some(
            "there is no file, but for such as begin with a dot, which need `hidden: true`; where \
             that may be so, write `on_empty: ignore`"
                .to_owned(),
        );
    }
    let near = closest(written, listing.files.iter().map(|(path, _)| path.as_str()))?;
    Some(format!("did you mean `{}`?", shown_bounded(near)))
}

/// An error of the operating system, in words that go on from "cannot be read:".
pub(super) fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not there".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
