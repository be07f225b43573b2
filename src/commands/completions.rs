//! `completions`: what makes a shell complete the command line.

use clap_complete::Shell;

use super::say;
use crate::cli;
use crate::error::{Exit, Failure};

/// Prints a shell's script.
pub(super) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    let mut program = cli::definition();
    let name = program.get_name().to_owned();
    clap_complete::generate(shell, &mut program, &name, &mut script);
    let script = String::from_utf8_lossy(&script);
    say(&match shell {
        Shell::Bash => bash(&script, &name),
        Shell::Zsh => zsh(&script),
        _ => script.into_owned(),
    })?;
    Ok(Exit::Done)
}

/// Of a program with a hyphen in its name, the script looks for a command under another label than
/// it gives it, and completes nothing behind one (clap-rs/clap#6421).
fn bash(script: &str, program: &str) -> String {
    let sought = format!("{}__subcmd__", program.replace('-', "__subcmd__"));
    let given = format!("{}__subcmd__", program.replace('-', "__"));
    script.replace(&sought, &given)
}

/// With two colons, all that stands behind the first of several values is a value too: no option
/// would be completed there.
fn zsh(script: &str) -> String {
    script.replace("\n'*::", "\n'*:")
}
