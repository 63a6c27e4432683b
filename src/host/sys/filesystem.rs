//! The file system that holds a descriptor or a path.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// The answer of `statvfs` for a file system.
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

/// Space on a file system in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total_bytes: u64,
    /// Left for this user.
    pub free_bytes: u64,
}

/// Returns blocks and inodes of the file system that holds a descriptor.
///
/// # Errors
/// The kernel's.
pub fn statfs(fd: impl AsFd) -> io::Result<FsStat> {
    let stat = rustix::fs::fstatvfs(fd)?;
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

/// Returns the space of the file system that holds `path`. On a FUSE mount the daemon is asked, so a dead one answers
/// ENOTCONN.
///
/// # Errors
/// The kernel's.
pub fn space(path: &Path) -> io::Result<Space> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(Space {
        total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

/// Returns the kernel's number for the kind of file system that holds a descriptor.
///
/// # Errors
/// The kernel's.
pub fn fs_magic(fd: impl AsFd) -> io::Result<i64> {
    Ok(rustix::fs::fstatfs(fd)?.f_type)
}

/// Writes everything of the file system that holds a descriptor through to its disk.
///
/// # Errors
/// The kernel's; EIO if something could not be written since the last call.
pub fn sync_fs(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fd)?)
}
