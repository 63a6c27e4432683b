//! Reading what nobody opened: on mounts where the kernel opens files by itself, a read names the inode alone.

use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use lru::LruCache;

use super::inode::{GeneratedNode, Resolved};
use super::{Errno, Fs, OpenVersionFile, Result};
use crate::mount::staging::Caller;

/// Files held open between reads: those that many readers go through at once. Each holds a descriptor.
const HELD: NonZeroUsize = NonZeroUsize::new(256).expect("256 is not 0");

/// Files that were read lately, by inode. The lock is held for look-ups only.
pub(super) struct Unopened(Mutex<LruCache<u64, OpenVersionFile>>);

impl Default for Unopened {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(HELD)))
    }
}

impl Fs {
    /// Reads from a file that was not opened; fewer bytes than asked for only at its end. Nothing but files of
    /// versions and of `.artfs` can be read so.
    pub async fn read_unopened(
        self: &Arc<Self>,
        caller: Caller,
        ino: u64,
        offset: u64,
        len: u32,
    ) -> Result<Bytes> {
        let known = self.unopened.0.lock().get(&ino).cloned();
        let file = match known {
            Some(file) => file,
            None => {
                let file = self.file_of(caller, ino).await?;
                let mut held = self.unopened.0.lock();
                let last = held.push(ino, file.clone());
                drop(held);
                if let Some((_, last)) = last {
                    self.let_go(last);
                }
                file
            }
        };
        file.read(offset, len).await
    }

    async fn file_of(self: &Arc<Self>, caller: Caller, ino: u64) -> Result<OpenVersionFile> {
        match self.resolve(ino)? {
            Resolved::Node(GeneratedNode::Generated(file)) => {
                Ok(OpenVersionFile::Generated(self.generated_content(caller, ino, &file).await?))
            }
            Resolved::Version(version, Some(ordinal)) => self.version_file(&version, ordinal).await,
            Resolved::Node(_) | Resolved::Version(_, None) => Err(Errno(libc::EISDIR)),
            Resolved::Session(_) => Err(Errno(libc::EBADF)),
        }
    }
}
