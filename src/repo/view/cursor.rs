//! A place in a manifest: the blocks on the way down to one entry, each checked against the row that names it.
//!
//! A hostile manifest can lack entries or have them where they are not found, but never loops, overflows or
//! shows an entry under another path: kinds, first paths and counts must agree at every step down.

use std::sync::Arc;

use super::ahead::Ahead;
use super::error::ReadError;
use super::version::VersionView;
use crate::format::entry::Entry;
use crate::format::id::ChunkId;
use crate::format::manifest::{Block, BlockKind, IndexRow};
use crate::format::path;

#[derive(Debug)]
struct CursorLevel {
    block: Block,
    /// Which block this is, for its running counts; none is the top one.
    id: Option<ChunkId>,
    /// How many entries lie below it, by what named it.
    entries: u64,
    /// Ordinal of its first entry.
    first: u64,
    row: usize,
}

/// See the module's text. Behind the last entry it has no path.
#[derive(Debug)]
pub(super) struct TreeCursor {
    /// From the top block down to a leaf.
    levels: Vec<CursorLevel>,
    ahead: Ahead,
}

enum SeekTarget<'a> {
    Path(&'a [u8]),
    Ordinal(u64),
    First,
}

impl TreeCursor {
    /// At the first entry that is not before `path`.
    pub async fn at_path(view: &VersionView, path: &[u8], ahead: Ahead) -> Result<Self, ReadError> {
        let mut cursor = Self::top(view, ahead)?;
        cursor.descend(view, SeekTarget::Path(path)).await?;
        cursor.settle(view).await?;
        Ok(cursor)
    }

    /// At the entry of this number.
    pub async fn at_ordinal(view: &VersionView, ordinal: u64, ahead: Ahead) -> Result<Self, ReadError> {
        let mut cursor = Self::top(view, ahead)?;
        if ordinal >= view.root.entries {
            cursor.end();
        } else {
            cursor.descend(view, SeekTarget::Ordinal(ordinal)).await?;
        }
        Ok(cursor)
    }

    fn top(view: &VersionView, ahead: Ahead) -> Result<Self, ReadError> {
        let top = CursorLevel {
            block: view.root.top.clone(),
            id: None,
            entries: view.root.entries,
            first: 0,
            row: 0,
        };
        if view.root.depth == 0 && top.block.len() as u64 != top.entries {
            return Err(view.origin.contradiction("its root states another number of entries than it has"));
        }
        Ok(Self { levels: vec![top], ahead })
    }

    fn last(&self) -> Option<&CursorLevel> {
        self.levels.last()
    }

    /// The path of the entry here; none behind the last.
    pub fn path<'a>(&'a self, view: &VersionView) -> Result<Option<&'a [u8]>, ReadError> {
        match self.last() {
            Some(leaf) if leaf.row < leaf.block.len() => {
                leaf.block.path(leaf.row).map(Some).map_err(|e| view.origin.damaged(&e))
            }
            _ => Ok(None),
        }
    }

    /// The entry here.
    pub fn entry(&self, view: &VersionView) -> Result<Entry, ReadError> {
        let leaf =
            self.last().ok_or_else(|| view.origin.contradiction("there is no entry behind the last"))?;
        leaf.block.entry(leaf.row).map_err(|e| view.origin.damaged(&e))
    }

    /// The number of the entry here.
    pub fn ordinal(&self) -> u64 {
        self.last().map_or(u64::MAX, |leaf| leaf.first + leaf.row as u64)
    }

    /// To the next entry within this leaf; false (and behind its last) if there is none.
    pub fn step(&mut self) -> bool {
        let Some(leaf) = self.levels.last_mut() else { return false };
        leaf.row += 1;
        leaf.row < leaf.block.len()
    }

    /// The leaf here, the row in it, and what names it (none: it is the top block); none behind the last entry.
    pub fn leaf(&self, view: &VersionView) -> Result<Option<(Block, usize, Option<IndexRow>)>, ReadError> {
        let Some(leaf) = self.last().filter(|leaf| leaf.row < leaf.block.len()) else { return Ok(None) };
        let above = self.levels.len().checked_sub(2).map(|at| &self.levels[at]);
        let row = above.map(|above| above.block.index_row(above.row)).transpose();
        Ok(Some((leaf.block.clone(), leaf.row, row.map_err(|e| view.origin.damaged(&e))?)))
    }

    /// To the first entry of the next leaf.
    pub async fn skip_leaf(&mut self, view: &VersionView) -> Result<(), ReadError> {
        if let Some(leaf) = self.levels.last_mut() {
            leaf.row = leaf.block.len();
        }
        self.settle(view).await
    }

    /// Behind the last entry.
    pub fn end(&mut self) {
        self.levels.clear();
    }

    /// To the next entry.
    pub async fn advance(&mut self, view: &VersionView) -> Result<(), ReadError> {
        if !self.step() {
            self.settle(view).await?;
        }
        Ok(())
    }

    /// Forward to the first entry that is not before `path`.
    pub async fn seek(&mut self, view: &VersionView, path: &[u8]) -> Result<(), ReadError> {
        if let Some(leaf) = self.levels.last_mut() {
            let row = leaf.block.lower_bound(path).map_err(|e| view.origin.damaged(&e))?;
            if row < leaf.block.len() {
                leaf.row = leaf.row.max(row);
                return Ok(());
            }
        }
        let before = self.ordinal();
        *self = Self::at_path(view, path, self.ahead).await?;
        if self.ordinal() < before {
            return Err(view.origin.contradiction("its paths are not in order"));
        }
        Ok(())
    }

    /// From behind a leaf's last entry to the next leaf's first.
    pub async fn settle(&mut self, view: &VersionView) -> Result<(), ReadError> {
        let Some(leaf) = self.levels.last() else { return Ok(()) };
        if leaf.row < leaf.block.len() {
            return Ok(());
        }
        let last_path = match leaf.block.len().checked_sub(1) {
            Some(row) => leaf.block.path(row).map_err(|e| view.origin.damaged(&e))?.to_vec(),
            None => vec![],
        };
        self.levels.pop();
        while let Some(index) = self.levels.last_mut() {
            index.row += 1;
            if index.row < index.block.len() {
                self.descend(view, SeekTarget::First).await?;
                if self.path(view)?.is_some_and(|first| path::compare(&last_path, first).is_ge()) {
                    return Err(view.origin.contradiction("its paths are not in order"));
                }
                return Ok(());
            }
            self.levels.pop();
        }
        Ok(())
    }

    /// From the lowest block here down to a leaf. With [`SeekTarget::First`] the row here is chosen already.
    async fn descend(&mut self, view: &VersionView, target: SeekTarget<'_>) -> Result<(), ReadError> {
        let damaged = |e| view.origin.damaged(&e);
        let depth = usize::from(view.root.depth);
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
            let sums = view.sums_of(level.id, &level.block, level.entries)?;
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
            let siblings = || view.siblings(&level.block, level.id, level.row, self.ahead);
            let block = view.fetcher.block(&view.origin, &row.block, kind, siblings).await?;
            check_row(view, &row, &block)?;
            if self.ahead == Ahead::Few {
                view.fetch_ahead(&level.block, level.id, level.row);
            }
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

/// What an index row says of a block must be so.
pub(super) fn check_row(view: &VersionView, row: &IndexRow, block: &Block) -> Result<(), ReadError> {
    let id = row.block.id;
    if block.is_empty() {
        return Err(view.origin.contradiction(format!("block {id} is empty")));
    }
    // The very first row may have the empty path: it begins before everything.
    let first = block.path(0).map_err(|e| view.origin.damaged(&e))?;
    if !row.first_path.is_empty() && row.first_path != first {
        return Err(view
            .origin
            .contradiction(format!("block {id} begins with another path than its row says")));
    }
    if block.kind() == BlockKind::Leaf && block.len() as u64 != row.entries {
        let (has, says) = (block.len(), row.entries);
        return Err(view.origin.contradiction(format!("block {id} has {has} entries, its row says {says}")));
    }
    Ok(())
}

impl VersionView {
    /// The running entry counts of an index block: how many entries lie up to the end of each row. Checked to add
    /// up to what the block was said to have.
    pub(super) fn sums_of(
        &self,
        id: Option<ChunkId>,
        block: &Block,
        entries: u64,
    ) -> Result<Arc<Vec<u64>>, ReadError> {
        let known = self.sums.lock().get(&id).cloned();
        let sums = match known {
            Some(sums) => sums,
            None => {
                let mut total = 0u64;
                let mut sums = Vec::with_capacity(block.len());
                for i in 0..block.len() {
                    let row = block.index_row(i).map_err(|e| self.origin.damaged(&e))?;
                    let sum = total.checked_add(row.entries).filter(|_| row.entries > 0);
                    total = sum.ok_or_else(|| self.origin.contradiction("its entry counts make no sense"))?;
                    sums.push(total);
                }
                let sums = Arc::new(sums);
                self.sums.lock().put(id, sums.clone());
                sums
            }
        };
        if sums.last() != Some(&entries) || sums.len() != block.len() {
            return Err(self.origin.contradiction("its entry counts do not add up"));
        }
        Ok(sums)
    }
}
