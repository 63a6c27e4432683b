//! `artfs ls`: what there is.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::deleted;
use super::error::{CliError, Outcome};
use super::files;
use super::output::{self, Align, Format, Table};
use super::target::Target;
use crate::catalog::{ArtifactState, VersionRecord, names_of};
use crate::name::Selector;

/// List artifacts, or the versions of one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  artfs ls                    all artifacts
  artfs ls proj               those of a project
  artfs ls proj/bert          the versions of an artifact
  artfs ls proj/bert:best     one of them
  artfs ls proj/bert:v7 --files       what is in it
  artfs ls proj --size                how much there is, and what of it is stored
  artfs ls proj --deleted             what was deleted
  artfs ls --json | jq -r '.[].artifact'")]
pub struct LsArgs {
    /// project, project/name or project/name:version [default: everything]
    #[arg(value_name = "WHAT")]
    target: Option<Target>,
    /// List what is in a version [default: the latest]
    #[arg(long, requires = "target")]
    files: bool,
    /// Show how many bytes the versions have, and how many their commits added to the store
    #[arg(long, conflicts_with = "files")]
    size: bool,
    /// List the versions that were deleted: when, by whom and why
    #[arg(long, conflicts_with_all = ["files", "size"])]
    deleted: bool,
}

/// Runs it.
pub fn run(context: &Context, args: &LsArgs) -> Result<Outcome, CliError> {
    if args.files {
        return match &args.target {
            Some(Target::Artifact(named)) => files::run(context, &named.reference),
            Some(Target::Project(_)) | None => Err(CliError::usage("--files lists what is in one version")
                .with_hint("name it: artfs ls project/name:v7 --files")),
        };
    }
    if args.deleted {
        deleted::run(context, args.target.as_ref())?;
        return Ok(Outcome::Done);
    }
    let opened = context.open()?;
    let catalog = &*opened.catalog;
    match &args.target {
        None => {
            let artifacts = opened.runtime.block_on(catalog.living_states())?;
            let nothing = format!("no artifacts in {} yet", catalog.store().url());
            print_artifacts(context, args, &artifacts, &nothing)?;
        }
        Some(Target::Project(project)) => {
            let artifacts = opened.runtime.block_on(catalog.living_states_of(project))?;
            if artifacts.is_empty() {
                let message = format!("there is no project {project} in {}", catalog.store().url());
                return Err(CliError::failed(message).with_hint("`artfs ls` lists what there is"));
            }
            print_artifacts(context, args, &artifacts, "")?;
        }
        Some(Target::Artifact(named)) => {
            let key = &named.reference.artifact;
            let state = opened.runtime.block_on(catalog.existing(key, Duration::ZERO))?;
            let versions: Vec<&VersionRecord> = match &named.selector {
                None if state.is_removed() => vec![state.require(&Selector::Latest)?],
                None => state.versions().collect(),
                Some(selector) => vec![state.require(selector)?],
            };
            print_versions(context, args, &state, &versions)?;
        }
    }
    Ok(Outcome::Done)
}

fn print_artifacts(
    context: &Context,
    args: &LsArgs,
    artifacts: &[std::sync::Arc<ArtifactState>],
    nothing: &str,
) -> Result<(), CliError> {
    if context.format() == Format::Json {
        let values: Vec<Value> = artifacts.iter().map(|state| artifact_json(state)).collect();
        return output::print_json(&values);
    }
    if artifacts.is_empty() {
        eprintln!("{nothing}");
        return Ok(());
    }
    if args.size {
        return print_artifact_sizes(artifacts);
    }
    let mut table = Table::new(&[
        ("ARTIFACT", Align::Left),
        ("VERSIONS", Align::Right),
        ("LATEST", Align::Left),
        ("SIZE", Align::Right),
        ("UPDATED (UTC)", Align::Left),
    ]);
    for state in artifacts {
        let latest = state.latest();
        table.row([
            state.key().to_string(),
            state.versions().count().to_string(),
            latest.map_or("-".into(), |v| v.version.to_string()),
            latest.map_or("-".into(), |v| output::size(v.bytes)),
            latest.map_or("-".into(), |v| output::time(v.created)),
        ]);
    }
    output::print(&table.to_text())
}

fn print_artifact_sizes(artifacts: &[std::sync::Arc<ArtifactState>]) -> Result<(), CliError> {
    let mut table = Table::new(&[
        ("ARTIFACT", Align::Left),
        ("VERSIONS", Align::Right),
        ("LATEST", Align::Left),
        ("SIZE", Align::Right),
        ("ALL VERSIONS", Align::Right),
        ("STORED", Align::Right),
    ]);
    for state in artifacts {
        let (latest, usage) = (state.latest(), state.usage());
        table.row([
            state.key().to_string(),
            usage.versions.to_string(),
            latest.map_or("-".into(), |v| v.version.to_string()),
            latest.map_or("-".into(), |v| output::size(v.bytes)),
            output::size(usage.logical_bytes),
            output::size(usage.stored_bytes),
        ]);
    }
    output::print(&table.to_text())
}

fn artifact_json(state: &ArtifactState) -> Value {
    let latest = state.latest();
    let aliases: serde_json::Map<String, Value> =
        state.aliases().map(|(name, record)| (name.to_string(), json!(record.version))).collect();
    let usage = state.usage();
    json!({
        "artifact": state.key(),
        "versions": usage.versions,
        "latest": latest.map(|v| v.version),
        "bytes": latest.map(|v| v.bytes),
        "logical_bytes": usage.logical_bytes,
        "stored_bytes": usage.stored_bytes,
        "updated": latest.map(|v| v.created),
        "aliases": aliases,
    })
}

fn print_versions(
    context: &Context,
    args: &LsArgs,
    state: &ArtifactState,
    versions: &[&VersionRecord],
) -> Result<(), CliError> {
    if context.format() == Format::Json {
        let values: Vec<Value> = versions.iter().map(|version| version_json(state, version)).collect();
        return output::print_json(&values);
    }
    if versions.is_empty() {
        eprintln!("{} has no version yet", state.key());
        return Ok(());
    }
    if args.size {
        return print_version_sizes(state, versions);
    }
    let mut table = Table::new(&[
        ("VERSION", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("CREATED (UTC)", Align::Left),
        ("BY", Align::Left),
        ("DIGEST", Align::Left),
        ("ALIASES", Align::Left),
    ]);
    for version in versions {
        table.row([
            version.version.to_string(),
            version.files.to_string(),
            output::size(version.bytes),
            output::time(version.created),
            version.actor.clone(),
            output::short(version.digest),
            names_of(state, version.version).join(", "),
        ]);
    }
    output::print(&table.to_text())
}

fn print_version_sizes(state: &ArtifactState, versions: &[&VersionRecord]) -> Result<(), CliError> {
    let mut table = Table::new(&[
        ("VERSION", Align::Left),
        ("FILES", Align::Right),
        ("SIZE", Align::Right),
        ("STORED", Align::Right),
        ("CREATED (UTC)", Align::Left),
        ("ALIASES", Align::Left),
    ]);
    for version in versions {
        table.row([
            version.version.to_string(),
            version.files.to_string(),
            output::size(version.bytes),
            output::size(version.stored_bytes),
            output::time(version.created),
            names_of(state, version.version).join(", "),
        ]);
    }
    output::print(&table.to_text())
}

fn version_json(state: &ArtifactState, version: &VersionRecord) -> Value {
    json!({
        "artifact": state.key(),
        "version": version.version,
        "aliases": names_of(state, version.version),
        "digest": version.digest.to_string(),
        "entries": version.entries,
        "files": version.files,
        "bytes": version.bytes,
        "stored_bytes": version.stored_bytes,
        "created": version.created,
        "actor": version.actor,
        "host": version.host,
        "type": version.artifact_type,
        "tags": version.tags,
        "ttl_seconds": version.ttl_seconds,
    })
}
