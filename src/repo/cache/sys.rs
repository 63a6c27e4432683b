//! The system calls that the standard library lacks; the cache's only `unsafe` code.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Writes everything of the file system that holds `directory` to its disk.
pub(super) fn sync_file_system(directory: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `directory` is borrowed; no memory is passed.
    check(unsafe { libc::syncfs(directory.as_raw_fd()) })
}

/// Makes `to` share all blocks of `from`. Few file systems can.
pub(super) fn share_blocks(from: &File, to: &File) -> io::Result<()> {
    // SAFETY: both descriptors are open for as long as they are borrowed; FICLONE takes a descriptor by value.
    check(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) })
}

/// Frees the blocks of a range, which then reads as zeros. The file keeps its length.
pub(super) fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    // SAFETY: the descriptor is open for as long as `file` is borrowed; no memory is passed.
    check(unsafe { libc::fallocate(file.as_raw_fd(), mode, offset, len) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
