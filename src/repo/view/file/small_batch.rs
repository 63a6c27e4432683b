//! Fetches small files whole, several that lie together in a pack with one request, each once however many wait for it.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::cached::{FileServices, wrong_whole};
use super::condemned::ContentKey;
use crate::format::codec::Codec;
use crate::format::entry::{ChunkRef, FileBody};
use crate::format::id::{FileHash, PackId};
use crate::repo::view::error::ReadError;
use crate::repo::view::fetch::{GAP_BYTES, Urgency};
use crate::repo::view::origin::Origin;
use crate::repo::view::single_flight::{Completer, Waiter, flight};

/// How the fetch of a small file ended.
#[derive(Debug, Clone)]
pub(super) enum SmallFetch {
    /// It is in the cache.
    Cached,
    /// The cache could not take it.
    InMemory(Bytes),
    Failed(ReadError),
}

/// The fetches of small files under way.
#[derive(Debug)]
pub(crate) struct SmallFlights {
    pub services: Arc<FileServices>,
    flights: Mutex<HashMap<ContentKey, Waiter<SmallFetch>>>,
}

impl SmallFlights {
    pub fn new(services: Arc<FileServices>) -> Self {
        Self { services, flights: Mutex::default() }
    }

    /// Claims the right to fetch a file.
    ///
    /// # Errors
    /// It is being fetched already: what to wait for.
    pub(super) fn claim(
        self: &Arc<Self>,
        body: &FileBody,
        origin: Origin,
    ) -> Result<(SmallClaim, Waiter<SmallFetch>), Waiter<SmallFetch>> {
        let key = ContentKey::of(body);
        let mut flights = self.flights.lock();
        if let Some(waiter) = flights.get(&key) {
            return Err(waiter.clone());
        }
        let (completer, waiter) = flight();
        flights.insert(key, waiter.clone());
        let (hash, size) = (body.hash, body.size);
        let (flights, completer) = (self.clone(), Some(completer));
        Ok((SmallClaim { flights, key, origin, hash, size, chunks: vec![], completer }, waiter))
    }
}

/// One small file to fetch, and the right to; given back when dropped.
pub(super) struct SmallClaim {
    flights: Arc<SmallFlights>,
    key: ContentKey,
    origin: Origin,
    hash: FileHash,
    size: u64,
    pub chunks: Vec<ChunkRef>,
    completer: Option<Completer<SmallFetch>>,
}

impl SmallClaim {
    pub fn complete(mut self, outcome: SmallFetch) {
        let completer = self.completer.take();
        // Out of the map first: whoever comes now looks into the cache.
        drop(self);
        if let Some(completer) = completer {
            completer.complete(outcome);
        }
    }

    /// Puts the file together, proves it and puts it into the cache. Blocks.
    fn store(&self, parts: &[Result<Bytes, ReadError>]) -> SmallFetch {
        let services = &self.flights.services;
        let mut whole = BytesMut::with_capacity(self.size as usize);
        for part in parts {
            match part {
                Ok(bytes) => whole.extend_from_slice(bytes),
                Err(error) => return SmallFetch::Failed(error.clone()),
            }
        }
        let whole = whole.freeze();
        if whole.len() as u64 != self.size || FileHash::of(&whole) != self.hash {
            let error = wrong_whole(&self.origin, &self.hash);
            services.condemned.add(self.key, error.clone());
            return SmallFetch::Failed(error);
        }
        match services.cache.put_file(&self.hash, &whole) {
            Ok(()) => SmallFetch::Cached,
            Err(error) => {
                tracing::warn!(file = %self.origin, %error, "a file was not kept in the cache");
                SmallFetch::InMemory(whole)
            }
        }
    }
}

impl Drop for SmallClaim {
    fn drop(&mut self) {
        self.flights.flights.lock().remove(&self.key);
    }
}

/// A stretch of a pack.
#[derive(Debug, Clone, Copy)]
struct PackRange {
    pack: PackId,
    start: u64,
    end: u64,
}

/// Small files that lie together.
#[derive(Default)]
pub(super) struct SmallBatch {
    files: Vec<SmallClaim>,
    /// Where their stored bytes lie.
    stored: Option<PackRange>,
}

impl SmallBatch {
    /// Starts a batch with a file that somebody waits for. It is fetched wherever it lies; the others must follow its
    /// last chunk.
    pub fn new(first: SmallClaim) -> Self {
        let last = first.chunks.iter().rev().map(|c| c.place).find(|p| p.codec != Codec::Zero);
        let stored = last.map(|place| {
            let end = place.offset + u64::from(place.stored_len);
            PackRange { pack: place.pack, start: place.offset, end }
        });
        Self { files: vec![first], stored }
    }

    /// Adds a file if it lies near the others and all stay within `window` stored bytes.
    pub fn add(&mut self, file: SmallClaim, window: u64) -> bool {
        let mut stored = self.stored;
        for place in file.chunks.iter().map(|c| c.place).filter(|p| p.codec != Codec::Zero) {
            let (start, end) = (place.offset, place.offset + u64::from(place.stored_len));
            stored = match stored {
                None => Some(PackRange { pack: place.pack, start, end }),
                Some(range)
                    if range.pack == place.pack
                        && start >= range.start
                        && start <= range.end.saturating_add(GAP_BYTES)
                        && end.max(range.end) - range.start <= window =>
                {
                    Some(PackRange { end: range.end.max(end), ..range })
                }
                Some(_) => return false,
            };
        }
        self.stored = stored;
        self.files.push(file);
        true
    }

    /// Fetches all, the first file to be ready first.
    pub async fn fetch(self, services: &FileServices, urgency: Urgency) {
        let Some(first) = self.files.first() else { return };
        let chunks: Vec<ChunkRef> = self.files.iter().flat_map(|f| f.chunks.iter().cloned()).collect();
        let fetched = services.fetcher.fetch_all(&first.origin, &chunks, urgency).await;
        let store = move || {
            let mut rest = &fetched.chunks[..];
            for (i, file) in self.files.into_iter().enumerate() {
                let (parts, others) = rest.split_at(file.chunks.len());
                rest = others;
                match file.store(parts) {
                    // Whoever waits for a neighbour fetches it alone, and gets an error with its own name.
                    SmallFetch::Failed(error) if i > 0 => {
                        tracing::debug!(file = %file.origin, %error, "a neighbour was left out");
                    }
                    outcome => file.complete(outcome),
                }
            }
        };
        services.fetcher.blocking(store).await;
    }
}
