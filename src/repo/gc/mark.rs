//! Finding what is in use: everything that living versions, and what this host has open, lead to.
//!
//! Each manifest block is read once, whatever number of versions share it. A reference into a pack that was
//! rewritten counts where it says, and where the table of moves says.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::error::GcError;
use super::in_use::InUseVersion;
use super::marks::{ChunkFate, Marks};
use crate::format::codec::Codec;
use crate::format::contained::Contained;
use crate::format::entry::{ChunkRef, EntryBody, FileBody, FileBytes};
use crate::format::id::ManifestId;
use crate::format::manifest::{Block, BlockKind, Root};
use crate::repo::catalog::{ArtifactState, VersionRecord};
use crate::repo::tombstones::Condemned;
use crate::repo::view::{MAX_MOVES, ReadContext, ReadError};
use crate::store::Key;

/// Roots read at once.
const PARALLEL_ROOTS: usize = 16;
/// Blocks fetched together.
const BLOCKS_AT_ONCE: usize = 64;

/// Blocks of one kind to be read, one after the other.
struct PendingBlocks {
    kind: MarkedKind,
    blocks: Vec<ChunkRef>,
    next: usize,
}

/// What a block is, by its height: leaves and lists of data chunks are the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MarkedKind {
    Tree(u8),
    List(u8),
}

impl MarkedKind {
    fn of_block(self) -> BlockKind {
        match self {
            MarkedKind::Tree(0) => BlockKind::Leaf,
            MarkedKind::Tree(_) => BlockKind::Index,
            MarkedKind::List(_) => BlockKind::List,
        }
    }
}

/// Marks what is in use.
pub(super) struct Marker<'a> {
    pub context: &'a Arc<ReadContext>,
    pub condemned: &'a Condemned,
    pub marks: &'a mut Marks,
    pub within: Within,
}

/// Versions that others contain: in use as long as one of those is, whatever became of their own names.
#[derive(Debug, Default)]
pub(super) struct Within {
    seen: HashSet<ManifestId>,
    open: Vec<InUseVersion>,
}

impl Within {
    fn add(&mut self, contained: Contained) {
        if self.seen.insert(contained.manifest) {
            self.open.push(InUseVersion { artifact: contained.artifact, manifest: contained.manifest });
        }
    }
}

impl Marker<'_> {
    /// Marks what the living versions of these artifacts lead to, and `open` as far as it is still there.
    ///
    /// # Errors
    /// A living version that cannot be read all the way: then nothing can be said to be unused.
    pub async fn mark_all(
        &mut self,
        states: &[Arc<ArtifactState>],
        open: &[InUseVersion],
    ) -> Result<(), GcError> {
        let mut living = vec![];
        for state in states {
            self.keep_objects(state)?;
            living.extend(state.versions().map(|version| {
                let label = format!("{}:{}", state.key(), version.version);
                let in_use = InUseVersion { artifact: state.key().clone(), manifest: version.manifest };
                (label, in_use)
            }));
        }
        self.mark_versions(living, Missing::Fatal).await?;
        let open = open
            .iter()
            .map(|version| (format!("a version of {} in use here", version.artifact), version.clone()));
        self.mark_versions(open.collect(), Missing::Skipped).await
    }

    /// Manifests, messages and checkpoints of an artifact that its log leads to.
    fn keep_objects(&self, state: &ArtifactState) -> Result<(), GcError> {
        let keep = |key: Key| self.marks.keep(&key.to_string());
        for version in state.versions() {
            for details in details_of(version) {
                keep(Key::Details(state.key().clone(), details))?;
            }
        }
        Ok(())
    }

    async fn mark_versions(
        &mut self,
        versions: Vec<(String, InUseVersion)>,
        missing: Missing,
    ) -> Result<(), GcError> {
        let context = self.context.clone();
        let mut roots = stream::iter(versions)
            .map(|(label, version)| {
                let context = context.clone();
                async move {
                    let root = context.root(&version.artifact, &version.manifest, &label).await;
                    (label, version, root)
                }
            })
            .buffered(PARALLEL_ROOTS);
        while let Some((label, version, root)) = roots.next().await {
            let marked = match root {
                Ok(root) => self.mark_version(&label, version, root).await,
                Err(error) => Err(error.into()),
            };
            match marked {
                Err(GcError::Read(ReadError::Missing { .. } | ReadError::Corrupt { .. }))
                    if missing == Missing::Skipped => {}
                Err(GcError::Read(error @ (ReadError::Missing { .. } | ReadError::Corrupt { .. }))) => {
                    return Err(GcError::Damaged { version: label, source: Box::new(error) });
                }
                other => other?,
            }
        }
        Ok(())
    }

    /// Marks a version and all that it contains.
    async fn mark_version(&mut self, label: &str, version: InUseVersion, root: Root) -> Result<(), GcError> {
        let mut next = Some((version, root));
        while let Some((version, root)) = next.take() {
            self.marks.keep(&Key::Manifest(version.artifact, version.manifest).to_string())?;
            self.mark_tree(label, root).await?;
            if let Some(inner) = self.within.open.pop() {
                let root = self.context.root(&inner.artifact, &inner.manifest, label).await?;
                next = Some((inner, root));
            }
        }
        Ok(())
    }

    async fn mark_tree(&mut self, label: &str, root: Root) -> Result<(), GcError> {
        let mut open = vec![];
        self.take(label, MarkedKind::Tree(root.depth), &root.top, &mut open).await?;
        while let Some(pending) = open.last_mut() {
            let Some(block) = pending.blocks.get(pending.next).cloned() else {
                open.pop();
                continue;
            };
            pending.next += 1;
            let end = pending.blocks.len().min(pending.next + BLOCKS_AT_ONCE);
            let siblings = &pending.blocks[pending.next..end];
            let kind = pending.kind;
            let block = self.context.block(&block, kind.of_block(), siblings, label).await?;
            self.take(label, kind, &block, &mut open).await?;
        }
        Ok(())
    }

    /// Marks what a block refers to, and adds the blocks that it is the first to name.
    async fn take(
        &mut self,
        label: &str,
        kind: MarkedKind,
        block: &Block,
        open: &mut Vec<PendingBlocks>,
    ) -> Result<(), GcError> {
        let damaged =
            |e: crate::format::FormatError| ReadError::Corrupt { what: label.to_owned(), source: e.into() };
        let mut below: Vec<(MarkedKind, ChunkRef)> = vec![];
        for i in 0..block.len() {
            match kind {
                MarkedKind::Tree(0) => match block.entry(i).map_err(damaged)?.body {
                    EntryBody::File(file) => self.take_file(&file, &mut below).await?,
                    EntryBody::Contained(contained) => self.within.add(*contained),
                    EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Reference(_) => {}
                },
                MarkedKind::Tree(height) => {
                    let row = block.index_row(i).map_err(damaged)?;
                    self.refer(MarkedKind::Tree(height - 1), row.block, &mut below).await?;
                }
                MarkedKind::List(0 | 1) => self.mark_chunk(&block.chunk(i).map_err(damaged)?).await?,
                MarkedKind::List(height) => {
                    let list = block.chunk(i).map_err(damaged)?;
                    self.refer(MarkedKind::List(height - 1), list, &mut below).await?;
                }
            }
        }
        // Lists of one leaf may be of several heights.
        while let Some(kind) = below.last().map(|(kind, _)| *kind) {
            let (same, others) = below.into_iter().partition(|(other, _)| *other == kind);
            below = others;
            let blocks = Vec::into_iter(same).map(|(_, block)| block).collect();
            open.push(PendingBlocks { kind, blocks, next: 0 });
        }
        Ok(())
    }

    async fn take_file(
        &mut self,
        file: &FileBody,
        below: &mut Vec<(MarkedKind, ChunkRef)>,
    ) -> Result<(), GcError> {
        let FileBytes::Chunks { level, refs } = &file.content else { return Ok(()) };
        for chunk in refs {
            match level {
                0 => self.mark_chunk(chunk).await?,
                level => self.refer(MarkedKind::List(*level), chunk.clone(), below).await?,
            }
        }
        Ok(())
    }

    /// Marks a block, which is to be read if it is named for the first time.
    async fn refer(
        &mut self,
        kind: MarkedKind,
        block: ChunkRef,
        below: &mut Vec<(MarkedKind, ChunkRef)>,
    ) -> Result<(), GcError> {
        self.mark_chunk(&block).await?;
        if self.marks.is_new_block(&block.id)? {
            below.push((kind, block));
        }
        Ok(())
    }

    /// Marks the stored form of a chunk wherever it is or was moved to.
    async fn mark_chunk(&mut self, chunk: &ChunkRef) -> Result<(), GcError> {
        if chunk.place.codec == Codec::Zero {
            return Ok(());
        }
        let mut place = chunk.place;
        // Tables that led here, from packs that are gone or going.
        let mut through = vec![];
        for _ in 0..=MAX_MOVES {
            let pack = self.marks.number(&place.pack)?;
            self.marks.mark(pack, place.offset, place.stored_len)?;
            if self.marks.is_listed(pack) && self.condemned.fate(&place.pack).is_none() {
                through.drain(..).for_each(|table| self.marks.need_table(table, ChunkFate::Yes));
            }
            if !self.marks.has_table(pack) {
                break;
            }
            through.push(pack);
            match self.context.moves(&place.pack).await?.and_then(|table| table.find(&chunk.id)) {
                Some(moved) => place = moved,
                None => break,
            }
        }
        through.iter().for_each(|table| self.marks.need_table(*table, ChunkFate::No));
        Ok(())
    }
}

/// What is done with a version that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Fatal,
    Skipped,
}

/// The details objects that a version's record names.
fn details_of(version: &VersionRecord) -> impl Iterator<Item = crate::format::id::DetailsId> + '_ {
    let own = version.details.iter().chain(&version.newer_message);
    let producers = version.producers.iter().filter_map(|producer| producer.details.as_ref());
    own.chain(producers).map(|details| details.id)
}
