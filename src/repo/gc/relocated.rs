//! Before a rewritten pack goes: is what is in use of it really where its table of moves says?
//!
//! A table proves nothing: whoever can write to the store can write one. Every chunk in use is read at its new place, and
//! has its hash, or the pack stays.

use std::collections::BTreeMap;

use super::collector::Collector;
use super::error::GcError;
use super::marks::Marks;
use super::repack::{RepackError, damaged, of_store, proved, stretches};
use crate::format::id::PackId;
use crate::format::pack::PackRow;
use crate::repo::view::MAX_MOVES;
use crate::store::Key;

impl Collector {
    /// Whether everything in use of a pack of this size is in other packs, which stay, by tables of moves. Cost: reading
    /// the pack's table and all of that.
    pub(super) async fn is_moved(&self, pack: &PackId, size: u64, marks: &Marks) -> Result<bool, GcError> {
        match self.prove_moves(pack, size, marks).await {
            Ok(()) => Ok(true),
            Err(RepackError::Damaged(problem)) => {
                tracing::error!(%pack, problem, "a pack stays: not all of it is where its table of moves says");
                Ok(false)
            }
            Err(RepackError::Gc(error)) => Err(error),
        }
    }

    async fn prove_moves(&self, pack: &PackId, size: u64, marks: &Marks) -> Result<(), RepackError> {
        let number = marks.number_of(pack).ok_or_else(|| damaged("it was not listed"))?;
        let mut moved: BTreeMap<PackId, Vec<PackRow>> = BTreeMap::new();
        for row in self.live_rows(number, pack, size, marks).await? {
            let (to, row) = self.new_place(pack, row, marks).await?;
            moved.entry(to).or_default().push(row);
        }
        for (to, mut rows) in moved {
            rows.sort_unstable_by_key(|row| row.offset);
            for (range, rows) in stretches(&rows) {
                let piece = self.store().get_range(&Key::Pack(to), range.clone()).await.map_err(of_store)?;
                for row in rows {
                    proved(row, &piece, range.start)?;
                }
            }
        }
        Ok(())
    }

    /// Where a chunk of a pack is now: in the first pack on its way that stays.
    async fn new_place(
        &self,
        pack: &PackId,
        row: PackRow,
        marks: &Marks,
    ) -> Result<(PackId, PackRow), RepackError> {
        let mut at = *pack;
        for _ in 0..MAX_MOVES {
            let table = self.context.moves(&at).await.map_err(GcError::from)?;
            let place = table.and_then(|table| table.find(&row.id));
            let place = place.ok_or_else(|| damaged(format!("chunk {} was not moved", row.id)))?;
            let stays = marks.number_of(&place.pack).is_some_and(|number| marks.is_listed(number))
                && self.condemned.fate(&place.pack).is_none();
            if stays && place.pack != *pack {
                let row =
                    PackRow { offset: place.offset, stored_len: place.stored_len, codec: place.codec, ..row };
                return Ok((place.pack, row));
            }
            at = place.pack;
        }
        Err(damaged(format!("chunk {} was moved in a circle", row.id)))
    }
}
