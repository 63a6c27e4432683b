//! Logical and stored bytes of artifacts and projects, as their logs record them.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use super::artifacts::Catalog;
use super::error::CatalogError;
use super::read::PARALLEL_LOGS;
use super::state::ArtifactState;
use crate::format::name::{ArtifactKey, ProjectName};

/// Bytes of existing versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// How many versions.
    pub versions: u64,
    /// Sizes of their files, each version counted in full.
    pub logical_bytes: u64,
    /// What their commits added to the store. A chunk counts only for the version that added it, even while other versions
    /// use it too.
    pub stored_bytes: u64,
}

impl ArtifactState {
    /// Returns the bytes of the artifact's existing versions.
    pub fn usage(&self) -> Usage {
        self.versions().fold(Usage::default(), |sum, version| Usage {
            versions: sum.versions + 1,
            logical_bytes: sum.logical_bytes.saturating_add(version.bytes),
            stored_bytes: sum.stored_bytes.saturating_add(version.stored_bytes),
        })
    }
}

impl Catalog {
    /// Returns the artifacts of a project as they are now, in name order; as last known while the store is unreachable.
    /// Cost: one listing, and one request for each artifact if nothing is new.
    ///
    /// # Errors
    /// As [`Catalog::artifacts`] and [`Catalog::state`].
    pub async fn states_of(&self, project: &ProjectName) -> Result<Vec<Arc<ArtifactState>>, CatalogError> {
        let names = self.artifacts(project, Duration::ZERO).await?;
        let states = futures::stream::iter(names).map(|name| async move {
            let key = ArtifactKey { project: project.clone(), name };
            self.state(&key, Duration::ZERO).await
        });
        let states: Vec<_> = states.buffered(PARALLEL_LOGS).try_collect().await?;
        Ok(states.into_iter().flatten().collect())
    }

    /// Returns what the commits of a project's existing versions added to the store, which its quota limits. Cost: as
    /// [`Catalog::states_of`].
    ///
    /// # Errors
    /// As [`Catalog::states_of`].
    pub async fn stored_bytes(&self, project: &ProjectName) -> Result<u64, CatalogError> {
        let states = self.states_of(project).await?;
        Ok(states.iter().fold(0, |sum, state| sum.saturating_add(state.usage().stored_bytes)))
    }
}
