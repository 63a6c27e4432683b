//! Reading logs now, whatever is known: of a store, a project, or one artifact.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use super::artifacts::Catalog;
use super::error::CatalogError;
use super::folders::{parsed, project_prefix};
use super::read::{Expect, PARALLEL_LOGS};
use super::state::ArtifactState;
use crate::format::name::{ArtifactKey, ProjectName, VersionNumber};
use crate::store::ARTIFACTS_PREFIX;

/// Which logs to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncScope {
    /// All artifacts of the store.
    All,
    /// Those of a project.
    Project(ProjectName),
    /// One.
    Artifact(ArtifactKey),
}

/// An artifact whose log was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Events in its log.
    pub events: u64,
    /// How many of them were not known here.
    pub new_events: u64,
    /// Its living versions.
    pub versions: u64,
    /// The highest of them.
    pub latest: Option<VersionNumber>,
}

impl Synced {
    fn of(before: Option<&ArtifactState>, after: &ArtifactState) -> Self {
        Self {
            artifact: after.key().clone(),
            events: after.seq() + 1,
            new_events: after.seq() + 1 - before.map_or(0, |before| before.seq() + 1),
            versions: after.versions().count() as u64,
            latest: after.latest().map(|version| version.version),
        }
    }
}

impl Catalog {
    /// Reads the logs of `scope` now; calls `changed` with each older state and the one that replaced it.
    /// Cost: a listing for the store and for each project, and a request for each artifact with nothing new.
    ///
    /// # Errors
    /// [`CatalogError::NoArtifact`]; [`CatalogError::Damaged`]; a request that failed, also if the artifacts are known
    /// here.
    pub async fn sync(
        &self,
        scope: &SyncScope,
        changed: impl Fn(&ArtifactState, &ArtifactState),
    ) -> Result<Vec<Synced>, CatalogError> {
        let artifacts = match scope {
            SyncScope::Artifact(key) => vec![key.clone()],
            SyncScope::Project(project) => self.artifacts_now(project).await?,
            SyncScope::All => {
                let mut all = vec![];
                for project in parsed::<ProjectName>(&self.listing_now(ARTIFACTS_PREFIX).await?) {
                    all.extend(self.artifacts_now(&project).await?);
                }
                all
            }
        };
        self.forget_listings();
        let read = futures::stream::iter(artifacts).map(|key| {
            let changed = &changed;
            async move {
                let (before, after) = self.read_now(&key).await?;
                let Some(after) = after else {
                    let asked_for = matches!(scope, SyncScope::Artifact(_));
                    return if asked_for { Err(CatalogError::NoArtifact(key)) } else { Ok(None) };
                };
                if let Some(before) = before.as_deref().filter(|before| before.seq() < after.seq()) {
                    changed(before, &after);
                }
                Ok(Some(Synced::of(before.as_deref(), &after)))
            }
        });
        let read: Vec<Option<Synced>> = read.buffered(PARALLEL_LOGS).try_collect().await?;
        Ok(read.into_iter().flatten().collect())
    }

    async fn artifacts_now(&self, project: &ProjectName) -> Result<Vec<ArtifactKey>, CatalogError> {
        let names = parsed(&self.listing_now(&project_prefix(project)).await?);
        Ok(names.into_iter().map(|name| ArtifactKey { project: project.clone(), name }).collect())
    }

    /// Reads a log; returns the state known before and the one now.
    async fn read_now(
        &self,
        key: &ArtifactKey,
    ) -> Result<(Option<Arc<ArtifactState>>, Option<Arc<ArtifactState>>), CatalogError> {
        let cell = self.cell(key);
        let _reading = cell.reading.lock().await;
        self.load(key, &cell);
        let before = cell.known().state;
        Ok((before, self.read_on(key, &cell, Expect::Nothing).await?))
    }
}
