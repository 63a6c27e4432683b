//! `artfs ttl`: shows or sets how long a version is kept.

use std::time::Duration;

use clap::Args;
use serde_json::json;

use crate::app::cli::args::Named;
use crate::app::cli::args::Ttl;
use crate::app::cli::context::{Context, OpenedStore};
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::human;
use crate::format::event::NEVER_SECONDS;
use crate::format::name::{ArtifactKey, Selector};

/// Show or set how long a version is kept
#[derive(Debug, Args)]
#[command(
    long_about = "Show or set how long a version is kept.\n\n\
        `artfs gc` deletes expired versions, except the newest one, versions that an alias points to, and \
        inputs of other versions. The time of an artifact applies to its versions that have none of their own.",
    after_help = "\
Examples:
  artfs ttl proj/bert:v7            show it
  artfs ttl proj/bert:v7 30d        30 days after its creation
  artfs ttl proj/bert:v7 never      kept, whatever the artifact's default
  artfs ttl proj/bert:v7 default    the artifact's default
  artfs ttl proj/bert 30d           the default for versions that have none"
)]
pub struct TtlArgs {
    /// The version, or the artifact
    #[arg(value_name = "REF")]
    target: Named,
    /// 90s, 15m, 12h, 30d, 2w, counted from its creation; never; or default
    #[arg(value_name = "SPAN")]
    ttl: Option<Ttl>,
}

/// Runs the command.
pub fn run(context: &Context, args: &TtlArgs) -> Result<CommandOutcome, CliError> {
    let opened = context.open()?;
    let key = &args.target.reference.artifact;
    match &args.target.selector {
        Some(selector) => of_version(context, &opened, key, selector, args.ttl)?,
        None => of_artifact(context, &opened, key, args.ttl)?,
    }
    Ok(CommandOutcome::Done)
}

fn of_version(
    context: &Context,
    opened: &OpenedStore,
    key: &ArtifactKey,
    selector: &Selector,
    wanted: Option<Ttl>,
) -> Result<(), CliError> {
    let catalog = &opened.catalog;
    let mut state = opened.runtime.block_on(catalog.existing(key, Duration::ZERO))?;
    let version = state.require(selector)?.version;
    let target = Selector::Version(version);
    if let Some(Ttl(ttl)) = wanted {
        state = opened.runtime.block_on(catalog.set_ttl(key, &target, ttl, &context.actor()))?;
        context.changed(key);
    }
    let ttl = state.require(&target)?.ttl_seconds;
    let default = state.default_ttl_seconds();
    match context.format() {
        Format::Json => context.ui().print_json(&json!({
            "artifact": key, "version": version, "ttl_seconds": ttl, "default_ttl_seconds": default,
        })),
        Format::Text => {
            let span = match (ttl, default) {
                (Some(seconds), _) => human::seconds(seconds),
                (None, Some(seconds)) => format!("{} (the artifact's default)", human::seconds(seconds)),
                (None, None) => "never".to_owned(),
            };
            context.ui().print(&format!("{key}:{version} {span}\n"))
        }
    }
}

fn of_artifact(
    context: &Context,
    opened: &OpenedStore,
    key: &ArtifactKey,
    wanted: Option<Ttl>,
) -> Result<(), CliError> {
    let catalog = &opened.catalog;
    let state = match wanted {
        None => opened.runtime.block_on(catalog.existing(key, Duration::ZERO))?,
        Some(Ttl(None)) => {
            return Err(CliError::usage(format!("{key} is an artifact, so `default` means nothing here"))
                .with_hint("write a span such as 30d, or never"));
        }
        Some(Ttl(seconds)) => {
            let seconds = seconds.filter(|seconds| *seconds != NEVER_SECONDS);
            let state = opened.runtime.block_on(catalog.set_default_ttl(key, seconds, &context.actor()))?;
            context.changed(key);
            state
        }
    };
    let default = state.default_ttl_seconds();
    match context.format() {
        Format::Json => context.ui().print_json(&json!({ "artifact": key, "default_ttl_seconds": default })),
        Format::Text => {
            let span = default.map_or("never".to_owned(), human::seconds);
            context.ui().print(&format!("{key} {span}, for versions without their own time to live\n"))
        }
    }
}
