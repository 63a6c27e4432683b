//! Looking up artifacts and versions by name.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::artifacts::Catalog;
use super::cell::KnownLog;
use super::error::CatalogError;
use super::read::Expect;
use super::state::ArtifactState;
use crate::format::name::{ArtifactKey, Reference, Selector, VersionNumber};
use crate::format::record::VersionRecord;

impl Catalog {
    /// Returns the state of an artifact, at most `max_age` old; none if it does not exist. While the store is unreachable
    /// this is the last known state, marked as [`ArtifactState::unheard`]. Cost: nothing if the state is young enough,
    /// else one request if nothing is new.
    ///
    /// # Errors
    /// [`CatalogError::Damaged`]; a request that failed, if nothing is known of the artifact.
    pub async fn state(
        &self,
        key: &ArtifactKey,
        max_age: Duration,
    ) -> Result<Option<Arc<ArtifactState>>, CatalogError> {
        let cell = self.cell(key);
        let fresh = |known: &KnownLog| known.checked.is_some_and(|at| at.elapsed() < max_age);
        let known = cell.known();
        if fresh(&known) {
            return Ok(known.shown());
        }
        let _reading = cell.reading.lock().await;
        let known = cell.known();
        if fresh(&known) {
            return Ok(known.shown());
        }
        match self.read_on(key, &cell, Expect::Nothing).await {
            Err(CatalogError::Store(e)) if e.is_transient() => {
                // Offline: the known state is the best there is; the store is asked again after the usual interval.
                // Where nothing is known, nobody may take that for "there is none".
                let known = cell.known();
                let Some(state) = &known.state else { return Err(e.into()) };
                let shown = Arc::new(state.unheard_since(e));
                cell.set(KnownLog { checked: Some(Instant::now()), unheard: Some(shown.clone()), ..known });
                Ok(Some(shown))
            }
            other => other,
        }
    }

    /// Returns the state of an artifact that must exist.
    ///
    /// # Errors
    /// [`CatalogError::NoArtifact`] if it does not; as [`Catalog::state`].
    pub async fn existing(
        &self,
        key: &ArtifactKey,
        max_age: Duration,
    ) -> Result<Arc<ArtifactState>, CatalogError> {
        self.state(key, max_age).await?.ok_or_else(|| CatalogError::NoArtifact(key.clone()))
    }

    /// Returns the version that a reference selects in the store now.
    ///
    /// # Errors
    /// [`CatalogError::NoVersion`] or [`CatalogError::Deleted`] if there is none; as [`Catalog::existing`].
    pub async fn resolve(&self, reference: &Reference) -> Result<VersionRecord, CatalogError> {
        let state = self.existing(&reference.artifact, Duration::ZERO).await?;
        state.require(&reference.selector).cloned()
    }

    /// Replaces references by alias, or without one, by the number of the version that they select now. Others, and those
    /// that select nothing, stay as they are. Duplicates are dropped. Cost: a request for each that is not a number.
    pub async fn pinned(&self, inputs: Vec<String>) -> Vec<String> {
        let mut pinned = Vec::with_capacity(inputs.len());
        for input in inputs {
            let meant = match input.parse::<Reference>() {
                Ok(reference) if matches!(reference.selector, Selector::Latest | Selector::Alias(_)) => {
                    self.pin(&reference).await
                }
                _ => input,
            };
            if !pinned.contains(&meant) {
                pinned.push(meant);
            }
        }
        pinned
    }

    async fn pin(&self, reference: &Reference) -> String {
        match self.resolve(reference).await {
            Ok(version) => format!("{}:{}", reference.artifact, version.version),
            Err(e) => {
                tracing::warn!("the input {reference} is recorded as it was given: {e}");
                reference.to_string()
            }
        }
    }
}

impl ArtifactState {
    /// Returns the existing version that a selector means.
    ///
    /// # Errors
    /// [`CatalogError::NoVersion`], or [`CatalogError::Deleted`] if it was deleted; the store's error if the version may
    /// be in the store, which did not answer.
    pub fn require(&self, selector: &Selector) -> Result<&VersionRecord, CatalogError> {
        self.select(selector).ok_or_else(|| self.why_missing(selector))
    }

    /// Returns the number of a version that a selector names, also of a deleted one if it is named by its number.
    ///
    /// # Errors
    /// As [`ArtifactState::require`].
    pub fn number_of(&self, selector: &Selector) -> Result<VersionNumber, CatalogError> {
        match selector {
            Selector::Version(number) if self.deleted_version(*number).is_some() => Ok(*number),
            selector => Ok(self.require(selector)?.version),
        }
    }

    fn why_missing(&self, selector: &Selector) -> CatalogError {
        let artifact = self.key().clone();
        let gone = match selector {
            Selector::Version(number) => self.deleted_version(*number).map(|d| (Some(*number), d)),
            _ if self.is_removed() => self.deleted().next_back().map(|d| (None, d)),
            _ => None,
        };
        match gone {
            None if let Some(reason) = self.unheard() => reason.clone().into(),
            Some((version, deleted)) => {
                let (actor, time) = (deleted.actor.clone(), deleted.time);
                CatalogError::Deleted { artifact, version, actor, time }
            }
            None => CatalogError::NoVersion { artifact, selector: selector.clone() },
        }
    }
}
