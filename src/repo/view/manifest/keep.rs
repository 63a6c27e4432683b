//! Puts the blocks of a version on the local disk, so that it can be read without the store.

use super::tree::ManifestTree;
use crate::format::entry::{ChunkRef, FileBody, FileBytes};
use crate::format::id::ChunkId;
use crate::format::manifest::{Block, BlockKind};
use crate::repo::view::error::ReadError;
use crate::repo::view::readahead::SCAN_BLOCKS;

/// A block and its length in bytes.
pub type KeptBlock = (ChunkId, u64);

/// The list blocks that the entries of some files name.
#[derive(Debug)]
pub struct ListBlocks(
    /// By level; what a list names belongs to the level below.
    Vec<Vec<ChunkRef>>,
);

impl ListBlocks {
    /// Collects those of these files; files of few chunks have none.
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

/// Puts every block of a manifest below its root into the cache on disk, and returns their names.
pub(crate) async fn keep_blocks(tree: &ManifestTree) -> Result<Vec<KeptBlock>, ReadError> {
    let mut kept = vec![];
    let mut level = vec![tree.root.top.clone()];
    for depth in (1..=tree.root.depth).rev() {
        let kind = if depth == 1 { BlockKind::Leaf } else { BlockKind::Index };
        let mut below = vec![];
        for index in &level {
            let refs = tree.rows(index)?;
            below.extend(keep(tree, &refs, kind, &mut kept).await?);
        }
        level = below;
    }
    Ok(kept)
}

/// Does the same with list blocks.
pub(crate) async fn keep_lists(
    tree: &ManifestTree,
    ListBlocks(mut levels): ListBlocks,
) -> Result<Vec<KeptBlock>, ReadError> {
    let mut kept = vec![];
    for level in (1..levels.len()).rev() {
        let refs = std::mem::take(&mut levels[level]);
        let blocks = keep(tree, &refs, BlockKind::List, &mut kept).await?;
        for (list, block) in refs.iter().zip(blocks).filter(|_| level > 1) {
            levels[level - 1].extend(block.chunks(list.span).map_err(|e| tree.origin.damaged(e))?);
        }
    }
    Ok(kept)
}

async fn keep(
    tree: &ManifestTree,
    refs: &[ChunkRef],
    kind: BlockKind,
    kept: &mut Vec<KeptBlock>,
) -> Result<Vec<Block>, ReadError> {
    let mut blocks = Vec::with_capacity(refs.len());
    for (i, chunk) in refs.iter().enumerate() {
        let siblings = &refs[i + 1..refs.len().min(i + 1 + SCAN_BLOCKS)];
        let block = tree.blocks.block(&tree.origin, chunk, kind, || siblings.to_vec()).await?;
        let (cache, id, keeping) = (tree.blocks.cache().clone(), chunk.id, block.clone());
        let written = tree.blocks.fetcher().blocking(move || cache.keep_block(&id, &keeping)).await;
        written.map_err(|e| tree.origin.local(e))?;
        kept.push((chunk.id, block.size_bytes() as u64));
        blocks.push(block);
    }
    Ok(blocks)
}
