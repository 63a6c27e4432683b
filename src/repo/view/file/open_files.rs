//! The files of one context that are open: equal contents share one download.

use std::sync::Arc;

use super::cached::{CachedFile, FileServices};
use super::condemned::{CondemnedFiles, ContentKey};
use super::content::FileContent;
use super::download::Download;
use super::small_batch::SmallFlights;
use super::small_walk::{Neighbours, SmallFileWalks};
use super::weak_map::WeakMap;
use crate::format::entry::FileBody;
use crate::repo::view::error::ReadError;
use crate::repo::view::manifest::{BlockReader, ManifestTree};
use crate::repo::view::origin::Origin;
use crate::repo::view::readahead::PrefetchBudget;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    services: Arc<FileServices>,
    small: Arc<SmallFlights>,
    downloads: WeakMap<ContentKey, Download>,
}

impl OpenFiles {
    /// `prefetch_bytes` bounds what was fetched ahead and waits in memory for its readers, over all files.
    pub fn new(blocks: Arc<BlockReader>, prefetch_bytes: u64) -> Self {
        let services = Arc::new(FileServices {
            fetcher: blocks.fetcher().clone(),
            cache: blocks.cache().clone(),
            blocks,
            condemned: CondemnedFiles::default(),
            prefetch: PrefetchBudget::new(prefetch_bytes),
        });
        let small = Arc::new(SmallFlights::new(services.clone()));
        Self { services, small, downloads: WeakMap::default() }
    }

    /// Begins to watch how the small files of a version are read.
    pub fn walks(&self, tree: Arc<ManifestTree>) -> Arc<SmallFileWalks> {
        SmallFileWalks::new(tree, self.small.clone())
    }

    /// Opens a file's content. `neighbours` are what to fetch with it if it is small; none for a file by itself.
    ///
    /// # Errors
    /// A file kept in the manifest whose bytes do not have its hash; one that is condemned.
    pub async fn open(
        &self,
        body: &FileBody,
        origin: Origin,
        neighbours: Option<Neighbours>,
    ) -> Result<Arc<FileContent>, ReadError> {
        let key = ContentKey::of(body);
        if let Some(error) = self.services.condemned.get(&key) {
            return Err(error);
        }
        let download = self.downloads.get_or_insert(key, |listed| {
            Download::new(CachedFile::new(&self.services, key, body, origin), listed)
        });
        download.file.prepare().await?;
        Ok(Arc::new(FileContent::new(download, self.small.clone(), neighbours)))
    }

    /// Bytes that may yet wait in memory for their readers.
    #[cfg(test)]
    pub fn free_for_prefetch(&self) -> u64 {
        self.services.prefetch.free_bytes()
    }
}
