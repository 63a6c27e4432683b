//! The blocks of versions by themselves, for who goes through many versions and reads each block once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ReadContext;
use super::error::{Origin, ReadError};
use super::fetch::Fetcher;
use crate::format::entry::{ChunkLocation, ChunkRef};
use crate::format::id::{ChunkId, ManifestId, PackId};
use crate::format::inline_root::InlineRoot;
use crate::format::manifest::{Block, BlockKind, Root};
use crate::format::name::ArtifactKey;
use crate::format::relocation::{Moves, encode_moves};
use crate::store::{Key, StoreError};

impl Fetcher {
    /// A manifest's root, proved by its name. Cost: one request, none if it is in the cache.
    pub async fn root(
        &self,
        origin: &Origin,
        artifact: &ArtifactKey,
        manifest: &ManifestId,
    ) -> Result<Root, ReadError> {
        let decode = |bytes: &[u8]| Root::decode(manifest, bytes);
        if let Some(root) = self.cache.root(manifest).and_then(|bytes| decode(&bytes).ok()) {
            return Ok(root);
        }
        let key = Key::Manifest(artifact.clone(), *manifest);
        let mut bytes = self.store.get(&key).await.map_err(|e| origin.failed(e))?;
        if ManifestId::of(&bytes) != *manifest {
            bytes = self.store.get(&key).await.map_err(|e| origin.failed(e))?;
        }
        let root = decode(&bytes).map_err(|e| origin.damaged(&e))?;
        self.cache.put_root(manifest, &bytes);
        Ok(root)
    }
}

impl ReadContext {
    /// Takes in a copy of a version's root that the log brought, so that it costs no request. One that is wrong is
    /// left out.
    pub fn offer_root(&self, manifest: &ManifestId, copy: &InlineRoot) {
        let cache = &self.fetcher.cache;
        if let Some(bytes) = copy.proved(manifest)
            && cache.root(manifest).is_none()
        {
            cache.put_root(manifest, bytes);
        }
    }

    /// The root of a version's manifest; `label` stands in messages. Cost: one request, none if it is in the cache.
    pub async fn root(
        &self,
        artifact: &ArtifactKey,
        manifest: &ManifestId,
        label: &str,
    ) -> Result<Root, ReadError> {
        self.fetcher.root(&Origin::version(label), artifact, manifest).await
    }

    /// A block of this kind, proved by its id. `siblings` are fetched with it if it is not in the cache, where they
    /// wait for who asks next. Cost: a request for each stretch of a pack.
    pub async fn block(
        &self,
        chunk: &ChunkRef,
        kind: BlockKind,
        siblings: &[ChunkRef],
        label: &str,
    ) -> Result<Block, ReadError> {
        self.fetcher.block(&Origin::version(label), chunk, kind, || siblings.to_vec()).await
    }

    /// Lets more of a pack's chunks be found in other places: those that were stored again because they were lost. What
    /// its table of moves says already stays. Cost: two requests.
    ///
    /// Two hosts that do so for one pack at once may leave the table of one of them: what the other stored is not found
    /// then, and can be stored once more.
    pub async fn add_moves(
        &self,
        pack: &PackId,
        places: BTreeMap<ChunkId, ChunkLocation>,
    ) -> Result<(), StoreError> {
        let (fetcher, key) = (&self.fetcher, Key::Moves(*pack));
        let mut all = match fetcher.store.get(&key).await {
            Ok(bytes) => Moves::decode(pack, &bytes).map(|table| table.places()).unwrap_or_default(),
            Err(StoreError::NotFound { .. }) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        all.extend(places);
        fetcher.store.put(&key, vec![encode_moves(pack, &all).into()]).await?;
        fetcher.tables.lock().forget(pack);
        Ok(())
    }

    /// Where the chunks of a rewritten pack are; none if it was not rewritten. Cost: one request, none if the table
    /// is in memory.
    pub async fn moves(&self, pack: &PackId) -> Result<Option<Arc<Moves>>, ReadError> {
        let origin = Origin::version("a rewritten pack");
        self.fetcher.moves(pack).await.map_err(|e| origin.failed(e))
    }
}
