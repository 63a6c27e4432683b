//! `artfs completions`: for the user's shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::error::{CliError, CommandOutcome};
use super::output;

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  artfs completions bash > ~/.local/share/bash-completion/completions/artfs
  artfs completions zsh  > ~/.zfunc/_artfs
  artfs completions fish > ~/.config/fish/completions/artfs.fish")]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Runs it.
pub fn run(args: &CompletionsArgs) -> Result<CommandOutcome, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "artfs", &mut script);
    output::print_bytes(&script)?;
    Ok(CommandOutcome::Done)
}
