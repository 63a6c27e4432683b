//! Chunks that wait in memory for their reader.
//!
//! What is fetched for a stream is read once, soon, and the kernel keeps it in the page cache of the mounted file. It
//! goes to the disk too, but past the page cache there (`Pages::Pass`): so its reader has to find it here. What finds
//! no room here goes through the page cache.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;

/// What came together.
#[derive(Debug)]
struct PrefetchBatch {
    /// By offset.
    chunks: Vec<(u64, Bytes)>,
    /// Bytes that nobody has read.
    unread: u64,
    /// Its place in the order of all batches of all files.
    serial: u64,
    _room: OwnedSemaphorePermit,
}

/// The chunks of one file that wait, those that came last at the end.
#[derive(Debug, Default)]
pub(super) struct Unread {
    batches: VecDeque<PrefetchBatch>,
    /// Bytes of the file's beginning that are hashed.
    hashed: u64,
}

impl Unread {
    /// Lets chunks, in the order of their offsets, wait. `serial` grows from one batch to the next, of any file.
    pub fn keep(&mut self, chunks: &[(u64, Bytes)], serial: u64, room: OwnedSemaphorePermit) {
        let unread = chunks.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.batches.push_back(PrefetchBatch { chunks: chunks.to_vec(), unread, serial, _room: room });
    }

    /// The chunk that begins at an offset, if it waits.
    pub fn chunk(&self, offset: u64) -> Option<&Bytes> {
        self.batches.iter().find_map(|batch| batch.find(offset).map(|i| &batch.chunks[i].1))
    }

    /// These bytes, if all of them wait. They are read with that.
    pub fn read(&mut self, range: &Range<u64>) -> Option<Bytes> {
        let found = self.find(range);
        self.note_read(range);
        found
    }

    fn find(&self, range: &Range<u64>) -> Option<Bytes> {
        let mut out = BytesMut::new();
        let mut at = range.start;
        while at < range.end {
            let (offset, bytes) = self.batches.iter().find_map(|batch| batch.at(at))?;
            let part = bytes.slice((at - offset) as usize..bytes.len().min((range.end - offset) as usize));
            at += part.len() as u64;
            if out.is_empty() && at >= range.end {
                return Some(part);
            }
            out.extend_from_slice(&part);
        }
        Some(out.freeze())
    }

    /// Notes that bytes were read. What was read whole, and is hashed, waits no more.
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
        let ends_within = |batch: &PrefetchBatch| batch.chunks.last().is_none_or(|(at, _)| *at < hashed);
        self.batches.retain(|batch| batch.unread > 0 || !ends_within(batch));
    }

    /// Drops what was read, hashed or not; tells whether that was anything.
    pub fn drop_read(&mut self) -> bool {
        let before = self.batches.len();
        self.batches.retain(|batch| batch.unread > 0);
        self.batches.len() < before
    }

    /// The place of the oldest batch in the order of all.
    pub fn oldest(&self) -> Option<u64> {
        self.batches.front().map(|batch| batch.serial)
    }

    /// Drops the oldest batch.
    pub fn drop_oldest(&mut self) {
        self.batches.pop_front();
    }
}

impl PrefetchBatch {
    fn find(&self, offset: u64) -> Option<usize> {
        self.chunks.binary_search_by_key(&offset, |(at, _)| *at).ok()
    }

    /// The chunk that holds the byte at an offset.
    fn at(&self, offset: u64) -> Option<(u64, &Bytes)> {
        let i = self.chunks.partition_point(|(at, _)| *at <= offset).checked_sub(1)?;
        let (at, bytes) = &self.chunks[i];
        (offset < at + bytes.len() as u64).then_some((*at, bytes))
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
        let take = || room.clone().try_acquire_owned().unwrap();
        let mut unread = Unread::default();
        unread.keep(&chunks(0), 1, take());
        unread.keep(&chunks(100), 2, take());
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
        assert_eq!(unread.read(&(95..101)), None);
        assert_eq!(unread.read(&(139..145)), None);
        assert_eq!(unread.read(&(105..109)).unwrap(), [0; 4][..]);
        assert_eq!(unread.read(&(109..121)).unwrap(), [&[0][..], &[1; 10], &[2]].concat());
        unread.note_read(&(121..137));
        assert!(unread.chunk(100).is_some(), "a byte is not read");
        assert_eq!(unread.read(&(101..105)).unwrap(), [0; 4][..]);
        assert!(unread.chunk(100).is_none() && room.available_permits() == 2);
    }

    #[test]
    fn what_was_read_goes_for_who_needs_room_and_else_the_oldest() {
        let room = Arc::new(Semaphore::new(2));
        let take = || room.clone().try_acquire_owned().unwrap();
        let mut unread = Unread::default();
        unread.keep(&chunks(0), 7, take());
        unread.keep(&chunks(100), 8, take());
        assert!(!unread.drop_read() && unread.oldest() == Some(7));
        unread.note_read(&(100..140));
        assert!(unread.drop_read() && unread.chunk(100).is_none() && room.available_permits() == 1);
        unread.drop_oldest();
        assert!(unread.oldest().is_none() && room.available_permits() == 2);
    }
}
