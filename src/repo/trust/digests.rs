//! Verification of digests: that the entries of a version's manifest yield the digest that was signed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

use super::error::{ForbiddenCause, Refusal};
use crate::format::entry::EntryBody;
use crate::format::id::{Digest, ManifestId};
use crate::format::listing::ListingHasher;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::repo::catalog::VersionRecord;
use crate::repo::view::{ReadContext, ReadError, VersionView};

/// How long a lookup waits for the verification of a digest, which continues after that.
const PATIENCE: Duration = Duration::from_secs(60);

/// All that the verification of a version depends on.
type VerifiedVersion = (ArtifactKey, VersionNumber, ManifestId);

/// The versions whose digests were verified. Locks are held for lookups only.
#[derive(Debug)]
pub(super) struct VerifiedDigests {
    context: Arc<ReadContext>,
    versions: Mutex<HashMap<VerifiedVersion, Arc<OnceCell<()>>>>,
    /// The manifests of verified versions, and of the versions they contain.
    manifests: Mutex<HashSet<ManifestId>>,
}

impl VerifiedDigests {
    pub fn new(context: Arc<ReadContext>) -> Self {
        Self { context, versions: Mutex::default(), manifests: Mutex::default() }
    }

    /// Whether a manifest belongs to a verified version.
    pub fn has(&self, manifest: ManifestId) -> bool {
        self.manifests.lock().contains(&manifest)
    }

    /// Verifies the digest of a version, once. Cost: the manifest's blocks that the cache lacks.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] if the manifest yields another digest; [`Refusal::Late`] if it takes long: it continues, so
    /// call again; [`Refusal::Read`].
    pub async fn verify(
        self: &Arc<Self>,
        artifact: &ArtifactKey,
        name: &str,
        version: &VersionRecord,
    ) -> Result<(), Refusal> {
        let key = (artifact.clone(), version.version, version.manifest);
        let cell = self.versions.lock().entry(key).or_default().clone();
        let (this, artifact, version) = (self.clone(), artifact.clone(), version.clone());
        let (label, shown) = (format!("{artifact}:{}", version.version), name.to_owned());
        // In a task of its own: the caller may give up, the work is not lost.
        let verification = tokio::spawn(async move {
            let verify = || async {
                let view = VersionView::open(&this.context, &artifact, version.manifest, &label).await?;
                let manifests = verify_manifests(view, &shown, version.digest).await?;
                this.manifests.lock().extend(manifests);
                Ok(())
            };
            cell.get_or_try_init(verify).await.copied()
        });
        match tokio::time::timeout(PATIENCE, verification).await {
            Ok(Ok(verified)) => verified,
            Ok(Err(_)) => Err(ReadError::Stopped.into()),
            Err(_) => Err(Refusal::Late { name: name.to_owned() }),
        }
    }
}

/// Reads all entries of a version, and of the versions that it contains; returns their manifests if each yields its digest.
async fn verify_manifests(
    view: Arc<VersionView>,
    name: &str,
    digest: Digest,
) -> Result<HashSet<ManifestId>, Refusal> {
    let mut verified = HashSet::new();
    let mut open = vec![(view, digest)];
    while let Some((view, stated)) = open.pop() {
        if !verified.insert(view.manifest()) {
            continue;
        }
        let (mut listing, mut contained) = (ListingHasher::default(), vec![]);
        let mut entries = view.entries(0);
        loop {
            let batch = entries.next_batch().await?;
            if batch.is_empty() {
                break;
            }
            for (_, entry) in batch {
                listing.push(&entry);
                if let EntryBody::Contained(inner) = entry.body {
                    contained.push(inner);
                }
            }
        }
        let found = listing.digest();
        if found != stated || view.totals().digest != stated {
            let manifest = view.manifest();
            let source = Box::new(ForbiddenCause::OtherDigest { manifest, found, signed: stated });
            return Err(Refusal::Forbidden { name: name.to_owned(), source });
        }
        for inner in contained {
            if !verified.contains(&inner.manifest) {
                open.push((view.open_contained(&inner).await?, inner.digest));
            }
        }
    }
    Ok(verified)
}
