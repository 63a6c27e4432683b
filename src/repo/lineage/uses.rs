//! Runs that read a version and made none from it: each is an object in the store, visible to all hosts.
//!
//! `artfs run` writes them after its run has ended. They are not part of the log: they may come late or never, and may be
//! deleted without harm.

use futures::{StreamExt, TryStreamExt};

use crate::format::FORMAT_VERSION;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::format::run::{Run, Use, VersionRead};
use crate::store::{Key, Store, StoreError, uses_prefix};

/// Objects written or read concurrently.
const PARALLEL: usize = 8;
/// The most versions that one run is recorded as a user of.
const MAX_PUBLISHED: usize = 1024;
/// The most uses read for one version.
pub const MAX_USES: usize = 10_000;
/// The longest object that is decoded.
const MAX_USE_BYTES: usize = 1 << 20;

/// Records in the store that a run read these versions, and returns how many are recorded. May be repeated. Cost: a request
/// for each version.
///
/// # Errors
/// The store does not take an object.
pub async fn publish(store: &Store, run: &Run, reads: &[VersionRead]) -> Result<usize, StoreError> {
    let Some(id) = &run.id else { return Ok(0) };
    let put = |read: &VersionRead| {
        let key = Key::Use(read.artifact(), read.version, id.clone());
        let used = Use { format: FORMAT_VERSION, read: read.clone(), run: run.clone() };
        let bytes = serde_json::to_vec(&used).expect("a use is plain data");
        async move { store.put(&key, vec![bytes.into()]).await }
    };
    let reads = &reads[..reads.len().min(MAX_PUBLISHED)];
    futures::stream::iter(reads.iter().map(put)).buffer_unordered(PARALLEL).try_collect::<Vec<()>>().await?;
    Ok(reads.len())
}

/// Returns the recorded users of a version, newest first, without objects that do not decode. Cost: a listing, and a
/// request for each run.
///
/// # Errors
/// The store cannot be listed, or an object cannot be read.
pub async fn of_version(
    store: &Store,
    artifact: &ArtifactKey,
    version: VersionNumber,
) -> Result<Vec<Use>, StoreError> {
    let names = store.list_first(&uses_prefix(artifact, version), None, MAX_USES).await?;
    let keys = names.iter().filter_map(|name| Key::parse(name));
    let read = keys.map(|key| async move {
        match store.get(&key).await {
            Ok(bytes) if bytes.len() <= MAX_USE_BYTES => Ok(decode(&key, &bytes)),
            Ok(_) | Err(StoreError::NotFound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    });
    let found: Vec<Option<Use>> = futures::stream::iter(read).buffered(PARALLEL).try_collect().await?;
    let mut uses: Vec<Use> = found.into_iter().flatten().collect();
    uses.sort_by_key(|used| std::cmp::Reverse(used.run.started));
    Ok(uses)
}

fn decode(key: &Key, bytes: &[u8]) -> Option<Use> {
    match serde_json::from_slice::<Use>(bytes) {
        Ok(used) if used.format <= FORMAT_VERSION => Some(used),
        Ok(used) => {
            tracing::warn!(
                "{key} has format {}, which is newer than this version of artfs can read",
                used.format
            );
            None
        }
        Err(e) => {
            tracing::warn!("{key} is damaged and is skipped: {e}");
            None
        }
    }
}
