//! What a session stands on: an immutable version below it, and the bytes of that version's files.

use std::fs::File;
use std::io;

use crate::format::entry::{Entry, FileBody};
use crate::path::TreePath;

/// An immutable version seen through a session. Calls may block on the store; none is made under a lock that a
/// read needs, and answers never change.
pub trait Lower: Send + Sync {
    /// What the version has at a path.
    fn find(&self, path: &TreePath) -> io::Result<Option<Entry>>;
    /// The direct children of a directory (none: the root), in name order.
    fn children(&self, directory: Option<&TreePath>) -> io::Result<Vec<Entry>>;
    /// Everything below a directory (itself not included), in path order.
    fn subtree(&self, directory: &TreePath) -> io::Result<Vec<Entry>>;
}

/// Where the bytes of files come from that are staged without a local copy. Given to every session, because such a
/// file may outlive the session's lower.
pub trait Content: Send + Sync {
    /// Writes the whole content to `dest`, an empty file extended to the right size; holes may stay holes.
    fn copy_out(&self, file: &FileBody, dest: &File) -> io::Result<()>;
    /// Reads at an offset; fewer bytes than asked for only at the end of the file.
    fn read(&self, file: &FileBody, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
}
