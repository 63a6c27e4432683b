//! Long logs: read from a checkpoint in a few rounds of requests, and never wrong because of one.

use std::sync::Arc;
use std::time::Duration;

use artfs::format::checkpoint::Checkpoint;
use artfs::format::checkpoint_ref::CheckpointRef;
use artfs::format::clock;
use artfs::format::event::{ArtifactPolicy, Event, EventBody, TagChange};
use artfs::format::id::{CheckpointHash, EventHash, EventId, StoreId};
use artfs::format::name::{ArtifactKey, Selector, VersionNumber};
use artfs::repo::catalog::{
    Actor, AliasPrecondition, AppendStep, ArtifactState, Catalog, CatalogError, CheckpointFault,
};
use artfs::store::{Key, OnMissing, Store, checkpoints_prefix, parse_checkpoint};
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;
use tempfile::TempDir;

use crate::support::faults::{Fault, FaultyStore, Op};
use crate::support::logs::{LogWriter, hollow_commit};

/// Events from one checkpoint to the next in a log of small states.
const APART: u64 = 64;
/// What a call takes where rounds are counted.
const LATENCY: Duration = Duration::from_millis(100);

fn key() -> ArtifactKey {
    "proj/long".parse().expect("a name")
}

fn actor() -> Actor {
    Actor { user: "ann".into(), host: "h".into() }
}

async fn opened(backend: &Arc<dyn ObjectStore>) -> Arc<Store> {
    let store = Store::open(backend.clone(), "memory", OnMissing::Create, clock::system()).await;
    Arc::new(store.expect("the store opens"))
}

/// A host with nothing remembered, and all its calls.
async fn host(backend: &Arc<dyn ObjectStore>) -> (Catalog, Arc<FaultyStore>) {
    let faulty = FaultyStore::new(backend.clone());
    let store = opened(&(faulty.clone() as Arc<dyn ObjectStore>)).await;
    faulty.restart_count();
    (Catalog::new(store, None), faulty)
}

async fn state_of(catalog: &Catalog) -> Arc<ArtifactState> {
    catalog.state(&key(), Duration::ZERO).await.expect("it is read").expect("it exists")
}

/// All that a state holds, for comparison.
fn content(catalog: &Catalog, state: &ArtifactState) -> Checkpoint {
    state.to_checkpoint(catalog.store().id())
}

/// Appends a commit of a version without content; gives the state after it.
async fn commit(catalog: &Catalog) -> Result<Arc<ArtifactState>, CatalogError> {
    append(catalog, |state| {
        EventBody::Commit(hollow_commit(state.next_version().0, [("f1".to_owned(), json!(0.1 + 0.2))].into()))
    })
    .await
}

async fn append(
    catalog: &Catalog,
    body: impl Fn(&ArtifactState) -> EventBody,
) -> Result<Arc<ArtifactState>, CatalogError> {
    let id = EventId::from_bytes(catalog.store().env().random16());
    let plan = |state: &ArtifactState| Ok::<_, CatalogError>(AppendStep::Append(body(state)));
    Ok(catalog.append(&key(), id, &actor(), plan).await?.state)
}

async fn commits(catalog: &Catalog, count: u64) -> Arc<ArtifactState> {
    let mut state = commit(catalog).await.expect("it is appended");
    for _ in 1..count {
        state = commit(catalog).await.expect("it is appended");
    }
    state
}

/// The checkpoints in the store, oldest first, with their sizes.
async fn checkpoints(backend: &Arc<dyn ObjectStore>) -> Vec<(CheckpointRef, u64)> {
    let folder = checkpoints_prefix(&key()).into();
    let found: Vec<_> = backend.list(Some(&folder)).try_collect().await.expect("a listing");
    let named =
        found.iter().filter_map(|meta| Some((parse_checkpoint(meta.location.filename()?)?, meta.size)));
    let mut named: Vec<_> = named.collect();
    named.sort_by_key(|(reference, _)| reference.seq);
    named
}

fn path(reference: CheckpointRef) -> object_store::path::Path {
    Key::Checkpoint(key(), reference).path()
}

async fn bytes_of(backend: &Arc<dyn ObjectStore>, path: &object_store::path::Path) -> Vec<u8> {
    backend.get(path).await.expect("an object").bytes().await.expect("its bytes").to_vec()
}

/// A log of 200 events with three checkpoints, one of each kind of event in it.
async fn long_log() -> Arc<dyn ObjectStore> {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (catalog, _) = host(&backend).await;
    commits(&catalog, 20).await;
    let (alias, any) = ("best".parse().expect("an alias"), AliasPrecondition::Any);
    let v3 = Selector::Version(VersionNumber(3));
    catalog.set_alias(&key(), &alias, &v3, any, &actor()).await.expect("set");
    catalog.change_tags(&key(), &v3, &["a".into(), "b".into()], &[], &actor()).await.expect("tags");
    catalog.set_ttl(&key(), &v3, Some(60), &actor()).await.expect("ttl");
    catalog.set_message(&key(), &v3, "better", &actor()).await.expect("a message");
    for body in [
        EventBody::Policy(ArtifactPolicy { ttl_seconds: Some(3600) }),
        EventBody::Fence(artfs::format::event::Fence { epoch: 4 }),
        EventBody::Delete(artfs::format::event::Deletion {
            versions: vec![VersionNumber(1), VersionNumber(2)],
            cause: artfs::format::event::DeletionCause::Expired,
            aliases: vec![],
        }),
        EventBody::Recommit(artfs::format::event::Recommit {
            version: VersionNumber(3),
            digest: hollow_commit(3, Default::default()).digest,
            settings: Default::default(),
        }),
    ] {
        append(&catalog, |_| body.clone()).await.expect("it is appended");
    }
    let last = commits(&catalog, 171).await;
    assert_eq!(last.seq(), 199);
    backend
}

/// Reads cold and proves that what is read is what the whole log says; gives the calls it took.
async fn reads_the_truth(backend: &Arc<dyn ObjectStore>, case: &str) -> Vec<(Op, String)> {
    let (judge, _) = host(backend).await;
    let truth = judge.verify_log(&key()).await.unwrap_or_else(|e| panic!("{case}: {e}"));
    let (reader, calls) = host(backend).await;
    let state = state_of(&reader).await;
    assert!(content(&reader, &state) == content(&judge, &truth), "{case}: another state than the log's");
    calls.calls().into_iter().map(|call| (call.op, call.path)).collect()
}

fn is_of(folder: &str) -> impl Fn(&&(Op, String)) -> bool {
    let folder = format!("/{folder}/");
    move |(op, path)| *op == Op::Get && path.contains(&folder)
}

#[tokio::test]
async fn a_log_gets_a_checkpoint_every_so_often_and_is_read_from_the_newest() {
    let backend = long_log().await;
    let found: Vec<u64> = checkpoints(&backend).await.iter().map(|(c, _)| c.seq).collect();
    assert_eq!(found, [APART - 1, 2 * APART - 1, 3 * APART - 1]);
    let calls = reads_the_truth(&backend, "as it is").await;
    assert_eq!(calls.iter().filter(is_of("checkpoints")).count(), 1);
    assert_eq!(calls.iter().filter(is_of("log")).count(), 199 - 191, "the events behind it");
    assert_eq!(calls.len(), 2 + 1 + 8);
}

#[tokio::test]
async fn hosts_write_the_same_checkpoint_of_the_same_state() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (one, _) = host(&backend).await;
    commits(&one, APART - 1).await;
    // Two more hosts reach the same state: one folded every event, one wrote none of them.
    let (other, _) = host(&backend).await;
    state_of(&other).await;
    let bytes = |catalog: &Catalog, state: &ArtifactState| content(catalog, state).encode().expect("small");
    let known = one.known(&key()).expect("known");
    let same = state_of(&other).await;
    assert_eq!(bytes(&one, &known), bytes(&other, &same));
    commit(&other).await.expect("it is appended");
    let found = checkpoints(&backend).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0.hash, CheckpointHash::of(&bytes(&one, &known)));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_versions_are_read_in_four_rounds() {
    const VERSIONS: u64 = 10_000;
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = opened(&backend).await;
    let mut log = LogWriter::new(&backend, store.id(), &key()).await;
    log.commits(VERSIONS - 500).await;
    let writer = Catalog::new(store, None);
    // The last events before the next checkpoint is written: the most there is to read behind one.
    let mut written = vec![];
    let mut newest = state_of(&writer).await;
    while newest.versions().count() < VERSIONS as usize || written.len() < 2 {
        let before = newest.vouched();
        newest = commit(&writer).await.expect("it is appended");
        written.extend(newest.vouched().filter(|_| newest.vouched() != before));
    }
    let apart = written[written.len() - 1].seq - written[written.len() - 2].seq;
    let end = written[written.len() - 1].seq + apart;
    while newest.seq() < end {
        newest = commit(&writer).await.expect("it is appended");
    }
    assert_eq!(newest.vouched(), written.last().copied());

    let (reader, calls) = host(&backend).await;
    calls.set_latency(LATENCY);
    let begun = tokio::time::Instant::now();
    let state = state_of(&reader).await;
    let took = begun.elapsed();
    assert!(content(&reader, &state) == content(&writer, &newest));
    assert!(took <= 4 * LATENCY, "{took:?}");
    let requests = calls.calls().len() as u64;
    assert!(requests <= apart + 6, "{requests} requests, checkpoints are {apart} events apart");

    // And once more: nothing new is one request, one new version two.
    calls.restart_count();
    state_of(&reader).await;
    assert_eq!(calls.ops(), [Op::Get]);
    commit(&writer).await.expect("it is appended");
    calls.restart_count();
    assert_eq!(state_of(&reader).await.seq(), end + 1);
    assert_eq!(calls.ops(), [Op::Get, Op::Get]);
}

#[tokio::test(start_paused = true)]
async fn a_short_log_is_read_in_two_rounds_and_none_in_one() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for (commits_made, rounds) in [(0, 1), (1, 2), (2, 2), (50, 2), (200, 2)] {
        let backend = if commits_made == 0 { backend.clone() } else { Arc::new(InMemory::new()) };
        let (writer, _) = host(&backend).await;
        if commits_made > 0 {
            commits(&writer, commits_made).await;
        }
        let (reader, calls) = host(&backend).await;
        calls.set_latency(LATENCY);
        let begun = tokio::time::Instant::now();
        let state = reader.state(&key(), Duration::ZERO).await.expect("it is read");
        assert_eq!(state.is_some(), commits_made > 0);
        assert_eq!(begun.elapsed(), rounds * LATENCY, "{commits_made} versions");
        let events = if commits_made == 0 { 0 } else { commits_made as usize + 1 };
        assert!(calls.calls().len() <= events + 2, "{commits_made} versions: {:?}", calls.ops());
    }
}

#[tokio::test]
async fn a_host_that_was_away_for_long_reads_on_from_a_checkpoint() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (writer, _) = host(&backend).await;
    commits(&writer, 100).await;
    let (reader, calls) = host(&backend).await;
    assert_eq!(state_of(&reader).await.seq(), 100);
    let newest = commits(&writer, 900).await;
    calls.restart_count();
    let state = state_of(&reader).await;
    assert!(content(&reader, &state) == content(&writer, &newest));
    assert!(calls.calls().len() < 2 * APART as usize, "{} calls", calls.calls().len());
    assert_eq!(state.seq(), 1000);
}

#[tokio::test]
async fn a_damaged_or_missing_checkpoint_is_passed_over() {
    type Spoil = fn(&[u8]) -> Option<Vec<u8>>;
    let spoils: [(&str, Spoil); 5] = [
        ("missing", |_| None),
        ("empty", |_| Some(vec![])),
        ("cut", |good| Some(good[..good.len() / 2].to_vec())),
        ("a flipped bit", |good| {
            let mut bad = good.to_vec();
            bad[good.len() / 3] ^= 4;
            Some(bad)
        }),
        ("a text", |_| Some(b"{}".to_vec())),
    ];
    for (name, spoil) in spoils {
        let backend = long_log().await;
        let all = checkpoints(&backend).await;
        // One after the other, from the newest on, until none is left.
        for (left, (newest, _)) in all.iter().enumerate().rev() {
            let good = bytes_of(&backend, &path(*newest)).await;
            match spoil(&good) {
                None => backend.delete(&path(*newest)).await.expect("delete"),
                Some(bad) => drop(backend.put(&path(*newest), bad.into()).await.expect("put")),
            }
            let (reader, calls) = host(&backend).await;
            let state = state_of(&reader).await;
            assert_eq!((state.seq(), state.versions().count()), (199, 189), "{name}, {left} left");
            let calls: Vec<_> = calls.calls().into_iter().map(|call| (call.op, call.path)).collect();
            let events = calls.iter().filter(is_of("log")).count() as u64;
            assert_eq!(events, 200 - left as u64 * APART, "{name}: {left} left are used");
        }
    }
}

#[tokio::test]
async fn a_checkpoint_that_nobody_vouches_for_is_passed_over() {
    let backend = long_log().await;
    let newest = checkpoints(&backend).await.pop().expect("there are some").0;
    let good = Checkpoint::decode(&bytes_of(&backend, &path(newest)).await).expect("a checkpoint");
    let put = |checkpoint: Checkpoint| {
        let backend = backend.clone();
        async move {
            let bytes = checkpoint.encode().expect("small");
            let reference = CheckpointRef { seq: checkpoint.seq, hash: CheckpointHash::of(&bytes) };
            backend.put(&path(reference), bytes.into()).await.expect("put");
        }
    };
    // It lies: its head is right and its content is not.
    let (catalog, _) = host(&backend).await;
    let state = state_of(&catalog).await;
    let mut lie = content(&catalog, &state);
    lie.aliases.clear();
    put(Checkpoint { versions: good.versions.clone(), ..lie.clone() }).await;
    put(Checkpoint { seq: 198, head: EventHash::of(b"?"), ..lie.clone() }).await;
    put(Checkpoint { seq: 195, head: good.head, ..good.clone() }).await;
    put(Checkpoint { store: StoreId::from_bytes([9; 16]), ..good.clone() }).await;
    put(Checkpoint { key: "proj/other".parse().expect("a name"), ..good.clone() }).await;
    put(Checkpoint { aliases: Default::default(), ..good.clone() }).await;
    reads_the_truth(&backend, "others beside the right ones").await;
    for (reference, _) in checkpoints(&backend).await.iter().filter(|(c, _)| c.seq < 190) {
        backend.delete(&path(*reference)).await.expect("delete");
    }
    backend.delete(&path(newest)).await.expect("delete");
    reads_the_truth(&backend, "only wrong ones").await;
}

#[tokio::test]
async fn checkpoints_beyond_the_log_are_passed_over() {
    let backend = long_log().await;
    let newest = checkpoints(&backend).await.pop().expect("there are some").0;
    let good = Checkpoint::decode(&bytes_of(&backend, &path(newest)).await).expect("a checkpoint");
    for seq in [199, 200, 5000, i64::MAX as u64] {
        let beyond = Checkpoint { seq, ..good.clone() };
        let bytes = beyond.encode().expect("small");
        let reference = CheckpointRef { seq, hash: CheckpointHash::of(&bytes) };
        backend.put(&path(reference), bytes.into()).await.expect("put");
    }
    for seq in [u64::MAX, u64::MAX - 1] {
        let reference = CheckpointRef { seq, hash: CheckpointHash::of(b"?") };
        backend.put(&path(reference), "?".into()).await.expect("put");
    }
    reads_the_truth(&backend, "a short log").await;
    // In a log of more than one page nobody knows its end at first.
    let (catalog, _) = host(&backend).await;
    commits(&catalog, 1000).await;
    reads_the_truth(&backend, "a long log").await;
}

/// The same where the whole log must be read in the end.
#[tokio::test]
async fn a_store_full_of_wrong_checkpoints_costs_requests_and_nothing_else() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = opened(&backend).await;
    let mut log = LogWriter::new(&backend, store.id(), &key()).await;
    log.commits(1200).await;
    for seq in 0..1190 {
        let reference = CheckpointRef { seq, hash: CheckpointHash::of(&seq.to_le_bytes()) };
        backend.put(&path(reference), "not one of them is true".into()).await.expect("put");
    }
    let calls = reads_the_truth(&backend, "wrong ones only").await;
    assert!(calls.len() < 1201 + 20, "{} calls", calls.len());
}

#[tokio::test]
async fn a_vouched_checkpoint_that_says_otherwise_is_damage() {
    let backend = long_log().await;
    let (catalog, _) = host(&backend).await;
    let state = state_of(&catalog).await;
    let mut wrong = content(&catalog, &state);
    wrong.default_ttl_seconds = None;
    let bytes = wrong.encode().expect("small");
    let reference = CheckpointRef { seq: wrong.seq, hash: CheckpointHash::of(&bytes) };
    let event = Event {
        store: wrong.store,
        project: wrong.key.project.clone(),
        name: wrong.key.name.clone(),
        artifact: wrong.artifact,
        seq: wrong.seq + 1,
        prev: Some(wrong.head),
        id: EventId::from_bytes([1; 16]),
        time: clock::system().now(),
        actor: "mallory".into(),
        host: "h".into(),
        checkpoint: Some(reference),
        body: EventBody::Tag(TagChange { version: VersionNumber(3), add: vec!["x".into()], remove: vec![] }),
    };
    backend.put(&Key::Event(key(), event.seq).path(), event.encode().into()).await.expect("put");
    catalog.verify_log(&key()).await.expect("a checkpoint that is not there was deleted");
    backend.put(&path(reference), bytes.into()).await.expect("put");
    match catalog.verify_log(&key()).await {
        Err(CatalogError::Checkpoint { object, by: 200, source }) => {
            assert_eq!(object, path(reference).to_string());
            assert!(matches!(source, CheckpointFault::OtherState), "{source}");
        }
        other => panic!("{other:?}"),
    }
    // One whose bytes are not what its name says is damage too, though no reader takes it.
    backend.put(&path(reference), "spoilt".into()).await.expect("put");
    assert!(matches!(catalog.verify_log(&key()).await, Err(CatalogError::Checkpoint { .. })));
}

#[tokio::test(start_paused = true)]
async fn an_append_goes_on_when_its_checkpoint_cannot_be_written() {
    for fault in [Fault::Denied, Fault::Full, Fault::ErrorBefore, Fault::ErrorAfter, Fault::Hold] {
        let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let (catalog, faulty) = host(&backend).await;
        commits(&catalog, APART - 1).await;
        faulty.set_fault(move |call| if call.path.contains("checkpoints") { fault } else { Fault::None });
        let state = commit(&catalog).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert_eq!((state.seq(), state.vouched()), (APART, None), "{fault:?}");
        // It is not tried again at every event.
        faulty.restart_count();
        commits(&catalog, APART - 1).await;
        let tried = faulty.calls().iter().filter(|call| call.path.contains("checkpoints")).count();
        assert_eq!(tried, 0, "{fault:?}");
        faulty.set_fault(|_| Fault::None);
        let state = commit(&catalog).await.expect("it is appended");
        assert_eq!(state.vouched().map(|c| c.seq), Some(2 * APART - 1), "{fault:?}");
        reads_the_truth(&backend, &format!("{fault:?}")).await;
    }
}

#[tokio::test]
async fn a_checkpoint_whose_writer_died_before_its_event_is_passed_over() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (writer, _) = host(&backend).await;
    commits(&writer, APART - 1).await;
    for fault in [Fault::DieBefore, Fault::DieAfter] {
        let (dying, faulty) = host(&backend).await;
        state_of(&dying).await;
        faulty.set_fault(move |call| if call.op == Op::Create { fault } else { Fault::None });
        commit(&dying).await.expect_err("it died");
        assert_eq!(checkpoints(&backend).await.len(), 1);
        reads_the_truth(&backend, &format!("{fault:?}")).await;
    }
    let (reader, _) = host(&backend).await;
    // The second one died after its event was written, which vouches.
    assert_eq!(state_of(&reader).await.vouched().map(|c| c.seq), Some(APART - 1));
}

#[tokio::test]
async fn a_writer_that_lost_a_race_still_vouches_for_its_checkpoint() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let (writer, _) = host(&backend).await;
    commits(&writer, APART - 1).await;
    let (slow, faulty) = host(&backend).await;
    state_of(&slow).await;
    // Between the checkpoint and the event of the slow one, another appends who knows of no checkpoint.
    let other = FaultyStore::new(backend.clone());
    let rival = Catalog::new(opened(&(other.clone() as Arc<dyn ObjectStore>)).await, None);
    state_of(&rival).await;
    other.set_fault(|call| if call.path.contains("checkpoints") { Fault::Denied } else { Fault::None });
    faulty.set_fault(|call| if call.op == Op::Create && call.n < 5 { Fault::Hold } else { Fault::None });
    let (state, ()) = tokio::join!(commit(&slow), async {
        faulty.wait_for_held().await;
        commit(&rival).await.expect("it is appended");
        faulty.release();
    });
    let state = state.expect("it is appended behind the rival's");
    assert_eq!((state.seq(), state.vouched().map(|c| c.seq)), (APART + 1, Some(APART - 1)));
    reads_the_truth(&backend, "vouched one event later").await;
    // A reader for whom another event vouches in the same way finds it too.
    let (reader, calls) = host(&backend).await;
    assert_eq!(state_of(&reader).await.seq(), APART + 1);
    assert_eq!(calls.ops().iter().filter(|op| **op == Op::Get).count(), 1 + 2);
}

#[tokio::test]
async fn checkpoints_of_large_states_are_further_apart() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let store = opened(&backend).await;
    let mut log = LogWriter::new(&backend, store.id(), &key()).await;
    // 4 KiB of metadata that does not compress, in each of 600 versions.
    for i in 0..600 {
        let noise: String =
            crate::support::environment::noise(1, i, 3000).iter().map(|b| format!("{b:02x}")).collect();
        log.commit([("blob".to_owned(), json!(noise))].into()).await;
    }
    let catalog = Catalog::new(store, None);
    for _ in 0..300 {
        commit(&catalog).await.expect("it is appended");
    }
    let found = checkpoints(&backend).await;
    let bytes: u64 = found.iter().map(|(_, size)| size).sum();
    assert!(found.len() >= 2, "{found:?}");
    let apart = found[1].0.seq - found[0].0.seq;
    assert!(apart > 100, "{found:?}");
    assert!(bytes <= (16 << 10) * log_length(&backend).await, "{bytes} bytes");
}

async fn log_length(backend: &Arc<dyn ObjectStore>) -> u64 {
    let folder = artfs::store::log_prefix(&key()).into();
    let names: Vec<_> = backend.list(Some(&folder)).try_collect().await.expect("a listing");
    names.len() as u64
}

// The local copy

/// A host whose catalog has a database that outlives it.
async fn host_with_mirror(backend: &Arc<dyn ObjectStore>, folder: &TempDir) -> (Catalog, Arc<FaultyStore>) {
    let faulty = FaultyStore::new(backend.clone());
    let store = opened(&(faulty.clone() as Arc<dyn ObjectStore>)).await;
    faulty.restart_count();
    (Catalog::new(store, Some(&folder.path().join("cache.db"))), faulty)
}

#[tokio::test]
async fn what_was_read_from_a_checkpoint_is_there_after_a_restart() {
    let (backend, folder) = (long_log().await, tempfile::tempdir().expect("a folder"));
    let (first, _) = host_with_mirror(&backend, &folder).await;
    let known = state_of(&first).await;
    drop(first);
    let (second, calls) = host_with_mirror(&backend, &folder).await;
    let again = state_of(&second).await;
    assert!(content(&second, &again) == content(&second, &known));
    assert_eq!(calls.ops(), [Op::Get], "one look whether anything is new");
    second.projects(Duration::ZERO).await.expect("a listing");
    // Without the store it is known too, and listed.
    let (offline, calls) = host_with_mirror(&backend, &folder).await;
    calls.kill();
    assert_eq!(state_of(&offline).await.seq(), 199);
    let projects = offline.projects(Duration::ZERO).await.expect("what is known");
    assert_eq!(projects, ["proj".parse().expect("a name")]);
}

#[tokio::test]
async fn a_log_that_was_folded_once_is_not_folded_again_at_every_start() {
    let backend: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let folder = tempfile::tempdir().expect("a folder");
    let store = opened(&backend).await;
    LogWriter::new(&backend, store.id(), &key()).await.commits(900).await;
    let (first, _) = host_with_mirror(&backend, &folder).await;
    state_of(&first).await;
    drop(first);
    // The events are still there; but for the state, the local checkpoint is enough.
    let db = rusqlite::Connection::open(folder.path().join("cache.db")).expect("it opens");
    db.execute("UPDATE events SET bytes = x'00' WHERE seq < 900", []).expect("an update");
    let (second, calls) = host_with_mirror(&backend, &folder).await;
    assert_eq!(state_of(&second).await.versions().count(), 900);
    assert_eq!(calls.ops(), [Op::Get]);
}

#[tokio::test]
async fn a_damaged_local_copy_costs_requests_and_nothing_else() {
    for damage in [
        "UPDATE checkpoints SET bytes = x'00'",
        "UPDATE checkpoints SET seq = seq - 1",
        "UPDATE checkpoints SET hash = 'x'",
        "UPDATE events SET bytes = x'00' WHERE seq > 195",
        "DELETE FROM checkpoints",
        "DELETE FROM events",
        "DELETE FROM events WHERE seq = 196",
    ] {
        let (backend, folder) = (long_log().await, tempfile::tempdir().expect("a folder"));
        let (first, _) = host_with_mirror(&backend, &folder).await;
        let known = state_of(&first).await;
        drop(first);
        let db = rusqlite::Connection::open(folder.path().join("cache.db")).expect("it opens");
        assert!(db.execute(damage, []).expect("it is SQL") > 0, "{damage}");
        drop(db);
        for _ in 0..2 {
            let (second, _) = host_with_mirror(&backend, &folder).await;
            let again = state_of(&second).await;
            assert!(content(&second, &again) == content(&second, &known), "{damage}");
            let lines = second.log_lines(&again).await.unwrap_or_else(|e| panic!("{damage}: {e}"));
            assert_eq!(lines.len(), 200, "{damage}");
        }
    }
}

#[tokio::test]
async fn the_whole_log_is_there_though_only_its_end_was_read() {
    let (backend, folder) = (long_log().await, tempfile::tempdir().expect("a folder"));
    let (catalog, calls) = host_with_mirror(&backend, &folder).await;
    let state = state_of(&catalog).await;
    calls.kill();
    let refused = catalog.log_lines(&state).await;
    match &refused {
        Err(e @ CatalogError::Incomplete { lacking: 192, .. }) => {
            assert!(
                e.to_string().starts_with("192 events of the log of proj/long are not on this host"),
                "{e}"
            );
        }
        other => panic!("{other:?}"),
    }
    let (catalog, calls) = host_with_mirror(&backend, &folder).await;
    let state = state_of(&catalog).await;
    calls.restart_count();
    let lines = catalog.log_lines(&state).await.expect("the store gives the rest");
    assert_eq!(calls.calls().len(), 192, "what is lacking and no more");
    for (seq, line) in lines.iter().enumerate() {
        assert_eq!(&line[..], bytes_of(&backend, &Key::Event(key(), seq as u64).path()).await, "{seq}");
    }
    // It is kept.
    let (catalog, calls) = host_with_mirror(&backend, &folder).await;
    calls.kill();
    let state = state_of(&catalog).await;
    assert_eq!(catalog.log_lines(&state).await.expect("all of it is here"), lines);
    // Without a local database it comes from the store.
    let (catalog, _) = host(&backend).await;
    let state = state_of(&catalog).await;
    assert_eq!(catalog.log_lines(&state).await.expect("the store gives all"), lines);
}

#[tokio::test]
async fn a_line_that_is_not_part_of_the_chain_is_never_given() {
    let backend = long_log().await;
    for (at, bytes) in
        [(3_u64, b"{}".to_vec()), (70, vec![]), (0, bytes_of(&backend, &Key::Event(key(), 1).path()).await)]
    {
        let good = bytes_of(&backend, &Key::Event(key(), at).path()).await;
        backend.put(&Key::Event(key(), at).path(), bytes.into()).await.expect("put");
        let folder = tempfile::tempdir().expect("a folder");
        let (catalog, _) = host_with_mirror(&backend, &folder).await;
        let state = state_of(&catalog).await;
        let refused = catalog.log_lines(&state).await;
        assert!(
            matches!(&refused, Err(CatalogError::Damaged { seq, .. }) if *seq == at),
            "{at}: {refused:?}"
        );
        backend.put(&Key::Event(key(), at).path(), good.into()).await.expect("put");
        assert_eq!(catalog.log_lines(&state).await.expect("it is mended").len(), 200);
    }
}
