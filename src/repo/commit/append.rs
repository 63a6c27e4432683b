//! The event of a commit: what makes a prepared version visible.

use super::error::CommitError;
use super::new_version::{Committed, NewVersion};
use super::prepared::Prepared;
use crate::format::details::DetailsRef;
use crate::format::event::{Commit, EventBody, Recommit};
use crate::format::id::{ArtifactId, Digest, EventId};
use crate::format::inline_root::InlineRoot;
use crate::format::name::VersionNumber;
use crate::repo::catalog::{AppendStep, ArtifactState, Catalog, CatalogError};

/// Why the event was not appended.
pub(super) enum AppendError {
    /// The manifest is not in the store yet.
    NeedsManifest,
    /// The records of collections up to `epoch` were not read for this artifact.
    NeedsRecords { artifact: ArtifactId, epoch: u64 },
    /// The commit fails.
    Commit(CommitError),
}

impl From<CatalogError> for AppendError {
    fn from(e: CatalogError) -> Self {
        AppendError::Commit(e.into())
    }
}

impl From<CommitError> for AppendError {
    fn from(e: CommitError) -> Self {
        AppendError::Commit(e)
    }
}

/// Appends the event that makes `prepared` a version, or that changes the settings of the latest version if that has
/// the same content.
pub(super) async fn append(
    catalog: &Catalog,
    request: &NewVersion,
    id: EventId,
    prepared: &Prepared,
    details: Option<DetailsRef>,
) -> Result<Committed, AppendError> {
    let settings = || request.settings.body(details);
    let appended = catalog
        .append(&request.artifact, id, &request.actor, |state: &ArtifactState| {
            // Behind a collection's fence only a commit is appended that knows what was condemned.
            let known = || {
                let artifact = state.artifact_id();
                if state.epoch() <= prepared.epoch && prepared.covered == Some(artifact) {
                    return Ok(());
                }
                Err(AppendError::NeedsRecords { artifact, epoch: state.epoch() })
            };
            let identical = state.latest().filter(|latest| latest.digest == prepared.digest);
            if let Some(latest) = identical {
                if let Some(demanded) = request.demanded {
                    let error = CommitError::Identical { demanded, version: latest.version };
                    return Err(AppendError::Commit(error));
                }
                if request.settings.is_empty() {
                    return Ok(AppendStep::Nothing);
                }
                known()?;
                let mut settings = settings();
                // A copy of a version is not made from itself.
                settings.reads.retain(|read| !read.is_of(&request.artifact, latest.version));
                let again = Recommit { version: latest.version, digest: latest.digest, settings };
                return Ok(AppendStep::Append(EventBody::Recommit(again)));
            }
            check_demand(request, state.next_version()).map_err(AppendError::Commit)?;
            known()?;
            let Some((manifest, root_bytes)) = prepared.manifest else {
                return Err(AppendError::NeedsManifest);
            };
            Ok(AppendStep::Append(EventBody::Commit(Commit {
                version: state.next_version(),
                digest: prepared.digest,
                manifest,
                entries: prepared.entries,
                files: prepared.files,
                bytes: prepared.bytes,
                stored_bytes: prepared.stored_bytes + root_bytes,
                root: InlineRoot::of(&prepared.root.1),
                settings: settings(),
            })))
        })
        .await?;
    let latest = || appended.state.latest().map(|v| v.version);
    let version = appended.outcome.flatten().or_else(latest).ok_or(CommitError::Empty)?;
    // It may have been deleted since.
    let record = appended.state.record(version).ok_or(CommitError::Empty)?;
    let created = record.id == id;
    Ok(Committed {
        artifact: request.artifact.clone(),
        version,
        digest: record.digest,
        created,
        files: record.files,
        bytes: record.bytes,
        stored_bytes: if created { record.stored_bytes } else { prepared.stored_bytes },
    })
}

/// Returns the event's id: the same for all attempts at one commit of one content.
pub(super) fn event_id(origin: &[u8; 16], digest: &Digest) -> EventId {
    let hash = blake3::Hasher::new().update(origin).update(digest.as_bytes()).finalize();
    EventId::from_bytes(*hash.as_bytes().first_chunk().expect("16 of 32 bytes"))
}

fn check_demand(request: &NewVersion, next: VersionNumber) -> Result<(), CommitError> {
    match request.demanded {
        Some(demanded) if demanded != next => {
            Err(CommitError::WrongNumber { artifact: request.artifact.clone(), demanded, next })
        }
        _ => Ok(()),
    }
}

/// Refuses a demanded number that is not the next one, unless this commit itself took it in an earlier attempt.
pub(super) fn check_number(request: &NewVersion, state: Option<&ArtifactState>) -> Result<(), CommitError> {
    let taken = request.demanded.and_then(|demanded| state?.record(demanded));
    if taken.is_some_and(|taken| taken.id == event_id(&request.origin, &taken.digest)) {
        return Ok(());
    }
    check_demand(request, state.map_or(VersionNumber(0), ArtifactState::next_version))
}
