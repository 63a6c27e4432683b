//! The lineage of versions, from logs, through any depth and width.

use std::sync::Arc;
use std::time::Duration;

use artfs::format::clock;
use artfs::format::event::{Commit, CommitSettings, Deletion, DeletionCause, EventBody, Metadata};
use artfs::format::id::Digest;
use artfs::format::name::{ArtifactKey, VersionNumber};
use artfs::format::run::{Run, VersionRead};
use artfs::repo::catalog::Catalog;
use artfs::repo::lineage::graph::{self, Extent};
use artfs::repo::lineage::index::Index;
use artfs::repo::lineage::uses;
use artfs::store::{Key, OnMissing, Store};
use object_store::ObjectStore;
use object_store::memory::InMemory;

use crate::support::faults::{FaultyStore, Op};
use crate::support::logs::{LogWriter, hollow_commit};

const LEVELS: u64 = 20;
const WIDTH: u64 = 10_000;

fn key(text: &str) -> ArtifactKey {
    text.parse().expect("a name")
}

fn read_of(artifact: &str, version: u64) -> VersionRead {
    let artifact = key(artifact);
    VersionRead {
        project: artifact.project,
        name: artifact.name,
        version: VersionNumber(version),
        digest: Digest::of(&version.to_le_bytes()),
        files: 2,
        bytes: 100,
    }
}

fn made(number: u64, reads: Vec<VersionRead>, inputs: &[&str]) -> EventBody {
    let inputs = inputs.iter().map(|&input| input.to_owned()).collect();
    let settings = CommitSettings { reads, inputs, ..CommitSettings::default() };
    EventBody::Commit(Commit { settings, ..hollow_commit(number, Metadata::new()) })
}

async fn store() -> (Arc<FaultyStore>, Arc<dyn ObjectStore>, Arc<Store>) {
    let calls = FaultyStore::new(Arc::new(InMemory::new()));
    let backend: Arc<dyn ObjectStore> = calls.clone();
    let store = Store::open(backend.clone(), "memory", OnMissing::Create, clock::system()).await;
    (calls, backend, Arc::new(store.expect("it opens")))
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_reads_each_link_once_however_deep_and_wide_it_is() {
    let (_, backend, store) = store().await;
    // A chain of levels over several projects, and at its end many versions made from the last of it.
    let level = |n: u64| format!("project{}/level{n}", n % 3);
    for n in 0..LEVELS {
        let mut log = LogWriter::new(&backend, store.id(), &key(&level(n))).await;
        let reads = if n == 0 { vec![] } else { vec![read_of(&level(n - 1), 0)] };
        log.event(made(0, reads, &[]), None).await;
    }
    let mut wide = LogWriter::new(&backend, store.id(), &key("wide/models")).await;
    for n in 0..WIDTH {
        wide.event(made(n, vec![read_of(&level(LEVELS - 1), 0)], &[]), None).await;
    }
    let catalog = Catalog::new(store.clone(), None);
    let states = graph::all_states(&catalog).await.expect("all logs");
    let index = Index::open(None, store.id()).expect("an index");
    assert_eq!(index.index_logs(&states).expect("taken in"), LEVELS - 1 + WIDTH);
    assert_eq!(index.index_logs(&states).expect("nothing is new"), 0);

    let down =
        graph::around(&index, &states, &key(&level(0)), VersionNumber(0), Extent::ALL).expect("a graph");
    assert_eq!(down.rows_read, LEVELS - 1 + WIDTH);
    assert_eq!((down.nodes.len() as u64, down.edges.len() as u64), (LEVELS + WIDTH, LEVELS - 1 + WIDTH));
    assert_eq!(down.nodes.iter().map(|node| node.distance).max(), Some(LEVELS as i64));
    assert!(!down.truncated);
    let up =
        graph::around(&index, &states, &key("wide/models"), VersionNumber(7), Extent::ALL).expect("a graph");
    assert_eq!((up.rows_read, up.nodes.len() as u64), (LEVELS, LEVELS + 1));
    assert_eq!(up.nodes.iter().map(|node| node.distance).min(), Some(-(LEVELS as i64)));
    let near = Extent { up: Some(2), down: Some(0) };
    let near = graph::around(&index, &states, &key("wide/models"), VersionNumber(7), near).expect("a graph");
    assert_eq!((near.rows_read, near.nodes.len()), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_and_what_was_read_are_one_graph_and_other_texts_stand_in_it_too() {
    let (_, backend, store) = store().await;
    let mut raw = LogWriter::new(&backend, store.id(), &key("p/raw")).await;
    raw.commits(2).await;
    let digest = Digest::of(&1_u64.to_le_bytes());
    let mut model = LogWriter::new(&backend, store.id(), &key("p/model")).await;
    let by_digest = format!("p/raw@{digest}");
    let inputs = ["p/raw:v0", &by_digest, "s3://bucket/elsewhere", "p/raw:best"];
    model.event(made(0, vec![read_of("p/raw", 0)], &inputs), None).await;
    let catalog = Catalog::new(store.clone(), None);
    let index = Index::open(None, store.id()).expect("an index");
    let graph_now = async || {
        let states = graph::all_states(&catalog).await.expect("all logs");
        index.index_logs(&states).expect("taken in");
        graph::around(&index, &states, &key("p/model"), VersionNumber(0), Extent::ALL).expect("a graph")
    };
    let graph = graph_now().await;
    let mut links: Vec<_> = graph.edges.iter().map(|link| (link.input.as_str(), link.files)).collect();
    links.sort();
    let expected =
        [("p/raw:best", None), ("p/raw:v0", Some(2)), ("p/raw:v1", None), ("s3://bucket/elsewhere", None)];
    assert_eq!(links, expected);
    // What came later is taken in, and what was deleted stays in the graph, marked.
    let deletion =
        Deletion { versions: vec![VersionNumber(0)], cause: DeletionCause::Asked, aliases: vec![] };
    raw.event(EventBody::Delete(deletion), None).await;
    model.event(made(1, vec![read_of("p/model", 0)], &[]), None).await;
    let graph = graph_now().await;
    let node = |name: &str| graph.nodes.iter().find(|node| node.name == name).expect("a node");
    assert!(node("p/raw:v0").deleted && !node("p/raw:v1").deleted);
    assert_eq!(node("p/model:v1").distance, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_read_each_other_do_not_go_round_for_ever() {
    let (_, backend, store) = store().await;
    let mut a = LogWriter::new(&backend, store.id(), &key("p/a")).await;
    a.event(made(0, vec![read_of("p/b", 0)], &[]), None).await;
    let mut b = LogWriter::new(&backend, store.id(), &key("p/b")).await;
    b.event(made(0, vec![read_of("p/a", 0), read_of("p/b", 0)], &[]), None).await;
    let catalog = Catalog::new(store.clone(), None);
    let states = graph::all_states(&catalog).await.expect("all logs");
    let index = Index::open(None, store.id()).expect("an index");
    index.index_logs(&states).expect("taken in");
    let graph = graph::around(&index, &states, &key("p/a"), VersionNumber(0), Extent::ALL).expect("a graph");
    assert_eq!((graph.nodes.len(), graph.edges.len()), (2, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_index_is_made_again_from_the_logs() {
    let (_, backend, store) = store().await;
    let mut log = LogWriter::new(&backend, store.id(), &key("p/a")).await;
    log.event(made(0, vec![read_of("p/raw", 0)], &[]), None).await;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cache.db");
    let catalog = Catalog::new(store.clone(), Some(&path));
    let states = graph::all_states(&catalog).await.expect("all logs");
    for lost in [false, true] {
        if lost {
            std::fs::remove_file(&path).expect("it was there");
            let _ = std::fs::remove_file(path.with_extension("db-wal"));
        }
        let index = Index::open(Some(&path), store.id()).expect("an index");
        assert_eq!(index.index_logs(&states).expect("taken in"), 1);
        assert_eq!(index.inputs_of(&key("p/a"), VersionNumber(0)).expect("rows").len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uses_of_a_version_are_found_with_one_listing_and_damage_is_left_out() {
    let (calls, _, store) = store().await;
    let run = |id: &str| Run { id: Some(id.parse().expect("a name")), ..Run::default() };
    let reads = [read_of("p/a", 3), read_of("p/b", 0)];
    assert_eq!(uses::publish(&store, &run("one"), &reads).await.expect("put"), 2);
    assert_eq!(uses::publish(&store, &run("one"), &reads).await.expect("put again"), 2);
    uses::publish(&store, &run("two"), &reads[..1]).await.expect("put");
    let damaged = Key::Use(key("p/a"), VersionNumber(3), "three".parse().expect("a name"));
    store.put(&damaged, vec!["{".into()]).await.expect("put");
    calls.restart_count();
    let found = uses::of_version(&store, &key("p/a"), VersionNumber(3)).await.expect("read");
    let mut ids: Vec<_> =
        found.iter().filter_map(|used| used.run.id.as_ref().map(ToString::to_string)).collect();
    ids.sort();
    assert_eq!(ids, ["one", "two"]);
    assert_eq!(found[0].read, reads[0]);
    let count = |op: Op| calls.calls().iter().filter(|call| call.op == op).count();
    assert_eq!((count(Op::List), count(Op::Get)), (1, 3));
    // They are no part of a log, and no artifact begins with them.
    let catalog = Catalog::new(store.clone(), None);
    assert!(catalog.state(&key("p/a"), Duration::ZERO).await.expect("asked").is_none());
}
