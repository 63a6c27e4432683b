//! Fetches the missing chunks of one file, each once however many wait for it, and puts them into the partly fetched file
//! in the cache.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::cached::{CachedFile, Tier};
use super::chunks::Piece;
use super::condemned::ContentKey;
use super::local_chunks::take_local;
use super::verify::{Verifier, note_chunks};
use super::weak_map::Listed;
use crate::format::codec::Codec;
use crate::repo::cache::{ChunkState, Pages, PartialFile};
use crate::repo::view::error::ReadError;
use crate::repo::view::fetch::{Fetcher, REQUEST_BYTES, Urgency};
use crate::repo::view::readahead::{ReadPlan, Streams};
use crate::repo::view::single_flight::{Completer, Waiter, flight};

/// How much of a file is located, and at most waited for, at once when all of it is fetched.
const STRIDE_BYTES: u64 = 32 << 20;
/// Fewer bytes than this go through the page cache: their reader may not be a stream.
const MIN_PREFETCH_BYTES: u64 = 1 << 20;

/// Proved chunks by offset, from memory.
pub(super) type FetchedChunks = Result<Arc<HashMap<u64, Bytes>>, ReadError>;

/// Chunks on their way. A reader waits until they are proved; whoever needs them on the disk, until they are written.
#[derive(Debug, Clone)]
pub(super) struct ChunkWaiter {
    /// What was fetched; the partly fetched file has the rest.
    pub fetched: Waiter<FetchedChunks>,
    /// Whether the partly fetched file has them all.
    pub written: Waiter<Result<bool, ReadError>>,
}

/// The right to fetch some chunks of a file; given back when dropped.
struct ChunkClaim {
    download: Arc<Download>,
    offsets: Vec<u64>,
    fetched: Completer<FetchedChunks>,
    written: Completer<Result<bool, ReadError>>,
}

impl ChunkClaim {
    fn new(download: &Arc<Download>) -> (Self, ChunkWaiter) {
        let ((fetched, on_fetched), (written, on_written)) = (flight(), flight());
        let claim = Self { download: download.clone(), offsets: vec![], fetched, written };
        (claim, ChunkWaiter { fetched: on_fetched, written: on_written })
    }
}

impl Drop for ChunkClaim {
    fn drop(&mut self) {
        // Out of the map before the waiters of an abandoned fetch hear of it.
        let mut flights = self.download.flights.lock();
        self.offsets.iter().for_each(|offset| drop(flights.remove(offset)));
    }
}

/// See the module's text. Shared by all who have the file open, and by the fetches under way.
#[derive(Debug)]
pub(crate) struct Download {
    pub file: CachedFile,
    /// Chunks on their way, with their lengths, by offset.
    flights: Mutex<HashMap<u64, (u32, ChunkWaiter)>>,
    streams: Mutex<Streams>,
    verifier: Verifier,
    _listed: Listed<ContentKey, Download>,
}

impl Download {
    pub fn new(file: CachedFile, listed: Listed<ContentKey, Download>) -> Self {
        Self {
            file,
            flights: Mutex::default(),
            streams: Mutex::default(),
            verifier: Verifier::default(),
            _listed: listed,
        }
    }

    fn fetcher(&self) -> &Arc<Fetcher> {
        &self.file.services.fetcher
    }

    /// Plans a read: what to fetch with it, and what to fetch ahead of it.
    pub fn plan(&self, range: &Range<u64>) -> ReadPlan {
        let limit = self.fetcher().window_bytes();
        self.streams.lock().plan(range.clone(), self.file.body.size, limit)
    }

    /// Starts to fetch what a reader will need next.
    pub fn fetch_ahead(self: &Arc<Self>, range: Range<u64>) {
        let download = self.clone();
        self.fetcher().spawn(async move {
            let Tier::Chunks(Some(partial)) = download.file.tier() else { return };
            match download.file.chunks.locate(range).await {
                Ok(pieces) => drop(download.request(Some(&partial), &pieces, Urgency::Ahead)),
                // The reader meets the same error if it gets there.
                Err(error) => tracing::debug!(%error, "reading ahead failed"),
            }
        });
    }

    /// Starts to fetch those of these chunks that are neither there nor on their way. Returns what to wait for.
    pub fn request(
        self: &Arc<Self>,
        partial: Option<&Arc<PartialFile>>,
        pieces: &[Piece],
        urgency: Urgency,
    ) -> Vec<(u64, ChunkWaiter)> {
        let mut waiters = vec![];
        let mut batches: Vec<(ChunkClaim, Vec<Piece>)> = vec![];
        {
            let mut flights = self.flights.lock();
            let mut batch_bytes = 0u64;
            let mut current = None;
            for piece in pieces {
                let is_there =
                    |p: &Arc<PartialFile>| p.chunk(piece.offset, piece.len()) == ChunkState::Present;
                if partial.is_some_and(is_there) {
                    continue;
                }
                if let Some((_, waiter)) = flights.get(&piece.offset) {
                    waiters.push((piece.offset, waiter.clone()));
                    continue;
                }
                let stored = u64::from(piece.chunk.place.stored_len);
                batch_bytes = batch_bytes.saturating_add(stored);
                let waiter = match current.clone().filter(|_| batch_bytes <= REQUEST_BYTES) {
                    Some(waiter) => waiter,
                    None => {
                        batch_bytes = stored;
                        let (claim, waiter) = ChunkClaim::new(self);
                        batches.push((claim, vec![]));
                        current.insert(waiter).clone()
                    }
                };
                if let Some((claim, members)) = batches.last_mut() {
                    claim.offsets.push(piece.offset);
                    members.push(piece.clone());
                }
                flights.insert(piece.offset, (piece.len(), waiter.clone()));
                waiters.push((piece.offset, waiter));
            }
        }
        for (claim, members) in batches {
            let (download, partial) = (self.clone(), partial.cloned());
            self.fetcher().spawn(async move {
                download.fill(partial.as_ref(), members, urgency, claim).await;
                if let Some(partial) = partial.filter(|p| p.is_complete())
                    // A failure shows at the next read or materialisation.
                    && let Ok(true) = download.verify(&partial).await
                {
                    note_chunks(&download.file).await;
                }
            });
        }
        waiters
    }

    /// Gets chunks for those who wait, and then into the partly fetched file. Their memory counts until they are
    /// there.
    async fn fill(
        self: &Arc<Self>,
        partial: Option<&Arc<PartialFile>>,
        pieces: Vec<Piece>,
        urgency: Urgency,
        claim: ChunkClaim,
    ) {
        let missing = match partial {
            None => pieces,
            Some(partial) => {
                let (cache, target) = (self.file.services.cache.clone(), partial.clone());
                self.fetcher().blocking(move || take_local(&cache, &target, pieces)).await
            }
        };
        let chunks: Vec<_> = missing.iter().map(|p| p.chunk.clone()).collect();
        let fetched = self.fetcher().fetch_all(&self.file.origin, &chunks, urgency).await;
        let (mut good, mut failed) = (vec![], None);
        for (result, piece) in fetched.chunks.iter().zip(&missing) {
            match result {
                Ok(bytes) => good.push((piece.offset, bytes.clone())),
                Err(error) => failed = Some(error.clone()),
            }
        }
        good.sort_unstable_by_key(|(offset, _)| *offset);
        let waits = urgency == Urgency::Ahead && self.keep_prefetched(&good, &missing);
        let pages = if waits { Pages::Pass } else { Pages::Keep };
        let in_memory = failed.clone().map_or_else(|| Ok(Arc::new(good.iter().cloned().collect())), Err);
        claim.fetched.complete(in_memory);
        let Some(target) = partial.cloned() else { return };
        let download = self.clone();
        let written = self
            .fetcher()
            .blocking(move || {
                let written = target.write(&good, pages);
                download.hash_ahead(&target, &good);
                written
            })
            .await;
        let written = written.inspect_err(|error| {
            tracing::warn!(file = %self.file.origin, %error, "chunks were not kept in the cache");
        });
        claim.written.complete(failed.map_or(Ok(written.is_ok()), Err));
    }

    /// Lets chunks wait for their reader in memory, if they are many enough and there is room. `pieces` are those that
    /// were fetched with them.
    fn keep_prefetched(&self, chunks: &[(u64, Bytes)], pieces: &[Piece]) -> bool {
        if chunks.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>() < MIN_PREFETCH_BYTES {
            return false;
        }
        // One that is stored as it is keeps all that came with it.
        let is_raw = |piece: &&Piece| piece.chunk.place.codec == Codec::Raw;
        let decoded: u64 = pieces.iter().filter(|p| !is_raw(p)).map(|p| u64::from(p.len())).sum();
        let came: u64 = pieces.iter().map(|p| u64::from(p.chunk.place.stored_len)).sum();
        let bytes = decoded + if pieces.iter().any(|p| is_raw(&p)) { came } else { 0 };
        self.file.prefetched.keep(chunks, bytes)
    }

    /// Hashes the file's beginning on, from these chunks where it has reached them. Blocks.
    fn hash_ahead(&self, partial: &PartialFile, fetched: &[(u64, Bytes)]) {
        let hashed =
            partial.hash_ahead(|offset| match fetched.binary_search_by_key(&offset, |(at, _)| *at) {
                Ok(i) => Some(fetched[i].1.clone()),
                Err(_) => self.file.prefetched.chunk(offset),
            });
        if let Some(hashed) = hashed {
            self.file.prefetched.note_hashed(hashed);
        }
    }

    /// Fetches every chunk that is missing, the next stride while the last is waited for.
    pub async fn fetch_all(self: &Arc<Self>, partial: &Arc<PartialFile>) -> Result<(), ReadError> {
        let (file, size) = (&self.file, self.file.body.size);
        let mut before: Vec<(u64, ChunkWaiter)> = vec![];
        let mut at = 0;
        while at < size || !before.is_empty() {
            let range = at..at.saturating_add(STRIDE_BYTES).min(size);
            at = range.end;
            let pieces = file.chunks.locate(range).await?;
            let waiters = self.request(Some(partial), &pieces, Urgency::Now);
            for (_, waiter) in std::mem::replace(&mut before, waiters) {
                match waiter.written.wait().await.transpose()? {
                    Some(false) => {
                        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
                        return Err(file.origin.local(full));
                    }
                    Some(true) => {}
                    None if self.fetcher().is_stopped() => return Err(ReadError::Stopped),
                    None => {}
                }
            }
        }
        Ok(())
    }

    /// Proves the whole, unless another caller did. Returns `true` if it became whole by this call.
    pub async fn verify(&self, partial: &Arc<PartialFile>) -> Result<bool, ReadError> {
        self.verifier.verify(&self.file, partial).await
    }

    /// Tells the cache in the background where the chunks of the file lie.
    pub fn start_noting_chunks(self: &Arc<Self>) {
        let download = self.clone();
        self.fetcher().spawn(async move { note_chunks(&download.file).await });
    }

    /// Returns what is on its way, if that is all that is missing, and this read is at the file's end or nothing else is
    /// being read.
    pub fn last_flights(&self, partial: &PartialFile, range: &Range<u64>) -> Vec<ChunkWaiter> {
        let flights = self.flights.lock();
        let is_read = |at: &u64, len: u32| *at < range.end && at.saturating_add(len.into()) > range.start;
        if range.end < self.file.body.size && !flights.iter().all(|(at, (len, _))| is_read(at, *len)) {
            return vec![];
        }
        let is_missing = |at: u64, len: u32| partial.chunk(at, len) == ChunkState::Absent;
        let coming = flights.iter().filter(|(at, (len, _))| is_missing(**at, *len));
        let coming: u64 = coming.map(|(_, (len, _))| u64::from(*len)).sum();
        match coming >= partial.missing_bytes() {
            true => flights.values().map(|(_, waiter)| waiter.clone()).collect(),
            false => vec![],
        }
    }
}
