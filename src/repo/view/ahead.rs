//! Which manifest blocks to fetch beside one that is needed: those that follow it, ever more and ever earlier while a
//! walk goes on.

use std::collections::VecDeque;
use std::ops::Range;

use super::fetch::Urgency;
use super::version::VersionView;
use crate::format::entry::ChunkRef;
use crate::format::id::ChunkId;
use crate::format::manifest::Block;

/// Blocks fetched with one that a look-up misses.
const FEW_BLOCKS: usize = 8;
/// Blocks fetched with one that a scan misses.
pub(super) const MANY_BLOCKS: usize = 64;
/// The most that is fetched at once for a walk by look-ups.
const MOST_BLOCKS: usize = 128;
/// Stored bytes that are fetched for each block at most, on average.
const BYTES_A_BLOCK: u64 = 64 << 10;
/// Walks told apart in one version.
const MAX_WALKS: usize = 4;

/// Who needs a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ahead {
    /// A look-up: what lies right behind is cheap, and a walk by look-ups profits.
    Few,
    /// A scan, which needs them all.
    Many,
}

/// A walk by look-ups through the blocks below one index block.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LookupWalk {
    /// The index block; none is the top one.
    index: Option<ChunkId>,
    /// Rows of it that are asked for.
    asked: Range<usize>,
    /// Blocks to ask for at once.
    window: usize,
}

/// The walks of one version, the latest last.
#[derive(Debug, Default)]
pub(super) struct BlockWalks(VecDeque<LookupWalk>);

impl BlockWalks {
    /// Notes that a block was missing. Gives the rows to fetch, which begin with its own.
    fn miss(&mut self, index: Option<ChunkId>, row: usize) -> Range<usize> {
        // On its way, or gone again: the walk itself goes on.
        if self.0.iter().any(|walk| walk.index == index && walk.asked.contains(&row)) {
            return row..row + FEW_BLOCKS;
        }
        let before = self.0.iter().position(|walk| walk.index == index && walk.asked.end == row);
        // The first below an index block may be behind the last below another one.
        let before = before.or_else(|| (row == 0).then(|| self.0.len().checked_sub(1)).flatten());
        let window = before.and_then(|at| self.0.remove(at)).map_or(FEW_BLOCKS, |walk| walk.grown());
        let asked = row..row + window;
        if self.0.len() == MAX_WALKS {
            self.0.pop_front();
        }
        self.0.push_back(LookupWalk { index, asked: asked.clone(), window });
        asked
    }

    /// Notes that a block was there. Gives the rows that the walk it belongs to will need.
    fn hit(&mut self, index: Option<ChunkId>, row: usize) -> Range<usize> {
        let belongs = |walk: &&mut LookupWalk| walk.index == index && walk.asked.contains(&row);
        match self.0.iter_mut().rev().find(belongs) {
            // Half of a window in hand is enough.
            Some(walk) if walk.window > FEW_BLOCKS && walk.asked.end - row <= walk.window / 2 => {
                let from = walk.asked.end;
                walk.window = walk.grown();
                walk.asked.end += walk.window;
                from..walk.asked.end
            }
            _ => 0..0,
        }
    }
}

impl LookupWalk {
    fn grown(&self) -> usize {
        (self.window * 2).min(MOST_BLOCKS)
    }
}

impl VersionView {
    /// Blocks to fetch with the one that is missing at `row` of an index block.
    pub(super) fn siblings(
        &self,
        index: &Block,
        id: Option<ChunkId>,
        row: usize,
        ahead: Ahead,
    ) -> Vec<ChunkRef> {
        let rows = match ahead {
            Ahead::Many => row..row + MANY_BLOCKS,
            Ahead::Few => self.block_walks.lock().miss(id, row),
        };
        let mut blocks = neighbours(index, rows, ahead);
        if !blocks.is_empty() {
            blocks.remove(0);
        }
        blocks
    }

    /// Fetches what a walk will need that goes on behind the block at `row` of an index block.
    pub(super) fn fetch_ahead(&self, index: &Block, id: Option<ChunkId>, row: usize) {
        let rows = self.block_walks.lock().hit(id, row);
        let mut blocks = neighbours(index, rows, Ahead::Few);
        blocks.retain(|block| !self.fetcher.has_or_fetches(&block.id));
        if let Some((first, others)) = blocks.split_first() {
            drop(self.fetcher.request_blocks(&self.origin, first, others, Urgency::Ahead));
        }
    }
}

/// The blocks of these rows; for a look-up, only those that lie together with the first and are not long.
fn neighbours(index: &Block, rows: Range<usize>, ahead: Ahead) -> Vec<ChunkRef> {
    let rows = rows.start..rows.end.min(index.len());
    let limit = rows.len() as u64 * BYTES_A_BLOCK;
    let mut blocks: Vec<ChunkRef> =
        rows.map_while(|row| index.index_row(row).ok()).map(|row| row.block).collect();
    if ahead == Ahead::Few {
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
                    assert!(rows.len() <= MOST_BLOCKS);
                    asked = rows.end;
                }
            }
        }
        assert_eq!(misses, 2);
        // One of them is on its way when the walk comes to it.
        let (before, waits) = (walks.0.clone(), asked - 1);
        assert_eq!(walks.miss(None, waits), waits..waits + FEW_BLOCKS);
        assert_eq!(walks.0, before);
        // It goes on below the next index block.
        assert_eq!(walks.miss(Some(ChunkId::of(b"next")), 0), 0..MOST_BLOCKS);
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
