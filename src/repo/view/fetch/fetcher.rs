//! Gets proved chunks out of packs: range requests in parallel, within the budget.

use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures::future::join_all;
use tokio::task::JoinSet;

use super::budget::{Budget, MemoryShare, ReadLimits, Urgency};
use super::coalesce::{RangeRequest, group};
use super::decode::decode_chunk;
use super::relocated::{MAX_MOVES, Relocations};
use super::tasks::Tasks;
use crate::format::entry::ChunkRef;
use crate::format::id::{ChunkId, PackId};
use crate::repo::view::error::{ChunkError, ReadError};
use crate::repo::view::origin::Origin;
use crate::store::{Key, Store, StoreError};

/// Receives each chunk that the store lost or damaged, and the pack that it was expected in.
pub type TellDamage = Box<dyn Fn(&ChunkId, &PackId) + Send + Sync>;

/// The way to the store for all reads of one context.
pub(crate) struct Fetcher {
    store: Arc<Store>,
    limits: ReadLimits,
    budget: Budget,
    tasks: Tasks,
    relocations: Relocations,
    damage: OnceLock<TellDamage>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetcher")
            .field("store", &self.store)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Chunks that came, with the memory that they take. A chunk that is kept keeps all that came with it: copy out what
/// stays.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// In the order in which they were asked for.
    pub chunks: Vec<Result<Bytes, ReadError>>,
    pub memory: MemoryShare,
}

impl Fetcher {
    pub fn new(store: Arc<Store>, limits: ReadLimits) -> Self {
        Self {
            relocations: Relocations::new(store.clone()),
            store,
            limits,
            budget: Budget::new(&limits),
            tasks: Tasks::default(),
            damage: OnceLock::new(),
        }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Where chunks of rewritten packs are.
    pub fn relocations(&self) -> &Relocations {
        &self.relocations
    }

    /// Reports damage to this function, unless one is set already.
    pub fn set_damage(&self, told: TellDamage) {
        drop(self.damage.set(told));
    }

    /// The farthest that one reader may have fetched ahead of it, in bytes.
    pub fn window_bytes(&self) -> u64 {
        self.limits.memory_bytes / 4
    }

    /// Takes memory of the budget if it is free now.
    pub fn try_reserve(&self, bytes: u64) -> Option<MemoryShare> {
        self.budget.try_reserve(bytes)
    }

    /// Runs a task until it ends or the context is shut down.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    pub fn is_stopped(&self) -> bool {
        self.tasks.is_stopped()
    }

    /// Stops all tasks; their waiters fail with [`ReadError::Stopped`].
    pub fn stop(&self) -> JoinSet<()> {
        self.tasks.stop()
    }

    /// Stops all tasks and waits for their end, and for the blocking work under way.
    pub async fn shutdown(&self) {
        let mut tasks = self.tasks.stop();
        while tasks.join_next().await.is_some() {}
        self.tasks.wait_for_workers().await;
    }

    /// Runs blocking work on the runtime's pool and returns its result.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.tasks.blocking(work).await
    }

    /// Starts blocking work that only a shutdown waits for.
    pub fn start_blocking(&self, work: impl FnOnce() + Send + 'static) {
        self.tasks.start_blocking(work);
    }

    /// Fetches and proves the members of one group, in its order.
    pub async fn fetch(
        &self,
        origin: &Origin,
        group: &RangeRequest,
        chunks: &[ChunkRef],
        urgency: Urgency,
    ) -> Fetched {
        let memory = self.budget.reserve(cost(group, chunks), urgency).await;
        let chunks = self.fetch_group(origin, group, chunks, urgency).await;
        Fetched { chunks, memory }
    }

    /// Fetches and proves any chunks (none of zeros), in their order. Takes all of the memory at once: a caller that
    /// held some and waited for more could wait for another that does the same.
    pub async fn fetch_all(&self, origin: &Origin, chunks: &[ChunkRef], urgency: Urgency) -> Fetched {
        let places: Vec<_> = chunks.iter().map(|c| c.place).collect();
        let groups = group(&places);
        let memory = self.budget.reserve(groups.iter().map(|g| cost(g, chunks)).sum(), urgency).await;
        let fetched = join_all(groups.iter().map(|g| self.fetch_group(origin, g, chunks, urgency))).await;
        let mut out: Vec<Result<Bytes, ReadError>> = vec![Err(ReadError::Stopped); chunks.len()];
        for (group, results) in groups.iter().zip(fetched) {
            for (i, result) in group.members.iter().zip(results) {
                out[*i] = result;
            }
        }
        Fetched { chunks: out, memory }
    }

    /// Fetches a group for which the caller has reserved memory, and reports what the store lost.
    async fn fetch_group(
        &self,
        origin: &Origin,
        group: &RangeRequest,
        chunks: &[ChunkRef],
        urgency: Urgency,
    ) -> Vec<Result<Bytes, ReadError>> {
        let members: Vec<ChunkRef> = group.members.iter().map(|i| chunks[*i].clone()).collect();
        let came = match self.fetch_placed(origin, group, members.clone(), urgency).await {
            Ok(came) => came,
            Err(missing) => vec![Err(origin.missing(&missing)); members.len()],
        };
        let came = self.fetch_moved(origin, &members, came, urgency).await;
        for (chunk, came) in members.iter().zip(&came) {
            let Err(error) = came else { continue };
            if let ReadError::Missing { object, .. } = error {
                tracing::error!(version = %origin, object, "an object is missing from the store");
            }
            if error.is_lost()
                && let Some(tell) = self.damage.get()
            {
                tell(&chunk.id, &chunk.place.pack);
            }
        }
        came
    }

    /// Fetches the members of a group where their references place them.
    ///
    /// # Errors
    /// Only that the store does not have the pack (any more).
    async fn fetch_placed(
        &self,
        origin: &Origin,
        group: &RangeRequest,
        members: Vec<ChunkRef>,
        urgency: Urgency,
    ) -> Result<Vec<Result<Bytes, ReadError>>, StoreError> {
        let key = Key::Pack(group.pack);
        let decoded: Vec<_> = match self.range(&key, group.range.clone(), urgency).await {
            Ok(bytes) => {
                let (start, chunks) = (group.range.start, members.clone());
                let decode = move || chunks.iter().map(|chunk| decode_chunk(chunk, &bytes, start)).collect();
                self.blocking(decode).await
            }
            // A pack that was cut short still has its beginning.
            Err(StoreError::Corrupt { .. }) if members.len() > 1 => {
                members.iter().map(|_| Err(ChunkError::CutShort)).collect()
            }
            Err(missing @ StoreError::NotFound { .. }) => return Err(missing),
            Err(error) => return Ok(vec![Err(origin.failed(error)); members.len()]),
        };
        let mut out = Vec::with_capacity(members.len());
        for (result, chunk) in decoded.into_iter().zip(&members) {
            out.push(match result {
                Ok(bytes) => Ok(bytes),
                Err(error) => self.fetch_again(origin, &key, chunk, &error, urgency).await,
            });
        }
        Ok(out)
    }

    /// Fetches one chunk by itself after its bytes were wrong.
    async fn fetch_again(
        &self,
        origin: &Origin,
        key: &Key,
        chunk: &ChunkRef,
        error: &ChunkError,
        urgency: Urgency,
    ) -> Result<Bytes, ReadError> {
        tracing::warn!(version = %origin, chunk = %chunk.id, pack = %chunk.place.pack, %error, "a chunk is fetched again");
        let start = chunk.place.offset;
        let range = start..start + u64::from(chunk.place.stored_len);
        match self.range(key, range, urgency).await {
            Ok(bytes) => decode_chunk(chunk, &bytes, start).map_err(|e| origin.wrong_chunk(chunk, e)),
            Err(StoreError::Corrupt { source, .. }) => Err(origin.wrong_chunk(chunk, source)),
            Err(error) => Err(origin.failed(error)),
        }
    }

    /// Fetches chunks that were lost where they were looked for (`came` has each one's result) from where they were
    /// moved to, or stored again. One that is nowhere has the error of the last place. Cost: nothing if all came; else
    /// a request for each table, and those for the chunks.
    async fn fetch_moved(
        &self,
        origin: &Origin,
        chunks: &[ChunkRef],
        mut came: Vec<Result<Bytes, ReadError>>,
        urgency: Urgency,
    ) -> Vec<Result<Bytes, ReadError>> {
        let is_lost = |came: &Result<Bytes, ReadError>| came.as_ref().is_err_and(ReadError::is_lost);
        let mut lost: Vec<(usize, ChunkRef)> =
            chunks.iter().cloned().enumerate().filter(|(i, _)| is_lost(&came[*i])).collect();
        for _ in 0..MAX_MOVES {
            let mut moved = vec![];
            for (i, chunk) in lost.drain(..) {
                match self.relocations.moves(&chunk.place.pack).await {
                    Ok(table) => {
                        if let Some(place) = table.and_then(|table| table.find(&chunk.id)) {
                            moved.push((i, ChunkRef { place, ..chunk }));
                        }
                    }
                    // Without the table nobody knows whether it is lost.
                    Err(error) => came[i] = Err(origin.failed(error)),
                }
            }
            let places: Vec<_> = moved.iter().map(|(_, chunk)| chunk.place).collect();
            for group in group(&places) {
                let members: Vec<_> = group.members.iter().map(|at| moved[*at].clone()).collect();
                let chunks = members.iter().map(|(_, chunk)| chunk.clone()).collect();
                match self.fetch_placed(origin, &group, chunks, urgency).await {
                    Ok(results) => {
                        for ((i, chunk), result) in members.into_iter().zip(results) {
                            if is_lost(&result) {
                                lost.push((i, chunk));
                            }
                            came[i] = result;
                        }
                    }
                    // Moved once more.
                    Err(_) => lost.extend(members),
                }
            }
            if lost.is_empty() {
                break;
            }
        }
        came
    }

    async fn range(&self, key: &Key, range: Range<u64>, urgency: Urgency) -> Result<Bytes, StoreError> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let _slot = self.budget.request(urgency).await;
        self.store.get_range(key, range).await
    }
}

/// The memory that a group takes: as stored and as decoded.
fn cost(group: &RangeRequest, chunks: &[ChunkRef]) -> u64 {
    let raw: u64 = group.members.iter().map(|i| u64::from(chunks[*i].raw_len)).sum();
    group.range.end - group.range.start + raw
}
