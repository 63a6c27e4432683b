//! A range of a version as the leaf blocks that hold it, for a commit that reuses whole blocks.

use std::ops::Range;
use std::sync::Arc;

use super::cursor::TreeCursor;
use super::tree::{BEHIND_SUBTREE, ManifestTree};
use crate::format::entry::Entry;
use crate::format::manifest::{Block, IndexRow};
use crate::format::path::TreePath;
use crate::repo::view::error::ReadError;
use crate::repo::view::readahead::Access;

/// Where a range of a version begins or ends: before everything whose path is not before these bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound(Vec<u8>);

impl Bound {
    /// Before everything in a directory; none is the root.
    pub fn begin_of(directory: Option<&TreePath>) -> Self {
        Self(directory.map_or_else(Vec::new, |directory| [directory.as_bytes(), b"/"].concat()))
    }

    /// Before a child of a directory.
    pub fn before(directory: Option<&TreePath>, name: &[u8]) -> Self {
        Self([&Self::begin_of(directory).0, name].concat())
    }

    /// Behind a child of a directory, and all below it.
    pub fn behind(directory: Option<&TreePath>, name: &[u8]) -> Self {
        Self([&Self::before(directory, name).0[..], &[BEHIND_SUBTREE]].concat())
    }

    /// Behind everything in a directory; none if that is the root, behind which there is nothing.
    pub fn end_of(directory: Option<&TreePath>) -> Option<Self> {
        directory.map(|directory| Self([directory.as_bytes(), &[BEHIND_SUBTREE]].concat()))
    }

    /// Returns the bound as bytes, for storing it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The inverse of [`Bound::as_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// A leaf block, or the part of it that is in a range.
#[derive(Debug)]
pub struct Leaf {
    block: Block,
    rows: Range<usize>,
    /// The index row that names the block; none for the top one.
    row: Option<IndexRow>,
}

impl Leaf {
    /// Returns the block and the row that names it, if it is a block of its own and all of it is in the range.
    pub fn whole(&self) -> Option<(&Block, &IndexRow)> {
        let is_whole = self.rows == (0..self.block.len());
        self.row.as_ref().filter(|_| is_whole).map(|row| (&self.block, row))
    }

    /// The numbers of its entries in the block.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }
}

/// Reads the leaves of a range in order.
#[derive(Debug)]
pub struct Leaves {
    tree: Arc<ManifestTree>,
    from: Bound,
    to: Option<Bound>,
    cursor: Option<TreeCursor>,
}

impl Leaves {
    pub(crate) fn new(tree: &Arc<ManifestTree>, from: &Bound, to: Option<&Bound>) -> Self {
        Self { tree: tree.clone(), from: from.clone(), to: to.cloned(), cursor: None }
    }

    /// Returns the next leaf with entries of the range; none at its end. Cost: a block that is not in the cache, many of
    /// them in one request.
    ///
    /// # Errors
    /// A block is damaged, or cannot be read now.
    pub async fn next(&mut self) -> Result<Option<Leaf>, ReadError> {
        let tree = &self.tree;
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => TreeCursor::at_path(tree, &self.from.0, Access::Scan).await?,
        };
        let Some((block, first, row)) = cursor.leaf(tree)? else { return Ok(None) };
        let end = match &self.to {
            None => block.len(),
            Some(to) => block.lower_bound(&to.0).map_err(|e| tree.origin.damaged(e))?,
        };
        if end < block.len() {
            cursor.end();
        } else {
            cursor.skip_leaf(tree).await?;
        }
        self.cursor = Some(cursor);
        Ok((first < end).then_some(Leaf { block, rows: first..end, row }))
    }

    /// Returns an entry of a leaf.
    ///
    /// # Errors
    /// The leaf is damaged there.
    pub fn entry(&self, leaf: &Leaf, row: usize) -> Result<Entry, ReadError> {
        leaf.block.entry(row).map_err(|e| self.tree.origin.damaged(e))
    }
}
