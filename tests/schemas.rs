//! What the program prints for other programs fits the schemas that it prints.

mod common;

use std::collections::BTreeSet;
use std::fs;

use common::Workspace;
use jsonschema::Validator;
use rusqlite::Connection;
use serde_json::{Value, json};

const DOCUMENTS: [&str; 4] = ["plan", "report", "diagnostics", "summary"];

fn schema(document: &str) -> Value {
    let printed = Workspace::new().run(&["schema", document]);
    assert_eq!(printed.code, 0, "{}", printed.all());
    serde_json::from_str(&printed.stdout).expect("JSON")
}

fn validator(schema: &Value) -> Validator {
    jsonschema::options()
        .should_validate_formats(true)
        .build(schema)
        .expect("a schema")
}

/// Of one definition, as a line of JSON Lines is one.
fn definition(document: &str, name: &str) -> Validator {
    let mut schema = schema(document);
    let parts = schema.as_object_mut().expect("an object");
    parts.retain(|key, _| key == "$schema" || key == "definitions");
    let name = format!("#/definitions/{name}");
    parts.insert("allOf".to_owned(), json!([{"$ref": name}]));
    validator(&schema)
}

fn assert_fits(validator: &Validator, document: &Value) {
    let wrong: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}\n{document:#}");
}

/// The document with one value replaced, or taken away where the new one is none.
fn damaged(document: &Value, place: &str, value: Option<Value>) -> Value {
    let mut document = document.clone();
    let (parent, name) = place.rsplit_once('/').expect("a pointer");
    let parent = document.pointer_mut(parent).expect(place);
    let parent = parent.as_object_mut().expect("an object");
    match value {
        Some(value) => parent.insert(name.to_owned(), value),
        None => parent.remove(name),
    }
    .expect("what was there");
    document
}

/// All that stands in `properties` below.
fn properties<'a>(schema: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
        let named = |(name, value)| (format!("{path}/{name}"), value);
        found.extend(properties.iter().map(named));
    }
    match schema {
        Value::Object(parts) => {
            for (name, part) in parts {
                properties(part, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(parts) => {
            for part in parts {
                properties(part, path, found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_field_that_is_printed_is_described() {
    for document in DOCUMENTS {
        let schema = schema(document);
        assert!(schema["title"].is_string() && schema["description"].is_string());
        let mut found = Vec::new();
        properties(&schema, document, &mut found);
        assert!(found.len() > 10, "{document}");
        for (name, field) in found {
            // The counts of outcomes: `outcome` says what each is.
            let is_count = name.contains("/outcomes/")
                || name.contains("/header/bytes/")
                || name.contains("/header/properties/bytes/");
            assert!(is_count || field["description"].is_string(), "{name}");
        }
    }
}

#[test]
fn what_a_config_file_may_hold_fits_its_schema_and_nothing_else_does() {
    let schema = schema("config");
    let validator = validator(&schema);
    let properties = schema["properties"].as_object().expect("keys");
    assert!(properties.len() > 20);
    let mut all = serde_json::Map::new();
    for (name, key) in properties {
        assert!(key["description"].is_string(), "{name}");
        all.insert(name.clone(), key["examples"][0].clone());
    }
    // An example is a value, for the schema and for the program.
    let document = Value::Object(all);
    assert_fits(&validator, &document);
    let mut workspace = Workspace::new();
    workspace.write("config.yaml", document.to_string());
    workspace.env("ROE_BATCH_CONFIG", "config.yaml");
    let ran = workspace.run(&["config"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    for bad in [
        json!({"api_key": "x"}),
        json!({"state": "x"}),
        json!({"http2": "yes"}),
        json!({"max_attempts": 0}),
        json!({"in_doubt": "perhaps"}),
        json!({"timeout": [1]}),
        json!({"bandwidth": {"08:00-18:00": 5}}),
        json!([]),
    ] {
        assert!(!validator.is_valid(&bad), "{bad}");
        workspace.write("config.yaml", bad.to_string());
        let ran = workspace.run(&["config"]);
        assert_eq!(ran.code, 65, "{bad}: {}", ran.all());
    }
}

#[test]
fn later_versions_may_print_more_and_nothing_less() {
    for document in DOCUMENTS {
        let schema = schema(document);
        let text = schema.to_string();
        assert!(!text.contains("\"additionalProperties\":false"), "{text}");
        // Of a problem without a place.
        let optional = ["file", "line", "column", "end_column"];
        let definitions = schema["definitions"].as_object().into_iter().flatten();
        let definitions = definitions.map(|(name, value)| (name.as_str(), value));
        for (definition, value) in definitions.chain([(document, &schema)]) {
            let Some(properties) = value["properties"].as_object() else {
                continue;
            };
            let required: BTreeSet<&str> = value["required"]
                .as_array()
                .expect("names")
                .iter()
                .filter_map(Value::as_str)
                .collect();
            for name in properties.keys() {
                let may_miss = definition == "diagnostic" && optional.contains(&name.as_str());
                assert_eq!(
                    !required.contains(name.as_str()),
                    may_miss,
                    "{definition}.{name}"
                );
            }
        }
    }
}

const MANIFEST: &str = "\
version: 1
uploads:
- {name: all, root: inbox, include: '*', metadata: {name: '${{ file.name }}', year: 2025}}
- {name: again, root: inbox, include: 'twice.txt'}
run: {concurrency: 1, in_doubt: hold}
";

/// Runs that leave all outcomes, each at least once.
fn eventful() -> Workspace {
    let workspace = Workspace::with(MANIFEST, &[("inbox/before.txt", "before")]);
    workspace.write("inbox/twice.txt", "");
    let first = workspace.apply();
    assert_eq!(first.code, 1, "{}", first.all());
    for name in ["lost.bin", "new.txt", "refused.pdf", "z1", "z2"] {
        workspace.write(&format!("inbox/{name}"), name);
    }
    workspace.write(
        "faults.yaml",
        "faults:
- {fault: status, status: 504, stored: true, file: '*.bin'}
- {fault: status, status: 422, file: '*.pdf'}
- {fault: status, status: 401, file: 'z*'}
",
    );
    let args = [
        "apply",
        "manifest.yaml",
        "--sandbox",
        "--faults",
        "faults.yaml",
    ];
    let second = workspace.run(&[&args[..], &["--report", "report.jsonl"]].concat());
    assert_eq!(second.code, 77, "{}", second.all());
    workspace
}

#[test]
fn a_report_fits_its_schema_and_a_damaged_one_does_not() {
    let workspace = eventful();
    let report = workspace.report();
    let outcomes = &report["header"]["outcomes"];
    for (word, files) in outcomes.as_object().expect("counts") {
        assert_ne!(*files, 0, "{word} in {report:#}");
    }
    let validator = validator(&schema("report"));
    assert_fits(&validator, &report);
    for (place, value) in [
        ("/header", None),
        ("/header/format", Some(json!(2))),
        ("/header/started", Some(json!("yesterday"))),
        ("/header/outcomes/stored", None),
        ("/header/exit_code", Some(json!(256))),
        ("/files", Some(json!({}))),
        ("/files/0/path", None),
        ("/files/0/outcome", Some(json!("perhaps"))),
        ("/files/0/size", Some(json!(-1))),
        ("/files/0/blake3", Some(json!("abc"))),
        ("/files/0/metadata", Some(json!({"year": 2025}))),
    ] {
        assert!(
            !validator.is_valid(&damaged(&report, place, value)),
            "{place}"
        );
    }

    let all = workspace.run(&["report", "manifest.yaml", "--all", "--format", "json"]);
    let all: Value = serde_json::from_str(&all.stdout).expect("JSON");
    assert_fits(&validator, &all);
}

#[test]
fn a_report_without_the_ledger_fits_its_schema_and_does_not_know_the_attempts() {
    let workspace = Workspace::with(
        "version: 1\ndefaults: {dataset_id: 3f2b7a52-0000-4000-8000-000000000001}\nuploads:\n\
         - {name: all, root: in, include: '**'}\n",
        &[("in/before.txt", "before")],
    );
    let first = workspace.apply();
    assert_eq!(first.code, 0, "{}", first.all());
    let ledger = Connection::open(workspace.at(".roe-batch/ledger.sqlite")).expect("opens");
    ledger
        .execute_batch(
            "CREATE TRIGGER ruin AFTER INSERT ON transitions
             BEGIN UPDATE plan_chunks SET rows = 'no rows'; END",
        )
        .expect("a trigger");
    for name in ["in/new.txt", "in/refused.pdf"] {
        workspace.write(name, name);
    }
    let faults = "faults: [{fault: status, status: 422, file: '*.pdf'}]\n";
    workspace.write("faults.yaml", faults);
    let apply = ["apply", "manifest.yaml", "--sandbox", "--report", "r.csv"];
    let second = workspace.run(
        &[
            &apply[..],
            &["--report", "r.json", "--faults", "faults.yaml"],
        ]
        .concat(),
    );
    assert_eq!(second.code, 74, "{}", second.all());
    let report = workspace.json("r.json");
    assert_fits(&validator(&schema("report")), &report);
    let rows = report["files"].as_array().expect("rows").iter();
    let said: Vec<_> = rows
        .map(|row| (&row["outcome"], &row["attempts"]))
        .collect();
    let expected = [
        (json!("skipped"), json!(0)),
        (json!("stored"), Value::Null),
        (json!("rejected"), Value::Null),
    ];
    let expected: Vec<_> = expected.iter().map(|(a, b)| (a, b)).collect();
    assert_eq!(said, expected, "{}", second.all());
    let csv = fs::read_to_string(workspace.at("r.csv")).expect("a report");
    let rejected = csv.lines().last().expect("a row");
    // Metadata, and nothing known behind it.
    assert!(rejected.ends_with(",{},,,,,,,"), "{csv}");
}

#[test]
fn the_lines_of_a_report_and_of_a_plan_fit_their_definitions() {
    let workspace = eventful();
    let report = fs::read_to_string(workspace.at("report.jsonl")).expect("a report");
    let plan = workspace.run(&["plan", "manifest.yaml", "--sandbox", "--format", "jsonl"]);
    assert_eq!(plan.code, 0, "{}", plan.all());
    for (document, text) in [("report", report), ("plan", plan.stdout)] {
        let (header, row) = (definition(document, "header"), definition(document, "row"));
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        assert_eq!(lines.len(), 9, "{text}");
        assert_fits(&header, &lines[0]);
        for line in &lines[1..] {
            assert_fits(&row, line);
            assert!(!header.is_valid(line) && !row.is_valid(&lines[0]));
        }
    }
}
