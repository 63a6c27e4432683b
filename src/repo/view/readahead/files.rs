//! Which small files of a tree to fetch ahead: walks through a version, each opening its small files one after the other.
//!
//! A walk is recognised when what was fetched along with a file was used up in order. From then on batches are
//! fetched ahead of it, the more of them the longer it goes on, so that it meets no file that is not under way.

use std::collections::VecDeque;

use super::recent::Recent;
use super::window::{MAX_FILE_WALKS, SMALL_BATCH_BYTES, SMALL_BATCHES, Window};

/// Files skipped by a walk that still counts as one.
const SLACK: u64 = 64;

/// The walks through one version.
#[derive(Debug, Default)]
pub(crate) struct Walks {
    walks: Recent<ManifestWalk, MAX_FILE_WALKS>,
    ids: u64,
}

#[derive(Debug)]
struct ManifestWalk {
    id: WalkId,
    /// Behind the last entry that was fetched or asked for.
    end: u64,
    /// The first entries of the batches that the walk has not reached.
    ahead: VecDeque<u64>,
    /// Batches to have in hand; none until the walk is recognised.
    depth: u64,
    /// Stored bytes of the next batch.
    window: Window,
    is_extending: bool,
}

/// Names a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WalkId(u64);

impl Walks {
    /// Notes that the file of this ordinal must be fetched. Returns its walk, and how many stored bytes to fetch with
    /// it.
    pub fn missed(&mut self, ordinal: u64) -> (WalkId, u64) {
        let follows = |walk: &ManifestWalk| {
            let from = walk.ahead.front().copied().unwrap_or(walk.end);
            (from..=walk.end.saturating_add(SLACK)).contains(&ordinal)
        };
        let walk = match self.walks.take(follows) {
            Some(mut walk) => {
                walk.ahead.clear();
                walk.depth = walk.depth.max(SMALL_BATCHES.first);
                walk.window.grow();
                walk
            }
            None => {
                self.ids += 1;
                ManifestWalk {
                    id: WalkId(self.ids),
                    end: ordinal,
                    ahead: VecDeque::new(),
                    depth: 0,
                    window: Window::first(SMALL_BATCH_BYTES),
                    is_extending: false,
                }
            }
        };
        let answer = (walk.id, walk.window.size());
        self.walks.push(walk);
        answer
    }

    /// Notes where the batch of a missed file ends.
    pub fn fetched(&mut self, id: WalkId, end: u64) {
        if let Some(walk) = self.find(id) {
            walk.end = end;
        }
    }

    /// Notes that a small file was opened. Returns the walk for which the caller must fetch more, if any.
    pub fn opened(&mut self, ordinal: u64) -> Option<WalkId> {
        let is_on = |walk: &ManifestWalk| {
            walk.ahead.front().is_some_and(|first| (*first..walk.end).contains(&ordinal))
        };
        let walk = self.walks.find(is_on)?;
        while walk.ahead.front().is_some_and(|first| *first <= ordinal) {
            walk.ahead.pop_front();
            walk.depth = (walk.depth + 1).min(SMALL_BATCHES.most);
            walk.window.grow();
        }
        let id = walk.id;
        self.begin_extending(id).then_some(id)
    }

    /// Claims the right to fetch ahead for a walk. Returns `true` if more is to be fetched and nobody else does it.
    pub fn begin_extending(&mut self, id: WalkId) -> bool {
        let Some(walk) = self.find(id) else { return false };
        let begins = !walk.is_extending && walk.needs_more();
        walk.is_extending |= begins;
        begins
    }

    /// Returns where the next batch ahead of a walk begins, and its stored bytes; none if enough is in hand.
    pub fn next_batch(&mut self, id: WalkId) -> Option<(u64, u64)> {
        let walk = self.find(id)?;
        walk.is_extending = walk.needs_more();
        walk.is_extending.then_some((walk.end, walk.window.size()))
    }

    /// Notes a batch ahead; one without an entry ends the fetching ahead until the next miss.
    pub fn extended(&mut self, id: WalkId, from: u64, end: u64) {
        let Some(walk) = self.find(id).filter(|walk| walk.end == from) else { return };
        if end == from {
            walk.depth = walk.ahead.len() as u64;
        } else {
            walk.ahead.push_back(from);
            walk.end = end;
        }
    }

    fn find(&mut self, id: WalkId) -> Option<&mut ManifestWalk> {
        self.walks.find(|walk| walk.id == id)
    }
}

impl ManifestWalk {
    fn needs_more(&self) -> bool {
        (self.ahead.len() as u64) < self.depth
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fetches ahead for a walk, batches of ten files each, up to `last`.
    fn extend(walks: &mut Walks, id: WalkId, last: u64) -> u64 {
        let mut batches = 0;
        while let Some((from, _)) = walks.next_batch(id) {
            walks.extended(id, from, (from + 10).min(last));
            batches += u64::from(from < last);
        }
        batches
    }

    #[test]
    fn a_walk_misses_twice_and_then_has_ever_more_in_hand() {
        let mut walks = Walks::default();
        let (mut misses, mut fetched, mut batches) = (0, 0, 0);
        for ordinal in 0..1000 {
            if let Some(id) = walks.opened(ordinal) {
                let made = extend(&mut walks, id, 1000);
                fetched += 10 * made;
                batches += made;
            }
            if ordinal >= fetched {
                misses += 1;
                let (id, _) = walks.missed(ordinal);
                walks.fetched(id, ordinal + 10);
                fetched = ordinal + 10;
                if walks.begin_extending(id) {
                    fetched += 10 * extend(&mut walks, id, 1000);
                }
            }
            assert!(fetched <= ordinal + 10 * (SMALL_BATCHES.most + 1));
        }
        assert_eq!((misses, fetched), (2, 1000));
        assert!(batches > 90);
    }

    #[test]
    fn scattered_opens_fetch_nothing_ahead() {
        let mut walks = Walks::default();
        for i in 0..100 {
            let ordinal = i * 7919 % 100_000;
            assert_eq!(walks.opened(ordinal), None);
            let (id, window) = walks.missed(ordinal);
            assert_eq!(window, SMALL_BATCH_BYTES.first);
            walks.fetched(id, ordinal + 10);
            assert!(!walks.begin_extending(id));
        }
        assert!(walks.walks.items().len() <= MAX_FILE_WALKS);
    }

    #[test]
    fn a_walk_that_meets_an_obstacle_goes_on_behind_it() {
        let mut walks = Walks::default();
        let (id, _) = walks.missed(0);
        walks.fetched(id, 10);
        let (id, _) = walks.missed(10);
        walks.fetched(id, 20);
        assert!(walks.begin_extending(id));
        assert_eq!(walks.next_batch(id), Some((20, 2 << 20)));
        walks.extended(id, 20, 20);
        assert_eq!(walks.next_batch(id), None);
        let (again, _) = walks.missed(21);
        assert_eq!(again, id);
        walks.fetched(id, 30);
        assert!(walks.begin_extending(id));
    }
}
