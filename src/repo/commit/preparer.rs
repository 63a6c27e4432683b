//! Preparing a version: the tree is read and what is new of it stored, until nothing that it refers to is condemned.

use std::sync::Arc;

use tokio::runtime::Handle;

use super::chunk_index::ChunkIndex;
use super::error::CommitError;
use super::headroom::{Headroom, upper_bound};
use super::packs::{PackWriter, Uploads};
use super::prepared::Prepared;
use super::progress::CommitProgress;
use super::read_tree::{Carry, read_tree};
use super::renewer::Renewer;
use super::restored_packs::PackChecker;
use super::stored_chunks::StoredChunks;
use super::tree_source::TreeSource;
use super::vetter::Vetter;
use crate::repo::view::ReadContext;
use crate::store::Store;

/// Preparations of one commit, each because a collection condemned what the one before referred to.
const MAX_PREPARATIONS: usize = 8;

/// Prepares versions.
#[derive(Debug, Clone)]
pub(super) struct Preparer {
    pub store: Arc<Store>,
    pub context: Arc<ReadContext>,
    pub stored: StoredChunks,
}

impl Preparer {
    /// Reads the tree and stores what is new of it, until nothing that it refers to is condemned. With `headroom`, the
    /// tree is measured before anything is sent.
    pub async fn prepare(
        &self,
        tree: &Arc<dyn TreeSource>,
        progress: &Arc<CommitProgress>,
        mut headroom: Option<Headroom>,
    ) -> Result<Prepared, CommitError> {
        let mut carry = Carry::Trusting;
        for _ in 0..MAX_PREPARATIONS {
            let (this, tree, progress) = (self.clone(), tree.clone(), progress.clone());
            let (runtime, headroom) = (Handle::current(), headroom.take());
            // The one place where a commit leaves the runtime: below here everything may block.
            let reading = tokio::task::spawn_blocking(move || {
                if let Some(headroom) = headroom {
                    this.measure(&headroom, &*tree, &progress, &runtime)?;
                }
                this.read(&*tree, &progress, &runtime, carry)
            });
            let (mut prepared, uploads) = reading.await.map_err(|_| CommitError::Worker)??;
            uploads.finish().await?;
            self.index().see(&prepared.sealed);
            let packs = PackChecker { store: &self.store, context: &self.context, stored: &self.stored };
            if !packs.packs_are_there(&prepared.found_in).await? {
                continue;
            }
            if self.vet(&mut prepared).await? {
                packs.lead_to_restored(&prepared).await?;
                return Ok(prepared);
            }
            carry = Carry::Vetting;
        }
        Err(CommitError::Overtaken)
    }

    /// Whether nothing that a preparation refers to is condemned; notes by which collection that is known.
    pub async fn vet(&self, prepared: &mut Prepared) -> Result<bool, CommitError> {
        let (vetter, condemned) = (self.vetter(), &self.stored.condemned);
        let epoch = condemned.epoch();
        let holds = vetter.chunks.packs_hold(&prepared.packs)
            && !condemned.has_manifest(&prepared.root.0)
            && vetter.gathered_holds(&prepared.gathered).await?;
        // The records of collections may have been lost in between.
        prepared.epoch = epoch.min(condemned.epoch());
        Ok(holds)
    }

    /// The index of stored chunks.
    pub fn index(&self) -> &Arc<ChunkIndex> {
        &self.stored.index
    }

    fn vetter(&self) -> Vetter {
        Vetter::new(self.stored.condemned.clone(), self.context.clone())
    }

    /// Refuses a tree that does not fit into a project's quota. If the sizes of its files alone do not fit, it is read,
    /// hashed and compressed once more than otherwise.
    fn measure(
        &self,
        headroom: &Headroom,
        tree: &dyn TreeSource,
        progress: &CommitProgress,
        runtime: &Handle,
    ) -> Result<(), CommitError> {
        if headroom.check(upper_bound(tree)?).is_ok() {
            return Ok(());
        }
        let mut renewer = Renewer::new(self.vetter(), runtime.clone());
        let packs = PackWriter::counting(self.store.clone());
        let (counted, _) = read_tree(&self.stored, packs, progress, tree, Carry::Trusting, &mut renewer)?;
        headroom.check(counted.adds_to(headroom.latest))?;
        progress.begin_again();
        Ok(())
    }

    fn read(
        &self,
        tree: &dyn TreeSource,
        progress: &Arc<CommitProgress>,
        runtime: &Handle,
        carry: Carry,
    ) -> Result<(Prepared, Uploads), CommitError> {
        let mut renewer = Renewer::new(self.vetter(), runtime.clone());
        let packs = PackWriter::new(self.store.clone(), runtime.clone(), progress.clone());
        let read = read_tree(&self.stored, packs, progress, tree, carry, &mut renewer)?;
        renewer.check()?;
        Ok(read)
    }
}
