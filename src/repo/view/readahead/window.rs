//! How far to fetch ahead: one rule of growth, and the limits of all that are read ahead.

/// Bytes of a file: from its first read on, and at the farthest.
pub(crate) const FILE_BYTES: Limits = Limits { first: 1 << 20, most: 64 << 20 };
/// Bytes of a reference, which are asked of its source and not of packs.
pub(crate) const REFERENCE_BYTES: Limits = Limits { first: 256 << 10, most: 8 << 20 };
/// Stored bytes of one batch of small files.
pub(crate) const SMALL_BATCH_BYTES: Limits = Limits { first: 1 << 20, most: 4 << 20 };
/// Blocks fetched with one that a look-up misses, and the most for a walk by look-ups.
pub(crate) const LOOKUP_BLOCKS: Limits = Limits { first: 8, most: 128 };

/// Batches of small files in hand: when a walk is recognised, and when it goes on.
pub(super) const SMALL_BATCHES: Limits = Limits { first: 2, most: 4 };
/// Blocks fetched with one that a scan misses: it needs them all.
pub(crate) const SCAN_BLOCKS: usize = 64;
/// Stored bytes fetched for each block at most, on average.
pub(super) const BYTES_A_BLOCK: u64 = 64 << 10;

/// Bytes of one part of a file that is streamed from front to end, about.
pub(crate) const STREAM_PART_BYTES: u64 = 4 << 20;
/// Parts of such a file that are fetched at once.
pub(crate) const STREAM_PARTS: usize = 4;

/// Sequential readers of one file that are told apart: a loader's worker processes share one descriptor.
pub(super) const MAX_STREAMS: usize = 8;
/// Walks through the small files of one version that are told apart.
pub(super) const MAX_FILE_WALKS: usize = 8;
/// Walks through the blocks of one version that are told apart.
pub(super) const MAX_BLOCK_WALKS: usize = 4;

/// The first and the largest window of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub first: u64,
    pub most: u64,
}

impl Limits {
    /// Returns the window nearest to a size.
    pub fn clamp(&self, size: u64) -> u64 {
        size.clamp(self.first, self.most)
    }
}

/// How much to have in hand for one reader: bytes, or blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    size: u64,
    limits: Limits,
}

impl Window {
    /// A window for a reader that is expected to go on.
    pub fn first(limits: Limits) -> Self {
        Self { size: limits.first, limits }
    }

    /// No window: nothing is fetched ahead until it grows.
    pub fn closed(limits: Limits) -> Self {
        Self { size: 0, limits }
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Doubles the window, up to its limit.
    pub fn grow(&mut self) {
        self.grow_to(0, self.limits.most);
    }

    /// Doubles the window, to `least` at least and `most` at most. `most` below the first window counts as that.
    pub fn grow_to(&mut self, least: u64, most: u64) {
        let most = self.limits.clamp(most);
        self.size = (self.size * 2).max(least).min(most);
    }

    /// Whether to ask for more: half a window in hand is enough, and a request for every read would make small ones.
    pub fn is_low(&self, in_hand: u64) -> bool {
        in_hand <= self.size / 2
    }

    /// Whether the window has grown.
    pub fn has_grown(&self) -> bool {
        self.size > self.limits.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_doubles_within_its_limits() {
        let limits = Limits { first: 8, most: 20 };
        let mut window = Window::first(limits);
        assert!(!window.has_grown() && window.is_low(4) && !window.is_low(5));
        let sizes: Vec<u64> = (0..3).map(|_| (window.grow(), window.size()).1).collect();
        assert_eq!(sizes, [16, 20, 20]);
        let mut closed = Window::closed(limits);
        assert!(closed.is_low(0) && !closed.is_low(1));
        closed.grow_to(3, 2);
        assert_eq!(closed.size(), 3);
        closed.grow_to(100, 2);
        assert_eq!(closed.size(), limits.first, "the first window is allowed to all");
    }
}
