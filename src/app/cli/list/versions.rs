//! The artifacts and versions that a name means, and versions for machines.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::csv;
use super::layout::Layout;
use crate::app::cli::args::Named;
use crate::app::cli::context::OpenedStore;
use crate::app::cli::error::CliError;
use crate::app::cli::ui::{Ui, json};
use crate::format::name::{ProjectName, Selector};
use crate::repo::catalog::{ArtifactState, VersionRecord, names_of};

/// Members of a version's object, as columns; those of metadata follow.
const COLUMNS: [&str; 15] = [
    "artifact",
    "version",
    "aliases",
    "type",
    "tags",
    "created",
    "actor",
    "host",
    "entries",
    "files",
    "bytes",
    "stored_bytes",
    "ttl_seconds",
    "inputs",
    "digest",
];

/// The artifacts of a project.
///
/// # Errors
/// There is no such project.
pub(super) fn artifacts_of(
    opened: &OpenedStore,
    project: &ProjectName,
) -> Result<Vec<Arc<ArtifactState>>, CliError> {
    let catalog = &opened.catalog;
    let artifacts = opened.runtime.block_on(catalog.living_states_of(project))?;
    if artifacts.is_empty() {
        let message = format!("there is no project {project} in {}", catalog.store().url());
        return Err(CliError::failed(message).with_hint("`artfs ls` lists what exists"));
    }
    Ok(artifacts)
}

/// Returns all versions of an artifact, or the one that is named.
///
/// # Errors
/// The named version does not exist; the artifact was deleted.
pub(super) fn versions_of<'a>(
    state: &'a ArtifactState,
    named: &Named,
) -> Result<Vec<&'a VersionRecord>, CliError> {
    Ok(match &named.selector {
        None if state.is_removed() => vec![state.require(&Selector::Latest)?],
        None => state.versions().collect(),
        Some(selector) => vec![state.require(selector)?],
    })
}

/// A version for machines.
pub(super) fn version_json(state: &ArtifactState, version: &VersionRecord) -> Value {
    let mut value = json!({
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
        "inputs": version.inputs,
    });
    value["meta"] = json::metadata(&version.meta);
    value
}

/// Prints versions for machines.
pub fn print_values(ui: Ui, layout: Layout, mut values: Vec<Value>) -> Result<(), CliError> {
    if layout != Layout::Csv {
        return ui.print_json(&values);
    }
    let mut names = BTreeSet::new();
    for value in &mut values {
        let Some(meta) = value.get_mut("meta").map(Value::take) else { continue };
        for (name, said) in meta.as_object().into_iter().flatten() {
            let column = format!("meta.{name}");
            value[&column] = said.clone();
            names.insert(column);
        }
    }
    let columns: Vec<String> = COLUMNS.into_iter().map(str::to_owned).chain(names).collect();
    ui.print(&csv::text(&columns, &values))
}
