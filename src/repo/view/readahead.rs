//! Which bytes to fetch beside those asked for: several sequential streams in one file, each with a window that
//! doubles while it goes on.
//!
//! The kernel cuts a long read into parts. So what follows a first part is fetched beside it; but nothing more until
//! a third one came, and then no stream is trusted with more than it has read: a scattered read of a few hundred
//! KiB fetches the chunks that hold it.

use std::ops::Range;

/// Streams remembered for one file: a loader's worker processes share one descriptor.
const MAX_STREAMS: usize = 8;
/// The first request of a stream that begins where the file does.
const FIRST_WINDOW: u64 = 1 << 20;
/// What the kernel asks for at once unless it was told otherwise: a read as long as this may be part of a longer one.
const KERNEL_READ: u64 = 128 << 10;
/// The farthest that is fetched ahead of a reader.
pub(super) const MAX_WINDOW: u64 = 64 << 20;
/// Reads may come out of order by this much and still belong to a stream: the kernel sends several at once.
const SLACK: u64 = 1 << 20;

#[derive(Debug, Clone, Copy)]
struct Stream {
    /// Where its first read began.
    begin: u64,
    /// Where the next read is expected.
    next: u64,
    /// Fetched or asked for up to here.
    ahead: u64,
    window: u64,
}

/// What to fetch for one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadPlan {
    /// Together with what was asked for; holds it.
    pub now: Range<u64>,
    /// In the background.
    pub ahead: Range<u64>,
}

/// The streams of one file, the latest used last.
#[derive(Debug, Default)]
pub(super) struct Streams(Vec<Stream>);

impl Streams {
    /// Notes a read of these bytes in a file of `size` bytes. `window_limit` bounds the window.
    pub fn plan(&mut self, read: Range<u64>, size: u64, window_limit: u64) -> ReadPlan {
        let belongs = |s: &Stream| {
            read.start >= s.next.saturating_sub(SLACK) && read.start <= s.next.saturating_add(SLACK)
        };
        let Some(i) = self.0.iter().rposition(belongs) else {
            return self.begin(read, size);
        };
        let mut stream = self.0.remove(i);
        let goes_on = read.end > stream.next;
        stream.next = stream.next.max(read.end);
        stream.ahead = stream.ahead.max(stream.next);
        let is_trusted = stream.begin == 0 || stream.next - stream.begin > 2 * KERNEL_READ;
        // Half a window in hand is enough; a new request for every read would be small ones.
        let ahead = if goes_on && is_trusted && stream.ahead - stream.next <= stream.window / 2 {
            let most = window_limit.max(FIRST_WINDOW);
            stream.window = (stream.window * 2).max(stream.next - stream.begin).min(most);
            let from = stream.ahead.min(size);
            let to = stream.next.saturating_add(stream.window).min(size).max(from);
            stream.ahead = to;
            from..to
        } else {
            stream.ahead..stream.ahead
        };
        self.0.push(stream);
        ReadPlan { now: read, ahead }
    }

    /// A first read at the file's start is taken for the start of a scan; anywhere else only what was asked for
    /// is fetched, and as much again if it may be part of a longer read.
    fn begin(&mut self, read: Range<u64>, size: u64) -> ReadPlan {
        let window = if read.start == 0 { FIRST_WINDOW } else { 0 };
        let now = read.start..read.end.max(read.start.saturating_add(window).min(size));
        let len = read.end - read.start;
        let more = if window == 0 && len >= KERNEL_READ { len.min(FIRST_WINDOW) } else { 0 };
        let ahead = now.end..now.end.saturating_add(more).min(size);
        if self.0.len() == MAX_STREAMS {
            self.0.remove(0);
        }
        self.0.push(Stream { begin: read.start, next: read.end, ahead: ahead.end, window });
        ReadPlan { ahead, now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn a_sequential_reader_has_ever_more_in_hand_up_to_the_limit() {
        let mut streams = Streams::default();
        let (mut asked, mut longest) = (0, 0);
        for i in 0..8192u64 {
            let read = i << 17..(i + 1) << 17;
            let plan = streams.plan(read.clone(), GIB, MAX_WINDOW);
            assert!(plan.now.start <= read.start && plan.now.end >= read.end);
            asked = asked.max(plan.now.end).max(plan.ahead.end);
            longest = longest.max(plan.ahead.end - plan.ahead.start);
            assert!(asked >= (read.end + (1 << 19)).min(GIB) && asked <= read.end + MAX_WINDOW);
        }
        assert_eq!(asked, GIB);
        assert!(longest > 16 << 20);
    }

    #[test]
    fn a_scattered_read_that_comes_in_parts_fetches_little_more_than_it_asks_for() {
        let mut streams = Streams::default();
        let far = 500 << 20;
        let first = streams.plan(far..far + KERNEL_READ, GIB, MAX_WINDOW);
        assert_eq!(first.now, far..far + KERNEL_READ);
        assert_eq!(first.ahead, far + KERNEL_READ..far + 2 * KERNEL_READ);
        let second = streams.plan(far + KERNEL_READ..far + 2 * KERNEL_READ, GIB, MAX_WINDOW);
        assert!(second.ahead.is_empty(), "{second:?}");
        let third = streams.plan(far + 2 * KERNEL_READ..far + 3 * KERNEL_READ, GIB, MAX_WINDOW);
        assert_eq!(third.ahead, far + 3 * KERNEL_READ..far + 6 * KERNEL_READ);
    }

    #[test]
    fn a_far_seek_asks_for_nothing_more_and_other_streams_go_on() {
        let mut streams = Streams::default();
        streams.plan(0..1000, GIB, MAX_WINDOW);
        let far = streams.plan(500 << 20..(500 << 20) + 4096, GIB, MAX_WINDOW);
        assert_eq!(far.now, 500 << 20..(500 << 20) + 4096);
        assert!(far.ahead.is_empty());
        assert!(!streams.plan((500 << 20) + 4096..501 << 20, GIB, MAX_WINDOW).ahead.is_empty());
        assert!(streams.plan(1 << 20..2 << 20, GIB, MAX_WINDOW).ahead.end > 2 << 20);
    }
}
