//! `artfs audit`: one page about a version that an auditor can read and keep.

mod drawing;
mod page;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::cli::ui::escape;
use crate::app::human;
use crate::format::name::Reference;
use crate::host::durable::Wrote;
use crate::repo::audit::{self, AuditReport};

/// Tell everything about a version: what, who, from what, and all that was changed since
#[derive(Debug, Args)]
#[command(
    long_about = "Tell everything about a version, for an auditor: its digest and how to check it with b3sum alone, who \
        made it from what, every alias that ever pointed to it and when, every edit of its metadata, how long it is \
        kept, and where the log ended when this was told. Every event of the log is read from the store and its chain of \
        hashes checked first; if the store cannot be reached, what this host knows is told, and that. Content is not \
        read: `artfs verify` does that.",
    after_help = "\
With --html the page is one file without scripts that loads nothing: it can be kept, printed and mailed.
A deleted version is told of by its number.

Examples:
  artfs audit proj/bert:v7
  artfs audit proj/bert:production --html bert.html
  artfs audit proj/bert:v7 --json | jq '.history.aliases'"
)]
pub struct AuditArgs {
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
    /// Write a page for browsers into this file; - is the standard output
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

/// Runs it.
pub fn run(context: &Context, args: &AuditArgs) -> Result<CommandOutcome, CliError> {
    let opened = context.open()?;
    let Reference { artifact, selector } = &args.reference;
    let report = opened.runtime.block_on(async {
        let state = opened.catalog.existing(artifact, Duration::ZERO).await?;
        audit::report(&opened.catalog, artifact, state.number_of(selector)?).await
    })?;
    match &args.html {
        Some(file) => {
            let wrote = context.ui().write_file(file, page::render(&report).as_bytes())?;
            if wrote == Wrote::File {
                let name = name(&report);
                context
                    .ui()
                    .print(&format!("{name}: written to {}\n", escape::line(&file.to_string_lossy())))?;
            }
        }
        None => match context.format() {
            Format::Json => context.ui().print_json(&report)?,
            Format::Text => context.ui().print(&text::render(&report))?,
        },
    }
    Ok(CommandOutcome::Done)
}

/// `project/name:v7`.
fn name(report: &AuditReport) -> String {
    format!("{}:{}", report.record.artifact, report.record.version)
}

/// Commands that check the version, each with what it proves. They need no artfs but for getting the files.
fn checks(report: &AuditReport) -> Vec<(String, &'static str)> {
    let record = &report.record;
    let (artifact, version, digest) = (&record.artifact, record.version, record.digest);
    let control = format!("/artifacts/{artifact}/.artfs");
    let mut checks = vec![
        (
            format!("b3sum {control}/{version}.listing"),
            "prints the digest, if the list of paths, sizes, modes and hashes is the one that was committed",
        ),
        (
            format!(
                "cp -r /artifacts/{artifact}/{version} copy; cd copy; b3sum --check {control}/{version}.b3sums"
            ),
            "prints OK for every file of a copy that has the bytes that were committed (from a store without a mount: \
             artfs get)",
        ),
        (
            format!("artfs verify {artifact}@{digest} --path copy --listing {version}.listing"),
            "compares a copy with a kept listing, without the store: also finds what is missing or extra",
        ),
        (
            format!("artfs verify {artifact}:{version}"),
            "reads all of the version from the store and rehashes it, after checking the log",
        ),
        (
            format!("artfs verify --log {artifact}"),
            "reads the log anew from the store and checks that every event names the hash of the one before, and that \
             none is another than this host has seen; by hand: each line of log.jsonl holds as \"prev\" what b3sum prints \
             for the line before it, without its newline",
        ),
    ];
    if report.signed_by.is_some() || report.history.aliases.iter().any(|held| held.signed_by.is_some()) {
        checks.push((
            format!("artfs verify --log --allowed-signers FILE {artifact}"),
            "names every event that no key of the file signed, and every move of a protected alias by another",
        ));
    }
    if report.sha256 {
        checks.push((
            format!("cd copy; sha256sum --check {control}/{version}.sha256sums"),
            "the same with SHA-256, which this store records for each file",
        ));
    }
    checks
}

/// A time to live, or what stands for none.
fn ttl(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "none: kept until it is deleted".to_owned(), human::seconds)
}

/// JSON for people: text without its quotes, nothing as a dash.
fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "-".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
