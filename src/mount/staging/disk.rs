//! The disk below the sessions, and local files as sources of copies.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use super::attr::{FsStat, TimeChange};
use super::closer::DeferredClose;
use super::error::{Result, StagingError};
use super::session::Session;
use crate::format::entry::Mtime;
use crate::host::sys;

/// The file system that a path is on.
///
/// # Errors
/// ENOENT or EACCES if the path cannot be opened for reading; EIO where its disk fails.
pub fn disk(path: &Path) -> io::Result<FsStat> {
    sys::statfs(File::open(path)?.as_fd())
}

/// Whether a path is on an overlay file system, below which there is at least one more.
///
/// # Errors
/// As [`disk`].
pub fn is_overlayfs(path: &Path) -> io::Result<bool> {
    const OVERLAYFS_MAGIC: i64 = 0x794c_7630;
    Ok(sys::fs_magic(File::open(path)?.as_fd())? == OVERLAYFS_MAGIC)
}

/// Writes everything on the file system that a path is on through to its disk.
///
/// # Errors
/// The path cannot be opened for reading; EIO or ENOSPC where something could not be written.
pub fn sync_disk(path: &Path) -> io::Result<()> {
    sys::sync_fs(File::open(path)?.as_fd())
}

impl Session {
    /// Gives an open file an mtime that any later write changes, and returns it.
    ///
    /// # Errors
    /// EBADF if the handle is unknown or may not write; EPERM if the file is not the process's own.
    pub fn stamp(&self, handle: u64) -> Result<Mtime> {
        let open = self.handle(handle)?;
        let (seconds, nanos) = sys::realtime();
        sys::utimens_fd(open.writable()?.as_fd(), TimeChange::Keep, TimeChange::To(seconds, nanos))?;
        self.stamp_of(handle)
    }

    /// The mtime of an open file.
    ///
    /// # Errors
    /// EBADF if the handle is unknown or may not write.
    pub fn stamp_of(&self, handle: u64) -> Result<Mtime> {
        let (seconds, nanos) = sys::stat_fd(self.handle(handle)?.writable()?.as_fd())?.mtime();
        Ok(Mtime { seconds, nanos })
    }

    /// The local file behind a handle, as a source for [`Session::copy_range`]. EXDEV if its bytes are in the
    /// version below: the kernel then copies by reading.
    ///
    /// # Errors
    /// EBADF if the handle is unknown; EXDEV as above.
    pub fn local_file(&self, handle: u64) -> Result<Arc<DeferredClose<File>>> {
        let handle = self.handle(handle)?;
        if handle.is_remote() {
            return Err(StagingError::Os(libc::EXDEV));
        }
        handle.local()
    }
}
