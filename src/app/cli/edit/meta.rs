//! `artfs meta`: metadata of a version.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::app::cli::args::{parse_label, parse_meta, parse_meta_text};
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::cli::ui::escape;
use crate::app::cli::ui::json;
use crate::format::event::Metadata;
use crate::format::name::{Reference, Selector};

/// Set, remove and list metadata of a version
#[derive(Debug, Args)]
pub struct MetaArgs {
    #[command(subcommand)]
    action: MetaAction,
}

#[derive(Debug, Subcommand)]
enum MetaAction {
    /// Set values
    #[command(after_help = "\
A value is JSON if it can be read as JSON, else text. Numbers keep their spelling: 2.10 stays 2.10.

Examples:
  artfs meta set proj/bert:v7 f1=0.89 approved=true
  artfs meta set proj/bert:v7 'labels=[\"a\",\"b\"]'
  artfs meta set proj/bert:v7 --message 'as discussed on Monday'     replaces the message")]
    Set {
        /// The version
        #[arg(value_name = "REF")]
        reference: Reference,
        /// Values
        #[arg(value_name = "KEY=VALUE", required_unless_present_any = ["message", "meta_text"], value_parser = parse_meta)]
        values: Vec<(String, serde_json::Value)>,
        /// A value that is text, whatever it looks like (repeatable)
        #[arg(long, value_name = "KEY=TEXT", value_parser = parse_meta_text)]
        meta_text: Vec<(String, serde_json::Value)>,
        /// Replace the version's message, its note for people
        #[arg(short, long, value_name = "TEXT")]
        message: Option<String>,
    },
    /// Remove values
    Rm {
        /// The version
        #[arg(value_name = "REF")]
        reference: Reference,
        /// Names
        #[arg(value_name = "KEY", required = true, value_parser = parse_label)]
        names: Vec<String>,
    },
    /// List the metadata of a version
    Ls {
        /// The version
        #[arg(value_name = "REF")]
        reference: Reference,
    },
}

/// Runs the command.
pub fn run(context: &Context, args: &MetaArgs) -> Result<CommandOutcome, CliError> {
    let (reference, set, remove): (_, Metadata, &[String]) = match &args.action {
        MetaAction::Set { reference, values, meta_text, .. } => {
            (reference, values.iter().chain(meta_text).cloned().collect(), &[])
        }
        MetaAction::Rm { reference, names } => (reference, Metadata::new(), names),
        MetaAction::Ls { reference } => (reference, Metadata::new(), &[]),
    };
    let opened = context.open()?;
    let (catalog, key) = (&opened.catalog, &reference.artifact);
    // Resolved first, so that the output names the version that was changed.
    let version = opened.runtime.block_on(catalog.resolve(reference))?;
    let mut meta = version.meta.clone();
    if !set.is_empty() || !remove.is_empty() {
        let target = Selector::Version(version.version);
        let actor = context.actor();
        let state = opened.runtime.block_on(catalog.change_meta(key, &target, &set, remove, &actor))?;
        context.changed(key);
        meta = state.version(version.version).map(|v| v.meta.clone()).unwrap_or_default();
    }
    if let MetaAction::Set { message: Some(message), .. } = &args.action {
        let (target, actor) = (Selector::Version(version.version), context.actor());
        opened.runtime.block_on(catalog.set_message(key, &target, message, &actor))?;
        context.changed(key);
    }
    match context.format() {
        Format::Json => {
            let mut value = json!({ "artifact": key, "version": version.version });
            value["meta"] = json::metadata(&meta);
            context.ui().print_json(&value)?;
        }
        Format::Text => {
            let line = |(name, value): (&String, &serde_json::Value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                format!("{}={}\n", escape::line(name), escape::line(&value))
            };
            context.ui().print(&meta.iter().map(line).collect::<String>())?;
        }
    }
    Ok(CommandOutcome::Done)
}
