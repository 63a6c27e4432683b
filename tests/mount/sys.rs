//! System calls that the standard library does not have.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn c(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).expect("no NUL in a test's path")
}

fn done(result: libc::c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub fn rename2(from: &Path, to: &Path, flags: u32) -> io::Result<()> {
    let (from, to) = (c(from), c(to));
    // SAFETY: both paths end with NUL.
    done(unsafe { libc::renameat2(libc::AT_FDCWD, from.as_ptr(), libc::AT_FDCWD, to.as_ptr(), flags) })
}

pub fn mknod(path: &Path, mode: u32, device: u64) -> io::Result<()> {
    let path = c(path);
    // SAFETY: the path ends with NUL.
    done(unsafe { libc::mknod(path.as_ptr(), mode, device) })
}

pub fn truncate(path: &Path, len: i64) -> io::Result<()> {
    let path = c(path);
    // SAFETY: the path ends with NUL.
    done(unsafe { libc::truncate(path.as_ptr(), len) })
}

/// What `statvfs` reports for a path: bytes of a block, blocks in all, free and free for users, longest name.
pub fn space(path: &Path) -> io::Result<[u64; 5]> {
    let path = c(path);
    // SAFETY: plain integers, for which zero is a valid value.
    let mut space: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with NUL, and the answer has the type that the call fills.
    done(unsafe { libc::statvfs(path.as_ptr(), &raw mut space) })?;
    Ok([space.f_frsize, space.f_blocks, space.f_bfree, space.f_bavail, space.f_namemax])
}

/// Sets both times to this second.
pub fn utime(path: &Path, seconds: i64) -> io::Result<()> {
    utime_exactly(path, seconds, 0)
}

/// Sets both times.
pub fn utime_exactly(path: &Path, seconds: i64, nanos: i64) -> io::Result<()> {
    let path = c(path);
    let time = libc::timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = [time, time];
    // SAFETY: the path ends with NUL, and two times are given.
    done(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), 0) })
}

pub fn setxattr(path: &Path, name: &str, value: &[u8]) -> io::Result<()> {
    let (path, name) = (c(path), c(name));
    let value_at = value.as_ptr().cast();
    // SAFETY: both strings end with NUL, and the value has the length given.
    done(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value_at, value.len(), 0) })
}

pub fn removexattr(path: &Path, name: &str) -> io::Result<()> {
    let (path, name) = (c(path), c(name));
    // SAFETY: both strings end with NUL.
    done(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) })
}

pub fn getxattr(path: &Path, name: &str) -> io::Result<String> {
    let (path, name) = (c(path), c(name));
    let mut value = vec![0; 64 << 10];
    // SAFETY: both strings end with NUL, and the buffer has the length given.
    let got = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(got).map_err(|_| io::Error::last_os_error())?);
    Ok(String::from_utf8(value).expect("a test's attributes are text"))
}

/// The sorted names of all attributes.
pub fn listxattr(path: &Path) -> io::Result<Vec<String>> {
    let path = c(path);
    let mut list = vec![0_u8; 64 << 10];
    // SAFETY: the path ends with NUL, and the buffer has the length given.
    let got = unsafe { libc::listxattr(path.as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    list.truncate(usize::try_from(got).map_err(|_| io::Error::last_os_error())?);
    let names = list.split(|b| *b == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> = names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    names.sort();
    Ok(names)
}

/// Lets the kernel drop what it keeps of a file's content.
pub fn forget_pages(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

pub fn lseek(file: &File, offset: i64, whence: i32) -> io::Result<i64> {
    // SAFETY: the descriptor is open.
    let found = unsafe { libc::lseek(file.as_raw_fd(), offset, whence) };
    if found == -1 { Err(io::Error::last_os_error()) } else { Ok(found) }
}

/// Opens below an open directory.
pub fn openat(directory: &File, name: &str, flags: i32) -> io::Result<()> {
    let name = c(name);
    // SAFETY: the descriptor is open and the name ends with NUL.
    let fd = unsafe { libc::openat(directory.as_raw_fd(), name.as_ptr(), flags, 0o644) };
    done(fd)?;
    // SAFETY: the descriptor was just made and is nobody else's.
    done(unsafe { libc::close(fd) })
}

/// A mapping of the first `len` bytes of a file.
pub struct Mapping {
    at: *mut u8,
    len: usize,
}

impl Mapping {
    pub fn shared(file: &File, len: usize, protection: i32) -> io::Result<Self> {
        // SAFETY: a new mapping at a place of the kernel's choice.
        let at = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self { at: at.cast(), len }) }
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for reading over the whole length; the tests change mapped files through the mapping only.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }

    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= self.len);
        // SAFETY: within the mapping, which the caller made writable.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.at.add(offset), bytes.len()) };
    }

    /// Bytes of it that are in the page cache.
    pub fn resident(&self) -> io::Result<usize> {
        const PAGE: usize = 4096;
        let mut pages = vec![0u8; self.len.div_ceil(PAGE)];
        // SAFETY: the mapping is there, and the answer has a byte for each of its pages.
        done(unsafe { libc::mincore(self.at.cast(), self.len, pages.as_mut_ptr()) })?;
        Ok(pages.iter().filter(|page| **page & 1 != 0).count() * PAGE)
    }

    pub fn sync(&self) -> io::Result<()> {
        // SAFETY: the mapping is there.
        done(unsafe { libc::msync(self.at.cast(), self.len, libc::MS_SYNC) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is there, and nothing refers to it any more.
        unsafe { libc::munmap(self.at.cast(), self.len) };
    }
}

/// Has the kernel drop a file's pages, as far as they are on its disk and not mapped.
pub fn drop_pages(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open for as long as `file` is borrowed; no memory is passed.
    match unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// A POSIX lock on the whole file: `F_WRLCK`, `F_RDLCK` or `F_UNLCK`, without waiting.
pub fn posix_lock(file: &File, kind: i32) -> io::Result<()> {
    // SAFETY: all-zero is a valid value of this plain struct.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    // SAFETY: the descriptor is open, and the struct is of the type that the command takes.
    done(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLK, &raw const lock) })
}

/// A BSD lock: `LOCK_EX`, `LOCK_SH` or `LOCK_UN`, without waiting.
pub fn flock(file: &File, operation: i32) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    done(unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) })
}

/// Mounts a file system in memory.
pub fn mount_tmpfs(at: &Path, options: &str) -> io::Result<()> {
    let (at, options, kind) = (c(at), c(options), c("tmpfs"));
    // SAFETY: all strings end with NUL.
    done(unsafe { libc::mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast()) })
}

/// Takes a mount away, lazily.
pub fn umount(at: &Path) -> io::Result<()> {
    let at = c(at);
    // SAFETY: the path ends with NUL.
    done(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) })
}

/// Shows a directory in a second place.
pub fn bind_mount(from: &Path, at: &Path) -> io::Result<()> {
    let (from, at) = (c(from), c(at));
    let none = std::ptr::null();
    // SAFETY: both paths end with NUL; a bind mount takes neither type nor data.
    done(unsafe { libc::mount(from.as_ptr(), at.as_ptr(), none, libc::MS_BIND, none.cast()) })
}
