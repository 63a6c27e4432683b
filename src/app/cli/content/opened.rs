//! The store opened for content: with the cache of this host, and a reader through it.

use std::path::Path;
use std::sync::Arc;

use crate::app::cli::args::ReferenceArgs;
use crate::app::cli::context::{Context, OpenedStore};
use crate::app::cli::error::CliError;
use crate::format::name::ArtifactKey;
use crate::repo::cache::{Cache, CacheOptions, remembered_limit};
use crate::repo::catalog::{Catalog, VersionRecord};
use crate::repo::commit::ChunkIndex;
use crate::repo::view::{ReadContext, ReadLimits, VersionView};
use crate::store::OnMissing;
use crate::store::source::Sources;

/// The cache's index in the state folder.
pub const DATABASE: &str = "cache.db";
/// The limit of the cache where no mount has set another.
pub const DEFAULT_CACHE_BYTES: u64 = 10 << 30;

/// A store opened for reading and writing content.
#[derive(Debug)]
pub struct OpenedContent {
    /// Runtime and catalog.
    pub opened: OpenedStore,
    /// Reads content.
    pub reader: Arc<ReadContext>,
    cache: Arc<Cache>,
    index: Arc<ChunkIndex>,
    /// Whether no daemon uses the same cache.
    alone: bool,
}

impl OpenedContent {
    /// Opens the store with the cache of the state folder, under the limit of the last mount.
    pub fn open(context: &Context, on_missing: OnMissing) -> Result<Self, CliError> {
        Self::open_within(context, on_missing, None)
    }

    /// Opens it under another limit, which is remembered.
    pub fn open_within(
        context: &Context,
        on_missing: OnMissing,
        limit_bytes: Option<u64>,
    ) -> Result<Self, CliError> {
        let opened = context.open_or(on_missing)?;
        let state = context.state()?;
        let remembered = || remembered_limit(&state.join(DATABASE));
        let limit = limit_bytes.or_else(remembered).unwrap_or(DEFAULT_CACHE_BYTES);
        let cache = open_cache(&opened.catalog, &state, limit)?;
        if limit_bytes.is_some() {
            cache.remember_limit();
        }
        let alone = context.daemon()?.is_none();
        Ok(Self::with(opened, cache, alone, &state))
    }

    /// Opens the store with an empty cache in `folder`, so that everything is read from the store.
    pub fn open_without_cache(context: &Context, folder: &Path) -> Result<Self, CliError> {
        let opened = context.open()?;
        let cache = open_cache(&opened.catalog, folder, DEFAULT_CACHE_BYTES)?;
        Ok(Self::with(opened, cache, false, &context.state()?))
    }

    fn with(opened: OpenedStore, cache: Arc<Cache>, alone: bool, state: &Path) -> Self {
        let store = opened.catalog.store();
        let reader = ReadContext::new(store.clone(), cache.clone(), ReadLimits::default());
        let index = Arc::new(ChunkIndex::open(Some(&state.join(DATABASE)), store.id()));
        let told = index.clone();
        reader.tell_damage(Box::new(move |id, pack| told.lose(id, pack)));
        Self { opened, reader: Arc::new(reader), cache, index, alone }
    }

    /// Returns the index of stored chunks; it learns of packs that cannot be read.
    pub fn index(&self) -> &Arc<ChunkIndex> {
        &self.index
    }

    /// Allows references to be read where the user allows it.
    pub fn allow(&self, references: &ReferenceArgs) {
        self.reader.set_sources(Arc::new(Sources::new(references.allowed(), None)));
    }

    /// Opens a version for reading.
    pub async fn view(
        &self,
        artifact: &ArtifactKey,
        version: &VersionRecord,
    ) -> Result<Arc<VersionView>, CliError> {
        let label = format!("{artifact}:{}", version.version);
        if let Some(copy) = &version.root {
            self.reader.offer_root(&version.manifest, copy);
        }
        Ok(VersionView::open(&self.reader, artifact, version.manifest, &label).await?)
    }

    /// Ends all reading and closes the cache. Work that still runs is abandoned.
    pub fn close(self) {
        let Self { opened, reader, cache, alone, .. } = self;
        opened.runtime.block_on(reader.shutdown());
        opened.runtime.shutdown_background();
        // Only the cache's one user may mark it as closed cleanly.
        if alone {
            cache.shutdown();
        }
    }
}

fn open_cache(catalog: &Catalog, folder: &Path, limit_bytes: u64) -> Result<Arc<Cache>, CliError> {
    let options = CacheOptions {
        folder: folder.join("cache"),
        database: folder.join(DATABASE),
        limit_bytes,
        env: catalog.store().env().clone(),
    };
    Cache::open(options).map_err(|e| CliError::failed(e.to_string()))
}
