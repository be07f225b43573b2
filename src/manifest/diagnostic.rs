//! What is wrong with a manifest, shown at its place.

use std::fmt::Write;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::model::count;

/// Most problems that are shown in full; the rest are counted.
const SHOWN_MAX: usize = 50;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is done until it is mended.
    Error,
    /// The run goes on.
    Warning,
}

/// One problem: what, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line.
    pub message: String,
    /// The bytes of the manifest it is about.
    pub span: Option<Range<usize>>,
    /// What stands at that place.
    pub label: Option<String>,
    /// Another place that matters, such as a key's first use.
    pub other: Option<(Range<usize>, String)>,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    #[must_use]
    pub fn error(message: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            span: Some(span),
            label: None,
            other: None,
            help: None,
        }
    }

    /// A warning at a place.
    #[must_use]
    pub fn warning(message: impl Into<String>, span: Range<usize>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(message, span)
        }
    }

    /// Says what stands at the place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Points at a second place.
    #[must_use]
    pub fn other(mut self, span: Range<usize>, label: impl Into<String>) -> Self {
        self.other = Some((span, label.into()));
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
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

impl Source {
    /// Renders problems in the order of the text, as a compiler does, with line, column and
    /// carets; then how many there are. Nothing for none.
    #[must_use]
    pub fn render(&self, diagnostics: &[Diagnostic]) -> String {
        let mut sorted: Vec<&Diagnostic> = diagnostics.iter().collect();
        sorted.sort_by_key(|d| (d.severity, d.span.as_ref().map(|span| span.start)));
        let mut text = String::new();
        for diagnostic in sorted.iter().take(SHOWN_MAX) {
            text.push_str(&self.render_one(diagnostic));
            text.push_str("\n\n");
        }
        if sorted.len() > SHOWN_MAX {
            let more = count(sorted.len() - SHOWN_MAX, "more problem");
            let _ = write!(text, "… and {more}\n\n");
        }
        let of = |severity| sorted.iter().filter(|d| d.severity == severity).count();
        let (errors, warnings) = (of(Severity::Error), of(Severity::Warning));
        let tally = match (errors, warnings) {
            (0, 0) => return text,
            (0, _) => count(warnings, "warning"),
            (_, 0) => count(errors, "error"),
            _ => format!(
                "{} and {}",
                count(errors, "error"),
                count(warnings, "warning")
            ),
        };
        let _ = writeln!(text, "{}: {tally}", self.name);
        text
    }

    fn render_one(&self, diagnostic: &Diagnostic) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
        if let Some(span) = &diagnostic.span {
            let mut snippet = Snippet::source(self.text.as_str())
                .path(self.name.as_str())
                .annotation(
                    AnnotationKind::Primary
                        .span(self.visible(span))
                        .label(diagnostic.label.as_deref()),
                );
            if let Some((other, label)) = &diagnostic.other {
                snippet = snippet.annotation(
                    AnnotationKind::Context
                        .span(self.visible(other))
                        .label(label.as_str()),
                );
            }
            group = group.element(snippet);
        }
        if let Some(help) = &diagnostic.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        Renderer::styled()
            .decor_style(DecorStyle::Ascii)
            .render(&[group])
    }

    /// A range of at least one character on one line, so that there is something to point at.
    fn visible(&self, span: &Range<usize>) -> Range<usize> {
        let text = &self.text;
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let line_end = text[start..]
            .find(['\n', '\r'])
            .map_or(text.len(), |at| start + at);
        let end = text.ceil_char_boundary(span.end.clamp(start, line_end));
        if end > start {
            return start..end;
        }
        let next = text[start..line_end]
            .chars()
            .next()
            .map_or(0, char::len_utf8);
        start..start + next
    }
}
