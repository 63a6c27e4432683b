//! Which manifest blocks to fetch beside one that is needed: those that follow it, ever more and ever earlier while a
//! walk goes on.

use parking_lot::Mutex;
use std::ops::Range;

use super::recent::Recent;
use super::window::{BYTES_A_BLOCK, LOOKUP_BLOCKS, MAX_BLOCK_WALKS, SCAN_BLOCKS, Window};
use crate::format::entry::ChunkRef;
use crate::format::id::ChunkId;
use crate::format::manifest::Block;

const FEW_BLOCKS: usize = LOOKUP_BLOCKS.first as usize;

/// What a block is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// A look-up: what lies right behind is cheap, and a walk by look-ups profits.
    Lookup,
    /// A scan, which needs them all.
    Scan,
}

/// A walk by look-ups through the blocks below one index block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LookupWalk {
    /// The index block; none is the top one.
    index: Option<ChunkId>,
    /// Rows of it that are asked for.
    asked: Range<usize>,
    /// Blocks to ask for at once.
    window: Window,
}

/// The walks of one version.
#[derive(Debug, Default)]
struct BlockWalks(Recent<LookupWalk, MAX_BLOCK_WALKS>);

impl BlockWalks {
    /// Notes that a block was missing. Returns the rows to fetch, its own first.
    fn miss(&mut self, index: Option<ChunkId>, row: usize) -> Range<usize> {
        // On its way, or gone again: the walk itself goes on.
        if self.0.find(|walk| walk.index == index && walk.asked.contains(&row)).is_some() {
            return row..row + FEW_BLOCKS;
        }
        let before = self.0.take(|walk| walk.index == index && walk.asked.end == row);
        // The first below an index block may be behind the last below another one.
        let before = before.or_else(|| if row == 0 { self.0.take_last() } else { None });
        let mut window = Window::first(LOOKUP_BLOCKS);
        if let Some(walk) = before {
            window = walk.window;
            window.grow();
        }
        let asked = row..row + window.size() as usize;
        self.0.push(LookupWalk { index, asked: asked.clone(), window });
        asked
    }

    /// Notes that a block was there. Returns the rows that the walk it belongs to will need.
    fn hit(&mut self, index: Option<ChunkId>, row: usize) -> Range<usize> {
        let walk = self.0.find(|walk| walk.index == index && walk.asked.contains(&row));
        let is_low = |walk: &&mut LookupWalk| {
            walk.window.has_grown() && walk.window.is_low((walk.asked.end - row) as u64)
        };
        let Some(walk) = walk.filter(is_low) else { return 0..0 };
        let from = walk.asked.end;
        walk.window.grow();
        walk.asked.end += walk.window.size() as usize;
        from..walk.asked.end
    }
}

/// Chooses what to read ahead in one version. The lock is held for look-ups in a table of a few walks.
#[derive(Debug, Default)]
pub(crate) struct BlockReadahead(Mutex<BlockWalks>);

impl BlockReadahead {
    /// Returns the blocks to fetch with the one that is missing at `row` of an index block.
    pub fn siblings(&self, index: &Block, id: Option<ChunkId>, row: usize, access: Access) -> Vec<ChunkRef> {
        let rows = match access {
            Access::Scan => row..row + SCAN_BLOCKS,
            Access::Lookup => self.0.lock().miss(id, row),
        };
        let mut blocks = neighbours(index, rows, access);
        if !blocks.is_empty() {
            blocks.remove(0);
        }
        blocks
    }

    /// Returns the blocks that a walk by look-ups will need behind the one at `row` of an index block.
    pub fn following(&self, index: &Block, id: Option<ChunkId>, row: usize) -> Vec<ChunkRef> {
        let rows = self.0.lock().hit(id, row);
        neighbours(index, rows, Access::Lookup)
    }
}

/// Returns the blocks of these rows; for a look-up, only those that lie together with the first and are not long.
fn neighbours(index: &Block, rows: Range<usize>, access: Access) -> Vec<ChunkRef> {
    let rows = rows.start..rows.end.min(index.len());
    let limit = rows.len() as u64 * BYTES_A_BLOCK;
    let mut blocks: Vec<ChunkRef> =
        rows.map_while(|row| index.index_row(row).ok()).map(|row| row.block).collect();
    if access == Access::Lookup {
        let end = |block: &ChunkRef| block.place.offset + u64::from(block.place.stored_len);
        let first = blocks.first().map_or(0, |block| block.place.offset);
        let together = blocks.windows(2).take_while(|pair| {
            pair[0].place.pack == pair[1].place.pack
                && end(&pair[0]) == pair[1].place.offset
                && end(&pair[1]) <= first + limit
        });
        let len = blocks.len().min(together.count() + 1);
        blocks.truncate(len);
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_misses_and_then_has_ever_more_in_hand() {
        let mut walks = BlockWalks::default();
        let (mut asked, mut misses) = (0, 0);
        for row in 0..1000 {
            if row == asked {
                asked = walks.miss(None, row).end;
                misses += 1;
            } else {
                let rows = walks.hit(None, row);
                if !rows.is_empty() {
                    assert_eq!(rows.start, asked);
                    assert!(rows.len() as u64 <= LOOKUP_BLOCKS.most);
                    asked = rows.end;
                }
            }
        }
        assert_eq!(misses, 2);
        // One of them is on its way when the walk comes to it.
        let (before, waits) = (walks.0.items().to_vec(), asked - 1);
        assert_eq!(walks.miss(None, waits), waits..waits + FEW_BLOCKS);
        assert_eq!(walks.0.items(), before);
        // It goes on below the next index block.
        assert_eq!(walks.miss(Some(ChunkId::of(b"next")), 0), 0..LOOKUP_BLOCKS.most as usize);
    }

    #[test]
    fn scattered_look_ups_fetch_a_few_blocks_and_disturb_no_walk() {
        let mut walks = BlockWalks::default();
        walks.miss(None, 0);
        walks.miss(None, 8);
        for row in [900, 500, 700] {
            assert_eq!(walks.miss(None, row), row..row + FEW_BLOCKS);
            assert_eq!(walks.hit(None, row + 5), 0..0);
        }
        assert_eq!(walks.hit(None, 16), 24..56);
        for row in [100, 200, 300, 400] {
            walks.miss(None, row);
        }
        assert_eq!(walks.hit(None, 50), 0..0, "too many others came");
    }
}
