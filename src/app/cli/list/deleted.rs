//! `artfs ls --deleted`: which versions were deleted, why, when and by whom.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::app::cli::args::{CommandTarget, Named};
use crate::app::cli::context::{Context, OpenedStore};
use crate::app::cli::error::CliError;
use crate::app::cli::ui::Format;
use crate::app::cli::ui::table::{Align, TextTable};
use crate::app::human;
use crate::format::event::DeletionCause;
use crate::format::name::Selector;
use crate::repo::catalog::{ArtifactState, DeletedVersion, DeletionRecord};

/// Prints the deleted versions of the target, or of the whole store, by artifact and number, including those
/// of deleted artifacts. Cost: as for listing living versions.
pub fn run(context: &Context, target: Option<&CommandTarget>) -> Result<(), CliError> {
    let opened = context.open()?;
    let states = opened.runtime.block_on(states(&opened, target))?;
    let deleted: Vec<(&ArtifactState, &DeletedVersion)> = match target {
        Some(CommandTarget::Artifact(Named { selector: Some(selector), .. })) => states
            .iter()
            .map(|state| Ok((&**state, chosen(state, selector)?)))
            .collect::<Result<_, CliError>>()?,
        _ => states.iter().flat_map(|state| state.deleted().map(|deleted| (&**state, deleted))).collect(),
    };
    match context.format() {
        Format::Json => context
            .ui()
            .print_json(&deleted.iter().map(|(state, deleted)| value(state, deleted)).collect::<Vec<_>>()),
        Format::Text if deleted.is_empty() => {
            context.ui().note("no version was deleted");
            Ok(())
        }
        Format::Text => context.ui().print(&table(&deleted)),
    }
}

async fn states(
    opened: &OpenedStore,
    target: Option<&CommandTarget>,
) -> Result<Vec<Arc<ArtifactState>>, CliError> {
    let catalog = &opened.catalog;
    let projects = match target {
        Some(CommandTarget::Artifact(named)) => {
            return Ok(vec![catalog.existing(&named.reference.artifact, Duration::ZERO).await?]);
        }
        Some(CommandTarget::Project(project)) => vec![project.clone()],
        None => catalog.projects(Duration::ZERO).await?,
    };
    let mut states = vec![];
    for project in &projects {
        states.extend(catalog.states_of(project).await?);
    }
    match target {
        Some(CommandTarget::Project(project)) if states.is_empty() => {
            let message = format!("there is no project {project} in {}", catalog.store().url());
            Err(CliError::failed(message).with_hint("`artfs ls` lists what exists"))
        }
        _ => Ok(states),
    }
}

/// The one deleted version that is named by its number.
fn chosen<'a>(state: &'a ArtifactState, selector: &Selector) -> Result<&'a DeletedVersion, CliError> {
    if let Selector::Version(number) = selector
        && let Some(deleted) = state.deleted_version(*number)
    {
        return Ok(deleted);
    }
    let artifact = state.key();
    let living = state.require(selector)?.version;
    Err(CliError::failed(format!("{artifact}:{living} was not deleted"))
        .with_hint(format!("`artfs ls --deleted {artifact}` lists the deleted versions")))
}

/// Why a version was deleted, in a word or two.
fn why(cause: DeletionCause) -> &'static str {
    match cause {
        DeletionCause::Asked => "requested",
        DeletionCause::Expired => "expired",
        DeletionCause::Artifact => "with the artifact",
    }
}

fn table(deleted: &[(&ArtifactState, &DeletedVersion)]) -> String {
    let mut table = TextTable::new(&[
        ("VERSION", Align::Left),
        ("SIZE", Align::Right),
        ("CREATED (UTC)", Align::Left),
        ("DELETED (UTC)", Align::Left),
        ("BY", Align::Left),
        ("WHY", Align::Left),
    ]);
    for (state, deleted) in deleted {
        let record = &deleted.record;
        table.row([
            format!("{}:{}", state.key(), record.version),
            human::size(record.bytes),
            human::time(record.created),
            human::time(deleted.time),
            deleted.actor.clone(),
            why(deleted.cause).to_owned(),
        ]);
    }
    table.to_text()
}

fn value(state: &ArtifactState, deleted: &DeletedVersion) -> Value {
    let record = &deleted.record;
    let DeletedVersion { time, cause, .. } = *deleted;
    json!({
        "artifact": state.key(),
        "version": record.version,
        "digest": record.digest.to_string(),
        "files": record.files,
        "bytes": record.bytes,
        "stored_bytes": record.stored_bytes,
        "created": record.created,
        "actor": record.actor,
        "deleted": DeletionRecord { time, actor: deleted.actor.clone(), cause },
    })
}
