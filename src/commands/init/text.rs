//! A proposal as the text of a manifest: pure.

use std::fmt::Write;

use super::propose::{Proposal, Rule};
use crate::commands::spell;
use crate::model::{HumanBytes, count, shown_bounded};

/// The column at which comments begin where there is room.
const COMMENTS: usize = 38;

/// Columns of a table that are told.
const COLUMNS_MAX: usize = 8;

/// The same in the list of a rule's keys, whose values are longer.
const RULE_COMMENTS: usize = 54;

/// Keys of a rule, with values as one would write them, and what they say.
const RULE_KEYS: [(&str, &str); 23] = [
    (
        "exclude: [\"**/draft-*\"]",
        "what is left out, whatever a rule includes",
    ),
    (
        "dataset_id: 3f2b7a52-0000-4000-8000-000000000001",
        "the service's default dataset unless set",
    ),
    (
        "dataset: Invoices 2025",
        "or its name, which no other may have",
    ),
    (
        "organization_id: ${{ env.ROE_ORGANIZATION_ID }}",
        "the key's own organization unless set",
    ),
    (
        "metadata: {path: \"${{ file.path }}\"}",
        "texts that are stored with each file",
    ),
    (
        "file_name: ${{ rule.name }}-${{ file.name }}",
        "the name in the dataset; the file's own unless set",
    ),
    (
        "content_type: application/pdf",
        "by the extension unless set",
    ),
    (
        "capture: '(?<vendor>[^/]+)/[^/]+$'",
        "a part of the path, to use as ${{ capture.vendor }}",
    ),
    (
        "capture_metadata: true",
        "make all that is captured metadata",
    ),
    (
        "table: {path: table.csv, key: path}",
        "a row of metadata for each path below root",
    ),
    (
        "sidecar: \"${{ file.path }}.meta.yaml\"",
        "a file's own metadata, in YAML or JSON",
    ),
    (
        "when: ${{ file.size > 0 }}",
        "take files only of which this is true",
    ),
    (
        "min_age: 2m",
        "leave files that changed since then to a later run",
    ),
    ("min_size: 1B", "leave smaller files out"),
    ("max_size: 100MiB", "leave larger files out"),
    ("max_depth: 3", "look no deeper"),
    (
        "files_from: list.txt",
        "take only what this list names, a path on each line",
    ),
    (
        "hidden: true",
        "let wildcards take names with a leading dot",
    ),
    (
        "follow_symlinks: within_root",
        "follow links that stay below root",
    ),
    (
        "on_empty: ignore",
        "a pattern that no file matches is no error",
    ),
    (
        "on_change: skip",
        "a file changed: upload it beside the old, skip or fail",
    ),
    (
        "on_metadata_change: upload",
        "its metadata changed: skip or upload",
    ),
    (
        "compare: size_mtime",
        "believe size and time of change; read nothing again",
    ),
];

/// Keys of `run`, likewise.
const RUN_KEYS: [(&str, &str); 10] = [
    (
        "concurrency: 16",
        "files on their way at once; {max: 64, adaptive: true} finds out",
    ),
    ("rate: 50/s", "begin no more requests than this"),
    ("bandwidth: 20MiB/s", "send no more than this"),
    ("max_attempts: 5", "how often one file is tried in a run"),
    ("retry_for: 15m", "and for how long"),
    (
        "deadline: 2h",
        "then begin nothing new; the next run goes on",
    ),
    ("failure_budget: 5%", "give the run up when more files fail"),
    (
        "in_doubt: verify",
        "what to do with files that may be stored: verify, hold or resend",
    ),
    (
        "settle: 2m",
        "how long one must be absent to count as not stored",
    ),
    (
        "tag: true",
        "add a key to the metadata by which verify is certain",
    ),
];

/// What else a manifest is written from.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// The folder's name, where it can be the manifest's.
    pub name: Option<String>,
    /// Where to look, from the manifest.
    pub root: String,
    /// What the reader should know of the look, each in a sentence that is safe to show.
    pub notes: Vec<String>,
}

/// Writes the manifest.
pub(super) fn manifest(frame: &Frame, proposal: &Proposal) -> String {
    let mut text = String::new();
    let found = match proposal.rules.iter().map(|rule| rule.files).sum() {
        0 => "nothing yet".to_owned(),
        files => {
            let bytes = proposal.rules.iter().map(|rule| rule.bytes).sum();
            format!("{}, {}", count(files, "file"), HumanBytes(bytes))
        }
    };
    let _ = writeln!(
        text,
        "# Which files go to which Roe dataset, with which metadata. Proposed by `roe-batch init`\n\
         # from what it found: {found}. A key after `#` says nothing until the `#` is taken away."
    );
    for note in frame.notes.iter().chain(&proposal.notes) {
        let _ = writeln!(text, "#\n# Note: {note}.");
    }
    text.push_str("version: 1\n");
    match &frame.name {
        Some(name) => line(&mut text, "", &format!("name: {}", spell::yaml(name)), NAME),
        None => line(&mut text, "", "#name: invoices", NAME),
    }
    line(
        &mut text,
        "",
        "#vars: {team: ops}",
        "texts for ${{ vars.team }}; --set team=… wins",
    );
    line(
        &mut text,
        "",
        "#overlap: first",
        "who sends a file that several rules take: error, first or all",
    );
    text.push('\n');
    defaults(&mut text, frame);
    text.push_str("\nuploads:\n");
    for rule in &proposal.rules {
        self::rule(&mut text, rule);
    }
    text.push('\n');
    line(&mut text, "", "#run:", "how the uploads are carried out");
    for (key, what) in RUN_KEYS {
        line(&mut text, "", &format!("#  {key}"), what);
    }
    text.push('\n');
    line(
        &mut text,
        "",
        "#report:",
        "in .roe-batch/reports unless set; .csv, .json, .jsonl or .html",
    );
    text.push_str("#  - reports/latest.csv\n#  - reports/${{ run.id }}.json\n");
    line(
        &mut text,
        "",
        "#on_finish: {command: [notify-team], on: failure}",
        "gets a summary; with apply --allow-hooks",
    );
    text
}

const NAME: &str = "names the runs in the ledger and in reports";

fn defaults(text: &mut String, frame: &Frame) {
    line(
        text,
        "",
        "defaults:",
        "holds for every rule that does not say otherwise",
    );
    let root = match frame.root.as_str() {
        "." => ".".to_owned(),
        root => spell::yaml(&spell::template(root)),
    };
    line(
        text,
        "  ",
        &format!("root: {root}"),
        "where to look, relative to this file",
    );
    for (key, what) in RULE_KEYS {
        let key = format!("  #{key}");
        let _ = writeln!(text, "{key:RULE_COMMENTS$}# {what}");
    }
}

fn rule(text: &mut String, rule: &Rule) {
    let mut what = match rule.files {
        0 => "whatever there will be".to_owned(),
        files => format!("{}, {}", count(files, "file"), HumanBytes(rule.bytes)),
    };
    if rule.empty > 0 {
        let _ = write!(what, ", {} of them empty", rule.empty);
    }
    line(
        text,
        "  ",
        &format!("- name: {}", spell::yaml(&rule.name)),
        &what,
    );
    let include = spell::yaml(&rule.include);
    let _ = writeln!(text, "    include: [{include}]");
    if !rule.exclude.is_empty() {
        text.push_str("    exclude:\n");
        for (pattern, why) in &rule.exclude {
            let pattern = format!("- {}", spell::yaml(pattern));
            line(text, "      ", &pattern, why);
        }
    }
    if rule.files == 0 {
        line(text, "    ", "on_empty: ignore", "there may be no files");
    }
    if let Some((expression, names)) = &rule.capture {
        let _ = writeln!(text, "    capture: {}", spell::yaml(expression));
        text.push_str("    metadata:\n");
        for name in names {
            let _ = writeln!(text, "      {name}: ${{{{ capture.{name} }}}}");
        }
    }
    if let Some(table) = &rule.table {
        let columns: Vec<&str> = table.columns.iter().map(String::as_str).collect();
        let mut told = shown_bounded(&columns[..columns.len().min(COLUMNS_MAX)].join(", "));
        if columns.len() > COLUMNS_MAX {
            told.push_str(", …");
        }
        if told.is_empty() {
            told.push_str("nothing: it has one column");
        }
        line(
            text,
            "    ",
            "table:",
            &format!("metadata of each file's row: {told}"),
        );
        let path = spell::yaml(&spell::template(&table.path));
        let _ = writeln!(text, "      path: {path}");
        let _ = writeln!(text, "      key: {}", spell::yaml(&table.key));
        let _ = writeln!(text, "      match: {}", table.by.template());
        if table.delimiter == ';' {
            text.push_str("      delimiter: \";\"\n");
        }
        if table.lacks_rows {
            line(
                text,
                "      ",
                "files_without_row: warn",
                "some files may have none",
            );
        }
        if table.lacks_files {
            line(
                text,
                "      ",
                "rows_without_file: ignore",
                "some rows have none here",
            );
        }
    }
    if let Some(sidecar) = &rule.sidecar {
        let sidecar = spell::yaml(sidecar);
        line(
            text,
            "    ",
            &format!("sidecar: {sidecar}"),
            "metadata of one file",
        );
    }
}

/// Writes a line, with a comment where the eye finds it.
fn line(text: &mut String, indent: &str, what: &str, comment: &str) {
    let width = (indent.len() + what.chars().count() + 2).max(COMMENTS) - indent.len();
    let _ = writeln!(text, "{indent}{what:width$}# {comment}");
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::propose::{Seen, propose};
    use super::*;
    use crate::diagnostic::Source;
    use crate::manifest;
    use crate::model::Environment;

    fn template() -> String {
        let frame = Frame {
            root: ".".to_owned(),
            ..Frame::default()
        };
        manifest(&frame, &propose(&Seen::default(), &|_| None))
    }

    fn problems(text: &str) -> Vec<String> {
        let source = Source {
            name: "m.yaml".to_owned(),
            text: text.to_owned(),
        };
        let environment = Environment::new([("ROE_ORGANIZATION_ID".to_owned(), "o".to_owned())]);
        let given = manifest::Given::environment(&environment);
        let reading = manifest::read(&source, Path::new("m.yaml"), given);
        reading.diagnostics.into_iter().map(|d| d.message).collect()
    }

    /// The lines that say something once their `#` is taken away, by number.
    fn silent(text: &str) -> Vec<usize> {
        let says = |line: &str| {
            let key = line.trim_start().strip_prefix('#').filter(|key| {
                let indent = key.len() - key.trim_start().len();
                indent != 1 && !key.starts_with("run:") && !key.starts_with("report:")
            });
            key.is_some_and(|key| key.contains(": ") || key.contains("- "))
        };
        let lines = text.lines().enumerate();
        lines
            .filter(|(_, line)| says(line))
            .map(|(at, _)| at)
            .collect()
    }

    #[test]
    fn each_line_is_right_once_its_number_sign_is_taken_away() {
        let text = template();
        assert_eq!(problems(&text), [""; 0]);
        let silent = silent(&text);
        assert_eq!(silent.len(), RULE_KEYS.len() + RUN_KEYS.len() + 6, "{text}");
        for at in silent {
            let line = text.lines().nth(at).expect("a line");
            let key = line.trim_start_matches([' ', '#']);
            let block = match line {
                _ if line.starts_with("#  -") => "#report:",
                _ if line.starts_with("#  ") => "#run:",
                _ if key.starts_with("capture_metadata") => "  #capture:",
                _ => line,
            };
            let opened: Vec<String> = text
                .lines()
                .enumerate()
                .map(|(number, line)| {
                    if number == at || line.starts_with(block) {
                        line.replacen('#', "", 1)
                    } else {
                        line.to_owned()
                    }
                })
                .collect();
            assert_eq!(problems(&opened.join("\n")), [""; 0], "{line}");
        }
    }

    #[test]
    fn every_key_of_the_manifest_is_there() {
        let text = template();
        for key in manifest::keys::RULE.iter().chain(manifest::keys::RUN) {
            assert!(text.contains(&format!("{}:", key.name)), "{}", key.name);
        }
        for key in manifest::keys::MANIFEST {
            assert!(text.contains(&format!("{}:", key.name)), "{}", key.name);
        }
    }

    #[test]
    fn comments_stand_in_a_column_and_lines_fit() {
        let text = template();
        for line in text.lines() {
            assert!(line.chars().count() <= 110, "{line}");
            assert_eq!(line, line.trim_end());
        }
    }
}
