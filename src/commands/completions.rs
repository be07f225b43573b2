//! `completions`: what makes a shell complete the command line.

use clap_complete::Shell;

use super::say_bytes;
use crate::cli;
use crate::error::{Exit, Failure};

/// Prints a shell's script.
pub(super) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    let mut program = cli::definition();
    let name = program.get_name().to_owned();
    clap_complete::generate(shell, &mut program, &name, &mut script);
    if shell == Shell::Bash {
        script = with_labels_that_meet(&script, &name);
    }
    say_bytes(&script)?;
    Ok(Exit::Done)
}

/// Of a program with a hyphen in its name, the script looks for a command under another label than
/// it gives it, and completes nothing behind one (clap-rs/clap#6421).
fn with_labels_that_meet(script: &[u8], program: &str) -> Vec<u8> {
    let sought = format!("{}__subcmd__", program.replace('-', "__subcmd__"));
    let given = format!("{}__subcmd__", program.replace('-', "__"));
    String::from_utf8_lossy(script)
        .replace(&sought, &given)
        .into_bytes()
}
