//! Whether chunks that a commit carries over unread may be relied on.
//!
//! A chunk in a pack that a collection rewrote holds if the pack's table of moves has it, and it holds at its new
//! place. A list of chunks holds if it and everything below it does.

use std::collections::HashMap;
use std::sync::Arc;

use crate::format::FormatError;
use crate::format::codec::Codec;
use crate::format::contained::Contained;
use crate::format::entry::{ChunkRef, Entry, EntryBody, FileBody, FileBytes};
use crate::format::id::{ChunkId, ManifestId, PackId};
use crate::format::manifest::BlockKind;
use crate::repo::tombstones::{Condemned, Fate};
use crate::repo::view::{MAX_MOVES, ReadContext, ReadError};

/// Lists fetched together.
const LISTS_AT_ONCE: usize = 64;
/// What is read, for messages.
pub(super) const LABEL: &str = "a file carried over from a version";

/// What the entries of some carried-over files refer to.
#[derive(Debug, Default)]
pub(super) struct CarriedFiles {
    chunks: Vec<(PackId, ChunkId)>,
    lists: Vec<(u8, ChunkRef)>,
}

impl CarriedFiles {
    /// Adds an entry that is carried over; of versions each once.
    pub fn add_entry(&mut self, entry: &Entry, versions: &mut HashMap<ManifestId, Contained>) {
        match &entry.body {
            EntryBody::File(file) => self.add(file),
            EntryBody::Contained(version) => {
                versions.entry(version.manifest).or_insert_with(|| Contained::clone(version));
            }
            EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Reference(_) => {}
        }
    }

    /// Adds a file whose entry is carried over.
    pub fn add(&mut self, file: &FileBody) {
        let FileBytes::Chunks { level, refs } = &file.content else { return };
        for chunk in refs.iter().filter(|chunk| chunk.place.codec != Codec::Zero) {
            match level {
                0 => self.chunks.push((chunk.place.pack, chunk.id)),
                level => self.lists.push((*level, chunk.clone())),
            }
        }
    }

    /// How many references it holds.
    pub fn len(&self) -> usize {
        self.chunks.len() + self.lists.len()
    }
}

/// Judges chunks by what this host has read of collections.
#[derive(Debug, Clone)]
pub(super) struct ChunkVetter {
    pub condemned: Arc<Condemned>,
    pub context: Arc<ReadContext>,
}

impl ChunkVetter {
    /// Whether no pack here was condemned. The commit has its chunks in no other place, so moved ones do not hold.
    pub fn packs_hold<'a>(&self, packs: impl IntoIterator<Item = &'a PackId>) -> bool {
        packs.into_iter().all(|pack| self.condemned.fate(pack).is_none())
    }

    /// Whether all chunks and lists hold.
    pub async fn chunks_hold(&self, carried: &CarriedFiles) -> Result<bool, ReadError> {
        for (pack, id) in &carried.chunks {
            if !self.holds(*pack, id).await? {
                return Ok(false);
            }
        }
        let lists: Vec<ChunkRef> = carried.lists.iter().map(|(_, list)| list.clone()).collect();
        for (i, (level, list)) in carried.lists.iter().enumerate() {
            let next = &lists[i + 1..lists.len().min(i + LISTS_AT_ONCE)];
            if !self.list_holds(*level, list, next).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether everything that a file's entry refers to holds.
    pub async fn file_holds(&self, file: &FileBody) -> Result<bool, ReadError> {
        let mut carried = CarriedFiles::default();
        carried.add(file);
        self.chunks_hold(&carried).await
    }

    /// Whether a list of chunks, and all below it, holds.
    async fn list_holds(&self, level: u8, list: &ChunkRef, next: &[ChunkRef]) -> Result<bool, ReadError> {
        let mut open = vec![(level, list.clone())];
        while let Some((level, list)) = open.pop() {
            if !self.holds(list.place.pack, &list.id).await? {
                return Ok(false);
            }
            let block = match self.context.block(&list, BlockKind::List, next, LABEL).await {
                Ok(block) => block,
                // A list that is gone holds nothing.
                Err(ReadError::Missing { .. } | ReadError::Corrupt { .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            for row in 0..block.len() {
                let chunk = block.chunk(row).map_err(damaged)?;
                if chunk.place.codec == Codec::Zero {
                    continue;
                }
                match level {
                    0 | 1 if !self.holds(chunk.place.pack, &chunk.id).await? => return Ok(false),
                    0 | 1 => {}
                    level => open.push((level - 1, chunk)),
                }
            }
        }
        Ok(true)
    }

    /// Whether a chunk in a pack may be referred to.
    pub async fn holds(&self, mut pack: PackId, id: &ChunkId) -> Result<bool, ReadError> {
        for _ in 0..MAX_MOVES {
            match self.condemned.fate(&pack) {
                None => return Ok(true),
                Some(Fate::Gone) => return Ok(false),
                Some(Fate::Moved) => {
                    let table = self.context.moves(&pack).await?;
                    match table.and_then(|table| table.find(id)) {
                        Some(place) => pack = place.pack,
                        None => return Ok(false),
                    }
                }
            }
        }
        Ok(false)
    }
}

fn damaged(error: FormatError) -> ReadError {
    ReadError::Corrupt { what: LABEL.into(), source: error.into() }
}
