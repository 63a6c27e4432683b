//! Reads a range of a file chunk by chunk: from memory what was just fetched, from the partly fetched file the rest.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::chunks::Piece;
use super::download::Download;
use crate::repo::cache::PartialFile;
use crate::repo::view::error::ReadError;
use crate::repo::view::fetch::Urgency;

/// One read of a file that is not whole.
pub(super) struct ChunkedRead<'a> {
    pub download: &'a Arc<Download>,
    /// Where fetched chunks are; none where the disk does not let it be made.
    pub partial: Option<&'a Arc<PartialFile>>,
    pub range: &'a Range<u64>,
}

impl ChunkedRead<'_> {
    /// Reads the range. Returns none if what was fetched is gone again, or if the file became whole: try again then.
    pub async fn read(&self) -> Result<Option<Bytes>, ReadError> {
        let (download, range) = (self.download, self.range);
        let file = &download.file;
        // Without a place to keep it nothing is fetched ahead.
        let plan = self.partial.map(|_| download.plan(range));
        let now = plan.as_ref().map_or(range, |plan| &plan.now);
        let pieces = file.chunks.locate(now.clone()).await?;
        let waiters = download.request(self.partial, &pieces, Urgency::Now);
        if let Some(plan) = plan.filter(|plan| !plan.ahead.is_empty()) {
            download.fetch_ahead(plan.ahead);
        }
        let wanted: Vec<&Piece> = pieces.iter().filter(|p| overlaps(p, range)).collect();
        let mut in_memory = HashMap::new();
        for (offset, waiter) in waiters {
            if wanted.iter().any(|p| p.offset == offset) {
                match waiter.fetched.wait().await {
                    Some(result) => in_memory.extend(result?.iter().map(|(at, bytes)| (*at, bytes.clone()))),
                    // Abandoned; the next round fetches it.
                    None => return Ok(None),
                }
            }
        }
        for piece in &wanted {
            if let Some(bytes) = file.prefetched.chunk(piece.offset) {
                in_memory.entry(piece.offset).or_insert(bytes);
            }
        }
        file.prefetched.note_read(range);
        if let Some(partial) = self.partial
            && self.verify_last(partial).await?
        {
            return Ok(None);
        }
        self.assemble(&wanted, &in_memory)
    }

    /// Reads the range without the cache: fetches its chunks into memory, and drops them.
    pub async fn read_uncached(&self) -> Result<Bytes, ReadError> {
        let chunks = &self.download.file.chunks;
        let pieces = chunks.locate(self.range.clone()).await?;
        let in_memory = chunks.fetch(&pieces, Urgency::Now).await?;
        let bytes = self.assemble(&pieces.iter().collect::<Vec<_>>(), &in_memory)?;
        bytes.ok_or(ReadError::Stopped)
    }

    /// Waits for the proof of the whole if nothing of the file is missing, or nothing but what is on its way: the reader
    /// of a file's end, or of the last bytes that were missing, is not given them before the whole is known to be what
    /// was committed. Returns whether the file is whole.
    async fn verify_last(&self, partial: &Arc<PartialFile>) -> Result<bool, ReadError> {
        if !partial.is_complete() {
            for waiter in self.download.last_flights(partial, self.range) {
                // Those who wait for these chunks hear of their trouble.
                let _ = waiter.written.wait().await;
            }
            if !partial.is_complete() {
                return Ok(false);
            }
        }
        if self.download.verify(partial).await? {
            self.download.start_noting_chunks();
        }
        Ok(self.download.file.is_whole())
    }

    fn assemble(
        &self,
        pieces: &[&Piece],
        in_memory: &HashMap<u64, Bytes>,
    ) -> Result<Option<Bytes>, ReadError> {
        let range = self.range;
        let len = (range.end - range.start) as usize;
        let local = |e: std::io::Error| self.download.file.origin.local(e);
        if let [piece] = pieces
            && let Some(bytes) = in_memory.get(&piece.offset)
        {
            return Ok(Some(slice(bytes, &(range.start - piece.offset..range.end - piece.offset))));
        }
        if let Some(partial) = self.partial
            && pieces.iter().all(|p| !in_memory.contains_key(&p.offset))
        {
            let chunks: Vec<(u64, u32)> = pieces.iter().map(|p| (p.offset, p.len())).collect();
            return partial.read(&chunks, range.start, len).map_err(local);
        }
        let mut out = BytesMut::with_capacity(len);
        for piece in pieces {
            let part = piece.offset.max(range.start)..piece.end().min(range.end);
            if let Some(bytes) = in_memory.get(&piece.offset) {
                out.extend_from_slice(&slice(bytes, &(part.start - piece.offset..part.end - piece.offset)));
                continue;
            }
            let Some(partial) = self.partial else { return Ok(None) };
            let part_len = (part.end - part.start) as usize;
            match partial.read(&[(piece.offset, piece.len())], part.start, part_len).map_err(local)? {
                Some(bytes) => out.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
        Ok((out.len() == len).then(|| out.freeze()))
    }
}

fn overlaps(piece: &Piece, range: &Range<u64>) -> bool {
    piece.offset < range.end && piece.end() > range.start
}

/// Returns the part of `bytes` that `range` asks for, as far as there is one.
pub(super) fn slice(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let len = bytes.len() as u64;
    let end = range.end.min(len);
    bytes.slice(range.start.min(end) as usize..end as usize)
}
