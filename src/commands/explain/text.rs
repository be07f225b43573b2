//! An explanation for people.

use std::fmt::Write;

use super::{Explanation, Sent};
use crate::model::{HumanBytes, count, shown, shown_bounded};

pub(super) fn text(explanation: &Explanation) -> String {
    let mut text = format!("{}", shown(&explanation.file));
    if let (Some(size), Some(modified)) = (explanation.size, &explanation.modified) {
        let _ = write!(text, "  {}, changed {modified}", HumanBytes(size));
    }
    text.push('\n');
    for seen in &explanation.rules {
        let _ = writeln!(
            text,
            "\nrule {}, line {}: {}",
            seen.rule,
            seen.line,
            match seen.verdict {
                "taken" => "takes it",
                _ => "does not take it",
            }
        );
        let _ = write!(text, "  {}", seen.why);
        if let Some(pattern) = &seen.pattern {
            let _ = write!(text, ": `{}`, line {}", shown(&pattern.text), pattern.line);
        }
        text.push('\n');
        if let Some(problem) = &seen.problem {
            let _ = writeln!(text, "  cannot be sent: {}", shown(problem));
        }
        if let Some(sent) = &seen.sending {
            sending(&mut text, sent);
        }
        if let Some(decision) = &seen.decision {
            let _ = writeln!(
                text,
                "  decision      {}: {}",
                decision.action.word(),
                decision.detail
            );
        }
        if let Some(ledger) = &seen.ledger {
            let _ = write!(text, "  ledger        {}", ledger.state.replace('_', " "));
            if let Some(id) = &ledger.file_id {
                let _ = write!(text, ", file ID {id}");
            }
            text.push('\n');
        }
    }
    text
}

fn sending(text: &mut String, sent: &Sent) {
    let _ = writeln!(
        text,
        "  target        {}",
        match &sent.dataset {
            Some(name) => format!("the dataset named \"{}\"", shown(name)),
            None => sent.target.to_string(),
        }
    );
    let _ = write!(text, "  remote name   {}", shown(sent.remote_name.as_str()));
    if sent.stored_name != sent.remote_name.as_str() {
        let _ = write!(text, ", stored as {}", shown(&sent.stored_name));
    }
    text.push('\n');
    let _ = writeln!(
        text,
        "  content type  {}, by {}",
        sent.content_type, sent.content_type_from
    );
    let _ = writeln!(
        text,
        "  metadata      {}, {}",
        match sent.metadata.len() {
            0 => "none".to_owned(),
            names => count(names, "name"),
        },
        HumanBytes(sent.metadata_bytes as u64)
    );
    let longest = sent
        .metadata
        .iter()
        .map(|entry| shown(&entry.name).chars().count());
    let width = longest.max().unwrap_or_default().min(30);
    for entry in &sent.metadata {
        let (name, value) = (shown(&entry.name), shown_bounded(&entry.value));
        let _ = write!(text, "    {name:width$}  {value}");
        let _ = write!(
            text,
            "    ({} {}:{}",
            entry.origin,
            shown(&entry.file),
            entry.line
        );
        if let Some(column) = &entry.column {
            let _ = write!(text, ", column {}", shown(column));
        }
        text.push_str(")\n");
    }
}
