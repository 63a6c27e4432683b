//! One file of an export: kept if it is there already, else written without a name, proved, and named.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::error::ExportError;
use super::progress::ExportProgress;
use super::request::ForeignFiles;
use super::tree;
use crate::format::entry::{EntryBody, Mtime};
use crate::format::id::FileHash;
use crate::format::path::TreePath;
use crate::host::durable::Unfinished;
use crate::host::steady;
use crate::host::sys;
use crate::repo::cache::hash_all;
use crate::repo::view::{ByteSource, ReadError, VersionView};

/// Bytes of a file that become a hole where they are all zeros.
const HOLE_BYTES: usize = 64 << 10;
/// Attempts to give a file its name while others make and remove files of that name.
const MAX_RACES: usize = 8;

/// A file to be written.
pub(super) struct FileJob {
    pub view: Arc<VersionView>,
    pub ordinal: u64,
    /// Its path in the version.
    pub source: TreePath,
    /// A file or a reference.
    pub body: EntryBody,
    pub executable: bool,
    pub mtime: Mtime,
    pub parent: Arc<OwnedFd>,
    pub name: Vec<u8>,
    pub shown: PathBuf,
    pub foreign: ForeignFiles,
    pub progress: Arc<ExportProgress>,
}

impl FileJob {
    pub async fn run(self) -> Result<(), ExportError> {
        let (_, size) = self.body.sums();
        if self.is_there().await? {
            self.progress.add(size);
            self.progress.kept_files.fetch_add(1, Ordering::Relaxed);
        } else if self.write().await? {
            self.progress.written_files.fetch_add(1, Ordering::Relaxed);
            self.progress.written_bytes.fetch_add(size, Ordering::Relaxed);
        } else {
            self.progress.kept_files.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether the file is there already. False if nothing is, or what may be replaced.
    ///
    /// # Errors
    /// Something else is there that is to be kept.
    async fn is_there(&self) -> Result<bool, ExportError> {
        let failed = |e| ExportError::io(self.shown.clone(), e);
        let Some((stat, is)) = tree::kind_at(&self.parent, &self.name).map_err(failed)? else {
            return Ok(false);
        };
        let (_, size) = self.body.sums();
        if stat.is_file() && stat.size() == size && self.keep().await.map_err(failed)? {
            return Ok(true);
        }
        let foreign = tree::check_foreign(&stat, is, self.foreign);
        foreign.map_err(|e| e.at(self.shown.clone(), "another file"))?;
        Ok(false)
    }

    /// What its content must hash to; none of a reference without a checksum, which its source alone vouches for.
    fn hash(&self) -> Option<FileHash> {
        match &self.body {
            EntryBody::File(file) => Some(file.hash),
            EntryBody::Reference(reference) => reference.hash,
            EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => None,
        }
    }

    /// Its bytes, in parts.
    async fn parts(&self) -> Result<BoxStream<'static, Result<Bytes, ReadError>>, ReadError> {
        match &self.body {
            EntryBody::Reference(reference) => {
                Ok(self.view.open_reference(&self.source, reference).parts().boxed())
            }
            EntryBody::File(file) => {
                let content = self.view.open_file(self.ordinal, &self.source, file).await?;
                Ok(content.parts(ByteSource::Any).boxed())
            }
            EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Contained(_) => {
                Ok(futures::stream::empty().boxed())
            }
        }
    }

    /// Whether the file that is there has the right bytes; its mode and time are made right then.
    async fn keep(&self) -> io::Result<bool> {
        let hash = self.hash();
        let (parent, name) = (self.parent.clone(), self.name.clone());
        let (executable, mtime) = (self.executable, self.mtime);
        let checked = tokio::task::spawn_blocking(move || {
            let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let open = || sys::open_at(parent.as_fd(), &name, flags, 0).map(File::from);
            let hashed = match hash {
                Some(_) => steady::read(open, |bytes| {
                    let found = hash_all(bytes)?;
                    Ok((Some(found), bytes.get_ref().try_clone()?))
                }),
                None => open().map(|file| (None, file)),
            };
            let (found, file) = match hashed {
                Ok(hashed) => hashed,
                // What cannot be read is not known to be right, and what is gone or changes is not.
                Err(e) if is_other(&e) => return Ok(false),
                Err(e) => return Err(e),
            };
            let is_proved = hash.map(|hash| found == Some(hash));
            let file = OwnedFd::from(file);
            let stat = sys::stat_fd(file.as_fd())?;
            // A reference without a checksum is known by size and time, here as at its source.
            if !is_proved.unwrap_or_else(|| stat.mtime() == (mtime.seconds, mtime.nanos)) {
                return Ok(false);
            }
            if (stat.perm() & 0o100 != 0) != executable {
                let readers = (stat.perm() & 0o444) >> 2;
                let mode = if executable { stat.perm() | readers | 0o100 } else { stat.perm() & !0o111 };
                sys::chmod_fd(file.as_fd(), mode)?;
            }
            if stat.mtime() != (mtime.seconds, mtime.nanos) {
                tree::set_mtime(&file, mtime)?;
            }
            Ok(true)
        });
        checked.await.unwrap_or_else(|e| Err(io::Error::other(e)))
    }

    /// Writes the file and gives it its name; false if somebody else did that meanwhile.
    async fn write(&self) -> Result<bool, ExportError> {
        let failed = |e| ExportError::io(self.shown.clone(), e);
        let (_, size) = self.body.sums();
        let mut parts = self.parts().await?;
        let mode = if self.executable { 0o755 } else { 0o644 };
        let mut unfinished = Unfinished::create(self.parent.clone(), mode).map_err(failed)?;
        let file = unfinished.file();
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while let Some(part) = parts.try_next().await? {
            hasher.update(&part);
            write_data(file, &part, at).map_err(failed)?;
            at += part.len() as u64;
            self.progress.add(part.len() as u64);
        }
        let found = FileHash::from_hash(hasher.finalize());
        let expected = self.hash().unwrap_or(found);
        if at != size || found != expected {
            return Err(ExportError::Mismatch { path: self.shown.clone(), expected, found });
        }
        file.set_len(at).map_err(failed)?;
        tree::set_mtime(file, self.mtime).map_err(failed)?;
        self.publish(&mut unfinished).await
    }

    /// Gives the file its name; false if another has got it meanwhile and is the same. What else came to stand there is
    /// as foreign as what was there before.
    async fn publish(&self, unfinished: &mut Unfinished<Arc<OwnedFd>>) -> Result<bool, ExportError> {
        for _ in 0..MAX_RACES {
            let published = match self.foreign {
                ForeignFiles::Keep => unfinished.publish_new(&self.name),
                ForeignFiles::Replace => unfinished.publish_over(&self.name),
            };
            match published {
                Ok(()) => return Ok(true),
                Err(e) if matches!(e.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::IsADirectory) => {
                    if self.is_there().await? {
                        return Ok(false);
                    }
                }
                Err(e) => return Err(ExportError::io(self.shown.clone(), e)),
            }
        }
        let races = "other programs make and remove it all the time";
        Err(ExportError::io(self.shown.clone(), io::Error::other(races)))
    }
}

/// Writes bytes into a new file. Stretches of zeros stay holes.
fn write_data(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let is_data = |piece: &&[u8]| piece.iter().any(|byte| *byte != 0);
    let mut begin = 0;
    while begin < bytes.len() {
        let pieces = bytes[begin..].chunks(HOLE_BYTES);
        let len: usize = pieces.take_while(is_data).map(<[u8]>::len).sum();
        if len > 0 {
            file.write_all_at(&bytes[begin..begin + len], at + begin as u64)?;
        }
        // What ended it is zeros, or the end.
        begin += len + HOLE_BYTES;
    }
    Ok(())
}

/// Whether a failure to read what is there says that it is not the version's file.
fn is_other(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
        || error.get_ref().is_some_and(|e| e.is::<steady::Changing>())
}
