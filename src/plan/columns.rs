//! Which columns of its table a rule names.

use std::collections::HashSet;
use std::sync::Arc;

use crate::diagnostic::Diagnostic;
use crate::manifest::{Columns, Placed, Rule, Span, TableRule};
use crate::model::{shown, shown_bounded};
use crate::template::{Template, Uses};

/// The columns that a rule names, each where it does.
pub(super) fn named<'r>(rule: &'r Rule, table: &'r TableRule) -> Vec<(&'r str, Span)> {
    let mut named: Vec<(&str, Span)> = Vec::new();
    if let Columns::These(columns) = &table.columns {
        let chosen = columns.iter();
        named.extend(chosen.map(|(_, column)| (column.value.as_str(), column.span.clone())));
    }
    let of_template = templates(rule).flat_map(|template| {
        let uses = template.value.uses().row.names.iter();
        uses.map(|(name, range)| (name.as_str(), template.part(range)))
    });
    named.extend(of_template);
    if let Some(when) = &rule.select.when {
        let uses = when.value.uses().row.names.iter();
        named.extend(uses.map(|(name, range)| (name.as_str(), when.part(range))));
    }
    named
}

fn templates(rule: &Rule) -> impl Iterator<Item = &Placed<Template>> {
    let metadata = rule.metadata.iter().map(|entry| &entry.template);
    let sidecar = rule.sidecar.as_ref().map(|sidecar| &sidecar.path);
    metadata.chain(&rule.file_name).chain(sidecar)
}

/// Columns that no rule with the table takes or names, although one says which it takes.
#[must_use]
pub fn unused(tables: &[(&Rule, &TableRule)], columns: &[Arc<str>]) -> Option<Diagnostic> {
    let takes_all = |uses: &Uses| uses.row.whole.is_some();
    let mut used: HashSet<&str> = HashSet::new();
    for (rule, table) in tables {
        let whole = templates(rule).any(|template| takes_all(template.value.uses()))
            || rule
                .select
                .when
                .as_ref()
                .is_some_and(|when| takes_all(when.value.uses()));
        if whole || table.columns == Columns::All {
            return None;
        }
        used.insert(&table.key.value);
        used.extend(named(rule, table).into_iter().map(|(name, _)| name));
    }
    let unused = columns.iter().filter(|column| !used.contains(&***column));
    let unused: Vec<String> = unused
        .map(|column| format!("`{}`", shown(column)))
        .collect();
    let (_, table) = tables.first()?;
    let message = match unused.as_slice() {
        [] => return None,
        [one] => format!("nothing uses the column {one} of the table"),
        more => format!(
            "nothing uses the columns {} of the table",
            shown_bounded(&more.join(", "))
        ),
    };
    Some(
        Diagnostic::note(message, table.path.span.clone())
            .help("name it in `columns`, or as `${{ row.COLUMN }}`, if it is meant to be used"),
    )
}
