//! `artfs stage`: staging areas of the mount as a whole.

use clap::Args;
use serde_json::Value;

use crate::app::cli::args::parse_target;
use crate::app::cli::ask::{ask, mounted};
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::daemon::wire::{ControlRequest, StageAction, StageRequest};
use crate::format::name::{ArtifactKey, Reference, Selector, SessionName, VersionNumber};

/// Start a staging area from a version, or empty it
#[derive(Debug, Args)]
#[command(after_help = "\
Without --from and --discard it creates the staging area if needed, and prints its path.

Examples:
  artfs stage proj/ds --from v3          files are copied only when they change
  artfs stage proj/ds --session clean    make staging.clean
  artfs stage proj/ds --discard          discard what is staged")]
pub struct StageArgs {
    /// The artifact
    #[arg(value_name = "ARTIFACT")]
    artifact: ArtifactKey,
    /// The session: staging.NAME [default: staging]
    #[arg(long, value_name = "NAME")]
    session: Option<SessionName>,
    /// Start from this version: v3, an alias, latest or @digest
    #[arg(long, value_name = "VERSION", value_parser = parse_target, conflicts_with = "discard")]
    from: Option<Selector>,
    /// Discard what is staged
    #[arg(long)]
    discard: bool,
}

/// Runs the command.
pub fn run(context: &Context, args: StageArgs) -> Result<CommandOutcome, CliError> {
    let client = mounted(context)?;
    let action = match (args.from, args.discard) {
        (Some(selector), _) => StageAction::From(number(context, &args.artifact, selector)?),
        (None, true) => StageAction::Discard,
        (None, false) => StageAction::Open,
    };
    let request = StageRequest { artifact: args.artifact, session: args.session, action };
    let reply = ask(context, client, &ControlRequest::Stage(request))?;
    match (context.format(), reply.get("path").and_then(Value::as_str)) {
        (Format::Json, _) => context.ui().print_json(&reply)?,
        (Format::Text, Some(path)) => context.ui().print(&format!("{path}\n"))?,
        (Format::Text, None) => {}
    }
    Ok(CommandOutcome::Done)
}

fn number(context: &Context, artifact: &ArtifactKey, selector: Selector) -> Result<VersionNumber, CliError> {
    if let Selector::Version(number) = selector {
        return Ok(number);
    }
    let opened = context.open()?;
    let reference = Reference { artifact: artifact.clone(), selector };
    Ok(opened.runtime.block_on(opened.catalog.resolve(&reference))?.version)
}
