//! A file's chunks as they are stored, without reading them.

use std::sync::Arc;

use super::content::FileContent;
use super::error::ReadError;
use crate::format::entry::ChunkRef;

impl FileContent {
    /// The references of all chunks of the file, in order; none for a file in the manifest itself. Cost: the list
    /// blocks of a file with many, where they are not in the cache.
    pub async fn chunks(self: &Arc<Self>) -> Result<Vec<ChunkRef>, ReadError> {
        let pieces = self.map.locate(&self.fetcher, &self.origin, 0..self.size()).await?;
        Ok(pieces.into_iter().map(|piece| piece.chunk).collect())
    }
}
