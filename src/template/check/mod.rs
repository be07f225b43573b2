//! Finds what an expression names and calls, and what of that is wrong, before any file is seen.
//!
//! It walks the tokens as the engine's parser does, always knowing whether a value must come next.
//! Of a text that the engine cannot parse it may say anything: the engine's word comes first.

mod calls;

use std::ops::Range;

use self::calls::constant;
use super::filters::Gives;
use super::names::{Group, Reference, Wrong};
use super::tokens::{Kind, Token};
use super::{ERRORS_MAX, Known, Scope, TemplateError};
use crate::model::shown_bounded;

/// The tests that may follow `is`.
pub(super) const TESTS: [&str; 2] = ["defined", "undefined"];

/// What an expression names, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub references: Vec<Reference>,
    pub errors: Vec<TemplateError>,
    /// What the engine is not to compile: it does not bound the lists that `*` makes, and of what
    /// it cannot read it says less.
    pub hazard: Option<TemplateError>,
    /// Whether it has so many mistakes that the rest was not looked at.
    pub is_cut: bool,
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
    if let Some(range) = walk.multiplies.clone().filter(|_| walk.makes_list) {
        walk.hazard(TemplateError {
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
            if self.checked.errors.len() >= ERRORS_MAX {
                self.checked.is_cut = true;
                return;
            }
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
            (Kind::Word, word) if !matches!(word, "and" | "or" | "if" | "else" | "in") => {
                self.stray_word(token);
                (at + 1, false)
            }
            _ => {
                self.operator(token);
                (at + 1, true)
            }
        }
    }

    /// A word where a sign must come, as in `row.Customer ID`.
    fn stray_word(&mut self, token: Token<'w>) {
        let before = &self.source[..token.at];
        let gap = &before[before.trim_end().len()..];
        let help = self
            .in_brackets(before.trim_end().len(), &format!("{gap}{}", token.text))
            .unwrap_or_else(|| "`~` puts two texts together".to_owned());
        self.hazard(TemplateError {
            range: token.range(),
            message: format!("a sign is missing before `{}`", shown_bounded(token.text)),
            help: Some(help),
        });
    }

    /// Of a name that ends at a place, and of what stands behind it: that the two are one name.
    fn in_brackets(&self, end: usize, more: &str) -> Option<String> {
        let reference = self.checked.references.last()?;
        let has_any_names = matches!(
            reference.group,
            Group::Row | Group::Sidecar | Group::Vars | Group::Env
        );
        (has_any_names && reference.range.end == end).then(|| {
            let (group, key) = (reference.group.word(), &reference.key);
            let name = shown_bounded(&format!("{key}{more}"));
            format!("a name that is more than one word goes in brackets: `{group}[\"{name}\"]`")
        })
    }

    fn hazard(&mut self, error: TemplateError) {
        self.checked.hazard.get_or_insert(error);
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
