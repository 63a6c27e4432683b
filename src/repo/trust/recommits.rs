//! Commits of the content of a version that is there already: signed, they sign that version.
//!
//! Such an event names number and digest, not the manifest; the proof of the digest, which every covered version has to
//! pass, stands for that.

use parking_lot::Mutex;
use std::collections::HashMap;

use bytes::Bytes;

use crate::format::event::{Event, EventBody};
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::signed::SignedEvent;
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError, VersionRecord};

/// Such commits of one version that are looked at, the newest of those that have a signature.
const MAX_AGAIN: usize = 16;
/// Versions that are remembered.
const MAX_VERSIONS: usize = 100_000;

/// Where the commits of versions' content stand. The lock is held for look-ups only.
#[derive(Debug, Default)]
pub(super) struct Again(Mutex<HashMap<(ArtifactKey, VersionNumber), FoundRecommit>>);

#[derive(Debug, Clone)]
struct FoundRecommit {
    /// The last event that was looked at.
    upto: u64,
    /// The events that commit the content again and have a signature, whosever; the newest last.
    seqs: Vec<u64>,
}

/// Whether an event commits a version's content again.
pub(super) fn commits_again(event: &Event, version: &VersionRecord) -> bool {
    matches!(&event.body, EventBody::Recommit(again)
        if (again.version, again.digest) == (version.version, version.digest))
}

impl Again {
    /// The numbers of the signed events that commit a version's content again, the newest first. Cost: nothing for a version
    /// without any; else the events behind its commit, each once, of which those that this host lacks are requests.
    pub async fn of(
        &self,
        catalog: &Catalog,
        state: &ArtifactState,
        version: &VersionRecord,
    ) -> Result<Vec<u64>, CatalogError> {
        if version.producers.is_empty() {
            return Ok(vec![]);
        }
        let key = (state.key().clone(), version.version);
        let known = self.0.lock().get(&key).cloned();
        let mut found = known.unwrap_or(FoundRecommit { upto: version.seq, seqs: vec![] });
        if found.upto < state.seq()
            && let Some((_, events)) = catalog.events_behind(state, found.upto).await?
        {
            let is_signed = |bytes: &&Bytes| matches!(SignedEvent::from_stored(bytes), Ok(Some(_)));
            let signed = events.iter().filter(is_signed);
            let decoded = signed.filter_map(|bytes| Event::decode(bytes).ok());
            found.seqs.extend(decoded.filter(|event| commits_again(event, version)).map(|event| event.seq));
            found.seqs.drain(..found.seqs.len().saturating_sub(MAX_AGAIN));
            found.upto = state.seq();
            let mut all = self.0.lock();
            if all.len() >= MAX_VERSIONS {
                all.clear();
            }
            all.insert(key, found.clone());
        }
        found.seqs.reverse();
        Ok(found.seqs)
    }
}
