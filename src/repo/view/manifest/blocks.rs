//! Manifest roots, manifest blocks and list blocks: from the cache, or fetched with their neighbours, each once.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use crate::format::codec::Codec;
use crate::format::entry::ChunkRef;
use crate::format::id::{ChunkId, ManifestId};
use crate::format::inline_root::InlineRoot;
use crate::format::manifest::{Block, BlockKind, Root};
use crate::format::name::ArtifactKey;
use crate::repo::cache::Cache;
use crate::repo::view::error::ReadError;
use crate::repo::view::fetch::{Fetched, Fetcher, MemoryShare, RangeRequest, Urgency, group_up_to};
use crate::repo::view::origin::Origin;
use crate::repo::view::single_flight::{Completer, Waiter, flight};
use crate::store::Key;

/// Attempts to get a block whose fetch was abandoned.
const MAX_ATTEMPTS: usize = 3;
/// Shorter than that of chunks: a walk goes on with the first while the others come.
const REQUEST_BYTES: u64 = 512 << 10;
/// Requests at once for blocks that are fetched together, so that the first are there before the last are asked for.
const REQUESTS: usize = 4;

type BlockResult = Result<Block, ReadError>;

/// The fetches of blocks under way.
#[derive(Debug, Default)]
struct BlockFlights(Mutex<HashMap<ChunkId, Waiter<BlockResult>>>);

/// The right to fetch a block; given back when dropped.
struct BlockClaim {
    flights: Arc<BlockFlights>,
    id: ChunkId,
    completer: Option<Completer<BlockResult>>,
}

impl BlockClaim {
    fn complete(mut self, result: BlockResult) {
        let completer = self.completer.take();
        // Out of the map first: whoever comes now looks into the cache.
        drop(self);
        if let Some(completer) = completer {
            completer.complete(result);
        }
    }
}

impl Drop for BlockClaim {
    fn drop(&mut self) {
        self.flights.0.lock().remove(&self.id);
    }
}

/// Reads the blocks and roots of all manifests of one store.
#[derive(Debug)]
pub(crate) struct BlockReader {
    fetcher: Arc<Fetcher>,
    cache: Arc<Cache>,
    flights: Arc<BlockFlights>,
}

impl BlockReader {
    pub fn new(fetcher: Arc<Fetcher>, cache: Arc<Cache>) -> Self {
        Self { fetcher, cache, flights: Arc::default() }
    }

    pub fn fetcher(&self) -> &Arc<Fetcher> {
        &self.fetcher
    }

    pub fn cache(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Returns a manifest's root, proved by its name. Cost: one request, none if it is in the cache.
    pub async fn root(
        &self,
        origin: &Origin,
        artifact: &ArtifactKey,
        manifest: &ManifestId,
    ) -> Result<Root, ReadError> {
        let decode = |bytes: &[u8]| Root::decode(manifest, bytes);
        if let Some(root) = self.cache.root(manifest).and_then(|bytes| decode(&bytes).ok()) {
            return Ok(root);
        }
        let (store, key) = (self.fetcher.store(), Key::Manifest(artifact.clone(), *manifest));
        let mut bytes = store.get(&key).await.map_err(|e| origin.failed(e))?;
        if ManifestId::of(&bytes) != *manifest {
            bytes = store.get(&key).await.map_err(|e| origin.failed(e))?;
        }
        let root = decode(&bytes).map_err(|e| origin.damaged(e))?;
        self.cache.put_root(manifest, &bytes);
        Ok(root)
    }

    /// Keeps a copy of a root that came by another way, unless it is wrong or here already.
    pub fn offer_root(&self, manifest: &ManifestId, copy: &InlineRoot) {
        if let Some(bytes) = copy.proved(manifest)
            && self.cache.root(manifest).is_none()
        {
            self.cache.put_root(manifest, bytes);
        }
    }

    /// Returns a block, which must be of this kind. `siblings` names those to fetch with it if it is not in the cache.
    pub async fn block(
        &self,
        origin: &Origin,
        chunk: &ChunkRef,
        kind: BlockKind,
        siblings: impl Fn() -> Vec<ChunkRef>,
    ) -> Result<Block, ReadError> {
        let mut block = None;
        for _ in 0..MAX_ATTEMPTS {
            if let Some(cached) = self.cache.block(&chunk.id) {
                block = Some(cached);
                break;
            }
            if self.fetcher.is_stopped() {
                return Err(ReadError::Stopped);
            }
            let waiter = self.request(origin, chunk, &siblings(), Urgency::Now);
            if let Some(result) = waiter.wait().await {
                block = Some(result?);
                break;
            }
        }
        let block = block.ok_or(ReadError::Stopped)?;
        if block.kind() != kind {
            let problem =
                format!("block {} is of kind {:?} where {kind:?} is expected", chunk.id, block.kind());
            return Err(origin.contradiction(problem));
        }
        Ok(block)
    }

    /// Whether a block may be in the cache, or is on its way.
    pub fn has_or_fetches(&self, id: &ChunkId) -> bool {
        self.flights.0.lock().contains_key(id) || self.cache.may_have_block(id)
    }

    /// Starts to fetch those of these blocks that are neither in the cache nor on their way.
    pub fn fetch_ahead(&self, origin: &Origin, blocks: &[ChunkRef]) {
        if let Some((first, others)) = blocks.split_first() {
            drop(self.request(origin, first, others, Urgency::Ahead));
        }
    }

    /// Starts to fetch a block, unless it is on its way, and with it those siblings that are not here either.
    fn request(
        &self,
        origin: &Origin,
        first: &ChunkRef,
        siblings: &[ChunkRef],
        urgency: Urgency,
    ) -> Waiter<BlockResult> {
        let mut claims = vec![];
        let mut wanted = vec![];
        let mut claim = |flights: &mut HashMap<_, _>, chunk: &ChunkRef| {
            let (completer, waiter) = flight();
            flights.insert(chunk.id, waiter.clone());
            let (flights, completer) = (self.flights.clone(), Some(completer));
            claims.push(BlockClaim { flights, id: chunk.id, completer });
            wanted.push(chunk.clone());
            waiter
        };
        let waiter = {
            let mut flights = self.flights.0.lock();
            if let Some(found) = flights.get(&first.id) {
                return found.clone();
            }
            let waiter = claim(&mut flights, first);
            for chunk in siblings {
                if !flights.contains_key(&chunk.id) && !self.cache.may_have_block(&chunk.id) {
                    claim(&mut flights, chunk);
                }
            }
            waiter
        };
        let (fetcher, cache, origin) = (self.fetcher.clone(), self.cache.clone(), origin.clone());
        self.fetcher.spawn(async move { fetch(&fetcher, &cache, &origin, wanted, claims, urgency).await });
        waiter
    }
}

async fn fetch(
    fetcher: &Fetcher,
    cache: &Arc<Cache>,
    origin: &Origin,
    wanted: Vec<ChunkRef>,
    claims: Vec<BlockClaim>,
    urgency: Urgency,
) {
    let mut claims: Vec<Option<BlockClaim>> = claims.into_iter().map(Some).collect();
    let places: Vec<_> = wanted.iter().map(|c| c.place).collect();
    // It may have come between the look into the cache and the claim.
    if let Some(block) = wanted.first().and_then(|first| cache.block(&first.id))
        && let Some(claim) = claims.first_mut().and_then(Option::take)
    {
        claim.complete(Ok(block));
    }
    // No block is all zeros, so every block is stored somewhere.
    for (claim, place) in claims.iter_mut().zip(&places) {
        if place.codec == Codec::Zero
            && let Some(claim) = claim.take()
        {
            let problem = format!("block {} is stored nowhere", claim.id);
            claim.complete(Err(origin.contradiction(problem)));
        }
    }
    let mut jobs: Vec<(RangeRequest, Vec<(usize, BlockClaim)>)> = vec![];
    for mut group in group_up_to(&places, REQUEST_BYTES) {
        group.members.retain(|i| claims[*i].is_some());
        let taken: Vec<_> = group.members.iter().filter_map(|i| Some((*i, claims[*i].take()?))).collect();
        if !taken.is_empty() {
            jobs.push((group, taken));
        }
    }
    let wanted = &wanted;
    stream::iter(jobs)
        .for_each_concurrent(REQUESTS, |(group, claims)| async move {
            let Fetched { chunks, memory } = fetcher.fetch(origin, &group, wanted, urgency).await;
            let parsed = chunks.into_iter().map(|bytes| {
                // A copy: the bytes that came keep all of their request in memory.
                Block::parse(Bytes::copy_from_slice(&bytes?)).map_err(|e| origin.damaged(e))
            });
            let parsed: Vec<_> = claims.into_iter().zip(parsed).collect();
            let good = parsed.iter().filter_map(|((i, _), block)| {
                let block = block.as_ref().ok()?;
                Some((wanted[*i].id, block.clone()))
            });
            keep(fetcher, cache, good.collect(), memory);
            parsed.into_iter().for_each(|((_, claim), block)| claim.complete(block));
        })
        .await;
}

/// Keeps blocks in memory, and starts to write them to the disk: only a shutdown waits for that.
fn keep(fetcher: &Fetcher, cache: &Arc<Cache>, blocks: Vec<(ChunkId, Block)>, memory: MemoryShare) {
    blocks.iter().for_each(|(id, block)| cache.remember_block(id, block));
    let cache = cache.clone();
    fetcher.start_blocking(move || {
        blocks.iter().for_each(|(id, block)| cache.put_block(id, block));
        drop(memory);
    });
}
