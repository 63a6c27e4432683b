//! The entries of a manifest in order, in batches, checked to be a tree.

use std::sync::Arc;

use super::cursor::TreeCursor;
use super::tree::ManifestTree;
use crate::format::entry::{Entry, EntryBody};
use crate::format::path::{self, TreePath};
use crate::repo::view::error::ReadError;
use crate::repo::view::readahead::Access;

#[derive(Debug)]
enum LookupStart {
    Ordinal(u64),
    Path(Vec<u8>),
}

/// See the module's text.
#[derive(Debug)]
pub struct Entries {
    tree: Arc<ManifestTree>,
    start: LookupStart,
    cursor: Option<TreeCursor>,
    below: Option<TreePath>,
    /// The directories on the way to the last entry, when the tree is checked.
    parents: Option<Vec<TreePath>>,
}

impl Entries {
    /// All entries from a number on. From 0 on they are checked to be a tree.
    pub(crate) fn from(tree: &Arc<ManifestTree>, ordinal: u64) -> Self {
        let parents = (ordinal == 0).then(Vec::new);
        let start = LookupStart::Ordinal(ordinal);
        Self { tree: tree.clone(), start, cursor: None, below: None, parents }
    }

    /// All entries below a directory, at any depth.
    pub(crate) fn below(tree: &Arc<ManifestTree>, directory: &TreePath) -> Self {
        let start = LookupStart::Path([directory.as_bytes(), b"/"].concat());
        let (below, parents) = (Some(directory.clone()), Some(vec![directory.clone()]));
        Self { tree: tree.clone(), start, cursor: None, below, parents }
    }

    /// Returns the next entries with their ordinals, as many as one block holds; none at the end.
    ///
    /// # Errors
    /// A block is damaged or cannot be read now; an entry is in no directory.
    pub async fn next_batch(&mut self) -> Result<Vec<(u64, Entry)>, ReadError> {
        let tree = self.tree.clone();
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => match &self.start {
                LookupStart::Ordinal(ordinal) => {
                    TreeCursor::at_ordinal(&tree, *ordinal, Access::Scan).await?
                }
                LookupStart::Path(path) => TreeCursor::at_path(&tree, path, Access::Scan).await?,
            },
        };
        let mut out = vec![];
        let mut is_end = false;
        while let Some(path) = cursor.path(&tree)? {
            if self.below.as_ref().is_some_and(|dir| !path::is_below(path, dir.as_bytes())) {
                is_end = true;
                break;
            }
            let entry = cursor.entry(&tree)?;
            self.check_parent(&entry)?;
            out.push((cursor.ordinal(), entry));
            if !cursor.step() {
                break;
            }
        }
        if is_end {
            cursor.end();
        } else {
            cursor.settle(&tree).await?;
        }
        self.cursor = Some(cursor);
        Ok(out)
    }

    fn check_parent(&mut self, entry: &Entry) -> Result<(), ReadError> {
        let Some(parents) = &mut self.parents else { return Ok(()) };
        while parents.last().is_some_and(|dir| !entry.path.is_below(dir)) {
            parents.pop();
        }
        if entry.path.parent().as_ref() != parents.last() {
            let problem = format!("{:?} is not in any directory", entry.path);
            return Err(self.tree.origin.contradiction(problem));
        }
        if matches!(entry.body, EntryBody::Directory) {
            parents.push(entry.path.clone());
        }
        Ok(())
    }
}
