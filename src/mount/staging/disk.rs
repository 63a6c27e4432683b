//! The disk below the sessions, and local files as sources of copies.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use super::attr::{FsStat, TimeChange};
use super::closer::DeferredClose;
use super::error::{Result, StagingError};
use super::session::Session;
use super::sys;
use crate::format::entry::Mtime;

/// The file system that a path is on.
pub fn disk(path: &Path) -> io::Result<FsStat> {
    sys::statfs(File::open(path)?.as_raw_fd())
}

/// Whether a path is on an overlay file system, below which there is at least one more.
pub fn is_overlayfs(path: &Path) -> io::Result<bool> {
    const OVERLAYFS_MAGIC: i64 = 0x794c_7630;
    Ok(sys::fs_magic(File::open(path)?.as_raw_fd())? == OVERLAYFS_MAGIC)
}

/// Writes everything on the file system that a path is on through to its disk.
pub fn sync_disk(path: &Path) -> io::Result<()> {
    sys::sync_fs(File::open(path)?.as_raw_fd())
}

impl Session {
    /// Gives an open file an mtime that any later write changes, and returns it.
    pub fn stamp(&self, handle: u64) -> Result<Mtime> {
        let open = self.handle(handle)?;
        let (seconds, nanos) = sys::realtime();
        sys::utimens_fd(open.writable()?.as_raw_fd(), TimeChange::Keep, TimeChange::To(seconds, nanos))?;
        self.stamp_of(handle)
    }

    /// The mtime of an open file.
    pub fn stamp_of(&self, handle: u64) -> Result<Mtime> {
        let (seconds, nanos) = sys::stat_fd(self.handle(handle)?.writable()?.as_raw_fd())?.mtime();
        Ok(Mtime { seconds, nanos })
    }

    /// The local file behind a handle, as a source for [`Session::copy_range`]. EXDEV if its bytes are in the
    /// version below: the kernel then copies by reading.
    pub fn local_file(&self, handle: u64) -> Result<Arc<DeferredClose<File>>> {
        let handle = self.handle(handle)?;
        if handle.is_remote() {
            return Err(StagingError::new(libc::EXDEV));
        }
        handle.local()
    }
}

/// Where the next data of a file lies at or after `offset`; its end if only a hole follows. Where the file system
/// does not tell, that is `offset`. Moves the file's position.
pub fn next_data(file: &File, offset: u64) -> io::Result<u64> {
    let at = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    match sys::lseek(file, at, libc::SEEK_DATA) {
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok(file.metadata()?.len().max(offset)),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(offset),
        other => other,
    }
}

/// Where the next hole begins at or after `offset`: at the file's end, if not before. What cannot be asked has none.
pub(super) fn next_hole(file: &File, offset: u64) -> io::Result<u64> {
    let at = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    match sys::lseek(file, at, libc::SEEK_HOLE) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENXIO | libc::EINVAL)) => {
            Ok(file.metadata()?.len().max(offset))
        }
        other => other,
    }
}
