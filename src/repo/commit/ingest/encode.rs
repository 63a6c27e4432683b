//! The workers: hash chunks, and compress those that are not stored yet. Any number of threads.

use std::borrow::Cow;
use std::sync::mpsc::{Receiver, SyncSender};

use parking_lot::Mutex;

use super::step::{ReadStep, StepBatch};
use crate::format::codec::{Codec, Encoder};
use crate::format::id::ChunkId;

/// A batch with the stored forms of its chunks, in order.
pub(super) struct Encoded {
    pub batch: StepBatch,
    /// None where the stored form is the chunk itself.
    pub chunks: Vec<(ChunkId, Codec, Option<Vec<u8>>)>,
}

/// Encodes batches until there are no more, or nobody takes them.
pub(super) fn encode_batches(
    batches: &Mutex<Receiver<(u64, StepBatch)>>,
    to_collector: &SyncSender<(u64, Encoded)>,
    known: &(impl Fn(&ChunkId) -> bool + Sync),
) {
    let mut encoder = match Encoder::new() {
        Ok(encoder) => encoder,
        Err(e) => {
            tracing::error!(error = %e, "no memory for compression");
            return;
        }
    };
    loop {
        let next = batches.lock().recv();
        let Ok((number, batch)) = next else { return };
        let ranges = batch.steps.iter().filter_map(|step| match step {
            ReadStep::Chunk(range) => Some(range.clone()),
            _ => None,
        });
        let chunks = ranges
            .map(|range| {
                let raw = &batch.bytes[range];
                let id = ChunkId::of(raw);
                if known(&id) {
                    return (id, Codec::Raw, None);
                }
                match encoder.encode(raw) {
                    (codec, Cow::Owned(stored)) => (id, codec, Some(stored)),
                    (codec, Cow::Borrowed(_)) => (id, codec, None),
                }
            })
            .collect();
        if to_collector.send((number, Encoded { batch, chunks })).is_err() {
            return;
        }
    }
}
