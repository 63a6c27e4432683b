//! The front of reading: one context for one store and one cache.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::error::ReadError;
use super::fetch::{ReadLimits, TellDamage, Urgency};
use super::file::FileContent;
use super::origin::Origin;
use super::reference::ReferenceContent;
use super::services::Services;
use crate::format::entry::{ChunkLocation, ChunkRef, FileBody};
use crate::format::id::{ChunkId, ManifestId, PackId};
use crate::format::inline_root::InlineRoot;
use crate::format::manifest::{Block, BlockKind, Root};
use crate::format::name::ArtifactKey;
use crate::format::path::TreePath;
use crate::format::reference::ReferenceBody;
use crate::format::relocation::Moves;
use crate::repo::cache::Cache;
use crate::store::source::Sources;
use crate::store::{Store, StoreError};

/// What all reading of one store through one cache shares: limits, fetches under way, open files.
///
/// Views and files keep working as long as this lives; when it is dropped or shut down, their fetches end and
/// what would need one fails with [`ReadError::Stopped`]. What is local can still be read.
#[derive(Debug)]
pub struct ReadContext {
    services: Arc<Services>,
}

impl ReadContext {
    /// Makes a context. It needs a tokio runtime only when something is read.
    pub fn new(store: Arc<Store>, cache: Arc<Cache>, limits: ReadLimits) -> Self {
        Self { services: Services::new(store, cache, limits) }
    }

    pub(super) fn services(&self) -> &Arc<Services> {
        &self.services
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        self.services.fetcher().store()
    }

    /// The cache.
    pub fn cache(&self) -> &Arc<Cache> {
        self.services.blocks.cache()
    }

    /// Opens a file's content; equal contents that are open share what is fetched. `label` and `path` name it in
    /// messages. Sends nothing; hashes a whole file in the cache if its index cannot vouch for it.
    ///
    /// # Errors
    /// A file kept in the manifest whose bytes do not have its hash; one that is condemned.
    pub async fn open_file(
        &self,
        body: &FileBody,
        label: &str,
        path: &TreePath,
    ) -> Result<Arc<FileContent>, ReadError> {
        self.services.files.open(body, Origin::version(label).file(path), None).await
    }

    /// Opens a reference. Sends nothing. `label` and `path` name it in messages.
    pub fn open_reference(
        &self,
        body: &ReferenceBody,
        label: &str,
        path: &TreePath,
    ) -> Arc<ReferenceContent> {
        ReferenceContent::new(self.sources(), Origin::version(label).file(path), body)
    }

    /// Lets references be read, as far as `sources` allows it; once for a context. Without it none can be read.
    pub fn set_sources(&self, sources: Arc<Sources>) {
        self.services.set_sources(sources);
    }

    /// Returns the sources that may be read.
    pub fn sources(&self) -> Arc<Sources> {
        self.services.sources()
    }

    /// Reports chunks that the store lost or damaged to this function, unless one is set already.
    pub fn tell_damage(&self, told: TellDamage) {
        self.services.fetcher().set_damage(told);
    }

    /// Keeps a copy of a version's root that came with the log, so that it costs no request. Leaves out a copy that is
    /// wrong.
    pub fn offer_root(&self, manifest: &ManifestId, copy: &InlineRoot) {
        self.services.blocks.offer_root(manifest, copy);
    }

    /// Returns the root of a version's manifest; `label` names it in messages. Cost: one request, none if it is in the
    /// cache.
    ///
    /// # Errors
    /// The root is damaged or missing, or cannot be read now.
    pub async fn root(
        &self,
        artifact: &ArtifactKey,
        manifest: &ManifestId,
        label: &str,
    ) -> Result<Root, ReadError> {
        self.services.blocks.root(&Origin::version(label), artifact, manifest).await
    }

    /// Returns a block, which must be of this kind, proved by its id. If it is not in the cache, `siblings` are fetched
    /// with it and wait there. Cost: a request for each stretch of a pack.
    ///
    /// # Errors
    /// The block is damaged, missing or of another kind, or cannot be read now.
    pub async fn block(
        &self,
        chunk: &ChunkRef,
        kind: BlockKind,
        siblings: &[ChunkRef],
        label: &str,
    ) -> Result<Block, ReadError> {
        self.services.blocks.block(&Origin::version(label), chunk, kind, || siblings.to_vec()).await
    }

    /// Fetches these chunks (none of zeros) from the store, whatever is local: each proved, or its error. `label` names them
    /// in messages. They are in memory together. Cost: a request for each stretch of a pack.
    pub async fn stored_chunks(&self, chunks: &[ChunkRef], label: &str) -> Vec<Result<Bytes, ReadError>> {
        let origin = Origin::version(label);
        self.services.fetcher().fetch_all(&origin, chunks, Urgency::Now).await.chunks
    }

    /// Adds places of a pack's chunks to its table of moves: those that were stored again because they were lost. What
    /// the table says already stays. Cost: two requests.
    ///
    /// Of two hosts that do so for one pack at once, one may overwrite the other's table: what the other stored is not
    /// found then, and can be stored once more.
    ///
    /// # Errors
    /// The table cannot be read or written now.
    pub async fn add_moves(
        &self,
        pack: &PackId,
        places: BTreeMap<ChunkId, ChunkLocation>,
    ) -> Result<(), StoreError> {
        self.services.fetcher().relocations().add(pack, places).await
    }

    /// Returns where the chunks of a rewritten pack are; none if it was not rewritten. Cost: one request, none if the
    /// table is in memory.
    ///
    /// # Errors
    /// The table is damaged, or cannot be read now.
    pub async fn moves(&self, pack: &PackId) -> Result<Option<Arc<Moves>>, ReadError> {
        let origin = Origin::version("a rewritten pack");
        self.services.fetcher().relocations().moves(pack).await.map_err(|e| origin.failed(e))
    }

    /// Stops all fetches and waits for their end.
    pub async fn shutdown(&self) {
        self.services.fetcher().shutdown().await;
    }

    /// Bytes that may yet wait in memory for their readers.
    #[cfg(test)]
    pub(super) fn free_for_prefetch(&self) -> u64 {
        self.services.files.free_for_prefetch()
    }
}

impl Drop for ReadContext {
    fn drop(&mut self) {
        drop(self.services.fetcher().stop());
    }
}
