//! `${{ expression }}` in manifest texts: parsed once, names checked early, rendered purely.
//!
//! Expressions are `MiniJinja`'s, without statements, loops or access to files and processes.
//! A name that no file could ever have is found here, when the manifest is read.

mod names;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use minijinja::value::{Value, ValueKind};
use minijinja::{Environment as Engine, ErrorKind, Expression, UndefinedBehavior, filters};

pub use self::names::Name;
pub use self::values::Values;
use crate::model::{Environment, Variable, closest};

/// Most steps one expression may take, so that no manifest can hang a run.
const STEPS_MAX: u64 = 20_000;

/// Longest text one template may render, in bytes.
const RENDERED_MAX: usize = 1024 * 1024;

static ENGINE: LazyLock<Engine<'static>> = LazyLock::new(|| {
    let mut engine = Engine::empty();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(STEPS_MAX));
    engine.add_filter("lower", filters::lower);
    engine.add_filter("upper", filters::upper);
    engine.add_filter("title", filters::title);
    engine.add_filter("trim", filters::trim);
    engine.add_filter("replace", filters::replace);
    engine
});

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

/// What a template names, of what is not always there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Uses {
    /// The columns of `row`.
    pub row: Named,
    /// The `vars`.
    pub vars: Named,
    /// The entries of `sidecar`.
    pub sidecar: Named,
    /// The first environment variable whose name says that it is a secret.
    pub secret: Option<String>,
}

/// What a template names of one group, with the places in the template's text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Named {
    /// Each name where it stands.
    pub names: Vec<(String, Range<usize>)>,
    /// The first place where the group itself is used, and so perhaps any of its names.
    pub whole: Option<Range<usize>>,
}

impl Named {
    /// Whether anything of the group is used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.whole.is_none()
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

/// A text with expressions in it, ready to render.
#[derive(Clone)]
pub struct Template {
    parts: Vec<Part>,
    /// The values of the variables it names, and no others: what is not named cannot leak.
    env: Arc<BTreeMap<String, String>>,
    /// The same of the `vars`.
    vars: Arc<BTreeMap<String, String>>,
    uses: Uses,
}

#[derive(Clone)]
enum Part {
    Literal(String),
    /// An expression that is just a name: by far the most common, and needs no engine.
    Name(Name),
    Expression {
        source: String,
        range: Range<usize>,
        program: Arc<Expression<'static, 'static>>,
    },
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
    /// Parses a text and checks every name in it. Environment variables are read now.
    ///
    /// # Errors
    ///
    /// All that is wrong in the text: unclosed or malformed expressions, unknown names, filters
    /// and functions, names without a value in this scope, unset environment variables.
    pub fn parse(text: &str, scope: Scope, known: &Known<'_>) -> Result<Self, Vec<TemplateError>> {
        let mut parts = Vec::new();
        let mut found = Found::default();
        let mut errors = Vec::new();
        let mut rest = 0;
        while let Some(start) = text[rest..].find("${{").map(|at| rest + at) {
            if start > rest {
                parts.push(Part::Literal(text[rest..start].to_owned()));
            }
            let inside = start + 3;
            let Some(end) = expression_end(text, inside) else {
                errors.push(TemplateError {
                    range: start..text.len(),
                    message: "the expression is not closed".to_owned(),
                    help: Some("end it with `}}`".to_owned()),
                });
                return Err(errors);
            };
            let source = text[inside..end].trim();
            let offset = inside + (text[inside..end].len() - text[inside..end].trim_start().len());
            match parse_expression(source, offset, scope, known, &mut found) {
                Ok(part) => parts.push(part),
                Err(found) => errors.extend(found.into_iter().map(|mut error| {
                    error.range = if source.is_empty() {
                        start..end + 2
                    } else {
                        offset + error.range.start..offset + error.range.end
                    };
                    error
                })),
            }
            rest = end + 2;
        }
        if rest < text.len() {
            parts.push(Part::Literal(text[rest..].to_owned()));
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            parts,
            env: Arc::new(found.env),
            vars: Arc::new(found.vars),
            uses: found.uses,
        })
    }

    /// What it names, of what is not always there.
    #[must_use]
    pub fn uses(&self) -> &Uses {
        &self.uses
    }

    /// Renders the text for one set of values.
    ///
    /// # Errors
    ///
    /// Says which expression failed and how; what it yields must be a text, a number or a truth
    /// value, of 1 MiB at the most.
    pub fn render(&self, values: &Values<'_>) -> Result<String, RenderError> {
        if let [Part::Literal(text)] = self.parts.as_slice() {
            return Ok(text.clone());
        }
        let mut rendered = String::new();
        let mut context: Option<Value> = None;
        for part in &self.parts {
            match part {
                Part::Literal(text) => rendered.push_str(text),
                Part::Name(name) => rendered.push_str(&values.text(*name)),
                Part::Expression {
                    source,
                    range,
                    program,
                } => {
                    let context =
                        context.get_or_insert_with(|| values.context(&self.env, &self.vars));
                    let value = program.eval(context.clone()).map_err(|error| {
                        RenderError::of(source, range, &format!(": {}", explain(&error)))
                    })?;
                    match value.kind() {
                        ValueKind::String | ValueKind::Number => {
                            rendered.push_str(&value.to_string());
                        }
                        ValueKind::Bool => {
                            rendered.push_str(if value.is_true() { "true" } else { "false" });
                        }
                        other => {
                            let why = format!(" yields {other}, not a text");
                            return Err(RenderError::of(source, range, &why));
                        }
                    }
                }
            }
            if rendered.len() > RENDERED_MAX {
                return Err(RenderError {
                    range: 0..0,
                    message: "the rendered text is longer than 1 MiB".to_owned(),
                    help: None,
                });
            }
        }
        Ok(rendered)
    }
}

impl RenderError {
    fn of(source: &str, range: &Range<usize>, why: &str) -> Self {
        Self {
            range: range.clone(),
            message: format!("`{source}`{why}"),
            help: None,
        }
    }
}

/// One expression that is true or false, with or without its `${{ }}`.
#[derive(Debug, Clone)]
pub struct Condition(Template);

impl Condition {
    /// Parses an expression, as [`Template::parse`] does.
    ///
    /// # Errors
    ///
    /// All that is wrong in the expression; that there is more than one, or a text beside it.
    pub fn parse(text: &str, scope: Scope, known: &Known<'_>) -> Result<Self, Vec<TemplateError>> {
        let template = if text.trim_start().starts_with("${{") {
            Template::parse(text.trim(), scope, known)?
        } else {
            Template::parse(&format!("${{{{{text}}}}}"), scope, known)?
        };
        Ok(Self(template))
    }

    /// Whether it is true of these values.
    ///
    /// # Errors
    ///
    /// Says how the expression failed, or that it yields neither true nor false.
    pub fn holds(&self, values: &Values<'_>) -> Result<bool, RenderError> {
        let text = self.0.render(values)?;
        Ok(text == "true")
    }

    /// What it names, of what is not always there.
    #[must_use]
    pub fn uses(&self) -> &Uses {
        self.0.uses()
    }
}

/// What the expressions of one template name.
#[derive(Default)]
struct Found {
    env: BTreeMap<String, String>,
    vars: BTreeMap<String, String>,
    uses: Uses,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.parts.iter().map(|part| match part {
                Part::Literal(text) => text.clone(),
                Part::Name(name) => format!("{name:?}"),
                Part::Expression { source, .. } => source.clone(),
            }))
            .finish()
    }
}

/// Finds the `}}` that ends an expression, past any inside quoted text.
fn expression_end(text: &str, from: usize) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    let mut at = from;
    while at < bytes.len() {
        match (quote, bytes[at]) {
            (Some(_), b'\\') => at += 1,
            (Some(open), b) if b == open => quote = None,
            (None, b @ (b'"' | b'\'')) => quote = Some(b),
            (None, b'}') if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

fn parse_expression(
    source: &str,
    offset: usize,
    scope: Scope,
    known: &Known<'_>,
    found: &mut Found,
) -> Result<Part, Vec<TemplateError>> {
    let whole = 0..source.len();
    let error = |range: Range<usize>, message: String, help: Option<String>| TemplateError {
        range,
        message,
        help,
    };
    if source.is_empty() {
        let help = Some("name a value, as in `${{ file.name }}`".to_owned());
        return Err(vec![error(
            whole,
            "the expression is empty".to_owned(),
            help,
        )]);
    }
    let program = ENGINE
        .compile_expression_owned(source.to_owned())
        .map_err(|problem| {
            let range = problem
                .range()
                .filter(|r| r.end <= source.len() && !r.is_empty());
            vec![error(
                range.unwrap_or(whole.clone()),
                explain(&problem),
                None,
            )]
        })?;
    let mut errors = Vec::new();
    let mut names: Vec<String> = program.undeclared_variables(true).into_iter().collect();
    names.sort();
    for name in names {
        let range = find_name(source, &name);
        if let Some(variable) = name.strip_prefix("env.") {
            match check_variable(variable, known.environment) {
                Ok(value) => {
                    found.env.insert(variable.to_owned(), value.to_owned());
                }
                Err((message, help)) => errors.push(error(range, message, Some(help))),
            }
            continue;
        }
        let place = offset + range.start..offset + range.end;
        if is_of_a_group(&name, place, scope, known, found) {
            continue;
        }
        match Name::of(&name) {
            Some(known) if known.is_in(scope) => {}
            Some(_) => errors.push(error(
                range,
                format!("`{name}` has no value here"),
                Some(format!("here you can use {}", names_in(scope))),
            )),
            None => {
                let known = Name::ALL.iter().map(|(_, name, _)| *name);
                let help = match closest(&name, known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("here you can use {}", names_in(scope)),
                };
                errors.push(error(range, format!("`{name}` is not known"), Some(help)));
            }
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if let Some(name) = Name::of(source) {
        return Ok(Part::Name(name));
    }
    // Filters and functions are looked up when they run, so run them once on sample values. Other
    // failures may be the sample's own and are left to the files.
    if let Err(problem) = program
        .eval(Values::sample().context(&Arc::new(found.env.clone()), &Arc::new(found.vars.clone())))
        && let ErrorKind::UnknownFilter
        | ErrorKind::UnknownFunction
        | ErrorKind::UnknownTest
        | ErrorKind::UnknownMethod
        | ErrorKind::MissingArgument
        | ErrorKind::TooManyArguments = problem.kind()
    {
        let range = problem
            .range()
            .filter(|r| r.end <= source.len() && !r.is_empty());
        let known = "the filters are lower, upper, title, trim and replace".to_owned();
        return Err(vec![error(
            range.unwrap_or(whole),
            explain(&problem),
            Some(known),
        )]);
    }
    Ok(Part::Expression {
        source: source.to_owned(),
        range: offset..offset + source.len(),
        program: Arc::new(program),
    })
}

/// Whether the name is one of a capture, a row, a sidecar or the `vars`, and may be used here.
fn is_of_a_group(
    name: &str,
    place: Range<usize>,
    scope: Scope,
    known: &Known<'_>,
    found: &mut Found,
) -> bool {
    let (group, key) = name.split_once('.').unwrap_or((name, ""));
    let is_file = scope == Scope::File;
    match group {
        "capture" => return is_file && known.capture.is_some(),
        "vars" if scope != Scope::Vars => {
            let Some(value) = known.vars.get(key) else {
                return false;
            };
            found.vars.insert(key.to_owned(), value.clone());
            found.uses.vars.names.push((key.to_owned(), place));
        }
        "row" if is_file && known.row && key.is_empty() => {
            found.uses.row.whole.get_or_insert(place);
        }
        "row" if is_file && known.row => found.uses.row.names.push((key.to_owned(), place)),
        "sidecar" if is_file && known.sidecar => {
            found.uses.sidecar.names.push((key.to_owned(), place));
        }
        _ => return false,
    }
    true
}

fn check_variable<'e>(
    variable: &str,
    environment: &'e Environment,
) -> Result<&'e str, (String, String)> {
    match environment.get(variable) {
        Some(Variable::Open(value)) => Ok(value),
        Some(Variable::ApiKey) => Err((
            "the API key cannot be used in a manifest".to_owned(),
            "it is a secret, and rendered values are sent, planned and reported".to_owned(),
        )),
        None => {
            let help = match closest(variable, environment.names()) {
                Some(near) => format!("did you mean `env.{near}`?"),
                None => format!("set it before the run, as in `export {variable}=…`"),
            };
            Err((
                format!("the environment variable {variable} is not set"),
                help,
            ))
        }
    }
}

fn names_in(scope: Scope) -> String {
    let names: Vec<&str> = Name::ALL
        .iter()
        .filter(|(name, _, _)| name.is_in(scope))
        .map(|(_, text, _)| *text)
        .chain(["env.NAME"])
        .collect();
    names.join(", ")
}

/// The first place where the name stands as a whole word; the whole source if it is put together
/// in some other way.
fn find_name(source: &str, name: &str) -> Range<usize> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    source
        .match_indices(name)
        .map(|(at, _)| at..at + name.len())
        .find(|range| {
            !source[..range.start].ends_with(is_word) && !source[range.end..].starts_with(is_word)
        })
        .unwrap_or(0..source.len())
}

fn explain(problem: &minijinja::Error) -> String {
    let kind = problem.kind().to_string();
    match problem.detail() {
        Some(detail) if problem.kind() == ErrorKind::SyntaxError => detail.to_owned(),
        Some(detail) => format!("{kind}: {detail}"),
        None => kind,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::{RelativePath, RuleName, RunId, Stat};

    fn environment() -> Environment {
        Environment::new(
            [("TEAM", "ops"), ("ROE_API_KEY", "s3cret")].map(|(k, v)| (k.to_owned(), v.to_owned())),
        )
    }

    fn render(text: &str) -> Result<String, String> {
        let template = Template::parse(text, Scope::File, &Known::new(&environment()))
            .map_err(|errors| errors[0].message.clone())?;
        let values = Values {
            manifest: "invoices",
            run: Some((&RunId::new("run-1"), Timestamp::UNIX_EPOCH)),
            rule: Some(&RuleName::new("pdfs")),
            file: Some((
                &RelativePath::new("2024/acme/Invoice 7.tar.gz"),
                Stat {
                    size: 1234,
                    mtime_ns: 1_700_000_000_123_456_789,
                    inode: 1,
                },
            )),
            ..Values::default()
        };
        template.render(&values).map_err(|error| error.to_string())
    }

    fn problems(text: &str, scope: Scope) -> Vec<(String, String)> {
        Template::parse(text, scope, &Known::new(&environment()))
            .expect_err(text)
            .into_iter()
            .map(|error| (text[error.range].to_owned(), error.message))
            .collect()
    }

    #[test]
    fn every_name_has_its_value() {
        for (name, expected) in [
            ("file.path", "2024/acme/Invoice 7.tar.gz"),
            ("file.name", "Invoice 7.tar.gz"),
            ("file.stem", "Invoice 7.tar"),
            ("file.extension", "gz"),
            ("file.parent", "2024/acme"),
            ("file.size", "1234"),
            ("file.modified", "2023-11-14T22:13:20Z"),
            ("rule.name", "pdfs"),
            ("run.id", "run-1"),
            ("run.started", "1970-01-01T00:00:00Z"),
            ("manifest.name", "invoices"),
            ("env.TEAM", "ops"),
        ] {
            assert_eq!(
                render(&format!("${{{{ {name} }}}}")).as_deref(),
                Ok(expected)
            );
            // The engine must agree with the short cut for bare names.
            assert_eq!(
                render(&format!("${{{{ {name} ~ \"\" }}}}")).as_deref(),
                Ok(expected)
            );
        }
        assert_eq!(Name::ALL.len(), 11);
    }

    #[test]
    fn text_around_expressions_stays_as_written() {
        assert_eq!(render("1.10").as_deref(), Ok("1.10"));
        assert_eq!(render("").as_deref(), Ok(""));
        assert_eq!(
            render("a ${{file.stem|upper}}-${{ rule.name }} }} $x {{y}}").as_deref(),
            Ok("a INVOICE 7.TAR-pdfs }} $x {{y}}")
        );
        assert_eq!(render(r#"${{ "}}" ~ '${{' }}"#).as_deref(), Ok("}}${{"));
        assert_eq!(
            render("${{ file.size > 1000 }} ${{ file.size + 1 }}").as_deref(),
            Ok("true 1235")
        );
    }

    #[test]
    fn unknown_names_are_found_when_parsing_with_their_place() {
        assert_eq!(
            problems(
                "x ${{ file.nam }} ${{ rule.name }} ${{ nope }}",
                Scope::File
            ),
            [
                ("file.nam".to_owned(), "`file.nam` is not known".to_owned()),
                ("nope".to_owned(), "`nope` is not known".to_owned())
            ]
        );
        assert_eq!(
            problems("${{ file.name }}", Scope::Run),
            [(
                "file.name".to_owned(),
                "`file.name` has no value here".to_owned()
            )]
        );
        assert_eq!(
            problems("${{ file.name | shout }}", Scope::File)[0].1,
            "unknown filter: filter shout is unknown"
        );
    }

    #[test]
    fn malformed_expressions_are_found_when_parsing() {
        assert_eq!(
            problems("a ${{ file.name", Scope::File)[0].0,
            "${{ file.name"
        );
        assert_eq!(
            problems("${{ }}", Scope::File)[0].1,
            "the expression is empty"
        );
        assert_eq!(problems("${{ file. }}", Scope::File).len(), 1);
        assert_eq!(problems("${{ 1 + }}", Scope::File).len(), 1);
    }

    #[test]
    fn only_named_variables_reach_an_expression_and_never_the_key() {
        assert_eq!(
            problems("${{ env.TEAMS }}", Scope::Run)[0].1,
            "the environment variable TEAMS is not set"
        );
        assert_eq!(
            problems("${{ env.ROE_API_KEY }}", Scope::File)[0].1,
            "the API key cannot be used in a manifest"
        );
        for text in [
            "${{ env }}",
            "${{ env['ROE_' ~ 'API_KEY'] }}",
            "${{ file }}",
        ] {
            assert_eq!(problems(text, Scope::File).len(), 1, "{text}");
        }
        let sneaky = render("${{ env.TEAM ~ env['ROE_API' ~ '_KEY'] }}");
        assert!(!format!("{sneaky:?}").contains("s3cret"), "{sneaky:?}");
    }

    #[test]
    fn an_expression_that_yields_no_text_is_an_error_of_its_file() {
        let error = render("${{ [file.name] }}").expect_err("a list");
        assert!(error.contains("not a text"), "{error}");
    }
}
