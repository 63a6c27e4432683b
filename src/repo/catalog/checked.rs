//! A log held against what this host has seen of it.

use std::time::Duration;

use super::{ArtifactState, Catalog, CatalogError};
use crate::format::id::EventHash;
use crate::format::name::ArtifactKey;

/// What is wrong with a log, or why that cannot be known.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// It cannot be read, or is no chain.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It is shorter than what was seen.
    #[error("the log of {artifact} ends at event {seq}, but this host has seen {more} event{} more", if *more == 1 { "" } else { "s" })]
    RolledBack {
        /// The artifact.
        artifact: ArtifactKey,
        /// The last event that is there.
        seq: u64,
        /// How many this host has seen behind it.
        more: u64,
    },
    /// It is another than what was seen.
    #[error("the log of {artifact} was rewritten: its last event is {found}, this host has seen {seen}")]
    Rewritten {
        /// The artifact.
        artifact: ArtifactKey,
        /// The hash of its last event.
        found: EventHash,
        /// The hash that this host knows of that event.
        seen: EventHash,
    },
}

impl Catalog {
    /// Reads a whole log from the store, checks its chain ([`Catalog::verify_log`]), and that it goes on from what this
    /// host has seen of it. Cost: a request for each event, and a few listings.
    ///
    /// # Errors
    /// What is wrong with it; a store that cannot be reached.
    pub async fn check_log(&self, key: &ArtifactKey) -> Result<ArtifactState, LogError> {
        let seen = self.remembered(key).await;
        let state = self.verify_log(key).await?;
        if let Some(seen) = seen.as_ref().filter(|seen| seen.seq() > state.seq()) {
            let (artifact, seq) = (key.clone(), state.seq());
            return Err(LogError::RolledBack { artifact, seq, more: seen.seq() - seq });
        }
        // Folding what is new onto what was seen shows whether the past was rewritten.
        let known = self.existing(key, Duration::ZERO).await?;
        if known.seq() == state.seq() && known.head() != state.head() {
            let seen = seen.map_or(known.head(), |seen| seen.head());
            return Err(LogError::Rewritten { artifact: key.clone(), found: state.head(), seen });
        }
        Ok(state)
    }
}
