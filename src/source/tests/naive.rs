//! A survey finds what a walk finds that asks every rule for every file and prunes nothing.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::model::GlobIndex;

const NAMES: &[&str] = &["a", "b", ".h", "c.x", "d.x"];
const LINES: &[&str] = &["a", "/b", "c.x", "/a/", ".h/", "d.x/"];
const INCLUDES: &[&str] = &[
    "**",
    "*",
    "**/*.x",
    "a/**",
    "*/b",
    "a/b/*",
    "**/.h/**",
    "{a,b}/*.x",
    "b/a",
];
const EXCLUDES: &[&str] = &["**/c.*", "a/b/**", "**/b/**", "d.x"];

/// What is put into a tree, in this order, where there is still room for it.
#[derive(Debug, Clone)]
enum Thing {
    File,
    /// To a place in the tree; beyond it where that begins with `..`.
    Link(Vec<&'static str>),
    /// A `.roeignore` file in the folder of this name.
    Hides(Vec<&'static str>),
}

fn things() -> impl Strategy<Value = Vec<(Vec<&'static str>, Thing)>> {
    let path = || vec(select(NAMES), 1..4);
    let target = prop_oneof![
        4 => vec(select(NAMES), 0..3),
        1 => Just(vec![".."]),
    ];
    let files = vec((path(), Just(Thing::File)), 1..12);
    let links = vec((path(), target.prop_map(Thing::Link)), 0..5);
    let hides = vec(
        (path(), vec(select(LINES), 1..3).prop_map(Thing::Hides)),
        0..3,
    );
    (files, links, hides).prop_map(|(files, links, hides)| [files, links, hides].concat())
}

/// Of no root yet.
fn wants() -> impl Strategy<Value = Vec<Want>> {
    let include = (vec(select(INCLUDES), 1..3), any::<bool>());
    let include = include.prop_map(|(patterns, hidden)| {
        let take = if hidden {
            Globs::include_hidden
        } else {
            Globs::include
        };
        take(globs(&patterns))
    });
    let exclude = vec(select(EXCLUDES), 0..2);
    let links = prop_oneof![Just(Links::Never), Just(Links::WithinRoot)];
    let depth = proptest::option::of(1..5_usize);
    let parts = (include, exclude, links, depth);
    let want = parts.prop_map(|(include, exclude, links, max_depth)| Want {
        include,
        max_depth,
        links,
        ..want(Path::new(""), &[], &exclude)
    });
    vec(want, 1..4)
}

fn build(root: &Path, things: &[(Vec<&str>, Thing)]) {
    for (path, thing) in things {
        let folders = match thing {
            Thing::Hides(_) => &path[..],
            _ => &path[..path.len() - 1],
        };
        let folder: PathBuf = root.join(folders.join("/"));
        if fs::create_dir_all(&folder).is_err() {
            continue;
        }
        let at = folder.join(path[path.len() - 1]);
        // Where there is something already, it stays.
        let _ = match thing {
            Thing::File if fs::symlink_metadata(&at).is_ok() => Ok(()),
            Thing::File => fs::write(at, path.join("/")),
            Thing::Link(to) => symlink(root.join(to.join("/")), at),
            Thing::Hides(lines) => fs::write(folder.join(".roeignore"), lines.join("\n")),
        };
    }
}

struct Naive<'a> {
    root: &'a Path,
    wants: Vec<&'a Want>,
    found: Vec<(String, String)>,
}

impl Naive<'_> {
    fn takes(&self, path: &str) -> bool {
        let depth = path.split('/').count();
        self.wants.iter().any(|want| {
            want.max_depth.is_none_or(|max| depth <= max)
                && want.include.matches(path)
                && !want.exclude.matches(path)
        })
    }

    fn may_hold(&self, path: &str) -> bool {
        let depth = path.split('/').count();
        self.wants.iter().any(|want| {
            want.max_depth.is_none_or(|max| depth < max)
                && GlobIndex::new([&want.include]).any_below(path)
                && !want.exclude.covers(path)
        })
    }

    /// Lines of `.roeignore` files, each with its folder's path.
    fn hides(lines: &[(String, String)], path: &str, is_folder: bool) -> bool {
        lines.iter().any(|(folder, line)| {
            let below = path.strip_prefix(folder.as_str()).expect("below it");
            let (line, only_folders) = match line.strip_suffix('/') {
                Some(line) => (line, true),
                None => (line.as_str(), false),
            };
            let is_named = match line.strip_prefix('/') {
                Some(line) => below == line,
                None => below.rsplit('/').next() == Some(line),
            };
            is_named && (is_folder || !only_folders)
        })
    }

    fn walk(&mut self, real: &Path, below: &str, above: &[PathBuf], lines: &[(String, String)]) {
        let mut lines = lines.to_vec();
        if let Ok(text) = fs::read_to_string(real.join(".roeignore")) {
            lines.extend(text.lines().map(|line| (below.to_owned(), line.to_owned())));
        }
        let mut above = above.to_vec();
        above.push(real.to_owned());
        for entry in fs::read_dir(real).expect("a folder") {
            let name = entry.expect("an entry").file_name();
            let name = name.to_str().expect("UTF-8");
            let (at, path) = (real.join(name), format!("{below}{name}"));
            if name == ".roeignore" {
                continue;
            }
            let target = fs::metadata(&at);
            let is_folder = target.as_ref().is_ok_and(fs::Metadata::is_dir);
            let is_link = fs::symlink_metadata(&at).expect("there").is_symlink();
            let follows = self.wants[0].links == Links::WithinRoot;
            let to = fs::canonicalize(&at);
            let what = match (is_link, follows, &to) {
                (true, false, _) if is_folder => "a symbolic link to a folder, not followed",
                (true, false, _) => "a symbolic link, not followed",
                (true, true, Err(error)) if is_absent(error) => "a symbolic link to nothing",
                (true, true, Err(_)) => "a symbolic link into itself",
                (true, true, Ok(to)) if !to.starts_with(self.root) => {
                    "a symbolic link to a folder out of the root"
                }
                (true, true, Ok(to)) if above.contains(to) => "a symbolic link into itself",
                _ => "",
            };
            let is_circle = what == "a symbolic link into itself";
            if Self::hides(&lines, &path, is_folder || is_circle) {
                continue;
            }
            if !what.is_empty() {
                if self.takes(&path) || (is_folder || is_circle) && self.may_hold(&path) {
                    self.found.push((path, what.to_owned()));
                }
            } else if is_folder {
                let real = to.expect("there");
                self.walk(&real, &format!("{path}/"), &above, &lines);
            } else if self.takes(&path) {
                self.found
                    .push((path, format!("{} bytes", target.expect("there").len())));
            }
        }
    }
}

proptest! {
    #[test]
    fn a_survey_agrees_with_a_naive_walk(
        things in things(),
        wants in wants(),
        room in prop_oneof![Just(0), Just(usize::MAX)],
    ) {
        let folder = tree(&[]);
        let root = fs::canonicalize(folder.path()).expect("a folder").join("root");
        fs::create_dir(&root).expect("a folder");
        build(&root, &things);
        let wants = wants.into_iter().map(|want| Want { root: root.clone(), ..want });
        let wants: Vec<Want> = wants.collect();
        let spill = Arc::new(Spill::new(room, tempfile::tempfile));
        let survey = super::super::survey(&wants, &root, &[], &spill);
        prop_assert_eq!(survey.candidates.rule_roots.len(), wants.len());
        for (want, id) in wants.iter().zip(&survey.candidates.rule_roots) {
            let id = id.expect("a root");
            let mut naive = Naive {
                root: &root,
                wants: wants.iter().filter(|other| other.links == want.links).collect(),
                found: Vec::new(),
            };
            naive.walk(&root, "", &[], &[]);
            naive.found.sort();
            let found = found(&survey, id.0).into_iter();
            let found: Vec<_> = found.map(|(path, what)| (path.to_owned(), what)).collect();
            prop_assert_eq!(found, naive.found);
            for candidate in &candidates(&survey, id.0) {
                if let Entry::File(planned) = &candidate.entry {
                    let file = survey.roots.open(id, &candidate.relative).expect("opens");
                    prop_assert!(file.check(planned).is_ok());
                }
            }
        }
    }
}
