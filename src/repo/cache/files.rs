//! Whole files: opening with proof, and the two ways in (bytes, or a file that exists already).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ledger::{ContentProof, ItemKey, ItemKind, Stamp};
use super::{Cache, CacheShared, UseCount};
use crate::format::id::FileHash;
use crate::host::process::limits;
use crate::host::steady::StatIdentity;
use crate::host::sys;
use crate::store::is_full;

/// A whole file, counted as in use for as long as this lives, and open unless so many files are open that it is opened
/// anew for each use.
#[derive(Debug)]
pub struct WholeFile {
    file: Option<File>,
    path: PathBuf,
    stamp: Stamp,
    size: u64,
    _lease: UseCount,
}

impl WholeFile {
    fn new(file: File, path: PathBuf, stamp: Stamp, size: u64, lease: UseCount) -> Self {
        let file = (!limits::is_dispensable(&file)).then_some(file);
        Self { file, path, stamp, size, _lease: lease }
    }

    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// Trouble with the local disk; also a file that is not the one any more that was proved.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.file {
            Some(file) => file.read_exact_at(bytes, offset),
            None => self.open_again()?.read_exact_at(bytes, offset),
        }
    }

    /// The file, opened for reading only.
    pub fn open(&self) -> io::Result<File> {
        match &self.file {
            Some(file) => file.try_clone(),
            None => self.open_again(),
        }
    }

    /// The same to be kept open; none if too many files are open for that.
    pub fn open_to_keep(&self) -> Option<File> {
        self.file.as_ref()?.try_clone().ok().filter(|file| !limits::is_dispensable(file))
    }

    fn open_again(&self) -> io::Result<File> {
        let file = open_quietly(&self.path)?;
        if stamp_of(&file.metadata()?) != self.stamp {
            return Err(io::Error::other(format!("{} was changed", self.path.display())));
        }
        Ok(file)
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// How [`Cache::look_up`] ended.
#[derive(Debug)]
pub enum Lookup {
    /// The whole file.
    Found(WholeFile),
    /// There is a file, and [`Cache::prove`] must hash it first.
    Unproved,
    /// No such file.
    Absent,
}

/// How a file comes into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insertion {
    /// It is moved; copied where it lies on another file system.
    Rename,
    /// It stays where it is; blocks are shared where the file system can, copied elsewhere.
    Copy,
}

const MODE: u32 = 0o444;
const COPY_BYTES: usize = 1 << 20;

impl Cache {
    /// Opens a whole file if it is here and its size and times are those it had when it was proved.
    pub fn look_up(&self, hash: &FileHash, size: u64) -> Lookup {
        let found = self.shared.look_up(&key(hash), size);
        let counters = &self.shared.counters;
        match found {
            Lookup::Found(_) => counters.hits.fetch_add(1, Ordering::Relaxed),
            Lookup::Absent => counters.misses.fetch_add(1, Ordering::Relaxed),
            Lookup::Unproved => 0,
        };
        found
    }

    /// Opens a proved whole file of any size; not counted as a hit or a miss.
    pub fn open_proved(&self, hash: &FileHash) -> Option<WholeFile> {
        let key = key(hash);
        let size = self.shared.ledger().get(&key)?.size;
        match self.shared.look_up(&key, size) {
            Lookup::Found(whole) => Some(whole),
            Lookup::Unproved | Lookup::Absent => None,
        }
    }

    /// Whether the index has the file; costs no disk access and proves nothing.
    pub fn has(&self, hash: &FileHash) -> bool {
        self.shared.ledger().get(&key(hash)).is_some()
    }

    /// Hashes a whole file and opens it; one that is not what its name says is removed. Reads all of it.
    pub fn prove(&self, hash: &FileHash, size: u64) -> Option<WholeFile> {
        let found = self.shared.prove(hash, size);
        let counters = &self.shared.counters;
        let counter = if found.is_some() { &counters.hits } else { &counters.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Puts in a file with these bytes, which the caller has proved to have this hash.
    ///
    /// # Errors
    /// Trouble with the local disk; [`is_full`] tells a full one after room was made once.
    pub fn put_file(&self, hash: &FileHash, bytes: &[u8]) -> io::Result<()> {
        match self.shared.put_file(hash, bytes) {
            Err(e) if is_full(&e) => {
                self.make_room(bytes.len() as u64);
                self.shared.put_file(hash, bytes)
            }
            other => other,
        }
    }

    /// Takes in an existing file, which the caller hashed when it was as `read_as` says, and nobody writes any more.
    /// One that is here already stays, and with [`Insertion::Rename`] the source is removed then.
    ///
    /// # Errors
    /// Trouble with the local disk; `InvalidInput` if the file has changed since.
    pub fn admit_file(
        &self,
        hash: &FileHash,
        read_as: &StatIdentity,
        source: &Path,
        how: Insertion,
    ) -> io::Result<()> {
        let (shared, size) = (&self.shared, read_as.size);
        let meta = fs::symlink_metadata(source)?;
        if !meta.is_file() || StatIdentity::of_metadata(&meta) != *read_as {
            let problem = format!("{} has changed since it was hashed", source.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        if matches!(shared.look_up(&key(hash), size), Lookup::Found(_)) {
            return if how == Insertion::Rename { fs::remove_file(source) } else { Ok(()) };
        }
        if how == Insertion::Rename {
            fs::set_permissions(source, Permissions::from_mode(MODE))?;
            match shared.publish(source, key(hash), size, charge_of(&meta)) {
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {}
                other => return other,
            }
        }
        match shared.copy_in(hash, size, source) {
            Err(e) if is_full(&e) => {
                self.make_room(size);
                shared.copy_in(hash, size, source)?;
            }
            other => other?,
        }
        if how == Insertion::Rename { fs::remove_file(source) } else { Ok(()) }
    }
}

pub(super) fn key(hash: &FileHash) -> ItemKey {
    (ItemKind::File, *hash.as_bytes())
}

fn charge_of(meta: &fs::Metadata) -> u64 {
    (meta.blocks() * 512).min(meta.len())
}

pub(super) fn stamp_of(meta: &fs::Metadata) -> Stamp {
    let ns = |seconds: i64, nanos: i64| seconds.saturating_mul(1_000_000_000).saturating_add(nanos);
    Stamp { mtime_ns: ns(meta.mtime(), meta.mtime_nsec()), ctime_ns: ns(meta.ctime(), meta.ctime_nsec()) }
}

/// BLAKE3 of what is in the file, from its beginning.
fn hash_file(mut file: &File) -> io::Result<FileHash> {
    io::Seek::rewind(&mut file)?;
    hash_all(&mut file)
}

/// BLAKE3 of all bytes that come.
pub(crate) fn hash_all(bytes: &mut impl Read) -> io::Result<FileHash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => return Ok(FileHash::from_hash(hasher.finalize())),
            Ok(n) => drop(hasher.update(&buffer[..n])),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Opens a file so that reads leave its access time alone: nobody asks for it, and to note it costs a write.
fn open_quietly(path: &Path) -> io::Result<File> {
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags | libc::O_NONBLOCK).open(path);
    match open(libc::O_NOATIME) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => open(0),
        other => other,
    }
}

impl CacheShared {
    fn look_up(self: &Arc<Self>, key: &ItemKey, size: u64) -> Lookup {
        let opened = open_quietly(&self.path(key)).and_then(|file| Ok((file.metadata()?, file)));
        let Ok((meta, file)) = opened else {
            // Evicted by another process, or by hand.
            if self.ledger().get(key).is_some() {
                self.ledger().remove(key);
            }
            return Lookup::Absent;
        };
        let proved =
            self.ledger().get(key).is_some_and(|i| i.size == size && i.proof.covers(stamp_of(&meta)));
        if !proved || meta.len() != size {
            return Lookup::Unproved;
        }
        match UseCount::take(self, *key) {
            Some(lease) => Lookup::Found(WholeFile::new(file, self.path(key), stamp_of(&meta), size, lease)),
            None => Lookup::Absent,
        }
    }

    fn prove(self: &Arc<Self>, hash: &FileHash, size: u64) -> Option<WholeFile> {
        let key = key(hash);
        let file = open_quietly(&self.path(&key)).ok()?;
        let meta = file.metadata().ok()?;
        if meta.len() != size {
            self.drop_damaged(&key, "its length changed");
            return None;
        }
        let found = hash_file(&file);
        if found.as_ref().ok() != Some(hash) {
            self.drop_damaged(&key, "its bytes changed");
            return None;
        }
        let proof = ContentProof::ThisBoot(stamp_of(&meta));
        {
            let now = self.now();
            let mut ledger = self.ledger();
            if ledger.get(&key).is_some_and(|i| i.size == size) {
                ledger.prove(&key, proof);
            } else {
                ledger.insert(key, size, charge_of(&meta), proof, now);
            }
        }
        let lease = UseCount::take(self, key)?;
        Some(WholeFile::new(file, self.path(&key), stamp_of(&meta), size, lease))
    }

    fn put_file(&self, hash: &FileHash, bytes: &[u8]) -> io::Result<()> {
        self.put_bytes(key(hash), bytes)
    }

    /// Makes a file with these bytes under its name.
    pub(super) fn put_bytes(&self, key: ItemKey, bytes: &[u8]) -> io::Result<()> {
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

    fn copy_in(&self, hash: &FileHash, size: u64, source: &Path) -> io::Result<()> {
        let temporary = self.temporary();
        let copied = (|| {
            let from = File::open(source)?;
            let before = StatIdentity::of_file(&from)?;
            let to = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&temporary)?;
            if sys::share_blocks(&from, &to).is_err() {
                io::copy(&mut &from, &mut &to)?;
            }
            if to.metadata()?.len() != size || StatIdentity::of_file(&from)? != before {
                return Err(io::Error::other(format!("{} changed while it was copied", source.display())));
            }
            self.publish(&temporary, key(hash), size, size)
        })();
        copied.inspect_err(|_| drop(fs::remove_file(&temporary)))
    }

    /// Gives a finished file its name in the cache and enters it as proved.
    pub(super) fn publish(&self, from: &Path, key: ItemKey, size: u64, charge: u64) -> io::Result<()> {
        let to = self.path(&key);
        match fs::rename(from, &to) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let folder = to.parent().ok_or(io::ErrorKind::InvalidInput)?;
                crate::host::durable::create_private_directory(folder)?;
                fs::rename(from, &to)?;
            }
            other => other?,
        }
        // The rename sets the change time, so the stamp is taken after it.
        let stamp = stamp_of(&fs::symlink_metadata(&to)?);
        self.ledger().insert(key, size, charge, ContentProof::ThisBoot(stamp), self.now());
        self.check_limit();
        Ok(())
    }
}
