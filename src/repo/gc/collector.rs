//! The collector: what all steps of a run share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::repo::catalog::Catalog;
use crate::repo::tombstones::Condemned;
use crate::repo::view::ReadContext;
use crate::store::Store;

/// Collects the garbage of one store.
#[derive(Debug)]
pub struct Collector {
    pub(super) catalog: Arc<Catalog>,
    pub(super) context: Arc<ReadContext>,
    pub(super) condemned: Condemned,
    pub(super) scratch: PathBuf,
}

impl Collector {
    /// Makes a collector with its own memory of what was condemned, and a folder for a temporary database of about 20
    /// bytes for each chunk in use.
    pub fn new(
        catalog: Arc<Catalog>,
        context: Arc<ReadContext>,
        condemned: Condemned,
        scratch: &Path,
    ) -> Self {
        Self { catalog, context, condemned, scratch: scratch.to_owned() }
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        self.catalog.store()
    }
}
