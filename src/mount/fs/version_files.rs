//! Open files of versions and of `.artfs` directories.
//!
//! On mounts where the kernel opens files by itself, a read names the inode alone; such files are kept open between
//! reads.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use super::errno::{Errno, Result};
use super::generated::GeneratedFiles;
use super::generated_file::GeneratedFile;
use super::inode::{GeneratedNode, Inodes, Resolved};
use super::lineage::LineageRecorder;
use super::open_version_file::OpenVersionFile;
use super::page_cache::Paged;
use super::reply::{OpenMode, OpenedFile};
use super::version_node::VersionNode;
use super::versions::VersionTrees;
use crate::format::id::ManifestId;
use crate::format::name::ArtifactKey;
use crate::mount::staging::Caller;

/// Files of a version from this size on are handed to the kernel whole. Smaller ones open faster without, and stay in
/// the page cache: after a read of a handed-over file the kernel asks for its times again.
const PASSTHROUGH_MIN_BYTES: u64 = 1 << 20;
/// The same on a read-only mount, where the kernel does not ask: there a scan is faster without copies by the daemon.
const READ_ONLY_PASSTHROUGH_MIN_BYTES: u64 = 32 << 10;
/// Files held open between reads that name no handle: those that many readers go through at once. Each holds a
/// descriptor.
const HELD: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not 0");

/// The open files of versions, by handle. The locks are held for look-ups only.
pub(super) struct VersionFiles {
    inodes: Arc<Inodes>,
    versions: Arc<VersionTrees>,
    generated: Arc<GeneratedFiles>,
    lineage: Arc<LineageRecorder>,
    /// The size from which files are handed to the kernel.
    passthrough_min_bytes: u64,
    runtime: tokio::runtime::Handle,
    open: Mutex<HashMap<u64, OpenVersionFile>>,
    /// Files read without a handle, by inode.
    held: Mutex<LruCache<u64, OpenVersionFile>>,
    paged: Paged,
}

impl VersionFiles {
    pub fn new(
        inodes: Arc<Inodes>,
        versions: Arc<VersionTrees>,
        generated: Arc<GeneratedFiles>,
        lineage: Arc<LineageRecorder>,
        read_only: bool,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let passthrough_min_bytes =
            if read_only { READ_ONLY_PASSTHROUGH_MIN_BYTES } else { PASSTHROUGH_MIN_BYTES };
        Self {
            inodes,
            versions,
            generated,
            lineage,
            passthrough_min_bytes,
            runtime,
            open: Mutex::default(),
            held: Mutex::new(LruCache::new(HELD)),
            paged: Paged::default(),
        }
    }

    /// Opens the entry of a version at `ordinal`.
    pub async fn open(&self, caller: Caller, version: &Arc<VersionNode>, ordinal: u64) -> Result<OpenedFile> {
        let open = self.versions.open_file(version, ordinal).await?;
        let is_paged = || self.paged.has(version.ino(ordinal), open.size());
        let whole = match &open {
            OpenVersionFile::Content(content, _)
                if content.size() >= self.passthrough_min_bytes && !is_paged() =>
            {
                content.whole().await
            }
            _ => None,
        };
        let mode = match whole {
            Some(file) => OpenMode::Local { file: Arc::new(file), immutable: true },
            // A reference is looked up again at every open: its source may change.
            None => OpenMode::Cached { immutable: matches!(open, OpenVersionFile::Content(..)) },
        };
        self.lineage.note_read(caller, version, ordinal, open.size()).await;
        Ok(OpenedFile { handle: self.add(open), mode })
    }

    /// Opens a generated file.
    pub async fn open_generated(&self, caller: Caller, ino: u64, file: &GeneratedFile) -> Result<OpenedFile> {
        let content = self.generated.content(caller, ino, file).await?;
        Ok(OpenedFile { handle: self.add(OpenVersionFile::Generated(content)), mode: OpenMode::Direct })
    }

    fn add(&self, open: OpenVersionFile) -> u64 {
        let handle = self.inodes.next();
        self.open.lock().insert(handle, open);
        handle
    }

    /// Closes a file.
    pub fn release(&self, handle: u64) {
        let closed = self.open.lock().remove(&handle);
        if let Some(closed) = closed {
            self.close(closed);
        }
    }

    /// Closes a file. A large one may be the last hold of what left the cache: it is freed where nobody waits.
    fn close(&self, closed: OpenVersionFile) {
        if closed.size() >= PASSTHROUGH_MIN_BYTES {
            self.runtime.spawn_blocking(move || drop(closed));
        }
    }

    /// Reads from an open file; fewer bytes than asked for only at its end.
    pub async fn read(&self, ino: u64, handle: u64, offset: u64, len: u32) -> Result<Bytes> {
        let open = self.open.lock().get(&handle).cloned();
        let open = open.ok_or(Errno(libc::EBADF))?;
        let bytes = open.read(offset, len).await?;
        if matches!(open, OpenVersionFile::Content(..)) && open.size() >= PASSTHROUGH_MIN_BYTES {
            self.paged.note_read(ino, bytes.len() as u64);
        }
        Ok(bytes)
    }

    /// Reads from a file that was not opened; fewer bytes than asked for only at its end. Only files of versions and
    /// of `.artfs` can be read so.
    pub async fn read_unopened(&self, caller: Caller, ino: u64, offset: u64, len: u32) -> Result<Bytes> {
        let known = self.held.lock().get(&ino).cloned();
        let file = match known {
            Some(file) => file,
            None => {
                let file = self.file_of(caller, ino).await?;
                let dropped = self.held.lock().push(ino, file.clone());
                if let Some((_, dropped)) = dropped {
                    self.close(dropped);
                }
                file
            }
        };
        file.read(offset, len).await
    }

    async fn file_of(&self, caller: Caller, ino: u64) -> Result<OpenVersionFile> {
        match self.inodes.resolve(ino)? {
            Resolved::Node(GeneratedNode::Generated(file)) => {
                Ok(OpenVersionFile::Generated(self.generated.content(caller, ino, &file).await?))
            }
            Resolved::Version(version, Some(ordinal)) => self.versions.open_file(&version, ordinal).await,
            Resolved::Node(_) | Resolved::Version(_, None) => Err(Errno(libc::EISDIR)),
            Resolved::Session(_) => Err(Errno(libc::EBADF)),
        }
    }

    /// The kernel has dropped an inode, and its pages.
    pub fn forget(&self, ino: u64) {
        self.paged.forget(ino);
    }

    /// The versions of which a file is open.
    pub fn versions(&self) -> Vec<(ArtifactKey, ManifestId)> {
        self.open.lock().values().filter_map(OpenVersionFile::version).map(|version| version.key()).collect()
    }
}
