//! Reading logs ahead of their time, and making the kernel forget what they removed.

use std::sync::Arc;

use super::kernel_names::KernelNames;
use crate::format::name::ArtifactKey;
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError, SyncScope, Synced};

/// Reads logs on demand.
pub(super) struct LogSync {
    catalog: Arc<Catalog>,
    kernel: Arc<KernelNames>,
}

impl LogSync {
    pub fn new(catalog: Arc<Catalog>, kernel: Arc<KernelNames>) -> Self {
        Self { catalog, kernel }
    }

    /// Reads the logs of a scope now: names are current at the next look-up. Cost: see [`Catalog::sync`].
    pub async fn sync(&self, scope: &SyncScope) -> Result<Vec<Synced>, CatalogError> {
        self.catalog.sync(scope, |before, after| self.forget_gone(before, after)).await
    }

    /// Makes the kernel forget deleted versions. It asks for all other names that other hosts can change at each use.
    fn forget_gone(&self, before: &ArtifactState, after: &ArtifactState) {
        for gone in before.versions().filter(|version| after.version(version.version).is_none()) {
            self.kernel.forget_in_artifact(after.key(), gone.version.to_string().as_bytes());
        }
    }

    /// Another process of this host changed an artifact: shows its names as they are now.
    pub async fn refresh(&self, artifact: &ArtifactKey) {
        let before = self.catalog.known(artifact).map_or(0, |state| state.seq());
        if let Err(e) = self.sync(&SyncScope::Artifact(artifact.clone())).await {
            tracing::debug!("{e}");
        }
        if let Some(state) = self.catalog.known(artifact) {
            for gone in state.deleted().filter(|deleted| deleted.seq > before) {
                self.kernel.forget_in_artifact(artifact, gone.record.version.to_string().as_bytes());
            }
            if state.is_removed() {
                self.kernel.forget_artifact(artifact);
            }
        }
        self.kernel.forget_next(artifact);
    }
}
