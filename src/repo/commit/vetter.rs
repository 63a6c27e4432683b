//! Whether what a prepared commit refers to may be relied on, or a collection condemned it meanwhile.
//!
//! The packs that the commit wrote itself and those it found in the index are known by name. What was carried over
//! unread from a version is looked into here.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::CommitError;
use super::gathered::{DeferredState, Gathered, Gathering};
use super::vet_chunks::{CarriedFiles, ChunkVetter};
use super::vet_versions::VersionVetter;
use crate::repo::tombstones::Condemned;
use crate::repo::view::ReadContext;

/// References looked into together.
const CARRIED_AT_ONCE: usize = 4096;

/// Judges what a commit refers to by what this host has read of collections.
#[derive(Debug, Clone)]
pub(super) struct Vetter {
    pub chunks: ChunkVetter,
    pub versions: VersionVetter,
}

impl Vetter {
    pub fn new(condemned: Arc<Condemned>, context: Arc<ReadContext>) -> Self {
        let chunks = ChunkVetter { condemned, context };
        Self { versions: VersionVetter::new(chunks.clone()), chunks }
    }

    /// Whether everything that was carried over into a tree holds. Cost: nothing while no collection condemned
    /// anything; else the lists of large files and the manifests of contained versions, as far as they are not in the
    /// cache, many blocks in one request, and tables of moves. The entries are read again only if there are such lists
    /// or versions, or a pack of theirs was condemned.
    pub async fn gathered_holds(&self, tree: &Gathered) -> Result<bool, CommitError> {
        if self.chunks.condemned.epoch() == 0
            || !tree.carried.has_more && self.chunks.packs_hold(&tree.carried.packs)
        {
            return Ok(true);
        }
        let (mut carried, mut versions) = (CarriedFiles::default(), HashMap::new());
        let mut gathered = tree.read();
        while let Some(next) = gathered.next()? {
            match next {
                Gathering::Entry(DeferredState::Carried, entry) => carried.add_entry(&entry, &mut versions),
                Gathering::Entry(DeferredState::Read | DeferredState::Listed, _) => {}
                Gathering::Unchanged(range) => {
                    let mut leaves = range.leaves();
                    while let Some(leaf) = leaves.fetch().await? {
                        for row in leaf.rows() {
                            carried.add_entry(&leaves.entry(&leaf, row)?, &mut versions);
                        }
                        if !self.chunks.chunks_hold(&std::mem::take(&mut carried)).await? {
                            return Ok(false);
                        }
                    }
                }
            }
            if carried.len() >= CARRIED_AT_ONCE
                && !self.chunks.chunks_hold(&std::mem::take(&mut carried)).await?
            {
                return Ok(false);
            }
        }
        Ok(self.chunks.chunks_hold(&carried).await?
            && self.versions.versions_hold(versions.into_values().collect()).await?)
    }
}
