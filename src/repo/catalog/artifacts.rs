//! The catalog of a store: what is known of each artifact, and of the folders.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::cell::LogCell;
use super::mirror::Mirror;
use super::state::ArtifactState;
use crate::format::name::{ArtifactKey, ProjectName};
use crate::host::signing::Signer;
use crate::store::{Store, StoreError};

/// All artifacts of a store, each known as far as it was read.
#[derive(Debug)]
pub struct Catalog {
    pub(super) store: Arc<Store>,
    pub(super) mirror: Mirror,
    pub(super) cells: Mutex<HashMap<ArtifactKey, Arc<LogCell>>>,
    /// By their folder; each is held by the one task that asks for it.
    pub(super) listings: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<FolderListing>>>>>,
    /// When the logs of a project were last looked at for a listing.
    pub(super) looks: Mutex<HashMap<ProjectName, Instant>>,
    /// Signs the events appended here, if set.
    pub(super) signer: Option<Arc<dyn Signer>>,
}

/// The folders directly below one, as they were listed.
#[derive(Debug, Clone)]
pub(super) struct FolderListing {
    pub asked: Instant,
    pub names: BTreeSet<String>,
    /// Why the store did not answer: there may be others.
    pub unheard: Option<StoreError>,
}

impl Catalog {
    /// Returns a catalog of `store`, with a local copy of the logs in the database at `mirror` (none: in memory only).
    /// Sends nothing.
    pub fn new(store: Arc<Store>, mirror: Option<&Path>) -> Self {
        let mirror = Mirror::open(mirror, store.id());
        let (cells, listings, looks) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self { store, mirror, cells, listings, looks, signer: None }
    }

    /// Signs all events appended here. Each attempt to write an event is signed, while readers of that artifact wait.
    pub fn signing(self, signer: Arc<dyn Signer>) -> Self {
        Self { signer: Some(signer), ..self }
    }

    /// Returns the signer of the events appended here.
    pub fn signer(&self) -> Option<&Arc<dyn Signer>> {
        self.signer.as_ref()
    }

    /// Returns the store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub(super) fn cell(&self, key: &ArtifactKey) -> Arc<LogCell> {
        self.cells.lock().entry(key.clone()).or_default().clone()
    }

    /// Returns how long ago the store was asked for an artifact's log, if it was.
    pub fn age(&self, key: &ArtifactKey) -> Option<Duration> {
        self.cell(key).known().checked.map(|at| at.elapsed())
    }

    /// Returns what is known of an artifact, without asking the store.
    pub fn known(&self, key: &ArtifactKey) -> Option<Arc<ArtifactState>> {
        self.cell(key).known().state
    }

    /// Returns the artifacts in this host's copy of the logs. Sends nothing.
    pub fn kept(&self) -> Vec<ArtifactKey> {
        self.mirror.artifacts()
    }
}
