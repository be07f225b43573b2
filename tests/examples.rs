//! Every example does what the comment at its head says.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use common::Workspace;
use roe_batch::sandbox::{StoredFile, records};
use serde_json::{Value, json};

/// Examples with a manifest; the first is the README's, and has its own tests.
const EXAMPLES: [&str; 6] = [
    "quickstart",
    "hot-folder",
    "migration",
    "nightly-invoices",
    "research-images",
    "two-targets",
];

const DATASET_1: &str = "3f2b7a52-0000-4000-8000-000000000001";
const DATASET_2: &str = "3f2b7a52-0000-4000-8000-000000000002";

/// 2026-01-02T03:04:05Z, when all files of an example changed last.
const CHANGED: Duration = Duration::from_secs(1_767_323_045);

fn manifest(name: &str) -> String {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    fs::read_to_string(examples.join(name).join("manifest.yaml")).expect("a manifest")
}

fn example(name: &str) -> Workspace {
    let workspace = Workspace::example(name);
    let mut open = vec![workspace.path().to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                set_time(&path, SystemTime::UNIX_EPOCH + CHANGED);
            }
        }
    }
    workspace
}

fn set_time(path: &Path, time: SystemTime) {
    let file = File::options().write(true).open(path).expect("a file");
    file.set_times(FileTimes::new().set_modified(time))
        .expect("its times");
}

fn assert_checked(workspace: &Workspace) {
    let ran = workspace.run(&["check", "manifest.yaml", "--strict"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
}

/// What is planned to be uploaded: paths and predicted names, in the plan's order.
fn planned(workspace: &Workspace) -> Vec<(String, String)> {
    let args = ["plan", "manifest.yaml", "--sandbox", "--format", "json"];
    let ran = workspace.run(&args);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", ran.all());
    let plan: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let rows = plan["files"].as_array().expect("rows");
    let text = |row: &Value, key: &str| row[key].as_str().expect("a text").to_owned();
    rows.iter()
        .filter(|row| row["action"] == "upload")
        .map(|row| (text(row, "path"), text(row, "stored_name")))
        .collect()
}

/// What the sandbox has: by dataset and name, the metadata and the path of the bytes.
fn stored(workspace: &Workspace) -> BTreeMap<(String, String), StoredFile> {
    let files = records(&workspace.at(".roe-batch/sandbox")).expect("records");
    let count = files.len();
    let stored: BTreeMap<_, _> = files
        .into_iter()
        .map(|file| ((file.dataset_id.clone(), file.name.clone()), file))
        .collect();
    assert_eq!(stored.len(), count, "nothing is stored twice");
    stored
}

/// Carries the example out, and looks whether the sandbox has exactly these: dataset, name, where
/// its bytes come from, metadata. A second run must send nothing.
fn assert_stores(workspace: &Workspace, expected: &[(&str, &str, &str, Value)]) {
    let plan = planned(workspace);
    let mut names: Vec<(&str, &str)> = plan
        .iter()
        .map(|(path, name)| (path.as_str(), name.as_str()))
        .collect();
    let mut wanted: Vec<(&str, &str)> = expected.iter().map(|e| (e.2, e.1)).collect();
    names.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(names, wanted, "the plan says so beforehand");

    let ran = workspace.apply();
    assert_eq!(ran.code, 0, "{}", ran.all());
    let found = stored(workspace);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (dataset, name, path, metadata) in expected {
        let key = ((*dataset).to_owned(), (*name).to_owned());
        let file = found
            .get(&key)
            .unwrap_or_else(|| panic!("no {name} in {found:#?}"));
        assert_eq!(&Value::Object(file.metadata.clone()), metadata, "{name}");
        let sent = fs::read(workspace.at(path)).expect("the source");
        assert_eq!(fs::read(&file.path).expect("the bytes"), sent, "{name}");
    }

    let again = workspace.apply();
    assert_eq!(again.code, 0, "{}", again.all());
    assert!(
        again.stdout.contains("nothing to upload"),
        "{}",
        again.all()
    );
    assert_eq!(stored(workspace).len(), expected.len());
}

#[test]
fn every_example_is_known_here_and_checked_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut found: Vec<String> = fs::read_dir(folder)
        .expect("listed")
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().join("manifest.yaml").is_file())
        .map(|entry| entry.file_name().into_string().expect("a name"))
        .collect();
    found.sort();
    let mut known = EXAMPLES.to_vec();
    known.sort_unstable();
    assert_eq!(found, known);
    for name in known {
        assert_checked(&example(name));
    }
}

#[test]
fn every_example_fits_the_schema() {
    let validator = jsonschema::validator_for(&roe_batch::manifest::schema()).expect("a schema");
    for name in EXAMPLES {
        let manifest: Value = serde_yaml::from_str(&manifest(name)).expect("YAML");
        assert!(validator.is_valid(&manifest), "{name}");
    }
}

#[test]
fn what_an_example_says_to_try_can_be_tried() {
    for name in &EXAMPLES[1..] {
        let workspace = example(name);
        let text = manifest(name);
        let (_, tried) = text.split_once("# Try it:").expect("a hint");
        let (tried, _) = tried.split_once("\nversion:").expect("a manifest");
        let tried = tried.replace("\\\n#", "").replace('#', "");
        for line in tried.lines() {
            let line = line.replace(&format!("examples/{name}/"), "");
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(words[0], "roe-batch", "{line}");
            let ran = workspace.run(&words[1..]);
            assert_eq!(ran.code, 0, "{line}\n{}", ran.all());
        }
        assert!(!stored(&workspace).is_empty(), "{name}");
    }
}

#[test]
fn nightly_invoices_have_their_data_from_path_and_export() {
    let workspace = example("nightly-invoices");
    let metadata =
        |month: &str, vendor: &str, customer: &str, total: &str, currency: &str, paid: &str| {
            json!({
                "period": format!("2026-{month}"),
                "vendor": vendor,
                "paid": paid,
                "customer": customer,
                "total": total,
                "currency": currency,
            })
        };
    assert_stores(
        &workspace,
        &[
            (
                DATASET_1,
                "acme-INV-2041.pdf",
                "inbox/2026/04/acme/INV-2041.pdf",
                metadata("04", "Acme", "0017", "1180.00", "EUR", "true"),
            ),
            (
                DATASET_1,
                "globex-INV-2042.pdf",
                "inbox/2026/04/globex/INV-2042.pdf",
                metadata("04", "Globex", "0023", "79.90", "EUR", "true"),
            ),
            (
                DATASET_1,
                "acme-INV-2043.pdf",
                "inbox/2026/05/acme/INV-2043.pdf",
                metadata("05", "Acme", "0017", "2360.00", "EUR", "false"),
            ),
            (
                DATASET_1,
                "globex-INV-2044.pdf",
                "inbox/2026/05/globex/INV-2044.pdf",
                metadata("05", "Globex", "0023", "455.10", "USD", "false"),
            ),
            (
                DATASET_1,
                "initech-INV-2045.pdf",
                "inbox/2026/05/initech/INV-2045.pdf",
                metadata("05", "Initech", "0031", "13.00", "USD", "false"),
            ),
        ],
    );
    let runs = fs::read_dir(workspace.at("reports")).expect("reports");
    assert_eq!(runs.count(), 3, "a CSV for each run, and the latest JSON");
}

#[test]
fn an_invoice_that_the_export_does_not_know_is_an_error_before_anything_is_sent() {
    let workspace = example("nightly-invoices");
    workspace.write("inbox/2026/05/acme/INV-9999.pdf", "unknown");
    let ran = workspace.apply();
    assert_eq!(ran.code, 65, "{}", ran.all());
    assert!(ran.stderr.contains("INV-9999"), "{}", ran.all());
    assert!(stored(&workspace).is_empty());
}

#[test]
fn research_images_are_described_by_their_sidecars() {
    let workspace = example("research-images");
    let size = |path: &str| {
        let found = fs::metadata(workspace.at(path)).expect("an image");
        found.len().to_string()
    };
    let image = |plate: &str, well: &str, more: Value| {
        let path = format!("images/{plate}/{well}.png");
        let mut metadata = json!({
            "licence": "CC-BY-4.0",
            "bytes": size(&path),
            "plate": plate,
            "well": well,
        });
        let (all, more) = (metadata.as_object_mut(), more.as_object());
        all.expect("an object")
            .extend(more.expect("an object").clone());
        (format!("{plate}_{well}.png"), path, metadata)
    };
    let images = [
        image(
            "plate-1",
            "A01",
            json!({"sample": "007", "stain": "DAPI", "exposure_ms": "12.50"}),
        ),
        image(
            "plate-1",
            "A02",
            json!({
                "sample": "008",
                "stain": "DAPI",
                "exposure_ms": "12.50",
                "licence": "CC0-1.0",
            }),
        ),
        image(
            "plate-2",
            "A01",
            json!({"sample": "011", "stain": "GFP", "exposure_ms": "40.00"}),
        ),
        image(
            "plate-2",
            "B03",
            json!({
                "sample": "012",
                "stain": "GFP",
                "exposure_ms": "40.00",
                "remark": "out of focus at the left edge\n",
            }),
        ),
    ];
    let expected: Vec<_> = images
        .iter()
        .map(|(name, path, metadata)| (DATASET_1, name.as_str(), path.as_str(), metadata.clone()))
        .collect();
    assert_stores(&workspace, &expected);

    workspace.write(
        "images/plate-1/A01.png.meta.yaml",
        "sample: 009\nstain: DAPI\n",
    );
    assert_eq!(planned(&workspace).len(), 1, "its sidecar was corrected");
    fs::remove_file(workspace.at("images/plate-1/A02.png.meta.yaml")).expect("removed");
    let ran = workspace.apply();
    assert_eq!(ran.code, 1, "{}", ran.all());
    assert!(
        ran.stdout.contains("A02.png.meta.yaml is missing"),
        "{}",
        ran.all()
    );
    let files = records(&workspace.at(".roe-batch/sandbox")).expect("records");
    assert_eq!(files.len(), 5, "the corrected one is sent all the same");
}

#[test]
fn a_hot_folder_leaves_what_is_still_being_written_to_the_next_run() {
    let workspace = example("hot-folder");
    let late = workspace.at("incoming/scan-0005.pdf");
    set_time(&late, SystemTime::now());
    let scan = |number: &str| {
        let metadata = json!({"scanned": "2026-01-02", "source": "scanner"});
        let name = format!("scan-{number}.pdf");
        (name.clone(), format!("incoming/{name}"), metadata)
    };
    let scans = [scan("0001"), scan("0002")];
    let expected: Vec<_> = scans
        .iter()
        .map(|(name, path, metadata)| (DATASET_1, name.as_str(), path.as_str(), metadata.clone()))
        .collect();
    assert_stores(&workspace, &expected);

    set_time(&late, SystemTime::UNIX_EPOCH + CHANGED);
    assert_eq!(
        planned(&workspace),
        [(
            "incoming/scan-0005.pdf".to_owned(),
            "scan-0005.pdf".to_owned()
        )]
    );
    assert_eq!(workspace.apply().code, 0);
    assert_eq!(stored(&workspace).len(), 3);
}

#[test]
fn an_empty_hot_folder_is_no_error() {
    let workspace = example("hot-folder");
    for entry in fs::read_dir(workspace.at("incoming")).expect("listed") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    assert_checked(&workspace);
    let ran = workspace.apply();
    assert_eq!(ran.code, 0, "{}", ran.all());
}

#[test]
fn two_targets_have_each_their_own_names_and_metadata() {
    let workspace = example("two-targets");
    let archived = |path: &str| json!({"team": "headquarters", "path": path});
    let contract = |customer: &str, year: &str| json!({"team": "headquarters", "customer": customer, "year": year});
    let paths = [
        "contracts/acme-2025.pdf",
        "contracts/globex-2026.pdf",
        "letters/2026-01-12 acme.txt",
        "letters/2026-02-03 globex.txt",
        "logo.png",
    ];
    let below: Vec<String> = paths.iter().map(|path| format!("archive/{path}")).collect();
    let mut expected: Vec<_> = paths
        .iter()
        .zip(&below)
        .map(|(path, below)| {
            let name = path.rsplit('/').next().expect("a name");
            (DATASET_1, name, below.as_str(), archived(path))
        })
        .collect();
    expected.push((
        DATASET_2,
        "2025 ACME.pdf",
        &below[0],
        contract("acme", "2025"),
    ));
    expected.push((
        DATASET_2,
        "2026 GLOBEX.pdf",
        &below[1],
        contract("globex", "2026"),
    ));
    assert_stores(&workspace, &expected);
}

#[test]
fn a_variable_of_the_manifest_can_be_set_for_a_run() {
    let workspace = example("two-targets");
    let args = ["apply", "manifest.yaml", "--sandbox", "--set", "team=emea"];
    let ran = workspace.run(&args);
    assert_eq!(ran.code, 0, "{}", ran.all());
    for file in stored(&workspace).values() {
        assert_eq!(file.metadata["team"], "emea");
    }
}

#[test]
fn a_migration_adopts_what_is_uploaded_and_sends_the_rest() {
    let workspace = example("migration");
    let import = [
        "import",
        "manifest.yaml",
        "uploaded.csv",
        "--ignore-missing",
        "--sandbox",
    ];
    let ran = workspace.run(&import);
    assert_eq!(ran.code, 0, "{}", ran.all());
    assert_eq!(
        ran.stdout,
        "imported 3 files, 1 not in the plan and left out\n"
    );

    let record = |number: &str, title: &str, year: &str| json!({"number": number, "title": title, "year": year});
    assert_stores(
        &workspace,
        &[
            (
                DATASET_1,
                "0003 move to Lyon.txt",
                "records/0003 move to Lyon.txt",
                record("0003", "Move To Lyon", "unknown"),
            ),
            (
                DATASET_1,
                "0105 minutes.txt",
                "records/1999/0105 minutes.txt",
                record("0105", "Minutes", "1999"),
            ),
            (
                DATASET_1,
                "0231 minutes.txt",
                "records/2004/0231 minutes.txt",
                record("0231", "Minutes", "2004"),
            ),
        ],
    );
    let report = workspace.run(&["report", "manifest.yaml", "--all", "--format", "csv"]);
    assert!(
        report
            .stdout
            .contains("5b0c1f0e-0000-4000-8000-000000000003"),
        "{}",
        report.all()
    );
    let rows = fs::read_to_string(workspace.at("reports/latest.csv")).expect("a report");
    assert_eq!(rows.lines().count(), 7, "{rows}");
}
