//! How a text from a folder is spelt in YAML or for a shell, so that it means itself and nothing else.

use std::fmt::Write;

use crate::model::shown;

/// Words and beginnings that YAML takes for something other than a text.
const WORDS: [&str; 12] = [
    "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity",
];

/// A YAML scalar of one line, quoted where it has to be.
pub(super) fn yaml(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if is_plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    let mut is_safe = true;
    for c in text.chars() {
        let code = u32::from(c);
        let alone = c.to_string();
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            // What would move the cursor, hide text or end a line is spelt out.
            _ if shown(&alone) != alone => {
                is_safe = false;
                let _ = if code > 0xffff {
                    write!(quoted, "\\U{code:08x}")
                } else {
                    write!(quoted, "\\u{code:04x}")
                };
            }
            _ => quoted.push(c),
        }
    }
    quoted.push('"');
    // A backslash stands for itself between single quotes, which a pattern is easier to read with.
    if is_safe && text.contains(['"', '\\']) {
        return format!("'{}'", text.replace('\'', "''"));
    }
    quoted
}

/// A glob that matches this path and no other.
pub(super) fn glob(path: &str) -> String {
    let mut glob = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '*' | '?' | '[' | ']' | '{' | '}' | ',' | '\\' => {
                glob.push('[');
                glob.push(c);
                glob.push(']');
            }
            _ => glob.push(c),
        }
    }
    glob
}

/// A template that renders to this text.
pub(super) fn template(text: &str) -> String {
    text.replace("${{", "${{ '${{' }}")
}

/// A text as a shell reads it back.
pub(super) fn shell(text: &str) -> String {
    let is_plain = !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'));
    if is_plain && !text.starts_with('-') {
        return text.to_owned();
    }
    let mut quoted = String::from("'");
    if text.starts_with('-') {
        quoted.push_str("./");
    }
    for c in text.chars() {
        match c {
            '\'' => quoted.push_str("'\\''"),
            '\\' => quoted.push(c),
            _ => quoted.push_str(&shown(&c.to_string())),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Environment, Glob, Globs};
    use crate::sidecar;
    use crate::template::{Known, Scope, Template, Values};

    fn assert_kept(text: &str) {
        let document = format!("key: {}  # a comment\n", yaml(text));
        let read = sidecar::parse(document.as_bytes(), "a.yaml").expect(&document);
        assert_eq!(read.fields.get("key"), Some(text), "{document}");
    }

    #[test]
    fn what_yaml_takes_for_something_else_is_quoted() {
        for text in [
            "",
            " ",
            " a ",
            "true",
            "No",
            "NULL",
            "~",
            "1.10",
            "0x1f",
            ".inf",
            "- a",
            "-",
            "a: b",
            "a #b",
            "#a",
            "*a",
            "&a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a",
            "[a]",
            "a, b",
            "'a'",
            "\"a\"",
            "a'b\"c",
            "\\",
            "a\\nb",
            "|",
            ">",
            "?",
            "<<",
            "${{ file.name }}",
            "2024-01-01",
            "é",
            "a\u{202e}b",
            "a\u{a0}",
            "\u{feff}a",
            "a\u{2028}b",
            "🎉",
            "\u{e0001}",
            "a\nb\t\u{7}",
        ] {
            assert_kept(text);
        }
        for text in ["true", "No", "1.10", "007", ".inf", "2024-01-01", "~"] {
            assert!(yaml(text).starts_with('"'), "{text}");
        }
        assert_eq!(yaml("invoices/2024.pdf"), "invoices/2024.pdf");
        assert_eq!(yaml("a\u{202e}b"), "\"a\\u202eb\"");
        assert_eq!(yaml(r"^a/(?<year>\d{4})/"), r"'^a/(?<year>\d{4})/'");
    }

    #[test]
    fn a_template_renders_to_the_text_it_was_made_from() {
        let environment = Environment::new([]);
        for text in ["plain", "${{ file.name }}", "a${{${{b}}", "$${{'}}"] {
            let made = template(text);
            let made = Template::parse(&made, Scope::Rule, &Known::new(&environment)).expect(text);
            let values = Values {
                manifest: "m",
                run: None,
                rule: None,
                file: None,
                capture: None,
                row: None,
                sidecar: None,
            };
            assert_eq!(made.render(&values).as_deref(), Ok(text));
        }
    }

    #[test]
    fn a_command_can_be_copied_to_a_shell() {
        assert_eq!(shell("in/roe-batch.yaml"), "in/roe-batch.yaml");
        assert_eq!(shell("my files/it's.yaml"), r"'my files/it'\''s.yaml'");
        assert_eq!(shell("-x"), "'./-x'");
        assert_eq!(shell("a\\b\u{1b}"), r"'a\b\u{1b}'");
    }

    proptest! {
        #[test]
        fn any_text_is_kept_by_yaml(text in any::<String>()) {
            assert_kept(&text);
        }

        #[test]
        fn a_glob_matches_the_path_it_was_made_from(
            path in "[a*?!^{},\\[\\]\\\\ -]{1,6}(/[a*?!^{},\\[\\]\\\\-]{1,6})?",
            other in "[a*?!^{},\\[\\]\\\\ -]{1,6}(/[a*?!^{},\\[\\]\\\\-]{1,6})?",
        ) {
            let made = Globs::include(vec![Glob::parse(&glob(&path)).expect("a glob")]);
            prop_assert!(made.matches(&path), "{}", glob(&path));
            prop_assert_eq!(made.matches(&other), path == other);
        }
    }
}
