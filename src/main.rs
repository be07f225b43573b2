//! The `roe-batch` program: arguments in, exit code out.

use std::process::ExitCode;

// The system's allocator: mimalloc took more memory and was not clearly faster (`benches/PROFILE.md`).
fn main() -> ExitCode {
    roe_batch::commands::main(std::env::args_os()).into()
}
