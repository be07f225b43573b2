//! What editors show of a key, and offer for it, beside what they check.

use serde_json::{Value, json};

use super::{Key, RULE};

/// Adds to a key's schema what it means, what holds without it, and what one would write.
pub(super) fn annotate(key: &Key, schema: &mut Value) {
    let text = match key.default {
        "" => key.doc.to_owned(),
        default => format!("{} Default: {default}.", key.doc),
    };
    schema["description"] = json!(text);
    // Editors show the marks of a plain description as they are.
    if text.contains('`') {
        schema["markdownDescription"] = json!(text);
    }
    if let Some(default) = literal(key.default) {
        schema["default"] = default;
    }
    schema["examples"] = json!([yaml(key.example)]);
}

/// What holds without a key as it would be written, where it can be: a number, or all that stands
/// between two backticks, unless that is the name of a key.
fn literal(default: &str) -> Option<Value> {
    let quoted = default
        .strip_prefix('`')
        .and_then(|rest| rest.strip_suffix('`'));
    match quoted {
        Some(text) if text.contains('`') || RULE.iter().any(|key| key.name == text) => None,
        Some(text) => Some(yaml(text)),
        None => default.parse::<u64>().ok().map(Value::from),
    }
}

/// What YAML takes a text for.
fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|_| json!(text))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::Map;

    use super::*;
    use crate::diagnostic::{Severity, Source};
    use crate::manifest::{Given, read, schema};
    use crate::model::Environment;

    type Fields = Map<String, Value>;

    /// The keys of all mappings below, with their schemas.
    fn keys<'a>(schema: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
        for (mapping, _) in mappings(schema, false) {
            for (name, key) in mapping["properties"].as_object().expect("keys") {
                let path = format!("{path}.{name}");
                found.push((path.clone(), key));
                keys(key, &path, found);
            }
        }
    }

    /// The mappings that a value may be, and whether it is then a list of such.
    fn mappings(schema: &Value, in_list: bool) -> Vec<(&Value, bool)> {
        let mut found = Vec::new();
        if schema.get("properties").is_some() {
            found.push((schema, in_list));
        }
        if let Some(choices) = schema.get("oneOf").and_then(Value::as_array) {
            found.extend(choices.iter().flat_map(|choice| mappings(choice, in_list)));
        }
        if let Some(items) = schema.get("items") {
            found.extend(mappings(items, true));
        }
        found
    }

    #[test]
    fn every_key_is_explained_and_its_example_and_default_fit_it() {
        let schema = schema();
        let mut found = Vec::new();
        keys(&schema, "manifest", &mut found);
        assert!(found.iter().any(|(name, _)| name == "manifest.report.path"));
        for (name, key) in found {
            assert!(key["description"].is_string(), "{name}");
            let validator = jsonschema::validator_for(key).expect("a schema");
            let examples = key["examples"].as_array().expect(&name);
            assert!(!examples.is_empty(), "{name}");
            for value in examples.iter().chain(key.get("default")) {
                assert!(validator.is_valid(value), "{name}: {value}");
            }
        }
    }

    #[test]
    fn defaults_that_can_be_written_are_values() {
        for (default, expected) in [
            ("`15m`", Some(json!("15m"))),
            ("`false`", Some(json!(false))),
            ("8", Some(json!(8))),
            ("`${{ file.name }}`", Some(json!("${{ file.name }}"))),
            ("", None),
            ("none", None),
            ("`dataset_id`", None),
            ("`auto`: by the file name's extension", None),
            ("`a`, else `b`", None),
        ] {
            assert_eq!(literal(default), expected, "{default}");
        }
    }

    fn is_accepted(manifest: &Value) -> bool {
        let source = Source {
            name: "m.yaml".to_owned(),
            // JSON is YAML.
            text: manifest.to_string(),
        };
        let variables = [("ROE_ORGANIZATION_ID".to_owned(), "team".to_owned())];
        let environment = Environment::new(variables);
        let reading = read(
            &source,
            Path::new("m.yaml"),
            Given::environment(&environment),
        );
        let mut severities = reading.diagnostics.iter().map(|found| found.severity);
        severities.all(|severity| severity != Severity::Error)
    }

    fn example(key: &Value) -> Value {
        key["examples"][0].clone()
    }

    fn with(fields: &Fields, name: &str, value: Value) -> Fields {
        let mut more = fields.clone();
        more.insert(name.to_owned(), value);
        more
    }

    /// Tries each key of a mapping, given a usual one and how it becomes a manifest: with what is
    /// required, in the usual mapping, or there together with one other key.
    fn try_keys(
        schema: &Value,
        usual: Option<&Fields>,
        whole: &dyn Fn(Fields) -> Value,
        refused: &mut Vec<String>,
    ) {
        let keys = schema["properties"].as_object().expect("keys");
        let names = schema["required"].as_array().expect("names");
        let names = names.iter().filter_map(Value::as_str);
        let required: Fields = names
            .map(|name| (name.to_owned(), example(&keys[name])))
            .collect();
        let usual = usual.unwrap_or(&required);
        for (name, key) in keys {
            let is_taken = |fields: &Fields| is_accepted(&whole(with(fields, name, example(key))));
            let in_company = || {
                let mut others = keys.iter().filter(|(other, _)| *other != name);
                others.any(|(other, its)| is_taken(&with(usual, other, example(its))))
            };
            if !is_taken(&required) && !is_taken(usual) && !in_company() {
                refused.push(format!("{name}: {}", example(key)));
            }
            for (mapping, in_list) in mappings(key, false) {
                let example = example(key);
                let usual_part = match &example {
                    Value::Array(parts) => parts.first(),
                    other => Some(other),
                };
                let whole = |part: Fields| {
                    let part = if in_list { json!([part]) } else { json!(part) };
                    whole(with(usual, name, part))
                };
                let usual_part = usual_part.and_then(Value::as_object);
                try_keys(mapping, usual_part, &whole, refused);
            }
        }
    }

    #[test]
    fn every_example_is_taken_by_the_reader_too() {
        assert!(!is_accepted(&json!({"version": 1, "uploads": []})));
        let mut refused = Vec::new();
        try_keys(&schema(), None, &|fields| json!(fields), &mut refused);
        assert!(refused.is_empty(), "{refused:#?}");
    }
}
