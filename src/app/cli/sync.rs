//! `artfs sync`: reads the logs now, so that later commands see what other hosts did.

use clap::Args;

use crate::app::cli::args::CommandTarget;
use crate::app::cli::ask::{ask, understood};
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::daemon::wire::ControlRequest;
use crate::repo::catalog::{SyncScope, Synced};

/// Read the logs now, to see what other hosts did
#[derive(Debug, Args)]
#[command(
    long_about = "Read the logs now, to see what other hosts did.\n\n\
        Reads the logs of artifacts from the store, so that a mount shows current names without waiting for its \
        refresh interval. Without a mount, the logs are kept in the state folder for when the store cannot be \
        reached. Fails if the store cannot be reached.",
    after_help = "\
Examples:
  artfs sync                     all artifacts
  artfs sync proj                the artifacts of a project
  artfs sync proj/bert           one
  artfs sync proj/bert:best      one, and fail unless it has this version"
)]
pub struct SyncArgs {
    /// project, project/name or project/name:version [default: everything]
    #[arg(value_name = "WHAT")]
    target: Option<CommandTarget>,
}

/// Runs the command.
pub fn run(context: &Context, args: &SyncArgs) -> Result<CommandOutcome, CliError> {
    let scope = match &args.target {
        None => SyncScope::All,
        Some(CommandTarget::Project(project)) => SyncScope::Project(project.clone()),
        Some(CommandTarget::Artifact(named)) => SyncScope::Artifact(named.reference.artifact.clone()),
    };
    let synced = match by_daemon(context, &scope)? {
        Some(synced) => synced,
        None => {
            let opened = context.open()?;
            opened.runtime.block_on(opened.catalog.sync(&scope, |_, _| {}))?
        }
    };
    if let (SyncScope::Project(project), true) = (&scope, synced.is_empty()) {
        let message = format!("there is no project {project} in {}", context.store_url()?);
        return Err(CliError::failed(message).with_hint("`artfs ls` lists what exists"));
    }
    if let Some(CommandTarget::Artifact(named)) = &args.target
        && named.selector.is_some()
    {
        let opened = context.open()?;
        opened.runtime.block_on(opened.catalog.resolve(&named.reference))?;
    }
    print(context, &synced)?;
    Ok(CommandOutcome::Done)
}

/// Returns what the daemon of the state folder read; none if no daemon runs, or it serves another store.
fn by_daemon(context: &Context, scope: &SyncScope) -> Result<Option<Vec<Synced>>, CliError> {
    let Some(client) = context.daemon()? else { return Ok(None) };
    let request = ControlRequest::ReadLogs { store: context.store_url()?.to_string(), scope: scope.clone() };
    understood(ask(context, client, &request)?)
}

fn print(context: &Context, synced: &[Synced]) -> Result<(), CliError> {
    if context.format() == Format::Json {
        return context.ui().print_json(&synced);
    }
    if synced.is_empty() {
        context.ui().note(&format!("no artifacts in {} yet", context.store_url()?));
        return Ok(());
    }
    let mut table = TextTable::new(&[
        ("ARTIFACT", Align::Left),
        ("VERSIONS", Align::Right),
        ("LATEST", Align::Left),
        ("EVENTS", Align::Right),
        ("NEW", Align::Right),
    ]);
    for artifact in synced {
        table.row([
            artifact.artifact.to_string(),
            artifact.versions.to_string(),
            artifact.latest.map_or("-".into(), |version| version.to_string()),
            artifact.events.to_string(),
            artifact.new_events.to_string(),
        ]);
    }
    context.ui().print(&table.to_text())
}
