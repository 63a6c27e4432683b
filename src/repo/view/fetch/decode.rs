//! One chunk out of bytes of its pack: cut out, decoded and proved by its hash.

use bytes::Bytes;

use crate::format::codec::{self, Codec};
use crate::format::entry::ChunkRef;
use crate::format::id::ChunkId;
use crate::repo::view::error::ChunkError;

/// Decodes and proves a chunk from a piece of its pack that begins at `start`. A chunk that is stored as it is shares
/// the piece's memory.
pub(super) fn decode_chunk(chunk: &ChunkRef, piece: &Bytes, start: u64) -> Result<Bytes, ChunkError> {
    let from = chunk.place.offset.checked_sub(start).and_then(|at| usize::try_from(at).ok());
    let end = from.and_then(|from| from.checked_add(chunk.place.stored_len as usize));
    let (Some(from), Some(end)) = (from, end.filter(|end| *end <= piece.len())) else {
        return Err(ChunkError::Outside);
    };
    let stored = piece.slice(from..end);
    let raw = match chunk.place.codec {
        Codec::Raw if stored.len() == chunk.raw_len as usize => stored,
        codec => codec::decode(codec, &stored, chunk.raw_len)?.into_owned().into(),
    };
    let found = ChunkId::of(&raw);
    if found == chunk.id { Ok(raw) } else { Err(ChunkError::Hash { found }) }
}
