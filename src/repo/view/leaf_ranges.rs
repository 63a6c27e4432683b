//! A stretch of a version as the leaf blocks that hold it, for who takes blocks as a whole.

use std::ops::Range;
use std::sync::Arc;

use super::ahead::Ahead;
use super::cursor::TreeCursor;
use super::error::ReadError;
use super::version::{BEHIND_SUBTREE, VersionView};
use crate::format::entry::Entry;
use crate::format::manifest::{Block, IndexRow};
use crate::format::path::TreePath;

/// Where a stretch of a version begins or ends: before everything whose path is not before these bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound(Vec<u8>);

impl Bound {
    /// Before all that is in a directory; none is the root.
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

    /// Behind all that is in a directory; none if that is the root, behind which there is nothing.
    pub fn end_of(directory: Option<&TreePath>) -> Option<Self> {
        directory.map(|directory| Self([directory.as_bytes(), &[BEHIND_SUBTREE]].concat()))
    }

    /// As bytes, to be kept.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The inverse of [`Bound::as_bytes`].
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

/// A leaf block, or that part of it that is in a stretch.
#[derive(Debug)]
pub struct Leaf {
    block: Block,
    rows: Range<usize>,
    /// What names the block; none for the top one.
    row: Option<IndexRow>,
}

impl Leaf {
    /// The block and what names it, if it is a block of its own and in the stretch as a whole.
    pub fn whole(&self) -> Option<(&Block, &IndexRow)> {
        let is_whole = self.rows == (0..self.block.len());
        self.row.as_ref().filter(|_| is_whole).map(|row| (&self.block, row))
    }

    /// The numbers of its entries in the block.
    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }
}

/// Reads the leaves of a stretch in order.
#[derive(Debug)]
pub struct Leaves {
    view: Arc<VersionView>,
    from: Bound,
    to: Option<Bound>,
    cursor: Option<TreeCursor>,
}

impl VersionView {
    /// The leaves from one place on up to another (none: the end). Sends nothing yet.
    pub fn leaves(self: &Arc<Self>, from: &Bound, to: Option<&Bound>) -> Leaves {
        Leaves { view: self.clone(), from: from.clone(), to: to.cloned(), cursor: None }
    }

    /// The path of the first entry that is not before a place. Cost: as of [`VersionView::find`].
    pub async fn first_from(&self, from: &Bound) -> Result<Option<TreePath>, ReadError> {
        let cursor = TreeCursor::at_path(self, &from.0, Ahead::Few).await?;
        match cursor.path(self)? {
            None => Ok(None),
            Some(_) => cursor.entry(self).map(|entry| Some(entry.path)),
        }
    }
}

impl Leaves {
    /// The next leaf with entries of the stretch; none at its end. Cost: a block that is not in the cache, many of
    /// them in one request.
    pub async fn next(&mut self) -> Result<Option<Leaf>, ReadError> {
        let view = &self.view;
        let mut cursor = match self.cursor.take() {
            Some(cursor) => cursor,
            None => TreeCursor::at_path(view, &self.from.0, Ahead::Many).await?,
        };
        let Some((block, first, row)) = cursor.leaf(view)? else { return Ok(None) };
        let end = match &self.to {
            None => block.len(),
            Some(to) => block.lower_bound(&to.0).map_err(|e| view.origin.damaged(&e))?,
        };
        if end < block.len() {
            cursor.end();
        } else {
            cursor.skip_leaf(view).await?;
        }
        self.cursor = Some(cursor);
        Ok((first < end).then_some(Leaf { block, rows: first..end, row }))
    }

    /// An entry of a leaf.
    pub fn entry(&self, leaf: &Leaf, row: usize) -> Result<Entry, ReadError> {
        leaf.block.entry(row).map_err(|e| self.view.origin.damaged(&e))
    }
}
