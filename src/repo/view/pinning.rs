//! The blocks of a version, made to stay on the local disk for who wants to read it without the store.

use super::error::ReadError;
use super::version::VersionView;
use crate::format::entry::{ChunkRef, FileBody, FileBytes};
use crate::format::id::ChunkId;
use crate::format::manifest::{Block, BlockKind};

/// Blocks asked for together, as far as they lie together.
const AHEAD: usize = 64;

/// A block and its length in bytes.
pub type KeptBlock = (ChunkId, u64);

/// The list blocks of some files, as far as their entries name them.
#[derive(Debug)]
pub struct ListBlocks(
    /// By level; what a list names belongs to the level below.
    Vec<Vec<ChunkRef>>,
);

impl ListBlocks {
    /// Those of these files; files of few chunks have none.
    pub fn of<'a>(files: impl Iterator<Item = &'a FileBody>) -> Self {
        let mut levels: Vec<Vec<ChunkRef>> = vec![];
        for file in files {
            let FileBytes::Chunks { level, refs } = &file.content else { continue };
            let level = usize::from(*level);
            levels.resize(levels.len().max(level + 1), vec![]);
            levels[level].extend(refs.iter().cloned());
        }
        Self(levels)
    }
}

impl VersionView {
    /// Puts every block of the manifest below its root into the cache on disk and names them. Cost: one range
    /// request for blocks that lie together and are not there.
    pub async fn keep_blocks(&self) -> Result<Vec<KeptBlock>, ReadError> {
        let mut kept = vec![];
        let mut level = vec![self.root.top.clone()];
        for depth in (1..=self.root.depth).rev() {
            let kind = if depth == 1 { BlockKind::Leaf } else { BlockKind::Index };
            let mut below = vec![];
            for index in &level {
                let rows = (0..index.len()).map(|i| index.index_row(i).map(|row| row.block));
                let refs: Vec<ChunkRef> =
                    rows.collect::<Result<_, _>>().map_err(|e| self.origin.damaged(&e))?;
                below.extend(self.keep(&refs, kind, &mut kept).await?);
            }
            level = below;
        }
        Ok(kept)
    }

    /// The same with list blocks.
    pub async fn keep_lists(&self, ListBlocks(mut levels): ListBlocks) -> Result<Vec<KeptBlock>, ReadError> {
        let mut kept = vec![];
        for level in (1..levels.len()).rev() {
            let refs = std::mem::take(&mut levels[level]);
            let blocks = self.keep(&refs, BlockKind::List, &mut kept).await?;
            for (list, block) in refs.iter().zip(blocks).filter(|_| level > 1) {
                levels[level - 1].extend(block.chunks(list.span).map_err(|e| self.origin.damaged(&e))?);
            }
        }
        Ok(kept)
    }

    async fn keep(
        &self,
        refs: &[ChunkRef],
        kind: BlockKind,
        kept: &mut Vec<KeptBlock>,
    ) -> Result<Vec<Block>, ReadError> {
        let mut blocks = Vec::with_capacity(refs.len());
        for (i, chunk) in refs.iter().enumerate() {
            let ahead = &refs[i + 1..refs.len().min(i + 1 + AHEAD)];
            let block = self.fetcher.block(&self.origin, chunk, kind, || ahead.to_vec()).await?;
            let (cache, id, keeping) = (self.fetcher.cache.clone(), chunk.id, block.clone());
            let done = self.fetcher.blocking(move || cache.keep_block(&id, &keeping)).await;
            done.map_err(|e| self.origin.local(&e))?;
            kept.push((chunk.id, block.size_bytes() as u64));
            blocks.push(block);
        }
        Ok(blocks)
    }
}
