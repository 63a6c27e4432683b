//! The chunks of a partly fetched file: which are there, proved or only claimed, and in which order they came.

use std::collections::{HashMap, VecDeque};

use super::journal::{ChunkMark, JournalRecord};

/// Whether a chunk is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkState {
    /// No.
    Absent,
    /// The journal says so; [`PartialFile::verify`](super::PartialFile::verify) finds out.
    Claimed,
    /// Yes, proved.
    Present,
}

#[derive(Debug, Clone, Copy)]
struct HeldChunk {
    len: u32,
    is_proved: bool,
    is_hole: bool,
}

/// See the module's text.
#[derive(Debug, Default)]
pub(super) struct HeldChunks {
    chunks: HashMap<u64, HeldChunk>,
    /// Bytes of the file that are there.
    bytes: u64,
    /// Stored chunks, oldest first; dropped ones may linger.
    order: VecDeque<u64>,
}

impl HeldChunks {
    /// Bytes of the file that are there, claimed ones included.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that are there and take room on the disk.
    pub fn stored_bytes(&self) -> u64 {
        self.chunks.values().filter(|h| !h.is_hole).map(|h| u64::from(h.len)).sum()
    }

    pub fn state_of(&self, offset: u64, len: u32) -> ChunkState {
        match self.chunks.get(&offset) {
            Some(held) if held.len == len && held.is_proved => ChunkState::Present,
            Some(held) if held.len == len => ChunkState::Claimed,
            _ => ChunkState::Absent,
        }
    }

    /// Returns the length of the chunk at an offset, if it is there and proved.
    pub fn proved_len(&self, offset: u64) -> Option<u32> {
        self.chunks.get(&offset).filter(|h| h.is_proved).map(|h| h.len)
    }

    /// Enters what a record of the journal claims.
    pub fn claim(&mut self, record: &JournalRecord) {
        self.remove(record.offset);
        if record.mark != ChunkMark::Gone {
            let is_hole = record.mark == ChunkMark::Zeros;
            self.chunks.insert(record.offset, HeldChunk { len: record.len, is_proved: false, is_hole });
            self.bytes += u64::from(record.len);
            self.order.push_back(record.offset);
        }
    }

    /// Marks a claimed chunk as proved, or removes it if it is not right. Returns `false` if there is no such chunk.
    pub fn settle_claim(&mut self, offset: u64, len: u32, is_right: bool) -> bool {
        let Some(held) = self.chunks.get_mut(&offset).filter(|held| held.len == len) else { return false };
        if is_right {
            held.is_proved = true;
        } else {
            self.remove(offset);
        }
        true
    }

    /// Enters a proved chunk. Returns the bytes on disk that this adds.
    pub fn enter(&mut self, record: &JournalRecord) -> i64 {
        let JournalRecord { offset, len, mark } = *record;
        let is_hole = mark == ChunkMark::Zeros;
        let old = self.chunks.insert(offset, HeldChunk { len, is_proved: true, is_hole });
        self.bytes += u64::from(len);
        self.bytes -= old.map_or(0, |o| o.len.into());
        if old.is_none_or(|o| o.is_hole) && !is_hole {
            self.order.push_back(offset);
            return len.into();
        }
        0
    }

    /// Removes the oldest stored chunk if `free` frees it. Returns its place; none if there is none, or it was not freed.
    pub fn drop_oldest(&mut self, free: impl Fn(u64, u32) -> bool) -> Option<(u64, u32)> {
        loop {
            let offset = self.order.pop_front()?;
            let Some(held) = self.chunks.get(&offset).copied().filter(|h| !h.is_hole) else { continue };
            if !free(offset, held.len) {
                return None;
            }
            self.remove(offset);
            return Some((offset, held.len));
        }
    }

    fn remove(&mut self, offset: u64) {
        if let Some(old) = self.chunks.remove(&offset) {
            self.bytes -= u64::from(old.len);
        }
    }
}
