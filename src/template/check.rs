//! Finds what an expression names and calls, and what of that is wrong, before any file is seen.
//!
//! It walks the tokens as the engine's parser does, always knowing whether a value must come next.
//! Of a text that the engine cannot parse it may say anything: the engine's word comes first.

use std::borrow::Cow;
use std::ops::Range;

use super::filters::{FILTERS, Filter, Gives};
use super::names::{Group, Reference, Target, Wrong, listed, resolve, unknown, variable};
use super::tokens::{Kind, Token};
use super::{Known, Name, Scope, TemplateError};
use crate::model::{closest, shown_bounded};

/// The tests that may follow `is`.
pub(super) const TESTS: [&str; 2] = ["defined", "undefined"];

/// What an expression names, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub references: Vec<Reference>,
    pub errors: Vec<TemplateError>,
    /// What the engine must not even compile: it does not bound the lists that `*` makes.
    pub hazard: Option<TemplateError>,
}

/// Checks the tokens of one expression. Places are bytes of the expression.
pub(super) fn check(
    source: &str,
    tokens: &[Token<'_>],
    scope: Scope,
    known: &Known<'_>,
) -> Checked {
    let mut walk = Walk {
        source,
        tokens,
        scope,
        known,
        checked: Checked::default(),
        levels: vec![Level::default()],
        operand: Gives::Any,
        makes_list: false,
        multiplies: None,
    };
    walk.walk();
    if let Some(range) = walk.multiplies.filter(|_| walk.makes_list) {
        walk.checked.hazard = Some(TemplateError {
            range,
            message: "`*` cannot stand in an expression that makes a list".to_owned(),
            help: Some("lists are split, joined and looked into; none is repeated".to_owned()),
        });
    }
    walk.checked
}

struct Walk<'w> {
    source: &'w str,
    tokens: &'w [Token<'w>],
    scope: Scope,
    known: &'w Known<'w>,
    checked: Checked,
    /// The brackets that are open, and the expression itself.
    levels: Vec<Level>,
    /// What the value just read is.
    operand: Gives,
    makes_list: bool,
    multiplies: Option<Range<usize>>,
}

/// What is known of the values within one pair of brackets.
struct Level {
    /// What the value is that a comparison stands behind, and where it stands.
    compared: Option<(Gives, Range<usize>)>,
    /// Whether the value just read is part of a sum or the like.
    is_reckoned: bool,
    /// What the brackets yield when they close.
    after: Gives,
    is_subscript: bool,
    colons: usize,
}

impl Default for Level {
    fn default() -> Self {
        Self {
            compared: None,
            is_reckoned: false,
            after: Gives::Any,
            is_subscript: false,
            colons: 0,
        }
    }
}

impl<'w> Walk<'w> {
    fn walk(&mut self) {
        let mut at = 0;
        let mut wants_value = true;
        while let Some(token) = self.token(at) {
            (at, wants_value) = if wants_value {
                self.value(at, token)
            } else {
                self.after_value(at, token)
            };
        }
        self.end_of_value("");
    }

    fn token(&self, at: usize) -> Option<Token<'w>> {
        self.tokens.get(at).copied()
    }

    fn sign(&self, at: usize, sign: &str) -> bool {
        self.token(at).is_some_and(|token| token.is(sign))
    }

    fn word(&self, at: usize) -> Option<&'w str> {
        self.token(at)
            .filter(|token| token.kind == Kind::Word)
            .map(|token| token.text)
    }

    fn error(&mut self, range: Range<usize>, (message, help): Wrong) {
        self.checked.errors.push(TemplateError {
            range,
            message,
            help,
        });
    }

    /// Where a value must come: what comes next, and whether a value must still come.
    fn value(&mut self, at: usize, token: Token<'w>) -> (usize, bool) {
        self.operand = Gives::Any;
        match (token.kind, token.text) {
            (Kind::Word, "not") => {
                // Elsewhere the engine takes it for a name.
                if at > 0 && !self.token(at - 1).is_some_and(precedes_not) {
                    let message = "`not` cannot stand behind a sign".to_owned();
                    let help = "put it in brackets, as in `(not row.id)`".to_owned();
                    self.error(token.range(), (message, Some(help)));
                }
                (at + 1, true)
            }
            (Kind::Word, "true" | "True" | "false" | "False" | "none" | "None") => (at + 1, false),
            (Kind::Word, _) if self.sign(at + 1, "=") => {
                let message = "arguments have no names".to_owned();
                let help = "give them in their order".to_owned();
                self.error(self.range(at, at + 2), (message, Some(help)));
                (at + 2, true)
            }
            (Kind::Word, _) => self.name(at, token),
            (Kind::Text, _) => (self.text(at, token), false),
            (Kind::Number, _) => {
                self.operand = Gives::Number;
                (at + 1, false)
            }
            (Kind::Sign, "*" | "**") => {
                // The engine would spread a list's items as arguments.
                self.multiplies.get_or_insert(token.range());
                self.makes_list = true;
                (at + 1, true)
            }
            _ if token.opens() => {
                self.makes_list |= token.text != "(" || self.is_tuple(at);
                self.levels.push(Level::default());
                (at + 1, true)
            }
            _ if token.closes() => self.close(at),
            _ => {
                if token.is(":") {
                    self.colon(token);
                }
                (at + 1, true)
            }
        }
    }

    fn after_value(&mut self, at: usize, token: Token<'w>) -> (usize, bool) {
        match (token.kind, token.text) {
            (Kind::Sign, ".") => self.attribute(at),
            (Kind::Sign, "|") => self.filter(at + 1),
            (Kind::Word, "is") => self.test(at + 1),
            (Kind::Word, "not") => {
                self.operator(token);
                (at + 2, true)
            }
            (Kind::Sign, "[") => {
                self.levels.push(Level {
                    is_subscript: true,
                    ..Level::default()
                });
                (at + 1, true)
            }
            (Kind::Sign, "(") => {
                let message = "a value cannot be called".to_owned();
                let help = "the one function is `env(\"NAME\", \"…\")`".to_owned();
                self.error(token.range(), (message, Some(help)));
                self.levels.push(Level::default());
                (at + 1, true)
            }
            _ if token.closes() => self.close(at),
            // Texts in a row are one text.
            (Kind::Text, _) if self.tokens[at - 1].kind == Kind::Text => {
                (self.text(at, token), false)
            }
            (Kind::Text | Kind::Number, _) => {
                let message = "a sign is missing before this".to_owned();
                let help = "`~` puts two texts together".to_owned();
                self.error(token.range(), (message, Some(help)));
                (at + 1, false)
            }
            _ => {
                self.operator(token);
                (at + 1, true)
            }
        }
    }

    fn text(&mut self, at: usize, token: Token<'w>) -> usize {
        self.operand = Gives::Text;
        if constant(token).is_none() {
            let message = "the text has a `\\` that means nothing".to_owned();
            let help = "write `\\\\` for a backslash".to_owned();
            self.error(token.range(), (message, Some(help)));
        }
        at + 1
    }

    fn close(&mut self, at: usize) -> (usize, bool) {
        self.end_of_value("");
        let level = self.levels.pop().unwrap_or_default();
        if self.levels.is_empty() {
            self.levels.push(Level::default());
        }
        self.operand = level.after;
        (at + 1, false)
    }

    fn operator(&mut self, token: Token<'w>) {
        self.end_of_value(token.text);
        if token.is(":") {
            self.colon(token);
        }
        if token.is("*") {
            self.multiplies.get_or_insert(token.range());
        }
        let operand = self.operand;
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        match token.text {
            "==" | "!=" | "<" | "<=" | ">" | ">=" => {
                let kind = if level.is_reckoned {
                    Gives::Any
                } else {
                    operand
                };
                level.compared = Some((kind, token.range()));
                level.is_reckoned = false;
            }
            sign => level.is_reckoned = is_reckoning(sign),
        }
    }

    /// A slice with a step overflows in the engine where the step is large enough.
    fn colon(&mut self, token: Token<'w>) {
        let Some(level) = self.levels.last_mut().filter(|level| level.is_subscript) else {
            return;
        };
        level.colons += 1;
        if level.colons == 2 {
            let message = "a slice has no step".to_owned();
            let help = "write where it starts and where it ends, as in `[1:3]`".to_owned();
            self.error(token.range(), (message, Some(help)));
        }
    }

    /// Looks at a comparison whose second value was just read, unless a sign goes on with it.
    fn end_of_value(&mut self, sign: &str) {
        let operand = self.operand;
        let Some(level) = self.levels.last_mut() else {
            return;
        };
        let Some((first, range)) = level.compared.take() else {
            return;
        };
        if is_reckoning(sign) {
            return;
        }
        let mismatched = [(Gives::Text, Gives::Number), (Gives::Number, Gives::Text)];
        if !level.is_reckoned && mismatched.contains(&(first, operand)) {
            let message = "a text is compared with a number: the two are never equal, and neither \
                           is greater in any useful sense";
            let help = "put the number in quotes, or compare a number such as `file.size` or what \
                        `| length` makes";
            self.error(range, (message.to_owned(), Some(help.to_owned())));
        }
    }

    /// A name, or a call of `env`. Says where it ends.
    fn name(&mut self, at: usize, token: Token<'w>) -> (usize, bool) {
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
            let wrong = unknown(full, self.scope, self.known);
            self.error(range, wrong);
            return (end, false);
        };
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
    fn attribute(&mut self, dot: usize) -> (usize, bool) {
        let Some(token) = self.token(dot + 1) else {
            return (dot + 1, false);
        };
        let is_called = self.sign(dot + 2, "(");
        let is_plain = matches!(self.operand, Gives::Text | Gives::Number);
        if token.kind == Kind::Word && (is_called || is_plain) {
            let name = shown_bounded(token.text);
            let help = if Filter::of(token.text).is_some() {
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
    fn filter(&mut self, at: usize) -> (usize, bool) {
        let Some(token) = self.token(at).filter(|token| token.kind == Kind::Word) else {
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

    fn test(&mut self, at: usize) -> (usize, bool) {
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
    fn is_tuple(&self, open: usize) -> bool {
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
    fn range(&self, from: usize, to: usize) -> Range<usize> {
        let start = self.token(from).map_or(self.source.len(), |token| token.at);
        let end = self
            .token(to.saturating_sub(1))
            .map_or(self.source.len(), |token| token.range().end);
        start..end.max(start)
    }
}

fn is_reckoning(sign: &str) -> bool {
    matches!(sign, "+" | "-" | "*" | "/" | "//" | "%" | "**" | "~")
}

fn precedes_not(token: Token<'_>) -> bool {
    match token.kind {
        Kind::Word => matches!(token.text, "and" | "or" | "not" | "if" | "else"),
        Kind::Sign => token.opens() || matches!(token.text, "," | ":" | "="),
        Kind::Text | Kind::Number => false,
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
fn constant(token: Token<'_>) -> Option<Cow<'_, str>> {
    let inner = token.text.get(1..token.text.len().checked_sub(1)?)?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    super::engine::constant(token.text).map(Cow::Owned)
}
