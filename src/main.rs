//! The `roe-batch` program: arguments in, exit code out.

use std::process::ExitCode;

fn main() -> ExitCode {
    roe_batch::commands::main(std::env::args_os()).into()
}
