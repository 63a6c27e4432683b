//! Chunks that wait in memory for their reader.
//!
//! What is fetched for a stream is read once, soon, and the kernel keeps it in the page cache of the mounted file. It
//! goes to the disk too, but past the page cache there (`Pages::Pass`): so its reader has to find it here. What finds
//! no room here goes through the page cache.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

/// What came together.
#[derive(Debug)]
struct Batch {
    /// By offset.
    chunks: Vec<(u64, Bytes)>,
    /// Bytes that nobody has read.
    unread: u64,
    _room: OwnedSemaphorePermit,
}

/// The chunks of one file that wait, those that came last at the end.
#[derive(Debug, Default)]
pub(super) struct Unread {
    batches: VecDeque<Batch>,
    /// Bytes of the file's beginning that are hashed.
    hashed: u64,
}

impl Unread {
    /// Lets chunks, in the order of their offsets, wait; tells whether they do. Without room for them what has waited for
    /// longest goes, so that what nobody comes for does not stay.
    pub fn keep(&mut self, chunks: &[(u64, Bytes)], room: Option<OwnedSemaphorePermit>) -> bool {
        let Some(room) = room else {
            self.batches.pop_front();
            return false;
        };
        let unread = chunks.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.batches.push_back(Batch { chunks: chunks.to_vec(), unread, _room: room });
        true
    }

    /// The chunk that begins at an offset, if it waits.
    pub fn chunk(&self, offset: u64) -> Option<&Bytes> {
        self.batches.iter().find_map(|batch| batch.find(offset).map(|i| &batch.chunks[i].1))
    }

    /// Notes that bytes were read. What was read whole waits no more.
    pub fn note_read(&mut self, read: &Range<u64>) {
        for batch in &mut self.batches {
            batch.unread = batch.unread.saturating_sub(batch.overlap(read));
        }
        self.drop_done();
    }

    /// Notes how much of the file's beginning is hashed.
    pub fn note_hashed(&mut self, hashed: u64) {
        self.hashed = self.hashed.max(hashed);
        self.drop_done();
    }

    fn drop_done(&mut self) {
        let hashed = self.hashed;
        let ends_within = |batch: &Batch| batch.chunks.last().is_none_or(|(at, _)| *at < hashed);
        self.batches.retain(|batch| batch.unread > 0 || !ends_within(batch));
    }
}

impl Batch {
    fn find(&self, offset: u64) -> Option<usize> {
        self.chunks.binary_search_by_key(&offset, |(at, _)| *at).ok()
    }

    /// How many bytes of it a range holds.
    fn overlap(&self, range: &Range<u64>) -> u64 {
        let ends = |(at, bytes): &(u64, Bytes)| at + bytes.len() as u64;
        let first = self.chunks.partition_point(|chunk| ends(chunk) <= range.start);
        let within = self.chunks[first..].iter().take_while(|(at, _)| *at < range.end);
        within.map(|chunk| ends(chunk).min(range.end) - chunk.0.max(range.start)).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    fn chunks(begin: u64) -> Vec<(u64, Bytes)> {
        (0..4).map(|i| (begin + i * 10, vec![i as u8; 10].into())).collect()
    }

    #[test]
    fn chunks_wait_until_they_are_read_and_hashed() {
        let room = Arc::new(Semaphore::new(2));
        let take = || room.clone().try_acquire_owned().ok();
        let mut unread = Unread::default();
        assert!(unread.keep(&chunks(0), take()) && unread.keep(&chunks(100), take()));
        assert_eq!(unread.chunk(110), Some(&chunks(100)[1].1));
        assert!(unread.chunk(105).is_none() && unread.chunk(40).is_none());
        // In any order, over ends and gaps.
        for read in [35..105, 0..20, 20..35] {
            assert!(unread.chunk(0).is_some());
            unread.note_read(&read);
        }
        assert!(unread.chunk(0).is_some(), "it is not hashed");
        unread.note_hashed(25);
        assert!(unread.chunk(0).is_some());
        unread.note_hashed(40);
        assert!(unread.chunk(0).is_none() && room.available_permits() == 1);
        unread.note_hashed(200);
        assert!(unread.chunk(100).is_some(), "it is not read");
        unread.note_read(&(0..200));
        assert!(unread.chunk(100).is_none() && room.available_permits() == 2);
    }

    #[test]
    fn without_room_the_oldest_go() {
        let room = Arc::new(Semaphore::new(2));
        let take = || room.clone().try_acquire_owned().ok();
        let mut unread = Unread::default();
        assert!(unread.keep(&chunks(0), take()) && unread.keep(&chunks(100), take()));
        assert!(!unread.keep(&chunks(200), take()));
        assert!(unread.chunk(0).is_none() && unread.chunk(100).is_some() && unread.chunk(200).is_none());
        assert!(unread.keep(&chunks(200), take()));
    }
}
