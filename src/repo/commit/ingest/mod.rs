//! Reading, cutting, hashing and compressing on all cores, with results in the order of the input.
//!
//! ```text
//! reader (one thread: read, cut) → batches of about 4 MiB → workers (hash, compress) → collector, in order
//! ```
//! Every queue is bounded by [`IN_FLIGHT`] batches, so memory does not grow with the input.

mod collect;
mod encode;
mod reader;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::{channel, sync_channel};

use parking_lot::Mutex;

pub(super) use self::collect::Done;
use self::collect::collect_in_order;
use self::encode::{Encoded, encode_batches};
pub(super) use self::reader::Renewal;
use self::reader::TreeReader;
use self::step::StepBatch;
pub(super) use self::step::{EntryHead, HeadKind};
use super::error::CommitError;
use super::own_bytes::OwnBytes;
use super::progress::CommitProgress;
use super::tree_source::TreeSource;
use crate::format::entry::Entry;
use crate::format::id::ChunkId;
use crate::format::path::TreePath;

/// Batches between reader and collector.
const IN_FLIGHT: usize = 4;

/// Ingests a tree and hands the results to `collect` in path order. `known` says which chunks are stored already; those
/// are not compressed. `renew` decides what becomes of entries whose content is known.
///
/// Blocks until all is done; runs its own threads. The first error of any part ends it.
pub(super) fn ingest(
    tree: &dyn TreeSource,
    renew: impl FnMut(&TreePath, &Entry, Option<OwnBytes>) -> Result<Renewal, CommitError> + Send,
    known: impl Fn(&ChunkId) -> bool + Sync,
    progress: &CommitProgress,
    mut collect: impl FnMut(Done<'_>) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    let (to_workers, batches) = sync_channel::<(u64, StepBatch)>(IN_FLIGHT);
    let (to_collector, encoded) = sync_channel::<(u64, Encoded)>(IN_FLIGHT);
    let (used, spare) = channel();
    let batches = Arc::new(Mutex::new(batches));
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || TreeReader::new(to_workers, spare, progress).run(tree, renew));
        for _ in 0..workers {
            let (to_collector, batches, known) = (to_collector.clone(), batches.clone(), &known);
            scope.spawn(move || encode_batches(&batches, &to_collector, known));
        }
        drop((to_collector, batches));
        let collected = collect_in_order(&encoded, &used, &mut collect);
        // With the receiver gone the workers stop at their next step, and then the reader.
        drop(encoded);
        let read = reader.join().expect("the reader does not panic");
        // A reader that finds no workers left reports that; the collector's own error is the cause.
        match (collected, read) {
            (Err(e), _) | (Ok(()), Err(e)) => Err(e),
            (Ok(()), Ok(())) => Ok(()),
        }
    })
}
