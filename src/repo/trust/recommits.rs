//! Recommits: later commits of a version's content, whose signatures count for the version.
//!
//! A recommit names number and digest, not the manifest; verifying the digest, which every covered version must pass,
//! covers that.

use parking_lot::Mutex;
use std::collections::HashMap;

use bytes::Bytes;

use crate::format::event::{Event, EventBody};
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::signed::SignedEvent;
use crate::repo::catalog::{ArtifactState, Catalog, CatalogError, VersionRecord};

/// Signed recommits of one version that are checked, the newest ones.
const MAX_RECOMMITS: usize = 16;
/// Versions that are remembered.
const MAX_VERSIONS: usize = 100_000;

/// Where the recommits of versions are. The lock is held for lookups only.
#[derive(Debug, Default)]
pub(super) struct Recommits(Mutex<HashMap<(ArtifactKey, VersionNumber), FoundRecommit>>);

#[derive(Debug, Clone)]
struct FoundRecommit {
    /// The last event that was read.
    upto: u64,
    /// The recommits with any signature, newest last.
    seqs: Vec<u64>,
}

/// Whether an event is a recommit of a version.
pub(super) fn is_recommit(event: &Event, version: &VersionRecord) -> bool {
    matches!(&event.body, EventBody::Recommit(again)
        if (again.version, again.digest) == (version.version, version.digest))
}

impl Recommits {
    /// Returns the numbers of a version's signed recommits, newest first. Cost: nothing for a version without any; else once
    /// a request for each event after its commit that this host lacks.
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
            found.seqs.extend(decoded.filter(|event| is_recommit(event, version)).map(|event| event.seq));
            found.seqs.drain(..found.seqs.len().saturating_sub(MAX_RECOMMITS));
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
