//! `.roeignore` files.

use super::*;

/// Writes one file after the other.
fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tree(&[]);
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, text).expect("a file");
    }
    folder
}

fn all(folder: &Path) -> Survey {
    let want = Want {
        include: Globs::include_hidden(globs(&["**"])),
        ..want(folder, &[], &[])
    };
    survey(&[want], folder, &[])
}

#[test]
fn what_a_roeignore_file_hides_is_not_found() {
    let folder = written(&[
        (
            ".roeignore",
            "# notes\n*.tmp\n/drafts/\nprivate\n!keep.tmp\n",
        ),
        ("a.txt", ""),
        ("a.tmp", ""),
        ("keep.tmp", ""),
        ("drafts/b.txt", ""),
        ("in/drafts/b.txt", ""),
        ("in/private", ""),
        ("in/.roeignore", "!b.tmp\n/c.txt\n"),
        ("in/b.tmp", ""),
        ("in/c.txt", ""),
        ("in/deep/c.txt", ""),
        ("private/d.txt", ""),
        ("other/.roeignore", ""),
    ]);
    assert_eq!(
        names(&all(folder.path()), 0),
        [
            "a.txt",
            "in/b.tmp",
            "in/deep/c.txt",
            "in/drafts/b.txt",
            "keep.tmp",
        ]
    );
    let below = survey(
        &[want(&folder.path().join("in"), &["**"], &[])],
        folder.path(),
        &[],
    );
    let visible = ["b.tmp", "deep/c.txt", "drafts/b.txt", "private"];
    assert_eq!(
        names(&below, 0),
        visible,
        "what lies above the root is not read"
    );
    let named = want(folder.path(), &[".roeignore", "a.tmp"], &[]);
    assert!(names(&survey(&[named], folder.path(), &[]), 0).is_empty());
}

#[test]
fn other_tools_ignore_files_hide_nothing() {
    let folder = written(&[(".gitignore", "*"), (".ignore", "*"), ("a.txt", "")]);
    assert_eq!(
        names(&all(folder.path()), 0),
        [".gitignore", ".ignore", "a.txt"]
    );
}

#[test]
fn a_folder_whose_roeignore_file_cannot_be_used_is_not_entered() {
    let outside = written(&[("patterns", "*")]);
    let says = |make: &dyn Fn(&Path), why: &str| {
        let folder = written(&[("a.txt", ""), ("in/secret.txt", ""), ("in/deep/b.txt", "")]);
        make(&folder.path().join("in/.roeignore"));
        let survey = all(folder.path());
        let (names, whys): (Vec<_>, Vec<_>) = found(&survey, 0).into_iter().unzip();
        assert_eq!(names, ["a.txt", "in/"], "{why}");
        let text = whys[1].strip_prefix("cannot use its .roeignore: ");
        assert!(text.is_some_and(|text| text.contains(why)), "{}", whys[1]);
    };
    let write = |bytes: &'static [u8]| move |at: &Path| fs::write(at, bytes).expect("a file");
    says(&write(b"ok\na[z-a]\n"), "line 2: ");
    says(&write(b"a\n\xff\n"), "it is not UTF-8");
    let large = |at: &Path| fs::write(at, vec![b'#'; (1 << 20) + 1]).expect("a file");
    says(&large, "it is larger than 1048576 bytes");
    says(
        &|at| fs::create_dir(at).expect("a folder"),
        "no regular file",
    );
    says(&pipe, "no regular file");
    let link = outside.path().join("patterns");
    says(&|at| symlink(&link, at).expect("a link"), "symbolic link");

    let root = written(&[("secret.txt", ""), (".roeignore", "[z-a]")]);
    assert_eq!(names(&all(root.path()), 0), ["./"]);
}

#[test]
fn a_roeignore_file_speaks_of_the_paths_that_files_are_found_under() {
    let folder = written(&[
        (".roeignore", "store/\nlinks/x.txt\n"),
        ("store/.roeignore", "secret.txt\n"),
        ("store/x.txt", ""),
        ("store/y.txt", ""),
        ("store/secret.txt", ""),
    ]);
    for name in ["links", "more"] {
        symlink("store", folder.path().join(name)).expect("a link");
    }
    let following = |links| Want {
        links,
        ..want(folder.path(), &["**"], &[])
    };
    let survey = survey(
        &[Links::WithinRoot, Links::Never].map(following),
        folder.path(),
        &[],
    );
    assert_eq!(
        names(&survey, 0),
        ["links/y.txt", "more/x.txt", "more/y.txt"]
    );
    assert_eq!(names(&survey, 1), ["links", "more"]);
}

#[test]
fn the_line_that_hides_a_file_is_named() {
    let folder = written(&[
        (
            ".roeignore",
            "\u{feff}# notes\r\n*.tmp\r\n!keep.tmp\r\n*.tmp  \r\nold/\r\n",
        ),
        ("in/.roeignore", "!b.tmp\n/c*\n"),
        ("in/c.txt", ""),
        ("keep.tmp/old", ""),
    ]);
    let says = |path: &str| {
        let ignored = ignored(folder.path(), path)?;
        Some((ignored.file, ignored.line, ignored.pattern))
    };
    let top = |line, pattern: &str| Some((".roeignore".to_owned(), line, pattern.to_owned()));
    assert_eq!(says("a.tmp"), top(4, "*.tmp"));
    assert_eq!(says("in/deep/a.tmp"), top(4, "*.tmp"));
    assert_eq!(says("in/b.tmp"), None);
    assert_eq!(
        says("in/c.txt"),
        Some(("in/.roeignore".to_owned(), 2, "/c*".to_owned()))
    );
    assert_eq!(says("in/old/x/y"), top(5, "old/"));
    assert_eq!(says("old"), None, "it is no folder");
    assert_eq!(says("keep.tmp/old"), top(4, "*.tmp"));
    for path in ["", "/etc/passwd", "../a.tmp", "in/../a.tmp", "in//b"] {
        let _ = says(path);
    }
    assert_eq!(ignored(&folder.path().join("nowhere"), "a.tmp"), None);
}
