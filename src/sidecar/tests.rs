#![expect(
    clippy::needless_raw_string_hashes,
    reason = "the snapshot tool writes them so"
)]

use std::fmt::Write;

use snapbox::{IntoData, assert_data_eq, str};

use super::*;
use crate::diagnostic::Source;

/// What is wrong with a sidecar, as a manifest's reader shows it.
fn wrong(file: &str, bytes: &[u8]) -> String {
    let wrong = parse(bytes, file).expect_err("a broken sidecar");
    let source = Source {
        name: "m.yaml".to_owned(),
        text: String::new(),
    };
    anstream::adapter::strip_str(&source.render(&wrong)).to_string()
}

fn read(file: &str, text: &str) -> Sidecar {
    parse(text.as_bytes(), file).expect(text)
}

#[test]
fn yaml_values_are_exactly_as_written() {
    let text = "# who\r\ncustomer: ACME\r\nprice: 1.10\r\npaid: no\r\nnumber: 007\r\n\
        day: 2025-01-01\r\nempty: \"\"\r\nquoted: 'it''s'\r\n1.10: key\r\nnote: >-\r\n  two\r\n  lines\r\n\
        last: yes";
    let sidecar = read("a.pdf.meta.yaml", text);
    let fields: Vec<_> = sidecar.fields.iter().collect();
    assert_eq!(
        fields,
        [
            ("customer", "ACME"),
            ("price", "1.10"),
            ("paid", "no"),
            ("number", "007"),
            ("day", "2025-01-01"),
            ("empty", ""),
            ("quoted", "it's"),
            ("1.10", "key"),
            ("note", "two lines"),
            ("last", "yes"),
        ]
    );
    assert_eq!(sidecar.lines, [2, 3, 4, 5, 6, 7, 8, 9, 10, 13]);
}

#[test]
fn json_values_are_exactly_as_written() {
    let text = "{\r\n\t\"customer\": \"A\\u00e9\\n\\\"\", \"price\": 1.10,\r\n\t\"big\": 1E400, \"paid\": true,\r\n\r\n\
        \t\"\\u0061\": -0\r\n}";
    let sidecar = read("a.pdf.json", text);
    let fields: Vec<_> = sidecar.fields.iter().collect();
    assert_eq!(
        fields,
        [
            ("customer", "A\u{e9}\n\""),
            ("price", "1.10"),
            ("big", "1E400"),
            ("paid", "true"),
            ("a", "-0"),
        ]
    );
    assert_eq!(sidecar.lines, [2, 2, 3, 3, 5]);
}

#[test]
fn anchors_and_merges_are_followed() {
    let text = "a: &x 1.0\nb: *x\n<<: {a: 2, c: 3}\n";
    let sidecar = read("a.yaml", text);
    let fields: Vec<_> = sidecar.fields.iter().collect();
    assert_eq!(fields, [("a", "1.0"), ("b", "1.0"), ("c", "3")]);
}

#[test]
fn an_empty_sidecar_has_no_names() {
    for (file, text) in [
        ("a.yaml", ""),
        ("a.yaml", "\u{feff}"),
        ("a.yaml", "# nothing yet\n"),
        ("a.yaml", "---\n"),
        ("a.yaml", "{}\n"),
        ("a.json", ""),
        ("a.json", "\u{feff} \n"),
        ("a.json", "{ }"),
    ] {
        let sidecar = read(file, text);
        assert_eq!(sidecar.fields.iter().count(), 0, "{text}");
        assert_eq!(sidecar.lines, [0; 0], "{text}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_name() {
    for (file, text) in [("a.yaml", "\u{feff}a: 1"), ("a.json", "\u{feff}{\"a\": 1}")] {
        assert_eq!(read(file, text).fields.get("a"), Some("1"));
    }
}

#[test]
fn the_extension_chooses_json_whatever_its_case() {
    let tab = "{\"a\":\t1}";
    assert_eq!(read("a.pdf.JSON", tab).fields.get("a"), Some("1"));
    assert!(parse(b"a: 1", "a.pdf.JSON").is_err());
    assert_eq!(read("a.pdf.meta", "a: 1").fields.get("a"), Some("1"));
}

#[test]
fn bombs_and_bottomless_nesting_are_refused() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    let mut long = format!("a: &a {}\n", "x".repeat(100_000));
    for i in 1..60 {
        let refs = vec![format!("*a{}", i - 1); 9].join(",");
        let _ = writeln!(bomb, "a{i}: &a{i} [{refs}]");
        let _ = writeln!(long, "a{i}: *a");
    }
    for (text, says) in [
        (bomb, "aliases repeat too much of this document"),
        (long, "this sidecar holds too much"),
        ("[".repeat(100_000), "nested more than 16 levels deep"),
        ("{a: ".repeat(100_000), "nested more than 16 levels deep"),
    ] {
        let text = wrong("a.yaml", text.as_bytes());
        assert!(text.contains(says), "{text}");
    }
    for text in ["[".repeat(500_000), "{\"a\":".repeat(100_000)] {
        assert!(parse(text.as_bytes(), "a.json").is_err());
    }
}

#[test]
fn a_sidecar_that_is_no_small_file_is_refused() {
    let size = usize::try_from(BYTES_MAX).expect("fits");
    assert_data_eq!(
        wrong("a.yaml", &b"a: b\n".repeat(size / 5 + 1)),
        str![[r#"
error: the sidecar is larger than 1.0 MiB
 --> a.yaml:1:1
  |
1 | a: b
  | ^
  |
  = help: it holds some names and texts; is this the file that it describes?

m.yaml: 1 error

"#]]
        .raw()
    );
    let mut text = String::new();
    for n in 0..=NAMES_MAX {
        let _ = writeln!(text, "n{n}: {n}");
    }
    assert_data_eq!(
        wrong("a.yaml", text.as_bytes()),
        str![[r#"
error: the sidecar has more than 1,000 names
    --> a.yaml:1001:1
     |
1001 | n1000: 1000
     | ^^^^^ the first one too many

m.yaml: 1 error

"#]]
        .raw()
    );
    text.truncate(text.len() - "n1000: 1000\n".len());
    assert_eq!(read("a.yaml", &text).lines.len(), NAMES_MAX);
}

#[test]
fn the_same_mistake_for_every_name_is_told_twenty_times() {
    let text: String = (0..100).flat_map(|n| [format!("n{n}:\n")]).collect();
    let text = wrong("a.yaml", text.as_bytes());
    let last = text.split("\n\n").nth(20).expect("the count");
    assert_data_eq!(
        last,
        str![[r#"
error: … and 80 more errors
  --> a.yaml:21:1
   |
21 | n20:
   | ^^^ the next one
"#]]
        .raw()
    );
}

#[test]
fn values_that_are_no_texts_are_shown_all_at_once() {
    assert_data_eq!(wrong("a.pdf.meta.yaml", b"customer: ACME\nvendor:\nprice: ~\ntags: [a, b]\nsize: {w: 1}\ncustomer: Initech\n\"\": x\n"), str![[r#"
error: the value of `vendor` must be a text, found nothing
 --> a.pdf.meta.yaml:2:1
  |
2 | vendor:
  | ^^^^^^
  |
  = help: write "" for an empty text, or leave the name out

error: the value of `price` must be a text, found null
 --> a.pdf.meta.yaml:3:8
  |
3 | price: ~
  |        ^
  |
  = help: write "" for an empty text, or leave the name out

error: the value of `tags` must be a text, found a list
 --> a.pdf.meta.yaml:4:7
  |
4 | tags: [a, b]
  |       ^
  |
  = help: the API stores texts only; write a text, JSON in quotes if need be

error: the value of `size` must be a text, found a mapping
 --> a.pdf.meta.yaml:5:7
  |
5 | size: {w: 1}
  |       ^
  |
  = help: the API stores texts only; write a text, JSON in quotes if need be

error: `customer` is given twice
 --> a.pdf.meta.yaml:6:1
  |
1 | customer: ACME
  | -------- first given here
...
6 | customer: Initech
  | ^^^^^^^^ given again here
  |
  = help: keep one of them

error: a name is empty
 --> a.pdf.meta.yaml:7:1
  |
7 | "": x
  | ^^
  |
  = help: write one, or take the line out

m.yaml: 6 errors

"#]].raw());
}

#[test]
fn a_list_is_no_sidecar() {
    assert_data_eq!(
        wrong("a.pdf.meta.yaml", b"- customer: ACME\n"),
        str![[r#"
error: a sidecar is a mapping of names to texts, found a list
 --> a.pdf.meta.yaml:1:1
  |
1 | - customer: ACME
  | ^
  |
  = help: write each on a line of its own, as in `customer: ACME`

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_text_is_no_sidecar() {
    assert_data_eq!(
        wrong("a.pdf.meta.yaml", b"customer ACME\n"),
        str![[r#"
error: a sidecar is a mapping of names to texts, found a text
 --> a.pdf.meta.yaml:1:1
  |
1 | customer ACME
  | ^^^^^^^^^^^^^
  |
  = help: write each on a line of its own, as in `customer: ACME`

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_second_document_is_refused_by_the_sidecars_name() {
    assert_data_eq!(
        wrong("a.pdf.meta.yaml", b"a: 1\n---\nb: 2\n"),
        str![[r#"
error: a second document begins here
 --> a.pdf.meta.yaml:2:1
  |
2 | ---
  | ^^^
  |
  = help: a sidecar is one document: take the `---` out, or what follows it

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_colon_in_a_text_needs_quotes() {
    assert_data_eq!(
        wrong("a.pdf.meta.yaml", b"title: Invoice: ACME\n"),
        str![[r#"
error: a second colon in one line
 --> a.pdf.meta.yaml:1:15
  |
1 | title: Invoice: ACME
  |               ^
  |
  = help: if it belongs to the text, write `title: "Invoice: ACME"`; a second key needs a line of its own

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_star_needs_quotes() {
    assert_data_eq!(
        wrong("a.pdf.meta.yaml", b"title: *important\n"),
        str![[r#"
error: there is no `&important` above
 --> a.pdf.meta.yaml:1:8
  |
1 | title: *important
  |        ^^^^^^^^^^ an alias: it stands for what has that mark
  |
  = help: put `&important` before the value that is meant, or this in quotes if it is a text

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_bracket_that_is_not_closed_is_shown() {
    assert_data_eq!(
        wrong("a.pdf.meta.yaml", b"a: 1\nb: [x\n"),
        str![[r#"
error: this bracket is not closed
 --> a.pdf.meta.yaml:2:4
  |
2 | b: [x
  |    ^
  |
  = help: close it with `]`

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_key_that_is_a_list_is_refused() {
    assert_data_eq!(
        wrong("a.pdf.meta.yaml", b"? [a]\n: b\n"),
        str![[r#"
error: a key must be a plain text
 --> a.pdf.meta.yaml:1:3
  |
1 | ? [a]
  |   ^
  |
  = help: write it on one line, without brackets and braces

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn another_encoding_is_shown_at_its_line() {
    assert_data_eq!(
        wrong("a.pdf.meta.yaml", b"\xEF\xBB\xBFa: 1\ncity: M\xFCnchen\n"),
        str![[r#"
error: the sidecar is not UTF-8 text
 --> a.pdf.meta.yaml:2:8
  |
2 | city: M�nchen
  |        ^ not UTF-8
  |
  = help: save it as UTF-8

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn utf_16_is_called_by_its_name() {
    assert_data_eq!(
        wrong("a.pdf.meta.yaml", b"\xFF\xFEa\0"),
        str![[r#"
error: the sidecar is UTF-16
 --> a.pdf.meta.yaml:1:1
  |
1 | ��a␀
  | ^^
  |
  = help: save it as UTF-8

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn what_drives_a_terminal_is_shown_harmless() {
    assert_data_eq!(
        wrong("a.pdf.meta.yaml", "a: \u{1b}[2J\n".as_bytes()),
        str![[r#"
error: a control character (U+001B) stands here
 --> a.pdf.meta.yaml:1:4
  |
1 | a: ␛[2J
  |    ^
  |
  = help: take it out; where it is meant, write it as an escape in double quotes

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn json_values_that_are_no_texts_are_shown_all_at_once() {
    assert_data_eq!(wrong("a.pdf.JSON", b"{\n  \"vendor\": null,\n  \"tags\": [1],\n  \"size\": {},\n  \"vendor\": 1,\n  \"\": 2\n}\n"), str![[r#"
error: the value of `vendor` must be a text, found null
 --> a.pdf.JSON:2:13
  |
2 |   "vendor": null,
  |             ^^^^
  |
  = help: write "" for an empty text, or leave the name out

error: the value of `tags` must be a text, found a list
 --> a.pdf.JSON:3:11
  |
3 |   "tags": [1],
  |           ^^^
  |
  = help: the API stores texts only; write a text, JSON in quotes if need be

error: the value of `size` must be a text, found an object
 --> a.pdf.JSON:4:11
  |
4 |   "size": {},
  |           ^^
  |
  = help: the API stores texts only; write a text, JSON in quotes if need be

error: `vendor` is given twice
 --> a.pdf.JSON:5:3
  |
2 |   "vendor": null,
  |   -------- first given here
...
5 |   "vendor": 1,
  |   ^^^^^^^^ given again here
  |
  = help: keep one of them

error: a name is empty
 --> a.pdf.JSON:6:3
  |
6 |   "": 2
  |   ^^
  |
  = help: write one, or take the line out

m.yaml: 5 errors

"#]].raw());
}

#[test]
fn a_json_list_is_no_sidecar() {
    assert_data_eq!(
        wrong("a.pdf.JSON", b" [\"a\"]\n"),
        str![[r#"
error: a sidecar is an object of names and texts, found a list
 --> a.pdf.JSON:1:2
  |
1 |  ["a"]
  |  ^^^^^
  |
  = help: as in {"customer": "ACME"}

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn json_that_ends_early_is_shown_at_its_end() {
    assert_data_eq!(
        wrong("a.pdf.JSON", b"{\n  \"a\": 1\n"),
        str![[r#"
error: the sidecar's JSON is not finished
 --> a.pdf.JSON:2:9
  |
2 |   "a": 1
  |         ^ it ends here
  |
  = help: is a quote or a bracket missing?

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn json_without_a_comma_is_shown_where_it_is_missed() {
    assert_data_eq!(
        wrong("a.pdf.JSON", b"{\n\t\"a\": 1\n\t\"b\": 2\n}\n"),
        str![[r#"
error: the sidecar is not JSON: expected `,` or `}`
 --> a.pdf.JSON:3:2
  |
3 |     "b": 2
  |     ^ it cannot be read here

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn yaml_in_a_json_file_is_suspected() {
    assert_data_eq!(
        wrong("a.pdf.JSON", b"customer: ACME\n"),
        str![[r#"
error: the sidecar is not JSON: a value was expected; a text needs double quotes
 --> a.pdf.JSON:1:1
  |
1 | customer: ACME
  | ^ it cannot be read here
  |
  = help: the file's name says JSON; what ends in .yaml is read as YAML

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn half_a_character_is_refused() {
    assert_data_eq!(
        wrong("a.pdf.JSON", b"{\"a\": \"\\ud83d\"}"),
        str![[r#"
error: the sidecar is not JSON: this escape is half a character, without its other half
 --> a.pdf.JSON:1:14
  |
1 | {"a": "\ud83d"}
  |              ^ it cannot be read here

m.yaml: 1 error

"#]]
        .raw()
    );
}
