//! Commits through the committer, read back by the judge in tests/support.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use artfs::format::event::{Event, EventBody};
use artfs::format::id::{ArtifactId, EventHash, EventId, StoreId};
use artfs::format::name::{Selector, VersionNumber};
use artfs::repo::catalog::{AliasPrecondition, Catalog, CatalogError, EditError};
use artfs::repo::commit::{
    ChunkIndex, CommitError, CommitProgress, Committer, LocalTree, NewVersion, Settings, TreeSource,
    TreeVisitor,
};
use artfs::store::{Key, StoreError};
use futures::TryStreamExt;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::json;
use tempfile::TempDir;

use crate::host::{ARTIFACT, Host, directory, judged, key, memory, small_tree, version};
use crate::read_context;
use crate::support::environment::{noise, seed};
use crate::support::faults::{Call, Fault, FaultyStore, Op};
use crate::support::read_back::{Judge, Kind, Tree, Version, assert_same, tree_of};

// What a version keeps

/// Commits the directory and proves that the judge reads the same tree; gives the version.
async fn round_trip(tree: &Path) -> Version {
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    let outcome = host.commit(tree).await;
    let version = judged(&backend).await.pop().expect("there is a version");
    assert_same(&version.tree, &tree_of(tree));
    assert_eq!((outcome.created, outcome.version), (true, VersionNumber(0)));
    assert_eq!((outcome.files, outcome.bytes), (version.commit.files, version.commit.bytes));
    assert_eq!(outcome.digest, version.commit.digest);
    version
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_content_comes_back_as_it_was() {
    let tree = directory();
    let at = |name: &str| tree.path().join(name);
    let text: String = (0..40_000).map(|i| format!("{i},{},some text\n", i * 7 % 1000)).collect();
    let files: [(&str, Vec<u8>); 12] = [
        ("empty", vec![]),
        ("one byte", vec![7]),
        ("largest inline", noise(1, 1, 512)),
        ("smallest chunk", noise(1, 2, 513)),
        ("inline zeros", vec![0; 100]),
        ("one chunk.bin", noise(1, 3, 50_000)),
        ("four chunks or fewer.bin", noise(1, 4, 700_000)),
        ("many chunks.bin", noise(1, 5, 9 << 20)),
        ("batch.bin", noise(1, 6, 4 << 20)),
        ("table.csv", text.into_bytes()),
        ("zeros.bin", vec![0; 2_500_001]),
        ("zeros.txt", vec![0; 64 << 10]),
    ];
    for (name, content) in &files {
        fs::write(at(name), content).expect("a file");
    }
    let version = round_trip(tree.path()).await;
    let form = |name: &str| version.chunks[name.as_bytes()];
    assert_eq!(form("empty"), None);
    assert_eq!(form("largest inline"), None);
    assert_eq!(form("smallest chunk"), Some((0, 1)));
    assert_eq!(form("one chunk.bin"), Some((0, 1)));
    assert_eq!(form("zeros.bin"), Some((0, 3)));
    assert!(matches!(form("many chunks.bin"), Some((1, 9..=144))), "{:?}", form("many chunks.bin"));
    assert!(matches!(form("table.csv"), Some((1, 12..))), "{:?}", form("table.csv"));
}

#[tokio::test(flavor = "multi_thread")]
async fn links_empty_directories_modes_and_times_come_back_as_they_were() {
    let tree = directory();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("a/b/empty")).expect("directories");
    fs::write(at("a/run.sh"), "#!/bin/sh\n").expect("a file");
    for (name, mode) in [("a/run.sh", 0o755), ("only-owner", 0o700), ("private", 0o600), ("group", 0o650)] {
        fs::write(at(name), name).expect("a file");
        fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }
    symlink("a/run.sh", at("link")).expect("a link");
    symlink("nowhere/at all", at("a/dangling")).expect("a link");
    symlink("x".repeat(4000), at("a/long")).expect("a link");
    symlink(std::ffi::OsStr::from_bytes(b"\xff\n%"), at("a/odd")).expect("a link");
    fs::write(at("hard"), "linked").expect("a file");
    fs::hard_link(at("hard"), at("hard too")).expect("a hard link");
    let long_ago = UNIX_EPOCH - Duration::new(86_400 * 365, 250_000_001);
    let times: [(&str, SystemTime); 3] = [
        ("private", long_ago),
        ("group", UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789)),
        ("a/b/empty", UNIX_EPOCH),
    ];
    for (name, time) in times {
        fs::File::open(at(name)).and_then(|file| file.set_modified(time)).expect("a time");
    }
    let version = round_trip(tree.path()).await;
    let executable = |name: &str| match &version.tree[name.as_bytes()].kind {
        Kind::File { executable, .. } => *executable,
        other => panic!("{name}: {other:?}"),
    };
    assert_eq!(
        ["a/run.sh", "only-owner", "private", "group"].map(executable),
        [true, true, false, false],
        "the owner's bit counts"
    );
    assert_eq!(version.tree[&b"a/b/empty"[..]].kind, Kind::Directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_at_their_limits_and_of_any_bytes_come_back_as_they_were() {
    let tree = directory();
    let names: [&[u8]; 9] = [
        b"\xff\xfe not UTF-8",
        b"new\nline and \ttab",
        b"100% of it%00",
        b"-rf",
        "gr\u{fc}\u{df}e \u{1f600}".as_bytes(),
        &[b'n'; 255],
        &[0xc3; 255],
        b"back\\slash",
        b" ",
    ];
    for name in names {
        fs::write(tree.path().join(std::ffi::OsStr::from_bytes(name)), name).expect("a file");
    }
    // Component order is not byte order: what is in `d` comes before `d-` and `d.txt`.
    fs::create_dir(tree.path().join("d")).expect("a directory");
    for name in ["d/x", "d-", "d.txt", "d0"] {
        fs::write(tree.path().join(name), name).expect("a file");
    }
    // About as deep as a path can be named at once.
    fs::create_dir_all(tree.path().join(["p".repeat(255).as_str(); 15].join("/"))).expect("deep directories");
    let version = round_trip(tree.path()).await;
    assert_eq!(version.tree.len(), names.len() + 5 + 15);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_of_many_entries_is_read_back_through_its_index_blocks() {
    let tree = directory();
    for d in 0..50 {
        let below = tree.path().join(format!("d{d:02}"));
        fs::create_dir(&below).expect("a directory");
        for f in 0..100 {
            let content = noise(9, d * 100 + f, (f as usize % 8) * 100);
            fs::write(below.join(format!("file-{f:03}")), content).expect("a file");
        }
    }
    let version = round_trip(tree.path()).await;
    assert_eq!((version.commit.entries, version.commit.files), (5050, 5000));
    assert!(version.depth >= 1, "there are index blocks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_file_of_gigabytes_stores_nothing_of_its_holes() {
    const SIZE: u64 = (3 << 30) + 12_345;
    let tree = directory();
    let file = fs::File::create(tree.path().join("sparse.bin")).expect("a file");
    file.set_len(SIZE).expect("a sparse file");
    file.write_all_at(b"in the middle", 1_600_000_000).expect("a write");
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    let outcome = host.commit(tree.path()).await;
    let version = judged(&backend).await.pop().expect("there is a version");
    assert!(matches!(version.tree[&b"sparse.bin"[..]].kind, Kind::File { size: SIZE, .. }));
    assert_eq!(outcome.bytes, SIZE);
    let stored = host.store.counts().bytes_written;
    assert!(stored < 1 << 20, "{stored} bytes were written");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_version_cannot_keep_is_named_and_nothing_is_written() {
    let tree = small_tree(b"x");
    let fifo = |name: &str| {
        let path = std::ffi::CString::new(tree.path().join(name).as_os_str().as_bytes()).expect("no NUL");
        // SAFETY: `path` is a NUL-terminated string that lives through the call.
        assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    };
    fifo("pipe");
    fifo("a pipe");
    let _socket = std::os::unix::net::UnixListener::bind(tree.path().join("sock")).expect("a socket");
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    let refused = host.commit_as(tree.path(), &host.request(Settings::default())).await.expect_err("special");
    assert!(matches!(&refused, CommitError::Special(names) if names.len() == 3), "{refused:?}");
    for name in ["a pipe (FIFO)", "pipe (FIFO)", "sock (socket)"] {
        assert!(refused.to_string().contains(name), "{refused}");
    }
    let empty = host.commit_as(directory().path(), &host.request(Settings::default())).await;
    assert!(matches!(empty, Err(CommitError::Empty)), "{empty:?}");
    assert!(host.catalog.state(&key(), Duration::ZERO).await.expect("an answer").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_directory_is_the_root_and_several_paths_keep_their_names() {
    let tree = directory();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("d/below")).expect("directories");
    fs::write(at("d/below/f"), "f").expect("a file");
    fs::write(at("g.txt"), "g").expect("a file");
    symlink("d", at("link")).expect("a link");
    let cases = [
        (vec!["d"], vec!["below", "below/f"]),
        (vec!["link"], vec!["below", "below/f"]),
        (vec!["g.txt"], vec!["g.txt"]),
        (vec!["g.txt", "d"], vec!["d", "d/below", "d/below/f", "g.txt"]),
    ];
    for (paths, expected) in cases {
        let backend = memory();
        let host = Host::new(&backend, "h").await;
        let tree = LocalTree::new(&paths.iter().map(|p| at(p)).collect::<Vec<_>>()).expect("they exist");
        let request = host.request(Settings::default());
        let done = host.committer.commit(&request, Arc::default(), tree, |_| Ok(())).await;
        done.unwrap_or_else(|e| panic!("{paths:?}: {e}"));
        let tree = judged(&backend).await.pop().expect("a version").tree;
        let found: Vec<&[u8]> = tree.keys().map(Vec::as_slice).collect();
        assert_eq!(found, expected.iter().map(|p| p.as_bytes()).collect::<Vec<_>>(), "{paths:?}");
    }
    let twice = LocalTree::new(&[at("d"), at("d/../d")]);
    assert!(matches!(twice, Err(CommitError::SameName { .. })), "{twice:?}");
    assert!(matches!(LocalTree::new(&[at("none")]), Err(CommitError::Io { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_judge_of_these_tests_refuses_a_damaged_store() {
    let (backend, tree) = (memory(), new_content());
    Host::new(&backend, "h").await.commit(tree.path()).await;
    let paths: Vec<_> =
        backend.list(None).map_ok(|meta| meta.location).try_collect().await.expect("a listing");
    let content = paths.iter().filter(|p| p.as_ref().contains("packs/") || p.as_ref().contains("manifests/"));
    let mut damaged = 0;
    for path in content {
        let good = backend.get(path).await.expect("an object").bytes().await.expect("its bytes");
        for at in [0, good.len() / 3, good.len() - 1] {
            let mut bad = good.to_vec();
            bad[at] ^= 0x20;
            backend.put(path, bad.into()).await.expect("put");
            let backend = backend.clone();
            let judgement = tokio::spawn(async move { judged(&backend).await.len() }).await;
            assert!(judgement.is_err(), "byte {at} of {path}: {judgement:?}");
            damaged += 1;
        }
        backend.put(path, good.into()).await.expect("put");
    }
    assert!(damaged >= 6, "{damaged}");
    assert_eq!(judged(&backend).await.len(), 1, "whole again, it passes");
}

// Versions and numbers

#[tokio::test(flavor = "multi_thread")]
async fn identical_content_makes_no_version_and_says_what_it_was_asked_to_say() {
    let backend = memory();
    let (tree, host) = (small_tree(&noise(2, 1, 9000)), Host::new(&backend, "h").await);
    let first = host.commit(tree.path()).await;
    let again = host.commit(tree.path()).await;
    assert_eq!((again.created, again.version, again.digest), (false, first.version, first.digest));
    assert_eq!(Judge::new(backend.clone(), ARTIFACT).log().await.len(), 2, "nothing to say, no event");

    let other = Host::new(&backend, "other").await;
    let settings = Settings {
        message: Some("once more".into()),
        artifact_type: Some("dataset".into()),
        aliases: vec!["best".parse().expect("an alias")],
        tags: vec!["seen".into()],
        meta: [("f1".to_owned(), json!(0.5))].into(),
        ttl_seconds: Some(60),
        inputs: vec!["proj/raw:v1".into()],
        ..Settings::default()
    };
    let request = other.request(settings);
    for _ in 0..2 {
        // The second time it finds the first.
        let said = other.commit_as(tree.path(), &request).await.expect("it succeeds");
        assert_eq!((said.created, said.version), (false, version(0)));
    }
    let log = Judge::new(backend.clone(), ARTIFACT).log().await;
    let kinds: Vec<&str> = log.iter().map(|event| event.body.kind()).collect();
    assert_eq!(kinds, ["create", "commit", "recommit"]);
    let state = other.catalog.verify_log(&key()).await.expect("a sound log");
    let record = state.version(version(0)).expect("v0");
    assert_eq!(state.alias(&"best".parse().expect("an alias")).map(|a| a.version), Some(version(0)));
    assert_eq!(record.tags.iter().collect::<Vec<_>>(), ["seen"]);
    assert_eq!((record.meta["f1"].clone(), record.ttl_seconds), (json!(0.5), Some(60)));
    let producer = record.producers.first().expect("the run is recorded as another producer");
    assert_eq!((producer.actor.as_str(), producer.host.as_str()), ("ann", "other"));
    let details = producer.details.expect("its message");
    let details = host.catalog.details(&key(), &details).await.expect("details");
    assert_eq!(details.message.as_deref(), Some("once more"));
    assert_eq!(
        host.catalog.message(&key(), record).await.expect("an answer"),
        None,
        "the first said nothing"
    );
    assert_eq!(judged(&backend).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_returns_after_another_is_a_new_version() {
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    let (a, b) = (small_tree(b"a"), small_tree(b"b"));
    let made = [host.commit(a.path()).await, host.commit(b.path()).await, host.commit(a.path()).await];
    assert_eq!(made.each_ref().map(|m| (m.created, m.version.0)), [(true, 0), (true, 1), (true, 2)]);
    assert_eq!(made[0].digest, made[2].digest);
    assert_same(&judged(&backend).await[2].tree, &tree_of(a.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_demanded_number_is_the_versions_number_or_nothing_is_made() {
    let backend = memory();
    let tree = small_tree(b"first");
    let demand = |host: &Host, number| NewVersion {
        demanded: Some(version(number)),
        ..host.request(Settings::default())
    };
    let host = Host::new(&backend, "h").await;
    let wrong = host.commit_as(tree.path(), &demand(&host, 1)).await;
    assert!(matches!(wrong, Err(CommitError::WrongNumber { next: VersionNumber(0), .. })), "{wrong:?}");
    assert!(host.catalog.state(&key(), Duration::ZERO).await.expect("an answer").is_none(), "no artifact");
    assert_eq!(host.commit_as(tree.path(), &demand(&host, 0)).await.expect("v0 is next").version, version(0));

    // A host that has seen nothing yet asks the store what is next.
    let second = small_tree(b"second");
    let fresh = Host::new(&backend, "fresh").await;
    for number in [0, 2] {
        let wrong =
            fresh.commit_as(second.path(), &demand(&fresh, number)).await.expect_err("a wrong number");
        assert!(
            matches!(wrong, CommitError::WrongNumber { next: VersionNumber(1), .. }),
            "{number}: {wrong:?}"
        );
        assert_eq!(
            wrong.to_string(),
            format!("v{number} was asked for, but the next version of {ARTIFACT} is v1")
        );
    }
    let fresh = Host::new(&backend, "fresh").await;
    let request = demand(&fresh, 1);
    assert_eq!(fresh.commit_as(second.path(), &request).await.expect("v1 is next").version, version(1));
    // Its repeat finds its own success, though the number is taken now.
    for host in [fresh, Host::new(&backend, "again").await] {
        let again = host.commit_as(second.path(), &request).await.expect("it was made");
        assert_eq!((again.version, again.created), (version(1), true));
    }
    let host = Host::new(&backend, "h").await;
    let same = host.commit_as(second.path(), &demand(&host, 2)).await;
    assert!(
        matches!(same, Err(CommitError::Identical { demanded: VersionNumber(2), version: VersionNumber(1) })),
        "{same:?}"
    );
    // What a host saw a moment ago is no reason to refuse: others commit meanwhile.
    host.catalog.state(&key(), Duration::ZERO).await.expect("an answer");
    Host::new(&backend, "other").await.commit(small_tree(b"third").path()).await;
    let fourth = host.commit_as(small_tree(b"fourth").path(), &demand(&host, 3)).await;
    assert_eq!(fourth.expect("v3 is next").version, version(3));
    assert_eq!(judged(&backend).await.len(), 4);
}

// Crashes and lost answers

/// What a reader finds after a commit of `new` over `old` was disturbed.
async fn old_or_new(backend: &Arc<dyn ObjectStore>, old: &Tree, new: &Tree, case: &str) -> usize {
    let versions = judged(backend).await;
    assert!((1..=2).contains(&versions.len()), "{case}: {} versions", versions.len());
    assert_same(&versions[0].tree, old);
    if let Some(second) = versions.get(1) {
        assert_same(&second.tree, new);
    }
    let reader = Host::new(backend, "reader").await;
    let state = reader.catalog.verify_log(&key()).await.unwrap_or_else(|e| panic!("{case}: {e}"));
    assert_eq!(state.versions().count(), versions.len(), "{case}");
    versions.len()
}

/// A backend that holds `old` as v0.
async fn prepared(old: &Path) -> Arc<dyn ObjectStore> {
    let backend = memory();
    Host::new(&backend, "first").await.commit(old).await;
    backend
}

fn settings_with_message() -> Settings {
    Settings {
        message: Some("why".into()),
        aliases: vec!["best".parse().expect("an alias")],
        ..Settings::default()
    }
}

/// Content of the disturbed commit: chunks in a pack, a chunk list in a second, and an inline file.
fn new_content() -> TempDir {
    let tree = directory();
    fs::write(tree.path().join("table.csv"), noise(3, 1, 200_000)).expect("a file");
    fs::write(tree.path().join("tiny"), "tiny").expect("a file");
    tree
}

/// The calls that a commit makes when nothing goes wrong.
async fn faithful_calls(old: &Path, new: &Path) -> Vec<Call> {
    let backend = prepared(old).await;
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    faulty.restart_count();
    host.commit_as(new, &host.request(settings_with_message())).await.expect("it succeeds");
    faulty.calls()
}

async fn disturbed_commit(old: &Path, new: &Path, n: u64, fault: Fault) {
    let case = format!("{fault:?} at call {n}");
    let (old_tree, new_tree) = (tree_of(old), tree_of(new));
    let backend = prepared(old).await;
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    faulty.set_fault(move |call| if call.n == n { fault } else { Fault::None });
    let request = host.request(settings_with_message());
    let result = host.commit_as(new, &request).await;
    assert!(faulty.calls().len() as u64 > n, "{case}: the call was made");
    let found = old_or_new(&backend, &old_tree, &new_tree, &case).await;
    match &result {
        Ok(outcome) => {
            assert_eq!((outcome.version, outcome.created, found), (version(1), true, 2), "{case}");
        }
        Err(e) => {
            let died = matches!(fault, Fault::DieBefore | Fault::DieAfter);
            assert!(died, "{case}: one fault that passes is hidden, not reported: {e}");
            // An answer in doubt is said to be one; where nothing is said, nothing landed.
            let doubt = matches!(e, CommitError::Catalog(CatalogError::Doubt { .. }));
            assert!(doubt || found == 1, "{case}: it landed, but the error says {e}");
        }
    }
    // The host comes back with nothing but the commit's origin.
    let revived = Host::new(&backend, "revived").await;
    let repeated = revived.commit_as(new, &request).await.unwrap_or_else(|e| panic!("{case}, repeated: {e}"));
    assert_eq!((repeated.version, repeated.created), (version(1), true), "{case}");
    assert_eq!(old_or_new(&backend, &old_tree, &new_tree, &case).await, 2, "{case}");
    let log = Judge::new(backend.clone(), ARTIFACT).log().await;
    assert_eq!(
        log.iter().map(|e| e.body.kind()).collect::<Vec<_>>(),
        ["create", "commit", "commit"],
        "{case}"
    );
    let state = revived.catalog.verify_log(&key()).await.expect("a sound log");
    assert_eq!(
        state.alias(&"best".parse().expect("an alias")).map(|a| a.version),
        Some(version(1)),
        "{case}"
    );
    let record = state.version(version(1)).expect("v1");
    let message = revived.catalog.message(&key(), record).await.expect("the message is there");
    assert_eq!(message.as_deref(), Some("why"), "{case}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn commit_is_all_or_nothing_at_every_store_call() {
    let (old, new) = (Arc::new(small_tree(&noise(3, 0, 3000))), Arc::new(new_content()));
    let calls = faithful_calls(old.path(), new.path()).await;
    let ops: Vec<Op> = calls.iter().map(|call| call.op).collect();
    assert!(ops.contains(&Op::Put) && ops.contains(&Op::Create) && ops.contains(&Op::Get), "{ops:?}");
    let mut cases = tokio::task::JoinSet::new();
    for n in 0..calls.len() as u64 {
        for fault in [
            Fault::ErrorBefore,
            Fault::ErrorAfter,
            Fault::AlreadyExistsWithoutEffect,
            Fault::DieBefore,
            Fault::DieAfter,
        ] {
            let (old, new) = (old.clone(), new.clone());
            cases.spawn(async move { disturbed_commit(old.path(), new.path(), n, fault).await });
        }
    }
    while let Some(case) = cases.join_next().await {
        case.expect("the case holds");
    }
}

/// The same for the very first commit of an artifact, where the log itself begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_first_commit_is_all_or_nothing_at_every_store_call() {
    let new = Arc::new(new_content());
    let backend = memory();
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    faulty.restart_count();
    host.commit(new.path()).await;
    let calls = faulty.calls().len() as u64;
    let mut cases = tokio::task::JoinSet::new();
    for n in 0..calls {
        for fault in [
            Fault::ErrorBefore,
            Fault::ErrorAfter,
            Fault::AlreadyExistsWithoutEffect,
            Fault::DieBefore,
            Fault::DieAfter,
        ] {
            let new = new.clone();
            cases.spawn(async move {
                let case = format!("{fault:?} at call {n}");
                let backend = memory();
                let faulty = FaultyStore::new(backend.clone());
                let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
                faulty.set_fault(move |call| if call.n == n { fault } else { Fault::None });
                let request = host.request(Settings::default());
                let result = host.commit_as(new.path(), &request).await;
                let found = judged(&backend).await.len();
                match &result {
                    Ok(_) => assert_eq!(found, 1, "{case}"),
                    Err(e) => {
                        assert!(matches!(fault, Fault::DieBefore | Fault::DieAfter), "{case}: {e}");
                        let doubt = matches!(e, CommitError::Catalog(CatalogError::Doubt { .. }));
                        assert!(doubt || found == 0, "{case}: it landed, but the error says {e}");
                    }
                }
                let revived = Host::new(&backend, "revived").await;
                let repeated = revived.commit_as(new.path(), &request).await;
                let repeated = repeated.unwrap_or_else(|e| panic!("{case}, repeated: {e}"));
                assert_eq!((repeated.version, repeated.created), (version(0), true), "{case}");
                let versions = judged(&backend).await;
                assert_eq!(versions.len(), 1, "{case}");
                assert_same(&versions[0].tree, &tree_of(new.path()));
            });
        }
    }
    while let Some(case) = cases.join_next().await {
        case.expect("the case holds");
    }
}

/// A daemon that goes on living after its commit failed repeats it with what it remembers.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_whose_answer_stayed_away_is_found_by_the_same_host() {
    let (old, new) = (small_tree(b"old"), new_content());
    let backend = prepared(old.path()).await;
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    let lost = AtomicBool::new(false);
    faulty.set_fault(move |call| match (call.op, lost.load(Ordering::SeqCst)) {
        (_, true) => Fault::ErrorBefore,
        (Op::Create, false) => {
            lost.store(true, Ordering::SeqCst);
            Fault::ErrorAfter
        }
        _ => Fault::None,
    });
    let request = host.request(Settings::default());
    let doubt = host.commit_as(new.path(), &request).await.expect_err("nothing can be known");
    assert!(matches!(doubt, CommitError::Catalog(CatalogError::Doubt { seq: 2, .. })), "{doubt:?}");
    assert!(doubt.to_string().contains("repeat the command"), "{doubt}");
    faulty.set_fault(|_| Fault::None);
    let found = host.commit_as(new.path(), &request).await.expect("the store answers again");
    assert_eq!((found.version, found.created), (version(1), true));
    assert_eq!(old_or_new(&backend, &tree_of(old.path()), &tree_of(new.path()), "lost").await, 2);
}

/// A host that knows an artifact with v0, and the store through which it sees it.
async fn host_on_faulty_store() -> (Arc<FaultyStore>, Host) {
    let faulty = FaultyStore::new(prepared(small_tree(b"old").path()).await);
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    host.catalog.state(&key(), Duration::ZERO).await.expect("an answer");
    (faulty, host)
}

/// The conflict may be one with this very event, sent twice on its way.
#[tokio::test(start_paused = true)]
async fn a_conflict_that_cannot_be_looked_into_leaves_doubt() {
    let (faulty, host) = host_on_faulty_store().await;
    faulty.set_fault(|call| match call.op {
        Op::Create => Fault::AlreadyExistsAfterEffect,
        _ => Fault::ErrorBefore,
    });
    let doubt = host.set_alias("prod", Selector::Latest, AliasPrecondition::Any).await;
    assert!(matches!(doubt, Err(EditError::Catalog(CatalogError::Doubt { seq: 2, .. }))), "{doubt:?}");
    faulty.set_fault(|_| Fault::None);
    host.store.ask_again().await.expect("the store is back");
    let state = host.catalog.existing(&key(), Duration::ZERO).await.expect("an answer");
    assert_eq!(state.alias(&"prod".parse().expect("an alias")).map(|at| at.version), Some(version(0)));
}

/// A first attempt that nobody answered may still land after a second one was refused.
#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_attempt_without_an_answer_leaves_doubt() {
    for refusal in [Fault::Denied, Fault::Full] {
        let (faulty, host) = host_on_faulty_store().await;
        let creates = AtomicU64::new(0);
        faulty.set_fault(move |call| match call.op {
            Op::Create if creates.fetch_add(1, Ordering::SeqCst) == 0 => Fault::ErrorBefore,
            Op::Create => refusal,
            _ => Fault::None,
        });
        let doubt = host.set_alias("prod", Selector::Latest, AliasPrecondition::Any).await;
        assert!(matches!(doubt, Err(EditError::Catalog(CatalogError::Doubt { seq: 2, .. }))), "{doubt:?}");
        // Refused at once, it certainly did not happen.
        faulty.set_fault(move |call| if call.op == Op::Create { refusal } else { Fault::None });
        let refused = host.set_alias("prod", Selector::Latest, AliasPrecondition::Any).await;
        assert!(matches!(refused, Err(EditError::Catalog(CatalogError::Store(_)))), "{refused:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_writer_does_not_give_up_over_its_own_event() {
    let (faulty, host) = host_on_faulty_store().await;
    let creates = AtomicU64::new(0);
    // As many conflicts without another writer as it bears, and the last one is with itself.
    faulty.set_fault(move |call| match (call.op, creates.load(Ordering::SeqCst)) {
        (Op::Create, 4) => Fault::AlreadyExistsAfterEffect,
        (Op::Create, n) => {
            creates.store(n + 1, Ordering::SeqCst);
            Fault::AlreadyExistsWithoutEffect
        }
        _ => Fault::None,
    });
    let set = host.set_alias("prod", Selector::Latest, AliasPrecondition::Any).await;
    assert_eq!(set.expect("it is set"), version(0));
}

#[tokio::test(start_paused = true)]
async fn an_artifact_that_was_never_read_is_not_taken_for_missing_while_the_store_is_away() {
    let faulty = FaultyStore::new(prepared(small_tree(b"old").path()).await);
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    faulty.set_fault(|_| Fault::ErrorBefore);
    for _ in 0..2 {
        let unknown = host.catalog.state(&key(), Duration::from_secs(1)).await;
        assert!(matches!(&unknown, Err(CatalogError::Store(e)) if e.is_transient()), "{unknown:?}");
    }
    faulty.set_fault(|_| Fault::None);
    host.store.ask_again().await.expect("the store is back");
    assert!(host.catalog.state(&key(), Duration::from_secs(1)).await.expect("an answer").is_some());
}

/// The caller goes away (its task is dropped) while a call is on its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_is_abandoned_at_any_call_leaves_old_or_new() {
    let (old, new) = (small_tree(b"old"), new_content());
    let (old_tree, new_tree) = (tree_of(old.path()), tree_of(new.path()));
    let calls = faithful_calls(old.path(), new.path()).await.len() as u64;
    for n in 0..calls {
        let case = format!("abandoned at call {n}");
        let backend = prepared(old.path()).await;
        let faulty = FaultyStore::new(backend.clone());
        let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
        faulty.set_fault(move |call| if call.n == n { Fault::Hold } else { Fault::None });
        let request = host.request(settings_with_message());
        {
            let commit = std::pin::pin!(host.commit_as(new.path(), &request));
            if let Some(done) = faulty.until_held(commit).await {
                panic!("{case}: {done:?}");
            }
        }
        faulty.kill();
        old_or_new(&backend, &old_tree, &new_tree, &case).await;
        let revived = Host::new(&backend, "revived").await;
        let done = revived.commit_as(new.path(), &request).await.unwrap_or_else(|e| panic!("{case}: {e}"));
        assert_eq!((done.version, done.created), (version(1), true), "{case}");
        assert_eq!(old_or_new(&backend, &old_tree, &new_tree, &case).await, 2, "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_commit_leaves_nothing_visible() {
    let (backend, tree) = (memory(), new_content());
    let host = Host::new(&backend, "h").await;
    let local = LocalTree::new(&[tree.path().to_owned()]).expect("it exists");
    let progress = Arc::new(CommitProgress::default());
    let (request, inner) = (host.request(Settings::default()), progress.clone());
    let walked = move |visit: TreeVisitor<'_>| {
        local.walk(&mut |item| {
            visit(item)?;
            inner.interrupt();
            Ok(())
        })
    };
    let ended = host.committer.commit(&request, progress, walked, |_| Ok(())).await;
    assert!(matches!(ended, Err(CommitError::Interrupted)), "{ended:?}");
    assert!(host.catalog.state(&key(), Duration::ZERO).await.expect("an answer").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_fails_the_commit_and_a_repeat_succeeds() {
    let (backend, tree) = (memory(), new_content());
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    faulty.set_fault(|call| if call.op == Op::Put { Fault::Full } else { Fault::None });
    let request = host.request(Settings::default());
    let full = host.commit_as(tree.path(), &request).await;
    assert!(matches!(full, Err(CommitError::Store(StoreError::Full { .. }))), "{full:?}");
    assert!(host.catalog.state(&key(), Duration::ZERO).await.expect("an answer").is_none());
    faulty.set_fault(|_| Fault::None);
    assert_eq!(host.commit_as(tree.path(), &request).await.expect("there is room").version, version(0));
    assert_same(&judged(&backend).await[0].tree, &tree_of(tree.path()));
}

// Many writers

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn eight_hosts_committing_at_once_get_eight_numbers_in_one_chain() {
    const HOSTS: u64 = 8;
    const ROUNDS: u64 = 3;
    let seed = seed();
    let backend = memory();
    drop(Host::new(&backend, "first").await);
    let mut hosts = tokio::task::JoinSet::new();
    let start = Arc::new(tokio::sync::Barrier::new(HOSTS as usize));
    for h in 0..HOSTS {
        let (backend, start) = (backend.clone(), start.clone());
        hosts.spawn(async move {
            let faulty = FaultyStore::new(backend);
            // A third of the creates answers wrongly, in each of the three ways.
            faulty.set_fault(move |call| match (call.op, noise(seed ^ h, call.n, 1)[0] % 9) {
                (Op::Create, 0) => Fault::ErrorBefore,
                (Op::Create, 1) => Fault::ErrorAfter,
                (Op::Create, 2) => Fault::AlreadyExistsWithoutEffect,
                _ => Fault::None,
            });
            let host = Host::new(&(faulty as Arc<dyn ObjectStore>), &format!("host{h}")).await;
            start.wait().await;
            let mut made = vec![];
            for round in 0..ROUNDS {
                let tree = small_tree(&noise(seed, h * ROUNDS + round, 2000));
                let outcome = host.commit(tree.path()).await;
                assert!(outcome.created);
                made.push((outcome.version, tree_of(tree.path())));
            }
            assert!(made.is_sorted_by_key(|(version, _)| *version), "a host's numbers grow");
            made
        });
    }
    let mut made = BTreeMap::new();
    while let Some(host) = hosts.join_next().await {
        for (version, tree) in host.expect("a host does not panic") {
            assert!(made.insert(version, tree).is_none(), "{version} was given twice, seed {seed}");
        }
    }
    let versions = judged(&backend).await;
    assert_eq!(versions.len() as u64, HOSTS * ROUNDS, "seed {seed}");
    for found in &versions {
        assert_same(&found.tree, &made[&found.commit.version]);
    }
    let reader = Host::new(&backend, "reader").await;
    let state = reader.catalog.verify_log(&key()).await.expect("one chain");
    assert_eq!(state.seq(), HOSTS * ROUNDS, "one create event and the commits, no gap");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn racing_alias_moves_have_one_order_and_one_winner_of_a_condition() {
    let backend = memory();
    let first = Host::new(&backend, "first").await;
    for content in [b"a", b"b", b"c"] {
        first.commit(small_tree(content).path()).await;
    }
    let alias: artfs::format::name::AliasName = "best".parse().expect("an alias");
    let any = AliasPrecondition::Any;
    first.set_alias("best", Selector::Version(version(0)), any).await.expect("set");
    let mut racers = tokio::task::JoinSet::new();
    let start = Arc::new(tokio::sync::Barrier::new(8));
    for h in 0..8u64 {
        let (backend, start) = (backend.clone(), start.clone());
        racers.spawn(async move {
            let host = Host::new(&backend, &format!("host{h}")).await;
            host.catalog.state(&key(), Duration::ZERO).await.expect("an answer");
            let to = version(1 + h % 2);
            start.wait().await;
            let moved = host.set_alias("best", Selector::Version(to), AliasPrecondition::At(version(0)));
            moved.await.map(|_| (h, to))
        });
    }
    let mut winners = vec![];
    while let Some(racer) = racers.join_next().await {
        match racer.expect("a racer does not panic") {
            Ok(winner) => winners.push(winner),
            Err(EditError::Precondition { expected, found, .. }) => {
                assert_eq!(expected, "v0");
                assert!(["v1", "v2"].contains(&found.as_str()), "{found}");
            }
            Err(e) => panic!("{e}"),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    let state = first.catalog.verify_log(&key()).await.expect("one chain");
    assert_eq!(state.alias(&alias).map(|a| a.version), Some(winners[0].1));
    let moves = Judge::new(backend, ARTIFACT).log().await.into_iter().filter_map(|event| match event.body {
        EventBody::Alias(change) => Some((event.host, change.from, change.to.map(|to| to.version))),
        _ => None,
    });
    assert_eq!(
        moves.collect::<Vec<_>>(),
        [
            ("first".to_owned(), None, Some(version(0))),
            (format!("host{}", winners[0].0), Some(version(0)), Some(winners[0].1)),
        ]
    );
}

// What it costs

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_inserted_in_front_costs_a_few_chunks_and_not_the_file() {
    const SIZE: usize = 16 << 20;
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    let content = noise(4, 1, SIZE);
    let tree = small_tree(&content);
    let first = host.commit(tree.path()).await;
    assert!(first.stored_bytes >= SIZE as u64, "noise is stored as it is");
    fs::write(tree.path().join("file.bin"), [&b"!"[..], &content].concat()).expect("a file");
    let second = host.commit(tree.path()).await;
    assert!(second.created && second.stored_bytes < 2 << 20, "{} bytes for one", second.stored_bytes);
    fs::rename(tree.path().join("file.bin"), tree.path().join("renamed.bin")).expect("a rename");
    fs::copy(tree.path().join("renamed.bin"), tree.path().join("copy.bin")).expect("a copy");
    let third = host.commit(tree.path()).await;
    assert!(third.created && third.stored_bytes < 64 << 10, "{} bytes for names", third.stored_bytes);
    let versions = judged(&backend).await;
    assert_same(&versions[2].tree, &tree_of(tree.path()));
    assert_eq!(host.store.counts().bytes_written / (1 << 20), 16 + second.stored_bytes / (1 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_file_changed_among_many_costs_a_few_blocks_of_the_manifest() {
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    let tree = directory();
    for f in 0..4000 {
        fs::write(tree.path().join(format!("item-{f:04}")), noise(5, f, 40)).expect("a file");
    }
    let first = host.commit(tree.path()).await;
    fs::write(tree.path().join("item-2000"), "changed").expect("a file");
    let second = host.commit(tree.path()).await;
    assert!(
        second.stored_bytes * 3 < first.stored_bytes,
        "{} of {} bytes",
        second.stored_bytes,
        first.stored_bytes
    );
    assert_same(&judged(&backend).await[1].tree, &tree_of(tree.path()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_one_small_file_makes_five_requests_at_most() {
    let faulty = FaultyStore::new(memory());
    let backend: Arc<dyn ObjectStore> = faulty.clone();
    let host = Host::new(&backend, "h").await;
    small_commits_are_cheap(&faulty, host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_one_small_file_makes_five_requests_at_most_without_a_local_database() {
    let faulty = FaultyStore::new(memory());
    let backend: Arc<dyn ObjectStore> = faulty.clone();
    let host = Host::new(&backend, "h").await;
    let catalog = Arc::new(Catalog::new(host.store.clone(), None));
    let (cache, context) = read_context(&host.store);
    let index = Arc::new(ChunkIndex::open(None, host.store.id()));
    let committer = Committer::new(catalog.clone(), context, index);
    small_commits_are_cheap(&faulty, Host { catalog, committer, cache, ..host }).await;
}

async fn small_commits_are_cheap(faulty: &FaultyStore, host: Host) {
    // Counted from a moment at which the host has just looked at the log.
    let count_from_now = || async {
        host.catalog.state(&key(), Duration::ZERO).await.expect("an answer");
        faulty.restart_count();
    };
    host.commit(small_tree(b"first").path()).await;

    let tree = small_tree(&noise(6, 1, 20_000));
    count_from_now().await;
    host.commit(tree.path()).await;
    let calls = faulty.calls();
    assert!(calls.len() <= 5, "{calls:#?}");
    let writes: Vec<(Op, &str)> = calls
        .iter()
        .filter(|call| matches!(call.op, Op::Put | Op::Create))
        .map(|call| {
            (call.op, call.path.split('/').nth_back(if call.path.starts_with("packs") { 2 } else { 1 }))
        })
        .map(|(op, folder)| (op, folder.expect("a folder")))
        .collect();
    assert_eq!(writes, [(Op::Put, "packs"), (Op::Put, "manifests"), (Op::Create, "log")]);

    count_from_now().await;
    assert!(!host.commit(tree.path()).await.created);
    assert_eq!(faulty.ops(), [Op::Get], "identical content is one look at the log");

    count_from_now().await;
    let settings = Settings { tags: vec!["t".into()], ..Settings::default() };
    let said = host.commit_as(tree.path(), &host.request(settings)).await.expect("it succeeds");
    assert!(!said.created);
    assert!(faulty.ops().len() <= 2, "identical content with something to say: {:?}", faulty.calls());

    let inline = small_tree(b"tiny");
    count_from_now().await;
    host.commit(inline.path()).await;
    assert!(!faulty.ops().contains(&Op::GetRange));
    let packs = faulty.calls().iter().filter(|call| call.path.starts_with("packs")).count();
    assert_eq!(packs, 0, "a tiny file stands in the manifest");
}

// Edits

#[tokio::test(flavor = "multi_thread")]
async fn edits_change_what_they_name_and_repeating_them_changes_nothing() {
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    host.commit(small_tree(b"a").path()).await;
    host.commit(small_tree(b"b").path()).await;
    let (catalog, actor) = (&host.catalog, &host.actor());
    let alias: artfs::format::name::AliasName = "prod".parse().expect("an alias");
    let (v0, v1) = (Selector::Version(version(0)), Selector::Version(version(1)));
    let events = || async { Judge::new(backend.clone(), ARTIFACT).log().await.len() };
    let before = events().await;

    let (any, at) = (AliasPrecondition::Any, |n| AliasPrecondition::At(version(n)));
    for _ in 0..2 {
        assert_eq!(host.set_alias("prod", v0.clone(), any).await.expect("set"), version(0));
    }
    assert_eq!(events().await, before + 1, "an alias that points there already is no event");
    assert_eq!(host.set_alias("prod", Selector::Latest, at(0)).await.expect("moved"), version(1));
    let wrong = host.set_alias("prod", v0, at(0)).await;
    assert!(
        matches!(&wrong, Err(EditError::Precondition { expected, found, .. }) if expected == "v0" && found == "v1"),
        "{wrong:?}"
    );
    let wrong = host.set_alias("prod", Selector::Version(version(7)), any).await;
    assert!(matches!(&wrong, Err(EditError::NoTarget { target, .. }) if target == "v7"), "{wrong:?}");
    let other: artfs::format::name::AliasName = "other".parse().expect("an alias");
    let wrong = catalog.remove_alias(&key(), &other, any, actor).await;
    assert!(matches!(wrong, Err(EditError::NoAlias { .. })), "{wrong:?}");
    let wrong = catalog.remove_alias(&key(), &alias, at(0), actor).await;
    assert!(matches!(wrong, Err(EditError::Precondition { .. })), "{wrong:?}");
    catalog.remove_alias(&key(), &alias, at(1), actor).await.expect("removed");
    assert_eq!(events().await, before + 3, "what was refused is no event");

    let tags = |text: &[&str]| text.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    for _ in 0..2 {
        catalog.change_tags(&key(), &v1, &tags(&["x", "y"]), &tags(&["z"]), actor).await.expect("tags");
        catalog.set_tags(&key(), &v1, &tags(&["y", "x"]), actor).await.expect("tags");
    }
    let meta = [("f1".to_owned(), json!(0.9)), ("note".to_owned(), json!({"a": [1, null]}))].into();
    for _ in 0..2 {
        catalog.change_meta(&key(), &v1, &meta, &tags(&["absent"]), actor).await.expect("meta");
        catalog.set_ttl(&key(), &v1, Some(3600), actor).await.expect("ttl");
    }
    assert_eq!(events().await, before + 6, "one event each");
    catalog.set_tags(&key(), &v1, &tags(&["y"]), actor).await.expect("tags");
    catalog.change_meta(&key(), &v1, &BTreeMap::new(), &tags(&["note"]), actor).await.expect("meta");
    catalog.set_message(&key(), &v1, "better said", actor).await.expect("a message");

    for host in [&host, &Host::new(&backend, "other").await] {
        let state = host.catalog.verify_log(&key()).await.expect("a sound log");
        let record = state.version(version(1)).expect("v1");
        assert_eq!(state.alias(&alias), None);
        assert_eq!(record.tags.iter().collect::<Vec<_>>(), ["y"]);
        assert_eq!(record.meta, [("f1".to_owned(), json!(0.9))].into());
        assert_eq!(record.ttl_seconds, Some(3600));
        let message = host.catalog.message(&key(), record).await.expect("a message");
        assert_eq!(message.as_deref(), Some("better said"));
        let untouched = state.version(version(0)).expect("v0");
        assert!(untouched.tags.is_empty() && untouched.meta.is_empty() && untouched.ttl_seconds.is_none());
    }
    catalog.set_ttl(&key(), &v1, None, actor).await.expect("ttl");
    let state = host.catalog.verify_log(&key()).await.expect("a sound log");
    assert_eq!(state.version(version(1)).expect("v1").ttl_seconds, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_never_makes_an_artifact_and_finds_one_that_another_host_made() {
    let backend = memory();
    let (host, other) = (Host::new(&backend, "h").await, Host::new(&backend, "other").await);
    let set = || host.set_alias("prod", Selector::Latest, AliasPrecondition::Any);
    let missing = set().await;
    assert!(matches!(missing, Err(EditError::Catalog(CatalogError::NoArtifact(_)))), "{missing:?}");
    assert!(other.catalog.state(&key(), Duration::ZERO).await.expect("an answer").is_none());
    other.commit(small_tree(b"a").path()).await;
    assert_eq!(set().await.expect("the artifact is there now"), version(0));
}

// Damage

fn event_path(seq: u64) -> object_store::path::Path {
    Key::Event(key(), seq).path()
}

async fn raw(backend: &Arc<dyn ObjectStore>, seq: u64) -> Vec<u8> {
    backend.get(&event_path(seq)).await.expect("an event").bytes().await.expect("its bytes").to_vec()
}

/// A backend with a log of five events: create, v0, alias, v1, v2.
async fn five_events() -> Arc<dyn ObjectStore> {
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    host.commit(small_tree(b"a").path()).await;
    host.set_alias("prod", Selector::Latest, AliasPrecondition::Any).await.expect("set");
    host.commit(small_tree(b"b").path()).await;
    host.commit(small_tree(b"c").path()).await;
    backend
}

/// The event at which a fresh host finds the log damaged.
async fn damaged_at(backend: &Arc<dyn ObjectStore>) -> Option<u64> {
    let host = Host::new(backend, "fresh").await;
    let verified = host.catalog.verify_log(&key()).await;
    if let (Ok(_), Ok(state)) = (&verified, host.catalog.state(&key(), Duration::ZERO).await) {
        assert!(state.is_some());
    }
    match verified {
        Ok(_) => None,
        Err(CatalogError::Damaged { artifact, seq, source }) => {
            assert_eq!(artifact, key());
            assert!(!source.to_string().is_empty());
            Some(seq)
        }
        Err(e) => panic!("{e}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn any_flipped_or_missing_byte_of_an_event_is_found_and_named() {
    let backend = five_events().await;
    let good = raw(&backend, 2).await;
    assert_eq!(damaged_at(&backend).await, None, "the checker passes what is sound");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        backend.put(&event_path(2), bad.into()).await.expect("put");
        // It does not decode, or the event after it names another hash.
        let found = damaged_at(&backend).await;
        assert!(matches!(found, Some(2 | 3)), "byte {at}: {found:?}");
    }
    for len in (0..good.len()).step_by(7) {
        backend.put(&event_path(2), good[..len].to_vec().into()).await.expect("put");
        assert_eq!(damaged_at(&backend).await, Some(2), "cut at {len}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_does_not_belong_where_it_stands_is_refused() {
    type Change = fn(&mut Event);
    let changes: [(&str, Change); 10] = [
        ("another store", |e| e.store = StoreId::from_bytes([9; 16])),
        ("another project", |e| e.project = "other".parse().expect("a name")),
        ("another artifact", |e| e.name = "other".parse().expect("a name")),
        ("a re-created artifact", |e| e.artifact = ArtifactId::from_bytes([9; 16])),
        ("another number", |e| e.seq = 3),
        ("a number beyond all", |e| e.seq = u64::MAX),
        ("another past", |e| e.prev = Some(EventHash::of(b"another"))),
        ("no past", |e| e.prev = None),
        ("a second creation", |e| e.body = EventBody::Create),
        ("a wrong version", |e| {
            if let EventBody::Commit(commit) = &mut e.body {
                commit.version = VersionNumber(u64::MAX);
            }
        }),
    ];
    for (name, change) in changes {
        let backend = five_events().await;
        let mut event = Event::decode(&raw(&backend, 4).await).expect("an event");
        change(&mut event);
        backend.put(&event_path(4), event.encode().into()).await.expect("put");
        assert_eq!(damaged_at(&backend).await, Some(4), "{name}");
        // A host that knew the log before keeps what it knows and says what it cannot follow.
        let host = Host::new(&backend, "h").await;
        let tree = small_tree(b"d");
        let refused = host.commit_as(tree.path(), &host.request(Settings::default())).await;
        assert!(
            matches!(refused, Err(CommitError::Catalog(CatalogError::Damaged { seq: 4, .. }))),
            "{name}: {refused:?}"
        );
        assert!(
            refused.expect_err("refused").to_string().contains("the log of proj/data is damaged at event 4")
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_the_log_is_found_wherever_it_is() {
    for hole in 0..4 {
        let backend = five_events().await;
        backend.delete(&event_path(hole)).await.expect("delete");
        assert_eq!(damaged_at(&backend).await, Some(hole), "event {hole} is missing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_events_are_errors_and_never_panics() {
    let backend = five_events().await;
    let good = String::from_utf8(raw(&backend, 1).await).expect("JSON");
    let body = |json: &str| {
        let at = good.find("\"body\":").expect("a body") + 7;
        format!("{}{json}}}", &good[..at])
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let hostile = [
        String::new(),
        "null".into(),
        "[]".into(),
        "{}".into(),
        deep.clone(),
        body("null"),
        body("{}"),
        body(&deep),
        body(&format!("{{\"version\":\"v0\",\"meta\":{{\"x\":{deep}}}}}")),
        good.replace("\"format\":1", "\"format\":4294967295"),
        good.replace("\"kind\":\"commit\"", "\"kind\":\"novel\""),
        good.replace("\"version\":\"v0\"", "\"version\":\"v99999999999999999999\""),
        good.replace("\"version\":\"v0\"", "\"version\":\"v18446744073709551615\""),
        good.replace("\"name\":\"data\"", "\"name\":\"../../etc\""),
        good.replace("\"seq\":1", "\"seq\":-1"),
        good.replace("\"actor\":\"ann\"", "\"actor\":\"a\nb\""),
        format!("{good}\n{good}"),
        good.replace("\"actor\":\"ann\"", &format!("\"actor\":\"{}\"", "x".repeat(5 << 20))),
    ];
    for (i, text) in hostile.into_iter().enumerate() {
        assert_ne!(text, good, "case {i} is a change");
        backend.put(&event_path(1), text.into()).await.expect("put");
        assert_eq!(damaged_at(&backend).await, Some(1), "case {i}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_answer_is_not_remembered_and_the_next_one_is_read() {
    let backend = five_events().await;
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    for fault in [Fault::FlipByte(0), Fault::Truncate(1)] {
        faulty.set_fault(move |call| if call.path.ends_with("2") { fault } else { Fault::None });
        let damaged = host.catalog.state(&key(), Duration::ZERO).await;
        assert!(matches!(damaged, Err(CatalogError::Damaged { seq: 2, .. })), "{damaged:?}");
    }
    faulty.set_fault(|_| Fault::None);
    let state = host.catalog.state(&key(), Duration::ZERO).await.expect("sound").expect("it exists");
    assert_eq!(state.seq(), 4);
    assert!(state.outcome(&EventId::from_bytes([0; 16])).is_none());
}
