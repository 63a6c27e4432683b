//! Files whose chunks are as committed and whose whole is not: no reader is given anything of them, whichever way it
//! comes.

use parking_lot::Mutex;
use std::num::NonZeroUsize;

use lru::LruCache;

use crate::format::entry::{FileBody, FileBytes};
use crate::format::id::FileHash;
use crate::repo::view::error::ReadError;

/// CondemnedFiles files that are remembered; a forgotten one is found out again when it is read.
const MAX_CONDEMNED: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// Names a content: files with the same key have the same bytes, cut into the same chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ContentKey {
    hash: FileHash,
    size: u64,
    chunks: [u8; 32],
}

impl ContentKey {
    pub fn of(body: &FileBody) -> Self {
        let mut hasher = blake3::Hasher::new();
        if let FileBytes::Chunks { level, refs } = &body.content {
            hasher.update(&[*level]);
            for chunk in refs {
                hasher.update(chunk.id.as_bytes());
            }
        }
        Self { hash: body.hash, size: body.size, chunks: *hasher.finalize().as_bytes() }
    }
}

/// See the module's text. A key names the chunks, so a verdict never changes.
#[derive(Debug)]
pub(crate) struct CondemnedFiles(Mutex<LruCache<ContentKey, ReadError>>);

impl Default for CondemnedFiles {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_CONDEMNED)))
    }
}

impl CondemnedFiles {
    /// Returns why nothing of a file is given out; none if nothing is known against it.
    pub fn get(&self, key: &ContentKey) -> Option<ReadError> {
        self.0.lock().get(key).cloned()
    }

    /// Gives out nothing of a file from now on.
    pub fn add(&self, key: ContentKey, error: ReadError) {
        self.0.lock().put(key, error);
    }
}
