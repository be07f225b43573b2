//! A large file is streamed: its size is not paid for in memory.

mod common;

use std::fs::File;
use std::process::Command;

use common::{KEY, Workspace, sandbox};
use roe_batch::sandbox::records;

/// What the process may allocate, in KiB: a fraction of the file's size.
const DATA_KIB: u64 = 64 * 1024;

const SIZE: u64 = 400 * 1024 * 1024;

#[test]
fn a_file_larger_than_the_memory_allowed_is_uploaded_whole() {
    let workspace = Workspace::with(
        "version: 1\nuploads:\n- {name: all, root: in, include: '**'}\n",
        &[("in/small.txt", "small")],
    );
    let large = File::create(workspace.at("in/large.bin")).expect("a file");
    large.set_len(SIZE).expect("a sparse file");
    let (data, server) = sandbox();
    // RLIMIT_DATA counts private writable memory, whether it is touched or not.
    let script = format!(
        "ulimit -d {DATA_KIB} && exec \"$0\" apply manifest.yaml --base-url http://{}",
        server.address()
    );
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_roe-batch")])
        .current_dir(workspace.path())
        .env_clear()
        .env("ROE_BATCH_CONFIG", "")
        .env("ROE_API_KEY", KEY)
        .output()
        .expect("a shell");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let stored = records(data.path()).expect("records");
    let large = stored
        .iter()
        .find(|f| f.name == "large.bin")
        .expect("stored");
    assert_eq!(large.size, SIZE);
    let report = workspace.report();
    let rows = report["files"].as_array().expect("rows");
    assert_eq!(rows[0]["size"].as_u64(), Some(SIZE));
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(File::open(&large.path).expect("stored bytes"))
        .expect("read");
    assert_eq!(rows[0]["blake3"], hasher.finalize().to_hex().as_str());
}
