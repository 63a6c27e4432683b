//! Whether a contained version may be relied on: its manifest root, every block, and every chunk that they name.

use std::collections::HashSet;

use super::vet_chunks::{CarriedFiles, ChunkVetter};
use crate::format::contained::Contained;
use crate::format::entry::{ChunkRef, EntryBody};
use crate::format::id::ManifestId;
use crate::format::manifest::{Block, BlockKind, Root};
use crate::repo::view::ReadError;

/// Blocks fetched together.
const BLOCKS_AT_ONCE: usize = 64;

/// Judges contained versions by what this host has read of collections.
#[derive(Debug, Clone)]
pub(super) struct VersionVetter {
    chunks: ChunkVetter,
}

impl VersionVetter {
    pub fn new(chunks: ChunkVetter) -> Self {
        Self { chunks }
    }

    /// Whether a contained version holds, and all that it contains. Cost: nothing while no collection condemned
    /// anything; else its manifest, as far as it is not in the cache.
    pub async fn version_holds(&self, contained: &Contained) -> Result<bool, ReadError> {
        if self.chunks.condemned.epoch() == 0 {
            return Ok(true);
        }
        self.versions_hold(vec![contained.clone()]).await
    }

    /// Whether all of these hold; reads each manifest once.
    pub async fn versions_hold(&self, mut open: Vec<Contained>) -> Result<bool, ReadError> {
        let mut seen: HashSet<ManifestId> = HashSet::new();
        while let Some(contained) = open.pop() {
            if !seen.insert(contained.manifest) {
                continue;
            }
            if self.chunks.condemned.has_manifest(&contained.manifest) {
                return Ok(false);
            }
            let label = contained.label();
            let held = match self.chunks.context.root(&contained.artifact, &contained.manifest, &label).await
            {
                Ok(root) => self.tree_holds(&label, root, &mut open).await,
                Err(error) => Err(error),
            };
            match held {
                Ok(true) => {}
                // What is gone holds nothing.
                Ok(false) | Err(ReadError::Missing { .. } | ReadError::Corrupt { .. }) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Whether all of a manifest holds but the versions that it contains, which are added to `contained`.
    async fn tree_holds(
        &self,
        label: &str,
        root: Root,
        contained: &mut Vec<Contained>,
    ) -> Result<bool, ReadError> {
        let mut levels: Vec<(u8, Vec<ChunkRef>)> = vec![];
        let (mut height, mut block) = (root.depth, root.top);
        loop {
            if height == 0 {
                if !self.leaf_holds(label, &block, contained).await? {
                    return Ok(false);
                }
            } else {
                let rows = (0..block.len()).rev().map(|i| block.index_row(i).map(|row| row.block));
                let rows = rows.collect::<Result<Vec<_>, _>>().map_err(|e| damaged(label, e))?;
                levels.push((height - 1, rows));
            }
            while levels.last().is_some_and(|(_, rows)| rows.is_empty()) {
                levels.pop();
            }
            let Some((at, rows)) = levels.last_mut() else { return Ok(true) };
            let Some(next) = rows.pop() else { return Ok(true) };
            if !self.chunks.holds(next.place.pack, &next.id).await? {
                return Ok(false);
            }
            let kind = if *at == 0 { BlockKind::Leaf } else { BlockKind::Index };
            let siblings: Vec<ChunkRef> = rows.iter().rev().take(BLOCKS_AT_ONCE).cloned().collect();
            height = *at;
            block = self.chunks.context.block(&next, kind, &siblings, label).await?;
        }
    }

    async fn leaf_holds(
        &self,
        label: &str,
        leaf: &Block,
        contained: &mut Vec<Contained>,
    ) -> Result<bool, ReadError> {
        let mut carried = CarriedFiles::default();
        for i in 0..leaf.len() {
            match leaf.entry(i).map_err(|e| damaged(label, e))?.body {
                EntryBody::File(file) => carried.add(&file),
                EntryBody::Contained(version) => contained.push(*version),
                EntryBody::Directory | EntryBody::Symlink { .. } | EntryBody::Reference(_) => {}
            }
        }
        self.chunks.chunks_hold(&carried).await
    }
}

fn damaged(label: &str, error: crate::format::FormatError) -> ReadError {
    ReadError::Corrupt { what: label.to_owned(), source: error.into() }
}
