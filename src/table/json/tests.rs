//! What is shown for JSON Lines that are broken: exact texts.
//!
//! `SNAPSHOTS=overwrite cargo test --lib table` writes them anew; read the difference.

use std::fmt::Write;

use snapbox::{IntoData, assert_data_eq, str};

use crate::table::COLUMNS_MAX;
use crate::table::tests::shown;

#[test]
fn a_json_list_is_no_table_of_lines() {
    assert_data_eq!(
        shown(
            "prices.jsonl",
            b"[\n  {\"file\": \"a.pdf\"},\n  {\"file\": \"b.pdf\"}\n]\n"
        ),
        str![[r#"
error: a row must be an object, found a list
 --> prices.jsonl:1:1
  |
1 | [
  | ^
  |
  = help: write each row on one line, as in {"file": "a.pdf"}, without a list around them

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn an_object_over_several_lines_is_no_row() {
    assert_data_eq!(
        shown("prices.jsonl", b"{\n  \"file\": \"a.pdf\"\n}\n"),
        str![[r#"
error: the object is not finished when its line ends
 --> prices.jsonl:1:2
  |
1 | {
  |  ^
  |
  = help: write each row on one line, as in {"file": "a.pdf"}

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_json_row_is_an_object() {
    assert_data_eq!(
        shown(
            "prices.jsonl",
            b"{\"file\": \"a.pdf\"}\n7\n\"b.pdf\"\nnull\n"
        ),
        str![[r#"
error: a row must be an object, found a number
 --> prices.jsonl:2:1
  |
2 | 7
  | ^
  |
  = help: write each row on one line, as in {"file": "a.pdf"}

error: a row must be an object, found a text
 --> prices.jsonl:3:1
  |
3 | "b.pdf"
  | ^^^^^^^
  |
  = help: write each row on one line, as in {"file": "a.pdf"}

error: a row must be an object, found null
 --> prices.jsonl:4:1
  |
4 | null
  | ^^^^
  |
  = help: write each row on one line, as in {"file": "a.pdf"}

m.yaml: 3 errors

"#]]
        .raw()
    );
}

#[test]
fn json_mistakes_are_shown_at_their_place() {
    assert_data_eq!(shown("prices.jsonl", b"{\"file\": \"a.pdf\"}\n{\"file\": \"b.pdf\", }\n{'file': 'c.pdf'}\n{\"file\": \"d.pdf\"} {\"file\": \"e.pdf\"}\n{\"file\": \"f\n{\"file\": \"\\ud800\"}\n"), str![[r#"
error: this row is not JSON: a comma with nothing after it
 --> prices.jsonl:2:19
  |
2 | {"file": "b.pdf", }
  |                   ^

error: this row is not JSON: a name must be in double quotes
 --> prices.jsonl:3:2
  |
3 | {'file': 'c.pdf'}
  |  ^

error: this row is not JSON: the object has ended before this
 --> prices.jsonl:4:19
  |
4 | {"file": "d.pdf"} {"file": "e.pdf"}
  |                   ^

error: the object is not finished when its line ends
 --> prices.jsonl:5:12
  |
5 | {"file": "f
  |            ^
  |
  = help: write each row on one line, as in {"file": "a.pdf"}

error: this row is not JSON: this escape is half a character, without its other half
 --> prices.jsonl:6:17
  |
6 | {"file": "\ud800"}
  |                 ^

m.yaml: 5 errors

"#]].raw());
}

#[test]
fn json_rows_are_flat_and_name_each_value_once() {
    assert_data_eq!(shown("prices.jsonl", b"{\"file\": \"a.pdf\", \"tags\": [\"x\"], \"size\": {\"w\": 1}}\n{\"file\": \"b.pdf\", \"n\": 1, \"n\": 2}\n"), str![[r#"
error: `tags` must be a text, found a list
 --> prices.jsonl:1:27
  |
1 | {"file": "a.pdf", "tags": ["x"], "size": {"w": 1}}
  |                           ^^^^^
  |
  = help: the API stores texts only; write a text, JSON in quotes if need be

error: `size` must be a text, found an object
 --> prices.jsonl:1:42
  |
1 | {"file": "a.pdf", "tags": ["x"], "size": {"w": 1}}
  |                                          ^^^^^^^^
  |
  = help: the API stores texts only; write a text, JSON in quotes if need be

error: `n` is twice in one row
 --> prices.jsonl:2:27
  |
2 | {"file": "b.pdf", "n": 1, "n": 2}
  |                   ---     ^^^ again here
  |                   |
  |                   first here
  |
  = help: keep one of them

m.yaml: 3 errors

"#]].raw());
}

#[test]
fn json_without_the_key_on_any_line_says_so_once() {
    assert_data_eq!(
        shown("prices.jsonl", b"{\"flie\": \"a.pdf\"}\n{\"price\": 1}\n"),
        str![[r#"
error: no row of the table has `file`
 --> prices.jsonl:1:1
  |
1 | {"flie": "a.pdf"}
  | ^^^^^^^^^^^^^^^^^
  |
  = help: did you mean `flie`?

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn json_rows_without_a_key_are_warned_of() {
    assert_data_eq!(
        shown(
            "prices.jsonl",
            b"{\"file\": \"a.pdf\"}\n{\"price\": 1}\n{\"file\": null}\n{\"file\": \"\"}\n"
        ),
        str![[r#"
warning: this row has no key
 --> prices.jsonl:2:1
  |
2 | {"price": 1}
  | ^^^^^^^^^^^^ `file` is not here
  |
  = help: no file can get it; fill in the key, or take the row out

warning: this row has no key
 --> prices.jsonl:3:10
  |
3 | {"file": null}
  |          ^^^^ `file` is empty
  |
  = help: no file can get it; fill in the key, or take the row out

warning: this row has no key
 --> prices.jsonl:4:10
  |
4 | {"file": ""}
  |          ^^ `file` is empty
  |
  = help: no file can get it; fill in the key, or take the row out

m.yaml: 3 warnings

"#]]
        .raw()
    );
}

#[test]
fn a_repeated_key_in_json_is_shown_with_its_first_row() {
    assert_data_eq!(
        shown(
            "prices.jsonl",
            b"{\"file\": 7}\n{\"file\": \"a.pdf\"}\n{\"price\": 2, \"file\": \"7\"}\n"
        ),
        str![[r#"
error: two rows have the key `7`, the first on line 1
 --> prices.jsonl:3:22
  |
1 | {"file": 7}
  |          - first here
2 |
3 | {"price": 2, "file": "7"}
  |                      ^^^ here again
  |
  = help: keep one of them: a file gets one row

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn json_of_too_many_names_is_stopped() {
    let mut text = String::new();
    for n in 0..=COLUMNS_MAX {
        let _ = writeln!(text, "{{\"file\": {n}, \"a{n}\": 1}}");
    }
    assert_data_eq!(
        shown("prices.jsonl", text.as_bytes()),
        str![[r#"
error: the table has more than 1,000 columns
    --> prices.jsonl:1000:1
     |
1000 | {"file": 999, "a999": 1}
     | ^
     |
     = help: every name on any line is a column; are some of the names values?

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn other_mistakes_are_told_beside_a_key_that_is_nowhere() {
    let text = [
        &b"{\"a\": 1}\n".repeat(7)[..],
        b"{\"a\": \"\xFC\"}\n{\"a\": 1,}\n",
    ]
    .concat();
    assert_data_eq!(
        shown("prices.jsonl", &text),
        str![[r#"
error: no row of the table has `file`
 --> prices.jsonl:1:1
  |
1 | {"a": 1}
  | ^^^^^^^^
  |
  = help: its only column is `a`

error: this row is not UTF-8 text
 --> prices.jsonl:8:8
  |
8 | {"a": "�"}
  |        ^ not UTF-8
  |
  = help: save the table as UTF-8; Excel calls that `CSV UTF-8`

error: this row is not JSON: a comma with nothing after it
 --> prices.jsonl:9:9
  |
9 | {"a": 1,}
  |         ^

m.yaml: 3 errors

"#]]
        .raw()
    );
}
