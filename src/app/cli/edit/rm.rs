//! `artfs rm`: deletes versions and artifacts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::app::cli::args::{CommandTarget, Named};
use crate::app::cli::context::{Context, OpenedStore};
use crate::app::cli::error::{CliError, CommandOutcome};
use crate::app::cli::ui::Format;
use crate::app::human;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError, EditError, InUse, Inputs};

/// Delete versions, artifacts or the artifacts of a project
#[derive(Debug, Args)]
#[command(
    long_about = "Delete versions, artifacts or the artifacts of a project.\n\n\
        A version that an alias points to, or that another version names as its input, needs --force. Numbers \
        of deleted versions are never reused, and the log records who deleted what. `artfs gc` frees the space; \
        until then nothing is freed.",
    after_help = "\
Examples:
  artfs rm proj/bert:v3                one version
  artfs rm proj/bert:v3 proj/bert:v4   two
  artfs rm --force proj/bert:v7        with the aliases that point to it
  artfs rm --recursive proj/bert       the whole artifact"
)]
pub struct RmArgs {
    /// Versions (project/name:v3); with --recursive also artifacts (project/name) and projects
    #[arg(value_name = "WHAT", required = true)]
    targets: Vec<CommandTarget>,
    /// Delete whole artifacts and projects
    #[arg(short, long)]
    recursive: bool,
    /// Also delete versions that aliases point to, with the aliases, and inputs of other versions
    #[arg(short, long)]
    force: bool,
}

/// What to delete of one artifact.
enum Doomed {
    All,
    Versions(BTreeSet<VersionNumber>),
}

type RemovalPlan = BTreeMap<ArtifactKey, Doomed>;

/// Runs the command.
pub fn run(context: &Context, args: &RmArgs) -> Result<CommandOutcome, CliError> {
    if !args.recursive {
        args.targets.iter().try_for_each(refuse_whole)?;
    }
    let opened = context.open()?;
    let in_use = if args.force { InUse::Override } else { InUse::Refuse };
    let (plan, inputs) = opened.runtime.block_on(async {
        let plan = plan(&opened.catalog, &args.targets).await?;
        let inputs = match in_use {
            InUse::Refuse => inputs_of_all(&opened.catalog, &plan).await?,
            InUse::Override => Inputs::default(),
        };
        Ok::<_, CliError>((plan, inputs))
    })?;
    let mut done = vec![];
    for (artifact, doomed) in &plan {
        let deleted = delete(context, &opened, artifact, doomed, in_use, &inputs);
        // Earlier deletions are reported even if this one failed.
        let result = deleted.map(|deleted| done.push((artifact, doomed, deleted)));
        if let Err(error) = result {
            report(context, &done)?;
            return Err(error.into());
        }
        context.changed(artifact);
    }
    report(context, &done)?;
    Ok(CommandOutcome::Done)
}

/// Refuses targets without a version, so that a forgotten `:v3` does not delete the whole artifact.
fn refuse_whole(target: &CommandTarget) -> Result<(), CliError> {
    match target {
        CommandTarget::Artifact(Named { selector: Some(_), .. }) => Ok(()),
        CommandTarget::Artifact(Named { reference, .. }) => {
            let artifact = &reference.artifact;
            Err(CliError::usage(format!("{artifact} is an artifact, not a version")).with_hint(format!(
                "{artifact}:v3 names one version; `artfs rm --recursive {artifact}` deletes the \
                    artifact with all its versions"
            )))
        }
        CommandTarget::Project(project) => {
            Err(CliError::usage(format!("{project} is a project, not a version")).with_hint(format!(
                "{project}/name:v3 names one version; `artfs rm --recursive {project}` deletes the \
                    project with all its artifacts"
            )))
        }
    }
}

async fn plan(catalog: &Catalog, targets: &[CommandTarget]) -> Result<RemovalPlan, CliError> {
    let mut plan = RemovalPlan::new();
    for target in targets {
        match target {
            CommandTarget::Project(project) => {
                let artifacts = catalog.living_states_of(project).await?;
                if artifacts.is_empty() {
                    let message = format!("there is no project {project} in {}", catalog.store().url());
                    return Err(CliError::failed(message).with_hint("`artfs ls` lists what exists"));
                }
                plan.extend(artifacts.iter().map(|state| (state.key().clone(), Doomed::All)));
            }
            CommandTarget::Artifact(Named { reference, selector }) => {
                let key = &reference.artifact;
                let state = catalog.existing(key, Duration::ZERO).await?;
                match selector {
                    None => drop(plan.insert(key.clone(), Doomed::All)),
                    Some(selector) => {
                        let version = version(&state, selector)?;
                        let doomed =
                            plan.entry(key.clone()).or_insert_with(|| Doomed::Versions(BTreeSet::new()));
                        if let Doomed::Versions(versions) = doomed {
                            versions.insert(version);
                        }
                    }
                }
            }
        }
    }
    Ok(plan)
}

/// Returns the version to delete. A version that is already deleted is no error, so that the command can be repeated.
fn version(
    state: &ArtifactState,
    selector: &crate::format::name::Selector,
) -> Result<VersionNumber, CatalogError> {
    match selector {
        crate::format::name::Selector::Version(number) if state.deleted_version(*number).is_some() => {
            Ok(*number)
        }
        selector => Ok(state.require(selector)?.version),
    }
}

/// Returns the inputs of all living versions, except those that are deleted together.
async fn inputs_of_all(catalog: &Catalog, plan: &RemovalPlan) -> Result<Inputs, CliError> {
    let mut inputs = Inputs::default();
    let stays = |state: &&Arc<ArtifactState>| !matches!(plan.get(state.key()), Some(Doomed::All));
    for state in catalog.living_states().await?.iter().filter(stays) {
        let going = match plan.get(state.key()) {
            Some(Doomed::Versions(versions)) => versions.clone(),
            _ => BTreeSet::new(),
        };
        inputs.add_except(state, &going);
    }
    Ok(inputs)
}

fn delete(
    context: &Context,
    opened: &OpenedStore,
    artifact: &ArtifactKey,
    doomed: &Doomed,
    in_use: InUse,
    inputs: &Inputs,
) -> Result<Vec<VersionNumber>, EditError> {
    let (catalog, actor) = (&opened.catalog, &context.actor());
    let deleted = match doomed {
        Doomed::All => opened.runtime.block_on(catalog.delete_artifact(artifact, in_use, inputs, actor)),
        Doomed::Versions(versions) => {
            opened.runtime.block_on(catalog.delete_versions(artifact, versions, in_use, inputs, actor))
        }
    };
    deleted.map(|(_, versions)| versions)
}

fn report(context: &Context, done: &[(&ArtifactKey, &Doomed, Vec<VersionNumber>)]) -> Result<(), CliError> {
    if context.format() == Format::Json {
        let value = |(artifact, doomed, versions): &(&ArtifactKey, &Doomed, Vec<VersionNumber>)| json!({ "artifact": artifact, "whole": matches!(doomed, Doomed::All), "versions": versions });
        return context.ui().print_json(&done.iter().map(value).collect::<Vec<Value>>());
    }
    let mut text = String::new();
    for (artifact, doomed, versions) in done {
        match doomed {
            Doomed::All => {
                let count = human::count(versions.len() as u64, "version");
                text.push_str(&format!("{artifact} deleted with {count}\n"));
            }
            Doomed::Versions(asked) => {
                for version in asked {
                    let already = if versions.contains(version) { "" } else { " before" };
                    text.push_str(&format!("{artifact}:{version} deleted{already}\n"));
                }
            }
        }
    }
    context.ui().print(&text)
}
