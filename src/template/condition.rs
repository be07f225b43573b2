//! One expression that decides.

use std::fmt;
use std::sync::Arc;

use minijinja::value::ValueKind;

use super::engine::{Parsed, Program, parse};
use super::filters::kind_word;
use super::names::{Name, Target};
use super::tokens::expression_end;
use super::uses::{NO_USES, Uses};
use super::{Known, RenderError, Scope, TemplateError, Values, evaluated, moved};

/// One expression that is true or false, with or without its `${{ }}`.
#[derive(Clone)]
pub struct Condition {
    kind: ConditionKind,
    uses: Option<Arc<Uses>>,
}

#[derive(Clone)]
enum ConditionKind {
    Given(bool),
    Program(Arc<Program>, usize),
}

impl Condition {
    /// Parses an expression, as [`super::Template::parse`] does.
    ///
    /// # Errors
    ///
    /// All that is wrong in the expression; that there is more than one, or a text beside it;
    /// that it is a text or a number, whatever the file.
    pub fn parse(text: &str, scope: Scope, known: &Known<'_>) -> Result<Self, Vec<TemplateError>> {
        let (inside, at) = Self::expression(text).map_err(|error| vec![error])?;
        let source = inside.trim();
        let at = at + inside.len() - inside.trim_start().len();
        let wrong = |message: &str, help: &str| {
            vec![TemplateError {
                range: at..at + source.len(),
                message: message.to_owned(),
                help: Some(help.to_owned()),
            }]
        };
        if source.is_empty() {
            let help = "compare two values, as in `${{ file.size > 0 }}`";
            return Err(wrong("the expression is empty", help));
        }
        let parsed = parse(source, scope, known).map_err(|errors| moved(errors, at))?;
        let mut uses = Uses::default();
        uses.extend(parsed.references(), at);
        let no_choice = |kind| {
            let message = format!(
                "the expression yields {}, not true or false",
                kind_word(kind)
            );
            wrong(&message, CONDITION_HELP)
        };
        let kind = match parsed {
            Parsed::Name(reference) => {
                let is_size = reference.target == Target::Name(Name::FileSize);
                return Err(no_choice(if is_size {
                    ValueKind::Number
                } else {
                    ValueKind::String
                }));
            }
            Parsed::Given(value, _) if value.kind() == ValueKind::Bool => {
                ConditionKind::Given(value.is_true())
            }
            Parsed::Given(value, _) => return Err(no_choice(value.kind())),
            Parsed::Program(_, Some(kind))
                if !matches!(kind, ValueKind::Bool | ValueKind::Undefined) =>
            {
                return Err(no_choice(kind));
            }
            Parsed::Program(program, _) => ConditionKind::Program(Arc::new(program), at),
        };
        Ok(Self {
            kind,
            uses: uses.kept(),
        })
    }

    /// What stands within the `${{ }}` of a text, or the text itself; and where.
    fn expression(text: &str) -> Result<(&str, usize), TemplateError> {
        let start = text.len() - text.trim_start().len();
        if !text[start..].starts_with("${{") {
            return Ok((text, 0));
        }
        let inside = start + 3;
        let Some(end) = expression_end(text, inside) else {
            return Err(TemplateError {
                range: start..text.len(),
                message: "the expression is not closed".to_owned(),
                help: Some("end it with `}}`".to_owned()),
            });
        };
        let after = &text[end + 2..];
        if !after.trim().is_empty() {
            let from = text.len() - after.trim_start().len();
            return Err(TemplateError {
                range: from..text.trim_end().len(),
                message: "a condition is one expression and nothing else".to_owned(),
                help: Some("join two with `and` or `or` inside the `${{ }}`".to_owned()),
            });
        }
        Ok((&text[inside..end], inside))
    }

    /// Whether it is true of these values.
    ///
    /// # Errors
    ///
    /// Says how the expression failed, or that it yields neither true nor false.
    pub fn holds(&self, values: &Values<'_>) -> Result<bool, RenderError> {
        let (program, at) = match &self.kind {
            ConditionKind::Given(holds) => return Ok(*holds),
            ConditionKind::Program(program, at) => (program, *at),
        };
        let value = evaluated(program, at, values)?;
        if value.kind() == ValueKind::Bool {
            return Ok(value.is_true());
        }
        let why = format!(" yields {}, not true or false", kind_word(value.kind()));
        let range = at..at + program.source().len();
        Err(RenderError::of(program.source(), range, &why).help(CONDITION_HELP))
    }

    /// What it names, of what is not always there.
    #[must_use]
    pub fn uses(&self) -> &Uses {
        self.uses.as_deref().unwrap_or(&NO_USES)
    }
}

const CONDITION_HELP: &str = "compare it, as in `row.status == \"final\"`";

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ConditionKind::Given(holds) => write!(f, "{holds}"),
            ConditionKind::Program(program, _) => f.write_str(program.source()),
        }
    }
}
