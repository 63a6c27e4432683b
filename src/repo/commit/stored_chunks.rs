//! The chunks that a commit may refer to: those of the index, without what collections condemned.

use std::sync::Arc;

use super::chunk_index::ChunkIndex;
use crate::format::entry::ChunkRef;
use crate::format::id::ChunkId;
use crate::repo::tombstones::Condemned;

/// The index and what collections condemned.
#[derive(Debug, Clone)]
pub(super) struct StoredChunks {
    pub index: Arc<ChunkIndex>,
    pub condemned: Arc<Condemned>,
}

impl StoredChunks {
    /// Where a chunk is stored and may be referred to.
    pub fn find(&self, id: &ChunkId) -> Option<ChunkRef> {
        let found = self.index.find(id)?;
        let pack = found.place.pack;
        if self.condemned.fate(&pack).is_none() {
            return Some(found);
        }
        // So that its next place is kept instead.
        self.index.forget(id, &pack);
        None
    }
}
