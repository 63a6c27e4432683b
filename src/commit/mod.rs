//! Committing: a tree becomes a new immutable version, whole or not at all.
//!
//! Order of writing: packs, manifest root and details, event. Nothing before the event is visible to anyone; the
//! event is created by one writer only under its number. The event's id follows from the caller's random id and
//! the content's digest, so that a repeat finds the success of an attempt whose answer was lost, and a commit of
//! other content is never taken for it.

mod dedup;
mod ingest;
mod item;
mod packs;
mod progress;
mod quota;
mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::runtime::Handle;

pub use self::dedup::ChunkIndex;
use self::ingest::{Done, ingest};
pub use self::item::{Item, What, roots, walk};
use self::packs::{PackWriter, Uploads};
pub use self::progress::{Progress, Snapshot};
pub use self::quota::{OverQuota, Quotas};
use self::tree::{ManifestWriter, Tree, TreeBuilder};
use crate::catalog::{Actor, ArtifactState, Catalog, CatalogError, Step, VersionRecord};
use crate::format::details::{Details, DetailsRef};
use crate::format::entry::ChunkRef;
use crate::format::event::{Body, Commit, CommitSettings, Metadata, Recommit};
use crate::id::{DetailsId, Digest, EventId, ManifestId};
use crate::name::{AliasName, ArtifactKey, VersionNumber};
use crate::path::PathError;
use crate::staging::StagingError;
use crate::store::{Key, StoreError};
use crate::view::{ReadContext, ReadError, VersionView};

/// How old the state may be that a commit begins with; the newest decides in the end.
const KNOWN_AGE: Duration = Duration::from_secs(1);

/// Why there is no new version. Nothing is visible to anyone, and what was staged is untouched.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// There is nothing in the tree.
    #[error("nothing is staged: a version needs at least one entry")]
    Empty,
    /// Files that cannot be kept in a version.
    #[error("special files cannot be kept in a version, remove them first: {}", .0.join(", "))]
    Special(Vec<String>),
    /// The number asked for is not the next one.
    #[error("{demanded} was asked for, but the next version of {artifact} is {next}")]
    WrongNumber {
        /// The artifact.
        artifact: ArtifactKey,
        /// What was asked for.
        demanded: VersionNumber,
        /// What a commit would get.
        next: VersionNumber,
    },
    /// A number was asked for, but the content is that of an existing version.
    #[error("the content is that of {version} already, so {demanded} was not made")]
    Identical {
        /// What was asked for.
        demanded: VersionNumber,
        /// The version with this content.
        version: VersionNumber,
    },
    /// A path that cannot be kept.
    #[error("{} cannot be kept in a version: {problem}", path.display())]
    Path {
        /// The local path.
        path: PathBuf,
        /// Why.
        problem: PathError,
    },
    /// A path without a last component.
    #[error("{} has no name of its own; give the directory by itself to commit its contents", path.display())]
    NoName {
        /// The local path.
        path: PathBuf,
    },
    /// Two of the paths given have the same last component.
    #[error("two of the paths are called {name:?}; a version holds each name once")]
    SameName {
        /// The component.
        name: String,
    },
    /// A local file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The local path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The project's quota does not allow it.
    #[error("{0}")]
    Quota(OverQuota),
    /// The caller asked to stop.
    #[error("the commit was interrupted; what was staged is untouched and it can be repeated")]
    Interrupted,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The log could not be appended to.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// A staged file cannot be read.
    #[error("{0}")]
    Staged(StagingError),
    /// A part of the pipeline stopped.
    #[error("a worker stopped before its work was done (out of memory?)")]
    Worker,
    /// Something this program wrote does not read back.
    #[error("a manifest block just made is wrong: {0}")]
    Own(String),
}

impl CommitError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        CommitError::Io { path: path.to_owned(), source }
    }
}

/// What a committer says along with the content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, serde::Deserialize)]
pub struct Settings {
    /// A message for people.
    #[serde(default)]
    pub message: Option<String>,
    /// `model`, `dataset`, ….
    #[serde(default)]
    pub artifact_type: Option<String>,
    /// Aliases to move to the version.
    #[serde(default)]
    pub aliases: Vec<AliasName>,
    /// Tags to add to it.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Metadata to set on it.
    #[serde(default)]
    pub meta: Metadata,
    /// Seconds after its creation at which it may be deleted.
    #[serde(default)]
    pub ttl_seconds: Option<u64>,
    /// References to the versions it was made from.
    #[serde(default)]
    pub inputs: Vec<String>,
}

impl Settings {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds what was said in a second place; where both speak of one thing, `other` counts.
    pub fn add(&mut self, other: Settings) {
        let Settings { message, artifact_type, aliases, tags, meta, ttl_seconds, inputs } = other;
        self.message = message.or(self.message.take());
        self.artifact_type = artifact_type.or(self.artifact_type.take());
        self.ttl_seconds = ttl_seconds.or(self.ttl_seconds);
        self.meta.extend(meta);
        for (all, more) in [(&mut self.tags, tags), (&mut self.inputs, inputs)] {
            let new: Vec<String> = more.into_iter().filter(|m| !all.contains(m)).collect();
            all.extend(new);
        }
        let new: Vec<AliasName> = aliases.into_iter().filter(|a| !self.aliases.contains(a)).collect();
        self.aliases.extend(new);
    }

    fn body(&self, details: Option<DetailsRef>) -> CommitSettings {
        CommitSettings {
            artifact_type: self.artifact_type.clone(),
            aliases: self.aliases.clone(),
            tags: self.tags.clone(),
            meta: self.meta.clone(),
            ttl_seconds: self.ttl_seconds,
            inputs: self.inputs.clone(),
            details,
        }
    }
}

/// A commit to be made.
#[derive(Debug, Clone)]
pub struct Request {
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
pub struct Outcome {
    /// The artifact.
    pub artifact: ArtifactKey,
    /// The version with the content.
    pub version: VersionNumber,
    /// Its digest.
    #[serde(serialize_with = "crate::id::plain::serialize")]
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
    index: Arc<ChunkIndex>,
    quota_bytes: Option<u64>,
}

impl Committer {
    /// A committer that looks for stored chunks in `index`.
    ///
    /// `context` reads the manifests of earlier versions that this host did not write.
    pub fn new(catalog: Arc<Catalog>, context: Arc<ReadContext>, index: Arc<ChunkIndex>) -> Self {
        Self { catalog, context, index, quota_bytes: None }
    }

    /// The index of stored chunks.
    pub fn index(&self) -> &ChunkIndex {
        &self.index
    }

    /// Commits the tree that `walk` visits. When this returns, the version is durable in the store.
    ///
    /// Content identical to the latest version makes no new one: its aliases, tags and metadata are changed as
    /// asked. `before_event` is told the event's id before the first attempt to write it, to make it durable.
    /// `walk` is called once, under a quota up to three times. Cost: one request a pack, and up to five for
    /// manifest, details and event; more under a quota.
    pub async fn commit(
        &self,
        request: &Request,
        progress: Arc<Progress>,
        walk: impl Fn(&mut dyn FnMut(Item) -> Result<(), CommitError>) -> Result<(), CommitError>
        + Send
        + Sync
        + 'static,
        before_event: impl FnOnce(EventId) -> io::Result<()>,
    ) -> Result<Outcome, CommitError> {
        let artifact = &request.artifact;
        // Nothing is read and hashed for a store that cannot take it.
        self.catalog.store().ask_again().await?;
        let mut state = self.catalog.state(artifact, KNOWN_AGE).await?;
        // A demanded number that is wrong already need not wait for the upload. What is known may be old news: the
        // store is asked before refusing.
        if self.check_number(request, state.as_deref()).is_err() {
            state = self.catalog.state(artifact, Duration::ZERO).await?;
            self.check_number(request, state.as_deref())?;
        }
        if let Some(latest) = state.as_ref().and_then(|state| state.latest()) {
            self.learn_chunks(artifact, latest).await;
        }
        let walk = Arc::new(walk);
        let room = self.room(request, state.as_deref(), &progress, &walk).await?;
        let (this, progress_of_writer) = (self.clone(), progress.clone());
        let runtime = Handle::current();
        let made = tokio::task::spawn_blocking(move || {
            let packs = PackWriter::new(this.catalog.store().clone(), runtime, progress_of_writer.clone());
            prepare(&this.index, packs, &progress_of_writer, |visit| walk(visit))
        });
        let (mut prepared, uploads) = made.await.map_err(|_| CommitError::Worker)??;
        uploads.finish().await?;
        if let Some(room) = room {
            // What was read may have changed since it was measured.
            room.check(prepared.adds_to(state.as_deref()))?;
        }
        let id = event_id(&request.origin, &prepared.digest);
        before_event(id).map_err(|e| CommitError::io(Path::new("the state folder"), e))?;
        let details = self.write_details(request).await?;
        // The manifest is written only when the event will name it.
        loop {
            progress.check()?;
            match self.append(request, id, &prepared, details).await {
                Err(AppendError::NeedsManifest) => self.write_manifest(artifact, &mut prepared).await?,
                Err(AppendError::Commit(e)) => return Err(e),
                Ok(outcome) => {
                    if let Some((id, _)) = prepared.manifest.filter(|_| outcome.created) {
                        self.index.add_manifest(&id, &prepared.chunks);
                    }
                    return Ok(outcome);
                }
            }
        }
    }

    /// Takes the chunks of the latest version into the index, so that what is in it is not stored again. A host
    /// that wrote that version itself knows them already. Without them more is stored, and nothing is lost.
    async fn learn_chunks(&self, artifact: &ArtifactKey, latest: &VersionRecord) {
        if self.index.knows_manifest(&latest.manifest) {
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
                self.index.add_manifest(&latest.manifest, &[]);
                return Ok(());
            }
            for (ordinal, entry) in &batch {
                if let crate::format::entry::Body::File(file) = &entry.body {
                    let content = view.open_file(*ordinal, &entry.path, file).await?;
                    self.index.add_chunks(&content.chunks().await?);
                }
            }
        }
    }

    /// Refuses a demanded number that is not the next one, unless this commit itself took it in an earlier attempt.
    fn check_number(&self, request: &Request, state: Option<&ArtifactState>) -> Result<(), CommitError> {
        let taken = request.demanded.and_then(|demanded| state?.version(demanded));
        if taken.is_some_and(|taken| taken.id == event_id(&request.origin, &taken.digest)) {
            return Ok(());
        }
        check_demand(request, state.map_or(VersionNumber(0), ArtifactState::next_version))
    }

    async fn write_details(&self, request: &Request) -> Result<Option<DetailsRef>, CommitError> {
        let details = Details { message: request.settings.message.clone(), run: None };
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
        request: &Request,
        id: EventId,
        prepared: &Prepared,
        details: Option<DetailsRef>,
    ) -> Result<Outcome, AppendError> {
        let settings = || request.settings.body(details);
        let appended = self
            .catalog
            .append(&request.artifact, id, &request.actor, |state: &ArtifactState| {
                let identical = state.latest().filter(|latest| latest.digest == prepared.digest);
                if let Some(latest) = identical {
                    if let Some(demanded) = request.demanded {
                        let error = CommitError::Identical { demanded, version: latest.version };
                        return Err(AppendError::Commit(error));
                    }
                    if request.settings.is_empty() {
                        return Ok(Step::Nothing);
                    }
                    let again =
                        Recommit { version: latest.version, digest: latest.digest, settings: settings() };
                    return Ok(Step::Append(Body::Recommit(again)));
                }
                check_demand(request, state.next_version()).map_err(AppendError::Commit)?;
                let Some((manifest, root_bytes)) = prepared.manifest else {
                    return Err(AppendError::NeedsManifest);
                };
                Ok(Step::Append(Body::Commit(Commit {
                    version: state.next_version(),
                    digest: prepared.digest,
                    manifest,
                    entries: prepared.entries,
                    files: prepared.files,
                    bytes: prepared.bytes,
                    stored_bytes: prepared.stored_bytes + root_bytes,
                    settings: settings(),
                })))
            })
            .await?;
        let latest = || appended.state.latest().map(|v| v.version);
        let version = appended.outcome.flatten().or_else(latest).ok_or(CommitError::Empty)?;
        let record = appended.state.version(version).ok_or(CommitError::Empty)?;
        let created = record.id == id;
        Ok(Outcome {
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

fn check_demand(request: &Request, next: VersionNumber) -> Result<(), CommitError> {
    match request.demanded {
        Some(demanded) if demanded != next => {
            Err(CommitError::WrongNumber { artifact: request.artifact.clone(), demanded, next })
        }
        _ => Ok(()),
    }
}

enum AppendError {
    NeedsManifest,
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

/// A tree whose content and blocks are in packs, and whose root is not in the store.
struct Prepared {
    digest: Digest,
    root: (ManifestId, bytes::Bytes),
    manifest: Option<(ManifestId, u64)>,
    entries: u64,
    files: u64,
    bytes: u64,
    stored_bytes: u64,
    chunks: Vec<ChunkRef>,
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
    index: &ChunkIndex,
    packs: PackWriter,
    progress: &Progress,
    walk: impl FnOnce(&mut dyn FnMut(Item) -> Result<(), CommitError>) -> Result<(), CommitError> + Send,
) -> Result<(Prepared, Uploads), CommitError> {
    let env = packs.env();
    let mut builder = TreeBuilder::new(index, packs);
    let known = |id: &_| index.find(id).is_some();
    ingest(walk, known, progress, |done| match done {
        Done::Begin(head) => {
            builder.begin(head);
            Ok(())
        }
        Done::Chunk { raw, id, codec, stored } => builder.chunk(raw, id, codec, stored),
        Done::End => {
            builder.end();
            Ok(())
        }
    })?;
    let (tree, mut writer): (Tree, ManifestWriter<'_>) = builder.finish()?;
    if tree.entries.is_empty() {
        return Err(CommitError::Empty);
    }
    let root = writer.write(&tree)?;
    let (id, bytes) = root.encode(env.random16(), writer.encoder());
    let prepared = Prepared {
        digest: tree.digest,
        root: (id, bytes.into()),
        manifest: None,
        entries: tree.entries.len() as u64,
        files: tree.files,
        bytes: tree.bytes,
        stored_bytes: writer.packs.stored_bytes,
        chunks: std::mem::take(&mut writer.written),
    };
    Ok((prepared, writer.packs.into_uploads()))
}
