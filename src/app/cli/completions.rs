//! `artfs completions`: prints completion scripts for shells.

use clap::{Args, Command};
use clap_complete::Shell;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};

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

/// Runs the command.
pub fn run(
    context: &Context,
    args: &CompletionsArgs,
    mut command: Command,
) -> Result<CommandOutcome, CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "artfs", &mut script);
    context.ui().print_bytes(&script)?;
    Ok(CommandOutcome::Done)
}
