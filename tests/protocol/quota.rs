//! Quotas: a commit beyond one is refused before anything is sent, and no other is.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use artfs::format::clock;
use artfs::format::event::{Deletion, DeletionCause, EventBody};
use artfs::format::id::EventId;
use artfs::format::name::{ArtifactKey, VersionNumber};
use artfs::repo::catalog::{Actor, AppendStep, Catalog, CatalogError};
use artfs::repo::commit::{
    ChunkIndex, CommitError, Committed, Committer, LocalTree, NewVersion, OverQuota, Settings,
};
use artfs::store::{OnMissing, Store};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tempfile::TempDir;

use crate::read_context;
use crate::support::environment::noise;
use crate::support::faults::{FaultyStore, Op};

struct Host {
    faulty: Arc<FaultyStore>,
    catalog: Arc<Catalog>,
    committer: Committer,
    _cache: TempDir,
}

impl Host {
    async fn new() -> Self {
        let faulty = FaultyStore::new(Arc::new(InMemory::new()));
        let backend: Arc<dyn ObjectStore> = faulty.clone();
        let store = Store::open(backend, "memory", OnMissing::Create, clock::system()).await;
        let store = Arc::new(store.expect("it is made"));
        let (cache, context) = read_context(&store);
        let catalog = Arc::new(Catalog::new(store.clone(), None));
        let index = Arc::new(ChunkIndex::open(Some(&cache.path().join("index.db")), store.id()));
        let committer = Committer::new(catalog.clone(), context, index);
        Self { faulty, catalog, committer, _cache: cache }
    }

    async fn commit(
        &self,
        artifact: &str,
        tree: &Path,
        quota: Option<u64>,
    ) -> Result<Committed, CommitError> {
        let request = NewVersion {
            artifact: artifact.parse().expect("a name"),
            origin: clock::system().random16(),
            actor: ann(),
            settings: Settings::default(),
            demanded: None,
        };
        let tree = LocalTree::new(&[tree.to_owned()])?;
        let committer = self.committer.with_quota(quota);
        committer.commit(&request, Arc::default(), tree, |_| Ok(())).await
    }

    async fn used(&self) -> u64 {
        self.catalog.stored_bytes(&"p".parse().expect("a name")).await.expect("an answer")
    }

    /// The versions of an artifact.
    async fn versions(&self, artifact: &str) -> usize {
        let key: ArtifactKey = artifact.parse().expect("a name");
        let state = self.catalog.state(&key, Duration::ZERO).await.expect("an answer");
        state.map_or(0, |state| state.versions().count())
    }
}

fn ann() -> Actor {
    Actor { user: "ann".into(), host: "h".into() }
}

fn over(result: Result<Committed, CommitError>) -> OverQuota {
    match result {
        Err(CommitError::Quota(over)) => over,
        other => panic!("not refused for its quota: {other:?}"),
    }
}

fn tree(files: &[(&str, Vec<u8>)]) -> TempDir {
    let tree = tempfile::tempdir().expect("a temporary directory");
    for (name, bytes) in files {
        fs::write(tree.path().join(name), bytes).expect("a file");
    }
    tree
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_beyond_the_quota_is_refused_before_anything_is_sent() {
    let host = Host::new().await;
    let small = tree(&[("f", noise(1, 0, 300_000))]);
    host.commit("p/a", small.path(), Some(1_000_000)).await.expect("it fits");
    let used = host.used().await;
    assert!((300_000..310_000).contains(&used), "{used}");
    let large = tree(&[("f", noise(2, 0, 800_000)), ("text.csv", b"1,2,3\n".repeat(100_000))]);
    host.faulty.restart_count();
    // Another artifact of the project.
    let refused = over(host.commit("p/b", large.path(), Some(1_000_000)).await);
    assert_eq!((refused.project.as_str(), refused.limit, refused.used), ("p", 1_000_000, used));
    // The table is compressed to nothing, and that is known.
    assert!((800_000..830_000).contains(&refused.adds), "{refused:?}");
    assert_eq!(refused.over(), used + refused.adds - 1_000_000);
    let writes = [Op::Put, Op::Create, Op::Multipart, Op::Delete, Op::Copy];
    assert!(host.faulty.ops().iter().all(|op| !writes.contains(op)), "{:?}", host.faulty.calls());
    assert_eq!(host.versions("p/b").await, 0);
    // Another project has its own.
    host.commit("q/b", large.path(), Some(1_000_000)).await.expect("it fits");
    assert_eq!(host.used().await, used);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_commit_adds_is_counted_as_it_will_be_recorded() {
    let many: Vec<(String, Vec<u8>)> =
        (0..500).map(|i| (format!("file number {i}"), noise(3, i, 700))).collect();
    let many: Vec<(&str, Vec<u8>)> = many.iter().map(|(name, bytes)| (&**name, bytes.clone())).collect();
    let trees = [
        tree(&[("big.bin", noise(4, 0, 3_000_000)), ("text.txt", b"all work and no play\n".repeat(9000))]),
        tree(&many),
        tree(&[("tiny", vec![1]), ("zeros", vec![0; 2_000_000])]),
    ];
    for tree in &trees {
        let host = Host::new().await;
        host.commit("p/a", tree.path(), None).await.expect("no quota");
        let stored = host.used().await;
        // Random names of packs make some bytes of a manifest more or less compressible.
        let chance = 100 + stored / 500;
        let host = Host::new().await;
        let refused = over(host.commit("p/a", tree.path(), Some(stored - stored / 100 - 100)).await);
        assert!(refused.adds.abs_diff(stored) < chance, "{} were counted, {stored} stored", refused.adds);
        host.commit("p/a", tree.path(), Some(stored + chance)).await.expect("it fits");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_already_does_not_count_and_deleted_versions_make_room() {
    let host = Host::new().await;
    let (first, second) = (noise(5, 0, 1_000_000), noise(5, 1, 100_000));
    let one = tree(&[("f", first.clone())]);
    host.commit("p/a", one.path(), None).await.expect("no quota");
    let used = host.used().await;
    let limit = used + 200_000;
    // By its size it would not fit.
    let both = tree(&[("f", first.clone()), ("g", second)]);
    let made = host.commit("p/a", both.path(), Some(limit)).await.expect("it fits");
    assert!(made.created && (100_000..110_000).contains(&made.stored_bytes), "{made:?}");
    // Content that is there makes no version and needs no room.
    let again = host.commit("p/a", both.path(), Some(1)).await.expect("it adds nothing");
    assert!(!again.created);
    let new = tree(&[("h", noise(6, 0, 500_000))]);
    over(host.commit("p/a", new.path(), Some(limit)).await);
    assert_eq!(host.versions("p/a").await, 2);
    let delete = EventBody::Delete(Deletion {
        versions: vec![VersionNumber(0)],
        cause: DeletionCause::Asked,
        aliases: vec![],
    });
    let key: ArtifactKey = "p/a".parse().expect("a name");
    let plan =
        |_: &artfs::repo::catalog::ArtifactState| Ok::<_, CatalogError>(AppendStep::Append(delete.clone()));
    host.catalog.append(&key, EventId::from_bytes([9; 16]), &ann(), plan).await.expect("it is deleted");
    assert!(host.used().await < 120_000);
    host.commit("p/a", new.path(), Some(limit)).await.expect("there is room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_fits_by_its_size_is_read_once_and_without_a_quota_costs_nothing_more() {
    let tree = tree(&[("f", noise(7, 0, 200_000))]);
    let calls = |host: &Host| host.faulty.ops();
    let plain = Host::new().await;
    plain.faulty.restart_count();
    plain.commit("p/a", tree.path(), None).await.expect("no quota");
    let limited = Host::new().await;
    limited.faulty.restart_count();
    limited.commit("p/a", tree.path(), Some(1 << 30)).await.expect("it fits");
    let mut more = calls(&limited);
    // One listing of the project, which is empty.
    let listing = more.iter().position(|op| *op == Op::ListFolders).expect("the project is listed");
    more.remove(listing);
    assert_eq!(more, calls(&plain));
}
