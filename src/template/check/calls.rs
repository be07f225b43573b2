//! The names, filters, tests and calls of an expression.

use std::borrow::Cow;
use std::ops::Range;

use super::{Level, TESTS, Walk};
use crate::model::{closest, shown_bounded};
use crate::template::filters::{FILTERS, Filter, Gives};
use crate::template::names::{Group, Reference, Target, listed, resolve, unknown, variable};
use crate::template::tokens::{Kind, Token};
use crate::template::{Name, TemplateError, engine};

impl<'w> Walk<'w> {
    /// A name, or a call of `env`. Says where it ends.
    pub(super) fn name(&mut self, at: usize, token: Token<'w>) -> (usize, bool) {
        if self.sign(at + 1, "(") {
            return self.call(at, token);
        }
        let is_method = self.sign(at + 3, "(");
        let (key, end) = match (self.token(at + 1), self.token(at + 2)) {
            (Some(dot), Some(key)) if dot.is(".") && key.kind == Kind::Word && !is_method => {
                (Some(Cow::Borrowed(key.text)), at + 3)
            }
            (Some(open), Some(key))
                if open.is("[") && key.kind == Kind::Text && self.sign(at + 3, "]") =>
            {
                match constant(key) {
                    Some(key) => (Some(key), at + 4),
                    None => (None, at + 1),
                }
            }
            _ => (None, at + 1),
        };
        let range = self.range(at, end);
        let Some(group) = Group::of(token.text) else {
            let full = &self.source[range.clone()];
            let (message, mut help) = unknown(full, self.scope, self.known);
            // `row.customer-id`
            if self.source[..range.start].ends_with('-') {
                let more = format!("-{full}");
                help = self.in_brackets(range.start - 1, &more).or(help);
            }
            self.error(range, (message, help));
            return (end, false);
        };
        if self.sign(at + 1, ".") && self.token(at + 2).is_some_and(|t| t.kind == Kind::Number) {
            self.numbered(at, group);
        }
        match resolve(group, key.as_deref(), self.scope, self.known) {
            Ok(target) => {
                self.operand = match &target {
                    Target::Name(Name::FileSize) => Gives::Number,
                    Target::Whole(_) => Gives::Any,
                    _ => Gives::Text,
                };
                self.checked.references.push(Reference {
                    group,
                    key: key.as_deref().unwrap_or_default().into(),
                    default: None,
                    target,
                    range,
                });
            }
            Err(wrong) => self.error(range, wrong),
        }
        (end, false)
    }

    /// `row.2024`, which the engine would take for the item of a list.
    fn numbered(&mut self, at: usize, group: Group) {
        let start = self.range(at + 2, at + 3).start;
        let rest = &self.source[start..];
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
        let name = &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())];
        let (group, name) = (group.word(), shown_bounded(name));
        self.hazard(TemplateError {
            range: start..start + name.len(),
            message: "a name behind a dot cannot begin with a digit".to_owned(),
            help: Some(format!("write `{group}[\"{name}\"]`")),
        });
    }

    fn call(&mut self, at: usize, token: Token<'w>) -> (usize, bool) {
        let arguments = self.arguments(at + 1);
        let end = arguments.last().map_or(at + 2, |range| range.end) + 1;
        let range = self.range(at, end);
        if token.text != "env" {
            let help = if Filter::of(token.text).is_some() {
                format!("`{0}` is a filter, as in `file.name | {0}`", token.text)
            } else {
                "the one function is `env(\"NAME\", \"…\")`".to_owned()
            };
            let message = format!("there is no function `{}`", shown_bounded(token.text));
            self.error(token.range(), (message, Some(help)));
            self.levels.push(Level::default());
            return (at + 2, true);
        }
        let texts: Vec<Option<Cow<'w, str>>> =
            arguments.iter().map(|range| self.constant(range)).collect();
        let (name, default) = match texts.as_slice() {
            [Some(name)] => (name, None),
            [Some(name), Some(default)] => (name, Some(&**default)),
            _ => {
                let message = "`env` takes the name of a variable and, if need be, a text for \
                               when it is not set, both in quotes";
                let help = "write `env(\"NAME\", \"…\")`";
                self.error(range, (message.to_owned(), Some(help.to_owned())));
                self.levels.push(Level::default());
                return (at + 2, true);
            }
        };
        self.operand = Gives::Text;
        match variable(name, default, self.known) {
            Ok(value) => self.checked.references.push(Reference {
                group: Group::Env,
                key: (&**name).into(),
                default: Some(default.unwrap_or_default().into()),
                target: Target::Given(value),
                range,
            }),
            Err(wrong) => self.error(range, wrong),
        }
        (end, false)
    }

    /// `.name` or `.0` behind a value.
    pub(super) fn attribute(&mut self, dot: usize) -> (usize, bool) {
        let Some(token) = self.token(dot + 1) else {
            return (dot + 1, false);
        };
        let is_called = self.sign(dot + 2, "(");
        let is_plain = matches!(self.operand, Gives::Text | Gives::Number);
        if token.kind == Kind::Word && (is_called || is_plain) {
            let name = shown_bounded(token.text);
            let more = format!(".{}", token.text);
            let dot = self.range(dot, dot + 1).start;
            let help = if let Some(help) = self.in_brackets(dot, &more).filter(|_| !is_called) {
                help
            } else if Filter::of(token.text).is_some() {
                format!("`{name}` is a filter: write `| {name}`")
            } else {
                format!(
                    "the filters are {}",
                    listed(FILTERS.iter().map(|filter| filter.name))
                )
            };
            let message = if is_called {
                format!("there is no method `{name}`")
            } else {
                format!("a text or number has no `{name}` in it")
            };
            self.error(token.range(), (message, Some(help)));
        }
        self.operand = Gives::Any;
        if !is_called {
            return (dot + 2, false);
        }
        self.levels.push(Level::default());
        (dot + 3, true)
    }

    /// A filter's name; its arguments are walked as what brackets hold.
    pub(super) fn filter(&mut self, at: usize) -> (usize, bool) {
        let Some(token) = self.token(at).filter(|token| token.kind == Kind::Word) else {
            if self.sign(at, "|") {
                self.hazard(TemplateError {
                    range: self.range(at, at + 1),
                    message: "`||` cannot stand here".to_owned(),
                    help: Some("write `or`".to_owned()),
                });
            }
            return (at, false);
        };
        let has_arguments = self.sign(at + 1, "(");
        let filter = Filter::of(token.text);
        if let Some(filter) = filter {
            self.filter_arguments(filter, at, has_arguments);
        } else {
            let names = || FILTERS.iter().map(|filter| filter.name);
            let mut help = format!("the filters are {}", listed(names()));
            if let Some(near) = closest(token.text, names()) {
                help = format!("did you mean `{near}`? If not, {help}");
            }
            let message = format!("there is no filter `{}`", shown_bounded(token.text));
            self.error(token.range(), (message, Some(help)));
        }
        let after = match filter.map(|filter| filter.gives) {
            Some(Gives::Same) => self.operand,
            Some(gives) => gives,
            None => Gives::Any,
        };
        self.makes_list |= filter.is_some_and(|filter| filter.gives == Gives::List);
        self.operand = after;
        if !has_arguments {
            return (at + 1, false);
        }
        self.levels.push(Level {
            after,
            ..Level::default()
        });
        (at + 2, true)
    }

    fn filter_arguments(&mut self, filter: &Filter, at: usize, has_arguments: bool) {
        let name = self.range(at, at + 1);
        let arguments = if has_arguments {
            self.arguments(at + 1)
        } else {
            Vec::new()
        };
        let (fewest, most) = filter.arguments;
        if arguments.len() < fewest || arguments.len() > most {
            let many = if arguments.len() < fewest {
                "few"
            } else {
                "many"
            };
            let message = format!("`{}` has too {many} arguments", filter.name);
            let help = format!("write `{}`: {}", filter.signature, filter.meaning);
            self.error(name, (message, Some(help)));
            return;
        }
        let texts: Vec<Option<Cow<'w, str>>> =
            arguments.iter().map(|range| self.constant(range)).collect();
        let texts: Vec<Option<&str>> = texts.iter().map(Option::as_deref).collect();
        if let Err((number, why)) = (filter.check)(&texts) {
            let range = arguments
                .get(number)
                .map_or(name, |range| self.range(range.start, range.end));
            self.error(range, (why, None));
        }
    }

    pub(super) fn test(&mut self, at: usize) -> (usize, bool) {
        let at = at + usize::from(self.word(at) == Some("not"));
        let Some(token) = self.token(at).filter(|token| token.kind == Kind::Word) else {
            return (at, false);
        };
        self.operand = Gives::Any;
        let name = shown_bounded(token.text);
        if !TESTS.contains(&token.text) {
            let message = format!("there is no test `{name}`");
            let help = match closest(token.text, TESTS) {
                Some(near) => format!("did you mean `is {near}`?"),
                None => "the tests are `is defined` and `is undefined`".to_owned(),
            };
            self.error(token.range(), (message, Some(help)));
        } else if self.token(at + 1).is_some_and(begins_argument) {
            let message = format!("`is {name}` takes no argument");
            let help = "put it in brackets, as in `(row.id is defined)`".to_owned();
            self.error(token.range(), (message, Some(help)));
        }
        if !self.sign(at + 1, "(") {
            return (at + 1, false);
        }
        self.levels.push(Level::default());
        (at + 2, true)
    }

    /// Whether the brackets that open at a token hold a list of items and not one value.
    pub(super) fn is_tuple(&self, open: usize) -> bool {
        match self.arguments(open).first() {
            Some(first) => self.sign(first.end, ","),
            None => true,
        }
    }

    /// The tokens of each argument, or item, in the brackets that open at a token; none where the
    /// brackets are empty or not closed.
    fn arguments(&self, open: usize) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        let (mut start, mut depth) = (open + 1, 0_usize);
        for at in open + 1..self.tokens.len() {
            let token = self.tokens[at];
            if token.opens() {
                depth += 1;
            } else if token.closes() && depth > 0 {
                depth -= 1;
            } else if token.closes() {
                if at > start {
                    found.push(start..at);
                }
                return found;
            } else if token.is(",") && depth == 0 {
                found.push(start..at);
                start = at + 1;
            }
        }
        Vec::new()
    }

    /// The text of an argument that is nothing else.
    fn constant(&self, argument: &Range<usize>) -> Option<Cow<'w, str>> {
        let token = self.token(argument.start)?;
        (argument.len() == 1 && token.kind == Kind::Text)
            .then(|| constant(token))
            .flatten()
    }

    /// The bytes of some tokens.
    pub(super) fn range(&self, from: usize, to: usize) -> Range<usize> {
        let start = self.token(from).map_or(self.source.len(), |token| token.at);
        let end = self
            .token(to.saturating_sub(1))
            .map_or(self.source.len(), |token| token.range().end);
        start..end.max(start)
    }
}

/// Whether the engine would read a token behind a test as the test's argument.
fn begins_argument(token: Token<'_>) -> bool {
    match token.kind {
        Kind::Word => !matches!(token.text, "and" | "or" | "else" | "is"),
        Kind::Text | Kind::Number => true,
        Kind::Sign => matches!(token.text, "(" | "[" | "{" | "+" | "-"),
    }
}

/// What a quoted text says; none where only the engine could tell.
pub(super) fn constant(token: Token<'_>) -> Option<Cow<'_, str>> {
    let inner = token.text.get(1..token.text.len().checked_sub(1)?)?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    engine::constant(token.text).map(Cow::Owned)
}
