//! What names cost: requests to the store by what users do, and how many of them wait for each other.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use artfs::format::clock;
use artfs::format::name::{Selector, VersionNumber};
use artfs::mount::fs::{AttrReply, Fs, FsOptions, FsServices, ROOT};
use artfs::mount::staging::{Caller, Closer, SessionRegistry};
use artfs::repo::cache::{Cache, CacheOptions};
use artfs::repo::catalog::{AliasPrecondition, Catalog, CatalogError};
use artfs::repo::commit::{ChunkIndex, Committer};
use artfs::repo::view::{ReadContext, ReadLimits};
use artfs::store::{OnMissing, Store, StoreError};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::host::{Host, key, names, small_tree};
use crate::support::environment::noise;
use crate::support::faults::{Call, Fault, FaultyStore, Op};

const REFRESH: Duration = Duration::from_secs(1);
const LATENCY: Duration = Duration::from_millis(20);

/// A store with `proj/data:v0` and `v1`, and `prod` on v0; the file in v0 is of one chunk.
async fn filled() -> (Arc<dyn ObjectStore>, Host) {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let host = Host::new(&backend, "writer").await;
    host.commit(small_tree(&noise(1, 1, 20_000)).path()).await;
    host.commit(small_tree(&noise(1, 2, 20_000)).path()).await;
    let (v0, any) = (Selector::Version(VersionNumber(0)), AliasPrecondition::Any);
    host.set_alias("prod", v0, any).await.expect("set");
    (backend, host)
}

/// A file system without a kernel above it, on a host of its own.
struct Served {
    fs: Arc<Fs>,
    calls: Arc<FaultyStore>,
    _state: TempDir,
}

async fn served(backend: &Arc<dyn ObjectStore>, refresh: Duration, latency: Duration) -> Served {
    let calls = FaultyStore::new(backend.clone());
    calls.set_latency(latency);
    let faced: Arc<dyn ObjectStore> = calls.clone();
    let store = Store::open(faced, "memory", OnMissing::Fail, clock::system()).await;
    let store = Arc::new(store.expect("it is a store"));
    let folder = tempfile::tempdir().expect("a folder");
    let state: &Path = folder.path();
    let database = state.join("cache.db");
    let cache = Cache::open(CacheOptions {
        folder: state.join("cache"),
        database: database.clone(),
        limit_bytes: 64 << 20,
        env: clock::system(),
    });
    let catalog = Arc::new(Catalog::new(store.clone(), Some(&database)));
    let context = ReadContext::new(store.clone(), cache.expect("a cache"), ReadLimits::default());
    let context = Arc::new(context);
    let index = Arc::new(ChunkIndex::open(Some(&database), store.id()));
    let services = FsServices {
        catalog: catalog.clone(),
        context: context.clone(),
        registry: Arc::new(SessionRegistry::open(state, clock::system()).expect("a registry")),
        closer: Closer::start().expect("a thread"),
        committer: Committer::new(catalog, context, index),
        admission: None,
        watch: None,
    };
    let options = FsOptions {
        read_only: false,
        refresh,
        owner: (0, 0),
        allow_commit: None,
        state: state.to_owned(),
        mountpoint: None,
        user_name: |uid| format!("uid{uid}"),
        other_mounts: |_, _| Arc::new(|_| None),
        host: "h".into(),
        rename_wait: Duration::from_secs(60),
        quotas: artfs::repo::commit::Quotas::default(),
    };
    let (fs, _) = Fs::new(options, services).await;
    Served { fs, calls, _state: folder }
}

/// Calls without a process.
const NOBODY: Caller = Caller { uid: 0, gid: 0, pid: 0 };

/// The name cache of the kernel: it keeps names for as long as their TTL allows.
#[derive(Default)]
struct Kernel {
    names: HashMap<(u64, String), (u64, Instant)>,
}

impl Kernel {
    async fn lookup(&mut self, fs: &Arc<Fs>, parent: u64, name: &str) -> u64 {
        let kept = (parent, name.to_owned());
        if let Some((ino, until)) = self.names.get(&kept)
            && Instant::now() < *until
        {
            return *ino;
        }
        let found = fs.lookup(NOBODY, parent, name.as_bytes()).await;
        let AttrReply { attr, entry_ttl, .. } = found.unwrap_or_else(|e| panic!("{name}: {e:?}"));
        self.names.insert(kept, (attr.ino, Instant::now() + entry_ttl));
        attr.ino
    }

    /// Where an alias of `proj/data` points.
    async fn readlink(&mut self, fs: &Arc<Fs>, alias: &str) -> String {
        let project = self.lookup(fs, ROOT, "proj").await;
        let artifact = self.lookup(fs, project, "data").await;
        let link = self.lookup(fs, artifact, alias).await;
        let target = fs.readlink(link).await.expect("a link");
        self.lookup(fs, artifact, std::str::from_utf8(&target).expect("a name")).await;
        String::from_utf8(target).expect("a name")
    }
}

#[tokio::test(start_paused = true)]
async fn an_artifact_in_use_costs_one_look_an_interval_and_none_when_idle() {
    let (backend, writer) = filled().await;
    let Served { fs, calls, _state } = served(&backend, REFRESH, Duration::ZERO).await;
    let mut kernel = Kernel::default();
    kernel.readlink(&fs, "prod").await;
    // Every 7 ms for 20 s, while an alias moves every 3 s.
    calls.restart_count();
    let begun = Instant::now();
    let (mut seen, mut moved) = ((0, begun), (0, begun));
    while begun.elapsed() < 20 * REFRESH {
        tokio::time::advance(Duration::from_millis(7)).await;
        if moved.1.elapsed() > 3 * REFRESH {
            let to = 1 - moved.0;
            writer
                .set_alias("prod", Selector::Version(VersionNumber(to)), AliasPrecondition::Any)
                .await
                .expect("set");
            moved = (to, Instant::now());
        }
        let now = kernel.readlink(&fs, "prod").await;
        if now != format!("v{}", seen.0) {
            assert_eq!(now, format!("v{}", moved.0), "it never goes backwards");
            seen = (moved.0, Instant::now());
        }
        let late = Instant::now() - moved.1;
        assert!(seen.0 == moved.0 || late <= REFRESH, "{late:?} behind");
    }
    assert!(seen.1 > begun, "the test saw the alias move");
    let logs = calls.calls().iter().filter(|call| call.path.contains("/log/")).count();
    let lists = calls.ops().iter().filter(|op| **op != Op::Get).count();
    // Six moves: one more request each for what is new.
    assert!((19..=21 + 7).contains(&logs), "{logs} looks at the log in 20 intervals");
    assert_eq!(lists, 0, "listings in 20 intervals");
    // Idle.
    calls.restart_count();
    tokio::time::sleep(100 * REFRESH).await;
    assert_eq!(calls.ops(), []);
}

#[tokio::test(start_paused = true)]
async fn many_readers_at_once_share_one_look() {
    let (backend, _) = filled().await;
    let Served { fs, calls, _state } = served(&backend, REFRESH, LATENCY).await;
    Kernel::default().readlink(&fs, "prod").await;
    tokio::time::sleep(2 * REFRESH).await;
    calls.restart_count();
    let readers = (0..64).map(|_| {
        let fs = fs.clone();
        tokio::spawn(async move { Kernel::default().readlink(&fs, "prod").await })
    });
    for reader in futures::future::join_all(readers).await {
        assert_eq!(reader.expect("it does not panic"), "v0");
    }
    assert_eq!(calls.ops(), [Op::Get], "the artifact's log");
}

#[tokio::test(start_paused = true)]
async fn a_warm_alias_costs_nothing() {
    let (backend, _) = filled().await;
    let Served { fs, calls, _state } = served(&backend, REFRESH, Duration::ZERO).await;
    let mut kernel = Kernel::default();
    kernel.readlink(&fs, "prod").await;
    calls.restart_count();
    for _ in 0..1000 {
        assert_eq!(kernel.readlink(&fs, "prod").await, "v0");
        assert_eq!(kernel.readlink(&fs, "latest").await, "v1");
    }
    assert_eq!(calls.ops(), []);
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_keeps_is_never_older_than_the_interval() {
    let (backend, _) = filled().await;
    let Served { fs, calls, _state } = served(&backend, REFRESH, Duration::ZERO).await;
    let mut kernel = Kernel::default();
    kernel.readlink(&fs, "prod").await;
    let project = kernel.lookup(&fs, ROOT, "proj").await;
    let artifact = kernel.lookup(&fs, project, "data").await;
    calls.restart_count();
    let mut age = Duration::ZERO;
    for step in [0, 300, 400, 200, 50] {
        let step = Duration::from_millis(step);
        tokio::time::advance(step).await;
        age += step;
        for (parent, name) in [(project, "data"), (artifact, "v0")] {
            let found = fs.lookup(NOBODY, parent, name.as_bytes()).await.expect("it is there");
            assert_eq!(found.entry_ttl, (REFRESH - age).min(REFRESH / 2), "{name} after {age:?}");
        }
    }
    assert_eq!(calls.ops(), [], "all of it from one look");
    tokio::time::advance(REFRESH / 10).await;
    let found = fs.lookup(NOBODY, artifact, b"v0").await.expect("it is there");
    assert_eq!((found.entry_ttl, calls.ops()), (REFRESH / 2, vec![Op::Get]), "and now from a new one");
}

/// Opens the file below an alias and reads its beginning, as the kernel would; gives the bytes.
async fn first_bytes(fs: &Arc<Fs>, alias: &str, file: &str) -> Vec<u8> {
    let mut kernel = Kernel::default();
    let version = kernel.readlink(fs, alias).await;
    let project = kernel.lookup(fs, ROOT, "proj").await;
    let artifact = kernel.lookup(fs, project, "data").await;
    let version = kernel.lookup(fs, artifact, &version).await;
    let file = kernel.lookup(fs, version, file).await;
    let opened = fs.open(NOBODY, file, libc::O_RDONLY).await.expect("it opens");
    let bytes = fs.read(file, opened.handle, 0, 100).await.expect("it is read");
    bytes.to_vec()
}

/// A file of more chunks than fit into its entry.
fn long_table() -> TempDir {
    use std::io::Write;
    let tree = tempfile::tempdir().expect("a temporary directory");
    let file = std::fs::File::create(tree.path().join("table.csv")).expect("a file");
    let mut out = std::io::BufWriter::new(file);
    for block in 0..12 {
        // Text is cut into the smallest chunks.
        for line in noise(9, block, 1 << 19).chunks(32) {
            let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(out, "{hex}").expect("it is written");
        }
    }
    tree
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_of_a_file_of_many_chunks_takes_two_rounds_once_its_log_is_known() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let host = Host::new(&backend, "writer").await;
    let tree = long_table();
    host.commit(tree.path()).await;
    let (v0, any) = (Selector::Version(VersionNumber(0)), AliasPrecondition::Any);
    host.set_alias("prod", v0, any).await.expect("set");
    let Served { fs, calls, _state } = served(&backend, Duration::from_secs(3600), LATENCY).await;
    Kernel::default().readlink(&fs, "prod").await;
    calls.restart_count();
    let begun = Instant::now();
    let first = std::fs::read(tree.path().join("table.csv")).expect("it is there");
    assert_eq!(first_bytes(&fs, "prod", "table.csv").await, first[..100]);
    let took = begun.elapsed();
    // The list of its chunks, and a chunk. Where the list has a list of its own it is one more.
    assert_eq!(took, 2 * LATENCY, "{:?}", calls.calls());
    assert!(calls.calls().iter().all(|call| !call.path.contains("/manifests/")), "{:?}", calls.calls());
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_of_a_cold_host_takes_six_rounds_at_most() {
    let (backend, _) = filled().await;
    let begun = Instant::now();
    let Served { fs, calls, _state } = served(&backend, REFRESH, LATENCY).await;
    assert_eq!(first_bytes(&fs, "prod", "file.bin").await, noise(1, 1, 20_000)[..100]);
    let took = begun.elapsed();
    assert!(took <= 6 * LATENCY, "{took:?}: {:?}", calls.calls());
    assert!(took >= 3 * LATENCY, "{took:?}: the clock counts rounds");
}

/// As S3 does: a caller without the right to list is not told that a name is absent.
async fn deny_listing(faulty: &FaultyStore, backend: &Arc<dyn ObjectStore>) {
    let there = names(backend).await;
    faulty.set_fault(move |call: &Call| if there.contains(&call.path) { Fault::None } else { Fault::Denied });
}

#[tokio::test(start_paused = true)]
async fn who_may_not_list_finds_the_end_of_a_log_with_two_requests() {
    let (backend, writer) = filled().await;
    let faulty = FaultyStore::new(backend.clone());
    deny_listing(&faulty, &backend).await;
    let reader = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "reader").await;
    let look = async || reader.catalog.existing(&key(), Duration::ZERO).await;
    assert_eq!(look().await.expect("it is read").versions().count(), 2);
    faulty.restart_count();
    for _ in 0..3 {
        look().await.expect("nothing is new");
    }
    assert_eq!(faulty.ops(), [Op::Get; 6], "the next event and the header: {:?}", faulty.calls());
    // What is new is seen.
    writer.commit(small_tree(b"new").path()).await;
    deny_listing(&faulty, &backend).await;
    assert_eq!(look().await.expect("it is read").versions().count(), 3);
    // A caller that is denied everything must not hear that the log has ended: the store is away.
    faulty.set_fault(|_| Fault::Denied);
    let known = look().await.expect("what is known is shown");
    assert!(known.unheard().is_some_and(|reason| reason.to_string().contains("the store denies access: ")));
    assert!(
        matches!(known.require(&Selector::Version(VersionNumber(9))), Err(CatalogError::Store(e)) if e.is_transient())
    );
    faulty.set_fault(|_| Fault::None);
    reader.store.ask_again().await.expect("it is back");
    // A caller that may list again learns it from the next missing name, and asks for listings again when denied.
    look().await.expect("nothing is new");
    let next = format!("artifacts/{}/log/", key());
    faulty.set_fault(move |call: &Call| match call.op {
        Op::Get if call.path.starts_with(&next) => Fault::Denied,
        _ => Fault::None,
    });
    assert!(matches!(look().await, Err(CatalogError::Store(StoreError::Denied { .. }))));
    assert_eq!(faulty.ops(), [Op::Get, Op::Get, Op::List], "the event, the header, the listing");
}
