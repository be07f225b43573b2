//! Runs the expressions that are more than a name, within limits.
//!
//! The engine is `MiniJinja`, with nothing in it but the filters and tests of this room. It sees
//! the values that the expression names and no others: what is not named cannot leak.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use minijinja::value::{Enumerator, Object, Rest, Value, ValueKind};
use minijinja::{Environment as Engine, Error, ErrorKind, Expression, State, UndefinedBehavior};

use super::check::{Checked, TESTS, check};
use super::filters::{FILTERS, TEXT_MAX};
use super::names::{Group, Name, Reference, Target};
use super::tokens::tokens;
use super::values::{DEFAULT_HELP, Values};
use super::{Known, Scope, TemplateError};
use crate::model::{Fields, shown_bounded};

/// Most steps one expression may take, so that no manifest can hang a run. The engine counts 64
/// bytes of text as a step, so it also bounds the texts that an expression makes on its way.
const STEPS_MAX: u64 = 20_000;

/// Most compiled expressions that are kept for other rules.
const KEPT_MAX: usize = 1_000;

static ENGINE: LazyLock<Engine<'static>> = LazyLock::new(|| {
    let mut engine = Engine::empty();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_fuel(Some(STEPS_MAX));
    // It then says which name it was that had no value.
    engine.set_debug(true);
    for filter in &FILTERS {
        engine.add_filter(filter.name, |values: Rest<Value>| filter.apply(&values));
    }
    for test in TESTS {
        let wanted = test == "defined";
        engine.add_test(test, move |value: Value| has_value(&value) == wanted);
    }
    engine
});

/// What the engine makes of an expression. It depends on nothing else.
type Compiled = Arc<Expression<'static, 'static>>;

/// An expression, ready to run.
pub(super) struct Program {
    source: Box<str>,
    expression: Compiled,
    /// Every name, where it stands in the expression.
    references: Vec<Reference>,
    /// Which of them are to be looked up, each name once, and how often it stands there.
    entries: Vec<(usize, usize)>,
    /// All `vars`, where the expression names them as a whole.
    vars: Option<Arc<BTreeMap<String, String>>>,
}

/// What an expression turned out to be.
pub(super) enum Parsed {
    /// Just a name: by far the most common, and needs no engine.
    Name(Reference),
    /// Something whose value no file changes.
    Given(Value, Vec<Reference>),
    /// Something to be run; what it yields for made-up values, where it yields anything.
    Program(Program, Option<ValueKind>),
}

impl Parsed {
    pub(super) fn references(&self) -> &[Reference] {
        match self {
            Self::Name(reference) => std::slice::from_ref(reference),
            Self::Given(_, references) => references,
            Self::Program(program, _) => &program.references,
        }
    }
}

/// Why an expression has no value.
#[derive(Debug)]
pub(super) struct Problem {
    /// Bytes of the expression.
    pub range: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

impl From<Problem> for TemplateError {
    fn from(problem: Problem) -> Self {
        Self {
            range: problem.range,
            message: problem.message,
            help: problem.help,
        }
    }
}

/// Parses and checks one expression. Its errors are at places of the expression.
pub(super) fn parse(
    source: &str,
    scope: Scope,
    known: &Known<'_>,
) -> Result<Parsed, Vec<TemplateError>> {
    let tokens = tokens(source).map_err(|error| vec![error])?;
    let Checked {
        mut references,
        errors,
        hazard,
        is_cut,
    } = check(source, &tokens, scope, known);
    if let Some(hazard) = hazard {
        return Err(vec![hazard]);
    }
    if is_cut {
        return Err(errors);
    }
    let is_name = |reference: &Reference| {
        reference.range == (0..source.len()) && !matches!(reference.target, Target::Whole(_))
    };
    if errors.is_empty() && references.len() == 1 && is_name(&references[0]) {
        return Ok(Parsed::Name(references.remove(0)));
    }
    let expression = compiled(source).map_err(|problem| vec![problem.into()])?;
    if !errors.is_empty() {
        return Err(errors);
    }
    let names_all_vars = references
        .iter()
        .any(|reference| reference.target == Target::Whole(Group::Vars));
    let program = Program {
        source: source.into(),
        expression,
        entries: entries(&references),
        references,
        vars: names_all_vars.then(|| Arc::new(known.vars.clone())),
    };
    if program.is_given() {
        let value = program
            .eval(&Values::default())
            .map_err(|p| vec![p.into()])?;
        if value.is_undefined() {
            let values = Values::default();
            return Err(vec![program.without_value(&values).into()]);
        }
        return Ok(Parsed::Given(value, program.references));
    }
    let sample = program.sample().map_err(|problem| vec![problem.into()])?;
    Ok(Parsed::Program(program, sample))
}

/// Compiles an expression, or takes what was compiled for another rule: rules are often alike.
fn compiled(source: &str) -> Result<Compiled, Problem> {
    static KEPT: LazyLock<Mutex<HashMap<Box<str>, Compiled>>> = LazyLock::new(Mutex::default);
    let kept = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(expression) = kept().get(source) {
        return Ok(Arc::clone(expression));
    }
    let expression = ENGINE
        .compile_expression_owned(source.to_owned())
        .map_err(|error| Problem {
            range: range_of(&error, source),
            message: explain(&error),
            help: None,
        })?;
    let expression = Arc::new(expression);
    let mut kept = kept();
    if kept.len() >= KEPT_MAX {
        kept.clear();
    }
    kept.insert(source.into(), Arc::clone(&expression));
    Ok(expression)
}

/// What a quoted text says.
pub(super) fn constant(quoted: &str) -> Option<String> {
    let expression = ENGINE.compile_expression(quoted).ok()?;
    let value = expression.eval(()).ok()?;
    value.as_str().map(str::to_owned)
}

/// The references without those that name the same again, and how often each is named.
fn entries(references: &[Reference]) -> Vec<(usize, usize)> {
    let mut entries: Vec<(usize, usize)> = Vec::new();
    for (at, reference) in references.iter().enumerate() {
        let is_same = |other: &Reference| {
            (other.group, &other.key, &other.default)
                == (reference.group, &reference.key, &reference.default)
                && other.target == reference.target
        };
        match entries
            .iter_mut()
            .find(|(first, _)| is_same(&references[*first]))
        {
            Some((_, times)) => *times += 1,
            None => entries.push((at, 1)),
        }
    }
    entries
}

impl Program {
    pub(super) fn source(&self) -> &str {
        &self.source
    }

    /// Whether its value may differ from one file of a rule to the next.
    pub(super) fn varies(&self) -> bool {
        let mut references = self.references.iter();
        references.any(|reference| reference.group.varies())
    }

    /// Whether its value is known when the manifest is read.
    fn is_given(&self) -> bool {
        self.references.iter().all(|reference| {
            matches!(
                reference.target,
                Target::Given(_) | Target::Whole(Group::Vars)
            )
        })
    }

    /// The value of the expression; undefined where it has none.
    pub(super) fn eval(&self, values: &Values<'_>) -> Result<Value, Problem> {
        let context = self.context(values)?;
        self.expression
            .eval(Value::from_object(context))
            .map_err(|error| self.problem(&error, values))
    }

    /// Runs the expression on made-up values, for what only running tells: which kinds do not go
    /// together. Other failures may be the values' own and are left to the files.
    fn sample(&self) -> Result<Option<ValueKind>, Problem> {
        let entries = self.entries.iter().map(|(at, _)| &self.references[*at]);
        let context = Context {
            entries: entries
                .clone()
                .map(|reference| Entry::new(reference, sample_value(&reference.target)))
                .collect(),
            wholes: entries
                .filter_map(|reference| match reference.target {
                    Target::Whole(group) => Some((group, Whole::Sample)),
                    _ => None,
                })
                .collect(),
        };
        match self.expression.eval(Value::from_object(context)) {
            Ok(value) => Ok(Some(value.kind())),
            Err(error) => {
                let is_of_kinds = error.kind() == ErrorKind::InvalidOperation
                    && error.detail().is_none_or(|detail| {
                        OF_KINDS.iter().any(|start| detail.starts_with(start))
                    });
                match error.kind() {
                    ErrorKind::UnknownFilter
                    | ErrorKind::UnknownFunction
                    | ErrorKind::UnknownTest
                    | ErrorKind::UnknownMethod
                    | ErrorKind::MissingArgument
                    | ErrorKind::TooManyArguments
                    | ErrorKind::NonPrimitive => {}
                    _ if is_of_kinds => {}
                    _ => return Ok(None),
                }
                Err(self.problem(&error, &Values::default()))
            }
        }
    }

    /// The values that it names, and no others.
    fn context(&self, values: &Values<'_>) -> Result<Context, Problem> {
        let mut context = Context {
            entries: Vec::with_capacity(self.entries.len()),
            wholes: Vec::new(),
        };
        let mut length = 0_usize;
        for (at, times) in &self.entries {
            let reference = &self.references[*at];
            length = length.saturating_add(
                match &reference.target {
                    Target::Whole(group) => {
                        let whole = match (*group, &self.vars) {
                            (Group::Vars, Some(vars)) => Some(Whole::Vars(Arc::clone(vars))),
                            _ => values.fields(*group).cloned().map(Whole::Fields),
                        };
                        let length = whole.as_ref().map_or(0, Whole::length);
                        context.wholes.extend(whole.map(|whole| (*group, whole)));
                        length
                    }
                    target => {
                        // A name without a value is left out: what stands behind it may do without.
                        let Ok(text) = values.find(target) else {
                            continue;
                        };
                        let value = match (target, values.file) {
                            (Target::Name(Name::FileSize), Some((_, stat))) => {
                                Value::from(stat.size)
                            }
                            (Target::Given(text), _) => Value::from(Arc::clone(text)),
                            _ => Value::from(&*text),
                        };
                        context.entries.push(Entry::new(reference, value));
                        text.len()
                    }
                } * times,
            );
        }
        if length > TEXT_MAX {
            return Err(Problem {
                range: 0..self.source.len(),
                message: "the values that it names are longer than 1 MiB".to_owned(),
                help: None,
            });
        }
        Ok(context)
    }

    fn problem(&self, error: &Error, values: &Values<'_>) -> Problem {
        let range = range_of(error, &self.source);
        if error.kind() == ErrorKind::UndefinedError {
            return self.missing(error.detail(), range, values);
        }
        let mut message = explain(error);
        // What the environment or `vars` hold may be a secret.
        let is_open = |reference: &Reference| !matches!(reference.group, Group::Env | Group::Vars);
        if let Some(found) = std::error::Error::source(error)
            && self.references.iter().all(is_open)
        {
            message = format!("{message}, found `{found}`");
        }
        Problem {
            range,
            message,
            help: None,
        }
    }

    /// Why the expression as a whole has no value.
    pub(super) fn without_value(&self, values: &Values<'_>) -> Problem {
        self.missing(None, 0..self.source.len(), values)
    }

    /// Finds the name that has no value: the one the engine tells of, or else the nearest.
    fn missing(&self, detail: Option<&str>, near: Range<usize>, values: &Values<'_>) -> Problem {
        let missing: Vec<_> = self
            .references
            .iter()
            .filter(|reference| !matches!(reference.target, Target::Whole(_)))
            .filter_map(|reference| Some((reference, values.find(&reference.target).err()?)))
            .collect();
        let is_told = |reference: &Reference| {
            let group = reference.group.word();
            detail.is_some_and(|detail| {
                detail.contains(&format!("`{group}.{}`", reference.key))
                    || detail.contains(&format!("`{group}[{:?}]`", reference.key))
            })
        };
        let is_within = |range: &Range<usize>| near.start <= range.start && range.end <= near.end;
        let found = missing
            .iter()
            .find(|(reference, _)| is_told(reference))
            .or_else(|| missing.iter().find(|(r, _)| is_within(&r.range)))
            .or_else(|| missing.iter().rfind(|(r, _)| r.range.end <= near.start))
            .or_else(|| missing.first());
        let Some((reference, why)) = found else {
            return Problem {
                range: near,
                message: "a part of it has no value".to_owned(),
                help: Some(DEFAULT_HELP.to_owned()),
            };
        };
        let name = shown_bounded(&self.source[reference.range.clone()]);
        Problem {
            range: reference.range.clone(),
            message: format!("`{name}` has no value: {}", why.message),
            help: Some(why.help.clone()),
        }
    }
}

/// The place of an engine's error, or the whole expression.
fn range_of(error: &Error, source: &str) -> Range<usize> {
    error
        .range()
        .filter(|range| !range.is_empty() && source.get(range.clone()).is_some())
        .unwrap_or(0..source.len())
}

/// How the engine's errors begin that come from the kinds of values, not from what they are.
const OF_KINDS: [&str; 5] = [
    "tried to use",
    "strings can only",
    "cannot convert",
    "cannot perform",
    "value of type",
];

fn explain(error: &Error) -> String {
    match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, None) => "a sign does not go with such a value".to_owned(),
        (ErrorKind::OutOfFuel, _) => "it makes too much text, or takes too many steps".to_owned(),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    }
}

/// A value such as a name might have.
fn sample_value(target: &Target) -> Value {
    let text = match target {
        Target::Given(text) => return Value::from(Arc::clone(text)),
        Target::Name(Name::FileSize) => return Value::from(1),
        Target::Name(Name::FilePath) => "folder/file.txt",
        Target::Name(Name::FileName) => "file.txt",
        Target::Name(Name::FileParent) => "folder",
        Target::Name(Name::FileModified | Name::RunStarted) => "1970-01-01T00:00:00Z",
        _ => "sample",
    };
    Value::from(text)
}

/// A name with its value, as the engine looks it up.
struct Entry {
    group: Group,
    key: Arc<str>,
    default: Option<Arc<str>>,
    value: Value,
}

impl Entry {
    fn new(reference: &Reference, value: Value) -> Self {
        Self {
            group: reference.group,
            key: Arc::clone(&reference.key),
            default: reference.default.clone(),
            value,
        }
    }
}

/// All values of a group.
enum Whole {
    Fields(Fields),
    Vars(Arc<BTreeMap<String, String>>),
    /// Of any name.
    Sample,
}

impl Whole {
    fn get(&self, key: &str) -> Option<Value> {
        match self {
            Self::Fields(fields) => fields.get(key).map(Value::from),
            Self::Vars(vars) => vars.get(key).map(|value| Value::from(value.as_str())),
            Self::Sample => Some(Value::from("sample")),
        }
    }

    fn names(&self) -> Vec<Value> {
        match self {
            Self::Fields(fields) => fields.iter().map(|(name, _)| Value::from(name)).collect(),
            Self::Vars(vars) => vars.keys().map(|name| Value::from(name.as_str())).collect(),
            Self::Sample => vec![Value::from("sample")],
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::Fields(fields) => fields.iter().map(|(n, v)| n.len() + v.len()).sum(),
            Self::Vars(vars) => vars.iter().map(|(n, v)| n.len() + v.len()).sum(),
            Self::Sample => 0,
        }
    }
}

/// What an expression sees.
struct Context {
    entries: Vec<Entry>,
    wholes: Vec<(Group, Whole)>,
}

/// One group of it: `row`.
struct Member {
    context: Arc<Context>,
    group: Group,
}

impl Member {
    fn whole(&self) -> Option<&Whole> {
        let wholes = self.context.wholes.iter();
        wholes
            .filter(|(group, _)| *group == self.group)
            .map(|(_, whole)| whole)
            .next()
    }

    fn entry(&self, key: &str, default: Option<&str>) -> Option<Value> {
        let mut entries = self.context.entries.iter();
        let entry = entries.find(|entry| {
            entry.group == self.group && &*entry.key == key && entry.default.as_deref() == default
        })?;
        Some(entry.value.clone())
    }
}

/// Values may be secrets.
impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").finish_non_exhaustive()
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.group.word())
    }
}

impl Object for Context {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        let group = Group::of(key)?;
        let context = Arc::clone(self);
        Some(Value::from_object(Member { context, group }))
    }
}

impl Object for Member {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        self.entry(key, None).or_else(|| self.whole()?.get(key))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Values(self.whole().map(Whole::names).unwrap_or_default())
    }

    /// `env("NAME", "…")`, of the calls that the expression has.
    fn call(self: &Arc<Self>, _: &mut State<'_, '_>, arguments: &[Value]) -> Result<Value, Error> {
        let text = |at: usize| arguments.get(at).and_then(Value::as_str);
        let default = text(1).unwrap_or_default();
        let value = text(0).and_then(|name| self.entry(name, Some(default)));
        value.ok_or_else(|| Error::from(ErrorKind::UndefinedError))
    }
}

/// Whether there is a value: of a group, whether the file has one.
fn has_value(value: &Value) -> bool {
    match value.downcast_object_ref::<Member>() {
        Some(member) => member.whole().is_some(),
        None => !value.is_undefined(),
    }
}
