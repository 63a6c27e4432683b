//! Where a file has data and where holes: chunks of zeros are stored nowhere, so they are shown as holes.
//!
//! What is not known to be a hole is data, which is always a right answer. So a file that does not tell of holes in
//! its entry is data throughout, and asking costs nothing.

use std::sync::Arc;

use super::chunks::Piece;
use super::content::FileContent;
use super::error::ReadError;
use crate::format::codec::Codec;
use crate::format::entry::Sought;

/// How much of a file is located at once.
const STRIDE_BYTES: u64 = 256 << 20;
/// Strides of one search; what comes behind them counts as found. Together a TiB.
const MAX_STRIDES: usize = 4096;

impl FileContent {
    /// The first byte from `offset` on that is what is sought; none if `offset` is at the end of the file or behind
    /// it, or no data follows. Cost: a block for each list of chunks on the way that is not in the cache.
    pub async fn seek(self: &Arc<Self>, offset: u64, sought: Sought) -> Result<Option<u64>, ReadError> {
        let size = self.body.size;
        if offset >= size {
            return Ok(None);
        }
        if !self.body.has_holes() {
            return Ok(Some(if sought == Sought::Data { offset } else { size }));
        }
        let is_sought = |piece: &Piece| (piece.chunk.place.codec == Codec::Zero) == (sought == Sought::Hole);
        let mut at = offset;
        for _ in 0..MAX_STRIDES {
            let stride = at..at.saturating_add(STRIDE_BYTES).min(size);
            let pieces = self.map.locate(&self.fetcher, &self.origin, stride.clone()).await?;
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
}
