//! Walks through a version: who opens its small files one after the other, and how much to have in hand for them.
//!
//! A walk is recognised when what was fetched along with a file was used up in order. From then on batches are
//! fetched ahead of it, the more of them the longer it goes on, so that it meets no file that is not under way.

use std::collections::VecDeque;

/// What the first fetch brings, and the most that one does, in stored bytes.
const FIRST_WINDOW: u64 = 1 << 20;
const MAX_WINDOW: u64 = 4 << 20;
/// Batches in hand: at first, and for a walk that goes on.
const FIRST_DEPTH: usize = 2;
const MAX_DEPTH: usize = 4;
/// Walks remembered for one version.
const MAX_WALKS: usize = 8;
/// Files skipped by a walk that still counts as one.
const SLACK: u64 = 64;

/// The walks through one version, the latest used last.
#[derive(Debug, Default)]
pub(super) struct Walks {
    walks: Vec<ManifestWalk>,
    ids: u64,
}

#[derive(Debug)]
struct ManifestWalk {
    id: u64,
    /// Behind the last entry that was fetched or asked for.
    end: u64,
    /// Where the batches begin that the walk has not come to.
    ahead: VecDeque<u64>,
    depth: usize,
    window: u64,
    is_extending: bool,
}

/// Which walk to fetch for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalkId(u64);

impl Walks {
    /// Notes that the file of this ordinal must be fetched, and says how many stored bytes to fetch with it.
    pub fn missed(&mut self, ordinal: u64) -> (WalkId, u64) {
        let follows = |walk: &ManifestWalk| {
            let from = walk.ahead.front().copied().unwrap_or(walk.end);
            (from..=walk.end.saturating_add(SLACK)).contains(&ordinal)
        };
        let walk = match self.walks.iter().rposition(follows) {
            Some(i) => {
                let walk = self.walks.remove(i);
                let (depth, window) = (walk.depth.max(FIRST_DEPTH), (walk.window * 2).min(MAX_WINDOW));
                ManifestWalk { ahead: VecDeque::new(), depth, window, ..walk }
            }
            None => {
                self.ids += 1;
                let (id, window) = (self.ids, FIRST_WINDOW);
                ManifestWalk {
                    id,
                    end: ordinal,
                    ahead: VecDeque::new(),
                    depth: 0,
                    window,
                    is_extending: false,
                }
            }
        };
        if self.walks.len() == MAX_WALKS {
            self.walks.remove(0);
        }
        let answer = (WalkId(walk.id), walk.window);
        self.walks.push(walk);
        answer
    }

    /// Notes where the batch of a missed file ends.
    pub fn fetched(&mut self, id: WalkId, end: u64) {
        if let Some(walk) = self.find(id) {
            walk.end = end;
        }
    }

    /// Notes that a small file was opened; gives the walk for which to fetch more, which the caller must do.
    pub fn opened(&mut self, ordinal: u64) -> Option<WalkId> {
        let is_on = |walk: &&mut ManifestWalk| {
            walk.ahead.front().is_some_and(|first| (*first..walk.end).contains(&ordinal))
        };
        let walk = self.walks.iter_mut().rfind(is_on)?;
        while walk.ahead.front().is_some_and(|first| *first <= ordinal) {
            walk.ahead.pop_front();
            walk.depth = (walk.depth + 1).min(MAX_DEPTH);
            walk.window = (walk.window * 2).min(MAX_WINDOW);
        }
        let id = WalkId(walk.id);
        self.begin_extending(id).then_some(id)
    }

    /// Whether the caller is to fetch ahead for this walk now.
    pub fn begin_extending(&mut self, id: WalkId) -> bool {
        let Some(walk) = self.find(id) else { return false };
        let begins = !walk.is_extending && walk.ahead.len() < walk.depth;
        walk.is_extending |= begins;
        begins
    }

    /// Where the next batch ahead of a walk begins, and its stored bytes; none if enough is in hand.
    pub fn next_batch(&mut self, id: WalkId) -> Option<(u64, u64)> {
        let walk = self.find(id)?;
        walk.is_extending = walk.ahead.len() < walk.depth;
        walk.is_extending.then_some((walk.end, walk.window))
    }

    /// Notes a batch ahead; one without an entry ends the fetching ahead until the next miss.
    pub fn extended(&mut self, id: WalkId, from: u64, end: u64) {
        let Some(walk) = self.find(id).filter(|walk| walk.end == from) else { return };
        if end == from {
            walk.depth = walk.ahead.len();
        } else {
            walk.ahead.push_back(from);
            walk.end = end;
        }
    }

    fn find(&mut self, id: WalkId) -> Option<&mut ManifestWalk> {
        self.walks.iter_mut().find(|walk| walk.id == id.0)
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
            assert!(fetched <= ordinal + 10 * (MAX_DEPTH as u64 + 1));
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
            assert_eq!(window, FIRST_WINDOW);
            walks.fetched(id, ordinal + 10);
            assert!(!walks.begin_extending(id));
        }
        assert!(walks.walks.len() <= MAX_WALKS);
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
