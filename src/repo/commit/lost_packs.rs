//! What this host knows to be in packs, and the store has no more.
//!
//! Only names and lengths are compared, which is cheap. Reading finds wrong bytes; a pack that no
//! commit of this host referred to is unknown here.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::chunk_index::ChunkIndex;
use crate::format::id::{ChunkId, PackId};
use crate::format::relocation::Moves;
use crate::repo::tombstones::{Condemned, newest_epoch};
use crate::store::{Key, ObjectInfo, PACKS_PREFIX, Store, StoreError};

/// Packs and tables of moves that are listed, at 1,000 a request: those of some terabytes, in less than a minute.
pub const MAX_LISTED: u64 = 200_000;
/// Tables of moves that are read, one a request. Further ones are taken to have what was lost from their packs.
const MAX_TABLES: usize = 100;

/// What became of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is not there.
    Gone,
    /// It ends before chunks that it had.
    CutShort,
    /// A read of this host found it damaged.
    Damaged,
}

/// What is lost.
#[derive(Debug)]
pub struct Losses {
    /// The packs that are there.
    pub there: u64,
    /// Those that content is lost from, which was not stored again and which no collection condemned.
    pub lost: BTreeMap<PackId, Loss>,
}

impl Losses {
    /// Compares the packs that `index` knows with those of the store; none if the store has more than [`MAX_LISTED`].
    /// Cost: a request for each 1,000 packs. Where something seems lost also a listing, one for each new collection and
    /// for some tables of moves.
    ///
    /// # Errors
    /// The packs cannot be listed, or a collection or a table of moves cannot be read. A table that is gone or
    /// damaged is no error.
    pub async fn find(
        index: &ChunkIndex,
        condemned: &Condemned,
        store: &Store,
    ) -> Result<Option<Self>, StoreError> {
        // Before the listing: what is stored after it is not missed. Collections are read after it: what they deleted is
        // not, either.
        let (ends, lost_chunks) = (index.ends(), index.lost());
        let (mut sizes, mut tables) = (HashMap::new(), HashSet::new());
        let take = |object: ObjectInfo| match Key::parse(&object.path) {
            Some(Key::Pack(pack)) => drop(sizes.insert(pack, object.size)),
            Some(Key::Moves(pack)) => drop(tables.insert(pack)),
            _ => {}
        };
        if !store.visit_first(PACKS_PREFIX, MAX_LISTED, take).await? {
            return Ok(None);
        }
        let mut lost: BTreeMap<PackId, Loss> = BTreeMap::new();
        for (pack, end) in ends {
            match sizes.get(&pack) {
                Some(size) if *size >= end => {}
                _ if tables.contains(&pack) => {}
                Some(_) => drop(lost.insert(pack, Loss::CutShort)),
                None => drop(lost.insert(pack, Loss::Gone)),
            }
        }
        let mut chunks: BTreeMap<PackId, Vec<ChunkId>> = BTreeMap::new();
        for (chunk, packs) in lost_chunks {
            packs.into_iter().for_each(|pack| chunks.entry(pack).or_default().push(chunk));
        }
        chunks.retain(|pack, _| !lost.contains_key(pack));
        if !lost.is_empty() || !chunks.is_empty() {
            condemned.read_to(newest_epoch(store, condemned.epoch()).await?).await?;
            lost.retain(|pack, _| condemned.fate(pack).is_none());
            chunks.retain(|pack, _| condemned.fate(pack).is_none());
        }
        let mut read = 0;
        for (pack, chunks) in chunks {
            if tables.contains(&pack) {
                read += 1;
                if read > MAX_TABLES || has_all(store, &pack, &chunks).await? {
                    continue;
                }
            }
            lost.insert(pack, if sizes.contains_key(&pack) { Loss::Damaged } else { Loss::Gone });
        }
        Ok(Some(Self { there: sizes.len() as u64, lost }))
    }
}

/// Whether the table of a pack's moves says of all these chunks where they are now.
async fn has_all(store: &Store, pack: &PackId, chunks: &[ChunkId]) -> Result<bool, StoreError> {
    match store.get(&Key::Moves(*pack)).await {
        Ok(bytes) => Ok(Moves::decode(pack, &bytes)
            .is_ok_and(|moves| chunks.iter().all(|chunk| moves.find(chunk).is_some()))),
        Err(StoreError::NotFound { .. } | StoreError::Corrupt { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
