//! A store that does not answer: found out once, reported to every caller at once, and noticed when it is back.

use std::sync::Arc;
use std::time::Duration;

use artfs::format::clock;
use artfs::format::header::StoreHeader;
use artfs::format::id::{PackId, StoreId};
use artfs::store::{Created, Key, OnMissing, Store, StoreError};
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};

use crate::support::faults::{Call, Fault, FaultyStore, Op};

/// A store that is silent for so long counts as away.
const LIMIT: Duration = Duration::from_millis(200);
/// Only what never comes takes this long.
const NEVER: Duration = Duration::from_secs(60);

fn pack(name: &str) -> Key {
    Key::Pack(PackId::of(name.as_bytes()))
}

/// A store with one pack in it.
async fn store() -> (Arc<FaultyStore>, Arc<Store>) {
    let faulty = FaultyStore::new(Arc::new(InMemory::new()));
    let backend: Arc<dyn ObjectStore> = faulty.clone();
    let store = Store::open_within(backend, "memory://here", OnMissing::Create, clock::system(), LIMIT).await;
    let store = Arc::new(store.expect("it is made"));
    store.put(&pack("there"), vec!["bytes".into()]).await.expect("put");
    (faulty, store)
}

async fn is_back(store: &Store) {
    let back = async {
        while store.offline_since().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(NEVER, back).await.expect("it is noticed that the store is back");
}

fn packs(faulty: &FaultyStore) -> usize {
    faulty.calls().iter().filter(|call| call.path.starts_with("packs/")).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_outage_is_found_out_once_and_told_to_all_callers_at_once() {
    for fault in [Fault::ErrorBefore, Fault::Hold] {
        let (faulty, store) = store().await;
        faulty.set_fault(move |_| fault);
        let error = store.get(&pack("there")).await.expect_err("the store is away");
        let since = store.offline_since().expect("it is known to be away");
        let text = error.to_string();
        let name = pack("there").to_string();
        assert!(matches!(&error, StoreError::Unavailable { key, .. } if *key == name), "{error:?}");
        assert!(text.contains(&format!("memory://here has not answered since {since}")), "{text}");
        assert!(packs(&faulty) <= 16, "{fault:?}: {:?}", faulty.calls());
        faulty.restart_count();
        // Whatever is asked now costs nothing but what the watcher asks.
        for _ in 0..50 {
            assert!(store.get(&pack("there")).await.is_err_and(|e| e.is_transient()));
            assert!(store.get_range(&pack("there"), 0..2).await.is_err_and(|e| e.is_transient()));
            assert!(store.put(&pack("new"), vec!["x".into()]).await.is_err_and(|e| e.is_transient()));
            assert!(store.create(&pack("new"), "x".into()).await.is_err_and(|e| e.is_transient()));
            assert!(store.list("packs", None).await.is_err_and(|e| e.is_transient()));
            assert!(store.list_folders("packs").await.is_err_and(|e| e.is_transient()));
        }
        assert!(faulty.calls().iter().all(|call| (call.op, &*call.path) == (Op::Get, "artfs.json")));
        assert_eq!(store.offline_since(), Some(since), "it is the same outage");
        faulty.set_fault(|_| Fault::None);
        faulty.release();
        is_back(&store).await;
        assert_eq!(store.get(&pack("there")).await.expect("it is back"), "bytes");
    }
}

#[tokio::test]
async fn who_insists_is_told_at_once_that_the_store_is_back() {
    let (faulty, store) = store().await;
    faulty.set_fault(|_| Fault::ErrorBefore);
    store.get(&pack("there")).await.expect_err("the store is away");
    assert!(store.ask_again().await.is_err_and(|e| e.to_string().contains("has not answered since")));
    faulty.set_fault(|_| Fault::None);
    store.ask_again().await.expect("it is back");
    assert_eq!(store.offline_since(), None);
    assert_eq!(store.get(&pack("there")).await.expect("get"), "bytes");
    faulty.restart_count();
    store.ask_again().await.expect("it is there");
    assert_eq!(faulty.calls(), [], "nothing is asked of a store that answers");
}

#[tokio::test]
async fn trouble_with_one_object_is_no_outage() {
    let (faulty, store) = store().await;
    for fault in [Fault::ErrorBefore, Fault::Hold] {
        let there = pack("there").to_string();
        faulty.set_fault(move |call: &Call| if call.path == there { fault } else { Fault::None });
        store.get(&pack("there")).await.expect_err("it cannot be had");
        assert_eq!(store.offline_since(), None, "{fault:?}");
        store.put(&pack("other"), vec!["x".into()]).await.expect("the store is there");
        // It was tried again, but not in a storm; and the header was asked for.
        let (tried, asked) = (packs(&faulty) - 1, faulty.calls().len());
        assert!((2..=16).contains(&tried) && asked > tried + 1, "{fault:?}: {:?}", faulty.calls());
    }
}

#[tokio::test]
async fn a_slow_answer_is_not_waited_for_without_end_and_a_create_is_left_in_doubt() {
    let (faulty, store) = store().await;
    faulty.set_fault(|call| if call.op == Op::Create { Fault::Hold } else { Fault::None });
    let created = store.create(&pack("new"), "x".into()).await;
    assert!(matches!(&created, Ok(Created::Unknown(e)) if e.to_string().contains("no answer in 0.2 s")));
    assert_eq!(store.offline_since(), None);
}

#[tokio::test]
async fn a_place_that_answers_with_another_store_or_none_stays_away() {
    let inner: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let faulty = FaultyStore::new(inner.clone());
    let backend: Arc<dyn ObjectStore> = faulty.clone();
    let env = clock::system();
    let store = Store::open_within(backend, "memory://here", OnMissing::Create, env.clone(), LIMIT).await;
    let store = store.expect("it is made");
    let ours = store.header().encode();
    faulty.set_fault(|_| Fault::ErrorBefore);
    store.get(&pack("there")).await.expect_err("the store is away");
    faulty.set_fault(|_| Fault::None);
    let other = StoreHeader::new(StoreId::from_bytes([7; 16]), env.now());
    inner.put(&"artfs.json".into(), other.encode().into()).await.expect("put");
    store.ask_again().await.expect_err("another store is there");
    assert!(store.put(&pack("new"), vec!["x".into()]).await.is_err(), "nothing is written to it");
    inner.delete(&"artfs.json".into()).await.expect("delete");
    store.ask_again().await.expect_err("no store is there");
    assert!(store.create(&pack("new"), "x".into()).await.is_err());
    assert!(inner.get(&pack("new").path()).await.is_err());
    inner.put(&"artfs.json".into(), ours.into()).await.expect("put");
    store.ask_again().await.expect("it is ours again");
    store.put(&pack("new"), vec!["x".into()]).await.expect("put");
}

#[tokio::test]
async fn a_store_that_was_away_at_the_beginning_is_asked_until_it_is_back() {
    let (faulty, known) = store().await;
    let backend: Arc<dyn ObjectStore> = faulty.clone();
    faulty.set_fault(|_| Fault::ErrorBefore);
    let header = known.header().clone();
    let store = Store::open_known(backend, "memory://here", header, clock::system(), LIMIT).await;
    let store = store.expect("it opens as it was known");
    let error = store.get(&pack("there")).await.expect_err("it is away");
    assert!(error.to_string().contains("Get of artfs.json failed before its effect"), "{error}");
    faulty.set_fault(|_| Fault::None);
    is_back(&store).await;
    assert_eq!(store.get(&pack("there")).await.expect("get"), "bytes");
}
