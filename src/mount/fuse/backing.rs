//! Passthrough: which open files the kernel reads and writes by itself.
//!
//! The kernel refuses (EIO) an open that differs in kind from the opens of the same inode that are alive, and a
//! second backing for one inode. So the kind is chosen at the first open, kept until the last release, and the one
//! backing is shared by all. A closed file that is still mapped counts as open: its release comes later.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fuser::{BackingId, FileHandle, FopenFlags, ReplyCreate, ReplyOpen};

use crate::mount::fs::{OpenMode, PassthroughFile};

/// The kinds of all open inodes. The lock is held while one open is answered, so that the kernel sees the answers
/// in the order in which the kinds were chosen; what is done under it takes microseconds.
#[derive(Debug)]
pub(super) struct Backings {
    /// Whether passthrough is granted: the kernel must support it, and the first try succeed (it needs privileges).
    enabled: AtomicBool,
    inodes: Mutex<HashMap<u64, OpenInode>>,
}

#[derive(Debug)]
struct OpenInode {
    kind: BackingKind,
    opens: u64,
    /// Whether it is a file of a version.
    immutable: bool,
}

#[derive(Debug, Clone)]
enum BackingKind {
    Passthrough(Arc<BackingId>),
    Cached,
    Direct,
}

/// The two replies that open a file.
pub(super) trait OpenReply {
    fn open_backing(&self, file: &dyn PassthroughFile) -> io::Result<BackingId>;
    fn passthrough(self, handle: FileHandle, flags: FopenFlags, backing: &BackingId);
    fn plain(self, handle: FileHandle, flags: FopenFlags);
}

impl OpenReply for ReplyOpen {
    fn open_backing(&self, file: &dyn PassthroughFile) -> io::Result<BackingId> {
        ReplyOpen::open_backing(self, file.as_fd())
    }

    fn passthrough(self, handle: FileHandle, flags: FopenFlags, backing: &BackingId) {
        self.opened_passthrough(handle, flags, backing);
    }

    fn plain(self, handle: FileHandle, flags: FopenFlags) {
        self.opened(handle, flags);
    }
}

/// The reply to a create, with the attributes of the new file.
pub(super) struct CreateReply {
    pub reply: ReplyCreate,
    pub ttl: std::time::Duration,
    pub attr: fuser::FileAttr,
}

impl OpenReply for CreateReply {
    fn open_backing(&self, file: &dyn PassthroughFile) -> io::Result<BackingId> {
        self.reply.open_backing(file.as_fd())
    }

    fn passthrough(self, handle: FileHandle, flags: FopenFlags, backing: &BackingId) {
        self.reply.created_passthrough(&self.ttl, &self.attr, fuser::Generation(0), handle, flags, backing);
    }

    fn plain(self, handle: FileHandle, flags: FopenFlags) {
        self.reply.created(&self.ttl, &self.attr, fuser::Generation(0), handle, flags);
    }
}

impl Backings {
    pub fn new(enabled: bool) -> Self {
        Self { enabled: AtomicBool::new(enabled), inodes: Mutex::default() }
    }

    /// Returns whether files are handed to the kernel.
    pub fn are_enabled(&self) -> bool {
        self.enabled.load(Ordering::Relaxed)
    }

    /// Replies to an open with the kind that the inode is already open in, or chooses one.
    pub fn answer(&self, ino: u64, handle: u64, mode: &OpenMode, extra: FopenFlags, reply: impl OpenReply) {
        let handle = FileHandle(handle);
        let mut inodes = self.inodes.lock();
        let kind = match inodes.get_mut(&ino) {
            Some(open) => {
                open.opens += 1;
                open.kind.clone()
            }
            None => {
                let kind = self.choose(mode, &reply);
                let immutable = matches!(mode, OpenMode::Local { immutable: true, .. });
                inodes.insert(ino, OpenInode { kind: kind.clone(), opens: 1, immutable });
                kind
            }
        };
        let keep = match mode {
            OpenMode::Local { immutable: true, .. } | OpenMode::Cached { immutable: true } => {
                FopenFlags::FOPEN_KEEP_CACHE
            }
            _ => FopenFlags::empty(),
        };
        match kind {
            // KEEP_CACHE with passthrough is answered EIO by the kernel.
            BackingKind::Passthrough(backing) => reply.passthrough(handle, extra, &backing),
            BackingKind::Cached => reply.plain(handle, extra | keep),
            BackingKind::Direct => reply.plain(handle, extra | FopenFlags::FOPEN_DIRECT_IO),
        }
    }

    fn choose(&self, mode: &OpenMode, reply: &impl OpenReply) -> BackingKind {
        match mode {
            OpenMode::Direct => BackingKind::Direct,
            OpenMode::Local { file, .. } if self.are_enabled() => match reply.open_backing(file.as_ref()) {
                Ok(backing) => BackingKind::Passthrough(Arc::new(backing)),
                Err(e) => {
                    let raw = e.raw_os_error();
                    if matches!(raw, Some(libc::EPERM | libc::EOPNOTSUPP | libc::ENOTTY | libc::ELOOP)) {
                        tracing::info!("files are served by the daemon, not by the kernel itself: {e}");
                        self.enabled.store(false, Ordering::Relaxed);
                    }
                    BackingKind::Cached
                }
            },
            OpenMode::Local { .. } | OpenMode::Cached { .. } => BackingKind::Cached,
        }
    }

    /// Counts a release. The backing of a version's file is returned with the last: the kernel may hold what left the
    /// cache by nothing else, and frees it when that is dropped. Staged files are held by their handles still.
    pub fn release(&self, ino: u64) -> Option<impl Send + use<>> {
        let mut inodes = self.inodes.lock();
        let open = inodes.get_mut(&ino)?;
        open.opens -= 1;
        if open.opens > 0 {
            return None;
        }
        let last = inodes.remove(&ino)?;
        drop(inodes);
        matches!((&last.kind, last.immutable), (BackingKind::Passthrough(_), true)).then_some(last)
    }
}
