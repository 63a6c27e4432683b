//! Where the chunks of a rewritten pack are now: read when the pack itself is gone.
//!
//! ```text
//! table = "artfsmv1" | pack id 32 | pack count u32 | pack ids | row count u32 | rows | BLAKE3 of all bytes before 32
//! row   = chunk id 32 | codec u8 | pack number u16 | offset u64 | stored length u32      (47 bytes)
//! ```
//! Rows stand in the order of their chunk ids, each once. The pack number counts into the list of pack ids.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::codec::Codec;
use super::collection::checked_body;
use super::entry::{ChunkLocation, PackNames, decode_place, encode_place};
use super::error::FormatError;
use super::wire::WireReader;
use crate::format::id::{ChunkId, PackId};

const MAGIC: &[u8; 8] = b"artfsmv1";
const ROW_BYTES: usize = 47;
const WHAT: &str = "table of moves";

/// A table of moves, checked once and then searched in place.
#[derive(Debug, Clone)]
pub struct Moves {
    packs: Vec<PackId>,
    rows: Bytes,
}

/// Encodes the table of a pack's moves.
pub fn encode_moves(pack: &PackId, moves: &BTreeMap<ChunkId, ChunkLocation>) -> Vec<u8> {
    let mut packs = PackNames::default();
    let mut rows = Vec::with_capacity(moves.len() * ROW_BYTES);
    for (chunk, place) in moves {
        rows.extend_from_slice(chunk.as_bytes());
        encode_place(place, &mut packs, &mut rows);
    }
    let mut out = Vec::with_capacity(80 + packs.list.len() * 32 + rows.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(pack.as_bytes());
    out.extend_from_slice(&(packs.list.len() as u32).to_le_bytes());
    packs.list.iter().for_each(|id| out.extend_from_slice(id.as_bytes()));
    out.extend_from_slice(&(moves.len() as u32).to_le_bytes());
    out.extend_from_slice(&rows);
    let hash = blake3::hash(&out);
    out.extend_from_slice(hash.as_bytes());
    out
}

impl Moves {
    /// Reads the table of this pack. Cost: linear in the rows.
    ///
    /// # Errors
    /// The table is damaged, or that of another pack.
    pub fn decode(pack: &PackId, bytes: &Bytes) -> Result<Self, FormatError> {
        let mut r = WireReader::new(WHAT, checked_body(WHAT, bytes)?);
        if r.bytes(MAGIC.len())? != MAGIC {
            return Err(r.error("it does not begin as tables of this format do"));
        }
        let found = PackId::from_bytes(r.array()?);
        if found != *pack {
            return Err(r.error(format!("it is that of pack {found}")));
        }
        let mut packs = vec![];
        for _ in 0..r.u32()? {
            packs.push(PackId::from_bytes(r.array()?));
        }
        let count = r.u32()? as usize;
        let wanted = count.checked_mul(ROW_BYTES).ok_or_else(|| r.error(format!("{count} rows")))?;
        let rows = r.bytes(wanted)?;
        r.end()?;
        let table = Self { packs, rows: bytes.slice_ref(rows) };
        table.check()?;
        Ok(table)
    }

    fn check(&self) -> Result<(), FormatError> {
        let error = |problem: String| FormatError::new(WHAT, problem);
        let mut before: Option<ChunkId> = None;
        for i in 0..self.len() {
            let (chunk, place) = self.row(i)?;
            if before.is_some_and(|before| before >= chunk) {
                return Err(error("its rows are not in order".into()));
            }
            if place.codec == Codec::Zero {
                return Err(error(format!("chunk {chunk} was moved nowhere")));
            }
            before = Some(chunk);
        }
        Ok(())
    }

    fn row(&self, i: usize) -> Result<(ChunkId, ChunkLocation), FormatError> {
        let row = self.rows.get(i * ROW_BYTES..(i + 1) * ROW_BYTES);
        let mut r = WireReader::new(WHAT, row.ok_or_else(|| FormatError::new(WHAT, format!("no row {i}")))?);
        let chunk = ChunkId::from_bytes(r.array()?);
        let place = decode_place(&mut r, &|n| self.packs.get(usize::from(n)).copied())?;
        Ok((chunk, place))
    }

    fn id(&self, i: usize) -> Option<&[u8]> {
        self.rows.get(i * ROW_BYTES..i * ROW_BYTES + 32)
    }

    /// How many chunks were moved.
    pub fn len(&self) -> usize {
        self.rows.len() / ROW_BYTES
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Its size in memory, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.rows.len() + self.packs.len() * 32
    }

    /// The packs that chunks were moved to.
    pub fn targets(&self) -> &[PackId] {
        &self.packs
    }

    /// All chunks that were moved, and where they are.
    pub fn places(&self) -> BTreeMap<ChunkId, ChunkLocation> {
        (0..self.len()).filter_map(|i| self.row(i).ok()).collect()
    }

    /// Where a chunk is now; none if it was not moved. Cost: a search in memory.
    pub fn find(&self, chunk: &ChunkId) -> Option<ChunkLocation> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.id(middle)? < chunk.as_bytes().as_slice() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let (found, place) = self.row(low).ok()?;
        (found == *chunk).then_some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(n: u64) -> ChunkId {
        ChunkId::of(&n.to_le_bytes())
    }

    fn place(n: u64) -> ChunkLocation {
        let codec = if n.is_multiple_of(2) { Codec::Raw } else { Codec::Zstd };
        ChunkLocation {
            pack: PackId::of(&[(n % 3) as u8]),
            offset: n * 1000,
            stored_len: n as u32 + 1,
            codec,
        }
    }

    fn encoded(count: u64) -> Bytes {
        encode_moves(&PackId::of(b"old"), &(0..count).map(|n| (chunk(n), place(n))).collect()).into()
    }

    #[test]
    fn every_chunk_is_found_where_it_was_moved_to_and_no_other() {
        for count in [0, 1, 2, 100] {
            let table = Moves::decode(&PackId::of(b"old"), &encoded(count)).unwrap();
            assert_eq!((table.len(), table.is_empty()), (count as usize, count == 0));
            assert_eq!(table.targets().len(), count.min(3) as usize);
            for n in 0..count {
                assert_eq!(table.find(&chunk(n)), Some(place(n)));
            }
            for n in count..count + 50 {
                assert_eq!(table.find(&chunk(n)), None);
            }
        }
    }

    #[test]
    fn damaged_tables_and_those_of_other_packs_are_refused() {
        let (good, pack) = (encoded(5), PackId::of(b"old"));
        assert!(Moves::decode(&PackId::of(b"other"), &good).is_err());
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert!(Moves::decode(&pack, &bad.into()).is_err(), "byte {at}");
            assert!(Moves::decode(&pack, &good.slice(..at)).is_err(), "cut at {at}");
        }
        // With a right hash, too, what makes no sense is an error.
        let hashed = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut body = good[..good.len() - 32].to_vec();
            change(&mut body);
            let hash = blake3::hash(&body);
            body.extend_from_slice(hash.as_bytes());
            Moves::decode(&pack, &body.into())
        };
        assert!(hashed(&|_| {}).is_ok());
        let rows = 8 + 32 + 4 + 3 * 32 + 4;
        assert!(hashed(&|b| b[40..44].copy_from_slice(&u32::MAX.to_le_bytes())).is_err());
        assert!(hashed(&|b| b[rows - 4..rows].copy_from_slice(&u32::MAX.to_le_bytes())).is_err());
        assert!(hashed(&|b| b.push(0)).is_err());
        assert!(hashed(&|b| b[rows + 32] = 2).is_err(), "a chunk of zeros is nowhere");
        assert!(hashed(&|b| b[rows + 33] = 9).is_err(), "there is no pack 9");
        let swap = |b: &mut Vec<u8>| b[rows..rows + 2 * ROW_BYTES].rotate_left(ROW_BYTES);
        assert!(hashed(&swap).is_err(), "rows out of order");
    }
}
