//! A log compared with what this host has seen of it.

use std::time::Duration;

use super::artifacts::Catalog;
use super::error::LogError;
use super::state::ArtifactState;
use crate::format::name::ArtifactKey;

impl Catalog {
    /// Reads a whole log from the store, and checks its chain ([`Catalog::verify_log`]) and that it continues what this
    /// host has seen of it. Cost: a request for each event, and a few listings.
    ///
    /// # Errors
    /// What is wrong with the log; a request that failed.
    pub async fn check_log(&self, key: &ArtifactKey) -> Result<ArtifactState, LogError> {
        let seen = self.remembered(key).await;
        let state = self.verify_log(key).await?;
        if let Some(seen) = seen.as_ref().filter(|seen| seen.seq() > state.seq()) {
            let (artifact, seq) = (key.clone(), state.seq());
            return Err(LogError::RolledBack { artifact, seq, more: seen.seq() - seq });
        }
        // Folding the new events onto what was seen shows whether the past was rewritten.
        let known = self.existing(key, Duration::ZERO).await?;
        if known.seq() == state.seq() && known.head() != state.head() {
            let seen = seen.map_or(known.head(), |seen| seen.head());
            return Err(LogError::Rewritten { artifact: key.clone(), found: state.head(), seen });
        }
        Ok(state)
    }
}
