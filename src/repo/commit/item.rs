//! The entries of a tree as a commit takes them in.

use super::error::CommitError;
use super::own_bytes::OwnBytes;
use super::unchanged_range::UnchangedRange;
use crate::format::entry::{Entry, EntryBody, Mtime};
use crate::format::path::TreePath;

/// Takes the entries of a tree, one after the other.
pub type TreeVisitor<'a> = &'a mut dyn FnMut(TreeItem) -> Result<(), CommitError>;

/// One path of the tree that is to become a version.
#[derive(Debug)]
pub struct TreeItem {
    /// Its path in the version.
    pub path: TreePath,
    /// Whether a file may be executed.
    pub executable: bool,
    /// When it was modified.
    pub mtime: Mtime,
    /// What the path holds.
    pub what: ItemBody,
}

/// What a path of the tree holds.
#[derive(Debug)]
pub enum ItemBody {
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Symlink(Box<[u8]>),
    /// A file, read from its beginning to its end. If it changes before, its mode and time are read again, too.
    File(OwnBytes),
    /// A file whose content is known to be that of this entry. Nothing is read, unless a collection deleted what the
    /// entry refers to; then its own bytes are, if it has any.
    Known(Box<Entry>, Option<OwnBytes>),
    /// The entry of a version at this path, and those behind it up to the end of the range, all unchanged.
    Unchanged(UnchangedRange),
}

impl TreeItem {
    /// Returns the item for a range of unchanged entries; none if the range is empty. Waits for the store; not called
    /// from within the runtime.
    ///
    /// # Errors
    /// [`CommitError::Read`] if the range's first block cannot be read.
    pub fn unchanged(range: UnchangedRange) -> Result<Option<Self>, CommitError> {
        let Some(Entry { path, executable, mtime, .. }) = range.leaves().first_entry()? else {
            return Ok(None);
        };
        Ok(Some(Self { path, executable, mtime, what: ItemBody::Unchanged(range) }))
    }

    /// Gives the entries of an unchanged range one by one, and any other item as it is.
    pub(super) fn expand(self, visit: TreeVisitor<'_>) -> Result<(), CommitError> {
        let ItemBody::Unchanged(range) = &self.what else { return visit(self) };
        range.leaves().entries(&mut |entry| {
            let (path, executable, mtime) = (entry.path.clone(), entry.executable, entry.mtime);
            let what = match entry.body {
                EntryBody::Directory => ItemBody::Directory,
                _ => ItemBody::Known(Box::new(entry), None),
            };
            visit(TreeItem { path, executable, mtime, what })
        })
    }
}
