//! `stat`.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::AtFlags;

/// The answer of `stat` for one object.
#[derive(Clone, Copy)]
pub struct Stat(rustix::fs::Stat);

#[allow(clippy::unnecessary_cast, reason = "the widths differ between architectures")]
impl Stat {
    /// Device number.
    pub fn dev(&self) -> u64 {
        self.0.st_dev as u64
    }
    /// Inode number on that device.
    pub fn ino(&self) -> u64 {
        self.0.st_ino as u64
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
        self.0.st_rdev as u64
    }
    /// Last access, seconds and nanoseconds.
    pub fn atime(&self) -> (i64, u32) {
        (self.0.st_atime as i64, self.0.st_atime_nsec as u32)
    }
    /// Last change of content.
    pub fn mtime(&self) -> (i64, u32) {
        (self.0.st_mtime as i64, self.0.st_mtime_nsec as u32)
    }
    /// Last change of the inode.
    pub fn ctime(&self) -> (i64, u32) {
        (self.0.st_ctime as i64, self.0.st_ctime_nsec as u32)
    }
}

/// Returns the `stat` of one name, links not followed. An empty name means the descriptor itself.
///
/// # Errors
/// The kernel's; ENOENT if the name is not there.
pub fn stat_at(dir: impl AsFd, name: &[u8]) -> io::Result<Stat> {
    Ok(Stat(rustix::fs::statat(dir, name, at_flags(name))?))
}

/// Returns the `stat` of a descriptor, `O_PATH` included.
///
/// # Errors
/// The kernel's.
pub fn stat_fd(fd: impl AsFd) -> io::Result<Stat> {
    stat_at(fd, b"")
}

/// Flags by which an empty name means the descriptor itself.
pub(super) fn at_flags(name: &[u8]) -> AtFlags {
    match name {
        [] => AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH,
        _ => AtFlags::SYMLINK_NOFOLLOW,
    }
}
