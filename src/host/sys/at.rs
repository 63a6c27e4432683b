//! Names in a directory that is given by a descriptor.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, FileTypeExt};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags};

use crate::format::path::NameList;

/// The longest relative path that is given to one `openat2`; deeper paths are opened in several steps.
const MAX_STEP_BYTES: usize = 3900;

/// Returns the path by which calls that take no `O_PATH` descriptor reach its object.
pub(super) fn proc_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// Opens `path` (components joined by `/`, of any length) below `dir`; no component may be a symbolic link.
///
/// # Errors
/// The kernel's; EXDEV for a mount on the way, ELOOP for a symbolic link, ENAMETOOLONG for an endless component.
pub fn open_beneath(dir: impl AsFd, path: &[u8], flags: c_int) -> io::Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > MAX_STEP_BYTES {
        let cut = rest[..MAX_STEP_BYTES].iter().rposition(|b| *b == b'/');
        let cut = cut.ok_or_else(|| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?;
        let from = at.as_ref().map_or(dir.as_fd(), AsFd::as_fd);
        at = Some(open_step(from, &rest[..cut], libc::O_PATH | libc::O_DIRECTORY)?);
        rest = &rest[cut + 1..];
    }
    open_step(at.as_ref().map_or(dir.as_fd(), AsFd::as_fd), rest, flags)
}

fn open_step(dir: BorrowedFd<'_>, path: &[u8], flags: c_int) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let flags = open_flags(flags) | OFlags::NOFOLLOW;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(dir, path, flags, Mode::empty(), resolve)?)
}

/// Flags as callers and the kernel's requests have them.
fn open_flags(flags: c_int) -> OFlags {
    OFlags::from_bits_retain(flags.cast_unsigned()) | OFlags::CLOEXEC
}

/// Opens (or, with `O_CREAT`, makes) one name of a directory.
///
/// # Errors
/// The kernel's; ELOOP if the name is a symbolic link.
pub fn open_at(dir: impl AsFd, name: &[u8], flags: c_int, mode: u32) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, name, open_flags(flags) | OFlags::NOFOLLOW, Mode::from_raw_mode(mode))?)
}

/// Makes a file without a name in a directory, open for reading and writing.
///
/// # Errors
/// The kernel's; EOPNOTSUPP or EISDIR where the file system cannot.
pub fn open_unnamed(dir: impl AsFd, mode: u32) -> io::Result<File> {
    let flags = open_flags(libc::O_TMPFILE | libc::O_RDWR);
    Ok(rustix::fs::openat(dir, ".", flags, Mode::from_raw_mode(mode))?.into())
}

/// Opens the object behind a descriptor (`O_PATH` or not) anew.
///
/// # Errors
/// The kernel's.
pub fn reopen(fd: impl AsFd, flags: c_int) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(proc_path(fd), open_flags(flags), Mode::empty())?)
}

/// Makes a directory.
///
/// # Errors
/// The kernel's.
pub fn mkdir_at(dir: impl AsFd, name: &[u8], mode: u32) -> io::Result<()> {
    Ok(rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode))?)
}

/// Makes a regular file, FIFO, socket or device; `mode` holds its type.
///
/// # Errors
/// The kernel's.
pub fn mknod_at(dir: impl AsFd, name: &[u8], mode: u32, rdev: u64) -> io::Result<()> {
    Ok(rustix::fs::mknodat(dir, name, FileType::from_raw_mode(mode), Mode::from_raw_mode(mode), rdev)?)
}

/// Makes a symbolic link.
///
/// # Errors
/// The kernel's.
pub fn symlink_at(target: &[u8], dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::symlinkat(target, dir, name)?)
}

/// Reads a symbolic link's target; an empty name means the link that `dir` (an `O_PATH` descriptor) is.
///
/// # Errors
/// The kernel's.
pub fn readlink_at(dir: impl AsFd, name: &[u8]) -> io::Result<Vec<u8>> {
    Ok(rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes())
}

/// Gives the object behind a descriptor another name.
///
/// # Errors
/// The kernel's; EEXIST if the name is taken.
pub fn link_fd(fd: impl AsFd, to_dir: impl AsFd, to: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::linkat(CWD, proc_path(fd), to_dir, to, AtFlags::SYMLINK_FOLLOW)?)
}

/// Gives a file without a name its first one.
///
/// # Errors
/// The kernel's; EEXIST if the name is taken.
pub fn link_unnamed(file: &File, dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    match link_fd(file, &dir, name) {
        // There is no /proc here; the other way wants a privilege of old kernels.
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Ok(rustix::fs::linkat(file, "", dir, name, AtFlags::EMPTY_PATH)?)
        }
        other => other,
    }
}

/// Removes a name that is not a directory's.
///
/// # Errors
/// The kernel's.
pub fn unlink_at(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::empty())?)
}

/// Removes an empty directory.
///
/// # Errors
/// The kernel's.
pub fn rmdir_at(dir: impl AsFd, name: &[u8]) -> io::Result<()> {
    Ok(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Renames; `flags` as `renameat2` has them.
///
/// # Errors
/// The kernel's.
pub fn rename_at(
    from_dir: impl AsFd,
    from: &[u8],
    to_dir: impl AsFd,
    to: &[u8],
    flags: u32,
) -> io::Result<()> {
    Ok(rustix::fs::renameat_with(from_dir, from, to_dir, to, RenameFlags::from_bits_retain(flags))?)
}

/// A name in a directory and its type bits (`S_IFMT`), as the directory tells them.
pub struct RawEntry {
    /// The name.
    pub name: Box<[u8]>,
    /// Inode number.
    pub ino: u64,
    /// `S_IFREG`, `S_IFDIR`, ….
    pub kind_bits: u32,
}

/// Returns the names in a directory, given by any descriptor of it, `.` and `..` excepted.
///
/// # Errors
/// The kernel's.
pub fn names_in(dir: impl AsFd) -> io::Result<NameList> {
    let entries = std::fs::read_dir(proc_path(dir))?;
    NameList::sorted(entries.map(|entry| Ok(entry?.file_name().into_vec())))
}

/// Returns all entries of a directory but `.` and `..`, in the order the file system gives.
///
/// # Errors
/// The kernel's.
pub fn list_dir(dir: impl AsFd) -> io::Result<Vec<RawEntry>> {
    let entries = std::fs::read_dir(proc_path(dir))?;
    entries
        .map(|entry| {
            let entry = entry?;
            let kind = entry.file_type()?;
            let kind_bits = match () {
                () if kind.is_file() => libc::S_IFREG,
                () if kind.is_dir() => libc::S_IFDIR,
                () if kind.is_symlink() => libc::S_IFLNK,
                () if kind.is_fifo() => libc::S_IFIFO,
                () if kind.is_socket() => libc::S_IFSOCK,
                () if kind.is_char_device() => libc::S_IFCHR,
                () => libc::S_IFBLK,
            };
            Ok(RawEntry { name: entry.file_name().as_bytes().into(), ino: entry.ino(), kind_bits })
        })
        .collect()
}
