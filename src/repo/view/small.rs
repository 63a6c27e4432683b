//! Small files: fetched whole, and with them those that follow in the tree and lie beside them in the pack.
//!
//! Packs hold chunks in path order, so one range request brings many small files. How many, and how many more are
//! fetched ahead, depends on whether the tree is being walked (`walk.rs`).

use parking_lot::MutexGuard;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};

use super::ahead::Ahead;
use super::chunks::ChunkMap;
use super::coalesce::GAP_BYTES;
use super::content::{ContentKey, FileContent, SMALL_FILE_BYTES, content_key};
use super::cursor::TreeCursor;
use super::error::{Origin, ReadError};
use super::fetch::{Fetcher, Urgency};
use super::single_flight::{Departure, Landing, flight};
use super::version::VersionView;
use super::walk::{WalkId, Walks};
use crate::format::codec::Codec;
use crate::format::entry::{ChunkRef, EntryBody, FileBody, FileBytes};
use crate::format::id::{FileHash, PackId};
use crate::repo::cache::Cache;

/// Entries looked at for one fetch: those of about eight leaf blocks.
const MAX_LOOKED_AT: usize = 4096;
/// Rounds of fetching and finding it gone again before a read gives up on the cache.
const MAX_ROUNDS: usize = 3;

/// How the fetch of a small file ended.
#[derive(Debug, Clone)]
pub(super) enum SmallFetch {
    /// It is in the cache.
    Cached,
    /// The cache could not take it.
    Loose(Bytes),
    Failed(ReadError),
}

pub(super) type SmallLanding = Landing<SmallFetch>;

/// One small file to fetch, and the right to; given back when dropped.
struct Wanted {
    fetcher: Arc<Fetcher>,
    key: ContentKey,
    origin: Origin,
    hash: FileHash,
    size: u64,
    chunks: Vec<ChunkRef>,
    departure: Option<Departure<SmallFetch>>,
}

impl Wanted {
    /// Claims a file; none if it is being fetched already.
    fn claim(
        fetcher: &Arc<Fetcher>,
        body: &FileBody,
        origin: Origin,
    ) -> Result<(Self, SmallLanding), SmallLanding> {
        let key = content_key(body);
        let mut flights = fetcher.small_flights.lock();
        if let Some(landing) = flights.get(&key) {
            return Err(landing.clone());
        }
        let (departure, landing) = flight();
        flights.insert(key, landing.clone());
        let (hash, size) = (body.hash, body.size);
        let departure = Some(departure);
        let wanted = Self { fetcher: fetcher.clone(), key, origin, hash, size, chunks: vec![], departure };
        Ok((wanted, landing))
    }

    fn land(mut self, outcome: SmallFetch) {
        let departure = self.departure.take();
        // Out of the map first: who comes now looks into the cache.
        drop(self);
        if let Some(departure) = departure {
            departure.land(outcome);
        }
    }

    /// Puts the file together, proves it and puts it into the cache. Blocks.
    fn store(&self, cache: &Cache, parts: &[Result<Bytes, ReadError>]) -> SmallFetch {
        let mut whole = BytesMut::with_capacity(self.size as usize);
        for part in parts {
            match part {
                Ok(bytes) => whole.extend_from_slice(bytes),
                Err(error) => return SmallFetch::Failed(error.clone()),
            }
        }
        let whole = whole.freeze();
        if whole.len() as u64 != self.size || FileHash::of(&whole) != self.hash {
            let problem =
                format!("its chunks are as committed, but the whole has not the hash {}", self.hash);
            let error = self.origin.contradiction(problem);
            self.fetcher.condemn(self.key, error.clone());
            return SmallFetch::Failed(error);
        }
        match cache.put_file(&self.hash, &whole) {
            Ok(()) => SmallFetch::Cached,
            Err(error) => {
                tracing::warn!(file = %self.origin, %error, "a file was not kept in the cache");
                SmallFetch::Loose(whole)
            }
        }
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.fetcher.small_flights.lock().remove(&self.key);
    }
}

impl FileContent {
    /// Gets the whole of a small file into the cache; gives the bytes if the cache does not keep them.
    pub(super) async fn fetch_small(self: &Arc<Self>) -> Result<Option<Bytes>, ReadError> {
        for _ in 0..MAX_ROUNDS {
            if self.take_whole().await {
                return Ok(None);
            }
            if let Some(error) = self.fetcher.condemned(&self.key) {
                return Err(error);
            }
            if self.fetcher.is_stopped() {
                return Err(ReadError::Stopped);
            }
            match self.request_small().wait().await {
                Some(SmallFetch::Loose(bytes)) => {
                    self.keep_in_memory(bytes.clone());
                    return Ok(Some(bytes));
                }
                Some(SmallFetch::Failed(error)) => return Err(error),
                Some(SmallFetch::Cached) | None => {}
            }
        }
        let pieces = self.map.locate(&self.fetcher, &self.origin, 0..self.body.size).await?;
        let mut loose = self.fetch_loose(&pieces, Urgency::Now).await?;
        let parts: Vec<Bytes> = pieces.iter().filter_map(|p| loose.remove(&p.offset)).collect();
        let whole = Bytes::from(parts.concat());
        if FileHash::of(&whole) != self.body.hash {
            let problem = "the whole has another hash than its chunks should give";
            return Err(self.condemn(self.origin.contradiction(problem)));
        }
        Ok(Some(whole))
    }

    fn request_small(self: &Arc<Self>) -> SmallLanding {
        let (first, landing) = match Wanted::claim(&self.fetcher, &self.body, self.origin.clone()) {
            Ok(claimed) => claimed,
            Err(landing) => return landing,
        };
        let content = self.clone();
        self.fetcher.spawn(async move {
            let mut first = first;
            // It may have landed between the look into the cache and the claim.
            if content.fetcher.cache.has(&content.body.hash) {
                return first.land(SmallFetch::Cached);
            }
            let pieces = content.map.locate(&content.fetcher, &content.origin, 0..content.body.size).await;
            match pieces {
                Ok(pieces) => first.chunks = pieces.into_iter().map(|p| p.chunk).collect(),
                Err(error) => return first.land(SmallFetch::Failed(error)),
            }
            let home = content.home.lock().clone();
            let mut batch = SmallFileBatch::new(first);
            if let Some((view, ordinal)) =
                home.and_then(|(view, ordinal)| Some((Weak::upgrade(&view)?, ordinal)))
            {
                batch.add_walk(&view, ordinal).await;
            }
            batch.fetch(&content.fetcher, Urgency::Now).await;
        });
        landing
    }
}

impl VersionView {
    fn walks(&self) -> MutexGuard<'_, Walks> {
        self.walks.lock()
    }

    /// Notes that a small file was opened, and fetches ahead if that continues a walk. Cost: no request that is
    /// waited for.
    pub(super) fn note_small(self: &Arc<Self>, ordinal: u64) {
        let extended = self.walks().opened(ordinal);
        if let Some(walk) = extended {
            self.fetch_ahead_of(walk);
        }
    }

    /// Fetches batches ahead of a walk until enough are in hand or under way.
    fn fetch_ahead_of(self: &Arc<Self>, walk: WalkId) {
        let view = self.clone();
        self.fetcher.spawn(async move {
            loop {
                let Some((from, window)) = view.walks().next_batch(walk) else { return };
                let mut batch = SmallFileBatch { files: vec![], stored: None };
                let end = batch.add_from(&view, from, window).await;
                view.walks().extended(walk, from, end);
                let fetcher = view.fetcher.clone();
                view.fetcher.spawn(async move { batch.fetch(&fetcher, Urgency::Ahead).await });
            }
        });
    }
}

/// Small files that lie together.
struct SmallFileBatch {
    files: Vec<Wanted>,
    /// Where their stored bytes lie.
    stored: Option<(PackId, u64, u64)>,
}

impl SmallFileBatch {
    fn new(first: Wanted) -> Self {
        // It is fetched wherever it lies; the others must follow its last chunk.
        let last = first.chunks.iter().rev().map(|c| c.place).find(|p| p.codec != Codec::Zero);
        let stored = last.map(|p| (p.pack, p.offset, p.offset + u64::from(p.stored_len)));
        Self { files: vec![first], stored }
    }

    /// Adds what follows `ordinal`, and begins to fetch more if the version is being walked through.
    async fn add_walk(&mut self, view: &Arc<VersionView>, ordinal: u64) {
        let (walk, window) = view.walks().missed(ordinal);
        let end = self.add_from(view, ordinal + 1, window).await;
        let mut walks = view.walks();
        walks.fetched(walk, end);
        if walks.begin_extending(walk) {
            drop(walks);
            view.fetch_ahead_of(walk);
        }
    }

    /// Adds small files from an ordinal on while they lie together; gives the ordinal of the first that does not.
    async fn add_from(&mut self, view: &Arc<VersionView>, from: u64, window: u64) -> u64 {
        // Trouble here is met again by whoever opens those files.
        let Ok(mut cursor) = TreeCursor::at_ordinal(view, from, Ahead::Few).await else { return from };
        for _ in 0..MAX_LOOKED_AT {
            let here = cursor.ordinal();
            // Behind the last entry there is none to ask for.
            let Ok(Some(_)) = cursor.path(view) else { return here };
            let Ok(entry) = cursor.entry(view) else { return here };
            if let EntryBody::File(body) = &entry.body
                && let FileBytes::Chunks { .. } = &body.content
                && !view.fetcher.cache.has(&body.hash)
            {
                if body.size > SMALL_FILE_BYTES || body.size == 0 {
                    return here;
                }
                let origin = view.origin.file(&entry.path);
                let located = ChunkMap::new(body).locate(&view.fetcher, &origin, 0..body.size).await;
                let Ok(pieces) = located else { return here };
                if let Ok((mut wanted, _)) = Wanted::claim(&view.fetcher, body, origin) {
                    wanted.chunks = pieces.into_iter().map(|p| p.chunk).collect();
                    if !self.extend(&wanted.chunks, window) {
                        return here;
                    }
                    self.files.push(wanted);
                }
            }
            if cursor.advance(view).await.is_err() {
                return here + 1;
            }
        }
        cursor.ordinal()
    }

    /// Takes chunks into the stretch of the pack that is fetched, if they lie near and the stretch stays within
    /// the window.
    fn extend(&mut self, chunks: &[ChunkRef], window: u64) -> bool {
        let mut stored = self.stored;
        for place in chunks.iter().map(|c| c.place).filter(|p| p.codec != Codec::Zero) {
            let end = place.offset + u64::from(place.stored_len);
            stored = match stored {
                None => Some((place.pack, place.offset, end)),
                Some((pack, start, last))
                    if pack == place.pack
                        && place.offset >= start
                        && place.offset <= last.saturating_add(GAP_BYTES)
                        && end.max(last) - start <= window =>
                {
                    Some((pack, start, last.max(end)))
                }
                Some(_) => return false,
            };
        }
        self.stored = stored;
        true
    }

    /// Fetches all, the first file to be ready first.
    async fn fetch(self, fetcher: &Arc<Fetcher>, urgency: Urgency) {
        let Some(first) = self.files.first() else { return };
        let chunks: Vec<ChunkRef> = self.files.iter().flat_map(|f| f.chunks.iter().cloned()).collect();
        let fetched = fetcher.fetch_all(&first.origin, &chunks, urgency).await;
        let cache = fetcher.cache.clone();
        fetcher
            .blocking(move || {
                let mut rest = &fetched.chunks[..];
                for (i, file) in self.files.into_iter().enumerate() {
                    let (parts, others) = rest.split_at(file.chunks.len());
                    rest = others;
                    match file.store(&cache, parts) {
                        // Who waits for a neighbour fetches it alone and hears of it by its own name.
                        SmallFetch::Failed(error) if i > 0 => {
                            tracing::debug!(file = %file.origin, %error, "a neighbour was left out");
                        }
                        outcome => file.land(outcome),
                    }
                }
            })
            .await;
    }
}
