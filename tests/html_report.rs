//! The report as a page: it has the rows of the JSON, whatever names are in them, and works in a
//! real browser.

mod common;

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use common::Workspace;
use jiff::Timestamp;
use regex::Regex;
use roe_batch::ledger::RunRow;
use roe_batch::model::{
    DatasetId, Digest, End, Metadata, Origin, Outcome, ReportFormat, RunId, Target,
};
use roe_batch::report::{About, Counts, Header, Reports, row_of_ledger};
use serde_json::{Map, Value, json};

const MANIFEST: &str = "\
version: 1
name: pages
uploads:
- name: all
  root: in
  include: '**'
  metadata: {path: '${{ file.path }}', kind: '</script><script>alert(1)</script><!--'}
run: {concurrency: 1}
";

const FAULTS: &str = "\
faults:
- {fault: status, status: 422, file: '*.pdf'}
- {fault: status, status: 503, retry_after: 1s, count: 1}
";

/// Names that would do something, in a place where they could.
const HOSTILE: [&str; 6] = [
    "in/a</script><script>document.title='owned'/x",
    "in/<!--<script>.txt",
    "in/<img src=x onerror=document.title='owned'>",
    "in/b\u{202e}fdp.exe\u{2028}",
    "in/new\nline\u{7f}",
    "in/{{facts}}\"'&amp;",
];

/// A run of files with such names, and two that are refused.
fn hostile() -> Workspace {
    let workspace = Workspace::with(MANIFEST, &[("in/one.pdf", "12345"), ("in/two.pdf", "1")]);
    for name in HOSTILE {
        workspace.write(name, name);
    }
    workspace.write("faults.yaml", FAULTS);
    let apply =
        "apply manifest.yaml --sandbox --faults faults.yaml --report r.html --report r.json";
    let ran = workspace.run(&apply.split(' ').collect::<Vec<_>>());
    assert_eq!(ran.code, 1, "{}", ran.all());
    workspace
}

/// What stands in elements that begin so, which all end as scripts do.
fn scripts(page: &str, begin: &str) -> Vec<Value> {
    let parts = page.split(begin).skip(1);
    let texts = parts.map(|part| part.split("</script>").next().expect("an end"));
    texts
        .map(|text| serde_json::from_str(text).expect("JSON"))
        .collect()
}

/// When the run's uploads waited; the ledger does not know.
fn pauses(page: &str) -> Value {
    let told = scripts(page, "<script type=\"application/json\" id=\"told\">").remove(0);
    told["pauses"].clone()
}

/// The report as JSON has it, read from the page.
fn read(page: &str) -> Value {
    let told = scripts(page, "<script type=\"application/json\" id=\"told\">").remove(0);
    let columns: Vec<&str> = told["columns"]
        .as_array()
        .expect("columns")
        .iter()
        .map(|column| column.as_str().expect("a name"))
        .collect();
    let mut above = vec![Value::Null; columns.len()];
    let mut rows = Vec::new();
    for chunk in scripts(page, "<script type=\"application/json\" class=\"rows\">") {
        for row in chunk.as_array().expect("rows") {
            let mut read = Map::new();
            for (place, column) in columns.iter().enumerate() {
                let mut cell = row[place].clone();
                if cell == 0 && !["size", "attempts", "http_status"].contains(column) {
                    cell = above[place].clone();
                } else if !cell.is_null() {
                    above[place] = cell.clone();
                }
                read.insert((*column).to_owned(), cell);
            }
            rows.push(Value::Object(read));
        }
    }
    json!({"header": told["header"], "files": rows})
}

#[test]
fn a_page_has_the_header_and_the_rows_of_the_json_whatever_their_names() {
    let workspace = hostile();
    let page = fs::read_to_string(workspace.at("r.html")).expect("a page");
    let json = workspace.json("r.json");
    assert_eq!(read(&page), json);
    assert_eq!(
        json["files"].as_array().expect("rows").len(),
        HOSTILE.len() + 2
    );
    assert_eq!(json["header"]["bytes"]["rejected"], 6);
    let pauses = pauses(&page);
    assert_eq!(pauses.as_array().map(Vec::len), Some(1), "{pauses:?}");
    // What it is told, one chunk of rows, and its script.
    assert_eq!(page.matches("<script").count(), 3);
    assert_eq!(page.matches("</script").count(), 3);
    assert_eq!(page.matches("<!--").count(), 0);
    assert_eq!(page.matches("<img").count(), 0);
}

#[test]
fn a_page_says_what_a_run_came_to_without_its_script() {
    let workspace = hostile();
    let page = fs::read_to_string(workspace.at("r.html")).expect("a page");
    let plain = page.split("<script").next().expect("the page");
    for said in [
        "2 of 8 files not known to be stored.",
        "<dt>Exit code</dt><dd>1</dd>",
        "<noscript>",
        "roe-batch report MANIFEST",
    ] {
        assert!(plain.contains(said), "{said}: {plain}");
    }
    let rejected =
        Regex::new("rejected</a></th><td[^>]*>2</td><td[^>]*>6 B</td>").expect("a pattern");
    assert!(rejected.is_match(plain), "{plain}");
}

#[test]
fn a_page_is_had_again_from_the_ledger_and_of_all_files() {
    let workspace = hostile();
    for (words, of_run) in [("--format html", true), ("--all --format html", false)] {
        let command = format!("report manifest.yaml {words}");
        let ran = workspace.run(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(ran.code, 0, "{}", ran.all());
        let report = read(&ran.stdout);
        assert_eq!(report["header"]["run_id"].is_string(), of_run);
        assert!(pauses(&ran.stdout).is_null());
        let rows = report["files"].as_array().expect("rows").len();
        assert_eq!(report["header"]["planned"], rows);
        assert!(rows >= HOSTILE.len());
    }
    let again = workspace.run(&["report", "manifest.yaml", "--out", "again.HTML"]);
    assert_eq!(again.code, 0, "{}", again.all());
    let again = fs::read_to_string(workspace.at("again.HTML")).expect("a page");
    assert_eq!(read(&again)["files"], workspace.json("r.json")["files"]);
}

/// A page as a browser has it after its script ran; none where there is no browser.
#[expect(clippy::print_stderr, reason = "says what is passed over")]
fn browse(page: &Path, fragment: &str) -> Option<String> {
    let home = tempfile::tempdir().expect("a folder");
    let output = Command::new("chromium")
        .args([
            "--headless",
            // A container's root has no sandbox, and the page is our own.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--enable-logging=stderr",
            "--window-size=1400,2000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", home.path().display()))
        .arg(format!("file://{}{fragment}", page.display()))
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", home.path())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("skipped: no chromium here");
            return None;
        }
        Err(error) => panic!("chromium: {error}"),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    // Whatever a page's script throws, and whatever its policy forbids, is said on the console.
    assert!(!said.contains("CONSOLE"), "{said}");
    let dom = String::from_utf8(output.stdout).expect("UTF-8");
    // The rows as they were read are no news, and long.
    let mut parts = dom.split("<script type=\"application/json\"");
    let mut shown = parts.next().expect("a page").to_owned();
    for part in parts {
        shown.push_str(part.split_once("</script>").expect("an end").1);
    }
    Some(shown)
}

/// The first thing that a pattern's group finds.
fn found<'a>(text: &'a str, pattern: &str) -> &'a str {
    let pattern = Regex::new(pattern).expect("a pattern");
    let found = pattern
        .captures(text)
        .unwrap_or_else(|| panic!("{pattern}"));
    found.get(1).expect("a group").as_str()
}

fn status(dom: &str) -> &str {
    found(dom, "<p id=\"status\" role=\"status\">([^<]*)</p>")
}

/// The paths in the table, as far as they are drawn.
fn paths(dom: &str) -> Vec<String> {
    let path = Regex::new("<button class=\"path\"[^>]*>(.*?)</button>").expect("a pattern");
    path.captures_iter(dom)
        .map(|found| found[1].to_owned())
        .collect()
}

#[test]
fn a_browser_shows_hostile_names_and_runs_none() {
    let workspace = hostile();
    let Some(dom) = browse(&workspace.at("r.html"), "") else {
        return;
    };
    assert_eq!(
        found(&dom, "<title>([^<]*)</title>"),
        "pages – roe-batch report"
    );
    assert_eq!(status(&dom), "8 files");
    let paths = paths(&dom);
    assert_eq!(paths.len(), 8);
    for shown in [
        "in/a&lt;/script&gt;&lt;script&gt;document.title='owned'/x",
        "in/&lt;!--&lt;script&gt;.txt",
        "in/b<span class=\"unseen\">U+202E</span>fdp.exe<span class=\"unseen\">U+2028</span>",
        "in/new<span class=\"unseen\">U+000A</span>line<span class=\"unseen\">U+007F</span>",
    ] {
        assert!(
            paths.iter().any(|path| path == shown),
            "{shown}: {paths:#?}"
        );
    }
    // The element that a name wanted to be is none.
    assert!(!dom.contains("<img"));
    // Charts are drawn, each with a table of the same, and the pause is told.
    assert_eq!(dom.matches("<svg role=\"img\" aria-label=").count(), 3);
    assert_eq!(dom.matches("<summary>As a table</summary>").count(), 3);
    assert!(dom.contains("<h3>Pauses</h3>"));
    assert!(dom.contains("class=\"pause\""));
    let reason = found(
        &dom,
        "(?s)id=\"reasons\".*?<td class=\"number\">2</td>.*?<a href=\"([^\"]*)\"",
    );
    let fragment = reason.replace("&amp;", "&");
    let dom = browse(&workspace.at("r.html"), &fragment).expect("a browser");
    assert_eq!(status(&dom), "2 of 8 files");
}

#[test]
fn a_browser_opens_one_file_with_its_metadata() {
    let workspace = hostile();
    let Some(dom) = browse(&workspace.at("r.html"), "#row=1") else {
        return;
    };
    let details = found(&dom, "(?s)<dialog id=\"details\"([^>]*open.*?)</dialog>");
    let row = &workspace.json("r.json")["files"][0];
    for column in ["file_id", "blake3", "request_id"] {
        let value = row[column].as_str().expect(column);
        assert!(details.contains(value), "{column}: {details}");
    }
    assert!(details.contains("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;!--"));
}

const MANY: usize = 100_000;

/// A report of so many files: every tenth is rejected, and sizes go up and down.
fn many(page: &Path) {
    let target = Arc::new(Target {
        origin: Origin::new("sandbox"),
        organization_id: None,
        dataset_id: Some(DatasetId::new("3f2b7a52-0000-4000-8000-000000000001")),
    });
    let second = |second: usize| {
        let second = i64::try_from(second).expect("a small number");
        Some(Timestamp::from_second(1_700_000_000 + second).expect("a time"))
    };
    let mut counts = Counts::default();
    let mut reports = Reports::begin(&[(page.to_owned(), ReportFormat::Html)]);
    for index in 0..MANY {
        let is_rejected = index % 10 == 7;
        let outcome = if is_rejected {
            Outcome::Rejected
        } else {
            Outcome::Stored
        };
        let name = format!("invoice-{index:06}.pdf");
        let id = format!("01a22459-518b-7188-812d-{index:012}");
        let metadata = Metadata::open([("number".to_owned(), index.to_string())]);
        let reason = format!("HTTP 422: {name} is no invoice");
        let row = RunRow {
            rule: if index % 2 == 0 { "even" } else { "odd" },
            target: &target,
            path: &format!("in/{}/{name}", index / 1000),
            remote_name: Some(&name),
            size: Some(u64::try_from(index * 7919 % MANY).expect("a size")),
            content_type: Some("application/pdf"),
            metadata: Some(metadata.as_shown()),
            end: End {
                reason: is_rejected.then_some(&reason),
                file_id: (!is_rejected).then_some(&id),
                digest: Some(Digest([u8::try_from(index % 256).expect("a byte"); 32])),
                attempts: 1 + u32::from(index % 100 == 0),
                http_status: Some(if is_rejected { 422 } else { 200 }),
                request_id: Some(&id),
                started: second(index / 100),
                finished: second(index / 100 + index % 3),
                returned_name: Some(&name),
                ..End::without_attempt(outcome)
            },
        };
        let row = row_of_ledger(&row);
        counts.add(&row);
        reports.row(&row);
    }
    let about = About {
        manifest: "many".to_owned(),
        run_id: Some(RunId::new("run-1")),
        started: second(0),
        finished: second(MANY / 100 + 2),
        exit_code: Some(1),
        ..About::default()
    };
    for (_, result) in reports.finish(&Header::new(about, &counts)) {
        result.expect("written");
    }
}

#[test]
fn a_browser_searches_and_sorts_a_hundred_thousand_files_and_draws_few() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("many.html");
    many(&page);
    let Some(dom) = browse(&page, "") else {
        return;
    };
    assert_eq!(status(&dom), "100,000 files");
    let drawn = paths(&dom);
    assert_eq!(drawn[0], "in/0/invoice-000000.pdf");
    assert!((20..200).contains(&drawn.len()), "{}", drawn.len());
    assert!(dom.contains("aria-rowcount=\"100001\""));
    let order = "<th[^>]*data-column=\"row\"[^>]*aria-sort=\"([a-z]*)\"";
    assert_eq!(found(&dom, order), "ascending");
    // Reasons that differ only in a file's name are one.
    let reasons = found(&dom, "(?s)id=\"reasons\".*?<tbody>(.*?)</tbody>");
    assert_eq!(reasons.matches("<tr>").count(), 1, "{reasons}");
    assert!(reasons.contains(">10,000</td>") && reasons.contains(">HTTP 422: … is no invoice</a>"));

    let sizes: Vec<usize> = (0..MANY).map(|index| index * 7919 % MANY).collect();
    let at = |size| {
        sizes
            .iter()
            .position(|found| *found == size)
            .expect("a file")
    };
    let path = |index: usize| format!("in/{}/invoice-{index:06}.pdf", index / 1000);
    for (fragment, count, first) in [
        ("#sort=size&desc=1", "100,000 files", path(at(MANY - 1))),
        ("#sort=size", "100,000 files", path(at(0))),
        ("#sort=path&desc=1", "100,000 files", path(MANY - 1)),
        ("#q=INVOICE-0427", "100 of 100,000 files", path(42_700)),
        (
            "#q=0427+in%2F42&outcome=rejected",
            "10 of 100,000 files",
            path(42_707),
        ),
        (
            "#outcome=rejected&rule=even",
            "0 of 100,000 files",
            String::new(),
        ),
        (
            "#outcome=rejected&rule=odd&sort=size&desc=1",
            "10,000 of 100,000 files",
            {
                let rejected = (0..MANY).filter(|index| index % 10 == 7);
                path(rejected.max_by_key(|index| sizes[*index]).expect("one"))
            },
        ),
    ] {
        let dom = browse(&page, fragment).expect("a browser");
        assert_eq!(status(&dom), count, "{fragment}");
        assert_eq!(
            paths(&dom).first().cloned().unwrap_or_default(),
            first,
            "{fragment}"
        );
    }
}
