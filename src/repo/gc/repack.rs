//! Rewriting packs of which little is in use: what is, is copied into new packs, and a table says where it went.
//!
//! All of it is in the store before the record that condemns the old pack. Chunks are copied as they are stored, and
//! proved on the way: a pack with a damaged chunk stays as it is.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::choose::Sparse;
use super::collector::Collector;
use super::create_once::{Settled, settle};
use super::error::GcError;
use super::marks::{Marks, PackNumber};
use super::options::{GcOptions, Mode};
use super::report::Condemnation;
use crate::format::codec;
use crate::format::collection::{Collection, PackFate};
use crate::format::entry::ChunkLocation;
use crate::format::id::{ChunkId, PackId};
use crate::format::pack::{PACK_FOOTER_BYTES, PACK_TARGET_BYTES, PackRow, decode_footer, decode_table, seal};
use crate::format::relocation::encode_moves;
use crate::store::{Key, Store, StoreError};

/// Bytes at a pack's end that are read at once; most tables fit.
const TAIL_BYTES: u64 = 64 << 10;
/// Unused bytes between two chunks that are fetched with them rather than paid with another request.
const GAP_BYTES: u64 = 256 << 10;
/// No request is longer, unless a single chunk is.
const REQUEST_BYTES: u64 = 8 << 20;
/// Chunks whose new places are kept in memory; then the new pack is sealed, and their tables are written.
const MAX_OPEN_CHUNKS: usize = 200_000;

/// A chunk on its way: which new pack of this batch it goes to, and where in it.
#[derive(Debug, Clone, Copy)]
struct NewPlace {
    slot: usize,
    place: ChunkLocation,
}

/// An old pack, and where its chunks went.
struct Copied {
    sparse: Sparse,
    chunks: BTreeMap<ChunkId, NewPlace>,
}

/// Fills new packs.
struct NewPacks {
    store: Arc<Store>,
    sealed: Vec<PackId>,
    pieces: Vec<Bytes>,
    rows: Vec<PackRow>,
    len: u64,
}

impl NewPacks {
    fn new(store: Arc<Store>) -> Self {
        Self { store, sealed: vec![], pieces: vec![], rows: vec![], len: 0 }
    }

    async fn add(&mut self, row: &PackRow, stored: Bytes) -> Result<NewPlace, StoreError> {
        if self.len + stored.len() as u64 > PACK_TARGET_BYTES as u64 {
            self.seal().await?;
        }
        let row = PackRow { offset: self.len, ..row.clone() };
        // The pack's id is known when it is sealed.
        let pack = PackId::from_bytes([0; 32]);
        let place = ChunkLocation { pack, offset: row.offset, stored_len: row.stored_len, codec: row.codec };
        self.len += stored.len() as u64;
        self.rows.push(row);
        self.pieces.push(stored);
        Ok(NewPlace { slot: self.sealed.len(), place })
    }

    async fn seal(&mut self) -> Result<(), StoreError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        let (id, pieces) = seal(self.store.env().random16(), &rows, std::mem::take(&mut self.pieces));
        self.store.put(&Key::Pack(id), pieces).await?;
        self.sealed.push(id);
        self.len = 0;
        Ok(())
    }
}

impl Collector {
    /// Rewrites these packs and condemns them as moved. Those that were rewritten by a run that died are condemned by
    /// the table that it left, if that has everything in use. Cost: two to three requests for each old pack, one for
    /// each stretch of it in use, and one for each table and new pack.
    pub(super) async fn repack(
        &self,
        marks: &mut Marks,
        sparse: Vec<Sparse>,
        options: &GcOptions,
        record: &mut Collection,
        made: &mut Condemnation,
    ) -> Result<(), GcError> {
        let mut new = NewPacks::new(self.store().clone());
        let mut open: Vec<Copied> = vec![];
        for sparse in sparse {
            if marks.has_table(sparse.number) {
                if marks.is_covered(&sparse.id) {
                    condemn(&sparse, record, made);
                }
                continue;
            }
            if options.mode == Mode::Look {
                made.moved_bytes += sparse.live_bytes;
                condemn(&sparse, record, made);
                continue;
            }
            match self.copy(&sparse, marks, &mut new).await {
                Ok(chunks) => open.push(Copied { sparse, chunks }),
                Err(RepackError::Damaged(problem)) => {
                    tracing::error!(pack = %sparse.id, problem, "a pack cannot be rewritten and stays");
                }
                Err(RepackError::Gc(error)) => return Err(error),
            }
            if open.iter().map(|copied| copied.chunks.len()).sum::<usize>() >= MAX_OPEN_CHUNKS {
                self.write_tables(&mut new, &mut open, record, made).await?;
            }
        }
        self.write_tables(&mut new, &mut open, record, made).await
    }

    async fn write_tables(
        &self,
        new: &mut NewPacks,
        open: &mut Vec<Copied>,
        record: &mut Collection,
        made: &mut Condemnation,
    ) -> Result<(), GcError> {
        new.seal().await?;
        for Copied { sparse, chunks } in open.drain(..) {
            let placed =
                |new_place: &NewPlace| ChunkLocation { pack: new.sealed[new_place.slot], ..new_place.place };
            let moves = chunks.iter().map(|(id, place)| (*id, placed(place))).collect();
            let table = encode_moves(&sparse.id, &moves).into();
            // If another run rewrites it, too, that one's table is as good, and this pack is left to it.
            if settle(self.store(), &Key::Moves(sparse.id), table).await? == Settled::Ours {
                made.moved_bytes += sparse.live_bytes;
                condemn(&sparse, record, made);
            }
        }
        new.sealed.clear();
        Ok(())
    }

    /// Copies what is in use of a pack.
    async fn copy(
        &self,
        sparse: &Sparse,
        marks: &Marks,
        new: &mut NewPacks,
    ) -> Result<BTreeMap<ChunkId, NewPlace>, RepackError> {
        let rows = self.live_rows(sparse.number, &sparse.id, sparse.size, marks).await?;
        let key = Key::Pack(sparse.id);
        let mut copied = BTreeMap::new();
        for (range, rows) in stretches(&rows) {
            let piece = self.store().get_range(&key, range.clone()).await.map_err(of_store)?;
            for row in rows {
                let stored = proved(row, &piece, range.start)?;
                let place = new.add(row, Bytes::copy_from_slice(&stored)).await.map_err(of_store)?;
                copied.insert(row.id, place);
            }
        }
        Ok(copied)
    }

    /// What is in use of a pack, by its own table, in the order of offsets.
    pub(super) async fn live_rows(
        &self,
        number: PackNumber,
        pack: &PackId,
        size: u64,
        marks: &Marks,
    ) -> Result<Vec<PackRow>, RepackError> {
        let table = self.table(pack, size).await?;
        let mut rows = vec![];
        for (offset, len) in marks.live_chunks(number)? {
            let from = table.partition_point(|row| row.offset < offset);
            let mut here = table[from..].iter().take_while(|row| row.offset == offset);
            match here.find(|row| row.stored_len == len) {
                Some(row) => rows.push(row.clone()),
                None => return Err(damaged(format!("its table has no chunk of {len} bytes at {offset}"))),
            }
        }
        Ok(rows)
    }

    /// The table at a pack's end, in the order of offsets.
    async fn table(&self, pack: &PackId, size: u64) -> Result<Vec<PackRow>, RepackError> {
        let key = Key::Pack(*pack);
        let start = size.saturating_sub(TAIL_BYTES);
        let mut tail = self.store().get_range(&key, start..size).await.map_err(of_store)?;
        let footer = tail.len().checked_sub(PACK_FOOTER_BYTES).ok_or_else(|| damaged("it is too short"))?;
        let table_len = decode_footer(&tail[footer..]).map_err(|e| damaged(e.to_string()))?;
        let end = size - PACK_FOOTER_BYTES as u64;
        let begin =
            end.checked_sub(table_len as u64).ok_or_else(|| damaged("its table is longer than it is"))?;
        let table = if begin >= start {
            tail.slice((begin - start) as usize..footer)
        } else {
            tail = self.store().get_range(&key, begin..end).await.map_err(of_store)?;
            tail
        };
        decode_table(pack, &table).map_err(|e| damaged(e.to_string()))
    }
}

pub(super) enum RepackError {
    /// The pack is not as it should be.
    Damaged(String),
    Gc(GcError),
}

impl From<GcError> for RepackError {
    fn from(e: GcError) -> Self {
        RepackError::Gc(e)
    }
}

pub(super) fn damaged(problem: impl Into<String>) -> RepackError {
    RepackError::Damaged(problem.into())
}

pub(super) fn of_store(e: StoreError) -> RepackError {
    match e {
        StoreError::NotFound { .. } | StoreError::Corrupt { .. } => damaged(e.to_string()),
        other => RepackError::Gc(other.into()),
    }
}

/// The stored form of a chunk, from a piece of its pack that begins at `start`, if it has the chunk's hash.
pub(super) fn proved(row: &PackRow, piece: &Bytes, start: u64) -> Result<Bytes, RepackError> {
    let at = (row.offset - start) as usize;
    let end = at.saturating_add(row.stored_len as usize);
    let stored = piece.get(at..end).ok_or_else(|| damaged(format!("it ends before chunk {}", row.id)))?;
    let raw = codec::decode(row.codec, stored, row.raw_len).map_err(|e| damaged(e.to_string()))?;
    match ChunkId::of(&raw) == row.id {
        true => Ok(piece.slice(at..end)),
        false => Err(damaged(format!("chunk {} has another hash", row.id))),
    }
}

fn condemn(sparse: &Sparse, record: &mut Collection, made: &mut Condemnation) {
    record.packs.push((sparse.id, PackFate::Moved));
    made.repacked += 1;
    made.objects += 1;
    made.bytes += sparse.size;
}

/// Chunks, in the order of their offsets, that one request brings.
pub(super) fn stretches(rows: &[PackRow]) -> Vec<(Range<u64>, &[PackRow])> {
    let mut out: Vec<(Range<u64>, Range<usize>)> = vec![];
    for (i, row) in rows.iter().enumerate() {
        let end = row.offset + u64::from(row.stored_len);
        match out.last_mut() {
            Some((bytes, members))
                if row.offset <= bytes.end + GAP_BYTES && end - bytes.start <= REQUEST_BYTES =>
            {
                bytes.end = bytes.end.max(end);
                members.end = i + 1;
            }
            _ => out.push((row.offset..end, i..i + 1)),
        }
    }
    out.into_iter().map(|(bytes, members)| (bytes, &rows[members])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::codec::Codec;

    #[test]
    fn chunks_share_a_request_while_they_are_near_and_it_is_not_too_long() {
        let row = |offset, stored_len| PackRow {
            id: ChunkId::of(b"x"),
            offset,
            stored_len,
            raw_len: stored_len,
            codec: Codec::Raw,
        };
        let mib = 1 << 20;
        let rows = [
            row(0, 10),
            row(10 + GAP_BYTES, 10),
            row(mib, 10),
            row(mib + 10, 7 << 20),
            row(9 * mib, 16 << 20),
        ];
        let found: Vec<_> = stretches(&rows).into_iter().map(|(bytes, rows)| (bytes, rows.len())).collect();
        assert_eq!(found, [(0..20 + GAP_BYTES, 2), (mib..8 * mib + 10, 2), (9 * mib..25 * mib, 1)]);
        assert!(stretches(&[]).is_empty());
    }
}
