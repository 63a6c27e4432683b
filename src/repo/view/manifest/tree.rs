//! A manifest that is open: its root, and the blocks below it as they are asked for.

use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::blocks::BlockReader;
use crate::format::entry::ChunkRef;
use crate::format::id::{ChunkId, ManifestId};
use crate::format::manifest::{Block, BlockKind, Root};
use crate::format::name::ArtifactKey;
use crate::repo::view::error::ReadError;
use crate::repo::view::origin::Origin;
use crate::repo::view::readahead::{Access, BlockReadahead};

/// Index blocks whose running entry counts are kept; one for each of 256 blocks.
const MAX_SUMS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// Sorts behind everything below a path and before its next sibling: no name has a NUL, and `/` sorts as one.
pub(crate) const BEHIND_SUBTREE: u8 = 1;

/// Running entry counts of index blocks, by block; none names the top one.
type Sums = Mutex<LruCache<Option<ChunkId>, Arc<Vec<u64>>>>;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct ManifestTree {
    pub blocks: Arc<BlockReader>,
    pub origin: Origin,
    pub id: ManifestId,
    pub root: Root,
    sums: Sums,
    readahead: BlockReadahead,
}

impl ManifestTree {
    /// Opens a manifest. Cost: one request, none if the root is in the cache.
    pub async fn open(
        blocks: Arc<BlockReader>,
        origin: Origin,
        artifact: &ArtifactKey,
        id: ManifestId,
    ) -> Result<Arc<Self>, ReadError> {
        let root = blocks.root(&origin, artifact, &id).await?;
        let sums = Mutex::new(LruCache::new(MAX_SUMS));
        Ok(Arc::new(Self { blocks, origin, id, root, sums, readahead: BlockReadahead::default() }))
    }

    /// Returns the block at `row` of an index block, which `id` names (none: the top one). Others that the access will
    /// need are fetched with it, and ahead of it.
    pub async fn below(
        &self,
        index: &Block,
        id: Option<ChunkId>,
        row: usize,
        kind: BlockKind,
        access: Access,
    ) -> Result<Block, ReadError> {
        let chunk = index.index_row(row).map_err(|e| self.origin.damaged(e))?.block;
        let siblings = || self.readahead.siblings(index, id, row, access);
        let block = self.blocks.block(&self.origin, &chunk, kind, siblings).await?;
        if access == Access::Lookup {
            let mut next = self.readahead.following(index, id, row);
            next.retain(|block| !self.blocks.has_or_fetches(&block.id));
            self.blocks.fetch_ahead(&self.origin, &next);
        }
        Ok(block)
    }

    /// Returns the references of the blocks that an index block names.
    pub fn rows(&self, index: &Block) -> Result<Vec<ChunkRef>, ReadError> {
        let rows = (0..index.len()).map(|i| index.index_row(i).map(|row| row.block));
        rows.collect::<Result<_, _>>().map_err(|e| self.origin.damaged(e))
    }

    /// Returns the references of all blocks below the root. Cost: the index blocks, where they are not in the cache.
    pub async fn all_blocks(&self) -> Result<Vec<ChunkRef>, ReadError> {
        let mut all = vec![];
        let mut level = vec![self.root.top.clone()];
        for depth in (1..=self.root.depth).rev() {
            let mut below = vec![];
            for index in &level {
                for chunk in self.rows(index)? {
                    if depth > 1 {
                        let kind = BlockKind::Index;
                        below.push(self.blocks.block(&self.origin, &chunk, kind, Vec::new).await?);
                    }
                    all.push(chunk);
                }
            }
            level = below;
        }
        Ok(all)
    }

    /// Returns the running entry counts of an index block: how many entries lie up to the end of each row. Checks that
    /// they add up to `entries`, which the block was said to have.
    pub fn sums_of(
        &self,
        id: Option<ChunkId>,
        block: &Block,
        entries: u64,
    ) -> Result<Arc<Vec<u64>>, ReadError> {
        let known = self.sums.lock().get(&id).cloned();
        let sums = match known {
            Some(sums) => sums,
            None => {
                let mut total = 0u64;
                let mut sums = Vec::with_capacity(block.len());
                for i in 0..block.len() {
                    let row = block.index_row(i).map_err(|e| self.origin.damaged(e))?;
                    let sum = total.checked_add(row.entries).filter(|_| row.entries > 0);
                    total = sum.ok_or_else(|| self.origin.contradiction("its entry counts make no sense"))?;
                    sums.push(total);
                }
                let sums = Arc::new(sums);
                self.sums.lock().put(id, sums.clone());
                sums
            }
        };
        if sums.last() != Some(&entries) || sums.len() != block.len() {
            return Err(self.origin.contradiction("its entry counts do not add up"));
        }
        Ok(sums)
    }
}
