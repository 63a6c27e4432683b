//! Versions that contain others: what a collection may take away, and what it must not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use artfs::format::entry::Mtime;
use artfs::format::name::ArtifactKey;
use artfs::repo::catalog::{InUse, Inputs};
use artfs::repo::commit::{
    CommitError, CommitProgress, Committed, ItemBody, NewVersion, Settings, TreeItem, TreeLocation,
    TreeVisitor,
};
use artfs::repo::view::{VersionView, WholeView};
use object_store::{ObjectStore, ObjectStoreExt};

use crate::host::{Host, key, memory, names, version};
use crate::overtaken::{collect, is_content, tree};
use crate::support::faults::{Call, Fault, FaultyStore, Op};

fn new_key() -> ArtifactKey {
    "proj/new".parse().expect("a name")
}

/// Commits to `proj/new` a tree with one link to `proj/data:v0`.
async fn contain(host: &Host) -> Result<Committed, CommitError> {
    link(host, new_key(), "../../data/latest").await
}

/// Commits to an artifact a tree with one link.
async fn link(host: &Host, artifact: ArtifactKey, target: &str) -> Result<Committed, CommitError> {
    let tree = format!("/mnt/{artifact}/staging").into();
    let place = TreeLocation::in_mount("/mnt".into(), tree, Arc::new(|_| None));
    let target: Box<[u8]> = target.as_bytes().into();
    let walk = move |visit: TreeVisitor<'_>| {
        let path = artfs::format::path::TreePath::new(*b"data").expect("a path");
        let what = ItemBody::Symlink(target.clone());
        visit(TreeItem { path, executable: false, mtime: Mtime::default(), what })
    };
    let request = NewVersion { artifact, ..host.request(Settings::default()) };
    let committer = host.committer.with_links(Some(place));
    committer.commit(&request, Arc::new(CommitProgress::default()), walk, |_| Ok(())).await
}

/// Every byte of `proj/new:v0`, read by a host that has nothing.
async fn read_all(backend: &Arc<dyn ObjectStore>) -> u64 {
    let host = Host::new(backend, "reader").await;
    let state = host.catalog.existing(&new_key(), Duration::ZERO).await.expect("it exists");
    let record = state.version(version(0)).expect("v0");
    let view = VersionView::open(&host.context, &new_key(), record.manifest, "new").await.expect("a version");
    let mut entries = WholeView::new(view).walk();
    let mut bytes = 0;
    loop {
        let batch = entries.next_batch().await.expect("entries");
        if batch.is_empty() {
            return bytes;
        }
        for found in batch {
            if let artfs::format::entry::EntryBody::File(file) = &found.entry.body {
                let content =
                    found.view.open_file(found.ordinal, &found.entry.path, file).await.expect("a file");
                let read = content.read(0, file.size as usize).await.expect("its bytes");
                assert_eq!(artfs::format::id::FileHash::of(&read), file.hash, "{}", found.entry.path);
                bytes += file.size;
            }
        }
    }
}

/// The calls of a commit that contains a version, up to its event.
async fn calls() -> Vec<Call> {
    let backend = memory();
    Host::new(&backend, "first").await.commit(tree(1).path()).await;
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    faulty.restart_count();
    contain(&host).await.expect("it succeeds");
    let mut calls = faulty.calls();
    let last = calls.iter().rposition(|call| call.op == Op::Create).expect("an event");
    calls.truncate(last + 1);
    assert!(read_all(&backend).await > 500_000);
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_never_contains_what_was_collected_while_it_slept_at_any_call() {
    let calls = calls().await;
    for n in 0..calls.len() as u64 {
        let case = format!("asleep at call {n}: {:?}", calls[n as usize]);
        let backend = memory();
        let first = Host::new(&backend, "first").await;
        first.commit(tree(1).path()).await;
        let doomed: BTreeSet<String> =
            names(&backend).await.into_iter().filter(|name| is_content(name)).collect();
        let faulty = FaultyStore::new(backend.clone());
        let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
        faulty.restart_count();
        faulty.set_fault(move |call| if call.n == n { Fault::Hold } else { Fault::None });
        let done = {
            let commit = contain(&host);
            tokio::pin!(commit);
            tokio::select! {
                done = &mut commit => panic!("{case}: {done:?}"),
                () = faulty.wait_for_held() => {}
            }
            let inputs = Inputs::default();
            let gone = [version(0)].into();
            let (key, actor) = (key(), first.actor());
            let deleted = first.catalog.delete_versions(&key, &gone, InUse::Refuse, &inputs, &actor);
            deleted.await.expect("deleted");
            collect(&backend, &doomed).await;
            faulty.release();
            commit.await
        };
        assert!(done.is_err(), "{case}: {done:?}");
        let reader = Host::new(&backend, "reader").await;
        let state = reader.catalog.state(&new_key(), Duration::ZERO).await.expect("an answer");
        assert!(state.is_none_or(|state| state.latest().is_none()), "{case}: nothing was made");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_contains_a_living_version_also_behind_a_collection_of_other_things() {
    let calls = calls().await;
    let event = calls.len() as u64 - 1;
    let backend = memory();
    let first = Host::new(&backend, "first").await;
    first.commit(tree(1).path()).await;
    let before = names(&backend).await;
    // Content that nothing leads to.
    first.commit(tree(2).path()).await;
    let doomed: BTreeSet<String> =
        names(&backend).await.difference(&before).filter(|name| is_content(name)).cloned().collect();
    let gone = [version(1)].into();
    let inputs = Inputs::default();
    first
        .catalog
        .delete_versions(&key(), &gone, InUse::Refuse, &inputs, &first.actor())
        .await
        .expect("deleted");
    let faulty = FaultyStore::new(backend.clone());
    let host = Host::new(&(faulty.clone() as Arc<dyn ObjectStore>), "h").await;
    faulty.restart_count();
    faulty.set_fault(move |call| if call.n == event { Fault::Hold } else { Fault::None });
    let commit = contain(&host);
    tokio::pin!(commit);
    tokio::select! {
        done = &mut commit => panic!("{done:?}"),
        () = faulty.wait_for_held() => {}
    }
    collect(&backend, &doomed).await;
    faulty.release();
    let done = commit.await.expect("it succeeds");
    assert_eq!((done.version, done.created, done.files), (version(0), true, 3));
    assert!(read_all(&backend).await > 500_000);
}

/// The manifest root is there, and one pack that it leads to was condemned: what is contained is looked into.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_version_that_shares_a_condemned_pack_is_not_contained() {
    let backend = memory();
    let first = Host::new(&backend, "first").await;
    first.commit(tree(1).path()).await;
    let packs: Vec<String> =
        names(&backend).await.into_iter().filter(|name| name.starts_with("packs/")).collect();
    let kept =
        backend.get(&packs[0].as_str().into()).await.expect("a pack").bytes().await.expect("its bytes");
    collect(&backend, &[packs[0].clone()].into()).await;
    // It was spared in the end, because the version uses it.
    backend.put(&packs[0].as_str().into(), kept.into()).await.expect("written");
    let done = contain(&Host::new(&backend, "h").await).await;
    assert!(matches!(done, Err(CommitError::Uncontainable { .. })), "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_stand_in_versions_to_a_depth_and_no_deeper() {
    let backend = memory();
    let host = Host::new(&backend, "h").await;
    host.commit(crate::host::small_tree(b"the bottom").path()).await;
    let name = |n: u8| -> ArtifactKey { format!("proj/level{n}").parse().expect("a name") };
    let deepest = artfs::format::contained::MAX_LEVELS;
    for n in 1..=deepest {
        let target = if n == 1 { "../../data/v0".to_owned() } else { format!("../../level{}/v0", n - 1) };
        link(&host, name(n), &target).await.unwrap_or_else(|e| panic!("level {n}: {e}"));
    }
    let more = link(&host, name(deepest + 1), &format!("../../level{deepest}/v0")).await;
    assert!(matches!(more, Err(CommitError::DeadLink { .. })), "{more:?}");
    let state = host.catalog.existing(&name(deepest), Duration::ZERO).await.expect("it exists");
    let manifest = state.latest().expect("a version").manifest;
    let view = VersionView::open(&host.context, &name(deepest), manifest, "deep").await.expect("a version");
    let whole = WholeView::new(view);
    let path = format!("{}file.bin", "data/".repeat(usize::from(deepest)));
    let path = artfs::format::path::TreePath::new(path.into_bytes()).expect("a path");
    let found = whole.find(&path).await.expect("it can be read").expect("it is there");
    assert_eq!((found.level, found.entry.size(), found.entry.path), (deepest, 10, path));
    assert!(
        whole
            .find(&artfs::format::path::TreePath::new(*b"data/data/x").expect("a path"))
            .await
            .expect("read")
            .is_none()
    );
    let mut walk = whole.walk();
    let mut shown = 0;
    while let batch @ [_, ..] = &walk.next_batch().await.expect("entries")[..] {
        shown += batch.len();
    }
    assert_eq!(shown, usize::from(deepest) + 1);
    let directory = artfs::format::path::TreePath::new(*b"data/data").expect("a path");
    let children = whole.children(Some(&directory), None, 9);
    let children = children.await.expect("a directory");
    assert_eq!(children.iter().map(|c| c.entry.path.to_string()).collect::<Vec<_>>(), ["data/data/data"]);
}
