//! One file of an export: kept if it is there already, else written under a temporary name, proved and renamed.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::tree::{self, Occupied, Temporary};
use super::{ExportError, Foreign, Progress};
use crate::cache::hash_file;
use crate::format::entry::{Body, Mtime};
use crate::id::FileHash;
use crate::path::TreePath;
use crate::staging::sys;
use crate::view::{ReadError, Source, VersionView};

/// A file to be written.
pub(super) struct FileJob {
    pub view: Arc<VersionView>,
    pub ordinal: u64,
    /// Its path in the version.
    pub source: TreePath,
    /// A file or a reference.
    pub body: Body,
    pub executable: bool,
    pub mtime: Mtime,
    pub parent: Arc<OwnedFd>,
    pub name: Vec<u8>,
    pub temporary: Vec<u8>,
    pub shown: PathBuf,
    pub foreign: Foreign,
    pub progress: Arc<Progress>,
}

impl FileJob {
    pub async fn run(self) -> Result<(), ExportError> {
        let failed = |e| ExportError::io(self.shown.clone(), e);
        let (_, size) = self.body.sums();
        if let Some((stat, is)) = tree::kind_at(&self.parent, &self.name).map_err(failed)? {
            if stat.is_file() && stat.size() == size && self.keep().await.map_err(failed)? {
                self.progress.kept_files.fetch_add(1, Ordering::Relaxed);
                self.progress.add(size);
                return Ok(());
            }
            tree::check_foreign(&stat, is, self.foreign).map_err(|e| self.occupied(e))?;
        }
        self.write().await?;
        self.progress.written_files.fetch_add(1, Ordering::Relaxed);
        self.progress.written_bytes.fetch_add(size, Ordering::Relaxed);
        Ok(())
    }

    /// What its content must hash to; none of a reference without a checksum, which its source alone vouches for.
    fn hash(&self) -> Option<FileHash> {
        match &self.body {
            Body::File(file) => Some(file.hash),
            Body::Reference(reference) => reference.hash,
            Body::Directory | Body::Symlink { .. } | Body::Contained(_) => None,
        }
    }

    /// Its bytes, in parts.
    async fn parts(&self) -> Result<BoxStream<'static, Result<Bytes, ReadError>>, ReadError> {
        match &self.body {
            Body::Reference(reference) => {
                Ok(self.view.open_reference(&self.source, reference).parts().boxed())
            }
            Body::File(file) => {
                let content = self.view.open_file(self.ordinal, &self.source, file).await?;
                Ok(content.parts(Source::Any).boxed())
            }
            Body::Directory | Body::Symlink { .. } | Body::Contained(_) => {
                Ok(futures::stream::empty().boxed())
            }
        }
    }

    fn occupied(&self, error: Occupied) -> ExportError {
        error.at(self.shown.clone(), "another file")
    }

    /// Whether the file that is there has the right bytes; its mode and time are made right then.
    async fn keep(&self) -> io::Result<bool> {
        let hash = self.hash();
        let (parent, name) = (self.parent.clone(), self.name.clone());
        let (executable, mtime) = (self.executable, self.mtime);
        let checked = tokio::task::spawn_blocking(move || {
            let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let opened = match sys::open_at(parent.as_raw_fd(), &name, flags, 0) {
                Ok(opened) => opened,
                // What cannot be read is not known to be right.
                Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
                Err(e) => return Err(e),
            };
            let file = File::from(opened);
            let is_proved = hash.map(|hash| Ok::<_, io::Error>(hash_file(&file)? == hash)).transpose()?;
            let file = OwnedFd::from(file);
            let stat = sys::stat_fd(file.as_raw_fd())?;
            // A reference without a checksum is known by size and time, here as at its source.
            if !is_proved.unwrap_or_else(|| stat.mtime() == (mtime.seconds, mtime.nanos)) {
                return Ok(false);
            }
            if (stat.perm() & 0o100 != 0) != executable {
                let readers = (stat.perm() & 0o444) >> 2;
                let mode = if executable { stat.perm() | readers | 0o100 } else { stat.perm() & !0o111 };
                sys::chmod_fd(file.as_raw_fd(), mode)?;
            }
            if stat.mtime() != (mtime.seconds, mtime.nanos) {
                tree::set_mtime(&file, mtime)?;
            }
            Ok(true)
        });
        checked.await.unwrap_or_else(|e| Err(io::Error::other(e)))
    }

    async fn write(&self) -> Result<(), ExportError> {
        let failed = |e| ExportError::io(self.shown.clone(), e);
        let directory = self.parent.as_raw_fd();
        let (_, size) = self.body.sums();
        let mut parts = self.parts().await?;
        let mode = if self.executable { 0o755 } else { 0o644 };
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
        let file = sys::open_at(directory, &self.temporary, flags, mode).map_err(failed)?;
        let _temporary = Temporary { parent: &self.parent, name: &self.temporary };
        let file = File::from(file);
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while let Some(part) = parts.try_next().await? {
            hasher.update(&part);
            // Long stretches of zeros stay holes.
            if part.iter().any(|byte| *byte != 0) {
                file.write_all_at(&part, at).map_err(failed)?;
            }
            at += part.len() as u64;
            self.progress.add(part.len() as u64);
        }
        let found = FileHash::from_hash(hasher.finalize());
        let expected = self.hash().unwrap_or(found);
        if at != size || found != expected {
            return Err(ExportError::Mismatch { path: self.shown.clone(), expected, found });
        }
        file.set_len(at).map_err(failed)?;
        let file = OwnedFd::from(file);
        tree::set_mtime(&file, self.mtime).map_err(failed)?;
        self.rename().map_err(|e| self.occupied(e))
    }

    /// Gives the file its name; what came to stand there in the meantime is as foreign as what was there before.
    fn rename(&self) -> Result<(), Occupied> {
        let directory = self.parent.as_raw_fd();
        let rename = |flags| sys::rename_at(directory, &self.temporary, directory, &self.name, flags);
        let flags = match self.foreign {
            Foreign::Keep => libc::RENAME_NOREPLACE,
            Foreign::Replace => 0,
        };
        match rename(flags) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let is = tree::kind_at(&self.parent, &self.name)?.map_or("a file", |(_, is)| is);
                Err(Occupied::By { is, replaceable: is != "a directory" })
            }
            // Not every file system can refuse to replace; nothing was there a moment ago.
            Err(e) if flags != 0 && e.raw_os_error() == Some(libc::EINVAL) => Ok(rename(0)?),
            Err(e) => Err(e.into()),
        }
    }
}
