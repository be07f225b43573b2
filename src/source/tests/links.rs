//! Symbolic links that stay within the root, and those that do not.

use super::*;
use crate::model::Digest;

fn following(root: &Path, include: &[&str]) -> Want {
    Want {
        links: Links::WithinRoot,
        ..want(root, include, &[])
    }
}

fn link(target: impl AsRef<Path>, at: impl AsRef<Path>) {
    symlink(target, at).expect("a link");
}

fn read(survey: &Survey, root: usize, name: &str) -> io::Result<String> {
    let mut file = survey.roots.open(RootId(root), &RelativePath::new(name))?;
    let mut text = String::new();
    io::Read::read_to_string(&mut file, &mut text)?;
    Ok(text)
}

#[test]
fn links_that_stay_within_the_root_are_followed() {
    let folder = tree(&["store/real.txt", "store/deep/more.txt"]);
    let at = |name: &str| folder.path().join(name);
    link("store/real.txt", at("file.txt"));
    link(at("store/deep"), at("absolute"));
    link("absolute", at("twice"));
    link("../../store/real.txt", at("store/deep/back.txt"));
    let survey = survey(&[following(folder.path(), &["**"])], folder.path(), &[]);
    let (real, more) = ("14 bytes".to_owned(), "19 bytes".to_owned());
    assert_eq!(
        found(&survey, 0),
        [
            ("absolute/back.txt", real.clone()),
            ("absolute/more.txt", more.clone()),
            ("file.txt", real.clone()),
            ("store/deep/back.txt", real.clone()),
            ("store/deep/more.txt", more.clone()),
            ("store/real.txt", real.clone()),
            ("twice/back.txt", real),
            ("twice/more.txt", more),
        ]
    );
    for candidate in &candidates(&survey, 0) {
        let name = candidate.relative.as_str();
        let from = if name.ends_with("more.txt") {
            "store/deep/more.txt"
        } else {
            "store/real.txt"
        };
        assert_eq!(read(&survey, 0, name).expect("opens"), from, "{name}");
        let file = survey.roots.open(RootId(0), &candidate.relative);
        let Entry::File(planned) = &candidate.entry else {
            panic!("{name} is a file")
        };
        assert!(file.expect("opens").check(planned).is_ok(), "{name}");
    }
}

#[test]
fn links_that_cannot_be_followed_are_reported() {
    let outside = tree(&["secret.txt", "folder/secret.txt"]);
    let folder = tree(&["a/1.txt", "b/2.txt"]);
    let at = |name: &str| folder.path().join(name);
    link(outside.path().join("secret.txt"), at("out"));
    link(outside.path().join("folder"), at("a/out-folder"));
    link("nowhere", at("broken"));
    link("1.txt/below", at("a/below-a-file"));
    link("itself", at("itself"));
    link("..", at("a/up"));
    link("../b", at("a/to-b"));
    link("../a", at("b/to-a"));
    link(".", at("b/here"));
    pipe(&at("b/pipe"));
    link("b/pipe", at("to-pipe"));
    let survey = survey(&[following(folder.path(), &["**"])], folder.path(), &[]);
    let circle = || "a symbolic link into itself".to_owned();
    let nothing = || "a symbolic link to nothing".to_owned();
    let a_pipe = || "a named pipe, not a file".to_owned();
    let out_folder = || "a symbolic link to a folder out of the root".to_owned();
    assert_eq!(
        found(&survey, 0),
        [
            ("a/1.txt", "7 bytes".to_owned()),
            ("a/below-a-file", nothing()),
            ("a/out-folder", out_folder()),
            ("a/to-b/2.txt", "7 bytes".to_owned()),
            ("a/to-b/here", circle()),
            ("a/to-b/pipe", a_pipe()),
            ("a/to-b/to-a", circle()),
            ("a/up", circle()),
            ("b/2.txt", "7 bytes".to_owned()),
            ("b/here", circle()),
            ("b/pipe", a_pipe()),
            ("b/to-a/1.txt", "7 bytes".to_owned()),
            ("b/to-a/below-a-file", nothing()),
            ("b/to-a/out-folder", out_folder()),
            ("b/to-a/to-b", circle()),
            ("b/to-a/up", circle()),
            ("broken", nothing()),
            ("itself", circle()),
            (
                "out",
                "a symbolic link that leads out of the root".to_owned()
            ),
            ("to-pipe", a_pipe()),
        ]
    );
    for name in [
        "out",
        "a/out-folder/secret.txt",
        "broken",
        "itself",
        "to-pipe",
        "a/up",
    ] {
        assert!(read(&survey, 0, name).is_err(), "{name}");
    }
}

#[test]
fn a_link_that_is_not_followed_is_reported_where_its_files_may_be_wanted() {
    let outside = tree(&["1.pdf"]);
    let folder = tree(&["2.pdf"]);
    let at = |name: &str| folder.path().join(name);
    link(outside.path(), at("scans"));
    link(outside.path().join("1.pdf"), at("other.txt"));
    link(".", at("circle"));
    let names = |include: &str| -> Vec<String> {
        let survey = survey(&[following(folder.path(), &[include])], folder.path(), &[]);
        let names = names(&survey, 0).into_iter();
        names.map(ToOwned::to_owned).collect()
    };
    assert_eq!(names("**/*.pdf"), ["2.pdf", "circle", "scans"]);
    assert_eq!(names("scans/*.pdf"), ["scans"]);
    assert_eq!(names("*.pdf"), ["2.pdf"]);
}

#[test]
fn folders_behind_too_many_links_are_not_entered() {
    let names: Vec<String> = (0..=9).map(|at| format!("{at}/file")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let folder = tree(&names);
    for at in 0..9 {
        let next = folder.path().join(format!("{}", at + 1));
        link(next, folder.path().join(format!("{at}/n")));
    }
    let survey = survey(
        &[following(folder.path(), &["0/**/file"])],
        folder.path(),
        &[],
    );
    let found = found(&survey, 0);
    assert_eq!(found.len(), 10);
    assert_eq!(
        found[9],
        (
            "0/n/n/n/n/n/n/n/n/n/",
            "it lies behind more than 8 symbolic links".to_owned()
        )
    );
}

#[test]
fn a_link_that_leads_elsewhere_since_the_plan_is_noticed() {
    let outside = tree(&["secret.txt"]);
    let folder = tree(&["a.txt", "b.txt", "in/c.txt"]);
    let at = |name: &str| folder.path().join(name);
    link("a.txt", at("link.txt"));
    link("in", at("linked"));
    let survey = survey(
        &[following(folder.path(), &["link*", "linked/*"])],
        folder.path(),
        &[],
    );
    assert_eq!(names(&survey, 0), ["link.txt", "linked/c.txt"]);
    let Entry::File(planned) = candidates(&survey, 0)[0].entry.clone() else {
        panic!("a file")
    };
    let open = |name| survey.roots.open(RootId(0), &RelativePath::new(name));
    let file = open("link.txt").expect("opens");
    let relink = |target: &Path, name: &str| {
        fs::remove_file(at(name)).expect("removed");
        link(target, at(name));
    };
    relink(Path::new("b.txt"), "link.txt");
    let says = |file: &OpenFile| file.check(&planned).expect_err("a change").to_string();
    assert!(says(&file).contains("replaced"));
    relink(&outside.path().join("secret.txt"), "link.txt");
    relink(outside.path(), "linked");
    for name in ["link.txt", "linked/secret.txt"] {
        let error = open(name).expect_err(name).to_string();
        assert!(error.contains("out of the root"), "{error}");
    }
}

#[test]
fn no_link_is_opened_where_links_are_not_followed() {
    let folder = tree(&["in/a.txt", "store/a.txt", "b.txt"]);
    let at = |name: &str| folder.path().join(name);
    let survey = survey(&[want(folder.path(), &["**"], &[])], folder.path(), &[]);
    assert_eq!(read(&survey, 0, "in/a.txt").expect("opens"), "in/a.txt");
    fs::remove_dir_all(at("in")).expect("removed");
    link("store", at("in"));
    fs::remove_file(at("b.txt")).expect("removed");
    link("store/a.txt", at("b.txt"));
    for name in ["in/a.txt", "b.txt"] {
        let error = read(&survey, 0, name).expect_err(name).to_string();
        assert_eq!(error, "it is, or lies behind, a symbolic link");
    }
}

#[test]
fn rules_that_differ_in_links_walk_one_root_apart() {
    let folder = tree(&["in/a.txt"]);
    link("a.txt", folder.path().join("in/link.txt"));
    let root = folder.path().join("in");
    let wants = [
        want(&root, &["**"], &[]),
        following(&root, &["**"]),
        want(&root, &["a.*"], &[]),
        following(&root, &["link.*"]),
    ];
    let home = fs::canonicalize(folder.path()).expect("a folder");
    let survey = survey(&wants, &home, &[]);
    let ids = [0, 1, 0, 1].map(|id| Some(RootId(id)));
    assert_eq!(survey.candidates.rule_roots, ids);
    assert_eq!(names(&survey, 0), names(&survey, 1));
    assert_eq!(found(&survey, 0)[1].1, "a symbolic link, not followed");
    assert_eq!(found(&survey, 1)[1].1, "8 bytes");
    for root in &survey.candidates.roots {
        let path = root.source_path("link.txt");
        assert_eq!(path.as_str(), "in/link.txt");
    }
}

#[test]
fn skipped_folders_are_not_entered_through_a_link_either() {
    let folder = tree(&[".roe-batch/ledger.db", ".roe-batch/in/x", "a.txt"]);
    let root = fs::canonicalize(folder.path()).expect("a folder");
    link(".roe-batch", root.join("state"));
    link(".roe-batch/in", root.join("in"));
    link(".roe-batch/ledger.db", root.join("ledger"));
    let skip = [root.join(".roe-batch")];
    let survey = survey(&[following(&root, &["**"])], &root, &skip);
    assert_eq!(names(&survey, 0), ["a.txt"]);
}

#[test]
fn a_file_found_through_a_link_is_opened_by_its_source_path() {
    let folder = tree(&["store/a.txt"]);
    link("store", folder.path().join("linked"));
    link("store/a.txt", folder.path().join("b.txt"));
    for path in ["linked/a.txt", "b.txt"] {
        let file = open_source(folder.path(), &SourcePath::new(path)).expect("opens");
        let digest = Digest(*blake3::hash(b"store/a.txt").as_bytes());
        assert_eq!(file.digest().expect("reads"), digest);
    }
    pipe(&folder.path().join("pipe"));
    link("pipe", folder.path().join("to-pipe"));
    assert!(open_source(folder.path(), &SourcePath::new("to-pipe")).is_err());
}
