//! Projects and artifacts as the store lists them, kept for when it is unreachable.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::artifacts::{Catalog, FolderListing};
use super::cell::LogCell;
use super::error::CatalogError;
use crate::format::name::{ArtifactName, ProjectName};
use crate::store::{ARTIFACTS_PREFIX, StoreError};

impl Catalog {
    /// Lists the projects in the store; while it is unreachable, those listed before. Cost: a listing if the last one is
    /// older than `max_age`.
    ///
    /// # Errors
    /// A request that failed, if this host never listed the projects.
    pub async fn projects(&self, max_age: Duration) -> Result<Vec<ProjectName>, CatalogError> {
        Ok(parsed(&self.listing(ARTIFACTS_PREFIX, max_age).await?.names))
    }

    /// Whether the store has a project. Cost: as [`Catalog::projects`].
    ///
    /// # Errors
    /// The store is unreachable, and the project is not known here.
    pub(super) async fn lists_project(
        &self,
        project: &ProjectName,
        max_age: Duration,
    ) -> Result<bool, CatalogError> {
        let listing = match self.listing(ARTIFACTS_PREFIX, max_age).await {
            // A project with a log on this host is known without a listing.
            Err(CatalogError::Store(e))
                if e.is_transient() && self.known_below(ARTIFACTS_PREFIX).contains(project.as_str()) =>
            {
                return Ok(true);
            }
            listing => listing?,
        };
        match (listing.names.contains(project.as_str()), listing.unheard) {
            (false, Some(reason)) => Err(reason.into()),
            (found, _) => Ok(found),
        }
    }

    /// Whether this host knows an artifact of the project that was not deleted when its log was last read. Sends nothing.
    pub fn knows_project(&self, project: &ProjectName) -> bool {
        let cells = self.cells.lock();
        let is_alive = |cell: &LogCell| cell.known().state.is_some_and(|state| !state.is_removed());
        cells.iter().any(|(key, cell)| key.project == *project && is_alive(cell))
    }

    /// Lists the artifacts of a project; see [`Catalog::projects`].
    ///
    /// # Errors
    /// A request that failed, if this host never listed the project.
    pub async fn artifacts(
        &self,
        project: &ProjectName,
        max_age: Duration,
    ) -> Result<Vec<ArtifactName>, CatalogError> {
        Ok(parsed(&self.listing(&project_prefix(project), max_age).await?.names))
    }

    async fn listing(&self, prefix: &str, max_age: Duration) -> Result<FolderListing, CatalogError> {
        let cell = {
            let mut listings = self.listings.lock();
            listings.entry(prefix.to_owned()).or_default().clone()
        };
        let mut listed = cell.lock().await;
        if let Some(listing) = &*listed
            && listing.asked.elapsed() < max_age
        {
            return Ok(listing.clone());
        }
        let (names, unheard) = match self.listing_now(prefix).await {
            Ok(names) => (names, None),
            Err(e) if e.is_transient() => {
                let before = listed.as_ref().map(|listing| listing.names.clone());
                // Without a listing nobody knows all names, and a part must not be taken for the whole.
                let Some(mut names) = before.or_else(|| self.mirror.listing(prefix)) else {
                    return Err(e.into());
                };
                names.extend(self.known_below(prefix));
                tracing::warn!("{e}: showing the last listing");
                (names, Some(e))
            }
            Err(e) => return Err(e.into()),
        };
        if unheard.is_none() && listed.as_ref().is_none_or(|before| before.names != names) {
            self.mirror.set_listing(prefix, &names);
        }
        let listing = FolderListing { asked: Instant::now(), names, unheard };
        *listed = Some(listing.clone());
        Ok(listing)
    }

    /// Returns the names of folders directly below one that hold an artifact with a log on this host.
    fn known_below(&self, prefix: &str) -> BTreeSet<String> {
        let known = self.kept().into_iter();
        known
            .filter_map(|key| match prefix == ARTIFACTS_PREFIX {
                true => Some(key.project.to_string()),
                false => (project_prefix(&key.project) == prefix).then(|| key.name.to_string()),
            })
            .collect()
    }

    pub(super) async fn listing_now(&self, prefix: &str) -> Result<BTreeSet<String>, StoreError> {
        Ok(self.store.list_folders(prefix).await?.into_iter().collect())
    }

    /// Forgets listings, so that names made by this host are seen at once.
    pub(super) fn forget_listings(&self) {
        self.listings.lock().clear();
    }
}

/// Returns the folder of a project.
pub(super) fn project_prefix(project: &ProjectName) -> String {
    format!("{ARTIFACTS_PREFIX}/{project}")
}

/// Returns the names that are well formed; this program writes no others.
pub(super) fn parsed<T: std::str::FromStr>(names: &BTreeSet<String>) -> Vec<T> {
    names.iter().filter_map(|name| name.parse().ok()).collect()
}
