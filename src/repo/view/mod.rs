//! Reading one version: names to entries to bytes, fetched when asked for and proved before they are given.
//!
//! [`VersionView`] walks a manifest, [`FileContent`] gives a file's bytes. Both take what the cache has and fetch
//! the rest through one [`ReadContext`], which holds the limits. The chain of proof: the manifest's id → root →
//! index blocks → leaf → entry → (list blocks) → chunks, and a file's own hash when it becomes whole.

mod ahead;
mod blocks;
mod chunks;
mod coalesce;
mod compare;
mod compare_nested;
mod content;
mod cursor;
mod download;
mod error;
mod fetch;
mod graph;
mod holes;
mod leaf_ranges;
mod listed;
mod nested;
mod pinning;
mod prefetch_buffer;
mod readahead;
mod reference;
mod relocated;
mod single_flight;
mod small;
mod stream;
mod tables;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod version;
mod walk;

use std::sync::Arc;

pub use self::compare::Common;
pub use self::compare_nested::{Differences, DifferingPath};
pub use self::content::FileContent;
use self::error::Origin;
pub use self::error::ReadError;
use self::fetch::Fetcher;
pub use self::fetch::{ReadLimits, TellDamage};
pub use self::leaf_ranges::{Bound, Leaf, Leaves};
pub use self::nested::{NestedEntry, NestedWalk, WholeView};
pub use self::pinning::{KeptBlock, ListBlocks};
pub use self::reference::ReferenceContent;
pub use self::relocated::MAX_MOVES;
pub use self::stream::ByteSource;
pub use self::version::{Entries, Totals, VersionView};
use crate::format::entry::FileBody;
use crate::format::path::TreePath;
use crate::repo::cache::Cache;
use crate::store::Store;

/// What all reading of one store through one cache shares: limits, running fetches, open files.
///
/// Views and files keep working as long as this lives; when it is dropped or shut down, their fetches end and
/// what would need one fails with [`ReadError::Stopped`]. What is local can still be read.
#[derive(Debug)]
pub struct ReadContext {
    fetcher: Arc<Fetcher>,
}

impl ReadContext {
    /// Needs a tokio runtime only when something is read.
    pub fn new(store: Arc<Store>, cache: Arc<Cache>, limits: ReadLimits) -> Self {
        Self { fetcher: Arc::new(Fetcher::new(store, cache, limits)) }
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.fetcher.store
    }

    /// The cache.
    pub fn cache(&self) -> &Arc<Cache> {
        &self.fetcher.cache
    }

    /// Opens a file's content; equal contents that are open share one object. `label` and `path` stand in
    /// messages. Sends nothing; hashes a whole file in the cache if its index cannot vouch for it.
    ///
    /// # Errors
    /// A file kept in the manifest whose bytes are not those of its hash; one that was condemned.
    pub async fn open_file(
        &self,
        body: &FileBody,
        label: &str,
        path: &TreePath,
    ) -> Result<Arc<FileContent>, ReadError> {
        FileContent::open(&self.fetcher, body, Origin::version(label).file(path)).await
    }

    /// Says who is told of chunks that the store does not have as they should be, unless somebody is already.
    pub fn tell_damage(&self, told: TellDamage) {
        self.fetcher.set_damage(told);
    }

    /// Stops all fetches and waits for their end.
    pub async fn shutdown(&self) {
        let mut tasks = self.fetcher.stop();
        while tasks.join_next().await.is_some() {}
        self.fetcher.wait_for_workers().await;
    }
}

impl Drop for ReadContext {
    fn drop(&mut self) {
        drop(self.fetcher.stop());
    }
}
