//! Proves the table of a pack. Reading content needs no table, so only a check of the store reads them.

use crate::format::FormatError;
use crate::format::id::PackId;
use crate::format::pack::{PACK_FOOTER_BYTES, decode_footer, decode_table};
use crate::repo::view::error::ReadError;
use crate::repo::view::fetch::Fetcher;
use crate::repo::view::origin::Origin;
use crate::store::{Key, StoreError};

/// What is read of a pack's end at first: the table of 1,400 chunks. The rest of a longer one is a second request.
const FIRST_TAIL_BYTES: u64 = 64 << 10;
/// The longest table that is read: 1.5 million chunks, more than any pack has.
const MAX_TABLE_BYTES: u64 = 64 << 20;

/// Checks that a pack has the table that gave it its name, and ends where the table says. Returns the packs that its
/// chunks were moved to, if it was rewritten, or if its table is damaged and its chunks were stored again. A pack that is
/// missing is not an error here: its chunks are missed when they are read.
pub(crate) async fn prove_pack(
    fetcher: &Fetcher,
    origin: &Origin,
    pack: &PackId,
) -> Result<Vec<PackId>, ReadError> {
    match prove_table(fetcher, origin, pack).await {
        // Its chunks were stored again: nobody needs its table any more.
        Err(error @ ReadError::Corrupt { .. }) => {
            let moves = fetcher.relocations().moves(pack).await.map_err(|e| origin.failed(e))?;
            moves.map(|moves| moves.targets().to_vec()).ok_or(error)
        }
        proved => proved,
    }
}

async fn prove_table(fetcher: &Fetcher, origin: &Origin, pack: &PackId) -> Result<Vec<PackId>, ReadError> {
    let failed = |e| origin.failed(e);
    let key = Key::Pack(*pack);
    let store = fetcher.store();
    let size = match store.stat(&key).await {
        Ok(found) => found.size,
        Err(StoreError::NotFound { .. }) => {
            let moves = fetcher.relocations().moves(pack).await.map_err(failed)?;
            return Ok(moves.map(|moves| moves.targets().to_vec()).unwrap_or_default());
        }
        Err(error) => return Err(failed(error)),
    };
    let corrupt = |error| failed(StoreError::corrupt(&key, error));
    let damaged = |problem: String| corrupt(FormatError::new("pack", problem));
    let footer_bytes = PACK_FOOTER_BYTES as u64;
    let tail = store.get_range(&key, size.saturating_sub(FIRST_TAIL_BYTES)..size).await.map_err(failed)?;
    let footer = tail.len().checked_sub(PACK_FOOTER_BYTES).and_then(|at| tail.get(at..));
    let footer = footer.ok_or_else(|| damaged(format!("it has only {size} bytes")))?;
    let table_bytes = decode_footer(footer).map_err(corrupt)? as u64;
    let end = size - footer_bytes;
    let begin = end.checked_sub(table_bytes).filter(|_| table_bytes <= MAX_TABLE_BYTES);
    let begin = begin.ok_or_else(|| damaged(format!("{size} bytes cannot hold a table of {table_bytes}")))?;
    let table = match tail.len() as u64 >= size - begin {
        true => tail.slice(tail.len() - (size - begin) as usize..tail.len() - PACK_FOOTER_BYTES),
        false => store.get_range(&key, begin..end).await.map_err(failed)?,
    };
    let rows = decode_table(pack, &table).map_err(corrupt)?;
    let chunk_bytes: u64 = rows.iter().map(|row| u64::from(row.stored_len)).sum();
    match chunk_bytes == begin {
        true => Ok(vec![]),
        false => Err(damaged(format!("its table is for {chunk_bytes} bytes of chunks, it has {begin}"))),
    }
}
