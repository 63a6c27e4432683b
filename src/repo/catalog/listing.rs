//! Which artifacts a listing shows: those that were not deleted as a whole.
//!
//! Only an artifact's log says that it was deleted, and a listing must not read every log every time. So each log is read
//! once, by the first listing on this host that shows it; after that a listing reads only the few logs that were not read
//! for longest. Lookups by name always read the log.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;

use super::artifacts::Catalog;
use super::cell::KnownLog;
use super::error::CatalogError;
use super::read::PARALLEL_LOGS;
use super::state::ArtifactState;
use crate::format::name::{ArtifactKey, ArtifactName, ProjectName};

/// Known logs that one listing reads.
const LOGS_PER_LISTING: usize = 16;

/// What is known of the artifacts of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KnownOf {
    Nothing,
    /// At least one exists.
    Living,
    /// All known ones were deleted.
    Removed,
}

impl Catalog {
    /// Lists the artifacts of a project that are not deleted, as far as this host knows, in order. Another host's deletion
    /// or re-creation of one shows when its turn comes, or when it is looked up by name.
    ///
    /// Cost: a listing and a request for at most 16 logs, if the last ones are older than `max_age`; and once each log that
    /// this host has never read.
    ///
    /// # Errors
    /// As [`Catalog::artifacts`].
    pub async fn living_artifacts(
        &self,
        project: &ProjectName,
        max_age: Duration,
    ) -> Result<Vec<ArtifactName>, CatalogError> {
        let names = self.artifacts(project, max_age).await?;
        let key = |name| ArtifactKey { project: project.clone(), name };
        let keys: Vec<ArtifactKey> = names.into_iter().map(key).collect();
        if self.store.offline_since().is_none() && self.begin_looking(project, max_age) {
            self.look(self.due(&keys).await, max_age).await;
        }
        Ok(keys.into_iter().filter(|key| !self.is_removed(key)).map(|key| key.name).collect())
    }

    /// Lists the projects with an artifact that is not deleted, as far as this host knows, in order. Of a project without a
    /// known one, logs are read until one is found.
    ///
    /// Cost: as [`Catalog::projects`]; for each project without a known artifact also a listing and usually one log, the
    /// first time.
    ///
    /// # Errors
    /// As [`Catalog::projects`].
    pub async fn living_projects(&self, max_age: Duration) -> Result<Vec<ProjectName>, CatalogError> {
        let checks = futures::stream::iter(self.projects(max_age).await?).map(|project| async move {
            let lives = self.has_living(&project, max_age).await;
            // An unreadable project is shown: opening it reports why.
            (project, lives.unwrap_or(true))
        });
        let checked: Vec<(ProjectName, bool)> = checks.buffered(PARALLEL_LOGS).collect().await;
        Ok(checked.into_iter().filter(|(_, lives)| *lives).map(|(project, _)| project).collect())
    }

    /// Whether the store has a project. If this host knows only deleted artifacts of it, there must be another one. Cost:
    /// usually as [`Catalog::projects`].
    ///
    /// # Errors
    /// As [`Catalog::projects`] and [`Catalog::artifacts`].
    pub async fn has_project(&self, project: &ProjectName, max_age: Duration) -> Result<bool, CatalogError> {
        if !self.lists_project(project, max_age).await? {
            return Ok(false);
        }
        match self.known_of(project) {
            KnownOf::Nothing | KnownOf::Living => Ok(true),
            KnownOf::Removed => self.has_living(project, max_age).await,
        }
    }

    async fn has_living(&self, project: &ProjectName, max_age: Duration) -> Result<bool, CatalogError> {
        if self.known_of(project) == KnownOf::Living {
            return Ok(true);
        }
        let names = self.artifacts(project, max_age).await?;
        let key = |name| ArtifactKey { project: project.clone(), name };
        let keys: Vec<ArtifactKey> = names.into_iter().map(key).collect();
        let (first, others) = keys.split_at(keys.len().min(1));
        for keys in first.chunks(1).chain(others.chunks(LOGS_PER_LISTING)) {
            let mut unread = vec![];
            for key in keys {
                if self.recall(key).await.state.is_none() {
                    unread.push(key.clone());
                }
            }
            if self.store.offline_since().is_none() {
                self.look(unread, max_age).await;
            }
            if !keys.iter().all(|key| self.is_removed(key)) {
                return Ok(true);
            }
        }
        // All are deleted, unless another host has recreated one.
        Ok(!self.living_artifacts(project, max_age).await?.is_empty())
    }

    /// Returns what is in memory about a project's artifacts.
    fn known_of(&self, project: &ProjectName) -> KnownOf {
        let cells = self.cells.lock();
        let of_project = cells.iter().filter(|(key, _)| key.project == *project);
        let mut known = KnownOf::Nothing;
        for state in of_project.filter_map(|(_, cell)| cell.known().state) {
            if !state.is_removed() {
                return KnownOf::Living;
            }
            known = KnownOf::Removed;
        }
        known
    }

    fn is_removed(&self, key: &ArtifactKey) -> bool {
        self.known(key).is_some_and(|state| state.is_removed())
    }

    /// Returns the artifacts of a project that are not deleted, as they are now. Cost: as [`Catalog::states_of`].
    ///
    /// # Errors
    /// As [`Catalog::states_of`].
    pub async fn living_states_of(
        &self,
        project: &ProjectName,
    ) -> Result<Vec<Arc<ArtifactState>>, CatalogError> {
        let states = self.states_of(project).await?;
        Ok(states.into_iter().filter(|state| !state.is_removed()).collect())
    }

    /// Returns the artifacts of all projects that are not deleted. Cost: a listing for each project and a request for each
    /// artifact.
    ///
    /// # Errors
    /// As [`Catalog::states_of`].
    pub async fn living_states(&self) -> Result<Vec<Arc<ArtifactState>>, CatalogError> {
        let mut found = vec![];
        for project in self.projects(Duration::ZERO).await? {
            found.extend(self.living_states_of(&project).await?);
        }
        Ok(found)
    }

    /// Returns the artifacts whose logs to read: all that were never read, and some of the others.
    async fn due(&self, keys: &[ArtifactKey]) -> Vec<ArtifactKey> {
        let (mut read, mut due) = (vec![], vec![]);
        for key in keys {
            let known = self.recall(key).await;
            match known.state {
                Some(_) => read.push((known.checked, key.clone())),
                None => due.push(key.clone()),
            }
        }
        read.sort_unstable();
        due.extend(read.into_iter().take(LOGS_PER_LISTING).map(|(_, key)| key));
        due
    }

    async fn look(&self, keys: Vec<ArtifactKey>, max_age: Duration) {
        let reads = futures::stream::iter(keys).map(|key| async move {
            // An unreadable or damaged artifact is shown: looking it up reports why.
            if let Err(error) = self.state(&key, max_age).await {
                tracing::debug!(%error, "listed without reading its log");
            }
        });
        reads.buffer_unordered(PARALLEL_LOGS).collect::<()>().await;
    }

    /// Returns what is known of an artifact, from memory or from the local copy of its log. Sends nothing.
    async fn recall(&self, key: &ArtifactKey) -> KnownLog {
        let cell = self.cell(key);
        if !cell.known().loaded {
            let _reading = cell.reading.lock().await;
            self.load(key, &cell);
        }
        cell.known()
    }

    /// Whether it is time to read some of a project's logs again; if so, it is taken as done.
    fn begin_looking(&self, project: &ProjectName, max_age: Duration) -> bool {
        let mut looks = self.looks.lock();
        let is_due = looks.get(project).is_none_or(|at| at.elapsed() >= max_age);
        if is_due {
            looks.insert(project.clone(), Instant::now());
        }
        is_due
    }
}
