//! The contents of generated files that are kept for their readers.

use std::collections::VecDeque;
use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

use super::inode::NodeKey;

/// Generated files whose content is kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not 0");

/// Bytes of all kept contents together; they are on the disk of the state folder.
const MAX_KEPT_BYTES: u64 = 4 << 30;

/// Generated files whose numbers are remembered; older ones answer ESTALE.
const REMEMBERED: usize = 4096;

/// Contents of generated files, by inode. The locks are held for look-ups only.
#[derive(Debug)]
pub(super) struct GeneratedContents {
    contents: Mutex<LruCache<u64, (Arc<File>, u64)>>,
    /// The newest files' keys, oldest first: older ones are forgotten, so that polling does not add up.
    recent: Mutex<VecDeque<NodeKey>>,
}

impl Default for GeneratedContents {
    fn default() -> Self {
        Self { contents: Mutex::new(LruCache::new(KEPT)), recent: Mutex::default() }
    }
}

impl GeneratedContents {
    /// Remembers a new file's key. Returns one that is to be forgotten.
    pub fn add_recent(&self, key: NodeKey) -> Option<NodeKey> {
        let mut recent = self.recent.lock();
        recent.push_back(key);
        if recent.len() > REMEMBERED { recent.pop_front() } else { None }
    }

    /// Keeps a content, and drops those read least recently while all are larger than their limit.
    pub fn keep(&self, ino: u64, file: Arc<File>) {
        let size = file.metadata().map_or(0, |meta| meta.len());
        let mut contents = self.contents.lock();
        contents.put(ino, (file, size));
        while contents.len() > 1 && contents.iter().map(|(_, (_, size))| size).sum::<u64>() > MAX_KEPT_BYTES {
            contents.pop_lru();
        }
    }

    pub fn get(&self, ino: u64) -> Option<Arc<File>> {
        self.contents.lock().get(&ino).map(|(file, _)| file.clone())
    }
}
