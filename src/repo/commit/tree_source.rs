//! The interface through which a commit reads its tree.

use super::error::CommitError;
use super::item::TreeVisitor;

/// A tree that a commit can read: local directories ([`super::LocalTree`]), a staging session, or any closure that
/// takes a [`TreeVisitor`].
///
/// A commit walks its tree once as a rule, under a quota up to three times, and again after each collection that
/// overtook it. A tree may change between two walks; the version is what the last one gave.
///
/// ```
/// use artfs::format::{entry::Mtime, path::TreePath};
/// use artfs::repo::commit::{CommitError, ItemBody, TreeItem, TreeSource, TreeVisitor};
///
/// /// Empty directories, given in path order.
/// struct Directories(Vec<TreePath>);
///
/// impl TreeSource for Directories {
///     fn walk(&self, visit: TreeVisitor<'_>) -> Result<(), CommitError> {
///         self.0.iter().try_for_each(|path| {
///             let mtime = Mtime::default();
///             visit(TreeItem { path: path.clone(), executable: false, mtime, what: ItemBody::Directory })
///         })
///     }
/// }
///
/// let tree = Directories(vec![TreePath::new(*b"logs")?, TreePath::new(*b"logs/first")?]);
/// let mut visited = vec![];
/// tree.walk(&mut |item| Ok(visited.push(item.path.to_string())))?;
/// assert_eq!(visited, ["logs", "logs/first"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait TreeSource: Send + Sync {
    /// Gives every entry to `visit` in path order, each directory before what is in it.
    ///
    /// Called on a thread that may block, outside of the runtime.
    ///
    /// # Errors
    /// The visitor's error, passed on at once; otherwise why the tree cannot be read, as [`CommitError::Tree`] if the
    /// source has an error type of its own.
    fn walk(&self, visit: TreeVisitor<'_>) -> Result<(), CommitError>;
}

impl<F> TreeSource for F
where
    F: Fn(TreeVisitor<'_>) -> Result<(), CommitError> + Send + Sync,
{
    fn walk(&self, visit: TreeVisitor<'_>) -> Result<(), CommitError> {
        self(visit)
    }
}
