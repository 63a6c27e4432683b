//! Manifest blocks and roots: parsed ones in memory, their bytes on disk.

use parking_lot::Mutex;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;

use super::item::{ContentProof, ItemKey, block_key, root_key};
use super::shared::CacheShared;
use crate::format::id::{ChunkId, ManifestId};
use crate::format::manifest::Block;
use crate::host::durable;

/// Bytes of parsed blocks kept in memory: some 400 blocks of average size, the working set of a tree walk.
const MEMORY_BYTES: usize = 32 << 20;
/// No more blocks than this are kept in memory, however small.
const MEMORY_BLOCKS: NonZeroUsize = NonZeroUsize::new(64 << 10).expect("not zero");

/// Parsed blocks, least recently used first to go.
#[derive(Debug)]
struct BlockMemory {
    blocks: LruCache<ChunkId, Block>,
    bytes: usize,
}

impl Default for BlockMemory {
    fn default() -> Self {
        Self { blocks: LruCache::new(MEMORY_BLOCKS), bytes: 0 }
    }
}

impl BlockMemory {
    fn insert(&mut self, id: ChunkId, block: Block) {
        self.bytes += block.size_bytes();
        if let Some((_, old)) = self.blocks.push(id, block) {
            self.bytes -= old.size_bytes();
        }
        while self.bytes > MEMORY_BYTES {
            let Some((_, old)) = self.blocks.pop_lru() else { break };
            self.bytes -= old.size_bytes();
        }
    }
}

/// The blocks and roots of the cache.
#[derive(Debug)]
pub(super) struct BlockFiles {
    shared: Arc<CacheShared>,
    memory: Mutex<BlockMemory>,
}

impl BlockFiles {
    pub fn new(shared: &Arc<CacheShared>) -> Self {
        Self { shared: shared.clone(), memory: Mutex::default() }
    }

    /// A manifest block, from memory or from disk (proved by its hash).
    pub fn block(&self, id: &ChunkId) -> Option<Block> {
        if let Some(block) = self.memory.lock().blocks.get(id) {
            return Some(block.clone());
        }
        let bytes = self.read_proved(block_key(id))?;
        // Bytes with the right hash that are no block are the store's fault, found again when it is asked.
        let block = Block::parse(bytes).ok()?;
        self.memory.lock().insert(*id, block.clone());
        Some(block)
    }

    /// Whether a block may be here; proves nothing.
    pub fn may_have_block(&self, id: &ChunkId) -> bool {
        self.memory.lock().blocks.contains(id) || self.shared.ledger().get(&block_key(id)).is_some()
    }

    /// Keeps a block, whose bytes the caller has proved, in memory.
    pub fn remember_block(&self, id: &ChunkId, block: &Block) {
        self.memory.lock().insert(*id, block.clone());
    }

    /// Keeps a block, whose bytes the caller has proved, on disk. Trouble with that is no failure.
    pub fn put_block(&self, id: &ChunkId, block: &Block) {
        self.put_proved(block_key(id), block.bytes());
    }

    /// Makes sure that a block is on disk, where it may be missing while it is still in memory.
    ///
    /// # Errors
    /// Trouble with the local disk.
    pub fn keep_block(&self, id: &ChunkId, block: &Block) -> io::Result<()> {
        self.try_put_proved(block_key(id), block.bytes())
    }

    /// The bytes of a manifest root (proved by their hash).
    pub fn root(&self, id: &ManifestId) -> Option<Bytes> {
        self.read_proved(root_key(id))
    }

    /// Keeps a manifest root, whose bytes the caller has proved. Trouble with the disk is no failure.
    pub fn put_root(&self, id: &ManifestId, bytes: &[u8]) {
        self.put_proved(root_key(id), bytes);
    }

    fn read_proved(&self, key: ItemKey) -> Option<Bytes> {
        let bytes = durable::read(&self.shared.path(&key)).ok()?;
        if blake3::hash(&bytes).as_bytes() != &key.1 {
            self.shared.drop_damaged(&key, "its bytes changed");
            return None;
        }
        let (size, now) = (bytes.len() as u64, self.shared.now());
        {
            let mut ledger = self.shared.ledger();
            match ledger.get(&key) {
                Some(_) => ledger.touch(&key, now),
                // Another process put it there: from now on it counts here, too.
                None => ledger.insert(key, size, size, ContentProof::None, now),
            }
        }
        self.shared.check_limit();
        Some(bytes.into())
    }

    fn put_proved(&self, key: ItemKey, bytes: &[u8]) {
        if let Err(error) = self.try_put_proved(key, bytes) {
            tracing::debug!(%error, "a manifest block was not kept on disk");
        }
    }

    fn try_put_proved(&self, key: ItemKey, bytes: &[u8]) -> io::Result<()> {
        if self.shared.ledger().get(&key).is_some() && self.shared.path(&key).exists() {
            return Ok(());
        }
        self.shared.put_bytes_making_room(key, bytes)
    }
}
