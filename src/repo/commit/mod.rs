//! Committing: a tree becomes a new immutable version, whole or not at all.
//!
//! Order of writing: packs, manifest root and details, event. Nothing before the event is visible to anyone; the
//! event is created by one writer only under its number. The event's id follows from the caller's random id and
//! the content's digest, so that a repeat finds the success of an attempt whose answer was lost, and a commit of
//! other content is never taken for it.

mod blocks;
mod chunk_lists;
mod chunks;
mod dedup;
mod error;
mod ingest;
mod item;
mod lease;
mod link;
mod lost_packs;
mod packs;
mod place;
mod progress;
mod quota;
mod reference;
mod restore;
mod revalidate;
mod revalidate_contained;
mod settings;
mod sorted;
mod tree;
mod unchanged_range;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;

use self::chunks::{ChunkWriter, NewChunks};
pub use self::dedup::ChunkIndex;
use self::dedup::StoredChunks;
pub use self::error::{CommitError, TreeError};
use self::ingest::{Done, Renewal, ingest};
pub use self::item::{ItemBody, OwnBytes, TreeItem, Writers, roots, walk};
use self::lease::LeaseKeeper;
pub use self::lost_packs::{Loss, Losses, MAX_LISTED};
use self::packs::{PackWriter, Uploads};
pub use self::place::{OtherMounts, TreeLocation};
pub use self::progress::{CommitProgress, Snapshot};
pub use self::quota::{OverQuota, Quotas};
use self::revalidate::{Renewer, Vetter};
pub use self::settings::Settings;
use self::tree::{CommitTree, Gathered, TreeBuilder};
pub use self::unchanged_range::Stretch;
use crate::format::details::{Details, DetailsRef};
use crate::format::event::{Commit, EventBody, Recommit};
use crate::format::id::{ArtifactId, ChunkId, DetailsId, Digest, EventId, ManifestId, PackId};
use crate::format::inline_root::InlineRoot;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::repo::catalog::{Actor, AppendStep, ArtifactState, Catalog, CatalogError, VersionRecord};
use crate::repo::tombstones::{self, Condemned};
use crate::repo::view::{ReadContext, ReadError, VersionView};
use crate::store::Key;

/// How old the state may be that a commit begins with; the newest decides in the end.
const KNOWN_AGE: Duration = Duration::from_secs(1);

/// Preparations of one commit, each because a collection condemned what the one before referred to.
const MAX_PREPARATIONS: usize = 8;
/// Collections that may overtake one commit between its preparation and its event.
const MAX_OVERTAKINGS: usize = 64;

/// A commit to be made.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// Random and the same over all attempts; a staging session has its own.
    pub origin: [u8; 16],
    /// Who commits.
    pub actor: Actor,
    /// What they say.
    pub settings: Settings,
    /// The number the version must get.
    pub demanded: Option<VersionNumber>,
}

/// A commit that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Committed {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The version with the content.
    pub version: VersionNumber,
    /// Its digest.
    #[serde(serialize_with = "crate::format::id::plain::serialize")]
    pub digest: Digest,
    /// Whether it is new; not if its content was that of the latest version.
    pub created: bool,
    /// Regular files in it.
    pub files: u64,
    /// Sum of their sizes in bytes.
    pub bytes: u64,
    /// Bytes written to packs for it.
    pub stored_bytes: u64,
}

/// Makes commits to one store.
#[derive(Debug, Clone)]
pub struct Committer {
    catalog: Arc<Catalog>,
    context: Arc<ReadContext>,
    stored: StoredChunks,
    quota_bytes: Option<u64>,
    place: Option<TreeLocation>,
}

impl Committer {
    /// A committer that looks for stored chunks in `index`.
    ///
    /// `context` reads the manifests of earlier versions that this host did not write.
    pub fn new(catalog: Arc<Catalog>, context: Arc<ReadContext>, index: Arc<ChunkIndex>) -> Self {
        let database = index.path().map(|path| path.with_file_name(tombstones::DATABASE));
        let condemned = Arc::new(Condemned::open(database.as_deref(), catalog.store().clone()));
        let told = index.clone();
        context.tell_damage(Box::new(move |id, pack| told.lose(id, pack)));
        Self { catalog, context, stored: StoredChunks { index, condemned }, quota_bytes: None, place: None }
    }

    /// The index of stored chunks.
    pub fn index(&self) -> &ChunkIndex {
        &self.stored.index
    }

    fn condemned(&self) -> &Condemned {
        &self.stored.condemned
    }

    /// Commits the tree that `walk` visits. When this returns, the version is durable in the store.
    ///
    /// A symbolic link into the mount ([`Committer::with_links`]) is pinned or refused, one to a URI becomes references.
    /// Content identical to the latest version makes no new one: its aliases, tags and metadata are changed as
    /// asked. `before_event` is told the event's id before the first attempt to write it, to make it durable. Both are
    /// called again if a collection overtook the commit, so that part of it must be stored again.
    /// `walk` is called once, under a quota up to three times, and again after each collection that overtook it.
    /// Cost: one request a pack, and up to five for manifest, details and event; one more for the first commit of this
    /// host to an artifact, and one for each collection since the last; more under a quota.
    pub async fn commit(
        &self,
        request: &NewVersion,
        progress: Arc<CommitProgress>,
        walk: impl Fn(&mut dyn FnMut(TreeItem) -> Result<(), CommitError>) -> Result<(), CommitError>
        + Send
        + Sync
        + 'static,
        mut before_event: impl FnMut(EventId) -> Result<(), CommitError>,
    ) -> Result<Committed, CommitError> {
        let artifact = &request.artifact;
        // Nothing is read and hashed for a store that cannot take it.
        self.catalog.store().ask_again().await?;
        self.catalog.store().prove_conditions().await?;
        let _lease = LeaseKeeper::begin(self.catalog.store().clone());
        let mut state = self.catalog.state(artifact, KNOWN_AGE).await?;
        // A demanded number that is wrong already need not wait for the upload. What is known may be old news: the
        // store is asked before refusing.
        if self.check_number(request, state.as_deref()).is_err() {
            state = self.catalog.state(artifact, Duration::ZERO).await?;
            self.check_number(request, state.as_deref())?;
        }
        let exists = state.as_ref().map(|state| state.artifact_id());
        if let Some(state) = &state {
            self.condemned().learn(&state.artifact_id(), state.epoch()).await?;
        }
        if let Some(latest) = state.as_ref().and_then(|state| state.latest()) {
            self.learn_chunks(artifact, latest).await;
        }
        let linker = self.linker(&request.settings, &progress);
        let walk = Arc::new(move |visit: &mut dyn FnMut(TreeItem) -> Result<(), CommitError>| {
            walk(&mut |item| linker.take(item, visit))
        });
        let room = self.room(request, state.as_deref(), &progress, &walk).await?;
        let mut prepared = self.prepare(&progress, &walk).await?;
        if let Some(room) = room {
            // What was read may have changed since it was measured.
            room.check(prepared.adds_to(state.as_deref()))?;
        }
        prepared.covered = exists.filter(|artifact| self.condemned().covers(artifact));
        let mut id = event_id(&request.origin, &prepared.digest);
        before_event(id)?;
        let mut details = self.write_details(request).await?;
        let mut overtakings = 0;
        // The manifest is written only when the event will name it.
        loop {
            progress.check()?;
            match self.append(request, id, &prepared, details).await {
                Err(AppendError::NeedsManifest) => self.write_manifest(artifact, &mut prepared).await?,
                Err(AppendError::NeedsRecords { artifact, epoch }) => {
                    overtakings += 1;
                    if overtakings > MAX_OVERTAKINGS {
                        return Err(CommitError::Overtaken);
                    }
                    self.condemned().learn(&artifact, epoch).await?;
                    if !self.vet(&mut prepared).await? {
                        prepared = self.prepare(&progress, &walk).await?;
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
                    if let Some((id, _)) = prepared.manifest.filter(|_| outcome.created) {
                        prepared.new_chunks.tell(self.index(), &id);
                    }
                    return Ok(outcome);
                }
            }
        }
    }

    /// Reads the tree and stores what is new of it, until nothing that it refers to is condemned.
    async fn prepare<W>(&self, progress: &Arc<CommitProgress>, walk: &Arc<W>) -> Result<Prepared, CommitError>
    where
        W: Fn(&mut dyn FnMut(TreeItem) -> Result<(), CommitError>) -> Result<(), CommitError>
            + Send
            + Sync
            + 'static,
    {
        let mut carry = Carry::Trusting;
        for _ in 0..MAX_PREPARATIONS {
            let (this, progress, walk) = (self.clone(), progress.clone(), walk.clone());
            let runtime = Handle::current();
            let preparing = tokio::task::spawn_blocking(move || {
                let packs = PackWriter::new(this.catalog.store().clone(), runtime.clone(), progress.clone());
                let mut renewer = Renewer::new(this.vetter(), runtime);
                let prepared = prepare(&this.stored, packs, &progress, &*walk, carry, &mut renewer)?;
                renewer.check()?;
                Ok::<_, CommitError>(prepared)
            });
            let (mut prepared, uploads) = preparing.await.map_err(|_| CommitError::Worker)??;
            uploads.finish().await?;
            self.index().see(&prepared.sealed);
            if !self.packs_are_there(&prepared.found_in).await? {
                continue;
            }
            if self.vet(&mut prepared).await? {
                self.lead_to_restored(&prepared).await?;
                return Ok(prepared);
            }
            carry = Carry::Vetting;
        }
        Err(CommitError::Overtaken)
    }

    fn vetter(&self) -> Vetter {
        Vetter { condemned: self.stored.condemned.clone(), context: self.context.clone() }
    }

    /// Whether nothing that a preparation refers to is condemned, and by what that is known.
    async fn vet(&self, prepared: &mut Prepared) -> Result<bool, CommitError> {
        let (vetter, condemned) = (self.vetter(), self.condemned());
        let epoch = condemned.epoch();
        let holds = vetter.packs_hold(&prepared.packs)
            && !condemned.has_manifest(&prepared.root.0)
            && vetter.gathered_holds(&prepared.gathered).await?;
        // What was known may have been lost in between.
        prepared.epoch = epoch.min(condemned.epoch());
        Ok(holds)
    }

    /// Takes the chunks of the latest version into the index, so that what is in it is not stored again. A host
    /// that wrote that version itself knows them already. Without them more is stored, and nothing is lost.
    async fn learn_chunks(&self, artifact: &ArtifactKey, latest: &VersionRecord) {
        if self.index().knows_manifest(&latest.manifest) {
            return;
        }
        if let Err(e) = self.read_chunks(artifact, latest).await {
            tracing::warn!(
                "{artifact}:{}: its chunks are not known, more will be stored: {e}",
                latest.version
            );
        }
    }

    async fn read_chunks(&self, artifact: &ArtifactKey, latest: &VersionRecord) -> Result<(), ReadError> {
        let label = format!("{artifact}:{}", latest.version);
        let view = VersionView::open(&self.context, artifact, latest.manifest, &label).await?;
        let mut entries = view.entries(0);
        loop {
            let batch = entries.next_batch().await?;
            if batch.is_empty() {
                self.index().add_manifest(&latest.manifest);
                return Ok(());
            }
            for (ordinal, entry) in &batch {
                if let crate::format::entry::EntryBody::File(file) = &entry.body {
                    let content = view.open_file(*ordinal, &entry.path, file).await?;
                    self.index().add_chunks(&content.chunks().await?);
                }
            }
        }
    }

    /// Refuses a demanded number that is not the next one, unless this commit itself took it in an earlier attempt.
    fn check_number(&self, request: &NewVersion, state: Option<&ArtifactState>) -> Result<(), CommitError> {
        let taken = request.demanded.and_then(|demanded| state?.record(demanded));
        if taken.is_some_and(|taken| taken.id == event_id(&request.origin, &taken.digest)) {
            return Ok(());
        }
        check_demand(request, state.map_or(VersionNumber(0), ArtifactState::next_version))
    }

    async fn write_details(&self, request: &NewVersion) -> Result<Option<DetailsRef>, CommitError> {
        let Settings { message, run, .. } = &request.settings;
        let run = run.as_ref().map(|run| serde_json::to_value(run).expect("a run is plain data"));
        let details = Details { message: message.clone(), run };
        if details.is_empty() {
            return Ok(None);
        }
        let store = self.catalog.store();
        let (reference, bytes) = details.encode(DetailsId::from_bytes(store.env().random16()));
        store.put(&Key::Details(request.artifact.clone(), reference.id), vec![bytes.into()]).await?;
        Ok(Some(reference))
    }

    async fn write_manifest(
        &self,
        artifact: &ArtifactKey,
        prepared: &mut Prepared,
    ) -> Result<(), CommitError> {
        let store = self.catalog.store();
        let (id, bytes) = &prepared.root;
        store.put(&Key::Manifest(artifact.clone(), *id), vec![bytes.clone()]).await?;
        prepared.manifest = Some((*id, bytes.len() as u64));
        Ok(())
    }

    async fn append(
        &self,
        request: &NewVersion,
        id: EventId,
        prepared: &Prepared,
        details: Option<DetailsRef>,
    ) -> Result<Committed, AppendError> {
        let settings = || request.settings.body(details);
        let appended = self
            .catalog
            .append(&request.artifact, id, &request.actor, |state: &ArtifactState| {
                // Behind a collection's fence nothing is appended that does not know what it condemned.
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
                    // Who copies a version has not made it from itself.
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
}

fn event_id(origin: &[u8; 16], digest: &Digest) -> EventId {
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

enum AppendError {
    NeedsManifest,
    /// The records of collections up to this one, for this artifact.
    NeedsRecords {
        artifact: ArtifactId,
        epoch: u64,
    },
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

/// What is done with files whose content is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carry {
    /// Their entries are taken as they are.
    Trusting,
    /// Their entries are looked into one by one, and their bytes stored again where they must be.
    Vetting,
}

/// A tree whose content and blocks are in packs, and whose root is not in the store.
struct Prepared {
    digest: Digest,
    root: (ManifestId, bytes::Bytes),
    manifest: Option<(ManifestId, u64)>,
    entries: u64,
    files: u64,
    bytes: u64,
    stored_bytes: u64,
    new_chunks: NewChunks,
    /// Where all is that was read or written for it.
    packs: HashSet<PackId>,
    /// The packs that the index named, and how long they must be.
    found_in: HashMap<PackId, u64>,
    /// The packs that were written.
    sealed: Vec<PackId>,
    /// Chunks that were lost and are stored again, with the packs that they are not to be had from.
    restored: Vec<(ChunkId, Vec<PackId>)>,
    /// Its entries, of which some were carried over.
    gathered: Gathered,
    /// The last collection by whose record nothing of this is condemned.
    epoch: u64,
    /// The artifact for which collections without a fence in its log were looked for, too.
    covered: Option<ArtifactId>,
}

impl Prepared {
    /// What committing it adds to the store; nothing if the latest version has this content.
    fn adds_to(&self, state: Option<&ArtifactState>) -> u64 {
        let is_latest = state.and_then(|s| s.latest()).is_some_and(|v| v.digest == self.digest);
        if is_latest { 0 } else { self.stored_bytes + self.root.1.len() as u64 }
    }
}

/// Reads the tree and makes its packs and its root; the packs may still be on their way.
fn prepare(
    stored: &StoredChunks,
    packs: PackWriter,
    progress: &CommitProgress,
    walk: impl FnOnce(&mut dyn FnMut(TreeItem) -> Result<(), CommitError>) -> Result<(), CommitError> + Send,
    carry: Carry,
    renewer: &mut Renewer,
) -> Result<(Prepared, Uploads), CommitError> {
    let (env, with_sha256) = (packs.env(), packs.wants_sha256());
    let mut builder = TreeBuilder::new(ChunkWriter::new(stored, packs)?, with_sha256);
    let known = |id: &_| stored.find(id).is_some();
    let renew = |path: &_, entry: &_, own| match carry {
        Carry::Trusting => Ok(Renewal::NotNeeded),
        Carry::Vetting => renewer.renew(path, entry, own),
    };
    // Entries that are looked into one by one are no stretch.
    let walk = |visit: &mut dyn FnMut(TreeItem) -> Result<(), CommitError>| match carry {
        Carry::Trusting => walk(visit),
        Carry::Vetting => walk(&mut |item| unchanged_range::expand(item, visit)),
    };
    ingest(walk, renew, known, progress, |done| match done {
        Done::Begin(head) => builder.begin(head),
        Done::Chunk { raw, id, codec, stored } => builder.chunk(raw, id, codec, stored),
        Done::Again => builder.again(),
        Done::End => builder.end(),
    })?;
    let CommitTree { root, id, bytes, written, gathered } = builder.finish(&env)?;
    let prepared = Prepared {
        digest: root.digest,
        root: (id, bytes.into()),
        manifest: None,
        entries: root.entries,
        files: root.files,
        bytes: root.bytes,
        stored_bytes: written.stored_bytes,
        packs: written.packs,
        found_in: written.found_in,
        sealed: written.sealed,
        restored: written.restored,
        gathered,
        new_chunks: written.new,
        epoch: 0,
        covered: None,
    };
    Ok((prepared, written.uploads))
}
