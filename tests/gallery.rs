//! The gallery of mistakes: every page of `tests/gallery/` is read, each of its cases is laid out
//! in a folder of its own and run, and what the binary says is compared with what the page shows.
//!
//! A case is a title, its files, perhaps a line `files:` with more that only have to be there and a
//! line `env:` with variables, and a `console` block. A block's info string names the language and
//! the path; the word `escaped` after it lets `\t`, `\r`, `\0`, `\e` and `\xNN` stand for bytes.
//! `UPDATE_DOCS=1 cargo test --test gallery` writes the outputs anew; read the difference.

mod common;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use snapbox::IntoData;

use common::Workspace;

/// What `$ roe-batch …` exits with where a manifest, a table or a sidecar is wrong.
const INVALID: &str = "[exit 65]";

/// The exit code of a command line that does not fit the manifest.
const USAGE: &str = "[exit 64]";

/// Fewest cases that make a gallery.
const CASES_MIN: usize = 70;

/// One mistake: its title, and what of its page belongs to it.
struct Case<'p> {
    title: &'p str,
    text: &'p str,
}

/// The pages, in the order of their names.
fn pages() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gallery");
    let entries = fs::read_dir(folder).expect("the gallery");
    let mut paths: Vec<PathBuf> = entries.map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("a page");
            (path, text)
        })
        .collect()
}

/// A page's introduction, and its cases: each from its title to the next one's.
fn cases(page: &str) -> (&str, Vec<Case<'_>>) {
    let mut parts = page.split("\n## ");
    let intro = parts.next().unwrap_or_default();
    let case = |text| Case {
        title: Case::title_of(text),
        text,
    };
    (intro, parts.map(case).collect())
}

impl<'p> Case<'p> {
    fn title_of(text: &'p str) -> &'p str {
        text.lines().next().unwrap_or_default()
    }

    /// The fenced blocks: info string and content.
    fn blocks(&self) -> Vec<(&'p str, &'p str)> {
        let mut blocks = Vec::new();
        let mut rest = self.text;
        while let Some(start) = rest.find("\n```") {
            let (info, after) = rest[start + 4..].split_once('\n').expect(self.title);
            let end = match after.strip_prefix("```") {
                Some(_) => 0,
                None => after.find("\n```").expect(self.title) + 1,
            };
            blocks.push((info, &after[..end]));
            rest = &after[end + 3..];
        }
        blocks
    }

    /// The words after such a line's beginning.
    fn listed(&self, beginning: &str) -> impl Iterator<Item = &'p str> {
        let line = self.text.lines().find_map(|l| l.strip_prefix(beginning));
        line.unwrap_or_default().split_whitespace()
    }

    /// Its folder and environment.
    fn laid_out(&self) -> Workspace {
        let mut workspace = Workspace::new();
        for file in self.listed("files:") {
            workspace.write(file, "content");
        }
        for variable in self.listed("env:") {
            let (name, value) = variable.split_once('=').expect(self.title);
            workspace.env(name, value);
        }
        for (info, content) in self.blocks() {
            let words: Vec<&str> = info.split(' ').collect();
            match words.as_slice() {
                ["console"] => {}
                [_, path] => workspace.write(path, content),
                [_, path, "escaped"] => workspace.write(path, unescaped(content)),
                _ => panic!("{}: ```{info}", self.title),
            }
        }
        workspace
    }

    /// Its text with what its commands print now, and that.
    fn rerun(&self) -> (String, String) {
        let workspace = self.laid_out();
        let mut consoles = self.blocks().into_iter().filter(|b| b.0 == "console");
        let (Some((_, console)), None) = (consoles.next(), consoles.next()) else {
            panic!("{}: one console block", self.title);
        };
        let mut shown = String::new();
        for command in console.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let _ = writeln!(shown, "$ {command}");
            shown.push_str(&run(&workspace, command));
        }
        let text = self.text.replacen(
            &format!("```console\n{console}"),
            &format!("```console\n{shown}"),
            1,
        );
        (text, shown)
    }
}

/// Runs a line in a shell; gives what it prints, and the exit code where it is the binary's.
fn run(workspace: &Workspace, line: &str) -> String {
    let binary = Path::new(env!("CARGO_BIN_EXE_roe-batch"));
    let tools = binary.parent().expect("a folder").display();
    let output = workspace
        .shell(line)
        .env("PATH", format!("{tools}:/usr/local/bin:/usr/bin:/bin"))
        .output()
        .expect("a shell");
    let mut shown = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!shown.contains('\u{1b}'), "{line}: {shown:?}");
    let code = output.status.code().expect("an exit code");
    if line.starts_with("roe-batch") {
        let _ = writeln!(shown, "[exit {code}]");
    } else {
        assert_eq!(code, 0, "{line}: {shown}");
    }
    shown
}

/// Bytes from a text with escapes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'0') => 0,
            Some(b'e') => 0x1b,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).expect("two hexadecimal digits")
            }
            other => panic!("no escape: {other:?}"),
        });
    }
    bytes
}

#[test]
fn every_mistake_is_answered_as_its_page_shows() {
    for (path, page) in pages() {
        let (intro, cases) = cases(&page);
        let mut now = intro.to_owned();
        for case in cases {
            now.push_str("\n## ");
            now.push_str(&case.rerun().0);
        }
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(path, now).expect("written");
        } else {
            snapbox::assert_data_eq!(page, now.into_data().raw());
        }
    }
}

#[test]
fn the_gallery_holds_many_mistakes_each_told_once_and_each_with_what_to_do() {
    let pages = pages();
    let mut titles = HashSet::new();
    for (path, page) in &pages {
        for case in cases(page).1 {
            assert!(titles.insert(case.title), "twice: {}", case.title);
            let blocks = case.blocks();
            let console = blocks.iter().find(|(info, _)| *info == "console");
            let shown = console.expect(case.title).1;
            let is_answered = shown.contains(INVALID)
                || shown.contains(USAGE)
                || ["warning: ", "note: "]
                    .iter()
                    .any(|word| shown.contains(word));
            assert!(is_answered, "{}: {}", path.display(), case.title);
        }
    }
    assert!(titles.len() >= CASES_MIN, "{}", titles.len());
}
