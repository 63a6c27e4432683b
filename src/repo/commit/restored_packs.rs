//! Packs that a commit is about to refer to and that the store has lost, and lost chunks whose bytes the commit has.
//!
//! A deleted pack concerns a commit only if the new version would refer to it. Packs that the chunk index names are
//! asked for once a day; packs under unchanged blocks of the version before are not. Lost chunks are stored like new
//! ones; the table of moves of their old pack then leads to them, so that earlier versions are whole again, too.

use std::collections::{BTreeMap, HashMap};

use futures::{StreamExt, TryStreamExt, stream};

use super::error::CommitError;
use super::prepared::Prepared;
use super::stored_chunks::StoredChunks;
use crate::format::entry::{ChunkLocation, ChunkRef};
use crate::format::id::{ChunkId, PackId};
use crate::repo::view::{MAX_MOVES, ReadContext};
use crate::store::{Key, Store, StoreError};

/// Packs asked for at once.
const PARALLEL_PACKS: usize = 32;

/// Compares the packs that a commit refers to with those of the store.
pub(super) struct PackChecker<'a> {
    pub store: &'a Store,
    pub context: &'a ReadContext,
    pub stored: &'a StoredChunks,
}

impl PackChecker<'_> {
    /// Whether all packs are in the store and as long as they must be. If not, the index loses their chunks, except those
    /// that were moved. Cost: a request for each pack that was not seen within a day.
    pub async fn packs_are_there(&self, needed: &HashMap<PackId, u64>) -> Result<bool, CommitError> {
        let (index, store) = (&self.stored.index, self.store);
        let unseen = needed.iter().filter(|(pack, _)| !index.is_seen(pack));
        let unseen: Vec<(PackId, u64)> = unseen.map(|(pack, needed)| (*pack, *needed)).collect();
        let asked = stream::iter(unseen).map(|(pack, needed)| async move {
            match store.stat(&Key::Pack(pack)).await {
                Ok(found) => Ok((pack, found.size >= needed)),
                Err(StoreError::NotFound { .. }) => Ok((pack, false)),
                // Without the right to list, a missing object is denied: nothing is known of it.
                Err(StoreError::Denied { .. }) => Ok((pack, true)),
                Err(error) => Err(error),
            }
        });
        let found: Vec<(PackId, bool)> = asked.buffer_unordered(PARALLEL_PACKS).try_collect().await?;
        let there: Vec<PackId> = found.iter().filter(|(_, there)| *there).map(|(pack, _)| *pack).collect();
        index.see(&there);
        let mut all_there = true;
        for (pack, _) in found.iter().filter(|(_, there)| !there) {
            let (mut lost, mut lengths) = (vec![], HashMap::new());
            for id in index.chunks_in(pack) {
                if !self.is_moved(pack, &id, &mut lengths).await? {
                    lost.push(id);
                }
            }
            if lost.is_empty() {
                continue;
            }
            tracing::error!(%pack, chunks = lost.len(), "a pack is gone from the store, or cut short: its chunks are stored again");
            lost.iter().for_each(|id| index.lose(id, pack));
            all_there = false;
        }
        Ok(all_there)
    }

    /// Whether a chunk of a missing pack was moved to another. `lengths` remembers the packs that were asked for; none for
    /// a missing one.
    async fn is_moved(
        &self,
        pack: &PackId,
        id: &ChunkId,
        lengths: &mut HashMap<PackId, Option<u64>>,
    ) -> Result<bool, CommitError> {
        let mut at = *pack;
        for _ in 0..MAX_MOVES {
            let Some(place) = self.context.moves(&at).await?.and_then(|moves| moves.find(id)) else {
                return Ok(false);
            };
            at = place.pack;
            let length = match lengths.get(&at) {
                Some(length) => *length,
                None => {
                    let length = match self.store.stat(&Key::Pack(at)).await {
                        Ok(found) => Some(found.size),
                        Err(StoreError::NotFound { .. }) => None,
                        Err(error) => return Err(error.into()),
                    };
                    *lengths.entry(at).or_insert(length)
                }
            };
            let end = place.offset.saturating_add(place.stored_len.into());
            if length.is_some_and(|length| length >= end) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes the tables of moves of packs that lost chunks lead to where the commit stored these again. Cost: two requests
    /// for each of these packs.
    pub async fn lead_to_restored(&self, prepared: &Prepared) -> Result<(), CommitError> {
        let mut tables: BTreeMap<PackId, BTreeMap<ChunkId, ChunkLocation>> = BTreeMap::new();
        let mut restored: Vec<ChunkRef> = vec![];
        for (id, packs) in &prepared.restored {
            let Some(chunk) = prepared.new_chunks.find(id)? else { continue };
            // A pack that a collection deleted is not missed.
            for pack in packs.iter().filter(|pack| self.stored.condemned.fate(pack).is_none()) {
                tables.entry(*pack).or_default().insert(*id, chunk.place);
            }
            restored.push(chunk);
        }
        for (pack, places) in tables {
            self.context.add_moves(&pack, places).await?;
        }
        self.stored.index.restore(&restored);
        Ok(())
    }
}
