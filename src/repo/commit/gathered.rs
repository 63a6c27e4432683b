//! The entries of a tree, spilled until the places of all their chunks are final.

use std::collections::HashSet;
use std::path::Path;

use super::error::{CommitDefect, CommitError};
use super::unchanged_range::{UnchangedRange, UnchangedRanges};
use crate::format::codec::Codec;
use crate::format::entry::{Entry, EntryBody, FileBody, FileBytes};
use crate::format::id::PackId;
use crate::host::spill::{Records, SpillFile};

/// The entries of a tree in path order, spilled to the disk.
pub(super) struct Gathered {
    entries: SpillFile,
    ranges: UnchangedRanges,
    pub carried: CarriedSummary,
}

/// A summary of what was carried over unread from versions.
#[derive(Debug, Default)]
pub(super) struct CarriedSummary {
    /// Packs that hold chunks of files.
    pub packs: HashSet<PackId>,
    /// Whether anything else was carried over: lists of chunks, versions.
    pub has_more: bool,
}

/// One record of [`Gathered`].
pub(super) enum Gathering {
    Entry(DeferredState, Entry),
    Unchanged(UnchangedRange),
}

/// How complete a spilled entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DeferredState {
    /// Carried over from a version unread; final.
    Carried = 0,
    /// Read; the places of its chunks are not final.
    Read = 1,
    /// Read; its chunks are in the lists.
    Listed = 2,
}

/// The byte for a range, where an entry has its [`DeferredState`].
const UNCHANGED: u8 = 3;

impl DeferredState {
    /// Decodes the byte of a record; none for a range.
    fn of_record(byte: u8) -> Option<Self> {
        [DeferredState::Carried, DeferredState::Read, DeferredState::Listed]
            .into_iter()
            .find(|state| *state as u8 == byte)
    }
}

impl CarriedSummary {
    pub fn note(&mut self, body: &EntryBody) {
        match body {
            EntryBody::File(FileBody { content: FileBytes::Chunks { level: 0, refs }, .. }) => {
                let stored = refs.iter().filter(|chunk| chunk.place.codec != Codec::Zero);
                self.packs.extend(stored.map(|chunk| chunk.place.pack));
            }
            EntryBody::File(FileBody { content: FileBytes::Chunks { .. }, .. }) | EntryBody::Contained(_) => {
                self.has_more = true;
            }
            EntryBody::File(_)
            | EntryBody::Directory
            | EntryBody::Symlink { .. }
            | EntryBody::Reference(_) => {}
        }
    }
}

impl Gathered {
    /// An empty one that spills into this folder.
    pub fn new(folder: Option<&Path>) -> Self {
        Self {
            entries: SpillFile::new(folder),
            ranges: UnchangedRanges::default(),
            carried: CarriedSummary::default(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn push(&mut self, state: DeferredState, entry: &Entry) -> Result<(), CommitError> {
        if state == DeferredState::Carried {
            self.carried.note(&entry.body);
        }
        let mut record = entry.encode_alone();
        record.push(state as u8);
        self.entries.push(&record).map_err(CommitError::spill)
    }

    pub fn push_range(&mut self, range: &UnchangedRange) -> Result<(), CommitError> {
        let mut record = self.ranges.encode(range);
        record.push(UNCHANGED);
        self.entries.push(&record).map_err(CommitError::spill)
    }

    /// Reads all of them in order.
    pub fn read(&self) -> GatheredReader<'_> {
        GatheredReader { records: self.entries.records(), ranges: &self.ranges }
    }
}

/// Reads [`Gathered`].
pub(super) struct GatheredReader<'a> {
    records: Records<'a>,
    ranges: &'a UnchangedRanges,
}

impl GatheredReader<'_> {
    /// Reads the next record; none at the end.
    pub fn next(&mut self) -> Result<Option<Gathering>, CommitError> {
        let Some(record) = self.records.next_record().map_err(CommitError::spill)? else { return Ok(None) };
        let (state, record) = record.split_last().ok_or(CommitDefect::ShortRecord("entry"))?;
        let Some(state) = DeferredState::of_record(*state) else {
            let range = self.ranges.decode(record).ok_or(CommitDefect::ShortRecord("range"))?;
            return Ok(Some(Gathering::Unchanged(range)));
        };
        let entry = Entry::decode_alone(record)?;
        Ok(Some(Gathering::Entry(state, entry)))
    }
}
