//! What a context, its versions and its files share.

use std::sync::{Arc, OnceLock};

use super::fetch::{Fetcher, ReadLimits};
use super::file::OpenFiles;
use super::manifest::BlockReader;
use crate::repo::cache::Cache;
use crate::store::Store;
use crate::store::source::Sources;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Services {
    pub blocks: Arc<BlockReader>,
    pub files: OpenFiles,
    /// Where references may be read from; nowhere until it is set.
    sources: OnceLock<Arc<Sources>>,
}

impl Services {
    pub fn new(store: Arc<Store>, cache: Arc<Cache>, limits: ReadLimits) -> Arc<Self> {
        let fetcher = Arc::new(Fetcher::new(store, limits));
        let blocks = Arc::new(BlockReader::new(fetcher, cache));
        let files = OpenFiles::new(blocks.clone(), limits.unread_bytes);
        Arc::new(Self { blocks, files, sources: OnceLock::new() })
    }

    pub fn fetcher(&self) -> &Arc<Fetcher> {
        self.blocks.fetcher()
    }

    /// Where references may be read from.
    pub fn sources(&self) -> Arc<Sources> {
        self.sources.get_or_init(Arc::default).clone()
    }

    /// Sets it, before the first reference is read.
    pub fn set_sources(&self, sources: Arc<Sources>) {
        if self.sources.set(sources).is_err() {
            tracing::error!("the sources of references were set twice; the first stay");
        }
    }
}
