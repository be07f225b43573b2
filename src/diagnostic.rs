//! What is wrong with a manifest, a table or a sidecar, shown at its place.

use std::fmt::Write;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::model::{count, schema_of, shown};

/// The version of the form in which programs read problems.
const FORMAT: u32 = 1;

/// Most problems that are shown in full; the rest are counted.
const SHOWN_MAX: usize = 50;

/// Longest line of a text that is shown, in bytes; of a longer one only the place is told.
const LINE_MAX: usize = 4096;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "severity")]
pub enum Severity {
    /// Nothing is done until it is mended.
    Error,
    /// The run goes on.
    Warning,
    /// Worth knowing; `check` tells it.
    Note,
}

/// Where a problem is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// In the manifest: bytes of its text.
    Manifest(Range<usize>),
    /// In another file.
    Elsewhere(Excerpt),
}

impl From<Range<usize>> for Place {
    fn from(span: Range<usize>) -> Self {
        Self::Manifest(span)
    }
}

impl From<Excerpt> for Place {
    fn from(excerpt: Excerpt) -> Self {
        Self::Elsewhere(excerpt)
    }
}

/// A line of a file that is not kept in memory, and the part of it that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Excerpt {
    /// The file's path as it is to be shown.
    pub file: String,
    /// The line's number, from one.
    pub line: usize,
    /// The line, without its end.
    pub text: String,
    /// The bytes of `text` that are meant.
    pub span: Range<usize>,
}

/// One problem: what, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where it is.
    pub place: Option<Place>,
    /// What stands at that place.
    pub label: Option<String>,
    /// Another place that matters, such as a key's first use.
    pub other: Option<(Place, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    fn new(severity: Severity, message: String, place: Place) -> Self {
        Self {
            severity,
            message,
            place: Some(place),
            label: None,
            other: None,
            help: None,
        }
    }

    /// An error at a place.
    #[must_use]
    pub fn error(message: impl Into<String>, place: impl Into<Place>) -> Self {
        Self::new(Severity::Error, message.into(), place.into())
    }

    /// A warning at a place.
    #[must_use]
    pub fn warning(message: impl Into<String>, place: impl Into<Place>) -> Self {
        Self::new(Severity::Warning, message.into(), place.into())
    }

    /// Something worth knowing at a place.
    #[must_use]
    pub fn note(message: impl Into<String>, place: impl Into<Place>) -> Self {
        Self::new(Severity::Note, message.into(), place.into())
    }

    /// Says what stands at the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Points at a second place.
    #[must_use]
    pub fn other(mut self, place: impl Into<Place>, label: impl Into<String>) -> Self {
        self.other = Some((place.into(), label.into()));
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The bytes of the manifest it is about, where it is about the manifest.
    #[must_use]
    pub fn span(&self) -> Option<&Range<usize>> {
        match &self.place {
            Some(Place::Manifest(span)) => Some(span),
            _ => None,
        }
    }
}

/// How many problems there are of each severity.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Tally {
    /// How many errors there are.
    pub errors: usize,
    /// How many warnings there are.
    pub warnings: usize,
    /// How many notes there are.
    pub notes: usize,
}

impl Tally {
    /// Counts them.
    #[must_use]
    pub fn of(diagnostics: &[Diagnostic]) -> Self {
        let of = |severity| {
            let is_one = |d: &&Diagnostic| d.severity == severity;
            diagnostics.iter().filter(is_one).count()
        };
        Self {
            errors: of(Severity::Error),
            warnings: of(Severity::Warning),
            notes: of(Severity::Note),
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<String> = [
            (self.errors, "error"),
            (self.warnings, "warning"),
            (self.notes, "note"),
        ]
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, noun)| count(number, noun))
        .collect();
        match parts.split_last() {
            None => f.write_str("no problems"),
            Some((last, [])) => f.write_str(last),
            Some((last, others)) => write!(f, "{} and {last}", others.join(", ")),
        }
    }
}

/// A manifest's text and the name it is shown under.
#[derive(Debug, Clone)]
pub struct Source {
    /// The path as the user gave it.
    pub name: String,
    /// The text, without a byte order mark.
    pub text: String,
}

/// What is wrong with manifests, as `check --format json` prints it. Later versions may have more
/// fields: skip those you do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(title = "roe-batch diagnostics")]
pub struct Document {
    /// The version of this form.
    #[schemars(extend("const" = FORMAT))]
    format: u32,
    /// The manifests in the order in which they were named.
    manifests: Vec<Checked>,
}

impl Document {
    /// The document of these manifests.
    #[must_use]
    pub fn new(manifests: Vec<Checked>) -> Self {
        Self {
            format: FORMAT,
            manifests,
        }
    }
}

/// The JSON Schema (draft-07) of a [`Document`].
#[must_use]
pub fn schema() -> Value {
    schema_of::<Document>()
}

/// What is wrong with one manifest, its tables and sidecars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "manifest")]
pub struct Checked {
    /// The manifest's path as it was given.
    pub manifest: String,
    /// How many problems there are.
    #[serde(flatten)]
    pub tally: Tally,
    /// The problems, errors first; none where all is well.
    pub diagnostics: Vec<Reported>,
}

/// A problem. Lines and columns count from one, columns in characters; where a problem is nowhere
/// in particular, `file`, `line`, `column` and `end_column` are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "diagnostic")]
pub struct Reported {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// Where, unless nowhere.
    #[serde(flatten)]
    pub location: Option<Location>,
    /// What stands there.
    pub label: Option<String>,
    /// What to do.
    pub help: Option<String>,
    /// Another place that matters, such as a key's first use.
    pub related: Option<Related>,
}

/// Another place that matters to a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "related")]
pub struct Related {
    /// What stands there.
    pub label: String,
    /// Where.
    #[serde(flatten)]
    pub location: Location,
}

/// A part of one line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Location {
    /// The file's path as it is shown: the manifest's, a table's or a sidecar's.
    pub file: String,
    /// The line, from one.
    #[schemars(range(min = 1))]
    pub line: usize,
    /// The first character, from one.
    #[schemars(range(min = 1))]
    pub column: usize,
    /// The character after the last one.
    #[schemars(range(min = 1))]
    pub end_column: usize,
}

impl Source {
    /// Renders problems in the order of the text, as a compiler does, with line, column and
    /// carets; then how many there are. Nothing for none.
    #[must_use]
    pub fn render(&self, diagnostics: &[Diagnostic]) -> String {
        let sorted = sorted(diagnostics);
        let lines = Lines::of(self);
        let mut text = String::new();
        for diagnostic in sorted.iter().take(SHOWN_MAX) {
            text.push_str(&lines.render(diagnostic));
            text.push_str("\n\n");
        }
        if sorted.len() > SHOWN_MAX {
            let more = count(sorted.len() - SHOWN_MAX, "more problem");
            let _ = write!(text, "… and {more}\n\n");
        }
        if !diagnostics.is_empty() {
            let _ = writeln!(text, "{}: {}", self.name, Tally::of(diagnostics));
        }
        text
    }

    /// The same problems and how many there are, for programs.
    #[must_use]
    pub fn checked(&self, diagnostics: &[Diagnostic]) -> Checked {
        Checked {
            manifest: self.name.clone(),
            tally: Tally::of(diagnostics),
            diagnostics: self.report(diagnostics),
        }
    }

    /// The same problems for programs, all of them.
    #[must_use]
    pub fn report(&self, diagnostics: &[Diagnostic]) -> Vec<Reported> {
        let lines = Lines::of(self);
        let one = |diagnostic: &Diagnostic| Reported {
            severity: diagnostic.severity,
            message: diagnostic.message.clone(),
            location: diagnostic.place.as_ref().map(|place| lines.location(place)),
            label: diagnostic.label.clone(),
            help: diagnostic.help.clone(),
            related: diagnostic.other.as_ref().map(|(place, label)| Related {
                label: label.clone(),
                location: lines.location(place),
            }),
        };
        sorted(diagnostics).into_iter().map(one).collect()
    }

    /// The byte at which each line of the text begins.
    #[must_use]
    pub fn line_starts(&self) -> Vec<usize> {
        let ends = self.text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1));
        starts.collect()
    }
}

/// By severity, then by place: the manifest's own first.
fn sorted(diagnostics: &[Diagnostic]) -> Vec<&Diagnostic> {
    let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
    sorted.sort_by_key(|d| {
        let place = match &d.place {
            None => (0, "", 0, 0),
            Some(Place::Manifest(span)) => (1, "", span.start, 0),
            Some(Place::Elsewhere(at)) => (2, at.file.as_str(), at.line, at.span.start),
        };
        (d.severity, place)
    });
    sorted
}

/// A source and where its lines begin.
struct Lines<'a> {
    source: &'a Source,
    starts: Vec<usize>,
}

/// One line, and the part of it that is meant.
struct Spot<'a> {
    file: &'a str,
    number: usize,
    line: &'a str,
    span: Range<usize>,
}

impl Spot<'_> {
    /// The part's first character, from one.
    fn column(&self) -> usize {
        self.line[..self.span.start].chars().count() + 1
    }
}

impl<'a> Lines<'a> {
    fn of(source: &'a Source) -> Self {
        Self {
            source,
            starts: source.line_starts(),
        }
    }

    /// The line of a place, and a part of it that is at least one character if there is one, so
    /// that there is something to point at.
    fn spot<'b>(&'b self, place: &'b Place) -> Spot<'b> {
        let (file, number, line, wanted) = match place {
            Place::Elsewhere(at) => (at.file.as_str(), at.line, at.text.as_str(), at.span.clone()),
            Place::Manifest(span) => {
                let text = self.source.text.as_str();
                let start = span.start.min(text.len());
                let index = self.starts.partition_point(|line| *line <= start) - 1;
                let begin = self.starts[index];
                let end = self
                    .starts
                    .get(index + 1)
                    .map_or(text.len(), |next| next - 1);
                let line = text[begin..end].trim_end_matches('\r');
                let wanted = start - begin..span.end.max(start) - begin;
                (self.source.name.as_str(), index + 1, line, wanted)
            }
        };
        let start = line.floor_char_boundary(wanted.start.min(line.len()));
        let end = line.ceil_char_boundary(wanted.end.clamp(start, line.len()));
        let next = line[start..].chars().next().map_or(0, char::len_utf8);
        Spot {
            file,
            number,
            line,
            span: start..end.max(start + next),
        }
    }

    fn location(&self, place: &Place) -> Location {
        let spot = self.spot(place);
        let column = spot.column();
        Location {
            file: spot.file.to_owned(),
            line: spot.number,
            column,
            end_column: column + spot.line[spot.span.clone()].chars().count(),
        }
    }

    fn render(&self, diagnostic: &Diagnostic) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Note => Level::NOTE,
        };
        let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
        let main = diagnostic.place.as_ref().map(|place| self.spot(place));
        let other = diagnostic.other.as_ref();
        let other = other.map(|(place, label)| (self.spot(place), label.as_str()));
        if let Some(main) = &main {
            let label = diagnostic.label.as_deref();
            let mut parts = vec![(main, AnnotationKind::Primary, label)];
            if let Some((other, label)) = &other {
                parts.push((other, AnnotationKind::Context, Some(*label)));
            }
            let same_file = parts.iter().all(|(spot, ..)| spot.file == main.file);
            if same_file && parts.iter().all(|(spot, ..)| spot.line.len() <= LINE_MAX) {
                group = group.element(snippet(&parts));
            } else {
                for part in parts {
                    if part.0.line.len() > LINE_MAX {
                        let origin = Origin::path(part.0.file).line(part.0.number);
                        group = group.element(origin.char_column(part.0.column()));
                    } else {
                        group = group.element(snippet(&[part]));
                    }
                }
            }
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        Renderer::styled()
            .decor_style(DecorStyle::Ascii)
            .render(&[group])
    }
}

/// What the renderer passes on as it is and a terminal may obey, as a dot of as many bytes.
fn visible(c: char) -> char {
    match c {
        '\u{80}'..='\u{9f}' => '·',
        c => c,
    }
}

/// Lines of one file with what is meant on them: those between two are folded away.
fn snippet<'s>(
    parts: &[(&'s Spot<'s>, AnnotationKind, Option<&'s str>)],
) -> Snippet<'s, annotate_snippets::Annotation<'s>> {
    let mut lines: Vec<(usize, &str)> = parts.iter().map(|(s, ..)| (s.number, s.line)).collect();
    lines.sort_unstable();
    lines.dedup();
    let first = lines.first().map_or(1, |(number, _)| *number);
    // Between the two a few empty lines stand for all, so that the gap shows and the numbers hold.
    let mut text = String::new();
    let mut begins: Vec<(usize, usize)> = Vec::new();
    let mut at = first;
    for (number, line) in lines {
        while at < number {
            text.push('\n');
            at += 1;
        }
        begins.push((number, text.len()));
        text.extend(line.chars().map(visible));
    }
    let file = parts.first().map_or("", |(spot, ..)| spot.file);
    let mut snippet = Snippet::source(text).line_start(first).path(file);
    for (spot, kind, label) in parts {
        let begin = begins.iter().find(|(number, _)| *number == spot.number);
        let begin = begin.map_or(0, |(_, begin)| *begin);
        let span = begin + spot.span.start..begin + spot.span.end;
        snippet = snippet.annotation(kind.span(span).label(*label));
    }
    snippet
}

/// A line of another file as an excerpt: cut, with only what fits kept after the part that is
/// meant.
#[must_use]
pub fn excerpt(file: &str, line: usize, text: &str, span: Range<usize>) -> Excerpt {
    let end = text.floor_char_boundary(text.len().min(span.end.saturating_add(LINE_MAX)));
    Excerpt {
        file: shown(file).into_owned(),
        line,
        text: text[..end].to_owned(),
        span,
    }
}

/// A part of a text as an excerpt: of the line that the part begins on. `first_line` is the number
/// of the text's own first line. What is no UTF-8 appears as a replacement character.
#[must_use]
pub fn excerpt_of(file: &str, first_line: u64, text: &[u8], span: Range<usize>) -> Excerpt {
    let start = span.start.min(text.len());
    let (before, after) = text.split_at(start);
    let begin = before.iter().rposition(|b| *b == b'\n');
    let begin = begin.map_or(0, |at| at + 1);
    let end = after.iter().position(|b| *b == b'\n');
    let end = end.map_or(text.len(), |at| start + at);
    let rest = text[start..end].strip_suffix(b"\r");
    let end = rest.map_or(end, |rest| start + rest.len());
    let meant_end = span.end.clamp(start, end);
    let mut line = String::from_utf8_lossy(&text[begin..start]).into_owned();
    let from = line.len();
    line.push_str(&String::from_utf8_lossy(&text[start..meant_end]));
    let to = line.len();
    let shown_end = end.min(meant_end.saturating_add(LINE_MAX));
    line.push_str(&String::from_utf8_lossy(&text[meant_end..shown_end]));
    let lines_before = before.split(|b| *b == b'\n').skip(1).count();
    let number = usize::try_from(first_line).unwrap_or(usize::MAX);
    excerpt(file, number.saturating_add(lines_before), &line, from..to)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(source: &Source, diagnostics: &[Diagnostic]) -> String {
        anstream::adapter::strip_str(&source.render(diagnostics)).to_string()
    }

    fn source(text: &str) -> Source {
        Source {
            name: "m.yaml".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_place_in_a_table_is_shown_with_its_own_line_number() {
        let at = excerpt("prices.csv", 7, "a.pdf,twelve", 6..12);
        let text = plain(
            &source("version: 1\n"),
            &[Diagnostic::error("this is no price", at).help("write digits")],
        );
        assert_eq!(
            text,
            "error: this is no price\n \
             --> prices.csv:7:7\n  |\n\
             7 | a.pdf,twelve\n  |       ^^^^^^\n  |\n  \
             = help: write digits\n\nm.yaml: 1 error\n"
        );
    }

    #[test]
    fn programs_get_lines_and_columns_in_characters() {
        let source = source("name: \u{e4}\u{e4} bad\n");
        let reported = source.report(&[Diagnostic::warning("no", 11..14).label("this")]);
        let location = reported[0].location.as_ref().expect("a place");
        assert_eq!(
            (location.line, location.column, location.end_column),
            (1, 10, 13)
        );
    }

    #[test]
    fn a_line_too_long_to_show_is_told_by_its_place() {
        let long = format!("a: {}\nb: 1\n", "x".repeat(LINE_MAX));
        let source = source(&long);
        let text = plain(&source, &[Diagnostic::error("too long", 3..4)]);
        assert!(text.contains("m.yaml:1:4") && text.len() < 200, "{text}");
    }

    #[test]
    fn a_line_cannot_give_a_terminal_orders() {
        let source = source("a: \u{9b}31m\u{1b}[2J bad\n");
        let text = plain(&source, &[Diagnostic::error("no", 14..17)]);
        assert!(!text.contains(['\u{9b}', '\u{1b}']), "{text}");
        assert!(text.contains("a: ·31m"), "{text}");
    }

    #[test]
    fn a_span_outside_of_the_text_points_at_its_end() {
        let source = source("a: 1\n");
        let text = plain(&source, &[Diagnostic::error("gone", 90..99)]);
        assert!(text.contains("m.yaml:2:1"), "{text}");
    }

    #[test]
    fn what_programs_get_fits_the_schema_and_a_damaged_document_does_not() {
        let source = source("a: 1\na: 2\n");
        let elsewhere = excerpt("prices.csv", 7, "a.pdf,twelve", 6..12);
        let nowhere = Diagnostic {
            place: None,
            ..Diagnostic::note("there are no files", 0..0)
        };
        let checked = source.checked(&[
            Diagnostic::error("`a` stands twice", 5..6)
                .label("again")
                .other(0..1, "first here")
                .help("remove one"),
            Diagnostic::warning("this is no price", elsewhere),
            nowhere,
        ]);
        let document = serde_json::to_value(Document::new(vec![checked])).expect("JSON");
        let found = &document["manifests"][0];
        let head = [&found["manifest"], &found["errors"], &found["notes"]];
        assert_eq!(head, [&json!("m.yaml"), &json!(1), &json!(1)]);
        assert_eq!(found["diagnostics"][0]["related"]["line"], 1);
        assert!(found["diagnostics"][2].get("line").is_none());
        let validator = jsonschema::validator_for(&schema()).expect("a schema");
        if let Err(error) = validator.validate(&document) {
            panic!("{error} at {}", error.instance_path());
        }
        for (place, value) in [
            ("/format", json!(2)),
            ("/manifests/0", json!({})),
            ("/manifests/0/errors", json!(-1)),
            ("/manifests/0/diagnostics/0/severity", json!("fatal")),
            ("/manifests/0/diagnostics/0/line", json!(0)),
            ("/manifests/0/diagnostics/0/related", json!({"label": "x"})),
        ] {
            let mut damaged = document.clone();
            *damaged.pointer_mut(place).expect(place) = value;
            assert!(!validator.is_valid(&damaged), "{place}");
        }
    }
}
