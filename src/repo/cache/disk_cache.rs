//! The front of the cache: opening and closing it, its figures, and what the parts do.

use parking_lot::Mutex;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use serde::Serialize;

use super::blocks::BlockFiles;
use super::db::{self, ChunkPlace};
use super::error::{CacheOpenCause, CacheOpenError, PinFileError};
use super::files::{Insertion, Lookup, WholeFile, WholeFiles};
use super::item::{ItemKind, file_key, partial_key};
use super::keeper::{self, Scan};
use super::ledger::CacheLedger;
use super::partial::PartialFile;
use super::pin_file::Pin;
use super::shared::CacheShared;
use crate::format::clock::Env;
use crate::format::id::{ChunkId, FileHash, ManifestId, StoreId};
use crate::format::manifest::Block;
use crate::format::name::{ArtifactKey, VersionNumber};
use crate::host::durable;
use crate::host::sqlite;
use crate::host::steady::StatIdentity;
use crate::host::sys;

/// Files in `tmp/` older than this were left by a crash. No file takes longer to make.
const STALE_TEMPORARY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// What a cache is opened with.
#[derive(Debug, Clone)]
pub struct CacheOptions {
    /// The folder for files; pins are kept in `pins` beside it.
    pub folder: PathBuf,
    /// The database file.
    pub database: PathBuf,
    /// Bytes on disk that the folder may take.
    pub limit_bytes: u64,
    /// The clock.
    pub env: Env,
}

/// Figures about the cache since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct CacheStats {
    /// Bytes on disk, including those of removed files that are still open.
    pub bytes: u64,
    /// The limit for them.
    pub limit: u64,
    /// Those of pinned items.
    pub pinned_bytes: u64,
    /// Whole files.
    pub files: u64,
    /// Openings that found the whole file.
    pub hits: u64,
    /// Openings that did not.
    pub misses: u64,
    /// Items removed to hold the limit.
    pub evicted: u64,
    /// Items found damaged and removed.
    pub damaged: u64,
}

/// The bounded disk cache; see [the module](super). Shared in an [`Arc`], used from any thread.
#[derive(Debug)]
pub struct Cache {
    shared: Arc<CacheShared>,
    files: WholeFiles,
    blocks: BlockFiles,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Cache {
    /// Opens the cache, makes its folders as needed, and starts its background thread.
    ///
    /// # Errors
    /// The folders or the database cannot be made.
    pub fn open(options: CacheOptions) -> Result<Arc<Self>, CacheOpenError> {
        let folder = options.folder.clone();
        Self::try_open(options).map_err(|source| CacheOpenError { path: folder, source })
    }

    fn try_open(options: CacheOptions) -> Result<Arc<Self>, CacheOpenCause> {
        for part in ["blocks", "files", "partial", "tmp"] {
            durable::create_private_directory(&options.folder.join(part))?;
        }
        remove_stale_temporaries(&options.folder.join("tmp"), &options.env);
        let connection = db::open(&options.database)?;
        let opened = db::opened_in(&connection).unwrap_or_else(|_| "new".into());
        let mut ledger = CacheLedger::default();
        for (key, size, charge, proof, used) in db::load(&connection).unwrap_or_default() {
            ledger.insert_loaded(key, size, charge, proof, used);
        }
        if let Err(error) = db::set_opened_in(&connection, &sqlite::boot_id()) {
            tracing::warn!(%error, "the cache database cannot be written");
        }
        let CacheOptions { folder, limit_bytes, env, .. } = options;
        let shared = Arc::new(CacheShared::new(folder, limit_bytes, env, ledger, connection));
        // Before anything can be evicted.
        shared.refresh_pins();
        let on_start = if opened.is_empty() { Scan::No } else { Scan::Yes };
        let thread = keeper::start(shared.clone(), on_start);
        let (files, blocks) = (WholeFiles::new(&shared), BlockFiles::new(&shared));
        Ok(Arc::new(Self { shared, files, blocks, thread: Mutex::new(Some(thread)) }))
    }

    /// Ends the background thread, makes everything durable and records that. Blocks for the sync of a file
    /// system. Further use of the cache is possible but its index is no longer kept.
    pub fn shutdown(&self) {
        self.stop_thread();
        match self.sync() {
            Ok(()) => {
                let database = self.shared.database();
                let marked = db::set_opened_in(&database, "").and_then(|()| sqlite::mark_synced(&database));
                if let Err(error) = marked {
                    tracing::warn!(%error, "the cache database cannot be written");
                }
            }
            Err(error) => tracing::warn!(%error, "the cache cannot be synced"),
        }
    }

    /// Makes everything in the cache durable, and proved for longer than this boot. Blocks for the sync of a file
    /// system.
    ///
    /// # Errors
    /// The file system cannot be synced.
    pub fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.shared.folder).and_then(|dir| sys::sync_fs(&dir))?;
        self.shared.ledger().mark_synced();
        self.shared.flush();
        Ok(())
    }

    fn stop_thread(&self) {
        self.shared.keeper.stop();
        let thread = self.thread.lock().take();
        if thread.is_some_and(|t| t.join().is_err()) {
            tracing::error!("the cache's background thread panicked");
        }
    }

    /// Waits until the background thread has nothing left to do: scan, eviction, index.
    pub fn settle(&self) {
        self.shared.keeper.settle();
    }

    /// Returns figures for `status`.
    pub fn stats(&self) -> CacheStats {
        let ledger = self.shared.ledger();
        let c = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            bytes: ledger.bytes(),
            limit: self.shared.limit_bytes,
            pinned_bytes: ledger.pinned_bytes(),
            files: ledger.count(ItemKind::File),
            hits: read(&c.hits),
            misses: read(&c.misses),
            evicted: read(&c.evicted),
            damaged: read(&c.damaged),
        }
    }

    /// Remembers the limit for commands that use the cache while nothing is mounted.
    pub fn remember_limit(&self) {
        if let Err(error) = db::remember_limit(&self.shared.database(), self.shared.limit_bytes) {
            tracing::warn!(%error, "the cache database cannot be written");
        }
    }

    /// Evicts what was not used for longest until `bytes` more fit below the limit. Whether the disk has room for them
    /// shows when they are written.
    pub fn make_room(&self, bytes: u64) {
        self.shared.make_room(bytes);
    }

    /// Opens a whole file if it is here and its size and times are those it had when it was proved.
    pub fn look_up(&self, hash: &FileHash, size: u64) -> Lookup {
        self.files.look_up(hash, size)
    }

    /// Hashes a whole file and opens it; one that is not what its name says is removed. Reads all of it.
    pub fn prove(&self, hash: &FileHash, size: u64) -> Option<WholeFile> {
        self.files.prove(hash, size)
    }

    /// Opens a proved whole file of any size; not counted as a hit or a miss.
    pub fn open_proved(&self, hash: &FileHash) -> Option<WholeFile> {
        self.files.open_proved(hash)
    }

    /// Whether the index has the file. Costs no disk access and proves nothing.
    pub fn has(&self, hash: &FileHash) -> bool {
        self.shared.ledger().get(&file_key(hash)).is_some()
    }

    /// Puts in a file with these bytes, which the caller has proved to have this hash.
    ///
    /// # Errors
    /// The local disk fails, or is full after room was made once.
    pub fn put_file(&self, hash: &FileHash, bytes: &[u8]) -> io::Result<()> {
        self.shared.put_bytes_making_room(file_key(hash), bytes)
    }

    /// Takes in an existing file, which the caller hashed when it was as `read_as` says, and nobody writes any more.
    /// One that is here already stays, and with [`Insertion::Rename`] the source is removed then.
    ///
    /// # Errors
    /// The local disk fails; `InvalidInput` if the file has changed since.
    pub fn admit_file(
        &self,
        hash: &FileHash,
        read_as: &StatIdentity,
        source: &Path,
        how: Insertion,
    ) -> io::Result<()> {
        self.files.admit(hash, read_as, source, how)
    }

    /// Opens the partly fetched file of this name, or makes one.
    ///
    /// # Errors
    /// The local disk fails; too many files are open.
    pub fn open_partial(&self, hash: &FileHash, size: u64) -> io::Result<Arc<PartialFile>> {
        PartialFile::open(&self.shared, hash, size)
    }

    /// Returns the bytes that are here of a file that is being fetched.
    pub fn partial_bytes(&self, hash: &FileHash) -> u64 {
        self.shared.ledger().get(&partial_key(hash)).map_or(0, |item| item.charge)
    }

    /// Returns a manifest block, from memory or from disk (proved by its hash).
    pub fn block(&self, id: &ChunkId) -> Option<Block> {
        self.blocks.block(id)
    }

    /// Whether a block may be here. Proves nothing.
    pub fn may_have_block(&self, id: &ChunkId) -> bool {
        self.blocks.may_have_block(id)
    }

    /// Keeps a block, whose bytes the caller has proved, in memory.
    pub fn remember_block(&self, id: &ChunkId, block: &Block) {
        self.blocks.remember_block(id, block);
    }

    /// Keeps a block, whose bytes the caller has proved, on disk. Trouble with that is no failure.
    pub fn put_block(&self, id: &ChunkId, block: &Block) {
        self.blocks.put_block(id, block);
    }

    /// Makes sure that a block is on disk, where it may be missing while it is still in memory.
    ///
    /// # Errors
    /// The local disk fails.
    pub fn keep_block(&self, id: &ChunkId, block: &Block) -> io::Result<()> {
        self.blocks.keep_block(id, block)
    }

    /// Returns the bytes of a manifest root (proved by their hash).
    pub fn root(&self, id: &ManifestId) -> Option<Bytes> {
        self.blocks.root(id)
    }

    /// Keeps a manifest root, whose bytes the caller has proved. Trouble with the disk is no failure.
    pub fn put_root(&self, id: &ManifestId, bytes: &[u8]) {
        self.blocks.put_root(id, bytes);
    }

    /// Pins a version, durably; pinning it again replaces its pin. What it names is not evicted from then on; the caller
    /// fetches it.
    ///
    /// # Errors
    /// All pins together would not fit into the cache, or the pin cannot be written. Nothing is pinned then.
    pub fn pin(&self, pin: &Pin) -> Result<(), PinFileError> {
        self.shared.pins.write(pin, self.shared.limit_bytes)?;
        self.take_in_pins();
        Ok(())
    }

    /// Unpins a version. Returns `false` if it was not pinned.
    ///
    /// # Errors
    /// The pin cannot be removed.
    pub fn unpin(&self, store: StoreId, artifact: &ArtifactKey, version: VersionNumber) -> io::Result<bool> {
        let was_pinned = self.shared.pins.remove(store, artifact, version)?;
        if was_pinned {
            self.take_in_pins();
            self.shared.check_limit();
        }
        Ok(was_pinned)
    }

    fn take_in_pins(&self) {
        self.shared.pins.note_change();
        self.shared.refresh_pins();
    }

    /// Returns the pins of a store, by artifact and version. Reads all of them from disk.
    pub fn pins(&self, store: StoreId) -> Vec<Pin> {
        self.shared.pins.of_store(store)
    }

    /// Returns the bytes that a pin names and the cache does not have, as its index says.
    pub fn missing_bytes(&self, pin: &Pin) -> u64 {
        let ledger = self.shared.ledger();
        pin.items.iter().filter(|item| ledger.get(&item.key).is_none()).map(|item| item.bytes).sum()
    }

    /// Records where the chunks of a whole file lie in it, for copying them into other files.
    pub fn note_chunks(&self, file: &FileHash, chunks: &[(ChunkId, u64, u32)]) {
        self.shared.has_chunks.store(true, Ordering::Relaxed);
        if let Err(error) = db::save_chunks(&mut self.shared.database(), file, chunks) {
            tracing::debug!(%error, "chunk places were not recorded");
        }
    }

    /// Returns where chunks lie in whole cached files: hints, to be proved by hash. Blocks for a look-up each.
    pub fn find_chunks(&self, chunks: &[ChunkId]) -> Vec<Option<ChunkPlace>> {
        if !self.shared.has_chunks.load(Ordering::Relaxed) {
            return vec![None; chunks.len()];
        }
        let database = self.shared.database();
        chunks.iter().map(|chunk| db::find_chunk(&database, chunk).ok().flatten()).collect()
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.stop_thread();
    }
}

fn remove_stale_temporaries(folder: &Path, env: &Env) {
    let now = env.now().unix_millis();
    let Ok(names) = fs::read_dir(folder) else { return };
    for name in names.flatten() {
        let modified = name.metadata().and_then(|m| m.modified()).ok();
        let age = modified.and_then(|m| m.duration_since(std::time::UNIX_EPOCH).ok());
        let is_stale = age.is_some_and(|a| {
            let millis = a.as_millis().saturating_add(STALE_TEMPORARY.as_millis());
            millis < now.max(0) as u128
        });
        if is_stale {
            let _ = fs::remove_file(name.path());
        }
    }
}
