//! The blocks of a manifest, written as its entries come in path order.
//!
//! A block of an earlier version is taken as it is where it would come out the same: it begins and ends where one is
//! cut. Memory: the entries of one leaf block, and a row for each leaf block.

use super::chunks::ChunkWriter;
use super::error::CommitError;
use crate::format::entry::{ChunkRef, Entry};
use crate::format::manifest::{Block, IndexRow, Splitter, encode_index, encode_leaf};

/// Takes entries, whose places are final, and gives the top block.
pub(super) struct BlockWriter {
    splitter: Splitter,
    leaf: Vec<Entry>,
    /// The leaf blocks before this one.
    rows: Vec<IndexRow>,
    /// The block of the last row, if it was taken as it is and nothing came behind it yet.
    taken: Option<Block>,
}

impl Default for BlockWriter {
    fn default() -> Self {
        Self { splitter: Splitter::new(0), leaf: vec![], rows: vec![], taken: None }
    }
}

impl BlockWriter {
    pub fn push(&mut self, entry: Entry, chunks: &mut ChunkWriter<'_>) -> Result<(), CommitError> {
        let taken = self.taken.take();
        if self.splitter.begins_block(entry.path.as_bytes()) {
            self.end_leaf(chunks)?;
        } else if let Some(block) = taken {
            // Another entry than before follows, and no block begins with it.
            self.rows.pop();
            let entries = (0..block.len()).map(|row| block.entry(row)).collect::<Result<_, _>>();
            self.leaf = entries?;
        }
        self.leaf.push(entry);
        Ok(())
    }

    /// Takes a whole leaf block of another version; false, and nothing is changed, if it would come out otherwise.
    pub fn take(
        &mut self,
        block: &Block,
        row: IndexRow,
        chunks: &mut ChunkWriter<'_>,
    ) -> Result<bool, CommitError> {
        let is_first = self.rows.is_empty() && self.leaf.is_empty();
        if !(is_first || self.splitter.would_begin(&row.first_path)) || !chunks.rely_on(&row.block) {
            return Ok(false);
        }
        self.end_leaf(chunks)?;
        self.splitter.begin_with(block.len());
        self.rows.push(row);
        self.taken = Some(block.clone());
        Ok(true)
    }

    fn end_leaf(&mut self, chunks: &mut ChunkWriter<'_>) -> Result<(), CommitError> {
        if self.leaf.is_empty() {
            return Ok(());
        }
        let entries = std::mem::take(&mut self.leaf);
        let block = chunks.block(&encode_leaf(&entries))?;
        self.rows.push(index_row(block, &entries));
        Ok(())
    }

    /// Writes all blocks but the top one, which it gives with the number of levels below it.
    pub fn finish(mut self, chunks: &mut ChunkWriter<'_>) -> Result<(u8, Block), CommitError> {
        let mut depth = 0;
        let mut top = encode_leaf(&self.leaf);
        if !self.rows.is_empty() {
            self.end_leaf(chunks)?;
            let mut rows = self.rows;
            top = loop {
                depth += 1;
                chunks.seal()?;
                let mut blocks = index_blocks(rows, depth, chunks);
                if blocks.len() == 1 {
                    break encode_index(&blocks.remove(0));
                }
                let written = blocks.into_iter().map(|rows| write_index(&rows, chunks));
                rows = written.collect::<Result<_, _>>()?;
            };
        }
        let top = Block::parse(top.into())?;
        Ok((depth, top))
    }
}

/// What names a leaf block of these entries.
pub(super) fn index_row(block: ChunkRef, entries: &[Entry]) -> IndexRow {
    IndexRow {
        first_path: entries.first().map(|e| e.path.as_bytes().to_vec()).unwrap_or_default(),
        entries: entries.len() as u64,
        bytes: entries.iter().fold(0, |sum, e| sum.saturating_add(e.body.sums().1)),
        block,
    }
}

/// Cuts the rows for one level of index blocks.
fn index_blocks(rows: Vec<IndexRow>, depth: u8, chunks: &ChunkWriter<'_>) -> Vec<Vec<IndexRow>> {
    let mut splitter = Splitter::new(depth);
    let mut blocks: Vec<Vec<IndexRow>> = vec![];
    for mut row in rows {
        chunks.settle(&mut row.block);
        row.block.span = 0;
        let begins = splitter.begins_block(&row.first_path);
        match blocks.last_mut().filter(|_| !begins) {
            Some(block) => block.push(row),
            None => blocks.push(vec![row]),
        }
    }
    blocks
}

/// The row of an index block, which is written.
fn write_index(rows: &[IndexRow], chunks: &mut ChunkWriter<'_>) -> Result<IndexRow, CommitError> {
    let block: ChunkRef = chunks.block(&encode_index(rows))?;
    Ok(IndexRow {
        first_path: rows.first().map(|row| row.first_path.clone()).unwrap_or_default(),
        block,
        entries: rows.iter().map(|row| row.entries).sum(),
        bytes: rows.iter().fold(0, |sum, row| sum.saturating_add(row.bytes)),
    })
}
