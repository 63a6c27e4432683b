//! Chunks that this disk has already: those that the journal of a partly fetched file claims, zeros, and those in other
//! cached files. All of them are proved by their hashes.

use bytes::Bytes;

use super::chunks::Piece;
use crate::format::codec::Codec;
use crate::format::id::ChunkId;
use crate::repo::cache::{Cache, ChunkPlace, ChunkState, Pages, PartialFile};

/// Takes what is on this disk into the partly fetched file, and returns what is not. Blocks.
pub(super) fn take_local(cache: &Cache, partial: &PartialFile, pieces: Vec<Piece>) -> Vec<Piece> {
    let mut missing = vec![];
    for piece in pieces {
        let (offset, len, id) = (piece.offset, piece.len(), &piece.chunk.id);
        let is_there = match partial.chunk(offset, len) {
            ChunkState::Present => true,
            ChunkState::Claimed => partial.verify(offset, len, id) == ChunkState::Present,
            ChunkState::Absent => false,
        };
        // Zeros are as good as their hash; a chunk that lies about being zeros is fetched, and refused there.
        let is_hole = || piece.chunk.place.codec == Codec::Zero && zeros_have(id, len);
        if !(is_there || is_hole() && partial.write_zeros(&[(offset, len)]).is_ok()) {
            missing.push(piece);
        }
    }
    let ids: Vec<ChunkId> = missing.iter().map(|p| p.chunk.id).collect();
    let places = cache.find_chunks(&ids);
    let mut still_missing = vec![];
    for (piece, place) in missing.into_iter().zip(places) {
        let copied = place.and_then(|place| copy_of(cache, &piece, place));
        let is_written =
            copied.is_some_and(|bytes| partial.write(&[(piece.offset, bytes)], Pages::Keep).is_ok());
        if !is_written {
            still_missing.push(piece);
        }
    }
    still_missing
}

fn zeros_have(id: &ChunkId, len: u32) -> bool {
    ChunkId::of(&vec![0; len as usize]) == *id
}

/// Reads the chunk's bytes from another file in the cache, and proves them.
fn copy_of(cache: &Cache, piece: &Piece, place: ChunkPlace) -> Option<Bytes> {
    if place.len != piece.len() {
        return None;
    }
    let whole = cache.open_proved(&place.file)?;
    let mut bytes = vec![0; piece.len() as usize];
    whole.read_exact_at(&mut bytes, place.offset).ok()?;
    (ChunkId::of(&bytes) == piece.chunk.id).then(|| bytes.into())
}
