//! The immutable version below a session, and the bytes of its files.

use parking_lot::Mutex;
use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::Arc;

use lru::LruCache;

use super::error::LowerError;
use crate::format::entry::{Entry, Sought};
use crate::format::path::TreePath;

/// An immutable version seen through a session. Answers never change. Calls may block on the store; look-ups and
/// listings are asked for, and remembered, before a session's lock is taken (only a rename of a directory of the
/// version asks under it), and reads of open files never wait for that lock.
pub trait Lower: Send + Sync {
    /// Returns the version's entry at a path.
    ///
    /// # Errors
    /// The version cannot be read now; as for all calls here.
    fn find(&self, path: &TreePath) -> Result<Option<Entry>, LowerError>;
    /// Direct children of a directory (none: the root) whose names come after `after`, in name order: as many as are
    /// taken together, none at the end.
    ///
    /// # Errors
    /// As [`Self::find`].
    fn children_after(
        &self,
        directory: Option<&TreePath>,
        after: Option<&[u8]>,
    ) -> Result<Vec<Entry>, LowerError>;
    /// All direct children of a directory (none: the root), in name order.
    ///
    /// # Errors
    /// As [`Self::find`].
    fn children(&self, directory: Option<&TreePath>) -> Result<Vec<Entry>, LowerError> {
        let mut all: Vec<Entry> = Vec::new();
        loop {
            let page = self.children_after(directory, all.last().map(|entry| entry.path.file_name()))?;
            if page.is_empty() {
                return Ok(all);
            }
            all.extend(page);
        }
    }
    /// Everything below a directory (itself not included), in path order.
    ///
    /// # Errors
    /// As [`Self::find`].
    fn subtree(&self, directory: &TreePath) -> Result<Vec<Entry>, LowerError>;
}

/// The bytes of files that are staged without a local copy. Every session has it, because such a file may outlive the
/// version below the session.
pub trait LowerContent: Send + Sync {
    /// Writes the whole content to `dest`, an empty file extended to the right size; holes may stay holes.
    ///
    /// # Errors
    /// [`LowerError::Read`] if the content cannot be fetched or is damaged; [`LowerError::Io`] if `dest` cannot be
    /// written; [`LowerError::NotAFile`] for an entry that is no file.
    fn copy_out(&self, file: &Entry, dest: &File) -> Result<(), LowerError>;
    /// Reads at an offset; fewer bytes than asked for only at the end of the file.
    ///
    /// # Errors
    /// [`LowerError::Read`] if the bytes cannot be fetched or are damaged; [`LowerError::NotAFile`] for an entry that
    /// is no file.
    fn read(&self, file: &Entry, offset: u64, buf: &mut [u8]) -> Result<usize, LowerError>;
    /// The first byte from an offset within the file on that is sought; none if no data follows. A file of which
    /// nothing is known is data throughout.
    ///
    /// # Errors
    /// [`LowerError::Read`] if the file's list of chunks cannot be read.
    fn seek(&self, file: &Entry, offset: u64, sought: Sought) -> Result<Option<u64>, LowerError> {
        Ok(Some(if sought == Sought::Data { offset } else { file.size() }))
    }
}

/// Answers of [`Lower::find`] that are remembered: enough for those in flight, the store has its own cache.
const MAX_FOUND: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");
/// Listings that are remembered, and how long each may be.
const MAX_LISTED: NonZeroUsize = NonZeroUsize::new(8).expect("not zero");
const MAX_LISTING: usize = 50_000;

/// A lower version with its last answers. Both locks are leaves and not held while the version is asked.
pub(super) struct RememberedLower {
    lower: Arc<dyn Lower>,
    found: Mutex<LruCache<TreePath, Option<Entry>>>,
    listed: Mutex<LruCache<Option<TreePath>, Arc<Vec<Entry>>>>,
}

impl std::fmt::Debug for RememberedLower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remembered")
    }
}

impl RememberedLower {
    pub fn new(lower: Arc<dyn Lower>) -> Self {
        let (found, listed) = (LruCache::new(MAX_FOUND), LruCache::new(MAX_LISTED));
        Self { lower, found: Mutex::new(found), listed: Mutex::new(listed) }
    }

    pub fn find(&self, path: &TreePath) -> Result<Option<Entry>, LowerError> {
        if let Some(known) = self.found.lock().get(path) {
            return Ok(known.clone());
        }
        let answer = self.lower.find(path)?;
        self.found.lock().put(path.clone(), answer.clone());
        Ok(answer)
    }

    pub fn children(&self, directory: Option<&TreePath>) -> Result<Arc<Vec<Entry>>, LowerError> {
        let key = directory.cloned();
        if let Some(known) = self.listed.lock().get(&key) {
            return Ok(known.clone());
        }
        let answer = Arc::new(self.lower.children(directory)?);
        if answer.len() <= MAX_LISTING {
            self.listed.lock().put(key, answer.clone());
        }
        Ok(answer)
    }

    /// See [`Lower::children_after`]. Not remembered.
    pub fn children_after(
        &self,
        directory: Option<&TreePath>,
        after: Option<&[u8]>,
    ) -> Result<Vec<Entry>, LowerError> {
        self.lower.children_after(directory, after)
    }

    pub fn subtree(&self, directory: &TreePath) -> Result<Vec<Entry>, LowerError> {
        self.lower.subtree(directory)
    }
}
