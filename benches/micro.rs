//! The pure parts of a run, each on its own: what it takes for one file, and how much text it makes
//! in a second. What committing to the ledger takes is in the benches `ledger` and `gate`.
//!
//! `cargo bench --bench micro`; a word chooses those that have it in their name, as in
//! `cargo bench --bench micro -- report`. `ROE_BATCH_BENCH_QUICK=1` makes it short and worth
//! nothing as a figure.

#![expect(clippy::print_stdout, reason = "this is what a bench is for")]

#[path = "../tests/common/engine.rs"]
mod engine;

use std::fs;
use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use engine::{Engine, MemoryLedger};
use jiff::Timestamp;
use roe_batch::client::{Envelope, Form};
use roe_batch::ledger::Ledger;
use roe_batch::model::{
    ContentType, DatasetId, Digest, Environment, FileId, JobEnd, Metadata, OrganizationId, Origin,
    Outcome, RelativePath, RemoteName, ReportFormat, RunId, Stat, Target,
};
use roe_batch::plan::{PlannedFile, Selection};
use roe_batch::report::{About, Counts, Header, Printout, Row, row_of_plan};
use roe_batch::template::{Known, Scope, Template, Values};

const FILES: usize = 50_000;
const FILES_QUICK: usize = 1_000;
const FILES_A_FOLDER: usize = 500;

/// Times that something is measured; the median counts.
const SAMPLES: usize = 11;
const SAMPLES_QUICK: usize = 2;

/// How long one sample takes at least.
const SAMPLE: Duration = Duration::from_millis(50);
const SAMPLE_QUICK: Duration = Duration::from_millis(1);

const MANIFEST: &str = "version: 1
name: micro
uploads:
  - name: all
    root: in
    include: ['**/*.pdf', '**/*.png', '**/*.txt', '**/*.docx']
    metadata:
      vendor: acme
      folder: ${{ file.parent }}
      document: ${{ file.stem }}
";

fn main() {
    let is_quick = std::env::var_os("ROE_BATCH_BENCH_QUICK").is_some();
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let bench = Bench {
        samples: if is_quick { SAMPLES_QUICK } else { SAMPLES },
        sample: if is_quick { SAMPLE_QUICK } else { SAMPLE },
        files: if is_quick { FILES_QUICK } else { FILES },
        word: word.unwrap_or_default(),
    };
    println!(
        "{:<40} {:>9} {:>9} {:>9} {:>8}",
        "ns for one", "median", "min", "max", "MB/s"
    );
    bench.encoder();
    bench.templates();
    bench.planner_and_report();
}

struct Bench {
    samples: usize,
    sample: Duration,
    files: usize,
    /// What the names have to have in them.
    word: String,
}

impl Bench {
    /// Times some work that does `count` things and makes so many bytes.
    fn time(&self, name: &str, count: usize, mut work: impl FnMut() -> usize) {
        if !name.contains(&self.word) {
            return;
        }
        let mut times = Vec::with_capacity(self.samples);
        let mut bytes = 0;
        // The first one warms up.
        for sample in 0..=self.samples {
            let begun = Instant::now();
            let mut turns = 0_u32;
            while turns == 0 || begun.elapsed() < self.sample {
                bytes = black_box(work());
                turns += 1;
            }
            if sample > 0 {
                times.push(begun.elapsed().as_secs_f64() * 1e9 / f64::from(turns) / number(count));
            }
        }
        times.sort_by(f64::total_cmp);
        let (median, least, most) = (times[times.len() / 2], times[0], times[times.len() - 1]);
        let rate = match bytes {
            0 => "–".to_owned(),
            _ => format!("{:.0}", number(bytes) / number(count) / median * 1e3),
        };
        println!("{name:<40} {median:>9.0} {least:>9.0} {most:>9.0} {rate:>8}");
    }

    fn encoder(&self) {
        let target = Target {
            origin: Origin::new("https://api.example.com"),
            organization_id: Some(OrganizationId::new("3f2b7a52-0000-4000-8000-000000000002")),
            dataset_id: Some(DatasetId::new("3f2b7a52-0000-4000-8000-000000000001")),
        };
        let metadata = metadata();
        let content_type = ContentType::of_name("invoice.pdf");
        let plain = RemoteName::new("invoice-00000001.pdf").expect("a name");
        let odd = RemoteName::new("Rechnung \"März\" & Söhne.pdf").expect("a name");
        for (what, remote_name) in [("plain", &plain), ("odd", &odd)] {
            let form = Form {
                target: &target,
                remote_name,
                content_type: &content_type,
                metadata: &metadata,
            };
            let mut boundary = 0;
            self.time(&format!("multipart: a form, {what} name"), 1, || {
                boundary += 1;
                let envelope = Envelope::new(black_box(&form), boundary, Vec::new());
                envelope.head.len() + envelope.tail.len()
            });
        }
    }

    fn templates(&self) {
        let path = RelativePath::new("2026/acme/invoice-00000001.pdf");
        let stat = Stat {
            size: 40_000,
            mtime_ns: 1_700_000_000_000_000_000,
            inode: 1,
        };
        let values = Values {
            manifest: "micro",
            file: Some((path.as_str(), stat)),
            ..Values::default()
        };
        let environment = Environment::default();
        let known = Known::new(&environment);
        for (what, text) in [
            ("a constant", "acme"),
            ("a name", "${{ file.stem }}"),
            ("names in a text", "${{ file.parent }}: ${{ file.name }}"),
            ("a filter", "${{ file.stem | upper }}"),
            (
                "a condition",
                "${{ 'large' if file.size > 1000000 else 'small' }}",
            ),
        ] {
            let template = Template::parse(text, Scope::File, &known).expect("a template");
            self.time(&format!("template: {what}"), 1, || {
                let text = black_box(&template).render(black_box(&values));
                text.expect("a text").len()
            });
        }
    }

    /// A plan of real files, and reports of it.
    fn planner_and_report(&self) {
        if !["plan", "report"].iter().any(|w| w.contains(&self.word)) {
            return;
        }
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        for index in 0..self.files {
            let below = folder
                .path()
                .join(format!("in/{:04}", index / FILES_A_FOLDER));
            if index % FILES_A_FOLDER == 0 {
                fs::create_dir_all(&below).expect("a folder");
            }
            let kind = ["pdf", "png", "txt", "docx"][index % 4];
            fs::write(below.join(format!("invoice-{index:08}.{kind}")), "").expect("a file");
        }
        // Nobody listens there, and nothing is sent.
        let engine = Engine::new(
            MANIFEST,
            folder.path(),
            "http://127.0.0.1:9",
            "bench-key",
            1,
        );
        let ledger: Box<dyn Ledger> = Box::<MemoryLedger>::default();
        let run = RunId::new("01931f3c-0000-7000-8000-000000000000");
        let now = Timestamp::UNIX_EPOCH;
        self.time("plan: a new file", self.files, || {
            let mut selection = Selection::default();
            black_box(engine.plan(&*ledger, &mut selection, (&run, now)));
            0
        });
        let mut selection = Selection::default();
        let plan = engine.plan(&*ledger, &mut selection, (&run, now));
        let files: Vec<PlannedFile> = plan.files().collect();
        assert_eq!(files.len(), self.files);
        let end = |index| JobEnd {
            file_id: Some(FileId::new(format!("01931f3c-0000-7000-8000-{index:012x}"))),
            digest: Some(Digest([7; 32])),
            ..JobEnd::without_attempt(Outcome::Stored, None)
        };
        let ends: Vec<JobEnd> = (0..self.files).map(end).collect();
        let pairs = files.iter().zip(&ends);
        let rows: Vec<Row<'_>> = pairs
            .map(|(file, end)| row_of_plan(&plan.rules, file, end))
            .collect();
        let mut counts = Counts::default();
        for row in &rows {
            counts.add(row);
        }
        let header = Header::new(About::default(), &counts);
        for (what, format) in [
            ("CSV", ReportFormat::Csv),
            ("JSON", ReportFormat::Json),
            ("JSON Lines", ReportFormat::JsonLines),
        ] {
            self.time(&format!("report: a row of {what}"), self.files, || {
                let mut printout = Printout::begin(Counted(0), format);
                for row in &rows {
                    printout.row(row).expect("written");
                }
                printout.finish(&header).expect("written").0
            });
        }
    }
}

fn metadata() -> Metadata {
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    Metadata::open([
        pair("vendor", "acme"),
        pair("folder", "2026/acme"),
        pair("document", "invoice-00000001"),
    ])
}

/// Counts what is written to it.
struct Counted(usize);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("a small number"))
}
