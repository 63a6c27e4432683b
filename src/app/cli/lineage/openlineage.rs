//! How a version was made, as an OpenLineage event.

use std::time::Duration;

use crate::app::cli::context::Context;
use crate::app::cli::error::CliError;
use crate::format::name::Reference;
use crate::format::run::Run;
use crate::repo::lineage::openlineage::{self, Sink, Stage, VersionMade};

/// Sends an event about how a version was made, as its log says.
pub fn tell(context: &Context, reference: &Reference, sink: &Sink) -> Result<(), CliError> {
    let opened = context.open()?;
    let catalog = &opened.catalog;
    opened.runtime.block_on(async {
        let version = catalog.resolve(reference).await?;
        let state = catalog.existing(&reference.artifact, Duration::MAX).await?;
        let record = catalog.record(&state, &version).await?;
        // A run that was erased, or has a newer form, is left out.
        let run: Run = record.run.and_then(|run| serde_json::from_value(run).ok()).unwrap_or_default();
        let made = VersionMade { artifact: reference.artifact.clone(), version: version.version };
        let event = openlineage::event(
            Stage::Complete,
            version.created,
            catalog.store().url(),
            &run,
            &version.reads,
            std::slice::from_ref(&made),
        );
        sink.send(&event).await.map_err(|e| CliError::failed(e.to_string()))
    })
}
