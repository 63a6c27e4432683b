//! Reads small files: fetched whole, and with them those that follow in the tree and lie beside them in the pack.

use std::sync::Arc;

use bytes::Bytes;

use super::cached::CachedFile;
use super::download::Download;
use super::small_batch::{SmallBatch, SmallFetch, SmallFlights};
use super::small_walk::Neighbours;
use crate::format::id::FileHash;
use crate::repo::view::error::ReadError;
use crate::repo::view::fetch::Urgency;
use crate::repo::view::single_flight::Waiter;

/// Rounds of fetching and finding it gone again before a read gives up on the cache.
const MAX_ROUNDS: usize = 3;

/// Gets the whole of a small file into the cache. Returns the bytes if the cache does not keep them.
pub(super) async fn fetch_small(
    flights: &Arc<SmallFlights>,
    download: &Arc<Download>,
    neighbours: Option<&Neighbours>,
) -> Result<Option<Bytes>, ReadError> {
    let file = &download.file;
    for _ in 0..MAX_ROUNDS {
        if file.take_whole().await {
            return Ok(None);
        }
        if let Some(error) = file.services.condemned.get(&file.key) {
            return Err(error);
        }
        if file.services.fetcher.is_stopped() {
            return Err(ReadError::Stopped);
        }
        match request(flights, download, neighbours).wait().await {
            Some(SmallFetch::InMemory(bytes)) => {
                file.keep_in_memory(bytes.clone());
                return Ok(Some(bytes));
            }
            Some(SmallFetch::Failed(error)) => return Err(error),
            Some(SmallFetch::Cached) | None => {}
        }
    }
    fetch_uncached(file).await.map(Some)
}

/// Starts to fetch a file with its neighbours, unless it is on its way.
fn request(
    flights: &Arc<SmallFlights>,
    download: &Arc<Download>,
    neighbours: Option<&Neighbours>,
) -> Waiter<SmallFetch> {
    let (mut first, waiter) = match flights.claim(&download.file.body, download.file.origin.clone()) {
        Ok(claimed) => claimed,
        Err(waiter) => return waiter,
    };
    let (download, neighbours) = (download.clone(), neighbours.cloned());
    flights.services.fetcher.spawn(async move {
        let file = &download.file;
        // It may have come between the look into the cache and the claim.
        if file.services.cache.has(&file.body.hash) {
            return first.complete(SmallFetch::Cached);
        }
        match file.chunks.locate(0..file.body.size).await {
            Ok(pieces) => first.chunks = pieces.into_iter().map(|p| p.chunk).collect(),
            Err(error) => return first.complete(SmallFetch::Failed(error)),
        }
        let mut batch = SmallBatch::new(first);
        if let Some(neighbours) = neighbours {
            neighbours.add_to(&mut batch).await;
        }
        batch.fetch(&file.services, Urgency::Now).await;
    });
    waiter
}

/// Fetches the whole into memory, and proves it there.
async fn fetch_uncached(file: &CachedFile) -> Result<Bytes, ReadError> {
    let pieces = file.chunks.locate(0..file.body.size).await?;
    let mut in_memory = file.chunks.fetch(&pieces, Urgency::Now).await?;
    let parts: Vec<Bytes> = pieces.iter().filter_map(|p| in_memory.remove(&p.offset)).collect();
    let whole = Bytes::from(parts.concat());
    if FileHash::of(&whole) == file.body.hash { Ok(whole) } else { Err(file.condemn(file.wrong_whole())) }
}
