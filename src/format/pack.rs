//! Packs: chunks back to back, then a table that names them.
//!
//! ```text
//! chunk bytes … | table | table length u32 | "artfspk1"
//! table = 16 random bytes | row count u32 | rows
//! row   = chunk hash 32 | raw length u32 | stored length u32 | codec u8 | codec parameter u8 | key id u16
//! ```
//! A pack's id is the BLAKE3 of its table. Chunk offsets are the running sums of the stored lengths.

use bytes::Bytes;

use super::codec::{Codec, MAX_RAW_BYTES};
use super::error::FormatError;
use super::wire::WireReader;
use crate::format::id::{ChunkId, PackId};

/// The last eight bytes of every pack.
pub const PACK_MAGIC: &[u8; 8] = b"artfspk1";
/// Bytes after the table: its length and the magic.
pub const PACK_FOOTER_BYTES: usize = 12;
/// Writers begin a new pack when the chunks and the table reach this. Readers accept up to 64 MiB and a chunk.
pub const PACK_TARGET_BYTES: usize = 32 << 20;
/// Bytes of a row of the table.
pub const ROW_BYTES: usize = 44;
const WHAT: &str = "pack table";

/// One chunk in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackRow {
    /// The chunk's hash.
    pub id: ChunkId,
    /// Where its stored bytes begin in the pack.
    pub offset: u64,
    /// Length as stored, in bytes.
    pub stored_len: u32,
    /// Length when decoded, in bytes.
    pub raw_len: u32,
    /// How it is stored.
    pub codec: Codec,
}

/// Encodes the table of these chunks, whose `offset`s must be the running sums, and gives the pack's id.
pub fn encode_table(random: [u8; 16], rows: &[PackRow]) -> (PackId, Vec<u8>) {
    let mut out = Vec::with_capacity(20 + rows.len() * ROW_BYTES);
    out.extend_from_slice(&random);
    out.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    for row in rows {
        out.extend_from_slice(row.id.as_bytes());
        out.extend_from_slice(&row.raw_len.to_le_bytes());
        out.extend_from_slice(&row.stored_len.to_le_bytes());
        out.extend_from_slice(&[row.codec.to_byte(), 0]);
        out.extend_from_slice(&0u16.to_le_bytes());
    }
    (PackId::of(&out), out)
}

/// What follows the table at the end of the pack.
pub fn encode_footer(table_len: usize) -> [u8; PACK_FOOTER_BYTES] {
    let mut out = [0; PACK_FOOTER_BYTES];
    out[..4].copy_from_slice(&(table_len as u32).to_le_bytes());
    out[4..].copy_from_slice(PACK_MAGIC);
    out
}

/// A pack of these chunks, whose `offset`s must be the running sums: its id, and its bytes in pieces.
pub fn seal(random: [u8; 16], rows: &[PackRow], mut chunks: Vec<Bytes>) -> (PackId, Vec<Bytes>) {
    let (id, table) = encode_table(random, rows);
    let footer = encode_footer(table.len());
    chunks.push(table.into());
    chunks.push(Bytes::copy_from_slice(&footer));
    (id, chunks)
}

/// The table's length from the pack's last bytes.
///
/// # Errors
/// The bytes are not the end of a pack.
pub fn decode_footer(footer: &[u8]) -> Result<usize, FormatError> {
    let mut r = WireReader::new("pack footer", footer);
    let len = r.u32()?;
    if r.bytes(8)? != PACK_MAGIC {
        return Err(r.error("it does not end as packs do"));
    }
    r.end()?;
    Ok(len as usize)
}

/// Decodes a table and checks that it is the one that gave the pack its name.
///
/// # Errors
/// The table does not hash to `id`, or is damaged.
pub fn decode_table(id: &PackId, table: &[u8]) -> Result<Vec<PackRow>, FormatError> {
    let mut r = WireReader::new(WHAT, table);
    if PackId::of(table) != *id {
        return Err(r.error(format!("its hash is not {id}")));
    }
    r.bytes(16)?;
    let count = r.u32()? as usize;
    if table.len() != 20 + count * ROW_BYTES {
        return Err(r.error(format!("{} bytes cannot hold {count} rows", table.len())));
    }
    let mut offset = 0u64;
    let mut rows = Vec::with_capacity(count);
    for _ in 0..count {
        let id = ChunkId::from_bytes(r.array()?);
        let raw_len = r.u32()?;
        let stored_len = r.u32()?;
        let codec = Codec::from_byte(r.u8()?)?;
        let (_parameter, key) = (r.u8()?, r.u16()?);
        if key != 0 {
            return Err(
                r.error(format!("chunk {id} is encrypted with key {key}, which this version cannot read"))
            );
        }
        if raw_len > MAX_RAW_BYTES || stored_len > MAX_RAW_BYTES {
            return Err(r.error(format!("chunk {id} is longer than {MAX_RAW_BYTES} bytes")));
        }
        rows.push(PackRow { id, offset, stored_len, raw_len, codec });
        offset += u64::from(stored_len);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_round_trip_and_prove_their_name() {
        let rows: Vec<PackRow> = [(10u32, Codec::Raw), (7, Codec::Zstd), (0, Codec::Raw)]
            .iter()
            .scan(0, |offset, (len, codec)| {
                let row = PackRow {
                    id: ChunkId::of(&len.to_le_bytes()),
                    offset: *offset,
                    stored_len: *len,
                    raw_len: len * 2,
                    codec: *codec,
                };
                *offset += u64::from(*len);
                Some(row)
            })
            .collect();
        let (id, table) = encode_table([9; 16], &rows);
        assert_eq!(decode_table(&id, &table).unwrap(), rows);
        assert_eq!(decode_footer(&encode_footer(table.len())).unwrap(), table.len());
        for at in 0..table.len() {
            let mut damaged = table.clone();
            damaged[at] ^= 1;
            assert!(decode_table(&id, &damaged).is_err());
            assert!(decode_table(&id, &table[..at]).is_err());
        }
        assert!(decode_footer(b"").is_err());
        assert!(decode_footer(&[0; 12]).is_err());
    }
}
