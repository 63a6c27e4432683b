//! Filling a partly fetched file: what its journal claims, what other cached files hold, and the rest from the
//! store; and proving it when all is there.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::chunks::Piece;
use super::coalesce::REQUEST_BYTES;
use super::content::{ChunkLanding, FileContent, Loose};
use super::error::ReadError;
use super::fetch::Urgency;
use super::single_flight::{Departure, flight};
use crate::format::codec::Codec;
use crate::format::id::ChunkId;
use crate::repo::cache::{Cache, ChunkState, Finish, Pages, PartialFile};

/// Chunks located at once when a whole file is gone through, in file bytes.
const WALK_BYTES: u64 = 256 << 20;

/// Fewer bytes than this go through the page cache: their reader may not be a stream.
const MIN_UNREAD_BYTES: u64 = 1 << 20;

/// The right to fetch some chunks of a file; gives it back when dropped.
struct ChunkClaim {
    content: Arc<FileContent>,
    offsets: Vec<u64>,
    fetched: Departure<Loose>,
    written: Departure<Result<bool, ReadError>>,
}

impl ChunkClaim {
    fn new(content: &Arc<FileContent>) -> (Self, ChunkLanding) {
        let ((fetched, on_fetched), (written, on_written)) = (flight(), flight());
        let claim = Self { content: content.clone(), offsets: vec![], fetched, written };
        (claim, ChunkLanding { fetched: on_fetched, written: on_written })
    }
}

impl Drop for ChunkClaim {
    fn drop(&mut self) {
        // Out of the map before the waiters of an abandoned flight hear of it.
        let mut flights = self.content.flights.lock();
        self.offsets.iter().for_each(|offset| drop(flights.remove(offset)));
    }
}

impl FileContent {
    /// Begins to fetch these chunks, as far as they are not there and nobody does; gives what to wait for.
    pub(super) fn request(
        self: &Arc<Self>,
        partial: Option<&Arc<PartialFile>>,
        pieces: &[Piece],
        urgency: Urgency,
    ) -> Vec<(u64, ChunkLanding)> {
        let mut landings = vec![];
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
                if let Some((_, landing)) = flights.get(&piece.offset) {
                    landings.push((piece.offset, landing.clone()));
                    continue;
                }
                let stored = u64::from(piece.chunk.place.stored_len);
                batch_bytes = batch_bytes.saturating_add(stored);
                let landing = match current.clone().filter(|_| batch_bytes <= REQUEST_BYTES) {
                    Some(landing) => landing,
                    None => {
                        batch_bytes = stored;
                        let (claim, landing) = ChunkClaim::new(self);
                        batches.push((claim, vec![]));
                        current.insert(landing).clone()
                    }
                };
                if let Some((claim, members)) = batches.last_mut() {
                    claim.offsets.push(piece.offset);
                    members.push(piece.clone());
                }
                flights.insert(piece.offset, (piece.len(), landing.clone()));
                landings.push((piece.offset, landing));
            }
        }
        for (claim, members) in batches {
            let (content, partial) = (self.clone(), partial.cloned());
            self.fetcher.spawn(async move {
                content.fill(partial.as_ref(), members, urgency, claim).await;
                if let Some(partial) = partial.filter(|p| p.is_complete())
                    // A failure shows at the next read or materialisation.
                    && let Ok(true) = content.prove_once(&partial).await
                {
                    content.note_chunks().await;
                }
            });
        }
        landings
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
                let (cache, target) = (self.fetcher.cache.clone(), partial.clone());
                self.fetcher.blocking(move || take_local(&cache, &target, pieces)).await
            }
        };
        let chunks: Vec<_> = missing.iter().map(|p| p.chunk.clone()).collect();
        let fetched = self.fetcher.fetch_all(&self.origin, &chunks, urgency).await;
        let (mut good, mut failed) = (vec![], None);
        for (result, piece) in fetched.chunks.iter().zip(&missing) {
            match result {
                Ok(bytes) => good.push((piece.offset, bytes.clone())),
                Err(error) => failed = Some(error.clone()),
            }
        }
        good.sort_unstable_by_key(|(offset, _)| *offset);
        let pages = match urgency == Urgency::Ahead && self.keep_unread(&good, &missing) {
            true => Pages::Pass,
            false => Pages::Keep,
        };
        let loose = failed.clone().map_or_else(|| Ok(Arc::new(good.iter().cloned().collect())), Err);
        claim.fetched.land(loose);
        let Some(target) = partial.cloned() else { return };
        let content = self.clone();
        let written = self
            .fetcher
            .blocking(move || {
                let written = target.write(&good, pages);
                content.hash_ahead(&target, &good);
                written
            })
            .await;
        let written = written.inspect_err(|error| {
            tracing::warn!(file = %self.origin, %error, "chunks were not kept in the cache");
        });
        claim.written.land(failed.map_or(Ok(written.is_ok()), Err));
    }

    /// Lets chunks wait for their reader in memory, if they are many enough and there is room. `pieces` are those that
    /// were fetched with them.
    fn keep_unread(&self, chunks: &[(u64, Bytes)], pieces: &[Piece]) -> bool {
        if chunks.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>() < MIN_UNREAD_BYTES {
            return false;
        }
        // One that is stored as it is keeps all that came with it.
        let is_raw = |piece: &&Piece| piece.chunk.place.codec == Codec::Raw;
        let decoded: u64 = pieces.iter().filter(|p| !is_raw(p)).map(|p| u64::from(p.len())).sum();
        let came: u64 = pieces.iter().map(|p| u64::from(p.chunk.place.stored_len)).sum();
        let bytes = decoded + if pieces.iter().any(|p| is_raw(&p)) { came } else { 0 };
        let Some((serial, room)) = self.fetcher.room_for_unread(bytes) else { return false };
        self.unread().keep(chunks, serial, room);
        true
    }

    /// Hashes the file's beginning on, beginning with these chunks if it has come to them. Blocks.
    fn hash_ahead(&self, partial: &PartialFile, fetched: &[(u64, Bytes)]) {
        let hashed =
            partial.hash_ahead(|offset| match fetched.binary_search_by_key(&offset, |(at, _)| *at) {
                Ok(i) => Some(fetched[i].1.clone()),
                Err(_) => self.unread().chunk(offset).cloned(),
            });
        if let Some(hashed) = hashed {
            self.unread().note_hashed(hashed);
        }
    }

    /// Fetches chunks into memory only.
    pub(super) async fn fetch_loose(
        self: &Arc<Self>,
        pieces: &[Piece],
        urgency: Urgency,
    ) -> Result<HashMap<u64, Bytes>, ReadError> {
        let chunks: Vec<_> = pieces.iter().map(|p| p.chunk.clone()).collect();
        let fetched = self.fetcher.fetch_all(&self.origin, &chunks, urgency).await;
        fetched.chunks.into_iter().zip(pieces).map(|(bytes, piece)| Ok((piece.offset, bytes?))).collect()
    }

    /// Proves the file by its own hash, if all is there, and makes it whole; true if it is then. For one caller at a
    /// time.
    pub(super) async fn prove(self: &Arc<Self>, partial: &Arc<PartialFile>) -> Result<bool, ReadError> {
        let target = partial.clone();
        match self.fetcher.blocking(move || target.finish()).await {
            Ok(Finish::Whole) => {
                self.unread().note_hashed(self.body.size);
                Ok(self.take_whole().await)
            }
            Ok(Finish::Incomplete) => Ok(false),
            Ok(Finish::Mismatch) => self.audit(partial).await.map(|()| false),
            Err(error) => Err(self.origin.local(&error)),
        }
    }

    /// Finds whether the local disk or the version is to blame for a wrong hash of the whole.
    async fn audit(self: &Arc<Self>, partial: &Arc<PartialFile>) -> Result<(), ReadError> {
        let mut at = 0;
        while at < self.body.size {
            let range = at..at.saturating_add(WALK_BYTES).min(self.body.size);
            at = range.end;
            let pieces = self.map.locate(&self.fetcher, &self.origin, range).await?;
            let target = partial.clone();
            let all_right = self
                .fetcher
                .blocking(move || {
                    pieces
                        .iter()
                        .all(|p| target.verify(p.offset, p.len(), &p.chunk.id) == ChunkState::Present)
                })
                .await;
            if !all_right {
                tracing::warn!(file = %self.origin, "a partly fetched file is damaged and is begun anew");
                return partial.reset().map_err(|e| self.origin.local(&e));
            }
        }
        let error = self.origin.contradiction(format!(
            "its chunks are as committed, but the whole has not the hash {}",
            self.body.hash
        ));
        Err(self.condemn(error))
    }

    /// Tells the cache where the chunks of the file lie that just became whole.
    pub(super) async fn note_chunks(self: &Arc<Self>) {
        let mut at = 0;
        while at < self.body.size {
            let range = at..at.saturating_add(WALK_BYTES).min(self.body.size);
            at = range.end;
            let Ok(pieces) = self.map.locate(&self.fetcher, &self.origin, range.clone()).await else {
                return;
            };
            if range.start == 0 && range.end == self.body.size && pieces.len() < 2 {
                return;
            }
            let is_stored = |p: &&Piece| p.chunk.place.codec != Codec::Zero && p.offset >= range.start;
            let rows: Vec<_> =
                pieces.iter().filter(is_stored).map(|p| (p.chunk.id, p.offset, p.len())).collect();
            let (cache, hash) = (self.fetcher.cache.clone(), self.body.hash);
            self.fetcher.blocking(move || cache.note_chunks(&hash, &rows)).await;
        }
    }
}

/// Takes what is on this disk into the partly fetched file; gives what is not. Blocks.
fn take_local(cache: &Cache, partial: &PartialFile, pieces: Vec<Piece>) -> Vec<Piece> {
    let mut missing = vec![];
    for piece in pieces {
        let (offset, len, id) = (piece.offset, piece.len(), &piece.chunk.id);
        let is_there = match partial.chunk(offset, len) {
            ChunkState::Present => true,
            ChunkState::Claimed => partial.verify(offset, len, id) == ChunkState::Present,
            ChunkState::Absent => false,
        };
        // Zeros are as good as their hash; what lies about it is fetched, and refused there.
        let is_hole = || piece.chunk.place.codec == Codec::Zero && zeros_have(id, len);
        if !(is_there || is_hole() && partial.write_zeros(&[(offset, len)]).is_ok()) {
            missing.push(piece);
        }
    }
    let ids: Vec<ChunkId> = missing.iter().map(|p| p.chunk.id).collect();
    let places = cache.find_chunks(&ids);
    let mut still_missing = vec![];
    for (piece, place) in missing.into_iter().zip(places) {
        let copied = place.and_then(|place| copy_of(cache, &piece, place));
        let is_written =
            copied.is_some_and(|bytes| partial.write(&[(piece.offset, bytes)], Pages::Keep).is_ok());
        if !is_written {
            still_missing.push(piece);
        }
    }
    still_missing
}

fn zeros_have(id: &ChunkId, len: u32) -> bool {
    ChunkId::of(&vec![0; len as usize]) == *id
}

/// The chunk's bytes from another file in the cache, proved.
fn copy_of(cache: &Cache, piece: &Piece, place: crate::repo::cache::ChunkPlace) -> Option<Bytes> {
    if place.len != piece.len() {
        return None;
    }
    let whole = cache.open_proved(&place.file)?;
    let mut bytes = vec![0; piece.len() as usize];
    whole.read_exact_at(&mut bytes, place.offset).ok()?;
    (ChunkId::of(&bytes) == piece.chunk.id).then(|| bytes.into())
}
