//! The README's commands are run and its outputs compared; its tables are generated.
//!
//! `UPDATE_DOCS=1 cargo test --test readme` writes them anew, and the schemas with them.

mod common;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use snapbox::IntoData;

use common::Workspace;
use roe_batch::manifest::keys::{self, Key};
use roe_batch::sandbox::{FAULT_KINDS, Faults};
use roe_batch::template::{FILTERS, Name};

fn at(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Compares a file with what it should be, or makes it so.
fn keep(name: &str, wanted: &str) {
    let path = at(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(path, wanted).expect("written");
        return;
    }
    let found = fs::read_to_string(path).expect("read");
    // As it is: a backslash before a quote is no path.
    snapbox::assert_data_eq!(found, wanted.to_owned().into_data().raw());
}

/// Runs the commands of one block in a folder where `examples/` lies, and gives the block back
/// with the outputs they have now.
fn rerun(block: &str, workspace: &Workspace) -> String {
    let mut text = String::new();
    for command in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
        let line = command.replace("cargo run --release --", "roe-batch");
        let binary = Path::new(env!("CARGO_BIN_EXE_roe-batch"));
        let tools = binary.parent().expect("a folder").display().to_string();
        let output = Command::new("sh")
            .args(["-c", &format!("{{ {line}\n}} 2>&1")])
            .current_dir(workspace.path())
            .env_clear()
            .env("ROE_BATCH_CONFIG", "")
            .env("PATH", format!("{tools}:/usr/local/bin:/usr/bin:/bin"))
            .output()
            .expect("a shell");
        let shown = String::from_utf8(output.stdout).expect("UTF-8");
        let _ = write!(text, "$ {command}\n{}", shown.trim_end_matches('\n'));
        if !shown.is_empty() {
            text.push('\n');
        }
    }
    text
}

fn with_outputs(readme: &str) -> String {
    let workspace = Workspace::new();
    for (file, bytes) in example_files() {
        workspace.write(&file, bytes);
    }
    let mut text = String::new();
    let mut rest = readme;
    while let Some(start) = rest
        .find("```console\n")
        .map(|at| at + "```console\n".len())
    {
        let end = start + rest[start..].find("```").expect("a closed block");
        text.push_str(&rest[..start]);
        text.push_str(&rerun(&rest[start..end], &workspace));
        rest = &rest[end..];
    }
    text + rest
}

fn example_files() -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for example in ["quickstart", "nightly-invoices"] {
        let copy = Workspace::example(example);
        let mut open = vec![copy.path().to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).expect("listed") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    open.push(path);
                } else {
                    let below = path.strip_prefix(copy.path()).expect("below");
                    let name = format!("examples/{example}/{}", below.to_str().expect("UTF-8"));
                    files.push((name, fs::read(path).expect("read")));
                }
            }
        }
    }
    files
}

fn generated(readme: &str, name: &str, content: &str) -> String {
    let begin = format!("<!-- generated: {name} -->\n");
    let start = readme.find(&begin).expect("the marker") + begin.len();
    let end = start + readme[start..].find("<!-- end -->").expect("the end");
    format!("{}{content}{}", &readme[..start], &readme[end..])
}

fn key_table() -> String {
    let mut text = String::new();
    for (title, keys) in [
        ("Top", keys::MANIFEST),
        ("`uploads`, each", keys::RULE),
        ("`table`", keys::TABLE),
        ("`sidecar`, as a mapping", keys::SIDECAR),
        ("`run`", keys::RUN),
        ("`on_finish`, each", keys::HOOK),
    ] {
        let _ = writeln!(text, "| {title} | is | default |\n|---|---|---|");
        for Key {
            name,
            doc,
            default,
            required,
            ..
        } in keys
        {
            let default = match (default.is_empty(), required) {
                (false, _) => *default,
                (true, true) => "required",
                (true, false) => "see there",
            };
            let _ = writeln!(text, "| `{name}` | {doc} | {default} |");
        }
        text.push('\n');
    }
    text
}

fn name_table() -> String {
    let mut text = "| name | is |\n|---|---|\n".to_owned();
    for (_, name, meaning) in Name::ALL {
        let _ = writeln!(text, "| `{name}` | {meaning} |");
    }
    for (name, meaning) in [
        ("vars.NAME", "a constant of `vars`"),
        ("capture.NAME", "what a named group of `capture` matches"),
        (
            "row.COLUMN",
            "the cell of the file's row; `row[\"Any Column\"]` where the name is no word",
        ),
        ("sidecar.NAME", "an entry of the file's sidecar"),
        (
            "env.NAME",
            "the environment variable `NAME`, never the API key; `env(\"NAME\", \"text\")` where it may be unset",
        ),
    ] {
        let _ = writeln!(text, "| `{name}` | {meaning} |");
    }
    text
}

fn filter_table() -> String {
    let mut text = "| filter | yields | example | is |\n|---|---|---|---|\n".to_owned();
    let cell = |text: &str| text.replace('|', "\\|");
    for filter in &FILTERS {
        let (signature, meaning) = (cell(filter.signature), cell(filter.meaning));
        let (example, yields) = (cell(filter.example), cell(filter.yields));
        let _ = writeln!(
            text,
            "| `{signature}` | {meaning} | `{example}` | `{yields}` |"
        );
    }
    text
}

fn fault_table() -> String {
    let mut text = "| fault | does | `file` | `on: any` |\n|---|---|---|---|\n".to_owned();
    let tick = |is: bool| if is { "yes" } else { "" };
    for kind in FAULT_KINDS {
        let (name, doc) = (kind.name, kind.doc);
        let (file, any) = (tick(kind.knows_the_file()), tick(kind.hits_any_request()));
        let _ = writeln!(text, "| `{name}` | {doc} | {file} | {any} |");
    }
    text
}

#[test]
fn the_example_of_a_bad_day_and_the_readmes_plan_are_plans() {
    let readme = fs::read_to_string(at("README.md")).expect("a README");
    let plan = readme
        .split("```yaml\n")
        .find(|text| text.starts_with("seed:"));
    let plan = plan.and_then(|rest| rest.split("```").next());
    let example = fs::read_to_string(at("examples/faults/bad-day.yaml")).expect("a plan");
    for text in [plan.expect("a plan"), &example] {
        Faults::parse(text).expect(text);
    }
}

#[test]
fn the_readme_shows_what_its_commands_print_and_its_tables_are_the_codes_own() {
    let readme = fs::read_to_string(at("README.md")).expect("a README");
    let readme = with_outputs(&readme);
    let readme = generated(&readme, "manifest keys", &key_table());
    let readme = generated(&readme, "template names", &name_table());
    let readme = generated(&readme, "filters", &filter_table());
    let readme = generated(&readme, "faults", &fault_table());
    keep("README.md", &readme);
}

#[test]
fn the_schema_in_the_tree_is_the_one_the_binary_prints() {
    let printed = Workspace::new().run(&["schema"]);
    assert_eq!(printed.code, 0);
    keep("schema/manifest.schema.json", &printed.stdout);
    for document in [
        "manifest",
        "plan",
        "report",
        "diagnostics",
        "summary",
        "config",
    ] {
        let printed = Workspace::new().run(&["schema", document]);
        assert_eq!(printed.code, 0, "{}", printed.all());
        keep(&format!("schema/{document}.schema.json"), &printed.stdout);
    }
}

#[test]
fn the_examples_fit_the_schema_and_mistakes_do_not() {
    let validator = jsonschema::validator_for(&roe_batch::manifest::schema()).expect("a schema");
    let example = fs::read_to_string(at("examples/quickstart/manifest.yaml")).expect("a manifest");
    let json = |text: &str| -> serde_json::Value { serde_yaml::from_str(text).expect("YAML") };
    assert!(validator.is_valid(&json(&example)));
    let rule = "version: 1\nuploads: [{name: a, root: ., include: '*'";
    assert!(validator.is_valid(&json(&format!("{rule}}}]"))));
    for bad in [
        "version: 2\nuploads: [{name: a}]".to_owned(),
        "version: 1".to_owned(),
        format!("{rule}, inlcude: x}}]"),
        format!("{rule}, metadata: {{k: null}}}}]"),
        format!("{rule}, on_empty: perhaps}}]"),
        format!("{rule}}}]\nrun: {{concurrency: 0}}"),
        "version: 1\nuploads: []".to_owned(),
    ] {
        assert!(!validator.is_valid(&json(&bad)), "{bad}");
    }
}

/// Blocks of YAML that begin with `run:`.
#[test]
fn the_readmes_run_settings_are_understood_and_fit_the_schema() {
    let validator = jsonschema::validator_for(&roe_batch::manifest::schema()).expect("a schema");
    let readme = fs::read_to_string(at("README.md")).expect("a README");
    let blocks = readme.split("```yaml\nrun:").skip(1);
    let mut seen = 0;
    for block in blocks {
        let settings = block.split("```").next().expect("a block");
        let manifest = format!(
            "version: 1\nuploads: [{{name: a, root: ., include: '*.txt'}}]\nrun:{settings}"
        );
        let json: serde_json::Value = serde_yaml::from_str(&manifest).expect("YAML");
        assert!(validator.is_valid(&json), "{manifest}");
        let workspace = Workspace::with(&manifest, &[("a.txt", "a")]);
        let ran = workspace.run(&["plan", "manifest.yaml", "--sandbox"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
        seen += 1;
    }
    assert!(seen > 0);
}

#[test]
fn every_exit_code_and_variable_of_the_readme_is_in_the_code() {
    let readme = fs::read_to_string(at("README.md")).expect("a README");
    let sources = [
        "src/cli/mod.rs",
        "src/cli/table.rs",
        "src/cli/uploads.rs",
        "src/error.rs",
    ]
    .map(|name| fs::read_to_string(at(name)).expect("a source"))
    .concat();
    let mut found = 0;
    for word in readme.split('`').filter(|w| w.starts_with("ROE_")) {
        assert!(sources.contains(word), "{word}");
        found += 1;
    }
    assert!(found >= 8);
    for code in [2, 64, 65, 69, 70, 74, 75, 76, 77, 129, 130, 143] {
        assert!(sources.contains(&code.to_string()) && readme.contains(&code.to_string()));
    }
}

#[test]
fn the_queries_and_columns_of_the_readme_are_the_ledgers() {
    let workspace = Workspace::example("quickstart");
    assert_eq!(workspace.apply().code, 0);
    let ledger = rusqlite::Connection::open(workspace.at(".roe-batch/ledger.sqlite"));
    let ledger = ledger.expect("a database");
    let readme = fs::read_to_string(at("README.md")).expect("a README");
    let queries = readme
        .split("```sql\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("queries");
    for query in queries.lines() {
        let mut statement = ledger.prepare(query).expect(query);
        let mut rows = statement.query([]).expect(query);
        assert!(rows.next().expect(query).is_some(), "{query}");
    }
    for view in ["files", "runs", "in_doubt", "planned"] {
        let statement = ledger
            .prepare(&format!("SELECT * FROM {view}"))
            .expect("a view");
        let begin = format!("| `{view}` |");
        let line = readme
            .lines()
            .find(|line| line.starts_with(&begin) && line.contains("`run_id`"));
        let line = line.expect("a row in the README");
        for column in statement.column_names() {
            let is_named = line.contains(&format!("`{column}`"));
            assert!(is_named || line.contains("the outcomes"), "{view}.{column}");
        }
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "for people who ask with --nocapture")]
fn a_comparison_that_could_not_put_its_tables_anywhere_does_not_begin() {
    let workspace = Workspace::with("", &[("unmarked.md", "no place for tables\n")]);
    let no_text = workspace.at("no-text.md");
    fs::write(&no_text, [0xff, 0xfe]).expect("written");
    let folder = workspace.path().to_owned();
    for place in [
        workspace.at("missing.md"),
        workspace.at("unmarked.md"),
        no_text,
        folder,
    ] {
        let ran = Command::new("python3")
            .arg(at("benches/compare/run"))
            .arg("--readme")
            .arg(&place)
            .output();
        let Ok(ran) = ran else {
            eprintln!("passed over: there is no python3");
            return;
        };
        let said = String::from_utf8(ran.stderr).expect("UTF-8");
        assert_eq!(ran.status.code(), Some(2), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains(place.to_str().expect("UTF-8")), "{said}");
    }
}
