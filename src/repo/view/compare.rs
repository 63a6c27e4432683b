//! Two manifests side by side: the entries in which they differ, found without reading what they share. Contained
//! versions have manifests of their own (`compare_nested.rs`).
//!
//! Both manifests are walked together in path order. Blocks are cut by paths alone, so a part of the tree in
//! which nothing changed is the same block on both sides, and is skipped by its id. Where the sides are at blocks of
//! different levels, the side that is higher goes down.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::sync::Arc;

use super::error::ReadError;
use super::manifest::{BEHIND_SUBTREE, ManifestTree, check_row};
use super::readahead::SCAN_BLOCKS;
use super::version::VersionView;
use crate::format::entry::{ChunkRef, Entry, EntryBody};
use crate::format::id::ChunkId;
use crate::format::manifest::{Block, BlockKind, IndexRow};
use crate::format::path::{self, TreePath};

/// A path at which two manifests differ: an entry with its ordinal on one side, or on both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pair {
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

impl std::ops::Add for Common {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let entries = self.entries.saturating_add(other.entries);
        Self { entries, bytes: self.bytes.saturating_add(other.bytes) }
    }
}

/// The differences of two manifests, or of parts of them, in path order. Times are not compared: they are not part of a
/// version's digest.
#[derive(Debug)]
pub(super) struct Pairs {
    old: CompareSide,
    new: CompareSide,
    common: Common,
}

/// The part of a manifest that is compared. Two directories are compared by the paths below them.
#[derive(Debug, Clone)]
pub(super) enum ManifestPart {
    /// None of it.
    Nothing,
    /// All of it.
    All,
    /// A path and everything below it.
    At(TreePath),
    /// Everything below a directory.
    Below(TreePath),
}

/// The paths from one on, up to another.
#[derive(Debug)]
struct Range {
    from: Vec<u8>,
    to: Vec<u8>,
    /// Leading bytes of the paths that are not compared.
    skip: usize,
}

#[derive(Debug)]
struct CompareSide {
    tree: Arc<ManifestTree>,
    /// None: everything is compared.
    range: Option<Range>,
    /// From the top block down to where this side is. Empty: behind the last entry.
    levels: Vec<CompareLevel>,
    /// The ordinal of the next entry.
    ordinal: u64,
    /// The last path that was skipped or returned.
    passed: Vec<u8>,
}

/// One of two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Old,
    New,
}

impl Range {
    fn of(part: &ManifestPart) -> Option<Self> {
        let (path, below) = match part {
            ManifestPart::Nothing | ManifestPart::All => return None,
            ManifestPart::At(path) => (path.as_bytes(), &[][..]),
            ManifestPart::Below(path) => (path.as_bytes(), &b"/"[..]),
        };
        let from = [path, below].concat();
        Some(Self { to: [path, &[BEHIND_SUBTREE]].concat(), skip: from.len(), from })
    }
}

#[derive(Debug)]
struct CompareLevel {
    block: Block,
    row: usize,
    /// All below is before this path; none: there is no bound.
    end: Option<Vec<u8>>,
    /// The blocks that an index block names.
    names: HashSet<ChunkId>,
}

impl Pairs {
    /// Starts to compare two parts. Sends nothing.
    pub fn new(old: (&Arc<VersionView>, ManifestPart), new: (&Arc<VersionView>, ManifestPart)) -> Self {
        Self {
            old: CompareSide::new(old.0, old.1),
            new: CompareSide::new(new.0, new.1),
            common: Common::default(),
        }
    }

    /// Returns how much was the same up to here.
    pub fn common(&self) -> Common {
        self.common
    }

    /// Returns the next difference; none at the end. Cost: the blocks that only one side has, several in one request.
    /// Bytes of files are not read.
    pub async fn next(&mut self) -> Result<Option<Pair>, ReadError> {
        loop {
            self.old.enter_range().await?;
            self.new.enter_range().await?;
            let order = match (self.old.path()?, self.new.path()?) {
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
        let is_same = old_row.block.id == new_row.block.id;
        if is_same && self.old.is_within_range()? && self.new.is_within_range()? {
            self.old.skip(&old_row);
            self.new.skip(&new_row);
            self.add_common(new_row.entries, new_row.bytes);
            return Ok(());
        }
        let (behind_old, behind_new) = (self.old.following(&self.new), self.new.following(&self.old));
        let (old, new) = tokio::join!(self.old.descend(behind_old), self.new.descend(behind_new));
        old.and(new)
    }

    /// Skips what is below a directory that the old, or the new side just returned.
    pub async fn pass_over(&mut self, which: Which, directory: &TreePath) -> Result<(), ReadError> {
        let bound = [directory.as_bytes(), &[BEHIND_SUBTREE]].concat();
        match which {
            Which::Old => self.old.pass_to(&bound).await,
            Which::New => self.new.pass_to(&bound).await,
        }
    }

    fn add_common(&mut self, entries: u64, bytes: u64) {
        self.common = self.common + Common { entries, bytes };
    }
}

impl CompareSide {
    fn new(view: &Arc<VersionView>, part: ManifestPart) -> Self {
        let tree = view.tree().clone();
        let block = tree.root.top.clone();
        let is_empty = block.is_empty() || matches!(part, ManifestPart::Nothing);
        let levels = if is_empty { vec![] } else { vec![CompareLevel::new(block, None)] };
        Self { tree, range: Range::of(&part), levels, ordinal: 0, passed: vec![] }
    }

    /// Returns how many levels of blocks are here and below; 0: this side is at an entry.
    fn height(&self) -> u8 {
        let above = self.levels.len().saturating_sub(1);
        self.tree.root.depth.saturating_sub(u8::try_from(above).unwrap_or(u8::MAX))
    }

    /// Returns the full path of the entry here, or of the first one in the block here; none behind the last one.
    fn full_path(&self) -> Result<Option<&[u8]>, ReadError> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        level.block.path(level.row).map(Some).map_err(|e| self.tree.origin.damaged(e))
    }

    /// Returns the path as it is compared; none behind the range, too.
    fn path(&self) -> Result<Option<&[u8]>, ReadError> {
        let path = self.full_path()?;
        let Some(range) = &self.range else { return Ok(path) };
        let path = path.filter(|path| path::compare(path, &range.to).is_lt());
        Ok(path.map(|path| path.get(range.skip..).unwrap_or_default()))
    }

    /// Skips what comes before the range.
    async fn enter_range(&mut self) -> Result<(), ReadError> {
        let Some(range) = &self.range else { return Ok(()) };
        if self.full_path()?.is_none_or(|path| path::compare(path, &range.from).is_ge()) {
            return Ok(());
        }
        let from = range.from.clone();
        self.pass_to(&from).await
    }

    /// Skips what comes before a path.
    async fn pass_to(&mut self, bound: &[u8]) -> Result<(), ReadError> {
        while let Some(path) = self.full_path()?
            && path::compare(path, bound).is_lt()
        {
            match self.height() {
                0 => drop(self.take()?),
                _ if self.end()?.is_some_and(|end| path::compare(&end, bound).is_le()) => {
                    let row = self.row()?;
                    self.skip(&row);
                }
                _ => self.descend(vec![]).await?,
            }
        }
        Ok(())
    }

    /// Whether the block here holds nothing behind the range.
    fn is_within_range(&self) -> Result<bool, ReadError> {
        let Some(range) = &self.range else { return Ok(true) };
        Ok(self.end()?.is_some_and(|end| path::compare(&end, &range.to).is_le()))
    }

    /// Returns the row of the block here.
    fn row(&self) -> Result<IndexRow, ReadError> {
        let level =
            self.levels.last().ok_or_else(|| self.tree.origin.contradiction("it has no block here"))?;
        level.block.index_row(level.row).map_err(|e| self.tree.origin.damaged(e))
    }

    /// Returns the path before which the block here ends.
    fn end(&self) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(level) = self.levels.last() else { return Ok(None) };
        if level.row + 1 == level.block.len() {
            return Ok(level.end.clone());
        }
        let next = level.block.path(level.row + 1).map_err(|e| self.tree.origin.damaged(e))?;
        Ok(Some(next.to_vec()))
    }

    /// Returns blocks behind the one here that the other side does not have, to fetch with it.
    fn following(&self, other: &CompareSide) -> Vec<ChunkRef> {
        let Some(level) = self.levels.last() else { return vec![] };
        let is_new = |block: &ChunkRef| !other.levels.iter().any(|level| level.names.contains(&block.id));
        let rows = (level.row + 1..level.block.len()).map_while(|i| level.block.index_row(i).ok());
        let is_before = |row: &IndexRow, range: &Range| path::compare(&row.first_path, &range.to).is_lt();
        let rows = rows.take_while(|row| self.range.as_ref().is_none_or(|range| is_before(row, range)));
        rows.map(|row| row.block).filter(is_new).take(SCAN_BLOCKS).collect()
    }

    /// Goes down into the block here.
    async fn descend(&mut self, siblings: Vec<ChunkRef>) -> Result<(), ReadError> {
        let (tree, row, end) = (self.tree.clone(), self.row()?, self.end()?);
        let kind = if self.height() == 1 { BlockKind::Leaf } else { BlockKind::Index };
        let block = tree.blocks.block(&tree.origin, &row.block, kind, || siblings.clone()).await?;
        check_row(&tree, &row, &block)?;
        if kind == BlockKind::Index {
            tree.sums_of(Some(row.block.id), &block, row.entries)?;
        }
        let first = block.path(0).map_err(|e| tree.origin.damaged(e))?;
        if !first.is_empty() && !self.passed.is_empty() && path::compare(&self.passed, first).is_ge() {
            return Err(tree.origin.contradiction("its paths are not in order"));
        }
        self.levels.push(CompareLevel::new(block, end));
        Ok(())
    }

    /// Returns the entry here, and moves to the next.
    fn take(&mut self) -> Result<(u64, Entry), ReadError> {
        let level = self.levels.last_mut();
        let level =
            level.ok_or_else(|| self.tree.origin.contradiction("there is no entry behind the last"))?;
        let entry = level.block.entry(level.row).map_err(|e| self.tree.origin.damaged(e))?;
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

    /// Skips the block here.
    fn skip(&mut self, row: &IndexRow) {
        self.ordinal = self.ordinal.saturating_add(row.entries);
        self.passed.clone_from(&row.first_path);
        if let Some(level) = self.levels.last_mut() {
            level.row += 1;
        }
        self.leave_if_done();
    }

    /// Goes up from blocks that are done.
    fn leave_if_done(&mut self) {
        while self.levels.last().is_some_and(|level| level.row >= level.block.len()) {
            self.levels.pop();
            if let Some(above) = self.levels.last_mut() {
                above.row += 1;
            }
        }
    }
}

impl CompareLevel {
    fn new(block: Block, end: Option<Vec<u8>>) -> Self {
        let rows = if block.kind() == BlockKind::Index { block.len() } else { 0 };
        let names = (0..rows).filter_map(|i| Some(block.index_row(i).ok()?.block.id)).collect();
        Self { block, row: 0, end, names }
    }
}

/// Whether two entries of one path are the same to a listing.
fn is_same(old: &Entry, new: &Entry) -> bool {
    match (&old.body, &new.body) {
        (EntryBody::File(a), EntryBody::File(b)) => {
            (a.size, a.hash, old.executable) == (b.size, b.hash, new.executable)
        }
        (EntryBody::Symlink { target: a }, EntryBody::Symlink { target: b }) => a == b,
        (EntryBody::Directory, EntryBody::Directory) => true,
        (EntryBody::Reference(a), EntryBody::Reference(b)) => {
            (&a.uri, a.size, a.proof()) == (&b.uri, b.size, b.proof())
        }
        (EntryBody::Contained(a), EntryBody::Contained(b)) => (a.digest, &a.path) == (b.digest, &b.path),
        _ => false,
    }
}
