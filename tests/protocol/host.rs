//! One host with nothing remembered, and the trees it commits.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use artfs::format::clock;
use artfs::format::name::{ArtifactKey, Selector, VersionNumber};
use artfs::repo::catalog::{Actor, AliasPrecondition, Catalog, EditError};
use artfs::repo::commit::{
    ChunkIndex, CommitError, CommitProgress, Committed, Committer, LocalTree, NewVersion, Settings,
};
use artfs::repo::view::ReadContext;
use artfs::store::{OnMissing, Store};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tempfile::TempDir;

use crate::read_context;
use crate::support::read_back::{Judge, Version};

pub const ARTIFACT: &str = "proj/data";

pub fn key() -> ArtifactKey {
    ARTIFACT.parse().expect("a name")
}

pub fn version(number: u64) -> VersionNumber {
    VersionNumber(number)
}

/// One host with nothing remembered: its own store, catalog and index, over a backend that all hosts share.
pub struct Host {
    pub store: Arc<Store>,
    pub catalog: Arc<Catalog>,
    pub committer: Committer,
    pub context: Arc<ReadContext>,
    pub name: String,
    pub cache: TempDir,
}

impl Host {
    pub async fn new(backend: &Arc<dyn ObjectStore>, name: &str) -> Self {
        let store = Store::open(backend.clone(), "memory", OnMissing::Create, clock::system()).await;
        Self::on(Arc::new(store.expect("the store opens")), name)
    }

    pub fn on(store: Arc<Store>, name: &str) -> Self {
        let (cache, context) = read_context(&store);
        let database = cache.path().join("host.db");
        let catalog = Arc::new(Catalog::new(store.clone(), Some(&database)));
        let index = Arc::new(ChunkIndex::open(Some(&database), store.id()));
        let committer = Committer::new(catalog.clone(), context.clone(), index);
        Self { store, catalog, committer, context, name: name.to_owned(), cache }
    }

    pub fn actor(&self) -> Actor {
        Actor { user: "ann".into(), host: self.name.clone() }
    }

    pub async fn commit_as(&self, directory: &Path, request: &NewVersion) -> Result<Committed, CommitError> {
        let tree = LocalTree::new(&[directory.to_owned()])?;
        let progress = Arc::new(CommitProgress::default());
        self.committer.commit(request, progress, tree, |_| Ok(())).await
    }

    pub fn request(&self, settings: Settings) -> NewVersion {
        let origin = clock::system().random16();
        NewVersion { artifact: key(), origin, actor: self.actor(), settings, demanded: None }
    }

    pub async fn set_alias(
        &self,
        alias: &str,
        to: Selector,
        condition: AliasPrecondition,
    ) -> Result<VersionNumber, EditError> {
        let alias = alias.parse().expect("an alias");
        self.catalog.set_alias(&key(), &alias, &to, condition, &self.actor()).await
    }

    pub async fn commit(&self, directory: &Path) -> Committed {
        let request = self.request(Settings::default());
        self.commit_as(directory, &request).await.unwrap_or_else(|e| panic!("the commit succeeds: {e}"))
    }
}

pub fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// The names of all objects.
pub async fn names(backend: &Arc<dyn ObjectStore>) -> BTreeSet<String> {
    let names = backend.list(None).map_ok(|meta| meta.location.to_string());
    names.try_collect().await.expect("a listing")
}

pub async fn judged(backend: &Arc<dyn ObjectStore>) -> Vec<Version> {
    Judge::new(backend.clone(), ARTIFACT).versions().await
}

pub fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

pub fn small_tree(content: &[u8]) -> TempDir {
    let tree = directory();
    fs::write(tree.path().join("file.bin"), content).expect("a file");
    tree
}
