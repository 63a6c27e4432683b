//! Collections: what they delete and what they never do, at every call, beside writers, readers and each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use artfs::format::chunk::ChunkRule;
use artfs::format::clock::Timestamp;
use artfs::format::entry::{ChunkLocation, Entry, EntryBody, FileBody, FileBytes, Mtime};
use artfs::format::event::{Commit, CommitSettings, DeletionCause, Event, EventBody, NEVER_SECONDS};
use artfs::format::id::{ArtifactId, EventHash, EventId, FileHash, PackId, TokenId};
use artfs::format::lease::Lease;
use artfs::format::listing::ListingHasher;
use artfs::format::manifest::{Block, Root, encode_leaf};
use artfs::format::name::{ArtifactKey, Selector};
use artfs::format::pack::{PACK_FOOTER_BYTES, PackRow, decode_footer, decode_table};
use artfs::format::relocation::encode_moves;
use artfs::repo::catalog::{AliasPrecondition, CatalogError, InUse, Inputs};
use artfs::repo::commit::Settings;
use artfs::repo::gc::{Collector, GcError, GcOptions, GcReport, InUseVersion, Mode};
use artfs::repo::tombstones::Condemned;
use artfs::store::Key;
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

use crate::host::{ARTIFACT, Host, directory, judged, key, memory, names, small_tree, version};
use crate::support::aging::AgingStore;
use crate::support::environment::{noise, seed};
use crate::support::faults::{Call, Fault, FaultyStore, Op};
use crate::support::read_back::{Judge, assert_same, tree_of};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A store in memory whose time the test moves.
struct World {
    clock: Arc<AgingStore>,
    backend: Arc<dyn ObjectStore>,
}

impl World {
    fn new() -> Self {
        let clock = AgingStore::new(memory());
        Self { backend: clock.clone(), clock }
    }

    async fn host(&self, name: &str) -> Host {
        Host::new(&self.backend, name).await
    }

    async fn names(&self) -> BTreeSet<String> {
        names(&self.backend).await
    }

    async fn packs(&self) -> BTreeSet<String> {
        let mut names = self.names().await;
        names.retain(|name| name.starts_with("packs/") && !name.ends_with(".moved"));
        names
    }

    /// One run with nothing remembered, which must succeed.
    async fn collect(&self, grace: Duration) -> GcReport {
        let host = self.host("collector").await;
        host.collect(grace).await.unwrap_or_else(|e| panic!("a collection: {e}"))
    }
}

impl Host {
    fn collector(&self) -> Collector {
        let path = self.cache.path().join("condemned.db");
        let condemned = Condemned::open(Some(&path), self.store.clone());
        Collector::new(self.catalog.clone(), self.context.clone(), condemned, self.cache.path())
    }

    fn options(&self, grace: Duration) -> GcOptions {
        GcOptions { mode: Mode::Collect, grace, in_use: vec![], actor: self.actor() }
    }

    async fn collect(&self, grace: Duration) -> Result<GcReport, GcError> {
        self.collector().run(&self.options(grace)).await
    }

    async fn rm(&self, versions: &[u64]) {
        let versions = versions.iter().map(|n| version(*n)).collect();
        let (artifact, inputs, actor) = (key(), Inputs::default(), self.actor());
        let deleted = self.catalog.delete_versions(&artifact, &versions, InUse::Override, &inputs, &actor);
        deleted.await.expect("deleted");
    }

    async fn commit_to(&self, artifact: &str, tree: &Path, settings: Settings) {
        let artifact: ArtifactKey = artifact.parse().expect("a name");
        let request = artfs::repo::commit::NewVersion { artifact, ..self.request(settings) };
        self.commit_as(tree, &request).await.unwrap_or_else(|e| panic!("a commit: {e}"));
    }
}

/// Chunks in packs, a chunk list, an inline file, and all of it different for each seed.
fn tree(seed: u64) -> TempDir {
    let tree = directory();
    fs::write(tree.path().join("table.csv"), noise(seed, 1, 200_000)).expect("a file");
    fs::write(tree.path().join("model.bin"), noise(seed, 2, 300_000)).expect("a file");
    fs::write(tree.path().join("tiny"), format!("tiny {seed}")).expect("a file");
    tree
}

fn pack_number(n: u64) -> Key {
    Key::Pack(PackId::of(&n.to_le_bytes()))
}

// What goes, and when

#[tokio::test(flavor = "multi_thread")]
async fn what_nothing_leads_to_is_condemned_and_deleted_when_the_grace_period_is_over() {
    let world = World::new();
    let host = world.host("h").await;
    let trees = [tree(1), tree(2), tree(3)];
    for tree in &trees {
        host.commit(tree.path()).await;
    }
    let settings = Settings { message: Some("said of v1".into()), ..Settings::default() };
    host.commit_to("proj/other", trees[1].path(), settings).await;
    host.rm(&[0]).await;
    // What a commit that died left behind.
    host.store.put(&pack_number(1), vec!["no pack at all".into()]).await.expect("put");
    let before = world.names().await;
    let young = world.collect(DAY).await;
    assert!(young.condemned.is_none() && young.pending.is_empty(), "{young:?}");
    assert_eq!(world.names().await, before, "nothing is old enough, and no trace is left");

    world.clock.advance(DAY + HOUR);
    let first = world.collect(DAY).await;
    let condemned = first.condemned.expect("something was condemned");
    assert_eq!((condemned.epoch, condemned.repacked), (1, 0));
    assert!(condemned.bytes > 500_000, "{condemned:?}");
    assert_eq!((first.freed_objects, first.finished.len(), first.pending.len()), (0, 0, 1));
    assert_eq!(first.next, Some(first.pending[0].deletable));
    let gone = |names: &BTreeSet<String>| before.difference(names).count() as u64;
    assert_eq!(gone(&world.names().await), 0, "nothing is deleted yet");
    world.clock.advance(HOUR);
    let waiting = world.collect(DAY).await;
    assert!(waiting.condemned.is_none() && waiting.finished.is_empty(), "{waiting:?}");
    assert_eq!(waiting.pending, first.pending, "and once is enough");

    world.clock.advance(DAY);
    let second = world.collect(DAY).await;
    assert_eq!(
        second.finished.iter().map(|f| (f.epoch, f.objects, f.spared)).collect::<Vec<_>>(),
        [(1, condemned.objects, 0)]
    );
    assert_eq!((second.freed_bytes, second.next), (condemned.bytes, None));
    let after = world.names().await;
    assert_eq!(gone(&after), condemned.objects);
    assert!(!after.contains(&pack_number(1).to_string()));
    assert!(after.contains(&Key::CollectionEnd(1).to_string()));
    let third = world.collect(DAY).await;
    assert!(third.condemned.is_none() && third.finished.is_empty() && third.pending.is_empty(), "{third:?}");

    let versions = judged(&world.backend).await;
    assert_eq!(versions.len(), 2);
    for (version, tree) in versions.iter().zip(&trees[1..]) {
        assert_same(&version.tree, &tree_of(tree.path()));
    }
    assert_same(
        &Judge::new(world.backend.clone(), "proj/other").versions().await[0].tree,
        &tree_of(trees[1].path()),
    );
    for artifact in [ARTIFACT, "proj/other"] {
        let log = Judge::new(world.backend.clone(), artifact).log().await;
        let fences = log.iter().filter(|event| matches!(event.body, EventBody::Fence(_))).count();
        assert_eq!(fences, 1, "one fence for one collection");
    }
    // A message outlives the collection, also for who never read it.
    let reader = world.host("reader").await;
    let other: ArtifactKey = "proj/other".parse().expect("a name");
    let state = reader.catalog.existing(&other, Duration::ZERO).await.expect("it exists");
    let message = reader.catalog.message(&other, state.latest().expect("v0")).await.expect("an answer");
    assert_eq!(message.as_deref(), Some("said of v1"));
    // The host that had it all in its index stores it again.
    host.commit(trees[0].path()).await;
    assert_same(&judged(&world.backend).await[2].tree, &tree_of(trees[0].path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_grace_period_one_run_does_all() {
    let world = World::new();
    let host = world.host("h").await;
    let (a, b) = (tree(1), tree(2));
    host.commit(a.path()).await;
    host.commit(b.path()).await;
    host.rm(&[0]).await;
    let before = world.packs().await.len();
    let report = world.collect(Duration::ZERO).await;
    let condemned = report.condemned.expect("something was condemned");
    assert_eq!((report.freed_objects, report.freed_bytes), (condemned.objects, condemned.bytes));
    assert!(report.pending.is_empty() && report.next.is_none());
    assert!(world.packs().await.len() < before);
    assert_eq!(judged(&world.backend).await.len(), 1);
    let again = world.collect(Duration::ZERO).await;
    assert_eq!((again.condemned, again.freed_objects), (None, 0), "nothing is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_tells_what_a_run_would_do_and_changes_nothing() {
    let world = World::new();
    let host = world.host("h").await;
    for n in 0..3 {
        host.commit(tree(n).path()).await;
    }
    let (actor, v0) = (host.actor(), Selector::Version(version(0)));
    host.catalog.set_ttl(&key(), &v0, Some(1), &actor).await.expect("ttl");
    host.rm(&[1]).await;
    let look = |host: &Host, grace| GcOptions { mode: Mode::Look, ..host.options(grace) };
    for grace in [Duration::ZERO, DAY] {
        let faulty = FaultyStore::new(world.backend.clone());
        let looker = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "looker").await;
        faulty.restart_count();
        let before = world.names().await;
        let seen = looker.collector().run(&look(&looker, grace)).await.expect("a look");
        let reads = [Op::Get, Op::GetRange, Op::Head, Op::List, Op::ListFolders];
        assert!(faulty.ops().iter().all(|op| reads.contains(op)), "{:?}", faulty.ops());
        assert_eq!(world.names().await, before);
        // This host's clock is years ahead of the store's, so all is old.
        let condemned = seen.condemned.clone().expect("something would be condemned");
        assert!(condemned.objects >= 3 && condemned.bytes > 500_000, "{condemned:?}");
        assert_eq!((seen.expired.len(), seen.freed_objects), (1, 0));
    }
    // What the first run condemns, a look finds waiting, and then due.
    world.clock.advance(2 * DAY);
    let run = world.collect(DAY).await;
    assert_eq!(run.expired.len(), 1);
    let looker = world.host("looker").await;
    let seen = looker.collector().run(&look(&looker, DAY)).await.expect("a look");
    let objects = run.condemned.as_ref().map(|made| made.objects);
    assert_eq!(seen.finished.first().map(|would| would.objects), objects, "{seen:?}");
    assert!(seen.condemned.is_none(), "nothing is condemned twice: {seen:?}");
}

#[tokio::test]
async fn a_version_whose_age_the_store_does_not_tell_does_not_expire() {
    let world = World::new();
    let host = world.host("h").await;
    host.commit(tree(1).path()).await;
    host.commit(tree(2).path()).await;
    let actor = host.actor();
    host.catalog.set_default_ttl(&key(), Some(3600), &actor).await.expect("a default");
    // The commit of v0, which this host knows, is not listed.
    let commit = Key::Event(key(), 1).path();
    let bytes = world.backend.get(&commit).await.expect("it is there").bytes().await.expect("its bytes");
    world.backend.delete(&commit).await.expect("deleted");
    world.clock.advance(2 * HOUR);
    assert!(host.collect(DAY).await.expect("a collection").expired.is_empty());
    world.backend.put(&commit, bytes.into()).await.expect("put");
    assert!(host.collect(DAY).await.expect("a collection").expired.is_empty(), "it is as old as its event");
    world.clock.advance(2 * HOUR);
    assert_eq!(host.collect(DAY).await.expect("a collection").expired[0].versions, [version(0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_expire_by_the_stores_clock_and_what_is_in_use_never() {
    let world = World::new();
    let host = world.host("h").await;
    for n in 0..6 {
        host.commit(tree(n).path()).await;
        world.clock.advance(HOUR);
    }
    let (actor, v) = (host.actor(), |n| Selector::Version(version(n)));
    host.catalog.set_default_ttl(&key(), Some(3 * 3600 + 1800), &actor).await.expect("a default");
    host.catalog.set_ttl(&key(), &v(0), Some(NEVER_SECONDS), &actor).await.expect("ttl");
    host.set_alias("best", v(1), AliasPrecondition::Any).await.expect("set");
    let settings = Settings { inputs: vec!["proj/data:v2".into()], ..Settings::default() };
    host.commit_to("proj/made", tree(9).path(), settings).await;
    let living = || async {
        let state =
            world.host("reader").await.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
        state.versions().map(|record| record.version.0).collect::<Vec<_>>()
    };
    // v3 is 3 hours old.
    world.collect(DAY).await;
    assert_eq!(living().await, [0, 1, 2, 3, 4, 5]);
    world.clock.advance(HOUR);
    let report = world.collect(DAY).await;
    assert_eq!(report.expired.iter().map(|e| e.versions.clone()).collect::<Vec<_>>(), [vec![version(3)]]);
    assert_eq!(living().await, [0, 1, 2, 4, 5]);
    world.clock.advance(100 * DAY);
    world.collect(DAY).await;
    assert_eq!(living().await, [0, 1, 2, 5], "never, an alias, an input, the newest");
    let state = world.host("reader").await.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
    assert_eq!(state.deleted_version(version(3)).map(|d| d.cause), Some(DeletionCause::Expired));
    world.clock.advance(100 * DAY);
    world.collect(DAY).await;
    assert_eq!(judged(&world.backend).await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_this_host_has_open_stays_though_it_is_deleted() {
    let world = World::new();
    let host = world.host("h").await;
    let (a, b) = (tree(1), tree(2));
    host.commit(a.path()).await;
    host.commit(b.path()).await;
    let state = host.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
    let manifest = state.version(version(0)).expect("v0").manifest;
    host.rm(&[0]).await;
    let in_use = vec![InUseVersion { artifact: key(), manifest }];
    let collector = world.host("collector").await;
    let options = GcOptions { in_use, ..collector.options(Duration::ZERO) };
    let report = collector.collector().run(&options).await.expect("a collection");
    assert!(report.condemned.is_none(), "{report:?}");
    // It is read from the store to its last byte, by who finds it.
    let cold = world.host("cold").await;
    let view =
        artfs::repo::view::VersionView::open(&cold.context, &key(), manifest, "v0").await.expect("a version");
    view.check_tree().await.expect("it is whole");
    assert!(world.collect(Duration::ZERO).await.freed_bytes > 500_000, "closed, it goes");
    // One that is gone already is in nobody's way.
    let options = GcOptions {
        in_use: vec![InUseVersion { artifact: key(), manifest }],
        ..collector.options(Duration::ZERO)
    };
    world.host("again").await.collector().run(&options).await.expect("a collection");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_cannot_be_read_keeps_everything_from_being_collected() {
    let world = World::new();
    let host = world.host("h").await;
    host.commit(tree(1).path()).await;
    host.commit(tree(2).path()).await;
    host.rm(&[0]).await;
    let state = host.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
    let root = Key::Manifest(key(), state.latest().expect("v1").manifest);
    let good = host.store.get(&root).await.expect("a root");
    let before = world.names().await;
    for bad in [None, Some("not a root")] {
        host.store.delete(&root).await.expect("deleted");
        if let Some(bytes) = bad {
            host.store.put(&root, vec![bytes.into()]).await.expect("put");
        }
        let refused =
            world.host("collector").await.collect(Duration::ZERO).await.expect_err("it cannot be read");
        assert!(matches!(refused, GcError::Damaged { .. }), "{refused:?}");
        assert!(
            refused.to_string().contains("nothing was collected, because proj/data:v1 cannot be read"),
            "{refused}"
        );
    }
    host.store.put(&root, vec![good]).await.expect("put");
    // Nor does a log that is damaged, or an artifact that this program has no name for.
    let event = Key::Event(key(), 1);
    let good = host.store.get(&event).await.expect("an event");
    host.store.put(&event, vec!["{}".into()]).await.expect("put");
    let refused = world.host("collector").await.collect(Duration::ZERO).await.expect_err("a damaged log");
    assert!(matches!(refused, GcError::Catalog(CatalogError::Damaged { .. })), "{refused:?}");
    host.store.put(&event, vec![good]).await.expect("put");
    let foreign = object_store::path::Path::from("artifacts/proj/odd name/log/00000000000000000000");
    world.backend.put(&foreign, "x".into()).await.expect("put");
    let refused =
        world.host("collector").await.collect(Duration::ZERO).await.expect_err("an unknown artifact");
    assert!(
        matches!(&refused, GcError::Foreign { path } if path == "artifacts/proj/odd name"),
        "{refused:?}"
    );
    world.backend.delete(&foreign).await.expect("deleted");
    assert_eq!(world.names().await, before, "nothing was written or deleted");
    assert!(world.collect(Duration::ZERO).await.freed_bytes > 500_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_spares_what_its_commit_has_stored_so_far() {
    let world = World::new();
    let host = world.host("h").await;
    host.commit(tree(1).path()).await;
    host.store.put(&pack_number(1), vec!["of another commit, long dead".into()]).await.expect("put");
    world.clock.advance(2 * HOUR);
    host.store.put(&pack_number(2), vec!["of a commit at work".into()]).await.expect("put");
    world.clock.advance(100 * HOUR);
    // It has been at work for 101 hours.
    let lease = Key::Lease(TokenId::from_bytes([1; 16]));
    host.store.put(&lease, vec![Lease::new(101 * 3600).encode().into()]).await.expect("put");
    let report = world.collect(DAY).await;
    assert_eq!(report.condemned.map(|made| made.objects), Some(1), "just the one from before it began");
    // Nothing was heard of it for a day.
    world.clock.advance(DAY + HOUR);
    let report = world.collect(DAY).await;
    assert_eq!(report.condemned.map(|made| made.objects), Some(1));
    assert!(!world.names().await.contains(&lease.to_string()), "a dead lease is deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_that_newer_ones_replace_go() {
    let world = World::new();
    let host = world.host("h").await;
    host.commit(small_tree(b"x").path()).await;
    for n in 0..400u64 {
        let to = if n % 2 == 0 { "a" } else { "b" };
        host.catalog
            .set_tags(&key(), &Selector::Latest, &[to.to_owned()], &host.actor())
            .await
            .expect("a tag");
    }
    let checkpoints = || async {
        let names = world.names().await;
        names.into_iter().filter(|name| name.contains("/checkpoints/")).collect::<Vec<_>>()
    };
    let before = checkpoints().await;
    assert!(before.len() >= 4, "{before:?}");
    let report = world.collect(Duration::ZERO).await;
    let left = checkpoints().await;
    assert_eq!(left, before[..2], "the newest, and one more");
    assert_eq!(report.freed_objects as usize, before.len() - 2);
    let cold = world.host("cold").await;
    assert_eq!(cold.catalog.existing(&key(), Duration::ZERO).await.expect("it exists").seq(), 402);
    cold.catalog.verify_log(&key()).await.expect("a sound log");
}

// Crashes

/// A world with all kinds of garbage: a deleted version, a pack of which little is used, and leftovers.
async fn with_garbage() -> (World, TempDir) {
    let world = World::new();
    let host = world.host("h").await;
    let both = directory();
    fs::write(both.path().join("big.bin"), noise(1, 1, 300_000)).expect("a file");
    fs::write(both.path().join("small.bin"), noise(1, 2, 70_000)).expect("a file");
    host.commit(both.path()).await;
    // Its pack keeps the small file's chunk only.
    fs::write(both.path().join("big.bin"), noise(2, 1, 300_000)).expect("a file");
    host.commit(both.path()).await;
    host.rm(&[0]).await;
    host.store.put(&pack_number(1), vec!["left by a commit that died".into()]).await.expect("put");
    (world, both)
}

async fn check_clean(world: &World, tree: &Path, case: &str) {
    let versions = judged(&world.backend).await;
    assert_eq!(versions.len(), 1, "{case}");
    assert_same(&versions[0].tree, &tree_of(tree));
    assert_eq!(world.packs().await.len(), 2, "{case}: {:?}", world.packs().await);
    let again = world.collect(Duration::ZERO).await;
    assert_eq!((again.condemned, again.freed_objects), (None, 0), "{case}: nothing is left");
}

const FAULTS: [Fault; 5] = [
    Fault::ErrorBefore,
    Fault::ErrorAfter,
    Fault::AlreadyExistsWithoutEffect,
    Fault::DieBefore,
    Fault::DieAfter,
];

async fn calls_of_a_collection() -> Vec<Call> {
    let (world, _tree) = with_garbage().await;
    let faulty = FaultyStore::new(world.backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "collector").await;
    faulty.restart_count();
    let report = host.collect(Duration::ZERO).await.expect("a collection");
    let made = report.condemned.clone().expect("something was condemned");
    assert_eq!((made.repacked, report.freed_objects), (1, made.objects), "{report:?}");
    faulty.calls()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_collection_that_fails_or_dies_at_any_call_deletes_nothing_in_use_and_the_next_finishes_it() {
    let calls = calls_of_a_collection().await;
    let ops: BTreeSet<String> = calls.iter().map(|call| format!("{:?}", call.op)).collect();
    for op in ["Put", "Create", "Delete", "List", "Get", "GetRange"] {
        assert!(ops.contains(op), "{ops:?}");
    }
    let mut cases = tokio::task::JoinSet::new();
    for (n, fault) in (0..calls.len() as u64).flat_map(|n| FAULTS.map(|fault| (n, fault))) {
        let call = calls[n as usize].clone();
        cases.spawn(async move {
            let case = format!("{fault:?} at {call:?}");
            let (world, tree) = with_garbage().await;
            let faulty = FaultyStore::new(world.backend.clone());
            let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "collector").await;
            faulty.set_fault(move |call| if call.n == n { fault } else { Fault::None });
            let done = host.collect(Duration::ZERO).await;
            let died = matches!(fault, Fault::DieBefore | Fault::DieAfter);
            assert!(died || done.is_ok(), "{case}: one fault that passes is hidden: {done:?}");
            let versions = judged(&world.backend).await;
            assert_eq!(versions.len(), 1, "{case}");
            assert_same(&versions[0].tree, &tree_of(tree.path()));
            world
                .host("next")
                .await
                .collect(Duration::ZERO)
                .await
                .unwrap_or_else(|e| panic!("{case}, next: {e}"));
            // What one that died copied for nothing is found by the run after that.
            world.collect(Duration::ZERO).await;
            check_clean(&world, tree.path(), &case).await;
        });
        while cases.len() >= 16 {
            cases.join_next().await.expect("a case").expect("the case holds");
        }
    }
    while let Some(case) = cases.join_next().await {
        case.expect("the case holds");
    }
}

/// One collection sleeps at a call while others run from beginning to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_collections_at_once_never_delete_what_the_other_relies_on() {
    let calls = calls_of_a_collection().await.len() as u64;
    let mut cases = tokio::task::JoinSet::new();
    for n in 0..calls {
        cases.spawn(async move {
            let case = format!("asleep at call {n}");
            let (world, tree) = with_garbage().await;
            let faulty = FaultyStore::new(world.backend.clone());
            let sleeper = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "sleeper").await;
            faulty.set_fault(move |call| if call.n == n { Fault::Hold } else { Fault::None });
            let run = sleeper.collect(Duration::ZERO);
            tokio::pin!(run);
            if let Some(done) = faulty.until_held(run.as_mut()).await {
                panic!("{case}: {done:?}");
            }
            world.collect(Duration::ZERO).await;
            let writer = world.host("writer").await;
            writer.commit(tree.path()).await;
            fs::write(tree.path().join("more"), noise(7, n, 5000)).expect("a file");
            writer.commit(tree.path()).await;
            world.collect(Duration::ZERO).await;
            faulty.release();
            run.await.unwrap_or_else(|e| panic!("{case}: {e}"));
            assert_same(&judged(&world.backend).await.pop().expect("a version").tree, &tree_of(tree.path()));
            world.collect(Duration::ZERO).await;
            assert_same(&judged(&world.backend).await.pop().expect("a version").tree, &tree_of(tree.path()));
        });
        while cases.len() >= 8 {
            cases.join_next().await.expect("a case").expect("the case holds");
        }
    }
    while let Some(case) = cases.join_next().await {
        case.expect("the case holds");
    }
}

/// A writer sleeps at a call through two collections that delete everything it relies on, as far as nothing leads to
/// it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_writer_that_sleeps_through_collections_at_any_call_succeeds() {
    let (old, new) = (tree(1), tree(2));
    for n in 0.. {
        let case = format!("asleep at call {n}");
        let world = World::new();
        let first = world.host("first").await;
        // What the writer finds in its index is garbage when it wakes.
        first.commit(new.path()).await;
        let faulty = FaultyStore::new(world.backend.clone());
        let writer = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "writer").await;
        writer.commit(new.path()).await;
        first.commit(old.path()).await;
        faulty.set_fault(move |call| if call.n == n { Fault::Hold } else { Fault::None });
        fs::write(new.path().join("more"), noise(9, n, 4000)).expect("a file");
        let request = writer.request(Settings { message: Some("why".into()), ..Settings::default() });
        let commit = writer.commit_as(new.path(), &request);
        tokio::pin!(commit);
        if let Some(done) = faulty.until_held(commit.as_mut()).await {
            done.unwrap_or_else(|e| panic!("{case}: {e}"));
            assert!(n > 4, "a commit makes several calls");
            break;
        }
        first.rm(&[0]).await;
        world.collect(Duration::ZERO).await;
        world.collect(Duration::ZERO).await;
        faulty.release();
        let done = commit.await.unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!((done.version, done.created), (version(2), true), "{case}");
        let versions = judged(&world.backend).await;
        assert_same(&versions[0].tree, &tree_of(old.path()));
        assert_same(&versions[1].tree, &tree_of(new.path()));
        world.collect(Duration::ZERO).await;
        assert_same(&judged(&world.backend).await[1].tree, &tree_of(new.path()));
    }
}

/// Writers that share content, delete each other's versions, and collections without any grace, all at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn collections_beside_writers_that_share_and_delete_content_lose_nothing() {
    const WRITERS: u64 = 4;
    const ROUNDS: u64 = 6;
    let seed = seed();
    let world = Arc::new(World::new());
    world.host("first").await.commit(small_tree(b"first").path()).await;
    let mut tasks = tokio::task::JoinSet::new();
    for w in 0..WRITERS {
        let world = world.clone();
        tasks.spawn(async move {
            let host = world.host(&format!("writer{w}")).await;
            for round in 0..ROUNDS {
                // A few contents that come again and again, in new company each time.
                let tree = directory();
                for part in 0..3 {
                    let which = u64::from(noise(seed, w * 1000 + round * 10 + part, 1)[0] % 5);
                    fs::write(tree.path().join(format!("part{part}.bin")), noise(seed, which, 90_000))
                        .expect("a file");
                }
                fs::write(tree.path().join("own"), format!("{w} {round}")).expect("a file");
                let made = host.commit(tree.path()).await;
                // All but the last of each writer are deleted again.
                if round + 1 < ROUNDS {
                    let versions = [made.version].into();
                    let (inputs, actor) = (Inputs::default(), host.actor());
                    host.catalog
                        .delete_versions(&key(), &versions, InUse::Refuse, &inputs, &actor)
                        .await
                        .expect("deleted");
                }
            }
        });
    }
    let mut runs = 0;
    loop {
        match world.host("collector").await.collect(Duration::ZERO).await {
            Ok(_) => runs += 1,
            Err(GcError::Damaged { version, source }) => panic!("{version}: {source}, seed {seed}"),
            Err(e) => panic!("{e}, seed {seed}"),
        }
        while let Some(done) = tasks.try_join_next() {
            done.expect("a writer does not panic");
        }
        if tasks.is_empty() {
            break;
        }
    }
    assert!(runs >= 2, "{runs} collections");
    assert_eq!(judged(&world.backend).await.len() as u64, WRITERS + 1, "seed {seed}");
    world.collect(Duration::ZERO).await;
    assert_eq!(judged(&world.backend).await.len() as u64, WRITERS + 1, "seed {seed}");
}

// Rewritten packs

#[tokio::test(flavor = "multi_thread")]
async fn packs_of_which_little_is_used_are_rewritten_again_and_again_and_read_cold() {
    let world = World::new();
    let host = world.host("h").await;
    // One pack with ten files; each version loses most of what is left.
    let all = directory();
    for n in 0..10 {
        fs::write(all.path().join(format!("f{n}.bin")), noise(3, n, 100_000)).expect("a file");
    }
    host.commit(all.path()).await;
    for keep in [4, 1] {
        for n in keep..10 {
            let _ = fs::remove_file(all.path().join(format!("f{n}.bin")));
        }
        host.commit(all.path()).await;
    }
    let mut moved = 0;
    for last in [0, 1] {
        host.rm(&[last]).await;
        let report = world.collect(Duration::ZERO).await;
        let made = report.condemned.clone().expect("something was condemned");
        moved += made.repacked;
        assert_eq!(report.freed_objects, made.objects, "{report:?}");
        let versions = judged(&world.backend).await;
        assert_same(&versions.last().expect("a version").tree, &tree_of(all.path()));
        // All of it is read by the reader proper, too, and nothing of it is local.
        let cold = world.host("cold").await;
        let state = cold.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
        let latest = state.latest().expect("a version");
        let view = artfs::repo::view::VersionView::open(&cold.context, &key(), latest.manifest, "v")
            .await
            .expect("a view");
        let progress = Arc::new(artfs::repo::verify::VerifyProgress::default());
        let findings =
            artfs::repo::verify::stored(&view, latest, artfs::repo::verify::References::Asked, &progress)
                .await
                .expect("it can be read");
        assert_eq!(findings, []);
    }
    assert!(moved >= 2, "{moved} packs were rewritten");
    let bytes: u64 = stored_bytes(&world).await;
    assert!(bytes < 150_000, "{bytes} bytes for 100,000");
    // Nothing leads to it any more: the tables go, too.
    host.commit(small_tree(b"other").path()).await;
    host.rm(&[2]).await;
    world.collect(Duration::ZERO).await;
    world.collect(Duration::ZERO).await;
    let left: Vec<String> =
        world.names().await.into_iter().filter(|name| name.starts_with("packs/")).collect();
    assert_eq!(left, [""; 0]);
}

async fn stored_bytes(world: &World) -> u64 {
    let packs = object_store::path::Path::from("packs");
    let sizes = world.backend.list(Some(&packs)).map_ok(|meta| meta.size);
    sizes.try_collect::<Vec<_>>().await.expect("a listing").iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_with_a_damaged_chunk_is_not_rewritten_and_nothing_of_it_is_lost() {
    let (world, tree) = with_garbage().await;
    let host = world.host("h").await;
    // The pack of which little is used: the one with the small file's chunk of v0.
    let mut damaged = None;
    for name in world.packs().await {
        let path = object_store::path::Path::from(name.as_str());
        let bytes = world.backend.get(&path).await.expect("a pack").bytes().await.expect("bytes");
        if (360_000..420_000).contains(&bytes.len()) {
            damaged = Some((path, bytes));
            break;
        }
    }
    let (path, good) = damaged.expect("it is there");
    let mut bad = good.to_vec();
    // The small file stands behind the big one.
    bad[320_000] ^= 1;
    world.backend.put(&path, bad.into()).await.expect("put");
    let report = world.collect(Duration::ZERO).await;
    assert_eq!(report.condemned.expect("the leftovers were condemned").repacked, 0);
    world.backend.put(&path, good.into()).await.expect("put");
    assert_same(&judged(&world.backend).await[0].tree, &tree_of(tree.path()));
    assert_eq!(world.collect(Duration::ZERO).await.condemned.expect("now it is rewritten").repacked, 1);
    assert_same(&judged(&world.backend).await[0].tree, &tree_of(tree.path()));
    drop(host);
}

/// Whoever can write to the store can write a table of moves.
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_whose_table_of_moves_leads_to_other_bytes_stays() {
    for case in ["into another pack", "behind its end", "into itself", "to a pack that is not there"] {
        let (world, tree) = with_garbage().await;
        let mut sparse = None;
        let mut other = None;
        for name in world.packs().await {
            let path = object_store::path::Path::from(name.as_str());
            let bytes = world.backend.get(&path).await.expect("a pack").bytes().await.expect("bytes");
            let Some(Key::Pack(id)) = Key::parse(&name) else { panic!("{name}") };
            match bytes.len() {
                360_000..420_000 => sparse = Some((id, bytes)),
                // That of the new big file.
                300_000..360_000 => other = Some((id, bytes.len() as u64)),
                _ => {}
            }
        }
        let ((sparse, bytes), (other, other_bytes)) = sparse.zip(other).expect("both are there");
        let footer = bytes.len() - PACK_FOOTER_BYTES;
        let table_bytes = decode_footer(&bytes[footer..]).expect("a footer");
        let rows = decode_table(&sparse, &bytes[footer - table_bytes..footer]).expect("a table");
        let place = |row: &PackRow| {
            let (pack, offset) = match case {
                "into another pack" => (other, 0),
                "behind its end" => (other, other_bytes),
                "into itself" => (sparse, row.offset),
                _ => (PackId::of(b"nowhere"), row.offset),
            };
            ChunkLocation { pack, offset, stored_len: row.stored_len, codec: row.codec }
        };
        let moves = rows.iter().map(|row| (row.id, place(row))).collect();
        let host = world.host("h").await;
        host.store.put(&Key::Moves(sparse), vec![encode_moves(&sparse, &moves).into()]).await.expect("put");
        for _ in 0..3 {
            world.collect(Duration::ZERO).await;
            let packs = world.packs().await;
            assert!(packs.contains(&Key::Pack(sparse).to_string()), "{case}: {packs:?}");
            assert_same(&judged(&world.backend).await[0].tree, &tree_of(tree.path()));
        }
    }
}

/// A commit that takes up a chunk of a pack while it is being rewritten keeps the pack.
#[tokio::test(flavor = "multi_thread")]
async fn a_rewritten_pack_into_which_a_late_commit_refers_stays() {
    let (world, tree) = with_garbage().await;
    let late = world.host("late").await;
    late.commit(tree.path()).await;
    let faulty = FaultyStore::new(world.backend.clone());
    let collector = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "collector").await;
    // Asleep with the record written and the fence on its way.
    faulty.set_fault(|call| match (call.op, call.path.contains("/log/")) {
        (Op::Create, true) => Fault::Hold,
        _ => Fault::None,
    });
    let run = collector.collect(Duration::ZERO);
    tokio::pin!(run);
    if let Some(done) = faulty.until_held(run.as_mut()).await {
        panic!("{done:?}");
    }
    // The big file of the deleted version is taken up again by a host that has it in its index, and has heard of no
    // collection yet.
    fs::write(tree.path().join("big.bin"), noise(1, 1, 300_000)).expect("a file");
    let state = late.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
    let deleted = state.deleted_version(version(0)).expect("v0").record.clone();
    let view = artfs::repo::view::VersionView::open(&late.context, &key(), deleted.manifest, "v0")
        .await
        .expect("a view");
    let mut chunks = vec![];
    for (ordinal, entry) in view.entries(0).next_batch().await.expect("entries") {
        if let artfs::format::entry::EntryBody::File(file) = &entry.body {
            let open = view.open_file(ordinal, &entry.path, file).await.expect("a file");
            chunks.extend(open.chunks().await.expect("its chunks"));
        }
    }
    late.committer.index().add_chunks(&chunks);
    late.commit(tree.path()).await;
    faulty.release();
    let report = run.await.expect("a collection");
    assert!(report.finished[0].spared >= 1, "{report:?}");
    let versions = judged(&world.backend).await;
    assert_same(&versions.last().expect("a version").tree, &tree_of(tree.path()));
    world.collect(Duration::ZERO).await;
    assert_same(&judged(&world.backend).await.last().expect("a version").tree, &tree_of(tree.path()));
}

/// The log and the manifests of an artifact with so many versions of one inline file each.
async fn many_versions(host: &Host, count: u64) {
    let mut encoder = artfs::format::codec::Encoder::new().expect("memory");
    let mut prev = None;
    let id = |n: u64| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        bytes
    };
    for seq in 0..=count {
        let body = match seq.checked_sub(1) {
            None => EventBody::Create,
            Some(number) => {
                let content = number.to_le_bytes();
                let file = FileBody {
                    size: 8,
                    hash: FileHash::of(&content),
                    sha256: None,
                    hole_bytes: 0,
                    rule: ChunkRule::Binary,
                    content: FileBytes::Inline(content.into()),
                };
                let path = artfs::format::path::TreePath::new(*b"f").expect("a path");
                let entry =
                    Entry { path, executable: false, mtime: Mtime::default(), body: EntryBody::File(file) };
                let mut listing = ListingHasher::default();
                listing.push(&entry);
                let top = Block::parse(encode_leaf(&[entry]).into()).expect("a leaf");
                let digest = listing.digest();
                let root = Root { digest, entries: 1, files: 1, bytes: 8, depth: 0, top };
                let (manifest, bytes) = root.encode(id(number), &mut encoder);
                host.store.put(&Key::Manifest(key(), manifest), vec![bytes.into()]).await.expect("put");
                EventBody::Commit(Commit {
                    version: version(number),
                    digest,
                    manifest,
                    entries: 1,
                    files: 1,
                    bytes: 8,
                    stored_bytes: 100,
                    root: None,
                    settings: CommitSettings::default(),
                })
            }
        };
        let event = Event {
            store: host.store.id(),
            project: key().project,
            name: key().name,
            artifact: ArtifactId::from_bytes([1; 16]),
            seq,
            prev,
            id: EventId::from_bytes(id(seq)),
            time: Timestamp::from_unix_millis(0),
            actor: "ann".into(),
            host: "h".into(),
            body,
            checkpoint: None,
        };
        let bytes = event.encode();
        prev = Some(EventHash::of(&bytes));
        host.store.put(&Key::Event(key(), seq), vec![bytes.into()]).await.expect("put");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_small_versions_cost_a_request_each_and_the_second_time_almost_none() {
    const VERSIONS: u64 = 10_000;
    let world = World::new();
    let writer = world.host("writer").await;
    many_versions(&writer, VERSIONS).await;
    let host = world.host("collector").await;
    host.catalog.existing(&key(), Duration::ZERO).await.expect("it exists");
    for n in 0..500 {
        host.store.put(&pack_number(n), vec!["rubbish".into()]).await.expect("put");
    }
    let before = host.store.counts();
    let report = host.collect(Duration::ZERO).await.expect("a collection");
    assert_eq!(report.freed_objects, 500);
    let after = host.store.counts();
    assert!(after.get - before.get <= VERSIONS + 20, "{} reads", after.get - before.get);
    assert_eq!(after.delete - before.delete, 500 + 1);
    assert!(after.list - before.list <= 20, "{} listings", after.list - before.list);
    assert!(after.put + after.create - before.put - before.create <= 6);
    host.rm(&(0..VERSIONS - 1).collect::<Vec<_>>()).await;
    let before = host.store.counts();
    let report = host.collect(Duration::ZERO).await.expect("a collection");
    assert_eq!(report.freed_objects, VERSIONS - 1);
    let after = host.store.counts();
    assert!(after.get - before.get <= 20, "{} reads: manifests are in the cache", after.get - before.get);
    assert_eq!(judged(&world.backend).await.len(), 1);
}
