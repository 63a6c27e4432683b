//! One file's content as far as it is local, shared by all who have it open.

use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::chunks::FileChunks;
use super::condemned::{CondemnedFiles, ContentKey};
use crate::format::entry::{FileBody, FileBytes};
use crate::format::id::FileHash;
use crate::repo::cache::{Cache, Lookup, PartialFile, WholeFile};
use crate::repo::view::error::ReadError;
use crate::repo::view::fetch::{Fetcher, MemoryShare};
use crate::repo::view::manifest::BlockReader;
use crate::repo::view::origin::Origin;
use crate::repo::view::readahead::{PrefetchBudget, PrefetchBuffer};

/// Files up to this many bytes are fetched whole, with their neighbours.
pub(crate) const SMALL_FILE_BYTES: u64 = 1 << 20;

/// What all files of one context share.
#[derive(Debug)]
pub(crate) struct FileServices {
    pub fetcher: Arc<Fetcher>,
    pub cache: Arc<Cache>,
    pub blocks: Arc<BlockReader>,
    pub condemned: CondemnedFiles,
    pub prefetch: Arc<PrefetchBudget>,
}

/// Where a file's bytes are taken from.
#[derive(Debug, Clone)]
pub(crate) enum Tier {
    /// Not decided: nothing was read yet.
    Undecided,
    /// From memory.
    Memory(Bytes),
    /// From the whole file in the cache.
    Whole(Arc<WholeFile>),
    /// Chunk by chunk; without a file where the disk does not let one be made.
    Chunks(Option<Arc<PartialFile>>),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct CachedFile {
    pub services: Arc<FileServices>,
    pub origin: Origin,
    pub body: FileBody,
    pub key: ContentKey,
    pub chunks: FileChunks,
    /// What was fetched ahead and waits for its readers.
    pub prefetched: PrefetchBuffer,
    ready: OnceCell<()>,
    tier: Mutex<Tier>,
    /// Kept with bytes in memory, if they are many.
    memory: Mutex<Option<MemoryShare>>,
    condemned: OnceLock<ReadError>,
}

impl CachedFile {
    pub fn new(services: &Arc<FileServices>, key: ContentKey, body: &FileBody, origin: Origin) -> Self {
        Self {
            services: services.clone(),
            body: body.clone(),
            key,
            chunks: FileChunks::new(&services.blocks, body, &origin),
            origin,
            prefetched: PrefetchBuffer::new(&services.prefetch),
            ready: OnceCell::new(),
            tier: Mutex::new(Tier::Undecided),
            memory: Mutex::default(),
            condemned: OnceLock::new(),
        }
    }

    /// Decides where the bytes come from, as far as that is known before they are read. Once for all who open the file.
    pub async fn prepare(&self) -> Result<(), ReadError> {
        self.ready.get_or_try_init(|| self.choose_tier()).await.copied()
    }

    async fn choose_tier(&self) -> Result<(), ReadError> {
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

    pub fn tier(&self) -> Tier {
        self.tier.lock().clone()
    }

    pub fn set_tier(&self, tier: Tier) {
        *self.tier.lock() = tier;
    }

    /// Whether all bytes are local.
    pub fn is_whole(&self) -> bool {
        matches!(self.tier(), Tier::Whole(_) | Tier::Memory(_))
    }

    /// Takes the bytes from the whole file from now on, if the cache has it.
    pub async fn take_whole(&self) -> bool {
        let (hash, size, cache) = (self.body.hash, self.body.size, self.services.cache.clone());
        let found = match cache.look_up(&hash, size) {
            Lookup::Found(whole) => Some(whole),
            Lookup::Absent => None,
            Lookup::Unproved => self.services.fetcher.blocking(move || cache.prove(&hash, size)).await,
        };
        match found {
            Some(whole) => {
                self.set_tier(Tier::Whole(Arc::new(whole)));
                true
            }
            None => false,
        }
    }

    /// Takes the bytes from a partly fetched file from now on, unless something else was decided meanwhile.
    pub fn take_partial(&self) {
        let partial = self.services.cache.open_partial(&self.body.hash, self.body.size);
        let partial = partial.inspect_err(|error| {
            tracing::warn!(file = %self.origin, %error, "a file is read without the cache");
        });
        let mut tier = self.tier.lock();
        if matches!(*tier, Tier::Undecided) {
            *tier = Tier::Chunks(partial.ok());
        }
    }

    /// Keeps bytes that the cache could not take, if the memory budget has room.
    pub fn keep_in_memory(&self, bytes: Bytes) {
        if let Some(memory) = self.services.fetcher.try_reserve(bytes.len() as u64) {
            *self.memory.lock() = Some(memory);
            self.set_tier(Tier::Memory(bytes));
        }
    }

    /// # Errors
    /// Why nothing of the file is given out.
    pub fn check_condemned(&self) -> Result<(), ReadError> {
        self.condemned.get().cloned().map_or(Ok(()), Err)
    }

    /// Gives out nothing of the file from now on, to nobody. Returns the first verdict.
    pub fn condemn(&self, error: ReadError) -> ReadError {
        let error = self.condemned.get_or_init(|| error).clone();
        self.services.condemned.add(self.key, error.clone());
        error
    }

    /// The verdict on a file whose chunks are right and whose whole is not.
    pub fn wrong_whole(&self) -> ReadError {
        wrong_whole(&self.origin, &self.body.hash)
    }
}

/// Reports a file whose chunks are right and whose whole is not.
pub(super) fn wrong_whole(origin: &Origin, hash: &FileHash) -> ReadError {
    origin.contradiction(format!("its chunks are as committed, but the whole does not hash to {hash}"))
}
