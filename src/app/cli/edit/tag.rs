//! `artfs tag`: tags of a version.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::app::cli::args::parse_tag;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::cli::ui::escape;
use crate::format::name::Reference;

/// Add, remove and list tags of a version
#[derive(Debug, Args)]
pub struct TagArgs {
    #[command(subcommand)]
    action: TagAction,
}

#[derive(Debug, Subcommand)]
enum TagAction {
    /// Add tags
    #[command(after_help = "Example:\n  artfs tag add proj/bert:v7 reviewed fp16")]
    Add {
        /// The version
        #[arg(value_name = "REF")]
        reference: Reference,
        /// Tags
        #[arg(value_name = "TAG", required = true, value_parser = parse_tag)]
        tags: Vec<String>,
    },
    /// Remove tags
    Rm {
        /// The version
        #[arg(value_name = "REF")]
        reference: Reference,
        /// Tags
        #[arg(value_name = "TAG", required = true, value_parser = parse_tag)]
        tags: Vec<String>,
    },
    /// List the tags of a version
    Ls {
        /// The version
        #[arg(value_name = "REF")]
        reference: Reference,
    },
}

/// Runs the command.
pub fn run(context: &Context, args: &TagArgs) -> Result<CommandOutcome, CliError> {
    let (reference, add, remove): (_, &[String], &[String]) = match &args.action {
        TagAction::Add { reference, tags } => (reference, tags, &[]),
        TagAction::Rm { reference, tags } => (reference, &[], tags),
        TagAction::Ls { reference } => (reference, &[], &[]),
    };
    let opened = context.open()?;
    let (catalog, key) = (&opened.catalog, &reference.artifact);
    // Resolved first, so that the output names the version that was changed.
    let version = opened.runtime.block_on(catalog.resolve(reference))?;
    let mut tags = version.tags.clone();
    if !add.is_empty() || !remove.is_empty() {
        let target = crate::format::name::Selector::Version(version.version);
        let actor = context.actor();
        let state = opened.runtime.block_on(catalog.change_tags(key, &target, add, remove, &actor))?;
        context.changed(key);
        tags = state.version(version.version).map(|v| v.tags.clone()).unwrap_or_default();
    }
    match context.format() {
        Format::Json => {
            context.ui().print_json(&json!({ "artifact": key, "version": version.version, "tags": tags }))?;
        }
        Format::Text => {
            let lines: String = tags.iter().map(|tag| format!("{}\n", escape::line(tag))).collect();
            context.ui().print(&lines)?;
        }
    }
    Ok(CommandOutcome::Done)
}
