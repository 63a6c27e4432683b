//! The journal of a partly fetched file: which chunks its data file holds.
//!
//! ```text
//! header = "artfspm1" | file size u64
//! record = offset u64 | length and kind u32 | check u32
//! ```
//! The length takes the low 30 bits, the kind (0 stored, 1 zeros, 2 gone) the high two. The check is the start of
//! the BLAKE3 of the twelve bytes before it. Whatever a record says is proved by the chunk's hash before use, so
//! a lost, torn or damaged record costs a fetch at the most.

/// Bytes of the header and of each record.
pub(super) const RECORD_BYTES: usize = 16;
const MAGIC: &[u8; 8] = b"artfspm1";
const LEN_MASK: u32 = (1 << 30) - 1;

/// What a record says about a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkMark {
    /// Its bytes are in the data file.
    Stored,
    /// It is zeros: a hole.
    Zeros,
    /// It is no longer there.
    Gone,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JournalRecord {
    pub offset: u64,
    pub len: u32,
    pub mark: ChunkMark,
}

pub(super) fn header(size: u64) -> [u8; RECORD_BYTES] {
    let mut out = [0; RECORD_BYTES];
    out[..8].copy_from_slice(MAGIC);
    out[8..].copy_from_slice(&size.to_le_bytes());
    out
}

impl JournalRecord {
    pub fn encode(self) -> [u8; RECORD_BYTES] {
        let kind: u32 = match self.mark {
            ChunkMark::Stored => 0,
            ChunkMark::Zeros => 1,
            ChunkMark::Gone => 2,
        };
        let mut out = [0; RECORD_BYTES];
        out[..8].copy_from_slice(&self.offset.to_le_bytes());
        out[8..12].copy_from_slice(&(self.len & LEN_MASK | kind << 30).to_le_bytes());
        let check = check(&out[..12]);
        out[12..].copy_from_slice(&check);
        out
    }

    fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<Self> {
        let (body, found) = bytes.split_at(12);
        if found != check(body) {
            return None;
        }
        let (offset, len) = body.split_at(8);
        let len = u32::from_le_bytes(len.try_into().ok()?);
        let mark = match len >> 30 {
            0 => ChunkMark::Stored,
            1 => ChunkMark::Zeros,
            2 => ChunkMark::Gone,
            _ => return None,
        };
        Some(Self { offset: u64::from_le_bytes(offset.try_into().ok()?), len: len & LEN_MASK, mark })
    }
}

fn check(body: &[u8]) -> [u8; 4] {
    let hash = blake3::hash(body);
    std::array::from_fn(|i| hash.as_bytes()[i])
}

/// Decodes the journal of a file of this size; none if it is the journal of something else. Damaged
/// records are left out.
pub(super) fn decode(bytes: &[u8], size: u64) -> Option<Vec<JournalRecord>> {
    let (records, _torn) = bytes.as_chunks::<RECORD_BYTES>();
    let (first, records) = records.split_first()?;
    (*first == header(size)).then(|| {
        let inside = |r: &JournalRecord| r.offset.checked_add(r.len.into()).is_some_and(|end| end <= size);
        records.iter().filter_map(JournalRecord::decode).filter(inside).collect()
    })
}

/// Counts the records of a journal, for a fuzzer.
pub fn count(bytes: &[u8], size: u64) -> Option<usize> {
    decode(bytes, size).map(|records| records.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_and_torn_records_are_left_out() {
        let record = |offset, mark| JournalRecord { offset, len: 100, mark };
        let all = [record(0, ChunkMark::Stored), record(100, ChunkMark::Zeros), record(0, ChunkMark::Gone)];
        let mut bytes = header(1000).to_vec();
        all.iter().for_each(|r| bytes.extend_from_slice(&r.encode()));
        assert_eq!(decode(&bytes, 1000).unwrap(), all);
        assert_eq!(decode(&bytes[..bytes.len() - 1], 1000).unwrap(), all[..2]);
        assert!(decode(&bytes, 1001).is_none());
        assert!(decode(&bytes[..7], 1000).is_none());
        assert_eq!(decode(&bytes, 1000).unwrap().len(), 3);
        for at in RECORD_BYTES..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert_eq!(decode(&damaged, 1000).unwrap().len(), 2, "{at}");
        }
    }
}
