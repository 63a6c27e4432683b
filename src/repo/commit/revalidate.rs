//! Whether what a prepared commit refers to may be relied on, or a collection condemned it meanwhile.
//!
//! What the commit stored itself and what it found in the index are packs that it knows. Files that were carried
//! over unread from a version refer to chunks, and large ones to lists of chunks; those are looked into here. A
//! chunk in a pack that was rewritten holds if the pack's table of moves has it, and it holds at its new place.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::error::CommitError;
use super::ingest::Renewal;
use super::item::OwnBytes;
use super::tree::{DeferredState, Gathered, Gathering};
use crate::format::codec::Codec;
use crate::format::contained::Contained;
use crate::format::entry::{ChunkRef, Entry, EntryBody, FileBody, FileBytes};
use crate::format::id::{ChunkId, ManifestId, PackId};
use crate::format::manifest::{Block, BlockKind};
use crate::format::path::TreePath;
use crate::repo::tombstones::{Condemned, Fate};
use crate::repo::view::{MAX_MOVES, ReadContext, ReadError};

/// Lists fetched together.
const LISTS_AT_ONCE: usize = 64;
/// References looked into together.
const CARRIED_AT_ONCE: usize = 4096;
/// Files that an error names; the others are counted.
const MAX_NAMED: usize = 10;
/// What is read, for messages.
const LABEL: &str = "a file carried over from a version";

/// Some files that were carried over, by what their entries refer to.
#[derive(Debug, Default)]
pub(super) struct CarriedFiles {
    chunks: Vec<(PackId, ChunkId)>,
    lists: Vec<(u8, ChunkRef)>,
}

impl CarriedFiles {
    /// Takes note of an entry that is carried over; of versions each once.
    fn add_entry(&mut self, entry: &Entry, versions: &mut HashMap<ManifestId, Contained>) {
        match &entry.body {
            EntryBody::File(file) => self.add(file),
            EntryBody::Contained(version) => {
                versions.entry(version.manifest).or_insert_with(|| Contained::clone(version));
            }
            EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Reference(_) => {}
        }
    }

    /// Takes note of a file whose entry is carried over.
    pub fn add(&mut self, file: &FileBody) {
        let FileBytes::Chunks { level, refs } = &file.content else { return };
        for chunk in refs.iter().filter(|chunk| chunk.place.codec != Codec::Zero) {
            match level {
                0 => self.chunks.push((chunk.place.pack, chunk.id)),
                level => self.lists.push((*level, chunk.clone())),
            }
        }
    }
}

/// Judges references by what this host has read of collections.
#[derive(Debug, Clone)]
pub(super) struct Vetter {
    pub condemned: Arc<Condemned>,
    pub context: Arc<ReadContext>,
}

impl Vetter {
    /// Whether no pack here was condemned. The commit has its chunks in no other place, so moved ones do not hold.
    pub fn packs_hold<'a>(&self, packs: impl IntoIterator<Item = &'a PackId>) -> bool {
        packs.into_iter().all(|pack| self.condemned.fate(pack).is_none())
    }

    /// Whether everything that was carried over into a tree holds. Cost: nothing while no collection condemned
    /// anything; else the lists of large files and the manifests of contained versions, as far as they are not in the
    /// cache, many blocks in one request, and tables of moves. The entries are read again only if there are such lists
    /// or versions, or a pack of theirs was condemned.
    pub async fn gathered_holds(&self, tree: &Gathered) -> Result<bool, CommitError> {
        if self.condemned.epoch() == 0 || !tree.carried.has_more && self.packs_hold(&tree.carried.packs) {
            return Ok(true);
        }
        let (mut carried, mut versions) = (CarriedFiles::default(), HashMap::new());
        let mut gathered = tree.read();
        while let Some(next) = gathered.next()? {
            match next {
                Gathering::Entry(DeferredState::Carried, entry) => carried.add_entry(&entry, &mut versions),
                Gathering::Entry(DeferredState::Read | DeferredState::Listed, _) => {}
                Gathering::Unchanged(stretch) => {
                    let mut leaves = stretch.leaves();
                    while let Some(leaf) = leaves.fetch().await? {
                        for row in leaf.rows() {
                            carried.add_entry(&leaves.entry(&leaf, row)?, &mut versions);
                        }
                        if !self.chunks_hold(&std::mem::take(&mut carried)).await? {
                            return Ok(false);
                        }
                    }
                }
            }
            if carried.chunks.len() + carried.lists.len() >= CARRIED_AT_ONCE
                && !self.chunks_hold(&std::mem::take(&mut carried)).await?
            {
                return Ok(false);
            }
        }
        Ok(self.chunks_hold(&carried).await? && self.versions_hold(versions.into_values().collect()).await?)
    }

    /// Whether all chunks and lists hold.
    pub(super) async fn chunks_hold(&self, carried: &CarriedFiles) -> Result<bool, ReadError> {
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

    async fn file_holds(&self, file: &FileBody) -> Result<bool, ReadError> {
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
            for chunk in self.rows(&block)? {
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

    fn rows(&self, block: &Block) -> Result<Vec<ChunkRef>, ReadError> {
        let rows = (0..block.len()).map(|i| block.chunk(i)).collect::<Result<_, _>>();
        rows.map_err(|e| ReadError::Corrupt { what: LABEL.into(), source: e.into() })
    }

    /// Whether a chunk in a pack may be referred to.
    pub(super) async fn holds(&self, mut pack: PackId, id: &ChunkId) -> Result<bool, ReadError> {
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

/// Gives the bytes of carried files that do not hold. Used by the thread that reads a commit's files.
pub(super) struct Renewer {
    pub vetter: Vetter,
    pub runtime: Handle,
    lost: Vec<String>,
    more_lost: usize,
}

impl Renewer {
    pub fn new(vetter: Vetter, runtime: Handle) -> Self {
        Self { vetter, runtime, lost: vec![], more_lost: 0 }
    }

    /// Its own bytes if the file has any, else those of the version, as long as they can be read.
    pub fn renew(
        &mut self,
        path: &TreePath,
        entry: &Entry,
        own: Option<OwnBytes>,
    ) -> Result<Renewal, CommitError> {
        let file = match &entry.body {
            EntryBody::File(file) => file,
            EntryBody::Contained(contained) => {
                let (vetter, runtime) = (&self.vetter, &self.runtime);
                return match runtime.block_on(vetter.version_holds(contained))? {
                    true => Ok(Renewal::NotNeeded),
                    false => {
                        Err(CommitError::Uncontainable { path: path.clone(), version: contained.label() })
                    }
                };
            }
            EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Reference(_) => {
                return Ok(Renewal::NotNeeded);
            }
        };
        if self.runtime.block_on(self.vetter.file_holds(file))? {
            return Ok(Renewal::NotNeeded);
        }
        if let Some(own) = own {
            return Ok(Renewal::Bytes(own));
        }
        match self.runtime.block_on(self.bytes(path, file)) {
            Ok(file) => Ok(Renewal::Bytes(OwnBytes::of(file))),
            Err(ReadError::Missing { .. } | ReadError::Corrupt { .. }) => {
                match self.lost.len() {
                    0..MAX_NAMED => self.lost.push(path.to_string()),
                    _ => self.more_lost += 1,
                }
                Ok(Renewal::Lost)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn bytes(&self, path: &TreePath, file: &FileBody) -> Result<File, ReadError> {
        self.vetter.context.open_file(file, LABEL, path).await?.materialize().await
    }

    /// An error that names the files whose bytes are nowhere.
    pub fn check(&self) -> Result<(), CommitError> {
        if self.lost.is_empty() {
            return Ok(());
        }
        Err(CommitError::Lost { files: self.lost.clone(), more: self.more_lost })
    }
}
