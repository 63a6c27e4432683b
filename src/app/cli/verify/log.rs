//! `artfs verify --log`: the chain of a log, and its signatures.

use serde_json::json;

use crate::app::cli::context::{Context, OpenedStore};
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::{Format, escape};
use crate::app::human;
use crate::format::id::EventHash;
use crate::format::name::ArtifactKey;
use crate::format::signers::AllowedSigners;
use crate::repo::verify;

pub(super) fn run(context: &Context, key: &ArtifactKey) -> Result<CommandOutcome, CliError> {
    let (events, head) = check_log(&context.open()?, key)?;
    match context.format() {
        Format::Json => context.ui().print_json(&json!({
            "artifact": key, "log": "sound", "events": events, "head": head,
        }))?,
        Format::Text => context.ui().print(&format!(
            "the log of {key} is sound: {}, the last is {head}\n",
            human::count(events, "event"),
        ))?,
    }
    Ok(CommandOutcome::Done)
}

pub(super) fn run_signed(
    context: &Context,
    key: &ArtifactKey,
    signers: &AllowedSigners,
) -> Result<CommandOutcome, CliError> {
    let opened = context.open()?;
    let checked = check_log(&opened, key);
    // A broken chain does not keep the signatures from being checked.
    let broken = match checked {
        Ok(_) => None,
        Err(CliError::Failed(error)) if error.code == CommandOutcome::Difference.code() => {
            Some(error.message)
        }
        Err(error) => return Err(error),
    };
    let events = opened.runtime.block_on(opened.catalog.stored_log(key))?;
    let findings = verify::signatures(opened.catalog.store().id(), key, &events, signers);
    let is_sound = findings.is_empty() && broken.is_none();
    match context.format() {
        Format::Json => context.ui().print_json(&json!({
            "artifact": key, "sound": is_sound, "events": events.len(), "chain": broken, "findings": findings,
        }))?,
        Format::Text => {
            let mut text: String = findings
                .iter()
                .map(|f| format!("event {}: {}\n", f.event, escape::line(&f.detail)))
                .collect();
            text.extend(broken.iter().map(|problem| format!("{}\n", escape::line(problem))));
            let count = human::count(events.len() as u64, "event");
            text.push_str(&match is_sound {
                true => format!("the log of {key} is sound and signed: {count}\n"),
                false => format!("the log of {key} has problems: {count}\n"),
            });
            context.ui().print(&text)?;
        }
    }
    Ok(if is_sound { CommandOutcome::Done } else { CommandOutcome::Difference })
}

/// Reads the whole log and returns the number of its events and the hash of the last.
pub(super) fn check_log(opened: &OpenedStore, key: &ArtifactKey) -> Result<(u64, EventHash), CliError> {
    let state = opened.runtime.block_on(opened.catalog.check_log(key))?;
    Ok((state.seq() + 1, state.head()))
}
