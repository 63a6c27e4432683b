//! Chunks that wait in memory for their reader.
//!
//! What is fetched for a stream is read once, soon, and the kernel keeps it in the page cache of the mounted file. It
//! goes to the disk too, but past the page cache there (`Pages::Pass`): so its reader has to find it here. What finds
//! no room here goes through the page cache.

use parking_lot::{Mutex, MutexGuard};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Weak};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one part of the budget stands for.
const UNIT_BYTES: u64 = 64 << 10;

/// Room in the budget for one batch, and the batch's place in the order of all files' batches.
#[derive(Debug)]
struct Room {
    serial: u64,
    _units: OwnedSemaphorePermit,
}

/// The memory for all chunks that wait, and the buffers that share it.
#[derive(Debug)]
pub(crate) struct PrefetchBudget {
    units: Arc<Semaphore>,
    buffers: Mutex<Buffers>,
}

#[derive(Debug, Default)]
struct Buffers {
    serial: u64,
    all: Vec<Weak<Mutex<Unread>>>,
}

impl PrefetchBudget {
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { units: Arc::new(Semaphore::new(units(bytes) as usize)), buffers: Mutex::default() })
    }

    /// Returns room for a batch. Without room, what was read already goes; else the batch that has waited for longest,
    /// whichever file it is of, so that what nobody comes for does not stay.
    fn room(&self, bytes: u64) -> Option<Room> {
        let take = || self.units.clone().try_acquire_many_owned(units(bytes)).ok();
        let place = |units| {
            let mut buffers = self.buffers.lock();
            buffers.serial += 1;
            Room { serial: buffers.serial, _units: units }
        };
        if let Some(units) = take() {
            return Some(place(units));
        }
        let live: Vec<_> = self.buffers.lock().all.iter().filter_map(Weak::upgrade).collect();
        let dropped = live.iter().filter(|buffer| buffer.lock().drop_read()).count();
        if dropped > 0
            && let Some(units) = take()
        {
            return Some(place(units));
        }
        let oldest = live.iter().filter_map(|buffer| Some((buffer.lock().oldest()?, buffer)));
        if let Some((_, buffer)) = oldest.min_by_key(|(serial, _)| *serial) {
            buffer.lock().drop_oldest();
        }
        None
    }

    /// Counts a buffer among those that share the budget.
    fn join(&self, buffer: &Arc<Mutex<Unread>>) {
        let all = &mut self.buffers.lock().all;
        all.retain(|known| known.strong_count() > 0);
        if !all.iter().any(|known| known.as_ptr() == Arc::as_ptr(buffer)) {
            all.push(Arc::downgrade(buffer));
        }
    }

    /// Bytes of the budget that are free.
    #[cfg(test)]
    pub fn free_bytes(&self) -> u64 {
        self.units.available_permits() as u64 * UNIT_BYTES
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX >> 4)
}

/// The chunks of one file that wait. Its lock is held for look-ups and copies of some pages only.
#[derive(Debug)]
pub(crate) struct PrefetchBuffer {
    budget: Arc<PrefetchBudget>,
    unread: Arc<Mutex<Unread>>,
}

impl PrefetchBuffer {
    pub fn new(budget: &Arc<PrefetchBudget>) -> Self {
        Self { budget: budget.clone(), unread: Arc::default() }
    }

    fn unread(&self) -> MutexGuard<'_, Unread> {
        self.unread.lock()
    }

    /// Lets chunks wait, in the order of their offsets, if there is room for the `bytes` that they keep in memory.
    pub fn keep(&self, chunks: &[(u64, Bytes)], bytes: u64) -> bool {
        let Some(room) = self.budget.room(bytes) else { return false };
        self.budget.join(&self.unread);
        self.unread().keep(chunks, room);
        true
    }

    /// Returns the chunk that begins at an offset, if it waits.
    pub fn chunk(&self, offset: u64) -> Option<Bytes> {
        self.unread().chunk(offset).cloned()
    }

    /// Reads these bytes, if all of them wait.
    pub fn read(&self, range: &Range<u64>) -> Option<Bytes> {
        self.unread().read(range)
    }

    /// Notes that bytes were read. What was read whole and is hashed stops waiting.
    pub fn note_read(&self, read: &Range<u64>) {
        self.unread().note_read(read);
    }

    /// Notes how much of the file's beginning is hashed.
    pub fn note_hashed(&self, hashed: u64) {
        self.unread().note_hashed(hashed);
    }
}

/// Chunks that came together.
#[derive(Debug)]
struct PrefetchBatch {
    /// By offset.
    chunks: Vec<(u64, Bytes)>,
    /// Bytes that were not read yet.
    unread: u64,
    room: Room,
}

/// The chunks of one file that wait, those that came last at the end.
#[derive(Debug, Default)]
struct Unread {
    batches: VecDeque<PrefetchBatch>,
    /// Bytes of the file's beginning that are hashed.
    hashed: u64,
}

impl Unread {
    /// Lets chunks, in the order of their offsets, wait.
    fn keep(&mut self, chunks: &[(u64, Bytes)], room: Room) {
        let unread = chunks.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.batches.push_back(PrefetchBatch { chunks: chunks.to_vec(), unread, room });
    }

    /// Returns the chunk that begins at an offset, if it waits.
    fn chunk(&self, offset: u64) -> Option<&Bytes> {
        self.batches.iter().find_map(|batch| batch.find(offset).map(|i| &batch.chunks[i].1))
    }

    /// Reads these bytes, if all of them wait.
    fn read(&mut self, range: &Range<u64>) -> Option<Bytes> {
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

    /// Notes that bytes were read. What was read whole and is hashed stops waiting.
    fn note_read(&mut self, read: &Range<u64>) {
        for batch in &mut self.batches {
            batch.unread = batch.unread.saturating_sub(batch.overlap(read));
        }
        self.drop_done();
    }

    /// Notes how much of the file's beginning is hashed.
    fn note_hashed(&mut self, hashed: u64) {
        self.hashed = self.hashed.max(hashed);
        self.drop_done();
    }

    fn drop_done(&mut self) {
        let hashed = self.hashed;
        let ends_within = |batch: &PrefetchBatch| batch.chunks.last().is_none_or(|(at, _)| *at < hashed);
        self.batches.retain(|batch| batch.unread > 0 || !ends_within(batch));
    }

    /// Drops what was read, hashed or not. Returns whether that was anything.
    fn drop_read(&mut self) -> bool {
        let before = self.batches.len();
        self.batches.retain(|batch| batch.unread > 0);
        self.batches.len() < before
    }

    /// Returns the place of the oldest batch in the order of all files' batches.
    fn oldest(&self) -> Option<u64> {
        self.batches.front().map(|batch| batch.room.serial)
    }

    /// Drops the oldest batch.
    fn drop_oldest(&mut self) {
        self.batches.pop_front();
    }
}

impl PrefetchBatch {
    fn find(&self, offset: u64) -> Option<usize> {
        self.chunks.binary_search_by_key(&offset, |(at, _)| *at).ok()
    }

    /// Returns the chunk that holds the byte at an offset.
    fn at(&self, offset: u64) -> Option<(u64, &Bytes)> {
        let i = self.chunks.partition_point(|(at, _)| *at <= offset).checked_sub(1)?;
        let (at, bytes) = &self.chunks[i];
        (offset < at + bytes.len() as u64).then_some((*at, bytes))
    }

    /// Returns how many of its bytes a range holds.
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
        let take = |serial| Room { serial, _units: room.clone().try_acquire_owned().unwrap() };
        let mut unread = Unread::default();
        unread.keep(&chunks(0), take(1));
        unread.keep(&chunks(100), take(2));
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
    fn what_was_read_makes_room_and_else_the_oldest_goes() {
        let room = Arc::new(Semaphore::new(2));
        let take = |serial| Room { serial, _units: room.clone().try_acquire_owned().unwrap() };
        let mut unread = Unread::default();
        unread.keep(&chunks(0), take(7));
        unread.keep(&chunks(100), take(8));
        assert!(!unread.drop_read() && unread.oldest() == Some(7));
        unread.note_read(&(100..140));
        assert!(unread.drop_read() && unread.chunk(100).is_none() && room.available_permits() == 1);
        unread.drop_oldest();
        assert!(unread.oldest().is_none() && room.available_permits() == 2);
    }
}
