//! Where a file has data and where holes: chunks of zeros are stored nowhere, so they are shown as holes.
//!
//! What is not known to be a hole is data, which is always a right answer. So a file whose entry counts no holes is
//! data throughout, and asking costs nothing.

use super::cached::CachedFile;
use super::chunks::Piece;
use crate::format::codec::Codec;
use crate::format::entry::Sought;
use crate::repo::view::error::ReadError;

/// How much of a file is located at once.
const STRIDE_BYTES: u64 = 256 << 20;
/// Strides of one search; what comes behind them counts as found. Together a TiB.
const MAX_STRIDES: usize = 4096;

/// Finds the first byte from `offset` on that is of the sort that is sought; none if `offset` is at the end of the file or
/// behind it, or no data follows.
pub(super) async fn seek(file: &CachedFile, offset: u64, sought: Sought) -> Result<Option<u64>, ReadError> {
    let size = file.body.size;
    if offset >= size {
        return Ok(None);
    }
    if !file.body.has_holes() {
        return Ok(Some(if sought == Sought::Data { offset } else { size }));
    }
    let is_sought = |piece: &Piece| (piece.chunk.place.codec == Codec::Zero) == (sought == Sought::Hole);
    let mut at = offset;
    for _ in 0..MAX_STRIDES {
        let stride = at..at.saturating_add(STRIDE_BYTES).min(size);
        let pieces = file.chunks.locate(stride.clone()).await?;
        if let Some(piece) = pieces.iter().find(|piece| is_sought(piece)) {
            return Ok(Some(piece.offset.max(offset)));
        }
        at = stride.end;
        if at == size {
            return Ok((sought == Sought::Hole).then_some(size));
        }
    }
    Ok(Some(if sought == Sought::Data { at } else { size }))
}
