//! Every store keeps the same promises: memory, a directory, a bucket, and each of them in passing trouble.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use artfs::format::clock;
use artfs::format::header::HeaderError;
use artfs::format::id::{DetailsId, ManifestId, PackId};
use artfs::store::{Created, Key, OnMissing, OpenError, Store, StoreError, StoreUrl};
use bytes::Bytes;
use futures::StreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use tokio::sync::Barrier;

use crate::support::environment::{noise, seed};
use crate::support::faults::{Fault, FaultyStore, Op, passing_trouble};
use crate::support::gcs::{GcsServer, TOKEN_WITHOUT_RIGHTS};
use crate::support::s3::{Fault as Wire, S3Server};

/// Somewhere a store can be.
struct Place {
    url: String,
    backend: Arc<dyn ObjectStore>,
    /// Clients that the place itself turns away, where it checks credentials.
    strangers: Vec<Arc<dyn ObjectStore>>,
    _keep: Box<dyn Any + Send + Sync>,
}

fn settings<K: Into<String>>(pairs: impl IntoIterator<Item = (K, String)>) -> Vec<(String, String)> {
    pairs.into_iter().map(|(key, value)| (key.into(), value)).collect()
}

/// A store that is waited for so long only.
const SHORT: Duration = Duration::from_millis(500);

fn connect(url: &str, settings: &[(String, String)]) -> Arc<dyn ObjectStore> {
    url.parse::<StoreUrl>().expect("a URL").connect(settings, true).expect("a client").into()
}

impl Place {
    fn memory() -> Self {
        let backend = Arc::new(InMemory::new());
        Self { url: "memory".into(), backend, strangers: vec![], _keep: Box::new(()) }
    }

    fn directory() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let url = directory.path().join("a store").to_str().expect("UTF-8").to_owned();
        let backend = connect(&url, &[]);
        Self { url, backend, strangers: vec![], _keep: Box::new(directory) }
    }

    fn s3() -> Self {
        let server = S3Server::spawn();
        let url = format!("s3://{}", server.bucket());
        let backend = connect(&url, &settings(server.env()));
        let mut wrong = settings(server.env());
        for (key, value) in &mut wrong {
            if key == "AWS_SECRET_ACCESS_KEY" {
                value.push('x');
            }
        }
        let strangers = vec![connect(&url, &wrong)];
        Self { url, backend, strangers, _keep: Box::new(server) }
    }

    fn gcs() -> Self {
        let server = GcsServer::spawn();
        let url = format!("gs://{}", server.bucket());
        let backend = connect(&url, &settings(server.env()));
        let tokens = ["ya29.unknown", TOKEN_WITHOUT_RIGHTS];
        let mut strangers = tokens.map(|token| connect(&url, &settings(server.env_with(token)))).to_vec();
        strangers.push(connect(&url, &key_without_token(&server)));
        Self { url, backend, strangers, _keep: Box::new(server) }
    }

    /// A bucket of an S3 server that `scripts/test-servers` started, under a prefix of its own.
    fn moto() -> Self {
        let url = format!("s3://{TEST_BUCKET}/some/{}", PackId::of(&clock::system().random16()));
        let backend = connect(&url, &moto_settings(&endpoint("MOTO")));
        Self { url, backend, strangers: vec![], _keep: Box::new(()) }
    }

    /// A container of an Azure emulator that `scripts/test-servers` started, under a prefix of its own.
    fn azurite() -> Self {
        let url = format!("az://{TEST_BUCKET}/some/{}", PackId::of(&clock::system().random16()));
        let backend = connect(&url, &azurite_settings(AZURITE_KEY));
        let strangers = vec![connect(&url, &azurite_settings("d3Jvbmc="))];
        Self { url, backend, strangers, _keep: Box::new(()) }
    }

    /// The same place, where now and then a request fails that is safe to repeat.
    fn in_passing_trouble(self) -> Self {
        let faulty = FaultyStore::new(self.backend.clone());
        faulty.set_fault(passing_trouble(seed(), 12));
        Self { backend: faulty, ..self }
    }

    async fn open(&self) -> Result<Store, OpenError> {
        Store::open(self.backend.clone(), &self.url, OnMissing::Create, clock::system()).await
    }

    async fn store(&self) -> Arc<Store> {
        Arc::new(self.open().await.expect("the store opens"))
    }
}

/// The bucket that `scripts/test-servers` makes on each server.
const TEST_BUCKET: &str = "artfs-test";
/// The account that Azurite knows, and its key; both are public.
const AZURITE_ACCOUNT: &str = "devstoreaccount1";
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Where a server is that `scripts/test-servers` started.
fn endpoint(server: &str) -> String {
    let name = format!("ARTFS_TEST_{server}");
    std::env::var(&name).unwrap_or_else(|_| panic!("scripts/test-servers sets {name}"))
}

fn moto_settings(endpoint: &str) -> Vec<(String, String)> {
    settings([
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
    ])
}

fn azurite_settings(key: &str) -> Vec<(String, String)> {
    settings([
        ("AZURE_STORAGE_ACCOUNT_NAME", AZURITE_ACCOUNT.to_owned()),
        ("AZURE_STORAGE_ACCOUNT_KEY", key.to_owned()),
        ("AZURE_STORAGE_ENDPOINT", endpoint("AZURITE")),
    ])
}

/// The settings of a client of an emulator: a key file's contents that name the address and turn tokens off.
fn key_without_token(server: &GcsServer) -> Vec<(String, String)> {
    let key = serde_json::json!({
        "private_key": "", "private_key_id": "", "client_email": "",
        "disable_oauth": true, "gcs_base_url": server.endpoint(),
    });
    settings([("GOOGLE_SERVICE_ACCOUNT_KEY", key.to_string())])
}

macro_rules! for_every_place {
    ($($promise:ident)*) => {
        for_every_place!(@ memory Place::memory(); $($promise)*);
        for_every_place!(@ directory Place::directory(); $($promise)*);
        for_every_place!(@ s3 Place::s3(); $($promise)*);
        for_every_place!(@ gcs Place::gcs(); $($promise)*);
        for_every_place!(@ memory_in_passing_trouble Place::memory().in_passing_trouble(); $($promise)*);
        for_every_place!(@ directory_in_passing_trouble Place::directory().in_passing_trouble(); $($promise)*);
        for_every_place!(@ s3_in_passing_trouble Place::s3().in_passing_trouble(); $($promise)*);
        for_every_place!(@ gcs_in_passing_trouble Place::gcs().in_passing_trouble(); $($promise)*);
        for_every_place!(@ #[ignore = "run scripts/test-servers moto"] moto Place::moto(); $($promise)*);
        for_every_place!(@ #[ignore = "run scripts/test-servers azurite"] azurite Place::azurite(); $($promise)*);
    };
    (@ $place:ident $make:expr; $($promise:ident)*) => {
        for_every_place!(@ #[cfg(test)] $place $make; $($promise)*);
    };
    (@ #$attribute:tt $place:ident $make:expr; $($promise:ident)*) => {
        mod $place {
            use super::Place;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                #$attribute
                async fn $promise() {
                    super::$promise($make).await;
                }
            )*
        }
    };
}

for_every_place! {
    of_eight_concurrent_creators_exactly_one_wins
    after_lost_answers_all_creators_agree_on_one_winner
    hosts_that_open_a_new_store_at_once_agree_on_its_identity
    what_was_put_is_got_whole_and_in_ranges
    a_put_may_be_repeated_and_a_created_object_stays
    missing_short_and_denied_are_different_errors
    a_full_store_says_so
    a_listing_is_complete_and_ordered_beyond_one_page
    folders_are_listed_once_each
    listings_tell_sizes_and_the_stores_time
    a_deletion_may_be_repeated_and_hits_one_object
    requests_and_bytes_are_counted
    what_is_no_store_is_refused_and_left_alone
    a_store_of_a_newer_format_is_refused
    credentials_that_are_denied_are_told_from_an_unreachable_store
}

fn artifact() -> artfs::format::name::ArtifactKey {
    "proj/model".parse().expect("a name")
}

fn event(seq: u64) -> Key {
    Key::Event(artifact(), seq)
}

fn pack(n: u64) -> Key {
    Key::Pack(PackId::of(&n.to_le_bytes()))
}

const CREATORS: usize = 8;

async fn of_eight_concurrent_creators_exactly_one_wins(place: Place) {
    let store = place.store().await;
    for round in 0..60 {
        let start = Arc::new(Barrier::new(CREATORS));
        let racers = (0..CREATORS).map(|racer| {
            let (store, start) = (store.clone(), start.clone());
            tokio::spawn(async move {
                let body = format!("racer {racer} of round {round}");
                start.wait().await;
                (store.create(&event(round), body.clone().into()).await, body)
            })
        });
        let mut winners = vec![];
        for racer in racers.collect::<Vec<_>>() {
            match racer.await.expect("a racer does not panic") {
                (Ok(Created::Yes), body) => winners.push(body),
                (Ok(Created::Exists(_)), _) => {}
                (other, body) => panic!("{body}: {other:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        assert_eq!(store.get(&event(round)).await.expect("the winner's object"), winners[0]);
    }
}

async fn after_lost_answers_all_creators_agree_on_one_winner(place: Place) {
    let seed = seed();
    let faulty = FaultyStore::new(place.backend.clone());
    let store = Arc::new(
        Store::open(faulty.clone(), &place.url, OnMissing::Create, clock::system()).await.expect("it opens"),
    );
    faulty.set_fault(move |call| match (call.op, noise(seed, call.n, 1)[0] % 4) {
        (Op::Create, 0) => Fault::ErrorBefore,
        (Op::Create, 1) => Fault::ErrorAfter,
        (Op::Create, 2) => Fault::AlreadyExistsWithoutEffect,
        _ => Fault::None,
    });
    for round in 0..20 {
        let racers = (0..CREATORS).map(|racer| {
            let store = store.clone();
            tokio::spawn(async move {
                let body = format!("racer {racer} of round {round}");
                // What a writer of the log does: the object itself says whose it is.
                loop {
                    let said = store.create(&event(round), body.clone().into()).await.expect("no hard error");
                    match store.get(&event(round)).await {
                        Ok(found) => {
                            let sure = matches!(said, Created::Yes);
                            assert!(!sure || found == body, "a sure winner is the winner");
                            return (found == body, found);
                        }
                        Err(StoreError::NotFound { .. }) => {
                            assert!(!matches!(said, Created::Yes), "what was created is there");
                        }
                        Err(e) => panic!("{e}"),
                    }
                }
            })
        });
        let mut winners = 0;
        let mut seen = std::collections::BTreeSet::new();
        for racer in racers.collect::<Vec<_>>() {
            let (mine, found) = racer.await.expect("a racer does not panic");
            winners += usize::from(mine);
            seen.insert(found);
        }
        assert_eq!((winners, seen.len()), (1, 1), "round {round}, seed {seed}: {seen:?}");
    }
}

async fn hosts_that_open_a_new_store_at_once_agree_on_its_identity(place: Place) {
    let place = Arc::new(place);
    let start = Arc::new(Barrier::new(CREATORS));
    let hosts = (0..CREATORS).map(|_| {
        let (place, start) = (place.clone(), start.clone());
        tokio::spawn(async move {
            start.wait().await;
            place.store().await.id()
        })
    });
    let mut ids = std::collections::HashSet::new();
    for host in hosts.collect::<Vec<_>>() {
        ids.insert(host.await.expect("a host does not panic"));
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(ids.contains(&place.store().await.id()));
}

async fn what_was_put_is_got_whole_and_in_ranges(place: Place) {
    let store = place.store().await;
    let body = Bytes::from(noise(1, 0, 3 << 20));
    let pieces = vec![body.slice(..1), body.slice(1..1), body.slice(1..1_000_000), body.slice(1_000_000..)];
    store.put(&pack(1), pieces).await.expect("put");
    assert_eq!(store.get(&pack(1)).await.expect("get"), body);
    for range in [0..1, 5..5, 0..body.len(), 1_000_000..2_000_000, body.len() - 1..body.len()] {
        let got = store.get_range(&pack(1), range.start as u64..range.end as u64).await;
        assert_eq!(got.unwrap_or_else(|e| panic!("{range:?}: {e}")), body[range.clone()], "{range:?}");
    }
    assert_eq!(store.get_tail(&pack(1), 12).await.expect("tail"), body[body.len() - 12..]);
    assert_eq!(store.get_tail(&pack(1), u64::MAX).await.expect("all of it"), body);

    store.put(&pack(2), vec![]).await.expect("put of nothing");
    assert_eq!(store.get(&pack(2)).await.expect("get of nothing"), "");
    assert_eq!(store.get_tail(&pack(2), 12).await.expect("tail of nothing"), "");
}

async fn a_put_may_be_repeated_and_a_created_object_stays(place: Place) {
    let store = place.store().await;
    let key = Key::Manifest(artifact(), ManifestId::of(b"m"));
    for _ in 0..3 {
        store.put(&key, vec!["the same".into()]).await.expect("put");
    }
    assert_eq!(store.get(&key).await.expect("get"), "the same");
    assert!(matches!(store.create(&event(0), "first".into()).await, Ok(Created::Yes)));
    for body in ["first", "second"] {
        assert!(matches!(store.create(&event(0), body.into()).await, Ok(Created::Exists(_))));
    }
    assert_eq!(store.get(&event(0)).await.expect("get"), "first");
}

async fn missing_short_and_denied_are_different_errors(place: Place) {
    let store = place.store().await;
    let name = pack(1).to_string();
    let missing =
        [store.get(&pack(1)).await, store.get_range(&pack(1), 0..4).await, store.get_tail(&pack(1), 4).await];
    for answer in missing {
        let error = answer.expect_err("there is no such object");
        assert!(matches!(&error, StoreError::NotFound { key } if *key == name), "{error:?}");
        assert_eq!(error.to_string(), format!("{name} is not in the store"));
    }
    store.put(&pack(1), vec!["0123456789".into()]).await.expect("put");
    for range in [0..11, 9..12, 10..11, 500..501] {
        let error = store.get_range(&pack(1), range.clone()).await.expect_err("it is too short");
        assert!(matches!(&error, StoreError::Corrupt { key, .. } if *key == name), "{range:?}: {error:?}");
        assert!(!error.is_transient());
    }
    for stranger in strangers(&place) {
        // A server on a busy machine has time to refuse.
        let limit = 6 * SHORT;
        let store = Store::assume(stranger, &place.url, store.header().clone(), clock::system(), limit);
        let denied = [
            store.get(&pack(1)).await.map(drop),
            store.get_range(&pack(1), 0..1).await.map(drop),
            store.put(&pack(2), vec!["x".into()]).await,
            store.create(&event(0), "x".into()).await.map(drop),
            store.list("packs", None).await.map(drop),
            store.list_folders("packs").await.map(drop),
        ];
        for (i, answer) in denied.into_iter().enumerate() {
            let error = answer.expect_err("denied");
            // They are denied everything, the header too: to them the store is away.
            assert!(error.is_transient(), "{i}: {error:?}");
            assert!(error.to_string().contains("the store denies access: "), "{error}");
            assert!(error.to_string().contains("check the credentials"), "{error}");
        }
    }
    assert!(matches!(store.get(&pack(2)).await, Err(StoreError::NotFound { .. })), "nothing was written");
}

/// Clients that are turned away: by the place itself where it can, and by a decorator everywhere.
fn strangers(place: &Place) -> Vec<Arc<dyn ObjectStore>> {
    let faulty = FaultyStore::new(place.backend.clone());
    faulty.set_fault(|_| Fault::Denied);
    let decorated: Arc<dyn ObjectStore> = faulty;
    place.strangers.iter().cloned().chain([decorated]).collect()
}

async fn a_full_store_says_so(place: Place) {
    let faulty = FaultyStore::new(place.backend.clone());
    let store = Store::open(faulty.clone(), &place.url, OnMissing::Create, clock::system()).await;
    let store = store.expect("it opens");
    faulty.set_fault(|_| Fault::Full);
    let refused =
        [store.put(&pack(1), vec!["x".into()]).await, store.create(&event(0), "x".into()).await.map(drop)];
    for answer in refused {
        let error = answer.expect_err("there is no room");
        assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
        assert!(error.to_string().starts_with("the store is full: "), "{error}");
    }
    assert_eq!(faulty.calls().len(), 2, "a full store is not asked again");
}

async fn a_listing_is_complete_and_ordered_beyond_one_page(place: Place) {
    const EVENTS: u64 = 1234;
    let store = place.store().await;
    assert_eq!(store.list("artifacts/proj/model/log", None).await.expect("an empty listing"), [""; 0]);
    let written = futures::stream::iter((0..EVENTS).rev())
        .map(|seq| {
            let store = store.clone();
            async move { store.create(&event(seq), "x".into()).await.expect("create") }
        })
        .buffer_unordered(32)
        .collect::<Vec<_>>()
        .await;
    assert!(written.iter().all(|created| matches!(created, Created::Yes)));
    // Neighbours whose names begin alike, and other objects of the artifact, are not in the log's folder.
    let neighbour = Key::Event("proj/model2".parse().expect("a name"), 0);
    assert!(matches!(store.create(&neighbour, "x".into()).await, Ok(Created::Yes)));
    store.put(&Key::Details(artifact(), DetailsId::from_bytes([1; 16])), vec![]).await.expect("put");

    let names = |from| (from..EVENTS).map(|seq| event(seq).to_string()).collect::<Vec<_>>();
    let prefix = "artifacts/proj/model/log";
    assert_eq!(store.list(prefix, None).await.expect("list"), names(0));
    for after in [0, 17, 1000, EVENTS - 2, EVENTS - 1] {
        let found = store.list(prefix, Some(&event(after))).await.expect("list");
        assert_eq!(found, names(after + 1), "after {after}");
    }
}

async fn folders_are_listed_once_each(place: Place) {
    let store = place.store().await;
    assert_eq!(store.list_folders("artifacts").await.expect("an empty listing"), [""; 0]);
    for name in ["b/x", "b/y", "a/z", "b-c/x", "A/x"] {
        for seq in 0..3 {
            let key = Key::Event(name.parse().expect("a name"), seq);
            assert!(matches!(store.create(&key, "x".into()).await, Ok(Created::Yes)));
        }
    }
    assert_eq!(store.list_folders("artifacts").await.expect("list"), ["A", "a", "b", "b-c"]);
    assert_eq!(store.list_folders("artifacts/b").await.expect("list"), ["x", "y"]);
    assert_eq!(store.list_folders("artifacts/none").await.expect("list"), [""; 0]);
}

async fn listings_tell_sizes_and_the_stores_time(place: Place) {
    let store = place.store().await;
    let shown = || async {
        let mut shown = std::collections::BTreeMap::new();
        store
            .visit("packs", |object| drop(shown.insert(object.path.clone(), object)))
            .await
            .expect("a visit");
        shown
    };
    assert!(shown().await.is_empty());
    let keys: Vec<Key> = (0..1100).map(pack).collect();
    futures::stream::iter(&keys)
        .for_each_concurrent(32, |key| async { store.put(key, vec!["12345".into()]).await.expect("put") })
        .await;
    store.put(&pack(0), vec!["1".into()]).await.expect("put");
    let found = shown().await;
    let names: std::collections::BTreeSet<String> = keys.iter().map(Key::to_string).collect();
    assert_eq!(found.keys().cloned().collect::<std::collections::BTreeSet<_>>(), names);
    assert!(
        found.values().all(|object| object.size == if object.path == pack(0).to_string() { 1 } else { 5 })
    );
    // What is written later is not older, to the second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let clock = Key::Clock(artfs::format::id::TokenId::from_bytes([1; 16]));
    store.put(&clock, vec![]).await.expect("put");
    let now = store.stat(&clock).await.expect("its attributes");
    assert_eq!((now.path, now.size), (clock.to_string(), 0));
    assert!(found.values().all(|object| object.modified < now.modified), "{:?}", now.modified);
    let missing = store.stat(&pack(5000)).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })), "{missing:?}");
}

async fn a_deletion_may_be_repeated_and_hits_one_object(place: Place) {
    let store = place.store().await;
    for n in 0..3 {
        store.put(&pack(n), vec!["x".into()]).await.expect("put");
    }
    for _ in 0..2 {
        store.delete(&pack(1)).await.expect("deleted, or not there any more");
        assert!(matches!(store.get(&pack(1)).await, Err(StoreError::NotFound { .. })));
    }
    store.get(&pack(0)).await.expect("it is there");
    store.get(&pack(2)).await.expect("it is there");
    // The last object of a folder leaves nothing behind that is in anybody's way.
    store.delete(&pack(0)).await.expect("deleted");
    store.delete(&pack(2)).await.expect("deleted");
    assert_eq!(store.list("packs", None).await.expect("a listing"), [""; 0]);
    store.put(&pack(0), vec!["again".into()]).await.expect("put");
    assert_eq!(store.get(&pack(0)).await.expect("it is there"), "again");
    for stranger in strangers(&place) {
        let store = Store::assume(stranger, &place.url, store.header().clone(), clock::system(), SHORT);
        let denied = store.delete(&pack(0)).await;
        assert!(denied.is_err_and(|e| e.to_string().contains("the store denies access: ")));
    }
    store.get(&pack(0)).await.expect("it was not deleted");
}

async fn requests_and_bytes_are_counted(place: Place) {
    let quiet = FaultyStore::new(place.backend.clone());
    drop(place.store().await);
    let open = Store::open(quiet.clone(), &place.url, OnMissing::Fail, clock::system());
    let store = open.await.expect("it opens");
    let header = store.header().encode().len() as u64;
    store.put(&pack(1), vec!["01234".into(), "56789".into()]).await.expect("put");
    store.create(&event(0), "abc".into()).await.expect("create");
    store.get(&pack(1)).await.expect("get");
    store.get_range(&pack(1), 2..4).await.expect("range");
    store.list("packs", None).await.expect("list");
    store.visit("packs", drop).await.expect("visit");
    store.delete(&pack(2)).await.expect("delete");
    let counts = store.counts();
    // Attempts count; bytes count once they are there.
    let made = |op| quiet.ops().into_iter().filter(|made| *made == op).count() as u64;
    let asked = [counts.get, counts.get_range, counts.put, counts.create, counts.list, counts.delete];
    assert_eq!(asked, [Op::Get, Op::GetRange, Op::Put, Op::Create, Op::List, Op::Delete].map(made));
    assert!(counts.get >= 2 && asked[1..6].iter().all(|n| *n >= 1), "{counts:?}");
    assert_eq!((counts.bytes_written, counts.bytes_fetched), (13, header + 10 + 2));
}

async fn what_is_no_store_is_refused_and_left_alone(place: Place) {
    let empty = Store::open(place.backend.clone(), &place.url, OnMissing::Fail, clock::system()).await;
    let error = empty.expect_err("nothing is there");
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
    assert!(error.to_string().contains("it is empty"), "{error}");

    put_raw(&place, "photos/1.jpg", "x".to_owned()).await;
    let error = place.open().await.expect_err("it holds other things");
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.starts_with(&format!("{} is not an artfs store: ", place.url)), "{text}");
    assert!(text.contains("photos/1.jpg"), "{text}");

    put_raw(&place, "artfs.json", "hello".to_owned()).await;
    let error = place.open().await.expect_err("a header that is none");
    assert!(
        matches!(&error, OpenError::Header { source: HeaderError::Format(_), .. })
            && error.to_string().contains("artfs.json"),
        "{error:?}"
    );
}

async fn a_store_of_a_newer_format_is_refused(place: Place) {
    let header = place.store().await.header().encode();
    let newer = String::from_utf8(header).expect("JSON").replace("\"format\": 1", "\"format\": 2");
    put_raw(&place, "artfs.json", newer).await;
    let error = place.open().await.expect_err("a newer format");
    assert!(matches!(error, OpenError::Header { source: HeaderError::Newer { found: 2 }, .. }), "{error:?}");
    let url = &place.url;
    assert_eq!(
        error.to_string(),
        format!(
            "cannot use the store {url}: the store has format 2, this artfs reads up to format 1: use a newer artfs"
        )
    );
}

/// Writes past the store, trying again where the place is in trouble.
async fn put_raw(place: &Place, path: &str, body: String) {
    // Into a directory by hand: the backend itself refuses to write where there is no store.
    if place.url.starts_with('/') {
        let file = std::path::Path::new(&place.url).join(path);
        std::fs::create_dir_all(file.parent().expect("it has a parent")).expect("folder");
        return std::fs::write(file, body).expect("write");
    }
    for _ in 0..3 {
        if place.backend.put(&path.into(), body.clone().into()).await.is_ok() {
            return;
        }
    }
    panic!("{path} cannot be written");
}

async fn credentials_that_are_denied_are_told_from_an_unreachable_store(place: Place) {
    drop(place.store().await);
    for stranger in strangers(&place) {
        let denied = Store::open(stranger, &place.url, OnMissing::Create, clock::system()).await;
        let error = denied.expect_err("denied");
        assert!(matches!(&error, OpenError::Store { source: StoreError::Denied { .. }, .. }), "{error:?}");
        assert!(error.to_string().contains("denies access to artfs.json"), "{error}");
        assert!(error.to_string().contains("check the credentials and the bucket's policy"), "{error}");
    }
    let dead = FaultyStore::new(place.backend.clone());
    dead.kill();
    let gone = Store::open_within(dead.clone(), &place.url, OnMissing::Create, clock::system(), SHORT).await;
    let error = gone.expect_err("unreachable");
    assert!(matches!(&error, OpenError::Store { source: StoreError::Unavailable { .. }, .. }), "{error:?}");
    assert!(error.to_string().contains("cannot be reached for artfs.json"), "{error}");
    let tried = dead.calls().len();
    assert!((3..=30).contains(&tried), "trouble that may pass is tried {tried} times and not for ever");
}

// What only some places have

/// Opening and every request later say that the bucket is missing; none takes it for a missing object.
async fn missing_bucket(url: &str, settings: &[(String, String)]) {
    let backend = connect(url, settings);
    let error = Store::open(backend.clone(), url, OnMissing::Create, clock::system()).await;
    let error = error.expect_err("there is no such bucket");
    assert!(matches!(error, OpenError::NoBucket { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("the bucket of {url} does not exist: make it first, or check its name, region and endpoint")
    );

    let header = Store::open(Arc::new(InMemory::new()), "memory", OnMissing::Create, clock::system()).await;
    let header = header.expect("it opens").header().clone();
    let quiet = FaultyStore::new(backend);
    let gone = Store::assume(quiet.clone(), url, header, clock::system(), SHORT);
    // Nobody may conclude that a log has ended, or that a write was done.
    let answers = [
        gone.get(&event(0)).await.map(drop),
        gone.get_range(&pack(1), 0..1).await.map(drop),
        gone.get_tail(&pack(1), 1).await.map(drop),
        gone.put(&pack(1), vec!["x".into()]).await,
        gone.create(&event(0), "x".into()).await.map(drop),
        gone.list("packs", None).await.map(drop),
        gone.list("packs", Some(&pack(1))).await.map(drop),
        gone.list_folders("packs").await.map(drop),
    ];
    for (i, answer) in answers.into_iter().enumerate() {
        let error = answer.expect_err("the bucket is not there");
        // It may be made again, or another server answer: until then the store is away.
        assert!(error.is_transient(), "{i}: {error:?}");
        assert!(
            error.to_string().contains("its bucket does not exist: check its name, region and"),
            "{error}"
        );
    }
    let made = |op| quiet.ops().into_iter().filter(|made| *made == op).count();
    assert_eq!((made(Op::Put), made(Op::Create)), (0, 0), "what is known to be away is not asked");
}

#[tokio::test]
async fn a_bucket_that_is_not_there_is_named() {
    let (s3, gcs) = (S3Server::spawn(), GcsServer::spawn());
    missing_bucket("s3://other-bucket", &settings(s3.env())).await;
    missing_bucket("s3://other-bucket/with/prefix", &settings(s3.env())).await;
    missing_bucket("gs://other-bucket", &settings(gcs.env())).await;
    missing_bucket("gs://other-bucket/with/prefix", &settings(gcs.env())).await;
}

#[tokio::test]
#[ignore = "run scripts/test-servers moto"]
async fn a_bucket_that_is_not_there_is_named_by_moto() {
    missing_bucket("s3://other-bucket", &moto_settings(&endpoint("MOTO"))).await;
}

#[tokio::test]
#[ignore = "run scripts/test-servers azurite"]
async fn a_container_that_is_not_there_is_named_by_azurite() {
    missing_bucket("az://other-container/prefix", &azurite_settings(AZURITE_KEY)).await;
}

/// A bucket's refusals of a creation, by status: 409 and 412 both mean that another was first.
#[tokio::test]
async fn a_creation_that_lost_is_no_success_and_no_failure() {
    let (s3, gcs) = (S3Server::spawn(), GcsServer::spawn());
    for (server, url, env) in [(&s3, "s3", s3.env()), (&*gcs, "gs", gcs.env())] {
        let url = format!("{url}://{}", server.bucket());
        let backend = connect(&url, &settings(env));
        let store = Store::open(backend, &url, OnMissing::Create, clock::system()).await.expect("it opens");
        for status in [409, 412] {
            server.set_fault(move |_| Wire::ErrorBefore(status));
            server.clear_requests();
            let created = store.create(&event(0), "mine".into()).await;
            assert!(matches!(created, Ok(Created::Exists(_))), "{url}, {status}: {created:?}");
            assert_eq!(server.requests().len(), 1, "{url}, {status}");
        }
        server.clear_fault();
        assert!(matches!(store.create(&event(0), "mine".into()).await, Ok(Created::Yes)), "{url}");
    }
}

#[tokio::test]
async fn the_gcs_server_refuses_what_it_does_not_do() {
    let server = GcsServer::spawn();
    let url = format!("gs://{}", server.bucket());
    let backend = connect(&url, &settings(server.env()));
    let path = object_store::path::Path::from("x");
    let first = backend.put(&path, "1".into()).await.expect("put");
    let second = backend.put(&path, "2".into()).await.expect("put");
    assert!(first.version.is_some() && first.version != second.version, "{first:?}, {second:?}");
    let found = backend.head(&path).await.expect("head");
    assert_eq!((&found.version, &found.e_tag), (&second.version, &second.e_tag));
    // Conditions on generations other than 0 are not honoured, so they are not taken either.
    let update = object_store::PutMode::Update(first.into());
    let refused = backend.put_opts(&path, "3".into(), update.into()).await.expect_err("not implemented");
    assert!(refused.to_string().contains("501"), "{refused}");
    assert_eq!(server.object("x").expect("it is there"), "2");
}

#[tokio::test]
async fn an_endpoint_where_nobody_listens_is_unreachable() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its number");
    let url = "s3://bucket";
    let backend = connect(url, &moto_settings(&format!("http://{free}")));
    let error = Store::open(backend, url, OnMissing::Create, clock::system()).await.expect_err("nobody");
    assert!(matches!(&error, OpenError::Store { source: StoreError::Unavailable { .. }, .. }), "{error:?}");
    assert!(
        error.to_string().starts_with("cannot open the store s3://bucket: the store cannot be reached"),
        "{error}"
    );
}

#[test]
fn a_directory_that_is_not_there_or_is_a_file_is_no_store() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let missing = directory.path().join("none").to_str().expect("UTF-8").to_owned();
    let error = missing.parse::<StoreUrl>().expect("a path").connect(&[], false).expect_err("not there");
    assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
    assert!(error.to_string().contains("there is no such directory"), "{error}");
    assert!(!std::path::Path::new(&missing).exists(), "looking makes nothing");

    let file = directory.path().join("file");
    std::fs::write(&file, "x").expect("a file");
    let url: StoreUrl = file.to_str().expect("UTF-8").parse().expect("a path");
    for create in [true, false] {
        let error = url.connect(&[], create).expect_err("a file");
        assert!(matches!(error, OpenError::NotAStore { .. }), "{error:?}");
        assert!(error.to_string().contains("it is not a directory"), "{error}");
    }
}

#[tokio::test]
async fn a_store_that_changed_between_requests_is_never_served_in_part() {
    let (s3, gcs) = (S3Server::spawn(), GcsServer::spawn());
    never_in_part(&s3, "s3", settings(s3.env())).await;
    never_in_part(&gcs, "gs", settings(gcs.env())).await;
}

async fn never_in_part(server: &S3Server, scheme: &str, settings: Vec<(String, String)>) {
    let url = format!("{scheme}://{}", server.bucket());
    let backend = connect(&url, &settings);
    let store = Store::open_within(backend, &url, OnMissing::Create, clock::system(), SHORT).await;
    let store = store.expect("it opens");
    store.put(&pack(1), vec![noise(1, 1, 100_000).into()]).await.expect("put");
    // The connection ends in the middle of the body: tried again, and whole.
    server.set_fault(|request| if request.n == 0 { Wire::Truncate(5) } else { Wire::None });
    assert_eq!(store.get(&pack(1)).await.expect("get"), noise(1, 1, 100_000));
    // An answer that looks whole and is too short for the range is never taken for the range.
    server.set_fault(|_| Wire::Shorten(5));
    let short = store.get_range(&pack(1), 10..90_000).await;
    assert!(short.is_err(), "{} bytes", short.map(|bytes| bytes.len()).unwrap_or(0));
    server.clear_fault();
    store.ask_again().await.expect("it answers as it should");
    for fault in [Wire::DropBefore, Wire::DropAfter, Wire::ErrorAfter(500), Wire::ErrorBefore(503)] {
        server.set_fault(move |request| if request.n == 0 { fault } else { Wire::None });
        store.put(&pack(2), vec!["again".into()]).await.unwrap_or_else(|e| panic!("{fault:?}: {e}"));
        assert_eq!(server.object(&pack(2).to_string()).expect("it is there"), "again");
        assert!(server.remove_object(&pack(2).to_string()));
    }
    // One lost answer of a create leaves doubt, and is not repeated behind the caller's back.
    for fault in [Wire::DropAfter, Wire::ErrorAfter(500), Wire::ErrorAfter(503)] {
        server.set_fault(move |request| if request.n == 0 { fault } else { Wire::None });
        server.clear_requests();
        let created = store.create(&event(0), "mine".into()).await;
        assert!(matches!(created, Ok(Created::Unknown(_))), "{fault:?}: {created:?}");
        let key = event(0).to_string();
        assert_eq!(server.requests().iter().filter(|made| made.key == key).count(), 1, "{fault:?}");
        assert!(server.remove_object(&event(0).to_string()));
    }
}
