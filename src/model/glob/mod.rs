//! Glob patterns with the meaning the manifest promises.
//!
//! `*` and `?` stop at `/`, `**` stands alone between slashes and crosses them, `{a,b}` and
//! `[a-z]` as usual, case matters. A path component that begins with a dot matches only where
//! the pattern spells that dot. Matching goes component by component.

mod index;
mod name;

use std::fmt;
use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;

use globset::ErrorKind;

pub use self::index::{GlobIndex, Reached};

/// Most alternatives that the braces of one pattern may spell out.
const ALTERNATIVES_MAX: usize = 1000;

/// Longest pattern that is read, in bytes: each alternative of its braces has its whole length.
const TEXT_MAX: usize = 10_000;

/// One pattern, ready to match.
#[derive(Clone)]
pub struct Glob {
    text: String,
    alternatives: Vec<Vec<Component>>,
}

#[derive(Clone)]
enum Component {
    AnyDepth,
    Literal(String),
    /// With the place of its star, where that is all that is special about it.
    Wildcard(String, Option<usize>),
}

/// How wildcards treat names that begin with a dot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Dotfiles {
    /// Only a pattern that spells the dot matches: what `include` means.
    MustBeNamed,
    /// Wildcards match them too: what `exclude` means, since leaving out is the safe side, and
    /// what an `include` means that asks for hidden files.
    Matched,
}

/// Why a pattern cannot be used: where, the problem, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GlobError {
    /// Bytes of the pattern's text.
    pub range: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl GlobError {
    fn new(range: Range<usize>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            range,
            message: message.into(),
            help: Some(help.into()),
        }
    }
}

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    ///
    /// Patterns that could never match a relative path, or not what they seem to: absolute, with
    /// `.` or `..`, with an empty component, with `**` glued to other text, malformed, or with
    /// more than 1,000 brace alternatives.
    pub fn parse(text: &str) -> Result<Self, GlobError> {
        let end = text.len();
        if text.is_empty() {
            return Err(GlobError::new(
                0..end,
                "the pattern is empty",
                "`**` takes every file",
            ));
        }
        if end > TEXT_MAX {
            return Err(GlobError::new(
                0..end,
                "the pattern is longer than 10,000 bytes",
                "use `*`, or several patterns",
            ));
        }
        if text.starts_with('/') {
            return Err(GlobError::new(
                0..1,
                "the pattern begins with `/`",
                "patterns are relative to `root`; leave the slash out",
            ));
        }
        if text.ends_with('/') {
            return Err(GlobError::new(
                end - 1..end,
                "the pattern ends with `/`, and only files are matched",
                format!("`{text}**` takes every file below the folder"),
            ));
        }
        let alternatives = expand_braces(text)?
            .iter()
            .map(|alternative| {
                let mut components = split_components(alternative)
                    .into_iter()
                    .map(|component| Component::parse(component, text))
                    .collect::<Result<Vec<_>, _>>()?;
                components
                    .dedup_by(|a, b| matches!((a, b), (Component::AnyDepth, Component::AnyDepth)));
                Ok(components)
            })
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            text: text.to_owned(),
            alternatives,
        })
    }

    /// The pattern as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn matches(&self, path: &[&str], dotfiles: Dotfiles) -> bool {
        self.alternatives
            .iter()
            .any(|pattern| matches_path(pattern, path, dotfiles))
    }

    fn may_match_below(&self, folder: &[&str], dotfiles: Dotfiles) -> bool {
        self.alternatives
            .iter()
            .any(|pattern| matches_prefix(pattern, folder, dotfiles))
    }

    fn covers(&self, folder: &[&str]) -> bool {
        self.alternatives.iter().any(|pattern| {
            matches!(pattern.split_last(), Some((Component::AnyDepth, head))
                if matches_path(head, folder, Dotfiles::Matched)
                    || matches_path(pattern, folder, Dotfiles::Matched))
        })
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Glob({:?})", self.text)
    }
}

impl Component {
    fn parse(text: String, pattern: &str) -> Result<Self, GlobError> {
        if text == "**" {
            return Ok(Self::AnyDepth);
        }
        if text.is_empty() {
            let two = pattern.find("//").map(|at| at..at + 2);
            return Err(GlobError::new(
                two.unwrap_or(0..pattern.len()),
                "the pattern has an empty component",
                "write one `/` between components",
            ));
        }
        if text == "." || text == ".." {
            let help = if text == "." {
                "patterns are relative to `root` anyway; leave it out"
            } else {
                "patterns are relative to `root` and cannot leave it; change `root` instead"
            };
            let message = format!("the pattern has the component `{text}`");
            return Err(GlobError::new(place(&text, pattern), message, help));
        }
        if text.contains("**") {
            return Err(GlobError::new(
                place(&text, pattern),
                "`**` is glued to other text",
                "`**` crosses folders only when it stands alone, as in `**/*.pdf`; `*` matches \
                 within one name",
            ));
        }
        if !text.contains(name::SPECIAL) {
            return Ok(Self::Literal(text));
        }
        name::check(&text).map_err(|kind| {
            let (message, help) = match kind {
                ErrorKind::UnclosedClass => (
                    "a `[` is never closed".to_owned(),
                    "close it with `]`, or write `\\[` for the character itself",
                ),
                ErrorKind::InvalidRange(from, to) => (
                    format!("the range `{from}-{to}` runs backwards"),
                    "write the lower end first; a `-` that is meant comes last, as in `[ab-]`",
                ),
                other => (other.to_string(), "write `\\\\` for a backslash"),
            };
            GlobError::new(place(&text, pattern), message, help)
        })?;
        let star = name::only_star(&text);
        Ok(Self::Wildcard(text, star))
    }

    fn matches(&self, name: &str, dotfiles: Dotfiles) -> bool {
        match self {
            Self::AnyDepth => dotfiles == Dotfiles::Matched || !name.starts_with('.'),
            Self::Literal(text) => text == name,
            Self::Wildcard(text, star) => {
                let spells_dot = || text.starts_with('.') || text.starts_with("\\.");
                let is_matched = match star {
                    Some(star) => name::matches_star(text, *star, name),
                    None => name::matches(text, name),
                };
                is_matched && (Self::AnyDepth.matches(name, dotfiles) || spells_dot())
            }
        }
    }

    /// What every name that it matches begins and ends with.
    fn affixes(&self) -> (&str, &str) {
        match self {
            Self::AnyDepth => ("", ""),
            Self::Literal(text) => (text, text),
            Self::Wildcard(text, _) => {
                let start = text.split(name::SPECIAL).next().unwrap_or_default();
                // Where a class or an escape ends is not worth finding out.
                let end = if text.contains(['[', '\\']) {
                    ""
                } else {
                    text.rsplit(name::SPECIAL).next().unwrap_or_default()
                };
                (start, end)
            }
        }
    }
}

fn matches_path(pattern: &[Component], path: &[&str], dotfiles: Dotfiles) -> bool {
    // One backtracking point is enough: a later `**` can always take over from an earlier one.
    let (mut p, mut n) = (0, 0);
    let mut last_any: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(p), path.get(n)) {
            (None, None) => return true,
            (Some(last @ Component::AnyDepth), _) if p + 1 == pattern.len() => {
                // `folder/**` is what lies below the folder, never the folder's own name.
                let rest = &path[n..];
                if !rest.is_empty() && rest.iter().all(|name| last.matches(name, dotfiles)) {
                    return true;
                }
            }
            (Some(Component::AnyDepth), _) => {
                last_any = Some((p, n));
                p += 1;
                continue;
            }
            (Some(component), Some(name)) if component.matches(name, dotfiles) => {
                p += 1;
                n += 1;
                continue;
            }
            _ => {}
        }
        let Some((any, from)) = last_any else {
            return false;
        };
        let Some(swallowed) = path.get(from) else {
            return false;
        };
        if !Component::AnyDepth.matches(swallowed, dotfiles) {
            return false;
        }
        last_any = Some((any, from + 1));
        p = any + 1;
        n = from + 1;
    }
}

fn matches_prefix(pattern: &[Component], folder: &[&str], dotfiles: Dotfiles) -> bool {
    let mut p = 0;
    for (depth, name) in folder.iter().enumerate() {
        match pattern.get(p) {
            Some(Component::AnyDepth) => {
                // Below a `**` any visible folder may hold a match; a hidden one only where a
                // later component spells its dot.
                return folder[depth..].iter().all(|name| {
                    Component::AnyDepth.matches(name, dotfiles)
                        || pattern[p..].iter().any(|c| {
                            !matches!(c, Component::AnyDepth)
                                && c.matches(name, Dotfiles::MustBeNamed)
                        })
                });
            }
            Some(component) if component.matches(name, dotfiles) => p += 1,
            _ => return false,
        }
    }
    p < pattern.len()
}

/// Where a component stands in its pattern; the whole pattern where braces put it together.
fn place(component: &str, pattern: &str) -> Range<usize> {
    let is_start = |text: &str| text.is_empty() || text.ends_with(['/', '{', ',']);
    let is_end = |text: &str| text.is_empty() || text.starts_with(['/', '}', ',']);
    let mut found = pattern.match_indices(component);
    found
        .find(|(at, _)| is_start(&pattern[..*at]) && is_end(&pattern[at + component.len()..]))
        .map_or(0..pattern.len(), |(at, _)| at..at + component.len())
}

/// Cuts at the slashes outside `[…]` and escapes.
fn split_components(text: &str) -> Vec<String> {
    let mut components = vec![String::new()];
    let mut scan = Scan::default();
    for c in text.chars() {
        if c == '/' && scan.is_plain() {
            components.push(String::new());
        } else if let Some(last) = components.last_mut() {
            last.push(c);
        }
        scan.step(c);
    }
    components
}

/// Where a scan of a pattern stands: whether the next character has its special meaning.
#[derive(Debug, Clone, Copy, Default)]
struct Scan {
    escaped: bool,
    /// Characters since `[`; a `]` right after it (or after a negation) is itself a member.
    class: Option<usize>,
}

impl Scan {
    fn is_plain(self) -> bool {
        !self.escaped && self.class.is_none()
    }

    fn step(&mut self, c: char) {
        if self.escaped {
            self.escaped = false;
            return;
        }
        self.class = match (self.class, c) {
            (Some(length), ']') if length > 0 => None,
            (Some(0), '!' | '^') | (None, '[') => Some(0),
            (Some(length), _) => Some(length + 1),
            (None, _) => None,
        };
        self.escaped = c == '\\' && self.class.is_none();
    }
}

/// Spells out `{a,b}`, nested too, so that braces may hold slashes and dots.
fn expand_braces(text: &str) -> Result<Vec<String>, GlobError> {
    let mut done = Vec::new();
    let mut open = vec![text.to_owned()];
    while let Some(next) = open.pop() {
        let found = first_braces(&next).map_err(|mut error| {
            // What follows spelled out braces stands as it is at the pattern's end.
            let moved = |at: usize| (text.len() + at).saturating_sub(next.len());
            error.range = moved(error.range.start)..moved(error.range.end);
            error
        });
        let Some((before, choices, after)) = found? else {
            done.push(next);
            continue;
        };
        for choice in choices.iter().rev() {
            open.push(format!("{before}{choice}{after}"));
        }
        if open.len() + done.len() > ALTERNATIVES_MAX {
            return Err(GlobError::new(
                0..text.len(),
                format!("the braces spell out more than {ALTERNATIVES_MAX} alternatives"),
                "use `*`, or several patterns",
            ));
        }
    }
    Ok(done)
}

type Braces<'a> = (&'a str, Vec<&'a str>, &'a str);

fn first_braces(text: &str) -> Result<Option<Braces<'_>>, GlobError> {
    let mut scan = Scan::default();
    let mut depth = 0_usize;
    let (mut start, mut choice_start) = (0, 0);
    let mut choices = Vec::new();
    for (at, c) in text.char_indices() {
        if scan.is_plain() {
            match c {
                '{' => {
                    if depth == 0 {
                        (start, choice_start) = (at, at + 1);
                    }
                    depth += 1;
                }
                ',' if depth == 1 => {
                    choices.push(&text[choice_start..at]);
                    choice_start = at + 1;
                }
                '}' if depth == 0 => {
                    return Err(GlobError::new(
                        at..at + 1,
                        "a `}` has no `{` before it",
                        "write `\\}` for the character itself",
                    ));
                }
                '}' => {
                    depth -= 1;
                    if depth == 0 {
                        choices.push(&text[choice_start..at]);
                        return Ok(Some((&text[..start], choices, &text[at + 1..])));
                    }
                }
                _ => {}
            }
        }
        scan.step(c);
    }
    if depth > 0 {
        return Err(GlobError::new(
            start..start + 1,
            "a `{` is never closed",
            "close it with `}`, or write `\\{` for the character itself",
        ));
    }
    Ok(None)
}

/// The patterns of one `include:` or `exclude:` list.
#[derive(Debug, Clone)]
pub struct Globs {
    globs: Arc<[Glob]>,
    dotfiles: Dotfiles,
}

impl Globs {
    /// Patterns that take files: a name with a leading dot must be spelled.
    #[must_use]
    pub fn include(globs: Vec<Glob>) -> Self {
        Self {
            globs: globs.into(),
            dotfiles: Dotfiles::MustBeNamed,
        }
    }

    /// Patterns that take files, hidden ones too: wildcards match names with a leading dot.
    #[must_use]
    pub fn include_hidden(globs: Vec<Glob>) -> Self {
        Self {
            globs: globs.into(),
            dotfiles: Dotfiles::Matched,
        }
    }

    /// Patterns that leave files out: wildcards match names with a leading dot too.
    #[must_use]
    pub fn exclude(globs: Vec<Glob>) -> Self {
        Self {
            globs: globs.into(),
            dotfiles: Dotfiles::Matched,
        }
    }

    /// The patterns in the manifest's order.
    #[must_use]
    pub fn patterns(&self) -> &[Glob] {
        &self.globs
    }

    /// Each of the patterns as a list of its own.
    pub fn each(&self) -> impl Iterator<Item = Self> {
        self.globs.iter().map(|glob| Self {
            globs: [glob.clone()].into(),
            dotfiles: self.dotfiles,
        })
    }

    /// Tells these patterns from others: lists that are written the same match the same.
    #[must_use]
    pub fn key(&self) -> impl Eq + Hash + use<'_> {
        let texts = self.globs.iter().map(Glob::as_str);
        (self.dotfiles, texts.collect::<Vec<_>>())
    }

    /// The indices of the patterns that match this relative path.
    pub fn matching(&self, path: &str) -> impl Iterator<Item = usize> {
        let components: Vec<&str> = path.split('/').collect();
        self.globs
            .iter()
            .enumerate()
            .filter(move |(_, glob)| glob.matches(&components, self.dotfiles))
            .map(|(index, _)| index)
    }

    /// Whether any pattern matches this relative path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.matching(path).next().is_some()
    }

    /// Whether a file somewhere below this folder could match: if not, a walk need not enter it.
    #[must_use]
    pub fn may_match_below(&self, folder: &str) -> bool {
        let components: Vec<&str> = folder.split('/').collect();
        self.globs
            .iter()
            .any(|glob| glob.may_match_below(&components, self.dotfiles))
    }

    /// Whether every file below this folder matches for sure, by a pattern that ends in `/**`.
    #[must_use]
    pub fn covers(&self, folder: &str) -> bool {
        let components: Vec<&str> = folder.split('/').collect();
        self.dotfiles == Dotfiles::Matched && self.globs.iter().any(|g| g.covers(&components))
    }
}

#[cfg(test)]
mod tests {
    use globset::GlobBuilder;
    use proptest::prelude::*;

    use super::*;

    fn includes(pattern: &str, path: &str) -> bool {
        Globs::include(vec![Glob::parse(pattern).expect(pattern)]).matches(path)
    }

    fn excludes(pattern: &str, path: &str) -> bool {
        Globs::exclude(vec![Glob::parse(pattern).expect(pattern)]).matches(path)
    }

    fn enters(pattern: &str, folder: &str) -> bool {
        Globs::include(vec![Glob::parse(pattern).expect(pattern)]).may_match_below(folder)
    }

    #[test]
    fn a_star_and_a_question_mark_stop_at_a_slash() {
        assert!(includes("*.pdf", "a.pdf"));
        assert!(!includes("*.pdf", "in/a.pdf"));
        assert!(includes("a?c", "abc"));
        assert!(!includes("a?c", "a/c"));
        assert!(includes("*/a.pdf", "in/a.pdf"));
        assert!(!includes("*/a.pdf", "in/deep/a.pdf"));
    }

    #[test]
    fn two_stars_cross_slashes_and_may_cross_none() {
        assert!(includes("**/*.pdf", "a.pdf"));
        assert!(includes("**/*.pdf", "in/deep/a.pdf"));
        assert!(includes("in/**", "in/deep/a.pdf"));
        assert!(!includes("in/**", "out/a.pdf"));
        assert!(includes("in/**/x/*.txt", "in/x/a.txt"));
        assert!(includes("in/**/x/*.txt", "in/a/x/b/x/c.txt"));
        assert!(!includes("in/**/x/*.txt", "in/a/x/b/c.txt"));
    }

    #[test]
    fn braces_spell_alternatives_with_slashes_and_nesting() {
        for path in ["a/1.csv", "b/2.csv", "c/d/3.csv"] {
            assert!(includes("{a,b,c/{d,e}}/*.csv", path), "{path}");
        }
        assert!(!includes("{a,b}/*.csv", "c/1.csv"));
        assert!(includes("report{,-final}.txt", "report.txt"));
        assert!(includes("\\{a,b\\}", "{a,b}"));
        assert!(includes("[{]a", "{a"));
    }

    #[test]
    fn classes_and_case_are_exact() {
        assert!(includes("[a-c]*.txt", "bee.txt"));
        assert!(!includes("[a-c]*.txt", "Bee.txt"));
        assert!(includes("[!a]x", "bx"));
        assert!(!includes("*.PDF", "a.pdf"));
    }

    #[test]
    fn dotfiles_match_only_a_pattern_that_spells_the_dot() {
        assert!(!includes("**", ".env"));
        assert!(!includes("*", ".env"));
        assert!(!includes("?env", ".env"));
        assert!(!includes("[.]env", ".env"));
        assert!(!includes("**/*.txt", ".git/a.txt"));
        assert!(includes(".*", ".env"));
        assert!(includes(".env", ".env"));
        assert!(includes("\\.env", ".env"));
        assert!(includes(".git/**", ".git/a.txt"));
        assert!(!includes(".git/**", ".git/.hidden"));
        assert!(includes("**/.git/*", "a/b/.git/config"));
        assert!(includes("{.a,b}*", ".abc"));
    }

    #[test]
    fn an_include_of_hidden_files_takes_dotfiles_without_naming_them() {
        let globs = |pattern| Globs::include_hidden(vec![Glob::parse(pattern).expect(pattern)]);
        assert!(globs("**/*.txt").matches(".git/.a.txt"));
        assert!(globs("?env").matches(".env"));
        assert!(globs("**/*.txt").may_match_below(".git"));
        assert!(globs("*/*.txt").may_match_below(".git"));
        assert!(!globs("in/*.txt").may_match_below(".git"));
    }

    #[test]
    fn an_exclude_leaves_dotfiles_out_without_naming_them() {
        assert!(excludes("**/*.tmp", ".cache/x.tmp"));
        assert!(excludes("*", ".env"));
    }

    #[test]
    fn a_walk_enters_only_folders_that_can_hold_a_match() {
        assert!(enters("in/2024/*.pdf", "in"));
        assert!(enters("in/2024/*.pdf", "in/2024"));
        assert!(!enters("in/2024/*.pdf", "in/2024/deeper"));
        assert!(!enters("in/2024/*.pdf", "out"));
        assert!(!enters("*.pdf", "in"));
        assert!(enters("**/*.pdf", "any/depth"));
        assert!(!enters("**/*.pdf", ".git"));
        assert!(enters("**/.git/*", "a/.git"));
        assert!(enters("in/*/x", "in/y"));
    }

    #[test]
    fn an_excluded_tree_is_known_as_a_whole() {
        let excludes = Globs::exclude(vec![Glob::parse("**/node_modules/**").expect("a pattern")]);
        assert!(excludes.covers("a/node_modules"));
        assert!(excludes.covers("a/node_modules/b"));
        assert!(!excludes.covers("a"));
    }

    #[test]
    fn patterns_that_cannot_mean_what_they_say_are_refused() {
        for (pattern, says) in [
            ("", "is empty"),
            ("/a", "begins with `/`"),
            ("a/", "ends with `/`"),
            ("a//b", "empty component"),
            ("../a", "component `..`"),
            ("./a", "component `.`"),
            ("a**b", "glued"),
            ("{a,b", "never closed"),
            ("a}", "no `{`"),
            ("[a", "`[` is never closed"),
            ("[z-a]", "runs backwards"),
            (
                "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}",
                "more than 1000",
            ),
        ] {
            let error = Glob::parse(pattern).expect_err(pattern);
            assert!(error.message.contains(says), "{pattern}: {}", error.message);
            assert!(error.help.is_some(), "{pattern}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_pattern_is_pointed_at() {
        for (pattern, part) in [
            ("/a", "/"),
            ("a/", "/"),
            ("é//b", "//"),
            ("a.b/../c", ".."),
            ("{a,b}/./c", "."),
            ("in/{a,b**.x}/c", "b**.x"),
            ("a/b**/c", "b**"),
            ("x{a,b", "{"),
            ("{a}b}", "}"),
            ("{a,{b,c}}}/x", "}"),
            ("é/[a/b", "[a/b"),
            ("{a,b}**", "{a,b}**"),
        ] {
            let error = Glob::parse(pattern).expect_err(pattern);
            assert_eq!(&pattern[error.range], part, "{pattern}");
        }
    }

    proptest! {
        /// globset, matching whole paths, is the oracle where no name is hidden.
        #[test]
        fn agrees_with_globset_on_visible_paths(
            pattern in r"(a|b|\*|\?|\*\*|a\*|\{a,b/a\}|\[ab\]|\*b)(/(a|b|\*|\?|\*\*|b\*a?|\{a,\*\}|\[!a\])){0,3}",
            path in "[ab]{1,3}(/[ab]{1,3}){0,3}",
        ) {
            let oracle = GlobBuilder::new(&pattern).literal_separator(true).build()
                .expect("a pattern that globset knows").compile_matcher();
            prop_assert_eq!(includes(&pattern, &path), oracle.is_match(&path), "{} on {}", pattern, path);
        }

        /// Pruning may never hide a file that matches.
        #[test]
        fn every_folder_above_a_match_is_entered(
            pattern in r"(a|\.a|\*|\.\*|\*\*|\{a,\.b\})(/(a|\.b|\*|\*\*|\.\*)){0,3}",
            path in r"\.?[ab]{1,2}(/\.?[ab]{1,2}){1,3}",
        ) {
            if includes(&pattern, &path) {
                let mut folder = path.as_str();
                while let Some((above, _)) = folder.rsplit_once('/') {
                    prop_assert!(enters(&pattern, above), "{} hides {}", pattern, above);
                    folder = above;
                }
            }
        }
    }
}
