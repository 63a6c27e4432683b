//! The end of a collection: what it condemned and is still not in use is deleted.

use futures::{StreamExt, TryStreamExt, stream};

use super::choose::keys_of;
use super::collector::Collector;
use super::create_once::settle;
use super::error::GcError;
use super::marks::Marks;
use super::options::{GcOptions, Mode};
use super::report::Finished;
use crate::format::collection::{CollectionEnd, PackFate};
use crate::format::id::PackId;
use crate::repo::tombstones::read_record;
use crate::store::Key;

/// Objects deleted at once.
const PARALLEL_DELETIONS: usize = 16;

impl Collector {
    /// Deletes what a collection condemned and `marks`, made behind a fence of it in every log, does not have in use;
    /// then writes that it has ended. May be repeated, by any number of runs at once. Cost: a request for each object, and
    /// for what was moved of a pack what reading it costs.
    pub(super) async fn sweep(
        &self,
        epoch: u64,
        marks: &Marks,
        options: &GcOptions,
    ) -> Result<Finished, GcError> {
        let record = read_record(self.store(), epoch).await?;
        let mut finished = Finished { epoch, ..Finished::default() };
        let mut doomed: Vec<(Key, u64)> = vec![];
        for (id, fate) in &record.packs {
            match verdict(marks, id, *fate)? {
                Verdict::DeleteIfMoved(key, size) => {
                    // A look deletes nothing.
                    match options.mode == Mode::Look || self.is_moved(id, size, marks).await? {
                        true => doomed.push((key, size)),
                        false => finished.spared += 1,
                    }
                }
                Verdict::Delete(key, size) => doomed.push((key, size)),
                Verdict::Spare => finished.spared += 1,
                Verdict::IsGone => {}
            }
        }
        for key in record.artifacts.iter().flat_map(keys_of) {
            match marks.object(&key.to_string())? {
                Some((false, size)) => doomed.push((key, size)),
                Some((true, _)) => finished.spared += 1,
                None => {}
            }
        }
        finished.objects = doomed.len() as u64;
        finished.bytes = doomed.iter().map(|(_, size)| size).sum();
        if options.mode == Mode::Look {
            return Ok(finished);
        }
        stream::iter(doomed)
            .map(|(key, _)| async move { self.store().delete(&key).await })
            .buffer_unordered(PARALLEL_DELETIONS)
            .try_collect::<()>()
            .await?;
        let end = CollectionEnd::new(epoch, finished.objects, finished.spared);
        // Whoever writes it: it has ended.
        settle(self.store(), &Key::CollectionEnd(epoch), end.encode().into()).await?;
        Ok(finished)
    }
}

enum Verdict {
    Delete(Key, u64),
    /// It goes if what is in use of it is where its table of moves says.
    DeleteIfMoved(Key, u64),
    Spare,
    IsGone,
}

fn verdict(marks: &Marks, id: &PackId, fate: PackFate) -> Result<Verdict, GcError> {
    let (pack, table) = marks.sizes(id)?;
    let (key, size, is_unused) = match fate {
        PackFate::Gone => (Key::Pack(*id), pack, marks.live_bytes(id)? == 0),
        PackFate::Moved => (Key::Pack(*id), pack, marks.live_bytes(id)? == 0 || marks.is_covered(id)),
        PackFate::Forgotten => (Key::Moves(*id), table, !marks.is_table_live(id)),
    };
    let is_in_use = fate == PackFate::Moved && marks.live_bytes(id)? > 0;
    Ok(match size {
        None => Verdict::IsGone,
        Some(size) if is_unused && is_in_use => Verdict::DeleteIfMoved(key, size),
        Some(size) if is_unused => Verdict::Delete(key, size),
        Some(_) => Verdict::Spare,
    })
}
