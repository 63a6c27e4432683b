//! Which bytes of a file to fetch beside those asked for: several sequential streams in one file, each with its window.
//!
//! The kernel cuts a long read into parts. So what follows a first part is fetched beside it; but nothing more until
//! a third one came, and then no stream is trusted with more than it has read: a scattered read of a few hundred
//! KiB fetches the chunks that hold it.

use std::ops::Range;

use super::recent::Recent;
use super::window::{FILE_BYTES, MAX_STREAMS, Window};

/// What the kernel asks for at once by default: a read as long as this may be part of a longer one.
const KERNEL_READ: u64 = 128 << 10;
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
    window: Window,
}

/// What to fetch for one read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadPlan {
    /// What was asked for, and what is fetched together with it.
    pub now: Range<u64>,
    /// What to fetch in the background.
    pub ahead: Range<u64>,
}

/// The streams of one file.
#[derive(Debug, Default)]
pub(crate) struct Streams(Recent<Stream, MAX_STREAMS>);

impl Streams {
    /// Plans a read of these bytes in a file of `size` bytes. `window_limit` bounds the window.
    pub fn plan(&mut self, read: Range<u64>, size: u64, window_limit: u64) -> ReadPlan {
        let belongs = |s: &Stream| {
            read.start >= s.next.saturating_sub(SLACK) && read.start <= s.next.saturating_add(SLACK)
        };
        let Some(mut stream) = self.0.take(belongs) else {
            return self.start(read, size);
        };
        let goes_on = read.end > stream.next;
        stream.next = stream.next.max(read.end);
        stream.ahead = stream.ahead.max(stream.next);
        let was_read = stream.next - stream.begin;
        let is_trusted = stream.begin == 0 || was_read > 2 * KERNEL_READ;
        let ahead = if goes_on && is_trusted && stream.window.is_low(stream.ahead - stream.next) {
            stream.window.grow_to(was_read, window_limit);
            let from = stream.ahead.min(size);
            let to = stream.next.saturating_add(stream.window.size()).min(size).max(from);
            stream.ahead = to;
            from..to
        } else {
            stream.ahead..stream.ahead
        };
        self.0.push(stream);
        ReadPlan { now: read, ahead }
    }

    /// Takes a first read at the file's start for the start of a scan. Anywhere else only what was asked for is fetched,
    /// and as much again if it may be part of a longer read.
    fn start(&mut self, read: Range<u64>, size: u64) -> ReadPlan {
        let is_scan = read.start == 0;
        let window = if is_scan { Window::first(FILE_BYTES) } else { Window::closed(FILE_BYTES) };
        let now = read.start..read.end.max(read.start.saturating_add(window.size()).min(size));
        let len = read.end - read.start;
        let more = if !is_scan && len >= KERNEL_READ { len.min(FILE_BYTES.first) } else { 0 };
        let ahead = now.end..now.end.saturating_add(more).min(size);
        self.0.push(Stream { begin: read.start, next: read.end, ahead: ahead.end, window });
        ReadPlan { ahead, now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const MAX_WINDOW: u64 = FILE_BYTES.most;

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
