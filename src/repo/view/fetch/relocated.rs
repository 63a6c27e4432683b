//! Packs that a collection rewrote, and chunks that were stored again because they were damaged: the table of moves of a
//! pack says where its chunks are now.
//!
//! The table is a hint like every place; the chunk's own hash proves what is found there. A pack that chunks were
//! moved to may have been rewritten itself since.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use crate::format::entry::ChunkLocation;
use crate::format::id::{ChunkId, PackId};
use crate::format::relocation::{Moves, encode_moves};
use crate::store::{Key, Store, StoreError};

/// How often a chunk can have been moved; more is a circle.
pub const MAX_MOVES: usize = 8;
/// Tables kept in memory, and the bytes that they may have together: those of some hundred packs of average chunks.
const MAX_TABLES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
const MAX_TABLE_BYTES: usize = 16 << 20;

/// Tables of moves in memory; the least recently used goes first. One that gets more rows later is stale, and costs an
/// error for what is only in those until the next start.
#[derive(Debug)]
struct RelocationTables {
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

    fn forget(&mut self, pack: &PackId) {
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

/// The tables of moves of one store.
#[derive(Debug)]
pub(crate) struct Relocations {
    store: Arc<Store>,
    tables: Mutex<RelocationTables>,
}

impl Relocations {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store, tables: Mutex::default() }
    }

    /// Returns the table of a pack's moves; none if it has none. Cost: one request if it is not in memory.
    ///
    /// # Errors
    /// The table cannot be read now, or is damaged.
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

    /// Adds places of a pack's chunks to its table in the store. Cost: two requests.
    pub async fn add(
        &self,
        pack: &PackId,
        places: BTreeMap<ChunkId, ChunkLocation>,
    ) -> Result<(), StoreError> {
        let key = Key::Moves(*pack);
        let mut all = match self.store.get(&key).await {
            Ok(bytes) => Moves::decode(pack, &bytes).map(|table| table.places()).unwrap_or_default(),
            Err(StoreError::NotFound { .. }) => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        all.extend(places);
        self.store.put(&key, vec![encode_moves(pack, &all).into()]).await?;
        self.tables.lock().forget(pack);
        Ok(())
    }
}
