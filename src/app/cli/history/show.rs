//! `artfs show`: everything about one version.

use std::time::Duration;

use crate::app::cli::args::SignersArgs;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::history::signer::{UNSIGNED, signer};
use crate::app::cli::lineage::run_text::run_text;
use crate::app::cli::ui::Format;
use crate::app::cli::ui::table;
use crate::app::human;
use crate::format::event::DeletionCause;
use crate::format::exact;
use crate::format::name::{Reference, Selector};
use crate::format::run::VersionRead;
use crate::repo::catalog::{CatalogError, FullRecord};
use clap::Args;

/// Show everything about a version
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  artfs show proj/bert              the latest version
  artfs show proj/bert:production
  artfs show --json proj/bert:v7 | jq .meta

Name a deleted version by its number; the output says who deleted it.")]
pub struct ShowArgs {
    #[command(flatten)]
    signers: SignersArgs,
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
}

/// Runs the command.
pub fn run(context: &Context, args: &ShowArgs) -> Result<CommandOutcome, CliError> {
    let opened = context.open()?;
    let catalog = &opened.catalog;
    let signers = args.signers.load()?.unwrap_or_default();
    let Reference { artifact, selector } = &args.reference;
    let shown: Result<(FullRecord, String), CatalogError> = opened.runtime.block_on(async {
        let state = catalog.existing(artifact, Duration::ZERO).await?;
        let deleted = match selector {
            Selector::Version(number) => state.deleted_version(*number),
            _ => None,
        };
        let (record, seq) = match deleted {
            Some(deleted) => (catalog.deleted_record(&state, deleted).await?, deleted.record.seq),
            None => {
                let version = state.require(selector)?;
                (catalog.record(&state, version).await?, version.seq)
            }
        };
        let commit = match catalog.mirrored_event(artifact, seq) {
            Some(commit) => commit,
            None => catalog.stored_event(artifact, seq).await?,
        };
        Ok((record, signer(&commit, &signers)))
    });
    let (record, signed_by) = shown?;
    match context.format() {
        Format::Json => context.ui().print_json(&with_signer(&record, &signed_by))?,
        Format::Text => context.ui().print(&text(&record, &signed_by))?,
    }
    Ok(CommandOutcome::Done)
}

/// Returns the record with the member `signed_by`: null if the commit is not signed.
fn with_signer(record: &FullRecord, signed_by: &str) -> serde_json::Value {
    let mut value = exact::to_value(record).expect("a record is plain data");
    value["signed_by"] = Some(signed_by).filter(|by| *by != UNSIGNED).into();
    value
}

fn text(record: &FullRecord, signed_by: &str) -> String {
    let mut lines = vec![
        ("version", format!("{}:{}", record.artifact, record.version)),
        ("digest", record.digest.to_string()),
    ];
    let mut optional = |name: &'static str, value: String| {
        if !value.is_empty() {
            lines.push((name, value));
        }
    };
    if let Some(deleted) = &record.deleted {
        let why = match deleted.cause {
            DeletionCause::Asked => "",
            DeletionCause::Expired => ", expired",
            DeletionCause::Artifact => ", with the artifact",
        };
        optional("deleted", format!("{} UTC by {}{why}", human::time(deleted.time), deleted.actor));
    }
    optional("type", record.artifact_type.clone().unwrap_or_default());
    optional("aliases", record.aliases.join(", "));
    optional("message", record.message.clone().unwrap_or_default());
    let files = human::count(record.files, "file");
    optional("content", format!("{files}, {} ({} bytes)", human::size(record.bytes), record.bytes));
    optional("stored", format!("{} added to the store", human::size(record.stored_bytes)));
    optional(
        "created",
        format!("{} UTC by {} on {}", human::time(record.created), record.actor, record.host),
    );
    optional("signed by", Some(signed_by).filter(|by| *by != UNSIGNED).unwrap_or_default().to_owned());
    optional("ttl", record.ttl_seconds.map(human::seconds).unwrap_or_default());
    optional("tags", record.tags.join(", "));
    let meta: Vec<String> =
        record.meta.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
    optional("meta", meta.join("\n"));
    optional("inputs", record.inputs.join("\n"));
    let read = |read: &VersionRead| {
        let (files, bytes) = (human::count(read.files, "file"), human::size(read.bytes));
        format!("{}:{}, {files}, {bytes}", read.artifact(), read.version)
    };
    let more = (record.more_reads > 0).then(|| format!("and {} more", record.more_reads));
    optional("read", record.reads.iter().map(read).chain(more).collect::<Vec<_>>().join("\n"));
    optional("run", record.run.as_ref().map(run_text).unwrap_or_default());
    let producers: Vec<String> = record
        .producers
        .iter()
        .map(|p| {
            let message = p.message.as_deref().map(|m| format!(": {m}")).unwrap_or_default();
            format!("{} UTC by {} on {}{message}", human::time(p.time), p.actor, p.host)
        })
        .collect();
    optional("also made", producers.join("\n"));
    table::fields(&lines)
}

/// JSON for people: text without its quotes.
fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
