//! Fills the chunk index from a version that another host wrote.

use std::sync::Arc;

use super::chunk_index::ChunkIndex;
use crate::format::entry::EntryBody;
use crate::format::name::ArtifactKey;
use crate::repo::catalog::VersionRecord;
use crate::repo::view::{ReadContext, ReadError, VersionView};

/// Adds the chunks of the latest version to the index, so that they are not stored again. A host that wrote that version
/// itself knows them already. A failure costs uploads and nothing else.
pub(super) async fn learn_chunks(
    context: &Arc<ReadContext>,
    index: &Arc<ChunkIndex>,
    artifact: &ArtifactKey,
    latest: &VersionRecord,
) {
    if index.knows_manifest(&latest.manifest) {
        return;
    }
    let label = format!("{artifact}:{}", latest.version);
    if let Err(e) = read_chunks(context, index, artifact, latest, &label).await {
        tracing::warn!("{label}: its chunks are not known, more will be stored: {e}");
    }
}

async fn read_chunks(
    context: &Arc<ReadContext>,
    index: &Arc<ChunkIndex>,
    artifact: &ArtifactKey,
    latest: &VersionRecord,
    label: &str,
) -> Result<(), ReadError> {
    let view = VersionView::open(context, artifact, latest.manifest, label).await?;
    let mut entries = view.entries(0);
    loop {
        let batch = entries.next_batch().await?;
        if batch.is_empty() {
            index.add_manifest(&latest.manifest);
            return Ok(());
        }
        for (ordinal, entry) in &batch {
            if let EntryBody::File(file) = &entry.body {
                let chunks = view.open_file(*ordinal, &entry.path, file).await?.chunks().await?;
                let index = index.clone();
                // A large file has very many.
                let added = tokio::task::spawn_blocking(move || index.add_chunks(&chunks)).await;
                added.unwrap_or_else(|e| tracing::warn!(error = %e, "chunks were not added to the index"));
            }
        }
    }
}
