mod model;

use std::fmt::Write;
use std::io::Cursor;

use super::lines::Limits;
use super::*;
use crate::diagnostic::{Place, Severity, Source};

/// A table by its name, joined by the column `file`.
fn of(file: &str, bytes: &[u8], wanted: &[&str]) -> Joined {
    join(Cursor::new(bytes), &spec(file), wanted)
}

pub(super) fn spec(file: &str) -> Spec<'_> {
    Spec {
        file,
        format: Format::of_path(file).expect("a table's extension"),
        delimiter: None,
        key: "file",
    }
}

/// What is wrong with a table, as a manifest's reader shows it.
pub(super) fn shown(file: &str, bytes: &[u8]) -> String {
    limited(file, bytes, Limits::default())
}

/// The same for a table that may have only so much.
pub(super) fn limited(file: &str, bytes: &[u8], limits: Limits) -> String {
    text(&join::join(
        Cursor::new(bytes),
        &spec(file),
        &["a.pdf"],
        &limits,
    ))
}

pub(super) fn text(joined: &Joined) -> String {
    let source = Source {
        name: "m.yaml".to_owned(),
        text: String::new(),
    };
    anstream::adapter::strip_str(&source.render(&joined.diagnostics)).to_string()
}

/// A row's line and fields.
type Shown<'j> = (u64, Vec<(&'j str, &'j str)>);

/// What each wanted key got.
fn found(joined: &Joined) -> Vec<Option<Shown<'_>>> {
    let rows = joined.rows.iter().map(|row| {
        let row = row.as_deref()?;
        Some((row.line, row.fields.iter().collect()))
    });
    rows.collect()
}

#[test]
fn a_paths_extension_tells_the_format_whatever_its_case() {
    for (path, format) in [
        ("a/b.csv", Some(Format::Csv)),
        ("B.CSV", Some(Format::Csv)),
        ("b.tsv", Some(Format::Tsv)),
        ("b.Tab", Some(Format::Tsv)),
        ("b.jsonl", Some(Format::JsonLines)),
        ("b.csv.ndjson", Some(Format::JsonLines)),
        ("b.xlsx", None),
        ("csv", None),
    ] {
        assert_eq!(Format::of_path(path), format, "{path}");
    }
}

#[test]
fn a_delimiter_is_one_ascii_character_that_no_quote_is() {
    for (text, byte) in [
        (";", Some(b';')),
        ("|", Some(b'|')),
        ("\t", Some(b'\t')),
        ("\\t", Some(b'\t')),
        (" ", Some(b' ')),
        ("", None),
        ("\"", None),
        ("\n", None),
        ("a", None),
        ("::", None),
        ("\u{a7}", None),
    ] {
        assert_eq!(delimiter(text), byte, "{text:?}");
    }
}

#[test]
fn each_key_gets_its_row_and_several_may_have_one_key() {
    let text = "file,price\na.pdf,1\nb.pdf,2\nc.pdf,3\n";
    let joined = of(
        "p.csv",
        text.as_bytes(),
        &["b.pdf", "z.pdf", "a.pdf", "b.pdf"],
    );
    let b = || Some((3, vec![("file", "b.pdf"), ("price", "2")]));
    let a = Some((2, vec![("file", "a.pdf"), ("price", "1")]));
    assert_eq!(found(&joined), [b(), None, a, b()]);
    assert_eq!(joined.columns, ["file", "price"].map(Arc::from));
    assert_eq!(joined.rows_read, 3);
    assert_eq!(joined.diagnostics, []);
}

#[test]
fn values_are_exactly_as_written() {
    let text = "file,a,b,c,d,e\r\n\
        x,007,1.10, y ,\"q \"\"q\"\" \",\"two\r\nlines\"\r\n\
        \r\n\
        \"z,\",5\" pipe,\"\",,\u{e9},no";
    let joined = of("p.csv", text.as_bytes(), &["x", "z,"]);
    let x = [
        ("file", "x"),
        ("a", "007"),
        ("b", "1.10"),
        ("c", " y "),
        ("d", "q \"q\" "),
    ];
    let z = [
        ("file", "z,"),
        ("a", "5\" pipe"),
        ("b", ""),
        ("c", ""),
        ("d", "\u{e9}"),
    ];
    let x = [&x[..], &[("e", "two\r\nlines")]].concat();
    let z = [&z[..], &[("e", "no")]].concat();
    assert_eq!(found(&joined), [Some((2, x)), Some((5, z))]);
    assert_eq!(joined.diagnostics, []);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    for (file, text) in [
        ("p.csv", "\u{feff}file,n\na,1\n"),
        ("p.csv", "\u{feff}\"file\",n\na,1\n"),
        ("p.tsv", "\u{feff}file\tn\r\na\t1\r\n"),
        ("p.jsonl", "\u{feff}{\"file\": \"a\", \"n\": 1}\n"),
    ] {
        let joined = of(file, text.as_bytes(), &["a"]);
        let row = joined.rows[0].as_ref().expect(text);
        assert_eq!(row.fields.get("n"), Some("1"), "{text}");
        assert_eq!(joined.diagnostics, [], "{text}");
    }
}

#[test]
fn another_delimiter_may_be_chosen() {
    let spec = Spec {
        delimiter: Some(b';'),
        ..spec("p.csv")
    };
    let joined = join(Cursor::new("file;a\nx;1,5\n"), &spec, &["x"]);
    assert_eq!(
        found(&joined),
        [Some((2, vec![("file", "x"), ("a", "1,5")]))]
    );
}

#[test]
fn json_values_are_as_written_and_null_is_none() {
    let text = "{\"file\": 7, \"a\": 1.10, \"b\": \"\\u00e9\\t\\\"\", \"c\": null, \"d\": true}\n\
        \n  \n\
        {\"a\": 1E400, \"file\": \"x\", \"new\": -0}";
    let joined = of("p.ndjson", text.as_bytes(), &["x", "7"]);
    assert_eq!(
        found(&joined),
        [
            Some((4, vec![("a", "1E400"), ("file", "x"), ("new", "-0")])),
            Some((
                1,
                vec![
                    ("file", "7"),
                    ("a", "1.10"),
                    ("b", "\u{e9}\t\""),
                    ("d", "true")
                ]
            )),
        ]
    );
    let columns = ["file", "a", "b", "c", "d", "new"].map(Arc::from);
    assert_eq!(joined.columns, columns);
    assert_eq!(joined.diagnostics, []);
}

#[test]
fn json_rows_of_one_shape_share_their_names() {
    let text = "{\"file\": 1, \"a\": 1}\n{\"a\": 1, \"file\": 2}\n{\"file\": 3, \"a\": 1}\n";
    let joined = of("p.jsonl", text.as_bytes(), &["1", "2", "3"]);
    let names: Vec<_> = joined
        .rows
        .iter()
        .flatten()
        .map(|row| row.fields.names())
        .collect();
    assert!(Arc::ptr_eq(names[0], names[2]));
    assert!(!Arc::ptr_eq(names[0], names[1]));
}

#[test]
fn rows_that_no_key_asks_for_are_counted_and_the_first_are_shown() {
    let mut text = String::from("n,file\n");
    for n in 0..2_000 {
        let _ = writeln!(text, "{n},\"f{n}\"");
    }
    let joined = of("p.csv", text.as_bytes(), &["f1"]);
    assert_eq!(joined.unused.rows, 1_999);
    let first: Vec<_> = joined
        .unused
        .first
        .iter()
        .map(|e| (e.line, &e.text[e.span.clone()]))
        .collect();
    let expected = [
        (2, "\"f0\""),
        (4, "\"f2\""),
        (5, "\"f3\""),
        (6, "\"f4\""),
        (7, "\"f5\""),
    ];
    assert_eq!(first, expected);
    assert_eq!(joined.unused.keys.len(), KEYS_MAX);
    assert_eq!(&*joined.unused.keys[1], "f2");
    assert_eq!(joined.diagnostics, []);
}

#[test]
fn a_key_after_a_cell_of_two_lines_is_shown_on_its_own_line() {
    let text = "note,file\n\"one\ntwo\",x.pdf\n\"three\r\n\r\nfour\",x.pdf\n";
    let joined = of("p.csv", text.as_bytes(), &["x.pdf"]);
    assert_eq!(joined.rows[0].as_ref().map(|row| row.line), Some(2));
    let error = &joined.diagnostics[0];
    let places = [&error.place, &error.other.clone().map(|(place, _)| place)];
    let shown = places.map(|place| match place {
        Some(Place::Elsewhere(at)) => (at.line, at.text.as_str(), &at.text[at.span.clone()]),
        other => panic!("{other:?}"),
    });
    assert_eq!(
        shown,
        [(6, "four\",x.pdf", "x.pdf"), (3, "two\",x.pdf", "x.pdf")]
    );
}

#[test]
fn a_zero_byte_is_found_within_quotes_too() {
    for text in ["file,a\nx,\"1\0\"\n", "file,\0\nx,1\n", "file,a\nx\0,1\n"] {
        let joined = of("p.csv", text.as_bytes(), &["x"]);
        assert_eq!(joined.diagnostics.len(), 1, "{text:?}");
        assert_eq!(found(&joined), [None], "{text:?}");
    }
}

#[test]
fn a_key_is_kept_to_compare_with_unless_it_is_very_long() {
    let text = format!("file\n{}\nb\n", "a".repeat(KEY_BYTES_MAX + 1));
    let joined = of("p.csv", text.as_bytes(), &["x"]);
    assert_eq!(joined.unused.rows, 2);
    assert_eq!(joined.unused.keys, ["b".into()]);
}

#[test]
fn an_empty_key_gets_no_row() {
    let joined = of("p.csv", b"file,a\n,1\n", &["", "x"]);
    assert_eq!(found(&joined), [None, None]);
    assert_eq!((joined.rows_read, joined.unused.rows), (1, 0));
    assert_eq!(joined.diagnostics.len(), 1);
    assert_eq!(joined.diagnostics[0].severity, Severity::Warning);
}

#[test]
fn a_table_of_no_rows_is_no_error() {
    for (file, text) in [
        ("p.csv", "file,a\n"),
        ("p.csv", "file"),
        ("p.jsonl", ""),
        ("p.jsonl", "\n"),
    ] {
        let joined = of(file, text.as_bytes(), &["x"]);
        assert_eq!((found(&joined), joined.rows_read), (vec![None], 0));
        assert_eq!(joined.diagnostics, []);
    }
}

#[test]
fn a_row_that_is_broken_is_not_joined() {
    let joined = of("p.csv", b"file,a\nx,1,2\ny,1\nx,3\n", &["x", "y"]);
    let row = |line, file, a| Some((line, vec![("file", file), ("a", a)]));
    assert_eq!(found(&joined), [row(4, "x", "3"), row(3, "y", "1")]);
    assert_eq!(joined.rows_read, 3);
}

#[test]
fn a_hundred_thousand_rows_are_joined_with_all_of_them() {
    let names: Vec<String> = (0..100_000).map(|n| format!("{n:06}.pdf")).collect();
    let mut text = String::from("file,price\n");
    for (n, name) in names.iter().enumerate() {
        let _ = writeln!(text, "{name},{n}");
    }
    let wanted: Vec<&str> = names.iter().rev().map(String::as_str).collect();
    let joined = of("p.csv", text.as_bytes(), &wanted);
    assert!(joined.rows.iter().all(Option::is_some));
    let last = joined.rows[0].as_ref().expect("the last row");
    assert_eq!(
        (last.line, last.fields.get("price")),
        (100_001, Some("99999"))
    );
    assert_eq!((joined.rows_read, joined.unused.rows), (100_000, 0));
}

#[test]
fn what_was_probably_meant_is_found_by_the_kind_of_difference() {
    let case = "differs only by upper and lower case";
    let space = "differs only by white space around it";
    let folders = "differs only by the folders before it";
    let extension = "differs only by its extension";
    let alike = "is spelt almost the same";
    let accents =
        "looks the same, but its accents are encoded in another way (Unicode NFC and NFD)";
    for (key, others, expected) in [
        ("a.pdf", &["b.pdf", "A.PDF"][..], Some(("A.PDF", case))),
        ("a.pdf", &["b.pdf", " a.pdf"], Some((" a.pdf", space))),
        ("a.pdf ", &["a.pdf"], Some(("a.pdf", space))),
        ("inbox/a.pdf", &["a.pdf"], Some(("a.pdf", folders))),
        (
            "a.pdf",
            &["x.pdf", "C:\\in\\a.pdf"],
            Some(("C:\\in\\a.pdf", folders)),
        ),
        ("a.pdf", &["aa.pdf"], Some(("aa.pdf", alike))),
        ("scan.pdf", &["scan"], Some(("scan", extension))),
        ("scan.pdf", &["scan.tiff"], Some(("scan.tiff", extension))),
        (
            "caf\u{e9}.pdf",
            &["cafe\u{301}.pdf"],
            Some(("cafe\u{301}.pdf", accents)),
        ),
        // The surest difference wins, wherever it is.
        (
            "scan.pdf",
            &["scan.tif", "SCAN.pdf"],
            Some(("SCAN.pdf", case)),
        ),
        // No extension: these are numbers, and far from each other.
        ("1.10", &["1.25"], None),
        ("a.pdf", &["zebra.png"], None),
        ("a.pdf", &[], None),
        ("caf\u{e9}", &["caf\u{6f22}"], Some(("caf\u{6f22}", alike))),
    ] {
        assert_eq!(nearest(key, others.iter().copied()), expected, "{key}");
    }
}

#[test]
fn likeness_is_looked_for_among_a_thousand_keys_only() {
    let many: Vec<String> = (0..KEYS_MAX).map(|n| format!("{n}")).collect();
    let many = || many.iter().map(String::as_str);
    assert_eq!(nearest("invoice", many().chain(["invioce"])), None);
    let found = nearest("invoice", many().chain(["Invoice"]));
    assert_eq!(found.map(|(key, _)| key), Some("Invoice"));
}
