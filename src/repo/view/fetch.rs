//! Getting proved chunks out of packs: range requests in parallel, within one memory budget.
//!
//! Every chunk is decoded and hashed before it leaves this file. One whose bytes are wrong is fetched once more
//! by itself. Background fetches never take the last requests and memory, so that a reader who waits is served.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;
use futures::future::join_all;
use lru::LruCache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::coalesce::{RangeRequest, group};
use super::content::{ContentKey, FileContent};
use super::error::{Origin, ReadError};
use super::relocated::RelocationTables;
use super::single_flight::Landing;
use super::small::SmallLanding;
use crate::format::codec::{self, Codec};
use crate::format::entry::ChunkRef;
use crate::format::id::{ChunkId, PackId};
use crate::format::manifest::Block;
use crate::repo::cache::Cache;
use crate::store::source::Sources;
use crate::store::{Key, Store, StoreError};

/// What a permit of the memory budget stands for.
const BUDGET_UNIT_BYTES: u64 = 64 << 10;

/// Pieces of blocking work at once; the runtime's pool holds fewer threads.
const MAX_WORKERS: u32 = 512;

/// Condemned files that are remembered; one that is forgotten is found out again when it is read.
const MAX_CONDEMNED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// How soon the result is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Somebody waits.
    Now,
    /// Somebody may ask for it.
    Ahead,
}

/// Limits of a [`super::ReadContext`].
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Bytes in flight: as stored and as decoded, until they are in the cache.
    pub memory_bytes: u64,
    /// Bytes fetched ahead that wait for their readers in memory, beside those.
    pub unread_bytes: u64,
    /// Range requests at once.
    pub requests: usize,
}

impl Default for ReadLimits {
    fn default() -> Self {
        Self { memory_bytes: 96 << 20, unread_bytes: 64 << 20, requests: 16 }
    }
}

/// What all readers of one store share.
pub(super) struct Fetcher {
    pub store: Arc<Store>,
    pub cache: Arc<Cache>,
    limits: ReadLimits,
    memory: Arc<Semaphore>,
    background_memory: Arc<Semaphore>,
    unread_memory: Arc<Semaphore>,
    unread_serial: AtomicU64,
    requests: Semaphore,
    background_requests: Semaphore,
    workers: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
    is_stopped: AtomicBool,
    /// Live files by content, so that equal ones share their fetches.
    pub(super) files: Mutex<HashMap<ContentKey, Weak<FileContent>>>,
    /// Files whose chunks are as committed and whose whole is not: no reader is given anything of them, whichever way
    /// it comes. A key names the chunks, so the verdict never changes.
    condemned: Mutex<LruCache<ContentKey, ReadError>>,
    pub(super) block_flights: Mutex<HashMap<ChunkId, Landing<Result<Block, ReadError>>>>,
    pub(super) small_flights: Mutex<HashMap<ContentKey, SmallLanding>>,
    pub(super) tables: Mutex<RelocationTables>,
    /// Where references may be read from; nothing until it is set.
    sources: OnceLock<Arc<Sources>>,
    /// Who is told of chunks that the store does not have as they should be.
    damage: OnceLock<TellDamage>,
}

/// Hears of a chunk that is not to be had from this pack.
pub type TellDamage = Box<dyn Fn(&ChunkId, &PackId) + Send + Sync>;

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher")
            .field("store", &self.store)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Chunks as they came, with the memory they take. One that is kept keeps all that came with it: what is to stay is
/// copied out.
#[derive(Debug)]
pub(super) struct Fetched {
    /// In the order of the group's members.
    pub chunks: Vec<Result<Bytes, ReadError>>,
    pub memory: MemoryShare,
}

/// A part of the memory budget.
#[derive(Debug)]
pub(super) struct MemoryShare {
    _all: OwnedSemaphorePermit,
    _background: Option<OwnedSemaphorePermit>,
}

impl Fetcher {
    pub fn new(store: Arc<Store>, cache: Arc<Cache>, limits: ReadLimits) -> Self {
        let all = units(limits.memory_bytes).max(1) as usize;
        let requests = limits.requests.max(1);
        Self {
            store,
            cache,
            limits,
            memory: Arc::new(Semaphore::new(all)),
            background_memory: Arc::new(Semaphore::new((all / 4 * 3).max(1))),
            unread_memory: Arc::new(Semaphore::new(units(limits.unread_bytes) as usize)),
            unread_serial: AtomicU64::new(0),
            requests: Semaphore::new(requests),
            background_requests: Semaphore::new((requests / 4 * 3).max(1)),
            workers: Arc::new(Semaphore::new(MAX_WORKERS as usize)),
            tasks: Mutex::new(JoinSet::new()),
            is_stopped: AtomicBool::new(false),
            files: Mutex::default(),
            condemned: Mutex::new(LruCache::new(MAX_CONDEMNED)),
            block_flights: Mutex::default(),
            small_flights: Mutex::default(),
            tables: Mutex::default(),
            sources: OnceLock::new(),
            damage: OnceLock::new(),
        }
    }

    /// Why nothing of a file is given out; none if nothing is known against it.
    pub fn condemned(&self, key: &ContentKey) -> Option<ReadError> {
        self.condemned.lock().get(key).cloned()
    }

    /// Gives out nothing of a file from now on.
    pub fn condemn(&self, key: ContentKey, error: ReadError) {
        self.condemned.lock().put(key, error);
    }

    /// Where references may be read from.
    pub fn sources(&self) -> Arc<Sources> {
        self.sources.get_or_init(Arc::default).clone()
    }

    /// Says it, before the first is read.
    pub fn set_sources(&self, sources: Arc<Sources>) {
        if self.sources.set(sources).is_err() {
            tracing::error!("the sources of references were set twice; the first stay");
        }
    }

    /// Says who is told of damage, unless somebody is already.
    pub fn set_damage(&self, told: TellDamage) {
        drop(self.damage.set(told));
    }

    /// How far ahead of one reader to fetch.
    pub fn window_bytes(&self) -> u64 {
        self.limits.memory_bytes / 4
    }

    /// Runs a task until it ends or the context is shut down.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        // Checked under the lock, so that no task is added after they were aborted.
        if !self.is_stopped() {
            tasks.spawn(task);
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Stops all tasks; waiters fail with [`ReadError::Stopped`].
    pub fn stop(&self) -> JoinSet<()> {
        let mut tasks = self.tasks.lock();
        self.is_stopped.store(true, Ordering::Release);
        tasks.abort_all();
        std::mem::take(&mut tasks)
    }

    /// Waits for blocking work that is still under way, which cannot be aborted.
    pub async fn wait_for_workers(&self) {
        drop(self.workers.acquire_many(MAX_WORKERS).await);
    }

    /// Runs blocking work on the pool for it.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = self.workers.clone().acquire_owned().await.expect("the semaphores are never closed");
        let counted = move || {
            let result = work();
            drop(permit);
            result
        };
        match tokio::task::spawn_blocking(counted).await {
            Ok(value) => value,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            // The runtime is going down, and this task with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Begins blocking work on the same pool that nobody waits for but a shutdown.
    pub fn begin_blocking(&self, work: impl FnOnce() + Send + 'static) {
        let permit = self.workers.clone().try_acquire_owned().ok();
        tokio::task::spawn_blocking(move || {
            work();
            drop(permit);
        });
    }

    async fn reserve(&self, bytes: u64, urgency: Urgency) -> MemoryShare {
        const OPEN: &str = "the semaphores are never closed";
        let background = match urgency {
            Urgency::Now => None,
            Urgency::Ahead => {
                let most = (units(self.limits.memory_bytes) / 4 * 3).max(1);
                let wanted = units(bytes).min(most);
                Some(self.background_memory.clone().acquire_many_owned(wanted).await.expect(OPEN))
            }
        };
        let most = units(self.limits.memory_bytes).max(1);
        // One oversized group may pass alone rather than never.
        let all = self.memory.clone().acquire_many_owned(units(bytes).min(most)).await.expect(OPEN);
        MemoryShare { _all: all, _background: background }
    }

    async fn range(
        &self,
        key: &Key,
        range: std::ops::Range<u64>,
        urgency: Urgency,
    ) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let _background = match urgency {
            Urgency::Now => None,
            Urgency::Ahead => self.background_requests.acquire().await.ok(),
        };
        let _request = self.requests.acquire().await.expect("the semaphore is never closed");
        self.store.get_range(key, range).await
    }

    /// A part of the budget if it is free now.
    pub fn try_reserve(&self, bytes: u64) -> Option<MemoryShare> {
        let all = self.memory.clone().try_acquire_many_owned(units(bytes)).ok()?;
        Some(MemoryShare { _all: all, _background: None })
    }

    /// Room for chunks that are to wait in memory, and their place in the order of all that do. Without room, what was
    /// read makes some; else what has waited for longest goes, whosever it is, so that what nobody comes for does not
    /// stay.
    pub fn room_for_unread(&self, bytes: u64) -> Option<(u64, OwnedSemaphorePermit)> {
        let room = || self.unread_memory.clone().try_acquire_many_owned(units(bytes)).ok();
        let place = |room| (self.unread_serial.fetch_add(1, Ordering::Relaxed), room);
        if let Some(room) = room() {
            return Some(place(room));
        }
        let live: Vec<Arc<FileContent>> = self.files.lock().values().filter_map(Weak::upgrade).collect();
        let dropped = live.iter().filter(|content| content.unread().drop_read()).count();
        if dropped > 0
            && let Some(room) = room()
        {
            return Some(place(room));
        }
        let oldest = live.iter().filter_map(|content| Some((content.unread().oldest()?, content)));
        if let Some((_, content)) = oldest.min_by_key(|(serial, _)| *serial) {
            content.unread().drop_oldest();
        }
        None
    }

    /// Bytes of that room that are free.
    #[cfg(test)]
    pub fn free_for_unread(&self) -> u64 {
        self.unread_memory.available_permits() as u64 * BUDGET_UNIT_BYTES
    }

    /// Fetches and proves the chunks of one group. Cost: one range request; one more for each wrong chunk.
    pub async fn fetch(
        &self,
        origin: &Origin,
        group: &RangeRequest,
        chunks: &[ChunkRef],
        urgency: Urgency,
    ) -> Fetched {
        let memory = self.reserve(cost(group, chunks), urgency).await;
        let chunks = self.fetch_unbudgeted(origin, group, chunks, urgency).await;
        Fetched { chunks, memory }
    }

    /// Fetches and proves any chunks and gives them in their order. All of the memory is taken at once: who
    /// held some and waited for more could wait for another who does the same.
    pub async fn fetch_all(&self, origin: &Origin, chunks: &[ChunkRef], urgency: Urgency) -> Fetched {
        let places: Vec<_> = chunks.iter().map(|c| c.place).collect();
        let groups = group(&places);
        let memory = self.reserve(groups.iter().map(|g| cost(g, chunks)).sum(), urgency).await;
        let fetched =
            join_all(groups.iter().map(|g| self.fetch_unbudgeted(origin, g, chunks, urgency))).await;
        let mut out: Vec<Result<Bytes, ReadError>> = vec![Err(ReadError::Stopped); chunks.len()];
        for (group, results) in groups.iter().zip(fetched) {
            for (i, result) in group.members.iter().zip(results) {
                out[*i] = result;
            }
        }
        Fetched { chunks: out, memory }
    }

    async fn fetch_unbudgeted(
        &self,
        origin: &Origin,
        group: &RangeRequest,
        chunks: &[ChunkRef],
        urgency: Urgency,
    ) -> Vec<Result<Bytes, ReadError>> {
        let members: Vec<ChunkRef> = group.members.iter().map(|i| chunks[*i].clone()).collect();
        let came = match self.fetch_range(origin, group, members.clone(), urgency).await {
            Ok(came) => came,
            Err(missing) => vec![Err(origin.missing(&missing)); members.len()],
        };
        let came = self.fetch_moved(origin, &members, came, urgency).await;
        for (chunk, error) in
            members.iter().zip(&came).filter_map(|(chunk, came)| Some((chunk, came.as_ref().err()?)))
        {
            if let ReadError::Missing { object, .. } = error {
                tracing::error!(version = %origin, object, "an object is missing from the store");
            }
            if is_lost(error)
                && let Some(told) = self.damage.get()
            {
                told(&chunk.id, &chunk.place.pack);
            }
        }
        came
    }

    /// Gets the members of a group where they are said to lie.
    ///
    /// # Errors
    /// Only that the pack is not in the store (any more).
    pub(super) async fn fetch_range(
        &self,
        origin: &Origin,
        group: &RangeRequest,
        members: Vec<ChunkRef>,
        urgency: Urgency,
    ) -> Result<Vec<Result<Bytes, ReadError>>, StoreError> {
        let key = Key::Pack(group.pack);
        match self.range(&key, group.range.clone(), urgency).await {
            Ok(bytes) => {
                let start = group.range.start;
                let (decoded, members) = self
                    .blocking(move || {
                        let decoded: Vec<_> =
                            members.iter().map(|chunk| decode_in(chunk, &bytes, start)).collect();
                        (decoded, members)
                    })
                    .await;
                let mut out = Vec::with_capacity(members.len());
                for (result, chunk) in decoded.into_iter().zip(&members) {
                    out.push(match result {
                        Ok(bytes) => Ok(bytes),
                        Err(problem) => self.fetch_again(origin, &key, chunk, &problem, urgency).await,
                    });
                }
                Ok(out)
            }
            // A pack that was cut short still has its beginning.
            Err(StoreError::Corrupt { .. }) if members.len() > 1 => {
                let mut out = Vec::with_capacity(members.len());
                for chunk in &members {
                    out.push(self.fetch_again(origin, &key, chunk, "the pack is cut short", urgency).await);
                }
                Ok(out)
            }
            Err(missing @ StoreError::NotFound { .. }) => Err(missing),
            Err(error) => {
                let error = origin.failed(error);
                Ok(vec![Err(error); members.len()])
            }
        }
    }

    async fn fetch_again(
        &self,
        origin: &Origin,
        key: &Key,
        chunk: &ChunkRef,
        problem: &str,
        urgency: Urgency,
    ) -> Result<Bytes, ReadError> {
        tracing::warn!(version = %origin, chunk = %chunk.id, pack = %chunk.place.pack, problem, "fetched again");
        let start = chunk.place.offset;
        let range = start..start + u64::from(chunk.place.stored_len);
        match self.range(key, range, urgency).await {
            Ok(bytes) => decode_in(chunk, &bytes, start).map_err(|p| origin.wrong_chunk(chunk, &p)),
            Err(StoreError::Corrupt { source, .. }) => Err(origin.wrong_chunk(chunk, &source.to_string())),
            Err(error) => Err(origin.failed(error)),
        }
    }
}

/// The memory that a group takes: as stored and as decoded.
fn cost(group: &RangeRequest, chunks: &[ChunkRef]) -> u64 {
    let raw: u64 = group.members.iter().map(|i| u64::from(chunks[*i].raw_len)).sum();
    group.range.end - group.range.start + raw
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(BUDGET_UNIT_BYTES)).unwrap_or(u32::MAX >> 4)
}

/// Whether the store does not have a chunk where it was sought, or has other bytes.
pub(super) fn is_lost(error: &ReadError) -> bool {
    matches!(error, ReadError::Missing { .. } | ReadError::Corrupt { .. })
}

/// Decodes and proves a chunk from a piece of its pack that begins at `start`.
fn decode_in(chunk: &ChunkRef, piece: &Bytes, start: u64) -> Result<Bytes, String> {
    let from = chunk.place.offset.checked_sub(start).and_then(|at| usize::try_from(at).ok());
    let end = from.and_then(|from| from.checked_add(chunk.place.stored_len as usize));
    let (Some(from), Some(end)) = (from, end.filter(|end| *end <= piece.len())) else {
        return Err("it lies outside of what came".into());
    };
    let stored = piece.slice(from..end);
    let raw = match chunk.place.codec {
        Codec::Raw if stored.len() == chunk.raw_len as usize => stored,
        codec => codec::decode(codec, &stored, chunk.raw_len).map_err(|e| e.to_string())?.into_owned().into(),
    };
    if ChunkId::of(&raw) != chunk.id {
        return Err("its bytes have another hash".into());
    }
    Ok(raw)
}
