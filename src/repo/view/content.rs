//! A file's bytes: from memory, from the whole file in the cache, or chunk by chunk from a partly fetched one.
//!
//! Small files are fetched whole (`small.rs`). In larger ones a read fetches the chunks it needs, with more as
//! the reader goes on in sequence (`readahead.rs`); fetched chunks go into the partly fetched file, and when all
//! are there the file is proved by its own hash and becomes whole.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, OnceLock, Weak};

use bytes::{Bytes, BytesMut};
use tokio::sync::OnceCell;

use super::chunks::{ChunkMap, Piece};
use super::error::{Origin, ReadError};
use super::fetch::{Fetcher, MemoryShare, Urgency};
use super::prefetch_buffer::Unread;
use super::readahead::Streams;
use super::single_flight::Landing;
use super::version::VersionView;
use crate::format::entry::{FileBody, FileBytes};
use crate::format::id::FileHash;
use crate::repo::cache::{ChunkState, Lookup, PartialFile, WholeFile};

/// Files up to this many bytes are fetched whole, with their neighbours.
pub(super) const SMALL_FILE_BYTES: u64 = 1 << 20;
/// Rounds of fetching and finding it gone again (evicted, damaged) before a read gives up on the cache.
const MAX_ROUNDS: usize = 4;
/// How much of a large file is located, and at most waited for, at once when all of it is fetched.
const STRIDE_BYTES: u64 = 32 << 20;

/// Files with the same key have the same bytes, cut the same way.
pub(super) type ContentKey = (FileHash, u64, [u8; 32]);

/// Where a file's bytes are taken from.
#[derive(Debug, Clone)]
pub(super) enum Tier {
    /// Not decided: nothing was read yet.
    Unread,
    /// From memory.
    Memory(Bytes),
    /// From the whole file in the cache.
    Whole(Arc<WholeFile>),
    /// Chunk by chunk; without a file where the disk does not let one be made.
    Chunks(Option<Arc<PartialFile>>),
}

/// Proved chunks by offset: those that have to come from memory.
pub(super) type Loose = Result<Arc<HashMap<u64, Bytes>>, ReadError>;

/// Chunks on their way: a reader waits until they are proved, who needs them on the disk until they were written.
#[derive(Debug, Clone)]
pub(super) struct ChunkLanding {
    /// What was fetched; the file has the rest.
    pub fetched: Landing<Loose>,
    /// Whether the partly fetched file has them all.
    pub written: Landing<Result<bool, ReadError>>,
}

/// One file's content, shared by all who have it open. Keep it for as long as a [`File`] from it is in use: it is
/// what keeps the cache from removing the file underneath.
#[derive(Debug)]
pub struct FileContent {
    pub(super) fetcher: Arc<Fetcher>,
    pub(super) origin: Origin,
    pub(super) body: FileBody,
    pub(super) map: ChunkMap,
    pub(super) key: ContentKey,
    ready: OnceCell<()>,
    pub(super) home: Mutex<Option<(Weak<VersionView>, u64)>>,
    tier: Mutex<Tier>,
    /// Kept with bytes in memory, if they are many.
    memory: Mutex<Option<MemoryShare>>,
    /// Chunks on their way, with their lengths, by offset.
    pub(super) flights: Mutex<HashMap<u64, (u32, ChunkLanding)>>,
    streams: Mutex<Streams>,
    unread: Mutex<Unread>,
    condemned: OnceLock<ReadError>,
    /// Held by the one who proves the whole.
    proving: tokio::sync::Mutex<()>,
}

impl FileContent {
    pub(super) async fn open(
        fetcher: &Arc<Fetcher>,
        body: &FileBody,
        origin: Origin,
    ) -> Result<Arc<Self>, ReadError> {
        let key = content_key(body);
        if let Some(error) = fetcher.condemned(&key) {
            return Err(error);
        }
        let content = {
            let mut files = fetcher.files.lock();
            match files.get(&key).and_then(Weak::upgrade) {
                Some(content) => content,
                None => {
                    let content = Arc::new(Self {
                        fetcher: fetcher.clone(),
                        origin,
                        body: body.clone(),
                        map: ChunkMap::new(body),
                        key,
                        ready: OnceCell::new(),
                        home: Mutex::default(),
                        tier: Mutex::new(Tier::Unread),
                        memory: Mutex::default(),
                        flights: Mutex::default(),
                        streams: Mutex::default(),
                        unread: Mutex::default(),
                        condemned: OnceLock::new(),
                        proving: tokio::sync::Mutex::default(),
                    });
                    files.insert(key, Arc::downgrade(&content));
                    content
                }
            }
        };
        content.ready.get_or_try_init(|| content.prepare()).await?;
        Ok(content)
    }

    async fn prepare(&self) -> Result<(), ReadError> {
        if let FileBytes::Inline(bytes) = &self.body.content {
            if FileHash::of(bytes) != self.body.hash {
                return Err(self.origin.contradiction("the bytes in its manifest have another hash"));
            }
            self.set_tier(Tier::Memory(Bytes::copy_from_slice(bytes)));
        } else if self.body.size == 0 {
            if FileHash::of(b"") != self.body.hash {
                return Err(self.origin.contradiction("it is empty but has another hash"));
            }
            self.set_tier(Tier::Memory(Bytes::new()));
        } else if self.body.size > SMALL_FILE_BYTES {
            self.take_whole().await;
        }
        // A small one is looked for when it is read: the kernel may have all of it.
        Ok(())
    }

    pub(super) fn set_home(&self, view: &Arc<VersionView>, ordinal: u64) {
        *self.home.lock() = Some((Arc::downgrade(view), ordinal));
    }

    /// What waits in memory for its readers. Held for look-ups and copies of some pages only.
    pub(super) fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock()
    }

    pub(super) fn tier(&self) -> Tier {
        self.tier.lock().clone()
    }

    pub(super) fn set_tier(&self, tier: Tier) {
        *self.tier.lock() = tier;
    }

    /// Keeps bytes that the cache could not take, if the memory budget has room.
    pub(super) fn keep_in_memory(&self, bytes: Bytes) {
        if let Some(memory) = self.fetcher.try_reserve(bytes.len() as u64) {
            *self.memory.lock() = Some(memory);
            self.set_tier(Tier::Memory(bytes));
        }
    }

    /// Changes to the whole file if the cache has it.
    pub(super) async fn take_whole(&self) -> bool {
        let (hash, size, cache) = (self.body.hash, self.body.size, self.fetcher.cache.clone());
        let found = match cache.look_up(&hash, size) {
            Lookup::Found(whole) => Some(whole),
            Lookup::Absent => None,
            Lookup::Unproved => self.fetcher.blocking(move || cache.prove(&hash, size)).await,
        };
        match found {
            Some(whole) => {
                self.set_tier(Tier::Whole(Arc::new(whole)));
                true
            }
            None => false,
        }
    }

    /// The length in bytes.
    pub fn size(&self) -> u64 {
        self.body.size
    }

    /// The hash of the whole.
    pub fn hash(&self) -> FileHash {
        self.body.hash
    }

    /// Whether all bytes are local.
    pub fn is_whole(&self) -> bool {
        matches!(self.tier(), Tier::Whole(_) | Tier::Memory(_))
    }

    /// The whole, proved file, opened for reading only; none while it is not whole, or lives in the manifest. Cost: a
    /// look into the cache.
    pub async fn whole(&self) -> Option<File> {
        if matches!(self.tier(), Tier::Unread) {
            self.take_whole().await;
        }
        match self.tier() {
            Tier::Whole(whole) => whole.open_to_keep(),
            _ => None,
        }
    }

    /// Bytes from `offset` on: `len` of them, fewer only at the file's end. Cost: none for what is local; else a
    /// range request for each 4 MiB or so of what is not.
    pub async fn read(self: &Arc<Self>, offset: u64, len: usize) -> Result<Bytes, ReadError> {
        let start = offset.min(self.body.size);
        let range = start..start.saturating_add(len as u64).min(self.body.size);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        for _ in 0..MAX_ROUNDS {
            if let Some(error) = self.condemned.get() {
                return Err(error.clone());
            }
            match self.tier() {
                Tier::Memory(bytes) => return Ok(slice(&bytes, &range)),
                Tier::Whole(whole) => {
                    // A reader behind what was fetched for it finds it here, and else on the disk only.
                    if let Some(bytes) = self.unread().read(&range) {
                        return Ok(bytes);
                    }
                    let mut out = vec![0; (range.end - range.start) as usize];
                    let read = whole.read_exact_at(&mut out, range.start);
                    return read.map(|()| out.into()).map_err(|e| self.origin.local(&e));
                }
                Tier::Unread if self.body.size <= SMALL_FILE_BYTES => {
                    if let Some(bytes) = self.fetch_small().await? {
                        return Ok(slice(&bytes, &range));
                    }
                }
                Tier::Unread => self.begin_chunks(),
                Tier::Chunks(partial) => {
                    if let Some(bytes) = self.read_chunks(partial.as_ref(), &range).await? {
                        return Ok(bytes);
                    }
                }
            }
            if self.fetcher.is_stopped() && !self.is_whole() {
                return Err(ReadError::Stopped);
            }
        }
        // What was fetched is dropped faster than it is read: do without the cache.
        self.read_past_cache(&range).await
    }

    /// Decides for a partly fetched file.
    pub(super) fn begin_chunks(&self) {
        let partial = self.fetcher.cache.open_partial(&self.body.hash, self.body.size);
        let partial = partial.inspect_err(|error| {
            tracing::warn!(file = %self.origin, %error, "a file is read without the cache");
        });
        let mut tier = self.tier.lock();
        if matches!(*tier, Tier::Unread) {
            *tier = Tier::Chunks(partial.ok());
        }
    }

    async fn read_chunks(
        self: &Arc<Self>,
        partial: Option<&Arc<PartialFile>>,
        range: &Range<u64>,
    ) -> Result<Option<Bytes>, ReadError> {
        let plan = {
            let window = if partial.is_some() { self.fetcher.window_bytes() } else { 0 };
            let limit = window.min(super::readahead::MAX_WINDOW);
            self.streams.lock().plan(range.clone(), self.body.size, limit)
        };
        let now = if partial.is_some() { plan.now } else { range.clone() };
        let pieces = self.map.locate(&self.fetcher, &self.origin, now).await?;
        let landings = self.request(partial, &pieces, Urgency::Now);
        if partial.is_some() && !plan.ahead.is_empty() {
            self.fetch_ahead(plan.ahead);
        }
        let mut loose = HashMap::new();
        for (offset, landing) in landings {
            let is_wanted = pieces.iter().any(|p| p.offset == offset && overlaps(p, range));
            if is_wanted {
                match landing.fetched.wait().await {
                    Some(result) => loose.extend(result?.iter().map(|(at, bytes)| (*at, bytes.clone()))),
                    // Abandoned; the next round fetches it.
                    None => return Ok(None),
                }
            }
        }
        let wanted: Vec<&Piece> = pieces.iter().filter(|p| overlaps(p, range)).collect();
        {
            let mut unread = self.unread();
            for piece in &wanted {
                if let Some(bytes) = unread.chunk(piece.offset) {
                    loose.entry(piece.offset).or_insert_with(|| bytes.clone());
                }
            }
            unread.note_read(range);
        }
        if let Some(partial) = partial
            && self.prove_last(partial, range).await?
        {
            // It is read as a whole.
            return Ok(None);
        }
        self.assemble(partial, &wanted, &loose, range)
    }

    /// Waits for the proof of the whole if nothing of the file is missing, or nothing but what is on its way: who reads
    /// a file to its end, or the last of what was missing, is not given that before all of it is known to be what was
    /// committed. True if the file is whole now.
    async fn prove_last(
        self: &Arc<Self>,
        partial: &Arc<PartialFile>,
        range: &Range<u64>,
    ) -> Result<bool, ReadError> {
        if !partial.is_complete() {
            for landing in self.last_flights(partial, range) {
                // Those who wait for these chunks hear of their trouble.
                let _ = landing.written.wait().await;
            }
            if !partial.is_complete() {
                return Ok(false);
            }
        }
        if self.prove_once(partial).await? {
            let content = self.clone();
            self.fetcher.spawn(async move { content.note_chunks().await });
        }
        Ok(self.is_whole())
    }

    /// What is on its way, if that is all that is missing, and this read is at the file's end or nothing else is read.
    fn last_flights(&self, partial: &PartialFile, range: &Range<u64>) -> Vec<ChunkLanding> {
        let flights = self.flights.lock();
        let is_read = |at: &u64, len: u32| *at < range.end && at.saturating_add(len.into()) > range.start;
        if range.end < self.body.size && !flights.iter().all(|(at, (len, _))| is_read(at, *len)) {
            return vec![];
        }
        let is_missing = |at: u64, len: u32| partial.chunk(at, len) == ChunkState::Absent;
        let coming = flights.iter().filter(|(at, (len, _))| is_missing(**at, *len));
        let coming: u64 = coming.map(|(_, (len, _))| u64::from(*len)).sum();
        match coming >= partial.missing_bytes() {
            true => flights.values().map(|(_, landing)| landing.clone()).collect(),
            false => vec![],
        }
    }

    /// Proves the whole, unless another does; true if it became whole by this call.
    ///
    /// # Errors
    /// It is condemned, or the local disk fails.
    pub(super) async fn prove_once(self: &Arc<Self>, partial: &Arc<PartialFile>) -> Result<bool, ReadError> {
        let _turn = self.proving.lock().await;
        match self.condemned.get() {
            Some(error) => Err(error.clone()),
            None if self.is_whole() => Ok(false),
            None => self.prove(partial).await,
        }
    }

    /// Gives out nothing of the file from now on, to nobody.
    pub(super) fn condemn(&self, error: ReadError) -> ReadError {
        let error = self.condemned.get_or_init(|| error).clone();
        self.fetcher.condemn(self.key, error.clone());
        error
    }

    fn assemble(
        &self,
        partial: Option<&Arc<PartialFile>>,
        pieces: &[&Piece],
        loose: &HashMap<u64, Bytes>,
        range: &Range<u64>,
    ) -> Result<Option<Bytes>, ReadError> {
        let len = (range.end - range.start) as usize;
        let local = |e: std::io::Error| self.origin.local(&e);
        if let [piece] = pieces
            && let Some(bytes) = loose.get(&piece.offset)
        {
            return Ok(Some(slice(bytes, &(range.start - piece.offset..range.end - piece.offset))));
        }
        if let Some(partial) = partial
            && pieces.iter().all(|p| !loose.contains_key(&p.offset))
        {
            let chunks: Vec<(u64, u32)> = pieces.iter().map(|p| (p.offset, p.len())).collect();
            return partial.read(&chunks, range.start, len).map_err(local);
        }
        let mut out = BytesMut::with_capacity(len);
        for piece in pieces {
            let part = piece.offset.max(range.start)..piece.end().min(range.end);
            if let Some(bytes) = loose.get(&piece.offset) {
                out.extend_from_slice(&slice(bytes, &(part.start - piece.offset..part.end - piece.offset)));
                continue;
            }
            let Some(partial) = partial else { return Ok(None) };
            let part_len = (part.end - part.start) as usize;
            match partial.read(&[(piece.offset, piece.len())], part.start, part_len).map_err(local)? {
                Some(bytes) => out.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
        Ok((out.len() == len).then(|| out.freeze()))
    }

    fn fetch_ahead(self: &Arc<Self>, range: Range<u64>) {
        let content = self.clone();
        self.fetcher.spawn(async move {
            let Tier::Chunks(Some(partial)) = content.tier() else { return };
            let found = content.map.locate(&content.fetcher, &content.origin, range).await;
            match found {
                Ok(pieces) => drop(content.request(Some(&partial), &pieces, Urgency::Ahead)),
                // The reader meets the same error if it gets there.
                Err(error) => tracing::debug!(%error, "reading ahead failed"),
            }
        });
    }

    async fn read_past_cache(self: &Arc<Self>, range: &Range<u64>) -> Result<Bytes, ReadError> {
        let pieces = self.map.locate(&self.fetcher, &self.origin, range.clone()).await?;
        let loose = self.fetch_loose(&pieces, Urgency::Now).await?;
        let bytes = self.assemble(None, &pieces.iter().collect::<Vec<_>>(), &loose, range)?;
        bytes.ok_or(ReadError::Stopped)
    }

    /// All of the file, proved and opened for reading only; fetches what is missing. Cost: about one range
    /// request for each 4 MiB that is not local. The file may pass the cache's limit while it is made.
    pub async fn materialize(self: &Arc<Self>) -> Result<File, ReadError> {
        let local = |e: std::io::Error| self.origin.local(&e);
        for _ in 0..MAX_ROUNDS {
            if let Some(error) = self.condemned.get() {
                return Err(error.clone());
            }
            match self.tier() {
                Tier::Whole(whole) => return whole.open().map_err(local),
                Tier::Memory(bytes) => {
                    let (cache, hash) = (self.fetcher.cache.clone(), self.body.hash);
                    self.fetcher.blocking(move || cache.put_file(&hash, &bytes)).await.map_err(local)?;
                    self.take_whole().await;
                }
                Tier::Unread if self.body.size <= SMALL_FILE_BYTES => {
                    if let Some(bytes) = self.fetch_small().await? {
                        self.set_tier(Tier::Memory(bytes));
                    }
                }
                Tier::Unread | Tier::Chunks(None) => {
                    let (cache, hash, size) = (self.fetcher.cache.clone(), self.body.hash, self.body.size);
                    let partial = self
                        .fetcher
                        .blocking(move || cache.open_partial(&hash, size))
                        .await
                        .map_err(local)?;
                    self.set_tier(Tier::Chunks(Some(partial)));
                }
                Tier::Chunks(Some(partial)) => {
                    let _kept = partial.retain();
                    self.fetch_all(&partial).await?;
                    if self.prove_once(&partial).await? {
                        self.note_chunks().await;
                    }
                }
            }
        }
        let full = std::io::Error::other("it does not stay in the cache long enough to become whole");
        Err(local(full))
    }

    /// Fetches every chunk that is missing, the next stride while one waits for the last.
    async fn fetch_all(self: &Arc<Self>, partial: &Arc<PartialFile>) -> Result<(), ReadError> {
        let mut before: Vec<(u64, ChunkLanding)> = vec![];
        let mut at = 0;
        while at < self.body.size || !before.is_empty() {
            let range = at..at.saturating_add(STRIDE_BYTES).min(self.body.size);
            at = range.end;
            let pieces = self.map.locate(&self.fetcher, &self.origin, range).await?;
            let landings = self.request(Some(partial), &pieces, Urgency::Now);
            for (_, landing) in std::mem::replace(&mut before, landings) {
                match landing.written.wait().await.transpose()? {
                    Some(false) => {
                        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
                        return Err(self.origin.local(&full));
                    }
                    Some(true) => {}
                    None if self.fetcher.is_stopped() => return Err(ReadError::Stopped),
                    None => {}
                }
            }
        }
        Ok(())
    }
}

impl Drop for FileContent {
    fn drop(&mut self) {
        let mut files = self.fetcher.files.lock();
        if files.get(&self.key).is_some_and(|content| content.strong_count() == 0) {
            files.remove(&self.key);
        }
    }
}

pub(super) fn content_key(body: &FileBody) -> ContentKey {
    let mut hasher = blake3::Hasher::new();
    if let FileBytes::Chunks { level, refs } = &body.content {
        hasher.update(&[*level]);
        for chunk in refs {
            hasher.update(chunk.id.as_bytes());
        }
    }
    (body.hash, body.size, *hasher.finalize().as_bytes())
}

fn overlaps(piece: &Piece, range: &Range<u64>) -> bool {
    piece.offset < range.end && piece.end() > range.start
}

/// The part of `bytes` that `range` asks for, as far as there is one.
pub(super) fn slice(bytes: &Bytes, range: &Range<u64>) -> Bytes {
    let len = bytes.len() as u64;
    let end = range.end.min(len);
    bytes.slice(range.start.min(end) as usize..end as usize)
}
