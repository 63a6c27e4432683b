//! The small files of one version: which of them to fetch with one that is read, and ahead of a walk.
//!
//! Packs hold chunks in path order, so one range request brings many small files.

use parking_lot::Mutex;
use std::sync::{Arc, Weak};

use super::cached::SMALL_FILE_BYTES;
use super::chunks::FileChunks;
use super::small_batch::{SmallBatch, SmallFlights};
use crate::format::entry::{EntryBody, FileBytes};
use crate::repo::view::fetch::Urgency;
use crate::repo::view::manifest::{ManifestTree, TreeCursor};
use crate::repo::view::readahead::{Access, WalkId, Walks};

/// Entries looked at for one fetch: those of about eight leaf blocks.
const MAX_LOOKED_AT: usize = 4096;

/// See the module's text. The lock is held for look-ups in a table of a few walks.
#[derive(Debug)]
pub(crate) struct SmallFileWalks {
    tree: Arc<ManifestTree>,
    flights: Arc<SmallFlights>,
    walks: Mutex<Walks>,
}

/// A small file's place in its version, for as long as that is open.
#[derive(Debug, Clone)]
pub(crate) struct Neighbours {
    walks: Weak<SmallFileWalks>,
    ordinal: u64,
}

impl Neighbours {
    /// Adds what follows the file in its version, and starts to fetch more if the version is being walked through.
    pub(super) async fn add_to(&self, batch: &mut SmallBatch) {
        let Some(walks) = self.walks.upgrade() else { return };
        let (walk, window) = walks.walks.lock().missed(self.ordinal);
        let end = walks.add_from(batch, self.ordinal + 1, window).await;
        let is_extended = {
            let mut known = walks.walks.lock();
            known.fetched(walk, end);
            known.begin_extending(walk)
        };
        if is_extended {
            walks.fetch_ahead(walk);
        }
    }
}

impl SmallFileWalks {
    pub fn new(tree: Arc<ManifestTree>, flights: Arc<SmallFlights>) -> Arc<Self> {
        Arc::new(Self { tree, flights, walks: Mutex::default() })
    }

    /// Returns the place of the entry of this number.
    pub fn neighbours(self: &Arc<Self>, ordinal: u64) -> Neighbours {
        Neighbours { walks: Arc::downgrade(self), ordinal }
    }

    /// Notes that a small file was opened, and fetches ahead if that continues a walk. Cost: no request that is
    /// waited for.
    pub fn note_open(self: &Arc<Self>, ordinal: u64) {
        let extended = self.walks.lock().opened(ordinal);
        if let Some(walk) = extended {
            self.fetch_ahead(walk);
        }
    }

    /// Fetches batches ahead of a walk until enough are in hand or under way.
    fn fetch_ahead(self: &Arc<Self>, walk: WalkId) {
        let walks = self.clone();
        self.flights.services.fetcher.spawn(async move {
            loop {
                let Some((from, window)) = walks.walks.lock().next_batch(walk) else { return };
                let mut batch = SmallBatch::default();
                let end = walks.add_from(&mut batch, from, window).await;
                walks.walks.lock().extended(walk, from, end);
                let services = walks.flights.services.clone();
                let fetch = async move { batch.fetch(&services, Urgency::Ahead).await };
                walks.flights.services.fetcher.spawn(fetch);
            }
        });
    }

    /// Adds small files from an ordinal on while they lie together. Returns the ordinal of the first that does not.
    async fn add_from(&self, batch: &mut SmallBatch, from: u64, window: u64) -> u64 {
        let (tree, services) = (&self.tree, &self.flights.services);
        // Trouble here is met again by whoever opens those files.
        let Ok(mut cursor) = TreeCursor::at_ordinal(tree, from, Access::Lookup).await else { return from };
        for _ in 0..MAX_LOOKED_AT {
            let here = cursor.ordinal();
            // Behind the last entry there is none to ask for.
            let Ok(Some(_)) = cursor.path(tree) else { return here };
            let Ok(entry) = cursor.entry(tree) else { return here };
            if let EntryBody::File(body) = &entry.body
                && let FileBytes::Chunks { .. } = &body.content
                && !services.cache.has(&body.hash)
            {
                if body.size > SMALL_FILE_BYTES || body.size == 0 {
                    return here;
                }
                let origin = tree.origin.file(&entry.path);
                let located = FileChunks::new(&tree.blocks, body, &origin).locate(0..body.size).await;
                let Ok(pieces) = located else { return here };
                if let Ok((mut claim, _)) = self.flights.claim(body, origin) {
                    claim.chunks = pieces.into_iter().map(|p| p.chunk).collect();
                    if !batch.add(claim, window) {
                        return here;
                    }
                }
            }
            if cursor.advance(tree).await.is_err() {
                return here + 1;
            }
        }
        cursor.ordinal()
    }
}
