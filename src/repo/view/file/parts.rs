//! A file's bytes from front to end, to copy or check all of it without filling the cache with them.

use std::ops::Range;

use bytes::{Bytes, BytesMut};

use super::cached::{CachedFile, Tier};
use super::chunks::Piece;
use crate::format::entry::FileBytes;
use crate::repo::view::error::ReadError;
use crate::repo::view::fetch::Urgency;
use crate::repo::view::readahead::STREAM_PART_BYTES;

/// Where the bytes may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteSource {
    /// What is local from here, the rest from the store.
    Any,
    /// Every chunk from the store, whatever is local.
    Store,
}

/// A part of a file that is streamed.
pub(super) enum FilePart {
    /// Bytes to read like any others.
    Range(Range<u64>),
    /// Whole chunks.
    Chunks(Vec<Piece>),
}

/// Returns the part that begins at `at`, and where it ends; none at the file's end. `is_read` asks for a part to be read
/// like any other bytes.
pub(super) async fn next_part(
    file: &CachedFile,
    at: u64,
    is_read: bool,
) -> Result<Option<(FilePart, u64)>, ReadError> {
    let size = file.body.size;
    if at >= size {
        return Ok(None);
    }
    let end = at.saturating_add(STREAM_PART_BYTES).min(size);
    if is_read || matches!(file.body.content, FileBytes::Inline(_)) {
        return Ok(Some((FilePart::Range(at..end), end)));
    }
    let mut pieces = file.chunks.locate(at..end).await?;
    // A part ends where a chunk does, so that no chunk is fetched twice.
    pieces.retain(|piece| piece.offset >= at);
    let end = pieces.last().map_or(at, Piece::end);
    if end <= at {
        return Err(file.origin.contradiction(format!("it has no chunk at byte {at}")));
    }
    Ok(Some((FilePart::Chunks(pieces), end)))
}

/// Reads whole chunks that follow each other, and keeps nothing of them.
pub(super) async fn read_pieces(
    file: &CachedFile,
    pieces: &[Piece],
    from: ByteSource,
) -> Result<Bytes, ReadError> {
    let range = pieces.first().map_or(0, |p| p.offset)..pieces.last().map_or(0, Piece::end);
    let len = (range.end - range.start) as usize;
    if from == ByteSource::Any
        && let Tier::Whole(whole) = file.tier()
    {
        let mut out = vec![0; len];
        let read = whole.read_exact_at(&mut out, range.start);
        return read.map(|()| out.into()).map_err(|e| file.origin.local(e));
    }
    let mut in_memory = file.chunks.fetch(pieces, Urgency::Now).await?;
    let mut out = BytesMut::with_capacity(len);
    for piece in pieces {
        out.extend_from_slice(&in_memory.remove(&piece.offset).unwrap_or_default());
    }
    Ok(out.freeze())
}
