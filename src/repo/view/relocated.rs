//! Packs that a collection rewrote, and chunks that were stored again because they were damaged: where a chunk is not to
//! be had, the table of moves of its pack says where it is now.
//!
//! The table is a hint like every place; the chunk's own hash proves what is found there. A pack that chunks were
//! moved to may have been rewritten itself since.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;

use super::coalesce::group;
use super::error::{Origin, ReadError};
use super::fetch::{Fetcher, Urgency, is_lost};
use crate::format::entry::ChunkRef;
use crate::format::id::PackId;
use crate::format::relocation::Moves;
use crate::store::{Key, StoreError};

/// How often a chunk can have been moved; more is a circle.
pub const MAX_MOVES: usize = 8;
/// Tables kept in memory, and the bytes that they may have together: those of some hundred packs of average chunks.
const MAX_TABLES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
const MAX_TABLE_BYTES: usize = 16 << 20;

/// Tables of moves, least recently used first to go. One that gets more rows later is stale, and costs an error
/// for what is only in those until the next start.
#[derive(Debug)]
pub(super) struct RelocationTables {
    tables: LruCache<PackId, Arc<Moves>>,
    bytes: usize,
}

impl Default for RelocationTables {
    fn default() -> Self {
        Self { tables: LruCache::new(MAX_TABLES), bytes: 0 }
    }
}

impl RelocationTables {
    fn get(&mut self, pack: &PackId) -> Option<Arc<Moves>> {
        self.tables.get(pack).cloned()
    }

    /// Lets the table be read anew.
    pub fn forget(&mut self, pack: &PackId) {
        if let Some(old) = self.tables.pop(pack) {
            self.bytes -= old.size_bytes();
        }
    }

    fn put(&mut self, pack: PackId, moves: Arc<Moves>) {
        self.bytes += moves.size_bytes();
        if let Some((_, old)) = self.tables.push(pack, moves) {
            self.bytes -= old.size_bytes();
        }
        while self.bytes > MAX_TABLE_BYTES {
            let Some((_, old)) = self.tables.pop_lru() else { break };
            self.bytes -= old.size_bytes();
        }
    }
}

impl Fetcher {
    /// The table of a pack's moves; none if it has none. Cost: one request if it is not in memory.
    pub async fn moves(&self, pack: &PackId) -> Result<Option<Arc<Moves>>, StoreError> {
        if let Some(known) = self.tables.lock().get(pack) {
            return Ok(Some(known));
        }
        let key = Key::Moves(*pack);
        let bytes = match self.store.get(&key).await {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let moves = Moves::decode(pack, &bytes).map_err(|e| StoreError::corrupt(&key, e))?;
        let moves = Arc::new(moves);
        self.tables.lock().put(*pack, moves.clone());
        Ok(Some(moves))
    }

    /// Gets chunks that were lost where they were sought (`came` has what came of each) from where they were moved to,
    /// or stored again. What is nowhere has the error of the last
    /// place that it was sought in. Cost: nothing if all came; else a request for each table,
    /// and those for the chunks.
    pub(super) async fn fetch_moved(
        &self,
        origin: &Origin,
        chunks: &[ChunkRef],
        mut came: Vec<Result<Bytes, ReadError>>,
        urgency: Urgency,
    ) -> Vec<Result<Bytes, ReadError>> {
        let is_lost = |came: &Result<Bytes, ReadError>| came.as_ref().is_err_and(is_lost);
        let mut lost: Vec<(usize, ChunkRef)> =
            chunks.iter().cloned().enumerate().filter(|(i, _)| is_lost(&came[*i])).collect();
        for _ in 0..MAX_MOVES {
            let mut moved = vec![];
            for (i, chunk) in lost.drain(..) {
                match self.moves(&chunk.place.pack).await {
                    Ok(table) => {
                        if let Some(place) = table.and_then(|table| table.find(&chunk.id)) {
                            moved.push((i, ChunkRef { place, ..chunk }));
                        }
                    }
                    // That it is lost is not known then.
                    Err(error) => came[i] = Err(origin.failed(error)),
                }
            }
            let places: Vec<_> = moved.iter().map(|(_, chunk)| chunk.place).collect();
            for group in group(&places) {
                let members: Vec<_> = group.members.iter().map(|at| moved[*at].clone()).collect();
                let chunks = members.iter().map(|(_, chunk)| chunk.clone()).collect();
                match self.fetch_range(origin, &group, chunks, urgency).await {
                    Ok(results) => {
                        for ((i, chunk), result) in members.into_iter().zip(results) {
                            if is_lost(&result) {
                                lost.push((i, chunk));
                            }
                            came[i] = result;
                        }
                    }
                    // Moved once more.
                    Err(_) => lost.extend(members),
                }
            }
            if lost.is_empty() {
                break;
            }
        }
        came
    }
}
