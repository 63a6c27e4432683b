//! Whole files: opening with proof, and the two ways in (bytes, or a file that exists already).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::item::{ContentProof, ItemKey, Stamp, charge_of, file_key};
use super::shared::{CacheShared, MODE, UseCount};
use crate::format::id::FileHash;
use crate::host::process::limits;
use crate::host::steady::StatIdentity;
use crate::host::sys;
use crate::store::is_full;

/// A whole file, counted as in use for as long as this lives. It stays open, unless so many files are open that it is
/// opened again for each use.
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
    /// The local disk fails; the file is no longer the one that was proved.
    pub fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match &self.file {
            Some(file) => file.read_exact_at(bytes, offset),
            None => self.open_again()?.read_exact_at(bytes, offset),
        }
    }

    /// Returns the file, opened for reading only.
    ///
    /// # Errors
    /// As of [`WholeFile::read_exact_at`].
    pub fn open(&self) -> io::Result<File> {
        match &self.file {
            Some(file) => file.try_clone(),
            None => self.open_again(),
        }
    }

    /// Returns the file to keep it open; none if too many files are open for that.
    pub fn open_to_keep(&self) -> Option<File> {
        self.file.as_ref()?.try_clone().ok().filter(|file| !limits::is_dispensable(file))
    }

    fn open_again(&self) -> io::Result<File> {
        let file = open_quietly(&self.path)?;
        if Stamp::of(&file.metadata()?) != self.stamp {
            return Err(io::Error::other(format!("{} has changed since it was proved", self.path.display())));
        }
        Ok(file)
    }

    /// Returns the length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// How [`Cache::look_up`](super::Cache::look_up) ended.
#[derive(Debug)]
pub enum Lookup {
    /// The whole file.
    Found(WholeFile),
    /// There is a file, and [`Cache::prove`](super::Cache::prove) must hash it first.
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

/// Bytes read at once when a file is hashed.
const COPY_BYTES: usize = 1 << 20;

/// The whole files of the cache.
#[derive(Debug)]
pub(super) struct WholeFiles(Arc<CacheShared>);

impl WholeFiles {
    pub fn new(shared: &Arc<CacheShared>) -> Self {
        Self(shared.clone())
    }

    /// Opens a whole file if it is here and its size and times are those it had when it was proved.
    pub fn look_up(&self, hash: &FileHash, size: u64) -> Lookup {
        let found = self.find(&file_key(hash), size);
        let counters = &self.0.counters;
        match found {
            Lookup::Found(_) => counters.hits.fetch_add(1, Ordering::Relaxed),
            Lookup::Absent => counters.misses.fetch_add(1, Ordering::Relaxed),
            Lookup::Unproved => 0,
        };
        found
    }

    /// Opens a proved whole file of any size; not counted as a hit or a miss.
    pub fn open_proved(&self, hash: &FileHash) -> Option<WholeFile> {
        let key = file_key(hash);
        let size = self.0.ledger().get(&key)?.size;
        match self.find(&key, size) {
            Lookup::Found(whole) => Some(whole),
            Lookup::Unproved | Lookup::Absent => None,
        }
    }

    /// Hashes a whole file and opens it; one that is not what its name says is removed. Reads all of it.
    pub fn prove(&self, hash: &FileHash, size: u64) -> Option<WholeFile> {
        let found = self.hash_and_open(hash, size);
        let counters = &self.0.counters;
        let counter = if found.is_some() { &counters.hits } else { &counters.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Takes in an existing file, which the caller hashed when it was as `read_as` says, and nobody writes any more.
    /// One that is here already stays, and with [`Insertion::Rename`] the source is removed then.
    ///
    /// # Errors
    /// Trouble with the local disk; `InvalidInput` if the file has changed since.
    pub fn admit(
        &self,
        hash: &FileHash,
        read_as: &StatIdentity,
        source: &Path,
        how: Insertion,
    ) -> io::Result<()> {
        let (shared, size) = (&self.0, read_as.size);
        let meta = fs::symlink_metadata(source)?;
        if !meta.is_file() || StatIdentity::of_metadata(&meta) != *read_as {
            let problem = format!("{} has changed since it was hashed", source.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        if matches!(self.find(&file_key(hash), size), Lookup::Found(_)) {
            return if how == Insertion::Rename { fs::remove_file(source) } else { Ok(()) };
        }
        if how == Insertion::Rename {
            fs::set_permissions(source, Permissions::from_mode(MODE))?;
            match shared.publish(source, file_key(hash), size, charge_of(&meta)) {
                Err(e) if e.kind() == io::ErrorKind::CrossesDevices => {}
                other => return other,
            }
        }
        match self.copy_in(hash, size, source) {
            Err(e) if is_full(&e) => {
                shared.make_room(size);
                self.copy_in(hash, size, source)?;
            }
            other => other?,
        }
        if how == Insertion::Rename { fs::remove_file(source) } else { Ok(()) }
    }

    fn find(&self, key: &ItemKey, size: u64) -> Lookup {
        let opened = open_quietly(&self.0.path(key)).and_then(|file| Ok((file.metadata()?, file)));
        let Ok((meta, file)) = opened else {
            // Evicted by another process, or by hand.
            if self.0.ledger().get(key).is_some() {
                self.0.ledger().remove(key);
            }
            return Lookup::Absent;
        };
        let proved =
            self.0.ledger().get(key).is_some_and(|i| i.size == size && i.proof.covers(Stamp::of(&meta)));
        if !proved || meta.len() != size {
            return Lookup::Unproved;
        }
        match UseCount::take(&self.0, *key) {
            Some(lease) => {
                Lookup::Found(WholeFile::new(file, self.0.path(key), Stamp::of(&meta), size, lease))
            }
            None => Lookup::Absent,
        }
    }

    fn hash_and_open(&self, hash: &FileHash, size: u64) -> Option<WholeFile> {
        let key = file_key(hash);
        let file = open_quietly(&self.0.path(&key)).ok()?;
        let meta = file.metadata().ok()?;
        if meta.len() != size {
            self.0.drop_damaged(&key, "its length changed");
            return None;
        }
        let found = hash_file(&file);
        if found.as_ref().ok() != Some(hash) {
            self.0.drop_damaged(&key, "its bytes changed");
            return None;
        }
        let proof = ContentProof::ThisBoot(Stamp::of(&meta));
        {
            let now = self.0.now();
            let mut ledger = self.0.ledger();
            if ledger.get(&key).is_some_and(|i| i.size == size) {
                ledger.prove(&key, proof);
            } else {
                ledger.insert(key, size, charge_of(&meta), proof, now);
            }
        }
        let lease = UseCount::take(&self.0, key)?;
        Some(WholeFile::new(file, self.0.path(&key), Stamp::of(&meta), size, lease))
    }

    fn copy_in(&self, hash: &FileHash, size: u64, source: &Path) -> io::Result<()> {
        let temporary = self.0.temporary();
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
            self.0.publish(&temporary, file_key(hash), size, size)
        })();
        copied.inspect_err(|_| drop(fs::remove_file(&temporary)))
    }
}

/// Hashes a file from its beginning.
fn hash_file(mut file: &File) -> io::Result<FileHash> {
    io::Seek::rewind(&mut file)?;
    hash_all(&mut file)
}

/// Hashes all bytes of a reader.
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

/// Opens a file so that reads leave its access time alone: nobody asks for it, and noting it costs a write.
fn open_quietly(path: &Path) -> io::Result<File> {
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags | libc::O_NONBLOCK).open(path);
    match open(libc::O_NOATIME) {
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => open(0),
        other => other,
    }
}
