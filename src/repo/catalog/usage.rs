//! How much there is: logical and stored bytes of artifacts and projects, from what their logs say.

use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use serde::Serialize;

use super::read::PARALLEL_LOGS;
use super::{ArtifactState, Catalog, CatalogError};
use crate::format::name::{ArtifactKey, ProjectName};

/// Bytes of living versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Usage {
    /// How many versions.
    pub versions: u64,
    /// Sizes of their files, each version counted in full.
    pub logical_bytes: u64,
    /// What their commits added to the store. A chunk counts for the version that brought it, and stays counted
    /// there alone while other versions use it too.
    pub stored_bytes: u64,
}

impl ArtifactState {
    /// The bytes of the artifact's living versions.
    pub fn usage(&self) -> Usage {
        self.versions().fold(Usage::default(), |sum, version| Usage {
            versions: sum.versions + 1,
            logical_bytes: sum.logical_bytes.saturating_add(version.bytes),
            stored_bytes: sum.stored_bytes.saturating_add(version.stored_bytes),
        })
    }
}

impl Catalog {
    /// The artifacts of a project as they are now, in the order of their names; as they were known while the store
    /// cannot be reached. Cost: one listing, and one request for each artifact if nothing is new.
    pub async fn states_of(&self, project: &ProjectName) -> Result<Vec<Arc<ArtifactState>>, CatalogError> {
        let names = self.artifacts(project, Duration::ZERO).await?;
        let states = futures::stream::iter(names).map(|name| async move {
            let key = ArtifactKey { project: project.clone(), name };
            self.state(&key, Duration::ZERO).await
        });
        let states: Vec<_> = states.buffered(PARALLEL_LOGS).try_collect().await?;
        Ok(states.into_iter().flatten().collect())
    }

    /// What the commits of a project's living versions added to the store: what its quota limits. Cost: as
    /// [`Catalog::states_of`].
    pub async fn stored_bytes(&self, project: &ProjectName) -> Result<u64, CatalogError> {
        let states = self.states_of(project).await?;
        Ok(states.iter().fold(0, |sum, state| sum.saturating_add(state.usage().stored_bytes)))
    }
}
