//! Which projects and artifacts exist: in the store, on this host only, or because something is staged in them.

use std::sync::Arc;

use super::errno::{Errno, Result};
use super::reply_policy::ReplyPolicy;
use crate::format::name::{ArtifactKey, ArtifactName, ProjectName};
use crate::mount::staging::SessionRegistry;
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError};
use crate::store::StoreError;

/// Knows which projects and artifacts exist.
pub(super) struct KnownNames {
    catalog: Arc<Catalog>,
    registry: Arc<SessionRegistry>,
    replies: Arc<ReplyPolicy>,
}

impl KnownNames {
    pub fn new(catalog: Arc<Catalog>, registry: Arc<SessionRegistry>, replies: Arc<ReplyPolicy>) -> Self {
        Self { catalog, registry, replies }
    }

    pub async fn has_project(&self, project: &ProjectName) -> Result<bool> {
        // A project that is in use costs no listing: its artifacts are looked up themselves.
        if self.catalog.knows_project(project) || self.local_names()?.iter().any(|(p, _)| p == project) {
            return Ok(true);
        }
        match self.catalog.has_project(project, self.replies.max_age()).await {
            Ok(true) => Ok(true),
            // What is staged stays reachable when another host deletes all artifacts.
            Ok(false) => Ok(self.registry.list()?.iter().any(|session| session.artifact.project == *project)),
            // What is staged is served without the store.
            Err(e) if self.registry.list()?.iter().any(|session| session.artifact.project == *project) => {
                tracing::debug!("{e}");
                Ok(true)
            }
            // Credentials that may not list can still read exact names: the look-up below shows whether the artifact is there.
            Err(CatalogError::Store(StoreError::Denied { .. })) => Ok(true),
            Err(e) => Err(e.into()),
        }
    }

    pub async fn has_artifact(&self, artifact: &ArtifactKey) -> Result<bool> {
        let local = self.local_names()?;
        if local.iter().any(|(p, n)| *p == artifact.project && n.as_ref() == Some(&artifact.name)) {
            return Ok(true);
        }
        // What is staged stays reachable when another host deletes the artifact, and while the store is away.
        let found = self.is_in_store(artifact).await;
        if matches!(found, Ok(true)) {
            return found;
        }
        let is_staged = self.registry.list()?.iter().any(|session| session.artifact == *artifact);
        if is_staged { Ok(true) } else { found }
    }

    /// Whether the store has the artifact, and it was not deleted.
    pub async fn is_in_store(&self, artifact: &ArtifactKey) -> Result<bool> {
        let Some(state) = self.catalog.state(artifact, self.replies.max_age()).await? else {
            return Ok(false);
        };
        match state.unheard() {
            // Another host may have made it again since.
            Some(reason) if state.is_removed() => Err(reason.clone().into()),
            _ => Ok(!state.is_removed()),
        }
    }

    fn local_names(&self) -> Result<Vec<(ProjectName, Option<ArtifactName>)>> {
        Ok(self.registry.local_names()?)
    }

    /// All projects, those known to this host only included.
    pub async fn list_projects(&self) -> Result<Vec<ProjectName>> {
        let mut names = self.catalog.living_projects(self.replies.max_age()).await?;
        names.extend(self.local_names()?.into_iter().map(|(project, _)| project));
        names.extend(self.registry.list()?.into_iter().map(|session| session.artifact.project));
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    /// All artifacts of a project, those known to this host only included.
    pub async fn list_artifacts(&self, project: &ProjectName) -> Result<Vec<ArtifactName>> {
        let mut names = self.catalog.living_artifacts(project, self.replies.max_age()).await?;
        let local = self.local_names()?.into_iter().filter(|(p, _)| p == project);
        names.extend(local.filter_map(|(_, name)| name));
        let staged = self.registry.list()?.into_iter().map(|session| session.artifact);
        names.extend(staged.filter(|artifact| artifact.project == *project).map(|artifact| artifact.name));
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }

    pub async fn state(&self, artifact: &ArtifactKey) -> Result<Option<Arc<ArtifactState>>> {
        Ok(self.catalog.state(artifact, self.replies.max_age()).await?)
    }
}

/// The error for a name that an artifact's known log does not have: ENOENT, or why the store did not answer, since
/// then the artifact may have it all the same.
pub(super) fn missing(state: &ArtifactState) -> Errno {
    state.unheard().map_or(Errno::NOT_FOUND, |reason| reason.clone().into())
}
