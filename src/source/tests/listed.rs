//! Files that a rule names one by one, and small files beside candidates.

use super::*;

fn listing(root: &Path, links: Links, listed: &[&str]) -> Want {
    Want {
        links,
        listed: Some(listed.iter().map(|path| RelativePath::new(*path)).collect()),
        ..want(root, &[], &[])
    }
}

#[test]
fn listed_files_are_looked_at_one_by_one() {
    let folder = tree(&["b.txt", ".roeignore", "in/.hidden", "other.txt"]);
    fs::write(folder.path().join(".roeignore"), "*").expect("a file");
    let list = [
        "b.txt",
        "gone.txt",
        "in",
        "in/.hidden",
        "b.txt/below",
        "b.txt",
        "gone.txt",
    ];
    let wants = [
        want(folder.path(), &["**"], &[]),
        listing(folder.path(), Links::Never, &list),
        listing(folder.path(), Links::Never, &["other.txt"]),
        want(folder.path(), &["*"], &[]),
    ];
    let home = fs::canonicalize(folder.path()).expect("a folder");
    let survey = survey(&wants, &home, &[]);
    let ids = [0, 1, 2, 0].map(|id| Some(RootId(id)));
    assert_eq!(survey.candidates.rule_roots, ids);
    assert!(names(&survey, 0).is_empty());
    assert_eq!(
        found(&survey, 1),
        [
            ("b.txt", "5 bytes".to_owned()),
            ("in", "it is a folder, not a file".to_owned()),
            ("in/.hidden", "10 bytes".to_owned()),
        ]
    );
    assert_eq!(survey.missing, [(1, 1), (1, 4), (1, 6)]);
    assert_eq!(names(&survey, 2), ["other.txt"]);
    let candidates = &survey.candidates.roots[1];
    assert_eq!(
        candidates
            .source_path(candidates.relative(0).as_str())
            .as_str(),
        "b.txt"
    );
    let file = survey.roots.open(RootId(1), &RelativePath::new("b.txt"));
    assert!(file.is_ok());
}

#[test]
fn listed_files_are_looked_at_whatever_patterns_say() {
    let folder = tree(&["a.txt", "b.pdf", "in/c.pdf", "in/d.pdf"]);
    let chosen = |include: &[&str], exclude: &[&str], max_depth| -> (Vec<String>, usize) {
        let list = ["a.txt", "b.pdf", "in/c.pdf", "in/d.pdf", "in/gone.pdf"];
        let want = Want {
            include: Globs::include(globs(include)),
            exclude: Globs::exclude(globs(exclude)),
            max_depth,
            ..listing(folder.path(), Links::Never, &list)
        };
        let survey = survey(&[want], folder.path(), &[]);
        let names = names(&survey, 0).into_iter();
        (names.map(ToOwned::to_owned).collect(), survey.missing.len())
    };
    let all = ["a.txt", "b.pdf", "in/c.pdf", "in/d.pdf"].map(ToOwned::to_owned);
    for (include, exclude, max_depth) in [
        (&["**/*.pdf"][..], &["in/d*"][..], None),
        (&[], &["**/*.pdf"], None),
        (&[], &[], Some(1)),
    ] {
        // Whoever chooses among them tells what is left out, and one that is gone is missed.
        let (names, missing) = chosen(include, exclude, max_depth);
        assert_eq!((names.as_slice(), missing), (&all[..], 1));
    }
}

#[test]
fn a_list_does_not_lead_through_links_that_are_not_followed() {
    let outside = tree(&["secret.txt"]);
    let folder = tree(&["store/a.txt", ".roe-batch/ledger.db"]);
    let root = fs::canonicalize(folder.path()).expect("a folder");
    for (target, name) in [
        (Path::new("store"), "folder"),
        (Path::new("store/a.txt"), "file"),
        (Path::new("nowhere"), "broken"),
        (Path::new("circle"), "circle"),
        (outside.path(), "out"),
        (&outside.path().join("secret.txt"), "out-file"),
    ] {
        symlink(target, root.join(name)).expect("a link");
    }
    pipe(&root.join("pipe"));
    let list = [
        ".roe-batch/ledger.db",
        "broken",
        "broken/a.txt",
        "circle",
        "file",
        "folder",
        "folder/a.txt",
        "out",
        "out-file",
        "out/secret.txt",
        "pipe",
    ];
    let wants = [Links::Never, Links::WithinRoot].map(|links| listing(&root, links, &list));
    let survey = survey(&wants, &root, &[root.join(".roe-batch")]);
    let state = "it lies in a folder that is never entered";
    let (link, folder) = (
        "a symbolic link, not followed",
        "a symbolic link to a folder, not followed",
    );
    let behind = "it lies behind a symbolic link, which is not followed";
    let out = "a symbolic link that leads out of the root";
    let pipe = "a named pipe, not a file";
    let expect = |root: usize, expected: &[(&str, &str)]| {
        let found = found(&survey, root);
        let found: Vec<_> = found
            .iter()
            .map(|(name, what)| (*name, what.as_str()))
            .collect();
        assert_eq!(found, expected);
    };
    expect(
        0,
        &[
            (list[0], state),
            ("broken", link),
            ("circle", link),
            ("file", link),
            ("folder", folder),
            ("folder/a.txt", behind),
            ("out", folder),
            ("out-file", link),
            ("out/secret.txt", behind),
            ("pipe", pipe),
        ],
    );
    expect(
        1,
        &[
            (list[0], state),
            ("broken", "a symbolic link to nothing"),
            ("circle", "a symbolic link into itself"),
            ("file", "11 bytes"),
            ("folder", "it is a folder, not a file"),
            ("folder/a.txt", "11 bytes"),
            ("out", "a symbolic link to a folder out of the root"),
            ("out-file", out),
            ("out/secret.txt", out),
            ("pipe", pipe),
        ],
    );
    assert_eq!(survey.missing, [(0, 2), (1, 2)], "broken/a.txt");
}

#[test]
fn a_small_file_beside_a_candidate_is_read_but_none_elsewhere() {
    let outside = tree(&["secret.txt"]);
    let folder = tree(&["in/a.txt", "store/s.yaml"]);
    let at = |name: &str| folder.path().join(name);
    symlink(outside.path().join("secret.txt"), at("in/out")).expect("a link");
    symlink("../store/s.yaml", at("in/link")).expect("a link");
    symlink("../store", at("in/folder")).expect("a link");
    symlink("nowhere", at("in/broken")).expect("a link");
    pipe(&at("in/pipe"));
    let following = Want {
        links: Links::WithinRoot,
        ..want(folder.path(), &["**"], &[])
    };
    let survey = survey(
        &[want(folder.path(), &["**"], &[]), following],
        folder.path(),
        &[],
    );
    let read = |root: usize, path: &str, max: u64| {
        let read = survey
            .roots
            .read_small(RootId(root), &RelativePath::new(path), max);
        read.map(|bytes| bytes.map(|bytes| String::from_utf8(bytes).expect("UTF-8")))
    };
    for root in [0, 1] {
        assert_eq!(read(root, "in/a.txt", 8), Ok(Some("in/a.txt".to_owned())));
        assert_eq!(read(root, "in/gone.yaml", 8), Ok(None));
        assert_eq!(read(root, "in/a.txt/gone", 8), Ok(None));
        for (path, why) in [
            ("in/a.txt", "it is larger than 7 bytes"),
            ("in", "it is no regular file"),
            ("in/pipe", "it is no regular file"),
            ("in/../in/a.txt", "its path leads out of the root"),
            ("/etc/passwd", "its path leads out of the root"),
            ("", "its path leads out of the root"),
            ("in/out", "symbolic link"),
            ("in/broken", "symbolic link"),
        ] {
            let error = read(root, path, 7).expect_err(path);
            assert!(error.contains(why), "{path}: {error}");
        }
    }
    for path in ["in/link", "in/folder/s.yaml"] {
        assert!(read(0, path, 99).is_err(), "{path}");
        assert_eq!(read(1, path, 99), Ok(Some("store/s.yaml".to_owned())));
    }
    assert!(read(9, "in/a.txt", 8).is_err());
}
