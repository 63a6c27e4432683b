//! Small stores of format 1, checked in byte for byte under `tests/golden`: today's program reads them, and
//! writes the same.
//!
//! The writer's clock, random bytes and times of modification are fixed, so the same calls give the same objects.
//! When a change of the writer is meant (never one that today's reader of format 1 could not read), the files are
//! made anew with `ARTFS_GOLDEN=write cargo test --test protocol golden` and the difference is reviewed. An upgrade
//! of zstd may change how packs and roots are compressed; then the test of the reader must have passed with the old
//! files first.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use artfs::format::collection::PackFate;
use artfs::format::entry::Mtime;
use artfs::format::event::{EventBody, NEVER_SECONDS};
use artfs::format::id::Digest;
use artfs::format::name::{ArtifactKey, Selector, VersionNumber};
use artfs::format::relocation::Moves;
use artfs::format::run::{Run, VersionRead};
use artfs::repo::catalog::{Actor, AliasPrecondition, Catalog, InUse, Inputs};
use artfs::repo::commit::{
    ChunkIndex, CommitProgress, Committed, Committer, LocalTree, NewVersion, Settings, TreeItem, TreeSource,
    TreeVisitor,
};
use artfs::repo::gc::{Collector, GcOptions, Mode};
use artfs::repo::tombstones::Condemned;
use artfs::store::{Key, OnMissing, Store};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;

use crate::read_context;
use crate::support::environment::{FixedEnvironment, noise};
use crate::support::faults::{FaultyStore, Op};
use crate::support::read_back::{Judge, Kind, Node, Tree, assert_same, tree_of};

const ARTIFACT: &str = "gold/mixed";
/// One with a log that is long enough for a checkpoint.
const LONG: &str = "gold/long";
const COLLECTED: &str = "gold/collected";
pub const MTIME: Mtime = Mtime { seconds: 1_750_000_000, nanos: 123_456_789 };
const LINEAGE: &str = "gold/lineage";

/// The folder of a golden store: `v1`; `v1-collected`, which garbage was collected from; `v1-lineage`, with runs.
fn golden_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The content of v0: every kind of entry, every form of content, more than one level of manifest blocks.
fn first_tree(root: &Path) {
    let write = |name: &str, content: &[u8]| fs::write(root.join(name), content).expect("a file");
    write("empty", b"");
    write("inline.txt", b"a tiny file\n");
    write("noise.bin", &noise(100, 1, 10_000));
    let table: String = (0..9_000).map(|i| format!("row {i},{}\n", i % 97)).collect();
    write("table.csv", table.as_bytes());
    write("zeros.bin", &vec![0; 3 << 20]);
    write("run.sh", b"#!/bin/sh\necho hello\n");
    fs::set_permissions(root.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("chmod");
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"odd \xff%\n")), b"odd").expect("a file");
    symlink("inline.txt", root.join("link")).expect("a link");
    fs::create_dir_all(root.join("empty directory")).expect("a directory");
    fs::create_dir(root.join("many")).expect("a directory");
    for f in 0..1500 {
        write(&format!("many/{f:04}"), b"");
    }
}

/// v1: one file changed, one added, one removed.
fn second_tree(root: &Path) {
    fs::write(root.join("inline.txt"), "changed\n").expect("a file");
    fs::write(root.join("many/0700x"), "new").expect("a file");
    fs::remove_file(root.join("empty")).expect("a removal");
}

struct Writer {
    catalog: Arc<Catalog>,
    committer: Committer,
    key: ArtifactKey,
}

impl Writer {
    fn actor(&self) -> Actor {
        Actor { user: "ann".into(), host: "golden-host".into() }
    }

    async fn commit(&self, root: &Path, origin: u8, settings: Settings) -> Committed {
        let request = NewVersion {
            artifact: self.key.clone(),
            origin: [origin; 16],
            actor: self.actor(),
            settings,
            demanded: None,
        };
        let tree = LocalTree::new(&[root.to_owned()]).expect("the tree is there");
        let walked =
            move |visit: TreeVisitor<'_>| tree.walk(&mut |item| visit(TreeItem { mtime: MTIME, ..item }));
        let done =
            self.committer.commit(&request, Arc::new(CommitProgress::default()), walked, |_| Ok(())).await;
        done.expect("the commit succeeds")
    }
}

/// Writes the golden store with fixed time and randomness.
async fn write_store(backend: Arc<dyn ObjectStore>) {
    let environment = FixedEnvironment::shared(1);
    let store = Store::open(backend, "golden", OnMissing::Create, environment).await.expect("it opens");
    let store = Arc::new(store);
    let catalog = Arc::new(Catalog::new(store.clone(), None));
    let index = Arc::new(ChunkIndex::open(None, store.id()));
    let (_cache, context) = read_context(&store);
    let committer = Committer::new(catalog.clone(), context, index);
    let writer = Writer { catalog, committer, key: ARTIFACT.parse().expect("a name") };
    let (catalog, key, actor) = (&writer.catalog, &writer.key, &writer.actor());

    let tree = tempfile::tempdir().expect("a temporary directory");
    first_tree(tree.path());
    let alias = |name: &str| name.parse::<artfs::format::name::AliasName>().expect("an alias");
    let settings = Settings {
        message: Some("the first".into()),
        artifact_type: Some("dataset".into()),
        aliases: vec![alias("best")],
        tags: vec!["golden".into()],
        meta: [("f1".to_owned(), json!(0.89)), ("note".to_owned(), json!({"a": [1, null, "x"]}))].into(),
        ttl_seconds: Some(2_592_000),
        inputs: vec!["gold/raw:v3".into()],
        ..Settings::default()
    };
    assert_eq!(writer.commit(tree.path(), 1, settings).await.version, VersionNumber(0));
    let again = Settings { tags: vec!["twice".into()], message: Some("again".into()), ..Settings::default() };
    assert!(!writer.commit(tree.path(), 2, again).await.created);
    second_tree(tree.path());
    assert_eq!(writer.commit(tree.path(), 3, Settings::default()).await.version, VersionNumber(1));

    let (any, v1) = (AliasPrecondition::Any, Selector::Version(VersionNumber(1)));
    catalog.set_alias(key, &alias("best"), &v1, any, actor).await.expect("set");
    catalog.set_alias(key, &alias("gone"), &v1, any, actor).await.expect("set");
    catalog.remove_alias(key, &alias("gone"), any, actor).await.expect("removed");
    catalog.change_tags(key, &v1, &["a".into(), "b".into()], &[], actor).await.expect("tags");
    catalog.change_tags(key, &v1, &[], &["a".into()], actor).await.expect("tags");
    let meta = [("lr".to_owned(), json!(1e-4))].into();
    catalog.change_meta(key, &v1, &meta, &[], actor).await.expect("meta");
    catalog.set_ttl(key, &v1, Some(60), actor).await.expect("ttl");
    catalog.set_message(key, &v1, "a better message", actor).await.expect("a message");

    let writer = Writer { key: LONG.parse().expect("a name"), ..writer };
    let (catalog, key) = (&writer.catalog, &writer.key);
    let tree = tempfile::tempdir().expect("a temporary directory");
    long_tree(tree.path(), "one");
    let settings = Settings {
        message: Some("the first".into()),
        artifact_type: Some("model".into()),
        tags: vec!["golden".into()],
        meta: [("loss".to_owned(), json!({"train": 0.1, "test": [1e-300, -2, "x"]}))].into(),
        ttl_seconds: Some(60),
        inputs: vec!["gold/mixed:v0".into()],
        ..Settings::default()
    };
    writer.commit(tree.path(), 4, settings).await;
    writer.commit(tree.path(), 5, Settings { message: Some("again".into()), ..Settings::default() }).await;
    long_tree(tree.path(), "two");
    writer.commit(tree.path(), 6, Settings::default()).await;
    let v0 = Selector::Version(VersionNumber(0));
    catalog.set_message(key, &v0, "a better message", actor).await.expect("a message");
    for i in 0..31 {
        catalog.set_alias(key, &alias(&format!("a{}", i % 7)), &v0, any, actor).await.expect("set");
        catalog.set_alias(key, &alias(&format!("a{}", i % 7)), &v1, any, actor).await.expect("set");
    }
}

fn long_tree(root: &Path, content: &str) {
    fs::write(root.join("file"), content).expect("a file");
}

fn collected_tree(root: &Path, number: u64) {
    fs::write(root.join("big.bin"), noise(200, number, 3_000)).expect("a file");
    fs::write(root.join("small.bin"), noise(200, 0, 700)).expect("a file");
}

/// Writes a store from which a version, a pack that nothing led to and most of another pack were collected.
async fn write_collected_store(backend: Arc<dyn ObjectStore>) {
    let environment = FixedEnvironment::shared(3);
    let store = Store::open(backend, "golden", OnMissing::Create, environment).await.expect("it opens");
    let store = Arc::new(store);
    let catalog = Arc::new(Catalog::new(store.clone(), None));
    let index = Arc::new(ChunkIndex::open(None, store.id()));
    let (cache, context) = read_context(&store);
    let committer = Committer::new(catalog.clone(), context.clone(), index);
    let writer = Writer { catalog, committer, key: COLLECTED.parse().expect("a name") };
    let (catalog, key, actor) = (&writer.catalog, &writer.key, &writer.actor());
    let tree = tempfile::tempdir().expect("a temporary directory");
    collected_tree(tree.path(), 1);
    let settings = Settings { message: Some("goes with it".into()), ..Settings::default() };
    writer.commit(tree.path(), 1, settings).await;
    catalog.set_default_ttl(key, Some(2_592_000), actor).await.expect("a default");
    catalog.set_ttl(key, &Selector::Latest, Some(NEVER_SECONDS), actor).await.expect("ttl");
    collected_tree(tree.path(), 2);
    writer.commit(tree.path(), 2, Settings::default()).await;
    let (versions, inputs) = ([VersionNumber(0)].into(), Inputs::default());
    catalog.delete_versions(key, &versions, InUse::Refuse, &inputs, actor).await.expect("deleted");
    let left = Key::Pack(artfs::format::id::PackId::of(b"left by a commit that died"));
    store.put(&left, vec!["x".into()]).await.expect("put");
    let condemned = Condemned::open(None, store.clone());
    let collector = Collector::new(catalog.clone(), context, condemned, cache.path());
    let options =
        GcOptions { mode: Mode::Collect, grace: Duration::ZERO, in_use: vec![], actor: actor.clone() };
    let report = collector.run(&options).await.expect("a collection");
    assert_eq!(report.condemned.map(|made| made.repacked), Some(1));
}

/// Writes a store with a version that a run made of others, long enough for a checkpoint that tells of it, and with a
/// use of it.
async fn write_lineage_store(backend: Arc<dyn ObjectStore>) {
    let environment = FixedEnvironment::shared(4);
    let store = Store::open(backend, "golden", OnMissing::Create, environment).await.expect("it opens");
    let store = Arc::new(store);
    let catalog = Arc::new(Catalog::new(store.clone(), None));
    let index = Arc::new(ChunkIndex::open(None, store.id()));
    let (_cache, context) = read_context(&store);
    let committer = Committer::new(catalog.clone(), context, index);
    let writer = Writer { catalog, committer, key: LINEAGE.parse().expect("a name") };
    let (catalog, key, actor) = (&writer.catalog, &writer.key, &writer.actor());
    let tree = tempfile::tempdir().expect("a temporary directory");
    long_tree(tree.path(), "one");
    let settings = Settings {
        inputs: vec!["gold/named:v1".into()],
        run: Some(Box::new(golden_run())),
        reads: vec![golden_read(3), golden_read(4)],
        more_reads: 7,
        ..Settings::default()
    };
    writer.commit(tree.path(), 1, settings).await;
    // Another run that made the same of something else.
    let again = Settings { reads: vec![golden_read(4), golden_read(5)], ..Settings::default() };
    assert!(!writer.commit(tree.path(), 2, again).await.created);
    long_tree(tree.path(), "two");
    writer.commit(tree.path(), 3, Settings::default()).await;
    let name: artfs::format::name::AliasName = "a".parse().expect("an alias");
    for i in 0..62 {
        let version = Selector::Version(VersionNumber(i % 2));
        catalog.set_alias(key, &name, &version, AliasPrecondition::Any, actor).await.expect("set");
    }
    artfs::repo::lineage::uses::publish(&store, &golden_run(), &[golden_read(3)]).await.expect("told");
}

fn golden_run() -> Run {
    let members = json!({
        "id": "slurm-77", "source": "job", "name": "nightly", "job_type": "train", "group": "g", "tags": ["t"],
        "command": ["python3", "train.py", "--lr", "0.1"], "directory": "/work", "host": "gpu7", "user": "ann",
        "git": {"commit": "c".repeat(40), "branch": "main", "dirty": true, "remote": "https://example.org/x"},
        "container": "d".repeat(64), "started": "2026-01-01T00:00:00.000Z", "ended": "2026-01-01T00:01:00.000Z",
        "exit_status": 0, "environment": {"RANK": "3"},
        "python": {"executable": "/usr/bin/python3", "prefix": "/venv", "packages": {"numpy": "1.26.4"}},
    });
    serde_json::from_value(members).expect("a run")
}

fn golden_read(version: u64) -> VersionRead {
    VersionRead {
        project: "gold".parse().expect("a name"),
        name: "read".parse().expect("a name"),
        version: VersionNumber(version),
        digest: Digest::of(&version.to_le_bytes()),
        files: 2,
        bytes: 1 << 33,
    }
}

pub async fn objects(backend: &dyn ObjectStore) -> BTreeMap<String, Vec<u8>> {
    let names: Vec<_> =
        backend.list(None).map_ok(|meta| meta.location).try_collect().await.expect("a listing");
    let mut objects = BTreeMap::new();
    for name in names {
        let bytes = backend.get(&name).await.expect("an object").bytes().await.expect("its bytes");
        objects.insert(name.to_string(), bytes.to_vec());
    }
    objects
}

/// The golden objects, copied to memory so that no test can change them.
pub async fn golden(name: &str) -> Arc<dyn ObjectStore> {
    let folder = golden_folder(name);
    let files = object_store::local::LocalFileSystem::new_with_prefix(&folder);
    let files = files.unwrap_or_else(|e| panic!("{} is there: {e}", folder.display()));
    let memory = InMemory::new();
    for (name, bytes) in objects(&files).await {
        memory.put(&name.into(), bytes.into()).await.expect("put");
    }
    Arc::new(memory)
}

/// Compares what was written with the golden store of this name, or makes that anew.
pub async fn compare(name: &str, written: &BTreeMap<String, Vec<u8>>) {
    match std::env::var("ARTFS_GOLDEN").as_deref() {
        Ok("write") => {
            let folder = golden_folder(name);
            if folder.exists() {
                fs::remove_dir_all(&folder).expect("the old files go");
            }
            for (name, bytes) in written {
                let path = folder.join(name);
                fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                fs::write(path, bytes).expect("a file");
            }
        }
        Ok(other) => panic!("ARTFS_GOLDEN={other:?} is not `write`"),
        Err(_) => {
            let golden = objects(&*golden(name).await).await;
            let names = |objects: &BTreeMap<String, Vec<u8>>| objects.keys().cloned().collect::<Vec<_>>();
            for (name, bytes) in written {
                if !name.starts_with("packs/") {
                    let shown =
                        |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
                    assert_eq!(golden.get(name).map(|b| shown(b)), Some(shown(bytes)), "{name}");
                }
                assert!(golden.get(name) == Some(bytes), "{name} differs");
            }
            assert_eq!(names(written), names(&golden));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn todays_writer_writes_format_1_byte_for_byte() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    write_store(backend.clone()).await;
    compare("v1", &objects(&*backend).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn todays_collector_writes_format_1_byte_for_byte() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    write_collected_store(backend.clone()).await;
    compare("v1-collected", &objects(&*backend).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn todays_lineage_is_written_in_format_1_byte_for_byte() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    write_lineage_store(backend.clone()).await;
    compare("v1-lineage", &objects(&*backend).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_of_format_1_is_read_as_it_was_written() {
    let backend = golden("v1-lineage").await;
    let store = Store::open(backend, "golden", OnMissing::Fail, FixedEnvironment::shared(2)).await;
    let (catalog, key) =
        (Catalog::new(Arc::new(store.expect("it is a store")), None), LINEAGE.parse().expect("a name"));
    let folded = catalog.verify_log(&key).await.expect("a sound log with a sound checkpoint");
    assert_eq!(folded.vouched().map(|checkpoint| checkpoint.seq), Some(63));
    let read = catalog.state(&key, Duration::ZERO).await.expect("it is read").expect("it exists");
    let first = read.version(VersionNumber(0)).expect("v0");
    assert_eq!(first.reads, [golden_read(3), golden_read(4), golden_read(5)]);
    assert_eq!((first.more_reads, first.inputs.len()), (7, 1));
    let record = catalog.record(&read, first).await.expect("a record");
    assert_eq!(record.run, Some(serde_json::to_value(golden_run()).expect("plain data")));
    let uses =
        artfs::repo::lineage::uses::of_version(catalog.store(), &golden_read(3).artifact(), VersionNumber(3))
            .await;
    let uses = uses.expect("a listing");
    assert_eq!((uses.len(), &uses[0].run, &uses[0].read), (1, &golden_run(), &golden_read(3)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collected_store_of_format_1_is_read_as_it_was_written() {
    let backend = golden("v1-collected").await;
    let versions = Judge::new(backend.clone(), COLLECTED).versions().await;
    let tree = tempfile::tempdir().expect("a temporary directory");
    collected_tree(tree.path(), 2);
    let expected: Tree =
        tree_of(tree.path()).into_iter().map(|(path, node)| (path, Node { mtime: MTIME, ..node })).collect();
    assert_eq!(versions.len(), 1);
    assert_same(&versions[0].tree, &expected);
    let log = Judge::new(backend.clone(), COLLECTED).log().await;
    let kinds: Vec<&str> = log.iter().map(|event| event.body.kind()).collect();
    assert_eq!(kinds, ["create", "commit", "policy", "ttl", "commit", "delete", "fence"]);
    let store = Store::open(backend, "golden", OnMissing::Fail, FixedEnvironment::shared(2)).await;
    let store = store.expect("it is a store");
    let record = artfs::repo::tombstones::read_record(&store, 1).await.expect("a record");
    let fates: Vec<PackFate> = record.packs.iter().map(|(_, fate)| *fate).collect();
    assert_eq!(fates, [PackFate::Gone, PackFate::Moved]);
    assert_eq!((record.len(), record.artifacts.len()), (4, 1), "a manifest and a message, too");
    let (moved, _) = record.packs[1];
    let table = store.get(&Key::Moves(moved)).await.expect("a table");
    let table = Moves::decode(&moved, &table).expect("a table of moves");
    assert_eq!((table.len(), table.targets().len()), (1, 1));
    let end = store.get(&Key::CollectionEnd(1)).await.expect("an end");
    assert_eq!(end, r#"{"format":1,"epoch":1,"deleted":4,"spared":0}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn format_1_is_read_as_it_was_written() {
    let backend = golden("v1").await;
    let versions = Judge::new(backend.clone(), ARTIFACT).versions().await;
    let tree = tempfile::tempdir().expect("a temporary directory");
    let expected = |root: &Path| -> Tree {
        tree_of(root).into_iter().map(|(path, node)| (path, Node { mtime: MTIME, ..node })).collect()
    };
    first_tree(tree.path());
    assert_same(&versions[0].tree, &expected(tree.path()));
    second_tree(tree.path());
    assert_same(&versions[1].tree, &expected(tree.path()));
    assert_eq!(versions.len(), 2);
    // What the store holds is worth its bytes: blocks above blocks, lists of chunks, chunks of zeros.
    assert_eq!(versions[0].depth, 1);
    assert!(matches!(versions[0].chunks[&b"table.csv"[..]], Some((1, 5..))));
    assert_eq!(versions[0].chunks[&b"zeros.bin"[..]], Some((0, 3)));
    assert!(matches!(&versions[0].tree[&b"run.sh"[..]].kind, Kind::File { executable: true, .. }));
    assert_eq!(
        versions.iter().map(|version| version.commit.digest.to_string()).collect::<Vec<_>>(),
        [
            "5df7bbac3e6a03404920d135f263dfa8ce99418a1bd3e76bc4c5c82bf9e51d62",
            "31abb665b3ed366e75bae504b9a900f176bcfa48464fb7acb268f20eb65fe25f",
        ]
    );

    let store = Store::open(backend.clone(), "golden", OnMissing::Fail, FixedEnvironment::shared(2)).await;
    let store = Arc::new(store.expect("it is a store"));
    assert_eq!(store.header().created.to_string(), "2026-01-01T00:00:00.000Z");
    let catalog = Catalog::new(store, None);
    let key: ArtifactKey = ARTIFACT.parse().expect("a name");
    let state = catalog.verify_log(&key).await.expect("a sound log");
    let log = Judge::new(backend, ARTIFACT).log().await;
    assert_eq!(
        log.iter().map(|event| event.body.kind()).collect::<Vec<_>>(),
        [
            "create", "commit", "recommit", "commit", "alias", "alias", "alias", "tag", "tag", "meta", "ttl",
            "message"
        ]
    );
    assert!(!log.iter().any(|event| matches!(event.body, EventBody::Unknown { .. })));
    let (first, second) =
        (state.version(VersionNumber(0)).expect("v0"), state.version(VersionNumber(1)).expect("v1"));
    assert_eq!(state.aliases().map(|(a, r)| (a.as_str(), r.version.0)).collect::<Vec<_>>(), [("best", 1)]);
    assert_eq!(first.tags.iter().collect::<Vec<_>>(), ["golden", "twice"]);
    assert_eq!(first.meta["note"], json!({"a": [1, null, "x"]}));
    assert_eq!((first.ttl_seconds, first.inputs.clone()), (Some(2_592_000), vec!["gold/raw:v3".to_owned()]));
    assert_eq!((first.artifact_type.as_deref(), first.producers.len()), (Some("dataset"), 1));
    assert_eq!(catalog.message(&key, first).await.expect("details").as_deref(), Some("the first"));
    assert_eq!(second.tags.iter().collect::<Vec<_>>(), ["b"]);
    assert_eq!((second.meta["lr"].clone(), second.ttl_seconds), (json!(1e-4), Some(60)));
    assert_eq!(catalog.message(&key, second).await.expect("details").as_deref(), Some("a better message"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_format_1_is_read_as_it_was_written() {
    let calls = FaultyStore::new(golden("v1").await);
    let backend: Arc<dyn ObjectStore> = calls.clone();
    let store = Store::open(backend.clone(), "golden", OnMissing::Fail, FixedEnvironment::shared(2)).await;
    let (catalog, key) =
        (Catalog::new(Arc::new(store.expect("it is a store")), None), LONG.parse().expect("a name"));
    let folded = catalog.verify_log(&key).await.expect("a sound log with a sound checkpoint");
    assert_eq!((folded.seq(), folded.vouched().map(|checkpoint| checkpoint.seq)), (66, Some(63)));
    calls.restart_count();
    let read = catalog.state(&key, Duration::ZERO).await.expect("it is read").expect("it exists");
    let events =
        calls.calls().iter().filter(|call| call.op == Op::Get && call.path.contains("/log/")).count();
    assert_eq!(events, 3, "what is behind the checkpoint");
    let store = catalog.store().id();
    assert!(read.to_checkpoint(store) == folded.to_checkpoint(store));
    let first = read.version(VersionNumber(0)).expect("v0");
    assert_eq!(first.meta["loss"], json!({"train": 0.1, "test": [1e-300, -2, "x"]}));
    assert_eq!((first.artifact_type.as_deref(), first.ttl_seconds), (Some("model"), Some(60)));
    assert_eq!((first.tags.len(), first.inputs.len(), first.producers.len()), (1, 1, 1));
    assert_eq!(catalog.message(&key, first).await.expect("details").as_deref(), Some("a better message"));
    let aliases: Vec<_> = read.aliases().map(|(name, alias)| (name.to_string(), alias.version.0)).collect();
    assert_eq!(aliases, (0..7).map(|i| (format!("a{i}"), 1)).collect::<Vec<_>>());
}
