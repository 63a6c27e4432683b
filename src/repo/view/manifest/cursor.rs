//! A place in a manifest: the blocks on the way down to one entry, each checked against the row that names it.
//!
//! A hostile manifest can lack entries or have them where they are not found, but never loops, overflows or
//! shows an entry under another path: kinds, first paths and counts must agree at every step down.

use super::tree::ManifestTree;
use crate::format::entry::Entry;
use crate::format::id::ChunkId;
use crate::format::manifest::{Block, BlockKind, IndexRow};
use crate::format::path;
use crate::repo::view::error::ReadError;
use crate::repo::view::readahead::Access;

#[derive(Debug)]
struct CursorLevel {
    block: Block,
    /// Which block this is, for its running counts; none is the top one.
    id: Option<ChunkId>,
    /// How many entries lie below it, as the row that names it says.
    entries: u64,
    /// Ordinal of its first entry.
    first: u64,
    row: usize,
}

/// See the module's text. Behind the last entry it has no path.
#[derive(Debug)]
pub(crate) struct TreeCursor {
    /// From the top block down to a leaf.
    levels: Vec<CursorLevel>,
    access: Access,
}

enum SeekTarget<'a> {
    Path(&'a [u8]),
    Ordinal(u64),
    First,
}

impl TreeCursor {
    /// Stands at the first entry that is not before `path`.
    pub async fn at_path(tree: &ManifestTree, path: &[u8], access: Access) -> Result<Self, ReadError> {
        let mut cursor = Self::top(tree, access)?;
        cursor.descend(tree, SeekTarget::Path(path)).await?;
        cursor.settle(tree).await?;
        Ok(cursor)
    }

    /// Stands at the entry of this number.
    pub async fn at_ordinal(tree: &ManifestTree, ordinal: u64, access: Access) -> Result<Self, ReadError> {
        let mut cursor = Self::top(tree, access)?;
        if ordinal >= tree.root.entries {
            cursor.end();
        } else {
            cursor.descend(tree, SeekTarget::Ordinal(ordinal)).await?;
        }
        Ok(cursor)
    }

    fn top(tree: &ManifestTree, access: Access) -> Result<Self, ReadError> {
        let top = CursorLevel {
            block: tree.root.top.clone(),
            id: None,
            entries: tree.root.entries,
            first: 0,
            row: 0,
        };
        if tree.root.depth == 0 && top.block.len() as u64 != top.entries {
            return Err(tree.origin.contradiction("its root states another number of entries than it has"));
        }
        Ok(Self { levels: vec![top], access })
    }

    fn last(&self) -> Option<&CursorLevel> {
        self.levels.last()
    }

    /// Returns the path of the entry here; none behind the last.
    pub fn path<'a>(&'a self, tree: &ManifestTree) -> Result<Option<&'a [u8]>, ReadError> {
        match self.last() {
            Some(leaf) if leaf.row < leaf.block.len() => {
                leaf.block.path(leaf.row).map(Some).map_err(|e| tree.origin.damaged(e))
            }
            _ => Ok(None),
        }
    }

    /// Returns the entry here.
    pub fn entry(&self, tree: &ManifestTree) -> Result<Entry, ReadError> {
        let leaf =
            self.last().ok_or_else(|| tree.origin.contradiction("there is no entry behind the last"))?;
        leaf.block.entry(leaf.row).map_err(|e| tree.origin.damaged(e))
    }

    /// Returns the number of the entry here.
    pub fn ordinal(&self) -> u64 {
        self.last().map_or(u64::MAX, |leaf| leaf.first + leaf.row as u64)
    }

    /// Moves to the next entry within this leaf; returns false (and stands behind its last) if there is none.
    pub fn step(&mut self) -> bool {
        let Some(leaf) = self.levels.last_mut() else { return false };
        leaf.row += 1;
        leaf.row < leaf.block.len()
    }

    /// Returns the leaf here, the row in it, and the row that names it (none: it is the top block); none behind the last
    /// entry.
    pub fn leaf(&self, tree: &ManifestTree) -> Result<Option<(Block, usize, Option<IndexRow>)>, ReadError> {
        let Some(leaf) = self.last().filter(|leaf| leaf.row < leaf.block.len()) else { return Ok(None) };
        let above = self.levels.len().checked_sub(2).map(|at| &self.levels[at]);
        let row = above.map(|above| above.block.index_row(above.row)).transpose();
        Ok(Some((leaf.block.clone(), leaf.row, row.map_err(|e| tree.origin.damaged(e))?)))
    }

    /// Moves to the first entry of the next leaf.
    pub async fn skip_leaf(&mut self, tree: &ManifestTree) -> Result<(), ReadError> {
        if let Some(leaf) = self.levels.last_mut() {
            leaf.row = leaf.block.len();
        }
        self.settle(tree).await
    }

    /// Moves behind the last entry.
    pub fn end(&mut self) {
        self.levels.clear();
    }

    /// Moves to the next entry.
    pub async fn advance(&mut self, tree: &ManifestTree) -> Result<(), ReadError> {
        if !self.step() {
            self.settle(tree).await?;
        }
        Ok(())
    }

    /// Moves forward to the first entry that is not before `path`.
    pub async fn seek(&mut self, tree: &ManifestTree, path: &[u8]) -> Result<(), ReadError> {
        if let Some(leaf) = self.levels.last_mut() {
            let row = leaf.block.lower_bound(path).map_err(|e| tree.origin.damaged(e))?;
            if row < leaf.block.len() {
                leaf.row = leaf.row.max(row);
                return Ok(());
            }
        }
        let before = self.ordinal();
        *self = Self::at_path(tree, path, self.access).await?;
        if self.ordinal() < before {
            return Err(tree.origin.contradiction("its paths are not in order"));
        }
        Ok(())
    }

    /// Moves from behind a leaf's last entry to the next leaf's first.
    pub async fn settle(&mut self, tree: &ManifestTree) -> Result<(), ReadError> {
        let Some(leaf) = self.levels.last() else { return Ok(()) };
        if leaf.row < leaf.block.len() {
            return Ok(());
        }
        let last_path = match leaf.block.len().checked_sub(1) {
            Some(row) => leaf.block.path(row).map_err(|e| tree.origin.damaged(e))?.to_vec(),
            None => vec![],
        };
        self.levels.pop();
        while let Some(index) = self.levels.last_mut() {
            index.row += 1;
            if index.row < index.block.len() {
                self.descend(tree, SeekTarget::First).await?;
                if self.path(tree)?.is_some_and(|first| path::compare(&last_path, first).is_ge()) {
                    return Err(tree.origin.contradiction("its paths are not in order"));
                }
                return Ok(());
            }
            self.levels.pop();
        }
        Ok(())
    }

    /// Goes down from the lowest block here to a leaf. With [`SeekTarget::First`] the row here is chosen already.
    async fn descend(&mut self, tree: &ManifestTree, target: SeekTarget<'_>) -> Result<(), ReadError> {
        let damaged = |e| tree.origin.damaged(e);
        let depth = usize::from(tree.root.depth);
        let mut is_chosen = matches!(target, SeekTarget::First);
        loop {
            let below = (depth + 1).saturating_sub(self.levels.len());
            let Some(level) = self.levels.last_mut() else { return Ok(()) };
            if below == 0 {
                match target {
                    SeekTarget::Path(path) => level.row = level.block.lower_bound(path).map_err(damaged)?,
                    SeekTarget::Ordinal(ordinal) => level.row = (ordinal - level.first) as usize,
                    SeekTarget::First => level.row = 0,
                }
                return Ok(());
            }
            let sums = tree.sums_of(level.id, &level.block, level.entries)?;
            if !std::mem::take(&mut is_chosen) {
                level.row = match target {
                    SeekTarget::Path(path) => {
                        let at = level.block.lower_bound(path).map_err(damaged)?;
                        let is_exact =
                            at < level.block.len() && level.block.path(at).map_err(damaged)? == path;
                        if is_exact { at } else { at.saturating_sub(1) }
                    }
                    SeekTarget::Ordinal(ordinal) => sums.partition_point(|sum| *sum <= ordinal - level.first),
                    SeekTarget::First => 0,
                };
            }
            let row = level.block.index_row(level.row).map_err(damaged)?;
            let first = level.first + level.row.checked_sub(1).map_or(0, |before| sums[before]);
            let kind = if below == 1 { BlockKind::Leaf } else { BlockKind::Index };
            let block = tree.below(&level.block, level.id, level.row, kind, self.access).await?;
            check_row(tree, &row, &block)?;
            self.levels.push(CursorLevel {
                block,
                id: Some(row.block.id),
                entries: row.entries,
                first,
                row: 0,
            });
        }
    }
}

/// Checks that a block is what the index row that names it says.
pub(crate) fn check_row(tree: &ManifestTree, row: &IndexRow, block: &Block) -> Result<(), ReadError> {
    let id = row.block.id;
    if block.is_empty() {
        return Err(tree.origin.contradiction(format!("block {id} is empty")));
    }
    // The very first row may have the empty path: it begins before everything.
    let first = block.path(0).map_err(|e| tree.origin.damaged(e))?;
    if !row.first_path.is_empty() && row.first_path != first {
        return Err(tree
            .origin
            .contradiction(format!("block {id} begins with another path than its row says")));
    }
    if block.kind() == BlockKind::Leaf && block.len() as u64 != row.entries {
        let (has, says) = (block.len(), row.entries);
        return Err(tree.origin.contradiction(format!("block {id} has {has} entries, its row says {says}")));
    }
    Ok(())
}
