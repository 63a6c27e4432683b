//! `artfs audit`: one page about a version that an auditor can read and keep.

mod drawing;
mod facts;
mod page;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::cli::ui::escape;
use crate::format::name::Reference;
use crate::host::durable::Wrote;
use crate::repo::audit;

/// Report everything about a version: what it is, who made it from what, and every later change
#[derive(Debug, Args)]
#[command(
    long_about = "Report everything about a version, for an auditor: its digest and how to check it with b3sum \
        alone, who made it from what, every alias that ever pointed to it and when, every edit of its metadata, \
        how long it is kept, and where the log ended at the time of the report. The command first reads every \
        event of the log from the store and checks the chain of hashes; if the store cannot be reached, it \
        reports what this host knows and says so. It does not read content: `artfs verify` does that.",
    after_help = "\
With --html the report is one page without scripts that loads nothing, to be kept, printed or mailed.
Name a deleted version by its number.

Examples:
  artfs audit proj/bert:v7
  artfs audit proj/bert:production --html bert.html
  artfs audit proj/bert:v7 --json | jq '.history.aliases'"
)]
pub struct AuditArgs {
    /// The version
    #[arg(value_name = "REF")]
    reference: Reference,
    /// Write an HTML page into this file; - is standard output
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

/// Runs the command.
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
                let name = facts::name(&report);
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
