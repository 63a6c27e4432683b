//! Pinning, with the replies that the daemon's clients get, or the command itself where no daemon runs.

use super::daemon::wire::{PinListed, PinReply, UnpinReply, WorkProgress};
use crate::format::name::Reference;
use crate::repo::cache::{Cache, Pin, PinnedVersion};
use crate::repo::catalog::Catalog;
use crate::repo::pin::{self, PinError, PinProgress, Pinned};
use crate::repo::view::ReadContext;

/// Pins a version and returns the reply.
pub async fn pin(
    catalog: &Catalog,
    reader: &ReadContext,
    reference: &Reference,
    progress: &PinProgress,
) -> Result<PinReply, PinError> {
    let Pinned { version, fetched_bytes } = pin::pin(catalog, reader, reference, progress).await?;
    let PinnedVersion { artifact, version, digest, files, bytes, .. } = version;
    Ok(PinReply { artifact, version, digest, files, bytes, fetched_bytes })
}

/// Returns the progress of pinning.
pub fn pin_progress(reference: &Reference, progress: &PinProgress, cache: &Cache) -> WorkProgress {
    let (done_bytes, total_bytes) = progress.bytes(cache);
    WorkProgress { step: format!("pinning {reference}"), done_bytes, total_bytes }
}

/// Unpins a version.
pub async fn unpin(catalog: &Catalog, cache: &Cache, reference: &Reference) -> Result<UnpinReply, PinError> {
    let (version, was_pinned) = pin::unpin(catalog, cache, reference).await?;
    Ok(UnpinReply { artifact: reference.artifact.clone(), version, was_pinned })
}

/// The pinned versions of a store.
pub fn pins(catalog: &Catalog, cache: &Cache) -> Vec<PinListed> {
    let listed = |pin: Pin| {
        let missing_bytes = cache.missing_bytes(&pin);
        let PinnedVersion { artifact, version, digest, files, bytes, since, .. } = pin.version;
        PinListed { artifact, version, digest, files, bytes, missing_bytes, since }
    };
    cache.pins(catalog.store().id()).into_iter().map(listed).collect()
}
