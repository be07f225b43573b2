//! The join against a naive one, which reads everything with the `csv` crate and looks it up.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// What the naive join finds: the wanted rows, and how many are unused, repeated, without a key.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    rows: Vec<Option<Vec<String>>>,
    read: usize,
    unused: usize,
    repeated: usize,
    keyless: usize,
}

/// None where a row has not as many cells as the header.
fn naive(text: &str, wanted: &[&str]) -> Option<Found> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let header = reader.headers().ok()?.clone();
    let key = header.iter().position(|name| name == "file")?;
    let records: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().ok()?;
    let mut by_key: HashMap<&str, &csv::StringRecord> = HashMap::new();
    let mut found = Found {
        rows: Vec::new(),
        read: records.len(),
        unused: 0,
        repeated: 0,
        keyless: 0,
    };
    for record in &records {
        let key = record.get(key)?;
        if key.is_empty() {
            found.keyless += 1;
        } else if by_key.contains_key(key) {
            found.repeated += 1;
        } else {
            by_key.insert(key, record);
            found.unused += usize::from(!wanted.contains(&key));
        }
    }
    let row = |key: &&str| {
        let record = by_key.get(key)?;
        Some(record.iter().map(ToOwned::to_owned).collect())
    };
    found.rows = wanted.iter().map(row).collect();
    Some(found)
}

fn ours(joined: &Joined) -> Found {
    let rows = joined.rows.iter().map(|row| {
        let fields = &row.as_ref()?.fields;
        Some(fields.iter().map(|(_, value)| value.to_owned()).collect())
    });
    let of = |severity, text: &str| {
        let is_one = |d: &&Diagnostic| d.severity == severity && d.message.contains(text);
        joined.diagnostics.iter().filter(is_one).count()
    };
    Found {
        rows: rows.collect(),
        read: usize::try_from(joined.rows_read).expect("few"),
        unused: usize::try_from(joined.unused.rows).expect("few"),
        repeated: of(Severity::Error, "two rows have the key"),
        keyless: of(Severity::Warning, "has no key"),
    }
}

/// A cell as someone may write it.
fn written(cell: &str, is_quoted: bool) -> String {
    if is_quoted || cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

fn cell() -> impl Strategy<Value = String> {
    prop_oneof!["[abc]?", "[ab ,;\"\r\n\u{e9}]{0,4}", Just("007".to_owned()),]
}

proptest! {
    #[test]
    fn a_table_as_programs_write_it_is_joined_as_a_naive_reader_does(
        rows in proptest::collection::vec(
            (cell(), cell(), any::<[bool; 2]>(), any::<bool>(), any::<bool>()),
            // Few enough that each repeated key is told in full.
            0..5,
        ),
        wanted in proptest::collection::vec(cell(), 0..5),
        has_end in any::<bool>(),
    ) {
        let mut text = String::from("value,file\n");
        let mut lines: HashMap<&str, u64> = HashMap::new();
        for (value, key, is_quoted, is_crlf, is_after_empty) in &rows {
            if *is_after_empty {
                text.push_str("\r\n");
            }
            let line = text.matches('\n').count() as u64 + 1;
            lines.entry(key).or_insert(line);
            text.extend([&written(value, is_quoted[0]), ",", &written(key, is_quoted[1])]);
            text.push_str(if *is_crlf { "\r\n" } else { "\n" });
        }
        if !has_end && text.ends_with('\n') {
            text.pop();
        }
        let wanted: Vec<&str> = wanted.iter().map(String::as_str).filter(|w| !w.is_empty()).collect();
        let joined = of("p.csv", text.as_bytes(), &wanted);
        prop_assert_eq!(Some(ours(&joined)), naive(&text, &wanted), "{:?}", text);
        for (key, row) in wanted.iter().zip(&joined.rows) {
            prop_assert_eq!(row.as_ref().map(|row| row.line), lines.get(key).copied());
        }
        for (at, key) in joined.unused.first.iter().zip(&joined.unused.keys) {
            if !key.contains('\n') {
                let shown = &at.text[at.span.clone()];
                prop_assert!(shown == &**key || shown == written(key, true), "{} {}", shown, key);
            }
        }
    }

    #[test]
    fn whatever_is_read_without_an_error_is_read_as_a_naive_reader_does(
        soup in "(file,b|file)\n[ab\" ,\r\n]{0,24}",
    ) {
        let joined = of("p.csv", soup.as_bytes(), &["a", "b", "ab", "a\"", "a,", "\na"]);
        let is_broken = |d: &Diagnostic| {
            d.severity == Severity::Error && !d.message.starts_with("two rows have the key")
        };
        if !joined.diagnostics.iter().any(is_broken) && joined.rows_read <= 5 {
            let found = naive(&soup, &["a", "b", "ab", "a\"", "a,", "\na"]);
            prop_assert_eq!(Some(ours(&joined)), found, "{:?}", soup);
        }
    }

    #[test]
    fn no_bytes_do_harm(
        bytes in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), Just(b'{'), Just(b':'), any::<u8>()],
            0..60,
        ),
        has_header in any::<bool>(),
    ) {
        for (file, header) in [("p.csv", "file,b\n"), ("p.tsv", "file\n"), ("p.jsonl", "{\"file\":1}\n")] {
            let mut text = if has_header { header.as_bytes().to_vec() } else { Vec::new() };
            text.extend_from_slice(&bytes);
            let joined = of(file, &text, &["a"]);
            prop_assert_eq!(joined.rows.len(), 1);
            for at in &joined.unused.first {
                prop_assert!(at.text.get(at.span.clone()).is_some());
            }
        }
    }
}
