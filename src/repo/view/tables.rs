//! The packs of a version, and the proof of their tables: reading content needs no table, so only a check reads them.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::ReadError;
use super::version::VersionView;
use crate::format::FormatError;
use crate::format::id::PackId;
use crate::format::manifest::BlockKind;
use crate::format::pack::{PACK_FOOTER_BYTES, decode_footer, decode_table};
use crate::store::{Key, StoreError};

/// What is read of a pack's end at first: the table of 1,400 chunks. Of more, the rest is asked for.
const FIRST_TAIL_BYTES: u64 = 64 << 10;
/// The longest table that is read: 1.5 million chunks, more than any pack has.
const MAX_TABLE_BYTES: u64 = 64 << 20;

impl VersionView {
    /// The packs that the blocks of the manifest are in. Cost: the index blocks, where they are not in the cache.
    pub async fn block_packs(self: &Arc<Self>) -> Result<BTreeSet<PackId>, ReadError> {
        let damaged = |e| self.origin.damaged(&e);
        let mut packs = BTreeSet::new();
        let mut level = vec![self.root.top.clone()];
        for depth in (1..=self.root.depth).rev() {
            let mut next = vec![];
            for block in &level {
                for i in 0..block.len() {
                    let row = block.index_row(i).map_err(damaged)?;
                    packs.insert(row.block.place.pack);
                    if depth > 1 {
                        let kind = BlockKind::Index;
                        next.push(self.fetcher.block(&self.origin, &row.block, kind, Vec::new).await?);
                    }
                }
            }
            level = next;
        }
        Ok(packs)
    }

    /// Checks that a pack has the table that gave it its name, and ends where that says. Gives the packs that its chunks
    /// were moved to, if it was rewritten, or if its table is damaged and its chunks were stored again; of one that is
    /// missing, the chunks are what is missed. Cost: two requests,
    /// three for a pack of very many chunks.
    ///
    /// # Errors
    /// It is damaged, or cannot be read now.
    pub async fn prove_pack(&self, pack: &PackId) -> Result<Vec<PackId>, ReadError> {
        match self.prove_table(pack).await {
            // Its chunks were stored again: nobody needs its table any more.
            Err(error @ ReadError::Corrupt { .. }) => {
                let moves = self.fetcher.moves(pack).await.map_err(|e| self.origin.failed(e))?;
                moves.map(|moves| moves.targets().to_vec()).ok_or(error)
            }
            proved => proved,
        }
    }

    async fn prove_table(&self, pack: &PackId) -> Result<Vec<PackId>, ReadError> {
        let failed = |e| self.origin.failed(e);
        let key = Key::Pack(*pack);
        let store = &self.fetcher.store;
        let size = match store.stat(&key).await {
            Ok(found) => found.size,
            Err(StoreError::NotFound { .. }) => {
                let moves = self.fetcher.moves(pack).await.map_err(failed)?;
                return Ok(moves.map(|moves| moves.targets().to_vec()).unwrap_or_default());
            }
            Err(error) => return Err(failed(error)),
        };
        let corrupt = |error| failed(StoreError::corrupt(&key, error));
        let damaged = |problem: String| corrupt(FormatError::new("pack", problem));
        let footer_bytes = PACK_FOOTER_BYTES as u64;
        let tail =
            store.get_range(&key, size.saturating_sub(FIRST_TAIL_BYTES)..size).await.map_err(failed)?;
        let footer = tail.len().checked_sub(PACK_FOOTER_BYTES).and_then(|at| tail.get(at..));
        let footer = footer.ok_or_else(|| damaged(format!("it has {size} bytes only")))?;
        let table_bytes = decode_footer(footer).map_err(corrupt)? as u64;
        let end = size - footer_bytes;
        let begin = end.checked_sub(table_bytes).filter(|_| table_bytes <= MAX_TABLE_BYTES);
        let begin =
            begin.ok_or_else(|| damaged(format!("{size} bytes cannot hold a table of {table_bytes}")))?;
        let table = match tail.len() as u64 >= size - begin {
            true => tail.slice(tail.len() - (size - begin) as usize..tail.len() - PACK_FOOTER_BYTES),
            false => store.get_range(&key, begin..end).await.map_err(failed)?,
        };
        let rows = decode_table(pack, &table).map_err(corrupt)?;
        let chunk_bytes: u64 = rows.iter().map(|row| u64::from(row.stored_len)).sum();
        match chunk_bytes == begin {
            true => Ok(vec![]),
            false => Err(damaged(format!("its table is for {chunk_bytes} bytes of chunks, it has {begin}"))),
        }
    }
}
