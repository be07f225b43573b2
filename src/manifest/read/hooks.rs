//! The `on_finish:` key: who is told of the end of a run.

use std::time::Duration;

use super::Reader;
use crate::diagnostic::Diagnostic;
use crate::manifest::keys;
use crate::manifest::{Hook, HookOn, Placed};
use crate::template::{Scope, Template};
use crate::yaml::{Entry, Node, Value};

/// How long a hook may take unless it says so.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long it may say: what waits for it is a run that is over.
const TIMEOUT_MAX: Duration = Duration::from_mins(10);

/// Most hooks of a manifest.
const HOOKS_MAX: usize = 16;

/// Most words of a command.
const WORDS_MAX: usize = 100;

impl Reader<'_> {
    pub(super) fn hooks(&mut self, entry: &Entry) -> Vec<Hook> {
        let one = std::slice::from_ref(&entry.value);
        let items = match &entry.value.value {
            Value::Map(_) => one,
            Value::List(items) => items,
            _ => {
                self.expected(
                    "a mapping or a list of mappings",
                    &entry.value,
                    &entry.key_span,
                );
                return Vec::new();
            }
        };
        if let Some(more) = items.get(HOOKS_MAX) {
            self.report(
                Diagnostic::error(
                    format!("`on_finish` has more than {HOOKS_MAX} hooks"),
                    more.span.clone(),
                )
                .help("let one command tell the others"),
            );
        }
        let items = items.iter().take(HOOKS_MAX);
        items.filter_map(|item| self.hook(item, entry)).collect()
    }

    fn hook(&mut self, item: &Node, of: &Entry) -> Option<Hook> {
        let Value::Map(entries) = &item.value else {
            self.expected(
                "a mapping such as `{command: [notify]}`",
                item,
                &of.key_span,
            );
            return None;
        };
        let at = entries
            .first()
            .map_or(&of.key_span, |first| &first.key_span);
        let fields = self.fields(entries, keys::HOOK, at, "the hook");
        if !fields.mentions("url") && !fields.mentions("command") {
            self.report(
                Diagnostic::error("the hook has neither `url` nor `command`", at.clone())
                    .help("add, for example, `command: [notify-team]`"),
            );
        }
        let url = fields.get("url").and_then(|entry| {
            let text = self.text(entry)?;
            self.unshown(&entry.value, text)
        });
        let command = fields.get("command").map(|entry| self.words(entry));
        let timeout = fields.get("timeout").and_then(|entry| {
            let timeout = self.duration(entry, "30s")?;
            if timeout <= TIMEOUT_MAX {
                return Some(timeout);
            }
            self.report(
                Diagnostic::error(
                    "`timeout` is longer than ten minutes",
                    entry.value.span.clone(),
                )
                .help("the next run may have begun by then: let the command hand the work on"),
            );
            None
        });
        let on = fields.get("on").and_then(|entry| {
            let choices = [
                HookOn::Always,
                HookOn::Stored,
                HookOn::Failure,
                HookOn::Change,
            ];
            self.word(entry, keys::HOOK, &choices)
        });
        Some(Hook {
            url,
            command: command.unwrap_or_default(),
            timeout: timeout.unwrap_or(TIMEOUT),
            on: on.unwrap_or_default(),
            span: at.clone(),
        })
    }

    /// The words of a command, of which the first is the program.
    fn words(&mut self, entry: &Entry) -> Vec<Template> {
        let Value::List(items) = &entry.value.value else {
            let message = "`command` is a list of words: no shell reads it";
            self.report(
                Diagnostic::error(message, entry.value.span.clone())
                    .help("write the program and its arguments apart: `[notify, --to, ops]`"),
            );
            return Vec::new();
        };
        let is_empty =
            |node: &Node| matches!(&node.value, Value::Scalar(text, _) if text.is_empty());
        let problem = if items.first().is_none_or(is_empty) {
            Some("`command` names no program")
        } else if items.len() > WORDS_MAX {
            Some("`command` has more than 100 words")
        } else {
            None
        };
        if let Some(problem) = problem {
            self.report(
                Diagnostic::error(problem, entry.value.span.clone())
                    .help("write the program and its arguments apart: `[notify, --to, ops]`"),
            );
            return Vec::new();
        }
        let mut words = Vec::new();
        for item in items {
            let Value::Scalar(text, _) = &item.value else {
                self.expected("a text", item, &entry.key_span);
                continue;
            };
            words.extend(self.template(item, text, Scope::Run));
        }
        words
    }

    /// As [`Self::placed`], of what is never shown and so may hold a secret.
    fn unshown(&mut self, node: &Node, text: &str) -> Option<Placed<Template>> {
        let parsed = Template::parse(text, Scope::Run, &self.known());
        let template = self.parsed_template(node, text, parsed)?;
        // Of a file's values secrets may be part too.
        self.note_uses(node, template.uses(), Scope::File);
        Some(self.place(node, text, template))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::diagnostic::Source;
    use crate::manifest::{Given, Reading, read};
    use crate::model::Environment;
    use crate::template::Values;

    fn reading(hooks: &str) -> Reading {
        let source = Source {
            name: "m.yaml".to_owned(),
            text: format!(
                "version: 1\nuploads: [{{name: a, root: ., include: '*'}}]\non_finish: {hooks}\n"
            ),
        };
        let variables = [("HOOK_TOKEN", "t0ken"), ("TEAM", "ops")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::new(variables);
        read(
            &source,
            Path::new("m.yaml"),
            Given::environment(&environment),
        )
    }

    #[test]
    fn hooks_are_read_one_or_many() {
        let reading = reading(
            "[{url: 'https://hooks.example.com/${{ env.HOOK_TOKEN }}', on: change}, \
             {command: [notify, '${{ env.TEAM }}', 007], timeout: 2m}]",
        );
        assert_eq!(reading.diagnostics, []);
        let [first, second] = reading.manifest.hooks.as_slice() else {
            panic!("{:?}", reading.manifest.hooks);
        };
        let url = first.url.as_ref().expect("a URL");
        let values = Values::default();
        let url = url.value.render(&values).expect("a text");
        assert_eq!(url, "https://hooks.example.com/t0ken");
        assert_eq!((first.on, first.timeout), (HookOn::Change, TIMEOUT));
        let words: Vec<String> = second
            .command
            .iter()
            .map(|word| word.render(&values).expect("a text"))
            .collect();
        assert_eq!(words, ["notify", "ops", "007"]);
        assert_eq!(second.timeout, Duration::from_mins(2));
        assert_eq!(self::reading("{command: [x]}").manifest.hooks.len(), 1);
    }

    #[test]
    fn what_is_no_hook_says_what_to_write() {
        for (hooks, message) in [
            (
                "notify",
                "expected a mapping or a list of mappings, found a text",
            ),
            (
                "[notify]",
                "expected a mapping such as `{command: [notify]}`, found a text",
            ),
            ("{on: always}", "the hook has neither `url` nor `command`"),
            (
                "{command: notify}",
                "`command` is a list of words: no shell reads it",
            ),
            ("{command: []}", "`command` names no program"),
            ("{command: ['', a]}", "`command` names no program"),
            ("{command: [a, [b]]}", "expected a text, found a list"),
            ("{command: [a], on: never}", "`never` is no choice for `on`"),
            (
                "{command: [a], timeout: 11m}",
                "`timeout` is longer than ten minutes",
            ),
            (
                "{command: [a], timeout: soon}",
                "`soon` is no length of time",
            ),
            ("{comand: [a]}", "the hook has no key `comand`"),
            (
                "{command: [a, '${{ env.HOOK_TOKEN }}']}",
                "HOOK_TOKEN looks like a secret, and what is written here is shown",
            ),
            (
                "{url: 'https://${{ env.HOST }}'}",
                "the environment variable HOST is not set",
            ),
        ] {
            let found: Vec<String> = reading(hooks)
                .diagnostics
                .into_iter()
                .map(|diagnostic| diagnostic.message)
                .collect();
            assert_eq!(found, [message], "{hooks}");
        }
        let many = format!("[{}]", "{command: [a]}, ".repeat(HOOKS_MAX + 1));
        assert_eq!(reading(&many).diagnostics.len(), 1);
    }
}
