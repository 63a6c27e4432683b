//! One partly fetched file: a data file with holes, and a journal of the chunks in it.
//!
//! One process has it at a time (a lock on the journal); another that needs the same file meanwhile gets a
//! private one. A chunk is `Present` when its bytes were proved by this process, `Claimed` when only the journal
//! says so. Bytes are read under the same lock under which chunks are dropped, so a reader never takes a fresh
//! hole for content.

use parking_lot::{Mutex, RwLock};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};

use bytes::Bytes;

use super::direct::{self, Pages};
use super::held_chunks::{ChunkState, HeldChunks};
use super::item::{ContentProof, ItemKey, charge_of, file_key, partial_key};
use super::journal::{self, ChunkMark, JournalRecord};
use super::journal_file::{journal_path, lock_journal};
use super::ledger::Shed;
use super::shared::{CacheShared, UseCount};
use crate::format::id::{ChunkId, FileHash};
use crate::host::durable;
use crate::host::process::limits;
use crate::host::sys;
use crate::store::is_full;

/// Bytes hashed at once when a file is proved.
const HASH_BYTES: usize = 1 << 20;

/// How [`PartialFile::finish`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// The file is whole in the cache now.
    Whole,
    /// All chunks are there, but the whole has another hash.
    Mismatch,
    /// Chunks are missing.
    Incomplete,
}

/// Protected by one lock: what is there, and the right to read or drop it.
#[derive(Debug, Default)]
struct PartialState {
    chunks: HeldChunks,
    /// It has its name among the whole files; nothing changes any more.
    is_finished: bool,
    /// No chunk is dropped while this is not zero.
    keepers: u32,
    /// Bytes of an earlier run may lie where a hole is wanted.
    has_foreign_bytes: bool,
}

/// The hash of the file's beginning, as far as it was there in one piece.
#[derive(Debug, Default)]
struct Prefix {
    hasher: blake3::Hasher,
    bytes: u64,
}

/// See the module's text.
#[derive(Debug)]
pub struct PartialFile {
    shared: Arc<CacheShared>,
    key: ItemKey,
    hash: FileHash,
    size: u64,
    data: File,
    /// The same, for writing past the page cache, opened when that is first wanted.
    direct: OnceLock<Option<File>>,
    journal: File,
    path: PathBuf,
    /// A private file has no item in the books and is removed when it is closed.
    is_private: bool,
    state: RwLock<PartialState>,
    prefix: Mutex<Prefix>,
    writing: Mutex<()>,
    lease: Option<UseCount>,
}

impl PartialFile {
    /// Opens the partly fetched file of this name, or makes one.
    pub(super) fn open(shared: &Arc<CacheShared>, hash: &FileHash, size: u64) -> io::Result<Arc<Self>> {
        let path = shared.path(&partial_key(hash));
        match lock_journal(&journal_path(&path))? {
            // It stays open for as long as anybody reads the file.
            Some(journal) if limits::is_dispensable(&journal) => Err(limits::scarce()),
            Some(journal) => Self::open_at(shared, hash, size, path, journal, false),
            None => {
                let path = shared.temporary();
                let journal = lock_journal(&journal_path(&path))?.ok_or(io::ErrorKind::WouldBlock)?;
                Self::open_at(shared, hash, size, path, journal, true)
            }
        }
    }

    fn open_at(
        shared: &Arc<CacheShared>,
        hash: &FileHash,
        size: u64,
        path: PathBuf,
        journal: File,
        is_private: bool,
    ) -> io::Result<Arc<Self>> {
        let key = partial_key(hash);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let data = durable::open(options, &path)?;
        let records =
            durable::read(&journal_path(&path)).ok().and_then(|bytes| journal::decode(&bytes, size));
        let records = if data.metadata()?.len() == size { records } else { None };
        let lease = if is_private {
            None
        } else {
            let meta = data.metadata()?;
            let (charge, now) = (charge_of(&meta), shared.now());
            let mut ledger = shared.ledger();
            if ledger.get(&key).is_none_or(|i| i.size != size) {
                ledger.insert(key, size, charge, ContentProof::None, now);
            }
            drop(ledger);
            UseCount::take(shared, key)
        };
        let partial = Self {
            shared: shared.clone(),
            key,
            hash: *hash,
            size,
            direct: OnceLock::new(),
            data,
            journal,
            path,
            is_private,
            state: RwLock::default(),
            prefix: Mutex::default(),
            writing: Mutex::default(),
            lease,
        };
        match records {
            Some(records) => partial.take_claims(records),
            None => partial.reset()?,
        }
        let partial = Arc::new(partial);
        if !is_private {
            let this: Weak<Self> = Arc::downgrade(&partial);
            shared.ledger().set_partial(&key, this);
        }
        Ok(partial)
    }

    fn take_claims(&self, records: Vec<JournalRecord>) {
        let mut state = self.state.write();
        state.has_foreign_bytes = !records.is_empty();
        records.iter().for_each(|record| state.chunks.claim(record));
    }

    /// Drops everything: the file is one hole again.
    ///
    /// # Errors
    /// The local disk fails.
    pub fn reset(&self) -> io::Result<()> {
        // In the order in which hashing takes them.
        let mut prefix = self.prefix.lock();
        let mut state = self.state.write();
        if state.is_finished {
            return Ok(());
        }
        *prefix = Prefix::default();
        *state = PartialState { keepers: state.keepers, ..PartialState::default() };
        self.data.set_len(0)?;
        self.data.set_len(self.size)?;
        self.journal.set_len(0)?;
        self.append(&journal::header(self.size))?;
        if let Some(lease) = &self.lease {
            let mut ledger = self.shared.ledger();
            let charge = ledger.get(&self.key).map_or(0, |i| i.charge);
            ledger.charge(&self.key, lease.serial, -(charge.min(i64::MAX as u64) as i64));
        }
        Ok(())
    }

    /// Returns the file's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns whether the chunk of this place is there.
    pub fn chunk(&self, offset: u64, len: u32) -> ChunkState {
        self.state.read().chunks.state_of(offset, len)
    }

    /// Proves a claimed chunk by its hash; one that fails is absent from then on.
    pub fn verify(&self, offset: u64, len: u32, id: &ChunkId) -> ChunkState {
        let mut bytes = vec![0; len as usize];
        let right = {
            // Under the lock, so that the chunk is not dropped between reading and marking.
            let mut state = self.state.write();
            let right = self.data.read_exact_at(&mut bytes, offset).is_ok() && ChunkId::of(&bytes) == *id;
            if !state.chunks.settle_claim(offset, len, right) {
                return ChunkState::Absent;
            }
            right
        };
        if !right {
            self.shared.counters.damaged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        if right { ChunkState::Present } else { ChunkState::Absent }
    }

    /// Reads bytes `offset..offset + len` if all these chunks (offset, length) are there and proved.
    ///
    /// # Errors
    /// The local disk fails.
    pub fn read(&self, chunks: &[(u64, u32)], offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        let state = self.state.read();
        if !chunks.iter().all(|(at, len)| state.chunks.state_of(*at, *len) == ChunkState::Present) {
            return Ok(None);
        }
        let mut bytes = vec![0; len];
        self.data.read_exact_at(&mut bytes, offset)?;
        Ok(Some(bytes.into()))
    }

    /// Writes chunks whose bytes the caller has proved, in the order of their offsets. Room is made once if the disk is
    /// full.
    ///
    /// # Errors
    /// The local disk fails; then none of the chunks counts as there.
    pub fn write(&self, chunks: &[(u64, Bytes)], pages: Pages) -> io::Result<()> {
        // The kernel lets one in at a time too, but has the others spin.
        let writing = self.writing.lock();
        for run in chunks.chunk_by(|(at, bytes), (next, _)| at + bytes.len() as u64 == *next) {
            let mut written = self.write_run(run, pages);
            if written.as_ref().is_err_and(is_full) {
                self.shared.make_room(run.iter().map(|(_, bytes)| bytes.len() as u64).sum());
                written = self.write_run(run, pages);
            }
            written?;
        }
        drop(writing);
        let marks = chunks.iter().map(|(offset, bytes)| (*offset, bytes.len() as u32));
        self.enter(marks, ChunkMark::Stored)
    }

    fn write_run(&self, run: &[(u64, Bytes)], pages: Pages) -> io::Result<()> {
        if pages == Pages::Pass
            && let Some(direct) = self.direct.get_or_init(|| direct::open(&self.path))
        {
            match direct::write_run(&self.shared.gather, direct, &self.data, run) {
                // Some file systems open it so and do not write it so.
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {}
                written => return written,
            }
        }
        run.iter().try_for_each(|(offset, bytes)| self.data.write_all_at(bytes, *offset))
    }

    /// Enters chunks of zeros, which stay holes.
    ///
    /// # Errors
    /// The local disk fails.
    pub fn write_zeros(&self, chunks: &[(u64, u32)]) -> io::Result<()> {
        if self.state.read().has_foreign_bytes {
            for (offset, len) in chunks {
                sys::punch_hole(&self.data, *offset, (*len).into())?;
            }
        }
        self.enter(chunks.iter().copied(), ChunkMark::Zeros)
    }

    fn enter(&self, chunks: impl Iterator<Item = (u64, u32)>, mark: ChunkMark) -> io::Result<()> {
        let (mut records, mut added) = (Vec::new(), 0i64);
        {
            let mut state = self.state.write();
            for (offset, len) in chunks {
                let record = JournalRecord { offset, len, mark };
                added += state.chunks.enter(&record);
                records.extend_from_slice(&record.encode());
            }
        }
        if let Some(lease) = &self.lease {
            self.shared.ledger().charge(&self.key, lease.serial, added);
        }
        // A journal that cannot be written costs fetches after a restart, nothing else.
        if let Err(error) = self.append(&records) {
            tracing::debug!(%error, path = %self.path.display(), "chunks were not recorded");
        }
        self.shared.check_limit();
        Ok(())
    }

    fn append(&self, records: &[u8]) -> io::Result<()> {
        io::Write::write_all(&mut &self.journal, records)
    }

    /// Whether every byte of the file is there, if the journal is right.
    pub fn is_complete(&self) -> bool {
        self.state.read().chunks.bytes() >= self.size
    }

    /// Returns how many bytes of the file are not there, if the journal is right.
    pub fn missing_bytes(&self) -> u64 {
        self.size.saturating_sub(self.state.read().chunks.bytes())
    }

    /// Keeps all chunks from being dropped for as long as the result lives.
    pub fn retain(self: &Arc<Self>) -> Retained {
        self.state.write().keepers += 1;
        Retained(self.clone())
    }

    /// Hashes on as far as the file's beginning is there in one piece, so that [`PartialFile::finish`] has less to read.
    /// `in_memory` returns chunks by offset, as far as they need not be read again. Returns how far the hash reaches, unless
    /// another thread is hashing now.
    pub fn hash_ahead(&self, in_memory: impl Fn(u64) -> Option<Bytes>) -> Option<u64> {
        let mut prefix = self.prefix.try_lock()?;
        let _ = self.advance(&mut prefix, in_memory);
        Some(prefix.bytes)
    }

    fn advance(&self, prefix: &mut Prefix, in_memory: impl Fn(u64) -> Option<Bytes>) -> io::Result<()> {
        let mut buffer = vec![];
        loop {
            let state = self.state.read();
            let Some(len) = state.chunks.proved_len(prefix.bytes) else {
                return Ok(());
            };
            match in_memory(prefix.bytes).filter(|bytes| bytes.len() == len as usize) {
                Some(bytes) => {
                    drop(state);
                    prefix.hasher.update(&bytes);
                }
                None => {
                    buffer.resize(len as usize, 0);
                    self.data.read_exact_at(&mut buffer, prefix.bytes)?;
                    drop(state);
                    prefix.hasher.update(&buffer);
                }
            }
            prefix.bytes += u64::from(len);
            if len == 0 {
                return Ok(());
            }
        }
    }

    fn hash_rest(&self, prefix: &mut Prefix) -> io::Result<()> {
        let mut buffer = vec![0; HASH_BYTES];
        while prefix.bytes < self.size {
            let want = (self.size - prefix.bytes).min(HASH_BYTES as u64) as usize;
            self.data.read_exact_at(&mut buffer[..want], prefix.bytes)?;
            prefix.hasher.update(&buffer[..want]);
            prefix.bytes += want as u64;
        }
        Ok(())
    }

    /// Proves the whole file by its hash and gives it its name among the whole files. Reads what was not hashed
    /// on the way.
    ///
    /// # Errors
    /// The local disk fails.
    pub fn finish(&self) -> io::Result<Finish> {
        if self.state.read().is_finished {
            return Ok(Finish::Whole);
        }
        let mut prefix = self.prefix.lock();
        self.advance(&mut prefix, |_| None)?;
        {
            let mut state = self.state.write();
            if state.is_finished {
                return Ok(Finish::Whole);
            }
            if state.chunks.bytes() < self.size {
                return Ok(Finish::Incomplete);
            }
            // Readers go on while the rest is hashed, but nothing is dropped.
            state.keepers += 1;
        }
        let hashed = self.hash_rest(&mut prefix);
        let mut state = self.state.write();
        state.keepers -= 1;
        hashed?;
        let found = FileHash::from_hash(prefix.hasher.finalize());
        *prefix = Prefix::default();
        if found != self.hash {
            return Ok(Finish::Mismatch);
        }
        self.data.set_permissions(Permissions::from_mode(0o444))?;
        let charge = state.chunks.stored_bytes();
        self.shared.publish(&self.path, file_key(&self.hash), self.size, charge)?;
        state.is_finished = true;
        drop(state);
        let _ = fs::remove_file(journal_path(&self.path));
        if let Some(lease) = &self.lease {
            // The bytes are the whole file's now; what is left is an open file without any of its own.
            let mut ledger = self.shared.ledger();
            let own = ledger.get(&self.key).map_or(0, |i| i.charge);
            ledger.charge(&self.key, lease.serial, -(own.min(i64::MAX as u64) as i64));
            ledger.remove(&self.key);
        }
        Ok(Finish::Whole)
    }
}

impl Shed for PartialFile {
    /// Drops the oldest chunks.
    fn shed(&self, bytes: u64) -> u64 {
        let mut state = self.state.write();
        if state.is_finished || state.keepers > 0 {
            return 0;
        }
        let (mut freed, mut records) = (0u64, Vec::new());
        while freed < bytes {
            let punch = |offset, len: u32| sys::punch_hole(&self.data, offset, len.into()).is_ok();
            let Some((offset, len)) = state.chunks.drop_oldest(punch) else { break };
            freed += u64::from(len);
            records.extend_from_slice(&JournalRecord { offset, len, mark: ChunkMark::Gone }.encode());
        }
        let _ = self.append(&records);
        drop(state);
        if let Some(lease) = &self.lease {
            self.shared.ledger().charge(&self.key, lease.serial, -(freed as i64));
        }
        freed
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if self.is_private {
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(journal_path(&self.path));
        }
    }
}

/// Keeps the chunks of a partly fetched file while it lives.
#[derive(Debug)]
pub struct Retained(Arc<PartialFile>);

impl Drop for Retained {
    fn drop(&mut self) {
        let mut state = self.0.state.write();
        state.keepers -= 1;
        drop(state);
        self.0.shared.check_limit();
    }
}
