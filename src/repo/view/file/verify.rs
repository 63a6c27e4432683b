//! Proves a file by its own hash when all of its chunks are there, and finds out what is to blame if it fails.

use std::ops::Range;
use std::sync::Arc;

use super::cached::CachedFile;
use super::chunks::Piece;
use crate::format::codec::Codec;
use crate::repo::cache::{ChunkState, Finish, PartialFile};
use crate::repo::view::error::ReadError;

/// Chunks located at once when a whole file is gone through, in file bytes.
const STRIDE_BYTES: u64 = 256 << 20;

/// The right to prove one file, for one caller at a time.
#[derive(Debug, Default)]
pub(super) struct Verifier(tokio::sync::Mutex<()>);

impl Verifier {
    /// Proves the whole, unless another caller did. Returns `true` if it became whole by this call.
    ///
    /// # Errors
    /// The file is condemned, or the local disk fails.
    pub async fn verify(&self, file: &CachedFile, partial: &Arc<PartialFile>) -> Result<bool, ReadError> {
        let _turn = self.0.lock().await;
        file.check_condemned()?;
        if file.is_whole() {
            return Ok(false);
        }
        let target = partial.clone();
        match file.services.fetcher.blocking(move || target.finish()).await {
            Ok(Finish::Whole) => {
                file.prefetched.note_hashed(file.body.size);
                Ok(file.take_whole().await)
            }
            Ok(Finish::Incomplete) => Ok(false),
            Ok(Finish::Mismatch) => audit(file, partial).await.map(|()| false),
            Err(error) => Err(file.origin.local(error)),
        }
    }
}

/// Finds whether the local disk or the version is to blame for a wrong hash of the whole.
async fn audit(file: &CachedFile, partial: &Arc<PartialFile>) -> Result<(), ReadError> {
    for range in strides(file.body.size) {
        let pieces = file.chunks.locate(range).await?;
        let target = partial.clone();
        let is_right = move |p: &Piece| target.verify(p.offset, p.len(), &p.chunk.id) == ChunkState::Present;
        if !file.services.fetcher.blocking(move || pieces.iter().all(is_right)).await {
            tracing::warn!(file = %file.origin, "a partly fetched file is damaged; it is fetched again");
            return partial.reset().map_err(|e| file.origin.local(e));
        }
    }
    Err(file.condemn(file.wrong_whole()))
}

/// Tells the cache where the chunks of a file lie that became whole, so that other files can copy them.
pub(super) async fn note_chunks(file: &CachedFile) {
    for range in strides(file.body.size) {
        let Ok(pieces) = file.chunks.locate(range.clone()).await else { return };
        if range == (0..file.body.size) && pieces.len() < 2 {
            return;
        }
        let is_stored = |p: &&Piece| p.chunk.place.codec != Codec::Zero && p.offset >= range.start;
        let rows: Vec<_> = pieces.iter().filter(is_stored).map(|p| (p.chunk.id, p.offset, p.len())).collect();
        let (cache, hash) = (file.services.cache.clone(), file.body.hash);
        file.services.fetcher.blocking(move || cache.note_chunks(&hash, &rows)).await;
    }
}

fn strides(size: u64) -> impl Iterator<Item = Range<u64>> {
    (0..size.div_ceil(STRIDE_BYTES)).map(move |i| {
        let at = i * STRIDE_BYTES;
        at..at.saturating_add(STRIDE_BYTES).min(size)
    })
}
