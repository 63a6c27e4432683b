//! The bounded cache on the local disk: whole files, partly fetched files and manifest blocks, by hash.
//!
//! ```text
//! <folder>/blocks/<2 hex>/<hash>   manifest blocks (decoded) and manifest roots
//! <folder>/files/<2 hex>/<hash>    whole files, proved by BLAKE3 before they got the name; mode 0444
//! <folder>/partial/<hash>          what is there of a file, with holes; <hash>.map: which chunks (journal)
//! <folder>/tmp/                    files being made; a name in the folders above is whole or not there
//! ```
//! Nothing here is trusted for being here: blocks are hashed whenever they are read from disk, partly fetched
//! chunks at their first use after a restart, whole files when their size or times are not those of the index
//! (`cache.db`) or the machine went down since. A damaged file is removed and counts as absent.
//!
//! The limit counts all bytes below the folder. It is held by a background thread (`keeper`), which removes
//! what was not used for longest; what is open is never removed, but an open partly fetched file can be made
//! to drop chunks. Two processes may share a folder: files appear by rename and may vanish at any time. Each
//! holds the limit over what it knows, and learns of the other's files when it meets them or restarts. Pinned
//! versions (`pins`, in a folder beside) are evicted by neither.
//!
//! All methods block on local disk only, and briefly unless they say otherwise.

mod blocks;
pub mod db;
mod direct;
mod files;
mod journal;
mod keeper;
mod ledger;
mod partial;
mod pins;
#[cfg(test)]
mod tests;

use parking_lot::{Mutex, MutexGuard};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::Connection;
use serde::Serialize;

use self::blocks::BlockMemory;
/// The records of a journal, counted; for `tests/fuzz`.
#[doc(hidden)]
pub fn count_journal(bytes: &[u8], size: u64) -> Option<usize> {
    journal::decode(bytes, size).map(|records| records.len())
}

pub use self::db::{ChunkPlace, remembered_limit};
pub use self::direct::Pages;
pub(crate) use self::files::hash_all;
pub use self::files::{Insertion, Lookup, WholeFile};
use self::keeper::Keeper;
use self::ledger::{CacheLedger, ItemKey, ItemKind};
pub use self::partial::{ChunkState, Finish, PartialFile};
pub use self::pins::{Pin, PinFileError, PinnedItem, PinnedVersion};
use crate::format::clock::Env;
use crate::format::id::{ChunkId, FileHash};
use crate::host::durable;
use crate::host::sqlite;
use crate::host::sys;

/// Eviction goes on until this many hundredths of the limit are in use.
const LOW_WATER_PERCENT: u64 = 90;
/// Files in `tmp/` older than this were left by a crash. No file takes longer to make.
const STALE_TEMPORARY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// Why a cache cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the cache folder {path}: {source}")]
pub struct CacheOpenError {
    path: String,
    source: io::Error,
}

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

#[derive(Debug, Default)]
struct CacheCounters {
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
    damaged: AtomicU64,
}

/// What the cache, its open files and its background thread share.
#[derive(Debug)]
struct CacheShared {
    folder: PathBuf,
    pins: PathBuf,
    pins_seen: Mutex<pins::SeenPins>,
    limit_bytes: u64,
    env: Env,
    ledger: Mutex<CacheLedger>,
    database: Mutex<Connection>,
    /// Whether any chunk places may be in the database; saves the look-ups of a cache without.
    has_chunks: AtomicBool,
    counters: CacheCounters,
    gather: direct::Gather,
    temporaries: AtomicU64,
    keeper: Keeper,
}

/// The bounded disk cache; see the module's text. Shared in an [`Arc`], used from any thread.
#[derive(Debug)]
pub struct Cache {
    shared: Arc<CacheShared>,
    memory: Mutex<BlockMemory>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Cache {
    /// Opens the cache, making its folders as needed, and starts its background thread.
    pub fn open(options: CacheOptions) -> Result<Arc<Self>, CacheOpenError> {
        let failed = |source| CacheOpenError { path: options.folder.display().to_string(), source };
        for part in ["blocks", "files", "partial", "tmp"] {
            durable::create_private_directory(&options.folder.join(part)).map_err(failed)?;
        }
        remove_stale_temporaries(&options.folder.join("tmp"), &options.env);
        let connection = db::open(&options.database).map_err(|e| failed(io::Error::other(e)))?;
        let opened = db::opened_in(&connection).unwrap_or_else(|_| "new".into());
        let mut ledger = CacheLedger::default();
        for (key, size, charge, proof, used) in db::load(&connection).unwrap_or_default() {
            ledger.insert_loaded(key, size, charge, proof, used);
        }
        if let Err(error) = db::set_opened_in(&connection, &sqlite::boot_id()) {
            tracing::warn!(%error, "the cache database cannot be written");
        }
        let shared = Arc::new(CacheShared {
            pins: options.folder.with_file_name("pins"),
            pins_seen: Mutex::default(),
            folder: options.folder,
            limit_bytes: options.limit_bytes,
            env: options.env,
            ledger: Mutex::new(ledger),
            database: Mutex::new(connection),
            has_chunks: AtomicBool::new(true),
            counters: CacheCounters::default(),
            gather: direct::Gather::default(),
            temporaries: AtomicU64::new(0),
            keeper: Keeper::default(),
        });
        // Before anything can be evicted.
        shared.refresh_pins();
        let on_start = if opened.is_empty() { keeper::Scan::No } else { keeper::Scan::Yes };
        let thread = keeper::start(shared.clone(), on_start);
        let memory = Mutex::new(BlockMemory::default());
        Ok(Arc::new(Self { shared, memory, thread: Mutex::new(Some(thread)) }))
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

    /// Waits until the background thread has done what there is to do: scan, eviction, index.
    pub fn settle(&self) {
        self.shared.keeper.settle();
    }

    /// Figures for `status`.
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

    /// Remembers the limit for those who use the cache while nothing is mounted.
    pub fn remember_limit(&self) {
        if let Err(error) = db::remember_limit(&self.shared.database(), self.shared.limit_bytes) {
            tracing::warn!(%error, "the cache database cannot be written");
        }
    }

    /// Removes what was not used for longest until `bytes` more fit; what the disk then has is for the caller to
    /// try.
    pub fn make_room(&self, bytes: u64) {
        self.shared.make_room(bytes);
    }

    /// Records where the chunks of a whole file lie in it, for copying them into other files.
    pub fn note_chunks(&self, file: &FileHash, chunks: &[(ChunkId, u64, u32)]) {
        self.shared.has_chunks.store(true, Ordering::Relaxed);
        if let Err(error) = db::save_chunks(&mut self.shared.database(), file, chunks) {
            tracing::debug!(%error, "chunk places were not recorded");
        }
    }

    /// Where chunks lie in whole cached files: hints, to be proved by hash. Blocks for a look-up each.
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

impl CacheShared {
    fn ledger(&self) -> MutexGuard<'_, CacheLedger> {
        self.ledger.lock()
    }

    fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock()
    }

    fn now(&self) -> u64 {
        self.env.now().unix_millis().max(0) as u64
    }

    fn path(&self, key: &ItemKey) -> PathBuf {
        let hex = FileHash::from_bytes(key.1).to_string();
        match key.0 {
            ItemKind::File => self.folder.join("files").join(&hex[..2]).join(hex),
            ItemKind::Block => self.folder.join("blocks").join(&hex[..2]).join(hex),
            ItemKind::Partial => self.folder.join("partial").join(hex),
        }
    }

    fn temporary(&self) -> PathBuf {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let random = u64::from_le_bytes(self.env.random16()[..8].try_into().expect("eight of sixteen bytes"));
        self.folder.join("tmp").join(format!("{}-{number}-{random:x}", std::process::id()))
    }

    /// Removes a damaged item from disk and books.
    fn drop_damaged(&self, key: &ItemKey, problem: &str) {
        let path = self.path(key);
        tracing::warn!(path = %path.display(), problem, "a cached file is damaged and is removed");
        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
        self.ledger().remove(key);
        let _ = fs::remove_file(path);
    }

    /// Removes items until at most `target` bytes are in use, as far as what is open allows.
    fn evict(&self, target: u64) {
        self.refresh_pins();
        let taken = self.ledger().take_idle(target);
        self.counters.evicted.fetch_add(taken.len() as u64, Ordering::Relaxed);
        for key in &taken {
            match key.0 {
                ItemKind::Partial => partial::remove_unused(&self.path(key)),
                // Another process may have been first.
                ItemKind::File | ItemKind::Block => drop(fs::remove_file(self.path(key))),
            }
        }
        let over = self.ledger().bytes().saturating_sub(target);
        if over > 0 {
            self.shed(over);
        }
    }

    /// Makes open partly fetched files drop chunks.
    fn shed(&self, mut bytes: u64) {
        let open = self.ledger().open_partials();
        for partial in open {
            if let Some(partial) = partial.upgrade() {
                bytes = bytes.saturating_sub(partial.shed(bytes));
            }
            if bytes == 0 {
                return;
            }
        }
    }

    fn make_room(&self, bytes: u64) {
        let now = self.ledger().bytes();
        self.evict(now.min(self.limit_bytes).saturating_sub(bytes.max(now / 10)));
    }

    /// Whether the limit is passed; wakes the background thread if so.
    fn check_limit(&self) {
        if self.ledger().bytes() > self.limit_bytes {
            self.keeper.wake();
        }
    }

    /// Writes the changed rows to the database.
    fn flush(&self) {
        let changes = self.ledger().take_changes();
        if changes.rows.is_empty() && changes.removed.is_empty() {
            return;
        }
        if let Err(error) = db::save(&mut self.database(), &changes) {
            tracing::warn!(%error, "the cache index was not written; it is rebuilt when needed");
        }
    }
}

/// A count of one user of an item, given back when dropped.
#[derive(Debug)]
struct UseCount {
    shared: Arc<CacheShared>,
    key: ItemKey,
    serial: u64,
}

impl UseCount {
    fn take(shared: &Arc<CacheShared>, key: ItemKey) -> Option<Self> {
        let serial = shared.ledger().enter(&key, shared.now())?;
        Some(Self { shared: shared.clone(), key, serial })
    }
}

impl Drop for UseCount {
    fn drop(&mut self) {
        self.shared.ledger().leave(&self.key, self.serial);
        self.shared.check_limit();
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
