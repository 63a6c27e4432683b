//! Callers, attributes, and changes of attributes.

use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::host::sys::Stat;
pub use crate::host::sys::{FsStat, TimeChange};

/// The process that makes a call; it owns the objects that the call makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Thread, 0 if not known.
    pub pid: u32,
}

/// The kind of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl FileKind {
    pub(super) fn from_bits(mode: u32) -> Self {
        match mode & libc::S_IFMT {
            libc::S_IFDIR => FileKind::Directory,
            libc::S_IFLNK => FileKind::Symlink,
            libc::S_IFIFO => FileKind::Fifo,
            libc::S_IFSOCK => FileKind::Socket,
            libc::S_IFCHR => FileKind::CharDevice,
            libc::S_IFBLK => FileKind::BlockDevice,
            _ => FileKind::File,
        }
    }

    pub(super) fn of(entry: &Entry) -> Self {
        match entry.body {
            EntryBody::File(_) | EntryBody::Reference(_) => FileKind::File,
            EntryBody::Directory | EntryBody::Contained(_) => FileKind::Directory,
            EntryBody::Symlink { .. } => FileKind::Symlink,
        }
    }
}

/// The attributes of an object in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attr {
    /// The node, which is also the inode number.
    pub ino: u64,
    /// What it is.
    pub kind: FileKind,
    /// Permission, set-id and sticky bits.
    pub perm: u32,
    /// Hard links; 1 for directories, 0 once removed.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a special file.
    pub rdev: u64,
    /// Length in bytes.
    pub size: u64,
    /// 512-byte blocks.
    pub blocks: u64,
    /// Preferred length of I/O in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Mtime,
    /// Last change of content.
    pub mtime: Mtime,
    /// Last change of the object.
    pub ctime: Mtime,
}

fn time((seconds, nanos): (i64, u32)) -> Mtime {
    Mtime { seconds, nanos }
}

impl Attr {
    pub(super) fn of_stat(ino: u64, stat: &Stat) -> Self {
        Self {
            ino,
            kind: FileKind::from_bits(stat.mode()),
            perm: stat.perm(),
            nlink: if stat.is_dir() { stat.nlink().min(1) as u32 } else { stat.nlink() as u32 },
            uid: stat.uid(),
            gid: stat.gid(),
            rdev: stat.rdev(),
            size: stat.size(),
            blocks: stat.blocks(),
            blksize: stat.blksize(),
            atime: time(stat.atime()),
            mtime: time(stat.mtime()),
            ctime: time(stat.ctime()),
        }
    }

    /// An object of the lower version, shown as the process's own.
    pub fn of_entry(ino: u64, entry: &Entry, (uid, gid): (u32, u32)) -> Self {
        let size = if entry.body.is_directory() { 4096 } else { entry.size() };
        Self {
            ino,
            kind: FileKind::of(entry),
            perm: entry.mode(),
            nlink: 1,
            uid,
            gid,
            rdev: 0,
            size,
            blocks: if entry.body.is_directory() { 8 } else { entry.data_bytes().div_ceil(512) },
            blksize: 4096,
            atime: entry.mtime,
            mtime: entry.mtime,
            ctime: entry.mtime,
        }
    }

    /// A stub: what is not true of its upper file comes from the entry it stands for.
    pub(super) fn with_stub(mut self, entry: &Entry) -> Self {
        self.size = entry.size();
        self.blocks = entry.data_bytes().div_ceil(512);
        self.mtime = entry.mtime;
        self
    }
}

/// The attributes that `setattr` changes; those that are none stay as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission, set-id and sticky bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: TimeChange,
    /// Last change of content.
    pub mtime: TimeChange,
}

impl Default for SetAttr {
    fn default() -> Self {
        Self {
            mode: None,
            uid: None,
            gid: None,
            size: None,
            atime: TimeChange::Keep,
            mtime: TimeChange::Keep,
        }
    }
}

/// Permission bits as a change of the content leaves them; set-group-id without group execution means something
/// else and stays.
pub fn without_set_id(perm: u32) -> u32 {
    let gid = if perm & libc::S_IXGRP != 0 { libc::S_ISGID } else { 0 };
    perm & !(libc::S_ISUID | gid)
}

/// One name of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name.
    pub name: Box<[u8]>,
    /// Its kind.
    pub kind: FileKind,
    /// Its inode number, where one is known; else [`UNKNOWN_INO`].
    pub ino: u64,
}

/// The inode number that a listing shows for what has not been looked up yet.
pub const UNKNOWN_INO: u64 = 0xffff_ffff;
