//! `artfs log`: what happened to an artifact.

use std::time::Duration;

use clap::Args;

use super::context::Context;
use super::error::{CliError, Outcome};
use super::history::{self, History};
use super::output::{self, Align, Format, Table};
use super::target::Named;
use crate::catalog::{Catalog, CatalogError};
use crate::format::event::{Body, Deletion, DeletionCause, Event};
use crate::name::{ArtifactKey, Selector};
use crate::store::StoreError;

/// Show the log of an artifact, oldest event first
#[derive(Debug, Args)]
#[command(after_help = "\
With --json the events are printed as they are stored, byte for byte, one a line: each holds the BLAKE3 of the
line before, so the chain can be checked with stock tools.

Examples:
  artfs log proj/bert          all that happened
  artfs log proj/bert:v7       every edit of one version: who, when, what it was before, and messages
  artfs log --json proj/bert | jq -r .kind")]
pub struct LogArgs {
    /// The artifact, or one of its versions
    #[arg(value_name = "REF")]
    target: Named,
}

/// Runs it.
pub fn run(context: &Context, args: &LogArgs) -> Result<Outcome, CliError> {
    let opened = context.open()?;
    let catalog = &opened.catalog;
    let key = &args.target.reference.artifact;
    let state = opened.runtime.block_on(catalog.existing(key, Duration::ZERO))?;
    let only = match &args.target.selector {
        None => None,
        Some(Selector::Version(number)) if state.deleted_version(*number).is_some() => Some(*number),
        Some(selector) => Some(state.require(selector)?.version),
    };
    let lines = opened.runtime.block_on(catalog.log_lines(&state))?;
    let mut stored = Vec::new();
    let mut history = History::default();
    let mut table = Table::new(&[
        ("SEQ", Align::Right),
        ("TIME (UTC)", Align::Left),
        ("BY", Align::Left),
        ("EVENT", Align::Left),
    ]);
    for line in lines {
        let event = Event::decode(&line).map_err(|e| CliError::failed(format!("the log of {key}: {e}")))?;
        let is_shown = only.is_none_or(|version| history.concerns(&event.body, version));
        let mut sentence = if is_shown { sentence(&event.body, &history) } else { String::new() };
        history.add(&event.body);
        if !is_shown {
            continue;
        }
        if only.is_some() && context.format() == Format::Text {
            sentence.push_str(&opened.runtime.block_on(more(catalog, key, &event.body))?);
        }
        table.row([
            event.seq.to_string(),
            output::time(event.time),
            format!("{}@{}", event.actor, event.host),
            sentence,
        ]);
        stored.extend_from_slice(&line);
        stored.push(b'\n');
    }
    match context.format() {
        Format::Json => output::print_bytes(&stored)?,
        Format::Text => output::print(&table.to_text())?,
    }
    Ok(Outcome::Done)
}

/// What the log of one version tells beyond the sentence: all that a commit said, and messages. Cost: a request for
/// each message that was not read before.
async fn more(catalog: &Catalog, key: &ArtifactKey, body: &Body) -> Result<String, CliError> {
    let (mut text, details) = match body {
        Body::Commit(commit) => (history::said(&commit.settings), commit.settings.details),
        Body::Recommit(again) => (history::said(&again.settings), again.settings.details),
        Body::Message(change) => (String::new(), Some(change.details)),
        _ => return Ok(String::new()),
    };
    let Some(reference) = details else { return Ok(text) };
    match catalog.details(key, &reference).await {
        Ok(details) => text
            .extend(details.message.map(|text| format!(": {}", text.lines().collect::<Vec<_>>().join(" ")))),
        Err(CatalogError::Store(StoreError::NotFound { .. })) => text.push_str(" (erased)"),
        Err(error) => return Err(error.into()),
    }
    Ok(text)
}

fn sentence(body: &Body, history: &History) -> String {
    match body {
        Body::Create => "created the artifact".into(),
        Body::Commit(commit) => format!(
            "committed {}: {}, {} ({} new){}",
            commit.version,
            output::count(commit.files, "file"),
            output::size(commit.bytes),
            output::size(commit.stored_bytes),
            history.named(&commit.settings)
        ),
        Body::Recommit(again) => {
            format!("committed the content of {} again{}", again.version, history.named(&again.settings))
        }
        Body::Alias(change) => {
            let from = change.from.map_or(String::new(), |from| format!(" (was {from})"));
            match &change.to {
                Some(to) => format!("set {} -> {}{from}", change.alias, to.version),
                None => format!("removed alias {}{from}", change.alias),
            }
        }
        Body::Tag(change) => {
            let add = change.add.iter().map(|tag| format!("+{tag}"));
            let remove = change.remove.iter().map(|tag| format!("-{tag}"));
            format!("tags of {}: {}", change.version, add.chain(remove).collect::<Vec<_>>().join(" "))
        }
        Body::Meta(change) => format!("metadata of {}: {}", change.version, history.metadata(change)),
        Body::Ttl(change) => format!("time to live of {}: {}", change.version, history.time_to_live(change)),
        Body::Message(change) => format!("new message for {}", change.version),
        Body::Delete(deletion) => deleted(deletion),
        Body::Policy(policy) => match policy.ttl_seconds {
            Some(seconds) => format!("default time to live: {}", output::seconds(seconds)),
            None => "default time to live: none".into(),
        },
        Body::Fence(fence) => format!("collection {} began", fence.epoch),
        Body::Unknown { kind } => format!("{kind} (of a newer artfs)"),
    }
}

fn deleted(deletion: &Deletion) -> String {
    let versions: Vec<String> = deletion.versions.iter().map(ToString::to_string).collect();
    let versions = versions.join(" ");
    let what = match deletion.cause {
        DeletionCause::Asked => format!("deleted {versions}"),
        DeletionCause::Expired => format!("deleted {versions}, whose time was over"),
        DeletionCause::Artifact => format!("deleted the artifact {versions}").trim_end().to_owned(),
    };
    let aliases: Vec<String> = deletion.aliases.iter().map(ToString::to_string).collect();
    if aliases.is_empty() { what } else { format!("{what} and with it the aliases {}", aliases.join(", ")) }
}
