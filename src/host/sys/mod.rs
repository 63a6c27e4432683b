//! The system calls that the standard library lacks.
//!
//! Every call names its object by a directory descriptor and one component, or by a descriptor alone; none follows
//! a symbolic link. Descriptors opened with `O_PATH` are named to path-taking calls as `/proc/self/fd/<n>`.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::format::path::NameList;

/// The longest relative path that is given to one `openat2`; deeper paths are opened in several steps.
const MAX_STEP_BYTES: usize = 3900;

/// `fcntl` command: which signal tells of a broken lease. Not in `libc` for all targets.
const F_SETSIG: libc::c_int = 10;

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_len(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A path by which calls that take no `O_PATH` descriptor reach its object.
fn proc_path(fd: RawFd) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).expect("digits hold no NUL")
}

/// The same for a name in a directory.
fn proc_child(dir: RawFd, name: &[u8]) -> io::Result<CString> {
    c_string(&[format!("/proc/self/fd/{dir}/").as_bytes(), name].concat())
}

/// What `stat` says of one object.
#[derive(Clone, Copy)]
pub struct Stat(libc::stat64);

impl Stat {
    /// Device number.
    pub fn dev(&self) -> u64 {
        self.0.st_dev
    }
    /// Inode number on that device.
    pub fn ino(&self) -> u64 {
        self.0.st_ino
    }
    /// Type and permission bits.
    pub fn mode(&self) -> u32 {
        self.0.st_mode
    }
    /// Only the file type bits.
    pub fn kind_bits(&self) -> u32 {
        self.0.st_mode & libc::S_IFMT
    }
    /// Only the permission bits, set-id and sticky bits included.
    pub fn perm(&self) -> u32 {
        self.0.st_mode & 0o7777
    }
    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind_bits() == libc::S_IFDIR
    }
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind_bits() == libc::S_IFREG
    }
    /// Hard links.
    #[allow(clippy::unnecessary_cast, reason = "the width differs between architectures")]
    pub fn nlink(&self) -> u64 {
        self.0.st_nlink as u64
    }
    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.0.st_size.max(0) as u64
    }
    /// 512-byte blocks.
    pub fn blocks(&self) -> u64 {
        self.0.st_blocks.max(0) as u64
    }
    /// Preferred length of I/O in bytes.
    pub fn blksize(&self) -> u32 {
        self.0.st_blksize as u32
    }
    /// Owner.
    pub fn uid(&self) -> u32 {
        self.0.st_uid
    }
    /// Group.
    pub fn gid(&self) -> u32 {
        self.0.st_gid
    }
    /// Device number of a special file.
    pub fn rdev(&self) -> u64 {
        self.0.st_rdev
    }
    /// Last access, seconds and nanoseconds.
    pub fn atime(&self) -> (i64, u32) {
        (self.0.st_atime, self.0.st_atime_nsec as u32)
    }
    /// Last change of content.
    pub fn mtime(&self) -> (i64, u32) {
        (self.0.st_mtime, self.0.st_mtime_nsec as u32)
    }
    /// Last change of the inode.
    pub fn ctime(&self) -> (i64, u32) {
        (self.0.st_ctime, self.0.st_ctime_nsec as u32)
    }
}

/// Opens `path` (components joined by `/`, any length) below `dir`; no component may be a symbolic link.
pub fn open_beneath(dir: RawFd, path: &[u8], flags: libc::c_int) -> io::Result<OwnedFd> {
    let mut at: Option<OwnedFd> = None;
    let mut rest = path;
    while rest.len() > MAX_STEP_BYTES {
        let cut = rest[..MAX_STEP_BYTES].iter().rposition(|b| *b == b'/');
        let cut = cut.ok_or_else(|| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?;
        let from = at.as_ref().map_or(dir, AsRawFd::as_raw_fd);
        at = Some(open_step(from, &rest[..cut], libc::O_PATH | libc::O_DIRECTORY)?);
        rest = &rest[cut + 1..];
    }
    open_step(at.as_ref().map_or(dir, AsRawFd::as_raw_fd), rest, flags)
}

fn open_step(dir: RawFd, path: &[u8], flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = c_string(if path.is_empty() { b"." } else { path })?;
    // SAFETY: open_how is plain integers, for which zero is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC | libc::O_NOFOLLOW) as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_XDEV;
    // SAFETY: path is NUL-terminated and how has the size that is passed; both outlive the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat2, dir, path.as_ptr(), &raw const how, size_of::<libc::open_how>())
    };
    // SAFETY: a non-negative result is a descriptor that nobody else owns.
    check(fd as libc::c_int).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens (or, with `O_CREAT`, makes) one name of a directory.
pub fn open_at(dir: RawFd, name: &[u8], flags: libc::c_int, mode: u32) -> io::Result<OwnedFd> {
    let name = c_string(name)?;
    // SAFETY: name is NUL-terminated and outlives the call.
    let fd = unsafe { libc::openat(dir, name.as_ptr(), flags | libc::O_CLOEXEC | libc::O_NOFOLLOW, mode) };
    // SAFETY: a non-negative result is a descriptor that nobody else owns.
    check(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens the object behind a descriptor (`O_PATH` or not) anew.
pub fn reopen(fd: RawFd, flags: libc::c_int) -> io::Result<OwnedFd> {
    let path = proc_path(fd);
    // SAFETY: path is NUL-terminated and outlives the call.
    let fd = unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) };
    // SAFETY: a non-negative result is a descriptor that nobody else owns.
    check(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `stat` of one name, links not followed. An empty name means the descriptor itself.
pub fn stat_at(dir: RawFd, name: &[u8]) -> io::Result<Stat> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let name = c_string(name)?;
    // SAFETY: stat64 is plain integers, for which zero is a valid value.
    let mut stat: libc::stat64 = unsafe { std::mem::zeroed() };
    // SAFETY: name is NUL-terminated, stat is writable, and both outlive the call.
    check(unsafe { libc::fstatat64(dir, name.as_ptr(), &raw mut stat, flags) }).map(|_| Stat(stat))
}

/// `stat` of a descriptor, `O_PATH` included.
pub fn stat_fd(fd: RawFd) -> io::Result<Stat> {
    stat_at(fd, b"")
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

/// Makes a directory.
pub fn mkdir_at(dir: RawFd, name: &[u8], mode: u32) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: name is NUL-terminated and outlives the call.
    check(unsafe { libc::mkdirat(dir, name.as_ptr(), mode) }).map(drop)
}

/// Makes a FIFO, socket or device.
pub fn mknod_at(dir: RawFd, name: &[u8], mode: u32, rdev: u64) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: name is NUL-terminated and outlives the call.
    check(unsafe { libc::mknodat(dir, name.as_ptr(), mode, rdev) }).map(drop)
}

/// Makes a symbolic link.
pub fn symlink_at(target: &[u8], dir: RawFd, name: &[u8]) -> io::Result<()> {
    let (target, name) = (c_string(target)?, c_string(name)?);
    // SAFETY: both texts are NUL-terminated and outlive the call.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir, name.as_ptr()) }).map(drop)
}

/// Reads a symbolic link's target; an empty name means the link that `dir` (an `O_PATH` descriptor) is.
pub fn readlink_at(dir: RawFd, name: &[u8]) -> io::Result<Vec<u8>> {
    let name = c_string(name)?;
    let mut buf = vec![0u8; 4096];
    // SAFETY: buf is writable for the length given and name is NUL-terminated; both outlive the call.
    let len = unsafe { libc::readlinkat(dir, name.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    buf.truncate(check_len(len)?);
    Ok(buf)
}

/// Gives the object behind a descriptor another name.
pub fn link_fd(fd: RawFd, to_dir: RawFd, to: &[u8]) -> io::Result<()> {
    let (from, to) = (proc_path(fd), c_string(to)?);
    // SAFETY: both names are NUL-terminated and outlive the call.
    let done =
        unsafe { libc::linkat(libc::AT_FDCWD, from.as_ptr(), to_dir, to.as_ptr(), libc::AT_SYMLINK_FOLLOW) };
    check(done).map(drop)
}

/// Removes a name that is not a directory's.
pub fn unlink_at(dir: RawFd, name: &[u8]) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: name is NUL-terminated and outlives the call.
    check(unsafe { libc::unlinkat(dir, name.as_ptr(), 0) }).map(drop)
}

/// Removes an empty directory.
pub fn rmdir_at(dir: RawFd, name: &[u8]) -> io::Result<()> {
    let name = c_string(name)?;
    // SAFETY: name is NUL-terminated and outlives the call.
    check(unsafe { libc::unlinkat(dir, name.as_ptr(), libc::AT_REMOVEDIR) }).map(drop)
}

/// `renameat2`.
pub fn rename_at(from_dir: RawFd, from: &[u8], to_dir: RawFd, to: &[u8], flags: u32) -> io::Result<()> {
    let (from, to) = (c_string(from)?, c_string(to)?);
    // SAFETY: both names are NUL-terminated and outlive the call.
    let done =
        unsafe { libc::syscall(libc::SYS_renameat2, from_dir, from.as_ptr(), to_dir, to.as_ptr(), flags) };
    check(done as libc::c_int).map(drop)
}

/// Changes permission bits.
pub fn chmod_fd(fd: RawFd, mode: u32) -> io::Result<()> {
    let path = proc_path(fd);
    // SAFETY: path is NUL-terminated and outlives the call.
    check(unsafe { libc::chmod(path.as_ptr(), mode) }).map(drop)
}

/// Changes owner and group; none leaves one as it is.
pub fn chown_at(dir: RawFd, name: &[u8], uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let name = c_string(name)?;
    let (uid, gid) = (uid.unwrap_or(u32::MAX), gid.unwrap_or(u32::MAX));
    // SAFETY: name is NUL-terminated and outlives the call.
    check(unsafe { libc::fchownat(dir, name.as_ptr(), uid, gid, flags) }).map(drop)
}

/// A time to be set on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeChange {
    /// Leave it.
    Keep,
    /// The kernel's present time.
    Now,
    /// Seconds and nanoseconds since the Unix epoch.
    To(i64, u32),
}

impl TimeChange {
    fn spec(self) -> libc::timespec {
        let (tv_sec, tv_nsec) = match self {
            TimeChange::Keep => (0, libc::UTIME_OMIT),
            TimeChange::Now => (0, libc::UTIME_NOW),
            TimeChange::To(seconds, nanos) => (seconds, nanos.into()),
        };
        libc::timespec { tv_sec, tv_nsec }
    }
}

/// Sets access and modification times.
pub fn utimens_fd(fd: RawFd, atime: TimeChange, mtime: TimeChange) -> io::Result<()> {
    let times = [atime.spec(), mtime.spec()];
    // SAFETY: the empty name and the two times outlive the call.
    check(unsafe { libc::utimensat(fd, c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH) }).map(drop)
}

/// Truncates or extends a regular file.
pub fn truncate_fd(fd: RawFd, size: u64) -> io::Result<()> {
    let path = proc_path(fd);
    let size = i64::try_from(size).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    // SAFETY: path is NUL-terminated and outlives the call.
    check(unsafe { libc::truncate64(path.as_ptr(), size) }).map(drop)
}

/// Reads an extended attribute of a name in a directory (links not followed); none if it is not there.
pub fn xattr_of_child(dir: RawFd, name: &[u8], attribute: &[u8]) -> io::Result<Option<Vec<u8>>> {
    get_xattr(&proc_child(dir, name)?, attribute, Links::Keep)
}

/// Reads an extended attribute of the object behind a descriptor; none if it is not there.
pub fn xattr(fd: RawFd, attribute: &[u8]) -> io::Result<Option<Vec<u8>>> {
    get_xattr(&proc_path(fd), attribute, Links::Follow)
}

#[derive(Clone, Copy)]
enum Links {
    /// The last component is itself the object.
    Keep,
    /// The last component is one of `/proc`'s links to a descriptor.
    Follow,
}

fn get_xattr(path: &CString, attribute: &[u8], links: Links) -> io::Result<Option<Vec<u8>>> {
    let attribute = c_string(attribute)?;
    let mut buf = vec![0u8; 1024];
    loop {
        let call = match links {
            Links::Keep => libc::lgetxattr,
            Links::Follow => libc::getxattr,
        };
        // SAFETY: buf is writable for the length given; both texts are NUL-terminated; all outlive the call.
        let len = unsafe { call(path.as_ptr(), attribute.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
        match check_len(len) {
            Ok(len) => {
                buf.truncate(len);
                return Ok(Some(buf));
            }
            Err(e) => match e.raw_os_error() {
                // 64 KiB is the kernel's own limit for a value.
                Some(libc::ERANGE) if buf.len() < 65_536 => buf.resize(65_536, 0),
                Some(libc::ENODATA | libc::EOPNOTSUPP) => return Ok(None),
                _ => return Err(e),
            },
        }
    }
}

/// Sets an extended attribute; `flags` as `setxattr` has them.
pub fn set_xattr(fd: RawFd, attribute: &[u8], value: &[u8], flags: libc::c_int) -> io::Result<()> {
    let (path, attribute) = (proc_path(fd), c_string(attribute)?);
    // SAFETY: value is readable for the length given; both texts are NUL-terminated; all outlive the call.
    let done = unsafe {
        libc::setxattr(path.as_ptr(), attribute.as_ptr(), value.as_ptr().cast(), value.len(), flags)
    };
    check(done).map(drop)
}

/// Removes an extended attribute; ENODATA if it is not there.
pub fn remove_xattr(fd: RawFd, attribute: &[u8]) -> io::Result<()> {
    let (path, attribute) = (proc_path(fd), c_string(attribute)?);
    // SAFETY: both texts are NUL-terminated and outlive the call.
    check(unsafe { libc::removexattr(path.as_ptr(), attribute.as_ptr()) }).map(drop)
}

/// The names of all extended attributes.
pub fn list_xattrs(fd: RawFd) -> io::Result<Vec<Vec<u8>>> {
    let path = proc_path(fd);
    // 64 KiB is the kernel's own limit for the list.
    let mut buf = vec![0u8; 65_536];
    // SAFETY: buf is writable for the length given and path is NUL-terminated; both outlive the call.
    let len = unsafe { libc::listxattr(path.as_ptr(), buf.as_mut_ptr().cast(), buf.len()) };
    buf.truncate(check_len(len)?);
    Ok(buf.split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect())
}

/// Reserves, punches or zeroes a range; `mode` as `fallocate` has it.
pub fn fallocate(file: &File, mode: libc::c_int, offset: u64, len: u64) -> io::Result<()> {
    let too_big = |_| io::Error::from_raw_os_error(libc::EFBIG);
    let (offset, len) = (i64::try_from(offset).map_err(too_big)?, i64::try_from(len).map_err(too_big)?);
    // SAFETY: the descriptor is open for the call and nothing else is passed by address.
    check(unsafe { libc::fallocate64(file.as_raw_fd(), mode, offset, len) }).map(drop)
}

/// `lseek`; the descriptor's own position is used by nobody.
pub fn lseek(file: &File, offset: i64, whence: libc::c_int) -> io::Result<u64> {
    // SAFETY: the descriptor is open for the call and nothing is passed by address.
    let at = unsafe { libc::lseek64(file.as_raw_fd(), offset, whence) };
    u64::try_from(at).map_err(|_| io::Error::last_os_error())
}

/// Where the next data of a file lies at or after `offset`; its end if only a hole follows. Where the file system
/// does not tell, that is `offset`. Moves the file's position.
pub fn next_data(file: &File, offset: u64) -> io::Result<u64> {
    let at = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    match lseek(file, at, libc::SEEK_DATA) {
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => Ok(file.metadata()?.len().max(offset)),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(offset),
        other => other,
    }
}

/// Where the next hole begins at or after `offset`: at the file's end, if not before. What cannot be asked has none.
pub fn next_hole(file: &File, offset: u64) -> io::Result<u64> {
    let at = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
    match lseek(file, at, libc::SEEK_HOLE) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENXIO | libc::EINVAL)) => {
            Ok(file.metadata()?.len().max(offset))
        }
        other => other,
    }
}

/// One `copy_file_range`.
pub fn copy_file_range(
    from: &File,
    from_offset: u64,
    to: &File,
    to_offset: u64,
    len: usize,
) -> io::Result<usize> {
    let (mut from_at, mut to_at) = (from_offset as i64, to_offset as i64);
    // SAFETY: both descriptors are open and both offsets are writable for the call.
    check_len(unsafe {
        libc::copy_file_range(from.as_raw_fd(), &raw mut from_at, to.as_raw_fd(), &raw mut to_at, len, 0)
    })
}

/// Does what needs permission to read and write an object of one's own, lifting the modes that forbid it for the
/// time being. Changes nothing where they do not.
pub fn insist<T>(fd: RawFd, act: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match act() {
        Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
            let perm = stat_fd(fd)?.perm();
            let needed = if stat_fd(fd)?.is_dir() { 0o700 } else { 0o600 };
            chmod_fd(fd, perm | needed)?;
            let done = act();
            chmod_fd(fd, perm)?;
            done
        }
        other => other,
    }
}

/// What `statfs` says of the file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsStat {
    /// Blocks of `block_bytes`.
    pub blocks: u64,
    /// Free ones.
    pub blocks_free: u64,
    /// Free ones for users other than root.
    pub blocks_available: u64,
    /// Inodes.
    pub files: u64,
    /// Free inodes.
    pub files_free: u64,
    /// Length of a block in bytes.
    pub block_bytes: u32,
    /// Longest name in bytes.
    pub max_name_bytes: u32,
}

/// `syncfs` of the file system that holds a descriptor.
pub fn sync_fs(fd: RawFd) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    match unsafe { libc::syncfs(fd) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The kernel's number for the kind of file system that holds a descriptor.
pub fn fs_magic(fd: RawFd) -> io::Result<i64> {
    // SAFETY: statfs64 is plain integers, for which zero is a valid value.
    let mut stat: libc::statfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open and the struct is writable for the call.
    match unsafe { libc::fstatfs64(fd, &raw mut stat) } {
        0 => Ok(stat.f_type),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `statfs` of the file system that holds a descriptor.
pub fn statfs(fd: RawFd) -> io::Result<FsStat> {
    // SAFETY: statvfs64 is plain integers, for which zero is a valid value.
    let mut stat: libc::statvfs64 = unsafe { std::mem::zeroed() };
    // SAFETY: stat is writable and outlives the call.
    check(unsafe { libc::fstatvfs64(fd, &raw mut stat) })?;
    Ok(FsStat {
        blocks: stat.f_blocks,
        blocks_free: stat.f_bfree,
        blocks_available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
        block_bytes: stat.f_frsize as u32,
        max_name_bytes: stat.f_namemax as u32,
    })
}

/// The real-time clock with all its nanoseconds.
pub fn realtime() -> (i64, u32) {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: now is writable and outlives the call, which cannot fail for this clock.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    (now.tv_sec, now.tv_nsec as u32)
}

/// The user and group that this process acts as.
pub fn own_ids() -> (u32, u32) {
    // SAFETY: these calls take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
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

/// The names in a directory, given by any descriptor of it.
pub fn names_in(dir: RawFd) -> io::Result<NameList> {
    let path = proc_path(dir);
    let entries = std::fs::read_dir(OsStr::from_bytes(path.as_bytes()))?;
    NameList::sorted(entries.map(|entry| Ok(entry?.file_name().into_vec())))
}

/// All names of a directory but `.` and `..`, in the order the file system gives.
pub fn list_dir(dir: RawFd) -> io::Result<Vec<RawEntry>> {
    use std::os::unix::fs::{DirEntryExt, FileTypeExt};
    let path = proc_path(dir);
    let path = Path::new(OsStr::from_bytes(path.as_bytes()));
    let entries = std::fs::read_dir(path)?;
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
