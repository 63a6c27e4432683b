//! What the reader hands on: steps of reading a tree, in batches with their bytes.

use std::ops::Range;

use super::super::unchanged_range::UnchangedRange;
use crate::format::chunk::ChunkRule;
use crate::format::entry::{EntryBody, Mtime};
use crate::format::path::TreePath;

/// An entry without its bytes.
pub(in super::super) struct EntryHead {
    pub path: TreePath,
    pub executable: bool,
    pub mtime: Mtime,
    pub what: HeadKind,
}

/// How much of an entry is known before its bytes are read.
pub(in super::super) enum HeadKind {
    /// All of it.
    Ready(EntryBody),
    /// A file that is cut by this rule; its chunks follow.
    File(ChunkRule),
    /// The first of a range.
    Unchanged(UnchangedRange),
}

/// Consecutive steps of the reader: their bytes, and what they mean.
#[derive(Default)]
pub(super) struct StepBatch {
    pub bytes: Vec<u8>,
    pub steps: Vec<ReadStep>,
}

/// One step of reading a tree.
pub(super) enum ReadStep {
    /// An entry begins; the chunks of a file follow.
    Begin(Box<EntryHead>),
    /// A chunk, by its place in the batch's bytes.
    Chunk(Range<usize>),
    /// A chunk of this many zeros in a hole, which is not read.
    Zeros(usize),
    /// The file begun last changed: its chunks are void, and it begins again.
    Again,
    /// The file begun last is complete.
    End,
}
