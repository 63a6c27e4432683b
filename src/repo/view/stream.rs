//! A file's bytes from front to end for who copies or checks all of it, without filling the cache with them.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt};

use super::chunks::Piece;
use super::content::{FileContent, SMALL_FILE_BYTES, Tier, slice};
use super::error::ReadError;
use super::fetch::Urgency;
use crate::format::entry::FileBytes;

/// About this many bytes come in one part.
const PART_BYTES: u64 = 4 << 20;
/// Parts of one file that are fetched at once.
const PARTS_AHEAD: usize = 4;

/// Where the bytes may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteSource {
    /// From what is local, and from the store what is not.
    Any,
    /// Every chunk from the store, whatever is local.
    Store,
}

/// What one part is made of.
enum StreamPart {
    Range(Range<u64>),
    Chunks(Vec<Piece>),
}

impl FileContent {
    /// All bytes in order, in parts of a few MiB; every chunk is proved, the whole is not: its hash is for the
    /// caller to compute. Small files are fetched with their neighbours, through the cache; of large ones nothing
    /// is kept. After a part that cannot be read the next ones come all the same. Cost: as many range requests as there
    /// are stretches of packs, several at once.
    pub fn parts(
        self: &Arc<Self>,
        from: ByteSource,
    ) -> impl Stream<Item = Result<Bytes, ReadError>> + Send + use<> {
        let located = stream::try_unfold((self.clone(), 0), move |(content, at)| async move {
            let next = content.next_part(from, at).await?;
            Ok(next.map(|(part, end)| ((content.clone(), part), (content, end))))
        });
        let parts = located.map(move |found| async move {
            let (content, part) = found?;
            content.part(part, from).await
        });
        parts.buffered(PARTS_AHEAD)
    }

    /// The part that begins at `at`, and where it ends; none at the file's end.
    async fn next_part(
        self: &Arc<Self>,
        from: ByteSource,
        at: u64,
    ) -> Result<Option<(StreamPart, u64)>, ReadError> {
        let size = self.body.size;
        if at >= size {
            return Ok(None);
        }
        let end = at.saturating_add(PART_BYTES).min(size);
        let is_inline = matches!(self.body.content, FileBytes::Inline(_));
        let is_plain = from == ByteSource::Any && (self.is_whole() || size <= SMALL_FILE_BYTES);
        if is_inline || is_plain {
            return Ok(Some((StreamPart::Range(at..end), end)));
        }
        let mut pieces = self.map.locate(&self.fetcher, &self.origin, at..end).await?;
        // A part ends where a chunk does, so that no chunk is fetched twice.
        pieces.retain(|piece| piece.offset >= at);
        let end = pieces.last().map_or(at, Piece::end);
        if end <= at {
            return Err(self.origin.contradiction(format!("it has no chunk at byte {at}")));
        }
        Ok(Some((StreamPart::Chunks(pieces), end)))
    }

    async fn part(self: Arc<Self>, part: StreamPart, from: ByteSource) -> Result<Bytes, ReadError> {
        match part {
            StreamPart::Range(range) => {
                let len = (range.end - range.start) as usize;
                match (from, self.tier()) {
                    (ByteSource::Any, _) => self.read(range.start, len).await,
                    (ByteSource::Store, Tier::Memory(bytes)) => Ok(slice(&bytes, &range)),
                    (ByteSource::Store, _) => Err(ReadError::Stopped),
                }
            }
            StreamPart::Chunks(pieces) => {
                let range = pieces.first().map_or(0, |p| p.offset)..pieces.last().map_or(0, Piece::end);
                if from == ByteSource::Any
                    && let Tier::Whole(whole) = self.tier()
                {
                    let mut out = vec![0; (range.end - range.start) as usize];
                    let read = whole.read_exact_at(&mut out, range.start);
                    return read.map(|()| out.into()).map_err(|e| self.origin.local(&e));
                }
                let mut loose = self.fetch_loose(&pieces, Urgency::Now).await?;
                let mut out = BytesMut::with_capacity((range.end - range.start) as usize);
                for piece in &pieces {
                    out.extend_from_slice(&loose.remove(&piece.offset).unwrap_or_default());
                }
                Ok(out.freeze())
            }
        }
    }
}
