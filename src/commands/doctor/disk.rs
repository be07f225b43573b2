//! Folders, the disks that they are on, and what the kernel allows.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{statfs, statvfs};

use super::{Finding, Meant, path};
use crate::commands::reports::report_path;
use crate::error::Exit;
use crate::ledger::StateFolder;
use crate::model::{HumanBytes, RunId};

/// With less free space than this a run may not get to its end.
const SPACE_MIN: u64 = 16 << 20;

/// With less than this somebody should look.
const SPACE_LOW: u64 = 256 << 20;

/// Folders that may be watched, where that is few.
const WATCHES_LOW: u64 = 8192;

/// What is written to find out whether there is room.
const PROBE: [u8; 4096] = [0; 4096];

/// File systems that a ledger is not safe on, by the numbers that Linux has for them, and what they
/// are called.
const SHARED: [(u64, &str); 9] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x517b, "SMB"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0102_1997, "9P"),
    (0x0bd0_0bd0, "Lustre"),
    (0x6573_5546, "FUSE"),
];

/// The file system in memory.
const TMPFS: u64 = 0x0102_1994;

pub(super) fn look(state: &StateFolder, meant: Option<&Meant>, findings: &mut Vec<Finding>) {
    findings.extend(kind(nearest(state.path())));
    let mut folders = vec![("state folder", state.path().to_owned())];
    let reports = meant.map(|meant| reports(meant, state)).unwrap_or_default();
    folders.extend(reports.into_iter().map(|folder| ("reports", folder)));
    let mut seen = BTreeSet::new();
    for (what, folder) in folders {
        let there = nearest(&folder);
        findings.push(writable(what, &folder, there));
        if seen.insert(device(there)) {
            findings.extend(space(there));
        }
    }
}

/// Where the manifest's reports go.
fn reports(meant: &Meant, state: &StateFolder) -> BTreeSet<PathBuf> {
    let folder = meant.path.parent().unwrap_or(Path::new(""));
    let run = RunId::new("00000000-0000-7000-8000-000000000000");
    let now = Timestamp::now();
    let mut folders: BTreeSet<PathBuf> = meant
        .manifest
        .reports
        .iter()
        .filter_map(|report| {
            let path = report_path(report, &meant.manifest.name, (&run, now), folder).ok()?;
            Some(path.parent()?.to_owned())
        })
        .collect();
    if folders.is_empty() {
        folders.insert(state.reports());
    }
    folders
}

/// The folder, or the nearest one above it that is there.
fn nearest(folder: &Path) -> &Path {
    let mut above = folder.ancestors();
    let there = above.find(|folder| !folder.as_os_str().is_empty() && folder.exists());
    there.unwrap_or(Path::new("."))
}

fn device(folder: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(folder).map(|found| found.dev()).ok()
}

/// Writes a file without a name, which is gone at once.
fn writable(what: &'static str, folder: &Path, there: &Path) -> Finding {
    let probe = || -> io::Result<()> {
        let mut file = tempfile::tempfile_in(there)?;
        file.write_all(&PROBE)?;
        file.sync_all()
    };
    let name = path(folder);
    match probe() {
        Ok(()) if folder == there => Finding::fine(what, format!("{name} can be written to")),
        Ok(()) => Finding::fine(what, format!("{name} can be made")),
        Err(error) => Finding::problem(
            what,
            Exit::LocalIo,
            format!("{} cannot be written to: {error}", path(there)),
        )
        .help("look at who owns it and at the disk, or choose another one"),
    }
}

fn space(folder: &Path) -> Option<Finding> {
    let found = statvfs(folder).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let told = format!("{} free below {}", HumanBytes(free), path(folder));
    let help = "make room: what a run finds out and reports is written there";
    if found.f_files > 0 && found.f_favail == 0 {
        let told = format!("no more files can be made below {}", path(folder));
        return Some(Finding::problem("disk space", Exit::LocalIo, told).help(help));
    }
    Some(if free < SPACE_MIN {
        Finding::problem("disk space", Exit::LocalIo, told).help(help)
    } else if free < SPACE_LOW {
        Finding::warning("disk space", told).help(help)
    } else {
        Finding::fine("disk space", told)
    })
}

/// Whether the file system keeps what a ledger needs kept.
fn kind(folder: &Path) -> Option<Finding> {
    let found = statfs(folder).ok()?;
    // The number is one of 32 bits, which some machines have as a signed one.
    let number = u64::try_from(i128::from(found.f_type) & 0xffff_ffff).ok()?;
    let name = path(folder);
    if number == TMPFS {
        let told = format!("{name} is in memory: the ledger is lost with it");
        return Some(
            Finding::warning("file system", told)
                .help("choose a folder on a disk with --state, if runs are to know of each other"),
        );
    }
    let (_, shared) = SHARED.iter().find(|(other, _)| *other == number)?;
    let told = format!("{name} is on {shared}, where locks and journals may not hold");
    Some(
        Finding::warning("file system", told)
            .help("choose a folder on a local disk with --state: a ledger is not to be shared"),
    )
}

/// How many folders may be watched at once.
pub(super) fn watches() -> Option<Finding> {
    let text = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?;
    let most: u64 = text.trim().parse().ok()?;
    Some(if most < WATCHES_LOW {
        Finding::warning(
            "watches",
            format!("no more than {most} folders can be watched"),
        )
        .help("allow more with `sysctl fs.inotify.max_user_watches=65536`")
    } else {
        Finding::fine("watches", format!("up to {most} folders can be watched"))
    })
}
