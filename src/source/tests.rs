//! Real trees on a real file system.

mod hide;
mod links;
mod listed;
mod naive;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use rustix::fs::{Mode, OFlags};

use super::*;
use crate::model::{Candidate, Entry, Glob};

fn globs(patterns: &[&str]) -> Vec<Glob> {
    patterns
        .iter()
        .map(|p| Glob::parse(p).expect("a pattern"))
        .collect()
}

fn want(root: &Path, include: &[&str], exclude: &[&str]) -> Want {
    Want {
        root: root.to_owned(),
        include: Globs::include(globs(include)),
        exclude: Globs::exclude(globs(exclude)),
        max_depth: None,
        links: Links::Never,
        listed: None,
    }
}

fn survey(wants: &[Want], home: &Path, skip: &[PathBuf]) -> Survey {
    super::survey(wants, home, skip, &Arc::default())
}

/// All files of a folder.
pub(super) fn everything_in(folder: &Path) -> Survey {
    survey(&[want(folder, &["**"], &[])], folder, &[])
}

fn tree(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in files {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, file).expect("a file");
    }
    folder
}

fn candidates(survey: &Survey, root: usize) -> Vec<Candidate> {
    let root = &survey.candidates.roots[root];
    let all = (0..root.len()).map(|at| Candidate {
        relative: root.relative(at),
        entry: root.entry(at),
    });
    all.collect()
}

fn found(survey: &Survey, root: usize) -> Vec<(&'static str, String)> {
    let all = candidates(survey, root).into_iter();
    all.map(|candidate| {
        let entry = match &candidate.entry {
            Entry::File(stat) => format!("{} bytes", stat.size),
            Entry::Other(kind) => kind.to_string(),
            Entry::Unusable(why) => why.to_string(),
        };
        // Kept for as long as the test runs, to be compared with texts that are written in it.
        let path: &str = candidate.relative.as_str().to_owned().leak();
        (path, entry)
    })
    .collect()
}

fn pipe(path: &Path) {
    let (kind, mode) = (rustix::fs::FileType::Fifo, 0o600.into());
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).expect("a pipe");
}

fn names(survey: &Survey, root: usize) -> Vec<&'static str> {
    found(survey, root)
        .into_iter()
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn what_is_found_is_sorted_by_the_bytes_of_its_path() {
    let folder = tree(&["b.txt", "a/z.txt", "a.txt", "A.txt", "é.txt", "a-b.txt"]);
    let survey = survey(&[want(folder.path(), &["**"], &[])], folder.path(), &[]);
    assert_eq!(
        names(&survey, 0),
        ["A.txt", "a-b.txt", "a.txt", "a/z.txt", "b.txt", "é.txt"]
    );
}

#[test]
fn rules_that_share_a_root_by_any_name_share_its_walk() {
    let folder = tree(&["in/a.pdf", "in/b.csv", "in/c.tmp"]);
    symlink(folder.path().join("in"), folder.path().join("alias")).expect("a link");
    let wants = [
        want(&folder.path().join("in"), &["*.pdf"], &[]),
        want(&folder.path().join("alias"), &["*.csv"], &[]),
        want(&folder.path().join("in/../in"), &["*.tmp"], &["*.tmp"]),
    ];
    let home = fs::canonicalize(folder.path()).expect("a folder");
    let survey = survey(&wants, &home, &[]);
    assert_eq!(survey.candidates.rule_roots, [Some(RootId(0)); 3]);
    assert_eq!(names(&survey, 0), ["a.pdf", "b.csv"]);
    assert_eq!(survey.candidates.roots[0].prefix(), "in/");
}

#[test]
fn a_root_outside_home_has_absolute_source_paths() {
    let folder = tree(&["a.txt"]);
    let root = fs::canonicalize(folder.path()).expect("a folder");
    let survey = survey(&[want(&root, &["*"], &[])], Path::new("/elsewhere"), &[]);
    let candidates = &survey.candidates.roots[0];
    assert_eq!(
        candidates
            .source_path(candidates.relative(0).as_str())
            .as_str(),
        root.join("a.txt").to_str().expect("UTF-8")
    );
}

#[test]
fn a_file_has_one_source_path_whatever_root_it_is_found_below() {
    let folder = tree(&["b.txt", "home/a.txt", "home/in/c.txt", "homely.txt"]);
    let outer = fs::canonicalize(folder.path()).expect("a folder");
    let home = outer.join("home");
    let wants = [
        want(&outer, &["**"], &[]),
        want(&home.join("in"), &["**"], &[]),
    ];
    let survey = survey(&wants, &home, &[]);
    let paths = |root: usize| -> Vec<String> {
        let candidates = &survey.candidates.roots[root];
        let mut text = String::new();
        (0..candidates.len())
            .map(|at| candidates.write_source_path(at, &mut text).to_owned())
            .collect()
    };
    let outside = |name: &str| outer.join(name).to_str().expect("UTF-8").to_owned();
    let expected = [
        outside("b.txt"),
        outside("homely.txt"),
        "a.txt".to_owned(),
        "in/c.txt".to_owned(),
    ];
    assert_eq!(paths(0), expected, "in the order of these paths");
    assert_eq!(paths(1), ["in/c.txt"]);
}

#[test]
fn missing_roots_and_files_as_roots_are_named_by_rule() {
    let folder = tree(&["a.txt"]);
    let wants = [
        want(&folder.path().join("nowhere"), &["*"], &[]),
        want(&folder.path().join("a.txt"), &["*"], &[]),
        want(folder.path(), &["*"], &[]),
    ];
    let survey = survey(&wants, folder.path(), &[]);
    assert_eq!(
        survey.unusable_roots,
        [
            (0, "the folder does not exist".to_owned()),
            (1, "this is not a folder".to_owned())
        ]
    );
    assert_eq!(survey.candidates.rule_roots, [None, None, Some(RootId(0))]);
}

#[test]
fn a_rule_looks_no_deeper_than_it_is_told() {
    let folder = tree(&["a.txt", "in/b.txt", "in/deep/c.txt"]);
    nest_beyond_reach(&folder.path().join("in"));
    let at = |depths: &[Option<usize>]| -> Vec<String> {
        let wants = depths.iter().map(|max_depth| Want {
            max_depth: *max_depth,
            ..want(folder.path(), &["**/*.txt"], &[])
        });
        let survey = survey(&wants.collect::<Vec<_>>(), folder.path(), &[]);
        let names = names(&survey, 0).into_iter().filter(|n| n.ends_with("txt"));
        names.map(ToOwned::to_owned).collect()
    };
    assert_eq!(at(&[Some(1)]), ["a.txt"]);
    assert_eq!(at(&[Some(1), Some(2)]), ["a.txt", "in/b.txt"]);
    assert_eq!(at(&[Some(1), None]).len(), 3);
    let shallow = Want {
        max_depth: Some(2),
        ..want(folder.path(), &["**"], &[])
    };
    let survey = survey(&[shallow], folder.path(), &[]);
    assert_eq!(
        names(&survey, 0),
        ["a.txt", "in/b.txt"],
        "and enters nothing deeper"
    );
}

#[test]
fn hidden_files_are_found_where_a_rule_asks_for_them() {
    let folder = tree(&[".git/config", ".env", "a.txt"]);
    let hidden = Want {
        include: Globs::include_hidden(globs(&["**"])),
        ..want(folder.path(), &[], &[])
    };
    let found = survey(&[hidden], folder.path(), &[]);
    assert_eq!(names(&found, 0), [".env", ".git/config", "a.txt"]);
    let without = survey(&[want(folder.path(), &["**"], &[])], folder.path(), &[]);
    assert_eq!(names(&without, 0), ["a.txt"]);
}

#[test]
fn a_folder_with_very_many_files_and_very_many_roots_are_looked_at_whole() {
    let folder = tree(&[]);
    let many = 3 * 256 + 1;
    fs::create_dir(folder.path().join("flat")).expect("a folder");
    for at in 0..many {
        fs::write(folder.path().join(format!("flat/{at}")), "x").expect("a file");
        fs::create_dir_all(folder.path().join(format!("root-{at}/in"))).expect("a folder");
        fs::write(folder.path().join(format!("root-{at}/in/{at}")), "x").expect("a file");
    }
    let mut wants = vec![want(&folder.path().join("flat"), &["*"], &[])];
    wants.extend((0..many).map(|at| want(&folder.path().join(format!("root-{at}")), &["**"], &[])));
    let survey = survey(&wants, folder.path(), &[]);
    assert_eq!(names(&survey, 0).len(), many);
    for at in 0..many {
        assert_eq!(survey.candidates.rule_roots[at + 1], Some(RootId(at + 1)));
        assert_eq!(names(&survey, at + 1), [format!("in/{at}")]);
    }
}

#[test]
fn what_is_no_regular_file_is_reported_and_never_opened() {
    let folder = tree(&["real.txt", "target/inside.txt"]);
    let at = |name: &str| folder.path().join(name);
    symlink("real.txt", at("link.txt")).expect("a link");
    symlink("target", at("folder-link")).expect("a link");
    symlink("nowhere", at("broken")).expect("a link");
    pipe(&at("pipe"));
    let _socket = UnixListener::bind(at("socket")).expect("a socket");
    let survey = survey(&[want(folder.path(), &["**"], &[])], folder.path(), &[]);
    let link = "a symbolic link, not followed".to_owned();
    assert_eq!(
        found(&survey, 0),
        [
            ("broken", link.clone()),
            (
                "folder-link",
                "a symbolic link to a folder, not followed".to_owned(),
            ),
            ("link.txt", link),
            ("pipe", "a named pipe, not a file".to_owned()),
            ("real.txt", "8 bytes".to_owned()),
            ("socket", "a socket, not a file".to_owned()),
            ("target/inside.txt", "17 bytes".to_owned()),
        ]
    );
    for name in ["pipe", "link.txt", "socket"] {
        let error = survey.roots.open(RootId(0), &RelativePath::new(name));
        assert!(error.is_err(), "{name}");
    }
}

#[test]
fn a_linked_folder_that_may_hold_wanted_files_is_reported() {
    let folder = tree(&["in/real.pdf", "elsewhere/1.pdf", "other.txt"]);
    let at = |name: &str| folder.path().join(name);
    symlink(at("elsewhere"), at("in/linked")).expect("a link");
    symlink(at("other.txt"), at("in/plain")).expect("a link");
    let links = |include: &str| {
        let survey = survey(&[want(&at("in"), &[include], &[])], folder.path(), &[]);
        let found = names(&survey, 0).into_iter().map(ToOwned::to_owned);
        found.collect::<Vec<String>>()
    };
    assert_eq!(links("**/*.pdf"), ["linked", "real.pdf"]);
    assert_eq!(links("linked/*.pdf"), ["linked"]);
    assert_eq!(links("*.pdf"), ["real.pdf"]);
}

#[test]
fn a_name_that_is_not_utf8_is_reported_where_a_rule_wants_it() {
    let folder = tree(&["good.txt"]);
    let bad = OsStr::from_bytes(b"bad-\xff.txt");
    fs::write(folder.path().join(bad), "x").expect("a file");
    let survey = survey(&[want(folder.path(), &["*.txt"], &[])], folder.path(), &[]);
    assert_eq!(
        found(&survey, 0)[0],
        (
            "bad-\u{fffd}.txt",
            "the name is not UTF-8; rename the file".to_owned()
        )
    );
    let elsewhere = self::survey(&[want(folder.path(), &["good*"], &[])], folder.path(), &[]);
    assert_eq!(names(&elsewhere, 0), ["good.txt"]);
}

/// Folders nested beyond what one path can name (`PATH_MAX`), which nobody can list by path: not
/// even root, from whom a permission could not be withheld.
fn nest_beyond_reach(folder: &Path) -> String {
    let name = "n".repeat(250);
    let flags = OFlags::DIRECTORY | OFlags::RDONLY;
    let mut at = rustix::fs::open(folder, flags, Mode::empty()).expect("a folder");
    for _ in 0..17 {
        rustix::fs::mkdirat(&at, &name, Mode::RWXU).expect("a folder");
        at = rustix::fs::openat(&at, &name, flags, Mode::empty()).expect("a folder");
    }
    name
}

#[test]
fn a_folder_that_cannot_be_listed_is_reported_unless_no_rule_wants_it() {
    let folder = tree(&["open/a.txt"]);
    let name = nest_beyond_reach(folder.path());
    let at = |include: &[&str], exclude: &[&str]| {
        survey(&[want(folder.path(), include, exclude)], folder.path(), &[])
    };
    let all = at(&["**"], &[]);
    let entries = found(&all, 0);
    assert_eq!(entries.len(), 2);
    assert!(entries[0].0.ends_with('/'));
    assert!(
        entries[0]
            .1
            .starts_with("cannot read the folder: File name too long"),
        "{}",
        entries[0].1
    );
    assert_eq!(names(&at(&["open/*"], &[]), 0), ["open/a.txt"]);
    assert_eq!(
        names(&at(&["**"], &[&format!("{name}/**")]), 0),
        ["open/a.txt"]
    );
}

#[test]
fn skipped_folders_are_never_entered() {
    let folder = tree(&["a.txt", ".roe-batch/ledger.db"]);
    let root = fs::canonicalize(folder.path()).expect("a folder");
    let skip = [root.join(".roe-batch")];
    let survey = survey(&[want(&root, &["**", ".*/**"], &[])], &root, &skip);
    assert_eq!(names(&survey, 0), ["a.txt"]);
}

#[test]
fn a_file_that_is_no_longer_as_planned_is_noticed() {
    let folder = tree(&["a.txt", "b.txt"]);
    let survey = survey(&[want(folder.path(), &["*"], &[])], folder.path(), &[]);
    let candidates = candidates(&survey, 0);
    let Entry::File(planned) = candidates[0].entry.clone() else {
        panic!("a file")
    };
    let open = || {
        survey
            .roots
            .open(RootId(0), &candidates[0].relative)
            .expect("opens")
    };
    let path = folder.path().join("a.txt");

    let mut file = open();
    let mut buffer = Vec::new();
    let digest = file.read_whole(planned.size, &mut buffer).expect("reads");
    assert_eq!(digest, open().digest().expect("reads"));
    assert!(file.check(&planned).is_ok());

    let says = |file: &OpenFile| file.check(&planned).expect_err("a change").to_string();
    fs::rename(folder.path().join("b.txt"), &path).expect("a rename");
    assert!(says(&file).contains("replaced"));
    fs::write(&path, "longer than before").expect("a write");
    assert!(says(&open()).contains("size"));
    fs::remove_file(&path).expect("removed");
    assert!(file.check(&planned).is_err());
    assert!(
        survey
            .roots
            .open(RootId(0), &candidates[0].relative)
            .is_err()
    );
}

#[test]
fn a_file_read_whole_must_have_its_planned_size() {
    let folder = tree(&["a.txt"]);
    let survey = survey(&[want(folder.path(), &["*"], &[])], folder.path(), &[]);
    let candidate = &candidates(&survey, 0)[0];
    let Entry::File(planned) = candidate.entry.clone() else {
        panic!("a file")
    };
    let relative = &candidate.relative;
    for (size, ok) in [(4, false), (5, true), (6, false)] {
        let mut file = survey.roots.open(RootId(0), relative).expect("opens");
        let read = file.read_whole(size, &mut Vec::new());
        let planned = Stat { size, ..planned };
        let read = read.and_then(|_| file.check_bytes(&planned));
        assert_eq!(read.is_ok(), ok, "{size}");
    }
}
