//! What a version and its files refer to, as it is stored, and whether the store has it: for who checks and repairs.

use std::sync::Arc;

use bytes::Bytes;

use super::ReadContext;
use super::content::FileContent;
use super::error::{Origin, ReadError};
use super::fetch::Urgency;
use super::version::VersionView;
use crate::format::entry::ChunkRef;
use crate::format::manifest::BlockKind;

impl FileContent {
    /// The references of all chunks of the file, in order; none for a file in the manifest itself. Cost: the list
    /// blocks of a file with many, where they are not in the cache.
    pub async fn chunks(self: &Arc<Self>) -> Result<Vec<ChunkRef>, ReadError> {
        let pieces = self.map.locate(&self.fetcher, &self.origin, 0..self.size()).await?;
        Ok(pieces.into_iter().map(|piece| piece.chunk).collect())
    }

    /// The references of the list blocks of a file with many chunks. Cost: those of the upper levels, where they are not
    /// in the cache.
    pub async fn lists(self: &Arc<Self>) -> Result<Vec<ChunkRef>, ReadError> {
        self.map.lists(&self.fetcher, &self.origin).await
    }
}

impl VersionView {
    /// The references of all blocks below the root. Cost: the index blocks, where they are not in the cache.
    pub async fn blocks(&self) -> Result<Vec<ChunkRef>, ReadError> {
        let mut all = vec![];
        let mut level = vec![self.root.top.clone()];
        for depth in (1..=self.root.depth).rev() {
            let mut below = vec![];
            for block in &level {
                for i in 0..block.len() {
                    let row = block.index_row(i).map_err(|e| self.origin.damaged(&e))?;
                    if depth > 1 {
                        let kind = BlockKind::Index;
                        below.push(self.fetcher.block(&self.origin, &row.block, kind, Vec::new).await?);
                    }
                    all.push(row.block);
                }
            }
            level = below;
        }
        Ok(all)
    }
}

impl ReadContext {
    /// These chunks (none of zeros) from the store, whatever is local, each proved or with its error; `label` stands in
    /// messages. They are in memory together. Cost: a request for each stretch of a pack.
    pub async fn stored_chunks(&self, chunks: &[ChunkRef], label: &str) -> Vec<Result<Bytes, ReadError>> {
        let origin = Origin::version(label);
        self.fetcher.fetch_all(&origin, chunks, Urgency::Now).await.chunks
    }
}
