//! The committer: makes a version of a tree.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::append::{AppendError, append, check_number, event_id};
use super::chunk_index::ChunkIndex;
use super::described_objects::DescribedObjects;
use super::error::CommitError;
use super::headroom::Headroom;
use super::learn_chunks::learn_chunks;
use super::lease_keeper::LeaseKeeper;
use super::link::{LinkedTree, Linker};
use super::new_version::{Committed, NewVersion};
use super::place::TreeLocation;
use super::prepared::Prepared;
use super::preparer::Preparer;
use super::progress::CommitProgress;
use super::reference::{Checksums, ReferenceMaker};
use super::settings::Settings;
use super::stored_chunks::StoredChunks;
use super::tree_source::TreeSource;
use crate::format::details::{Details, DetailsRef};
use crate::format::id::{DetailsId, EventId};
use crate::format::name::ArtifactKey;
use crate::repo::catalog::Catalog;
use crate::repo::tombstones::{self, Condemned};
use crate::repo::view::ReadContext;
use crate::store::{Key, Store};

/// How old the known state of the artifact may be when a commit begins; the newest decides in the end.
const KNOWN_AGE: Duration = Duration::from_secs(1);

/// Collections that may overtake one commit between its preparation and its event.
const MAX_OVERTAKINGS: usize = 64;

/// Makes commits to one store.
#[derive(Debug, Clone)]
pub struct Committer {
    catalog: Arc<Catalog>,
    preparer: Preparer,
    quota_bytes: Option<u64>,
    place: Option<TreeLocation>,
}

impl Committer {
    /// Makes a committer that looks for stored chunks in `index`.
    ///
    /// `context` reads the manifests of earlier versions that this host did not write.
    pub fn new(catalog: Arc<Catalog>, context: Arc<ReadContext>, index: Arc<ChunkIndex>) -> Self {
        let database = index.path().map(|path| path.with_file_name(tombstones::DATABASE));
        let store = catalog.store().clone();
        let condemned = Arc::new(Condemned::open(database.as_deref(), store.clone()));
        let damaged = index.clone();
        context.tell_damage(Box::new(move |id, pack| damaged.lose(id, pack)));
        let preparer = Preparer { store, context, stored: StoredChunks { index, condemned } };
        Self { catalog, preparer, quota_bytes: None, place: None }
    }

    /// Returns the index of stored chunks.
    pub fn index(&self) -> &ChunkIndex {
        self.preparer.index()
    }

    /// Returns the same committer for one commit under a quota: `limit` bytes for its project, none for no limit.
    pub fn with_quota(&self, limit: Option<u64>) -> Self {
        Self { quota_bytes: limit, ..self.clone() }
    }

    /// Returns the same committer for a tree at `place`: links back into the tree are made relative, and if it is in a
    /// mount, links to versions are pinned.
    pub fn with_links(&self, place: Option<TreeLocation>) -> Self {
        Self { place, ..self.clone() }
    }

    fn store(&self) -> &Arc<Store> {
        self.catalog.store()
    }

    fn condemned(&self) -> &Condemned {
        &self.preparer.stored.condemned
    }

    /// Commits a tree. When this returns, the version is durable in the store.
    ///
    /// A symbolic link into the mount ([`Committer::with_links`]) is pinned or refused, one to a URI becomes references.
    /// Content identical to the latest version makes no new one: its aliases, tags and metadata are changed as
    /// asked. `before_event` gets the event's id before the first attempt to write it, to make it durable; again if a
    /// collection overtook the commit and its content changed meanwhile.
    ///
    /// The tree is walked on a thread that may block; everything else runs on the runtime.
    /// Cost: one request a pack, and up to five for manifest, details and event; one more for the first commit of this
    /// host to an artifact, and one for each collection since the last; more under a quota.
    ///
    /// # Errors
    /// Why there is no version: see [`CommitError`]. After [`CommitError::Store`] or [`CommitError::Catalog`] the event may
    /// have reached the store all the same; the same request finds it.
    pub async fn commit(
        &self,
        request: &NewVersion,
        progress: Arc<CommitProgress>,
        tree: impl TreeSource + 'static,
        mut before_event: impl FnMut(EventId) -> Result<(), CommitError>,
    ) -> Result<Committed, CommitError> {
        let artifact = &request.artifact;
        // Nothing is read and hashed for a store that cannot take it.
        self.store().ask_again().await?;
        self.store().prove_conditions().await?;
        let _lease = LeaseKeeper::begin(self.store().clone());
        let mut state = self.catalog.state(artifact, KNOWN_AGE).await?;
        // A demanded number that is wrong already need not wait for the upload. What is known may be outdated: the
        // store is asked before refusing.
        if check_number(request, state.as_deref()).is_err() {
            state = self.catalog.state(artifact, Duration::ZERO).await?;
            check_number(request, state.as_deref())?;
        }
        let exists = state.as_ref().map(|state| state.artifact_id());
        if let Some(state) = &state {
            self.condemned().learn(&state.artifact_id(), state.epoch()).await?;
        }
        let latest = state.as_ref().and_then(|state| state.latest());
        if let Some(latest) = latest {
            learn_chunks(&self.preparer.context, self.preparer.index(), artifact, latest).await;
        }
        let linker = self.linker(&request.settings, &progress);
        let tree: Arc<dyn TreeSource> = Arc::new(LinkedTree { tree, linker });
        let latest = latest.map(|latest| latest.digest);
        let headroom = match self.quota_bytes {
            Some(limit) => Some(Headroom::of(&self.catalog, &artifact.project, limit, latest).await?),
            None => None,
        };
        let mut prepared = self.preparer.prepare(&tree, &progress, headroom.clone()).await?;
        if let Some(headroom) = headroom {
            // The tree may have changed since it was measured.
            headroom.check(prepared.adds_to(latest))?;
        }
        prepared.covered = exists.filter(|artifact| self.condemned().covers(artifact));
        let mut id = event_id(&request.origin, &prepared.digest);
        before_event(id)?;
        let mut details = self.write_details(request).await?;
        let mut overtakings = 0;
        // The manifest is written only when the event will name it.
        loop {
            progress.check()?;
            match append(&self.catalog, request, id, &prepared, details).await {
                Err(AppendError::NeedsManifest) => self.write_manifest(artifact, &mut prepared).await?,
                Err(AppendError::NeedsRecords { artifact, epoch }) => {
                    overtakings += 1;
                    if overtakings > MAX_OVERTAKINGS {
                        return Err(CommitError::Overtaken);
                    }
                    self.condemned().learn(&artifact, epoch).await?;
                    if !self.preparer.vet(&mut prepared).await? {
                        prepared = self.preparer.prepare(&tree, &progress, None).await?;
                        let of_content = event_id(&request.origin, &prepared.digest);
                        if id != of_content {
                            id = of_content;
                            before_event(id)?;
                        }
                    }
                    if details.is_some_and(|details| self.condemned().has_details(&details.id)) {
                        details = self.write_details(request).await?;
                    }
                    prepared.covered = self.condemned().covers(&artifact).then_some(artifact);
                }
                Err(AppendError::Commit(e)) => return Err(e),
                Ok(outcome) => {
                    if outcome.created {
                        self.index_new_chunks(prepared).await;
                    }
                    return Ok(outcome);
                }
            }
        }
    }

    fn linker(&self, settings: &Settings, progress: &Arc<CommitProgress>) -> Linker {
        let folder = self.index().folder().map(Path::to_owned);
        let references = ReferenceMaker {
            context: self.preparer.context.clone(),
            runtime: Handle::current(),
            progress: progress.clone(),
            checksums: if settings.checksum { Checksums::Record } else { Checksums::None },
            described: Mutex::new(DescribedObjects::new(folder.as_deref())),
            folder,
        };
        Linker::new(self.catalog.clone(), self.place.clone(), references)
    }

    async fn write_details(&self, request: &NewVersion) -> Result<Option<DetailsRef>, CommitError> {
        let Settings { message, run, .. } = &request.settings;
        let run = run.as_ref().map(|run| serde_json::to_value(run).expect("a run is plain data"));
        let details = Details { message: message.clone(), run };
        if details.is_empty() {
            return Ok(None);
        }
        let store = self.store();
        let (reference, bytes) = details.encode(DetailsId::from_bytes(store.env().random16()));
        store.put(&Key::Details(request.artifact.clone(), reference.id), vec![bytes.into()]).await?;
        Ok(Some(reference))
    }

    async fn write_manifest(
        &self,
        artifact: &ArtifactKey,
        prepared: &mut Prepared,
    ) -> Result<(), CommitError> {
        let (id, bytes) = &prepared.root;
        self.store().put(&Key::Manifest(artifact.clone(), *id), vec![bytes.clone()]).await?;
        prepared.manifest = Some((*id, bytes.len() as u64));
        Ok(())
    }

    /// Adds what a commit wrote to the index. A large commit wrote very many chunks: that is no work for the runtime.
    async fn index_new_chunks(&self, prepared: Prepared) {
        let Some((manifest, _)) = prepared.manifest else { return };
        let index = self.preparer.index().clone();
        let added = tokio::task::spawn_blocking(move || prepared.new_chunks.add_to(&index, &manifest)).await;
        added.unwrap_or_else(|e| tracing::warn!(error = %e, "new chunks were not added to the index"));
    }
}
