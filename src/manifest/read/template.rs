//! Texts with `${{ … }}`, and their places.

use super::{Reader, meant};
use crate::diagnostic::Diagnostic;
use crate::manifest::Placed;
use crate::template::{Condition, Known, Scope, Template, TemplateError, Uses};
use crate::yaml::{Node, Span};

impl Reader<'_> {
    pub(super) fn template(&mut self, node: &Node, text: &str, scope: Scope) -> Option<Template> {
        self.names_capture |= text.contains("capture");
        let key = text.contains("${{").then(|| {
            let beside = &self.beside;
            let (capture, row, sidecar) = (beside.capture, beside.row, beside.sidecar);
            (text.to_owned(), scope, capture, row, sidecar)
        });
        if let Some(template) = key.as_ref().and_then(|key| self.cache.templates.get(key)) {
            let template = template.clone();
            if template.uses().secret.is_some() {
                self.note_uses(node, template.uses(), scope);
            }
            return may_be_shown(&template, scope).then_some(template);
        }
        let parsed = Template::parse(text, scope, &self.known());
        let template = self.parsed_template(node, text, parsed)?;
        self.look_alike(node, text);
        self.note_uses(node, template.uses(), scope);
        if let Some(key) = key {
            self.cache.templates.insert(key, template.clone());
        }
        may_be_shown(&template, scope).then_some(template)
    }

    /// As [`Self::template`], with its place.
    pub(super) fn placed(
        &mut self,
        node: &Node,
        text: &str,
        scope: Scope,
    ) -> Option<Placed<Template>> {
        let value = self.template(node, text, scope)?;
        Some(self.place(node, text, value))
    }

    /// Warns of what is an expression in other tools and a text here.
    fn look_alike(&mut self, node: &Node, text: &str) {
        let Some((range, meant)) = meant::expression(text) else {
            return;
        };
        let span = self.inside(node, text, &range);
        self.doubt(
            Diagnostic::warning("this is a text as it stands, and no expression", span)
                .help(format!("write `{meant}` if it is to be filled in")),
        );
    }

    pub(super) fn condition(&mut self, node: &Node, text: &str) -> Option<Placed<Condition>> {
        self.names_capture |= text.contains("capture");
        let parsed = Condition::parse(text, Scope::File, &self.known());
        let condition = self.parsed_template(node, text, parsed)?;
        self.note_uses(node, condition.uses(), Scope::File);
        if let Some(variable) = condition.uses().secret.clone() {
            self.secret(node, &variable);
            return None;
        }
        Some(self.place(node, text, condition))
    }

    pub(super) fn known(&self) -> Known<'_> {
        let capture = self
            .beside
            .capture
            .and_then(|at| self.cache.captures.get(at));
        Known {
            environment: self.given.environment,
            vars: &self.vars,
            capture: capture.map(|(_, names)| names.as_slice()),
            row: self.beside.row,
            sidecar: self.beside.sidecar,
        }
    }

    pub(super) fn parsed_template<T>(
        &mut self,
        node: &Node,
        text: &str,
        parsed: Result<T, Vec<TemplateError>>,
    ) -> Option<T> {
        match parsed {
            Ok(parsed) => Some(parsed),
            Err(errors) => {
                for error in errors {
                    let span = self.inside(node, text, &error.range);
                    let mut diagnostic = Diagnostic::error(error.message, span);
                    diagnostic.help = error.help;
                    self.report(diagnostic);
                }
                None
            }
        }
    }

    pub(super) fn note_uses(&mut self, node: &Node, uses: &Uses, scope: Scope) {
        for (name, _) in &uses.vars.names {
            self.used_vars.insert(name.clone());
        }
        if uses.vars.whole.is_some() {
            self.used_vars.extend(self.vars.keys().cloned());
        }
        // Metadata with such a value is hidden in plans and reports; nothing else can be.
        if let (Some(variable), true) = (&uses.secret, scope != Scope::File) {
            self.secret(node, variable);
        }
    }

    pub(super) fn secret(&mut self, node: &Node, variable: &str) {
        self.report(
            Diagnostic::error(
                format!("{variable} looks like a secret, and what is written here is shown"),
                node.span.clone(),
            )
            .help(
                "such variables can be used in `metadata`, where plans and reports hide the value; \
                 if it is no secret, give the variable another name",
            ),
        );
    }

    /// A value with the place of the text that it was made from.
    pub(super) fn place<T>(&self, node: &Node, text: &str, value: T) -> Placed<T> {
        let written = &self.text[node.span.clone()];
        let quoted = written.get(1..written.len().saturating_sub(1));
        let verbatim = if written == text {
            Some(node.span.start)
        } else {
            (quoted == Some(text)).then_some(node.span.start + 1)
        };
        Placed {
            value,
            span: node.span.clone(),
            verbatim,
        }
    }

    /// The place of a part of a scalar's text: exact where the text stands in the manifest as it
    /// is, the first that reads alike where folding moved it, the whole scalar otherwise.
    pub(super) fn inside(&self, node: &Node, text: &str, part: &Span) -> Span {
        let written = &self.text[node.span.clone()];
        let quoted = written.get(1..written.len().saturating_sub(1));
        let start = if written == text {
            node.span.start + part.start
        } else if quoted == Some(text) {
            node.span.start + 1 + part.start
        } else if let Some(at) = text.get(part.clone()).and_then(|part| written.find(part)) {
            node.span.start + at
        } else {
            return node.span.clone();
        };
        start..start + part.len()
    }
}

/// Whether nothing is shown that looks like a secret: what is no metadata is shown.
fn may_be_shown(template: &Template, scope: Scope) -> bool {
    scope == Scope::File || template.uses().secret.is_none()
}
