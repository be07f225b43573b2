//! A report as a page: one file that needs no other, no network and no server.
//!
//! The summary is plain HTML, so that it is there without scripts. The rows are JSON in chunks, each
//! in an element of its own that no browser runs; the script reads them and draws the rest. Scripts
//! and styles are allowed by their hashes, so nothing that a file's name smuggles in would be run.

use std::fmt::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::form::COLUMNS;
use super::{Header, Pause};
use crate::model::{HumanBytes, Outcome, count, shown};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: [&str; 4] = [
    include_str!("rows.js"),
    include_str!("charts.js"),
    include_str!("table.js"),
    include_str!("page.js"),
];

/// Rows in one element. A browser takes longer over one text of many megabytes than over many texts.
const CHUNK: usize = 2000;

const CHUNK_BEGINS: &[u8] = b"<script type=\"application/json\" class=\"rows\">[\n";
const CHUNK_ENDS: &str = "\n]</script>\n";

/// What stands for a text or an object that is the same as in the row above. No cell that can be
/// replaced by it is a number.
const AS_ABOVE: u8 = b'0';

/// Writes rows as arrays of JSON, in chunks.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    rows: usize,
    above: [Vec<u8>; COLUMNS.len()],
    cell: Vec<u8>,
}

impl Chunks {
    /// Adds a row, of which each cell is written as JSON by what it is given as.
    pub(super) fn row(
        &mut self,
        to: &mut Vec<u8>,
        cells: impl Iterator<Item = impl FnOnce(&mut Vec<u8>)>,
    ) {
        match self.rows % CHUNK {
            0 if self.rows > 0 => {
                to.extend_from_slice(CHUNK_ENDS.as_bytes());
                to.extend_from_slice(CHUNK_BEGINS);
            }
            0 => to.extend_from_slice(CHUNK_BEGINS),
            _ => to.extend_from_slice(b",\n"),
        }
        self.rows += 1;
        let mut before = b'[';
        for (write, above) in cells.zip(&mut self.above) {
            to.push(std::mem::replace(&mut before, b','));
            self.cell.clear();
            write(&mut self.cell);
            let is_long = matches!(self.cell.first(), Some(b'"' | b'{'));
            if is_long && self.cell == *above {
                to.push(AS_ABOVE);
                continue;
            }
            escape(to, &self.cell);
            std::mem::swap(above, &mut self.cell);
        }
        to.push(b']');
    }
}

/// Writes JSON so that nothing in it can end a `script` element, or begin a comment there.
fn escape(to: &mut Vec<u8>, json: &[u8]) {
    let mut parts = json.split(|byte| *byte == b'<');
    to.extend_from_slice(parts.next().unwrap_or_default());
    for part in parts {
        to.extend_from_slice(b"\\u003c");
        to.extend_from_slice(part);
    }
}

/// What the script is told beside the rows.
#[derive(Serialize)]
struct Told<'a> {
    columns: [&'static str; COLUMNS.len()],
    outcomes: Vec<(&'static str, &'static str)>,
    header: &'a Header,
    pauses: Option<&'a [Pause]>,
}

/// What stands before the rows.
pub(super) fn head(header: &Header) -> serde_json::Result<String> {
    let told = Told {
        columns: COLUMNS,
        outcomes: Outcome::ALL
            .map(|outcome| (outcome.word(), outcome.label()))
            .to_vec(),
        header,
        pauses: header.pauses.as_deref(),
    };
    let mut json = Vec::new();
    escape(&mut json, &serde_json::to_vec(&told)?);
    let json = String::from_utf8_lossy(&json).into_owned();
    let mut text = filled(PAGE, |name| match name {
        "title" => Text(&header.manifest).to_string(),
        "policy" => policy(),
        "style" => STYLE.to_owned(),
        "verdict" => verdict(header),
        "facts" => facts(header),
        "outcomes" => outcomes(header),
        "causes" => causes(header),
        "rows" => json.clone(),
        "version" => env!("CARGO_PKG_VERSION").to_owned(),
        _ => String::new(),
    });
    text.push('\n');
    Ok(text)
}

/// What stands behind them; `rows` says whether there are any.
pub(super) fn end(is_empty: bool) -> String {
    let chunk = if is_empty { "" } else { CHUNK_ENDS };
    format!("{chunk}<script>{}</script>\n</body>\n</html>\n", script())
}

fn script() -> String {
    SCRIPT.concat()
}

/// Puts texts in the places of a page, each marked as `{{name}}`. What is put in is not looked at.
fn filled(page: &str, text: impl Fn(&str) -> String) -> String {
    let mut parts = page.split("{{");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        if let Some((name, rest)) = part.split_once("}}") {
            filled.push_str(&text(name));
            filled.push_str(rest);
        }
    }
    filled
}

/// Nothing is loaded from anywhere, and only what was written here is run.
fn policy() -> String {
    let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; base-uri 'none'; \
         form-action 'none'",
        hash(&script()),
        hash(STYLE)
    )
}

/// A text from outside, in HTML.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in shown(self.0).chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

fn files(header: &Header, outcome: Outcome) -> usize {
    header.outcomes.get(outcome.word()).copied().unwrap_or(0)
}

/// What the run came to, in a sentence.
fn verdict(header: &Header) -> String {
    let there = files(header, Outcome::Stored) + files(header, Outcome::Skipped);
    let missing = header.planned - there.min(header.planned);
    let doubt = files(header, Outcome::InDoubt);
    let (class, mut said) = match (header.planned, missing) {
        (0, _) => ("good", "No file is in this report.".to_owned()),
        (planned, 0) => ("good", format!("{}, all stored.", count(planned, "file"))),
        (planned, missing) => (
            "bad",
            format!(
                "{} of {} not known to be stored.",
                grouped(missing),
                count(planned, "file")
            ),
        ),
    };
    if doubt > 0 {
        let _ = write!(said, " {} in doubt.", count(doubt, "file"));
    }
    if header.run_id.is_some() && header.finished.is_none() {
        said.push_str(" The run did not end: it was killed, or is under way.");
    }
    format!("<p class=\"verdict {class}\">{said}</p>")
}

fn facts(header: &Header) -> String {
    let mut facts = String::new();
    let mut fact = |name: &str, value: &dyn fmt::Display| {
        let _ = writeln!(facts, "<div><dt>{name}</dt><dd>{value}</dd></div>");
    };
    match &header.run_id {
        Some(run) => fact("Run", &Text(run.as_str())),
        None => fact("Rows", &"the latest of every file, whatever run sent it"),
    }
    if let Some(started) = header.started {
        fact("Began", &time(started));
    }
    if let Some(finished) = header.finished {
        fact("Ended", &time(finished));
    }
    if let (Some(started), Some(finished)) = (header.started, header.finished) {
        fact("Took", &duration(started, finished));
    }
    if let Some(code) = header.exit_code {
        fact("Exit code", &code);
    }
    fact("Bytes stored", &HumanBytes(header.bytes_stored));
    if header.vanished > 0 {
        fact(
            "Stored earlier, gone from the source",
            &count(header.vanished, "file"),
        );
    }
    facts
}

fn time(time: Timestamp) -> String {
    format!(
        "<time datetime=\"{time:.3}\">{}</time>",
        time.strftime("%Y-%m-%d %H:%M:%S UTC")
    )
}

fn duration(from: Timestamp, to: Timestamp) -> String {
    let milliseconds = to
        .as_millisecond()
        .saturating_sub(from.as_millisecond())
        .max(0);
    let seconds = milliseconds / 1000;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, _) => format!("{seconds}.{:03} s", milliseconds % 1000),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

fn outcomes(header: &Header) -> String {
    let mut rows = String::new();
    for outcome in Outcome::ALL {
        let (word, files) = (outcome.word(), files(header, outcome));
        let bytes = header.bytes.get(word).copied().unwrap_or(0);
        let class = if files == 0 { " class=\"none\"" } else { "" };
        let _ = writeln!(
            rows,
            "<tr{class}><th scope=\"row\"><a class=\"outcome {word}\" href=\"#outcome={word}\">{}</a>\
             </th><td class=\"number\">{}</td><td class=\"number\">{}</td></tr>",
            outcome.label(),
            grouped(files),
            HumanBytes(bytes)
        );
    }
    rows
}

fn causes(header: &Header) -> String {
    let mut list = String::new();
    for cause in &header.stopped {
        let _ = write!(list, "<li>{}</li>", Text(cause));
    }
    if list.is_empty() {
        return list;
    }
    format!("<h3>Why it ended early</h3>\n<ul>{list}</ul>")
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let counted = count(number, "");
    counted.split(' ').next().unwrap_or_default().to_owned()
}

/// What a page's script reads: what it is told, and the rows as they are in JSON.
#[cfg(test)]
pub(super) fn read_back(page: &str) -> (serde_json::Value, Vec<serde_json::Value>) {
    use serde_json::Value;

    let texts = |begin: &str| -> Vec<Value> {
        let texts = page.split(begin).skip(1);
        let texts = texts.map(|text| text.split("</script>").next().expect("an end"));
        texts
            .map(|text| serde_json::from_str(text).expect("JSON"))
            .collect()
    };
    let told = texts("<script type=\"application/json\" id=\"told\">");
    let mut above = [const { Value::Null }; COLUMNS.len()];
    let mut rows = Vec::new();
    for chunk in texts("<script type=\"application/json\" class=\"rows\">") {
        for row in chunk.as_array().expect("rows") {
            let cells = row.as_array().expect("a row");
            assert_eq!(cells.len(), COLUMNS.len());
            let mut read = serde_json::Map::new();
            for ((column, cell), above) in COLUMNS.iter().zip(cells).zip(&mut above) {
                let is_number = matches!(*column, "size" | "attempts" | "http_status");
                let mut cell = cell.clone();
                if !is_number && cell == 0 {
                    cell = above.clone();
                } else if !cell.is_null() {
                    *above = cell.clone();
                }
                read.insert((*column).to_owned(), cell);
            }
            rows.push(Value::Object(read));
        }
    }
    let [told] = told.as_slice() else {
        panic!("{told:?}");
    };
    (told.clone(), rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;
    use crate::report::{About, Counts, Pauses};

    fn header(about: About) -> Header {
        Header::new(about, &Counts::default())
    }

    #[test]
    fn the_parts_of_a_page_load_nothing_and_do_not_end_each_other() {
        for part in [PAGE, STYLE, &script()] {
            for word in [
                "https:",
                "src=",
                "<link",
                "@import",
                "url(",
                "innerHTML",
                "eval(",
            ] {
                assert!(!part.contains(word), "{word}");
            }
        }
        // The name of SVG is no address that is asked.
        assert_eq!(script().matches("http:").count(), 1);
        for part in [STYLE, &script()] {
            assert!(!part.contains("</") && !part.contains("<!--"));
        }
        // Styles on elements are not allowed by their hash.
        assert!(!PAGE.contains("style=\""));
    }

    #[test]
    fn a_hostile_manifest_says_nothing_but_its_name() {
        let name = "</title><script>alert(1)</script>{{facts}}\u{202e}\"'&";
        let about = About {
            manifest: name.to_owned(),
            run_id: Some(RunId::new("<run>")),
            stopped: vec!["<b>\u{2028}</script>".to_owned()],
            ..About::default()
        };
        let page = head(&header(about)).expect("a page") + &end(true);
        let shown =
            "&lt;/title&gt;&lt;script&gt;alert(1)&lt;/script&gt;{{facts}}\\u{202e}&quot;&#39;&amp;";
        assert!(page.contains(&format!("<h1>{shown}</h1>")), "{page}");
        assert!(page.contains("<li>&lt;b&gt;\\u{2028}&lt;/script&gt;</li>"));
        assert_eq!(
            page.matches("<script").count(),
            page.matches("</script>").count()
        );
        assert_eq!(page.matches("<script").count(), 2);
        let (told, rows) = read_back(&page);
        assert_eq!(told["header"]["manifest"], name);
        assert!(rows.is_empty());
    }

    #[test]
    fn rows_lie_in_chunks() {
        let mut chunks = Chunks::default();
        let mut text = Vec::new();
        for row in 0..=CHUNK {
            let cells = (0..COLUMNS.len()).map(|_| {
                move |to: &mut Vec<u8>| to.extend_from_slice(format!("\"{row}\"").as_bytes())
            });
            chunks.row(&mut text, cells);
        }
        let page = head(&header(About::default())).expect("a page")
            + &String::from_utf8(text).expect("text")
            + &end(false);
        assert_eq!(page.matches("class=\"rows\"").count(), 2);
        let (_, rows) = read_back(&page);
        assert_eq!(rows.len(), CHUNK + 1);
        assert_eq!(rows[CHUNK]["path"], CHUNK.to_string());
    }

    #[test]
    fn what_a_run_took_is_said_as_people_do() {
        let at = |milliseconds| Timestamp::from_millisecond(milliseconds).expect("a time");
        for (milliseconds, said) in [
            (0, "0.000 s"),
            (59_999, "59.999 s"),
            (60_000, "1 min 0 s"),
            (3_723_000, "1 h 2 min"),
        ] {
            assert_eq!(duration(at(0), at(milliseconds)), said);
        }
    }

    #[test]
    fn pauses_for_one_reason_are_one_and_bounded() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let wait = std::time::Duration::from_secs(2);
        let mut pauses = Pauses::default();
        for (second, why) in [(0, "busy"), (1, "busy"), (2, "other"), (9, "other")] {
            pauses.add(at(second), wait, why);
        }
        let about = |pauses| About {
            pauses: Some(pauses),
            ..About::default()
        };
        let found = header(about(pauses)).pauses.expect("pauses");
        let spans: Vec<_> = found
            .iter()
            .map(|pause| (pause.began, pause.until))
            .collect();
        assert_eq!(spans, [(at(0), at(3)), (at(2), at(4)), (at(9), at(11))]);
        let mut pauses = Pauses::default();
        for second in 0..2000 {
            pauses.add(at(10 * second), wait, "busy");
        }
        assert_eq!(header(about(pauses)).pauses.expect("pauses").len(), 1000);
    }
}
