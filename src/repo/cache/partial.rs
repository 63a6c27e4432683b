//! One partly fetched file: a data file with holes, and a journal of the chunks in it.
//!
//! One process has it at a time (a lock on the journal); another that needs the same file meanwhile gets a
//! private one. A chunk is `Present` when its bytes were proved by this process, `Claimed` when only the journal
//! says so. Bytes are read under the same lock under which chunks are dropped, so a reader never takes a fresh
//! hole for content.

use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::direct::{self, Pages};
use super::journal::{self, ChunkMark, JournalRecord};
use super::ledger::{ContentProof, ItemKey, ItemKind};
use super::{Cache, CacheShared, UseCount, files};
use crate::format::id::{ChunkId, FileHash};
use crate::host::durable;
use crate::host::process::limits;
use crate::host::sys;
use crate::store::is_full;

/// Attempts to lock a journal that others keep removing.
const LOCK_ATTEMPTS: usize = 3;
/// Bytes hashed at once when a file is proved.
const HASH_BYTES: usize = 1 << 20;

/// Whether a chunk is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkState {
    /// No.
    Absent,
    /// The journal says so; [`PartialFile::verify`] finds out.
    Claimed,
    /// Yes, proved.
    Present,
}

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

#[derive(Debug, Clone, Copy)]
struct HeldChunks {
    len: u32,
    is_proved: bool,
    is_hole: bool,
}

/// Protected by one lock: what is there, and the right to read or drop it.
#[derive(Debug, Default)]
struct PartialState {
    chunks: HashMap<u64, HeldChunks>,
    /// Bytes of the file that are there.
    bytes: u64,
    /// Stored chunks, oldest first; dropped ones may linger.
    order: VecDeque<u64>,
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

fn journal_path(data: &Path) -> PathBuf {
    data.with_extension("map")
}

impl Cache {
    /// Opens the partly fetched file of this name, or begins one.
    pub fn open_partial(&self, hash: &FileHash, size: u64) -> io::Result<Arc<PartialFile>> {
        let shared = &self.shared;
        let key = (ItemKind::Partial, *hash.as_bytes());
        let path = shared.path(&key);
        match lock_journal(&journal_path(&path))? {
            // It stays open for as long as anybody reads the file.
            Some(journal) if limits::is_dispensable(&journal) => Err(limits::scarce()),
            Some(journal) => PartialFile::open(shared, key, hash, size, path, journal, false),
            None => {
                let path = shared.temporary();
                let journal = lock_journal(&journal_path(&path))?.ok_or(io::ErrorKind::WouldBlock)?;
                PartialFile::open(shared, key, hash, size, path, journal, true)
            }
        }
    }
}

/// Opens and locks a journal; none if another holder has it.
fn lock_journal(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..LOCK_ATTEMPTS {
        let mut options = OpenOptions::new();
        let file = durable::open(options.read(true).append(true).create(true).mode(0o600), path)?;
        match file.try_lock() {
            // Whoever held it before may have removed the name.
            Ok(()) if file.metadata()?.nlink() > 0 => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
    Ok(None)
}

/// Removes a partly fetched file unless a process has it open.
pub(super) fn remove_unused(data: &Path) {
    let journal = journal_path(data);
    if let Ok(Some(_lock)) = lock_journal(&journal) {
        let _ = fs::remove_file(data);
        let _ = fs::remove_file(journal);
    }
}

impl PartialFile {
    fn open(
        shared: &Arc<CacheShared>,
        key: ItemKey,
        hash: &FileHash,
        size: u64,
        path: PathBuf,
        journal: File,
        is_private: bool,
    ) -> io::Result<Arc<Self>> {
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
            let (charge, now) = ((meta.blocks() * 512).min(meta.len()), shared.now());
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
            shared.ledger().set_partial(&key, Arc::downgrade(&partial));
        }
        Ok(partial)
    }

    fn take_claims(&self, records: Vec<JournalRecord>) {
        let mut state = self.state.write();
        state.has_foreign_bytes = !records.is_empty();
        for JournalRecord { offset, len, mark } in records {
            if let Some(old) = state.chunks.remove(&offset) {
                state.bytes -= u64::from(old.len);
            }
            if mark != ChunkMark::Gone {
                let is_hole = mark == ChunkMark::Zeros;
                state.chunks.insert(offset, HeldChunks { len, is_proved: false, is_hole });
                state.bytes += u64::from(len);
                state.order.push_back(offset);
            }
        }
    }

    /// Begins anew with nothing but a hole.
    pub fn reset(&self) -> io::Result<()> {
        // In the order in which who hashes takes them.
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

    /// The file's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the chunk of this place is there.
    pub fn chunk(&self, offset: u64, len: u32) -> ChunkState {
        let state = self.state.read();
        match state.chunks.get(&offset) {
            Some(held) if held.len == len && held.is_proved => ChunkState::Present,
            Some(held) if held.len == len => ChunkState::Claimed,
            _ => ChunkState::Absent,
        }
    }

    /// Proves a claimed chunk by its hash; one that fails is absent from then on.
    pub fn verify(&self, offset: u64, len: u32, id: &ChunkId) -> ChunkState {
        let mut bytes = vec![0; len as usize];
        let right = {
            // Under the lock, so that the chunk is not dropped between reading and marking.
            let mut state = self.state.write();
            let right = self.data.read_exact_at(&mut bytes, offset).is_ok() && ChunkId::of(&bytes) == *id;
            match state.chunks.get_mut(&offset) {
                Some(held) if held.len == len && right => held.is_proved = true,
                Some(held) if held.len == len => {
                    state.chunks.remove(&offset);
                    state.bytes -= u64::from(len);
                }
                _ => return ChunkState::Absent,
            }
            right
        };
        if !right {
            self.shared.counters.damaged.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        if right { ChunkState::Present } else { ChunkState::Absent }
    }

    /// Bytes `offset..offset + len` if all these chunks (offset, length) are there and proved.
    pub fn read(&self, chunks: &[(u64, u32)], offset: u64, len: usize) -> io::Result<Option<Bytes>> {
        let state = self.state.read();
        let there = |(at, len): &(u64, u32)| {
            state.chunks.get(at).is_some_and(|held| held.len == *len && held.is_proved)
        };
        if !chunks.iter().all(there) {
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
    /// Trouble with the local disk; none of the chunks counts as there then.
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

    /// Takes in chunks of zeros, which stay holes.
    pub fn write_zeros(&self, chunks: &[(u64, u32)]) -> io::Result<()> {
        if self.state.read().has_foreign_bytes {
            for (offset, len) in chunks {
                sys::punch_hole(&self.data, *offset, (*len).into())?;
            }
        }
        self.enter(chunks.iter().copied(), ChunkMark::Zeros)
    }

    fn enter(&self, chunks: impl Iterator<Item = (u64, u32)>, mark: ChunkMark) -> io::Result<()> {
        let is_hole = mark == ChunkMark::Zeros;
        let mut records = Vec::new();
        let mut added = 0i64;
        {
            let mut state = self.state.write();
            for (offset, len) in chunks {
                let old = state.chunks.insert(offset, HeldChunks { len, is_proved: true, is_hole });
                state.bytes += u64::from(len);
                state.bytes -= old.map_or(0, |o| o.len.into());
                if old.is_none_or(|o| o.is_hole) && !is_hole {
                    added += i64::from(len);
                    state.order.push_back(offset);
                }
                records.extend_from_slice(&JournalRecord { offset, len, mark }.encode());
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
        self.state.read().bytes >= self.size
    }

    /// How many bytes of the file are not there, if the journal is right.
    pub fn missing_bytes(&self) -> u64 {
        self.size.saturating_sub(self.state.read().bytes)
    }

    /// Keeps all chunks from being dropped until `Retained` is.
    pub fn retain(self: &Arc<Self>) -> Retained {
        self.state.write().keepers += 1;
        Retained(self.clone())
    }

    /// Drops the oldest chunks until about `bytes` are free; tells how many that are.
    pub(super) fn shed(&self, bytes: u64) -> u64 {
        let mut state = self.state.write();
        if state.is_finished || state.keepers > 0 {
            return 0;
        }
        let (mut freed, mut records) = (0u64, Vec::new());
        while freed < bytes {
            let Some(offset) = state.order.pop_front() else { break };
            let Some(held) = state.chunks.get(&offset).copied().filter(|h| !h.is_hole) else { continue };
            if sys::punch_hole(&self.data, offset, held.len.into()).is_err() {
                break;
            }
            state.chunks.remove(&offset);
            state.bytes -= u64::from(held.len);
            freed += u64::from(held.len);
            records
                .extend_from_slice(&JournalRecord { offset, len: held.len, mark: ChunkMark::Gone }.encode());
        }
        let _ = self.append(&records);
        drop(state);
        if let Some(lease) = &self.lease {
            self.shared.ledger().charge(&self.key, lease.serial, -(freed as i64));
        }
        freed
    }

    /// Hashes on as far as the file's beginning is there in one piece; from the caller's view free of effects.
    /// `in_memory` gives chunks by offset, as far as they need not be read again.
    /// Tells how far that is, unless another does it at this time.
    pub fn hash_ahead(&self, in_memory: impl Fn(u64) -> Option<Bytes>) -> Option<u64> {
        let mut prefix = self.prefix.try_lock()?;
        let _ = self.advance(&mut prefix, in_memory);
        Some(prefix.bytes)
    }

    fn advance(&self, prefix: &mut Prefix, in_memory: impl Fn(u64) -> Option<Bytes>) -> io::Result<()> {
        let mut buffer = vec![];
        loop {
            let state = self.state.read();
            let Some(held) = state.chunks.get(&prefix.bytes).copied().filter(|h| h.is_proved) else {
                return Ok(());
            };
            match in_memory(prefix.bytes).filter(|bytes| bytes.len() == held.len as usize) {
                Some(bytes) => {
                    drop(state);
                    prefix.hasher.update(&bytes);
                }
                None => {
                    buffer.resize(held.len as usize, 0);
                    self.data.read_exact_at(&mut buffer, prefix.bytes)?;
                    drop(state);
                    prefix.hasher.update(&buffer);
                }
            }
            prefix.bytes += u64::from(held.len);
            if held.len == 0 {
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
            if state.bytes < self.size {
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
        let charge: u64 = state.chunks.values().filter(|h| !h.is_hole).map(|h| u64::from(h.len)).sum();
        self.shared.publish(&self.path, files::key(&self.hash), self.size, charge)?;
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
