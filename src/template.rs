//! `${{ expression }}` in manifest texts: parsed once, names checked early, rendered purely.
//!
//! Expressions are `MiniJinja`'s, without statements, loops or access to files and processes.
//! A name that no file could ever have is found here, when the manifest is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use jiff::Timestamp;
use minijinja::value::{Object, Value, ValueKind};
use minijinja::{Environment as Engine, ErrorKind, Expression, UndefinedBehavior, filters};

use crate::model::{Environment, RelativePath, RuleName, RunId, Stat, Variable, closest};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Rendered for each file: every name.
    File,
    /// Rendered once for a rule: `env`, `rule`, `manifest`.
    Rule,
    /// Rendered once for a run: `env`, `run`, `manifest`.
    Run,
}

/// A name that an expression may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// `file.path`
    FilePath,
    /// `file.name`
    FileName,
    /// `file.stem`
    FileStem,
    /// `file.extension`
    FileExtension,
    /// `file.parent`
    FileParent,
    /// `file.size`
    FileSize,
    /// `file.modified`
    FileModified,
    /// `rule.name`
    RuleName,
    /// `run.id`
    RunId,
    /// `run.started`
    RunStarted,
    /// `manifest.name`
    ManifestName,
}

impl Name {
    /// Every name with its meaning, in the order of the documentation.
    pub const ALL: [(Self, &'static str, &'static str); 11] = [
        (Self::FilePath, "file.path", "path below `root`, with `/`"),
        (Self::FileName, "file.name", "last component of the path"),
        (
            Self::FileStem,
            "file.stem",
            "name without its last extension",
        ),
        (
            Self::FileExtension,
            "file.extension",
            "last extension, without the dot",
        ),
        (
            Self::FileParent,
            "file.parent",
            "folder below `root`, empty at the top",
        ),
        (Self::FileSize, "file.size", "bytes, as a number"),
        (
            Self::FileModified,
            "file.modified",
            "time of the last change, RFC 3339 in UTC",
        ),
        (Self::RuleName, "rule.name", "the rule's name"),
        (Self::RunId, "run.id", "the run's id"),
        (
            Self::RunStarted,
            "run.started",
            "start of the run, RFC 3339 in UTC",
        ),
        (Self::ManifestName, "manifest.name", "the manifest's name"),
    ];

    fn of(text: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(_, name, _)| *name == text)
            .map(|(name, _, _)| *name)
    }

    fn is_in(self, scope: Scope) -> bool {
        match self {
            Self::ManifestName => true,
            Self::RuleName => scope != Scope::Run,
            Self::RunId | Self::RunStarted => scope != Scope::Rule,
            _ => scope == Scope::File,
        }
    }
}

/// A text with expressions in it, ready to render.
#[derive(Clone)]
pub struct Template {
    parts: Vec<Part>,
    /// The values of the variables it names, and no others: what is not named cannot leak.
    env: Arc<BTreeMap<String, String>>,
}

#[derive(Clone)]
enum Part {
    Literal(String),
    /// An expression that is just a name: by far the most common, and needs no engine.
    Name(Name),
    Expression {
        source: String,
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
    pub fn parse(
        text: &str,
        scope: Scope,
        environment: &Environment,
    ) -> Result<Self, Vec<TemplateError>> {
        let mut parts = Vec::new();
        let mut env = BTreeMap::new();
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
            match parse_expression(source, scope, environment, &mut env) {
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
            env: Arc::new(env),
        })
    }

    /// Renders the text for one set of values.
    ///
    /// # Errors
    ///
    /// Says which expression failed and how; what it yields must be a text, a number or a truth
    /// value, of 1 MiB at the most.
    pub fn render(&self, values: &Values<'_>) -> Result<String, String> {
        if let [Part::Literal(text)] = self.parts.as_slice() {
            return Ok(text.clone());
        }
        let mut rendered = String::new();
        let mut context: Option<Value> = None;
        for part in &self.parts {
            match part {
                Part::Literal(text) => rendered.push_str(text),
                Part::Name(name) => rendered.push_str(&values.text(*name)),
                Part::Expression { source, program } => {
                    let context = context.get_or_insert_with(|| values.context(&self.env));
                    let value = program
                        .eval(context.clone())
                        .map_err(|error| format!("`{source}`: {}", explain(&error)))?;
                    match value.kind() {
                        ValueKind::String | ValueKind::Number => {
                            rendered.push_str(&value.to_string());
                        }
                        ValueKind::Bool => {
                            rendered.push_str(if value.is_true() { "true" } else { "false" });
                        }
                        other => return Err(format!("`{source}` yields {other}, not a text")),
                    }
                }
            }
            if rendered.len() > RENDERED_MAX {
                return Err("the rendered text is longer than 1 MiB".to_owned());
            }
        }
        Ok(rendered)
    }
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
    scope: Scope,
    environment: &Environment,
    env: &mut BTreeMap<String, String>,
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
            match check_variable(variable, environment) {
                Ok(value) => {
                    env.insert(variable.to_owned(), value.to_owned());
                }
                Err((message, help)) => errors.push(error(range, message, Some(help))),
            }
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
    if let Err(problem) = program.eval(Values::sample().context(&Arc::new(env.clone())))
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
        program: Arc::new(program),
    })
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

/// The values that templates of one run, rule or file are rendered with.
#[derive(Debug, Clone)]
pub struct Values<'a> {
    /// The manifest's name.
    pub manifest: &'a str,
    /// The run's id and start, where a run is known.
    pub run: Option<(&'a RunId, Timestamp)>,
    /// The rule, where one is being planned.
    pub rule: Option<&'a RuleName>,
    /// The file, where one is being planned.
    pub file: Option<(&'a RelativePath, Stat)>,
}

impl Values<'_> {
    fn sample() -> Values<'static> {
        static PATH: LazyLock<RelativePath> =
            LazyLock::new(|| RelativePath::new("folder/file.txt"));
        static RULE: LazyLock<RuleName> = LazyLock::new(|| RuleName::new("rule"));
        static RUN: LazyLock<RunId> = LazyLock::new(|| RunId::new("run"));
        let stat = Stat {
            size: 1,
            mtime_ns: 0,
            inode: 0,
        };
        Values {
            manifest: "manifest",
            run: Some((&RUN, Timestamp::UNIX_EPOCH)),
            rule: Some(&RULE),
            file: Some((&PATH, stat)),
        }
    }

    /// The value of a name as text; empty where the scope has none, which the check made sure
    /// cannot be asked for.
    fn text(&self, name: Name) -> Cow<'_, str> {
        let path = self.file.map_or("", |(path, _)| path.as_str());
        let (parent, file_name) = path.rsplit_once('/').unwrap_or(("", path));
        let (stem, extension) = match file_name.rsplit_once('.') {
            Some((stem, extension)) if !stem.is_empty() => (stem, extension),
            _ => (file_name, ""),
        };
        let time = |time: Timestamp| Cow::Owned(format!("{time:.0}"));
        match name {
            Name::FilePath => path.into(),
            Name::FileName => file_name.into(),
            Name::FileStem => stem.into(),
            Name::FileExtension => extension.into(),
            Name::FileParent => parent.into(),
            Name::FileSize => self
                .file
                .map_or(Cow::Borrowed(""), |(_, stat)| stat.size.to_string().into()),
            Name::FileModified => self
                .file
                .map_or(Cow::Borrowed(""), |(_, stat)| time(stat.modified())),
            Name::RuleName => self.rule.map_or("", RuleName::as_str).into(),
            Name::RunId => self.run.map_or("", |(id, _)| id.as_str()).into(),
            Name::RunStarted => self
                .run
                .map_or(Cow::Borrowed(""), |(_, started)| time(started)),
            Name::ManifestName => self.manifest.into(),
        }
    }

    fn context(&self, env: &Arc<BTreeMap<String, String>>) -> Value {
        let mut groups: BTreeMap<&str, BTreeMap<String, Value>> = BTreeMap::new();
        for (name, text, _) in Name::ALL {
            let value = match (name, self.file) {
                (Name::FileSize, Some((_, stat))) => Value::from(stat.size),
                _ => Value::from(self.text(name).into_owned()),
            };
            if let Some((group, key)) = text.split_once('.') {
                groups
                    .entry(group)
                    .or_default()
                    .insert(key.to_owned(), value);
            }
        }
        let env = env.iter().map(|(k, v)| (k.clone(), Value::from(v.clone())));
        groups.insert("env", env.collect());
        Value::from_object(Context(groups))
    }
}

#[derive(Debug)]
struct Context(BTreeMap<&'static str, BTreeMap<String, Value>>);

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0
            .get(key.as_str()?)
            .map(|group| Value::from(group.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> Environment {
        Environment::new(
            [("TEAM", "ops"), ("ROE_API_KEY", "s3cret")].map(|(k, v)| (k.to_owned(), v.to_owned())),
        )
    }

    fn render(text: &str) -> Result<String, String> {
        let template = Template::parse(text, Scope::File, &environment())
            .map_err(|errors| errors[0].message.clone())?;
        template.render(&Values {
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
        })
    }

    fn problems(text: &str, scope: Scope) -> Vec<(String, String)> {
        Template::parse(text, scope, &environment())
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
