//! Ranges of a file's content, and whether somebody writes to it.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::at::proc_path;

/// `fcntl` command: which signal tells of a broken lease. Not in `libc` for all targets.
const F_SETSIG: c_int = 10;

/// Truncates or extends a regular file.
///
/// # Errors
/// The kernel's; EFBIG for more than files can have.
pub fn truncate_fd(fd: impl AsFd, size: u64) -> io::Result<()> {
    let size = size.try_into().map_err(|_| Errno::FBIG)?;
    Ok(nix::unistd::truncate(proc_path(fd).as_str(), size)?)
}

/// Reserves, punches or zeroes a range; `mode` as `fallocate` has it.
///
/// # Errors
/// The kernel's; EFBIG for more than files can have.
pub fn fallocate(file: &File, mode: c_int, offset: u64, len: u64) -> io::Result<()> {
    if offset.max(len) > i64::MAX.cast_unsigned() {
        return Err(Errno::FBIG.into());
    }
    let mode = FallocateFlags::from_bits_retain(mode.cast_unsigned());
    Ok(rustix::fs::fallocate(file, mode, offset, len)?)
}

/// Frees the blocks of a range, which then reads as zeros. The file keeps its length.
///
/// # Errors
/// The kernel's; EOPNOTSUPP where the file system cannot.
pub fn punch_hole(file: &File, offset: u64, len: u64) -> io::Result<()> {
    fallocate(file, libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE, offset, len)
}

/// Returns where data lies at or after `offset`, as the kernel says it. Moves the file's position, which nobody uses.
///
/// # Errors
/// The kernel's; ENXIO if there is none.
pub fn seek_data(file: &File, offset: u64) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::Data(offset))?)
}

/// Returns where a hole begins at or after `offset`, or the file's end. Moves the file's position, which nobody uses.
///
/// # Errors
/// The kernel's; ENXIO if `offset` is at the file's end or after it.
pub fn seek_hole(file: &File, offset: u64) -> io::Result<u64> {
    Ok(rustix::fs::seek(file, SeekFrom::Hole(offset))?)
}

/// Returns where the next data of a file lies at or after `offset`; its end if only a hole follows. Where the file
/// system does not tell, that is `offset`. Moves the file's position.
///
/// # Errors
/// The kernel's.
pub fn next_data(file: &File, offset: u64) -> io::Result<u64> {
    match seek_data(file, offset) {
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok(file.metadata()?.len().max(offset)),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(offset),
        other => other,
    }
}

/// Returns where the next hole begins at or after `offset`: at the file's end, if not before. Where the file system does
/// not tell, there is none. Moves the file's position.
///
/// # Errors
/// The kernel's.
pub fn next_hole(file: &File, offset: u64) -> io::Result<u64> {
    match seek_hole(file, offset) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENXIO | libc::EINVAL)) => {
            Ok(file.metadata()?.len().max(offset))
        }
        other => other,
    }
}

/// Copies in the kernel, once; returns how many bytes.
///
/// # Errors
/// The kernel's; EXDEV between file systems that cannot.
pub fn copy_file_range(
    from: &File,
    mut from_offset: u64,
    to: &File,
    mut to_offset: u64,
    len: usize,
) -> io::Result<usize> {
    Ok(rustix::fs::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), len)?)
}

/// Makes `to` share all blocks of `from`. Few file systems can.
///
/// # Errors
/// The kernel's; EOPNOTSUPP where the file system cannot.
pub fn share_blocks(from: &File, to: &File) -> io::Result<()> {
    Ok(rustix::fs::ioctl_ficlone(to, from)?)
}

/// Whether anything, a mapping included, holds a file open for writing: the kernel then refuses a read lease.
/// False too where a file system has no leases.
pub fn has_writer(file: &File) -> bool {
    let fd = file.as_raw_fd();
    // SAFETY: these commands take a number and touch no memory. The signal that tells of a broken lease would end
    // the process; SIGURG is ignored by default.
    unsafe {
        libc::fcntl(fd, F_SETSIG, libc::SIGURG);
        if libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) == -1 {
            return io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock;
        }
        libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK);
    }
    false
}
