//! `artfs alias`: names for versions.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::app::cli::args::parse_target;
use crate::app::cli::context::Context;
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::human;
use crate::format::name::{AliasName, ArtifactKey, Selector, VersionNumber};
use crate::repo::catalog::AliasPrecondition;

/// Set, remove and list aliases
#[derive(Debug, Args)]
pub struct AliasArgs {
    #[command(subcommand)]
    action: AliasAction,
}

#[derive(Debug, Subcommand)]
enum AliasAction {
    /// Point an alias to a version
    #[command(
        override_usage = "artfs alias set <ARTIFACT> <ALIAS> <TARGET> [--if <VERSION>]\n       \
                          artfs alias set <ARTIFACT>:<ALIAS> <TARGET> [--if <VERSION>]",
        after_help = "\
Examples:
  artfs alias set proj/bert production v8
  artfs alias set proj/bert:production v8
  artfs alias set proj/bert production candidate    the version that another alias points to
  artfs alias set proj/bert production v8 --if v7   only if it points to v7"
    )]
    Set {
        /// The artifact, the alias, and its target: v8, another alias, latest or @digest
        #[arg(value_names = ["ARTIFACT", "ALIAS", "TARGET"], num_args = 2..=3, required = true)]
        words: Vec<String>,
        /// Fail unless it points to this version now
        #[arg(long = "if", value_name = "VERSION")]
        expected: Option<VersionNumber>,
    },
    /// Remove an alias; the version stays
    #[command(override_usage = "artfs alias rm <ARTIFACT> <ALIAS> [--if <VERSION>]\n       \
                          artfs alias rm <ARTIFACT>:<ALIAS> [--if <VERSION>]")]
    Rm {
        /// The artifact and the alias
        #[arg(value_names = ["ARTIFACT", "ALIAS"], num_args = 1..=2, required = true)]
        words: Vec<String>,
        /// Fail unless it points to this version now
        #[arg(long = "if", value_name = "VERSION")]
        expected: Option<VersionNumber>,
    },
    /// List the aliases of an artifact
    Ls {
        /// The artifact
        artifact: ArtifactKey,
    },
}

/// Runs the command.
pub fn run(context: &Context, args: &AliasArgs) -> Result<CommandOutcome, CliError> {
    match &args.action {
        AliasAction::Set { words, expected } => set(context, words, *expected)?,
        AliasAction::Rm { words, expected } => remove(context, words, *expected)?,
        AliasAction::Ls { artifact } => list(context, artifact)?,
    }
    Ok(CommandOutcome::Done)
}

fn set(context: &Context, words: &[String], expected: Option<VersionNumber>) -> Result<(), CliError> {
    let wrong = || CliError::usage("write `artfs alias set project/name alias v8`");
    let (target, words) = words.split_last().ok_or_else(wrong)?;
    let (artifact, alias) = artifact_and_alias(words).ok_or_else(wrong)??;
    let target: Selector =
        parse_target(target).map_err(|e| CliError::usage(format!("an alias cannot point to that: {e}")))?;
    let opened = context.open()?;
    let precondition = expected.map_or(AliasPrecondition::Any, AliasPrecondition::At);
    let actor = context.actor();
    let edit = opened.catalog.set_alias(&artifact, &alias, &target, precondition, &actor);
    let version = opened.runtime.block_on(edit)?;
    context.changed(&artifact);
    match context.format() {
        Format::Text => context.ui().print(&format!("{artifact}:{alias} -> {version}\n")),
        Format::Json => {
            context.ui().print_json(&json!({ "artifact": artifact, "alias": alias, "version": version }))
        }
    }
}

fn remove(context: &Context, words: &[String], expected: Option<VersionNumber>) -> Result<(), CliError> {
    let wrong = || CliError::usage("write `artfs alias rm project/name alias`");
    let (artifact, alias) = artifact_and_alias(words).ok_or_else(wrong)??;
    let opened = context.open()?;
    let precondition = expected.map_or(AliasPrecondition::Any, AliasPrecondition::At);
    let actor = context.actor();
    opened.runtime.block_on(opened.catalog.remove_alias(&artifact, &alias, precondition, &actor))?;
    context.changed(&artifact);
    match context.format() {
        Format::Text => context.ui().print(&format!("{artifact}:{alias} removed\n")),
        Format::Json => {
            context.ui().print_json(&json!({ "artifact": artifact, "alias": alias, "version": Value::Null }))
        }
    }
}

/// `project/name alias` or `project/name:alias`; none if there are too many words or too few.
fn artifact_and_alias(words: &[String]) -> Option<Result<(ArtifactKey, AliasName), CliError>> {
    let (artifact, alias) = match words {
        [both] => both.split_once(':')?,
        [artifact, alias] => (artifact.as_str(), alias.as_str()),
        _ => return None,
    };
    let parse = || Ok((artifact.parse::<ArtifactKey>()?, alias.parse::<AliasName>()?));
    Some(parse())
}

fn list(context: &Context, artifact: &ArtifactKey) -> Result<(), CliError> {
    let opened = context.open()?;
    let state = opened.runtime.block_on(opened.catalog.existing(artifact, Duration::ZERO))?;
    if context.format() == Format::Json {
        let values: Vec<Value> = state
            .aliases()
            .map(|(alias, record)| {
                json!({ "alias": alias, "version": record.version, "since": record.time, "actor": record.actor })
            })
            .collect();
        return context.ui().print_json(&values);
    }
    if state.aliases().next().is_none() {
        context.ui().note(&format!("{artifact} has no alias other than latest"));
        return Ok(());
    }
    let mut table = TextTable::new(&[
        ("ALIAS", Align::Left),
        ("VERSION", Align::Left),
        ("SINCE (UTC)", Align::Left),
        ("BY", Align::Left),
    ]);
    for (alias, record) in state.aliases() {
        table.row([
            alias.to_string(),
            record.version.to_string(),
            human::time(record.time),
            record.actor.clone(),
        ]);
    }
    context.ui().print(&table.to_text())
}
