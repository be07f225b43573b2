use std::io::Cursor;

use super::*;

fn csv(text: &str, wanted: &[&str]) -> Joined {
    let spec = Spec {
        file: "prices.csv",
        format: Format::Csv,
        delimiter: None,
        key: "file",
    };
    join(Cursor::new(text), &spec, wanted)
}

#[test]
fn each_key_gets_its_row_as_written() {
    let joined = csv(
        "file,price\na.pdf,1.10\nb.pdf,007\n",
        &["b.pdf", "c.pdf", "b.pdf"],
    );
    let row = joined.rows[0].as_ref().expect("a row");
    assert_eq!(row.fields.get("price"), Some("007"));
    assert_eq!(row.line, 3);
    assert_eq!(joined.rows[1], None);
    assert_eq!(joined.rows[2].as_ref(), Some(row));
    assert_eq!(joined.unused.rows, 1);
}
