//! The system calls that the standard library lacks here.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

fn c_string(name: &[u8]) -> io::Result<CString> {
    CString::new(name).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn open(dir: BorrowedFd<'_>, name: &CStr, flags: libc::c_int, mode: u32) -> io::Result<File> {
    // SAFETY: name is NUL-terminated and outlives the call.
    let fd = unsafe { libc::openat(dir.as_raw_fd(), name.as_ptr(), flags | libc::O_CLOEXEC, mode) };
    // SAFETY: a non-negative result is a descriptor that nobody else owns.
    check(fd).map(|fd| File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Opens a name in a directory, never through a symbolic link.
pub(super) fn open_at(dir: BorrowedFd<'_>, name: &[u8], flags: libc::c_int, mode: u32) -> io::Result<File> {
    open(dir, &c_string(name)?, flags | libc::O_NOFOLLOW, mode)
}

/// Makes a file without a name in a directory, to be written.
pub(super) fn open_unnamed(dir: BorrowedFd<'_>, mode: u32) -> io::Result<File> {
    open(dir, c".", libc::O_TMPFILE | libc::O_RDWR, mode)
}

/// Gives a file without a name its first one; fails if that is taken.
pub(super) fn link_unnamed(file: &File, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let name = c_string(name)?;
    let own = c_string(format!("/proc/self/fd/{}", file.as_raw_fd()).as_bytes())?;
    let link = |from_dir, from: &CStr, flags| {
        // SAFETY: both names are NUL-terminated and outlive the call.
        check(unsafe { libc::linkat(from_dir, from.as_ptr(), dir.as_raw_fd(), name.as_ptr(), flags) })
    };
    match link(libc::AT_FDCWD, &own, libc::AT_SYMLINK_FOLLOW) {
        // There is no /proc here; the other way wants a privilege of old kernels.
        Err(e) if e.kind() == io::ErrorKind::NotFound => link(file.as_raw_fd(), c"", libc::AT_EMPTY_PATH),
        other => other,
    }
    .map(drop)
}

/// `renameat2` within a directory.
pub(super) fn rename_at(dir: BorrowedFd<'_>, from: &[u8], to: &[u8], flags: u32) -> io::Result<()> {
    let (from, to) = (c_string(from)?, c_string(to)?);
    let dir = dir.as_raw_fd();
    // SAFETY: both names are NUL-terminated and outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_renameat2, dir, from.as_ptr(), dir, to.as_ptr(), flags) };
    check(done as libc::c_int).map(drop)
}

/// Removes a file's name.
pub(super) fn unlink_at(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: name is NUL-terminated and outlives the call.
    check(unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
}
