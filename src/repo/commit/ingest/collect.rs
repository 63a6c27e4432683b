//! The collector: puts encoded batches back into the order of the tree.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};

use super::super::error::CommitError;
use super::encode::Encoded;
use super::step::{EntryHead, ReadStep};
use crate::format::chunk::ChunkRule;
use crate::format::codec::Codec;
use crate::format::id::ChunkId;

/// The bytes of chunks in holes, up to the longest chunk.
static ZEROS: [u8; ChunkRule::Binary.sizes().max] = [0; ChunkRule::Binary.sizes().max];

/// What ingesting a tree yields, in path order.
pub(in super::super) enum Done<'a> {
    /// An entry that has no bytes to read, or a file whose chunks follow.
    Begin(EntryHead),
    /// The next chunk of the file begun last.
    Chunk { raw: &'a [u8], id: ChunkId, codec: Codec, stored: &'a [u8] },
    /// The chunks of the file begun last are void; it begins again.
    Again,
    /// The file begun last has no more chunks.
    End,
}

/// Hands the steps of all batches to `collect`, in order, and their buffers back to the reader.
pub(super) fn collect_in_order(
    encoded: &Receiver<(u64, Encoded)>,
    used: &Sender<Vec<u8>>,
    collect: &mut impl FnMut(Done<'_>) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    let (mut early, mut zeros) = (BTreeMap::new(), BTreeMap::new());
    let mut next = 0;
    while let Ok((number, batch)) = encoded.recv() {
        early.insert(number, batch);
        while let Some(Encoded { batch, chunks }) = early.remove(&next) {
            next += 1;
            let mut chunks = chunks.into_iter();
            for step in batch.steps {
                match step {
                    ReadStep::Begin(head) => collect(Done::Begin(*head))?,
                    ReadStep::Again => collect(Done::Again)?,
                    ReadStep::End => collect(Done::End)?,
                    ReadStep::Zeros(len) => {
                        let raw = &ZEROS[..len];
                        let id = *zeros.entry(len).or_insert_with(|| ChunkId::of(raw));
                        collect(Done::Chunk { raw, id, codec: Codec::Zero, stored: &[] })?;
                    }
                    ReadStep::Chunk(range) => {
                        let (id, codec, own) = chunks.next().expect("the worker gave one result a chunk");
                        let raw = &batch.bytes[range];
                        let stored = match (&own, codec) {
                            (Some(stored), _) => stored.as_slice(),
                            (None, Codec::Zero) => &[],
                            (None, _) => raw,
                        };
                        collect(Done::Chunk { raw, id, codec, stored })?;
                    }
                }
            }
            // A reader that has ended needs no more memory.
            let _ = used.send(batch.bytes);
        }
    }
    if early.is_empty() { Ok(()) } else { Err(CommitError::Worker) }
}
