//! `${{ expression }}` in manifest texts: parsed once, names checked early, rendered purely.
//!
//! Expressions are `MiniJinja`'s, without statements, loops or access to files and processes.
//! A name that no file could ever have is found here, when the manifest is read.

mod check;
mod condition;
mod dates;
mod engine;
mod filters;
mod names;
mod patterns;
mod tokens;
mod uses;
mod values;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use minijinja::value::{Value, ValueKind};

pub use self::condition::Condition;
use self::engine::{Parsed, Program, parse};
use self::filters::plain_text;
pub use self::filters::{FILTERS, Filter};
pub use self::names::Name;
use self::names::{Reference, Target};
use self::tokens::expression_end;
use self::uses::NO_USES;
pub use self::uses::{Named, Uses};
pub use self::values::Values;
use crate::model::{Environment, shown};

/// Longest expression that a problem is told with, in characters.
const HEAD_MAX: usize = 80;

/// Longest text of a template, in bytes.
const TEXT_MAX: usize = 1024 * 1024;

/// Most expressions in one template.
const EXPRESSIONS_MAX: usize = 1_000;

/// Most mistakes that one template is searched for.
const ERRORS_MAX: usize = 20;

/// Longest text one template may render, in bytes.
const RENDERED_MAX: usize = 1024 * 1024;

/// Where a template stands, and so which names have a value there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Rendered for each file: every name.
    File,
    /// Rendered once for a rule: `env`, `rule`, `manifest`.
    Rule,
    /// Rendered once for a run: `env`, `run`, `manifest`.
    Run,
    /// A value of `vars`, rendered when the manifest is read: `env` alone.
    Vars,
}

/// What a template may name beside the names that are always there.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The process environment, for `env.NAME`.
    pub environment: &'a Environment,
    /// The manifest's `vars`, for `vars.NAME` in every scope but their own.
    pub vars: &'a BTreeMap<String, String>,
    /// The names of the groups of the rule's `capture`; none where the rule has no `capture`.
    pub capture: Option<&'a [String]>,
    /// Whether the rule has a `table`, for `row.NAME`.
    pub row: bool,
    /// Whether the rule has a `sidecar`, for `sidecar.NAME`.
    pub sidecar: bool,
}

impl<'a> Known<'a> {
    /// The environment and nothing else.
    #[must_use]
    pub fn new(environment: &'a Environment) -> Self {
        static NO_VARS: BTreeMap<String, String> = BTreeMap::new();
        Self {
            environment,
            vars: &NO_VARS,
            capture: None,
            row: false,
            sidecar: false,
        }
    }
}

/// Why a template has no text for a file, with the place in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderError {
    /// Bytes of the template's text.
    pub range: Range<usize>,
    /// Which expression failed, and how.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RenderError {}

impl RenderError {
    fn of(source: &str, range: Range<usize>, why: &str) -> Self {
        Self {
            range,
            message: format!("`{}`{why}", head(source)),
            help: None,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// A text with expressions in it, ready to render.
#[derive(Clone)]
pub struct Template {
    parts: Box<[Part]>,
    uses: Option<Arc<Uses>>,
    /// The length of the text that it was read from.
    length: usize,
}

#[derive(Clone)]
enum Part {
    Literal(Box<str>),
    /// An expression that is just a name, and needs no engine; where it stands in the text.
    Name(Arc<Reference>, usize),
    /// An expression whose value no file changes, with what was written.
    Given {
        text: Box<str>,
        source: Box<str>,
    },
    /// Any other; where it stands in the text.
    Program(Arc<Program>, usize),
}

/// Something wrong in a template, with the place in its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateError {
    /// Bytes of the template's text.
    pub range: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl Template {
    /// Parses a text and checks every name, filter and function in it. Environment variables are
    /// read now.
    ///
    /// # Errors
    ///
    /// All that is wrong in the text: unclosed or malformed expressions, unknown names, filters
    /// and functions, wrong arguments, names without a value in this scope, unset environment
    /// variables, a text or an expression that is too long.
    pub fn parse(text: &str, scope: Scope, known: &Known<'_>) -> Result<Self, Vec<TemplateError>> {
        if text.len() > TEXT_MAX {
            return Err(vec![TemplateError {
                range: 0..0,
                message: "the text is longer than 1 MiB".to_owned(),
                help: None,
            }]);
        }
        if !text.contains("${{") {
            return Ok(Self::literal(text));
        }
        let mut parts = Vec::new();
        let mut uses = Uses::default();
        let mut errors = Vec::new();
        let mut expressions = 0;
        let mut rest = 0;
        while let Some(start) = text[rest..].find("${{").map(|at| rest + at) {
            if start > rest {
                parts.push(Part::Literal(text[rest..start].into()));
            }
            let wrong = |range, message: String, help: &str| TemplateError {
                range,
                message,
                help: Some(help.to_owned()),
            };
            expressions += 1;
            if expressions > EXPRESSIONS_MAX {
                let message = format!("the text has more than {EXPRESSIONS_MAX} expressions");
                errors.push(wrong(start..start + 3, message, "put fewer into one text"));
                return Err(errors);
            }
            let inside = start + 3;
            let Some(end) = expression_end(text, inside) else {
                let message = "the expression is not closed".to_owned();
                errors.push(wrong(start..text.len(), message, "end it with `}}`"));
                return Err(errors);
            };
            rest = end + 2;
            if text[inside..end].trim().is_empty() {
                let message = "the expression is empty".to_owned();
                let help = "name a value, as in `${{ file.name }}`";
                errors.push(wrong(start..rest, message, help));
                continue;
            }
            match Part::parse(&text[inside..end], inside, scope, known, &mut uses) {
                Ok(part) => parts.push(part),
                Err(found) => errors.extend(found),
            }
            if errors.len() >= ERRORS_MAX {
                return Err(errors);
            }
        }
        if rest < text.len() {
            parts.push(Part::Literal(text[rest..].into()));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            parts: parts.into(),
            uses: uses.kept(),
            length: text.len(),
        })
    }

    /// A text without expressions, as most are.
    fn literal(text: &str) -> Self {
        Self {
            parts: Box::new([Part::Literal(text.into())]),
            uses: None,
            length: text.len(),
        }
    }

    /// What it names, of what is not always there.
    #[must_use]
    pub fn uses(&self) -> &Uses {
        self.uses.as_deref().unwrap_or(&NO_USES)
    }

    /// Whether what it renders may differ from one file of a rule to the next.
    #[must_use]
    pub fn varies(&self) -> bool {
        self.parts.iter().any(|part| match part {
            Part::Literal(_) | Part::Given { .. } => false,
            Part::Name(reference, _) => reference.group.varies(),
            Part::Program(program, _) => program.varies(),
        })
    }

    /// Renders the text for one set of values.
    ///
    /// # Errors
    ///
    /// Says which expression failed and how; what it yields must be a text, a number or a truth
    /// value, of 1 MiB at the most.
    pub fn render(&self, values: &Values<'_>) -> Result<String, RenderError> {
        let mut rendered = String::new();
        for part in &self.parts {
            let text = part.text(values)?;
            if rendered.len() + text.len() > RENDERED_MAX {
                return Err(RenderError {
                    range: 0..self.length,
                    message: "the rendered text is longer than 1 MiB".to_owned(),
                    help: None,
                });
            }
            if self.parts.len() == 1 {
                return Ok(text.into_owned());
            }
            rendered.push_str(&text);
        }
        Ok(rendered)
    }
}

impl Part {
    /// Parses what stands between `${{` and `}}`, at a place of the template's text.
    fn parse(
        inside: &str,
        at: usize,
        scope: Scope,
        known: &Known<'_>,
        uses: &mut Uses,
    ) -> Result<Self, Vec<TemplateError>> {
        let source = inside.trim();
        let at = at + inside.len() - inside.trim_start().len();
        let parsed = parse(source, scope, known).map_err(|errors| moved(errors, at))?;
        uses.extend(parsed.references(), at);
        let wrong = |(why, help): (&str, &str)| {
            vec![TemplateError {
                range: at..at + source.len(),
                message: format!("the expression{why}"),
                help: Some(help.to_owned()),
            }]
        };
        match parsed {
            Parsed::Name(reference) => Ok(match &reference.target {
                Target::Given(text) => Self::Given {
                    text: (&**text).into(),
                    source: source.into(),
                },
                _ => Self::Name(Arc::new(reference), at),
            }),
            Parsed::Given(value, _) => match plain_text(&value) {
                Some(text) => Ok(Self::Given {
                    text: text.into(),
                    source: source.into(),
                }),
                None => Err(wrong(no_text(value.kind()))),
            },
            Parsed::Program(program, sample) => match sample {
                Some(
                    kind
                    @ (ValueKind::Seq | ValueKind::Iterable | ValueKind::Map | ValueKind::None),
                ) => Err(wrong(no_text(kind))),
                _ => Ok(Self::Program(Arc::new(program), at)),
            },
        }
    }

    fn text<'p>(&'p self, values: &'p Values<'_>) -> Result<Cow<'p, str>, RenderError> {
        match self {
            Self::Literal(text) | Self::Given { text, .. } => Ok(Cow::Borrowed(text)),
            Self::Name(reference, at) => values.find(&reference.target).map_err(|missing| {
                let range = moved_range(&reference.range, *at);
                let source = reference.written();
                RenderError::of(&source, range, &format!(": {}", missing.message))
                    .help(missing.help)
            }),
            Self::Program(program, at) => {
                let value = evaluated(program, *at, values)?;
                if let Some(text) = plain_text(&value) {
                    return Ok(Cow::Owned(text));
                }
                let range = *at..*at + program.source().len();
                let (why, help) = no_text(value.kind());
                Err(RenderError::of(program.source(), range, why).help(help))
            }
        }
    }
}

/// What an expression yields; an error where that is nothing.
fn evaluated(program: &Program, at: usize, values: &Values<'_>) -> Result<Value, RenderError> {
    let failed = |problem: engine::Problem| RenderError {
        range: moved_range(&problem.range, at),
        message: format!("`{}`: {}", head(program.source()), problem.message),
        help: problem.help,
    };
    let value = program.eval(values).map_err(failed)?;
    if value.is_undefined() {
        return Err(failed(program.without_value(values)));
    }
    Ok(value)
}

/// Why a value is no text, and what to do about it.
fn no_text(kind: ValueKind) -> (&'static str, &'static str) {
    match kind {
        ValueKind::Seq | ValueKind::Iterable => (
            " yields a list, not a text",
            "make one text of it, as with `| join(\", \")`",
        ),
        ValueKind::Map => (
            " yields a group of values, not a text",
            "name one of them, as in `row.NAME`",
        ),
        _ => (
            " yields nothing, not a text",
            "write `\"\"` for an empty text",
        ),
    }
}

fn moved(mut errors: Vec<TemplateError>, at: usize) -> Vec<TemplateError> {
    for error in &mut errors {
        error.range = moved_range(&error.range, at);
    }
    errors
}

fn moved_range(range: &Range<usize>, at: usize) -> Range<usize> {
    at + range.start..at + range.end
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts.iter()).finish()
    }
}

/// Shows what was written, not what it stands for, which may be a secret.
impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(text) => fmt::Debug::fmt(text, f),
            Self::Name(reference, _) => match &reference.target {
                Target::Name(name) => fmt::Debug::fmt(&format!("{name:?}"), f),
                _ => fmt::Debug::fmt(&reference.written(), f),
            },
            Self::Given { source, .. } => fmt::Debug::fmt(source, f),
            Self::Program(program, _) => fmt::Debug::fmt(program.source(), f),
        }
    }
}

/// The beginning of an expression, enough to know it by: a caret shows the rest where there is one.
fn head(source: &str) -> String {
    match source.char_indices().nth(HEAD_MAX) {
        Some((end, _)) => format!("{}…", shown(&source[..end])),
        None => shown(source).into_owned(),
    }
}

#[cfg(test)]
mod tests;
