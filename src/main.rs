//! The `roe-batch` program: arguments in, exit code out.

use std::process::ExitCode;

/// What readers allocate is freed by other threads, which the system's allocator is slow at
/// (`benches/PROFILE.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    roe_batch::commands::main(std::env::args_os()).into()
}
