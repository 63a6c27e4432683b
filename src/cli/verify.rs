//! `artfs verify`: is what the store holds what it should be?

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::error::{CliError, Outcome};
use super::output::{self, Format};
use crate::catalog::CatalogError;
use crate::id::EventHash;
use crate::name::{ArtifactKey, Reference};

/// Check an artifact against its hashes
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code 3 means that something is not what it should be.

Example:
  artfs verify --log proj/bert      read the whole log and check its chain of hashes")]
pub struct VerifyArgs {
    /// Check the artifact's log
    #[arg(long, required = true)]
    log: bool,
    /// The artifact
    #[arg(value_name = "REF")]
    reference: Reference,
}

/// Runs it.
pub fn run(context: &Context, args: &VerifyArgs) -> Result<Outcome, CliError> {
    verify_log(context, &args.reference.artifact)
}

fn verify_log(context: &Context, key: &ArtifactKey) -> Result<Outcome, CliError> {
    let opened = context.open()?;
    let catalog = &opened.catalog;
    let seen = catalog.log_lines(key);
    let wrong = |error: CatalogError| match error {
        CatalogError::Damaged { .. } => CliError::difference(error.to_string())
            .with_hint("nothing behind that event can be trusted; restore the log's objects from a backup"),
        other => other.into(),
    };
    let state = opened.runtime.block_on(catalog.verify_log(key)).map_err(wrong)?;
    let events = state.seq() + 1;
    if seen.len() as u64 > events {
        let message = format!(
            "the log of {key} ends at event {}, but this host has seen {} more",
            state.seq(),
            output::count(seen.len() as u64 - events, "event")
        );
        return Err(CliError::difference(message).with_hint(
            "events are never deleted: the store was rolled back; `artfs log --json` prints what is known",
        ));
    }
    // Folding what is new onto what was seen shows whether the past was rewritten.
    let known = opened.runtime.block_on(catalog.existing(key, Duration::ZERO)).map_err(wrong)?;
    if known.seq() == state.seq() && known.head() != state.head() {
        return Err(CliError::difference(format!(
            "the log of {key} was rewritten: its last event is {}, this host has seen {}",
            state.head(),
            seen.last().map_or(known.head(), |line| EventHash::of(line))
        )));
    }
    match context.format() {
        Format::Json => output::print_json(&json!({
            "artifact": key, "log": "sound", "events": events, "head": state.head(),
        }))?,
        Format::Text => output::print(&format!(
            "the log of {key} is sound: {}, the last is {}\n",
            output::count(events, "event"),
            state.head()
        ))?,
    }
    Ok(Outcome::Done)
}
