//! Manifest and list blocks: from the cache, or fetched with their neighbours, each once.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};

use super::coalesce::{RangeRequest, group_up_to};
use super::error::{Origin, ReadError};
use super::fetch::{Fetched, Fetcher, MemoryShare, Urgency};
use super::single_flight::{Departure, Landing, flight};
use crate::format::codec::Codec;
use crate::format::entry::ChunkRef;
use crate::format::id::ChunkId;
use crate::format::manifest::{Block, BlockKind};

/// Attempts to get a block whose fetch was abandoned.
const MAX_ATTEMPTS: usize = 3;

/// Shorter than that of chunks: a walk goes on with the first while the others come.
const REQUEST_BYTES: u64 = 512 << 10;
/// Requests at once for blocks that are fetched together; so the first are there before the last are asked for.
const REQUESTS: usize = 4;

type BlockLanding = Landing<Result<Block, ReadError>>;

/// The right to fetch a block; gives it back when dropped.
struct BlockClaim {
    fetcher: Arc<Fetcher>,
    id: ChunkId,
    departure: Option<Departure<Result<Block, ReadError>>>,
}

impl BlockClaim {
    fn land(mut self, result: Result<Block, ReadError>) {
        let departure = self.departure.take();
        // Out of the map first: who comes now looks into the cache.
        drop(self);
        if let Some(departure) = departure {
            departure.land(result);
        }
    }
}

impl Drop for BlockClaim {
    fn drop(&mut self) {
        self.fetcher.block_flights.lock().remove(&self.id);
    }
}

impl Fetcher {
    /// A block of this kind. `siblings` names those that are fetched with it if it is not in the cache.
    pub async fn block(
        self: &Arc<Self>,
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
            if self.is_stopped() {
                return Err(ReadError::Stopped);
            }
            let landing = self.request_blocks(origin, chunk, &siblings(), Urgency::Now);
            if let Some(result) = landing.wait().await {
                block = Some(result?);
                break;
            }
        }
        let block = block.ok_or(ReadError::Stopped)?;
        if block.kind() != kind {
            let problem = format!("block {} is of kind {:?}, {kind:?} was expected", chunk.id, block.kind());
            return Err(origin.contradiction(problem));
        }
        Ok(block)
    }

    /// Whether a block may be here, or is on its way.
    pub(super) fn has_or_fetches(&self, id: &ChunkId) -> bool {
        self.block_flights.lock().contains_key(id) || self.cache.may_have_block(id)
    }

    /// Begins to fetch these blocks, as far as they are not there and nobody does.
    pub(super) fn request_blocks(
        self: &Arc<Self>,
        origin: &Origin,
        first: &ChunkRef,
        siblings: &[ChunkRef],
        urgency: Urgency,
    ) -> BlockLanding {
        let mut claims = vec![];
        let mut wanted = vec![];
        let mut landing = None;
        {
            let mut flights = self.block_flights.lock();
            for (i, chunk) in std::iter::once(first).chain(siblings).enumerate() {
                if let Some(found) = flights.get(&chunk.id) {
                    if i == 0 {
                        return found.clone();
                    }
                    continue;
                }
                if i > 0 && self.cache.may_have_block(&chunk.id) {
                    continue;
                }
                let (departure, found) = flight();
                flights.insert(chunk.id, found.clone());
                landing = landing.or(Some(found));
                claims.push(BlockClaim { fetcher: self.clone(), id: chunk.id, departure: Some(departure) });
                wanted.push(chunk.clone());
            }
        }
        let (fetcher, origin) = (self.clone(), origin.clone());
        self.spawn(async move { fetcher.fetch_blocks(&origin, wanted, claims, urgency).await });
        landing.expect("the first block was claimed or in flight")
    }

    /// Keeps blocks, and begins to write them to the disk: nobody waits for that but a shutdown.
    fn keep_blocks(&self, blocks: Vec<(ChunkId, Block)>, memory: MemoryShare) {
        blocks.iter().for_each(|(id, block)| self.cache.remember_block(id, block));
        let cache = self.cache.clone();
        self.begin_blocking(move || {
            blocks.iter().for_each(|(id, block)| cache.put_block(id, block));
            drop(memory);
        });
    }

    async fn fetch_blocks(
        self: Arc<Self>,
        origin: &Origin,
        wanted: Vec<ChunkRef>,
        claims: Vec<BlockClaim>,
        urgency: Urgency,
    ) {
        let mut claims: Vec<Option<BlockClaim>> = claims.into_iter().map(Some).collect();
        let places: Vec<_> = wanted.iter().map(|c| c.place).collect();
        // It may have landed between the look into the cache and the claim.
        if let Some(block) = wanted.first().and_then(|first| self.cache.block(&first.id))
            && let Some(claim) = claims.first_mut().and_then(Option::take)
        {
            claim.land(Ok(block));
        }
        // No block is all zeros, so nothing is stored nowhere.
        for (claim, place) in claims.iter_mut().zip(&places) {
            if place.codec == Codec::Zero
                && let Some(claim) = claim.take()
            {
                let problem = format!("block {} is stored nowhere", claim.id);
                claim.land(Err(origin.contradiction(problem)));
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
        let (fetcher, wanted) = (&self, &wanted);
        stream::iter(jobs)
            .for_each_concurrent(REQUESTS, |(group, claims)| async move {
                let fetched = fetcher.fetch(origin, &group, wanted, urgency).await;
                let Fetched { chunks, memory } = fetched;
                let parsed = chunks.into_iter().map(|bytes| {
                    Block::parse(Bytes::copy_from_slice(&bytes?)).map_err(|e| origin.damaged(&e))
                });
                let landed: Vec<_> = claims.into_iter().zip(parsed).collect();
                let good = landed.iter().filter_map(|((i, _), block)| {
                    let block = block.as_ref().ok()?;
                    Some((wanted[*i].id, block.clone()))
                });
                fetcher.keep_blocks(good.collect(), memory);
                landed.into_iter().for_each(|((_, claim), block)| claim.land(block));
            })
            .await;
    }
}
