//! Two versions side by side: the entries in which they differ, found without reading what they share.
//!
//! Both manifests are gone through together in path order. Blocks are cut by paths alone, so a part of the tree in
//! which nothing changed is the same block on both sides, and is passed over by its id. Where the sides do not stand
//! at blocks of one level, the side that stands higher goes down.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use super::cursor::{MANY_BLOCKS, check_row};
use super::error::ReadError;
use super::version::{BEHIND_SUBTREE, VersionView};
use crate::format::entry::{Body, ChunkRef, Entry};
use crate::format::manifest::{Block, BlockKind, IndexRow};
use crate::id::ChunkId;
use crate::path::{self, TreePath};

/// What stands at one path in two versions that differ there: an entry with its ordinal on one side, or on both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// In the first version.
    pub old: Option<(u64, Entry)>,
    /// In the second.
    pub new: Option<(u64, Entry)>,
}

/// How much the two versions have in common, path by path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Common {
    /// Entries that are the same on both sides.
    pub entries: u64,
    /// Sum of the sizes of the files among them, in bytes.
    pub bytes: u64,
}

/// The differences of two versions in path order. Times are not compared: they are not part of a version's digest.
#[derive(Debug)]
pub struct Pairs {
    old: Side,
    new: Side,
    range: Option<Range>,
    common: Common,
}

/// The paths from one on, up to another.
#[derive(Debug)]
struct Range {
    from: Vec<u8>,
    to: Vec<u8>,
}

#[derive(Debug)]
struct Side {
    view: Arc<VersionView>,
    /// From the top block down to where this side stands. Empty: behind the last entry.
    levels: Vec<Level>,
    /// The number of the next entry.
    ordinal: u64,
    /// The last path that was passed.
    passed: Vec<u8>,
}

#[derive(Debug)]
struct Level {
    block: Block,
    row: usize,
    /// All below is before this path; none: there is no bound.
    end: Option<Vec<u8>>,
    /// The blocks that an index block names.
    names: HashSet<ChunkId>,
}

impl Pairs {
    /// All differences, or those at and below `only`. Sends nothing.
    pub fn new(old: &Arc<VersionView>, new: &Arc<VersionView>, only: Option<&TreePath>) -> Self {
        let range = only.map(|path| {
            let from = path.as_bytes().to_vec();
            Range { to: [&from, &[BEHIND_SUBTREE][..]].concat(), from }
        });
        Self { old: Side::top(old), new: Side::top(new), range, common: Common::default() }
    }

    /// What was the same up to here.
    pub fn common(&self) -> Common {
        self.common
    }

    /// The next difference; none at the end. Cost: the blocks that only one side has, a request for some of them at
    /// once. Bytes of files are not read.
    pub async fn next(&mut self) -> Result<Option<Pair>, ReadError> {
        loop {
            self.enter_range().await?;
            let order = match (self.old.path(self.range.as_ref())?, self.new.path(self.range.as_ref())?) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => path::compare(old, new),
            };
            match (order, self.old.height(), self.new.height()) {
                (Ordering::Less, 0, _) => return Ok(Some(Pair { old: Some(self.old.take()?), new: None })),
                (Ordering::Greater, _, 0) => {
                    return Ok(Some(Pair { old: None, new: Some(self.new.take()?) }));
                }
                (Ordering::Less, ..) => self.old.descend(self.old.following(&self.new)).await?,
                (Ordering::Greater, ..) => self.new.descend(self.new.following(&self.old)).await?,
                (Ordering::Equal, 0, 0) => {
                    let (old, new) = (self.old.take()?, self.new.take()?);
                    if !is_same(&old.1, &new.1) {
                        return Ok(Some(Pair { old: Some(old), new: Some(new) }));
                    }
                    self.add_common(1, new.1.body.sums().1);
                }
                (Ordering::Equal, above, below) => self.descend_or_skip(above, below).await?,
            }
        }
    }

    /// Both sides begin at one path, at least one of them at a block.
    async fn descend_or_skip(&mut self, old: u8, new: u8) -> Result<(), ReadError> {
        match old.cmp(&new) {
            Ordering::Greater => return self.old.descend(self.old.following(&self.new)).await,
            Ordering::Less => return self.new.descend(self.new.following(&self.old)).await,
            Ordering::Equal => {}
        }
        let (old_row, new_row) = (self.old.row()?, self.new.row()?);
        if old_row.block.id == new_row.block.id && self.is_within_range()? {
            self.old.skip(&old_row);
            self.new.skip(&new_row);
            self.add_common(new_row.entries, new_row.bytes);
            return Ok(());
        }
        let (behind_old, behind_new) = (self.old.following(&self.new), self.new.following(&self.old));
        let (old, new) = tokio::join!(self.old.descend(behind_old), self.new.descend(behind_new));
        old.and(new)
    }

    /// Passes over what comes before the range, on both sides.
    async fn enter_range(&mut self) -> Result<(), ReadError> {
        let Some(range) = &self.range else { return Ok(()) };
        for side in [&mut self.old, &mut self.new] {
            while let Some(path) = side.path(None)?
                && path::compare(path, &range.from).is_lt()
            {
                match side.height() {
                    0 => drop(side.take()?),
                    _ if side.end()?.is_some_and(|end| path::compare(&end, &range.from).is_le()) => {
                        let row = side.row()?;
                        side.skip(&row);
                    }
                    _ => side.descend(vec![]).await?,
                }
            }
        }
        Ok(())
    }

    /// Whether the blocks that both sides stand at hold nothing behind the range.
    fn is_within_range(&self) -> Result<bool, ReadError> {
        let Some(range) = &self.range else { return Ok(true) };
        for end in [self.old.end()?, self.new.end()?] {
            if !end.is_some_and(|end| path::compare(&end, &range.to).is_le()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add_common(&mut self, entries: u64, bytes: u64) {
        self.common.entries = self.common.entries.saturating_add(entries);
        self.common.bytes = self.common.bytes.saturating_add(bytes);
    }
}

impl Side {
    fn top(view: &Arc<VersionView>) -> Self {
        let block = view.root.top.clone();
        let levels = if block.is_empty() { vec![] } else { vec![Level::new(block, None)] };
        Self { view: view.clone(), levels, ordinal: 0, passed: vec![] }
    }

    /// Levels of blocks below what this side stands at, that included; 0: it stands at an entry.
    fn height(&self) -> u8 {
        let above = self.levels.len().saturating_sub(1);
        self.view.root.depth.saturating_sub(u8::try_from(above).unwrap_or(u8::MAX))
    }

    /// The path of the entry here, or of the first one in the block here; none behind the last one or the range.
    fn path(&self, range: Option<&Range>) -> Result<Option<&[u8]>, ReadError> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        let path = level.block.path(level.row).map_err(|e| self.view.origin.damaged(&e))?;
        Ok(Some(path).filter(|path| range.is_none_or(|range| path::compare(path, &range.to).is_lt())))
    }

    /// The row of the block here.
    fn row(&self) -> Result<IndexRow, ReadError> {
        let level =
            self.levels.last().ok_or_else(|| self.view.origin.contradiction("it has no block here"))?;
        level.block.index_row(level.row).map_err(|e| self.view.origin.damaged(&e))
    }

    /// Before which path the block here ends.
    fn end(&self) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        if level.row + 1 == level.block.len() {
            return Ok(level.end.clone());
        }
        let next = level.block.path(level.row + 1).map_err(|e| self.view.origin.damaged(&e))?;
        Ok(Some(next.to_vec()))
    }

    /// Blocks behind the one here that the other side does not have, to be fetched with it.
    fn following(&self, other: &Side) -> Vec<ChunkRef> {
        let Some(level) = self.levels.last() else { return vec![] };
        let is_new = |block: &ChunkRef| !other.levels.iter().any(|level| level.names.contains(&block.id));
        let rows = (level.row + 1..level.block.len()).map_while(|i| level.block.index_row(i).ok());
        rows.map(|row| row.block).filter(is_new).take(MANY_BLOCKS).collect()
    }

    /// Into the block here.
    async fn descend(&mut self, siblings: Vec<ChunkRef>) -> Result<(), ReadError> {
        let (view, row, end) = (self.view.clone(), self.row()?, self.end()?);
        let kind = if self.height() == 1 { BlockKind::Leaf } else { BlockKind::Index };
        let block = view.fetcher.block(&view.origin, &row.block, kind, &siblings).await?;
        check_row(&view, &row, &block)?;
        if kind == BlockKind::Index {
            view.sums_of(Some(row.block.id), &block, row.entries)?;
        }
        let first = block.path(0).map_err(|e| view.origin.damaged(&e))?;
        if !first.is_empty() && !self.passed.is_empty() && path::compare(&self.passed, first).is_ge() {
            return Err(view.origin.contradiction("its paths are not in order"));
        }
        self.levels.push(Level::new(block, end));
        Ok(())
    }

    /// The entry here, and on to the next.
    fn take(&mut self) -> Result<(u64, Entry), ReadError> {
        let level = self.levels.last_mut();
        let level =
            level.ok_or_else(|| self.view.origin.contradiction("there is no entry behind the last"))?;
        let entry = level.block.entry(level.row).map_err(|e| self.view.origin.damaged(&e))?;
        level.row += 1;
        let is_last = level.row == level.block.len();
        let taken = (self.ordinal, entry);
        self.ordinal = self.ordinal.saturating_add(1);
        if is_last {
            self.passed = taken.1.path.as_bytes().to_vec();
            self.leave_if_done();
        }
        Ok(taken)
    }

    /// Past the block here.
    fn skip(&mut self, row: &IndexRow) {
        self.ordinal = self.ordinal.saturating_add(row.entries);
        self.passed.clone_from(&row.first_path);
        if let Some(level) = self.levels.last_mut() {
            level.row += 1;
        }
        self.leave_if_done();
    }

    /// Up from blocks that are done.
    fn leave_if_done(&mut self) {
        while self.levels.last().is_some_and(|level| level.row >= level.block.len()) {
            self.levels.pop();
            if let Some(above) = self.levels.last_mut() {
                above.row += 1;
            }
        }
    }
}

impl Level {
    fn new(block: Block, end: Option<Vec<u8>>) -> Self {
        let rows = if block.kind() == BlockKind::Index { block.len() } else { 0 };
        let names = (0..rows).filter_map(|i| Some(block.index_row(i).ok()?.block.id)).collect();
        Self { block, row: 0, end, names }
    }
}

/// Whether two entries of one path are the same to a listing.
fn is_same(old: &Entry, new: &Entry) -> bool {
    match (&old.body, &new.body) {
        (Body::File(a), Body::File(b)) => {
            (a.size, a.hash, old.executable) == (b.size, b.hash, new.executable)
        }
        (Body::Symlink { target: a }, Body::Symlink { target: b }) => a == b,
        (Body::Directory, Body::Directory) => true,
        (Body::Reference(a), Body::Reference(b)) => {
            (&a.uri, a.size, a.proof()) == (&b.uri, b.size, b.proof())
        }
        (Body::Contained(a), Body::Contained(b)) => (a.digest, &a.path) == (b.digest, &b.path),
        _ => false,
    }
}
