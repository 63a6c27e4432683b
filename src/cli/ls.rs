//! `artfs ls`: what there is.

use std::time::Duration;

use clap::Args;
use futures::{StreamExt, TryStreamExt};
use serde_json::{Value, json};

use super::context::Context;
use super::error::{CliError, Outcome};
use super::files;
use super::output::{self, Align, Format, Table};
use super::target::Target;
use crate::catalog::{ArtifactState, Catalog, CatalogError, VersionRecord, names_of};
use crate::name::{ArtifactKey, ProjectName, Selector};

/// Logs read at once.
const PARALLEL_ARTIFACTS: usize = 16;

/// List artifacts, or the versions of one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  artfs ls                    all artifacts
  artfs ls proj               those of a project
  artfs ls proj/bert          the versions of an artifact
  artfs ls proj/bert:best     one of them
  artfs ls proj/bert:v7 --files       what is in it
  artfs ls --json | jq -r '.[].artifact'")]
pub struct LsArgs {
    /// project, project/name or project/name:version [default: everything]
    #[arg(value_name = "WHAT")]
    target: Option<Target>,
    /// List what is in a version [default: the latest]
    #[arg(long, requires = "target")]
    files: bool,
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
    let opened = context.open()?;
    let catalog = &*opened.catalog;
    match &args.target {
        None => {
            let artifacts = opened.runtime.block_on(all_artifacts(catalog))?;
            print_artifacts(context, &artifacts, &format!("no artifacts in {} yet", catalog.store().url()))?;
        }
        Some(Target::Project(project)) => {
            let artifacts = opened.runtime.block_on(artifacts_of(catalog, project))?;
            if artifacts.is_empty() {
                let message = format!("there is no project {project} in {}", catalog.store().url());
                return Err(CliError::failed(message).with_hint("`artfs ls` lists what there is"));
            }
            print_artifacts(context, &artifacts, "")?;
        }
        Some(Target::Artifact(named)) => {
            let key = &named.reference.artifact;
            let state = opened.runtime.block_on(catalog.existing(key, Duration::ZERO))?;
            let versions: Vec<&VersionRecord> = match &named.selector {
                None if state.is_removed() => vec![state.require(&Selector::Latest)?],
                None => state.versions().collect(),
                Some(selector) => vec![state.require(selector)?],
            };
            print_versions(context, &state, &versions)?;
        }
    }
    Ok(Outcome::Done)
}

/// All artifacts that were not deleted, as the store has them now. Cost: a listing for each project and a request for
/// each artifact.
pub(super) async fn all_artifacts(
    catalog: &Catalog,
) -> Result<Vec<std::sync::Arc<ArtifactState>>, CatalogError> {
    let mut found = vec![];
    for project in catalog.projects(Duration::ZERO).await? {
        found.extend(artifacts_of(catalog, &project).await?);
    }
    Ok(found)
}

/// The artifacts of a project that were not deleted, as the store has them now.
pub(super) async fn artifacts_of(
    catalog: &Catalog,
    project: &ProjectName,
) -> Result<Vec<std::sync::Arc<ArtifactState>>, CatalogError> {
    let names = catalog.artifacts(project, Duration::ZERO).await?;
    let states = futures::stream::iter(names).map(|name| async move {
        let key = ArtifactKey { project: project.clone(), name };
        catalog.state(&key, Duration::ZERO).await
    });
    let states: Vec<_> = states.buffered(PARALLEL_ARTIFACTS).try_collect().await?;
    Ok(states.into_iter().flatten().filter(|state| !state.is_removed()).collect())
}

fn print_artifacts(
    context: &Context,
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

fn artifact_json(state: &ArtifactState) -> Value {
    let latest = state.latest();
    let aliases: serde_json::Map<String, Value> =
        state.aliases().map(|(name, record)| (name.to_string(), json!(record.version))).collect();
    json!({
        "artifact": state.key(),
        "versions": state.versions().count(),
        "latest": latest.map(|v| v.version),
        "bytes": latest.map(|v| v.bytes),
        "updated": latest.map(|v| v.created),
        "aliases": aliases,
    })
}

fn print_versions(
    context: &Context,
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

fn version_json(state: &ArtifactState, version: &VersionRecord) -> Value {
    json!({
        "artifact": state.key(),
        "version": version.version,
        "aliases": names_of(state, version.version),
        "digest": version.digest.to_string(),
        "entries": version.entries,
        "files": version.files,
        "bytes": version.bytes,
        "created": version.created,
        "actor": version.actor,
        "host": version.host,
        "type": version.artifact_type,
        "tags": version.tags,
        "ttl_seconds": version.ttl_seconds,
    })
}
