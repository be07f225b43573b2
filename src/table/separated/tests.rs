//! What is shown for tables of cells that are broken: exact texts.
//!
//! `SNAPSHOTS=overwrite cargo test --lib table` writes them anew; read the difference.

#![expect(
    clippy::needless_raw_string_hashes,
    reason = "the snapshot tool writes them so"
)]

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use snapbox::{IntoData, assert_data_eq, str};

use crate::table::lines::Limits;
use crate::table::tests::{limited, shown, spec, text};
use crate::table::{COLUMNS_MAX, join};

/// The last problem and the tally.
fn last(text: &str) -> String {
    let at = text
        .rmatch_indices("\n\n")
        .nth(1)
        .map_or(0, |(at, _)| at + 2);
    text[at..].to_owned()
}

/// A disk with a bad block after what can be read.
struct Failing<R>(R);

impl<R: Read> Read for Failing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::Error::other("bad block")),
            read => Ok(read),
        }
    }
}

impl<R: Seek> Seek for Failing<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn an_empty_table_says_what_its_first_row_should_be() {
    assert_data_eq!(
        shown("prices.csv", b""),
        str![[r#"
error: the table is empty
 --> prices.csv:1:1
  |
1 |
  | ^
  |
  = help: its first row must name the columns, `file` among them

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_column_needs_a_name() {
    assert_data_eq!(
        shown("prices.csv", b"file,,price,\na.pdf,1,2,\n"),
        str![[r#"
error: column 2 has no name
 --> prices.csv:1:6
  |
1 | file,,price,
  |      ^ a name is missing here
  |
  = help: name it, or take the column out of every row

error: column 4 has no name
 --> prices.csv:1:13
  |
1 | file,,price,
  |             ^ a name is missing here
  |
  = help: name it, or take the column out of every row

m.yaml: 2 errors

"#]]
        .raw()
    );
}

#[test]
fn two_columns_of_one_name_are_shown_together() {
    assert_data_eq!(
        shown("prices.csv", b"file,price,vendor,price\na.pdf,1,ACME,2\n"),
        str![[r#"
error: columns 2 and 4 have one name, `price`
 --> prices.csv:1:19
  |
1 | file,price,vendor,price
  |      -----        ^^^^^ again here
  |      |
  |      first here
  |
  = help: rename one of them

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_key_column_that_is_misspelt_is_guessed() {
    assert_data_eq!(
        shown("prices.csv", b"FILE,price\na.pdf,1\n"),
        str![[r#"
error: the table has no column `file`
 --> prices.csv:1:1
  |
1 | FILE,price
  | ^^^^
  |
  = help: did you mean `FILE`?

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_key_column_that_differs_by_white_space_is_told_so() {
    assert_data_eq!(
        shown("prices.csv", b"price, file\n1,a.pdf\n"),
        str![[r#"
error: the table has no column `file`
 --> prices.csv:1:7
  |
1 | price, file
  |       ^^^^^
  |
  = help: the column is ` file`, the key `file`: they differ by white space

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_key_column_that_is_nowhere_is_answered_with_those_that_are() {
    assert_data_eq!(
        shown("prices.csv", b"a,b,c,d,e,f,g,h,i,j\n"),
        str![[r#"
error: the table has no column `file`
 --> prices.csv:1:1
  |
1 | a,b,c,d,e,f,g,h,i,j
  | ^^^^^^^^^^^^^^^^^^^
  |
  = help: its columns are `a`, `b`, `c`, `d`, `e`, `f`, `g`, `h` and 2 more columns

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn semicolons_between_cells_are_seen() {
    assert_data_eq!(
        shown("prices.csv", b"file;price\na.pdf;1,5\n"),
        str![[r#"
error: the table has no column `file`
 --> prices.csv:1:1
  |
1 | file;price
  | ^^^^^^^^^^
  |
  = help: its cells seem to be separated by `;`: say `delimiter: ";"`

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn tabs_between_cells_are_seen() {
    assert_data_eq!(
        shown("prices.csv", b"file\tprice\na.pdf\t1\n"),
        str![[r#"
error: the table has no column `file`
 --> prices.csv:1:1
  |
1 | file    price
  | ^^^^^^^^^^^^^
  |
  = help: its cells seem to be separated by tabs: say `delimiter: "\t"`, or let its name end in .tsv

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn commas_in_a_tsv_are_seen() {
    assert_data_eq!(
        shown("prices.tsv", b"file,price\na.pdf,1\n"),
        str![[r#"
error: the table has no column `file`
 --> prices.tsv:1:1
  |
1 | file,price
  | ^^^^^^^^^^
  |
  = help: its cells seem to be separated by `,`: say `delimiter: ","`

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_line_for_excel_is_known() {
    assert_data_eq!(
        shown("prices.csv", b"sep=;\nfile;price\n"),
        str![[r#"
error: the table has no column `file`
 --> prices.csv:1:1
  |
1 | sep=;
  | ^^^^^
  |
  = help: only Excel reads a line `sep=`: take it out, and say `delimiter:`

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn rows_of_too_many_or_too_few_cells_say_both_numbers() {
    assert_data_eq!(
        shown(
            "prices.csv",
            b"file,price,vendor\na.pdf,1,ACME, Inc.\nb.pdf\nc.pdf,1,ACME\n"
        ),
        str![[r#"
error: this row has 4 cells, the header 3
 --> prices.csv:2:14
  |
2 | a.pdf,1,ACME, Inc.
  |              ^^^^^ 1 cell too many
  |
  = help: a cell with a `,` in it needs quotes around it

error: this row has 1 cell, the header 3
 --> prices.csv:3:6
  |
3 | b.pdf
  |      ^ 2 cells too few
  |
  = help: an empty cell needs its `,` too

m.yaml: 2 errors

"#]]
        .raw()
    );
}

#[test]
fn a_space_before_quotes_is_seen() {
    assert_data_eq!(
        shown("prices.csv", b"file,vendor\na.pdf, \"ACME, Inc.\"\n"),
        str![[r#"
error: this row has 3 cells, the header 2
 --> prices.csv:2:14
  |
2 | a.pdf, "ACME, Inc."
  |              ^^^^^^ 1 cell too many
  |
  = help: quotes count only at the beginning of a cell: take the space before them out

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_quote_that_is_never_closed_is_shown_where_it_opens() {
    assert_data_eq!(
        shown("prices.csv", b"file,vendor\na.pdf,\"ACME\nb.pdf,Initech\n"),
        str![[r#"
error: a quote is not closed
 --> prices.csv:2:7
  |
2 | a.pdf,"ACME
  |       ^ the rest of the table is in this cell
  |
  = help: write another `"` where the cell ends; a quote that belongs to a cell is doubled, as in "5"" pipe"

m.yaml: 1 error

"#]].raw()
    );
}

#[test]
fn a_quote_within_quotes_is_explained() {
    assert_data_eq!(
        shown("prices.csv", b"file,size\na.pdf,\"5\" pipe\"\n"),
        str![[r#"
error: a cell goes on after its closing quote
 --> prices.csv:2:10
  |
2 | a.pdf,"5" pipe"
  |          ^^^^^^ outside of the quotes
  |
  = help: a quote that belongs to a cell is doubled, as in "5"" pipe"

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_missing_quote_shows_where_its_cell_began() {
    assert_data_eq!(
        shown(
            "prices.csv",
            b"file,vendor\n\"a.pdf\",\"ACME\n\"b.pdf\",\"Initech\"\n\"c.pdf\",\"Hooli\"\n"
        ),
        str![[r#"
error: a cell goes on after its closing quote
 --> prices.csv:3:2
  |
2 | "a.pdf","ACME
  |         - the quotes begin here
3 | "b.pdf","Initech"
  |  ^^^^^^ outside of the quotes
  |
  = help: is a quote missing where the cell ends? a quote that belongs to a cell is doubled, as in "5"" pipe"

m.yaml: 1 error

"#]].raw()
    );
}

#[test]
fn a_cell_that_swallows_lines_is_suspected() {
    assert_data_eq!(
        shown(
            "prices.csv",
            b"file,vendor\n\"a.pdf,ACME\nb.pdf\",Initech,Hooli\n"
        ),
        str![[r#"
error: this row has 3 cells, the header 2
 --> prices.csv:2:1
  |
2 | "a.pdf,ACME
  | ^^^^^^^^^^^ this cell goes on for 2 lines
  |
  = help: is a quote missing where it ends, or one too many where it begins?

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_repeated_key_is_shown_with_its_first_row() {
    assert_data_eq!(shown("prices.csv", b"\xEF\xBB\xBFfile,price\r\na.pdf,1\r\n\"b.pdf\",2\r\n\r\nc.pdf,3\r\nb.pdf,4\r\na.pdf,5\r\n"), str![[r#"
error: two rows have the key `b.pdf`, the first on line 3
 --> prices.csv:6:1
  |
3 | "b.pdf",2
  | ------- first here
...
6 | b.pdf,4
  | ^^^^^ here again
  |
  = help: keep one of them: a file gets one row

error: two rows have the key `a.pdf`, the first on line 2
 --> prices.csv:7:1
  |
2 | a.pdf,1
  | ----- first here
...
7 | a.pdf,5
  | ^^^^^ here again
  |
  = help: keep one of them: a file gets one row

m.yaml: 2 errors

"#]].raw());
}

#[test]
fn rows_without_a_key_are_warned_of() {
    assert_data_eq!(
        shown(
            "prices.csv",
            b"price,file\n1,\n2,\"\"\n3,\n4,\n5,\n6,\n7,\n"
        ),
        str![[r#"
warning: this row has no key
 --> prices.csv:2:3
  |
2 | 1,
  |   ^ `file` is empty
  |
  = help: no file can get it; fill in the key, or take the row out

warning: this row has no key
 --> prices.csv:3:3
  |
3 | 2,""
  |   ^^ `file` is empty
  |
  = help: no file can get it; fill in the key, or take the row out

warning: this row has no key
 --> prices.csv:4:3
  |
4 | 3,
  |   ^ `file` is empty
  |
  = help: no file can get it; fill in the key, or take the row out

warning: this row has no key
 --> prices.csv:5:3
  |
5 | 4,
  |   ^ `file` is empty
  |
  = help: no file can get it; fill in the key, or take the row out

warning: this row has no key
 --> prices.csv:6:3
  |
6 | 5,
  |   ^ `file` is empty
  |
  = help: no file can get it; fill in the key, or take the row out

warning: … and 2 more rows without a key
 --> prices.csv:7:3
  |
7 | 6,
  |   ^ the next one

m.yaml: 6 warnings

"#]]
        .raw()
    );
}

#[test]
fn utf_16_is_known_by_its_byte_order_mark() {
    assert_data_eq!(
        shown("prices.csv", b"\xFF\xFEf\0i\0l\0e\0"),
        str![[r#"
error: the table is UTF-16
 --> prices.csv:1:1
  |
1 | ��f␀i␀l␀e␀
  | ^
  |
  = help: save it as UTF-8; Excel calls that `CSV UTF-8`

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn utf_16_is_known_by_its_zero_bytes() {
    assert_data_eq!(
        shown("prices.csv", b"f\0i\0l\0e\0"),
        str![[r#"
error: the table is UTF-16
 --> prices.csv:1:1
  |
1 | f␀i␀l␀e␀
  | ^
  |
  = help: save it as UTF-8; Excel calls that `CSV UTF-8`

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn other_encodings_are_told_once() {
    assert_data_eq!(
        shown(
            "prices.csv",
            b"file,city\na.pdf,M\xFCnchen\nb.pdf,Bonn\nc.pdf,K\xF6ln\nd.pdf,N\xFCrnberg\n"
        ),
        str![[r#"
error: this row is not UTF-8 text, nor are 2 other rows
 --> prices.csv:2:8
  |
2 | a.pdf,M�nchen
  |        ^ not UTF-8
  |
  = help: save the table as UTF-8; Excel calls that `CSV UTF-8`

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_zero_byte_is_no_text() {
    assert_data_eq!(
        shown("prices.csv", b"file,price\na.pdf,1\0\n"),
        str![[r#"
error: a zero byte is in this row
 --> prices.csv:2:8
  |
2 | a.pdf,1␀
  |        ^
  |
  = help: no text has one; is the file whole, and a table?

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn lines_that_end_with_carriage_returns_alone_are_explained() {
    assert_data_eq!(
        shown("prices.csv", b"file,price\ra.pdf,1\rb.pdf,2\r"),
        str![[r#"
error: a carriage return ends no line
 --> prices.csv:1:11
  |
1 | file,price␍a.pdf,1␍b.pdf,2
  |           ^ no line feed follows
  |
  = help: end lines with LF or CRLF; a cell with a carriage return in it needs quotes

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn no_cell_drives_the_terminal() {
    assert_data_eq!(
        shown(
            "prices.csv",
            "file,price\na\u{1b}[2J\u{202e}.pdf,1,2\n".as_bytes()
        ),
        str![[r#"
error: this row has 3 cells, the header 2
 --> prices.csv:2:14
  |
2 | a␛[2J�.pdf,1,2
  |              ^ 1 cell too many
  |
  = help: a cell with a `,` in it needs quotes around it

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn the_same_mistake_in_every_row_is_told_twenty_times() {
    let text = format!("file,price\n{}", "a\n".repeat(1_234));
    assert_data_eq!(
        last(&shown("prices.csv", text.as_bytes())),
        str![[r#"
error: … and 1,214 more errors
  --> prices.csv:22:2
   |
22 | a
   |  ^ the next one

m.yaml: 21 errors

"#]]
        .raw()
    );
}

#[test]
fn a_line_too_long_to_show_is_told_by_its_place() {
    let text = format!("file,text\na.pdf,{},2\n", "x".repeat(10_000));
    assert_data_eq!(
        shown("prices.csv", text.as_bytes()),
        str![[r#"
error: this row has 3 cells, the header 2
--> prices.csv:2:10008
 = help: a cell with a `,` in it needs quotes around it

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_quote_that_would_read_the_whole_table_is_stopped() {
    assert_data_eq!(
        limited(
            "prices.csv",
            b"file,vendor\na.pdf,\"ACME\nb.pdf,Initech\nc.pdf,Hooli\nd.pdf,\"Globex\"\n",
            Limits {
                row_bytes: 40,
                ..Limits::default()
            }
        ),
        str![[r#"
error: a row is larger than 40 B
 --> prices.csv:2:7
  |
2 | a.pdf,"ACME
  |       ^ because of the quotes that begin here
  |
  = help: is the quote that ends them missing? a quote that belongs to a cell is doubled, as in "5"" pipe"

m.yaml: 1 error

"#]].raw()
    );
}

#[test]
fn a_line_that_does_not_end_is_stopped() {
    assert_data_eq!(
        limited(
            "prices.csv",
            b"file,vendor\na.pdf,ACME\nb.pdf,a text that is longer than forty bytes\n",
            Limits {
                row_bytes: 40,
                ..Limits::default()
            }
        ),
        str![[r#"
error: a row is larger than 40 B
 --> prices.csv:3:1
  |
3 | b.pdf,a text that is longer than forty by
  | ^
  |
  = help: is it a table? Each row ends with a line feed

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_table_of_too_many_rows_is_stopped() {
    assert_data_eq!(
        limited(
            "prices.csv",
            b"file,vendor\na.pdf,ACME\nb.pdf,ACME\nc.pdf,ACME\n",
            Limits {
                rows: 2,
                ..Limits::default()
            }
        ),
        str![[r#"
error: the table has more than 2 rows
 --> prices.csv:4:1
  |
4 | c.pdf,ACME
  | ^
  |
  = help: split it, and the rule with it

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_table_of_too_many_bytes_is_stopped() {
    assert_data_eq!(
        limited(
            "prices.csv",
            b"file,vendor\na.pdf,ACME\nb.pdf,ACME\nc.pdf,ACME\n",
            Limits {
                bytes: 30,
                ..Limits::default()
            }
        ),
        str![[r#"
error: the table is larger than 30 B
 --> prices.csv:3:1
  |
3 | b.pdf,ACME
  | ^
  |
  = help: split it, and the rule with it

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_table_of_too_many_columns_is_refused() {
    let text = format!("file{}\n", ",a".repeat(COLUMNS_MAX));
    assert_data_eq!(
        shown("prices.csv", text.as_bytes()),
        str![[r#"
error: the table has more than 1,000 columns
 --> prices.csv:1:2004
  |
1 | ...,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a
  |                                                         ^ the first one too many

m.yaml: 1 error

"#]]
        .raw()
    );
}

#[test]
fn a_disk_that_fails_is_told_where() {
    let joined = join(
        Failing(Cursor::new(b"file,price\na.pdf,1\nb.pd")),
        &spec("prices.csv"),
        &["a.pdf"],
    );
    assert!(joined.rows[0].is_some());
    assert_data_eq!(
        text(&joined),
        str![[r#"
error: the table cannot be read: bad block
 --> prices.csv:3:1
  |
3 | b.pd
  | ^

m.yaml: 1 error

"#]]
        .raw()
    );
}
