//! The `roe-batch` program: arguments in, exit code out.

use std::process::ExitCode;

// The system's allocator: another one saved instructions, no time, and took more memory
// (`benches/PROFILE.md`).
fn main() -> ExitCode {
    roe_batch::commands::main(std::env::args_os()).into()
}
