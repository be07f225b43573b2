//! A large upload is killed again and again amid its transfer. Because the end of the body is
//! withheld until the ledger says so, hardly any kill leaves a doubt, and the file is stored once.
//!
//! `ROE_BATCH_BIG=1` sends 200 MB instead of 64; `ROE_BATCH_SEED` chooses the instants.

mod common;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::service::{SAFETY_NET, Service, Settled, doubts, rows, settle_by_records};
use common::{DATASET, Workspace};
use sha2::{Digest, Sha256};

const KILLS: usize = 50;

const MIB: usize = 1024 * 1024;

/// Pseudo-random MiB, each unlike the others. Returns the digest.
fn write_large(workspace: &Workspace, mebibytes: usize, version: u64) -> String {
    let mut block = vec![0; MIB];
    fastrand::Rng::with_seed(version).fill(&mut block);
    let mut file = BufWriter::new(File::create(workspace.at("in/large.bin")).expect("a file"));
    let mut digest = Sha256::new();
    for number in 0..mebibytes {
        block[..8].copy_from_slice(&(number as u64).to_le_bytes());
        file.write_all(&block).expect("written");
        digest.update(&block);
    }
    file.flush().expect("written");
    digest
        .finalize()
        .iter()
        .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn workspace(service: &Service) -> Workspace {
    let mut workspace = Workspace::with(
        &format!(
            "version: 1\nuploads:\n- {{name: all, root: in, include: '**', dataset_id: {DATASET}}}\n"
        ),
        &[],
    );
    fs::create_dir(workspace.at("in")).expect("a folder");
    service.serve(&mut workspace);
    workspace
}

fn start(workspace: &Workspace) -> Child {
    workspace
        .command(&["apply", "manifest.yaml", "--in-doubt", "hold"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs")
}

/// Waits until the service has noticed that its client is gone.
fn is_dropped(service: &Service) {
    let patience = Instant::now() + SAFETY_NET;
    while service.receiving() > 0 {
        assert!(Instant::now() < patience, "the service waits for the dead");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// Waits until so much of an upload has reached the service; false where the process ended
/// before. An instant of the transfer, however fast the machine is.
fn arrives(service: &Service, child: &mut Child, bytes: u64) -> bool {
    let patience = Instant::now() + SAFETY_NET;
    while service.receiving() < bytes {
        assert!(Instant::now() < patience, "the transfer does not go on");
        if child.try_wait().expect("a child").is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    true
}

#[test]
#[expect(clippy::print_stderr, reason = "for people who ask with --nocapture")]
fn a_large_upload_that_is_killed_amid_its_transfer_is_stored_once_and_hardly_ever_in_doubt() {
    let begun = Instant::now();
    let variable = |name| std::env::var(name).ok();
    let mebibytes = if variable("ROE_BATCH_BIG").is_some() {
        200
    } else {
        64
    };
    let seed = variable("ROE_BATCH_SEED").map_or(11, |text| text.parse().expect("a number"));
    let mut chance = fastrand::Rng::with_seed(seed);

    let mut service = Service::start();
    let workspace = workspace(&service);
    let mut versions = vec![write_large(&workspace, mebibytes, 1)];
    let (mut killed, mut in_doubt) = (0, 0);
    let mut settled = Settled::default();
    while killed < KILLS {
        let mut child = start(&workspace);
        let instant = chance.usize(1..mebibytes * MIB * 9 / 10);
        arrives(&service, &mut child, instant as u64);
        let ended = child.try_wait().expect("a child").is_some();
        child.kill().expect("killed, or ended before");
        child.wait().expect("reaped");
        is_dropped(&service);
        let mut stored = ended;
        if !ended {
            killed += 1;
            let doubts = doubts(&workspace);
            assert!(doubts.len() <= 1, "{doubts:?}");
            in_doubt += doubts.len();
            let now = settle_by_records(&workspace, &mut service);
            stored = now.stored > 0;
            settled += now;
        }
        if stored {
            // Nothing is left to send, so there is a new version to send.
            let version = versions.len() as u64 + 1;
            assert!(version < 20, "the kills come too late: see `arrives`");
            versions.push(write_large(&workspace, mebibytes, version));
        }
    }
    eprintln!(
        "seed {seed}: {mebibytes} MiB, {killed} kills in {:?}, {} seen to cut the body off, \
         {in_doubt} in doubt ({} stored, {} not), {} versions",
        begun.elapsed(),
        service.cut_off(),
        settled.stored,
        settled.not_stored,
        versions.len(),
    );
    assert!(service.cut_off() * 2 >= KILLS as u64, "kills amid the body");
    assert_eq!(in_doubt, settled.all());
    assert!(
        in_doubt * 20 <= KILLS,
        "seed {seed}: {in_doubt} of {killed} kills left a doubt"
    );

    let ran = workspace.run(&["apply", "manifest.yaml", "--in-doubt", "hold"]);
    assert_eq!(ran.code, 0, "{}", ran.all());
    let stored = service.settled();
    let digests: Vec<&str> = stored.iter().map(|file| file.sha256.as_str()).collect();
    assert_eq!(digests, versions, "each version once, in their order");
    let report = workspace.report();
    let rows = rows(&report);
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["outcome"], "stored", "{:#}", rows[0]);
    let last = stored.last().expect("a file");
    assert_eq!(rows[0]["file_id"], last.id.as_str());
    assert_eq!(rows[0]["size"], last.size);
}
