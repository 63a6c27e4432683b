//! Where the chunks of a commit are: in the store already, written by this commit before, or put into a pack now.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::chunk_index::ChunkIndex;
use super::error::CommitError;
use super::packs::{FinalPackNames, PackWriter, Uploads};
use super::stored_chunks::StoredChunks;
use crate::format::codec::{Codec, Encoder};
use crate::format::entry::{ChunkRef, Entry, EntryBody, FileBytes};
use crate::format::id::{ChunkId, ManifestId, PackId};
use crate::host::spill::{KEY_BYTES, SpillTable};

/// Chunks told to the index at once.
const BATCH: usize = 4096;

/// Stores chunks, each once. Their places are final when their packs are sealed and [`ChunkWriter::settle`] was called.
///
/// Memory: that of a [`SpillTable`] for each new chunk, and of packs on their way.
pub(super) struct ChunkWriter<'a> {
    stored: &'a StoredChunks,
    packs: PackWriter,
    new: SpillTable,
    /// Packs of other commits that something was found in, by the index, and how long they must be for that.
    found_in: HashMap<PackId, u64>,
    /// Packs of blocks that were taken as they are.
    relied_on: HashSet<PackId>,
    /// Chunks that are not to be had from packs that they were in.
    lost: HashMap<ChunkId, Vec<PackId>>,
    /// Those of them that were stored again.
    restored: Vec<ChunkId>,
    encoder: Encoder,
}

/// What a commit wrote.
pub(super) struct WrittenChunks {
    pub new: NewChunks,
    /// Where everything is that was found or written.
    pub packs: HashSet<PackId>,
    /// The packs that the index named, and how long they must be.
    pub found_in: HashMap<PackId, u64>,
    /// The packs that it wrote.
    pub sealed: Vec<PackId>,
    /// Chunks that were lost and are stored again, with the packs that they are not to be had from.
    pub restored: Vec<(ChunkId, Vec<PackId>)>,
    pub stored_bytes: u64,
    pub uploads: Uploads,
}

/// The chunks that a commit wrote, blocks included.
pub(super) struct NewChunks {
    table: SpillTable,
    names: FinalPackNames,
}

impl<'a> ChunkWriter<'a> {
    pub fn new(stored: &'a StoredChunks, packs: PackWriter) -> Result<Self, CommitError> {
        let new = SpillTable::new(ChunkRef::ALONE_BYTES - KEY_BYTES, stored.index.folder());
        let encoder = Encoder::new().map_err(|_| CommitError::Worker)?;
        let lost = stored.index.lost();
        let (found_in, relied_on, restored) = (HashMap::new(), HashSet::new(), vec![]);
        Ok(Self { stored, packs, new, found_in, relied_on, lost, restored, encoder })
    }

    /// The folder for what does not fit in memory.
    pub fn folder(&self) -> Option<&'a Path> {
        self.stored.index.folder()
    }

    /// A reference to a chunk that is written if it is nowhere yet; `stored` is its form in that codec.
    pub fn chunk(
        &mut self,
        id: ChunkId,
        raw_len: u32,
        codec: Codec,
        stored: &[u8],
    ) -> Result<ChunkRef, CommitError> {
        match self.find(&id)? {
            Some(found) => Ok(found),
            None => self.write(id, raw_len, codec, stored),
        }
    }

    /// The same for a block, which is encoded here if it must be written.
    pub fn block(&mut self, block: &[u8]) -> Result<ChunkRef, CommitError> {
        let id = ChunkId::of(block);
        if let Some(found) = self.find(&id)? {
            return Ok(found);
        }
        let (codec, stored) = self.encoder.encode(block);
        self.write(id, block.len() as u32, codec, &stored)
    }

    /// Whether a block of another version may be referred to where it is; it is relied on then.
    pub fn rely_on(&mut self, block: &ChunkRef) -> bool {
        let holds = self.stored.condemned.fate(&block.place.pack).is_none();
        if holds {
            self.relied_on.insert(block.place.pack);
        }
        holds
    }

    fn find(&mut self, id: &ChunkId) -> Result<Option<ChunkRef>, CommitError> {
        if let Some(found) = self.stored.find(id) {
            let end = found.place.offset.saturating_add(found.place.stored_len.into());
            let needed = self.found_in.entry(found.place.pack).or_default();
            *needed = end.max(*needed);
            return Ok(Some(found));
        }
        let Some(row) = self.new.find(id.as_bytes()).map_err(CommitError::spill)? else { return Ok(None) };
        decode(id.as_bytes(), &row).map(Some)
    }

    fn write(
        &mut self,
        id: ChunkId,
        raw_len: u32,
        codec: Codec,
        stored: &[u8],
    ) -> Result<ChunkRef, CommitError> {
        let place = self.packs.add(id, raw_len, codec, stored)?;
        let chunk = ChunkRef { id, span: u64::from(raw_len), raw_len, place };
        self.new.add(id.as_bytes(), &chunk.encode_alone()[KEY_BYTES..]).map_err(CommitError::spill)?;
        if codec != Codec::Zero && self.lost.contains_key(&id) {
            self.restored.push(id);
        }
        Ok(chunk)
    }

    /// Sends what was written on its way, so that its places can be settled.
    pub fn seal(&mut self) -> Result<(), CommitError> {
        self.packs.seal()
    }

    /// Makes the place of a chunk in a sealed pack final.
    pub fn settle(&self, chunk: &mut ChunkRef) {
        self.packs.names.settle(&mut chunk.place);
    }

    /// The same for all chunks that an entry names.
    pub fn settle_entry(&self, entry: &mut Entry) {
        if let EntryBody::File(file) = &mut entry.body
            && let FileBytes::Chunks { refs, .. } = &mut file.content
        {
            refs.iter_mut().for_each(|chunk| self.settle(chunk));
        }
    }

    /// The encoder, for what is stored elsewhere.
    pub fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    pub fn finish(mut self) -> Result<WrittenChunks, CommitError> {
        self.packs.seal()?;
        let stored_bytes = self.packs.stored_bytes;
        let (names, uploads) = self.packs.finish();
        let sealed: Vec<PackId> = names.sealed().collect();
        let others = self.found_in.keys().chain(&self.relied_on).copied();
        let packs = others.chain(sealed.iter().copied()).collect();
        let lost = self.lost;
        let from = |id: ChunkId| lost.get(&id).map(|packs| (id, packs.clone()));
        let restored = self.restored.into_iter().filter_map(from).collect();
        let (found_in, new) = (self.found_in, NewChunks { table: self.new, names });
        Ok(WrittenChunks { new, packs, found_in, sealed, restored, stored_bytes, uploads })
    }
}

impl NewChunks {
    /// Where a chunk was written.
    pub fn find(&self, id: &ChunkId) -> Result<Option<ChunkRef>, CommitError> {
        let Some(row) = self.table.find(id.as_bytes()).map_err(CommitError::spill)? else { return Ok(None) };
        let mut chunk = decode(id.as_bytes(), &row)?;
        self.names.settle(&mut chunk.place);
        Ok(Some(chunk))
    }

    /// Adds them to the index, now that a living version has them. A failure costs uploads later, no more.
    pub fn add_to(&self, index: &ChunkIndex, manifest: &ManifestId) {
        let mut batch = Vec::with_capacity(BATCH);
        for number in 0..self.table.len() {
            let row = self.table.row(number).map_err(CommitError::spill);
            let mut chunk = match row.and_then(|(id, row)| decode(&id, &row)) {
                Ok(chunk) => chunk,
                Err(error) => {
                    tracing::warn!("not all chunks were added to the index, more will be stored: {error}");
                    return;
                }
            };
            self.names.settle(&mut chunk.place);
            batch.push(chunk);
            if batch.len() == BATCH {
                index.add_chunks(&batch);
                batch.clear();
            }
        }
        index.add_chunks(&batch);
        index.add_manifest(manifest);
    }
}

fn decode(id: &[u8; KEY_BYTES], row: &[u8]) -> Result<ChunkRef, CommitError> {
    Ok(ChunkRef::decode_alone(&[id, row].concat())?)
}
