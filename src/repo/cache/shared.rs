//! What the cache, its open files and its background thread share: the books, the database, and the files' names on disk.

use parking_lot::{Mutex, MutexGuard};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rusqlite::Connection;

use super::db;
use super::direct::Gather;
use super::item::{ContentProof, ItemKey, ItemKind, Stamp};
use super::journal_file::remove_unused;
use super::keeper_signal::KeeperSignal;
use super::ledger::CacheLedger;
use super::pins::PinFolder;
use crate::format::clock::Env;
use crate::format::id::FileHash;
use crate::host::durable;
use crate::store::is_full;

/// The mode of whole files and blocks.
pub(super) const MODE: u32 = 0o444;

#[derive(Debug, Default)]
pub(super) struct CacheCounters {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub evicted: AtomicU64,
    pub damaged: AtomicU64,
}

/// What the cache, its open files and its background thread share.
#[derive(Debug)]
pub(super) struct CacheShared {
    pub folder: PathBuf,
    pub pins: PinFolder,
    pub limit_bytes: u64,
    pub env: Env,
    ledger: Mutex<CacheLedger>,
    database: Mutex<Connection>,
    /// Whether any chunk places may be in the database; saves the look-ups of a cache without.
    pub has_chunks: AtomicBool,
    pub counters: CacheCounters,
    pub gather: Gather,
    temporaries: AtomicU64,
    pub keeper: KeeperSignal,
}

impl CacheShared {
    /// Shares what was loaded. Nothing is pinned until [`CacheShared::refresh_pins`].
    pub fn new(
        folder: PathBuf,
        limit_bytes: u64,
        env: Env,
        ledger: CacheLedger,
        database: Connection,
    ) -> Self {
        Self {
            pins: PinFolder::new(folder.with_file_name("pins")),
            folder,
            limit_bytes,
            env,
            ledger: Mutex::new(ledger),
            database: Mutex::new(database),
            has_chunks: AtomicBool::new(true),
            counters: CacheCounters::default(),
            gather: Gather::default(),
            temporaries: AtomicU64::new(0),
            keeper: KeeperSignal::default(),
        }
    }

    pub fn ledger(&self) -> MutexGuard<'_, CacheLedger> {
        self.ledger.lock()
    }

    pub fn database(&self) -> MutexGuard<'_, Connection> {
        self.database.lock()
    }

    pub fn now(&self) -> u64 {
        self.env.now().unix_millis().max(0) as u64
    }

    pub fn path(&self, key: &ItemKey) -> PathBuf {
        let hex = FileHash::from_bytes(key.1).to_string();
        match key.0 {
            ItemKind::File => self.folder.join("files").join(&hex[..2]).join(hex),
            ItemKind::Block => self.folder.join("blocks").join(&hex[..2]).join(hex),
            ItemKind::Partial => self.folder.join("partial").join(hex),
        }
    }

    pub fn temporary(&self) -> PathBuf {
        let number = self.temporaries.fetch_add(1, Ordering::Relaxed);
        let random = u64::from_le_bytes(self.env.random16()[..8].try_into().expect("eight of sixteen bytes"));
        self.folder.join("tmp").join(format!("{}-{number}-{random:x}", std::process::id()))
    }

    /// Removes a damaged item from disk and books.
    pub fn drop_damaged(&self, key: &ItemKey, problem: &str) {
        let path = self.path(key);
        tracing::warn!(path = %path.display(), problem, "a cached file is damaged and is removed");
        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
        self.ledger().remove(key);
        let _ = fs::remove_file(path);
    }

    /// Removes items until at most `target` bytes are in use, as far as what is open allows.
    pub fn evict(&self, target: u64) {
        self.refresh_pins();
        let taken = self.ledger().take_idle(target);
        self.counters.evicted.fetch_add(taken.len() as u64, Ordering::Relaxed);
        for key in &taken {
            match key.0 {
                ItemKind::Partial => remove_unused(&self.path(key)),
                // Another process may have been first.
                ItemKind::File | ItemKind::Block => drop(fs::remove_file(self.path(key))),
            }
        }
        let over = self.ledger().bytes().saturating_sub(target);
        if over > 0 {
            self.shed(over);
        }
    }

    /// Makes open partly fetched files drop chunks, `bytes` in all.
    fn shed(&self, mut bytes: u64) {
        let open = self.ledger().open_partials();
        for partial in open {
            bytes = bytes.saturating_sub(partial.shed(bytes));
            if bytes == 0 {
                return;
            }
        }
    }

    /// Removes what was not used for longest until `bytes` more fit.
    pub fn make_room(&self, bytes: u64) {
        let now = self.ledger().bytes();
        self.evict(now.min(self.limit_bytes).saturating_sub(bytes.max(now / 10)));
    }

    /// Wakes the background thread if the limit is passed.
    pub fn check_limit(&self) {
        if self.ledger().bytes() > self.limit_bytes {
            self.keeper.wake();
        }
    }

    /// Writes the changed rows to the database.
    pub fn flush(&self) {
        let changes = self.ledger().take_changes();
        if changes.rows.is_empty() && changes.removed.is_empty() {
            return;
        }
        if let Err(error) = db::save(&mut self.database(), &changes) {
            tracing::warn!(%error, "the cache index was not written; it is rebuilt when needed");
        }
    }

    /// Takes in the pins as they are on disk, if they changed.
    pub fn refresh_pins(&self) {
        self.pins.if_changed(|items| {
            let all: u64 = items.values().sum();
            if all > self.limit_bytes {
                tracing::warn!(
                    pinned_bytes = all,
                    limit_bytes = self.limit_bytes,
                    "more is pinned than the cache may hold: use a larger --cache-size, or unpin something"
                );
            }
            self.ledger().set_pinned(items.into_keys().collect());
        });
    }

    /// Makes a file with these bytes under its name. Makes room once if the disk is full.
    pub fn put_bytes_making_room(&self, key: ItemKey, bytes: &[u8]) -> io::Result<()> {
        match self.put_bytes(key, bytes) {
            Err(error) if is_full(&error) => {
                self.make_room(bytes.len() as u64);
                self.put_bytes(key, bytes)
            }
            other => other,
        }
    }

    /// Makes a file with these bytes under its name.
    fn put_bytes(&self, key: ItemKey, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.temporary();
        let mut options = OpenOptions::new();
        let written = options
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&temporary)
            .and_then(|mut file| file.write_all(bytes));
        let size = bytes.len() as u64;
        let published = written.and_then(|()| self.publish(&temporary, key, size, size));
        published.inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    /// Gives a finished file its name in the cache and enters it as proved.
    pub fn publish(&self, from: &Path, key: ItemKey, size: u64, charge: u64) -> io::Result<()> {
        let to = self.path(&key);
        match fs::rename(from, &to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let folder = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
                durable::create_private_directory(folder)?;
                fs::rename(from, &to)?;
            }
            other => other?,
        }
        // The rename sets the change time, so the stamp is taken after it.
        let stamp = Stamp::of(&fs::symlink_metadata(&to)?);
        self.ledger().insert(key, size, charge, ContentProof::ThisBoot(stamp), self.now());
        self.check_limit();
        Ok(())
    }
}

/// A count of one user of an item, given back when dropped.
#[derive(Debug)]
pub(super) struct UseCount {
    shared: Arc<CacheShared>,
    key: ItemKey,
    /// Tells the item from a later one of the same name.
    pub serial: u64,
}

impl UseCount {
    pub fn take(shared: &Arc<CacheShared>, key: ItemKey) -> Option<Self> {
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
